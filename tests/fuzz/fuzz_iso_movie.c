/* A moov box as anybody might send it: whatever is taken on must hold what the header promises, and
 * hiding its tables must not write outside of them. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "iso_movie.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_SIZE = 1 << 20, SAMPLES_MAX = 1 << 16 };

static void check(const struct iso_track *track)
{
    if (track->n == 0 || track->n > SAMPLES_MAX || track->timescale == 0 || track->id == 0)
        abort();
    for (uint32_t i = 0; i < track->n; i++) {
        const struct iso_sample *s = &track->samples[i];
        if (s->pos < 0 || iso_size(s) == 0 || s->pos > FILE_SIZE - (int64_t)iso_size(s) ||
            (i && s->dts <= s[-1].dts))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct iso_movie *movie = NULL;
    uint8_t *moov = malloc(size ? size : 1);
    if (!moov)
        return 0;
    if (size)
        memcpy(moov, data, size);
    if (iso_movie_read(moov, size, FILE_SIZE, SAMPLES_MAX, &movie) == SG_OK) {
        if (movie->n_tracks == 0)
            abort();
        for (uint32_t i = 0; i < movie->n_tracks; i++)
            check(&movie->tracks[i]);
        iso_movie_hide(movie, moov);
        iso_movie_free(&movie);
        if (iso_movie_read(moov, size, FILE_SIZE, SAMPLES_MAX, &movie) == SG_OK)
            abort();
    }
    free(moov);
    return 0;
}
