/* Hooks. Invariant: one that is removed or disabled has no pending delivery. */
#include "streamgate/store/webhook_store.h"

#include <stdlib.h>
#include <string.h>

#include "job_rows.h"
#include "webhook_rows.h"

#define LIMIT_MAX 1000
#define PURGE_BATCH 500
#define AFTER_ALL_IDS "~" /* sorts behind every ULID */

static const char *const type_names[SG_WEBHOOK_TYPE_COUNT] = {
    [SG_WEBHOOK_ASSET_CREATED] = "asset.created",
    [SG_WEBHOOK_ASSET_READY] = "asset.ready",
    [SG_WEBHOOK_ASSET_FAILED] = "asset.failed",
    [SG_WEBHOOK_ASSET_DELETED] = "asset.deleted",
    [SG_WEBHOOK_UPLOAD_COMPLETED] = "upload.completed",
    [SG_WEBHOOK_JOB_FAILED] = "job.failed",
    [SG_WEBHOOK_ALERT_RAISED] = "alert.raised",
    [SG_WEBHOOK_ALERT_RESOLVED] = "alert.resolved",
    [SG_WEBHOOK_PING] = "ping",
};

const char *sg_webhook_type_name(enum sg_webhook_type t)
{
    return (unsigned)t < SG_WEBHOOK_TYPE_COUNT ? type_names[t] : "unknown";
}

enum sg_error sg_webhook_type_parse(const char *s, enum sg_webhook_type *out)
{
    for (unsigned i = 0; i < SG_WEBHOOK_PING; i++) {
        if (strcmp(s, type_names[i]) == 0) {
            *out = (enum sg_webhook_type)i;
            return SG_OK;
        }
    }
    return SG_ERR_INVALID;
}

/* ---- hooks ---- */

#define COLUMNS                                                                                    \
    "id, owner, url, description, events, everything, enabled, disabled_why, generation, "         \
    "previous_until_ms, created_ms, updated_ms"

static enum sg_error from_row(struct sg_stmt *st, struct sg_webhook **out)
{
    static const struct sg_job_text texts[] = {
        {2, offsetof(struct sg_webhook, f.url)},
        {3, offsetof(struct sg_webhook, f.description)},
        {7, offsetof(struct sg_webhook, f.disabled_why)},
    };
    struct sg_webhook *h = sg_job_alloc_row(st, sizeof(*h), texts, SG_ARRAY_LEN(texts));
    if (!h)
        return st->err;
    struct sg_webhook_fields *f = &h->f;
    sg_job_copy_text(st, 0, f->id, sizeof(f->id));
    sg_job_copy_text(st, 1, f->owner, sizeof(f->owner));
    f->events = (uint32_t)sg_stmt_u64(st, 4);
    f->everything = sg_stmt_u64(st, 5) != 0;
    f->enabled = sg_stmt_u64(st, 6) != 0;
    f->generation = (uint32_t)sg_stmt_u64(st, 8);
    f->previous_until_ms = sg_stmt_u64(st, 9);
    f->created_ms = sg_stmt_u64(st, 10);
    f->updated_ms = sg_stmt_u64(st, 11);
    if (st->err)
        sg_webhook_free(&h);
    else
        *out = h;
    return st->err;
}

void sg_webhook_free(struct sg_webhook **h)
{
    free(*h);
    *h = NULL;
}

static enum sg_error check_room(struct sg_db_conn *c, const char *owner, uint64_t max)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT count(*) FROM webhooks WHERE owner = ?1 AND removed = 0");
    sg_stmt_bind_text(&st, owner);
    bool full = sg_stmt_row(&st) && sg_stmt_u64(&st, 0) >= max;
    enum sg_error err = sg_stmt_close(&st);
    return !err && full ? SG_ERR_CONFLICT : err;
}

enum sg_error sg_webhook_insert(struct sg_db_conn *c, const struct sg_webhook_fields *f,
                                uint64_t max_per_owner)
{
    enum sg_error err = check_room(c, f->owner, max_per_owner);
    if (err)
        return err;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO webhooks(id, owner, url, description, events, everything, enabled,"
                 " disabled_why, generation, previous_until_ms, removed, created_ms, updated_ms)"
                 " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, '', 1, 0, 0, ?8, ?8)");
    sg_stmt_bind_text(&st, f->id);
    sg_stmt_bind_text(&st, f->owner);
    sg_stmt_bind_text(&st, f->url);
    sg_stmt_bind_text(&st, f->description);
    sg_stmt_bind_u64(&st, f->events);
    sg_stmt_bind_u64(&st, f->everything);
    sg_stmt_bind_u64(&st, f->enabled);
    sg_stmt_bind_u64(&st, f->created_ms);
    return sg_stmt_run(&st);
}

enum sg_error sg_webhook_get(struct sg_db_conn *c, const char *id, struct sg_webhook **out)
{
    struct sg_stmt st;
    struct sg_webhook *h = NULL;
    sg_stmt_open(&st, c, "SELECT " COLUMNS " FROM webhooks WHERE id = ?1 AND removed = 0");
    sg_stmt_bind_text(&st, id);
    bool found = sg_stmt_row(&st) && from_row(&st, &h) == SG_OK;
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !found)
        err = SG_ERR_NOT_FOUND;
    if (err)
        sg_webhook_free(&h);
    else
        *out = h;
    return err;
}

enum sg_error sg_webhook_list(struct sg_db_conn *c, const char *owner, const char *before,
                              unsigned limit, struct sg_webhook_list *out)
{
    if (limit < 1 || limit > LIMIT_MAX)
        return SG_ERR_INVALID;
    struct sg_webhook_list page = {.items = calloc(limit, sizeof(struct sg_webhook *))};
    if (!page.items)
        return SG_ERR_NO_MEMORY;
    struct sg_stmt st;
    if (owner)
        sg_stmt_open(&st, c,
                     "SELECT " COLUMNS " FROM webhooks WHERE removed = 0 AND id < ?1"
                     " AND owner = ?3 ORDER BY id DESC LIMIT ?2");
    else
        sg_stmt_open(&st, c,
                     "SELECT " COLUMNS " FROM webhooks WHERE removed = 0 AND id < ?1"
                     " AND ?3 IS NULL ORDER BY id DESC LIMIT ?2");
    sg_stmt_bind_text(&st, before ? before : AFTER_ALL_IDS);
    sg_stmt_bind_u64(&st, limit);
    sg_stmt_bind_text(&st, owner);
    while (page.n < limit && sg_stmt_row(&st) && from_row(&st, &page.items[page.n]) == SG_OK)
        page.n++;
    enum sg_error err = sg_stmt_close(&st);
    if (err)
        sg_webhook_list_free(&page);
    else
        *out = page;
    return err;
}

void sg_webhook_list_free(struct sg_webhook_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        sg_webhook_free(&list->items[i]);
    free(list->items);
    *list = (struct sg_webhook_list){0};
}

enum sg_error sg_webhook_update(struct sg_db_conn *c, const struct sg_webhook_fields *f)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE webhooks SET url = ?2, description = ?3, events = ?4, enabled = ?5,"
                 " disabled_why = ?6, updated_ms = ?7 WHERE id = ?1 AND removed = 0");
    sg_stmt_bind_text(&st, f->id);
    sg_stmt_bind_text(&st, f->url);
    sg_stmt_bind_text(&st, f->description);
    sg_stmt_bind_u64(&st, f->events);
    sg_stmt_bind_u64(&st, f->enabled);
    sg_stmt_bind_text(&st, f->disabled_why);
    sg_stmt_bind_u64(&st, f->updated_ms);
    enum sg_error err = sg_stmt_run_changing(&st);
    if (err || f->enabled)
        return err;
    return sg_delivery_end_all(c, f->id, f->updated_ms, "the webhook was disabled");
}

enum sg_error sg_webhook_disable(struct sg_db_conn *c, const char *id, uint64_t now_ms,
                                 const char *why)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE webhooks SET enabled = 0, disabled_why = ?3, updated_ms = ?2"
                 " WHERE id = ?1 AND removed = 0");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_u64(&st, now_ms);
    sg_stmt_bind_text(&st, why);
    enum sg_error err = sg_stmt_run_changing(&st);
    return err ? err : sg_delivery_end_all(c, id, now_ms, why);
}

enum sg_error sg_webhook_rotate(struct sg_db_conn *c, const char *id, uint64_t now_ms,
                                uint64_t overlap_until_ms)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE webhooks SET generation = generation + 1, previous_until_ms = ?3,"
                 " updated_ms = ?2 WHERE id = ?1 AND removed = 0");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_u64(&st, now_ms);
    sg_stmt_bind_u64(&st, overlap_until_ms);
    return sg_stmt_run_changing(&st);
}

enum sg_error sg_webhook_remove(struct sg_db_conn *c, const char *id, uint64_t now_ms)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE webhooks SET removed = 1, enabled = 0, updated_ms = ?2"
                 " WHERE id = ?1 AND removed = 0");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_u64(&st, now_ms);
    enum sg_error err = sg_stmt_run_changing(&st);
    return err ? err : sg_delivery_end_all(c, id, now_ms, "the webhook was removed");
}

/* One hook's deliveries may be a million: a transaction takes a piece of them. */
enum sg_error sg_webhook_purge(struct sg_db_conn *c, bool *more)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "DELETE FROM webhook_deliveries WHERE seq IN (SELECT d.seq FROM webhooks h"
                 " JOIN webhook_deliveries d INDEXED BY webhook_deliveries_hook"
                 " ON d.hook_id = h.id WHERE h.removed = 1 LIMIT ?1)");
    sg_stmt_bind_u64(&st, PURGE_BATCH);
    enum sg_error err = sg_stmt_run_changing(&st);
    if (err && err != SG_ERR_NOT_FOUND)
        return err;
    *more = !err && sqlite3_changes64(c->handle) == PURGE_BATCH;
    if (*more)
        return SG_OK;
    sg_stmt_open(&st, c, "DELETE FROM webhooks WHERE removed = 1");
    return sg_stmt_run(&st);
}
