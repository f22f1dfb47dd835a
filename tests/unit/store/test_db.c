/* The database: groups, savepoints, snapshots, other processes, crashes, migrations. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "streamgate/base/metrics.h"
#include "streamgate/store/key_store.h"

#include "migrations.h"
#include "store_support.h"

#define WRITERS 8
#define WRITES_EACH 40

struct note {
    unsigned writer, number;
};

static void note_key(const struct note *n, char key[32])
{
    snprintf(key, 32, "note.%u.%u", n->writer, n->number);
}

static enum sg_error write_note(struct sg_db_conn *c, void *arg)
{
    char key[32];
    note_key(arg, key);
    return sg_meta_set(c, key, "x");
}

static enum sg_error write_note_and_fail(struct sg_db_conn *c, void *arg)
{
    assert_int_equal(write_note(c, arg), SG_OK);
    return SG_ERR_CONFLICT;
}

/* What SQLite does by itself on some full disks and I/O errors: the group's transaction is gone. */
static enum sg_error write_note_and_lose_all(struct sg_db_conn *c, void *arg)
{
    assert_int_equal(write_note(c, arg), SG_OK);
    assert_int_equal(sqlite3_exec(c->handle, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    return SG_OK;
}

struct writer {
    struct sg_db *db;
    unsigned index;
    _Atomic unsigned *arrived;
    enum sg_error results[WRITES_EACH];
    bool hostile; /* mixes in closures that fail and that lose the transaction */
};

static void *writer_thread(void *arg)
{
    struct writer *w = arg;
    atomic_fetch_add(w->arrived, 1);
    for (unsigned i = 0; i < WRITES_EACH; i++) {
        struct note n = {w->index, i};
        bool fail = w->hostile && i % 5 == 1, lose = w->hostile && i % 10 == 7;
        w->results[i] = sg_db_write(w->db,
                                    fail   ? write_note_and_fail
                                    : lose ? write_note_and_lose_all
                                           : write_note,
                                    &n);
        if (fail && w->results[i] == SG_OK)
            w->results[i] = SG_ERR_INTERNAL; /* said yes to a closure that said no */
    }
    return NULL;
}

/* Holds the writer until all threads are there, so that the first group is a real one. */
static enum sg_error wait_for_all(struct sg_db_conn *c, void *arg)
{
    (void)c;
    _Atomic unsigned *arrived = arg;
    while (atomic_load(arrived) < WRITERS)
        sched_yield();
    return SG_OK;
}

static void run_writers(struct sg_db *db, struct writer writers[WRITERS], bool hostile)
{
    _Atomic unsigned arrived = 0;
    pthread_t threads[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.db = db, .index = i, .arrived = &arrived, .hostile = hostile};
        assert_int_equal(pthread_create(&threads[i], NULL, writer_thread, &writers[i]), 0);
    }
    assert_int_equal(sg_db_write(db, wait_for_all, &arrived), SG_OK);
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
}

static void writes_share_commits(void **state)
{
    struct scratch *s = *state;
    struct writer writers[WRITERS];
    double commits = sg_metric_read(SG_METRIC_DB_COMMITS, SG_METRIC_ALL);
    double writes = sg_metric_read(SG_METRIC_DB_WRITES, SG_METRIC_ALL);
    run_writers(s->db, writers, false);
    commits = sg_metric_read(SG_METRIC_DB_COMMITS, SG_METRIC_ALL) - commits;
    writes = sg_metric_read(SG_METRIC_DB_WRITES, SG_METRIC_ALL) - writes;
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM meta WHERE key LIKE 'note.%'"),
                     WRITERS * WRITES_EACH);
    assert_true(writes == WRITERS * WRITES_EACH + 1);
    print_message("%.0f writes in %.0f commits\n", writes, commits);
    assert_true(commits < writes / 2);
}

struct lookup {
    char key[32];
};

static enum sg_error look_up(struct sg_db_conn *c, void *arg)
{
    struct lookup *l = arg;
    char *value = NULL;
    enum sg_error err = sg_meta_get(c, l->key, &value);
    free(value);
    return err;
}

static void answers_are_true_whatever_fails(void **state)
{
    struct scratch *s = *state;
    struct writer writers[WRITERS];
    unsigned yes = 0, undone = 0;
    run_writers(s->db, writers, true);
    for (unsigned w = 0; w < WRITERS; w++) {
        for (unsigned i = 0; i < WRITES_EACH; i++) {
            struct lookup l;
            note_key(&(struct note){w, i}, l.key);
            enum sg_error said = writers[w].results[i], is = sg_db_read(s->db, look_up, &l);
            assert_int_equal(is, said == SG_OK ? SG_OK : SG_ERR_NOT_FOUND);
            if (i % 5 == 1)
                assert_true(said == SG_ERR_CONFLICT || said == SG_ERR_IO);
            if (i % 10 == 7)
                assert_int_equal(said, SG_ERR_IO);
            yes += said == SG_OK;
            undone += said == SG_ERR_CONFLICT;
        }
    }
    assert_true(yes > 0);
    assert_true(undone > 0);
}

static enum sg_error count_notes(struct sg_db_conn *c, uint64_t *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT count(*) FROM meta WHERE key LIKE 'note.%'");
    *out = sg_stmt_row(&st) ? sg_stmt_u64(&st, 0) : UINT64_MAX;
    return sg_stmt_close(&st);
}

static enum sg_error read_around_a_write(struct sg_db_conn *c, void *arg)
{
    uint64_t before = 0, after = 0;
    assert_int_equal(count_notes(c, &before), SG_OK);
    assert_int_equal(sg_db_write(arg, write_note, &(struct note){0, 0}), SG_OK);
    assert_int_equal(count_notes(c, &after), SG_OK);
    assert_int_equal(before, 0);
    assert_int_equal(after, 0);
    return SG_ERR_CANCELLED;
}

static void reader_sees_one_snapshot(void **state)
{
    struct scratch *s = *state;
    assert_int_equal(sg_db_read(s->db, read_around_a_write, s->db), SG_ERR_CANCELLED);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM meta WHERE key LIKE 'note.%'"), 1);
}

static void readers_cannot_write(void **state)
{
    struct scratch *s = *state;
    assert_int_not_equal(sg_db_read(s->db, write_note, &(struct note){0, 0}), SG_OK);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM meta WHERE key LIKE 'note.%'"), 0);
}

static void meta_values_are_replaced(void **state)
{
    struct scratch *s = *state;
    struct lookup l = {"color"};
    assert_int_equal(sg_db_read(s->db, look_up, &l), SG_ERR_NOT_FOUND);
    run_sql(s->db, "INSERT INTO meta VALUES('color', 'red')");
    assert_int_equal(sg_db_read(s->db, look_up, &l), SG_OK);
}

static enum sg_error fill_up(struct sg_db_conn *c, void *arg)
{
    (void)arg;
    struct sg_stmt st;
    sg_stmt_open(&st, c, "PRAGMA page_count");
    uint64_t pages = sg_stmt_row(&st) ? sg_stmt_u64(&st, 0) : 0;
    assert_int_equal(sg_stmt_close(&st), SG_OK);
    char sql[64];
    snprintf(sql, sizeof(sql), "PRAGMA max_page_count=%llu", (unsigned long long)pages);
    assert_int_equal(sqlite3_exec(c->handle, sql, NULL, NULL, NULL), SQLITE_OK);
    sg_stmt_open(&st, c,
                 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
                 " INSERT INTO meta SELECT 'filler' || i, hex(randomblob(100)) FROM n");
    enum sg_error err = sg_stmt_run(&st);
    assert_int_equal(sqlite3_exec(c->handle, "PRAGMA max_page_count=1000000", NULL, NULL, NULL),
                     SQLITE_OK);
    return err;
}

static void full_disk_is_told_and_survived(void **state)
{
    static const char probes[] = "SELECT value FROM meta WHERE key = 'write_probes'";
    struct scratch *s = *state;
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(sg_db_write(s->db, fill_up, NULL), SG_ERR_NO_SPACE);
        assert_int_equal(query_u64(s->db, "SELECT count(*) FROM meta WHERE key LIKE 'filler%'"), 0);
        assert_int_equal(sg_db_check(s->db), SG_OK); /* by writing: the disk has room again */
        assert_int_equal(sg_db_check(s->db), SG_OK); /* and without, now that it is known */
        assert_int_equal(query_u64(s->db, probes), i);
    }
    assert_int_equal(sg_db_write(s->db, write_note, &(struct note){1, 1}), SG_OK);
}

static void settings_are_the_durable_ones(void **state)
{
    struct scratch *s = *state;
    struct stat st;
    assert_int_equal(stat(s->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    struct sg_db_conn *c = NULL;
    assert_int_equal(sg_db_conn_open(s->path, SG_DB_WRITER, &c), SG_OK);
    struct sg_stmt q;
    sg_stmt_open(&q, c, "PRAGMA journal_mode");
    assert_true(sg_stmt_row(&q));
    assert_string_equal(sg_stmt_text(&q, 0), "wal");
    assert_int_equal(sg_stmt_close(&q), SG_OK);
    sg_stmt_open(&q, c, "PRAGMA synchronous");
    assert_true(sg_stmt_row(&q));
    assert_int_equal(sg_stmt_u64(&q, 0), 2);
    assert_int_equal(sg_stmt_close(&q), SG_OK);
    sg_stmt_open(&q, c, "PRAGMA foreign_keys");
    assert_true(sg_stmt_row(&q));
    assert_int_equal(sg_stmt_u64(&q, 0), 1);
    assert_int_equal(sg_stmt_close(&q), SG_OK);
    sg_db_conn_close(&c);
}

/* Two users of one literal on one connection: the second must not reset the first. */
static enum sg_error nest_statements(struct sg_db_conn *c, void *arg)
{
    static const char sql[] = "SELECT key FROM meta ORDER BY key";
    struct sg_stmt a, b;
    unsigned *rows = arg;
    for (sg_stmt_open(&a, c, sql); sg_stmt_row(&a); (*rows)++) {
        sg_stmt_open(&b, c, sql);
        assert_true(sg_stmt_row(&b));
        assert_int_equal(sg_stmt_close(&b), SG_OK);
    }
    return sg_stmt_close(&a);
}

static void statements_nest(void **state)
{
    struct scratch *s = *state;
    run_sql(s->db, "INSERT INTO meta VALUES('a', ''), ('b', '')");
    unsigned rows = 0;
    assert_int_equal(sg_db_read(s->db, nest_statements, &rows), SG_OK);
    assert_int_equal(rows, 3); /* and the generation */
}

static enum sg_error child_writes(const char *path, unsigned writer, unsigned n)
{
    struct sg_db *db = NULL;
    struct sg_db_params params = {.path = path, .readers = 1};
    enum sg_error err = sg_db_open(&params, &db);
    for (unsigned i = 0; i < n && !err; i++)
        err = sg_db_write(db, write_note, &(struct note){writer, i});
    sg_db_close(&db);
    return err;
}

/* fork happens before this process opens the file: SQLite does not carry connections across. */
static pid_t fork_writer(const char *path, unsigned writer, unsigned n, int gate)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char byte;
        _exit(read(gate, &byte, 1) == 1 ? (int)child_writes(path, writer, n) : 99);
    }
    return pid;
}

static void processes_write_side_by_side(void **state)
{
    struct scratch *s = *state;
    enum { CHILDREN = 5, EACH = 20 };
    int gate[2];
    pid_t pids[CHILDREN];
    assert_int_equal(pipe(gate), 0);
    for (unsigned i = 0; i < CHILDREN; i++)
        pids[i] = fork_writer(s->path, i + 1, EACH, gate[0]);
    assert_int_equal(write(gate[1], "xxxxx", CHILDREN), CHILDREN); /* all make the file at once */
    enum sg_error err = child_writes(s->path, 0, EACH);
    for (unsigned i = 0; i < CHILDREN; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    close(gate[0]);
    close(gate[1]);
    assert_int_equal(err, SG_OK);
    struct sg_db_params params = {.path = s->path};
    assert_int_equal(sg_db_open(&params, &s->db), SG_OK);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM meta WHERE key LIKE 'note.%'"),
                     (CHILDREN + 1) * EACH);
}

static enum sg_error write_and_die(struct sg_db_conn *c, void *arg)
{
    if (write_note(c, arg) == SG_OK)
        kill(getpid(), SIGKILL);
    return SG_OK;
}

static void kill_loses_nothing_acknowledged(void **state)
{
    struct scratch *s = *state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct sg_db *db = NULL;
        if (sg_db_open(&(struct sg_db_params){.path = s->path}, &db) ||
            sg_db_write(db, write_note, &(struct note){1, 1}) ||
            sg_db_write(db, write_and_die, &(struct note){2, 2}))
            _exit(1);
        _exit(2);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    struct sg_db_params params = {.path = s->path};
    assert_int_equal(sg_db_open(&params, &s->db), SG_OK);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM meta WHERE key = 'note.1.1'"), 1);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM meta WHERE key = 'note.2.2'"), 0);
}

static enum sg_error add_key(struct sg_db_conn *c, void *arg)
{
    char secret[SG_KEY_SIZE];
    struct sg_key_params params = {.name = "k", .role = SG_ROLE_VIEWER};
    return sg_key_create(c, &params, secret, arg);
}

static enum sg_error touch_key(struct sg_db_conn *c, void *arg)
{
    return sg_key_touch(c, ((struct sg_key *)arg)->id, 77);
}

static enum sg_error revoke_key(struct sg_db_conn *c, void *arg)
{
    return sg_key_revoke(c, ((struct sg_key *)arg)->id);
}

static void generation_follows_rights(void **state)
{
    struct scratch *s = *state;
    struct sg_key key;
    uint64_t first = 0, now = 0;
    assert_int_equal(sg_db_identity_generation(s->db, &first), SG_OK);
    assert_int_equal(sg_db_write(s->db, add_key, &key), SG_OK);
    assert_int_equal(sg_db_identity_generation(s->db, &now), SG_OK);
    assert_true(now > first);
    first = now;
    assert_int_equal(sg_db_write(s->db, touch_key, &key), SG_OK);
    assert_int_equal(sg_db_identity_generation(s->db, &now), SG_OK);
    assert_int_equal(now, first); /* using a key changes nobody's rights */
    struct sg_db *other = NULL;   /* as the command line would */
    assert_int_equal(sg_db_open(&(struct sg_db_params){.path = s->path}, &other), SG_OK);
    assert_int_equal(sg_db_write(other, revoke_key, &key), SG_OK);
    sg_db_close(&other);
    assert_int_equal(sg_db_identity_generation(s->db, &now), SG_OK);
    assert_true(now > first);
}

static enum sg_error open_scratch(struct scratch *s)
{
    struct sg_db_params params = {.path = s->path};
    return sg_db_open(&params, &s->db);
}

static void raw_sql(const char *path, const char *sql)
{
    sqlite3 *raw = NULL;
    assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
    assert_int_equal(sqlite3_exec(raw, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(raw);
}

static void newer_schema_is_refused(void **state)
{
    struct scratch *s = *state;
    assert_int_equal(open_scratch(s), SG_OK);
    assert_int_equal(query_u64(s->db, "PRAGMA user_version"), sg_db_schema_version());
    sg_db_close(&s->db);
    char sql[64];
    snprintf(sql, sizeof(sql), "PRAGMA user_version=%u", sg_db_schema_version() + 1);
    raw_sql(s->path, sql);
    assert_int_equal(open_scratch(s), SG_ERR_CONFLICT);
    assert_null(s->db);
    snprintf(sql, sizeof(sql), "PRAGMA user_version=%u", sg_db_schema_version());
    raw_sql(s->path, sql);
    assert_int_equal(open_scratch(s), SG_OK);
}

static void failed_migration_leaves_no_trace(void **state)
{
    struct scratch *s = *state;
    raw_sql(s->path, "CREATE TABLE owner_usage(x)"); /* in the way of the last step's table */
    assert_int_not_equal(open_scratch(s), SG_OK);
    raw_sql(s->path, "DROP TABLE owner_usage");
    sqlite3 *raw = NULL;
    sqlite3_stmt *st = NULL;
    assert_int_equal(sqlite3_open(s->path, &raw), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(raw, "SELECT count(*) FROM sqlite_schema", -1, &st, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(st, 0), 0);
    sqlite3_finalize(st);
    sqlite3_close(raw);
    assert_int_equal(open_scratch(s), SG_OK);
}

static void bad_files_are_refused(void **state)
{
    struct scratch *s = *state;
    struct sg_db *db = NULL;
    struct sg_db_params params = {.path = "/nonexistent/x.db"};
    assert_int_equal(sg_db_open(&params, &db), SG_ERR_IO);
    FILE *f = fopen(s->path, "w");
    assert_non_null(f);
    for (int i = 0; i < 4096; i++)
        fputc('z', f);
    fclose(f);
    assert_int_equal(open_scratch(s), SG_ERR_IO);
    assert_null(s->db);
}

int main(void)
{
#define DB_TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup_db, scratch_teardown)
#define FILE_TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        /* First those that fork, while there is one thread and no connection. */
        FILE_TEST(processes_write_side_by_side),
        FILE_TEST(kill_loses_nothing_acknowledged),
        FILE_TEST(newer_schema_is_refused),
        FILE_TEST(failed_migration_leaves_no_trace),
        FILE_TEST(bad_files_are_refused),
        DB_TEST(writes_share_commits),
        DB_TEST(answers_are_true_whatever_fails),
        DB_TEST(reader_sees_one_snapshot),
        DB_TEST(readers_cannot_write),
        DB_TEST(meta_values_are_replaced),
        DB_TEST(full_disk_is_told_and_survived),
        DB_TEST(settings_are_the_durable_ones),
        DB_TEST(statements_nest),
        DB_TEST(generation_follows_rights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
