/* The module of webhooks: its rows, and the life of what sends them (layers/webhooks.h). */
#include "webhooks.h"

#include "streamgate/base/metrics.h"
#include "streamgate/layers/fetch.h"
#include "streamgate/modules/modules.h"

static const struct sg_param_doc page_params[] = {
    {"limit", "integer", "1 to 200, 50 by default"},
    {"cursor", "string", "next_cursor of the previous page"},
};
static const struct sg_param_doc delivery_params[] = {
    {"state", "string", "pending, delivered or failed"},
    {"limit", "integer", "1 to 200, 50 by default"},
    {"cursor", "string", "next_cursor of the previous page"},
};

#define MEMBERS                                                                                    \
    "\"url\":{\"type\":\"string\",\"format\":\"uri\"},\"events\":{\"type\":\"array\","             \
    "\"minItems\":1,\"items\":{\"enum\":[\"*\",\"asset.created\",\"asset.ready\","                 \
    "\"asset.failed\",\"asset.deleted\",\"upload.completed\",\"job.failed\",\"alert.raised\","     \
    "\"alert.resolved\"]}},\"description\":{\"type\":\"string\"},\"enabled\":{\"type\":"           \
    "\"boolean\"}"
#define POST_SCHEMA                                                                                \
    "{\"type\":\"object\",\"required\":[\"url\"],\"properties\":{" MEMBERS                         \
    "},\"additionalProperties\":false}"
#define PATCH_SCHEMA                                                                               \
    "{\"type\":\"object\",\"properties\":{" MEMBERS "},\"additionalProperties\":false}"

#define HOOKS "/api/v1/webhooks"
#define ROW(m, p, fn)                                                                              \
    .method = m, .path = p, .handle = fn, .role = SG_ROLE_CREATOR, .blocking = true
static const struct sg_route routes[] = {
    {ROW(SG_POST, HOOKS, webhooks_post), .body = SG_BODY_JSON,
     .summary = "Make a webhook; the answer alone shows its secret", .request_schema = POST_SCHEMA,
     .success = 201},
    {ROW(SG_GET, HOOKS, webhooks_list), .summary = "List webhooks, newest first",
     .query = page_params, .n_query = SG_ARRAY_LEN(page_params)},
    {ROW(SG_GET, HOOKS "/{id}", webhooks_get), .summary = "Fetch one webhook"},
    {ROW(SG_PATCH, HOOKS "/{id}", webhooks_patch), .body = SG_BODY_JSON,
     .summary = "Change a webhook; what waits when it is disabled has failed",
     .request_schema = PATCH_SCHEMA},
    {ROW(SG_DELETE, HOOKS "/{id}", webhooks_delete),
     .summary = "Remove a webhook and its deliveries", .success = 204},
    {ROW(SG_POST, HOOKS "/{id}/rotate-secret", webhooks_rotate),
     .summary = "A new secret; the old one signs too for webhook.secret_overlap"},
    {ROW(SG_POST, HOOKS "/{id}/test", webhooks_test), .summary = "Send a ping event",
     .success = 202},
    {ROW(SG_GET, HOOKS "/{id}/deliveries", webhooks_deliveries),
     .summary = "List deliveries, newest first", .query = delivery_params,
     .n_query = SG_ARRAY_LEN(delivery_params)},
    {ROW(SG_POST, HOOKS "/{id}/deliveries/{delivery}/redeliver", webhooks_redeliver),
     .summary = "Send a delivery again, from the beginning", .success = 202},
};

static enum sg_error webhooks_init(struct sg_services *svc)
{
    enum sg_error err = sg_fetch_init();
    if (err != SG_OK)
        return err;
    err = sg_webhooks_create(svc->db, svc->data_dirfd, sg_services_config(svc), &svc->webhooks);
    if (err == SG_OK)
        err = webhooks_hear_alerts(svc);
    if (err == SG_OK)
        err = sg_webhooks_start(svc->webhooks);
    if (err != SG_OK) {
        sg_webhooks_destroy(&svc->webhooks);
        sg_fetch_end();
    }
    return err;
}

static enum sg_error count(struct sg_db_conn *c, void *arg)
{
    return sg_delivery_count_pending(c, arg);
}

static void webhooks_tick(struct sg_services *svc)
{
    uint64_t pending;
    sg_webhooks_configure(svc->webhooks, sg_services_config(svc));
    if (sg_db_read(svc->db, count, &pending) == SG_OK)
        sg_metric_gauge_set(SG_METRIC_WEBHOOK_PENDING, 0, (double)pending);
}

static void webhooks_shutdown(struct sg_services *svc)
{
    sg_webhooks_destroy(&svc->webhooks);
    sg_fetch_end();
}

const struct sg_module sg_webhooks_module = {.name = "webhooks",
                                             .routes = routes,
                                             .n_routes = SG_ARRAY_LEN(routes),
                                             .init = webhooks_init,
                                             .tick = webhooks_tick,
                                             .shutdown = webhooks_shutdown};
