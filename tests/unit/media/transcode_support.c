/* See transcode_support.h. */
#include "transcode_support.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "streamgate/sandbox/media_task.h"

#include "support/unit.h"

enum { SOCK = 3 };

static const struct sg_media_limits limits = {.max_pixels = 1000000,
                                              .max_duration_ms = 2000000,
                                              .max_frames = 3000000,
                                              .max_streams = 4,
                                              .max_body_bytes = 5000000,
                                              .segment_ms = 6000};

static int make_file(void)
{
    int fd = memfd_create("transcode", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

void hand_plan_open(struct hand_plan *h)
{
    for (size_t i = 0; i < SG_ARRAY_LEN(h->fds); i++)
        h->fds[i] = make_file();
    h->t = (struct sg_transcode){
        .fd = h->fds[0],
        .limits = &limits,
        .keyframe_ms = 2000,
        .threads = HAND_GOOD,
        .preset = "veryfast",
        .n_outputs = 2,
        .outputs = {{.video = SG_TRANSCODE_VIDEO_H264,
                     .video_stream = 1,
                     .width = 1280,
                     .height = 720,
                     .bitrate = 2500000,
                     .n_audios = 2,
                     .audios = {{.stream = 2, .channels = 2, .bitrate = 128000},
                                {.stream = 3, .copy = true}},
                     .fd = h->fds[1],
                     .live_fd = h->fds[2]},
                    {.n_audios = 1,
                     .audios = {{.stream = 2, .copy = true}},
                     .fd = h->fds[3],
                     .live_fd = -1}},
    };
    assert_int_equal(write(h->fds[0], "source", 6), 6);
}

void hand_plan_close(struct hand_plan *h)
{
    for (size_t i = 0; i < SG_ARRAY_LEN(h->fds); i++)
        (void)close(h->fds[i]);
}

static int grow(const struct sg_transcode *t)
{
    struct sg_transcode_result result = hand_result();
    off_t live = HAND_INIT_BYTES + HAND_SEGMENTS * HAND_SEGMENT_BYTES;
    if (ftruncate(t->outputs[0].live_fd, live) != 0)
        return -1;
    for (uint32_t i = 0; i < t->n_outputs; i++)
        if (ftruncate(t->outputs[i].fd, (off_t)result.bytes[i]) != 0)
            return -1;
    return 0;
}

void hand_plan_grow(struct hand_plan *h)
{
    assert_int_equal(grow(&h->t), 0);
}

struct sg_transcode_event hand_track(void)
{
    return (struct sg_transcode_event){
        .kind = SG_TRANSCODE_LIVE_TRACK,
        .bytes = HAND_INIT_BYTES,
        .track = {.kind = SG_TRACK_VIDEO,
                  .codec = SG_CODEC_H264,
                  .codec_name = "h264",
                  .codecs = "avc1.64001f",
                  .language = "und",
                  .title = "Caf\xc3\xa9",
                  .timescale = 90000,
                  .width = 1280,
                  .height = 720,
                  .display_width = 1280,
                  .display_height = 720,
                  .sar_num = 1,
                  .sar_den = 1,
                  .fps_num = 25,
                  .fps_den = 1},
    };
}

struct sg_transcode_event hand_segment(uint32_t number)
{
    return (struct sg_transcode_event){
        .kind = SG_TRANSCODE_LIVE_SEGMENT,
        .offset = HAND_INIT_BYTES + (uint64_t)number * HAND_SEGMENT_BYTES,
        .segment = {.start = -3000 + (int64_t)number * 540000,
                    .duration = 540000,
                    .bytes_fmp4 = HAND_SEGMENT_BYTES,
                    .samples = 150,
                    .key_bytes = 300},
    };
}

struct sg_transcode_result hand_result(void)
{
    return (struct sg_transcode_result){
        .video = {{.frames = 450, .start_us = -33333, .end_us = 17966667}},
        .decoded = 451,
        .bytes = {5000, 600},
    };
}

/* ---- the process ---- */

static enum sg_error tell(const struct sg_transcode_event *e)
{
    uint8_t bytes[TRANSCODE_EVENT_MAX];
    size_t len = 0;
    enum sg_error err = transcode_event_encode(e, bytes, &len);
    if (!err)
        sg_media_task_tell(SOCK, bytes, len);
    return err;
}

static enum sg_error tell_all(uint32_t segments)
{
    struct sg_transcode_event progress = {.kind = SG_TRANSCODE_PROGRESS, .frames = 150};
    struct sg_transcode_event track = hand_track();
    enum sg_error err = tell(&track);
    for (uint32_t i = 0; !err && i < segments; i++) {
        struct sg_transcode_event segment = hand_segment(i);
        progress.done_us += 6000000;
        err = tell(&progress);
        if (!err)
            err = tell(&segment);
    }
    return err;
}

static void hang(void)
{
    for (;;)
        (void)poll(NULL, 0, -1);
}

static enum sg_error carry_out(const struct transcode_plan *plan, struct sg_media_task_answer *an)
{
    struct sg_transcode_result result = hand_result();
    enum hand_scenario scenario = (enum hand_scenario)plan->t.threads;
    if (scenario == HAND_NO_SPACE || scenario == HAND_INTERNAL) {
        (void)snprintf(an->message, sizeof(an->message), "No space for the file");
        return scenario == HAND_NO_SPACE ? SG_ERR_NO_SPACE : SG_ERR_INTERNAL;
    }
    if (scenario == HAND_GARBAGE)
        sg_media_task_tell(SOCK, "garbage", 7);
    if (grow(&plan->t))
        return SG_ERR_IO;
    enum sg_error err = tell_all(scenario == HAND_FAR_SEGMENT ? HAND_SEGMENTS + 1 : HAND_SEGMENTS);
    if (scenario == HAND_HANG)
        hang();
    if (scenario == HAND_WRONG_SIZE)
        result.bytes[1]++;
    if (!err)
        err = transcode_result_encode(&plan->t, &result, an->payload, &an->payload_len);
    return err;
}

static enum sg_error handle(void *ctx, const struct sg_media_task_view *call,
                            struct sg_media_task_answer *an)
{
    struct transcode_plan plan;
    (void)ctx;
    enum sg_error err = transcode_plan_decode(
        (struct transcode_bytes){call->payload, call->payload_len}, call->fds, call->n_fds, &plan);
    return err ? err : carry_out(&plan, an);
}

int transcode_worker_main(int argc, char **argv)
{
    struct sg_sandbox_limits got;
    if (argc != 2 || strcmp(argv[1], TRANSCODE_TEST_ARG) != 0)
        return -1;
    if (sg_worker_receive_limits(SOCK, &got) || !got.task || sg_sandbox_enter(SOCK, &got))
        return 11;
    return sg_media_task_serve(SOCK, handle, NULL);
}
