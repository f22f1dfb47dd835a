/* What the merged cells of a series say. Nothing here is shared between threads: the caller has
 * added the shards up. */
#include <stdlib.h>
#include <string.h>

#include "metrics_private.h"

void sg_metric_snapshot_free(struct metric_snapshot *s)
{
    uint32_t n = 0;
    for (size_t m = 0; m <= SG_METRIC_COUNT; m++)
        n = s->first[m] > n ? s->first[m] : n;
    for (uint32_t i = 0; i < n; i++)
        free(s->series[i].labels);
    free(s->series);
    free(s->cells);
    free(s->pinned);
    *s = (struct metric_snapshot){0};
}

static void read_number(enum metric_type type, const uint64_t *sums, const uint64_t *fixed,
                        struct metric_value *out)
{
    double set = 0;
    if (fixed[1] != 0)
        memcpy(&set, &fixed[0], sizeof(set));
    out->touched = fixed[1] != 0 || sums[0] != 0 || sums[1] != 0;
    out->count = sums[0];
    out->value = set + (type == METRIC_GAUGE ? (double)(int64_t)sums[0] : (double)sums[0]);
}

static void read_histogram(enum metric_type type, const uint64_t *sums,
                           struct sg_histogram_view *out)
{
    bool seconds = type == METRIC_HISTOGRAM_S;
    out->n = seconds ? BUCKETS_S : BUCKETS_B;
    for (unsigned i = 0; i < out->n; i++) {
        out->buckets[i] = sums[i];
        out->count += sums[i];
        if (i + 1 == out->n)
            out->bounds[i] = __builtin_inf();
        else
            out->bounds[i] = seconds ? (double)sg_metric_bounds_ns[i] / 1e9
                                     : (double)(UINT64_C(1) << (BYTES_SHIFT_FIRST + 2 * i));
    }
    out->sum = (double)sums[out->n] / (seconds ? 1e9 : 1);
}

void sg_metric_read_cells(enum metric_type type, const uint64_t *sums, const uint64_t *fixed,
                          struct metric_value *out)
{
    *out = (struct metric_value){0};
    if (type == METRIC_COUNTER || type == METRIC_GAUGE) {
        read_number(type, sums, fixed, out);
    } else {
        read_histogram(type, sums, &out->histogram);
        out->touched = out->histogram.count > 0;
    }
}

void sg_metric_snapshot_read(const struct metric_snapshot *s, enum sg_metric m, uint32_t series,
                             struct metric_value *out)
{
    uint32_t at = s->series[s->first[m] + series].offset;
    sg_metric_read_cells(sg_metric_rows[m].type, s->cells + at, s->pinned + at, out);
}
