/* What of several files is offered, in which order; and the playlists and the manifest of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/media/dash.h"
#include "streamgate/media/playlist.h"

#include "index_support.h"
#include "support/unit.h"

static bool refuses;

static void *perhaps_calloc(size_t n, size_t size)
{
    return refuses ? NULL : calloc(n, size);
}

#define calloc perhaps_calloc
#include "presentation.c"
#undef calloc

#define ID_A "01AAAAAAAAAAAAAAAAAAAAAAAA"
#define ID_B "01BBBBBBBBBBBBBBBBBBBBBBBB"
#define ID_C "01CCCCCCCCCCCCCCCCCCCCCCCC"

/* ---- files ---- */

static struct sg_media_index *index_of(const struct hand_index *h)
{
    struct sg_media_index *index = hand_index_round(&h->index);
    assert_non_null(index);
    return index;
}

/* A picture of this size with sound of its own. */
static struct sg_media_index *rung(const char *name, const char *sound, uint32_t width,
                                   uint32_t height)
{
    struct hand_index h;
    hand_index_fill(&h, false);
    struct sg_track *t = &h.tracks[0];
    t->width = t->display_width = width;
    t->height = t->display_height = height;
    memset(t->name, 0, sizeof t->name);
    memcpy(t->name, name, strlen(name));
    memset(h.tracks[1].name, 0, sizeof h.tracks[1].name);
    memcpy(h.tracks[1].name, sound, strlen(sound));
    for (unsigned i = 0; i < 3; i++) { /* a third of the bits */
        h.video[i].bytes_fmp4 /= 3;
        h.video[i].bytes_ts /= 3;
    }
    t->bytes = 0;
    for (unsigned i = 0; i < 3; i++)
        t->bytes += h.video[i].bytes_fmp4 - 100;
    return index_of(&h);
}

static struct sg_media_index *sound(const char *name)
{
    struct hand_index h;
    hand_index_fill(&h, false);
    struct sg_track t = h.tracks[1];
    memset(t.name, 0, sizeof t.name);
    memcpy(t.name, name, strlen(name));
    h.index.tracks = &t;
    h.index.n_tracks = 1;
    for (unsigned i = 0; i < 4; i++)
        h.audio[i].bytes_ts = h.audio[i].bytes_fmp4 + 5000;
    return index_of(&h);
}

static struct sg_media_file file(const char *id, enum sg_file_role role, struct sg_media_index *ix)
{
    struct sg_media_file f = {.role = role, .index = ix};
    memcpy(f.id, id, strlen(id) + 1);
    return f;
}

static struct sg_presentation *show(struct sg_media_file *files, uint32_t n)
{
    struct sg_presentation *p = NULL;
    assert_int_equal(
        sg_presentation_create(&(struct sg_presentation_params){.files = files, .n_files = n}, &p),
        SG_OK);
    return p;
}

static struct sg_presentation *film_with_rungs(void)
{
    struct hand_index h;
    hand_index_fill(&h, true);
    struct sg_media_file files[] = {
        file(ID_A, SG_FILE_BASE, index_of(&h)),
        file(ID_B, SG_FILE_RUNG, rung("180p", "180p-a", 320, 180)),
        file(ID_C, SG_FILE_RUNG, rung("360p", "360p-a", 640, 360)),
    };
    return show(files, 3);
}

/* ---- order and choice ---- */

static void expect_videos(const struct sg_presentation *p, const char *const *names, uint32_t n)
{
    assert_int_equal(p->n_videos, n);
    for (uint32_t i = 0; i < n; i++)
        assert_string_equal(p->videos[i].track->name, names[i]);
}

static void expect_audios(const struct sg_presentation *p, const char *const *names, uint32_t n)
{
    assert_int_equal(p->n_audios, n);
    for (uint32_t i = 0; i < n; i++)
        assert_string_equal(p->audios[i].track->name, names[i]);
}

static void test_order(void **state)
{
    (void)state;
    struct sg_presentation *p = film_with_rungs();
    expect_videos(p, (const char *const[]){"original", "360p", "180p"}, 3);
    expect_audios(p, (const char *const[]){"audio", "audio-2"}, 2); /* not the rungs' */
    assert_int_equal(p->default_audio, 0);
    assert_int_equal(p->duration_ms, 19000);
    assert_true(p->fmp4 && p->ts && !p->live);
    struct sg_offer o;
    assert_true(sg_presentation_find(p, "360p", false, &o));
    assert_string_equal(o.file->id, ID_C);
    assert_true(sg_presentation_find(p, "360p", true, &o));
    assert_true(sg_presentation_find(p, "180p-a", false, &o));
    assert_false(sg_presentation_find(p, "180p-a", true, &o)); /* not the main track */
    assert_false(sg_presentation_find(p, "720p", false, &o));
    struct sg_presentation *same = sg_presentation_ref(p);
    assert_true(sg_presentation_weight(p) > sizeof *p);
    sg_presentation_unref(p);
    assert_int_equal(same->n_files, 3);
    sg_presentation_unref(same);
    sg_presentation_unref(NULL);
}

/* Rungs alone, made of a source that nobody can play, with files of sound or without. */
static void test_sound(void **state)
{
    (void)state;
    struct sg_media_file lone[] = {
        file(ID_A, SG_FILE_RUNG, rung("180p", "180p-a", 320, 180)),
        file(ID_B, SG_FILE_RUNG, rung("360p", "360p-a", 640, 360)),
    };
    struct sg_presentation *p = show(lone, 2);
    expect_videos(p, (const char *const[]){"360p", "180p"}, 2);
    expect_audios(p, (const char *const[]){"180p-a"}, 1); /* of the first that has some */
    sg_presentation_unref(p);

    struct sg_media_file with[] = {
        file(ID_A, SG_FILE_RUNG, rung("180p", "180p-a", 320, 180)),
        file(ID_B, SG_FILE_SOUND, sound("audio")),
        file(ID_C, SG_FILE_SOUND, sound("audio-2")),
    };
    p = show(with, 3);
    expect_audios(p, (const char *const[]){"audio", "audio-2"}, 2);
    assert_int_equal(p->default_audio, 0); /* each is its file's */
    struct sg_offer o;
    assert_true(p->ts);
    assert_true(sg_presentation_find(p, "180p", true, &o));
    sg_presentation_unref(p);

    struct sg_media_file heard[] = {file(ID_A, SG_FILE_SOUND, sound("audio"))};
    p = show(heard, 1);
    assert_int_equal(p->n_videos, 0);
    assert_true(p->ts && p->fmp4);
    sg_presentation_unref(p);
}

static void test_nothing(void **state)
{
    (void)state;
    struct sg_presentation *p = show(NULL, 0);
    struct sg_buf *buf = NULL;
    struct sg_offer o;
    assert_false(p->fmp4 || p->ts);
    assert_int_equal(p->n_videos + p->n_audios, 0);
    assert_false(sg_presentation_find(p, "original", false, &o));
    assert_int_equal(sg_playlist_master(p, false, &buf), SG_ERR_UNSUPPORTED_MEDIA);
    assert_int_equal(sg_dash_manifest(p, &buf), SG_ERR_UNSUPPORTED_MEDIA);
    sg_presentation_unref(p);
}

/* What is made of all files has another tag when one comes, goes or changes places. */
static void test_tags(void **state)
{
    (void)state;
    static const char *const ids[][3] = {{ID_A, ID_B, ID_C}, {ID_A, ID_C, ID_B},
                                         {ID_A, ID_B, NULL}, {ID_A, NULL, NULL},
                                         {ID_B, ID_C, NULL}, {NULL, NULL, NULL}};
    uint64_t tags[SG_ARRAY_LEN(ids)];
    for (size_t i = 0; i < SG_ARRAY_LEN(ids); i++) {
        struct sg_media_file files[3];
        uint32_t n = 0;
        for (; n < 3 && ids[i][n] != NULL; n++)
            files[n] = file(ids[i][n], SG_FILE_RUNG, rung("r", "r-a", 320, 180));
        struct sg_presentation *p = show(files, n);
        tags[i] = p->tag;
        for (size_t k = 0; k < i; k++)
            assert_true(tags[k] != tags[i]);
        sg_presentation_unref(p);
    }
    /* Said in other words than before, it is another: caches may hold the old ones. */
    assert_true(tags[SG_ARRAY_LEN(ids) - 1] != UINT64_C(14695981039346656037));
    struct sg_media_file one = file(ID_A, SG_FILE_RUNG, rung("r", "r-a", 320, 180));
    struct sg_text_offer text = {.language = "en", .tag = 7};
    struct sg_presentation *p = NULL;
    const struct sg_presentation_params params = {
        .files = &one, .n_files = 1, .texts = &text, .n_texts = 1};
    assert_int_equal(sg_presentation_create(&params, &p), SG_OK);
    assert_true(p->tag != tags[3]);
    assert_string_equal(p->texts[0].language, "en");
    sg_presentation_unref(p);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct sg_media_file files[] = {file(ID_A, SG_FILE_RUNG, rung("r", "r-a", 320, 180))};
    struct sg_presentation *p = NULL;
    refuses = true;
    const struct sg_presentation_params params = {.files = files, .n_files = 1};
    assert_int_equal(sg_presentation_create(&params, &p), SG_ERR_NO_MEMORY);
    refuses = false;
    assert_null(p); /* and the index is gone, as the sanitizers see */
}

/* ---- the letter of what is said ---- */

static char *text_of(struct sg_buf *buf)
{
    char *text = calloc(1, buf->len + 1);
    assert_non_null(text);
    memcpy(text, buf->data, buf->len);
    sg_buf_unref(buf);
    return text;
}

/* The n-th line that begins so. */
static const char *line(const char *text, const char *begin, unsigned n)
{
    size_t len = strlen(begin);
    for (const char *p = text; p != NULL && *p != '\0';) {
        if (strncmp(p, begin, len) == 0 && n-- == 0)
            return p;
        p = strchr(p, '\n');
        p += p != NULL;
    }
    return NULL;
}

static unsigned long number(const char *where, const char *name)
{
    const char *end = strchr(where, '\n'), *at = strstr(where, name);
    assert_non_null(at);
    assert_true(at < end);
    return strtoul(at + strlen(name), NULL, 10);
}

static bool has(const char *where, const char *what)
{
    const char *end = strchr(where, '\n'), *at = strstr(where, what);
    return at != NULL && (end == NULL || at < end);
}

static void test_master(void **state)
{
    (void)state;
    struct sg_presentation *p = film_with_rungs();
    struct sg_buf *buf = NULL;
    assert_int_equal(sg_playlist_master(p, false, &buf), SG_OK);
    char *text = text_of(buf);
    static const char *const sizes[] = {"RESOLUTION=1280x720", "RESOLUTION=640x360",
                                        "RESOLUTION=320x180"};
    static const char *const uris[] = {"original/index.m3u8\n", "360p/index.m3u8\n",
                                       "180p/index.m3u8\n"};
    assert_int_equal(strncmp(text, "#EXTM3U\n", 8), 0);
    for (unsigned i = 0; i < 3; i++) {
        const char *at = line(text, "#EXT-X-STREAM-INF:", i);
        assert_non_null(at);
        assert_true(has(at, sizes[i]));
        assert_true(has(at, "CODECS=\"avc1.64001f,mp4a.40.2\""));
        assert_true(has(at, "FRAME-RATE=23.976"));
        assert_true(number(at, "AVERAGE-BANDWIDTH=") < number(at, ":BANDWIDTH="));
        const char *uri = strchr(at, '\n') + 1;
        assert_int_equal(strncmp(uri, uris[i], strlen(uris[i])), 0);
    }
    assert_null(line(text, "#EXT-X-STREAM-INF:", 3));
    /* A rung of a third of the bits says so. */
    unsigned long whole = number(line(text, "#EXT-X-STREAM-INF:", 0), ":BANDWIDTH=");
    unsigned long third = number(line(text, "#EXT-X-STREAM-INF:", 1), ":BANDWIDTH=");
    assert_in_range(third, whole / 4, whole / 2);
    const char *first = line(text, "#EXT-X-MEDIA:TYPE=AUDIO", 0);
    const char *second = line(text, "#EXT-X-MEDIA:TYPE=AUDIO", 1);
    assert_true(has(first, "DEFAULT=YES") && has(first, "audio/index.m3u8"));
    assert_true(has(second, "DEFAULT=NO") && has(second, "LANGUAGE=\"de\""));
    assert_null(line(text, "#EXT-X-MEDIA:TYPE=AUDIO", 2));
    assert_null(strstr(text, "180p-a"));
    free(text);
    assert_int_equal(sg_playlist_master(p, true, &buf), SG_OK);
    text = text_of(buf);
    assert_null(line(text, "#EXT-X-MEDIA:TYPE=AUDIO", 0));
    assert_non_null(line(text, "360p/index-ts.m3u8", 0));
    assert_non_null(line(text, "original/index-ts.m3u8", 0));
    free(text);
    sg_presentation_unref(p);
}

/* ---- sound of several codecs ---- */

struct heard {
    enum sg_codec codec;
    const char *codecs, *language, *title;
    bool is_default;
};

/* A film with up to four sounds: "audio", "audio-2"... */
static struct sg_media_index *film_of(const struct heard *heard, unsigned n)
{
    struct hand_index h;
    struct sg_track tracks[5];
    hand_index_fill(&h, false);
    tracks[0] = h.tracks[0];
    for (unsigned i = 0; i < n; i++) {
        struct sg_track *t = &tracks[1 + i];
        *t = h.tracks[1];
        t->codec = heard[i].codec;
        t->stream = 1 + i;
        t->is_default = heard[i].is_default;
        t->channels = (uint16_t)(heard[i].codec == SG_CODEC_AAC ? 2 : 6);
        snprintf(t->name, sizeof t->name, i > 0 ? "audio-%u" : "audio", i + 1);
        snprintf(t->codecs, sizeof t->codecs, "%s", heard[i].codecs);
        snprintf(t->language, sizeof t->language, "%s", heard[i].language);
        snprintf(t->title, sizeof t->title, "%s", heard[i].title);
    }
    h.index.tracks = tracks;
    h.index.n_tracks = 1 + n;
    return index_of(&h);
}

/* What the master says of sound, in short: "group NAME language default uri | ...", then of the
 * variants "codecs group". */
static void expect_sounds(struct sg_media_file *files, uint32_t n, const char *wanted)
{
    struct sg_presentation *p = show(files, n);
    struct sg_buf *buf = NULL;
    char told[1024] = "";
    assert_int_equal(sg_playlist_master(p, false, &buf), SG_OK);
    char *text = text_of(buf);
    const char *at;
    for (unsigned i = 0; (at = line(text, "#EXT-X-MEDIA:TYPE=AUDIO", i)) != NULL; i++) {
        char group[20], name[20], rest[200];
        assert_int_equal(
            sscanf(at, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"%19[^\"]\",NAME=\"%19[^\"]\",%199s",
                   group, name, rest),
            3);
        size_t len = strlen(told);
        snprintf(told + len, sizeof told - len, "%s %s %s%.*s\n", group, name,
                 has(at, "DEFAULT=YES") ? "* " : "", (int)strcspn(strstr(rest, "URI=") + 5, "/"),
                 strstr(rest, "URI=") + 5);
    }
    for (unsigned i = 0; (at = line(text, "#EXT-X-STREAM-INF:", i)) != NULL; i++) {
        const char *codecs = strstr(at, "CODECS=\"") + 8, *group = strstr(at, "AUDIO=\"") + 7;
        const char *uri = strchr(at, '\n') + 1;
        size_t len = strlen(told);
        snprintf(told + len, sizeof told - len, "%.*s %.*s %.*s\n", (int)strcspn(uri, "/"), uri,
                 (int)strcspn(codecs, "\""), codecs, (int)strcspn(group, "\""), group);
    }
    assert_string_equal(told, wanted);
    free(text);
    sg_presentation_unref(p);
}

#define AAC(language, title, chosen)                                                               \
    {                                                                                              \
        SG_CODEC_AAC, "mp4a.40.2", language, title, chosen                                         \
    }
#define AC3(language, title, chosen)                                                               \
    {                                                                                              \
        SG_CODEC_AC3, "ac-3", language, title, chosen                                              \
    }

/* Players drop a variant when they lack one of its codecs: a group for each, the one that all
 * players have first. */
static void test_codecs_apart(void **state)
{
    (void)state;
    const struct heard both[] = {AAC("und", "", true), AC3("und", "", false)};
    struct sg_media_file one[] = {file(ID_A, SG_FILE_BASE, film_of(both, 2))};
    expect_sounds(one, 1,
                  "audio audio * audio\naudio-ac-3 audio * audio-2\n"
                  "original avc1.64001f,mp4a.40.2 audio\noriginal avc1.64001f,ac-3 audio-ac-3\n");
    /* The source's own choice counts among those alone that all players have. */
    const struct heard turned[] = {AC3("und", "Surround", true), AAC("und", "Stereo", false)};
    struct sg_media_file two[] = {file(ID_A, SG_FILE_BASE, film_of(turned, 2)),
                                  file(ID_B, SG_FILE_RUNG, rung("180p", "180p-a", 320, 180))};
    expect_sounds(two, 2,
                  "audio audio-2 * audio-2\naudio-ac-3 audio-2 * audio\n"
                  "original avc1.64001f,mp4a.40.2 audio\n180p avc1.64001f,mp4a.40.2 audio\n"
                  "original avc1.64001f,ac-3 audio-ac-3\n180p avc1.64001f,ac-3 audio-ac-3\n");
}

/* Every group has what the first has, though it be in another codec. */
static void test_groups_whole(void **state)
{
    (void)state;
    const struct heard mixed[] = {AC3("en", "", true), AAC("en", "", false), AAC("de", "", false),
                                  AC3("ja", "", false)};
    struct sg_media_file one[] = {file(ID_A, SG_FILE_BASE, film_of(mixed, 4))};
    expect_sounds(one, 1,
                  "audio audio-2 * audio-2\naudio audio-3 audio-3\n"
                  "audio-ac-3 audio-2 * audio\naudio-ac-3 audio-3 audio-3\n"
                  "audio-ac-3 audio-4 audio-4\n"
                  "original avc1.64001f,mp4a.40.2 audio\n"
                  "original avc1.64001f,ac-3,mp4a.40.2 audio-ac-3\n");
    const struct heard titled[] = {AAC("en", "Film", true), AC3("en", "Film", false),
                                   AAC("en", "Talk", false)};
    struct sg_media_file two[] = {file(ID_A, SG_FILE_BASE, film_of(titled, 3))};
    expect_sounds(two, 1,
                  "audio Film * audio\naudio Talk audio-3\n"
                  "audio-ac-3 Film * audio-2\naudio-ac-3 Talk audio-3\n"
                  "original avc1.64001f,mp4a.40.2 audio\n"
                  "original avc1.64001f,ac-3,mp4a.40.2 audio-ac-3\n");
}

/* Of a film with AC-3 alone a rung's sound is what browsers can hear. */
static void test_sound_of_rung(void **state)
{
    (void)state;
    const struct heard alone[] = {AC3("en", "", true)};
    struct sg_media_file files[] = {file(ID_A, SG_FILE_BASE, film_of(alone, 1)),
                                    file(ID_B, SG_FILE_RUNG, rung("180p", "180p-a", 320, 180))};
    expect_sounds(files, 2,
                  "audio 180p-a * 180p-a\naudio-ac-3 180p-a * audio\n"
                  "original avc1.64001f,mp4a.40.2 audio\n180p avc1.64001f,mp4a.40.2 audio\n"
                  "original avc1.64001f,ac-3 audio-ac-3\n180p avc1.64001f,ac-3 audio-ac-3\n");
}

/* The playlist of a picture of so many segments, still being made or not. */
static char *playlist_of(unsigned segments, bool live)
{
    struct hand_index h;
    hand_index_fill(&h, false);
    struct sg_track t = h.tracks[0];
    t.n_segments = segments;
    t.duration = t.bytes = t.samples = 0;
    for (unsigned i = 0; i < segments; i++) {
        t.duration += h.video[i].duration;
        t.bytes += h.video[i].bytes_fmp4 - 100;
        t.samples += h.video[i].samples;
    }
    h.index.tracks = &t;
    h.index.n_tracks = 1;
    struct sg_media_file f = file(ID_A, SG_FILE_RUNG, index_of(&h));
    const struct sg_presentation_params params = {.files = &f, .n_files = 1, .live = live};
    const struct sg_playlist_growth growth = {.segment_ms = 6000, .keyframe_ms = 2000};
    struct sg_presentation *p = NULL;
    struct sg_buf *buf = NULL;
    assert_int_equal(sg_presentation_create(&params, &p), SG_OK);
    assert_int_equal(sg_playlist_offer(p, &p->videos[0], false, &growth, &buf), SG_OK);
    sg_presentation_unref(p);
    return text_of(buf);
}

static void test_event(void **state)
{
    (void)state;
    char *young = playlist_of(1, true), *old = playlist_of(3, true), *whole = playlist_of(3, false);
    assert_non_null(line(young, "#EXT-X-PLAYLIST-TYPE:EVENT\n", 0));
    assert_null(strstr(old, "ENDLIST"));
    assert_non_null(line(old, "#EXT-X-MAP:URI=\"init.mp4\"", 0));
    assert_null(line(young, "#EXTINF:6.0", 1));
    assert_non_null(line(old, "#EXTINF:6.0", 1));
    assert_non_null(line(old, "#EXTINF:2.5", 0));
    assert_non_null(line(old, "seg-2.m4s\n", 0));
    assert_null(line(old, "seg-3.m4s\n", 0));
    /* Lines are only ever appended, the end being the last. */
    assert_int_equal(strncmp(young, old, strlen(young)), 0);
    assert_int_equal(strncmp(old, whole, strlen(old)), 0);
    assert_string_equal(whole + strlen(old), "#EXT-X-ENDLIST\n");
    assert_in_range(number(line(young, "#EXT-X-TARGETDURATION:", 0), "DURATION:"), 6, 8);
    free(young);
    free(old);
    free(whole);
}

static unsigned occurrences(const char *text, const char *what)
{
    unsigned n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

static void test_manifest(void **state)
{
    (void)state;
    struct sg_presentation *p = film_with_rungs();
    struct sg_buf *buf = NULL;
    assert_int_equal(sg_dash_manifest(p, &buf), SG_OK);
    char *text = text_of(buf);
    /* One set of pictures to choose from, a set for each sound. */
    assert_int_equal(occurrences(text, "<AdaptationSet "), 3);
    assert_int_equal(occurrences(text, "contentType=\"video\""), 1);
    assert_int_equal(occurrences(text, "<Representation "), 5);
    static const char *const ids[] = {"id=\"original\"", "id=\"360p\"", "id=\"180p\"",
                                      "id=\"audio\"", "id=\"audio-2\""};
    for (unsigned i = 0; i < SG_ARRAY_LEN(ids); i++)
        assert_int_equal(occurrences(text, ids[i]), 1);
    assert_int_equal(occurrences(text, "180p-a"), 0);
    assert_non_null(strstr(text, "width=\"320\""));
    assert_int_equal(occurrences(text, "segmentAlignment=\"true\""), 3);
    free(text);
    sg_presentation_unref(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),         cmocka_unit_test(test_sound),
        cmocka_unit_test(test_nothing),       cmocka_unit_test(test_tags),
        cmocka_unit_test(test_no_memory),     cmocka_unit_test(test_master),
        cmocka_unit_test(test_event),         cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_codecs_apart),  cmocka_unit_test(test_groups_whole),
        cmocka_unit_test(test_sound_of_rung),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
