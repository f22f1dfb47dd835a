/* Assets as the API shows them, and the memory of recent ones. Used by several modules, which never include each other. Thread-safe. */
#ifndef STREAMGATE_HTTP_ASSET_VIEW_H
#define STREAMGATE_HTTP_ASSET_VIEW_H

#include <jansson.h>
#include <stdatomic.h>

#include "streamgate/http/request.h"
#include "streamgate/layers/content_cache.h"
#include "streamgate/media/presentation.h"
#include "streamgate/store/asset_store.h"
#include "streamgate/store/rendition_store.h"
#include "streamgate/store/subtitle_store.h"

/* An asset with the media index of its source (NULL while there is none), its renditions, its subtitles and what all of it offers to a player (never NULL): immutable, reference-counted. */
struct sg_asset_entry {
    _Atomic uint32_t refs;
    struct sg_asset *asset;
    struct sg_media_index *index;
    struct sg_rendition_list renditions;
    struct sg_subtitle_list subtitles;
    struct sg_presentation *shows;
};
/* Takes its own references of asset and index (may be NULL); takes the lists in any case. NO_MEMORY; MEDIA_WORKER: an index cannot be read. */
enum sg_error sg_asset_entry_create(struct sg_asset *asset, struct sg_media_index *index, struct sg_rendition_list *renditions, struct sg_subtitle_list *subtitles, struct sg_asset_entry **out) SG_NODISCARD;
struct sg_asset_entry *sg_asset_entry_ref(struct sg_asset_entry *e);
void sg_asset_entry_unref(struct sg_asset_entry *e); /* NULL is fine */
size_t sg_asset_entry_weight(const struct sg_asset_entry *e);

struct sg_asset_cache;
enum sg_error sg_asset_cache_create(const struct sg_config *config, struct sg_asset_cache **out) SG_NODISCARD;
void sg_asset_cache_destroy(struct sg_asset_cache **c);
struct sg_cache *sg_asset_cache_base(struct sg_asset_cache *c);
/* After the commit of a change and before it is acknowledged: no later load sees the old row, not even one whose read raced with the commit. */
void sg_asset_cache_invalidate(struct sg_asset_cache *c, const char *id);
/* Loads the most recently updated ready assets, at most cache.warm of them and as many as fit without an eviction; ends early when svc->draining is set. Blocks (database).
 * *out: how many were put into memory. Errors are the database's; what was loaded before stays. */
enum sg_error sg_asset_cache_warm(struct sg_services *svc, uint64_t *out) SG_NODISCARD;

/* From memory, else (only when req->may_block) from the database. WOULD_BLOCK, NOT_FOUND (also for an id that is no ULID; with fail set), UNAVAILABLE... */
enum sg_error sg_asset_load(struct sg_request *req, const char *id, struct sg_asset_entry **out) SG_NODISCARD;
/* The same by the path parameter {id}, and only for its owner or an admin; read_public: a public asset may be read by anyone identified. FORBIDDEN. */
enum sg_error sg_asset_load_owned(struct sg_request *req, bool read_public, struct sg_asset_entry **out) SG_NODISCARD;

/* The JSON of DESIGN 4; playback URLs as they work for this request's host, with a fresh token in the path for a signed asset. NULL when out of memory. */
json_t *sg_asset_json(struct sg_request *req, const struct sg_asset_entry *e);
/* {"hls": ..., "hls_ts": ..., "poster": ..., "source": ...}; token "" for none. */
json_t *sg_playback_json(struct sg_request *req, const struct sg_asset_entry *e, const char *token);
/* What is offered and what is being made; NULL when out of memory. */
json_t *sg_renditions_json(const struct sg_asset_entry *e);
/* How to play it: status, playback URLs with a fresh token, renditions. NULL when out of memory. */
json_t *sg_stream_json(struct sg_request *req, const struct sg_asset_entry *e);
/* A track of subtitles; token "" for none. The asset's tracks. NULL when out of memory. */
json_t *sg_subtitle_json(struct sg_request *req, const struct sg_asset_entry *e, const struct sg_subtitle *track, const char *token);
json_t *sg_subtitles_json(struct sg_request *req, const struct sg_asset_entry *e, const char *token);
/* Of the URLs in an answer: a fresh token for an asset that is not public, else "". */
enum sg_error sg_asset_fresh_token(struct sg_request *req, const struct sg_asset *asset, char token[SG_PLAYBACK_TOKEN_SIZE]) SG_NODISCARD;
#define SG_ETAG_SIZE 32
void sg_asset_etag(const struct sg_asset *asset, char out[SG_ETAG_SIZE]); /* strong, quoted, from the version */

/* Metadata fields as uploads and PATCH take them; all strings live in the request's arena. */
struct sg_asset_edit {
    const char *title, *description, *tags_json, *custom_json; /* NULL: not given */
    bool has_policy; enum sg_asset_policy policy;
};
/* Each checks one field by name (title description tags policy custom); an unknown name is INVALID. INVALID with fail set to the field and its rule. */
enum sg_error sg_asset_edit_text(struct sg_request *req, struct sg_asset_edit *edit, const char *name, const char *value, size_t len) SG_NODISCARD; /* form fields; tags: comma-separated */
enum sg_error sg_asset_edit_json(struct sg_request *req, struct sg_asset_edit *edit, const char *name, const json_t *value) SG_NODISCARD;

#endif
