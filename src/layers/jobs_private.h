/* What jobs.c (queue and requests), jobs_run.c (tries), jobs_keeper.c (leases, time, schedules),
 * jobs_pause.c and jobs_bus.c (events) share. */
#ifndef STREAMGATE_LAYERS_JOBS_PRIVATE_H
#define STREAMGATE_LAYERS_JOBS_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "streamgate/base/str.h"
#include "streamgate/layers/jobs.h"

#define JOBS_TYPES_MAX 32
#define JOBS_RECENT_CANCELS 64

struct jobs_bus;

struct jobs_type {
    const struct sg_job_type *type;
    bool paused; /* guarded by sg_jobs.lock, like the two below */
    uint64_t limit;
    uint64_t timeout_ms;
    unsigned running;
    uint32_t created, latency, finished[SG_JOB_STATE_COUNT], retried; /* metric series */
};

struct sg_job_run {
    struct sg_jobs *jobs;
    struct jobs_type *type;
    struct sg_job *job;
    _Atomic int stop;     /* enum sg_job_stop; the first one stands */
    int stop_fd;          /* eventfd */
    uint64_t deadline_ns; /* monotonic */
    char *progress;       /* guarded by sg_jobs.lock, like the two below; JSON or NULL */
    bool progress_new;    /* not in the row yet */
    uint64_t told_ns;     /* of the last progress event */
    json_t *result;       /* the handler's thread's own, like those below */
    bool final;           /* no further try can help */
    char detail[256];
    uint64_t retry_after_ms;
    struct sg_job_run *next, *prev; /* guarded by sg_jobs.lock */
};

struct sg_jobs {
    struct sg_db *db;
    struct jobs_bus *bus;
    struct jobs_type types[JOBS_TYPES_MAX]; /* constant after start but for what lock guards */
    size_t n_types;
    unsigned n_runners;
    pthread_t *runners, keeper;
    unsigned runners_started;
    bool keeper_started, stopped;

    pthread_mutex_t lock;  /* guards all below, and what is said to be above; leaf */
    pthread_cond_t work;   /* runners: generation moved, or draining */
    pthread_cond_t chores; /* keeper: keeper_generation moved, or draining */
    uint64_t generation, keeper_generation;
    bool draining, paused;
    uint64_t lease_ms, max_queued;
    struct sg_job_run *runs; /* under way */
    /* Cancels of tries that were taken but are not in `runs` yet: by lease, the oldest goes. */
    char cancels[JOBS_RECENT_CANCELS][SG_ULID_SIZE];
    unsigned next_cancel;
};

/* jobs.c */
struct jobs_type *jobs_find_type(struct sg_jobs *j, const char *name);
uint64_t jobs_backoff_ms(const struct sg_job_type *type, unsigned failures);
void jobs_publish_state(struct sg_jobs *j, const char *id, enum sg_job_state state);
void jobs_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ms); /* at most so long */
/* Collects what a transaction changed, to be published once it is committed. */
struct jobs_changes {
    struct jobs_change {
        char id[SG_ULID_SIZE];
        enum sg_job_state state;
    } * items;
    size_t n, cap;
};
void jobs_changes_add(void *arg, const char *id, enum sg_job_state state);
void jobs_changes_publish(struct sg_jobs *j, struct jobs_changes *changes); /* frees */

/* jobs_run.c */
void *jobs_runner_main(void *arg);
bool jobs_stop_run(struct sg_job_run *run, enum sg_job_stop reason); /* under the lock */

/* jobs_keeper.c */
void *jobs_keeper_main(void *arg);
enum sg_error jobs_expire(struct sg_jobs *j, bool all);

/* jobs_pause.c: what was paused when the last daemon ended. */
enum sg_error jobs_restore_paused(struct sg_jobs *j);

/* jobs_bus.c */
enum sg_error jobs_bus_create(size_t kept, struct jobs_bus **out) SG_NODISCARD;
enum sg_error jobs_bus_start(struct jobs_bus *b) SG_NODISCARD;
void jobs_bus_stop(struct jobs_bus *b); /* delivers what is there, then gone to everybody */
void jobs_bus_destroy(struct jobs_bus **b);
/* Takes data (malloc'ed; NULL: nothing is published). */
void jobs_bus_publish(struct jobs_bus *b, const char *job_id, const char *name, bool final,
                      char *data);
enum sg_error jobs_bus_subscribe(struct jobs_bus *b, const struct sg_job_sub_params *p,
                                 struct sg_job_sub **out) SG_NODISCARD;
void jobs_bus_unsubscribe(struct jobs_bus *b, struct sg_job_sub **sub);
uint64_t jobs_bus_last(struct jobs_bus *b);
bool jobs_bus_has_since(struct jobs_bus *b, const char *id, uint64_t seq);
bool jobs_bus_keeps_since(struct jobs_bus *b, uint64_t seq);

#endif
