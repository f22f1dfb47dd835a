/* Our own reader of sample tables against libavformat's: whatever it takes on, the index and every
 * body made of it must be the same to the byte. With arguments, FILE..., it compares those files
 * (tests/e2e/media_corpus.py does); else clips made by the ffmpeg program, and damaged ones. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "av_media.h"
#include "dump_support.h"
#include "support/unit.h"

static char dir[] = "/tmp/sg-plain-XXXXXX";

/* A box of a type nobody knows says nothing, but a film that has one at its end is not plain. */
static const uint8_t UNKNOWN[8] = {0, 0, 0, 8, 't', 'e', 's', 't'};

/* A copy of the file that the demuxer will read. */
static int other_of(int fd)
{
    struct stat st;
    off_t at = 0;
    char path[64];
    snprintf(path, sizeof(path), "%s/other", dir);
    int copy = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(copy >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    while (at < st.st_size)
        assert_true(sendfile(copy, fd, &at, (size_t)(st.st_size - at)) > 0);
    assert_int_equal(write(copy, UNKNOWN, sizeof(UNKNOWN)), sizeof(UNKNOWN));
    return copy;
}

struct reader {
    struct sgav_source *source;
    enum sg_error err;
    char why[SG_MEDIA_MESSAGE_MAX];
    void *index;
    size_t len;
};

static void reader_open(struct reader *r, int fd)
{
    *r = (struct reader){0};
    r->err = sgav_source_open(dup(fd), &dump_limits, &r->source, r->why);
    if (!r->err)
        r->err = sgav_probe(r->source, &dump_limits, &r->index, &r->len, r->why);
}

static void reader_close(struct reader *r)
{
    sgav_source_close(&r->source);
    free(r->index);
}

static enum sg_error render(struct sgav_source *source, const struct sg_render *what,
                            struct sgav_body *out)
{
    static enum sg_error (*const renders[])(struct sgav_source *, const struct media_call *,
                                            struct sgav_body *) = {
        [SG_RENDER_INIT] = sgav_render_init,
        [SG_RENDER_SEGMENT_FMP4] = sgav_render_fmp4,
        [SG_RENDER_SEGMENT_TS] = sgav_render_ts,
        [SG_RENDER_POSTER] = sgav_render_poster,
        [SG_RENDER_STORYBOARD] = sgav_render_storyboard,
        [SG_RENDER_IFRAME] = sgav_render_fmp4,
    };
    struct media_call call;
    enum sg_error err = media_call_of_render(what, &call);
    return err ? err : renders[what->kind](source, &call, out);
}

/* Whether both give the same; says so when not. */
static bool same_body(struct reader *a, struct reader *b, const struct sg_render *what)
{
    struct sgav_body x = {0}, y = {0};
    enum sg_error ex = render(a->source, what, &x), ey = render(b->source, what, &y);
    bool same = ex == ey && x.len == y.len && (!x.len || memcmp(x.data, y.data, x.len) == 0);
    if (!same)
        printf("differs: kind %d of %s, number %u, time %llu: %d (%zu bytes), %d (%zu bytes)\n",
               (int)what->kind, what->track ? what->track->name : "-", what->number,
               (unsigned long long)what->time_ms, (int)ex, x.len, (int)ey, y.len);
    free(x.data);
    free(y.data);
    return same;
}

static bool same_bodies(struct reader *a, struct reader *b, int fd, bool posters)
{
    struct sg_media_index *index = NULL;
    bool same = true;
    assert_int_equal(sg_media_index_decode(a->index, a->len, &index), SG_OK);
    struct sg_render what = {.key = "file", .fd = fd, .index = index, .limits = &dump_limits};
    for (uint32_t i = 0; i < index->n_tracks; i++) {
        what.track = &index->tracks[i];
        what.number = 0;
        what.kind = SG_RENDER_INIT;
        same = same_body(a, b, &what) && same;
        what.kind = SG_RENDER_SEGMENT_FMP4;
        for (; what.number < what.track->n_segments; what.number++)
            same = same_body(a, b, &what) && same;
        what.kind = SG_RENDER_IFRAME;
        for (what.number = 0; what.number < what.track->n_segments; what.number++)
            if (what.track->segments[what.number].key_bytes)
                same = same_body(a, b, &what) && same;
    }
    what.track = sg_media_index_main(index);
    what.kind = SG_RENDER_SEGMENT_TS;
    for (what.number = 0; index->ts && what.number < sg_media_index_ts_segments(index);
         what.number++)
        same = same_body(a, b, &what) && same;
    what.kind = SG_RENDER_POSTER;
    what.track = NULL;
    for (unsigned i = 0; posters && i < 3; i++) {
        what.time_ms = index->duration_ms * i * 2 / 5;
        same = same_body(a, b, &what) && same;
    }
    what.kind = SG_RENDER_STORYBOARD;
    what.number = 0;
    if (posters && sg_media_index_video(index))
        same = same_body(a, b, &what) && same;
    sg_media_index_unref(index);
    return same;
}

enum compared { INDEX, SEGMENTS, ALL };

/* *plain: whether our own reader took the file on. */
static bool same_file(int fd, enum compared what, bool *plain)
{
    struct reader a, b;
    int other = other_of(fd);
    reader_open(&a, fd);
    *plain = a.source && a.source->movie;
    bool same = true;
    if (*plain) {
        reader_open(&b, other);
        assert_true(!b.source || !b.source->movie);
        same = a.err == b.err && strcmp(a.why, b.why) == 0 && a.len == b.len &&
               (!a.len || memcmp(a.index, b.index, a.len) == 0);
        if (!same)
            printf("differs: the index: %d (%zu bytes) \"%s\", %d (%zu bytes) \"%s\"\n", (int)a.err,
                   a.len, a.why, (int)b.err, b.len, b.why);
        else if (what != INDEX && !a.err)
            same = same_bodies(&a, &b, fd, what == ALL);
        reader_close(&b);
    }
    reader_close(&a);
    close(other);
    return same;
}

static void run(const char *args, char path[64])
{
    char command[1024];
    snprintf(path, 64, "%s/clip.mp4", dir);
    snprintf(command, sizeof(command), "cd %s && ffmpeg -nostdin -v error -y %s clip.mp4", dir,
             args);
    assert_int_equal(system(command), 0);
}

#define PICTURES(frames) "-f lavfi -t 5 -i testsrc2=s=64x36:r=25,trim=end_frame=" #frames " "
#define SOUND "-f lavfi -t 5 -i anoisesrc=a=0.3:seed=3 "
#define H264 "-c:v libx264 -preset ultrafast -threads 1 -g 25 -pix_fmt yuv420p -c:a aac "
#define SLIDES                                                                                     \
    "-f lavfi -t 150 -i testsrc2=s=64x36:r=1/15 " H264                                             \
    "-g 4 -bf 3 -b_strategy 0 -x264-params b-pyramid=normal:ref=4 -force_key_frames "              \
    "'expr:lt(n,3)' "
#define THEN "made.mp4 && ffmpeg -nostdin -v error -y "

/* Without an edit list the demuxer looks for a poster's key frame by decode time, and may find one
 * that is shown too late; there ours is the better one. */
static const struct {
    const char *args;
    bool plain, no_edits;
} clips[] = {
    {PICTURES(125) SOUND H264 "-bf 0", true, false},
    {PICTURES(125) SOUND H264 "-bf 3 -b_strategy 0", true, false},
    {PICTURES(125) SOUND H264 "-bf 3 -b_strategy 0 -movflags +faststart", true, false},
    {PICTURES(125) SOUND H264 "-bf 3 -b_strategy 0 -movflags +negative_cts_offsets", true, false},
    {PICTURES(125) SOUND H264 "-bf 2 -use_editlist 0", true, true},
    {PICTURES(125) SOUND H264 "-bf 3 -b_strategy 0 -x264-params open-gop=1", true, false},
    {PICTURES(125) SOUND H264 "-bf 7 -b_strategy 0 -x264-params b-pyramid=normal:ref=4", true,
     false},
    {PICTURES(125) SOUND H264 "-bf 2 " THEN "-ss 1.3 -i made.mp4 -c copy", true, false},
    {PICTURES(125) SOUND H264 "-bf 2 " THEN "-ss 1.3 -t 2.17 -i made.mp4 -c copy", true, false},
    {PICTURES(125) SOUND H264 "-bf 0 " THEN "-ss 2.7 -i made.mp4 -c copy", true, false},
    {PICTURES(125) SOUND H264 "-bf 2 " THEN "-i made.mp4 -itsoffset 0.4 -i made.mp4 -map 0:v "
                              "-map 1:a -c copy",
     true, false},
    {PICTURES(125) SOUND H264 "-bf 2 " THEN "-i made.mp4 -itsoffset 0.4 -i made.mp4 -map 1:v "
                              "-map 0:a -c copy",
     true, false},
    {PICTURES(125) H264 "-vf select='not(mod(n\\,7))+gt(mod(n\\,5)\\,2)' -fps_mode vfr -bf 2", true,
     false},
    /* decode times long before time 0, of the second segment too, of pictures that are hidden, and
     * as libavformat reads them */
    {SLIDES, true, false},
    {SLIDES THEN "-ss 25 -i made.mp4 -c copy", true, false},
    {SLIDES "-movflags frag_keyframe+delay_moov", false, false},
    {PICTURES(1) H264, true, false},
    {PICTURES(125) H264 "-g 1", true, false},
    {SOUND "-c:a aac -f mov", true, false},
    {SOUND "-c:a ac3", true, false},
    {SOUND "-c:a libopus", true, false},
    {SOUND "-c:a libmp3lame", true, false},
    {PICTURES(125) SOUND H264 "-f mov -timecode 01:00:00:00", true, false},
    {PICTURES(125) SOUND "-c:v libx265 -preset ultrafast -x265-params "
                         "log-level=none:pools=1:frame-threads=1:keyint=25:bframes=3 -c:a aac",
     true, false},
    {PICTURES(125) SOUND SOUND H264 "-map 0 -map 1 -map 2 -metadata:s:a:1 language=deu", true,
     false},
    {PICTURES(125) SOUND H264 "-movflags frag_keyframe+empty_moov", false, false},
};

static void clips_are_read_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(clips); i++) {
        char path[64];
        bool plain;
        run(clips[i].args, path);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        if (!same_file(fd, clips[i].no_edits ? SEGMENTS : ALL, &plain))
            fail_msg("%s", clips[i].args);
        if (plain != clips[i].plain)
            fail_msg("%s: %s", clips[i].args, plain ? "taken on" : "not taken on");
        close(fd);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1;
    return *state >> 33;
}

/* Where the first box of a type begins and ends. */
static void find_box(int fd, const char *type, off_t *begin, off_t *end)
{
    uint8_t head[8];
    for (off_t at = 0; pread(fd, head, 8, at) == 8;) {
        off_t size = (off_t)head[0] << 24 | head[1] << 16 | head[2] << 8 | head[3];
        if (memcmp(head + 4, type, 4) == 0) {
            *begin = at;
            *end = at + size;
            return;
        }
        at += size;
    }
    fail_msg("no %s", type);
}

/* A byte of moov changed at random: some of these films are still taken on, and then both readers
 * must agree on what they say. */
static void damaged(const char *args, unsigned times, unsigned *taken)
{
    char path[64];
    uint64_t seed = 1;
    off_t begin = 0, end = 0;
    run(args, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    find_box(fd, "moov", &begin, &end);
    for (unsigned i = 0; i < times; i++) {
        uint8_t was, is;
        bool plain;
        off_t at = begin + 8 + (off_t)(next_random(&seed) % (uint64_t)(end - begin - 8));
        assert_int_equal(pread(fd, &was, 1, at), 1);
        if (next_random(&seed) % 2)
            is = (uint8_t)(was ^ (1u << next_random(&seed) % 8));
        else
            is = (uint8_t)next_random(&seed);
        assert_int_equal(pwrite(fd, &is, 1, at), 1);
        if (!same_file(fd, INDEX, &plain))
            fail_msg("%s: byte %lld of moov, 0x%02x instead of 0x%02x", args,
                     (long long)(at - begin), is, was);
        *taken += plain;
        assert_int_equal(pwrite(fd, &was, 1, at), 1);
    }
    close(fd);
}

static void damage_is_read_alike(void **state)
{
    (void)state;
    static const size_t which[] = {1, 3, 8, 10, 12};
    const char *times = getenv("SG_TEST_DAMAGES"); /* more than a test has time for */
    unsigned taken = 0;
    for (size_t i = 0; i < SG_ARRAY_LEN(which); i++)
        damaged(clips[which[i]].args, times ? (unsigned)strtoul(times, NULL, 10) : 300, &taken);
    assert_true(taken > 50);
}

static void zero(int fd, off_t at, off_t end)
{
    static const uint8_t zeros[4096];
    while (at < end) {
        size_t n = end - at < (off_t)sizeof(zeros) ? (size_t)(end - at) : sizeof(zeros);
        assert_int_equal(pwrite(fd, zeros, n, at), n);
        at += (off_t)n;
    }
}

/* What both readers say of a file, alike. */
static enum sg_error judge(int fd, char why[SG_MEDIA_MESSAGE_MAX])
{
    struct reader r;
    bool plain;
    assert_true(same_file(fd, INDEX, &plain));
    reader_open(&r, fd);
    snprintf(why, SG_MEDIA_MESSAGE_MAX, "%s", r.why);
    reader_close(&r);
    return r.err;
}

static const struct {
    const char *args;
    bool refused;
} hollow[] = {
    {PICTURES(125) SOUND H264 "-bf 3 -b_strategy 0 -movflags +faststart", true},
    {PICTURES(125) SOUND H264 "-bf 2 " THEN "-ss 1.3 -t 2.17 -i made.mp4 -c copy", true},
    {PICTURES(125) "-c:v libx265 -preset ultrafast -x265-params log-level=none:pools=1 -tag:v hvc1",
     true},
    {PICTURES(25) "-c:v libaom-av1 -cpu-used 8 -usage realtime", true},
    {SOUND "-c:a aac", true},
    {SOUND "-c:a aac -profile:a mpeg2_aac_low -f mov", true},
    {PICTURES(125) SOUND H264 "-movflags frag_keyframe+empty_moov", true},
    {PICTURES(125) SOUND H264 "-c:a pcm_s16le -f mov", true}, /* described */
    {SOUND "-c:a libopus", false},
    {SOUND "-c:a pcm_s16le -f mov", false},
};

/* With zeros from one share to the other of its media data, in sixths; it is whole again after. */
static void judge_hollow(int fd, const int share[2], size_t clip)
{
    char why[SG_MEDIA_MESSAGE_MAX];
    off_t begin = 0, end = 0;
    find_box(fd, "mdat", &begin, &end);
    begin += 8;
    off_t from = begin + (end - begin) * share[0] / 6, to = begin + (end - begin) * share[1] / 6;
    size_t len = (size_t)(to - from);
    uint8_t *kept = malloc(len);
    assert_non_null(kept);
    assert_int_equal(pread(fd, kept, len, from), len);
    assert_int_equal(judge(fd, why), SG_OK);
    zero(fd, from, to);
    enum sg_error err = judge(fd, why);
    if (err != (hollow[clip].refused ? SG_ERR_UNPROCESSABLE : SG_OK) ||
        (err && !strstr(why, "zeros")))
        fail_msg("%s, from %d to %d sixths: %d \"%s\"", hollow[clip].args, share[0], share[1],
                 (int)err, why);
    assert_int_equal(pwrite(fd, kept, len, from), len);
    free(kept);
}

/* A file of its full size that was written in part. */
static void zeros_are_no_film(void **state)
{
    (void)state;
    static const int shares[][2] = {{0, 6}, {3, 6}, {4, 6}, {0, 3}};
    for (size_t i = 0; i < SG_ARRAY_LEN(hollow); i++) {
        char path[64];
        run(hollow[i].args, path);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        for (size_t k = 0; k < SG_ARRAY_LEN(shares); k++)
            judge_hollow(fd, shares[k], i);
        close(fd);
    }
}

/* The first sample of the first stream: its place and its size. */
static struct sgav_sample first_sample(int fd)
{
    struct reader r;
    struct sgav_sample s;
    reader_open(&r, fd);
    assert_int_equal(r.err, SG_OK);
    sgav_sample_get(r.source, r.source->fmt->streams[0], 0, &s);
    reader_close(&r);
    return s;
}

/* Units of no length, padding within a sample and damage in a unit are for the decoder; a unit that
 * is longer than its sample is not one. x264's first unit says how it was set, at some length. */
static void units_are_judged_mildly(void **state)
{
    (void)state;
    char path[64], why[SG_MEDIA_MESSAGE_MAX];
    uint8_t head[8];
    run(PICTURES(125) SOUND H264 "-bf 2", path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    struct sgav_sample s = first_sample(fd);
    assert_int_equal(pread(fd, head, sizeof(head), s.pos), sizeof(head));
    uint32_t unit = (uint32_t)head[2] << 8 | head[3];
    assert_true(head[0] == 0 && head[1] == 0 && unit > 200 && unit < s.size);
    const uint8_t none[8] = {0, 0, 0, 0, 0, 0, (uint8_t)((unit - 4) >> 8), (uint8_t)(unit - 4)};
    assert_int_equal(pwrite(fd, none, sizeof(none), s.pos), sizeof(none));
    assert_int_equal(judge(fd, why), SG_OK);
    assert_int_equal(pwrite(fd, head, sizeof(head), s.pos), sizeof(head));
    zero(fd, s.pos + 8, s.pos + s.size);
    assert_int_equal(judge(fd, why), SG_OK);
    const uint32_t longest = s.size - 4;
    for (uint32_t over = 0; over < 2; over++) {
        uint32_t claim = longest + over;
        const uint8_t length[4] = {(uint8_t)(claim >> 24), (uint8_t)(claim >> 16),
                                   (uint8_t)(claim >> 8), (uint8_t)claim};
        assert_int_equal(pwrite(fd, length, sizeof(length), s.pos), sizeof(length));
        assert_int_equal(judge(fd, why), over ? SG_ERR_UNPROCESSABLE : SG_OK);
        if (over)
            assert_non_null(strstr(why, "longer than the sample"));
    }
    close(fd);
}

static int compare_files(char **paths)
{
    int status = 0;
    for (; *paths; paths++) {
        bool plain = false;
        int fd = open(*paths, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            perror(*paths);
            return 1;
        }
        bool same = same_file(fd, SEGMENTS, &plain);
        printf("%s: %s\n", *paths, !plain ? "not taken on" : same ? "alike" : "not alike");
        status |= !same;
        close(fd);
    }
    return status;
}

static void clean_up(void)
{
    static const char *const names[] = {"clip.mp4", "made.mp4", "other"};
    for (size_t i = 0; i < SG_ARRAY_LEN(names); i++) {
        char path[64];
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clips_are_read_alike),
        cmocka_unit_test(damage_is_read_alike),
        cmocka_unit_test(zeros_are_no_film),
        cmocka_unit_test(units_are_judged_mildly),
    };
    if (!mkdtemp(dir))
        return 1;
    int failed = argc > 1 ? compare_files(argv + 1) : cmocka_run_group_tests(tests, NULL, NULL);
    clean_up();
    return failed;
}
