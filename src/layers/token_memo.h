/* Playback tokens found genuine before, so that a player's thousandth segment costs no HMAC.
 * Thread-safe, lock-free. */
#ifndef STREAMGATE_LAYERS_TOKEN_MEMO_H
#define STREAMGATE_LAYERS_TOKEN_MEMO_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/error.h"

#define SG_TOKEN_TEXT_LEN 78

struct sg_token_memo;
struct sg_token_claim {
    char asset[SG_ULID_SIZE];
    uint64_t expires_s;
};

enum sg_error sg_token_memo_create(struct sg_token_memo **out) SG_NODISCARD;
void sg_token_memo_destroy(struct sg_token_memo **m);
/* Whether this very text was put here; compared in constant time. */
bool sg_token_memo_get(struct sg_token_memo *m, const char text[SG_TOKEN_TEXT_LEN],
                       struct sg_token_claim *out);
/* The caller has verified the MAC, and the token is bound to no address. */
void sg_token_memo_put(struct sg_token_memo *m, const char text[SG_TOKEN_TEXT_LEN],
                       const struct sg_token_claim *claim);

#endif
