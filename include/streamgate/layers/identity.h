/* Who is asking. API keys (Authorization: Bearer sgk_...) through a memory of recent ones, and playback tokens. Thread-safe. Tokens and keys are compared in constant
 * time and never logged. */
#ifndef STREAMGATE_LAYERS_IDENTITY_H
#define STREAMGATE_LAYERS_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/clock.h"
#include "streamgate/layers/address.h"
#include "streamgate/store/db.h"
#include "streamgate/store/key_store.h"

struct sg_identity_params { struct sg_db *db; };
struct sg_identity_layer;

struct sg_identity {
    enum sg_role role;              /* NONE: anonymous */
    char user_id[SG_ULID_SIZE];     /* "" when anonymous */
    char user_name[SG_NAME_SIZE];
    char key_id[SG_ULID_SIZE];
};

enum sg_error sg_identity_create(const struct sg_identity_params *params, struct sg_identity_layer **out) SG_NODISCARD;
void sg_identity_destroy(struct sg_identity_layer **l);
/* token: what follows "Bearer ", len bytes. A memory hit answers at once. A miss answers WOULD_BLOCK unless may_block, then reads the database; unknown keys are remembered as
 * such for a short while. UNAUTHENTICATED: unknown, malformed, revoked or expired. Expiry is checked on each call. */
enum sg_error sg_identity_bearer(struct sg_identity_layer *l, const char *token, size_t len, bool may_block, struct sg_identity *out) SG_NODISCARD;
/* Forgets everything remembered (a key was revoked through this process). */
void sg_identity_forget(struct sg_identity_layer *l);
/* Call about once a second, where blocking is allowed: notices changes made by another process and writes back last-used times. */
void sg_identity_tick(struct sg_identity_layer *l);

/* Playback tokens: base64url of version, flags, asset (16 bytes), expiry (Unix seconds), nothing secret, and HMAC-SHA256 over that and, when bound, the client's address (layout in token.c). */
struct sg_token_signer;
#define SG_PLAYBACK_TOKEN_SIZE 128
/* Reads <data dir>/playback.key (0600), making it on the first start. */
enum sg_error sg_token_signer_create(int data_dirfd, struct sg_token_signer **out) SG_NODISCARD;
void sg_token_signer_destroy(struct sg_token_signer **s);
/* bind_to NULL: any address. asset_id: a ULID. */
enum sg_error sg_playback_token_make(const struct sg_token_signer *s, const char *asset_id, uint64_t expires_s, const struct sg_address *bind_to,
                                     char out[SG_PLAYBACK_TOKEN_SIZE]) SG_NODISCARD;
/* UNAUTHENTICATED: malformed, forged or expired. FORBIDDEN: genuine, but for another asset or another address. A token seen before costs a few hundred instructions, another an HMAC (a bound one two). */
enum sg_error sg_playback_token_check(const struct sg_token_signer *s, const char *token, size_t len, const char *asset_id,
                                      const struct sg_address *client) SG_NODISCARD;
/* No secret needed: length, alphabet, version and flags. For fuzzing and early refusal. UNAUTHENTICATED. */
struct sg_token_fields { uint8_t version, flags; uint8_t asset[16]; uint64_t expires_s; uint8_t mac[SG_SHA256_LEN]; };
enum sg_error sg_playback_token_parse(const char *token, size_t len, struct sg_token_fields *out) SG_NODISCARD;

#endif
