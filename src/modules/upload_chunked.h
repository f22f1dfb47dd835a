/* Chunked uploads: what their files share. Private to the upload module. */
#ifndef UPLOAD_CHUNKED_H
#define UPLOAD_CHUNKED_H

#include <jansson.h>

#include "upload_session.h"

/* ---- upload_view.c ---- */

#define UPLOAD_MISSING_MAX 1000u

/* Chunks of the whole; 0 for an upload that is not chunked. */
uint64_t upload_chunk_count(const struct sg_upload_fields *f);
/* The chunks that are still to come as [{"first", "last"}...], ascending, inclusive, at most
 * UPLOAD_MISSING_MAX runs; *truncated: there are more. Empty once the upload is not ACTIVE. The
 * caller owns *out. Blocks (database). */
enum sg_error upload_missing(struct sg_services *svc, const struct sg_upload_fields *f,
                             json_t **out, bool *truncated) SG_NODISCARD;

/* ---- upload_chunked_put.c: one chunk as a request's body ---- */

enum sg_error chunk_begin(struct sg_request *req) SG_NODISCARD;
enum sg_error chunk_data(struct sg_request *req, const uint8_t *data, size_t len) SG_NODISCARD;
enum sg_error chunk_put(struct sg_request *req, struct sg_response *res) SG_NODISCARD;

/* ---- upload_chunked.c, upload_chunked_complete.c ---- */

enum sg_error chunked_complete(struct sg_request *req, struct sg_response *res) SG_NODISCARD;

#endif
