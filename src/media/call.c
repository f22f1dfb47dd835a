/* See call.h. */
#include "call.h"

#include <string.h>

#include "streamgate/media/storyboard.h"

#include "fmp4.h"
#include "timeline.h"
#include "wire.h"

enum { CALL_VERSION = 3 };

static void put_part(struct wire_out *w, const struct media_part *p)
{
    wire_put_u32(w, p->stream);
    wire_put_u8(w, (uint8_t)p->kind);
    wire_put_u8(w, (uint8_t)p->codec);
    wire_put_u32(w, p->timescale);
    wire_put_i64(w, p->seek_dts);
    wire_put_u32(w, p->samples);
    wire_put_u8(w, p->last);
    wire_put_i64(w, p->end);
}

enum sg_error media_call_encode(const struct media_call *call, uint8_t out[MEDIA_CALL_MAX],
                                size_t *out_len)
{
    struct wire_out w = {.ptr = out, .cap = MEDIA_CALL_MAX};
    wire_put_u8(&w, CALL_VERSION);
    wire_put_u8(&w, (uint8_t)call->op);
    wire_put_text(&w, call->key);
    wire_put_u64(&w, call->limits.max_pixels);
    wire_put_u64(&w, call->limits.max_duration_ms);
    wire_put_u64(&w, call->limits.max_frames);
    wire_put_u32(&w, call->limits.max_streams);
    wire_put_u64(&w, call->limits.max_body_bytes);
    wire_put_u32(&w, call->limits.segment_ms);
    wire_put_u32(&w, call->limits.open_contexts);
    wire_put_u32(&w, call->number);
    wire_put_u64(&w, call->bytes);
    wire_put_i64(&w, call->start);
    wire_put_u64(&w, call->time_ms);
    wire_put_u8(&w, call->any);
    wire_put_u32(&w, call->width);
    wire_put_u32(&w, call->height);
    wire_put_u32(&w, call->count);
    wire_put_u32(&w, call->n_parts);
    for (uint32_t i = 0; i < call->n_parts; i++)
        put_part(&w, &call->parts[i]);
    if (w.failed)
        return SG_ERR_INTERNAL;
    *out_len = w.len;
    return SG_OK;
}

static void get_part(struct wire_in *r, struct media_part *p)
{
    p->stream = wire_get_u32(r);
    uint8_t kind = wire_get_u8(r), codec = wire_get_u8(r);
    p->kind = (enum sg_track_kind)kind;
    p->codec = (enum sg_codec)codec;
    p->timescale = wire_get_u32(r);
    p->seek_dts = wire_get_i64(r);
    p->samples = wire_get_u32(r);
    p->last = wire_get_bool(r);
    p->end = wire_get_i64(r);
    if (kind > SG_TRACK_AUDIO || codec >= SG_CODEC_COUNT || !p->timescale)
        r->failed = true;
}

enum sg_error media_call_decode(const uint8_t *bytes, size_t len, struct media_call *out)
{
    struct wire_in r = {.ptr = bytes, .len = len};
    struct media_call c = {0};
    uint8_t version = wire_get_u8(&r), op = wire_get_u8(&r);
    if (version != CALL_VERSION || op < MEDIA_OP_PROBE || op >= MEDIA_OP_END)
        return SG_ERR_INVALID;
    c.op = (enum media_op)op;
    wire_get_text(&r, c.key, sizeof(c.key));
    c.limits.max_pixels = wire_get_u64(&r);
    c.limits.max_duration_ms = wire_get_u64(&r);
    c.limits.max_frames = wire_get_u64(&r);
    c.limits.max_streams = wire_get_u32(&r);
    c.limits.max_body_bytes = wire_get_u64(&r);
    c.limits.segment_ms = wire_get_u32(&r);
    c.limits.open_contexts = wire_get_u32(&r);
    c.number = wire_get_u32(&r);
    c.bytes = wire_get_u64(&r);
    c.start = wire_get_i64(&r);
    c.time_ms = wire_get_u64(&r);
    c.any = wire_get_bool(&r);
    c.width = wire_get_u32(&r);
    c.height = wire_get_u32(&r);
    c.count = wire_get_u32(&r);
    c.n_parts = wire_get_u32(&r);
    if (r.failed || c.n_parts > MEDIA_PARTS_MAX || c.limits.segment_ms == 0 || !c.key[0])
        return SG_ERR_INVALID;
    for (uint32_t i = 0; i < c.n_parts; i++)
        get_part(&r, &c.parts[i]);
    if (r.failed || r.len)
        return SG_ERR_INVALID;
    *out = c;
    return SG_OK;
}

/* Segments [first, end) of a track. */
static struct media_part part_of(const struct sg_track *t, uint32_t first, uint32_t end)
{
    struct media_part p = {
        .stream = t->stream, .kind = t->kind, .codec = t->codec, .timescale = t->timescale};
    p.seek_dts = t->segments[first].seek_dts;
    for (uint32_t i = first; i < end; i++)
        p.samples += t->segments[i].samples;
    p.last = end == t->n_segments;
    p.end = p.last ? t->start + (int64_t)t->duration : t->segments[end].seek_dts;
    return p;
}

static enum sg_error ts_parts(const struct sg_render *r, struct media_call *c)
{
    const struct sg_track *main = sg_media_index_main(r->index),
                          *audio = sg_media_index_audio(r->index);
    if (r->track != main || r->number >= sg_media_index_ts_segments(r->index))
        return SG_ERR_INVALID;
    if (main->kind == SG_TRACK_AUDIO) {
        c->parts[c->n_parts++] = part_of(main, r->number, r->number + 1);
        return SG_OK;
    }
    if (r->number < main->n_segments)
        c->parts[c->n_parts++] = part_of(main, r->number, r->number + 1);
    uint32_t first = 0, end = 0;
    if (audio)
        timeline_audio_of(main, audio, r->number, &first, &end);
    if (first < end)
        c->parts[c->n_parts++] = part_of(audio, first, end);
    return SG_OK;
}

/* The first sample of a segment, shown until the next that is offered; the first of all from the
 * beginning. */
static enum sg_error key_part(const struct sg_render *r, struct media_call *c)
{
    const struct sg_track *t = r->track;
    if (!r->index->fmp4 || r->number >= t->n_segments || !t->segments[r->number].key_bytes)
        return SG_ERR_INVALID;
    uint32_t next = r->number + 1, first = 0;
    while (!t->segments[first].key_bytes)
        first++;
    while (next < t->n_segments && !t->segments[next].key_bytes)
        next++;
    c->parts[c->n_parts++] = (struct media_part){
        .stream = t->stream,
        .kind = t->kind,
        .codec = t->codec,
        .timescale = t->timescale,
        .seek_dts = t->segments[r->number].seek_dts,
        .samples = 1,
        .last = true,
        .end = next < t->n_segments ? t->segments[next].start : t->start + (int64_t)t->duration,
    };
    c->start = first == r->number ? t->start : t->segments[r->number].start;
    c->bytes = fmp4_overhead(true, 1) + t->segments[r->number].key_bytes;
    return SG_OK;
}

static enum sg_error sheet_of(const struct sg_render *r, struct media_call *c)
{
    struct sg_storyboard board;
    if (sg_storyboard_layout(r->index, &board) || r->number >= board.sheets)
        return SG_ERR_INVALID;
    c->time_ms = board.interval_ms;
    c->width = board.tile_width;
    c->height = board.tile_height;
    c->count = sg_storyboard_on_sheet(&board, r->number);
    return SG_OK;
}

enum sg_error media_call_of_render(const struct sg_render *r, struct media_call *out)
{
    static const enum media_op ops[] = {
        [SG_RENDER_INIT] = MEDIA_OP_INIT,
        [SG_RENDER_SEGMENT_FMP4] = MEDIA_OP_FMP4,
        [SG_RENDER_SEGMENT_TS] = MEDIA_OP_TS,
        [SG_RENDER_POSTER] = MEDIA_OP_POSTER,
        [SG_RENDER_STORYBOARD] = MEDIA_OP_STORYBOARD,
        [SG_RENDER_IFRAME] = MEDIA_OP_IFRAME,
    };
    struct media_call c = {.op = ops[r->kind], .limits = *r->limits, .number = r->number};
    size_t key_len = strlen(r->key);
    if (key_len == 0 || key_len >= sizeof(c.key))
        return SG_ERR_INVALID;
    memcpy(c.key, r->key, key_len + 1);
    if (r->kind == SG_RENDER_POSTER) {
        c.time_ms = r->time_ms < r->index->duration_ms ? r->time_ms : r->index->duration_ms;
        c.any = r->time_ms == SG_POSTER_ANY;
        c.width = r->width;
    } else if (r->kind == SG_RENDER_STORYBOARD) {
        enum sg_error err = sheet_of(r, &c);
        if (err)
            return err;
    } else if (r->kind == SG_RENDER_IFRAME) {
        enum sg_error err = key_part(r, &c);
        if (err)
            return err;
    } else if (r->kind == SG_RENDER_SEGMENT_TS) {
        enum sg_error err = r->index->ts ? ts_parts(r, &c) : SG_ERR_INVALID;
        if (err)
            return err;
    } else {
        uint32_t number = r->kind == SG_RENDER_INIT ? 0 : r->number;
        if (!r->index->fmp4 || number >= r->track->n_segments)
            return SG_ERR_INVALID;
        c.parts[c.n_parts++] = part_of(r->track, number, number + 1);
        c.bytes = r->track->segments[number].bytes_fmp4;
    }
    *out = c;
    return SG_OK;
}
