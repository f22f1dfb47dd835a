/* See subtitle_store.h. Invariants: at most one default track an asset; hash and size are the
 * text's. */
#include "streamgate/store/subtitle_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db_conn.h"

#define COLUMNS                                                                                    \
    "language, kind, source, label, is_default, forced, cues, size_bytes, hash, created_ms,"       \
    " updated_ms"

static const char *const kinds[SG_SUBTITLE_KIND_COUNT] = {"subtitles", "captions"};

const char *sg_subtitle_kind_name(enum sg_subtitle_kind k)
{
    return (unsigned)k < SG_SUBTITLE_KIND_COUNT ? kinds[k] : "unknown";
}

const char *sg_subtitle_source_name(enum sg_subtitle_source s)
{
    static const char *const names[SG_SUBTITLE_SOURCE_COUNT] = {"sidecar", "embedded"};
    return (unsigned)s < SG_SUBTITLE_SOURCE_COUNT ? names[s] : "unknown";
}

enum sg_error sg_subtitle_kind_parse(const char *s, enum sg_subtitle_kind *out)
{
    for (unsigned i = 0; i < SG_SUBTITLE_KIND_COUNT; i++) {
        if (strcmp(s, kinds[i]) == 0) {
            *out = (enum sg_subtitle_kind)i;
            return SG_OK;
        }
    }
    return SG_ERR_INVALID;
}

/* ---- reading ---- */

static void get_text(struct sg_stmt *st, int col, char *out, size_t size)
{
    const char *s = sg_stmt_text(st, col);
    if (strlen(s) >= size)
        st->err = SG_ERR_IO; /* not a row that was written here */
    else
        snprintf(out, size, "%s", s);
}

static struct sg_subtitle read_row(struct sg_stmt *st)
{
    struct sg_subtitle t = {0};
    uint64_t kind = sg_stmt_u64(st, 1), source = sg_stmt_u64(st, 2);
    get_text(st, 0, t.language, sizeof(t.language));
    if (kind >= SG_SUBTITLE_KIND_COUNT || source >= SG_SUBTITLE_SOURCE_COUNT)
        st->err = SG_ERR_IO;
    t.kind = (enum sg_subtitle_kind)kind;
    t.source = (enum sg_subtitle_source)source;
    get_text(st, 3, t.label, sizeof(t.label));
    t.is_default = sg_stmt_u64(st, 4);
    t.forced = sg_stmt_u64(st, 5);
    t.cues = (uint32_t)sg_stmt_u64(st, 6);
    t.size_bytes = sg_stmt_u64(st, 7);
    sg_stmt_blob(st, 8, t.hash, sizeof(t.hash));
    t.created_ms = sg_stmt_u64(st, 9);
    t.updated_ms = sg_stmt_u64(st, 10);
    return t;
}

enum sg_error sg_subtitle_get(struct sg_db_conn *c, const char *asset_id, const char *language,
                              struct sg_subtitle *out)
{
    struct sg_stmt st;
    struct sg_subtitle t = {0};
    sg_stmt_open(&st, c, "SELECT " COLUMNS " FROM subtitles WHERE asset_id = ?1 AND language = ?2");
    sg_stmt_bind_text(&st, asset_id);
    sg_stmt_bind_text(&st, language);
    bool found = sg_stmt_row(&st);
    if (found)
        t = read_row(&st);
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !found)
        err = SG_ERR_NOT_FOUND;
    if (!err)
        *out = t;
    return err;
}

enum sg_error sg_subtitle_text(struct sg_db_conn *c, const char *asset_id, const char *language,
                               struct sg_buf **out)
{
    struct sg_stmt st;
    struct sg_buf *buf = NULL;
    sg_stmt_open(&st, c, "SELECT text FROM subtitles WHERE asset_id = ?1 AND language = ?2");
    sg_stmt_bind_text(&st, asset_id);
    sg_stmt_bind_text(&st, language);
    bool found = sg_stmt_row(&st);
    if (found) {
        const void *bytes = sqlite3_column_blob(st.stmt, 0);
        int len = sqlite3_column_bytes(st.stmt, 0);
        st.err = bytes && len > 0 ? sg_buf_create_copy(bytes, (size_t)len, &buf) : SG_ERR_IO;
    }
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !found)
        err = SG_ERR_NOT_FOUND;
    if (err)
        sg_buf_unref(buf);
    else
        *out = buf;
    return err;
}

static enum sg_error add_item(struct sg_subtitle_list *list, const struct sg_subtitle *t)
{
    /* Powers of two: grown when it is full. */
    if ((list->n & (list->n - 1)) == 0) {
        size_t cap = list->n ? 2 * list->n : 1;
        struct sg_subtitle *grown = realloc(list->items, cap * sizeof(*grown));
        if (!grown)
            return SG_ERR_NO_MEMORY;
        list->items = grown;
    }
    list->items[list->n++] = *t;
    return SG_OK;
}

enum sg_error sg_subtitle_list(struct sg_db_conn *c, const char *asset_id,
                               struct sg_subtitle_list *out)
{
    struct sg_stmt st;
    struct sg_subtitle_list list = {0};
    sg_stmt_open(&st, c, "SELECT " COLUMNS " FROM subtitles WHERE asset_id = ?1 ORDER BY language");
    sg_stmt_bind_text(&st, asset_id);
    while (sg_stmt_row(&st)) {
        struct sg_subtitle t = read_row(&st);
        if (!st.err)
            st.err = add_item(&list, &t);
    }
    enum sg_error err = sg_stmt_close(&st);
    if (err)
        sg_subtitle_list_free(&list);
    else
        *out = list;
    return err;
}

void sg_subtitle_list_free(struct sg_subtitle_list *list)
{
    free(list->items);
    *list = (struct sg_subtitle_list){0};
}

/* ---- changing ---- */

/* The asset's representation lists its tracks, and its ETag counts versions. */
static enum sg_error touch_asset(struct sg_db_conn *c, const char *asset_id, uint64_t now_ms)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "UPDATE assets SET version = version + 1, updated_ms = ?2 WHERE id = ?1");
    sg_stmt_bind_text(&st, asset_id);
    sg_stmt_bind_u64(&st, now_ms);
    return sg_stmt_run_changing(&st);
}

static enum sg_error take_default(struct sg_db_conn *c, const char *asset_id,
                                  const struct sg_subtitle *t)
{
    struct sg_stmt st;
    if (!t->is_default)
        return SG_OK;
    sg_stmt_open(&st, c,
                 "UPDATE subtitles SET is_default = 0 WHERE asset_id = ?1 AND language <> ?2"
                 " AND is_default = 1");
    sg_stmt_bind_text(&st, asset_id);
    sg_stmt_bind_text(&st, t->language);
    return sg_stmt_run(&st);
}

/* What is there of the language, and whether there is room for one more. */
static enum sg_error look(struct sg_db_conn *c, const struct sg_subtitle_put *p, bool *created)
{
    struct sg_stmt st;
    uint64_t n = 0, same = 0, sidecars = 0;
    sg_stmt_open(&st, c,
                 "SELECT count(*), coalesce(sum(language = ?2), 0),"
                 " coalesce(sum(language = ?2 AND source = 0), 0)"
                 " FROM subtitles WHERE asset_id = ?1");
    sg_stmt_bind_text(&st, p->asset_id);
    sg_stmt_bind_text(&st, p->track->language);
    if (sg_stmt_row(&st)) {
        n = sg_stmt_u64(&st, 0);
        same = sg_stmt_u64(&st, 1);
        sidecars = sg_stmt_u64(&st, 2);
    }
    enum sg_error err = sg_stmt_close(&st);
    if (err)
        return err;
    if (sidecars && p->track->source == SG_SUBTITLE_EMBEDDED)
        return SG_ERR_EXISTS;
    if (!same && n >= SG_SUBTITLES_MAX)
        return SG_ERR_TOO_LARGE;
    *created = !same;
    return SG_OK;
}

_Static_assert(SG_SUBTITLE_SIDECAR == 0, "the number in SQL");

static enum sg_error write_row(struct sg_db_conn *c, const struct sg_subtitle_put *p)
{
    const struct sg_subtitle *t = p->track;
    uint8_t hash[SG_SHA256_LEN];
    struct sg_sha256 *h = NULL;
    enum sg_error err = sg_sha256_create(&h);
    if (err)
        return err;
    sg_sha256_update(h, p->text, p->text_len);
    sg_sha256_final(h, hash);
    sg_sha256_destroy(&h);
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO subtitles(asset_id, " COLUMNS ", text)"
                 " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
                 " ON CONFLICT(asset_id, language) DO UPDATE SET kind = excluded.kind,"
                 " source = excluded.source, label = excluded.label,"
                 " is_default = excluded.is_default, forced = excluded.forced,"
                 " cues = excluded.cues, size_bytes = excluded.size_bytes, hash = excluded.hash,"
                 " updated_ms = excluded.updated_ms, text = excluded.text");
    sg_stmt_bind_text(&st, p->asset_id);
    sg_stmt_bind_text(&st, t->language);
    sg_stmt_bind_u64(&st, t->kind);
    sg_stmt_bind_u64(&st, t->source);
    sg_stmt_bind_text(&st, t->label);
    sg_stmt_bind_u64(&st, t->is_default);
    sg_stmt_bind_u64(&st, t->forced);
    sg_stmt_bind_u64(&st, t->cues);
    sg_stmt_bind_u64(&st, p->text_len);
    sg_stmt_bind_blob(&st, hash, sizeof(hash));
    sg_stmt_bind_u64(&st, t->created_ms);
    sg_stmt_bind_u64(&st, t->updated_ms);
    sg_stmt_bind_blob(&st, p->text, p->text_len);
    return sg_stmt_run(&st);
}

enum sg_error sg_subtitle_put(struct sg_db_conn *c, const struct sg_subtitle_put *p, bool *created)
{
    bool new_one = false;
    enum sg_error err = touch_asset(c, p->asset_id, p->track->updated_ms);
    if (!err)
        err = look(c, p, &new_one);
    if (!err)
        err = write_row(c, p);
    if (!err)
        err = take_default(c, p->asset_id, p->track);
    if (!err)
        *created = new_one;
    return err;
}

enum sg_error sg_subtitle_update(struct sg_db_conn *c, const char *asset_id,
                                 const struct sg_subtitle *track)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE subtitles SET kind = ?3, label = ?4, is_default = ?5, forced = ?6,"
                 " updated_ms = ?7 WHERE asset_id = ?1 AND language = ?2");
    sg_stmt_bind_text(&st, asset_id);
    sg_stmt_bind_text(&st, track->language);
    sg_stmt_bind_u64(&st, track->kind);
    sg_stmt_bind_text(&st, track->label);
    sg_stmt_bind_u64(&st, track->is_default);
    sg_stmt_bind_u64(&st, track->forced);
    sg_stmt_bind_u64(&st, track->updated_ms);
    enum sg_error err = sg_stmt_run_changing(&st);
    if (!err)
        err = take_default(c, asset_id, track);
    return err ? err : touch_asset(c, asset_id, track->updated_ms);
}

enum sg_error sg_subtitle_delete(struct sg_db_conn *c, const char *asset_id, const char *language,
                                 uint64_t now_ms)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "DELETE FROM subtitles WHERE asset_id = ?1 AND language = ?2");
    sg_stmt_bind_text(&st, asset_id);
    sg_stmt_bind_text(&st, language);
    enum sg_error err = sg_stmt_run_changing(&st);
    return err ? err : touch_asset(c, asset_id, now_ms);
}
