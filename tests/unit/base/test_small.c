/* The small pieces: error table, arena, JSON, validation, log lines, thread pool. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "streamgate/base/arena.h"
#include "streamgate/base/json.h"
#include "streamgate/base/log.h"
#include "streamgate/base/pool.h"
#include "streamgate/base/validate.h"

#include "support/unit.h"

static void errors(void **state)
{
    (void)state;
    assert_int_equal(sg_error_status(SG_OK), 200);
    assert_string_equal(sg_error_slug(SG_OK), "ok");
    assert_int_equal(sg_error_status(SG_ERR_RANGE), 416);
    assert_int_equal(sg_error_status((enum sg_error)9999), 500);
    assert_string_equal(sg_error_slug((enum sg_error) - 1), "internal-error");
    for (int i = 0; i < SG_ERROR_COUNT; i++) {
        assert_true(strlen(sg_error_slug((enum sg_error)i)) > 0);
        assert_true(strlen(sg_error_title((enum sg_error)i)) > 0);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(sg_error_slug((enum sg_error)i),
                                    sg_error_slug((enum sg_error)j));
    }
    assert_int_equal(sg_error_from_errno(ENOSPC), SG_ERR_NO_SPACE);
    assert_int_equal(sg_error_from_errno(EDQUOT), SG_ERR_NO_SPACE);
    assert_int_equal(sg_error_from_errno(EMFILE), SG_ERR_NO_DESCRIPTORS);
    assert_int_equal(sg_error_from_errno(EXDEV), SG_ERR_FORBIDDEN);
    assert_int_equal(sg_error_from_errno(0), SG_ERR_IO);
}

static void arenas(void **state)
{
    (void)state;
    struct sg_arena *a = NULL;
    assert_int_equal(sg_arena_create(64, 100000, &a), SG_OK);
    for (int round = 0; round < 3; round++) {
        size_t total = 0;
        for (size_t n = 0; n < 200; n++) {
            uint8_t *p = sg_arena_zalloc(a, n);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % 16, 0);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(p[i], 0);
            memset(p, 0xAA, n);
            total += n;
        }
        assert_null(sg_arena_alloc(a, 100000));
        assert_null(sg_arena_alloc(a, SIZE_MAX));
        assert_null(sg_arena_alloc(a, SIZE_MAX - 15));
        assert_null(sg_arena_strndup(a, "", SIZE_MAX));
        assert_string_equal(sg_arena_printf(a, "%s-%d", "x", 5), "x-5");
        assert_string_equal(sg_arena_strndup(a, "hello", 2), "he");
        assert_string_equal(sg_arena_strdup(a, ""), "");
        size_t more = 0;
        while (sg_arena_alloc(a, 1000) != NULL)
            more += 1000;
        assert_true(total + more <= 100000); /* the bound holds */
        assert_true(total + more >= 60000);
        sg_arena_reset(a);
    }
    sg_arena_destroy(&a);
    assert_null(a);
    sg_arena_destroy(&a);
    assert_null(sg_arena_alloc(NULL, 1));
    assert_null(sg_arena_printf(NULL, "x"));
}

static void json(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",     "1",       "\"x\"",         "{",          "{\"a\":1,\"a\":2}",
        "[1]x", "[1] [2]", "[\"\\u0000\"]", "[\"\xFF\"]", "[01]",
        "[1,]", "{a:1}",   "[NaN]"};
    json_t *value = NULL;
    char why[128];
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        assert_int_equal(sg_json_parse(bad[i], strlen(bad[i]), &value, i % 2 == 0 ? why : NULL),
                         SG_ERR_INVALID);
        assert_null(value);
    }
    assert_int_equal(sg_json_parse("[\"a\0b\"]", 7, &value, NULL), SG_ERR_INVALID);
    char deep[67] = {0};
    for (size_t depth = 32; depth <= 33; depth++) {
        memset(deep, '[', depth);
        memset(deep + depth, ']', depth);
        assert_int_equal(sg_json_parse(deep, 2 * depth, &value, why),
                         depth == 32 ? SG_OK : SG_ERR_INVALID);
        json_decref(value);
        value = NULL;
    }
    assert_non_null(strstr(why, "32"));
    const char *brackets = "[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"]";
    assert_int_equal(sg_json_parse(brackets, strlen(brackets), &value, NULL), SG_OK);
    json_decref(value);
    value = NULL;
    const char *text = " {\"b\" : [1, 2.5], \"a\" : \"\\u00e4\"} ";
    assert_int_equal(sg_json_parse(text, strlen(text), &value, NULL), SG_OK);
    size_t len = 0;
    char *dump = sg_json_dump(value, &len);
    assert_string_equal(dump, "{\"b\":[1,2.5],\"a\":\"\xC3\xA4\"}");
    assert_int_equal(len, strlen(dump));
    free(dump);
    dump = sg_json_dump_canonical(value, NULL);
    assert_string_equal(dump, "{\"a\":\"\xC3\xA4\",\"b\":[1,2.5]}");
    free(dump);
    json_decref(value);
    text = "[20.016,1731243600.123,0.1,123456789012.345]"; /* comes back as it was written */
    assert_int_equal(sg_json_parse(text, strlen(text), &value, NULL), SG_OK);
    dump = sg_json_dump(value, NULL);
    assert_string_equal(dump, text);
    free(dump);
    json_decref(value);
}

struct validation {
    const char *(*rule)(const char *s, size_t len);
    bool good;
    const char *s;
};

static const struct validation validations[] = {
    {sg_validate_filename, true, "film.mp4"},
    {sg_validate_filename, true, "...a"},
    {sg_validate_filename, false, ""},
    {sg_validate_filename, false, "."},
    {sg_validate_filename, false, ".."},
    {sg_validate_filename, false, "a/b"},
    {sg_validate_filename, false, "a\\b"},
    {sg_validate_filename, false, " a"},
    {sg_validate_filename, false, "a "},
    {sg_validate_filename, false, "a\nb"},
    {sg_validate_filename, false, "\xC3"},
    {sg_validate_title, true, ""},
    {sg_validate_title, false, "a\tb"},
    {sg_validate_description, true, "a\tb\n\nc"},
    {sg_validate_description, false, "a\rb"},
    {sg_validate_tag, true, "caf\xC3\xA9"},
    {sg_validate_tag, false, ""},
    {sg_validate_tag, false, "a,b"},
    {sg_validate_name, true, "A.b_c-1@x"},
    {sg_validate_name, false, "a b"},
    {sg_validate_ulid, true, "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
    {sg_validate_ulid, false, "81ARZ3NDEKTSV4RRFFQ69G5FAV"},
    {sg_validate_email, true, "a.b+c@example.org"},
    {sg_validate_email, true, "a@b"},
    {sg_validate_email, false, "a..b@c.de"},
    {sg_validate_email, false, ".a@c.de"},
    {sg_validate_email, false, "a@b@c"},
    {sg_validate_email, false, "@c.de"},
    {sg_validate_email, false, "a@-c.de"},
    {sg_validate_email, false, "a@c..de"},
    {sg_validate_email, false, "a@"},
    {sg_validate_email, false, "a b@c.de"},
    {sg_validate_eth_address, true, "0x52908400098527886E0F7030069857D2E4169EE7"},
    {sg_validate_eth_address, false, "52908400098527886E0F7030069857D2E4169EE700"},
    {sg_validate_eth_address, false, "0X52908400098527886E0F7030069857D2E4169EE7"},
    {sg_validate_sha256_hex, false, "e3b0"},
    {sg_validate_http_url, true, "https://a.example/x?y=%20#z"},
    {sg_validate_http_url, true, "HTTP://127.0.0.1:8080"},
    {sg_validate_http_url, true, "http://[::1]:80/"},
    {sg_validate_http_url, false, "ftp://a/"},
    {sg_validate_http_url, false, "https://u:p@a/"},
    {sg_validate_http_url, false, "https://"},
    {sg_validate_http_url, false, "https:///x"},
    {sg_validate_http_url, false, "https://a:0/"},
    {sg_validate_http_url, false, "https://a:65536/"},
    {sg_validate_http_url, false, "https://a/%2"},
    {sg_validate_http_url, false, "https://a/ b"},
    {sg_validate_http_url, false, "//a/b"},
    {sg_validate_http_url, false, "https://[::1"},
    {sg_validate_http_url, false, "https://[::1]x/"},
};

static void validation(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(validations); i++) {
        const char *said = validations[i].rule(validations[i].s, strlen(validations[i].s));
        if ((said == NULL) != validations[i].good)
            fail_msg("row %zu: %s", i, validations[i].s);
    }
    char text[20001];
    memset(text, 'a', sizeof(text));
    static const struct {
        const char *(*rule)(const char *s, size_t len);
        size_t max;
    } lengths[] = {{sg_validate_filename, 255},     {sg_validate_title, 200},
                   {sg_validate_description, 5000}, {sg_validate_tag, 64},
                   {sg_validate_name, 64},          {sg_validate_sha256_hex, 64}};
    for (size_t i = 0; i < SG_ARRAY_LEN(lengths); i++) {
        assert_null(lengths[i].rule(text, lengths[i].max));
        assert_non_null(lengths[i].rule(text, lengths[i].max + 1));
    }
    for (size_t i = 0; i < 201; i++)
        memcpy(text + 2 * i, "\xC3\xA4", 2);
    assert_null(sg_validate_title(text, 400)); /* characters, not bytes */
    assert_non_null(sg_validate_title(text, 402));
    assert_non_null(sg_validate_name("a\0b", 3));
}

static char last_line[8192];

static void keep(void *arg, const char *line)
{
    ++*(int *)arg;
    snprintf(last_line, sizeof(last_line), "%s", line);
}

static void log_lines(void **state)
{
    (void)state;
    int n = 0;
    sg_log_test_sink(keep, &n);
    sg_log_configure(SG_LOG_INFO, false);
    sg_debug_log("test", "not %d", 1);
    assert_int_equal(n, 0);
    sg_info_log("test", "a\nb\x1B[1m \\ %s", "\xC3\xA4\xC2\x9B");
    assert_int_equal(n, 1);
    assert_non_null(strstr(last_line, "Z info test: a\\nb\\x1b[1m \\\\ \xC3\xA4\\x9b"));
    sg_log_set_request("01ARZ3NDEKTSV4RRFFQ69G5FAV");
    sg_warn_log("test", "x");
    assert_non_null(strstr(last_line, " warn test [01ARZ3NDEKTSV4RRFFQ69G5FAV]: x"));

    sg_log_configure(SG_LOG_DEBUG, true);
    char big[3000];
    memset(big, '"', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    static const char *const hostile[] = {"a\"b\\c\n\x01\x7F", "\xFF\xC3", "\xC2\x85", NULL};
    for (size_t i = 0; i < SG_ARRAY_LEN(hostile); i++) {
        sg_debug_log("test", "%s", hostile[i] != NULL ? hostile[i] : big);
        json_t *line = NULL;
        assert_int_equal(sg_json_parse(last_line, strlen(last_line), &line, NULL), SG_OK);
        assert_string_equal(json_string_value(json_object_get(line, "level")), "debug");
        assert_string_equal(json_string_value(json_object_get(line, "request_id")),
                            "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        const char *message = json_string_value(json_object_get(line, "message"));
        if (i == 0)
            assert_string_equal(message, hostile[0]);
        if (hostile[i] == NULL)
            assert_int_equal(strlen(message), 1024);
        json_decref(line);
    }
    /* The cut never leaves half a character. */
    memset(big, 'a', 1023);
    memcpy(big + 1023, "\xC3\xA4", 3);
    sg_log_configure(SG_LOG_INFO, false);
    sg_log_set_request(NULL);
    sg_error_log("test", "%s", big);
    assert_int_equal(last_line[strlen(last_line) - 1], 'a');
    sg_log_test_sink(NULL, NULL);
}

#define JOBS 2000

struct gate {
    pthread_mutex_t lock;
    atomic_int done;
    int order[JOBS];
};

struct item {
    struct gate *gate;
    int id;
};

static void run_item(void *arg)
{
    struct item *item = arg;
    int at = atomic_fetch_add(&item->gate->done, 1);
    item->gate->order[at] = item->id;
}

static void wait_at_gate(void *arg)
{
    struct gate *gate = arg;
    pthread_mutex_lock(&gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void pools(void **state)
{
    (void)state;
    static struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER};
    static struct item items[JOBS];
    struct sg_pool *pool = NULL;
    struct sg_pool_params params = {.name = "one", .threads = 1, .max_queued = JOBS + 1};
    assert_int_equal(sg_pool_create(&params, &pool), SG_OK);
    pthread_mutex_lock(&gate.lock);
    assert_int_equal(sg_pool_submit(pool, wait_at_gate, &gate), SG_OK);
    while (sg_pool_queued(pool) > 0)
        sched_yield(); /* until the thread stands at the gate */
    for (int i = 0; i < JOBS; i++) {
        items[i] = (struct item){.gate = &gate, .id = i};
        assert_int_equal(sg_pool_submit(pool, run_item, &items[i]), SG_OK);
    }
    assert_int_equal(sg_pool_queued(pool), JOBS);
    assert_int_equal(sg_pool_submit(pool, wait_at_gate, &gate), SG_OK);
    assert_int_equal(sg_pool_submit(pool, wait_at_gate, &gate), SG_ERR_UNAVAILABLE); /* full */
    pthread_mutex_unlock(&gate.lock);
    sg_pool_destroy(&pool); /* runs what is queued */
    assert_null(pool);
    sg_pool_destroy(&pool);
    assert_int_equal(gate.done, JOBS);
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(gate.order[i], i);

    params = (struct sg_pool_params){.name = "four", .threads = 4};
    gate.done = 0;
    assert_int_equal(sg_pool_create(&params, &pool), SG_OK);
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(sg_pool_submit(pool, run_item, &items[i]), SG_OK);
    sg_pool_destroy(&pool);
    assert_int_equal(gate.done, JOBS);
    params.threads = 0;
    assert_int_equal(sg_pool_create(&params, &pool), SG_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors),     cmocka_unit_test(arenas),    cmocka_unit_test(json),
        cmocka_unit_test(validation), cmocka_unit_test(log_lines), cmocka_unit_test(pools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
