/* Calls to the media process: encoded, decoded strictly, and made of what a render names. */
#include "call.h"
#include "fmp4.h"
#include "index_support.h"
#include "support/unit.h"

static const struct sg_media_limits limits = {.max_pixels = 1000,
                                              .max_duration_ms = 2000,
                                              .max_frames = 3000,
                                              .max_streams = 4,
                                              .max_body_bytes = 5000,
                                              .segment_ms = 6000};

static void round_trip(void **state)
{
    (void)state;
    struct hand_index h;
    struct media_call call, got;
    uint8_t bytes[MEDIA_CALL_MAX + 1];
    size_t len = 0;
    hand_index_fill(&h, false);
    struct sg_render r = {.kind = SG_RENDER_SEGMENT_TS,
                          .key = "01J",
                          .index = &h.index,
                          .track = &h.tracks[0],
                          .number = 1,
                          .limits = &limits};
    assert_int_equal(media_call_of_render(&r, &call), SG_OK);
    assert_int_equal(media_call_encode(&call, bytes, &len), SG_OK);
    assert_int_equal(media_call_decode(bytes, len, &got), SG_OK);
    assert_string_equal(got.key, "01J");
    assert_int_equal(got.op, MEDIA_OP_TS);
    assert_int_equal(got.limits.max_body_bytes, 5000);
    assert_int_equal(got.n_parts, 2);
    assert_int_equal(got.parts[0].seek_dts, h.video[1].seek_dts);
    assert_int_equal(got.parts[0].end, h.video[2].seek_dts);
    assert_false(got.parts[0].last);
    assert_int_equal(got.parts[1].samples, 281);
    for (size_t n = 0; n < len; n++)
        assert_int_equal(media_call_decode(bytes, n, &got), SG_ERR_INVALID);
    bytes[len] = 0;
    assert_int_equal(media_call_decode(bytes, len + 1, &got), SG_ERR_INVALID);
    bytes[1] = MEDIA_OP_END;
    assert_int_equal(media_call_decode(bytes, len, &got), SG_ERR_INVALID);
}

static void parts_of_renders(void **state)
{
    (void)state;
    struct hand_index h;
    struct media_call c;
    hand_index_fill(&h, false);
    struct sg_render r = {.kind = SG_RENDER_SEGMENT_TS,
                          .key = "k",
                          .index = &h.index,
                          .track = &h.tracks[0],
                          .limits = &limits};
    r.number = 2; /* the last of the video, with its audio */
    assert_int_equal(media_call_of_render(&r, &c), SG_OK);
    assert_true(c.parts[0].last && !c.parts[1].last);
    assert_int_equal(c.parts[0].end, 1305000);
    assert_int_equal(c.parts[1].samples, 118);
    r.number = 3; /* the tail: audio alone */
    assert_int_equal(media_call_of_render(&r, &c), SG_OK);
    assert_int_equal(c.n_parts, 1);
    assert_int_equal(c.parts[0].kind, SG_TRACK_AUDIO);
    assert_int_equal(c.parts[0].samples, 210);
    r.number = 4;
    assert_int_equal(media_call_of_render(&r, &c), SG_ERR_INVALID);
    r.kind = SG_RENDER_SEGMENT_FMP4;
    r.number = 3;
    assert_int_equal(media_call_of_render(&r, &c), SG_ERR_INVALID);
    r.number = 2;
    assert_int_equal(media_call_of_render(&r, &c), SG_OK);
    assert_int_equal(c.bytes, 200000);
    r.kind = SG_RENDER_IFRAME;
    for (r.number = 0; r.number < 4; r.number++)
        assert_int_equal(media_call_of_render(&r, &c), SG_ERR_INVALID);
    h.video[0].key_bytes = 30000;
    h.video[2].key_bytes = 50000;
    r.number = 0; /* until the next that is known */
    assert_int_equal(media_call_of_render(&r, &c), SG_OK);
    assert_int_equal(c.n_parts, 1);
    assert_int_equal(c.parts[0].samples, 1);
    assert_int_equal(c.parts[0].end, h.video[2].start);
    assert_int_equal(c.start, h.video[0].start);
    assert_int_equal(c.bytes, 30000 + fmp4_overhead(true, 1));
    r.number = 1;
    assert_int_equal(media_call_of_render(&r, &c), SG_ERR_INVALID);
    r.number = 2;
    assert_int_equal(media_call_of_render(&r, &c), SG_OK);
    assert_int_equal(c.parts[0].end, 1305000);
    assert_int_equal(c.start, h.video[2].start);
    h.video[0].key_bytes = 0; /* now it is the first */
    assert_int_equal(media_call_of_render(&r, &c), SG_OK);
    assert_int_equal(c.start, h.tracks[0].start);
    r.kind = SG_RENDER_POSTER;
    r.time_ms = 99999999;
    assert_int_equal(media_call_of_render(&r, &c), SG_OK);
    assert_int_equal(c.time_ms, h.index.duration_ms);
    char key[MEDIA_KEY_SIZE + 1];
    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = 0;
    r.key = key;
    assert_int_equal(media_call_of_render(&r, &c), SG_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip),
                                       cmocka_unit_test(parts_of_renders)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
