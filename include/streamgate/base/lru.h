/* Sharded, byte- and entry-bounded LRU with TTL over reference-counted values. Thread-safe; one lock a shard; a value may be
 * in use after its entry is evicted. Overhead under 200 bytes an entry (excluding key and value bytes). Keys are hashed with
 * sg_siphash and compared whole. */
#ifndef STREAMGATE_BASE_LRU_H
#define STREAMGATE_BASE_LRU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"

struct sg_lru;

struct sg_lru_params {
    size_t max_entries;            /* over all shards; > 0 */
    uint64_t max_bytes;            /* sum of the sizes given to put; 0: unbounded */
    uint64_t ttl_ms;               /* 0: no expiry */
    unsigned shards;               /* power of two; 0: 16 */
    void *(*ref)(void *value);     /* takes one reference, returns value; called under the shard lock: must be quick */
    void (*unref)(void *value);    /* called without any lock */
};

struct sg_lru_stats {
    uint64_t hits, misses, evictions, expirations, entries, bytes;
};

enum sg_error sg_lru_create(const struct sg_lru_params *params, struct sg_lru **out) SG_NODISCARD;
void sg_lru_destroy(struct sg_lru **lru);
/* A reference the caller must drop, or NULL. */
void *sg_lru_get(struct sg_lru *lru, const void *key, size_t key_len);
/* Takes its own reference to value. Replaces. bytes: what the entry weighs; an entry heavier than half of max_bytes is not
 * kept (SG_OK all the same). Errors: NO_MEMORY. */
enum sg_error sg_lru_put(struct sg_lru *lru, const void *key, size_t key_len, void *value, uint64_t bytes) SG_NODISCARD;
bool sg_lru_remove(struct sg_lru *lru, const void *key, size_t key_len);
/* Removes every entry whose key starts with prefix (a scan of all shards); returns how many. */
size_t sg_lru_remove_prefix(struct sg_lru *lru, const void *prefix, size_t prefix_len);
void sg_lru_clear(struct sg_lru *lru);
size_t sg_lru_sweep(struct sg_lru *lru); /* drops expired entries; returns how many */
void sg_lru_stats(struct sg_lru *lru, struct sg_lru_stats *out);
/* New bounds at run time (SIGHUP); evicts as needed. */
void sg_lru_resize(struct sg_lru *lru, size_t max_entries, uint64_t max_bytes, uint64_t ttl_ms);

#endif
