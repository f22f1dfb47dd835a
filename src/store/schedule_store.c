/* Schedules: when the next job of a kind is to be made. Invariant: next_ms moves only forward, by
 * whoever saw its value, so each due time makes at most one job. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "job_rows.h"

#define LIMIT_MAX 1000
#define AFTER_ALL_IDS "~" /* sorts behind every ULID */

#define COLUMNS                                                                                    \
    "id, owner, type, cron, zone, payload, priority, max_attempts, missed, next_ms, last_ms, "     \
    "last_job, created_ms"

static const char *const missed_names[SG_MISSED_COUNT] = {"skip", "once"};

const char *sg_missed_name(enum sg_missed m)
{
    return (unsigned)m < SG_MISSED_COUNT ? missed_names[m] : "unknown";
}

enum sg_error sg_missed_parse(const char *s, enum sg_missed *out)
{
    for (unsigned i = 0; i < SG_MISSED_COUNT; i++) {
        if (strcmp(s, missed_names[i]) == 0) {
            *out = (enum sg_missed)i;
            return SG_OK;
        }
    }
    return SG_ERR_INVALID;
}

static enum sg_error from_row(struct sg_stmt *st, struct sg_schedule **out)
{
    static const struct sg_job_text texts[] = {
        {3, offsetof(struct sg_schedule, f.cron)},
        {4, offsetof(struct sg_schedule, f.zone)},
        {5, offsetof(struct sg_schedule, f.payload)},
    };
    struct sg_schedule *s = sg_job_alloc_row(st, sizeof(*s), texts, SG_ARRAY_LEN(texts));
    if (!s)
        return st->err;
    struct sg_schedule_fields *f = &s->f;
    sg_job_copy_text(st, 0, f->id, sizeof(f->id));
    sg_job_copy_text(st, 1, f->owner, sizeof(f->owner));
    sg_job_copy_text(st, 2, f->type, sizeof(f->type));
    f->priority = (unsigned)sg_stmt_u64(st, 6);
    f->max_attempts = (unsigned)sg_stmt_u64(st, 7);
    f->missed = sg_stmt_u64(st, 8) == SG_MISSED_ONCE ? SG_MISSED_ONCE : SG_MISSED_SKIP;
    f->next_ms = sg_stmt_u64(st, 9);
    f->last_ms = sg_stmt_u64(st, 10);
    sg_job_copy_text(st, 11, f->last_job, sizeof(f->last_job));
    f->created_ms = sg_stmt_u64(st, 12);
    if (st->err)
        sg_schedule_free(&s);
    else
        *out = s;
    return st->err;
}

void sg_schedule_free(struct sg_schedule **s)
{
    free(*s);
    *s = NULL;
}

enum sg_error sg_schedule_insert(struct sg_db_conn *c, const struct sg_schedule_fields *f)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO job_schedules(id, owner, type, cron, zone, payload, priority,"
                 " max_attempts, missed, next_ms, last_ms, last_job, created_ms)"
                 " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, '', ?11)");
    sg_stmt_bind_text(&st, f->id);
    sg_stmt_bind_text(&st, f->owner);
    sg_stmt_bind_text(&st, f->type);
    sg_stmt_bind_text(&st, f->cron);
    sg_stmt_bind_text(&st, f->zone);
    sg_stmt_bind_text(&st, f->payload);
    sg_stmt_bind_u64(&st, f->priority);
    sg_stmt_bind_u64(&st, f->max_attempts);
    sg_stmt_bind_u64(&st, f->missed);
    sg_stmt_bind_u64(&st, f->next_ms);
    sg_stmt_bind_u64(&st, f->created_ms);
    return sg_stmt_run(&st);
}

static enum sg_error one(struct sg_stmt *st, struct sg_schedule **out)
{
    struct sg_schedule *s = NULL;
    bool found = sg_stmt_row(st) && from_row(st, &s) == SG_OK;
    enum sg_error err = sg_stmt_close(st);
    if (!err && !found)
        err = SG_ERR_NOT_FOUND;
    if (err)
        sg_schedule_free(&s);
    else
        *out = s;
    return err;
}

enum sg_error sg_schedule_get(struct sg_db_conn *c, const char *id, struct sg_schedule **out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT " COLUMNS " FROM job_schedules WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    return one(&st, out);
}

enum sg_error sg_schedule_first(struct sg_db_conn *c, struct sg_schedule **out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT " COLUMNS " FROM job_schedules ORDER BY next_ms, id LIMIT 1");
    return one(&st, out);
}

enum sg_error sg_schedule_delete(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "DELETE FROM job_schedules WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run_changing(&st);
}

enum sg_error sg_schedule_list(struct sg_db_conn *c, const char *before, unsigned limit,
                               struct sg_schedule_list *out)
{
    if (limit < 1 || limit > LIMIT_MAX)
        return SG_ERR_INVALID;
    struct sg_schedule_list page = {.items = calloc(limit, sizeof(struct sg_schedule *))};
    if (!page.items)
        return SG_ERR_NO_MEMORY;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT " COLUMNS " FROM job_schedules WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
    sg_stmt_bind_text(&st, before ? before : AFTER_ALL_IDS);
    sg_stmt_bind_u64(&st, limit);
    while (page.n < limit && sg_stmt_row(&st) && from_row(&st, &page.items[page.n]) == SG_OK)
        page.n++;
    enum sg_error err = sg_stmt_close(&st);
    if (err)
        sg_schedule_list_free(&page);
    else
        *out = page;
    return err;
}

void sg_schedule_list_free(struct sg_schedule_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        sg_schedule_free(&list->items[i]);
    free(list->items);
    *list = (struct sg_schedule_list){0};
}

enum sg_error sg_schedule_advance(struct sg_db_conn *c, const struct sg_schedule_move *m)
{
    struct sg_schedule *s = NULL;
    enum sg_error err = sg_schedule_get(c, m->id, &s);
    if (err)
        return err;
    bool seen = s->f.next_ms == m->from_ms;
    sg_schedule_free(&s);
    if (!seen)
        return SG_ERR_CONFLICT;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE job_schedules SET next_ms = ?2,"
                 " last_ms = CASE WHEN ?3 IS NULL THEN last_ms ELSE ?4 END,"
                 " last_job = coalesce(?3, last_job) WHERE id = ?1");
    sg_stmt_bind_text(&st, m->id);
    sg_stmt_bind_u64(&st, m->next_ms);
    sg_stmt_bind_text(&st, m->job_id);
    sg_stmt_bind_u64(&st, m->now_ms);
    return sg_stmt_run_changing(&st);
}
