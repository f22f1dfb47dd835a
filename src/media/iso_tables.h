/* Between the two halves of the reader: av_iso_boxes.c finds a track's tables, av_iso_samples.c
 * makes its samples of them. */
#ifndef STREAMGATE_MEDIA_ISO_TABLES_H
#define STREAMGATE_MEDIA_ISO_TABLES_H

#include "iso_movie.h"

/* A table: `rows` rows begin at p, which holds them all. */
struct iso_table {
    const uint8_t *p;
    uint32_t rows;
};

struct iso_tables {
    struct iso_table stts, ctts, stss, stsc, chunks, sizes;
    bool wide_chunks;      /* co64 */
    uint32_t sample_size;  /* of all alike; 0: in sizes */
    uint32_t size_bits;    /* of a row of sizes: 4, 8, 16, 32 */
    uint32_t n;            /* samples */
    bool edited;           /* what follows counts */
    int64_t edit_empty;    /* before the edit, in the movie's scale */
    int64_t edit_start;    /* in the track's scale */
    int64_t edit_duration; /* in the movie's scale */
    uint32_t movie_scale;
};

static inline uint32_t iso_u16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t iso_u32(const uint8_t *p)
{
    return iso_u16(p) << 16 | iso_u16(p + 2);
}

static inline uint64_t iso_u64(const uint8_t *p)
{
    return (uint64_t)iso_u32(p) << 32 | iso_u32(p + 4);
}

/* Fills samples, n, media_bytes and what follows from the edit. Errors as iso_movie_read. */
enum sg_error iso_samples_make(const struct iso_tables *tables, uint64_t file_size,
                               struct iso_track *track) SG_NODISCARD;

#endif
