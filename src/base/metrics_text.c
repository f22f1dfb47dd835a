/* The merged metrics as text: Prometheus exposition format 0.0.4, OpenMetrics 1.0, and
 * docs/METRICS.md. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics_private.h"

#define NAME_PREFIX "streamgate_"

static const char *const type_names[] = {
    [METRIC_COUNTER] = "counter",
    [METRIC_GAUGE] = "gauge",
    [METRIC_HISTOGRAM_S] = "histogram",
    [METRIC_HISTOGRAM_B] = "histogram",
};

static bool is_whole(double v)
{
    return v > -9007199254740992.0 && v < 9007199254740992.0 && v == (double)(int64_t)v;
}

/* The shortest form that reads back as the same double. */
static void put_double(struct sg_text *out, double v)
{
    if (isinf(v) || isnan(v)) {
        sg_text_puts(out, isnan(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf");
        return;
    }
    if (is_whole(v)) {
        sg_text_printf(out, "%" PRId64, (int64_t)v);
        return;
    }
    char text[32];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    sg_text_puts(out, text);
}

static void put_escaped(struct sg_text *out, const char *s, bool quotes)
{
    for (; *s != '\0'; s++) {
        if (*s == '\n')
            sg_text_puts(out, "\\n");
        else if (*s == '\\' || (quotes && *s == '"'))
            sg_text_printf(out, "\\%c", *s);
        else
            sg_text_append(out, s, 1);
    }
}

/* OpenMetrics names a counter's family without the _total its samples have. */
static size_t family_length(const struct metric_row *row, bool openmetrics)
{
    size_t len = strlen(row->name);
    return openmetrics && row->type == METRIC_COUNTER ? len - strlen("_total") : len;
}

static void put_header(struct sg_text *out, const struct metric_row *row, bool openmetrics)
{
    int len = (int)family_length(row, openmetrics);
    sg_text_printf(out, "# HELP " NAME_PREFIX "%.*s ", len, row->name);
    put_escaped(out, row->help, openmetrics);
    sg_text_printf(out, "\n# TYPE " NAME_PREFIX "%.*s %s\n", len, row->name, type_names[row->type]);
}

static void put_sample_name(struct sg_text *out, const struct metric_row *row, const char *suffix,
                            const char *labels)
{
    sg_text_printf(out, NAME_PREFIX "%s%s", row->name, suffix);
    if (labels[0] != '\0')
        sg_text_printf(out, "{%s}", labels);
    sg_text_puts(out, " ");
}

static void put_number(struct sg_text *out, const struct metric_row *row, const char *labels,
                       const struct metric_value *value)
{
    put_sample_name(out, row, "", labels);
    /* A counter that was only added to is written as the integer it is, above 2^53 too. */
    if (row->type == METRIC_COUNTER && (double)value->count == value->value)
        sg_text_printf(out, "%" PRIu64, value->count);
    else
        put_double(out, value->value);
    sg_text_puts(out, "\n");
}

static void put_histogram(struct sg_text *out, const struct metric_row *row, const char *labels,
                          const struct sg_histogram_view *view, bool openmetrics)
{
    uint64_t below = 0;
    for (unsigned i = 0; i < view->n; i++) {
        below += view->buckets[i];
        sg_text_printf(out, NAME_PREFIX "%s_bucket{%s%sle=\"", row->name, labels,
                       labels[0] != '\0' ? "," : "");
        put_double(out, view->bounds[i]);
        bool whole = i + 1 < view->n && is_whole(view->bounds[i]);
        sg_text_printf(out, "%s\"} %" PRIu64 "\n", openmetrics && whole ? ".0" : "", below);
    }
    put_sample_name(out, row, "_sum", labels);
    put_double(out, view->sum);
    sg_text_puts(out, "\n");
    put_sample_name(out, row, "_count", labels);
    sg_text_printf(out, "%" PRIu64 "\n", view->count);
}

/* A series that nothing happened to yet is shown as 0, since increase() misses a first event that
 * makes its series appear. Not those by route: that would be thousands of lines which nobody wants.
 */
static bool is_shown_untouched(const struct metric_row *row, const char *labels)
{
    bool defined = (row->labels[0] != '\0') == (labels[0] != '\0');
    return defined && strstr(row->labels, "route") == NULL;
}

static void put_metric(struct sg_text *out, const struct metric_snapshot *s, enum sg_metric m,
                       bool openmetrics)
{
    const struct metric_row *row = &sg_metric_rows[m];
    bool number = row->type == METRIC_COUNTER || row->type == METRIC_GAUGE;
    bool begun = false;
    for (uint32_t i = 0; i < s->first[m + 1] - s->first[m]; i++) {
        const char *labels = s->series[s->first[m] + i].labels;
        struct metric_value value;
        sg_metric_snapshot_read(s, m, i, &value);
        if (!value.touched && !is_shown_untouched(row, labels))
            continue;
        if (!begun)
            put_header(out, row, openmetrics);
        begun = true;
        if (number)
            put_number(out, row, labels, &value);
        else
            put_histogram(out, row, labels, &value.histogram, openmetrics);
    }
}

void sg_metrics_write(struct sg_text *out, bool openmetrics)
{
    struct metric_snapshot s;
    if (sg_metric_snapshot_take(&s) != SG_OK) {
        out->failed = true;
        return;
    }
    for (unsigned m = 0; m < SG_METRIC_COUNT; m++)
        put_metric(out, &s, (enum sg_metric)m, openmetrics);
    sg_metric_snapshot_free(&s);
    if (openmetrics)
        sg_text_puts(out, "# EOF\n");
}

void sg_metrics_write_markdown(struct sg_text *out)
{
    sg_text_puts(out,
                 "# Metrics\n\n"
                 "Generated from `include/streamgate/base/metrics.def`. `GET /metrics` shows them; "
                 "names start with `" NAME_PREFIX "`. Series are there from the start, as 0; those "
                 "with the label `route` from their first request on.\n\n"
                 "| metric | type | labels | what |\n|---|---|---|---|\n");
    for (size_t m = 0; m < SG_METRIC_COUNT; m++) {
        const struct metric_row *row = &sg_metric_rows[m];
        sg_text_printf(out, "| `" NAME_PREFIX "%s` | %s | %s | %s |\n", row->name,
                       type_names[row->type], row->labels, row->help);
    }
}
