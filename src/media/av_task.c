/* The process of a transcoding: takes the plan, tells what sgav_transcode tells, answers with its
 * result. */
#include "av_task.h"

#include <stdio.h>

#include "streamgate/base/log.h"
#include "streamgate/sandbox/media_task.h"

#include "av_transcode.h"
#include "transcode_wire.h"

struct teller {
    int sock;
    uint64_t done_us, frames; /* told last; the daemon takes no step back */
    enum sg_error err;        /* of the first event that could not be told */
};

static void tell(void *arg, const struct sg_transcode_event *event)
{
    struct teller *teller = arg;
    struct sg_transcode_event e = *event;
    uint8_t bytes[TRANSCODE_EVENT_MAX];
    size_t len = 0;
    if (e.kind == SG_TRANSCODE_PROGRESS) {
        teller->done_us = e.done_us = e.done_us > teller->done_us ? e.done_us : teller->done_us;
        teller->frames = e.frames = e.frames > teller->frames ? e.frames : teller->frames;
    }
    if (teller->err)
        return;
    teller->err = transcode_event_encode(&e, bytes, &len);
    if (!teller->err)
        sg_media_task_tell(teller->sock, bytes, len);
}

static enum sg_error transcode(void *ctx, const struct sg_media_task_view *call,
                               struct sg_media_task_answer *an)
{
    struct teller teller = {.sock = *(const int *)ctx};
    const struct sgav_transcode_sink sink = {.event = tell, .arg = &teller};
    struct transcode_plan plan;
    struct sg_transcode_result result = {0};
    enum sg_error err = transcode_plan_decode(
        (struct transcode_bytes){call->payload, call->payload_len}, call->fds, call->n_fds, &plan);
    if (!err)
        err = sgav_transcode(&plan.t, &sink, &result, an->message);
    if (!err && teller.err) {
        err = teller.err;
        sg_error_log("media-worker", "an event could not be told: %s", sg_error_slug(err));
    }
    if (!err)
        err = transcode_result_encode(&plan.t, &result, an->payload, &an->payload_len);
    return err;
}

int sgav_task_serve(int sock)
{
    return sg_media_task_serve(sock, transcode, &sock);
}
