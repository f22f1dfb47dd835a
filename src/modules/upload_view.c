/* Uploads as the API shows them. */
#include <string.h>

#include "streamgate/base/str.h"

#include "upload_chunked.h"

#define PROBLEM_PREFIX "urn:streamgate:problem:"

uint64_t upload_chunk_count(const struct sg_upload_fields *f)
{
    if (f->kind != SG_UPLOAD_CHUNKED || f->size_bytes == 0 || f->chunk_bytes == 0)
        return 0;
    return (f->size_bytes - 1) / f->chunk_bytes + 1;
}

/* ---- what is missing ---- */

struct missing {
    const char *id;
    json_t *list;
    uint64_t next; /* the first chunk not looked at yet */
    bool truncated;
};

/* [first, end) is missing. */
static enum sg_error add_missing(struct missing *m, uint64_t first, uint64_t end)
{
    if (first >= end)
        return SG_OK;
    if (json_array_size(m->list) == UPLOAD_MISSING_MAX) {
        m->truncated = true;
        return SG_ERR_TOO_LARGE; /* ends the walk */
    }
    json_t *run =
        json_pack("{s:I, s:I}", "first", (json_int_t)first, "last", (json_int_t)(end - 1));
    return json_array_append_new(m->list, run) == 0 ? SG_OK : SG_ERR_NO_MEMORY;
}

static enum sg_error visit_run(void *arg, uint64_t first, uint64_t end)
{
    struct missing *m = arg;
    uint64_t from = m->next;
    m->next = end;
    return add_missing(m, from, first);
}

static enum sg_error read_runs(struct sg_db_conn *c, void *arg)
{
    struct missing *m = arg;
    return sg_upload_chunk_runs(c, m->id, visit_run, m);
}

enum sg_error upload_missing(struct sg_services *svc, const struct sg_upload_fields *f,
                             json_t **out, bool *truncated)
{
    struct missing m = {.id = f->id, .list = json_array()};
    if (m.list == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = SG_OK;
    /* Only an ACTIVE one lacks chunks, and one without bytes lacks all: neither needs the rows. */
    if (f->state == SG_UPLOAD_ACTIVE && f->offset_bytes < f->size_bytes) {
        if (f->offset_bytes > 0)
            err = sg_db_read(svc->db, read_runs, &m);
        if (err == SG_OK)
            err = add_missing(&m, m.next, upload_chunk_count(f));
    }
    if (err != SG_OK && !m.truncated) {
        json_decref(m.list);
        return err;
    }
    *out = m.list;
    *truncated = m.truncated;
    return SG_OK;
}

/* ---- JSON ---- */

static json_t *time_json(uint64_t ms)
{
    char text[SG_TIME_SIZE];
    sg_time_rfc3339(ms, text);
    return json_string(text);
}

static json_t *sha256_json(const struct sg_upload_fields *f)
{
    if (!f->has_sha256)
        return json_null();
    char hex[2 * SG_SHA256_LEN + 1];
    sg_hex_encode(f->sha256, SG_SHA256_LEN, hex);
    return json_string(hex);
}

static json_t *error_json(const struct sg_upload_fields *f)
{
    if (f->state != SG_UPLOAD_FAILED)
        return json_null();
    json_t *o = json_object();
    int bad = json_object_set_new(o, "type", json_sprintf(PROBLEM_PREFIX "%s", f->error_slug));
    bad |= json_object_set_new(
        o, "detail", f->error_detail[0] != '\0' ? json_string(f->error_detail) : json_null());
    if (bad == 0)
        return o;
    json_decref(o);
    return NULL;
}

/* Partial uploads become part of another one's asset, never one of their own. */
static int set_asset(json_t *o, const struct sg_upload_fields *f)
{
    bool has = f->kind != SG_UPLOAD_TUS_PARTIAL &&
               (f->state == SG_UPLOAD_PROCESSING || f->state == SG_UPLOAD_DONE);
    int bad = json_object_set_new(o, "asset_id", has ? json_string(f->id) : json_null());
    bad |= json_object_set_new(o, "asset",
                               has ? json_sprintf("/api/v1/assets/%s", f->id) : json_null());
    return bad;
}

static int set_chunks(struct sg_request *req, json_t *o, const struct sg_upload_fields *f)
{
    json_t *missing = NULL;
    bool truncated = false;
    if (upload_missing(req->svc, f, &missing, &truncated) != SG_OK)
        return -1;
    int bad = json_object_set_new(o, "chunk_size", json_integer((json_int_t)f->chunk_bytes));
    bad |= json_object_set_new(o, "chunks", json_integer((json_int_t)upload_chunk_count(f)));
    bad |= json_object_set_new(o, "missing", missing);
    if (truncated)
        bad |= json_object_set_new(o, "missing_truncated", json_true());
    return bad;
}

static json_t *progress_json(const struct sg_upload_fields *f)
{
    if (f->state == SG_UPLOAD_DONE)
        return json_real(1);
    if (!f->has_size || f->size_bytes == 0)
        return json_null();
    return json_real((double)f->offset_bytes / (double)f->size_bytes);
}

/* What only some kinds have. */
static int set_kind_fields(struct sg_request *req, json_t *o, const struct sg_upload_fields *f)
{
    if (f->kind == SG_UPLOAD_CHUNKED)
        return set_chunks(req, o, f);
    int bad = json_object_set_new(o, "offset", json_integer((json_int_t)f->offset_bytes));
    if (f->kind == SG_UPLOAD_IMPORT) {
        bad |= json_object_set_new(o, "url", json_string(f->url));
        bad |= json_object_set_new(o, "progress", progress_json(f));
    }
    return bad;
}

json_t *upload_json(struct sg_request *req, const struct sg_upload *u)
{
    const struct sg_upload_fields *f = &u->f;
    json_t *o = json_object();
    if (o == NULL)
        return NULL;
    int bad = json_object_set_new(o, "id", json_string(f->id));
    bad |= json_object_set_new(o, "kind", json_string(sg_upload_kind_name(f->kind)));
    bad |= json_object_set_new(o, "status", json_string(sg_upload_state_name(f->state)));
    bad |= json_object_set_new(o, "filename", json_string(f->filename));
    bad |= json_object_set_new(o, "size",
                               f->has_size ? json_integer((json_int_t)f->size_bytes) : json_null());
    bad |= json_object_set_new(o, "received_bytes", json_integer((json_int_t)f->offset_bytes));
    bad |= json_object_set_new(o, "owner", json_string(f->owner));
    bad |= json_object_set_new(o, "created_at", time_json(f->created_ms));
    bad |= json_object_set_new(o, "updated_at", time_json(f->updated_ms));
    bad |= json_object_set_new(o, "expires_at", time_json(f->expires_ms));
    bad |= set_kind_fields(req, o, f);
    bad |= json_object_set_new(o, "sha256", sha256_json(f));
    bad |= set_asset(o, f);
    bad |= json_object_set_new(o, "error", error_json(f));
    if (bad == 0)
        return o;
    json_decref(o);
    return NULL;
}
