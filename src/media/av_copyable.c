/* Whether a stream may be put into an MP4 as it is, so that browsers play it: told from the
 * parameter sets alone, which are read here, as what libavformat says of interlacing depends on how
 * far it has read. */
#include "av_container.h"

enum { SPS_BYTES_MAX = 256 };

struct bits {
    const uint8_t *p;
    size_t len, at; /* at: in bits */
    bool failed;
};

static unsigned get_bit(struct bits *b)
{
    if (b->at >= 8 * b->len) {
        b->failed = true;
        return 0;
    }
    unsigned bit = b->p[b->at / 8] >> (7 - b->at % 8) & 1;
    b->at++;
    return bit;
}

static uint32_t get_bits(struct bits *b, unsigned n)
{
    uint32_t v = 0;
    while (n--)
        v = v << 1 | get_bit(b);
    return v;
}

/* ISO/IEC 14496-10 9.1: Exp-Golomb. */
static uint32_t get_ue(struct bits *b)
{
    unsigned zeros = 0;
    while (!get_bit(b) && !b->failed && zeros < 31)
        zeros++;
    return (UINT32_C(1) << zeros) - 1 + get_bits(b, zeros);
}

static void skip_scaling_lists(struct bits *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (!get_bit(b))
            continue;
        int32_t last = 8, next = 8;
        for (unsigned k = 0; k < (i < 6 ? 16u : 64u) && !b->failed; k++) {
            if (next) {
                uint32_t v = get_ue(b);
                int32_t delta = v & 1 ? (int32_t)(v / 2 + 1) : -(int32_t)(v / 2);
                next = (int32_t)(((uint32_t)last + (uint32_t)delta) & 255);
            }
            last = next ? next : last;
        }
    }
}

static bool is_high(uint32_t profile)
{
    static const uint8_t high[] = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135};
    for (size_t i = 0; i < sizeof(high); i++)
        if (high[i] == profile)
            return true;
    return false;
}

/* ISO/IEC 14496-10 7.3.2.1.1, as far as frame_mbs_only_flag. 8 bits, 4:2:0, frames alone. */
static bool sps_plain(struct bits *b)
{
    uint32_t profile = get_bits(b, 8);
    get_bits(b, 16);
    get_ue(b);
    if (is_high(profile)) {
        if (get_ue(b) != 1 || get_ue(b) != 0 || get_ue(b) != 0)
            return false;
        get_bit(b);
        if (get_bit(b))
            skip_scaling_lists(b, 8);
    }
    get_ue(b);
    uint32_t order = get_ue(b);
    if (order == 0) {
        get_ue(b);
    } else if (order == 1) {
        get_bit(b);
        get_ue(b);
        get_ue(b);
        uint32_t n = get_ue(b);
        for (uint32_t i = 0; i < n && !b->failed; i++)
            get_ue(b);
    }
    get_ue(b);
    get_bit(b);
    get_ue(b);
    get_ue(b);
    bool frames_only = get_bit(b);
    return frames_only && !b->failed;
}

/* The first sequence parameter set of avcC, or of a stream with start codes. */
static const uint8_t *find_sps(const uint8_t *x, size_t n, size_t *len)
{
    if (n >= 8 && x[0] == 1) {
        size_t size = (size_t)x[6] << 8 | x[7];
        *len = size < n - 8 ? size : n - 8;
        return (x[5] & 31) && *len ? x + 8 : NULL;
    }
    for (size_t i = 0; i + 4 < n; i++)
        if (x[i] == 0 && x[i + 1] == 0 && x[i + 2] == 1 && (x[i + 3] & 31) == 7) {
            *len = n - i - 3;
            return x + i + 3;
        }
    return NULL;
}

static bool h264_copyable(const AVCodecParameters *par)
{
    uint8_t plain[SPS_BYTES_MAX];
    size_t len = 0, n = 0;
    const uint8_t *sps = par->extradata_size > 0
                             ? find_sps(par->extradata, (size_t)par->extradata_size, &len)
                             : NULL;
    for (size_t i = 1; sps && i < len && n < sizeof(plain); i++)
        if (i < 3 || sps[i] != 3 || sps[i - 1] || sps[i - 2]) /* 7.4.1: emulation prevention */
            plain[n++] = sps[i];
    struct bits b = {.p = plain, .len = n};
    return n > 0 && sps_plain(&b);
}

/* Main and Main 10: by hvcC, else by what was learnt of the stream. */
static bool hevc_copyable(const AVCodecParameters *par)
{
    int profile = par->extradata_size >= 23 && par->extradata[0] == 1 ? par->extradata[1] & 0x1f
                                                                      : par->profile;
    return par->extradata_size > 0 &&
           (profile == FF_PROFILE_HEVC_MAIN || profile == FF_PROFILE_HEVC_MAIN_10);
}

/* AAC-LC and HE-AAC. Without a configuration only where packets carry it. */
static bool aac_copyable(const AVCodecParameters *par, bool in_band)
{
    if (par->extradata_size >= 2) {
        int type = par->extradata[0] >> 3;
        return type == 2 || type == 5 || type == 29;
    }
    return in_band && (par->profile == FF_PROFILE_AAC_LOW || par->profile == FF_PROFILE_AAC_HE ||
                       par->profile == FF_PROFILE_AAC_HE_V2);
}

bool sgav_copyable(const struct sgav_source *source, const AVStream *stream)
{
    const AVCodecParameters *par = stream->codecpar;
    if (source->container && source->container->no_shown_times && par->video_delay > 0)
        return false; /* nobody can tell when a picture is shown but by decoding it */
    switch (par->codec_id) {
    case AV_CODEC_ID_H264:
        return h264_copyable(par);
    case AV_CODEC_ID_HEVC:
        return hevc_copyable(par);
    case AV_CODEC_ID_AV1: /* av1C; profile Main */
        return par->extradata_size >= 4 && par->extradata[0] == 0x81 && par->extradata[1] >> 5 == 0;
    case AV_CODEC_ID_AAC:
        return aac_copyable(par, source->container && source->container->parameters_in_band);
    case AV_CODEC_ID_OPUS:
        return par->extradata_size >= 11;
    default:
        return false;
    }
}
