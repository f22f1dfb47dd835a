/* The segments of a rendition as rows - where each starts and ends in microseconds, and its bytes -
 * and the bit rates measured from them. What every kind of playlist is made of; pure. */
#ifndef STREAMGATE_MEDIA_ROWS_H
#define STREAMGATE_MEDIA_ROWS_H

#include "streamgate/media/index.h"

struct row {
    int64_t start_us, end_us;
    uint64_t bytes;
};

/* n > 0. A zeroed one can be destroyed. */
struct rows {
    struct row *row;
    uint32_t n;
};

struct rates {
    uint64_t peak, average; /* bits a second */
};

/* NO_MEMORY */
enum sg_error rows_create(const struct sg_media_index *index, const struct sg_track *track, bool ts,
                          struct rows *out) SG_NODISCARD;
void rows_destroy(struct rows *rows);
/* RFC 8216 4.3.3.1: each EXTINF, rounded to the nearest integer, is at most the target. */
uint64_t rows_target_s(const struct rows *rows);
/* Peak: RFC 8216 4.3.4.2, the largest bit rate of any run of segments that lasts 0.5 to 1.5 times
 * the target duration. */
struct rates rows_rates(const struct rows *rows);

#endif
