/* Sharded LRU. A shard's lock guards its table, its list and its counters; entries and bytes are
 * also kept as process-wide atomics, because the bounds hold over all shards: a big entry may use
 * room its own shard's share would not give. Order is exact within a shard. At most one shard lock
 * is held at any time, and dead entries are collected on a list that is freed, and their values
 * unreferenced, after it is released. */
#include "streamgate/base/lru.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/crypto.h"

#define LRU_SHARDS_DEFAULT 16
#define LRU_SHARDS_MAX 4096
#define LRU_BUCKETS_FIRST ((size_t)64)

struct entry {
    struct entry *chain; /* same bucket; or the list of the dead */
    struct entry *newer, *older;
    void *value;
    uint64_t hash, bytes, stored_ms;
    size_t key_len;
    uint8_t key[];
};

struct shard {
    alignas(64) pthread_mutex_t lock;
    struct entry **buckets;
    size_t n_buckets; /* power of two */
    size_t n_entries;
    struct entry *newest, *oldest;
    uint64_t hits, misses, evictions, expirations;
};

struct sg_lru {
    struct shard *shards;
    unsigned n_shards;
    void *(*ref)(void *);
    void (*unref)(void *);
    _Atomic uint64_t max_entries, max_bytes, ttl_ms;
    _Atomic uint64_t entries, bytes;
};

static struct shard *shard_of(struct sg_lru *lru, uint64_t hash)
{
    return &lru->shards[(hash >> 48) & (lru->n_shards - 1)];
}

static struct entry **bucket_of(struct shard *s, uint64_t hash)
{
    return &s->buckets[hash & (s->n_buckets - 1)];
}

static void list_remove(struct shard *s, struct entry *e)
{
    if (e->newer != NULL)
        e->newer->older = e->older;
    else
        s->newest = e->older;
    if (e->older != NULL)
        e->older->newer = e->newer;
    else
        s->oldest = e->newer;
}

static void list_push(struct shard *s, struct entry *e)
{
    e->newer = NULL;
    e->older = s->newest;
    if (s->newest != NULL)
        s->newest->newer = e;
    else
        s->oldest = e;
    s->newest = e;
}

static struct entry *find(struct shard *s, uint64_t hash, const void *key, size_t key_len)
{
    for (struct entry *e = *bucket_of(s, hash); e != NULL; e = e->chain) {
        if (e->hash == hash && e->key_len == key_len && memcmp(e->key, key, key_len) == 0)
            return e;
    }
    return NULL;
}

/* Takes e out of everything and puts it on the list of the dead. */
static void kill_entry(struct sg_lru *lru, struct shard *s, struct entry *e, struct entry **dead)
{
    struct entry **p = bucket_of(s, e->hash);
    while (*p != e)
        p = &(*p)->chain;
    *p = e->chain;
    list_remove(s, e);
    s->n_entries--;
    atomic_fetch_sub_explicit(&lru->entries, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&lru->bytes, e->bytes, memory_order_relaxed);
    e->chain = *dead;
    *dead = e;
}

static size_t bury(struct sg_lru *lru, struct entry *dead)
{
    size_t n = 0;
    while (dead != NULL) {
        struct entry *next = dead->chain;
        lru->unref(dead->value);
        free(dead);
        dead = next;
        n++;
    }
    return n;
}

static bool is_expired(struct sg_lru *lru, const struct entry *e, uint64_t now_ms)
{
    uint64_t ttl = atomic_load_explicit(&lru->ttl_ms, memory_order_relaxed);
    return ttl > 0 && now_ms > e->stored_ms && now_ms - e->stored_ms >= ttl;
}

static bool is_over(struct sg_lru *lru)
{
    uint64_t max_bytes = atomic_load_explicit(&lru->max_bytes, memory_order_relaxed);
    return atomic_load_explicit(&lru->entries, memory_order_relaxed) >
               atomic_load_explicit(&lru->max_entries, memory_order_relaxed) ||
           (max_bytes > 0 && atomic_load_explicit(&lru->bytes, memory_order_relaxed) > max_bytes);
}

static void evict_from(struct sg_lru *lru, struct shard *s, const struct entry *keep,
                       struct entry **dead)
{
    while (s->oldest != NULL && s->oldest != keep && is_over(lru)) {
        kill_entry(lru, s, s->oldest, dead);
        s->evictions++;
    }
}

/* Goes once round the shards that follow `first`, one lock at a time, until the bounds hold. */
static void evict_others(struct sg_lru *lru, unsigned first)
{
    for (unsigned i = 1; i <= lru->n_shards && is_over(lru); i++) {
        struct shard *s = &lru->shards[(first + i) & (lru->n_shards - 1)];
        struct entry *dead = NULL;
        pthread_mutex_lock(&s->lock);
        evict_from(lru, s, NULL, &dead);
        pthread_mutex_unlock(&s->lock);
        bury(lru, dead);
    }
}

enum sg_error sg_lru_create(const struct sg_lru_params *params, struct sg_lru **out)
{
    unsigned n = params->shards > 0 ? params->shards : LRU_SHARDS_DEFAULT;
    if (params->max_entries == 0 || n > LRU_SHARDS_MAX || (n & (n - 1)) != 0)
        return SG_ERR_INVALID;
    struct sg_lru *lru = calloc(1, sizeof(*lru));
    if (lru == NULL)
        return SG_ERR_NO_MEMORY;
    lru->ref = params->ref;
    lru->unref = params->unref;
    atomic_init(&lru->max_entries, params->max_entries);
    atomic_init(&lru->max_bytes, params->max_bytes);
    atomic_init(&lru->ttl_ms, params->ttl_ms);
    lru->shards = aligned_alloc(alignof(struct shard), n * sizeof(struct shard));
    if (lru->shards == NULL)
        goto fail;
    memset(lru->shards, 0, n * sizeof(struct shard));
    for (; lru->n_shards < n; lru->n_shards++) {
        struct shard *s = &lru->shards[lru->n_shards];
        s->buckets = calloc(LRU_BUCKETS_FIRST, sizeof(struct entry *));
        if (s->buckets == NULL)
            goto fail;
        s->n_buckets = LRU_BUCKETS_FIRST;
        pthread_mutex_init(&s->lock, NULL);
    }
    *out = lru;
    return SG_OK;
fail:
    sg_lru_destroy(&lru);
    return SG_ERR_NO_MEMORY;
}

void sg_lru_destroy(struct sg_lru **lru)
{
    if (lru == NULL || *lru == NULL)
        return;
    sg_lru_clear(*lru);
    for (unsigned i = 0; i < (*lru)->n_shards; i++) {
        free((*lru)->shards[i].buckets);
        pthread_mutex_destroy(&(*lru)->shards[i].lock);
    }
    free((*lru)->shards);
    free(*lru);
    *lru = NULL;
}

void *sg_lru_get(struct sg_lru *lru, const void *key, size_t key_len)
{
    uint64_t hash = sg_siphash(key, key_len);
    uint64_t now_ms = sg_clock_mono_ms();
    struct shard *s = shard_of(lru, hash);
    struct entry *dead = NULL;
    void *value = NULL;

    pthread_mutex_lock(&s->lock);
    struct entry *e = find(s, hash, key, key_len);
    if (e != NULL && is_expired(lru, e, now_ms)) {
        kill_entry(lru, s, e, &dead);
        s->expirations++;
        e = NULL;
    }
    if (e != NULL) {
        if (s->newest != e) {
            list_remove(s, e);
            list_push(s, e);
        }
        value = lru->ref(e->value);
        s->hits++;
    } else {
        s->misses++;
    }
    pthread_mutex_unlock(&s->lock);
    bury(lru, dead);
    return value;
}

/* Doubles the table when there is an entry a bucket. Without memory the chains grow instead. */
static void grow(struct shard *s)
{
    if (s->n_entries < s->n_buckets || s->n_buckets > SIZE_MAX / 4 / sizeof(struct entry *))
        return;
    size_t n = s->n_buckets * 2;
    struct entry **buckets = calloc(n, sizeof(struct entry *));
    if (buckets == NULL)
        return;
    for (struct entry *e = s->oldest; e != NULL; e = e->newer) {
        struct entry **at = &buckets[e->hash & (n - 1)];
        e->chain = *at;
        *at = e;
    }
    free(s->buckets);
    s->buckets = buckets;
    s->n_buckets = n;
}

enum sg_error sg_lru_put(struct sg_lru *lru, const void *key, size_t key_len, void *value,
                         uint64_t bytes)
{
    uint64_t max_bytes = atomic_load_explicit(&lru->max_bytes, memory_order_relaxed);
    if (max_bytes > 0 && bytes > max_bytes / 2) {
        sg_lru_remove(lru, key, key_len); /* what was there before is out of date */
        return SG_OK;
    }
    if (key_len > SIZE_MAX / 2)
        return SG_ERR_NO_MEMORY;
    struct entry *e = malloc(sizeof(*e) + key_len);
    if (e == NULL)
        return SG_ERR_NO_MEMORY;
    *e = (struct entry){.value = lru->ref(value),
                        .hash = sg_siphash(key, key_len),
                        .bytes = bytes,
                        .stored_ms = sg_clock_mono_ms(),
                        .key_len = key_len};
    memcpy(e->key, key, key_len);

    struct shard *s = shard_of(lru, e->hash);
    struct entry *dead = NULL;
    pthread_mutex_lock(&s->lock);
    struct entry *old = find(s, e->hash, key, key_len);
    if (old != NULL)
        kill_entry(lru, s, old, &dead);
    grow(s);
    struct entry **at = bucket_of(s, e->hash);
    e->chain = *at;
    *at = e;
    list_push(s, e);
    s->n_entries++;
    atomic_fetch_add_explicit(&lru->entries, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&lru->bytes, bytes, memory_order_relaxed);
    evict_from(lru, s, e, &dead);
    pthread_mutex_unlock(&s->lock);
    bury(lru, dead);
    if (is_over(lru))
        evict_others(lru, (unsigned)(s - lru->shards));
    return SG_OK;
}

bool sg_lru_remove(struct sg_lru *lru, const void *key, size_t key_len)
{
    uint64_t hash = sg_siphash(key, key_len);
    struct shard *s = shard_of(lru, hash);
    struct entry *dead = NULL;
    pthread_mutex_lock(&s->lock);
    struct entry *e = find(s, hash, key, key_len);
    if (e != NULL)
        kill_entry(lru, s, e, &dead);
    pthread_mutex_unlock(&s->lock);
    return bury(lru, dead) > 0;
}

/* What a scan of all entries looks for: a key's beginning (prefix set, length 0 takes all) or age.
 */
struct scan {
    const void *prefix;
    size_t prefix_len;
    uint64_t now_ms;
};

static bool is_wanted(struct sg_lru *lru, const struct scan *scan, const struct entry *e)
{
    if (scan->prefix == NULL)
        return is_expired(lru, e, scan->now_ms);
    return e->key_len >= scan->prefix_len && memcmp(e->key, scan->prefix, scan->prefix_len) == 0;
}

static size_t remove_scanned(struct sg_lru *lru, const struct scan *scan)
{
    size_t n = 0;
    for (unsigned i = 0; i < lru->n_shards; i++) {
        struct shard *s = &lru->shards[i];
        struct entry *dead = NULL, *newer;
        pthread_mutex_lock(&s->lock);
        for (struct entry *e = s->oldest; e != NULL; e = newer) {
            newer = e->newer;
            if (!is_wanted(lru, scan, e))
                continue;
            kill_entry(lru, s, e, &dead);
            if (scan->prefix == NULL)
                s->expirations++;
        }
        pthread_mutex_unlock(&s->lock);
        n += bury(lru, dead);
    }
    return n;
}

size_t sg_lru_remove_prefix(struct sg_lru *lru, const void *prefix, size_t prefix_len)
{
    struct scan scan = {.prefix = prefix_len > 0 ? prefix : "", .prefix_len = prefix_len};
    return remove_scanned(lru, &scan);
}

void sg_lru_clear(struct sg_lru *lru)
{
    sg_lru_remove_prefix(lru, "", 0);
}

size_t sg_lru_sweep(struct sg_lru *lru)
{
    struct scan scan = {.now_ms = sg_clock_mono_ms()};
    return remove_scanned(lru, &scan);
}

void sg_lru_stats(struct sg_lru *lru, struct sg_lru_stats *out)
{
    struct sg_lru_stats stats = {0};
    for (unsigned i = 0; i < lru->n_shards; i++) {
        struct shard *s = &lru->shards[i];
        pthread_mutex_lock(&s->lock);
        stats.hits += s->hits;
        stats.misses += s->misses;
        stats.evictions += s->evictions;
        stats.expirations += s->expirations;
        pthread_mutex_unlock(&s->lock);
    }
    stats.entries = atomic_load(&lru->entries);
    stats.bytes = atomic_load(&lru->bytes);
    *out = stats;
}

void sg_lru_resize(struct sg_lru *lru, size_t max_entries, uint64_t max_bytes, uint64_t ttl_ms)
{
    atomic_store(&lru->max_entries, max_entries > 0 ? max_entries : 1);
    atomic_store(&lru->max_bytes, max_bytes);
    atomic_store(&lru->ttl_ms, ttl_ms);
    /* One from each shard in turn, so that no shard pays for all. */
    while (is_over(lru)) {
        for (unsigned i = 0; i < lru->n_shards && is_over(lru); i++) {
            struct shard *s = &lru->shards[i];
            struct entry *dead = NULL;
            pthread_mutex_lock(&s->lock);
            if (s->oldest != NULL) {
                kill_entry(lru, s, s->oldest, &dead);
                s->evictions++;
            }
            pthread_mutex_unlock(&s->lock);
            bury(lru, dead);
        }
    }
}
