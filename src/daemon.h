/* `streamgate serve`. */
#ifndef DAEMON_H
#define DAEMON_H

#include "options.h"

/* Runs until SIGTERM or SIGINT; returns the exit status. */
int daemon_run(const struct options *o);

#endif
