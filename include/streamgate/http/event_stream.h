/* An open text/event-stream answer (WHATWG HTML, 9.2): a bounded queue between whoever has something to tell, on any thread, and the connection that takes it out. Modules make one, hand it
 * to sg_response_events and send to it; the transport reads it. Reference-counted, thread-safe. Nothing here blocks. */
#ifndef STREAMGATE_HTTP_EVENT_STREAM_H
#define STREAMGATE_HTTP_EVENT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "streamgate/base/error.h"

struct sg_event_stream;
struct sg_response;

struct sg_event_stream_params {
    size_t max_bytes;         /* that may wait for the reader; 0: 256 KiB. A reader that is further behind is dropped */
    void (*closed)(void *arg); /* once, when nobody reads (any more), on any thread, without a lock; NULL: none */
    void *arg;
};
enum sg_error sg_event_stream_create(const struct sg_event_stream_params *p, struct sg_event_stream **out) SG_NODISCARD; /* one reference */
struct sg_event_stream *sg_event_stream_ref(struct sg_event_stream *s);
void sg_event_stream_unref(struct sg_event_stream *s); /* NULL is fine */

/* One event. id 0: none; name and data have no line breaks. UNAVAILABLE: ended, closed, or just dropped for being too slow; NO_MEMORY. */
struct sg_event { uint64_t id; const char *name, *data; };
enum sg_error sg_event_stream_send(struct sg_event_stream *s, const struct sg_event *e) SG_NODISCARD;
/* The answer ends after what was sent. */
void sg_event_stream_end(struct sg_event_stream *s);

/* The answer: 200, text/event-stream, not to be cached or buffered. Takes the caller's reference; when res is dropped unsent the stream is closed. */
void sg_response_events(struct sg_response *res, struct sg_event_stream *s);

/* ---- for the transport ---- */

/* resume(conn) is called once for each sg_event_stream_park that answered true. Before the first read. */
void sg_event_stream_attach(struct sg_event_stream *s, void (*resume)(void *conn), void *conn);
/* Bytes into out; 0: none at the moment; -1: the end; -2: dropped. On the connection's thread. */
ssize_t sg_event_stream_read(struct sg_event_stream *s, char *out, size_t max);
/* After a read of 0, the connection suspended: true: it stays so until resume; false: something came meanwhile. */
bool sg_event_stream_park(struct sg_event_stream *s);
/* Nobody reads any more. Once. */
void sg_event_stream_close(struct sg_event_stream *s);
/* A comment line, unless something waits already: keeps the way open and finds out who has gone. */
void sg_event_stream_beat(struct sg_event_stream *s);
bool sg_event_stream_dropped(struct sg_event_stream *s);

#endif
