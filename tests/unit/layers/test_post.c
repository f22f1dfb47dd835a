/* Posts, to a server of one answer: what is sent, what of the answer counts, where nothing goes. */
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/layers/fetch.h"
#include "streamgate/layers/post.h"

#include "layers_support.h"

#define LONG_MS 20000

/* Takes one connection, reads a request to the end of its body, answers, and waits for the peer to
 * close. */
struct server {
    int fd;
    unsigned port;
    const char *answer;
    size_t repeat; /* the answer is followed by so many bytes; NULL answer: says nothing at all */
    pthread_t thread;
    char request[8192];
};

static size_t body_left(const char *request, size_t len)
{
    const char *end = strstr(request, "\r\n\r\n"), *length = strcasestr(request, "content-length:");
    if (end == NULL || length == NULL)
        return 1;
    size_t body = (size_t)strtoul(length + 15, NULL, 10), there = len - (size_t)(end + 4 - request);
    return there < body ? body - there : 0;
}

static void *serve(void *arg)
{
    struct server *s = arg;
    size_t len = 0;
    int fd = accept(s->fd, NULL, NULL);
    if (fd < 0)
        return NULL;
    for (ssize_t n = 1; n > 0 && body_left(s->request, len) > 0; len += n > 0 ? (size_t)n : 0)
        n = recv(fd, s->request + len, sizeof s->request - 1 - len, 0);
    if (s->answer != NULL)
        (void)!send(fd, s->answer, strlen(s->answer), MSG_NOSIGNAL);
    char block[4096];
    memset(block, 'x', sizeof block);
    for (size_t sent = 0; sent < s->repeat; sent += sizeof block)
        if (send(fd, block, sizeof block, MSG_NOSIGNAL) < 0)
            break;
    if (s->answer != NULL)
        shutdown(fd, SHUT_WR);
    while (recv(fd, block, sizeof block, 0) > 0)
        ;
    close(fd);
    return NULL;
}

static void open_server(struct server *s, const char *answer, size_t repeat)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    *s = (struct server){.answer = answer, .repeat = repeat};
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(s->fd >= 0);
    assert_int_equal(bind(s->fd, (const struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->fd, 1), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &len), 0);
    s->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void close_server(struct server *s)
{
    shutdown(s->fd, SHUT_RDWR); /* one that was never asked */
    pthread_join(s->thread, NULL);
    close(s->fd);
}

struct bench {
    struct sg_post_client *client;
    struct sg_cidr_list *allow;
};

static int set_up(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    if (b == NULL || sg_fetch_init() != SG_OK || sg_post_client_create(&b->client) != SG_OK ||
        sg_cidr_list_parse("127.0.0.0/8", &b->allow) != SG_OK)
        return -1;
    sg_post_allow(b->client, b->allow);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    sg_post_client_destroy(&b->client);
    sg_cidr_list_destroy(&b->allow);
    sg_fetch_end();
    free(b);
    return 0;
}

static enum sg_error start(struct bench *b, const char *url, uint64_t timeout_ms)
{
    static const char *const headers[] = {"Content-Type: application/json", "X-Mine: yes"};
    return sg_post_start(b->client, &(struct sg_post_params){.url = url,
                                                             .headers = headers,
                                                             .n_headers = 2,
                                                             .body = "{\"a\":1}",
                                                             .body_len = 7,
                                                             .timeout_ms = timeout_ms,
                                                             .arg = b});
}

static struct sg_post_result result_of(struct bench *b)
{
    struct sg_post_result r;
    uint64_t until_ms = sg_clock_mono_ms() + LONG_MS;
    while (sg_post_wait(b->client, LONG_MS, &r, 1) == 0)
        assert_true(sg_clock_mono_ms() < until_ms);
    assert_ptr_equal(r.arg, b);
    assert_int_equal(sg_post_running(b->client), 0);
    return r;
}

static struct sg_post_result post(struct bench *b, struct server *s, uint64_t timeout_ms)
{
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/there?x=1", s->port);
    assert_int_equal(start(b, url, timeout_ms), SG_OK);
    struct sg_post_result r = result_of(b);
    return r;
}

static void what_is_sent(void **state)
{
    struct server s;
    open_server(&s, "HTTP/1.1 204 No Content\r\n\r\n", 0);
    struct sg_post_result r = post(*state, &s, LONG_MS);
    assert_int_equal(r.status, 204);
    assert_string_equal(r.why, "");
    struct bench *b = *state;
    sg_post_client_destroy(&b->client); /* which closes the connection it keeps */
    close_server(&s);
    assert_non_null(strstr(s.request, "POST /there?x=1 HTTP/1.1\r\n"));
    assert_non_null(strstr(s.request, "\r\nX-Mine: yes\r\n"));
    assert_non_null(strstr(s.request, "\r\nContent-Length: 7\r\n"));
    assert_null(strcasestr(s.request, "expect:"));
    assert_string_equal(strstr(s.request, "\r\n\r\n") + 4, "{\"a\":1}");
}

static void what_counts_of_an_answer(void **state)
{
    static const struct {
        const char *answer;
        size_t repeat;
        unsigned status;
        uint64_t retry_after_ms;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", 0, 200, 0},
        {"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 0, 500, 0},
        {"HTTP/1.1 302 There\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n"
         "Connection: close\r\n\r\n",
         0, 302, 0},
        {"HTTP/1.1 503 Later\r\nRetry-After: 7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
         0, 503, 7000},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 0\r\nConnection: "
         "close\r\n\r\n",
         0, 201, 0},
        /* Much more than is read of it. */
        {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", 16u << 20, 200, 0},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        struct server s;
        open_server(&s, cases[i].answer, cases[i].repeat);
        struct sg_post_result r = post(*state, &s, LONG_MS);
        assert_int_equal(r.status, cases[i].status);
        assert_int_equal(r.retry_after_ms, cases[i].retry_after_ms);
        assert_string_equal(r.why, "");
        close_server(&s);
    }
}

static void no_answer_is_said_why(void **state)
{
    static const struct {
        const char *answer;
        uint64_t timeout_ms;
        const char *why;
    } cases[] = {
        {NULL, 200, "the receiver did not answer in time"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", LONG_MS, "the receiver broke off"},
        {"SSH-2.0-x\r\n\r\n", LONG_MS, "the receiver does not answer in HTTP"},
        {"", LONG_MS, "the receiver broke off"},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        struct server s;
        open_server(&s, cases[i].answer, 0);
        struct sg_post_result r = post(*state, &s, cases[i].timeout_ms);
        assert_int_equal(r.status, 0);
        assert_string_equal(r.why, cases[i].why);
        close_server(&s);
    }
}

static void private_addresses_are_not_reached(void **state)
{
    struct bench *b = *state;
    struct server s;
    char url[64];
    open_server(&s, "HTTP/1.1 200 OK\r\n\r\n", 0);
    sg_post_allow(b->client, NULL);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/", s.port);
    assert_int_equal(start(b, url, LONG_MS), SG_ERR_FORBIDDEN);
    (void)snprintf(url, sizeof url, "http://localhost:%u/", s.port);
    assert_int_equal(start(b, url, LONG_MS), SG_OK);
    struct sg_post_result r = result_of(b);
    assert_int_equal(r.status, 0);
    assert_string_equal(r.why, "the receiver has an address that may not be posted to");
    assert_int_equal(start(b, "file:///etc/passwd", LONG_MS), SG_ERR_INVALID);
    close_server(&s);
    assert_string_equal(s.request, "");
}

static void a_wake_ends_a_wait(void **state)
{
    struct bench *b = *state;
    struct sg_post_result r;
    sg_post_wake(b->client); /* before it: not lost */
    uint64_t began_ms = sg_clock_mono_ms();
    assert_int_equal(sg_post_wait(b->client, LONG_MS, &r, 1), 0);
    assert_true(sg_clock_mono_ms() - began_ms < LONG_MS / 2);
    began_ms = sg_clock_mono_ms();
    assert_int_equal(sg_post_wait(b->client, 50, &r, 1), 0);
    assert_true(sg_clock_mono_ms() - began_ms >= 45);
}

static void what_is_under_way_is_broken_off(void **state)
{
    struct bench *b = *state;
    struct server s;
    char url[64];
    struct sg_post_result r;
    open_server(&s, NULL, 0);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/", s.port);
    assert_int_equal(start(b, url, LONG_MS), SG_OK);
    assert_int_equal(sg_post_wait(b->client, 50, &r, 1), 0);
    assert_int_equal(sg_post_running(b->client), 1);
    sg_post_client_destroy(&b->client);
    close_server(&s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(what_is_sent),          T(what_counts_of_an_answer),
        T(no_answer_is_said_why), T(private_addresses_are_not_reached),
        T(a_wake_ends_a_wait),    T(what_is_under_way_is_broken_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
