/* See index_support.h. */
#include "index_support.h"

#include <stdlib.h>
#include <string.h>

#include "streamgate/media/dash.h"
#include "streamgate/media/playlist.h"

#include "support/unit.h"

static void sum_up(struct sg_track *t)
{
    t->start = t->segments[0].start;
    t->duration = 0;
    t->samples = 0;
    t->bytes = 0;
    for (uint32_t i = 0; i < t->n_segments; i++) {
        t->duration += t->segments[i].duration;
        t->samples += t->segments[i].samples;
        t->bytes += t->segments[i].bytes_fmp4 - 100;
    }
}

static struct sg_track audio_track(const char *name, uint32_t stream)
{
    struct sg_track t = {.kind = SG_TRACK_AUDIO,
                         .codec = SG_CODEC_AAC,
                         .stream = stream,
                         .codec_name = "aac",
                         .codecs = "mp4a.40.2",
                         .language = "en",
                         .timescale = 48000,
                         .stream_tb_num = 1,
                         .stream_tb_den = 48000,
                         .sample_rate = 48000,
                         .channels = 2};
    memcpy(t.name, name, strlen(name) + 1);
    return t;
}

void hand_index_fill(struct hand_index *h, bool two_audio)
{
    *h = (struct hand_index){
        .index = {.content_type = "video/mp4",
                  .format = "mp4",
                  .duration_ms = 19000,
                  .fmp4 = true,
                  .ts = true,
                  .independent = true},
        .video = {{0, 540000, -1024, 600000, 640000, 150},
                  {540000, 540000, 91136, 1200000, 1280000, 150},
                  {1080000, 225000, 183296, 200000, 210000, 63}},
        .audio = {{-1024, 289792, -1024, 96000, 0, 283},
                  {288768, 287744, 288768, 96000, 0, 281},
                  {576512, 120832, 576512, 40000, 0, 118},
                  {697344, 214656, 697344, 72000, 80000, 210}},
        .second = {{0, 912000, 0, 150000, 0, 891}},
    };
    h->tracks[0] = (struct sg_track){.kind = SG_TRACK_VIDEO,
                                     .codec = SG_CODEC_H264,
                                     .name = "original",
                                     .codec_name = "h264",
                                     .codecs = "avc1.64001f",
                                     .language = "und",
                                     .is_default = true,
                                     .timescale = 90000,
                                     .stream_tb_num = 1,
                                     .stream_tb_den = 15360,
                                     .width = 1280,
                                     .height = 720,
                                     .display_width = 1280,
                                     .display_height = 720,
                                     .sar_num = 1,
                                     .sar_den = 1,
                                     .fps_num = 24000,
                                     .fps_den = 1001,
                                     .n_segments = 3,
                                     .segments = h->video};
    h->tracks[1] = audio_track("audio", 1);
    h->tracks[1].is_default = true;
    h->tracks[1].n_segments = 4;
    h->tracks[1].segments = h->audio;
    h->tracks[2] = audio_track("audio-2", 2);
    h->tracks[2].n_segments = 1;
    h->tracks[2].segments = h->second;
    memcpy(h->tracks[2].language, "de", 3);
    memcpy(h->tracks[2].title, "Die \"Fassung\"", 14);
    h->index.n_tracks = two_audio ? 3 : 2;
    h->index.tracks = h->tracks;
    for (unsigned i = 0; i < 3; i++)
        sum_up(&h->tracks[i]);
}

struct sg_media_index *hand_index_round(const struct sg_media_index *index)
{
    void *bytes = NULL;
    size_t len = 0;
    struct sg_media_index *out = NULL;
    if (sg_media_index_encode(index, &bytes, &len) == SG_OK &&
        sg_media_index_decode(bytes, len, &out) != SG_OK)
        out = NULL;
    free(bytes);
    return out;
}

/* The index is no heap object of its own: the reference that is taken is never the last. */
static struct sg_presentation *present(const struct sg_media_index *index)
{
    struct sg_media_index *lent = (struct sg_media_index *)(uintptr_t)index;
    struct sg_media_file file = {.id = "01ARZ3NDEKTSV4RRFFQ69G5FAV",
                                 .index = sg_media_index_ref(sg_media_index_ref(lent))};
    struct sg_presentation *p = NULL;
    assert_int_equal(
        sg_presentation_create(&(struct sg_presentation_params){.files = &file, .n_files = 1}, &p),
        SG_OK);
    return p;
}

enum sg_error hand_master(const struct sg_media_index *index, bool ts, struct sg_buf **out)
{
    struct sg_presentation *p = present(index);
    enum sg_error err = sg_playlist_master(p, ts, out);
    sg_presentation_unref(p);
    return err;
}

enum sg_error hand_manifest(const struct sg_media_index *index, struct sg_buf **out)
{
    struct sg_presentation *p = present(index);
    enum sg_error err = sg_dash_manifest(p, out);
    sg_presentation_unref(p);
    return err;
}
