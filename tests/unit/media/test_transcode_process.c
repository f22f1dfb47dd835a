/* A transcoding as the daemon does it: the real process, in its sandbox, re-executed from this
 * program; and what a probe then says of the files. */
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/log.h"
#include "streamgate/sandbox/media_pool.h"

#include "support/unit.h"
#include "transcode_films_support.h"

#define FILM                                                                                       \
    "-f lavfi -t 13 -i testsrc2=s=320x180:r=25 -f lavfi -t 13 -i sine=r=44100 -c:v libx264 "       \
    "-preset ultrafast -threads 1 -bf 2 -g 100 -pix_fmt yuv420p -c:a aac"

static const char *const worker_argv[] = {"unit", "media-worker", NULL};

static void listen_to(void *arg, const struct sg_transcode_event *e)
{
    struct transcode_seen *seen = arg;
    if (e->kind == SG_TRANSCODE_PROGRESS) {
        seen->progress++;
        seen->last_frames = e->frames;
    } else if (e->kind == SG_TRANSCODE_LIVE_TRACK) {
        seen->tracks++;
        seen->track = *e;
    } else {
        assert_true(seen->segments < SEGMENTS_MAX);
        seen->segment[seen->segments++] = *e;
    }
}

static const struct sg_transcode_process ordinary = {.argv = worker_argv,
                                                     .memory_bytes = UINT64_C(2) << 30,
                                                     .file_bytes = UINT64_C(64) << 20,
                                                     .cpu_seconds = 600,
                                                     .timeout_ms = 100000,
                                                     .stall_ms = 60000};

static void go(struct transcode_run *run, const struct sg_transcode_process *process, int stop_fd)
{
    const struct sg_transcode_watch watch = {
        .stop_fd = stop_fd, .event = listen_to, .arg = &run->seen};
    run->err = sg_media_transcode(process, &run->plan, &watch, &run->result, run->why);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static struct sg_media_index *probe(int fd)
{
    const struct sg_media_pool_params params = {.workers = 1,
                                                .argv = worker_argv,
                                                .memory_bytes = UINT64_C(1) << 30,
                                                .max_reply_bytes = 64u << 20,
                                                .timeout_ms = 60000};
    struct sg_media_pool *pool = NULL;
    struct sg_media_index *index = NULL;
    char why[SG_MEDIA_MESSAGE_MAX];
    assert_int_equal(sg_media_pool_create(&params, &pool), SG_OK);
    enum sg_error err = sg_media_probe(pool, "made", fd, &transcode_limits, &index, why);
    assert_string_equal(why, "");
    assert_int_equal(err, SG_OK);
    sg_media_pool_destroy(&pool);
    return index;
}

/* The live segments are what the finished file's index has. */
static void assert_live_is_the_index(const struct transcode_run *run, const struct sg_track *t)
{
    const struct transcode_seen *seen = &run->seen;
    assert_int_equal(seen->tracks, 1);
    assert_string_equal(seen->track.track.codecs, t->codecs);
    assert_int_equal(seen->track.track.timescale, t->timescale);
    assert_int_equal(seen->segments, t->n_segments);
    for (uint32_t i = 0; i < t->n_segments; i++) {
        const struct sg_segment *live = &seen->segment[i].segment;
        assert_int_equal(live->start, t->segments[i].start);
        assert_int_equal(live->duration, t->segments[i].duration);
        assert_int_equal(live->samples, t->segments[i].samples);
    }
}

static void a_film_is_made_in_the_sandbox(void **state)
{
    (void)state;
    struct transcode_run run;
    transcode_begin(&run);
    transcode_clip(&run, "mp4", FILM);
    run.plan.threads = 2;
    struct sg_transcode_output *o = transcode_add(&run, 212, 120);
    transcode_add_sound(o, 1);
    transcode_live(&run, o);
    transcode_add_sound(transcode_add(&run, 106, 60), 1);
    go(&run, &ordinary, -1);
    assert_string_equal(run.why, "");
    assert_int_equal(run.err, SG_OK);
    assert_int_equal(run.result.decoded, 325);
    assert_int_equal(run.result.video[0].frames, 325);
    assert_int_equal(run.result.video[1].frames, 325);
    struct sg_media_index *index = probe(run.plan.outputs[0].fd);
    const struct sg_track *t = sg_media_index_video(index);
    assert_int_equal(t->samples, 325);
    assert_int_equal(t->width, 212);
    assert_live_is_the_index(&run, t);
    sg_media_index_unref(index);
    transcode_end(&run);
}

static void failures_are_told(void **state)
{
    (void)state;
    struct transcode_run run;
    transcode_begin(&run);
    transcode_clip(&run, "mp4", FILM);
    transcode_add(&run, 212, 120);
    struct sg_transcode_process small = ordinary;
    small.file_bytes = 20000;
    go(&run, &small, -1);
    assert_int_equal(run.err, SG_ERR_NO_SPACE);
    assert_true(run.why[0] != 0);
    assert_int_equal(ftruncate(run.plan.outputs[0].fd, 0), 0);
    int words = memfd_create("words", MFD_CLOEXEC), film = run.plan.fd;
    assert_int_equal(write(words, "just some words, no film", 24), 24);
    run.plan.fd = words;
    go(&run, &ordinary, -1);
    assert_true(run.err == SG_ERR_UNSUPPORTED_MEDIA || run.err == SG_ERR_UNPROCESSABLE);
    assert_true(run.why[0] != 0);
    run.plan.fd = film;
    (void)close(words);
    transcode_end(&run);
}

/* A stop while it works. */
struct stopping {
    int fd;
    uint64_t at_ms;
};

static void stop_at_once(void *arg, const struct sg_transcode_event *e)
{
    struct stopping *s = arg;
    (void)e;
    if (s->at_ms == 0) {
        s->at_ms = sg_clock_mono_ms();
        assert_int_equal(eventfd_write(s->fd, 1), 0);
    }
}

static void a_stop_ends_it_at_once(void **state)
{
    (void)state;
    struct transcode_run run;
    struct stopping s = {.fd = eventfd(0, EFD_CLOEXEC)};
    const struct sg_transcode_watch watch = {.stop_fd = s.fd, .event = stop_at_once, .arg = &s};
    transcode_begin(&run);
    transcode_clip(&run, "mp4", FILM);
    transcode_live(&run, transcode_add(&run, 320, 180));
    assert_int_equal(sg_media_transcode(&ordinary, &run.plan, &watch, &run.result, run.why),
                     SG_ERR_CANCELLED);
    assert_true(s.at_ms > 0 && sg_clock_mono_ms() - s.at_ms < 500);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    (void)close(s.fd);
    transcode_end(&run);
}

static void discard(void *arg, const char *line)
{
    (void)arg, (void)line;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], worker_argv[1]) == 0)
        return sg_media_worker_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_film_is_made_in_the_sandbox),
        cmocka_unit_test(failures_are_told),
        cmocka_unit_test(a_stop_ends_it_at_once),
    };
    if (getenv("SG_TEST_LOG") == NULL)
        sg_log_test_sink(discard, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
