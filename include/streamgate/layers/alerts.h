/* Alert rules over the metrics, evaluated once a second: thresholds that must hold for a time, hysteresis, dedup, history, handlers. Thread-safe.
 * All rules take under 10 ms to check; a raise is handed over within 100 ms of the check that sees it. */
#ifndef STREAMGATE_LAYERS_ALERTS_H
#define STREAMGATE_LAYERS_ALERTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/config.h"
#include "streamgate/base/error.h"

enum sg_alert_level { SG_ALERT_INFO, SG_ALERT_WARNING, SG_ALERT_CRITICAL, SG_ALERT_LEVELS };
enum sg_alert_op { SG_OP_GT, SG_OP_LT, SG_OP_EQ, SG_OP_GTE, SG_OP_LTE };
/* What a rule looks at; the engine computes each once a check from the metrics (rates over a 60 s window). */
enum sg_signal { SG_SIGNAL_ERROR_RATE, SG_SIGNAL_LATENCY_P95_S, SG_SIGNAL_SERVICE_HEALTH, SG_SIGNAL_MEMORY_SHARE, SG_SIGNAL_CPU_SHARE, SG_SIGNAL_DISK_FREE_SHARE,
                 SG_SIGNAL_CACHE_EVICTIONS_PER_S, SG_SIGNAL_COUNT };
const char *sg_signal_name(enum sg_signal s);

struct sg_alert_rule {
    const char *name;            /* "error_rate_critical": stable */
    enum sg_alert_level level;
    enum sg_signal signal; enum sg_alert_op op; double threshold;
    double clear;                /* hysteresis: resolved only when the value is past this on the good side */
    uint64_t for_ms, clear_for_ms; /* how long each must hold */
    const char *summary;
};
extern const struct sg_alert_rule sg_builtin_rules[];
extern const size_t sg_builtin_rule_count;

struct sg_alert { char id[SG_ULID_SIZE]; const char *name; enum sg_alert_level level; double value, threshold; uint64_t raised_ms, resolved_ms; /* 0: active */ char summary[160]; };
struct sg_alert_handler { const char *name; void (*notify)(void *arg, const struct sg_alert *alert, bool resolved); void *arg; }; /* called without a lock, on the ticking thread */

struct sg_alerts;
/* Defines the series of ALERTS_*. The log handler is always there. rules NULL: the built-in ones (error rate > 10 %, service down, latency > 5 s, out of memory, disk full;
 * error rate > 5 %, latency > 2 s, CPU > 80 %, memory > 80 %, eviction rate high; and the info events started, stopped, configuration changed, cache warmed through sg_alerts_event). */
enum sg_error sg_alerts_create(const struct sg_config *config, const struct sg_alert_rule *rules, size_t n_rules, struct sg_alerts **out) SG_NODISCARD;
void sg_alerts_destroy(struct sg_alerts **a);
void sg_alerts_configure(struct sg_alerts *a, const struct sg_config *config);
enum sg_error sg_alerts_add_handler(struct sg_alerts *a, const struct sg_alert_handler *h) SG_NODISCARD; /* before ticking starts; at most 8 */
/* Samples process and metric values, computes ERROR_RATE and SUCCESS_RATE gauges, process and disk gauges (data_dirfd may be -1), evaluates, notifies. Once a second. */
void sg_alerts_tick(struct sg_alerts *a, int data_dirfd);
void sg_alerts_event(struct sg_alerts *a, const char *name, const char *summary); /* an info alert, raised and resolved at once; name is static; handlers hear of it at the next tick, or in destroy */
/* Copies at most n, newest first; returns how many. active_only: those not resolved. */
size_t sg_alerts_list(struct sg_alerts *a, bool active_only, struct sg_alert *out, size_t n);
/* Tests: replaces the computed value of a signal (NAN: back to computed). */
void sg_alerts_test_signal(struct sg_alerts *a, enum sg_signal s, double value);

#endif
