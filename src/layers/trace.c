/* W3C Trace Context, level 1. A header is taken whole or not at all: any byte out of place begins a
 * new trace, as the specification asks. Only the sampled flag is carried on; the other bits are
 * reserved and leave as zero. */
#include "streamgate/layers/trace.h"

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

/* Value + 1 of a lower-case hex digit, 0 for anything else: upper case is not allowed on the wire.
 */
static const uint8_t hex_value[256] = {
    ['0'] = 1, ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

static bool hex_bytes(const char *s, uint8_t *out, size_t n)
{
    bool good = true;
    for (size_t i = 0; i < n; i++) {
        unsigned high = hex_value[(unsigned char)s[2 * i]];
        unsigned low = hex_value[(unsigned char)s[2 * i + 1]];
        good &= high != 0 && low != 0;
        out[i] = (uint8_t)((high - 1) << 4 | ((low - 1) & 0x0f));
    }
    return good;
}

static bool all_zero(const uint8_t *b, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= b[i];
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
    uint8_t flags;
    if (!hex_bytes(header + VERSION_AT, &version, 1) || version == VERSION_INVALID)
        return false;
    /* A later version may append fields, but only behind another dash. */
    if (len > HEADER_LEN && (version == 0 || header[HEADER_LEN] != '-'))
        return false;
    if (!hex_bytes(header + TRACE_AT, out->trace_id, sizeof out->trace_id) ||
        !hex_bytes(header + SPAN_AT, out->parent_id, sizeof out->parent_id) ||
        !hex_bytes(header + FLAGS_AT, &flags, 1))
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

static char *put_hex(char *at, const uint8_t *b, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *at++ = digits[b[i] >> 4];
        *at++ = digits[b[i] & 0x0f];
    }
    return at;
}

void sg_trace_format(const struct sg_trace *t, char out[SG_TRACEPARENT_SIZE])
{
    char *at = out;
    *at++ = '0';
    *at++ = '0';
    *at++ = '-';
    at = put_hex(at, t->trace_id, sizeof t->trace_id);
    *at++ = '-';
    at = put_hex(at, t->span_id, sizeof t->span_id);
    *at++ = '-';
    at = put_hex(at, &t->flags, 1);
    *at = '\0';
}
