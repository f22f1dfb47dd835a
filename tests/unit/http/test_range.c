/* Range: the syntax of RFC 9110 14.1.1 at every width of number, and what a 200 turns into. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http_support.h"

struct range_case {
    const char *value;
    uint64_t size;
    enum sg_range_verdict verdict;
    unsigned n;
    struct sg_range ranges[3];
};

static const struct range_case cases[] = {
    {"bytes=0-0", 10, SG_RANGE_OK, 1, {{0, 1}}},
    {"bytes=0-9", 10, SG_RANGE_OK, 1, {{0, 10}}},
    {"bytes=0-10", 10, SG_RANGE_OK, 1, {{0, 10}}},
    {"bytes=9-", 10, SG_RANGE_OK, 1, {{9, 10}}},
    {"bytes=10-", 10, SG_RANGE_UNSATISFIABLE, 0, {{0, 0}}},
    {"bytes=-1", 10, SG_RANGE_OK, 1, {{9, 10}}},
    {"bytes=-10", 10, SG_RANGE_OK, 1, {{0, 10}}},
    {"bytes=-11", 10, SG_RANGE_OK, 1, {{0, 10}}},
    {"bytes=-0", 10, SG_RANGE_UNSATISFIABLE, 0, {{0, 0}}},
    {"BYTES=1-2", 10, SG_RANGE_OK, 1, {{1, 3}}},
    {"bytes=0-0,2-2", 10, SG_RANGE_OK, 2, {{0, 1}, {2, 3}}},
    {"bytes=0-0 ,\t2-2", 10, SG_RANGE_OK, 2, {{0, 1}, {2, 3}}},
    {"bytes= 0-0", 10, SG_RANGE_OK, 1, {{0, 1}}},
    {"bytes=,0-0,,2-2,", 10, SG_RANGE_OK, 2, {{0, 1}, {2, 3}}},
    {"bytes=4-5,0-1", 10, SG_RANGE_OK, 2, {{4, 6}, {0, 2}}},
    {"bytes=0-4,5-9", 10, SG_RANGE_OK, 2, {{0, 5}, {5, 10}}},
    {"bytes=0-0,-1,4-4", 10, SG_RANGE_OK, 3, {{0, 1}, {9, 10}, {4, 5}}},
    {"bytes=0-0,20-30", 10, SG_RANGE_OK, 1, {{0, 1}}},
    {"bytes=20-30,40-", 10, SG_RANGE_UNSATISFIABLE, 0, {{0, 0}}},
    {"bytes=0-4,4-9", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=0-,-1", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,10-10,11-11,12-12,13-13,14-14,15-15,16-16",
     99,
     SG_RANGE_IGNORE,
     0,
     {{0, 0}}},
    {"bytes=", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=,", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=-", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=5-4", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=50-40", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=+1-2", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=1 -2", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=1- 2", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=0x1-2", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=1-2;3-4", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=--1", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=1-2-3", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes 1-2", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes =1-2", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"items=1-2", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"", 10, SG_RANGE_IGNORE, 0, {{0, 0}}},
    {"bytes=0-", 0, SG_RANGE_UNSATISFIABLE, 0, {{0, 0}}},
    {"bytes=-1", 0, SG_RANGE_IGNORE, 0, {{0, 0}}},
    /* numbers beyond 64 bits lie beyond every content, and still compare */
    {"bytes=0-99999999999999999999999999", 10, SG_RANGE_OK, 1, {{0, 10}}},
    {"bytes=99999999999999999999999999-", 10, SG_RANGE_UNSATISFIABLE, 0, {{0, 0}}},
    {"bytes=-99999999999999999999999999", 10, SG_RANGE_OK, 1, {{0, 10}}},
    {"bytes=99999999999999999999999998-99999999999999999999999999",
     10,
     SG_RANGE_UNSATISFIABLE,
     0,
     {{0, 0}}},
    {"bytes=99999999999999999999999999-99999999999999999999999998",
     10,
     SG_RANGE_IGNORE,
     0,
     {{0, 0}}},
    {"bytes=0000000000000000000000000000001-000002", 10, SG_RANGE_OK, 1, {{1, 3}}},
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        const struct range_case *c = &cases[i];
        struct sg_range out[SG_RANGES_MAX];
        unsigned n = 77;
        assert_int_equal(sg_range_parse(c->value, c->size, out, &n), c->verdict);
        assert_int_equal(n, c->verdict == SG_RANGE_OK ? c->n : 77);
        for (unsigned k = 0; k < c->n; k++) {
            assert_true(out[k].start == c->ranges[k].start);
            assert_true(out[k].end == c->ranges[k].end);
        }
    }
}

/* The widths at which programs break; +-1 around each is the test's. 2^64 is written as text. */
static const uint64_t edges[] = {
    0, UINT64_C(1) << 31, UINT64_C(1) << 32, UINT64_C(1) << 53, UINT64_C(1) << 63, UINT64_MAX};

/* RFC 9110 said in arithmetic: the expectation for "bytes=a-b". */
static void expect_pair(uint64_t a, uint64_t b, uint64_t size)
{
    char value[64];
    snprintf(value, sizeof(value), "bytes=%" PRIu64 "-%" PRIu64, a, b);
    struct sg_range out[SG_RANGES_MAX];
    unsigned n = 0;
    const enum sg_range_verdict verdict = sg_range_parse(value, size, out, &n);
    if (b < a) {
        assert_int_equal(verdict, SG_RANGE_IGNORE);
    } else if (a >= size) {
        assert_int_equal(verdict, SG_RANGE_UNSATISFIABLE);
    } else {
        assert_int_equal(verdict, SG_RANGE_OK);
        assert_int_equal(n, 1);
        assert_true(out[0].start == a);
        assert_true(out[0].end == (b < size ? b + 1 : size));
    }
}

static void expect_suffix(uint64_t k, uint64_t size)
{
    char value[64];
    snprintf(value, sizeof(value), "bytes=-%" PRIu64, k);
    struct sg_range out[SG_RANGES_MAX];
    unsigned n = 0;
    const enum sg_range_verdict verdict = sg_range_parse(value, size, out, &n);
    if (k == 0) {
        assert_int_equal(verdict, SG_RANGE_UNSATISFIABLE);
    } else if (size == 0) {
        assert_int_equal(verdict, SG_RANGE_IGNORE);
    } else {
        assert_int_equal(verdict, SG_RANGE_OK);
        assert_true(out[0].start == (k >= size ? 0 : size - k));
        assert_true(out[0].end == size);
    }
}

static void test_edges(void **state)
{
    (void)state;
    uint64_t values[3 * SG_ARRAY_LEN(edges)];
    size_t n = 0;
    for (size_t i = 0; i < SG_ARRAY_LEN(edges); i++) {
        values[n++] = edges[i] == 0 ? 0 : edges[i] - 1;
        values[n++] = edges[i];
        values[n++] = edges[i] == UINT64_MAX ? UINT64_MAX : edges[i] + 1;
    }
    for (size_t s = 0; s < n; s++) {
        for (size_t i = 0; i < n; i++) {
            expect_suffix(values[i], values[s]);
            for (size_t j = 0; j < n; j++)
                expect_pair(values[i], values[j], values[s]);
        }
    }
    struct sg_range out[SG_RANGES_MAX];
    unsigned k;
    assert_int_equal(sg_range_parse("bytes=18446744073709551616-", UINT64_MAX, out, &k),
                     SG_RANGE_UNSATISFIABLE);
    assert_int_equal(
        sg_range_parse("bytes=18446744073709551614-18446744073709551617", UINT64_MAX, out, &k),
        SG_RANGE_OK);
    assert_true(out[0].start == UINT64_MAX - 1 && out[0].end == UINT64_MAX);
}

static void serve(struct http_fixture *f, const char *range)
{
    struct sg_buf *buf;
    fixture_reset(f);
    assert_int_equal(sg_buf_create_copy("0123456789", 10, &buf), SG_OK);
    sg_response_buf(&f->res, 200, "video/mp4", buf);
    f->res.ranges = true;
    f->res.etag = "\"v1\"";
    f->res.last_modified_ms = 784111777000;
    if (range)
        fixture_header(f, "Range", range);
}

static void test_apply_single(void **state)
{
    struct http_fixture *f = *state;
    serve(f, "bytes=2-4");
    f->res.offset = 0;
    sg_range_apply(&f->req, &f->res);
    assert_int_equal(f->res.status, 206);
    assert_int_equal(f->res.offset, 2);
    assert_int_equal(f->res.len, 3);
    assert_string_equal(fixture_answer(f, "Content-Range"), "bytes 2-4/10");
    assert_string_equal(fixture_answer(f, "Accept-Ranges"), "bytes");
    assert_string_equal(f->res.content_type, "video/mp4");
    assert_string_equal(f->res.etag, "\"v1\"");
}

static void test_apply_whole(void **state)
{
    struct http_fixture *f = *state;
    serve(f, NULL);
    sg_range_apply(&f->req, &f->res);
    assert_int_equal(f->res.status, 200);
    assert_string_equal(fixture_answer(f, "Accept-Ranges"), "bytes");

    serve(f, "bytes=2-4");
    f->req.method = SG_HEAD;
    sg_range_apply(&f->req, &f->res);
    assert_int_equal(f->res.status, 200);
    assert_int_equal(f->res.len, 10);

    serve(f, "bytes=2-4");
    f->res.ranges = false;
    sg_range_apply(&f->req, &f->res);
    assert_int_equal(f->res.status, 200);
    assert_null(fixture_answer(f, "Accept-Ranges"));

    serve(f, "bytes=2-4");
    f->res.status = 201;
    sg_range_apply(&f->req, &f->res);
    assert_int_equal(f->res.status, 201);
}

static void test_apply_unsatisfiable(void **state)
{
    struct http_fixture *f = *state;
    serve(f, "bytes=10-");
    sg_range_apply(&f->req, &f->res);
    assert_int_equal(f->res.status, 416);
    assert_string_equal(fixture_answer(f, "Content-Range"), "bytes */10");
    assert_string_equal(f->res.content_type, "application/problem+json");
}

static void test_if_range(void **state)
{
    static const struct {
        const char *value;
        unsigned status;
    } table[] = {
        {"\"v1\"", 206},
        {"\"v2\"", 200},
        {"W/\"v1\"", 200},
        {"Sun, 06 Nov 1994 08:49:37 GMT", 206},
        {"Sun, 06 Nov 1994 08:49:38 GMT", 200},
        {"Sun, 06 Nov 1994 08:49:36 GMT", 200},
        {"yesterday", 200},
        {"", 200},
    };
    struct http_fixture *f = *state;
    for (size_t i = 0; i < SG_ARRAY_LEN(table); i++) {
        serve(f, "bytes=0-0");
        fixture_header(f, "if-range", table[i].value);
        sg_range_apply(&f->req, &f->res);
        assert_int_equal(f->res.status, table[i].status);
    }
}

/* Puts a PARTS response together as the server does. */
static char *assemble(const struct sg_response *res)
{
    char *text = malloc((size_t)res->len + 1);
    size_t at = 0;
    assert_non_null(text);
    for (unsigned i = 0; i < res->n_parts; i++) {
        const struct sg_body_part *p = &res->parts[i];
        assert_true(at + p->prefix_len + p->len <= res->len);
        memcpy(text + at, p->prefix, p->prefix_len);
        at += p->prefix_len;
        memcpy(text + at, res->buf->data + p->offset, (size_t)p->len);
        at += (size_t)p->len;
    }
    assert_int_equal(at, res->len);
    text[at] = '\0';
    return text;
}

static void test_apply_parts(void **state)
{
    struct http_fixture *f = *state;
    serve(f, "bytes=0-1, 5-5, -2");
    sg_range_apply(&f->req, &f->res);
    assert_int_equal(f->res.status, 206);
    assert_int_equal(f->res.source, SG_SOURCE_PARTS);
    assert_int_equal(f->res.n_parts, 4);
    assert_null(fixture_answer(f, "Content-Range"));
    const char *prefix = "multipart/byteranges; boundary=";
    assert_memory_equal(f->res.content_type, prefix, strlen(prefix));
    const char *b = f->res.content_type + strlen(prefix);
    char expected[1024];
    snprintf(expected, sizeof(expected),
             "--%s\r\nContent-Type: video/mp4\r\nContent-Range: bytes 0-1/10\r\n\r\n01"
             "\r\n--%s\r\nContent-Type: video/mp4\r\nContent-Range: bytes 5-5/10\r\n\r\n5"
             "\r\n--%s\r\nContent-Type: video/mp4\r\nContent-Range: bytes 8-9/10\r\n\r\n89"
             "\r\n--%s--\r\n",
             b, b, b, b);
    char *text = assemble(&f->res);
    assert_string_equal(text, expected);
    free(text);
}

static void test_apply_parts_of_file(void **state)
{
    struct http_fixture *f = *state;
    fixture_reset(f);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    close(ends[1]);
    sg_response_file(&f->res, 200, "video/mp4", ends[0], UINT64_MAX);
    f->res.ranges = true;
    fixture_header(f, "Range", "bytes=0-18446744073709551612,18446744073709551614-");
    sg_range_apply(&f->req, &f->res);
    /* Parts and their headers exceed 64 bits together: refused, not wrapped. */
    assert_int_equal(f->res.status, 416);
    assert_int_equal(f->res.fd, -1);
}

static int setup(void **state)
{
    static struct http_fixture f;
    fixture_open(&f, NULL);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_apply_single),
        cmocka_unit_test(test_apply_whole),
        cmocka_unit_test(test_apply_unsatisfiable),
        cmocka_unit_test(test_if_range),
        cmocka_unit_test(test_apply_parts),
        cmocka_unit_test(test_apply_parts_of_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
