/* Accepts connections and gives each to the I/O thread that has the fewest.
 *
 * libmicrohttpd's own threads all wait on the listening socket, and the one that wakes first takes
 * up to ten connections at once: measured, four viewers that came together were all served by one
 * of two threads, the other core idle. Here one thread accepts, and each I/O thread is a daemon of
 * the library's without a listening socket (MHD_add_connection).
 *
 * At the limit of connections, or without descriptors, the thread waits until a connection closes:
 * those that come meanwhile stay in the kernel's backlog. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mhd_private.h"

/* At the limit, the library is asked what it holds: a connection that it dropped for want of memory
 * was never told as closed. */
#define RECOUNT_MS 1000
#define RETRY_MS 100 /* without descriptors: files are closed, too */

struct mhd_acceptor {
    struct sg_server *server;
    unsigned most; /* connections */
    int wake_fd;
    _Atomic bool starved; /* waits for a connection to close */
    _Atomic bool stopping;
    unsigned next; /* of the workers: where to look first */
    bool started;
    pthread_t thread;
};

static void wake(struct mhd_acceptor *a)
{
    const uint64_t one = 1;
    ssize_t n = write(a->wake_fd, &one, sizeof(one));
    (void)n; /* a full counter wakes as well */
}

static unsigned open_connections(struct sg_server *s)
{
    unsigned n = 0;
    for (unsigned i = 0; i < s->n_workers; i++)
        n += atomic_load(&s->workers[i].open);
    return n;
}

/* The library does not count what its thread has not taken yet. Giving it a connection made its
 * epoll readable; the thread takes all of them as soon as it has seen that. */
static bool took_all(struct MHD_Daemon *daemon)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct pollfd p = {.fd = info ? info->epoll_fd : -1, .events = POLLIN};
    return p.fd >= 0 && poll(&p, 1, 0) == 0;
}

static void recount(struct sg_server *s)
{
    for (unsigned i = 0; i < s->n_workers; i++) {
        struct MHD_Daemon *daemon = s->workers[i].daemon;
        const union MHD_DaemonInfo *info =
            MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
        if (info && took_all(daemon))
            atomic_store(&s->workers[i].open, info->num_connections);
    }
}

static struct mhd_worker *least_loaded(struct mhd_acceptor *a)
{
    struct sg_server *s = a->server;
    struct mhd_worker *best = &s->workers[a->next % s->n_workers];
    for (unsigned i = 1; i < s->n_workers; i++) {
        struct mhd_worker *w = &s->workers[(a->next + i) % s->n_workers];
        if (atomic_load(&w->open) < atomic_load(&best->open))
            best = w;
    }
    a->next = (unsigned)(best - s->workers) + 1;
    return best;
}

/* Until a connection comes, or one closes where that is waited for. */
static void wait_for_work(struct mhd_acceptor *a, bool full, bool exhausted)
{
    struct pollfd fds[2] = {{.fd = a->wake_fd, .events = POLLIN},
                            {.fd = a->server->listen_fd, .events = POLLIN}};
    int n = full ? poll(fds, 1, RECOUNT_MS) : exhausted ? poll(fds, 1, RETRY_MS) : poll(fds, 2, -1);
    if (n == 0 && full)
        recount(a->server);
    uint64_t count;
    ssize_t got = read(a->wake_fd, &count, sizeof(count));
    (void)got; /* only to take back the wake */
}

/* False: there is nothing to accept now, or (*exhausted) it cannot be accepted now. */
static bool accept_one(struct mhd_acceptor *a, bool *exhausted)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    int fd =
        accept4(a->server->listen_fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        bool gone = errno == ECONNABORTED || errno == EINTR; /* that one; the next may be there */
        *exhausted = !gone && errno != EAGAIN; /* also what is unknown: it may be here to stay */
        return gone;
    }
    struct mhd_worker *w = least_loaded(a);
    atomic_fetch_add(&w->open, 1);
    /* Closes fd where it fails. */
    if (MHD_add_connection(w->daemon, fd, (struct sockaddr *)&peer, len) != MHD_YES)
        atomic_fetch_sub(&w->open, 1);
    return true;
}

static void *acceptor_main(void *arg)
{
    struct mhd_acceptor *a = arg;
    bool exhausted = false;
    pthread_setname_np(pthread_self(), "acceptor");
    while (!atomic_load(&a->stopping)) {
        /* First said, then looked: a close in between wakes. */
        atomic_store(&a->starved, true);
        bool full = open_connections(a->server) >= a->most;
        if (!full && !exhausted)
            atomic_store(&a->starved, false);
        wait_for_work(a, full, exhausted);
        exhausted = false;
        while (!atomic_load(&a->stopping) && open_connections(a->server) < a->most &&
               accept_one(a, &exhausted))
            continue;
    }
    return NULL;
}

bool mhd_acceptor_create(struct sg_server *s, unsigned most)
{
    struct mhd_acceptor *a = calloc(1, sizeof(*a));
    if (!a)
        return false;
    a->server = s;
    a->most = most;
    a->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    s->acceptor = a;
    a->started = a->wake_fd >= 0 && pthread_create(&a->thread, NULL, acceptor_main, a) == 0;
    return a->started;
}

void mhd_acceptor_stop(struct sg_server *s)
{
    struct mhd_acceptor *a = s->acceptor;
    if (!a || !a->started)
        return;
    atomic_store(&a->stopping, true);
    wake(a);
    pthread_join(a->thread, NULL);
    a->started = false;
}

void mhd_acceptor_destroy(struct sg_server *s)
{
    if (s->acceptor && s->acceptor->wake_fd >= 0)
        close(s->acceptor->wake_fd);
    free(s->acceptor);
    s->acceptor = NULL;
}

void mhd_acceptor_closed(struct mhd_worker *w)
{
    struct mhd_acceptor *a = w->server->acceptor;
    /* After a recount this one may be gone from the count already. */
    unsigned n = atomic_load(&w->open);
    while (n > 0 && !atomic_compare_exchange_weak(&w->open, &n, n - 1))
        continue;
    if (atomic_exchange(&a->starved, false))
        wake(a);
}
