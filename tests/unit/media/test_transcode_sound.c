/* Sound encoded and copied, pictures copied, and where both are on the timeline. */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "support/unit.h"
#include "transcode_films_support.h"

static void assert_probe(const char *path, const char *args, const char *entries, const char *want)
{
    char *text = transcode_probe(path, args, entries);
    assert_string_equal(text, want);
    free(text);
}

/* Samples as ffmpeg plays them, mono, 48 kHz, from the file's time 0 on. */
static float *samples_of(const char *path, const char *map, size_t *n)
{
    char command[400];
    size_t cap = 48000 * 60;
    float *out = malloc(cap * sizeof(float));
    assert_non_null(out);
    snprintf(command, sizeof(command),
             "ffmpeg -nostdin -v error -copyts -i %s -map %s -af aresample=async=1:first_pts=0 -ac "
             "1 -ar 48000 "
             "-f f32le -",
             path, map);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    *n = fread(out, sizeof(float), cap, f);
    assert_int_equal(pclose(f), 0);
    return out;
}

/* The time at which it becomes loud for the first time at or after `from`, in seconds. */
static double loud_at(const float *samples, size_t n, double from)
{
    for (size_t i = (size_t)(from * 48000); i < n; i++)
        if (fabsf(samples[i]) > 0.05f)
            return (double)i / 48000;
    return -1;
}

#define CLICKS(seconds)                                                                            \
    "-f lavfi -t " seconds " -i \"aevalsrc='if(lt(mod(t,1),0.05),sin(6000*t),0)':s=48000\""

static void five_channels_become_two(void **state)
{
    (void)state;
    struct transcode_run run;
    transcode_begin(&run);
    transcode_clip(&run, "mkv",
                   "-f lavfi -t 3 -i "
                   "\"aevalsrc=0|0|sin(3000*t)|0|0|0:c=5.1:s=44100\" -c:a ac3");
    transcode_add_sound(transcode_add(&run, 0, 0), 0);
    transcode_go(&run);
    assert_string_equal(run.why, "");
    assert_probe(run.paths[0], "", "stream=codec_name,profile,sample_rate,channels",
                 "aac,LC,44100,2");
    size_t n;
    float *samples = samples_of(run.paths[0], "0:a", &n);
    assert_true(loud_at(samples, n, 1) < 1.01); /* the middle is heard */
    assert_in_range(n, 48000 * 3 - 2000, 48000 * 3 + 2500);
    free(samples);
    transcode_end(&run);
}

/* Clicks each second stay where they are. */
static void assert_clicks(const char *path, const char *map, double first, double last,
                          const char *what)
{
    double late = strstr(what, "-c:v flv") ? 0.025 : 0; /* it does not tell of an encoder's delay */
    size_t n;
    float *samples = samples_of(path, map, &n);
    for (double t = first; t <= last; t++) {
        double at = loud_at(samples, n, t - 0.3) - late;
        if (fabs(at - t) > 0.02)
            fail_msg("%s: the click of %.1f s is heard at %.4f s", what, t, at);
    }
    free(samples);
}

static void sound_keeps_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *ext, *args;
        uint32_t stream;
    } cases[] = {
        {"mp4", CLICKS("10") " -c:a aac", 0},
        {"mp3", CLICKS("10") " -c:a libmp3lame", 0},
        {"ogg", CLICKS("10") " -c:a libopus", 0},
        {"flac", CLICKS("10"), 0},
        {"wav", CLICKS("10") " -ar 96000", 0},
        {"wav", CLICKS("10") " -ar 11025", 0},
        {"mkv",
         "-f lavfi -t 10 -i testsrc2=s=160x90:r=25 " CLICKS(
             "10") " -c:v libx264 -preset ultrafast -c:a libvorbis",
         1},
        {"ts",
         "-f lavfi -t 10 -i testsrc2=s=160x90:r=25 " CLICKS(
             "10") " -c:v libx264 -preset ultrafast -c:a mp2",
         1},
        {"flv",
         "-f lavfi -t 10 -i testsrc2=s=160x90:r=25 " CLICKS(
             "10") " -c:v flv -c:a libmp3lame -ar 44100",
         1},
        {"avi", "-f lavfi -t 10 -i testsrc2=s=160x90:r=25 " CLICKS("10") " -c:v mpeg4 -c:a ac3", 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct transcode_run run;
        transcode_begin(&run);
        transcode_clip(&run, cases[i].ext, cases[i].args);
        struct sg_transcode_output *o =
            transcode_add(&run, cases[i].stream ? 160 : 0, cases[i].stream ? 90 : 0);
        bool first = strcmp(cases[i].ext, "flv") == 0; /* whose tracks are as they come */
        o->video_stream = first;
        transcode_add_sound(o, first ? 0 : cases[i].stream);
        transcode_go(&run);
        if (run.err)
            fail_msg("%s: %s", cases[i].ext, run.why);
        assert_clicks(run.paths[0], "0:a", 1, 9, cases[i].args);
        transcode_end(&run);
    }
}

/* Sound that begins 0.7 s after the picture, pauses for 2 s, and goes on. */
static void gaps_are_silent(void **state)
{
    (void)state;
    struct transcode_run run;
    transcode_begin(&run);
    transcode_clip(
        &run, "mkv",
        "-f lavfi -t 9 -i testsrc2=s=160x90:r=25 " CLICKS(
            "9") " -map 0:v -map 1:a -af \"aselect='gt(t,0.7)*not(between(t,3.5,5.5))'\" "
                 "-c:v libx264 -preset ultrafast -c:a pcm_s16le");
    transcode_add_sound(transcode_add(&run, 160, 90), 1);
    transcode_go(&run);
    assert_string_equal(run.why, "");
    size_t n;
    float *samples = samples_of(run.paths[0], "0:a", &n);
    assert_true(fabs(loud_at(samples, n, 0) - 1) < 0.02);
    assert_true(fabs(loud_at(samples, n, 3.4) - 6) < 0.02);
    assert_true(fabs(loud_at(samples, n, 7.5) - 8) < 0.02);
    free(samples);
    transcode_end(&run);
}

static void what_begins_late_stays_late(void **state)
{
    (void)state;
    struct transcode_run run;
    double times[200];
    transcode_begin(&run);
    transcode_clip(&run, "mp4",
                   "-itsoffset 0.5 -f lavfi -t 3 -i testsrc2=s=160x90:r=25 " CLICKS(
                       "4") " -vsync passthrough -c:v libx264 -preset ultrafast -c:a aac");
    transcode_add_sound(transcode_add(&run, 160, 90), 1);
    transcode_go(&run);
    assert_string_equal(run.why, "");
    assert_int_equal(run.result.video[0].start_us, 520000);
    assert_int_equal(transcode_times(run.paths[0], false, times, 200), 75);
    assert_true(fabs(times[0] - 0.52) < 1e-4);
    assert_clicks(run.paths[0], "0:a", 1, 3, "late");
    transcode_end(&run);

    /* A transport stream that begins in the middle of the day. */
    transcode_begin(&run);
    transcode_clip(
        &run, "ts",
        "-f lavfi -t 3 -i testsrc2=s=160x90:r=25 " CLICKS(
            "3") " -c:v libx264 -preset ultrafast -bf 2 -c:a aac -output_ts_offset 40000");
    transcode_add_sound(transcode_add(&run, 160, 90), 1);
    transcode_go(&run);
    assert_string_equal(run.why, "");
    assert_int_equal(run.result.video[0].frames, 75);
    assert_in_range(run.result.video[0].start_us, 0, 25000);
    transcode_end(&run);
}

/* Sound of two outputs alike, of a third not; a language and a title. */
static void sound_is_shared_and_named(void **state)
{
    (void)state;
    struct transcode_run run;
    transcode_begin(&run);
    transcode_clip(
        &run, "mkv",
        "-f lavfi -t 3 -i testsrc2=s=160x90:r=25 " CLICKS(
            "3") " -map 0:v -map 1:a -map 1:a -metadata:s:a:0 language=deu -metadata:s:a:1 "
                 "language=fra -metadata:s:a:1 title=Commentaire -c:v libx264 -preset ultrafast "
                 "-c:a libvorbis");
    for (int i = 0; i < 3; i++) {
        struct sg_transcode_output *o = transcode_add(&run, 160, 90);
        transcode_add_sound(o, 1);
        transcode_add_sound(o, 2);
    }
    run.plan.outputs[2].audios[1].channels = 1;
    transcode_go(&run);
    assert_string_equal(run.why, "");
    for (int i = 0; i < 3; i++) {
        assert_probe(run.paths[i], "-select_streams a", "stream=channels:stream_tags=language",
                     i < 2 ? "2,deu,2,fra" : "2,deu,1,fra");
        assert_clicks(run.paths[i], "0:a:1", 1, 2, "shared");
    }
    transcode_end(&run);
}

/* When a click is heard, on the file's own clock. */
static double click_of(const char *path)
{
    size_t n;
    float *samples = samples_of(path, "0:a", &n);
    double at = loud_at(samples, n, 2.7);
    free(samples);
    return at;
}

/* Packets of a film, copied out of other containers. */
static void films_are_copied(void **state)
{
    (void)state;
    static const struct {
        const char *ext, *codecs;
        bool copy_audio;
    } cases[] = {
        {"mkv", "-c:v libx264 -preset veryfast -c:a aac", true},
        {"ts", "-c:v libx264 -preset veryfast -c:a aac", true},
        {"flv", "-c:v libx264 -preset veryfast -c:a aac", true},
        {"mov", "-c:v libx264 -preset veryfast -c:a pcm_s16le", false},
        {"mkv", "-c:v libx265 -x265-params log-level=0 -preset ultrafast -c:a libopus", true},
        {"ts", "-c:v libx264 -preset veryfast -c:a ac3", false},
        {"avi", "-c:v libx264 -preset veryfast -bf 0 -c:a libmp3lame", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct transcode_run run;
        char args[500], clip[128];
        double want[200], got[200];
        snprintf(args, sizeof(args), "-f lavfi -t 4 -i testsrc2=s=160x90:r=25 %s %s", CLICKS("4"),
                 cases[i].codecs);
        transcode_begin(&run);
        transcode_clip(&run, cases[i].ext, args);
        struct sg_transcode_output *o = transcode_add(&run, 0, 0);
        o->video = SG_TRANSCODE_VIDEO_COPY;
        transcode_add_sound(o, 1);
        o->audios[0].copy = cases[i].copy_audio;
        transcode_go(&run);
        if (run.err)
            fail_msg("%s %s: %s", cases[i].ext, cases[i].codecs, run.why);
        snprintf(clip, sizeof(clip), "%s/clip.%s", run.dir, cases[i].ext);
        unsigned n = transcode_times(clip, false, want, 200);
        assert_int_equal(n, 100);
        assert_int_equal(transcode_times(run.paths[0], false, got, 200), n);
        for (unsigned k = 1; k < n; k++)
            if (fabs((want[k] - want[0]) - (got[k] - got[0])) > 0.0011)
                fail_msg("%s: picture %u is at %f, not %f", cases[i].ext, k, got[k] - got[0],
                         want[k] - want[0]);
        assert_true(got[0] < 0.09);
        double ssim = transcode_ssim(run.paths[0], clip, "null");
        if (ssim < 0.9999)
            fail_msg("%s %s: %f", cases[i].ext, cases[i].codecs, ssim);
        /* As far from the pictures as in the source. */
        double late = click_of(run.paths[0]) - got[0] - (click_of(clip) - want[0]);
        if (fabs(late - round(late)) > 0.02)
            fail_msg("%s: sound is %f s late", cases[i].ext, late - round(late));
        transcode_end(&run);
    }
}

/* Sound alone out of a film, live, as it is and encoded. */
static void sound_alone_is_live(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"ts", "-c:v libx264 -preset ultrafast -c:a aac"},
        {"mkv", "-c:v libx264 -preset ultrafast -c:a aac"},
        {"mp4", "-c:v libx264 -preset ultrafast -c:a aac"},
        {"flv", "-c:v libx264 -preset ultrafast -c:a aac"},
    };
    for (int i = 0; i < 8; i++) {
        struct transcode_run run;
        char args[500];
        bool copy = i < 4;
        transcode_begin(&run);
        snprintf(args, sizeof(args), "-f lavfi -t 7 -i testsrc2=s=160x90:r=25 %s %s", CLICKS("7"),
                 cases[i % 4][1]);
        transcode_clip(&run, cases[i % 4][0], args);
        struct sg_transcode_output *o = transcode_add(&run, 0, 0);
        transcode_add_sound(o, 1);
        o->audios[0].copy = copy;
        transcode_live(&run, o);
        transcode_go(&run);
        if (run.err)
            fail_msg("%s: %s", cases[i % 4][0], run.why);
        assert_true(run.seen.segments >= 3);
        transcode_compare_live(&run, 0);
        assert_probe(run.paths[0], "-select_streams a", "stream=codec_name,profile,sample_rate",
                     "aac,LC,48000");
        transcode_end(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(five_channels_become_two),  cmocka_unit_test(sound_keeps_its_place),
        cmocka_unit_test(gaps_are_silent),           cmocka_unit_test(what_begins_late_stays_late),
        cmocka_unit_test(sound_is_shared_and_named), cmocka_unit_test(films_are_copied),
        cmocka_unit_test(sound_alone_is_live),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
