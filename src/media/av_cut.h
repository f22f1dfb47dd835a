/* What cutting video and cutting sound into segments have in common. */
#ifndef STREAMGATE_MEDIA_AV_CUT_H
#define STREAMGATE_MEDIA_AV_CUT_H

#include "av_media.h"

enum {
    TS_PACKET = 188,
    TS_PAYLOAD = 184,
    TS_TABLES = 3 * TS_PACKET, /* PAT, PMT, SDT once a segment */
    PES_HEADER = 14,           /* with a PTS */
    TS_LEAD_US = 400000,       /* of the clock reference before decoding */
};

/* Collects the segments of a track. */
struct cutter {
    struct sg_segment *segments;
    size_t n, cap;
    struct sg_segment current;
    uint64_t payload; /* of current */
};

/* Ends the current segment. UNPROCESSABLE when it is larger than max_bytes. */
enum sg_error cutter_flush(struct cutter *c, bool video, uint64_t max_bytes,
                           char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
/* Segment starts are set; durations follow from them and `end`. Gives the segments to the track. */
enum sg_error cutter_finish(struct cutter *c, struct sg_track *t, int64_t end) SG_NODISCARD;

/* Within a century: what is farther is refused, so no sum overflows. */
static inline bool time_sane(int64_t t, uint32_t tb_den)
{
    int64_t bound = INT64_C(100) * 366 * 86400 * tb_den;
    return t > -bound && t < bound;
}
/* As long as the frame before (delta), when that is believable. */
int64_t usual_duration(const AVStream *stream, int64_t delta);
/* How long the last frame lasts: what is left of the stream's duration, else as long as the one
 * before. */
int64_t last_duration(const struct sgav_source *source, const AVStream *stream, int64_t first_dts,
                      int64_t last_dts, int64_t delta);

#endif
