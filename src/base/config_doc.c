/* The settings table as documents and as the rules quoted in mistakes. */
#include <inttypes.h>
#include <string.h>

#include "config_rows.h"

struct scale {
    uint64_t factor;
    const char *unit;
};

/* The number in the largest unit that divides it. */
static void put_scaled(struct sg_text *out, uint64_t n, const struct scale *scales, size_t n_scales)
{
    for (size_t i = 0; i < n_scales; i++) {
        if (n % scales[i].factor == 0 && (n > 0 || i + 1 == n_scales)) {
            sg_text_printf(out, "%" PRIu64 "%s", n / scales[i].factor, scales[i].unit);
            return;
        }
    }
}

static void put_bytes(struct sg_text *out, uint64_t n)
{
    static const struct scale scales[] = {{UINT64_C(1) << 40, "TiB"},
                                          {UINT64_C(1) << 30, "GiB"},
                                          {UINT64_C(1) << 20, "MiB"},
                                          {UINT64_C(1) << 10, "KiB"},
                                          {1, "B"}};
    put_scaled(out, n, scales, SG_ARRAY_LEN(scales));
}

static void put_ms(struct sg_text *out, uint64_t n)
{
    static const struct scale scales[] = {
        {86400000, "d"}, {3600000, "h"}, {60000, "min"}, {1000, "s"}, {1, "ms"}};
    put_scaled(out, n, scales, SG_ARRAY_LEN(scales));
}

void sg_setting_choices(const struct setting_row *row, const char **start, size_t *len)
{
    const char *open = strchr(row->doc, '{');
    const char *close = open != NULL ? strchr(open, '}') : NULL;
    *start = close != NULL ? open + 1 : row->doc;
    *len = close != NULL ? (size_t)(close - open) - 1 : 0;
}

void sg_setting_variable(const struct setting_row *row, struct sg_text *out)
{
    sg_text_puts(out, "STREAMGATE_");
    const char *parts[] = {row->section, "_", row->key};
    for (size_t i = 0; i < SG_ARRAY_LEN(parts); i++) {
        for (const char *p = parts[i]; *p != '\0'; p++) {
            char c = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
            sg_text_append(out, &c, 1);
        }
    }
}

static void put_choices(const struct setting_row *row, struct sg_text *out)
{
    const char *at;
    size_t len;
    sg_setting_choices(row, &at, &len);
    for (size_t i = 0; i < len; i++)
        sg_text_append(out, at[i] == '|' ? ", " : at + i, at[i] == '|' ? 2 : 1);
}

void sg_setting_rule(const struct setting_row *row, struct sg_text *out)
{
    switch (row->type) {
    case SETTING_STRING:
    case SETTING_PATH:
        sg_text_printf(
            out, "must be %" PRIu64 " to %" PRIu64 " bytes of UTF-8 without control characters",
            row->min, row->max);
        break;
    case SETTING_UINT:
        sg_text_printf(out, "must be a whole number from %" PRIu64 " to %" PRIu64, row->min,
                       row->max);
        break;
    case SETTING_BYTES:
        sg_text_puts(out, "must be a size such as 64KiB, from ");
        put_bytes(out, row->min);
        sg_text_puts(out, " to ");
        put_bytes(out, row->max);
        break;
    case SETTING_MS:
        sg_text_puts(out, "must be a duration such as 10s, from ");
        put_ms(out, row->min);
        sg_text_puts(out, " to ");
        put_ms(out, row->max);
        break;
    case SETTING_BOOL:
        sg_text_puts(out, "must be true or false (or yes, no, on, off)");
        break;
    case SETTING_ENUM:
        sg_text_puts(out, "must be one of ");
        put_choices(row, out);
        break;
    case SETTING_RATE:
        sg_text_printf(out, "must be capacity/refill_per_second, each from %" PRIu64 " to %" PRIu64,
                       row->min, row->max);
        break;
    case SETTING_CACHE:
        sg_text_printf(out,
                       "must be entries/ttl/bytes such as 10000/5min/64MiB, each from %" PRIu64
                       " to %" PRIu64,
                       row->min, row->max);
        break;
    }
}

/* A cell of a Markdown table: | would end it. */
static void put_cell(struct sg_text *out, const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s == '|')
            sg_text_puts(out, "\\");
        sg_text_append(out, s, 1);
    }
}

static bool starts_section(size_t i)
{
    return i == 0 || strcmp(sg_setting_rows[i].section, sg_setting_rows[i - 1].section) != 0;
}

void sg_config_write_markdown(struct sg_text *out)
{
    sg_text_puts(
        out, "# Settings\n\n"
             "Generated from `include/streamgate/base/config.def`.\n\n"
             "A setting is `key = value` below `[section]` in the file given with `--config`, the "
             "variable shown here in the\nenvironment, or `--set section.key=value`; the later of "
             "these wins. Sizes take B, KiB, MiB, GiB, TiB, KB, MB, GB and TB;\ndurations take ms, "
             "s, min, h and d. `streamgate check-config` lists every mistake.\n");
    for (size_t i = 0; i < SG_SETTING_COUNT; i++) {
        const struct setting_row *row = &sg_setting_rows[i];
        if (starts_section(i))
            sg_text_printf(out,
                           "\n## %s\n\n| key | default | value | applies | what |\n"
                           "|---|---|---|---|---|\n",
                           row->section);
        sg_text_printf(out, "| `%s`<br>`", row->key);
        sg_setting_variable(row, out);
        sg_text_puts(out, "` | ");
        if (row->def[0] != '\0')
            sg_text_printf(out, "`%s`", row->def);
        sg_text_puts(out, " | ");
        sg_setting_rule(row, out);
        sg_text_puts(out, row->reload ? " | on SIGHUP | " : " | on restart | ");
        put_cell(out, row->doc);
        sg_text_puts(out, " |\n");
    }
}

void sg_config_write_sample(struct sg_text *out)
{
    sg_text_puts(
        out, "# StreamGate settings. Every key stands here with its default; docs/CONFIG.md tells "
             "more.\n# Check changes with: streamgate check-config --config FILE\n");
    for (size_t i = 0; i < SG_SETTING_COUNT; i++) {
        const struct setting_row *row = &sg_setting_rows[i];
        if (starts_section(i))
            sg_text_printf(out, "\n[%s]\n", row->section);
        sg_text_printf(out, "# %s\n# (", row->doc);
        sg_setting_rule(row, out);
        sg_text_printf(out, "%s)\n#%s =%s%s\n\n", row->reload ? "" : "; needs a restart", row->key,
                       row->def[0] != '\0' ? " " : "", row->def);
    }
}
