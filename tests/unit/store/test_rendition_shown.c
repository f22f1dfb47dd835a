/* Renditions that were shown while they were made: another try has another name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/store/asset_store.h"
#include "streamgate/store/rendition_store.h"

#include "asset_support.h"
#include "migrations.h"

struct call {
    enum sg_error (*fn)(struct call *k, struct sg_db_conn *c);
    struct sg_rendition r;
    struct sg_rendition_list list;
};

static enum sg_error insert(struct call *k, struct sg_db_conn *c)
{
    return sg_rendition_insert(c, &k->r);
}

static enum sg_error mark_shown(struct call *k, struct sg_db_conn *c)
{
    return sg_rendition_mark_shown(c, k->r.id);
}

static enum sg_error take_name(struct call *k, struct sg_db_conn *c)
{
    return sg_rendition_rename(c, &k->r);
}

static enum sg_error finish(struct call *k, struct sg_db_conn *c)
{
    const struct sg_rendition_done done = {
        .id = k->r.id, .size_bytes = 1, .now_ms = 5, .index = "index", .index_len = 5};
    return sg_rendition_finish(c, &done);
}

static enum sg_error list(struct call *k, struct sg_db_conn *c)
{
    return sg_rendition_list(c, k->r.asset_id, &k->list);
}

static enum sg_error run(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return k->fn(k, c);
}

static enum sg_error call(struct sg_db *db, struct call *k,
                          enum sg_error (*fn)(struct call *k, struct sg_db_conn *c))
{
    k->fn = fn;
    return sg_db_write(db, run, k);
}

static struct call of_name(const char *asset, const char *name)
{
    struct call k = {.r = {.width = 640, .height = 360, .created_ms = 1000}};
    sg_ulid_make(k.r.id);
    memcpy(k.r.asset_id, asset, SG_ULID_SIZE);
    memcpy(k.r.job_id, asset, SG_ULID_SIZE);
    snprintf(k.r.name, sizeof k.r.name, "%s", name);
    return k;
}

static void expect_first(struct sg_db *db, struct call *k, const char *dir, bool shown)
{
    assert_int_equal(call(db, k, list), SG_OK);
    assert_string_equal(k->list.items[0].dir, dir);
    assert_int_equal(k->list.items[0].shown, shown);
    sg_rendition_list_free(&k->list);
}

static void test_another_name(void **state)
{
    struct sg_db *db = ((struct scratch *)*state)->db;
    struct sg_asset_fields f = sample_asset();
    f.status = SG_ASSET_PROCESSING;
    insert_asset(db, f);
    struct call k = of_name(f.id, "360p"), other = of_name(f.id, "360p-2");
    assert_int_equal(call(db, &k, insert), SG_OK);
    expect_first(db, &k, "360p", false);
    assert_int_equal(call(db, &k, mark_shown), SG_OK);
    assert_int_equal(call(db, &k, mark_shown), SG_OK);
    expect_first(db, &k, "360p", true);
    assert_int_equal(call(db, &other, insert), SG_OK);
    assert_int_equal(call(db, &k, take_name), SG_OK);
    assert_string_equal(k.r.dir, "360p-3");
    expect_first(db, &k, "360p-3", false);
    assert_int_equal(call(db, &k, mark_shown), SG_OK);
    assert_int_equal(call(db, &k, take_name), SG_OK);
    expect_first(db, &k, "360p-4", false);
    /* What is whole keeps its name. */
    assert_int_equal(call(db, &k, finish), SG_OK);
    assert_int_equal(call(db, &k, mark_shown), SG_ERR_NOT_FOUND);
    assert_int_equal(call(db, &k, take_name), SG_ERR_NOT_FOUND);
    expect_first(db, &k, "360p-4", false);
    run_sql(db, "DELETE FROM renditions");
    k = of_name(f.id, "360p");
    assert_int_equal(call(db, &k, insert), SG_OK);
    assert_string_equal(k.r.dir, "360p-5");
}

#define OLD_JOB(id, type, started)                                                                 \
    "INSERT INTO jobs VALUES(NULL, '" id "', '', 'A', '', '" type                                  \
    "', '{}', 1, 0, 1, 1, 3, 0, 0, 0, '', '[]', '', '', '', '', 1, 1, " started ", 0, 0, 0);"
#define OLD_RENDITION(id, state, job)                                                              \
    "INSERT INTO renditions VALUES('" id "', 'A', '" id "', '" id "', 0, " state ", '" job         \
    "', 1, 1, 1, 1, 1, 1, 0, '', 1, 1, NULL);"

/* Nobody wrote down what an older program showed: what it may have shown counts as shown. */
static void test_older_database(void **state)
{
    struct scratch *s = *state;
    struct sg_db_params params = {.path = s->path, .readers = 1};
    struct sg_db_conn *c = NULL;
    assert_int_equal(sg_db_conn_open(s->path, SG_DB_WRITER, &c), SG_OK);
    assert_int_equal(sg_db_migrate_to(c, 7), SG_OK);
    assert_int_equal(
        sqlite3_exec(
            c->handle,
            "INSERT INTO assets VALUES(1, 'A', '', 2, 0, '', '', '', '', '', 1, x'00', '', 1, 1,"
            " 1, '', '', 1, 1, '', 1, 1, 1);" OLD_JOB("begun", "transcode-first", "7")
                OLD_JOB("new", "transcode-first", "0") OLD_JOB("later", "transcode", "7")
                    OLD_RENDITION("waiting", "0", "begun") OLD_RENDITION("ready", "1", "begun")
                        OLD_RENDITION("failed", "2", "begun") OLD_RENDITION("not-begun", "0", "new")
                            OLD_RENDITION("not-live", "0", "later"),
            NULL, NULL, NULL),
        SQLITE_OK);
    sg_db_conn_close(&c);
    assert_int_equal(sg_db_open(&params, &s->db), SG_OK);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM renditions WHERE shown"), 2);
    assert_int_equal(query_u64(s->db,
                               "SELECT count(*) FROM renditions WHERE shown AND id IN ('waiting',"
                               " 'failed')"),
                     2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_another_name, scratch_setup_db, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_older_database, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
