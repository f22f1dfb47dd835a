/* The calls the daemon makes of a media process, as bytes. Both ends use this file: the daemon
 * encodes, the process decodes strictly, so neither trusts the other's arithmetic. Layout,
 * little-endian: u8 version, u8 op, key, limits, then every field of struct media_call in order;
 * nothing may follow. */
#ifndef STREAMGATE_MEDIA_CALL_H
#define STREAMGATE_MEDIA_CALL_H

#include "streamgate/base/error.h"
#include "streamgate/media/media.h"

enum media_op {
    MEDIA_OP_PROBE = 1,
    MEDIA_OP_INIT,
    MEDIA_OP_FMP4,
    MEDIA_OP_TS,
    MEDIA_OP_POSTER,
    MEDIA_OP_STORYBOARD,
    MEDIA_OP_IFRAME,
    MEDIA_OP_TEXT_CONVERT, /* the file is subtitles, and kept open by nobody */
    MEDIA_OP_TEXT_LIST,
    MEDIA_OP_TEXT_EXTRACT,
    MEDIA_OP_END,
    MEDIA_OP_SWEEP = MEDIA_OP_END /* no payload, no file: only what follows every call */
};

enum { MEDIA_KEY_SIZE = 128, MEDIA_PARTS_MAX = 2, MEDIA_CALL_MAX = 512 };

/* A run of samples of one stream. */
struct media_part {
    uint32_t stream;
    enum sg_track_kind kind;
    enum sg_codec codec;
    uint32_t timescale;
    int64_t seek_dts; /* of the first sample, in the stream's time base */
    uint32_t samples;
    bool last; /* of its track: `end` is the presentation time (timescale) at which the track ends;
                */
    int64_t end; /* else the decode time (time base) of the sample that follows */
};

struct media_call {
    enum media_op op;
    char key[MEDIA_KEY_SIZE];
    struct sg_media_limits limits;
    uint32_t number;  /* of the segment or sheet; texts: of the stream */
    uint64_t bytes;   /* what the fMP4 segment or key frame must come to */
    int64_t start;    /* key frame: when it is shown, in the timescale of its part */
    uint64_t time_ms; /* poster: when, or with any how long the film is; storyboard: from tile to
                         tile */
    bool any;         /* poster: whichever picture is best */
    uint32_t width;   /* poster; storyboard: of a tile */
    uint32_t height;  /* storyboard: of a tile */
    uint32_t count;   /* storyboard: tiles on the sheet */
    uint32_t n_parts; /* TS: the video first; others: one; probe, pictures: none */
    struct media_part parts[MEDIA_PARTS_MAX];
};

/* INTERNAL when it does not fit (a key that is too long). */
enum sg_error media_call_encode(const struct media_call *call, uint8_t out[MEDIA_CALL_MAX],
                                size_t *out_len) SG_NODISCARD;
/* INVALID */
enum sg_error media_call_decode(const uint8_t *bytes, size_t len,
                                struct media_call *out) SG_NODISCARD;
/* From what a caller of sg_media_render gives. INVALID: no such track or segment. */
enum sg_error media_call_of_render(const struct sg_render *r, struct media_call *out) SG_NODISCARD;

#endif
