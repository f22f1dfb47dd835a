/* What alert rules look at, computed from the metrics, /proc, the cgroup and the file system. One
 * thread owns a struct sg_signals. */
#ifndef STREAMGATE_LAYERS_SIGNALS_H
#define STREAMGATE_LAYERS_SIGNALS_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/layers/alerts.h"

struct sg_signals;

/* Opens what it reads of /proc and the cgroup; a file that cannot be opened only leaves its signal
 * unknown. */
enum sg_error sg_signals_create(struct sg_signals **out) SG_NODISCARD;
void sg_signals_destroy(struct sg_signals **s);
/* Samples everything, sets the process, disk, error and success gauges, and writes each signal's
 * value: NAN where it is unknown. Rates and latency are 0 while fewer than min_requests fell into
 * the window. data_dirfd may be -1. */
void sg_signals_sample(struct sg_signals *s, int data_dirfd, uint64_t min_requests,
                       double values[SG_SIGNAL_COUNT]);

/* The p-quantile of a histogram's growth: counts of n buckets, not cumulative, the last one up to
 * infinity. 0 when empty; a value just above the last finite bound when it falls into the last
 * bucket. */
double sg_signals_quantile(const uint64_t *counts, const double *bounds, unsigned n, double p);
/* Field number `field` (0: the first) of white-space separated numbers in text; false when there is
 * none. */
bool sg_signals_field(const char *text, unsigned field, uint64_t *out);

#endif
