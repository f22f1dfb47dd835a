/* Reading jobs: one, pages, counts; and the removal of old ones. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"

#include "job_rows.h"

#define LIMIT_MAX 1000
#define AFTER_ALL_IDS "~" /* sorts behind every ULID */

static const char *const state_names[SG_JOB_STATE_COUNT] = {
    [SG_JOB_QUEUED] = "queued", [SG_JOB_RUNNING] = "running",     [SG_JOB_DONE] = "done",
    [SG_JOB_FAILED] = "failed", [SG_JOB_CANCELLED] = "cancelled", [SG_JOB_DEAD] = "dead",
};

const char *sg_job_state_name(enum sg_job_state s)
{
    return (unsigned)s < SG_JOB_STATE_COUNT ? state_names[s] : "unknown";
}

enum sg_error sg_job_state_parse(const char *s, enum sg_job_state *out)
{
    for (unsigned i = 0; i < SG_JOB_STATE_COUNT; i++) {
        if (strcmp(s, state_names[i]) == 0) {
            *out = (enum sg_job_state)i;
            return SG_OK;
        }
    }
    return SG_ERR_INVALID;
}

void sg_job_copy_text(struct sg_stmt *st, int col, char *out, size_t size)
{
    const char *s = sg_stmt_text(st, col);
    size_t len = strlen(s);
    if (len < size)
        memcpy(out, s, len + 1);
    else
        st->err = SG_ERR_IO;
}

void *sg_job_alloc_row(struct sg_stmt *st, size_t head, const struct sg_job_text *texts, size_t n)
{
    size_t size = head;
    for (size_t i = 0; i < n; i++)
        size += strlen(sg_stmt_text(st, texts[i].col)) + 1;
    char *block = calloc(1, size);
    if (!block) {
        st->err = SG_ERR_NO_MEMORY;
        return NULL;
    }
    char *at = block + head;
    for (size_t i = 0; i < n; i++) {
        const char *s = sg_stmt_text(st, texts[i].col);
        size_t len = strlen(s) + 1;
        memcpy(at, s, len);
        const char *copy = at;
        memcpy(block + texts[i].member, &copy, sizeof(copy));
        at += len;
    }
    return block;
}

enum sg_error sg_job_from_row(struct sg_stmt *st, struct sg_job **out)
{
    static const struct sg_job_text texts[] = {
        {5, offsetof(struct sg_job, f.payload)},     {15, offsetof(struct sg_job, f.depends_on)},
        {16, offsetof(struct sg_job, f.progress)},   {17, offsetof(struct sg_job, f.result)},
        {18, offsetof(struct sg_job, f.error_slug)}, {19, offsetof(struct sg_job, f.error_detail)},
    };
    struct sg_job *job = sg_job_alloc_row(st, sizeof(*job), texts, SG_ARRAY_LEN(texts));
    if (!job)
        return st->err;
    struct sg_job_fields *f = &job->f;
    sg_job_copy_text(st, 0, f->id, sizeof(f->id));
    sg_job_copy_text(st, 1, f->owner, sizeof(f->owner));
    sg_job_copy_text(st, 2, f->asset_id, sizeof(f->asset_id));
    sg_job_copy_text(st, 3, f->schedule_id, sizeof(f->schedule_id));
    sg_job_copy_text(st, 4, f->type, sizeof(f->type));
    f->priority = (unsigned)sg_stmt_u64(st, 6);
    uint64_t state = sg_stmt_u64(st, 7);
    f->run_at_ms = sg_stmt_u64(st, 8);
    f->attempts = (unsigned)sg_stmt_u64(st, 9);
    f->max_attempts = (unsigned)sg_stmt_u64(st, 10);
    f->crashes = (unsigned)sg_stmt_u64(st, 11);
    f->cancel = sg_stmt_u64(st, 12) != 0;
    f->lease_ms = sg_stmt_u64(st, 13);
    sg_job_copy_text(st, 14, f->lease, sizeof(f->lease));
    f->created_ms = sg_stmt_u64(st, 20);
    f->updated_ms = sg_stmt_u64(st, 21);
    f->started_ms = sg_stmt_u64(st, 22);
    f->finished_ms = sg_stmt_u64(st, 23);
    if (state >= SG_JOB_STATE_COUNT)
        st->err = SG_ERR_IO;
    f->state = (enum sg_job_state)state;
    if (st->err)
        sg_job_free(&job);
    else
        *out = job;
    return st->err;
}

void sg_job_free(struct sg_job **job)
{
    free(*job);
    *job = NULL;
}

enum sg_error sg_job_get(struct sg_db_conn *c, const char *id, struct sg_job **out)
{
    struct sg_stmt st;
    struct sg_job *job = NULL;
    sg_stmt_open(&st, c, "SELECT " SG_JOB_COLUMNS " FROM jobs WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    bool found = sg_stmt_row(&st) && sg_job_from_row(&st, &job) == SG_OK;
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !found)
        err = SG_ERR_NOT_FOUND;
    if (err)
        sg_job_free(&job);
    else
        *out = job;
    return err;
}

/* The filters that are there, each by the words of an index where there is one. */
static void open_list(struct sg_stmt *st, struct sg_db_conn *c, const struct sg_job_query *q)
{
    struct sg_text sql = {0};
    sg_text_puts(&sql, "SELECT " SG_JOB_COLUMNS " FROM jobs WHERE id < ?1");
    sg_text_puts(&sql, q->owner ? " AND owner = ?3" : " AND ?3 IS NULL");
    sg_text_puts(&sql, q->type ? " AND type = ?4" : " AND ?4 IS NULL");
    sg_text_puts(&sql, q->asset_id ? " AND asset_id = ?5" : " AND ?5 IS NULL");
    sg_text_puts(&sql, q->state >= 0 ? " AND state = ?6" : "");
    sg_text_puts(&sql, " ORDER BY id DESC LIMIT ?2");
    if (sql.failed)
        *st = (struct sg_stmt){.conn = c, .err = SG_ERR_NO_MEMORY};
    else
        sg_stmt_open_text(st, c, sql.ptr, sql.len);
    sg_text_free(&sql);
    sg_stmt_bind_text(st, q->before ? q->before : AFTER_ALL_IDS);
    sg_stmt_bind_u64(st, q->limit);
    sg_stmt_bind_text(st, q->owner);
    sg_stmt_bind_text(st, q->type);
    sg_stmt_bind_text(st, q->asset_id);
    if (q->state >= 0)
        sg_stmt_bind_u64(st, (uint64_t)q->state);
}

enum sg_error sg_job_list(struct sg_db_conn *c, const struct sg_job_query *q,
                          struct sg_job_list *out)
{
    if (q->limit < 1 || q->limit > LIMIT_MAX || q->state >= SG_JOB_STATE_COUNT)
        return SG_ERR_INVALID;
    struct sg_job_list page = {.items = calloc(q->limit, sizeof(struct sg_job *))};
    if (!page.items)
        return SG_ERR_NO_MEMORY;
    struct sg_stmt st;
    open_list(&st, c, q);
    while (page.n < q->limit && sg_stmt_row(&st) &&
           sg_job_from_row(&st, &page.items[page.n]) == SG_OK)
        page.n++;
    enum sg_error err = sg_stmt_close(&st);
    if (err)
        sg_job_list_free(&page);
    else
        *out = page;
    return err;
}

void sg_job_list_free(struct sg_job_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        sg_job_free(&list->items[i]);
    free(list->items);
    *list = (struct sg_job_list){0};
}

enum sg_error sg_job_count_open(struct sg_db_conn *c, const char *type, uint64_t *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT count(*) FROM jobs WHERE type = ?1 AND state IN (0, 1)");
    sg_stmt_bind_text(&st, type);
    uint64_t n = sg_stmt_row(&st) ? sg_stmt_u64(&st, 0) : 0;
    enum sg_error err = sg_stmt_close(&st);
    if (!err)
        *out = n;
    return err;
}

enum sg_error sg_job_counts(struct sg_db_conn *c, uint64_t out[SG_JOB_STATE_COUNT])
{
    uint64_t counts[SG_JOB_STATE_COUNT] = {0};
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT state, count(*) FROM jobs GROUP BY state");
    while (sg_stmt_row(&st)) {
        uint64_t state = sg_stmt_u64(&st, 0);
        if (state < SG_JOB_STATE_COUNT)
            counts[state] = sg_stmt_u64(&st, 1);
    }
    enum sg_error err = sg_stmt_close(&st);
    if (!err)
        memcpy(out, counts, sizeof(counts));
    return err;
}

enum sg_error sg_job_is_full(struct sg_db_conn *c, uint64_t max_queued, bool *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = 0 LIMIT ?1)");
    sg_stmt_bind_u64(&st, max_queued);
    bool full = sg_stmt_row(&st) && sg_stmt_u64(&st, 0) >= max_queued;
    enum sg_error err = sg_stmt_close(&st);
    if (!err)
        *out = full;
    return err;
}

enum sg_error sg_job_next_due(struct sg_db_conn *c, uint64_t now_ms, uint64_t *out_ms)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT run_at_ms FROM jobs INDEXED BY jobs_due WHERE state = 0 AND blocked = 0"
                 " AND run_at_ms > ?1"
                 " ORDER BY run_at_ms LIMIT 1");
    sg_stmt_bind_u64(&st, now_ms);
    uint64_t due = sg_stmt_row(&st) ? sg_stmt_u64(&st, 0) : UINT64_MAX;
    enum sg_error err = sg_stmt_close(&st);
    if (!err)
        *out_ms = due;
    return err;
}

enum sg_error sg_job_prune(struct sg_db_conn *c, uint64_t before_ms, unsigned limit,
                           uint64_t *out_n)
{
    if (limit < 1 || limit > LIMIT_MAX)
        return SG_ERR_INVALID;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "DELETE FROM jobs WHERE seq IN (SELECT seq FROM jobs WHERE state > 1"
                 " AND finished_ms < ?1 ORDER BY finished_ms LIMIT ?2)");
    sg_stmt_bind_u64(&st, before_ms);
    sg_stmt_bind_u64(&st, limit);
    enum sg_error err = sg_stmt_run_changing(&st);
    if (err && err != SG_ERR_NOT_FOUND)
        return err;
    *out_n = err ? 0 : (uint64_t)sqlite3_changes64(c->handle);
    return SG_OK;
}
