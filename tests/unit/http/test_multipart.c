/* Multipart: every body is fed whole, byte by byte, and in every split in two; all must tell the
 * same story. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/http/multipart.h"

#include "http_support.h"

#define TYPE "multipart/form-data; boundary=XX"

struct story {
    struct sg_text text;
    enum sg_error refuse_begin, refuse_data, refuse_end;
};

static enum sg_error on_begin(void *arg, const struct sg_multipart_part *part)
{
    struct story *s = arg;
    sg_text_printf(&s->text, "<%s|%s|%s>", part->name, part->filename ? part->filename : "-",
                   part->content_type ? part->content_type : "-");
    return s->refuse_begin;
}

static enum sg_error on_data(void *arg, const uint8_t *data, size_t len)
{
    struct story *s = arg;
    assert_true(len > 0);
    sg_text_append(&s->text, (const char *)data, len);
    return s->refuse_data;
}

static enum sg_error on_end(void *arg)
{
    struct story *s = arg;
    sg_text_puts(&s->text, "</>");
    return s->refuse_end;
}

static struct sg_multipart *open_parser(struct story *s, const char *type)
{
    const struct sg_multipart_events events = {on_begin, on_data, on_end, s};
    struct sg_multipart *m = NULL;
    assert_int_equal(sg_multipart_create(type, &events, &m), SG_OK);
    return m;
}

/* Feeds `first` bytes, then chunks of `step`. */
static enum sg_error run(struct story *s, const char *body, size_t len, size_t first, size_t step)
{
    struct sg_multipart *m = open_parser(s, TYPE);
    enum sg_error err = SG_OK;
    for (size_t at = 0, n = first; err == SG_OK && at < len; at += n, n = step) {
        if (n > len - at)
            n = len - at;
        /* A copy of its own, so that a read past the chunk is seen by ASan. */
        uint8_t *chunk = malloc(n ? n : 1);
        assert_non_null(chunk);
        memcpy(chunk, body + at, n);
        err = sg_multipart_feed(m, chunk, n);
        free(chunk);
    }
    if (err == SG_OK)
        err = sg_multipart_finish(m);
    else
        assert_int_equal(sg_multipart_finish(m), err); /* it sticks */
    if (err == SG_ERR_MALFORMED)
        assert_true(strlen(sg_multipart_why(m)) > 0);
    sg_multipart_destroy(&m);
    assert_null(m);
    return err;
}

static const struct body_case {
    const char *body;
    size_t len;
    enum sg_error err;
    const char *story; /* NULL: not looked at */
} cases[] = {
#define BODY(text, err, story)                                                                     \
    {                                                                                              \
        text, sizeof(text) - 1, err, story                                                         \
    }
#define CD(rest) "Content-Disposition: form-data; " rest "\r\n"
    BODY("--XX\r\n" CD("name=\"a\"") "\r\nhello\r\n--XX--\r\n", SG_OK, "<a|-|->hello</>"),
    BODY("--XX\r\n" CD("name=a") "\r\n\r\n--XX--", SG_OK, "<a|-|-></>"),
    BODY("--XX\r\n" CD("name=a") "\r\n--XX--", SG_OK, "<a|-|-></>"),
    BODY("--XX\r\n" CD("name=a") "\r\n--X", SG_ERR_MALFORMED, NULL),
    BODY("--XX\r\n" CD("name=a") "\r\n--XY\r\n--XX--", SG_OK, "<a|-|->--XY</>"),
    BODY("--XX\r\n" CD("name=\"a\"; filename=\"f.mp4\"") "Content-Type: "
                                                         "video/mp4\r\n\r\nx\r\n--XX\r\n" CD(
                                                             "name=\"b\"") "\r\ny\r\n--XX--\r\n",
         SG_OK, "<a|f.mp4|video/mp4>x</><b|-|->y</>"),
    /* look-alikes of the delimiter in the data */
    BODY("--XX\r\n" CD("name=a") "\r\n\r\n\r\n--X\r\n-\r\r\n--X\r--XX\n--XX\r\n--XX--\r\n", SG_OK,
         "<a|-|->\r\n\r\n--X\r\n-\r\r\n--X\r--XX\n--XX</>"),
    BODY("--XX\r\n" CD("name=a") "\r\n\r\r\r\r\n--XX--", SG_OK, "<a|-|->\r\r\r</>"),
    /* preamble, padding, epilogue */
    BODY("pre\r\n--X\r\nmore--XX\r\n--XX \t\r\n" CD("name=a") "\r\n1\r\n--XX-- \r\nepi\r\n--XX\r\n",
         SG_OK, "<a|-|->1</>"),
    BODY("--XX--", SG_OK, ""),
    /* names as clients write them */
    BODY("--XX\r\n" CD("name=\"a\"; filename=\"q\\\"r%22s\"") "\r\n\r\n--XX--", SG_OK,
         "<a|q\"r\"s|-></>"),
    BODY("--XX\r\n" CD("name=\"a\"; filename=\"C:\\dir\\f.mp4\"") "\r\n\r\n--XX--", SG_OK,
         "<a|C:\\dir\\f.mp4|-></>"),
    BODY("--XX\r\n" CD("name=\"a\"; filename=\"100%25 %0d%0A;\"") "\r\n\r\n--XX--", SG_OK,
         "<a|100%25 \r\n;|-></>"),
    BODY("--XX\r\n" CD("name=\"a\"; filename=\"f\"; filename*=UTF-8''..%2Fevil") "\r\n\r\n--XX--",
         SG_OK, "<a|f|-></>"),
    BODY("--XX\r\n" CD("name=\"\"; filename=\"\"") "\r\n\r\n--XX--", SG_OK, "<||-></>"),
    BODY("--XX\r\ncontent-disposition:form-data;NAME=a\r\nX-Other: 1\r\n"
         "Content-Transfer-Encoding: binary\r\ncontent-type:\ttext/plain; charset=utf-8 "
         "\r\n\r\n1\r\n--XX--",
         SG_OK, "<a|-|text/plain; charset=utf-8>1</>"),
    BODY("--XX\r\n" CD("name=\"\xc3\xa4\"") "\r\n\r\n--XX--", SG_OK, "<\xc3\xa4|-|-></>"),
    /* refused */
    BODY("", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=a") "\r\nhello", SG_ERR_MALFORMED, NULL),
    BODY("--XX\r\n" CD("name=a") "\r\nhello\r\n--XX", SG_ERR_MALFORMED, "<a|-|->hello</>"),
    BODY("--XX\r\n" CD("name=a") "\r\nhello\r\n--XX-", SG_ERR_MALFORMED, "<a|-|->hello</>"),
    BODY("--XX\r\n" CD("name=a") "\r\nhello\r\n--XX-x", SG_ERR_MALFORMED, NULL),
    BODY("--XX\r\n" CD("name=a") "\r\nhello\r\n--XXY\r\n", SG_ERR_MALFORMED, NULL),
    BODY("--XX\n" CD("name=a") "\r\n\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\rname", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\nContent-Disposition: form-data; name=a\n\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\nContent-Disposition: form-data; name=a\r\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\nX: 1\r\n\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("filename=a") "\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--XX--", SG_ERR_MALFORMED,
         ""),
    BODY("--XX\r\n" CD("name=a") CD("name=b") "\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=a") "Content-Type: a\r\nContent-Type: b\r\n\r\nx\r\n--XX--",
         SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=a; name=b") "\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=a; filename=b; filename=c") "\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=\"a") "\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=") "\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name =a") "\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=a b") "\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=\"\xff\"") "\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=a") " folded\r\n\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=a") "No colon\r\n\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=a") "Sp : x\r\n\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=a\0b") "\r\nx\r\n--XX--", SG_ERR_MALFORMED, ""),
    BODY("--XX\r\n" CD("name=a") "Content-Transfer-Encoding: base64\r\n\r\nx\r\n--XX--",
         SG_ERR_MALFORMED, ""),
};

static void check(const struct body_case *c, size_t index, size_t first, size_t step)
{
    struct story s = {0};
    const enum sg_error err = run(&s, c->body, c->len, first, step);
    const char *told = s.text.ptr ? s.text.ptr : "";
    if (err != c->err || (c->story && strcmp(told, c->story) != 0))
        print_error("case %zu, split %zu/%zu: told %s\n", index, first, step, told);
    assert_int_equal(err, c->err);
    if (c->story)
        assert_string_equal(told, c->story);
    sg_text_free(&s.text);
}

static void test_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        check(&cases[i], i, cases[i].len + 1, 1);
        check(&cases[i], i, 1, 1);
        for (size_t cut = 1; cut < cases[i].len; cut++)
            check(&cases[i], i, cut, cases[i].len);
    }
}

static void test_content_types(void **state)
{
    static const struct {
        const char *type;
        bool good;
    } table[] = {
        {"multipart/form-data; boundary=abc", true},
        {"Multipart/Form-Data;BOUNDARY=\"a b\"", true},
        {"multipart/form-data; charset=utf-8; boundary=a", true},
        {"multipart/form-data; "
         "boundary=1234567890123456789012345678901234567890123456789012345678901234567890",
         true},
        {"multipart/form-data; "
         "boundary=12345678901234567890123456789012345678901234567890123456789012345678901",
         false},
        {"multipart/form-data", false},
        {"multipart/form-data; boundary=", false},
        {"multipart/form-data; boundary=\"\"", false},
        {"multipart/form-data; boundary=\"a \"", false},
        {"multipart/form-data; boundary=\"a\rb\"", false},
        {"multipart/form-data; boundary=\"a\\\"b\"", false},
        {"multipart/form-data; boundary=a; boundary=b", false},
        {"multipart/form-data boundary=a", false},
        {"multipart/mixed; boundary=a", false},
        {"application/json", false},
        {"", false},
        {NULL, false},
    };
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(table); i++) {
        struct story s = {0};
        const struct sg_multipart_events events = {on_begin, on_data, on_end, &s};
        struct sg_multipart *m = NULL;
        const enum sg_error err = sg_multipart_create(table[i].type, &events, &m);
        if ((err == SG_OK) != table[i].good)
            print_error("%s\n", table[i].type);
        assert_int_equal(err, table[i].good ? SG_OK : SG_ERR_INVALID);
        assert_int_equal(m != NULL, table[i].good);
        sg_multipart_destroy(&m);
    }
}

static void test_bounds(void **state)
{
    (void)state;
    struct story s = {0};
    struct sg_multipart *m = open_parser(&s, TYPE);
    for (int i = 0; i < 64; i++) {
        static const char part[] = "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n";
        assert_int_equal(sg_multipart_feed(m, (const uint8_t *)part, sizeof(part) - 1), SG_OK);
    }
    assert_int_equal(sg_multipart_feed(m, (const uint8_t *)"--XX\r\n", 6), SG_ERR_MALFORMED);
    sg_multipart_destroy(&m);
    sg_text_free(&s.text);

    m = open_parser(&s, TYPE);
    assert_int_equal(sg_multipart_feed(m, (const uint8_t *)"--XX\r\nX: ", 9), SG_OK);
    enum sg_error err = SG_OK;
    size_t fed = 3;
    for (; err == SG_OK && fed < 10000; fed++)
        err = sg_multipart_feed(m, (const uint8_t *)"y", 1);
    assert_int_equal(err, SG_ERR_MALFORMED);
    assert_int_equal(fed, 4097);
    sg_multipart_destroy(&m);
}

/* What a callback answers comes back, and nothing is told after it. */
static void test_refusals(void **state)
{
    (void)state;
    static const char body[] = "--XX\r\n" CD("name=a") "\r\nhello\r\n--XX--\r\n";
    struct story begin = {.refuse_begin = SG_ERR_TOO_LARGE};
    assert_int_equal(run(&begin, body, sizeof(body) - 1, 1, 1), SG_ERR_TOO_LARGE);
    assert_string_equal(begin.text.ptr, "<a|-|->");
    struct story data = {.refuse_data = SG_ERR_NO_SPACE};
    assert_int_equal(run(&data, body, sizeof(body) - 1, 999, 1), SG_ERR_NO_SPACE);
    assert_string_equal(data.text.ptr, "<a|-|->hello");
    struct story end = {.refuse_end = SG_ERR_IO};
    assert_int_equal(run(&end, body, sizeof(body) - 1, 1, 1), SG_ERR_IO);
    assert_string_equal(end.text.ptr, "<a|-|->hello</>");
    sg_text_free(&begin.text);
    sg_text_free(&data.text);
    sg_text_free(&end.text);
}

struct counter {
    uint64_t bytes, calls;
};

static enum sg_error count_begin(void *arg, const struct sg_multipart_part *part)
{
    (void)arg;
    (void)part;
    return SG_OK;
}

static enum sg_error count_data(void *arg, const uint8_t *data, size_t len)
{
    struct counter *c = arg;
    (void)data;
    c->bytes += len;
    c->calls++;
    return SG_OK;
}

static enum sg_error count_end(void *arg)
{
    (void)arg;
    return SG_OK;
}

/* A chunk without a delimiter goes out in one piece, whatever carriage returns it holds. */
static void test_runs_are_long(void **state)
{
    (void)state;
    static uint8_t chunk[65536];
    struct counter c = {0, 0};
    const struct sg_multipart_events events = {count_begin, count_data, count_end, &c};
    struct sg_multipart *m = NULL;
    for (size_t i = 0; i < sizeof(chunk); i++)
        chunk[i] = (uint8_t)(i * 31);
    static const char head[] = "--XX\r\n" CD("name=a") "\r\n";
    assert_int_equal(sg_multipart_create(TYPE, &events, &m), SG_OK);
    assert_int_equal(sg_multipart_feed(m, (const uint8_t *)head, sizeof(head) - 1), SG_OK);
    for (int i = 0; i < 16; i++)
        assert_int_equal(sg_multipart_feed(m, chunk, sizeof(chunk)), SG_OK);
    assert_int_equal(c.calls, 16);
    assert_int_equal(c.bytes, 16 * sizeof(chunk));
    sg_multipart_destroy(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split),   cmocka_unit_test(test_content_types),
        cmocka_unit_test(test_bounds),        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_runs_are_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
