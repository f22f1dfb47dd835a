/* The hasher gives what SHA-256 of the whole gives, however the pieces come and wherever they are
 * hashed. */
#include "streamgate/base/hasher.h"

#include "support/unit.h"

#define BYTES ((size_t)1 << 20)

static uint8_t content[BYTES];

static void fill(void)
{
    uint32_t x = 12345;
    for (size_t i = 0; i < BYTES; i++) {
        x = x * 1664525u + 1013904223u;
        content[i] = (uint8_t)(x >> 24);
    }
}

static void check(struct sg_hasher *h, size_t len)
{
    uint8_t want[SG_SHA256_LEN], got[SG_SHA256_LEN];
    assert_int_equal(sg_sha256_once(content, len, want), SG_OK);
    struct sg_sha256 *sha = sg_hasher_take(h);
    assert_non_null(sha);
    sg_sha256_final(sha, got);
    sg_sha256_destroy(&sha);
    assert_memory_equal(got, want, sizeof(want));
}

/* Pieces of changing length; every third without a buffer, every fifth with one that does not hold
 * the data. */
static void feed(struct sg_hasher *h, size_t len)
{
    size_t piece = 1, n = 0;
    for (size_t at = 0; at < len; at += piece, n++) {
        piece = (n * 7919) % 60000 + 1;
        if (piece > len - at)
            piece = len - at;
        struct sg_buf *buf = NULL;
        assert_int_equal(sg_buf_create_copy(content + at, piece, &buf), SG_OK);
        if (n % 3 == 0)
            sg_hasher_update(h, NULL, content + at, piece);
        else if (n % 5 == 0)
            sg_hasher_update(h, buf, content + at, piece);
        else
            sg_hasher_update(h, buf, buf->data, piece);
        sg_buf_unref(buf);
    }
}

static void run(unsigned threads)
{
    struct sg_pool *pool = NULL;
    if (threads > 0)
        assert_int_equal(
            sg_pool_create(&(struct sg_pool_params){.name = "hash", .threads = threads}, &pool),
            SG_OK);
    for (size_t len = 0; len <= BYTES; len += BYTES / 4) {
        struct sg_hasher *h = NULL;
        struct sg_sha256 *sha = NULL;
        assert_int_equal(sg_hasher_create(pool, &sha, &h), SG_OK);
        assert_null(sha);
        feed(h, len);
        check(h, len);
        assert_null(sg_hasher_take(h));
        sg_hasher_destroy(&h);
        assert_null(h);
    }
    sg_pool_destroy(&pool);
}

static void test_in_the_caller(void **state)
{
    (void)state;
    run(0);
}

static void test_on_a_pool(void **state)
{
    (void)state;
    run(1);
    run(3);
}

static void test_goes_on_from_a_hash(void **state)
{
    (void)state;
    struct sg_sha256 *sha = NULL;
    struct sg_hasher *h = NULL;
    assert_int_equal(sg_sha256_create(&sha), SG_OK);
    sg_sha256_update(sha, content, 1000);
    assert_int_equal(sg_hasher_create(NULL, &sha, &h), SG_OK);
    sg_hasher_update(h, NULL, content + 1000, 500);
    check(h, 1500);
    sg_hasher_destroy(&h);
}

/* Destroyed with work queued: nothing leaks, nothing is used afterwards. */
static void test_destroy_waits(void **state)
{
    (void)state;
    struct sg_pool *pool = NULL;
    struct sg_sha256 *sha = NULL;
    struct sg_hasher *h = NULL;
    assert_int_equal(sg_pool_create(&(struct sg_pool_params){.name = "hash", .threads = 1}, &pool),
                     SG_OK);
    assert_int_equal(sg_hasher_create(pool, &sha, &h), SG_OK);
    feed(h, BYTES);
    sg_hasher_destroy(&h);
    sg_hasher_destroy(&h);
    sg_pool_destroy(&pool);
}

int main(void)
{
    fill();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_the_caller),
        cmocka_unit_test(test_on_a_pool),
        cmocka_unit_test(test_goes_on_from_a_hash),
        cmocka_unit_test(test_destroy_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
