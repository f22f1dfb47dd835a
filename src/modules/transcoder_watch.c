/* What an encode tells on its way: progress for whoever follows the job, and the finished segments
 * of a source that nobody could play before. */
#include <string.h>

#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/layers/live.h"

#include "transcoder.h"

/* Longer than between two requests of a busy server, shorter than between two of one viewer:
 * encodes make room where requests would meet each other, not for good. */
#define STREAMING_NS 1000000000u

bool transcoder_crowded(void *arg)
{
    struct transcoding *t = arg;
    double bytes = sg_metric_read(SG_METRIC_STREAM_BYTES, 0);
    if (bytes == t->streamed)
        return t->streaming_ns > 0 && sg_clock_mono_ns() - t->streaming_ns < STREAMING_NS;
    t->streamed = bytes;
    t->streaming_ns = sg_clock_mono_ns();
    return true;
}

static void tell_progress(struct transcoding *t, const struct sg_transcode_event *e)
{
    double total_s = (double)t->asset->f.duration_ms / 1000, done_s = (double)e->done_us / 1e6;
    double spent_s = (double)(sg_clock_mono_ns() - t->began_ns) / 1e9;
    struct sg_job_progress p = {.percent = -1, .fps = -1, .speed = -1, .eta_s = -1};
    if (spent_s > 0) {
        p.fps = (double)e->frames / spent_s;
        p.speed = done_s / spent_s;
    }
    if (total_s > 0) {
        /* The files are put in order after the last picture, so it is never all. */
        p.percent = done_s < total_s ? 99 * done_s / total_s : 99;
        if (p.speed > 0)
            p.eta_s = done_s < total_s ? (total_s - done_s) / p.speed : 0;
    }
    sg_job_run_progress(t->run, &p);
}

static bool has_picture(const struct transcoding *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (t->plan.outputs[i].live_fd >= 0 && t->plan.outputs[i].video != SG_TRANSCODE_VIDEO_NONE)
            return true;
    return false;
}

static enum sg_error add_track(struct transcoding *t, const struct sg_transcode_event *e)
{
    const struct sg_rendition *r = t->items[e->output];
    struct sg_track track = e->track;
    enum sg_error err = SG_OK;
    if (t->live_tracks[e->output] >= 0)
        return SG_ERR_EXISTS;
    if (t->making == NULL)
        err = sg_live_begin(t->svc->live, t->asset->f.id, has_picture(t), &t->making);
    if (err != SG_OK)
        return err;
    memcpy(track.name, r->dir, sizeof r->dir);
    err = sg_live_add_track(
        t->making, &(struct sg_live_track){
                       .file_id = r->id,
                       .role = r->kind == SG_RENDITION_AUDIO ? SG_FILE_SOUND : SG_FILE_RUNG,
                       .track = &track,
                       .fd = t->plan.outputs[e->output].live_fd,
                       .init_bytes = e->bytes,
                   });
    if (err != SG_OK)
        return err;
    int n = 0;
    for (uint32_t i = 0; i < t->n; i++)
        n += t->live_tracks[i] >= 0;
    t->live_tracks[e->output] = n;
    return SG_OK;
}

static enum sg_error mark_shown(struct sg_db_conn *c, void *arg)
{
    const struct transcoding *t = arg;
    enum sg_error err = SG_OK;
    for (uint32_t i = 0; i < t->n && err == SG_OK; i++)
        if (t->plan.outputs[i].live_fd >= 0)
            err = sg_rendition_mark_shown(c, t->items[i]->id);
    return err;
}

static void stop_showing(struct transcoding *t)
{
    sg_live_end(&t->making);
    for (uint32_t i = 0; i < t->n; i++)
        t->live_tracks[i] = -1;
}

/* That it is shown is on disk before it is: the next try, perhaps of another daemon, has to know.
 */
static enum sg_error add_segment(struct transcoding *t, const struct sg_transcode_event *e)
{
    if (t->live_tracks[e->output] < 0)
        return SG_OK;
    if (!t->shown) {
        enum sg_error err = sg_db_write(t->svc->db, mark_shown, t);
        if (err != SG_OK) {
            stop_showing(t);
            return err;
        }
        t->shown = true;
    }
    return sg_live_add_segment(t->making, (uint32_t)t->live_tracks[e->output], &e->segment,
                               e->offset);
}

void transcoder_event(void *arg, const struct sg_transcode_event *e)
{
    struct transcoding *t = arg;
    enum sg_error err = SG_OK;
    switch (e->kind) {
    case SG_TRANSCODE_PROGRESS:
        tell_progress(t, e);
        break;
    case SG_TRANSCODE_LIVE_TRACK:
        err = add_track(t, e);
        break;
    case SG_TRANSCODE_LIVE_SEGMENT:
        err = add_segment(t, e);
        break;
    }
    if (err != SG_OK) /* it is played later, then */
        sg_warn_log("transcoder", "what is made of asset %s cannot be shown yet: %s",
                    t->asset->f.id, sg_error_title(err));
}
