/* The database: one writer (db_writer.c), a pool of reader connections, and the meta table.
 * Invariants: a reader connection is used by one thread between take and give; every closure on it
 * sees one snapshot; the schema is current before any other connection opens. */
#include "streamgate/store/db.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "db_conn.h"
#include "db_writer.h"
#include "migrations.h"

#define DEFAULT_READERS 8

struct sg_db {
    struct sg_db_writer *writer;
    pthread_mutex_t lock;     /* guards n_idle and idle's content */
    pthread_cond_t returned;  /* n_idle grew */
    struct sg_db_conn **idle; /* a stack: the warmest cache is used first */
    unsigned n_idle, n_readers;
};

static enum sg_error open_readers(struct sg_db *db, const char *path, unsigned n)
{
    db->idle = calloc(n, sizeof(*db->idle));
    if (!db->idle)
        return SG_ERR_NO_MEMORY;
    for (; db->n_readers < n; db->n_readers++) {
        enum sg_error err = sg_db_conn_open(path, SG_DB_READER, &db->idle[db->n_idle]);
        if (err)
            return err;
        db->n_idle++;
    }
    return SG_OK;
}

static enum sg_error open_writer(struct sg_db *db, const char *path)
{
    struct sg_db_conn *conn = NULL;
    enum sg_error err = sg_db_conn_open(path, SG_DB_WRITER, &conn);
    if (!err)
        err = sg_db_migrate(conn);
    if (!err)
        err = sg_db_writer_create(conn, &db->writer);
    if (err)
        sg_db_conn_close(&conn);
    return err;
}

enum sg_error sg_db_open(const struct sg_db_params *params, struct sg_db **out)
{
    struct sg_db *db = calloc(1, sizeof(*db));
    if (!db)
        return SG_ERR_NO_MEMORY;
    pthread_mutex_init(&db->lock, NULL);
    pthread_cond_init(&db->returned, NULL);
    enum sg_error err = open_writer(db, params->path);
    if (!err)
        err = open_readers(db, params->path, params->readers ? params->readers : DEFAULT_READERS);
    if (err)
        sg_db_close(&db);
    else
        *out = db;
    return err;
}

void sg_db_close(struct sg_db **pdb)
{
    struct sg_db *db = *pdb;
    if (!db)
        return;
    while (db->n_idle)
        sg_db_conn_close(&db->idle[--db->n_idle]);
    free(db->idle);
    sg_db_writer_destroy(&db->writer); /* last, so that its checkpoint can empty the WAL */
    pthread_cond_destroy(&db->returned);
    pthread_mutex_destroy(&db->lock);
    free(db);
    *pdb = NULL;
}

enum sg_error sg_db_write(struct sg_db *db, enum sg_error (*fn)(struct sg_db_conn *c, void *arg),
                          void *arg)
{
    return sg_db_writer_run(db->writer, fn, arg);
}

union watching {
    const struct sg_db_watch *watch;
    void *arg;
};

static enum sg_error set_watch(struct sg_db_conn *c, void *arg)
{
    sg_db_conn_watch(c, ((union watching){.arg = arg}).watch);
    return SG_OK;
}

enum sg_error sg_db_watch(struct sg_db *db, const struct sg_db_watch *watch)
{
    return sg_db_write(db, set_watch, ((union watching){.watch = watch}).arg);
}

static struct sg_db_conn *take_reader(struct sg_db *db)
{
    pthread_mutex_lock(&db->lock);
    while (db->n_idle == 0)
        pthread_cond_wait(&db->returned, &db->lock);
    struct sg_db_conn *c = db->idle[--db->n_idle];
    pthread_mutex_unlock(&db->lock);
    return c;
}

static void give_reader(struct sg_db *db, struct sg_db_conn *c)
{
    pthread_mutex_lock(&db->lock);
    db->idle[db->n_idle++] = c;
    pthread_cond_signal(&db->returned);
    pthread_mutex_unlock(&db->lock);
}

enum sg_error sg_db_read(struct sg_db *db, enum sg_error (*fn)(struct sg_db_conn *c, void *arg),
                         void *arg)
{
    struct sg_db_conn *c = take_reader(db);
    enum sg_error err = sg_db_conn_run(c, "BEGIN");
    if (!err) {
        err = fn(c, arg);
        /* Nothing was changed; this only lets go of the snapshot, and what was read stays read. */
        enum sg_error end = sg_db_conn_in_transaction(c) ? sg_db_conn_run(c, "COMMIT") : SG_OK;
        if (end && sg_db_conn_in_transaction(c))
            end = sg_db_conn_run(c, "ROLLBACK");
        (void)end;
    }
    give_reader(db, c);
    return err;
}

static enum sg_error read_generation(struct sg_db_conn *c, uint64_t *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'identity_generation'");
    bool found = sg_stmt_row(&st);
    uint64_t generation = found ? sg_stmt_u64(&st, 0) : 0;
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !found)
        err = SG_ERR_IO;
    if (!err)
        *out = generation;
    return err;
}

enum sg_error sg_db_identity_generation(struct sg_db *db, uint64_t *out)
{
    /* One statement is its own snapshot: no transaction around it, this is asked often. */
    struct sg_db_conn *c = take_reader(db);
    enum sg_error err = read_generation(c, out);
    give_reader(db, c);
    return err;
}

/* Counts, because SQLite leaves a page alone that would not change: no write, no fsync, no probe.
 */
static enum sg_error probe_write(struct sg_db_conn *c, void *arg)
{
    (void)arg;
    return sg_db_conn_run(c, "INSERT INTO meta(key, value) VALUES('write_probes', '1')"
                             " ON CONFLICT(key) DO UPDATE SET value = CAST(value AS INTEGER) + 1");
}

enum sg_error sg_db_check(struct sg_db *db)
{
    uint64_t generation = 0;
    enum sg_error err = sg_db_identity_generation(db, &generation);
    if (err || sg_db_writer_last(db->writer) == SG_OK)
        return err;
    /* The writer failed last time. A real write tells whether it still would: when readiness keeps
     * requests away, nothing else would ever find out that the disk has room again. */
    return sg_db_write(db, probe_write, NULL);
}

enum sg_error sg_meta_get(struct sg_db_conn *c, const char *key, char **out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT value FROM meta WHERE key = ?1");
    sg_stmt_bind_text(&st, key);
    char *value = NULL;
    if (sg_stmt_row(&st)) {
        value = strdup(sg_stmt_text(&st, 0));
        if (!value)
            st.err = SG_ERR_NO_MEMORY;
    }
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !value)
        err = SG_ERR_NOT_FOUND;
    if (err)
        free(value);
    else
        *out = value;
    return err;
}

enum sg_error sg_meta_set(struct sg_db_conn *c, const char *key, const char *value)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO meta(key, value) VALUES(?1, ?2)"
                 " ON CONFLICT(key) DO UPDATE SET value = excluded.value");
    sg_stmt_bind_text(&st, key);
    sg_stmt_bind_text(&st, value);
    return sg_stmt_run(&st);
}
