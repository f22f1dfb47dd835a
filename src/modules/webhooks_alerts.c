/* Alerts as events for webhooks. The handler runs on the ticking thread, which shall not wait for a
 * disk: the event is written by a blocking thread. Only when those are gone, as the daemon stops,
 * it is written at once, and told by the next daemon. */
#include <stdlib.h>

#include "streamgate/base/json.h"
#include "streamgate/base/log.h"

#include "webhooks.h"

struct note {
    struct sg_db *db;
    struct sg_webhook_event event;
    char *data; /* malloc'ed */
};

static json_t *time_or_null(uint64_t ms)
{
    char text[SG_TIME_SIZE];
    if (ms == 0)
        return json_null();
    sg_time_rfc3339(ms, text);
    return json_string(text);
}

/* What only happened was never measured. */
static json_t *measure(const struct sg_alert *a, double value)
{
    return a->level == SG_ALERT_INFO ? json_null() : json_real(value);
}

static json_t *alert_json(const struct sg_alert *a)
{
    static const char *const levels[SG_ALERT_LEVELS] = {"info", "warning", "critical"};
    json_t *o = json_object();
    int bad = json_object_set_new(o, "id", json_string(a->id));
    bad |= json_object_set_new(o, "name", json_string(a->name));
    bad |= json_object_set_new(o, "level", json_string(levels[a->level]));
    bad |= json_object_set_new(o, "summary", json_string(a->summary));
    bad |= json_object_set_new(o, "value", measure(a, a->value));
    bad |= json_object_set_new(o, "threshold", measure(a, a->threshold));
    bad |= json_object_set_new(o, "raised_at", time_or_null(a->raised_ms));
    bad |= json_object_set_new(o, "resolved_at", time_or_null(a->resolved_ms));
    if (bad == 0)
        return o;
    json_decref(o);
    return NULL;
}

static enum sg_error emit(struct sg_db_conn *c, void *arg)
{
    const struct note *n = arg;
    return sg_webhook_emit(c, &n->event);
}

static void write_note(void *arg)
{
    struct note *n = arg;
    enum sg_error err = sg_db_write(n->db, emit, n);
    if (err != SG_OK)
        sg_warn_log("webhooks", "an alert is not told: %s", sg_error_title(err));
    free(n->data);
    free(n);
}

static void on_alert(void *arg, const struct sg_alert *alert, bool resolved)
{
    struct sg_services *svc = arg;
    struct note *n = calloc(1, sizeof *n);
    json_t *o = n != NULL ? alert_json(alert) : NULL;
    char *data = o != NULL ? sg_json_dump(o, NULL) : NULL;
    json_decref(o);
    if (data == NULL) {
        free(n);
        sg_warn_log("webhooks", "an alert is not told: %s", sg_error_title(SG_ERR_NO_MEMORY));
        return;
    }
    *n = (struct note){
        .db = svc->db,
        .data = data,
        .event = {.type = resolved ? SG_WEBHOOK_ALERT_RESOLVED : SG_WEBHOOK_ALERT_RAISED,
                  .owner = "",
                  .data = data,
                  .time_ms = sg_clock_wall_ms()}};
    if (svc->blocking == NULL || sg_pool_submit(svc->blocking, write_note, n) != SG_OK)
        write_note(n);
}

enum sg_error webhooks_hear_alerts(struct sg_services *svc)
{
    return sg_alerts_add_handler(
        svc->alerts,
        &(struct sg_alert_handler){.name = "webhooks", .notify = on_alert, .arg = svc});
}
