/* The picture that stands for a film when no time is asked for: not the black it begins with. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "av_media.h"
#include "dump_support.h"
#include "support/unit.h"

static char dir[] = "/tmp/sg-poster-XXXXXX";

#define BLACK(s) "-f lavfi -t " #s " -i color=black:s=160x90:r=10 "
#define FILM(s) "-f lavfi -t " #s " -i testsrc2=s=160x90:r=10 "
#define JOINED                                                                                     \
    "-filter_complex concat=n=2 -c:v libx264 -preset ultrafast -threads 1 -g 20 -pix_fmt yuv420p "

static void run(const char *command)
{
    assert_int_equal(system(command), 0);
}

struct luma {
    double mean, variance;
};

static struct luma luma_of(const struct dump_reply *reply)
{
    char command[512], path[256];
    uint8_t gray[160 * 90];
    snprintf(path, sizeof(path), "%s/poster.jpg", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(reply->data, 1, reply->len, file), reply->len);
    assert_int_equal(fclose(file), 0);
    snprintf(command, sizeof(command),
             "cd %s && ffmpeg -nostdin -v error -y -i poster.jpg -pix_fmt gray -f rawvideo gray",
             dir);
    run(command);
    unlink(path);
    snprintf(path, sizeof(path), "%s/gray", dir);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(gray, 1, sizeof(gray), file), sizeof(gray));
    (void)fclose(file);
    unlink(path);
    struct luma l = {0};
    for (size_t i = 0; i < sizeof(gray); i++)
        l.mean += gray[i] / (double)sizeof(gray);
    for (size_t i = 0; i < sizeof(gray); i++)
        l.variance += (gray[i] - l.mean) * (gray[i] - l.mean) / (double)sizeof(gray);
    return l;
}

static struct luma poster(const char *args, const char *name, uint64_t time_ms)
{
    char path[256], command[1024];
    struct av_worker *worker = NULL;
    struct sg_media_index *index = NULL;
    struct dump_reply reply;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    snprintf(command, sizeof(command), "ffmpeg -nostdin -v error -y %s %s", args, path);
    run(command);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(av_worker_create(&worker), SG_OK);
    dump_probe(worker, fd, &dump_limits, &reply);
    assert_int_equal(reply.err, SG_OK);
    assert_int_equal(sg_media_index_decode(reply.data, reply.len, &index), SG_OK);
    free(reply.data);
    struct sg_render r = {.kind = SG_RENDER_POSTER,
                          .key = "file",
                          .fd = fd,
                          .index = index,
                          .time_ms = time_ms,
                          .limits = &dump_limits};
    dump_render(worker, &r, &reply);
    assert_int_equal(reply.err, SG_OK);
    struct luma l = luma_of(&reply);
    free(reply.data);
    sg_media_index_unref(index);
    av_worker_destroy(&worker);
    close(fd);
    return l;
}

static void openings_are_passed_over(void **state)
{
    (void)state;
    static const char *const names[] = {"a.mp4", "a.mkv", "a.ts", "a.avi", "a.mov"};
    for (size_t i = 0; i < SG_ARRAY_LEN(names); i++) {
        struct luma l = poster(BLACK(12) FILM(48) JOINED, names[i], SG_POSTER_ANY);
        assert_true(l.mean > 60 && l.mean < 200);
        assert_true(l.variance > 1000);
        l = poster(BLACK(12) FILM(48) JOINED, names[i], 5000); /* as asked */
        assert_true(l.mean < 5 && l.variance < 5);
    }
}

/* The first third is all black: the rest is looked at. White is no better than black. */
static void late_films_are_found(void **state)
{
    (void)state;
    struct luma l = poster(BLACK(12) FILM(8) JOINED, "a.mp4", SG_POSTER_ANY);
    assert_true(l.variance > 1000);
    l = poster("-f lavfi -t 9 -i color=white:s=160x90:r=10 " FILM(9) JOINED, "a.mp4",
               SG_POSTER_ANY);
    assert_true(l.mean < 200 && l.variance > 1000);
}

static void black_films_have_posters_too(void **state)
{
    (void)state;
    struct luma l = poster(BLACK(6) BLACK(6) JOINED, "a.mp4", SG_POSTER_ANY);
    assert_true(l.mean < 5);
    l = poster(FILM(0.1) FILM(0.1) JOINED, "a.mp4", SG_POSTER_ANY);
    assert_true(l.variance > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openings_are_passed_over),
        cmocka_unit_test(late_films_are_found),
        cmocka_unit_test(black_films_have_posters_too),
    };
    av_log_set_level(AV_LOG_QUIET);
    if (!mkdtemp(dir))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
