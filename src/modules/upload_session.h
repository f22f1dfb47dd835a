/* Uploads that outlive a request (store/upload_store.h): what chunked, tus and import share. All of
 * it blocks. */
#ifndef UPLOAD_SESSION_H
#define UPLOAD_SESSION_H

#include "streamgate/http/asset_view.h"
#include "streamgate/http/request.h"
#include "streamgate/http/response.h"
#include "streamgate/store/upload_store.h"

#include "upload_claims.h"
#include "upload_counts.h"
#include "upload_file.h"
#include "upload_state.h"

#define UPLOAD_KIND_BIT(kind) (1u << (kind))
#define UPLOAD_KINDS_TUS                                                                           \
    (UPLOAD_KIND_BIT(SG_UPLOAD_TUS) | UPLOAD_KIND_BIT(SG_UPLOAD_TUS_PARTIAL) |                     \
     UPLOAD_KIND_BIT(SG_UPLOAD_TUS_FINAL))
#define UPLOAD_KINDS_ALL ((1u << SG_UPLOAD_KIND_COUNT) - 1)

/* ---- rows ---- */

/* A fresh row for this request's user: id, owner, state ACTIVE, times, metadata from edit; the
 * caller adds kind, filename, sizes... Its strings are the arena's or static. */
void upload_fill(struct sg_request *req, const struct sg_asset_edit *edit,
                 struct sg_upload_fields *out);
/* Checks upload.max_size, quotas and space for the announced size (all with fail set: TOO_LARGE,
 * QUOTA, NO_SPACE) and inserts the row with its audit event. */
enum sg_error upload_insert(struct sg_request *req, const struct sg_upload_fields *f) SG_NODISCARD;
/* The same with something more in the transaction. */
enum sg_error upload_insert_with(struct sg_request *req, const struct sg_upload_fields *f,
                                 enum sg_error (*also)(struct sg_db_conn *c, void *arg),
                                 void *arg) SG_NODISCARD;
/* The row by id, of one of the kinds (bit mask), for its owner or an admin. NOT_FOUND, FORBIDDEN,
 * INVALID with fail set. Free with sg_upload_free. */
enum sg_error upload_load(struct sg_request *req, const char *id, unsigned kinds,
                          struct sg_upload **out) SG_NODISCARD;
/* For work without a request: no check of who asks. */
enum sg_error upload_get(struct sg_services *svc, const char *id,
                         struct sg_upload **out) SG_NODISCARD;
/* Ends an unfinished upload: breaks off whoever writes, removes row, chunks and staged file. A DONE
 * or FAILED one only loses its row; the asset stays. Audited as `action` ("upload.abort"). */
enum sg_error upload_remove(struct sg_services *svc, const char *id, const char *actor,
                            const char *action, const char *request_id) SG_NODISCARD;
/* QUOTA: every byte is there, but the quota refuses the asset (a bound was lowered since it was
 * announced). It becomes one when there is room before it expires. Blocks. */
enum sg_error upload_check_owed(struct sg_services *svc,
                                const struct sg_upload_fields *f) SG_NODISCARD;
/* now + upload.expiry */
uint64_t upload_expiry_ms(struct sg_services *svc, uint64_t now_ms);

/* The upload as the API shows it (upload_view.c). A chunked one gets its missing chunks, read from
 * the database. NULL when memory is short or the read failed. */
json_t *upload_json(struct sg_request *req, const struct sg_upload *u);

/* Members of a JSON body (upload_members.c); strings are the arena's. INVALID with fail set. */
enum sg_error upload_take_text(struct sg_request *req, const char *name, const json_t *value,
                               const char **out) SG_NODISCARD;
enum sg_error upload_take_filename(struct sg_request *req, const json_t *value,
                                   const char **out) SG_NODISCARD;
enum sg_error upload_take_sha256(struct sg_request *req, const json_t *value,
                                 uint8_t out[SG_SHA256_LEN]) SG_NODISCARD;

/* ---- the staged file ---- */

/* Opens incoming/<id> read-write, making it when the row says that nothing is durable yet.
 * NOT_FOUND otherwise. */
enum sg_error upload_open_staged(struct sg_services *svc, const struct sg_upload_fields *f,
                                 int *out_fd) SG_NODISCARD;
/* Makes what was written durable, the file's name included when `first`. IO, NO_SPACE: then nothing
 * of it may be acknowledged. */
enum sg_error upload_sync_staged(struct sg_services *svc, int fd, bool first) SG_NODISCARD;

/* Asks the kernel to begin writing [from, to) out, on a sync thread: so that the sync at the end is
 * short. A hint: left out when anything is short (upload_append.c). */
void upload_start_writeback(struct sg_services *svc, int fd, uint64_t from, uint64_t to);

/* ---- completion ---- */

struct upload_completion {
    struct sg_services *svc;
    const char *id, *request_id;
    struct upload_claim *claim; /* on UPLOAD_SLOT_ALL, taken, not entered; stays the caller's */
    struct sg_sha256 *sha;      /* over the whole, consumed; NULL: the file is read */
    const uint8_t *expected; /* SHA-256 the client gave now, or NULL; a wrong one fails this request
                              * only, while the row's fails the upload */
    struct upload_timing t;  /* out */
    char why[SG_MEDIA_MESSAGE_MAX]; /* out, on failure: fit for a problem detail; may be "" */
};

/* All bytes are durable: makes the asset, which has the upload's id. SG_OK again for an upload that
 * is DONE (idempotent); the same error again for one that FAILED. CONFLICT: bytes are missing.
 * DIGEST_MISMATCH and what the media is refused for leave the upload FAILED and its asset row
 * failed, without a file; other errors (IO, NO_SPACE, UNAVAILABLE...) leave it ACTIVE with every
 * byte there, to be tried again. SUPERSEDED when the claim was. */
enum sg_error upload_complete(struct upload_completion *c) SG_NODISCARD;

/* The parts of the time as Server-Timing (upload_ingest.c). */
enum sg_error upload_add_timing(struct sg_request *req, struct sg_response *res,
                                const struct upload_timing *t) SG_NODISCARD;

/* The module's second: expires, and completes tus uploads whose last byte was acknowledged before a
 * crash. */
void upload_sessions_tick(struct sg_services *svc);

#endif
