/* Events on their way to become deliveries: from the columns that a trigger copied to the JSON that
 * is sent, once for each event, and then one delivery for each hook that may hear of it and wants
 * to. An event is removed in the transaction that makes its deliveries. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/json.h"
#include "streamgate/base/str.h"
#include "streamgate/store/asset_store.h"
#include "streamgate/store/job_store.h"
#include "streamgate/store/key_store.h"
#include "streamgate/store/upload_store.h"

#include "job_rows.h"
#include "webhook_rows.h"

#define LIMIT_MAX 1000

/* Written out in schema_webhooks.h, and the role below. */
_Static_assert(SG_ASSET_READY == 3 && SG_ASSET_FAILED == 4 && SG_UPLOAD_PROCESSING == 1 &&
                   SG_UPLOAD_DONE == 2 && SG_UPLOAD_FAILED == 3 && SG_JOB_RUNNING == 1 &&
                   SG_JOB_FAILED == 3 && SG_JOB_DEAD == 5 && SG_UPLOAD_IMPORT == 4,
               "the numbers of others in the triggers");
_Static_assert(SG_WEBHOOK_ASSET_CREATED == 0 && SG_WEBHOOK_ASSET_READY == 1 &&
                   SG_WEBHOOK_ASSET_FAILED == 2 && SG_WEBHOOK_ASSET_DELETED == 3 &&
                   SG_WEBHOOK_UPLOAD_COMPLETED == 4 && SG_WEBHOOK_JOB_FAILED == 5,
               "the types in the triggers");
_Static_assert(SG_ROLE_ADMIN == 3, "the role in SQL");

/* ---- data ---- */

enum column {
    COL_SEQ,
    COL_TYPE,
    COL_OWNER,
    COL_TIME,
    COL_DATA,
    COL_SUBJECT,
    COL_ASSET,
    COL_KIND,
    COL_STATE,
    COL_N,
    COL_TITLE,
    COL_DESCRIPTION,
    COL_TAGS,
    COL_CUSTOM,
    COL_FILENAME,
    COL_SIZE,
    COL_SHA256,
    COL_CONTENT_TYPE,
    COL_DURATION,
    COL_WIDTH,
    COL_HEIGHT,
    COL_VIDEO,
    COL_AUDIO,
    COL_ERROR,
    COL_DETAIL,
    COL_VERSION,
    COL_CREATED,
    COL_UPDATED
};
#define COLUMNS                                                                                    \
    "seq, type, owner, time_ms, data, subject, asset_id, kind, state, n, title, description, "     \
    "tags, custom, filename, size_bytes, sha256, content_type, duration_ms, width, height, "       \
    "video_codec, audio_codec, error, detail, version, created_ms, updated_ms"

enum form { TEXT, TEXT_OR_NULL, NUMBER, NUMBER_OR_NULL, SECONDS, TIME, JSON, HASH, STATUS, STATE };

struct member {
    const char *name;
    enum column col;
    enum form form;
};

static const struct member asset_members[] = {
    {"id", COL_SUBJECT, TEXT},
    {"status", COL_STATE, STATUS},
    {"title", COL_TITLE, TEXT},
    {"description", COL_DESCRIPTION, TEXT},
    {"tags", COL_TAGS, JSON},
    {"custom", COL_CUSTOM, JSON},
    {"owner", COL_OWNER, TEXT},
    {"filename", COL_FILENAME, TEXT},
    {"size", COL_SIZE, NUMBER},
    {"sha256", COL_SHA256, HASH},
    {"content_type", COL_CONTENT_TYPE, TEXT},
    {"duration", COL_DURATION, SECONDS},
    {"width", COL_WIDTH, NUMBER_OR_NULL},
    {"height", COL_HEIGHT, NUMBER_OR_NULL},
    {"video_codec", COL_VIDEO, TEXT_OR_NULL},
    {"audio_codec", COL_AUDIO, TEXT_OR_NULL},
    {"error", COL_ERROR, TEXT_OR_NULL},
    {"version", COL_VERSION, NUMBER},
    {"created_at", COL_CREATED, TIME},
    {"updated_at", COL_UPDATED, TIME},
};
static const struct member upload_members[] = {
    {"id", COL_SUBJECT, TEXT},  {"kind", COL_KIND, TEXT},   {"filename", COL_FILENAME, TEXT},
    {"size", COL_SIZE, NUMBER}, {"owner", COL_OWNER, TEXT}, {"asset_id", COL_ASSET, TEXT},
};
static const struct member job_members[] = {
    {"id", COL_SUBJECT, TEXT},
    {"type", COL_KIND, TEXT},
    {"state", COL_STATE, STATE},
    {"owner", COL_OWNER, TEXT_OR_NULL},
    {"asset_id", COL_ASSET, TEXT_OR_NULL},
    {"attempts", COL_N, NUMBER},
    {"error", COL_ERROR, TEXT},
    {"detail", COL_DETAIL, TEXT},
};

/* Texts of the database are UTF-8; one that is not is as good as none. */
static json_t *text_or_null(const char *s, bool empty_is_null)
{
    json_t *v = s[0] == '\0' && empty_is_null ? NULL : json_string(s);
    return v ? v : json_null();
}

static json_t *parsed_or_null(const char *s)
{
    json_t *v = NULL;
    return sg_json_parse(s, strlen(s), &v, NULL) == SG_OK ? v : json_null();
}

static json_t *time_value(uint64_t ms)
{
    char text[SG_TIME_SIZE];
    sg_time_rfc3339(ms, text);
    return json_string(text);
}

static json_t *hash_value(struct sg_stmt *st, int col)
{
    uint8_t hash[SG_SHA256_LEN] = {0};
    char text[2 * SG_SHA256_LEN + 1];
    sg_stmt_blob(st, col, hash, sizeof(hash));
    sg_hex_encode(hash, sizeof(hash), text);
    return json_string(text);
}

static json_t *value_of(struct sg_stmt *st, const struct member *m)
{
    int col = (int)m->col;
    switch (m->form) {
    case TEXT:
        return text_or_null(sg_stmt_text(st, col), false);
    case TEXT_OR_NULL:
        return text_or_null(sg_stmt_text(st, col), true);
    case NUMBER:
        return json_integer((json_int_t)sg_stmt_u64(st, col));
    case NUMBER_OR_NULL: {
        uint64_t n = sg_stmt_u64(st, col);
        return n > 0 ? json_integer((json_int_t)n) : json_null();
    }
    case SECONDS:
        return json_real((double)sg_stmt_u64(st, col) / 1000.0);
    case TIME:
        return time_value(sg_stmt_u64(st, col));
    case JSON:
        return parsed_or_null(sg_stmt_text(st, col));
    case HASH:
        return hash_value(st, col);
    case STATUS:
        return json_string(sg_asset_status_name((enum sg_asset_status)sg_stmt_u64(st, col)));
    case STATE:
        return json_string(sg_job_state_name((enum sg_job_state)sg_stmt_u64(st, col)));
    }
    return NULL;
}

/* The current row's data as JSON text, malloc'ed. */
static enum sg_error read_data(struct sg_stmt *st, enum sg_webhook_type type, char **out)
{
    const struct member *members = asset_members;
    size_t n = SG_ARRAY_LEN(asset_members);
    if (type == SG_WEBHOOK_UPLOAD_COMPLETED) {
        members = upload_members;
        n = SG_ARRAY_LEN(upload_members);
    } else if (type == SG_WEBHOOK_JOB_FAILED) {
        members = job_members;
        n = SG_ARRAY_LEN(job_members);
    } else if (type > SG_WEBHOOK_JOB_FAILED) {
        *out = strdup(sg_stmt_text(st, COL_DATA));
        return *out ? SG_OK : SG_ERR_NO_MEMORY;
    }
    json_t *o = json_object();
    int bad = o == NULL;
    for (size_t i = 0; i < n; i++)
        bad |= json_object_set_new(o, members[i].name, value_of(st, &members[i]));
    *out = bad || st->err ? NULL : sg_json_dump(o, NULL);
    json_decref(o);
    return st->err ? st->err : *out ? SG_OK : SG_ERR_NO_MEMORY;
}

/* ---- in ---- */

enum sg_error sg_webhook_emit(struct sg_db_conn *c, const struct sg_webhook_event *e)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO webhook_events(type, owner, time_ms, data) SELECT ?1, ?2, ?3, ?4"
                 " WHERE EXISTS(SELECT 1 FROM webhooks WHERE enabled AND events & (1 << ?1))");
    sg_stmt_bind_u64(&st, e->type);
    sg_stmt_bind_text(&st, e->owner);
    sg_stmt_bind_u64(&st, e->time_ms);
    sg_stmt_bind_text(&st, e->data);
    return sg_stmt_run(&st);
}

/* What is sent: data is a JSON object already. */
static enum sg_error write_body(const struct sg_webhook_event *e, const char *event_id,
                                struct sg_text *out)
{
    char time[SG_TIME_SIZE];
    sg_time_rfc3339(e->time_ms, time);
    sg_text_printf(out, "{\"id\":\"%s\",\"type\":\"%s\",\"created_at\":\"%s\",\"data\":", event_id,
                   sg_webhook_type_name(e->type), time);
    sg_text_puts(out, e->data);
    sg_text_puts(out, "}");
    return out->failed ? SG_ERR_NO_MEMORY : SG_OK;
}

enum sg_error sg_webhook_emit_to(struct sg_db_conn *c, const char *hook_id,
                                 const struct sg_webhook_event *e, char delivery_id[SG_ULID_SIZE])
{
    struct sg_webhook *h = NULL;
    enum sg_error err = sg_webhook_get(c, hook_id, &h);
    if (err)
        return err;
    bool enabled = h->f.enabled;
    sg_webhook_free(&h);
    if (!enabled)
        return SG_ERR_CONFLICT;
    char event_id[SG_ULID_SIZE];
    sg_ulid_make(event_id);
    struct sg_text body = {0};
    err = write_body(e, event_id, &body);
    struct sg_delivery_new d = {.hook_id = hook_id,
                                .event_id = event_id,
                                .body = body.ptr,
                                .type = e->type,
                                .now_ms = e->time_ms};
    if (!err)
        err = sg_delivery_insert(c, &d);
    sg_text_free(&body);
    if (!err)
        memcpy(delivery_id, d.id, SG_ULID_SIZE);
    return err;
}

/* ---- out ---- */

/* Who hears of it: the owner's hooks, and administrators' for as long as they are such. Read to the
 * end before anything is written. */
static enum sg_error find_hearers(struct sg_db_conn *c, const struct sg_webhook_event *e,
                                  uint64_t now_ms, struct sg_text *ids)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT id FROM webhooks h WHERE enabled AND events & (1 << ?1) AND"
                 " (owner = ?2 AND ?2 <> '' OR everything AND EXISTS(SELECT 1 FROM api_keys k"
                 " WHERE k.user_id = h.owner AND k.role >= 3 AND k.revoked_ms = 0"
                 " AND (k.expires_ms = 0 OR k.expires_ms > ?3)))");
    sg_stmt_bind_u64(&st, e->type);
    sg_stmt_bind_text(&st, e->owner);
    sg_stmt_bind_u64(&st, now_ms);
    while (sg_stmt_row(&st))
        sg_text_append(ids, sg_stmt_text(&st, 0), SG_ULID_SIZE - 1);
    enum sg_error err = sg_stmt_close(&st);
    return !err && ids->failed ? SG_ERR_NO_MEMORY : err;
}

static enum sg_error spread_to(struct sg_db_conn *c, const struct sg_webhook_event *e,
                               const struct sg_text *ids)
{
    char event_id[SG_ULID_SIZE], hook_id[SG_ULID_SIZE] = "";
    struct sg_text body = {0};
    sg_ulid_make(event_id);
    enum sg_error err = write_body(e, event_id, &body);
    for (size_t at = 0; at < ids->len && !err; at += SG_ULID_SIZE - 1) {
        memcpy(hook_id, ids->ptr + at, SG_ULID_SIZE - 1);
        err = sg_delivery_insert(c, &(struct sg_delivery_new){.hook_id = hook_id,
                                                              .event_id = event_id,
                                                              .body = body.ptr,
                                                              .type = e->type,
                                                              .now_ms = sg_clock_wall_ms()});
    }
    sg_text_free(&body);
    return err;
}

/* The current row of the events. */
static enum sg_error spread_one(struct sg_db_conn *c, struct sg_stmt *st)
{
    struct sg_webhook_event e = {.type = (enum sg_webhook_type)sg_stmt_u64(st, COL_TYPE),
                                 .owner = sg_stmt_text(st, COL_OWNER),
                                 .time_ms = sg_stmt_u64(st, COL_TIME)};
    struct sg_text ids = {0};
    char *data = NULL;
    if (e.type >= SG_WEBHOOK_TYPE_COUNT)
        return SG_ERR_IO;
    enum sg_error err = find_hearers(c, &e, sg_clock_wall_ms(), &ids);
    if (!err && ids.len > 0)
        err = read_data(st, e.type, &data);
    e.data = data;
    if (!err && ids.len > 0)
        err = spread_to(c, &e, &ids);
    sg_text_free(&ids);
    free(data);
    return err;
}

/* At the last of them everything up to it goes: events are numbered as they are committed. */
static enum sg_error drop_events(struct sg_db_conn *c, uint64_t last)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "DELETE FROM webhook_events WHERE seq <= ?1");
    sg_stmt_bind_u64(&st, last);
    return sg_stmt_run(&st);
}

enum sg_error sg_webhook_spread(struct sg_db_conn *c, unsigned limit, uint64_t *out_n)
{
    if (limit < 1 || limit > LIMIT_MAX)
        return SG_ERR_INVALID;
    struct sg_stmt st;
    uint64_t n = 0, last = 0;
    sg_stmt_open(&st, c, "SELECT " COLUMNS " FROM webhook_events ORDER BY seq LIMIT ?1");
    sg_stmt_bind_u64(&st, limit);
    while (sg_stmt_row(&st)) {
        last = sg_stmt_u64(&st, COL_SEQ);
        enum sg_error err = spread_one(c, &st);
        if (err)
            st.err = err;
        n++;
    }
    enum sg_error err = sg_stmt_close(&st);
    if (!err && n > 0)
        err = drop_events(c, last);
    if (!err)
        *out_n = n;
    return err;
}
