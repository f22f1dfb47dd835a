/* What the files of the webhooks module share. */
#ifndef WEBHOOKS_H
#define WEBHOOKS_H

#include "streamgate/http/request.h"
#include "streamgate/http/response.h"
#include "streamgate/http/route.h"
#include "streamgate/layers/webhooks.h"
#include "streamgate/store/webhook_store.h"

/* webhooks_view.c: as the API shows them; NULL: no memory. secret: shown when not NULL. */
json_t *webhooks_hook_json(const struct sg_webhook_fields *h, const char *secret);
json_t *webhooks_delivery_json(const struct sg_delivery_fields *d);
json_t *webhooks_page_json(json_t *items, const char *next_cursor); /* steals items */

/* webhooks_parse.c: what a body asks for; members that are absent are marked so. */
struct webhooks_wish {
    const char *url, *description; /* arena; NULL: absent */
    bool has_events, has_enabled, enabled;
    uint32_t events;
};
/* INVALID, FORBIDDEN with fail set. Blocks not. */
enum sg_error webhooks_read_wish(struct sg_request *req, struct webhooks_wish *out) SG_NODISCARD;

/* webhooks_api.c: the hook by the path's {id}, for its owner or an admin. Blocks. NOT_FOUND,
 * FORBIDDEN with fail set. */
enum sg_error webhooks_load(struct sg_request *req, struct sg_webhook **out) SG_NODISCARD;
/* Appends an audit event about a hook to the transaction that changes it. */
enum sg_error webhooks_audit(struct sg_db_conn *c, const struct sg_request *req, const char *action,
                             const char *hook_id) SG_NODISCARD;
/* "limit" and "cursor" of a list. */
struct webhooks_page {
    uint64_t limit;
    const char *before; /* NULL: from the newest on */
};
enum sg_error webhooks_read_page(struct sg_request *req, struct webhooks_page *out) SG_NODISCARD;

/* Handlers. */
enum sg_error webhooks_post(struct sg_request *req, struct sg_response *res);
enum sg_error webhooks_list(struct sg_request *req, struct sg_response *res);
enum sg_error webhooks_get(struct sg_request *req, struct sg_response *res);
enum sg_error webhooks_patch(struct sg_request *req, struct sg_response *res);
enum sg_error webhooks_delete(struct sg_request *req, struct sg_response *res);
enum sg_error webhooks_rotate(struct sg_request *req, struct sg_response *res);
/* webhooks_deliveries.c */
enum sg_error webhooks_test(struct sg_request *req, struct sg_response *res);
enum sg_error webhooks_deliveries(struct sg_request *req, struct sg_response *res);
enum sg_error webhooks_redeliver(struct sg_request *req, struct sg_response *res);

/* webhooks_alerts.c: alerts become events. */
enum sg_error webhooks_hear_alerts(struct sg_services *svc) SG_NODISCARD;

#endif
