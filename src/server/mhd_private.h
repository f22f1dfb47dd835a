/* What mhd_server.c (start, stop), mhd_conn.c (callbacks) and mhd_reply.c (responses) share. Only
 * these files know libmicrohttpd. */
#ifndef STREAMGATE_SERVER_MHD_PRIVATE_H
#define STREAMGATE_SERVER_MHD_PRIVATE_H

#include <microhttpd.h>
#include <pthread.h>

#include "streamgate/server/pipeline.h"
#include "streamgate/server/server.h"

#include "reaper.h"

/* An I/O thread: a daemon of the library's with its own epoll, without a listening socket. */
struct mhd_worker {
    struct sg_server *server;
    struct MHD_Daemon *daemon;
    _Atomic unsigned open; /* connections given to it that were not told as closed */
};

struct sg_server {
    struct sg_services *svc;
    struct sg_pipeline *pipeline;
    struct sg_reaper *reaper;
    struct mhd_worker *workers;
    unsigned n_workers;
    struct mhd_acceptor *acceptor; /* mhd_accept.c */
    int listen_fd;
    uint16_t port;
    bool check_memory; /* the library is the one whose parser guard.h describes */
    size_t max_header_bytes;
    size_t pool_bytes;        /* of one connection in the library */
    uint64_t daemon_idle_ms;  /* idle timeout the daemon was started with */
    _Atomic uint64_t idle_ms; /* the one in force */
    _Atomic uint32_t active;  /* exchanges that are not finished */
    pthread_mutex_t
        lock; /* with quiet: so that the last finish is not missed; guards nothing else */
    pthread_cond_t quiet;
    _Atomic bool stopping;
    _Atomic bool over;         /* no exchange that could be suspended begins any more */
    _Atomic uint32_t early;    /* exchanges begun before stopping that are not finished */
    _Atomic uint32_t resuming; /* calls of MHD_resume_connection that have not returned */
    struct mhd_kept_set *kept; /* mhd_kept.c: one an I/O thread */
    unsigned n_kept;
    struct mhd_events *events; /* mhd_events.c */
    _Atomic unsigned kept_taken;
};

/* Where a connection stands. Touched by the connection's own thread only. */
enum conn_stage {
    CONN_WAITING, /* no request line yet */
    CONN_HEAD,    /* request line seen, headers under way */
    CONN_SUSPENDED,
    CONN_BODY,
    CONN_READY, /* the response is made and is queued at the next call */
    CONN_SENDING,
    CONN_LINGER, /* answered by hand; what comes is thrown away, then the connection is closed */
    CONN_CLOSING
};

/* A large body on its way (mhd_bulk.c). */
struct mhd_bulk {
    bool on, fast, told, failed; /* told: the last bytes the library got were delivered before */
    bool unseen;                 /* what the library got before that was not delivered yet */
    uint64_t left;               /* of the body, in the socket or not here yet */
    size_t owed;                 /* delivered, not yet told */
    enum sg_step step;           /* with failed: what the pipeline said */
};

struct conn {
    struct sg_watched watched;
    struct sg_server *server;
    struct MHD_Connection *mhd;
    struct sg_exchange *x;
    struct sg_address peer;
    enum conn_stage stage;
    const char *target; /* as it came: libmicrohttpd's memory, or target_copy */
    char *target_copy;  /* when there is a query, which the library takes apart in place */
    size_t target_len;
    const char *target_raw; /* in the library's memory, for the memory check */
    const char *head_end;   /* where the body must begin; NULL when not checked */
    size_t head_bytes;
    bool body_expected, body_ended, expects_continue, chunked;
    struct mhd_bulk bulk;
    uint64_t response_len;
    struct mhd_kept *kept; /* the kept response on its way, or NULL */
    bool early;            /* the exchange began before the server was stopping */
    void *pool; /* the library's memory of this connection (mhd_idle.c); NULL: not known */
    bool pool_checked, rests;
    struct conn *rest_next, *rest_prev; /* the thread's list of mhd_idle.c */
    struct conn *head_next, *head_prev; /* the thread's list of connections in CONN_HEAD */
};

/* mhd_conn.c */
void *mhd_conn_target(void *cls, const char *target, struct MHD_Connection *mhd);
enum MHD_Result mhd_conn_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *data_len, void **con_cls);
void mhd_conn_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                        enum MHD_RequestTerminationCode code);
/* cls: the worker; of the others: the server. */
void mhd_conn_notify(void *cls, struct MHD_Connection *mhd, void **socket_context,
                     enum MHD_ConnectionNotificationCode code);
/* Of a suspended connection, from any thread. */
void mhd_conn_resume(struct sg_server *s, struct MHD_Connection *mhd);
/* The library is about to answer a Content-Length it cannot read by itself (in 0.9.75 with a
 * doubled head): answers first. */
void mhd_conn_bad_length(void);

/* mhd_accept.c */
bool mhd_acceptor_create(struct sg_server *s,
                         unsigned most);        /* starts the thread; destroy also after false */
void mhd_acceptor_stop(struct sg_server *s);    /* nothing is accepted any more */
void mhd_acceptor_destroy(struct sg_server *s); /* stopped, the library's threads have ended */
void mhd_acceptor_closed(struct mhd_worker *w); /* a connection, by the library */

/* mhd_bulk.c; begin and end on the connection's thread. */
void mhd_bulk_begin(struct conn *c); /* bytes of a body came, and more are to come */
void mhd_bulk_end(
    struct conn *c); /* the body is over, or nobody wants it; before the descriptor is closed */
void mhd_bulk_free(void); /* after the library's threads have ended */

/* mhd_idle.c; all on the connection's thread. */
size_t mhd_idle_pool_bytes(size_t head_bytes); /* the least that takes heads of that size */
void mhd_idle_learn(struct conn *c, const char *method); /* at each head, head_bytes set */
void mhd_idle_add(struct conn *c);                       /* a request is finished */
void mhd_idle_remove(struct conn *c); /* the next begins, or the connection ends */
void mhd_idle_sweep(uint64_t now_ms); /* from any callback */

/* mhd_kept.c; all but create and destroy on an I/O thread. */
bool mhd_kept_create(struct sg_server *s, unsigned threads);
void mhd_kept_destroy(struct sg_server *s); /* after the library's threads have ended */
/* A response with res's body and headers, or NULL. Busy until mhd_kept_done. */
struct MHD_Response *mhd_kept_find(struct conn *c, const struct sg_response *res);
bool mhd_kept_wants(const struct sg_response *res); /* before its body is given away */
/* After queueing: takes the caller's reference to response, whose body is buf. */
void mhd_kept_offer(struct conn *c, const struct sg_response *res, const struct sg_buf *buf,
                    struct MHD_Response *response);
void mhd_kept_done(struct conn *c); /* the library is through with it; NULL is fine */

/* mhd_events.c */
bool mhd_events_create(struct sg_server *s);  /* starts the thread; destroy also after false */
void mhd_events_end(struct sg_server *s);     /* streams end, also those that still begin */
void mhd_events_destroy(struct sg_server *s); /* after the library's threads have ended */
/* A response that reads res's stream, which becomes its own; NULL: no memory. */
struct MHD_Response *mhd_events_response(struct conn *c, struct sg_response *res);

/* mhd_reply.c */
/* Queues the exchange's response; its body's owner becomes the library. *len: of the body that will
 * be sent. */
bool mhd_reply_queue(struct conn *c, uint64_t *len);
/* Writes the exchange's response to the socket by hand and shuts the sending side: for answers that
 * come before the end of a body, which the library can only give by dropping the connection under
 * the client's feet. */
void mhd_reply_by_hand(struct conn *c);

#endif
