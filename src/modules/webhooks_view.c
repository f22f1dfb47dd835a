/* Webhooks and their deliveries as JSON. */
#include <string.h>

#include "streamgate/base/json.h"

#include "webhooks.h"

static json_t *time_or_null(uint64_t ms)
{
    char text[SG_TIME_SIZE];
    if (ms == 0)
        return json_null();
    sg_time_rfc3339(ms, text);
    return json_string(text);
}

static json_t *text_or_null(const char *s)
{
    return s[0] != '\0' ? json_string(s) : json_null();
}

static json_t *events_json(uint32_t events)
{
    json_t *list = json_array();
    int bad = list == NULL;
    if (events == SG_WEBHOOK_ALL_EVENTS) {
        bad |= json_array_append_new(list, json_string("*"));
        events = 0;
    }
    for (unsigned t = 0; t < SG_WEBHOOK_TYPE_COUNT; t++)
        if (events & (1u << t))
            bad |= json_array_append_new(
                list, json_string(sg_webhook_type_name((enum sg_webhook_type)t)));
    if (bad == 0)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *finished(json_t *o, int bad)
{
    if (bad == 0)
        return o;
    json_decref(o);
    return NULL;
}

json_t *webhooks_hook_json(const struct sg_webhook_fields *h, const char *secret)
{
    json_t *o = json_object();
    int bad = json_object_set_new(o, "id", json_string(h->id));
    bad |= json_object_set_new(o, "owner", json_string(h->owner));
    bad |= json_object_set_new(o, "url", json_string(h->url));
    bad |= json_object_set_new(o, "description", json_string(h->description));
    bad |= json_object_set_new(o, "events", events_json(h->events));
    bad |= json_object_set_new(o, "scope", json_string(h->everything ? "all" : "own"));
    bad |= json_object_set_new(o, "enabled", json_boolean(h->enabled));
    bad |= json_object_set_new(o, "disabled_reason", text_or_null(h->disabled_why));
    if (secret != NULL)
        bad |= json_object_set_new(o, "secret", json_string(secret));
    bool two = h->generation > 1 && h->previous_until_ms > sg_clock_wall_ms();
    bad |= json_object_set_new(o, "previous_secret_until",
                               time_or_null(two ? h->previous_until_ms : 0));
    bad |= json_object_set_new(o, "created_at", time_or_null(h->created_ms));
    bad |= json_object_set_new(o, "updated_at", time_or_null(h->updated_ms));
    return finished(o, bad);
}

static json_t *payload_json(const char *body)
{
    json_t *v = NULL;
    return sg_json_parse(body, strlen(body), &v, NULL) == SG_OK ? v : json_null();
}

json_t *webhooks_delivery_json(const struct sg_delivery_fields *d)
{
    bool pending = d->state == SG_DELIVERY_PENDING, tried = d->attempts > 0;
    json_t *o = json_object();
    int bad = json_object_set_new(o, "id", json_string(d->id));
    bad |= json_object_set_new(o, "webhook_id", json_string(d->hook_id));
    bad |= json_object_set_new(o, "event_id", json_string(d->event_id));
    bad |= json_object_set_new(o, "type", json_string(sg_webhook_type_name(d->type)));
    bad |= json_object_set_new(o, "state", json_string(sg_delivery_state_name(d->state)));
    bad |= json_object_set_new(o, "attempts", json_integer((json_int_t)d->attempts));
    bad |= json_object_set_new(o, "status",
                               d->status > 0 ? json_integer((json_int_t)d->status) : json_null());
    bad |= json_object_set_new(o, "error", text_or_null(d->error));
    bad |= json_object_set_new(o, "latency",
                               tried ? json_real((double)d->latency_ms / 1000.0) : json_null());
    bad |= json_object_set_new(o, "next_attempt_at", time_or_null(pending ? d->next_ms : 0));
    bad |= json_object_set_new(o, "created_at", time_or_null(d->created_ms));
    bad |= json_object_set_new(o, "updated_at", time_or_null(d->updated_ms));
    bad |= json_object_set_new(o, "ended_at", time_or_null(d->ended_ms));
    bad |= json_object_set_new(o, "payload", payload_json(d->body));
    return finished(o, bad);
}

json_t *webhooks_page_json(json_t *items, const char *next_cursor)
{
    json_t *o = json_object();
    int bad = json_object_set_new(o, "items", items);
    bad |= json_object_set_new(o, "next_cursor",
                               next_cursor != NULL ? json_string(next_cursor) : json_null());
    return finished(o, bad);
}
