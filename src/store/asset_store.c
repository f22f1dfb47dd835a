/* Assets as rows. Invariants: asset_search and asset_tags change in the same savepoint as the row
 * they describe (FTS5 with external content needs the old text to forget it, so it is told before
 * the row changes); version grows by one with every change. */
#include "streamgate/store/asset_store.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/json.h"

#include "asset_rows.h"

static const char *const status_names[SG_ASSET_STATUS_COUNT] = {
    [SG_ASSET_CREATED] = "created",       [SG_ASSET_UPLOADING] = "uploading",
    [SG_ASSET_PROCESSING] = "processing", [SG_ASSET_READY] = "ready",
    [SG_ASSET_FAILED] = "failed",
};
static const char *const policy_names[SG_POLICY_COUNT] = {
    [SG_POLICY_PUBLIC] = "public",
    [SG_POLICY_SIGNED] = "signed",
    [SG_POLICY_GATED] = "gated",
};

const char *sg_asset_status_name(enum sg_asset_status s)
{
    return (unsigned)s < SG_ASSET_STATUS_COUNT ? status_names[s] : "unknown";
}

const char *sg_asset_policy_name(enum sg_asset_policy p)
{
    return (unsigned)p < SG_POLICY_COUNT ? policy_names[p] : "unknown";
}

enum sg_error sg_asset_status_parse(const char *s, enum sg_asset_status *out)
{
    for (unsigned i = 0; i < SG_ASSET_STATUS_COUNT; i++) {
        if (strcmp(s, status_names[i]) == 0) {
            *out = (enum sg_asset_status)i;
            return SG_OK;
        }
    }
    return SG_ERR_INVALID;
}

enum sg_error sg_asset_policy_parse(const char *s, enum sg_asset_policy *out)
{
    for (unsigned i = 0; i < SG_POLICY_COUNT; i++) {
        if (strcmp(s, policy_names[i]) == 0) {
            *out = (enum sg_asset_policy)i;
            return SG_OK;
        }
    }
    return SG_ERR_INVALID;
}

#define STRINGS 9

/* The string members, so that copying and weighing them cannot forget one. */
static void list_strings(struct sg_asset_fields *f, const char **out[STRINGS])
{
    const char **all[STRINGS] = {&f->title,       &f->description, &f->tags_json,
                                 &f->custom_json, &f->filename,    &f->content_type,
                                 &f->video_codec, &f->audio_codec, &f->error};
    memcpy(out, all, sizeof(all));
}

enum sg_error sg_asset_create(const struct sg_asset_fields *fields, struct sg_asset **out)
{
    struct sg_asset_fields f = *fields;
    const char **strings[STRINGS];
    list_strings(&f, strings);
    size_t total = sizeof(struct sg_asset);
    for (size_t i = 0; i < STRINGS; i++)
        if (__builtin_add_overflow(total, strlen(*strings[i]) + 1, &total))
            return SG_ERR_NO_MEMORY;
    struct sg_asset *asset = malloc(total);
    if (!asset)
        return SG_ERR_NO_MEMORY;
    char *at = (char *)(asset + 1);
    for (size_t i = 0; i < STRINGS; i++) {
        size_t size = strlen(*strings[i]) + 1;
        memcpy(at, *strings[i], size);
        *strings[i] = at;
        at += size;
    }
    atomic_init(&asset->refs, 1);
    asset->f = f;
    *out = asset;
    return SG_OK;
}

struct sg_asset *sg_asset_ref(struct sg_asset *asset)
{
    atomic_fetch_add_explicit(&asset->refs, 1, memory_order_relaxed);
    return asset;
}

void sg_asset_unref(struct sg_asset *asset)
{
    if (asset && atomic_fetch_sub_explicit(&asset->refs, 1, memory_order_acq_rel) == 1)
        free(asset);
}

size_t sg_asset_weight(const struct sg_asset *asset)
{
    struct sg_asset_fields f = asset->f;
    const char **strings[STRINGS];
    list_strings(&f, strings);
    size_t total = sizeof(*asset);
    for (size_t i = 0; i < STRINGS; i++)
        total += strlen(*strings[i]) + 1;
    return total;
}

static void copy_id(struct sg_stmt *st, int col, char out[SG_ULID_SIZE])
{
    const char *s = sg_stmt_text(st, col);
    size_t len = strlen(s);
    if (len >= SG_ULID_SIZE) {
        st->err = SG_ERR_IO; /* no such text was written here */
        return;
    }
    memcpy(out, s, len + 1);
}

enum sg_error sg_asset_from_row(struct sg_stmt *st, struct sg_asset **out)
{
    struct sg_asset_fields f = {0};
    int col = 0;
    copy_id(st, col++, f.id);
    copy_id(st, col++, f.owner);
    f.status = (enum sg_asset_status)sg_stmt_u64(st, col++);
    f.policy = (enum sg_asset_policy)sg_stmt_u64(st, col++);
    f.title = sg_stmt_text(st, col++);
    f.description = sg_stmt_text(st, col++);
    f.tags_json = sg_stmt_text(st, col++);
    f.custom_json = sg_stmt_text(st, col++);
    f.filename = sg_stmt_text(st, col++);
    f.size_bytes = sg_stmt_u64(st, col++);
    sg_stmt_blob(st, col++, f.sha256, sizeof(f.sha256));
    f.content_type = sg_stmt_text(st, col++);
    f.duration_ms = sg_stmt_u64(st, col++);
    f.width = (uint32_t)sg_stmt_u64(st, col++);
    f.height = (uint32_t)sg_stmt_u64(st, col++);
    f.video_codec = sg_stmt_text(st, col++);
    f.audio_codec = sg_stmt_text(st, col++);
    f.frame_rate_num = (uint32_t)sg_stmt_u64(st, col++);
    f.frame_rate_den = (uint32_t)sg_stmt_u64(st, col++);
    f.error = sg_stmt_text(st, col++);
    f.version = sg_stmt_u64(st, col++);
    f.created_ms = sg_stmt_u64(st, col++);
    f.updated_ms = sg_stmt_u64(st, col++);
    /* The policy decides who may see the bytes: an unknown one must not pass for any. */
    if (!st->err &&
        ((unsigned)f.status >= SG_ASSET_STATUS_COUNT || (unsigned)f.policy >= SG_POLICY_COUNT))
        st->err = SG_ERR_IO;
    if (!st->err)
        st->err = sg_asset_create(&f, out);
    return st->err;
}

static enum sg_error forget_tags(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "DELETE FROM asset_tags WHERE asset_seq = (SELECT seq FROM assets WHERE id = ?1)");
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run(&st);
}

static enum sg_error add_tag(struct sg_db_conn *c, const char *id, const char *tag)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT OR IGNORE INTO asset_tags(tag, asset_seq)"
                 " SELECT ?1, seq FROM assets WHERE id = ?2");
    sg_stmt_bind_text(&st, tag);
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run(&st);
}

static enum sg_error add_tags(struct sg_db_conn *c, const char *id, const char *tags_json)
{
    json_t *tags = NULL;
    enum sg_error err = sg_json_parse(tags_json, strlen(tags_json), &tags, NULL);
    if (err)
        return err;
    if (!json_is_array(tags))
        err = SG_ERR_INVALID;
    for (size_t i = 0; i < json_array_size(tags) && !err; i++) {
        const char *tag = json_string_value(json_array_get(tags, i));
        err = tag ? add_tag(c, id, tag) : SG_ERR_INVALID;
    }
    json_decref(tags);
    return err;
}

static enum sg_error index_text(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO asset_search(rowid, title, description, tags, filename)"
                 " SELECT seq, title, description, tags, filename FROM assets WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run(&st);
}

/* Before the row changes or goes: FTS5 finds the entries to remove by the text they came from. */
static enum sg_error forget_text(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO asset_search(asset_search, rowid, title, description, tags, filename)"
                 " SELECT 'delete', seq, title, description, tags, filename FROM assets"
                 " WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run(&st);
}

static enum sg_error insert_row(struct sg_db_conn *c, const struct sg_asset_fields *f)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO assets(" SG_ASSET_COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,"
                 " ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)");
    sg_stmt_bind_text(&st, f->id);
    sg_stmt_bind_text(&st, f->owner);
    sg_stmt_bind_u64(&st, f->status);
    sg_stmt_bind_u64(&st, f->policy);
    sg_stmt_bind_text(&st, f->title);
    sg_stmt_bind_text(&st, f->description);
    sg_stmt_bind_text(&st, f->tags_json);
    sg_stmt_bind_text(&st, f->custom_json);
    sg_stmt_bind_text(&st, f->filename);
    sg_stmt_bind_u64(&st, f->size_bytes);
    sg_stmt_bind_blob(&st, f->sha256, sizeof(f->sha256));
    sg_stmt_bind_text(&st, f->content_type);
    sg_stmt_bind_u64(&st, f->duration_ms);
    sg_stmt_bind_u64(&st, f->width);
    sg_stmt_bind_u64(&st, f->height);
    sg_stmt_bind_text(&st, f->video_codec);
    sg_stmt_bind_text(&st, f->audio_codec);
    sg_stmt_bind_u64(&st, f->frame_rate_num);
    sg_stmt_bind_u64(&st, f->frame_rate_den);
    sg_stmt_bind_text(&st, f->error);
    sg_stmt_bind_u64(&st, f->version);
    sg_stmt_bind_u64(&st, f->created_ms);
    sg_stmt_bind_u64(&st, f->updated_ms);
    return sg_stmt_run(&st);
}

static enum sg_error insert_index(struct sg_db_conn *c, const char *id, const void *index,
                                  size_t len)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO asset_indexes(asset_seq, data)"
                 " SELECT seq, ?1 FROM assets WHERE id = ?2");
    sg_stmt_bind_blob(&st, index, len);
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run(&st);
}

enum sg_error sg_asset_insert(struct sg_db_conn *c, const struct sg_asset_fields *fields,
                              const void *index, size_t index_len)
{
    enum sg_error err = insert_row(c, fields);
    if (!err)
        err = add_tags(c, fields->id, fields->tags_json);
    if (!err)
        err = index_text(c, fields->id);
    if (!err && index)
        err = insert_index(c, fields->id, index, index_len);
    return err;
}

static enum sg_error finish_row(struct sg_db_conn *c, const struct sg_asset_fields *f)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE assets SET size_bytes = ?1, sha256 = ?2, content_type = ?3,"
                 " duration_ms = ?4, width = ?5, height = ?6, video_codec = ?7, audio_codec = ?8,"
                 " frame_rate_num = ?9, frame_rate_den = ?10, status = ?11, error = ?12,"
                 " updated_ms = ?13, version = version + 1 WHERE id = ?14 AND status = ?15");
    sg_stmt_bind_u64(&st, f->size_bytes);
    sg_stmt_bind_blob(&st, f->sha256, sizeof(f->sha256));
    sg_stmt_bind_text(&st, f->content_type);
    sg_stmt_bind_u64(&st, f->duration_ms);
    sg_stmt_bind_u64(&st, f->width);
    sg_stmt_bind_u64(&st, f->height);
    sg_stmt_bind_text(&st, f->video_codec);
    sg_stmt_bind_text(&st, f->audio_codec);
    sg_stmt_bind_u64(&st, f->frame_rate_num);
    sg_stmt_bind_u64(&st, f->frame_rate_den);
    sg_stmt_bind_u64(&st, f->status);
    sg_stmt_bind_text(&st, f->error);
    sg_stmt_bind_u64(&st, f->updated_ms);
    sg_stmt_bind_text(&st, f->id);
    sg_stmt_bind_u64(&st, SG_ASSET_PROCESSING);
    return sg_stmt_run_changing(&st);
}

/* Search text and tags stay as they are: nothing they are made of changes here. */
enum sg_error sg_asset_finish(struct sg_db_conn *c, const struct sg_asset_fields *fields,
                              const void *index, size_t index_len)
{
    enum sg_error err = finish_row(c, fields);
    if (err)
        return err;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "DELETE FROM asset_indexes"
                 " WHERE asset_seq = (SELECT seq FROM assets WHERE id = ?1)");
    sg_stmt_bind_text(&st, fields->id);
    err = sg_stmt_run(&st);
    if (!err && index)
        err = insert_index(c, fields->id, index, index_len);
    return err;
}

static enum sg_error check_version(struct sg_db_conn *c, const char *id, uint64_t expected)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT version FROM assets WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    bool found = sg_stmt_row(&st);
    uint64_t version = found ? sg_stmt_u64(&st, 0) : 0;
    enum sg_error err = sg_stmt_close(&st);
    if (err)
        return err;
    if (!found)
        return SG_ERR_NOT_FOUND;
    return expected && version != expected ? SG_ERR_PRECONDITION_FAILED : SG_OK;
}

static enum sg_error update_row(struct sg_db_conn *c, const struct sg_asset_fields *f)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE assets SET title = ?1, description = ?2, tags = ?3, custom = ?4,"
                 " policy = ?5, status = ?6, error = ?7, updated_ms = ?8, version = version + 1"
                 " WHERE id = ?9");
    sg_stmt_bind_text(&st, f->title);
    sg_stmt_bind_text(&st, f->description);
    sg_stmt_bind_text(&st, f->tags_json);
    sg_stmt_bind_text(&st, f->custom_json);
    sg_stmt_bind_u64(&st, f->policy);
    sg_stmt_bind_u64(&st, f->status);
    sg_stmt_bind_text(&st, f->error);
    sg_stmt_bind_u64(&st, f->updated_ms);
    sg_stmt_bind_text(&st, f->id);
    return sg_stmt_run_changing(&st);
}

enum sg_error sg_asset_update(struct sg_db_conn *c, const struct sg_asset_fields *fields,
                              uint64_t expected_version)
{
    enum sg_error err = check_version(c, fields->id, expected_version);
    if (!err)
        err = forget_text(c, fields->id);
    if (!err)
        err = forget_tags(c, fields->id);
    if (!err)
        err = update_row(c, fields);
    if (!err)
        err = add_tags(c, fields->id, fields->tags_json);
    return err ? err : index_text(c, fields->id);
}

enum sg_error sg_asset_delete(struct sg_db_conn *c, const char *id, uint64_t expected_version)
{
    enum sg_error err = check_version(c, id, expected_version);
    if (!err)
        err = forget_text(c, id);
    if (err)
        return err;
    struct sg_stmt st;
    sg_stmt_open(&st, c, "DELETE FROM assets WHERE id = ?1"); /* tags and index cascade */
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run_changing(&st);
}

/* Closes st, whose first row, if any, is the asset. */
static enum sg_error one_asset(struct sg_stmt *st, struct sg_asset **out)
{
    struct sg_asset *asset = NULL;
    enum sg_error err = SG_OK;
    if (sg_stmt_row(st))
        err = sg_asset_from_row(st, &asset);
    enum sg_error end = sg_stmt_close(st);
    if (!err)
        err = end;
    if (!err && !asset)
        err = SG_ERR_NOT_FOUND;
    if (!err)
        *out = asset;
    return err;
}

enum sg_error sg_asset_get(struct sg_db_conn *c, const char *id, struct sg_asset **out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT " SG_ASSET_COLUMNS " FROM assets WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    return one_asset(&st, out);
}

enum sg_error sg_asset_set_index(struct sg_db_conn *c, const char *id, const void *index,
                                 size_t index_len)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE asset_indexes SET data = ?2"
                 " WHERE asset_seq = (SELECT seq FROM assets WHERE id = ?1)");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_blob(&st, index, index_len);
    enum sg_error err = sg_stmt_run_changing(&st);
    if (err)
        return err;
    sg_stmt_open(&st, c, "UPDATE assets SET version = version + 1, updated_ms = ?2 WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_u64(&st, sg_clock_wall_ms());
    return sg_stmt_run_changing(&st);
}

enum sg_error sg_asset_find_content(struct sg_db_conn *c, const uint8_t sha256[SG_SHA256_LEN],
                                    uint64_t size_bytes, struct sg_asset **out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT " SG_ASSET_COLUMNS " FROM assets WHERE sha256 = ?1 AND size_bytes = ?2"
                 " AND status = ?3 ORDER BY created_ms, id LIMIT 1");
    sg_stmt_bind_blob(&st, sha256, SG_SHA256_LEN);
    sg_stmt_bind_u64(&st, size_bytes);
    sg_stmt_bind_u64(&st, SG_ASSET_READY);
    return one_asset(&st, out);
}

enum sg_error sg_asset_get_index(struct sg_db_conn *c, const char *id, struct sg_buf **out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT i.data FROM assets a JOIN asset_indexes i ON i.asset_seq = a.seq"
                 " WHERE a.id = ?1");
    sg_stmt_bind_text(&st, id);
    struct sg_buf *buf = NULL;
    if (sg_stmt_row(&st)) {
        const void *data = sqlite3_column_blob(st.stmt, 0);
        size_t len = (size_t)sqlite3_column_bytes(st.stmt, 0);
        st.err = len && !data ? SG_ERR_NO_MEMORY : sg_buf_create_copy(data, len, &buf);
    }
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !buf)
        err = SG_ERR_NOT_FOUND;
    if (!err)
        *out = buf;
    return err;
}

enum sg_error sg_asset_each_id(struct sg_db_conn *c,
                               enum sg_error (*visit)(void *arg, const char *id), void *arg)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT id FROM assets ORDER BY id");
    while (sg_stmt_row(&st)) {
        const char *id = sg_stmt_text(&st, 0);
        if (!st.err)
            st.err = visit(arg, id);
    }
    return sg_stmt_close(&st);
}

enum sg_error sg_asset_mark_failed(struct sg_db_conn *c, const char *id, const char *error)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE assets SET status = ?1, error = ?2, updated_ms = ?3,"
                 " version = version + 1 WHERE id = ?4 AND status <> ?1");
    sg_stmt_bind_u64(&st, SG_ASSET_FAILED);
    sg_stmt_bind_text(&st, error);
    sg_stmt_bind_u64(&st, sg_clock_wall_ms());
    sg_stmt_bind_text(&st, id);
    enum sg_error err = sg_stmt_run_changing(&st);
    if (err != SG_ERR_NOT_FOUND)
        return err;
    err = check_version(c, id, 0);
    return err ? err : SG_ERR_EXISTS;
}
