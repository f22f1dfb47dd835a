/* See timeline.h. Times are below 2^56 and timescales below 2^32, so a product needs up to 88 bits.
 */
#include "timeline.h"

int timeline_compare(int64_t a, uint32_t ascale, int64_t b, uint32_t bscale)
{
    __int128 left = (__int128)a * bscale, right = (__int128)b * ascale;
    return left < right ? -1 : left > right;
}

/* First audio segment that starts at or after t. */
static uint32_t first_at(const struct sg_track *audio, int64_t t, uint32_t timescale)
{
    uint32_t low = 0, high = audio->n_segments;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (timeline_compare(audio->segments[mid].start, audio->timescale, t, timescale) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

uint32_t timeline_first_tail(const struct sg_track *video, const struct sg_track *audio)
{
    return first_at(audio, video->start + (int64_t)video->duration, video->timescale);
}

void timeline_audio_of(const struct sg_track *video, const struct sg_track *audio, uint32_t number,
                       uint32_t *first, uint32_t *end)
{
    uint32_t tail = timeline_first_tail(video, audio);
    if (number >= video->n_segments) {
        uint64_t n = (uint64_t)tail + (number - video->n_segments);
        *first = n < audio->n_segments ? (uint32_t)n : audio->n_segments;
        *end = n < audio->n_segments ? (uint32_t)n + 1 : audio->n_segments;
        return;
    }
    *first = number == 0 ? 0 : first_at(audio, video->segments[number].start, video->timescale);
    *end = number + 1 == video->n_segments
               ? tail
               : first_at(audio, video->segments[number + 1].start, video->timescale);
}

int64_t timeline_us(int64_t t, uint32_t timescale)
{
    __int128 scaled = (__int128)t * 1000000, half = timescale / 2;
    return (int64_t)((scaled + (scaled < 0 ? -half : half)) / timescale);
}
