/* The header fields of the tus resumable upload protocol 1.0.0 (https://tus.io/protocols/resumable-upload): strict, pure, without allocation. */
#ifndef STREAMGATE_HTTP_TUS_FIELDS_H
#define STREAMGATE_HTTP_TUS_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/crypto.h"
#include "streamgate/base/error.h"

/* Upload-Length, Upload-Offset: 1*DIGIT below 2^63. INVALID. */
enum sg_error sg_tus_number_parse(const char *value, uint64_t *out) SG_NODISCARD;

/* Upload-Metadata: "key base64, key base64, key". Pieces of the value, not copied. */
struct sg_tus_pair {
    const char *key; size_t key_len;
    const char *encoded; size_t encoded_len; /* canonical base64; length 0: an empty value */
};
#define SG_TUS_PAIRS_MAX 64
/* Keys are 1 to 255 visible ASCII characters, no comma, each at most once. INVALID, TOO_LARGE (too many pairs). An empty value is no pairs. */
enum sg_error sg_tus_metadata_parse(const char *value, struct sg_tus_pair out[SG_TUS_PAIRS_MAX], unsigned *n) SG_NODISCARD;
/* Decodes a pair's value into out (at least encoded_len / 4 * 3 bytes). INVALID. */
enum sg_error sg_tus_pair_decode(const struct sg_tus_pair *pair, uint8_t *out, size_t out_size, size_t *out_len) SG_NODISCARD;

/* Upload-Checksum: "sha1 base64". INVALID: malformed; UNAVAILABLE: an algorithm that is not offered. */
#define SG_TUS_ALGORITHMS "sha1,sha256,md5"
struct sg_tus_checksum { enum sg_digest_algorithm algorithm; uint8_t digest[SG_DIGEST_MAX]; };
enum sg_error sg_tus_checksum_parse(const char *value, struct sg_tus_checksum *out) SG_NODISCARD;

/* Upload-Concat: "partial", or "final;" and the URLs of the parts, separated by spaces. */
enum sg_tus_concat { SG_TUS_PARTIAL, SG_TUS_FINAL };
/* FINAL: *urls stands on the first URL. INVALID. */
enum sg_error sg_tus_concat_parse(const char *value, enum sg_tus_concat *out, const char **urls) SG_NODISCARD;
/* The next URL's upload id; moves *urls behind it. A URL is an absolute http(s) one or a path; what counts is that its path ends in `base` (such as "/api/v1/tus/") and an id. NOT_FOUND at the end; INVALID. */
enum sg_error sg_tus_concat_next(const char **urls, const char *base, char id[SG_ULID_SIZE]) SG_NODISCARD;

#endif
