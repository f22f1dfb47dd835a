/* A whole file that was received, on its way to being an asset's: made durable, found out about,
 * put in its place. Knows no request, as imports and the completions of a restart have none. One
 * thread at a time. */
#ifndef UPLOAD_FILE_H
#define UPLOAD_FILE_H

#include "streamgate/http/services.h"
#include "streamgate/layers/renditions.h"
#include "streamgate/store/asset_store.h"

struct upload_timing {
    uint64_t hash_ns, sync_ns, probe_ns, publish_ns, commit_ns;
};

/* Filled in by the caller: svc to sha256. upload_file_clear in the end. */
struct upload_file {
    struct sg_services *svc;
    char id[SG_ULID_SIZE]; /* of the asset, and of the staged file */
    int fd;                /* staged file, the caller's */
    uint64_t size_bytes;
    bool synced; /* its bytes are durable already */
    uint8_t sha256[SG_SHA256_LEN];

    struct sg_asset *twin; /* a ready asset with the same content, or NULL */
    struct sg_media_index *index;
    void *encoded;
    size_t encoded_len;
    bool published; /* the file was put in its place */
    bool in_place;  /* the caller found it there already: an earlier try got that far */
    bool shared;    /* it is the twin's; the staged one is still there */
    struct sg_rendition_plan *plan; /* what is to be made of it */
    char texts_job[SG_ULID_SIZE];   /* begun: extracts its texts; "" without */
    struct upload_timing t;
    char why[SG_MEDIA_MESSAGE_MAX]; /* of a failed examine; may be "" */
};

/* SHA-256 over the whole file from the descriptor, into f->sha256. Blocks. */
enum sg_error upload_file_hash(struct upload_file *f) SG_NODISCARD;
/* Finds out what it is, by a twin, else by the probe while the file is synced, and decides what is
 * made of it. Blocks. The media's
 * errors (see sg_media_probe) with why, else IO, NO_SPACE... */
enum sg_error upload_file_examine(struct upload_file *f) SG_NODISCARD;
/* In its place, durably: a link to the twin's file (the staged one stays until settle), else the
 * staged file itself (synced when it was not). Blocks. */
enum sg_error upload_file_publish(struct upload_file *f) SG_NODISCARD;
/* After the rows came: a staged file that was not needed goes, and the plan's jobs may run. */
void upload_file_settle(struct upload_file *f);
/* After a publish whose rows did not come: takes the file away again. */
void upload_file_retract(struct upload_file *f);
/* Writes what the content says: id, size, sha256, content type, duration, dimensions, codecs, frame
 * rate; the strings are f's. Status ready when players can have it as it is, else processing. */
void upload_file_describe(const struct upload_file *f, struct sg_asset_fields *out);
/* In the transaction that makes the asset, after its row: the rows and jobs of the plan. */
enum sg_error upload_file_begin(struct sg_db_conn *c, struct upload_file *f,
                                const struct sg_asset_fields *asset) SG_NODISCARD;
/* The policy of a new asset: the one asked for, or playback.default_policy (asked -1). */
enum sg_asset_policy upload_policy(const struct sg_config *cfg, int asked);
void upload_file_clear(struct upload_file *f);

#endif
