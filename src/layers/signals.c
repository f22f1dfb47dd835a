/* A ring of samples, one a second over 60 s, and what follows from the oldest of them and the
 * present. Files of /proc and the cgroup are opened once and read with pread: no path is resolved,
 * and nothing allocated, each second. */
#include "signals.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/metrics.h"
#include "streamgate/base/str.h"

#define WINDOW_MS 60000u
#define RING 64u
#define RING_STEP_MS                                                                               \
    950u /* a little under the second between ticks, which come late as often as early */
#define FD_COUNT_MS                                                                                \
    5000u /* between two walks of /proc/self/fd where its size is not the answer                   \
           */
#define CGROUP_LEVELS 16u
#define LATENCY_QUANTILE 0.95
#define BUCKETS 32u

struct sample {
    uint64_t at_ms;
    double requests, success, failed, evictions, cpu_s;
    uint64_t latency[BUCKETS];
    double latency_bounds[BUCKETS];
    unsigned n_buckets;
};

struct sg_signals {
    struct sample ring[RING];
    unsigned newest, n;
    int statm_fd, meminfo_fd;
    int cgroup_fds[CGROUP_LEVELS]; /* memory.max of our cgroup and of each above it */
    unsigned n_cgroups;
    DIR *fd_dir;
    uint64_t fds_counted_ms;
    bool fds_counted;
    long page_bytes, cpus;
};

bool sg_signals_field(const char *text, unsigned field, uint64_t *out)
{
    for (;; field--) {
        text += strspn(text, " \t\n");
        size_t len = strcspn(text, " \t\n");
        if (len == 0)
            return false;
        if (field == 0)
            return sg_str_to_u64(text, len, UINT64_MAX, out) == SG_OK;
        text += len;
    }
}

double sg_signals_quantile(const uint64_t *counts, const double *bounds, unsigned n, double p)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < n; i++)
        total += counts[i];
    if (total == 0)
        return 0;
    double rank = p * (double)total;
    double below = 0;
    for (unsigned i = 0; i + 1 < n; i++) {
        double in = (double)counts[i];
        if (in > 0 && below + in >= rank) {
            double low = i > 0 ? bounds[i - 1] : 0;
            return low + (bounds[i] - low) * ((rank - below) / in);
        }
        below += in;
    }
    return n > 1 ? nextafter(bounds[n - 2], INFINITY) : 0;
}

/* The start of the file as text; false when nothing could be read. */
static bool read_text(int fd, char *text, size_t size)
{
    ssize_t got = fd >= 0 ? pread(fd, text, size - 1, 0) : -1;
    if (got <= 0)
        return false;
    text[got] = '\0';
    return true;
}

static double now_cpu_s(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) != 0)
        return 0;
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void take(struct sample *out)
{
    struct sg_histogram_view view;
    *out = (struct sample){
        .at_ms = sg_clock_mono_ms(),
        .requests = sg_metric_read(SG_METRIC_REQUEST_COUNT, SG_METRIC_ALL),
        .success = sg_metric_read(SG_METRIC_REQUEST_SUCCESS, SG_METRIC_ALL),
        .failed = sg_metric_read(SG_METRIC_REQUEST_FAILED, SG_METRIC_ALL),
        .evictions = sg_metric_read(SG_METRIC_CACHE_EVICTION, SG_METRIC_ALL),
        .cpu_s = now_cpu_s(),
    };
    sg_metric_read_histogram(SG_METRIC_REQUEST_LATENCY, SG_METRIC_ALL, &view);
    out->n_buckets = view.n < BUCKETS ? view.n : BUCKETS;
    memcpy(out->latency, view.buckets, out->n_buckets * sizeof out->latency[0]);
    memcpy(out->latency_bounds, view.bounds, out->n_buckets * sizeof out->latency_bounds[0]);
}

static void push(struct sg_signals *s, const struct sample *now)
{
    if (s->n > 0 && now->at_ms - s->ring[s->newest].at_ms < RING_STEP_MS)
        return;
    s->newest = (s->newest + 1) % RING;
    s->ring[s->newest] = *now;
    if (s->n < RING)
        s->n++;
}

/* The oldest sample not older than the window; the newest one if all are. */
static const struct sample *window_start(const struct sg_signals *s, uint64_t now_ms)
{
    for (unsigned back = s->n; back > 1; back--) {
        const struct sample *at = &s->ring[(s->newest + RING + 1 - back) % RING];
        if (now_ms - at->at_ms <= WINDOW_MS)
            return at;
    }
    return &s->ring[s->newest];
}

static double grown(double now, double then)
{
    return now > then ? now - then : 0;
}

static double latency_of(const struct sample *now, const struct sample *then)
{
    uint64_t counts[BUCKETS];
    for (unsigned i = 0; i < now->n_buckets; i++) {
        uint64_t before = i < then->n_buckets ? then->latency[i] : 0;
        counts[i] = now->latency[i] > before ? now->latency[i] - before : 0;
    }
    return sg_signals_quantile(counts, now->latency_bounds, now->n_buckets, LATENCY_QUANTILE);
}

static void rates(struct sg_signals *s, const struct sample *now, uint64_t min_requests,
                  double values[SG_SIGNAL_COUNT])
{
    const struct sample *then = window_start(s, now->at_ms);
    double success = grown(now->success, then->success);
    double failed = grown(now->failed, then->failed);
    /* A request is counted by its parts one after the other: never let a share pass 1. */
    double requests = fmax(grown(now->requests, then->requests), success + failed);
    double error_rate = requests > 0 ? failed / requests : 0;
    double success_rate = requests > 0 ? success / requests : 1;
    sg_metric_gauge_set(SG_METRIC_ERROR_RATE, 0, error_rate);
    sg_metric_gauge_set(SG_METRIC_SUCCESS_RATE, 0, success_rate);

    bool enough = requests > 0 && requests >= (double)min_requests;
    values[SG_SIGNAL_ERROR_RATE] = enough ? error_rate : 0;
    values[SG_SIGNAL_LATENCY_P95_S] = enough ? latency_of(now, then) : 0;
    double wall_s = (double)(now->at_ms - then->at_ms) / 1000;
    if (wall_s <= 0) {
        values[SG_SIGNAL_CPU_SHARE] = 0;
        values[SG_SIGNAL_CACHE_EVICTIONS_PER_S] = 0;
        return;
    }
    values[SG_SIGNAL_CPU_SHARE] = grown(now->cpu_s, then->cpu_s) / wall_s / (double)s->cpus;
    values[SG_SIGNAL_CACHE_EVICTIONS_PER_S] = grown(now->evictions, then->evictions) / wall_s;
}

/* What the machine and every cgroup around us leave, in bytes; 0 when unknown. */
static uint64_t memory_limit(struct sg_signals *s)
{
    char text[4096];
    uint64_t limit = 0;
    uint64_t v;
    if (read_text(s->meminfo_fd, text, sizeof text)) {
        const char *line = strstr(text, "MemTotal:");
        if (line != NULL && sg_signals_field(line, 1, &v) && v <= UINT64_MAX / 1024)
            limit = v * 1024;
    }
    for (unsigned i = 0; i < s->n_cgroups; i++) {
        /* "max" is no number, and no limit. */
        if (read_text(s->cgroup_fds[i], text, sizeof text) && sg_signals_field(text, 0, &v) &&
            (limit == 0 || v < limit))
            limit = v;
    }
    return limit;
}

static double memory_share(struct sg_signals *s)
{
    char text[256];
    uint64_t pages;
    if (!read_text(s->statm_fd, text, sizeof text) || !sg_signals_field(text, 1, &pages))
        return NAN;
    double rss = (double)pages * (double)s->page_bytes;
    sg_metric_gauge_set(SG_METRIC_PROCESS_RSS, 0, rss);
    uint64_t limit = memory_limit(s);
    return limit > 0 ? rss / (double)limit : NAN;
}

/* Linux 6.2 and later tell the number of open descriptors as the size of the folder; before that
 * they are counted, less often. */
static void count_fds(struct sg_signals *s, uint64_t now_ms)
{
    struct stat st;
    if (s->fd_dir == NULL)
        return;
    if (fstat(dirfd(s->fd_dir), &st) == 0 && st.st_size > 0) {
        sg_metric_gauge_set(SG_METRIC_PROCESS_FDS, 0, (double)st.st_size);
        return;
    }
    if (s->fds_counted && now_ms - s->fds_counted_ms < FD_COUNT_MS)
        return;
    s->fds_counted = true;
    s->fds_counted_ms = now_ms;
    unsigned n = 0;
    rewinddir(s->fd_dir);
    for (const struct dirent *e; (e = readdir(s->fd_dir)) != NULL;)
        n += isdigit((unsigned char)e->d_name[0]) != 0;
    sg_metric_gauge_set(SG_METRIC_PROCESS_FDS, 0, n);
}

static double disk_share(int data_dirfd)
{
    uint64_t left;
    uint64_t total;
    if (data_dirfd < 0 || sg_fs_free_bytes(data_dirfd, &left, &total) != SG_OK || total == 0)
        return NAN;
    sg_metric_gauge_set(SG_METRIC_DISK_FREE, 0, (double)left);
    sg_metric_gauge_set(SG_METRIC_DISK_TOTAL, 0, (double)total);
    return (double)left / (double)total;
}

void sg_signals_sample(struct sg_signals *s, int data_dirfd, uint64_t min_requests,
                       double values[SG_SIGNAL_COUNT])
{
    struct sample now;
    take(&now);
    rates(s, &now, min_requests, values);
    push(s, &now);
    sg_metric_counter_set(SG_METRIC_PROCESS_CPU, 0, now.cpu_s);
    count_fds(s, now.at_ms);
    values[SG_SIGNAL_MEMORY_SHARE] = memory_share(s);
    values[SG_SIGNAL_DISK_FREE_SHARE] = disk_share(data_dirfd);
    values[SG_SIGNAL_SERVICE_HEALTH] = sg_metric_read(SG_METRIC_SERVICE_HEALTH, 0);
}

/* memory.max of our cgroup (the "0::" line of /proc/self/cgroup) and of its ancestors. */
static void open_cgroups(struct sg_signals *s)
{
    char text[4096];
    int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    bool got = read_text(fd, text, sizeof text);
    if (fd >= 0)
        close(fd);
    if (!got)
        return;
    char *path = strncmp(text, "0::/", 4) == 0 ? text : strstr(text, "\n0::/");
    if (path == NULL)
        return;
    path = strchr(path, '/');
    path[strcspn(path, "\n")] = '\0';
    for (char *end = path + strlen(path); s->n_cgroups < CGROUP_LEVELS;) {
        char file[sizeof text + 64];
        *end = '\0';
        (void)snprintf(file, sizeof file, "/sys/fs/cgroup%s/memory.max", path);
        int limit_fd = open(file, O_RDONLY | O_CLOEXEC);
        if (limit_fd >= 0)
            s->cgroup_fds[s->n_cgroups++] = limit_fd;
        if (end == path)
            break;
        end = strrchr(path, '/');
    }
}

enum sg_error sg_signals_create(struct sg_signals **out)
{
    struct sg_signals *s = calloc(1, sizeof *s);
    if (s == NULL)
        return SG_ERR_NO_MEMORY;
    s->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    s->meminfo_fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    s->fd_dir = opendir("/proc/self/fd");
    open_cgroups(s);
    s->page_bytes = sysconf(_SC_PAGESIZE);
    s->cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (s->cpus < 1)
        s->cpus = 1;
    struct sample first;
    take(&first);
    push(s, &first);
    *out = s;
    return SG_OK;
}

void sg_signals_destroy(struct sg_signals **signals)
{
    if (signals == NULL || *signals == NULL)
        return;
    struct sg_signals *s = *signals;
    if (s->statm_fd >= 0)
        close(s->statm_fd);
    if (s->meminfo_fd >= 0)
        close(s->meminfo_fd);
    for (unsigned i = 0; i < s->n_cgroups; i++)
        close(s->cgroup_fds[i]);
    if (s->fd_dir != NULL)
        closedir(s->fd_dir);
    free(s);
    *signals = NULL;
}
