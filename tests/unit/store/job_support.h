/* Jobs for tests, and the store's functions each in a transaction of its own. */
#ifndef TESTS_UNIT_STORE_JOB_SUPPORT_H
#define TESTS_UNIT_STORE_JOB_SUPPORT_H

#include "streamgate/store/job_store.h"

#include "store_support.h"

#define JOB_OWNER_A "01AAAAAAAAAAAAAAAAAAAAAAAA"
#define JOB_OWNER_B "01BBBBBBBBBBBBBBBBBBBBBBBB"

struct job_wish {
    const char *owner, *type; /* NULL: JOB_OWNER_A, "gc" */
    unsigned priority;        /* 0: SG_JOB_PRIORITY_DEFAULT */
    uint64_t run_at_ms;
    const char *const *needs;
    size_t n_needs;
    unsigned max_attempts; /* 0: 3 */
};
enum sg_error put_job(struct sg_db *db, struct job_wish w, char id[SG_ULID_SIZE]) SG_NODISCARD;
struct sg_job *fetch_job(struct sg_db *db, const char *id); /* NULL: none */
enum sg_job_state state_of(struct sg_db *db, const char *id);
/* Claims at now; NULL: nothing to claim. The lease lasts 1000 ms. */
struct sg_job *claim_job(struct sg_db *db, const char *caps, uint64_t now_ms);
enum sg_error end_job(struct sg_db *db, const struct sg_job *job, enum sg_job_ending ending,
                      uint64_t now_ms) SG_NODISCARD;
enum sg_error cancel_job(struct sg_db *db, const char *id, enum sg_job_state *out) SG_NODISCARD;
enum sg_error retry_job(struct sg_db *db, const char *id) SG_NODISCARD;
uint64_t expire_jobs(struct sg_db *db, uint64_t now_ms, bool all);

#endif
