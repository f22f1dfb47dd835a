/* Every allocation of creating a pool, submitting a call and running a task fails once: an error
 * comes back and nothing is left. */
#include <stdlib.h>

#include "streamgate/sandbox/media_task.h"

#include "confine.h"
#include "pool_support.h"
#include "task_support.h"

#ifndef SG_UNDER_SANITIZER
/* The C library's own; the names below replace its public ones in this program. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);

static _Thread_local unsigned fail_at; /* 0: never; only the thread that sets it is failed */

static bool fails(void)
{
    return fail_at > 0 && --fail_at == 0;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails() ? NULL : __libc_calloc(n, size);
}

static enum sg_error create(unsigned nth, struct sg_media_pool **pool)
{
    const char *const argv[] = {"unit", "media-worker-test", NULL};
    const struct sg_media_pool_params params = {.workers = 2,
                                                .argv = argv,
                                                .memory_bytes = TEST_MEMORY,
                                                .max_reply_bytes = TEST_MAX_REPLY,
                                                .timeout_ms = 20000};
    fail_at = nth;
    enum sg_error err = sg_media_pool_create(&params, pool);
    fail_at = 0;
    return err;
}

static void creation_survives_each_failure(void **state)
{
    struct sg_media_pool *pool = NULL;
    (void)state;
    assert_int_equal(create(0, &pool), SG_OK); /* what is allocated once for all */
    sg_media_pool_destroy(&pool);
    unsigned before = count_fds();
    unsigned failures = 0;
    for (unsigned nth = 1; nth <= 40; nth++) {
        enum sg_error err = create(nth, &pool);
        if (err == SG_OK) {
            sg_media_pool_destroy(&pool);
        } else {
            failures++;
            assert_null(pool);
            assert_true(err == SG_ERR_NO_MEMORY || err == SG_ERR_UNAVAILABLE);
        }
        assert_int_equal(count_fds(), before);
    }
    assert_true(failures >= 4); /* the pool, the program's name, its arguments */
}

static void submission_survives_a_failure(void **state)
{
    struct sg_media_pool *pool = NULL;
    struct waiter w;
    const struct request rq = {.op = OP_PID};
    (void)state;
    assert_int_equal(create(0, &pool), SG_OK);
    waiter_init(&w);
    fail_at = 1;
    enum sg_error err = submit(pool, &rq, &w);
    fail_at = 0;
    assert_int_equal(err, SG_ERR_NO_MEMORY);
    assert_int_equal(w.result.times, 0);
    waiter_free(&w);
    struct result r = call(pool, &rq);
    assert_int_equal(r.err, SG_OK);
    sg_media_pool_destroy(&pool);
}

static enum sg_error ignore_event(void *arg, const void *payload, size_t len)
{
    (void)arg, (void)payload, (void)len;
    return SG_OK;
}

static void a_task_survives_each_failure(void **state)
{
    static const char *const argv[] = {"unit", TASK_SERVED, NULL};
    const uint8_t payload[] = {TASK_COUNT, 2, 0, 0, 0};
    const struct sg_media_task task = {.argv = argv,
                                       .timeout_ms = 20000,
                                       .stall_ms = 20000,
                                       .stop_fd = -1,
                                       .payload = payload,
                                       .payload_len = sizeof(payload),
                                       .event = ignore_event};
    struct sg_media_task_answer answer;
    unsigned before = count_fds(), failures = 0;
    (void)state;
    for (unsigned nth = 1; nth <= 10; nth++) {
        fail_at = nth;
        enum sg_error err = sg_media_task_run(&task, &answer);
        fail_at = 0;
        failures += err != SG_OK ? 1 : 0;
        assert_true(err == SG_OK || err == SG_ERR_NO_MEMORY);
        assert_int_equal(count_fds(), before);
    }
    assert_true(failures >= 1); /* what the run is kept in */
}

int main(int argc, char **argv)
{
    int status = worker_main(argc, argv);
    if (status < 0)
        status = task_worker_main(argc, argv);
    if (status >= 0)
        return status;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(creation_survives_each_failure),
        cmocka_unit_test(submission_survives_a_failure),
        cmocka_unit_test(a_task_survives_each_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    return 0; /* the sanitizers have an allocator of their own */
}
#endif
