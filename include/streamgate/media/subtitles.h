/* What the daemon asks of media processes about subtitles. Nothing of a file from outside is parsed here: a process reads it and answers canonical WebVTT, which is read again, strictly
 * (media/webvtt.h). No libav here. */
#ifndef STREAMGATE_MEDIA_SUBTITLES_H
#define STREAMGATE_MEDIA_SUBTITLES_H

#include "streamgate/base/language.h"
#include "streamgate/media/media.h"
#include "streamgate/media/webvtt.h"

#define SG_SUBTITLE_TRACKS_MAX 32

/* A track of text in a film. */
struct sg_subtitle_track {
    uint32_t stream;
    char language[12]; /* BCP 47 or "und" */
    char title[64];    /* "" without */
    bool forced, captions;
};
struct sg_subtitle_tracks { uint32_t n; struct sg_subtitle_track items[SG_SUBTITLE_TRACKS_MAX]; };

/* *out: a reference. */
struct sg_subtitle_text { struct sg_buf *text; uint32_t cues; };

/* Blocks until a process of the pool has made WebVTT of the file (SRT, WebVTT, ASS or SSA, told apart by its bytes). fd stays the caller's. `why` (on error) is fit for a problem detail. Errors:
 * UNSUPPORTED_MEDIA (no such file), UNPROCESSABLE (its encoding, no cue), TOO_LARGE, MEDIA_WORKER, MEDIA_TIMEOUT, UNAVAILABLE. */
enum sg_error sg_subtitles_convert(struct sg_media_pool *pool, int fd, const struct sg_media_limits *limits, struct sg_subtitle_text *out, char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;

/* A film whose texts are taken out, in a process of its own: that may mean to read all of it. stop_fd (or -1): when it is readable the process is killed, and the call under way and all later ones are
 * CANCELLED. One owner. */
struct sg_subtitle_film;
struct sg_subtitle_film_params { int fd; int stop_fd; /* both the caller's, and good until close */ const struct sg_media_limits *limits; struct sg_media_pool_params process; /* workers and max_reply_bytes are not looked at */ };
enum sg_error sg_subtitle_film_open(const struct sg_subtitle_film_params *params, struct sg_subtitle_film **out) SG_NODISCARD;
void sg_subtitle_film_close(struct sg_subtitle_film **film); /* NULL inside is fine */
/* Both block; errors as above. Tracks beyond SG_SUBTITLE_TRACKS_MAX are not told of. */
enum sg_error sg_subtitle_film_tracks(struct sg_subtitle_film *film, struct sg_subtitle_tracks *out, char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
enum sg_error sg_subtitle_film_extract(struct sg_subtitle_film *film, uint32_t stream, struct sg_subtitle_text *out, char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;

#endif
