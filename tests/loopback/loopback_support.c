/* Services, the transport without sockets, and raw sockets. */
#include "loopback_support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

/* ---- services ---- */

static enum sg_error make_key(struct sg_db_conn *c, void *arg)
{
    static const enum sg_role roles[] = {SG_ROLE_CREATOR, SG_ROLE_ADMIN, SG_ROLE_VIEWER};
    struct loop *l = arg;
    for (int i = 0; i < 3; i++) {
        const struct sg_key_params params = {.name = sg_role_name(roles[i]), .role = roles[i]};
        struct sg_key key;
        enum sg_error err = sg_key_create(c, &params, l->keys[i], &key);
        if (err != SG_OK)
            return err;
    }
    return SG_OK;
}

static struct sg_config *load_config(const char *const *overrides)
{
    struct sg_config_params params = {.overrides = overrides};
    while (overrides && overrides[params.n_overrides])
        params.n_overrides++;
    struct sg_text mistakes = {0};
    struct sg_config *config = NULL;
    enum sg_error err = sg_config_load(&params, &mistakes, &config);
    if (err != SG_OK)
        print_error("%s\n", mistakes.ptr);
    assert_int_equal(err, SG_OK);
    sg_text_free(&mistakes);
    return config;
}

static const struct sg_module *const modules[] = {&loop_module};

void loop_open(struct loop *l, const char *const *overrides, bool with_pipeline)
{
    memset(l, 0, sizeof *l);
    memset(&loop_seen, 0, sizeof loop_seen);
    sg_log_configure(SG_LOG_ERROR, false);
    struct sg_services *svc = &l->svc;
    struct sg_config *config = load_config(overrides);
    atomic_store(&svc->config, config);
    (void)snprintf(l->dir, sizeof l->dir, "/tmp/sg-loop-XXXXXX");
    assert_non_null(mkdtemp(l->dir));
    svc->data_dirfd = open(l->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char path[96];
    (void)snprintf(path, sizeof path, "%s/test.db", l->dir);
    const struct sg_db_params db = {.path = path, .readers = 2};
    assert_int_equal(sg_db_open(&db, &svc->db), SG_OK);
    assert_int_equal(sg_db_write(svc->db, make_key, l), SG_OK);
    const struct sg_pool_params blocking = {.name = "blocking", .threads = 4};
    const struct sg_pool_params wakers = {.name = "waker", .threads = 2};
    assert_int_equal(sg_pool_create(&blocking, &svc->blocking), SG_OK);
    assert_int_equal(sg_pool_create(&wakers, &l->wakers), SG_OK);
    loop_waker_pool = l->wakers;
    assert_int_equal(sg_ratelimit_create(config, &svc->ratelimit), SG_OK);
    const struct sg_identity_params identity = {.db = svc->db};
    assert_int_equal(sg_identity_create(&identity, &svc->identity), SG_OK);
    assert_int_equal(sg_token_signer_create(svc->data_dirfd, &svc->signer), SG_OK);
    assert_int_equal(sg_audit_create(svc->db, config, &svc->audit), SG_OK);
    struct sg_cidr_list *trusted = NULL;
    assert_int_equal(
        sg_cidr_list_parse(sg_config_string(config, SG_SET_server_trusted_proxies), &trusted),
        SG_OK);
    atomic_store(&svc->trusted_proxies, trusted);
    assert_int_equal(sg_route_table_create(modules, 1, &l->routes), SG_OK);
    svc->routes = l->routes;
    if (with_pipeline)
        assert_int_equal(sg_pipeline_create(svc, &l->pipeline), SG_OK);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void loop_close(struct loop *l)
{
    struct sg_services *svc = &l->svc;
    sg_pool_destroy(&l->wakers);
    sg_pool_destroy(&svc->blocking);
    sg_pipeline_destroy(&l->pipeline);
    sg_route_table_destroy(&l->routes);
    sg_audit_destroy(&svc->audit);
    sg_token_signer_destroy(&svc->signer);
    sg_identity_destroy(&svc->identity);
    sg_ratelimit_destroy(&svc->ratelimit);
    sg_db_close(&svc->db);
    struct sg_cidr_list *trusted = atomic_load(&svc->trusted_proxies);
    sg_cidr_list_destroy(&trusted);
    close(svc->data_dirfd);
    sg_config_unref(atomic_load(&svc->config));
    assert_int_equal(nftw(l->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
    sg_metrics_reset();
}

const char *loop_bearer(struct loop *l, int who_)
{
    static char text[3][SG_KEY_SIZE + 8];
    (void)snprintf(text[who_], sizeof text[who_], "Bearer %s", l->keys[who_]);
    return text[who_];
}

/* ---- the transport ---- */

/* As a connection: suspended at most once at a time, and only a suspended one is resumed. */
struct loop_conn {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool suspended, resumed, faulty;
    unsigned suspends;
};

static void conn_suspend(void *arg)
{
    struct loop_conn *c = arg;
    pthread_mutex_lock(&c->lock);
    c->faulty |= c->suspended;
    c->suspended = true;
    c->resumed = false;
    c->suspends++;
    pthread_mutex_unlock(&c->lock);
}

static void conn_resume(void *arg)
{
    struct loop_conn *c = arg;
    pthread_mutex_lock(&c->lock);
    c->faulty |= !c->suspended || c->resumed;
    c->resumed = true;
    pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->lock);
}

static void conn_wait(struct loop_conn *c)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    pthread_mutex_lock(&c->lock);
    int rc = 0;
    while (!c->resumed && rc == 0)
        rc = pthread_cond_timedwait(&c->cond, &c->lock, &until);
    c->suspended = c->resumed = false;
    pthread_mutex_unlock(&c->lock);
    assert_int_equal(rc, 0); /* a lost wake */
}

static void append_source(struct sg_text *out, const struct sg_response *res, uint64_t offset,
                          uint64_t len)
{
    if (len == 0)
        return;
    if (res->buf) {
        assert_true(offset + len <= res->buf->len);
        sg_text_append(out, (const char *)res->buf->data + offset, (size_t)len);
        return;
    }
    char *tmp = malloc((size_t)len);
    assert_non_null(tmp);
    assert_int_equal(pread(res->fd, tmp, (size_t)len, (off_t)offset), (ssize_t)len);
    sg_text_append(out, tmp, (size_t)len);
    free(tmp);
}

static void take_reply(struct sg_exchange *x, struct loop_reply *out)
{
    const struct sg_response *res = sg_exchange_response(x);
    struct sg_text body = {0};
    out->status = res->status;
    out->close = res->close;
    for (unsigned i = 0; i < res->n_headers; i++)
        out->headers[out->n_headers++] =
            (struct sg_header){strdup(res->headers[i].name), strdup(res->headers[i].value)};
    if (sg_exchange_request(x)->method != SG_HEAD && res->status != 304) {
        if (res->source == SG_SOURCE_PARTS) {
            for (unsigned i = 0; i < res->n_parts; i++) {
                sg_text_append(&body, res->parts[i].prefix, res->parts[i].prefix_len);
                append_source(&body, res, res->parts[i].offset, res->parts[i].len);
            }
        } else if (res->source != SG_SOURCE_NONE) {
            append_source(&body, res, res->offset, res->len);
        }
    }
    out->body = body.ptr ? body.ptr : strdup("");
    out->len = body.len;
}

static unsigned make_headers(const struct loop_request *rq, size_t body_len, char length[24],
                             struct sg_header *out)
{
    unsigned n = 0;
    out[n++] = (struct sg_header){"Host", "test"};
    while (n <= SG_ARRAY_LEN(rq->headers) && rq->headers[n - 1].name) {
        out[n] = rq->headers[n - 1];
        n++;
    }
    if (rq->chunked) {
        out[n++] = (struct sg_header){"Transfer-Encoding", "chunked"};
    } else if (rq->body && !rq->no_length) {
        (void)snprintf(length, 24, "%zu", body_len);
        out[n++] = (struct sg_header){"Content-Length", length};
    }
    return n;
}

static enum sg_step feed(struct sg_exchange *x, const struct loop_request *rq, size_t body_len,
                         struct loop_reply *out, bool *dropped)
{
    size_t at = 0;
    size_t piece = rq->piece ? rq->piece : body_len;
    *dropped = rq->drop == LOOP_DROP_AT_BODY;
    while (at < body_len && !*dropped) {
        size_t n = body_len - at < piece ? body_len - at : piece;
        enum sg_step step = sg_pipeline_body(x, (const uint8_t *)rq->body + at, n);
        out->pieces++;
        if (step != SG_STEP_BODY)
            return step;
        at += n;
        *dropped = rq->drop == LOOP_DROP_IN_BODY;
    }
    return *dropped ? SG_STEP_BODY : sg_pipeline_body_end(x);
}

void loop_send(struct loop *l, const struct loop_request *rq, struct loop_reply *out)
{
    struct loop_conn c = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    const struct sg_transport t = {.suspend = conn_suspend, .resume = conn_resume, .conn = &c};
    struct sg_header headers[24];
    char length[24];
    size_t body_len = rq->body_len ? rq->body_len : rq->body ? strlen(rq->body) : 0;
    struct sg_request_head head = {.method = rq->method,
                                   .target_path = rq->path,
                                   .query = rq->query ? rq->query : "",
                                   .version = "HTTP/1.1",
                                   .headers = headers};
    head.n_headers = make_headers(rq, body_len, length, headers);
    const char *peer = rq->peer ? rq->peer : "127.0.0.1";
    assert_int_equal(sg_address_parse(peer, strlen(peer), &head.peer), SG_OK);
    memset(out, 0, sizeof *out);
    struct sg_exchange *x = NULL;
    enum sg_step step;
    bool dropped = false;
    assert_int_equal(sg_pipeline_begin(l->pipeline, &t, &head, &x, &step), SG_OK);
    while (step != SG_STEP_RESPOND && !dropped) {
        if (step == SG_STEP_SUSPENDED) {
            conn_wait(&c);
            step = sg_pipeline_continue(x);
        } else {
            step = feed(x, rq, body_len, out, &dropped);
        }
    }
    if (!dropped)
        take_reply(x, out);
    bool completed = !dropped && rq->drop != LOOP_DROP_AT_RESPONSE;
    sg_pipeline_finish(x, completed, completed ? out->len : 0);
    /* A resume that is still inside conn_resume holds the lock. */
    pthread_mutex_lock(&c.lock);
    out->suspends = c.suspends;
    bool faulty = c.faulty;
    pthread_mutex_unlock(&c.lock);
    assert_false(faulty);
}

void loop_reply_free(struct loop_reply *r)
{
    for (unsigned i = 0; i < r->n_headers; i++) {
        free((void *)(uintptr_t)r->headers[i].name);
        free((void *)(uintptr_t)r->headers[i].value);
    }
    free(r->body);
    memset(r, 0, sizeof *r);
}

const char *loop_header(const struct loop_reply *r, const char *name)
{
    for (unsigned i = 0; i < r->n_headers; i++)
        if (sg_str_ieq(r->headers[i].name, name))
            return r->headers[i].value;
    return NULL;
}

unsigned loop_get(struct loop *l, const char *path, struct loop_reply *out)
{
    const struct loop_request rq = {.method = "GET", .path = path};
    loop_send(l, &rq, out);
    return out->status;
}

/* ---- sockets ---- */

int loop_connect(uint16_t port)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

void loop_write(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the peer may have answered and closed already */
        p += n;
        len -= (size_t)n;
    }
}

/* One read; 0: closed, -1: nothing in time. */
static ssize_t read_some(int fd, int timeout_ms, char *buf, size_t size)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, timeout_ms) <= 0)
        return -1;
    ssize_t n = recv(fd, buf, size, 0);
    return n > 0 ? n : 0;
}

char *loop_read_all(int fd, int timeout_ms, bool *closed, size_t *len)
{
    struct sg_text out = {0};
    char buf[65536];
    *closed = false;
    for (;;) {
        ssize_t n = read_some(fd, timeout_ms, buf, sizeof buf);
        if (n <= 0) {
            *closed = n == 0;
            break;
        }
        sg_text_append(&out, buf, (size_t)n);
    }
    *len = out.len;
    return out.ptr ? out.ptr : strdup("");
}

char *loop_read_one(int fd, int timeout_ms)
{
    struct sg_text out = {0};
    char c;
    while (!out.ptr || !strstr(out.ptr, "\r\n\r\n")) {
        if (read_some(fd, timeout_ms, &c, 1) <= 0)
            return out.ptr ? out.ptr : strdup("");
        sg_text_append(&out, &c, 1);
    }
    const char *length = strstr(out.ptr, "Content-Length: ");
    unsigned long left = length ? strtoul(length + 16, NULL, 10) : 0;
    char block[4096]; /* a byte at a time is a slow reader, which the server does not bear for long
                       */
    ssize_t n;
    while (left > 0 &&
           (n = read_some(fd, timeout_ms, block, left < sizeof block ? left : sizeof block)) > 0) {
        sg_text_append(&out, block, (size_t)n);
        left -= (size_t)n;
    }
    return out.ptr;
}
