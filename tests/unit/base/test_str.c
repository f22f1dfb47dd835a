/* Strict parsing, encodings and growing text at their edges. */

#include "streamgate/base/str.h"

#include "support/unit.h"

static void u64_table(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        uint64_t max;
        bool ok;
        uint64_t want;
    } rows[] = {
        {"0", UINT64_MAX, true, 0},
        {"00", UINT64_MAX, true, 0},
        {"1", UINT64_MAX, true, 1},
        {"2147483647", UINT64_MAX, true, UINT64_C(2147483647)},
        {"2147483648", UINT64_MAX, true, UINT64_C(2147483648)},
        {"2147483649", UINT64_MAX, true, UINT64_C(2147483649)},
        {"4294967295", UINT64_MAX, true, UINT64_C(4294967295)},
        {"4294967296", UINT64_MAX, true, UINT64_C(4294967296)},
        {"4294967297", UINT64_MAX, true, UINT64_C(4294967297)},
        {"9007199254740991", UINT64_MAX, true, UINT64_C(9007199254740991)},
        {"9007199254740992", UINT64_MAX, true, UINT64_C(9007199254740992)},
        {"9007199254740993", UINT64_MAX, true, UINT64_C(9007199254740993)},
        {"9223372036854775807", UINT64_MAX, true, UINT64_C(9223372036854775807)},
        {"9223372036854775808", UINT64_MAX, true, UINT64_C(9223372036854775808)},
        {"9223372036854775809", UINT64_MAX, true, UINT64_C(9223372036854775809)},
        {"18446744073709551614", UINT64_MAX, true, UINT64_MAX - 1},
        {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, false, 0},
        {"18446744073709551617", UINT64_MAX, false, 0},
        {"99999999999999999999999", UINT64_MAX, false, 0},
        {"10", 10, true, 10},
        {"11", 10, false, 0},
        {"0", 0, true, 0},
        {"1", 0, false, 0},
        {"", 10, false, 0},
        {"-1", 10, false, 0},
        {"+1", 10, false, 0},
        {"-0", 10, false, 0},
        {" 1", 10, false, 0},
        {"1 ", 10, false, 0},
        {"0x1", 10, false, 0},
        {"1e1", 10, false, 0},
        {"1.0", 10, false, 0},
        {"1\n", 10, false, 0},
        {"\xD9\xA1", 10, false, 0},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        uint64_t out = 12345;
        enum sg_error err = sg_str_to_u64(rows[i].s, strlen(rows[i].s), rows[i].max, &out);
        assert_int_equal(err, rows[i].ok ? SG_OK : SG_ERR_INVALID);
        assert_int_equal(out, rows[i].ok ? rows[i].want : 12345);
    }
    uint64_t out;
    assert_int_equal(sg_str_to_u64("1\0002", 3, 1000, &out), SG_ERR_INVALID);
    assert_int_equal(sg_str_to_u64("123", 2, 1000, &out), SG_OK);
    assert_int_equal(out, 12);
}

static void bytes_and_durations(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        bool ok;
        uint64_t want;
    } bytes[] = {
        {"5", true, 5},
        {"5B", true, 5},
        {"64KiB", true, 65536},
        {"10MB", true, 10000000},
        {"1GiB", true, 1 << 30},
        {"1KB", true, 1000},
        {"0TiB", true, 0},
        {"16777215TiB", true, UINT64_C(16777215) << 40},
        {"16777216TiB", false, 0},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709552KB", false, 0},
        {"", false, 0},
        {"KiB", false, 0},
        {"1 KiB", false, 0},
        {"1kib", false, 0},
        {"1.5MB", false, 0},
        {"-1", false, 0},
        {"1KiBx", false, 0},
    };
    static const struct {
        const char *s;
        bool ok;
        uint64_t want;
    } times[] = {
        {"250ms", true, 250},
        {"10s", true, 10000},
        {"10", true, 10000},
        {"5min", true, 300000},
        {"12h", true, 43200000},
        {"30d", true, UINT64_C(2592000000)},
        {"5m", false, 0},
        {"1 s", false, 0},
        {"", false, 0},
        {"-1s", false, 0},
        {"213503982335d", false, 0},
        {"18446744073709551615ms", true, UINT64_MAX},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(bytes); i++) {
        uint64_t out = 77;
        assert_int_equal(sg_str_to_bytes(bytes[i].s, &out), bytes[i].ok ? SG_OK : SG_ERR_INVALID);
        assert_int_equal(out, bytes[i].ok ? bytes[i].want : 77);
    }
    for (size_t i = 0; i < SG_ARRAY_LEN(times); i++) {
        uint64_t out = 77;
        assert_int_equal(sg_str_to_ms(times[i].s, &out), times[i].ok ? SG_OK : SG_ERR_INVALID);
        assert_int_equal(out, times[i].ok ? times[i].want : 77);
    }
}

static void decimal_seconds(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        bool ok;
        uint64_t want;
    } rows[] = {
        {"0", true, 0},
        {"12", true, 12000},
        {"0.5", true, 500},
        {"1.25", true, 1250},
        {"1.234", true, 1234},
        {"1.2349", true, 1234},
        {"100", true, 100000},
        {"100.001", false, 0},
        {"1.", false, 0},
        {".5", false, 0},
        {"1.2.3", false, 0},
        {"1e3", false, 0},
        {"-1", false, 0},
        {"", false, 0},
        {"18446744073709551616", false, 0},
        {"18446744073709551", false, 0},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        uint64_t out = 7;
        enum sg_error err = sg_str_decimal_to_ms(rows[i].s, strlen(rows[i].s), 100000, &out);
        assert_int_equal(err, rows[i].ok ? SG_OK : SG_ERR_INVALID);
        assert_int_equal(out, rows[i].ok ? rows[i].want : 7);
    }
}

static void utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "a",
                                       "\xC2\x80",
                                       "\xDF\xBF",
                                       "\xE0\xA0\x80",
                                       "\xED\x9F\xBF",
                                       "\xEE\x80\x80",
                                       "\xEF\xBF\xBF",
                                       "\xF0\x90\x80\x80",
                                       "\xF4\x8F\xBF\xBF"};
    static const char *const bad[] = {"\x80",
                                      "\xC0\xAF",
                                      "\xC1\xBF",
                                      "\xC2",
                                      "\xC2\x20",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xED\xBF\xBF",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80",
                                      "\xFF",
                                      "\xE2\x82",
                                      "a\xE2\x28\xA1"};
    for (size_t i = 0; i < SG_ARRAY_LEN(good); i++)
        assert_true(sg_str_is_utf8(good[i], strlen(good[i])));
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++)
        assert_false(sg_str_is_utf8(bad[i], strlen(bad[i])));
    assert_int_equal(sg_utf8_length("a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", 10), 4);
    assert_true(sg_str_has_control("a\x1F", 2));
    assert_true(sg_str_has_control("\x7F", 1));
    assert_true(sg_str_has_control("\0", 1));
    assert_true(sg_str_has_control("\xC2\x85", 2));
    assert_false(sg_str_has_control("\xC2\xA0", 2));
    assert_false(sg_str_has_control("a b~", 4));
}

static void comparison(void **state)
{
    (void)state;
    assert_true(sg_str_ieq("Content-Length", "content-LENGTH"));
    assert_false(sg_str_ieq("abc", "abcd"));
    assert_false(sg_str_ieq("@", "`"));
    assert_false(sg_str_ieq("\xC4", "\xE4"));
    assert_true(sg_str_starts("abc", "ab"));
    assert_true(sg_str_starts("abc", ""));
    assert_false(sg_str_starts("ab", "abc"));
    assert_false(sg_str_starts("Abc", "ab"));
    assert_true(sg_str_istarts("Bearer x", "bearer "));
    assert_false(sg_str_istarts("Bear", "bearer "));
}

static void hex(void **state)
{
    (void)state;
    const uint8_t in[] = {0x00, 0x7F, 0xFF};
    char text[7];
    sg_hex_encode(in, 3, text);
    assert_string_equal(text, "007fff");
    uint8_t out[3] = {9, 9, 9};
    assert_int_equal(sg_hex_decode("007fFF", 6, out, 3), SG_OK);
    assert_memory_equal(out, in, 3);
    assert_int_equal(sg_hex_decode("007fF", 5, out, 3), SG_ERR_INVALID);
    assert_int_equal(sg_hex_decode("007f", 4, out, 3), SG_ERR_INVALID);
    assert_int_equal(sg_hex_decode("007fgg", 6, out, 3), SG_ERR_INVALID);
    assert_memory_equal(out, in, 3);
}

static void base64(void **state)
{
    (void)state;
    static const struct {
        const char *plain, *coded, *url;
    } rows[] = {{"", "", ""},
                {"f", "Zg==", "Zg"},
                {"fo", "Zm8=", "Zm8"},
                {"foo", "Zm9v", "Zm9v"},
                {"foob", "Zm9vYg==", "Zm9vYg"},
                {"fooba", "Zm9vYmE=", "Zm9vYmE"},
                {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
                {"\xFB\xEF\xBE\xFF", "++++/w==", "----_w"}};
    static const char *const bad[] = {"Z",    "Zg", "Zg=",    "Zg===", "Zh==", "Zm9=",    "Z=g=",
                                      "====", "=",  "Zm9v\n", "Zm 9",  "Zm9_", "Zg==Zg=="};
    static const char *const bad_url[] = {"Z", "Zg==", "Zh", "Zm9", "Zm+v", "Zm9v\n", "Zm9v="};
    char text[32];
    uint8_t out[32];
    size_t len;
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        size_t n = strlen(rows[i].plain);
        const uint8_t *plain = (const uint8_t *)rows[i].plain;
        assert_int_equal(sg_base64_encode(plain, n, text, sizeof(text)), strlen(rows[i].coded));
        assert_string_equal(text, rows[i].coded);
        assert_int_equal(sg_base64_decode(text, strlen(text), out, sizeof(out), &len), SG_OK);
        assert_int_equal(len, n);
        assert_memory_equal(out, plain, n);
        assert_int_equal(sg_base64url_encode(plain, n, text, sizeof(text)), strlen(rows[i].url));
        assert_string_equal(text, rows[i].url);
        assert_int_equal(sg_base64url_decode(text, strlen(text), out, sizeof(out), &len), SG_OK);
        assert_int_equal(len, n);
        assert_memory_equal(out, plain, n);
    }
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++)
        assert_int_equal(sg_base64_decode(bad[i], strlen(bad[i]), out, sizeof(out), &len),
                         SG_ERR_INVALID);
    for (size_t i = 0; i < SG_ARRAY_LEN(bad_url); i++)
        assert_int_equal(
            sg_base64url_decode(bad_url[i], strlen(bad_url[i]), out, sizeof(out), &len),
            SG_ERR_INVALID);
    assert_int_equal(sg_base64_encode((const uint8_t *)"foo", 3, text, 4), 0);
    assert_int_equal(sg_base64_encode((const uint8_t *)"foo", 3, text, 5), 4);
    assert_int_equal(sg_base64_decode("Zm9v", 4, out, 2, &len), SG_ERR_INVALID);
}

static void percent(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        bool slash_refused;
        const char *want; /* NULL: refused */
    } rows[] = {{"abc", true, "abc"}, {"a%20b", true, "a b"},     {"%C3%a4", true, "\xC3\xA4"},
                {"%2f", true, NULL},  {"%2F", false, "/"},        {"a/b", true, "a/b"},
                {"%00", false, NULL}, {"%", false, NULL},         {"%4", false, NULL},
                {"%zz", false, NULL}, {"%%41", false, NULL},      {"%2541", false, "%41"},
                {"+", false, "+"},    {"%41%42%43", true, "ABC"}, {"x%4", false, NULL}};
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        char text[32];
        size_t n = strlen(rows[i].in), len = 99;
        memcpy(text, rows[i].in, n + 1);
        enum sg_error err = sg_percent_decode(text, n, rows[i].slash_refused, &len);
        assert_int_equal(err, rows[i].want != NULL ? SG_OK : SG_ERR_INVALID);
        assert_string_equal(text, rows[i].want != NULL ? rows[i].want : rows[i].in);
        assert_int_equal(len, rows[i].want != NULL ? strlen(rows[i].want) : 99);
    }
}

static void growing_text(void **state)
{
    (void)state;
    struct sg_text t = {0};
    sg_text_append(&t, "", 0);
    assert_string_equal(t.ptr, "");
    for (int i = 0; i < 1000; i++)
        sg_text_printf(&t, "%d,", i);
    sg_text_puts(&t, "end");
    assert_int_equal(t.len, 10 + 90 * 2 + 900 * 3 + 1000 + 3);
    assert_string_equal(t.ptr + t.len - 7, "999,end");
    size_t len = t.len;
    sg_text_append(&t, "x", SIZE_MAX / 2);
    assert_true(t.failed);
    sg_text_puts(&t, "ignored");
    assert_int_equal(t.len, len);
    sg_text_free(&t);
    assert_null(t.ptr);
    assert_false(t.failed);
    char *big = malloc(5001);
    memset(big, 'x', 5000);
    big[5000] = '\0';
    sg_text_printf(&t, "%s|%s", big, "tail");
    assert_int_equal(t.len, 5005);
    assert_string_equal(t.ptr + 5000, "|tail");
    free(big);
    sg_text_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(u64_table),       cmocka_unit_test(bytes_and_durations),
        cmocka_unit_test(decimal_seconds), cmocka_unit_test(utf8),
        cmocka_unit_test(comparison),      cmocka_unit_test(hex),
        cmocka_unit_test(base64),          cmocka_unit_test(percent),
        cmocka_unit_test(growing_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
