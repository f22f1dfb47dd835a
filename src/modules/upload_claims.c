/* Claims live in hash chains by upload; one lock guards the table and every claim's flags, as all
 * critical sections are a few instructions. */
#include "upload_claims.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/crypto.h"
#include "streamgate/base/metrics.h"

#define BUCKETS 1024u
/* Waiting takes a blocking thread each: beyond a few for one upload, and some for all, the next is
 * told to come again. */
#define WAITERS_EACH 4
#define WAITERS_ALL 12

struct upload_claim {
    struct upload_claims *table;
    struct upload_claim *next;
    uint64_t slot;
    bool superseded;
    unsigned busy; /* how many are within enter and leave */
    char id[SG_ULID_SIZE];
};

struct waiter {
    struct waiter *next;
    const char *id;
};

struct upload_claims {
    pthread_mutex_t lock; /* guards everything below and the claims */
    pthread_cond_t left;  /* some claim is no longer busy */
    struct waiter *waiters;
    struct upload_claim *buckets[BUCKETS];
};

enum sg_error upload_claims_create(struct upload_claims **out)
{
    struct upload_claims *t = calloc(1, sizeof *t);
    if (t == NULL)
        return SG_ERR_NO_MEMORY;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->left, NULL);
    *out = t;
    return SG_OK;
}

void upload_claims_destroy(struct upload_claims **t)
{
    if (*t == NULL)
        return;
    pthread_cond_destroy(&(*t)->left);
    pthread_mutex_destroy(&(*t)->lock);
    free(*t);
    *t = NULL;
}

static struct upload_claim **bucket_of(struct upload_claims *t, const char *id)
{
    return &t->buckets[sg_siphash(id, strlen(id)) % BUCKETS];
}

static bool overlaps(const struct upload_claim *c, const char *id, uint64_t slot)
{
    return (c->slot == slot || c->slot == UPLOAD_SLOT_ALL || slot == UPLOAD_SLOT_ALL) &&
           strcmp(c->id, id) == 0;
}

/* Takes every older claim on the part out of the chain; false when one of them is busy. */
static bool clear_older(struct upload_claim **bucket, const char *id, uint64_t slot)
{
    bool clear = true;
    for (struct upload_claim **at = bucket; *at != NULL;) {
        struct upload_claim *c = *at;
        if (!overlaps(c, id, slot)) {
            at = &c->next;
            continue;
        }
        if (!c->superseded)
            sg_metric_add(SG_METRIC_UPLOAD_SUPERSEDED, 0, 1);
        c->superseded = true;
        if (c->busy > 0) {
            clear = false;
            at = &c->next;
        } else {
            *at = c->next; /* its owner releases it when it notices */
        }
    }
    return clear;
}

static struct upload_claim *claim_new(struct upload_claims *t, const char *id, uint64_t slot)
{
    struct upload_claim *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->table = t;
    c->slot = slot;
    memcpy(c->id, id, strnlen(id, SG_ULID_SIZE - 1));
    return c;
}

static bool too_many_wait(const struct upload_claims *t, const char *id)
{
    unsigned same = 0, all = 0;
    for (const struct waiter *w = t->waiters; w != NULL; w = w->next) {
        all++;
        same += strcmp(w->id, id) == 0;
    }
    return same >= WAITERS_EACH || all >= WAITERS_ALL;
}

/* Until some claim is no longer busy. */
static void wait_left(struct upload_claims *t, const char *id)
{
    struct waiter me = {.next = t->waiters, .id = id};
    t->waiters = &me;
    pthread_cond_wait(&t->left, &t->lock);
    struct waiter **at = &t->waiters;
    while (*at != &me)
        at = &(*at)->next;
    *at = me.next;
}

enum sg_error upload_claim_take(struct upload_claims *t, const char *id, uint64_t slot,
                                struct upload_claim **out)
{
    struct upload_claim *c = claim_new(t, id, slot);
    if (c == NULL)
        return SG_ERR_NO_MEMORY;
    struct upload_claim **bucket = bucket_of(t, c->id);
    enum sg_error err = SG_OK;
    pthread_mutex_lock(&t->lock);
    while (!clear_older(bucket, c->id, slot)) {
        if (too_many_wait(t, c->id)) {
            err = SG_ERR_UNAVAILABLE;
            break;
        }
        wait_left(t, c->id);
    }
    if (err == SG_OK) {
        c->next = *bucket;
        *bucket = c;
    }
    pthread_mutex_unlock(&t->lock);
    if (err != SG_OK)
        free(c);
    else
        *out = c;
    return err;
}

enum sg_error upload_claim_try(struct upload_claims *t, const char *id, uint64_t slot,
                               struct upload_claim **out)
{
    struct upload_claim *c = claim_new(t, id, slot);
    if (c == NULL)
        return SG_ERR_NO_MEMORY;
    struct upload_claim **bucket = bucket_of(t, c->id);
    bool taken = false;
    pthread_mutex_lock(&t->lock);
    for (const struct upload_claim *at = *bucket; at != NULL && !taken; at = at->next)
        taken = overlaps(at, c->id, slot);
    if (!taken) {
        c->next = *bucket;
        *bucket = c;
    }
    pthread_mutex_unlock(&t->lock);
    if (taken) {
        free(c);
        return SG_ERR_CONFLICT;
    }
    *out = c;
    return SG_OK;
}

enum sg_error upload_claim_enter(struct upload_claim *c)
{
    pthread_mutex_lock(&c->table->lock);
    bool ok = !c->superseded;
    c->busy += ok;
    pthread_mutex_unlock(&c->table->lock);
    return ok ? SG_OK : SG_ERR_SUPERSEDED;
}

void upload_claim_leave(struct upload_claim *c)
{
    pthread_mutex_lock(&c->table->lock);
    c->busy--;
    if (c->superseded)
        pthread_cond_broadcast(&c->table->left);
    pthread_mutex_unlock(&c->table->lock);
}

void upload_claim_release(struct upload_claim **c)
{
    struct upload_claim *claim = *c;
    if (claim == NULL)
        return;
    *c = NULL;
    struct upload_claims *t = claim->table;
    struct upload_claim **at = bucket_of(t, claim->id);
    pthread_mutex_lock(&t->lock);
    while (*at != NULL && *at != claim)
        at = &(*at)->next;
    if (*at != NULL)
        *at = claim->next;
    pthread_cond_broadcast(&t->left);
    pthread_mutex_unlock(&t->lock);
    free(claim);
}
