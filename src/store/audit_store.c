/* The audit chain: hash(n) = SHA-256(hash(n-1) || canonical JSON of record n).
 * Invariants: numbers run without a gap from the anchor (what was pruned up to) to the head (the
 * last record), both kept in meta as "number:hash" and changed in the same savepoint as the rows.
 * The head is read from the database each time, never from memory: another process (the command
 * line) appends too, and a savepoint may be undone. */
#include "streamgate/store/audit_store.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/crypto.h"
#include "streamgate/base/json.h"
#include "streamgate/base/metrics.h"

#include "db_conn.h"

#define HEAD_KEY "audit_head"
#define ANCHOR_KEY "audit_anchor"
#define HASH_HEX (2 * SG_SHA256_LEN)
#define COLUMNS                                                                                    \
    "seq, time_ms, event_type, actor, action, resource, result, details, request_id, hash"

struct link {
    uint64_t seq;
    uint8_t hash[SG_SHA256_LEN]; /* zero before the first record */
};

/* A record as it is hashed. Optional texts are NULL when absent, which is not the same as "". */
struct record {
    uint64_t seq, time_ms;
    const char *event_type, *actor, *action, *resource, *result, *details, *request_id;
};

/* NOT_FOUND: never written. IO: not something written here. */
static enum sg_error read_link(struct sg_db_conn *c, const char *key, struct link *out)
{
    char *text = NULL;
    enum sg_error err = sg_meta_get(c, key, &text);
    if (err)
        return err;
    struct link l;
    const char *colon = strchr(text, ':');
    if (!colon || sg_str_to_u64(text, (size_t)(colon - text), INT64_MAX, &l.seq) ||
        sg_hex_decode(colon + 1, strlen(colon + 1), l.hash, sizeof(l.hash)))
        err = SG_ERR_IO;
    free(text);
    if (!err)
        *out = l;
    return err;
}

static enum sg_error read_link_or_start(struct sg_db_conn *c, const char *key, struct link *out)
{
    struct link l = {0};
    enum sg_error err = read_link(c, key, &l);
    if (err == SG_ERR_NOT_FOUND)
        err = SG_OK;
    if (!err)
        *out = l;
    return err;
}

static enum sg_error write_link(struct sg_db_conn *c, const char *key, const struct link *l)
{
    char hex[HASH_HEX + 1], text[32 + HASH_HEX];
    sg_hex_encode(l->hash, sizeof(l->hash), hex);
    sqlite3_snprintf(sizeof(text), text, "%llu:%s", (unsigned long long)l->seq, hex);
    return sg_meta_set(c, key, text);
}

/* All of the record but its hash; details stay the text they are, so any change in them shows. */
static char *record_canonical(const struct record *r, size_t *len)
{
    json_t *o =
        json_pack("{s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s?, s:s?}", "seq", (json_int_t)r->seq,
                  "time_ms", (json_int_t)r->time_ms, "event_type", r->event_type, "actor", r->actor,
                  "action", r->action, "resource", r->resource, "result", r->result, "details",
                  r->details, "request_id", r->request_id);
    char *text = o ? sg_json_dump_canonical(o, len) : NULL;
    json_decref(o);
    return text;
}

static enum sg_error record_hash(const struct record *r, const uint8_t prev[SG_SHA256_LEN],
                                 uint8_t out[SG_SHA256_LEN])
{
    size_t len = 0;
    char *text = record_canonical(r, &len);
    if (!text)
        return SG_ERR_NO_MEMORY;
    struct sg_sha256 *h = NULL;
    enum sg_error err = sg_sha256_create(&h);
    if (!err) {
        sg_sha256_update(h, prev, SG_SHA256_LEN);
        sg_sha256_update(h, text, len);
        sg_sha256_final(h, out);
    }
    sg_sha256_destroy(&h);
    free(text);
    return err;
}

static bool is_text(const char *s)
{
    return s && sg_str_is_utf8(s, strlen(s));
}

static enum sg_error check_details(const char *details)
{
    json_t *o = NULL;
    enum sg_error err = sg_json_parse(details, strlen(details), &o, NULL);
    if (!err && !json_is_object(o))
        err = SG_ERR_INVALID;
    json_decref(o);
    return err;
}

static enum sg_error check_event(const struct sg_audit_event *e)
{
    if (!is_text(e->event_type) || !is_text(e->actor) || !is_text(e->action) ||
        !is_text(e->resource) || !is_text(e->result) || (e->request_id && !is_text(e->request_id)))
        return SG_ERR_INVALID;
    return e->details ? check_details(e->details) : SG_OK;
}

static enum sg_error insert_record(struct sg_db_conn *c, const struct record *r,
                                   const uint8_t hash[SG_SHA256_LEN])
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO audit(" COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
    sg_stmt_bind_u64(&st, r->seq);
    sg_stmt_bind_u64(&st, r->time_ms);
    sg_stmt_bind_text(&st, r->event_type);
    sg_stmt_bind_text(&st, r->actor);
    sg_stmt_bind_text(&st, r->action);
    sg_stmt_bind_text(&st, r->resource);
    sg_stmt_bind_text(&st, r->result);
    sg_stmt_bind_text(&st, r->details);
    sg_stmt_bind_text(&st, r->request_id);
    sg_stmt_bind_blob(&st, hash, SG_SHA256_LEN);
    return sg_stmt_run(&st);
}

enum sg_error sg_audit_append(struct sg_db_conn *c, const struct sg_audit_event *e)
{
    struct link head;
    enum sg_error err = check_event(e);
    if (!err)
        err = read_link_or_start(c, HEAD_KEY, &head);
    if (err)
        return err;
    struct record r = {.seq = head.seq + 1,
                       .time_ms = e->time_ms ? e->time_ms : sg_clock_wall_ms(),
                       .event_type = e->event_type,
                       .actor = e->actor,
                       .action = e->action,
                       .resource = e->resource,
                       .result = e->result,
                       .details = e->details,
                       .request_id = e->request_id};
    struct link next = {.seq = r.seq};
    err = record_hash(&r, head.hash, next.hash);
    if (!err)
        err = insert_record(c, &r, next.hash);
    if (!err)
        err = write_link(c, HEAD_KEY, &next);
    if (!err)
        sg_metric_add(SG_METRIC_AUDIT_EVENTS, 0, 1);
    return err;
}

static const char *text_or_null(struct sg_stmt *st, int col)
{
    return sqlite3_column_type(st->stmt, col) == SQLITE_NULL ? NULL : sg_stmt_text(st, col);
}

/* The texts live until the next row. */
static struct record record_from_row(struct sg_stmt *st)
{
    return (struct record){
        .seq = sg_stmt_u64(st, 0),
        .time_ms = sg_stmt_u64(st, 1),
        .event_type = sg_stmt_text(st, 2),
        .actor = sg_stmt_text(st, 3),
        .action = sg_stmt_text(st, 4),
        .resource = sg_stmt_text(st, 5),
        .result = sg_stmt_text(st, 6),
        .details = text_or_null(st, 7),
        .request_id = text_or_null(st, 8),
    };
}

/* One line. Details and request_id are left out when absent; details that no longer parse were
 * edited behind our back and are shown as the text they are. */
static enum sg_error put_line(struct sg_stmt *st, struct sg_text *out)
{
    struct record r = record_from_row(st);
    uint8_t hash[SG_SHA256_LEN];
    sg_stmt_blob(st, 9, hash, sizeof(hash));
    if (st->err)
        return st->err;
    char hex[HASH_HEX + 1], time[SG_TIME_SIZE];
    sg_hex_encode(hash, sizeof(hash), hex);
    sg_time_rfc3339(r.time_ms, time);
    json_t *details = NULL;
    if (r.details && sg_json_parse(r.details, strlen(r.details), &details, NULL))
        details = json_string(r.details);
    json_t *o = json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:o*, s:s*, s:s}", "id",
                          (json_int_t)r.seq, "timestamp", time, "event_type", r.event_type, "actor",
                          r.actor, "action", r.action, "resource", r.resource, "result", r.result,
                          "details", details, "request_id", r.request_id, "hash", hex);
    size_t len = 0;
    char *line = o ? sg_json_dump(o, &len) : NULL;
    json_decref(o);
    if (!line)
        return SG_ERR_NO_MEMORY;
    sg_text_append(out, line, len);
    sg_text_append(out, "\n", 1);
    free(line);
    return out->failed ? SG_ERR_NO_MEMORY : SG_OK;
}

static void put_filters(const struct sg_audit_query *q, struct sg_text *sql)
{
    sg_text_puts(sql, "SELECT " COLUMNS " FROM audit WHERE seq > ?");
    if (q->actor)
        sg_text_puts(sql, " AND actor = ?");
    if (q->event_type)
        sg_text_puts(sql, " AND event_type = ?");
    if (q->resource)
        sg_text_puts(sql, " AND resource = ?");
    if (q->from_ms)
        sg_text_puts(sql, " AND time_ms >= ?");
    if (q->to_ms)
        sg_text_puts(sql, " AND time_ms < ?");
    sg_text_puts(sql, " ORDER BY seq LIMIT ?");
}

/* In the order of put_filters. */
static void bind_filters(const struct sg_audit_query *q, struct sg_stmt *st)
{
    sg_stmt_bind_u64(st, q->after_seq);
    if (q->actor)
        sg_stmt_bind_text(st, q->actor);
    if (q->event_type)
        sg_stmt_bind_text(st, q->event_type);
    if (q->resource)
        sg_stmt_bind_text(st, q->resource);
    if (q->from_ms)
        sg_stmt_bind_u64(st, q->from_ms);
    if (q->to_ms)
        sg_stmt_bind_u64(st, q->to_ms);
    sg_stmt_bind_u64(st, q->limit ? q->limit : INT64_MAX);
}

enum sg_error sg_audit_export(struct sg_db_conn *c, const struct sg_audit_query *q,
                              struct sg_text *out, uint64_t *last_seq)
{
    struct sg_text sql = {0};
    put_filters(q, &sql);
    if (sql.failed) {
        sg_text_free(&sql);
        return SG_ERR_NO_MEMORY;
    }
    struct sg_stmt st;
    sg_stmt_open_text(&st, c, sql.ptr, sql.len);
    bind_filters(q, &st);
    uint64_t last = 0;
    while (sg_stmt_row(&st)) {
        last = sg_stmt_u64(&st, 0);
        st.err = put_line(&st, out);
    }
    enum sg_error err = sg_stmt_close(&st);
    sg_text_free(&sql);
    if (!err && last)
        *last_seq = last;
    return err;
}

/* Whether the row is the successor of *last; then *last becomes it. */
static bool row_follows(struct sg_stmt *st, struct link *last)
{
    struct record r = record_from_row(st);
    if (r.seq != last->seq + 1)
        return false;
    struct link next = {.seq = r.seq};
    const void *stored = sqlite3_column_blob(st->stmt, 9);
    bool sized = stored && sqlite3_column_bytes(st->stmt, 9) == SG_SHA256_LEN;
    if (st->err)
        return false;
    /* A text that is no longer UTF-8 cannot be what was hashed. */
    if (!sized || !is_text(r.event_type) || !is_text(r.actor) || !is_text(r.action) ||
        !is_text(r.resource) || !is_text(r.result) || (r.details && !is_text(r.details)) ||
        (r.request_id && !is_text(r.request_id)))
        return false;
    st->err = record_hash(&r, last->hash, next.hash);
    if (st->err || !sg_equal_const_time(stored, next.hash, SG_SHA256_LEN))
        return false;
    *last = next;
    return true;
}

/* What the head says against what was read; 0 when they agree. */
static uint64_t compare_head(const struct link *head, const struct link *last)
{
    if (head->seq > last->seq)
        return last->seq + 1; /* the tail was cut: the first one missing */
    if (head->seq < last->seq)
        return head->seq + 1; /* records nobody appended through here */
    return memcmp(head->hash, last->hash, SG_SHA256_LEN) == 0 ? 0 : last->seq ? last->seq : 1;
}

enum sg_error sg_audit_verify(struct sg_db_conn *c, uint64_t *count, uint64_t *bad_seq)
{
    struct link last, head;
    enum sg_error anchor_err = read_link_or_start(c, ANCHOR_KEY, &last);
    enum sg_error head_err = read_link_or_start(c, HEAD_KEY, &head);
    /* Links that do not parse were edited: nothing can be shown to be right any more. */
    if (anchor_err == SG_ERR_IO || head_err == SG_ERR_IO) {
        *count = 0;
        *bad_seq = 1;
        return SG_OK;
    }
    if (anchor_err || head_err)
        return anchor_err ? anchor_err : head_err;
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT " COLUMNS " FROM audit ORDER BY seq");
    uint64_t n = 0, bad = 0;
    while (!bad && sg_stmt_row(&st)) {
        n++;
        uint64_t seq = sg_stmt_u64(&st, 0), expected = last.seq + 1;
        if (!row_follows(&st, &last) && !st.err)
            /* A gap: the first one missing. 0 is no record's number, and means "all well". */
            bad = seq && seq < expected ? seq : expected;
    }
    enum sg_error err = sg_stmt_close(&st);
    if (err)
        return err;
    *count = n;
    *bad_seq = bad ? bad : compare_head(&head, &last);
    return SG_OK;
}

/* The record before the first one that is recent enough: clocks step back, and the chain may only
 * be cut at one place, so an old record behind a recent one stays. */
static enum sg_error find_cut(struct sg_db_conn *c, uint64_t before_ms, struct link *cut)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT seq, hash FROM audit WHERE seq < coalesce((SELECT seq FROM audit"
                 " NOT INDEXED WHERE time_ms >= ?1 ORDER BY seq LIMIT 1), ?2)"
                 " ORDER BY seq DESC LIMIT 1");
    sg_stmt_bind_u64(&st, before_ms);
    sg_stmt_bind_u64(&st, INT64_MAX);
    bool found = sg_stmt_row(&st);
    struct link l = {0};
    if (found) {
        l.seq = sg_stmt_u64(&st, 0);
        sg_stmt_blob(&st, 1, l.hash, sizeof(l.hash));
    }
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !found)
        err = SG_ERR_NOT_FOUND;
    if (!err)
        *cut = l;
    return err;
}

enum sg_error sg_audit_prune(struct sg_db_conn *c, uint64_t before_ms, uint64_t *dropped)
{
    struct link cut;
    enum sg_error err = find_cut(c, before_ms, &cut);
    if (err == SG_ERR_NOT_FOUND) {
        *dropped = 0;
        return SG_OK;
    }
    if (!err)
        err = write_link(c, ANCHOR_KEY, &cut);
    if (err)
        return err;
    struct sg_stmt st;
    sg_stmt_open(&st, c, "DELETE FROM audit WHERE seq <= ?1");
    sg_stmt_bind_u64(&st, cut.seq);
    err = sg_stmt_run(&st);
    if (!err)
        *dropped = (uint64_t)sqlite3_changes64(c->handle);
    return err;
}
