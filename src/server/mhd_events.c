/* Event streams on the wire. A connection whose stream has nothing to say is suspended, and resumed
 * by whoever says something. libmicrohttpd does not look at suspended connections, so one thread
 * ("heartbeat") looks after all streams: it has a comment sent when nothing was for a while, soon
 * when the peer has ended (its answer to the comment tells whether it is gone), and shuts those
 * that are too slow.
 *
 * Invariants: a record is in the list from before its first read until its response is freed, which
 * is before the library closes the descriptor; the descriptor is used under the list's lock only.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "streamgate/base/clock.h"
#include "streamgate/http/event_stream.h"

#include "mhd_private.h"

#define BLOCK_BYTES ((size_t)16 * 1024)
#define BEAT_MS 15000 /* proxies cut what is silent for half a minute or more */
#define LOOK_MS 1000

struct mhd_event_conn {
    struct mhd_events *events;
    struct sg_server *server;
    struct MHD_Connection *mhd;
    struct sg_event_stream *stream;
    int fd;
    _Atomic uint64_t sent_ms; /* of the last bytes */
    struct mhd_event_conn *next, *prev;
};

struct mhd_events {
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* guards all below and the links of records */
    pthread_cond_t wake;
    struct mhd_event_conn *first;
    bool ending, stopping;
};

static void resume(void *arg)
{
    struct mhd_event_conn *c = arg;
    mhd_conn_resume(c->server, c->mhd);
}

static ssize_t read_events(void *cls, uint64_t pos, char *out, size_t max)
{
    struct mhd_event_conn *c = cls;
    (void)pos;
    ssize_t n = sg_event_stream_read(c->stream, out, max);
    if (n > 0) {
        atomic_store_explicit(&c->sent_ms, sg_clock_mono_ms(), memory_order_relaxed);
        return n;
    }
    if (n < 0)
        return n == -1 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
    MHD_suspend_connection(c->mhd);
    if (!sg_event_stream_park(c->stream))
        MHD_resume_connection(c->mhd);
    return 0;
}

static void release(void *cls)
{
    struct mhd_event_conn *c = cls;
    struct mhd_events *e = c->events;
    pthread_mutex_lock(&e->lock);
    if (c->next)
        c->next->prev = c->prev;
    if (c->prev)
        c->prev->next = c->next;
    else
        e->first = c->next;
    pthread_mutex_unlock(&e->lock);
    sg_event_stream_close(c->stream);
    sg_event_stream_unref(c->stream);
    free(c);
}

struct MHD_Response *mhd_events_response(struct conn *conn, struct sg_response *res)
{
    struct mhd_events *e = conn->server->events;
    struct mhd_event_conn *c = calloc(1, sizeof(*c));
    struct MHD_Response *r = c ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES,
                                                                   read_events, c, release)
                               : NULL;
    if (!r) {
        free(c);
        return NULL;
    }
    c->events = e;
    c->server = conn->server;
    c->mhd = conn->mhd;
    c->fd = conn->watched.fd;
    c->stream = res->events;
    res->events = NULL;
    atomic_init(&c->sent_ms, sg_clock_mono_ms());
    sg_event_stream_attach(c->stream, resume, c);
    pthread_mutex_lock(&e->lock);
    c->next = e->first;
    if (e->first)
        e->first->prev = c;
    e->first = c;
    bool ending = e->ending;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    if (ending)
        sg_event_stream_end(c->stream);
    return r;
}

/* ---- the thread ---- */

/* The streams that want a beat or an end, each with a reference; at most n. */
static size_t look(struct mhd_events *e, struct sg_event_stream **due, size_t n)
{
    size_t found = 0;
    uint64_t now_ms = sg_clock_mono_ms();
    pthread_mutex_lock(&e->lock);
    for (struct mhd_event_conn *c = e->first; c && found < n; c = c->next) {
        struct sg_tcp_counts counts;
        bool gone = !sg_tcp_counts_read(c->fd, &counts) || !counts.established;
        if (sg_event_stream_dropped(c->stream))
            shutdown(c->fd, SHUT_RDWR);
        uint64_t silent_ms = now_ms - atomic_load_explicit(&c->sent_ms, memory_order_relaxed);
        if (e->ending || gone || silent_ms >= BEAT_MS)
            due[found++] = sg_event_stream_ref(c->stream);
    }
    pthread_mutex_unlock(&e->lock);
    return found;
}

static void beat(struct mhd_events *e, bool ending)
{
    struct sg_event_stream *due[256];
    size_t n = look(e, due, SG_ARRAY_LEN(due));
    for (size_t i = 0; i < n; i++) {
        if (ending)
            sg_event_stream_end(due[i]);
        else
            sg_event_stream_beat(due[i]);
        sg_event_stream_unref(due[i]);
    }
}

static void wait_a_look(struct mhd_events *e)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LOOK_MS / 1000;
    pthread_cond_timedwait(&e->wake, &e->lock, &until);
}

static void *events_main(void *arg)
{
    struct mhd_events *e = arg;
    pthread_setname_np(pthread_self(), "heartbeat");
    pthread_mutex_lock(&e->lock);
    while (!e->stopping) {
        bool ending = e->ending;
        if (e->first) {
            pthread_mutex_unlock(&e->lock);
            beat(e, ending);
            pthread_mutex_lock(&e->lock);
        }
        if (e->stopping || ending != e->ending)
            continue;
        if (e->first)
            wait_a_look(e);
        else
            pthread_cond_wait(&e->wake, &e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

bool mhd_events_create(struct sg_server *s)
{
    struct mhd_events *e = calloc(1, sizeof(*e));
    if (!e)
        return false;
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&e->wake, &attr);
    pthread_condattr_destroy(&attr);
    s->events = e;
    e->started = pthread_create(&e->thread, NULL, events_main, e) == 0;
    return e->started;
}

void mhd_events_end(struct sg_server *s)
{
    struct mhd_events *e = s->events;
    pthread_mutex_lock(&e->lock);
    e->ending = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

void mhd_events_destroy(struct sg_server *s)
{
    struct mhd_events *e = s->events;
    if (!e)
        return;
    s->events = NULL;
    pthread_mutex_lock(&e->lock);
    e->stopping = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    if (e->started)
        pthread_join(e->thread, NULL);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    free(e);
}
