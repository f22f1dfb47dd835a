/* Content-Digest: RFC 9530's own example, RFC 8941's dictionary grammar, and what must be refused.
 */
#include <stdio.h>
#include <string.h>

#include "streamgate/http/digest_field.h"

#include "http_support.h"

/* SHA-256 of {"hello": "world"} with a line end, RFC 9530 appendix B.1 */
#define B64 "RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg="
#define OURS "sha-256=:" B64 ":"

static const struct {
    const char *value;
    enum sg_error err;
    bool present;
} cases[] = {
    {NULL, SG_OK, false},
    {"", SG_OK, false},
    {"   ", SG_OK, false},
    {OURS, SG_OK, true},
    {"  " OURS "\t", SG_OK, true},
    {"sha-512=:AAAA:", SG_OK, false},
    {"sha-512=:AAAA:, " OURS, SG_OK, true},
    {OURS ",\tunixsum=30637", SG_OK, true},
    {"a=\"x, sha-256=:!:\", " OURS, SG_OK, true},
    {"a=\"q\\\"\", b, c;d=1;e, f=?1, g=tok/en, " OURS, SG_OK, true},
    {OURS ";p=1; q", SG_OK, true},
    {"sha-256=:AAAA:", SG_ERR_INVALID, false},
    {"sha-256=:" B64 "=:", SG_ERR_INVALID, false},
    {"sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg:", SG_ERR_INVALID, false},
    {"sha-256=:RK_0qy18MlBSVnWgjwz6lZEWjP_lF5HF9bvEF8FabDg=:", SG_ERR_INVALID, false},
    {"sha-256=::", SG_ERR_INVALID, false},
    {"sha-256=:", SG_ERR_INVALID, false},
    {"sha-256=", SG_ERR_INVALID, false},
    {"sha-256", SG_ERR_INVALID, false},
    {"sha-256=" B64, SG_ERR_INVALID, false},
    {"sha-256=\"" B64 "\"", SG_ERR_INVALID, false},
    {"SHA-256=:" B64 ":", SG_ERR_INVALID, false},
    {"sha-256=:" B64, SG_ERR_INVALID, false},
    {OURS ",", SG_ERR_INVALID, false},
    {"," OURS, SG_ERR_INVALID, false},
    {OURS " " OURS, SG_ERR_INVALID, false},
    {OURS " x", SG_ERR_INVALID, false},
    {"a=\"unterminated, " OURS, SG_ERR_INVALID, false},
    {"a=\"\\", SG_ERR_INVALID, false},
    {"=1", SG_ERR_INVALID, false},
    {OURS ";", SG_ERR_INVALID, false},
};

static void test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        uint8_t digest[SG_SHA256_LEN];
        memset(digest, 0xaa, sizeof(digest));
        bool present = !cases[i].present;
        const enum sg_error err = sg_content_digest_parse(cases[i].value, &present, digest);
        if (err != cases[i].err)
            print_error("case %zu: %s\n", i, cases[i].value);
        assert_int_equal(err, cases[i].err);
        if (err != SG_OK) {
            assert_int_equal(present, !cases[i].present); /* untouched */
            continue;
        }
        assert_int_equal(present, cases[i].present);
        assert_int_equal(digest[0], present ? 0x44 : 0xaa);
        assert_int_equal(digest[SG_SHA256_LEN - 1], present ? 0x38 : 0xaa);
    }
}

static void test_last_member_wins(void **state)
{
    (void)state;
    uint8_t digest[SG_SHA256_LEN];
    bool present;
    char value[256];
    snprintf(value, sizeof(value), "sha-256=:%.42s0=:, %s",
             "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", OURS);
    assert_int_equal(sg_content_digest_parse(value, &present, digest), SG_OK);
    assert_int_equal(digest[0], 0x44);
}

static void test_format(void **state)
{
    (void)state;
    uint8_t digest[SG_SHA256_LEN], again[SG_SHA256_LEN];
    bool present = false;
    char text[SG_CONTENT_DIGEST_SIZE];
    static const char body[] = "{\"hello\": \"world\"}\n";
    assert_int_equal(sg_sha256_once(body, sizeof(body) - 1, digest), SG_OK);
    sg_content_digest_format(digest, text);
    assert_string_equal(text, OURS);
    assert_int_equal(sg_content_digest_parse(text, &present, again), SG_OK);
    assert_true(present);
    assert_memory_equal(digest, again, sizeof(digest));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_last_member_wins),
        cmocka_unit_test(test_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
