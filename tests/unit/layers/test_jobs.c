/* The queue at work: handlers of every kind on a real database. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/layers/jobs.h"

#include "layers_support.h"

#define OWNER_A "01AAAAAAAAAAAAAAAAAAAAAAAA"

/* What handlers do is told by their payload: {"do": ...}. */
struct bench {
    struct support_dir dir;
    struct sg_config *config;
    struct sg_jobs *jobs;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned runs, running, most, fails;
    bool open; /* the gate of "gate" jobs */
    char order[64];
};
static struct bench b;

static enum sg_error handle(struct sg_job_run *run, void *arg)
{
    (void)arg;
    enum sg_error err = SG_OK;
    const char *payload = sg_job_run_job(run)->payload;
    pthread_mutex_lock(&b.lock);
    b.runs++;
    b.running++;
    b.most = b.running > b.most ? b.running : b.most;
    size_t len = strlen(b.order);
    const char *tag = strstr(payload, "\"tag\":\"");
    if (tag && len + 1 < sizeof b.order)
        b.order[len] = tag[7];
    pthread_cond_broadcast(&b.changed);
    if (strstr(payload, "gate"))
        while (!b.open)
            pthread_cond_wait(&b.changed, &b.lock);
    if (strstr(payload, "flaky") && b.fails > 0) {
        b.fails--;
        err = sg_job_run_fail(run, SG_ERR_FETCH, "not this time");
    }
    pthread_mutex_unlock(&b.lock);
    if (strstr(payload, "wait") && sg_job_run_wait(run, 60000))
        err = SG_ERR_CANCELLED;
    if (strstr(payload, "bad"))
        err = sg_job_run_fail(run, SG_ERR_UNPROCESSABLE, "cannot be done");
    if (strstr(payload, "crash"))
        err = SG_ERR_MEDIA_WORKER;
    if (strstr(payload, "progress"))
        for (int i = 0; i <= 100; i += 50)
            sg_job_run_progress(
                run, &(struct sg_job_progress){.percent = i, .fps = 25, .speed = -1, .eta_s = -1});
    if (err == SG_OK)
        sg_job_run_result(run, json_pack("{s:i}", "answer", 42));
    pthread_mutex_lock(&b.lock);
    b.running--;
    pthread_cond_broadcast(&b.changed);
    pthread_mutex_unlock(&b.lock);
    return err;
}

static const char *any(const json_t *payload)
{
    (void)payload;
    return NULL;
}

static struct sg_job_type types[] = {
    {.name = "work", .concurrency = SG_SET_worker_runners, .role = SG_ROLE_CREATOR},
    {.name = "single", .concurrency = SG_SET_worker_housekeeping, .role = SG_ROLE_CREATOR},
};

static void make_engine(void)
{
    assert_int_equal(sg_jobs_create(b.dir.db, b.config, &b.jobs), SG_OK);
    for (size_t i = 0; i < SG_ARRAY_LEN(types); i++) {
        types[i].timeout = SG_SET_worker_housekeeping_timeout;
        types[i].max_attempts = 3;
        types[i].backoff_ms = 1;
        types[i].backoff_max_ms = 4;
        types[i].check = any;
        types[i].run = handle;
        assert_int_equal(sg_jobs_register(b.jobs, &types[i]), SG_OK);
    }
    assert_int_equal(sg_jobs_register(b.jobs, &types[0]), SG_ERR_EXISTS);
    sg_jobs_configure(b.jobs, b.config);
}

static int setup(void **state)
{
    (void)state;
    static const char *const overrides[] = {"worker.runners=3", "worker.housekeeping_timeout=2s",
                                            "worker.lease=1s", NULL};
    b = (struct bench){.config = support_config(overrides)};
    pthread_mutex_init(&b.lock, NULL);
    pthread_cond_init(&b.changed, NULL);
    support_dir_open(&b.dir);
    make_engine();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sg_jobs_destroy(&b.jobs);
    support_dir_close(&b.dir);
    sg_config_unref(b.config);
    pthread_mutex_destroy(&b.lock);
    pthread_cond_destroy(&b.changed);
    return 0;
}

struct asked {
    const char *id;
    struct sg_job *job;
};

static enum sg_error get_job(struct sg_db_conn *c, void *arg)
{
    struct asked *a = arg;
    return sg_job_get(c, a->id, &a->job);
}

static struct sg_job *fetch(const char *id)
{
    struct asked a = {.id = id};
    assert_int_equal(sg_db_read(b.dir.db, get_job, &a), SG_OK);
    return a.job;
}

static void put(const char *type, const char *payload, unsigned priority, char id[SG_ULID_SIZE])
{
    struct sg_job_fields f = {.owner = OWNER_A, .payload = payload, .priority = priority};
    memcpy(f.type, type, strlen(type) + 1);
    assert_int_equal(sg_jobs_submit(b.jobs, &f, NULL, NULL), SG_OK);
    memcpy(id, f.id, SG_ULID_SIZE);
}

/* Waits for the final state by the events, as users do. */
struct watch {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    char text[2048];
    uint64_t last;
    bool final, gone, ordered;
};

static bool on_event(void *arg, const struct sg_job_event *e)
{
    struct watch *w = arg;
    pthread_mutex_lock(&w->lock);
    size_t at = strlen(w->text);
    (void)snprintf(w->text + at, sizeof w->text - at, "%s %s\n", e->name, e->data);
    w->ordered &= e->seq > w->last;
    w->last = e->seq;
    w->final |= e->final;
    pthread_cond_broadcast(&w->cond);
    pthread_mutex_unlock(&w->lock);
    return !e->final;
}

static void on_gone(void *arg)
{
    struct watch *w = arg;
    pthread_mutex_lock(&w->lock);
    w->gone = true;
    pthread_cond_broadcast(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

static void watch_job(const char *id, uint64_t after, struct watch *w)
{
    *w = (struct watch){.ordered = true};
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->cond, NULL);
    struct sg_job_sub *sub = NULL;
    const struct sg_job_sub_params p = {
        .job_id = id, .after_seq = after, .event = on_event, .gone = on_gone, .arg = w};
    assert_int_equal(sg_jobs_subscribe(b.jobs, &p, &sub), SG_OK);
    pthread_mutex_lock(&w->lock);
    while (!w->gone)
        pthread_cond_wait(&w->cond, &w->lock);
    pthread_mutex_unlock(&w->lock);
    sg_jobs_unsubscribe(b.jobs, &sub);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->cond);
}

static enum sg_job_state wait_final(const char *id)
{
    struct watch w;
    uint64_t seq = sg_jobs_last_event(b.jobs); /* what comes after the row is read is an event */
    struct sg_job *job = fetch(id);
    enum sg_job_state state = job->f.state;
    sg_job_free(&job);
    if (!sg_job_state_final(state)) {
        watch_job(id, seq, &w);
        job = fetch(id);
        state = job->f.state;
        sg_job_free(&job);
    }
    return state;
}

static void wait_running(unsigned n)
{
    pthread_mutex_lock(&b.lock);
    while (b.running < n)
        pthread_cond_wait(&b.changed, &b.lock);
    pthread_mutex_unlock(&b.lock);
}

static void open_gate(void)
{
    pthread_mutex_lock(&b.lock);
    b.open = true;
    pthread_cond_broadcast(&b.changed);
    pthread_mutex_unlock(&b.lock);
}

static void jobs_are_done(void **state)
{
    (void)state;
    char id[SG_ULID_SIZE];
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    uint64_t before = sg_jobs_last_event(b.jobs);
    put("work", "{\"do\":\"progress\"}", 50, id);
    struct watch w;
    watch_job(id, before, &w);
    assert_true(w.ordered && w.final);
    assert_non_null(strstr(w.text, "\"queued\""));
    assert_non_null(strstr(w.text, "\"running\""));
    assert_non_null(strstr(w.text, "\"percent\":100"));
    assert_non_null(strstr(w.text, "\"done\""));
    struct sg_job *job = fetch(id);
    assert_string_equal(job->f.result, "{\"answer\":42}");
    assert_non_null(strstr(job->f.progress, "\"fps\":25"));
    assert_int_equal(job->f.attempts, 1);
    sg_job_free(&job);
    /* Who comes back hears what he missed, and only that. */
    uint64_t last = w.last;
    assert_true(sg_jobs_keeps_since(b.jobs, before));
    assert_false(sg_jobs_keeps_since(b.jobs, last + 1));
    assert_false(sg_jobs_keeps_since(b.jobs, 0));
    watch_job(id, last - 1, &w);
    assert_string_not_equal(w.text, "");
    assert_null(strstr(w.text, "queued"));
    assert_int_equal(w.last, last);
}

static void flaky_ones_are_tried_again(void **state)
{
    (void)state;
    char id[SG_ULID_SIZE];
    b.fails = 2;
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    put("work", "{\"do\":\"flaky\"}", 50, id);
    assert_int_equal(wait_final(id), SG_JOB_DONE);
    assert_int_equal(b.runs, 3);
    pthread_mutex_lock(&b.lock);
    b.fails = 3;
    pthread_mutex_unlock(&b.lock);
    put("work", "{\"do\":\"flaky\"}", 50, id);
    assert_int_equal(wait_final(id), SG_JOB_FAILED);
    struct sg_job *job = fetch(id);
    assert_string_equal(job->f.error_slug, "fetch-failed");
    assert_string_equal(job->f.error_detail, "not this time");
    assert_int_equal(job->f.attempts, 3);
    sg_job_free(&job);
    assert_int_equal(sg_jobs_retry(b.jobs, id, NULL), SG_OK);
    assert_int_equal(wait_final(id), SG_JOB_DONE);
}

static void hopeless_ones_are_not(void **state)
{
    (void)state;
    char id[SG_ULID_SIZE];
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    put("work", "{\"do\":\"bad\"}", 50, id);
    assert_int_equal(wait_final(id), SG_JOB_FAILED);
    assert_int_equal(b.runs, 1);
    put("work", "{\"do\":\"crash\"}", 50, id);
    assert_int_equal(wait_final(id), SG_JOB_DEAD);
    assert_int_equal(b.runs, 4);
}

static void cancel_is_quick(void **state)
{
    (void)state;
    char id[SG_ULID_SIZE];
    enum sg_job_state now;
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    uint64_t worst_ms = 0;
    for (int i = 0; i < 20; i++) {
        put("work", "{\"do\":\"wait\"}", 50, id);
        if (i % 2)
            wait_running(1); /* else: wherever it is on its way */
        uint64_t began = sg_clock_mono_ms();
        assert_int_equal(sg_jobs_cancel(b.jobs, id, NULL, &now), SG_OK);
        assert_int_equal(wait_final(id), SG_JOB_CANCELLED);
        uint64_t took = sg_clock_mono_ms() - began;
        worst_ms = took > worst_ms ? took : worst_ms;
    }
    print_message("worst cancel: %llu ms\n", (unsigned long long)worst_ms);
    assert_true(worst_ms < 500);
    assert_int_equal(sg_jobs_cancel(b.jobs, id, NULL, &now), SG_ERR_CONFLICT);
}

static void too_long_is_ended(void **state)
{
    (void)state;
    char id[SG_ULID_SIZE];
    struct sg_job_fields f = {.type = "work", .payload = "{\"do\":\"wait\"}", .max_attempts = 1};
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    assert_int_equal(sg_jobs_submit(b.jobs, &f, NULL, NULL), SG_OK);
    memcpy(id, f.id, sizeof id);
    assert_int_equal(wait_final(id), SG_JOB_FAILED); /* and its lease was renewed meanwhile */
    struct sg_job *job = fetch(id);
    assert_string_equal(job->f.error_slug, "timed-out");
    assert_int_equal(job->f.crashes, 0);
    sg_job_free(&job);
}

static void order_and_limits(void **state)
{
    (void)state;
    char ids[6][SG_ULID_SIZE];
    put("single", "{\"do\":\"x\",\"tag\":\"c\"}", 10, ids[0]);
    put("single", "{\"do\":\"x\",\"tag\":\"b\"}", 50, ids[1]);
    put("single", "{\"do\":\"x\",\"tag\":\"a\"}", 90, ids[2]);
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(wait_final(ids[i]), SG_JOB_DONE);
    assert_string_equal(b.order, "abc");
    assert_int_equal(b.most, 1); /* one at once, though there are three runners */
    for (int i = 0; i < 6; i++)
        put("work", "{\"do\":\"gate\"}", 50, ids[i]);
    wait_running(3);
    open_gate();
    for (int i = 0; i < 6; i++)
        assert_int_equal(wait_final(ids[i]), SG_JOB_DONE);
    assert_int_equal(b.most, 3);
}

static void pauses_hold(void **state)
{
    (void)state;
    char single[SG_ULID_SIZE], work[SG_ULID_SIZE];
    assert_int_equal(sg_jobs_pause(b.jobs, "nothing", true), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_jobs_pause(b.jobs, "single", true), SG_OK);
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    put("single", "{\"do\":\"x\"}", 90, single);
    put("work", "{\"do\":\"x\"}", 10, work);
    assert_int_equal(wait_final(work), SG_JOB_DONE);
    struct sg_job *job = fetch(single);
    assert_int_equal(job->f.state, SG_JOB_QUEUED);
    sg_job_free(&job);
    /* Over a restart. */
    sg_jobs_destroy(&b.jobs);
    make_engine();
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    put("work", "{\"do\":\"x\"}", 10, work);
    assert_int_equal(wait_final(work), SG_JOB_DONE);
    job = fetch(single);
    assert_int_equal(job->f.state, SG_JOB_QUEUED);
    sg_job_free(&job);
    json_t *status = sg_jobs_status(b.jobs);
    assert_false(json_is_true(json_object_get(status, "paused")));
    assert_true(json_is_true(
        json_object_get(json_array_get(json_object_get(status, "types"), 1), "paused")));
    json_decref(status);
    assert_int_equal(sg_jobs_pause(b.jobs, "single", false), SG_OK);
    assert_int_equal(wait_final(single), SG_JOB_DONE);
    /* All are resumed, whether all were paused or one by its name. */
    assert_int_equal(sg_jobs_pause(b.jobs, "single", true), SG_OK);
    assert_int_equal(sg_jobs_pause(b.jobs, NULL, true), SG_OK);
    put("single", "{\"do\":\"x\"}", 90, single);
    assert_int_equal(sg_jobs_pause(b.jobs, NULL, false), SG_OK);
    assert_int_equal(wait_final(single), SG_JOB_DONE);
    assert_int_equal(sg_jobs_pause(b.jobs, "single", true), SG_OK);
    assert_int_equal(sg_jobs_pause(b.jobs, NULL, false), SG_OK);
    sg_jobs_destroy(&b.jobs); /* over a restart, too */
    make_engine();
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    put("single", "{\"do\":\"x\"}", 90, single);
    assert_int_equal(wait_final(single), SG_JOB_DONE);
}

static void drained_jobs_go_back(void **state)
{
    (void)state;
    char id[SG_ULID_SIZE];
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    put("work", "{\"do\":\"wait\"}", 50, id);
    wait_running(1);
    sg_jobs_stop(b.jobs);
    struct sg_job *job = fetch(id);
    assert_int_equal(job->f.state, SG_JOB_QUEUED);
    assert_int_equal(job->f.crashes, 0);
    assert_int_equal(job->f.attempts, 0);
    sg_job_free(&job);
}

static enum sg_error steal(struct sg_db_conn *c, void *arg)
{
    struct sg_job *job = NULL;
    char lease[SG_ULID_SIZE];
    sg_ulid_make(lease);
    uint64_t now = sg_clock_wall_ms();
    enum sg_error err =
        sg_job_claim(c, &(struct sg_job_claim){"{\"work\":9}", lease, now, now + 3600000}, &job);
    (void)arg;
    sg_job_free(&job);
    return err;
}

/* A daemon that took a job and is gone: the next one runs it at once, however long the lease. */
static void a_dead_daemons_jobs_run_again(void **state)
{
    (void)state;
    char id[SG_ULID_SIZE];
    put("work", "{\"do\":\"x\"}", 50, id);
    assert_int_equal(sg_db_write(b.dir.db, steal, NULL), SG_OK);
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    assert_int_equal(wait_final(id), SG_JOB_DONE);
    struct sg_job *job = fetch(id);
    assert_int_equal(job->f.crashes, 1);
    sg_job_free(&job);
    assert_int_equal(b.runs, 1);
}

static enum sg_error add_schedule(struct sg_db_conn *c, void *arg)
{
    return sg_schedule_insert(c, arg);
}

static enum sg_error first_schedule(struct sg_db_conn *c, void *arg)
{
    return sg_schedule_first(c, arg);
}

static enum sg_error list_done(struct sg_db_conn *c, void *arg)
{
    return sg_job_list(c, &(struct sg_job_query){.type = "work", .state = -1, .limit = 100}, arg);
}

static size_t count_jobs(void)
{
    struct sg_job_list list = {0};
    assert_int_equal(sg_db_read(b.dir.db, list_done, &list), SG_OK);
    size_t n = list.n;
    sg_job_list_free(&list);
    return n;
}

/* A schedule whose time was hours ago: "once" makes one job for all, "skip" none; both move on. */
static void missed_runs(void **state)
{
    (void)state;
    uint64_t now = sg_clock_wall_ms();
    for (int missed = SG_MISSED_SKIP; missed < SG_MISSED_COUNT; missed++) {
        struct sg_schedule_fields f = {.type = "work",
                                       .cron = "0 * * * *",
                                       .zone = "Europe/Berlin",
                                       .payload = "{\"do\":\"x\"}",
                                       .priority = 50,
                                       .max_attempts = 3,
                                       .missed = (enum sg_missed)missed,
                                       .next_ms = now - 7200000,
                                       .created_ms = now};
        sg_ulid_make(f.id);
        assert_int_equal(sg_db_write(b.dir.db, add_schedule, &f), SG_OK);
    }
    uint64_t before = sg_jobs_last_event(b.jobs);
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    struct watch w;
    watch_job(NULL, before, &w); /* until the first final state of any job */
    struct sg_schedule *s = NULL;
    while (!s) { /* both were moved on: the first of them is due after now */
        assert_int_equal(sg_db_read(b.dir.db, first_schedule, &s), SG_OK);
        if (s->f.next_ms <= now)
            sg_schedule_free(&s);
    }
    assert_int_equal(s->f.next_ms % 3600000, 0);
    assert_true(s->f.next_ms - now <= 3600000);
    sg_schedule_free(&s);
    assert_int_equal(count_jobs(), 1);
}

/* The clock reaches a schedule's time. */
static void schedules_fire(void **state)
{
    (void)state;
    struct sg_schedule_fields f = {.type = "work",
                                   .cron = "* * * * *",
                                   .zone = "UTC",
                                   .payload = "{\"do\":\"x\"}",
                                   .priority = 50,
                                   .max_attempts = 3,
                                   .created_ms = 1};
    sg_ulid_make(f.id);
    f.next_ms = (sg_clock_wall_ms() / 60000 + 1) * 60000;
    assert_int_equal(sg_db_write(b.dir.db, add_schedule, &f), SG_OK);
    assert_int_equal(sg_jobs_start(b.jobs), SG_OK);
    assert_int_equal(count_jobs(), 0);
    uint64_t before = sg_jobs_last_event(b.jobs);
    sg_clock_test_advance_ms(60000);
    sg_jobs_kick(b.jobs);
    struct watch w;
    watch_job(NULL, before, &w);
    sg_clock_test_advance_ms(0);
    assert_int_equal(count_jobs(), 1);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(jobs_are_done),
        T(flaky_ones_are_tried_again),
        T(hopeless_ones_are_not),
        T(cancel_is_quick),
        T(too_long_is_ended),
        T(order_and_limits),
        T(pauses_hold),
        T(drained_jobs_go_back),
        T(a_dead_daemons_jobs_run_again),
        T(missed_runs),
        T(schedules_fire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
