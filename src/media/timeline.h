/* How the segments of two tracks of one index lie against each other, and exact comparison of times
 * in different timescales. Each audio segment starts within exactly one muxed segment: the video
 * segment during which it starts (the first takes everything before, too), or one of its own when
 * it starts at or after the video's end (a tail segment). Pure. */
#ifndef STREAMGATE_MEDIA_TIMELINE_H
#define STREAMGATE_MEDIA_TIMELINE_H

#include "streamgate/media/index.h"

/* Sign of a/ascale - b/bscale, exactly. */
int timeline_compare(int64_t a, uint32_t ascale, int64_t b, uint32_t bscale);
/* Number of the first audio segment that is a tail; audio->n_segments when none is. */
uint32_t timeline_first_tail(const struct sg_track *video, const struct sg_track *audio);
/* The audio segments [*first, *end) that belong to muxed segment `number`; empty ranges happen. */
void timeline_audio_of(const struct sg_track *video, const struct sg_track *audio, uint32_t number,
                       uint32_t *first, uint32_t *end);
/* t / timescale in microseconds, rounded to nearest. */
int64_t timeline_us(int64_t t, uint32_t timescale);

#endif
