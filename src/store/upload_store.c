/* Uploads as rows. Invariants: a change of state names the state it starts from, in one statement,
 * so of several that try one succeeds; an offset that was acknowledged never goes back; chunks and
 * offset_bytes change in the same savepoint. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/store/job_store.h"

#include "upload_rows.h"

/* Written out in schema_imports.h. */
_Static_assert(SG_UPLOAD_ACTIVE == 0 && SG_UPLOAD_FAILED == 3 && SG_JOB_CANCELLED == 4 &&
                   SG_JOB_DEAD == 5,
               "the numbers in SQL");

static const char *const kind_names[SG_UPLOAD_KIND_COUNT] = {
    [SG_UPLOAD_CHUNKED] = "chunked",         [SG_UPLOAD_TUS] = "tus",
    [SG_UPLOAD_TUS_PARTIAL] = "tus-partial", [SG_UPLOAD_TUS_FINAL] = "tus-final",
    [SG_UPLOAD_IMPORT] = "import",
};
static const char *const state_names[SG_UPLOAD_STATE_COUNT] = {
    [SG_UPLOAD_ACTIVE] = "active",
    [SG_UPLOAD_PROCESSING] = "processing",
    [SG_UPLOAD_DONE] = "done",
    [SG_UPLOAD_FAILED] = "failed",
};

const char *sg_upload_kind_name(enum sg_upload_kind k)
{
    return (unsigned)k < SG_UPLOAD_KIND_COUNT ? kind_names[k] : "unknown";
}

const char *sg_upload_state_name(enum sg_upload_state s)
{
    return (unsigned)s < SG_UPLOAD_STATE_COUNT ? state_names[s] : "unknown";
}

#define STRINGS 11

/* The string members, so that copying them cannot forget one. */
static void list_strings(struct sg_upload_fields *f, const char **out[STRINGS])
{
    const char **all[STRINGS] = {&f->filename,    &f->title,      &f->description, &f->tags_json,
                                 &f->custom_json, &f->metadata,   &f->url,         &f->etag,
                                 &f->parts,       &f->error_slug, &f->error_detail};
    memcpy(out, all, sizeof(all));
}

static enum sg_error create(const struct sg_upload_fields *fields, struct sg_upload **out)
{
    struct sg_upload_fields f = *fields;
    const char **strings[STRINGS];
    list_strings(&f, strings);
    size_t total = sizeof(struct sg_upload);
    for (size_t i = 0; i < STRINGS; i++)
        if (__builtin_add_overflow(total, strlen(*strings[i]) + 1, &total))
            return SG_ERR_NO_MEMORY;
    struct sg_upload *upload = malloc(total);
    if (!upload)
        return SG_ERR_NO_MEMORY;
    char *at = (char *)(upload + 1);
    for (size_t i = 0; i < STRINGS; i++) {
        size_t size = strlen(*strings[i]) + 1;
        memcpy(at, *strings[i], size);
        *strings[i] = at;
        at += size;
    }
    upload->f = f;
    *out = upload;
    return SG_OK;
}

void sg_upload_free(struct sg_upload **upload)
{
    free(*upload);
    *upload = NULL;
}

void sg_upload_copy_id(struct sg_stmt *st, int col, char out[SG_ULID_SIZE])
{
    const char *s = sg_stmt_text(st, col);
    size_t len = strlen(s);
    if (len >= SG_ULID_SIZE)
        st->err = SG_ERR_IO;
    else
        memcpy(out, s, len + 1);
}

static bool is_null(struct sg_stmt *st, int col)
{
    return sqlite3_column_type(st->stmt, col) == SQLITE_NULL;
}

static void read_content(struct sg_stmt *st, int col, struct sg_upload_fields *f)
{
    f->has_size = !is_null(st, col);
    f->size_bytes = sg_stmt_u64(st, col++);
    f->offset_bytes = sg_stmt_u64(st, col++);
    f->chunk_bytes = sg_stmt_u64(st, col++);
    f->has_sha256 = !is_null(st, col);
    if (f->has_sha256)
        sg_stmt_blob(st, col, f->sha256, sizeof(f->sha256));
}

enum sg_error sg_upload_from_row(struct sg_stmt *st, struct sg_upload **out)
{
    struct sg_upload_fields f = {0};
    int col = 0;
    sg_upload_copy_id(st, col++, f.id);
    sg_upload_copy_id(st, col++, f.owner);
    f.kind = (enum sg_upload_kind)sg_stmt_u64(st, col++);
    f.state = (enum sg_upload_state)sg_stmt_u64(st, col++);
    f.filename = sg_stmt_text(st, col++);
    f.title = sg_stmt_text(st, col++);
    f.description = sg_stmt_text(st, col++);
    f.tags_json = sg_stmt_text(st, col++);
    f.custom_json = sg_stmt_text(st, col++);
    f.policy = is_null(st, col) ? -1 : (int)sg_stmt_u64(st, col);
    col++;
    f.metadata = sg_stmt_text(st, col++);
    f.url = sg_stmt_text(st, col++);
    f.etag = sg_stmt_text(st, col++);
    read_content(st, col, &f);
    col += 4;
    f.parts = sg_stmt_text(st, col++);
    f.error_slug = sg_stmt_text(st, col++);
    f.error_detail = sg_stmt_text(st, col++);
    f.created_ms = sg_stmt_u64(st, col++);
    f.updated_ms = sg_stmt_u64(st, col++);
    f.expires_ms = sg_stmt_u64(st, col++);
    /* As for assets: an unknown policy must not pass for any. */
    if (!st->err &&
        ((unsigned)f.kind >= SG_UPLOAD_KIND_COUNT || (unsigned)f.state >= SG_UPLOAD_STATE_COUNT ||
         f.policy >= SG_POLICY_COUNT || f.policy < -1))
        st->err = SG_ERR_IO;
    if (!st->err)
        st->err = create(&f, out);
    return st->err;
}

static void bind_or_null(struct sg_stmt *st, bool has, uint64_t v)
{
    if (has)
        sg_stmt_bind_u64(st, v);
    else
        sg_stmt_bind_text(st, NULL);
}

static void bind_content(struct sg_stmt *st, const struct sg_upload_fields *f)
{
    bind_or_null(st, f->has_size, f->size_bytes);
    sg_stmt_bind_u64(st, f->offset_bytes);
    sg_stmt_bind_u64(st, f->chunk_bytes);
    if (f->has_sha256)
        sg_stmt_bind_blob(st, f->sha256, sizeof(f->sha256));
    else
        sg_stmt_bind_text(st, NULL);
}

enum sg_error sg_upload_insert(struct sg_db_conn *c, const struct sg_upload_fields *f)
{
    if ((unsigned)f->kind >= SG_UPLOAD_KIND_COUNT || (unsigned)f->state >= SG_UPLOAD_STATE_COUNT ||
        f->policy < -1 || f->policy >= SG_POLICY_COUNT)
        return SG_ERR_INVALID;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO uploads(" SG_UPLOAD_COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7,"
                 " ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)");
    sg_stmt_bind_text(&st, f->id);
    sg_stmt_bind_text(&st, f->owner);
    sg_stmt_bind_u64(&st, f->kind);
    sg_stmt_bind_u64(&st, f->state);
    sg_stmt_bind_text(&st, f->filename);
    sg_stmt_bind_text(&st, f->title);
    sg_stmt_bind_text(&st, f->description);
    sg_stmt_bind_text(&st, f->tags_json);
    sg_stmt_bind_text(&st, f->custom_json);
    bind_or_null(&st, f->policy >= 0, (uint64_t)f->policy);
    sg_stmt_bind_text(&st, f->metadata);
    sg_stmt_bind_text(&st, f->url);
    sg_stmt_bind_text(&st, f->etag);
    bind_content(&st, f);
    sg_stmt_bind_text(&st, f->parts);
    sg_stmt_bind_text(&st, f->error_slug);
    sg_stmt_bind_text(&st, f->error_detail);
    sg_stmt_bind_u64(&st, f->created_ms);
    sg_stmt_bind_u64(&st, f->updated_ms);
    sg_stmt_bind_u64(&st, f->expires_ms);
    return sg_stmt_run(&st);
}

enum sg_error sg_upload_get(struct sg_db_conn *c, const char *id, struct sg_upload **out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT " SG_UPLOAD_COLUMNS " FROM uploads WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    struct sg_upload *upload = NULL;
    enum sg_error err = SG_OK;
    if (sg_stmt_row(&st))
        err = sg_upload_from_row(&st, &upload);
    enum sg_error end = sg_stmt_close(&st);
    if (!err)
        err = end;
    if (!err && !upload)
        err = SG_ERR_NOT_FOUND;
    if (!err)
        *out = upload;
    return err;
}

struct standing {
    enum sg_upload_kind kind;
    enum sg_upload_state state;
};

static enum sg_error look(struct sg_db_conn *c, const char *id, struct standing *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT kind, state FROM uploads WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    bool found = sg_stmt_row(&st);
    struct standing s = {0};
    if (found)
        s = (struct standing){(enum sg_upload_kind)sg_stmt_u64(&st, 0),
                              (enum sg_upload_state)sg_stmt_u64(&st, 1)};
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !found)
        err = SG_ERR_NOT_FOUND;
    if (!err)
        *out = s;
    return err;
}

/* Runs an update of one upload under conditions: no row changed means that there is none, or that
 * the conditions did not hold. */
static enum sg_error run_conditional(struct sg_stmt *st, const char *id)
{
    struct sg_db_conn *c = st->conn;
    enum sg_error err = sg_stmt_run_changing(st);
    if (err != SG_ERR_NOT_FOUND)
        return err;
    struct standing unused;
    err = look(c, id, &unused);
    return err ? err : SG_ERR_CONFLICT;
}

enum sg_error sg_upload_set_offset(struct sg_db_conn *c, const char *id, uint64_t offset_bytes,
                                   uint64_t now_ms, uint64_t expires_ms)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE uploads SET offset_bytes = ?1, updated_ms = ?2, expires_ms = ?3"
                 " WHERE id = ?4 AND state = ?5 AND (offset_bytes <= ?1 OR kind = ?6)"
                 " AND (size_bytes IS NULL OR size_bytes >= ?1)");
    sg_stmt_bind_u64(&st, offset_bytes);
    sg_stmt_bind_u64(&st, now_ms);
    sg_stmt_bind_u64(&st, expires_ms);
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_u64(&st, SG_UPLOAD_ACTIVE);
    sg_stmt_bind_u64(&st, SG_UPLOAD_IMPORT);
    return run_conditional(&st, id);
}

enum sg_error sg_upload_set_size(struct sg_db_conn *c, const char *id, uint64_t size_bytes)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE uploads SET size_bytes = ?1 WHERE id = ?2 AND state = ?3"
                 " AND (size_bytes IS NULL OR size_bytes = ?1) AND offset_bytes <= ?1");
    sg_stmt_bind_u64(&st, size_bytes);
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_u64(&st, SG_UPLOAD_ACTIVE);
    return run_conditional(&st, id);
}

enum sg_error sg_upload_set_etag(struct sg_db_conn *c, const char *id, const char *etag)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "UPDATE uploads SET etag = ?1 WHERE id = ?2");
    sg_stmt_bind_text(&st, etag);
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run_changing(&st);
}

enum sg_error sg_upload_start_over(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE uploads SET offset_bytes = 0, size_bytes = NULL, etag = ''"
                 " WHERE id = ?1 AND state = ?2 AND kind = ?3");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_u64(&st, SG_UPLOAD_ACTIVE);
    sg_stmt_bind_u64(&st, SG_UPLOAD_IMPORT);
    return run_conditional(&st, id);
}

enum sg_error sg_upload_set_filename(struct sg_db_conn *c, const char *id, const char *filename)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "UPDATE uploads SET filename = ?1 WHERE id = ?2");
    sg_stmt_bind_text(&st, filename);
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run_changing(&st);
}

enum sg_error sg_upload_move(struct sg_db_conn *c, const struct sg_upload_move *m)
{
    if ((unsigned)m->to >= SG_UPLOAD_STATE_COUNT || (unsigned)m->from >= SG_UPLOAD_STATE_COUNT ||
        m->from == m->to)
        return SG_ERR_INVALID;
    bool failed = m->to == SG_UPLOAD_FAILED;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE uploads SET state = ?1, error_slug = ?2, error_detail = ?3,"
                 " updated_ms = ?4, expires_ms = ?5 WHERE id = ?6 AND state = ?7");
    sg_stmt_bind_u64(&st, m->to);
    sg_stmt_bind_text(&st, failed ? m->slug : "");
    sg_stmt_bind_text(&st, failed ? m->detail : "");
    sg_stmt_bind_u64(&st, m->now_ms);
    sg_stmt_bind_u64(&st, m->expires_ms);
    sg_stmt_bind_text(&st, m->id);
    sg_stmt_bind_u64(&st, m->from);
    return run_conditional(&st, m->id);
}

enum sg_error sg_upload_delete(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "DELETE FROM uploads WHERE id = ?1"); /* chunks cascade */
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run_changing(&st);
}

enum sg_error sg_upload_delete_processing(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "DELETE FROM uploads WHERE id = ?1 AND state = ?2");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_u64(&st, SG_UPLOAD_PROCESSING);
    return sg_stmt_run_changing(&st);
}

struct stored_chunk {
    bool found;
    uint64_t len;
    uint8_t sha256[SG_SHA256_LEN];
};

static enum sg_error read_chunk(struct sg_db_conn *c, const char *upload_id, uint64_t number,
                                struct stored_chunk *out)
{
    struct stored_chunk chunk = {0};
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT len, sha256 FROM upload_chunks WHERE upload_id = ?1 AND number = ?2");
    sg_stmt_bind_text(&st, upload_id);
    sg_stmt_bind_u64(&st, number);
    chunk.found = sg_stmt_row(&st);
    if (chunk.found) {
        chunk.len = sg_stmt_u64(&st, 0);
        sg_stmt_blob(&st, 1, chunk.sha256, sizeof(chunk.sha256));
    }
    enum sg_error err = sg_stmt_close(&st);
    if (!err)
        *out = chunk;
    return err;
}

enum sg_error sg_upload_chunk_get(struct sg_db_conn *c, const char *upload_id, uint64_t number,
                                  uint8_t sha256[SG_SHA256_LEN])
{
    struct stored_chunk chunk;
    enum sg_error err = read_chunk(c, upload_id, number, &chunk);
    if (!err && !chunk.found)
        err = SG_ERR_NOT_FOUND;
    if (!err)
        memcpy(sha256, chunk.sha256, SG_SHA256_LEN);
    return err;
}

static enum sg_error add_chunk(struct sg_db_conn *c, const struct sg_upload_chunk *chunk)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO upload_chunks(upload_id, number, len, sha256)"
                 " VALUES(?1, ?2, ?3, ?4)");
    sg_stmt_bind_text(&st, chunk->upload_id);
    sg_stmt_bind_u64(&st, chunk->number);
    sg_stmt_bind_u64(&st, chunk->len);
    sg_stmt_bind_blob(&st, chunk->sha256, sizeof(chunk->sha256));
    return sg_stmt_run(&st);
}

enum sg_error sg_upload_chunk_put(struct sg_db_conn *c, const struct sg_upload_chunk *chunk)
{
    struct standing upload;
    struct stored_chunk stored;
    enum sg_error err = look(c, chunk->upload_id, &upload);
    if (err)
        return err;
    if (upload.state != SG_UPLOAD_ACTIVE || upload.kind != SG_UPLOAD_CHUNKED)
        return SG_ERR_CONFLICT;
    err = read_chunk(c, chunk->upload_id, chunk->number, &stored);
    if (err)
        return err;
    if (stored.found)
        return stored.len == chunk->len &&
                       memcmp(stored.sha256, chunk->sha256, sizeof(stored.sha256)) == 0
                   ? SG_ERR_EXISTS
                   : SG_ERR_CONFLICT;
    err = add_chunk(c, chunk);
    if (err)
        return err;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE uploads SET offset_bytes = offset_bytes + ?1, updated_ms = ?2,"
                 " expires_ms = ?3 WHERE id = ?4");
    sg_stmt_bind_u64(&st, chunk->len);
    sg_stmt_bind_u64(&st, chunk->now_ms);
    sg_stmt_bind_u64(&st, chunk->expires_ms);
    sg_stmt_bind_text(&st, chunk->upload_id);
    return sg_stmt_run_changing(&st);
}
