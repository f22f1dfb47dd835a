/* Which streams of a file are its tracks, and the description of tracks that are not cut. */
#ifndef STREAMGATE_MEDIA_AV_DESCRIBE_H
#define STREAMGATE_MEDIA_AV_DESCRIBE_H

#include "av_media.h"

/* The picture to show and the sounds to offer. Cover art, subtitles, time codes and data are passed
 * over. */
struct sgav_choice {
    AVStream *video;
    AVStream **audio; /* as many as there are streams */
    unsigned n_audio;
    bool packaged; /* all of these can be packaged; else they can be decoded */
    const char *refused_video, *refused_audio; /* codecs that do not serve */
};

/* Video or audio that is more than a cover, and there at all. */
bool sgav_stream_counts(const struct sgav_source *source, const AVStream *s);
/* What can be packaged, if that is all there is to it; else what can be decoded. UNSUPPORTED_MEDIA
 * (encrypted, or a codec), UNPROCESSABLE (nothing to see or hear). */
enum sg_error sgav_choose(const struct sgav_source *source, struct sgav_choice *out,
                          char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
enum sg_error sgav_choose_described(const struct sgav_source *source, struct sgav_choice *out,
                                    char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
/* Times, scale and frame rate of a track whose codec and picture or sound are told already. */
enum sg_error sgav_describe_track(struct sgav_source *source, AVStream *stream,
                                  struct sg_track *track,
                                  char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;

#endif
