/* Claims: a newer one takes over, never in the middle of a write, and only what it overlaps. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "support/unit.h"
#include "upload_claims.h"

static const char one[] = "01HZX3K5M7N9P1Q3R5S7T9V1W3", two[] = "01HZX3K5M7N9P1Q3R5S7T9V1W4";

static struct upload_claims *make(void)
{
    struct upload_claims *t = NULL;
    assert_int_equal(upload_claims_create(&t), SG_OK);
    return t;
}

static struct upload_claim *take(struct upload_claims *t, const char *id, uint64_t slot)
{
    struct upload_claim *c = NULL;
    assert_int_equal(upload_claim_take(t, id, slot, &c), SG_OK);
    return c;
}

static void assert_live(struct upload_claim *c, bool live)
{
    assert_int_equal(upload_claim_enter(c), live ? SG_OK : SG_ERR_SUPERSEDED);
    if (live)
        upload_claim_leave(c);
}

static void test_newer_supersedes_what_it_overlaps(void **state)
{
    (void)state;
    struct upload_claims *t = make();
    struct upload_claim *a = take(t, one, 0), *b = take(t, one, 1), *other = take(t, two, 0);
    assert_live(a, true);
    assert_live(b, true);
    struct upload_claim *newer = take(t, one, 0);
    assert_live(a, false);
    assert_live(b, true);
    assert_live(other, true);
    struct upload_claim *all = take(t, one, UPLOAD_SLOT_ALL);
    assert_live(newer, false);
    assert_live(b, false);
    assert_live(other, true);
    struct upload_claim *chunk = take(t, one, 7);
    assert_live(all, false);
    assert_live(chunk, true);
    struct upload_claim *made[] = {a, b, other, newer, all, chunk};
    for (size_t i = 0; i < SG_ARRAY_LEN(made); i++) {
        upload_claim_release(&made[i]);
        assert_null(made[i]);
    }
    upload_claim_release(&made[0]);
    upload_claims_destroy(&t);
    assert_null(t);
}

static void test_try_leaves_others_alone(void **state)
{
    (void)state;
    struct upload_claims *t = make();
    struct upload_claim *a = take(t, one, 3), *b = NULL;
    assert_int_equal(upload_claim_try(t, one, UPLOAD_SLOT_ALL, &b), SG_ERR_CONFLICT);
    assert_null(b);
    assert_live(a, true);
    assert_int_equal(upload_claim_try(t, one, 4, &b), SG_OK);
    upload_claim_release(&a);
    upload_claim_release(&b);
    assert_int_equal(upload_claim_try(t, one, UPLOAD_SLOT_ALL, &b), SG_OK);
    upload_claim_release(&b);
    upload_claims_destroy(&t);
}

struct taking {
    struct upload_claims *t;
    _Atomic bool taken;
    enum sg_error err;
};

static void *take_one(void *arg)
{
    struct taking *k = arg;
    struct upload_claim *c = NULL;
    k->err = upload_claim_take(k->t, one, 0, &c);
    atomic_store(&k->taken, true);
    upload_claim_release(&c);
    return NULL;
}

/* The one that writes is superseded at once, but the newer gets in only after the write. */
static void test_waits_for_a_write(void **state)
{
    (void)state;
    struct upload_claims *t = make();
    struct upload_claim *a = take(t, one, 0);
    assert_int_equal(upload_claim_enter(a), SG_OK);
    assert_int_equal(upload_claim_enter(a), SG_OK); /* a write and a commit beside it */
    struct taking k = {.t = t};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, take_one, &k), 0);
    while (upload_claim_enter(a) == SG_OK) /* until it was superseded */
        upload_claim_leave(a);
    assert_false(atomic_load(&k.taken));
    upload_claim_leave(a);
    assert_false(atomic_load(&k.taken));
    upload_claim_leave(a);
    pthread_join(thread, NULL);
    assert_int_equal(k.err, SG_OK);
    upload_claim_release(&a);
    upload_claims_destroy(&t);
}

/* Waiting costs a thread each: of very many all but a few are sent away. */
static void test_few_wait(void **state)
{
    (void)state;
    enum { TAKERS = 12 };
    struct upload_claims *t = make();
    struct upload_claim *a = take(t, one, 0);
    assert_int_equal(upload_claim_enter(a), SG_OK);
    struct taking k[TAKERS];
    pthread_t threads[TAKERS];
    for (unsigned i = 0; i < TAKERS; i++) {
        k[i] = (struct taking){.t = t};
        assert_int_equal(pthread_create(&threads[i], NULL, take_one, &k[i]), 0);
    }
    unsigned away = 0;
    while (away < TAKERS - 4) { /* all but those that wait answer by themselves */
        away = 0;
        for (unsigned i = 0; i < TAKERS; i++)
            away += atomic_load(&k[i].taken);
    }
    upload_claim_leave(a);
    unsigned refused = 0;
    for (unsigned i = 0; i < TAKERS; i++) {
        pthread_join(threads[i], NULL);
        refused += k[i].err == SG_ERR_UNAVAILABLE;
    }
    assert_int_equal(refused, TAKERS - 4);
    upload_claim_release(&a);
    upload_claims_destroy(&t);
}

/* Many writers of one slot: never two within enter and leave, and the last one lives. */
struct racing {
    struct upload_claims *t;
    _Atomic int inside;
    _Atomic int overlaps;
};

static void *race(void *arg)
{
    struct racing *r = arg;
    for (int i = 0; i < 500; i++) {
        struct upload_claim *c = NULL;
        if (upload_claim_take(r->t, one, 0, &c) != SG_OK)
            continue;
        for (int w = 0; w < 3 && upload_claim_enter(c) == SG_OK; w++) {
            if (atomic_fetch_add(&r->inside, 1) != 0)
                atomic_fetch_add(&r->overlaps, 1);
            atomic_fetch_sub(&r->inside, 1);
            upload_claim_leave(c);
        }
        upload_claim_release(&c);
    }
    return NULL;
}

static void test_never_two_at_once(void **state)
{
    (void)state;
    struct racing r = {.t = make()};
    pthread_t threads[4];
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &r), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&r.overlaps), 0);
    upload_claims_destroy(&r.t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_newer_supersedes_what_it_overlaps),
        cmocka_unit_test(test_try_leaves_others_alone),
        cmocka_unit_test(test_waits_for_a_write),
        cmocka_unit_test(test_few_wait),
        cmocka_unit_test(test_never_two_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
