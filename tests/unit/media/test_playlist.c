/* Playlists of indexes made by hand, to the letter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/media/playlist.h"

#include "fmp4.h"
#include "index_support.h"
#include "support/unit.h"

static void expect(enum sg_error err, struct sg_buf *buf, const char *want)
{
    assert_int_equal(err, SG_OK);
    char *text = strndup((const char *)buf->data, buf->len);
    assert_non_null(text);
    assert_string_equal(text, want);
    free(text);
    sg_buf_unref(buf);
}

static void master_fmp4(void **state)
{
    (void)state;
    struct hand_index h;
    struct sg_buf *buf = NULL;
    hand_index_fill(&h, true);
    /* video: peak 1.2 MB in 6 s = 1600000, average 2 MB in 14.5 s; audio: the tail, 72000 bytes
     * in 4.472 s = 128802 */
    enum sg_error err = hand_master(&h.index, false, &buf);
    expect(err, buf,
           "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n"
           "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"audio\",LANGUAGE=\"en\",DEFAULT=YES,"
           "AUTOSELECT=YES,"
           "CHANNELS=\"2\",URI=\"audio/index.m3u8\"\n"
           "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Die "
           "'Fassung'\",LANGUAGE=\"de\",DEFAULT=NO,"
           "AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio-2/index.m3u8\"\n"
           "#EXT-X-STREAM-INF:BANDWIDTH=1728803,AVERAGE-BANDWIDTH=1231306,CODECS=\"avc1.64001f,"
           "mp4a.40.2\","
           "RESOLUTION=1280x720,FRAME-RATE=23.976,AUDIO=\"audio\"\noriginal/index.m3u8\n");
}

static void master_ts(void **state)
{
    (void)state;
    struct hand_index h;
    struct sg_buf *buf = NULL;
    hand_index_fill(&h, false);
    enum sg_error err = hand_master(&h.index, true, &buf);
    expect(err, buf,
           "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n"
           "#EXT-X-STREAM-INF:BANDWIDTH=1706667,AVERAGE-BANDWIDTH=930527,CODECS=\"avc1.64001f,mp4a."
           "40.2\","
           "RESOLUTION=1280x720,FRAME-RATE=23.976\noriginal/index-ts.m3u8\n");
    h.index.ts = false;
    assert_int_equal(hand_master(&h.index, true, &buf), SG_ERR_UNSUPPORTED_MEDIA);
    assert_int_equal(sg_playlist_media(&h.index, &h.tracks[0], true, &buf),
                     SG_ERR_UNSUPPORTED_MEDIA);
}

static void media_fmp4(void **state)
{
    (void)state;
    struct hand_index h;
    struct sg_buf *buf = NULL;
    hand_index_fill(&h, false);
    enum sg_error err = sg_playlist_media(&h.index, &h.tracks[0], false, &buf);
    expect(
        err, buf,
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-"
        "PLAYLIST-TYPE:VOD\n"
        "#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:6.000000,\nseg-0.m4s\n"
        "#EXTINF:6.000000,\nseg-1.m4s\n#EXTINF:2.500000,\nseg-2.m4s\n#EXT-X-ENDLIST\n");
}

/* Audio that outlasts the video adds a tail to the muxed form; the segment before it lasts until
 * the tail begins. */
static void media_ts_with_tail(void **state)
{
    (void)state;
    struct hand_index h;
    struct sg_buf *buf = NULL;
    hand_index_fill(&h, false);
    enum sg_error err = sg_playlist_media(&h.index, &h.tracks[0], true, &buf);
    expect(err, buf,
           "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-"
           "PLAYLIST-TYPE:VOD\n"
           "#EXT-X-INDEPENDENT-SEGMENTS\n#EXTINF:6.000000,\nseg-0.ts\n#EXTINF:6.000000,\nseg-1.ts\n"
           "#EXTINF:2.528000,\nseg-2.ts\n#EXTINF:4.472000,\nseg-3.ts\n#EXT-X-ENDLIST\n");
    assert_int_equal(sg_playlist_media(&h.index, &h.tracks[1], true, &buf),
                     SG_ERR_UNSUPPORTED_MEDIA);
}

/* An open group of pictures at a cut: nothing promises that segments are independent, but those of
 * the sound are. */
static void open_groups(void **state)
{
    (void)state;
    static const char tag[] = "#EXT-X-INDEPENDENT-SEGMENTS";
    struct hand_index h;
    hand_index_fill(&h, false);
    h.index.independent = false;
    for (unsigned i = 0; i < 6; i++) {
        static const bool tagged[] = {false, false, false, false, true};
        struct sg_buf *buf = NULL;
        enum sg_error err = i < 2 ? hand_master(&h.index, i, &buf)
                                  : sg_playlist_media(&h.index, &h.tracks[i / 4], i % 2, &buf);
        if (i == 5) {
            assert_int_equal(err, SG_ERR_UNSUPPORTED_MEDIA);
            continue;
        }
        assert_int_equal(err, SG_OK);
        assert_int_equal(memmem(buf->data, buf->len, tag, strlen(tag)) != NULL, tagged[i]);
        sg_buf_unref(buf);
    }
}

static void audio_only(void **state)
{
    (void)state;
    struct hand_index h;
    struct sg_buf *buf = NULL;
    hand_index_fill(&h, false);
    h.index.tracks = &h.tracks[1];
    h.index.n_tracks = 1;
    assert_ptr_equal(sg_media_index_main(&h.index), &h.tracks[1]);
    enum sg_error err = hand_master(&h.index, false, &buf);
    expect(err, buf,
           "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n"
           "#EXT-X-STREAM-INF:BANDWIDTH=128802,AVERAGE-BANDWIDTH=127857,CODECS=\"mp4a.40."
           "2\"\naudio/index.m3u8\n");
}

/* A thousand segments of 6.006 s at 24000/1001: the sum of what is printed is the duration, to the
 * microsecond. */
static void sums_do_not_drift(void **state)
{
    (void)state;
    enum { N = 1000, STEP = 144144 };
    struct hand_index h;
    hand_index_fill(&h, false);
    struct sg_segment *segments = calloc(N, sizeof(*segments));
    assert_non_null(segments);
    for (unsigned i = 0; i < N; i++)
        segments[i] =
            (struct sg_segment){(int64_t)i * STEP + 7, STEP, (int64_t)i * STEP, 1000, 1000, 144, 0};
    struct sg_track t = h.tracks[0];
    t.timescale = 23999; /* no instant falls on a microsecond */
    t.segments = segments;
    t.n_segments = N;
    struct sg_buf *buf = NULL;
    assert_int_equal(sg_playlist_media(&h.index, &t, false, &buf), SG_OK);
    char *text = strndup((const char *)buf->data, buf->len);
    assert_non_null(text);
    uint64_t sum_us = 0;
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, "#EXTINF:")); n++) {
        unsigned s, us;
        at += 8;
        assert_int_equal(sscanf(at, "%u.%6u,", &s, &us), 2);
        sum_us += (uint64_t)s * 1000000 + us;
    }
    assert_int_equal(n, N);
    uint64_t exact = (uint64_t)N * STEP * 1000000 / 23999;
    assert_in_range(sum_us, exact - 1, exact + 1);
    free(text);
    sg_buf_unref(buf);
    free(segments);
}

/* An entry for each segment that begins with a key frame: 36124 and 60124 bytes with their headers.
 */
static void key_frames_alone(void **state)
{
    (void)state;
    static const char head[] =
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:9\n#EXT-X-MEDIA-SEQUENCE:0\n"
        "#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-I-FRAMES-ONLY\n";
    struct hand_index h;
    struct sg_buf *buf = NULL;
    char want[1024];
    hand_index_fill(&h, false);
    assert_int_equal(sg_playlist_iframes(&h.index, &h.tracks[0], false, &buf),
                     SG_ERR_UNSUPPORTED_MEDIA);
    h.video[0].key_bytes = 36000;
    h.video[1].key_bytes = 60000;
    h.index.iframes = true; /* as decoding sets it */
    snprintf(want, sizeof(want),
             "%s#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:6.000000,\niframe-0.m4s\n#EXTINF:8.500000,\n"
             "iframe-1.m4s\n#EXT-X-ENDLIST\n",
             head);
    enum sg_error err = sg_playlist_iframes(&h.index, &h.tracks[0], false, &buf);
    expect(err, buf, want);
    snprintf(want, sizeof(want),
             "%s#EXT-X-MAP:URI=\"original/init.mp4\"\n#EXTINF:6.000000,\noriginal/iframe-0.m4s\n"
             "#EXTINF:8.500000,\noriginal/iframe-1.m4s\n#EXT-X-ENDLIST\n",
             head);
    err = sg_playlist_iframes(&h.index, &h.tracks[0], true, &buf);
    expect(err, buf, want);
    assert_int_equal(sg_playlist_iframes(&h.index, &h.tracks[1], false, &buf),
                     SG_ERR_UNSUPPORTED_MEDIA);

    assert_int_equal(hand_master(&h.index, true, &buf), SG_OK);
    assert_null(memmem(buf->data, buf->len, "I-FRAME", 7));
    sg_buf_unref(buf);
    assert_int_equal(hand_master(&h.index, false, &buf), SG_OK);
    char *text = strndup((const char *)buf->data, buf->len);
    assert_non_null(text);
    const char *line = strstr(text, "#EXT-X-I-FRAME-STREAM-INF:");
    assert_non_null(line);
    uint64_t overhead = fmp4_overhead(true, 1);
    uint64_t peak = ((60000 + overhead) * 80 + 84) / 85, first = ((36000 + overhead) * 8 + 5) / 6;
    uint64_t average = (96000 + 2 * overhead) * 80 / 145 + 1;
    snprintf(want, sizeof(want),
             "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=%llu,AVERAGE-BANDWIDTH=%llu,"
             "CODECS=\"avc1.64001f\",RESOLUTION=1280x720,URI=\"original/iframes.m3u8\"\n",
             (unsigned long long)(peak > first ? peak : first), (unsigned long long)average);
    assert_string_equal(line, want);
    free(text);
    sg_buf_unref(buf);
}

static void offer(const struct hand_index *h, enum sg_file_role role, bool live, bool ts,
                  struct sg_buf **out)
{
    const struct sg_playlist_growth growth = {.segment_ms = 6000, .keyframe_ms = 2000};
    struct sg_media_file file = {
        .id = "01ARZ3NDEKTSV4RRFFQ69G5FAV", .role = role, .index = hand_index_round(&h->index)};
    struct sg_presentation_params params = {.files = &file, .n_files = 1, .live = live};
    struct sg_presentation *p = NULL;
    struct sg_offer o;
    assert_non_null(file.index);
    assert_int_equal(sg_presentation_create(&params, &p), SG_OK);
    assert_true(sg_presentation_find(p, "original", ts, &o));
    assert_int_equal(sg_playlist_offer(p, &o, ts, &growth, out), SG_OK);
    sg_presentation_unref(p);
}

/* All playlists of an asset have one target duration: here the second sound's, of 19 s. */
static void one_target(void **state)
{
    (void)state;
    struct hand_index h;
    struct sg_buf *buf = NULL;
    hand_index_fill(&h, true);
    offer(&h, SG_FILE_BASE, false, false, &buf);
    expect(SG_OK, buf,
           "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:19\n#EXT-X-MEDIA-SEQUENCE:0\n"
           "#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init.mp4\"\n"
           "#EXTINF:6.000000,\nseg-0.m4s\n#EXTINF:6.000000,\nseg-1.m4s\n#EXTINF:2.500000,\n"
           "seg-2.m4s\n#EXT-X-ENDLIST\n");
    offer(&h, SG_FILE_BASE, false, true, &buf);
    assert_non_null(memmem(buf->data, buf->len, "TARGETDURATION:6\n", 17));
    sg_buf_unref(buf);
}

/* Of what may be watched while it is made a playlist is only ever appended to, its end too. */
static void growing(void **state)
{
    (void)state;
    struct hand_index h;
    struct sg_buf *two = NULL, *three = NULL, *whole = NULL, *ts = NULL;
    hand_index_fill(&h, false);
    h.index.n_tracks = 1;
    h.index.ts = false;
    offer(&h, SG_FILE_RUNG, false, false, &whole);
    offer(&h, SG_FILE_RUNG, true, false, &three);
    h.tracks[0].n_segments = 2;
    h.tracks[0].duration = 1080000;
    h.tracks[0].samples = 300;
    h.tracks[0].bytes = 1800000;
    offer(&h, SG_FILE_RUNG, true, false, &two);
    assert_true(two->len < three->len && three->len < whole->len);
    assert_memory_equal(two->data, three->data, two->len);
    assert_memory_equal(three->data, whole->data, three->len);
    expect(
        SG_OK, whole,
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:8\n#EXT-X-MEDIA-SEQUENCE:0\n"
        "#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-START:TIME-OFFSET=0.001\n"
        "#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:6.000000,\nseg-0.m4s\n#EXTINF:6.000000,\n"
        "seg-1.m4s\n#EXTINF:2.500000,\nseg-2.m4s\n#EXT-X-ENDLIST\n");
    sg_buf_unref(two);
    sg_buf_unref(three);
    hand_index_fill(&h, false);
    offer(&h, SG_FILE_RUNG, false, true, &ts);
    assert_non_null(memmem(ts->data, ts->len, "PLAYLIST-TYPE:VOD\n", 18));
    sg_buf_unref(ts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(master_fmp4),       cmocka_unit_test(master_ts),
        cmocka_unit_test(media_fmp4),        cmocka_unit_test(media_ts_with_tail),
        cmocka_unit_test(open_groups),       cmocka_unit_test(audio_only),
        cmocka_unit_test(sums_do_not_drift), cmocka_unit_test(key_frames_alone),
        cmocka_unit_test(one_target),        cmocka_unit_test(growing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
