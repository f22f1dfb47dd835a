/* Sandboxed media processes and how the daemon talks to them. Knows no media: an op is a number, payloads are bytes.
 * One dispatcher thread ("media-N") owns one process each (`streamgate media-worker`, re-executed, SOCK_SEQPACKET on descriptor 3), with a queue of its own; calls
 * with the same affinity prefer the same process (its file is open there) and overflow to an idle one. A crash, a protocol error or a timeout costs that one
 * call; the process is killed and replaced (with backoff when it dies at once). A process is also replaced after it used much CPU time, so RLIMIT_CPU can stay a bound.
 * Thread-safe. Everything a process says is hostile until checked. */
#ifndef STREAMGATE_SANDBOX_MEDIA_POOL_H
#define STREAMGATE_SANDBOX_MEDIA_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/buf.h"
#include "streamgate/base/error.h"

struct sg_media_pool;

struct sg_media_pool_params {
    unsigned workers;            /* > 0 */
    const char *exe;             /* program to execute; NULL: /proc/self/exe */
    const char *const *argv;     /* NULL-terminated; NULL: {"streamgate", "media-worker", NULL} */
    uint64_t memory_bytes;       /* RLIMIT_AS of a process; 0: none */
    uint64_t max_reply_bytes;    /* largest memfd taken */
    uint64_t timeout_ms;         /* wall time of a call that names none */
};

#define SG_MEDIA_PAYLOAD_MAX 65536
#define SG_MEDIA_MESSAGE_MAX 200

struct sg_media_reply {
    enum sg_error err;                       /* SG_OK; what the process answered (checked against a list: UNSUPPORTED_MEDIA UNPROCESSABLE TOO_LARGE NOT_FOUND INVALID
                                                NO_MEMORY INTERNAL); MEDIA_WORKER (crash, protocol, no process starts within the call's time); MEDIA_TIMEOUT;
                                                NO_DESCRIPTORS NO_MEMORY IO (the daemon could not take the body); CANCELLED (pool stopping) */
    char message[SG_MEDIA_MESSAGE_MAX];      /* printable UTF-8, from the process: for a problem detail */
    const void *payload; size_t payload_len; /* good during the callback */
    struct sg_buf *body;                     /* the sealed memfd, mapped, or NULL; the callback takes a ref to keep it */
};

struct sg_media_call {
    uint32_t op;
    const void *payload; size_t payload_len; /* copied; at most SG_MEDIA_PAYLOAD_MAX */
    int fd;                                  /* passed to the process, dup'ed at submit; -1: none */
    uint64_t affinity;                       /* hash of the asset */
    uint64_t timeout_ms;                     /* 0: the pool's */
    void (*done)(void *arg, const struct sg_media_reply *reply); /* exactly once, on the dispatcher's thread; must not block for long */
    void *arg;
};

enum sg_error sg_media_pool_create(const struct sg_media_pool_params *params, struct sg_media_pool **out) SG_NODISCARD;
void sg_media_pool_destroy(struct sg_media_pool **pool); /* kills the processes, answers CANCELLED to what waits, joins */
/* The process gets a read-only descriptor of the file behind fd with an offset of its own, whatever fd's mode. Errors: UNAVAILABLE (queue full: 16384 a process; or the
 * pool is stopping), NO_MEMORY, NO_DESCRIPTORS, INVALID (payload too long; an fd that cannot be made read-only): done is then never called.
 * A callback may submit again. timeout_ms runs from the moment the process gets the call. */
enum sg_error sg_media_pool_submit(struct sg_media_pool *pool, const struct sg_media_call *call) SG_NODISCARD;
/* Readiness: SG_OK when at least one process answers a ping (or a call: busy is not broken) within timeout_ms; else UNAVAILABLE. Blocks. */
enum sg_error sg_media_pool_check(struct sg_media_pool *pool, uint64_t timeout_ms) SG_NODISCARD;
unsigned sg_media_pool_alive(struct sg_media_pool *pool);

/* ---- the process's side ---- */

struct sg_media_request_view { uint32_t op; const uint8_t *payload; size_t payload_len; int fd; /* the handler owns it */ };
struct sg_media_answer {
    enum sg_error err; char message[SG_MEDIA_MESSAGE_MAX];
    uint8_t payload[4096]; size_t payload_len;
    int body_fd; size_t body_len;            /* -1: none; from sg_worker_body_create, sealed by the loop before sending */
};
struct sg_sandbox_limits {
    uint64_t memory_bytes; uint64_t cpu_seconds; uint64_t file_bytes; unsigned open_files; /* 0: as inherited */
    bool task;         /* one long call of sandbox/media_task.h: below everything that serves, its threads' stacks small; makes no memfd */
    unsigned niceness; /* of a task, 0 to 19 */
};
/* The first message on the socket: what to give sg_sandbox_enter. Errors: CANCELLED (closed), MEDIA_WORKER (something else), IO. */
enum sg_error sg_worker_receive_limits(int sock, struct sg_sandbox_limits *out) SG_NODISCARD;
/* Says "ready" to the pool, then serves until the socket closes; returns the exit status. handle runs one request at a time. */
int sg_worker_serve(int sock, void (*handle)(void *ctx, struct sg_media_request_view *rq, struct sg_media_answer *an), void *ctx);
/* A memfd for a body. */
enum sg_error sg_worker_body_create(int *out_fd) SG_NODISCARD;

/* For the process itself, before it reads anything: closes every descriptor but 0-2 (made /dev/null, 2 kept) and sock, clears the environment, PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE 0,
 * PR_SET_PDEATHSIG, rlimits (AS, CPU, FSIZE, NOFILE, CORE 0, NPROC where useful), Landlock denying all file system access (ABI detected; network too from ABI 4; absent Landlock is logged, not fatal),
 * and seccomp: a list of allowed calls, no sockets, no exec, no ptrace, no open of anything; the rest EPERM, the dangerous ones kill. Under a sanitizer build the list is wider and RLIMIT_AS is left out. */
enum sg_error sg_sandbox_enter(int sock, const struct sg_sandbox_limits *limits) SG_NODISCARD;

#endif
