/* Memory of computed content with single flight: one miss is computed once however many ask, and nobody blocks while waiting. Values are struct sg_buf. Thread-safe.
 * Also the namespaces of cache.* for other objects. */
#ifndef STREAMGATE_LAYERS_CONTENT_CACHE_H
#define STREAMGATE_LAYERS_CONTENT_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/buf.h"
#include "streamgate/base/config.h"
#include "streamgate/base/error.h"
#include "streamgate/base/lru.h"

enum sg_cache_ns { SG_CACHE_DEFAULT, SG_CACHE_UPLOAD, SG_CACHE_STREAMING, SG_CACHE_METADATA, SG_CACHE_NS_COUNT };

/* One sg_lru with the bounds of its namespace and its metrics (CACHE_* by namespace, published by tick). */
struct sg_cache;
struct sg_cache_params { enum sg_cache_ns ns; void *(*ref)(void *); void (*unref)(void *); };
enum sg_error sg_cache_create(const struct sg_config *config, const struct sg_cache_params *params, struct sg_cache **out) SG_NODISCARD;
void sg_cache_destroy(struct sg_cache **c);
void sg_cache_configure(struct sg_cache *c, const struct sg_config *config);
struct sg_lru *sg_cache_lru(struct sg_cache *c); /* get and put count hits and misses there */
void sg_cache_tick(struct sg_cache *c, bool sweep); /* publishes metrics; sweep: drops expired entries (each minute) */

/* ---- single flight over the streaming namespace ---- */
struct sg_content_cache;

/* Lives in the waiting request; untouched by its owner until called. */
struct sg_waiter {
    void (*wake)(void *arg, enum sg_error err, struct sg_buf *buf); /* buf: a reference given away, NULL unless SG_OK; called without a lock, on the filling thread, or on the caller's own */
    void *arg;
    struct sg_waiter *next;
};
enum sg_content_state {
    SG_CONTENT_HIT,   /* *out holds a reference */
    SG_CONTENT_WAIT,  /* someone builds it: the waiter will be woken exactly once */
    SG_CONTENT_LEAD,  /* the caller must build it and call sg_content_fill with the same key, on success and on failure; its waiter is woken too */
    SG_CONTENT_FULL   /* no memory to wait: answer NO_MEMORY */
};
enum sg_error sg_content_cache_create(const struct sg_config *config, struct sg_content_cache **out) SG_NODISCARD;
void sg_content_cache_destroy(struct sg_content_cache **c); /* nobody may be waiting */
struct sg_cache *sg_content_cache_base(struct sg_content_cache *c);
enum sg_content_state sg_content_get(struct sg_content_cache *c, const void *key, size_t key_len, struct sg_waiter *waiter, struct sg_buf **out);
/* Only looks. NULL when absent. Counts a hit, but no miss: who goes on to build asks get, or fills without a flight. */
struct sg_buf *sg_content_peek(struct sg_content_cache *c, const void *key, size_t key_len);
/* buf stays the caller's; NULL unless err is SG_OK. Without a flight of that key it only stores, and counts a miss. */
void sg_content_fill(struct sg_content_cache *c, const void *key, size_t key_len, enum sg_error err, struct sg_buf *buf);
/* Forgets everything with the prefix, and keeps what is being built under it now from being stored (it still answers its waiters). */
void sg_content_invalidate(struct sg_content_cache *c, const void *prefix, size_t prefix_len);

#endif
