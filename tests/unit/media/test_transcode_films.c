/* Plans carried out on clips that the ffmpeg program makes. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "streamgate/base/error.h"

#include "support/unit.h"
#include "transcode_films_support.h"

#define FILM                                                                                       \
    "-f lavfi -t 5 -i testsrc2=s=320x180:r=25 -f lavfi -t 5 -i sine=r=44100 -c:v libx264 "         \
    "-preset ultrafast -threads 1 -bf 2 -g 100 -pix_fmt yuv420p -c:a aac"

static void assert_probe(const char *path, const char *args, const char *entries, const char *want)
{
    char *text = transcode_probe(path, args, entries);
    assert_string_equal(text, want);
    free(text);
}

static void a_ladder_of_three(void **state)
{
    (void)state;
    struct transcode_run run;
    double key[3][16], all[200];
    transcode_begin(&run);
    transcode_clip(&run, "mp4", FILM);
    static const uint32_t sizes[3][2] = {{320, 180}, {212, 120}, {106, 60}};
    for (int i = 0; i < 3; i++)
        transcode_add_sound(transcode_add(&run, sizes[i][0], sizes[i][1]), 1);
    transcode_go(&run);
    assert_string_equal(run.why, "");
    assert_int_equal(run.err, SG_OK);
    assert_int_equal(run.result.decoded, 125);
    for (int i = 0; i < 3; i++) {
        char size[32];
        assert_int_equal(run.result.video[i].frames, 125);
        assert_int_equal(run.result.video[i].start_us, 0);
        assert_int_equal(run.result.video[i].end_us, 5000000);
        assert_int_equal(transcode_times(run.paths[i], false, all, 200), 125);
        assert_int_equal(transcode_times(run.paths[i], true, key[i], 16), 5);
        for (int k = 0; k < 5; k++)
            assert_true(fabs(key[i][k] - k) < 1e-6);
        snprintf(size, sizeof(size), "High,%u,%u,1:1", sizes[i][0], sizes[i][1]);
        assert_probe(run.paths[i], "-select_streams v",
                     "stream=profile,width,height,sample_aspect_ratio", size);
    }
    transcode_end(&run);
}

static void live_segments_are_those_of_the_file(void **state)
{
    (void)state;
    static const char *const films[] = {
        FILM,
        "-f lavfi -t 9 -i testsrc2=s=320x180:r=30000/1001 -f lavfi -t 5 -i sine=r=48000 -c:v "
        "mpeg4 -c:a aac",
        "-itsoffset 0.7 -f lavfi -t 4 -i testsrc2=s=320x180:r=50 -f lavfi -t 5 -i sine=r=48000 "
        "-vsync passthrough -c:v libx264 -preset ultrafast -c:a aac",
        "-f lavfi -t 0.04 -i testsrc2=s=320x180:r=25 -c:v libx264 -preset ultrafast",
        /* its rate is known at the end only */
        "-f lavfi -t 4 -i testsrc2=s=320x180:r=25 -vf \"setpts='if(lt(N,25),PTS,PTS+14.05/TB)'\" "
        "-vsync passthrough -c:v mpeg4",
        /* decoded long before time 0, of the second segment too */
        "-f lavfi -t 150 -i testsrc2=s=320x180:r=1/15 -c:v mpeg4",
        "-f lavfi -t 3 -i testsrc2=s=320x180:r=25 -vf \"setpts='if(eq(N,0),0,PTS+15/TB)'\" "
        "-vsync passthrough -c:v mpeg4",
    };
    for (size_t i = 0; i < sizeof(films) / sizeof(films[0]); i++) {
        struct transcode_run run;
        transcode_begin(&run);
        transcode_clip(&run, "mp4", films[i]);
        run.plan.preset = "veryfast";
        struct sg_transcode_output *o = transcode_add(&run, 160, 90);
        if (i < 3)
            transcode_add_sound(o, 1);
        transcode_live(&run, o);
        transcode_go(&run);
        assert_string_equal(run.why, "");
        transcode_compare_live(&run, 0);
        transcode_end(&run);
    }
}

static void live_sound_is_that_of_the_file(void **state)
{
    (void)state;
    struct transcode_run run;
    transcode_begin(&run);
    transcode_clip(&run, "wav", "-f lavfi -t 7.3 -i sine=r=44100 -c:a pcm_s16le");
    struct sg_transcode_output *o = transcode_add(&run, 0, 0);
    transcode_add_sound(o, 0);
    transcode_live(&run, o);
    transcode_go(&run);
    assert_string_equal(run.why, "");
    assert_int_equal(run.result.video[0].frames, 0);
    transcode_compare_live(&run, 0);
    transcode_end(&run);
}

static uint8_t *read_all(const char *path, size_t *len)
{
    uint8_t *bytes = malloc(16 << 20);
    FILE *f = fopen(path, "rb");
    assert_non_null(bytes);
    assert_non_null(f);
    *len = fread(bytes, 1, 16 << 20, f);
    fclose(f);
    return bytes;
}

static void two_runs_give_the_same_bytes(void **state)
{
    (void)state;
    uint8_t *bytes[2];
    size_t len[2];
    for (int i = 0; i < 2; i++) {
        struct transcode_run run;
        transcode_begin(&run);
        transcode_clip(&run, "mp4", FILM);
        run.plan.threads = 2;
        transcode_add_sound(transcode_add(&run, 212, 120), 1);
        transcode_go(&run);
        assert_int_equal(run.err, SG_OK);
        bytes[i] = read_all(run.paths[0], &len[i]);
        assert_int_equal(run.result.bytes[0], len[i]);
        transcode_end(&run);
    }
    assert_int_equal(len[0], len[1]);
    assert_memory_equal(bytes[0], bytes[1], len[0]);
    free(bytes[0]);
    free(bytes[1]);
}

static void a_full_disk_is_told(void **state)
{
    (void)state;
    for (int live = 0; live < 2; live++) {
        struct transcode_run run;
        transcode_begin(&run);
        transcode_clip(&run, "mp4", FILM);
        transcode_add(&run, 212, 120);
        struct sg_transcode_output *o = transcode_add(&run, 320, 180);
        int full = open("/dev/full", O_RDWR | O_CLOEXEC);
        assert_true(full >= 0);
        if (live) {
            o->live_fd = full;
        } else {
            close(o->fd);
            o->fd = full;
        }
        transcode_go(&run);
        assert_int_equal(run.err, SG_ERR_NO_SPACE);
        assert_string_equal(run.why, "There is no space for the output.");
        transcode_end(&run);
    }
}

/* Overwrites a share of the file's middle, one byte in `every`. */
static void damage(struct transcode_run *run, const char *ext, unsigned from_percent,
                   unsigned to_percent, unsigned every)
{
    char path[128];
    size_t len;
    snprintf(path, sizeof(path), "%s/clip.%s", run->dir, ext);
    uint8_t *bytes = read_all(path, &len);
    for (size_t i = len * from_percent / 100; i < len * to_percent / 100; i += every)
        bytes[i] ^= 0x5a;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    fclose(f);
    free(bytes);
}

static void some_damage_is_passed_over_and_much_is_refused(void **state)
{
    (void)state;
    struct transcode_run run;
    transcode_begin(&run);
    transcode_clip(&run, "ts", FILM);
    damage(&run, "ts", 40, 45, 97);
    transcode_add_sound(transcode_add(&run, 212, 120), 1);
    transcode_go(&run);
    assert_string_equal(run.why, "");
    assert_in_range(run.result.video[0].frames, 60, 125);
    assert_in_range(run.result.video[0].end_us, 4900000, 5100000);
    transcode_end(&run);

    transcode_begin(&run);
    transcode_clip(&run, "mkv", "-f lavfi -t 4 -i testsrc2=s=320x180:r=25 -c:v png");
    damage(&run, "mkv", 5, 95, 301);
    transcode_add(&run, 212, 120);
    transcode_go(&run);
    assert_int_equal(run.err, SG_ERR_UNPROCESSABLE);
    assert_true(strlen(run.why) > 20);
    transcode_end(&run);
}

static void limits_hold_while_decoding(void **state)
{
    (void)state;
    static const struct {
        struct sg_media_limits limits;
    } cases[] = {
        {{.max_pixels = 320 * 180 - 1,
          .max_duration_ms = 9000,
          .max_frames = 999,
          9,
          1 << 30,
          2000}},
        {{.max_pixels = 320 * 180, .max_duration_ms = 4000, .max_frames = 999, 9, 1 << 30, 2000}},
        {{.max_pixels = 320 * 180, .max_duration_ms = 9000, .max_frames = 124, 9, 1 << 30, 2000}},
        {{.max_pixels = 320 * 180, .max_duration_ms = 9000, .max_frames = 999, 1, 1 << 30, 2000}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct transcode_run run;
        transcode_begin(&run);
        transcode_clip(&run, "mp4", FILM);
        run.plan.limits = &cases[i].limits;
        transcode_add_sound(transcode_add(&run, 212, 120), 1);
        transcode_go(&run);
        assert_int_equal(run.err, SG_ERR_TOO_LARGE);
        transcode_end(&run);
    }
}

static void what_is_no_film_is_refused(void **state)
{
    (void)state;
    struct transcode_run run;
    transcode_begin(&run);
    transcode_clip(&run, "mp4", FILM);
    struct sg_transcode_output *o = transcode_add(&run, 212, 120);
    o->video_stream = 7;
    transcode_go(&run);
    assert_int_equal(run.err, SG_ERR_UNPROCESSABLE);
    o->video_stream = 1; /* sound */
    transcode_go(&run);
    assert_int_equal(run.err, SG_ERR_UNPROCESSABLE);
    o->video_stream = 0;
    o->width = 213;
    transcode_go(&run);
    assert_int_equal(run.err, SG_ERR_INVALID);
    transcode_end(&run);

    transcode_begin(&run);
    transcode_clip(&run, "m3u8", "-f lavfi -t 1 -i testsrc2=s=320x180:r=25 -f hls");
    transcode_add(&run, 212, 120);
    transcode_go(&run);
    assert_int_equal(run.err, SG_ERR_UNSUPPORTED_MEDIA);
    transcode_end(&run);
}

static void quality_is_that_of_the_command_line(void **state)
{
    (void)state;
    struct transcode_run run;
    char command[1024], clip[128], other[128];
    transcode_begin(&run);
    transcode_clip(&run, "mp4", FILM);
    run.plan.preset = "veryfast";
    transcode_add(&run, 212, 120)->bitrate = 150000;
    transcode_go(&run);
    assert_int_equal(run.err, SG_OK);
    snprintf(clip, sizeof(clip), "%s/clip.mp4", run.dir);
    snprintf(other, sizeof(other), "%s/other.mp4", run.dir);
    snprintf(command, sizeof(command),
             "ffmpeg -nostdin -v error -y -i %s -an -vf scale=212:120:flags=bicubic -c:v libx264 "
             "-preset veryfast -threads 1 -profile:v high -b:v 150k -maxrate 225k -bufsize 450k "
             "-x264-params scenecut=0:keyint=infinite -forced-idr 1 -force_key_frames "
             "'expr:gte(t,n_forced)' -vsync passthrough %s",
             clip, other);
    assert_int_equal(system(command), 0);
    double ours = transcode_ssim(run.paths[0], clip, "scale=212:120:flags=bicubic"),
           theirs = transcode_ssim(other, clip, "scale=212:120:flags=bicubic");
    assert_true(ours > 0.8);
    assert_true(ours > theirs - 0.001);
    transcode_end(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ladder_of_three),
        cmocka_unit_test(live_segments_are_those_of_the_file),
        cmocka_unit_test(live_sound_is_that_of_the_file),
        cmocka_unit_test(two_runs_give_the_same_bytes),
        cmocka_unit_test(a_full_disk_is_told),
        cmocka_unit_test(some_damage_is_passed_over_and_much_is_refused),
        cmocka_unit_test(limits_hold_while_decoding),
        cmocka_unit_test(what_is_no_film_is_refused),
        cmocka_unit_test(quality_is_that_of_the_command_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
