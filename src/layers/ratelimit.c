/* Token buckets for millions of identifiers.
 *
 * 256 shards, each a table of groups of eight 32-byte buckets. A key (identifier, policy, scope)
 * lives in one of two groups its keyed hash names, in the emptier one at insertion; nothing is ever
 * removed, so a group fills from the front and a search ends at the first empty slot. A table with
 * no room grows by a quarter until it reaches its share of ratelimit.max_identifiers; after that a
 * newcomer takes the place of the fullest bucket of its two groups. With the growth by a quarter a
 * table is never much under 60 % full: under 64 bytes an identifier.
 *
 * A bucket counts millionths of a token: microseconds times tokens a second are exactly that, so
 * refilling needs no division and loses nothing. The time since the last refill is cut to what
 * fills a bucket before it is multiplied, so no product passes 1e15 + 1e9. */
#include "streamgate/layers/ratelimit.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/crypto.h"
#include "streamgate/base/metrics.h"

#define SHARDS 256u
#define GROUP 8u
#define SCOPES 2u
#define MICRO UINT64_C(1000000)
#define TIME_MASK ((UINT64_C(1) << 56) - 1)
#define SPINS_BEFORE_YIELD 64u

struct bucket {
    uint64_t id[2];
    uint64_t stamp; /* tag << 56 | microseconds of the last refill; tag 0: empty */
    uint64_t micro; /* millionths of a token */
};

struct group {
    struct bucket b[GROUP];
};

struct shard {
    /* Guards the rest. A spin lock: the section is some tens of instructions, except the rare
     * growth of one table. */
    atomic_flag lock;
    uint32_t n_groups;
    uint32_t max_groups;
    uint64_t used;
    struct group *groups;
} __attribute__((aligned(64)));

struct sg_ratelimit {
    struct shard shards[SHARDS];
    _Atomic uint64_t
        rates[SG_LIMIT_COUNT]; /* capacity << 32 | refill per second: read in one piece */
    atomic_bool enabled;
    uint64_t secrets[4];
    uint32_t series[SG_LIMIT_COUNT][SCOPES];
};

struct key {
    uint64_t id[2];
    uint64_t tag;
};

struct rate {
    uint64_t capacity, refill;
    uint64_t full_micro; /* a full bucket */
    uint64_t fill_us;    /* from empty to full */
};

static const char *const policy_names[SG_LIMIT_COUNT] = {
    [SG_LIMIT_DEFAULT] = "default",     [SG_LIMIT_UPLOAD] = "upload",
    [SG_LIMIT_STREAMING] = "streaming", [SG_LIMIT_METADATA] = "metadata",
    [SG_LIMIT_CACHE] = "cache",         [SG_LIMIT_AUTH] = "auth",
};

static const enum sg_setting policy_settings[SG_LIMIT_COUNT] = {
    [SG_LIMIT_DEFAULT] = SG_SET_ratelimit_default,
    [SG_LIMIT_UPLOAD] = SG_SET_ratelimit_upload,
    [SG_LIMIT_STREAMING] = SG_SET_ratelimit_streaming,
    [SG_LIMIT_METADATA] = SG_SET_ratelimit_metadata,
    [SG_LIMIT_CACHE] = SG_SET_ratelimit_cache,
    [SG_LIMIT_AUTH] = SG_SET_ratelimit_auth,
};

static const char *const scope_names[SCOPES] = {[SG_SCOPE_IP] = "ip", [SG_SCOPE_USER] = "user"};

const char *sg_limit_policy_name(enum sg_limit_policy p)
{
    return (unsigned)p < SG_LIMIT_COUNT ? policy_names[p] : "unknown";
}

static void shard_lock(struct shard *s)
{
    unsigned spins = 0;
    while (atomic_flag_test_and_set_explicit(&s->lock, memory_order_acquire)) {
        if (++spins % SPINS_BEFORE_YIELD == 0)
            sched_yield();
    }
}

static void shard_unlock(struct shard *s)
{
    atomic_flag_clear_explicit(&s->lock, memory_order_release);
}

static struct key make_key(enum sg_limit_policy p, enum sg_limit_scope scope, const uint8_t id[16])
{
    struct key k = {.tag = (uint64_t)p * SCOPES + (uint64_t)scope + 1};
    memcpy(k.id, id, sizeof k.id);
    return k;
}

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Two folded multiplications under secrets of this instance, a fifth of a SipHash. The hash is
 * never seen outside, and all a collision could win is that the fullest of sixteen buckets is
 * forgotten. */
static uint64_t hash_key(const struct sg_ratelimit *rl, const uint64_t id[2], uint64_t tag)
{
    uint64_t first = fold(id[0] ^ rl->secrets[0], id[1] ^ rl->secrets[1]);
    return fold(first ^ rl->secrets[2], tag ^ rl->secrets[3]);
}

static struct rate load_rate(struct sg_ratelimit *rl, unsigned policy)
{
    uint64_t packed = atomic_load_explicit(&rl->rates[policy], memory_order_relaxed);
    struct rate r = {.capacity = packed >> 32, .refill = packed & UINT32_MAX};
    r.full_micro = r.capacity * MICRO;
    r.fill_us = r.full_micro / r.refill + 1;
    return r;
}

/* What the bucket holds at now_us. */
static uint64_t level_at(const struct bucket *b, const struct rate *r, uint64_t now_us)
{
    uint64_t then = b->stamp & TIME_MASK;
    uint64_t elapsed = now_us > then ? now_us - then : 0;
    if (elapsed >= r->fill_us)
        return r->full_micro;
    uint64_t level = b->micro + elapsed * r->refill;
    return level < r->full_micro ? level : r->full_micro;
}

static struct group *first_group(const struct shard *s, uint64_t hash)
{
    return &s->groups[((hash >> 32) * s->n_groups) >> 32];
}

static struct group *second_group(const struct shard *s, uint64_t hash)
{
    uint64_t mixed = (hash * UINT64_C(0x9e3779b97f4a7c15)) >> 32;
    struct group *g = &s->groups[(mixed * s->n_groups) >> 32];
    if (g != first_group(s, hash))
        return g;
    return ++g == s->groups + s->n_groups ? s->groups : g;
}

/* The key's bucket in g, or NULL with *used the number of leading slots taken. */
static struct bucket *group_find(struct group *g, const struct key *k, unsigned *used)
{
    unsigned i = 0;
    for (; i < GROUP && g->b[i].stamp != 0; i++) {
        struct bucket *b = &g->b[i];
        if (b->id[0] == k->id[0] && b->id[1] == k->id[1] && b->stamp >> 56 == k->tag)
            return b;
    }
    *used = i;
    return NULL;
}

/* Share of itself a bucket holds, as a fraction of 2^16. */
static uint64_t fullness(struct sg_ratelimit *rl, const struct bucket *b, uint64_t now_us)
{
    struct rate r = load_rate(rl, (unsigned)((b->stamp >> 56) - 1) / SCOPES);
    return (level_at(b, &r, now_us) >> 4) * 65536 / ((r.full_micro >> 4) + 1);
}

static struct bucket *fullest(struct sg_ratelimit *rl, struct group *first, struct group *second,
                              uint64_t now_us)
{
    struct bucket *best = NULL;
    uint64_t best_share = 0;
    for (unsigned i = 0; i < 2 * GROUP; i++) {
        struct bucket *b = i < GROUP ? &first->b[i] : &second->b[i - GROUP];
        uint64_t share = fullness(rl, b, now_us);
        if (best == NULL || share > best_share) {
            best = b;
            best_share = share;
        }
    }
    return best;
}

/* A slot for a key that is in neither group: an empty one, or NULL. */
static struct bucket *empty_slot(struct group *first, unsigned used1, struct group *second,
                                 unsigned used2)
{
    if (used1 == GROUP && used2 == GROUP)
        return NULL;
    return used1 <= used2 ? &first->b[used1] : &second->b[used2];
}

static unsigned group_used(const struct group *g)
{
    unsigned i = 0;
    while (i < GROUP && g->b[i].stamp != 0)
        i++;
    return i;
}

/* Moves every bucket into a table a quarter larger. False when there is no memory or the shard has
 * its share already. */
static bool shard_grow(struct sg_ratelimit *rl, struct shard *s, uint64_t now_us)
{
    if (s->n_groups >= s->max_groups)
        return false;
    uint32_t wanted = s->n_groups + s->n_groups / 4 + 1;
    struct shard grown = {.n_groups = wanted < s->max_groups ? wanted : s->max_groups};
    grown.groups = aligned_alloc(64, grown.n_groups * sizeof *grown.groups);
    if (grown.groups == NULL)
        return false;
    memset(grown.groups, 0, grown.n_groups * sizeof *grown.groups);
    for (uint32_t i = 0; i < s->n_groups * GROUP; i++) {
        const struct bucket *b = &s->groups[i / GROUP].b[i % GROUP];
        if (b->stamp == 0)
            continue;
        uint64_t hash = hash_key(rl, b->id, b->stamp >> 56);
        struct group *first = first_group(&grown, hash);
        struct group *second = second_group(&grown, hash);
        struct bucket *slot = empty_slot(first, group_used(first), second, group_used(second));
        if (slot == NULL)
            slot = fullest(rl, first, second, now_us);
        else
            grown.used++;
        *slot = *b;
    }
    free(s->groups);
    s->groups = grown.groups;
    s->n_groups = grown.n_groups;
    s->used = grown.used;
    return true;
}

/* The key's bucket, made full when it is new. Never NULL: when nothing grows the fullest of its
 * groups gives way. */
static struct bucket *shard_bucket(struct sg_ratelimit *rl, struct shard *s, const struct key *k,
                                   uint64_t hash, uint64_t now_us)
{
    for (;;) {
        struct group *first = first_group(s, hash);
        unsigned used1;
        unsigned used2;
        struct bucket *b = group_find(first, k, &used1);
        if (b != NULL)
            return b;
        struct group *second = second_group(s, hash);
        b = group_find(second, k, &used2);
        if (b != NULL)
            return b;
        b = empty_slot(first, used1, second, used2);
        if (b == NULL && shard_grow(rl, s, now_us))
            continue;
        if (b == NULL)
            b = fullest(rl, first, second, now_us);
        else
            s->used++;
        struct rate r = load_rate(rl, (unsigned)(k->tag - 1) / SCOPES);
        *b = (struct bucket){.id = {k->id[0], k->id[1]},
                             .stamp = k->tag << 56 | (now_us & TIME_MASK),
                             .micro = r.full_micro};
        return b;
    }
}

static uint64_t now_micros(void)
{
    return sg_clock_mono_ns() / 1000;
}

/* Takes up to want_micro (all or nothing when whole), returns what was there before. */
static uint64_t draw(struct sg_ratelimit *rl, const struct key *k, const struct rate *r,
                     uint64_t want_micro, bool whole)
{
    uint64_t now_us = now_micros();
    uint64_t hash = hash_key(rl, k->id, k->tag);
    struct shard *s = &rl->shards[hash % SHARDS];
    shard_lock(s);
    struct bucket *b = shard_bucket(rl, s, k, hash, now_us);
    uint64_t level = level_at(b, r, now_us);
    uint64_t taken = level >= want_micro ? want_micro : (whole ? 0 : level);
    b->micro = level - taken;
    /* A thread whose clock reading is older than the stamp must not turn the stamp back: that would
     * refill twice. */
    if (now_us > (b->stamp & TIME_MASK))
        b->stamp = k->tag << 56 | (now_us & TIME_MASK);
    shard_unlock(s);
    return level;
}

void sg_ratelimit_take(struct sg_ratelimit *rl, enum sg_limit_policy p, enum sg_limit_scope scope,
                       const uint8_t id[16], struct sg_limit_verdict *out)
{
    struct key k = make_key(p, scope, id);
    struct rate r = load_rate(rl, p);
    uint64_t level = draw(rl, &k, &r, MICRO, true);
    bool had = level >= MICRO;
    uint64_t left = had ? level - MICRO : level;
    bool allowed = had || !atomic_load_explicit(&rl->enabled, memory_order_relaxed);
    if (!allowed)
        sg_metric_add(SG_METRIC_RATE_LIMIT_EXCEEDED, rl->series[p][scope], 1);
    uint64_t reset_us = (r.full_micro - left + r.refill - 1) / r.refill;
    uint64_t retry_us = allowed ? 0 : (MICRO - left + r.refill - 1) / r.refill;
    *out = (struct sg_limit_verdict){
        .allowed = allowed,
        .limit = r.capacity,
        .remaining = left / MICRO,
        .reset_ms = (reset_us + 999) / 1000,
        .retry_after_ms = (retry_us + 999) / 1000,
    };
}

void sg_ratelimit_charge(struct sg_ratelimit *rl, enum sg_limit_policy p, enum sg_limit_scope scope,
                         const uint8_t id[16], unsigned cost)
{
    struct key k = make_key(p, scope, id);
    struct rate r = load_rate(rl, p);
    (void)draw(rl, &k, &r, (uint64_t)cost * MICRO, false);
}

bool sg_ratelimit_peek(struct sg_ratelimit *rl, enum sg_limit_policy p, enum sg_limit_scope scope,
                       const uint8_t id[16])
{
    if (!atomic_load_explicit(&rl->enabled, memory_order_relaxed))
        return true;
    struct key k = make_key(p, scope, id);
    struct rate r = load_rate(rl, p);
    uint64_t now_us = now_micros();
    uint64_t hash = hash_key(rl, k.id, k.tag);
    struct shard *s = &rl->shards[hash % SHARDS];
    unsigned used;
    shard_lock(s);
    const struct bucket *b = group_find(first_group(s, hash), &k, &used);
    if (b == NULL)
        b = group_find(second_group(s, hash), &k, &used);
    bool allowed = b == NULL || level_at(b, &r, now_us) >= MICRO;
    shard_unlock(s);
    return allowed;
}

uint64_t sg_ratelimit_identifiers(struct sg_ratelimit *rl)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < SHARDS; i++) {
        shard_lock(&rl->shards[i]);
        n += rl->shards[i].used;
        shard_unlock(&rl->shards[i]);
    }
    return n;
}

static uint64_t at_least_one(uint64_t v)
{
    if (v == 0)
        return 1;
    return v < UINT32_MAX ? v : UINT32_MAX;
}

void sg_ratelimit_configure(struct sg_ratelimit *rl, const struct sg_config *config)
{
    for (unsigned p = 0; p < SG_LIMIT_COUNT; p++) {
        struct sg_rate rate = sg_config_rate(config, policy_settings[p]);
        uint64_t packed = at_least_one(rate.capacity) << 32 | at_least_one(rate.refill_per_s);
        atomic_store_explicit(&rl->rates[p], packed, memory_order_relaxed);
    }
    atomic_store_explicit(&rl->enabled, sg_config_bool(config, SG_SET_ratelimit_enabled),
                          memory_order_relaxed);
}

static enum sg_error define_series(struct sg_ratelimit *rl)
{
    for (unsigned p = 0; p < SG_LIMIT_COUNT; p++) {
        for (unsigned s = 0; s < SCOPES; s++) {
            char labels[64];
            (void)snprintf(labels, sizeof labels, "policy=\"%s\",scope=\"%s\"", policy_names[p],
                           scope_names[s]);
            enum sg_error err =
                sg_metric_define(SG_METRIC_RATE_LIMIT_EXCEEDED, labels, &rl->series[p][s]);
            if (err != SG_OK)
                return err;
        }
    }
    return SG_OK;
}

enum sg_error sg_ratelimit_create(const struct sg_config *config, struct sg_ratelimit **out)
{
    enum sg_error err = SG_ERR_NO_MEMORY;
    struct sg_ratelimit *rl = aligned_alloc(64, sizeof *rl);
    if (rl == NULL)
        return SG_ERR_NO_MEMORY;
    memset(rl, 0, sizeof *rl);
    sg_random(rl->secrets, sizeof rl->secrets);
    /* A quarter more slots than identifiers: at 80 % full nearly every newcomer still finds an
     * empty slot. */
    uint64_t slots = sg_config_uint(config, SG_SET_ratelimit_max_identifiers) * 5 / 4;
    uint32_t max_groups = (uint32_t)((slots + SHARDS * GROUP - 1) / (SHARDS * GROUP));
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *s = &rl->shards[i];
        atomic_flag_clear(&s->lock);
        s->groups = aligned_alloc(64, sizeof *s->groups);
        if (s->groups == NULL)
            goto out;
        memset(s->groups, 0, sizeof *s->groups);
        s->n_groups = 1;
        s->max_groups = max_groups > 1 ? max_groups : 1;
    }
    err = define_series(rl);
    if (err != SG_OK)
        goto out;
    sg_ratelimit_configure(rl, config);
    *out = rl;
    rl = NULL;
out:
    sg_ratelimit_destroy(&rl);
    return err;
}

void sg_ratelimit_destroy(struct sg_ratelimit **rl)
{
    if (rl == NULL || *rl == NULL)
        return;
    for (unsigned i = 0; i < SHARDS; i++)
        free((*rl)->shards[i].groups);
    free(*rl);
    *rl = NULL;
}
