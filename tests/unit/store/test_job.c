/* The queue's rows: who is taken next, who may end what, what a death costs. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job_support.h"

#define CAPS "{\"gc\":1000,\"backup\":1000}"

static void expect_claim(struct sg_db *db, const char *id)
{
    struct sg_job *job = claim_job(db, CAPS, 100);
    assert_non_null(job);
    assert_string_equal(job->f.id, id);
    assert_int_equal(end_job(db, job, SG_JOB_END_DONE, 100), SG_OK);
    sg_job_free(&job);
}

static void priority_then_time(void **state)
{
    struct scratch *s = *state;
    char low[SG_ULID_SIZE], late[SG_ULID_SIZE], early[SG_ULID_SIZE], high[SG_ULID_SIZE];
    assert_int_equal(put_job(s->db, (struct job_wish){.priority = 1}, low), SG_OK);
    assert_int_equal(put_job(s->db, (struct job_wish){.run_at_ms = 20}, late), SG_OK);
    assert_int_equal(put_job(s->db, (struct job_wish){.run_at_ms = 10}, early), SG_OK);
    assert_int_equal(put_job(s->db, (struct job_wish){.priority = 90, .run_at_ms = 90}, high),
                     SG_OK);
    assert_int_equal(put_job(s->db, (struct job_wish){.priority = 100, .run_at_ms = 101}, NULL),
                     SG_OK);
    expect_claim(s->db, high);
    expect_claim(s->db, early);
    expect_claim(s->db, late);
    expect_claim(s->db, low);
    assert_null(claim_job(s->db, CAPS, 100)); /* the last one's time has not come */
}

static void bad_jobs_are_refused(void **state)
{
    struct scratch *s = *state;
    const char *nobody = "01ZZZZZZZZZZZZZZZZZZZZZZZZ";
    assert_int_equal(put_job(s->db, (struct job_wish){.type = "Bad Type"}, NULL), SG_ERR_INVALID);
    assert_int_equal(put_job(s->db, (struct job_wish){.type = ""}, NULL), SG_ERR_INVALID);
    assert_int_equal(put_job(s->db, (struct job_wish){.priority = 101}, NULL), SG_ERR_INVALID);
    assert_int_equal(put_job(s->db, (struct job_wish){.needs = &nobody, .n_needs = 1}, NULL),
                     SG_ERR_NOT_FOUND);
    assert_null(fetch_job(s->db, nobody));
}

static void caps_hold(void **state)
{
    struct scratch *s = *state;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(put_job(s->db, (struct job_wish){.priority = 90}, NULL), SG_OK);
        assert_int_equal(put_job(s->db, (struct job_wish){.type = "backup"}, NULL), SG_OK);
    }
    static const char caps[] = "{\"gc\":2,\"backup\":1}";
    struct sg_job *jobs[4];
    for (int i = 0; i < 4; i++)
        jobs[i] = claim_job(s->db, caps, 100);
    assert_string_equal(jobs[0]->f.type, "gc");
    assert_string_equal(jobs[1]->f.type, "gc");
    assert_string_equal(jobs[2]->f.type, "backup");
    assert_null(jobs[3]);
    assert_null(claim_job(s->db, "{}", 100));
    assert_null(claim_job(s->db, "{\"gc\":0}", 100));
    assert_int_equal(end_job(s->db, jobs[0], SG_JOB_END_DONE, 100), SG_OK);
    struct sg_job *next = claim_job(s->db, caps, 100);
    assert_string_equal(next->f.type, "gc");
    sg_job_free(&next);
    for (int i = 0; i < 3; i++)
        sg_job_free(&jobs[i]);
}

/* However much one has queued before, the other's turn comes next. */
static void owners_take_turns(void **state)
{
    enum { EACH = 6 };
    struct scratch *s = *state;
    for (int i = 0; i < 10 * EACH; i++)
        assert_int_equal(put_job(s->db, (struct job_wish){.owner = JOB_OWNER_A}, NULL), SG_OK);
    for (int i = 0; i < EACH; i++)
        assert_int_equal(
            put_job(s->db, (struct job_wish){.owner = JOB_OWNER_B, .run_at_ms = 50}, NULL), SG_OK);
    unsigned of_b = 0;
    for (int i = 0; i < 2 * EACH; i++) {
        struct sg_job *job = claim_job(s->db, CAPS, 100);
        of_b += strcmp(job->f.owner, JOB_OWNER_B) == 0;
        assert_int_equal(end_job(s->db, job, SG_JOB_END_DONE, 100), SG_OK);
        sg_job_free(&job);
    }
    assert_int_equal(of_b, EACH);
}

static void fewest_running_first(void **state)
{
    struct scratch *s = *state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(put_job(s->db, (struct job_wish){.owner = JOB_OWNER_A}, NULL), SG_OK);
        assert_int_equal(put_job(s->db, (struct job_wish){.owner = JOB_OWNER_B}, NULL), SG_OK);
    }
    struct sg_job *jobs[4];
    for (int i = 0; i < 4; i++)
        jobs[i] = claim_job(s->db, CAPS, 100);
    unsigned of_a = 0;
    for (int i = 0; i < 4; i++)
        of_a += strcmp(jobs[i]->f.owner, JOB_OWNER_A) == 0;
    assert_int_equal(of_a, 2);
    for (int i = 0; i < 4; i++) /* all that run are B's now: A's turn, though A had the last */
        if (strcmp(jobs[i]->f.owner, JOB_OWNER_A) == 0)
            assert_int_equal(end_job(s->db, jobs[i], SG_JOB_END_DONE, 100), SG_OK);
    struct sg_job *next = claim_job(s->db, CAPS, 100);
    assert_string_equal(next->f.owner, JOB_OWNER_A);
    sg_job_free(&next);
    for (int i = 0; i < 4; i++)
        sg_job_free(&jobs[i]);
}

static void dependencies_hold(void **state)
{
    struct scratch *s = *state;
    char a[SG_ULID_SIZE], b[SG_ULID_SIZE], c[SG_ULID_SIZE];
    assert_int_equal(put_job(s->db, (struct job_wish){.priority = 1}, a), SG_OK);
    const char *needs_a[] = {a};
    assert_int_equal(
        put_job(s->db, (struct job_wish){.priority = 90, .needs = needs_a, .n_needs = 1}, b),
        SG_OK);
    const char *needs_ab[] = {a, b};
    assert_int_equal(
        put_job(s->db, (struct job_wish){.priority = 100, .needs = needs_ab, .n_needs = 2}, c),
        SG_OK);
    struct sg_job *job = fetch_job(s->db, c);
    assert_non_null(strstr(job->f.depends_on, a));
    assert_non_null(strstr(job->f.depends_on, b));
    sg_job_free(&job);
    expect_claim(s->db, a);
    expect_claim(s->db, b);
    expect_claim(s->db, c);
    char d[SG_ULID_SIZE]; /* what is done already holds nobody up */
    assert_int_equal(put_job(s->db, (struct job_wish){.needs = needs_ab, .n_needs = 2}, d), SG_OK);
    expect_claim(s->db, d);
}

static void failure_takes_dependants_along(void **state)
{
    struct scratch *s = *state;
    char a[SG_ULID_SIZE], b[SG_ULID_SIZE], c[SG_ULID_SIZE];
    assert_int_equal(put_job(s->db, (struct job_wish){0}, a), SG_OK);
    const char *needs_a[] = {a}, *needs_b[] = {b};
    assert_int_equal(put_job(s->db, (struct job_wish){.needs = needs_a, .n_needs = 1}, b), SG_OK);
    assert_int_equal(put_job(s->db, (struct job_wish){.needs = needs_b, .n_needs = 1}, c), SG_OK);
    struct sg_job *job = claim_job(s->db, CAPS, 100);
    assert_int_equal(end_job(s->db, job, SG_JOB_END_FAILED, 100), SG_OK);
    sg_job_free(&job);
    assert_int_equal(state_of(s->db, b), SG_JOB_FAILED);
    job = fetch_job(s->db, c);
    assert_int_equal(job->f.state, SG_JOB_FAILED);
    assert_string_equal(job->f.error_slug, "dependency-failed");
    sg_job_free(&job);
    assert_int_equal(put_job(s->db, (struct job_wish){.needs = needs_a, .n_needs = 1}, NULL),
                     SG_ERR_CONFLICT);
    assert_int_equal(retry_job(s->db, c), SG_ERR_CONFLICT); /* b is not well */
    assert_int_equal(retry_job(s->db, a), SG_OK);
    assert_int_equal(state_of(s->db, b), SG_JOB_QUEUED);
    assert_int_equal(state_of(s->db, c), SG_JOB_QUEUED);
    expect_claim(s->db, a);
    expect_claim(s->db, b);
    expect_claim(s->db, c);
    assert_int_equal(retry_job(s->db, a), SG_ERR_CONFLICT); /* done is done */
}

static void only_the_lease_ends_a_try(void **state)
{
    struct scratch *s = *state;
    char id[SG_ULID_SIZE];
    assert_int_equal(put_job(s->db, (struct job_wish){0}, id), SG_OK);
    struct sg_job *first = claim_job(s->db, CAPS, 100);
    assert_int_equal(expire_jobs(s->db, 1099, false), 0);
    assert_int_equal(expire_jobs(s->db, 1100, false), 1);
    struct sg_job *job = fetch_job(s->db, id);
    assert_int_equal(job->f.state, SG_JOB_QUEUED);
    assert_int_equal(job->f.crashes, 1);
    assert_int_equal(job->f.attempts, 0);
    assert_int_equal(job->f.run_at_ms, 1110);
    sg_job_free(&job);
    assert_int_equal(end_job(s->db, first, SG_JOB_END_DONE, 1200), SG_ERR_CONFLICT);
    assert_null(claim_job(s->db, CAPS, 1109));
    struct sg_job *second = claim_job(s->db, CAPS, 1110);
    assert_non_null(second);
    assert_string_not_equal(first->f.lease, second->f.lease);
    assert_int_equal(end_job(s->db, first, SG_JOB_END_DONE, 1200), SG_ERR_CONFLICT);
    assert_int_equal(end_job(s->db, second, SG_JOB_END_DONE, 1200), SG_OK);
    assert_int_equal(end_job(s->db, second, SG_JOB_END_DONE, 1200), SG_ERR_CONFLICT);
    sg_job_free(&first);
    sg_job_free(&second);
}

static void three_deaths_are_enough(void **state)
{
    struct scratch *s = *state;
    char id[SG_ULID_SIZE];
    assert_int_equal(put_job(s->db, (struct job_wish){.max_attempts = 1}, id), SG_OK);
    for (unsigned i = 1; i <= SG_JOB_CRASHES_MAX; i++) {
        struct sg_job *job = claim_job(s->db, CAPS, 1000 * i);
        assert_non_null(job);
        sg_job_free(&job);
        assert_int_equal(expire_jobs(s->db, 1000 * i, true), 1);
        assert_int_equal(state_of(s->db, id), i < SG_JOB_CRASHES_MAX ? SG_JOB_QUEUED : SG_JOB_DEAD);
    }
    assert_null(claim_job(s->db, CAPS, 100000));
    assert_int_equal(retry_job(s->db, id), SG_OK);
    struct sg_job *job = fetch_job(s->db, id);
    assert_int_equal(job->f.crashes, 0);
    assert_string_equal(job->f.error_slug, "");
    sg_job_free(&job);
}

static void drained_jobs_pay_nothing(void **state)
{
    struct scratch *s = *state;
    char id[SG_ULID_SIZE];
    assert_int_equal(put_job(s->db, (struct job_wish){0}, id), SG_OK);
    for (int i = 0; i < 10; i++) {
        struct sg_job *job = claim_job(s->db, CAPS, 100);
        assert_int_equal(job->f.attempts, 1);
        assert_int_equal(end_job(s->db, job, SG_JOB_END_BACK, 100), SG_OK);
        sg_job_free(&job);
    }
    struct sg_job *job = fetch_job(s->db, id);
    assert_int_equal(job->f.attempts, 0);
    assert_int_equal(job->f.crashes, 0);
    sg_job_free(&job);
}

static void cancel_queued_and_running(void **state)
{
    struct scratch *s = *state;
    char queued[SG_ULID_SIZE], running[SG_ULID_SIZE];
    enum sg_job_state now;
    assert_int_equal(put_job(s->db, (struct job_wish){.priority = 90}, running), SG_OK);
    assert_int_equal(put_job(s->db, (struct job_wish){0}, queued), SG_OK);
    struct sg_job *job = claim_job(s->db, CAPS, 100);
    assert_int_equal(cancel_job(s->db, queued, &now), SG_OK);
    assert_int_equal(now, SG_JOB_CANCELLED);
    assert_int_equal(cancel_job(s->db, queued, &now), SG_ERR_CONFLICT);
    assert_int_equal(cancel_job(s->db, running, &now), SG_OK);
    assert_int_equal(now, SG_JOB_RUNNING);
    /* Its end was asked for: neither a failure nor a death queues it again. */
    assert_int_equal(end_job(s->db, job, SG_JOB_END_RETRY, 100), SG_OK);
    assert_int_equal(state_of(s->db, running), SG_JOB_CANCELLED);
    assert_int_equal(cancel_job(s->db, "01ZZZZZZZZZZZZZZZZZZZZZZZZ", &now), SG_ERR_NOT_FOUND);
    sg_job_free(&job);
}

static enum sg_error prune_closure(struct sg_db_conn *c, void *arg)
{
    return sg_job_prune(c, 150, 1000, arg);
}

static enum sg_error due_closure(struct sg_db_conn *c, void *arg)
{
    return sg_job_next_due(c, 100, arg);
}

static void old_ones_go(void **state)
{
    struct scratch *s = *state;
    char id[SG_ULID_SIZE], kept[SG_ULID_SIZE];
    uint64_t n = 0, due = 0;
    assert_int_equal(sg_db_read(s->db, due_closure, &due), SG_OK);
    assert_true(due == UINT64_MAX);
    assert_int_equal(put_job(s->db, (struct job_wish){0}, id), SG_OK);
    expect_claim(s->db, id);
    assert_int_equal(put_job(s->db, (struct job_wish){.run_at_ms = 123}, kept), SG_OK);
    assert_int_equal(sg_db_read(s->db, due_closure, &due), SG_OK);
    assert_int_equal(due, 123);
    assert_int_equal(sg_db_write(s->db, prune_closure, &n), SG_OK);
    assert_int_equal(n, 1);
    assert_null(fetch_job(s->db, id));
    assert_int_equal(state_of(s->db, kept), SG_JOB_QUEUED);
}

static enum sg_error list_closure(struct sg_db_conn *c, void *arg)
{
    struct sg_job_list *list = arg;
    return sg_job_list(c,
                       &(struct sg_job_query){
                           .owner = JOB_OWNER_A, .type = "gc", .state = SG_JOB_QUEUED, .limit = 2},
                       list);
}

static void lists_filter(void **state)
{
    struct scratch *s = *state;
    char ids[3][SG_ULID_SIZE];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(put_job(s->db, (struct job_wish){0}, ids[i]), SG_OK);
        assert_int_equal(put_job(s->db, (struct job_wish){.owner = JOB_OWNER_B}, NULL), SG_OK);
        assert_int_equal(put_job(s->db, (struct job_wish){.type = "backup"}, NULL), SG_OK);
    }
    struct sg_job_list list = {0};
    assert_int_equal(sg_db_read(s->db, list_closure, &list), SG_OK);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.items[0]->f.id, ids[2]);
    assert_string_equal(list.items[1]->f.id, ids[1]);
    sg_job_list_free(&list);
}

/* ---- many threads ---- */

#define RACE_JOBS 200
#define RACE_THREADS 6

struct racer {
    struct sg_db *db;
    unsigned seed;
    unsigned done, lost;
};

/* Takes what there is and ends it in some way; now and then lets it lie. */
static void *race(void *arg)
{
    struct racer *r = arg;
    for (unsigned idle = 0; idle < 3;) {
        struct sg_job *job = claim_job(r->db, "{\"gc\":3,\"backup\":2}", 1000);
        if (!job) {
            idle++;
            continue;
        }
        idle = 0;
        r->seed = r->seed * 1103515245u + 12345u;
        unsigned dice = r->seed >> 16 & 7;
        enum sg_error err = SG_OK;
        if (dice == 0)
            err = end_job(r->db, job, SG_JOB_END_BACK, 900);
        else if (dice == 1)
            (void)expire_jobs(r->db, 0, false); /* nothing has run out */
        if (dice > 0 && err == SG_OK) {
            err = end_job(r->db, job, SG_JOB_END_DONE, 1000);
            r->done += err == SG_OK;
        }
        r->lost += err != SG_OK;
        sg_job_free(&job);
    }
    return NULL;
}

static void each_job_is_done_once(void **state)
{
    struct scratch *s = *state;
    for (int i = 0; i < RACE_JOBS; i++)
        assert_int_equal(put_job(s->db,
                                 (struct job_wish){.owner = i % 3 ? JOB_OWNER_A : JOB_OWNER_B,
                                                   .type = i % 2 ? "gc" : "backup",
                                                   .priority = (unsigned)i % 100 + 1},
                                 NULL),
                         SG_OK);
    struct racer racers[RACE_THREADS];
    pthread_t threads[RACE_THREADS];
    for (unsigned i = 0; i < RACE_THREADS; i++) {
        racers[i] = (struct racer){.db = s->db, .seed = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    unsigned done = 0, lost = 0;
    for (unsigned i = 0; i < RACE_THREADS; i++) {
        pthread_join(threads[i], NULL);
        done += racers[i].done;
        lost += racers[i].lost;
    }
    /* Caps may have made some give up while jobs were left: one goes on alone. */
    struct racer rest = {.db = s->db, .seed = 99};
    race(&rest);
    assert_int_equal(done + rest.done, RACE_JOBS);
    assert_int_equal(lost + rest.lost, 0);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM jobs WHERE state = 2 AND attempts = 1"),
                     RACE_JOBS);
}

/* Random requests against a model: `blocked` is what the edges say, a lease is there exactly while
 * a job runs, and nobody waits for a job that ended badly. */
static void invariants_hold(void **state)
{
    enum { STEPS = 1500, MAX = 120 };
    struct scratch *s = *state;
    char ids[MAX][SG_ULID_SIZE];
    struct sg_job *running[MAX] = {0};
    size_t n = 0, n_running = 0;
    unsigned seed = 42;
    for (int step = 0; step < STEPS; step++) {
        seed = seed * 1103515245u + 12345u;
        unsigned dice = seed >> 16;
        const char *needs[2] = {n ? ids[dice % n] : NULL, n ? ids[dice / 7 % n] : NULL};
        enum sg_job_state now;
        enum sg_error err = SG_OK;
        switch (dice % 6) {
        case 0:
            if (n < MAX) {
                err = put_job(
                    s->db, (struct job_wish){.needs = needs, .n_needs = n && (dice & 64) ? 2 : 0},
                    ids[n]);
                n += err == SG_OK;
            }
            break;
        case 1:
        case 2: {
            struct sg_job *job = n_running < 5 ? claim_job(s->db, CAPS, 100) : NULL;
            if (job)
                running[n_running++] = job;
            break;
        }
        case 3:
            if (n_running > 0) {
                struct sg_job *job = running[--n_running];
                err = end_job(s->db, job, (enum sg_job_ending)(dice / 11 % 6), 90);
                assert_int_equal(err, SG_OK);
                sg_job_free(&job);
            }
            break;
        case 4:
            if (n > 0)
                err = cancel_job(s->db, ids[dice / 13 % n], &now);
            break;
        default:
            if (n > 0)
                err = retry_job(s->db, ids[dice / 17 % n]);
        }
        assert_true(err == SG_OK || err == SG_ERR_CONFLICT);
        if (step % 25 != 0)
            continue;
        assert_int_equal(query_u64(s->db, "SELECT count(*) FROM jobs WHERE (state = 1) <>"
                                          " (lease <> '')"),
                         0);
        assert_int_equal(query_u64(s->db, "SELECT count(*) FROM jobs j WHERE state = 0 AND blocked"
                                          " <> (SELECT count(*) FROM job_needs n JOIN jobs d ON"
                                          " d.id = n.needs WHERE n.job_id = j.id AND"
                                          " d.state <> 2)"),
                         0);
        assert_int_equal(query_u64(s->db, "SELECT count(*) FROM jobs j JOIN job_needs n ON"
                                          " n.job_id = j.id JOIN jobs d ON d.id = n.needs"
                                          " WHERE j.state = 0 AND d.state > 2"),
                         0);
        assert_int_equal(query_u64(s->db, "SELECT count(*) FROM jobs WHERE (finished_ms > 0) <>"
                                          " (state > 1)"),
                         0);
    }
    assert_true(n >= MAX / 2);
    while (n_running > 0)
        sg_job_free(&running[--n_running]);
}

static void long_queues_cost_no_more(void **state)
{
    struct scratch *s = *state;
    run_sql(s->db, "WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE"
                   " n < 50000) INSERT INTO jobs(id, owner, asset_id, schedule_id, type, payload,"
                   " priority, state, run_at_ms, attempts, max_attempts, crashes, cancel, lease_ms,"
                   " lease, depends_on, progress, result, error_slug, error_detail, created_ms,"
                   " updated_ms, started_ms, finished_ms, blocked, turn) SELECT printf('%026d', n),"
                   " 'owner' || n % 20, '', '', 'gc', '{}', 50, 0, n % 90, 0, 3, 0, 0, 0, '', '[]',"
                   " '', '', '', '', 1, 1, 0, 0, 0, 0 FROM k");
    uint64_t began = sg_clock_mono_ns();
    for (int i = 0; i < 20; i++) {
        struct sg_job *job = claim_job(s->db, CAPS, 100);
        assert_non_null(job);
        assert_int_equal(end_job(s->db, job, SG_JOB_END_DONE, 100), SG_OK);
        sg_job_free(&job);
    }
    uint64_t each_us = (sg_clock_mono_ns() - began) / 1000 / 20;
    print_message("claim and end with 50,000 queued: %llu us\n", (unsigned long long)each_us);
    assert_true(each_us < 200000); /* a scan of the queue takes longer, also in a slow build */
}

/* ---- schedules ---- */

struct moving {
    struct sg_schedule_fields f;
    struct sg_schedule_move m;
    struct sg_schedule *out;
};

static enum sg_error add_schedule(struct sg_db_conn *c, void *arg)
{
    struct moving *k = arg;
    return sg_schedule_insert(c, &k->f);
}

static enum sg_error move_schedule(struct sg_db_conn *c, void *arg)
{
    struct moving *k = arg;
    return sg_schedule_advance(c, &k->m);
}

static enum sg_error first_schedule(struct sg_db_conn *c, void *arg)
{
    struct moving *k = arg;
    return sg_schedule_first(c, &k->out);
}

static void each_due_time_once(void **state)
{
    struct scratch *s = *state;
    struct moving k = {.f = {.type = "gc",
                             .cron = "0 3 * * *",
                             .zone = "Europe/Berlin",
                             .payload = "{}",
                             .priority = 10,
                             .max_attempts = 3,
                             .missed = SG_MISSED_ONCE,
                             .next_ms = 500,
                             .created_ms = 1}};
    assert_int_equal(sg_db_read(s->db, first_schedule, &k), SG_ERR_NOT_FOUND);
    sg_ulid_make(k.f.id);
    assert_int_equal(sg_db_write(s->db, add_schedule, &k), SG_OK);
    k.m = (struct sg_schedule_move){k.f.id, k.f.id, 500, 900, 510};
    assert_int_equal(sg_db_write(s->db, move_schedule, &k), SG_OK);
    assert_int_equal(sg_db_write(s->db, move_schedule, &k), SG_ERR_CONFLICT);
    assert_int_equal(sg_db_read(s->db, first_schedule, &k), SG_OK);
    assert_int_equal(k.out->f.next_ms, 900);
    assert_int_equal(k.out->f.last_ms, 510);
    assert_int_equal(k.out->f.missed, SG_MISSED_ONCE);
    assert_string_equal(k.out->f.cron, "0 3 * * *");
    assert_string_equal(k.out->f.zone, "Europe/Berlin");
    assert_string_equal(k.out->f.last_job, k.f.id);
    sg_schedule_free(&k.out);
}

int main(void)
{
#define DB_TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup_db, scratch_teardown)
    const struct CMUnitTest tests[] = {
        DB_TEST(priority_then_time),
        DB_TEST(bad_jobs_are_refused),
        DB_TEST(caps_hold),
        DB_TEST(owners_take_turns),
        DB_TEST(fewest_running_first),
        DB_TEST(dependencies_hold),
        DB_TEST(failure_takes_dependants_along),
        DB_TEST(only_the_lease_ends_a_try),
        DB_TEST(three_deaths_are_enough),
        DB_TEST(drained_jobs_pay_nothing),
        DB_TEST(cancel_queued_and_running),
        DB_TEST(old_ones_go),
        DB_TEST(lists_filter),
        DB_TEST(each_job_is_done_once),
        DB_TEST(invariants_hold),
        DB_TEST(long_queues_cost_no_more),
        DB_TEST(each_due_time_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
