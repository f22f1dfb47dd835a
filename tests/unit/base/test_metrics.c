/* Metrics: merging over threads, bucket edges, labels, both text formats, and promtool's opinion
 * when it is installed. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "streamgate/base/metrics.h"

#include "support/unit.h"

static int reset(void **state)
{
    (void)state;
    sg_metrics_reset();
    return 0;
}

#define THREADS 4
#define ADDS 50000

static uint32_t late_series;
static pthread_barrier_t late;

static void *count(void *arg)
{
    (void)arg;
    for (int i = 0; i < ADDS; i++) {
        sg_metric_add(SG_METRIC_STREAM_BYTES, 0, 3);
        sg_metric_gauge_add(SG_METRIC_ACTIVE_CONNECTIONS, 0, i % 2 == 0 ? 5 : -4);
        sg_metric_observe_ns(SG_METRIC_DB_COMMIT_LATENCY, 0, 2000000);
    }
    pthread_barrier_wait(&late);
    pthread_barrier_wait(&late); /* meanwhile the main thread defines a series */
    sg_metric_add(SG_METRIC_CACHE_HIT, late_series, 2);
    return NULL;
}

static void threads_are_merged(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    assert_int_equal(pthread_barrier_init(&late, NULL, THREADS + 1), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
    pthread_barrier_wait(&late);
    assert_true(sg_metric_read(SG_METRIC_STREAM_BYTES, 0) == 3.0 * THREADS * ADDS);
    assert_int_equal(sg_metric_define(SG_METRIC_CACHE_HIT, "namespace=\"a\"", &late_series), SG_OK);
    assert_int_equal(sg_metric_define(SG_METRIC_CACHE_HIT, "namespace=\"b\"", &late_series), SG_OK);
    pthread_barrier_wait(&late);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&late);
    /* The threads are gone; what they counted is not. */
    assert_true(sg_metric_read(SG_METRIC_STREAM_BYTES, SG_METRIC_ALL) == 3.0 * THREADS * ADDS);
    assert_true(sg_metric_read(SG_METRIC_ACTIVE_CONNECTIONS, 0) == 0.5 * THREADS * ADDS);
    assert_true(sg_metric_read(SG_METRIC_CACHE_HIT, late_series) == 2.0 * THREADS);
    struct sg_histogram_view view;
    sg_metric_read_histogram(SG_METRIC_DB_COMMIT_LATENCY, 0, &view);
    assert_int_equal(view.count, THREADS * ADDS);
    assert_int_equal(view.buckets[2], THREADS * ADDS);
    assert_true(fabs(view.sum - 0.002 * THREADS * ADDS) < 1e-6);
}

static void bucket_edges(void **state)
{
    (void)state;
    struct sg_histogram_view view;
    sg_metric_read_histogram(SG_METRIC_UPLOAD_LATENCY, 0, &view);
    assert_int_equal(view.n, 17);
    assert_true(isinf(view.bounds[16]));
    for (unsigned i = 0; i + 1 < view.n; i++) {
        uint64_t bound = (uint64_t)(view.bounds[i] * 1e9 + 0.5);
        sg_metric_observe_ns(SG_METRIC_UPLOAD_LATENCY, 0, bound);     /* its own bucket: le */
        sg_metric_observe_ns(SG_METRIC_UPLOAD_LATENCY, 0, bound + 1); /* the next one */
    }
    sg_metric_observe_ns(SG_METRIC_UPLOAD_LATENCY, 0, 0);
    sg_metric_read_histogram(SG_METRIC_UPLOAD_LATENCY, 0, &view);
    for (unsigned i = 0; i < view.n; i++)
        assert_int_equal(view.buckets[i], i == 16 ? 1 : 2);

    sg_metric_read_histogram(SG_METRIC_UPLOAD_SIZE, 0, &view);
    assert_int_equal(view.n, 15);
    assert_true(view.bounds[0] == 1024 && view.bounds[1] == 4096 &&
                view.bounds[13] == 68719476736.0);
    for (unsigned i = 0; i + 1 < view.n; i++) {
        sg_metric_observe_bytes(SG_METRIC_UPLOAD_SIZE, 0, (uint64_t)view.bounds[i]);
        sg_metric_observe_bytes(SG_METRIC_UPLOAD_SIZE, 0, (uint64_t)view.bounds[i] + 1);
    }
    sg_metric_observe_bytes(SG_METRIC_UPLOAD_SIZE, 0, 0);
    sg_metric_observe_bytes(SG_METRIC_UPLOAD_SIZE, 0, UINT64_MAX);
    sg_metric_read_histogram(SG_METRIC_UPLOAD_SIZE, 0, &view);
    for (unsigned i = 0; i < view.n; i++)
        assert_int_equal(view.buckets[i], 2);
}

static void definitions(void **state)
{
    (void)state;
    uint32_t a = 99, b = 99, again = 99;
    assert_int_equal(
        sg_metric_define(SG_METRIC_RATE_LIMIT_EXCEEDED, "policy=\"auth\",scope=\"ip\"", &a), SG_OK);
    assert_int_equal(
        sg_metric_define(SG_METRIC_RATE_LIMIT_EXCEEDED, "policy=\"a\\\"\\\\\\n\",scope=\"ip\"", &b),
        SG_OK);
    assert_int_equal(
        sg_metric_define(SG_METRIC_RATE_LIMIT_EXCEEDED, "policy=\"auth\",scope=\"ip\"", &again),
        SG_OK);
    assert_int_equal(a, 0);
    assert_int_equal(b, 1);
    assert_int_equal(again, 0);
    static const char *const bad[] = {
        "colour=\"x\"",   "policy",          "policy=x",
        "policy=\"x",     "policy=\"x\",",   "policy=\"x\"scope=\"y\"",
        "policy=\"\\x\"", "policy=\"a\nb\"", "policy=\"\\",
        "polic=\"x\"",    "policy=\"\xFF\"", ",policy=\"x\""};
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++)
        assert_int_equal(sg_metric_define(SG_METRIC_RATE_LIMIT_EXCEEDED, bad[i], &a),
                         SG_ERR_INVALID);
    for (int i = 0; i < 4096; i++) {
        char labels[64];
        snprintf(labels, sizeof(labels), "route=\"/%d\"", i);
        assert_int_equal(sg_metric_define(SG_METRIC_REQUEST_LATENCY, labels, &a), SG_OK);
        assert_int_equal(a, i);
        sg_metric_observe_ns(SG_METRIC_REQUEST_LATENCY, a, (uint64_t)i);
    }
    assert_int_equal(sg_metric_define(SG_METRIC_REQUEST_LATENCY, "route=\"/x\"", &a),
                     SG_ERR_INVALID);
    struct sg_histogram_view view;
    sg_metric_read_histogram(SG_METRIC_REQUEST_LATENCY, SG_METRIC_ALL, &view);
    assert_int_equal(view.count, 4096);
    sg_metric_read_histogram(SG_METRIC_REQUEST_LATENCY, 4095, &view);
    assert_int_equal(view.count, 1);
    sg_metric_add(SG_METRIC_RATE_LIMIT_EXCEEDED, 2, 1); /* never given out: nowhere */
    assert_true(sg_metric_read(SG_METRIC_RATE_LIMIT_EXCEEDED, SG_METRIC_ALL) == 0);
    assert_true(sg_metric_read(SG_METRIC_RATE_LIMIT_EXCEEDED, 2) == 0);
}

static void fill(void)
{
    uint32_t s;
    assert_int_equal(sg_metric_define(SG_METRIC_REQUEST_COUNT,
                                      "method=\"GET\",route=\"/a/{id}\",code=\"2xx\"", &s),
                     SG_OK);
    sg_metric_add(SG_METRIC_REQUEST_COUNT, s, 7);
    assert_int_equal(sg_metric_define(SG_METRIC_REQUEST_COUNT,
                                      "method=\"PUT\",route=\"/a/{id}\",code=\"2xx\"", &s),
                     SG_OK);
    assert_int_equal(sg_metric_define(SG_METRIC_CACHE_SIZE, "namespace=\"streaming\"", &s), SG_OK);
    sg_metric_gauge_set(SG_METRIC_CACHE_SIZE, s, 0);
    assert_int_equal(sg_metric_define(SG_METRIC_REQUEST_LATENCY, "route=\"/a/{id}\"", &s), SG_OK);
    sg_metric_observe_ns(SG_METRIC_REQUEST_LATENCY, s, 700000);
    sg_metric_observe_ns(SG_METRIC_REQUEST_LATENCY, s, 61000000000);
    assert_int_equal(sg_metric_define(SG_METRIC_REQUEST_LATENCY, "route=\"/idle\"", &s), SG_OK);
    assert_int_equal(sg_metric_define(SG_METRIC_AUTH_FAILED, "method=\"api_key\"", &s), SG_OK);
    assert_int_equal(sg_metric_define(SG_METRIC_WORKER_JOB_LATENCY, "type=\"gc\"", &s), SG_OK);
    sg_metric_gauge_set(SG_METRIC_ERROR_RATE, 0, 0.1);
    sg_metric_counter_set(SG_METRIC_PROCESS_CPU, 0, 12.25);
    sg_metric_add(SG_METRIC_STREAM_BYTES, 0, (UINT64_C(1) << 53) + 1);
    sg_metric_observe_bytes(SG_METRIC_UPLOAD_SIZE, 0, 5000);
}

static void must_have(const struct sg_text *t, const char *const *lines, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strstr(t->ptr, lines[i]) == NULL)
            fail_msg("missing: %s", lines[i]);
    }
}

static void prometheus_text(void **state)
{
    (void)state;
    fill();
    struct sg_text t = {0};
    sg_metrics_write(&t, false);
    static const char *const lines[] = {
        "# TYPE streamgate_request_count_total counter\n",
        "\nstreamgate_request_count_total{method=\"GET\",route=\"/a/{id}\",code=\"2xx\"} 7\n",
        "\nstreamgate_cache_size_bytes{namespace=\"streaming\"} 0\n",
        "\nstreamgate_request_success_total 0\n",
        "\nstreamgate_error_rate 0.1\n",
        "\nstreamgate_process_cpu_seconds_total 12.25\n",
        "\nstreamgate_stream_bytes_total 9007199254740993\n",
        "\nstreamgate_request_latency_seconds_bucket{route=\"/a/{id}\",le=\"0.0005\"} 0\n",
        "\nstreamgate_request_latency_seconds_bucket{route=\"/a/{id}\",le=\"0.001\"} 1\n",
        "\nstreamgate_request_latency_seconds_bucket{route=\"/a/{id}\",le=\"60\"} 1\n",
        "\nstreamgate_request_latency_seconds_bucket{route=\"/a/{id}\",le=\"+Inf\"} 2\n",
        "\nstreamgate_request_latency_seconds_sum{route=\"/a/{id}\"} 61.0007\n",
        "\nstreamgate_request_latency_seconds_count{route=\"/a/{id}\"} 2\n",
        "\nstreamgate_upload_size_bytes_bucket{le=\"68719476736\"} 1\n",
        "\nstreamgate_auth_failed_total{method=\"api_key\"} 0\n",
        "\nstreamgate_worker_job_latency_seconds_bucket{type=\"gc\",le=\"+Inf\"} 0\n",
        "\nstreamgate_chunk_size_bytes_count 0\n",
    };
    must_have(&t, lines, SG_ARRAY_LEN(lines));
    assert_null(strstr(t.ptr, "PUT")); /* by route, and never touched */
    assert_null(strstr(t.ptr, "idle"));
    assert_null(strstr(t.ptr, "streamgate_cache_hit")); /* no series at all */
    assert_null(strstr(t.ptr, "EOF"));
    if (access("/usr/bin/promtool", X_OK) == 0) {
        FILE *f = popen(
            "/usr/bin/promtool check metrics 2>&1 | tee /dev/stderr | wc -c | grep -qx 0", "w");
        assert_non_null(f);
        assert_int_equal(fwrite(t.ptr, 1, t.len, f), t.len);
        assert_int_equal(pclose(f), 0);
    }
    sg_text_free(&t);
}

static void openmetrics_text(void **state)
{
    (void)state;
    fill();
    struct sg_text t = {0};
    sg_metrics_write(&t, true);
    static const char *const lines[] = {
        "# TYPE streamgate_request_count counter\n",
        "\nstreamgate_request_count_total{method=\"GET\",",
        "le=\"60.0\"} 1\n",
        "le=\"0.0005\"} 0\n",
    };
    must_have(&t, lines, SG_ARRAY_LEN(lines));
    assert_true(t.len > 6);
    assert_string_equal(t.ptr + t.len - 6, "# EOF\n");
    sg_text_free(&t);
    sg_metrics_write_markdown(&t);
    assert_non_null(
        strstr(t.ptr, "| `streamgate_request_count_total` | counter | method,route,code |"));
    sg_text_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(threads_are_merged, reset, reset),
        cmocka_unit_test_setup_teardown(bucket_edges, reset, reset),
        cmocka_unit_test_setup_teardown(definitions, reset, reset),
        cmocka_unit_test_setup_teardown(prometheus_text, reset, reset),
        cmocka_unit_test_setup_teardown(openmetrics_text, reset, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
