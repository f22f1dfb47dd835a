/* The memory of recent assets.
 *
 * Invariant: an entry in the cache is never older than the last acknowledged change. A load notes
 * the epoch before it reads the database and stores what it read only if no change was committed
 * since; changes raise the epoch and drop the entry under the same lock. Warming loads the same
 * way, so it may race with changes; it stops where something would have to go for it. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/metrics.h"
#include "streamgate/http/asset_view.h"

#define WARM_PAGE 100u

struct sg_asset_cache {
    struct sg_cache *cache;
    uint32_t warmed;      /* series of CACHE_WARMED */
    pthread_mutex_t lock; /* guards epoch, and puts against invalidations */
    uint64_t epoch;
};

static void *entry_ref(void *value)
{
    return sg_asset_entry_ref(value);
}

static void entry_unref(void *value)
{
    sg_asset_entry_unref(value);
}

enum sg_error sg_asset_cache_create(const struct sg_config *config, struct sg_asset_cache **out)
{
    struct sg_asset_cache *c = calloc(1, sizeof *c);
    if (c == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = sg_cache_create(
        config,
        &(struct sg_cache_params){.ns = SG_CACHE_METADATA, .ref = entry_ref, .unref = entry_unref},
        &c->cache);
    if (err == SG_OK)
        err = sg_metric_define(SG_METRIC_CACHE_WARMED, "namespace=\"metadata\"", &c->warmed);
    if (err != SG_OK) {
        sg_cache_destroy(&c->cache);
        free(c);
        return err;
    }
    pthread_mutex_init(&c->lock, NULL);
    *out = c;
    return SG_OK;
}

void sg_asset_cache_destroy(struct sg_asset_cache **c)
{
    if (c == NULL || *c == NULL)
        return;
    sg_cache_destroy(&(*c)->cache);
    pthread_mutex_destroy(&(*c)->lock);
    free(*c);
    *c = NULL;
}

struct sg_cache *sg_asset_cache_base(struct sg_asset_cache *c)
{
    return c->cache;
}

void sg_asset_cache_invalidate(struct sg_asset_cache *c, const char *id)
{
    pthread_mutex_lock(&c->lock);
    c->epoch++;
    sg_lru_remove(sg_cache_lru(c->cache), id, strlen(id));
    pthread_mutex_unlock(&c->lock);
}

struct load {
    const char *id;
    struct sg_asset *asset;
    struct sg_buf *index;
    struct sg_rendition_list renditions;
    struct sg_subtitle_list subtitles;
};

static enum sg_error load_rows(struct sg_db_conn *conn, void *arg)
{
    struct load *load = arg;
    enum sg_error err = sg_asset_get(conn, load->id, &load->asset);
    if (err != SG_OK)
        return err;
    err = sg_rendition_list(conn, load->id, &load->renditions);
    if (err == SG_OK)
        err = sg_subtitle_list(conn, load->id, &load->subtitles);
    if (err != SG_OK)
        return err;
    err = sg_asset_get_index(conn, load->id, &load->index);
    return err == SG_ERR_NOT_FOUND ? SG_OK : err;
}

static enum sg_error make_entry(struct load *load, struct sg_asset_entry **out)
{
    struct sg_media_index *index = NULL;
    enum sg_error err = SG_OK;
    if (load->index != NULL)
        err = sg_media_index_decode(load->index->data, load->index->len, &index);
    if (err == SG_OK)
        err = sg_asset_entry_create(load->asset, index, &load->renditions, &load->subtitles, out);
    sg_media_index_unref(index);
    return err;
}

/* An asset as the database has it now, and what it weighs. */
struct loaded {
    uint64_t epoch; /* before it was read */
    struct sg_asset_entry *entry;
    size_t weight;
};

static enum sg_error read_entry(struct sg_asset_cache *c, struct sg_db *db, const char *id,
                                struct loaded *out)
{
    struct loaded got = {0};
    pthread_mutex_lock(&c->lock);
    got.epoch = c->epoch;
    pthread_mutex_unlock(&c->lock);

    struct load load = {.id = id};
    enum sg_error err = sg_db_read(db, load_rows, &load);
    if (err == SG_OK)
        err = make_entry(&load, &got.entry);
    if (err == SG_OK) {
        got.weight = sg_asset_entry_weight(got.entry);
        *out = got;
    }
    sg_rendition_list_free(&load.renditions);
    sg_subtitle_list_free(&load.subtitles);
    sg_asset_unref(load.asset);
    sg_buf_unref(load.index);
    return err;
}

static enum sg_error read_through(struct sg_request *req, const char *id,
                                  struct sg_asset_entry **out)
{
    struct sg_asset_cache *c = req->svc->assets;
    struct loaded got;
    enum sg_error err = read_entry(c, req->svc->db, id, &got);
    if (err != SG_OK)
        return err;
    pthread_mutex_lock(&c->lock);
    if (c->epoch == got.epoch) /* not remembered when memory is short: the answer is good anyway */
        (void)!sg_lru_put(sg_cache_lru(c->cache), id, strlen(id), got.entry, got.weight);
    pthread_mutex_unlock(&c->lock);
    *out = got.entry;
    return SG_OK;
}

enum sg_error sg_asset_load(struct sg_request *req, const char *id, struct sg_asset_entry **out)
{
    struct sg_asset_entry *e = sg_lru_get(sg_cache_lru(req->svc->assets->cache), id, strlen(id));
    if (e != NULL) {
        *out = e;
        return SG_OK;
    }
    uint8_t ulid[16];
    if (sg_ulid_parse(id, ulid) != SG_OK)
        return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "there is no asset of this id");
    if (!req->may_block)
        return SG_ERR_WOULD_BLOCK;
    enum sg_error err = read_through(req, id, out);
    if (err == SG_ERR_NOT_FOUND)
        return sg_request_fail(req, err, NULL, "there is no asset of this id");
    return err;
}

/* ---- warming ---- */

struct warming {
    struct sg_services *svc;
    uint64_t left; /* of cache.warm */
    uint64_t kept;
    bool full;
    char *cursor; /* NULL: the first page */
    struct sg_asset_list page;
};

static enum sg_error list_page(struct sg_db_conn *conn, void *arg)
{
    struct warming *w = arg;
    const struct sg_asset_query query = {
        .status = SG_ASSET_READY,
        .sort = SG_SORT_UPDATED_DESC,
        .limit = w->left < WARM_PAGE ? (unsigned)w->left : WARM_PAGE,
        .cursor = w->cursor,
    };
    return sg_asset_list(conn, &query, &w->page);
}

/* All puts go through the lock, so what fits here still fits when it is put. */
static enum sg_error keep_warm(struct warming *w, const char *id, const struct loaded *got)
{
    struct sg_asset_cache *c = w->svc->assets;
    struct sg_lru *lru = sg_cache_lru(c->cache);
    struct sg_cache_bounds bounds =
        sg_config_cache(sg_services_config(w->svc), SG_SET_cache_metadata);
    /* What weighs more than half of all is never kept. */
    bool heavy = bounds.bytes > 0 && got->weight > bounds.bytes / 2;
    struct sg_lru_stats now;
    enum sg_error err = SG_OK;
    pthread_mutex_lock(&c->lock);
    sg_lru_stats(lru, &now);
    w->full = now.entries >= bounds.entries ||
              (bounds.bytes > 0 && !heavy &&
               (now.bytes >= bounds.bytes || got->weight > bounds.bytes - now.bytes));
    if (!w->full && !heavy && c->epoch == got->epoch) {
        err = sg_lru_put(lru, id, strlen(id), got->entry, got->weight);
        w->kept += err == SG_OK;
    }
    pthread_mutex_unlock(&c->lock);
    return err;
}

static bool is_over(const struct warming *w)
{
    return w->left == 0 || w->full || atomic_load(&w->svc->draining);
}

static enum sg_error warm_page(struct warming *w)
{
    enum sg_error err = sg_db_read(w->svc->db, list_page, w);
    for (size_t i = 0; err == SG_OK && i < w->page.n && !is_over(w); i++) {
        const char *id = w->page.items[i]->f.id;
        struct loaded got;
        w->left--;
        err = read_entry(w->svc->assets, w->svc->db, id, &got);
        /* Deleted since it was listed, or an index that cannot be read: not the others' business.
         */
        if (err == SG_ERR_NOT_FOUND || err == SG_ERR_MEDIA_WORKER) {
            err = SG_OK;
            continue;
        }
        if (err != SG_OK)
            break;
        err = keep_warm(w, id, &got);
        sg_asset_entry_unref(got.entry);
    }
    free(w->cursor);
    w->cursor = w->page.next_cursor;
    w->page.next_cursor = NULL;
    sg_asset_list_free(&w->page);
    return err;
}

enum sg_error sg_asset_cache_warm(struct sg_services *svc, uint64_t *out)
{
    struct warming w = {.svc = svc,
                        .left = sg_config_uint(sg_services_config(svc), SG_SET_cache_warm)};
    enum sg_error err = SG_OK;
    while (err == SG_OK && !is_over(&w)) {
        err = warm_page(&w);
        if (w.cursor == NULL)
            break;
    }
    free(w.cursor);
    sg_metric_add(SG_METRIC_CACHE_WARMED, svc->assets->warmed, w.kept);
    if (err == SG_OK)
        *out = w.kept;
    return err;
}
