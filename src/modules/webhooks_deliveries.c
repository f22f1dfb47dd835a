/* The log of deliveries, trying one again, and trying whether anything arrives at all. */
#include <string.h>

#include "streamgate/base/validate.h"

#include "webhooks.h"

struct work {
    const struct sg_request *req;
    const char *hook_id;
    char id[SG_ULID_SIZE];
    uint64_t now_ms;
    struct sg_delivery *got;
    struct sg_delivery_query q;
    struct sg_delivery_list list;
};

static enum sg_error answer(struct sg_response *res, struct work *k)
{
    enum sg_error err = sg_response_json(res, 202, webhooks_delivery_json(&k->got->f));
    sg_delivery_free(&k->got);
    return err;
}

static enum sg_error say_disabled(struct sg_request *req)
{
    return sg_request_fail(req, SG_ERR_CONFLICT, NULL, "the webhook is disabled; enable it first");
}

static enum sg_error ping(struct sg_db_conn *c, void *arg)
{
    struct work *k = arg;
    const struct sg_webhook_event e = {
        .type = SG_WEBHOOK_PING, .owner = "", .data = "{}", .time_ms = k->now_ms};
    sg_delivery_free(&k->got);
    enum sg_error err = sg_webhook_emit_to(c, k->hook_id, &e, k->id);
    if (err == SG_OK)
        err = sg_delivery_get(c, k->hook_id, k->id, &k->got);
    return err != SG_OK ? err : webhooks_audit(c, k->req, "webhook.test", k->hook_id);
}

enum sg_error webhooks_test(struct sg_request *req, struct sg_response *res)
{
    struct sg_webhook *h = NULL;
    enum sg_error err = webhooks_load(req, &h);
    if (err != SG_OK)
        return err;
    struct work k = {.req = req, .hook_id = h->f.id, .now_ms = sg_clock_wall_ms()};
    err = sg_db_write(req->svc->db, ping, &k);
    if (err == SG_OK) {
        sg_webhooks_nudge(req->svc->webhooks);
        err = answer(res, &k);
    } else if (err == SG_ERR_CONFLICT) {
        err = say_disabled(req);
    }
    sg_delivery_free(&k.got);
    sg_webhook_free(&h);
    return err;
}

static enum sg_error list(struct sg_db_conn *c, void *arg)
{
    struct work *k = arg;
    return sg_delivery_list(c, &k->q, &k->list);
}

static enum sg_error read_state(struct sg_request *req, int *out)
{
    const char *text = NULL;
    enum sg_delivery_state state;
    *out = -1;
    enum sg_error err = sg_request_query(req, "state", &text);
    if (err != SG_OK || text == NULL)
        return err;
    if (sg_delivery_state_parse(text, &state) != SG_OK)
        return sg_request_fail(req, SG_ERR_INVALID, "state",
                               "must be pending, delivered or failed");
    *out = (int)state;
    return SG_OK;
}

static enum sg_error show(struct sg_response *res, const struct sg_delivery_list *list,
                          uint64_t limit)
{
    size_t shown = list->n > limit ? (size_t)limit : list->n;
    json_t *items = json_array();
    int bad = items == NULL;
    for (size_t i = 0; i < shown; i++)
        bad |= json_array_append_new(items, webhooks_delivery_json(&list->items[i]->f));
    if (bad) {
        json_decref(items);
        items = NULL;
    }
    const char *next = list->n > shown ? list->items[shown - 1]->f.id : NULL;
    return sg_response_json(res, 200, webhooks_page_json(items, next));
}

enum sg_error webhooks_deliveries(struct sg_request *req, struct sg_response *res)
{
    struct sg_webhook *h = NULL;
    struct webhooks_page page;
    struct work k = {0};
    enum sg_error err = webhooks_load(req, &h);
    if (err == SG_OK)
        err = webhooks_read_page(req, &page);
    if (err == SG_OK)
        err = read_state(req, &k.q.state);
    if (err == SG_OK) {
        k.q.hook_id = h->f.id;
        k.q.before = page.before;
        k.q.limit = (unsigned)page.limit + 1; /* one more tells whether another page follows */
        err = sg_db_read(req->svc->db, list, &k);
    }
    if (err == SG_OK)
        err = show(res, &k.list, page.limit);
    sg_delivery_list_free(&k.list);
    sg_webhook_free(&h);
    return err;
}

static enum sg_error again(struct sg_db_conn *c, void *arg)
{
    struct work *k = arg;
    sg_delivery_free(&k->got);
    enum sg_error err = sg_delivery_again(c, k->hook_id, k->id, k->now_ms);
    if (err == SG_OK)
        err = sg_delivery_get(c, k->hook_id, k->id, &k->got);
    return err != SG_OK ? err : webhooks_audit(c, k->req, "webhook.redeliver", k->hook_id);
}

enum sg_error webhooks_redeliver(struct sg_request *req, struct sg_response *res)
{
    struct sg_webhook *h = NULL;
    const char *id = sg_request_param(req, "delivery");
    enum sg_error err = webhooks_load(req, &h);
    if (err != SG_OK)
        return err;
    struct work k = {.req = req, .hook_id = h->f.id, .now_ms = sg_clock_wall_ms()};
    err = SG_ERR_NOT_FOUND;
    if (sg_validate_ulid(id, strlen(id)) == NULL) {
        memcpy(k.id, id, SG_ULID_SIZE);
        err = sg_db_write(req->svc->db, again, &k);
    }
    if (err == SG_OK) {
        sg_webhooks_nudge(req->svc->webhooks);
        err = answer(res, &k);
    } else if (err == SG_ERR_CONFLICT) {
        err = say_disabled(req);
    } else if (err == SG_ERR_NOT_FOUND) {
        err = sg_request_fail(req, err, NULL, "there is no delivery of this id");
    }
    sg_delivery_free(&k.got);
    sg_webhook_free(&h);
    return err;
}
