/* The fragment writer and the rules for frames outside the edit. */
#include "streamgate/media/index.h"

#include "fmp4.h"
#include "support/unit.h"

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void video_fragment(void **state)
{
    (void)state;
    const struct fmp4_sample samples[] = {
        {.dts = -3600, .pts = 0, .size = 1000, .key = true},
        {.dts = 0, .pts = 7200, .size = 200},
        {.dts = 3600, .pts = 3000, .size = 30}, /* shown before it is decoded: a negative offset */
    };
    struct fmp4_fragment f = {.video = true,
                              .sequence = 7,
                              .timescale = 90000,
                              .samples = samples,
                              .n = 3,
                              .end_dts = 7300};
    uint8_t out[256];
    size_t len = fmp4_overhead(true, 3);
    assert_int_equal(len, 8 + 16 + 8 + 20 + 20 + 20 + 3 * 16 + 8);
    memset(out, 0xee, sizeof(out));
    assert_int_equal(fmp4_write_header(&f, out, sizeof(out)), SG_OK);
    assert_int_equal(out[len], 0xee);
    assert_int_equal(be32(out), len - 8);
    assert_memory_equal(out + 4, "moof", 4);
    assert_memory_equal(out + 12, "mfhd", 4);
    assert_int_equal(be32(out + 20), 7);
    assert_memory_equal(out + 28, "traf", 4);
    assert_int_equal(be32(out + 24), len - 8 - 24);
    assert_memory_equal(out + 36, "tfhd", 4);
    assert_int_equal(be32(out + 40), 0x020020);
    assert_memory_equal(out + 56, "tfdt", 4);
    assert_int_equal(be32(out + 60), 0x01000000);
    assert_int_equal(be32(out + 64), 0);
    assert_int_equal(be32(out + 68), 90000 * SG_TIMELINE_OFFSET_S - 3600);
    assert_memory_equal(out + 76, "trun", 4);
    assert_int_equal(be32(out + 80), 0x01000f01);
    assert_int_equal(be32(out + 84), 3);
    assert_int_equal(be32(out + 88), len);
    static const uint32_t rows[3][4] = {{3600, 1000, 0x02000000, 3600},
                                        {3600, 200, 0x01010000, 7200},
                                        {3700, 30, 0x01010000, (uint32_t)-600}};
    for (unsigned i = 0; i < 3; i++)
        for (unsigned k = 0; k < 4; k++)
            assert_int_equal(be32(out + 92 + 16 * i + 4 * k), rows[i][k]);
    assert_int_equal(be32(out + len - 8), 1230 + 8);
    assert_memory_equal(out + len - 4, "mdat", 4);
}

static void audio_fragment(void **state)
{
    (void)state;
    const struct fmp4_sample samples[] = {{.dts = -1024, .pts = -1024, .size = 300, .key = true},
                                          {.dts = 0, .pts = 0, .size = 310, .key = true}};
    struct fmp4_fragment f = {
        .sequence = 1, .timescale = 48000, .samples = samples, .n = 2, .end_dts = 1024};
    uint8_t out[128];
    assert_int_equal(fmp4_write_header(&f, out, sizeof(out)), SG_OK);
    assert_int_equal(be32(out + 68), 480000 - 1024);
    assert_int_equal(be32(out + 80), 0x01000301);
    assert_int_equal(be32(out + 92), 1024);
    assert_int_equal(be32(out + 96), 300);
    assert_int_equal(be32(out + 100), 1024);
    assert_int_equal(be32(out + 104), 310);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct fmp4_sample s[2] = {{.dts = 0, .pts = 0, .size = 1, .key = true},
                               {.dts = 10, .pts = 10, .size = 1}};
    struct fmp4_fragment f = {
        .video = true, .sequence = 1, .timescale = 1000, .samples = s, .n = 2, .end_dts = 20};
    uint8_t out[256];
    assert_int_equal(fmp4_write_header(&f, out, fmp4_overhead(true, 2)), SG_OK);
    assert_int_equal(fmp4_write_header(&f, out, fmp4_overhead(true, 2) - 1), SG_ERR_INVALID);
    s[1].dts = -1; /* times fall */
    assert_int_equal(fmp4_write_header(&f, out, sizeof(out)), SG_ERR_INVALID);
    s[1].dts = INT64_C(1) << 33; /* too long a frame */
    f.end_dts = s[1].dts;
    assert_int_equal(fmp4_write_header(&f, out, sizeof(out)), SG_ERR_INVALID);
    s[1] = (struct fmp4_sample){.dts = 10, .pts = INT64_C(1) << 32, .size = 1};
    f.end_dts = 20;
    assert_int_equal(fmp4_write_header(&f, out, sizeof(out)), SG_ERR_INVALID);
    s[1].pts = 10;
    s[0].dts = -10001; /* before the offset */
    assert_int_equal(fmp4_write_header(&f, out, sizeof(out)), SG_ERR_INVALID);
    s[0].dts = 0;
    s[0].size = s[1].size = UINT32_MAX;
    assert_int_equal(fmp4_write_header(&f, out, sizeof(out)), SG_ERR_INVALID);
}

static void check_order(const struct fmp4_sample *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        assert_true(s[i].dts <= s[i].pts);
        if (i)
            assert_true(s[i - 1].dts < s[i].dts);
    }
}

/* I0 P3 B1 B2 P6 B4 B5, cut before B5 (as "ffmpeg -ss -c copy" leaves it): everything up to B4 is
 * hidden but P6. */
static void hidden_frames_lead(void **state)
{
    (void)state;
    static const int shown_at[] = {-5, -2, -4, -3, 1, -1, 0};
    struct fmp4_sample s[7];
    for (int i = 0; i < 7; i++)
        s[i] = (struct fmp4_sample){.dts = (i - 6) * 3600,
                                    .pts = shown_at[i] * 3600,
                                    .key = i == 0,
                                    .discard = shown_at[i] < 0};
    assert_int_equal(fmp4_squeeze(s, 7, 90000), SG_OK);
    check_order(s, 7);
    assert_int_equal(s[6].pts, 0);
    assert_int_equal(s[4].pts, 3600);
    /* in the order they would be shown, packed just before 0 */
    static const int order[] = {0, 2, 3, 1, 5};
    for (unsigned i = 0; i < 5; i++) {
        assert_in_range(-s[order[i]].pts, 1, 90);
        if (i)
            assert_true(s[order[i - 1]].pts < s[order[i]].pts);
    }
    assert_in_range(-s[0].dts, 3600, 3600 * 6);
}

/* An edit that ends before a reference frame: it goes just after the last visible one. */
static void hidden_frames_trail(void **state)
{
    (void)state;
    struct fmp4_sample s[] = {{.dts = -3600, .pts = 0, .key = true},
                              {.dts = 0, .pts = 10800, .discard = true},
                              {.dts = 3600, .pts = 3600},
                              {.dts = 7200, .pts = 7200}};
    assert_int_equal(fmp4_squeeze(s, 4, 90000), SG_OK);
    check_order(s, 4);
    assert_in_range(s[1].pts, 7201, 7290);
    assert_int_equal(s[3].pts, 7200);
}

static void nothing_hidden_nothing_moved(void **state)
{
    (void)state;
    struct fmp4_sample s[] = {{.dts = 5, .pts = 9, .key = true}, {.dts = 5, .pts = 7}};
    assert_int_equal(fmp4_squeeze(s, 2, 90000), SG_OK);
    assert_int_equal(s[0].pts, 9);
    assert_int_equal(s[1].dts, 5);
    s[0].discard = s[1].discard = true; /* nothing to see at all */
    assert_int_equal(fmp4_squeeze(s, 2, 90000), SG_OK);
    assert_int_equal(s[1].pts, 7);
}

/* Each 15 s, three reordered: what is decoded long before time 0 keeps its order, and everything
 * else its time. */
static void early_decode_times_are_packed(void **state)
{
    (void)state;
    static const uint32_t scales[] = {90000, 90001, 102400, 179999, 10000000};
    for (unsigned k = 0; k < sizeof(scales) / sizeof(scales[0]); k++) {
        uint32_t scale = scales[k];
        int64_t last = INT64_MIN, last_ts = INT64_MIN;
        for (int i = 0; i < 8; i++) {
            int64_t dts = (int64_t)15 * (i - 3) * scale;
            int64_t at = fmp4_decode_time(dts, (uint64_t)i, scale);
            int64_t ts = at * 90000 / scale; /* negative: rounded up, so no two are made one */
            assert_true(at > last && ts > last_ts);
            assert_true(at > -(int64_t)SG_TIMELINE_OFFSET_S * scale);
            assert_int_equal(fmp4_decode_early(dts, scale), i < 3);
            if (i < 3)
                assert_in_range(at + (int64_t)9 * scale, 0, scale / 1000);
            else
                assert_int_equal(at, dts);
            last = at;
            last_ts = ts;
        }
        /* however many they are, they stay before what is not moved */
        int64_t most = fmp4_decode_time(INT64_MIN, UINT64_MAX, scale);
        assert_true(most > fmp4_decode_time(INT64_MIN, FMP4_EARLY_MAX - 1, scale));
        assert_true(most < -(int64_t)8 * scale);
        assert_false(fmp4_decode_early(most, scale));
        assert_int_equal(fmp4_decode_time(most, UINT64_MAX, scale), most);
        assert_int_equal(fmp4_decode_time(-(int64_t)8 * scale, 5, scale), -(int64_t)8 * scale);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(video_fragment),
        cmocka_unit_test(audio_fragment),
        cmocka_unit_test(hidden_frames_lead),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(hidden_frames_trail),
        cmocka_unit_test(nothing_hidden_nothing_moved),
        cmocka_unit_test(early_decode_times_are_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
