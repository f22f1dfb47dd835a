/* Assets: rows and their versions. */
#include <stdlib.h>
#include <string.h>

#include "asset_support.h"

static enum sg_error update_closure(struct sg_db_conn *c, void *arg)
{
    struct asset_change *ch = arg;
    return sg_asset_update(c, &ch->f, ch->version);
}

static enum sg_error delete_closure(struct sg_db_conn *c, void *arg)
{
    struct asset_change *ch = arg;
    return sg_asset_delete(c, ch->f.id, ch->version);
}

static enum sg_error fail_closure(struct sg_db_conn *c, void *arg)
{
    struct asset_change *ch = arg;
    return sg_asset_mark_failed(c, ch->f.id, "cannot be decoded");
}

struct fetch {
    const char *id;
    struct sg_asset *asset;
    struct sg_buf *index;
};

static enum sg_error get_closure(struct sg_db_conn *c, void *arg)
{
    struct fetch *f = arg;
    return sg_asset_get(c, f->id, &f->asset);
}

static enum sg_error index_closure(struct sg_db_conn *c, void *arg)
{
    struct fetch *f = arg;
    return sg_asset_get_index(c, f->id, &f->index);
}

static void assert_same(const struct sg_asset_fields *a, const struct sg_asset_fields *b)
{
    assert_string_equal(a->id, b->id);
    assert_string_equal(a->owner, b->owner);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->policy, b->policy);
    assert_string_equal(a->title, b->title);
    assert_string_equal(a->description, b->description);
    assert_string_equal(a->tags_json, b->tags_json);
    assert_string_equal(a->custom_json, b->custom_json);
    assert_string_equal(a->filename, b->filename);
    assert_int_equal(a->size_bytes, b->size_bytes);
    assert_memory_equal(a->sha256, b->sha256, SG_SHA256_LEN);
    assert_string_equal(a->content_type, b->content_type);
    assert_int_equal(a->duration_ms, b->duration_ms);
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_string_equal(a->video_codec, b->video_codec);
    assert_string_equal(a->audio_codec, b->audio_codec);
    assert_int_equal(a->frame_rate_num, b->frame_rate_num);
    assert_int_equal(a->frame_rate_den, b->frame_rate_den);
    assert_string_equal(a->error, b->error);
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->created_ms, b->created_ms);
    assert_int_equal(a->updated_ms, b->updated_ms);
}

static void asset_comes_back_as_it_went_in(void **state)
{
    struct scratch *s = *state;
    uint8_t index[1000];
    memset(index, 0xa5, sizeof(index));
    struct asset_change ch = {.f = sample_asset(), .index = index, .index_len = sizeof(index)};
    assert_int_equal(sg_db_write(s->db, insert_asset_closure, &ch), SG_OK);
    assert_int_equal(sg_db_write(s->db, insert_asset_closure, &ch), SG_ERR_EXISTS);
    struct fetch f = {.id = ch.f.id};
    assert_int_equal(sg_db_read(s->db, get_closure, &f), SG_OK);
    assert_same(&f.asset->f, &ch.f);
    assert_true(sg_asset_weight(f.asset) > sizeof(struct sg_asset) + strlen(ch.f.title));
    sg_asset_unref(sg_asset_ref(f.asset));
    sg_asset_unref(f.asset);
    assert_int_equal(sg_db_read(s->db, index_closure, &f), SG_OK);
    assert_int_equal(f.index->len, sizeof(index));
    assert_memory_equal(f.index->data, index, sizeof(index));
    sg_buf_unref(f.index);
    struct sg_asset_fields other = sample_asset();
    insert_asset(s->db, other);
    f = (struct fetch){.id = other.id};
    assert_int_equal(sg_db_read(s->db, index_closure, &f), SG_ERR_NOT_FOUND);
    f.id = "nobody";
    assert_int_equal(sg_db_read(s->db, get_closure, &f), SG_ERR_NOT_FOUND);
    assert_null(f.asset);
}

static void bad_rows_are_refused_whole(void **state)
{
    struct scratch *s = *state;
    struct asset_change ch = {.f = sample_asset()};
    ch.f.tags_json = "{\"not\":\"an array\"}";
    assert_int_equal(sg_db_write(s->db, insert_asset_closure, &ch), SG_ERR_INVALID);
    ch.f.tags_json = "[1]";
    assert_int_equal(sg_db_write(s->db, insert_asset_closure, &ch), SG_ERR_INVALID);
    ch.f.tags_json = "[]";
    ch.f.size_bytes = UINT64_MAX;
    assert_int_equal(sg_db_write(s->db, insert_asset_closure, &ch), SG_ERR_INVALID);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM assets"), 0);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM asset_tags"), 0);
    ch.f.size_bytes = INT64_MAX;
    assert_int_equal(sg_db_write(s->db, insert_asset_closure, &ch), SG_OK);
    /* A policy this program does not know must not pass for one it does. */
    run_sql(s->db, "UPDATE assets SET policy = 77");
    struct fetch f = {.id = ch.f.id};
    assert_int_equal(sg_db_read(s->db, get_closure, &f), SG_ERR_IO);
}

static void update_needs_the_right_version(void **state)
{
    struct scratch *s = *state;
    struct asset_change ch = {.f = sample_asset(), .version = 1};
    insert_asset(s->db, ch.f);
    ch.f.title = "Sintel";
    ch.f.description = "";
    ch.f.tags_json = "[\"dragon\"]";
    ch.f.policy = SG_POLICY_PUBLIC;
    ch.f.updated_ms = 2000;
    ch.f.size_bytes = 1; /* not one of the mutable fields */
    assert_int_equal(sg_db_write(s->db, update_closure, &ch), SG_OK);
    assert_int_equal(sg_db_write(s->db, update_closure, &ch), SG_ERR_PRECONDITION_FAILED);
    struct fetch f = {.id = ch.f.id};
    assert_int_equal(sg_db_read(s->db, get_closure, &f), SG_OK);
    assert_string_equal(f.asset->f.title, "Sintel");
    assert_int_equal(f.asset->f.version, 2);
    assert_int_equal(f.asset->f.updated_ms, 2000);
    assert_int_equal(f.asset->f.created_ms, 1000);
    assert_int_equal(f.asset->f.policy, SG_POLICY_PUBLIC);
    assert_int_equal(f.asset->f.size_bytes, 123456789012);
    sg_asset_unref(f.asset);
    assert_int_equal(found(s->db, "bunny"), 0);
    assert_int_equal(found(s->db, "sintel"), 1);
    assert_int_equal(tagged(s->db, "cartoon"), 0);
    assert_int_equal(tagged(s->db, "dragon"), 1);
    sg_ulid_make(ch.f.id);
    assert_int_equal(sg_db_write(s->db, update_closure, &ch), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_db_write(s->db, fail_closure, &ch), SG_ERR_NOT_FOUND);
}

static void failure_is_marked(void **state)
{
    struct scratch *s = *state;
    struct asset_change ch = {.f = sample_asset()};
    insert_asset(s->db, ch.f);
    assert_int_equal(sg_db_write(s->db, fail_closure, &ch), SG_OK);
    struct fetch f = {.id = ch.f.id};
    assert_int_equal(sg_db_read(s->db, get_closure, &f), SG_OK);
    assert_int_equal(f.asset->f.status, SG_ASSET_FAILED);
    assert_string_equal(f.asset->f.error, "cannot be decoded");
    assert_int_equal(f.asset->f.version, 2);
    assert_true(f.asset->f.updated_ms > 1000);
    sg_asset_unref(f.asset);
    assert_int_equal(sg_db_write(s->db, fail_closure, &ch), SG_ERR_EXISTS);
    assert_int_equal(query_u64(s->db, "SELECT version FROM assets"), 2);
}

static void deletion_leaves_nothing(void **state)
{
    struct scratch *s = *state;
    struct asset_change ch = {.f = sample_asset(), .version = 2, .index = "i", .index_len = 1};
    assert_int_equal(sg_db_write(s->db, insert_asset_closure, &ch), SG_OK);
    assert_int_equal(sg_db_write(s->db, delete_closure, &ch), SG_ERR_PRECONDITION_FAILED);
    ch.version = 0;
    assert_int_equal(sg_db_write(s->db, delete_closure, &ch), SG_OK);
    assert_int_equal(sg_db_write(s->db, delete_closure, &ch), SG_ERR_NOT_FOUND);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM assets"), 0);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM asset_tags"), 0);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM asset_indexes"), 0);
    assert_int_equal(found(s->db, "bunny"), 0);
    run_sql(s->db, CHECK_SEARCH);
    /* The next asset may get the number of the last: it must not inherit its words. */
    ch.f = sample_asset();
    ch.f.title = "Sintel";
    insert_asset(s->db, ch.f);
    assert_int_equal(found(s->db, "bunny"), 0);
    assert_int_equal(found(s->db, "sintel"), 1);
}

static enum sg_error finish_closure(struct sg_db_conn *c, void *arg)
{
    struct asset_change *ch = arg;
    return sg_asset_finish(c, &ch->f, ch->index, ch->index_len);
}

static void add_processing(struct sg_db *db, struct asset_change *ch)
{
    ch->f = sample_asset();
    ch->f.status = SG_ASSET_PROCESSING;
    ch->f.size_bytes = 0;
    ch->f.video_codec = ch->f.audio_codec = ch->f.content_type = "";
    insert_asset(db, ch->f);
}

static void finish_keeps_what_people_wrote(void **state)
{
    struct scratch *s = *state;
    struct asset_change ch = {.index = "idx", .index_len = 3};
    add_processing(s->db, &ch);
    struct asset_change edit = {.f = ch.f, .version = 1};
    edit.f.title = "Sintel";
    edit.f.tags_json = "[\"dragon\"]";
    edit.f.policy = SG_POLICY_PUBLIC;
    assert_int_equal(sg_db_write(s->db, update_closure, &edit), SG_OK);
    struct sg_asset_fields want = sample_asset(); /* what the upload turned out to be */
    memcpy(want.id, ch.f.id, sizeof(want.id));
    want.updated_ms = 7000;
    ch.f = want;
    assert_int_equal(sg_db_write(s->db, finish_closure, &ch), SG_OK);
    want.title = "Sintel";
    want.tags_json = "[\"dragon\"]";
    want.policy = SG_POLICY_PUBLIC;
    want.version = 3;
    struct fetch f = {.id = want.id};
    assert_int_equal(sg_db_read(s->db, get_closure, &f), SG_OK);
    assert_same(&f.asset->f, &want);
    sg_asset_unref(f.asset);
    assert_int_equal(sg_db_read(s->db, index_closure, &f), SG_OK);
    assert_int_equal(f.index->len, 3);
    sg_buf_unref(f.index);
    assert_int_equal(found(s->db, "sintel"), 1);
    assert_int_equal(found(s->db, "bunny"), 0);
    assert_int_equal(tagged(s->db, "dragon"), 1);
    run_sql(s->db, CHECK_SEARCH);
    /* Once only: it is no longer processing. */
    assert_int_equal(sg_db_write(s->db, finish_closure, &ch), SG_ERR_NOT_FOUND);
    sg_ulid_make(ch.f.id);
    assert_int_equal(sg_db_write(s->db, finish_closure, &ch), SG_ERR_NOT_FOUND);
}

static void finish_may_be_a_failure(void **state)
{
    struct scratch *s = *state;
    struct asset_change ch = {0};
    add_processing(s->db, &ch);
    run_sql(s->db, "INSERT INTO asset_indexes SELECT seq, x'00' FROM assets");
    ch.f.status = SG_ASSET_FAILED;
    ch.f.error = "not a film";
    assert_int_equal(sg_db_write(s->db, finish_closure, &ch), SG_OK);
    struct fetch f = {.id = ch.f.id};
    assert_int_equal(sg_db_read(s->db, get_closure, &f), SG_OK);
    assert_int_equal(f.asset->f.status, SG_ASSET_FAILED);
    assert_string_equal(f.asset->f.error, "not a film");
    sg_asset_unref(f.asset);
    assert_int_equal(sg_db_read(s->db, index_closure, &f), SG_ERR_NOT_FOUND);
}

struct content {
    uint8_t sha256[SG_SHA256_LEN];
    uint64_t size_bytes;
    struct sg_asset *asset;
};

static enum sg_error content_closure(struct sg_db_conn *c, void *arg)
{
    struct content *w = arg;
    return sg_asset_find_content(c, w->sha256, w->size_bytes, &w->asset);
}

static void content_finds_the_oldest_ready_one(void **state)
{
    struct scratch *s = *state;
    struct sg_asset_fields f = sample_asset();
    struct content w = {.size_bytes = f.size_bytes};
    memcpy(w.sha256, f.sha256, sizeof(w.sha256));
    assert_int_equal(sg_db_read(s->db, content_closure, &w), SG_ERR_NOT_FOUND);
    f.created_ms = 3000;
    insert_asset(s->db, f);
    struct sg_asset_fields oldest = sample_asset();
    oldest.created_ms = 2000;
    insert_asset(s->db, oldest);
    for (unsigned i = 0; i < SG_ASSET_STATUS_COUNT; i++) {
        f = sample_asset(); /* older still, but nothing to share */
        f.status = (enum sg_asset_status)i;
        if (f.status != SG_ASSET_READY)
            insert_asset(s->db, f);
    }
    f = sample_asset();
    f.sha256[31] = 1;
    insert_asset(s->db, f);
    f = sample_asset();
    f.size_bytes++;
    insert_asset(s->db, f);
    assert_int_equal(sg_db_read(s->db, content_closure, &w), SG_OK);
    assert_string_equal(w.asset->f.id, oldest.id);
    sg_asset_unref(w.asset);
    w.asset = NULL;
    w.size_bytes--;
    assert_int_equal(sg_db_read(s->db, content_closure, &w), SG_ERR_NOT_FOUND);
    assert_null(w.asset);
}

static enum sg_error count_id(void *arg, const char *id)
{
    unsigned *n = arg;
    assert_int_equal(strlen(id), SG_ULID_SIZE - 1);
    return ++*n == 3 ? SG_ERR_CANCELLED : SG_OK;
}

static enum sg_error each_closure(struct sg_db_conn *c, void *arg)
{
    return sg_asset_each_id(c, count_id, arg);
}

static void each_id_visits_all_until_told_to_stop(void **state)
{
    struct scratch *s = *state;
    unsigned n = 0;
    insert_asset(s->db, sample_asset());
    insert_asset(s->db, sample_asset());
    assert_int_equal(sg_db_read(s->db, each_closure, &n), SG_OK);
    assert_int_equal(n, 2);
    insert_asset(s->db, sample_asset());
    insert_asset(s->db, sample_asset());
    n = 0;
    assert_int_equal(sg_db_read(s->db, each_closure, &n), SG_ERR_CANCELLED);
    assert_int_equal(n, 3);
}

static void names_parse_back(void **state)
{
    (void)state;
    enum sg_asset_status status = SG_ASSET_CREATED;
    enum sg_asset_policy policy = SG_POLICY_PUBLIC;
    enum sg_asset_sort sort = SG_SORT_CREATED_DESC;
    for (unsigned i = 0; i < SG_ASSET_STATUS_COUNT; i++) {
        const char *name = sg_asset_status_name((enum sg_asset_status)i);
        assert_int_equal(sg_asset_status_parse(name, &status), SG_OK);
        assert_int_equal(status, i);
    }
    for (unsigned i = 0; i < SG_POLICY_COUNT; i++) {
        const char *name = sg_asset_policy_name((enum sg_asset_policy)i);
        assert_int_equal(sg_asset_policy_parse(name, &policy), SG_OK);
        assert_int_equal(policy, i);
    }
    assert_int_equal(sg_asset_status_parse("READY", &status), SG_ERR_INVALID);
    assert_int_equal(sg_asset_policy_parse("", &policy), SG_ERR_INVALID);
    assert_int_equal(sg_asset_sort_parse("-updated_at", &sort), SG_OK);
    assert_int_equal(sort, SG_SORT_UPDATED_DESC);
    assert_int_equal(sg_asset_sort_parse("size", &sort), SG_ERR_INVALID);
}

int main(void)
{
#define DB_TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup_db, scratch_teardown)
    const struct CMUnitTest tests[] = {
        DB_TEST(asset_comes_back_as_it_went_in),
        DB_TEST(bad_rows_are_refused_whole),
        DB_TEST(update_needs_the_right_version),
        DB_TEST(failure_is_marked),
        DB_TEST(deletion_leaves_nothing),
        DB_TEST(each_id_visits_all_until_told_to_stop),
        DB_TEST(finish_keeps_what_people_wrote),
        DB_TEST(finish_may_be_a_failure),
        DB_TEST(content_finds_the_oldest_ready_one),
        cmocka_unit_test(names_parse_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
