/* File names a source suggests. Only ever a name: folders before it are cut off, and what
 * sg_validate_filename refuses is no name at all. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/base/validate.h"
#include "streamgate/layers/fetch.h"

static enum sg_error take_name(const char *s, size_t len, char out[SG_FETCH_NAME_SIZE])
{
    for (size_t i = len; i-- > 0;) {
        if (s[i] == '/' || s[i] == '\\') {
            s += i + 1;
            len -= i + 1;
            break;
        }
    }
    if (len >= SG_FETCH_NAME_SIZE || sg_validate_filename(s, len) != NULL)
        return SG_ERR_NOT_FOUND;
    memcpy(out, s, len);
    out[len] = '\0';
    return SG_OK;
}

static enum sg_error take_escaped(const char *s, size_t len, char out[SG_FETCH_NAME_SIZE])
{
    char text[3 * SG_FETCH_NAME_SIZE];
    size_t decoded;
    if (len > sizeof text)
        return SG_ERR_NOT_FOUND;
    memcpy(text, s, len);
    if (sg_percent_decode(text, len, true, &decoded) != SG_OK)
        return SG_ERR_NOT_FOUND;
    return take_name(text, decoded, out);
}

enum sg_error sg_fetch_name_from_url(const char *url, char out[SG_FETCH_NAME_SIZE])
{
    const char *host = strstr(url, "://");
    if (host == NULL)
        return SG_ERR_NOT_FOUND;
    const char *path = host + 3 + strcspn(host + 3, "/?#");
    if (*path != '/')
        return SG_ERR_NOT_FOUND;
    size_t len = strcspn(path, "?#");
    const char *last = memrchr(path, '/', len);
    return take_escaped(last + 1, len - (size_t)(last + 1 - path), out);
}

/* ---- Content-Disposition ---- */

static const char *skip_space(const char *s)
{
    return s + strspn(s, " \t");
}

/* The value of a parameter, unquoted into buf; *s moves behind it. False: it does not fit or never
 * ends. */
static bool read_value(const char **s, char *buf, size_t size, size_t *len)
{
    const char *p = *s;
    size_t n = 0;
    if (*p != '"') {
        n = strcspn(p, "; \t");
        if (n > size)
            return false;
        memcpy(buf, p, n);
        *s = p + n;
        *len = n;
        return true;
    }
    for (p++; *p != '"'; p++) {
        if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
            p++; /* other backslashes are Windows paths, sent unescaped by browsers of old */
        if (*p == '\0' || n == size)
            return false;
        buf[n++] = *p;
    }
    *s = p + 1;
    *len = n;
    return true;
}

enum sg_error sg_fetch_name_from_disposition(const char *value, char out[SG_FETCH_NAME_SIZE])
{
    static const char utf8[] = "UTF-8'";
    char plain[SG_FETCH_NAME_SIZE], buf[3 * SG_FETCH_NAME_SIZE];
    bool has_plain = false;
    const char *s = value + strcspn(value, ";");
    while (*s == ';') {
        s = skip_space(s + 1);
        const char *name = s;
        size_t name_len = strcspn(s, "=; \t"), len;
        s = skip_space(s + name_len);
        if (*s != '=')
            continue;
        s = skip_space(s + 1);
        if (!read_value(&s, buf, sizeof buf, &len))
            break;
        if (name_len == 8 && strncasecmp(name, "filename", 8) == 0) {
            has_plain = !has_plain && take_name(buf, len, plain) == SG_OK;
        } else if (name_len == 9 && strncasecmp(name, "filename*", 9) == 0 &&
                   len >= sizeof utf8 - 1 && strncasecmp(buf, utf8, sizeof utf8 - 1) == 0) {
            const char *text = memchr(buf + sizeof utf8 - 1, '\'', len - (sizeof utf8 - 1));
            /* It outranks the plain one (RFC 6266, 4.3). */
            if (text != NULL &&
                take_escaped(text + 1, len - (size_t)(text + 1 - buf), out) == SG_OK)
                return SG_OK;
        }
        s = skip_space(s);
    }
    if (!has_plain)
        return SG_ERR_NOT_FOUND;
    memcpy(out, plain, sizeof plain);
    return SG_OK;
}
