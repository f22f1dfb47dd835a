/* What job_store.c, job_query.c and schedule_store.c share: how rows are read. */
#ifndef STREAMGATE_STORE_JOB_ROWS_H
#define STREAMGATE_STORE_JOB_ROWS_H

#include "streamgate/store/job_store.h"

#include "db_conn.h"

/* In the order sg_job_from_row reads them. */
#define SG_JOB_COLUMNS                                                                             \
    "id, owner, asset_id, schedule_id, type, payload, priority, state, run_at_ms, attempts, "      \
    "max_attempts, crashes, cancel, lease_ms, lease, depends_on, progress, result, error_slug, "   \
    "error_detail, created_ms, updated_ms, started_ms, finished_ms"

/* The current row as a new job. An error is kept in st too. */
enum sg_error sg_job_from_row(struct sg_stmt *st, struct sg_job **out) SG_NODISCARD;
/* Text into an array of size bytes; longer text is an I/O error: no such row is written here. */
void sg_job_copy_text(struct sg_stmt *st, int col, char *out, size_t size);
/* Copies n texts of a row behind a struct of head bytes, in one allocation; each *at[i] points to
 * its copy, at[i] being offsets of const char * members. NULL: no memory (kept in st). */
struct sg_job_text {
    int col;
    size_t member;
};
void *sg_job_alloc_row(struct sg_stmt *st, size_t head, const struct sg_job_text *texts, size_t n);

#endif
