/* A real server on a real socket: bodies, early answers, deadlines, and how it stops. */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "streamgate/base/metrics.h"

#include "loopback_support.h"

static struct loop loop;
static struct sg_server *server;

static int setup(void **state)
{
    (void)state;
    static const char *const overrides[] = {"server.listen=127.0.0.1:0",
                                            "ratelimit.enabled=false",
                                            "server.header_timeout=700ms",
                                            "server.idle_timeout=2500ms",
                                            "upload.max_size=8MiB",
                                            "server.io_threads=2",
                                            NULL};
    loop_open(&loop, overrides, false);
    assert_int_equal(sg_server_start(&loop.svc, &server), SG_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sg_server_stop(&server, 2000);
    assert_null(server);
    loop_close(&loop);
    return 0;
}

static int dial(void)
{
    return loop_connect(sg_server_port(server));
}

static void say(int fd, const char *text)
{
    loop_write(fd, text, strlen(text));
}

static void expect_status(int fd, unsigned status)
{
    char *text = loop_read_one(fd, 5000);
    char want[16];
    (void)snprintf(want, sizeof want, "HTTP/1.1 %u", status);
    if (strncmp(text, want, strlen(want)) != 0)
        fail_msg("wanted %s, got %s", want, text);
    free(text);
}

static void expect_closed(int fd, int within_ms)
{
    bool closed;
    size_t len;
    char *text = loop_read_all(fd, within_ms, &closed, &len);
    free(text);
    assert_true(closed);
}

static void put_head(int fd, const char *name, size_t len, const char *more)
{
    char head[512];
    (void)snprintf(head, sizeof head,
                   "PUT /t/upload/%s HTTP/1.1\r\nHost: h\r\nAuthorization: %s\r\nContent-Length: "
                   "%zu\r\n%s\r\n",
                   name, loop_bearer(&loop, LOOP_CREATOR), len, more);
    say(fd, head);
}

static void test_upload(void **state)
{
    (void)state;
    static char body[3 << 20];
    memset(body, 'x', sizeof body);
    memset(&loop_seen, 0, sizeof loop_seen);
    int fd = dial();
    for (int i = 0; i < 3; i++) {
        put_head(fd, "x", sizeof body, "");
        loop_write(fd, body, sizeof body);
        expect_status(fd, 201);
    }
    assert_int_equal(loop_seen.upload_bytes, 3 * sizeof body);
    assert_int_equal(loop_seen.upload_ends, 3);
    close(fd);
}

static void test_continue(void **state)
{
    (void)state;
    int fd = dial();
    put_head(fd, "blocks", 3, "Expect: 100-continue\r\n");
    expect_status(fd, 100);
    say(fd, "abc");
    expect_status(fd, 201);
    /* Refused: no 100 before it, and then the connection ends. */
    put_head(fd, "x", 100 << 20, "Expect: 100-continue\r\n");
    expect_status(fd, 413);
    expect_closed(fd, 3000);
    close(fd);
}

/* The client sends on without looking: it still gets the answer, not a reset. */
static void test_early_answer(void **state)
{
    (void)state;
    static char body[6 << 20];
    memset(body, 'x', sizeof body);
    static const struct {
        const char *name;
        size_t len;
        unsigned status;
    } cases[] = {{"refused", sizeof body, 507}, {"x", 100 << 20, 413}, {"y", sizeof body, 422}};
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        int fd = dial();
        body[100000] = cases[i].status == 422 ? '!' : 'x';
        put_head(fd, cases[i].name, cases[i].len, "");
        loop_write(fd, body, sizeof body);
        expect_status(fd, cases[i].status);
        shutdown(fd, SHUT_WR);
        expect_closed(fd, 3000);
        close(fd);
    }
}

static void test_work(void **state)
{
    (void)state;
    int fd = dial();
    for (int i = 0; i < 200; i++) {
        say(fd, "GET /t/block HTTP/1.1\r\nHost: h\r\n\r\n");
        expect_status(fd, 200);
        say(fd, "GET /t/pend?twice HTTP/1.1\r\nHost: h\r\n\r\n");
        expect_status(fd, 200);
        say(fd, "GET /t/pend?pool HTTP/1.1\r\nHost: h\r\n\r\n");
        expect_status(fd, 200);
        say(fd, "GET /t/pend?before HTTP/1.1\r\nHost: h\r\n\r\n");
        expect_status(fd, 200);
    }
    close(fd);
}

static void test_file_and_ranges(void **state)
{
    (void)state;
    int fd = dial();
    say(fd, "GET /t/file HTTP/1.1\r\nHost: h\r\n\r\n");
    char *text = loop_read_one(fd, 5000);
    char *body = strstr(text, "\r\n\r\n");
    assert_non_null(body);
    assert_int_equal(strlen(body + 4), 1 << 20);
    assert_int_equal(strspn(body + 4, "f"), 1 << 20);
    free(text);
    say(fd, "GET /t/file HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1,5-6\r\n\r\n");
    text = loop_read_one(fd, 5000);
    assert_int_equal(strncmp(text, "HTTP/1.1 206", 12), 0);
    assert_non_null(strstr(text, "Content-Range: bytes 5-6/1048576\r\n\r\nff\r\n--"));
    free(text);
    say(fd, "GET /t/file HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"file\"\r\n\r\n");
    /* A 304 announces the length it does not send. */
    char head[2048] = {0};
    size_t at = 0;
    while (!strstr(head, "\r\n\r\n") && recv(fd, head + at, 1, 0) == 1 && at < sizeof head - 2)
        at++;
    assert_int_equal(strncmp(head, "HTTP/1.1 304", 12), 0);
    assert_non_null(strstr(head, "Content-Length: 1048576\r\n"));
    say(fd, "GET /t/hello HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_status(fd, 200);
    close(fd);
}

static size_t resident_bytes(void)
{
    size_t pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%zu %zu", &pages, &resident), 2);
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* The memory of connections that rest is given back, and they work afterwards as before. */
static void rest_and_return(void)
{
    enum { COUNT = 1000 };
    static int fds[COUNT];
    size_t before = resident_bytes();
    for (int i = 0; i < COUNT; i++) {
        fds[i] = dial();
        say(fds[i], "GET /t/hello HTTP/1.1\r\nHost: h\r\n\r\n");
        expect_status(fds[i], 200);
    }
    for (int pass = 0; pass < 3; pass++) {
        int other = dial(); /* traffic on both I/O threads lets them tidy up */
        for (int i = 0; i < 60; i++) {
            (void)poll(NULL, 0, 5);
            int again = dial();
            say(again, "GET /t/hello HTTP/1.1\r\nHost: h\r\n\r\n");
            expect_status(again, 200);
            close(again);
        }
        close(other);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        assert_in_range(resident_bytes(), 0, before + (size_t)COUNT * 12 * 1024);
#else
        (void)before;
#endif
        for (int i = 0; i < COUNT; i += 7) {
            if (pass == 1) {
                say(fds[i], "POST /t/json HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
                            "Content-Length: 9\r\n\r\n{\"a\":\"b\"}GET /t/hello HTTP/1.1\r\nHo");
                expect_status(fds[i], 200); /* half a head stays behind */
            } else {
                say(fds[i], "GET /t/hello HTTP/1.1\r\nHost: h\r\n\r\n");
                expect_status(fds[i], 200);
            }
        }
        for (int i = 0; pass == 1 && i < COUNT; i += 7) {
            say(fds[i], "st: h\r\n\r\n");
            expect_status(fds[i], 200);
        }
    }
    for (int i = 0; i < COUNT; i++)
        close(fds[i]);
}

static void test_resting(void **state)
{
    (void)state;
    static const char *const patient[] = {"server.listen=127.0.0.1:0", "ratelimit.enabled=false",
                                          "server.io_threads=2"};
    struct sg_config *real = atomic_load(&loop.svc.config);
    struct sg_server *usual = server;
    const struct sg_config_params params = {.overrides = patient,
                                            .n_overrides = SG_ARRAY_LEN(patient)};
    struct sg_text mistakes = {0};
    struct sg_config *config = NULL;
    assert_int_equal(sg_config_load(&params, &mistakes, &config), SG_OK);
    atomic_store(&loop.svc.config, config);
    assert_int_equal(sg_server_start(&loop.svc, &server), SG_OK);
    rest_and_return();
    sg_server_stop(&server, 1000);
    server = usual;
    atomic_store(&loop.svc.config, real);
    sg_config_unref(config);
    sg_text_free(&mistakes);
}

static double reaped(void)
{
    return sg_metric_read(SG_METRIC_REAPED_CONNECTIONS, SG_METRIC_ALL);
}

/* One byte now and then keeps the connection from being idle; the head's deadline ends it all the
 * same. Also after a request. */
static void test_slow_head(void **state)
{
    (void)state;
    static const char head[] =
        "GET /t/hello HTTP/1.1\r\nHost: h\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for (int used = 0; used < 2; used++) {
        int fd = dial();
        double before = reaped();
        if (used) {
            say(fd, "GET /t/hello HTTP/1.1\r\nHost: h\r\n\r\n");
            expect_status(fd, 200);
        }
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t begin = sg_clock_mono_ms();
        for (size_t i = 0; i < sizeof head - 1 && poll(&p, 1, 100) == 0; i++)
            loop_write(fd, head + i, 1);
        uint64_t took = sg_clock_mono_ms() - begin;
        assert_in_range(took, 600, 4000);
        expect_closed(fd, 2000);
        for (int i = 0; i < 200 && reaped() <= before; i++)
            (void)poll(NULL, 0, 10); /* counted after the scan that closed it */
        assert_true(reaped() > before);
        close(fd);
    }
}

static void test_idle(void **state)
{
    (void)state;
    int fd = dial();
    say(fd, "GET /t/hello HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_status(fd, 200);
    uint64_t begin = sg_clock_mono_ms();
    expect_closed(fd, 6000);
    assert_in_range(sg_clock_mono_ms() - begin, 1500, 5000);
    close(fd);
}

static void test_dropped(void **state)
{
    (void)state;
    memset(&loop_seen, 0, sizeof loop_seen);
    for (int i = 0; i < 20; i++) {
        int fd = dial();
        put_head(fd, "x", 1000, "");
        say(fd, "abc");
        if (i % 2) {
            const struct linger now = {.l_onoff = 1};
            assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
        }
        close(fd);
        fd = dial();
        say(fd, "GET /t/block HTTP/1.1\r\nHost: h\r\n\r\n");
        close(fd);
    }
    for (int i = 0; i < 500 && loop_seen.frees < 20; i++)
        (void)poll(NULL, 0, 10);
    assert_int_equal(loop_seen.frees, loop_seen.upload_begins);
    assert_int_equal(loop_seen.upload_ends, 0);
}

/* ---- what the latency histogram says ---- */

#define CLIENT_MS 1000

/* What one more request than before added to it: its seconds, or -1 when nothing was added within
 * wait_ms. */
static double latency_added(const struct sg_histogram_view *before, int wait_ms)
{
    struct sg_histogram_view now;
    for (int ms = 0;; ms += 10) {
        sg_metric_read_histogram(SG_METRIC_REQUEST_LATENCY, SG_METRIC_ALL, &now);
        if (now.count > before->count || ms >= wait_ms)
            break;
        (void)poll(NULL, 0, 10);
    }
    return now.count > before->count ? now.sum - before->sum : -1;
}

static void latency_now(struct sg_histogram_view *view)
{
    for (int i = 0; i < 100; i++) { /* those of the tests before may not be counted yet */
        (void)poll(NULL, 0, 10);
        uint64_t before = i > 0 ? view->count : UINT64_MAX;
        sg_metric_read_histogram(SG_METRIC_REQUEST_LATENCY, SG_METRIC_ALL, view);
        if (view->count == before && i > 10)
            return;
    }
}

static void expect_latency(double got, double from, double below)
{
    if (got < from || got >= below)
        fail_msg("%f s, expected %f to %f", got, from, below);
}

/* A client that takes its time costs the server none, but what it waits for after its last byte
 * does. */
static void test_latency_of_slow_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *name, *last;
        unsigned status;
        double from, below;
    } cases[] = {{"x", "d", 201, 0, 0.9}, {"works", "d", 201, 0.3, 1.2}, {"x", "!", 422, 0, 0.9}};
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        struct sg_histogram_view before;
        latency_now(&before);
        int fd = dial();
        put_head(fd, cases[i].name, 4, "");
        say(fd, "abc");
        (void)poll(NULL, 0, CLIENT_MS);
        say(fd, cases[i].last);
        expect_status(fd, cases[i].status);
        close(fd);
        expect_latency(latency_added(&before, 3000), cases[i].from, cases[i].below);
    }
}

static void test_latency_of_slow_readers(void **state)
{
    (void)state;
    struct sg_histogram_view before;
    latency_now(&before);
    int fd = dial();
    const int bytes = 32 * 1024;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    say(fd, "GET /t/file HTTP/1.1\r\nHost: h\r\n\r\n");
    (void)poll(NULL, 0, CLIENT_MS);
    struct sg_histogram_view meanwhile;
    sg_metric_read_histogram(SG_METRIC_REQUEST_LATENCY, SG_METRIC_ALL, &meanwhile);
    assert_int_equal(meanwhile.count, before.count); /* the body is still being read */
    char *text = loop_read_one(fd, 10000);
    assert_int_equal(strncmp(text, "HTTP/1.1 200", 12), 0);
    free(text);
    close(fd);
    expect_latency(latency_added(&before, 3000), 0, 0.9);
}

/* A body that never ended was never answered: there is nothing to say of it. */
static void test_latency_of_broken_bodies(void **state)
{
    (void)state;
    struct sg_histogram_view before;
    latency_now(&before);
    double dropped = sg_metric_read(SG_METRIC_REQUEST_COUNT, SG_METRIC_ALL);
    int fd = dial();
    put_head(fd, "x", 1000, "");
    say(fd, "abc");
    (void)poll(NULL, 0, 50);
    close(fd);
    for (int i = 0; i < 300 && sg_metric_read(SG_METRIC_REQUEST_COUNT, SG_METRIC_ALL) <= dropped;
         i++)
        (void)poll(NULL, 0, 10);
    assert_true(sg_metric_read(SG_METRIC_REQUEST_COUNT, SG_METRIC_ALL) > dropped);
    expect_latency(latency_added(&before, 100), -1, 0);
}

/* Requests in flight finish; the port is free afterwards. */
static void test_stop(void **state)
{
    (void)state;
    struct sg_server *own = NULL;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(sg_server_start(&loop.svc, &own), SG_OK);
        int fds[8];
        for (int k = 0; k < 8; k++) {
            fds[k] = loop_connect(sg_server_port(own));
            say(fds[k], "GET /t/pend?pool HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        for (int k = 0; k < 4; k++)
            expect_status(fds[k], 200);
        uint64_t begin = sg_clock_mono_ms();
        sg_server_stop(&own, 2000);
        assert_true(sg_clock_mono_ms() - begin < 2000);
        for (int k = 0; k < 8; k++)
            close(fds[k]);
    }
}

static void test_bad_listen(void **state)
{
    (void)state;
    static const char *const bad[] = {"server.listen=nonsense",
                                      "server.listen=127.0.0.1:", "server.listen=[::1:80"};
    struct sg_config *real = atomic_load(&loop.svc.config);
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        const struct sg_config_params params = {.overrides = &bad[i], .n_overrides = 1};
        struct sg_text mistakes = {0};
        struct sg_config *config = NULL;
        struct sg_server *none = NULL;
        if (sg_config_load(&params, &mistakes, &config) == SG_OK) {
            atomic_store(&loop.svc.config, config);
            assert_int_equal(sg_server_start(&loop.svc, &none), SG_ERR_CONFIG);
            assert_null(none);
            sg_config_unref(config);
        }
        sg_text_free(&mistakes);
        atomic_store(&loop.svc.config, real);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upload),
        cmocka_unit_test(test_continue),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_work),
        cmocka_unit_test(test_file_and_ranges),
        cmocka_unit_test(test_resting),
        cmocka_unit_test(test_slow_head),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_bad_listen),
        cmocka_unit_test(test_latency_of_slow_bodies),
        cmocka_unit_test(test_latency_of_slow_readers),
        cmocka_unit_test(test_latency_of_broken_bodies),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
