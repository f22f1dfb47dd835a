/* Start and stop of the HTTP server on libmicrohttpd: one epoll thread a core, connections below
 * the descriptor limit, and a stop that leaves no connection suspended.
 *
 * MHD_OPTION_STRICT_FOR_CLIENT stays off: its checks answer with a doubled head in 0.9.75, and the
 * guard makes the same ones. */
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "streamgate/base/log.h"
#include "streamgate/server/server.h"

#include "mhd_private.h"

#define BACKLOG 8192
/* Descriptors for everything that is no connection: database, media processes, files being served
 * and received. */
#define SPARE_DESCRIPTORS 512
#define LEAST_CONNECTIONS 16
#define STOP_REPORT_MS 5000
#define LATE_REQUESTS_MS 1000 /* for requests that began while the early ones ended */
#define GUARDED_VERSION "0.9.75"

/* ---- listening ---- */

/* "host:port" or "[v6]:port" */
static bool split_listen(const char *listen_on, char host[256], const char **port)
{
    const char *colon = strrchr(listen_on, ':');
    if (!colon || colon == listen_on || colon[1] == '\0') {
        return false;
    }
    const char *begin = listen_on;
    const char *end = colon;
    if (*begin == '[') {
        begin++;
        end--;
        if (end <= begin || *end != ']') {
            return false;
        }
    }
    size_t len = (size_t)(end - begin);
    if (len >= 256) {
        return false;
    }
    memcpy(host, begin, len);
    host[len] = '\0';
    *port = colon + 1;
    return true;
}

static enum sg_error open_listener(const char *listen_on, int *out_fd)
{
    char host[256];
    const char *port = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (!split_listen(listen_on, host, &port) || getaddrinfo(host, port, &hints, &found) != 0) {
        sg_error_log("server", "server.listen = %s is not an address and a port", listen_on);
        return SG_ERR_CONFIG;
    }
    int on = 1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
              /* Accepted sockets inherit it. */
              setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
              bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
    freeaddrinfo(found);
    if (!ok) {
        sg_error_log("server", "cannot listen on %s: %s", listen_on, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return SG_ERR_UNAVAILABLE;
    }
    *out_fd = fd;
    return SG_OK;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0) {
        return 0;
    }
    return ntohs(ss.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&ss)->sin6_port
                                          : ((const struct sockaddr_in *)&ss)->sin_port);
}

/* How many connections the descriptor limit leaves room for, after raising it as far as it goes. */
static unsigned connection_limit(const struct sg_config *config)
{
    uint64_t wanted = sg_config_uint(config, SG_SET_server_max_connections);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return (unsigned)wanted;
    }
    /* Each connection may have a file of its own open. */
    rlim_t needed = (rlim_t)(wanted * 2 + SPARE_DESCRIPTORS);
    if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < needed) {
        limit.rlim_cur =
            limit.rlim_max == RLIM_INFINITY || limit.rlim_max > needed ? needed : limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= needed) {
        return (unsigned)wanted;
    }
    uint64_t room = limit.rlim_cur > SPARE_DESCRIPTORS ? limit.rlim_cur - SPARE_DESCRIPTORS : 0;
    uint64_t got = room < wanted ? room : wanted;
    got = got < LEAST_CONNECTIONS ? LEAST_CONNECTIONS : got;
    if (got < wanted) {
        sg_warn_log("server",
                    "server.max_connections = %llu does not fit the limit of %llu descriptors: "
                    "taking %llu connections",
                    (unsigned long long)wanted, (unsigned long long)limit.rlim_cur,
                    (unsigned long long)got);
    }
    return (unsigned)got;
}

/* ---- the daemon ---- */

/* Paths and queries are decoded by the pipeline, after the guard has seen them raw. */
static size_t leave_escaped(void *cls, struct MHD_Connection *mhd, char *s)
{
    (void)cls;
    (void)mhd;
    return strlen(s);
}

static void SG_PRINTF(2, 0) on_log(void *cls, const char *fmt, va_list args)
{
    (void)cls;
    if (strstr(fmt, "`Content-Length'") || strstr(fmt, "'Content-Length'")) {
        mhd_conn_bad_length();
        return;
    }
    if (!sg_log_enabled(SG_LOG_DEBUG)) {
        return;
    }
    char line[512];
    vsnprintf(line, sizeof(line), fmt, args);
    line[strcspn(line, "\n")] = '\0';
    sg_debug_log("libmicrohttpd", "%s", line);
}

static unsigned io_threads(const struct sg_config *config)
{
    uint64_t n = sg_config_uint(config, SG_SET_server_io_threads);
    if (n == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        n = cores > 0 ? (uint64_t)cores : 1;
    }
    return (unsigned)n;
}

static bool start_worker(struct mhd_worker *w)
{
    struct sg_server *s = w->server;
    struct MHD_OptionItem options[] = {
        /* The acceptor keeps the limit of all of them together. The library must never come to one
         * of its own: it counts a connection as closed only after it has told of it, closes what
         * comes too early, and where it finds out late, it leaves a lock locked. */
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)UINT_MAX, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)((s->daemon_idle_ms + 999) / 1000), NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)s->pool_bytes, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)mhd_conn_completed, s},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)mhd_conn_notify, w},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)mhd_conn_target, s},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)leave_escaped, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
                     MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
    w->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, mhd_conn_request, s, MHD_OPTION_EXTERNAL_LOGGER,
                         on_log, NULL, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    return w->daemon != NULL;
}

static void stop_workers(struct sg_server *s)
{
    for (unsigned i = 0; i < s->n_workers; i++) {
        if (s->workers[i].daemon) {
            MHD_stop_daemon(s->workers[i].daemon);
        }
    }
}

static enum sg_error start_workers(struct sg_server *s, const struct sg_config *config)
{
    unsigned threads = io_threads(config);
    unsigned connections = connection_limit(config);
    if (threads > connections) {
        threads = connections;
    }
    s->workers = calloc(threads, sizeof(*s->workers));
    if (!s->workers || !mhd_kept_create(s, threads) || !mhd_events_create(s)) {
        return SG_ERR_NO_MEMORY;
    }
    s->n_workers = threads;
    bool ok = true;
    for (unsigned i = 0; i < threads; i++) {
        s->workers[i].server = s;
        ok = ok && start_worker(&s->workers[i]);
    }
    if (!ok || !mhd_acceptor_create(s, connections)) {
        sg_error_log("server", "the HTTP server did not start");
        stop_workers(s);
        return SG_ERR_UNAVAILABLE;
    }
    sg_info_log("server", "listening on %s (port %u), %u I/O threads, %u connections",
                sg_config_string(config, SG_SET_server_listen), s->port, threads, connections);
    return SG_OK;
}

static void server_free(struct sg_server *s)
{
    sg_reaper_destroy(&s->reaper);
    sg_pipeline_destroy(&s->pipeline);
    if (s->listen_fd >= 0) {
        close(s->listen_fd);
    }
    mhd_acceptor_destroy(s);
    free(s->workers);
    mhd_kept_destroy(s);
    mhd_events_destroy(s);
    mhd_bulk_free();
    pthread_cond_destroy(&s->quiet);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static struct sg_server *server_new(struct sg_services *svc)
{
    struct sg_server *s = calloc(1, sizeof(*s));
    if (!s) {
        return NULL;
    }
    const struct sg_config *config = sg_services_config(svc);
    s->svc = svc;
    s->listen_fd = -1;
    s->max_header_bytes = (size_t)sg_config_uint(config, SG_SET_server_max_header_bytes);
    s->pool_bytes = mhd_idle_pool_bytes(s->max_header_bytes);
    s->daemon_idle_ms = sg_config_uint(config, SG_SET_server_idle_timeout);
    atomic_init(&s->idle_ms, s->daemon_idle_ms);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->quiet, &attr);
    pthread_condattr_destroy(&attr);
    s->check_memory = strcmp(MHD_get_version(), GUARDED_VERSION) == 0;
    if (!s->check_memory) {
        sg_info_log("server",
                    "libmicrohttpd %s: malformed line ends are left to its own, stricter parser",
                    MHD_get_version());
    }
    return s;
}

enum sg_error sg_server_start(struct sg_services *svc, struct sg_server **out)
{
    const struct sg_config *config = sg_services_config(svc);
    struct sg_server *s = server_new(svc);
    if (!s) {
        return SG_ERR_NO_MEMORY;
    }
    signal(SIGPIPE, SIG_IGN);
    enum sg_error err =
        open_listener(sg_config_string(config, SG_SET_server_listen), &s->listen_fd);
    if (err == SG_OK) {
        s->port = port_of(s->listen_fd);
        err = sg_pipeline_create(svc, &s->pipeline);
    }
    if (err == SG_OK) {
        err = sg_reaper_create(config, &s->reaper);
    }
    if (err == SG_OK) {
        err = start_workers(s, config);
    }
    if (err != SG_OK) {
        server_free(s);
        return err;
    }
    *out = s;
    return SG_OK;
}

uint16_t sg_server_port(const struct sg_server *s)
{
    return s->port;
}

void sg_server_configure(struct sg_server *s)
{
    const struct sg_config *config = sg_services_config(s->svc);
    atomic_store(&s->idle_ms, sg_config_uint(config, SG_SET_server_idle_timeout));
    sg_reaper_configure(s->reaper, config);
}

/* ---- stop ---- */

/* Waits until *count (active or early) is zero, at most wait_ms. */
static bool wait_quiet(struct sg_server *s, _Atomic uint32_t *count, uint64_t wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_ms / 1000);
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    int rc = 0;
    pthread_mutex_lock(&s->lock);
    while (rc == 0 && atomic_load_explicit(count, memory_order_acquire) > 0) {
        rc = pthread_cond_timedwait(&s->quiet, &s->lock, &until);
    }
    pthread_mutex_unlock(&s->lock);
    return atomic_load(count) == 0;
}

void sg_server_stop(struct sg_server **ss, uint64_t drain_ms)
{
    struct sg_server *s = *ss;
    if (!s) {
        return;
    }
    *ss = NULL;
    /* New requests are still answered meanwhile, each with a close: a load balancer sees readiness
     * turn 503 before the port goes. */
    atomic_store_explicit(&s->stopping, true, memory_order_release);
    mhd_events_end(s);
    bool drained = wait_quiet(s, &s->early, drain_ms);
    mhd_acceptor_stop(s); /* the listening socket is closed at the end */
    if (!drained || !wait_quiet(s, &s->active, LATE_REQUESTS_MS)) {
        sg_warn_log("server", "requests still in flight after %llu ms are dropped",
                    (unsigned long long)drain_ms);
    }
    /* Connections that an I/O thread has not taken yet are in no table: what they ask is dropped.
     */
    atomic_store(&s->over, true);
    sg_reaper_shut_all(s->reaper);
    /* Suspended requests end when their work does: every pool bounds its own. The library must not
     * be stopped before. */
    while (!wait_quiet(s, &s->active, STOP_REPORT_MS)) {
        sg_warn_log("server", "waiting for the work of %u requests",
                    (unsigned)atomic_load_explicit(&s->active, memory_order_relaxed));
        sg_reaper_shut_all(s->reaper);
    }
    while (atomic_load_explicit(&s->resuming, memory_order_acquire) > 0) {
        (void)poll(NULL, 0, 1);
    }
    stop_workers(s);
    server_free(s);
}
