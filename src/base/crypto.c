/* Hashes on OpenSSL 3 EVP. The algorithm is fetched once a process: an implicit fetch on each use
 * costs more than the hash of a short message. An HMAC key keeps the digest states after its two
 * pads; a computation copies them. */
#include "streamgate/base/crypto.h"

#include <endian.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "siphash.h"

#define SHA256_BLOCK 64
#define RANDOM_BUFFER                                                                              \
    512 /* bytes kept a thread: a ULID takes 10, so about 50 of them a system call */

/* Set once by init_once, constant afterwards. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256;
static pthread_key_t scratch_key;
static bool have_scratch_key;
static uint64_t sip_k0, sip_k1;

static void kernel_random(void *out, size_t len)
{
    uint8_t *p = out;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            abort(); /* going on with predictable keys and identifiers would be worse */
        }
        p += n;
        len -= (size_t)n;
    }
}

static void free_scratch(void *ctx)
{
    EVP_MD_CTX_free(ctx);
}

static void init_once(void)
{
    uint64_t key[2];
    kernel_random(key, sizeof(key));
    sip_k0 = key[0];
    sip_k1 = key[1];
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    have_scratch_key = pthread_key_create(&scratch_key, free_scratch) == 0;
}

static const EVP_MD *sha256_md(void)
{
    pthread_once(&once, init_once);
    return sha256;
}

void sg_random(void *out, size_t len)
{
    static _Thread_local uint8_t buffer[RANDOM_BUFFER];
    static _Thread_local size_t left;

    if (len > sizeof(buffer) / 2) {
        kernel_random(out, len);
        return;
    }
    if (len > left) {
        kernel_random(buffer, sizeof(buffer));
        left = sizeof(buffer);
    }
    /* Taken from the end and wiped: what was given out cannot be read back from here. */
    left -= len;
    memcpy(out, buffer + left, len);
    sg_wipe(buffer + left, len);
}

struct sg_sha256 {
    EVP_MD_CTX *ctx;
};

enum sg_error sg_sha256_create(struct sg_sha256 **out)
{
    struct sg_sha256 *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return SG_ERR_NO_MEMORY;
    h->ctx = EVP_MD_CTX_new();
    if (h->ctx == NULL || EVP_DigestInit_ex2(h->ctx, sha256_md(), NULL) != 1) {
        sg_sha256_destroy(&h);
        return SG_ERR_NO_MEMORY;
    }
    *out = h;
    return SG_OK;
}

void sg_sha256_destroy(struct sg_sha256 **h)
{
    if (h == NULL || *h == NULL)
        return;
    EVP_MD_CTX_free((*h)->ctx);
    free(*h);
    *h = NULL;
}

void sg_sha256_update(struct sg_sha256 *h, const void *data, size_t len)
{
    /* SHA-256 of an initialised context cannot fail; if it ever did, a wrong digest must not come
     * out of it. */
    if (EVP_DigestUpdate(h->ctx, data, len) != 1)
        abort();
}

void sg_sha256_final(struct sg_sha256 *h, uint8_t out[SG_SHA256_LEN])
{
    if (EVP_DigestFinal_ex(h->ctx, out, NULL) != 1)
        abort();
}

struct sg_digest {
    EVP_MD *md;
    EVP_MD_CTX *ctx;
};

static const struct {
    const char *name;
    size_t len;
} digests[SG_DIGEST_ALGORITHMS] = {
    [SG_DIGEST_MD5] = {"MD5", 16},
    [SG_DIGEST_SHA1] = {"SHA1", 20},
    [SG_DIGEST_SHA256] = {"SHA256", SG_SHA256_LEN},
};

size_t sg_digest_len(enum sg_digest_algorithm a)
{
    return digests[a].len;
}

enum sg_error sg_digest_create(enum sg_digest_algorithm a, struct sg_digest **out)
{
    struct sg_digest *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return SG_ERR_NO_MEMORY;
    d->md = EVP_MD_fetch(NULL, digests[a].name, NULL);
    if (d->md == NULL) {
        free(d);
        return SG_ERR_UNAVAILABLE;
    }
    d->ctx = EVP_MD_CTX_new();
    if (d->ctx == NULL || EVP_DigestInit_ex2(d->ctx, d->md, NULL) != 1) {
        sg_digest_destroy(&d);
        return SG_ERR_NO_MEMORY;
    }
    *out = d;
    return SG_OK;
}

void sg_digest_destroy(struct sg_digest **d)
{
    if (d == NULL || *d == NULL)
        return;
    EVP_MD_CTX_free((*d)->ctx);
    EVP_MD_free((*d)->md);
    free(*d);
    *d = NULL;
}

void sg_digest_update(struct sg_digest *d, const void *data, size_t len)
{
    if (EVP_DigestUpdate(d->ctx, data, len) != 1)
        abort(); /* as with sg_sha256_update */
}

void sg_digest_final(struct sg_digest *d, uint8_t out[SG_DIGEST_MAX])
{
    if (EVP_DigestFinal_ex(d->ctx, out, NULL) != 1)
        abort();
}

/* The calling thread's context for one-shot work, freed when the thread ends. */
static EVP_MD_CTX *thread_scratch(void)
{
    static _Thread_local EVP_MD_CTX *scratch;
    if (scratch != NULL)
        return scratch;
    if (sha256_md() == NULL || !have_scratch_key)
        return NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx == NULL)
        return NULL;
    if (pthread_setspecific(scratch_key, ctx) != 0) {
        EVP_MD_CTX_free(ctx);
        return NULL;
    }
    scratch = ctx;
    return ctx;
}

enum sg_error sg_sha256_once(const void *data, size_t len, uint8_t out[SG_SHA256_LEN])
{
    EVP_MD_CTX *ctx = thread_scratch();
    uint8_t digest[SG_SHA256_LEN];
    if (ctx == NULL || EVP_DigestInit_ex2(ctx, sha256_md(), NULL) != 1 ||
        EVP_DigestUpdate(ctx, data, len) != 1 || EVP_DigestFinal_ex(ctx, digest, NULL) != 1)
        return SG_ERR_NO_MEMORY;
    memcpy(out, digest, sizeof(digest));
    return SG_OK;
}

struct sg_hmac_key {
    EVP_MD_CTX *inner; /* after the block key ^ ipad; only ever copied from */
    EVP_MD_CTX *outer; /* after the block key ^ opad */
};

static EVP_MD_CTX *padded(const uint8_t key[SHA256_BLOCK], uint8_t pad)
{
    uint8_t block[SHA256_BLOCK];
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = key[i] ^ pad;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx != NULL && (EVP_DigestInit_ex2(ctx, sha256_md(), NULL) != 1 ||
                        EVP_DigestUpdate(ctx, block, sizeof(block)) != 1)) {
        EVP_MD_CTX_free(ctx);
        ctx = NULL;
    }
    sg_wipe(block, sizeof(block));
    return ctx;
}

enum sg_error sg_hmac_key_create(const void *key, size_t len, struct sg_hmac_key **out)
{
    uint8_t block[SHA256_BLOCK] = {0};
    if (len > sizeof(block)) {
        enum sg_error err = sg_sha256_once(key, len, block);
        if (err != SG_OK)
            return err;
    } else if (len > 0) {
        memcpy(block, key, len);
    }
    struct sg_hmac_key *k = calloc(1, sizeof(*k));
    if (k != NULL) {
        k->inner = padded(block, 0x36);
        k->outer = padded(block, 0x5C);
        if (k->inner == NULL || k->outer == NULL)
            sg_hmac_key_destroy(&k);
    }
    sg_wipe(block, sizeof(block));
    if (k == NULL)
        return SG_ERR_NO_MEMORY;
    *out = k;
    return SG_OK;
}

void sg_hmac_key_destroy(struct sg_hmac_key **key)
{
    if (key == NULL || *key == NULL)
        return;
    EVP_MD_CTX_free((*key)->inner); /* cleanses the state */
    EVP_MD_CTX_free((*key)->outer);
    free(*key);
    *key = NULL;
}

enum sg_error sg_hmac(const struct sg_hmac_key *key, const void *data, size_t len,
                      uint8_t out[SG_SHA256_LEN])
{
    EVP_MD_CTX *ctx = thread_scratch();
    uint8_t digest[SG_SHA256_LEN];
    if (ctx == NULL || EVP_MD_CTX_copy_ex(ctx, key->inner) != 1 ||
        EVP_DigestUpdate(ctx, data, len) != 1 || EVP_DigestFinal_ex(ctx, digest, NULL) != 1 ||
        EVP_MD_CTX_copy_ex(ctx, key->outer) != 1 ||
        EVP_DigestUpdate(ctx, digest, sizeof(digest)) != 1 ||
        EVP_DigestFinal_ex(ctx, digest, NULL) != 1)
        return SG_ERR_NO_MEMORY;
    memcpy(out, digest, sizeof(digest));
    return SG_OK;
}

bool sg_equal_const_time(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void sg_wipe(void *p, size_t len)
{
    explicit_bzero(p, len);
}

static uint64_t rotl(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

struct sip {
    uint64_t a, b, c, d;
};

/* By value: the state stays in registers. */
static inline struct sip sip_rounds(struct sip v, unsigned n)
{
    for (; n > 0; n--) {
        v.a += v.b;
        v.c += v.d;
        v.b = rotl(v.b, 13) ^ v.a;
        v.d = rotl(v.d, 16) ^ v.c;
        v.a = rotl(v.a, 32) + v.d;
        v.c += v.b;
        v.d = rotl(v.d, 21) ^ v.a;
        v.b = rotl(v.b, 17) ^ v.c;
        v.c = rotl(v.c, 32);
    }
    return v;
}

static uint64_t load_le(const uint8_t *p, size_t n)
{
    uint64_t x = 0;
    for (size_t i = 0; i < n; i++)
        x |= (uint64_t)p[i] << (8 * i);
    return x;
}

uint64_t sg_siphash_keyed(uint64_t k0, uint64_t k1, const void *data, size_t len)
{
    struct sip v = {
        .a = k0 ^ UINT64_C(0x736F6D6570736575),
        .b = k1 ^ UINT64_C(0x646F72616E646F6D),
        .c = k0 ^ UINT64_C(0x6C7967656E657261),
        .d = k1 ^ UINT64_C(0x7465646279746573),
    };
    const uint8_t *p = data;
    for (size_t words = len / 8; words > 0; words--, p += 8) {
        uint64_t m;
        memcpy(&m, p, sizeof(m)); /* one load; a loop over bytes costs four times as much */
        m = le64toh(m);
        v.d ^= m;
        v = sip_rounds(v, 2);
        v.a ^= m;
    }
    uint64_t last = load_le(p, len % 8) | (uint64_t)len << 56;
    v.d ^= last;
    v = sip_rounds(v, 2);
    v.a ^= last;
    v.c ^= 0xFF;
    v = sip_rounds(v, 4);
    return v.a ^ v.b ^ v.c ^ v.d;
}

uint64_t sg_siphash(const void *data, size_t len)
{
    pthread_once(&once, init_once);
    return sg_siphash_keyed(sip_k0, sip_k1, data, len);
}
