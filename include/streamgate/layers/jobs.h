/* The queue at work: runner threads that take jobs (store/job_store.h) and call the handler of their type, a keeper that renews leases, ends what takes too long and fires schedules, and a bus that
 * tells subscribers what changes. Thread-safe. Functions marked "blocks" write the database: not from an I/O thread. */
#ifndef STREAMGATE_LAYERS_JOBS_H
#define STREAMGATE_LAYERS_JOBS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/config.h"
#include "streamgate/store/job_store.h"
#include "streamgate/store/key_store.h"

struct sg_jobs;
struct sg_job_run; /* one try, as its handler sees it */

struct sg_job_type {
    const char *name;            /* SG_JOB_TYPE_SIZE says of what */
    const char *summary;         /* one line */
    enum sg_setting concurrency; /* how many at once */
    enum sg_setting timeout;     /* wall time of one try */
    enum sg_role role;           /* least role that may ask for one; NONE: nobody, the daemon makes them itself */
    unsigned max_attempts;       /* unless the job says otherwise */
    uint64_t backoff_ms, backoff_max_ms; /* before the second try; doubled for each further one, up to the latter; a quarter more or less by chance */
    bool goes_on;                /* a try goes on where the last ended, so that one which ends with the daemon is no crash */
    const char *(*check)(const json_t *payload); /* NULL when the payload is good, else the rule it breaks (static). Absent: the payload must be empty */
    /* On a runner thread. SG_OK: done. CANCELLED after sg_job_run_stopped. INVALID, NOT_FOUND, FORBIDDEN, GONE, TOO_LARGE, UNSUPPORTED_MEDIA, UNPROCESSABLE: failed for good. MEDIA_WORKER: what it ran in died.
     * Anything else: tried again while there are attempts left. */
    enum sg_error (*run)(struct sg_job_run *run, void *arg);
    void *arg;
};

/* ---- what a handler may ask for ---- */

const struct sg_job_fields *sg_job_run_job(const struct sg_job_run *run);
/* Whether the try must end soon: cancelled, too long, or the daemon stops. */
bool sg_job_run_stopped(struct sg_job_run *run);
int sg_job_run_stop_fd(struct sg_job_run *run); /* becomes readable then: for poll */
bool sg_job_run_wait(struct sg_job_run *run, uint64_t ms); /* true: stopped meanwhile */
struct sg_job_progress { double percent, fps, speed, eta_s; }; /* below zero: not known */
void sg_job_run_progress(struct sg_job_run *run, const struct sg_job_progress *p);
void sg_job_run_result(struct sg_job_run *run, json_t *result); /* steals an object; NULL is out of memory and leaves it without */
/* What to say of an error, and when to try again at the earliest. */
/* Why the try must end. LOST: its lease is another's. */
enum sg_job_stop { SG_JOB_STOP_NO, SG_JOB_STOP_CANCEL, SG_JOB_STOP_TIMEOUT, SG_JOB_STOP_DRAIN, SG_JOB_STOP_LOST };
enum sg_job_stop sg_job_run_stop(struct sg_job_run *run);
/* Whatever the error, no further try can help. */
void sg_job_run_final(struct sg_job_run *run);
enum sg_error sg_job_run_fail(struct sg_job_run *run, enum sg_error err, const char *fmt, ...) SG_PRINTF(3, 4);
void sg_job_run_retry_after(struct sg_job_run *run, uint64_t ms);

/* ---- life ---- */

enum sg_error sg_jobs_create(struct sg_db *db, const struct sg_config *config, struct sg_jobs **out) SG_NODISCARD;
/* Before start. type stays the caller's. EXISTS; INVALID: not a name; TOO_LARGE: too many types; NO_MEMORY. */
enum sg_error sg_jobs_register(struct sg_jobs *j, const struct sg_job_type *type) SG_NODISCARD;
/* Every try of an earlier daemon counts as crashed (one daemon a data directory); then the threads begin. */
enum sg_error sg_jobs_start(struct sg_jobs *j) SG_NODISCARD;
void sg_jobs_configure(struct sg_jobs *j, const struct sg_config *config); /* cheap when nothing changed */
/* Takes no more jobs and stops those that run; they go back to the queue, which costs them nothing. Does not wait. */
void sg_jobs_drain(struct sg_jobs *j);
void sg_jobs_stop(struct sg_jobs *j); /* drains, waits for the threads, ends all subscriptions */
void sg_jobs_destroy(struct sg_jobs **j); /* stops; NULL is fine */

/* ---- jobs ---- */

const struct sg_job_type *sg_jobs_type(const struct sg_jobs *j, const char *name); /* NULL: no such type */
size_t sg_jobs_type_count(const struct sg_jobs *j);
const struct sg_job_type *sg_jobs_type_at(const struct sg_jobs *j, size_t i);

/* Blocks. id and created are filled in; max_attempts 0: the type's. also (may be NULL) runs in the transaction, after the insert: an audit event. Errors: sg_job_insert's; UNAVAILABLE: too many are waiting;
 * UNSUPPORTED_MEDIA never; NOT_FOUND also for an unknown type. */
struct sg_job_also { enum sg_error (*run)(struct sg_db_conn *c, void *arg, const char *id); void *arg; };
enum sg_error sg_jobs_submit(struct sg_jobs *j, struct sg_job_fields *f, const struct sg_job_needs *needs, const struct sg_job_also *also) SG_NODISCARD;
/* After a job was inserted by somebody else's transaction: counts it, tells of it, runs it. */
void sg_jobs_inserted(struct sg_jobs *j, const char *type, const char *id);
/* Something waits whose time has come. */
void sg_jobs_kick(struct sg_jobs *j);
enum sg_error sg_jobs_cancel(struct sg_jobs *j, const char *id, const struct sg_job_also *also, enum sg_job_state *out) SG_NODISCARD; /* blocks; sg_job_cancel's errors */
enum sg_error sg_jobs_retry(struct sg_jobs *j, const char *id, const struct sg_job_also *also) SG_NODISCARD;                          /* blocks; sg_job_retry's errors */
/* Progress of a job that runs now, fresher than its row: JSON object, malloc'ed; NULL: none. */
char *sg_jobs_progress(struct sg_jobs *j, const char *id);

/* What runs goes on; nothing new of the type (NULL: of any) is taken. To resume all is to resume each. Kept over restarts. Blocks. NOT_FOUND: no such type. */
enum sg_error sg_jobs_pause(struct sg_jobs *j, const char *type, bool pause) SG_NODISCARD;
json_t *sg_jobs_status(struct sg_jobs *j); /* {"paused", "draining", "types": [{"name", "paused", "running", "limit"}]}; NULL: no memory */

/* ---- events ---- */

/* data: JSON object text. seq grows for ever, over restarts too. final: the job has reached a final state. */
struct sg_job_event { uint64_t seq; const char *job_id, *name, *data; bool final; };
struct sg_job_sub;
struct sg_job_sub_params {
    const char *job_id; /* NULL: of all */
    uint64_t after_seq; /* those after it that are still kept come first */
    bool (*event)(void *arg, const struct sg_job_event *e); /* in order, on one thread, without a lock; false: no more */
    void (*gone)(void *arg);                                /* once, the last call */
    void *arg;
};
/* *out is given back by sg_jobs_unsubscribe, also after gone. UNAVAILABLE: stopping, or too many; NO_MEMORY. gone is called only after SG_OK. */
enum sg_error sg_jobs_subscribe(struct sg_jobs *j, const struct sg_job_sub_params *p, struct sg_job_sub **out) SG_NODISCARD;
void sg_jobs_unsubscribe(struct sg_jobs *j, struct sg_job_sub **sub); /* any thread, does not block; gone follows soon if it has not come yet */
uint64_t sg_jobs_last_event(struct sg_jobs *j);
bool sg_jobs_has_since(struct sg_jobs *j, const char *id, uint64_t seq); /* whether an event of the job after seq is kept */
bool sg_jobs_keeps_since(struct sg_jobs *j, uint64_t seq); /* whether every event after seq is still there, and seq is one of ours */

#endif
