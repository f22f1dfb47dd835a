/* Backups: whole whatever is written meanwhile, few, and gone when they are broken off. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/fs.h"
#include "streamgate/store/backup.h"

#include "store_support.h"

struct told {
    unsigned calls, stop_at;
    uint64_t done;
};

static bool count_calls(void *arg, uint64_t done, uint64_t total)
{
    struct told *t = arg;
    assert_true(done <= total);
    assert_true(total == 1 || done > t->done); /* never begins anew */
    t->done = done;
    return ++t->calls == t->stop_at;
}

static enum sg_error back_up(struct scratch *s, unsigned stop_at, struct sg_backup_result *out)
{
    struct told t = {.stop_at = stop_at};
    const struct sg_backup_params p = {
        .db = s->db, .dirfd = s->dirfd, .keep = 2, .stop = count_calls, .arg = &t};
    return sg_backup_make(&p, out);
}

static uint64_t ask_copy(struct scratch *s, const char *name, const char *sql)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/backups/%s.db", s->dir, name);
    struct sg_db_conn copy = {0};
    assert_int_equal(sqlite3_open_v2(path, &copy.handle, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    sqlite3_stmt *st = NULL;
    assert_int_equal(sqlite3_prepare_v2(copy.handle, sql, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    uint64_t n = (uint64_t)sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(copy.handle);
    return n;
}

static enum sg_error count_name(void *arg, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(unsigned *)arg;
    return SG_OK;
}

static unsigned files(struct scratch *s)
{
    unsigned n = 0;
    assert_int_equal(sg_fs_each(s->dirfd, "backups", count_name, &n), SG_OK);
    return n;
}

struct writing {
    struct sg_db *db;
    _Atomic bool stop;
};

/* Both tables always hold the same number of rows. */
static void *write_pairs(void *arg)
{
    struct writing *w = arg;
    while (!atomic_load(&w->stop))
        run_sql(w->db, "INSERT INTO a VALUES(randomblob(3000)); INSERT INTO b VALUES(1)");
    return NULL;
}

static void copies_are_of_one_moment(void **state)
{
    struct scratch *s = *state;
    run_sql(s->db, "CREATE TABLE a(x BLOB); CREATE TABLE b(x)");
    run_sql(s->db, "WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < 2000)"
                   " INSERT INTO a SELECT randomblob(3000) FROM k");
    run_sql(s->db, "INSERT INTO b SELECT 1 FROM a");
    struct writing w = {.db = s->db};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_pairs, &w), 0);
    struct sg_backup_result r;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(back_up(s, 0, &r), SG_OK);
        assert_int_equal(ask_copy(s, r.name,
                                  "SELECT (SELECT count(*) FROM a) ="
                                  " (SELECT count(*) FROM b)"),
                         1);
        assert_true(r.db_bytes > 6000000);
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(r.removed, 1);
    assert_int_equal(files(s), 4); /* two copies, two lists */
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM a") > 2000, 1);
}

static void broken_off_ones_leave_nothing(void **state)
{
    struct scratch *s = *state;
    struct sg_backup_result r;
    run_sql(s->db, "CREATE TABLE a(x BLOB)");
    run_sql(s->db, "WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < 3000)"
                   " INSERT INTO a SELECT randomblob(3000) FROM k");
    assert_int_equal(back_up(s, 1, &r), SG_ERR_CANCELLED);
    assert_int_equal(back_up(s, 3, &r), SG_ERR_CANCELLED);
    assert_int_equal(files(s), 0);
    assert_int_equal(back_up(s, 0, &r), SG_OK);
    assert_int_equal(files(s), 2);
}

int main(void)
{
#define DB_TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup_db, scratch_teardown)
    const struct CMUnitTest tests[] = {
        DB_TEST(copies_are_of_one_moment),
        DB_TEST(broken_off_ones_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
