#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/metrics.h"
#include "streamgate/layers/identity.h"

#include "layers_support.h"

#define MINUTE_MS 60000

struct fixture {
    struct support_dir dir;
    struct sg_identity_layer *layer;
    char secret[SG_KEY_SIZE];
    struct sg_key key;
};

static int setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){0};
    support_dir_open(&f.dir);
    support_key_make(f.dir.db, "anna", 0, f.secret, &f.key);
    const struct sg_identity_params params = {.db = f.dir.db};
    assert_int_equal(sg_identity_create(&params, &f.layer), SG_OK);
    sg_identity_tick(f.layer);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    sg_clock_test_advance_ms(0);
    sg_identity_destroy(&f->layer);
    assert_null(f->layer);
    support_dir_close(&f->dir);
    sg_metrics_reset();
    return 0;
}

static enum sg_error bearer(struct fixture *f, const char *token, bool may_block,
                            struct sg_identity *out)
{
    return sg_identity_bearer(f->layer, token, strlen(token), may_block, out);
}

static void knows_a_key(void **state)
{
    struct fixture *f = *state;
    struct sg_identity who = {0};
    assert_int_equal(bearer(f, f->secret, false, &who), SG_ERR_WOULD_BLOCK);
    assert_int_equal(who.role, SG_ROLE_NONE);
    assert_int_equal(bearer(f, f->secret, true, &who), SG_OK);
    memset(&who, 0, sizeof who);
    assert_int_equal(bearer(f, f->secret, false, &who), SG_OK);
    assert_int_equal(who.role, SG_ROLE_CREATOR);
    assert_string_equal(who.user_name, "anna");
    assert_string_equal(who.user_id, f->key.user_id);
    assert_string_equal(who.key_id, f->key.id);
}

static void refuses_every_change_of_a_key(void **state)
{
    struct fixture *f = *state;
    struct sg_identity who;
    assert_int_equal(bearer(f, f->secret, true, &who), SG_OK);
    for (size_t i = 0; i < SG_KEY_SIZE - 1; i++) {
        char wrong[SG_KEY_SIZE];
        memcpy(wrong, f->secret, sizeof wrong);
        wrong[i] = wrong[i] == 'A' ? 'B' : 'A';
        assert_int_equal(bearer(f, wrong, true, &who), SG_ERR_UNAUTHENTICATED);
        wrong[i] = '!';
        assert_int_equal(bearer(f, wrong, false, &who), SG_ERR_UNAUTHENTICATED);
    }
    assert_int_equal(sg_identity_bearer(f->layer, f->secret, SG_KEY_SIZE - 2, true, &who),
                     SG_ERR_UNAUTHENTICATED);
    assert_int_equal(sg_identity_bearer(f->layer, f->secret, 0, true, &who),
                     SG_ERR_UNAUTHENTICATED);
    assert_int_equal(bearer(f, f->secret, false, &who), SG_OK);
}

static void remembers_unknown_keys_for_a_while(void **state)
{
    struct fixture *f = *state;
    struct sg_identity who;
    const char *unknown = "sgk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert_int_equal(bearer(f, unknown, false, &who), SG_ERR_WOULD_BLOCK);
    assert_int_equal(bearer(f, unknown, true, &who), SG_ERR_UNAUTHENTICATED);
    assert_int_equal(bearer(f, unknown, false, &who), SG_ERR_UNAUTHENTICATED);
    sg_clock_test_advance_ms(5001);
    assert_int_equal(bearer(f, unknown, false, &who), SG_ERR_WOULD_BLOCK);
}

static void looks_at_expiry_on_every_call(void **state)
{
    struct fixture *f = *state;
    struct sg_identity who;
    char secret[SG_KEY_SIZE];
    struct sg_key key;
    support_key_make(f->dir.db, "brief", sg_clock_wall_ms() + 10000, secret, &key);
    assert_int_equal(bearer(f, secret, true, &who), SG_OK);
    assert_int_equal(bearer(f, secret, false, &who), SG_OK);
    sg_clock_test_advance_ms(10001);
    assert_int_equal(bearer(f, secret, false, &who), SG_ERR_UNAUTHENTICATED);
    sg_identity_forget(f->layer);
    assert_int_equal(bearer(f, secret, true, &who), SG_ERR_UNAUTHENTICATED);
}

static void notices_revocation_elsewhere(void **state)
{
    struct fixture *f = *state;
    struct sg_identity who;
    assert_int_equal(bearer(f, f->secret, true, &who), SG_OK);
    support_key_revoke(f->dir.db, f->key.id);
    assert_int_equal(bearer(f, f->secret, false, &who), SG_OK); /* not known here yet */
    sg_identity_tick(f->layer);
    assert_int_equal(bearer(f, f->secret, false, &who), SG_ERR_WOULD_BLOCK);
    assert_int_equal(bearer(f, f->secret, true, &who), SG_ERR_UNAUTHENTICATED);
}

static void notices_a_new_key_before_its_refusal_ages(void **state)
{
    struct fixture *f = *state;
    struct sg_identity who;
    char secret[SG_KEY_SIZE];
    struct sg_key key;
    support_key_make(f->dir.db, "carl", 0, secret, &key);
    sg_identity_tick(f->layer);
    assert_int_equal(bearer(f, secret, true, &who), SG_OK);
    sg_identity_forget(f->layer);
    assert_int_equal(bearer(f, secret, false, &who), SG_ERR_WOULD_BLOCK);
}

static void keeps_its_memory_over_quiet_ticks(void **state)
{
    struct fixture *f = *state;
    struct sg_identity who;
    assert_int_equal(bearer(f, f->secret, true, &who), SG_OK);
    for (unsigned i = 0; i < 5; i++)
        sg_identity_tick(f->layer); /* writes the last use, which is no change of identity */
    assert_int_equal(bearer(f, f->secret, false, &who), SG_OK);
}

static enum sg_error read_key(struct sg_db_conn *c, void *arg)
{
    struct fixture *f = arg;
    return sg_key_get(c, f->key.id, &f->key);
}

static uint64_t last_used(struct fixture *f)
{
    assert_int_equal(sg_db_read(f->dir.db, read_key, f), SG_OK);
    return f->key.last_used_ms;
}

static void writes_last_use_once_a_minute(void **state)
{
    struct fixture *f = *state;
    struct sg_identity who;
    assert_int_equal(last_used(f), 0);
    assert_int_equal(bearer(f, f->secret, true, &who), SG_OK);
    sg_identity_tick(f->layer);
    uint64_t first = last_used(f);
    assert_true(first > 0);
    sg_clock_test_advance_ms(MINUTE_MS / 2);
    assert_int_equal(bearer(f, f->secret, true, &who), SG_OK);
    sg_identity_tick(f->layer);
    assert_int_equal(last_used(f), first);
    sg_identity_forget(f->layer); /* reading the row again does not write it again */
    assert_int_equal(bearer(f, f->secret, true, &who), SG_OK);
    sg_identity_tick(f->layer);
    assert_int_equal(last_used(f), first);
    sg_clock_test_advance_ms(MINUTE_MS + 1000);
    sg_identity_tick(f->layer); /* a new minute begins */
    assert_int_equal(bearer(f, f->secret, true, &who), SG_OK);
    sg_identity_tick(f->layer);
    assert_true(last_used(f) >= first + MINUTE_MS);
}

static void *asks_often(void *arg)
{
    struct fixture *f = arg;
    for (unsigned i = 0; i < 2000; i++) {
        struct sg_identity who;
        enum sg_error err = bearer(f, f->secret, true, &who);
        if (err != SG_OK || strcmp(who.user_name, "anna") != 0)
            return (void *)"wrong";
    }
    return NULL;
}

static void threads_share_it(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[4];
    for (size_t i = 0; i < SG_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, asks_often, f), 0);
    for (unsigned i = 0; i < 20; i++) {
        sg_identity_forget(f->layer);
        sg_identity_tick(f->layer);
    }
    for (size_t i = 0; i < SG_ARRAY_LEN(threads); i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(knows_a_key, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_every_change_of_a_key, setup, teardown),
        cmocka_unit_test_setup_teardown(remembers_unknown_keys_for_a_while, setup, teardown),
        cmocka_unit_test_setup_teardown(looks_at_expiry_on_every_call, setup, teardown),
        cmocka_unit_test_setup_teardown(notices_revocation_elsewhere, setup, teardown),
        cmocka_unit_test_setup_teardown(notices_a_new_key_before_its_refusal_ages, setup, teardown),
        cmocka_unit_test_setup_teardown(keeps_its_memory_over_quiet_ticks, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_last_use_once_a_minute, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_share_it, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
