/* The daemon's side of a transcoding: encodes the plan, runs the process, checks what it says. See
 * transcode.h. */
#include "streamgate/media/transcode.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "streamgate/sandbox/media_task.h"

#include "transcode_wire.h"

static_assert(TRANSCODE_FDS_MAX <= SG_MEDIA_TASK_FDS_MAX, "the files of a plan go to a task");
static_assert(TRANSCODE_PLAN_MAX <= SG_MEDIA_PAYLOAD_MAX, "a plan goes to a task");
static_assert(TRANSCODE_EVENT_MAX <= SG_MEDIA_TASK_EVENT_MAX, "an event comes from a task");
static_assert(TRANSCODE_RESULT_MAX <= SG_MEDIA_TASK_ANSWER_MAX, "a result comes from a task");

struct listener {
    struct transcode_hearing heard;
    const struct sg_transcode_watch *watch;
};

static enum sg_error hear(void *arg, const void *payload, size_t len)
{
    struct listener *l = arg;
    struct sg_transcode_event e;
    enum sg_error err = transcode_event_decode(&l->heard, payload, len, &e);
    if (!err && l->watch->event)
        l->watch->event(l->watch->arg, &e);
    return err;
}

static bool crowded(void *arg)
{
    const struct listener *l = arg;
    return l->watch->crowded(l->watch->arg);
}

/* These would name the call, not the film: no process answers them honestly. */
static enum sg_error honest(enum sg_error err)
{
    return err == SG_ERR_NOT_FOUND || err == SG_ERR_INVALID || err == SG_ERR_INTERNAL
               ? SG_ERR_MEDIA_WORKER
               : err;
}

enum sg_error sg_media_transcode(const struct sg_transcode_process *process,
                                 const struct sg_transcode *t,
                                 const struct sg_transcode_watch *watch,
                                 struct sg_transcode_result *out, char why[SG_MEDIA_MESSAGE_MAX])
{
    uint8_t plan[TRANSCODE_PLAN_MAX];
    int fds[TRANSCODE_FDS_MAX];
    size_t plan_len = 0;
    struct listener listener = {.heard.plan = t, .watch = watch};
    struct sg_media_task_answer answer;
    why[0] = 0;
    if (process->timeout_ms == 0 || process->stall_ms == 0)
        return SG_ERR_INVALID;
    enum sg_error err = transcode_plan_encode(t, plan, &plan_len);
    if (err)
        return err;
    const struct sg_media_task task = {
        .exe = process->exe,
        .argv = process->argv,
        .memory_bytes = process->memory_bytes,
        .file_bytes = process->file_bytes,
        .cpu_seconds = process->cpu_seconds,
        .niceness = process->niceness,
        .crowded = watch->crowded ? crowded : NULL,
        .spare_cpus = process->spare_cpus,
        .timeout_ms = process->timeout_ms,
        .stall_ms = process->stall_ms,
        .stop_fd = watch->stop_fd,
        .payload = plan,
        .payload_len = plan_len,
        .fds = fds,
        .n_fds = transcode_plan_fds(t, fds),
        .n_sources = 1,
        .event = hear,
        .arg = &listener,
    };
    err = sg_media_task_run(&task, &answer);
    memcpy(why, answer.message, sizeof(answer.message));
    if (err)
        return honest(err);
    err = transcode_result_decode(t, answer.payload, answer.payload_len, out);
    if (err)
        (void)snprintf(why, SG_MEDIA_MESSAGE_MAX, "The media process failed");
    return err;
}
