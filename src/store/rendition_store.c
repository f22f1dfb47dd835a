/* Renditions of assets. Invariants: a READY one has its index; a name in URLs is never given twice
 * in an asset, not even after a deletion. What becomes of those whose job ends otherwise than done
 * is in the schema's triggers. */
#include "streamgate/store/rendition_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/store/asset_store.h"
#include "streamgate/store/job_store.h"

#include "db_conn.h"

#define DIR_NUMBER_MAX 9999 /* what a name of tracks in URLs has room for */

/* Written out in the schema's triggers and below. */
_Static_assert(SG_RENDITION_WAITING == 0 && SG_RENDITION_READY == 1 && SG_RENDITION_FAILED == 2 &&
                   SG_ASSET_PROCESSING == 2 && SG_ASSET_READY == 3 && SG_ASSET_FAILED == 4 &&
                   SG_JOB_QUEUED == 0 && SG_JOB_RUNNING == 1 && SG_JOB_DONE == 2 &&
                   SG_JOB_CANCELLED == 4,
               "the numbers in SQL");

const char *sg_rendition_kind_name(enum sg_rendition_kind k)
{
    static const char *const names[SG_RENDITION_KIND_COUNT] = {"video", "audio", "original"};
    return (unsigned)k < SG_RENDITION_KIND_COUNT ? names[k] : "unknown";
}

const char *sg_rendition_state_name(enum sg_rendition_state s)
{
    static const char *const names[SG_RENDITION_STATE_COUNT] = {"processing", "ready", "failed"};
    return (unsigned)s < SG_RENDITION_STATE_COUNT ? names[s] : "unknown";
}

void sg_rendition_clear(struct sg_rendition *r)
{
    if (r->index)
        sg_buf_unref(r->index);
    r->index = NULL;
}

/* ---- new ones ---- */

/* Nobody waits for it, so it is in nobody's way. */
static enum sg_error remove_failed(struct sg_db_conn *c, const struct sg_rendition *r)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "DELETE FROM renditions WHERE asset_id = ?1 AND name = ?2 AND state = 2");
    sg_stmt_bind_text(&st, r->asset_id);
    sg_stmt_bind_text(&st, r->name);
    return sg_stmt_run(&st);
}

static enum sg_error check_room(struct sg_db_conn *c, const struct sg_rendition *r)
{
    struct sg_stmt st;
    sg_stmt_open(
        &st, c, "SELECT count(*), coalesce(sum(name = ?2), 0) FROM renditions WHERE asset_id = ?1");
    sg_stmt_bind_text(&st, r->asset_id);
    sg_stmt_bind_text(&st, r->name);
    uint64_t n = 0, same = 0;
    if (sg_stmt_row(&st)) {
        n = sg_stmt_u64(&st, 0);
        same = sg_stmt_u64(&st, 1);
    }
    enum sg_error err = sg_stmt_close(&st);
    if (err)
        return err;
    if (same)
        return SG_ERR_EXISTS;
    return n >= SG_RENDITIONS_MAX ? SG_ERR_TOO_LARGE : SG_OK;
}

static enum sg_error check_asset(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT 1 FROM assets WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    bool found = sg_stmt_row(&st);
    enum sg_error err = sg_stmt_close(&st);
    return !err && !found ? SG_ERR_NOT_FOUND : err;
}

/* How often the name was given, this time with it. */
static enum sg_error count_name(struct sg_db_conn *c, const char *asset_id, const char *name,
                                uint64_t *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO rendition_names(asset_id, name, n) VALUES(?1, ?2, 1)"
                 " ON CONFLICT(asset_id, name) DO UPDATE SET n = n + 1 RETURNING n");
    sg_stmt_bind_text(&st, asset_id);
    sg_stmt_bind_text(&st, name);
    uint64_t n = sg_stmt_row(&st) ? sg_stmt_u64(&st, 0) : 0;
    while (sg_stmt_row(&st)) /* to its end, or nothing is kept */
        continue;
    enum sg_error err = sg_stmt_close(&st);
    if (!err)
        *out = n;
    return err;
}

/* Every name in URLs that was ever given is counted, whether somebody asked for it ("720p-2") or it
 * follows from another ("720p" for the second time): who counts 1 is the first to have it. */
static enum sg_error choose_dir(struct sg_db_conn *c, struct sg_rendition *r)
{
    char dir[SG_RENDITION_DIR_SIZE];
    uint64_t given = 0, n = 0;
    enum sg_error err = count_name(c, r->asset_id, r->name, &n);
    snprintf(dir, sizeof dir, "%s", r->name);
    while (!err && (given = n) > 1) {
        if (given > DIR_NUMBER_MAX)
            return SG_ERR_TOO_LARGE;
        snprintf(dir, sizeof dir, "%s-%u", r->name, (unsigned)given);
        uint64_t taken = 0;
        err = count_name(c, r->asset_id, dir, &taken);
        if (err || taken == 1)
            break;
        err = count_name(c, r->asset_id, r->name, &n);
    }
    if (!err)
        memcpy(r->dir, dir, sizeof dir);
    return err;
}

static enum sg_error insert_row(struct sg_db_conn *c, const struct sg_rendition *r)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO renditions(id, asset_id, name, dir, kind, state, job_id, width,"
                 " height, bitrate, crf, stream, channels, size_bytes, error, created_ms,"
                 " updated_ms, data) VALUES(?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, ?9, ?10, ?11, ?12,"
                 " 0, '', ?13, ?13, NULL)");
    sg_stmt_bind_text(&st, r->id);
    sg_stmt_bind_text(&st, r->asset_id);
    sg_stmt_bind_text(&st, r->name);
    sg_stmt_bind_text(&st, r->dir);
    sg_stmt_bind_u64(&st, r->kind);
    sg_stmt_bind_text(&st, r->job_id);
    sg_stmt_bind_u64(&st, r->width);
    sg_stmt_bind_u64(&st, r->height);
    sg_stmt_bind_u64(&st, r->bitrate);
    sg_stmt_bind_u64(&st, r->crf);
    sg_stmt_bind_u64(&st, r->stream);
    sg_stmt_bind_u64(&st, r->channels);
    sg_stmt_bind_u64(&st, r->created_ms);
    return sg_stmt_run(&st);
}

enum sg_error sg_rendition_insert(struct sg_db_conn *c, struct sg_rendition *r)
{
    enum sg_error err = check_asset(c, r->asset_id);
    if (!err)
        err = remove_failed(c, r);
    if (!err)
        err = check_room(c, r);
    if (!err)
        err = choose_dir(c, r);
    return err ? err : insert_row(c, r);
}

/* ---- reading ---- */

static enum sg_error copy_index(struct sg_stmt *st, int col, struct sg_buf **out)
{
    size_t len = (size_t)sqlite3_column_bytes(st->stmt, col);
    const void *data = sqlite3_column_blob(st->stmt, col);
    if (sqlite3_column_type(st->stmt, col) == SQLITE_NULL)
        return SG_OK;
    return len && !data ? SG_ERR_NO_MEMORY : sg_buf_create_copy(data, len, out);
}

static void copy_text(struct sg_stmt *st, int col, char *out, size_t size)
{
    const char *text = sg_stmt_text(st, col);
    if (strlen(text) >= size && !st->err)
        st->err = SG_ERR_IO; /* no such row is written here */
    else if (!st->err)
        memcpy(out, text, strlen(text) + 1);
}

static void from_row(struct sg_stmt *st, struct sg_rendition *r)
{
    *r = (struct sg_rendition){.kind = (enum sg_rendition_kind)sg_stmt_u64(st, 4),
                               .state = (enum sg_rendition_state)sg_stmt_u64(st, 5),
                               .width = (uint32_t)sg_stmt_u64(st, 7),
                               .height = (uint32_t)sg_stmt_u64(st, 8),
                               .bitrate = (uint32_t)sg_stmt_u64(st, 9),
                               .crf = (uint32_t)sg_stmt_u64(st, 10),
                               .stream = (uint32_t)sg_stmt_u64(st, 11),
                               .channels = (uint32_t)sg_stmt_u64(st, 12),
                               .size_bytes = sg_stmt_u64(st, 13),
                               .created_ms = sg_stmt_u64(st, 15),
                               .updated_ms = sg_stmt_u64(st, 16),
                               .shown = sg_stmt_u64(st, 18) != 0};
    copy_text(st, 0, r->id, sizeof r->id);
    copy_text(st, 1, r->asset_id, sizeof r->asset_id);
    copy_text(st, 2, r->name, sizeof r->name);
    copy_text(st, 3, r->dir, sizeof r->dir);
    copy_text(st, 6, r->job_id, sizeof r->job_id);
    copy_text(st, 14, r->error, sizeof r->error);
    if (!st->err)
        st->err = copy_index(st, 17, &r->index);
}

enum sg_error sg_rendition_list(struct sg_db_conn *c, const char *asset_id,
                                struct sg_rendition_list *out)
{
    struct sg_rendition_list list = {0};
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT id, asset_id, name, dir, kind, state, job_id, width, height, bitrate,"
                 " crf, stream, channels, size_bytes, error, created_ms, updated_ms, data, shown"
                 " FROM renditions WHERE asset_id = ?1 ORDER BY created_ms, id");
    sg_stmt_bind_text(&st, asset_id);
    while (sg_stmt_row(&st)) {
        if (!list.items)
            list.items = calloc(SG_RENDITIONS_MAX, sizeof *list.items);
        if (!list.items || list.n == SG_RENDITIONS_MAX) {
            st.err = list.items ? SG_ERR_IO : SG_ERR_NO_MEMORY;
            break;
        }
        from_row(&st, &list.items[list.n++]);
    }
    enum sg_error err = sg_stmt_close(&st);
    if (err) {
        sg_rendition_list_free(&list);
        return err;
    }
    struct sg_rendition *fit = list.n ? realloc(list.items, list.n * sizeof *fit) : NULL;
    list.items = fit ? fit : list.items;
    *out = list;
    return SG_OK;
}

void sg_rendition_list_free(struct sg_rendition_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        sg_rendition_clear(&list->items[i]);
    free(list->items);
    *list = (struct sg_rendition_list){0};
}

enum sg_error sg_rendition_each_ready(struct sg_db_conn *c,
                                      enum sg_error (*visit)(void *arg, const char *id), void *arg)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT id FROM renditions WHERE state = 1 ORDER BY id");
    while (sg_stmt_row(&st)) {
        const char *id = sg_stmt_text(&st, 0);
        if (!st.err)
            st.err = visit(arg, id);
    }
    return sg_stmt_close(&st);
}

enum sg_error sg_rendition_exists(struct sg_db_conn *c, const char *id, bool *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT 1 FROM renditions WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    bool found = sg_stmt_row(&st);
    enum sg_error err = sg_stmt_close(&st);
    if (!err)
        *out = found;
    return err;
}

/* ---- changes ---- */

enum sg_error sg_rendition_finish(struct sg_db_conn *c, const struct sg_rendition_done *d)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE renditions SET state = 1, size_bytes = ?2, data = ?3, updated_ms = ?4,"
                 " error = '' WHERE id = ?1 AND state = 0");
    sg_stmt_bind_text(&st, d->id);
    sg_stmt_bind_u64(&st, d->size_bytes);
    sg_stmt_bind_blob(&st, d->index, d->index_len);
    sg_stmt_bind_u64(&st, d->now_ms);
    return sg_stmt_run_changing(&st);
}

enum sg_error sg_rendition_mark_shown(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "UPDATE renditions SET shown = 1 WHERE id = ?1 AND state = 0");
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run_changing(&st);
}

static enum sg_error check_waiting(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT 1 FROM renditions WHERE id = ?1 AND state = 0");
    sg_stmt_bind_text(&st, id);
    bool found = sg_stmt_row(&st);
    enum sg_error err = sg_stmt_close(&st);
    return !err && !found ? SG_ERR_NOT_FOUND : err;
}

enum sg_error sg_rendition_rename(struct sg_db_conn *c, struct sg_rendition *r)
{
    struct sg_stmt st;
    enum sg_error err = check_waiting(c, r->id);
    if (!err)
        err = choose_dir(c, r);
    if (err)
        return err;
    sg_stmt_open(&st, c,
                 "UPDATE renditions SET dir = ?2, shown = 0, updated_ms = ?3 WHERE id = ?1");
    sg_stmt_bind_text(&st, r->id);
    sg_stmt_bind_text(&st, r->dir);
    sg_stmt_bind_u64(&st, sg_clock_wall_ms());
    err = sg_stmt_run_changing(&st);
    if (!err)
        r->shown = false;
    return err;
}

enum sg_error sg_rendition_delete(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "DELETE FROM renditions WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run_changing(&st);
}

enum sg_error sg_rendition_mark_missing(struct sg_db_conn *c, const char *id, const char *error)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE renditions SET state = 2, error = ?2, data = NULL, updated_ms = ?3"
                 " WHERE id = ?1 AND state = 1");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_text(&st, error);
    sg_stmt_bind_u64(&st, sg_clock_wall_ms());
    return sg_stmt_run_changing(&st);
}

enum sg_error sg_rendition_asset_ready(struct sg_db_conn *c, const char *asset_id, uint64_t now_ms)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE assets SET status = 3, error = '', version = version + 1, updated_ms = ?2"
                 " WHERE id = ?1 AND status = 2");
    sg_stmt_bind_text(&st, asset_id);
    sg_stmt_bind_u64(&st, now_ms);
    return sg_stmt_run_changing(&st);
}
