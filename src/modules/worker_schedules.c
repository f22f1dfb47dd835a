/* Schedules: jobs that are made again and again. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/cron.h"
#include "streamgate/base/validate.h"

#include "worker.h"

#define TEXT_MAX 256

/* A short string member in the arena; absent gives `absent`. */
static enum sg_error read_text(struct sg_request *req, const json_t *body, const char *name,
                               const char *absent, const char **out)
{
    const json_t *value = json_object_get(body, name);
    const char *s = value != NULL ? json_string_value(value) : absent;
    if (s == NULL || strlen(s) > TEXT_MAX)
        return sg_request_fail(req, SG_ERR_INVALID, name, "must be a string of at most %d bytes",
                               TEXT_MAX);
    *out = sg_arena_strdup(req->arena, s);
    return *out != NULL ? SG_OK : SG_ERR_NO_MEMORY;
}

static enum sg_error first_run(struct sg_request *req, struct sg_schedule_fields *f)
{
    struct sg_cron cron;
    struct sg_zone *zone = NULL;
    const char *why = NULL;
    enum sg_error err = sg_cron_parse(f->cron, &cron, &why);
    if (err == SG_ERR_INVALID)
        return sg_request_fail(req, err, "cron", "%s", why);
    err = sg_zone_open(f->zone, &zone);
    if (err == SG_ERR_INVALID || err == SG_ERR_NOT_FOUND)
        return sg_request_fail(req, SG_ERR_INVALID, "time_zone",
                               "must be the name of an IANA time zone that is installed here");
    if (err == SG_OK)
        err = sg_cron_next(&cron, zone, f->created_ms, &f->next_ms);
    sg_zone_close(&zone);
    return err == SG_ERR_NOT_FOUND
               ? sg_request_fail(req, SG_ERR_INVALID, "cron", "names a date that never comes")
               : err;
}

static enum sg_error read_schedule(struct sg_request *req, const json_t *body,
                                   struct sg_schedule_fields *f)
{
    static const char *const known[] = {"type",    "cron",     "time_zone",    "missed",
                                        "payload", "priority", "max_attempts", NULL};
    const char *missed = NULL;
    struct worker_wish w;
    enum sg_error err = sg_request_only(req, body, known);
    if (err == SG_OK)
        err = worker_wish_read(req, body, &w);
    if (err == SG_OK)
        err = read_text(req, body, "cron", NULL, &f->cron);
    if (err == SG_OK)
        err = read_text(req, body, "time_zone", "UTC", &f->zone);
    if (err == SG_OK)
        err = read_text(req, body, "missed", "skip", &missed);
    if (err == SG_OK && sg_missed_parse(missed, &f->missed) != SG_OK)
        err = sg_request_fail(req, SG_ERR_INVALID, "missed", "must be skip or once");
    if (err != SG_OK)
        return err;
    memcpy(f->type, w.type->name, strlen(w.type->name) + 1);
    f->payload = w.payload;
    f->priority = w.priority;
    f->max_attempts = w.max_attempts;
    return first_run(req, f);
}

struct change {
    struct sg_schedule_fields f;
    struct worker_audit audit;
    const char *id, *before;
    unsigned limit;
    struct sg_schedule *got;
    struct sg_schedule_list list;
};

static enum sg_error insert(struct sg_db_conn *c, void *arg)
{
    struct change *k = arg;
    enum sg_error err = sg_schedule_insert(c, &k->f);
    return err != SG_OK ? err : worker_audit_run(c, &k->audit, k->f.id);
}

enum sg_error worker_schedule_post(struct sg_request *req, struct sg_response *res)
{
    struct change k = {.audit = {req, "schedule.create", "schedule"}};
    json_t *body = NULL;
    enum sg_error err = sg_request_json(req, false, &body);
    if (err != SG_OK)
        return err;
    k.f.created_ms = sg_clock_wall_ms();
    sg_ulid_make(k.f.id);
    memcpy(k.f.owner, req->identity.user_id, SG_ULID_SIZE);
    err = read_schedule(req, body, &k.f);
    json_decref(body);
    if (err == SG_OK)
        err = sg_db_write(req->svc->db, insert, &k);
    if (err != SG_OK)
        return err;
    sg_jobs_kick(req->svc->jobs);
    const struct sg_schedule made = {.f = k.f};
    err = sg_response_json(res, 201, worker_schedule_json(&made));
    if (err != SG_OK)
        return err;
    return sg_response_headerf(req, res, "Location", "/api/v1/schedules/%s", k.f.id);
}

static enum sg_error get(struct sg_db_conn *c, void *arg)
{
    struct change *k = arg;
    return sg_schedule_get(c, k->id, &k->got);
}

static enum sg_error no_schedule(struct sg_request *req)
{
    return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "there is no schedule of this id");
}

enum sg_error worker_schedule_get(struct sg_request *req, struct sg_response *res)
{
    struct change k = {.id = sg_request_param(req, "id")};
    if (sg_validate_ulid(k.id, strlen(k.id)) != NULL)
        return no_schedule(req);
    enum sg_error err = sg_db_read(req->svc->db, get, &k);
    if (err == SG_OK)
        err = sg_response_json(res, 200, worker_schedule_json(k.got));
    sg_schedule_free(&k.got);
    return err == SG_ERR_NOT_FOUND ? no_schedule(req) : err;
}

static enum sg_error list(struct sg_db_conn *c, void *arg)
{
    struct change *k = arg;
    return sg_schedule_list(c, k->before, k->limit, &k->list);
}

enum sg_error worker_schedule_list(struct sg_request *req, struct sg_response *res)
{
    struct change k = {0};
    uint64_t limit;
    enum sg_error err = sg_request_query(req, "cursor", &k.before);
    if (err == SG_OK)
        err = sg_request_query_u64(req, "limit", 1, 200, 50, &limit);
    if (err != SG_OK)
        return err;
    if (k.before != NULL && sg_validate_ulid(k.before, strlen(k.before)) != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "cursor", "is not one of this list's cursors");
    k.limit = (unsigned)limit + 1; /* one more tells whether another page follows */
    err = sg_db_read(req->svc->db, list, &k);
    if (err != SG_OK)
        return err;
    size_t shown = k.list.n > limit ? (size_t)limit : k.list.n;
    json_t *items = json_array();
    int bad = items == NULL;
    for (size_t i = 0; i < shown; i++)
        bad |= json_array_append_new(items, worker_schedule_json(k.list.items[i]));
    if (bad) {
        json_decref(items);
        items = NULL;
    }
    err = sg_response_json(
        res, 200, worker_page_json(items, k.list.n > limit ? k.list.items[shown - 1]->f.id : NULL));
    sg_schedule_list_free(&k.list);
    return err;
}

static enum sg_error erase(struct sg_db_conn *c, void *arg)
{
    struct change *k = arg;
    enum sg_error err = sg_schedule_delete(c, k->id);
    return err != SG_OK ? err : worker_audit_run(c, &k->audit, k->id);
}

enum sg_error worker_schedule_delete(struct sg_request *req, struct sg_response *res)
{
    struct change k = {.id = sg_request_param(req, "id"),
                       .audit = {req, "schedule.delete", "schedule"}};
    if (sg_validate_ulid(k.id, strlen(k.id)) != NULL)
        return no_schedule(req);
    enum sg_error err = sg_db_write(req->svc->db, erase, &k);
    if (err == SG_OK)
        sg_response_empty(res, 204);
    return err == SG_ERR_NOT_FOUND ? no_schedule(req) : err;
}
