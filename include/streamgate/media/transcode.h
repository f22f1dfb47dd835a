/* Making renditions: one process, one decode, several files at once. The plan is decided by the daemon (layers/renditions.h); the process only carries it out. No libav here
 * (media/av_transcode*.c run only in the process). */
#ifndef STREAMGATE_MEDIA_TRANSCODE_H
#define STREAMGATE_MEDIA_TRANSCODE_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/media/media.h"

#define SG_TRANSCODE_OUTPUTS_MAX 16
#define SG_TRANSCODE_AUDIOS_MAX 16

enum sg_transcode_video {
    SG_TRANSCODE_VIDEO_NONE,
    SG_TRANSCODE_VIDEO_COPY, /* packets as they are */
    SG_TRANSCODE_VIDEO_H264, /* High, 8 bit 4:2:0, square pixels, upright, progressive, SDR; every frame with its time, closed groups, key frames on a grid of keyframe_ms of the source's timeline */
};

struct sg_transcode_audio {
    uint32_t stream;   /* number in the source, as sg_track.stream */
    bool copy;         /* else AAC-LC */
    uint16_t channels; /* AAC: 1 or 2; more are mixed down */
    uint32_t bitrate;  /* AAC: bits a second */
};

/* One file: an MP4 with edit lists, so that its timeline is the source's. With neither video nor audio: not valid. */
struct sg_transcode_output {
    enum sg_transcode_video video;
    uint32_t video_stream;
    uint32_t width, height;      /* H264: picture as displayed, both even */
    uint32_t bitrate;            /* H264: average, bits a second, peak 1.5 times over 2 s; 0: constant quality */
    uint32_t crf;                /* H264 with bitrate 0: 1 to 51; with a bitrate: not looked at */
    uint32_t n_audios;
    struct sg_transcode_audio audios[SG_TRANSCODE_AUDIOS_MAX]; /* equal ones of several outputs are encoded once */
    int fd;                      /* writable, empty, the caller's */
    int live_fd;                 /* the same for its main track (video, else its first audio) as fMP4 while it is made; -1: not wanted */
};

struct sg_transcode {
    int fd;                      /* source, the caller's */
    const struct sg_media_limits *limits;
    uint32_t keyframe_ms;        /* 2000 */
    uint32_t threads;            /* of each encoder and of the decoder; 0: as many as there are cores */
    const char *preset;          /* of x264: "veryfast"...; up to 15 characters */
    uint32_t n_outputs;
    struct sg_transcode_output outputs[SG_TRANSCODE_OUTPUTS_MAX];
};

/* What the process tells meanwhile, in order. */
enum sg_transcode_event_kind { SG_TRANSCODE_PROGRESS, SG_TRANSCODE_LIVE_TRACK, SG_TRANSCODE_LIVE_SEGMENT };
struct sg_transcode_event {
    enum sg_transcode_event_kind kind;
    uint64_t done_us, frames;    /* PROGRESS, a few times a second: how far on the source's timeline; pictures (or, without video, sound frames) so far */
    uint32_t output;             /* LIVE_*: which one */
    struct sg_track track;       /* LIVE_TRACK, once before its segments: kind, codec, codec_name, codecs, language, title, timescale, picture or sound; segments NULL. The initialisation segment is at [0, bytes) of live_fd */
    /* LIVE_SEGMENT: sg_segment as the index of the finished file will have it (seek_dts, bytes_ts: 0), at [offset, offset + segment.bytes_fmp4) of live_fd. Numbered from 0 in order. */
    struct sg_segment segment;
    uint64_t offset;             /* LIVE_TRACK: 0 */
    uint64_t bytes;              /* LIVE_TRACK: of the initialisation segment */
};

/* What came out, for each output: what its file must hold when it is probed. */
struct sg_transcode_result {
    struct { uint64_t frames; int64_t start_us, end_us; } video[SG_TRANSCODE_OUTPUTS_MAX]; /* packets written; of the presentation on the source's timeline. frames 0: no video */
    uint64_t decoded;            /* pictures the source gave */
    uint64_t bytes[SG_TRANSCODE_OUTPUTS_MAX]; /* of the files */
};

/* How the process may be. */
struct sg_transcode_process { const char *exe; const char *const *argv; /* as in sg_media_pool_params */ uint64_t memory_bytes, file_bytes, cpu_seconds; uint64_t timeout_ms, stall_ms; unsigned niceness, spare_cpus; /* 0 to 19; see watch.crowded */ };
struct sg_transcode_watch {
    int stop_fd;                 /* readable: kill it at once; -1 */
    void (*event)(void *arg, const struct sg_transcode_event *e); /* on the calling thread */
    bool (*crowded)(void *arg);  /* as in sg_media_task; NULL: never */
    void *arg;
};
/* Starts a process, blocks until it is through or killed; nothing of it is left then. The files are written but not synced. `why` (on error) is fit for a problem detail. Errors: as sg_media_probe; CANCELLED (stop_fd);
 * NO_SPACE (an output could not grow); MEDIA_TIMEOUT (timeout_ms in all, or stall_ms without an event). */
enum sg_error sg_media_transcode(const struct sg_transcode_process *process, const struct sg_transcode *t, const struct sg_transcode_watch *watch, struct sg_transcode_result *out,
                                 char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;

#endif
