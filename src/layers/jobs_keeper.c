/* The keeper thread: renews the leases of what runs, ends what takes too long, gives back what
 * nobody holds any more, fires schedules. It sleeps until the first of these is due. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/cron.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

#include "jobs_private.h"

#define LOOK_AGAIN_MS 60000 /* the wall clock may be set */
#define STORAGE_PAUSE_MS 1000
#define RENEWALS_A_LEASE 3
/* A schedule fired no later than this after its time was not missed. */
#define PUNCTUAL_MS 60000

/* ---- leases ---- */

struct renewing {
    char id[SG_ULID_SIZE], lease[SG_ULID_SIZE];
    char *progress;
    bool lost, cancel;
};
struct renewals {
    struct renewing *items;
    size_t n;
    uint64_t lease_ms;
};

static enum sg_error renew_all(struct sg_db_conn *c, void *arg)
{
    struct renewals *r = arg;
    uint64_t now_ms = sg_clock_wall_ms();
    for (size_t i = 0; i < r->n; i++) {
        struct renewing *one = &r->items[i];
        enum sg_error err =
            sg_job_renew(c,
                         &(struct sg_job_renewal){one->id, one->lease, one->progress, now_ms,
                                                  now_ms + r->lease_ms},
                         &one->cancel);
        one->lost = err == SG_ERR_CONFLICT;
        if (err != SG_OK && !one->lost)
            return err;
    }
    return SG_OK;
}

static void collect_runs(struct sg_jobs *j, struct renewals *r)
{
    pthread_mutex_lock(&j->lock);
    r->lease_ms = j->lease_ms;
    for (struct sg_job_run *run = j->runs; run && r->n < j->n_runners; run = run->next) {
        struct renewing *one = &r->items[r->n++];
        memcpy(one->id, run->job->f.id, SG_ULID_SIZE);
        memcpy(one->lease, run->job->f.lease, SG_ULID_SIZE);
        one->progress = run->progress_new ? strdup(run->progress) : NULL;
        run->progress_new = false;
    }
    pthread_mutex_unlock(&j->lock);
}

static enum sg_error renew(struct sg_jobs *j)
{
    struct renewals r = {.items = calloc(j->n_runners + 1u, sizeof(*r.items))};
    if (!r.items)
        return SG_ERR_NO_MEMORY;
    collect_runs(j, &r);
    enum sg_error err = r.n > 0 ? sg_db_write(j->db, renew_all, &r) : SG_OK;
    pthread_mutex_lock(&j->lock);
    for (size_t i = 0; i < r.n && err == SG_OK; i++) {
        if (!r.items[i].lost && !r.items[i].cancel)
            continue;
        for (struct sg_job_run *run = j->runs; run; run = run->next)
            if (strcmp(run->job->f.lease, r.items[i].lease) == 0)
                jobs_stop_run(run, r.items[i].lost ? SG_JOB_STOP_LOST : SG_JOB_STOP_CANCEL);
    }
    pthread_mutex_unlock(&j->lock);
    for (size_t i = 0; i < r.n; i++)
        free(r.items[i].progress);
    free(r.items);
    return err;
}

struct expiring {
    struct sg_job_expiry expiry;
    struct jobs_changes changes;
    uint64_t n;
};

static enum sg_error expire(struct sg_db_conn *c, void *arg)
{
    struct expiring *e = arg;
    const struct sg_job_watch watch = {jobs_changes_add, &e->changes};
    e->changes.n = 0;
    return sg_job_expire(c, &e->expiry, &watch, &e->n);
}

/* Of a type that may not be known any more. */
static uint64_t crash_delay_ms(void *arg, unsigned crashes)
{
    (void)arg;
    static const struct sg_job_type crashed = {.backoff_ms = 1000, .backoff_max_ms = 60000};
    return jobs_backoff_ms(&crashed, crashes);
}

static bool goes_on(void *arg, const char *type)
{
    const struct sg_job_type *t = sg_jobs_type(arg, type);
    return t && t->goes_on;
}

enum sg_error jobs_expire(struct sg_jobs *j, bool all)
{
    struct expiring e = {.expiry = {.now_ms = sg_clock_wall_ms(),
                                    .all = all,
                                    .delay_ms = crash_delay_ms,
                                    .spares = goes_on,
                                    .arg = j}};
    enum sg_error err = sg_db_write(j->db, expire, &e);
    if (err != SG_OK) {
        free(e.changes.items);
        return err;
    }
    if (e.n > 0) {
        sg_info_log("jobs", "%llu jobs lost what ran them", (unsigned long long)e.n);
        sg_metric_add(SG_METRIC_WORKER_JOBS_CRASHED, 0, e.n);
        jobs_changes_publish(j, &e.changes);
        sg_jobs_kick(j);
    }
    return SG_OK;
}

/* ---- time ---- */

/* Stops what is over its time; how long until the next one is. */
static uint64_t stop_late(struct sg_jobs *j)
{
    uint64_t next_ms = LOOK_AGAIN_MS, now_ns = sg_clock_mono_ns();
    pthread_mutex_lock(&j->lock);
    for (struct sg_job_run *run = j->runs; run; run = run->next) {
        if (run->deadline_ns <= now_ns) {
            jobs_stop_run(run, SG_JOB_STOP_TIMEOUT);
            continue;
        }
        uint64_t left_ms = (run->deadline_ns - now_ns) / 1000000 + 1;
        next_ms = left_ms < next_ms ? left_ms : next_ms;
    }
    pthread_mutex_unlock(&j->lock);
    return next_ms;
}

/* ---- schedules ---- */

struct firing {
    struct sg_jobs *j;
    uint64_t now_ms;
    char job_id[SG_ULID_SIZE]; /* "": none was made */
    char type[SG_JOB_TYPE_SIZE];
    uint64_t next_ms; /* of the first schedule after this; UINT64_MAX: there is none */
};

/* Whether the job of the last time is still there to be done. */
static enum sg_error last_is_open(struct sg_db_conn *c, const struct sg_schedule *s, bool *out)
{
    struct sg_job *job = NULL;
    enum sg_error err = s->f.last_job[0] ? sg_job_get(c, s->f.last_job, &job) : SG_ERR_NOT_FOUND;
    *out = err == SG_OK && !sg_job_state_final(job->f.state);
    sg_job_free(&job);
    return err == SG_ERR_NOT_FOUND ? SG_OK : err;
}

static enum sg_error insert_scheduled(struct sg_db_conn *c, struct firing *k,
                                      const struct sg_schedule *s)
{
    struct sg_job_fields f = {.payload = s->f.payload,
                              .priority = s->f.priority,
                              .run_at_ms = k->now_ms,
                              .max_attempts = s->f.max_attempts,
                              .created_ms = k->now_ms};
    sg_ulid_make(f.id);
    memcpy(f.owner, s->f.owner, sizeof f.owner);
    memcpy(f.schedule_id, s->f.id, sizeof f.schedule_id);
    memcpy(f.type, s->f.type, sizeof f.type);
    enum sg_error err = sg_job_insert(c, &f, NULL);
    if (err == SG_OK) {
        memcpy(k->job_id, f.id, sizeof k->job_id);
        memcpy(k->type, f.type, sizeof k->type);
    }
    return err;
}

/* When it comes due after now. One whose zone or expression cannot be read any more (tzdata was
 * taken away) is looked at again in a day. */
static uint64_t next_time(const struct sg_schedule *s, uint64_t now_ms)
{
    struct sg_cron cron;
    struct sg_zone *zone = NULL;
    const char *why;
    uint64_t next_ms = now_ms + 86400000;
    enum sg_error err = sg_cron_parse(s->f.cron, &cron, &why);
    if (err == SG_OK)
        err = sg_zone_open(s->f.zone, &zone);
    if (err == SG_OK)
        err = sg_cron_next(&cron, zone, now_ms, &next_ms);
    if (err != SG_OK)
        sg_error_log("jobs", "schedule %s cannot be followed: %s", s->f.id, sg_error_title(err));
    sg_zone_close(&zone);
    return next_ms;
}

/* One schedule that is due, in one transaction: its job and its next time. NOT_FOUND: none is. */
static enum sg_error fire_first(struct sg_db_conn *c, void *arg)
{
    struct firing *k = arg;
    struct sg_schedule *s = NULL;
    k->job_id[0] = '\0';
    k->next_ms = UINT64_MAX;
    enum sg_error err = sg_schedule_first(c, &s);
    if (err != SG_OK)
        return err;
    if (s->f.next_ms > k->now_ms) {
        k->next_ms = s->f.next_ms;
        sg_schedule_free(&s);
        return SG_ERR_NOT_FOUND;
    }
    bool open = false;
    bool late = k->now_ms - s->f.next_ms > PUNCTUAL_MS;
    if (!late || s->f.missed == SG_MISSED_ONCE)
        err = last_is_open(c, s, &open);
    else
        open = true; /* missed, and not to be made up for */
    if (err == SG_OK && !open)
        err = insert_scheduled(c, k, s);
    struct sg_schedule_move m = {.id = s->f.id,
                                 .job_id = k->job_id[0] ? k->job_id : NULL,
                                 .from_ms = s->f.next_ms,
                                 .next_ms = next_time(s, k->now_ms),
                                 .now_ms = k->now_ms};
    if (err == SG_OK)
        err = sg_schedule_advance(c, &m);
    sg_schedule_free(&s);
    return err;
}

/* How long until the next one is due. */
static uint64_t fire_schedules(struct sg_jobs *j)
{
    struct firing k = {.j = j, .now_ms = sg_clock_wall_ms()};
    enum sg_error err;
    while ((err = sg_db_write(j->db, fire_first, &k)) == SG_OK) {
        struct jobs_type *t = jobs_find_type(j, k.type);
        if (k.job_id[0] == '\0') {
            sg_metric_add(SG_METRIC_WORKER_SCHEDULES_MISSED, 0, 1);
            continue;
        }
        if (t)
            sg_metric_add(SG_METRIC_WORKER_JOBS_CREATED, t->created, 1);
        jobs_publish_state(j, k.job_id, SG_JOB_QUEUED);
        sg_jobs_kick(j);
    }
    if (err != SG_ERR_NOT_FOUND) {
        sg_warn_log("jobs", "schedules cannot be fired: %s", sg_error_title(err));
        return STORAGE_PAUSE_MS;
    }
    if (k.next_ms == UINT64_MAX)
        return LOOK_AGAIN_MS;
    uint64_t ahead_ms = k.next_ms - k.now_ms;
    return ahead_ms < LOOK_AGAIN_MS ? ahead_ms : LOOK_AGAIN_MS;
}

/* ---- the thread ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void *jobs_keeper_main(void *arg)
{
    struct sg_jobs *j = arg;
    uint64_t renewed_ns = sg_clock_mono_ns();
    for (;;) {
        pthread_mutex_lock(&j->lock);
        uint64_t seen = j->keeper_generation, every_ms = j->lease_ms / RENEWALS_A_LEASE;
        bool draining = j->draining, busy = j->runs != NULL;
        pthread_mutex_unlock(&j->lock);
        if (draining)
            return NULL;
        uint64_t wait_ms = stop_late(j);
        uint64_t age_ms = (sg_clock_mono_ns() - renewed_ns) / 1000000;
        if (age_ms >= every_ms) {
            /* Only what could have been renewed and was not has lost its runner. */
            enum sg_error err = renew(j);
            if (err == SG_OK)
                err = jobs_expire(j, false);
            if (err != SG_OK)
                sg_warn_log("jobs", "leases are not kept up: %s", sg_error_title(err));
            renewed_ns = sg_clock_mono_ns();
            age_ms = 0;
        }
        wait_ms = least(wait_ms, fire_schedules(j));
        if (busy)
            wait_ms = least(wait_ms, every_ms - age_ms);
        pthread_mutex_lock(&j->lock);
        if (!j->draining && j->keeper_generation == seen && wait_ms > 0)
            jobs_wait(&j->chores, &j->lock, wait_ms);
        pthread_mutex_unlock(&j->lock);
    }
}
