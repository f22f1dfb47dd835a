/* One chunk of a chunked upload, as a request's body.
 *
 * Invariants. A chunk that is recorded is never written again: a body for it is only hashed and
 * compared. Whoever writes a chunk holds the claim on its number, and found it unrecorded after
 * taking the claim. Every look at the row that leads to a write, every write and every commit lies
 * between upload_claim_enter and upload_claim_leave; so when a newer body of the same chunk, a
 * completion or an abort has taken over, nothing more is written through the descriptor held here.
 * A chunk is recorded after its bytes are durable, never before. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/hasher.h"
#include "streamgate/base/metrics.h"
#include "streamgate/base/str.h"

#include "upload_chunked.h"
#include "upload_counts.h"

#define WRITEBACK_BYTES (8u << 20)

struct chunk {
    char id[SG_ULID_SIZE];
    uint64_t number, offset, len; /* of the chunk within the file */
    uint64_t received;
    uint64_t written_back; /* bytes handed to early writeback */
    struct sg_hasher *hasher;
    bool has_digest;
    uint8_t digest[SG_SHA256_LEN]; /* Content-Digest */
    bool recorded;                 /* it is there already: compare only */
    uint8_t recorded_sha256[SG_SHA256_LEN];
    struct upload_claim *claim; /* while it is to be written */
    int fd;                     /* staged file */
    bool first;                 /* nothing of the upload is durable yet, nor is the file's name */
    bool superseded;
};

static void close_descriptor(void *arg)
{
    int *fd = arg;
    close(*fd);
    free(fd);
}

/* After an abort ours may be the last reference to a large file: its blocks are freed by the close.
 */
static void close_later(struct sg_request *req, int fd)
{
    int *kept = malloc(sizeof *kept);
    if (kept == NULL) {
        close(fd);
        return;
    }
    *kept = fd;
    if (sg_pool_submit(req->svc->blocking, close_descriptor, kept) != SG_OK)
        close_descriptor(kept);
}

static void chunk_free(struct sg_request *req, void *state)
{
    struct chunk *p = state;
    if (p->fd >= 0 && p->superseded)
        close_later(req, p->fd);
    else if (p->fd >= 0)
        close(p->fd);
    upload_claim_release(&p->claim);
    sg_hasher_destroy(&p->hasher);
    free(p);
    sg_metric_gauge_add(SG_METRIC_UPLOADS_IN_FLIGHT, 0, -1);
}

static enum sg_error superseded(struct sg_request *req, struct chunk *p)
{
    p->superseded = true;
    return sg_request_fail(req, SG_ERR_SUPERSEDED, NULL,
                           "a newer request has taken chunk %" PRIu64 " over, or ended the upload",
                           p->number);
}

static enum sg_error wrong_length(struct sg_request *req, const struct chunk *p)
{
    return sg_request_fail(req, SG_ERR_INVALID, "body",
                           "must be %" PRIu64 " bytes, the length of chunk %" PRIu64, p->len,
                           p->number);
}

/* ---- begin ---- */

struct chunk_read {
    const struct chunk *p;
    struct sg_upload *row; /* read too when with_row */
    bool with_row, recorded;
    uint8_t sha256[SG_SHA256_LEN];
};

static enum sg_error read_chunk(struct sg_db_conn *c, void *arg)
{
    struct chunk_read *r = arg;
    enum sg_error err = r->with_row ? sg_upload_get(c, r->p->id, &r->row) : SG_OK;
    if (err != SG_OK)
        return err;
    err = sg_upload_chunk_get(c, r->p->id, r->p->number, r->sha256);
    r->recorded = err == SG_OK;
    return err == SG_ERR_NOT_FOUND ? SG_OK : err;
}

static void note_recorded(struct chunk *p, const struct chunk_read *r)
{
    p->recorded = r->recorded;
    if (r->recorded)
        memcpy(p->recorded_sha256, r->sha256, sizeof p->recorded_sha256);
}

static enum sg_error check_active(struct sg_request *req, const struct sg_upload_fields *f)
{
    if (f->state == SG_UPLOAD_ACTIVE)
        return SG_OK;
    return sg_request_fail(req, SG_ERR_CONFLICT, NULL,
                           "the upload takes no chunks any more: it is %s",
                           sg_upload_state_name(f->state));
}

/* Under the claim: whoever held it before may just have recorded the chunk. */
static enum sg_error open_entered(struct sg_request *req, struct chunk *p)
{
    struct chunk_read r = {.p = p, .with_row = true};
    enum sg_error err = sg_db_read(req->svc->db, read_chunk, &r);
    if (err == SG_ERR_NOT_FOUND)
        err = sg_request_fail(req, err, NULL, "there is no such upload");
    if (err != SG_OK)
        goto out;
    note_recorded(p, &r);
    if (p->recorded)
        goto out;
    err = check_active(req, &r.row->f);
    if (err == SG_OK)
        err = upload_space(req->svc, p->len);
    if (err == SG_OK)
        err = upload_open_staged(req->svc, &r.row->f, &p->fd);
    if (err == SG_ERR_NOT_FOUND) /* the row promises a file */
        err = SG_ERR_IO;
    p->first = r.row->f.offset_bytes == 0;
out:
    sg_upload_free(&r.row);
    return err;
}

static enum sg_error claim_and_open(struct sg_request *req, struct chunk *p)
{
    enum sg_error err = upload_claim_take(req->svc->uploads->claims, p->id, p->number, &p->claim);
    if (err != SG_OK)
        return err;
    if (upload_claim_enter(p->claim) != SG_OK)
        return superseded(req, p);
    err = open_entered(req, p);
    upload_claim_leave(p->claim);
    if (p->recorded)
        upload_claim_release(&p->claim);
    return err;
}

/* Which bytes of the file the chunk is, by number. */
static enum sg_error place_chunk(struct sg_request *req, const struct sg_upload_fields *f,
                                 struct chunk *p)
{
    uint64_t count = upload_chunk_count(f);
    if (p->number >= count)
        return sg_request_fail(req, SG_ERR_NOT_FOUND, "n",
                               "the upload has the chunks 0 to %" PRIu64, count - 1);
    p->offset = p->number * f->chunk_bytes; /* below the size, so it cannot overflow */
    p->len =
        f->size_bytes - p->offset < f->chunk_bytes ? f->size_bytes - p->offset : f->chunk_bytes;
    if (req->has_content_length && req->content_length != p->len)
        return sg_request_fail(req, SG_ERR_INVALID, "Content-Length",
                               "must be %" PRIu64 ", the length of chunk %" PRIu64, p->len,
                               p->number);
    return SG_OK;
}

/* How the body will be taken: compared with what is there, or written. */
static enum sg_error prepare(struct sg_request *req, struct chunk *p)
{
    struct sg_upload *row = NULL;
    enum sg_error err =
        upload_load(req, sg_request_param(req, "id"), UPLOAD_KIND_BIT(SG_UPLOAD_CHUNKED), &row);
    if (err != SG_OK)
        return err;
    memcpy(p->id, row->f.id, SG_ULID_SIZE);
    err = place_chunk(req, &row->f, p);
    struct chunk_read r = {.p = p};
    if (err == SG_OK)
        err = sg_db_read(req->svc->db, read_chunk, &r);
    if (err == SG_OK) {
        note_recorded(p, &r);
        if (!p->recorded)
            err = check_active(req, &row->f);
    }
    sg_upload_free(&row);
    return err != SG_OK || p->recorded ? err : claim_and_open(req, p);
}

enum sg_error chunk_begin(struct sg_request *req)
{
    const char *text = sg_request_param(req, "n");
    uint64_t number;
    if (sg_str_to_u64(text, strlen(text), INT64_MAX, &number) != SG_OK)
        return sg_request_fail(req, SG_ERR_INVALID, "n", "must be the number of a chunk, from 0");
    bool has_digest;
    uint8_t digest[SG_SHA256_LEN];
    enum sg_error err = sg_request_content_digest(req, &has_digest, digest);
    if (err != SG_OK)
        return err;
    if (!req->may_block)
        return SG_ERR_WOULD_BLOCK;

    struct chunk *p = calloc(1, sizeof *p);
    if (p == NULL)
        return SG_ERR_NO_MEMORY;
    p->fd = -1;
    p->number = number;
    p->has_digest = has_digest;
    memcpy(p->digest, digest, has_digest ? sizeof digest : 0);
    sg_metric_gauge_add(SG_METRIC_UPLOADS_IN_FLIGHT, 0, 1);
    req->state = p;
    req->state_free = chunk_free;
    struct sg_sha256 *sha = NULL;
    err = sg_hasher_create(req->svc->hashing, &sha, &p->hasher);
    return err != SG_OK ? err : prepare(req, p);
}

/* ---- data ---- */

static enum sg_error write_data(struct sg_request *req, struct chunk *p, const uint8_t *data,
                                size_t len)
{
    if (upload_claim_enter(p->claim) != SG_OK)
        return superseded(req, p);
    enum sg_error err = sg_fs_pwrite_all(p->fd, data, len, p->offset + p->received);
    upload_claim_leave(p->claim);
    if (err != SG_OK || p->received + len - p->written_back < WRITEBACK_BYTES)
        return err;
    upload_start_writeback(req->svc, p->fd, p->offset + p->written_back,
                           p->offset + p->received + len);
    p->written_back = p->received + len;
    return upload_space(req->svc, 0); /* others upload too */
}

enum sg_error chunk_data(struct sg_request *req, const uint8_t *data, size_t len)
{
    struct chunk *p = req->state;
    enum sg_error err = SG_OK;
    if (len > p->len - p->received)
        return wrong_length(req, p);
    if (!p->recorded)
        err = write_data(req, p, data, len);
    if (err != SG_OK)
        return err;
    sg_hasher_update(p->hasher, req->body_buf, data, len);
    p->received += len;
    return SG_OK;
}

/* ---- end ---- */

struct chunk_write {
    const struct sg_upload_chunk *chunk;
    uint64_t received_bytes;
};

static enum sg_error write_row(struct sg_db_conn *c, void *arg)
{
    struct chunk_write *w = arg;
    enum sg_error err = sg_upload_chunk_put(c, w->chunk);
    if (err != SG_OK && err != SG_ERR_EXISTS)
        return err;
    struct sg_upload *row = NULL;
    err = sg_upload_get(c, w->chunk->upload_id, &row);
    if (err == SG_OK)
        w->received_bytes = row->f.offset_bytes;
    sg_upload_free(&row);
    return err;
}

/* Makes the chunk durable, then says so in its row. */
static enum sg_error record(struct sg_request *req, struct chunk *p,
                            const uint8_t sha256[SG_SHA256_LEN], uint64_t *received_bytes)
{
    if (upload_claim_enter(p->claim) != SG_OK)
        return superseded(req, p);
    enum sg_error err = upload_sync_staged(req->svc, p->fd, p->first);
    if (err == SG_OK) {
        uint64_t now = sg_clock_wall_ms();
        struct sg_upload_chunk chunk = {.upload_id = p->id,
                                        .number = p->number,
                                        .len = p->len,
                                        .now_ms = now,
                                        .expires_ms = upload_expiry_ms(req->svc, now)};
        memcpy(chunk.sha256, sha256, SG_SHA256_LEN);
        struct chunk_write w = {.chunk = &chunk};
        err = sg_db_write(req->svc->db, write_row, &w);
        if (err == SG_OK)
            *received_bytes = w.received_bytes;
    }
    upload_claim_leave(p->claim);
    upload_claim_release(&p->claim);
    if (err == SG_ERR_CONFLICT)
        return sg_request_fail(req, err, NULL, "the upload takes no chunks any more");
    if (err != SG_OK)
        return err;
    upload_count_chunk(INGEST_CHUNKED, p->len);
    return SG_OK;
}

/* The chunk was there before the body came. */
static enum sg_error compare(struct sg_request *req, const struct chunk *p,
                             const uint8_t sha256[SG_SHA256_LEN], uint64_t *received_bytes)
{
    if (!sg_equal_const_time(sha256, p->recorded_sha256, SG_SHA256_LEN))
        return sg_request_fail(req, SG_ERR_CONFLICT, "body",
                               "chunk %" PRIu64 " is there already, with another content",
                               p->number);
    struct sg_upload *row = NULL;
    enum sg_error err = upload_get(req->svc, p->id, &row);
    if (err == SG_ERR_NOT_FOUND)
        return sg_request_fail(req, err, NULL, "there is no such upload");
    if (err == SG_OK)
        *received_bytes = row->f.offset_bytes;
    sg_upload_free(&row);
    return err;
}

enum sg_error chunk_put(struct sg_request *req, struct sg_response *res)
{
    struct chunk *p = req->state;
    if (p->received != p->len)
        return wrong_length(req, p);
    uint8_t sha256[SG_SHA256_LEN];
    struct sg_sha256 *sha = sg_hasher_take(p->hasher);
    sg_sha256_final(sha, sha256);
    sg_sha256_destroy(&sha);
    if (p->has_digest && !sg_equal_const_time(sha256, p->digest, sizeof sha256))
        return sg_request_fail(req, SG_ERR_DIGEST_MISMATCH, "Content-Digest",
                               "is not the SHA-256 of the content received");
    uint64_t received_bytes = 0;
    enum sg_error err = p->recorded ? compare(req, p, sha256, &received_bytes)
                                    : record(req, p, sha256, &received_bytes);
    if (err != SG_OK)
        return err;
    char hex[2 * SG_SHA256_LEN + 1];
    sg_hex_encode(sha256, SG_SHA256_LEN, hex);
    json_t *body =
        json_pack("{s:I, s:I, s:s, s:I}", "chunk", (json_int_t)p->number, "size",
                  (json_int_t)p->len, "sha256", hex, "received_bytes", (json_int_t)received_bytes);
    return body != NULL ? sg_response_json(res, 200, body) : SG_ERR_NO_MEMORY;
}
