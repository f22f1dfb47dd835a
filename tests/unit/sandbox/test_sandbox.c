/* What a process can and cannot do once it is inside: asked of a real one, through a pool. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "streamgate/base/metrics.h"

#include "confine.h"
#include "pool_support.h"

static struct sg_media_pool *pool;

static int setup(void **state)
{
    (void)state;
    pool = make_pool(1, false, 20000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sg_media_pool_destroy(&pool);
    return 0;
}

static struct result try_it(uint32_t what)
{
    const struct request rq = {.op = OP_TRY, .payload = &what, .payload_len = sizeof(what)};
    return call(pool, &rq);
}

static void still_served(void)
{
    const struct request rq = {.op = OP_ECHO, .payload = "still", .payload_len = 5};
    struct result r = call(pool, &rq);
    assert_int_equal(r.err, SG_OK);
    assert_int_equal(r.payload_len, 5);
}

static void refused_calls_answer_an_error(void **state)
{
    (void)state;
    for (uint32_t what = 0; what < TRY_SOCKET; what++) {
        struct result r = try_it(what);
        uint32_t got = result_u32(&r);
        uint32_t want = what == TRY_CLONE3 ? ENOSYS : EPERM;
        if (got != want)
            fail_msg("attempt %u: errno %u, not %u", what, got, want);
    }
    assert_int_not_equal(access("/tmp/streamgate-sandbox-test", F_OK), 0);
}

static void dangerous_calls_kill(void **state)
{
    (void)state;
    for (uint32_t what = TRY_SOCKET; what < TRY_COUNT; what++) {
        struct result r = try_it(what);
        if (r.err != SG_ERR_MEDIA_WORKER)
            fail_msg("attempt %u: %s", what, sg_error_slug(r.err));
        still_served();
    }
}

static void nothing_is_inherited(void **state)
{
    struct survey s;
    const struct request rq = {.op = OP_SURVEY};
    (void)state;
    int leaky = open("/dev/null", O_RDONLY); /* not close-on-exec, as a careless library would */
    assert_true(leaky >= 0);
    assert_int_equal(setenv("SG_SECRET", "hidden", 1), 0);
    struct sg_media_pool *other = make_pool(1, false, 20000);
    struct result r = call(other, &rq);
    assert_int_equal(r.err, SG_OK);
    assert_int_equal(r.payload_len, sizeof(s));
    memcpy(&s, r.payload, sizeof(s));
    assert_int_equal(s.open_fds, 4); /* 0, 1, 2 and the socket */
    assert_int_equal(s.environ_count, 0);
    assert_int_equal(s.core_limit, 0);
    assert_int_equal(s.file_limit, TEST_MAX_REPLY);
#ifndef SG_UNDER_SANITIZER
    assert_int_equal(s.memory_limit, TEST_MEMORY);
#endif
    sg_media_pool_destroy(&other);
    (void)unsetenv("SG_SECRET");
    (void)close(leaky);
}

static void memory_is_bounded(void **state)
{
    (void)state;
#ifdef SG_UNDER_SANITIZER
    skip();
#else
    const struct request rq = {.op = OP_ALLOCATE};
    struct result r = call(pool, &rq);
    assert_in_range(result_u64(&r), 64u << 20, TEST_MEMORY);
    still_served();
#endif
}

static void threads_and_bodies_work(void **state)
{
    const struct request threads = {.op = OP_THREADS};
    (void)state;
    struct result r = call(pool, &threads);
    assert_int_equal(result_u32(&r), 8);
    for (uint64_t len = 0; len < (4u << 20); len = len * 3 + 1) {
        const struct request rq = {.op = OP_BODY, .payload = &len, .payload_len = sizeof(len)};
        r = call(pool, &rq);
        assert_int_equal(r.err, SG_OK);
        assert_non_null(r.body);
        assert_int_equal(r.body->len, len);
        for (uint64_t i = 0; i < len; i++) {
            if (r.body->data[i] != (uint8_t)(i * 7))
                fail_msg("byte %llu of %llu", (unsigned long long)i, (unsigned long long)len);
        }
        result_free(&r);
    }
}

static void a_body_over_the_limit_is_an_answer(void **state)
{
    uint64_t len = TEST_MAX_REPLY + 1;
    const struct request rq = {.op = OP_BODY, .payload = &len, .payload_len = sizeof(len)};
    double restarts = sg_metric_read(SG_METRIC_MEDIA_WORKER_RESTARTS, 0);
    (void)state;
    struct result r = call(pool, &rq);
    assert_int_equal(r.err, SG_ERR_TOO_LARGE);
    assert_null(r.body);
    still_served();
    assert_true(sg_metric_read(SG_METRIC_MEDIA_WORKER_RESTARTS, 0) == restarts);
}

static void a_passed_file_can_be_read_only(void **state)
{
    (void)state;
    int fd = memfd_create("source", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "0123456789", 10), 10);
    assert_int_equal(lseek(fd, 4, SEEK_SET), 4);
    const struct request echo = {.op = OP_ECHO, .payload = "<", .payload_len = 1, .fd = fd};
    const struct request spoil = {.op = OP_WRITE_FD, .fd = fd};
    for (int i = 0; i < 2; i++) { /* an offset of its own each time */
        struct result r = call(pool, &echo);
        assert_int_equal(r.err, SG_OK);
        assert_int_equal(r.payload_len, 11);
        assert_memory_equal(r.payload, "<0123456789", 11);
    }
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 4);
    struct result r = call(pool, &spoil);
    assert_int_equal(result_u32(&r), EBADF);
    (void)close(fd);
}

int main(int argc, char **argv)
{
    int status = worker_main(argc, argv);
    if (status >= 0)
        return status;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_calls_answer_an_error),
        cmocka_unit_test(dangerous_calls_kill),
        cmocka_unit_test(nothing_is_inherited),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(threads_and_bodies_work),
        cmocka_unit_test(a_body_over_the_limit_is_an_answer),
        cmocka_unit_test(a_passed_file_can_be_read_only),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
