/* What the upload module keeps in memory: claims, hashes of prefixes, bodies in flight by user.
 * Made by the module's init, in svc->uploads. Thread-safe. */
#ifndef UPLOAD_STATE_H
#define UPLOAD_STATE_H

#include <pthread.h>

#include "streamgate/base/hasher.h"
#include "streamgate/http/request.h"
#include "streamgate/store/upload_store.h"

#include "upload_claims.h"

#define UPLOAD_HASHES 1024u
#define UPLOAD_USERS 256u
#define UPLOAD_TRIES 64u

struct upload_tries {
    char id[SG_ULID_SIZE];
    unsigned n;
};

struct upload_prefix_hash;
struct upload_user;

struct sg_upload_memory {
    struct upload_claims *claims;
    /* One of each at a time, however slow the storage is. */
    _Atomic bool expiring, resuming;
    _Atomic unsigned resume_in_s; /* until the next resumption; the ticker's while none runs */
    unsigned resume_pause_s;      /* the resumption's */
    pthread_mutex_t lock;         /* guards the tables below */
    struct upload_prefix_hash *hashes[UPLOAD_HASHES];
    struct upload_user *users[UPLOAD_USERS];
    struct upload_tries tries[UPLOAD_TRIES];
};

enum sg_error upload_state_create(struct sg_upload_memory **out) SG_NODISCARD;
void upload_state_destroy(struct sg_upload_memory **state);

/* SHA-256 over the first offset bytes of an upload, kept between its requests so that completion
 * need not read the file again; it may still be running. A memory only: it may have been dropped.
 * put takes the hasher. take: NULL when there is none for exactly that prefix. */
void upload_hash_put(struct sg_upload_memory *s, const char *id, uint64_t offset,
                     struct sg_hasher **hash);
struct sg_hasher *upload_hash_take(struct sg_upload_memory *s, const char *id, uint64_t offset);
void upload_hash_forget(struct sg_upload_memory *s, const char *id);

/* How often the media process failed over this upload since the start, this time included. Of two
 * uploads that share a place only the later is remembered, so a count may begin anew. */
unsigned upload_media_failed(struct sg_upload_memory *s, const char *id);

/* ---- quotas ---- */

/* What comes beside the bytes. An upload of several requests is given its place among the assets
 * when it is announced: a client that has sent every byte can do nothing about a refusal. */
enum upload_quota_asset {
    UPLOAD_NO_ASSET,
    UPLOAD_PART_ASSET, /* one whose place another row takes; there must be room for it now */
    UPLOAD_NEW_ASSET,  /* one more than there are, and than unfinished uploads are to become */
};

/* Whether the user may begin to hold `bytes` more, and the asset, by settings, database and bodies
 * in flight, and whether the disk has room for them beside storage.min_free. Blocks. QUOTA,
 * NO_SPACE with fail set. */
enum sg_error upload_quota_check(struct sg_request *req, uint64_t bytes,
                                 enum upload_quota_asset asset) SG_NODISCARD;
/* The same on behalf of a user who is not asking right now, for `bytes` beside those that the rows
 * announce. why: which bound, a part of a sentence. */
#define UPLOAD_QUOTA_WHY 64
enum sg_error upload_quota_check_owner(struct sg_services *svc, const char *owner, uint64_t bytes,
                                       char why[UPLOAD_QUOTA_WHY]) SG_NODISCARD;
/* Bytes of a body that no row announces yet (uploads in one request), for as long as it comes. */
void upload_quota_hold(struct sg_upload_memory *s, const char *owner, uint64_t bytes);
void upload_quota_drop(struct sg_upload_memory *s, const char *owner, uint64_t bytes);
/* In the transaction that would make a new asset's rows: the last word, as several may have passed
 * the first check together. QUOTA. */
enum sg_error upload_quota_commit(struct sg_db_conn *c, const struct sg_config *cfg,
                                  const char *owner, uint64_t bytes) SG_NODISCARD;
/* In the transaction that announces an upload: the same, and what may be in flight. */
enum sg_error upload_quota_announce(struct sg_db_conn *c, const struct sg_config *cfg,
                                    const char *owner, uint64_t bytes,
                                    enum upload_quota_asset asset) SG_NODISCARD;
/* In the transaction that makes an unfinished upload hold more than it did. QUOTA. */
enum sg_error upload_quota_grow(struct sg_db_conn *c, const struct sg_config *cfg,
                                const char *owner, uint64_t more) SG_NODISCARD;
/* In a transaction: whether the owner may have the asset that an upload of theirs has a place for:
 * a bound may have been lowered since. QUOTA, which is not counted as a refusal. */
enum sg_error upload_quota_owed(struct sg_db_conn *c, const struct sg_config *cfg,
                                const char *owner) SG_NODISCARD;
/* Room for need more bytes beside storage.min_free. NO_SPACE. */
enum sg_error upload_space(struct sg_services *svc, uint64_t need) SG_NODISCARD;

#endif
