/* What upload_store.c and upload_query.c share: how a row of uploads is read. */
#ifndef STREAMGATE_STORE_UPLOAD_ROWS_H
#define STREAMGATE_STORE_UPLOAD_ROWS_H

#include "streamgate/store/upload_store.h"

#include "db_conn.h"

/* In the order sg_upload_from_row reads them. */
#define SG_UPLOAD_COLUMNS                                                                          \
    "id, owner, kind, state, filename, title, description, tags, custom, policy, metadata, url, "  \
    "etag, size_bytes, offset_bytes, chunk_bytes, sha256, parts, error_slug, error_detail, "       \
    "created_ms, updated_ms, expires_ms"

/* The current row as a new upload. An error is kept in st too. */
enum sg_error sg_upload_from_row(struct sg_stmt *st, struct sg_upload **out) SG_NODISCARD;
/* A ULID into its array; longer text is an I/O error: the row is not one that was written here. */
void sg_upload_copy_id(struct sg_stmt *st, int col, char out[SG_ULID_SIZE]);

#endif
