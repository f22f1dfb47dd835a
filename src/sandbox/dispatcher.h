/* What pool.c (submission, life cycle) and dispatcher.c (the threads) share. */
#ifndef STREAMGATE_SANDBOX_DISPATCHER_H
#define STREAMGATE_SANDBOX_DISPATCHER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/sandbox/media_pool.h"

#include "process.h"
#include "proto.h"

#define SG_MEDIA_QUEUE_MAX 16384u
#define SG_MEDIA_OPS 16u /* ops with a metric label of their own; the rest share "other" */

enum sg_media_failure { SG_MEDIA_CRASH, SG_MEDIA_TIMED_OUT, SG_MEDIA_PROTOCOL, SG_MEDIA_FAILURES };

struct sg_media_node {
    struct sg_media_node *next;
    uint64_t queued_ms, timeout_ms;
    void (*done)(void *arg, const struct sg_media_reply *reply);
    void *arg;
    unsigned tries; /* times it was sent to a process that turned out to be gone already */
    uint32_t op;
    int fd; /* owned; -1: none */
    size_t payload_len;
    uint8_t payload[];
};

/* One thread, one process. */
struct sg_dispatcher {
    struct sg_media_pool *pool;
    pthread_t thread;
    unsigned number;
    int wake_fd; /* eventfd: something changed for a dispatcher that waits */

    /* Guarded by pool->lock. No call waits behind another while a dispatcher is idle: submit
     * prefers idle ones, and one that runs out of work takes what others have to spare before it
     * becomes idle. */
    struct sg_media_node *head, *tail;
    size_t queued;
    bool idle;  /* waits for work with a process that is ready */
    bool busy;  /* a call is with the process; over before its callback runs */
    bool ready; /* the process has entered its sandbox */
    bool ping;  /* ask the process for a sign of life next */

    /* The thread's own. */
    struct sg_process process;
    bool is_ready;          /* the same as ready, without the lock */
    uint64_t started_ms;    /* of the process */
    uint64_t served;        /* calls sent to the process */
    uint64_t backoff_ms;    /* 0: the last start went well */
    uint64_t next_start_ms; /* not before */
    uint64_t starts, seq;
    uint8_t rx[SG_WIRE_REPLY_SIZE_MAX];
};

struct sg_media_pool {
    pthread_mutex_t lock;    /* guards answers, checkers, stopping, and the queues' fields above */
    pthread_cond_t answered; /* CLOCK_MONOTONIC; answers, checkers or stopping changed */
    uint64_t answers;        /* valid replies so far */
    unsigned checkers;       /* threads within sg_media_pool_check */
    bool stopping;

    /* Constant after creation. */
    char *exe;
    char **argv;
    uint64_t memory_bytes, max_reply_bytes, timeout_ms;
    uint32_t op_series[SG_MEDIA_OPS + 1], failure_series[SG_MEDIA_FAILURES];
    unsigned n, started; /* dispatchers; those whose thread runs */
    struct sg_dispatcher dispatchers[];
};

#define SG_FOREVER UINT64_MAX
enum { SG_EVENT_WAKE = 1, SG_EVENT_SOCK = 2 };
/* Waits on the wake descriptor, the process's socket and the clock: any of SG_EVENT_*, 0 once the
 * deadline passed. */
unsigned sg_dispatcher_wait(struct sg_dispatcher *d, uint64_t deadline_ms);

struct sg_outcome {
    enum sg_error err;
    bool lost; /* the process must go, for this: */
    enum sg_media_failure failure;
    struct sg_media_reply
        reply; /* when err is SG_OK; payload is in rx, the reference to body the caller's */
    uint64_t cpu_us;
};
/* Sends the call (NULL: a ping) and waits for its answer. CANCELLED with lost: the process was gone
 * before it got the call; without: the pool is stopping. */
void sg_dispatcher_exchange(struct sg_dispatcher *d, const struct sg_media_node *node,
                            struct sg_outcome *o);

void *sg_dispatcher_main(void *dispatcher);
void sg_dispatcher_wake(struct sg_dispatcher *d);

/* Queue operations; pool->lock is held. */
void sg_dispatcher_push(struct sg_dispatcher *d, struct sg_media_node *node);
void sg_dispatcher_push_front(struct sg_dispatcher *d, struct sg_media_node *node);
struct sg_media_node *sg_dispatcher_pop(struct sg_dispatcher *d); /* NULL: empty */

/* Closes and frees; done is not called. */
void sg_media_node_free(struct sg_media_node *node);

#endif
