/* W3C Trace Context, level 1. A header is taken whole or not at all: any byte out of place begins a
 * new trace, as the specification asks. Only the sampled flag is carried on; the other bits are
 * reserved and leave as zero. */
#include "streamgate/layers/trace.h"

#include <endian.h>
#include <stddef.h>
#include <string.h>

#include "streamgate/base/crypto.h"

enum {
    VERSION_AT = 0,
    TRACE_AT = 3,
    SPAN_AT = 36,
    FLAGS_AT = 53,
    HEADER_LEN = 55,
    VERSION_INVALID = 0xff,
    FLAG_SAMPLED = 0x01
};

/* Hex, eight digits at a time in the lanes of a word: this runs on every request. */
#define LANES(byte) (UINT64_C(0x0101010101010101) * (byte))
#define EVEN_LANES UINT64_C(0x00ff00ff00ff00ff)
#define EVEN_PAIRS UINT64_C(0x0000ffff0000ffff)

/* A nibble in each lane to lower-case digits. */
static uint64_t digits_of(uint64_t nibbles)
{
    uint64_t letters = ((nibbles + LANES(6)) >> 4) & LANES(1);
    return nibbles + LANES('0') + letters * ('a' - '0' - 10);
}

/* False unless all eight are digits or lower-case letters: what does not come back the same was no
 * such digit. */
static bool read_eight(const char *s, uint8_t out[4])
{
    uint64_t text;
    memcpy(&text, s, sizeof text);
    text = le64toh(text);
    uint64_t nibbles = (text & LANES(0x0f)) + ((text >> 6) & LANES(1)) * 9;
    if ((nibbles & LANES(0xf0)) != 0 || digits_of(nibbles) != text)
        return false;
    uint64_t v = (nibbles << 4 | nibbles >> 8) & EVEN_LANES;
    v = (v | v >> 8) & EVEN_PAIRS;
    uint32_t bytes = htole32((uint32_t)(v | v >> 16));
    memcpy(out, &bytes, sizeof bytes);
    return true;
}

static void write_eight(const uint8_t in[4], char *out)
{
    uint32_t bytes;
    memcpy(&bytes, in, sizeof bytes);
    uint64_t v = le32toh(bytes);
    v = (v | v << 16) & EVEN_PAIRS;
    v = (v | v << 8) & EVEN_LANES;
    uint64_t text = digits_of((v >> 4 & LANES(0x0f)) | (v & EVEN_LANES & LANES(0x0f)) << 8);
    text = htole64(text);
    memcpy(out, &text, sizeof text);
}

/* One byte of two digits. */
static bool read_two(const char *s, uint8_t *out)
{
    char padded[8] = {s[0], s[1], '0', '0', '0', '0', '0', '0'};
    uint8_t bytes[4];
    if (!read_eight(padded, bytes))
        return false;
    *out = bytes[0];
    return true;
}

/* n is a multiple of 8. */
static bool all_zero(const uint8_t *b, size_t n)
{
    uint64_t any = 0;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word;
        memcpy(&word, b + i, sizeof word);
        any |= word;
    }
    return any == 0;
}

static void random_id(uint8_t *out, size_t n)
{
    do
        sg_random(out, n);
    while (all_zero(out, n));
}

static bool parse(const char *header, struct sg_trace *out)
{
    size_t len = strnlen(header, HEADER_LEN + 1);
    if (len < HEADER_LEN || header[2] != '-' || header[35] != '-' || header[52] != '-')
        return false;
    uint8_t version;
    uint8_t flags = 0;
    if (!read_two(header + VERSION_AT, &version) || version == VERSION_INVALID)
        return false;
    /* A later version may append fields, but only behind another dash. */
    if (len > HEADER_LEN && (version == 0 || header[HEADER_LEN] != '-'))
        return false;
    bool good = read_two(header + FLAGS_AT, &flags);
    for (size_t i = 0; i < sizeof out->trace_id; i += 4)
        good &= read_eight(header + TRACE_AT + 2 * i, out->trace_id + i);
    for (size_t i = 0; i < sizeof out->parent_id; i += 4)
        good &= read_eight(header + SPAN_AT + 2 * i, out->parent_id + i);
    if (!good)
        return false;
    if (all_zero(out->trace_id, sizeof out->trace_id) ||
        all_zero(out->parent_id, sizeof out->parent_id))
        return false;
    out->flags = flags & FLAG_SAMPLED;
    out->has_parent = true;
    return true;
}

void sg_trace_begin(const char *traceparent, struct sg_trace *out)
{
    struct sg_trace t = {0};
    if (traceparent == NULL || !parse(traceparent, &t)) {
        /* Not sampled: a trace begun here has no recorder that decided to keep it. */
        t = (struct sg_trace){0};
        random_id(t.trace_id, sizeof t.trace_id);
    }
    random_id(t.span_id, sizeof t.span_id);
    *out = t;
}

void sg_trace_format(const struct sg_trace *t, char out[SG_TRACEPARENT_SIZE])
{
    memcpy(out + VERSION_AT, "00-", 3);
    for (size_t i = 0; i < sizeof t->trace_id; i += 4)
        write_eight(t->trace_id + i, out + TRACE_AT + 2 * i);
    out[SPAN_AT - 1] = '-';
    for (size_t i = 0; i < sizeof t->span_id; i += 4)
        write_eight(t->span_id + i, out + SPAN_AT + 2 * i);
    out[FLAGS_AT - 1] = '-';
    out[FLAGS_AT] = '0';
    out[FLAGS_AT + 1] = (t->flags & FLAG_SAMPLED) != 0 ? '1' : '0';
    out[HEADER_LEN] = '\0';
}
