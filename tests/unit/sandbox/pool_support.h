/* A media process for tests, in two tempers: one that serves through sg_worker_serve inside the
 * real sandbox, and one that speaks the protocol by hand to break it; and blocking calls through a
 * pool. */
#ifndef STREAMGATE_TESTS_SANDBOX_POOL_SUPPORT_H
#define STREAMGATE_TESTS_SANDBOX_POOL_SUPPORT_H

#include <pthread.h>
#include <stdbool.h>

/* cmocka.h wants the four before it in this order. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "streamgate/sandbox/media_pool.h"

enum served_op {
    OP_ECHO = 1, /* payload comes back, and "read" bytes of the descriptor when there is one */
    OP_BODY,     /* payload: u64 length; a body of that many bytes, byte i is (uint8_t)(i * 7) */
    OP_ABORT,
    OP_EXIT,
    OP_HANG,
    OP_SPIN,
    OP_FAIL,     /* payload: u32 enum sg_error to answer with, and text for the message */
    OP_PID,      /* u32 pid */
    OP_SURVEY,   /* struct survey */
    OP_TRY,      /* payload: u32 enum attempt; i32 errno (0: it worked) */
    OP_ALLOCATE, /* u64 bytes that could be had */
    OP_THREADS,  /* u32 threads that ran */
    OP_WRITE_FD, /* i32 errno of a write to the descriptor passed */
};

enum attempt {
    TRY_OPEN,
    TRY_CREATE,
    TRY_FORK,
    TRY_KILL_PARENT,
    TRY_EXEC_MEMORY,
    TRY_RAISE_LIMIT,
    TRY_IOCTL,
    TRY_CLONE3,
    TRY_READLINK,
    TRY_SENDTO,
    TRY_SOCKET, /* from here on they kill */
    TRY_EXECVE,
    TRY_PTRACE,
    TRY_BPF,
    TRY_IO_URING,
    TRY_MOUNT,
    TRY_PROCESS_VM,
    TRY_UNSHARE,
    TRY_USERFAULTFD,
    TRY_COUNT
};

struct survey {
    uint32_t open_fds; /* of the first 1,024 */
    uint32_t environ_count;
    uint64_t memory_limit, core_limit, file_limit;
};

enum raw_op {
    RAW_OK = 1, /* u32 pid */
    RAW_UNSEALED,
    RAW_PARTLY_SEALED,
    RAW_OVERSIZED,
    RAW_BODY_LENGTH_LIE,
    RAW_NOT_A_MEMFD,
    RAW_TWO_FDS,
    RAW_MANY_FDS,
    RAW_BODY_WITH_ERROR,
    RAW_FD_NOT_ANNOUNCED,
    RAW_ERROR_CODE,
    RAW_SEQ,
    RAW_MAGIC,
    RAW_SHORT,
    RAW_LONG,
    RAW_HUGE,
    RAW_EMPTY,
    RAW_CLOSE,
    RAW_LAST_LIE = RAW_CLOSE,
    RAW_DIRTY_TEXT, /* a valid reply with an ugly message */
    RAW_CPU,        /* a valid reply claiming hours of CPU time */
    RAW_TWICE,      /* a valid reply and one nobody asked for */
};

/* Runs the process when argv says so; otherwise -1. */
int worker_main(int argc, char **argv);

#define TEST_MAX_REPLY (8u << 20)
#define TEST_MEMORY (512ull << 20)
struct sg_media_pool *make_pool(unsigned workers, bool raw, uint64_t timeout_ms);

struct result {
    enum sg_error err;
    char message[SG_MEDIA_MESSAGE_MAX];
    uint8_t payload[4096];
    size_t payload_len;
    struct sg_buf *body; /* a reference, for result_free */
    unsigned times;      /* done was called */
};

struct waiter {
    pthread_mutex_t lock; /* guards result */
    pthread_cond_t done;
    struct result result;
};
void waiter_init(struct waiter *w);
void waiter_free(struct waiter *w);
void waiter_done(void *arg, const struct sg_media_reply *reply);
void waiter_wait(struct waiter *w);

struct request {
    uint32_t op;
    const void *payload;
    size_t payload_len;
    int fd; /* 0 counts as none here */
    uint64_t affinity, timeout_ms;
};
enum sg_error submit(struct sg_media_pool *pool, const struct request *rq, struct waiter *w);
/* Submits and waits; submission must work. */
struct result call(struct sg_media_pool *pool, const struct request *rq);
void result_free(struct result *r);
uint32_t result_u32(const struct result *r);
uint64_t result_u64(const struct result *r);

/* Calls with nothing but an op; an echo that must work; the pid behind an affinity. */
struct result call_op(struct sg_media_pool *pool, uint32_t op);
void assert_echo(struct sg_media_pool *pool);
uint32_t pid_of(struct sg_media_pool *pool, uint64_t affinity);
void pause_briefly(void);
void wait_alive(struct sg_media_pool *pool, unsigned n);

/* The pool's metrics. wait_started: until one more call of this op has been taken up. */
#define REASON_CRASH "reason=\"crash\""
#define REASON_TIMEOUT "reason=\"timeout\""
#define REASON_PROTOCOL "reason=\"protocol\""
double failures(const char *reason);
double started(uint32_t op);
void wait_started(uint32_t op, double before);

/* Quiet log unless SG_TEST_LOG is set; no descriptor may be left at the end. */
int pool_group_setup(void **state);
int pool_group_teardown(void **state);

unsigned count_fds(void);
/* From the environment (SG_TEST_TRIALS), else def. */
unsigned trials(unsigned def);

#endif
