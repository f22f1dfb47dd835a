/* What users hold: the sums that triggers keep against a recount of the rows, and the step that
 * makes the first sums. */
#include <stdlib.h>
#include <string.h>

#include "migrations.h"
#include "upload_support.h"

#define KNOWN 24 /* ids in play: few, so that most operations meet a row */
#define BATCHES 40
#define BATCH 50

static void assert_usage(const struct sg_usage *got, const struct sg_usage *want)
{
    assert_int_equal(got->asset_bytes, want->asset_bytes);
    assert_int_equal(got->assets, want->assets);
    assert_int_equal(got->reserved_bytes, want->reserved_bytes);
    assert_int_equal(got->uploads, want->uploads);
}

struct promise {
    const char *owner;
    uint64_t n;
};

static enum sg_error promised_closure(struct sg_db_conn *c, void *arg)
{
    struct promise *p = arg;
    return sg_upload_promised(c, p->owner, &p->n);
}

static void active_wholes_are_assets_to_be(void **state)
{
    struct scratch *s = *state;
    struct promise a = {.owner = OWNER_A}, b = {.owner = OWNER_B};
    for (unsigned k = 0; k < SG_UPLOAD_KIND_COUNT; k++) {
        for (unsigned st = 0; st < SG_UPLOAD_STATE_COUNT; st++) {
            struct sg_upload_fields f = sample_upload();
            f.kind = (enum sg_upload_kind)k;
            f.state = (enum sg_upload_state)st;
            assert_int_equal(put_upload(s->db, &f), SG_OK);
        }
    }
    assert_int_equal(sg_db_read(s->db, promised_closure, &a), SG_OK);
    assert_int_equal(sg_db_read(s->db, promised_closure, &b), SG_OK);
    assert_int_equal(a.n, SG_UPLOAD_KIND_COUNT - 1); /* a part becomes none */
    assert_int_equal(b.n, 0);
}

static void each_change_moves_the_sums(void **state)
{
    struct scratch *s = *state;
    struct sg_usage none = {0}, now = usage_of(s->db, OWNER_A);
    assert_usage(&now, &none);
    struct sg_upload_fields f = new_upload(s->db, SG_UPLOAD_TUS_PARTIAL);
    now = usage_of(s->db, OWNER_A);
    assert_usage(&now, &(struct sg_usage){.reserved_bytes = 1000, .uploads = 1});
    struct sg_upload_fields final = new_upload(s->db, SG_UPLOAD_TUS_FINAL);
    now = usage_of(s->db, OWNER_A);
    assert_usage(&now, &(struct sg_usage){.reserved_bytes = 1000, .uploads = 1});
    struct sg_upload_fields open = sample_upload();
    open.has_size = false;
    open.offset_bytes = 7;
    assert_int_equal(put_upload(s->db, &open), SG_OK);
    assert_int_equal(put_chunk(s->db, open.id, 0, 5, 1), SG_OK);
    now = usage_of(s->db, OWNER_A);
    assert_usage(&now, &(struct sg_usage){.reserved_bytes = 1012, .uploads = 2});
    /* The asset of one being processed has its row, its bytes are still its upload's. */
    struct sg_asset_fields a = sample_asset();
    a.status = SG_ASSET_PROCESSING;
    insert_asset(s->db, a);
    assert_int_equal(move_upload(s->db, final.id, SG_UPLOAD_ACTIVE, SG_UPLOAD_PROCESSING), SG_OK);
    now = usage_of(s->db, OWNER_A);
    assert_usage(&now, &(struct sg_usage){.assets = 1, .reserved_bytes = 1012, .uploads = 2});
    run_sql(s->db, "UPDATE assets SET status = 3, size_bytes = 44");
    assert_int_equal(move_upload(s->db, final.id, SG_UPLOAD_PROCESSING, SG_UPLOAD_DONE), SG_OK);
    assert_int_equal(move_upload(s->db, open.id, SG_UPLOAD_ACTIVE, SG_UPLOAD_FAILED), SG_OK);
    assert_int_equal(drop_upload(s->db, f.id), SG_OK);
    now = usage_of(s->db, OWNER_A);
    assert_usage(&now, &(struct sg_usage){.asset_bytes = 44, .assets = 1});
    run_sql(s->db, "UPDATE assets SET owner = '" OWNER_B "'");
    now = usage_of(s->db, OWNER_A);
    assert_usage(&now, &none);
    now = usage_of(s->db, OWNER_B);
    assert_usage(&now, &(struct sg_usage){.asset_bytes = 44, .assets = 1});
    run_sql(s->db, "UPDATE assets SET status = 4");
    now = usage_of(s->db, OWNER_B);
    assert_usage(&now, &(struct sg_usage){.assets = 1});
}

/* Recounts from the rows, by what the header says, not by what the triggers do. */
static enum sg_error recount(struct sg_db_conn *c, const char *owner, struct sg_usage *out)
{
    struct sg_usage u = {0};
    struct sg_upload_query uq = {.owner = owner, .kinds = ~0u, .state = -1, .limit = 1000};
    struct sg_upload_list uploads = {0};
    enum sg_error err = sg_upload_list(c, &uq, &uploads);
    for (size_t i = 0; i < uploads.n; i++) {
        const struct sg_upload_fields *f = &uploads.items[i]->f;
        bool open = f->state == SG_UPLOAD_ACTIVE || f->state == SG_UPLOAD_PROCESSING;
        if (!open || f->kind == SG_UPLOAD_TUS_FINAL)
            continue;
        u.uploads++;
        u.reserved_bytes += f->has_size ? f->size_bytes : f->offset_bytes;
    }
    sg_upload_list_free(&uploads);
    struct sg_asset_query aq = {.owner = owner, .status = -1, .limit = 200};
    struct sg_asset_list assets = {0};
    if (!err)
        err = sg_asset_list(c, &aq, &assets);
    for (size_t i = 0; i < assets.n; i++)
        if (assets.items[i]->f.status == SG_ASSET_READY)
            u.asset_bytes += assets.items[i]->f.size_bytes;
    u.assets = assets.n;
    sg_asset_list_free(&assets);
    *out = u;
    return err;
}

struct play {
    uint64_t seed;
    char ids[KNOWN][SG_ULID_SIZE];
    unsigned done; /* operations that were carried out */
};

/* xorshift64: the same sequence in every run. */
static uint64_t draw(struct play *p, uint64_t n)
{
    p->seed ^= p->seed << 13;
    p->seed ^= p->seed >> 7;
    p->seed ^= p->seed << 17;
    return p->seed % n;
}

static enum sg_error play_upload(struct sg_db_conn *c, struct play *p, const char *id)
{
    struct sg_upload_fields f = sample_upload();
    struct sg_upload_move m = {id,
                               (enum sg_upload_state)draw(p, SG_UPLOAD_STATE_COUNT),
                               (enum sg_upload_state)draw(p, SG_UPLOAD_STATE_COUNT),
                               "",
                               "",
                               1,
                               1};
    struct sg_upload_chunk chunk = {.upload_id = id, .number = draw(p, 9), .len = draw(p, 500)};
    uint64_t n = 0;
    switch (draw(p, 8)) {
    case 0:
    case 1:
        memcpy(f.id, id, sizeof(f.id));
        memcpy(f.owner, draw(p, 2) ? OWNER_A : OWNER_B, sizeof(f.owner));
        f.kind = (enum sg_upload_kind)draw(p, SG_UPLOAD_KIND_COUNT);
        f.has_size = draw(p, 2);
        f.size_bytes = 10000 + draw(p, 10000);
        f.offset_bytes = draw(p, 1000);
        return sg_upload_insert(c, &f);
    case 2:
        return sg_upload_set_offset(c, id, draw(p, 12000), 1, 1);
    case 3:
        return sg_upload_set_size(c, id, draw(p, 20000));
    case 4:
        return sg_upload_delete(c, id);
    case 5:
        return draw(p, 6) ? sg_upload_move(c, &m) : sg_upload_reset_processing(c, &n);
    case 6:
        return sg_upload_move(c, &m);
    default:
        return sg_upload_chunk_put(c, &chunk);
    }
}

static enum sg_error play_asset(struct sg_db_conn *c, struct play *p, const char *id)
{
    struct sg_asset_fields f = sample_asset();
    memcpy(f.id, id, sizeof(f.id));
    memcpy(f.owner, draw(p, 2) ? OWNER_A : OWNER_B, sizeof(f.owner));
    f.status = (enum sg_asset_status)draw(p, SG_ASSET_STATUS_COUNT);
    f.size_bytes = draw(p, 100000);
    switch (draw(p, 6)) {
    case 0:
    case 1:
        return sg_asset_insert(c, &f, NULL, 0);
    case 2:
        return sg_asset_update(c, &f, 0);
    case 3:
        return sg_asset_finish(c, &f, "index", 5);
    case 4:
        return sg_asset_delete(c, id, 0);
    default:
        return sg_asset_mark_failed(c, id, "broken");
    }
}

static void play_batch(struct sg_db_conn *c, struct play *p)
{
    static const char *const owners[] = {OWNER_A, OWNER_B};
    for (unsigned i = 0; i < BATCH; i++) {
        const char *id = p->ids[draw(p, KNOWN)];
        enum sg_error err = draw(p, 5) < 3 ? play_upload(c, p, id) : play_asset(c, p, id);
        p->done += err == SG_OK;
        assert_true(err == SG_OK || err == SG_ERR_NOT_FOUND || err == SG_ERR_EXISTS ||
                    err == SG_ERR_CONFLICT || err == SG_ERR_INVALID);
        for (size_t o = 0; o < SG_ARRAY_LEN(owners); o++) {
            struct sg_usage kept, counted;
            assert_int_equal(sg_usage_get(c, owners[o], &kept), SG_OK);
            assert_int_equal(recount(c, owners[o], &counted), SG_OK);
            assert_usage(&kept, &counted);
        }
    }
}

/* On a connection of its own: a failed assertion jumps, which must not happen in the writer's
 * thread. */
static void sums_equal_a_recount(void **state)
{
    struct scratch *s = *state;
    struct play p = {.seed = 0x5eed5eed5eed5eed};
    for (size_t i = 0; i < KNOWN; i++)
        sg_ulid_make(p.ids[i]);
    struct sg_db_conn *c = NULL;
    assert_int_equal(sg_db_conn_open(s->path, SG_DB_WRITER, &c), SG_OK);
    for (unsigned i = 0; i < BATCHES; i++) {
        assert_int_equal(sg_db_conn_run(c, "BEGIN"), SG_OK);
        play_batch(c, &p);
        assert_int_equal(sg_db_conn_run(c, "COMMIT"), SG_OK);
    }
    sg_db_conn_close(&c);
    print_message("%u of %u operations found something to do\n", p.done, BATCHES * BATCH);
    assert_true(p.done > BATCHES * BATCH / 4);
}

static void add_old_assets(struct sg_db_conn *c)
{
    for (unsigned i = 0; i < 7; i++) {
        struct sg_asset_fields f = sample_asset();
        f.size_bytes = 100 + i;
        f.status = i == 3 ? SG_ASSET_FAILED : SG_ASSET_READY;
        if (i >= 5)
            memcpy(f.owner, OWNER_B, sizeof(f.owner));
        assert_int_equal(sg_asset_insert(c, &f, "index", 5), SG_OK);
    }
}

static void older_database_is_brought_up(void **state)
{
    struct scratch *s = *state;
    struct sg_db_conn *c = NULL;
    assert_int_equal(sg_db_conn_open(s->path, SG_DB_WRITER, &c), SG_OK);
    assert_int_equal(sg_db_migrate_to(c, 1), SG_OK);
    add_old_assets(c);
    sg_db_conn_close(&c);
    struct sg_db_params params = {.path = s->path, .readers = 1};
    assert_int_equal(sg_db_open(&params, &s->db), SG_OK);
    assert_int_equal(query_u64(s->db, "PRAGMA user_version"), sg_db_schema_version());
    struct sg_usage now = usage_of(s->db, OWNER_A);
    assert_usage(&now, &(struct sg_usage){.asset_bytes = 100 + 101 + 102 + 104, .assets = 5});
    now = usage_of(s->db, OWNER_B);
    assert_usage(&now, &(struct sg_usage){.asset_bytes = 105 + 106, .assets = 2});
    assert_int_equal(found(s->db, "bunny"), 7);
    struct sg_upload_fields f = new_upload(s->db, SG_UPLOAD_TUS);
    assert_int_equal(f.size_bytes, usage_of(s->db, OWNER_A).reserved_bytes);
    run_sql(s->db, "DELETE FROM assets WHERE owner = '" OWNER_B "'");
    now = usage_of(s->db, OWNER_B);
    assert_usage(&now, &(struct sg_usage){0});
    sg_db_close(&s->db);
    assert_int_equal(sg_db_open(&params, &s->db), SG_OK); /* the step is not taken twice */
    assert_int_equal(usage_of(s->db, OWNER_A).assets, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_change_moves_the_sums, scratch_setup_db,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(active_wholes_are_assets_to_be, scratch_setup_db,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(sums_equal_a_recount, scratch_setup_db, scratch_teardown),
        cmocka_unit_test_setup_teardown(older_database_is_brought_up, scratch_setup,
                                        scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
