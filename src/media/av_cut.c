/* See av_cut.h. */
#include "av_cut.h"

#include <stdlib.h>

/* The last frame's duration is believed up to this, as slides are shown for that long, and as long
 * as the one before took; else sample tables can claim anything. */
static const int64_t LAST_FRAME_MAX_S = 60;

enum sg_error cutter_flush(struct cutter *c, bool video, uint64_t max_bytes,
                           char why[SG_MEDIA_MESSAGE_MAX])
{
    c->current.bytes_fmp4 = c->payload + fmp4_overhead(video, c->current.samples);
    if (c->current.bytes_fmp4 > max_bytes || c->current.bytes_ts > max_bytes ||
        c->payload > UINT32_MAX - 8)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                         "Segment %zu would be %llu bytes, as the file has no key frame for so "
                         "long; at most %llu fit.",
                         c->n, (unsigned long long)c->current.bytes_fmp4,
                         (unsigned long long)max_bytes);
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 64;
        struct sg_segment *grown = realloc(c->segments, cap * sizeof(*grown));
        if (!grown)
            return SG_ERR_NO_MEMORY;
        c->segments = grown;
        c->cap = cap;
    }
    c->segments[c->n++] = c->current;
    c->current = (struct sg_segment){0};
    c->payload = 0;
    return SG_OK;
}

enum sg_error cutter_finish(struct cutter *c, struct sg_track *t, int64_t end)
{
    for (size_t i = 0; i < c->n; i++) {
        int64_t next = i + 1 < c->n ? c->segments[i + 1].start : end;
        if (next <= c->segments[i].start)
            return SG_ERR_UNPROCESSABLE;
        c->segments[i].duration = (uint64_t)(next - c->segments[i].start);
        t->samples += c->segments[i].samples;
    }
    t->start = c->segments[0].start;
    t->duration = (uint64_t)(end - t->start);
    t->n_segments = (uint32_t)c->n;
    t->segments = c->segments;
    c->segments = NULL;
    return SG_OK;
}

int64_t usual_duration(const AVStream *stream, int64_t delta)
{
    if (delta > 0 && delta <= LAST_FRAME_MAX_S * stream->time_base.den)
        return delta;
    int64_t frame = stream->time_base.den / 25;
    return frame ? frame : 1;
}

int64_t last_duration(const struct sgav_source *source, const AVStream *stream, int64_t first_dts,
                      int64_t last_dts, int64_t delta)
{
    int64_t left = 0, longest = LAST_FRAME_MAX_S * stream->time_base.den;
    if (delta > longest)
        longest = delta;
    if (!source->iso.fragmented && stream->duration > 0 &&
        time_sane(stream->duration, (uint32_t)stream->time_base.den))
        left = first_dts + stream->duration - last_dts;
    return left > 0 && left <= longest ? left : usual_duration(stream, delta);
}
