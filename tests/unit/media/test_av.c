/* The media process's side on real files, driven in this process. With two arguments, FILE OUTDIR,
 * it writes out everything a viewer could fetch instead: tests/e2e/media_corpus.py --dump uses
 * that. Clips are made by the ffmpeg program. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "av_media.h"
#include "dump_support.h"
#include "support/unit.h"

static char dir[] = "/tmp/sg-media-XXXXXX";

/* Makes a clip with the given ffmpeg arguments; returns it open. */
static int make_clip(const char *args, char path[256])
{
    char command[1024];
    snprintf(path, 256, "%s/clip.mp4", dir);
    snprintf(command, sizeof(command), "ffmpeg -nostdin -v error -y %s %s", args, path);
    assert_int_equal(system(command), 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

#define FILM                                                                                       \
    "-f lavfi -t 4 -i testsrc2=s=160x90:r=25 -f lavfi -t 4 -i sine -c:v libx264 -preset "          \
    "ultrafast "                                                                                   \
    "-threads 1 -bf 2 -g 25 -pix_fmt yuv420p -c:a aac"

struct bench {
    struct av_worker *worker;
    int fd;
    struct sg_media_index *index;
};

static void open_bench(struct bench *b, const char *args)
{
    char path[256];
    struct dump_reply reply;
    b->fd = make_clip(args, path);
    assert_int_equal(av_worker_create(&b->worker), SG_OK);
    struct sg_media_limits limits = dump_limits;
    limits.segment_ms = 1000;
    dump_probe(b->worker, b->fd, &limits, &reply);
    assert_int_equal(reply.err, SG_OK);
    assert_int_equal(sg_media_index_decode(reply.data, reply.len, &b->index), SG_OK);
    free(reply.data);
}

static void close_bench(struct bench *b)
{
    sg_media_index_unref(b->index);
    av_worker_destroy(&b->worker);
    close(b->fd);
}

static void film_is_described_and_cut(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, FILM);
    const struct sg_track *video = sg_media_index_video(b.index),
                          *audio = sg_media_index_audio(b.index);
    assert_non_null(video);
    assert_non_null(audio);
    assert_int_equal(video->width, 160);
    assert_int_equal(video->samples, 100);
    assert_int_equal(video->n_segments, 4);
    assert_int_equal(video->start, 0);
    assert_int_equal(video->duration, (uint64_t)4 * video->timescale);
    assert_int_equal(video->fps_num, 25);
    assert_memory_equal(video->codecs, "avc1.", 5);
    assert_string_equal(audio->codecs, "mp4a.40.2");
    assert_int_equal(audio->timescale, 44100);
    assert_int_equal(audio->n_segments, 4);
    assert_in_range(b.index->duration_ms, 3990, 4030);
    struct dump_reply reply;
    struct sg_render r = {.kind = SG_RENDER_SEGMENT_FMP4,
                          .key = "file",
                          .fd = b.fd,
                          .index = b.index,
                          .track = video,
                          .limits = &dump_limits};
    for (r.number = 0; r.number < 4; r.number++) {
        dump_render(b.worker, &r, &reply);
        assert_int_equal(reply.err, SG_OK);
        assert_int_equal(reply.len, video->segments[r.number].bytes_fmp4);
        free(reply.data);
    }
    r.kind = SG_RENDER_SEGMENT_TS;
    r.number = 2;
    dump_render(b.worker, &r, &reply);
    assert_int_equal(reply.err, SG_OK);
    assert_int_equal(reply.len % 188, 0);
    assert_in_range(reply.len * 100, video->segments[2].bytes_ts * 97,
                    video->segments[2].bytes_ts * 103);
    free(reply.data);
    assert_int_equal(av_worker_open_files(b.worker), 1);
    close_bench(&b);
}

/* Width and height of a JPEG, from its frame header. */
static void jpeg_size(const uint8_t *p, size_t len, unsigned *w, unsigned *h)
{
    for (size_t i = 2; i + 9 < len && p[i] == 0xff;) {
        if (p[i + 1] == 0xc0) {
            *h = (unsigned)(p[i + 5] << 8 | p[i + 6]);
            *w = (unsigned)(p[i + 7] << 8 | p[i + 8]);
            return;
        }
        i += 2 + (size_t)(p[i + 2] << 8 | p[i + 3]);
    }
    fail_msg("no frame header");
}

static void poster_is_turned_and_never_enlarged(void **state)
{
    (void)state;
    struct bench b;
    struct dump_reply reply;
    char args[512];
    snprintf(args, sizeof(args),
             "-f lavfi -t 1 -i testsrc2=s=160x90:r=25 -c:v libx264 -preset ultrafast -pix_fmt "
             "yuv420p -f mp4 %s/other && "
             "ffmpeg -nostdin -v error -y -i %s/other -c copy -metadata:s:v rotate=90",
             dir, dir);
    open_bench(&b, args);
    assert_int_equal(sg_media_index_video(b.index)->rotation,
                     270); /* the matrix turns anticlockwise */
    assert_int_equal(sg_media_index_video(b.index)->display_height, 160);
    assert_false(b.index->ts); /* players do not turn pictures there */
    assert_int_equal(sg_media_index_video(b.index)->segments[0].bytes_ts, 0);
    static const struct {
        uint32_t width;
        unsigned w, h;
    } cases[] = {{0, 90, 160}, {5000, 90, 160}, {46, 46, 80}};
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        struct sg_render r = {.kind = SG_RENDER_POSTER,
                              .key = "file",
                              .fd = b.fd,
                              .index = b.index,
                              .time_ms = 500,
                              .width = cases[i].width,
                              .limits = &dump_limits};
        unsigned w = 0, h = 0;
        dump_render(b.worker, &r, &reply);
        assert_int_equal(reply.err, SG_OK);
        jpeg_size(reply.data, reply.len, &w, &h);
        free(reply.data);
        assert_int_equal(w, cases[i].w);
        assert_in_range(h, cases[i].h - 2, cases[i].h + 2);
    }
    close_bench(&b);
}

/* Two tiles of a turned film, side by side; and what no honest daemon asks for is refused. */
static void sheets_of_storyboards(void **state)
{
    (void)state;
    struct bench b;
    struct dump_reply reply;
    char args[512];
    snprintf(args, sizeof(args),
             "-f lavfi -t 3 -i testsrc2=s=160x90:r=25 -c:v libx264 -preset ultrafast -pix_fmt "
             "yuv420p -f mp4 %s/other && "
             "ffmpeg -nostdin -v error -y -i %s/other -c copy -metadata:s:v rotate=90",
             dir, dir);
    open_bench(&b, args);
    struct sg_render r = {.kind = SG_RENDER_STORYBOARD,
                          .key = "file",
                          .fd = b.fd,
                          .index = b.index,
                          .limits = &dump_limits};
    unsigned w = 0, h = 0;
    dump_render(b.worker, &r, &reply);
    assert_int_equal(reply.err, SG_OK);
    jpeg_size(reply.data, reply.len, &w, &h);
    free(reply.data);
    assert_int_equal(w, 180);
    assert_int_equal(h, 160);

    static const struct {
        uint32_t width, height, count, number;
        uint64_t time_ms;
    } refused[] = {
        {0, 90, 1, 0, 2000},    {160, 91, 1, 0, 2000},       {642, 90, 1, 0, 2000},
        {160, 642, 1, 0, 2000}, {160, 90, 0, 0, 2000},       {160, 90, 101, 0, 2000},
        {160, 90, 1, 65536, 1}, {160, 90, 1, 0, 1ULL << 32},
    };
    struct sgav_source *source = NULL;
    char why[SG_MEDIA_MESSAGE_MAX];
    int fd = dup(b.fd);
    assert_int_equal(sgav_source_open(fd, &dump_limits, &source, why), SG_OK);
    for (size_t i = 0; i < SG_ARRAY_LEN(refused); i++) {
        const struct media_call call = {.op = MEDIA_OP_STORYBOARD,
                                        .limits = dump_limits,
                                        .width = refused[i].width,
                                        .height = refused[i].height,
                                        .count = refused[i].count,
                                        .number = refused[i].number,
                                        .time_ms = refused[i].time_ms};
        struct sgav_body body = {0};
        assert_int_equal(sgav_render_storyboard(source, &call, &body), SG_ERR_INVALID);
        assert_null(body.data);
    }
    sgav_source_close(&source);
    close_bench(&b);
}

/* Segments of a second. Key frames a little farther apart, all but the first open: there is no
 * other place to cut. Then key frames at 0, 1.4, 1.8, 3.2, 3.6 and 5.0 s of 5.4: those that begin a
 * loop are closed, and soon enough. */
static void open_groups_are_avoided_or_told(void **state)
{
    (void)state;
    struct bench b;
    char args[512];
    open_bench(&b, "-f lavfi -t 4 -i testsrc2=s=160x90:r=25 -c:v libx264 -preset ultrafast "
                   "-threads 1 -pix_fmt yuv420p -g 26 -bf 3 -b_strategy 0 -x264-params open-gop=1");
    assert_false(b.index->independent);
    assert_int_equal(sg_media_index_video(b.index)->n_segments, 4);
    close_bench(&b);
    snprintf(args, sizeof(args),
             "-f lavfi -t 1.8 -i testsrc2=s=160x90:r=25 -c:v libx264 -preset ultrafast -threads 1 "
             "-pix_fmt yuv420p -g 35 -bf 3 -b_strategy 0 -x264-params open-gop=1 -f mp4 %s/other "
             "&& ffmpeg -nostdin -v error -y -stream_loop 2 -i %s/other -c copy",
             dir, dir);
    open_bench(&b, args);
    const struct sg_track *video = sg_media_index_video(b.index);
    assert_true(b.index->independent);
    assert_int_equal(video->n_segments, 3);
    assert_int_equal(video->segments[1].start, (int64_t)video->timescale * 9 / 5);
    assert_int_equal(video->segments[2].start, (int64_t)video->timescale * 18 / 5);
    close_bench(&b);
}

static void audio_alone_has_no_poster(void **state)
{
    (void)state;
    struct bench b;
    struct dump_reply reply;
    open_bench(&b, "-f lavfi -t 3 -i sine -c:a aac");
    assert_null(sg_media_index_video(b.index));
    assert_string_equal(b.index->content_type, "audio/mp4");
    struct sg_render r = {.kind = SG_RENDER_POSTER,
                          .key = "file",
                          .fd = b.fd,
                          .index = b.index,
                          .limits = &dump_limits};
    dump_render(b.worker, &r, &reply);
    assert_int_equal(reply.err, SG_ERR_NOT_FOUND);
    assert_int_equal(av_worker_open_files(b.worker), 1); /* the file is fine */
    close_bench(&b);
}

static void refuse(const struct sg_media_limits *limits, int fd, enum sg_error err,
                   const char *word)
{
    struct av_worker *worker = NULL;
    struct dump_reply reply;
    assert_int_equal(av_worker_create(&worker), SG_OK);
    dump_probe(worker, fd, limits, &reply);
    assert_int_equal(reply.err, err);
    if (!strstr(reply.why, word))
        fail_msg("\"%s\" does not say \"%s\"", reply.why, word);
    assert_int_equal(av_worker_open_files(worker), 0);
    av_worker_destroy(&worker);
}

static void limits_hold(void **state)
{
    (void)state;
    char path[256];
    int fd = make_clip(FILM, path);
    struct sg_media_limits limits = dump_limits;
    limits.max_pixels = 160 * 90 - 1;
    refuse(&limits, fd, SG_ERR_TOO_LARGE, "160x90");
    limits = dump_limits;
    limits.max_frames = 99;
    refuse(&limits, fd, SG_ERR_TOO_LARGE, "samples");
    limits = dump_limits;
    limits.max_streams = 1;
    refuse(&limits, fd, SG_ERR_TOO_LARGE, "tracks");
    limits = dump_limits;
    limits.max_duration_ms = 3000;
    refuse(&limits, fd, SG_ERR_TOO_LARGE, "lasts");
    limits = dump_limits;
    limits.max_body_bytes = 4000;
    refuse(&limits, fd, SG_ERR_UNPROCESSABLE, "key frame");
    close(fd);
}

/* Wherever an upload is cut off, it is refused. */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    static const char *const forms[] = {FILM, FILM " -movflags +faststart"};
    for (size_t i = 0; i < SG_ARRAY_LEN(forms); i++) {
        char path[256];
        struct stat st;
        int fd = make_clip(forms[i], path);
        assert_int_equal(fstat(fd, &st), 0);
        for (int part = 31; part > 0; part--) {
            assert_int_equal(ftruncate(fd, st.st_size * part / 32), 0);
            refuse(&dump_limits, fd, SG_ERR_UNPROCESSABLE, "The file");
        }
        assert_int_equal(ftruncate(fd, 0), 0);
        refuse(&dump_limits, fd, SG_ERR_UNPROCESSABLE, "empty");
        close(fd);
    }
}

static void others_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        const char *name;
    } cases[] = {
        {"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 36, "a playlist"},
        {"ffconcat version 1.0\nfile /etc/passwd\n", 37, "a playlist"},
        {"just some words, no film", 24, "plain text"},
        {"RIFF\1\2\3\4WEBPVP8 ", 16, "a WebP picture"},
        {"\x89PNG\r\n\x1a\n", 8, "a PNG picture"},
        {"\1\2\3\4\5\6\7\b\t\16", 10, "no known"},
    };
    char path[256];
    snprintf(path, sizeof(path), "%s/other", dir);
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, cases[i].bytes, cases[i].len), (ssize_t)cases[i].len);
        refuse(&dump_limits, fd, SG_ERR_UNSUPPORTED_MEDIA, cases[i].name);
        close(fd);
    }
}

static void open_files_are_bounded(void **state)
{
    (void)state;
    char path[256], key[] = "file";
    int fd = make_clip(FILM, path);
    struct av_worker *worker = NULL;
    struct dump_reply reply;
    struct sg_media_limits limits = dump_limits;
    limits.open_contexts = 2;
    assert_int_equal(av_worker_create(&worker), SG_OK);
    for (char c = 'a'; c < 'g'; c++) {
        key[3] = c;
        dump_probe_as(worker, key, fd, &limits, &reply);
        assert_int_equal(reply.err, SG_OK);
        free(reply.data);
        assert_int_equal(av_worker_open_files(worker), c == 'a' ? 1 : 2);
    }
    av_worker_destroy(&worker);
    close(fd);
}

static void nonsense_calls_are_refused(void **state)
{
    (void)state;
    static struct sg_media_answer an;
    struct av_worker *worker = NULL;
    uint8_t bytes[64] = {1, 2};
    struct sg_media_request_view rq = {
        .op = 2, .payload = bytes, .payload_len = sizeof(bytes), .fd = -1};
    assert_int_equal(av_worker_create(&worker), SG_OK);
    for (size_t n = 0; n < sizeof(bytes); n++) {
        rq.payload_len = n;
        av_worker_handle(worker, &rq, &an);
        assert_int_equal(an.err, SG_ERR_INVALID);
    }
    av_worker_destroy(&worker);
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return dump_file(argv[1], argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(film_is_described_and_cut),
        cmocka_unit_test(poster_is_turned_and_never_enlarged),
        cmocka_unit_test(sheets_of_storyboards),
        cmocka_unit_test(open_groups_are_avoided_or_told),
        cmocka_unit_test(audio_alone_has_no_poster),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(others_are_named),
        cmocka_unit_test(open_files_are_bounded),
        cmocka_unit_test(nonsense_calls_are_refused),
    };
    if (!mkdtemp(dir))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char path[256];
    static const char *const names[] = {"clip.mp4", "other"};
    for (size_t i = 0; i < SG_ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
    return failed;
}
