/* The upload metrics by kind. Thread-safe. */
#ifndef UPLOAD_COUNTS_H
#define UPLOAD_COUNTS_H

#include "streamgate/store/upload_store.h"

enum upload_count_kind {
    INGEST_RAW,
    INGEST_FORM,
    INGEST_CHUNKED,
    INGEST_TUS,
    INGEST_IMPORT,
    INGEST_KINDS
};

enum sg_error upload_counts_define(void) SG_NODISCARD;
void upload_count_begun(enum upload_count_kind kind);
void upload_count_success(enum upload_count_kind kind, uint64_t size_bytes);
void upload_count_failure(enum upload_count_kind kind);
/* One body of an upload of several requests was made durable. kind: chunked or tus. */
void upload_count_chunk(enum upload_count_kind kind, uint64_t size_bytes);
/* The same for an upload with a row, at its end: also counts the completion, and that one less is
 * open. */
enum upload_count_kind upload_count_kind_of(enum sg_upload_kind kind);
void upload_count_done(enum sg_upload_kind kind, uint64_t size_bytes);
void upload_count_failed(enum sg_upload_kind kind);

#endif
