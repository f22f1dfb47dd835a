/* See rows.h. */
#include "rows.h"

#include <stdlib.h>

#include "timeline.h"

static int64_t segment_end(const struct sg_track *t, uint32_t i)
{
    return t->segments[i].start + (int64_t)t->segments[i].duration;
}

static void rows_of_track(const struct sg_track *t, bool ts, struct rows *out)
{
    for (uint32_t i = 0; i < t->n_segments; i++)
        out->row[i] = (struct row){
            .start_us = timeline_us(t->segments[i].start, t->timescale),
            .end_us = timeline_us(segment_end(t, i), t->timescale),
            .bytes = ts ? t->segments[i].bytes_ts : t->segments[i].bytes_fmp4,
        };
    out->n = t->n_segments;
}

/* Where audio outlasts the video, the muxed form goes on: within the last video segment, or in tail
 * segments of its own. */
static void rows_of_muxed(const struct sg_track *video, const struct sg_track *audio,
                          struct rows *out)
{
    rows_of_track(video, true, out);
    uint32_t tail = timeline_first_tail(video, audio);
    int64_t heard_us = audio->start > 0 ? timeline_us(audio->start, audio->timescale) : 0;
    if (heard_us < out->row[0].start_us)
        out->row[0].start_us = heard_us;
    struct row *last = &out->row[out->n - 1];
    int64_t audio_us =
        tail < audio->n_segments
            ? timeline_us(audio->segments[tail].start, audio->timescale)
            : timeline_us(segment_end(audio, audio->n_segments - 1), audio->timescale);
    if (audio_us > last->end_us)
        last->end_us = audio_us;
    for (uint32_t i = tail; i < audio->n_segments; i++)
        out->row[out->n++] = (struct row){
            .start_us = timeline_us(audio->segments[i].start, audio->timescale),
            .end_us = timeline_us(segment_end(audio, i), audio->timescale),
            .bytes = audio->segments[i].bytes_ts,
        };
}

enum sg_error rows_create(const struct sg_media_index *index, const struct sg_track *track, bool ts,
                          struct rows *out)
{
    const struct sg_track *audio = sg_media_index_audio(index);
    bool muxed = ts && track->kind == SG_TRACK_VIDEO && audio;
    out->row =
        calloc((size_t)track->n_segments + (muxed ? audio->n_segments : 0), sizeof(*out->row));
    if (!out->row)
        return SG_ERR_NO_MEMORY;
    if (muxed)
        rows_of_muxed(track, audio, out);
    else
        rows_of_track(track, ts, out);
    return SG_OK;
}

void rows_destroy(struct rows *rows)
{
    free(rows->row);
    *rows = (struct rows){0};
}

uint64_t rows_target_s(const struct rows *rows)
{
    uint64_t target = 1;
    for (uint32_t i = 0; i < rows->n; i++) {
        uint64_t s = ((uint64_t)(rows->row[i].end_us - rows->row[i].start_us) + 500000) / 1000000;
        if (s > target)
            target = s;
    }
    return target;
}

static uint64_t bit_rate(uint64_t bytes, int64_t us)
{
    double rate = us > 0 ? (double)bytes * 8e6 / (double)us : 0;
    return rate < 9e18 ? (uint64_t)rate + 1 : UINT64_MAX / 2;
}

static uint64_t peak_rate(const struct rows *rows)
{
    int64_t target_us = (int64_t)rows_target_s(rows) * 1000000;
    uint64_t peak = 0, any = 0;
    for (uint32_t i = 0; i < rows->n; i++) {
        uint64_t bytes = 0;
        for (uint32_t k = i; k < rows->n; k++) {
            int64_t us = rows->row[k].end_us - rows->row[i].start_us;
            bytes += rows->row[k].bytes;
            uint64_t rate = bit_rate(bytes, us);
            if (k == i && rate > any)
                any = rate;
            if (2 * us > 3 * target_us)
                break;
            if (2 * us >= target_us && rate > peak)
                peak = rate;
        }
    }
    return peak ? peak : any;
}

static uint64_t average_rate(const struct rows *rows)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < rows->n; i++)
        bytes += rows->row[i].bytes;
    return bit_rate(bytes, rows->row[rows->n - 1].end_us - rows->row[0].start_us);
}

struct rates rows_rates(const struct rows *rows)
{
    return (struct rates){.peak = peak_rate(rows), .average = average_rate(rows)};
}
