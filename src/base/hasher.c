/* A ring of pieces and at most one task that empties it. The task is submitted when the ring stops
 * being empty and ends when it is empty again, so no thread is held by a slow stream. */
#include "streamgate/base/hasher.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "streamgate/base/clock.h"

#define PIECES 8u

struct piece {
    struct sg_buf *buf;
    const void *data;
    size_t len;
};

struct sg_hasher {
    struct sg_pool *pool;
    struct sg_sha256 *sha; /* the running task's, else the owner's */
    _Atomic uint64_t busy_ns;
    pthread_mutex_t lock;   /* guards the rest */
    pthread_cond_t changed; /* a piece was hashed, or the task ended */
    struct piece ring[PIECES];
    unsigned first, n;
    bool running;
};

enum sg_error sg_hasher_create(struct sg_pool *pool, struct sg_sha256 **sha, struct sg_hasher **out)
{
    struct sg_hasher *h = calloc(1, sizeof(*h));
    enum sg_error err = h != NULL ? SG_OK : SG_ERR_NO_MEMORY;
    if (err == SG_OK && *sha == NULL)
        err = sg_sha256_create(sha);
    if (err != SG_OK) {
        sg_sha256_destroy(sha);
        free(h);
        return err;
    }
    h->pool = pool;
    h->sha = *sha;
    *sha = NULL;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    *out = h;
    return SG_OK;
}

static void hash_one(struct sg_hasher *h, const void *data, size_t len)
{
    uint64_t start = sg_clock_mono_ns();
    sg_sha256_update(h->sha, data, len);
    atomic_fetch_add_explicit(&h->busy_ns, sg_clock_mono_ns() - start, memory_order_relaxed);
}

static void run(void *arg)
{
    struct sg_hasher *h = arg;
    pthread_mutex_lock(&h->lock);
    while (h->n > 0) {
        struct piece piece = h->ring[h->first];
        pthread_mutex_unlock(&h->lock);
        hash_one(h, piece.data, piece.len);
        sg_buf_unref(piece.buf);
        pthread_mutex_lock(&h->lock);
        h->first = (h->first + 1) % PIECES;
        h->n--;
        pthread_cond_signal(&h->changed);
    }
    h->running = false;
    pthread_cond_signal(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

static void wait_idle(struct sg_hasher *h)
{
    pthread_mutex_lock(&h->lock);
    while (h->running)
        pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

/* True when a task must be submitted for it. */
static bool enqueue(struct sg_hasher *h, const struct piece *piece)
{
    pthread_mutex_lock(&h->lock);
    while (h->n == PIECES)
        pthread_cond_wait(&h->changed, &h->lock);
    h->ring[(h->first + h->n) % PIECES] = *piece;
    h->n++;
    bool start = !h->running;
    h->running = true;
    pthread_mutex_unlock(&h->lock);
    return start;
}

/* A parser may hand over bytes it kept itself. */
static bool within(const struct sg_buf *buf, const void *data, size_t len)
{
    uintptr_t base = (uintptr_t)buf->data, at = (uintptr_t)data;
    return at >= base && at - base <= buf->len && len <= buf->len - (at - base);
}

void sg_hasher_update(struct sg_hasher *h, struct sg_buf *buf, const void *data, size_t len)
{
    if (buf == NULL || h->pool == NULL || !within(buf, data, len)) {
        wait_idle(h);
        hash_one(h, data, len);
        return;
    }
    struct piece piece = {.buf = sg_buf_ref(buf), .data = data, .len = len};
    if (enqueue(h, &piece) && sg_pool_submit(h->pool, run, h) != SG_OK)
        run(h); /* the pool is full or stopping: here, then */
}

struct sg_sha256 *sg_hasher_take(struct sg_hasher *h)
{
    wait_idle(h);
    struct sg_sha256 *sha = h->sha;
    h->sha = NULL;
    return sha;
}

uint64_t sg_hasher_busy_ns(const struct sg_hasher *h)
{
    return atomic_load_explicit(&h->busy_ns, memory_order_relaxed);
}

void sg_hasher_destroy(struct sg_hasher **hp)
{
    struct sg_hasher *h = *hp;
    if (h == NULL)
        return;
    *hp = NULL;
    wait_idle(h);
    sg_sha256_destroy(&h->sha);
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->lock);
    free(h);
}
