/* The routes of the loopback tests: one for each way a handler can behave. */
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loopback_support.h"

struct loop_seen loop_seen;
struct sg_pool *loop_waker_pool;

static enum sg_error hello(struct sg_request *req, struct sg_response *res)
{
    (void)req;
    res->etag = "\"v1\"";
    res->last_modified_ms = UINT64_C(1700000000000);
    res->ranges = true;
    return sg_response_text(res, 200, "text/plain", "hello, world");
}

static enum sg_error block(struct sg_request *req, struct sg_response *res)
{
    loop_seen.runs++;
    if (!req->may_block)
        return SG_ERR_WOULD_BLOCK;
    loop_seen.blocking_runs++;
    return sg_response_text(res, 200, "text/plain", "blocked");
}

/* Takes ?MILLISECONDS, on its I/O thread or (the other route) on a blocking one. */
static enum sg_error stall(struct sg_request *req, struct sg_response *res)
{
    (void)poll(NULL, 0, (int)strtol(req->query, NULL, 10));
    return sg_response_text(res, 200, "text/plain", "stalled");
}

static enum sg_error always_blocks(struct sg_request *req, struct sg_response *res)
{
    (void)req;
    (void)res;
    return SG_ERR_WOULD_BLOCK;
}

/* Waits once, woken by another thread. ?mode=before: the wake is over before PENDING is returned;
 * pool: PENDING from a blocking thread; twice: waits again after the first wake; else: whichever
 * comes first. */
struct pend {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool woke;
    bool early;
    int waits;
    struct sg_request *req;
};

static void wake_it(void *arg)
{
    struct pend *p = arg;
    struct sg_request *req = p->req;
    bool early = p->early;
    struct sg_buf *buf = NULL;
    if (sg_buf_create_copy("woken", 5, &buf) != SG_OK)
        abort();
    sg_request_wake(req, SG_OK, buf);
    if (early) { /* the handler still waits inside its call: p is alive */
        pthread_mutex_lock(&p->lock);
        p->woke = true;
        pthread_cond_signal(&p->cond);
        pthread_mutex_unlock(&p->lock);
    }
}

static void pend_free(struct sg_request *req, void *state)
{
    (void)req;
    struct pend *p = state;
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->cond);
    free(p);
    loop_seen.frees++;
}

static enum sg_error pend_once(struct pend *p)
{
    bool early = p->early;
    p->waits++;
    p->woke = false;
    if (sg_pool_submit(loop_waker_pool, wake_it, p) != SG_OK)
        abort();
    if (early) {
        pthread_mutex_lock(&p->lock);
        while (!p->woke)
            pthread_cond_wait(&p->cond, &p->lock);
        pthread_mutex_unlock(&p->lock);
    }
    return SG_ERR_PENDING;
}

static enum sg_error pend(struct sg_request *req, struct sg_response *res)
{
    const char *mode = req->query;
    struct pend *p = req->state;
    if (!p) {
        if (strcmp(mode, "pool") == 0 && !req->may_block)
            return SG_ERR_WOULD_BLOCK;
        p = calloc(1, sizeof *p);
        if (!p)
            return SG_ERR_NO_MEMORY;
        pthread_mutex_init(&p->lock, NULL);
        pthread_cond_init(&p->cond, NULL);
        p->req = req;
        p->early = strcmp(mode, "before") == 0;
        req->state = p;
        req->state_free = pend_free;
        return pend_once(p);
    }
    if (!req->woken || req->wake_err != SG_OK || !req->wake_buf)
        return SG_ERR_INTERNAL;
    loop_seen.woken_runs++;
    if (strcmp(mode, "twice") == 0 && p->waits == 1)
        return pend_once(p);
    if (strcmp(mode, "block") == 0 && !req->may_block)
        return SG_ERR_WOULD_BLOCK;
    struct sg_buf *buf = req->wake_buf;
    req->wake_buf = NULL;
    sg_response_buf(res, 200, "text/plain", buf);
    return SG_OK;
}

static void upload_free(struct sg_request *req, void *state)
{
    (void)req;
    free(state);
    loop_seen.frees++;
}

static enum sg_error upload_begin(struct sg_request *req)
{
    const char *name = sg_request_param(req, "name");
    if (strcmp(name, "refused") == 0)
        return sg_request_fail(req, SG_ERR_NO_SPACE, NULL, "no room");
    if (strcmp(name, "blocks") == 0 && !req->may_block)
        return SG_ERR_WOULD_BLOCK;
    loop_seen.upload_begins++;
    req->state = calloc(1, 1);
    req->state_free = upload_free;
    return req->state ? SG_OK : SG_ERR_NO_MEMORY;
}

static enum sg_error upload_data(struct sg_request *req, const uint8_t *data, size_t len)
{
    loop_seen.upload_bytes += len;
    if (memchr(data, '!', len))
        return sg_request_fail(req, SG_ERR_UNPROCESSABLE, NULL, "an exclamation mark");
    return SG_OK;
}

static enum sg_error upload_end(struct sg_request *req, struct sg_response *res)
{
    if (!req->may_block)
        return SG_ERR_WOULD_BLOCK;
    if (strcmp(sg_request_param(req, "name"), "works") == 0)
        (void)poll(NULL, 0, 300);
    loop_seen.upload_ends++;
    return sg_response_json(res, 201, json_pack("{s:I}", "size", (json_int_t)req->body_received));
}

static enum sg_error json_echo(struct sg_request *req, struct sg_response *res)
{
    json_t *body = NULL;
    enum sg_error err = sg_request_json(req, false, &body);
    return err != SG_OK ? err : sg_response_json(res, 200, body);
}

static enum sg_error who(struct sg_request *req, struct sg_response *res)
{
    char client[SG_ADDRESS_TEXT];
    sg_address_format(&req->client, client);
    return sg_response_json(res, 200,
                            json_pack("{s:s,s:s,s:s,s:b}", "user", req->identity.user_name, "role",
                                      sg_role_name(req->identity.role), "client", client, "secure",
                                      (int)req->secure));
}

static enum sg_error play(struct sg_request *req, struct sg_response *res)
{
    const char *rest = sg_request_param(req, "rest");
    if (strcmp(rest, "signed") == 0) {
        enum sg_error err = SG_ERR_UNAUTHENTICATED;
        if (req->playback_token)
            err = sg_playback_token_check(req->svc->signer, req->playback_token,
                                          req->playback_token_len, sg_request_param(req, "id"),
                                          &req->client);
        if (err != SG_OK)
            return err;
    }
    return sg_response_json(res, 200,
                            json_pack("{s:s,s:s,s:s}", "rest", rest, "token",
                                      req->playback_token ? req->playback_token : "", "path",
                                      req->path));
}

static enum sg_error file(struct sg_request *req, struct sg_response *res)
{
    (void)req;
    int fd = memfd_create("body", MFD_CLOEXEC);
    char block_of[16384];
    memset(block_of, 'f', sizeof block_of);
    for (int i = 0; i < 64; i++)
        if (write(fd, block_of, sizeof block_of) != (ssize_t)sizeof block_of)
            abort();
    res->ranges = true;
    res->etag = "\"file\"";
    sg_response_file(res, 200, "application/octet-stream", fd, 64 * sizeof block_of);
    return SG_OK;
}

/* Content that is held elsewhere too, as from a cache: number n is loop_kept_size(n) bytes of
 * 'a' + n. */
static struct sg_buf *kept_bufs[LOOP_KEPT_COUNT];
static pthread_once_t kept_once = PTHREAD_ONCE_INIT;

size_t loop_kept_size(unsigned n)
{
    return n % 3 == 0 ? 60000 + n : 2000 + n;
}

static void make_kept(void)
{
    static char bytes[65536];
    for (unsigned i = 0; i < LOOP_KEPT_COUNT; i++) {
        memset(bytes, (int)('a' + i), sizeof bytes);
        if (sg_buf_create_copy(bytes, loop_kept_size(i), &kept_bufs[i]) != SG_OK)
            abort();
    }
}

static enum sg_error kept(struct sg_request *req, struct sg_response *res)
{
    uint64_t n = 0;
    const char *name = sg_request_param(req, "n");
    if (sg_str_to_u64(name, strlen(name), LOOP_KEPT_COUNT - 1, &n) != SG_OK)
        return SG_ERR_NOT_FOUND;
    (void)pthread_once(&kept_once, make_kept);
    sg_response_buf(res, 200, n % 2 ? "text/plain" : "text/css", sg_buf_ref(kept_bufs[n]));
    res->etag = "\"kept\"";
    res->last_modified_ms = UINT64_C(1700000000000);
    res->ranges = true;
    return SG_OK;
}

static enum sg_error secret(struct sg_request *req, struct sg_response *res)
{
    (void)req;
    (void)res;
    return SG_ERR_FORBIDDEN;
}

/* Says which row it was, and to which method. */
static enum sg_error named(struct sg_request *req, struct sg_response *res)
{
    enum sg_error err = sg_request_answer_header(req, "X-Row", "%s", req->route->summary);
    if (err == SG_OK && strcmp(req->query, "fail") == 0)
        return sg_request_fail(req, SG_ERR_CONFLICT, NULL, "as asked");
    sg_response_empty(res, 204);
    return err;
}

static const struct sg_header always[] = {{"X-Always", "1"}};

static const struct sg_route loop_routes[] = {
    {.method = SG_OPTIONS, .path = "/t/over/{id}", .handle = named, .summary = "options"},
    {.method = SG_POST, .path = "/t/over/{id}", .handle = named, .summary = "post"},
    {.method = SG_PATCH,
     .path = "/t/over/{id}",
     .handle = named,
     .overridable = true,
     .role = SG_ROLE_CREATOR,
     .headers = always,
     .n_headers = SG_ARRAY_LEN(always),
     .summary = "patch"},
    {.method = SG_DELETE, .path = "/t/over/{id}", .handle = named, .summary = "delete"},
    {.method = SG_GET,
     .path = "/t/hello",
     .handle = hello,
     .limit = SG_LIMIT_METADATA,
     .cache = SG_CACHE_REVALIDATE,
     .summary = "s"},
    {.method = SG_DELETE, .path = "/t/hello", .handle = hello, .summary = "s"},
    {.method = SG_GET, .path = "/t/block", .handle = block, .summary = "s"},
    {.method = SG_GET, .path = "/t/blocking", .handle = block, .blocking = true, .summary = "s"},
    {.method = SG_GET, .path = "/t/stall", .handle = stall, .summary = "s"},
    {.method = SG_GET, .path = "/t/stall/off", .handle = stall, .blocking = true, .summary = "s"},
    {.method = SG_GET, .path = "/t/always", .handle = always_blocks, .summary = "s"},
    {.method = SG_GET, .path = "/t/pend", .handle = pend, .unlimited = true, .summary = "s"},
    {.method = SG_PUT,
     .path = "/t/upload/{name}",
     .handle = upload_end,
     .body = SG_BODY_STREAM,
     .body_begin = upload_begin,
     .body_data = upload_data,
     .max_body = SG_SET_upload_max_size,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_UPLOAD,
     .summary = "s",
     .success = 201},
    {.method = SG_POST,
     .path = "/t/json",
     .handle = json_echo,
     .body = SG_BODY_JSON,
     .summary = "s"},
    {.method = SG_PATCH,
     .path = "/t/json",
     .handle = json_echo,
     .body = SG_BODY_JSON,
     .summary = "s"},
    {.method = SG_GET, .path = "/t/who", .handle = who, .summary = "s"},
    {.method = SG_GET, .path = "/t/admin", .handle = who, .role = SG_ROLE_ADMIN, .summary = "s"},
    {.method = SG_GET, .path = "/t/secret", .handle = secret, .summary = "s"},
    {.method = SG_GET, .path = "/t/unlimited", .handle = hello, .unlimited = true, .summary = "s"},
    {.method = SG_GET, .path = "/t/file", .handle = file, .unlimited = true, .summary = "s"},
    {.method = SG_GET,
     .path = "/t/kept/{n}",
     .handle = kept,
     .limit = SG_LIMIT_STREAMING,
     .summary = "s"},
    {.method = SG_GET,
     .path = "/stream/{id}/{rest...}",
     .handle = play,
     .limit = SG_LIMIT_STREAMING,
     .cache = SG_CACHE_IMMUTABLE,
     .summary = "s"},
};
const struct sg_module loop_module = {
    .name = "loop", .routes = loop_routes, .n_routes = SG_ARRAY_LEN(loop_routes)};
