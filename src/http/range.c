/* Range requests, RFC 9110 section 14, and their multipart/byteranges bodies. Numbers of any length
 * are taken: what does not fit in 64 bits lies beyond every content. Ranges that overlap or are too
 * many are answered with the whole content. */
#include <string.h>

#include "streamgate/base/crypto.h"
#include "streamgate/base/str.h"
#include "streamgate/http/response.h"

#include "response_private.h"

#define BOUNDARY_RANDOM_BYTES 16

/* Digits as written, without leading zeros, so that two numbers beyond 64 bits still compare right.
 */
struct number {
    const char *digits;
    size_t len;
    uint64_t value; /* UINT64_MAX when beyond */
};

static bool is_ows(char c)
{
    return c == ' ' || c == '\t';
}

static bool read_number(const char **p, struct number *out)
{
    const char *s = *p;
    while (*s >= '0' && *s <= '9')
        s++;
    if (s == *p)
        return false;
    const char *digits = *p;
    while (digits + 1 < s && *digits == '0')
        digits++;
    out->digits = digits;
    out->len = (size_t)(s - digits);
    if (sg_str_to_u64(digits, out->len, UINT64_MAX, &out->value) != SG_OK)
        out->value = UINT64_MAX;
    *p = s;
    return true;
}

static bool number_less(const struct number *a, const struct number *b)
{
    if (a->len != b->len)
        return a->len < b->len;
    return memcmp(a->digits, b->digits, a->len) < 0;
}

enum spec { SPEC_BAD, SPEC_OK, SPEC_UNSATISFIABLE, SPEC_EMPTY_CONTENT };

/* One range-spec (14.1.1). */
static enum spec read_spec(const char **p, uint64_t size, struct sg_range *out)
{
    struct number first, last;
    if (**p == '-') {
        ++*p;
        if (!read_number(p, &last))
            return SPEC_BAD;
        if (last.value == 0)
            return SPEC_UNSATISFIABLE;
        if (size == 0)
            return SPEC_EMPTY_CONTENT;
        out->start = last.value >= size ? 0 : size - last.value;
        out->end = size;
        return SPEC_OK;
    }
    if (!read_number(p, &first) || **p != '-')
        return SPEC_BAD;
    ++*p;
    uint64_t end = size;
    if (**p >= '0' && **p <= '9') {
        if (!read_number(p, &last) || number_less(&last, &first))
            return SPEC_BAD;
        if (last.value < size)
            end = last.value + 1;
    }
    /* A content of 2^64-1 bytes ends at offset 2^64-2, so a saturated start is never below size. */
    if (first.value >= size)
        return SPEC_UNSATISFIABLE;
    out->start = first.value;
    out->end = end;
    return SPEC_OK;
}

static bool overlap(const struct sg_range *ranges, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = i + 1; j < n; j++) {
            if (ranges[i].start < ranges[j].end && ranges[j].start < ranges[i].end)
                return true;
        }
    }
    return false;
}

enum sg_range_verdict sg_range_parse(const char *value, uint64_t size,
                                     struct sg_range out[SG_RANGES_MAX], unsigned *n)
{
    if (!sg_str_istarts(value, "bytes="))
        return SG_RANGE_IGNORE;
    const char *p = value + strlen("bytes=");
    struct sg_range found[SG_RANGES_MAX];
    unsigned n_specs = 0, n_found = 0;
    for (;;) {
        while (is_ows(*p) || *p == ',') /* empty elements are ignored, 5.6.1.2 */
            p++;
        if (*p == '\0')
            break;
        struct sg_range range = {0, 0};
        const enum spec spec = read_spec(&p, size, &range);
        if (spec == SPEC_BAD || spec == SPEC_EMPTY_CONTENT || ++n_specs > SG_RANGES_MAX)
            return SG_RANGE_IGNORE;
        if (spec == SPEC_OK)
            found[n_found++] = range;
        while (is_ows(*p))
            p++;
        if (*p != ',' && *p != '\0')
            return SG_RANGE_IGNORE;
    }
    if (n_specs == 0)
        return SG_RANGE_IGNORE;
    if (n_found == 0)
        return SG_RANGE_UNSATISFIABLE;
    if (overlap(found, n_found))
        return SG_RANGE_IGNORE;
    memcpy(out, found, n_found * sizeof(found[0]));
    *n = n_found;
    return SG_RANGE_OK;
}

/* 13.1.5: a strong entity tag, or exactly the date we sent. Otherwise the client's part is of
 * another version. */
static bool if_range_holds(const struct sg_request *req, const struct sg_response *res)
{
    const char *value = sg_request_header(req, "If-Range");
    if (!value)
        return true;
    if (value[0] == '"')
        return res->etag && strcmp(value, res->etag) == 0;
    uint64_t date_ms;
    return res->last_modified_ms != 0 && sg_time_parse_http_date(value, &date_ms) == SG_OK &&
           date_ms / 1000 == res->last_modified_ms / 1000;
}

static enum sg_error apply_single(struct sg_request *req, struct sg_response *res,
                                  const struct sg_range *range)
{
    enum sg_error err = sg_response_headerf(
        req, res, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)range->start,
        (unsigned long long)(range->end - 1), (unsigned long long)res->len);
    if (err != SG_OK)
        return err;
    res->status = 206;
    res->offset += range->start;
    res->len = range->end - range->start;
    return SG_OK;
}

static const char *part_prefix(struct sg_request *req, const struct sg_response *res,
                               const char *boundary, const struct sg_range *range, bool first)
{
    const char *type = res->content_type ? res->content_type : "application/octet-stream";
    return sg_arena_printf(
        req->arena, "%s--%s\r\nContent-Type: %s\r\nContent-Range: bytes %llu-%llu/%llu\r\n\r\n",
        first ? "" : "\r\n", boundary, type, (unsigned long long)range->start,
        (unsigned long long)(range->end - 1), (unsigned long long)res->len);
}

static enum sg_error apply_parts(struct sg_request *req, struct sg_response *res,
                                 const struct sg_range *ranges, unsigned n)
{
    uint8_t random[BOUNDARY_RANDOM_BYTES];
    char boundary[2 * BOUNDARY_RANDOM_BYTES + 1];
    sg_random(random, sizeof(random));
    sg_hex_encode(random, sizeof(random), boundary);

    struct sg_body_part *parts = sg_arena_zalloc(req->arena, (n + 1) * sizeof(*parts));
    const char *type = sg_arena_printf(req->arena, "multipart/byteranges; boundary=%s", boundary);
    if (!parts || !type)
        return SG_ERR_NO_MEMORY;
    uint64_t total = 0;
    for (unsigned i = 0; i <= n; i++) {
        struct sg_body_part *part = &parts[i];
        if (i < n) {
            part->prefix = part_prefix(req, res, boundary, &ranges[i], i == 0);
            part->offset = res->offset + ranges[i].start;
            part->len = ranges[i].end - ranges[i].start;
        } else {
            part->prefix = sg_arena_printf(req->arena, "\r\n--%s--\r\n", boundary);
        }
        if (!part->prefix)
            return SG_ERR_NO_MEMORY;
        part->prefix_len = strlen(part->prefix);
        if (__builtin_add_overflow(total, part->prefix_len, &total) ||
            __builtin_add_overflow(total, part->len, &total))
            return SG_ERR_RANGE;
    }
    res->status = 206;
    res->content_type = type;
    res->source = SG_SOURCE_PARTS;
    res->parts = parts;
    res->n_parts = n + 1;
    res->offset = 0;
    res->len = total;
    return SG_OK;
}

static void answer_unsatisfiable(struct sg_request *req, struct sg_response *res)
{
    const uint64_t size = res->len;
    (void)sg_request_fail(req, SG_ERR_RANGE, NULL, "the content has %llu bytes",
                          (unsigned long long)size);
    sg_response_problem(req, res, SG_ERR_RANGE);
    if (sg_response_headerf(req, res, "Content-Range", "bytes */%llu", (unsigned long long)size) !=
        SG_OK)
        sg_response_problem(req, res, SG_ERR_NO_MEMORY);
}

void sg_range_apply(struct sg_request *req, struct sg_response *res)
{
    if (!res->ranges || res->status != 200 ||
        (res->source != SG_SOURCE_BUF && res->source != SG_SOURCE_FILE))
        return;
    if (response_static_header(res, "Accept-Ranges", "bytes") != SG_OK) {
        sg_response_problem(req, res, SG_ERR_NO_MEMORY);
        return;
    }
    if (req->method != SG_GET) /* 14.2: Range is defined for GET only */
        return;
    const char *value = sg_request_header(req, "Range");
    if (!value || !if_range_holds(req, res))
        return;
    struct sg_range ranges[SG_RANGES_MAX];
    unsigned n = 0;
    enum sg_error err = SG_OK;
    switch (sg_range_parse(value, res->len, ranges, &n)) {
    case SG_RANGE_IGNORE:
        return;
    case SG_RANGE_UNSATISFIABLE:
        answer_unsatisfiable(req, res);
        return;
    case SG_RANGE_OK:
        err = n == 1 ? apply_single(req, res, &ranges[0]) : apply_parts(req, res, ranges, n);
        break;
    }
    if (err != SG_OK)
        sg_response_problem(req, res, err);
}
