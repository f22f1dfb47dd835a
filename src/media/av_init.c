/* The initialisation segment: ftyp and moov from libavformat's muxer, which knows every codec's
 * sample entry, with no edit list and no samples. The track's scale must be the one the fragments
 * are written in; it is checked in what comes out. */
#include <libavutil/intreadwrite.h>
#include <libavutil/mem.h>
#include <stdlib.h>
#include <string.h>

#include "av_media.h"

static enum sg_error add_stream(AVFormatContext *mux, const AVStream *from, uint32_t timescale)
{
    AVStream *to = avformat_new_stream(mux, NULL);
    if (!to || avcodec_parameters_copy(to->codecpar, from->codecpar) < 0)
        return SG_ERR_NO_MEMORY;
    to->codecpar->codec_tag =
        from->codecpar->codec_id == AV_CODEC_ID_HEVC ? MKTAG('h', 'v', 'c', '1') : 0;
    if (from->codecpar->codec_type == AVMEDIA_TYPE_AUDIO)
        to->codecpar->sample_rate = (int)timescale;
    /* What an encoder was told and what it came to differ; what was made while it ran must not. */
    to->codecpar->bit_rate = 0;
    if (from->codecpar->codec_id == AV_CODEC_ID_AAC && !to->codecpar->frame_size)
        to->codecpar->frame_size = 1024; /* unset, the muxer warns */
    to->time_base = (AVRational){1, (int)timescale};
    to->sample_aspect_ratio = from->sample_aspect_ratio;
    to->avg_frame_rate = from->avg_frame_rate;
    to->disposition = AV_DISPOSITION_DEFAULT;
    const AVDictionaryEntry *language = av_dict_get(from->metadata, "language", NULL, 0);
    if (language && av_dict_set(&to->metadata, "language", language->value, 0) < 0)
        return SG_ERR_NO_MEMORY;
    size_t size = 0;
    const uint8_t *matrix = av_stream_get_side_data(from, AV_PKT_DATA_DISPLAYMATRIX, &size);
    if (matrix && size == 9 * sizeof(int32_t)) {
        uint8_t *copy = av_stream_new_side_data(to, AV_PKT_DATA_DISPLAYMATRIX, size);
        if (!copy)
            return SG_ERR_NO_MEMORY;
        memcpy(copy, matrix, size);
    }
    return SG_OK;
}

/* AC-3 and E-AC-3 describe themselves in their frames: the muxer needs one before it can write
 * moov. */
static enum sg_error feed_frame(struct sgav_source *source, const struct media_part *part,
                                AVFormatContext *mux)
{
    struct media_part one = *part;
    struct fmp4_sample *sample = NULL;
    one.samples = 1;
    enum sg_error err = sgav_samples_read(source, &one, &sample);
    if (err)
        return err;
    AVPacket *packet = av_packet_alloc();
    err = SG_ERR_NO_MEMORY;
    if (packet && sample->size <= INT32_MAX && av_new_packet(packet, (int)sample->size) >= 0) {
        packet->pts = packet->dts = 0;
        packet->flags = AV_PKT_FLAG_KEY;
        err = sgav_samples_copy(source, sample, 1, packet->data);
    }
    if (!err && (av_write_frame(mux, packet) < 0 || av_write_frame(mux, NULL) < 0))
        err = SG_ERR_UNPROCESSABLE;
    av_packet_free(&packet);
    free(sample);
    return err;
}

/* Finds a box among the children at [pos, end); 0: none. */
static size_t find_box(const uint8_t *data, size_t pos, size_t end, const char type[4],
                       size_t *box_end)
{
    while (end - pos >= 8) {
        size_t size = AV_RB32(data + pos);
        if (size < 8 || size > end - pos)
            return 0;
        if (memcmp(data + pos + 4, type, 4) == 0) {
            *box_end = pos + size;
            return pos + 8;
        }
        pos += size;
    }
    return 0;
}

/* Length of ftyp and moov, when moov's track has the timescale; 0 otherwise. */
static size_t check_init(const uint8_t *data, size_t len, uint32_t timescale)
{
    size_t moov_end = 0, end = 0;
    size_t moov = find_box(data, 0, len, "moov", &moov_end);
    size_t at = moov ? find_box(data, moov, moov_end, "trak", &end) : 0;
    at = at ? find_box(data, at, end, "mdia", &end) : 0;
    at = at ? find_box(data, at, end, "mdhd", &end) : 0;
    if (!at || end - at < 24)
        return 0;
    uint32_t found = AV_RB32(data + at + (data[at] == 1 ? 20 : 12));
    return found == timescale ? moov_end : 0;
}

static enum sg_error write_init(struct sgav_source *source, const struct media_part *part,
                                AVFormatContext *mux)
{
    AVStream *from = source->fmt->streams[part->stream];
    bool delay = part->codec == SG_CODEC_AC3 || part->codec == SG_CODEC_EAC3;
    AVDictionary *options = NULL;
    enum sg_error err = add_stream(mux, from, part->timescale);
    if (!err && (av_dict_set(&options, "movflags",
                             delay ? "empty_moov+default_base_moof+frag_custom+delay_moov"
                                   : "empty_moov+default_base_moof+frag_custom",
                             0) < 0 ||
                 av_dict_set(&options, "use_editlist", "0", 0) < 0 ||
                 av_dict_set(&options, "brand", "iso6", 0) < 0 ||
                 av_dict_set_int(&options, "video_track_timescale", part->timescale, 0) < 0))
        err = SG_ERR_NO_MEMORY;
    mux->flags |= AVFMT_FLAG_BITEXACT;
    mux->strict_std_compliance = FF_COMPLIANCE_EXPERIMENTAL;
    if (!err && avformat_write_header(mux, &options) < 0)
        err = SG_ERR_UNPROCESSABLE;
    if (!err && delay)
        err = feed_frame(source, part, mux);
    av_dict_free(&options);
    return err;
}

enum sg_error sgav_render_init(struct sgav_source *source, const struct media_call *call,
                               struct sgav_body *out)
{
    const struct media_part *part = &call->parts[0];
    if (call->n_parts != 1 || part->stream >= source->fmt->nb_streams ||
        part->timescale > INT32_MAX)
        return SG_ERR_INVALID;
    AVFormatContext *mux = NULL;
    uint8_t *bytes = NULL;
    if (avformat_alloc_output_context2(&mux, NULL, "mp4", NULL) < 0 ||
        avio_open_dyn_buf(&mux->pb) < 0) {
        avformat_free_context(mux);
        return SG_ERR_NO_MEMORY;
    }
    enum sg_error err = write_init(source, part, mux);
    avio_flush(mux->pb);
    int n = avio_close_dyn_buf(mux->pb, &bytes); /* no trailer: it would append mfra */
    mux->pb = NULL;
    avformat_free_context(mux);
    size_t len = err || n <= 0 ? 0 : check_init(bytes, (size_t)n, part->timescale);
    if (!err && !len)
        err = SG_ERR_INTERNAL;
    uint8_t *data = err ? NULL : malloc(len);
    if (data) {
        memcpy(data, bytes, len);
        *out = (struct sgav_body){.data = data, .len = len};
    } else if (!err) {
        err = SG_ERR_NO_MEMORY;
    }
    av_free(bytes);
    return err;
}
