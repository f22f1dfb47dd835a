/* A body on its way to the end of an upload (tus, import). Bytes go to the page cache as they come;
 * each upload.commit_bytes of them are made durable on the way, and the rest at the end, also when
 * the body breaks off: what the row's offset says is always on disk. One thread at a time. */
#ifndef UPLOAD_APPEND_H
#define UPLOAD_APPEND_H

#include "upload_session.h"

struct upload_append;

struct upload_append_params {
    struct sg_services *svc;
    const char *id;
    bool has_offset;
    uint64_t offset; /* where the client believes the end to be; not given: wherever it is */
    bool
        all_or_nothing; /* nothing of the body counts until commit (a checksum is to be verified) */
    bool meets_quota;   /* while the size is not known: each commit; QUOTA ends the body */
};

/* Takes the upload over from whoever appends to it, then reads the row: *row (also on CONFLICT,
 * where row->f.offset_bytes is the true offset; free with sg_upload_free; NULL when there was none
 * to read). CONFLICT: another offset, or not ACTIVE. Blocks. */
enum sg_error upload_append_open(const struct upload_append_params *params, struct sg_upload **row,
                                 struct upload_append **out) SG_NODISCARD;
/* The next bytes; buf: what holds them (a request's body_buf), or NULL. Does not block but for the
 * page cache: for I/O threads. SUPERSEDED; TOO_LARGE: beyond the size of the upload (nothing of it
 * is written); NO_SPACE, IO. */
enum sg_error upload_append_write(struct upload_append *a, struct sg_buf *buf, const void *data,
                                  size_t len) SG_NODISCARD;
uint64_t
upload_append_received(const struct upload_append *a); /* offset after all bytes written so far */
/* Makes everything so far durable and stores the offset. Blocks. After an error nothing more may be
 * written. */
enum sg_error upload_append_commit(struct upload_append *a) SG_NODISCARD;
/* After a commit, when offset == size: upload_complete with this append's claim and hash. Blocks.
 */
enum sg_error upload_append_complete(struct upload_append *a,
                                     struct upload_completion *c) SG_NODISCARD;
/* Ends it. Bytes written after the last commit are not acknowledged and do not count. Blocks while
 * a commit runs. */
void upload_append_close(struct upload_append **a); /* NULL inside is fine */
/* Ends it from an I/O thread: what was received is committed (not with all_or_nothing) and the
 * append closed, on a blocking thread. For state_free. */
void upload_append_abandon(struct upload_append **a);

#endif
