/* Everything a handler may use, made by main in order and torn down in reverse. Plain pointers, constant after start; the objects are thread-safe. */
#ifndef STREAMGATE_HTTP_SERVICES_H
#define STREAMGATE_HTTP_SERVICES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/config.h"
#include "streamgate/base/pool.h"
#include "streamgate/layers/alerts.h"
#include "streamgate/layers/audit.h"
#include "streamgate/layers/content_cache.h"
#include "streamgate/layers/identity.h"
#include "streamgate/layers/ratelimit.h"
#include "streamgate/media/media.h"
#include "streamgate/sandbox/media_pool.h"
#include "streamgate/store/blob.h"
#include "streamgate/store/db.h"

struct sg_asset_cache; /* http/asset_view.h */
struct sg_jobs;         /* layers/jobs.h */
struct sg_live;         /* layers/live.h */
struct sg_upload_memory; /* src/modules/upload_state.h */
struct sg_route_table; /* http/route.h */
struct sg_webhooks; /* layers/webhooks.h */

struct sg_services {
    struct sg_config *_Atomic config;      /* swapped on SIGHUP; replaced ones live until shutdown, so a plain load is safe */
    int data_dirfd;
    struct sg_db *db;
    struct sg_blob_store *blobs;
    struct sg_pool *blocking;              /* where handlers that block run */
    struct sg_pool *sync;                  /* file syncs that overlap other work; its tasks wait for no other task */
    struct sg_pool *hashing;               /* checksums beside the threads that receive; its tasks wait for nothing */
    struct sg_media_pool *media;
    unsigned media_processes;
    struct sg_media_limits media_limits;
    struct sg_ratelimit *ratelimit;
    struct sg_identity_layer *identity;
    struct sg_token_signer *signer;
    struct sg_audit *audit;
    struct sg_alerts *alerts;
    struct sg_content_cache *content;      /* streaming namespace: playlists, segments, pictures */
    struct sg_asset_cache *assets;         /* metadata namespace (http/asset_view.h) */
    struct sg_jobs *jobs;                  /* made before the modules, whose init registers their types; started after them and stopped before them */
    struct sg_live *live;                  /* renditions that are played while they are made */
    struct sg_upload_memory *uploads;       /* the upload module's own: made by its init, destroyed by its shutdown */
    struct sg_webhooks *webhooks;          /* the webhooks module's own, likewise */
    const struct sg_route_table *routes;   /* for OpenAPI */
    struct sg_cidr_list *_Atomic trusted_proxies; /* swapped on SIGHUP like config */
    uint64_t started_mono_ms, started_wall_ms;
    _Atomic bool draining;                 /* SIGTERM was seen: ready turns 503 */
};

static inline const struct sg_config *sg_services_config(const struct sg_services *svc)
{
    return atomic_load_explicit(&svc->config, memory_order_acquire);
}

#endif
