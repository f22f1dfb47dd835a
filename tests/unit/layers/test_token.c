#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/fs.h"
#include "streamgate/base/str.h"
#include "streamgate/layers/identity.h"

#include "layers_support.h"
#include "token_memo.h"

#define ASSET "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define OTHER "01ARZ3NDEKTSV4RRFFQ69G5FAW"

struct fixture {
    char path[64];
    int fd;
    struct sg_token_signer *signer;
    struct sg_address here, there;
};

static int setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){.path = "/tmp/sg-token-XXXXXX"};
    assert_non_null(mkdtemp(f.path));
    f.fd = open(f.path, O_RDONLY | O_DIRECTORY);
    assert_true(f.fd >= 0);
    assert_int_equal(sg_token_signer_create(f.fd, &f.signer), SG_OK);
    assert_int_equal(sg_address_parse("192.0.2.1", 9, &f.here), SG_OK);
    assert_int_equal(sg_address_parse("192.0.2.2", 9, &f.there), SG_OK);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    sg_clock_test_advance_ms(0);
    sg_token_signer_destroy(&f->signer);
    assert_null(f->signer);
    assert_int_equal(unlinkat(f->fd, "playback.key", 0), 0);
    close(f->fd);
    assert_int_equal(rmdir(f->path), 0);
    return 0;
}

static uint64_t in_seconds(uint64_t s)
{
    return sg_clock_wall_ms() / 1000 + s;
}

static enum sg_error check(struct fixture *f, const char *token, const char *asset,
                           const struct sg_address *client)
{
    return sg_playback_token_check(f->signer, token, strlen(token), asset, client);
}

static void opens_its_own_asset_only(void **state)
{
    struct fixture *f = *state;
    char token[SG_PLAYBACK_TOKEN_SIZE];
    assert_int_equal(sg_playback_token_make(f->signer, ASSET, in_seconds(60), NULL, token), SG_OK);
    assert_int_equal(check(f, token, ASSET, &f->here), SG_OK);
    assert_int_equal(check(f, token, ASSET, NULL), SG_OK);
    assert_int_equal(check(f, token, OTHER, &f->here), SG_ERR_FORBIDDEN);
    assert_int_equal(check(f, token, "no-ulid", &f->here), SG_ERR_FORBIDDEN);
    assert_int_equal(sg_playback_token_make(f->signer, "no-ulid", 1, NULL, token), SG_ERR_INVALID);
}

static void expires(void **state)
{
    struct fixture *f = *state;
    char token[SG_PLAYBACK_TOKEN_SIZE];
    assert_int_equal(sg_playback_token_make(f->signer, ASSET, in_seconds(60), NULL, token), SG_OK);
    sg_clock_test_advance_ms(58000);
    assert_int_equal(check(f, token, ASSET, NULL), SG_OK);
    sg_clock_test_advance_ms(60000);
    assert_int_equal(check(f, token, ASSET, NULL), SG_ERR_UNAUTHENTICATED);
    assert_int_equal(check(f, token, OTHER, NULL), SG_ERR_UNAUTHENTICATED);
    assert_int_equal(sg_playback_token_make(f->signer, ASSET, UINT64_MAX, NULL, token), SG_OK);
    assert_int_equal(check(f, token, ASSET, NULL), SG_OK);
    assert_int_equal(sg_playback_token_make(f->signer, ASSET, 0, NULL, token), SG_OK);
    assert_int_equal(check(f, token, ASSET, NULL), SG_ERR_UNAUTHENTICATED);
}

struct checking {
    struct fixture *f;
    char tokens[32][SG_PLAYBACK_TOKEN_SIZE];
    unsigned wrong;
};

static void *checks_many(void *arg)
{
    struct checking c = *(struct checking *)arg;
    for (unsigned i = 0; i < 4000; i++) {
        char *token = c.tokens[i % 32];
        c.wrong += check(c.f, token, ASSET, NULL) != SG_OK;
        c.wrong += check(c.f, token, OTHER, NULL) != SG_ERR_FORBIDDEN;
        token[i % 78] ^= 1;
        c.wrong += check(c.f, token, ASSET, NULL) == SG_OK;
        token[i % 78] ^= 1;
    }
    return c.wrong == 0 ? NULL : (void *)"wrong";
}

/* What is remembered changes no answer, whoever asks meanwhile. */
static void memory_changes_no_answer(void **state)
{
    struct fixture *f = *state;
    static struct checking c;
    pthread_t threads[4];
    c = (struct checking){.f = f};
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(
            sg_playback_token_make(f->signer, ASSET, in_seconds(600 + i), NULL, c.tokens[i]),
            SG_OK);
    for (size_t i = 0; i < SG_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, checks_many, &c), 0);
    for (size_t i = 0; i < SG_ARRAY_LEN(threads); i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

/* Two genuine tokens writing and reading one slot: never one's claim for the other's text. */
static void a_shared_slot_mixes_nothing(void **state)
{
    (void)state;
    struct sg_token_memo *m = NULL;
    assert_int_equal(sg_token_memo_create(&m), SG_OK);
    char a[SG_TOKEN_TEXT_LEN];
    char b[SG_TOKEN_TEXT_LEN];
    memset(a, 'a', sizeof a);
    memcpy(b, a, sizeof b);
    b[0] = 'b'; /* the same tail: the same slot */
    struct sg_token_claim one = {.asset = ASSET, .expires_s = 1};
    struct sg_token_claim two = {.asset = OTHER, .expires_s = 2};
    struct sg_token_claim got;
    assert_false(sg_token_memo_get(m, a, &got));
    sg_token_memo_put(m, a, &one);
    assert_true(sg_token_memo_get(m, a, &got));
    assert_int_equal(got.expires_s, 1);
    assert_false(sg_token_memo_get(m, b, &got));
    sg_token_memo_put(m, b, &two);
    assert_true(sg_token_memo_get(m, b, &got));
    assert_string_equal(got.asset, OTHER);
    assert_false(sg_token_memo_get(m, a, &got));
    sg_token_memo_destroy(&m);
    assert_null(m);
}

static void binds_to_an_address(void **state)
{
    struct fixture *f = *state;
    char token[SG_PLAYBACK_TOKEN_SIZE];
    assert_int_equal(sg_playback_token_make(f->signer, ASSET, in_seconds(60), &f->here, token),
                     SG_OK);
    assert_int_equal(check(f, token, ASSET, &f->here), SG_OK);
    assert_int_equal(check(f, token, ASSET, &f->there), SG_ERR_FORBIDDEN);
    assert_int_equal(check(f, token, ASSET, NULL), SG_ERR_FORBIDDEN);
    assert_int_equal(check(f, token, OTHER, &f->here), SG_ERR_FORBIDDEN);
}

/* Every bit of the 58 bytes, in both kinds of token. The second half of a bound MAC speaks for the
 * address alone. */
static void any_flipped_bit_is_refused(void **state)
{
    struct fixture *f = *state;
    for (unsigned bound = 0; bound < 2; bound++) {
        char token[SG_PLAYBACK_TOKEN_SIZE];
        uint8_t raw[96];
        size_t len;
        assert_int_equal(sg_playback_token_make(f->signer, ASSET, in_seconds(60),
                                                bound ? &f->here : NULL, token),
                         SG_OK);
        assert_int_equal(sg_base64url_decode(token, strlen(token), raw, sizeof raw, &len), SG_OK);
        for (size_t bit = 0; bit < len * 8; bit++) {
            char forged[SG_PLAYBACK_TOKEN_SIZE];
            raw[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_true(sg_base64url_encode(raw, len, forged, sizeof forged) > 0);
            enum sg_error want = bound && bit / 8 >= 42 ? SG_ERR_FORBIDDEN : SG_ERR_UNAUTHENTICATED;
            assert_int_equal(check(f, forged, ASSET, &f->here), want);
            raw[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void any_other_text_is_refused(void **state)
{
    struct fixture *f = *state;
    char token[SG_PLAYBACK_TOKEN_SIZE];
    assert_int_equal(sg_playback_token_make(f->signer, ASSET, in_seconds(60), NULL, token), SG_OK);
    size_t len = strlen(token);
    for (size_t n = 0; n < len; n++)
        assert_int_equal(sg_playback_token_check(f->signer, token, n, ASSET, NULL),
                         SG_ERR_UNAUTHENTICATED);
    for (size_t i = 0; i < len; i++) {
        char forged[SG_PLAYBACK_TOKEN_SIZE + 1];
        memcpy(forged, token, len + 1);
        forged[i] = forged[i] == 'A' ? 'B' : 'A';
        assert_int_equal(check(f, forged, ASSET, NULL), SG_ERR_UNAUTHENTICATED);
        forged[i] = "+/=%\n"[i % 5];
        assert_int_equal(check(f, forged, ASSET, NULL), SG_ERR_UNAUTHENTICATED);
        forged[i] = '\0';
        assert_int_equal(sg_playback_token_check(f->signer, forged, len, ASSET, NULL),
                         SG_ERR_UNAUTHENTICATED);
    }
    char longer[SG_PLAYBACK_TOKEN_SIZE + 2];
    memcpy(longer, token, len);
    memcpy(longer + len, "A", 2);
    assert_int_equal(check(f, longer, ASSET, NULL), SG_ERR_UNAUTHENTICATED);
    memcpy(longer + len, "==", 3);
    assert_int_equal(check(f, longer, ASSET, NULL), SG_ERR_UNAUTHENTICATED);
}

static void another_key_signs_nothing_here(void **state)
{
    struct fixture *f = *state;
    char token[SG_PLAYBACK_TOKEN_SIZE];
    struct sg_token_signer *again = NULL;
    assert_int_equal(sg_playback_token_make(f->signer, ASSET, in_seconds(60), NULL, token), SG_OK);
    assert_int_equal(sg_token_signer_create(f->fd, &again), SG_OK);
    assert_int_equal(sg_playback_token_check(again, token, strlen(token), ASSET, NULL), SG_OK);
    sg_token_signer_destroy(&again);
    assert_int_equal(unlinkat(f->fd, "playback.key", 0), 0);
    assert_int_equal(sg_token_signer_create(f->fd, &again), SG_OK);
    assert_int_equal(sg_playback_token_check(again, token, strlen(token), ASSET, NULL),
                     SG_ERR_UNAUTHENTICATED);
    sg_token_signer_destroy(&again);
}

static void keeps_its_key_private(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    struct sg_token_signer *s = NULL;
    assert_int_equal(fstatat(f->fd, "playback.key", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, 32);
    static const size_t lengths[] = {0, 31, 33};
    const char bytes[33] = "short or long, but never right";
    for (size_t i = 0; i < SG_ARRAY_LEN(lengths); i++) {
        assert_int_equal(sg_fs_write_file(f->fd, "playback.key", bytes, lengths[i], 0600), SG_OK);
        assert_int_equal(sg_token_signer_create(f->fd, &s), SG_ERR_CONFIG);
        assert_null(s);
    }
}

static void reads_fields(void **state)
{
    struct fixture *f = *state;
    char token[SG_PLAYBACK_TOKEN_SIZE];
    uint8_t asset[16];
    struct sg_token_fields fields;
    assert_int_equal(
        sg_playback_token_make(f->signer, ASSET, UINT64_C(0x0102030405060708), &f->here, token),
        SG_OK);
    assert_int_equal(sg_playback_token_parse(token, strlen(token), &fields), SG_OK);
    assert_int_equal(fields.version, 1);
    assert_int_equal(fields.flags, 1);
    assert_int_equal(fields.expires_s, UINT64_C(0x0102030405060708));
    assert_int_equal(sg_ulid_parse(ASSET, asset), SG_OK);
    assert_memory_equal(fields.asset, asset, 16);
    assert_int_equal(sg_playback_token_parse(token, strlen(token) - 1, &fields),
                     SG_ERR_UNAUTHENTICATED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opens_its_own_asset_only, setup, teardown),
        cmocka_unit_test_setup_teardown(expires, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_changes_no_answer, setup, teardown),
        cmocka_unit_test(a_shared_slot_mixes_nothing),
        cmocka_unit_test_setup_teardown(binds_to_an_address, setup, teardown),
        cmocka_unit_test_setup_teardown(any_flipped_bit_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(any_other_text_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(another_key_signs_nothing_here, setup, teardown),
        cmocka_unit_test_setup_teardown(keeps_its_key_private, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_fields, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
