/* Hex, base 64 (RFC 4648) and percent-encoding (RFC 3986). Decoders accept one spelling of each
 * value and no other. */
#include <string.h>

#include "streamgate/base/str.h"

static const char base64_standard[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

void sg_hex_encode(const uint8_t *in, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
    out[2 * len] = '\0';
}

enum sg_error sg_hex_decode(const char *in, size_t len, uint8_t *out, size_t out_len)
{
    if (len % 2 != 0 || len / 2 != out_len)
        return SG_ERR_INVALID;
    for (size_t i = 0; i < len; i++) {
        if (hex_value(in[i]) < 0)
            return SG_ERR_INVALID;
    }
    for (size_t i = 0; i < out_len; i++)
        out[i] = (uint8_t)(hex_value(in[2 * i]) << 4 | hex_value(in[2 * i + 1]));
    return SG_OK;
}

static size_t encode(const char *alphabet, bool pad, const uint8_t *in, size_t len, char *out,
                     size_t out_size)
{
    size_t whole = len / 3, rest = len % 3;
    if (whole > (SIZE_MAX - 5) / 4)
        return 0;
    size_t need = whole * 4 + (rest == 0 ? 0 : pad ? 4 : rest + 1);
    if (out_size <= need)
        return 0;
    char *o = out;
    for (size_t i = 0; i < whole; i++, in += 3) {
        uint32_t v = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        *o++ = alphabet[v >> 18];
        *o++ = alphabet[v >> 12 & 63];
        *o++ = alphabet[v >> 6 & 63];
        *o++ = alphabet[v & 63];
    }
    if (rest > 0) {
        uint32_t v = (uint32_t)in[0] << 16 | (rest == 2 ? (uint32_t)in[1] << 8 : 0);
        *o++ = alphabet[v >> 18];
        *o++ = alphabet[v >> 12 & 63];
        if (rest == 2)
            *o++ = alphabet[v >> 6 & 63];
        else if (pad)
            *o++ = '=';
        if (pad)
            *o++ = '=';
    }
    *o = '\0';
    return need;
}

size_t sg_base64_encode(const uint8_t *in, size_t len, char *out, size_t out_size)
{
    return encode(base64_standard, true, in, len, out, out_size);
}

size_t sg_base64url_encode(const uint8_t *in, size_t len, char *out, size_t out_size)
{
    return encode(base64_url, false, in, len, out, out_size);
}

static int base64_value(char c, bool url)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == (url ? '-' : '+'))
        return 62;
    if (c == (url ? '_' : '/'))
        return 63;
    return -1;
}

/* `in` without padding. Checks everything before it writes. */
static enum sg_error decode(const char *in, size_t len, bool url, uint8_t *out, size_t out_size,
                            size_t *out_len)
{
    size_t rest = len % 4;
    if (rest == 1)
        return SG_ERR_INVALID;
    size_t n = len / 4 * 3 + (rest > 0 ? rest - 1 : 0);
    if (n > out_size)
        return SG_ERR_INVALID;
    for (size_t i = 0; i < len; i++) {
        if (base64_value(in[i], url) < 0)
            return SG_ERR_INVALID;
    }
    if (rest == 2 && (base64_value(in[len - 1], url) & 15) != 0)
        return SG_ERR_INVALID;
    if (rest == 3 && (base64_value(in[len - 1], url) & 3) != 0)
        return SG_ERR_INVALID;

    uint32_t bits = 0;
    unsigned have = 0;
    size_t o = 0;
    for (size_t i = 0; i < len; i++) {
        bits = (bits << 6 | (uint32_t)base64_value(in[i], url)) & 0xFFFFFF;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[o++] = (uint8_t)(bits >> have);
        }
    }
    *out_len = o;
    return SG_OK;
}

enum sg_error sg_base64_decode(const char *in, size_t len, uint8_t *out, size_t out_size,
                               size_t *out_len)
{
    if (len % 4 != 0)
        return SG_ERR_INVALID;
    if (len > 0 && in[len - 1] == '=')
        len -= in[len - 2] == '=' ? 2 : 1;
    return decode(in, len, false, out, out_size, out_len);
}

enum sg_error sg_base64url_decode(const char *in, size_t len, uint8_t *out, size_t out_size,
                                  size_t *out_len)
{
    return decode(in, len, true, out, out_size, out_len);
}

enum sg_error sg_percent_decode(char *s, size_t len, bool refuse_slash, size_t *out_len)
{
    size_t escapes = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] != '%')
            continue;
        if (len - i < 3 || hex_value(s[i + 1]) < 0 || hex_value(s[i + 2]) < 0)
            return SG_ERR_INVALID;
        int c = hex_value(s[i + 1]) << 4 | hex_value(s[i + 2]);
        if (c == 0 || (refuse_slash && c == '/'))
            return SG_ERR_INVALID;
        escapes++;
        i += 2;
    }
    if (escapes > 0) {
        size_t o = 0;
        for (size_t i = 0; i < len; i++) {
            if (s[i] == '%') {
                s[o++] = (char)(hex_value(s[i + 1]) << 4 | hex_value(s[i + 2]));
                i += 2;
            } else {
                s[o++] = s[i];
            }
        }
        s[o] = '\0'; /* o < len: a terminated string stays one */
    }
    *out_len = len - 2 * escapes;
    return SG_OK;
}
