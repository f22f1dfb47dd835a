/* SHA-256 of a stream beside the thread that receives it: pieces are hashed in order on a pool's thread while the next ones are received and written. One owner at a time. */
#ifndef STREAMGATE_BASE_HASHER_H
#define STREAMGATE_BASE_HASHER_H

#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/buf.h"
#include "streamgate/base/crypto.h"
#include "streamgate/base/pool.h"

struct sg_hasher;

/* pool: where the hashing runs; its tasks must wait for nothing. NULL: everything is hashed by the caller. sha: continued; taken, also on failure; NULL: a new one. NO_MEMORY. */
enum sg_error sg_hasher_create(struct sg_pool *pool, struct sg_sha256 **sha, struct sg_hasher **out) SG_NODISCARD;
/* Waits for what is queued. NULL inside is fine. */
void sg_hasher_destroy(struct sg_hasher **h);
/* The next piece. buf: a reference is kept until it is hashed; NULL, or one that does not hold data: data is hashed (or, behind others, waited for and hashed) before the call returns. Waits while too much is queued. */
void sg_hasher_update(struct sg_hasher *h, struct sg_buf *buf, const void *data, size_t len);
/* Waits for what is queued and gives the running hash away; nothing may be added any more. */
struct sg_sha256 *sg_hasher_take(struct sg_hasher *h);
/* Nanoseconds spent on hashing so far; complete after take. */
uint64_t sg_hasher_busy_ns(const struct sg_hasher *h);

#endif
