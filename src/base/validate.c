/* The rules for outside values, one function each, each with the sentence that states it. */
#include "streamgate/base/validate.h"

#include <stdbool.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/str.h"

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_hex(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f') ||
              (s[i] >= 'A' && s[i] <= 'F')))
            return false;
    }
    return true;
}

static bool all_alnum_or(const char *s, size_t len, const char *others)
{
    for (size_t i = 0; i < len; i++) {
        if (!is_alnum(s[i]) && (s[i] == '\0' || strchr(others, s[i]) == NULL))
            return false;
    }
    return true;
}

/* UTF-8 of at most max characters. A character has four bytes at most, which bounds the scan. */
static bool is_text(const char *s, size_t len, size_t max)
{
    return len <= max * 4 && sg_str_is_utf8(s, len) && sg_utf8_length(s, len) <= max;
}

const char *sg_validate_filename(const char *s, size_t len)
{
    static const char rule[] = "must be 1 to 255 bytes of UTF-8 without slashes, backslashes, "
                               "control characters or outer spaces, and not . or ..";
    if (len == 0 || len > 255 || !sg_str_is_utf8(s, len) || sg_str_has_control(s, len))
        return rule;
    if (memchr(s, '/', len) != NULL || memchr(s, '\\', len) != NULL)
        return rule;
    if (s[0] == ' ' || s[len - 1] == ' ')
        return rule;
    if (s[0] == '.' && (len == 1 || (len == 2 && s[1] == '.')))
        return rule;
    return NULL;
}

const char *sg_validate_title(const char *s, size_t len)
{
    if (!is_text(s, len, 200) || sg_str_has_control(s, len))
        return "must be 0 to 200 characters of UTF-8 without control characters";
    return NULL;
}

const char *sg_validate_description(const char *s, size_t len)
{
    static const char rule[] = "must be 0 to 5,000 characters of UTF-8 without control characters "
                               "other than line feed and tab";
    if (!is_text(s, len, 5000))
        return rule;
    size_t start = 0;
    for (size_t i = 0; i <= len; i++) {
        if (i < len && s[i] != '\n' && s[i] != '\t')
            continue;
        if (sg_str_has_control(s + start, i - start))
            return rule;
        start = i + 1;
    }
    return NULL;
}

const char *sg_validate_tag(const char *s, size_t len)
{
    if (len == 0 || !is_text(s, len, 64) || sg_str_has_control(s, len) ||
        memchr(s, ',', len) != NULL)
        return "must be 1 to 64 characters of UTF-8 without commas and control characters";
    return NULL;
}

const char *sg_validate_name(const char *s, size_t len)
{
    if (len == 0 || len > 64 || !all_alnum_or(s, len, "._@-"))
        return "must be 1 to 64 of the characters A-Z a-z 0-9 . _ @ -";
    return NULL;
}

const char *sg_validate_ulid(const char *s, size_t len)
{
    char text[SG_ULID_SIZE];
    uint8_t id[16];
    if (len == sizeof(text) - 1) {
        memcpy(text, s, len);
        text[len] = '\0';
        if (sg_ulid_parse(text, id) == SG_OK)
            return NULL;
    }
    return "must be a ULID: 26 upper-case characters of Crockford's base 32";
}

/* Labels of letters, digits and inner hyphens (RFC 1123), 63 bytes each, joined by single dots; 253
 * in all. */
static bool is_dns_name(const char *s, size_t len)
{
    if (len == 0 || len > 253)
        return false;
    size_t start = 0;
    for (size_t i = 0; i <= len; i++) {
        if (i < len && s[i] != '.')
            continue;
        size_t n = i - start;
        if (n == 0 || n > 63 || !all_alnum_or(s + start, n, "-") || s[start] == '-' ||
            s[i - 1] == '-')
            return false;
        start = i + 1;
    }
    return true;
}

const char *sg_validate_email(const char *s, size_t len)
{
    static const char rule[] =
        "must be an e-mail address: a dot-atom, one @ and a domain name, at most 254 bytes";
    const char *at = len > 0 && len <= 254 ? memchr(s, '@', len) : NULL;
    if (at == NULL)
        return rule;
    size_t local = (size_t)(at - s), domain = len - local - 1;
    if (local == 0 || local > 64 || !all_alnum_or(s, local, ".!#$%&'*+/=?^_`{|}~-"))
        return rule;
    if (s[0] == '.' || s[local - 1] == '.')
        return rule;
    for (size_t i = 1; i < local; i++) {
        if (s[i] == '.' && s[i - 1] == '.')
            return rule;
    }
    return is_dns_name(at + 1, domain) ? NULL : rule;
}

const char *sg_validate_eth_address(const char *s, size_t len)
{
    if (len != 42 || s[0] != '0' || s[1] != 'x' || !is_hex(s + 2, 40))
        return "must be 0x and 40 hexadecimal digits";
    return NULL;
}

const char *sg_validate_sha256_hex(const char *s, size_t len)
{
    if (len != 64 || !is_hex(s, len))
        return "must be 64 hexadecimal digits";
    return NULL;
}

/* Characters a URL may hold (RFC 3986), with % only before two digits. */
static bool has_url_characters(const char *s, size_t len)
{
    if (!all_alnum_or(s, len, "-._~:/?#[]@!$&'()*+,;=%"))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '%' && (len - i < 3 || !is_hex(s + i + 1, 2)))
            return false;
    }
    return true;
}

static bool is_port(const char *s, size_t len)
{
    uint64_t port;
    return sg_str_to_u64(s, len, 65535, &port) == SG_OK && port > 0;
}

/* host, host:port, [IPv6] or [IPv6]:port; no userinfo. */
static bool is_authority(const char *s, size_t len)
{
    if (len == 0 || memchr(s, '@', len) != NULL)
        return false;
    size_t host;
    if (s[0] == '[') {
        const char *end = memchr(s, ']', len);
        if (end == NULL)
            return false;
        host = (size_t)(end - s) + 1;
        size_t inner = host - 2;
        if (inner < 2 || inner > 45 || memchr(s, ':', host) == NULL)
            return false;
        for (size_t i = 1; i <= inner; i++) {
            if (!is_hex(s + i, 1) && s[i] != ':' && s[i] != '.')
                return false;
        }
    } else {
        const char *colon = memchr(s, ':', len);
        host = colon != NULL ? (size_t)(colon - s) : len;
        if (!is_dns_name(s, host))
            return false;
    }
    if (host == len)
        return true;
    return s[host] == ':' && is_port(s + host + 1, len - host - 1);
}

const char *sg_validate_http_url(const char *s, size_t len)
{
    static const char rule[] = "must be an absolute http or https URL without user name, at most "
                               "2,048 bytes";
    if (len > 2048 || !has_url_characters(s, len))
        return rule;
    char scheme[9] = {0};
    memcpy(scheme, s, len < 8 ? len : 8);
    size_t start = sg_str_istarts(scheme, "https://")  ? 8
                   : sg_str_istarts(scheme, "http://") ? 7
                                                       : 0;
    if (start == 0)
        return rule;
    size_t end = start;
    while (end < len && s[end] != '/' && s[end] != '?' && s[end] != '#')
        end++;
    return is_authority(s + start, end - start) ? NULL : rule;
}
