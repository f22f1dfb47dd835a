#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/layers/alerts.h"

#include "layers_support.h"
#include "signals.h"

static const struct sg_alert_rule test_rules[] = {
    {.name = "high",
     .level = SG_ALERT_WARNING,
     .signal = SG_SIGNAL_CPU_SHARE,
     .op = SG_OP_GT,
     .threshold = 0.8,
     .clear = 0.6,
     .for_ms = 3000,
     .clear_for_ms = 2000,
     .summary = "High"},
    {.name = "low",
     .level = SG_ALERT_CRITICAL,
     .signal = SG_SIGNAL_DISK_FREE_SHARE,
     .op = SG_OP_LT,
     .threshold = 0.1,
     .clear = 0.1,
     .summary = "Low"},
};

struct seen {
    unsigned raised, resolved;
    struct sg_alert last;
};

static void see(void *arg, const struct sg_alert *alert, bool resolved)
{
    struct seen *s = arg;
    if (resolved)
        s->resolved++;
    else
        s->raised++;
    s->last = *alert;
}

static void swallow(void *arg, const char *line)
{
    (void)arg;
    (void)line;
}

static int64_t clock_ms; /* what the clocks are ahead by */

static int setup(void **state)
{
    (void)state;
    sg_log_test_sink(swallow, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sg_clock_test_advance_ms(0);
    clock_ms = 0;
    sg_log_test_sink(NULL, NULL);
    sg_metrics_reset();
    return 0;
}

static struct sg_alerts *make(const struct sg_alert_rule *rules, size_t n, struct seen *seen)
{
    struct sg_config *config = support_config(NULL);
    struct sg_alerts *a = NULL;
    assert_int_equal(sg_alerts_create(config, rules, n, &a), SG_OK);
    sg_config_unref(config);
    *seen = (struct seen){0};
    const struct sg_alert_handler h = {.name = "test", .notify = see, .arg = seen};
    assert_int_equal(sg_alerts_add_handler(a, &h), SG_OK);
    return a;
}

static void tick_at(struct sg_alerts *a, int64_t at_ms)
{
    if (at_ms != clock_ms)
        sg_clock_test_advance_ms(at_ms -
                                 clock_ms); /* each call adds; 0 would take all of it back */
    clock_ms = at_ms;
    sg_alerts_tick(a, -1);
}

static size_t active(struct sg_alerts *a)
{
    struct sg_alert list[16];
    return sg_alerts_list(a, true, list, SG_ARRAY_LEN(list));
}

static void raises_after_its_time_and_resolves_past_clear(void **state)
{
    (void)state;
    struct seen seen;
    struct sg_alerts *a = make(test_rules, 1, &seen);
    sg_alerts_test_signal(a, SG_SIGNAL_CPU_SHARE, 0.8); /* not above */
    tick_at(a, 0);
    tick_at(a, 10000);
    assert_int_equal(seen.raised, 0);
    sg_alerts_test_signal(a, SG_SIGNAL_CPU_SHARE, 0.9);
    tick_at(a, 11000);
    tick_at(a, 13000);
    sg_alerts_test_signal(a, SG_SIGNAL_CPU_SHARE, 0.7); /* a break: the time starts over */
    tick_at(a, 13500);
    sg_alerts_test_signal(a, SG_SIGNAL_CPU_SHARE, 0.9);
    tick_at(a, 14000);
    tick_at(a, 16500);
    assert_int_equal(seen.raised, 0);
    tick_at(a, 17000);
    assert_int_equal(seen.raised, 1);
    assert_string_equal(seen.last.name, "high");
    assert_int_equal(seen.last.resolved_ms, 0);
    assert_non_null(strstr(seen.last.summary, "cpu_share is 0.9"));
    assert_true(seen.last.value > 0.89 && seen.last.value < 0.91);
    tick_at(a, 30000);
    assert_int_equal(seen.raised, 1); /* one alert, however long it lasts */
    assert_int_equal(active(a), 1);
    assert_true(sg_metric_read(SG_METRIC_ALERTS_ACTIVE, SG_METRIC_ALL) == 1);

    sg_alerts_test_signal(a, SG_SIGNAL_CPU_SHARE, 0.7); /* below the threshold, not past clear */
    tick_at(a, 40000);
    tick_at(a, 50000);
    sg_alerts_test_signal(a, SG_SIGNAL_CPU_SHARE, 0.5);
    tick_at(a, 51000);
    sg_alerts_test_signal(a, SG_SIGNAL_CPU_SHARE, 0.65);
    tick_at(a, 52000);
    sg_alerts_test_signal(a, SG_SIGNAL_CPU_SHARE, 0.5);
    tick_at(a, 53000);
    tick_at(a, 54000);
    assert_int_equal(seen.resolved, 0);
    tick_at(a, 55000);
    assert_int_equal(seen.resolved, 1);
    assert_true(seen.last.resolved_ms > seen.last.raised_ms);
    assert_int_equal(active(a), 0);
    assert_true(sg_metric_read(SG_METRIC_ALERTS_ACTIVE, SG_METRIC_ALL) == 0);
    assert_true(sg_metric_read(SG_METRIC_ALERTS_RAISED, SG_METRIC_ALL) == 1);
    struct sg_alert history[4];
    assert_int_equal(sg_alerts_list(a, false, history, 4), 1);
    assert_int_equal(history[0].resolved_ms, seen.last.resolved_ms);
    sg_alerts_destroy(&a);
    assert_null(a);
}

static void unknown_changes_nothing(void **state)
{
    (void)state;
    struct seen seen;
    struct sg_alerts *a = make(test_rules, SG_ARRAY_LEN(test_rules), &seen);
    tick_at(a, 0); /* no data directory: the disk is unknown */
    assert_int_equal(seen.raised, 0);
    sg_alerts_test_signal(a, SG_SIGNAL_DISK_FREE_SHARE, 0.05);
    tick_at(a, 1000);
    assert_int_equal(seen.raised, 1);
    sg_alerts_test_signal(a, SG_SIGNAL_DISK_FREE_SHARE, NAN);
    tick_at(a, 2000);
    assert_int_equal(active(a), 1);
    sg_alerts_test_signal(a, SG_SIGNAL_DISK_FREE_SHARE,
                          0.1); /* exactly at threshold and clear: good */
    tick_at(a, 3000);
    assert_int_equal(seen.resolved, 1);
    sg_alerts_destroy(&a);
}

static void every_comparison(void **state)
{
    (void)state;
    static const struct {
        enum sg_alert_op op;
        bool at[3]; /* raised at 1, 2, 3 with threshold 2 */
    } rows[] = {
        {SG_OP_GT, {false, false, true}}, {SG_OP_LT, {true, false, false}},
        {SG_OP_EQ, {false, true, false}}, {SG_OP_GTE, {false, true, true}},
        {SG_OP_LTE, {true, true, false}},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        const struct sg_alert_rule rule = {.name = "op",
                                           .signal = SG_SIGNAL_SERVICE_HEALTH,
                                           .op = rows[i].op,
                                           .threshold = 2,
                                           .clear = 2,
                                           .summary = "Op"};
        struct seen seen;
        struct sg_alerts *a = make(&rule, 1, &seen);
        for (unsigned v = 1; v <= 3; v++) {
            sg_alerts_test_signal(a, SG_SIGNAL_SERVICE_HEALTH, v);
            tick_at(a, 1000 * v);
            if ((active(a) == 1) != rows[i].at[v - 1])
                fail_msg("op %d at %u", (int)rows[i].op, v);
        }
        sg_alerts_destroy(&a);
        teardown(state);
        setup(state);
    }
}

static void rates_come_from_the_metrics(void **state)
{
    (void)state;
    struct seen seen;
    struct sg_config *config = support_config(NULL);
    struct sg_alerts *a = make(NULL, 0, &seen);
    sg_metric_gauge_set(SG_METRIC_SERVICE_HEALTH, 0, 1);
    sg_alerts_test_signal(a, SG_SIGNAL_CPU_SHARE, 0);
    sg_alerts_test_signal(a, SG_SIGNAL_MEMORY_SHARE, 0);
    for (unsigned i = 0; i < 10; i++) { /* 10 failures of 10: too few to say anything */
        sg_metric_add(SG_METRIC_REQUEST_COUNT, 0, 1);
        sg_metric_add(SG_METRIC_REQUEST_FAILED, 0, 1);
    }
    for (unsigned s = 1; s <= 12; s++)
        tick_at(a, s * 1000);
    assert_int_equal(seen.raised, 0);
    assert_true(sg_metric_read(SG_METRIC_ERROR_RATE, 0) > 0.99);
    sg_metric_add(SG_METRIC_REQUEST_COUNT, 0, 90);
    sg_metric_add(SG_METRIC_REQUEST_SUCCESS, 0, 89);
    sg_metric_add(SG_METRIC_REQUEST_FAILED, 0, 1);
    tick_at(a, 13000); /* 11 of 100 */
    tick_at(a, 19000);
    assert_int_equal(seen.raised, 1);
    assert_string_equal(seen.last.name, "error_rate_critical");
    assert_true(fabs(sg_metric_read(SG_METRIC_ERROR_RATE, 0) - 0.11) < 0.001);
    assert_true(fabs(sg_metric_read(SG_METRIC_SUCCESS_RATE, 0) - 0.89) < 0.001);
    for (unsigned s = 20; s <= 120; s++) /* the window moves on; silence is no error */
        tick_at(a, s * 1000);
    assert_int_equal(active(a), 0);
    assert_true(sg_metric_read(SG_METRIC_ERROR_RATE, 0) < 0.001);

    for (unsigned i = 0; i < 100; i++) {
        sg_metric_add(SG_METRIC_REQUEST_COUNT, 0, 1);
        sg_metric_add(SG_METRIC_REQUEST_SUCCESS, 0, 1);
        sg_metric_observe_ns(SG_METRIC_REQUEST_LATENCY, 0,
                             i < 90 ? UINT64_C(1000000) : UINT64_C(20000000000));
    }
    seen = (struct seen){0};
    tick_at(a, 121000);
    tick_at(a, 127000);
    assert_int_equal(seen.raised, 1);
    assert_string_equal(seen.last.name, "latency_critical");
    assert_true(seen.last.value > 5);
    sg_metric_gauge_set(SG_METRIC_SERVICE_HEALTH, 0, 0);
    tick_at(a, 128000);
    tick_at(a, 134000);
    assert_string_equal(seen.last.name, "latency_warning"); /* in the order of the table */
    assert_int_equal(seen.raised, 3);
    struct sg_alert newest;
    assert_int_equal(sg_alerts_list(a, true, &newest, 1), 1);
    sg_config_unref(config);
    sg_alerts_destroy(&a);
}

static void switching_off_resolves(void **state)
{
    (void)state;
    struct seen seen;
    struct sg_alerts *a = make(test_rules, SG_ARRAY_LEN(test_rules), &seen);
    sg_alerts_test_signal(a, SG_SIGNAL_DISK_FREE_SHARE, 0.01);
    tick_at(a, 0);
    assert_int_equal(active(a), 1);
    const char *const off[] = {"alerts.enabled=false", NULL};
    struct sg_config *config = support_config(off);
    sg_alerts_configure(a, config);
    sg_config_unref(config);
    tick_at(a, 1000);
    assert_int_equal(active(a), 0);
    assert_int_equal(seen.resolved, 1);
    tick_at(a, 2000);
    assert_int_equal(seen.raised, 1);
    sg_alerts_destroy(&a);
}

static void events_are_told_by_the_tick_or_at_the_end(void **state)
{
    (void)state;
    struct seen seen;
    struct sg_alerts *a = make(test_rules, SG_ARRAY_LEN(test_rules), &seen);
    sg_alerts_event(a, "started", "StreamGate started");
    assert_int_equal(seen.raised, 0);
    tick_at(a, 1000);
    assert_int_equal(seen.raised, 1);
    assert_string_equal(seen.last.name, "started");
    assert_int_equal(seen.last.level, SG_ALERT_INFO);
    assert_int_equal(seen.last.raised_ms, seen.last.resolved_ms);
    assert_int_equal(active(a), 0);
    sg_alerts_event(a, "stopped", "StreamGate stopped");
    struct sg_alert list[4];
    assert_int_equal(sg_alerts_list(a, false, list, 4), 2);
    assert_string_equal(list[0].name, "stopped");
    assert_string_equal(list[1].name, "started");
    sg_alerts_destroy(&a);
    assert_int_equal(seen.raised, 2);
    assert_string_equal(seen.last.name, "stopped");
}

static void history_is_bounded(void **state)
{
    (void)state;
    static struct sg_alert list[1100];
    struct seen seen;
    struct sg_alerts *a = make(test_rules, SG_ARRAY_LEN(test_rules), &seen);
    sg_alerts_test_signal(a, SG_SIGNAL_DISK_FREE_SHARE, 0.01);
    tick_at(a, 0);
    for (unsigned i = 0; i < 1050; i++)
        sg_alerts_event(a, "event", "Something");
    assert_int_equal(sg_alerts_list(a, false, list, SG_ARRAY_LEN(list)), 1000);
    assert_int_equal(active(a), 1); /* pushed out of the history, not out of sight */
    sg_alerts_test_signal(a, SG_SIGNAL_DISK_FREE_SHARE, 0.5);
    tick_at(a, 1000);
    assert_int_equal(active(a), 0);
    for (unsigned i = 0; i < 7; i++) {
        const struct sg_alert_handler h = {.name = "test", .notify = see, .arg = &seen};
        enum sg_error err = sg_alerts_add_handler(a, &h);
        assert_int_equal(err, i < 6 ? SG_OK : SG_ERR_TOO_LARGE);
    }
    sg_alerts_destroy(&a);
}

static void tick_reads_the_process_and_is_quick(void **state)
{
    (void)state;
    struct seen seen;
    struct sg_alerts *a = make(NULL, 0, &seen);
    int fd = open("/tmp", O_RDONLY | O_DIRECTORY);
    struct sg_histogram_view view;
    for (unsigned i = 0; i < 10; i++)
        sg_alerts_tick(a, fd);
    assert_true(sg_metric_read(SG_METRIC_PROCESS_RSS, 0) > 100 * 1024);
    assert_true(sg_metric_read(SG_METRIC_PROCESS_FDS, 0) >= 4);
    assert_true(sg_metric_read(SG_METRIC_PROCESS_CPU, 0) > 0);
    assert_true(sg_metric_read(SG_METRIC_DISK_TOTAL, 0) >= sg_metric_read(SG_METRIC_DISK_FREE, 0));
    assert_true(sg_metric_read(SG_METRIC_DISK_TOTAL, 0) > 0);
    sg_metric_read_histogram(SG_METRIC_ALERT_CHECK_LATENCY, 0, &view);
    assert_int_equal(view.count, 10);
    print_message("%.0f us a check\n", view.sum / 10 * 1e6);
    close(fd);
    sg_alerts_destroy(&a);
}

static void quantiles(void **state)
{
    (void)state;
    const double bounds[] = {1, 2, 4, INFINITY};
    const uint64_t none[] = {0, 0, 0, 0};
    const uint64_t even[] = {50, 50, 0, 0};
    const uint64_t tail[] = {90, 0, 0, 10};
    const uint64_t one[] = {0, 0, 100, 0};
    assert_true(fabs(sg_signals_quantile(none, bounds, 4, 0.95)) < 1e-9);
    assert_true(fabs(sg_signals_quantile(even, bounds, 4, 0.95) - 1.9) < 1e-9);
    assert_true(fabs(sg_signals_quantile(even, bounds, 4, 0.5) - 1) < 1e-9);
    assert_true(sg_signals_quantile(tail, bounds, 4, 0.95) > 4);
    assert_true(fabs(sg_signals_quantile(one, bounds, 4, 0.95) - 3.9) < 1e-9);
}

static void fields_of_proc(void **state)
{
    (void)state;
    uint64_t v = 0;
    assert_true(sg_signals_field("1 22 333\n", 1, &v));
    assert_int_equal(v, 22);
    assert_true(sg_signals_field("MemTotal:       16384 kB\n", 1, &v));
    assert_int_equal(v, 16384);
    assert_false(sg_signals_field("max\n", 0, &v));
    assert_false(sg_signals_field("1 2", 2, &v));
    assert_false(sg_signals_field("", 0, &v));
    assert_false(sg_signals_field("99999999999999999999", 0, &v));
}

static void names_are_there(void **state)
{
    (void)state;
    for (unsigned s = 0; s < SG_SIGNAL_COUNT; s++)
        assert_non_null(sg_signal_name((enum sg_signal)s));
    for (size_t i = 0; i < sg_builtin_rule_count; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(sg_builtin_rules[i].name, sg_builtin_rules[j].name);
    assert_int_equal(sg_builtin_rule_count, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(raises_after_its_time_and_resolves_past_clear, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(unknown_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(every_comparison, setup, teardown),
        cmocka_unit_test_setup_teardown(rates_come_from_the_metrics, setup, teardown),
        cmocka_unit_test_setup_teardown(switching_off_resolves, setup, teardown),
        cmocka_unit_test_setup_teardown(events_are_told_by_the_tick_or_at_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(history_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(tick_reads_the_process_and_is_quick, setup, teardown),
        cmocka_unit_test(quantiles),
        cmocka_unit_test(fields_of_proc),
        cmocka_unit_test(names_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
