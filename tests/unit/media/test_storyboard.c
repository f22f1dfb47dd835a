/* Where the tiles of a storyboard lie, and what a media process is asked for. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/media/storyboard.h"

#include "call.h"
#include "index_support.h"
#include "support/unit.h"

static void layouts(void **state)
{
    (void)state;
    static const struct {
        uint64_t duration_ms;
        uint32_t display_width, display_height;
        struct sg_storyboard want;
    } rows[] = {
        {1, 1280, 720, {2000, 1, 1, 160, 90}},
        {2000, 1280, 720, {2000, 1, 1, 160, 90}},
        {2001, 1280, 720, {2000, 2, 1, 160, 90}},
        {200000, 1280, 720, {2000, 100, 1, 160, 90}},
        {200001, 1280, 720, {2000, 101, 2, 160, 90}},
        {800000, 1280, 720, {2000, 400, 4, 160, 90}},
        {800001, 1280, 720, {3000, 267, 3, 160, 90}},
        {3600000, 1920, 1080, {9000, 400, 4, 160, 90}},
        {UINT64_C(1) << 55, 1920, 1080, {90071992548000, 400, 4, 160, 90}},
        {1000, 720, 1280, {2000, 1, 1, 160, 284}},
        {1000, 720, 576, {2000, 1, 1, 160, 128}},
        {1000, 4096, 1716, {2000, 1, 1, 160, 66}},
        {1000, 100, 50, {2000, 1, 1, 100, 50}}, /* not enlarged */
        {1000, 1, 1, {2000, 1, 1, 2, 2}},
        {1000, 16384, 1, {2000, 1, 1, 160, 2}},
        {1000, 1, 16384, {2000, 1, 1, 2, 640}},
        {1000, 1000, 8000, {2000, 1, 1, 80, 640}},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct hand_index h;
        struct sg_storyboard got;
        hand_index_fill(&h, false);
        h.index.duration_ms = rows[i].duration_ms;
        h.tracks[0].display_width = rows[i].display_width;
        h.tracks[0].display_height = rows[i].display_height;
        assert_int_equal(sg_storyboard_layout(&h.index, &got), SG_OK);
        const struct sg_storyboard *want = &rows[i].want;
        assert_int_equal(got.interval_ms, want->interval_ms);
        assert_int_equal(got.tiles, want->tiles);
        assert_int_equal(got.sheets, want->sheets);
        assert_int_equal(got.tile_width, want->tile_width);
        assert_int_equal(got.tile_height, want->tile_height);
        uint32_t sum = 0;
        for (uint32_t k = 0; k < got.sheets; k++) {
            uint32_t n = sg_storyboard_on_sheet(&got, k);
            assert_in_range(n, 1, SG_STORYBOARD_SHEET);
            sum += n;
        }
        assert_int_equal(sum, got.tiles);
    }
}

static char *vtt(const struct sg_media_index *index)
{
    struct sg_buf *buf = NULL;
    assert_int_equal(sg_storyboard_vtt(index, &buf), SG_OK);
    char *text = strndup((const char *)buf->data, buf->len);
    assert_non_null(text);
    sg_buf_unref(buf);
    return text;
}

static void a_short_film(void **state)
{
    (void)state;
    struct hand_index h;
    hand_index_fill(&h, false);
    h.index.duration_ms = 4005;
    char *text = vtt(&h.index);
    assert_string_equal(text, "WEBVTT\n"
                              "\n00:00:00.000 --> 00:00:02.000\n"
                              "storyboard-0.jpg#xywh=0,0,160,90\n"
                              "\n00:00:02.000 --> 00:00:04.000\n"
                              "storyboard-0.jpg#xywh=160,0,160,90\n"
                              "\n00:00:04.000 --> 00:00:04.005\n"
                              "storyboard-0.jpg#xywh=320,0,160,90\n");
    free(text);
}

struct cue {
    uint64_t from_ms, to_ms;
    unsigned sheet, x, y;
};

/* The next cue of the text; NULL behind the last. */
static const char *next_cue(const char *at, struct cue *out)
{
    const char *arrow = strstr(at, " --> ");
    if (!arrow)
        return NULL;
    while (arrow > at && arrow[-1] != '\n')
        arrow--;
    unsigned t[8], w, h;
    int n = 0;
    assert_int_equal(sscanf(arrow,
                            "%u:%2u:%2u.%3u --> %u:%2u:%2u.%3u\n"
                            "storyboard-%u.jpg#xywh=%u,%u,%u,%u\n%n",
                            &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7], &out->sheet,
                            &out->x, &out->y, &w, &h, &n),
                     13);
    assert_int_equal(w, 160);
    assert_int_equal(h, 90);
    out->from_ms = ((t[0] * UINT64_C(60) + t[1]) * 60 + t[2]) * 1000 + t[3];
    out->to_ms = ((t[4] * UINT64_C(60) + t[5]) * 60 + t[6]) * 1000 + t[7];
    return arrow + n;
}

/* Every cue follows the one before, in time and on the sheets, and the last ends with the film. */
static void covers_the_film(void **state)
{
    (void)state;
    static const uint64_t durations[] = {1,       1999,    2000,    19000,     200001,
                                         3599999, 3600000, 3600001, 400000000, 4000000001};
    for (size_t i = 0; i < SG_ARRAY_LEN(durations); i++) {
        struct hand_index h;
        struct cue cue;
        hand_index_fill(&h, false);
        h.index.duration_ms = durations[i];
        char *text = vtt(&h.index);
        uint64_t at_ms = 0;
        unsigned n = 0;
        for (const char *at = text; (at = next_cue(at, &cue)); n++) {
            assert_int_equal(cue.from_ms, at_ms);
            assert_true(cue.to_ms > cue.from_ms);
            at_ms = cue.to_ms;
            assert_int_equal(cue.sheet, n / 100);
            assert_int_equal(cue.x, n % 10 * 160);
            assert_int_equal(cue.y, n / 10 % 10 * 90);
        }
        assert_int_equal(at_ms, durations[i]);
        assert_in_range(n, 1, 400);
        free(text);
    }
}

static void sound_alone_has_none(void **state)
{
    (void)state;
    struct hand_index h;
    struct sg_storyboard board;
    struct sg_buf *buf = NULL;
    hand_index_fill(&h, false);
    h.index.tracks = &h.tracks[1];
    h.index.n_tracks = 1;
    assert_int_equal(sg_storyboard_layout(&h.index, &board), SG_ERR_UNSUPPORTED_MEDIA);
    assert_int_equal(sg_storyboard_vtt(&h.index, &buf), SG_ERR_UNSUPPORTED_MEDIA);
    assert_null(buf);
}

static void calls(void **state)
{
    (void)state;
    static const struct sg_media_limits limits = {.segment_ms = 6000};
    struct hand_index h;
    struct media_call call, got;
    uint8_t bytes[MEDIA_CALL_MAX];
    size_t len = 0;
    hand_index_fill(&h, false);
    h.index.duration_ms = 250000;
    struct sg_render r = {.kind = SG_RENDER_STORYBOARD,
                          .key = "01J",
                          .index = &h.index,
                          .number = 1,
                          .limits = &limits};
    assert_int_equal(media_call_of_render(&r, &call), SG_OK);
    assert_int_equal(media_call_encode(&call, bytes, &len), SG_OK);
    assert_int_equal(media_call_decode(bytes, len, &got), SG_OK);
    assert_int_equal(got.op, MEDIA_OP_STORYBOARD);
    assert_int_equal(got.number, 1);
    assert_int_equal(got.time_ms, 2000);
    assert_int_equal(got.width, 160);
    assert_int_equal(got.height, 90);
    assert_int_equal(got.count, 25);
    assert_int_equal(got.n_parts, 0);
    r.number = 2;
    assert_int_equal(media_call_of_render(&r, &call), SG_ERR_INVALID);
    h.index.tracks = &h.tracks[1];
    h.index.n_tracks = 1;
    r.number = 0;
    assert_int_equal(media_call_of_render(&r, &call), SG_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts),         cmocka_unit_test(a_short_film),
        cmocka_unit_test(covers_the_film), cmocka_unit_test(sound_alone_has_none),
        cmocka_unit_test(calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
