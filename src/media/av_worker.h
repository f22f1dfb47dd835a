/* The media process's loop, in pieces a test can drive without a process. No libav types here. One
 * thread. */
#ifndef STREAMGATE_MEDIA_AV_WORKER_H
#define STREAMGATE_MEDIA_AV_WORKER_H

#include "streamgate/sandbox/media_pool.h"

struct av_worker;

enum sg_error av_worker_create(struct av_worker **out) SG_NODISCARD;
void av_worker_destroy(struct av_worker **worker);
/* One call, as sg_worker_serve makes it; takes rq->fd. */
void av_worker_handle(void *ctx, struct sg_media_request_view *rq, struct sg_media_answer *an);
unsigned av_worker_open_files(const struct av_worker *worker);

#endif
