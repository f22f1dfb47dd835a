/* Gives the memory of idle connections back to the system. libmicrohttpd 0.9.75 zeroes a
 * connection's whole pool after each request, which makes every page of it resident: 36 KiB a
 * connection that waits for its next request, 360 MB for 10,000.
 *
 * A pool larger than 32 KiB is a mapping of its own, and between requests it holds nothing but
 * those zeros, so its pages may be dropped: they read as zeros again. That is done only when each
 * of these is known, not assumed:
 *   - where the pool begins: the first request's method stands at a page's start, and the socket
 * had received exactly that head, so nothing came before it;
 *   - that it is idle and alive: the socket is established and has received no byte beyond the
 * requests that are finished. When the library closes a connection it shuts the socket directly
 * after unmapping the pool, with no callback in between;
 *   - that nobody works on it: a connection is touched by its I/O thread alone, and this runs on
 * that thread, in a callback of another connection. */
#include <sys/mman.h>
#include <unistd.h>

#include "mhd_private.h"

#define REST_MS 50       /* a connection in steady use is left alone */
#define SWEEP_AT_ONCE 64 /* bounds what one callback spends */

/* Connections of this thread that finished a request and still hold its pages, oldest first. */
static _Thread_local struct conn *first, *last;

size_t mhd_idle_pool_bytes(size_t wanted)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t least = (size_t)32 * 1024 + 1; /* up to 32 KiB the library takes it from malloc */
    wanted = wanted < least ? least : wanted;
    return (wanted + page - 1) / page * page;
}

void mhd_idle_learn(struct conn *c, const char *method)
{
    struct sg_tcp_counts counts;
    if (c->pool_checked || !c->server->check_memory) {
        return;
    }
    c->pool_checked = true; /* only the first request can tell */
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if ((uintptr_t)method % page == 0 && sg_tcp_counts_read(c->watched.fd, &counts) &&
        counts.received == c->head_bytes) {
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
        (void)madvise(c->pool, c->server->pool_bytes, MADV_DONTNEED);
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
