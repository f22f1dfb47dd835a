/* Lists of assets: filters, full-text search, keyset pages.
 * Invariants: the only outside text that reaches SQL is bound as a parameter; search words reach
 * FTS5 as quoted strings, so its operators mean nothing in them; a page starts strictly after the
 * (sort key, id) the cursor holds, so rows that come or go between pages repeat or hide no other.
 */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/crypto.h"
#include "streamgate/base/str.h"

#include "asset_rows.h"

#define LIMIT_MAX 200
#define TEXT_BYTES_MAX 1024 /* of search text */
#define TERMS_MAX 32        /* keeps FTS5's expression far from its depth bound of 256 */

struct sort_row {
    const char *name;
    const char *column;
    bool descending;
    bool is_text;
};

static const struct sort_row sorts[SG_SORT_COUNT] = {
    [SG_SORT_CREATED_DESC] = {"-created_at", "created_ms", true, false},
    [SG_SORT_CREATED_ASC] = {"created_at", "created_ms", false, false},
    [SG_SORT_UPDATED_DESC] = {"-updated_at", "updated_ms", true, false},
    [SG_SORT_TITLE_ASC] = {"title", "title", false, true},
};

enum sg_error sg_asset_sort_parse(const char *s, enum sg_asset_sort *out)
{
    for (unsigned i = 0; i < SG_SORT_COUNT; i++) {
        if (strcmp(s, sorts[i].name) == 0) {
            *out = (enum sg_asset_sort)i;
            return SG_OK;
        }
    }
    return SG_ERR_INVALID;
}

/* A cursor, before base64url: format, sort, id (16), key (8 bytes big-endian, or the title's), then
 * 8 bytes of SHA-256 over all that. It grants nothing, filters apply again on every page; the check
 * tells a mangled or home-made one from ours. */
#define CURSOR_FORMAT 1
#define CURSOR_HEAD 18
#define CURSOR_CHECK 8
#define CURSOR_KEY_MAX 1024 /* a title is at most 200 characters */
#define CURSOR_MAX (CURSOR_HEAD + CURSOR_KEY_MAX + CURSOR_CHECK)
#define CURSOR_TEXT_MAX (CURSOR_MAX * 4 / 3 + 4)

struct cursor {
    char id[SG_ULID_SIZE];
    uint64_t number;
    char text[CURSOR_KEY_MAX + 1];
};

static enum sg_error cursor_check(const uint8_t *data, size_t len, uint8_t out[CURSOR_CHECK])
{
    uint8_t hash[SG_SHA256_LEN];
    enum sg_error err = sg_sha256_once(data, len, hash);
    if (!err)
        memcpy(out, hash, CURSOR_CHECK);
    return err;
}

static enum sg_error cursor_make(enum sg_asset_sort sort, const struct sg_asset_fields *last,
                                 char **out)
{
    uint8_t raw[CURSOR_MAX] = {CURSOR_FORMAT, (uint8_t)sort};
    enum sg_error err = sg_ulid_parse(last->id, raw + 2);
    if (err)
        return SG_ERR_IO;
    size_t len = CURSOR_HEAD;
    if (sorts[sort].is_text) {
        size_t key_len = strlen(last->title);
        if (key_len > CURSOR_KEY_MAX)
            return SG_ERR_TOO_LARGE;
        memcpy(raw + len, last->title, key_len);
        len += key_len;
    } else {
        uint64_t key = sort == SG_SORT_UPDATED_DESC ? last->updated_ms : last->created_ms;
        for (int shift = 56; shift >= 0; shift -= 8)
            raw[len++] = (uint8_t)(key >> shift);
    }
    err = cursor_check(raw, len, raw + len);
    if (err)
        return err;
    char *text = malloc(CURSOR_TEXT_MAX);
    if (!text)
        return SG_ERR_NO_MEMORY;
    if (sg_base64url_encode(raw, len + CURSOR_CHECK, text, CURSOR_TEXT_MAX) == 0) {
        free(text);
        return SG_ERR_INTERNAL;
    }
    *out = text;
    return SG_OK;
}

static enum sg_error cursor_read(const char *text, enum sg_asset_sort sort, struct cursor *out)
{
    uint8_t raw[CURSOR_MAX], check[CURSOR_CHECK];
    size_t len = 0;
    if (sg_base64url_decode(text, strlen(text), raw, sizeof(raw), &len) ||
        len < CURSOR_HEAD + CURSOR_CHECK)
        return SG_ERR_INVALID;
    len -= CURSOR_CHECK;
    enum sg_error err = cursor_check(raw, len, check);
    if (err)
        return err;
    if (memcmp(check, raw + len, sizeof(check)) != 0 || raw[0] != CURSOR_FORMAT ||
        raw[1] != (uint8_t)sort)
        return SG_ERR_INVALID;
    size_t key_len = len - CURSOR_HEAD;
    if (!sorts[sort].is_text && key_len != 8)
        return SG_ERR_INVALID;
    sg_ulid_format(raw + 2, out->id);
    out->number = 0;
    for (size_t i = 0; !sorts[sort].is_text && i < 8; i++)
        out->number = out->number << 8 | raw[CURSOR_HEAD + i];
    memcpy(out->text, raw + CURSOR_HEAD, key_len);
    out->text[key_len] = '\0';
    return SG_OK;
}

static bool is_space(char ch)
{
    return ch == ' ' || (ch >= '\t' && ch <= '\r');
}

/* One word as an FTS5 string: quotes are doubled, nothing else is special inside them. */
static void put_term(struct sg_text *out, const char *word, size_t len)
{
    sg_text_puts(out, out->len ? " \"" : "\"");
    for (size_t i = 0; i < len; i++)
        sg_text_append(out, word[i] == '"' ? "\"\"" : word + i, word[i] == '"' ? 2 : 1);
    sg_text_puts(out, "\"");
}

/* All words must occur, the last one as a prefix: what somebody is still typing finds things. */
static enum sg_error match_from_text(const char *text, struct sg_text *out)
{
    size_t len = strlen(text);
    if (len > TEXT_BYTES_MAX || !sg_str_is_utf8(text, len))
        return SG_ERR_INVALID;
    unsigned terms = 0;
    for (size_t i = 0; i < len;) {
        size_t start = i;
        while (i < len && !is_space(text[i]))
            i++;
        if (i > start && ++terms > TERMS_MAX)
            return SG_ERR_INVALID;
        if (i > start)
            put_term(out, text + start, i - start);
        else
            i++;
    }
    if (terms)
        sg_text_puts(out, "*");
    return out->failed ? SG_ERR_NO_MEMORY : SG_OK;
}

struct plan {
    const struct sg_asset_query *q;
    struct sg_text match; /* empty: no search */
    bool has_cursor;
    struct cursor cursor;
};

/* The clauses stand in the order bind_plan gives their parameters. */
static void put_sql(const struct plan *p, struct sg_text *sql)
{
    const struct sort_row *sort = &sorts[p->q->sort];
    const char *order = sort->descending ? "DESC" : "ASC";
    sg_text_puts(sql, "SELECT " SG_ASSET_COLUMNS " FROM assets WHERE 1");
    if (p->q->owner)
        sg_text_puts(sql, " AND owner = ?");
    if (p->q->status >= 0)
        sg_text_puts(sql, " AND status = ?");
    if (p->q->tag)
        sg_text_puts(sql, " AND seq IN (SELECT asset_seq FROM asset_tags WHERE tag = ?)");
    if (p->match.len)
        sg_text_puts(sql,
                     " AND seq IN (SELECT rowid FROM asset_search WHERE asset_search MATCH ?)");
    if (p->has_cursor)
        sg_text_printf(sql, " AND (%s, id) %s (?, ?)", sort->column, sort->descending ? "<" : ">");
    sg_text_printf(sql, " ORDER BY %s %s, id %s LIMIT ?", sort->column, order, order);
}

static void bind_plan(const struct plan *p, struct sg_stmt *st)
{
    if (p->q->owner)
        sg_stmt_bind_text(st, p->q->owner);
    if (p->q->status >= 0)
        sg_stmt_bind_u64(st, (uint64_t)p->q->status);
    if (p->q->tag)
        sg_stmt_bind_text(st, p->q->tag);
    if (p->match.len)
        sg_stmt_bind_text_len(st, p->match.ptr, p->match.len);
    if (p->has_cursor) {
        if (sorts[p->q->sort].is_text)
            sg_stmt_bind_text(st, p->cursor.text);
        else
            sg_stmt_bind_u64(st, p->cursor.number);
        sg_stmt_bind_text(st, p->cursor.id);
    }
    sg_stmt_bind_u64(st, (uint64_t)p->q->limit + 1); /* one more tells whether a page follows */
}

static enum sg_error read_page(struct sg_stmt *st, const struct sg_asset_query *q,
                               struct sg_asset_list *page)
{
    bool more = false;
    enum sg_error err = SG_OK;
    while (!more && !err && sg_stmt_row(st)) {
        more = page->n == q->limit;
        if (!more)
            err = sg_asset_from_row(st, &page->items[page->n]);
        if (!more && !err)
            page->n++;
    }
    err = sg_stmt_close(st);
    if (!err && more)
        err = cursor_make(q->sort, &page->items[page->n - 1]->f, &page->next_cursor);
    return err;
}

static enum sg_error run_plan(struct sg_db_conn *c, const struct plan *p, struct sg_asset_list *out)
{
    struct sg_asset_list page = {.items = calloc(p->q->limit, sizeof(struct sg_asset *))};
    struct sg_text sql = {0};
    put_sql(p, &sql);
    enum sg_error err = SG_OK;
    if (!page.items || sql.failed) {
        err = SG_ERR_NO_MEMORY;
        goto out;
    }
    struct sg_stmt st;
    sg_stmt_open_text(&st, c, sql.ptr, sql.len);
    bind_plan(p, &st);
    err = read_page(&st, p->q, &page);
out:
    sg_text_free(&sql);
    if (err)
        sg_asset_list_free(&page);
    else
        *out = page;
    return err;
}

enum sg_error sg_asset_list(struct sg_db_conn *c, const struct sg_asset_query *q,
                            struct sg_asset_list *out)
{
    if ((unsigned)q->sort >= SG_SORT_COUNT || q->limit < 1 || q->limit > LIMIT_MAX ||
        q->status >= SG_ASSET_STATUS_COUNT)
        return SG_ERR_INVALID;
    struct plan p = {.q = q, .has_cursor = q->cursor != NULL};
    enum sg_error err = SG_OK;
    if (q->cursor)
        err = cursor_read(q->cursor, q->sort, &p.cursor);
    if (!err && q->text)
        err = match_from_text(q->text, &p.match);
    if (!err)
        err = run_plan(c, &p, out);
    sg_text_free(&p.match);
    return err;
}

void sg_asset_list_free(struct sg_asset_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        sg_asset_unref(list->items[i]);
    free(list->items);
    free(list->next_cursor);
    *list = (struct sg_asset_list){0};
}
