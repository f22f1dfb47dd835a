/* tus 1.0.0 (https://tus.io/protocols/resumable-upload), shared by upload_tus*.c. */
#ifndef UPLOAD_TUS_H
#define UPLOAD_TUS_H

#include "streamgate/http/tus_fields.h"

#include "upload_append.h"

#define TUS_PATH "/api/v1/tus"

/* What a POST or PATCH keeps while its body comes; in the request's arena. */
struct tus_state {
    char id[SG_ULID_SIZE]; /* of the upload; "" before a POST made it */
    enum sg_upload_kind kind;
    bool has_size;
    uint64_t size_bytes, begun_at; /* begun_at: offset of the body's first byte */
    bool has_length;               /* Upload-Length was given */
    uint64_t length;
    bool has_checksum;
    struct sg_tus_checksum checksum;
    struct sg_digest *digest; /* over the body, when has_checksum */
    struct upload_append *append;
    bool receiving;            /* counted as a body in flight */
    bool created, refused;     /* a POST: its row is there; its body was refused on the way */
    bool settled;              /* complete, and the asset is there */
    struct sg_asset_edit edit; /* a POST: what Upload-Metadata says */
    const char *filename, *metadata;
    bool concatenates;
    enum sg_tus_concat concat;
    const char *urls; /* of the parts */
};

/* upload_tus_fields.c: what a request's headers say. Each refusal has its reason set. */

/* The version; PRECONDITION_FAILED with what is spoken here. First of all. */
enum sg_error tus_check_version(struct sg_request *req) SG_NODISCARD;
/* A field that may be given once; *out NULL when absent. */
enum sg_error tus_field(struct sg_request *req, const char *name, const char **out) SG_NODISCARD;
enum sg_error tus_number(struct sg_request *req, const char *name, bool *has,
                         uint64_t *out) SG_NODISCARD;
/* The Content-Type of a body of bytes. UNSUPPORTED_MEDIA. */
enum sg_error tus_check_type(struct sg_request *req) SG_NODISCARD;
enum sg_error tus_read_checksum(struct sg_request *req, struct tus_state *t) SG_NODISCARD;
/* Upload-Metadata into edit, filename and metadata. */
enum sg_error tus_read_metadata(struct sg_request *req, struct tus_state *t) SG_NODISCARD;
bool tus_has_body(const struct sg_request *req);
enum sg_error tus_state_create(struct sg_request *req, struct tus_state **out) SG_NODISCARD;

/* upload_tus_body.c: bytes, from POST or PATCH. */

/* Another offset than the row's: CONFLICT, and the answer tells the true one. */
enum sg_error tus_offset_conflict(struct sg_request *req, uint64_t offset) SG_NODISCARD;
/* Whether the announced body fits, then takes the upload over. t's id, kind and sizes are set.
 * Blocks. */
enum sg_error tus_body_open(struct sg_request *req, struct tus_state *t,
                            uint64_t offset) SG_NODISCARD;
enum sg_error tus_body_data(struct sg_request *req, const uint8_t *data, size_t len) SG_NODISCARD;
/* The body is whole: verifies, makes durable, and makes the asset when it was the last. Fills in
 * headers. Ends the append, whatever comes out. Blocks. */
enum sg_error tus_body_finish(struct sg_request *req, struct sg_response *res,
                              struct tus_state *t) SG_NODISCARD;
/* Upload-Expires, of an upload that is not complete. */
enum sg_error tus_add_expires(struct sg_request *req, struct sg_response *res,
                              uint64_t expires_ms) SG_NODISCARD;
enum sg_error tus_add_asset(struct sg_request *req, struct sg_response *res,
                            const char *id) SG_NODISCARD;
/* Of a failed upload_complete. */
enum sg_error tus_fail_completion(struct sg_request *req, enum sg_error err,
                                  const struct upload_completion *c);
/* OVER_QUOTA, of a whole upload. As 4xx: clients try again after a 507, and take an offset that
 * equals the length for success. */
enum sg_error tus_fail_owed(struct sg_request *req) SG_NODISCARD;

/* upload_tus_create.c: POST. */
enum sg_error tus_post_begin(struct sg_request *req) SG_NODISCARD;
enum sg_error tus_post(struct sg_request *req, struct sg_response *res) SG_NODISCARD;

/* upload_tus_concat.c: joins complete partial uploads into one and makes the asset. *t has metadata
 * and urls; gets the id. Blocks. */
enum sg_error tus_concatenate(struct sg_request *req, struct sg_response *res,
                              struct tus_state *t) SG_NODISCARD;

#endif
