/* Warming the memory of assets: which ones, how many, never at another's cost, never with an old
 * row. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "streamgate/base/metrics.h"
#include "streamgate/http/asset_view.h"

#include "loopback_support.h"

#define ASSETS 250 /* more than one page of the list */
#define CHANGES 300

static char ids[ASSETS][SG_ULID_SIZE]; /* updated in this order: the last one is the newest */

static struct sg_asset_fields fields_of(unsigned i)
{
    struct sg_asset_fields f = {
        .owner = "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        .status = SG_ASSET_READY,
        .policy = SG_POLICY_PUBLIC,
        .title = "a title",
        .description = "",
        .tags_json = "[]",
        .custom_json = "{}",
        .filename = "film.mp4",
        .content_type = "video/mp4",
        .video_codec = "",
        .audio_codec = "",
        .error = "",
        .version = 1,
        .created_ms = 1000 + ASSETS - i, /* the other way round */
        .updated_ms = 2000 + i,
    };
    memcpy(f.id, ids[i], SG_ULID_SIZE);
    return f;
}

static enum sg_error insert_all(struct sg_db_conn *c, void *arg)
{
    (void)arg;
    enum sg_error err = SG_OK;
    for (unsigned i = 0; err == SG_OK && i < ASSETS; i++) {
        sg_ulid_make(ids[i]);
        struct sg_asset_fields f = fields_of(i);
        err = sg_asset_insert(c, &f, NULL, 0);
    }
    return err;
}

static void open_with(struct loop *l, const char *a, const char *b)
{
    const char *const overrides[] = {a, b, NULL};
    loop_open(l, overrides, false);
    assert_int_equal(sg_asset_cache_create(sg_services_config(&l->svc), &l->svc.assets), SG_OK);
    assert_int_equal(sg_db_write(l->svc.db, insert_all, NULL), SG_OK);
}

static void close_all(struct loop *l)
{
    sg_asset_cache_destroy(&l->svc.assets);
    loop_close(l);
}

static uint64_t warmed(struct loop *l)
{
    uint64_t n = UINT64_MAX;
    assert_int_equal(sg_asset_cache_warm(&l->svc, &n), SG_OK);
    return n;
}

static struct sg_lru_stats stats(struct loop *l)
{
    struct sg_lru_stats s;
    sg_lru_stats(sg_cache_lru(sg_asset_cache_base(l->svc.assets)), &s);
    return s;
}

static bool in_memory(struct loop *l, const char *id)
{
    struct sg_request req = {.svc = &l->svc};
    struct sg_asset_entry *e = NULL;
    enum sg_error err = sg_asset_load(&req, id, &e);
    assert_true(err == SG_OK || err == SG_ERR_WOULD_BLOCK);
    sg_asset_entry_unref(e);
    return err == SG_OK;
}

/* Exactly the n that were updated last. */
static void expect_newest(struct loop *l, unsigned n)
{
    for (unsigned i = 0; i < ASSETS; i++)
        assert_int_equal(in_memory(l, ids[i]), i >= ASSETS - n);
}

static enum sg_error fail_newest(struct sg_db_conn *c, void *arg)
{
    (void)arg;
    return sg_asset_mark_failed(c, ids[ASSETS - 1], "lost");
}

static void test_newest_first(void **state)
{
    (void)state;
    struct loop l;
    open_with(&l, "cache.warm=203", NULL);
    assert_int_equal(warmed(&l), 203);
    assert_int_equal(stats(&l).entries, 203);
    assert_int_equal(sg_metric_read(SG_METRIC_CACHE_WARMED, SG_METRIC_ALL), 203);
    expect_newest(&l, 203);
    close_all(&l);
}

static void test_all_that_are_ready(void **state)
{
    (void)state;
    struct loop l;
    open_with(&l, NULL, NULL);
    assert_int_equal(sg_db_write(l.svc.db, fail_newest, NULL), SG_OK);
    assert_int_equal(warmed(&l), ASSETS - 1);
    assert_false(in_memory(&l, ids[ASSETS - 1]));
    assert_true(in_memory(&l, ids[0]));
    close_all(&l);
}

static void test_off(void **state)
{
    (void)state;
    struct loop l;
    open_with(&l, "cache.warm=0", NULL);
    assert_int_equal(warmed(&l), 0);
    assert_int_equal(stats(&l).entries, 0);
    close_all(&l);
}

static void test_nothing_goes_for_it(void **state)
{
    (void)state;
    struct loop l;
    struct sg_request req = {.svc = &l.svc, .may_block = true};
    struct sg_asset_entry *e = NULL;
    open_with(&l, "cache.metadata=120/30min/64MiB", NULL);
    assert_int_equal(sg_asset_load(&req, ids[3], &e), SG_OK); /* somebody was quicker */
    sg_asset_entry_unref(e);
    assert_int_equal(warmed(&l), 119);
    assert_int_equal(stats(&l).entries, 120);
    assert_int_equal(stats(&l).evictions, 0);
    assert_true(in_memory(&l, ids[3]));
    close_all(&l);

    open_with(&l, "cache.metadata=1000/30min/16KiB", NULL);
    uint64_t n = warmed(&l);
    struct sg_lru_stats s = stats(&l);
    assert_true(n > 10 && n < ASSETS);
    assert_int_equal(s.entries, n);
    assert_int_equal(s.evictions, 0);
    assert_true(s.bytes <= 16384 && s.bytes + 2 * s.bytes / n > 16384);
    expect_newest(&l, (unsigned)n);
    close_all(&l);

    open_with(&l, "cache.metadata=0/30min/0", NULL);
    assert_int_equal(warmed(&l), 0);
    close_all(&l);
}

static void test_ends_when_draining(void **state)
{
    (void)state;
    struct loop l;
    open_with(&l, NULL, NULL);
    atomic_store(&l.svc.draining, true);
    assert_int_equal(warmed(&l), 0);
    close_all(&l);
}

/* ---- races ---- */

struct changer {
    struct loop *l;
    uint64_t version; /* of the newest asset */
    _Atomic bool done, failed;
};

static enum sg_error change_newest(struct sg_db_conn *c, void *arg)
{
    const struct changer *ch = arg;
    struct sg_asset_fields f = fields_of(ASSETS - 1);
    f.updated_ms += ch->version;
    return sg_asset_update(c, &f, ch->version);
}

static void *keep_warming(void *arg)
{
    struct changer *ch = arg;
    while (!atomic_load(&ch->done)) {
        uint64_t n;
        if (sg_asset_cache_warm(&ch->l->svc, &n) != SG_OK)
            atomic_store(&ch->failed, true);
    }
    return NULL;
}

/* After a change is acknowledged nobody sees the row from before, though warming never rests. */
static void test_never_older_than_a_change(void **state)
{
    (void)state;
    struct loop l;
    open_with(&l, "cache.warm=1", NULL);
    const char *id = ids[ASSETS - 1];
    struct changer ch = {.l = &l, .version = 1};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, keep_warming, &ch), 0);
    unsigned old = 0;
    for (unsigned i = 0; i < CHANGES; i++) {
        assert_int_equal(sg_db_write(l.svc.db, change_newest, &ch), SG_OK);
        ch.version++;
        sg_asset_cache_invalidate(l.svc.assets, id);
        struct sg_request req = {.svc = &l.svc};
        struct sg_asset_entry *e = NULL;
        while (sg_asset_load(&req, id, &e) != SG_OK && !atomic_load(&ch.failed))
            sched_yield();
        assert_non_null(e);
        old += e->asset->f.version != ch.version;
        sg_asset_entry_unref(e);
    }
    atomic_store(&ch.done, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(old, 0);
    close_all(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_newest_first),
        cmocka_unit_test(test_all_that_are_ready),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_nothing_goes_for_it),
        cmocka_unit_test(test_ends_when_draining),
        cmocka_unit_test(test_never_older_than_a_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
