/* Large bodies in large pieces. The library reads a body through its small pool, 16 KiB and less at
 * a time; a write, a hash and several system calls for each make an upload twice as costly as it
 * need be. The pool cannot be large either: it is zeroed after every request.
 *
 * So recv() is ours: the program's symbol comes before the C library's, and libmicrohttpd calls it.
 * For a connection in the middle of a large body of known length it receives a large piece, hands
 * it to the pipeline at once, and then tells the library, call after call, that so and so many
 * bytes came, until those are accounted for; what stands in the library's buffer is never looked
 * at. The library's state thus stays what it would be. Anything else goes to the kernel untouched:
 * other sockets, heads, small or chunked bodies, and clients so slow that there is never more than
 * a little to be had.
 *
 * Invariants: never a byte beyond the end of the body is taken; no byte is delivered while one
 * before it stands in the library's buffer; `owed` bytes were delivered but not
 * yet told; a connection is in the table only while its own thread is in its body. The table is the
 * one mutable global here, as recv() knows nothing but a descriptor. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "exchange.h"
#include "mhd_private.h"

#define PIECE_BYTES ((size_t)256 << 10)
#define KEPT_BUFFERS 16u
/* Pieces that wait for their hash, of all connections together; with more, bodies come in through
 * the library's buffers, which nobody keeps, and are hashed where they are received. */
#define BUFFERS_MAX 512u

/* ---- buffers, given back by whichever thread is through with them ---- */

struct bulk_buf {
    struct sg_buf buf; /* first */
    struct bulk_buf *next;
    uint8_t bytes[PIECE_BYTES];
};

static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the three below */
static struct bulk_buf *spare;
static unsigned n_spare, n_used;

static void release(struct sg_buf *buf)
{
    struct bulk_buf *b = (struct bulk_buf *)buf;
    pthread_mutex_lock(&spare_lock);
    n_used--;
    if (n_spare < KEPT_BUFFERS) {
        b->next = spare;
        spare = b;
        n_spare++;
        b = NULL;
    }
    pthread_mutex_unlock(&spare_lock);
    free(b);
}

static struct bulk_buf *buffer(void)
{
    pthread_mutex_lock(&spare_lock);
    bool room = n_used < BUFFERS_MAX;
    n_used += room;
    struct bulk_buf *b = room ? spare : NULL;
    if (b) {
        spare = b->next;
        n_spare--;
    }
    pthread_mutex_unlock(&spare_lock);
    if (room && !b) {
        b = malloc(sizeof(*b));
    }
    if (b) {
        b->buf.data = b->bytes;
        b->buf.release = release;
        atomic_init(&b->buf.refs, 1);
    } else if (room) {
        pthread_mutex_lock(&spare_lock);
        n_used--;
        pthread_mutex_unlock(&spare_lock);
    }
    return b;
}

/* ---- which connection a descriptor is ---- */

#define BLOCK 1024

struct block {
    struct conn *_Atomic conns[BLOCK];
};
static struct block *_Atomic blocks[BLOCK];

static struct conn *_Atomic *slot_of(int fd, bool make)
{
    if (fd < 0 || fd >= BLOCK * BLOCK) {
        return NULL;
    }
    struct block *b = atomic_load_explicit(&blocks[fd / BLOCK], memory_order_acquire);
    if (!b && make) {
        struct block *fresh = calloc(1, sizeof(*fresh));
        if (fresh && atomic_compare_exchange_strong(&blocks[fd / BLOCK], &b, fresh)) {
            b = fresh;
        } else {
            free(fresh); /* another thread made it */
        }
    }
    return b ? &b->conns[fd % BLOCK] : NULL;
}

static int fd_of(const struct conn *c)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

void mhd_bulk_begin(struct conn *c)
{
    const struct sg_request *req = sg_exchange_request(c->x);
    if (c->bulk.on || c->chunked || !req->has_content_length ||
        req->content_length - req->body_received < 2 * PIECE_BYTES) {
        return;
    }
    struct conn *_Atomic *slot = slot_of(fd_of(c), true);
    if (!slot) {
        return;
    }
    c->bulk = (struct mhd_bulk){.on = true, .left = req->content_length - req->body_received};
    atomic_store_explicit(slot, c, memory_order_release);
}

void mhd_bulk_end(struct conn *c)
{
    if (!c->bulk.on) {
        return;
    }
    c->bulk.on = false;
    struct conn *_Atomic *slot = slot_of(fd_of(c), false);
    if (slot) {
        atomic_store_explicit(slot, NULL, memory_order_release);
    }
}

void mhd_bulk_free(void)
{
    pthread_mutex_lock(&spare_lock); /* a hash of a body that broke off may end after the server */
    while (spare) {
        struct bulk_buf *b = spare;
        spare = b->next;
        free(b);
    }
    n_spare = 0;
    pthread_mutex_unlock(&spare_lock);
}

/* ---- receiving ---- */

static ssize_t receive(int fd, void *buf, size_t len, int flags)
{
    return recvfrom(fd, buf, len, flags, NULL, NULL);
}

/* hold: what holds the data and may be kept, or NULL. */
static void deliver(struct conn *c, struct sg_buf *hold, const uint8_t *data, size_t n)
{
    struct sg_request *req = sg_exchange_request(c->x);
    c->bulk.left -= n;
    c->bulk.owed += n;
    atomic_fetch_add_explicit(&c->watched.body_bytes, n, memory_order_relaxed);
    req->body_buf = hold;
    enum sg_step step = sg_pipeline_body(c->x, data, n);
    req->body_buf = NULL;
    if (step != SG_STEP_BODY) {
        c->bulk.failed = true;
        c->bulk.step = step;
        c->bulk.left = 0;
    }
}

/* One large piece. As recv() answers. */
static ssize_t pull(struct conn *c, struct bulk_buf *b, int fd, int flags)
{
    size_t want = c->bulk.left < PIECE_BYTES ? (size_t)c->bulk.left : PIECE_BYTES;
    ssize_t n = receive(fd, b->bytes, want, flags);
    int errnum = errno;
    if (n > 0) {
        b->buf.len = (size_t)n;
        deliver(c, &b->buf, b->bytes, (size_t)n);
    }
    sg_buf_unref(&b->buf);
    errno = errnum;
    return n;
}

/* Without a buffer: through the library's, whose content does not matter. */
static ssize_t pull_here(struct conn *c, void *buf, size_t len, int fd, int flags)
{
    size_t want = c->bulk.left < len ? (size_t)c->bulk.left : len;
    ssize_t n = receive(fd, buf, want, flags);
    int errnum = errno;
    if (n > 0) {
        deliver(c, NULL, buf, (size_t)n);
    }
    errno = errnum;
    return n;
}

/* Little comes at a time: into the library's buffer, as ever. A full one promises more. */
static ssize_t plain(struct conn *c, int fd, void *buf, size_t len, int flags)
{
    size_t want = c->bulk.left < len ? (size_t)c->bulk.left : len;
    ssize_t n = receive(fd, buf, want, flags);
    if (n > 0) {
        c->bulk.left -= (size_t)n;
        c->bulk.unseen = true;
        c->bulk.fast = (size_t)n == len && c->bulk.left > 0;
    }
    return n;
}

static ssize_t tell_owed(struct mhd_bulk *k, size_t len)
{
    size_t tell = k->owed < len ? k->owed : len;
    k->fast = tell == len;
    k->owed -= tell;
    k->told = true;
    return (ssize_t)tell;
}

static ssize_t bulk_recv(struct conn *c, int fd, void *buf, size_t len, int flags)
{
    struct mhd_bulk *k = &c->bulk;
    k->told = false;
    if (k->owed == 0 && k->left == 0) {
        return receive(fd, buf, len, flags); /* the body is over */
    }
    /* On an error of the socket the library receives once more before it looks at what it has, only
     * to learn the error, and throws that away: delivered now, it would close up a gap. */
    if (k->owed == 0 && (!k->fast || k->unseen)) {
        return plain(c, fd, buf, len, flags);
    }
    /* Less than the library asked for means to it that the socket is empty, and then it waits for
     * news of the kernel's: so as long as there is more, it is told its fill. */
    ssize_t n = 1;
    while (k->owed < len && k->left > 0 && n > 0) {
        struct bulk_buf *b = buffer();
        n = b ? pull(c, b, fd, flags) : pull_here(c, buf, len, fd, flags);
    }
    if (k->owed == 0) {
        k->fast = false;
        return n;
    }
    return tell_owed(k, len);
}

/* libmicrohttpd's (and, harmlessly, everybody else's) recv. */
ssize_t recv(int fd, void *buf, size_t len, int flags)
{
    struct conn *_Atomic *slot = slot_of(fd, false);
    struct conn *c = slot ? atomic_load_explicit(slot, memory_order_acquire) : NULL;
    return c ? bulk_recv(c, fd, buf, len, flags) : receive(fd, buf, len, flags);
}
