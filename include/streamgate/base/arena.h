/* Bump allocator for one request: everything is freed at once. Not thread-safe: one owner at a time. */
#ifndef STREAMGATE_BASE_ARENA_H
#define STREAMGATE_BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>

#include "streamgate/base/error.h"

struct sg_arena;

/* first_bytes: size of the block allocated with the arena itself (0: 4096). max_bytes bounds the whole arena (0: 1 MiB). */
enum sg_error sg_arena_create(size_t first_bytes, size_t max_bytes, struct sg_arena **out) SG_NODISCARD;
void sg_arena_destroy(struct sg_arena **arena);
/* Frees all but the first block; what was allocated is invalid. */
void sg_arena_reset(struct sg_arena *arena);

/* 16-byte aligned, not zeroed; NULL when the bound or memory is exhausted, or arena is NULL. */
void *sg_arena_alloc(struct sg_arena *arena, size_t size);
void *sg_arena_zalloc(struct sg_arena *arena, size_t size);
char *sg_arena_strdup(struct sg_arena *arena, const char *s);
char *sg_arena_strndup(struct sg_arena *arena, const char *s, size_t n); /* NUL-terminated copy of n bytes */
char *sg_arena_printf(struct sg_arena *arena, const char *fmt, ...) SG_PRINTF(2, 3);
char *sg_arena_vprintf(struct sg_arena *arena, const char *fmt, va_list args);

#endif
