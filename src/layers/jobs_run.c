/* Tries of jobs: the runner threads, and what a handler may do. A try is in `runs` from just after
 * it was taken until its end is in the database, so whoever wants it stopped finds it there, or, in
 * the moment before, leaves its lease in `cancels`. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "streamgate/base/json.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

#include "jobs_private.h"

#define LOOK_AGAIN_MS 60000 /* however late the next job is due: the wall clock may be set */
#define STORAGE_PAUSE_MS 1000
#define TELL_EVERY_NS 200000000ull

/* ---- the handler's side ---- */

const struct sg_job_fields *sg_job_run_job(const struct sg_job_run *run)
{
    return &run->job->f;
}

bool sg_job_run_stopped(struct sg_job_run *run)
{
    return atomic_load_explicit(&run->stop, memory_order_acquire) != SG_JOB_STOP_NO;
}

int sg_job_run_stop_fd(struct sg_job_run *run)
{
    return run->stop_fd;
}

bool sg_job_run_wait(struct sg_job_run *run, uint64_t ms)
{
    struct pollfd p = {.fd = run->stop_fd, .events = POLLIN};
    uint64_t until_ns = sg_clock_mono_ns() + ms * 1000000;
    for (uint64_t now_ns; !sg_job_run_stopped(run);) {
        now_ns = sg_clock_mono_ns();
        if (now_ns >= until_ns)
            return false;
        uint64_t left_ms = (until_ns - now_ns + 999999) / 1000000;
        (void)poll(&p, 1, left_ms > INT32_MAX ? INT32_MAX : (int)left_ms);
    }
    return true;
}

bool jobs_stop_run(struct sg_job_run *run, enum sg_job_stop reason)
{
    int none = SG_JOB_STOP_NO;
    if (!atomic_compare_exchange_strong(&run->stop, &none, (int)reason))
        return false;
    const uint64_t one = 1;
    (void)!write(run->stop_fd, &one, sizeof one); /* an eventfd of 0 takes it at once */
    return true;
}

static int set_known(json_t *o, const char *name, double value)
{
    return value < 0 ? 0 : json_object_set_new(o, name, json_real(value));
}

void sg_job_run_progress(struct sg_job_run *run, const struct sg_job_progress *p)
{
    json_t *o = json_object();
    int bad = set_known(o, "percent", p->percent) | set_known(o, "fps", p->fps) |
              set_known(o, "speed", p->speed) | set_known(o, "eta", p->eta_s);
    char *text = o && !bad ? sg_json_dump(o, NULL) : NULL;
    char *copy = text ? strdup(text) : NULL;
    json_decref(o);
    if (!copy) {
        free(text);
        return; /* the next one may find memory */
    }
    uint64_t now_ns = sg_clock_mono_ns();
    struct sg_jobs *j = run->jobs;
    pthread_mutex_lock(&j->lock);
    bool tells = run->told_ns == 0 || now_ns - run->told_ns >= TELL_EVERY_NS || p->percent >= 100;
    if (tells)
        run->told_ns = now_ns;
    char *old = run->progress;
    run->progress = text;
    run->progress_new = true;
    pthread_mutex_unlock(&j->lock);
    free(old);
    if (tells)
        jobs_bus_publish(j->bus, run->job->f.id, "progress", false, copy);
    else
        free(copy);
}

void sg_job_run_result(struct sg_job_run *run, json_t *result)
{
    json_decref(run->result);
    run->result = result;
}

enum sg_error sg_job_run_fail(struct sg_job_run *run, enum sg_error err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(run->detail, sizeof run->detail, fmt, args);
    va_end(args);
    return err;
}

enum sg_job_stop sg_job_run_stop(struct sg_job_run *run)
{
    return (enum sg_job_stop)atomic_load(&run->stop);
}

void sg_job_run_final(struct sg_job_run *run)
{
    run->final = true;
}

void sg_job_run_retry_after(struct sg_job_run *run, uint64_t ms)
{
    run->retry_after_ms = ms;
}

char *sg_jobs_progress(struct sg_jobs *j, const char *id)
{
    char *copy = NULL;
    pthread_mutex_lock(&j->lock);
    for (struct sg_job_run *run = j->runs; run; run = run->next)
        if (run->progress && strcmp(run->job->f.id, id) == 0)
            copy = strdup(run->progress);
    pthread_mutex_unlock(&j->lock);
    return copy;
}

/* ---- taking one ---- */

/* {"type": how many}, without what is paused. Called under the lock. */
static void write_caps(const struct sg_jobs *j, struct sg_text *out)
{
    const char *comma = "";
    sg_text_puts(out, "{");
    for (size_t i = 0; !j->paused && i < j->n_types; i++) {
        const struct jobs_type *t = &j->types[i];
        if (t->paused || t->limit == 0)
            continue;
        sg_text_printf(out, "%s\"%s\":%llu", comma, t->type->name, (unsigned long long)t->limit);
        comma = ",";
    }
    sg_text_puts(out, "}");
}

struct taking {
    struct sg_job_claim claim;
    struct sg_job *job;
    uint64_t due_ms;
};

static enum sg_error take(struct sg_db_conn *c, void *arg)
{
    struct taking *t = arg;
    return sg_job_claim(c, &t->claim, &t->job);
}

static enum sg_error look_ahead(struct sg_db_conn *c, void *arg)
{
    struct taking *t = arg;
    return sg_job_next_due(c, t->claim.now_ms, &t->due_ms);
}

/* *wait_ms: how long to wait when there is none. */
static struct sg_job *take_next(struct sg_jobs *j, const char *caps, uint64_t lease_ms,
                                uint64_t *wait_ms)
{
    char lease[SG_ULID_SIZE];
    sg_ulid_make(lease);
    uint64_t now_ms = sg_clock_wall_ms();
    struct taking t = {.claim = {caps, lease, now_ms, now_ms + lease_ms}};
    enum sg_error err = sg_db_write(j->db, take, &t);
    if (err == SG_OK)
        return t.job;
    if (err == SG_ERR_NOT_FOUND)
        err = sg_db_read(j->db, look_ahead, &t);
    if (err != SG_OK) {
        sg_warn_log("jobs", "the queue cannot be read: %s", sg_error_title(err));
        *wait_ms = STORAGE_PAUSE_MS;
        return NULL;
    }
    uint64_t ahead_ms = t.due_ms - now_ms;
    *wait_ms = ahead_ms < LOOK_AGAIN_MS ? ahead_ms : LOOK_AGAIN_MS;
    return NULL;
}

/* ---- one try ---- */

static bool enter(struct sg_job_run *run)
{
    struct sg_jobs *j = run->jobs;
    pthread_mutex_lock(&j->lock);
    run->next = j->runs;
    if (j->runs)
        j->runs->prev = run;
    j->runs = run;
    run->type->running++;
    run->deadline_ns = sg_clock_mono_ns() + run->type->timeout_ms * 1000000;
    enum sg_job_stop reason = j->draining ? SG_JOB_STOP_DRAIN : SG_JOB_STOP_NO;
    for (unsigned i = 0; i < JOBS_RECENT_CANCELS; i++)
        if (strcmp(j->cancels[i], run->job->f.lease) == 0)
            reason = SG_JOB_STOP_CANCEL;
    if (reason != SG_JOB_STOP_NO)
        jobs_stop_run(run, reason);
    j->keeper_generation++; /* its deadline may be the next one */
    pthread_cond_signal(&j->chores);
    pthread_mutex_unlock(&j->lock);
    return reason == SG_JOB_STOP_NO;
}

static void leave(struct sg_job_run *run)
{
    struct sg_jobs *j = run->jobs;
    pthread_mutex_lock(&j->lock);
    if (run->next)
        run->next->prev = run->prev;
    if (run->prev)
        run->prev->next = run->next;
    else
        j->runs = run->next;
    run->type->running--;
    j->generation++; /* a place of its type, and whoever waited for it */
    pthread_cond_broadcast(&j->work);
    pthread_mutex_unlock(&j->lock);
}

static bool is_permanent(enum sg_error err)
{
    switch (err) {
    case SG_ERR_INVALID:
    case SG_ERR_NOT_FOUND:
    case SG_ERR_FORBIDDEN:
    case SG_ERR_GONE:
    case SG_ERR_TOO_LARGE:
    case SG_ERR_UNSUPPORTED_MEDIA:
    case SG_ERR_UNPROCESSABLE:
        return true;
    default:
        return false;
    }
}

/* What a handler's word and the reason it was stopped for come to. */
static enum sg_job_ending judge(struct sg_job_run *run, enum sg_error *err)
{
    enum sg_job_stop reason = (enum sg_job_stop)atomic_load(&run->stop);
    if (*err == SG_OK)
        return SG_JOB_END_DONE;
    if (reason == SG_JOB_STOP_CANCEL)
        return SG_JOB_END_CANCELLED;
    if (reason == SG_JOB_STOP_DRAIN) /* whatever it says: it was not left to go on */
        return SG_JOB_END_BACK;
    if (reason == SG_JOB_STOP_TIMEOUT) {
        *err = SG_ERR_TIMED_OUT;
        run->detail[0] = '\0';
    }
    if (*err == SG_ERR_MEDIA_WORKER)
        return SG_JOB_END_CRASHED;
    if (run->final || is_permanent(*err) || run->job->f.attempts >= run->job->f.max_attempts)
        return SG_JOB_END_FAILED;
    return SG_JOB_END_RETRY;
}

struct ending {
    struct sg_job_end end;
    struct jobs_changes changes;
    enum sg_job_state state;
};

static enum sg_error write_end(struct sg_db_conn *c, void *arg)
{
    struct ending *e = arg;
    const struct sg_job_watch watch = {jobs_changes_add, &e->changes};
    e->changes.n = 0;
    return sg_job_finish(c, &e->end, &watch, &e->state);
}

/* Until the database takes it, or the daemon stops: then the lease tells the next one. */
static enum sg_error put_end(struct sg_jobs *j, struct ending *e)
{
    for (;;) {
        enum sg_error err = sg_db_write(j->db, write_end, e);
        if (err == SG_OK || err == SG_ERR_CONFLICT)
            return err;
        sg_warn_log("jobs", "the end of job %s is not stored: %s", e->end.id, sg_error_title(err));
        pthread_mutex_lock(&j->lock);
        bool draining = j->draining;
        if (!draining)
            jobs_wait(&j->work, &j->lock, STORAGE_PAUSE_MS);
        pthread_mutex_unlock(&j->lock);
        if (draining)
            return err;
    }
}

static uint64_t delay_of(const struct sg_job_run *run, enum sg_job_ending ending)
{
    const struct sg_job_fields *f = &run->job->f;
    if (ending == SG_JOB_END_BACK)
        return 0;
    unsigned failures = ending == SG_JOB_END_CRASHED ? f->crashes + 1 : f->attempts;
    uint64_t ms = jobs_backoff_ms(run->type->type, failures);
    return ms > run->retry_after_ms ? ms : run->retry_after_ms;
}

static void finish(struct sg_job_run *run, enum sg_error err)
{
    struct sg_jobs *j = run->jobs;
    enum sg_job_ending ending = judge(run, &err);
    bool well = ending == SG_JOB_END_DONE || ending == SG_JOB_END_BACK;
    uint64_t now_ms = sg_clock_wall_ms();
    char *result = run->result ? sg_json_dump(run->result, NULL) : NULL;
    pthread_mutex_lock(&j->lock);
    char *progress = run->progress;
    run->progress = NULL;
    run->progress_new = false; /* or the keeper would look for it */
    pthread_mutex_unlock(&j->lock);
    struct ending e = {.end = {.id = run->job->f.id,
                               .lease = run->job->f.lease,
                               .ending = ending,
                               .progress = progress,
                               .result = result,
                               .error_slug = well ? "" : sg_error_slug(err),
                               .error_detail = well             ? ""
                                               : run->detail[0] ? run->detail
                                                                : sg_error_title(err),
                               .now_ms = now_ms,
                               .run_at_ms = now_ms + delay_of(run, ending)}};
    if (ending == SG_JOB_END_BACK || ending == SG_JOB_END_CRASHED)
        e.end.result = NULL;
    enum sg_error stored = put_end(j, &e);
    if (stored == SG_OK) {
        jobs_publish_state(j, run->job->f.id, e.state);
        if (sg_job_state_final(e.state))
            sg_metric_add(SG_METRIC_WORKER_JOBS_FINISHED, run->type->finished[e.state], 1);
        else if (ending != SG_JOB_END_BACK)
            sg_metric_add(SG_METRIC_WORKER_JOBS_RETRIED, run->type->retried, 1);
        jobs_changes_publish(j, &e.changes);
    } else {
        sg_warn_log("jobs", "job %s: its lease was lost before its end", run->job->f.id);
        free(e.changes.items);
    }
    free(result);
    free(progress);
}

static void run_one(struct sg_jobs *j, struct sg_job *job)
{
    struct sg_job_run run = {.jobs = j, .job = job, .type = jobs_find_type(j, job->f.type)};
    run.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool goes = enter(&run);
    uint64_t began_ns = sg_clock_mono_ns();
    jobs_publish_state(j, job->f.id, SG_JOB_RUNNING);
    enum sg_error err = SG_ERR_CANCELLED;
    if (run.stop_fd < 0)
        err = sg_error_from_errno(errno);
    else if (goes)
        err = run.type->type->run(&run, run.type->type->arg);
    finish(&run, err);
    leave(&run);
    sg_metric_observe_ns(SG_METRIC_WORKER_JOB_LATENCY, run.type->latency,
                         sg_clock_mono_ns() - began_ns);
    if (run.stop_fd >= 0)
        close(run.stop_fd);
    free(run.progress);
    json_decref(run.result);
    sg_job_free(&job);
}

void *jobs_runner_main(void *arg)
{
    struct sg_jobs *j = arg;
    for (;;) {
        struct sg_text caps = {0};
        pthread_mutex_lock(&j->lock);
        uint64_t seen = j->generation, lease_ms = j->lease_ms;
        bool draining = j->draining;
        write_caps(j, &caps);
        pthread_mutex_unlock(&j->lock);
        uint64_t wait_ms = STORAGE_PAUSE_MS;
        struct sg_job *job = NULL;
        if (!draining && !caps.failed)
            job = take_next(j, caps.ptr, lease_ms, &wait_ms);
        sg_text_free(&caps);
        if (draining)
            return NULL;
        if (job) {
            run_one(j, job);
            continue;
        }
        pthread_mutex_lock(&j->lock);
        if (!j->draining && j->generation == seen)
            jobs_wait(&j->work, &j->lock, wait_ms);
        pthread_mutex_unlock(&j->lock);
    }
}
