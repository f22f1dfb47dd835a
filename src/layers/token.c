/* Playback tokens.
 *
 * Wire layout, base64url without padding (78 characters):
 *     0  version (1)
 *     1  flags (bit 0: bound to an address; the others zero)
 *     2  asset, 16 bytes
 *    18  expiry, Unix seconds, big endian, 8 bytes
 *    26  mac, 32 bytes
 * Unbound: mac is HMAC-SHA256 over bytes 0 to 25. Bound: mac is the first half of that, then the
 * first half of HMAC-SHA256 over bytes 0 to 25 and the 16-byte address; so a genuine token at the
 * wrong address can be told from a forged one, which is 403 against 401. Half of a SHA-256 MAC is
 * what RFC 2104 allows. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/layers/identity.h"

#include "key_file.h"
#include "token_memo.h"

enum {
    TOKEN_VERSION = 1,
    FLAG_BOUND = 0x01,
    ASSET_AT = 2,
    EXPIRY_AT = 18,
    SIGNED_LEN = 26,
    RAW_LEN = SIGNED_LEN + SG_SHA256_LEN,
    TEXT_LEN = (RAW_LEN * 4 + 2) / 3,
    HALF_MAC = SG_SHA256_LEN / 2
};
_Static_assert(TEXT_LEN == SG_TOKEN_TEXT_LEN, "one length");
_Static_assert(TEXT_LEN < SG_PLAYBACK_TOKEN_SIZE, "a token fits its buffer");

#define KEY_FILE "playback.key"

struct sg_token_signer {
    struct sg_hmac_key *key;
    struct sg_token_memo *memo;
};

enum sg_error sg_token_signer_create(int data_dirfd, struct sg_token_signer **out)
{
    uint8_t key[KEY_FILE_BYTES];
    struct sg_token_signer *s = calloc(1, sizeof *s);
    if (s == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = key_file_load(data_dirfd, KEY_FILE, key);
    if (err == SG_OK)
        err = sg_hmac_key_create(key, sizeof key, &s->key);
    sg_wipe(key, sizeof key);
    if (err == SG_OK)
        err = sg_token_memo_create(&s->memo);
    if (err == SG_OK) {
        *out = s;
        s = NULL;
    }
    sg_token_signer_destroy(&s);
    return err;
}

void sg_token_signer_destroy(struct sg_token_signer **s)
{
    if (s == NULL || *s == NULL)
        return;
    sg_hmac_key_destroy(&(*s)->key);
    sg_token_memo_destroy(&(*s)->memo);
    free(*s);
    *s = NULL;
}

/* The second half of a bound token's MAC. */
static enum sg_error bound_half(const struct sg_token_signer *s,
                                const uint8_t signed_part[SIGNED_LEN],
                                const struct sg_address *address, uint8_t out[HALF_MAC])
{
    uint8_t message[SIGNED_LEN + sizeof address->b];
    uint8_t mac[SG_SHA256_LEN];
    memcpy(message, signed_part, SIGNED_LEN);
    memcpy(message + SIGNED_LEN, address->b, sizeof address->b);
    enum sg_error err = sg_hmac(s->key, message, sizeof message, mac);
    if (err == SG_OK)
        memcpy(out, mac, HALF_MAC);
    return err;
}

enum sg_error sg_playback_token_make(const struct sg_token_signer *s, const char *asset_id,
                                     uint64_t expires_s, const struct sg_address *bind_to,
                                     char out[SG_PLAYBACK_TOKEN_SIZE])
{
    uint8_t raw[RAW_LEN] = {TOKEN_VERSION, bind_to != NULL ? FLAG_BOUND : 0};
    enum sg_error err = sg_ulid_parse(asset_id, raw + ASSET_AT);
    if (err != SG_OK)
        return err;
    for (unsigned i = 0; i < 8; i++)
        raw[EXPIRY_AT + i] = (uint8_t)(expires_s >> (56 - 8 * i));
    err = sg_hmac(s->key, raw, SIGNED_LEN, raw + SIGNED_LEN);
    if (err == SG_OK && bind_to != NULL)
        err = bound_half(s, raw, bind_to, raw + SIGNED_LEN + HALF_MAC);
    if (err != SG_OK)
        return err;
    return sg_base64url_encode(raw, sizeof raw, out, SG_PLAYBACK_TOKEN_SIZE) == TEXT_LEN
               ? SG_OK
               : SG_ERR_INTERNAL;
}

static enum sg_error decode(const char *token, size_t len, uint8_t raw[RAW_LEN])
{
    size_t raw_len;
    if (len != TEXT_LEN || sg_base64url_decode(token, len, raw, RAW_LEN, &raw_len) != SG_OK ||
        raw_len != RAW_LEN || raw[0] != TOKEN_VERSION || (raw[1] & ~FLAG_BOUND) != 0)
        return SG_ERR_UNAUTHENTICATED;
    return SG_OK;
}

static uint64_t expiry_of(const uint8_t raw[RAW_LEN])
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++)
        v = v << 8 | raw[EXPIRY_AT + i];
    return v;
}

enum sg_error sg_playback_token_parse(const char *token, size_t len, struct sg_token_fields *out)
{
    uint8_t raw[RAW_LEN];
    enum sg_error err = decode(token, len, raw);
    if (err != SG_OK)
        return err;
    struct sg_token_fields f = {.version = raw[0], .flags = raw[1], .expires_s = expiry_of(raw)};
    memcpy(f.asset, raw + ASSET_AT, sizeof f.asset);
    memcpy(f.mac, raw + SIGNED_LEN, sizeof f.mac);
    *out = f;
    return SG_OK;
}

static enum sg_error check_bound(const struct sg_token_signer *s, const uint8_t raw[RAW_LEN],
                                 const struct sg_address *client)
{
    if (client == NULL)
        return SG_ERR_FORBIDDEN;
    uint8_t half[HALF_MAC];
    enum sg_error err = bound_half(s, raw, client, half);
    if (err != SG_OK)
        return err;
    return sg_equal_const_time(half, raw + SIGNED_LEN + HALF_MAC, HALF_MAC) ? SG_OK
                                                                            : SG_ERR_FORBIDDEN;
}

/* The MAC of a token and what it claims; remembers unbound ones. */
static enum sg_error verify(const struct sg_token_signer *s, const char *token,
                            const uint8_t raw[RAW_LEN], struct sg_token_claim *out)
{
    uint8_t mac[SG_SHA256_LEN];
    enum sg_error err = sg_hmac(s->key, raw, SIGNED_LEN, mac);
    if (err != SG_OK)
        return err;
    bool bound = (raw[1] & FLAG_BOUND) != 0;
    if (!sg_equal_const_time(mac, raw + SIGNED_LEN, bound ? HALF_MAC : SG_SHA256_LEN))
        return SG_ERR_UNAUTHENTICATED;
    struct sg_token_claim claim;
    memset(&claim, 0, sizeof claim); /* padding too: it is kept as words */
    sg_ulid_format(raw + ASSET_AT, claim.asset);
    claim.expires_s = expiry_of(raw);
    if (!bound)
        sg_token_memo_put(s->memo, token, &claim);
    *out = claim;
    return SG_OK;
}

static enum sg_error check_claim(const struct sg_token_claim *claim, const char *asset_id)
{
    if (claim->expires_s <= sg_clock_wall_ms() / 1000)
        return SG_ERR_UNAUTHENTICATED;
    return strcmp(claim->asset, asset_id) == 0 ? SG_OK : SG_ERR_FORBIDDEN;
}

enum sg_error sg_playback_token_check(const struct sg_token_signer *s, const char *token,
                                      size_t len, const char *asset_id,
                                      const struct sg_address *client)
{
    uint8_t raw[RAW_LEN];
    struct sg_token_claim claim;
    if (len == TEXT_LEN && sg_token_memo_get(s->memo, token, &claim))
        return check_claim(&claim, asset_id);
    enum sg_error err = decode(token, len, raw);
    if (err == SG_OK)
        err = verify(s, token, raw, &claim);
    if (err == SG_OK)
        err = check_claim(&claim, asset_id);
    if (err == SG_OK && (raw[1] & FLAG_BOUND) != 0)
        err = check_bound(s, raw, client);
    return err;
}
