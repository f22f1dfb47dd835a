/* Settings: config.def parsed from an INI file (libinih), STREAMGATE_SECTION_KEY in the environment and --set section.key=value, in
 * rising precedence. A struct sg_config is immutable and reference-counted; SIGHUP makes a new one. Thread-safe. */
#ifndef STREAMGATE_BASE_CONFIG_H
#define STREAMGATE_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"
#include "streamgate/base/str.h"

struct sg_rate { uint64_t capacity, refill_per_s; };
struct sg_cache_bounds { uint64_t entries, ttl_ms, bytes; };

enum sg_setting {
#define SG_SETTING(section, key, type, def, min, max, reload, doc) SG_SET_##section##_##key,
#include "streamgate/base/config.def"
#undef SG_SETTING
    SG_SETTING_COUNT
};

struct sg_config;

struct sg_config_params {
    const char *file;              /* NULL: none */
    char *const *environ;          /* NULL: none */
    const char *const *overrides;  /* "section.key=value"; n_overrides of them; they win */
    size_t n_overrides;
    /* NULL, or the rule a text setting breaks that its bounds cannot tell (an address, a list): NULL when the value is good, else a static sentence. */
    const char *(*check)(enum sg_setting setting, const char *value);
};

/* Loads and checks everything. On any mistake returns CONFIG and appends to `mistakes` one line each, all of them:
 * "file:line: section.key = value: what is wrong (bounds)". Unknown sections and keys are mistakes. mistakes may not be NULL. */
enum sg_error sg_config_load(const struct sg_config_params *params, struct sg_text *mistakes, struct sg_config **out) SG_NODISCARD;
struct sg_config *sg_config_ref(struct sg_config *config);
void sg_config_unref(struct sg_config *config);

/* Typed getters; asking with the wrong type is a programming error (assert). Strings live as long as the config. */
const char *sg_config_string(const struct sg_config *c, enum sg_setting s); /* STRING PATH ENUM */
uint64_t sg_config_uint(const struct sg_config *c, enum sg_setting s);      /* UINT BYTES MS */
bool sg_config_bool(const struct sg_config *c, enum sg_setting s);
struct sg_rate sg_config_rate(const struct sg_config *c, enum sg_setting s);
struct sg_cache_bounds sg_config_cache(const struct sg_config *c, enum sg_setting s);

/* Names ("section.key") of settings that differ between a and b but need a restart, as lines; for the log after SIGHUP. */
void sg_config_needs_restart(const struct sg_config *a, const struct sg_config *b, struct sg_text *out);

/* Generated documents: docs/CONFIG.md and config/streamgate.conf (every key commented out with its default). */
void sg_config_write_markdown(struct sg_text *out);
void sg_config_write_sample(struct sg_text *out);

#endif
