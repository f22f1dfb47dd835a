/* Content-Digest: a Structured Field dictionary (RFC 8941 3.2) of which only the member sha-256 is
 * read. The others are stepped over with the grammar of their values respected, so that a comma
 * inside a string starts no member. */
#include "streamgate/http/digest_field.h"

#include <stdio.h>
#include <string.h>

#include "streamgate/base/str.h"

static const char *skip_ows(const char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

static bool is_key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' ||
           c == '*';
}

/* NULL: no key stands here. */
static const char *skip_key(const char *p)
{
    if (!((*p >= 'a' && *p <= 'z') || *p == '*'))
        return NULL;
    while (is_key_char(*p))
        p++;
    return p;
}

/* Past a bare item, or NULL. Inner lists do not occur in this field. */
static const char *skip_item(const char *p)
{
    if (*p == '"') {
        for (p++; *p != '"'; p++) {
            if (*p == '\\')
                p++;
            if (*p < ' ' || *p > '~')
                return NULL;
        }
        return p + 1;
    }
    if (*p == ':') {
        p = strchr(p + 1, ':');
        return p ? p + 1 : NULL;
    }
    const char *start = p;
    while (*p > ' ' && *p <= '~' && !strchr("\",;()<>[]{}@\\", *p))
        p++;
    return p == start ? NULL : p;
}

static const char *skip_parameters(const char *p)
{
    while (p && *p == ';') {
        p++;
        while (*p == ' ')
            p++;
        p = skip_key(p);
        if (p && *p == '=')
            p = skip_item(p + 1);
    }
    return p;
}

/* [p, end) is ":<base64>:" */
static bool read_digest(const char *p, const char *end, uint8_t sha256[SG_SHA256_LEN])
{
    size_t len = 0;
    uint8_t decoded[SG_SHA256_LEN];
    if (end - p < 2 || *p != ':' ||
        sg_base64_decode(p + 1, (size_t)(end - p) - 2, decoded, sizeof(decoded), &len) != SG_OK ||
        len != SG_SHA256_LEN)
        return false;
    memcpy(sha256, decoded, SG_SHA256_LEN);
    return true;
}

/* One member; NULL when malformed. */
static const char *read_member(const char *p, bool *found, uint8_t sha256[SG_SHA256_LEN])
{
    const char *key = p;
    p = skip_key(p);
    if (!p)
        return NULL;
    const bool ours = p - key == 7 && memcmp(key, "sha-256", 7) == 0;
    if (*p != '=')
        return ours ? NULL : skip_parameters(p); /* a bare key is the boolean true */
    const char *item = p + 1;
    p = skip_item(item);
    if (!p)
        return NULL;
    if (ours) {
        if (!read_digest(item, p, sha256))
            return NULL;
        *found = true;
    }
    return skip_parameters(p);
}

enum sg_error sg_content_digest_parse(const char *value, bool *present,
                                      uint8_t sha256[SG_SHA256_LEN])
{
    bool found = false;
    uint8_t digest[SG_SHA256_LEN] = {0};
    const char *p = value ? skip_ows(value) : "";
    while (*p != '\0') {
        p = read_member(p, &found, digest);
        if (!p)
            return SG_ERR_INVALID;
        p = skip_ows(p);
        if (*p == '\0')
            break;
        if (*p != ',')
            return SG_ERR_INVALID;
        p = skip_ows(p + 1);
        if (*p == '\0') /* a trailing comma */
            return SG_ERR_INVALID;
    }
    if (found)
        memcpy(sha256, digest, SG_SHA256_LEN);
    *present = found;
    return SG_OK;
}

void sg_content_digest_format(const uint8_t sha256[SG_SHA256_LEN], char out[SG_CONTENT_DIGEST_SIZE])
{
    char text[48];
    sg_base64_encode(sha256, SG_SHA256_LEN, text, sizeof(text));
    snprintf(out, SG_CONTENT_DIGEST_SIZE, "sha-256=:%s:", text);
}
