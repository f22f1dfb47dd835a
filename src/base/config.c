/* Settings: three sources over the defaults, every value checked against its row, every mistake
 * collected. A struct sg_config never changes after sg_config_load, so readers need no lock. */
#include "streamgate/base/config.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_rows.h"
#include "config_source.h"

#define VARIABLE_PREFIX "STREAMGATE_"
#define VALUE_SHOWN 64 /* bytes of a wrong value repeated in a mistake */

const struct setting_row sg_setting_rows[SG_SETTING_COUNT] = {
#define SG_SETTING(section_, key_, type_, def_, min_, max_, reload_, doc_)                         \
    [SG_SET_##section_##_##key_] = {.section = #section_,                                          \
                                    .key = #key_,                                                  \
                                    .type = SETTING_##type_,                                       \
                                    .def = def_,                                                   \
                                    .min = min_,                                                   \
                                    .max = max_,                                                   \
                                    .reload = reload_,                                             \
                                    .doc = doc_},
#include "streamgate/base/config.def"
#undef SG_SETTING
};

/* Numbers of the type in n (RATE uses two, CACHE three, BOOL one); text for STRING, PATH and ENUM.
 */
struct value {
    uint64_t n[3];
    char *text;
};

struct sg_config {
    _Atomic uint32_t refs;
    struct value values[SG_SETTING_COUNT];
};

struct loader {
    struct sg_config *config;
    struct sg_text *mistakes;
    const char *file;
    const char *(*check)(enum sg_setting setting, const char *value);
    bool wrong, no_memory;
    unsigned first_line[SG_SETTING_COUNT]; /* where the file set it; 0: it did not */
};

static void show(struct sg_text *out, const char *value)
{
    size_t len = strnlen(value, VALUE_SHOWN);
    for (size_t i = 0; i < len; i++) {
        bool plain = value[i] >= 0x20 && value[i] < 0x7F;
        sg_text_append(out, plain ? value + i : "?", 1);
    }
    if (value[len] != '\0')
        sg_text_puts(out, "...");
}

/* "origin: name = value: " and "name: " without a value; the caller appends the rest and the line
 * feed. */
static void begin_mistake(struct loader *l, const char *origin, const char *name, const char *value)
{
    l->wrong = true;
    sg_text_printf(l->mistakes, "%s: ", origin);
    show(l->mistakes, name);
    if (value != NULL) {
        sg_text_puts(l->mistakes, " = ");
        show(l->mistakes, value);
    }
    sg_text_puts(l->mistakes, ": ");
}

static bool parse_bounded(const struct setting_row *row, const char *s, uint64_t *out)
{
    uint64_t n;
    return sg_str_to_u64(s, strlen(s), row->max, &n) == SG_OK && n >= row->min && (*out = n, true);
}

static bool parse_parts(const struct setting_row *row, const char *s, uint64_t n[3])
{
    char part[3][32];
    size_t wanted = row->type == SETTING_RATE ? 2 : 3;
    for (size_t i = 0; i < wanted; i++) {
        size_t len = strcspn(s, "/");
        bool last = i + 1 == wanted;
        if (len >= sizeof(part[0]) || (s[len] == '\0') != last)
            return false;
        memcpy(part[i], s, len);
        part[i][len] = '\0';
        s += len + !last;
    }
    if (!parse_bounded(row, part[0], &n[0]))
        return false;
    if (row->type == SETTING_RATE)
        return parse_bounded(row, part[1], &n[1]);
    return sg_str_to_ms(part[1], &n[1]) == SG_OK && n[1] >= row->min && n[1] <= row->max &&
           sg_str_to_bytes(part[2], &n[2]) == SG_OK && n[2] >= row->min && n[2] <= row->max;
}

static bool parse_bool(const char *s, uint64_t *out)
{
    static const char *const words[2][3] = {{"false", "no", "off"}, {"true", "yes", "on"}};
    for (size_t i = 0; i < 6; i++) {
        if (sg_str_ieq(s, words[i / 3][i % 3])) {
            *out = i / 3;
            return true;
        }
    }
    return false;
}

static bool is_choice(const struct setting_row *row, const char *s)
{
    const char *at;
    size_t len, want = strlen(s);
    sg_setting_choices(row, &at, &len);
    const char *end = at + len;
    while (at < end) {
        size_t n = strcspn(at, "|}");
        if (n == want && memcmp(at, s, n) == 0)
            return true;
        at += n + 1;
    }
    return false;
}

static bool is_good_text(const struct setting_row *row, const char *s)
{
    size_t len = strlen(s);
    return len >= row->min && len <= row->max && sg_str_is_utf8(s, len) &&
           !sg_str_has_control(s, len);
}

static bool parse_value(const struct setting_row *row, const char *s, struct value *out)
{
    switch (row->type) {
    case SETTING_STRING:
    case SETTING_PATH:
        return is_good_text(row, s);
    case SETTING_ENUM:
        return is_choice(row, s);
    case SETTING_UINT:
        return parse_bounded(row, s, &out->n[0]);
    case SETTING_BYTES:
        return sg_str_to_bytes(s, &out->n[0]) == SG_OK && out->n[0] >= row->min &&
               out->n[0] <= row->max;
    case SETTING_MS:
        return sg_str_to_ms(s, &out->n[0]) == SG_OK && out->n[0] >= row->min &&
               out->n[0] <= row->max;
    case SETTING_BOOL:
        return parse_bool(s, &out->n[0]);
    case SETTING_RATE:
    case SETTING_CACHE:
        return parse_parts(row, s, out->n);
    }
    return false;
}

static bool has_text(const struct setting_row *row)
{
    return row->type == SETTING_STRING || row->type == SETTING_PATH || row->type == SETTING_ENUM;
}

static void apply(struct loader *l, const char *origin, size_t index, const char *text)
{
    const struct setting_row *row = &sg_setting_rows[index];
    struct value value = {0};
    bool parsed = parse_value(row, text, &value);
    const char *rule = NULL;
    if (parsed && has_text(row) && l->check != NULL)
        rule = l->check((enum sg_setting)index, text);
    if (!parsed || rule != NULL) {
        char name[128];
        snprintf(name, sizeof(name), "%s.%s", row->section, row->key);
        begin_mistake(l, origin, name, text);
        if (rule != NULL)
            sg_text_puts(l->mistakes, rule);
        else
            sg_setting_rule(row, l->mistakes);
        sg_text_puts(l->mistakes, "\n");
        return;
    }
    if (has_text(row)) {
        value.text = strdup(text);
        if (value.text == NULL) {
            l->no_memory = true;
            return;
        }
    }
    free(l->config->values[index].text);
    l->config->values[index] = value;
}

/* The row's number, or SG_SETTING_COUNT. */
static size_t find_row(const char *section, size_t section_len, const char *key)
{
    for (size_t i = 0; i < SG_SETTING_COUNT; i++) {
        const struct setting_row *row = &sg_setting_rows[i];
        if (strlen(row->section) == section_len &&
            memcmp(row->section, section, section_len) == 0 && strcmp(row->key, key) == 0)
            return i;
    }
    return SG_SETTING_COUNT;
}

static bool is_section(const char *section, size_t len)
{
    for (size_t i = 0; i < SG_SETTING_COUNT; i++) {
        const char *known = sg_setting_rows[i].section;
        if (strlen(known) == len && memcmp(known, section, len) == 0)
            return true;
    }
    return false;
}

static void unknown_name(struct loader *l, const char *origin, const char *name, const char *value,
                         bool section_known)
{
    begin_mistake(l, origin, name, value);
    sg_text_puts(l->mistakes,
                 section_known ? "there is no such key\n" : "there is no such section\n");
}

static void from_file(void *arg, const struct config_line *line)
{
    struct loader *l = arg;
    char origin[4096 + 16];
    snprintf(origin, sizeof(origin), "%s:%u", l->file, line->number);
    if (line->problem != NULL) {
        l->wrong = true;
        sg_text_printf(l->mistakes, "%s: %s\n", origin, line->problem);
        return;
    }
    size_t index = find_row(line->section, strlen(line->section), line->key);
    char name[128];
    snprintf(name, sizeof(name), "%s.%s", line->section, line->key);
    if (index == SG_SETTING_COUNT) {
        unknown_name(l, origin, name, line->value,
                     is_section(line->section, strlen(line->section)));
        return;
    }
    if (l->first_line[index] != 0) {
        begin_mistake(l, origin, name, line->value);
        sg_text_printf(l->mistakes, "is set already in line %u\n", l->first_line[index]);
        return;
    }
    l->first_line[index] = line->number;
    apply(l, origin, index, line->value);
}

static void from_file_name(struct loader *l, const char *file)
{
    char *text = NULL;
    size_t len = 0;
    int errnum = sg_config_read(file, &text, &len);
    if (errnum != 0) {
        l->wrong = true;
        l->no_memory = l->no_memory || errnum == ENOMEM;
        sg_text_printf(l->mistakes, "%s: cannot be read: %s\n", file, strerrordesc_np(errnum));
        return;
    }
    l->file = file;
    if (!sg_config_parse(text, len, from_file, l))
        l->no_memory = true;
    free(text);
}

static void from_environment(struct loader *l, const char *entry)
{
    if (!sg_str_starts(entry, VARIABLE_PREFIX))
        return;
    const char *equals = strchr(entry, '=');
    if (equals == NULL)
        return;
    size_t name_len = (size_t)(equals - entry);
    for (size_t i = 0; i < SG_SETTING_COUNT; i++) {
        struct sg_text variable = {0};
        sg_setting_variable(&sg_setting_rows[i], &variable);
        bool same = !variable.failed && variable.len == name_len &&
                    memcmp(variable.ptr, entry, name_len) == 0;
        l->no_memory = l->no_memory || variable.failed;
        sg_text_free(&variable);
        if (same) {
            apply(l, "environment", i, equals + 1);
            return;
        }
    }
    char name[128];
    snprintf(name, sizeof(name), "%.*s", (int)(name_len < 127 ? name_len : 127), entry);
    begin_mistake(l, "environment", name, equals + 1);
    sg_text_puts(l->mistakes, "there is no such setting\n");
}

static void from_override(struct loader *l, const char *text)
{
    const char *equals = strchr(text, '=');
    const char *dot = strchr(text, '.');
    if (equals == NULL || dot == NULL || dot > equals) {
        begin_mistake(l, "--set", text, NULL);
        sg_text_puts(l->mistakes, "must be section.key=value\n");
        return;
    }
    char name[128];
    size_t name_len = (size_t)(equals - text);
    snprintf(name, sizeof(name), "%.*s", (int)(name_len < 127 ? name_len : 127), text);
    size_t section_len = (size_t)(dot - text);
    size_t index = SG_SETTING_COUNT;
    if (name_len < sizeof(name))
        index = find_row(text, section_len, name + section_len + 1);
    if (index == SG_SETTING_COUNT)
        unknown_name(l, "--set", name, equals + 1, is_section(text, section_len));
    else
        apply(l, "--set", index, equals + 1);
}

enum sg_error sg_config_load(const struct sg_config_params *params, struct sg_text *mistakes,
                             struct sg_config **out)
{
    struct loader l = {.mistakes = mistakes, .check = params->check};
    l.config = calloc(1, sizeof(*l.config));
    if (l.config == NULL)
        return SG_ERR_NO_MEMORY;
    atomic_init(&l.config->refs, 1);
    for (size_t i = 0; i < SG_SETTING_COUNT; i++)
        apply(&l, "default", i, sg_setting_rows[i].def);
    if (params->file != NULL)
        from_file_name(&l, params->file);
    for (char *const *e = params->environ; e != NULL && *e != NULL; e++)
        from_environment(&l, *e);
    for (size_t i = 0; i < params->n_overrides; i++)
        from_override(&l, params->overrides[i]);
    if (l.no_memory || l.wrong || mistakes->failed) {
        sg_config_unref(l.config);
        return l.no_memory || mistakes->failed ? SG_ERR_NO_MEMORY : SG_ERR_CONFIG;
    }
    *out = l.config;
    return SG_OK;
}

struct sg_config *sg_config_ref(struct sg_config *config)
{
    atomic_fetch_add_explicit(&config->refs, 1, memory_order_relaxed);
    return config;
}

void sg_config_unref(struct sg_config *config)
{
    if (config == NULL || atomic_fetch_sub_explicit(&config->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < SG_SETTING_COUNT; i++)
        free(config->values[i].text);
    free(config);
}

const char *sg_config_string(const struct sg_config *c, enum sg_setting s)
{
    assert(has_text(&sg_setting_rows[s]));
    return c->values[s].text;
}

uint64_t sg_config_uint(const struct sg_config *c, enum sg_setting s)
{
    assert(sg_setting_rows[s].type == SETTING_UINT || sg_setting_rows[s].type == SETTING_BYTES ||
           sg_setting_rows[s].type == SETTING_MS);
    return c->values[s].n[0];
}

bool sg_config_bool(const struct sg_config *c, enum sg_setting s)
{
    assert(sg_setting_rows[s].type == SETTING_BOOL);
    return c->values[s].n[0] != 0;
}

struct sg_rate sg_config_rate(const struct sg_config *c, enum sg_setting s)
{
    assert(sg_setting_rows[s].type == SETTING_RATE);
    const uint64_t *n = c->values[s].n;
    return (struct sg_rate){.capacity = n[0], .refill_per_s = n[1]};
}

struct sg_cache_bounds sg_config_cache(const struct sg_config *c, enum sg_setting s)
{
    assert(sg_setting_rows[s].type == SETTING_CACHE);
    const uint64_t *n = c->values[s].n;
    return (struct sg_cache_bounds){.entries = n[0], .ttl_ms = n[1], .bytes = n[2]};
}

void sg_config_needs_restart(const struct sg_config *a, const struct sg_config *b,
                             struct sg_text *out)
{
    for (size_t i = 0; i < SG_SETTING_COUNT; i++) {
        const struct setting_row *row = &sg_setting_rows[i];
        const struct value *x = &a->values[i], *y = &b->values[i];
        bool same =
            has_text(row) ? strcmp(x->text, y->text) == 0 : memcmp(x->n, y->n, sizeof(x->n)) == 0;
        if (!row->reload && !same)
            sg_text_printf(out, "%s.%s\n", row->section, row->key);
    }
}
