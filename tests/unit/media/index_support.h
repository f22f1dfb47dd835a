/* Indexes made by hand: a film of three segments with an audio track that outlasts it, and pieces
 * to vary. */
#ifndef INDEX_SUPPORT_H
#define INDEX_SUPPORT_H

#include "streamgate/base/buf.h"
#include "streamgate/media/presentation.h"

struct hand_index {
    struct sg_media_index index;
    struct sg_track tracks[3];
    struct sg_segment video[3], audio[4], second[1];
};

/* Video 25 fps, 6 + 6 + 2.5 s at 90 kHz; audio 48 kHz, primed by 1024 samples, 19 s long: three
 * segments along the video's and a tail. The default audio is "audio"; with two_audio there is
 * "audio-2" in German, too. */
void hand_index_fill(struct hand_index *h, bool two_audio);
/* Encodes and decodes; NULL when refused. */
struct sg_media_index *hand_index_round(const struct sg_media_index *index);

/* Of a presentation that offers this index alone, which stays the caller's. */
enum sg_error hand_master(const struct sg_media_index *index, bool ts, struct sg_buf **out);
enum sg_error hand_manifest(const struct sg_media_index *index, struct sg_buf **out);

#endif
