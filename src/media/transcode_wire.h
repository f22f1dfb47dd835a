/* A transcoding as bytes: the plan for the process, and the events and the result that come back.
 * Both ends use this file; the process believes the plan as little as the daemon what it is told.
 * Little-endian by the cursors of wire.h; nothing may follow.
 *
 *   plan    limits, keyframe_ms, threads, preset, u32 n_outputs; for each output: video,
 *           video_stream, width, height, bitrate, crf, u8 has live file, u32 n_audios, the audios.
 *           With it go the descriptors: the source; for each output its file and its live file
 *   event   u8 kind, then
 *           PROGRESS      done_us, frames
 *           LIVE_TRACK    output, bytes, and the track as an index of one track with one segment
 *                         that stands for nothing, so that the index's checks are this one's
 *           LIVE_SEGMENT  output, offset, start, duration, bytes_fmp4, samples,
 *                         key_bytes
 *   result  decoded; for each output of the plan: frames, start_us, end_us, bytes
 */
#ifndef STREAMGATE_MEDIA_TRANSCODE_WIRE_H
#define STREAMGATE_MEDIA_TRANSCODE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "streamgate/media/transcode.h"

enum {
    TRANSCODE_PRESET_SIZE = 16,
    TRANSCODE_FDS_MAX = 1 + 2 * SG_TRANSCODE_OUTPUTS_MAX,
    TRANSCODE_PLAN_MAX = 8192,
    TRANSCODE_EVENT_MAX = 2048,
    TRANSCODE_RESULT_MAX = 1024,
};

/* What a decoded plan points to. */
struct transcode_plan {
    struct sg_transcode t;
    struct sg_media_limits limits;
    char preset[TRANSCODE_PRESET_SIZE];
};

/* INVALID: a plan that cannot be carried out. fds: n_fds of them, the plan's own. */
enum sg_error transcode_plan_encode(const struct sg_transcode *t, uint8_t bytes[TRANSCODE_PLAN_MAX],
                                    size_t *out_len) SG_NODISCARD;
size_t transcode_plan_fds(const struct sg_transcode *t, int fds[TRANSCODE_FDS_MAX]);
struct transcode_bytes {
    const uint8_t *ptr;
    size_t len;
};
enum sg_error transcode_plan_decode(struct transcode_bytes bytes, const int *fds, size_t n_fds,
                                    struct transcode_plan *out) SG_NODISCARD;

/* INTERNAL: the event is none that could be decoded. NO_MEMORY. */
enum sg_error transcode_event_encode(const struct sg_transcode_event *e,
                                     uint8_t bytes[TRANSCODE_EVENT_MAX],
                                     size_t *out_len) SG_NODISCARD;
enum sg_error transcode_result_encode(const struct sg_transcode *t,
                                      const struct sg_transcode_result *result,
                                      uint8_t bytes[TRANSCODE_RESULT_MAX],
                                      size_t *out_len) SG_NODISCARD;

/* What the events so far have said; zeroed but for the plan at the start. One owner. */
struct transcode_hearing {
    const struct sg_transcode *plan;
    uint64_t done_us, frames;
    struct transcode_live {
        bool announced;
        uint32_t segments;
        uint64_t bytes;  /* where the next segment begins in the live file */
        int64_t end;     /* of the last segment */
        uint64_t lasted; /* all segments together */
    } live[SG_TRANSCODE_OUTPUTS_MAX];
};
/* The next event. MEDIA_WORKER when it cannot be true: out of order or range, text that is none, a
 * segment that is not in its file. Errors of the daemon's own: NO_MEMORY, IO. */
enum sg_error transcode_event_decode(struct transcode_hearing *h, const uint8_t *bytes, size_t len,
                                     struct sg_transcode_event *out) SG_NODISCARD;
/* The result of a plan whose files have been written. Errors as above. */
enum sg_error transcode_result_decode(const struct sg_transcode *t, const uint8_t *bytes,
                                      size_t len, struct sg_transcode_result *out) SG_NODISCARD;

#endif
