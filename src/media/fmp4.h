/* Samples, the rules that place frames outside an edit, and the movie fragment writer (ISO/IEC
 * 14496-12 8.8). No libav: pure functions. Segments are written by hand because every byte is then
 * known from the samples alone: sizes in the index need no muxing, no mfra is appended, and signed
 * composition offsets need no edit list. */
#ifndef STREAMGATE_MEDIA_FMP4_H
#define STREAMGATE_MEDIA_FMP4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"

enum { FMP4_EARLY_MAX = 1024 };

struct fmp4_sample {
    int64_t dts, pts; /* track timescale, source timeline */
    int64_t pos;      /* in the file */
    uint32_t size;
    bool key, discard; /* discard: outside the edit list; needed for decoding, not to be seen */
};

struct fmp4_fragment {
    bool video;
    uint32_t sequence; /* from 1 */
    uint32_t timescale;
    const struct fmp4_sample *samples;
    uint32_t n;
    int64_t end_dts; /* decode time at which the next fragment begins */
};

/* Bytes of a fragment without the samples' own. */
uint64_t fmp4_overhead(bool video, uint32_t n);
/* Writes moof and the mdat header: exactly fmp4_overhead bytes. The samples' bytes follow, in
 * order. INVALID when a time or size does not fit (decode times that do not rise, or before the
 * timeline's offset; an mdat of 4 GiB). */
enum sg_error fmp4_write_header(const struct fmp4_fragment *f, uint8_t *out,
                                size_t size) SG_NODISCARD;
/* When sample n of a track (from 0, in decode order) is decoded: at dts, but not much before the
 * timeline's offset. Of pictures far apart those that come first are said to be decoded as much
 * before time 0 as they are reordered by, which may be minutes; when they really are is of no
 * matter as long as the times rise and none is after its picture is shown. So those before the
 * earliest time there is room for are packed just after it, in their order; FMP4_EARLY_MAX of them
 * at most, more than any codec reorders by. Depends on nothing but the sample, as segments are made
 * one by one. */
int64_t fmp4_decode_time(int64_t dts, uint64_t n, uint32_t timescale);
/* Whether a decode time may be moved. */
bool fmp4_decode_early(int64_t dts, uint32_t timescale);
/* Moves the discarded frames of one segment (decode order) out of sight: those shown before the
 * first visible frame to just before it, others to just after the visible frame they follow, `step`
 * apart and in their order. Decode times stay rising and not after presentation times. Nothing
 * happens without discarded frames. NO_MEMORY. */
enum sg_error fmp4_squeeze(struct fmp4_sample *samples, uint32_t n,
                           uint32_t timescale) SG_NODISCARD;

#endif
