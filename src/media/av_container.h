/* Containers other than MP4 and MOV: read only to be transcoded. */
#ifndef STREAMGATE_MEDIA_AV_CONTAINER_H
#define STREAMGATE_MEDIA_AV_CONTAINER_H

#include "av_media.h"

struct sgav_container {
    const char *format;        /* as in the index */
    const char *demuxer;       /* libavformat's, by force and alone */
    const char *video, *audio; /* media types with a picture and without */
    bool declares;             /* its header says which streams there are */
    bool parameters_in_band;   /* AAC describes itself in its packets */
    bool key_frames_unknown;   /* it can be sought in by time alone */
    bool no_shown_times;       /* only the order of decoding is told */
};

/* By the first bytes of the file (`len` of them at `head`), and by more of it where they do not
 * suffice. NULL in *out: none of these. UNPROCESSABLE: one of these, but cut short. */
enum sg_error sgav_container_of(const uint8_t *head, size_t len, int fd, int64_t size,
                                const struct sgav_container **out,
                                char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;

#endif
