/* What of an HTTP answer's header a fetch looks at. Pure; private to the fetch. */
#ifndef LAYERS_FETCH_HEAD_H
#define LAYERS_FETCH_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Texts longer than these are taken for absent, but a Location, which is marked. */
struct fetch_head {
    char location[2049];
    bool location_too_long;
    char etag[256];
    char last_modified[32], date[32];
    char disposition[1024];
    bool transfer_encoded;
    bool has_length, bad_length; /* bad: not a number, or two that differ */
    uint64_t length;
    bool has_range; /* a well-formed Content-Range with a first byte */
    uint64_t range_first, range_last;
    bool has_total;
    uint64_t range_total;
    uint64_t retry_after_ms;
};

/* One header line with or without its line end. */
void fetch_head_line(struct fetch_head *h, const char *line, size_t len);
/* A validator that If-Range may carry (RFC 9110, 13.1.5): a strong ETag, else a Last-Modified that
 * is older than the answer; "" when there is neither. */
const char *fetch_head_validator(const struct fetch_head *h);

#endif
