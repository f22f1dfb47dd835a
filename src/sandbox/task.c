/* The daemon's side of a task: starts the process, sends it the call, takes events until the answer
 * and ends it, whatever happened. The thread sleeps in poll only, on the stop descriptor, the
 * socket and the nearer of two deadlines; a process that talks without end delays neither. The
 * process is killed and reaped before the call returns, so descriptors it holds cannot write any
 * more. */
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/log.h"
#include "streamgate/sandbox/media_task.h"

#include "cpus.h"
#include "process.h"
#include "proto.h"
#include "task_proto.h"

#define START_TIMEOUT_MS 10000u /* exec, libraries, sandbox */
#define OPEN_FILES 256u         /* what is passed, and room for duplicates */
#define LOOK_MS 50u             /* between two looks whether it is crowded */

static const char *const default_argv[] = {"streamgate", "media-worker", NULL};

struct run {
    const struct sg_media_task *task;
    struct sg_media_task_answer *out;
    struct sg_process process;
    int fds[SG_MEDIA_TASK_FDS_MAX]; /* what is sent; the first n_opened are this call's own */
    size_t n_opened;
    bool ready, answered;
    uint64_t end_ms, quiet_end_ms; /* deadlines: of the whole, of the silence */
    uint64_t events;
    struct sg_cpus cpus;
    uint64_t look_ms; /* at whether it is crowded, next */
    unsigned aside;   /* looks until threads that began meanwhile have all CPUs again, too */
    uint8_t rx[SG_TASK_NOTE_SIZE_MAX];
};

static uint64_t deadline_in(uint64_t ms)
{
    uint64_t now = sg_clock_mono_ms();
    return ms < UINT64_MAX - now ? now + ms : UINT64_MAX;
}

static void say(struct run *r, const char *why)
{
    (void)snprintf(r->out->message, sizeof(r->out->message), "%s", why);
}

/* A process that never got as far as its sandbox says nothing about the film. */
static enum sg_error not_started(struct run *r)
{
    say(r, "The media process does not start");
    return SG_ERR_UNAVAILABLE;
}

static enum sg_error open_sources(struct run *r)
{
    const struct sg_media_task *t = r->task;
    for (size_t i = 0; i < t->n_sources; i++) {
        enum sg_error err = sg_process_source(t->fds[i], &r->fds[i]);
        if (err != SG_OK)
            return err;
        r->n_opened++;
    }
    for (size_t i = t->n_sources; i < t->n_fds; i++)
        r->fds[i] = t->fds[i];
    return SG_OK;
}

static enum sg_error start(struct run *r)
{
    const struct sg_media_task *t = r->task;
    const char *const *argv = t->argv != NULL ? t->argv : default_argv;
    const struct sg_wire_hello hello = {
        .magic = SG_WIRE_HELLO_MAGIC,
        .version = SG_WIRE_VERSION,
        .memory_bytes = t->memory_bytes,
        .cpu_seconds = t->cpu_seconds,
        .file_bytes = t->file_bytes,
        .open_files = OPEN_FILES,
        .task = 1,
        .niceness = t->niceness,
    };
    const struct sg_wire_out out = {.head = &hello, .head_len = sizeof(hello), .fd = -1};
    /* execve takes its arguments as if it could change them. */
    enum sg_error err = sg_process_start(t->exe != NULL ? t->exe : "/proc/self/exe",
                                         (char *const *)(uintptr_t)argv, &r->process);
    if (err == SG_OK) {
        if (t->crowded != NULL)
            sg_cpus_open(&r->cpus, r->process.pid, t->spare_cpus);
        err = sg_wire_send(r->process.sock, &out, false);
    }
    if (err == SG_OK || err == SG_ERR_NO_MEMORY || err == SG_ERR_NO_DESCRIPTORS)
        return err;
    return not_started(r);
}

static enum sg_error send_call(struct run *r)
{
    const struct sg_media_task *t = r->task;
    const struct sg_task_call_header head = {
        .magic = SG_TASK_CALL_MAGIC,
        .payload_len = (uint32_t)t->payload_len,
        .n_fds = (uint32_t)t->n_fds,
    };
    const struct sg_wire_out out = {
        .head = &head,
        .head_len = sizeof(head),
        .tail = t->payload,
        .tail_len = t->payload_len,
        .fd = -1,
    };
    return sg_wire_send_fds(r->process.sock, &out, r->fds, t->n_fds, false) == SG_OK
               ? SG_OK
               : SG_ERR_MEDIA_WORKER;
}

static enum sg_error take_answer(struct run *r, const struct sg_task_note *note)
{
    r->answered = true;
    say(r, note->message);
    if (note->payload_len > 0)
        memcpy(r->out->payload, note->payload, note->payload_len);
    r->out->payload_len = note->payload_len;
    return note->err;
}

/* What the process said, if it did. */
static enum sg_error receive(struct run *r)
{
    struct sg_wire_in in;
    struct sg_task_note note;
    enum sg_error err = sg_wire_recv(r->process.sock, r->rx, sizeof(r->rx), false, &in);
    if (err == SG_ERR_UNAVAILABLE)
        return SG_OK;
    if (err == SG_ERR_CANCELLED && !r->ready)
        return not_started(r);
    if (err != SG_OK) /* NO_DESCRIPTORS too: none were to come */
        return SG_ERR_MEDIA_WORKER;
    if (in.fd >= 0)
        (void)close(in.fd);
    if (sg_task_note_decode(r->rx, in.len, in.n_fds, &note) != SG_OK ||
        (note.kind == SG_TASK_READY) == r->ready)
        return SG_ERR_MEDIA_WORKER;
    if (note.kind == SG_TASK_ANSWER)
        return take_answer(r, &note);
    if (note.kind == SG_TASK_READY) {
        r->ready = true;
        err = send_call(r);
    } else {
        r->events++;
        err = r->task->event(r->task->arg, note.payload, note.payload_len);
    }
    r->quiet_end_ms = deadline_in(r->task->stall_ms);
    return err;
}

static enum sg_error timed_out(struct run *r)
{
    if (!r->ready)
        return not_started(r);
    say(r, "The media process took too long");
    return SG_ERR_MEDIA_TIMEOUT;
}

/* Steps aside, or back. Returns when to look again. Not before the process works: it counts the
 * CPUs it may use when it starts its threads. */
static uint64_t look_aside(struct run *r, uint64_t now)
{
    if (r->cpus.threads == NULL || r->events == 0)
        return UINT64_MAX;
    if (now < r->look_ms)
        return r->look_ms;
    bool crowded = r->task->crowded(r->task->arg);
    if (crowded)
        r->aside = 2;
    if (r->aside > 0)
        sg_cpus_set(&r->cpus, crowded);
    if (!crowded && r->aside > 0)
        r->aside--;
    return r->look_ms = now + LOOK_MS;
}

/* One wait and what came of it. */
static enum sg_error step(struct run *r)
{
    struct pollfd fds[2] = {
        {.fd = r->task->stop_fd, .events = POLLIN},
        {.fd = r->process.sock, .events = POLLIN},
    };
    uint64_t now = sg_clock_mono_ms();
    uint64_t look_ms = look_aside(r, now);
    uint64_t due = r->end_ms < r->quiet_end_ms ? r->end_ms : r->quiet_end_ms;
    due = look_ms < due ? look_ms : due;
    uint64_t left = due > now ? due - now : 0;
    if (poll(fds, SG_ARRAY_LEN(fds), left < INT_MAX ? (int)left : INT_MAX) < 0)
        return SG_OK; /* EINTR: look again */
    if (fds[0].revents != 0) {
        say(r, "The task was stopped");
        return SG_ERR_CANCELLED;
    }
    now = sg_clock_mono_ms();
    if (now >= r->end_ms)
        return timed_out(r);
    if (fds[1].revents != 0)
        return receive(r);
    return now >= r->quiet_end_ms ? timed_out(r) : SG_OK;
}

static void finish(struct run *r, enum sg_error err)
{
    char how[SG_PROCESS_END_SIZE];
    unsigned long long events = r->events;
    sg_process_stop(&r->process, how);
    sg_cpus_close(&r->cpus);
    for (size_t i = 0; i < r->n_opened; i++)
        (void)close(r->fds[i]);
    if (err != SG_OK)
        r->out->payload_len = 0;
    if (r->answered || err == SG_ERR_CANCELLED)
        return;
    if (r->out->message[0] == '\0' && err == SG_ERR_MEDIA_WORKER)
        say(r, "The media process failed");
    if (how[0] != '\0')
        sg_warn_log("media", "a task failed (%s; %s) after %llu events", sg_error_title(err), how,
                    events);
}

static bool is_valid(const struct sg_media_task *t)
{
    return t->payload_len <= SG_MEDIA_PAYLOAD_MAX && t->n_fds <= SG_MEDIA_TASK_FDS_MAX &&
           t->n_sources <= t->n_fds && t->timeout_ms > 0 && t->stall_ms > 0 &&
           t->niceness <= SG_WIRE_NICENESS_MAX && t->event != NULL;
}

enum sg_error sg_media_task_run(const struct sg_media_task *task, struct sg_media_task_answer *out)
{
    out->message[0] = '\0';
    out->payload_len = 0;
    if (!is_valid(task))
        return SG_ERR_INVALID;
    struct run *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return SG_ERR_NO_MEMORY;
    r->task = task;
    r->out = out;
    r->end_ms = deadline_in(task->timeout_ms);
    r->quiet_end_ms = deadline_in(START_TIMEOUT_MS);
    enum sg_error err = open_sources(r);
    if (err == SG_OK)
        err = start(r);
    while (err == SG_OK && !r->answered)
        err = step(r);
    finish(r, err);
    free(r);
    return err;
}
