/* Renditions: rows, names that come once, and what becomes of them with their job. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/store/asset_store.h"
#include "streamgate/store/rendition_store.h"

#include "asset_support.h"
#include "job_support.h"

struct call {
    struct sg_rendition r;
    struct sg_rendition_list list;
    const char *id;
    bool found;
    struct sg_asset *asset;
    char ids[4][SG_ULID_SIZE];
    size_t n;
};

static enum sg_error insert_closure(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_rendition_insert(c, &k->r);
}

static enum sg_error put(struct sg_db *db, const char *asset, const char *name, const char *job,
                         struct sg_rendition *out)
{
    static uint64_t now_ms = 1000;
    struct call k = {.r = {.width = 640,
                           .height = 360,
                           .bitrate = 800000,
                           .stream = 1,
                           .channels = 2,
                           .created_ms = now_ms++}};
    sg_ulid_make(k.r.id);
    memcpy(k.r.asset_id, asset, SG_ULID_SIZE);
    memcpy(k.r.job_id, job, strlen(job) + 1);
    snprintf(k.r.name, sizeof k.r.name, "%s", name);
    enum sg_error err = sg_db_write(db, insert_closure, &k);
    if (!err && out)
        *out = k.r;
    return err;
}

static enum sg_error list_closure(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_rendition_list(c, k->id, &k->list);
}

static struct sg_rendition_list list_of(struct sg_db *db, const char *asset)
{
    struct call k = {.id = asset};
    assert_int_equal(sg_db_read(db, list_closure, &k), SG_OK);
    return k.list;
}

static enum sg_error delete_closure(struct sg_db_conn *c, void *arg)
{
    return sg_rendition_delete(c, arg);
}

static enum sg_error finish_closure(struct sg_db_conn *c, void *arg)
{
    const struct sg_rendition_done done = {
        .id = arg, .size_bytes = 77, .now_ms = 5, .index = "index", .index_len = 5};
    return sg_rendition_finish(c, &done);
}

static enum sg_error ready_closure(struct sg_db_conn *c, void *arg)
{
    return sg_rendition_asset_ready(c, arg, 4000);
}

static enum sg_error exists_closure(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_rendition_exists(c, k->id, &k->found);
}

static enum sg_error missing_closure(struct sg_db_conn *c, void *arg)
{
    return sg_rendition_mark_missing(c, arg, "its file is missing");
}

static enum sg_error take_id(void *arg, const char *id)
{
    struct call *k = arg;
    memcpy(k->ids[k->n++], id, SG_ULID_SIZE);
    return k->n == 4 ? SG_ERR_CANCELLED : SG_OK;
}

static enum sg_error each_closure(struct sg_db_conn *c, void *arg)
{
    return sg_rendition_each_ready(c, take_id, arg);
}

static enum sg_error asset_closure(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_asset_get(c, k->id, &k->asset);
}

static void put_asset(struct sg_db *db, enum sg_asset_status status, char id[SG_ULID_SIZE])
{
    struct sg_asset_fields f = sample_asset();
    f.status = status;
    insert_asset(db, f);
    memcpy(id, f.id, SG_ULID_SIZE);
}

static void expect_asset(struct sg_db *db, const char *id, enum sg_asset_status status,
                         const char *error)
{
    struct call k = {.id = id};
    assert_int_equal(sg_db_read(db, asset_closure, &k), SG_OK);
    assert_int_equal(k.asset->f.status, status);
    assert_string_equal(k.asset->f.error, error);
    sg_asset_unref(k.asset);
}

static void expect(struct sg_db *db, const char *asset, size_t i, enum sg_rendition_state state,
                   const char *error)
{
    struct sg_rendition_list l = list_of(db, asset);
    assert_true(i < l.n);
    assert_int_equal(l.items[i].state, state);
    assert_string_equal(l.items[i].error, error);
    sg_rendition_list_free(&l);
}

#define NO_JOB "01AAAAAAAAAAAAAAAAAAAAAAAA"

static void test_rows(void **state)
{
    struct sg_db *db = ((struct scratch *)*state)->db;
    char asset[SG_ULID_SIZE];
    struct sg_rendition r, second;
    put_asset(db, SG_ASSET_READY, asset);
    struct sg_rendition_list l = list_of(db, asset);
    assert_int_equal(l.n, 0);
    assert_int_equal(put(db, asset, "360p", NO_JOB, &r), SG_OK);
    assert_int_equal(put(db, asset, "720p", NO_JOB, &second), SG_OK);
    assert_string_equal(r.dir, "360p");
    l = list_of(db, asset);
    assert_int_equal(l.n, 2);
    const struct sg_rendition *got = &l.items[0];
    assert_string_equal(got->id, r.id);
    assert_string_equal(got->asset_id, asset);
    assert_string_equal(got->name, "360p");
    assert_string_equal(got->dir, "360p");
    assert_string_equal(got->job_id, NO_JOB);
    assert_int_equal(got->kind, SG_RENDITION_VIDEO);
    assert_int_equal(got->state, SG_RENDITION_WAITING);
    assert_int_equal(got->width, 640);
    assert_int_equal(got->height, 360);
    assert_int_equal(got->bitrate, 800000);
    assert_int_equal(got->stream, 1);
    assert_int_equal(got->channels, 2);
    assert_null(got->index);
    sg_rendition_list_free(&l);

    assert_int_equal(sg_db_write(db, finish_closure, r.id), SG_OK);
    assert_int_equal(sg_db_write(db, finish_closure, r.id), SG_ERR_NOT_FOUND); /* not twice */
    l = list_of(db, asset);
    assert_int_equal(l.items[0].state, SG_RENDITION_READY);
    assert_int_equal(l.items[0].size_bytes, 77);
    assert_int_equal(l.items[0].updated_ms, 5);
    assert_int_equal(l.items[0].index->len, 5);
    assert_memory_equal(l.items[0].index->data, "index", 5);
    sg_rendition_list_free(&l);
    struct call k = {0};
    assert_int_equal(sg_db_read(db, each_closure, &k), SG_OK);
    assert_int_equal(k.n, 1);
    assert_string_equal(k.ids[0], r.id);
    k.n = 3;
    assert_int_equal(sg_db_read(db, each_closure, &k), SG_ERR_CANCELLED); /* the visit's error */

    assert_int_equal(sg_db_write(db, missing_closure, second.id), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_db_write(db, missing_closure, r.id), SG_OK);
    expect(db, asset, 0, SG_RENDITION_FAILED, "its file is missing");
    k = (struct call){.id = r.id};
    assert_int_equal(sg_db_read(db, exists_closure, &k), SG_OK);
    assert_true(k.found);
    assert_int_equal(sg_db_write(db, delete_closure, r.id), SG_OK);
    assert_int_equal(sg_db_write(db, delete_closure, r.id), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_db_read(db, exists_closure, &k), SG_OK);
    assert_false(k.found);
}

static void test_with_the_asset(void **state)
{
    struct sg_db *db = ((struct scratch *)*state)->db;
    char asset[SG_ULID_SIZE], sql[96];
    put_asset(db, SG_ASSET_READY, asset);
    assert_int_equal(put(db, NO_JOB, "360p", NO_JOB, NULL), SG_ERR_NOT_FOUND);
    assert_int_equal(put(db, asset, "360p", NO_JOB, NULL), SG_OK);
    snprintf(sql, sizeof sql, "DELETE FROM assets WHERE id = '%s'", asset);
    run_sql(db, sql);
    assert_int_equal(query_u64(db, "SELECT count(*) FROM renditions"), 0);
    assert_int_equal(query_u64(db, "SELECT count(*) FROM rendition_names"), 0);
}

static void test_room(void **state)
{
    struct sg_db *db = ((struct scratch *)*state)->db;
    char asset[SG_ULID_SIZE], name[SG_RENDITION_NAME_SIZE];
    put_asset(db, SG_ASSET_READY, asset);
    for (unsigned i = 0; i < SG_RENDITIONS_MAX; i++) {
        snprintf(name, sizeof name, "r%u", i);
        assert_int_equal(put(db, asset, name, NO_JOB, NULL), SG_OK);
    }
    assert_int_equal(put(db, asset, "one-more", NO_JOB, NULL), SG_ERR_TOO_LARGE);
    assert_int_equal(put(db, asset, "r3", NO_JOB, NULL), SG_ERR_EXISTS);
    struct sg_rendition_list l = list_of(db, asset);
    assert_int_equal(l.n, SG_RENDITIONS_MAX);
    for (size_t i = 0; i < l.n; i++) { /* in order of creation */
        snprintf(name, sizeof name, "r%u", (unsigned)i);
        assert_string_equal(l.items[i].name, name);
    }
    sg_rendition_list_free(&l);
    /* One that failed takes its own place only. */
    run_sql(db, "UPDATE renditions SET state = 2 WHERE name = 'r3'");
    assert_int_equal(put(db, asset, "one-more", NO_JOB, NULL), SG_ERR_TOO_LARGE);
    assert_int_equal(put(db, asset, "r3", NO_JOB, NULL), SG_OK);
    assert_int_equal(put(db, asset, "r3", NO_JOB, NULL), SG_ERR_EXISTS);
    l = list_of(db, asset);
    assert_int_equal(l.n, SG_RENDITIONS_MAX);
    assert_string_equal(l.items[l.n - 1].dir, "r3-2");
    assert_int_equal(l.items[l.n - 1].state, SG_RENDITION_WAITING);
    sg_rendition_list_free(&l);
}

/* Whatever is made and dropped in whatever order: no name in URLs comes twice. */
static void test_dirs_come_once(void **state)
{
    struct sg_db *db = ((struct scratch *)*state)->db;
    static const char *const names[] = {"720p-2", "720p",   "720p", "720p-2", "720p-2-2", "720p",
                                        "720p",   "720p-3", "720p", "720p-4", "720p-5",   "720p"};
    char asset[SG_ULID_SIZE], given[SG_ARRAY_LEN(names)][SG_RENDITION_DIR_SIZE];
    put_asset(db, SG_ASSET_READY, asset);
    for (size_t i = 0; i < SG_ARRAY_LEN(names); i++) {
        struct sg_rendition r;
        assert_int_equal(put(db, asset, names[i], NO_JOB, &r), SG_OK);
        assert_int_equal(strncmp(r.dir, r.name, strlen(r.name)), 0);
        memcpy(given[i], r.dir, sizeof r.dir);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(given[k], r.dir);
        assert_int_equal(sg_db_write(db, delete_closure, r.id), SG_OK);
    }
    assert_string_equal(given[0], "720p-2");
    assert_string_equal(given[1], "720p");
    assert_string_equal(given[2], "720p-3");
    assert_int_equal(put(db, asset, "720p", NO_JOB, NULL), SG_OK);
    assert_int_equal(put(db, asset, "720p", NO_JOB, NULL), SG_ERR_EXISTS);
}

static void test_names_end(void **state)
{
    struct sg_db *db = ((struct scratch *)*state)->db;
    char asset[SG_ULID_SIZE];
    struct sg_rendition r;
    put_asset(db, SG_ASSET_READY, asset);
    assert_int_equal(put(db, asset, "sixteen-letters-", NO_JOB, &r), SG_OK);
    assert_int_equal(sg_db_write(db, delete_closure, r.id), SG_OK);
    run_sql(db, "UPDATE rendition_names SET n = 9998");
    assert_int_equal(put(db, asset, "sixteen-letters-", NO_JOB, &r), SG_OK);
    assert_string_equal(r.dir, "sixteen-letters--9999");
    assert_int_equal(sg_db_write(db, delete_closure, r.id), SG_OK);
    assert_int_equal(put(db, asset, "sixteen-letters-", NO_JOB, &r), SG_ERR_TOO_LARGE);
}

/* ---- with the job ---- */

#define CAPS "{\"transcode\":9,\"transcode-first\":9,\"remux\":9}"

/* An asset in PROCESSING with a first job of two renditions and one after it of one. */
struct scene {
    struct sg_db *db;
    char asset[SG_ULID_SIZE], first[SG_ULID_SIZE], later[SG_ULID_SIZE];
    struct sg_rendition low, sound, high;
};

static struct scene scene_of(void **state)
{
    struct scene s = {.db = ((struct scratch *)*state)->db};
    const char *needs = s.first;
    put_asset(s.db, SG_ASSET_PROCESSING, s.asset);
    assert_int_equal(put_job(s.db, (struct job_wish){.type = "transcode-first"}, s.first), SG_OK);
    assert_int_equal(put_job(s.db,
                             (struct job_wish){.type = "transcode", .needs = &needs, .n_needs = 1},
                             s.later),
                     SG_OK);
    char sql[128];
    snprintf(sql, sizeof sql, "UPDATE jobs SET asset_id = '%s'", s.asset);
    run_sql(s.db, sql);
    assert_int_equal(put(s.db, s.asset, "360p", s.first, &s.low), SG_OK);
    assert_int_equal(put(s.db, s.asset, "audio", s.first, &s.sound), SG_OK);
    assert_int_equal(put(s.db, s.asset, "720p", s.later, &s.high), SG_OK);
    return s;
}

/* Of the job that is to be had; detail: what it failed of. */
static void end_next(struct sg_db *db, enum sg_job_ending ending, const char *detail)
{
    struct sg_job *job = claim_job(db, CAPS, UINT64_C(1) << 42);
    assert_non_null(job);
    char sql[160];
    snprintf(sql, sizeof sql, "UPDATE jobs SET error_detail = '%s' WHERE id = '%s'", detail,
             job->f.id);
    run_sql(db, sql);
    assert_int_equal(end_job(db, job, ending, 500), SG_OK);
    sg_job_free(&job);
}

static void test_failed(void **state)
{
    struct scene s = scene_of(state);
    end_next(s.db, SG_JOB_END_FAILED, "it is damaged");
    expect(s.db, s.asset, 0, SG_RENDITION_FAILED, "it is damaged");
    expect(s.db, s.asset, 1, SG_RENDITION_FAILED, "it is damaged");
    assert_int_equal(state_of(s.db, s.later), SG_JOB_FAILED);
    struct sg_rendition_list l = list_of(s.db, s.asset);
    assert_int_equal(l.items[2].state, SG_RENDITION_FAILED);
    assert_non_null(strstr(l.items[2].error, "did not end well"));
    sg_rendition_list_free(&l);
    /* The reason is that of the first, not that the others failed with it. */
    expect_asset(s.db, s.asset, SG_ASSET_FAILED, "it is damaged");

    assert_int_equal(retry_job(s.db, s.first), SG_OK);
    for (size_t i = 0; i < 3; i++)
        expect(s.db, s.asset, i, SG_RENDITION_WAITING, "");
    expect_asset(s.db, s.asset, SG_ASSET_PROCESSING, "");
    assert_int_equal(sg_db_write(s.db, finish_closure, s.low.id), SG_OK);
    assert_int_equal(sg_db_write(s.db, finish_closure, s.sound.id), SG_OK);
    assert_int_equal(sg_db_write(s.db, ready_closure, s.asset), SG_OK);
    assert_int_equal(sg_db_write(s.db, ready_closure, s.asset), SG_ERR_NOT_FOUND);
    end_next(s.db, SG_JOB_END_DONE, "");
    expect_asset(s.db, s.asset, SG_ASSET_READY, "");

    /* What fails now is no loss to what there is; its retry no step back. */
    end_next(s.db, SG_JOB_END_FAILED, "no room");
    expect(s.db, s.asset, 2, SG_RENDITION_FAILED, "no room");
    expect_asset(s.db, s.asset, SG_ASSET_READY, "");
    assert_int_equal(retry_job(s.db, s.later), SG_OK);
    expect(s.db, s.asset, 0, SG_RENDITION_READY, "");
    expect(s.db, s.asset, 2, SG_RENDITION_WAITING, "");
    expect_asset(s.db, s.asset, SG_ASSET_READY, "");
}

static void test_tried_again(void **state)
{
    struct scene s = scene_of(state);
    end_next(s.db, SG_JOB_END_RETRY, "not this time");
    expect(s.db, s.asset, 0, SG_RENDITION_WAITING, "");
    end_next(s.db, SG_JOB_END_BACK, "");
    expect(s.db, s.asset, 0, SG_RENDITION_WAITING, "");
    expect_asset(s.db, s.asset, SG_ASSET_PROCESSING, "");
}

static void test_dead(void **state)
{
    struct scene s = scene_of(state);
    for (unsigned i = 0; i < SG_JOB_CRASHES_MAX; i++) {
        expect(s.db, s.asset, 0, SG_RENDITION_WAITING, "");
        end_next(s.db, SG_JOB_END_CRASHED, "the process died");
    }
    assert_int_equal(state_of(s.db, s.first), SG_JOB_DEAD);
    expect(s.db, s.asset, 0, SG_RENDITION_FAILED, "the process died");
    expect_asset(s.db, s.asset, SG_ASSET_FAILED, "the process died");
}

static void test_lost_at_start(void **state)
{
    struct scene s = scene_of(state);
    for (unsigned i = 0; i < SG_JOB_CRASHES_MAX; i++) {
        struct sg_job *job = claim_job(s.db, CAPS, UINT64_C(1) << 42);
        assert_non_null(job);
        sg_job_free(&job);
        assert_int_equal(expire_jobs(s.db, 1, true), 1);
    }
    expect(s.db, s.asset, 0, SG_RENDITION_FAILED, "what ran it ended before it did");
    expect_asset(s.db, s.asset, SG_ASSET_FAILED, "what ran it ended before it did");
}

static void test_cancelled(void **state)
{
    struct scene s = scene_of(state);
    enum sg_job_state ended;
    /* While it waits. */
    assert_int_equal(cancel_job(s.db, s.later, &ended), SG_OK);
    expect(s.db, s.asset, 2, SG_RENDITION_FAILED, "cancelled");
    expect(s.db, s.asset, 0, SG_RENDITION_WAITING, "");
    expect_asset(s.db, s.asset, SG_ASSET_PROCESSING, "");
    /* While it runs: its runner ends it. */
    struct sg_job *job = claim_job(s.db, CAPS, UINT64_C(1) << 42);
    assert_int_equal(cancel_job(s.db, s.first, &ended), SG_OK);
    assert_int_equal(ended, SG_JOB_RUNNING);
    expect(s.db, s.asset, 0, SG_RENDITION_WAITING, "");
    assert_int_equal(end_job(s.db, job, SG_JOB_END_CANCELLED, 9), SG_OK);
    sg_job_free(&job);
    expect(s.db, s.asset, 0, SG_RENDITION_FAILED, "cancelled");
    expect_asset(s.db, s.asset, SG_ASSET_FAILED, "cancelled");
    assert_int_equal(retry_job(s.db, s.first), SG_OK);
    expect(s.db, s.asset, 0, SG_RENDITION_WAITING, "");
    expect(s.db, s.asset, 2, SG_RENDITION_FAILED, "cancelled"); /* nobody asked for it again */
    expect_asset(s.db, s.asset, SG_ASSET_PROCESSING, "");
}

/* A long reason of many bytes a character is cut where the row has room for it. */
static void test_long_reason(void **state)
{
    struct scene s = scene_of(state);
    run_sql(s.db, "UPDATE jobs SET state = 1");
    run_sql(s.db, "UPDATE jobs SET state = 3, error_detail ="
                  " replace(hex(zeroblob(300)), '00', char(128512))");
    struct sg_rendition_list l = list_of(s.db, s.asset);
    assert_int_equal(strlen(l.items[0].error), 800);
    sg_rendition_list_free(&l);
}

/* Jobs of other types are nobody's business here, and an asset without renditions keeps waiting. */
static void test_other_jobs(void **state)
{
    struct sg_db *db = ((struct scratch *)*state)->db;
    char asset[SG_ULID_SIZE], job[SG_ULID_SIZE], sql[128];
    put_asset(db, SG_ASSET_PROCESSING, asset);
    assert_int_equal(put_job(db, (struct job_wish){.type = "import"}, job), SG_OK);
    snprintf(sql, sizeof sql, "UPDATE jobs SET asset_id = '%s', state = 1", asset);
    run_sql(db, sql);
    run_sql(db, "UPDATE jobs SET state = 3, error_detail = 'nobody answers'");
    expect_asset(db, asset, SG_ASSET_PROCESSING, "");
    run_sql(db, "UPDATE jobs SET type = 'transcode', state = 1");
    run_sql(db, "UPDATE jobs SET state = 3");
    expect_asset(db, asset, SG_ASSET_PROCESSING, "");
}

static void test_names_of_enums(void **state)
{
    (void)state;
    assert_string_equal(sg_rendition_kind_name(SG_RENDITION_ORIGINAL), "original");
    assert_string_equal(sg_rendition_kind_name(SG_RENDITION_KIND_COUNT), "unknown");
    assert_string_equal(sg_rendition_state_name(SG_RENDITION_WAITING), "processing");
    assert_string_equal(sg_rendition_state_name(SG_RENDITION_STATE_COUNT), "unknown");
}

int main(void)
{
#define WITH_DB(test) cmocka_unit_test_setup_teardown(test, scratch_setup_db, scratch_teardown)
    const struct CMUnitTest tests[] = {
        WITH_DB(test_rows),
        WITH_DB(test_with_the_asset),
        WITH_DB(test_room),
        WITH_DB(test_dirs_come_once),
        WITH_DB(test_names_end),
        WITH_DB(test_failed),
        WITH_DB(test_tried_again),
        WITH_DB(test_dead),
        WITH_DB(test_lost_at_start),
        WITH_DB(test_cancelled),
        WITH_DB(test_long_reason),
        WITH_DB(test_other_jobs),
        cmocka_unit_test(test_names_of_enums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
