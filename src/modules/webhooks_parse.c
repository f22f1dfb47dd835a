/* What people ask of webhooks, checked. */
#include <string.h>

#include "streamgate/base/validate.h"
#include "streamgate/layers/fetch.h"

#include "webhooks.h"

static enum sg_error take_text(struct sg_request *req, const char *name, const json_t *value,
                               const char **out)
{
    const char *s = json_string_value(value);
    if (s == NULL)
        return sg_request_fail(req, SG_ERR_INVALID, name, "must be a string");
    *out = sg_arena_strdup(req->arena, s);
    return *out != NULL ? SG_OK : SG_ERR_NO_MEMORY;
}

static enum sg_error take_url(struct sg_request *req, const char *name, const json_t *value,
                              struct webhooks_wish *w)
{
    enum sg_error err = take_text(req, name, value, &w->url);
    if (err != SG_OK)
        return err;
    const char *why = NULL;
    struct sg_cidr_list *allow = NULL;
    err = sg_cidr_list_parse(
        sg_config_string(sg_services_config(req->svc), SG_SET_webhook_allow_addresses), &allow);
    if (err == SG_OK)
        err = sg_fetch_check_url(w->url, allow, &why);
    sg_cidr_list_destroy(&allow);
    return why != NULL && (err == SG_ERR_INVALID || err == SG_ERR_FORBIDDEN)
               ? sg_request_fail(req, err, name, "%s", why)
               : err;
}

static enum sg_error take_description(struct sg_request *req, const char *name, const json_t *value,
                                      struct webhooks_wish *w)
{
    enum sg_error err = take_text(req, name, value, &w->description);
    const char *rule =
        err == SG_OK ? sg_validate_title(w->description, strlen(w->description)) : NULL;
    return rule != NULL ? sg_request_fail(req, SG_ERR_INVALID, name, "%s", rule) : err;
}

static enum sg_error take_event(struct sg_request *req, const char *name, const json_t *value,
                                uint32_t *events)
{
    const char *s = json_string_value(value);
    enum sg_webhook_type type;
    if (s != NULL && strcmp(s, "*") == 0) {
        *events = SG_WEBHOOK_ALL_EVENTS;
        return SG_OK;
    }
    if (s == NULL || sg_webhook_type_parse(s, &type) != SG_OK)
        return sg_request_fail(req, SG_ERR_INVALID, name,
                               "must hold \"*\" or names of events: asset.created, asset.ready, "
                               "asset.failed, asset.deleted, upload.completed, job.failed, "
                               "alert.raised, alert.resolved");
    bool alert = type == SG_WEBHOOK_ALERT_RAISED || type == SG_WEBHOOK_ALERT_RESOLVED;
    if (alert && req->identity.role < SG_ROLE_ADMIN)
        return sg_request_fail(req, SG_ERR_FORBIDDEN, name,
                               "only administrators' webhooks hear of alerts");
    *events |= 1u << type;
    return SG_OK;
}

static enum sg_error take_events(struct sg_request *req, const char *name, const json_t *value,
                                 struct webhooks_wish *w)
{
    const json_t *item;
    size_t i;
    if (!json_is_array(value) || json_array_size(value) == 0)
        return sg_request_fail(req, SG_ERR_INVALID, name, "must be an array that is not empty");
    w->has_events = true;
    json_array_foreach(value, i, item)
    {
        enum sg_error err = take_event(req, name, item, &w->events);
        if (err != SG_OK)
            return err;
    }
    return SG_OK;
}

static enum sg_error take_enabled(struct sg_request *req, const char *name, const json_t *value,
                                  struct webhooks_wish *w)
{
    if (!json_is_boolean(value))
        return sg_request_fail(req, SG_ERR_INVALID, name, "must be true or false");
    w->has_enabled = true;
    w->enabled = json_is_true(value);
    return SG_OK;
}

static const struct {
    const char *name;
    enum sg_error (*take)(struct sg_request *req, const char *name, const json_t *value,
                          struct webhooks_wish *w);
} members[] = {
    {"url", take_url},
    {"description", take_description},
    {"events", take_events},
    {"enabled", take_enabled},
};

enum sg_error webhooks_read_wish(struct sg_request *req, struct webhooks_wish *out)
{
    const char *names[SG_ARRAY_LEN(members) + 1] = {NULL};
    json_t *body = NULL;
    *out = (struct webhooks_wish){0};
    enum sg_error err = sg_request_json(req, false, &body);
    if (err != SG_OK)
        return err;
    for (size_t i = 0; i < SG_ARRAY_LEN(members); i++)
        names[i] = members[i].name;
    err = sg_request_only(req, body, names);
    for (size_t i = 0; i < SG_ARRAY_LEN(members) && err == SG_OK; i++) {
        const json_t *value = json_object_get(body, members[i].name);
        if (value != NULL)
            err = members[i].take(req, members[i].name, value, out);
    }
    json_decref(body);
    return err;
}
