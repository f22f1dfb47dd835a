/* Uploads that outlive a request: chunked, tus and import. A row says what is durable; the bytes lie in incoming/<id> (store/blob.h). The asset made of an upload
 * has the upload's id. A struct sg_upload is immutable and owned by whoever got it. */
#ifndef STREAMGATE_STORE_UPLOAD_STORE_H
#define STREAMGATE_STORE_UPLOAD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/crypto.h"
#include "streamgate/base/error.h"
#include "streamgate/store/asset_store.h"
#include "streamgate/store/db.h"

enum sg_upload_kind { SG_UPLOAD_CHUNKED, SG_UPLOAD_TUS, SG_UPLOAD_TUS_PARTIAL, SG_UPLOAD_TUS_FINAL, SG_UPLOAD_IMPORT, SG_UPLOAD_KIND_COUNT };
/* ACTIVE: bytes are still wanted (or, when all are there, completion is due). PROCESSING: being made into an asset, whose row exists with status processing.
 * DONE, FAILED: final; the row is kept until it expires, so that asking or completing again gets the same answer. An aborted upload has no row. */
enum sg_upload_state { SG_UPLOAD_ACTIVE, SG_UPLOAD_PROCESSING, SG_UPLOAD_DONE, SG_UPLOAD_FAILED, SG_UPLOAD_STATE_COUNT };
const char *sg_upload_kind_name(enum sg_upload_kind k);   /* "chunked" "tus" "tus-partial" "tus-final" "import" */
const char *sg_upload_state_name(enum sg_upload_state s); /* "active" "processing" "done" "failed" */

/* Strings are never NULL ("" when empty). */
struct sg_upload_fields {
    char id[SG_ULID_SIZE];
    char owner[SG_ULID_SIZE];       /* user id */
    enum sg_upload_kind kind;
    enum sg_upload_state state;
    const char *filename;
    const char *title, *description;
    const char *tags_json;          /* as in struct sg_asset_fields */
    const char *custom_json;
    int policy;                     /* enum sg_asset_policy, or -1: the default when it becomes an asset */
    const char *metadata;           /* tus: the Upload-Metadata header as given */
    const char *url, *etag;         /* import: source and its validator ("" when it gave none) */
    bool has_size; uint64_t size_bytes;
    uint64_t offset_bytes;          /* tus, import: durable prefix; chunked: sum of durable chunks */
    uint64_t chunk_bytes;           /* chunked: of every chunk but the last */
    bool has_sha256; uint8_t sha256[SG_SHA256_LEN]; /* of the whole, as the client announced it */
    const char *parts;              /* tus final: the URLs of the partial uploads, as they were sent */
    const char *error_slug, *error_detail; /* FAILED: why; "" otherwise */
    uint64_t created_ms, updated_ms, expires_ms; /* Unix ms */
};

struct sg_upload { struct sg_upload_fields f; /* strings live in the same allocation */ };
void sg_upload_free(struct sg_upload **upload); /* NULL inside is fine */

/* All in a transaction (sg_db_write / sg_db_read closures). */
enum sg_error sg_upload_insert(struct sg_db_conn *c, const struct sg_upload_fields *f) SG_NODISCARD;            /* EXISTS; INVALID; TOO_LARGE: the owner's sums pass 2^63 */
enum sg_error sg_upload_get(struct sg_db_conn *c, const char *id, struct sg_upload **out) SG_NODISCARD;         /* NOT_FOUND */
/* The durable prefix grew; refreshes updated and expires. NOT_FOUND (no such row), CONFLICT (not ACTIVE; beyond the size; less than is stored: what was acknowledged stays.
 * Only an import, whose source may have changed, goes back). */
enum sg_error sg_upload_set_offset(struct sg_db_conn *c, const char *id, uint64_t offset_bytes, uint64_t now_ms, uint64_t expires_ms) SG_NODISCARD;
/* tus creation-defer-length, import: the size became known. CONFLICT when another size is stored already (the same again is SG_OK), more bytes are there already, or not ACTIVE. */
enum sg_error sg_upload_set_size(struct sg_db_conn *c, const char *id, uint64_t size_bytes) SG_NODISCARD;
enum sg_error sg_upload_set_etag(struct sg_db_conn *c, const char *id, const char *etag) SG_NODISCARD;          /* import */
/* import: the source is another one than before: nothing of it is there, neither its size nor its validator is known. NOT_FOUND; CONFLICT: not ACTIVE, not an import. */
enum sg_error sg_upload_start_over(struct sg_db_conn *c, const char *id) SG_NODISCARD;
enum sg_error sg_upload_set_filename(struct sg_db_conn *c, const char *id, const char *filename) SG_NODISCARD;  /* import: the source named it; NOT_FOUND */
/* Moves from one state to another, in one step: exactly one of several that try succeeds, the others get CONFLICT. NOT_FOUND. INVALID: from == to. slug and detail: for FAILED, else not looked at ("" is stored). */
struct sg_upload_move { const char *id; enum sg_upload_state from, to; const char *slug, *detail; uint64_t now_ms, expires_ms; };
enum sg_error sg_upload_move(struct sg_db_conn *c, const struct sg_upload_move *m) SG_NODISCARD;
enum sg_error sg_upload_delete(struct sg_db_conn *c, const char *id) SG_NODISCARD; /* with its chunks; NOT_FOUND */
/* In the transaction that deletes the asset of this id: the upload that is being made into it goes with it. NOT_FOUND: none is. */
enum sg_error sg_upload_delete_processing(struct sg_db_conn *c, const char *id) SG_NODISCARD;

/* Chunks of a chunked upload, numbered from 0. put: SG_OK; EXISTS when the same bytes are stored already (nothing changed); CONFLICT when other bytes are; adds len to the upload's offset_bytes and refreshes
 * updated and expires; CONFLICT also, and first, when the upload is not ACTIVE or not a chunked one; NOT_FOUND without upload. */
struct sg_upload_chunk { const char *upload_id; uint64_t number, len; uint8_t sha256[SG_SHA256_LEN]; uint64_t now_ms, expires_ms; };
enum sg_error sg_upload_chunk_put(struct sg_db_conn *c, const struct sg_upload_chunk *chunk) SG_NODISCARD;
enum sg_error sg_upload_chunk_get(struct sg_db_conn *c, const char *upload_id, uint64_t number, uint8_t sha256[SG_SHA256_LEN]) SG_NODISCARD; /* NOT_FOUND */
/* Visits the runs of chunks that are there, ascending, as [first, end). */
enum sg_error sg_upload_chunk_runs(struct sg_db_conn *c, const char *upload_id, enum sg_error (*visit)(void *arg, uint64_t first, uint64_t end), void *arg) SG_NODISCARD;

/* Newest first (id order), kinds: bit mask of 1 << kind; owner NULL: any; before: id or NULL; at most limit (1 to 1000, else INVALID). Freed with sg_upload_list_free. */
struct sg_upload_query { const char *owner; unsigned kinds; int state; /* or -1 */ unsigned limit; const char *before; };
struct sg_upload_list { struct sg_upload **items; size_t n; };
enum sg_error sg_upload_list(struct sg_db_conn *c, const struct sg_upload_query *q, struct sg_upload_list *out) SG_NODISCARD;
void sg_upload_list_free(struct sg_upload_list *list);
/* Ids whose expires_ms is before now_ms, oldest first, at most limit (1 to 1000, else INVALID) behind the first `skip`. Never PROCESSING ones; nor those that are owed an asset (ACTIVE, tus or tus final,
 * all bytes there), unless their owner has too much for it: max_assets (0: no bound) or more assets, or more than max_bytes (0: no bound) in all. visit may change and delete them. */
struct sg_upload_expiry { uint64_t now_ms, max_bytes, max_assets, skip; unsigned limit; };
enum sg_error sg_upload_expired(struct sg_db_conn *c, const struct sg_upload_expiry *q, enum sg_error (*visit)(void *arg, const char *id), void *arg) SG_NODISCARD;
/* ACTIVE or PROCESSING: those whose staged file must be kept. u is good during visit, which must not change uploads. */
enum sg_error sg_upload_each_open(struct sg_db_conn *c, enum sg_error (*visit)(void *arg, const struct sg_upload *u), void *arg) SG_NODISCARD;
/* At start: every PROCESSING upload becomes ACTIVE again and its asset row of status processing goes; returns how many. One without an asset goes: somebody deleted that. */
enum sg_error sg_upload_reset_processing(struct sg_db_conn *c, uint64_t *out_n) SG_NODISCARD;

/* What a user holds: kept by triggers, in the transaction of the change, so reading is one row. Every byte is counted once: an asset's from the moment it is ready, before that as
 * reserved by its upload. A tus partial upload reserves like any other; a final one neither reserves nor counts, as its bytes are its parts' until they are removed. */
struct sg_usage {
    uint64_t asset_bytes, assets;   /* bytes of ready assets, logical (a shared file counts for each); number of all, whatever their status */
    uint64_t reserved_bytes, uploads; /* announced sizes (offset where unknown) and number of ACTIVE and PROCESSING uploads */
};
enum sg_error sg_usage_get(struct sg_db_conn *c, const char *owner, struct sg_usage *out) SG_NODISCARD; /* zeros for a stranger */
/* How many assets the owner's ACTIVE uploads are to become: beside those that are there. Parts become none; a PROCESSING upload has its asset's row. */
enum sg_error sg_upload_promised(struct sg_db_conn *c, const char *owner, uint64_t *out_n) SG_NODISCARD;
/* The finished final upload that an owner had made of these parts (the very text); the newest. NOT_FOUND. */
enum sg_error sg_upload_find_final(struct sg_db_conn *c, const char *owner, const char *parts, char out[SG_ULID_SIZE]) SG_NODISCARD;

#endif
