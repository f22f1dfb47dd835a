/* Events and result of a transcoding as bytes. What comes from the process is held against the
 * plan, against what was said before and against the files themselves. See transcode_wire.h. */
#include "transcode_wire.h"

#include <stdlib.h>
#include <string.h>

#include "streamgate/base/fs.h"

#include "wire.h"

/* As in the index: far beyond any real value, and sums cannot overflow. */
static const int64_t TIME_MAX = INT64_C(1) << 56;

static bool is_time(int64_t t)
{
    return t > -TIME_MAX && t < TIME_MAX;
}

/* Whether a file holds `end` bytes. */
static enum sg_error reaches(int fd, uint64_t end)
{
    uint64_t size = 0;
    enum sg_error err = sg_fs_size(fd, &size);
    if (err)
        return err;
    return end <= size ? SG_OK : SG_ERR_MEDIA_WORKER;
}

/* ---- events ---- */

static enum sg_error put_track(struct wire_out *w, const struct sg_track *track)
{
    const struct sg_segment one = {.duration = 1, .bytes_fmp4 = 1, .samples = 1};
    struct sg_track t = *track;
    struct sg_media_index index = {
        .content_type = "video/mp4", .format = "mp4", .duration_ms = 1, .fmp4 = true};
    void *bytes = NULL;
    size_t len = 0;
    memcpy(t.name, "live", sizeof("live"));
    t.stream = 0;
    t.is_default = t.kind == SG_TRACK_AUDIO;
    t.stream_tb_num = 1;
    t.stream_tb_den = t.timescale;
    t.start = 0;
    t.duration = 1;
    t.bytes = 0;
    t.samples = 1;
    t.n_segments = 1;
    t.segments = &one;
    index.n_tracks = 1;
    index.tracks = &t;
    enum sg_error err = sg_media_index_encode(&index, &bytes, &len);
    if (err)
        return err;
    if (w->cap - w->len < len) {
        w->failed = true;
    } else {
        memcpy(w->ptr + w->len, bytes, len);
        w->len += len;
    }
    free(bytes);
    return SG_OK;
}

static void put_segment(struct wire_out *w, const struct sg_transcode_event *e)
{
    wire_put_u64(w, e->offset);
    wire_put_i64(w, e->segment.start);
    wire_put_u64(w, e->segment.duration);
    wire_put_u64(w, e->segment.bytes_fmp4);
    wire_put_u32(w, e->segment.samples);
    wire_put_u32(w, e->segment.key_bytes);
}

enum sg_error transcode_event_encode(const struct sg_transcode_event *e,
                                     uint8_t bytes[TRANSCODE_EVENT_MAX], size_t *out_len)
{
    struct wire_out w = {.ptr = bytes, .cap = TRANSCODE_EVENT_MAX};
    enum sg_error err = SG_OK;
    wire_put_u8(&w, (uint8_t)e->kind);
    if (e->kind == SG_TRANSCODE_PROGRESS) {
        wire_put_u64(&w, e->done_us);
        wire_put_u64(&w, e->frames);
    } else {
        wire_put_u32(&w, e->output);
        if (e->kind == SG_TRANSCODE_LIVE_TRACK) {
            wire_put_u64(&w, e->bytes);
            err = put_track(&w, &e->track);
        } else {
            put_segment(&w, e);
        }
    }
    if (!err && w.failed)
        err = SG_ERR_INTERNAL;
    if (!err)
        *out_len = w.len;
    return err;
}

static bool get_progress(struct wire_in *r, struct transcode_hearing *h,
                         struct sg_transcode_event *e)
{
    e->done_us = wire_get_u64(r);
    e->frames = wire_get_u64(r);
    if (r->failed || r->len || e->done_us < h->done_us || e->done_us > (uint64_t)TIME_MAX ||
        e->frames < h->frames || e->frames > (uint64_t)TIME_MAX)
        return false;
    h->done_us = e->done_us;
    h->frames = e->frames;
    return true;
}

/* Whether the track is the kind the plan has as the output's main one. */
static bool track_is_planned(const struct sg_track *t, const struct sg_transcode_output *o)
{
    if (t->kind != (o->video == SG_TRANSCODE_VIDEO_NONE ? SG_TRACK_AUDIO : SG_TRACK_VIDEO))
        return false;
    if (o->video == SG_TRANSCODE_VIDEO_H264)
        return t->codec == SG_CODEC_H264 && t->display_width == o->width &&
               t->display_height == o->height && t->rotation == 0;
    return o->video == SG_TRANSCODE_VIDEO_COPY || o->audios[0].copy || t->codec == SG_CODEC_AAC;
}

static enum sg_error get_track(struct wire_in *r, const struct sg_transcode_output *o,
                               struct transcode_live *live, struct sg_transcode_event *e)
{
    struct sg_media_index *index = NULL;
    e->bytes = wire_get_u64(r);
    if (r->failed || live->announced || e->bytes == 0 || e->bytes > UINT32_MAX)
        return SG_ERR_MEDIA_WORKER;
    enum sg_error err = reaches(o->live_fd, e->bytes);
    if (!err)
        err = sg_media_index_decode(r->ptr, r->len, &index);
    if (err)
        return err;
    if (index->n_tracks != 1 || index->tracks[0].n_segments != 1 ||
        !track_is_planned(&index->tracks[0], o)) {
        err = SG_ERR_MEDIA_WORKER;
    } else {
        e->track = index->tracks[0];
        /* What stands for nothing. */
        memset(e->track.name, 0, sizeof(e->track.name));
        e->track.stream = e->track.stream_tb_num = e->track.stream_tb_den = 0;
        e->track.start = 0;
        e->track.duration = e->track.bytes = 0;
        e->track.samples = e->track.n_segments = 0;
        e->track.segments = NULL;
        *live = (struct transcode_live){.announced = true, .bytes = e->bytes};
    }
    sg_media_index_unref(index);
    return err;
}

static bool segment_holds(const struct sg_segment *s, const struct transcode_live *live)
{
    return is_time(s->start) && s->duration > 0 &&
           s->duration <= (uint64_t)TIME_MAX - live->lasted && s->bytes_fmp4 > 0 &&
           s->bytes_fmp4 <= UINT32_MAX && s->samples > 0 && s->key_bytes < s->bytes_fmp4 &&
           (live->segments == 0 || s->start == live->end);
}

static enum sg_error get_segment(struct wire_in *r, const struct sg_transcode_output *o,
                                 struct transcode_live *live, struct sg_transcode_event *e)
{
    struct sg_segment *s = &e->segment;
    e->offset = wire_get_u64(r);
    s->start = wire_get_i64(r);
    s->duration = wire_get_u64(r);
    s->bytes_fmp4 = wire_get_u64(r);
    s->samples = wire_get_u32(r);
    s->key_bytes = wire_get_u32(r);
    if (r->failed || r->len || !live->announced || live->segments == UINT32_MAX ||
        e->offset != live->bytes || !segment_holds(s, live) ||
        (s->key_bytes && o->video == SG_TRANSCODE_VIDEO_NONE))
        return SG_ERR_MEDIA_WORKER;
    enum sg_error err = reaches(o->live_fd, e->offset + s->bytes_fmp4);
    if (err)
        return err;
    live->segments++;
    live->bytes += s->bytes_fmp4;
    live->end = s->start + (int64_t)s->duration;
    live->lasted += s->duration;
    return SG_OK;
}

enum sg_error transcode_event_decode(struct transcode_hearing *h, const uint8_t *bytes, size_t len,
                                     struct sg_transcode_event *out)
{
    struct wire_in r = {.ptr = bytes, .len = len};
    struct sg_transcode_event e = {0};
    enum sg_error err;
    uint8_t kind = wire_get_u8(&r);
    if (r.failed || kind > SG_TRANSCODE_LIVE_SEGMENT)
        return SG_ERR_MEDIA_WORKER;
    e.kind = (enum sg_transcode_event_kind)kind;
    if (e.kind == SG_TRANSCODE_PROGRESS) {
        err = get_progress(&r, h, &e) ? SG_OK : SG_ERR_MEDIA_WORKER;
    } else {
        e.output = wire_get_u32(&r);
        if (r.failed || e.output >= h->plan->n_outputs || h->plan->outputs[e.output].live_fd < 0)
            return SG_ERR_MEDIA_WORKER;
        const struct sg_transcode_output *o = &h->plan->outputs[e.output];
        struct transcode_live *live = &h->live[e.output];
        err = e.kind == SG_TRANSCODE_LIVE_TRACK ? get_track(&r, o, live, &e)
                                                : get_segment(&r, o, live, &e);
        /* They are read into memory when somebody asks. */
        uint64_t piece = e.kind == SG_TRANSCODE_LIVE_TRACK ? e.bytes : e.segment.bytes_fmp4;
        if (!err && piece > h->plan->limits->max_body_bytes)
            err = SG_ERR_MEDIA_WORKER;
    }
    if (!err)
        *out = e;
    return err;
}

/* ---- the result ---- */

enum sg_error transcode_result_encode(const struct sg_transcode *t,
                                      const struct sg_transcode_result *result,
                                      uint8_t bytes[TRANSCODE_RESULT_MAX], size_t *out_len)
{
    struct wire_out w = {.ptr = bytes, .cap = TRANSCODE_RESULT_MAX};
    wire_put_u64(&w, result->decoded);
    for (uint32_t i = 0; i < t->n_outputs; i++) {
        wire_put_u64(&w, result->video[i].frames);
        wire_put_i64(&w, result->video[i].start_us);
        wire_put_i64(&w, result->video[i].end_us);
        wire_put_u64(&w, result->bytes[i]);
    }
    if (w.failed)
        return SG_ERR_INTERNAL;
    *out_len = w.len;
    return SG_OK;
}

static bool video_holds(const struct sg_transcode_output *o, uint64_t frames, int64_t start_us,
                        int64_t end_us)
{
    if (o->video == SG_TRANSCODE_VIDEO_NONE)
        return frames == 0 && start_us == 0 && end_us == 0;
    return frames > 0 && frames <= (uint64_t)TIME_MAX && is_time(start_us) && is_time(end_us) &&
           start_us < end_us;
}

enum sg_error transcode_result_decode(const struct sg_transcode *t, const uint8_t *bytes,
                                      size_t len, struct sg_transcode_result *out)
{
    struct wire_in r = {.ptr = bytes, .len = len};
    struct sg_transcode_result got = {0};
    got.decoded = wire_get_u64(&r);
    if (got.decoded > (uint64_t)TIME_MAX)
        return SG_ERR_MEDIA_WORKER;
    for (uint32_t i = 0; i < t->n_outputs; i++) {
        uint64_t size = 0;
        got.video[i].frames = wire_get_u64(&r);
        got.video[i].start_us = wire_get_i64(&r);
        got.video[i].end_us = wire_get_i64(&r);
        got.bytes[i] = wire_get_u64(&r);
        if (r.failed || got.bytes[i] == 0 ||
            !video_holds(&t->outputs[i], got.video[i].frames, got.video[i].start_us,
                         got.video[i].end_us))
            return SG_ERR_MEDIA_WORKER;
        enum sg_error err = sg_fs_size(t->outputs[i].fd, &size);
        if (err)
            return err;
        if (size != got.bytes[i])
            return SG_ERR_MEDIA_WORKER;
    }
    if (r.failed || r.len)
        return SG_ERR_MEDIA_WORKER;
    *out = got;
    return SG_OK;
}
