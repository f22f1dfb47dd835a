/* The pool: whatever a process does costs one call, every call is answered once, and nothing is
 * left behind. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

#include "pool_support.h"

static void discard(void *arg, const char *line)
{
    (void)arg;
    (void)line;
}

static const char *const crash = "reason=\"crash\"", *const timeout = "reason=\"timeout\"",
                         *const protocol = "reason=\"protocol\"";

static double failures(const char *reason)
{
    uint32_t series;
    assert_int_equal(sg_metric_define(SG_METRIC_MEDIA_WORKER_FAILURES, reason, &series), SG_OK);
    return sg_metric_read(SG_METRIC_MEDIA_WORKER_FAILURES, series);
}

static double started(uint32_t op)
{
    char labels[16];
    uint32_t series;
    (void)snprintf(labels, sizeof(labels), "op=\"%u\"", op);
    assert_int_equal(sg_metric_define(SG_METRIC_MEDIA_WORKER_REQUESTS, labels, &series), SG_OK);
    return sg_metric_read(SG_METRIC_MEDIA_WORKER_REQUESTS, series);
}

static void wait_started(uint32_t op, double before)
{
    uint64_t deadline = sg_clock_mono_ms() + 20000;
    while (started(op) <= before)
        assert_true(sg_clock_mono_ms() < deadline);
}

static struct result call_op(struct sg_media_pool *pool, uint32_t op)
{
    const struct request rq = {.op = op};
    return call(pool, &rq);
}

static void assert_echo(struct sg_media_pool *pool)
{
    const struct request rq = {.op = OP_ECHO, .payload = "hello", .payload_len = 5};
    struct result r = call(pool, &rq);
    assert_int_equal(r.err, SG_OK);
    assert_int_equal(r.payload_len, 5);
    assert_memory_equal(r.payload, "hello", 5);
    assert_null(r.body);
}

static void crashes_cost_one_call(void **state)
{
    static const uint32_t ops[] = {OP_ABORT, OP_EXIT};
    struct sg_media_pool *pool = make_pool(1, false, 20000);
    double before = failures(crash);
    (void)state;
    assert_echo(pool);
    for (size_t i = 0; i < SG_ARRAY_LEN(ops); i++) {
        struct result r = call_op(pool, ops[i]);
        assert_int_equal(r.err, SG_ERR_MEDIA_WORKER);
        assert_true(r.message[0] != '\0');
        assert_echo(pool);
    }
    assert_true(failures(crash) == before + 2);
    sg_media_pool_destroy(&pool);
    assert_null(pool);
}

static void hangs_end_at_their_deadline(void **state)
{
    static const uint32_t ops[] = {OP_HANG, OP_SPIN};
    struct sg_media_pool *pool = make_pool(1, false, 20000);
    double before = failures(timeout);
    (void)state;
    assert_echo(pool);
    for (size_t i = 0; i < SG_ARRAY_LEN(ops); i++) {
        const struct request rq = {.op = ops[i], .timeout_ms = 100};
        uint64_t start = sg_clock_mono_ms();
        struct result r = call(pool, &rq);
        uint64_t took = sg_clock_mono_ms() - start;
        assert_int_equal(r.err, SG_ERR_MEDIA_TIMEOUT);
        assert_in_range(took, 100, 5000);
        assert_echo(pool);
    }
    assert_true(failures(timeout) == before + 2);
    sg_media_pool_destroy(&pool);
}

static void lies_cost_one_call(void **state)
{
    struct sg_media_pool *pool = make_pool(1, true, 20000);
    unsigned before_fds = 0;
    (void)state;
    for (uint32_t op = RAW_UNSEALED; op <= RAW_LAST_LIE; op++) {
        struct result ok = call_op(pool, RAW_OK);
        uint32_t pid = result_u32(&ok);
        if (before_fds == 0)
            before_fds = count_fds();
        struct result r = call_op(pool, op);
        if (r.err != SG_ERR_MEDIA_WORKER)
            fail_msg("op %u: %s", op, sg_error_slug(r.err));
        assert_null(r.body);
        ok = call_op(pool, RAW_OK);
        if (result_u32(&ok) == pid)
            fail_msg("op %u: the process lives on", op);
    }
    assert_int_equal(count_fds(), before_fds);
    assert_true(failures(protocol) > 0);
    sg_media_pool_destroy(&pool);
}

static void an_unasked_message_ends_the_process(void **state)
{
    struct sg_media_pool *pool = make_pool(1, true, 20000);
    (void)state;
    struct result r = call_op(pool, RAW_TWICE);
    uint32_t pid = result_u32(&r);
    /* The second message is found while the pool waits for work, or taken for the answer to the
     * next call, the sequence number of which it guessed; then the answer after that does not fit.
     * Either way the process is gone soon, for one call at most. */
    unsigned lost = 0, calls = 0;
    do {
        assert_in_range(++calls, 1, 4);
        r = call_op(pool, RAW_OK);
        lost += r.err == SG_ERR_MEDIA_WORKER ? 1 : 0;
    } while (r.err != SG_OK || result_u32(&r) == pid);
    assert_in_range(lost, 0, 1);
    sg_media_pool_destroy(&pool);
}

static void ugly_messages_are_cleaned(void **state)
{
    struct sg_media_pool *pool = make_pool(1, true, 20000);
    (void)state;
    struct result r = call_op(pool, RAW_DIRTY_TEXT);
    assert_int_equal(r.err, SG_OK);
    assert_string_equal(r.message, "a?b?[2J??? caf\xc3\xa9");
    sg_media_pool_destroy(&pool);
}

static void much_cpu_retires_a_process(void **state)
{
    struct sg_media_pool *pool = make_pool(1, true, 20000);
    double before = failures(crash);
    (void)state;
    struct result r = call_op(pool, RAW_CPU);
    uint32_t pid = result_u32(&r);
    r = call_op(pool, RAW_OK);
    assert_int_not_equal(result_u32(&r), pid);
    assert_true(failures(crash) == before);
    sg_media_pool_destroy(&pool);
}

static void answers_carry_their_error(void **state)
{
    static const struct {
        enum sg_error sent, got;
    } rows[] = {
        {SG_ERR_UNSUPPORTED_MEDIA, SG_ERR_UNSUPPORTED_MEDIA},
        {SG_ERR_UNPROCESSABLE, SG_ERR_UNPROCESSABLE},
        {SG_ERR_TOO_LARGE, SG_ERR_TOO_LARGE},
        {SG_ERR_NOT_FOUND, SG_ERR_NOT_FOUND},
        {SG_ERR_INVALID, SG_ERR_INVALID},
        {SG_ERR_NO_MEMORY, SG_ERR_NO_MEMORY},
        {SG_ERR_INTERNAL, SG_ERR_INTERNAL},
        {SG_ERR_UNAUTHENTICATED, SG_ERR_INTERNAL},
    };
    struct sg_media_pool *pool = make_pool(1, false, 20000);
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        char payload[16];
        uint32_t err = rows[i].sent;
        memcpy(payload, &err, sizeof(err));
        memcpy(payload + sizeof(err), "why not", 7);
        const struct request rq = {
            .op = OP_FAIL, .payload = payload, .payload_len = sizeof(err) + 7};
        struct result r = call(pool, &rq);
        assert_int_equal(r.err, rows[i].got);
        assert_string_equal(r.message, "why not");
    }
    sg_media_pool_destroy(&pool);
}

static void the_largest_payload_passes(void **state)
{
    static uint8_t payload[SG_MEDIA_PAYLOAD_MAX + 1];
    struct sg_media_pool *pool = make_pool(1, false, 20000);
    struct request rq = {.op = OP_ECHO, .payload = payload, .payload_len = SG_MEDIA_PAYLOAD_MAX};
    struct waiter w;
    (void)state;
    struct result r = call(pool, &rq);
    assert_int_equal(r.err, SG_OK);
    assert_int_equal(r.payload_len, 2048);
    rq.payload_len++;
    waiter_init(&w);
    assert_int_equal(submit(pool, &rq, &w), SG_ERR_INVALID);
    rq.payload_len = 0, rq.fd = 9999;
    assert_int_equal(submit(pool, &rq, &w), SG_ERR_INVALID);
    assert_int_equal(w.result.times, 0);
    waiter_free(&w);
    sg_media_pool_destroy(&pool);
}

static void wait_alive(struct sg_media_pool *pool, unsigned n)
{
    uint64_t deadline = sg_clock_mono_ms() + 20000;
    while (sg_media_pool_alive(pool) != n) {
        assert_true(sg_clock_mono_ms() < deadline);
        /* answers as soon as any process does; the pool itself has no event for "all are up" */
        enum sg_error err = sg_media_pool_check(pool, 10);
        assert_true(err == SG_OK || err == SG_ERR_UNAVAILABLE);
    }
}

static uint32_t pid_of(struct sg_media_pool *pool, uint64_t affinity)
{
    const struct request rq = {.op = OP_PID, .affinity = affinity};
    struct result r = call(pool, &rq);
    return result_u32(&r);
}

static void affinity_holds_and_overflows(void **state)
{
    struct sg_media_pool *pool = make_pool(3, false, 20000);
    struct waiter hung;
    uint32_t pids[3];
    (void)state;
    wait_alive(pool, 3);
    for (uint64_t i = 0; i < 3; i++)
        pids[i] = pid_of(pool, i);
    assert_int_not_equal(pids[0], pids[1]);
    assert_int_not_equal(pids[1], pids[2]);
    assert_int_not_equal(pids[0], pids[2]);
    for (uint64_t i = 0; i < 30; i++)
        assert_int_equal(pid_of(pool, i), pids[i % 3]);

    const struct request rq = {.op = OP_HANG, .affinity = 1, .timeout_ms = 600000};
    double before = started(OP_HANG);
    waiter_init(&hung);
    assert_int_equal(submit(pool, &rq, &hung), SG_OK);
    wait_started(OP_HANG, before);
    for (int i = 0; i < 10; i++)
        assert_int_not_equal(pid_of(pool, 1), pids[1]); /* and does not wait ten minutes */
    sg_media_pool_destroy(&pool);
    assert_int_equal(hung.result.times, 1);
    assert_int_equal(hung.result.err, SG_ERR_CANCELLED);
    waiter_free(&hung);
}

static void work_behind_a_hang_is_taken_over(void **state)
{
    struct sg_media_pool *pool = make_pool(2, false, 20000);
    struct waiter hung[2], queued[8];
    (void)state;
    wait_alive(pool, 2);
    struct request hang = {.op = OP_HANG, .affinity = 0, .timeout_ms = 600000};
    waiter_init(&hung[0]);
    waiter_init(&hung[1]);
    assert_int_equal(submit(pool, &hang, &hung[0]), SG_OK);
    hang.timeout_ms = 200;
    assert_int_equal(submit(pool, &hang, &hung[1]), SG_OK); /* overflows to the other */
    const struct request rq = {.op = OP_PID, .affinity = 0};
    for (size_t i = 0; i < SG_ARRAY_LEN(queued); i++) {
        waiter_init(&queued[i]);
        assert_int_equal(submit(pool, &rq, &queued[i]), SG_OK);
    }
    for (size_t i = 0; i < SG_ARRAY_LEN(queued); i++) {
        waiter_wait(&queued[i]);
        assert_int_equal(queued[i].result.err, SG_OK);
        waiter_free(&queued[i]);
    }
    assert_int_equal(hung[1].result.err, SG_ERR_MEDIA_TIMEOUT);
    assert_int_equal(hung[0].result.times, 0);
    sg_media_pool_destroy(&pool);
    assert_int_equal(hung[0].result.err, SG_ERR_CANCELLED);
    waiter_free(&hung[0]);
    waiter_free(&hung[1]);
}

static void destroy_answers_all_that_waits(void **state)
{
    enum { CALLS = 60 };
    struct sg_media_pool *pool = make_pool(2, false, 20000);
    struct waiter w[CALLS];
    (void)state;
    wait_alive(pool, 2);
    for (size_t i = 0; i < CALLS; i++) {
        const struct request rq = {.op = OP_HANG, .affinity = i, .timeout_ms = 600000};
        waiter_init(&w[i]);
        assert_int_equal(submit(pool, &rq, &w[i]), SG_OK);
    }
    uint64_t start = sg_clock_mono_ms();
    sg_media_pool_destroy(&pool);
    assert_in_range(sg_clock_mono_ms() - start, 0, 5000);
    for (size_t i = 0; i < CALLS; i++) {
        assert_int_equal(w[i].result.times, 1);
        assert_int_equal(w[i].result.err, SG_ERR_CANCELLED);
        waiter_free(&w[i]);
    }
}

static void check_tells_hung_from_well(void **state)
{
    struct sg_media_pool *pool = make_pool(1, false, 20000);
    struct waiter hung;
    (void)state;
    assert_int_equal(sg_media_pool_check(pool, 20000), SG_OK);
    assert_int_equal(sg_media_pool_alive(pool), 1);
    const struct request rq = {.op = OP_HANG, .timeout_ms = 300};
    double before = started(OP_HANG);
    waiter_init(&hung);
    assert_int_equal(submit(pool, &rq, &hung), SG_OK);
    wait_started(OP_HANG, before); /* a ping would go first */
    assert_int_equal(sg_media_pool_check(pool, 30), SG_ERR_UNAVAILABLE);
    waiter_wait(&hung);
    assert_int_equal(sg_media_pool_check(pool, 20000), SG_OK);
    waiter_free(&hung);
    sg_media_pool_destroy(&pool);
}

/* A process that dies between calls is replaced without a call being lost once its end was seen. */
static void death_between_calls_is_noticed(void **state)
{
    struct sg_media_pool *pool = make_pool(1, false, 20000);
    double restarts = sg_metric_read(SG_METRIC_MEDIA_WORKER_RESTARTS, 0);
    double lost = failures(crash);
    uint64_t deadline = sg_clock_mono_ms() + 20000;
    (void)state;
    uint32_t pid = pid_of(pool, 0);
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
    while (sg_metric_read(SG_METRIC_MEDIA_WORKER_RESTARTS, 0) == restarts)
        assert_true(sg_clock_mono_ms() < deadline);
    assert_int_not_equal(pid_of(pool, 0), pid);
    assert_true(failures(crash) == lost);
    sg_media_pool_destroy(&pool);
}

static void a_program_that_does_not_start(void **state)
{
    static const char *const programs[] = {"/nonexistent/program", "/bin/false", "/bin/true"};
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(programs); i++) {
        const struct sg_media_pool_params params = {
            .workers = 1, .exe = programs[i], .max_reply_bytes = 4096, .timeout_ms = 300};
        struct sg_media_pool *pool = NULL;
        double before = sg_metric_read(SG_METRIC_MEDIA_WORKER_RESTARTS, 0);
        assert_int_equal(sg_media_pool_create(&params, &pool), SG_OK);
        struct result r = call_op(pool, OP_ECHO);
        assert_int_equal(r.err, SG_ERR_MEDIA_WORKER);
        assert_int_equal(sg_media_pool_check(pool, 300), SG_ERR_UNAVAILABLE);
        assert_int_equal(sg_media_pool_alive(pool), 0);
        /* 50, 100, 200, 400 ms apart: no more than a handful in 0.6 s (1.5 s on a slow machine) */
        assert_true(sg_metric_read(SG_METRIC_MEDIA_WORKER_RESTARTS, 0) - before < 8);
        sg_media_pool_destroy(&pool);
    }
}

static void parameters_are_checked(void **state)
{
    struct sg_media_pool_params params = {.workers = 0, .timeout_ms = 1};
    struct sg_media_pool *pool = NULL;
    (void)state;
    assert_int_equal(sg_media_pool_create(&params, &pool), SG_ERR_INVALID);
    params.workers = 1, params.timeout_ms = 0;
    assert_int_equal(sg_media_pool_create(&params, &pool), SG_ERR_INVALID);
    assert_null(pool);
    sg_media_pool_destroy(&pool);
}

static void a_crash_loop_leaves_nothing(void **state)
{
    struct sg_media_pool *pool = make_pool(1, false, 20000);
    (void)state;
    assert_echo(pool);
    unsigned before = count_fds();
    for (unsigned i = 0; i < trials(50); i++) {
        struct result r = call_op(pool, OP_ABORT);
        assert_int_equal(r.err, SG_ERR_MEDIA_WORKER);
    }
    assert_echo(pool);
    assert_int_equal(count_fds(), before);
    sg_media_pool_destroy(&pool);
}

/* Without a free descriptor the daemon cannot take a body or start a process; it says so, loses no
 * process for it, and goes on once there are some again. */
static void descriptors_run_out_and_come_back(void **state)
{
    struct sg_media_pool *pool = make_pool(1, false, 20000);
    uint64_t len = 1000;
    const struct request body = {.op = OP_BODY, .payload = &len, .payload_len = sizeof(len)};
    const struct request with_fd = {.op = OP_ECHO, .fd = STDERR_FILENO};
    struct rlimit normal, none;
    struct waiter w;
    (void)state;
    uint32_t pid = pid_of(pool, 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &normal), 0);
    int next = dup(STDERR_FILENO);
    assert_true(next >= 0);
    (void)close(next);
    none = normal;
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    waiter_init(&w);
    enum sg_error submitted = submit(pool, &with_fd, &w);
    struct result refused = call(pool, &body);
    struct result same = call_op(pool, OP_PID);
    struct result crashed = call_op(pool, OP_ABORT);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &normal), 0);
    assert_int_equal(submitted, SG_ERR_NO_DESCRIPTORS);
    assert_int_equal(refused.err, SG_ERR_NO_DESCRIPTORS);
    assert_int_equal(result_u32(&same), pid);
    assert_int_equal(crashed.err, SG_ERR_MEDIA_WORKER);
    struct result again = call(pool, &body);
    assert_int_equal(again.err, SG_OK);
    assert_int_equal(again.body->len, len);
    result_free(&again);
    waiter_free(&w);
    sg_media_pool_destroy(&pool);
}

struct crowd {
    struct sg_media_pool *pool;
    unsigned number, calls, bad;
};

static void *crowd_main(void *arg)
{
    struct crowd *c = arg;
    for (unsigned i = 0; i < c->calls; i++) {
        uint32_t token = c->number * 100000 + i;
        bool fatal = i % 40 == 39;
        const struct request rq = {
            .op = fatal ? OP_EXIT : OP_ECHO,
            .payload = &token,
            .payload_len = sizeof(token),
            .affinity = token,
        };
        struct result r = call(c->pool, &rq);
        bool good = fatal ? r.err == SG_ERR_MEDIA_WORKER
                          : r.err == SG_OK && r.payload_len == sizeof(token) &&
                                memcmp(r.payload, &token, sizeof(token)) == 0;
        c->bad += good ? 0 : 1;
    }
    return NULL;
}

static void many_submitters(void **state)
{
    enum { THREADS = 16 };
    struct sg_media_pool *pool = make_pool(4, false, 20000);
    pthread_t threads[THREADS];
    struct crowd crowds[THREADS];
    (void)state;
    for (unsigned i = 0; i < THREADS; i++) {
        crowds[i] = (struct crowd){.pool = pool, .number = i, .calls = trials(50) * 4};
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_main, &crowds[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(crowds[i].bad, 0);
    }
    sg_media_pool_destroy(&pool);
}

struct resubmit {
    struct sg_media_pool *pool;
    _Atomic unsigned done, refused;
};

static void submit_again(void *arg, const struct sg_media_reply *reply)
{
    struct resubmit *s = arg;
    const struct sg_media_call c = {.op = OP_ECHO, .fd = -1, .done = submit_again, .arg = s};
    (void)reply;
    s->done++;
    if (sg_media_pool_submit(s->pool, &c) != SG_OK)
        s->refused++;
}

/* Callbacks that submit while the pool is being destroyed are refused, not deadlocked or lost. */
static void callbacks_may_submit_until_the_end(void **state)
{
    struct sg_media_pool *pool = make_pool(2, false, 20000);
    struct resubmit s = {.pool = pool};
    const struct sg_media_call c = {.op = OP_ECHO, .fd = -1, .done = submit_again, .arg = &s};
    (void)state;
    for (int i = 0; i < 8; i++)
        assert_int_equal(sg_media_pool_submit(pool, &c), SG_OK);
    while (s.done < 200)
        assert_int_equal(sg_media_pool_check(pool, 20000), SG_OK);
    sg_media_pool_destroy(&pool);
    assert_int_equal(s.refused, 8);
}

/* The daemon is killed: its processes go too. */
static void processes_die_with_the_daemon(void **state)
{
    int pipe_fds[2];
    uint32_t pids[2];
    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t daemon = fork();
    if (daemon == 0) {
        struct sg_media_pool *pool = make_pool(2, false, 600000);
        struct waiter w;
        wait_alive(pool, 2);
        pids[0] = pid_of(pool, 0);
        pids[1] = pid_of(pool, 1);
        const struct request rq = {.op = OP_SPIN};
        waiter_init(&w);
        if (submit(pool, &rq, &w) != SG_OK ||
            write(pipe_fds[1], pids, sizeof(pids)) != sizeof(pids))
            _exit(1);
        for (;;)
            (void)pause();
    }
    assert_int_equal(read(pipe_fds[0], pids, sizeof(pids)), sizeof(pids));
    assert_int_equal(kill(daemon, SIGKILL), 0);
    assert_int_equal(waitpid(daemon, NULL, 0), daemon);
    for (int i = 0; i < 2; i++)
        assert_int_equal(waitpid((pid_t)pids[i], NULL, 0), (pid_t)pids[i]);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}

/* A signal to the whole group or control group must not end processes that still drain work. */
static void processes_ignore_polite_signals(void **state)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    struct sg_media_pool *pool = make_pool(1, false, 20000);
    (void)state;
    uint32_t pid = pid_of(pool, 0);
    for (size_t i = 0; i < SG_ARRAY_LEN(signals); i++)
        assert_int_equal(kill((pid_t)pid, signals[i]), 0);
    assert_int_equal(pid_of(pool, 0), pid);
    sg_media_pool_destroy(&pool);
}

static unsigned fds_at_start;

static int setup(void **state)
{
    (void)state;
    sg_log_test_sink(discard, NULL);
    (void)failures(crash); /* makes the series before there is a second thread */
    (void)failures(timeout);
    (void)failures(protocol);
    fds_at_start = count_fds();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return count_fds() == fds_at_start ? 0 : -1;
}

int main(int argc, char **argv)
{
    int status = worker_main(argc, argv);
    if (status >= 0)
        return status;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crashes_cost_one_call),
        cmocka_unit_test(hangs_end_at_their_deadline),
        cmocka_unit_test(lies_cost_one_call),
        cmocka_unit_test(an_unasked_message_ends_the_process),
        cmocka_unit_test(ugly_messages_are_cleaned),
        cmocka_unit_test(much_cpu_retires_a_process),
        cmocka_unit_test(answers_carry_their_error),
        cmocka_unit_test(the_largest_payload_passes),
        cmocka_unit_test(affinity_holds_and_overflows),
        cmocka_unit_test(work_behind_a_hang_is_taken_over),
        cmocka_unit_test(destroy_answers_all_that_waits),
        cmocka_unit_test(check_tells_hung_from_well),
        cmocka_unit_test(death_between_calls_is_noticed),
        cmocka_unit_test(a_program_that_does_not_start),
        cmocka_unit_test(parameters_are_checked),
        cmocka_unit_test(a_crash_loop_leaves_nothing),
        cmocka_unit_test(descriptors_run_out_and_come_back),
        cmocka_unit_test(many_submitters),
        cmocka_unit_test(callbacks_may_submit_until_the_end),
        cmocka_unit_test(processes_die_with_the_daemon),
        cmocka_unit_test(processes_ignore_polite_signals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
