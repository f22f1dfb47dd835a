/* The rules of guard.h. Each check answers one reason; the order is from what makes everything
 * after it unreliable to details. */
#include "guard.h"

#include <string.h>

#include "streamgate/base/str.h"

#define PATH_MAX_BYTES 4096

const struct sg_guard_rule sg_guard_rules[SG_GUARD_REASON_COUNT] = {
    [SG_GUARD_OK] = {"ok", "", SG_OK},
    [SG_GUARD_FRAMING] = {"framing",
                          "Lines must end in CR LF and hold no NUL, and must not be folded",
                          SG_ERR_MALFORMED},
    [SG_GUARD_VERSION] = {"version", "The version must be HTTP/1.1 or HTTP/1.0",
                          SG_ERR_HTTP_VERSION},
    [SG_GUARD_METHOD] = {"method", "The method is not known", SG_ERR_NOT_IMPLEMENTED},
    [SG_GUARD_HEADERS_MANY] = {"headers_many", "There are more than 64 header fields",
                               SG_ERR_HEADERS_TOO_LARGE},
    [SG_GUARD_HEADERS_LONG] = {"headers_long", "The head exceeds server.max_header_bytes",
                               SG_ERR_HEADERS_TOO_LARGE},
    [SG_GUARD_TARGET] = {"target", "The request target must be a path of visible ASCII characters",
                         SG_ERR_MALFORMED},
    [SG_GUARD_TARGET_LONG] = {"target_long", "The path is longer than 4096 bytes",
                              SG_ERR_URI_TOO_LONG},
    [SG_GUARD_ESCAPE] = {"escape",
                         "Percent escapes must be two hexadecimal digits, in the path not 00 or 2F",
                         SG_ERR_MALFORMED},
    [SG_GUARD_AUTHORITY] = {"authority", "The authority of the target must be that of Host",
                            SG_ERR_MALFORMED},
    [SG_GUARD_HEADER_NAME] = {"header_name",
                              "Header names must be tokens directly before the colon",
                              SG_ERR_MALFORMED},
    [SG_GUARD_HEADER_VALUE] = {"header_value", "Header values must not hold control characters",
                               SG_ERR_MALFORMED},
    [SG_GUARD_LOOKALIKE] = {"lookalike",
                            "A header name begins like Content-Length or Transfer-Encoding",
                            SG_ERR_MALFORMED},
    [SG_GUARD_DUPLICATE] = {"duplicate", "A header that must be single came more than once",
                            SG_ERR_MALFORMED},
    [SG_GUARD_HOST] = {"host", "There must be one valid Host header", SG_ERR_MALFORMED},
    [SG_GUARD_LENGTH] = {"length", "Content-Length must be decimal digits, at most 2^63-1",
                         SG_ERR_MALFORMED},
    [SG_GUARD_CODING] = {"coding",
                         "Transfer-Encoding must be exactly chunked, and HTTP/1.0 has none",
                         SG_ERR_MALFORMED},
    [SG_GUARD_LENGTH_AND_CODING] = {"length_and_coding",
                                    "Content-Length and Transfer-Encoding exclude each other",
                                    SG_ERR_MALFORMED},
    [SG_GUARD_EXPECT] = {"expect", "Expect must be 100-continue", SG_ERR_EXPECTATION},
};

/* Those that decide framing, identity or routing, or that handlers take for single. */
enum single {
    SINGLE_LENGTH,
    SINGLE_CODING,
    SINGLE_HOST,
    SINGLE_EXPECT,
    SINGLE_AUTHORIZATION,
    SINGLE_CONTENT_TYPE,
    SINGLE_RANGE,
    SINGLE_ORIGIN,
    SINGLE_COUNT
};
static const struct {
    const char *name;
    size_t len;
} singles[SINGLE_COUNT] = {
    [SINGLE_LENGTH] = {"content-length", 14},
    [SINGLE_CODING] = {"transfer-encoding", 17},
    [SINGLE_HOST] = {"host", 4},
    [SINGLE_EXPECT] = {"expect", 6},
    [SINGLE_AUTHORIZATION] = {"authorization", 13},
    [SINGLE_CONTENT_TYPE] = {"content-type", 12},
    [SINGLE_RANGE] = {"range", 5},
    [SINGLE_ORIGIN] = {"origin", 6},
};

const struct sg_guard_rule *sg_guard_find(const char *slug)
{
    for (unsigned i = SG_GUARD_OK + 1; i < SG_GUARD_REASON_COUNT; i++) {
        if (strcmp(slug, sg_guard_rules[i].slug) == 0) {
            return &sg_guard_rules[i];
        }
    }
    return NULL;
}

/* RFC 9110 5.6.2: one bit a token character, by 64. */
static bool is_token(const char *s, size_t len)
{
    static const uint64_t token[4] = {UINT64_C(0x03ff6cfa00000000), UINT64_C(0x57ffffffc7fffffe), 0,
                                      0};
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (!((token[c >> 6] >> (c & 63)) & 1)) {
            return false;
        }
    }
    return len > 0;
}

/* Eight bytes at a time, as each byte of each request passes here. Both answer nonzero exactly when
 * some byte of w is such ("Determine if a word has a byte less than n", Bit Twiddling Hacks). */
#define EACH_BYTE(c) (UINT64_C(0x0101010101010101) * (c))

static uint64_t any_below(uint64_t w, unsigned char c)
{
    return (w - EACH_BYTE(c)) & ~w & EACH_BYTE(0x80);
}

static uint64_t any_equal(uint64_t w, unsigned char c)
{
    return any_below(w ^ EACH_BYTE(c), 1);
}

static uint64_t eight_bytes(const char *s)
{
    uint64_t w;
    memcpy(&w, s, sizeof(w));
    return w;
}

static bool is_clean_value(const char *s)
{
    size_t len = strlen(s), i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t w = eight_bytes(s + i);
        if (any_below(w, 0x20) | any_equal(w, 0x7f)) {
            break; /* perhaps only a tab */
        }
    }
    for (; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

bool sg_guard_length_ok(const char *value)
{
    uint64_t n = 0;
    return sg_str_to_u64(value, strlen(value), INT64_MAX, &n) == SG_OK;
}

/* uri-host [":" port] of RFC 3986, loosely: what may stand in a URL we print, and nothing that
 * could end it. */
static bool is_authority(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        bool ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  c == '.' || c == '-' || c == '_' || c == ':' || c == '[' || c == ']';
        if (!ok) {
            return false;
        }
    }
    return len > 0 && len <= 255;
}

static size_t trimmed_len(const char *value)
{
    size_t len = strlen(value);
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t')) {
        len--;
    }
    return len;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool equal_nocase(const char *a, const char *b, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (lower(a[i]) != lower(b[i])) {
            return false;
        }
    }
    return true;
}

/* ---- target ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_visible(const char *s)
{
    size_t len = strlen(s), i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t w = eight_bytes(s + i);
        if ((w & EACH_BYTE(0x80)) | any_below(w, 0x21) | any_equal(w, 0x7f) | any_equal(w, '#')) {
            return false;
        }
    }
    for (; i < len; i++) {
        if (s[i] <= ' ' || s[i] >= 0x7f || s[i] == '#') {
            return false;
        }
    }
    return true;
}

static enum sg_guard_reason check_escapes(const char *path, const char *end)
{
    for (const char *s = path; (s = strchr(s, '%')) != NULL; s++) {
        int high = hex_digit(s[1]);
        int low = high < 0 ? -1 : hex_digit(s[2]);
        if (low < 0) {
            return SG_GUARD_ESCAPE;
        }
        int value = high * 16 + low;
        if (value == 0 || (value == '/' && s < end)) {
            return SG_GUARD_ESCAPE;
        }
        s += 2;
    }
    return SG_GUARD_OK;
}

static enum sg_guard_reason check_target(const struct sg_guard_head *head, const char *host,
                                         size_t *path_offset)
{
    const char *target = head->target;
    if (!is_visible(target)) {
        return SG_GUARD_TARGET;
    }
    const char *path = target;
    if (*target != '/') {
        static const char *const schemes[] = {"http://", "https://"};
        size_t scheme = 0;
        for (size_t i = 0; i < SG_ARRAY_LEN(schemes); i++) {
            if (sg_str_istarts(target, schemes[i])) {
                scheme = strlen(schemes[i]);
            }
        }
        if (scheme == 0) {
            bool star = strcmp(target, "*") == 0 && strcmp(head->method, "OPTIONS") == 0;
            *path_offset = 0;
            return star ? SG_GUARD_OK : SG_GUARD_TARGET;
        }
        const char *authority = target + scheme;
        size_t len = strcspn(authority, "/?");
        size_t host_len = host ? trimmed_len(host) : len;
        if (!is_authority(authority, len) || host_len != len ||
            (host && !equal_nocase(authority, host, len))) {
            return SG_GUARD_AUTHORITY;
        }
        path = authority + len;
    }
    const char *end = path + strcspn(path, "?");
    if (end - path > PATH_MAX_BYTES) {
        return SG_GUARD_TARGET_LONG;
    }
    *path_offset = (size_t)(path - target);
    return check_escapes(path, end);
}

/* ---- headers ---- */

/* found[]: the value of each single header, NULL when absent. */
static enum sg_guard_reason check_headers(const struct sg_guard_head *head,
                                          const char *found[SINGLE_COUNT])
{
    for (unsigned i = 0; i < head->n_headers; i++) {
        const char *name = head->headers[i].name;
        const char *value = head->headers[i].value;
        size_t len = strlen(name);
        if (!is_token(name, len)) {
            return SG_GUARD_HEADER_NAME;
        }
        if (!is_clean_value(value)) {
            return SG_GUARD_HEADER_VALUE;
        }
        for (unsigned k = 0; k < SINGLE_COUNT; k++) {
            bool framing = k == SINGLE_LENGTH || k == SINGLE_CODING;
            if (len < singles[k].len || (len > singles[k].len && !framing) ||
                !equal_nocase(name, singles[k].name, singles[k].len)) {
                continue;
            }
            if (len > singles[k].len) {
                return SG_GUARD_LOOKALIKE;
            }
            if (found[k]) {
                return SG_GUARD_DUPLICATE;
            }
            found[k] = value;
        }
    }
    return SG_GUARD_OK;
}

static enum sg_guard_reason check_found(const char *const found[SINGLE_COUNT], bool old_version)
{
    const char *host = found[SINGLE_HOST];
    if (host ? !is_authority(host, trimmed_len(host)) : !old_version) {
        return SG_GUARD_HOST;
    }
    if (found[SINGLE_LENGTH] && found[SINGLE_CODING]) {
        return SG_GUARD_LENGTH_AND_CODING;
    }
    if (found[SINGLE_LENGTH] && !sg_guard_length_ok(found[SINGLE_LENGTH])) {
        return SG_GUARD_LENGTH;
    }
    if (found[SINGLE_CODING] && (old_version || strcmp(found[SINGLE_CODING], "chunked") != 0)) {
        return SG_GUARD_CODING;
    }
    const char *expect = found[SINGLE_EXPECT];
    if (expect && !(trimmed_len(expect) == 12 && equal_nocase(expect, "100-continue", 12))) {
        return SG_GUARD_EXPECT;
    }
    return SG_GUARD_OK;
}

enum sg_guard_reason sg_guard_check(const struct sg_guard_head *head, size_t *path_offset)
{
    bool old_version = strcmp(head->version, "HTTP/1.0") == 0;
    if (!old_version && strcmp(head->version, "HTTP/1.1") != 0) {
        return SG_GUARD_VERSION;
    }
    enum sg_method method;
    if (sg_method_parse(head->method, &method) != SG_OK) {
        return is_token(head->method, strlen(head->method)) ? SG_GUARD_METHOD : SG_GUARD_TARGET;
    }
    if (head->bytes > head->max_bytes) {
        return SG_GUARD_HEADERS_LONG;
    }
    if (head->n_headers > SG_HEADERS_MAX) {
        return SG_GUARD_HEADERS_MANY;
    }
    const char *found[SINGLE_COUNT] = {0};
    enum sg_guard_reason reason = check_headers(head, found);
    if (reason == SG_GUARD_OK) {
        reason = check_found(found, old_version);
    }
    if (reason == SG_GUARD_OK) {
        reason = check_target(head, found[SINGLE_HOST], path_offset);
    }
    return reason;
}

/* ---- memory ---- */

bool sg_guard_memory_clean(const struct sg_guard_memory *m)
{
    const char *end = m->method + m->bytes;
    const char *at = m->method + strlen(m->method) + 1;
    if (m->target != at || m->target_len >= m->bytes) {
        return false;
    }
    at += m->target_len + 1;
    if (m->version != at || at >= end) {
        return false;
    }
    at += strlen(at);
    for (unsigned i = 0;; i++) {
        if (end - at < 4 || at[0] != '\0' || at[1] != '\0') {
            return false; /* a line end needs two bytes, and the empty line two more */
        }
        at += 2;
        if (i == m->n_headers) {
            return end - at == 2 && at[0] == '\0' && at[1] == '\0';
        }
        if (m->headers[i].name != at) {
            return false;
        }
        at += strlen(at) + 1;
        while (at < end && at != m->headers[i].value && (*at == ' ' || *at == '\t')) {
            at++;
        }
        if (at >= end || m->headers[i].value != at) {
            return false;
        }
        at += strlen(at);
    }
}
