/* Webhooks on their way out: one thread that makes deliveries of events (store/webhook_store.h) and posts them, signed by the Standard Webhooks specification (standardwebhooks.com), until the
 * receiver says 2xx or the time is over. Thread-safe. sg_fetch_init comes first. */
#ifndef STREAMGATE_LAYERS_WEBHOOKS_H
#define STREAMGATE_LAYERS_WEBHOOKS_H

#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/config.h"
#include "streamgate/base/crypto.h"
#include "streamgate/store/db.h"

struct sg_webhooks;
/* Reads <data dir>/webhook.key (0600), making it on the first start. */
enum sg_error sg_webhooks_create(struct sg_db *db, int data_dirfd, const struct sg_config *config, struct sg_webhooks **out) SG_NODISCARD;
enum sg_error sg_webhooks_start(struct sg_webhooks *w) SG_NODISCARD; /* watches the database for events, too (sg_db_watch) */
void sg_webhooks_configure(struct sg_webhooks *w, const struct sg_config *config); /* cheap when nothing changed */
/* What somebody asked for may be due now: looks at once, also for hooks whose receivers failed just now. */
void sg_webhooks_nudge(struct sg_webhooks *w);
/* Begins nothing new, gives what is under way two seconds, joins. What did not end is sent again by the next daemon. NULL is fine. */
void sg_webhooks_destroy(struct sg_webhooks **w);

/* ---- secrets and signatures ---- */

#define SG_WEBHOOK_SECRET_SIZE 51 /* "whsec_" + base64 of 32 bytes + NUL */
/* A hook's secret of that generation: derived from the data directory's key, so the database holds none. */
enum sg_error sg_webhooks_secret(const struct sg_webhooks *w, const char *hook_id, uint32_t generation, char out[SG_WEBHOOK_SECRET_SIZE]) SG_NODISCARD;

#define SG_WEBHOOK_SIGNATURE_SIZE 48 /* "v1," + base64 of 32 bytes + NUL */
struct sg_webhook_message { const char *id; uint64_t timestamp_s; const char *body; size_t body_len; };
/* "v1,<base64 of HMAC-SHA256 under the secret's bytes over id.timestamp.body>". INVALID: not a secret ("whsec_" and base64 of 1 to 64 bytes). NO_MEMORY. */
enum sg_error sg_webhook_sign(const char *secret, const struct sg_webhook_message *m, char out[SG_WEBHOOK_SIGNATURE_SIZE]) SG_NODISCARD;

#endif
