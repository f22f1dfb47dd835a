/* Assets: rows, media indexes, search. A struct sg_asset is immutable and reference-counted: a change makes a new one with version + 1. */
#ifndef STREAMGATE_STORE_ASSET_STORE_H
#define STREAMGATE_STORE_ASSET_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/buf.h"
#include "streamgate/base/clock.h"
#include "streamgate/base/crypto.h"
#include "streamgate/base/error.h"
#include "streamgate/store/db.h"

enum sg_asset_status { SG_ASSET_CREATED, SG_ASSET_UPLOADING, SG_ASSET_PROCESSING, SG_ASSET_READY, SG_ASSET_FAILED, SG_ASSET_STATUS_COUNT };
enum sg_asset_policy { SG_POLICY_PUBLIC, SG_POLICY_SIGNED, SG_POLICY_GATED, SG_POLICY_COUNT };
const char *sg_asset_status_name(enum sg_asset_status s);
const char *sg_asset_policy_name(enum sg_asset_policy p);
enum sg_error sg_asset_status_parse(const char *s, enum sg_asset_status *out) SG_NODISCARD; /* INVALID */
enum sg_error sg_asset_policy_parse(const char *s, enum sg_asset_policy *out) SG_NODISCARD;

/* Strings are never NULL ("" when empty). */
struct sg_asset_fields {
    char id[SG_ULID_SIZE];
    char owner[SG_ULID_SIZE];       /* user id */
    enum sg_asset_status status;
    enum sg_asset_policy policy;
    const char *title, *description;
    const char *tags_json;          /* JSON array of strings, canonical, "[]" when empty */
    const char *custom_json;        /* JSON object, "{}" when empty */
    const char *filename;           /* as the uploader named it */
    uint64_t size_bytes;
    uint8_t sha256[SG_SHA256_LEN];
    const char *content_type;       /* from the bytes */
    uint64_t duration_ms;
    uint32_t width, height;         /* as displayed (after rotation and SAR); 0 without video */
    const char *video_codec, *audio_codec; /* "h264", "aac"...; "" without */
    uint32_t frame_rate_num, frame_rate_den; /* average; 0/1 without video */
    const char *error;              /* why failed; "" otherwise */
    uint64_t version;               /* 1 on creation */
    uint64_t created_ms, updated_ms; /* Unix ms */
};

struct sg_asset {
    _Atomic uint32_t refs;
    struct sg_asset_fields f; /* strings live in the same allocation */
};

/* Deep copy of fields with one reference. NO_MEMORY. */
enum sg_error sg_asset_create(const struct sg_asset_fields *fields, struct sg_asset **out) SG_NODISCARD;
struct sg_asset *sg_asset_ref(struct sg_asset *asset);
void sg_asset_unref(struct sg_asset *asset);
size_t sg_asset_weight(const struct sg_asset *asset); /* bytes it occupies */

/* In a transaction. insert writes the row, its search text and its media index (may be NULL). */
enum sg_error sg_asset_insert(struct sg_db_conn *c, const struct sg_asset_fields *fields, const void *index, size_t index_len) SG_NODISCARD;
/* Writes the mutable fields (title, description, tags, custom, policy, status, error, updated) of fields->id when the stored version is
 * expected_version, and sets version to expected_version + 1. NOT_FOUND, PRECONDITION_FAILED (another version is stored). */
enum sg_error sg_asset_update(struct sg_db_conn *c, const struct sg_asset_fields *fields, uint64_t expected_version) SG_NODISCARD;
/* A row of status processing becomes what the upload turned out to be: writes size, sha256, media fields, status, error, updated of fields and the index (NULL: none), version + 1; leaves title, description,
 * tags, custom and policy as they are now. NOT_FOUND when there is no such row of status processing. */
enum sg_error sg_asset_finish(struct sg_db_conn *c, const struct sg_asset_fields *fields, const void *index, size_t index_len) SG_NODISCARD;
/* Another index of the same source: nothing else changes but the version. NOT_FOUND. */
enum sg_error sg_asset_set_index(struct sg_db_conn *c, const char *id, const void *index, size_t index_len) SG_NODISCARD;
/* A ready asset with this content, the oldest. NOT_FOUND. */
enum sg_error sg_asset_find_content(struct sg_db_conn *c, const uint8_t sha256[SG_SHA256_LEN], uint64_t size_bytes, struct sg_asset **out) SG_NODISCARD;
/* expected_version 0: any. */
enum sg_error sg_asset_delete(struct sg_db_conn *c, const char *id, uint64_t expected_version) SG_NODISCARD;
enum sg_error sg_asset_get(struct sg_db_conn *c, const char *id, struct sg_asset **out) SG_NODISCARD; /* NOT_FOUND */
enum sg_error sg_asset_get_index(struct sg_db_conn *c, const char *id, struct sg_buf **out) SG_NODISCARD;

enum sg_asset_sort { SG_SORT_CREATED_DESC, SG_SORT_CREATED_ASC, SG_SORT_UPDATED_DESC, SG_SORT_TITLE_ASC, SG_SORT_COUNT };
enum sg_error sg_asset_sort_parse(const char *s, enum sg_asset_sort *out) SG_NODISCARD; /* "-created_at" "created_at" "-updated_at" "title" */

struct sg_asset_query {
    const char *owner;   /* NULL: any */
    const char *text;    /* full-text words (title, description, tags, filename), NULL: any; any UTF-8 is safe */
    const char *tag;     /* NULL: any */
    int status;          /* enum sg_asset_status or -1 */
    enum sg_asset_sort sort;
    unsigned limit;      /* 1 to 200 */
    const char *cursor;  /* from a previous answer, NULL: first page; one that was not made here is INVALID */
};
/* items: malloc'ed array of *n references, freed with sg_asset_list_free. next_cursor: malloc'ed, or NULL on the last page. Keyset pagination. */
struct sg_asset_list { struct sg_asset **items; size_t n; char *next_cursor; };
enum sg_error sg_asset_list(struct sg_db_conn *c, const struct sg_asset_query *q, struct sg_asset_list *out) SG_NODISCARD;
void sg_asset_list_free(struct sg_asset_list *list);

/* Every asset id in the database, for reconciliation at start. Stops at visit's first error. */
enum sg_error sg_asset_each_id(struct sg_db_conn *c, enum sg_error (*visit)(void *arg, const char *id), void *arg) SG_NODISCARD;
/* EXISTS: it is failed already, and nothing changed. */
enum sg_error sg_asset_mark_failed(struct sg_db_conn *c, const char *id, const char *error) SG_NODISCARD;

#endif
