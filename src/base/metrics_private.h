/* What metrics.c (cells, updates, merging), metrics_read.c (what cells say) and metrics_text.c
 * (exposition) share. Private to base. */
#ifndef SG_BASE_METRICS_PRIVATE_H
#define SG_BASE_METRICS_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/metrics.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM_S, METRIC_HISTOGRAM_B };

struct metric_row {
    const char *name;
    enum metric_type type;
    const char *labels;
    const char *help;
};

extern const struct metric_row sg_metric_rows[SG_METRIC_COUNT];

/* Cells of a counter or gauge: the number, and how often it was touched (gauges: 0 may be a true
 * value). Cells of a histogram: its buckets, then the sum. */
#define CELLS_NUMBER 2
#define BUCKETS_S 17
#define BUCKETS_B 15
#define BYTES_SHIFT_FIRST 10 /* 1 KiB; each next bound is four times the last */
extern const uint64_t sg_metric_bounds_ns[BUCKETS_S - 1];

/* One merged series. */
struct metric_value {
    bool touched;
    uint64_t count; /* counter: the sum of what was added */
    double value;   /* counter and gauge: everything together */
    struct sg_histogram_view histogram;
};

/* A copy of all merged series, taken under the registry's lock; formatting happens without it. */
struct metric_snapshot_series {
    char *labels; /* "" for none */
    uint32_t offset;
};

struct metric_snapshot {
    uint64_t *cells;  /* sums over threads; n_cells of them */
    uint64_t *pinned; /* what was set as a whole: the bits of a double */
    uint32_t n_cells;
    struct metric_snapshot_series *series; /* of metric m: [first[m], first[m + 1]) */
    uint32_t first[SG_METRIC_COUNT + 1];
};

/* The value of the cells of one series: sums over threads, and what was set as a whole. */
void sg_metric_read_cells(enum metric_type type, const uint64_t *sums, const uint64_t *fixed,
                          struct metric_value *out);

enum sg_error sg_metric_snapshot_take(struct metric_snapshot *out) SG_NODISCARD;
void sg_metric_snapshot_free(struct metric_snapshot *s);
void sg_metric_snapshot_read(const struct metric_snapshot *s, enum sg_metric m, uint32_t series,
                             struct metric_value *out);

#endif
