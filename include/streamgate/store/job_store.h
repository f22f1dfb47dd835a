/* Jobs and schedules: rows that say what is to be done, who does it, and what came of it. Everything here runs inside a transaction (store/db.h). A struct sg_job is
 * immutable and owned by whoever got it. */
#ifndef STREAMGATE_STORE_JOB_STORE_H
#define STREAMGATE_STORE_JOB_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/error.h"
#include "streamgate/store/db.h"

/* QUEUED: waits for its time, its dependencies or a runner. RUNNING: under a lease. The others are final until somebody retries. DEAD: whatever ran it died SG_JOB_CRASHES_MAX times. */
enum sg_job_state { SG_JOB_QUEUED, SG_JOB_RUNNING, SG_JOB_DONE, SG_JOB_FAILED, SG_JOB_CANCELLED, SG_JOB_DEAD, SG_JOB_STATE_COUNT };
const char *sg_job_state_name(enum sg_job_state s); /* "queued" "running" "done" "failed" "cancelled" "dead" */
enum sg_error sg_job_state_parse(const char *s, enum sg_job_state *out) SG_NODISCARD; /* INVALID */
static inline bool sg_job_state_final(enum sg_job_state s) { return s >= SG_JOB_DONE; }

#define SG_JOB_CRASHES_MAX 3
#define SG_JOB_PRIORITY_MAX 100
#define SG_JOB_PRIORITY_DEFAULT 50
#define SG_JOB_NEEDS_MAX 16
#define SG_JOB_TYPE_SIZE 33 /* 1 to 32 of [a-z0-9_-] */

/* Strings are never NULL ("" when empty). */
struct sg_job_fields {
    char id[SG_ULID_SIZE];
    char owner[SG_ULID_SIZE];       /* user id; "": the daemon itself */
    char asset_id[SG_ULID_SIZE];    /* "" without */
    char schedule_id[SG_ULID_SIZE]; /* "" without */
    char type[SG_JOB_TYPE_SIZE];
    const char *payload;            /* JSON object */
    unsigned priority;              /* 0 to SG_JOB_PRIORITY_MAX; the higher, the sooner */
    enum sg_job_state state;
    uint64_t run_at_ms;             /* not before */
    unsigned attempts;              /* tries that ended by themselves, and the one under way */
    unsigned max_attempts;
    unsigned crashes;               /* tries that ended because what ran them died */
    bool cancel;                    /* RUNNING: somebody asked for its end */
    uint64_t lease_ms;              /* RUNNING: until when */
    char lease[SG_ULID_SIZE];       /* RUNNING: whose; a new one each try */
    const char *depends_on;         /* JSON array of ids */
    const char *progress, *result;  /* JSON objects; "" without */
    const char *error_slug, *error_detail; /* of the last try that went wrong */
    uint64_t created_ms, updated_ms, started_ms, finished_ms; /* Unix ms; 0: not yet */
};
struct sg_job { struct sg_job_fields f; /* strings live in the same allocation */ };
void sg_job_free(struct sg_job **job); /* NULL inside is fine */

/* Told of each job that a call changed besides the one it names; id is good during the call. NULL: nobody wants to know. */
struct sg_job_watch { void (*changed)(void *arg, const char *id, enum sg_job_state state); void *arg; };

/* A new job in state QUEUED (state, attempts, lease and what comes of it are not looked at; depends_on is made from needs). EXISTS; INVALID; NOT_FOUND: a need is no job;
 * CONFLICT: a need has ended and is not done. */
struct sg_job_needs { const char *const *ids; size_t n; };
enum sg_error sg_job_insert(struct sg_db_conn *c, const struct sg_job_fields *f, const struct sg_job_needs *needs) SG_NODISCARD;
enum sg_error sg_job_get(struct sg_db_conn *c, const char *id, struct sg_job **out) SG_NODISCARD; /* NOT_FOUND */

/* Takes the next job, by one UPDATE: of those whose time has come and whose dependencies are done, of a type in `caps` of which fewer than the number there are running: the highest priority; then
 * the owner with the fewest running jobs, then the one whose last turn is longest ago; then the earliest run_at. caps: JSON object, type -> number. NOT_FOUND: none. */
struct sg_job_claim { const char *caps, *lease; uint64_t now_ms, lease_ms; };
enum sg_error sg_job_claim(struct sg_db_conn *c, const struct sg_job_claim *claim, struct sg_job **out) SG_NODISCARD;
/* The earliest run_at after now_ms of a job that waits for nothing else, of any type; UINT64_MAX: none. */
enum sg_error sg_job_next_due(struct sg_db_conn *c, uint64_t now_ms, uint64_t *out_ms) SG_NODISCARD;
/* CONFLICT: the lease is not (any more) the job's. progress NULL: as it was. *cancel: somebody asked for its end. */
struct sg_job_renewal { const char *id, *lease, *progress; uint64_t now_ms, lease_ms; };
enum sg_error sg_job_renew(struct sg_db_conn *c, const struct sg_job_renewal *r, bool *cancel) SG_NODISCARD;

/* How a try ended. RETRY, BACK and CRASHED queue the job again for run_at_ms; CRASHED for the SG_JOB_CRASHES_MAXth time makes it DEAD; BACK counts as no try. CANCELLED by request. A job
 * whose end was asked for is never queued again. Jobs that depend on one that became DONE may run; those that depend on one that ended otherwise fail with it ("dependency-failed").
 * CONFLICT: the lease is not the job's. */
enum sg_job_ending { SG_JOB_END_DONE, SG_JOB_END_RETRY, SG_JOB_END_FAILED, SG_JOB_END_CANCELLED, SG_JOB_END_BACK, SG_JOB_END_CRASHED };
struct sg_job_end {
    const char *id, *lease;
    enum sg_job_ending ending;
    const char *progress, *result;          /* NULL: as it was */
    const char *error_slug, *error_detail;  /* NULL: as they were */
    uint64_t now_ms, run_at_ms;
};
enum sg_error sg_job_finish(struct sg_db_conn *c, const struct sg_job_end *end, const struct sg_job_watch *watch, enum sg_job_state *out) SG_NODISCARD;
/* Ends the tries whose lease ran out as CRASHED; all: every try, as at a start, when whoever held the leases is gone. delay_ms(arg, crashes): how long a job waits that crashed so often. watch hears of each. */
struct sg_job_expiry {
    uint64_t now_ms;
    bool all;
    uint64_t (*delay_ms)(void *arg, unsigned crashes);
    bool (*spares)(void *arg, const char *type); /* NULL: none. Tries of these types end as BACK instead */
    void *arg;
};
enum sg_error sg_job_expire(struct sg_db_conn *c, const struct sg_job_expiry *e, const struct sg_job_watch *watch, uint64_t *out_n) SG_NODISCARD;

/* QUEUED becomes CANCELLED; RUNNING is marked, and ends by its runner. *out: the state now. NOT_FOUND; CONFLICT: it has ended. */
enum sg_error sg_job_cancel(struct sg_db_conn *c, const char *id, uint64_t now_ms, const struct sg_job_watch *watch, enum sg_job_state *out) SG_NODISCARD;
/* FAILED, CANCELLED or DEAD becomes QUEUED with no attempts and crashes, and so do the jobs that failed with it. NOT_FOUND; CONFLICT: in another state, or a job it depends on is not done. */
enum sg_error sg_job_retry(struct sg_db_conn *c, const char *id, uint64_t now_ms, const struct sg_job_watch *watch) SG_NODISCARD;

/* Newest first (id order); NULL or -1: any. before: id or NULL. limit 1 to 1000. */
struct sg_job_query { const char *owner, *type, *asset_id; int state; const char *before; unsigned limit; };
struct sg_job_list { struct sg_job **items; size_t n; };
enum sg_error sg_job_list(struct sg_db_conn *c, const struct sg_job_query *q, struct sg_job_list *out) SG_NODISCARD;
void sg_job_list_free(struct sg_job_list *list);
enum sg_error sg_job_count_open(struct sg_db_conn *c, const char *type, uint64_t *out) SG_NODISCARD; /* that wait or run */
enum sg_error sg_job_counts(struct sg_db_conn *c, uint64_t out[SG_JOB_STATE_COUNT]) SG_NODISCARD;
enum sg_error sg_job_is_full(struct sg_db_conn *c, uint64_t max_queued, bool *out) SG_NODISCARD; /* whether so many wait already */
/* Removes jobs that ended before before_ms, at most limit, oldest first. */
enum sg_error sg_job_prune(struct sg_db_conn *c, uint64_t before_ms, unsigned limit, uint64_t *out_n) SG_NODISCARD;

/* ---- schedules ---- */

enum sg_missed { SG_MISSED_SKIP, SG_MISSED_ONCE, SG_MISSED_COUNT }; /* runs that came due while nobody could fire them: none of them, or one for all */
const char *sg_missed_name(enum sg_missed m); /* "skip" "once" */
enum sg_error sg_missed_parse(const char *s, enum sg_missed *out) SG_NODISCARD; /* INVALID */

struct sg_schedule_fields {
    char id[SG_ULID_SIZE], owner[SG_ULID_SIZE];
    char type[SG_JOB_TYPE_SIZE];
    const char *cron, *zone;        /* base/cron.h */
    const char *payload;
    unsigned priority, max_attempts;
    enum sg_missed missed;
    uint64_t next_ms, last_ms;      /* last_ms 0: never */
    char last_job[SG_ULID_SIZE];    /* "" without */
    uint64_t created_ms;
};
struct sg_schedule { struct sg_schedule_fields f; };
void sg_schedule_free(struct sg_schedule **s);
enum sg_error sg_schedule_insert(struct sg_db_conn *c, const struct sg_schedule_fields *f) SG_NODISCARD;
enum sg_error sg_schedule_get(struct sg_db_conn *c, const char *id, struct sg_schedule **out) SG_NODISCARD; /* NOT_FOUND */
enum sg_error sg_schedule_delete(struct sg_db_conn *c, const char *id) SG_NODISCARD;                         /* NOT_FOUND */
/* Newest first, those before an id (NULL: from the top), 1 to 1000. */
struct sg_schedule_list { struct sg_schedule **items; size_t n; };
enum sg_error sg_schedule_list(struct sg_db_conn *c, const char *before, unsigned limit, struct sg_schedule_list *out) SG_NODISCARD;
void sg_schedule_list_free(struct sg_schedule_list *list);
/* The one that is due first, whenever that is. NOT_FOUND: there is none. */
enum sg_error sg_schedule_first(struct sg_db_conn *c, struct sg_schedule **out) SG_NODISCARD;
/* Moves a schedule on to next_ms. job_id NULL: it was not fired. CONFLICT: its next_ms is not from_ms (any more); NOT_FOUND. */
struct sg_schedule_move { const char *id, *job_id; uint64_t from_ms, next_ms, now_ms; };
enum sg_error sg_schedule_advance(struct sg_db_conn *c, const struct sg_schedule_move *m) SG_NODISCARD;

#endif
