/* Connections between the acceptor and the I/O threads: at the limit, while an I/O thread is held
 * up, and at the stop. */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "streamgate/base/metrics.h"

#include "loopback_support.h"

#define MOST 16 /* connections: server.max_connections */
#define WAIT_MS 20000

static struct loop loop;
static struct sg_server *server;

static int setup(void **state)
{
    (void)state;
    /* One I/O thread has all the connections there may be. */
    static const char *const overrides[] = {"server.listen=127.0.0.1:0", "ratelimit.enabled=false",
                                            "server.max_connections=16", "server.io_threads=1",
                                            NULL};
    loop_open(&loop, overrides, false);
    assert_int_equal(sg_server_start(&loop.svc, &server), SG_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sg_server_stop(&server, 2000);
    loop_close(&loop);
    return 0;
}

static int ask(struct sg_server *s, const char *path)
{
    char text[128];
    int fd = loop_connect(sg_server_port(s));
    (void)snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path);
    loop_write(fd, text, strlen(text));
    return fd;
}

static void expect_answer(int fd)
{
    char *text = loop_read_one(fd, WAIT_MS);
    if (strncmp(text, "HTTP/1.1 200", 12) != 0)
        fail_msg("wanted an answer, got \"%s\"", text);
    free(text);
}

static bool answered(int fd, int within_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, within_ms) > 0;
}

static double connections(void)
{
    return sg_metric_read(SG_METRIC_ACTIVE_CONNECTIONS, SG_METRIC_ALL);
}

static void expect_all_gone(void)
{
    uint64_t until = sg_clock_mono_ms() + WAIT_MS;
    while (connections() > 0 && sg_clock_mono_ms() < until)
        (void)poll(NULL, 0, 5);
    assert_true(connections() <= 0);
}

/* Those that were given to the I/O thread while it was held up count like those that it has. */
static void test_limit_while_held_up(void **state)
{
    (void)state;
    int fds[MOST * 3];
    fds[0] = ask(server, "/t/stall?2500");
    (void)poll(NULL, 0, 100);
    for (size_t i = 1; i < SG_ARRAY_LEN(fds); i++)
        fds[i] = ask(server, "/t/hello");
    for (size_t i = 0; i < MOST; i++)
        expect_answer(fds[i]);
    assert_false(answered(fds[MOST], 300));
    assert_true(connections() <= MOST && connections() >= MOST);
    for (size_t i = 0; i < SG_ARRAY_LEN(fds); i++) {
        if (i >= MOST)
            expect_answer(fds[i]);
        close(fds[i]);
    }
    expect_all_gone();
}

/* Who waits at the limit is served as soon as another leaves, and never turned away. */
static void test_waves_at_the_limit(void **state)
{
    (void)state;
    int here[MOST];
    for (size_t i = 0; i < MOST; i++)
        here[i] = ask(server, "/t/hello");
    for (int round = 0; round < 200; round++) {
        int next[MOST];
        for (size_t i = 0; i < MOST; i++)
            next[i] = ask(server, "/t/hello");
        for (size_t i = 0; i < MOST; i++) {
            expect_answer(here[i]);
            close(here[i]);
            here[i] = next[i];
        }
    }
    for (size_t i = 0; i < MOST; i++) {
        expect_answer(here[i]);
        close(here[i]);
    }
    expect_all_gone();
}

/* Connections that wait for their I/O thread when the server stops are served or dropped; none is
 * suspended when the library stops. */
static void test_stop_while_held_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < 80; i++) {
        struct sg_server *own = NULL;
        int fds[8];
        size_t n = 2 + i % (SG_ARRAY_LEN(fds) - 1);
        assert_int_equal(sg_server_start(&loop.svc, &own), SG_OK);
        fds[0] = ask(own, "/t/stall?30");
        (void)poll(NULL, 0, 10);
        for (size_t k = 1; k < n; k++)
            fds[k] = ask(own, "/t/stall/off?30");
        (void)poll(NULL, 0, 5);
        sg_server_stop(&own, 0);
        for (size_t k = 0; k < n; k++)
            close(fds[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_while_held_up),
        cmocka_unit_test(test_waves_at_the_limit),
        cmocka_unit_test(test_stop_while_held_up),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
