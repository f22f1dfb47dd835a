/* A transcoding as bytes, held against the plan and the files; and the whole of it with a process
 * that only tells. */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/log.h"
#include "streamgate/base/str.h"

#include "support/unit.h"
#include "transcode_support.h"

static void the_plan_survives(void **state)
{
    (void)state;
    struct hand_plan h;
    struct transcode_plan got;
    uint8_t bytes[TRANSCODE_PLAN_MAX + 1], again[TRANSCODE_PLAN_MAX];
    int fds[TRANSCODE_FDS_MAX];
    size_t len = 0, len_again = 0;
    hand_plan_open(&h);
    assert_int_equal(transcode_plan_encode(&h.t, bytes, &len), SG_OK);
    size_t n = transcode_plan_fds(&h.t, fds);
    assert_int_equal(n, 4);
    assert_int_equal(transcode_plan_decode((struct transcode_bytes){bytes, len}, fds, n, &got),
                     SG_OK);
    assert_string_equal(got.t.preset, "veryfast");
    assert_int_equal(got.t.limits->max_frames, 3000000);
    assert_int_equal(got.t.outputs[0].live_fd, h.fds[2]);
    assert_int_equal(got.t.outputs[1].fd, h.fds[3]);
    assert_int_equal(got.t.outputs[1].live_fd, -1);
    assert_int_equal(got.t.outputs[0].audios[0].bitrate, 128000);
    assert_true(got.t.outputs[0].audios[1].copy);
    assert_int_equal(transcode_plan_encode(&got.t, again, &len_again), SG_OK);
    assert_int_equal(len_again, len);
    assert_memory_equal(again, bytes, len);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(transcode_plan_decode((struct transcode_bytes){bytes, cut}, fds, n, &got),
                         SG_ERR_INVALID);
    bytes[len] = 0;
    assert_int_equal(transcode_plan_decode((struct transcode_bytes){bytes, len + 1}, fds, n, &got),
                     SG_ERR_INVALID);
    for (size_t other = 0; other <= n + 1; other++)
        if (other != n)
            assert_int_equal(
                transcode_plan_decode((struct transcode_bytes){bytes, len}, fds, other, &got),
                SG_ERR_INVALID);
    hand_plan_close(&h);
}

static void a_full_plan_fits(void **state)
{
    (void)state;
    struct hand_plan h;
    uint8_t bytes[TRANSCODE_PLAN_MAX];
    int fds[TRANSCODE_FDS_MAX];
    size_t len = 0;
    hand_plan_open(&h);
    h.t.outputs[0].n_audios = SG_TRANSCODE_AUDIOS_MAX;
    for (uint32_t i = 0; i < SG_TRANSCODE_AUDIOS_MAX; i++)
        h.t.outputs[0].audios[i] = h.t.outputs[0].audios[0];
    h.t.n_outputs = SG_TRANSCODE_OUTPUTS_MAX;
    for (uint32_t i = 1; i < SG_TRANSCODE_OUTPUTS_MAX; i++)
        h.t.outputs[i] = h.t.outputs[0];
    assert_int_equal(transcode_plan_encode(&h.t, bytes, &len), SG_OK);
    assert_int_equal(transcode_plan_fds(&h.t, fds), TRANSCODE_FDS_MAX);
    hand_plan_close(&h);
}

static void impossible_plans_are_refused(void **state)
{
    (void)state;
    struct hand_plan h;
    uint8_t bytes[TRANSCODE_PLAN_MAX];
    size_t len = 0;
    hand_plan_open(&h);
    const struct sg_transcode good = h.t;
    struct sg_transcode bad[13];
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++)
        bad[i] = good;
    bad[0].n_outputs = 0;
    bad[1].n_outputs = SG_TRANSCODE_OUTPUTS_MAX + 1;
    bad[2].preset = "very fast";
    bad[3].preset = "veryveryveryslow";
    bad[4].outputs[0].width = 1281;
    bad[5].outputs[0].height = 0;
    bad[6].outputs[0].bitrate = 0, bad[6].outputs[0].crf = 52;
    bad[7].outputs[1].n_audios = 0;
    bad[8].outputs[0].audios[0].channels = 3;
    bad[9].outputs[0].n_audios = SG_TRANSCODE_AUDIOS_MAX + 1;
    bad[10].keyframe_ms = 0;
    bad[11].outputs[1].fd = -1;
    bad[12].outputs[0].bitrate = bad[12].outputs[0].crf = 0;
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++)
        if (transcode_plan_encode(&bad[i], bytes, &len) != SG_ERR_INVALID)
            fail_msg("plan %zu was taken", i);
    hand_plan_close(&h);
}

static enum sg_error pass(struct transcode_hearing *heard, const struct sg_transcode_event *e,
                          struct sg_transcode_event *out)
{
    uint8_t bytes[TRANSCODE_EVENT_MAX];
    size_t len = 0;
    assert_int_equal(transcode_event_encode(e, bytes, &len), SG_OK);
    return transcode_event_decode(heard, bytes, len, out);
}

/* What differs in no field has the same bytes. */
static void assert_one_form(const struct sg_transcode_event *a, const struct sg_transcode_event *b)
{
    uint8_t bytes[2][TRANSCODE_EVENT_MAX];
    size_t len[2] = {0, 1};
    assert_int_equal(transcode_event_encode(a, bytes[0], &len[0]), SG_OK);
    assert_int_equal(transcode_event_encode(b, bytes[1], &len[1]), SG_OK);
    assert_int_equal(len[0], len[1]);
    assert_memory_equal(bytes[0], bytes[1], len[0]);
}

static void events_survive(void **state)
{
    (void)state;
    struct hand_plan h;
    struct sg_transcode_event got, e = {.kind = SG_TRANSCODE_PROGRESS, .done_us = 5, .frames = 6};
    hand_plan_open(&h);
    hand_plan_grow(&h);
    struct transcode_hearing heard = {.plan = &h.t};
    assert_int_equal(pass(&heard, &e, &got), SG_OK);
    assert_true(got.done_us == 5 && got.frames == 6);
    e = hand_track();
    assert_int_equal(pass(&heard, &e, &got), SG_OK);
    assert_int_equal(got.kind, SG_TRANSCODE_LIVE_TRACK);
    assert_int_equal(got.bytes, HAND_INIT_BYTES);
    assert_string_equal(got.track.title, e.track.title);
    assert_null(got.track.segments);
    assert_one_form(&e, &got);
    for (uint32_t i = 0; i < HAND_SEGMENTS; i++) {
        e = hand_segment(i);
        assert_int_equal(pass(&heard, &e, &got), SG_OK);
        assert_int_equal(got.offset, e.offset);
        assert_int_equal(got.segment.start, e.segment.start);
        assert_one_form(&e, &got);
    }
    hand_plan_close(&h);
}

/* What must not follow a track and one segment. */
static void events_that_cannot_be_true_are_refused(void **state)
{
    (void)state;
    struct hand_plan h;
    struct sg_transcode_event got, track = hand_track(), first = hand_segment(0);
    struct sg_transcode_event next = hand_segment(1);
    hand_plan_open(&h);
    hand_plan_grow(&h);
    struct transcode_hearing fresh = {.plan = &h.t}, begun = {.plan = &h.t}, heard;
    assert_int_equal(pass(&begun, &track, &got), SG_OK);
    assert_int_equal(pass(&begun, &first, &got), SG_OK);
    heard = begun;
    assert_int_equal(pass(&heard, &next, &got), SG_OK);
    heard = fresh;
    assert_int_equal(pass(&heard, &first, &got), SG_ERR_MEDIA_WORKER); /* no track yet */
    heard = begun;
    assert_int_equal(pass(&heard, &track, &got), SG_ERR_MEDIA_WORKER); /* a second one */
    struct sg_transcode_event bad[10];
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++)
        bad[i] = next;
    bad[9].segment.key_bytes = HAND_SEGMENT_BYTES;
    bad[0].offset++;
    bad[1].segment.start++;
    bad[2].segment.duration = 0;
    bad[3].segment.duration = UINT64_MAX;
    bad[4].segment.bytes_fmp4 = 0;
    bad[5].segment.bytes_fmp4 = 2 * HAND_SEGMENT_BYTES + 1; /* not in the file */
    bad[6].segment.bytes_fmp4 = UINT64_MAX;
    bad[7].segment.samples = 0;
    bad[8].output = 1; /* has no live file */
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        heard = begun;
        if (pass(&heard, &bad[i], &got) != SG_ERR_MEDIA_WORKER)
            fail_msg("segment %zu was taken", i);
    }
    const struct sg_transcode_event far = {
        .kind = SG_TRANSCODE_PROGRESS, .done_us = 9, .frames = 9};
    struct sg_transcode_event back = far;
    heard = fresh;
    assert_int_equal(pass(&heard, &far, &got), SG_OK);
    back.done_us--;
    assert_int_equal(pass(&heard, &back, &got), SG_ERR_MEDIA_WORKER);
    hand_plan_close(&h);
}

static void tracks_that_were_not_planned_are_refused(void **state)
{
    (void)state;
    struct hand_plan h;
    struct sg_transcode_event got, bad[9];
    hand_plan_open(&h);
    hand_plan_grow(&h);
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++)
        bad[i] = hand_track();
    bad[0].track.codec = SG_CODEC_HEVC;
    bad[1].track.display_width = 640;
    bad[2].track.rotation = 90;
    bad[3].track.kind = SG_TRACK_AUDIO;
    bad[3].track.sample_rate = 48000, bad[3].track.channels = 2;
    memcpy(bad[4].track.codecs, "avc1\"\n", 7);
    memcpy(bad[5].track.title, "a\nb", 4);
    memcpy(bad[6].track.language, "<en>", 5);
    bad[7].bytes = 1 << 20; /* not in the file */
    bad[8].track.timescale = 0;
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        struct transcode_hearing heard = {.plan = &h.t};
        if (pass(&heard, &bad[i], &got) != SG_ERR_MEDIA_WORKER)
            fail_msg("track %zu was taken", i);
    }
    hand_plan_close(&h);
}

static void cut_and_changed_events_are_refused_or_sane(void **state)
{
    (void)state;
    struct hand_plan h;
    struct sg_transcode_event got, seeds[3] = {{.kind = SG_TRANSCODE_PROGRESS, .done_us = 5}};
    hand_plan_open(&h);
    hand_plan_grow(&h);
    seeds[1] = hand_track();
    seeds[2] = hand_segment(0);
    struct transcode_hearing announced = {.plan = &h.t};
    assert_int_equal(pass(&announced, &seeds[1], &got), SG_OK);
    srandom(11);
    for (size_t k = 0; k < SG_ARRAY_LEN(seeds); k++) {
        uint8_t bytes[TRANSCODE_EVENT_MAX], changed[TRANSCODE_EVENT_MAX];
        size_t len = 0;
        assert_int_equal(transcode_event_encode(&seeds[k], bytes, &len), SG_OK);
        const struct transcode_hearing before =
            k == 2 ? announced : (struct transcode_hearing){.plan = &h.t};
        for (size_t cut = 0; cut < len; cut++) {
            struct transcode_hearing heard = before;
            assert_int_equal(transcode_event_decode(&heard, bytes, cut, &got), SG_ERR_MEDIA_WORKER);
        }
        for (unsigned i = 0; i < 20000; i++) {
            struct transcode_hearing heard = before;
            memcpy(changed, bytes, len);
            for (long n = random() % 3; n >= 0; n--)
                changed[(size_t)random() % len] = (uint8_t)random();
            if (transcode_event_decode(&heard, changed, len, &got) != SG_OK)
                continue;
            assert_true(got.output < 2);
            assert_true(sg_str_is_utf8(got.track.title, strlen(got.track.title)));
            assert_true(heard.live[0].bytes <= HAND_INIT_BYTES + 3 * HAND_SEGMENT_BYTES);
        }
    }
    hand_plan_close(&h);
}

static void results_are_held_against_the_files(void **state)
{
    (void)state;
    struct hand_plan h;
    struct sg_transcode_result got, r = hand_result(), bad[6];
    uint8_t bytes[TRANSCODE_RESULT_MAX + 1];
    size_t len = 0;
    hand_plan_open(&h);
    hand_plan_grow(&h);
    assert_int_equal(transcode_result_encode(&h.t, &r, bytes, &len), SG_OK);
    assert_int_equal(transcode_result_decode(&h.t, bytes, len, &got), SG_OK);
    assert_memory_equal(&got, &r, sizeof(got));
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(transcode_result_decode(&h.t, bytes, cut, &got), SG_ERR_MEDIA_WORKER);
    bytes[len] = 0;
    assert_int_equal(transcode_result_decode(&h.t, bytes, len + 1, &got), SG_ERR_MEDIA_WORKER);
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++)
        bad[i] = r;
    bad[0].bytes[0]++;
    bad[1].bytes[1] = 0;
    bad[2].video[0].frames = 0;
    bad[3].video[0].end_us = bad[3].video[0].start_us;
    bad[4].video[1].frames = 1;
    bad[5].decoded = UINT64_MAX;
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        assert_int_equal(transcode_result_encode(&h.t, &bad[i], bytes, &len), SG_OK);
        if (transcode_result_decode(&h.t, bytes, len, &got) != SG_ERR_MEDIA_WORKER)
            fail_msg("result %zu was taken", i);
    }
    hand_plan_close(&h);
}

struct listener {
    unsigned progress, tracks, segments;
    int stop_fd; /* written to at the last segment; -1 */
    uint64_t stopped_ms;
};

static void listen_to(void *arg, const struct sg_transcode_event *e)
{
    struct listener *l = arg;
    l->progress += e->kind == SG_TRANSCODE_PROGRESS;
    l->tracks += e->kind == SG_TRANSCODE_LIVE_TRACK;
    l->segments += e->kind == SG_TRANSCODE_LIVE_SEGMENT;
    if (l->segments == HAND_SEGMENTS && l->stop_fd >= 0) {
        assert_int_equal(eventfd_write(l->stop_fd, 1), 0);
        l->stopped_ms = sg_clock_mono_ms();
    }
}

static enum sg_error run(enum hand_scenario scenario, struct listener *l,
                         char why[SG_MEDIA_MESSAGE_MAX])
{
    static const char *const argv[] = {"unit", TRANSCODE_TEST_ARG, NULL};
    const struct sg_transcode_process process = {.argv = argv,
                                                 .memory_bytes = 1u << 30,
                                                 .file_bytes = 1u << 20,
                                                 .cpu_seconds = 100,
                                                 .timeout_ms = 60000,
                                                 .stall_ms = scenario == HAND_HANG ? 300 : 60000};
    struct hand_plan h;
    struct sg_transcode_result got = {0}, want = hand_result();
    struct sg_transcode_process patient = process;
    hand_plan_open(&h);
    h.t.threads = scenario;
    if (l->stop_fd >= 0)
        patient.stall_ms = 60000;
    const struct sg_transcode_watch watch = {.stop_fd = l->stop_fd, .event = listen_to, .arg = l};
    enum sg_error err = sg_media_transcode(&patient, &h.t, &watch, &got, why);
    if (!err)
        assert_memory_equal(&got, &want, sizeof(got));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    hand_plan_close(&h);
    return err;
}

static void the_whole_runs(void **state)
{
    (void)state;
    struct listener l = {.stop_fd = -1};
    char why[SG_MEDIA_MESSAGE_MAX];
    assert_int_equal(run(HAND_GOOD, &l, why), SG_OK);
    assert_int_equal(l.tracks, 1);
    assert_int_equal(l.segments, HAND_SEGMENTS);
    assert_int_equal(l.progress, HAND_SEGMENTS);
    assert_string_equal(why, "");
}

static void every_failure_has_its_error(void **state)
{
    static const struct {
        enum hand_scenario scenario;
        enum sg_error err;
        unsigned segments;
        const char *why;
    } rows[] = {
        {HAND_HANG, SG_ERR_MEDIA_TIMEOUT, HAND_SEGMENTS, "The media process took too long"},
        {HAND_NO_SPACE, SG_ERR_NO_SPACE, 0, "No space for the file"},
        {HAND_INTERNAL, SG_ERR_MEDIA_WORKER, 0, "No space for the file"},
        {HAND_FAR_SEGMENT, SG_ERR_MEDIA_WORKER, HAND_SEGMENTS, "The media process failed"},
        {HAND_GARBAGE, SG_ERR_MEDIA_WORKER, 0, "The media process failed"},
        {HAND_WRONG_SIZE, SG_ERR_MEDIA_WORKER, HAND_SEGMENTS, "The media process failed"},
    };
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct listener l = {.stop_fd = -1};
        char why[SG_MEDIA_MESSAGE_MAX];
        assert_int_equal(run(rows[i].scenario, &l, why), rows[i].err);
        assert_int_equal(l.segments, rows[i].segments);
        assert_string_equal(why, rows[i].why);
    }
}

static void a_stop_ends_it(void **state)
{
    (void)state;
    struct listener l = {.stop_fd = eventfd(0, EFD_CLOEXEC)};
    char why[SG_MEDIA_MESSAGE_MAX];
    assert_int_equal(run(HAND_HANG, &l, why), SG_ERR_CANCELLED);
    assert_true(sg_clock_mono_ms() - l.stopped_ms < 500);
    (void)close(l.stop_fd);
}

static void discard(void *arg, const char *line)
{
    (void)arg, (void)line;
}

int main(int argc, char **argv)
{
    int status = transcode_worker_main(argc, argv);
    if (status >= 0)
        return status;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plan_survives),
        cmocka_unit_test(a_full_plan_fits),
        cmocka_unit_test(impossible_plans_are_refused),
        cmocka_unit_test(events_survive),
        cmocka_unit_test(events_that_cannot_be_true_are_refused),
        cmocka_unit_test(tracks_that_were_not_planned_are_refused),
        cmocka_unit_test(cut_and_changed_events_are_refused_or_sane),
        cmocka_unit_test(results_are_held_against_the_files),
        cmocka_unit_test(the_whole_runs),
        cmocka_unit_test(every_failure_has_its_error),
        cmocka_unit_test(a_stop_ends_it),
    };
    sg_log_test_sink(discard, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
