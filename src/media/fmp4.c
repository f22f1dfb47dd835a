/* See fmp4.h. Box layout of a fragment, all numbers big-endian:
 *   moof { mfhd, traf { tfhd (default-base-is-moof, default flags), tfdt (version 1), trun (version
 * 1) } } mdat A trun row is {duration, size, flags, composition offset} for video and {duration,
 * size} for audio. */
#include "fmp4.h"

#include <stdlib.h>
#include <string.h>

#include "streamgate/media/index.h"

enum {
    BOX = 8,
    MFHD = 16,
    TFHD = 20,
    TFDT = 20,
    TRUN = 20,
    ROW_VIDEO = 16,
    ROW_AUDIO = 8,
    GROUP_LOOK_BACK = 32, /* frames: more than any codec reorders by */
};

/* 8.8.3.1: depends on no other sample, is a sync sample / depends on others, is none. */
#define FLAGS_SYNC UINT32_C(0x02000000)
#define FLAGS_NON_SYNC UINT32_C(0x01010000)
#define TFHD_FLAGS UINT32_C(0x020020) /* default-base-is-moof, default-sample-flags-present */
#define TRUN_AUDIO UINT32_C(0x000301) /* data offset, sample durations, sizes */
#define TRUN_VIDEO UINT32_C(0x000f01) /* and flags, composition offsets */

uint64_t fmp4_overhead(bool video, uint32_t n)
{
    return BOX + MFHD + BOX + TFHD + TFDT + TRUN + (uint64_t)n * (video ? ROW_VIDEO : ROW_AUDIO) +
           BOX;
}

static uint8_t *put_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
    return p + 4;
}

static uint8_t *put_box(uint8_t *p, uint64_t size, const char type[4])
{
    p = put_u32(p, (uint32_t)size);
    memcpy(p, type, 4);
    return p + 4;
}

/* One trun row; false when a number does not fit. */
static bool put_row(uint8_t **p, const struct fmp4_fragment *f, uint32_t i)
{
    const struct fmp4_sample *s = &f->samples[i];
    int64_t next = i + 1 < f->n ? s[1].dts : f->end_dts;
    int64_t duration = next - s->dts, offset = s->pts - s->dts;
    if (duration < 0 || duration > UINT32_MAX || offset < INT32_MIN || offset > INT32_MAX)
        return false;
    *p = put_u32(*p, (uint32_t)duration);
    *p = put_u32(*p, s->size);
    if (f->video) {
        *p = put_u32(*p, s->key ? FLAGS_SYNC : FLAGS_NON_SYNC);
        *p = put_u32(*p, (uint32_t)(int32_t)offset);
    }
    return true;
}

enum sg_error fmp4_write_header(const struct fmp4_fragment *f, uint8_t *out, size_t size)
{
    uint64_t overhead = fmp4_overhead(f->video, f->n), payload = 0;
    for (uint32_t i = 0; i < f->n; i++)
        payload += f->samples[i].size;
    int64_t base = f->samples[0].dts + (int64_t)SG_TIMELINE_OFFSET_S * f->timescale;
    if (f->n == 0 || size < overhead || overhead > INT32_MAX || payload + BOX > UINT32_MAX ||
        base < 0)
        return SG_ERR_INVALID;
    uint64_t rows = (uint64_t)f->n * (f->video ? ROW_VIDEO : ROW_AUDIO);
    uint64_t moof = overhead - BOX;
    uint8_t *p = put_box(out, moof, "moof");
    p = put_box(p, MFHD, "mfhd");
    p = put_u32(p, 0);
    p = put_u32(p, f->sequence);
    p = put_box(p, BOX + TFHD + TFDT + TRUN + rows, "traf");
    p = put_box(p, TFHD, "tfhd");
    p = put_u32(p, TFHD_FLAGS);
    p = put_u32(p, 1);
    p = put_u32(p, f->video ? FLAGS_NON_SYNC : FLAGS_SYNC);
    p = put_box(p, TFDT, "tfdt");
    p = put_u32(p, UINT32_C(1) << 24);
    p = put_u32(p, (uint32_t)((uint64_t)base >> 32));
    p = put_u32(p, (uint32_t)base);
    p = put_box(p, TRUN + rows, "trun");
    p = put_u32(p, (UINT32_C(1) << 24) | (f->video ? TRUN_VIDEO : TRUN_AUDIO));
    p = put_u32(p, f->n);
    p = put_u32(p, (uint32_t)overhead); /* from the start of moof to the first sample */
    for (uint32_t i = 0; i < f->n; i++)
        if (!put_row(&p, f, i))
            return SG_ERR_INVALID;
    p = put_box(p, payload + BOX, "mdat");
    return p == out + overhead ? SG_OK : SG_ERR_INTERNAL;
}

/* Distinct at `timescale` and, rounded, at 90 kHz. */
static int64_t least_step(uint32_t timescale)
{
    return timescale / 90000 + (timescale % 90000 != 0);
}

/* What precedes time 0: a second less than the offset, as the clock of MPEG-TS runs ahead of
 * decoding. */
static int64_t decode_floor(uint32_t timescale)
{
    return -(int64_t)(SG_TIMELINE_OFFSET_S - 1) * timescale;
}

int64_t fmp4_decode_time(int64_t dts, uint64_t n, uint32_t timescale)
{
    int64_t rank = n < FMP4_EARLY_MAX ? (int64_t)n : FMP4_EARLY_MAX;
    int64_t least = decode_floor(timescale) + rank * least_step(timescale);
    return dts > least ? dts : least;
}

bool fmp4_decode_early(int64_t dts, uint32_t timescale)
{
    return dts < fmp4_decode_time(INT64_MIN, FMP4_EARLY_MAX, timescale);
}

/* The distance of two squeezed frames: more than a thousandth of a visible frame's time, since some
 * players take a larger change of pace for a discontinuity. */
static int64_t squeeze_step(const struct fmp4_sample *samples, uint32_t n, uint32_t timescale)
{
    int64_t step = least_step(timescale), pace = 0;
    for (uint32_t i = 1; i < n; i++)
        if (samples[i].dts - samples[i - 1].dts > pace &&
            samples[i].dts - samples[i - 1].dts < timescale)
            pace = samples[i].dts - samples[i - 1].dts;
    return pace / 1000 + 1 > step ? pace / 1000 + 1 : step;
}

static int by_pts(const void *a, const void *b)
{
    const struct fmp4_sample *x = *(struct fmp4_sample *const *)a,
                             *y = *(struct fmp4_sample *const *)b;
    return x->pts < y->pts ? -1 : x->pts > y->pts;
}

/* Decode times of the frames before the first visible one: packed before its own, early enough for
 * every presentation time. */
static void pack_decode_times(struct fmp4_sample *samples, uint32_t lead, int64_t step)
{
    int64_t base = samples[lead].dts;
    for (uint32_t i = 0; i < lead; i++) {
        int64_t latest = samples[i].pts + (int64_t)(lead - i) * step;
        if (latest < base)
            base = latest;
    }
    for (uint32_t i = 0; i < lead; i++)
        samples[i].dts = base - (int64_t)(lead - i) * step;
}

/* Presentation times of the discarded frames that follow the first visible one: just after the last
 * visible frame that is shown before them, which is any of an earlier group of pictures and those
 * of their own with a smaller time. `order`: all samples by pts. */
static void pack_late(struct fmp4_sample *samples, uint32_t n, struct fmp4_sample **order,
                      int64_t step)
{
    int64_t shown = INT64_MIN, last = INT64_MIN;
    for (uint32_t i = 0; i < n; i++) {
        struct fmp4_sample *s = order[i];
        if (!s->discard) {
            shown = s->pts;
            continue;
        }
        if (shown == INT64_MIN)
            continue;
        struct fmp4_sample *group = s;
        while (group > samples && !group->key)
            group--;
        int64_t base = shown;
        for (struct fmp4_sample *g = group; g > samples && group - g < GROUP_LOOK_BACK; g--)
            if (!g[-1].discard && g[-1].pts > base)
                base = g[-1].pts;
        last = last >= base ? last + step : base + step;
        s->pts = last;
    }
}

enum sg_error fmp4_squeeze(struct fmp4_sample *samples, uint32_t n, uint32_t timescale)
{
    uint32_t discards = 0, lead = n, early = 0;
    for (uint32_t i = 0; i < n; i++) {
        discards += samples[i].discard;
        if (!samples[i].discard && lead == n)
            lead = i;
    }
    if (discards == 0 || lead == n)
        return SG_OK;
    struct fmp4_sample **order = calloc(n, sizeof(struct fmp4_sample *));
    if (!order)
        return SG_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < n; i++)
        order[i] = &samples[i];
    qsort(order, n, sizeof(struct fmp4_sample *), by_pts);
    int64_t step = squeeze_step(samples, n, timescale);
    while (order[early]->discard)
        early++;
    pack_late(samples, n, order, step);
    int64_t first_pts = order[early]->pts;
    for (uint32_t i = 0; i < early; i++)
        order[i]->pts = first_pts - (int64_t)(early - i) * step;
    pack_decode_times(samples, lead, step);
    for (uint32_t i = 1; i < n; i++)
        if (samples[i].dts <= samples[i - 1].dts)
            samples[i].dts = samples[i - 1].dts + step;
    free(order);
    return SG_OK;
}
