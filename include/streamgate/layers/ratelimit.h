/* Token buckets for millions of identifiers in bounded memory (64 bytes an identifier at most, under 200 ns a check). Sharded; a full
 * shard forgets the bucket that is fullest (forgetting a full bucket changes nothing). Thread-safe. */
#ifndef STREAMGATE_LAYERS_RATELIMIT_H
#define STREAMGATE_LAYERS_RATELIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/config.h"
#include "streamgate/base/error.h"

enum sg_limit_policy { SG_LIMIT_DEFAULT, SG_LIMIT_UPLOAD, SG_LIMIT_STREAMING, SG_LIMIT_METADATA, SG_LIMIT_CACHE, SG_LIMIT_AUTH, SG_LIMIT_COUNT };
enum sg_limit_scope { SG_SCOPE_IP, SG_SCOPE_USER };
const char *sg_limit_policy_name(enum sg_limit_policy p);

struct sg_ratelimit;
struct sg_limit_verdict {
    bool allowed;
    uint64_t limit, remaining;   /* whole tokens */
    uint64_t reset_ms;           /* until the bucket is full again */
    uint64_t retry_after_ms;     /* 0 when allowed; until one token is there */
};

/* Reads ratelimit.* of config. Defines the series of RATE_LIMIT_EXCEEDED. */
enum sg_error sg_ratelimit_create(const struct sg_config *config, struct sg_ratelimit **out) SG_NODISCARD;
void sg_ratelimit_destroy(struct sg_ratelimit **rl);
void sg_ratelimit_configure(struct sg_ratelimit *rl, const struct sg_config *config); /* SIGHUP: new rates, buckets kept */
/* id: 16 bytes: an IPv6 /64 (low half zero), a v4-mapped IPv4 address, or a user's ULID. Takes one token when allowed; counts refusals. When limits are
 * disabled every verdict is allowed, with true limit numbers. */
void sg_ratelimit_take(struct sg_ratelimit *rl, enum sg_limit_policy p, enum sg_limit_scope scope, const uint8_t id[16], struct sg_limit_verdict *out);
/* Takes `cost` tokens without asking (the bucket may go to zero, not below): for failed authentication. */
void sg_ratelimit_charge(struct sg_ratelimit *rl, enum sg_limit_policy p, enum sg_limit_scope scope, const uint8_t id[16], unsigned cost);
/* Would a take be allowed now? */
bool sg_ratelimit_peek(struct sg_ratelimit *rl, enum sg_limit_policy p, enum sg_limit_scope scope, const uint8_t id[16]);
uint64_t sg_ratelimit_identifiers(struct sg_ratelimit *rl);

#endif
