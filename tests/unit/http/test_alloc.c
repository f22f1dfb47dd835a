/* Every allocation of the create functions fails once: NO_MEMORY comes back, nothing leaks, the
 * output is untouched. The files are compiled in here with their allocators replaced; for route.c
 * and multipart.c that is all they allocate by. */
#include "streamgate/base/arena.h"

#include "http_support.h"

static size_t calls_left;

static bool may_allocate(void)
{
    if (calls_left == 0)
        return false;
    calls_left--;
    return true;
}

static void *counted_calloc(size_t n, size_t size)
{
    return may_allocate() ? calloc(n, size) : NULL;
}

static enum sg_error counted_arena_create(size_t first, size_t max, struct sg_arena **out)
{
    return may_allocate() ? sg_arena_create(first, max, out) : SG_ERR_NO_MEMORY;
}

static void *counted_arena_zalloc(struct sg_arena *arena, size_t size)
{
    return may_allocate() ? sg_arena_zalloc(arena, size) : NULL;
}

static char *counted_arena_strndup(struct sg_arena *arena, const char *s, size_t n)
{
    return may_allocate() ? sg_arena_strndup(arena, s, n) : NULL;
}

#define calloc counted_calloc
#define sg_arena_create counted_arena_create
#define sg_arena_zalloc counted_arena_zalloc
#define sg_arena_strndup counted_arena_strndup
#undef fail /* of cmocka; multipart.c has a function of that name */
#include "multipart.c"
#include "route.c"

static enum sg_error handle(struct sg_request *req, struct sg_response *res)
{
    (void)req;
    (void)res;
    return SG_OK;
}

static const struct sg_route rows[] = {
    {.method = SG_GET, .path = "/a/{id}/seg-{n}.ts", .handle = handle},
    {.method = SG_GET, .path = "/a/{rest...}", .handle = handle},
    {.method = SG_PUT, .path = "/", .handle = handle},
};
static const struct sg_module module = {.name = "m", .routes = rows, .n_routes = 3};
static const struct sg_module *const modules[] = {&module};

static void test_route_table(void **state)
{
    (void)state;
    struct sg_route_table *t = NULL;
    size_t n = 0;
    for (; n < 1000 && !t; n++) {
        calls_left = n;
        const enum sg_error err = sg_route_table_create(modules, 1, &t);
        assert_int_equal(err, t ? SG_OK : SG_ERR_NO_MEMORY);
    }
    assert_non_null(t);
    assert_true(n > 10); /* the sweep saw the nodes and the names, not only the table */
    sg_route_table_destroy(&t);
}

static enum sg_error on_begin(void *arg, const struct sg_multipart_part *part)
{
    (void)arg;
    (void)part;
    return SG_OK;
}

static enum sg_error on_data(void *arg, const uint8_t *data, size_t len)
{
    (void)arg;
    (void)data;
    (void)len;
    return SG_OK;
}

static enum sg_error on_end(void *arg)
{
    (void)arg;
    return SG_OK;
}

/* One allocation makes the parser, and feeding makes none. */
static void test_multipart(void **state)
{
    (void)state;
    static const char type[] = "multipart/form-data; boundary=XX";
    static const char body[] =
        "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nhello\r\n--XX--\r\n";
    const struct sg_multipart_events events = {on_begin, on_data, on_end, NULL};
    struct sg_multipart *m = NULL;
    calls_left = 0;
    assert_int_equal(sg_multipart_create(type, &events, &m), SG_ERR_NO_MEMORY);
    assert_null(m);
    calls_left = 1;
    assert_int_equal(sg_multipart_create(type, &events, &m), SG_OK);
    assert_int_equal(sg_multipart_feed(m, (const uint8_t *)body, sizeof(body) - 1), SG_OK);
    assert_int_equal(sg_multipart_finish(m), SG_OK);
    sg_multipart_destroy(&m);
}

/* A request whose arena is used up answers with a problem, whatever it was about to say. */
static void test_arena_exhausted(void **state)
{
    (void)state;
    struct http_fixture f;
    fixture_open(&f, NULL);
    while (sg_arena_alloc(f.req.arena, 1))
        continue;
    fixture_header(&f, "Range", "bytes=0-0,2-2");
    assert_int_equal(sg_response_text(&f.res, 200, "text/plain", "hello"), SG_OK);
    f.res.ranges = true;
    sg_range_apply(&f.req, &f.res);
    assert_int_equal(f.res.status, 503);
    assert_int_equal(sg_response_text(&f.res, 200, "text/plain", "hello"), SG_OK);
    f.res.ranges = true;
    f.req.headers[0].value = "bytes=9-";
    sg_range_apply(&f.req, &f.res);
    assert_int_equal(f.res.status, 503);
    f.req.query = "a=1";
    const char *value = NULL;
    assert_int_equal(sg_request_query(&f.req, "a", &value), SG_ERR_NO_MEMORY);
    assert_null(sg_request_base_url(&f.req));
    assert_int_equal(sg_response_header(&f.req, &f.res, "X-A", "1"), SG_ERR_NO_MEMORY);
    assert_int_equal(sg_request_fail(&f.req, SG_ERR_CONFLICT, "a", "b"), SG_ERR_CONFLICT);
    sg_response_problem(&f.req, &f.res, SG_ERR_CONFLICT);
    assert_int_equal(f.res.status, 409);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route_table),
        cmocka_unit_test(test_multipart),
        cmocka_unit_test(test_arena_exhausted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
