/* The header fields of tus: the protocol's own examples, and what must be refused. */
#include <stdio.h>
#include <string.h>

#include "streamgate/http/tus_fields.h"

#include "http_support.h"

#define BASE "/api/v1/tus/"
#define ID_A "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define ID_B "01BX5ZZKBKACTAV9WEVGEMMVRZ"

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        uint64_t value;
    } cases[] = {
        {"0", true, 0},
        {"100", true, 100},
        {"007", true, 7},
        {"2147483648", true, UINT64_C(1) << 31},
        {"4294967296", true, UINT64_C(1) << 32},
        {"9007199254740993", true, (UINT64_C(1) << 53) + 1},
        {"9223372036854775807", true, INT64_MAX},
        {"9223372036854775808", false, 0},
        {"18446744073709551615", false, 0},
        {"18446744073709551616", false, 0},
        {"18446744073709551716", false, 0},
        {"", false, 0},
        {"-1", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"0x10", false, 0},
        {"1e3", false, 0},
        {"1.0", false, 0},
        {"1,2", false, 0},
        {"one", false, 0},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        uint64_t value = 99;
        assert_int_equal(sg_tus_number_parse(cases[i].text, &value),
                         cases[i].ok ? SG_OK : SG_ERR_INVALID);
        assert_int_equal(value, cases[i].ok ? cases[i].value : 99);
    }
}

static const struct {
    const char *value;
    enum sg_error err;
    const char *pairs; /* key=decoded; ... */
} metadata[] = {
    {"filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential", SG_OK,
     "filename=world_domination_plan.pdf;is_confidential=;"}, /* the protocol's example */
    {"", SG_OK, ""},
    {"  ", SG_OK, ""},
    {"a", SG_OK, "a=;"},
    {"a ", SG_OK, "a=;"},
    {"a ,b", SG_OK, "a=;b=;"},
    {"a YQ==, b Yg== ,\tc YwA=", SG_OK, "a=a;b=b;c=c;"},
    {"a YQ==", SG_OK, "a=a;"},
    {"a=b YQ==", SG_OK, "a=b=a;"},
    {"A YQ==,a Yg==", SG_OK, "A=a;a=b;"},
    {",", SG_ERR_INVALID, NULL},
    {"a YQ==,", SG_ERR_INVALID, NULL},
    {"a YQ==,,b YQ==", SG_ERR_INVALID, NULL},
    {",a YQ==", SG_ERR_INVALID, NULL},
    {"a YQ==,a Yg==", SG_ERR_INVALID, NULL},
    {"a YQ== Yg==", SG_ERR_INVALID, NULL},
    {"a YQ", SG_ERR_INVALID, NULL},
    {"a YQ=", SG_ERR_INVALID, NULL},
    {"a Y===", SG_ERR_INVALID, NULL},
    {"a ====", SG_ERR_INVALID, NULL},
    {"a Y-_=", SG_ERR_INVALID, NULL},
    {"a YQ=a", SG_ERR_INVALID, NULL},
    {"\xc3\xa4 YQ==", SG_ERR_INVALID, NULL},
    {"a\x01 YQ==", SG_ERR_INVALID, NULL},
};

static void test_metadata(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(metadata); i++) {
        struct sg_tus_pair pairs[SG_TUS_PAIRS_MAX];
        char seen[256] = "";
        unsigned n = 77;
        const enum sg_error err = sg_tus_metadata_parse(metadata[i].value, pairs, &n);
        if (err != metadata[i].err)
            print_error("%s\n", metadata[i].value);
        assert_int_equal(err, metadata[i].err);
        if (err != SG_OK) {
            assert_int_equal(n, 77);
            continue;
        }
        for (unsigned k = 0; k < n; k++) {
            uint8_t decoded[64] = {0};
            size_t len = 0, at = strlen(seen);
            assert_int_equal(sg_tus_pair_decode(&pairs[k], decoded, sizeof(decoded) - 1, &len),
                             SG_OK);
            snprintf(seen + at, sizeof(seen) - at, "%.*s=%s;", (int)pairs[k].key_len, pairs[k].key,
                     (const char *)decoded);
        }
        assert_string_equal(seen, metadata[i].pairs);
    }
}

static void test_metadata_bounds(void **state)
{
    (void)state;
    struct sg_tus_pair pairs[SG_TUS_PAIRS_MAX];
    unsigned n = 0;
    struct sg_text text = {0};
    for (unsigned i = 0; i < SG_TUS_PAIRS_MAX; i++)
        sg_text_printf(&text, "%sk%u", i > 0 ? "," : "", i);
    assert_int_equal(sg_tus_metadata_parse(text.ptr, pairs, &n), SG_OK);
    assert_int_equal(n, SG_TUS_PAIRS_MAX);
    sg_text_puts(&text, ",more");
    assert_int_equal(sg_tus_metadata_parse(text.ptr, pairs, &n), SG_ERR_TOO_LARGE);
    sg_text_free(&text);
    for (int i = 0; i < 255; i++)
        sg_text_puts(&text, "k");
    assert_int_equal(sg_tus_metadata_parse(text.ptr, pairs, &n), SG_OK);
    sg_text_puts(&text, "k");
    assert_int_equal(sg_tus_metadata_parse(text.ptr, pairs, &n), SG_ERR_INVALID);
    sg_text_free(&text);
    /* The unused bits of the last character are not zero. */
    uint8_t out[4];
    size_t len;
    assert_int_equal(sg_tus_metadata_parse("a YR==", pairs, &n), SG_OK);
    assert_int_equal(sg_tus_pair_decode(&pairs[0], out, sizeof(out), &len), SG_ERR_INVALID);
}

static const struct {
    const char *value;
    enum sg_error err;
    enum sg_digest_algorithm algorithm;
    unsigned char first;
} checksums[] = {
    {"sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", SG_OK, SG_DIGEST_SHA1, 0x2a}, /* the protocol's */
    {"sha256 ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=", SG_OK, SG_DIGEST_SHA256, 0xba},
    {"md5 kAFQmDzST7DWlj99KOF/cg==", SG_OK, SG_DIGEST_MD5, 0x90},
    {"crc32 AAAAAA==", SG_ERR_UNAVAILABLE, 0, 0},
    {"SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", SG_ERR_UNAVAILABLE, 0, 0},
    {"sha1 kAFQmDzST7DWlj99KOF/cg==", SG_ERR_INVALID, 0, 0},
    {"md5 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", SG_ERR_INVALID, 0, 0},
    {"sha1  Kq5sNclPz7QV2+lfQIuc6R7oRu0=", SG_ERR_INVALID, 0, 0},
    {"sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0", SG_ERR_INVALID, 0, 0},
    {"sha1 2aae6c35c94fcfb415dbe95f408b9ce91ee846ed", SG_ERR_INVALID, 0, 0},
    {"sha1 ", SG_ERR_INVALID, 0, 0},
    {"sha1", SG_ERR_INVALID, 0, 0},
    {" ", SG_ERR_INVALID, 0, 0},
    {"", SG_ERR_INVALID, 0, 0},
    {"nonsense", SG_ERR_INVALID, 0, 0},
    {"sha1 !", SG_ERR_INVALID, 0, 0},
};

static void test_checksums(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(checksums); i++) {
        struct sg_tus_checksum c = {0};
        const enum sg_error err = sg_tus_checksum_parse(checksums[i].value, &c);
        if (err != checksums[i].err)
            print_error("%s\n", checksums[i].value);
        assert_int_equal(err, checksums[i].err);
        assert_int_equal(c.algorithm, checksums[i].algorithm);
        assert_int_equal(c.digest[0], checksums[i].first);
    }
    /* What is announced is what is understood. */
    assert_string_equal(SG_TUS_ALGORITHMS, "sha1,sha256,md5");
}

static const struct {
    const char *value;
    enum sg_error err; /* of the parse, else of the first URL that is not good */
    const char *ids;
} concats[] = {
    {"final;" BASE ID_A " " BASE ID_B, SG_OK, ID_A ID_B},
    {"final;http://h:8080" BASE ID_A "  https://x" BASE ID_B " ", SG_OK, ID_A ID_B},
    {"final;HTTP://h/video" BASE ID_A, SG_OK, ID_A},
    {"final; " BASE ID_A, SG_OK, ID_A},
    {"final;" BASE ID_A " " BASE ID_A, SG_OK, ID_A ID_A},
    {"final;", SG_ERR_INVALID, ""},
    {"final; ", SG_ERR_INVALID, ""},
    {"final", SG_ERR_INVALID, ""},
    {"Final;" BASE ID_A, SG_ERR_INVALID, ""},
    {"partial;" BASE ID_A, SG_ERR_INVALID, ""},
    {" partial", SG_ERR_INVALID, ""},
    {"", SG_ERR_INVALID, ""},
    {"final;" BASE, SG_ERR_INVALID, ""},
    {"final;" BASE "01ARZ3NDEKTSV4RRFFQ69G5FA", SG_ERR_INVALID, ""},
    {"final;" BASE ID_A "/", SG_ERR_INVALID, ""},
    {"final;" BASE ID_A "?x", SG_ERR_INVALID, ""},
    {"final;" BASE "01arz3ndektsv4rrffq69g5fav", SG_ERR_INVALID, ""},
    {"final;/api/v1/assets/" ID_A, SG_ERR_INVALID, ""},
    {"final;api/v1/tus/" ID_A, SG_ERR_INVALID, ""},
    {"final;ftp://h" BASE ID_A, SG_ERR_INVALID, ""},
    {"final;http://" BASE ID_A, SG_ERR_INVALID, ""},
    {"final;http://h", SG_ERR_INVALID, ""},
    {"final;" BASE ID_A "," BASE ID_B, SG_ERR_INVALID, ""},
    {"final;" BASE ID_A " x", SG_ERR_INVALID, ID_A},
};

static void test_concat(void **state)
{
    (void)state;
    enum sg_tus_concat kind = SG_TUS_FINAL;
    const char *urls = NULL;
    assert_int_equal(sg_tus_concat_parse("partial", &kind, &urls), SG_OK);
    assert_int_equal(kind, SG_TUS_PARTIAL);
    for (size_t i = 0; i < SG_ARRAY_LEN(concats); i++) {
        char id[SG_ULID_SIZE], ids[128] = "";
        kind = SG_TUS_PARTIAL;
        enum sg_error err = sg_tus_concat_parse(concats[i].value, &kind, &urls);
        while (err == SG_OK) {
            assert_int_equal(kind, SG_TUS_FINAL);
            err = sg_tus_concat_next(&urls, BASE, id);
            if (err == SG_OK)
                snprintf(ids + strlen(ids), sizeof(ids) - strlen(ids), "%s", id);
        }
        if (err == SG_ERR_NOT_FOUND)
            err = SG_OK;
        if (err != concats[i].err)
            print_error("%s\n", concats[i].value);
        assert_int_equal(err, concats[i].err);
        assert_string_equal(ids, concats[i].ids);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),         cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_metadata_bounds), cmocka_unit_test(test_checksums),
        cmocka_unit_test(test_concat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
