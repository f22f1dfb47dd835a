/* Single flight over the streaming namespace.
 *
 * A hit touches only the LRU. A miss goes to the table of flights (what is being built), sharded by
 * the same key: the first asker leads, the others leave a waiter. The LRU is asked again under the
 * flight's lock, and fill stores the content under that same lock before it takes the flight away;
 * so a miss either finds the flight or finds the content, and nothing is built twice or waited for
 * in vain. Waiters are woken after the lock is released.
 *
 * Content is a pure function of its key. A request that joins a flight whose prefix was invalidated
 * meanwhile gets right bytes; the mark only keeps what was forgotten from coming back into memory.
 *
 * Lock order: flight shard, then LRU shard. */
#include "streamgate/layers/content_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/crypto.h"
#include "streamgate/base/metrics.h"

#include "cache_private.h"

#define FLIGHT_SHARDS 64u
#define FLIGHT_CHAINS 16u

struct flight {
    struct flight *next;
    uint64_t hash;
    struct sg_waiter *first, **last; /* in order of arrival; the leader's own is the first */
    bool forgotten;                  /* invalidated while being built: not to be stored */
    size_t key_len;
    uint8_t key[];
};

struct flight_shard {
    pthread_mutex_t lock; /* guards chains, and every flight in them */
    struct flight *chains[FLIGHT_CHAINS];
};

struct sg_content_cache {
    struct sg_cache *base;
    struct sg_lru *lru; /* base's */
    struct sg_cache_series series;
    unsigned n_locks;
    struct flight_shard shards[FLIGHT_SHARDS];
};

static void *buf_ref(void *buf)
{
    return sg_buf_ref(buf);
}

static void buf_unref(void *buf)
{
    sg_buf_unref(buf);
}

enum sg_error sg_content_cache_create(const struct sg_config *config, struct sg_content_cache **out)
{
    enum sg_error err = SG_ERR_NO_MEMORY;
    struct sg_content_cache *c = calloc(1, sizeof *c);
    if (c == NULL)
        return SG_ERR_NO_MEMORY;
    const struct sg_cache_params params = {
        .ns = SG_CACHE_STREAMING, .ref = buf_ref, .unref = buf_unref};
    err = sg_cache_create(config, &params, &c->base);
    if (err != SG_OK)
        goto out;
    c->lru = sg_cache_lru(c->base);
    sg_cache_count_outside(c->base, &c->series);
    for (; c->n_locks < FLIGHT_SHARDS; c->n_locks++) {
        if (pthread_mutex_init(&c->shards[c->n_locks].lock, NULL) != 0) {
            err = SG_ERR_NO_MEMORY;
            goto out;
        }
    }
    *out = c;
    c = NULL;
out:
    sg_content_cache_destroy(&c);
    return err;
}

void sg_content_cache_destroy(struct sg_content_cache **c)
{
    if (c == NULL || *c == NULL)
        return;
    for (unsigned i = 0; i < (*c)->n_locks; i++) {
        struct flight_shard *s = &(*c)->shards[i];
        for (unsigned j = 0; j < FLIGHT_CHAINS; j++) {
            while (s->chains[j] != NULL) {
                struct flight *f = s->chains[j];
                s->chains[j] = f->next;
                free(f);
            }
        }
        pthread_mutex_destroy(&s->lock);
    }
    sg_cache_destroy(&(*c)->base);
    free(*c);
    *c = NULL;
}

struct sg_cache *sg_content_cache_base(struct sg_content_cache *c)
{
    return c->base;
}

static struct flight_shard *shard_of(struct sg_content_cache *c, uint64_t hash)
{
    return &c->shards[hash % FLIGHT_SHARDS];
}

/* Where the flight's pointer is, or the end of its chain (pointing at NULL). The shard is locked.
 */
static struct flight **find(struct flight_shard *s, uint64_t hash, const void *key, size_t key_len)
{
    struct flight **at = &s->chains[hash / FLIGHT_SHARDS % FLIGHT_CHAINS];
    while (*at != NULL && ((*at)->hash != hash || (*at)->key_len != key_len ||
                           memcmp((*at)->key, key, key_len) != 0))
        at = &(*at)->next;
    return at;
}

static struct flight *flight_make(uint64_t hash, const void *key, size_t key_len)
{
    size_t size;
    if (__builtin_add_overflow(sizeof(struct flight), key_len, &size))
        return NULL;
    struct flight *f = malloc(size);
    if (f == NULL)
        return NULL;
    *f = (struct flight){.hash = hash, .key_len = key_len};
    f->last = &f->first;
    memcpy(f->key, key, key_len);
    return f;
}

static void flight_join(struct flight *f, struct sg_waiter *waiter)
{
    if (waiter == NULL)
        return;
    waiter->next = NULL;
    *f->last = waiter;
    f->last = &waiter->next;
}

static enum sg_content_state get_slow(struct sg_content_cache *c, const void *key, size_t key_len,
                                      struct sg_waiter *waiter, struct sg_buf **out)
{
    enum sg_content_state state;
    struct sg_buf *buf = NULL;
    uint64_t hash = sg_siphash(key, key_len);
    struct flight_shard *s = shard_of(c, hash);
    pthread_mutex_lock(&s->lock);
    struct flight **at = find(s, hash, key, key_len);
    if (*at != NULL) {
        flight_join(*at, waiter);
        state = SG_CONTENT_WAIT;
    } else if ((buf = sg_lru_get(c->lru, key, key_len)) != NULL) {
        state = SG_CONTENT_HIT;
    } else if ((*at = flight_make(hash, key, key_len)) != NULL) {
        flight_join(*at, waiter);
        state = SG_CONTENT_LEAD;
    } else {
        state = SG_CONTENT_FULL;
    }
    pthread_mutex_unlock(&s->lock);

    if (state == SG_CONTENT_HIT) {
        sg_metric_add(SG_METRIC_CACHE_HIT, c->series.hit, 1);
        *out = buf;
    } else if (state == SG_CONTENT_WAIT) {
        sg_metric_add(SG_METRIC_CACHE_WAITERS, 0, 1);
    } else {
        sg_metric_add(SG_METRIC_CACHE_MISS, c->series.miss, 1);
    }
    return state;
}

enum sg_content_state sg_content_get(struct sg_content_cache *c, const void *key, size_t key_len,
                                     struct sg_waiter *waiter, struct sg_buf **out)
{
    struct sg_buf *buf = sg_lru_get(c->lru, key, key_len);
    if (buf == NULL)
        return get_slow(c, key, key_len, waiter, out);
    sg_metric_add(SG_METRIC_CACHE_HIT, c->series.hit, 1);
    *out = buf;
    return SG_CONTENT_HIT;
}

struct sg_buf *sg_content_peek(struct sg_content_cache *c, const void *key, size_t key_len)
{
    struct sg_buf *buf = sg_lru_get(c->lru, key, key_len);
    if (buf != NULL)
        sg_metric_add(SG_METRIC_CACHE_HIT, c->series.hit, 1);
    return buf;
}

/* Keeps the content when it can be kept. Without memory for the entry the waiters still have their
 * answer. */
static void store(struct sg_content_cache *c, const void *key, size_t key_len, struct sg_buf *buf)
{
    enum sg_error kept = sg_lru_put(c->lru, key, key_len, buf, (uint64_t)buf->len + key_len);
    (void)kept;
}

void sg_content_fill(struct sg_content_cache *c, const void *key, size_t key_len, enum sg_error err,
                     struct sg_buf *buf)
{
    if (err == SG_OK && buf == NULL)
        err = SG_ERR_INTERNAL;
    if (err != SG_OK)
        buf = NULL;
    uint64_t hash = sg_siphash(key, key_len);
    struct flight_shard *s = shard_of(c, hash);
    pthread_mutex_lock(&s->lock);
    struct flight **at = find(s, hash, key, key_len);
    struct flight *f = *at;
    /* Stored before the lock is given up: an invalidation either marked the flight already or will
     * find the entry. */
    if (buf != NULL && (f == NULL || !f->forgotten))
        store(c, key, key_len, buf);
    if (f != NULL)
        *at = f->next;
    pthread_mutex_unlock(&s->lock);

    if (f == NULL)
        sg_metric_add(SG_METRIC_CACHE_MISS, c->series.miss, 1);
    struct sg_waiter *w = f != NULL ? f->first : NULL;
    free(f);
    while (w != NULL) {
        struct sg_waiter *next = w->next; /* w may be gone once woken */
        w->wake(w->arg, err, buf != NULL ? sg_buf_ref(buf) : NULL);
        w = next;
    }
}

void sg_content_invalidate(struct sg_content_cache *c, const void *prefix, size_t prefix_len)
{
    for (unsigned i = 0; i < FLIGHT_SHARDS; i++) {
        struct flight_shard *s = &c->shards[i];
        pthread_mutex_lock(&s->lock);
        for (unsigned j = 0; j < FLIGHT_CHAINS; j++)
            for (struct flight *f = s->chains[j]; f != NULL; f = f->next)
                if (f->key_len >= prefix_len && memcmp(f->key, prefix, prefix_len) == 0)
                    f->forgotten = true;
        pthread_mutex_unlock(&s->lock);
    }
    (void)sg_lru_remove_prefix(c->lru, prefix, prefix_len);
}
