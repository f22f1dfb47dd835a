/* The namespaces of cache.*: an LRU each with the bounds of its setting and the metrics of its
 * name. */
#include <stdlib.h>

#include "streamgate/base/metrics.h"

#include "cache_private.h"

struct sg_cache {
    struct sg_lru *lru;
    enum sg_cache_ns ns;
    struct sg_cache_series series;
    bool counted_outside; /* hits and misses */
};

struct namespace_row {
    const char *labels;
    enum sg_setting setting;
};

static const struct namespace_row namespaces[SG_CACHE_NS_COUNT] = {
    [SG_CACHE_DEFAULT] = {"namespace=\"default\"", SG_SET_cache_default},
    [SG_CACHE_UPLOAD] = {"namespace=\"upload\"", SG_SET_cache_upload},
    [SG_CACHE_STREAMING] = {"namespace=\"streaming\"", SG_SET_cache_streaming},
    [SG_CACHE_METADATA] = {"namespace=\"metadata\"", SG_SET_cache_metadata},
};

/* No entries at all means nothing is kept: the LRU wants room for one, so the one is given no
 * weight to carry. */
static struct sg_cache_bounds bounds_of(const struct sg_config *config, enum sg_cache_ns ns)
{
    struct sg_cache_bounds b = sg_config_cache(config, namespaces[ns].setting);
    if (b.entries == 0) {
        b.entries = 1;
        b.bytes = 1;
    }
    return b;
}

static enum sg_error define_series(enum sg_cache_ns ns, struct sg_cache_series *out)
{
    const struct {
        enum sg_metric metric;
        uint32_t *series;
    } rows[] = {
        {SG_METRIC_CACHE_HIT, &out->hit},           {SG_METRIC_CACHE_MISS, &out->miss},
        {SG_METRIC_CACHE_EVICTION, &out->eviction}, {SG_METRIC_CACHE_SIZE, &out->size},
        {SG_METRIC_CACHE_ENTRIES, &out->entries},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        enum sg_error err = sg_metric_define(rows[i].metric, namespaces[ns].labels, rows[i].series);
        if (err != SG_OK)
            return err;
    }
    return SG_OK;
}

enum sg_error sg_cache_create(const struct sg_config *config, const struct sg_cache_params *params,
                              struct sg_cache **out)
{
    enum sg_error err = SG_ERR_NO_MEMORY;
    struct sg_cache *c = calloc(1, sizeof *c);
    if (c == NULL)
        return SG_ERR_NO_MEMORY;
    c->ns = params->ns;
    struct sg_cache_bounds b = bounds_of(config, c->ns);
    const struct sg_lru_params lru = {
        .max_entries = b.entries,
        .max_bytes = b.bytes,
        .ttl_ms = b.ttl_ms,
        .ref = params->ref,
        .unref = params->unref,
    };
    err = sg_lru_create(&lru, &c->lru);
    if (err != SG_OK)
        goto out;
    err = define_series(c->ns, &c->series);
    if (err != SG_OK)
        goto out;
    *out = c;
    c = NULL;
out:
    sg_cache_destroy(&c);
    return err;
}

void sg_cache_destroy(struct sg_cache **c)
{
    if (c == NULL || *c == NULL)
        return;
    sg_lru_destroy(&(*c)->lru);
    free(*c);
    *c = NULL;
}

void sg_cache_configure(struct sg_cache *c, const struct sg_config *config)
{
    struct sg_cache_bounds b = bounds_of(config, c->ns);
    sg_lru_resize(c->lru, b.entries, b.bytes, b.ttl_ms);
}

struct sg_lru *sg_cache_lru(struct sg_cache *c)
{
    return c->lru;
}

void sg_cache_count_outside(struct sg_cache *c, struct sg_cache_series *out)
{
    c->counted_outside = true;
    *out = c->series;
}

void sg_cache_tick(struct sg_cache *c, bool sweep)
{
    if (sweep)
        (void)sg_lru_sweep(c->lru);
    struct sg_lru_stats stats;
    sg_lru_stats(c->lru, &stats);
    if (!c->counted_outside) {
        sg_metric_counter_set(SG_METRIC_CACHE_HIT, c->series.hit, (double)stats.hits);
        sg_metric_counter_set(SG_METRIC_CACHE_MISS, c->series.miss, (double)stats.misses);
    }
    sg_metric_counter_set(SG_METRIC_CACHE_EVICTION, c->series.eviction, (double)stats.evictions);
    sg_metric_gauge_set(SG_METRIC_CACHE_SIZE, c->series.size, (double)stats.bytes);
    sg_metric_gauge_set(SG_METRIC_CACHE_ENTRIES, c->series.entries, (double)stats.entries);
}
