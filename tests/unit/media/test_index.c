/* The codec of the index: what goes in comes out, and nothing that does not hold comes in. */
#include <stdlib.h>
#include <string.h>

#include "index_support.h"
#include "support/unit.h"

static void round_trip(void **state)
{
    (void)state;
    struct hand_index h;
    hand_index_fill(&h, true);
    h.index.needs_walk = true;
    struct sg_media_index *index = hand_index_round(&h.index);
    assert_non_null(index);
    assert_string_equal(index->content_type, "video/mp4");
    assert_true(index->fmp4 && index->ts && index->needs_walk && index->independent);
    assert_int_equal(index->n_tracks, 3);
    for (unsigned i = 0; i < 3; i++) {
        struct sg_track want = h.tracks[i], got = index->tracks[i];
        assert_int_equal(want.n_segments, got.n_segments);
        assert_int_equal(want.duration, got.duration);
        assert_string_equal(want.codecs, got.codecs);
        assert_string_equal(want.title, got.title);
        for (uint32_t k = 0; k < got.n_segments; k++) {
            assert_int_equal(want.segments[k].start, got.segments[k].start);
            assert_int_equal(want.segments[k].seek_dts, got.segments[k].seek_dts);
            assert_int_equal(want.segments[k].bytes_ts, got.segments[k].bytes_ts);
            assert_int_equal(want.segments[k].samples, got.segments[k].samples);
        }
    }
    assert_ptr_equal(sg_media_index_video(index), &index->tracks[0]);
    assert_ptr_equal(sg_media_index_audio(index), &index->tracks[1]);
    assert_ptr_equal(sg_media_index_main(index), &index->tracks[0]);
    assert_ptr_equal(sg_media_index_track(index, "audio-2"), &index->tracks[2]);
    assert_null(sg_media_index_track(index, "audio-3"));
    assert_int_equal(sg_media_index_ts_segments(index), 4);
    assert_true(sg_media_index_weight(index) > 3 * sizeof(struct sg_track));
    sg_media_index_unref(sg_media_index_ref(index));
    sg_media_index_unref(index);
    sg_media_index_unref(NULL);
}

enum { VERSION_AT = 4, FLAGS_AT = 6, FMP4_AND_TS = 3, TEXTS = 16 };

/* What version 4 has after the tracks. */
static size_t tail_len(const struct hand_index *h)
{
    size_t len = 0;
    for (uint32_t i = 0; i < h->index.n_tracks; i++)
        len += 1 + 4 * (size_t)h->tracks[i].n_segments;
    return len;
}

/* Databases hold older versions. The first knew nothing of independence and offered turned pictures
 * as MPEG-TS; the second nothing of texts; the third nothing of key frames and copies. */
static void old_versions_are_read(void **state)
{
    (void)state;
    struct hand_index h;
    hand_index_fill(&h, false);
    for (uint16_t rotation = 0; rotation < 180; rotation += 90) {
        uint8_t *bytes = NULL;
        size_t len = 0;
        struct sg_media_index *index = NULL;
        h.tracks[0].rotation = rotation;
        assert_int_equal(sg_media_index_encode(&h.index, (void **)&bytes, &len), SG_OK);
        bytes[VERSION_AT] = 1;
        bytes[FLAGS_AT] = FMP4_AND_TS;
        assert_int_equal(sg_media_index_decode(bytes, len, &index), SG_ERR_MEDIA_WORKER);
        size_t old = len - tail_len(&h);
        bytes[FLAGS_AT] = FMP4_AND_TS | 8;
        assert_int_equal(sg_media_index_decode(bytes, old, &index), SG_ERR_MEDIA_WORKER);
        bytes[FLAGS_AT] = FMP4_AND_TS;
        assert_int_equal(sg_media_index_decode(bytes, old, &index), SG_OK);
        assert_true(index->fmp4 && !index->independent && !index->iframes);
        assert_false(index->tracks[0].copyable);
        assert_true(index->tracks[1].copyable);
        assert_int_equal(index->ts, rotation == 0);
        assert_int_equal(index->tracks[0].segments[1].bytes_ts, rotation ? 0 : 1280000);
        sg_media_index_unref(index);
        bytes[FLAGS_AT] = FMP4_AND_TS | TEXTS;
        bytes[VERSION_AT] = 2;
        assert_int_equal(sg_media_index_decode(bytes, old, &index), SG_ERR_MEDIA_WORKER);
        bytes[VERSION_AT] = 3;
        assert_int_equal(sg_media_index_decode(bytes, old, &index), SG_OK);
        assert_true(index->texts && !index->iframes);
        sg_media_index_unref(index);
        bytes[VERSION_AT] = 5;
        assert_int_equal(sg_media_index_decode(bytes, len, &index), SG_ERR_MEDIA_WORKER);
        free(bytes);
    }
}

static void key_frames_and_copies_are_kept(void **state)
{
    (void)state;
    struct hand_index h;
    hand_index_fill(&h, false);
    struct sg_media_index *index = hand_index_round(&h.index);
    assert_non_null(index);
    assert_false(index->iframes);
    sg_media_index_unref(index);
    h.video[1].key_bytes = 50000;
    h.tracks[0].copyable = true;
    index = hand_index_round(&h.index);
    assert_non_null(index);
    assert_true(index->iframes);
    assert_int_equal(index->tracks[0].segments[1].key_bytes, 50000);
    assert_true(index->tracks[0].copyable && !index->tracks[1].copyable);
    sg_media_index_unref(index);
}

/* A source that has to be transcoded: tracks without segments, of no form. */
static void described_tracks_are_kept(void **state)
{
    (void)state;
    struct hand_index h;
    hand_index_fill(&h, false);
    h.index.fmp4 = h.index.ts = false;
    for (unsigned i = 0; i < 2; i++) {
        h.tracks[i].n_segments = h.tracks[i].samples = 0;
        h.tracks[i].codec = SG_CODEC_OTHER;
        h.tracks[i].codecs[0] = 0;
    }
    h.tracks[1].start = -2000;
    struct sg_media_index *index = hand_index_round(&h.index);
    assert_non_null(index);
    assert_false(sg_media_index_packaged(index));
    assert_int_equal(index->tracks[1].start, -2000);
    assert_int_equal(index->tracks[0].duration, h.tracks[0].duration);
    sg_media_index_unref(index);
    h.index.fmp4 = true;
    assert_null(hand_index_round(&h.index));
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    struct hand_index h;
    void *bytes = NULL;
    size_t len = 0;
    struct sg_media_index *out = NULL;
    hand_index_fill(&h, true);
    assert_int_equal(sg_media_index_encode(&h.index, &bytes, &len), SG_OK);
    for (size_t n = 0; n < len; n++) {
        void *part = malloc(n ? n : 1); /* exact, so that a sanitizer sees one byte too many */
        assert_non_null(part);
        memcpy(part, bytes, n);
        assert_int_equal(sg_media_index_decode(part, n, &out), SG_ERR_MEDIA_WORKER);
        free(part);
    }
    uint8_t *more = calloc(1, len + 1);
    assert_non_null(more);
    memcpy(more, bytes, len);
    assert_int_equal(sg_media_index_decode(more, len + 1, &out), SG_ERR_MEDIA_WORKER);
    free(more);
    free(bytes);
    assert_null(out);
}

/* Each of these breaks one rule of an index that is otherwise good. */
static void no_tracks(struct hand_index *h)
{
    h->index.n_tracks = 0;
}
static void no_form(struct hand_index *h)
{
    h->index.fmp4 = h->index.ts = false;
}
static void key_larger_than_segment(struct hand_index *h)
{
    h->video[0].key_bytes = 600000;
}
static void key_frame_of_sound(struct hand_index *h)
{
    h->audio[0].key_bytes = 1;
}
static void no_duration(struct hand_index *h)
{
    h->index.duration_ms = 0;
}
static void line_in_type(struct hand_index *h)
{
    h->index.content_type[3] = '\n';
}
static void video_second(struct hand_index *h)
{
    h->tracks[1].kind = SG_TRACK_VIDEO;
}
static void two_defaults(struct hand_index *h)
{
    h->tracks[2].is_default = true;
}
static void no_default(struct hand_index *h)
{
    h->tracks[1].is_default = false;
}
static void same_name(struct hand_index *h)
{
    memcpy(h->tracks[2].name, "audio", 6);
}
static void same_stream(struct hand_index *h)
{
    h->tracks[2].stream = 1;
}
static void slash_in_name(struct hand_index *h)
{
    h->tracks[0].name[2] = '/';
}
static void quote_in_codecs(struct hand_index *h)
{
    h->tracks[0].codecs[2] = '"';
}
static void line_in_title(struct hand_index *h)
{
    h->tracks[2].title[2] = '\n';
}
static void bad_utf8(struct hand_index *h)
{
    h->tracks[2].title[2] = (char)0xff;
}
static void no_language(struct hand_index *h)
{
    h->tracks[1].language[0] = 0;
}
static void no_timescale(struct hand_index *h)
{
    h->tracks[0].timescale = 0;
}
static void no_time_base(struct hand_index *h)
{
    h->tracks[0].stream_tb_den = 0;
}
static void no_width(struct hand_index *h)
{
    h->tracks[0].display_width = 0;
}
static void huge_height(struct hand_index *h)
{
    h->tracks[0].height = UINT32_MAX;
}
static void no_sar(struct hand_index *h)
{
    h->tracks[0].sar_den = 0;
}
static void no_fps(struct hand_index *h)
{
    h->tracks[0].fps_den = 0;
}
static void odd_rotation(struct hand_index *h)
{
    h->tracks[0].rotation = 45;
}
static void full_rotation(struct hand_index *h)
{
    h->tracks[0].rotation = 360;
}
static void no_rate(struct hand_index *h)
{
    h->tracks[1].sample_rate = 0;
}
static void no_channels(struct hand_index *h)
{
    h->tracks[1].channels = 0;
}
static void no_segments(struct hand_index *h)
{
    h->tracks[0].n_segments = 0;
}
static void wrong_start(struct hand_index *h)
{
    h->tracks[0].start = 1;
}
static void wrong_sum(struct hand_index *h)
{
    h->tracks[0].duration++;
}
static void wrong_samples(struct hand_index *h)
{
    h->tracks[0].samples--;
}
static void wrong_bytes(struct hand_index *h)
{
    h->tracks[0].bytes = UINT64_MAX;
}
static void a_gap(struct hand_index *h)
{
    h->video[1].start++;
}
static void zero_segment(struct hand_index *h)
{
    h->video[2].duration = 0;
}
static void huge_segment(struct hand_index *h)
{
    h->video[2].duration = UINT64_MAX;
}
static void empty_segment(struct hand_index *h)
{
    h->video[1].samples = 0;
}
static void no_bytes(struct hand_index *h)
{
    h->video[1].bytes_fmp4 = 0;
}
static void huge_bytes(struct hand_index *h)
{
    h->video[1].bytes_ts = UINT64_MAX;
}
static void seek_back(struct hand_index *h)
{
    h->video[2].seek_dts = h->video[1].seek_dts;
}
static void far_start(struct hand_index *h)
{
    h->audio[0].start = h->tracks[1].start = INT64_MIN;
}

static void every_mutation_is_refused(void **state)
{
    (void)state;
    static void (*const mutations[])(struct hand_index *) = {
        no_tracks,
        no_form,
        key_larger_than_segment,
        key_frame_of_sound,
        no_duration,
        line_in_type,
        video_second,
        two_defaults,
        no_default,
        same_name,
        same_stream,
        slash_in_name,
        quote_in_codecs,
        line_in_title,
        bad_utf8,
        no_language,
        no_timescale,
        no_time_base,
        no_width,
        huge_height,
        no_sar,
        no_fps,
        odd_rotation,
        full_rotation,
        no_rate,
        no_channels,
        no_segments,
        wrong_start,
        wrong_sum,
        wrong_samples,
        wrong_bytes,
        a_gap,
        zero_segment,
        huge_segment,
        empty_segment,
        no_bytes,
        huge_bytes,
        seek_back,
        far_start,
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(mutations); i++) {
        struct hand_index h;
        hand_index_fill(&h, true);
        mutations[i](&h);
        struct sg_media_index *index = hand_index_round(&h.index);
        if (index)
            fail_msg("mutation %zu was taken", i);
    }
}

/* Any byte may change: either it is refused or what comes out still holds. */
static void flipped_bytes_do_no_harm(void **state)
{
    (void)state;
    struct hand_index h;
    void *bytes = NULL;
    size_t len = 0;
    hand_index_fill(&h, true);
    assert_int_equal(sg_media_index_encode(&h.index, &bytes, &len), SG_OK);
    uint8_t *b = bytes;
    for (size_t i = 0; i < len; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            struct sg_media_index *out = NULL;
            b[i] ^= (uint8_t)(1u << bit);
            if (sg_media_index_decode(bytes, len, &out) == SG_OK) {
                struct sg_media_index *again = hand_index_round(out);
                assert_non_null(again);
                assert_true(sg_media_index_ts_segments(out) >= 1);
                sg_media_index_unref(again);
                sg_media_index_unref(out);
            }
            b[i] ^= (uint8_t)(1u << bit);
        }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(old_versions_are_read),
        cmocka_unit_test(key_frames_and_copies_are_kept),
        cmocka_unit_test(described_tracks_are_kept),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(every_mutation_is_refused),
        cmocka_unit_test(flipped_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
