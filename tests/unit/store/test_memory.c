/* Each allocation SQLite makes is refused in turn: opening fails cleanly or works, and what a write
 * was told is what the file then holds. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/store/asset_store.h"
#include "streamgate/store/audit_store.h"
#include "streamgate/store/rendition_store.h"

#include "store_support.h"
#include "upload_support.h"

static sqlite3_mem_methods real;
static _Atomic long fail_at = -1; /* allocations until one is refused; below 0: none is */
static _Atomic long refused;

static bool refuse(void)
{
    if (atomic_load(&fail_at) < 0 || atomic_fetch_sub(&fail_at, 1) != 0)
        return false;
    atomic_fetch_add(&refused, 1);
    return true;
}

static void *failing_malloc(int n)
{
    return refuse() ? NULL : real.xMalloc(n);
}

static void *failing_realloc(void *p, int n)
{
    return refuse() ? NULL : real.xRealloc(p, n);
}

static int install(void **state)
{
    (void)state;
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real), SQLITE_OK);
    sqlite3_mem_methods failing = real;
    failing.xMalloc = failing_malloc;
    failing.xRealloc = failing_realloc;
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &failing), SQLITE_OK);
    /* Without the small-block cache, so that every allocation passes here. */
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0), SQLITE_OK);
    return 0;
}

static enum sg_error add_asset(struct sg_db_conn *c, void *arg)
{
    struct sg_asset_fields f = {
        .owner = "01ARZ3NDEKTSV4RRFFQ69G5FAA",
        .title = "a title",
        .description = "",
        .tags_json = "[\"t\"]",
        .custom_json = "{}",
        .filename = "f",
        .content_type = "video/mp4",
        .video_codec = "",
        .audio_codec = "",
        .error = "",
        .version = 1,
    };
    struct sg_audit_event e = {.event_type = "data",
                               .actor = "ann",
                               .action = "asset.create",
                               .resource = "asset/x",
                               .result = "success"};
    memcpy(f.id, arg, SG_ULID_SIZE);
    enum sg_error err = sg_asset_insert(c, &f, "index", 5);
    return err ? err : sg_audit_append(c, &e);
}

static enum sg_error find_asset(struct sg_db_conn *c, void *arg)
{
    struct sg_asset *asset = NULL;
    struct sg_asset_query q = {.status = -1, .limit = 10, .text = "title", .tag = "t"};
    struct sg_asset_list list = {0};
    enum sg_error err = sg_asset_list(c, &q, &list);
    sg_asset_list_free(&list);
    if (!err)
        err = sg_asset_get(c, arg, &asset);
    sg_asset_unref(asset);
    return err;
}

static enum sg_error verify(struct sg_db_conn *c, void *arg)
{
    uint64_t count = 0;
    return sg_audit_verify(c, &count, arg);
}

static enum sg_error add_upload(struct sg_db_conn *c, void *arg)
{
    struct sg_upload_fields f = sample_upload();
    memcpy(f.id, arg, SG_ULID_SIZE);
    struct sg_upload_chunk chunk = {.upload_id = f.id, .len = 100};
    struct sg_upload_move m = {f.id, SG_UPLOAD_ACTIVE, SG_UPLOAD_PROCESSING, "", "", 1, 1};
    enum sg_error err = sg_upload_insert(c, &f);
    if (!err)
        err = sg_upload_chunk_put(c, &chunk);
    if (!err)
        err = sg_upload_set_offset(c, f.id, 200, 1, 1);
    if (!err)
        err = sg_upload_set_size(c, f.id, f.size_bytes);
    return err ? err : sg_upload_move(c, &m);
}

static enum sg_error take_run(void *arg, uint64_t first, uint64_t end)
{
    (void)arg;
    return first == 0 && end == 1 ? SG_OK : SG_ERR_INTERNAL;
}

static enum sg_error take_id(void *arg, const char *id)
{
    (void)arg;
    (void)id;
    return SG_ERR_INTERNAL; /* those that are there are being processed */
}

static enum sg_error take_upload(void *arg, const struct sg_upload *u)
{
    unsigned *n = arg;
    ++*n;
    return u->f.state == SG_UPLOAD_PROCESSING ? SG_OK : SG_ERR_INTERNAL;
}

static enum sg_error find_upload(struct sg_db_conn *c, void *arg)
{
    struct sg_upload_query q = {.owner = OWNER_A, .kinds = ~0u, .state = -1, .limit = 10};
    struct sg_upload_list list = {0};
    struct sg_upload *upload = NULL;
    struct sg_usage usage = {0};
    unsigned n = 0;
    enum sg_error err = sg_upload_get(c, arg, &upload);
    sg_upload_free(&upload);
    if (err != SG_OK && err != SG_ERR_NOT_FOUND)
        return err;
    enum sg_error found = err;
    err = sg_upload_list(c, &q, &list);
    sg_upload_list_free(&list);
    if (!err)
        err = sg_upload_chunk_runs(c, arg, take_run, NULL);
    if (!err)
        err = sg_upload_expired(c, &(struct sg_upload_expiry){.now_ms = 9999, .limit = 10}, take_id,
                                NULL);
    if (!err)
        err = sg_upload_each_open(c, take_upload, &n);
    if (!err)
        err = sg_usage_get(c, OWNER_A, &usage);
    if (!err && usage.uploads != n)
        err = SG_ERR_INTERNAL;
    return err ? err : found;
}

/* An asset of this id with a ready rendition. */
static enum sg_error add_rendition(struct sg_db_conn *c, void *arg)
{
    struct sg_rendition r = {.name = "720p", .job_id = OWNER_A, .created_ms = 1};
    const struct sg_rendition_done done = {
        .id = r.id, .size_bytes = 7, .now_ms = 2, .index = "index", .index_len = 5};
    sg_ulid_make(r.id);
    memcpy(r.asset_id, arg, SG_ULID_SIZE);
    enum sg_error err = add_asset(c, arg);
    if (!err)
        err = sg_rendition_insert(c, &r);
    if (!err)
        err = sg_rendition_finish(c, &done);
    return err;
}

static enum sg_error take_ready(void *arg, const char *id)
{
    (void)id;
    ++*(unsigned *)arg;
    return SG_OK;
}

static enum sg_error find_rendition(struct sg_db_conn *c, void *arg)
{
    struct sg_rendition_list list = {0};
    unsigned n = 0;
    bool found = false;
    enum sg_error err = sg_rendition_list(c, arg, &list);
    if (!err && list.n == 1)
        err = sg_rendition_exists(c, list.items[0].id, &found);
    if (!err && list.n == 1 && (!found || list.items[0].index == NULL))
        err = SG_ERR_INTERNAL;
    if (!err)
        err = sg_rendition_each_ready(c, take_ready, &n);
    if (!err && list.n == 0)
        err = SG_ERR_NOT_FOUND;
    sg_rendition_list_free(&list);
    return err;
}

/* Refuses allocation 0, then `stride`, and so on, until a whole run of step had none refused. */
static void sweep(struct scratch *s, long stride, void (*step)(struct scratch *s))
{
    long n = 0, before;
    do {
        before = atomic_load(&refused);
        atomic_store(&fail_at, n);
        step(s);
        atomic_store(&fail_at, -1);
        n += stride;
    } while (atomic_load(&refused) != before);
    assert_true(n > 10 * stride); /* the hook works */
    print_message("%ld allocations refused\n", n / stride - 1);
}

static void open_step(struct scratch *s)
{
    long before = atomic_load(&refused);
    struct sg_db_params params = {.path = s->path, .readers = 1};
    enum sg_error err = sg_db_open(&params, &s->db);
    atomic_store(&fail_at, -1);
    if (err)
        assert_true(atomic_load(&refused) != before);
    assert_true(err == SG_OK || err == SG_ERR_NO_MEMORY);
    sg_db_close(&s->db);
}

static void make_step(struct scratch *s)
{
    open_step(s);
    unlink(s->path); /* each time from nothing, the schema included */
}

static void opening_survives(void **state)
{
    struct scratch *s = *state;
    open_step(s); /* makes it */
    sweep(s, 1, open_step);
}

/* Thousands, nearly all of them in the parser: one in 127 stands for its neighbours. */
static void making_survives(void **state)
{
    sweep(*state, 127, make_step);
}

static void write_step(struct scratch *s)
{
    char id[SG_ULID_SIZE];
    uint64_t bad = 99;
    sg_ulid_make(id);
    enum sg_error said = sg_db_write(s->db, add_asset, id);
    assert_true(said == SG_OK || said == SG_ERR_NO_MEMORY);
    atomic_store(&fail_at, -1);
    assert_int_equal(sg_db_read(s->db, find_asset, id), said ? SG_ERR_NOT_FOUND : SG_OK);
    assert_int_equal(sg_db_read(s->db, verify, &bad), SG_OK);
    assert_int_equal(bad, 0);
}

static void read_step(struct scratch *s)
{
    char id[SG_ULID_SIZE];
    sg_ulid_make(id);
    enum sg_error err = sg_db_read(s->db, find_asset, id);
    assert_true(err == SG_ERR_NOT_FOUND || err == SG_ERR_NO_MEMORY);
}

static void upload_write_step(struct scratch *s)
{
    char id[SG_ULID_SIZE];
    sg_ulid_make(id);
    enum sg_error said = sg_db_write(s->db, add_upload, id);
    assert_true(said == SG_OK || said == SG_ERR_NO_MEMORY);
    atomic_store(&fail_at, -1);
    assert_int_equal(sg_db_read(s->db, find_upload, id), said ? SG_ERR_NOT_FOUND : SG_OK);
}

static void upload_read_step(struct scratch *s)
{
    char id[SG_ULID_SIZE];
    sg_ulid_make(id);
    enum sg_error err = sg_db_read(s->db, find_upload, id);
    assert_true(err == SG_ERR_NOT_FOUND || err == SG_ERR_NO_MEMORY);
}

static void upload_writes_tell_the_truth(void **state)
{
    sweep(*state, 1, upload_write_step);
}

static void upload_reads_survive(void **state)
{
    sweep(*state, 1, upload_read_step);
}

static void rendition_write_step(struct scratch *s)
{
    char id[SG_ULID_SIZE];
    sg_ulid_make(id);
    enum sg_error said = sg_db_write(s->db, add_rendition, id);
    assert_true(said == SG_OK || said == SG_ERR_NO_MEMORY);
    atomic_store(&fail_at, -1);
    assert_int_equal(sg_db_read(s->db, find_rendition, id), said ? SG_ERR_NOT_FOUND : SG_OK);
}

static char kept_id[SG_ULID_SIZE];

static void rendition_read_step(struct scratch *s)
{
    enum sg_error err = sg_db_read(s->db, find_rendition, kept_id);
    assert_true(err == SG_OK || err == SG_ERR_NO_MEMORY);
}

static void rendition_writes_tell_the_truth(void **state)
{
    sweep(*state, 1, rendition_write_step);
}

static void rendition_reads_survive(void **state)
{
    struct scratch *s = *state;
    sg_ulid_make(kept_id);
    assert_int_equal(sg_db_write(s->db, add_rendition, kept_id), SG_OK);
    sweep(s, 1, rendition_read_step);
}

static void writing_tells_the_truth(void **state)
{
    sweep(*state, 1, write_step);
}

static void reading_survives(void **state)
{
    sweep(*state, 1, read_step);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opening_survives, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(making_survives, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(writing_tells_the_truth, scratch_setup_db,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(reading_survives, scratch_setup_db, scratch_teardown),
        cmocka_unit_test_setup_teardown(upload_writes_tell_the_truth, scratch_setup_db,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(upload_reads_survive, scratch_setup_db, scratch_teardown),
        cmocka_unit_test_setup_teardown(rendition_writes_tell_the_truth, scratch_setup_db,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(rendition_reads_survive, scratch_setup_db,
                                        scratch_teardown),
    };
    return cmocka_run_group_tests(tests, install, NULL);
}
