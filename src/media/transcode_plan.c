/* The plan of a transcoding as bytes. See transcode_wire.h. */
#include <string.h>

#include "transcode_wire.h"
#include "wire.h"

enum { DIMENSION_MAX = 16384, THREADS_MAX = 1024, KEYFRAME_MS_MAX = 60000, CRF_MAX = 51 };

static bool is_preset(const char *s)
{
    size_t n = 0;
    while (s[n] >= 'a' && s[n] <= 'z')
        n++;
    return n > 0 && n < TRANSCODE_PRESET_SIZE && s[n] == 0;
}

/* A crf of 0 is lossless, which the profile that is encoded does not have. */
static bool picture_holds(const struct sg_transcode_output *o)
{
    return o->width > 0 && o->width <= DIMENSION_MAX && o->width % 2 == 0 && o->height > 0 &&
           o->height <= DIMENSION_MAX && o->height % 2 == 0 && o->bitrate <= INT32_MAX &&
           (o->bitrate > 0 || (o->crf > 0 && o->crf <= CRF_MAX));
}

static bool output_holds(const struct sg_transcode_output *o)
{
    if ((unsigned)o->video > SG_TRANSCODE_VIDEO_H264 || o->n_audios > SG_TRANSCODE_AUDIOS_MAX)
        return false;
    if (o->video == SG_TRANSCODE_VIDEO_NONE && o->n_audios == 0)
        return false;
    if (o->video == SG_TRANSCODE_VIDEO_H264 && !picture_holds(o))
        return false;
    for (uint32_t i = 0; i < o->n_audios; i++) {
        const struct sg_transcode_audio *a = &o->audios[i];
        if (!a->copy &&
            (a->channels < 1 || a->channels > 2 || a->bitrate == 0 || a->bitrate > INT32_MAX))
            return false;
    }
    return o->fd >= 0;
}

static bool plan_holds(const struct sg_transcode *t)
{
    if (t->fd < 0 || t->keyframe_ms == 0 || t->keyframe_ms > KEYFRAME_MS_MAX ||
        t->threads > THREADS_MAX || t->n_outputs == 0 || t->n_outputs > SG_TRANSCODE_OUTPUTS_MAX ||
        !t->limits || t->limits->segment_ms == 0 || !t->preset || !is_preset(t->preset))
        return false;
    for (uint32_t i = 0; i < t->n_outputs; i++)
        if (!output_holds(&t->outputs[i]))
            return false;
    return true;
}

static void put_limits(struct wire_out *w, const struct sg_media_limits *l)
{
    wire_put_u64(w, l->max_pixels);
    wire_put_u64(w, l->max_duration_ms);
    wire_put_u64(w, l->max_frames);
    wire_put_u32(w, l->max_streams);
    wire_put_u64(w, l->max_body_bytes);
    wire_put_u32(w, l->segment_ms);
    wire_put_u32(w, l->open_contexts);
}

static void get_limits(struct wire_in *r, struct sg_media_limits *l)
{
    l->max_pixels = wire_get_u64(r);
    l->max_duration_ms = wire_get_u64(r);
    l->max_frames = wire_get_u64(r);
    l->max_streams = wire_get_u32(r);
    l->max_body_bytes = wire_get_u64(r);
    l->segment_ms = wire_get_u32(r);
    l->open_contexts = wire_get_u32(r);
}

static void put_output(struct wire_out *w, const struct sg_transcode_output *o)
{
    wire_put_u8(w, (uint8_t)o->video);
    wire_put_u32(w, o->video_stream);
    wire_put_u32(w, o->width);
    wire_put_u32(w, o->height);
    wire_put_u32(w, o->bitrate);
    wire_put_u32(w, o->crf);
    wire_put_u8(w, o->live_fd >= 0);
    wire_put_u32(w, o->n_audios);
    for (uint32_t i = 0; i < o->n_audios; i++) {
        wire_put_u32(w, o->audios[i].stream);
        wire_put_u8(w, o->audios[i].copy);
        wire_put_u16(w, o->audios[i].channels);
        wire_put_u32(w, o->audios[i].bitrate);
    }
}

/* *fds: what is left of the descriptors, which the output takes its own from. */
static void get_output(struct wire_in *r, const int **fds, size_t *n_fds,
                       struct sg_transcode_output *o)
{
    uint8_t video = wire_get_u8(r);
    if (video > SG_TRANSCODE_VIDEO_H264)
        r->failed = true;
    o->video = (enum sg_transcode_video)video;
    o->video_stream = wire_get_u32(r);
    o->width = wire_get_u32(r);
    o->height = wire_get_u32(r);
    o->bitrate = wire_get_u32(r);
    o->crf = wire_get_u32(r);
    size_t takes = wire_get_bool(r) ? 2 : 1;
    o->n_audios = wire_get_u32(r);
    if (r->failed || o->n_audios > SG_TRANSCODE_AUDIOS_MAX || *n_fds < takes) {
        r->failed = true;
        return;
    }
    for (uint32_t i = 0; i < o->n_audios; i++) {
        o->audios[i].stream = wire_get_u32(r);
        o->audios[i].copy = wire_get_bool(r);
        o->audios[i].channels = wire_get_u16(r);
        o->audios[i].bitrate = wire_get_u32(r);
    }
    o->fd = (*fds)[0];
    o->live_fd = takes == 2 ? (*fds)[1] : -1;
    *fds += takes;
    *n_fds -= takes;
}

enum sg_error transcode_plan_encode(const struct sg_transcode *t, uint8_t bytes[TRANSCODE_PLAN_MAX],
                                    size_t *out_len)
{
    struct wire_out w = {.ptr = bytes, .cap = TRANSCODE_PLAN_MAX};
    if (!plan_holds(t))
        return SG_ERR_INVALID;
    put_limits(&w, t->limits);
    wire_put_u32(&w, t->keyframe_ms);
    wire_put_u32(&w, t->threads);
    wire_put_text(&w, t->preset);
    wire_put_u32(&w, t->n_outputs);
    for (uint32_t i = 0; i < t->n_outputs; i++)
        put_output(&w, &t->outputs[i]);
    if (w.failed)
        return SG_ERR_INVALID;
    *out_len = w.len;
    return SG_OK;
}

size_t transcode_plan_fds(const struct sg_transcode *t, int fds[TRANSCODE_FDS_MAX])
{
    size_t n = 0;
    fds[n++] = t->fd;
    for (uint32_t i = 0; i < t->n_outputs; i++) {
        fds[n++] = t->outputs[i].fd;
        if (t->outputs[i].live_fd >= 0)
            fds[n++] = t->outputs[i].live_fd;
    }
    return n;
}

enum sg_error transcode_plan_decode(struct transcode_bytes bytes, const int *fds, size_t n_fds,
                                    struct transcode_plan *out)
{
    struct wire_in r = {.ptr = bytes.ptr, .len = bytes.len};
    struct transcode_plan p = {0};
    if (n_fds == 0)
        return SG_ERR_INVALID;
    p.t.fd = fds[0];
    fds++;
    n_fds--;
    get_limits(&r, &p.limits);
    p.t.keyframe_ms = wire_get_u32(&r);
    p.t.threads = wire_get_u32(&r);
    wire_get_text(&r, p.preset, sizeof(p.preset));
    p.t.n_outputs = wire_get_u32(&r);
    if (r.failed || p.t.n_outputs > SG_TRANSCODE_OUTPUTS_MAX)
        return SG_ERR_INVALID;
    for (uint32_t i = 0; i < p.t.n_outputs && !r.failed; i++)
        get_output(&r, &fds, &n_fds, &p.t.outputs[i]);
    p.t.limits = &p.limits;
    p.t.preset = p.preset;
    if (r.failed || r.len || n_fds || !plan_holds(&p.t))
        return SG_ERR_INVALID;
    *out = p;
    out->t.limits = &out->limits;
    out->t.preset = out->preset;
    return SG_OK;
}
