/* Connections, their settings, cached statements, and what SQLite's codes mean here.
 * Invariants: a cached statement is reset whenever no struct sg_stmt uses it, so no connection
 * keeps a snapshot open by accident; every result code is mapped in one place (sg_db_conn_error).
 */
#include "db_conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* How long a writer waits for the other process that may write: the command line beside a daemon.
 */
#define BUSY_TIMEOUT_MS 5000

/* FULL: a commit is acknowledged, so it must survive a power cut (NORMAL syncs at checkpoints
 * only). trusted_schema off: a doctored file's schema must not call functions on our behalf. */
static const char common_pragmas[] = "PRAGMA synchronous=FULL;"
                                     "PRAGMA foreign_keys=ON;"
                                     "PRAGMA trusted_schema=OFF;"
                                     "PRAGMA temp_store=MEMORY;";
static const char reader_pragmas[] = "PRAGMA query_only=ON;";

static enum sg_error error_from_rc(int rc, int os_errno)
{
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return SG_ERR_NO_SPACE;
    case SQLITE_NOMEM:
        return SG_ERR_NO_MEMORY;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_INTERRUPT:
        return SG_ERR_UNAVAILABLE;
    case SQLITE_TOOBIG:
        return SG_ERR_TOO_LARGE;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        if (os_errno == ENOSPC || os_errno == EDQUOT)
            return SG_ERR_NO_SPACE;
        if (os_errno == EMFILE || os_errno == ENFILE)
            return SG_ERR_NO_DESCRIPTORS;
        return rc == SQLITE_IOERR_NOMEM ? SG_ERR_NO_MEMORY : SG_ERR_IO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_READONLY:
    case SQLITE_PROTOCOL:
        return SG_ERR_IO;
    case SQLITE_CONSTRAINT:
        if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY)
            return SG_ERR_EXISTS;
        if (rc == SQLITE_CONSTRAINT_DATATYPE)
            return SG_ERR_TOO_LARGE; /* STRICT refuses the REAL that a sum beyond 63 bits becomes */
        return rc == SQLITE_CONSTRAINT_FOREIGNKEY ? SG_ERR_CONFLICT : SG_ERR_INTERNAL;
    default:
        return SG_ERR_INTERNAL;
    }
}

enum sg_error sg_db_conn_error(struct sg_db_conn *c, int rc)
{
    return error_from_rc(rc, c->handle ? sqlite3_system_errno(c->handle) : 0);
}

static int exec(struct sg_db_conn *c, const char *sql)
{
    return sqlite3_exec(c->handle, sql, NULL, NULL, NULL);
}

/* Two processes that make a new file at the same moment may both be told BUSY at once, without the
 * busy handler, because each holds what the other waits for; the loser finds WAL already set. */
static int set_wal(struct sg_db_conn *c)
{
    static const char begin[] = "BEGIN IMMEDIATE; COMMIT;";
    int rc = exec(c, "PRAGMA journal_mode=WAL;");
    if ((rc & 0xff) != SQLITE_BUSY)
        return rc;
    rc = exec(c, begin); /* waits, with the busy handler, until the other one is through */
    return rc ? rc : exec(c, "PRAGMA journal_mode=WAL;");
}

static int configure(struct sg_db_conn *c, enum sg_db_role role)
{
    sqlite3_extended_result_codes(c->handle, 1);
    int rc = sqlite3_busy_timeout(c->handle, BUSY_TIMEOUT_MS);
    if (rc == SQLITE_OK)
        rc = sqlite3_db_config(c->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (rc == SQLITE_OK && role == SG_DB_WRITER)
        rc = set_wal(c);
    if (rc == SQLITE_OK)
        rc = exec(c, common_pragmas);
    if (rc == SQLITE_OK && role == SG_DB_READER)
        rc = exec(c, reader_pragmas);
    return rc;
}

enum sg_error sg_db_conn_open(const char *path, enum sg_db_role role, struct sg_db_conn **out)
{
    /* Made by mknod, not open: closing a descriptor of the file would drop the POSIX locks another
     * connection of this process holds on it. SQLite gives the WAL the same mode. */
    if (role == SG_DB_WRITER && mknod(path, S_IFREG | 0600, 0) != 0 && errno != EEXIST)
        return errno == ENOENT ? SG_ERR_IO : sg_error_from_errno(errno);
    struct sg_db_conn *c = calloc(1, sizeof(*c));
    if (!c)
        return SG_ERR_NO_MEMORY;
    int rc = sqlite3_open_v2(path, &c->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK)
        rc = configure(c, role);
    if (rc != SQLITE_OK) {
        enum sg_error err = sg_db_conn_error(c, rc);
        sg_db_conn_close(&c);
        return err;
    }
    *out = c;
    return SG_OK;
}

void sg_db_conn_close(struct sg_db_conn **conn)
{
    struct sg_db_conn *c = *conn;
    if (!c)
        return;
    for (size_t i = 0; i < SG_ARRAY_LEN(c->cache); i++)
        sqlite3_finalize(c->cache[i].stmt);
    sqlite3_close_v2(c->handle);
    free(c);
    *conn = NULL;
}

static void on_row(void *arg, int op, const char *database, const char *table, sqlite3_int64 row)
{
    struct sg_db_conn *c = arg;
    (void)op, (void)database, (void)row;
    if (!c->touched && strcmp(table, c->watch->table) == 0)
        c->touched = true;
}

void sg_db_conn_watch(struct sg_db_conn *c, const struct sg_db_watch *watch)
{
    c->watch = watch;
    c->touched = false;
    sqlite3_update_hook(c->handle, watch ? on_row : NULL, c);
}

void sg_db_conn_tell(struct sg_db_conn *c)
{
    if (!c->touched)
        return;
    c->touched = false;
    c->watch->changed(c->watch->arg);
}

bool sg_db_conn_in_transaction(struct sg_db_conn *c)
{
    return !sqlite3_get_autocommit(c->handle);
}

enum sg_error sg_db_conn_run(struct sg_db_conn *c, const char *sql)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, sql);
    return sg_stmt_run(&st);
}

static int prepare(struct sg_db_conn *c, const char *sql, int len, unsigned flags,
                   sqlite3_stmt **out)
{
    return sqlite3_prepare_v3(c->handle, sql, len, flags, out, NULL);
}

/* The slot of sql, or one to (re)use for it. Linear: the pointers of the slots are few cache lines.
 */
static size_t find_slot(struct sg_db_conn *c, const char *sql)
{
    const size_t n = SG_ARRAY_LEN(c->cache);
    for (size_t i = 0; i < n; i++)
        if (c->cache[i].sql == sql || !c->cache[i].sql)
            return i;
    return c->next_victim++ % n;
}

void sg_stmt_open(struct sg_stmt *st, struct sg_db_conn *c, const char *literal)
{
    *st = (struct sg_stmt){.conn = c};
    size_t i = find_slot(c, literal);
    bool hit = c->cache[i].sql == literal;
    if (hit && !sqlite3_stmt_busy(c->cache[i].stmt)) {
        st->stmt = c->cache[i].stmt;
        st->cached = true;
        return;
    }
    int rc = prepare(c, literal, -1, SQLITE_PREPARE_PERSISTENT, &st->stmt);
    if (rc != SQLITE_OK) {
        st->err = sg_db_conn_error(c, rc);
        return;
    }
    if (hit || sqlite3_stmt_busy(c->cache[i].stmt))
        return; /* in use further up this thread's stack: this one is finalized on close */
    sqlite3_finalize(c->cache[i].stmt);
    c->cache[i].sql = literal;
    c->cache[i].stmt = st->stmt;
    st->cached = true;
}

void sg_stmt_open_text(struct sg_stmt *st, struct sg_db_conn *c, const char *sql, size_t len)
{
    *st = (struct sg_stmt){.conn = c};
    if (len > INT32_MAX) {
        st->err = SG_ERR_TOO_LARGE;
        return;
    }
    int rc = prepare(c, sql, (int)len, 0, &st->stmt);
    if (rc != SQLITE_OK)
        st->err = sg_db_conn_error(c, rc);
}

static void check_bind(struct sg_stmt *st, int rc)
{
    if (rc != SQLITE_OK)
        st->err = sg_db_conn_error(st->conn, rc);
}

void sg_stmt_bind_u64(struct sg_stmt *st, uint64_t v)
{
    if (st->err)
        return;
    if (v > INT64_MAX)
        st->err = SG_ERR_INVALID;
    else
        check_bind(st, sqlite3_bind_int64(st->stmt, ++st->bound, (sqlite3_int64)v));
}

void sg_stmt_bind_text_len(struct sg_stmt *st, const char *s, size_t len)
{
    if (!st->err)
        check_bind(st,
                   sqlite3_bind_text64(st->stmt, ++st->bound, s, len, SQLITE_STATIC, SQLITE_UTF8));
}

void sg_stmt_bind_text(struct sg_stmt *st, const char *s)
{
    sg_stmt_bind_text_len(st, s, s ? strlen(s) : 0);
}

void sg_stmt_bind_blob(struct sg_stmt *st, const void *p, size_t len)
{
    if (!st->err)
        check_bind(st,
                   sqlite3_bind_blob64(st->stmt, ++st->bound, len ? p : "", len, SQLITE_STATIC));
}

bool sg_stmt_row(struct sg_stmt *st)
{
    if (st->err)
        return false;
    int rc = sqlite3_step(st->stmt);
    if (rc == SQLITE_ROW)
        return true;
    if (rc != SQLITE_DONE)
        st->err = sg_db_conn_error(st->conn, rc);
    return false;
}

uint64_t sg_stmt_u64(struct sg_stmt *st, int col)
{
    sqlite3_int64 v = sqlite3_column_int64(st->stmt, col);
    return v < 0 ? 0 : (uint64_t)v;
}

const char *sg_stmt_text(struct sg_stmt *st, int col)
{
    const char *s = (const char *)sqlite3_column_text(st->stmt, col);
    if (!s && sqlite3_column_type(st->stmt, col) != SQLITE_NULL)
        st->err = SG_ERR_NO_MEMORY;
    return s ? s : "";
}

void sg_stmt_blob(struct sg_stmt *st, int col, void *out, size_t len)
{
    const void *p = sqlite3_column_blob(st->stmt, col);
    if (!p || (size_t)sqlite3_column_bytes(st->stmt, col) != len)
        st->err = SG_ERR_IO;
    else
        memcpy(out, p, len);
}

enum sg_error sg_stmt_close(struct sg_stmt *st)
{
    if (st->stmt && st->cached) {
        sqlite3_reset(st->stmt); /* its code repeats the one step already gave */
        sqlite3_clear_bindings(st->stmt);
    } else {
        sqlite3_finalize(st->stmt);
    }
    st->stmt = NULL;
    return st->err;
}

enum sg_error sg_stmt_run(struct sg_stmt *st)
{
    while (sg_stmt_row(st))
        ;
    return sg_stmt_close(st);
}

enum sg_error sg_stmt_run_changing(struct sg_stmt *st)
{
    enum sg_error err = sg_stmt_run(st);
    if (!err && sqlite3_changes64(st->conn->handle) == 0)
        err = SG_ERR_NOT_FOUND;
    return err;
}
