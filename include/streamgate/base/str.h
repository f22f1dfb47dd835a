/* Text from outside: strict number parsing, encodings, UTF-8, growing strings. All functions are pure and thread-safe
 * except struct sg_text, which has one owner. */
#ifndef STREAMGATE_BASE_STR_H
#define STREAMGATE_BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"

/* 1*DIGIT exactly: no sign, space, hex or overflow; len bytes of s. INVALID otherwise. */
enum sg_error sg_str_to_u64(const char *s, size_t len, uint64_t max, uint64_t *out) SG_NODISCARD;
/* "64KiB", "10MB", "5" -> bytes (KiB MiB GiB TiB binary; KB MB GB TB decimal; B or nothing bytes). INVALID on overflow. */
enum sg_error sg_str_to_bytes(const char *s, uint64_t *out) SG_NODISCARD;
/* "250ms", "10s", "5min", "12h", "30d", "10" (seconds) -> milliseconds. */
enum sg_error sg_str_to_ms(const char *s, uint64_t *out) SG_NODISCARD;
/* "0.5", "12" -> milliseconds from decimal seconds; at most three decimals are kept. For t= query parameters. */
enum sg_error sg_str_decimal_to_ms(const char *s, size_t len, uint64_t max_ms, uint64_t *out) SG_NODISCARD;

bool sg_str_is_utf8(const void *s, size_t len); /* RFC 3629: no overlong form, surrogate or value above U+10FFFF */
bool sg_str_has_control(const char *s, size_t len); /* C0, DEL or C1 (as UTF-8) */
size_t sg_utf8_length(const char *s, size_t len);   /* code points of valid UTF-8 */
bool sg_str_ieq(const char *a, const char *b);      /* ASCII case-insensitive */
bool sg_str_starts(const char *s, const char *prefix);
bool sg_str_istarts(const char *s, const char *prefix);

void sg_hex_encode(const uint8_t *in, size_t len, char *out); /* writes 2*len + NUL, lower case */
enum sg_error sg_hex_decode(const char *in, size_t len, uint8_t *out, size_t out_len) SG_NODISCARD; /* exact length */
/* RFC 4648. Encoders return the length written without NUL, or 0 when out_size (incl. NUL) does not suffice. Decoders are strict:
 * canonical padding (standard) or none (url), no white space, unused bits zero. */
size_t sg_base64_encode(const uint8_t *in, size_t len, char *out, size_t out_size);
size_t sg_base64url_encode(const uint8_t *in, size_t len, char *out, size_t out_size);
enum sg_error sg_base64_decode(const char *in, size_t len, uint8_t *out, size_t out_size, size_t *out_len) SG_NODISCARD;
enum sg_error sg_base64url_decode(const char *in, size_t len, uint8_t *out, size_t out_size, size_t *out_len) SG_NODISCARD;
/* RFC 3986 percent-decoding in place; returns the new length. INVALID on a bad escape, %00, or (if refuse_slash) %2F. */
enum sg_error sg_percent_decode(char *s, size_t len, bool refuse_slash, size_t *out_len) SG_NODISCARD;

/* Growing text. A zeroed struct is an empty text. After a failed append `failed` is set, the content is kept and later
 * appends do nothing: check once at the end. */
struct sg_text {
    char *ptr; /* NUL-terminated when non-NULL; malloc'ed */
    size_t len, cap;
    bool failed;
};
void sg_text_free(struct sg_text *t); /* back to empty */
void sg_text_append(struct sg_text *t, const char *s, size_t len);
void sg_text_puts(struct sg_text *t, const char *s);
void sg_text_printf(struct sg_text *t, const char *fmt, ...) SG_PRINTF(2, 3);

#endif
