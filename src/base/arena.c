/* Bump allocator. The arena and its first block are one allocation; more blocks hang on a list.
 * Invariants: next <= end, both 16-byte aligned within the newest block; total is the sum of all
 * block sizes and never exceeds max. */
#include "streamgate/base/arena.h"

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_ALIGN ((size_t)16)
#define ARENA_FIRST_DEFAULT ((size_t)4096)
#define ARENA_MAX_DEFAULT ((size_t)1 << 20)
#define ARENA_BLOCK_MAX ((size_t)65536) /* blocks double up to this */

struct block {
    alignas(16) struct block *prev;
};

struct sg_arena {
    alignas(16) uint8_t *next;
    uint8_t *end;
    struct block *blocks; /* newest first; the first block is not on it */
    size_t first, total, max, grow;
};

static size_t round_up(size_t n)
{
    return (n + (ARENA_ALIGN - 1)) & ~(ARENA_ALIGN - 1);
}

static void rewind_to_first(struct sg_arena *arena)
{
    arena->next = (uint8_t *)(arena + 1);
    arena->end = arena->next + arena->first;
    arena->total = arena->first;
    arena->grow = arena->first;
    arena->blocks = NULL;
}

enum sg_error sg_arena_create(size_t first_bytes, size_t max_bytes, struct sg_arena **out)
{
    size_t max = max_bytes > 0 ? max_bytes : ARENA_MAX_DEFAULT;
    size_t first = first_bytes > 0 ? first_bytes : ARENA_FIRST_DEFAULT;
    if (first > max)
        first = max;
    first &= ~(ARENA_ALIGN - 1);
    if (first > SIZE_MAX - sizeof(struct sg_arena))
        return SG_ERR_NO_MEMORY;
    struct sg_arena *arena = malloc(sizeof(*arena) + first);
    if (arena == NULL)
        return SG_ERR_NO_MEMORY;
    arena->first = first;
    arena->max = max;
    rewind_to_first(arena);
    *out = arena;
    return SG_OK;
}

static void free_blocks(struct sg_arena *arena)
{
    struct block *b = arena->blocks;
    while (b != NULL) {
        struct block *prev = b->prev;
        free(b);
        b = prev;
    }
}

void sg_arena_destroy(struct sg_arena **arena)
{
    if (arena == NULL || *arena == NULL)
        return;
    free_blocks(*arena);
    free(*arena);
    *arena = NULL;
}

void sg_arena_reset(struct sg_arena *arena)
{
    if (arena == NULL)
        return;
    free_blocks(arena);
    rewind_to_first(arena);
}

/* A new block of at least `need` bytes (a multiple of the alignment) becomes the newest. */
static bool add_block(struct sg_arena *arena, size_t need)
{
    size_t left = (arena->max - arena->total) & ~(ARENA_ALIGN - 1);
    if (need > left || need > SIZE_MAX - sizeof(struct block))
        return false;
    size_t size = arena->grow < ARENA_BLOCK_MAX / 2 ? round_up(arena->grow * 2) : ARENA_BLOCK_MAX;
    if (size < need)
        size = need;
    if (size > left)
        size = left;
    struct block *b = malloc(sizeof(*b) + size);
    if (b == NULL)
        return false;
    b->prev = arena->blocks;
    arena->blocks = b;
    arena->next = (uint8_t *)(b + 1);
    arena->end = arena->next + size;
    arena->total += size;
    arena->grow = size;
    return true;
}

void *sg_arena_alloc(struct sg_arena *arena, size_t size)
{
    if (arena == NULL || size > SIZE_MAX - ARENA_ALIGN)
        return NULL;
    size_t need = size > 0 ? round_up(size) : ARENA_ALIGN;
    if (need > (size_t)(arena->end - arena->next) && !add_block(arena, need))
        return NULL;
    void *p = arena->next;
    arena->next += need;
    return p;
}

void *sg_arena_zalloc(struct sg_arena *arena, size_t size)
{
    void *p = sg_arena_alloc(arena, size);
    if (p != NULL)
        memset(p, 0, size);
    return p;
}

char *sg_arena_strndup(struct sg_arena *arena, const char *s, size_t n)
{
    if (n == SIZE_MAX)
        return NULL;
    char *p = sg_arena_alloc(arena, n + 1);
    if (p == NULL)
        return NULL;
    if (n > 0)
        memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *sg_arena_strdup(struct sg_arena *arena, const char *s)
{
    return sg_arena_strndup(arena, s, strlen(s));
}

char *sg_arena_vprintf(struct sg_arena *arena, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    char *p = n < 0 ? NULL : sg_arena_alloc(arena, (size_t)n + 1);
    if (p != NULL)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

char *sg_arena_printf(struct sg_arena *arena, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *p = sg_arena_vprintf(arena, fmt, args);
    va_end(args);
    return p;
}
