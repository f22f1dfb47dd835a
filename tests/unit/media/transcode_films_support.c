#include "transcode_films_support.h"

#include <fcntl.h>
#include <libavutil/log.h>
#include <stdio.h>
#include <unistd.h>

#include "av_transcode.h"
#include "dump_support.h"
#include "support/unit.h"

const struct sg_media_limits transcode_limits = {
    .max_pixels = UINT64_C(8192) * 4320,
    .max_duration_ms = UINT64_C(3600) * 1000,
    .max_frames = 200000,
    .max_streams = 32,
    .max_body_bytes = 64 << 20,
    .segment_ms = 2000,
};

void transcode_begin(struct transcode_run *run)
{
    *run = (struct transcode_run){.plan = {.fd = -1,
                                           .limits = &transcode_limits,
                                           .keyframe_ms = 1000,
                                           .threads = 1,
                                           .preset = "ultrafast"}};
    snprintf(run->dir, sizeof(run->dir), "/tmp/sg-transcode-XXXXXX");
    assert_non_null(mkdtemp(run->dir));
    av_log_set_level(AV_LOG_QUIET);
}

void transcode_clip(struct transcode_run *run, const char *ext, const char *args)
{
    char command[2048], path[128];
    snprintf(path, sizeof(path), "%s/clip.%s", run->dir, ext);
    snprintf(command, sizeof(command), "ffmpeg -nostdin -v error -y %s %s", args, path);
    assert_int_equal(system(command), 0);
    run->plan.fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(run->plan.fd >= 0);
}

static int create(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

struct sg_transcode_output *transcode_add(struct transcode_run *run, uint32_t w, uint32_t h)
{
    uint32_t n = run->plan.n_outputs++;
    struct sg_transcode_output *o = &run->plan.outputs[n];
    snprintf(run->paths[n], sizeof(run->paths[n]), "%s/out-%u.mp4", run->dir, n);
    *o =
        (struct sg_transcode_output){.video = w ? SG_TRANSCODE_VIDEO_H264 : SG_TRANSCODE_VIDEO_NONE,
                                     .width = w,
                                     .height = h,
                                     .crf = 23,
                                     .fd = create(run->paths[n]),
                                     .live_fd = -1};
    return o;
}

void transcode_add_sound(struct sg_transcode_output *o, uint32_t stream)
{
    o->audios[o->n_audios++] =
        (struct sg_transcode_audio){.stream = stream, .channels = 2, .bitrate = 128000};
}

void transcode_live(struct transcode_run *run, struct sg_transcode_output *o)
{
    snprintf(run->live, sizeof(run->live), "%s/live", run->dir);
    o->live_fd = create(run->live);
}

static void see(void *arg, const struct sg_transcode_event *e)
{
    struct transcode_seen *seen = arg;
    if (e->kind == SG_TRANSCODE_PROGRESS) {
        assert_true(e->frames >= seen->last_frames);
        seen->last_frames = e->frames;
        seen->progress++;
    } else if (e->kind == SG_TRANSCODE_LIVE_TRACK) {
        assert_int_equal(seen->tracks++, 0);
        seen->track = *e;
    } else {
        assert_int_equal(seen->tracks, 1);
        assert_true(seen->segments < SEGMENTS_MAX);
        seen->segment[seen->segments++] = *e;
    }
}

void transcode_go(struct transcode_run *run)
{
    struct sgav_transcode_sink sink = {see, &run->seen};
    run->err = sgav_transcode(&run->plan, &sink, &run->result, run->why);
}

void transcode_end(struct transcode_run *run)
{
    char command[128];
    for (uint32_t i = 0; i < run->plan.n_outputs; i++) {
        close(run->plan.outputs[i].fd);
        if (run->plan.outputs[i].live_fd >= 0)
            close(run->plan.outputs[i].live_fd);
    }
    close(run->plan.fd);
    snprintf(command, sizeof(command), "rm -r %s", run->dir);
    assert_int_equal(system(command), 0);
}

/* What the command prints, lines joined by ','. */
static char *output_of(const char *command)
{
    size_t len = 0, cap = 1 << 20;
    char *text = malloc(cap);
    FILE *f = popen(command, "r");
    assert_non_null(text);
    assert_non_null(f);
    len = fread(text, 1, cap - 1, f);
    assert_int_equal(pclose(f), 0);
    while (len && text[len - 1] == '\n')
        len--;
    text[len] = 0;
    for (size_t i = 0; i < len; i++)
        if (text[i] == '\n')
            text[i] = ',';
    return text;
}

char *transcode_probe(const char *path, const char *args, const char *entries)
{
    char command[512];
    snprintf(command, sizeof(command), "ffprobe -v error %s -show_entries %s -of csv=p=0 %s", args,
             entries, path);
    return output_of(command);
}

unsigned transcode_times(const char *path, bool keys_only, double *out, unsigned max)
{
    char *text = transcode_probe(
        path, keys_only ? "-select_streams v -skip_frame nokey" : "-select_streams v",
        "frame=best_effort_timestamp_time");
    unsigned n = 0;
    for (char *at = text; *at && n < max;) {
        char *end;
        double t = strtod(at, &end);
        if (end == at) {
            at++; /* side data leaves empty fields */
            continue;
        }
        out[n++] = t;
        at = end;
    }
    free(text);
    return n;
}

double transcode_ssim(const char *path, const char *reference, const char *filter)
{
    char command[1024];
    snprintf(
        command, sizeof(command),
        "ffmpeg -nostdin -v info -i %s -i %s -lavfi "
        "'[1:v]%s,settb=1/25,setpts=N[r];[0:v]settb=1/25,setpts=N[o];[o][r]ssim' -f null - 2>&1 | "
        "grep -o 'All:[0-9.]*' | cut -d: -f2",
        path, reference, filter);
    char *text = output_of(command);
    double ssim = strtod(text, NULL);
    free(text);
    return ssim;
}

void transcode_compare_live(struct transcode_run *run, uint32_t output)
{
    struct av_worker *worker;
    struct dump_reply reply;
    struct sg_media_index *index;
    FILE *live = fopen(run->live, "rb");
    assert_non_null(live);
    uint8_t *bytes = malloc(64 << 20);
    size_t len = fread(bytes, 1, 64 << 20, live);
    fclose(live);
    assert_int_equal(av_worker_create(&worker), SG_OK);
    dump_probe(worker, run->plan.outputs[output].fd, &transcode_limits, &reply);
    assert_int_equal(reply.err, SG_OK);
    assert_int_equal(sg_media_index_decode(reply.data, reply.len, &index), SG_OK);
    free(reply.data);
    const struct sg_track *t = sg_media_index_main(index), *l = &run->seen.track.track;
    assert_int_equal(t->timescale, l->timescale);
    assert_string_equal(t->codecs, l->codecs);
    assert_string_equal(t->language, l->language);
    assert_int_equal(t->width, l->width);
    assert_int_equal(t->n_segments, run->seen.segments);
    struct sg_render r = {.kind = SG_RENDER_INIT,
                          .key = "file",
                          .fd = run->plan.outputs[output].fd,
                          .index = index,
                          .track = t,
                          .limits = &transcode_limits};
    dump_render(worker, &r, &reply);
    assert_int_equal(reply.err, SG_OK);
    assert_int_equal(reply.len, run->seen.track.bytes);
    assert_memory_equal(reply.data, bytes, reply.len);
    size_t at = run->seen.track.bytes;
    free(reply.data);
    r.kind = SG_RENDER_SEGMENT_FMP4;
    for (r.number = 0; r.number < t->n_segments; r.number++) {
        const struct sg_transcode_event *e = &run->seen.segment[r.number];
        const struct sg_segment *want = &t->segments[r.number], *got = &e->segment;
        assert_int_equal(want->start, got->start);
        assert_int_equal(want->duration, got->duration);
        assert_int_equal(want->samples, got->samples);
        assert_int_equal(want->bytes_fmp4, got->bytes_fmp4);
        assert_int_equal(e->offset, at);
        dump_render(worker, &r, &reply);
        assert_int_equal(reply.err, SG_OK);
        assert_true(at + reply.len <= len);
        assert_memory_equal(reply.data, bytes + at, reply.len);
        at += reply.len;
        free(reply.data);
    }
    assert_int_equal(at, len);
    free(bytes);
    sg_media_index_unref(index);
    av_worker_destroy(&worker);
}
