/* What happens around the pool: processes that are killed or cannot start, crash loops, no
 * descriptors left, the death of the daemon. Nothing is left behind. */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/metrics.h"

#include "pool_support.h"

/* A process that dies between calls is replaced without a call being lost once its end was seen. */
static void death_between_calls_is_noticed(void **state)
{
    struct sg_media_pool *pool = make_pool(1, false, 20000);
    double restarts = sg_metric_read(SG_METRIC_MEDIA_WORKER_RESTARTS, 0);
    double lost = failures(REASON_CRASH);
    uint64_t deadline = sg_clock_mono_ms() + 20000;
    (void)state;
    uint32_t pid = pid_of(pool, 0);
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
    while (sg_metric_read(SG_METRIC_MEDIA_WORKER_RESTARTS, 0) == restarts) {
        assert_true(sg_clock_mono_ms() < deadline);
        pause_briefly();
    }
    assert_int_not_equal(pid_of(pool, 0), pid);
    assert_true(failures(REASON_CRASH) == lost);
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
        assert_int_equal(r.err, SG_ERR_UNAVAILABLE); /* no file is to blame */
        assert_int_equal(sg_media_pool_check(pool, 300), SG_ERR_UNAVAILABLE);
        assert_int_equal(sg_media_pool_alive(pool), 0);
        /* 50, 100, 200, 400 ms apart: no more than a handful in 0.6 s (1.5 s on a slow machine) */
        assert_true(sg_metric_read(SG_METRIC_MEDIA_WORKER_RESTARTS, 0) - before < 8);
        sg_media_pool_destroy(&pool);
    }
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

int main(int argc, char **argv)
{
    int status = worker_main(argc, argv);
    if (status >= 0)
        return status;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(death_between_calls_is_noticed),
        cmocka_unit_test(a_program_that_does_not_start),
        cmocka_unit_test(a_crash_loop_leaves_nothing),
        cmocka_unit_test(descriptors_run_out_and_come_back),
        cmocka_unit_test(processes_die_with_the_daemon),
        cmocka_unit_test(processes_ignore_polite_signals),
    };
    return cmocka_run_group_tests(tests, pool_group_setup, pool_group_teardown);
}
