/* The OpenAPI 3.1 document, from the rows alone, so that it cannot differ from what is served. A
 * row's schema that is not valid JSON is an INVALID here, which the tests of the rows see. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/json.h"
#include "streamgate/http/route.h"

#include "openapi_schemas.h"

/* jansson's *_set_new take the value also on failure, and fail on a NULL value: errors add up and
 * are looked at once. */
struct builder {
    const struct sg_route_table *table;
    json_t *paths;
    int failed;
    bool bad_schema;
};

static void set(struct builder *b, json_t *object, const char *key, json_t *value)
{
    b->failed |= json_object_set_new(object, key, value);
}

static void append(struct builder *b, json_t *array, json_t *value)
{
    b->failed |= json_array_append_new(array, value);
}

static json_t *parse_schema(struct builder *b, const char *text)
{
    json_t *schema = NULL;
    char why[128];
    if (sg_json_parse(text, strlen(text), &schema, why) != SG_OK) {
        b->bad_schema = true;
        return json_object();
    }
    return schema;
}

static json_t *reference(const char *to)
{
    return json_pack("{s:s}", "$ref", to);
}

/* "{name...}" is ours: OpenAPI has no parameter that spans slashes, so the dots are dropped. */
static void public_path(const char *pattern, struct sg_text *out)
{
    for (const char *p = pattern; *p != '\0';) {
        const size_t n = strcspn(p, ".");
        sg_text_append(out, p, n);
        p += n;
        if (strncmp(p, "...}", 4) == 0) {
            p += 3;
        } else if (*p == '.') {
            sg_text_append(out, ".", 1);
            p++;
        }
    }
}

/* "get" + "/api/v1/assets/{id}" -> "getApiV1AssetsId" */
static void operation_id(const struct sg_route *route, struct sg_text *out)
{
    for (const char *p = sg_method_name(route->method); *p != '\0'; p++)
        sg_text_printf(out, "%c", *p | 0x20);
    bool upper = true;
    for (const char *p = route->path; *p != '\0'; p++) {
        const char c = *p;
        const bool lower = c >= 'a' && c <= 'z';
        if (!lower && !(c >= '0' && c <= '9')) {
            upper = true;
            continue;
        }
        const char shown = upper && lower ? (char)(c - 'a' + 'A') : c;
        sg_text_append(out, &shown, 1);
        upper = false;
    }
    const size_t len = strlen(route->path);
    if (route->path[len - 1] == '/') /* apart from the row without the slash */
        sg_text_puts(out, len == 1 ? "Root" : "Slash");
}

static json_t *parameter(struct builder *b, const struct sg_param_doc *doc, const char *in)
{
    json_t *p = json_pack("{s:s, s:s, s:b}", "name", doc->name, "in", in, "required",
                          strcmp(in, "path") == 0);
    set(b, p, "schema", json_pack("{s:s}", "type", doc->type));
    if (doc->doc)
        set(b, p, "description", json_string(doc->doc));
    return p;
}

static void add_path_parameters(struct builder *b, const char *pattern, json_t *list)
{
    for (const char *p = strchr(pattern, '{'); p; p = strchr(p, '{')) {
        p++;
        char name[64];
        const size_t len = strcspn(p, ".}");
        if (len >= sizeof(name)) {
            b->failed = -1;
            return;
        }
        memcpy(name, p, len);
        name[len] = '\0';
        append(b, list, parameter(b, &(struct sg_param_doc){name, "string", NULL}, "path"));
    }
}

static json_t *content(struct builder *b, const char *type, const char *schema)
{
    json_t *media = json_object();
    if (schema)
        set(b, media, "schema", parse_schema(b, schema));
    json_t *map = json_object();
    set(b, map, type, media);
    return map;
}

static void add_request_body(struct builder *b, const struct sg_route *route, json_t *op)
{
    if (route->body == SG_BODY_NONE)
        return;
    const char *type = route->request_type;
    if (!type)
        type = route->body == SG_BODY_JSON ? "application/json" : "application/octet-stream";
    json_t *body = json_object();
    set(b, body, "content", content(b, type, route->request_schema));
    set(b, op, "requestBody", body);
}

static void add_problem(struct builder *b, json_t *responses, const char *status)
{
    set(b, responses, status, reference("#/components/responses/Problem"));
}

static void add_success(struct builder *b, const struct sg_route *route, json_t *responses)
{
    const unsigned success = route->success ? route->success : 200;
    json_t *ok = json_pack("{s:s}", "description", route->summary ? route->summary : "Success");
    if (success != 204) {
        const char *type = route->response_type ? route->response_type : "application/json";
        set(b, ok, "content", content(b, type, route->response_schema));
    }
    char status[16];
    snprintf(status, sizeof(status), "%u", success);
    set(b, responses, status, ok);
}

static json_t *responses_of(struct builder *b, const struct sg_route *route)
{
    json_t *responses = json_object();
    add_success(b, route, responses);
    if (route->n_query > 0 || route->body != SG_BODY_NONE)
        add_problem(b, responses, "400");
    if (route->role != SG_ROLE_NONE) {
        add_problem(b, responses, "401");
        add_problem(b, responses, "403");
    }
    if (strchr(route->path, '{'))
        add_problem(b, responses, "404");
    if (route->body != SG_BODY_NONE) {
        add_problem(b, responses, "413");
        add_problem(b, responses, "415");
    }
    if (!route->unlimited)
        add_problem(b, responses, "429");
    add_problem(b, responses, "default");
    return responses;
}

static json_t *operation(struct builder *b, size_t index)
{
    const struct sg_route *route = sg_route_table_at(b->table, index);
    json_t *op = json_object();
    struct sg_text id = {0};
    operation_id(route, &id);
    set(b, op, "operationId", id.failed ? NULL : json_string(id.ptr));
    sg_text_free(&id);
    if (route->summary)
        set(b, op, "summary", json_string(route->summary));
    json_t *tags = json_array();
    append(b, tags, json_string(route->tag ? route->tag : sg_route_table_module(b->table, index)));
    set(b, op, "tags", tags);
    json_t *parameters = json_array();
    add_path_parameters(b, route->path, parameters);
    for (size_t i = 0; i < route->n_query; i++)
        append(b, parameters, parameter(b, &route->query[i], "query"));
    set(b, op, "parameters", parameters);
    add_request_body(b, route, op);
    set(b, op, "responses", responses_of(b, route));
    json_t *security = json_array();
    if (route->role != SG_ROLE_NONE) {
        append(b, security, json_pack("{s:[]}", "bearerAuth"));
        set(b, op, "description",
            json_sprintf("Requires the role %s or higher.", sg_role_name(route->role)));
    }
    set(b, op, "security", security);
    return op;
}

static void add_operation(struct builder *b, size_t index)
{
    const struct sg_route *route = sg_route_table_at(b->table, index);
    struct sg_text path = {0};
    char method[16] = "";
    const char *name = sg_method_name(route->method);
    for (size_t i = 0; name[i] != '\0' && i + 1 < sizeof(method); i++)
        method[i] = (char)(name[i] | 0x20);
    public_path(route->path, &path);
    if (path.failed) {
        b->failed = -1;
        goto out;
    }
    json_t *item = json_object_get(b->paths, path.ptr);
    if (!item) {
        set(b, b->paths, path.ptr, json_object());
        item = json_object_get(b->paths, path.ptr);
    }
    set(b, item, method, operation(b, index));
out:
    sg_text_free(&path);
}

static json_t *components(struct builder *b)
{
    json_t *c = json_object();
    json_t *schemas = json_object();
    set(b, schemas, "Asset", parse_schema(b, openapi_asset_schema));
    set(b, schemas, "Upload", parse_schema(b, openapi_upload_schema));
    set(b, schemas, "Subtitle", parse_schema(b, openapi_subtitle_schema));
    set(b, schemas, "Problem", parse_schema(b, openapi_problem_schema));
    set(b, c, "schemas", schemas);
    json_t *problem = json_pack("{s:s}", "description", "A problem (RFC 9457)");
    set(b, problem, "content",
        content(b, "application/problem+json", "{\"$ref\": \"#/components/schemas/Problem\"}"));
    json_t *responses = json_object();
    set(b, responses, "Problem", problem);
    set(b, c, "responses", responses);
    json_t *schemes = json_object();
    set(b, schemes, "bearerAuth",
        json_pack("{s:s, s:s, s:s}", "type", "http", "scheme", "bearer", "description",
                  "An API key (sgk_...). Playback URLs of signed assets carry a token in the path "
                  "instead: /stream/{id}/~{token}/..."));
    set(b, c, "securitySchemes", schemes);
    return c;
}

enum sg_error sg_openapi_write(const struct sg_route_table *t, struct sg_text *out)
{
    struct builder b = {.table = t, .paths = json_object()};
    json_t *root =
        json_pack("{s:s, s:{s:s, s:s, s:s}}", "openapi", "3.1.0", "info", "title", "StreamGate",
                  "version", SG_VERSION, "description",
                  "Upload a film, play it at once. Errors are RFC 9457 problem details.");
    for (size_t i = 0; i < sg_route_table_count(t) && b.failed == 0; i++)
        add_operation(&b, i);
    set(&b, root, "paths", b.paths);
    set(&b, root, "components", components(&b));
    enum sg_error err = SG_ERR_NO_MEMORY;
    if (b.bad_schema)
        err = SG_ERR_INVALID;
    else if (b.failed == 0) {
        size_t len = 0;
        char *text = sg_json_dump(root, &len);
        if (text) {
            sg_text_append(out, text, len);
            sg_text_append(out, "\n", 1);
            err = out->failed ? SG_ERR_NO_MEMORY : SG_OK;
        }
        free(text);
    }
    json_decref(root);
    return err;
}
