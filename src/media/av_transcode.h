/* Transcoding, in the process. One call of the plan, then the process ends. */
#ifndef STREAMGATE_MEDIA_AV_TRANSCODE_H
#define STREAMGATE_MEDIA_AV_TRANSCODE_H
#include "streamgate/media/transcode.h"
struct sgav_transcode_sink {
    void (*event)(void *arg, const struct sg_transcode_event *e);
    void *arg;
}; /* called from one thread at a time */
/* t's descriptors are this process's own. Errors as sg_media_transcode, with why. */
enum sg_error sgav_transcode(const struct sg_transcode *t, const struct sgav_transcode_sink *sink,
                             struct sg_transcode_result *out,
                             char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
#endif
