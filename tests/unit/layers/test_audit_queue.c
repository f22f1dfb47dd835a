#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/json.h"
#include "streamgate/base/metrics.h"
#include "streamgate/layers/audit.h"

#include "layers_support.h"

struct fixture {
    struct support_dir dir;
    struct sg_audit *audit;
    struct sg_text lines;
    uint64_t seq, count, bad;
};

static int setup(void **state)
{
    static struct fixture f;
    const char *const set[] = {"audit.denials_per_second=10", "audit.retention=2d", NULL};
    f = (struct fixture){0};
    support_dir_open(&f.dir);
    struct sg_config *config = support_config(set);
    assert_int_equal(sg_audit_create(f.dir.db, config, &f.audit), SG_OK);
    sg_config_unref(config);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    sg_audit_destroy(&f->audit);
    assert_null(f->audit);
    sg_text_free(&f->lines);
    support_dir_close(&f->dir);
    sg_clock_test_advance_ms(0);
    sg_metrics_reset();
    return 0;
}

static void note(struct fixture *f, const char *actor, const char *action, const char *result)
{
    const struct sg_audit_event e = {.event_type = "security",
                                     .actor = actor,
                                     .action = action,
                                     .resource = "asset/x",
                                     .result = result,
                                     .details = "{\"why\":\"test\"}",
                                     .request_id = "01ARZ3NDEKTSV4RRFFQ69G5FAV"};
    sg_audit_note(f->audit, &e);
}

static enum sg_error export(struct sg_db_conn *c, void *arg) {
    struct fixture *f = arg; const struct sg_audit_query q = {.limit = 10000};
    enum sg_error err = sg_audit_export(c, &q, &f->lines, &f->seq);
    return err != SG_OK ? err : sg_audit_verify(c, &f->count, &f->bad);
}

/* Everything in the log, one line each; the chain must hold. */
static const char *written(struct fixture *f)
{
    sg_text_free(&f->lines);
    assert_int_equal(sg_db_read(f->dir.db, export, f), SG_OK);
    assert_int_equal(f->bad, 0);
    return f->lines.ptr != NULL ? f->lines.ptr : "";
}

static void writes_what_it_was_told(void **state)
{
    struct fixture *f = *state;
    char actor[] = "anna";
    note(f, actor, "asset.read", "denied");
    actor[0] = 'X'; /* copied, not kept */
    assert_string_equal(written(f), "");
    sg_audit_tick(f->audit);
    const char *text = written(f);
    assert_int_equal(f->count, 1);
    assert_non_null(strstr(text, "\"anna\""));
    assert_non_null(strstr(text, "asset.read"));
    assert_non_null(strstr(text, "01ARZ3NDEKTSV4RRFFQ69G5FAV"));
    assert_non_null(strstr(text, "test"));
    assert_true(sg_metric_read(SG_METRIC_AUDIT_SUMMARISED, 0) == 0);
}

static void folds_a_flood(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 100000; i++) {
        char actor[32];
        (void)snprintf(actor, sizeof actor, "10.0.0.%u", i % 200);
        note(f, actor, "limit.exceeded", "denied");
    }
    note(f, "eve", "key.guess", "failure");
    note(f, "anna", "key.create", "success"); /* no denial: never summarised for the rate */
    sg_audit_tick(f->audit);
    const char *text = written(f);
    /* A slow run may see a second or more pass: ten events for each begun, and two summaries. */
    assert_in_range(f->count, 10 + 1 + 1, 200);
    assert_non_null(strstr(text, "\"key.create\""));
    assert_non_null(strstr(text, "count"));
    double summarised = sg_metric_read(SG_METRIC_AUDIT_SUMMARISED, 0);
    assert_true(summarised > 90000);
    assert_true(sg_metric_read(SG_METRIC_AUDIT_EVENTS, 0) >= (double)f->count - 0.5);
    uint64_t before = f->count;
    sg_audit_tick(f->audit);
    (void)written(f);
    assert_int_equal(f->count, before); /* told once */
}

/* One summary a kind, with the number and at most five actors. */
static void summary_counts_and_names_some(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 30; i++) {
        char actor[32];
        (void)snprintf(actor, sizeof actor, "actor-%u", i);
        note(f, actor, "limit.exceeded", "denied");
    }
    sg_audit_tick(f->audit);
    const char *text = written(f);
    uint64_t events = 0;
    uint64_t summarised = 0;
    unsigned summaries = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        json_t *line = NULL;
        assert_int_equal(sg_json_parse(text, len, &line, NULL), SG_OK);
        json_t *details = json_object_get(line, "details");
        json_t *count = json_object_get(details, "count");
        if (count != NULL) {
            summaries++;
            summarised += (uint64_t)json_integer_value(count);
            assert_in_range(json_array_size(json_object_get(details, "actors")), 1, 5);
            assert_string_equal(json_string_value(json_object_get(line, "action")),
                                "limit.exceeded");
        } else {
            events++;
        }
        json_decref(line);
        text += len + (text[len] == '\n');
    }
    assert_int_equal(summaries, 1);
    assert_int_equal(events + summarised, 30);
}

static void a_full_queue_only_counts(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 5000; i++)
        note(f, "anna", "asset.read", "success");
    sg_audit_tick(f->audit);
    (void)written(f);
    assert_int_equal(f->count, 4096 + 1);
    assert_true(sg_metric_read(SG_METRIC_AUDIT_SUMMARISED, 0) == 5000 - 4096);
}

static void odd_events_are_taken(void **state)
{
    struct fixture *f = *state;
    static char big[10000];
    memset(big, 'x', sizeof big - 1);
    const struct sg_audit_event empty = {0};
    const struct sg_audit_event huge = {.event_type = big,
                                        .actor = big,
                                        .action = big,
                                        .resource = big,
                                        .result = big,
                                        .details = big};
    sg_audit_note(f->audit, &empty);
    sg_audit_note(f->audit, &huge);
    const struct sg_audit_event no_json = {.event_type = "security", .details = "{\"cut"};
    sg_audit_note(f->audit, &no_json);
    for (unsigned i = 0; i < 20; i++) { /* and in a summary */
        sg_audit_note(f->audit, &empty);
        sg_audit_note(f->audit, &huge);
    }
    for (unsigned i = 0; i < 200; i++) { /* more kinds than there are slots */
        char action[32];
        (void)snprintf(action, sizeof action, "action-%u", i);
        note(f, "\xff\xfe", action, "denied");
    }
    sg_audit_tick(f->audit);
    assert_non_null(strstr(written(f), "truncated"));
    assert_non_null(strstr(written(f), "audit.various"));
    assert_non_null(strstr(written(f), "malformed"));
    assert_true(f->count <= 10 + 64 + 20);
}

static void flushes_at_the_end(void **state)
{
    struct fixture *f = *state;
    note(f, "anna", "asset.read", "denied");
    sg_audit_destroy(&f->audit);
    (void)written(f);
    assert_int_equal(f->count, 1);
}

static void drops_what_is_older_than_the_retention(void **state)
{
    struct fixture *f = *state;
    const int64_t day_ms = INT64_C(24) * 3600 * 1000;
    note(f, "anna", "old", "denied");
    sg_audit_tick(f->audit);
    sg_clock_test_advance_ms(3 * day_ms);
    note(f, "anna", "new", "denied");
    sg_audit_tick(f->audit);
    const char *text = written(f);
    assert_null(strstr(text, "\"old\""));
    assert_non_null(strstr(text, "\"new\""));
}

static void *floods(void *arg)
{
    for (unsigned i = 0; i < 3000; i++)
        note(arg, "anna", "asset.read", i % 2 ? "denied" : "success");
    return NULL;
}

static void threads_share_it(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[4];
    for (size_t i = 0; i < SG_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, floods, f), 0);
    for (unsigned i = 0; i < 10; i++)
        sg_audit_tick(f->audit);
    for (size_t i = 0; i < SG_ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    sg_audit_tick(f->audit);
    (void)written(f);
    uint64_t summaries = (uint64_t)sg_metric_read(SG_METRIC_AUDIT_EVENTS, 0);
    assert_int_equal(f->count, summaries);
    assert_true(f->count > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(writes_what_it_was_told, setup, teardown),
        cmocka_unit_test_setup_teardown(folds_a_flood, setup, teardown),
        cmocka_unit_test_setup_teardown(summary_counts_and_names_some, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_queue_only_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(odd_events_are_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(flushes_at_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(drops_what_is_older_than_the_retention, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_share_it, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
