/* No output counts as made before it was looked at: probed like an upload by another process, and
 * held against what the encoder wrote and what the source has. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transcoder.h"

#define SLACK_US 60000
#define RATE_SLACK_PICTURES 1.5
#define RATE_SLACK_SHARE 0.01

static int64_t track_us(const struct sg_track *t)
{
    return (int64_t)((double)t->duration * 1e6 / t->timescale);
}

static enum sg_error differs(struct transcoding *t, const char *name, const char *what,
                             uint64_t has, uint64_t wants)
{
    snprintf(t->why, sizeof t->why,
             "What was made of %s does not agree with its source: %" PRIu64
             " %s instead of %" PRIu64 ".",
             name, has, what, wants);
    return SG_ERR_UNPROCESSABLE;
}

static uint64_t distance(int64_t a, int64_t b)
{
    return (uint64_t)(a > b ? a - b : b - a);
}

/* The length of a source that is not packaged is what its container says of it, which may be
 * anything: there the decoder's word stands alone. */
static enum sg_error check_video(struct transcoding *t, uint32_t i, const struct sg_track *video)
{
    const char *name = t->items[i]->name;
    const struct sg_track *source = sg_media_index_video(t->source);
    uint64_t frames = t->result.video[i].frames;
    if (video == NULL || source == NULL)
        return differs(t, name, "pictures", 0, frames);
    if (video->samples != frames)
        return differs(t, name, "pictures", video->samples, frames);
    if (t->plan.outputs[i].video == SG_TRANSCODE_VIDEO_H264 &&
        frames * 100 < t->result.decoded * 95)
        return differs(t, name, "pictures", frames, t->result.decoded);
    int64_t frame_us = track_us(video) / (int64_t)(frames > 0 ? frames : 1);
    int64_t written_us = t->result.video[i].end_us - t->result.video[i].start_us;
    if (distance(track_us(video), written_us) > SLACK_US + (uint64_t)frame_us)
        return differs(t, name, "us", (uint64_t)track_us(video), (uint64_t)written_us);
    if (sg_media_index_packaged(t->source) &&
        distance(track_us(video), track_us(source)) > SLACK_US + 2 * (uint64_t)frame_us)
        return differs(t, name, "us", (uint64_t)track_us(video), (uint64_t)track_us(source));
    return SG_OK;
}

static enum sg_error check_sound(struct transcoding *t, uint32_t i,
                                 const struct sg_media_index *index)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < index->n_tracks; k++)
        n += index->tracks[k].kind == SG_TRACK_AUDIO;
    if (n != t->plan.outputs[i].n_audios)
        return differs(t, t->items[i]->name, "tracks of sound", n, t->plan.outputs[i].n_audios);
    return SG_OK;
}

/* Names are those of URLs; whose language and title it is, the source knows. */
static void name_track(const struct transcoding *t, uint32_t i, uint32_t audio,
                       struct sg_track *track)
{
    const struct sg_rendition *r = t->items[i];
    if (track->kind == SG_TRACK_VIDEO) {
        snprintf(track->name, sizeof track->name, "%s", r->dir);
        return;
    }
    const struct sg_transcode_audio *a = &t->plan.outputs[i].audios[audio];
    for (uint32_t k = 0; k < t->source->n_tracks; k++) {
        const struct sg_track *s = &t->source->tracks[k];
        if (s->stream != a->stream)
            continue;
        memcpy(track->language, s->language, sizeof track->language);
        memcpy(track->title, s->title, sizeof track->title);
        if (r->kind == SG_RENDITION_AUDIO && a->copy == !sg_sound_is_plain(s) && a->copy)
            track->title[0] = '\0';
    }
    if (r->kind == SG_RENDITION_AUDIO)
        snprintf(track->name, sizeof track->name, "%s", r->dir);
    else if (r->kind == SG_RENDITION_VIDEO)
        snprintf(track->name, sizeof track->name, "%s" TRANSCODER_SOUND_SUFFIX, r->dir);
}

/* What the source says of its rate holds where what was made is close to it: reckoned from that, it
 * is blurred by times that a container rounds, by a gap, and by the first and last picture. */
static void rate_track(const struct transcoding *t, struct sg_track *track)
{
    const struct sg_track *s = sg_media_index_video(t->source);
    if (track->kind != SG_TRACK_VIDEO || s == NULL || s->fps_num == 0 || s->fps_den == 0)
        return;
    double due = (double)track->duration / track->timescale * s->fps_num / s->fps_den;
    if (fabs(due - track->samples) > RATE_SLACK_PICTURES + RATE_SLACK_SHARE * due)
        return;
    track->fps_num = s->fps_num;
    track->fps_den = s->fps_den;
}

static enum sg_error encode_named(struct transcoding *t, uint32_t i,
                                  const struct sg_media_index *index)
{
    struct sg_track *tracks = calloc(index->n_tracks, sizeof *tracks);
    if (tracks == NULL)
        return SG_ERR_NO_MEMORY;
    struct sg_media_index named = *index;
    uint32_t audio = 0;
    named.tracks = tracks;
    for (uint32_t k = 0; k < index->n_tracks; k++) {
        tracks[k] = index->tracks[k];
        name_track(t, i, audio, &tracks[k]);
        rate_track(t, &tracks[k]);
        audio += tracks[k].kind == SG_TRACK_AUDIO;
    }
    enum sg_error err = sg_media_index_encode(&named, &t->made[i].index, &t->made[i].index_len);
    free(tracks);
    return err;
}

enum sg_error transcoder_check(struct transcoding *t, uint32_t i)
{
    struct sg_media_index *index = NULL;
    enum sg_error err = sg_media_probe(t->svc->media, t->items[i]->id, t->plan.outputs[i].fd,
                                       &t->svc->media_limits, &index, t->why);
    if (err != SG_OK)
        return err;
    if (!index->fmp4)
        err = differs(t, t->items[i]->name, "forms", 0, 1);
    if (err == SG_OK && t->plan.outputs[i].video != SG_TRANSCODE_VIDEO_NONE)
        err = check_video(t, i, sg_media_index_video(index));
    if (err == SG_OK)
        err = check_sound(t, i, index);
    if (err == SG_OK)
        err = encode_named(t, i, index);
    sg_media_index_unref(index);
    return err;
}
