/* Reading many uploads: lists, runs of chunks, what has expired, what a start finds, what a user
 * holds. Visitors of sg_upload_expired may change the uploads they are told of, so their ids are
 * collected first; the other visitors only look. */
#include <stdlib.h>
#include <string.h>

#include "upload_rows.h"

#define LIMIT_MAX 1000
_Static_assert(SG_UPLOAD_ACTIVE == 0 && SG_UPLOAD_PROCESSING == 1 && SG_UPLOAD_TUS == 1 &&
                   SG_UPLOAD_TUS_PARTIAL == 2 && SG_UPLOAD_TUS_FINAL == 3,
               "the numbers in SQL");
/* The very words of the index on open uploads, or SQLite does not see that it may use it. */
#define OPEN "state IN (0, 1)"
#define AFTER_ALL_IDS "~" /* sorts behind every ULID */

static enum sg_error read_page(struct sg_stmt *st, unsigned limit, struct sg_upload_list *page)
{
    enum sg_error err = SG_OK;
    while (!err && page->n < limit && sg_stmt_row(st)) {
        err = sg_upload_from_row(st, &page->items[page->n]);
        if (!err)
            page->n++;
    }
    return sg_stmt_close(st);
}

enum sg_error sg_upload_list(struct sg_db_conn *c, const struct sg_upload_query *q,
                             struct sg_upload_list *out)
{
    if (q->limit < 1 || q->limit > LIMIT_MAX || q->state >= SG_UPLOAD_STATE_COUNT)
        return SG_ERR_INVALID;
    struct sg_upload_list page = {.items = calloc(q->limit, sizeof(struct sg_upload *))};
    if (!page.items)
        return SG_ERR_NO_MEMORY;
    unsigned states = q->state < 0 ? (1u << SG_UPLOAD_STATE_COUNT) - 1 : 1u << q->state;
    struct sg_stmt st;
    if (q->owner)
        sg_stmt_open(&st, c,
                     "SELECT " SG_UPLOAD_COLUMNS " FROM uploads WHERE id < ?1"
                     " AND (1 << kind) & ?2 AND (1 << state) & ?3 AND owner = ?5"
                     " ORDER BY id DESC LIMIT ?4");
    else
        sg_stmt_open(&st, c,
                     "SELECT " SG_UPLOAD_COLUMNS " FROM uploads WHERE id < ?1"
                     " AND (1 << kind) & ?2 AND (1 << state) & ?3"
                     " ORDER BY id DESC LIMIT ?4");
    sg_stmt_bind_text(&st, q->before ? q->before : AFTER_ALL_IDS);
    sg_stmt_bind_u64(&st, q->kinds);
    sg_stmt_bind_u64(&st, states);
    sg_stmt_bind_u64(&st, q->limit);
    if (q->owner)
        sg_stmt_bind_text(&st, q->owner);
    enum sg_error err = read_page(&st, q->limit, &page);
    if (err)
        sg_upload_list_free(&page);
    else
        *out = page;
    return err;
}

void sg_upload_list_free(struct sg_upload_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        sg_upload_free(&list->items[i]);
    free(list->items);
    *list = (struct sg_upload_list){0};
}

enum sg_error sg_upload_chunk_runs(struct sg_db_conn *c, const char *upload_id,
                                   enum sg_error (*visit)(void *arg, uint64_t first, uint64_t end),
                                   void *arg)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT number FROM upload_chunks WHERE upload_id = ?1 ORDER BY number");
    sg_stmt_bind_text(&st, upload_id);
    uint64_t first = 0, end = 0; /* the run being gathered; empty: none yet */
    while (sg_stmt_row(&st)) {
        uint64_t number = sg_stmt_u64(&st, 0);
        if (number != end) {
            if (first != end)
                st.err = visit(arg, first, end);
            first = number;
        }
        end = number + 1;
    }
    if (!st.err && first != end)
        st.err = visit(arg, first, end);
    return sg_stmt_close(&st);
}

#define OWED "state = 0 AND kind IN (1, 3) AND offset_bytes IS size_bytes"
#define OWNER_HAS_TOO_MUCH                                                                         \
    "EXISTS(SELECT 1 FROM owner_usage w WHERE w.owner = uploads.owner AND"                         \
    " ((?2 > 0 AND w.asset_bytes + w.reserved_bytes > ?2) OR (?3 > 0 AND w.assets >= ?3)))"

enum sg_error sg_upload_expired(struct sg_db_conn *c, const struct sg_upload_expiry *q,
                                enum sg_error (*visit)(void *arg, const char *id), void *arg)
{
    if (q->limit < 1 || q->limit > LIMIT_MAX)
        return SG_ERR_INVALID;
    char(*ids)[SG_ULID_SIZE] = calloc(q->limit, sizeof(*ids));
    if (!ids)
        return SG_ERR_NO_MEMORY;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT id FROM uploads WHERE expires_ms < ?1 AND state <> 1"
                 " AND (NOT (" OWED ") OR " OWNER_HAS_TOO_MUCH ")"
                 " ORDER BY expires_ms, id LIMIT ?4 OFFSET ?5");
    sg_stmt_bind_u64(&st, q->now_ms);
    sg_stmt_bind_u64(&st, q->max_bytes);
    sg_stmt_bind_u64(&st, q->max_assets);
    sg_stmt_bind_u64(&st, q->limit);
    sg_stmt_bind_u64(&st, q->skip);
    size_t n = 0;
    while (n < q->limit && sg_stmt_row(&st))
        sg_upload_copy_id(&st, 0, ids[n++]);
    enum sg_error err = sg_stmt_close(&st);
    for (size_t i = 0; i < n && !err; i++)
        err = visit(arg, ids[i]);
    free(ids);
    return err;
}

enum sg_error sg_upload_each_open(struct sg_db_conn *c,
                                  enum sg_error (*visit)(void *arg, const struct sg_upload *u),
                                  void *arg)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT " SG_UPLOAD_COLUMNS " FROM uploads WHERE " OPEN);
    while (sg_stmt_row(&st)) {
        struct sg_upload *upload = NULL;
        if (sg_upload_from_row(&st, &upload) == SG_OK)
            st.err = visit(arg, upload);
        sg_upload_free(&upload);
    }
    return sg_stmt_close(&st);
}

/* The id that a statement asks for, which is closed. NOT_FOUND: there is none. */
static enum sg_error close_one_id(struct sg_stmt *st, char out[SG_ULID_SIZE])
{
    char id[SG_ULID_SIZE] = "";
    bool found = sg_stmt_row(st);
    if (found)
        sg_upload_copy_id(st, 0, id);
    enum sg_error err = sg_stmt_close(st);
    if (!err && !found)
        err = SG_ERR_NOT_FOUND;
    if (!err)
        memcpy(out, id, sizeof(id));
    return err;
}

/* One whose upload is in state processing and that is so itself. NOT_FOUND: none is left. */
static enum sg_error next_half_made(struct sg_db_conn *c, char out[SG_ULID_SIZE])
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT a.id FROM uploads u JOIN assets a ON a.id = u.id"
                 " WHERE u.state = 1 AND u." OPEN " AND a.status = ?1 LIMIT 1");
    sg_stmt_bind_u64(&st, SG_ASSET_PROCESSING);
    return close_one_id(&st, out);
}

static enum sg_error delete_unwanted(struct sg_db_conn *c)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "DELETE FROM uploads WHERE state = 1 AND " OPEN
                 " AND NOT EXISTS(SELECT 1 FROM assets a WHERE a.id = uploads.id)");
    return sg_stmt_run(&st);
}

enum sg_error sg_upload_reset_processing(struct sg_db_conn *c, uint64_t *out_n)
{
    char id[SG_ULID_SIZE];
    enum sg_error err = delete_unwanted(c);
    if (err)
        return err;
    while ((err = next_half_made(c, id)) == SG_OK) {
        err = sg_asset_delete(c, id, 0);
        if (err)
            return err;
    }
    if (err != SG_ERR_NOT_FOUND)
        return err;
    struct sg_stmt st;
    sg_stmt_open(&st, c, "UPDATE uploads SET state = 0 WHERE state = 1 AND " OPEN);
    err = sg_stmt_run_changing(&st);
    if (err && err != SG_ERR_NOT_FOUND)
        return err;
    *out_n = err ? 0 : (uint64_t)sqlite3_changes64(c->handle);
    return SG_OK;
}

enum sg_error sg_upload_promised(struct sg_db_conn *c, const char *owner, uint64_t *out_n)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT count(*) FROM uploads WHERE owner = ?1 AND state = 0 AND kind <> 2");
    sg_stmt_bind_text(&st, owner);
    uint64_t n = sg_stmt_row(&st) ? sg_stmt_u64(&st, 0) : 0;
    enum sg_error err = sg_stmt_close(&st);
    if (!err)
        *out_n = n;
    return err;
}

enum sg_error sg_usage_get(struct sg_db_conn *c, const char *owner, struct sg_usage *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT asset_bytes, assets, reserved_bytes, uploads FROM owner_usage"
                 " WHERE owner = ?1");
    sg_stmt_bind_text(&st, owner);
    struct sg_usage usage = {0};
    if (sg_stmt_row(&st))
        usage = (struct sg_usage){sg_stmt_u64(&st, 0), sg_stmt_u64(&st, 1), sg_stmt_u64(&st, 2),
                                  sg_stmt_u64(&st, 3)};
    enum sg_error err = sg_stmt_close(&st);
    if (!err)
        *out = usage;
    return err;
}

enum sg_error sg_upload_find_final(struct sg_db_conn *c, const char *owner, const char *parts,
                                   char out[SG_ULID_SIZE])
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT id FROM uploads WHERE owner = ?1 AND kind = ?2 AND state = ?3"
                 " AND parts = ?4 ORDER BY id DESC LIMIT 1");
    sg_stmt_bind_text(&st, owner);
    sg_stmt_bind_u64(&st, SG_UPLOAD_TUS_FINAL);
    sg_stmt_bind_u64(&st, SG_UPLOAD_DONE);
    sg_stmt_bind_text(&st, parts);
    return close_one_id(&st, out);
}
