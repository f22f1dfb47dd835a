/* Little-endian cursors for what crosses the boundary to the media process: the index and the
 * calls. A cursor that runs out remembers it (`failed`) and gives zeroes, so a decoder reads
 * everything and checks once. One owner. */
#ifndef STREAMGATE_MEDIA_WIRE_H
#define STREAMGATE_MEDIA_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct wire_out {
    uint8_t *ptr;
    size_t len, cap;
    bool failed;
};

struct wire_in {
    const uint8_t *ptr;
    size_t len;
    bool failed;
};

static inline void wire_put(struct wire_out *w, uint64_t value, unsigned bytes)
{
    if (w->failed || w->cap - w->len < bytes) {
        w->failed = true;
        return;
    }
    for (unsigned i = 0; i < bytes; i++)
        w->ptr[w->len++] = (uint8_t)(value >> (8 * i));
}

static inline void wire_put_u8(struct wire_out *w, uint8_t v)
{
    wire_put(w, v, 1);
}

static inline void wire_put_u16(struct wire_out *w, uint16_t v)
{
    wire_put(w, v, 2);
}

static inline void wire_put_u32(struct wire_out *w, uint32_t v)
{
    wire_put(w, v, 4);
}

static inline void wire_put_u64(struct wire_out *w, uint64_t v)
{
    wire_put(w, v, 8);
}

static inline void wire_put_i64(struct wire_out *w, int64_t v)
{
    wire_put(w, (uint64_t)v, 8);
}

/* One length byte, then the characters. */
static inline void wire_put_text(struct wire_out *w, const char *s)
{
    size_t len = strlen(s);
    if (len > UINT8_MAX || w->failed || w->cap - w->len < len + 1) {
        w->failed = true;
        return;
    }
    w->ptr[w->len++] = (uint8_t)len;
    memcpy(w->ptr + w->len, s, len);
    w->len += len;
}

static inline uint64_t wire_get(struct wire_in *r, unsigned bytes)
{
    if (r->failed || r->len < bytes) {
        r->failed = true;
        return 0;
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)r->ptr[i] << (8 * i);
    r->ptr += bytes;
    r->len -= bytes;
    return value;
}

static inline uint8_t wire_get_u8(struct wire_in *r)
{
    return (uint8_t)wire_get(r, 1);
}

static inline uint16_t wire_get_u16(struct wire_in *r)
{
    return (uint16_t)wire_get(r, 2);
}

static inline uint32_t wire_get_u32(struct wire_in *r)
{
    return (uint32_t)wire_get(r, 4);
}

static inline uint64_t wire_get_u64(struct wire_in *r)
{
    return wire_get(r, 8);
}

static inline int64_t wire_get_i64(struct wire_in *r)
{
    return (int64_t)wire_get(r, 8);
}

static inline bool wire_get_bool(struct wire_in *r)
{
    uint8_t v = wire_get_u8(r);
    if (v > 1)
        r->failed = true;
    return v == 1;
}

/* Into out[size], NUL-terminated; a text that does not fit or holds a NUL fails the cursor. */
static inline void wire_get_text(struct wire_in *r, char *out, size_t size)
{
    size_t len = wire_get_u8(r);
    if (r->failed || len >= size || r->len < len || (len && memchr(r->ptr, 0, len))) {
        r->failed = true;
        out[0] = 0;
        return;
    }
    memcpy(out, r->ptr, len);
    out[len] = 0;
    r->ptr += len;
    r->len -= len;
}

#endif
