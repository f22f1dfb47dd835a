/* The sharded LRU: order, bounds over all shards, expiry, references, many threads. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/lru.h"

#include "support/unit.h"

struct thing {
    atomic_int refs;
    int id;
};

static atomic_int alive;

static struct thing *thing_make(int id)
{
    struct thing *t = malloc(sizeof(*t));
    assert_non_null(t);
    atomic_init(&t->refs, 1);
    t->id = id;
    atomic_fetch_add(&alive, 1);
    return t;
}

static void *thing_ref(void *p)
{
    struct thing *t = p;
    atomic_fetch_add(&t->refs, 1);
    return t;
}

static void thing_unref(void *p)
{
    struct thing *t = p;
    if (atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    t->id = -1;
    free(t);
    atomic_fetch_sub(&alive, 1);
}

static struct sg_lru *make(size_t entries, uint64_t bytes, uint64_t ttl_ms, unsigned shards)
{
    struct sg_lru_params params = {.max_entries = entries,
                                   .max_bytes = bytes,
                                   .ttl_ms = ttl_ms,
                                   .shards = shards,
                                   .ref = thing_ref,
                                   .unref = thing_unref};
    struct sg_lru *lru = NULL;
    assert_int_equal(sg_lru_create(&params, &lru), SG_OK);
    return lru;
}

static void put(struct sg_lru *lru, const char *key, int id, uint64_t bytes)
{
    struct thing *t = thing_make(id);
    assert_int_equal(sg_lru_put(lru, key, strlen(key), t, bytes), SG_OK);
    thing_unref(t);
}

static int get(struct sg_lru *lru, const char *key)
{
    struct thing *t = sg_lru_get(lru, key, strlen(key));
    if (t == NULL)
        return -1;
    int id = t->id;
    thing_unref(t);
    return id;
}

static void order_is_exact(void **state)
{
    (void)state;
    struct sg_lru *lru = make(3, 0, 0, 1);
    put(lru, "a", 1, 1);
    put(lru, "b", 2, 1);
    put(lru, "c", 3, 1);
    assert_int_equal(get(lru, "a"), 1); /* b is now the oldest */
    put(lru, "d", 4, 1);
    assert_int_equal(get(lru, "b"), -1);
    assert_int_equal(get(lru, "a"), 1);
    assert_int_equal(get(lru, "c"), 3);
    put(lru, "a", 9, 5); /* replaces */
    assert_int_equal(get(lru, "a"), 9);
    struct sg_lru_stats stats;
    sg_lru_stats(lru, &stats);
    assert_int_equal(stats.entries, 3);
    assert_int_equal(stats.bytes, 7);
    assert_int_equal(stats.evictions, 1);
    assert_int_equal(stats.hits, 4);
    assert_int_equal(stats.misses, 1);
    assert_true(sg_lru_remove(lru, "a", 1));
    assert_false(sg_lru_remove(lru, "a", 1));
    sg_lru_destroy(&lru);
    assert_null(lru);
    assert_int_equal(alive, 0);
}

static void values_outlive_entries(void **state)
{
    (void)state;
    struct sg_lru *lru = make(1, 0, 0, 1);
    put(lru, "a", 1, 1);
    struct thing *held = sg_lru_get(lru, "a", 1);
    put(lru, "b", 2, 1);
    assert_int_equal(get(lru, "a"), -1);
    assert_int_equal(held->id, 1);
    sg_lru_destroy(&lru);
    assert_int_equal(held->id, 1);
    thing_unref(held);
    assert_int_equal(alive, 0);
}

static void bytes_bound_is_shared(void **state)
{
    (void)state;
    struct sg_lru *lru = make(1000, 1000, 0, 16);
    char key[16];
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        put(lru, key, i, 50);
        struct sg_lru_stats stats;
        sg_lru_stats(lru, &stats);
        assert_in_range(stats.bytes, 0, 1000);
    }
    put(lru, "half", 7, 500); /* far above one shard's share, and kept */
    assert_int_equal(get(lru, "half"), 7);
    put(lru, "half", 8, 501); /* too heavy: not kept, and the old value is gone */
    assert_int_equal(get(lru, "half"), -1);
    struct sg_lru_stats stats;
    sg_lru_stats(lru, &stats);
    assert_in_range(stats.bytes, 0, 1000);
    assert_in_range(stats.evictions, 90, 101);
    sg_lru_resize(lru, 5, 200, 0);
    sg_lru_stats(lru, &stats);
    assert_in_range(stats.entries, 1, 4);
    assert_in_range(stats.bytes, 50, 200);
    sg_lru_destroy(&lru);
    assert_int_equal(alive, 0);
}

static void time_to_live(void **state)
{
    (void)state;
    struct sg_lru *lru = make(100, 0, 1000, 4);
    put(lru, "a", 1, 1);
    sg_clock_test_advance_ms(900);
    assert_int_equal(get(lru, "a"), 1);
    put(lru, "b", 2, 1);
    put(lru, "c", 3, 1);
    sg_clock_test_advance_ms(200);
    assert_int_equal(get(lru, "a"), -1); /* a hit does not lengthen the life */
    assert_int_equal(get(lru, "b"), 2);
    assert_int_equal(sg_lru_sweep(lru), 0);
    sg_clock_test_advance_ms(1000);
    assert_int_equal(sg_lru_sweep(lru), 2);
    struct sg_lru_stats stats;
    sg_lru_stats(lru, &stats);
    assert_int_equal(stats.entries, 0);
    assert_int_equal(stats.bytes, 0);
    assert_int_equal(stats.expirations, 3);
    sg_clock_test_advance_ms(0);
    sg_lru_destroy(&lru);
    assert_int_equal(alive, 0);
}

static void prefixes(void **state)
{
    (void)state;
    struct sg_lru *lru = make(1000, 0, 0, 0);
    char key[32];
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof(key), "%s/%d", i % 3 == 0 ? "asset" : "other", i);
        put(lru, key, i, 1);
    }
    assert_int_equal(sg_lru_remove_prefix(lru, "asset/", 6), 100);
    assert_int_equal(sg_lru_remove_prefix(lru, "asset/", 6), 0);
    assert_int_equal(get(lru, "asset/3"), -1);
    assert_int_equal(get(lru, "other/4"), 4);
    sg_lru_clear(lru);
    struct sg_lru_stats stats;
    sg_lru_stats(lru, &stats);
    assert_int_equal(stats.entries, 0);
    sg_lru_destroy(&lru);
    assert_int_equal(alive, 0);
}

static void bad_params(void **state)
{
    (void)state;
    struct sg_lru *lru = NULL;
    struct sg_lru_params params = {.max_entries = 0, .ref = thing_ref, .unref = thing_unref};
    assert_int_equal(sg_lru_create(&params, &lru), SG_ERR_INVALID);
    params.max_entries = 1;
    params.shards = 3;
    assert_int_equal(sg_lru_create(&params, &lru), SG_ERR_INVALID);
    assert_null(lru);
    sg_lru_destroy(&lru);
}

#define THREADS 4
#define STEPS 20000

struct worker {
    struct sg_lru *lru;
    unsigned seed;
    int wrong;
};

static void *hammer(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < STEPS; i++) {
        unsigned r = w->seed = w->seed * 1664525 + 1013904223;
        int id = (int)(r >> 8) % 200;
        switch (r >> 28) {
        case 0:
            sg_lru_remove(w->lru, &id, sizeof(id));
            break;
        case 1:
            if (i % 100 == 0)
                sg_lru_sweep(w->lru);
            break;
        case 2:
        case 3:
        case 4: {
            struct thing *t = thing_make(id);
            if (sg_lru_put(w->lru, &id, sizeof(id), t, 10 + r % 20) != SG_OK)
                w->wrong++;
            thing_unref(t);
            break;
        }
        default: {
            struct thing *t = sg_lru_get(w->lru, &id, sizeof(id));
            if (t != NULL) {
                w->wrong += t->id != id;
                thing_unref(t);
            }
        }
        }
    }
    return NULL;
}

static void many_threads(void **state)
{
    (void)state;
    struct sg_lru *lru = make(100, 1500, 5, 8);
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.lru = lru, .seed = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].wrong, 0);
    }
    struct sg_lru_stats stats;
    sg_lru_stats(lru, &stats);
    assert_in_range(stats.entries, 0, 100);
    assert_in_range(stats.bytes, 0, 1500);
    assert_int_equal(atomic_load(&alive), stats.entries);
    sg_lru_clear(lru);
    sg_lru_stats(lru, &stats);
    assert_int_equal(stats.bytes, 0);
    sg_lru_destroy(&lru);
    assert_int_equal(alive, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_exact),
        cmocka_unit_test(values_outlive_entries),
        cmocka_unit_test(bytes_bound_is_shared),
        cmocka_unit_test(time_to_live),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(bad_params),
        cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
