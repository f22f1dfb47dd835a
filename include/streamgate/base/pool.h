/* A pool of named threads with one FIFO: where anything that may block runs. Thread-safe. */
#ifndef STREAMGATE_BASE_POOL_H
#define STREAMGATE_BASE_POOL_H

#include <stddef.h>

#include "streamgate/base/error.h"

struct sg_pool;

struct sg_pool_params {
    const char *name;   /* at most 11 characters; threads are "name-0"... */
    unsigned threads;   /* > 0 */
    size_t max_queued;  /* 0: 65536; beyond it submit answers UNAVAILABLE */
};

enum sg_error sg_pool_create(const struct sg_pool_params *params, struct sg_pool **out) SG_NODISCARD;
/* Runs fn(arg) on one of the threads. Allocates one small node. Errors: UNAVAILABLE (full or stopping), NO_MEMORY; then fn never runs. */
enum sg_error sg_pool_submit(struct sg_pool *pool, void (*fn)(void *arg), void *arg) SG_NODISCARD;
size_t sg_pool_queued(struct sg_pool *pool);
/* Refuses new work, runs what is queued, joins. NULL is fine. */
void sg_pool_destroy(struct sg_pool **pool);

#endif
