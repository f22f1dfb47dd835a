/* The ladder, and what an upload gets of it by what it is. */
#include <stdio.h>
#include <string.h>

#include "streamgate/layers/renditions.h"
#include "streamgate/store/job_store.h"

#include "layers_support.h"

/* ---- the text of a ladder ---- */

static void expect_ladder(const char *text, const char *wanted)
{
    struct sg_ladder l = {.n = 99};
    char told[512] = "";
    enum sg_error err = sg_ladder_parse(text, &l);
    if (wanted == NULL) {
        assert_int_equal(err, SG_ERR_INVALID);
        assert_int_equal(l.n, 99); /* untouched */
        return;
    }
    assert_int_equal(err, SG_OK);
    for (unsigned i = 0; i < l.n; i++) {
        size_t len = strlen(told);
        snprintf(told + len, sizeof told - len, "%s%s/%u/%u/%u", i > 0 ? " " : "", l.rungs[i].name,
                 (unsigned)l.rungs[i].height, (unsigned)l.rungs[i].bitrate,
                 (unsigned)l.rungs[i].crf);
    }
    assert_string_equal(told, wanted);
}

static void test_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wanted;
    } table[] = {
        {"720p:2800k", "720p/720/2800000/0"},
        {" 360p:800k,\t1080p:5000k  720p:crf23 ",
         "1080p/1080/5000000/0 720p/720/0/23 360p/360/800000/0"},
        {"16p:50k", "16p/16/50000/0"},
        {"8192p:200000k", "8192p/8192/200000000/0"},
        {"720p:crf1 719p:crf51", "720p/720/0/1 719p/719/0/51"},
        {"1p1:1k", NULL},
        {"", NULL},
        {" , ", NULL},
        {"720p", NULL},
        {"720:2800k", NULL},
        {"p:2800k", NULL},
        {"720p:", NULL},
        {"720p:k", NULL},
        {"720p:crf", NULL},
        {"720p:crf0", NULL},
        {"720p:crf52", NULL},
        {"720p:crf-1", NULL},
        {"720p:2800", NULL},
        {"720p:2800K", NULL},
        {"720p:49k", NULL},
        {"720p:200001k", NULL},
        {"720p:-1k", NULL},
        {"720p:1e3k", NULL},
        {"15p:100k", NULL},
        {"8193p:100k", NULL},
        {"-720p:100k", NULL},
        {"720p:100k 720p:crf20", NULL},
        {"0720p:100k 720p:crf20", NULL},
        {"720p:100k;480p:100k", NULL},
        {"99999999999999999999p:100k", NULL},
        {"21p:50k 22p:50k 23p:50k 24p:50k 25p:50k 26p:50k 27p:50k 28p:50k 29p:50k 30p:50k 31p:50k "
         "32p:50k 33p:50k",
         NULL},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(table); i++)
        expect_ladder(table[i].text, table[i].wanted);
    struct sg_ladder l;
    assert_int_equal(sg_ladder_parse("21p:50k 22p:50k 23p:50k 24p:50k 25p:50k 26p:50k 27p:50k "
                                     "28p:50k 29p:50k 30p:50k 31p:50k 32p:50k",
                                     &l),
                     SG_OK);
    assert_int_equal(l.n, SG_LADDER_RUNGS_MAX);
}

/* ---- plans ---- */

struct sound {
    enum sg_codec codec;
    uint16_t channels;
    bool copyable, is_default;
    const char *language;
};

struct source {
    bool packaged, copyable;
    uint32_t width, height; /* 0: no picture */
    enum sg_codec codec;
    uint64_t bitrate;
    unsigned n_sounds;
    struct sound sounds[12];
};

static void make_index(const struct source *s, struct sg_media_index *index,
                       struct sg_track tracks[16])
{
    static const struct sg_segment one = {.duration = 10};
    *index = (struct sg_media_index){.fmp4 = s->packaged, .tracks = tracks};
    if (s->width > 0)
        tracks[index->n_tracks++] = (struct sg_track){.kind = SG_TRACK_VIDEO,
                                                      .codec = s->codec,
                                                      .copyable = s->copyable,
                                                      .is_default = true,
                                                      .timescale = 1000,
                                                      .duration = 10000,
                                                      .bytes = s->bitrate * 10 / 8,
                                                      .display_width = s->width,
                                                      .display_height = s->height,
                                                      .n_segments = s->packaged,
                                                      .segments = &one};
    for (unsigned i = 0; i < s->n_sounds; i++) {
        const struct sound *a = &s->sounds[i];
        tracks[index->n_tracks] = (struct sg_track){.kind = SG_TRACK_AUDIO,
                                                    .codec = a->codec,
                                                    .stream = index->n_tracks,
                                                    .copyable = a->copyable,
                                                    .is_default = a->is_default,
                                                    .channels = a->channels,
                                                    .timescale = 48000,
                                                    .duration = 480000};
        snprintf(tracks[index->n_tracks].language, sizeof tracks->language, "%s",
                 a->language != NULL ? a->language : "und");
        index->n_tracks++;
    }
}

/* "job: name WxH rate; ..." */
static void describe(const struct sg_rendition_plan *p, char *out, size_t size)
{
    size_t len = 0;
    out[0] = '\0';
    for (unsigned j = 0; j < p->n_jobs; j++) {
        const struct sg_planned_job *job = &p->jobs[j];
        len += (size_t)snprintf(out + len, size - len, "%s%s%s:", j > 0 ? " | " : "", job->type,
                                job->live ? " live" : "");
        for (size_t i = job->first; i < job->first + job->n && len < size; i++) {
            const struct sg_rendition *r = &p->items[i];
            len += (size_t)snprintf(out + len, size - len, " %s", r->name);
            if (r->kind == SG_RENDITION_VIDEO)
                len += (size_t)snprintf(out + len, size - len, "(%ux%u %uk)", (unsigned)r->width,
                                        (unsigned)r->height, (unsigned)r->bitrate / 1000);
            if (r->kind == SG_RENDITION_AUDIO)
                len += (size_t)snprintf(out + len, size - len, "(#%u %s)", (unsigned)r->stream,
                                        r->channels == 0   ? "copy"
                                        : r->channels == 1 ? "mono"
                                                           : "stereo");
        }
    }
}

static void expect_plan(const char *automatic, const struct source *s, const char *wanted)
{
    struct sg_config *c = support_config((const char *const[]){automatic, NULL});
    struct sg_media_index index;
    struct sg_track tracks[16] = {{0}};
    struct sg_rendition_plan plan;
    char told[1024];
    make_index(s, &index, tracks);
    sg_renditions_plan(c, &index, &plan);
    describe(&plan, told, sizeof told);
    assert_string_equal(told, wanted);
    size_t planned = 0;
    for (unsigned i = 0; i < plan.n_jobs; i++)
        planned += plan.jobs[i].n;
    assert_int_equal(planned, plan.n);
    for (size_t i = 0; i < plan.n; i++)
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(plan.items[i].name, plan.items[k].name);
    sg_config_unref(c);
}

#define ALL "transcode.automatic=all"
#define NEEDED "transcode.automatic=needed"
#define STEREO                                                                                     \
    {                                                                                              \
        SG_CODEC_AAC, 2, true, true, NULL                                                          \
    }
#define H264(w, h, rate) .width = w, .height = h, .codec = SG_CODEC_H264, .bitrate = rate

static void test_playable(void **state)
{
    (void)state;
    const struct source hd = {
        .packaged = true, .copyable = true, H264(1920, 1080, 6000000), 1, {STEREO}};
    expect_plan(ALL, &hd, "transcode: 720p(1280x720 2800k) 480p(852x480 1400k) 360p(640x360 800k)");
    expect_plan(NEEDED, &hd, "");
    /* A rung as high as the source spares a good part of its bits... */
    const struct source fat = {
        .packaged = true, .copyable = true, H264(1920, 1080, 20000000), 1, {STEREO}};
    expect_plan(ALL, &fat,
                "transcode: 1080p(1920x1080 5000k) 720p(1280x720 2800k) 480p(852x480 1400k) "
                "360p(640x360 800k)");
    /* ... or players may not know its codec. */
    struct source hevc = hd;
    hevc.codec = SG_CODEC_HEVC;
    expect_plan(ALL, &hevc,
                "transcode: 1080p(1920x1080 5000k) 720p(1280x720 2800k) 480p(852x480 1400k) "
                "360p(640x360 800k)");
    /* ... or only some know what it is used for: 10 bits, 4:2:2, fields. Then one is needed. */
    struct source ten = hd;
    ten.copyable = false;
    expect_plan(ALL, &ten,
                "transcode: 1080p(1920x1080 5000k) 720p(1280x720 2800k) 480p(852x480 1400k) "
                "360p(640x360 800k)");
    expect_plan(NEEDED, &ten, "transcode: 1080p(1920x1080 5000k)");
    ten.height = 1000;
    expect_plan(NEEDED, &ten, "transcode: 720p(1382x720 2800k)");
    const struct source small = {.packaged = true, H264(320, 240, 400000), 1, {STEREO}};
    expect_plan(ALL, &small, "transcode: 240p(320x240 355k)");
    expect_plan(NEEDED, &small, "transcode: 240p(320x240 355k)");
    /* No rung has more bits than the source has for it. */
    const struct source thin = {
        .packaged = true, .copyable = true, H264(1280, 720, 600000), 1, {STEREO}};
    expect_plan(ALL, &thin, "transcode: 480p(852x480 400k) 360p(640x360 300k)");
    const struct source upright = {
        .packaged = true, .copyable = true, H264(1080, 1920, 6000000), 1, {STEREO}};
    expect_plan(ALL, &upright,
                "transcode: 720p(720x1280 2800k) 480p(480x852 1400k) 360p(360x640 800k)");
    const struct source tiny = {
        .packaged = true, .copyable = true, H264(160, 90, 50000), 1, {STEREO}};
    expect_plan(ALL, &tiny, "");
    const struct source odd = {
        .packaged = true, .copyable = true, H264(1001, 563, 4000000), 1, {STEREO}};
    expect_plan(ALL, &odd, "transcode: 480p(852x480 1400k) 360p(640x360 800k)");
    const struct source strip = {
        .packaged = true, .copyable = true, H264(6000, 500, 4000000), 0, {{0}}};
    expect_plan(ALL, &strip, "transcode: 480p(5760x480 1400k) 360p(4320x360 800k)");
    const struct source surround = {.packaged = true,
                                    .copyable = true,
                                    H264(640, 360, 500000),
                                    1,
                                    {{SG_CODEC_AAC, 6, true, true}}};
    expect_plan(ALL, &surround, "transcode: audio-stereo(#1 stereo)");
    expect_plan(NEEDED, &surround, "");
    const struct source sound = {.packaged = true, .n_sounds = 1, .sounds = {STEREO}};
    expect_plan(ALL, &sound, "");
}

static void test_remux(void **state)
{
    (void)state;
    const struct source ts = {.copyable = true, H264(1280, 720, 4000000), 1, {STEREO}};
    expect_plan(ALL, &ts, "remux: original | transcode: 480p(852x480 1400k) 360p(640x360 800k)");
    expect_plan(NEEDED, &ts, "remux: original");
    /* Its sound is encoded on the way. */
    const struct source mp3 = {
        .copyable = true, H264(320, 180, 400000), 1, {{SG_CODEC_OTHER, 2, false, true}}};
    expect_plan(ALL, &mp3, "remux: original");
    const struct source adts = {.n_sounds = 1, .sounds = {STEREO}};
    expect_plan(ALL, &adts, "remux: original");
}

static void test_encode(void **state)
{
    (void)state;
    const struct source vp9 = {.width = 1280,
                               .height = 720,
                               .codec = SG_CODEC_OTHER,
                               .n_sounds = 1,
                               .sounds = {{SG_CODEC_OPUS, 2, true, true}}};
    static const char vp9_plan[] =
        "transcode-first live: 360p(640x360 800k) audio(#1 copy) audio-stereo(#1 stereo) | "
        "transcode: 720p(1280x720 2800k) 480p(852x480 1400k)";
    expect_plan(ALL, &vp9, vp9_plan);
    expect_plan(NEEDED, &vp9, vp9_plan); /* nothing of it can be seen otherwise */
    const struct source tiny = {.width = 161, .height = 91, .codec = SG_CODEC_OTHER};
    expect_plan(ALL, &tiny, "transcode-first live: 91p(160x90 100k)");
    const struct source dot = {.width = 1, .height = 1, .codec = SG_CODEC_OTHER};
    expect_plan(ALL, &dot, "transcode-first live: 1p(2x2 100k)");
    const struct source between = {.width = 600, .height = 400, .codec = SG_CODEC_OTHER};
    expect_plan(ALL, &between, "transcode-first live: 360p(540x360 800k)");
    const struct source many = {.width = 640,
                                .height = 360,
                                .codec = SG_CODEC_OTHER,
                                .n_sounds = 4,
                                .sounds = {{SG_CODEC_OTHER, 6, false, true},
                                           {SG_CODEC_AAC, 6, true, false},
                                           {SG_CODEC_AAC, 2, true, false},
                                           {SG_CODEC_OTHER, 1, false, false}}};
    expect_plan(ALL, &many,
                "transcode-first live: 360p(640x360 800k) audio(#1 stereo) audio-2(#2 copy) "
                "audio-3(#3 copy) audio-4(#4 mono)");
    const struct source wav = {.n_sounds = 1, .sounds = {{SG_CODEC_OTHER, 1, false, true}}};
    expect_plan(ALL, &wav, "transcode-first live: audio(#0 mono)");
    struct source crowd = {.n_sounds = 12};
    for (unsigned i = 0; i < 12; i++)
        crowd.sounds[i] = (struct sound){SG_CODEC_OTHER, 2, false, i == 0, NULL};
    expect_plan(ALL, &crowd,
                "transcode-first live: audio(#0 stereo) audio-2(#1 stereo) audio-3(#2 stereo) "
                "audio-4(#3 stereo) audio-5(#4 stereo) audio-6(#5 stereo) audio-7(#6 stereo) "
                "audio-8(#7 stereo)");
}

/* What is not heard in the codec that players choose is made so, whatever is made besides. */
static void test_sounds(void **state)
{
    (void)state;
    struct source s = {
        .packaged = true,
        .copyable = true,
        H264(320, 180, 400000),
        .n_sounds = 2,
        .sounds = {{SG_CODEC_AAC, 2, true, true, "en"}, {SG_CODEC_AC3, 6, false, false, "en"}}};
    expect_plan(ALL, &s, ""); /* the usual pair */
    expect_plan(NEEDED, &s, "");
    s.sounds[1].language = "de";
    expect_plan(NEEDED, &s, "transcode: audio-stereo(#2 stereo)");
    expect_plan(ALL, &s, "transcode: audio-stereo(#2 stereo)");
    s.sounds[0].channels = 6;
    expect_plan(ALL, &s, "transcode: audio-stereo(#1 stereo) audio-stereo-2(#2 stereo)");
    /* An index that was made before such films were described, taken over with equal content. */
    const struct source old = {.packaged = true,
                               .copyable = true,
                               H264(320, 180, 400000),
                               .n_sounds = 1,
                               .sounds = {{SG_CODEC_AC3, 6, false, true, "en"}}};
    expect_plan(NEEDED, &old, "transcode: audio-stereo(#1 stereo)");
    /* Of one language two of each... or fewer. */
    s = (struct source){.packaged = true,
                        .n_sounds = 4,
                        .sounds = {{SG_CODEC_AC3, 6, false, false, "en"},
                                   {SG_CODEC_EAC3, 1, false, false, "en"},
                                   {SG_CODEC_AC3, 1, false, false, "en"},
                                   {SG_CODEC_AAC, 2, true, true, "en"}}};
    expect_plan(NEEDED, &s, "transcode: audio-stereo(#2 mono)");
    /* Once there is some AAC, all is to be heard in it. */
    s = (struct source){
        .packaged = true,
        .n_sounds = 2,
        .sounds = {{SG_CODEC_OPUS, 6, true, true, "en"}, {SG_CODEC_OPUS, 2, true, false, "de"}}};
    expect_plan(NEEDED, &s, "");
    expect_plan(ALL, &s, "transcode: audio-stereo(#0 stereo) audio-stereo-2(#1 stereo)");
    s.packaged = false;
    s.width = 640;
    s.height = 360;
    s.codec = SG_CODEC_OTHER;
    expect_plan(NEEDED, &s,
                "transcode-first live: 360p(640x360 800k) audio(#1 copy) audio-2(#2 copy) "
                "audio-stereo(#1 stereo) audio-stereo-2(#2 stereo)");
    s.copyable = true;
    s.sounds[0] = (struct sound){SG_CODEC_AC3, 6, false, true, "en"};
    expect_plan(NEEDED, &s, "remux: original | transcode: audio-stereo(#2 stereo)");
    s.sounds[1] = (struct sound){SG_CODEC_AAC, 2, true, false, "de"};
    expect_plan(NEEDED, &s, "remux: original");
    struct source crowd = {.width = 640, .height = 360, .n_sounds = 12};
    for (unsigned i = 0; i < 12; i++)
        crowd.sounds[i] = (struct sound){SG_CODEC_OPUS, 2, true, i == 0, "en"};
    struct sg_media_index index;
    struct sg_track tracks[16] = {{0}};
    struct sg_rendition_plan plan;
    struct sg_config *c = support_config(NULL);
    make_index(&crowd, &index, tracks);
    sg_renditions_plan(c, &index, &plan);
    assert_in_range(plan.jobs[0].n, 10, 16); /* as many as a process makes at once */
    sg_config_unref(c);
}

static void test_one_rung(void **state)
{
    (void)state;
    struct sg_media_index index;
    struct sg_track tracks[16] = {{0}};
    struct sg_rendition r;
    const struct sg_rung rung = {.name = "mine", .height = 101, .crf = 30};
    const struct source hd = {.packaged = true, H264(1920, 1080, 6000000), 0, {{0}}};
    make_index(&hd, &index, tracks);
    assert_true(sg_rendition_of_rung(&index, &rung, &r));
    assert_string_equal(r.name, "mine");
    assert_int_equal(r.width, 180);
    assert_int_equal(r.height, 100);
    assert_int_equal(r.bitrate, 0);
    assert_int_equal(r.crf, 30);
    const struct sg_rung high = {.name = "2160p", .height = 2160, .bitrate = 9000000};
    assert_true(sg_rendition_of_rung(&index, &high, &r));
    assert_int_equal(r.width, 1920); /* never enlarged */
    assert_int_equal(r.height, 1080);
    const struct source sound = {.packaged = true, .n_sounds = 1, .sounds = {STEREO}};
    make_index(&sound, &index, tracks);
    assert_false(sg_rendition_of_rung(&index, &rung, &r));
}

/* ---- rows ---- */

struct beginning {
    struct sg_asset_fields asset;
    struct sg_rendition_plan plan;
    struct sg_rendition_list list;
    struct sg_job *job;
    const char *job_id;
};

static enum sg_error add(struct sg_db_conn *c, void *arg)
{
    struct beginning *b = arg;
    return sg_renditions_begin(c, &b->asset, &b->plan);
}

static enum sg_error begin(struct sg_db_conn *c, void *arg)
{
    struct beginning *b = arg;
    enum sg_error err = sg_asset_insert(c, &b->asset, "x", 1);
    return err != SG_OK ? err : add(c, b);
}

static enum sg_error look(struct sg_db_conn *c, void *arg)
{
    struct beginning *b = arg;
    enum sg_error err = sg_rendition_list(c, b->asset.id, &b->list);
    return err != SG_OK ? err : sg_job_get(c, b->job_id, &b->job);
}

static void test_begin(void **state)
{
    (void)state;
    struct support_dir dir;
    struct sg_media_index index;
    struct sg_track tracks[16] = {{0}};
    static struct beginning b;
    struct sg_config *c = support_config(NULL);
    const struct source ts = {.copyable = true, H264(1280, 720, 4000000), 1, {STEREO}};
    make_index(&ts, &index, tracks);
    b.asset = (struct sg_asset_fields){.owner = "01AAAAAAAAAAAAAAAAAAAAAAAA",
                                       .status = SG_ASSET_PROCESSING,
                                       .title = "",
                                       .description = "",
                                       .tags_json = "[]",
                                       .custom_json = "{}",
                                       .filename = "f.ts",
                                       .content_type = "video/mp2t",
                                       .video_codec = "",
                                       .audio_codec = "",
                                       .error = "",
                                       .version = 1};
    sg_ulid_make(b.asset.id);
    sg_renditions_plan(c, &index, &b.plan);
    support_dir_open(&dir);
    assert_int_equal(sg_db_write(dir.db, begin, &b), SG_OK);
    b.job_id = b.plan.items[1].job_id;
    assert_int_equal(sg_db_read(dir.db, look, &b), SG_OK);
    assert_int_equal(b.list.n, 3);
    assert_string_equal(b.list.items[0].name, "original");
    assert_string_not_equal(b.list.items[0].job_id, b.job_id);
    assert_string_equal(b.list.items[2].job_id, b.job_id);
    assert_string_equal(b.job->f.type, "transcode");
    assert_string_equal(b.job->f.asset_id, b.asset.id);
    assert_string_equal(b.job->f.owner, b.asset.owner);
    assert_non_null(strstr(b.job->f.depends_on, b.list.items[0].job_id)); /* after the first */
    assert_non_null(strstr(b.job->f.payload, b.list.items[2].id));
    sg_job_free(&b.job);
    /* One that waits for a job which is there already. */
    memcpy(b.plan.after, b.list.items[0].job_id, SG_ULID_SIZE);
    sg_rendition_list_free(&b.list);
    b.plan.n = b.plan.n_jobs = 1;
    b.plan.jobs[0] = (struct sg_planned_job){.type = "transcode", .n = 1};
    snprintf(b.plan.items[0].name, sizeof b.plan.items[0].name, "asked");
    assert_int_equal(sg_db_write(dir.db, add, &b), SG_OK);
    b.job_id = b.plan.items[0].job_id;
    assert_int_equal(sg_db_read(dir.db, look, &b), SG_OK);
    assert_non_null(strstr(b.job->f.depends_on, b.plan.after));
    sg_rendition_list_free(&b.list);
    sg_job_free(&b.job);
    sg_config_unref(c);
    support_dir_close(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),  cmocka_unit_test(test_playable),
        cmocka_unit_test(test_remux),  cmocka_unit_test(test_encode),
        cmocka_unit_test(test_sounds), cmocka_unit_test(test_one_rung),
        cmocka_unit_test(test_begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
