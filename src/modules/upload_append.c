/* One body being appended. The thread that owns the request writes; commits on the way run on a
 * sync thread beside it, one at a time. Invariant: offsets are stored in rising order, each only
 * after the bytes below it were synced. */
#include "upload_append.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/hasher.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

#define WRITEBACK_BYTES (2u << 20)

struct upload_append {
    struct sg_services *svc;
    char id[SG_ULID_SIZE], owner[SG_ULID_SIZE];
    struct upload_claim *claim;
    int fd;
    bool all_or_nothing;
    bool meets_quota;
    /* enum sg_error: why a sync or commit failed; on this descriptor another would prove nothing */
    _Atomic int failed;
    bool has_size;
    uint64_t size_bytes;
    uint64_t received, written_back;
    struct sg_hasher *hasher; /* over [0, received), or NULL when it must be read again */

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t idle;
    bool committing; /* a commit on the way is running */
    uint64_t committing_to, committed;
};

/* ---- opening ---- */

/* Bytes of broken bodies lie behind the durable prefix. Those within the size will be written
 * again; those behind it would become part of the asset: an upload of deferred length may end
 * before them. While it lasts nobody newer begins, whose bytes there may count already. */
static enum sg_error cut_tail(struct upload_append *a)
{
    uint64_t size, end = a->has_size ? a->size_bytes : a->received;
    enum sg_error err = upload_claim_enter(a->claim);
    if (err != SG_OK)
        return err;
    err = sg_fs_size(a->fd, &size);
    if (err == SG_OK && size > end) {
        err = sg_fs_truncate(a->fd, end);
        if (err == SG_OK)
            err = sg_fs_fdatasync(a->fd);
    }
    upload_claim_leave(a->claim);
    return err;
}

static enum sg_error take_over(struct upload_append *a, const struct upload_append_params *p,
                               struct sg_upload **row)
{
    enum sg_error err =
        upload_claim_take(p->svc->uploads->claims, p->id, UPLOAD_SLOT_ALL, &a->claim);
    if (err == SG_OK)
        err = upload_get(p->svc, p->id, row); /* after the claim: nobody changes it any more */
    if (err != SG_OK)
        return err;
    const struct sg_upload_fields *f = &(*row)->f;
    if (f->state != SG_UPLOAD_ACTIVE || (p->has_offset && p->offset != f->offset_bytes))
        return SG_ERR_CONFLICT;
    memcpy(a->owner, f->owner, SG_ULID_SIZE);
    a->has_size = f->has_size;
    a->size_bytes = f->size_bytes;
    a->meets_quota = p->meets_quota && !f->has_size;
    a->received = a->committed = a->written_back = f->offset_bytes;
    err = upload_open_staged(p->svc, f, &a->fd);
    if (err == SG_OK)
        err = cut_tail(a);
    if (err != SG_OK)
        return err == SG_ERR_NOT_FOUND ? SG_ERR_IO : err;
    a->hasher = upload_hash_take(p->svc->uploads, a->id, a->received);
    if (a->hasher != NULL || a->received > 0)
        return SG_OK;
    struct sg_sha256 *sha = NULL;
    return sg_hasher_create(p->svc->hashing, &sha, &a->hasher);
}

enum sg_error upload_append_open(const struct upload_append_params *params, struct sg_upload **row,
                                 struct upload_append **out)
{
    struct upload_append *a = calloc(1, sizeof *a);
    *row = NULL;
    if (a == NULL)
        return SG_ERR_NO_MEMORY;
    a->svc = params->svc;
    a->fd = -1;
    a->all_or_nothing = params->all_or_nothing;
    memcpy(a->id, params->id, strnlen(params->id, SG_ULID_SIZE - 1));
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->idle, NULL);
    enum sg_error err = take_over(a, params, row);
    if (err != SG_OK)
        upload_append_close(&a);
    else
        *out = a;
    return err;
}

uint64_t upload_append_received(const struct upload_append *a)
{
    return a->received;
}

/* ---- commits ---- */

struct offset_write {
    const struct upload_append *a;
    uint64_t offset, more, now_ms, expires_ms;
};

static enum sg_error write_offset(struct sg_db_conn *c, void *arg)
{
    const struct offset_write *w = arg;
    enum sg_error err = SG_OK;
    if (w->a->meets_quota)
        err = upload_quota_grow(c, sg_services_config(w->a->svc), w->a->owner, w->more);
    return err != SG_OK ? err
                        : sg_upload_set_offset(c, w->a->id, w->offset, w->now_ms, w->expires_ms);
}

/* Everything below `to` was written. */
static enum sg_error commit_to(struct upload_append *a, uint64_t to)
{
    pthread_mutex_lock(&a->lock);
    bool first = a->committed == 0;
    uint64_t more = to - a->committed;
    pthread_mutex_unlock(&a->lock);
    if (more == 0)
        return SG_OK;
    enum sg_error err = upload_claim_enter(a->claim);
    if (err != SG_OK)
        return err;
    uint64_t start = sg_clock_mono_ns();
    err = upload_sync_staged(a->svc, a->fd, first);
    sg_metric_observe_ns(SG_METRIC_UPLOAD_FINISH_SYNC, 0, sg_clock_mono_ns() - start);
    struct offset_write w = {.a = a, .offset = to, .more = more, .now_ms = sg_clock_wall_ms()};
    w.expires_ms = upload_expiry_ms(a->svc, w.now_ms);
    if (err == SG_OK)
        err = sg_db_write(a->svc->db, write_offset, &w);
    upload_claim_leave(a->claim);
    if (err != SG_OK) {
        atomic_store(&a->failed, (int)err);
        return err;
    }
    pthread_mutex_lock(&a->lock);
    a->committed = to;
    pthread_mutex_unlock(&a->lock);
    return SG_OK;
}

static void wait_idle(struct upload_append *a)
{
    pthread_mutex_lock(&a->lock);
    while (a->committing)
        pthread_cond_wait(&a->idle, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

/* On a sync thread. An error ends the body: the next write or commit meets it. */
static void commit_on_the_way(void *arg)
{
    struct upload_append *a = arg;
    enum sg_error err = commit_to(a, a->committing_to);
    if (err != SG_OK && err != SG_ERR_SUPERSEDED)
        sg_warn_log("upload", "upload %s: %s", a->id, sg_error_title(err));
    pthread_mutex_lock(&a->lock);
    a->committing = false;
    pthread_cond_signal(&a->idle);
    pthread_mutex_unlock(&a->lock);
}

static void start_commit(struct upload_append *a)
{
    uint64_t every = sg_config_uint(sg_services_config(a->svc), SG_SET_upload_commit_bytes);
    pthread_mutex_lock(&a->lock);
    bool due = !a->committing && a->received - a->committed >= every;
    if (due) {
        a->committing = true;
        a->committing_to = a->received;
    }
    pthread_mutex_unlock(&a->lock);
    if (!due || sg_pool_submit(a->svc->sync, commit_on_the_way, a) == SG_OK)
        return;
    pthread_mutex_lock(&a->lock);
    a->committing = false; /* the pool is full: later */
    pthread_mutex_unlock(&a->lock);
}

enum sg_error upload_append_commit(struct upload_append *a)
{
    wait_idle(a);
    enum sg_error failed = (enum sg_error)atomic_load(&a->failed);
    return failed != SG_OK ? failed : commit_to(a, a->received);
}

/* ---- early writeback ---- */

struct writeback {
    int fd; /* its own */
    uint64_t offset, len;
};

static void writeback_run(void *arg)
{
    struct writeback *w = arg;
    sg_fs_start_writeback(w->fd, w->offset, w->len);
    close(w->fd);
    free(w);
}

void upload_start_writeback(struct sg_services *svc, int fd, uint64_t from, uint64_t to)
{
    struct writeback *w = malloc(sizeof *w);
    if (w == NULL)
        return;
    *w = (struct writeback){.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), .offset = from, .len = to - from};
    if (w->fd >= 0 && sg_pool_submit(svc->sync, writeback_run, w) == SG_OK)
        return;
    if (w->fd >= 0)
        close(w->fd);
    free(w);
}

/* ---- writing ---- */

static enum sg_error write_claimed(struct upload_append *a, const void *data, size_t len)
{
    enum sg_error err = upload_claim_enter(a->claim);
    if (err != SG_OK)
        return err;
    err = sg_fs_pwrite_all(a->fd, data, len, a->received);
    upload_claim_leave(a->claim);
    return err;
}

enum sg_error upload_append_write(struct upload_append *a, struct sg_buf *buf, const void *data,
                                  size_t len)
{
    if (a->has_size && len > a->size_bytes - a->received)
        return SG_ERR_TOO_LARGE;
    enum sg_error err = (enum sg_error)atomic_load(&a->failed);
    if (err == SG_OK)
        err = write_claimed(a, data, len);
    if (err != SG_OK)
        return err; /* what was written before still counts, and the hash is over just that */
    if (a->hasher != NULL)
        sg_hasher_update(a->hasher, buf, data, len);
    a->received += len;
    if (!a->all_or_nothing)
        start_commit(a);
    if (a->received - a->written_back < WRITEBACK_BYTES)
        return SG_OK;
    upload_start_writeback(a->svc, a->fd, a->written_back, a->received);
    a->written_back = a->received;
    return upload_space(a->svc, 0);
}

/* ---- the end ---- */

enum sg_error upload_append_complete(struct upload_append *a, struct upload_completion *c)
{
    wait_idle(a);
    c->svc = a->svc;
    c->id = a->id;
    c->claim = a->claim;
    if (a->hasher != NULL) {
        c->sha = sg_hasher_take(a->hasher);
        c->t.hash_ns = sg_hasher_busy_ns(a->hasher);
        sg_hasher_destroy(&a->hasher);
    }
    return upload_complete(c);
}

/* The hash of a prefix that is durable, and in nobody else's hands, is worth keeping. */
static void keep_hash(struct upload_append *a)
{
    if (a->hasher == NULL || atomic_load(&a->failed) != SG_OK || a->received != a->committed ||
        upload_claim_enter(a->claim) != SG_OK)
        return;
    upload_hash_put(a->svc->uploads, a->id, a->received, &a->hasher);
    upload_claim_leave(a->claim);
}

void upload_append_close(struct upload_append **ap)
{
    struct upload_append *a = *ap;
    if (a == NULL)
        return;
    *ap = NULL;
    wait_idle(a);
    if (a->claim != NULL)
        keep_hash(a);
    upload_claim_release(&a->claim);
    sg_hasher_destroy(&a->hasher);
    if (a->fd >= 0)
        close(a->fd);
    pthread_cond_destroy(&a->idle);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static void abandon_run(void *arg)
{
    struct upload_append *a = arg;
    if (!a->all_or_nothing) {
        enum sg_error err = upload_append_commit(a);
        if (err != SG_OK && err != SG_ERR_SUPERSEDED)
            sg_warn_log("upload", "upload %s: what came last does not count: %s", a->id,
                        sg_error_title(err));
    }
    upload_append_close(&a);
}

void upload_append_abandon(struct upload_append **ap)
{
    struct upload_append *a = *ap;
    if (a == NULL)
        return;
    *ap = NULL;
    if (sg_pool_submit(a->svc->blocking, abandon_run, a) != SG_OK)
        abandon_run(a);
}
