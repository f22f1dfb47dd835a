/* Counters, gauges and histograms in per-thread shards, merged at scrape. An update is a handful of instructions and takes no lock.
 * Text format: Prometheus exposition 0.0.4 and OpenMetrics 1.0. Thread-safe; the registry is process-global (house style 9). */
#ifndef STREAMGATE_BASE_METRICS_H
#define STREAMGATE_BASE_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/error.h"
#include "streamgate/base/str.h"

enum sg_metric {
#define SG_METRIC(id, name, type, labels, help) SG_METRIC_##id,
#include "streamgate/base/metrics.def"
#undef SG_METRIC
    SG_METRIC_COUNT
};

/* A metric has one unlabelled series, number 0, unless series were defined. Defining is for start-up, before a second thread exists:
 * returns the next series number of the metric. labels is Prometheus label text without braces, e.g. "route=\"/x\",method=\"GET\"",
 * copied; the same text gives the same number. Errors: NO_MEMORY, INVALID (unknown label name or too many series: 4096 a metric). */
enum sg_error sg_metric_define(enum sg_metric m, const char *labels, uint32_t *out_series) SG_NODISCARD;
/* Defines the fixed label values the metrics.def rows themselves imply are the caller's business; calling this frees everything
 * (tests and shutdown, when one thread is left). */
void sg_metrics_reset(void);

void sg_metric_add(enum sg_metric m, uint32_t series, uint64_t n);          /* COUNTER */
void sg_metric_gauge_set(enum sg_metric m, uint32_t series, double value);  /* GAUGE */
void sg_metric_gauge_add(enum sg_metric m, uint32_t series, int64_t delta); /* GAUGE kept as a sum of per-thread deltas */
void sg_metric_observe_ns(enum sg_metric m, uint32_t series, uint64_t ns);      /* HISTOGRAM_S */
void sg_metric_observe_bytes(enum sg_metric m, uint32_t series, uint64_t bytes); /* HISTOGRAM_B */
/* For counters the source of truth of which is elsewhere (process CPU): sets the total. */
void sg_metric_counter_set(enum sg_metric m, uint32_t series, double total);

/* Merged values, for rules and JSON views. Sums over all series when series is SG_METRIC_ALL. */
#define SG_METRIC_ALL UINT32_MAX
double sg_metric_read(enum sg_metric m, uint32_t series);
struct sg_histogram_view { uint64_t count; double sum; uint64_t buckets[32]; double bounds[32]; unsigned n; }; /* buckets not cumulative; the last is +Inf */
void sg_metric_read_histogram(enum sg_metric m, uint32_t series, struct sg_histogram_view *out);

/* Appends the exposition text. openmetrics: application/openmetrics-text; version=1.0.0 (ends with # EOF). Series never touched are shown as 0,
 * but left out when they are by route. `promtool check metrics` is silent on the output. */
void sg_metrics_write(struct sg_text *out, bool openmetrics);
void sg_metrics_write_markdown(struct sg_text *out); /* docs/METRICS.md */

#endif
