/* Manifests of indexes made by hand, to the letter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/media/dash.h"

#include "index_support.h"
#include "support/unit.h"

#define HEAD(duration, longest, wait)                                                              \
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"                                                 \
    "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" "                                                \
    "profiles=\"urn:mpeg:dash:profile:isoff-live:2011\" type=\"static\" "                          \
    "mediaPresentationDuration=\"PT" duration "S\" maxSegmentDuration=\"PT" longest                \
    "S\" minBufferTime=\"PT" wait "S\">\n"                                                         \
    "  <Period id=\"0\" start=\"PT0S\">\n"
#define TEMPLATE(timescale, offset)                                                                \
    "      <SegmentTemplate timescale=\"" timescale "\" presentationTimeOffset=\"" offset          \
    "\" startNumber=\"0\" initialization=\"$RepresentationID$/init.mp4\" "                         \
    "media=\"$RepresentationID$/seg-$Number$.m4s\">\n"                                             \
    "        <SegmentTimeline>\n"
#define ROLE(role) "      <Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"" role "\"/>\n"
#define TIMELINE_END                                                                               \
    "        </SegmentTimeline>\n"                                                                 \
    "      </SegmentTemplate>\n"
#define SET_END "    </AdaptationSet>\n"
#define TAIL "  </Period>\n</MPD>\n"
#define STEREO                                                                                     \
    "        <AudioChannelConfiguration schemeIdUri=\"urn:mpeg:dash:23003:3:"                      \
    "audio_channel_configuration:2011\" value=\"2\"/>\n"                                           \
    "      </Representation>\n"

/* Two segments of 6 s and one of 2.5 s; the largest rate is 1.2 MB in 6 s. */
#define VIDEO_SET(sap)                                                                             \
    "    <AdaptationSet id=\"0\" contentType=\"video\" mimeType=\"video/mp4\" "                    \
    "segmentAlignment=\"true\" startWithSAP=\"" sap "\">\n" ROLE("main") TEMPLATE(                 \
        "90000",                                                                                   \
        "900000") "          <S t=\"900000\" d=\"540000\" r=\"1\"/>\n"                             \
                  "          <S d=\"225000\"/>\n" TIMELINE_END                                     \
                  "      <Representation id=\"original\" codecs=\"avc1.64001f\" "                  \
                  "bandwidth=\"1600001\" "                                                         \
                  "width=\"1280\" height=\"720\" sar=\"1:1\" frameRate=\"25\"/>\n" SET_END

/* It begins 1024 samples before the period. */
#define AUDIO_SET(id)                                                                              \
    "    <AdaptationSet id=\"" id                                                                  \
    "\" contentType=\"audio\" mimeType=\"audio/mp4\" lang=\"en\" segmentAlignment=\"true\" "       \
    "startWithSAP=\"1\">\n" ROLE("main") TEMPLATE(                                                 \
        "48000", "480000") "          <S t=\"478976\" d=\"289792\"/>\n"                            \
                           "          <S d=\"287744\"/>\n"                                         \
                           "          <S d=\"120832\"/>\n"                                         \
                           "          <S d=\"214656\"/>\n" TIMELINE_END                            \
                           "      <Representation id=\"audio\" codecs=\"mp4a.40.2\" "              \
                           "bandwidth=\"128802\" audioSamplingRate=\"48000\">\n" STEREO SET_END

/* As many frames a second as the segments hold. */
static void fill(struct hand_index *h, bool two_audio)
{
    hand_index_fill(h, two_audio);
    h->tracks[0].fps_num = 25;
    h->tracks[0].fps_den = 1;
}

static char *manifest(const struct sg_media_index *index)
{
    struct sg_buf *buf = NULL;
    assert_int_equal(hand_manifest(index, &buf), SG_OK);
    char *text = strndup((const char *)buf->data, buf->len);
    assert_non_null(text);
    assert_int_equal(strlen(text), buf->len);
    sg_buf_unref(buf);
    return text;
}

static void expect(const struct sg_media_index *index, const char *want)
{
    char *text = manifest(index);
    assert_string_equal(text, want);
    free(text);
}

static void expect_part(const struct sg_media_index *index, const char *want)
{
    char *text = manifest(index);
    if (!strstr(text, want))
        fail_msg("%s\nis not in\n%s", want, text);
    free(text);
}

static void picture_and_sound(void **state)
{
    (void)state;
    struct hand_index h;
    fill(&h, false);
    /* 1.2 MB at 1600001 bits a second: 6 s less a little; the sound's first 96000 bytes at 128802
     * take 5.962641 s */
    expect(&h.index, HEAD("19.000000", "6.037333", "5.999997") VIDEO_SET("1") AUDIO_SET("1") TAIL);
    h.index.independent = false;
    expect(&h.index, HEAD("19.000000", "6.037333", "5.999997") VIDEO_SET("3") AUDIO_SET("1") TAIL);
    h.index.fmp4 = false;
    struct sg_buf *buf = NULL;
    assert_int_equal(hand_manifest(&h.index, &buf), SG_ERR_UNSUPPORTED_MEDIA);
    assert_null(buf);
}

static void sound_alone(void **state)
{
    (void)state;
    struct hand_index h;
    fill(&h, false);
    h.index.tracks = &h.tracks[1];
    h.index.n_tracks = 1;
    expect(&h.index, HEAD("19.000000", "6.037333", "5.962641") AUDIO_SET("0") TAIL);
}

static void picture_alone(void **state)
{
    (void)state;
    struct hand_index h;
    fill(&h, false);
    h.index.n_tracks = 1;
    expect(&h.index, HEAD("14.500000", "6.000000", "5.999997") VIDEO_SET("1") TAIL);
}

static void several_languages(void **state)
{
    (void)state;
    struct hand_index h;
    fill(&h, true);
    char *text = manifest(&h.index);
    const char *second =
        strstr(text, "    <AdaptationSet id=\"2\" contentType=\"audio\" mimeType=\"audio/mp4\" "
                     "lang=\"de\" segmentAlignment=\"true\" startWithSAP=\"1\">\n"
                     "      <Label>Die &quot;Fassung&quot;</Label>\n" ROLE("alternate")
                         TEMPLATE("48000", "480000") "          <S t=\"480000\" d=\"912000\"/>\n");
    assert_non_null(second);
    assert_non_null(strstr(second, "<Representation id=\"audio-2\" codecs=\"mp4a.40.2\""));
    free(text);
    memcpy(h.tracks[2].language, "und", 4);
    expect_part(&h.index, "<AdaptationSet id=\"2\" contentType=\"audio\" mimeType=\"audio/mp4\" "
                          "segmentAlignment");
}

static void titles_are_escaped(void **state)
{
    (void)state;
    static const struct {
        const char *title, *label;
    } rows[] = {
        {"a<b>&c", "<Label>a&lt;b&gt;&amp;c</Label>"},
        {"]]>", "<Label>]]&gt;</Label>"},
        {"\"'", "<Label>&quot;&apos;</Label>"},
        {"&amp;", "<Label>&amp;amp;</Label>"},
        {"Größe 日本 \xf0\x9f\x8e\xac", "<Label>Größe 日本 \xf0\x9f\x8e\xac</Label>"},
        {"x\xef\xbf\xbey\xef\xbf\xbfz\xef\xbf\xbd", "<Label>xyz\xef\xbf\xbd</Label>"},
        {"\xef\xbf\xbf", "<Label></Label>"},
        {"", "startWithSAP=\"1\">\n      <Role"},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct hand_index h;
        fill(&h, true);
        assert_in_range(strlen(rows[i].title), 0, sizeof(h.tracks[2].title) - 1);
        memcpy(h.tracks[2].title, rows[i].title, strlen(rows[i].title) + 1);
        expect_part(&h.index, rows[i].label);
    }
}

static void languages_are_escaped(void **state)
{
    (void)state;
    struct hand_index h;
    fill(&h, true);
    memcpy(h.tracks[2].language, "x\"><&", 6);
    expect_part(&h.index, " lang=\"x&quot;&gt;&lt;&amp;\" ");
}

static void pictures(void **state)
{
    (void)state;
    static const struct {
        uint32_t sar_num, sar_den, fps_num, fps_den;
        uint16_t rotation;
        const char *want;
    } rows[] = {
        {1, 1, 25, 1, 0, "width=\"1280\" height=\"720\" sar=\"1:1\" frameRate=\"25\""},
        {8, 6, 50, 2, 0, "width=\"1280\" height=\"720\" sar=\"4:3\" frameRate=\"25\""},
        {1, 1, 60000, 2002, 180,
         "width=\"1280\" height=\"720\" sar=\"1:1\" frameRate=\"30000/1001\""},
        {4, 3, 25, 1, 90, "width=\"720\" height=\"1280\" sar=\"3:4\" frameRate=\"25\""},
        {1, 1, 1, 3, 270, "width=\"720\" height=\"1280\" sar=\"1:1\" frameRate=\"1/3\""},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct hand_index h;
        fill(&h, false);
        struct sg_track *t = &h.tracks[0];
        t->sar_num = rows[i].sar_num;
        t->sar_den = rows[i].sar_den;
        t->fps_num = rows[i].fps_num;
        t->fps_den = rows[i].fps_den;
        t->rotation = rows[i].rotation;
        expect_part(&h.index, rows[i].want);
    }
}

static void channels(void **state)
{
    (void)state;
    static const char *const values[] = {
        [1] = "1", [2] = "2", [6] = "6", [7] = NULL, [8] = "7", [9] = NULL};
    static const uint16_t counts[] = {1, 2, 6, 7, 8, 9};
    for (size_t i = 0; i < SG_ARRAY_LEN(counts); i++) {
        struct hand_index h;
        fill(&h, false);
        h.tracks[1].channels = counts[i];
        char *text = manifest(&h.index), want[128];
        const char *value = values[counts[i]];
        snprintf(want, sizeof(want), "audio_channel_configuration:2011\" value=\"%s\"/>",
                 value ? value : "");
        assert_int_equal(strstr(text, "AudioChannelConfiguration") != NULL, value != NULL);
        if (value)
            assert_non_null(strstr(text, want));
        free(text);
    }
}

/* Nothing lies before the beginning of the media timeline. */
static void too_early(void **state)
{
    (void)state;
    struct hand_index h;
    struct sg_buf *buf = NULL;
    fill(&h, false);
    h.tracks[1].start = h.audio[0].start = -480000;
    expect_part(&h.index, "<S t=\"0\" ");
    h.tracks[1].start = h.audio[0].start = -480001;
    assert_int_equal(hand_manifest(&h.index, &buf), SG_ERR_UNSUPPORTED_MEDIA);
    assert_null(buf);
}

/* Hidden frames lie just before the first that is shown: the period begins before them. */
static void hidden_frames(void **state)
{
    (void)state;
    static const struct {
        uint32_t samples; /* of the first segment, where 150 are shown */
        int64_t seek_dts; /* at 15360 a second; shown from 0 on */
        const char *offset, *duration;
    } rows[] = {
        {150, 0, "\"900000\"", "PT19.000000S"},
        {150, -10240, "\"900000\"", "PT19.000000S"}, /* 16 frames ahead: reordering */
        /* 33 frames, each at most twice 3 ticks and 1: 264 ticks, rounded up on the way */
        {183, -19200, "\"899735\"", "PT19.002934S"},
        /* 37.5 frames before, though the segment holds no more than its length explains */
        {150, -23040, "\"899695\"", "PT19.003378S"},
        {UINT32_MAX, INT64_MIN / 1024, "\"810000\"", "PT20.000000S"},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct hand_index h;
        fill(&h, false);
        h.video[0].samples = rows[i].samples;
        h.video[0].seek_dts = rows[i].seek_dts;
        char want[96];
        snprintf(want, sizeof(want), " presentationTimeOffset=%s ", rows[i].offset);
        expect_part(&h.index, want);
        snprintf(want, sizeof(want), " mediaPresentationDuration=\"%s\" ", rows[i].duration);
        expect_part(&h.index, want);
        expect_part(&h.index, "<S t=\"900000\" ");
        expect_part(&h.index, "<S t=\"478976\" ");
    }
}

/* minBufferTime bounds a run of large segments, not only one. */
static void wait_at_the_beginning(void **state)
{
    (void)state;
    struct hand_index h;
    fill(&h, false);
    h.index.n_tracks = 1;
    /* 10 s of 1 MB, then four of 0.5 s with 400 kB: runs of 5 s to 15 s count, and the largest is
     * the first with all that follow, 2.6 MB in 12 s = 1733334; the four need 7.385 s at that rate,
     * of which 1.5 s pass with the first three */
    struct sg_segment segments[5] = {{0, 900000, 0, 1000000, 1000000, 250, 0}};
    for (unsigned i = 1; i < 5; i++)
        segments[i] = (struct sg_segment){
            900000 + (i - 1) * 45000, 45000, 900000 + (i - 1) * 45000, 400000, 400000, 12, 0};
    h.tracks[0].segments = segments;
    h.tracks[0].n_segments = 5;
    h.tracks[0].duration = 1080000;
    expect_part(&h.index, "bandwidth=\"1733334\"");
    expect_part(&h.index, "minBufferTime=\"PT5.884613S\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picture_and_sound),
        cmocka_unit_test(sound_alone),
        cmocka_unit_test(picture_alone),
        cmocka_unit_test(several_languages),
        cmocka_unit_test(titles_are_escaped),
        cmocka_unit_test(languages_are_escaped),
        cmocka_unit_test(pictures),
        cmocka_unit_test(channels),
        cmocka_unit_test(too_early),
        cmocka_unit_test(hidden_frames),
        cmocka_unit_test(wait_at_the_beginning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
