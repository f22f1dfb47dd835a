/* See reaper.h. The table is split over shards by descriptor, so that opening and closing
 * connections seldom waits for a scan. Under a shard's lock there are only getsockopt and shutdown,
 * which do not block; counting and logging happen after it is released. */
#include "reaper.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

/* include/net/tcp_states.h; <netinet/tcp.h>, which names it, clashes with <linux/tcp.h>. */
#define TCP_STATE_ESTABLISHED 1
#define TCP_STATE_CLOSE_WAIT 8

#define SHARDS 16
#define TICK_MS 250
#define COUNTS_EVERY_MS 1000 /* how often one connection's TCP counts are asked for */
#define BODY_GRACE_MS 10000  /* server.min_body_rate counts after this */
#define READ_WINDOW_MS 30000 /* a reader must have made the least rate over this */
#define LINGER_MS 5000       /* an answered sender is listened to for no longer */

struct shard {
    pthread_mutex_t lock; /* guards first and the links of its records; leaf */
    struct sg_watched *first;
};

struct sg_reaper {
    struct shard shards[SHARDS];
    _Atomic uint64_t header_ms, idle_ms, min_rate;
    uint32_t series[SG_REAP_REASONS];
    pthread_mutex_t lock; /* guards stopping; with wake */
    pthread_cond_t wake;
    bool stopping;
    pthread_t thread;
};

static const char *const reason_names[SG_REAP_REASONS] = {
    [SG_REAP_HEADER] = "header", [SG_REAP_BODY] = "body",     [SG_REAP_IDLE] = "idle",
    [SG_REAP_READ] = "read",     [SG_REAP_LINGER] = "linger",
};

/* ---- the decision ---- */

void sg_watched_set(struct sg_watched *w, enum sg_watch watch, uint64_t now_ms)
{
    atomic_store_explicit(&w->since_ms, now_ms, memory_order_relaxed);
    atomic_store_explicit(&w->watch, (int)watch, memory_order_release);
}

bool sg_reap_wants_counts(const struct sg_watched *w, uint64_t now_ms)
{
    int watch = atomic_load_explicit(&w->watch, memory_order_acquire);
    uint64_t since = atomic_load_explicit(&w->since_ms, memory_order_relaxed);
    bool fresh = since != w->seen_since_ms;
    if (watch == SG_WATCH_HEAD) {
        /* Once its first byte is known nothing more has to be learnt. */
        return fresh || (w->head_since_ms == 0 && now_ms - w->checked_ms >= COUNTS_EVERY_MS);
    }
    if (watch == SG_WATCH_BODY) {
        /* Only when nothing came since the last look: a body under way costs nothing. */
        return !fresh && w->mark_ms != 0 &&
               atomic_load_explicit(&w->body_bytes, memory_order_relaxed) == w->mark_bytes;
    }
    return watch == SG_WATCH_SEND &&
           (fresh ? now_ms - since >= COUNTS_EVERY_MS : now_ms - w->mark_ms >= READ_WINDOW_MS);
}

static enum sg_reap judge_head(struct sg_watched *w, const struct sg_reap_limits *limits,
                               const struct sg_tcp_counts *counts, uint64_t now_ms)
{
    if (counts) {
        w->checked_ms = now_ms;
        if (atomic_load_explicit(&w->consumed_unknown, memory_order_relaxed) && !w->base_taken) {
            w->base_taken = true;
            w->mark_bytes = counts->received;
        } else if (!w->base_taken) {
            w->base_taken = true;
            w->mark_bytes = atomic_load_explicit(&w->consumed, memory_order_relaxed);
        }
        if (w->head_since_ms == 0 && counts->received > w->mark_bytes) {
            w->head_since_ms = now_ms;
        }
    }
    if (w->head_since_ms != 0) {
        return now_ms - w->head_since_ms >= limits->header_ms ? SG_REAP_HEADER : SG_REAP_NO;
    }
    return now_ms - w->seen_since_ms >= limits->idle_ms ? SG_REAP_IDLE : SG_REAP_NO;
}

static enum sg_reap judge_body(struct sg_watched *w, const struct sg_reap_limits *limits,
                               uint64_t now_ms)
{
    uint64_t bytes = atomic_load_explicit(&w->body_bytes, memory_order_relaxed);
    uint64_t age_ms = now_ms - w->seen_since_ms;
    w->mark_ms = now_ms;
    w->mark_bytes = bytes;
    return age_ms >= BODY_GRACE_MS && bytes / (age_ms / 1000) < limits->min_rate ? SG_REAP_BODY
                                                                                 : SG_REAP_NO;
}

static enum sg_reap judge_send(struct sg_watched *w, const struct sg_reap_limits *limits,
                               const struct sg_tcp_counts *counts, uint64_t now_ms)
{
    if (!counts) {
        return SG_REAP_NO;
    }
    if (w->mark_ms == 0) {
        w->mark_ms = now_ms;
        w->mark_bytes = counts->acked;
        return SG_REAP_NO;
    }
    uint64_t span_ms = now_ms - w->mark_ms;
    if (span_ms < READ_WINDOW_MS) {
        return SG_REAP_NO;
    }
    bool slow = (counts->acked - w->mark_bytes) / (span_ms / 1000) < limits->min_rate;
    w->mark_ms = now_ms;
    w->mark_bytes = counts->acked;
    return slow ? SG_REAP_READ : SG_REAP_NO;
}

enum sg_reap sg_reap_judge(struct sg_watched *w, const struct sg_reap_limits *limits,
                           const struct sg_tcp_counts *counts, uint64_t now_ms)
{
    int watch = atomic_load_explicit(&w->watch, memory_order_acquire);
    uint64_t since = atomic_load_explicit(&w->since_ms, memory_order_relaxed);
    if (since > now_ms) {
        return SG_REAP_NO; /* it moved on while this scan was under way */
    }
    if (since != w->seen_since_ms && (watch != SG_WATCH_SEND || counts)) {
        w->seen_since_ms = since;
        w->head_since_ms = 0;
        w->mark_ms = 0;
        w->base_taken = false;
    }
    uint64_t age_ms = now_ms - since;
    switch (watch) {
    case SG_WATCH_HEAD:
        return judge_head(w, limits, counts, now_ms);
    case SG_WATCH_BODY:
        return judge_body(w, limits, now_ms);
    case SG_WATCH_SEND:
        return judge_send(w, limits, counts, now_ms);
    case SG_WATCH_LINGER:
        return age_ms >= LINGER_MS ? SG_REAP_LINGER : SG_REAP_NO;
    default:
        return SG_REAP_NO;
    }
}

bool sg_reap_must_repeat_end(const struct sg_watched *w, const struct sg_tcp_counts *counts)
{
    int watch = atomic_load_explicit(&w->watch, memory_order_acquire);
    return counts->peer_ended && (watch == SG_WATCH_HEAD || watch == SG_WATCH_BODY);
}

/* ---- the thread ---- */

bool sg_tcp_counts_read(int fd, struct sg_tcp_counts *out)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0) {
        return false;
    }
    *out = (struct sg_tcp_counts){.received = info.tcpi_bytes_received,
                                  .acked = info.tcpi_bytes_acked,
                                  .established = info.tcpi_state == TCP_STATE_ESTABLISHED,
                                  .peer_ended = info.tcpi_state == TCP_STATE_CLOSE_WAIT};
    return true;
}

/* libmicrohttpd listens edge-triggered and takes a short read for the end of what is there: when
 * the peer's end comes together with its last bytes, it never reads that end. Shutting the
 * receiving side, which the peer has ended anyway, changes nothing but raises the edge once more:
 * it reads what is left, then the end. */
static void repeat_end(const struct sg_watched *w)
{
    (void)shutdown(w->fd, SHUT_RD);
}

static void scan_shard(struct shard *s, const struct sg_reap_limits *limits, uint64_t now_ms,
                       unsigned reaped[SG_REAP_REASONS])
{
    pthread_mutex_lock(&s->lock);
    for (struct sg_watched *w = s->first; w; w = w->next) {
        struct sg_tcp_counts counts;
        bool have = sg_reap_wants_counts(w, now_ms) && sg_tcp_counts_read(w->fd, &counts);
        enum sg_reap verdict = sg_reap_judge(w, limits, have ? &counts : NULL, now_ms);
        if (have && sg_reap_must_repeat_end(w, &counts)) {
            repeat_end(w);
        }
        if (verdict != SG_REAP_NO) {
            shutdown(w->fd, SHUT_RDWR);
            reaped[verdict]++;
            /* Not again while the owner reacts. */
            atomic_store_explicit(&w->watch, SG_WATCH_WORK, memory_order_relaxed);
        }
    }
    pthread_mutex_unlock(&s->lock);
}

static void scan(struct sg_reaper *r)
{
    struct sg_reap_limits limits = {
        .header_ms = atomic_load_explicit(&r->header_ms, memory_order_relaxed),
        .idle_ms = atomic_load_explicit(&r->idle_ms, memory_order_relaxed),
        .min_rate = atomic_load_explicit(&r->min_rate, memory_order_relaxed),
    };
    unsigned reaped[SG_REAP_REASONS] = {0};
    uint64_t now_ms = sg_clock_mono_ms();
    for (unsigned i = 0; i < SHARDS; i++) {
        scan_shard(&r->shards[i], &limits, now_ms, reaped);
    }
    for (unsigned i = SG_REAP_NO + 1; i < SG_REAP_REASONS; i++) {
        if (reaped[i] > 0) {
            sg_metric_add(SG_METRIC_REAPED_CONNECTIONS, r->series[i], reaped[i]);
            sg_debug_log("reaper", "closed %u connections: %s", reaped[i], reason_names[i]);
        }
    }
}

static void *reaper_main(void *arg)
{
    struct sg_reaper *r = arg;
    pthread_mutex_lock(&r->lock);
    while (!r->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += TICK_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&r->wake, &r->lock, &until);
        if (r->stopping) {
            break;
        }
        pthread_mutex_unlock(&r->lock);
        scan(r);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static enum sg_error define_series(struct sg_reaper *r)
{
    for (unsigned i = SG_REAP_NO + 1; i < SG_REAP_REASONS; i++) {
        struct sg_text labels = {0};
        sg_text_printf(&labels, "reason=\"%s\"", reason_names[i]);
        enum sg_error err = labels.failed ? SG_ERR_NO_MEMORY
                                          : sg_metric_define(SG_METRIC_REAPED_CONNECTIONS,
                                                             labels.ptr, &r->series[i]);
        sg_text_free(&labels);
        if (err != SG_OK) {
            return err;
        }
    }
    return SG_OK;
}

enum sg_error sg_reaper_create(const struct sg_config *config, struct sg_reaper **out)
{
    struct sg_reaper *r = calloc(1, sizeof(*r));
    if (!r) {
        return SG_ERR_NO_MEMORY;
    }
    enum sg_error err = define_series(r);
    if (err != SG_OK) {
        free(r);
        return err;
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&r->shards[i].lock, NULL);
    }
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &attr);
    pthread_condattr_destroy(&attr);
    sg_reaper_configure(r, config);
    if (pthread_create(&r->thread, NULL, reaper_main, r) != 0) {
        free(r);
        return SG_ERR_UNAVAILABLE;
    }
    pthread_setname_np(r->thread, "reaper");
    *out = r;
    return SG_OK;
}

void sg_reaper_destroy(struct sg_reaper **rr)
{
    struct sg_reaper *r = *rr;
    if (!r) {
        return;
    }
    *rr = NULL;
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_destroy(&r->shards[i].lock);
    }
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void sg_reaper_configure(struct sg_reaper *r, const struct sg_config *config)
{
    atomic_store(&r->header_ms, sg_config_uint(config, SG_SET_server_header_timeout));
    atomic_store(&r->idle_ms, sg_config_uint(config, SG_SET_server_idle_timeout));
    atomic_store(&r->min_rate, sg_config_uint(config, SG_SET_server_min_body_rate));
}

/* ---- the table ---- */

static struct shard *shard_of(struct sg_reaper *r, const struct sg_watched *w)
{
    return &r->shards[(unsigned)w->fd % SHARDS];
}

void sg_reaper_add(struct sg_reaper *r, struct sg_watched *w, int fd)
{
    w->fd = fd;
    sg_watched_set(w, SG_WATCH_HEAD, sg_clock_mono_ms());
    struct shard *s = shard_of(r, w);
    pthread_mutex_lock(&s->lock);
    w->next = s->first;
    if (s->first) {
        s->first->prev = w;
    }
    s->first = w;
    pthread_mutex_unlock(&s->lock);
}

void sg_reaper_remove(struct sg_reaper *r, struct sg_watched *w)
{
    struct shard *s = shard_of(r, w);
    pthread_mutex_lock(&s->lock);
    if (w->next) {
        w->next->prev = w->prev;
    }
    if (w->prev) {
        w->prev->next = w->next;
    } else {
        s->first = w->next;
    }
    pthread_mutex_unlock(&s->lock);
}

void sg_reaper_shut_all(struct sg_reaper *r)
{
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&r->shards[i].lock);
        for (struct sg_watched *w = r->shards[i].first; w; w = w->next) {
            shutdown(w->fd, SHUT_RDWR);
        }
        pthread_mutex_unlock(&r->shards[i].lock);
    }
}
