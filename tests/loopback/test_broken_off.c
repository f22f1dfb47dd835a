/* Clients that go away in the middle: whatever was begun for them is cleaned up soon, in every way
 * a connection can end and at every place of a request. libmicrohttpd alone can miss an end that
 * comes together with the last bytes. */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "streamgate/base/metrics.h"

#include "loopback_support.h"

#define SOON_MS 3000 /* well below the header's deadline and the body's grace, both ten seconds */
#define BODY_BYTES ((size_t)4 << 20)

static struct loop loop;
static struct sg_server *server;
static char body[BODY_BYTES];

static int setup(void **state)
{
    (void)state;
    static const char *const overrides[] = {"server.listen=127.0.0.1:0", "ratelimit.enabled=false",
                                            "upload.max_size=8MiB", "server.io_threads=2", NULL};
    memset(body, 'x', sizeof body);
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

enum ending { END_CLOSE, END_RESET, END_HALF, END_COUNT };

static void end_of(int fd, enum ending how)
{
    const struct linger now = {.l_onoff = 1};
    if (how == END_HALF) {
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        return;
    }
    if (how == END_RESET)
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    close(fd);
}

static double connections(void)
{
    return sg_metric_read(SG_METRIC_ACTIVE_CONNECTIONS, SG_METRIC_ALL);
}

static void expect_all_gone(void)
{
    uint64_t until = sg_clock_mono_ms() + SOON_MS;
    while (connections() > 0 && sg_clock_mono_ms() < until)
        (void)poll(NULL, 0, 10);
    assert_true(connections() <= 0);
}

/* Head and sent bytes of the body in one write where they fit, so that the end can come with them.
 */
static int begin_upload(const char *name, const char *framing, size_t sent)
{
    int fd = loop_connect(sg_server_port(server));
    struct sg_text t = {0};
    sg_text_printf(&t, "PUT /t/upload/%s HTTP/1.1\r\nHost: h\r\nAuthorization: %s\r\n%s\r\n\r\n",
                   name, loop_bearer(&loop, LOOP_CREATOR), framing);
    sg_text_append(&t, body, sent);
    assert_false(t.failed);
    loop_write(fd, t.ptr, t.len);
    sg_text_free(&t);
    return fd;
}

static void break_off(const char *name, const char *framing, enum ending how)
{
    static const size_t sizes[] = {0, 1, 100, 4096, 15000, 16384, 20000, 65536, 300000, 3 << 20};
    enum { AT_ONCE = 20 };
    int fds[SG_ARRAY_LEN(sizes) * AT_ONCE];
    size_t n = 0;
    memset(&loop_seen, 0, sizeof loop_seen);
    for (int i = 0; i < AT_ONCE; i++) {
        for (size_t k = 0; k < SG_ARRAY_LEN(sizes); k++) {
            fds[n] = begin_upload(name, framing, sizes[k]);
            end_of(fds[n++], how);
        }
    }
    expect_all_gone();
    assert_int_equal(loop_seen.frees, loop_seen.upload_begins);
    assert_int_equal(loop_seen.upload_ends, 0);
    for (size_t i = 0; how == END_HALF && i < n; i++)
        close(fds[i]);
}

static void test_body(void **state)
{
    (void)state;
    for (enum ending how = END_CLOSE; how < END_COUNT; how++) {
        break_off("x", "Content-Length: 4194304", how);
        break_off("blocks", "Content-Length: 4194304", how); /* while suspended */
        break_off("blocks", "Transfer-Encoding: chunked\r\n\r\n400000", how);
    }
}

/* The end comes with the last byte of what the library reads at once after it was suspended. */
static void test_body_in_pieces(void **state)
{
    (void)state;
    memset(&loop_seen, 0, sizeof loop_seen);
    for (int i = 0; i < 200; i++) {
        int fd = begin_upload(i % 2 ? "x" : "blocks", "Content-Length: 4194304", 10);
        if (i % 4 < 2)
            (void)poll(NULL, 0, 2);
        loop_write(fd, body, (size_t)i * 97);
        end_of(fd, i % 8 == 7 ? END_RESET : END_CLOSE);
    }
    expect_all_gone();
    assert_int_equal(loop_seen.frees, loop_seen.upload_begins);
    assert_int_equal(loop_seen.upload_ends, 0);
}

static void test_other_places(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "GET /t/hello HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /t/block HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /t/pend?pool HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /t/pend?twice HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /t/pend?block HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /t/file HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /t/block HTTP/1.1\r\nHost: h\r\n\r\nGET /t/pend?twice HTTP/1.1\r\nHo",
    };
    for (enum ending how = END_CLOSE; how < END_COUNT; how++) {
        int fds[SG_ARRAY_LEN(texts) * 20];
        for (size_t i = 0; i < SG_ARRAY_LEN(fds); i++) {
            const char *text = texts[i % SG_ARRAY_LEN(texts)];
            fds[i] = loop_connect(sg_server_port(server));
            loop_write(fds[i], text, strlen(text));
            end_of(fds[i], how);
        }
        for (size_t i = 0; how == END_HALF && i < SG_ARRAY_LEN(fds); i++) {
            bool closed;
            size_t len;
            free(loop_read_all(fds[i], SOON_MS, &closed, &len));
            assert_true(closed);
            close(fds[i]);
        }
        expect_all_gone();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_body),
        cmocka_unit_test(test_body_in_pieces),
        cmocka_unit_test(test_other_places),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
