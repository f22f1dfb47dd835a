/* Subtitles: what the parsers make of files from the wild, what the strict reader takes, and how a
 * text is cut and named for players. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/media/subtitle_playlist.h"

#include "index_support.h"
#include "support/unit.h"
#include "text_cues.h"
#include "text_list.h"

static enum sg_error convert(const void *bytes, size_t len, char **out,
                             char why[SG_MEDIA_MESSAGE_MAX])
{
    void *text = NULL;
    size_t text_len = 0;
    const struct text_source source = {.bytes = bytes, .len = len, .max_ms = 7200000};
    why[0] = 0;
    enum sg_error err = text_convert(&source, &text, &text_len, why);
    if (!err) {
        uint32_t cues = 0;
        assert_int_equal(sg_webvtt_check(text, text_len, &cues), SG_OK);
        assert_int_equal(strlen(text), text_len);
    }
    *out = text;
    return err;
}

struct row {
    const char *given, *made; /* made: without "WEBVTT\n" */
};

static void check_rows(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char why[SG_MEDIA_MESSAGE_MAX], *out = NULL;
        enum sg_error err = convert(rows[i].given, strlen(rows[i].given), &out, why);
        if (err)
            fail_msg("row %zu: %s", i, why);
        assert_memory_equal(out, "WEBVTT\n", 7);
        assert_string_equal(out + 7, rows[i].made);
        free(out);
    }
}

static void srt_is_read(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"1\n00:00:01,000 --> 00:00:02,500\nHello\nyou\n",
         "\n00:00:01.000 --> 00:00:02.500\nHello\nyou\n"},
        /* Counters that lie or are missing, carriage returns, empty lines in a text, no end. */
        {"7\r\n0:00:01,5 --> 0:00:02,25\r\na\r\n\r\nb\r\n\r\n7\r\n00:00:03.000 --> "
         "00:00:04.000\r\nc",
         "\n00:00:01.500 --> 00:00:02.250\na\nb\n\n00:00:03.000 --> 00:00:04.000\nc\n"},
        {"00:00:01,000 --> 00:00:02,000 X1:0 X2:9\nx\n00:00:03,000 --> 00:00:04,000\n12\n",
         "\n00:00:01.000 --> 00:00:02.000\nx\n\n00:00:03.000 --> 00:00:04.000\n12\n"},
        /* Markup: known tags nest, others go, what is none stays. */
        {"00:00:01,000 --> 00:00:02,000\n<I>a <b>b</I> c</b> <font color=\"#fff\">d</font> 1 < 2 & "
         "3 "
         "> 2 {\\an8}{y}&lt;&copy;\n",
         "\n00:00:01.000 --> 00:00:02.000\n<i>a <b>b</b></i><b> c</b> d 1 &lt; 2 &amp; 3 &gt; 2 "
         "{y}&lt;&amp;copy;\n"},
        {"00:00:01,000 --> 00:00:02,000\n<c.y-->z <v b-->x\n",
         "\n00:00:01.000 --> 00:00:02.000\n<c.y>z <v b>x</v></c>\n"},
        {"00:00:01,000 --> 00:00:02,000\n</b><b>open --> end\n",
         "\n00:00:01.000 --> 00:00:02.000\n<b>open --&gt; end</b>\n"},
        /* Out of order, overlapping, empty, backwards, behind the bound. */
        {"00:00:05,000 --> 00:00:06,000\nlate\n\n00:00:01,000 --> 00:00:09,000\nlong\n\n"
         "00:00:01,000 --> 00:00:02,000\nsame\n\n00:00:03,000 --> 00:00:04,000\n<i></i>\n\n"
         "00:00:04,000 --> 00:00:03,000\nback\n\n01:59:59,000 --> 02:00:01,000\ncut\n\n"
         "02:00:00,000 --> 02:00:01,000\nnever\n",
         "\n00:00:01.000 --> 00:00:09.000\nlong\n\n00:00:01.000 --> 00:00:02.000\nsame\n\n"
         "00:00:05.000 --> 00:00:06.000\nlate\n\n01:59:59.000 --> 02:00:00.000\ncut\n"},
        {"\xef\xbb\xbf"
         "1\n00:00:01,000 --> 00:00:02,000\n\xc3\xa4\xe2\x82\xac\x01\x7f\xc2\x85z\n",
         "\n00:00:01.000 --> 00:00:02.000\n\xc3\xa4\xe2\x82\xacz\n"},
        {"00:00:01,000 --> 00:00:02,000\n  a  \t b  \n \n  c\n",
         "\n00:00:01.000 --> 00:00:02.000\na b\nc\n"},
    };
    check_rows(rows, SG_ARRAY_LEN(rows));
}

static void webvtt_is_read(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"WEBVTT - a title\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:a\n\nNOTE\n"
         "nothing\n\nname\n00:01.000 --> 00:02.000\nx\n",
         "\n00:00:01.000 --> 00:00:02.000\nx\n"},
        {"WEBVTT\n\n00:01.000 --> 00:02.000 line:-1 line:2 align:start size:50% region:a "
         "position:10%,line-left vertical:rl size:101% align:top\nx\n",
         "\n00:00:01.000 --> 00:00:02.000 line:-1 align:start size:50% position:10%,line-left "
         "vertical:rl\nx\n"},
        {"WEBVTT\n\n00:01.000 --> 00:02.000\n<v.loud.x! Fred  &amp;\tCo>Hi</v> <c.a.b->there</c>"
         "<00:01.500> <ruby>a<rt>b</ruby> <lang en-GB>q</lang><v>none <x>y</x> {\\an8} &#39;&#x41;"
         "&nbsp;&lrm;.\n",
         "\n00:00:01.000 --> 00:00:02.000\n<v.loud Fred &amp; Co>Hi</v> <c.a.b>there</c> "
         "<ruby>a<rt>b</rt></ruby> <lang en-GB>q</lang>none y {\\an8} 'A\xc2\xa0\xe2\x80\x8e.\n"},
        /* An arrow must not come out of a tag. */
        {"WEBVTT\n\n00:01.000 --> 00:02.000\n<v a&#45;&#45;>x\n",
         "\n00:00:01.000 --> 00:00:02.000\n<v a>x</v>\n"},
        {"WEBVTT\n\n00:01.000 --> 00:02.000\none\n00:03.000 --> 00:04.000\ntwo\n\n00:05,000 -> "
         "x\n\n"
         "00:61.000 --> 01:02.000\nbad\n\n100:00.000 --> 100:01.000\nlater\n",
         "\n00:00:01.000 --> 00:00:02.000\none\n\n00:00:03.000 --> 00:00:04.000\ntwo\n"},
    };
    check_rows(rows, SG_ARRAY_LEN(rows));
}

static void ass_is_read(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"[Script Info]\nTitle: x\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, "
         "MarginR, MarginV, Effect, Text\nComment: 0,0:00:00.00,0:00:01.00,,,0,0,0,,no\n"
         "Dialogue: 0,0:00:01.00,0:00:02.50,D,,0,0,0,,{\\b1}b{\\b0}{\\bord2\\pos(1,2)} {\\i1}a\\Nb{"
         "\\r}{\\p1}m 0 0 l 1 1{\\p0}\\hend, more {comment} < >\n",
         "\n00:00:01.000 --> 00:00:02.500\n<b>b</b> <i>a\nb</i>\xc2\xa0"
         "end, more &lt; &gt;\n"},
        {"[events]\nformat: End, Start, Text\ndialogue: 0:00:02.00,0:00:01.00,x\\ny\\Nz\n",
         "\n00:00:01.000 --> 00:00:02.000\nx y\nz\n"},
    };
    check_rows(rows, SG_ARRAY_LEN(rows));
}

static void utf16_is_read(void **state)
{
    (void)state;
    static const char text[] = "00:00:01,000 --> 00:00:02,000\n";
    for (int big = 0; big < 2; big++) {
        uint8_t bytes[2 * sizeof(text) + 16];
        size_t n = 0;
        bytes[n++] = big ? 0xfe : 0xff;
        bytes[n++] = big ? 0xff : 0xfe;
        for (size_t i = 0; i + 1 < sizeof(text); i++) {
            bytes[n + (size_t)big] = (uint8_t)text[i];
            bytes[n + !big] = 0;
            n += 2;
        }
        static const uint8_t smile[2][4] = {{0x3d, 0xd8, 0x00, 0xde}, {0xd8, 0x3d, 0xde, 0x00}};
        memcpy(bytes + n, smile[big], 4);
        char why[SG_MEDIA_MESSAGE_MAX], *out = NULL;
        assert_int_equal(convert(bytes, n + 4, &out, why), SG_OK);
        assert_string_equal(out, "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n\xf0\x9f\x98\x80\n");
        free(out);
        /* Half of a pair, half of a unit. */
        assert_int_equal(convert(bytes, n + 2, &out, why), SG_ERR_UNPROCESSABLE);
        assert_int_equal(convert(bytes, n + 3, &out, why), SG_ERR_UNPROCESSABLE);
    }
}

static void what_cannot_be_taken_is_named(void **state)
{
    (void)state;
#define BYTES(s) s, sizeof(s) - 1
    static const struct {
        const char *bytes;
        size_t len;
        enum sg_error err;
        const char *why;
    } rows[] = {
        {BYTES(""), SG_ERR_UNSUPPORTED_MEDIA, "neither"},
        {BYTES("just words\n"), SG_ERR_UNSUPPORTED_MEDIA, "neither"},
        {BYTES("\x7f"
               "ELF\0\0"),
         SG_ERR_UNSUPPORTED_MEDIA, "not text"},
        {BYTES("1\n00:00:01,000 --> 00:00:02,000\n\xe4\n"), SG_ERR_UNPROCESSABLE, "UTF-8"},
        {BYTES("WEBVTT\n\nNOTE nothing\n"), SG_ERR_UNPROCESSABLE, "no cue"},
        {BYTES("[Script Info]\n"), SG_ERR_UNPROCESSABLE, "no cue"},
        {BYTES("\xff\xfe\0\0x\0\0\0"), SG_ERR_UNSUPPORTED_MEDIA, "not text"},
        {BYTES("WEBVTTX\n\nx\n"), SG_ERR_UNSUPPORTED_MEDIA, "neither"},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        char why[SG_MEDIA_MESSAGE_MAX], *out = NULL;
        assert_int_equal(convert(rows[i].bytes, rows[i].len, &out, why), rows[i].err);
        if (!strstr(why, rows[i].why))
            fail_msg("row %zu: %s", i, why);
    }
}

static void bounds_hold(void **state)
{
    (void)state;
    static const char time[] = "00:00:01,000 --> 00:00:02,000\n";
    char why[SG_MEDIA_MESSAGE_MAX], *out = NULL;
    struct sg_text t = {0};
    sg_text_puts(&t, time);
    for (int i = 0; i < SG_WEBVTT_CUE_MAX; i++)
        sg_text_puts(&t, "x");
    assert_int_equal(convert(t.ptr, t.len, &out, why), SG_OK);
    free(out);
    sg_text_puts(&t, "x");
    assert_int_equal(convert(t.ptr, t.len, &out, why), SG_ERR_TOO_LARGE);
    t.len = 0;
    /* Tags that are closed and opened again and again: what is written stays bounded. */
    sg_text_puts(&t, time);
    for (int i = 0; i < 100000; i++)
        sg_text_puts(&t, "<i><b><u>x</i>");
    assert_int_equal(convert(t.ptr, t.len, &out, why), SG_ERR_TOO_LARGE);
    t.len = 0;
    for (int i = 0; i < SG_WEBVTT_CUES_MAX + 1; i++) {
        sg_text_puts(&t, time);
        sg_text_puts(&t, "x\n");
    }
    assert_int_equal(convert(t.ptr, t.len, &out, why), SG_ERR_TOO_LARGE);
    assert_non_null(strstr(why, "100000"));
    sg_text_free(&t);
}

static void the_reader_is_strict(void **state)
{
    (void)state;
#define T "00:00:01.000 --> 00:00:02.000"
    static const char *const good[] = {
        "WEBVTT\n\n" T "\nx\n",
        "WEBVTT\n\n" T " line:0 align:start\n<v.a Fred &amp; x>y</v>\n<b><i>z</i></b>\n\n" T
        "\n&lt;\n",
        "WEBVTT\n\n123:00:01.000 --> 9999:59:59.999\n<ruby>a<rt>b</rt></ruby>\n",
    };
    static const char *const bad[] = {
        "",
        "WEBVTT\n",
        "WEBVTT",
        "WEBVTT \n\n" T "\nx\n",
        "WEBVTT\n" T "\nx\n",
        "WEBVTT\n\n\n" T "\nx\n",
        "WEBVTT\n\n" T "\nx",
        "WEBVTT\n\n" T "\n",
        "WEBVTT\n\n" T "\n \n",
        "WEBVTT\n\n" T "\nx\n\n",
        "WEBVTT\n\n" T "\nx\n\nNOTE y\n",
        "WEBVTT\n\n" T "\nx\r\n",
        "WEBVTT\n\n" T "\nx\ty\n",
        "WEBVTT\n\n" T "\n\xff\n",
        "WEBVTT\n\n" T "\nx & y\n",
        "WEBVTT\n\n" T "\nx > y\n",
        "WEBVTT\n\n" T "\nx < y\n",
        "WEBVTT\n\n" T "\n&nbsp;\n",
        "WEBVTT\n\n" T "\n<b>x\n",
        "WEBVTT\n\n" T "\nx</b>\n",
        "WEBVTT\n\n" T "\n<b><i>x</b></i>\n",
        "WEBVTT\n\n" T "\n<script>x</script>\n",
        "WEBVTT\n\n" T "\n<b a>x</b>\n",
        "WEBVTT\n\n" T "\n<v>x</v>\n",
        "WEBVTT\n\n" T "\n<v a-->x</v>\n",
        "WEBVTT\n\n" T "\n<c.a-->x</c>\n",
        "WEBVTT\n\n" T "\n<v a\nb>x</v>\n",
        "WEBVTT\n\n" T "\n<00:00:01.500>x\n",
        "WEBVTT\n\n" T " \nx\n",
        "WEBVTT\n\n" T " line:0 line:1\nx\n",
        "WEBVTT\n\n" T " region:a\nx\n",
        "WEBVTT\n\n" T "  line:0\nx\n",
        "WEBVTT\n\n0:00:01.000 --> 00:00:02.000\nx\n",
        "WEBVTT\n\n001:00:01.000 --> 01:00:02.000\nx\n",
        "WEBVTT\n\n00:00:01.000 -> 00:00:02.000\nx\n",
        "WEBVTT\n\n00:00:01,000 --> 00:00:02.000\nx\n",
        "WEBVTT\n\n00:60:01.000 --> 01:60:02.000\nx\n",
        "WEBVTT\n\n00:00:02.000 --> 00:00:02.000\nx\n",
        "WEBVTT\n\n00:00:02.000 --> 00:00:03.000\nx\n\n00:00:01.000 --> 00:00:02.000\nx\n",
        "WEBVTT\n\n10000:00:01.000 --> 10000:00:02.000\nx\n",
    };
    uint32_t cues = 0;
    for (size_t i = 0; i < SG_ARRAY_LEN(good); i++)
        assert_int_equal(sg_webvtt_check(good[i], strlen(good[i]), &cues), SG_OK);
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++)
        if (sg_webvtt_check(bad[i], strlen(bad[i]), &cues) != SG_ERR_MEDIA_WORKER)
            fail_msg("taken: %s", bad[i]);
    /* Whatever it is cut off at, it is refused but for whole cues, and never read past. */
    for (size_t n = 0; n < strlen(good[1]); n++) {
        char *copy = malloc(n + 1);
        assert_non_null(copy);
        memcpy(copy, good[1], n);
        enum sg_error err = sg_webvtt_check(copy, n, &cues);
        assert_true(err == SG_ERR_MEDIA_WORKER || (good[1][n - 1] == '\n' && cues == 1));
        free(copy);
    }
}

/* ---- for players ---- */

static void assert_buf(struct sg_buf *buf, const char *text)
{
    if (buf->len != strlen(text) || memcmp(buf->data, text, buf->len) != 0)
        fail_msg("%.*s", (int)buf->len, (const char *)buf->data);
    sg_buf_unref(buf);
}

static void segments_are_cut(void **state)
{
    (void)state;
    static const char text[] = "WEBVTT\n\n00:00:00.000 --> 00:00:00.040\nfirst\n\n"
                               "00:00:59.000 --> 00:01:01.000\nacross\n\n"
                               "00:01:00.000 --> 00:01:00.080\nat\n\n"
                               "00:01:00.080 --> 00:02:00.080\nwhole\n\n"
                               "00:03:00.000 --> 00:03:01.000\nbehind\n";
#define HEAD "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000\n"
    static const char *const made[] = {
        HEAD "\n00:00:00.000 --> 00:00:00.040\nfirst\n\n00:00:59.000 --> 00:01:01.000\nacross\n\n"
             "00:01:00.000 --> 00:01:00.080\nat\n",
        HEAD "\n00:00:59.000 --> 00:01:01.000\nacross\n\n00:01:00.080 --> 00:02:00.080\nwhole\n",
        HEAD "\n00:03:00.000 --> 00:03:01.000\nbehind\n",
    };
    /* The picture begins at 0.08: so do a player's time and the segments. */
    const struct sg_subtitle_cut cut = {.start_us = 80000, .end_us = 130580000};
    assert_int_equal(sg_subtitle_segments(&cut), 3);
    struct sg_buf *buf = NULL;
    for (uint32_t n = 0; n < 3; n++) {
        assert_int_equal(sg_subtitle_segment(&cut, n, text, strlen(text), &buf), SG_OK);
        assert_buf(buf, made[n]);
    }
    assert_int_equal(sg_subtitle_playlist(&cut, &buf), SG_OK);
    assert_buf(buf, "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:60\n"
                    "#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:60.000000,\n"
                    "seg-0.vtt\n#EXTINF:60.000000,\nseg-1.vtt\n#EXTINF:10.500000,\nseg-2.vtt\n"
                    "#EXT-X-ENDLIST\n");
    const struct sg_subtitle_cut brief = {.start_us = 0, .end_us = 4200000};
    assert_int_equal(sg_subtitle_playlist(&brief, &buf), SG_OK);
    assert_buf(buf, "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:5\n"
                    "#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:4.200000,\n"
                    "seg-0.vtt\n#EXT-X-ENDLIST\n");
    assert_int_equal(sg_subtitle_segment(&cut, 0, "WEBVTT\n\nx\n", 10, &buf), SG_ERR_MEDIA_WORKER);
}

static void tracks_are_named(void **state)
{
    (void)state;
    struct sg_text_offer texts[] = {
        {.language = "de", .label = "Deutsch \"neu\" & <alt>", .is_default = true, .bytes = 1000},
        {.language = "en", .label = "Same", .captions = true},
        {.language = "en-x-forced", .label = "Same", .forced = true},
        {.language = "und"},
    };
    const struct sg_presentation p = {
        .n_texts = SG_ARRAY_LEN(texts), .texts = texts, .duration_ms = 10000};
    struct sg_text hls = {0}, dash = {0};
    sg_subtitle_put_hls(&hls, &p);
    assert_string_equal(
        hls.ptr,
        "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"subs\",NAME=\"Deutsch 'neu' & <alt>\","
        "LANGUAGE=\"de\",DEFAULT=YES,AUTOSELECT=YES,FORCED=NO,URI=\"subs/de/index.m3u8\"\n"
        "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"subs\",NAME=\"en\",LANGUAGE=\"en\",DEFAULT=NO,"
        "AUTOSELECT=YES,FORCED=NO,CHARACTERISTICS=\"public.accessibility.transcribes-spoken-dialog,"
        "public.accessibility.describes-music-and-sound\",URI=\"subs/en/index.m3u8\"\n"
        "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"subs\",NAME=\"en-x-forced\","
        "LANGUAGE=\"en-x-forced\",DEFAULT=NO,AUTOSELECT=YES,FORCED=YES,"
        "URI=\"subs/en-x-forced/index.m3u8\"\n"
        "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"subs\",NAME=\"und\",DEFAULT=NO,AUTOSELECT=YES,"
        "FORCED=NO,URI=\"subs/und/index.m3u8\"\n");
    sg_subtitle_put_dash(&dash, &p, 2);
    static const char first[] =
        "    <AdaptationSet id=\"2\" contentType=\"text\" mimeType=\"text/vtt\" lang=\"de\">\n"
        "      <Label>Deutsch &quot;neu&quot; &amp; &lt;alt&gt;</Label>\n"
        "      <Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"main\"/>\n"
        "      <Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"subtitle\"/>\n"
        "      <Representation id=\"subs-de\" bandwidth=\"800\">\n"
        "        <BaseURL>subs/de.vtt</BaseURL>\n      </Representation>\n    </AdaptationSet>\n";
    assert_memory_equal(dash.ptr, first, sizeof(first) - 1);
    assert_non_null(strstr(dash.ptr, "value=\"caption\""));
    assert_non_null(strstr(dash.ptr, "value=\"forced-subtitle\""));
    assert_non_null(strstr(dash.ptr, "<AdaptationSet id=\"5\" contentType=\"text\" "
                                     "mimeType=\"text/vtt\">"));
    sg_text_free(&hls);
    sg_text_free(&dash);
}

static void the_list_is_decoded_strictly(void **state)
{
    (void)state;
    const struct sg_subtitle_tracks list = {
        .n = 2,
        .items = {{.stream = 3, .language = "en", .title = "Full", .captions = true},
                  {.stream = 4, .language = "und", .forced = true}},
    };
    struct sg_subtitle_tracks got;
    uint8_t bytes[TEXT_LIST_MAX + 1];
    size_t len = 0;
    assert_int_equal(text_list_encode(&list, bytes, &len), SG_OK);
    assert_int_equal(text_list_decode(bytes, len, &got), SG_OK);
    assert_int_equal(got.n, 2);
    assert_string_equal(got.items[0].title, "Full");
    assert_true(got.items[0].captions && !got.items[0].forced && got.items[1].forced);
    for (size_t n = 0; n < len; n++)
        assert_int_equal(text_list_decode(bytes, n, &got), SG_ERR_MEDIA_WORKER);
    bytes[len] = 0;
    assert_int_equal(text_list_decode(bytes, len + 1, &got), SG_ERR_MEDIA_WORKER);
    bytes[9] = 'E'; /* the language is not spelled the one way */
    assert_int_equal(text_list_decode(bytes, len, &got), SG_ERR_MEDIA_WORKER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(srt_is_read),
        cmocka_unit_test(webvtt_is_read),
        cmocka_unit_test(ass_is_read),
        cmocka_unit_test(utf16_is_read),
        cmocka_unit_test(what_cannot_be_taken_is_named),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(the_reader_is_strict),
        cmocka_unit_test(segments_are_cut),
        cmocka_unit_test(tracks_are_named),
        cmocka_unit_test(the_list_is_decoded_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
