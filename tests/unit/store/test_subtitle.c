/* Subtitle tracks in the database. */
#include <stdio.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/store/subtitle_store.h"

#include "asset_support.h"

struct call {
    const char *asset_id, *language, *text;
    struct sg_subtitle track;
    bool created;
    struct sg_buf *buf;
    struct sg_subtitle_list list;
};

static enum sg_error put(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_subtitle_put(c,
                           &(struct sg_subtitle_put){.asset_id = k->asset_id,
                                                     .track = &k->track,
                                                     .text = k->text,
                                                     .text_len = strlen(k->text)},
                           &k->created);
}

static enum sg_error update(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_subtitle_update(c, k->asset_id, &k->track);
}

static enum sg_error drop(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_subtitle_delete(c, k->asset_id, k->language, 99);
}

static enum sg_error get(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_subtitle_get(c, k->asset_id, k->language, &k->track);
}

static enum sg_error text(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_subtitle_text(c, k->asset_id, k->language, &k->buf);
}

static enum sg_error list(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_subtitle_list(c, k->asset_id, &k->list);
}

static struct call sample(const char *asset_id, const char *language)
{
    struct call k = {.asset_id = asset_id, .language = language, .text = "WEBVTT\n\nx"};
    snprintf(k.track.language, sizeof(k.track.language), "%s", language);
    snprintf(k.track.label, sizeof(k.track.label), "Label of %s", language);
    k.track.kind = SG_SUBTITLE_CAPTIONS;
    k.track.cues = 7;
    k.track.created_ms = 10;
    k.track.updated_ms = 20;
    return k;
}

static uint64_t version(struct sg_db *db)
{
    return query_u64(db, "SELECT version FROM assets");
}

static void tracks_come_and_go(void **state)
{
    struct scratch *s = *state;
    struct sg_asset_fields f = sample_asset();
    insert_asset(s->db, f);
    uint64_t before = version(s->db);
    struct call k = sample(f.id, "en");
    assert_int_equal(sg_db_write(s->db, put, &k), SG_OK);
    assert_true(k.created);
    assert_int_equal(version(s->db), before + 1);
    struct call got = {.asset_id = f.id, .language = "en"};
    assert_int_equal(sg_db_read(s->db, get, &got), SG_OK);
    assert_string_equal(got.track.label, "Label of en");
    assert_int_equal(got.track.kind, SG_SUBTITLE_CAPTIONS);
    assert_int_equal(got.track.size_bytes, strlen(k.text));
    assert_int_equal(got.track.cues, 7);
    uint8_t first[SG_SHA256_LEN];
    memcpy(first, got.track.hash, sizeof(first));
    assert_int_equal(sg_db_read(s->db, text, &got), SG_OK);
    assert_int_equal(got.buf->len, strlen(k.text));
    assert_memory_equal(got.buf->data, k.text, got.buf->len);
    sg_buf_unref(got.buf);
    /* Over it: the time of making stays, all else is new. */
    k.text = "WEBVTT\n\nother";
    k.track.created_ms = 30;
    k.track.updated_ms = 40;
    assert_int_equal(sg_db_write(s->db, put, &k), SG_OK);
    assert_false(k.created);
    assert_int_equal(sg_db_read(s->db, get, &got), SG_OK);
    assert_int_equal(got.track.created_ms, 10);
    assert_int_equal(got.track.updated_ms, 40);
    assert_memory_not_equal(got.track.hash, first, sizeof(first));
    assert_int_equal(sg_db_write(s->db, drop, &k), SG_OK);
    assert_int_equal(sg_db_write(s->db, drop, &k), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_db_read(s->db, get, &got), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_db_read(s->db, text, &got), SG_ERR_NOT_FOUND);
    assert_int_equal(version(s->db), before + 3);
    assert_int_equal(query_u64(s->db, "SELECT updated_ms FROM assets"), 99);
}

static void one_default(void **state)
{
    struct scratch *s = *state;
    struct sg_asset_fields f = sample_asset();
    insert_asset(s->db, f);
    static const char *const languages[] = {"fr", "de", "en"};
    for (size_t i = 0; i < SG_ARRAY_LEN(languages); i++) {
        struct call k = sample(f.id, languages[i]);
        k.track.is_default = true;
        assert_int_equal(sg_db_write(s->db, put, &k), SG_OK);
    }
    struct call got = {.asset_id = f.id};
    assert_int_equal(sg_db_read(s->db, list, &got), SG_OK);
    assert_int_equal(got.list.n, 3);
    assert_string_equal(got.list.items[0].language, "de");
    assert_string_equal(got.list.items[1].language, "en");
    assert_true(got.list.items[1].is_default);
    assert_false(got.list.items[0].is_default || got.list.items[2].is_default);
    got.track = got.list.items[2];
    got.track.is_default = true;
    got.track.forced = true;
    got.track.label[0] = 0;
    sg_subtitle_list_free(&got.list);
    assert_int_equal(sg_db_write(s->db, update, &got), SG_OK);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM subtitles WHERE is_default"), 1);
    assert_int_equal(query_u64(s->db, "SELECT forced FROM subtitles WHERE language = 'fr'"
                                      " AND label = '' AND is_default"),
                     1);
    struct call missing = sample(f.id, "es");
    assert_int_equal(sg_db_write(s->db, update, &missing), SG_ERR_NOT_FOUND);
}

static void bounds_and_owners(void **state)
{
    struct scratch *s = *state;
    struct call k = sample("01ARZ3NDEKTSV4RRFFQ69G5FZZ", "en");
    assert_int_equal(sg_db_write(s->db, put, &k), SG_ERR_NOT_FOUND);
    struct sg_asset_fields f = sample_asset();
    insert_asset(s->db, f);
    for (int i = 0; i < SG_SUBTITLES_MAX; i++) {
        char language[SG_LANGUAGE_SIZE];
        snprintf(language, sizeof(language), "en-x-%d", i);
        k = sample(f.id, language);
        k.track.source = SG_SUBTITLE_EMBEDDED;
        assert_int_equal(sg_db_write(s->db, put, &k), SG_OK);
    }
    k = sample(f.id, "en");
    assert_int_equal(sg_db_write(s->db, put, &k), SG_ERR_TOO_LARGE);
    uint64_t before = version(s->db);
    /* What somebody uploaded is not undone by what the file holds; the other way it may be. */
    k = sample(f.id, "en-x-1");
    assert_int_equal(sg_db_write(s->db, put, &k), SG_OK);
    k.track.source = SG_SUBTITLE_EMBEDDED;
    assert_int_equal(sg_db_write(s->db, put, &k), SG_ERR_EXISTS);
    assert_int_equal(version(s->db), before + 1);
    run_sql(s->db, "DELETE FROM assets");
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM subtitles"), 0);
}

static void words_are_read(void **state)
{
    (void)state;
    enum sg_subtitle_kind kind = SG_SUBTITLE_SUBTITLES;
    assert_int_equal(sg_subtitle_kind_parse("captions", &kind), SG_OK);
    assert_int_equal(kind, SG_SUBTITLE_CAPTIONS);
    assert_int_equal(sg_subtitle_kind_parse("Captions", &kind), SG_ERR_INVALID);
    assert_string_equal(sg_subtitle_kind_name(SG_SUBTITLE_SUBTITLES), "subtitles");
    assert_string_equal(sg_subtitle_source_name(SG_SUBTITLE_EMBEDDED), "embedded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tracks_come_and_go, scratch_setup_db, scratch_teardown),
        cmocka_unit_test_setup_teardown(one_default, scratch_setup_db, scratch_teardown),
        cmocka_unit_test_setup_teardown(bounds_and_owners, scratch_setup_db, scratch_teardown),
        cmocka_unit_test(words_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
