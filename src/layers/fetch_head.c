/* Header lines of a source's answer. */
#include "fetch_head.h"

#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/str.h"

#define RETRY_AFTER_MAX_S 86400u

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool copy(char *out, size_t size, const char *value, size_t len)
{
    out[0] = '\0';
    if (len >= size || memchr(value, '\0', len) != NULL)
        return false;
    memcpy(out, value, len);
    out[len] = '\0';
    return true;
}

/* "bytes 100-199/200" or ".../" "*" (RFC 9110, 14.4). */
static void read_range(struct fetch_head *h, const char *value, size_t len)
{
    static const char unit[] = "bytes ";
    h->has_range = h->has_total = false;
    if (len < sizeof unit - 1 || strncasecmp(value, unit, sizeof unit - 1) != 0)
        return;
    value += sizeof unit - 1;
    len -= sizeof unit - 1;
    const char *dash = memchr(value, '-', len), *slash = memchr(value, '/', len);
    if (dash == NULL || slash == NULL || dash > slash)
        return;
    const char *end = value + len;
    uint64_t first, last, total = 0;
    if (sg_str_to_u64(value, (size_t)(dash - value), INT64_MAX, &first) != SG_OK ||
        sg_str_to_u64(dash + 1, (size_t)(slash - dash - 1), INT64_MAX - 1, &last) != SG_OK)
        return;
    bool unknown = end - slash == 2 && slash[1] == '*';
    if (!unknown && sg_str_to_u64(slash + 1, (size_t)(end - slash - 1), INT64_MAX, &total) != SG_OK)
        return;
    if (last < first || (!unknown && last >= total))
        return;
    h->has_range = true;
    h->range_first = first;
    h->range_last = last;
    h->has_total = !unknown;
    h->range_total = total;
}

static void read_length(struct fetch_head *h, const char *value, size_t len)
{
    uint64_t length;
    if (sg_str_to_u64(value, len, INT64_MAX, &length) != SG_OK ||
        (h->has_length && length != h->length)) {
        h->bad_length = true;
        return;
    }
    h->has_length = true;
    h->length = length;
}

void fetch_head_line(struct fetch_head *h, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    if (colon == NULL)
        return;
    size_t name = (size_t)(colon - line);
    const char *value = colon + 1;
    size_t n = len - name - 1;
    while (n > 0 && is_space(*value)) {
        value++;
        n--;
    }
    while (n > 0 && is_space(value[n - 1]))
        n--;
#define IS(text) (name == sizeof(text) - 1 && strncasecmp(line, text, name) == 0)
    if (IS("location")) {
        h->location_too_long = !copy(h->location, sizeof h->location, value, n);
    } else if (IS("etag")) {
        (void)copy(h->etag, sizeof h->etag, value, n);
    } else if (IS("last-modified")) {
        (void)copy(h->last_modified, sizeof h->last_modified, value, n);
    } else if (IS("date")) {
        (void)copy(h->date, sizeof h->date, value, n);
    } else if (IS("content-disposition")) {
        (void)copy(h->disposition, sizeof h->disposition, value, n);
    } else if (IS("transfer-encoding")) {
        h->transfer_encoded = true;
    } else if (IS("content-length")) {
        read_length(h, value, n);
    } else if (IS("content-range")) {
        read_range(h, value, n);
    } else if (IS("retry-after")) {
        uint64_t s;
        if (sg_str_to_u64(value, n, RETRY_AFTER_MAX_S, &s) == SG_OK)
            h->retry_after_ms = s * 1000;
    }
#undef IS
}

static bool is_strong_etag(const char *s)
{
    size_t n = strlen(s);
    if (n < 2 || s[0] != '"' || s[n - 1] != '"' || memchr(s + 1, '"', n - 2) != NULL)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f)
            return false;
    return true;
}

const char *fetch_head_validator(const struct fetch_head *h)
{
    uint64_t modified_ms, date_ms;
    if (is_strong_etag(h->etag))
        return h->etag;
    /* Both have a second's resolution: within one second it could change unseen. */
    if (sg_time_parse_http_date(h->last_modified, &modified_ms) == SG_OK &&
        sg_time_parse_http_date(h->date, &date_ms) == SG_OK && modified_ms < date_ms)
        return h->last_modified;
    return "";
}
