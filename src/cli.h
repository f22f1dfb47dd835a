/* The subcommands that do one thing and end. Each returns the exit status. */
#ifndef CLI_H
#define CLI_H

#include "options.h"

int cli_check_config(const struct options *o);
int cli_key(const struct options *o);
int cli_audit(const struct options *o);
int cli_openapi(void);
int cli_docs(const struct options *o);

#endif
