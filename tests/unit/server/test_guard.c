/* The guard's rules on parsed heads, and the memory check on buffers laid out as libmicrohttpd
 * 0.9.75 leaves them. */
#include "guard.h"
#include "support/unit.h"

static enum sg_guard_reason check(const char *method, const char *target, const char *version,
                                  const struct sg_header *headers, unsigned n)
{
    const struct sg_guard_head head = {.method = method,
                                       .target = target,
                                       .version = version,
                                       .headers = headers,
                                       .n_headers = n,
                                       .bytes = 100,
                                       .max_bytes = 1000};
    size_t offset = 0;
    return sg_guard_check(&head, &offset);
}

static void test_rules_are_whole(void **state)
{
    (void)state;
    for (unsigned i = 1; i < SG_GUARD_REASON_COUNT; i++) {
        assert_non_null(sg_guard_rules[i].slug);
        assert_non_null(sg_guard_rules[i].sentence);
        assert_int_not_equal(sg_guard_rules[i].err, SG_OK);
        assert_ptr_equal(sg_guard_find(sg_guard_rules[i].slug), &sg_guard_rules[i]);
    }
    assert_null(sg_guard_find("nonsense"));
}

static void test_length(void **state)
{
    (void)state;
    static const char *const good[] = {
        "0", "1", "4294967296", "9007199254740993", "9223372036854775807", "007"};
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "+1",
                                      "-1",
                                      "0x1",
                                      "1,1",
                                      "1.0",
                                      "9223372036854775808",
                                      "18446744073709551615",
                                      "18446744073709551616",
                                      "1e3"};
    for (size_t i = 0; i < SG_ARRAY_LEN(good); i++)
        assert_true(sg_guard_length_ok(good[i]));
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++)
        assert_false(sg_guard_length_ok(bad[i]));
}

static void test_headers(void **state)
{
    (void)state;
    static const struct {
        struct sg_header second;
        enum sg_guard_reason want;
    } cases[] = {
        {{"Accept", "*/*"}, SG_GUARD_OK},
        {{"Host", "h"}, SG_GUARD_DUPLICATE},
        {{"hOST", "h"}, SG_GUARD_DUPLICATE},
        {{"Content-Length", "4"}, SG_GUARD_OK},
        {{"Content-Length", "4x"}, SG_GUARD_LENGTH},
        {{"Content-Length2", "4"}, SG_GUARD_LOOKALIKE},
        {{"transfer-encoding-x", "4"}, SG_GUARD_LOOKALIKE},
        {{"Transfer-Encoding", "chunked"}, SG_GUARD_OK},
        {{"Transfer-Encoding", "Chunked"}, SG_GUARD_CODING},
        {{"Transfer-Encoding", "chunked, chunked"}, SG_GUARD_CODING},
        {{"Expect", "100-Continue "}, SG_GUARD_OK},
        {{"Expect", "100-continued"}, SG_GUARD_EXPECT},
        {{"A b", "c"}, SG_GUARD_HEADER_NAME},
        {{"", "c"}, SG_GUARD_HEADER_NAME},
        {{"A(", "c"}, SG_GUARD_HEADER_NAME},
        {{"A", "b\x7f"}, SG_GUARD_HEADER_VALUE},
        {{"A", "b\tc\xc3\xa9"}, SG_GUARD_OK},
        {{"A", "b\r"}, SG_GUARD_HEADER_VALUE},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        const struct sg_header headers[] = {{"Host", "h"}, cases[i].second};
        if (check("GET", "/", "HTTP/1.1", headers, 2) != cases[i].want)
            fail_msg("%s: %s", cases[i].second.name, cases[i].second.value);
    }
    const struct sg_header both[] = {
        {"Host", "h"}, {"Content-Length", "4"}, {"Transfer-Encoding", "chunked"}};
    assert_int_equal(check("PUT", "/", "HTTP/1.1", both, 3), SG_GUARD_LENGTH_AND_CODING);
    const struct sg_header coding[] = {{"Transfer-Encoding", "chunked"}};
    assert_int_equal(check("PUT", "/", "HTTP/1.0", coding, 1), SG_GUARD_CODING);
    assert_int_equal(check("GET", "/", "HTTP/1.0", NULL, 0), SG_GUARD_OK);
    assert_int_equal(check("GET", "/", "HTTP/1.1", NULL, 0), SG_GUARD_HOST);
}

static void test_targets(void **state)
{
    (void)state;
    static const struct {
        const char *method, *target;
        enum sg_guard_reason want;
    } cases[] = {
        {"GET", "/", SG_GUARD_OK},
        {"GET", "/a%20b?c=%2F&d", SG_GUARD_OK},
        {"GET", "/a%2Fb", SG_GUARD_ESCAPE},
        {"GET", "/a?%00", SG_GUARD_ESCAPE},
        {"GET", "/a%", SG_GUARD_ESCAPE},
        {"GET", "/a%f", SG_GUARD_ESCAPE},
        {"GET", "/a%g0", SG_GUARD_ESCAPE},
        {"GET", "", SG_GUARD_TARGET},
        {"GET", "*", SG_GUARD_TARGET},
        {"OPTIONS", "*", SG_GUARD_OK},
        {"GET", "a", SG_GUARD_TARGET},
        {"GET", "h:80", SG_GUARD_TARGET},
        {"GET", "ftp://h/", SG_GUARD_TARGET},
        {"GET", "http://h", SG_GUARD_OK},
        {"GET", "HTTPS://H/x?y", SG_GUARD_OK},
        {"GET", "http://h2/", SG_GUARD_AUTHORITY},
        {"GET", "http:///", SG_GUARD_AUTHORITY},
        {"GET", "http://u@h/", SG_GUARD_AUTHORITY},
        {"FETCH", "/", SG_GUARD_METHOD},
        {"G T", "/", SG_GUARD_TARGET},
    };
    const struct sg_header host = {"Host", "h"};
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++)
        if (check(cases[i].method, cases[i].target, "HTTP/1.1", &host, 1) != cases[i].want)
            fail_msg("%s %s", cases[i].method, cases[i].target);
    assert_int_equal(check("GET", "/", "HTTP/2", &host, 1), SG_GUARD_VERSION);
    assert_int_equal(check("GET", "/", "http/1.1", &host, 1), SG_GUARD_VERSION);
    char path[4099];
    memset(path, 'a', sizeof path - 1);
    path[0] = '/';
    path[4097] = '\0';
    assert_int_equal(check("GET", path, "HTTP/1.1", &host, 1), SG_GUARD_TARGET_LONG);
    path[4096] = '\0';
    assert_int_equal(check("GET", path, "HTTP/1.1", &host, 1), SG_GUARD_OK);
    path[10] = '?';
    assert_int_equal(check("GET", path, "HTTP/1.1", &host, 1), SG_GUARD_OK);
}

static void test_offset(void **state)
{
    (void)state;
    const struct sg_header host = {"Host", "h"};
    struct sg_guard_head head = {.method = "GET",
                                 .target = "http://h/x",
                                 .version = "HTTP/1.1",
                                 .headers = &host,
                                 .n_headers = 1,
                                 .max_bytes = 10};
    size_t offset = 0;
    assert_int_equal(sg_guard_check(&head, &offset), SG_GUARD_OK);
    assert_int_equal(offset, 8);
    head.bytes = 11;
    assert_int_equal(sg_guard_check(&head, &offset), SG_GUARD_HEADERS_LONG);
    head.bytes = 1;
    head.n_headers = SG_HEADERS_MAX + 1;
    assert_int_equal(sg_guard_check(&head, &offset), SG_GUARD_HEADERS_MANY);
}

static void test_memory(void **state)
{
    (void)state;
    static const char clean[] = "GET\0/a\0HTTP/1.1\0\0Host\0 h\0\0A\0\0\0\0\0tail";
    const size_t bytes = sizeof clean - 1 - 4;
    char mem[sizeof clean];
    memcpy(mem, clean, sizeof clean);
    struct sg_header headers[2] = {{mem + 17, mem + 23}, {mem + 26, mem + 28}};
    struct sg_guard_memory m = {.method = mem,
                                .target = mem + 4,
                                .version = mem + 7,
                                .target_len = 2,
                                .headers = headers,
                                .n_headers = 2,
                                .bytes = bytes};
    assert_true(sg_guard_memory_clean(&m));
    for (size_t at = 0; at < bytes; at++) {
        if (mem[at] == '\0' && at != 3 && at != 6 && at != 21 && at != 27) {
            mem[at] = 'x'; /* a line end with a byte in it */
            assert_false(sg_guard_memory_clean(&m));
            mem[at] = '\0';
        }
    }
    for (size_t wrong = bytes - 3; wrong < bytes + 3; wrong++) {
        m.bytes = wrong;
        assert_int_equal(sg_guard_memory_clean(&m), wrong == bytes);
    }
    m.bytes = bytes;
    headers[1].name = "A"; /* folded: copied elsewhere */
    assert_false(sg_guard_memory_clean(&m));
    headers[1].name = mem + 26;
    m.n_headers = 1; /* a line that is no header */
    assert_false(sg_guard_memory_clean(&m));
    m.n_headers = 2;
    m.target_len = 3;
    assert_false(sg_guard_memory_clean(&m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_are_whole), cmocka_unit_test(test_length),
        cmocka_unit_test(test_headers),         cmocka_unit_test(test_targets),
        cmocka_unit_test(test_offset),          cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
