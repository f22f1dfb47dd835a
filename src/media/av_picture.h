/* Pictures made of decoded frames: posters and sheets of storyboards. All are full range YUV 4:2:0,
 * sides even. */
#ifndef STREAMGATE_MEDIA_AV_PICTURE_H
#define STREAMGATE_MEDIA_AV_PICTURE_H

#include "av_media.h"

/* The first stream of moving pictures; NULL: none. */
AVStream *sgav_picture_stream(const struct sgav_source *source);
/* av_poster_choice.c: when the key frame that stands best for the film is shown, in the stream's
 * time base; untouched when there is none to be seen. NO_MEMORY, UNPROCESSABLE. */
enum sg_error sgav_poster_choose(struct sgav_source *source, AVStream *stream,
                                 const struct media_call *call, int64_t *pts) SG_NODISCARD;
/* NO_MEMORY */
enum sg_error sgav_picture_alloc(int w, int h, AVFrame **out) SG_NODISCARD;
/* filter: one of SWS_*. UNPROCESSABLE, NO_MEMORY. */
enum sg_error sgav_picture_scale(const AVFrame *in, int w, int h, int filter,
                                 AVFrame **out) SG_NODISCARD;
/* Clockwise, by a multiple of 90 degrees; replaces the frame. NO_MEMORY, and it is as it was. */
enum sg_error sgav_picture_turn(AVFrame **frame, uint16_t rotation) SG_NODISCARD;
/* As JPEG. UNPROCESSABLE, NO_MEMORY. */
enum sg_error sgav_picture_encode(AVFrame *frame, struct sgav_body *out) SG_NODISCARD;

#endif
