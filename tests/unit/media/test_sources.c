/* Sources that have to be transcoded: every container and codec is described rightly, shows its
 * pictures, and however it is damaged does no harm. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "av_media.h"
#include "dump_support.h"
#include "support/unit.h"

static char dir[] = "/tmp/sg-sources-XXXXXX";

#define PICTURE "-f lavfi -t 4 -i testsrc2=s=160x90:r=25 "
#define TALLER "-f lavfi -t 4 -i testsrc2=s=160x96:r=25 "
#define SOUND "-f lavfi -t 4 -i sine=r=48000 "
#define X264 "-c:v libx264 -preset ultrafast -threads 1 -bf 2 -g 25 -pix_fmt yuv420p "

static const struct source {
    const char *args, *name, *type, *format;
    const char *video, *audio; /* codec names; NULL: none */
    bool copy_video, copy_audio;
} sources[] = {
    {PICTURE SOUND "-c:v libvpx -deadline realtime -cpu-used 8 -c:a libvorbis -ac 2", "a.webm",
     "video/webm", "webm", "vp8", "vorbis", false, false},
    {PICTURE SOUND "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus", "a.webm",
     "video/webm", "webm", "vp9", "opus", false, true},
    {PICTURE SOUND X264 "-c:a aac", "a.mkv", "video/x-matroska", "matroska", "h264", "aac", true,
     true},
    {PICTURE SOUND X264 "-c:a ac3 -live 1", "a.mkv", "video/x-matroska", "matroska", "h264", "ac3",
     true, false},
    {PICTURE SOUND "-c:v libx265 -preset ultrafast -x265-params log-level=none:pools=1 -c:a flac",
     "a.mkv", "video/x-matroska", "matroska", "hevc", "flac", true, false},
    {PICTURE SOUND "-c:v mpeg4 -bf 2 -c:a libmp3lame", "a.avi", "video/x-msvideo", "avi", "mpeg4",
     "mp3", false, false},
    {PICTURE X264, "a.avi", "video/x-msvideo", "avi", "h264", NULL, false, false},
    {PICTURE X264 "-bf 0", "b.avi", "video/x-msvideo", "avi", "h264", NULL, true, false},
    {PICTURE SOUND X264 "-c:a aac", "a.ts", "video/mp2t", "mpegts", "h264", "aac", true, true},
    {PICTURE SOUND X264 "-c:a aac -mpegts_m2ts_mode 1", "a.m2ts", "video/mp2t", "mpegts", "h264",
     "aac", true, true},
    {PICTURE SOUND "-c:v mpeg2video -bf 2 -c:a mp2", "a.ts", "video/mp2t", "mpegts", "mpeg2video",
     "mp2", false, false},
    {PICTURE SOUND "-c:v mpeg2video -c:a mp2 -f vob", "a.mpg", "video/mpeg", "mpegps", "mpeg2video",
     "mp2", false, false},
    {PICTURE SOUND "-c:v flv -c:a libmp3lame -ar 44100", "a.flv", "video/x-flv", "flv", "flv1",
     "mp3", false, false},
    {PICTURE SOUND X264 "-c:a aac -flvflags no_duration_filesize", "a.flv", "video/x-flv", "flv",
     "h264", "aac", true, true},
    {PICTURE SOUND "-c:v libtheora -c:a libvorbis -ac 2", "a.ogv", "video/ogg", "ogg", "theora",
     "vorbis", false, false},
    {SOUND "-c:a libopus", "a.ogg", "audio/ogg", "ogg", NULL, "opus", false, true},
    {SOUND "-c:a pcm_s16le", "a.wav", "audio/wav", "wav", NULL, "pcm_s16le", false, false},
    {SOUND "-c:a flac", "a.flac", "audio/flac", "flac", NULL, "flac", false, false},
    {SOUND "-c:a libmp3lame -q:a 5", "a.mp3", "audio/mpeg", "mp3", NULL, "mp3", false, false},
    {SOUND "-c:a libmp3lame -q:a 5 -write_xing 0 -id3v2_version 0", "a.mp3", "audio/mpeg", "mp3",
     NULL, "mp3", false, false},
    {SOUND "-c:a mp2 -f mp2", "a.mp2", "audio/mpeg", "mp3", NULL, "mp2", false, false},
    {SOUND "-c:a aac -f adts", "a.aac", "audio/aac", "aac", NULL, "aac", false, true},
    {PICTURE SOUND "-c:v mpeg4 -c:a aac", "a.mp4", "video/mp4", "mp4", "mpeg4", "aac", false, true},
    {PICTURE SOUND "-c:v prores -c:a pcm_s16le", "a.mov", "video/quicktime", "mov", "prores",
     "pcm_s16le", false, false},
    {PICTURE SOUND "-c:v mjpeg -pix_fmt yuvj420p -c:a aac", "a.mov", "video/quicktime", "mov",
     "mjpeg", "aac", false, true},
    {PICTURE SOUND X264 "-c:a pcm_s16le", "a.mov", "video/quicktime", "mov", "h264", "pcm_s16le",
     true, false},
    {PICTURE SOUND "-c:v mpeg4 -c:a aac -movflags frag_keyframe+empty_moov", "a.mp4", "video/mp4",
     "mp4", "mpeg4", "aac", false, true},
    /* H.264 that browsers do not play */
    {PICTURE "-c:v libx264 -preset ultrafast -threads 1 -pix_fmt yuv420p10le", "a.mkv",
     "video/x-matroska", "matroska", "h264", NULL, false, false},
    {PICTURE "-c:v libx264 -preset ultrafast -threads 1 -pix_fmt yuv422p", "a.ts", "video/mp2t",
     "mpegts", "h264", NULL, false, false},
    {TALLER "-c:v libx264 -preset ultrafast -threads 1 -pix_fmt yuv420p -flags +ildct+ilme", "a.ts",
     "video/mp2t", "mpegts", "h264", NULL, false, false},
};

static int make(const struct source *s)
{
    char path[256], command[1024];
    snprintf(path, sizeof(path), "%s/%s", dir, s->name);
    snprintf(command, sizeof(command), "ffmpeg -nostdin -v error -y %s %s", s->args, path);
    assert_int_equal(system(command), 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

static struct sg_media_index *probe(struct av_worker *worker, int fd)
{
    struct dump_reply reply;
    struct sg_media_index *index = NULL;
    dump_probe(worker, fd, &dump_limits, &reply);
    if (reply.err)
        fail_msg("%s: %s", sg_error_title(reply.err), reply.why);
    assert_int_equal(sg_media_index_decode(reply.data, reply.len, &index), SG_OK);
    free(reply.data);
    return index;
}

static void check_tracks(const struct source *s, const struct sg_media_index *index)
{
    const struct sg_track *video = sg_media_index_video(index),
                          *audio = sg_media_index_audio(index);
    assert_int_equal(index->n_tracks, !!s->video + !!s->audio);
    assert_int_equal(video != NULL, s->video != NULL);
    assert_int_equal(audio != NULL, s->audio != NULL);
    for (uint32_t i = 0; i < index->n_tracks; i++) {
        const struct sg_track *t = &index->tracks[i];
        assert_int_equal(t->n_segments, 0);
        assert_in_range(t->duration * 1000 / t->timescale, 3800, 4250);
        assert_in_range(t->start * 1000 / t->timescale + 200, 0, 400);
    }
    if (video) {
        assert_string_equal(video->codec_name, s->video);
        assert_int_equal(video->copyable, s->copy_video);
        assert_int_equal(video->display_width, 160);
        assert_int_equal(video->display_height, strstr(s->args, TALLER) ? 96 : 90);
        assert_in_range(video->fps_num * 1000 / video->fps_den, 24800, 25200);
    }
    if (audio) {
        assert_string_equal(audio->codec_name, s->audio);
        assert_int_equal(audio->copyable, s->copy_audio);
        assert_int_equal(audio->channels, strcmp(s->audio, "vorbis") == 0 ? 2 : 1);
        assert_int_equal(audio->sample_rate, strstr(s->args, "44100") ? 44100 : 48000);
    }
}

static enum sg_error render(struct av_worker *worker, int fd, const struct sg_media_index *index,
                            enum sg_render_kind kind, uint64_t time_ms)
{
    struct sg_render r = {.kind = kind,
                          .key = "file",
                          .fd = fd,
                          .index = index,
                          .time_ms = time_ms,
                          .limits = &dump_limits};
    struct dump_reply reply;
    dump_render(worker, &r, &reply);
    if (!reply.err)
        assert_true(reply.len > 100);
    free(reply.data);
    return reply.err;
}

static void sources_are_described(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(sources); i++) {
        const struct source *s = &sources[i];
        struct av_worker *worker = NULL;
        int fd = make(s);
        print_message("%s %s %s\n", s->name, s->video ? s->video : "-", s->audio ? s->audio : "-");
        assert_int_equal(av_worker_create(&worker), SG_OK);
        struct sg_media_index *index = probe(worker, fd);
        assert_false(sg_media_index_packaged(index));
        assert_string_equal(index->content_type, s->type);
        assert_string_equal(index->format, s->format);
        assert_in_range(index->duration_ms, 3900, 4200);
        check_tracks(s, index);
        enum sg_error picture = s->video ? SG_OK : SG_ERR_NOT_FOUND;
        for (uint64_t ms = 0; ms <= 4000; ms += 2000) {
            enum sg_error err = render(worker, fd, index, SG_RENDER_POSTER, ms);
            if (err != picture)
                fail_msg("a poster at %u ms: %s", (unsigned)ms, sg_error_title(err));
        }
        if (s->video)
            assert_int_equal(render(worker, fd, index, SG_RENDER_STORYBOARD, 0), SG_OK);
        assert_int_equal(render(worker, fd, index, SG_RENDER_POSTER, 0), picture);
        sg_media_index_unref(index);
        av_worker_destroy(&worker);
        close(fd);
    }
}

/* Whatever becomes of the bytes, an index comes that holds, or an error that says why. */
static void try_bytes(struct av_worker *worker, const uint8_t *bytes, size_t len, unsigned number)
{
    struct dump_reply reply;
    char key[32];
    int fd = memfd_create("damaged", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    snprintf(key, sizeof(key), "file-%u", number);
    dump_probe_as(worker, key, fd, &dump_limits, &reply);
    if (reply.err) {
        if (!reply.why[0])
            fail_msg("%s, but no word why", sg_error_title(reply.err));
    } else {
        struct sg_media_index *index = NULL;
        assert_int_equal(sg_media_index_decode(reply.data, reply.len, &index), SG_OK);
        if (sg_media_index_video(index)) {
            (void)render(worker, fd, index, SG_RENDER_POSTER, 1000);
            (void)render(worker, fd, index, SG_RENDER_STORYBOARD, 0);
        }
        sg_media_index_unref(index);
    }
    free(reply.data);
    close(fd);
}

static void damage_does_no_harm(void **state)
{
    (void)state;
    const char *trials = getenv("SG_SOURCES_MUTATIONS");
    unsigned mutations = trials ? (unsigned)strtoul(trials, NULL, 10) : 12;
    uint32_t random = 1;
    for (size_t i = 0; i < SG_ARRAY_LEN(sources); i++) {
        struct av_worker *worker = NULL;
        struct stat st;
        int fd = make(&sources[i]);
        assert_int_equal(fstat(fd, &st), 0);
        size_t len = (size_t)st.st_size;
        uint8_t *bytes = malloc(len), *copy = malloc(len);
        assert_non_null(bytes);
        assert_non_null(copy);
        assert_int_equal(pread(fd, bytes, len, 0), st.st_size);
        assert_int_equal(av_worker_create(&worker), SG_OK);
        unsigned number = 0;
        for (unsigned cut = 1; cut < 12; cut++)
            try_bytes(worker, bytes, len * cut / 12, number++);
        for (unsigned m = 0; m < mutations; m++) {
            memcpy(copy, bytes, len);
            unsigned flips = 1 + m % 40;
            for (unsigned f = 0; f < flips; f++) {
                random = random * 1664525 + 1013904223;
                size_t span = m % 2 && len > 2048 ? 2048 : len; /* headers suffer most */
                copy[(random >> 8) % span] = (uint8_t)(random >> 3);
            }
            try_bytes(worker, copy, len, number++);
        }
        av_worker_destroy(&worker);
        free(copy);
        free(bytes);
        close(fd);
    }
}

static void expect_refusal(int fd, enum sg_error err, const char *word)
{
    struct av_worker *worker = NULL;
    struct dump_reply reply;
    assert_int_equal(av_worker_create(&worker), SG_OK);
    dump_probe(worker, fd, &dump_limits, &reply);
    assert_int_equal(reply.err, err);
    if (!strstr(reply.why, word))
        fail_msg("\"%s\" does not say \"%s\"", reply.why, word);
    assert_int_equal(av_worker_open_files(worker), 0);
    av_worker_destroy(&worker);
    close(fd);
}

static void refusals_say_why(void **state)
{
    (void)state;
    static const struct {
        struct source source;
        enum sg_error err;
        const char *word;
    } cases[] = {
        {{.args = TALLER "-c:v zmbv", .name = "a.avi"}, SG_ERR_UNSUPPORTED_MEDIA, "zmbv"},
        {{.args = PICTURE SOUND X264 "-c:a adpcm_yamaha", .name = "a.mkv"},
         SG_ERR_UNSUPPORTED_MEDIA,
         "adpcm_yamaha"},
        {{.args = PICTURE "-c:v wmv2 -f asf", .name = "a.wmv"},
         SG_ERR_UNSUPPORTED_MEDIA,
         "Windows Media"},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++)
        expect_refusal(make(&cases[i].source), cases[i].err, cases[i].word);
    int fd = make(&sources[2]);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(ftruncate(fd, st.st_size / 2), 0);
    expect_refusal(fd, SG_ERR_UNPROCESSABLE, "cut short");
    fd = make(&sources[5]);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(ftruncate(fd, st.st_size / 2), 0);
    expect_refusal(fd, SG_ERR_UNPROCESSABLE, "cut short");
}

/* Whatever a playlist is dressed as, it is read as that, and holds nothing. */
static void playlists_stay_refused(void **state)
{
    (void)state;
    static const char list[] = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n"
                               "#EXT-X-ENDLIST\n";
    static const struct {
        const char *bytes;
        size_t len;
    } heads[] = {
        {"ID3\4\0\0\0\0\0\0", 10},
        {"OggS\0\2\0\0\0\0", 10},
        {"RIFF\0\0\0\0AVI LIST", 16},
        {"RIFF\0\0\0\0WAVEfmt ", 16},
        {"FLV\1\5\0\0\0\t", 9},
        {"fLaC\0\0\0\"", 8},
        {"\0\0\1\272", 4},
        {"\x1a\x45\xdf\xa3\x80", 5},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(heads); i++) {
        struct av_worker *worker = NULL;
        struct dump_reply reply;
        int fd = memfd_create("list", MFD_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, heads[i].bytes, heads[i].len), (ssize_t)heads[i].len);
        for (int n = 0; n < 100; n++)
            assert_int_equal(write(fd, list, sizeof(list) - 1), (ssize_t)sizeof(list) - 1);
        assert_int_equal(av_worker_create(&worker), SG_OK);
        dump_probe(worker, fd, &dump_limits, &reply);
        if (reply.err != SG_ERR_UNPROCESSABLE && reply.err != SG_ERR_UNSUPPORTED_MEDIA &&
            reply.err != SG_ERR_TOO_LARGE) /* its words taken for lengths */
            fail_msg("%zu: %s", i, sg_error_title(reply.err));
        assert_true(reply.why[0]);
        av_worker_destroy(&worker);
        close(fd);
    }
}

/* A cover is no film. */
static void covers_are_passed_over(void **state)
{
    (void)state;
    static const char *const outputs[] = {"a.mp3", "a.flac", "a.mkv"};
    for (size_t i = 0; i < SG_ARRAY_LEN(outputs); i++) {
        char args[512];
        bool mkv = strstr(outputs[i], ".mkv") != NULL;
        snprintf(
            args, sizeof(args),
            "-f lavfi -i testsrc2=s=64x64 -frames:v 1 %s/cover.jpg && ffmpeg -nostdin -v error "
            "-y " SOUND "%s%s/cover.jpg %s",
            dir, mkv ? "-attach " : "-i ", dir,
            mkv ? "-metadata:s:t mimetype=image/jpeg"
                : "-map 0 -map 1 -c:v copy -disposition:v attached_pic");
        struct av_worker *worker = NULL;
        int fd = make(&(struct source){.args = args, .name = outputs[i]});
        assert_int_equal(av_worker_create(&worker), SG_OK);
        struct sg_media_index *index = probe(worker, fd);
        assert_int_equal(index->n_tracks, 1);
        assert_int_equal(index->tracks[0].kind, SG_TRACK_AUDIO);
        assert_memory_equal(index->content_type, "audio/", 6);
        sg_media_index_unref(index);
        av_worker_destroy(&worker);
        close(fd);
    }
    char path[256];
    snprintf(path, sizeof(path), "%s/cover.jpg", dir);
    unlink(path);
}

/* What could be packaged before still is, track by track. */
static void playable_films_stay_so(void **state)
{
    (void)state;
    static const struct {
        struct source source;
        uint32_t tracks;
        bool copyable;
    } cases[] = {
        {{.args = PICTURE SOUND SOUND X264 "-map 0 -map 1 -map 2 -c:a:0 ac3 -c:a:1 aac",
          .name = "a.mp4"},
         3,
         true},
        {{.args = PICTURE SOUND SOUND X264 "-map 0 -map 1 -map 2 -c:a:0 aac -c:a:1 pcm_s16le",
          .name = "a.mov"},
         2,
         true},
        {{.args = PICTURE "-c:v libx264 -preset ultrafast -pix_fmt yuv444p", .name = "a.mp4"},
         1,
         false},
        {{.args = SOUND "-c:a libmp3lame", .name = "a.mp4"}, 1, false},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        struct av_worker *worker = NULL;
        int fd = make(&cases[i].source);
        assert_int_equal(av_worker_create(&worker), SG_OK);
        struct sg_media_index *index = probe(worker, fd);
        assert_true(index->fmp4);
        assert_int_equal(index->n_tracks, cases[i].tracks);
        assert_int_equal(index->tracks[0].copyable, cases[i].copyable);
        assert_true(index->tracks[0].n_segments > 0);
        sg_media_index_unref(index);
        av_worker_destroy(&worker);
        close(fd);
    }
}

/* Many browsers lack AC-3: sound that all players have is chosen before it, wherever it stands, and
 * a film of nothing else is not packaged. */
static void sound_that_browsers_lack(void **state)
{
    (void)state;
    static const struct {
        struct source source;
        const char *chosen; /* NULL: not packaged */
    } cases[] = {
        {{.args = PICTURE SOUND SOUND X264 "-map 0 -map 1 -map 2 -c:a:0 ac3 -c:a:1 aac",
          .name = "a.mp4"},
         "audio-2"},
        {{.args = PICTURE SOUND SOUND X264 "-map 0 -map 1 -map 2 -c:a:0 aac -c:a:1 eac3",
          .name = "a.mov"},
         "audio"},
        {{.args = PICTURE SOUND X264 "-c:a ac3", .name = "a.mp4"}, NULL},
        {{.args = PICTURE SOUND X264 "-c:a eac3", .name = "a.mov"}, NULL},
        {{.args = SOUND "-c:a ac3", .name = "a.mp4"}, NULL},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        struct av_worker *worker = NULL;
        int fd = make(&cases[i].source);
        assert_int_equal(av_worker_create(&worker), SG_OK);
        struct sg_media_index *index = probe(worker, fd);
        assert_int_equal(sg_media_index_packaged(index), cases[i].chosen != NULL);
        if (cases[i].chosen) {
            assert_string_equal(sg_media_index_audio(index)->name, cases[i].chosen);
            assert_true(index->ts && sg_media_index_audio(index)->codec == SG_CODEC_AAC);
        } else if (sg_media_index_video(index)) {
            assert_true(index->tracks[0].copyable); /* another sound is enough */
        }
        sg_media_index_unref(index);
        av_worker_destroy(&worker);
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sources_are_described),    cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(covers_are_passed_over),   cmocka_unit_test(playable_films_stay_so),
        cmocka_unit_test(damage_does_no_harm),      cmocka_unit_test(playlists_stay_refused),
        cmocka_unit_test(sound_that_browsers_lack),
    };
    av_log_set_level(AV_LOG_QUIET);
    if (!mkdtemp(dir))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
