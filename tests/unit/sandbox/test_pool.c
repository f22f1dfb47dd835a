/* The pool: whatever a process does costs one call, every call is answered once, and nothing is
 * left behind. */
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/metrics.h"

#include "pool_support.h"

static void crashes_cost_one_call(void **state)
{
    static const uint32_t ops[] = {OP_ABORT, OP_EXIT};
    struct sg_media_pool *pool = make_pool(1, false, 20000);
    double before = failures(REASON_CRASH);
    (void)state;
    assert_echo(pool);
    for (size_t i = 0; i < SG_ARRAY_LEN(ops); i++) {
        struct result r = call_op(pool, ops[i]);
        assert_int_equal(r.err, SG_ERR_MEDIA_WORKER);
        assert_true(r.message[0] != '\0');
        assert_echo(pool);
    }
    assert_true(failures(REASON_CRASH) == before + 2);
    sg_media_pool_destroy(&pool);
    assert_null(pool);
}

/* A call that no process ever saw says nothing about its file. */
static void no_process_is_not_the_files_fault(void **state)
{
    const struct sg_media_pool_params params = {
        .workers = 1,
        .exe = "/nowhere/streamgate",
        .memory_bytes = TEST_MEMORY,
        .max_reply_bytes = TEST_MAX_REPLY,
        .timeout_ms = 200,
    };
    struct sg_media_pool *pool = NULL;
    (void)state;
    assert_int_equal(sg_media_pool_create(&params, &pool), SG_OK);
    struct result r = call_op(pool, OP_ECHO);
    assert_int_equal(r.err, SG_ERR_UNAVAILABLE);
    assert_true(r.message[0] != '\0');
    sg_media_pool_destroy(&pool);
}

static void hangs_end_at_their_deadline(void **state)
{
    static const uint32_t ops[] = {OP_HANG, OP_SPIN};
    struct sg_media_pool *pool = make_pool(1, false, 20000);
    double before = failures(REASON_TIMEOUT);
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
    assert_true(failures(REASON_TIMEOUT) == before + 2);
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
    assert_true(failures(REASON_PROTOCOL) > 0);
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
    double before = failures(REASON_CRASH);
    (void)state;
    struct result r = call_op(pool, RAW_CPU);
    uint32_t pid = result_u32(&r);
    r = call_op(pool, RAW_OK);
    assert_int_not_equal(result_u32(&r), pid);
    assert_true(failures(REASON_CRASH) == before);
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
        pause_briefly();
    sg_media_pool_destroy(&pool);
    assert_int_equal(s.refused, 8);
}

int main(int argc, char **argv)
{
    int status = worker_main(argc, argv);
    if (status >= 0)
        return status;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crashes_cost_one_call),
        cmocka_unit_test(no_process_is_not_the_files_fault),
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
        cmocka_unit_test(parameters_are_checked),
        cmocka_unit_test(many_submitters),
        cmocka_unit_test(callbacks_may_submit_until_the_end),
    };
    return cmocka_run_group_tests(tests, pool_group_setup, pool_group_teardown);
}
