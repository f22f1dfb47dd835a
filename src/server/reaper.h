/* The table of open connections and the thread that closes those that are too slow: heads that do
 * not end, bodies and readers below the least rate, idle keep-alive. libmicrohttpd's own timeout
 * only sees idleness, so one byte now and then would hold a connection for ever.
 *
 * A record lives from the start of its connection until the library is about to close the
 * descriptor. The reaper touches a descriptor only under the lock of the record's shard and while
 * the record is in the table, so it can never be another's. */
#ifndef STREAMGATE_SERVER_REAPER_H
#define STREAMGATE_SERVER_REAPER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/config.h"
#include "streamgate/base/error.h"

enum sg_watch {
    SG_WATCH_HEAD,  /* no request, or its head is not complete */
    SG_WATCH_WORK,  /* the request is being worked on: bounded elsewhere */
    SG_WATCH_BODY,  /* its body is being received */
    SG_WATCH_SEND,  /* its response is being sent */
    SG_WATCH_LINGER /* answered before the body ended; what still comes is thrown away */
};

/* Embedded in the owner's connection record. The owner writes the atomics from the connection's
 * thread, the reaper reads them. */
struct sg_watched {
    int fd;
    _Atomic int watch;
    _Atomic uint64_t since_ms;   /* when `watch` began */
    _Atomic uint64_t consumed;   /* bytes of all finished requests; what the socket received beyond
                                    them belongs to the next head */
    _Atomic uint64_t body_bytes; /* of the body at hand */
    _Atomic bool consumed_unknown; /* after a chunked body: the reaper takes what was received at
                                      its first look */

    /* The reaper's own. */
    uint64_t seen_since_ms, checked_ms, head_since_ms, mark_ms, mark_bytes;
    bool base_taken;
    struct sg_watched *next, *prev; /* guarded by the shard's lock */
};

struct sg_reaper;
/* Defines the series of REAPED_CONNECTIONS and starts the thread ("reaper"). */
enum sg_error sg_reaper_create(const struct sg_config *config, struct sg_reaper **out) SG_NODISCARD;
void sg_reaper_destroy(struct sg_reaper **r); /* the table is empty by then */
void sg_reaper_configure(struct sg_reaper *r, const struct sg_config *config);

void sg_reaper_add(struct sg_reaper *r, struct sg_watched *w, int fd);
void sg_reaper_remove(struct sg_reaper *r,
                      struct sg_watched *w); /* before the descriptor is closed */
void sg_watched_set(struct sg_watched *w, enum sg_watch watch, uint64_t now_ms);
/* Shuts every connection in the table; their owners notice by themselves. */
void sg_reaper_shut_all(struct sg_reaper *r);

/* The decision, pure. */
enum sg_reap {
    SG_REAP_NO,
    SG_REAP_HEADER,
    SG_REAP_BODY,
    SG_REAP_IDLE,
    SG_REAP_READ,
    SG_REAP_LINGER,
    SG_REAP_REASONS
};
struct sg_reap_limits {
    uint64_t header_ms, idle_ms, min_rate; /* min_rate in bytes a second; 0: none */
};
struct sg_tcp_counts {
    uint64_t received, acked;
    bool established;
    bool peer_ended; /* it sends no more; the other direction is open */
};
bool sg_tcp_counts_read(int fd, struct sg_tcp_counts *out);
/* Does sg_reap_judge need the counts now? */
bool sg_reap_wants_counts(const struct sg_watched *w, uint64_t now_ms);
/* Is the connection one that waits for a peer that has ended? */
bool sg_reap_must_repeat_end(const struct sg_watched *w, const struct sg_tcp_counts *counts);
/* counts NULL: not asked for, or not to be had. */
enum sg_reap sg_reap_judge(struct sg_watched *w, const struct sg_reap_limits *limits,
                           const struct sg_tcp_counts *counts, uint64_t now_ms);

#endif
