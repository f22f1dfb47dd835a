/* Health, metrics, version and the contract. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/metrics.h"
#include "streamgate/http/asset_view.h"
#include "streamgate/modules/modules.h"

#define MEDIA_PING_MS 2000

static uint32_t result_ready, result_not_ready, build_series;

static enum sg_error system_init(struct sg_services *svc)
{
    (void)svc;
    enum sg_error err = sg_metric_define(SG_METRIC_READY_CHECK, "result=\"ready\"", &result_ready);
    if (err == SG_OK)
        err = sg_metric_define(SG_METRIC_READY_CHECK, "result=\"not_ready\"", &result_not_ready);
    if (err == SG_OK)
        err = sg_metric_define(SG_METRIC_BUILD_INFO, "version=\"" SG_VERSION "\"", &build_series);
    if (err == SG_OK)
        sg_metric_gauge_set(SG_METRIC_BUILD_INFO, build_series, 1);
    return err;
}

static enum sg_error check_disk(struct sg_services *svc)
{
    uint64_t avail, total;
    enum sg_error err = sg_blob_space(svc->blobs, &avail, &total);
    if (err != SG_OK)
        return err;
    uint64_t keep = sg_config_uint(sg_services_config(svc), SG_SET_storage_min_free);
    return avail >= keep ? SG_OK : SG_ERR_NO_SPACE;
}

struct checks {
    enum sg_error db, disk, media, draining;
};

static bool run_checks(struct sg_services *svc, struct checks *c)
{
    c->db = sg_db_check(svc->db);
    c->disk = check_disk(svc);
    c->media = sg_media_pool_check(svc->media, MEDIA_PING_MS);
    c->draining = atomic_load(&svc->draining) ? SG_ERR_DRAINING : SG_OK;
    return c->db == SG_OK && c->disk == SG_OK && c->media == SG_OK && c->draining == SG_OK;
}

static const char *check_text(enum sg_error err)
{
    return err == SG_OK ? "ok" : sg_error_slug(err);
}

static enum sg_error live(struct sg_request *req, struct sg_response *res)
{
    (void)req;
    sg_metric_add(SG_METRIC_HEALTH_CHECK_SUCCESS, 0, 1);
    return sg_response_json(res, 200, json_pack("{s:s}", "status", "ok"));
}

static json_t *checks_json(struct sg_request *req, const struct checks *c, bool good)
{
    uint64_t up_ms = sg_clock_mono_ms() - req->svc->started_mono_ms;
    return json_pack("{s:s, s:f, s:{s:s, s:s, s:s, s:s}}", "status", good ? "ok" : "unavailable",
                     "uptime", (double)up_ms / 1000.0, "checks", "db", check_text(c->db), "disk",
                     check_text(c->disk), "media_workers", check_text(c->media), "draining",
                     check_text(c->draining));
}

static enum sg_error ready(struct sg_request *req, struct sg_response *res)
{
    struct checks c;
    bool good = run_checks(req->svc, &c);
    sg_metric_add(SG_METRIC_READY_CHECK, good ? result_ready : result_not_ready, 1);
    sg_metric_add(good ? SG_METRIC_HEALTH_CHECK_SUCCESS : SG_METRIC_HEALTH_CHECK_FAILED, 0, 1);
    return sg_response_json(res, good ? 200 : 503, checks_json(req, &c, good));
}

static enum sg_error version(struct sg_request *req, struct sg_response *res)
{
    (void)req;
    return sg_response_json(res, 200,
                            json_pack("{s:s, s:s}", "name", "streamgate", "version", SG_VERSION));
}

static enum sg_error metrics(struct sg_request *req, struct sg_response *res)
{
    const char *accept = sg_request_header(req, "accept");
    bool open = accept != NULL && strstr(accept, "application/openmetrics-text") != NULL;
    struct sg_text text = {0};
    sg_metrics_write(&text, open);
    if (text.failed) {
        sg_text_free(&text);
        return SG_ERR_NO_MEMORY;
    }
    struct sg_buf *buf = NULL;
    enum sg_error err = sg_buf_create_take(text.ptr, text.len, &buf);
    if (err != SG_OK) {
        sg_text_free(&text);
        return err;
    }
    sg_response_buf(res, 200,
                    open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                         : "text/plain; version=0.0.4; charset=utf-8",
                    buf);
    return SG_OK;
}

static enum sg_error openapi(struct sg_request *req, struct sg_response *res)
{
    struct sg_text text = {0};
    enum sg_error err = sg_openapi_write(req->svc->routes, &text);
    if (err == SG_OK)
        err = sg_response_text(res, 200, "application/json", text.ptr);
    sg_text_free(&text);
    return err;
}

static void system_tick(struct sg_services *svc)
{
    bool good = sg_db_check(svc->db) == SG_OK && check_disk(svc) == SG_OK &&
                sg_media_pool_alive(svc->media) > 0; /* a planned stop is no outage */
    sg_metric_gauge_set(SG_METRIC_SERVICE_HEALTH, 0, good ? 1 : 0);
    sg_metric_gauge_set(SG_METRIC_SERVICE_UPTIME, 0,
                        (double)(sg_clock_mono_ms() - svc->started_mono_ms) / 1000.0);
    sg_metric_gauge_set(SG_METRIC_BLOCKING_QUEUE, 0, (double)sg_pool_queued(svc->blocking));
}

#define HEALTH .method = SG_GET, .role = SG_ROLE_NONE, .unlimited = true
/* Readiness asks the media processes and the disk: limited, as it costs something. */
#define READINESS .method = SG_GET, .role = SG_ROLE_NONE, .limit = SG_LIMIT_DEFAULT

static const struct sg_route routes[] = {
    {READINESS, .path = "/health", .handle = ready, .blocking = true,
     .summary = "Health with each check; 503 when one fails"},
    {HEALTH, .path = "/health/live", .handle = live, .summary = "Liveness"},
    {READINESS, .path = "/health/ready", .handle = ready, .blocking = true,
     .summary = "Readiness: database, disk, media workers; 503 with the failing check"},
    {READINESS, .path = "/ready", .handle = ready, .blocking = true, .summary = "Readiness"},
    {HEALTH, .path = "/version", .handle = version, .summary = "Name and version"},
    {HEALTH, .path = "/metrics", .handle = metrics, .summary = "Prometheus or OpenMetrics text",
     .blocking = true, .response_type = "text/plain"},
    {.method = SG_GET,
     .role = SG_ROLE_NONE,
     .path = "/openapi.json",
     .handle = openapi,
     .blocking = true,
     .summary = "This contract"},
};

const struct sg_module sg_system_module = {.name = "system",
                                           .routes = routes,
                                           .n_routes = SG_ARRAY_LEN(routes),
                                           .init = system_init,
                                           .tick = system_tick};
