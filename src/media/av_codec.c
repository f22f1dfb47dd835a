/* Codecs: which can be packaged, what RFC 6381 calls them, and how a decoder is opened within
 * bounds. */
#include <libavutil/intreadwrite.h>
#include <libavutil/opt.h>
#include <stdio.h>

#include "av_media.h"

/* Every decoder that may ever be opened: of what can be packaged, then of what can be transcoded.
 */
static const char WHITELIST[] =
    "h264,hevc,libdav1d,av1,aac,opus,libopus,mp3,mp3float,ac3,eac3,flac,"
    "vp8,vp9,libvpx,libvpx-vp9,mpeg1video,mpeg2video,mpegvideo,mpeg4,msmpeg4v1,msmpeg4v2,msmpeg4,"
    "h263,h263i,h263p,mjpeg,prores,dnxhd,theora,flv,vp6,vp6a,vp6f,wmv1,wmv2,wmv3,vc1,gif,png,"
    "rawvideo,ffv1,huffyuv,ffvhuff,utvideo,qtrle,dvvideo,cinepak,"
    "aac_latm,mp2,mp2float,mp1,mp1float,dca,truehd,vorbis,libvorbis,alac,wavpack,amrnb,amrwb,"
    "wmav1,wmav2,wmapro,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,adpcm_swf,gsm_ms,nellymoser,speex,"
    "libspeex,pcm_s8,pcm_u8,pcm_s16le,pcm_s16be,pcm_u16le,pcm_u16be,pcm_s24le,pcm_s24be,pcm_s32le,"
    "pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,pcm_alaw,pcm_mulaw,pcm_bluray,pcm_dvd,"
    "pcm_s16le_planar,pcm_s24le_planar,pcm_s32le_planar,pcm_s16be_planar,pcm_s8_planar";

enum sg_codec sgav_codec_of(enum AVCodecID id)
{
    switch (id) {
    case AV_CODEC_ID_H264:
        return SG_CODEC_H264;
    case AV_CODEC_ID_HEVC:
        return SG_CODEC_HEVC;
    case AV_CODEC_ID_AV1:
        return SG_CODEC_AV1;
    case AV_CODEC_ID_AAC:
        return SG_CODEC_AAC;
    case AV_CODEC_ID_OPUS:
        return SG_CODEC_OPUS;
    case AV_CODEC_ID_MP3:
        return SG_CODEC_MP3;
    case AV_CODEC_ID_AC3:
        return SG_CODEC_AC3;
    case AV_CODEC_ID_EAC3:
        return SG_CODEC_EAC3;
    case AV_CODEC_ID_FLAC:
        return SG_CODEC_FLAC;
    default:
        return SG_CODEC_OTHER;
    }
}

const char *sgav_codec_whitelist(void)
{
    return WHITELIST;
}

static const AVCodec *find_decoder(enum AVCodecID id)
{
    const AVCodec *codec = NULL;
    if (id == AV_CODEC_ID_AV1)
        codec = avcodec_find_decoder_by_name("libdav1d");
    return codec ? codec : avcodec_find_decoder(id);
}

bool sgav_codec_decodable(enum AVCodecID id)
{
    const AVCodec *codec = find_decoder(id);
    size_t n = codec ? strlen(codec->name) : 0;
    for (const char *at = WHITELIST; n && at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, codec->name, n) == 0 && (at[n] == ',' || !at[n]))
            return true;
    }
    return false;
}

/* ISO/IEC 14496-15 5.3.3: profile, constraint flags and level of avcC, which must carry a sequence
 * parameter set. */
static enum sg_error h264_string(const uint8_t *x, int n, char *out, size_t size)
{
    if (n < 8 || x[0] != 1 || (x[5] & 0x1f) == 0)
        return SG_ERR_UNSUPPORTED_MEDIA;
    snprintf(out, size, "avc1.%02x%02x%02x", x[1], x[2], x[3]);
    return SG_OK;
}

/* ISO/IEC 14496-15 Annex E.3 on the fields of hvcC. */
static enum sg_error hevc_string(const uint8_t *x, int n, char *out, size_t size)
{
    static const char *const spaces[] = {"", "A", "B", "C"};
    if (n < 23 || x[0] != 1 || x[22] == 0)
        return SG_ERR_UNSUPPORTED_MEDIA;
    uint32_t compat = AV_RB32(x + 2), reversed = 0;
    for (unsigned i = 0; i < 32; i++)
        reversed |= (compat >> i & 1) << (31 - i);
    int len = snprintf(out, size, "hvc1.%s%u.%x.%c%u", spaces[x[1] >> 6], x[1] & 0x1fu, reversed,
                       x[1] & 0x20 ? 'H' : 'L', x[12]);
    unsigned last = 6;
    while (last > 0 && x[6 + last - 1] == 0)
        last--;
    for (unsigned i = 0; i < last && (size_t)len < size; i++)
        len += snprintf(out + len, size - (size_t)len, ".%x", x[6 + i]);
    return SG_OK;
}

/* "AV1 Codec ISO Media File Format Binding" 5: profile, level and tier, bit depth. */
static enum sg_error av1_string(const uint8_t *x, int n, char *out, size_t size)
{
    if (n < 4 || x[0] != 0x81)
        return SG_ERR_UNSUPPORTED_MEDIA;
    bool high = x[2] & 0x40, twelve = x[2] & 0x20;
    snprintf(out, size, "av01.%u.%02u%c.%02u", x[1] >> 5, x[1] & 0x1fu, x[2] & 0x80 ? 'H' : 'M',
             !high    ? 8u
             : twelve ? 12u
                      : 10u);
    return SG_OK;
}

/* RFC 6381 3.3: the object type of the AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1). */
static enum sg_error aac_string(const uint8_t *x, int n, char *out, size_t size)
{
    if (n < 2)
        return SG_ERR_UNSUPPORTED_MEDIA;
    unsigned type = x[0] >> 3;
    if (type == 31)
        type = 32 + ((x[0] & 7u) << 3 | x[1] >> 5);
    snprintf(out, size, "mp4a.40.%u", type);
    return type ? SG_OK : SG_ERR_UNSUPPORTED_MEDIA;
}

enum sg_error sgav_codec_string(const AVCodecParameters *par, char *out, size_t size)
{
    static const char *const fixed[SG_CODEC_COUNT] = {
        [SG_CODEC_OPUS] = "opus", [SG_CODEC_MP3] = "mp4a.40.34", [SG_CODEC_AC3] = "ac-3",
        [SG_CODEC_EAC3] = "ec-3", [SG_CODEC_FLAC] = "fLaC",
    };
    const uint8_t *x = par->extradata;
    int n = par->extradata_size;
    enum sg_codec codec = sgav_codec_of(par->codec_id);
    switch (codec) {
    case SG_CODEC_H264:
        return h264_string(x, n, out, size);
    case SG_CODEC_HEVC:
        return hevc_string(x, n, out, size);
    case SG_CODEC_AV1:
        return av1_string(x, n, out, size);
    case SG_CODEC_AAC:
        return aac_string(x, n, out, size);
    default:
        if (!fixed[codec])
            return SG_ERR_UNSUPPORTED_MEDIA;
        snprintf(out, size, "%s", fixed[codec]);
        return SG_OK;
    }
}

enum sg_error sgav_codec_open(const AVStream *stream, uint64_t max_pixels, AVCodecContext **out)
{
    const AVCodec *codec = find_decoder(stream->codecpar->codec_id);
    AVCodecContext *c = codec ? avcodec_alloc_context3(codec) : NULL;
    if (!c)
        return codec ? SG_ERR_NO_MEMORY : SG_ERR_UNSUPPORTED_MEDIA;
    c->thread_count = 1;
    c->pkt_timebase = stream->time_base;
    c->max_pixels = (int64_t)(max_pixels < INT64_MAX ? max_pixels : INT64_MAX);
    AVDictionary *options = NULL;
    enum sg_error err = SG_ERR_NO_MEMORY;
    if (avcodec_parameters_to_context(c, stream->codecpar) < 0 ||
        av_dict_set(&options, "codec_whitelist", WHITELIST, 0) < 0)
        goto out;
    int r = avcodec_open2(c, codec, &options);
    err = r == AVERROR(ENOMEM) ? SG_ERR_NO_MEMORY : r < 0 ? SG_ERR_UNPROCESSABLE : SG_OK;
out:
    av_dict_free(&options);
    if (err)
        avcodec_free_context(&c);
    else
        *out = c;
    return err;
}
