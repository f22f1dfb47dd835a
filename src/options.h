/* Command-line options shared by the subcommands, and the configuration they lead to. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stddef.h>

#include "streamgate/base/config.h"
#include "streamgate/base/error.h"

#define OPTIONS_SET_MAX 64

struct options {
    const char *config_file;
    const char *overrides[OPTIONS_SET_MAX]; /* "section.key=value" */
    size_t n_overrides;
    char *owned[2];                 /* overrides built from --data-dir and --listen */
    const char *role, *name, *user; /* key create */
    const char *words[4];           /* what is left, in order */
    size_t n_words;
};

/* Parses argv[1..]; says on stderr what is wrong. INVALID, NO_MEMORY. Free with options_free in any
 * case. */
enum sg_error options_parse(int argc, char **argv, struct options *out) SG_NODISCARD;
void options_free(struct options *o);
/* Loads and checks the configuration; all mistakes go to stderr. CONFIG. */
enum sg_error options_config(const struct options *o, struct sg_config **out) SG_NODISCARD;
/* storage.data_dir, else $STATE_DIRECTORY, else ./data. Lives as long as the config. */
const char *options_data_dir(const struct sg_config *config);

#endif
