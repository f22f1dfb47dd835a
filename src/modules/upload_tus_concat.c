/* Upload-Concat: final. The parts are copied, within the kernel, to the file of the new upload and
 * stay untouched until its asset is there: whatever goes wrong on the way costs no acknowledged
 * byte. The new upload's row comes only when its file is whole and durable. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/log.h"

#include "upload_tus.h"

struct part {
    char id[SG_ULID_SIZE];
    uint64_t size_bytes;
    struct upload_claim *claim; /* so that its bytes go into one whole only, and count once */
};

struct joining {
    struct part *parts; /* arena */
    size_t n, most;     /* those read so far; room */
    uint64_t size_bytes;
    bool gone; /* a part is not there (any more) */
};

static size_t count_urls(const char *urls)
{
    size_t n = 0;
    for (const char *p = urls; *p != '\0'; n++) {
        p += strcspn(p, " \t");
        p += strspn(p, " \t");
    }
    return n;
}

static enum sg_error refuse(struct sg_request *req, enum sg_error err, const char *id,
                            const char *why)
{
    return sg_request_fail(req, err, "Upload-Concat", "%s: %s", id, why);
}

/* The row is the requester's; it is read again, as it may have gone into a whole meanwhile. */
static enum sg_error claim_part(struct sg_request *req, struct part *part, struct sg_upload **row)
{
    struct sg_upload *again = NULL;
    enum sg_error err =
        upload_claim_try(req->svc->uploads->claims, (*row)->f.id, UPLOAD_SLOT_ALL, &part->claim);
    if (err == SG_OK)
        err = upload_get(req->svc, (*row)->f.id, &again);
    sg_upload_free(row);
    *row = again;
    return err == SG_ERR_NOT_FOUND ? SG_ERR_CONFLICT : err;
}

static void release_parts(struct joining *j)
{
    for (size_t i = 0; j->parts != NULL && i < j->most; i++)
        upload_claim_release(&j->parts[i].claim);
}

/* One part: the requester's, whole, and not named before (its bytes would count twice). */
static enum sg_error read_part(struct sg_request *req, struct joining *j, const char *id)
{
    uint64_t max = sg_config_uint(sg_services_config(req->svc), SG_SET_upload_max_size);
    struct sg_upload *row = NULL;
    for (size_t i = 0; i < j->n; i++) {
        if (strcmp(j->parts[i].id, id) == 0)
            return refuse(req, SG_ERR_INVALID, id, "is named twice");
    }
    enum sg_error err = upload_load(req, id, UPLOAD_KIND_BIT(SG_UPLOAD_TUS_PARTIAL), &row);
    if (err == SG_ERR_NOT_FOUND) {
        j->gone = true;
        return refuse(req, SG_ERR_INVALID, id, "is no partial upload");
    }
    if (err == SG_OK)
        err = claim_part(req, &j->parts[j->n], &row);
    if (err == SG_ERR_CONFLICT)
        return refuse(req, err, id, "is in use by another request");
    if (err != SG_OK)
        return err;
    const struct sg_upload_fields *f = &row->f;
    if (f->state != SG_UPLOAD_ACTIVE || !f->has_size || f->offset_bytes != f->size_bytes)
        err = refuse(req, SG_ERR_CONFLICT, id, "is not complete");
    else if (f->size_bytes > max - j->size_bytes)
        err = sg_request_fail(req, SG_ERR_TOO_LARGE, "Upload-Concat",
                              "the parts must not be longer than %llu bytes together",
                              (unsigned long long)max);
    if (err == SG_OK) {
        struct part *part = &j->parts[j->n++];
        memcpy(part->id, id, sizeof part->id);
        part->size_bytes = f->size_bytes;
        j->size_bytes += f->size_bytes;
    }
    sg_upload_free(&row);
    return err;
}

static enum sg_error read_parts(struct sg_request *req, const struct tus_state *t,
                                struct joining *j)
{
    uint64_t most = sg_config_uint(sg_services_config(req->svc), SG_SET_upload_max_tus_parts);
    size_t n = count_urls(t->urls);
    *j = (struct joining){0};
    if (n > most)
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Concat", "must name at most %llu parts",
                               (unsigned long long)most);
    *j = (struct joining){.parts = sg_arena_zalloc(req->arena, n * sizeof *j->parts), .most = n};
    if (j->parts == NULL)
        return SG_ERR_NO_MEMORY;
    const char *urls = t->urls;
    char id[SG_ULID_SIZE];
    enum sg_error err;
    while ((err = sg_tus_concat_next(&urls, TUS_PATH "/", id)) == SG_OK) {
        err = read_part(req, j, id);
        if (err != SG_OK)
            return err;
    }
    if (err != SG_ERR_NOT_FOUND)
        return sg_request_fail(req, err, "Upload-Concat",
                               "must name the parts by their URLs, separated by spaces");
    if (j->size_bytes == 0)
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Concat", "the parts are empty");
    return SG_OK;
}

static enum sg_error copy_part(struct sg_request *req, const struct part *part,
                               struct sg_fs_range to)
{
    int fd = -1;
    if (part->size_bytes == 0)
        return SG_OK;
    enum sg_error err = sg_blob_open_staged(req->svc->blobs, part->id, &fd);
    if (err == SG_ERR_NOT_FOUND) /* removed since it was looked at */
        return refuse(req, SG_ERR_CONFLICT, part->id, "is not there any more");
    if (err != SG_OK)
        return err;
    err = sg_fs_copy_range((struct sg_fs_range){.fd = fd}, to, part->size_bytes);
    close(fd);
    return err;
}

/* The whole file, durable; its descriptor goes with it, as completion opens it again. */
static enum sg_error join(struct sg_request *req, const struct joining *j, const char *id)
{
    int fd = -1;
    enum sg_error err = upload_space(req->svc, j->size_bytes);
    if (err == SG_OK)
        err = sg_blob_stage(req->svc->blobs, id, &fd);
    if (err != SG_OK)
        return err;
    uint64_t at = 0;
    for (size_t i = 0; i < j->n && err == SG_OK; i++) {
        err = copy_part(req, &j->parts[i], (struct sg_fs_range){.fd = fd, .offset = at});
        at += j->parts[i].size_bytes;
        upload_start_writeback(req->svc, fd, at - j->parts[i].size_bytes, at);
    }
    if (err == SG_OK)
        err = upload_sync_staged(req->svc, fd, true);
    close(fd);
    return err;
}

/* Gone with the asset, which has their bytes now. */
static void remove_parts(struct sg_request *req, const struct joining *j)
{
    for (size_t i = 0; i < j->n; i++) {
        enum sg_error err = upload_remove(req->svc, j->parts[i].id, req->identity.user_id,
                                          "upload.concatenate", req->id);
        if (err != SG_OK && err != SG_ERR_NOT_FOUND)
            sg_warn_log("upload", "part %s stays until it expires: %s", j->parts[i].id,
                        sg_error_title(err));
    }
}

/* Under the claim, so that nobody else completes it. */
static enum sg_error make(struct sg_request *req, struct sg_response *res, struct tus_state *t,
                          struct sg_upload_fields *f, struct upload_claim *claim)
{
    struct upload_completion c = {
        .svc = req->svc, .id = f->id, .request_id = req->id, .claim = claim};
    enum sg_error err = upload_insert(req, f);
    if (err != SG_OK) {
        if (sg_blob_discard(req->svc->blobs, f->id) != SG_OK)
            sg_warn_log("upload", "staged file %s stays until the next start", f->id);
        return err;
    }
    t->created = true;
    upload_count_begun(INGEST_TUS);
    err = upload_complete(&c);
    if (err != SG_OK) {
        t->refused = sg_error_status(err) >= 500; /* the parts are there: it can be tried again */
        return tus_fail_completion(req, err, &c);
    }
    t->settled = true;
    return upload_add_timing(req, res, &c.t);
}

/* The parts are read and claimed. */
static enum sg_error join_and_make(struct sg_request *req, struct sg_response *res,
                                   struct tus_state *t, const struct joining *j)
{
    struct sg_upload_fields f;
    struct upload_claim *claim = NULL;
    upload_fill(req, &t->edit, &f);
    f.kind = SG_UPLOAD_TUS_FINAL;
    f.filename = t->filename;
    f.metadata = t->metadata;
    f.parts = t->urls;
    f.has_size = true;
    f.size_bytes = f.offset_bytes = j->size_bytes;
    memcpy(t->id, f.id, sizeof t->id);
    t->kind = f.kind;
    enum sg_error err = join(req, j, f.id);
    if (err != SG_OK && sg_blob_discard(req->svc->blobs, f.id) != SG_OK)
        sg_warn_log("upload", "staged file %s stays until the next start", f.id);
    if (err == SG_ERR_NO_SPACE)
        return sg_request_fail(req, err, NULL, "the storage is full");
    if (err == SG_OK)
        err = upload_claim_take(req->svc->uploads->claims, f.id, UPLOAD_SLOT_ALL, &claim);
    if (err != SG_OK)
        return err;
    err = make(req, res, t, &f, claim);
    upload_claim_release(&claim);
    return err;
}

struct finding {
    const char *owner, *parts;
    char *id;
};

static enum sg_error read_made(struct sg_db_conn *c, void *arg)
{
    const struct finding *f = arg;
    return sg_upload_find_final(c, f->owner, f->parts, f->id);
}

/* The parts went with the asset, whose answer may have been lost: asking again gets it again. */
static bool made_before(struct sg_request *req, struct tus_state *t)
{
    struct finding f = {.owner = req->identity.user_id, .parts = t->urls, .id = t->id};
    t->settled = sg_db_read(req->svc->db, read_made, &f) == SG_OK;
    return t->settled;
}

enum sg_error tus_concatenate(struct sg_request *req, struct sg_response *res, struct tus_state *t)
{
    struct joining j = {0};
    enum sg_error err = read_parts(req, t, &j);
    if (err == SG_ERR_INVALID && j.gone && made_before(req, t)) {
        release_parts(&j);
        return tus_add_asset(req, res, t->id);
    }
    if (err == SG_OK)
        err = join_and_make(req, res, t, &j);
    if (err == SG_OK) {
        remove_parts(req, &j);
        err = tus_add_asset(req, res, t->id);
    }
    release_parts(&j);
    return err;
}
