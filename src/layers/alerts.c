/* The alert engine.
 *
 * A rule raises when its comparison has held for for_ms without a break, and resolves when the
 * value has stayed past `clear` on the good side for clear_for_ms; between the two nothing happens,
 * and one rule has one alert at a time. An unknown value (NAN) changes nothing. What is to be told
 * is put into an outbox under the lock and told after it is released, by the ticking thread alone:
 * handlers never run twice at once. */
#include "streamgate/layers/alerts.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

#include "signals.h"

#define HISTORY 1000u
#define HANDLERS_MAX 8u
#define EVENTS_MAX 64u

struct rule_state {
    bool holding, clearing, active;
    uint64_t holding_since_ms, clearing_since_ms;
    struct sg_alert alert; /* when active */
};

struct notice {
    struct sg_alert alert;
    bool resolved;
};

struct sg_alerts {
    const struct sg_alert_rule *rules;
    size_t n_rules;
    uint32_t raised_series[SG_ALERT_LEVELS], active_series[SG_ALERT_LEVELS];
    struct sg_alert_handler handlers[HANDLERS_MAX];
    size_t n_handlers;
    struct sg_signals *signals; /* the ticking thread's */
    struct notice *outbox;      /* the ticking thread's: room for each rule and each event */
    size_t n_outbox;
    pthread_mutex_t lock; /* guards the rest */
    bool has_lock;
    bool enabled;
    uint64_t min_requests;
    double forced[SG_SIGNAL_COUNT];
    struct rule_state *states;
    struct sg_alert *history; /* ring */
    size_t newest, n_history;
    struct sg_alert events[EVENTS_MAX]; /* not told yet */
    size_t n_events;
};

static const char *const level_labels[SG_ALERT_LEVELS] = {
    [SG_ALERT_INFO] = "level=\"info\"",
    [SG_ALERT_WARNING] = "level=\"warning\"",
    [SG_ALERT_CRITICAL] = "level=\"critical\"",
};

static void log_notify(void *arg, const struct sg_alert *alert, bool resolved)
{
    static const enum sg_log_level levels[SG_ALERT_LEVELS] = {
        [SG_ALERT_INFO] = SG_LOG_INFO,
        [SG_ALERT_WARNING] = SG_LOG_WARN,
        [SG_ALERT_CRITICAL] = SG_LOG_ERROR,
    };
    (void)arg;
    if (alert->level == SG_ALERT_INFO)
        sg_info_log("alerts", "%s: %s", alert->name, alert->summary);
    else if (resolved)
        sg_info_log("alerts", "resolved %s (%s)", alert->name, alert->id);
    else
        sg_log(levels[alert->level], "alerts", "raised %s (%s): %s", alert->name, alert->id,
               alert->summary);
}

static enum sg_error define_series(struct sg_alerts *a)
{
    enum sg_error err = SG_OK;
    for (unsigned l = 0; err == SG_OK && l < SG_ALERT_LEVELS; l++) {
        err = sg_metric_define(SG_METRIC_ALERTS_RAISED, level_labels[l], &a->raised_series[l]);
        if (err == SG_OK)
            err = sg_metric_define(SG_METRIC_ALERTS_ACTIVE, level_labels[l], &a->active_series[l]);
    }
    return err;
}

enum sg_error sg_alerts_create(const struct sg_config *config, const struct sg_alert_rule *rules,
                               size_t n_rules, struct sg_alerts **out)
{
    enum sg_error err = SG_ERR_NO_MEMORY;
    struct sg_alerts *a = calloc(1, sizeof *a);
    if (a == NULL)
        return SG_ERR_NO_MEMORY;
    a->rules = rules != NULL ? rules : sg_builtin_rules;
    a->n_rules = rules != NULL ? n_rules : sg_builtin_rule_count;
    a->states = calloc(a->n_rules + 1, sizeof *a->states);
    a->history = calloc(HISTORY, sizeof *a->history);
    a->outbox = calloc(a->n_rules + EVENTS_MAX, sizeof *a->outbox);
    if (a->states == NULL || a->history == NULL || a->outbox == NULL ||
        pthread_mutex_init(&a->lock, NULL) != 0)
        goto out;
    a->has_lock = true;
    for (unsigned i = 0; i < SG_SIGNAL_COUNT; i++)
        a->forced[i] = NAN;
    a->handlers[a->n_handlers++] = (struct sg_alert_handler){.name = "log", .notify = log_notify};
    err = define_series(a);
    if (err != SG_OK)
        goto out;
    err = sg_signals_create(&a->signals);
    if (err != SG_OK)
        goto out;
    sg_alerts_configure(a, config);
    *out = a;
    a = NULL;
out:
    sg_alerts_destroy(&a);
    return err;
}

void sg_alerts_configure(struct sg_alerts *a, const struct sg_config *config)
{
    bool enabled = sg_config_bool(config, SG_SET_alerts_enabled);
    uint64_t min_requests = sg_config_uint(config, SG_SET_alerts_min_requests);
    pthread_mutex_lock(&a->lock);
    a->enabled = enabled;
    a->min_requests = min_requests;
    pthread_mutex_unlock(&a->lock);
}

enum sg_error sg_alerts_add_handler(struct sg_alerts *a, const struct sg_alert_handler *h)
{
    if (a->n_handlers == HANDLERS_MAX)
        return SG_ERR_TOO_LARGE;
    a->handlers[a->n_handlers++] = *h;
    return SG_OK;
}

static bool rule_holds(const struct sg_alert_rule *r, double v)
{
    switch (r->op) {
    case SG_OP_GT:
        return v > r->threshold;
    case SG_OP_LT:
        return v < r->threshold;
    case SG_OP_EQ:
        return v >= r->threshold && v <= r->threshold;
    case SG_OP_GTE:
        return v >= r->threshold;
    case SG_OP_LTE:
        return v <= r->threshold;
    }
    return false;
}

/* On the good side of `clear`; never at the same time as rule_holds, also when clear equals the
 * threshold. */
static bool rule_clears(const struct sg_alert_rule *r, double v)
{
    switch (r->op) {
    case SG_OP_GT:
        return v <= r->clear;
    case SG_OP_LT:
        return v >= r->clear;
    case SG_OP_EQ:
        return v < r->threshold || v > r->threshold;
    case SG_OP_GTE:
        return v < r->clear;
    case SG_OP_LTE:
        return v > r->clear;
    }
    return false;
}

static struct sg_alert *history_push(struct sg_alerts *a, const struct sg_alert *alert)
{
    a->newest = (a->newest + 1) % HISTORY;
    a->history[a->newest] = *alert;
    if (a->n_history < HISTORY)
        a->n_history++;
    return &a->history[a->newest];
}

/* The copy in the history, when it is not overwritten yet, learns that the alert is over. */
static void history_resolve(struct sg_alerts *a, const struct sg_alert *alert)
{
    for (size_t back = 0; back < a->n_history; back++) {
        struct sg_alert *h = &a->history[(a->newest + HISTORY - back) % HISTORY];
        if (strcmp(h->id, alert->id) == 0) {
            h->resolved_ms = alert->resolved_ms;
            return;
        }
    }
}

static void tell(struct sg_alerts *a, const struct sg_alert *alert, bool resolved)
{
    a->outbox[a->n_outbox++] = (struct notice){.alert = *alert, .resolved = resolved};
}

static void rule_raise(struct sg_alerts *a, size_t i, double value)
{
    const struct sg_alert_rule *r = &a->rules[i];
    struct rule_state *st = &a->states[i];
    st->active = true;
    st->clearing = false;
    st->alert = (struct sg_alert){.name = r->name,
                                  .level = r->level,
                                  .value = value,
                                  .threshold = r->threshold,
                                  .raised_ms = sg_clock_wall_ms()};
    sg_ulid_make(st->alert.id);
    (void)snprintf(st->alert.summary, sizeof st->alert.summary, "%s (%s is %.4g)", r->summary,
                   sg_signal_name(r->signal), value);
    history_push(a, &st->alert);
    sg_metric_add(SG_METRIC_ALERTS_RAISED, a->raised_series[r->level], 1);
    tell(a, &st->alert, false);
}

static void rule_resolve(struct sg_alerts *a, size_t i)
{
    struct rule_state *st = &a->states[i];
    st->active = false;
    st->holding = false;
    st->alert.resolved_ms = sg_clock_wall_ms();
    history_resolve(a, &st->alert);
    tell(a, &st->alert, true);
}

/* Whether `condition` has held since *since_ms for at least for_ms. */
static bool held(bool condition, bool *holding, uint64_t *since_ms, uint64_t now_ms,
                 uint64_t for_ms)
{
    if (!condition) {
        *holding = false;
        return false;
    }
    if (!*holding) {
        *holding = true;
        *since_ms = now_ms;
    }
    return now_ms - *since_ms >= for_ms;
}

static void rule_check(struct sg_alerts *a, size_t i, double value, uint64_t now_ms)
{
    const struct sg_alert_rule *r = &a->rules[i];
    struct rule_state *st = &a->states[i];
    if (!a->enabled) {
        st->holding = false;
        if (st->active)
            rule_resolve(a, i);
        return;
    }
    if (isnan(value))
        return;
    if (!st->active) {
        if (held(rule_holds(r, value), &st->holding, &st->holding_since_ms, now_ms, r->for_ms))
            rule_raise(a, i, value);
    } else {
        st->alert.value = value;
        if (held(rule_clears(r, value), &st->clearing, &st->clearing_since_ms, now_ms,
                 r->clear_for_ms))
            rule_resolve(a, i);
    }
}

static void evaluate(struct sg_alerts *a, const double values[SG_SIGNAL_COUNT])
{
    uint64_t now_ms = sg_clock_mono_ms();
    unsigned active[SG_ALERT_LEVELS] = {0};
    for (size_t i = 0; i < a->n_rules; i++) {
        enum sg_signal s = a->rules[i].signal;
        rule_check(a, i, isnan(a->forced[s]) ? values[s] : a->forced[s], now_ms);
        active[a->rules[i].level] += a->states[i].active;
    }
    for (unsigned l = 0; l < SG_ALERT_LEVELS; l++)
        sg_metric_gauge_set(SG_METRIC_ALERTS_ACTIVE, a->active_series[l], active[l]);
}

static void deliver(struct sg_alerts *a)
{
    for (size_t i = 0; i < a->n_outbox; i++)
        for (size_t h = 0; h < a->n_handlers; h++)
            a->handlers[h].notify(a->handlers[h].arg, &a->outbox[i].alert, a->outbox[i].resolved);
    a->n_outbox = 0;
}

/* Locked. */
static void take_events(struct sg_alerts *a)
{
    for (size_t i = 0; i < a->n_events; i++)
        tell(a, &a->events[i], false);
    a->n_events = 0;
}

void sg_alerts_tick(struct sg_alerts *a, int data_dirfd)
{
    double values[SG_SIGNAL_COUNT];
    uint64_t began_ns = sg_clock_mono_ns();
    pthread_mutex_lock(&a->lock);
    uint64_t min_requests = a->min_requests;
    pthread_mutex_unlock(&a->lock);
    sg_signals_sample(a->signals, data_dirfd, min_requests, values);
    pthread_mutex_lock(&a->lock);
    take_events(a);
    evaluate(a, values);
    pthread_mutex_unlock(&a->lock);
    sg_metric_observe_ns(SG_METRIC_ALERT_CHECK_LATENCY, 0, sg_clock_mono_ns() - began_ns);
    deliver(a);
}

void sg_alerts_event(struct sg_alerts *a, const char *name, const char *summary)
{
    uint64_t now_ms = sg_clock_wall_ms();
    struct sg_alert alert = {
        .name = name, .level = SG_ALERT_INFO, .raised_ms = now_ms, .resolved_ms = now_ms};
    sg_ulid_make(alert.id);
    (void)snprintf(alert.summary, sizeof alert.summary, "%s", summary);
    pthread_mutex_lock(&a->lock);
    history_push(a, &alert);
    if (a->n_events < EVENTS_MAX)
        a->events[a->n_events++] = alert;
    pthread_mutex_unlock(&a->lock);
    sg_metric_add(SG_METRIC_ALERTS_RAISED, a->raised_series[SG_ALERT_INFO], 1);
}

static size_t list_active(struct sg_alerts *a, struct sg_alert *out, size_t n)
{
    size_t got = 0;
    for (size_t i = 0; i < a->n_rules; i++) {
        if (!a->states[i].active)
            continue;
        const struct sg_alert *alert = &a->states[i].alert;
        size_t at = got;
        while (at > 0 && strcmp(out[at - 1].id, alert->id) < 0)
            at--;
        if (at == n)
            continue;
        size_t kept = got < n ? got : n - 1;
        memmove(&out[at + 1], &out[at], (kept - at) * sizeof *out);
        out[at] = *alert;
        got = kept + 1;
    }
    return got;
}

size_t sg_alerts_list(struct sg_alerts *a, bool active_only, struct sg_alert *out, size_t n)
{
    size_t got = 0;
    pthread_mutex_lock(&a->lock);
    if (active_only) {
        got = list_active(a, out, n);
    } else {
        for (; got < n && got < a->n_history; got++)
            out[got] = a->history[(a->newest + HISTORY - got) % HISTORY];
    }
    pthread_mutex_unlock(&a->lock);
    return got;
}

void sg_alerts_test_signal(struct sg_alerts *a, enum sg_signal s, double value)
{
    pthread_mutex_lock(&a->lock);
    a->forced[s] = value;
    pthread_mutex_unlock(&a->lock);
}

void sg_alerts_destroy(struct sg_alerts **alerts)
{
    if (alerts == NULL || *alerts == NULL)
        return;
    struct sg_alerts *a = *alerts;
    if (a->has_lock) {
        /* "stopped" comes after the last tick. */
        take_events(a);
        deliver(a);
        pthread_mutex_destroy(&a->lock);
    }
    sg_signals_destroy(&a->signals);
    free(a->states);
    free(a->history);
    free(a->outbox);
    free(a);
    *alerts = NULL;
}
