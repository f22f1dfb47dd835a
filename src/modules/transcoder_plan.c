/* From rows of renditions to what a process is asked for. */
#include <string.h>

#include "transcoder.h"

static const struct sg_track *track_of_stream(const struct sg_media_index *source, uint32_t stream)
{
    for (uint32_t i = 0; i < source->n_tracks; i++)
        if (source->tracks[i].stream == stream)
            return &source->tracks[i];
    return NULL;
}

static void add_audio(struct sg_transcode_output *o, const struct sg_config *cfg,
                      const struct sg_track *t, bool copy)
{
    if (o->n_audios == SG_TRANSCODE_AUDIOS_MAX)
        return;
    uint32_t stereo = (uint32_t)sg_config_uint(cfg, SG_SET_transcode_audio_bitrate);
    uint16_t channels = t->channels == 1 ? 1 : 2;
    o->audios[o->n_audios++] = (struct sg_transcode_audio){
        .stream = t->stream,
        .copy = copy,
        .channels = copy ? 0 : channels,
        .bitrate = copy            ? 0
                   : channels == 1 ? stereo / 2
                                   : stereo,
    };
}

/* What there was in an MP4 already can be put into another as it is. */
static bool keeps_beside(const struct sg_media_index *source, const struct sg_track *t)
{
    return !sg_codec_in_browsers(t->codec) &&
           (strcmp(source->format, "mp4") == 0 || strcmp(source->format, "mov") == 0);
}

/* All of its sound as all players have it; then, for those that can, that which had to be encoded
 * anew. */
static void plan_original(struct sg_transcode_output *o, const struct sg_config *cfg,
                          const struct sg_media_index *source)
{
    const struct sg_track *video = sg_media_index_video(source);
    if (video != NULL) {
        o->video = SG_TRANSCODE_VIDEO_COPY;
        o->video_stream = video->stream;
    }
    for (uint32_t i = 0; i < source->n_tracks; i++)
        if (source->tracks[i].kind == SG_TRACK_AUDIO)
            add_audio(o, cfg, &source->tracks[i], source->tracks[i].copyable);
    for (uint32_t i = 0; i < source->n_tracks; i++)
        if (source->tracks[i].kind == SG_TRACK_AUDIO && keeps_beside(source, &source->tracks[i]))
            add_audio(o, cfg, &source->tracks[i], true);
}

/* A rung has the sound that is chosen when nobody chooses, as every player takes it. */
static void plan_rung(struct sg_transcode_output *o, const struct sg_config *cfg,
                      const struct sg_media_index *source, const struct sg_rendition *r)
{
    const struct sg_track *audio = sg_media_index_audio(source);
    o->video = SG_TRANSCODE_VIDEO_H264;
    o->video_stream = r->stream;
    o->width = r->width;
    o->height = r->height;
    o->bitrate = r->bitrate;
    o->crf = r->crf;
    if (audio != NULL)
        add_audio(o, cfg, audio, sg_sound_is_plain(audio));
}

static enum sg_error plan_output(const struct transcoding *t, const struct sg_rendition *r,
                                 struct sg_transcode_output *o)
{
    const struct sg_config *cfg = sg_services_config(t->svc);
    const struct sg_track *track;
    *o = (struct sg_transcode_output){.fd = -1, .live_fd = -1};
    switch (r->kind) {
    case SG_RENDITION_ORIGINAL:
        plan_original(o, cfg, t->source);
        return SG_OK;
    case SG_RENDITION_AUDIO:
        track = track_of_stream(t->source, r->stream);
        if (track == NULL || track->kind != SG_TRACK_AUDIO)
            return SG_ERR_UNPROCESSABLE;
        add_audio(o, cfg, track, r->channels == 0);
        return SG_OK;
    default:
        track = track_of_stream(t->source, r->stream);
        if (track == NULL || track->kind != SG_TRACK_VIDEO)
            return SG_ERR_UNPROCESSABLE;
        plan_rung(o, cfg, t->source, r);
        return SG_OK;
    }
}

enum sg_error transcoder_plan(struct transcoding *t)
{
    const struct sg_config *cfg = sg_services_config(t->svc);
    t->plan = (struct sg_transcode){
        .fd = t->fd,
        .limits = &t->svc->media_limits,
        .keyframe_ms = SG_KEYFRAME_MS,
        .threads = (uint32_t)sg_config_uint(cfg, SG_SET_transcode_threads),
        .preset = sg_config_string(cfg, SG_SET_transcode_preset),
        .n_outputs = t->n,
    };
    enum sg_error err = SG_OK;
    for (uint32_t i = 0; i < t->n && err == SG_OK; i++)
        err = plan_output(t, t->items[i], &t->plan.outputs[i]);
    return err;
}
