/* From a body to an asset: stage, hash, probe, publish, commit. Private to the upload module. One
 * request owns an ingest. */
#ifndef UPLOAD_INGEST_H
#define UPLOAD_INGEST_H

#include "streamgate/base/hasher.h"
#include "streamgate/http/asset_view.h"
#include "streamgate/http/request.h"
#include "streamgate/http/response.h"

#include "upload_counts.h"
#include "upload_file.h"

struct ingest {
    enum upload_count_kind kind;
    char id[SG_ULID_SIZE]; /* of the asset to be, and of the staged file */
    int fd;                /* staged file */
    bool published, done;
    uint64_t size_bytes, begun_ns;
    uint64_t hash_ns;      /* spent on the checksum so far */
    uint64_t held;         /* bytes counted as this user's in flight */
    uint64_t written_back; /* bytes handed to early writeback */
    struct sg_hasher *hasher;
    bool has_digest; /* Content-Digest of the request's content was given */
    uint8_t digest[SG_SHA256_LEN];
    struct sg_sha256 *body_sha; /* forms only: over the whole body, when has_digest */
    const char *filename;       /* arena */
    struct sg_asset_edit edit;
    struct sg_multipart *form; /* forms only */
    struct form_state *form_state;
};

/* Checks what the headers tell and opens the staged file; hangs the ingest on req->state. Blocks
 * (WOULD_BLOCK when it may not). */
enum sg_error ingest_begin(struct sg_request *req, enum upload_count_kind kind,
                           struct ingest **out) SG_NODISCARD;
/* Bytes of the file, in order. NO_SPACE, IO. The caller's route bounds the body by the limit that
 * held when it began. */
enum sg_error ingest_write(struct sg_request *req, struct ingest *in, const uint8_t *data,
                           size_t len) SG_NODISCARD;
/* Everything was received: makes the asset and answers 201, or fails and leaves nothing. Blocks. */
enum sg_error ingest_finish(struct sg_request *req, struct sg_response *res,
                            struct ingest *in) SG_NODISCARD;

#endif
