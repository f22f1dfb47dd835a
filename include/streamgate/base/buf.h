/* Immutable, reference-counted bytes: what the LRU holds and what the wire sends, without a copy. Thread-safe. */
#ifndef STREAMGATE_BASE_BUF_H
#define STREAMGATE_BASE_BUF_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"

struct sg_buf {
    const uint8_t *data; /* len bytes, constant for the life of the buffer; NULL only when len is 0 */
    size_t len;
    _Atomic uint32_t refs;
    void (*release)(struct sg_buf *buf); /* frees data and buf when the last reference goes */
};

/* Each gives one reference to the caller. Errors: NO_MEMORY. */
enum sg_error sg_buf_create_copy(const void *data, size_t len, struct sg_buf **out) SG_NODISCARD;
/* Takes ownership of malloc'ed `data` on success only. */
enum sg_error sg_buf_create_take(void *data, size_t len, struct sg_buf **out) SG_NODISCARD;
/* Maps a memfd made by an untrusted process. Refuses (MEDIA_WORKER) one that is not sealed with at least
 * F_SEAL_SHRINK|F_SEAL_GROW|F_SEAL_WRITE, or longer than max_bytes: an unsealed one could be cut short under our feet (SIGBUS).
 * The mapping is populated. fd stays the caller's. Errors: MEDIA_WORKER, NO_MEMORY, IO. */
enum sg_error sg_buf_create_memfd(int fd, size_t max_bytes, struct sg_buf **out) SG_NODISCARD;

struct sg_buf *sg_buf_ref(struct sg_buf *buf);  /* returns buf */
void sg_buf_unref(struct sg_buf *buf);          /* NULL is fine */

#endif
