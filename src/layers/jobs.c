/* The queue: its types, its threads' life, and what is asked of it from outside. */
#include "streamgate/layers/jobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "streamgate/base/crypto.h"
#include "streamgate/base/json.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

#include "jobs_private.h"

void jobs_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    (void)pthread_cond_timedwait(cond, lock, &until);
}

uint64_t jobs_backoff_ms(const struct sg_job_type *type, unsigned failures)
{
    uint64_t ms = type->backoff_ms;
    for (unsigned i = 1; i < failures && ms < type->backoff_max_ms; i++)
        ms *= 2;
    if (ms > type->backoff_max_ms)
        ms = type->backoff_max_ms;
    uint32_t dice;
    sg_random(&dice, sizeof dice);
    return ms - ms / 4 + (ms / 2) * dice / UINT32_MAX; /* three to five quarters */
}

/* ---- events ---- */

void jobs_publish_state(struct sg_jobs *j, const char *id, enum sg_job_state state)
{
    struct sg_text data = {0};
    sg_text_printf(&data, "{\"id\":\"%s\",\"state\":\"%s\"}", id, sg_job_state_name(state));
    if (data.failed)
        sg_text_free(&data);
    jobs_bus_publish(j->bus, id, "state", sg_job_state_final(state), data.ptr);
}

void jobs_changes_add(void *arg, const char *id, enum sg_job_state state)
{
    struct jobs_changes *c = arg;
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 16;
        struct jobs_change *grown = realloc(c->items, cap * sizeof(*grown));
        if (!grown)
            return; /* one event less: the rows are right */
        c->items = grown;
        c->cap = cap;
    }
    struct jobs_change *change = &c->items[c->n++];
    *change = (struct jobs_change){.state = state};
    memcpy(change->id, id, strnlen(id, SG_ULID_SIZE - 1));
}

void jobs_changes_publish(struct sg_jobs *j, struct jobs_changes *changes)
{
    for (size_t i = 0; i < changes->n; i++) {
        const struct jobs_change *change = &changes->items[i];
        jobs_publish_state(j, change->id, change->state);
        if (change->state == SG_JOB_DEAD)
            sg_warn_log("jobs", "job %s is dead: what ran it died %d times", change->id,
                        SG_JOB_CRASHES_MAX);
    }
    free(changes->items);
    *changes = (struct jobs_changes){0};
}

enum sg_error sg_jobs_subscribe(struct sg_jobs *j, const struct sg_job_sub_params *p,
                                struct sg_job_sub **out)
{
    return jobs_bus_subscribe(j->bus, p, out);
}

void sg_jobs_unsubscribe(struct sg_jobs *j, struct sg_job_sub **sub)
{
    jobs_bus_unsubscribe(j->bus, sub);
}

uint64_t sg_jobs_last_event(struct sg_jobs *j)
{
    return jobs_bus_last(j->bus);
}

bool sg_jobs_has_since(struct sg_jobs *j, const char *id, uint64_t seq)
{
    return jobs_bus_has_since(j->bus, id, seq);
}

bool sg_jobs_keeps_since(struct sg_jobs *j, uint64_t seq)
{
    return jobs_bus_keeps_since(j->bus, seq);
}

/* ---- types ---- */

struct jobs_type *jobs_find_type(struct sg_jobs *j, const char *name)
{
    for (size_t i = 0; i < j->n_types; i++)
        if (strcmp(j->types[i].type->name, name) == 0)
            return &j->types[i];
    return NULL;
}

const struct sg_job_type *sg_jobs_type(const struct sg_jobs *j, const char *name)
{
    for (size_t i = 0; i < j->n_types; i++)
        if (strcmp(j->types[i].type->name, name) == 0)
            return j->types[i].type;
    return NULL;
}

size_t sg_jobs_type_count(const struct sg_jobs *j)
{
    return j->n_types;
}

const struct sg_job_type *sg_jobs_type_at(const struct sg_jobs *j, size_t i)
{
    return j->types[i].type;
}

static enum sg_error define(enum sg_metric m, const char *type, const char *state, uint32_t *out)
{
    struct sg_text labels = {0};
    sg_text_printf(&labels, "type=\"%s\"", type);
    if (state)
        sg_text_printf(&labels, ",state=\"%s\"", state);
    enum sg_error err = labels.failed ? SG_ERR_NO_MEMORY : sg_metric_define(m, labels.ptr, out);
    sg_text_free(&labels);
    return err;
}

enum sg_error sg_jobs_register(struct sg_jobs *j, const struct sg_job_type *type)
{
    if (j->n_types == JOBS_TYPES_MAX)
        return SG_ERR_TOO_LARGE;
    if (sg_jobs_type(j, type->name))
        return SG_ERR_EXISTS;
    if (strlen(type->name) >= SG_JOB_TYPE_SIZE || type->max_attempts == 0)
        return SG_ERR_INVALID;
    struct jobs_type *t = &j->types[j->n_types];
    *t = (struct jobs_type){.type = type};
    enum sg_error err = define(SG_METRIC_WORKER_JOBS_CREATED, type->name, NULL, &t->created);
    if (err == SG_OK)
        err = define(SG_METRIC_WORKER_JOB_LATENCY, type->name, NULL, &t->latency);
    if (err == SG_OK)
        err = define(SG_METRIC_WORKER_JOBS_RETRIED, type->name, NULL, &t->retried);
    for (int s = SG_JOB_DONE; s < SG_JOB_STATE_COUNT && err == SG_OK; s++)
        err = define(SG_METRIC_WORKER_JOBS_FINISHED, type->name,
                     sg_job_state_name((enum sg_job_state)s), &t->finished[s]);
    if (err == SG_OK)
        j->n_types++;
    return err;
}

/* ---- life ---- */

static bool set(uint64_t *at, uint64_t value)
{
    bool changed = *at != value;
    *at = value;
    return changed;
}

void sg_jobs_configure(struct sg_jobs *j, const struct sg_config *config)
{
    bool changed = false;
    pthread_mutex_lock(&j->lock);
    changed |= set(&j->lease_ms, sg_config_uint(config, SG_SET_worker_lease));
    changed |= set(&j->max_queued, sg_config_uint(config, SG_SET_worker_max_queued));
    for (size_t i = 0; i < j->n_types; i++) {
        struct jobs_type *t = &j->types[i];
        changed |= set(&t->limit, sg_config_uint(config, t->type->concurrency));
        changed |= set(&t->timeout_ms, sg_config_uint(config, t->type->timeout));
    }
    pthread_mutex_unlock(&j->lock);
    if (changed)
        sg_jobs_kick(j);
}

enum sg_error sg_jobs_create(struct sg_db *db, const struct sg_config *config, struct sg_jobs **out)
{
    struct sg_jobs *j = calloc(1, sizeof(*j));
    if (!j)
        return SG_ERR_NO_MEMORY;
    j->db = db;
    j->n_runners = (unsigned)sg_config_uint(config, SG_SET_worker_runners);
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->work, &attr);
    pthread_cond_init(&j->chores, &attr);
    pthread_condattr_destroy(&attr);
    j->runners = calloc(j->n_runners + 1u, sizeof(*j->runners));
    enum sg_error err = j->runners ? SG_OK : SG_ERR_NO_MEMORY;
    if (err == SG_OK)
        err = jobs_bus_create((size_t)sg_config_uint(config, SG_SET_worker_events), &j->bus);
    if (err == SG_OK)
        sg_jobs_configure(j, config);
    if (err != SG_OK)
        sg_jobs_destroy(&j);
    else
        *out = j;
    return err;
}

static enum sg_error start_threads(struct sg_jobs *j)
{
    char name[16];
    enum sg_error err = jobs_bus_start(j->bus);
    if (err != SG_OK)
        return err;
    if (pthread_create(&j->keeper, NULL, jobs_keeper_main, j) != 0)
        return SG_ERR_NO_MEMORY;
    j->keeper_started = true;
    pthread_setname_np(j->keeper, "job-keeper");
    for (; j->runners_started < j->n_runners; j->runners_started++) {
        if (pthread_create(&j->runners[j->runners_started], NULL, jobs_runner_main, j) != 0)
            return SG_ERR_NO_MEMORY;
        (void)snprintf(name, sizeof name, "job-%u", j->runners_started);
        pthread_setname_np(j->runners[j->runners_started], name);
    }
    return SG_OK;
}

enum sg_error sg_jobs_start(struct sg_jobs *j)
{
    enum sg_error err = jobs_restore_paused(j);
    if (err == SG_OK)
        err = jobs_expire(j, true);
    if (err == SG_OK)
        err = start_threads(j);
    if (err != SG_OK)
        sg_jobs_stop(j);
    return err;
}

void sg_jobs_kick(struct sg_jobs *j)
{
    pthread_mutex_lock(&j->lock);
    j->generation++;
    j->keeper_generation++;
    pthread_cond_broadcast(&j->work);
    pthread_cond_signal(&j->chores);
    pthread_mutex_unlock(&j->lock);
}

void sg_jobs_drain(struct sg_jobs *j)
{
    pthread_mutex_lock(&j->lock);
    j->draining = true;
    for (struct sg_job_run *run = j->runs; run; run = run->next)
        jobs_stop_run(run, SG_JOB_STOP_DRAIN);
    pthread_cond_broadcast(&j->work);
    pthread_cond_signal(&j->chores);
    pthread_mutex_unlock(&j->lock);
}

void sg_jobs_stop(struct sg_jobs *j)
{
    if (j->stopped)
        return;
    j->stopped = true;
    sg_jobs_drain(j);
    for (unsigned i = 0; i < j->runners_started; i++)
        pthread_join(j->runners[i], NULL);
    if (j->keeper_started)
        pthread_join(j->keeper, NULL);
    jobs_bus_stop(j->bus);
}

void sg_jobs_destroy(struct sg_jobs **jobs)
{
    struct sg_jobs *j = *jobs;
    if (!j)
        return;
    *jobs = NULL;
    if (j->bus)
        sg_jobs_stop(j);
    jobs_bus_destroy(&j->bus);
    free(j->runners);
    pthread_cond_destroy(&j->work);
    pthread_cond_destroy(&j->chores);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

/* ---- requests ---- */

struct change {
    struct sg_jobs *j;
    struct sg_job_fields *f;
    const struct sg_job_needs *needs;
    const struct sg_job_also *also;
    const char *id;
    uint64_t max_queued;
    struct jobs_changes changes;
    enum sg_job_state state;
    char lease[SG_ULID_SIZE];
};

static enum sg_error also(struct sg_db_conn *c, const struct change *k, const char *id)
{
    return k->also ? k->also->run(c, k->also->arg, id) : SG_OK;
}

static enum sg_error insert(struct sg_db_conn *c, void *arg)
{
    struct change *k = arg;
    bool full = false;
    enum sg_error err = sg_job_is_full(c, k->max_queued, &full);
    if (err == SG_OK && full)
        err = SG_ERR_UNAVAILABLE;
    if (err == SG_OK)
        err = sg_job_insert(c, k->f, k->needs);
    return err == SG_OK ? also(c, k, k->f->id) : err;
}

enum sg_error sg_jobs_submit(struct sg_jobs *j, struct sg_job_fields *f,
                             const struct sg_job_needs *needs, const struct sg_job_also *also_run)
{
    struct jobs_type *t = jobs_find_type(j, f->type);
    if (!t)
        return SG_ERR_NOT_FOUND;
    sg_ulid_make(f->id);
    f->created_ms = sg_clock_wall_ms();
    if (f->max_attempts == 0)
        f->max_attempts = t->type->max_attempts;
    struct change k = {.f = f, .needs = needs, .also = also_run};
    pthread_mutex_lock(&j->lock);
    k.max_queued = j->max_queued;
    pthread_mutex_unlock(&j->lock);
    enum sg_error err = sg_db_write(j->db, insert, &k);
    if (err != SG_OK)
        return err;
    sg_jobs_inserted(j, f->type, f->id);
    return SG_OK;
}

void sg_jobs_inserted(struct sg_jobs *j, const char *type, const char *id)
{
    const struct jobs_type *t = jobs_find_type(j, type);
    if (t)
        sg_metric_add(SG_METRIC_WORKER_JOBS_CREATED, t->created, 1);
    jobs_publish_state(j, id, SG_JOB_QUEUED);
    sg_jobs_kick(j);
}

static enum sg_error cancel(struct sg_db_conn *c, void *arg)
{
    struct change *k = arg;
    const struct sg_job_watch watch = {jobs_changes_add, &k->changes};
    k->changes.n = 0;
    struct sg_job *job = NULL;
    enum sg_error err = sg_job_get(c, k->id, &job);
    if (err != SG_OK)
        return err;
    memcpy(k->lease, job->f.lease, sizeof k->lease);
    sg_job_free(&job);
    err = sg_job_cancel(c, k->id, sg_clock_wall_ms(), &watch, &k->state);
    return err == SG_OK ? also(c, k, k->id) : err;
}

static void stop_try(struct sg_jobs *j, const char *lease)
{
    pthread_mutex_lock(&j->lock);
    struct sg_job_run *run = j->runs;
    while (run && strcmp(run->job->f.lease, lease) != 0)
        run = run->next;
    if (run)
        jobs_stop_run(run, SG_JOB_STOP_CANCEL);
    else
        memcpy(j->cancels[j->next_cancel++ % JOBS_RECENT_CANCELS], lease, SG_ULID_SIZE);
    pthread_mutex_unlock(&j->lock);
}

enum sg_error sg_jobs_cancel(struct sg_jobs *j, const char *id, const struct sg_job_also *also_run,
                             enum sg_job_state *out)
{
    struct change k = {.id = id, .also = also_run};
    enum sg_error err = sg_db_write(j->db, cancel, &k);
    if (err != SG_OK) {
        free(k.changes.items);
        return err;
    }
    if (k.state == SG_JOB_RUNNING)
        stop_try(j, k.lease);
    else
        jobs_publish_state(j, id, k.state);
    jobs_changes_publish(j, &k.changes);
    *out = k.state;
    return SG_OK;
}

static enum sg_error retry(struct sg_db_conn *c, void *arg)
{
    struct change *k = arg;
    const struct sg_job_watch watch = {jobs_changes_add, &k->changes};
    k->changes.n = 0;
    enum sg_error err = sg_job_retry(c, k->id, sg_clock_wall_ms(), &watch);
    return err == SG_OK ? also(c, k, k->id) : err;
}

enum sg_error sg_jobs_retry(struct sg_jobs *j, const char *id, const struct sg_job_also *also_run)
{
    struct change k = {.id = id, .also = also_run};
    enum sg_error err = sg_db_write(j->db, retry, &k);
    if (err != SG_OK) {
        free(k.changes.items);
        return err;
    }
    jobs_publish_state(j, id, SG_JOB_QUEUED);
    jobs_changes_publish(j, &k.changes);
    sg_jobs_kick(j);
    return SG_OK;
}

json_t *sg_jobs_status(struct sg_jobs *j)
{
    json_t *types = json_array();
    int bad = types == NULL;
    pthread_mutex_lock(&j->lock);
    bool paused = j->paused, draining = j->draining;
    for (size_t i = 0; i < j->n_types; i++) {
        const struct jobs_type *t = &j->types[i];
        bad |= json_array_append_new(
            types, json_pack("{s:s, s:b, s:I, s:I}", "name", t->type->name, "paused", t->paused,
                             "running", (json_int_t)t->running, "limit", (json_int_t)t->limit));
    }
    pthread_mutex_unlock(&j->lock);
    if (bad) {
        json_decref(types);
        return NULL;
    }
    return json_pack("{s:b, s:b, s:o}", "paused", paused, "draining", draining, "types", types);
}
