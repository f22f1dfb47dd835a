/* What the content cache shares with the namespaces it builds on. */
#ifndef STREAMGATE_LAYERS_CACHE_PRIVATE_H
#define STREAMGATE_LAYERS_CACHE_PRIVATE_H

#include <stdint.h>

#include "streamgate/layers/content_cache.h"

struct sg_cache_series {
    uint32_t hit, miss, eviction, size, entries;
};

/* From now on hits and misses are counted by the caller on these series: one lookup of a single
 * flight may ask the LRU more than once, so the LRU's own counts would say too much. Before a
 * second thread exists. */
void sg_cache_count_outside(struct sg_cache *c, struct sg_cache_series *out);

#endif
