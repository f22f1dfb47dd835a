/* The compiled table: who wins, what is refused, what Allow says. */
#include <stdio.h>
#include <string.h>

#include "streamgate/base/log.h"
#include "streamgate/http/route.h"

#include "http_support.h"

static enum sg_error handle(struct sg_request *req, struct sg_response *res)
{
    (void)req;
    (void)res;
    return SG_OK;
}

#define ROW(m, p)                                                                                  \
    {                                                                                              \
        .method = m, .path = p, .handle = handle                                                   \
    }

static const struct sg_route rows[] = {
    ROW(SG_GET, "/"),
    ROW(SG_GET, "/health"),
    ROW(SG_GET, "/health/live"),
    ROW(SG_PUT, "/api/v1/upload/{filename}"),
    ROW(SG_POST, "/api/v1/upload"),
    ROW(SG_POST, "/api/v1/upload/"),
    ROW(SG_GET, "/api/v1/assets"),
    ROW(SG_POST, "/api/v1/assets"),
    ROW(SG_GET, "/api/v1/assets/{id}"),
    ROW(SG_PATCH, "/api/v1/assets/{id}"),
    ROW(SG_DELETE, "/api/v1/assets/{id}"),
    ROW(SG_GET, "/stream/{id}/master.m3u8"),
    ROW(SG_GET, "/stream/{id}/source"),
    ROW(SG_GET, "/stream/{id}/{rendition}/index.m3u8"),
    ROW(SG_GET, "/stream/{id}/{rendition}/seg-{n}.m4s"),
    ROW(SG_GET, "/stream/{id}/{rendition}/seg-{n}.ts"),
    ROW(SG_GET, "/stream/{asset}/{file}"),
    ROW(SG_GET, "/stream/{id}/storyboard-{n}.jpg"),
    ROW(SG_GET, "/files/{path...}"),
    ROW(SG_GET, "/files/special"),
    ROW(SG_OPTIONS, "/tus"),
    ROW(SG_HEAD, "/tus"),
};
static const struct sg_module module = {
    .name = "test", .routes = rows, .n_routes = SG_ARRAY_LEN(rows)};
static const struct sg_module *const modules[] = {&module};

static const struct {
    enum sg_method method;
    const char *path;
    const char *row;    /* NULL: not found */
    const char *params; /* name=value;... */
    const char *allow;  /* with METHOD */
} cases[] = {
    {SG_GET, "/", "/", "", NULL},
    {SG_HEAD, "/", "/", "", NULL},
    {SG_GET, "/health", "/health", "", NULL},
    {SG_GET, "/health/", NULL, NULL, NULL},
    {SG_GET, "/health/live", "/health/live", "", NULL},
    {SG_GET, "/Health", NULL, NULL, NULL},
    {SG_GET, "/healthy", NULL, NULL, NULL},
    {SG_GET, "//health", NULL, NULL, NULL},
    {SG_GET, "/health//live", NULL, NULL, NULL},
    {SG_GET, "/./health", NULL, NULL, NULL},
    {SG_GET, "/health/..", NULL, NULL, NULL},
    {SG_GET, "", NULL, NULL, NULL},
    {SG_GET, "health", NULL, NULL, NULL},
    {SG_PUT, "/api/v1/upload/a b.mp4", "/api/v1/upload/{filename}", "filename=a b.mp4;", NULL},
    {SG_PUT, "/api/v1/upload/...", "/api/v1/upload/{filename}", "filename=...;", NULL},
    {SG_PUT, "/api/v1/upload/.", NULL, NULL, NULL},
    {SG_PUT, "/api/v1/upload/..", NULL, NULL, NULL},
    {SG_POST, "/api/v1/upload", "/api/v1/upload", "", NULL},
    {SG_POST, "/api/v1/upload/", "/api/v1/upload/", "", NULL},
    {SG_PUT, "/api/v1/upload/", NULL, NULL, "POST, OPTIONS"},
    {SG_PUT, "/api/v1/assets", NULL, NULL, "GET, HEAD, POST, OPTIONS"},
    {SG_OPTIONS, "/api/v1/assets", NULL, NULL, "GET, HEAD, POST, OPTIONS"},
    {SG_POST, "/api/v1/assets/x", NULL, NULL, "GET, HEAD, PATCH, DELETE, OPTIONS"},
    {SG_DELETE, "/api/v1/assets/x", "/api/v1/assets/{id}", "id=x;", NULL},
    {SG_GET, "/api/v1/assets/x/y", NULL, NULL, NULL},
    {SG_GET, "/stream/A/master.m3u8", "/stream/{id}/master.m3u8", "id=A;", NULL},
    {SG_GET, "/stream/A/source", "/stream/{id}/source", "id=A;", NULL},
    {SG_GET, "/stream/A/source/index.m3u8", "/stream/{id}/{rendition}/index.m3u8",
     "id=A;rendition=source;", NULL},
    {SG_GET, "/stream/A/v0/index.m3u8", "/stream/{id}/{rendition}/index.m3u8", "id=A;rendition=v0;",
     NULL},
    {SG_GET, "/stream/A/v0/seg-17.m4s", "/stream/{id}/{rendition}/seg-{n}.m4s",
     "id=A;rendition=v0;n=17;", NULL},
    {SG_HEAD, "/stream/A/v0/seg-17.ts", "/stream/{id}/{rendition}/seg-{n}.ts",
     "id=A;rendition=v0;n=17;", NULL},
    {SG_GET, "/stream/A/v0/seg-.ts", NULL, NULL, NULL},
    {SG_GET, "/stream/A/v0/seg-1.tsx", NULL, NULL, NULL},
    {SG_GET, "/stream/A/v0/sEg-1.ts", NULL, NULL, NULL},
    {SG_GET, "/stream/A/storyboard-3.jpg", "/stream/{id}/storyboard-{n}.jpg", "id=A;n=3;", NULL},
    {SG_GET, "/stream/A/storyboard-.jpg", "/stream/{asset}/{file}", "asset=A;file=storyboard-.jpg;",
     NULL},
    {SG_GET, "/stream/A/other", "/stream/{asset}/{file}", "asset=A;file=other;", NULL},
    {SG_POST, "/stream/A/v0/seg-17.m4s", NULL, NULL, "GET, HEAD, OPTIONS"},
    {SG_GET, "/stream/A/v0/", NULL, NULL, NULL},
    {SG_GET, "/files/a/b/c.js", "/files/{path...}", "path=a/b/c.js;", NULL},
    {SG_GET, "/files/special", "/files/special", "", NULL},
    {SG_GET, "/files/special/x", "/files/{path...}", "path=special/x;", NULL},
    {SG_GET, "/files/", NULL, NULL, NULL},
    {SG_GET, "/files/a/", NULL, NULL, NULL},
    {SG_GET, "/files/a/../b", NULL, NULL, NULL},
    {SG_GET, "/files/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15", "/files/{path...}",
     "path=1/2/3/4/5/6/7/8/9/10/11/12/13/14/15;", NULL},
    {SG_GET, "/files/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16", NULL, NULL, NULL},
    {SG_GET, "/tus", NULL, NULL, "HEAD, OPTIONS"},
    {SG_OPTIONS, "/tus", "/tus", "", "HEAD, OPTIONS"},
    {SG_HEAD, "/tus", "/tus", "", NULL},
};

static void check(const struct sg_route_table *t, size_t i)
{
    char path[256], allow[64] = "untouched", params[256] = "";
    struct sg_request req = {0};
    snprintf(path, sizeof(path), "%s", cases[i].path);
    const enum sg_route_match match = sg_route_find(t, cases[i].method, path, &req, allow);
    const char *expected_allow = cases[i].allow ? cases[i].allow : "untouched";
    if (!cases[i].row) {
        assert_int_equal(match, cases[i].allow ? SG_MATCH_METHOD : SG_MATCH_NOT_FOUND);
        assert_string_equal(allow, expected_allow);
        assert_string_equal(path, cases[i].path); /* not split */
        assert_null(req.route);
        return;
    }
    assert_string_equal(allow, expected_allow);
    if (match != SG_MATCH_FOUND)
        print_error("%s\n", cases[i].path);
    assert_int_equal(match, SG_MATCH_FOUND);
    assert_string_equal(req.route->path, cases[i].row);
    assert_ptr_equal(sg_route_table_at(t, req.route_index), req.route);
    size_t len = 0;
    for (unsigned k = 0; k < req.n_params; k++)
        len += (size_t)snprintf(params + len, sizeof(params) - len, "%s=%s;", req.params[k].name,
                                req.params[k].value);
    assert_string_equal(params, cases[i].params);
}

static void test_find(void **state)
{
    (void)state;
    struct sg_route_table *t = NULL;
    assert_int_equal(sg_route_table_create(modules, 1, &t), SG_OK);
    assert_int_equal(sg_route_table_count(t), SG_ARRAY_LEN(rows));
    assert_string_equal(sg_route_table_module(t, 0), "test");
    assert_null(sg_route_table_at(t, SG_ARRAY_LEN(rows)));
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++)
        check(t, i);
    sg_route_table_destroy(&t);
    assert_null(t);
}

static void ignore_line(void *arg, const char *line)
{
    (void)arg;
    (void)line;
}

static void expect_create(const struct sg_route *pair, size_t n, enum sg_error expected)
{
    const struct sg_module m = {.name = "m", .routes = pair, .n_routes = n};
    const struct sg_module *const list[] = {&m};
    struct sg_route_table *t = NULL;
    const enum sg_error err = sg_route_table_create(list, 1, &t);
    if (err != expected)
        print_error("%s\n", pair[0].path);
    assert_int_equal(err, expected);
    assert_int_equal(t != NULL, err == SG_OK);
    sg_route_table_destroy(&t);
}

static void test_conflicts(void **state)
{
    (void)state;
    sg_log_test_sink(ignore_line, NULL);
    const struct sg_route same[] = {ROW(SG_GET, "/a/{id}"), ROW(SG_GET, "/a/{other}")};
    expect_create(same, 2, SG_ERR_EXISTS);
    const struct sg_route literal[] = {ROW(SG_GET, "/a"), ROW(SG_GET, "/a")};
    expect_create(literal, 2, SG_ERR_EXISTS);
    const struct sg_route affix[] = {ROW(SG_GET, "/s-{a}.ts"), ROW(SG_GET, "/s-{b}.ts")};
    expect_create(affix, 2, SG_ERR_EXISTS);
    const struct sg_route rest[] = {ROW(SG_GET, "/{a...}"), ROW(SG_GET, "/{b...}")};
    expect_create(rest, 2, SG_ERR_EXISTS);
    const struct sg_route apart[] = {ROW(SG_GET, "/a/{id}"), ROW(SG_PUT, "/a/{other}")};
    expect_create(apart, 2, SG_OK);
    sg_log_test_sink(NULL, NULL);
}

static void test_bad_patterns(void **state)
{
    static const char *const bad[] = {
        "",         "a",        "/{",       "/}",
        "/{}",      "/a//b",    "/{id",     "/id}",
        "/{Id}",    "/{a}{b}",  "/{a}/{a}", "/{a...}/b",
        "/x{a...}", "/{a...}x", "/{...}",   "/{a}/{b}/{c}/{d}/{e}",
        "/.",       "/../a",    "/}{",      "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17",
    };
    (void)state;
    sg_log_test_sink(ignore_line, NULL);
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        const struct sg_route row = ROW(SG_GET, bad[i]);
        expect_create(&row, 1, SG_ERR_INVALID);
    }
    const struct sg_route no_handler = {.method = SG_GET, .path = "/a"};
    expect_create(&no_handler, 1, SG_ERR_INVALID);
    const struct sg_route no_data = {
        .method = SG_PUT, .path = "/a", .handle = handle, .body = SG_BODY_STREAM};
    expect_create(&no_data, 1, SG_ERR_INVALID);
    sg_log_test_sink(NULL, NULL);
}

/* Which order rows stand in must not matter. */
static void test_order(void **state)
{
    (void)state;
    const struct sg_route reversed[] = {ROW(SG_GET, "/{any}"), ROW(SG_GET, "/seg-{n}"),
                                        ROW(SG_GET, "/seg-{n}.ts"), ROW(SG_GET, "/seg-0.ts")};
    const char *const paths[] = {"/x", "/seg-1", "/seg-1.ts", "/seg-0.ts"};
    const struct sg_module m = {.name = "m", .routes = reversed, .n_routes = 4};
    const struct sg_module *const list[] = {&m};
    struct sg_route_table *t = NULL;
    assert_int_equal(sg_route_table_create(list, 1, &t), SG_OK);
    for (unsigned i = 0; i < 4; i++) {
        char path[32], allow[64];
        struct sg_request req = {0};
        snprintf(path, sizeof(path), "%s", paths[i]);
        assert_int_equal(sg_route_find(t, SG_GET, path, &req, allow), SG_MATCH_FOUND);
        assert_int_equal(req.route_index, i);
    }
    sg_route_table_destroy(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_conflicts),
        cmocka_unit_test(test_bad_patterns),
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
