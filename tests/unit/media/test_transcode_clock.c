/* Sources whose clock is set anew, overflows or is damaged: each second a flash is seen and a click
 * is heard, before and after, together. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "support/unit.h"
#include "transcode_films_support.h"

enum { TS = 188, VIDEO_PID = 0x100, AUDIO_PID = 0x101, EVENTS_MAX = 64, SIDE = 32 };

#define SOUND(seconds)                                                                             \
    "-f lavfi -t " seconds " -i \"aevalsrc='if(lt(mod(t,1),0.05),sin(6000*t),0)':s=48000\" "
#define FLASHES(seconds)                                                                           \
    "-f lavfi -t " seconds " -i \"color=black:s=320x180:r=25,drawbox=c=white:t=fill:"              \
    "enable='lt(mod(t,1),0.03)'\" "
#define CODED "-c:v libx264 -preset ultrafast -bf 2 -g 25 -pix_fmt yuv420p "
#define FILM(seconds) FLASHES(seconds) SOUND(seconds) CODED "-c:a aac"

static void make(const struct transcode_run *run, const char *name, const char *args)
{
    char command[2048];
    snprintf(command, sizeof(command), "ffmpeg -nostdin -v error -y %s %s/%s", args, run->dir,
             name);
    assert_int_equal(system(command), 0);
}

/* The files of these names after one another are the source. */
static void join(struct transcode_run *run, const char *first, const char *second)
{
    char command[512], path[128];
    snprintf(path, sizeof(path), "%s/clip", run->dir);
    snprintf(command, sizeof(command), "cd %s && cat %s %s > clip", run->dir, first, second);
    assert_int_equal(system(command), 0);
    run->plan.fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(run->plan.fd >= 0);
}

/* ---- what is seen and heard ---- */

static FILE *open_pipe(const char *format, const char *path)
{
    char command[512];
    snprintf(command, sizeof(command), format, path);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    return f;
}

static unsigned flashes_of(const char *path, double *at)
{
    double times[600];
    uint8_t picture[SIDE * SIDE];
    unsigned n = 0, frames = transcode_times(path, false, times, 600);
    FILE *f =
        open_pipe("ffmpeg -nostdin -v error -i %s -map 0:v -vsync passthrough -vf scale=32:32 "
                  "-f rawvideo -pix_fmt gray -",
                  path);
    bool lit = false;
    for (unsigned i = 0; i < frames; i++) {
        assert_int_equal(fread(picture, 1, sizeof(picture), f), sizeof(picture));
        bool bright = picture[SIDE * SIDE / 2] > 128;
        if (bright && !lit && n < EVENTS_MAX)
            at[n++] = times[i];
        lit = bright;
    }
    assert_int_equal(pclose(f), 0);
    return n;
}

static unsigned clicks_of(const char *path, double *at)
{
    static float samples[48000 * 120];
    FILE *f = open_pipe("ffmpeg -nostdin -v error -copyts -i %s -map 0:a -af "
                        "aresample=async=1:first_pts=0 -ac 1 -ar 48000 -f f32le -",
                        path);
    size_t count = fread(samples, sizeof(float), sizeof(samples) / sizeof(float), f);
    unsigned n = 0;
    assert_int_equal(pclose(f), 0);
    for (size_t i = 0; i < count; i++)
        if (fabsf(samples[i]) > 0.05f && n < EVENTS_MAX) {
            at[n++] = (double)i / 48000;
            i += 24000;
        }
    return n;
}

/* So many, each seen when it is heard, a second after the one before, but for one joint, where
 * nothing is missing either. */
static void assert_together(const struct transcode_run *run, unsigned want)
{
    double seen[EVENTS_MAX], heard[EVENTS_MAX];
    unsigned flashes = flashes_of(run->paths[0], seen), clicks = clicks_of(run->paths[0], heard);
    assert_int_equal(flashes, want);
    assert_int_equal(clicks, want);
    for (unsigned i = 0; i < want; i++) {
        if (fabs(seen[i] - heard[i]) > 0.03)
            fail_msg("flash %u is seen at %.4f s, and heard at %.4f s", i, seen[i], heard[i]);
        if (i && fabs(seen[i] - seen[i - 1] - 1) > 0.1)
            fail_msg("flash %u comes %.4f s after the one before", i, seen[i] - seen[i - 1]);
    }
}

static void carry_out(struct transcode_run *run, uint64_t frames, bool copied)
{
    struct sg_transcode_output *o = transcode_add(run, 160, 90);
    transcode_add_sound(o, 1);
    if (copied) {
        o->video = SG_TRANSCODE_VIDEO_COPY;
        o->audios[0].copy = true;
    }
    transcode_go(run);
    assert_string_equal(run->why, "");
    assert_int_equal(run->result.video[0].frames, frames);
}

/* ---- transport streams, changed ---- */

static uint64_t get_time(const uint8_t *p)
{
    return (uint64_t)(p[0] >> 1 & 7) << 30 | (uint64_t)p[1] << 22 | (uint64_t)(p[2] >> 1) << 15 |
           (uint64_t)p[3] << 7 | p[4] >> 1;
}

static void add_to_time(uint8_t *p, int64_t ticks)
{
    uint64_t t = get_time(p) + (uint64_t)ticks;
    p[0] = (uint8_t)((p[0] & 0xf1) | (t >> 30 & 7) << 1);
    p[1] = (uint8_t)(t >> 22);
    p[2] = (uint8_t)((t >> 15 & 0x7f) << 1 | 1);
    p[3] = (uint8_t)(t >> 7);
    p[4] = (uint8_t)((t & 0x7f) << 1 | 1);
}

/* Times of one PES packet, the nth of its stream, and the first clock reference after it. */
static void damage(struct transcode_run *run, unsigned pid, unsigned nth, int64_t ticks)
{
    char path[128];
    uint8_t p[TS];
    unsigned n = 0;
    bool done = false;
    snprintf(path, sizeof(path), "%s/clip.ts", run->dir);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    while (fread(p, 1, TS, f) == TS) {
        unsigned body = p[3] & 0x20 ? 5u + p[4] : 4u;
        bool clock = p[3] & 0x20 && p[4] >= 7 && p[5] & 0x10, changed = false;
        if ((p[1] & 0x40) && ((p[1] & 0x1fu) << 8 | p[2]) == pid && n++ == nth) {
            assert_true(p[body + 7] & 0x80);
            add_to_time(p + body + 9, ticks);
            if (p[body + 7] & 0x40)
                add_to_time(p + body + 14, ticks);
            changed = done = true;
        } else if (done && clock) {
            p[6] ^= 0x40;
            changed = true;
        }
        if (changed) {
            assert_int_equal(fseek(f, -TS, SEEK_CUR), 0);
            assert_int_equal(fwrite(p, 1, TS, f), TS);
            assert_int_equal(fseek(f, 0, SEEK_CUR), 0);
            if (clock && p[6] & 0x40)
                break;
        }
    }
    assert_true(done);
    fclose(f);
}

/* ---- tests ---- */

static void joined_recordings_go_on(void **state)
{
    (void)state;
    static const struct {
        const char *first, *second; /* where their clocks begin */
    } cases[] = {{"0", "0"},     {"0", "3400"}, {"3400", "0"}, {"0", "90000"},
                 {"90000", "2"}, {"0", "4.5"},  {"0", "95440"}};
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        struct transcode_run run;
        char args[1200];
        transcode_begin(&run);
        snprintf(args, sizeof(args), "%s -output_ts_offset %s", FILM("5"), cases[i / 2].first);
        make(&run, "a.ts", args);
        snprintf(args, sizeof(args), "%s -output_ts_offset %s", FILM("4"), cases[i / 2].second);
        make(&run, "b.ts", args);
        join(&run, "a.ts", "b.ts");
        print_message("clocks from %s s and %s s, %s\n", cases[i / 2].first, cases[i / 2].second,
                      i % 2 ? "copied" : "encoded");
        carry_out(&run, i % 2 ? 224 : 225, i % 2); /* copied: but for one that is told damaged */
        assert_in_range(run.result.video[0].end_us, 8990000, 9080000);
        assert_together(&run, 9);
        transcode_end(&run);
    }
}

static void program_streams_go_on(void **state)
{
    (void)state;
    struct transcode_run run;
    transcode_begin(&run);
    make(&run, "a.mpg", FLASHES("4") SOUND("4") "-c:v mpeg2video -bf 2 -q:v 4 -c:a mp2");
    make(&run, "b.mpg",
         FLASHES("4") SOUND("4") "-c:v mpeg2video -bf 2 -q:v 4 -c:a mp2 -output_ts_offset 1000");
    join(&run, "b.mpg", "a.mpg");
    carry_out(&run, 200, false);
    assert_together(&run, 8);
    transcode_end(&run);
}

static void a_counter_overflows(void **state)
{
    (void)state;
    static const char *const from[] = {"95440.7", "95438"}; /* 2^33 / 90,000 is 95,443.7 */
    for (int i = 0; i < 2; i++) {
        struct transcode_run run;
        char args[1200];
        transcode_begin(&run);
        snprintf(args, sizeof(args), "%s -muxdelay 0 -muxpreload 0 -output_ts_offset %s", FILM("6"),
                 from[i]);
        transcode_clip(&run, "ts", args);
        carry_out(&run, 150, false);
        assert_in_range(run.result.video[0].end_us, 5990000, 6080000);
        assert_together(&run, 6);
        transcode_end(&run);
    }
}

static void a_damaged_time_is_passed_over(void **state)
{
    (void)state;
    static const struct {
        unsigned pid, nth;
        int64_t seconds;
    } cases[] = {{VIDEO_PID, 60, 20000}, {VIDEO_PID, 60, -20000}, {VIDEO_PID, 61, 3},
                 {VIDEO_PID, 62, -3},    {VIDEO_PID, 63, 600},    {AUDIO_PID, 6, 20000},
                 {AUDIO_PID, 6, -20000}, {AUDIO_PID, 7, 30},      {AUDIO_PID, 7, -2},
                 {AUDIO_PID, 7, 2},      {VIDEO_PID, 0, 700},     {AUDIO_PID, 0, 700},
                 {VIDEO_PID, 0, -3},     {VIDEO_PID, 149, 50},    {AUDIO_PID, 15, 50}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct transcode_run run;
        transcode_begin(&run);
        transcode_clip(&run, "ts", FILM("6"));
        damage(&run, cases[i].pid, cases[i].nth, cases[i].seconds * 90000);
        print_message("packet %u of %u: %lld s\n", cases[i].nth, cases[i].pid,
                      (long long)cases[i].seconds);
        carry_out(&run, 150, false);
        assert_in_range(run.result.video[0].end_us, 5980000, 6080000);
        assert_together(&run, 6);
        transcode_end(&run);
    }
}

/* Each stream's own gap, while the other goes on. */
static void gaps_stay(void **state)
{
    (void)state;
    double all[200];
    struct transcode_run run;
    transcode_begin(&run);
    transcode_clip(&run, "ts",
                   FLASHES("9") SOUND("9") CODED
                   "-c:a mp2 -af \"aselect='not(between(t,2.5,6.5))'\"");
    carry_out(&run, 225, false);
    assert_int_equal(clicks_of(run.paths[0], all), 5); /* 0, 1, 2, 7 and 8 s */
    assert_true(fabs(all[3] - all[2] - 5) < 0.03);
    transcode_end(&run);

    transcode_begin(&run);
    transcode_clip(&run, "ts",
                   FLASHES("9") SOUND("9") CODED
                   "-c:a mp2 -vf \"select='not(between(t,2.5,6.5))'\" -vsync passthrough");
    carry_out(&run, 125, false);
    assert_int_equal(flashes_of(run.paths[0], all), 5);
    assert_true(fabs(all[3] - all[2] - 5) < 0.03);
    transcode_end(&run);
}

static void slide_shows_stay(void **state)
{
    (void)state;
    static const char *const kinds[] = {"mkv", "mp4"};
    for (int i = 0; i < 2; i++) {
        double all[8];
        struct transcode_run run;
        transcode_begin(&run);
        transcode_clip(&run, kinds[i],
                       "-f lavfi -t 0.2 -i testsrc2=s=320x180:r=25 -vf "
                       "\"setpts='if(lt(N,2),N,N+28)/TB'\" -vsync passthrough -c:v libx264");
        transcode_add(&run, 160, 90);
        transcode_go(&run);
        assert_string_equal(run.why, "");
        assert_int_equal(transcode_times(run.paths[0], false, all, 8), 5);
        static const double want[] = {0, 1, 30, 31, 32};
        for (int k = 0; k < 5; k++)
            assert_true(fabs(all[k] - want[k]) < 0.002);
        transcode_end(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joined_recordings_go_on),       cmocka_unit_test(program_streams_go_on),
        cmocka_unit_test(a_counter_overflows),           cmocka_unit_test(gaps_stay),
        cmocka_unit_test(a_damaged_time_is_passed_over), cmocka_unit_test(slide_shows_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
