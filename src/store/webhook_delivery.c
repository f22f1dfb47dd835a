/* Deliveries: rows that wait to be sent, and what came of sending. The body is stored as it is
 * sent, so that every try, also one after a restart, has the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"

#include "job_rows.h"
#include "webhook_rows.h"

#define LIMIT_MAX 1000
#define AFTER_ALL_IDS "~" /* sorts behind every ULID */

_Static_assert(SG_DELIVERY_PENDING == 0 && SG_DELIVERY_DELIVERED == 1 && SG_DELIVERY_FAILED == 2,
               "the numbers in SQL");

static const char *const state_names[SG_DELIVERY_STATE_COUNT] = {
    [SG_DELIVERY_PENDING] = "pending",
    [SG_DELIVERY_DELIVERED] = "delivered",
    [SG_DELIVERY_FAILED] = "failed",
};

const char *sg_delivery_state_name(enum sg_delivery_state s)
{
    return (unsigned)s < SG_DELIVERY_STATE_COUNT ? state_names[s] : "unknown";
}

enum sg_error sg_delivery_state_parse(const char *s, enum sg_delivery_state *out)
{
    for (unsigned i = 0; i < SG_DELIVERY_STATE_COUNT; i++) {
        if (strcmp(s, state_names[i]) == 0) {
            *out = (enum sg_delivery_state)i;
            return SG_OK;
        }
    }
    return SG_ERR_INVALID;
}

/* ---- rows ---- */

#define COLUMNS                                                                                    \
    "d.id, d.hook_id, d.event_id, d.type, d.body, d.state, d.attempts, d.status, d.error, "        \
    "d.latency_ms, d.next_ms, d.since_ms, d.created_ms, d.updated_ms, d.ended_ms"

/* Texts point into the row. */
static void read_row(struct sg_stmt *st, struct sg_delivery_fields *f)
{
    sg_job_copy_text(st, 0, f->id, sizeof(f->id));
    sg_job_copy_text(st, 1, f->hook_id, sizeof(f->hook_id));
    sg_job_copy_text(st, 2, f->event_id, sizeof(f->event_id));
    uint64_t type = sg_stmt_u64(st, 3), state = sg_stmt_u64(st, 5);
    if (type >= SG_WEBHOOK_TYPE_COUNT || state >= SG_DELIVERY_STATE_COUNT)
        st->err = SG_ERR_IO;
    f->type = (enum sg_webhook_type)type;
    f->state = (enum sg_delivery_state)state;
    f->attempts = (unsigned)sg_stmt_u64(st, 6);
    f->status = (unsigned)sg_stmt_u64(st, 7);
    f->latency_ms = sg_stmt_u64(st, 9);
    f->next_ms = sg_stmt_u64(st, 10);
    f->since_ms = sg_stmt_u64(st, 11);
    f->created_ms = sg_stmt_u64(st, 12);
    f->updated_ms = sg_stmt_u64(st, 13);
    f->ended_ms = sg_stmt_u64(st, 14);
}

static enum sg_error from_row(struct sg_stmt *st, struct sg_delivery **out)
{
    static const struct sg_job_text texts[] = {
        {4, offsetof(struct sg_delivery, f.body)},
        {8, offsetof(struct sg_delivery, f.error)},
    };
    struct sg_delivery *d = sg_job_alloc_row(st, sizeof(*d), texts, SG_ARRAY_LEN(texts));
    if (!d)
        return st->err;
    read_row(st, &d->f);
    if (st->err)
        sg_delivery_free(&d);
    else
        *out = d;
    return st->err;
}

void sg_delivery_free(struct sg_delivery **d)
{
    free(*d);
    *d = NULL;
}

enum sg_error sg_delivery_insert(struct sg_db_conn *c, struct sg_delivery_new *d)
{
    struct sg_stmt st;
    sg_ulid_make(d->id);
    sg_stmt_open(&st, c,
                 "INSERT INTO webhook_deliveries(id, hook_id, event_id, type, body, state,"
                 " attempts, status, error, latency_ms, next_ms, since_ms, created_ms, updated_ms,"
                 " ended_ms) VALUES(?1, ?2, ?3, ?4, ?5, 0, 0, 0, '', 0, ?6, ?6, ?6, ?6, 0)");
    sg_stmt_bind_text(&st, d->id);
    sg_stmt_bind_text(&st, d->hook_id);
    sg_stmt_bind_text(&st, d->event_id);
    sg_stmt_bind_u64(&st, d->type);
    sg_stmt_bind_text(&st, d->body);
    sg_stmt_bind_u64(&st, d->now_ms);
    return sg_stmt_run(&st);
}

/* ---- the log ---- */

enum sg_error sg_delivery_get(struct sg_db_conn *c, const char *hook_id, const char *id,
                              struct sg_delivery **out)
{
    struct sg_stmt st;
    struct sg_delivery *d = NULL;
    sg_stmt_open(&st, c,
                 "SELECT " COLUMNS " FROM webhook_deliveries d WHERE id = ?1 AND hook_id = ?2");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_text(&st, hook_id);
    bool found = sg_stmt_row(&st) && from_row(&st, &d) == SG_OK;
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !found)
        err = SG_ERR_NOT_FOUND;
    if (err)
        sg_delivery_free(&d);
    else
        *out = d;
    return err;
}

/* Pending and failed ones are few among many that were delivered, and have an index. */
static void open_list(struct sg_stmt *st, struct sg_db_conn *c, int state)
{
    if (state < 0)
        sg_stmt_open(st, c,
                     "SELECT " COLUMNS " FROM webhook_deliveries d WHERE hook_id = ?1 AND id < ?2"
                     " AND ?4 IS NULL ORDER BY id DESC LIMIT ?3");
    else if (state == SG_DELIVERY_DELIVERED)
        sg_stmt_open(st, c,
                     "SELECT " COLUMNS " FROM webhook_deliveries d WHERE hook_id = ?1 AND id < ?2"
                     " AND state = ?4 ORDER BY id DESC LIMIT ?3");
    else
        sg_stmt_open(st, c,
                     "SELECT " COLUMNS " FROM webhook_deliveries d INDEXED BY"
                     " webhook_deliveries_undone WHERE hook_id = ?1 AND id < ?2 AND state <> 1"
                     " AND state = ?4 ORDER BY id DESC LIMIT ?3");
}

enum sg_error sg_delivery_list(struct sg_db_conn *c, const struct sg_delivery_query *q,
                               struct sg_delivery_list *out)
{
    if (q->limit < 1 || q->limit > LIMIT_MAX || q->state >= SG_DELIVERY_STATE_COUNT)
        return SG_ERR_INVALID;
    struct sg_delivery_list page = {.items = calloc(q->limit, sizeof(struct sg_delivery *))};
    if (!page.items)
        return SG_ERR_NO_MEMORY;
    struct sg_stmt st;
    open_list(&st, c, q->state);
    sg_stmt_bind_text(&st, q->hook_id);
    sg_stmt_bind_text(&st, q->before ? q->before : AFTER_ALL_IDS);
    sg_stmt_bind_u64(&st, q->limit);
    if (q->state < 0)
        sg_stmt_bind_text(&st, NULL);
    else
        sg_stmt_bind_u64(&st, (uint64_t)q->state);
    while (page.n < q->limit && sg_stmt_row(&st) && from_row(&st, &page.items[page.n]) == SG_OK)
        page.n++;
    enum sg_error err = sg_stmt_close(&st);
    if (err)
        sg_delivery_list_free(&page);
    else
        *out = page;
    return err;
}

void sg_delivery_list_free(struct sg_delivery_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        sg_delivery_free(&list->items[i]);
    free(list->items);
    *list = (struct sg_delivery_list){0};
}

enum sg_error sg_delivery_again(struct sg_db_conn *c, const char *hook_id, const char *id,
                                uint64_t now_ms)
{
    struct sg_webhook *h = NULL;
    enum sg_error err = sg_webhook_get(c, hook_id, &h);
    if (err)
        return err;
    bool enabled = h->f.enabled;
    sg_webhook_free(&h);
    if (!enabled)
        return SG_ERR_CONFLICT;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE webhook_deliveries SET state = 0, attempts = 0, next_ms = ?3,"
                 " since_ms = ?3, updated_ms = ?3, ended_ms = 0 WHERE id = ?1 AND hook_id = ?2");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_text(&st, hook_id);
    sg_stmt_bind_u64(&st, now_ms);
    return sg_stmt_run_changing(&st);
}

/* ---- sending ---- */

/* Leaps from hook to hook in the index of what is due, so that the time does not grow with how much
 * waits for one of them. */
enum sg_error sg_delivery_hooks(struct sg_db_conn *c,
                                enum sg_error (*visit)(void *arg, const char *hook_id,
                                                       uint64_t next_ms),
                                void *arg)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "WITH RECURSIVE hooks(id) AS (SELECT min(hook_id) FROM webhook_deliveries"
                 " INDEXED BY webhook_deliveries_due WHERE state = 0 UNION ALL"
                 " SELECT (SELECT min(hook_id) FROM webhook_deliveries"
                 " INDEXED BY webhook_deliveries_due WHERE state = 0 AND hook_id > hooks.id)"
                 " FROM hooks WHERE hooks.id IS NOT NULL)"
                 " SELECT id, (SELECT min(next_ms) FROM webhook_deliveries"
                 " INDEXED BY webhook_deliveries_due WHERE state = 0 AND hook_id = hooks.id)"
                 " FROM hooks WHERE id IS NOT NULL");
    while (sg_stmt_row(&st)) {
        enum sg_error err = visit(arg, sg_stmt_text(&st, 0), sg_stmt_u64(&st, 1));
        if (err)
            st.err = err;
    }
    return sg_stmt_close(&st);
}

enum sg_error sg_delivery_due(struct sg_db_conn *c, const struct sg_delivery_due *due,
                              enum sg_error (*visit)(void *arg, const struct sg_webhook_fields *h,
                                                     const struct sg_delivery_fields *d),
                              void *arg)
{
    struct sg_webhook *h = NULL;
    enum sg_error err = sg_webhook_get(c, due->hook_id, &h);
    if (err)
        return err == SG_ERR_NOT_FOUND ? SG_OK : err;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT " COLUMNS " FROM webhook_deliveries d INDEXED BY webhook_deliveries_due"
                 " WHERE state = 0 AND hook_id = ?1 AND next_ms <= ?2 ORDER BY next_ms, id"
                 " LIMIT ?3");
    sg_stmt_bind_text(&st, due->hook_id);
    sg_stmt_bind_u64(&st, due->now_ms);
    sg_stmt_bind_u64(&st, due->limit);
    while (sg_stmt_row(&st)) {
        struct sg_delivery_fields f = {.body = sg_stmt_text(&st, 4), .error = sg_stmt_text(&st, 8)};
        read_row(&st, &f);
        if (!st.err)
            st.err = visit(arg, &h->f, &f);
    }
    sg_webhook_free(&h);
    return sg_stmt_close(&st);
}

enum sg_error sg_delivery_settle(struct sg_db_conn *c, const struct sg_delivery_outcome *o)
{
    bool pending = o->state == SG_DELIVERY_PENDING;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE webhook_deliveries SET state = ?2, attempts = attempts + 1, status = ?3,"
                 " error = ?4, latency_ms = ?5, updated_ms = ?6, next_ms = ?7, ended_ms = ?8"
                 " WHERE id = ?1 AND state = 0");
    sg_stmt_bind_text(&st, o->id);
    sg_stmt_bind_u64(&st, o->state);
    sg_stmt_bind_u64(&st, o->status);
    sg_stmt_bind_text(&st, o->error);
    sg_stmt_bind_u64(&st, o->latency_ms);
    sg_stmt_bind_u64(&st, o->now_ms);
    sg_stmt_bind_u64(&st, pending ? o->next_ms : 0);
    sg_stmt_bind_u64(&st, pending ? 0 : o->now_ms);
    return sg_stmt_run_changing(&st);
}

enum sg_error sg_delivery_give_up(struct sg_db_conn *c, const struct sg_delivery_giving_up *g,
                                  uint64_t *out_n)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE webhook_deliveries SET state = 2, error = ?4, updated_ms = ?3,"
                 " next_ms = 0, ended_ms = ?3 WHERE state = 0 AND hook_id = ?1 AND since_ms < ?2");
    sg_stmt_bind_text(&st, g->hook_id);
    sg_stmt_bind_u64(&st, g->before_ms);
    sg_stmt_bind_u64(&st, g->now_ms);
    sg_stmt_bind_text(&st, g->why);
    enum sg_error err = sg_stmt_run_changing(&st);
    if (err && err != SG_ERR_NOT_FOUND)
        return err;
    *out_n = err ? 0 : (uint64_t)sqlite3_changes64(c->handle);
    return SG_OK;
}

enum sg_error sg_delivery_end_all(struct sg_db_conn *c, const char *hook_id, uint64_t now_ms,
                                  const char *why)
{
    uint64_t n;
    return sg_delivery_give_up(
        c,
        &(struct sg_delivery_giving_up){
            .hook_id = hook_id, .why = why, .before_ms = INT64_MAX, .now_ms = now_ms},
        &n);
}

enum sg_error sg_delivery_count_pending(struct sg_db_conn *c, uint64_t *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT count(*) FROM webhook_deliveries INDEXED BY webhook_deliveries_due"
                 " WHERE state = 0");
    uint64_t n = sg_stmt_row(&st) ? sg_stmt_u64(&st, 0) : 0;
    enum sg_error err = sg_stmt_close(&st);
    if (!err)
        *out = n;
    return err;
}

enum sg_error sg_delivery_prune(struct sg_db_conn *c, uint64_t before_ms, unsigned limit,
                                uint64_t *out_n)
{
    if (limit < 1 || limit > LIMIT_MAX)
        return SG_ERR_INVALID;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "DELETE FROM webhook_deliveries WHERE seq IN (SELECT seq FROM webhook_deliveries"
                 " INDEXED BY webhook_deliveries_ended WHERE state > 0 AND ended_ms < ?1"
                 " ORDER BY ended_ms LIMIT ?2)");
    sg_stmt_bind_u64(&st, before_ms);
    sg_stmt_bind_u64(&st, limit);
    enum sg_error err = sg_stmt_run_changing(&st);
    if (err && err != SG_ERR_NOT_FOUND)
        return err;
    *out_n = err ? 0 : (uint64_t)sqlite3_changes64(c->handle);
    return SG_OK;
}
