/* Signatures and secrets of webhooks. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "streamgate/base/str.h"
#include "streamgate/layers/fetch.h"
#include "streamgate/layers/webhooks.h"

#include "layers_support.h"

#define HOOK_A "01ARZ3NDEKTSV4RRFFQ69G5FAA"
#define HOOK_B "01ARZ3NDEKTSV4RRFFQ69G5FAB"

/* The example that the specification's own libraries are tested with. */
static void the_published_example_is_met(void **state)
{
    (void)state;
    static const char body[] = "{\"test\": 2432232314}";
    const struct sg_webhook_message m = {.id = "msg_p5jXN8AQM9LWM0D4loKWxJek",
                                         .timestamp_s = 1614265330,
                                         .body = body,
                                         .body_len = sizeof body - 1};
    char out[SG_WEBHOOK_SIGNATURE_SIZE];
    assert_int_equal(sg_webhook_sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &m, out), SG_OK);
    assert_string_equal(out, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

static void every_part_counts(void **state)
{
    (void)state;
    static const char *const secrets[] = {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                                          "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx"};
    const struct sg_webhook_message messages[] = {
        {"a", 1, "body", 4}, {"b", 1, "body", 4}, {"a", 2, "body", 4},
        {"a", 1, "bodx", 4}, {"a", 1, "body", 3},
    };
    char seen[2 * SG_ARRAY_LEN(messages)][SG_WEBHOOK_SIGNATURE_SIZE];
    size_t n = 0;
    for (size_t s = 0; s < SG_ARRAY_LEN(secrets); s++)
        for (size_t m = 0; m < SG_ARRAY_LEN(messages); m++)
            assert_int_equal(sg_webhook_sign(secrets[s], &messages[m], seen[n++]), SG_OK);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(seen[i], seen[j]);
}

static void what_is_no_secret_signs_nothing(void **state)
{
    (void)state;
    static const char too_long[] =
        "whsec_"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    static const char *const bad[] = {"",         "whsec_",     "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                                      "whsec_Mf", "whsec_MfK!", too_long};
    const struct sg_webhook_message m = {"a", 1, "b", 1};
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        char out[SG_WEBHOOK_SIGNATURE_SIZE] = "untouched";
        assert_int_equal(sg_webhook_sign(bad[i], &m, out), SG_ERR_INVALID);
        assert_string_equal(out, "untouched");
    }
}

static void secret_of(const struct sg_webhooks *w, const char *hook, uint32_t generation,
                      char out[SG_WEBHOOK_SECRET_SIZE])
{
    uint8_t raw[64];
    size_t len;
    assert_int_equal(sg_webhooks_secret(w, hook, generation, out), SG_OK);
    assert_true(sg_str_starts(out, "whsec_"));
    assert_int_equal(sg_base64_decode(out + 6, strlen(out) - 6, raw, sizeof raw, &len), SG_OK);
    assert_int_equal(len, 32);
}

/* Of a hook and a generation, and the same after a restart. */
static void secrets_last(void **state)
{
    (void)state;
    struct support_dir dirs[2];
    char first[SG_WEBHOOK_SECRET_SIZE], other[SG_WEBHOOK_SECRET_SIZE];
    struct sg_config *config = support_config(NULL);
    struct sg_webhooks *w = NULL;
    struct stat st;
    support_dir_open(&dirs[0]);
    support_dir_open(&dirs[1]);
    assert_int_equal(sg_webhooks_create(dirs[0].db, dirs[0].fd, config, &w), SG_OK);
    assert_int_equal(fstatat(dirs[0].fd, "webhook.key", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    secret_of(w, HOOK_A, 1, first);
    secret_of(w, HOOK_B, 1, other);
    assert_string_not_equal(first, other);
    secret_of(w, HOOK_A, 2, other);
    assert_string_not_equal(first, other);
    sg_webhooks_destroy(&w);
    assert_null(w);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(sg_webhooks_create(dirs[i].db, dirs[i].fd, config, &w), SG_OK);
        assert_int_equal(sg_webhooks_start(w), SG_OK);
        secret_of(w, HOOK_A, 1, other);
        sg_webhooks_destroy(&w);
        if (i == 0)
            assert_string_equal(first, other);
        else
            assert_string_not_equal(first, other);
        support_dir_close(&dirs[i]);
    }
    sg_config_unref(config);
}

static int set_up(void **state)
{
    (void)state;
    return sg_fetch_init() == SG_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    sg_fetch_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_example_is_met),
        cmocka_unit_test(every_part_counts),
        cmocka_unit_test(what_is_no_secret_signs_nothing),
        cmocka_unit_test(secrets_last),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
