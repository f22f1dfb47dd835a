/* Settings: sources and their precedence, every mistake listed, generated documents that load
 * again. */
#include <stdio.h>
#include <unistd.h>

#include "streamgate/base/config.h"

#include "support/unit.h"

static char file_name[] = "/tmp/sg-config-XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(file_name);
    return fd < 0 ? -1 : close(fd);
}

static int drop_file(void **state)
{
    (void)state;
    return unlink(file_name);
}

static void write_config(const char *text)
{
    FILE *f = fopen(file_name, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static struct sg_config *load_good(const struct sg_config_params *params)
{
    struct sg_text mistakes = {0};
    struct sg_config *config = NULL;
    if (sg_config_load(params, &mistakes, &config) != SG_OK)
        fail_msg("refused: %s", mistakes.ptr);
    assert_int_equal(mistakes.len, 0);
    sg_text_free(&mistakes);
    return config;
}

static void defaults(void **state)
{
    (void)state;
    struct sg_config *c = load_good(&(struct sg_config_params){0});
    assert_string_equal(sg_config_string(c, SG_SET_server_listen), "127.0.0.1:8080");
    assert_string_equal(sg_config_string(c, SG_SET_storage_data_dir), "");
    assert_string_equal(sg_config_string(c, SG_SET_playback_default_policy), "signed");
    assert_int_equal(sg_config_uint(c, SG_SET_upload_max_size), UINT64_C(64) << 30);
    assert_int_equal(sg_config_uint(c, SG_SET_playback_token_ttl), 6 * 3600000);
    assert_true(sg_config_bool(c, SG_SET_ratelimit_enabled));
    assert_int_equal(sg_config_rate(c, SG_SET_ratelimit_auth).capacity, 50);
    assert_int_equal(sg_config_rate(c, SG_SET_ratelimit_auth).refill_per_s, 5);
    struct sg_cache_bounds b = sg_config_cache(c, SG_SET_cache_streaming);
    assert_int_equal(b.entries, 5000);
    assert_int_equal(b.ttl_ms, 900000);
    assert_int_equal(b.bytes, 512 << 20);
    sg_config_unref(sg_config_ref(c));
    sg_config_unref(c);
    sg_config_unref(NULL);
}

static void precedence(void **state)
{
    (void)state;
    write_config(
        "\xEF\xBB\xBF; comment\r\n[server]\r\nlisten = [::1]:1\r\n  io_threads=3 ; note\r\n"
        "blocking_threads: 4\n# other\n\n[log]\nlevel=debug\n[ratelimit]\nauth = 7/2");
    char *environment[] = {"HOME=/", "STREAMGATE_SERVER_IO_THREADS=5",
                           "STREAMGATE_SERVER_BLOCKING_THREADS=6", NULL};
    const char *overrides[] = {"server.io_threads=7", "server.io_threads=8",
                               "server.public_url=https://a.example/?x=y"};
    struct sg_config *c = load_good(&(struct sg_config_params){
        .file = file_name, .environ = environment, .overrides = overrides, .n_overrides = 3});
    assert_string_equal(sg_config_string(c, SG_SET_server_listen), "[::1]:1");
    assert_int_equal(sg_config_uint(c, SG_SET_server_io_threads), 8);
    assert_int_equal(sg_config_uint(c, SG_SET_server_blocking_threads), 6);
    assert_string_equal(sg_config_string(c, SG_SET_log_level), "debug");
    assert_string_equal(sg_config_string(c, SG_SET_server_public_url), "https://a.example/?x=y");
    assert_int_equal(sg_config_rate(c, SG_SET_ratelimit_auth).capacity, 7);

    struct sg_config *d = load_good(&(struct sg_config_params){0});
    struct sg_text names = {0};
    sg_config_needs_restart(c, d, &names);
    assert_string_equal(names.ptr, "server.listen\nserver.io_threads\nserver.blocking_threads\n");
    sg_text_free(&names);
    sg_config_needs_restart(d, d, &names);
    assert_int_equal(names.len, 0);
    sg_text_free(&names);
    sg_config_unref(d);
    sg_config_unref(c);
}

static void long_values(void **state)
{
    (void)state;
    char text[6000] = "[server]\ntrusted_proxies = ";
    size_t start = strlen(text);
    for (int i = 0; i < 250; i++)
        strncat(text, "10.0.0.0/8,", sizeof(text) - strlen(text) - 1);
    size_t want = strlen(text) - start;
    strncat(text, " ; the lab\nio_threads = 9\n", sizeof(text) - strlen(text) - 1);
    write_config(text);
    struct sg_config *c = load_good(&(struct sg_config_params){.file = file_name});
    const char *value = sg_config_string(c, SG_SET_server_trusted_proxies);
    assert_int_equal(strlen(value), want);
    assert_memory_equal(value, text + start, want);
    assert_int_equal(sg_config_uint(c, SG_SET_server_io_threads), 9);
    sg_config_unref(c);
}

static const char *const mistaken_lines[] = {
    "[server]",
    "io_threads = 257",
    "blocking_threads = 0",
    "header_timeout = 10 s",
    "max_json_bytes = 63",
    "nonsense = 1",
    "just words",
    "listen = ab",
    "[nowhere]",
    "key = 1",
    "[playback",
    "[playback]",
    "default_policy = gated",
    "token_ttl = 6h",
    "token_ttl = 7h",
    "[ratelimit]",
    "enabled = maybe",
    "auth = 5",
    "upload = 0/5",
    "default = 5/5/5",
    "[cache]",
    "default = 1/2min",
    "streaming = 1/x/1MiB",
    "= 4",
    "[log]",
    "level = INFO",
};
static const unsigned mistaken_numbers[] = {2,  3,  4,  5,  6,  7,  8,  10, 11, 13,
                                            15, 17, 18, 19, 20, 22, 23, 24, 26};
/* As the mistakes are worded, some of them. */
static const char *const mistakes_told[] = {
    ":2: server.io_threads = 257: must be a whole number from 0 to 256\n",
    ":4: server.header_timeout = 10 s: must be a duration such as 10s, from 100ms to 1h\n",
    ":5: server.max_json_bytes = 63: must be a size such as 64KiB, from 64B to 16MiB\n",
    ":6: server.nonsense = 1: there is no such key\n",
    ":10: nowhere.key = 1: there is no such section\n",
    ":13: playback.default_policy = gated: must be one of public, signed\n",
    ":15: playback.token_ttl = 7h: is set already in line 14\n",
    "environment: STREAMGATE_SERVER_NOPE = 1: there is no such setting\n",
    "environment: log.format = xml: must be one of text, json\n",
    "--set: server.nope = 1: there is no such key\n",
    "--set: server: must be section.key=value\n",
};

static void every_mistake(void **state)
{
    (void)state;
    char text[2000] = "";
    for (size_t i = 0; i < SG_ARRAY_LEN(mistaken_lines); i++) {
        strncat(text, mistaken_lines[i], sizeof(text) - strlen(text) - 1);
        strncat(text, "\n", sizeof(text) - strlen(text) - 1);
    }
    write_config(text);
    char *environment[] = {"STREAMGATE_SERVER_NOPE=1", "STREAMGATE_LOG_FORMAT=xml", NULL};
    const char *overrides[] = {"server.nope=1", "nope.listen=1", "server", "log.level=loud"};
    struct sg_config *config = NULL;
    struct sg_text mistakes = {0};
    assert_int_equal(sg_config_load(&(struct sg_config_params){.file = file_name,
                                                               .environ = environment,
                                                               .overrides = overrides,
                                                               .n_overrides = 4},
                                    &mistakes, &config),
                     SG_ERR_CONFIG);
    assert_null(config);
    size_t n = 0;
    for (const char *p = mistakes.ptr; *p != '\0'; p++)
        n += *p == '\n';
    assert_int_equal(n, SG_ARRAY_LEN(mistaken_numbers) + 2 + 4);
    for (size_t i = 0; i < SG_ARRAY_LEN(mistaken_numbers); i++) {
        char origin[64];
        snprintf(origin, sizeof(origin), "%s:%u: ", file_name, mistaken_numbers[i]);
        if (strstr(mistakes.ptr, origin) == NULL)
            fail_msg("line %u is not told of in:\n%s", mistaken_numbers[i], mistakes.ptr);
    }
    for (size_t i = 0; i < SG_ARRAY_LEN(mistakes_told); i++) {
        if (strstr(mistakes.ptr, mistakes_told[i]) == NULL)
            fail_msg("missing: %s in:\n%s", mistakes_told[i], mistakes.ptr);
    }
    sg_text_free(&mistakes);
}

static void hostile_files(void **state)
{
    (void)state;
    struct sg_config *config = NULL;
    struct sg_text mistakes = {0};
    struct sg_config_params params = {.file = "/nonexistent/streamgate.conf"};
    assert_int_equal(sg_config_load(&params, &mistakes, &config), SG_ERR_CONFIG);
    assert_non_null(strstr(mistakes.ptr, "cannot be read: No such file"));
    sg_text_free(&mistakes);

    char *text = malloc(9100);
    assert_non_null(text);
    snprintf(text, 9100, "[log]\nlevel = %09000d\n\x01[\n", 0);
    write_config(text);
    free(text);
    params.file = file_name;
    assert_int_equal(sg_config_load(&params, &mistakes, &config), SG_ERR_CONFIG);
    assert_non_null(strstr(mistakes.ptr, ":2: is longer than"));
    assert_non_null(strstr(mistakes.ptr, ":3: is neither"));
    sg_text_free(&mistakes);

    write_config("[server]\npublic_url = a\x1B[31mb\n");
    assert_int_equal(sg_config_load(&params, &mistakes, &config), SG_ERR_CONFIG);
    assert_null(strchr(mistakes.ptr, 0x1B)); /* nothing of it reaches a terminal */
    sg_text_free(&mistakes);
    assert_null(config);
}

static void documents(void **state)
{
    (void)state;
    struct sg_text sample = {0}, markdown = {0};
    sg_config_write_sample(&sample);
    write_config(sample.ptr);
    sg_config_unref(load_good(&(struct sg_config_params){.file = file_name}));
    /* With every key uncommented it says the defaults again. */
    char *out = sample.ptr;
    for (const char *in = sample.ptr; *in != '\0'; in++) {
        bool line_start = in == sample.ptr || in[-1] == '\n';
        if (!(line_start && *in == '#' && in[1] >= 'a' && in[1] <= 'z'))
            *out++ = *in;
    }
    *out = '\0';
    assert_true((size_t)(out - sample.ptr) == sample.len - SG_SETTING_COUNT);
    write_config(sample.ptr);
    struct sg_config *a = load_good(&(struct sg_config_params){.file = file_name});
    struct sg_config *b = load_good(&(struct sg_config_params){0});
    struct sg_text differs = {0};
    sg_config_needs_restart(a, b, &differs);
    assert_int_equal(differs.len, 0);
    assert_int_equal(sg_config_rate(a, SG_SET_ratelimit_metadata).capacity, 500);
    sg_config_unref(a);
    sg_config_unref(b);
    sg_text_free(&sample);

    sg_config_write_markdown(&markdown);
    assert_non_null(
        strstr(markdown.ptr, "| `listen`<br>`STREAMGATE_SERVER_LISTEN` | `127.0.0.1:8080` |"));
    assert_non_null(strstr(markdown.ptr, "{public\\|signed}"));
    sg_text_free(&markdown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),      cmocka_unit_test(precedence),
        cmocka_unit_test(long_values),   cmocka_unit_test(every_mistake),
        cmocka_unit_test(hostile_files), cmocka_unit_test(documents),
    };
    return cmocka_run_group_tests(tests, make_file, drop_file);
}
