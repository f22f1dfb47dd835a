/* Services with real layers over a temporary data directory, a small module of routes made for
 * testing, and a transport without sockets that drives the pipeline the way a connection does. */
#ifndef SG_TESTS_LOOPBACK_SUPPORT_H
#define SG_TESTS_LOOPBACK_SUPPORT_H

#include "streamgate/http/services.h"
#include "streamgate/server/pipeline.h"
#include "streamgate/server/server.h"

#include "support/unit.h"

#define LOOP_CREATOR 0
#define LOOP_ADMIN 1
#define LOOP_VIEWER 2

struct loop {
    struct sg_services svc;
    struct sg_route_table *routes;
    struct sg_pipeline *pipeline; /* NULL when made for a server */
    struct sg_pool *wakers;
    char dir[64];
    char keys[3][SG_KEY_SIZE]; /* by LOOP_* */
};
/* overrides: NULL-terminated "section.key=value", or NULL. */
void loop_open(struct loop *l, const char *const *overrides, bool with_pipeline);
void loop_close(struct loop *l);

enum loop_drop { LOOP_KEEP, LOOP_DROP_AT_BODY, LOOP_DROP_IN_BODY, LOOP_DROP_AT_RESPONSE };
struct loop_request {
    const char *method, *path, *query;
    struct sg_header headers[20]; /* up to the first without a name; Host is added */
    const char *body;
    size_t body_len; /* 0: strlen(body) */
    size_t piece;    /* of the body; 0: whole */
    bool chunked;    /* no Content-Length is added */
    bool no_length;  /* nothing about the body is added */
    enum loop_drop drop;
    const char *peer; /* NULL: 127.0.0.1 */
};
struct loop_reply {
    unsigned status;
    struct sg_header headers[SG_RESPONSE_HEADERS_MAX];
    unsigned n_headers;
    char *body;
    size_t len;
    bool close;
    unsigned suspends, pieces; /* pieces of the body that were asked for */
};
void loop_send(struct loop *l, const struct loop_request *rq, struct loop_reply *out);
void loop_reply_free(struct loop_reply *r);
const char *loop_header(const struct loop_reply *r, const char *name); /* NULL */
unsigned loop_get(struct loop *l, const char *path, struct loop_reply *out);
const char *loop_bearer(struct loop *l, int who); /* "Bearer <key>"; static storage */

/* What the test routes saw. */
struct loop_seen {
    _Atomic unsigned upload_begins, upload_ends, frees, runs, blocking_runs, woken_runs;
    _Atomic uint64_t upload_bytes;
};
extern struct loop_seen loop_seen;
/* GET /t/kept/{n}, n below this. */
#define LOOP_KEPT_COUNT 24
size_t loop_kept_size(unsigned n);
extern const struct sg_module loop_module;
extern struct sg_pool *loop_waker_pool; /* whose threads wake the route that waits */

/* Raw sockets, for tests of a real server. Each read gives up after timeout_ms. */
int loop_connect(uint16_t port);
void loop_write(int fd, const void *data, size_t len);
/* Reads until the peer closes, or for timeout_ms. *closed: it did. The text is malloc'ed and
 * NUL-terminated. */
char *loop_read_all(int fd, int timeout_ms, bool *closed, size_t *len);
/* Reads one whole response (head and Content-Length). */
char *loop_read_one(int fd, int timeout_ms);

#endif
