/* See cpus.h. An affinity belongs to a thread, so all of them are gone through. */
#include "cpus.h"

#include <stdio.h>
#include <stdlib.h>

void sg_cpus_open(struct sg_cpus *c, pid_t pid, unsigned spare)
{
    char path[sizeof("/proc//task") + 12];
    *c = (struct sg_cpus){0};
    if (sched_getaffinity(pid, sizeof(c->all), &c->all) != 0)
        return; /* more CPUs than the set has room for */
    int count = CPU_COUNT(&c->all);
    c->rest = c->all;
    /* The first ones: interrupts, of the network above all, mostly go there. */
    for (size_t i = 0; i < CPU_SETSIZE && spare > 0 && count > 1; i++)
        if (CPU_ISSET(i, &c->rest)) {
            CPU_CLR(i, &c->rest);
            spare--;
            count--;
        }
    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    if (!CPU_EQUAL(&c->rest, &c->all))
        c->threads = opendir(path);
}

void sg_cpus_set(struct sg_cpus *c, bool leave)
{
    if (c->threads == NULL)
        return;
    rewinddir(c->threads);
    for (const struct dirent *e; (e = readdir(c->threads)) != NULL;)
        if (e->d_name[0] != '.') /* one that has ended meanwhile is none to care for */
            (void)sched_setaffinity((pid_t)strtol(e->d_name, NULL, 10), sizeof(c->all),
                                    leave ? &c->rest : &c->all);
}

void sg_cpus_close(struct sg_cpus *c)
{
    if (c->threads != NULL)
        (void)closedir(c->threads);
    c->threads = NULL;
}
