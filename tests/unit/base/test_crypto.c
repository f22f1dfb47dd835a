/* Hashes against their published vectors; clocks, dates and ULIDs. */
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/crypto.h"
#include "streamgate/base/str.h"

#include "siphash.h"
#include "support/unit.h"

static void check_hex(const uint8_t digest[SG_SHA256_LEN], const char *want)
{
    char text[2 * SG_SHA256_LEN + 1];
    sg_hex_encode(digest, SG_SHA256_LEN, text);
    assert_string_equal(text, want);
}

static void sha256_vectors(void **state)
{
    (void)state;
    uint8_t out[SG_SHA256_LEN];
    assert_int_equal(sg_sha256_once("", 0, out), SG_OK);
    check_hex(out, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(sg_sha256_once("abc", 3, out), SG_OK);
    check_hex(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    struct sg_sha256 *h;
    assert_int_equal(sg_sha256_create(&h), SG_OK);
    char block[1000];
    memset(block, 'a', sizeof(block));
    for (int i = 0; i < 1000; i++)
        sg_sha256_update(h, block, sizeof(block));
    sg_sha256_final(h, out);
    check_hex(out, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    sg_sha256_destroy(&h);
    assert_null(h);
    sg_sha256_destroy(&h);
}

static void rfc4231_vectors(void **state)
{
    (void)state;
    static const struct {
        uint8_t key_byte;
        size_t key_len;
        const char *key, *data, *want;
    } rows[] = {
        {0x0b, 20, NULL, "Hi There",
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {0, 4, "Jefe", "what do ya want for nothing?",
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {0xaa, 20, NULL, NULL, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
        {0xaa, 131, NULL, "Test Using Larger Than Block-Size Key - Hash Key First",
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
        {0xaa, 131, NULL,
         "This is a test using a larger than block-size key and a larger than block-size data. The "
         "key needs to be hashed before being used by the HMAC algorithm.",
         "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        uint8_t key[131], data[200], out[SG_SHA256_LEN];
        size_t len = 50;
        memset(key, rows[i].key_byte, sizeof(key));
        if (rows[i].key != NULL)
            memcpy(key, rows[i].key, rows[i].key_len);
        memset(data, 0xdd, sizeof(data));
        if (rows[i].data != NULL) {
            len = strlen(rows[i].data);
            memcpy(data, rows[i].data, len);
        }
        struct sg_hmac_key *k;
        assert_int_equal(sg_hmac_key_create(key, rows[i].key_len, &k), SG_OK);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(sg_hmac(k, data, len, out), SG_OK);
            check_hex(out, rows[i].want);
        }
        sg_hmac_key_destroy(&k);
        assert_null(k);
    }
}

static void siphash_vectors(void **state)
{
    (void)state;
    static const uint64_t first[] = {UINT64_C(0x726fdb47dd0e0e31), UINT64_C(0x74f839c593dc67fd)};
    uint8_t key[16], data[64];
    for (uint8_t i = 0; i < 64; i++)
        data[i] = i;
    memcpy(key, data, 16);
    const uint64_t k0 = UINT64_C(0x0706050403020100), k1 = UINT64_C(0x0f0e0d0c0b0a0908);
    for (size_t i = 0; i < 2; i++)
        assert_true(sg_siphash_keyed(k0, k1, data, i) == first[i]);
    assert_true(sg_siphash_keyed(k0, k1, data, 15) == UINT64_C(0xa129ca6149be45e5));

    /* Every length up to eight words against OpenSSL's. */
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
    assert_non_null(mac);
    size_t size = 8;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
                           OSSL_PARAM_construct_end()};
    for (size_t n = 0; n < sizeof(data); n++) {
        EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
        uint8_t out[8];
        uint64_t want = 0;
        assert_int_equal(EVP_MAC_init(ctx, key, 16, params), 1);
        assert_int_equal(EVP_MAC_update(ctx, data, n), 1);
        assert_int_equal(EVP_MAC_final(ctx, out, &size, sizeof(out)), 1);
        EVP_MAC_CTX_free(ctx);
        for (int i = 7; i >= 0; i--)
            want = want << 8 | out[i];
        assert_true(sg_siphash_keyed(k0, k1, data, n) == want);
    }
    EVP_MAC_free(mac);
    assert_true(sg_siphash("a", 1) == sg_siphash("a", 1));
    assert_true(sg_siphash("a", 1) != sg_siphash("b", 1));
}

static void randomness_and_comparison(void **state)
{
    (void)state;
    uint8_t a[32], b[32], big[5000] = {0};
    sg_random(a, sizeof(a));
    for (int i = 0; i < 100; i++) {
        sg_random(b, sizeof(b));
        assert_memory_not_equal(a, b, sizeof(a));
        assert_false(sg_equal_const_time(a, b, sizeof(a)));
        memcpy(a, b, sizeof(a));
    }
    assert_true(sg_equal_const_time(a, b, sizeof(a)));
    sg_random(big, sizeof(big));
    size_t zeros = 0;
    for (size_t i = 0; i < sizeof(big); i++)
        zeros += big[i] == 0;
    assert_in_range(zeros, 0, 100); /* expected 20; 100 is 18 standard deviations away */
    sg_wipe(a, sizeof(a));
    for (size_t i = 0; i < sizeof(a); i++)
        assert_int_equal(a[i], 0);
}

static void times(void **state)
{
    (void)state;
    char text[SG_TIME_SIZE];
    sg_time_rfc3339(UINT64_C(1795288320123), text);
    assert_string_equal(text, "2026-11-21T19:12:00.123Z");
    sg_time_rfc3339(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    sg_time_rfc3339(UINT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
    char date[SG_HTTP_DATE_SIZE];
    sg_time_http_date(UINT64_C(784111777000), date);
    assert_string_equal(date, "Sun, 06 Nov 1994 08:49:37 GMT");
    uint64_t ms = 5;
    assert_int_equal(sg_time_parse_http_date(date, &ms), SG_OK);
    assert_int_equal(ms, UINT64_C(784111777000));
    static const char *const bad[] = {
        "",
        "Mon, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:60 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Thu, 30 Feb 2023 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, -6 Nov 1994 08:49:37 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        ms = 5;
        assert_int_equal(sg_time_parse_http_date(bad[i], &ms), SG_ERR_INVALID);
        assert_int_equal(ms, 5);
    }
}

static void moving_clock(void **state)
{
    (void)state;
    uint64_t mono = sg_clock_mono_ms(), wall = sg_clock_wall_ms();
    sg_clock_test_advance_ms(3600000);
    assert_in_range(sg_clock_mono_ms() - mono, 3600000, 3700000);
    assert_in_range(sg_clock_wall_ms() - wall, 3600000, 3700000);
    sg_clock_test_advance_ms(-1800000);
    assert_in_range(sg_clock_mono_ms() - mono, 1800000, 1900000);
    sg_clock_test_advance_ms(0);
    assert_in_range(sg_clock_mono_ms() - mono, 0, 100000);
}

static void ulids(void **state)
{
    (void)state;
    char last[SG_ULID_SIZE] = "", id[SG_ULID_SIZE];
    for (int i = 0; i < 20000; i++) {
        if (i == 10000)
            sg_clock_test_advance_ms(-5000); /* order holds although the clock goes back */
        sg_ulid_make(id);
        assert_int_equal(strlen(id), 26);
        assert_true(strcmp(last, id) < 0);
        memcpy(last, id, sizeof(id));
    }
    sg_clock_test_advance_ms(0);
    uint8_t bytes[16];
    assert_int_equal(sg_ulid_parse(id, bytes), SG_OK);
    sg_ulid_format(bytes, last);
    assert_string_equal(last, id);
    uint64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | bytes[i];
    uint64_t now = sg_clock_wall_ms();
    assert_in_range(ms, now - 60000, now + 60000);

    assert_int_equal(sg_ulid_parse("01ARZ3NDEKTSV4RRFFQ69G5FAV", bytes), SG_OK);
    assert_int_equal(sg_ulid_parse("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", bytes), SG_OK);
    for (int i = 0; i < 16; i++)
        assert_int_equal(bytes[i], 0xFF);
    static const char *const bad[] = {"8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
                                      "01arz3ndektsv4rrffq69g5fav",
                                      "01ARZ3NDEKTSV4RRFFQ69G5FA",
                                      "01ARZ3NDEKTSV4RRFFQ69G5FAVX",
                                      "01ARZ3NDEKTSV4RRFFQ69G5FAU",
                                      "O1ARZ3NDEKTSV4RRFFQ69G5FAV",
                                      ""};
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++)
        assert_int_equal(sg_ulid_parse(bad[i], bytes), SG_ERR_INVALID);
}

/* RFC 1321 A.5, FIPS 180-4 examples. */
static void digest_vectors(void **state)
{
    (void)state;
    static const char *const abc[SG_DIGEST_ALGORITHMS] = {
        [SG_DIGEST_MD5] = "900150983cd24fb0d6963f7d28e17f72",
        [SG_DIGEST_SHA1] = "a9993e364706816aba3e25717850c26c9cd0d89d",
        [SG_DIGEST_SHA256] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };
    for (int a = 0; a < SG_DIGEST_ALGORITHMS; a++) {
        struct sg_digest *d = NULL;
        uint8_t out[SG_DIGEST_MAX];
        char text[2 * SG_DIGEST_MAX + 1];
        assert_int_equal(sg_digest_create((enum sg_digest_algorithm)a, &d), SG_OK);
        sg_digest_update(d, "a", 1);
        sg_digest_update(d, "", 0);
        sg_digest_update(d, "bc", 2);
        sg_digest_final(d, out);
        sg_hex_encode(out, sg_digest_len((enum sg_digest_algorithm)a), text);
        assert_string_equal(text, abc[a]);
        sg_digest_destroy(&d);
        assert_null(d);
        sg_digest_destroy(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_vectors),  cmocka_unit_test(rfc4231_vectors),
        cmocka_unit_test(siphash_vectors), cmocka_unit_test(randomness_and_comparison),
        cmocka_unit_test(times),           cmocka_unit_test(moving_clock),
        cmocka_unit_test(ulids),           cmocka_unit_test(digest_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
