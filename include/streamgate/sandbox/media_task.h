/* One long call in a sandboxed process of its own: `streamgate media-worker`, re-executed as the pool does, told by its limits that it is a task. It gets a payload and descriptors,
 * tells events while it works and gives one answer; nothing of it is left when the call returns. Knows no media. Thread-safe. Everything the process says is hostile until checked. */
#ifndef STREAMGATE_SANDBOX_MEDIA_TASK_H
#define STREAMGATE_SANDBOX_MEDIA_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"
#include "streamgate/sandbox/media_pool.h"

#define SG_MEDIA_TASK_FDS_MAX 40
#define SG_MEDIA_TASK_EVENT_MAX 4096
#define SG_MEDIA_TASK_ANSWER_MAX 4096

struct sg_media_task {
    const char *exe;                         /* as in sg_media_pool_params */
    const char *const *argv;
    uint64_t memory_bytes, file_bytes, cpu_seconds; /* of the process; file_bytes: of each file; 0: as the daemon */
    unsigned niceness;                       /* 0 to 19 */
    /* NULL, or asked 20 times a second, on the calling thread: while it says so, the process leaves spare_cpus (of more than so many) to others.
     * Niceness alone lets a kernel that schedules by ticks (EEVDF) keep others waiting for one. */
    bool (*crowded)(void *arg);
    unsigned spare_cpus;
    uint64_t timeout_ms;                     /* in all; > 0 */
    uint64_t stall_ms;                       /* without an event or the answer; > 0. The time an event callback takes does not count */
    int stop_fd;                             /* readable: end it at once; -1 */
    const void *payload; size_t payload_len; /* at most SG_MEDIA_PAYLOAD_MAX */
    const int *fds; size_t n_fds;            /* at most SG_MEDIA_TASK_FDS_MAX; they stay the caller's */
    size_t n_sources;                        /* fds[0, n_sources) reach the process read-only with an offset of their own; the others as they are */
    /* On the calling thread, in order. An error ends the process and becomes the answer: MEDIA_WORKER for an event that cannot be true. */
    enum sg_error (*event)(void *arg, const void *payload, size_t len);
    void *arg;
};

struct sg_media_task_answer {
    char message[SG_MEDIA_MESSAGE_MAX];      /* printable UTF-8, for a problem detail; with SG_OK empty */
    uint8_t payload[SG_MEDIA_TASK_ANSWER_MAX];
    size_t payload_len;                      /* 0 on error */
};

/* Blocks until the process answered or is gone. Must be called by a thread that lives as long as the daemon does or the call runs: the process dies with it. The answer is written on
 * every return. Errors: what the process answered (those of sg_media_reply, NO_SPACE and IO), MEDIA_WORKER (crash, protocol), MEDIA_TIMEOUT, CANCELLED (stop_fd), UNAVAILABLE (no process
 * starts), INVALID (the arguments), NO_MEMORY, NO_DESCRIPTORS, or the callback's. */
enum sg_error sg_media_task_run(const struct sg_media_task *task, struct sg_media_task_answer *out) SG_NODISCARD;

/* ---- the process's side ---- */

struct sg_media_task_view { const uint8_t *payload; size_t payload_len; const int *fds; size_t n_fds; }; /* closed after the handler */
/* Says "ready", serves one call and returns the exit status. handle's error is the answer, with the message. */
int sg_media_task_serve(int sock, enum sg_error (*handle)(void *ctx, const struct sg_media_task_view *call, struct sg_media_task_answer *an), void *ctx);
/* One event; from one thread at a time, before the handler returns. Blocks while the daemon has not taken those before. Ends the process when the daemon is gone. */
void sg_media_task_tell(int sock, const void *payload, size_t len);

#endif
