/* API keys, who am I, and signed playback. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/validate.h"
#include "streamgate/http/asset_view.h"
#include "streamgate/modules/modules.h"

#define TOKEN_TTL_MAX_S (365 * 24 * 3600ULL)

static json_t *time_or_null(uint64_t ms)
{
    if (ms == 0)
        return json_null();
    char text[SG_TIME_SIZE];
    sg_time_rfc3339(ms, text);
    return json_string(text);
}

static json_t *key_json(const struct sg_key *k)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "id", k->id, "name",
                     k->name, "user_id", k->user_id, "user_name", k->user_name, "role",
                     sg_role_name(k->role), "prefix", k->prefix, "created_at",
                     time_or_null(k->created_ms), "expires_at", time_or_null(k->expires_ms),
                     "revoked_at", time_or_null(k->revoked_ms), "last_used_at",
                     time_or_null(k->last_used_ms));
}

static enum sg_error me(struct sg_request *req, struct sg_response *res)
{
    const struct sg_identity *who = &req->identity;
    return sg_response_json(res, 200,
                            json_pack("{s:s, s:s, s:s, s:s}", "user_id", who->user_id, "user_name",
                                      who->user_name, "role", sg_role_name(who->role), "key_id",
                                      who->key_id));
}

/* ---- keys ---- */

struct key_change {
    struct sg_key_params params;
    const char *id;
    struct sg_audit_event event;
    struct sg_key key;
    char secret[SG_KEY_SIZE];
    char resource[48];
};

static enum sg_error create_rows(struct sg_db_conn *c, void *arg)
{
    struct key_change *k = arg;
    enum sg_error err = sg_key_create(c, &k->params, k->secret, &k->key);
    if (err != SG_OK)
        return err;
    memcpy(k->resource, "key/", 4);
    memcpy(k->resource + 4, k->key.id, SG_ULID_SIZE);
    k->event.resource = k->resource;
    return sg_audit_append(c, &k->event);
}

static enum sg_error revoke_rows(struct sg_db_conn *c, void *arg)
{
    struct key_change *k = arg;
    enum sg_error err = sg_key_revoke(c, k->id);
    return err != SG_OK ? err : sg_audit_append(c, &k->event);
}

/* In the body; absent leaves *out. */
static enum sg_error read_text(struct sg_request *req, const json_t *body, const char *name,
                               bool needed, const char **out)
{
    const json_t *value = json_object_get(body, name);
    if (value == NULL)
        return needed ? sg_request_fail(req, SG_ERR_INVALID, name, "must be given") : SG_OK;
    if (!json_is_string(value))
        return sg_request_fail(req, SG_ERR_INVALID, name, "must be a string");
    *out = json_string_value(value);
    return SG_OK;
}

/* What is no integer is as far out of every range as -1. */
static json_int_t read_seconds(const json_t *body, json_int_t absent)
{
    const json_t *value = json_object_get(body, "expires_in");
    if (value == NULL)
        return absent;
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

static enum sg_error key_params(struct sg_request *req, const json_t *body, struct sg_key_params *p)
{
    static const char *const known[] = {"name", "role", "user", "expires_in", NULL};
    const char *name = NULL, *user = NULL, *role = NULL;
    json_int_t ttl = read_seconds(body, 0);
    enum sg_error err = sg_request_only(req, body, known);
    if (err == SG_OK)
        err = read_text(req, body, "name", true, &name);
    if (err == SG_OK)
        err = read_text(req, body, "role", true, &role);
    if (err == SG_OK)
        err = read_text(req, body, "user", false, &user);
    if (err != SG_OK)
        return err;
    const char *rule = sg_validate_name(name, strlen(name));
    if (rule != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "name", "%s", rule);
    rule = user != NULL ? sg_validate_name(user, strlen(user)) : NULL;
    if (rule != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "user", "%s", rule);
    if (sg_role_parse(role, &p->role) != SG_OK || p->role == SG_ROLE_NONE)
        return sg_request_fail(req, SG_ERR_INVALID, "role", "must be admin, creator or viewer");
    if (ttl < 0 || (uint64_t)ttl > 100 * TOKEN_TTL_MAX_S)
        return sg_request_fail(req, SG_ERR_INVALID, "expires_in",
                               "must be seconds, at most a hundred years");
    p->name = sg_arena_strdup(req->arena, name);
    p->user_name = user != NULL ? sg_arena_strdup(req->arena, user) : NULL;
    p->expires_ms = ttl > 0 ? sg_clock_wall_ms() + (uint64_t)ttl * 1000 : 0;
    return p->name != NULL && (user == NULL || p->user_name != NULL) ? SG_OK : SG_ERR_NO_MEMORY;
}

static enum sg_error key_create(struct sg_request *req, struct sg_response *res)
{
    struct key_change k = {.event = {.event_type = "admin",
                                     .actor = req->identity.user_id,
                                     .action = "key.create",
                                     .result = "success",
                                     .request_id = req->id}};
    json_t *body = NULL;
    enum sg_error err = sg_request_json(req, false, &body);
    if (err != SG_OK)
        return err;
    err = key_params(req, body, &k.params);
    json_decref(body);
    if (err == SG_OK)
        err = sg_db_write(req->svc->db, create_rows, &k);
    if (err == SG_ERR_EXISTS)
        return sg_request_fail(req, SG_ERR_CONFLICT, "name",
                               "the user already has a key of this name");
    if (err != SG_OK)
        return err;
    json_t *out = key_json(&k.key);
    if (out == NULL || json_object_set_new(out, "key", json_string(k.secret)) != 0) {
        json_decref(out);
        err = SG_ERR_NO_MEMORY;
    } else {
        err = sg_response_json(res, 201, out);
    }
    sg_wipe(k.secret, sizeof k.secret);
    return err;
}

static enum sg_error key_revoke(struct sg_request *req, struct sg_response *res)
{
    struct key_change k = {.id = sg_request_param(req, "id")};
    if (sg_validate_ulid(k.id, strlen(k.id)) != NULL)
        return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "there is no key of this id");
    k.event = (struct sg_audit_event){
        .event_type = "admin",
        .actor = req->identity.user_id,
        .action = "key.revoke",
        .resource = sg_arena_printf(req->arena, "key/%s", k.id),
        .result = "success",
        .request_id = req->id,
    };
    if (k.event.resource == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = sg_db_write(req->svc->db, revoke_rows, &k);
    sg_identity_forget(req->svc->identity);
    if (err == SG_ERR_NOT_FOUND)
        return sg_request_fail(req, err, NULL, "there is no key of this id");
    if (err == SG_OK)
        sg_response_empty(res, 204);
    return err;
}

struct key_page {
    const char *cursor;
    unsigned limit;
    struct sg_key *keys;
    size_t n;
};

static enum sg_error read_keys(struct sg_db_conn *c, void *arg)
{
    struct key_page *p = arg;
    return sg_key_list(c, NULL, p->cursor, p->limit, &p->keys, &p->n);
}

static enum sg_error key_list(struct sg_request *req, struct sg_response *res)
{
    struct key_page page = {0};
    uint64_t limit;
    enum sg_error err = sg_request_query(req, "cursor", &page.cursor);
    if (err == SG_OK)
        err = sg_request_query_u64(req, "limit", 1, 200, 50, &limit);
    if (err != SG_OK)
        return err;
    if (page.cursor != NULL && sg_validate_ulid(page.cursor, strlen(page.cursor)) != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "cursor", "is not one of this list's cursors");
    page.limit = (unsigned)limit + 1; /* one more tells whether another page follows */
    err = sg_db_read(req->svc->db, read_keys, &page);
    if (err != SG_OK)
        return err;
    size_t shown = page.n > limit ? (size_t)limit : page.n;
    json_t *items = json_array(), *body = json_object();
    int bad = 0;
    for (size_t i = 0; i < shown; i++)
        bad |= json_array_append_new(items, key_json(&page.keys[i]));
    bad |= json_object_set_new(body, "items", items);
    bad |= json_object_set_new(body, "next_cursor",
                               page.n > limit ? json_string(page.keys[shown - 1].id) : json_null());
    free(page.keys);
    if (bad != 0) {
        json_decref(body);
        return SG_ERR_NO_MEMORY;
    }
    return sg_response_json(res, 200, body);
}

/* ---- playback tokens ---- */

struct token_wish {
    uint64_t ttl_s;
    bool bound;
    struct sg_address address;
};

static enum sg_error token_params(struct sg_request *req, struct token_wish *w)
{
    json_t *body = NULL;
    enum sg_error err = sg_request_json(req, true, &body);
    if (err != SG_OK)
        return err;
    uint64_t usual_ms = sg_config_uint(sg_services_config(req->svc), SG_SET_playback_token_ttl);
    json_int_t ttl = read_seconds(body, (json_int_t)(usual_ms / 1000));
    const char *address = NULL;
    err = sg_request_only(req, body, (const char *const[]){"expires_in", "client_address", NULL});
    if (err == SG_OK)
        err = read_text(req, body, "client_address", false, &address);
    if (err != SG_OK)
        goto out;
    if (ttl < 1 || (uint64_t)ttl > TOKEN_TTL_MAX_S)
        err = sg_request_fail(req, SG_ERR_INVALID, "expires_in", "must be 1 to %llu seconds",
                              TOKEN_TTL_MAX_S);
    else if (address != NULL && sg_address_parse(address, strlen(address), &w->address) != SG_OK)
        err = sg_request_fail(req, SG_ERR_INVALID, "client_address",
                              "must be an IPv4 or IPv6 address");
    w->ttl_s = (uint64_t)ttl;
    w->bound = address != NULL;
out:
    json_decref(body);
    return err;
}

static enum sg_error token_create(struct sg_request *req, struct sg_response *res)
{
    struct token_wish w = {0};
    struct sg_asset_entry *e = NULL;
    enum sg_error err = sg_asset_load_owned(req, false, &e);
    if (err == SG_OK)
        err = token_params(req, &w);
    if (err != SG_OK)
        goto out;
    char token[SG_PLAYBACK_TOKEN_SIZE];
    uint64_t expires_s = sg_clock_wall_ms() / 1000 + w.ttl_s;
    err = sg_playback_token_make(req->svc->signer, e->asset->f.id, expires_s,
                                 w.bound ? &w.address : NULL, token);
    if (err != SG_OK)
        goto out;
    sg_audit_note(req->svc->audit,
                  &(struct sg_audit_event){
                      .event_type = "authorization",
                      .actor = req->identity.user_id,
                      .action = "playback_token.create",
                      .resource = sg_arena_printf(req->arena, "asset/%s", e->asset->f.id),
                      .result = "success",
                      .request_id = req->id,
                  });
    json_t *body =
        json_pack("{s:s, s:o, s:o}", "token", token, "expires_at", time_or_null(expires_s * 1000),
                  "playback", sg_playback_json(req, e, token));
    err = body != NULL ? sg_response_json(res, 201, body) : SG_ERR_NO_MEMORY;
out:
    sg_asset_entry_unref(e);
    return err;
}

static const struct sg_param_doc page_params[] = {
    {"limit", "integer", "1 to 200, 50 by default"},
    {"cursor", "string", "next_cursor of the previous page"},
};

#define KEY_SCHEMA                                                                                 \
    "{\"type\":\"object\",\"required\":[\"name\",\"role\"],\"properties\":{\"name\":{\"type\":"    \
    "\"string\"},\"role\":{\"type\":\"string\",\"enum\":[\"admin\",\"creator\",\"viewer\"]},"      \
    "\"user\":{\"type\":\"string\"},\"expires_in\":{\"type\":\"integer\"}},"                       \
    "\"additionalProperties\":false}"
#define TOKEN_SCHEMA                                                                               \
    "{\"type\":\"object\",\"properties\":{\"expires_in\":{\"type\":\"integer\"},"                  \
    "\"client_address\":{\"type\":\"string\"}},\"additionalProperties\":false}"

static const struct sg_route routes[] = {
    {.method = SG_GET,
     .path = "/api/v1/auth/me",
     .handle = me,
     .role = SG_ROLE_VIEWER,
     .limit = SG_LIMIT_DEFAULT,
     .summary = "Who the credentials belong to"},
    {.method = SG_GET,
     .path = "/api/v1/keys",
     .handle = key_list,
     .role = SG_ROLE_ADMIN,
     .limit = SG_LIMIT_AUTH,
     .blocking = true,
     .summary = "List API keys",
     .query = page_params,
     .n_query = SG_ARRAY_LEN(page_params)},
    {.method = SG_POST,
     .path = "/api/v1/keys",
     .handle = key_create,
     .body = SG_BODY_JSON,
     .role = SG_ROLE_ADMIN,
     .limit = SG_LIMIT_AUTH,
     .blocking = true,
     .summary = "Make an API key; it is shown once",
     .request_schema = KEY_SCHEMA,
     .success = 201},
    {.method = SG_DELETE,
     .path = "/api/v1/keys/{id}",
     .handle = key_revoke,
     .role = SG_ROLE_ADMIN,
     .limit = SG_LIMIT_AUTH,
     .blocking = true,
     .summary = "Revoke an API key",
     .success = 204},
    {.method = SG_POST,
     .path = "/api/v1/assets/{id}/playback-tokens",
     .handle = token_create,
     .body = SG_BODY_JSON,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_METADATA,
     .summary = "Make a playback token for an asset",
     .request_schema = TOKEN_SCHEMA,
     .success = 201},
};

const struct sg_module sg_auth_module = {
    .name = "auth", .routes = routes, .n_routes = SG_ARRAY_LEN(routes)};
