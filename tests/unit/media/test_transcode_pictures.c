/* Pictures of all kinds become upright, square, progressive, opaque ones of 8 bits, each with its
 * time. */
#include <math.h>
#include <stdio.h>

#include "support/unit.h"
#include "transcode_films_support.h"

static void assert_probe(const char *path, const char *args, const char *entries, const char *want)
{
    char *text = transcode_probe(path, args, entries);
    assert_string_equal(text, want);
    free(text);
}

/* One output of this size of a clip; the run is the caller's to end. */
static void make(struct transcode_run *run, const char *ext, const char *args, uint32_t w,
                 uint32_t h)
{
    transcode_begin(run);
    transcode_clip(run, ext, args);
    transcode_add(run, w, h)->crf = 12;
    transcode_go(run);
    assert_string_equal(run->why, "");
    assert_int_equal(run->err, SG_OK);
    char size[64];
    snprintf(size, sizeof(size), "h264,High,%u,%u,1:1,yuv420p,tv", w, h);
    assert_probe(run->paths[0], "-select_streams v",
                 "stream=codec_name,profile,width,height,sample_aspect_ratio,pix_fmt,color_range",
                 size);
}

static void clip_path(const struct transcode_run *run, const char *ext, char out[128])
{
    snprintf(out, 128, "%s/clip.%s", run->dir, ext);
}

static void a_turned_picture_is_upright(void **state)
{
    (void)state;
    static const char *const turns[] = {"90", "180", "270"};
    for (int i = 0; i < 3; i++) {
        struct transcode_run run;
        char args[400], clip[128];
        snprintf(args, sizeof(args),
                 "-f lavfi -t 1 -i testsrc2=s=320x180:r=25 -c:v libx264 -preset ultrafast -f mp4 "
                 "/tmp/sg-turn.mp4 && ffmpeg -nostdin -v error -y -i /tmp/sg-turn.mp4 -c copy "
                 "-metadata:s:v rotate=%s",
                 turns[i]);
        make(&run, "mp4", args, i == 1 ? 320 : 180, i == 1 ? 180 : 320);
        clip_path(&run, "mp4", clip);
        assert_true(transcode_ssim(run.paths[0], clip, "null") > 0.97); /* ffmpeg turns, too */
        assert_probe(run.paths[0], "-select_streams v", "stream_side_data=rotation", "");
        transcode_end(&run);
    }
    assert_int_equal(remove("/tmp/sg-turn.mp4"), 0);
}

static void wide_samples_become_square(void **state)
{
    (void)state;
    struct transcode_run run;
    char clip[128];
    make(&run, "mp4",
         "-f lavfi -t 1 -i testsrc2=s=180x144:r=25 -vf setsar=16/11 -c:v libx264 -preset ultrafast",
         262, 144);
    clip_path(&run, "mp4", clip);
    assert_true(transcode_ssim(run.paths[0], clip, "scale=262:144,setsar=1") > 0.97);
    transcode_end(&run);
}

static void interlaced_pictures_are_woven_out(void **state)
{
    (void)state;
    struct transcode_run run;
    double times[64];
    make(&run, "ts",
         "-f lavfi -t 2 -i testsrc2=s=320x180:r=50 -vf interlace,setfield=tff -c:v mpeg2video "
         "-flags +ilme+ildct -b:v 4M",
         320, 180);
    assert_int_equal(run.result.video[0].frames, 50);
    assert_int_equal(transcode_times(run.paths[0], false, times, 64), 50);
    for (int i = 0; i < 50; i++)
        assert_true(fabs(times[i] - i * 0.04) < 1e-4);
    char *field = transcode_probe(run.paths[0], "-select_streams v -read_intervals %+#3",
                                  "frame=interlaced_frame");
    assert_null(strchr(field, '1'));
    free(field);
    /* Combs are gone: nearer to the whole pictures than what ffmpeg makes of the fields as they
     * are. */
    char clip[128];
    clip_path(&run, "ts", clip);
    assert_true(transcode_ssim(run.paths[0], clip, "bwdif=mode=send_frame") > 0.97);
    transcode_end(&run);
}

static void uneven_times_are_kept(void **state)
{
    (void)state;
    struct transcode_run run;
    double want[200], got[200];
    char clip[128];
    make(&run, "mkv",
         "-f lavfi -t 4 -i testsrc2=s=160x90:r=100 -vf "
         "\"select='not(mod(n,7))+not(mod(n,11))'\" -vsync vfr -c:v libx264 -preset ultrafast "
         "-enc_time_base 1/1000",
         160, 90);
    clip_path(&run, "mkv", clip);
    unsigned n = transcode_times(clip, false, want, 200);
    assert_int_equal(transcode_times(run.paths[0], false, got, 200), n);
    assert_int_equal(run.result.video[0].frames, n);
    for (unsigned i = 0; i < n; i++)
        assert_true(fabs(want[i] - got[i]) < 1e-5);
    transcode_end(&run);
}

static void slow_and_fast_films_keep_every_picture(void **state)
{
    (void)state;
    static const int rates[] = {1, 24, 60, 120};
    for (int i = 0; i < 4; i++) {
        struct transcode_run run;
        char args[200];
        snprintf(args, sizeof(args),
                 "-f lavfi -t 3 -i testsrc2=s=160x90:r=%d -c:v libx264 -preset ultrafast",
                 rates[i]);
        make(&run, "mp4", args, 160, 90);
        assert_int_equal(run.result.video[0].frames, 3 * rates[i]);
        assert_int_equal(run.result.video[0].end_us, 3000000);
        transcode_end(&run);
    }
}

static void one_picture_is_a_film(void **state)
{
    (void)state;
    struct transcode_run run;
    make(&run, "mp4", "-f lavfi -i testsrc2=s=160x90:r=25 -frames:v 1 -c:v libx264", 160, 90);
    assert_int_equal(run.result.video[0].frames, 1);
    assert_int_equal(run.result.video[0].end_us, 40000);
    transcode_end(&run);
}

static void every_kind_of_pixel_is_taken(void **state)
{
    (void)state;
    static const struct {
        const char *ext, *args;
    } cases[] = {
        {"mkv", "-c:v ffv1 -pix_fmt yuv422p10le"},
        {"mkv", "-c:v ffv1 -pix_fmt yuv444p"},
        {"mkv", "-c:v ffv1 -pix_fmt gray"},
        {"mkv", "-c:v ffv1 -pix_fmt gbrp"},
        {"mov", "-c:v png -pix_fmt rgb24"},
        {"mov", "-c:v qtrle -pix_fmt argb"},
        {"mov", "-c:v prores_ks"},
        {"avi", "-c:v mjpeg -pix_fmt yuvj420p"},
        {"avi", "-c:v rawvideo -pix_fmt yuyv422"},
        {"mkv", "-c:v libx265 -x265-params log-level=0 -pix_fmt yuv420p10le"},
        {"avi", "-c:v huffyuv -pix_fmt yuv422p"},
        {"avi", "-c:v rawvideo -pix_fmt pal8"},
        {"webm", "-c:v libvpx -b:v 1M"},
        {"flv", "-c:v flv -b:v 2M"},
        {"avi", "-c:v mpeg4 -b:v 2M -bf 2"},
        {"mpg", "-c:v mpeg2video -b:v 2M"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct transcode_run run;
        char args[256], clip[128];
        snprintf(args, sizeof(args), "-f lavfi -t 0.6 -i testsrc2=s=176x144:r=25 %s",
                 cases[i].args);
        make(&run, cases[i].ext, args, 176, 144);
        clip_path(&run, cases[i].ext, clip);
        double ssim = transcode_ssim(run.paths[0], clip, "scale=176:144,format=yuv420p");
        if (ssim < 0.95 || run.result.video[0].frames != 15)
            fail_msg("%s %s: %f, %u pictures", cases[i].ext, cases[i].args, ssim,
                     (unsigned)run.result.video[0].frames);
        transcode_end(&run);
    }
}

static void alpha_is_blended_on_black(void **state)
{
    (void)state;
    struct transcode_run run;
    char reference[160];
    make(&run, "mov",
         "-f lavfi -t 0.4 -i color=white:s=160x90:r=25 -vf format=argb,colorchannelmixer=aa=0.5 "
         "-c:v qtrle -pix_fmt argb",
         160, 90);
    snprintf(reference, sizeof(reference), "%s/gray.mp4", run.dir);
    char command[400];
    snprintf(command, sizeof(command),
             "ffmpeg -nostdin -v error -y -f lavfi -t 0.4 -i color=0x808080:s=160x90:r=25 -c:v "
             "libx264 %s",
             reference);
    assert_int_equal(system(command), 0);
    assert_true(transcode_ssim(run.paths[0], reference, "null") > 0.99);
    transcode_end(&run);
}

static void colours_are_told_as_they_are(void **state)
{
    (void)state;
    static const struct {
        const char *size, *args, *want;
    } cases[] = {
        {"1280x720", "", "tv,bt709,bt709,bt709"},
        {"320x180", "", "tv,smpte170m,smpte170m,smpte170m"},
        {"320x180", "-colorspace bt709 -color_primaries bt709 -color_trc bt709",
         "tv,bt709,bt709,bt709"},
        {"320x180", "-colorspace bt470bg -color_primaries bt470bg -color_trc gamma28",
         "tv,bt470bg,bt470bg,bt470bg"},
        {"320x180", "-color_range pc -pix_fmt yuvj420p", "tv,smpte170m,smpte170m,smpte170m"},
        {"320x180",
         "-colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084 -pix_fmt yuv420p10le",
         "tv,bt709,bt709,bt709"},
        {"320x180",
         "-colorspace bt2020nc -color_primaries bt2020 -color_trc arib-std-b67 -pix_fmt "
         "yuv420p10le",
         "tv,bt709,bt709,bt709"},
        {"320x180",
         "-colorspace bt2020nc -color_primaries bt2020 -color_trc bt2020-10 -pix_fmt "
         "yuv420p10le",
         "tv,bt709,bt709,bt709"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct transcode_run run;
        char args[400];
        snprintf(args, sizeof(args),
                 "-f lavfi -t 0.2 -i testsrc2=s=%s:r=25 -pix_fmt yuv420p -c:v libx264 -preset "
                 "ultrafast %s",
                 cases[i].size, cases[i].args);
        make(&run, "mp4", args, 160, 90);
        assert_int_equal(run.result.video[0].frames, 5);
        assert_probe(run.paths[0], "-select_streams v",
                     "stream=color_range,color_space,color_transfer,color_primaries",
                     cases[i].want);
        transcode_end(&run);
    }
}

static void a_size_that_changes_is_scaled_to_the_same(void **state)
{
    (void)state;
    struct transcode_run run;
    make(
        &run, "ts",
        "-f lavfi -t 1 -i testsrc2=s=320x180:r=25 -c:v mpeg2video -f mpegts /tmp/sg-a.ts && "
        "ffmpeg -nostdin -v error -y -f lavfi -t 1 -i testsrc2=s=640x360:r=25 -output_ts_offset 1 "
        "-c:v mpeg2video -f mpegts /tmp/sg-b.ts && cat /tmp/sg-a.ts /tmp/sg-b.ts > /tmp/sg-c.ts && "
        "rm /tmp/sg-[ab].ts && mv -f /tmp/sg-c.ts",
        160, 90);
    assert_in_range(run.result.video[0].frames, 49, 50);
    transcode_end(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turned_picture_is_upright),
        cmocka_unit_test(wide_samples_become_square),
        cmocka_unit_test(interlaced_pictures_are_woven_out),
        cmocka_unit_test(uneven_times_are_kept),
        cmocka_unit_test(slow_and_fast_films_keep_every_picture),
        cmocka_unit_test(one_picture_is_a_film),
        cmocka_unit_test(every_kind_of_pixel_is_taken),
        cmocka_unit_test(alpha_is_blended_on_black),
        cmocka_unit_test(colours_are_told_as_they_are),
        cmocka_unit_test(a_size_that_changes_is_scaled_to_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
