/* What the daemon asks of the media processes. Encodes the call, checks the answer. No libav here (media/av_*.c run only in the process). Thread-safe. */
#ifndef STREAMGATE_MEDIA_MEDIA_H
#define STREAMGATE_MEDIA_MEDIA_H

#include <stdint.h>

#include "streamgate/base/buf.h"
#include "streamgate/media/index.h"
#include "streamgate/sandbox/media_pool.h"

struct sg_media_limits {
    uint64_t max_pixels, max_duration_ms, max_frames; uint32_t max_streams;
    uint64_t max_body_bytes;        /* a segment that would be larger makes the source unpackageable (UNPROCESSABLE) */
    uint32_t segment_ms;            /* target duration */
    uint32_t open_contexts;         /* files a process keeps open; 0: 32 */
};

/* Blocks until the file is probed and indexed; the process keeps it open under `key` (the asset id), so that the first segment is quick. fd stays the caller's; the file must not
 * be written any more. `why` (on error) is fit for a problem detail. Errors: UNSUPPORTED_MEDIA (not media, a playlist, a container or codec that cannot be read), UNPROCESSABLE
 * (damaged, truncated, empty), TOO_LARGE (over a limit), MEDIA_WORKER, MEDIA_TIMEOUT, UNAVAILABLE. */
enum sg_error sg_media_probe(struct sg_media_pool *pool, const char *key, int fd, const struct sg_media_limits *limits,
                             struct sg_media_index **out, char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;

enum sg_render_kind { SG_RENDER_INIT, SG_RENDER_SEGMENT_FMP4, SG_RENDER_SEGMENT_TS, SG_RENDER_POSTER, SG_RENDER_STORYBOARD, SG_RENDER_IFRAME };

#define SG_POSTER_ANY UINT64_MAX /* the process chooses the picture that shows most */

struct sg_render {
    enum sg_render_kind kind;
    const char *key; int fd;                 /* as for probe; fd stays the caller's, dup'ed at once */
    const struct sg_media_index *index;
    const struct sg_track *track;            /* of the index; POSTER, STORYBOARD: ignored; TS: the main track */
    uint32_t number;                         /* segment; STORYBOARD: sheet; IFRAME: the segment whose key frame it is */
    uint64_t time_ms; uint32_t width;        /* POSTER: where (clamped to the duration; or SG_POSTER_ANY), and how wide (0: display width, never upscaled; even) */
    const struct sg_media_limits *limits;
    /* Exactly once on success of submit, on a dispatcher thread. body (take a ref to keep it) only with SG_OK. */
    void (*done)(void *arg, enum sg_error err, struct sg_buf *body, const char *why);
    void *arg;
};
enum sg_error sg_media_render(struct sg_media_pool *pool, const struct sg_render *r) SG_NODISCARD;

/* After files were removed: lets the processes (how many there are) close the deleted ones they hold open, so that their disk space is free. Does not wait. */
void sg_media_sweep(struct sg_media_pool *pool, unsigned processes);

/* Entry of `streamgate media-worker`: enters the sandbox (socket on descriptor 3) and serves. Returns the exit status. In src/media/av_worker.c. */
int sg_media_worker_main(void);

#endif
