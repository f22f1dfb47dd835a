/* The process of a task for tests, in two tempers: one that serves through sg_media_task_serve
 * inside the real sandbox, and one that speaks the protocol by hand to break it. The first byte of
 * the payload says what it does. */
#ifndef STREAMGATE_TESTS_SANDBOX_TASK_SUPPORT_H
#define STREAMGATE_TESTS_SANDBOX_TASK_SUPPORT_H

#include <stdint.h>

#define TASK_SERVED "media-task-test"
#define TASK_RAW "media-task-raw"

enum task_mode {
    TASK_COUNT = 1, /* u32 n: tells 0 to n - 1, answers u32 n_fds */
    TASK_HANG,      /* after one event, u32 its pid; so the next three */
    TASK_DRIP,      /* an event each 20 ms, for ever */
    TASK_FLOOD,     /* events without a pause, for ever */
    TASK_ABORT,
    TASK_EXIT,
    TASK_FAIL,     /* u32 enum sg_error and a message */
    TASK_FILES,    /* reads fds[0], is refused to write it, writes each of the others */
    TASK_THREADS,  /* u32 threads that wrote their block into fds[1] */
    TASK_STANDING, /* struct task_standing */
    TASK_TRY,      /* u32 enum task_attempt: answers i32 errno */
    TASK_OVERLONG, /* an answer longer than may be */
    TASK_SPIN,     /* burns CPU in two threads */
};

enum task_attempt {
    TASK_TRY_OPEN,
    TASK_TRY_FORK,
    TASK_TRY_CLONE3,
    TASK_TRY_EXEC_MEMORY,
    TASK_TRY_MEMFD,
    TASK_TRY_SEAL,
    TASK_TRY_KILL_PARENT,
    TASK_TRY_RENICE,
    TASK_TRY_SOCKET, /* from here on they kill */
    TASK_TRY_SOCKET_IN_THREAD,
    TASK_TRY_EXECVE,
    TASK_TRY_PTRACE,
    TASK_TRIES
};

enum task_lie {
    LIE_NONE = 1,
    LIE_NOT_READY, /* an event first */
    LIE_READY_TWICE,
    LIE_MAGIC,
    LIE_KIND,
    LIE_EVENT_LONG,
    LIE_EVENT_ERROR,
    LIE_EVENT_MESSAGE,
    LIE_LENGTH,
    LIE_ERROR_CODE,
    LIE_ERROR_AND_PAYLOAD,
    LIE_DESCRIPTOR,
    LIE_EMPTY,
    LIE_HUGE,
    LIE_CLOSE,
    LIE_LAST = LIE_CLOSE,
    LIE_DIRTY_TEXT, /* a valid failure with an ugly message */
};

struct task_standing {
    uint64_t open_fds, memory_limit, file_limit, stack_bytes;
};

#define TASK_BLOCK 65536u
#define TASK_THREADS_MAX 6u

/* Runs the process when argv says so; otherwise -1. */
int task_worker_main(int argc, char **argv);

#endif
