/* Sound in a master playlist: a group of renditions for each codec (RFC 8216 4.3.4.1.1). Players
 * drop a variant when they lack one of its codecs, so what all of them can hear never stands in a
 * group with what some cannot. */
#ifndef STREAMGATE_MEDIA_PLAYLIST_AUDIO_H
#define STREAMGATE_MEDIA_PLAYLIST_AUDIO_H

#include "streamgate/base/str.h"
#include "streamgate/media/presentation.h"

#include "rows.h"

struct sound_group {
    enum sg_codec codec;
    char id[16];
    struct rates most; /* of its most expensive member */
};

struct sound_groups {
    uint32_t n;
    struct sound_group group[SG_CODEC_COUNT]; /* that of the default sound first */
};

/* NO_MEMORY */
enum sg_error sound_groups_of(const struct sg_presentation *p,
                              struct sound_groups *out) SG_NODISCARD;
/* What is heard in the group where the presentation has audios[place]; NULL: that has no place of
 * its own there. */
const struct sg_offer *sound_group_member(const struct sg_presentation *p,
                                          const struct sound_group *g, uint32_t place);
void sound_groups_put(struct sg_text *text, const struct sg_presentation *p,
                      const struct sound_groups *groups);

#endif
