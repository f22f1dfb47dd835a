/* Who may write to which part of an unfinished upload. A newer request takes a part over from an
 * older one, which may hang on a dead link: the older one is superseded, at the latest when the
 * write or commit it is in has ended, and never writes again. Thread-safe; the header comments say
 * what blocks. */
#ifndef UPLOAD_CLAIMS_H
#define UPLOAD_CLAIMS_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/error.h"

#define UPLOAD_SLOT_ALL UINT64_MAX /* every part at once: completion, abort, expiry; tus bodies */

struct upload_claims;
struct upload_claim;

enum sg_error upload_claims_create(struct upload_claims **out) SG_NODISCARD;
void upload_claims_destroy(struct upload_claims **t); /* no claim is left */

/* slot: a chunk's number, or UPLOAD_SLOT_ALL. Blocks while an older claim on the same part is
 * within enter and leave. UNAVAILABLE when too many wait already. NO_MEMORY. */
enum sg_error upload_claim_take(struct upload_claims *t, const char *id, uint64_t slot,
                                struct upload_claim **out) SG_NODISCARD;
/* The same, but leaves an upload alone on which anybody has a claim: CONFLICT. Does not block. */
enum sg_error upload_claim_try(struct upload_claims *t, const char *id, uint64_t slot,
                               struct upload_claim **out) SG_NODISCARD;
/* Around each write and each commit. SUPERSEDED: write nothing, answer that. */
enum sg_error upload_claim_enter(struct upload_claim *c) SG_NODISCARD;
void upload_claim_leave(struct upload_claim *c);
void upload_claim_release(struct upload_claim **c); /* NULL inside is fine */

#endif
