/* Who is asking: API keys, remembered.
 *
 * The memory is an LRU keyed by the first 16 characters of the key's secret part, whose entries
 * hold a keyed hash of the rest: a hit costs two short SipHashes and no SHA-256, the whole key is
 * never kept, and the comparison of the rest is in constant time. (To pass without the key one must
 * guess 60 bits beyond the public prefix and a 64-bit keyed hash, online.) Keys the database does
 * not know are remembered for 5 s by their SHA-256.
 *
 * Every entry carries the epoch in which its row was read; forgetting is a new epoch, so a row read
 * before a revocation and stored after it is never believed. */
#include "streamgate/layers/identity.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/crypto.h"
#include "streamgate/base/log.h"
#include "streamgate/base/lru.h"

#define KEY_LEN (SG_KEY_SIZE - 1)
#define KEY_MARK "sgk_"
#define MARK_LEN 4
#define LOOKUP_LEN 16 /* characters of the secret part that find the entry */
#define REST_AT (MARK_LEN + LOOKUP_LEN)
#define KNOWN_MAX 10000
#define KNOWN_TTL_MS (5 * 60 * 1000)
#define UNKNOWN_MAX 4096
#define UNKNOWN_TTL_MS (5 * 1000)
#define TOUCH_INTERVAL_MS (60 * 1000)
#define TOUCHES_MAX 1024

struct entry {
    _Atomic uint32_t refs;
    _Atomic uint32_t round; /* the round in which its use was last noted */
    uint64_t epoch;
    uint64_t rest_hash;
    uint64_t expires_ms; /* 0: never */
    struct sg_identity identity;
};

struct touch {
    char key_id[SG_ULID_SIZE];
    uint64_t used_ms;
};

struct touches {
    struct touch at[TOUCHES_MAX];
    size_t n;
};

struct sg_identity_layer {
    struct sg_db *db;
    struct sg_lru *known;   /* struct entry by the head of the key */
    struct sg_lru *unknown; /* struct entry by SHA-256 of the key */
    _Atomic uint64_t epoch;
    _Atomic uint32_t round; /* a new one each minute: a key's use is noted once in each */
    pthread_mutex_t lock;   /* guards touches */
    bool has_lock;
    struct touches *touches;
    /* The rest belongs to the ticking thread. */
    struct touches *writing;
    uint64_t generation;
    bool has_generation;
    uint64_t round_began_ms;
};

static void *entry_ref(void *value)
{
    struct entry *e = value;
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    return e;
}

static void entry_unref(void *value)
{
    struct entry *e = value;
    if (e != NULL && atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1)
        free(e);
}

static enum sg_error make_memory(size_t entries, uint64_t ttl_ms, struct sg_lru **out)
{
    const struct sg_lru_params params = {
        .max_entries = entries, .ttl_ms = ttl_ms, .ref = entry_ref, .unref = entry_unref};
    return sg_lru_create(&params, out);
}

enum sg_error sg_identity_create(const struct sg_identity_params *params,
                                 struct sg_identity_layer **out)
{
    enum sg_error err = SG_ERR_NO_MEMORY;
    struct sg_identity_layer *l = calloc(1, sizeof *l);
    if (l == NULL)
        return SG_ERR_NO_MEMORY;
    l->db = params->db;
    atomic_store(&l->epoch, 1);
    atomic_store(&l->round, 1);
    l->round_began_ms = sg_clock_mono_ms();
    l->touches = calloc(1, sizeof *l->touches);
    l->writing = calloc(1, sizeof *l->writing);
    if (l->touches == NULL || l->writing == NULL || pthread_mutex_init(&l->lock, NULL) != 0)
        goto out;
    l->has_lock = true;
    err = make_memory(KNOWN_MAX, KNOWN_TTL_MS, &l->known);
    if (err != SG_OK)
        goto out;
    err = make_memory(UNKNOWN_MAX, UNKNOWN_TTL_MS, &l->unknown);
    if (err != SG_OK)
        goto out;
    *out = l;
    l = NULL;
out:
    sg_identity_destroy(&l);
    return err;
}

void sg_identity_destroy(struct sg_identity_layer **l)
{
    if (l == NULL || *l == NULL)
        return;
    sg_lru_destroy(&(*l)->known);
    sg_lru_destroy(&(*l)->unknown);
    if ((*l)->has_lock)
        pthread_mutex_destroy(&(*l)->lock);
    free((*l)->touches);
    free((*l)->writing);
    free(*l);
    *l = NULL;
}

static uint64_t hash_rest(const char *token)
{
    return sg_siphash(token + REST_AT, KEY_LEN - REST_AT);
}

static void note_use(struct sg_identity_layer *l, struct entry *e)
{
    uint32_t round = atomic_load_explicit(&l->round, memory_order_relaxed);
    if (atomic_load_explicit(&e->round, memory_order_relaxed) == round ||
        atomic_exchange_explicit(&e->round, round, memory_order_relaxed) == round)
        return;
    uint64_t now_ms = sg_clock_wall_ms();
    pthread_mutex_lock(&l->lock);
    if (l->touches->n < TOUCHES_MAX) {
        struct touch *t = &l->touches->at[l->touches->n++];
        memcpy(t->key_id, e->identity.key_id, sizeof t->key_id);
        t->used_ms = now_ms;
    }
    pthread_mutex_unlock(&l->lock);
}

static bool is_expired(uint64_t expires_ms)
{
    return expires_ms != 0 && sg_clock_wall_ms() >= expires_ms;
}

/* The answer of a remembered entry; NOT_FOUND when there is none worth believing. */
static enum sg_error recall(struct sg_identity_layer *l, const char *token, struct sg_identity *out)
{
    struct entry *e = sg_lru_get(l->known, token + MARK_LEN, LOOKUP_LEN);
    if (e == NULL)
        return SG_ERR_NOT_FOUND;
    enum sg_error err = SG_ERR_NOT_FOUND;
    uint64_t rest = hash_rest(token);
    if (e->epoch == atomic_load_explicit(&l->epoch, memory_order_acquire) &&
        (rest ^ e->rest_hash) == 0) { /* one word: no time to tell where it differs */
        err = is_expired(e->expires_ms) ? SG_ERR_UNAUTHENTICATED : SG_OK;
        if (err == SG_OK) {
            note_use(l, e);
            *out = e->identity;
        }
    }
    entry_unref(e);
    return err;
}

static bool known_absent(struct sg_identity_layer *l, const uint8_t hash[SG_SHA256_LEN])
{
    struct entry *e = sg_lru_get(l->unknown, hash, SG_SHA256_LEN);
    bool absent = e != NULL && e->epoch == atomic_load_explicit(&l->epoch, memory_order_acquire);
    entry_unref(e);
    return absent;
}

struct lookup {
    const uint8_t *hash;
    struct sg_key key;
};

static enum sg_error find_key(struct sg_db_conn *c, void *arg)
{
    struct lookup *look = arg;
    return sg_key_find(c, look->hash, &look->key);
}

/* A memory that could not grow only makes the next request slower. */
static void remember(struct sg_lru *memory, const void *key, size_t key_len, struct entry *e)
{
    enum sg_error kept = sg_lru_put(memory, key, key_len, e, sizeof *e);
    (void)kept;
}

static struct entry *make_entry(uint64_t epoch)
{
    struct entry *e = calloc(1, sizeof *e);
    if (e != NULL) {
        atomic_store_explicit(&e->refs, 1, memory_order_relaxed);
        e->epoch = epoch;
    }
    return e;
}

static enum sg_error refuse(struct sg_identity_layer *l, uint64_t epoch,
                            const uint8_t hash[SG_SHA256_LEN])
{
    struct entry *e = make_entry(epoch);
    if (e != NULL)
        remember(l->unknown, hash, SG_SHA256_LEN, e);
    entry_unref(e);
    return SG_ERR_UNAUTHENTICATED;
}

static enum sg_error read_through(struct sg_identity_layer *l, const char *token,
                                  const uint8_t hash[SG_SHA256_LEN], struct sg_identity *out)
{
    uint64_t epoch = atomic_load_explicit(&l->epoch, memory_order_acquire);
    struct lookup look = {.hash = hash};
    enum sg_error err = sg_db_read(l->db, find_key, &look);
    if (err == SG_ERR_NOT_FOUND)
        return refuse(l, epoch, hash);
    if (err != SG_OK)
        return err;
    const struct sg_key *k = &look.key;
    if (k->revoked_ms != 0 || is_expired(k->expires_ms))
        return refuse(l, epoch, hash);

    struct entry *e = make_entry(epoch);
    if (e == NULL)
        return SG_ERR_NO_MEMORY;
    e->rest_hash = hash_rest(token);
    e->expires_ms = k->expires_ms;
    e->identity.role = k->role;
    memcpy(e->identity.user_id, k->user_id, sizeof e->identity.user_id);
    memcpy(e->identity.user_name, k->user_name, sizeof e->identity.user_name);
    memcpy(e->identity.key_id, k->id, sizeof e->identity.key_id);
    /* Written down less than a minute ago (before the memory forgot it): not again in this round.
     */
    bool fresh = sg_clock_wall_ms() < k->last_used_ms + TOUCH_INTERVAL_MS;
    atomic_store(&e->round, fresh ? atomic_load(&l->round) : 0);
    note_use(l, e);
    *out = e->identity;
    remember(l->known, token + MARK_LEN, LOOKUP_LEN, e);
    entry_unref(e);
    return SG_OK;
}

static bool is_base64url(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_'))
            return false;
    }
    return true;
}

enum sg_error sg_identity_bearer(struct sg_identity_layer *l, const char *token, size_t len,
                                 bool may_block, struct sg_identity *out)
{
    if (len != KEY_LEN || memcmp(token, KEY_MARK, MARK_LEN) != 0)
        return SG_ERR_UNAUTHENTICATED;
    enum sg_error err = recall(l, token, out);
    if (err != SG_ERR_NOT_FOUND)
        return err;
    if (!is_base64url(token + MARK_LEN, KEY_LEN - MARK_LEN))
        return SG_ERR_UNAUTHENTICATED;
    uint8_t hash[SG_SHA256_LEN];
    err = sg_sha256_once(token, len, hash);
    if (err != SG_OK)
        return err;
    if (known_absent(l, hash))
        return SG_ERR_UNAUTHENTICATED;
    return may_block ? read_through(l, token, hash, out) : SG_ERR_WOULD_BLOCK;
}

void sg_identity_forget(struct sg_identity_layer *l)
{
    atomic_fetch_add_explicit(&l->epoch, 1, memory_order_acq_rel);
    sg_lru_clear(l->known);
    sg_lru_clear(l->unknown);
}

static enum sg_error write_touches(struct sg_db_conn *c, void *arg)
{
    const struct touches *t = arg;
    for (size_t i = 0; i < t->n; i++) {
        enum sg_error err = sg_key_touch(c, t->at[i].key_id, t->at[i].used_ms);
        if (err != SG_OK && err != SG_ERR_NOT_FOUND)
            return err;
    }
    return SG_OK;
}

static void flush_touches(struct sg_identity_layer *l)
{
    pthread_mutex_lock(&l->lock);
    struct touches *full = l->touches;
    l->touches = l->writing;
    pthread_mutex_unlock(&l->lock);
    l->writing = full;
    if (full->n == 0)
        return;
    enum sg_error err = sg_db_write(l->db, write_touches, full);
    full->n = 0;
    if (err != SG_OK)
        sg_warn_log("identity", "last-used times not written: %s", sg_error_title(err));
}

void sg_identity_tick(struct sg_identity_layer *l)
{
    uint64_t now_ms = sg_clock_mono_ms();
    if (now_ms - l->round_began_ms >= TOUCH_INTERVAL_MS) {
        l->round_began_ms = now_ms;
        atomic_fetch_add_explicit(&l->round, 1, memory_order_relaxed);
    }
    flush_touches(l);
    uint64_t generation;
    enum sg_error err = sg_db_identity_generation(l->db, &generation);
    /* What cannot be checked is not believed: better a database read that fails than a revoked key
     * that works. */
    if (err != SG_OK || (l->has_generation && generation != l->generation))
        sg_identity_forget(l);
    if (err == SG_OK) {
        /* Keys read before the first look belong to an unknown generation. */
        if (!l->has_generation)
            sg_identity_forget(l);
        l->generation = generation;
        l->has_generation = true;
    }
}
