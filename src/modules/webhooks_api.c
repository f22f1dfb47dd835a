/* Webhooks over HTTP: made, shown, changed, removed, given another secret. Users see and change
 * their own, administrators all of them. A secret is shown when it is made and never again. */
#include <stdio.h>
#include <string.h>

#include "streamgate/base/validate.h"
#include "streamgate/store/audit_store.h"

#include "webhooks.h"

struct change {
    const struct sg_request *req;
    const char *id;
    struct sg_webhook_fields f;
    struct webhooks_wish wish;
    uint64_t max, now_ms, until_ms;
    struct sg_webhook *got;
};

enum sg_error webhooks_audit(struct sg_db_conn *c, const struct sg_request *req, const char *action,
                             const char *hook_id)
{
    char resource[sizeof "webhook/" + SG_ULID_SIZE];
    (void)snprintf(resource, sizeof resource, "webhook/%s", hook_id);
    return sg_audit_append(c, &(struct sg_audit_event){.event_type = "data",
                                                       .actor = req->identity.user_id,
                                                       .action = action,
                                                       .resource = resource,
                                                       .result = "success",
                                                       .request_id = req->id});
}

static enum sg_error read_hook(struct sg_db_conn *c, void *arg)
{
    struct change *k = arg;
    return sg_webhook_get(c, k->id, &k->got);
}

static enum sg_error no_hook(struct sg_request *req)
{
    return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "there is no webhook of this id");
}

enum sg_error webhooks_load(struct sg_request *req, struct sg_webhook **out)
{
    struct change k = {.id = sg_request_param(req, "id")};
    enum sg_error err = SG_ERR_NOT_FOUND;
    if (sg_validate_ulid(k.id, strlen(k.id)) == NULL)
        err = sg_db_read(req->svc->db, read_hook, &k);
    if (err == SG_ERR_NOT_FOUND)
        return no_hook(req);
    if (err != SG_OK)
        return err;
    if (req->identity.role < SG_ROLE_ADMIN && strcmp(k.got->f.owner, req->identity.user_id) != 0) {
        sg_webhook_free(&k.got);
        return sg_request_fail(req, SG_ERR_FORBIDDEN, NULL, "the webhook is another user's");
    }
    *out = k.got;
    return SG_OK;
}

static enum sg_error answer(struct sg_request *req, struct sg_response *res, unsigned status,
                            const struct sg_webhook_fields *f, bool with_secret)
{
    char secret[SG_WEBHOOK_SECRET_SIZE] = "";
    enum sg_error err = SG_OK;
    if (with_secret)
        err = sg_webhooks_secret(req->svc->webhooks, f->id, f->generation, secret);
    if (err == SG_OK)
        err = sg_response_json(res, status, webhooks_hook_json(f, with_secret ? secret : NULL));
    sg_wipe(secret, sizeof secret);
    return err;
}

/* ---- making ---- */

static enum sg_error insert(struct sg_db_conn *c, void *arg)
{
    struct change *k = arg;
    enum sg_error err = sg_webhook_insert(c, &k->f, k->max);
    return err != SG_OK ? err : webhooks_audit(c, k->req, "webhook.create", k->f.id);
}

enum sg_error webhooks_post(struct sg_request *req, struct sg_response *res)
{
    struct change k = {
        .req = req, .max = sg_config_uint(sg_services_config(req->svc), SG_SET_webhook_max_hooks)};
    enum sg_error err = webhooks_read_wish(req, &k.wish);
    if (err == SG_OK && k.wish.url == NULL)
        err = sg_request_fail(req, SG_ERR_INVALID, "url", "must be there");
    if (err != SG_OK)
        return err;
    const struct webhooks_wish *w = &k.wish;
    k.f = (struct sg_webhook_fields){
        .url = w->url,
        .description = w->description != NULL ? w->description : "",
        .events = w->has_events ? w->events : SG_WEBHOOK_ALL_EVENTS,
        .everything = req->identity.role >= SG_ROLE_ADMIN,
        .enabled = !w->has_enabled || w->enabled,
        .disabled_why = "",
        .generation = 1,
        .created_ms = sg_clock_wall_ms(),
    };
    k.f.updated_ms = k.f.created_ms;
    sg_ulid_make(k.f.id);
    memcpy(k.f.owner, req->identity.user_id, SG_ULID_SIZE);
    err = sg_db_write(req->svc->db, insert, &k);
    if (err == SG_ERR_CONFLICT)
        return sg_request_fail(req, err, NULL, "you have as many webhooks as one may have");
    if (err == SG_OK)
        err = answer(req, res, 201, &k.f, true);
    if (err != SG_OK)
        return err;
    return sg_response_headerf(req, res, "Location", "/api/v1/webhooks/%s", k.f.id);
}

/* ---- showing ---- */

enum sg_error webhooks_get(struct sg_request *req, struct sg_response *res)
{
    struct sg_webhook *h = NULL;
    enum sg_error err = webhooks_load(req, &h);
    if (err == SG_OK)
        err = answer(req, res, 200, &h->f, false);
    sg_webhook_free(&h);
    return err;
}

struct listing {
    const char *owner;
    struct webhooks_page page;
    struct sg_webhook_list list;
};

static enum sg_error list(struct sg_db_conn *c, void *arg)
{
    struct listing *l = arg;
    return sg_webhook_list(c, l->owner, l->page.before, (unsigned)l->page.limit + 1, &l->list);
}

enum sg_error webhooks_read_page(struct sg_request *req, struct webhooks_page *out)
{
    out->before = NULL;
    enum sg_error err = sg_request_query(req, "cursor", &out->before);
    if (err == SG_OK)
        err = sg_request_query_u64(req, "limit", 1, 200, 50, &out->limit);
    if (err == SG_OK && out->before != NULL &&
        sg_validate_ulid(out->before, strlen(out->before)) != NULL)
        err = sg_request_fail(req, SG_ERR_INVALID, "cursor", "is not one of this list's cursors");
    return err;
}

enum sg_error webhooks_list(struct sg_request *req, struct sg_response *res)
{
    struct listing l = {.owner = req->identity.role < SG_ROLE_ADMIN ? req->identity.user_id : NULL};
    enum sg_error err = webhooks_read_page(req, &l.page);
    if (err == SG_OK)
        err = sg_db_read(req->svc->db, list, &l);
    if (err != SG_OK)
        return err;
    size_t shown = l.list.n > l.page.limit ? (size_t)l.page.limit : l.list.n;
    json_t *items = json_array();
    int bad = items == NULL;
    for (size_t i = 0; i < shown; i++)
        bad |= json_array_append_new(items, webhooks_hook_json(&l.list.items[i]->f, NULL));
    if (bad) {
        json_decref(items);
        items = NULL;
    }
    const char *next = l.list.n > shown ? l.list.items[shown - 1]->f.id : NULL;
    err = sg_response_json(res, 200, webhooks_page_json(items, next));
    sg_webhook_list_free(&l.list);
    return err;
}

/* ---- changing ---- */

static enum sg_error update(struct sg_db_conn *c, void *arg)
{
    struct change *k = arg;
    const struct webhooks_wish *w = &k->wish;
    sg_webhook_free(&k->got);
    enum sg_error err = sg_webhook_get(c, k->id, &k->got);
    if (err != SG_OK)
        return err;
    struct sg_webhook_fields *f = &k->got->f;
    f->url = w->url != NULL ? w->url : f->url;
    f->description = w->description != NULL ? w->description : f->description;
    f->events = w->has_events ? w->events : f->events;
    if (w->has_enabled) {
        f->enabled = w->enabled;
        f->disabled_why = "";
    }
    f->updated_ms = k->now_ms;
    err = sg_webhook_update(c, f);
    return err != SG_OK ? err : webhooks_audit(c, k->req, "webhook.update", k->id);
}

enum sg_error webhooks_patch(struct sg_request *req, struct sg_response *res)
{
    struct change k = {.req = req, .id = sg_request_param(req, "id"), .now_ms = sg_clock_wall_ms()};
    enum sg_error err = webhooks_load(req, &k.got);
    if (err == SG_OK)
        err = webhooks_read_wish(req, &k.wish);
    if (err == SG_OK)
        err = sg_db_write(req->svc->db, update, &k);
    if (err == SG_OK) {
        sg_webhooks_nudge(req->svc->webhooks); /* another URL may answer where the last did not */
        err = answer(req, res, 200, &k.got->f, false);
    }
    sg_webhook_free(&k.got);
    return err == SG_ERR_NOT_FOUND ? no_hook(req) : err;
}

static enum sg_error rotate(struct sg_db_conn *c, void *arg)
{
    struct change *k = arg;
    sg_webhook_free(&k->got);
    enum sg_error err = sg_webhook_rotate(c, k->id, k->now_ms, k->until_ms);
    if (err == SG_OK)
        err = sg_webhook_get(c, k->id, &k->got);
    return err != SG_OK ? err : webhooks_audit(c, k->req, "webhook.rotate-secret", k->id);
}

enum sg_error webhooks_rotate(struct sg_request *req, struct sg_response *res)
{
    uint64_t now_ms = sg_clock_wall_ms();
    struct change k = {.req = req,
                       .id = sg_request_param(req, "id"),
                       .now_ms = now_ms,
                       .until_ms = now_ms + sg_config_uint(sg_services_config(req->svc),
                                                           SG_SET_webhook_secret_overlap)};
    enum sg_error err = webhooks_load(req, &k.got);
    if (err == SG_OK)
        err = sg_db_write(req->svc->db, rotate, &k);
    if (err == SG_OK)
        err = answer(req, res, 200, &k.got->f, true);
    sg_webhook_free(&k.got);
    return err == SG_ERR_NOT_FOUND ? no_hook(req) : err;
}

static enum sg_error erase(struct sg_db_conn *c, void *arg)
{
    struct change *k = arg;
    enum sg_error err = sg_webhook_remove(c, k->id, k->now_ms);
    return err != SG_OK ? err : webhooks_audit(c, k->req, "webhook.delete", k->id);
}

enum sg_error webhooks_delete(struct sg_request *req, struct sg_response *res)
{
    struct change k = {.req = req, .id = sg_request_param(req, "id"), .now_ms = sg_clock_wall_ms()};
    enum sg_error err = webhooks_load(req, &k.got);
    sg_webhook_free(&k.got);
    if (err == SG_OK)
        err = sg_db_write(req->svc->db, erase, &k);
    if (err == SG_OK) {
        sg_webhooks_nudge(req->svc->webhooks); /* its deliveries go next */
        sg_response_empty(res, 204);
    }
    return err == SG_ERR_NOT_FOUND ? no_hook(req) : err;
}
