/* Which container the bytes are, told without libav. What can be cut short visibly - a header that
 * promises more bytes than there are - is refused here. */
#include "av_container.h"

#include <string.h>
#include <unistd.h>

enum { TS_PACKET_BYTES = 188, M2TS_PACKET_BYTES = 192, ID3_HEADER = 10 };

enum {
    WEBM,
    MATROSKA,
    AVI,
    MPEGTS,
    MPEGPS,
    FLV,
    OGG,
    WAV,
    FLAC,
    MP3,
    ADTS,
};

static const struct sgav_container containers[] = {
    [WEBM] = {"webm", "matroska", "video/webm", "audio/webm", true, false, false, false},
    [MATROSKA] = {"matroska", "matroska", "video/x-matroska", "audio/x-matroska", true, false,
                  false, false},
    [AVI] = {"avi", "avi", "video/x-msvideo", "audio/x-msvideo", true, true, false, true},
    [MPEGTS] = {"mpegts", "mpegts", "video/mp2t", "audio/mp2t", true, true, true, false},
    [MPEGPS] = {"mpegps", "mpeg", "video/mpeg", "audio/mpeg", false, true, true, false},
    [FLV] = {"flv", "flv", "video/x-flv", "audio/x-flv", false, false, false, false},
    [OGG] = {"ogg", "ogg", "video/ogg", "audio/ogg", true, false, false, false},
    [WAV] = {"wav", "wav", "video/x-wav", "audio/wav", true, false, false, false},
    [FLAC] = {"flac", "flac", "video/x-flac", "audio/flac", true, false, false, false},
    [MP3] = {"mp3", "mp3", "video/x-mp3", "audio/mpeg", true, true, false, false},
    [ADTS] = {"aac", "aac", "video/x-aac", "audio/aac", true, true, false, false},
};

static bool begins(const uint8_t *head, size_t len, size_t at, const char *bytes, size_t n)
{
    return len >= at + n && memcmp(head + at, bytes, n) == 0;
}

/* ---- Matroska (RFC 8794) ---- */

/* Length of a variable-size integer by its first byte; 0: none. */
static size_t vint_len(uint8_t first)
{
    for (size_t n = 1; n <= 8; n++)
        if (first & (0x80u >> (n - 1)))
            return n;
    return 0;
}

/* The integer at head + at; false when it is not there. *unknown: all ones. */
static bool get_vint(const uint8_t *head, size_t len, size_t *at, uint64_t *out, bool *unknown)
{
    size_t n = *at < len ? vint_len(head[*at]) : 0;
    if (!n || len - *at < n)
        return false;
    uint64_t v = head[*at] & (0xffu >> n);
    for (size_t i = 1; i < n; i++)
        v = v << 8 | head[*at + i];
    *unknown = v == (UINT64_C(1) << (7 * n)) - 1;
    *at += n;
    *out = v;
    return true;
}

static bool get_id(const uint8_t *head, size_t len, size_t *at, uint32_t *out)
{
    size_t n = *at < len ? vint_len(head[*at]) : 0;
    if (!n || n > 4 || len - *at < n)
        return false;
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out = *out << 8 | head[(*at)++];
    return true;
}

/* The EBML header, then the segment, which says how long it is. */
static enum sg_error matroska(const uint8_t *head, size_t len, int64_t size,
                              const struct sgav_container **out, char why[SG_MEDIA_MESSAGE_MAX])
{
    enum { DOC_TYPE = 0x4282, SEGMENT = 0x18538067 };
    bool unknown, webm = false;
    uint64_t body, child;
    uint32_t id;
    size_t at = 4;
    if (!get_vint(head, len, &at, &body, &unknown) || unknown || body > len - at)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                         "The file is damaged: its Matroska header cannot be read.");
    size_t end = at + (size_t)body;
    while (at < end && get_id(head, end, &at, &id) && get_vint(head, end, &at, &child, &unknown) &&
           child <= end - at) {
        if (id == DOC_TYPE)
            webm = child >= 4 && memcmp(head + at, "webm", 4) == 0;
        at += (size_t)child;
    }
    at = end;
    if (get_id(head, len, &at, &id) && id == SEGMENT && get_vint(head, len, &at, &body, &unknown) &&
        !unknown && body > (uint64_t)size - (uint64_t)at)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                         "The file is cut short: its segment ends %llu bytes past its end.",
                         (unsigned long long)(body - ((uint64_t)size - at)));
    *out = &containers[webm ? WEBM : MATROSKA];
    return SG_OK;
}

/* ---- RIFF ---- */

/* Programs that write to a pipe leave the length at 0 or at its most. */
static enum sg_error riff(const uint8_t *head, int64_t size, int which,
                          const struct sgav_container **out, char why[SG_MEDIA_MESSAGE_MAX])
{
    uint32_t body = (uint32_t)head[7] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[5] << 8 |
                    (uint32_t)head[4];
    if (head[3] == 'F' && body != UINT32_MAX && (int64_t)body > size - 7) /* a pad byte may lack */
        return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                         "The file is cut short: it is %lld bytes, and says it is %llu.",
                         (long long)size, (unsigned long long)body + 8);
    *out = &containers[which];
    return SG_OK;
}

/* ---- sound in frames ---- */

/* Length of the frame whose header is at p (6 bytes); 0: it is none. ISO/IEC 14496-3 1.A.2.2. */
static size_t adts_len(const uint8_t *p)
{
    if (p[0] != 0xff || (p[1] & 0xf6) != 0xf0 || (p[2] >> 2 & 15) > 12)
        return 0;
    size_t len = (size_t)(p[3] & 3) << 11 | (size_t)p[4] << 3 | p[5] >> 5;
    return len > 7 ? len : 0;
}

/* ISO/IEC 11172-3 2.4.2.3, 13818-3 2.4.2.3. Layers II and III. */
static size_t mpeg_audio_len(const uint8_t *p)
{
    static const uint16_t rates[3] = {44100, 48000, 32000};
    static const uint16_t kbits[3][15] = {
        /* layer III, layer II of MPEG-1, both of MPEG-2 */
        {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
        {0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},
        {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
    };
    unsigned version = p[1] >> 3 & 3, layer = p[1] >> 1 & 3, bits = p[2] >> 4, rate = p[2] >> 2 & 3;
    if (p[0] != 0xff || (p[1] & 0xe0) != 0xe0 || version == 1 || layer == 0 || layer == 3 ||
        bits == 0 || bits == 15 || rate == 3)
        return 0;
    unsigned hertz = rates[rate] >> (version == 3 ? 0 : version == 2 ? 1 : 2);
    unsigned kbit = kbits[version != 3 ? 2 : layer == 1 ? 0 : 1][bits];
    unsigned per_frame = layer == 1 && version != 3 ? 72000 : 144000;
    return per_frame * kbit / hertz + (p[2] >> 1 & 1);
}

/* Two frames in a row, or one that is all there is. */
static bool frames_at(int fd, int64_t size, int64_t pos, size_t (*length)(const uint8_t *))
{
    uint8_t head[6];
    for (int n = 0; n < 2; n++) {
        if (pos == size && n > 0)
            return true;
        if (pread(fd, head, sizeof(head), pos) != (ssize_t)sizeof(head))
            return false;
        size_t len = length(head);
        if (!len)
            return false;
        pos += (int64_t)len;
    }
    return true;
}

/* A tag of ID3v2, if there is one, says nothing of what follows it. */
static const struct sgav_container *tagged(const uint8_t *head, size_t len, int fd, int64_t size)
{
    bool tag = len >= ID3_HEADER && begins(head, len, 0, "ID3", 3) && head[3] < 0xff &&
               !((head[6] | head[7] | head[8] | head[9]) & 0x80);
    int64_t pos = 0;
    if (tag)
        pos = ID3_HEADER +
              ((int64_t)head[6] << 21 | (int64_t)head[7] << 14 | (int64_t)head[8] << 7 | head[9]) +
              (head[5] & 0x10 ? ID3_HEADER : 0);
    uint8_t magic[4];
    if (pread(fd, magic, sizeof(magic), pos) == (ssize_t)sizeof(magic) &&
        memcmp(magic, "fLaC", 4) == 0)
        return &containers[FLAC];
    if (frames_at(fd, size, pos, adts_len))
        return &containers[ADTS];
    return tag || frames_at(fd, size, pos, mpeg_audio_len) ? &containers[MP3] : NULL;
}

static bool is_ts(const uint8_t *head, size_t len, size_t at, size_t packet)
{
    for (; at < len; at += packet)
        if (head[at] != 0x47)
            return false;
    return len > 2 * packet;
}

enum sg_error sgav_container_of(const uint8_t *head, size_t len, int fd, int64_t size,
                                const struct sgav_container **out, char why[SG_MEDIA_MESSAGE_MAX])
{
    bool riff_form = begins(head, len, 0, "RIFF", 4) || begins(head, len, 0, "RF64", 4);
    *out = NULL;
    if (begins(head, len, 0, "\x1a\x45\xdf\xa3", 4))
        return matroska(head, len, size, out, why);
    if (riff_form && begins(head, len, 8, "AVI ", 4))
        return riff(head, size, AVI, out, why);
    if (riff_form && begins(head, len, 8, "WAVE", 4))
        return riff(head, size, WAV, out, why);
    if (begins(head, len, 0, "OggS", 4))
        *out = &containers[OGG];
    else if (begins(head, len, 0, "FLV\x01", 4))
        *out = &containers[FLV];
    else if (begins(head, len, 0, "\x00\x00\x01\xba", 4))
        *out = &containers[MPEGPS];
    else if (is_ts(head, len, 0, TS_PACKET_BYTES) || is_ts(head, len, 4, M2TS_PACKET_BYTES))
        *out = &containers[MPEGTS];
    else
        *out = tagged(head, len, fd, size);
    return SG_OK;
}
