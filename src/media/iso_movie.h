/* The sample tables of a plain film (ISO/IEC 14496-12 8.4 to 8.7), read by ourselves. libavformat
 * builds its index a sample at a time and then wants every packet asked for; here a film of an hour
 * takes two milliseconds.
 *
 * What comes out is exactly what libavformat 5.1 would say of the same film - its quirks with edit
 * lists included, as segments must not depend on who read the tables. So only what is understood
 * fully is taken: one moov, one sample description a track, tables that agree with each other to
 * the sample, at most an empty edit and one of normal rate. Everything else is UNSUPPORTED_MEDIA,
 * which says nothing about the film but that somebody else must read it.
 *
 * The bytes are hostile. No libav, no I/O: pure functions over the moov box in memory. */
#ifndef STREAMGATE_MEDIA_ISO_MOVIE_H
#define STREAMGATE_MEDIA_ISO_MOVIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"

enum { ISO_HIDDEN_MAX = 10, ISO_SIZE_MAX = 0x3fffffff };

/* In decode order. Times in the track's scale, on the timeline the edit list makes; decode times
 * rise strictly. */
struct iso_sample {
    int64_t dts;
    int64_t pos;   /* in the file; pos + size lies within it */
    int32_t shift; /* pts - dts */
    uint32_t size; /* with flags in the upper bits; one word, as fields of bits cost as much to
                      fill as all else together */
};
#define ISO_KEY UINT32_C(0x80000000)
#define ISO_DISCARD UINT32_C(0x40000000) /* outside the edit */

static inline uint32_t iso_size(const struct iso_sample *s)
{
    return s->size & ISO_SIZE_MAX;
}

/* A box of a track: its payload. */
struct iso_span {
    const uint8_t *p;
    size_t len;
};

struct iso_track {
    uint32_t id; /* no two are alike */
    bool video;  /* else sound */
    uint32_t timescale;
    struct iso_sample *samples; /* malloc'ed */
    uint32_t n;                 /* > 0 */
    uint64_t media_bytes;       /* of all samples, also those the edit leaves out */
    int64_t edit_end;           /* the edits' durations in all; INT64_MAX without an edit list */
    bool reorders;              /* has composition offsets */
    /* Payloads in moov that iso_movie_hide hides. */
    struct iso_span hidden[ISO_HIDDEN_MAX];
    unsigned n_hidden;
};

struct iso_movie {
    uint32_t n_tracks; /* those of video and sound alone */
    struct iso_track *tracks;
};

/* Memory for tables of a long film, for free(): in huge pages where the kernel has them, as a third
 * of the time went into faulting in small ones. NULL: none. */
void *iso_alloc(size_t size);

/* moov: payload of the box, which must outlive iso_movie_hide. Samples lie within [0, file_size);
 * no track has more than max_samples. NO_MEMORY; UNSUPPORTED_MEDIA: see above. */
enum sg_error iso_movie_read(const uint8_t *moov, size_t len, uint64_t file_size,
                             uint64_t max_samples, struct iso_movie **out) SG_NODISCARD;
/* Renames the boxes that were read - sample tables, edit lists - to "free" in the same bytes, so
 * that another reader finds the tracks described but empty. */
void iso_movie_hide(const struct iso_movie *movie, uint8_t *moov);
void iso_movie_free(struct iso_movie **movie);
/* How far samples move when they are put in order of presentation: what a decoder must hold back
 * that is not told by its bytes. */
int iso_reorder_depth(const struct iso_track *track);

#endif
