/* One connection's callbacks: from libmicrohttpd's calls to the pipeline's steps. All callbacks of
 * a connection run on its own I/O thread.
 *
 * The library calls mhd_conn_request first when the head is complete (no body byte consumed; a
 * response queued now closes the connection), then with each piece of the body, then once with
 * nothing (a response queued now keeps the connection). So what is ready early is queued early only
 * when it must close the connection anyway. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

#include "guard.h"
#include "mhd_private.h"

/* Connections of this thread whose head is not complete. Almost always empty or one. */
static _Thread_local struct conn *heads;

static void heads_push(struct conn *c)
{
    c->head_prev = NULL;
    c->head_next = heads;
    if (heads) {
        heads->head_prev = c;
    }
    heads = c;
    c->stage = CONN_HEAD;
}

static void heads_remove(struct conn *c)
{
    if (c->head_next) {
        c->head_next->head_prev = c->head_prev;
    }
    if (c->head_prev) {
        c->head_prev->head_next = c->head_next;
    } else {
        heads = c->head_next;
    }
    c->head_next = c->head_prev = NULL;
}

static struct conn *conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void watch(struct conn *c, enum sg_watch w)
{
    sg_watched_set(&c->watched, w, sg_clock_mono_ms());
}

/* ---- exchanges ---- */

static void suspend(void *arg)
{
    struct conn *c = arg;
    MHD_suspend_connection(c->mhd);
}

void mhd_conn_resume(struct sg_server *s, struct MHD_Connection *mhd)
{
    /* Resumed, it can end before the library is through with waking its thread. */
    atomic_fetch_add_explicit(&s->resuming, 1, memory_order_acq_rel);
    MHD_resume_connection(mhd);
    atomic_fetch_sub_explicit(&s->resuming, 1, memory_order_acq_rel);
}

static void resume(void *arg)
{
    struct conn *c = arg;
    mhd_conn_resume(c->server, c->mhd);
}

static void exchange_begun(struct conn *c)
{
    struct sg_server *s = c->server;
    c->early = !atomic_load_explicit(&s->stopping, memory_order_acquire);
    if (c->early) {
        atomic_fetch_add_explicit(&s->early, 1, memory_order_acq_rel);
    }
    atomic_fetch_add(&s->active, 1);
}

static void exchange_gone(struct conn *c)
{
    struct sg_server *s = c->server;
    bool last = atomic_fetch_sub_explicit(&s->active, 1, memory_order_acq_rel) == 1;
    if (c->early) {
        last |= atomic_fetch_sub_explicit(&s->early, 1, memory_order_acq_rel) == 1;
    }
    if (last && atomic_load_explicit(&s->stopping, memory_order_acquire)) {
        pthread_mutex_lock(&s->lock);
        pthread_cond_broadcast(&s->quiet);
        pthread_mutex_unlock(&s->lock);
    }
}

static void finish(struct conn *c, bool completed)
{
    mhd_kept_done(c);
    if (!c->x) {
        return;
    }
    sg_pipeline_finish(c->x, completed, completed ? c->response_len : 0);
    c->x = NULL;
    exchange_gone(c);
}

static enum MHD_Result queue(struct conn *c)
{
    if (!mhd_reply_queue(c, &c->response_len)) {
        return MHD_NO;
    }
    /* A stream is silent for as long as nothing happens: mhd_events.c looks after it. */
    bool stream = sg_exchange_response(c->x)->source == SG_SOURCE_EVENTS;
    c->stage = CONN_SENDING;
    watch(c, stream ? SG_WATCH_WORK : SG_WATCH_SEND);
    return MHD_YES;
}

static enum MHD_Result linger(struct conn *c)
{
    mhd_reply_by_hand(c);
    finish(c, true);
    c->stage = CONN_LINGER;
    watch(c, SG_WATCH_LINGER);
    return MHD_YES;
}

/* at_end: the whole request was read. */
static enum MHD_Result after_step(struct conn *c, enum sg_step step, bool at_end)
{
    switch (step) {
    case SG_STEP_SUSPENDED:
        c->stage = CONN_SUSPENDED;
        return MHD_YES;
    case SG_STEP_BODY:
        if (c->stage != CONN_BODY) {
            c->stage = CONN_BODY;
            watch(c, SG_WATCH_BODY);
        }
        return MHD_YES;
    case SG_STEP_RESPOND:
        break;
    }
    if (at_end) {
        return queue(c);
    }
    if (!c->body_expected) {
        c->stage = CONN_READY; /* the call at the end of the request comes at once */
        return MHD_YES;
    }
    /* A client that waits for 100 Continue has sent nothing yet: the library's close does it no
     * harm. */
    return c->stage != CONN_BODY && c->expects_continue ? queue(c) : linger(c);
}

/* ---- the head ---- */

struct head_collector {
    struct sg_header headers[SG_HEADERS_MAX + 1];
    unsigned n;
};

static enum MHD_Result collect_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                      const char *value)
{
    struct head_collector *h = cls;
    (void)kind;
    if (h->n > SG_HEADERS_MAX) {
        return MHD_NO;
    }
    h->headers[h->n++] = (struct sg_header){name, value ? value : ""};
    return MHD_YES;
}

static enum MHD_Result refuse(struct conn *c, const struct sg_transport *t,
                              const struct sg_request_head *head, enum sg_guard_reason reason)
{
    const struct sg_guard_rule *rule = &sg_guard_rules[reason];
    if (sg_pipeline_refuse(c->server->pipeline, t, head, rule->err, rule->slug, &c->x) != SG_OK) {
        return MHD_NO;
    }
    exchange_begun(c);
    return queue(c); /* before 100 Continue and before anything behind the head is read: the library
                        closes */
}

static enum sg_guard_reason guard(struct conn *c, const char *method, const char *version,
                                  const struct head_collector *h, size_t *path_offset)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    c->head_bytes = info ? info->header_size : 0;
    c->head_end = NULL;
    const struct sg_guard_head head = {
        .method = method,
        .target = c->target,
        .version = version,
        .headers = h->headers,
        .n_headers = h->n,
        .bytes = c->head_bytes,
        .max_bytes = c->server->max_header_bytes,
    };
    if (c->server->check_memory && h->n <= SG_HEADERS_MAX) {
        const struct sg_guard_memory memory = {
            .method = method,
            .target = c->target_raw,
            .target_len = c->target_len,
            .version = version,
            .headers = h->headers,
            .n_headers = h->n,
            .bytes = c->head_bytes,
        };
        if (!sg_guard_memory_clean(&memory)) {
            return SG_GUARD_FRAMING;
        }
        c->head_end = method + c->head_bytes;
        mhd_idle_learn(c, method);
    }
    return sg_guard_check(&head, path_offset);
}

/* Splits the target into path and query; the guard has checked it. */
static enum MHD_Result begin(struct conn *c, const struct sg_transport *t,
                             struct sg_request_head *head, size_t path_offset)
{
    char *query = NULL;
    const char *path = c->target + path_offset;
    if (c->target_copy) {
        query = strchr(c->target_copy + path_offset, '?');
        if (query) {
            *query++ = '\0';
        }
    }
    head->target_path = *path ? path : "/";
    head->query = query ? query : "";
    for (unsigned i = 0; i < head->n_headers; i++) {
        const char *name = head->headers[i].name;
        if ((name[0] | 0x20) == 'e' && sg_str_ieq(name, "expect")) {
            c->expects_continue = true;
        } else if ((name[0] | 0x20) == 't' && sg_str_ieq(name, "transfer-encoding")) {
            c->body_expected = c->chunked = true;
        } else if ((name[0] | 0x20) == 'c' && sg_str_ieq(name, "content-length")) {
            c->body_expected = head->headers[i].value[strspn(head->headers[i].value, "0")] != '\0';
        }
    }
    enum sg_step step = SG_STEP_RESPOND;
    exchange_begun(c); /* before the exchange can be suspended; counted first, then looked */
    if (atomic_load(&c->server->over) ||
        sg_pipeline_begin(c->server->pipeline, t, head, &c->x, &step) != SG_OK) {
        exchange_gone(c);
        return MHD_NO;
    }
    return after_step(c, step, false);
}

static enum MHD_Result on_head(struct conn *c, const char *method, const char *version)
{
    struct head_collector h;
    h.n = 0;
    heads_remove(c);
    mhd_idle_remove(c);
    c->stage = CONN_WAITING;
    c->body_expected = c->body_ended = c->expects_continue = c->chunked = false;
    c->response_len = 0;
    atomic_store_explicit(&c->watched.body_bytes, 0, memory_order_relaxed);
    watch(c, SG_WATCH_WORK);
    (void)MHD_get_connection_values(c->mhd, MHD_HEADER_KIND, collect_header, &h);
    const struct sg_transport t = {.suspend = suspend, .resume = resume, .conn = c};
    struct sg_request_head head = {
        .method = method,
        .target_path = "/",
        .query = "",
        .version = version,
        .headers = h.headers,
        .n_headers = h.n,
        .peer = c->peer,
    };
    size_t path_offset = 0;
    enum sg_guard_reason reason = guard(c, method, version, &h, &path_offset);
    if (reason != SG_GUARD_OK) {
        return refuse(c, &t, &head, reason);
    }
    return begin(c, &t, &head, path_offset);
}

void *mhd_conn_target(void *cls, const char *target, struct MHD_Connection *mhd)
{
    (void)cls;
    struct conn *c = conn_of(mhd);
    if (!c) {
        return NULL;
    }
    if (c->stage == CONN_HEAD) {
        heads_remove(c); /* a second request line without a request: cannot be, but the list must
                            hold it once */
    }
    free(c->target_copy);
    c->target_copy = NULL;
    c->mhd = mhd;
    c->target_raw = target;
    c->target_len = strlen(target);
    c->target = target;
    if (memchr(target, '?', c->target_len)) {
        c->target_copy = strdup(target);
        c->target = c->target_copy;
    }
    heads_push(c);
    return c;
}

/* ---- the body ---- */

static enum MHD_Result on_body(struct conn *c, const char *data, size_t *len)
{
    size_t n = *len;
    *len = 0;
    if (c->stage == CONN_LINGER) {
        return MHD_YES;
    }
    if (c->stage != CONN_BODY) {
        return MHD_NO;
    }
    if (c->bulk.on && c->bulk.told) {
        if (!c->bulk.failed) {
            return MHD_YES; /* the pipeline has them */
        }
        mhd_bulk_end(c);
        return after_step(c, c->bulk.step, false);
    }
    c->bulk.unseen = false;
    uint64_t before = atomic_load_explicit(&c->watched.body_bytes, memory_order_relaxed);
    if (before == 0 && c->head_end && data > c->head_end - 4 && data < c->head_end) {
        return MHD_NO; /* the empty line was shorter than it must be: the body begins inside the
                          head */
    }
    atomic_store_explicit(&c->watched.body_bytes, before + n, memory_order_relaxed);
    enum sg_step step = sg_pipeline_body(c->x, (const uint8_t *)data, n);
    if (step == SG_STEP_BODY) {
        mhd_bulk_begin(c);
    } else {
        mhd_bulk_end(c);
    }
    return after_step(c, step, false);
}

enum MHD_Result mhd_conn_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *data_len, void **con_cls)
{
    (void)cls;
    (void)mhd;
    (void)url;
    struct conn *c = *con_cls;
    if (!c || !c->target) {
        return MHD_NO;
    }
    if (*data_len > 0) {
        return on_body(c, data, data_len);
    }
    switch (c->stage) {
    case CONN_HEAD:
        return on_head(c, method, version);
    case CONN_SUSPENDED: /* the library calls again from where it was */
        return after_step(c, sg_pipeline_continue(c->x), c->body_ended);
    case CONN_BODY:
        c->body_ended = true;
        mhd_bulk_end(c);
        watch(c, SG_WATCH_WORK);
        return after_step(c, sg_pipeline_body_end(c->x), true);
    case CONN_READY:
        return queue(c);
    default:
        return MHD_NO;
    }
}

/* ---- ends ---- */

void mhd_conn_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                        enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)mhd;
    struct conn *c = *con_cls;
    if (!c) {
        return;
    }
    mhd_bulk_end(c);
    if (c->stage == CONN_HEAD) {
        heads_remove(c);
    }
    bool sent = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    uint64_t used =
        c->head_bytes + atomic_load_explicit(&c->watched.body_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->watched.consumed, used, memory_order_relaxed);
    if (c->chunked) {
        atomic_store_explicit(&c->watched.consumed_unknown, true, memory_order_relaxed);
    }
    finish(c, sent && c->stage == CONN_SENDING);
    free(c->target_copy);
    c->target_copy = NULL;
    c->target = NULL;
    c->head_bytes = 0;
    c->stage = CONN_WAITING;
    uint64_t now_ms = sg_clock_mono_ms();
    sg_watched_set(&c->watched, SG_WATCH_HEAD, now_ms);
    mhd_idle_sweep(now_ms);
    mhd_idle_add(c);
    *con_cls = NULL;
}

static void read_peer(struct MHD_Connection *mhd, struct sg_address *out)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    memset(out, 0, sizeof(*out));
    if (!info || !info->client_addr) {
        return;
    }
    if (info->client_addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)info->client_addr;
        memcpy(out->b, &in6->sin6_addr, 16);
    } else if (info->client_addr->sa_family == AF_INET) {
        const struct sockaddr_in *in4 = (const void *)info->client_addr;
        out->b[10] = out->b[11] = 0xff;
        memcpy(out->b + 12, &in4->sin_addr, 4);
    }
}

/* To a near client (this machine, a proxy beside it) the kernel would let megabytes pile up in the
 * socket; a quarter of one fills the pipe as well and stays in the processor's cache. Measured with
 * 2 MB bodies over loopback: 3,200 responses a second instead of 2,100. A far client keeps the
 * kernel's own sizing, which follows the round trip. */
#define NEAR_RTT_US 2000
#define NEAR_SEND_BUFFER_BYTES (256 * 1024)

static void bound_send_buffer(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_rtt > 0 &&
        info.tcpi_rtt <= NEAR_RTT_US) {
        const int bytes = NEAR_SEND_BUFFER_BYTES;
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    }
}

static void on_start(struct sg_server *s, struct MHD_Connection *mhd, void **socket_context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct conn *c = info ? calloc(1, sizeof(*c)) : NULL;
    *socket_context = c;
    if (!c) {
        return; /* requests on it are refused: there is no context */
    }
    c->server = s;
    c->mhd = mhd;
    read_peer(mhd, &c->peer);
    bound_send_buffer(info->connect_fd);
    uint64_t idle_ms = atomic_load_explicit(&s->idle_ms, memory_order_relaxed);
    if (idle_ms != s->daemon_idle_ms) {
        (void)MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT,
                                        (unsigned)((idle_ms + 999) / 1000));
    }
    sg_metric_gauge_add(SG_METRIC_ACTIVE_CONNECTIONS, 0, 1);
    sg_reaper_add(s->reaper, &c->watched, info->connect_fd);
}

void mhd_conn_notify(void *cls, struct MHD_Connection *mhd, void **socket_context,
                     enum MHD_ConnectionNotificationCode code)
{
    struct mhd_worker *w = cls;
    struct sg_server *s = w->server;
    struct conn *c = *socket_context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED && c) {
        mhd_idle_remove(c); /* first: its pool is freed already */
    }
    mhd_idle_sweep(sg_clock_mono_ms());
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        on_start(s, mhd, socket_context);
        return;
    }
    mhd_acceptor_closed(w);
    if (!c) {
        return;
    }
    *socket_context = NULL;
    mhd_bulk_end(c);
    sg_reaper_remove(s->reaper, &c->watched);
    sg_metric_gauge_add(SG_METRIC_ACTIVE_CONNECTIONS, 0, -1);
    if (c->stage == CONN_HEAD) {
        heads_remove(c);
    }
    finish(c, false);
    free(c->target_copy);
    free(c);
}

void mhd_conn_bad_length(void)
{
    for (struct conn *c = heads, *next; c; c = next) {
        next = c->head_next;
        const char *value = MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, "Content-Length");
        if (!value || sg_guard_length_ok(value)) {
            continue;
        }
        /* Whichever of them the library is about to refuse: all of these are refused the same way.
         */
        const struct sg_guard_rule *rule = &sg_guard_rules[SG_GUARD_LENGTH];
        const struct sg_transport t = {.suspend = suspend, .resume = resume, .conn = c};
        const struct sg_request_head head = {.method = "", .version = "", .peer = c->peer};
        heads_remove(c);
        c->stage = CONN_CLOSING;
        if (sg_pipeline_refuse(c->server->pipeline, &t, &head, rule->err, rule->slug, &c->x) ==
            SG_OK) {
            exchange_begun(c);
            mhd_reply_by_hand(c);
            finish(c, true);
        }
    }
}
