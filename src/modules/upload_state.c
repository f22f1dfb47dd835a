/* Both tables are small and hashed; one lock each, held for a few instructions. */
#include "upload_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/metrics.h"

struct upload_prefix_hash {
    char id[SG_ULID_SIZE];
    uint64_t offset;
    struct sg_hasher *hasher;
};

struct upload_user {
    struct upload_user *next;
    char owner[SG_ULID_SIZE];
    uint64_t bytes;
};

enum sg_error upload_state_create(struct sg_upload_memory **out)
{
    struct sg_upload_memory *s = calloc(1, sizeof *s);
    if (s == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = upload_claims_create(&s->claims);
    if (err != SG_OK) {
        free(s);
        return err;
    }
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return SG_OK;
}

static void hash_free(struct upload_prefix_hash *h)
{
    if (h == NULL)
        return;
    sg_hasher_destroy(&h->hasher);
    free(h);
}

void upload_state_destroy(struct sg_upload_memory **state)
{
    struct sg_upload_memory *s = *state;
    if (s == NULL)
        return;
    *state = NULL;
    for (size_t i = 0; i < UPLOAD_HASHES; i++)
        hash_free(s->hashes[i]);
    for (size_t i = 0; i < UPLOAD_USERS; i++) {
        while (s->users[i] != NULL) {
            struct upload_user *u = s->users[i];
            s->users[i] = u->next;
            free(u);
        }
    }
    upload_claims_destroy(&s->claims);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- hashes ---- */

static size_t hash_slot(const char *id)
{
    return sg_siphash(id, strlen(id)) % UPLOAD_HASHES;
}

void upload_hash_put(struct sg_upload_memory *s, const char *id, uint64_t offset,
                     struct sg_hasher **hash)
{
    struct upload_prefix_hash *h = calloc(1, sizeof *h);
    if (h == NULL) {
        sg_hasher_destroy(hash);
        return;
    }
    memcpy(h->id, id, strnlen(id, SG_ULID_SIZE - 1));
    h->offset = offset;
    h->hasher = *hash;
    *hash = NULL;
    size_t slot = hash_slot(h->id);
    pthread_mutex_lock(&s->lock);
    struct upload_prefix_hash *old = s->hashes[slot];
    s->hashes[slot] = h; /* of two that fall on one place the newer stays */
    pthread_mutex_unlock(&s->lock);
    hash_free(old);
}

struct sg_hasher *upload_hash_take(struct sg_upload_memory *s, const char *id, uint64_t offset)
{
    size_t slot = hash_slot(id);
    pthread_mutex_lock(&s->lock);
    struct upload_prefix_hash *h = s->hashes[slot];
    if (h != NULL && strcmp(h->id, id) == 0)
        s->hashes[slot] = NULL; /* one for another prefix is of no use any more */
    else
        h = NULL;
    pthread_mutex_unlock(&s->lock);
    struct sg_hasher *hasher = NULL;
    if (h != NULL && h->offset == offset) {
        hasher = h->hasher;
        h->hasher = NULL;
    }
    hash_free(h);
    return hasher;
}

void upload_hash_forget(struct sg_upload_memory *s, const char *id)
{
    struct sg_hasher *hasher = upload_hash_take(s, id, UINT64_MAX);
    sg_hasher_destroy(&hasher);
}

unsigned upload_media_failed(struct sg_upload_memory *s, const char *id)
{
    struct upload_tries *t = &s->tries[sg_siphash(id, strlen(id)) % UPLOAD_TRIES];
    pthread_mutex_lock(&s->lock);
    if (strcmp(t->id, id) != 0) {
        *t = (struct upload_tries){0};
        memcpy(t->id, id, strnlen(id, SG_ULID_SIZE - 1));
    }
    unsigned n = ++t->n;
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* ---- quotas ---- */

static struct upload_user **user_at(struct sg_upload_memory *s, const char *owner)
{
    struct upload_user **at = &s->users[sg_siphash(owner, strlen(owner)) % UPLOAD_USERS];
    while (*at != NULL && strcmp((*at)->owner, owner) != 0)
        at = &(*at)->next;
    return at;
}

void upload_quota_hold(struct sg_upload_memory *s, const char *owner, uint64_t bytes)
{
    if (bytes == 0)
        return;
    struct upload_user *fresh = calloc(1, sizeof *fresh);
    if (fresh != NULL)
        memcpy(fresh->owner, owner, strnlen(owner, SG_ULID_SIZE - 1));
    pthread_mutex_lock(&s->lock);
    struct upload_user **at = user_at(s, owner);
    if (*at == NULL) {
        *at = fresh; /* without memory it goes uncounted; the transaction still has the last word */
        fresh = NULL;
    }
    if (*at != NULL)
        (*at)->bytes += bytes;
    pthread_mutex_unlock(&s->lock);
    free(fresh);
}

void upload_quota_drop(struct sg_upload_memory *s, const char *owner, uint64_t bytes)
{
    if (bytes == 0)
        return;
    struct upload_user *gone = NULL;
    pthread_mutex_lock(&s->lock);
    struct upload_user **at = user_at(s, owner);
    if (*at != NULL) {
        (*at)->bytes -= bytes < (*at)->bytes ? bytes : (*at)->bytes;
        if ((*at)->bytes == 0) {
            gone = *at;
            *at = gone->next;
        }
    }
    pthread_mutex_unlock(&s->lock);
    free(gone);
}

static uint64_t held_by(struct sg_upload_memory *s, const char *owner)
{
    pthread_mutex_lock(&s->lock);
    const struct upload_user *u = *user_at(s, owner);
    uint64_t bytes = u != NULL ? u->bytes : 0;
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

struct usage_read {
    const char *owner;
    enum upload_quota_asset asset;
    struct sg_usage usage;
    uint64_t promised; /* assets, beside those that are there; 0 unless a new one is asked for */
};

static enum sg_error read_usage(struct sg_db_conn *c, void *arg)
{
    struct usage_read *r = arg;
    enum sg_error err = sg_usage_get(c, r->owner, &r->usage);
    if (err == SG_OK && r->asset == UPLOAD_NEW_ASSET)
        err = sg_upload_promised(c, r->owner, &r->promised);
    return err;
}

/* 0 as the bound: none. Sums of sizes that were each checked against settings below 2^60. */
static bool over(uint64_t held, uint64_t more, uint64_t bound)
{
    return bound != 0 && (held > bound || more > bound - held);
}

static enum sg_error refuse(char why[UPLOAD_QUOTA_WHY], const char *what, uint64_t bound)
{
    sg_metric_add(SG_METRIC_QUOTA_EXCEEDED, 0, 1);
    snprintf(why, UPLOAD_QUOTA_WHY, "exceed the quota of %" PRIu64 " %s", bound, what);
    return SG_ERR_QUOTA;
}

enum sg_error upload_space(struct sg_services *svc, uint64_t need)
{
    uint64_t avail, total;
    enum sg_error err = sg_blob_space(svc->blobs, &avail, &total);
    if (err != SG_OK)
        return err;
    uint64_t keep = sg_config_uint(sg_services_config(svc), SG_SET_storage_min_free);
    return avail < keep || avail - keep < need ? SG_ERR_NO_SPACE : SG_OK;
}

static bool over_assets(const struct usage_read *r, uint64_t bound)
{
    return r->asset != UPLOAD_NO_ASSET && over(r->usage.assets + r->promised, 1, bound);
}

static enum sg_error check_user(struct sg_services *svc, struct usage_read *r, uint64_t bytes,
                                char why[UPLOAD_QUOTA_WHY])
{
    const struct sg_config *cfg = sg_services_config(svc);
    uint64_t max_bytes = sg_config_uint(cfg, SG_SET_quota_max_bytes);
    uint64_t max_assets = sg_config_uint(cfg, SG_SET_quota_max_assets);
    uint64_t max_in_flight = sg_config_uint(cfg, SG_SET_quota_max_in_flight);
    if (max_bytes == 0 && max_assets == 0 && max_in_flight == 0)
        return SG_OK;
    if (max_assets == 0)
        r->asset = UPLOAD_NO_ASSET;
    enum sg_error err = sg_db_read(svc->db, read_usage, r);
    if (err != SG_OK)
        return err;
    uint64_t coming = r->usage.reserved_bytes + held_by(svc->uploads, r->owner);
    if (over(r->usage.asset_bytes + coming, bytes, max_bytes))
        return refuse(why, "bytes", max_bytes);
    if (over_assets(r, max_assets))
        return refuse(why, "assets", max_assets);
    if (over(coming, bytes, max_in_flight))
        return refuse(why, "bytes in flight", max_in_flight);
    return SG_OK;
}

enum sg_error upload_quota_check(struct sg_request *req, uint64_t bytes,
                                 enum upload_quota_asset asset)
{
    char why[UPLOAD_QUOTA_WHY];
    struct usage_read r = {.owner = req->identity.user_id, .asset = asset};
    enum sg_error err = check_user(req->svc, &r, bytes, why);
    if (err == SG_ERR_QUOTA)
        return sg_request_fail(req, err, NULL, "This would %s", why);
    if (err == SG_OK)
        err = upload_space(req->svc, bytes);
    if (err == SG_ERR_NO_SPACE)
        return sg_request_fail(req, err, NULL, "the storage is full");
    return err;
}

enum sg_error upload_quota_check_owner(struct sg_services *svc, const char *owner, uint64_t bytes,
                                       char why[UPLOAD_QUOTA_WHY])
{
    struct usage_read r = {.owner = owner};
    enum sg_error err = check_user(svc, &r, bytes, why);
    return err == SG_OK ? upload_space(svc, bytes) : err;
}

static enum sg_error one_more_asset(struct sg_db_conn *c, const struct sg_config *cfg,
                                    struct usage_read *r, uint64_t bytes)
{
    uint64_t max_bytes = sg_config_uint(cfg, SG_SET_quota_max_bytes);
    uint64_t max_assets = sg_config_uint(cfg, SG_SET_quota_max_assets);
    if (max_bytes == 0 && max_assets == 0)
        return SG_OK;
    if (max_assets == 0)
        r->asset = UPLOAD_NO_ASSET;
    enum sg_error err = read_usage(c, r);
    if (err != SG_OK)
        return err;
    return over(r->usage.asset_bytes + r->usage.reserved_bytes, bytes, max_bytes) ||
                   over_assets(r, max_assets)
               ? SG_ERR_QUOTA
               : SG_OK;
}

static enum sg_error add_asset(struct sg_db_conn *c, const struct sg_config *cfg,
                               struct usage_read *r, uint64_t bytes)
{
    enum sg_error err = one_more_asset(c, cfg, r, bytes);
    if (err == SG_ERR_QUOTA)
        sg_metric_add(SG_METRIC_QUOTA_EXCEEDED, 0, 1);
    return err;
}

enum sg_error upload_quota_commit(struct sg_db_conn *c, const struct sg_config *cfg,
                                  const char *owner, uint64_t bytes)
{
    struct usage_read r = {.owner = owner, .asset = UPLOAD_NEW_ASSET};
    return add_asset(c, cfg, &r, bytes);
}

enum sg_error upload_quota_owed(struct sg_db_conn *c, const struct sg_config *cfg,
                                const char *owner)
{
    struct usage_read r = {.owner = owner, .asset = UPLOAD_PART_ASSET};
    return one_more_asset(c, cfg, &r, 0);
}

enum sg_error upload_quota_announce(struct sg_db_conn *c, const struct sg_config *cfg,
                                    const char *owner, uint64_t bytes,
                                    enum upload_quota_asset asset)
{
    struct usage_read r = {.owner = owner, .asset = asset};
    enum sg_error err = add_asset(c, cfg, &r, bytes);
    return err == SG_OK ? upload_quota_grow(c, cfg, owner, bytes) : err;
}

enum sg_error upload_quota_grow(struct sg_db_conn *c, const struct sg_config *cfg,
                                const char *owner, uint64_t more)
{
    uint64_t max_bytes = sg_config_uint(cfg, SG_SET_quota_max_bytes);
    uint64_t max_in_flight = sg_config_uint(cfg, SG_SET_quota_max_in_flight);
    if (max_bytes == 0 && max_in_flight == 0)
        return SG_OK;
    struct sg_usage u;
    enum sg_error err = sg_usage_get(c, owner, &u);
    if (err != SG_OK)
        return err;
    if (over(u.asset_bytes + u.reserved_bytes, more, max_bytes) ||
        over(u.reserved_bytes, more, max_in_flight)) {
        sg_metric_add(SG_METRIC_QUOTA_EXCEEDED, 0, 1);
        return SG_ERR_QUOTA;
    }
    return SG_OK;
}
