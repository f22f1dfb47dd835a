/* Plans carried out on clips that the ffmpeg program makes. */
#include <math.h>
#include <stdio.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ladder_of_three),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
