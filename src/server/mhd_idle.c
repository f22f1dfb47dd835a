/* Gives the memory of idle connections back to the system. libmicrohttpd 0.9.75 zeroes a
 * connection's whole pool after each request, and half of it before: the pool is as small as it can
 * be (24 KiB instead of 36 saved a twelfth of all work on a small response), and yet every page of
 * it is resident while the connection waits for its next request, 240 MB for 10,000.
 *
 * Between requests the pool holds nothing but zeros, so the pages that lie wholly in it may be
 * dropped: they read as zeros again. That is done only when each of these is known, not assumed:
 *   - where the pool begins: the first request's method stands where an allocation of the pool's
 * size begins, and the socket had received exactly that head, so nothing came before it;
 *   - that it is idle and alive: the socket is established and has received no byte beyond the
 * requests that are finished. When the library closes a connection it shuts the socket directly
 * after freeing the pool, with no callback in between;
 *   - that nobody works on it: a connection is touched by its I/O thread alone, and this runs on
 * that thread, in a callback of another connection. */
#include <malloc.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mhd_private.h"

#define ANSWER_BYTES ((size_t)8 * 1024) /* the head's fields as a list, and the answer's head */
#define MALLOC_MAX_BYTES ((size_t)32 * 1024)
#define REST_MS 50       /* a connection in steady use is left alone */
#define SWEEP_AT_ONCE 64 /* bounds what one callback spends */

/* Connections of this thread that finished a request and still hold its pages, oldest first. */
static _Thread_local struct conn *first, *last;

size_t mhd_idle_pool_bytes(size_t head_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (head_bytes + ANSWER_BYTES + page - 1) / page * page;
}

/* Up to a bound the library takes the pool from malloc, above it is a mapping. */
static bool begins_pool(const char *at, size_t pool_bytes)
{
    if (pool_bytes > MALLOC_MAX_BYTES) {
        return (uintptr_t)at % (uintptr_t)sysconf(_SC_PAGESIZE) == 0;
    }
    size_t usable =
        (uintptr_t)at % _Alignof(max_align_t) == 0 ? malloc_usable_size((void *)(uintptr_t)at) : 0;
    return usable >= pool_bytes && usable - pool_bytes < 64;
}

void mhd_idle_learn(struct conn *c, const char *method)
{
    struct sg_tcp_counts counts;
    if (c->pool_checked || !c->server->check_memory) {
        return;
    }
    c->pool_checked = true; /* only the first request can tell */
    if (sg_tcp_counts_read(c->watched.fd, &counts) && counts.received == c->head_bytes &&
        begins_pool(method, c->server->pool_bytes)) {
        c->pool = (void *)(uintptr_t)method;
    }
}

void mhd_idle_remove(struct conn *c)
{
    if (!c->rests) {
        return;
    }
    c->rests = false;
    *(c->rest_prev ? &c->rest_prev->rest_next : &first) = c->rest_next;
    *(c->rest_next ? &c->rest_next->rest_prev : &last) = c->rest_prev;
    c->rest_next = c->rest_prev = NULL;
}

void mhd_idle_add(struct conn *c)
{
    if (!c->pool || c->rests) {
        return;
    }
    c->rests = true;
    c->rest_next = NULL;
    c->rest_prev = last;
    *(last ? &last->rest_next : &first) = c;
    last = c;
}

static void drop_pages(struct conn *c)
{
    struct sg_tcp_counts counts;
    uint64_t consumed = atomic_load_explicit(&c->watched.consumed, memory_order_relaxed);
    if (sg_tcp_counts_read(c->watched.fd, &counts) && counts.established &&
        counts.received == consumed) {
        /* The pages that lie wholly in it. */
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
        uintptr_t begin = ((uintptr_t)c->pool + page - 1) / page * page;
        uintptr_t end = ((uintptr_t)c->pool + c->server->pool_bytes) / page * page;
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
    }
}

void mhd_idle_sweep(uint64_t now_ms)
{
    for (unsigned n = 0; n < SWEEP_AT_ONCE && first; n++) {
        struct conn *c = first;
        uint64_t since_ms = atomic_load_explicit(&c->watched.since_ms, memory_order_relaxed);
        if (now_ms < since_ms + REST_MS) {
            return;
        }
        mhd_idle_remove(c);
        drop_pages(c);
    }
}
