/* Malformed requests over a raw socket against a real server: exactly one response of the right
 * status, then a closed connection, and a request smuggled behind never runs. */
#include <stdio.h>
#include <unistd.h>

#include "streamgate/base/metrics.h"

#include "loopback_support.h"

static struct loop loop;
static struct sg_server *server;

static int setup(void **state)
{
    (void)state;
    static const char *const overrides[] = {"server.listen=127.0.0.1:0", "ratelimit.enabled=false",
                                            NULL};
    loop_open(&loop, overrides, false);
    assert_int_equal(sg_server_start(&loop.svc, &server), SG_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sg_server_stop(&server, 1000);
    loop_close(&loop);
    return 0;
}

static unsigned count(const char *text, size_t len, const char *what)
{
    unsigned n = 0;
    size_t m = strlen(what);
    for (size_t i = 0; i + m <= len; i++)
        n += memcmp(text + i, what, m) == 0;
    return n;
}

/* Sends head and a smuggled request behind it, in one piece or byte by byte. */
static void expect_refused(const char *name, const char *head, size_t len, unsigned status,
                           size_t piece)
{
    static const char smuggled[] = "DELETE /t/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    int fd = loop_connect(sg_server_port(server));
    uint64_t lost = (uint64_t)sg_metric_read(SG_METRIC_NOT_FOUND, SG_METRIC_ALL);
    for (size_t at = 0; at < len; at += piece)
        loop_write(fd, head + at, len - at < piece ? len - at : piece);
    loop_write(fd, smuggled, sizeof smuggled - 1);
    bool closed = false;
    size_t got = 0;
    char *text = loop_read_all(fd, 5000, &closed, &got);
    char want[32];
    (void)snprintf(want, sizeof want, "HTTP/1.1 %u ", status);
    bool ok = closed && strncmp(text, want, strlen(want)) == 0 &&
              count(text, got, "\r\nDate: ") == 1 && count(text, got, "HTTP/1.1 2") == 0 &&
              count(text, got, "Connection: close") == 1 &&
              (uint64_t)sg_metric_read(SG_METRIC_NOT_FOUND, SG_METRIC_ALL) == lost;
    if (!strstr(name, "ersion")) /* those are the library's own */
        ok = ok && count(text, got, "application/problem+json") == 1;
    if (!ok)
        print_error("%s (pieces of %zu): closed %d, wanted %u, got\n%s\n", name, piece, closed,
                    status, text);
    free(text);
    close(fd);
    assert_true(ok);
}

#define H "Host: h\r\n"
#define CASE(name, status, text)                                                                   \
    {                                                                                              \
        name, text, sizeof text - 1, status                                                        \
    }
static const struct {
    const char *name, *head;
    size_t len;
    unsigned status;
} cases[] = {
    CASE("CL and TE", 400,
         "PUT /t/x HTTP/1.1\r\n" H
         "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    CASE("TE and CL", 400,
         "PUT /t/x HTTP/1.1\r\n" H
         "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"),
    CASE("two CL", 400,
         "PUT /t/x HTTP/1.1\r\n" H "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd"),
    CASE("two equal CL", 400,
         "PUT /t/x HTTP/1.1\r\n" H "Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd"),
    CASE("CL list", 400, "PUT /t/x HTTP/1.1\r\n" H "Content-Length: 4, 4\r\n\r\nabcd"),
    CASE("two Host", 400, "GET /t/hello HTTP/1.1\r\n" H H "\r\n"),
    CASE("no Host", 400, "GET /t/hello HTTP/1.1\r\nAccept: x\r\n\r\n"),
    CASE("no header", 400, "GET /t/hello HTTP/1.1\r\n\r\n"),
    CASE("empty Host", 400, "GET /t/hello HTTP/1.1\r\nHost:\r\n\r\n"),
    CASE("Host with path", 400, "GET /t/hello HTTP/1.1\r\nHost: h/x\r\n\r\n"),
    CASE("CL lookalike", 400, "PUT /t/x HTTP/1.1\r\n" H "Content-Length-X: 4\r\n\r\n"),
    CASE("TE lookalike", 400, "PUT /t/x HTTP/1.1\r\n" H "Transfer-Encodings: chunked\r\n\r\n"),
    CASE("space before colon", 400, "PUT /t/x HTTP/1.1\r\n" H "Content-Length : 4\r\n\r\nabcd"),
    CASE("tab before colon", 400, "PUT /t/x HTTP/1.1\r\n" H "Transfer-Encoding\t: chunked\r\n\r\n"),
    CASE("space in name", 400, "GET /t/hello HTTP/1.1\r\n" H "X Y: 4\r\n\r\n"),
    CASE("empty name", 400, "GET /t/hello HTTP/1.1\r\n" H ": 4\r\n\r\n"),
    CASE("bytes in name", 400, "GET /t/hello HTTP/1.1\r\n" H "X\xc3\xa9: 4\r\n\r\n"),
    CASE("TE gzip", 400, "PUT /t/x HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n"),
    CASE("TE gzip, chunked", 400,
         "PUT /t/x HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    CASE("TE xchunked", 400, "PUT /t/x HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n"),
    CASE("TE chunked space", 400,
         "PUT /t/x HTTP/1.1\r\n" H "Transfer-Encoding: chunked \r\n\r\n0\r\n\r\n"),
    CASE("TE chunked tab", 400,
         "PUT /t/x HTTP/1.1\r\n" H "Transfer-Encoding: \tchunked\t\r\n\r\n0\r\n\r\n"),
    CASE("TE empty", 400, "PUT /t/x HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n"),
    CASE("two TE", 400,
         "PUT /t/x HTTP/1.1\r\n" H
         "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    CASE("CL 2^63", 400, "PUT /t/x HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n"),
    CASE("CL 2^64-1", 400,
         "PUT /t/x HTTP/1.1\r\n" H "Content-Length: 18446744073709551615\r\n\r\n"),
    CASE("CL 2^64", 400, "PUT /t/x HTTP/1.1\r\n" H "Content-Length: 18446744073709551616\r\n\r\n"),
    CASE("CL sign", 400, "PUT /t/x HTTP/1.1\r\n" H "Content-Length: +4\r\n\r\nabcd"),
    CASE("CL negative", 400, "PUT /t/x HTTP/1.1\r\n" H "Content-Length: -4\r\n\r\nabcd"),
    CASE("CL hex", 400, "PUT /t/x HTTP/1.1\r\n" H "Content-Length: 0x4\r\n\r\nabcd"),
    CASE("CL text", 400, "PUT /t/x HTTP/1.1\r\n" H "Content-Length: four\r\n\r\nabcd"),
    CASE("CL empty", 400, "PUT /t/x HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"),
    CASE("CL trailing space", 400, "PUT /t/x HTTP/1.1\r\n" H "Content-Length: 4 \r\n\r\nabcd"),
    CASE("1.0 with TE", 400,
         "PUT /t/x HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    CASE("fold", 400, "GET /t/hello HTTP/1.1\r\n" H "X-A: b\r\n folded\r\n\r\n"),
    CASE("fold tab", 400, "GET /t/hello HTTP/1.1\r\n" H "X-A: b\r\n\tfolded\r\nX-B: c\r\n\r\n"),
    CASE("fold into a trusted name", 400,
         "GET /t/hello HTTP/1.1\r\n" H "X-Forw: 1.2.3.4\r\n arded-For\r\n\r\n"),
    CASE("fold of the last", 400, "GET /t/hello HTTP/1.1\r\nX-A: b\r\n" H " x\r\n\r\n"),
    CASE("empty fold", 400, "GET /t/hello HTTP/1.1\r\n" H "X-A: b\r\n \r\n\r\n"),
    CASE("folded first line", 400, "GET /t/hello HTTP/1.1\r\n X: y\r\n" H "\r\n"),
    CASE("NUL in value", 400, "GET /t/hello HTTP/1.1\r\n" H "X-A: b\0c\r\n\r\n"),
    CASE("NUL ends value", 400, "GET /t/hello HTTP/1.1\r\n" H "X-A: b\0\r\nX-B: c\r\n\r\n"),
    CASE("NUL at the last", 400, "GET /t/hello HTTP/1.1\r\n" H "X-A: b\0\r\n\r\n"),
    CASE("NUL before value", 400, "GET /t/hello HTTP/1.1\r\n" H "X-A: \0b\r\n\r\n"),
    CASE("NUL in target", 400, "GET /t/hello\0x HTTP/1.1\r\n" H "\r\n"),
    CASE("NUL in query", 400, "GET /t/hello?a\0x HTTP/1.1\r\n" H "\r\n"),
    CASE("NUL in version", 400, "GET /t/hello HTTP/1.1\0\r\n" H "\r\n"),
    CASE("bare CR in value", 400, "GET /t/hello HTTP/1.1\r\n" H "X-A: b\rX-B: c\r\n\r\n"),
    CASE("bare CR ends value", 400, "GET /t/hello HTTP/1.1\r\n" H "X-A: b\r\r\n\r\n"),
    CASE("bare CR in target", 400, "GET /t/h\rello HTTP/1.1\r\n" H "\r\n"),
    CASE("LF after request line", 400, "GET /t/hello HTTP/1.1\n" H "\r\n"),
    CASE("LF after header", 400, "GET /t/hello HTTP/1.1\r\nHost: h\nX-A: b\r\n\r\n"),
    CASE("LF after last header", 400, "GET /t/hello HTTP/1.1\r\nHost: h\n\r\n"),
    CASE("LF as empty line", 400, "GET /t/hello HTTP/1.1\r\nHost: h\r\n\n"),
    CASE("LF everywhere", 400, "GET /t/hello HTTP/1.1\nHost: h\n\n"),
    CASE("LF before NULs", 400, "PUT /t/x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\n\n\0\0ab"),
    CASE("%00", 400, "GET /t/hello%00x HTTP/1.1\r\n" H "\r\n"),
    CASE("%2f", 400, "GET /t%2fhello HTTP/1.1\r\n" H "\r\n"),
    CASE("%2F", 400, "GET /t%2Fhello HTTP/1.1\r\n" H "\r\n"),
    CASE("bad escape", 400, "GET /t/%zz HTTP/1.1\r\n" H "\r\n"),
    CASE("cut escape", 400, "GET /t/hello%4 HTTP/1.1\r\n" H "\r\n"),
    CASE("control in target", 400, "GET /t/he\001llo HTTP/1.1\r\n" H "\r\n"),
    CASE("tab in target", 400, "GET /t/he\tllo HTTP/1.1\r\n" H "\r\n"),
    CASE("space in target", 400, "GET /t/he llo HTTP/1.1\r\n" H "\r\n"),
    CASE("two spaces", 400, "GET  /t/hello HTTP/1.1\r\n" H "\r\n"),
    CASE("bytes in target", 400, "GET /t/h\xc3\xa9llo HTTP/1.1\r\n" H "\r\n"),
    CASE("DEL in target", 400, "GET /t/he\177llo HTTP/1.1\r\n" H "\r\n"),
    CASE("fragment", 400, "GET /t/hello#x HTTP/1.1\r\n" H "\r\n"),
    CASE("no slash", 400, "GET t/hello HTTP/1.1\r\n" H "\r\n"),
    CASE("absolute of another host", 400, "GET http://other/t/hello HTTP/1.1\r\n" H "\r\n"),
    CASE("absolute with user", 400, "GET http://h@h/t/hello HTTP/1.1\r\n" H "\r\n"),
    CASE("control in value", 400, "GET /t/hello HTTP/1.1\r\n" H "X-A: b\001c\r\n\r\n"),
    CASE("two Authorization", 400,
         "GET /t/hello HTTP/1.1\r\n" H "Authorization: a\r\nAuthorization: b\r\n\r\n"),
    CASE("unknown Expect", 417,
         "PUT /t/x HTTP/1.1\r\n" H "Content-Length: 4\r\nExpect: 200-ok\r\n\r\n"),
    CASE("unknown method", 501, "BREW /t/hello HTTP/1.1\r\n" H "\r\n"),
    CASE("TRACE", 501, "TRACE /t/hello HTTP/1.1\r\n" H "\r\n"),
    CASE("lower case method", 501, "get /t/hello HTTP/1.1\r\n" H "\r\n"),
    CASE("version 2.0", 505, "GET /t/hello HTTP/2.0\r\n" H "\r\n"),
    CASE("version 1.2", 505, "GET /t/hello HTTP/1.2\r\n" H "\r\n"),
    CASE("space after version", 400, "GET /t/hello HTTP/1.1 \r\n" H "\r\n"),
};

static void test_in_one_piece(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++)
        expect_refused(cases[i].name, cases[i].head, cases[i].len, cases[i].status, SIZE_MAX);
}

static void test_in_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        expect_refused(cases[i].name, cases[i].head, cases[i].len, cases[i].status, 1);
        expect_refused(cases[i].name, cases[i].head, cases[i].len, cases[i].status, 7);
    }
}

static void test_too_much(void **state)
{
    (void)state;
    struct sg_text t = {0};
    sg_text_puts(&t, "GET /t/hello HTTP/1.1\r\n" H);
    for (int i = 0; i < 64; i++)
        sg_text_printf(&t, "X-%d: y\r\n", i);
    sg_text_puts(&t, "\r\n");
    expect_refused("65 headers", t.ptr, t.len, 431, SIZE_MAX);
    sg_text_free(&t);

    sg_text_puts(&t, "GET /t/hello HTTP/1.1\r\n" H "X-A: ");
    for (int i = 0; i < 17000; i++)
        sg_text_puts(&t, "a");
    sg_text_puts(&t, "\r\n\r\n");
    expect_refused("17 KB head", t.ptr, t.len, 431, SIZE_MAX);
    sg_text_free(&t);

    sg_text_puts(&t, "GET /");
    for (int i = 0; i < 4096; i++)
        sg_text_puts(&t, "a");
    sg_text_puts(&t, " HTTP/1.1\r\n" H "\r\n");
    expect_refused("4097 byte path", t.ptr, t.len, 414, SIZE_MAX);
    sg_text_free(&t);
}

/* Well-formed requests that look a little like the above: all answered, on one connection. */
static void test_honest(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "GET /t/hello HTTP/1.1\r\n" H "\r\n",
        "GET /t/hello HTTP/1.1\r\nhost:h\r\nX-A:\r\nX-B: \t \r\nX-C:  a b  \r\n\r\n",
        "GET /t/hello?a=1&b=%2f%20&c HTTP/1.1\r\n" H "Accept: */*\r\n\r\n",
        "GET /t/h%65llo HTTP/1.1\r\n" H "\r\n",
        "GET http://h/t/hello HTTP/1.1\r\n" H "\r\n",
        "GET http://H:80/t/hello?x HTTP/1.1\r\nHost: h:80\r\n\r\n",
        "HEAD /t/hello HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
        "OPTIONS /t/hello HTTP/1.1\r\n" H "\r\n",
        "OPTIONS * HTTP/1.1\r\n" H "\r\n",
        "GET /t/hello HTTP/1.1\r\n" H "X-\x21#$%&'*+-.^_`|~9: \xc3\xa9\r\n\r\n",
        "GET /t/hello HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n",
        "POST /t/json HTTP/1.1\r\n" H
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        "POST /t/json HTTP/1.1\r\n" H "Content-Type: application/json\r\nTransfer-Encoding: "
        "chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\nX-T: t\r\n\r\n",
    };
    for (int pass = 0; pass < 2; pass++) {
        int fd = loop_connect(sg_server_port(server));
        for (size_t i = 0; i < SG_ARRAY_LEN(heads); i++) {
            size_t piece = pass == 0 ? SIZE_MAX : 3;
            size_t len = strlen(heads[i]);
            for (size_t at = 0; at < len; at += piece)
                loop_write(fd, heads[i] + at, len - at < piece ? len - at : piece);
            bool head = strncmp(heads[i], "HEAD", 4) == 0;
            char *text = NULL;
            if (head) { /* no body follows its Content-Length */
                bool closed;
                size_t got;
                text = loop_read_all(fd, 300, &closed, &got);
                assert_false(closed);
                assert_non_null(strstr(text, "Content-Length: 12\r\n"));
                assert_string_equal(text + got - 4, "\r\n\r\n");
            } else {
                text = loop_read_one(fd, 3000);
            }
            if (strncmp(text, "HTTP/1.1 20", 11) != 0 || strstr(text, "Connection: close"))
                fail_msg("request %zu, pass %d: %s", i, pass, text);
            free(text);
        }
        close(fd);
    }
}

static void test_pipelined(void **state)
{
    (void)state;
    int fd = loop_connect(sg_server_port(server));
    struct sg_text t = {0};
    for (int i = 0; i < 50; i++)
        sg_text_puts(&t, i % 2 ? "GET /t/hello HTTP/1.1\r\n" H "\r\n"
                               : "POST /t/json HTTP/1.1\r\n" H
                                 "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    loop_write(fd, t.ptr, t.len);
    for (int i = 0; i < 50; i++) {
        char *text = loop_read_one(fd, 3000);
        assert_int_equal(strncmp(text, "HTTP/1.1 200", 12), 0);
        free(text);
    }
    sg_text_free(&t);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_honest),       cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_in_one_piece), cmocka_unit_test(test_in_pieces),
        cmocka_unit_test(test_too_much),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
