/* Whether a film's bytes are there. Its tables may be whole and lie within the file while the media
 * data was never written: programs that fetch files keep their full size free from the beginning,
 * and what did not come is zeros. A few samples of each track are looked at, spread evenly from
 * the first to the last, as a probe must not take longer the longer the film.
 *
 * Refused is only what no valid sample can be, so that nothing playable is: units of no length and
 * padding are found in the wild, and what is damaged here and there is the decoder's to judge. */
#include "av_media.h"

enum {
    LOOKED_AT = 16,   /* samples of a track */
    BEGINNING = 64,   /* bytes of each */
    SHORTEST = 8,     /* less tells nothing: pictures that are left out, sound of nothing */
    AVCC_LENGTHS = 4, /* where avcC and hvcC say how long lengths are */
    HVCC_LENGTHS = 21,
};

/* The type of the sound (ISO/IEC 14496-3 1.6.2.1), of what lies below spectral band replication. 0:
 * not told. */
static unsigned aac_core(const AVCodecParameters *par)
{
    const uint8_t *x = par->extradata;
    if (par->extradata_size < 2)
        return 0;
    unsigned type = x[0] >> 3;
    if (type != 5 && type != 29)
        return type;
    unsigned rate = (x[0] & 7u) << 1 | x[1] >> 7;
    if (par->extradata_size < 3 || rate == 15)
        return 0;
    unsigned doubled = (x[1] & 7u) << 1 | x[2] >> 7;
    return doubled == 15 ? 0 : x[2] >> 2 & 31;
}

/* ISO/IEC 14496-15 5.3.3.1, 8.3.3.1: bytes before each unit that tell its length. 0: not told. */
static uint32_t length_bytes(const AVCodecParameters *par)
{
    const uint8_t *x = par->extradata;
    int at = par->codec_id == AV_CODEC_ID_H264   ? AVCC_LENGTHS
             : par->codec_id == AV_CODEC_ID_HEVC ? HVCC_LENGTHS
                                                 : INT_MAX;
    return par->extradata_size > at && x[0] == 1 ? (x[at] & 3u) + 1 : 0;
}

/* Whether a sample cannot begin with zeros, SHORTEST or more. H.264, HEVC: these are units of no
 * length (with start codes instead of lengths they are padding). AV1: a reserved unit that takes up
 * all of the sample, which then has no frame. AAC of types 1 to 4: a channel without a spectrum, 29
 * bits, and again the channel of the same number, which no frame may hold twice; error-resilient
 * types have no such marks. Any bytes are valid Opus, and sound that is not compressed may be
 * silent. */
static bool zeros_tell(const AVCodecParameters *par)
{
    unsigned core;
    switch (par->codec_id) {
    case AV_CODEC_ID_H264:
    case AV_CODEC_ID_HEVC:
        return length_bytes(par) > 0;
    case AV_CODEC_ID_AV1:
        return true;
    case AV_CODEC_ID_AAC:
        core = aac_core(par);
        return core >= 1 && core <= 4;
    default:
        return false;
    }
}

static bool all_zeros(const uint8_t *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* Whether the first unit fits into the sample, of which more than `length` bytes are at p. */
static bool unit_fits(const uint8_t *p, uint32_t length, uint32_t sample)
{
    uint32_t unit = 0;
    for (uint32_t i = 0; i < length; i++)
        unit = unit << 8 | p[i];
    return unit <= sample - length;
}

enum sg_error sgav_content_check(const struct sgav_source *source, const AVStream *stream,
                                 bool constant, char why[SG_MEDIA_MESSAGE_MAX])
{
    const AVCodecParameters *par = stream->codecpar;
    if (source->container || !zeros_tell(par))
        return SG_OK;
    uint32_t length = constant ? length_bytes(par) : 0, n = sgav_sample_count(source, stream);
    for (uint32_t k = 0; k < LOOKED_AT && k < n; k++) {
        uint32_t i = n <= LOOKED_AT ? k : (uint32_t)((uint64_t)(n - 1) * k / (LOOKED_AT - 1));
        struct sgav_sample s;
        sgav_sample_get(source, stream, i, &s);
        if (s.discard || s.size < SHORTEST)
            continue;
        uint8_t bytes[BEGINNING];
        struct fmp4_sample beginning = {.pos = s.pos, .size = s.size};
        if (beginning.size > BEGINNING)
            beginning.size = BEGINNING;
        enum sg_error err = sgav_samples_copy(source, &beginning, 1, bytes);
        if (err)
            return sgav_fail(err, why, "Sample %u of track %d cannot be read.", i, stream->index);
        if (all_zeros(bytes, beginning.size))
            return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                             "The file is damaged or was never completed: sample %u of track %d "
                             "(%s) begins with nothing but zeros.",
                             i, stream->index, avcodec_get_name(par->codec_id));
        if (!unit_fits(bytes, length, s.size))
            return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                             "The file is damaged or was never completed: the first unit in sample "
                             "%u of track %d (%s) is longer than the sample.",
                             i, stream->index, avcodec_get_name(par->codec_id));
    }
    return SG_OK;
}
