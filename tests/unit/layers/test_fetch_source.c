/* A fetch against a source that answers from a script: one answer a connection, byte for byte. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "streamgate/layers/fetch.h"

#include "layers_support.h"

#define ANSWERS_MAX 8

struct source {
    int fd;
    unsigned port;
    pthread_t thread;
    const char *answers[ANSWERS_MAX]; /* NULL: no more connections */
    char asked[ANSWERS_MAX][1024];
    unsigned n_asked; /* read after the join */
};

static void read_request(int fd, char *out, size_t size)
{
    size_t n = 0;
    while (n < size - 1 && strstr(out, "\r\n\r\n") == NULL) {
        ssize_t got = recv(fd, out + n, size - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
        out[n] = '\0';
    }
}

static void *serve(void *arg)
{
    struct source *s = arg;
    while (s->n_asked < ANSWERS_MAX && s->answers[s->n_asked] != NULL) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            break; /* shut down */
        read_request(fd, s->asked[s->n_asked], sizeof s->asked[0]);
        const char *answer = s->answers[s->n_asked++];
        for (size_t left = strlen(answer); left > 0;) {
            ssize_t n = send(fd, answer, left, MSG_NOSIGNAL);
            if (n <= 0)
                break;
            answer += n;
            left -= (size_t)n;
        }
        shutdown(fd, SHUT_WR);
        char rest[256];
        while (recv(fd, rest, sizeof rest, 0) > 0)
            ;
        close(fd);
    }
    return NULL;
}

static void source_start(struct source *s)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(s->fd >= 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(s->fd, 8), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&in, &len), 0);
    s->port = ntohs(in.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void source_stop(struct source *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

/* What a fetch handed over. */
struct got {
    char body[4096];
    size_t len;
    unsigned begun;
    uint64_t offset, size;
    bool has_size;
    char validator[256], filename[SG_FETCH_NAME_SIZE];
    enum sg_error begin_err, data_err; /* what the callbacks answer */
    bool stop;
};

static enum sg_error on_begin(void *arg, const struct sg_fetch_source *source)
{
    struct got *g = arg;
    g->begun++;
    g->offset = source->offset;
    g->has_size = source->has_size;
    g->size = source->size_bytes;
    snprintf(g->validator, sizeof g->validator, "%s", source->validator);
    snprintf(g->filename, sizeof g->filename, "%s", source->filename);
    return g->begin_err;
}

static enum sg_error on_data(void *arg, const void *data, size_t len)
{
    struct got *g = arg;
    assert_int_equal(g->begun, 1);
    assert_true(g->len + len < sizeof g->body);
    memcpy(g->body + g->len, data, len);
    g->len += len;
    return g->data_err;
}

static bool on_stop(void *arg)
{
    return ((struct got *)arg)->stop;
}

struct wish {
    uint64_t offset, max_bytes;
    const char *validator, *allow;
    uint64_t timeout_ms;
};

static enum sg_error fetch(struct source *s, const struct wish *w, struct got *g,
                           struct sg_fetch_result *r)
{
    char url[64];
    struct sg_cidr_list *allow = NULL;
    source_start(s);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/film.mp4", s->port);
    assert_int_equal(sg_cidr_list_parse(w->allow != NULL ? w->allow : "127.0.0.1", &allow), SG_OK);
    const struct sg_fetch_params p = {
        .url = url,
        .allow = allow,
        .offset = w->offset,
        .validator = w->validator != NULL ? w->validator : "",
        .max_bytes = w->max_bytes != 0 ? w->max_bytes : 1000,
        .timeout_ms = w->timeout_ms != 0 ? w->timeout_ms : 20000,
        .connect_timeout_ms = 10000,
        .stall_timeout_ms = 10000,
        .max_redirects = 2,
        .begin = on_begin,
        .data = on_data,
        .stop = on_stop,
        .arg = g,
    };
    enum sg_error err = sg_fetch(&p, r);
    source_stop(s);
    sg_cidr_list_destroy(&allow);
    return err;
}

static void expect_body(const struct got *g, const char *body)
{
    assert_int_equal(g->len, strlen(body));
    assert_memory_equal(g->body, body, g->len);
}

static void hands_over_what_comes(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        bool has_size;
        const char *body, *validator, *filename;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"e\"\r\n\r\nhello", true, "hello", "\"e\"",
         ""},
        {"HTTP/1.1 200 OK\r\n\r\nhello", false, "hello", "", ""},
        {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", true, "", "", ""},
        {"HTTP/1.1 100 Continue\r\nETag: \"no\"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
         "2\r\n\r\nhi",
         true, "hi", "", ""},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Disposition: x; filename=a\r\n"
         "\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nETag: \"trailer\"\r\n\r\n",
         false, "abcde", "", "a"},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct source s = {.answers = {rows[i].answer}};
        struct got g = {0};
        struct sg_fetch_result r;
        assert_int_equal(fetch(&s, &(struct wish){0}, &g, &r), SG_OK);
        expect_body(&g, rows[i].body);
        assert_int_equal(g.begun, 1);
        assert_int_equal(g.has_size, rows[i].has_size);
        if (g.has_size)
            assert_int_equal(g.size, strlen(rows[i].body));
        assert_string_equal(g.validator, rows[i].validator);
        assert_string_equal(g.filename, rows[i].filename);
        assert_non_null(strstr(s.asked[0], "GET /film.mp4 HTTP/1.1\r\n"));
        assert_non_null(strstr(s.asked[0], "Accept-Encoding: identity\r\n"));
        assert_null(strstr(s.asked[0], "Range"));
    }
}

static void says_why_it_failed(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        enum sg_error err;
        bool transient;
        const char *why;
    } rows[] = {
        {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", SG_ERR_FETCH, false, "status 404"},
        {"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\n\r\n", SG_ERR_FETCH, true, "status 429"},
        {"HTTP/1.1 502 Bad\r\n\r\n", SG_ERR_FETCH, true, "status 502"},
        {"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-1/2\r\n\r\nab", SG_ERR_FETCH, false,
         "status 206"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", SG_ERR_FETCH, true, "broke off"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", SG_ERR_FETCH, true,
         "broke off"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\nhello", SG_ERR_TOO_LARGE, false, "1000"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nhello", SG_ERR_FETCH,
         false, "readably"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nhello", SG_ERR_FETCH,
         false, "readably"},
        {"", SG_ERR_FETCH, true, "broke off"},
        {"nonsense\r\n\r\n", SG_ERR_FETCH, false, "HTTP"},
        {"HTTP/1.1 302 There\r\nLocation: http://127.0.0.2/\r\n\r\n", SG_ERR_FORBIDDEN, false,
         "redirects"},
        {"HTTP/1.1 302 There\r\nLocation: file:///etc/passwd\r\n\r\n", SG_ERR_FETCH, false,
         "redirects"},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct source s = {.answers = {rows[i].answer}};
        struct got g = {0};
        struct sg_fetch_result r;
        enum sg_error err = fetch(&s, &(struct wish){0}, &g, &r);
        if (err != rows[i].err || r.transient != rows[i].transient || r.by_caller ||
            strstr(r.why, rows[i].why) == NULL)
            fail_msg("%s: %s, %s", rows[i].answer, sg_error_slug(err), r.why);
        assert_int_equal(r.retry_after_ms, strstr(rows[i].answer, "Retry-After") ? 3000 : 0);
        assert_int_equal(s.n_asked, 1);
    }
}

static void bounds_bytes_without_length(void **state)
{
    (void)state;
    struct source s = {.answers = {"HTTP/1.1 200 OK\r\n\r\n0123456789"}};
    struct got g = {0};
    struct sg_fetch_result r;
    assert_int_equal(fetch(&s, &(struct wish){.max_bytes = 9}, &g, &r), SG_ERR_TOO_LARGE);
    assert_true(g.len <= 9);
    s = (struct source){.answers = {"HTTP/1.1 200 OK\r\n\r\n0123456789"}};
    g = (struct got){0};
    assert_int_equal(fetch(&s, &(struct wish){.max_bytes = 10}, &g, &r), SG_OK);
    expect_body(&g, "0123456789");
}

#define OK_WHOLE "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"e\"\r\n\r\n0123456789"

static void goes_on_or_starts_over(void **state)
{
    (void)state;
    static const struct {
        const char *answers[2];
        uint64_t offset;
        const char *body;
        unsigned asked;
    } rows[] = {
        {{"HTTP/1.1 206 P\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\nETag: "
          "\"e\"\r\n\r\n"
          "456789"},
         4,
         "456789",
         1},
        {{"HTTP/1.1 206 P\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n456789"},
         4,
         "456789",
         1},
        {{OK_WHOLE}, 0, "0123456789", 1},
        {{"HTTP/1.1 206 P\r\nContent-Range: bytes 5-9/10\r\n\r\n56789", OK_WHOLE},
         0,
         "0123456789",
         2},
        {{"HTTP/1.1 206 P\r\nContent-Range: bytes 4-9/10\r\nETag: \"f\"\r\n\r\n456789", OK_WHOLE},
         0,
         "0123456789",
         2},
        {{"HTTP/1.1 206 P\r\n\r\n456789", OK_WHOLE}, 0, "0123456789", 2},
        {{"HTTP/1.1 416 R\r\nContent-Range: bytes */4\r\n\r\n", OK_WHOLE}, 0, "0123456789", 2},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct source s = {.answers = {rows[i].answers[0], rows[i].answers[1]}};
        struct got g = {0};
        struct sg_fetch_result r;
        assert_int_equal(fetch(&s, &(struct wish){.offset = 4, .validator = "\"e\""}, &g, &r),
                         SG_OK);
        expect_body(&g, rows[i].body);
        assert_int_equal(g.offset, rows[i].offset);
        assert_true(g.has_size && g.size == 10);
        assert_string_equal(g.validator, "\"e\"");
        assert_int_equal(s.n_asked, rows[i].asked);
        assert_non_null(strstr(s.asked[0], "Range: bytes=4-\r\n"));
        assert_non_null(strstr(s.asked[0], "If-Range: \"e\"\r\n"));
        if (s.n_asked == 2)
            assert_null(strstr(s.asked[1], "Range"));
    }
}

static void a_part_is_not_the_rest(void **state)
{
    (void)state;
    struct source s = {.answers = {"HTTP/1.1 206 P\r\nContent-Range: bytes 4-6/10\r\n"
                                   "Content-Length: 3\r\nETag: \"e\"\r\n\r\n456"}};
    struct got g = {0};
    struct sg_fetch_result r;
    assert_int_equal(fetch(&s, &(struct wish){.offset = 4, .validator = "\"e\""}, &g, &r),
                     SG_ERR_FETCH);
    assert_true(r.transient);
    expect_body(&g, "456");
}

static void without_validator_it_starts_over(void **state)
{
    (void)state;
    struct source s = {.answers = {OK_WHOLE}};
    struct got g = {0};
    struct sg_fetch_result r;
    assert_int_equal(fetch(&s, &(struct wish){.offset = 4}, &g, &r), SG_OK);
    assert_int_equal(g.offset, 0);
    assert_null(strstr(s.asked[0], "Range"));
}

static void follows_few_redirects(void **state)
{
    (void)state;
    static const char there[] =
        "HTTP/1.1 302 There\r\nLocation: /next?a b\r\nContent-Length: 900\r\n\r\n";
    struct source s = {.answers = {there, there, OK_WHOLE}};
    struct got g = {0};
    struct sg_fetch_result r;
    assert_int_equal(fetch(&s, &(struct wish){0}, &g, &r), SG_OK);
    expect_body(&g, "0123456789");
    assert_non_null(strstr(s.asked[2], "GET /next?a"));
    assert_null(strstr(s.asked[2], "Referer"));
    s = (struct source){.answers = {there, there, there, OK_WHOLE}};
    g = (struct got){0};
    assert_int_equal(fetch(&s, &(struct wish){0}, &g, &r), SG_ERR_FETCH);
    assert_non_null(strstr(r.why, "too often"));
    assert_int_equal(s.n_asked, 3);
    assert_int_equal(g.begun, 0);
}

static void ends_as_its_caller_says(void **state)
{
    (void)state;
    struct sg_fetch_result r;
    struct source s = {.answers = {OK_WHOLE}};
    struct got g = {.begin_err = SG_ERR_QUOTA};
    assert_int_equal(fetch(&s, &(struct wish){0}, &g, &r), SG_ERR_QUOTA);
    assert_true(r.by_caller && g.len == 0);
    s = (struct source){.answers = {OK_WHOLE}};
    g = (struct got){.data_err = SG_ERR_SUPERSEDED};
    assert_int_equal(fetch(&s, &(struct wish){0}, &g, &r), SG_ERR_SUPERSEDED);
    assert_true(r.by_caller && g.len > 0);
    s = (struct source){.answers = {OK_WHOLE}};
    g = (struct got){.stop = true};
    assert_int_equal(fetch(&s, &(struct wish){0}, &g, &r), SG_ERR_CANCELLED);
}

static void refuses_before_it_connects(void **state)
{
    (void)state;
    struct sg_fetch_result r;
    struct source s = {.answers = {OK_WHOLE}};
    struct got g = {0};
    assert_int_equal(fetch(&s, &(struct wish){.allow = "10.0.0.0/8"}, &g, &r), SG_ERR_FORBIDDEN);
    assert_false(r.transient);
    assert_int_equal(s.n_asked, 0);
}

static int global_start(void **state)
{
    (void)state;
    return sg_fetch_init() == SG_OK ? 0 : -1;
}

static int global_end(void **state)
{
    (void)state;
    sg_fetch_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hands_over_what_comes),
        cmocka_unit_test(says_why_it_failed),
        cmocka_unit_test(bounds_bytes_without_length),
        cmocka_unit_test(goes_on_or_starts_over),
        cmocka_unit_test(a_part_is_not_the_rest),
        cmocka_unit_test(without_validator_it_starts_over),
        cmocka_unit_test(follows_few_redirects),
        cmocka_unit_test(ends_as_its_caller_says),
        cmocka_unit_test(refuses_before_it_connects),
    };
    return cmocka_run_group_tests(tests, global_start, global_end);
}
