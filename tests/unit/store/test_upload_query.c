/* Uploads in numbers: pages, expiry, what a start finds. */
#include <stdlib.h>
#include <string.h>

#include "upload_support.h"

#define ALL_KINDS ((1u << SG_UPLOAD_KIND_COUNT) - 1)

struct listing {
    struct sg_upload_query q;
    struct sg_upload_list list;
};

static enum sg_error list_closure(struct sg_db_conn *c, void *arg)
{
    struct listing *l = arg;
    return sg_upload_list(c, &l->q, &l->list);
}

static size_t count(struct sg_db *db, struct sg_upload_query q)
{
    struct listing l = {.q = q};
    l.q.limit = 100;
    assert_int_equal(sg_db_read(db, list_closure, &l), SG_OK);
    size_t n = l.list.n;
    sg_upload_list_free(&l.list);
    assert_null(l.list.items);
    return n;
}

static void pages_are_whole_and_newest_first(void **state)
{
    enum { UPLOADS = 11, PAGE = 4 };
    struct scratch *s = *state;
    char ids[UPLOADS][SG_ULID_SIZE];
    for (size_t i = 0; i < UPLOADS; i++) {
        struct sg_upload_fields f = new_upload(s->db, SG_UPLOAD_TUS);
        memcpy(ids[i], f.id, sizeof(f.id));
        f = sample_upload();
        memcpy(f.owner, OWNER_B, sizeof(f.owner));
        assert_int_equal(put_upload(s->db, &f), SG_OK);
    }
    char before[SG_ULID_SIZE] = "";
    size_t seen = 0, pages = 0;
    for (size_t n = PAGE; n == PAGE; pages++) {
        struct listing l = {
            .q = {.owner = OWNER_A, .kinds = ALL_KINDS, .state = -1, .limit = PAGE}};
        l.q.before = seen ? before : NULL;
        assert_int_equal(sg_db_read(s->db, list_closure, &l), SG_OK);
        n = l.list.n;
        for (size_t i = 0; i < n; i++, seen++)
            assert_string_equal(l.list.items[i]->f.id, ids[UPLOADS - 1 - seen]);
        if (n)
            memcpy(before, l.list.items[n - 1]->f.id, sizeof(before));
        sg_upload_list_free(&l.list);
    }
    assert_int_equal(seen, UPLOADS);
    assert_int_equal(pages, 3);
    assert_int_equal(count(s->db, (struct sg_upload_query){.kinds = ALL_KINDS, .state = -1}),
                     2 * UPLOADS);
}

static void filters_filter(void **state)
{
    struct scratch *s = *state;
    for (unsigned k = 0; k < SG_UPLOAD_KIND_COUNT; k++) {
        for (unsigned st = 0; st < SG_UPLOAD_STATE_COUNT; st++) {
            struct sg_upload_fields f = sample_upload();
            f.kind = (enum sg_upload_kind)k;
            f.state = (enum sg_upload_state)st;
            assert_int_equal(put_upload(s->db, &f), SG_OK);
        }
    }
    unsigned tus = 1u << SG_UPLOAD_TUS | 1u << SG_UPLOAD_TUS_FINAL;
    assert_int_equal(count(s->db, (struct sg_upload_query){.kinds = tus, .state = -1}), 8);
    assert_int_equal(count(s->db, (struct sg_upload_query){.kinds = tus, .state = SG_UPLOAD_DONE}),
                     2);
    assert_int_equal(count(s->db, (struct sg_upload_query){.owner = OWNER_A,
                                                           .kinds = ALL_KINDS,
                                                           .state = SG_UPLOAD_ACTIVE}),
                     SG_UPLOAD_KIND_COUNT);
    assert_int_equal(
        count(s->db, (struct sg_upload_query){.owner = OWNER_B, .kinds = ALL_KINDS, .state = -1}),
        0);
    assert_int_equal(count(s->db, (struct sg_upload_query){.kinds = 0, .state = -1}), 0);
    static const struct sg_upload_query bad[] = {
        {.kinds = ALL_KINDS, .state = -1, .limit = 0},
        {.kinds = ALL_KINDS, .state = -1, .limit = 1001},
        {.kinds = ALL_KINDS, .state = SG_UPLOAD_STATE_COUNT, .limit = 1},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        struct listing l = {.q = bad[i]};
        assert_int_equal(sg_db_read(s->db, list_closure, &l), SG_ERR_INVALID);
        assert_null(l.list.items);
    }
}

struct expiring {
    struct sg_db_conn *c;
    struct sg_upload_expiry q;
    unsigned n, stop_at;
    bool deletes;
    char first[SG_ULID_SIZE];
};

static enum sg_error note_expired(void *arg, const char *id)
{
    struct expiring *e = arg;
    if (e->n == 0)
        memcpy(e->first, id, sizeof(e->first));
    if (++e->n == e->stop_at)
        return SG_ERR_CANCELLED;
    return e->deletes ? sg_upload_delete(e->c, id) : SG_OK;
}

static enum sg_error expired_closure(struct sg_db_conn *c, void *arg)
{
    struct expiring *e = arg;
    e->c = c;
    return sg_upload_expired(c, &e->q, note_expired, e);
}

static void expired_ones_are_named_oldest_first(void **state)
{
    enum { UPLOADS = 6 };
    struct scratch *s = *state;
    char ids[UPLOADS][SG_ULID_SIZE];
    for (size_t i = 0; i < UPLOADS; i++) {
        struct sg_upload_fields f = sample_upload();
        f.expires_ms = 5000 - i * 100;
        f.state = i == UPLOADS - 1 ? SG_UPLOAD_PROCESSING : (enum sg_upload_state)(i % 2 * 2);
        assert_int_equal(put_upload(s->db, &f), SG_OK);
        memcpy(ids[i], f.id, sizeof(f.id));
    }
    struct expiring e = {.q = {.now_ms = 4600, .limit = 10}};
    assert_int_equal(sg_db_read(s->db, expired_closure, &e), SG_OK);
    assert_int_equal(e.n, 0); /* the one at 4600 has this moment left, the one at 4500 is busy */
    e = (struct expiring){.q = {.now_ms = 4601, .limit = 10}};
    assert_int_equal(sg_db_read(s->db, expired_closure, &e), SG_OK);
    assert_int_equal(e.n, 1);
    assert_string_equal(e.first, ids[4]);
    e = (struct expiring){.q = {.now_ms = 9000, .limit = 3}};
    assert_int_equal(sg_db_read(s->db, expired_closure, &e), SG_OK);
    assert_int_equal(e.n, 3);
    assert_string_equal(e.first, ids[4]);
    e = (struct expiring){.q = {.now_ms = 9000, .limit = 3, .skip = 3}};
    assert_int_equal(sg_db_read(s->db, expired_closure, &e), SG_OK);
    assert_int_equal(e.n, 2);
    assert_string_equal(e.first, ids[1]);
    e = (struct expiring){.q = {.now_ms = 9000, .limit = 10}, .stop_at = 2};
    assert_int_equal(sg_db_read(s->db, expired_closure, &e), SG_ERR_CANCELLED);
    assert_int_equal(e.n, 2);
    e = (struct expiring){.q = {.now_ms = 9000, .limit = 10}, .deletes = true};
    assert_int_equal(sg_db_write(s->db, expired_closure, &e), SG_OK);
    assert_int_equal(e.n, UPLOADS - 1);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM uploads"), 1);
    e = (struct expiring){.q = {.now_ms = 9000, .limit = 0}};
    assert_int_equal(sg_db_read(s->db, expired_closure, &e), SG_ERR_INVALID);
}

static unsigned expired(struct sg_db *db, uint64_t max_bytes, uint64_t max_assets)
{
    struct expiring e = {
        .q = {.now_ms = 9000, .max_bytes = max_bytes, .max_assets = max_assets, .limit = 10}};
    assert_int_equal(sg_db_read(db, expired_closure, &e), SG_OK);
    return e.n;
}

/* One whose last byte was acknowledged expires only when it is its owner who has too much. */
static void owed_ones_expire_over_quota(void **state)
{
    struct scratch *s = *state;
    struct sg_upload_fields f;
    for (unsigned k = 0; k < SG_UPLOAD_KIND_COUNT; k++) {
        f = sample_upload();
        f.kind = (enum sg_upload_kind)k;
        f.offset_bytes = f.size_bytes;
        assert_int_equal(put_upload(s->db, &f), SG_OK);
    }
    f = sample_upload();
    f.kind = SG_UPLOAD_TUS;
    f.has_size = false;
    f.offset_bytes = f.size_bytes;
    assert_int_equal(put_upload(s->db, &f), SG_OK);
    const unsigned others = SG_UPLOAD_KIND_COUNT - 2 + 1, all = others + 2;
    uint64_t held = usage_of(s->db, OWNER_A).reserved_bytes;
    assert_int_equal(expired(s->db, 0, 0), others);
    assert_int_equal(expired(s->db, held, 1), others);
    assert_int_equal(expired(s->db, held - 1, 0), all);
    struct sg_asset_fields a = sample_asset();
    insert_asset(s->db, a);
    assert_int_equal(expired(s->db, 0, 2), others);
    assert_int_equal(expired(s->db, 0, 1), all);
}

struct opened {
    unsigned n, stop_at, states;
};

static enum sg_error note_open(void *arg, const struct sg_upload *u)
{
    struct opened *o = arg;
    o->states |= 1u << u->f.state;
    assert_string_equal(u->f.filename, "bbb.mp4");
    return ++o->n == o->stop_at ? SG_ERR_CANCELLED : SG_OK;
}

static enum sg_error open_closure(struct sg_db_conn *c, void *arg)
{
    return sg_upload_each_open(c, note_open, arg);
}

static void open_ones_are_the_unfinished(void **state)
{
    struct scratch *s = *state;
    for (unsigned i = 0; i < 3 * SG_UPLOAD_STATE_COUNT; i++) {
        struct sg_upload_fields f = sample_upload();
        f.state = (enum sg_upload_state)(i % SG_UPLOAD_STATE_COUNT);
        assert_int_equal(put_upload(s->db, &f), SG_OK);
    }
    struct opened o = {0};
    assert_int_equal(sg_db_read(s->db, open_closure, &o), SG_OK);
    assert_int_equal(o.n, 6);
    assert_int_equal(o.states, 1u << SG_UPLOAD_ACTIVE | 1u << SG_UPLOAD_PROCESSING);
    o = (struct opened){.stop_at = 2};
    assert_int_equal(sg_db_read(s->db, open_closure, &o), SG_ERR_CANCELLED);
    assert_int_equal(o.n, 2);
}

static enum sg_error reset_closure(struct sg_db_conn *c, void *arg)
{
    return sg_upload_reset_processing(c, arg);
}

static void add_asset_of(struct sg_db *db, const char *id, enum sg_asset_status status)
{
    struct sg_asset_fields f = sample_asset();
    memcpy(f.id, id, sizeof(f.id));
    f.status = status;
    insert_asset(db, f);
}

static void reset_undoes_what_was_under_way(void **state)
{
    struct scratch *s = *state;
    struct sg_upload_fields f[5];
    uint64_t n = 99;
    assert_int_equal(sg_db_write(s->db, reset_closure, &n), SG_OK);
    assert_int_equal(n, 0);
    for (size_t i = 0; i < SG_ARRAY_LEN(f); i++) {
        f[i] = sample_upload();
        f[i].state = i < 3 ? SG_UPLOAD_PROCESSING : i == 3 ? SG_UPLOAD_DONE : SG_UPLOAD_ACTIVE;
        assert_int_equal(put_upload(s->db, &f[i]), SG_OK);
    }
    add_asset_of(s->db, f[0].id, SG_ASSET_PROCESSING);
    add_asset_of(s->db, f[1].id, SG_ASSET_PROCESSING);
    add_asset_of(s->db, f[3].id, SG_ASSET_READY);
    struct sg_asset_fields alone = sample_asset(); /* processing without an upload: not ours */
    alone.status = SG_ASSET_PROCESSING;
    insert_asset(s->db, alone);
    assert_int_equal(found(s->db, "bunny"), 4);
    assert_int_equal(sg_db_write(s->db, reset_closure, &n), SG_OK);
    assert_int_equal(n, 2);
    assert_null(fetch_upload(s->db, f[2].id)); /* somebody deleted its asset */
    for (size_t i = 0; i < SG_ARRAY_LEN(f); i++) {
        struct sg_upload *u = i == 2 ? NULL : fetch_upload(s->db, f[i].id);
        if (u == NULL)
            continue;
        assert_int_equal(u->f.state, i == 3 ? SG_UPLOAD_DONE : SG_UPLOAD_ACTIVE);
        sg_upload_free(&u);
    }
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM assets"), 2);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM assets WHERE status = 3"), 1);
    assert_int_equal(found(s->db, "bunny"), 2);
    run_sql(s->db, CHECK_SEARCH);
    assert_int_equal(sg_db_write(s->db, reset_closure, &n), SG_OK);
    assert_int_equal(n, 0);
}

int main(void)
{
#define DB_TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup_db, scratch_teardown)
    const struct CMUnitTest tests[] = {
        DB_TEST(pages_are_whole_and_newest_first),    DB_TEST(filters_filter),
        DB_TEST(expired_ones_are_named_oldest_first), DB_TEST(open_ones_are_the_unfinished),
        DB_TEST(owed_ones_expire_over_quota),         DB_TEST(reset_undoes_what_was_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
