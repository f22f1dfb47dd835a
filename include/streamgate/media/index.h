/* The media index of a file: its tracks and where each segment begins, made once by the media process and kept beside the asset. Everything a playlist says comes
 * from here. The encoded form is hostile until decoded (the process that makes it parses untrusted media). No libav here. */
#ifndef STREAMGATE_MEDIA_INDEX_H
#define STREAMGATE_MEDIA_INDEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"

enum sg_track_kind { SG_TRACK_VIDEO, SG_TRACK_AUDIO };
enum sg_codec { SG_CODEC_OTHER, SG_CODEC_H264, SG_CODEC_HEVC, SG_CODEC_AV1, SG_CODEC_AAC, SG_CODEC_OPUS, SG_CODEC_MP3, SG_CODEC_AC3, SG_CODEC_EAC3, SG_CODEC_FLAC, SG_CODEC_COUNT };

/* Every output track is shifted by this much against the source's timeline, so that the decode times of frames that precede time 0 (B-frames, encoder
 * priming) stay positive without edit lists; the same for all renditions of all assets. */
#define SG_TIMELINE_OFFSET_S 10

/* One segment of one track. Times are in the track's timescale on the source's timeline (0 is where the source's presentation begins). */
struct sg_segment {
    int64_t start;        /* presentation time of its first frame */
    uint64_t duration;    /* to the start of the next; of the last: to the end of its last frame. > 0 */
    int64_t seek_dts;     /* decode time of its first sample in stream_timebase units: where the demuxer seeks */
    uint64_t bytes_fmp4;  /* exact size as fMP4 */
    uint64_t bytes_ts;    /* size as MPEG-TS (of the muxed whole, in the video track; in the audio track only when there is no video); 0 when TS is not offered */
    uint32_t samples;
    uint32_t key_bytes;   /* of its first sample when that is a key frame that is shown and begins a closed group; else 0. Video only */
};

struct sg_track {
    enum sg_track_kind kind;
    enum sg_codec codec;
    uint32_t stream;               /* stream number in the file */
    char name[24];                 /* rendition name in URLs: "original" for the video, "audio", "audio-2"... */
    char codec_name[24];           /* "h264" */
    char codecs[48];               /* RFC 6381, e.g. avc1.64001f; may be empty when the index is not packaged */
    char language[12];             /* BCP 47 or "und" */
    char title[64];
    bool is_default;
    bool copyable;                 /* may be put into an MP4 as it is, and browsers play that: nothing has to be encoded anew */
    uint32_t timescale;            /* of start and duration, and of the fMP4 track */
    uint32_t stream_tb_num, stream_tb_den;
    uint32_t width, height;        /* coded picture after cropping */
    uint32_t display_width, display_height; /* after SAR and rotation */
    uint32_t sar_num, sar_den;
    uint16_t rotation;             /* 0 90 180 270, clockwise to display */
    uint32_t fps_num, fps_den;     /* average */
    uint32_t sample_rate; uint16_t channels;
    int64_t start; uint64_t duration; /* whole track, timescale units */
    uint64_t bytes;                /* sum of sample sizes */
    uint32_t samples;
    uint32_t n_segments;           /* 0 when the index is not packaged; samples and bytes may then be 0 too, start and duration as the container tells them */
    const struct sg_segment *segments;
};

struct sg_media_index {
    _Atomic uint32_t refs;
    char content_type[40];         /* from the bytes: "video/mp4", "audio/mp4", ... */
    char format[24];               /* "mp4" "mov" ... */
    uint64_t duration_ms;
    bool fmp4, ts;                 /* which forms can be packaged without re-encoding. Neither: the file is a source that has to be transcoded; its tracks are described, not cut */
    bool iframes;                  /* the sizes of key frames are known, of some segment at least: set by decode */
    bool needs_walk;               /* the demuxer must read the file through before it can seek (fragmented) */
    bool independent;              /* each segment of the video can be decoded without another: no cut lies in an open group of pictures */
    bool texts;                    /* the file holds tracks of text that can become subtitles (media/subtitles.h) */
    uint32_t n_tracks;
    const struct sg_track *tracks; /* the video first */
};

/* Browsers without these are many: they are never all the sound there is of a film that is packaged. */
static inline bool sg_codec_in_browsers(enum sg_codec codec)
{
    return codec != SG_CODEC_AC3 && codec != SG_CODEC_EAC3;
}

/* Of sound: the less, the more players have it. AAC is 0: all have it. */
static inline unsigned sg_codec_rank(enum sg_codec codec)
{
    return codec == SG_CODEC_AAC ? 0 : sg_codec_in_browsers(codec) ? (unsigned)codec : SG_CODEC_COUNT + (unsigned)codec;
}

static inline bool sg_media_index_packaged(const struct sg_media_index *index)
{
    return index->fmp4 || index->ts;
}

/* Checks everything: bounds, counts, order, UTF-8, sums. MEDIA_WORKER when it does not hold. One reference to the caller. */
enum sg_error sg_media_index_decode(const void *bytes, size_t len, struct sg_media_index **out) SG_NODISCARD;
/* malloc'ed. The tracks and segments of `index` may be any memory. */
enum sg_error sg_media_index_encode(const struct sg_media_index *index, void **out, size_t *out_len) SG_NODISCARD;
struct sg_media_index *sg_media_index_ref(struct sg_media_index *index);
void sg_media_index_unref(struct sg_media_index *index);
size_t sg_media_index_weight(const struct sg_media_index *index);
/* By name; NULL when there is none. */
const struct sg_track *sg_media_index_track(const struct sg_media_index *index, const char *name);
const struct sg_track *sg_media_index_video(const struct sg_media_index *index);  /* NULL without */
const struct sg_track *sg_media_index_audio(const struct sg_media_index *index);  /* the default one; NULL without */
/* The track whose segments drive the TS form: the video, else the audio. */
const struct sg_track *sg_media_index_main(const struct sg_media_index *index);
uint32_t sg_media_index_ts_segments(const struct sg_media_index *index); /* number of muxed TS segments (audio may outlast video) */

#endif
