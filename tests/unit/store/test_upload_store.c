/* Uploads: rows, offsets, sizes, moves between states, chunks. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "upload_support.h"

static void assert_same(const struct sg_upload_fields *a, const struct sg_upload_fields *b)
{
    assert_string_equal(a->id, b->id);
    assert_string_equal(a->owner, b->owner);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->state, b->state);
    assert_string_equal(a->filename, b->filename);
    assert_string_equal(a->title, b->title);
    assert_string_equal(a->description, b->description);
    assert_string_equal(a->tags_json, b->tags_json);
    assert_string_equal(a->custom_json, b->custom_json);
    assert_int_equal(a->policy, b->policy);
    assert_string_equal(a->metadata, b->metadata);
    assert_string_equal(a->url, b->url);
    assert_string_equal(a->etag, b->etag);
    assert_int_equal(a->has_size, b->has_size);
    assert_int_equal(a->size_bytes, b->size_bytes);
    assert_int_equal(a->offset_bytes, b->offset_bytes);
    assert_int_equal(a->chunk_bytes, b->chunk_bytes);
    assert_int_equal(a->has_sha256, b->has_sha256);
    assert_memory_equal(a->sha256, b->sha256, SG_SHA256_LEN);
    assert_string_equal(a->parts, b->parts);
    assert_string_equal(a->error_slug, b->error_slug);
    assert_string_equal(a->error_detail, b->error_detail);
    assert_int_equal(a->created_ms, b->created_ms);
    assert_int_equal(a->updated_ms, b->updated_ms);
    assert_int_equal(a->expires_ms, b->expires_ms);
}

static void upload_comes_back_as_it_went_in(void **state)
{
    struct scratch *s = *state;
    struct sg_upload_fields f = sample_upload();
    f.offset_bytes = 17;
    assert_int_equal(put_upload(s->db, &f), SG_OK);
    assert_int_equal(put_upload(s->db, &f), SG_ERR_EXISTS);
    struct sg_upload *u = fetch_upload(s->db, f.id);
    assert_same(&u->f, &f);
    sg_upload_free(&u);
    assert_null(u);
    sg_upload_free(&u);
    /* What need not be there: size, digest, policy. */
    f = sample_upload();
    f.policy = -1;
    f.has_size = f.has_sha256 = false;
    f.size_bytes = 0;
    memset(f.sha256, 0, sizeof(f.sha256));
    assert_int_equal(put_upload(s->db, &f), SG_OK);
    u = fetch_upload(s->db, f.id);
    assert_same(&u->f, &f);
    sg_upload_free(&u);
    assert_null(fetch_upload(s->db, "nobody"));
}

static void bad_rows_are_refused(void **state)
{
    struct scratch *s = *state;
    struct sg_upload_fields f = sample_upload();
    f.policy = SG_POLICY_COUNT;
    assert_int_equal(put_upload(s->db, &f), SG_ERR_INVALID);
    f.policy = -2;
    assert_int_equal(put_upload(s->db, &f), SG_ERR_INVALID);
    f = sample_upload();
    f.kind = SG_UPLOAD_KIND_COUNT;
    assert_int_equal(put_upload(s->db, &f), SG_ERR_INVALID);
    f = sample_upload();
    f.state = SG_UPLOAD_STATE_COUNT;
    assert_int_equal(put_upload(s->db, &f), SG_ERR_INVALID);
    f = sample_upload();
    f.size_bytes = (uint64_t)INT64_MAX + 1;
    assert_int_equal(put_upload(s->db, &f), SG_ERR_INVALID);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM uploads"), 0);
    /* An owner's sum that no longer fits refuses the row that brings it there, and only that. */
    f.size_bytes = INT64_MAX;
    assert_int_equal(put_upload(s->db, &f), SG_OK);
    f = sample_upload();
    assert_int_equal(put_upload(s->db, &f), SG_ERR_TOO_LARGE);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM uploads"), 1);
    assert_int_equal(usage_of(s->db, OWNER_A).reserved_bytes, INT64_MAX);
}

static enum sg_error read_one(struct sg_db_conn *c, void *arg)
{
    struct sg_upload *u = NULL;
    enum sg_error err = sg_upload_get(c, arg, &u);
    sg_upload_free(&u);
    return err;
}

static void rows_from_elsewhere_are_refused(void **state)
{
    struct scratch *s = *state;
    static const char *const harm[] = {
        "UPDATE uploads SET policy = 3",
        "UPDATE uploads SET policy = 0, kind = 5",
        "UPDATE uploads SET kind = 0, state = 4",
        "UPDATE uploads SET state = 0, sha256 = x'00'",
        "UPDATE uploads SET sha256 = NULL, owner = owner || 'X'",
    };
    struct sg_upload_fields f = new_upload(s->db, SG_UPLOAD_TUS);
    assert_int_equal(sg_db_read(s->db, read_one, f.id), SG_OK);
    for (size_t i = 0; i < SG_ARRAY_LEN(harm); i++) {
        run_sql(s->db, harm[i]);
        assert_int_equal(sg_db_read(s->db, read_one, f.id), SG_ERR_IO);
    }
}

struct numbers {
    const char *id;
    uint64_t n;
};

static enum sg_error offset_closure(struct sg_db_conn *c, void *arg)
{
    const struct numbers *n = arg;
    return sg_upload_set_offset(c, n->id, n->n, 4000, 8000);
}

static enum sg_error set_offset(struct sg_db *db, const char *id, uint64_t offset)
{
    struct numbers n = {id, offset};
    return sg_db_write(db, offset_closure, &n);
}

static enum sg_error size_closure(struct sg_db_conn *c, void *arg)
{
    const struct numbers *n = arg;
    return sg_upload_set_size(c, n->id, n->n);
}

static enum sg_error set_size(struct sg_db *db, const char *id, uint64_t size)
{
    struct numbers n = {id, size};
    return sg_db_write(db, size_closure, &n);
}

static void assert_offset(struct sg_db *db, const char *id, uint64_t offset)
{
    struct sg_upload *u = fetch_upload(db, id);
    assert_int_equal(u->f.offset_bytes, offset);
    sg_upload_free(&u);
}

static void offsets_only_grow(void **state)
{
    struct scratch *s = *state;
    struct sg_upload_fields f = new_upload(s->db, SG_UPLOAD_TUS);
    assert_int_equal(set_offset(s->db, f.id, 500), SG_OK);
    struct sg_upload *u = fetch_upload(s->db, f.id);
    assert_int_equal(u->f.offset_bytes, 500);
    assert_int_equal(u->f.updated_ms, 4000);
    assert_int_equal(u->f.expires_ms, 8000);
    sg_upload_free(&u);
    assert_int_equal(set_offset(s->db, f.id, 500), SG_OK);
    assert_int_equal(set_offset(s->db, f.id, 499), SG_ERR_CONFLICT);
    assert_int_equal(set_offset(s->db, f.id, 1001), SG_ERR_CONFLICT);
    assert_int_equal(set_offset(s->db, f.id, UINT64_MAX), SG_ERR_INVALID);
    assert_offset(s->db, f.id, 500);
    assert_int_equal(set_offset(s->db, f.id, 1000), SG_OK);
    assert_int_equal(set_offset(s->db, "nobody", 1), SG_ERR_NOT_FOUND);
    assert_int_equal(move_upload(s->db, f.id, SG_UPLOAD_ACTIVE, SG_UPLOAD_PROCESSING), SG_OK);
    assert_int_equal(set_offset(s->db, f.id, 1000), SG_ERR_CONFLICT);
    /* The source of an import may have changed: nobody was promised its bytes. */
    f = new_upload(s->db, SG_UPLOAD_IMPORT);
    assert_int_equal(set_offset(s->db, f.id, 700), SG_OK);
    assert_int_equal(set_offset(s->db, f.id, 0), SG_OK);
    assert_offset(s->db, f.id, 0);
}

static void size_is_set_once(void **state)
{
    struct scratch *s = *state;
    struct sg_upload_fields f = sample_upload();
    f.kind = SG_UPLOAD_TUS;
    f.has_size = false;
    f.offset_bytes = 30;
    assert_int_equal(put_upload(s->db, &f), SG_OK);
    assert_int_equal(set_size(s->db, f.id, 29), SG_ERR_CONFLICT);
    assert_int_equal(set_size(s->db, f.id, 30), SG_OK);
    assert_int_equal(set_size(s->db, f.id, 30), SG_OK);
    assert_int_equal(set_size(s->db, f.id, 31), SG_ERR_CONFLICT);
    struct sg_upload *u = fetch_upload(s->db, f.id);
    assert_true(u->f.has_size);
    assert_int_equal(u->f.size_bytes, 30);
    sg_upload_free(&u);
    assert_int_equal(set_size(s->db, "nobody", 1), SG_ERR_NOT_FOUND);
    assert_int_equal(move_upload(s->db, f.id, SG_UPLOAD_ACTIVE, SG_UPLOAD_FAILED), SG_OK);
    assert_int_equal(set_size(s->db, f.id, 30), SG_ERR_CONFLICT);
}

static enum sg_error etag_closure(struct sg_db_conn *c, void *arg)
{
    return sg_upload_set_etag(c, arg, "W/\"2\"");
}

static void etag_is_replaced(void **state)
{
    struct scratch *s = *state;
    struct sg_upload_fields f = new_upload(s->db, SG_UPLOAD_IMPORT);
    char nobody[] = "nobody";
    assert_int_equal(sg_db_write(s->db, etag_closure, f.id), SG_OK);
    assert_int_equal(sg_db_write(s->db, etag_closure, nobody), SG_ERR_NOT_FOUND);
    struct sg_upload *u = fetch_upload(s->db, f.id);
    assert_string_equal(u->f.etag, "W/\"2\"");
    sg_upload_free(&u);
}

static void one_of_two_moves_wins(void **state)
{
    struct scratch *s = *state;
    struct sg_upload_fields f = new_upload(s->db, SG_UPLOAD_CHUNKED);
    assert_int_equal(move_upload(s->db, f.id, SG_UPLOAD_ACTIVE, SG_UPLOAD_PROCESSING), SG_OK);
    assert_int_equal(move_upload(s->db, f.id, SG_UPLOAD_ACTIVE, SG_UPLOAD_PROCESSING),
                     SG_ERR_CONFLICT);
    assert_int_equal(move_upload(s->db, f.id, SG_UPLOAD_ACTIVE, SG_UPLOAD_FAILED), SG_ERR_CONFLICT);
    struct sg_upload *u = fetch_upload(s->db, f.id);
    assert_int_equal(u->f.state, SG_UPLOAD_PROCESSING);
    assert_string_equal(u->f.error_slug, "");
    assert_int_equal(u->f.updated_ms, 3000);
    assert_int_equal(u->f.expires_ms, 9000);
    sg_upload_free(&u);
    assert_int_equal(move_upload(s->db, f.id, SG_UPLOAD_PROCESSING, SG_UPLOAD_FAILED), SG_OK);
    u = fetch_upload(s->db, f.id);
    assert_int_equal(u->f.state, SG_UPLOAD_FAILED);
    assert_string_equal(u->f.error_slug, "unsupported-media");
    assert_string_equal(u->f.error_detail, "not a film");
    sg_upload_free(&u);
    assert_int_equal(move_upload(s->db, "nobody", SG_UPLOAD_ACTIVE, SG_UPLOAD_DONE),
                     SG_ERR_NOT_FOUND);
    assert_int_equal(move_upload(s->db, f.id, SG_UPLOAD_FAILED, SG_UPLOAD_FAILED), SG_ERR_INVALID);
    assert_int_equal(move_upload(s->db, f.id, SG_UPLOAD_FAILED, SG_UPLOAD_STATE_COUNT),
                     SG_ERR_INVALID);
}

static enum sg_error delete_processing_closure(struct sg_db_conn *c, void *arg)
{
    const struct sg_upload_fields *f = arg;
    return sg_upload_delete_processing(c, f->id);
}

static void only_one_that_is_being_made_goes_with_its_asset(void **state)
{
    struct scratch *s = *state;
    for (unsigned i = 0; i < SG_UPLOAD_STATE_COUNT; i++) {
        struct sg_upload_fields f = sample_upload();
        f.state = (enum sg_upload_state)i;
        bool goes = f.state == SG_UPLOAD_PROCESSING;
        assert_int_equal(put_upload(s->db, &f), SG_OK);
        assert_int_equal(sg_db_write(s->db, delete_processing_closure, &f),
                         goes ? SG_OK : SG_ERR_NOT_FOUND);
        struct sg_upload *u = fetch_upload(s->db, f.id);
        assert_int_equal(u == NULL, goes);
        sg_upload_free(&u);
    }
    assert_int_equal(usage_of(s->db, OWNER_A).uploads, 1);
}

struct racer {
    struct sg_db *db;
    const char *id;
    pthread_barrier_t *start;
    enum sg_error said;
};

static void *race(void *arg)
{
    struct racer *r = arg;
    pthread_barrier_wait(r->start);
    r->said = move_upload(r->db, r->id, SG_UPLOAD_ACTIVE, SG_UPLOAD_PROCESSING);
    return NULL;
}

static void one_of_many_threads_wins(void **state)
{
    enum { RACERS = 8, ROUNDS = 20 };
    struct scratch *s = *state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct sg_upload_fields f = new_upload(s->db, SG_UPLOAD_CHUNKED);
        struct racer racers[RACERS];
        pthread_t threads[RACERS];
        pthread_barrier_t start;
        pthread_barrier_init(&start, NULL, RACERS);
        for (size_t i = 0; i < RACERS; i++) {
            racers[i] = (struct racer){s->db, f.id, &start, SG_ERR_INTERNAL};
            assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
        }
        unsigned won = 0, lost = 0;
        for (size_t i = 0; i < RACERS; i++) {
            pthread_join(threads[i], NULL);
            won += racers[i].said == SG_OK;
            lost += racers[i].said == SG_ERR_CONFLICT;
        }
        pthread_barrier_destroy(&start);
        assert_int_equal(won, 1);
        assert_int_equal(lost, RACERS - 1);
    }
}

struct chunk_read {
    const char *id;
    uint64_t number;
    uint8_t sha256[SG_SHA256_LEN];
};

static enum sg_error chunk_get_closure(struct sg_db_conn *c, void *arg)
{
    struct chunk_read *r = arg;
    return sg_upload_chunk_get(c, r->id, r->number, r->sha256);
}

static void chunks_are_taken_once(void **state)
{
    struct scratch *s = *state;
    struct sg_upload_fields f = new_upload(s->db, SG_UPLOAD_CHUNKED);
    assert_int_equal(put_chunk(s->db, f.id, 3, 100, 0xaa), SG_OK);
    assert_int_equal(put_chunk(s->db, f.id, 3, 100, 0xaa), SG_ERR_EXISTS);
    assert_int_equal(put_chunk(s->db, f.id, 3, 100, 0xab), SG_ERR_CONFLICT);
    assert_int_equal(put_chunk(s->db, f.id, 3, 99, 0xaa), SG_ERR_CONFLICT);
    assert_int_equal(put_chunk(s->db, f.id, 0, 50, 0xbb), SG_OK);
    struct sg_upload *u = fetch_upload(s->db, f.id);
    assert_int_equal(u->f.offset_bytes, 150);
    assert_int_equal(u->f.updated_ms, 2000);
    assert_int_equal(u->f.expires_ms, 7000);
    sg_upload_free(&u);
    struct chunk_read r = {.id = f.id, .number = 3};
    uint8_t want[SG_SHA256_LEN];
    memset(want, 0xaa, sizeof(want));
    assert_int_equal(sg_db_read(s->db, chunk_get_closure, &r), SG_OK);
    assert_memory_equal(r.sha256, want, sizeof(want));
    r.number = 4;
    assert_int_equal(sg_db_read(s->db, chunk_get_closure, &r), SG_ERR_NOT_FOUND);
    assert_memory_equal(r.sha256, want, sizeof(want));
    assert_int_equal(put_chunk(s->db, "nobody", 0, 1, 1), SG_ERR_NOT_FOUND);
    struct sg_upload_fields tus = new_upload(s->db, SG_UPLOAD_TUS);
    assert_int_equal(put_chunk(s->db, tus.id, 0, 1, 1), SG_ERR_CONFLICT);
    assert_int_equal(move_upload(s->db, f.id, SG_UPLOAD_ACTIVE, SG_UPLOAD_PROCESSING), SG_OK);
    assert_int_equal(put_chunk(s->db, f.id, 3, 100, 0xaa), SG_ERR_CONFLICT);
    assert_int_equal(put_chunk(s->db, f.id, 5, 100, 0xaa), SG_ERR_CONFLICT);
    assert_offset(s->db, f.id, 150);
}

static void deletion_takes_the_chunks(void **state)
{
    struct scratch *s = *state;
    struct sg_upload_fields a = new_upload(s->db, SG_UPLOAD_CHUNKED);
    struct sg_upload_fields b = new_upload(s->db, SG_UPLOAD_CHUNKED);
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(put_chunk(s->db, a.id, i, 10, 1), SG_OK);
        assert_int_equal(put_chunk(s->db, b.id, i, 10, 1), SG_OK);
    }
    assert_int_equal(drop_upload(s->db, a.id), SG_OK);
    assert_int_equal(drop_upload(s->db, a.id), SG_ERR_NOT_FOUND);
    assert_null(fetch_upload(s->db, a.id));
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM upload_chunks"), 4);
}

struct runs {
    const char *id;
    unsigned stop_at, n;
    char text[128];
};

static enum sg_error note_run(void *arg, uint64_t first, uint64_t end)
{
    struct runs *r = arg;
    size_t len = strlen(r->text);
    snprintf(r->text + len, sizeof(r->text) - len, "[%llu,%llu)", (unsigned long long)first,
             (unsigned long long)end);
    return ++r->n == r->stop_at ? SG_ERR_CANCELLED : SG_OK;
}

static enum sg_error runs_closure(struct sg_db_conn *c, void *arg)
{
    struct runs *r = arg;
    return sg_upload_chunk_runs(c, r->id, note_run, r);
}

static void runs_join_neighbours(void **state)
{
    static const uint64_t order[] = {9, 0, 4, 5, 1, 2, 11, 6};
    struct scratch *s = *state;
    struct sg_upload_fields f = new_upload(s->db, SG_UPLOAD_CHUNKED);
    struct sg_upload_fields other = new_upload(s->db, SG_UPLOAD_CHUNKED);
    assert_int_equal(put_chunk(s->db, other.id, 3, 10, 1), SG_OK);
    struct runs r = {.id = f.id};
    assert_int_equal(sg_db_read(s->db, runs_closure, &r), SG_OK);
    assert_string_equal(r.text, "");
    for (size_t i = 0; i < SG_ARRAY_LEN(order); i++)
        assert_int_equal(put_chunk(s->db, f.id, order[i], 10, 1), SG_OK);
    assert_int_equal(sg_db_read(s->db, runs_closure, &r), SG_OK);
    assert_string_equal(r.text, "[0,3)[4,7)[9,10)[11,12)");
    /* A visitor's error stops it, at the last run too. */
    for (unsigned stop = 1; stop <= 4; stop++) {
        r = (struct runs){.id = f.id, .stop_at = stop};
        assert_int_equal(sg_db_read(s->db, runs_closure, &r), SG_ERR_CANCELLED);
        assert_int_equal(r.n, stop);
    }
    assert_int_equal(put_chunk(s->db, f.id, 8, 10, 1), SG_OK);
    assert_int_equal(put_chunk(s->db, f.id, 7, 10, 1), SG_OK);
    assert_int_equal(put_chunk(s->db, f.id, 3, 10, 1), SG_OK);
    r = (struct runs){.id = f.id};
    assert_int_equal(sg_db_read(s->db, runs_closure, &r), SG_OK);
    assert_string_equal(r.text, "[0,10)[11,12)");
}

static void names_are_stable(void **state)
{
    (void)state;
    assert_string_equal(sg_upload_kind_name(SG_UPLOAD_CHUNKED), "chunked");
    assert_string_equal(sg_upload_kind_name(SG_UPLOAD_TUS), "tus");
    assert_string_equal(sg_upload_kind_name(SG_UPLOAD_TUS_PARTIAL), "tus-partial");
    assert_string_equal(sg_upload_kind_name(SG_UPLOAD_TUS_FINAL), "tus-final");
    assert_string_equal(sg_upload_kind_name(SG_UPLOAD_IMPORT), "import");
    assert_string_equal(sg_upload_kind_name(SG_UPLOAD_KIND_COUNT), "unknown");
    assert_string_equal(sg_upload_state_name(SG_UPLOAD_ACTIVE), "active");
    assert_string_equal(sg_upload_state_name(SG_UPLOAD_PROCESSING), "processing");
    assert_string_equal(sg_upload_state_name(SG_UPLOAD_DONE), "done");
    assert_string_equal(sg_upload_state_name(SG_UPLOAD_FAILED), "failed");
    assert_string_equal(sg_upload_state_name(SG_UPLOAD_STATE_COUNT), "unknown");
}

int main(void)
{
#define DB_TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup_db, scratch_teardown)
    const struct CMUnitTest tests[] = {
        DB_TEST(upload_comes_back_as_it_went_in),
        DB_TEST(bad_rows_are_refused),
        DB_TEST(rows_from_elsewhere_are_refused),
        DB_TEST(offsets_only_grow),
        DB_TEST(size_is_set_once),
        DB_TEST(etag_is_replaced),
        DB_TEST(one_of_two_moves_wins),
        DB_TEST(only_one_that_is_being_made_goes_with_its_asset),
        DB_TEST(one_of_many_threads_wins),
        DB_TEST(chunks_are_taken_once),
        DB_TEST(deletion_takes_the_chunks),
        DB_TEST(runs_join_neighbours),
        cmocka_unit_test(names_are_stable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
