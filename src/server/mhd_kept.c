/* Responses kept ready by each I/O thread. Small content from memory is asked for again and again,
 * and adding its dozen headers to a new library response each time costs more than all our layers
 * together (measured: 15,000 of 40,000 instructions). A kept response has them already; only those
 * that differ from the last time (request id, trace, rate limit) are exchanged.
 *
 * Invariants: a set belongs to one thread; a busy one is on some connection of that thread and is
 * not touched; buf is alive as long as response is, which holds its reference. Only content that
 * somebody else holds too (the cache) is kept, and little of it, so no memory stays bound. */
#include <stdlib.h>
#include <string.h>

#include "mhd_private.h"

#define KEPT_SLOTS 16
#define KEPT_BODY_BYTES ((uint64_t)64 * 1024)
#define KEPT_HEADERS 16
#define KEPT_NAME_BYTES 40
#define KEPT_VALUE_BYTES 96

struct mhd_kept {
    struct MHD_Response *response; /* our reference; NULL: free */
    const struct sg_buf *buf;
    uint64_t offset, len;
    bool busy;
    uint64_t used; /* the set's count when last taken */
    unsigned n;
    struct {
        char name[KEPT_NAME_BYTES], value[KEPT_VALUE_BYTES];
    } headers[KEPT_HEADERS];
};

struct mhd_kept_set {
    struct mhd_kept slots[KEPT_SLOTS];
    uint64_t count;
};

static _Thread_local struct mhd_kept_set *own; /* I/O threads end before their server is freed */

bool mhd_kept_create(struct sg_server *s, unsigned threads)
{
    s->kept = calloc(threads, sizeof(*s->kept));
    s->n_kept = s->kept ? threads : 0;
    return s->kept != NULL;
}

void mhd_kept_destroy(struct sg_server *s)
{
    for (unsigned i = 0; i < s->n_kept; i++) {
        for (unsigned k = 0; k < KEPT_SLOTS; k++) {
            if (s->kept[i].slots[k].response) {
                MHD_destroy_response(s->kept[i].slots[k].response);
            }
        }
    }
    free(s->kept);
    s->kept = NULL;
    s->n_kept = 0;
}

static struct mhd_kept_set *own_set(struct sg_server *s)
{
    if (!own) {
        unsigned n = atomic_fetch_add_explicit(&s->kept_taken, 1, memory_order_relaxed);
        own = n < s->n_kept ? &s->kept[n] : NULL;
    }
    return own;
}

static bool eligible(const struct sg_response *res)
{
    if (res->source != SG_SOURCE_BUF || res->status != 200 || res->close ||
        res->len > KEPT_BODY_BYTES || res->n_headers > KEPT_HEADERS ||
        atomic_load_explicit(&res->buf->refs, memory_order_relaxed) < 2) {
        return false;
    }
    for (unsigned i = 0; i < res->n_headers; i++) {
        if (strlen(res->headers[i].name) >= KEPT_NAME_BYTES ||
            strlen(res->headers[i].value) >= KEPT_VALUE_BYTES) {
            return false;
        }
    }
    return true;
}

static bool same_names(const struct mhd_kept *k, const struct sg_response *res)
{
    if (k->n != res->n_headers) {
        return false;
    }
    for (unsigned i = 0; i < k->n; i++) {
        if (strcmp(k->headers[i].name, res->headers[i].name) != 0) {
            return false;
        }
    }
    return true;
}

static void forget(struct mhd_kept *k)
{
    MHD_destroy_response(k->response);
    *k = (struct mhd_kept){0};
}

/* False: the response is in no known state any more. */
static bool exchange_values(struct mhd_kept *k, const struct sg_response *res)
{
    for (unsigned i = 0; i < k->n; i++) {
        const char *value = res->headers[i].value;
        if (strcmp(k->headers[i].value, value) == 0) {
            continue;
        }
        if (MHD_del_response_header(k->response, k->headers[i].name, k->headers[i].value) !=
                MHD_YES ||
            MHD_add_response_header(k->response, k->headers[i].name, value) != MHD_YES) {
            return false;
        }
        memcpy(k->headers[i].value, value, strlen(value) + 1);
    }
    return true;
}

struct MHD_Response *mhd_kept_find(struct conn *c, const struct sg_response *res)
{
    struct mhd_kept_set *set = eligible(res) ? own_set(c->server) : NULL;
    for (unsigned i = 0; set && i < KEPT_SLOTS; i++) {
        struct mhd_kept *k = &set->slots[i];
        if (!k->response || k->busy || k->buf != res->buf || k->offset != res->offset ||
            k->len != res->len || !same_names(k, res)) {
            continue;
        }
        if (!exchange_values(k, res)) {
            forget(k);
            return NULL;
        }
        k->busy = true;
        k->used = ++set->count;
        c->kept = k;
        return k->response;
    }
    return NULL;
}

void mhd_kept_offer(struct conn *c, const struct sg_response *res, const struct sg_buf *buf,
                    struct MHD_Response *response)
{
    struct mhd_kept_set *set = own_set(c->server);
    struct mhd_kept *oldest = NULL;
    for (unsigned i = 0; set && i < KEPT_SLOTS; i++) {
        struct mhd_kept *k = &set->slots[i];
        if (!k->busy && (!oldest || k->used < oldest->used)) {
            oldest = k;
        }
    }
    if (!oldest) {
        MHD_destroy_response(response); /* the connection has its own reference */
        return;
    }
    if (oldest->response) {
        forget(oldest);
    }
    oldest->response = response;
    oldest->buf = buf;
    oldest->offset = res->offset;
    oldest->len = res->len;
    oldest->busy = true;
    oldest->used = ++set->count;
    oldest->n = res->n_headers;
    for (unsigned i = 0; i < res->n_headers; i++) {
        memcpy(oldest->headers[i].name, res->headers[i].name, strlen(res->headers[i].name) + 1);
        memcpy(oldest->headers[i].value, res->headers[i].value, strlen(res->headers[i].value) + 1);
    }
    c->kept = oldest;
}

bool mhd_kept_wants(const struct sg_response *res)
{
    return eligible(res);
}

void mhd_kept_done(struct conn *c)
{
    if (c->kept) {
        c->kept->busy = false;
        c->kept = NULL;
    }
}
