/* Renditions: further files of an asset, made by jobs. Each has an id of its own, which names its file (store/blob.h) as an asset's id names the source. Everything here runs inside a transaction.
 * Deleting an asset deletes its rows; its files are whoever's deletes it.
 * When the job of one that waits fails, dies or is cancelled, it becomes FAILED, and so does an asset in PROCESSING that has none left; a retry of the job takes both back: triggers do it in the same transaction. */
#ifndef STREAMGATE_STORE_RENDITION_STORE_H
#define STREAMGATE_STORE_RENDITION_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/buf.h"
#include "streamgate/base/clock.h"
#include "streamgate/base/error.h"
#include "streamgate/store/db.h"

/* VIDEO: a rung of the ladder, with the sound that the MPEG-TS form and downloads need. AUDIO: one track of sound. ORIGINAL: the source's own tracks in a container that can be packaged. */
enum sg_rendition_kind { SG_RENDITION_VIDEO, SG_RENDITION_AUDIO, SG_RENDITION_ORIGINAL, SG_RENDITION_KIND_COUNT };
enum sg_rendition_state { SG_RENDITION_WAITING, SG_RENDITION_READY, SG_RENDITION_FAILED, SG_RENDITION_STATE_COUNT };
const char *sg_rendition_kind_name(enum sg_rendition_kind k);   /* "video" "audio" "original" */
const char *sg_rendition_state_name(enum sg_rendition_state s); /* "processing" "ready" "failed" */

#define SG_RENDITION_NAME_SIZE 17 /* 1 to 16 of [a-z0-9-], beginning with a letter or digit */
#define SG_RENDITION_DIR_SIZE 22  /* the name; from the second of a name on with "-2"...; two less than a track's (media/index.h) */
#define SG_RENDITION_ERROR_SIZE 801
#define SG_RENDITIONS_MAX 24      /* of one asset */

struct sg_rendition {
    char id[SG_ULID_SIZE], asset_id[SG_ULID_SIZE];
    char name[SG_RENDITION_NAME_SIZE], dir[SG_RENDITION_DIR_SIZE];
    enum sg_rendition_kind kind;
    enum sg_rendition_state state;
    bool shown;             /* bytes below dir were given out before it was READY */
    char job_id[SG_ULID_SIZE];
    uint32_t width, height; /* VIDEO: as displayed */
    uint32_t bitrate, crf;  /* bits a second; 0: by crf */
    uint32_t stream;        /* AUDIO: of the source */
    uint32_t channels;      /* AUDIO; 0: as in the source, not encoded anew */
    uint64_t size_bytes;    /* READY */
    char error[SG_RENDITION_ERROR_SIZE]; /* FAILED */
    uint64_t created_ms, updated_ms;
    struct sg_buf *index;   /* READY: encoded media index; the row's reference, dropped by clear */
};
void sg_rendition_clear(struct sg_rendition *r);

/* WAITING; dir is chosen and written back. One of that name that FAILED is removed. EXISTS: the asset has another of that name; NOT_FOUND: no such asset; TOO_LARGE: it has SG_RENDITIONS_MAX. */
enum sg_error sg_rendition_insert(struct sg_db_conn *c, struct sg_rendition *r) SG_NODISCARD;
/* In order of creation. items: malloc'ed. */
struct sg_rendition_list { struct sg_rendition *items; size_t n; };
enum sg_error sg_rendition_list(struct sg_db_conn *c, const char *asset_id, struct sg_rendition_list *out) SG_NODISCARD;
void sg_rendition_list_free(struct sg_rendition_list *list);
/* WAITING becomes READY. NOT_FOUND: it is not (any more) waiting. */
struct sg_rendition_done { const char *id; uint64_t size_bytes, now_ms; const void *index; size_t index_len; };
enum sg_error sg_rendition_finish(struct sg_db_conn *c, const struct sg_rendition_done *d) SG_NODISCARD;
/* Before the first byte of one that is WAITING is given out. NOT_FOUND: it is not (any more) waiting. */
enum sg_error sg_rendition_mark_shown(struct sg_db_conn *c, const char *id) SG_NODISCARD;
/* What is made of one that was shown may be other bytes at the next try, which so begins with another name: dir is chosen and written back. NOT_FOUND: it is not (any more) waiting; TOO_LARGE: no name is left. */
enum sg_error sg_rendition_rename(struct sg_db_conn *c, struct sg_rendition *r) SG_NODISCARD;
enum sg_error sg_rendition_delete(struct sg_db_conn *c, const char *id) SG_NODISCARD; /* NOT_FOUND */
/* Ids of those whose file must be there (READY). Stops at visit's first error. */
enum sg_error sg_rendition_each_ready(struct sg_db_conn *c, enum sg_error (*visit)(void *arg, const char *id), void *arg) SG_NODISCARD;
/* Whether a row of any state has the id. */
enum sg_error sg_rendition_exists(struct sg_db_conn *c, const char *id, bool *out) SG_NODISCARD;
/* READY becomes FAILED: its file is gone. */
enum sg_error sg_rendition_mark_missing(struct sg_db_conn *c, const char *id, const char *error) SG_NODISCARD;
/* An asset in PROCESSING becomes READY. NOT_FOUND: it is in another status, or none. */
enum sg_error sg_rendition_asset_ready(struct sg_db_conn *c, const char *asset_id, uint64_t now_ms) SG_NODISCARD;

#endif
