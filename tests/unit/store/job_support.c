#include "job_support.h"

#include <string.h>

struct call {
    struct sg_job_fields f;
    struct sg_job_needs needs;
    struct sg_job_claim claim;
    struct sg_job_end end;
    struct sg_job_expiry expiry;
    struct sg_job *job;
    const char *id;
    uint64_t n;
    enum sg_job_state state;
};

static enum sg_error insert_closure(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_job_insert(c, &k->f, k->needs.n > 0 ? &k->needs : NULL);
}

enum sg_error put_job(struct sg_db *db, struct job_wish w, char id[SG_ULID_SIZE])
{
    struct call k = {.f = {.payload = "{}",
                           .priority = w.priority ? w.priority : SG_JOB_PRIORITY_DEFAULT,
                           .run_at_ms = w.run_at_ms,
                           .max_attempts = w.max_attempts ? w.max_attempts : 3,
                           .created_ms = 1},
                     .needs = {w.needs, w.n_needs}};
    const char *owner = w.owner ? w.owner : JOB_OWNER_A, *type = w.type ? w.type : "gc";
    sg_ulid_make(k.f.id);
    memcpy(k.f.owner, owner, strlen(owner) + 1);
    memcpy(k.f.type, type, strlen(type) + 1);
    enum sg_error err = sg_db_write(db, insert_closure, &k);
    if (!err && id)
        memcpy(id, k.f.id, SG_ULID_SIZE);
    return err;
}

static enum sg_error get_closure(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_job_get(c, k->id, &k->job);
}

struct sg_job *fetch_job(struct sg_db *db, const char *id)
{
    struct call k = {.id = id};
    enum sg_error err = sg_db_read(db, get_closure, &k);
    assert_true(err == SG_OK || err == SG_ERR_NOT_FOUND);
    return k.job;
}

enum sg_job_state state_of(struct sg_db *db, const char *id)
{
    struct sg_job *job = fetch_job(db, id);
    assert_non_null(job);
    enum sg_job_state state = job->f.state;
    sg_job_free(&job);
    return state;
}

static enum sg_error claim_closure(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_job_claim(c, &k->claim, &k->job);
}

struct sg_job *claim_job(struct sg_db *db, const char *caps, uint64_t now_ms)
{
    char lease[SG_ULID_SIZE];
    sg_ulid_make(lease);
    struct call k = {.claim = {caps, lease, now_ms, now_ms + 1000}};
    enum sg_error err = sg_db_write(db, claim_closure, &k);
    assert_true(err == SG_OK || err == SG_ERR_NOT_FOUND);
    assert_true((err == SG_OK) == (k.job != NULL));
    return k.job;
}

static enum sg_error end_closure(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_job_finish(c, &k->end, NULL, &k->state);
}

enum sg_error end_job(struct sg_db *db, const struct sg_job *job, enum sg_job_ending ending,
                      uint64_t now_ms)
{
    struct call k = {.end = {.id = job->f.id,
                             .lease = job->f.lease,
                             .ending = ending,
                             .now_ms = now_ms,
                             .run_at_ms = now_ms}};
    return sg_db_write(db, end_closure, &k);
}

static enum sg_error cancel_closure(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_job_cancel(c, k->id, 77, NULL, &k->state);
}

enum sg_error cancel_job(struct sg_db *db, const char *id, enum sg_job_state *out)
{
    struct call k = {.id = id};
    enum sg_error err = sg_db_write(db, cancel_closure, &k);
    if (!err)
        *out = k.state;
    return err;
}

static enum sg_error retry_closure(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_job_retry(c, k->id, 88, NULL);
}

enum sg_error retry_job(struct sg_db *db, const char *id)
{
    struct call k = {.id = id};
    return sg_db_write(db, retry_closure, &k);
}

static uint64_t no_delay(void *arg, unsigned crashes)
{
    (void)arg;
    return crashes * 10;
}

static enum sg_error expire_closure(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    return sg_job_expire(c, &k->expiry, NULL, &k->n);
}

uint64_t expire_jobs(struct sg_db *db, uint64_t now_ms, bool all)
{
    struct call k = {.expiry = {now_ms, all, no_delay, NULL}};
    assert_int_equal(sg_db_write(db, expire_closure, &k), SG_OK);
    return k.n;
}
