/* The settings table as data, shared by config.c (parse, check) and config_doc.c (generated
 * documents). Private to base. */
#ifndef SG_BASE_CONFIG_ROWS_H
#define SG_BASE_CONFIG_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/config.h"

enum setting_type {
    SETTING_STRING,
    SETTING_PATH,
    SETTING_UINT,
    SETTING_BYTES,
    SETTING_MS,
    SETTING_BOOL,
    SETTING_ENUM,
    SETTING_RATE,
    SETTING_CACHE,
};

struct setting_row {
    const char *section, *key;
    enum setting_type type;
    const char *def;
    uint64_t min, max;
    bool reload;
    const char *doc;
};

extern const struct setting_row sg_setting_rows[SG_SETTING_COUNT];

/* Appends the rule a value of this row must keep, bounds included: "must be a whole number from 0
 * to 256". */
void sg_setting_rule(const struct setting_row *row, struct sg_text *out);

/* The choices of an ENUM row: what stands between { and } of its doc, separated by |. */
void sg_setting_choices(const struct setting_row *row, const char **start, size_t *len);

/* Appends STREAMGATE_SECTION_KEY. */
void sg_setting_variable(const struct setting_row *row, struct sg_text *out);

#endif
