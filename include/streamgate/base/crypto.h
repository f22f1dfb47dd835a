/* Hashes, HMAC, randomness and constant-time comparison on OpenSSL 3. Thread-safe; a struct sg_sha256 has one owner. */
#ifndef STREAMGATE_BASE_CRYPTO_H
#define STREAMGATE_BASE_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"

#define SG_SHA256_LEN 32

void sg_random(void *out, size_t len); /* CSPRNG; buffered per thread; aborts the process only if the kernel has no randomness */

struct sg_sha256; /* streaming SHA-256 */
enum sg_error sg_sha256_create(struct sg_sha256 **out) SG_NODISCARD;
void sg_sha256_destroy(struct sg_sha256 **h);
void sg_sha256_update(struct sg_sha256 *h, const void *data, size_t len);
void sg_sha256_final(struct sg_sha256 *h, uint8_t out[SG_SHA256_LEN]); /* may be called on a running hash once */
enum sg_error sg_sha256_once(const void *data, size_t len, uint8_t out[SG_SHA256_LEN]) SG_NODISCARD;

/* Streaming digests that a protocol lets its clients choose from. MD5 and SHA-1 find broken transfers; they prove nothing against a forger. */
enum sg_digest_algorithm { SG_DIGEST_MD5, SG_DIGEST_SHA1, SG_DIGEST_SHA256, SG_DIGEST_ALGORITHMS };
#define SG_DIGEST_MAX 32
size_t sg_digest_len(enum sg_digest_algorithm a); /* of the result, in bytes */
struct sg_digest; /* one owner */
enum sg_error sg_digest_create(enum sg_digest_algorithm a, struct sg_digest **out) SG_NODISCARD; /* NO_MEMORY; UNAVAILABLE: the machine's OpenSSL does not offer it */
void sg_digest_destroy(struct sg_digest **d);
void sg_digest_update(struct sg_digest *d, const void *data, size_t len);
void sg_digest_final(struct sg_digest *d, uint8_t out[SG_DIGEST_MAX]); /* sg_digest_len bytes; once */

/* RFC 2104 with SHA-256. The key object precomputes the pads and may be used by many threads at once. */
struct sg_hmac_key;
enum sg_error sg_hmac_key_create(const void *key, size_t len, struct sg_hmac_key **out) SG_NODISCARD;
void sg_hmac_key_destroy(struct sg_hmac_key **key); /* wipes */
enum sg_error sg_hmac(const struct sg_hmac_key *key, const void *data, size_t len, uint8_t out[SG_SHA256_LEN]) SG_NODISCARD;

bool sg_equal_const_time(const void *a, const void *b, size_t len);
void sg_wipe(void *p, size_t len); /* not optimised away */

/* SipHash-2-4 under a per-process random key: for hash tables keyed by outside data. */
uint64_t sg_siphash(const void *data, size_t len);

#endif
