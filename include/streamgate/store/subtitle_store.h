/* Subtitle tracks of assets: one a language, its text (canonical WebVTT, media/webvtt.h) in the row. Everything here runs inside a transaction; each change counts as one of the asset (its version
 * and time go on). Deleting an asset deletes its rows. */
#ifndef STREAMGATE_STORE_SUBTITLE_STORE_H
#define STREAMGATE_STORE_SUBTITLE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/buf.h"
#include "streamgate/base/clock.h"
#include "streamgate/base/crypto.h"
#include "streamgate/base/error.h"
#include "streamgate/base/language.h"
#include "streamgate/store/db.h"

enum sg_subtitle_kind { SG_SUBTITLE_SUBTITLES, SG_SUBTITLE_CAPTIONS, SG_SUBTITLE_KIND_COUNT };
enum sg_subtitle_source { SG_SUBTITLE_SIDECAR, SG_SUBTITLE_EMBEDDED, SG_SUBTITLE_SOURCE_COUNT };
const char *sg_subtitle_kind_name(enum sg_subtitle_kind k);     /* "subtitles" "captions" */
const char *sg_subtitle_source_name(enum sg_subtitle_source s); /* "sidecar" "embedded" */
enum sg_error sg_subtitle_kind_parse(const char *s, enum sg_subtitle_kind *out) SG_NODISCARD; /* INVALID */

#define SG_SUBTITLES_MAX 64        /* of one asset */
#define SG_SUBTITLE_LABEL_SIZE 257 /* 64 characters */

struct sg_subtitle {
    char language[SG_LANGUAGE_SIZE]; /* BCP 47 in its one spelling */
    enum sg_subtitle_kind kind;
    enum sg_subtitle_source source;
    char label[SG_SUBTITLE_LABEL_SIZE]; /* "" without */
    bool is_default;                 /* at most one of an asset */
    bool forced;
    uint32_t cues;
    uint64_t size_bytes;             /* of the text */
    uint8_t hash[SG_SHA256_LEN];     /* of the text */
    uint64_t created_ms, updated_ms;
};

/* Writes a new track, or one over that of its language; *created says which. size_bytes and hash are worked out; created_ms is kept of one that was there. What was
 * extracted is not written over a sidecar (EXISTS). NOT_FOUND: no such asset; TOO_LARGE: it has SG_SUBTITLES_MAX. */
struct sg_subtitle_put { const char *asset_id; const struct sg_subtitle *track; const void *text; size_t text_len; };
enum sg_error sg_subtitle_put(struct sg_db_conn *c, const struct sg_subtitle_put *p, bool *created) SG_NODISCARD;
/* Writes kind, label, is_default, forced and updated_ms. NOT_FOUND. */
enum sg_error sg_subtitle_update(struct sg_db_conn *c, const char *asset_id, const struct sg_subtitle *track) SG_NODISCARD;
enum sg_error sg_subtitle_delete(struct sg_db_conn *c, const char *asset_id, const char *language, uint64_t now_ms) SG_NODISCARD; /* NOT_FOUND */
enum sg_error sg_subtitle_get(struct sg_db_conn *c, const char *asset_id, const char *language, struct sg_subtitle *out) SG_NODISCARD; /* NOT_FOUND */
enum sg_error sg_subtitle_text(struct sg_db_conn *c, const char *asset_id, const char *language, struct sg_buf **out) SG_NODISCARD;    /* NOT_FOUND */

/* By language. items: malloc'ed. */
struct sg_subtitle_list { struct sg_subtitle *items; size_t n; };
enum sg_error sg_subtitle_list(struct sg_db_conn *c, const char *asset_id, struct sg_subtitle_list *out) SG_NODISCARD;
void sg_subtitle_list_free(struct sg_subtitle_list *list);

#endif
