/* The generated documents say what the rows say. */
#include "streamgate/base/json.h"
#include "streamgate/http/route.h"

#include "http_support.h"

static enum sg_error handle(struct sg_request *req, struct sg_response *res)
{
    (void)req;
    (void)res;
    return SG_OK;
}

static enum sg_error take(struct sg_request *req, const uint8_t *data, size_t len)
{
    (void)req;
    (void)data;
    (void)len;
    return SG_OK;
}

static const struct sg_param_doc list_query[] = {
    {"limit", "integer", "At most | this many"},
    {"cursor", "string", NULL},
};
static const struct sg_route rows[] = {
    {.method = SG_GET, .path = "/", .handle = handle, .summary = "Home", .unlimited = true},
    {.method = SG_GET,
     .path = "/assets",
     .handle = handle,
     .role = SG_ROLE_VIEWER,
     .limit = SG_LIMIT_METADATA,
     .summary = "List assets",
     .query = list_query,
     .n_query = 2},
    {.method = SG_POST,
     .path = "/assets",
     .handle = handle,
     .role = SG_ROLE_CREATOR,
     .body = SG_BODY_JSON,
     .success = 201,
     .request_schema = "{\"type\":\"object\"}",
     .response_schema = "{\"$ref\":\"#/components/schemas/Asset\"}"},
    {.method = SG_DELETE,
     .path = "/assets/{id}",
     .handle = handle,
     .role = SG_ROLE_CREATOR,
     .success = 204,
     .tag = "special"},
    {.method = SG_PUT,
     .path = "/upload/{name}",
     .handle = handle,
     .body = SG_BODY_STREAM,
     .body_data = take,
     .role = SG_ROLE_CREATOR},
    {.method = SG_GET,
     .path = "/stream/{id}/{r}/seg-{n}.m4s",
     .handle = handle,
     .response_type = "video/mp4"},
    {.method = SG_GET, .path = "/files/{path...}", .handle = handle},
    {.method = SG_POST, .path = "/upload", .handle = handle},
    {.method = SG_POST, .path = "/upload/", .handle = handle},
};
static const struct sg_module module = {
    .name = "things", .routes = rows, .n_routes = SG_ARRAY_LEN(rows)};
static const struct sg_module *const modules[] = {&module};

static struct sg_route_table *compile(void)
{
    struct sg_route_table *t = NULL;
    assert_int_equal(sg_route_table_create(modules, 1, &t), SG_OK);
    return t;
}

static json_t *document(void)
{
    struct sg_route_table *t = compile();
    struct sg_text text = {0};
    json_t *doc = NULL;
    char why[128] = "";
    assert_int_equal(sg_openapi_write(t, &text), SG_OK);
    assert_int_equal(sg_json_parse(text.ptr, text.len, &doc, why), SG_OK);
    sg_text_free(&text);
    sg_route_table_destroy(&t);
    return doc;
}

static const json_t *operation(const json_t *doc, const char *path, const char *method)
{
    return json_object_get(json_object_get(json_object_get(doc, "paths"), path), method);
}

static void test_every_row(void **state)
{
    static const struct {
        const char *path, *method, *id;
    } expected[] = {
        {"/", "get", "getRoot"},
        {"/assets", "get", "getAssets"},
        {"/assets", "post", "postAssets"},
        {"/assets/{id}", "delete", "deleteAssetsId"},
        {"/upload/{name}", "put", "putUploadName"},
        {"/stream/{id}/{r}/seg-{n}.m4s", "get", "getStreamIdRSegNM4s"},
        {"/files/{path}", "get", "getFilesPath"},
        {"/upload", "post", "postUpload"},
        {"/upload/", "post", "postUploadSlash"},
    };
    (void)state;
    json_t *doc = document();
    assert_string_equal(json_string_value(json_object_get(doc, "openapi")), "3.1.0");
    size_t operations = 0;
    const char *path;
    json_t *item;
    json_object_foreach(json_object_get(doc, "paths"), path, item) operations +=
        json_object_size(item);
    assert_int_equal(operations, SG_ARRAY_LEN(rows));
    for (size_t i = 0; i < SG_ARRAY_LEN(expected); i++) {
        const json_t *op = operation(doc, expected[i].path, expected[i].method);
        assert_non_null(op);
        assert_string_equal(json_string_value(json_object_get(op, "operationId")), expected[i].id);
        const json_t *responses = json_object_get(op, "responses");
        assert_string_equal(
            json_string_value(json_object_get(json_object_get(responses, "default"), "$ref")),
            "#/components/responses/Problem");
    }
    json_decref(doc);
}

static void test_details(void **state)
{
    (void)state;
    json_t *doc = document();
    const json_t *list = operation(doc, "/assets", "get");
    const json_t *params = json_object_get(list, "parameters");
    assert_int_equal(json_array_size(params), 2);
    const char *name, *in, *type;
    int required;
    assert_int_equal(json_unpack(json_array_get(params, 0), "{s:s, s:s, s:b, s:{s:s}}", "name",
                                 &name, "in", &in, "required", &required, "schema", "type", &type),
                     0);
    assert_string_equal(name, "limit");
    assert_string_equal(in, "query");
    assert_string_equal(type, "integer");
    assert_int_equal(required, 0);
    assert_non_null(
        json_object_get(json_array_get(json_object_get(list, "security"), 0), "bearerAuth"));
    assert_non_null(json_object_get(json_object_get(list, "responses"), "429"));

    const json_t *home = operation(doc, "/", "get");
    assert_int_equal(json_array_size(json_object_get(home, "security")), 0);
    assert_null(json_object_get(json_object_get(home, "responses"), "429"));

    const json_t *post = operation(doc, "/assets", "post");
    const char *ref;
    assert_int_equal(json_unpack(json_object_get(post, "responses"), "{s:{s:{s:{s:{s:s}}}}}", "201",
                                 "content", "application/json", "schema", "$ref", &ref),
                     0);
    assert_string_equal(ref, "#/components/schemas/Asset");
    const json_t *body = json_object_get(json_object_get(post, "requestBody"), "content");
    assert_non_null(json_object_get(body, "application/json"));

    const json_t *gone = operation(doc, "/assets/{id}", "delete");
    assert_null(
        json_object_get(json_object_get(json_object_get(gone, "responses"), "204"), "content"));
    assert_string_equal(json_string_value(json_array_get(json_object_get(gone, "tags"), 0)),
                        "special");
    const json_t *seg = operation(doc, "/stream/{id}/{r}/seg-{n}.m4s", "get");
    assert_int_equal(json_array_size(json_object_get(seg, "parameters")), 3);
    const json_t *schemas = json_object_get(json_object_get(doc, "components"), "schemas");
    assert_non_null(json_object_get(json_object_get(schemas, "Asset"), "properties"));
    assert_non_null(json_object_get(json_object_get(schemas, "Problem"), "properties"));
    json_decref(doc);
}

static void test_bad_schema(void **state)
{
    (void)state;
    const struct sg_route bad = {
        .method = SG_GET, .path = "/a", .handle = handle, .response_schema = "{oops"};
    const struct sg_module m = {.name = "m", .routes = &bad, .n_routes = 1};
    const struct sg_module *const list[] = {&m};
    struct sg_route_table *t = NULL;
    struct sg_text text = {0};
    assert_int_equal(sg_route_table_create(list, 1, &t), SG_OK);
    assert_int_equal(sg_openapi_write(t, &text), SG_ERR_INVALID);
    assert_int_equal(text.len, 0);
    sg_text_free(&text);
    sg_route_table_destroy(&t);
}

static void test_api_markdown(void **state)
{
    (void)state;
    struct sg_route_table *t = compile();
    struct sg_text text = {0};
    sg_route_table_write_markdown(t, &text);
    assert_false(text.failed);
    assert_non_null(strstr(text.ptr, "\n## things\n"));
    assert_non_null(strstr(text.ptr, "\n### `GET /stream/{id}/{r}/seg-{n}.m4s`\n"));
    assert_non_null(strstr(text.ptr, "| `limit` | integer | At most \\| this many |"));
    assert_non_null(strstr(text.ptr, "- Role: creator\n"));
    assert_non_null(strstr(text.ptr, "- Answer: 201, application/json\n"));
    sg_text_free(&text);
    sg_route_table_destroy(&t);
}

static void test_errors_markdown(void **state)
{
    (void)state;
    struct sg_text text = {0};
    sg_errors_write_markdown(&text);
    assert_false(text.failed);
    assert_non_null(strstr(text.ptr, "| 404 | `not-found` | There is no such resource |\n"));
    assert_null(strstr(text.ptr, "would-block"));
    assert_null(strstr(text.ptr, "`pending`"));
    size_t lines = 0;
    for (const char *p = text.ptr; (p = strstr(p, "\n| ")); p++)
        lines++;
    /* Less OK and the internal ones; two headings; the library's own. */
    assert_int_equal(lines, SG_ERROR_COUNT - 1 - 3 + 2 + 4);
    assert_non_null(strstr(text.ptr, "\n## Refused by the HTTP library\n"));
    sg_text_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row),       cmocka_unit_test(test_details),
        cmocka_unit_test(test_bad_schema),      cmocka_unit_test(test_api_markdown),
        cmocka_unit_test(test_errors_markdown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
