/* CPUs that the threads of a process leave to others for a while. Owned by one thread. */
#ifndef STREAMGATE_SANDBOX_CPUS_H
#define STREAMGATE_SANDBOX_CPUS_H

#include <dirent.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/types.h>

struct sg_cpus {
    DIR *threads;        /* of the process; NULL: it may use what it may */
    cpu_set_t all, rest; /* what it was started with, and that without those to be left */
};

/* spare: how many to leave, where there are more. To be called before the process confines itself:
 * afterwards a daemon without privileges may not look at it. A process that cannot be looked at
 * keeps all. */
void sg_cpus_open(struct sg_cpus *c, pid_t pid, unsigned spare);
/* For the threads that are there now; those they make later inherit it. */
void sg_cpus_set(struct sg_cpus *c, bool leave);
void sg_cpus_close(struct sg_cpus *c); /* does nothing to one of zeroes */

#endif
