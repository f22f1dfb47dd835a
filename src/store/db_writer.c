/* Group commit. Requests live on their waiters' stacks and form a queue; the thread takes all that
 * is queued, runs each in a savepoint of its own and commits them with one fsync. While that fsync
 * runs, the next group gathers.
 * Invariants: a waiter returns SG_OK only after the COMMIT that holds its work; a request is not
 * touched after `done` is set; closures run, and SQLite works, without the lock held. */
#include "db_writer.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/metrics.h"

/* Bounds how long the first of a group waits for the last one's closure. */
#define BATCH_MAX 256

struct write_request {
    enum sg_error (*fn)(struct sg_db_conn *c, void *arg);
    void *arg;
    struct write_request *next;
    pthread_cond_t finished;
    enum sg_error result; /* the writer's until done */
    bool done;
};

struct sg_db_writer {
    struct sg_db_conn *conn; /* the thread's alone while it runs */
    pthread_t thread;
    _Atomic int last;     /* enum sg_error */
    pthread_mutex_t lock; /* guards head, tail, stopping and every request's done */
    pthread_cond_t work;  /* head or stopping changed */
    struct write_request *head, *tail;
    bool stopping;
};

static const char begin_sql[] = "BEGIN IMMEDIATE";
static const char savepoint_sql[] = "SAVEPOINT request";
static const char release_sql[] = "RELEASE request";
static const char undo_sql[] = "ROLLBACK TO request";
static const char commit_sql[] = "COMMIT";
static const char rollback_sql[] = "ROLLBACK";

/* Prepares what undoes work, so that undoing it later needs no memory. */
static enum sg_error rehearse(struct sg_db_conn *c)
{
    static const char *const script[] = {begin_sql,  savepoint_sql, undo_sql,    release_sql,
                                         commit_sql, begin_sql,     rollback_sql};
    enum sg_error err = SG_OK;
    for (size_t i = 0; i < SG_ARRAY_LEN(script) && !err; i++)
        err = sg_db_conn_run(c, script[i]);
    return err;
}

static void rollback(struct sg_db_conn *c)
{
    enum sg_error err = sg_db_conn_run(c, rollback_sql);
    (void)err; /* ends the transaction whatever it says; callers report the first cause */
}

static enum sg_error run_in_savepoint(struct sg_db_conn *c, struct write_request *r)
{
    enum sg_error err = sg_db_conn_run(c, savepoint_sql);
    if (err)
        return err;
    err = r->fn(c, r->arg);
    if (!sg_db_conn_in_transaction(c))
        return err ? err : SG_ERR_IO; /* SQLite undid it all, and fn did not pass that on */
    if (!err)
        err = sg_db_conn_run(c, release_sql);
    if (!err || !sg_db_conn_in_transaction(c))
        return err;
    /* Half of a closure must never be committed: if it cannot be undone, the whole group goes. */
    if (sg_db_conn_run(c, undo_sql) || sg_db_conn_run(c, release_sql))
        rollback(c);
    return err;
}

/* Everyone in [first, end) who was told yes so far hears err instead. */
static void fail_successes(struct write_request *first, const struct write_request *end,
                           enum sg_error err)
{
    for (struct write_request *r = first; r != end; r = r->next)
        if (!r->result)
            r->result = err;
}

static unsigned count_successes(const struct write_request *r)
{
    unsigned n = 0;
    for (; r; r = r->next)
        n += !r->result;
    return n;
}

/* The first of the list that failed for the disk's sake, not for what was asked. */
static enum sg_error find_trouble(const struct write_request *r)
{
    for (; r; r = r->next)
        if (r->result == SG_ERR_NO_SPACE || r->result == SG_ERR_IO)
            return r->result;
    return SG_OK;
}

static enum sg_error commit(struct sg_db_conn *c)
{
    enum sg_error err = sg_db_conn_run(c, commit_sql);
    if (err && sg_db_conn_in_transaction(c))
        rollback(c);
    return err;
}

/* One transaction over the list. Returns the requests that have not run because SQLite ended the
 * transaction in the middle (full disk, I/O error): they go into another. */
static struct write_request *run_transaction(struct sg_db_writer *w, struct write_request *first)
{
    uint64_t start_ns = sg_clock_mono_ns();
    for (struct write_request *r = first; r; r = r->next)
        r->result = SG_OK;
    enum sg_error err = sg_db_conn_run(w->conn, begin_sql);
    if (err) {
        fail_successes(first, NULL, err);
        atomic_store(&w->last, (int)err);
        return NULL;
    }
    for (struct write_request *r = first; r; r = r->next) {
        r->result = run_in_savepoint(w->conn, r);
        if (sg_db_conn_in_transaction(w->conn))
            continue;
        err = r->result ? r->result : SG_ERR_IO;
        fail_successes(first, r->next, err);
        atomic_store(&w->last, (int)err);
        return r->next;
    }
    unsigned n = count_successes(first);
    err = commit(w->conn);
    fail_successes(first, NULL, err);
    enum sg_error trouble = err || n ? err : find_trouble(first);
    if (trouble || n) /* a group in which nothing was written proves nothing about the disk */
        atomic_store(&w->last, (int)trouble);
    if (!err)
        sg_db_conn_tell(w->conn);
    if (!err && n) {
        sg_metric_add(SG_METRIC_DB_COMMITS, 0, 1);
        sg_metric_add(SG_METRIC_DB_WRITES, 0, n);
        sg_metric_observe_ns(SG_METRIC_DB_COMMIT_LATENCY, 0, sg_clock_mono_ns() - start_ns);
    }
    return NULL;
}

/* Called with the lock held. */
static struct write_request *take_batch(struct sg_db_writer *w)
{
    struct write_request *first = w->head, *last = first;
    for (unsigned n = 1; n < BATCH_MAX && last->next; n++)
        last = last->next;
    w->head = last->next;
    if (!w->head)
        w->tail = NULL;
    last->next = NULL;
    return first;
}

static void *writer_main(void *arg)
{
    struct sg_db_writer *w = arg;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->head && !w->stopping)
            pthread_cond_wait(&w->work, &w->lock);
        if (!w->head)
            break;
        struct write_request *batch = take_batch(w);
        pthread_mutex_unlock(&w->lock);
        for (struct write_request *todo = batch; todo;)
            todo = run_transaction(w, todo);
        pthread_mutex_lock(&w->lock);
        while (batch) {
            struct write_request *next = batch->next;
            batch->done = true;
            pthread_cond_signal(&batch->finished); /* the waiter cannot go before we unlock */
            batch = next;
        }
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static int start_thread(struct sg_db_writer *w)
{
    /* Signals are for the thread that waits for them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, writer_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        pthread_setname_np(w->thread, "db-writer");
    return rc;
}

enum sg_error sg_db_writer_create(struct sg_db_conn *conn, struct sg_db_writer **out)
{
    enum sg_error err = rehearse(conn);
    if (err)
        return err;
    struct sg_db_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return SG_ERR_NO_MEMORY;
    w->conn = conn;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    if (start_thread(w) != 0) {
        pthread_cond_destroy(&w->work);
        pthread_mutex_destroy(&w->lock);
        free(w);
        return SG_ERR_UNAVAILABLE;
    }
    *out = w;
    return SG_OK;
}

void sg_db_writer_destroy(struct sg_db_writer **writer)
{
    struct sg_db_writer *w = *writer;
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    /* Only tidiness: what is in the WAL is as durable as what is in the file. */
    sqlite3_wal_checkpoint_v2(w->conn->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sg_db_conn_close(&w->conn);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    free(w);
    *writer = NULL;
}

enum sg_error sg_db_writer_run(struct sg_db_writer *w,
                               enum sg_error (*fn)(struct sg_db_conn *c, void *arg), void *arg)
{
    struct write_request r = {.fn = fn, .arg = arg, .finished = PTHREAD_COND_INITIALIZER};
    pthread_mutex_lock(&w->lock);
    if (w->stopping) {
        pthread_mutex_unlock(&w->lock);
        return SG_ERR_UNAVAILABLE;
    }
    if (w->tail)
        w->tail->next = &r;
    else
        w->head = &r;
    w->tail = &r;
    pthread_cond_signal(&w->work);
    while (!r.done)
        pthread_cond_wait(&r.finished, &w->lock);
    pthread_mutex_unlock(&w->lock);
    pthread_cond_destroy(&r.finished);
    return r.result;
}

enum sg_error sg_db_writer_last(struct sg_db_writer *w)
{
    return (enum sg_error)atomic_load(&w->last);
}
