/* What the process of a transcoding tells, as one gone wrong might: events one after another and
 * the result, against a plan with small files; and the messages around them; and, as that process
 * reads it, the plan. The first byte chooses. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "streamgate/base/str.h"

#include "task_proto.h"
#include "transcode_wire.h"

enum { FILE_BYTES = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static const struct sg_transcode *plan(void)
{
    static const struct sg_media_limits limits = {.segment_ms = 6000};
    static struct sg_transcode t;
    if (t.n_outputs)
        return &t;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    check(fd >= 0 && ftruncate(fd, FILE_BYTES) == 0);
    t = (struct sg_transcode){
        .fd = fd,
        .limits = &limits,
        .keyframe_ms = 2000,
        .preset = "fast",
        .n_outputs = 3,
        .outputs =
            {{.video = SG_TRANSCODE_VIDEO_H264,
              .width = 1280,
              .height = 720,
              .crf = 20,
              .fd = fd,
              .live_fd = fd},
             {.n_audios = 1, .audios = {{.channels = 2, .bitrate = 1}}, .fd = fd, .live_fd = fd},
             {.video = SG_TRANSCODE_VIDEO_COPY, .fd = fd, .live_fd = -1}},
    };
    return &t;
}

static void check_event(const struct transcode_hearing *h, const struct sg_transcode_event *e)
{
    check(e->output < h->plan->n_outputs && e->track.segments == NULL);
    check(sg_str_is_utf8(e->track.title, strnlen(e->track.title, sizeof(e->track.title))));
    for (uint32_t i = 0; i < h->plan->n_outputs; i++)
        check(h->live[i].bytes <= FILE_BYTES && (h->live[i].announced || !h->live[i].segments));
    check(!h->live[2].announced);
}

/* Each event follows two bytes of its length. */
static void run_events(const uint8_t *data, size_t size)
{
    struct transcode_hearing h = {.plan = plan()};
    struct sg_transcode_event e;
    while (size >= 2) {
        size_t len = data[0] | (size_t)data[1] << 8;
        data += 2;
        size -= 2;
        len = len < size ? len : size;
        if (transcode_event_decode(&h, data, len, &e) == SG_OK) {
            uint8_t bytes[TRANSCODE_EVENT_MAX];
            size_t encoded = 0;
            check_event(&h, &e);
            check(transcode_event_encode(&e, bytes, &encoded) == SG_OK);
        }
        data += len;
        size -= len;
    }
}

static void run_result(const uint8_t *data, size_t size)
{
    uint8_t bytes[TRANSCODE_RESULT_MAX];
    size_t len = 0;
    struct sg_transcode_result r;
    if (transcode_result_decode(plan(), data, size, &r) != SG_OK)
        return;
    check(transcode_result_encode(plan(), &r, bytes, &len) == SG_OK);
    check(len == size && memcmp(bytes, data, size) == 0); /* one form for one result */
}

static void run_plan(const uint8_t *data, size_t size)
{
    static const int fds[TRANSCODE_FDS_MAX];
    struct transcode_plan p;
    uint8_t bytes[TRANSCODE_PLAN_MAX];
    size_t len = 0;
    if (size == 0)
        return;
    size_t n_fds = data[0] % (TRANSCODE_FDS_MAX + 1);
    if (transcode_plan_decode((struct transcode_bytes){data + 1, size - 1}, fds, n_fds, &p) !=
        SG_OK)
        return;
    check(transcode_plan_encode(&p.t, bytes, &len) == SG_OK);
    check(len == size - 1 && memcmp(bytes, data + 1, len) == 0);
}

static void run_message(const uint8_t *data, size_t size)
{
    struct sg_task_note note;
    struct sg_media_task_view view;
    if (sg_task_note_decode(data, size, 0, &note) == SG_OK) {
        check(note.payload + note.payload_len == data + size);
        check(note.payload_len <= SG_MEDIA_TASK_ANSWER_MAX);
        check(sg_str_is_utf8(note.message, strlen(note.message)));
    }
    if (size > 0 && sg_task_call_decode(data + 1, size - 1, data[0], &view) == SG_OK)
        check(view.n_fds <= SG_MEDIA_TASK_FDS_MAX &&
              view.payload + view.payload_len == data + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] % 4) {
    case 0:
        run_events(data + 1, size - 1);
        break;
    case 1:
        run_result(data + 1, size - 1);
        break;
    case 2:
        run_plan(data + 1, size - 1);
        break;
    default:
        run_message(data + 1, size - 1);
        break;
    }
    return 0;
}
