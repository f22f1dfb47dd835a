/* Sample uploads, and the store's functions each in a transaction of its own. */
#ifndef TESTS_UNIT_STORE_UPLOAD_SUPPORT_H
#define TESTS_UNIT_STORE_UPLOAD_SUPPORT_H

#include "streamgate/store/upload_store.h"

#include "asset_support.h"
#include "store_support.h"

/* An active chunked upload of OWNER_A, 1000 bytes announced, with an id of its own; expires at
 * 5000. */
struct sg_upload_fields sample_upload(void);

enum sg_error put_upload(struct sg_db *db, const struct sg_upload_fields *f) SG_NODISCARD;
/* A sample of this kind that is stored already. */
struct sg_upload_fields new_upload(struct sg_db *db, enum sg_upload_kind kind);
/* NULL when there is none; freed by the caller. */
struct sg_upload *fetch_upload(struct sg_db *db, const char *id);
enum sg_error move_upload(struct sg_db *db, const char *id, enum sg_upload_state from,
                          enum sg_upload_state to) SG_NODISCARD;
enum sg_error drop_upload(struct sg_db *db, const char *id) SG_NODISCARD;
/* A chunk of len bytes whose hash is 32 times fill, at the time 2000 + number, expiring at 7000. */
enum sg_error put_chunk(struct sg_db *db, const char *id, uint64_t number, uint64_t len,
                        uint8_t fill) SG_NODISCARD;
struct sg_usage usage_of(struct sg_db *db, const char *owner);

#endif
