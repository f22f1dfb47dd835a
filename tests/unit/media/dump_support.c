/* See dump_support.h. */
#include "dump_support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/fs.h"
#include "streamgate/media/playlist.h"

#include "call.h"

const struct sg_media_limits dump_limits = {
    .max_pixels = 33177600,
    .max_duration_ms = UINT64_C(172800000),
    .max_frames = 20000000,
    .max_streams = 32,
    .max_body_bytes = 256 << 20,
    .segment_ms = 6000,
    .open_contexts = 4,
};

static void run_call(struct av_worker *worker, const struct media_call *call, int fd,
                     struct dump_reply *out)
{
    static struct sg_media_answer an;
    uint8_t payload[MEDIA_CALL_MAX];
    size_t len = 0;
    *out = (struct dump_reply){.err = media_call_encode(call, payload, &len)};
    if (out->err)
        return;
    struct sg_media_request_view rq = {
        .op = (uint32_t)call->op, .payload = payload, .payload_len = len};
    rq.fd = dup(fd);
    memset(&an, 0, sizeof(an));
    av_worker_handle(worker, &rq, &an);
    out->err = an.err;
    memcpy(out->why, an.message, sizeof(out->why));
    if (an.err)
        return;
    out->len = an.body_len;
    out->data = malloc(an.body_len ? an.body_len : 1);
    if (!out->data || sg_fs_pread_all(an.body_fd, out->data, out->len, 0))
        out->err = SG_ERR_IO;
    close(an.body_fd);
}

void dump_probe_as(struct av_worker *worker, const char *key, int fd,
                   const struct sg_media_limits *limits, struct dump_reply *out)
{
    struct media_call call = {.op = MEDIA_OP_PROBE, .limits = *limits};
    snprintf(call.key, sizeof(call.key), "%s", key);
    run_call(worker, &call, fd, out);
}

void dump_probe(struct av_worker *worker, int fd, const struct sg_media_limits *limits,
                struct dump_reply *out)
{
    dump_probe_as(worker, "file", fd, limits, out);
}

void dump_render(struct av_worker *worker, const struct sg_render *render, struct dump_reply *out)
{
    struct media_call call;
    enum sg_error err = media_call_of_render(render, &call);
    if (err)
        *out = (struct dump_reply){.err = err};
    else
        run_call(worker, &call, render->fd, out);
}

struct dump {
    struct av_worker *worker;
    struct sg_media_index *index;
    struct sg_presentation *shown;
    const char *dir;
    int fd;
    uint64_t slowest_ns, total_ns;
    unsigned renders;
};

static int write_file(const struct dump *d, const char *name, const void *data, size_t len)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", d->dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || (len && fwrite(data, 1, len, f) != len) || fclose(f) != 0) {
        perror(path);
        return 1;
    }
    return 0;
}

static int render_to(struct dump *d, const struct sg_render *render, const char *name)
{
    struct dump_reply reply;
    uint64_t before = sg_clock_mono_ns();
    dump_render(d->worker, render, &reply);
    uint64_t ns = sg_clock_mono_ns() - before;
    d->renders++;
    d->total_ns += ns;
    if (ns > d->slowest_ns)
        d->slowest_ns = ns;
    if (reply.err) {
        fprintf(stderr, "%s: %s: %s\n", name, sg_error_slug(reply.err), reply.why);
        return 1;
    }
    if (render->kind == SG_RENDER_SEGMENT_TS && render->number < render->track->n_segments) {
        double stated = (double)render->track->segments[render->number].bytes_ts;
        double off = (double)reply.len / stated - 1;
        if (off > 0.02 || off < -0.02)
            printf("%s: %zu bytes, the index says %.0f (%+.1f %%)\n", name, reply.len, stated,
                   off * 100);
    }
    int status = write_file(d, name, reply.data, reply.len);
    free(reply.data);
    return status;
}

static int dump_playlist(const struct dump *d, enum sg_error err, struct sg_buf *buf,
                         const char *name)
{
    if (err) {
        fprintf(stderr, "%s: %s\n", name, sg_error_slug(err));
        return 1;
    }
    int status = write_file(d, name, buf->data, buf->len);
    sg_buf_unref(buf);
    return status;
}

static int dump_track(struct dump *d, const struct sg_track *track, bool ts)
{
    char name[256];
    struct sg_buf *buf = NULL;
    struct sg_render render = {
        .key = "file", .fd = d->fd, .index = d->index, .track = track, .limits = &dump_limits};
    snprintf(name, sizeof(name), "%s/%s", d->dir, track->name);
    mkdir(name, 0755);
    enum sg_error err = sg_playlist_media(d->index, track, ts, &buf);
    snprintf(name, sizeof(name), "%s/index%s.m3u8", track->name, ts ? "-ts" : "");
    int status = dump_playlist(d, err, buf, name);
    if (!ts) {
        render.kind = SG_RENDER_INIT;
        snprintf(name, sizeof(name), "%s/init.mp4", track->name);
        status |= render_to(d, &render, name);
    }
    uint32_t n = ts ? sg_media_index_ts_segments(d->index) : track->n_segments;
    render.kind = ts ? SG_RENDER_SEGMENT_TS : SG_RENDER_SEGMENT_FMP4;
    for (render.number = 0; render.number < n && !status; render.number++) {
        snprintf(name, sizeof(name), "%s/seg-%u.%s", track->name, render.number, ts ? "ts" : "m4s");
        status = render_to(d, &render, name);
    }
    return status;
}

static struct sg_presentation *present(struct sg_media_index *index)
{
    struct sg_media_file file = {.id = "01ARZ3NDEKTSV4RRFFQ69G5FAV",
                                 .index = sg_media_index_ref(index)};
    struct sg_presentation *p = NULL;
    const struct sg_presentation_params params = {.files = &file, .n_files = 1};
    return sg_presentation_create(&params, &p) == SG_OK ? p : NULL;
}

static int dump_all(struct dump *d)
{
    struct sg_buf *buf = NULL;
    enum sg_error err = sg_playlist_master(d->shown, false, &buf);
    int status = dump_playlist(d, err, buf, "master.m3u8");
    for (uint32_t i = 0; i < d->index->n_tracks; i++)
        status |= dump_track(d, &d->index->tracks[i], false);
    if (d->index->ts) {
        err = sg_playlist_master(d->shown, true, &buf);
        status |= dump_playlist(d, err, buf, "master-ts.m3u8");
        status |= dump_track(d, sg_media_index_main(d->index), true);
    }
    if (sg_media_index_video(d->index)) {
        struct sg_render poster = {.kind = SG_RENDER_POSTER,
                                   .key = "file",
                                   .fd = d->fd,
                                   .index = d->index,
                                   .limits = &dump_limits,
                                   .time_ms = 1000,
                                   .width = 640};
        status |= render_to(d, &poster, "poster.jpg");
    }
    return status;
}

int dump_file(const char *path, const char *outdir)
{
    struct dump d = {.dir = outdir, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    struct dump_reply reply;
    int status = 1;
    if (d.fd < 0 || av_worker_create(&d.worker)) {
        perror(path);
        return 1;
    }
    uint64_t before = sg_clock_mono_ns();
    dump_probe(d.worker, d.fd, &dump_limits, &reply);
    uint64_t probe_ns = sg_clock_mono_ns() - before;
    if (reply.err) {
        printf("probe: %s: %s\n", sg_error_slug(reply.err), reply.why);
    } else if (sg_media_index_decode(reply.data, reply.len, &d.index)) {
        printf("probe: the index does not decode\n");
    } else if (!sg_media_index_packaged(d.index)) {
        printf("probe %.1f ms\nprobe: %s: to be transcoded\n", (double)probe_ns / 1e6,
               sg_error_slug(SG_ERR_UNSUPPORTED_MEDIA));
    } else {
        mkdir(outdir, 0755);
        d.shown = present(d.index);
        status = d.shown ? dump_all(&d) : 1;
        printf("probe %.1f ms, %u renders: mean %.2f ms, slowest %.2f ms\n", (double)probe_ns / 1e6,
               d.renders, (double)d.total_ns / 1e6 / d.renders, (double)d.slowest_ns / 1e6);
    }
    free(reply.data);
    sg_presentation_unref(d.shown);
    sg_media_index_unref(d.index);
    av_worker_destroy(&d.worker);
    close(d.fd);
    return status;
}
