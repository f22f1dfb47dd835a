/* The INI text of a config file, line by line, over libinih. Private to base. */
#ifndef SG_BASE_CONFIG_SOURCE_H
#define SG_BASE_CONFIG_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

struct config_line {
    unsigned number;     /* from 1 */
    const char *problem; /* set: the line is no INI; the rest is not */
    const char *section, *key, *value;
};

/* Whole file into malloc'ed memory. Answers 0 or an errno. */
int sg_config_read(const char *file, char **out, size_t *out_len);

/* Calls fn for every setting and every bad line, in order. text is changed. false: out of memory.
 */
bool sg_config_parse(char *text, size_t len, void (*fn)(void *arg, const struct config_line *line),
                     void *arg);

#endif
