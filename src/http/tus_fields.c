/* What tus clients say in header fields. Values end with a NUL and are only read. */
#include "streamgate/http/tus_fields.h"

#include <string.h>

#include "streamgate/base/str.h"

#define KEY_MAX 255

enum sg_error sg_tus_number_parse(const char *value, uint64_t *out)
{
    return sg_str_to_u64(value, strlen(value), INT64_MAX, out);
}

/* ---- Upload-Metadata ---- */

static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

static bool is_key_char(char c)
{
    return c > ' ' && c <= '~' && c != ',';
}

/* RFC 4648 section 4 with its padding, by form and length; whether unused bits are zero is found
 * out by decoding. */
static bool is_base64(const char *s, size_t len)
{
    size_t pad = 0;
    if (len % 4 != 0)
        return false;
    while (pad < 2 && pad < len && s[len - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < len - pad; i++) {
        const char c = s[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '+' || c == '/'))
            return false;
    }
    return true;
}

/* Past one pair and the space behind it, or NULL. */
static const char *read_pair(const char *p, struct sg_tus_pair *out)
{
    out->key = p;
    while (is_key_char(*p))
        p++;
    out->key_len = (size_t)(p - out->key);
    if (out->key_len == 0 || out->key_len > KEY_MAX)
        return NULL;
    p = skip_space(p);
    out->encoded = p;
    while (is_key_char(*p))
        p++;
    out->encoded_len = (size_t)(p - out->encoded);
    return is_base64(out->encoded, out->encoded_len) ? skip_space(p) : NULL;
}

static bool is_repeated(const struct sg_tus_pair *pairs, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (pairs[i].key_len == pairs[n].key_len &&
            memcmp(pairs[i].key, pairs[n].key, pairs[n].key_len) == 0)
            return true;
    }
    return false;
}

enum sg_error sg_tus_metadata_parse(const char *value, struct sg_tus_pair out[SG_TUS_PAIRS_MAX],
                                    unsigned *n)
{
    struct sg_tus_pair pairs[SG_TUS_PAIRS_MAX];
    unsigned count = 0;
    const char *p = skip_space(value);
    while (*p != '\0') {
        if (count == SG_TUS_PAIRS_MAX)
            return SG_ERR_TOO_LARGE;
        p = read_pair(p, &pairs[count]);
        if (p == NULL || is_repeated(pairs, count))
            return SG_ERR_INVALID;
        count++;
        if (*p == '\0')
            break;
        if (*p != ',')
            return SG_ERR_INVALID;
        p = skip_space(p + 1);
        if (*p == '\0') /* a trailing comma */
            return SG_ERR_INVALID;
    }
    memcpy(out, pairs, count * sizeof(pairs[0]));
    *n = count;
    return SG_OK;
}

enum sg_error sg_tus_pair_decode(const struct sg_tus_pair *pair, uint8_t *out, size_t out_size,
                                 size_t *out_len)
{
    if (pair->encoded_len == 0) {
        *out_len = 0;
        return SG_OK;
    }
    return sg_base64_decode(pair->encoded, pair->encoded_len, out, out_size, out_len);
}

/* ---- Upload-Checksum ---- */

enum sg_error sg_tus_checksum_parse(const char *value, struct sg_tus_checksum *out)
{
    static const struct {
        const char *name;
        enum sg_digest_algorithm algorithm;
    } known[] = {
        {"sha1", SG_DIGEST_SHA1},
        {"sha256", SG_DIGEST_SHA256},
        {"md5", SG_DIGEST_MD5},
    };
    const size_t name_len = strcspn(value, " ");
    const char *text = value + name_len;
    if (name_len == 0 || *text != ' ' || !is_base64(text + 1, strlen(text + 1)))
        return SG_ERR_INVALID;
    text++;
    for (size_t i = 0; i < SG_ARRAY_LEN(known); i++) {
        if (strlen(known[i].name) != name_len || memcmp(value, known[i].name, name_len) != 0)
            continue;
        struct sg_tus_checksum c = {.algorithm = known[i].algorithm};
        size_t len = 0;
        if (sg_base64_decode(text, strlen(text), c.digest, sizeof(c.digest), &len) != SG_OK ||
            len != sg_digest_len(c.algorithm))
            return SG_ERR_INVALID;
        *out = c;
        return SG_OK;
    }
    return SG_ERR_UNAVAILABLE;
}

/* ---- Upload-Concat ---- */

enum sg_error sg_tus_concat_parse(const char *value, enum sg_tus_concat *out, const char **urls)
{
    static const char final[] = "final;";
    if (strcmp(value, "partial") == 0) {
        *out = SG_TUS_PARTIAL;
        return SG_OK;
    }
    if (!sg_str_starts(value, final))
        return SG_ERR_INVALID;
    const char *first = skip_space(value + sizeof(final) - 1);
    if (*first == '\0')
        return SG_ERR_INVALID;
    *out = SG_TUS_FINAL;
    *urls = first;
    return SG_OK;
}

/* Where the path of a URL begins: behind the authority of an absolute one. NULL: neither form. */
static const char *path_of(const char *url, size_t len)
{
    const char *authority = NULL;
    if (len > 7 && sg_str_istarts(url, "http://"))
        authority = url + 7;
    else if (len > 8 && sg_str_istarts(url, "https://"))
        authority = url + 8;
    if (authority == NULL)
        return *url == '/' ? url : NULL;
    const char *path = memchr(authority, '/', (size_t)(url + len - authority));
    return path == authority ? NULL : path;
}

enum sg_error sg_tus_concat_next(const char **urls, const char *base, char id[SG_ULID_SIZE])
{
    const char *url = *urls;
    if (*url == '\0')
        return SG_ERR_NOT_FOUND;
    const size_t len = strcspn(url, " \t");
    const size_t base_len = strlen(base), tail = base_len + SG_ULID_SIZE - 1;
    /* Some would separate by commas: of what they mean only the last part would be taken. */
    const char *path = memchr(url, ',', len) ? NULL : path_of(url, len);
    if (path == NULL || (size_t)(url + len - path) < tail)
        return SG_ERR_INVALID;
    const char *end = url + len - tail;
    char text[SG_ULID_SIZE];
    uint8_t bytes[16];
    memcpy(text, end + base_len, SG_ULID_SIZE - 1);
    text[SG_ULID_SIZE - 1] = '\0';
    if (memcmp(end, base, base_len) != 0 || sg_ulid_parse(text, bytes) != SG_OK)
        return SG_ERR_INVALID;
    memcpy(id, text, SG_ULID_SIZE);
    *urls = skip_space(url + len);
    return SG_OK;
}
