/* `streamgate serve`: starts everything in order, waits for signals, stops in reverse.
 *
 * The main thread blocks all signals before the first thread exists and takes them with sigwait:
 * TERM and INT drain, HUP reloads. A ticker thread does what is due each second. */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/log.h"
#include "streamgate/http/asset_view.h"
#include "streamgate/http/route.h"
#include "streamgate/layers/jobs.h"
#include "streamgate/layers/live.h"
#include "streamgate/server/server.h"

#include "startup.h"

#define SYNC_THREADS 16
#define SWEEP_EVERY_TICKS 60

struct retired {
    struct sg_config *config;
    struct sg_cidr_list *proxies;
    struct retired *next;
};

struct daemon {
    const struct options *options;
    struct sg_services svc;
    struct sg_route_table *routes;
    struct sg_server *server;
    struct retired *retired; /* configurations replaced by SIGHUP: readers may still hold them */
    size_t modules_started;
    int lock_fd;
    bool has_ticker, watchdog; /* watchdog: systemd waits for signs of life */
    pthread_t ticker;
    pthread_mutex_t lock; /* guards stopping */
    pthread_cond_t cond;
    bool stopping;
};

/* ---- configuration ---- */

static void configure_log(const struct sg_config *c)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    enum sg_log_level level = SG_LOG_INFO;
    for (size_t i = 0; i < SG_ARRAY_LEN(names); i++)
        if (strcmp(names[i], sg_config_string(c, SG_SET_log_level)) == 0)
            level = (enum sg_log_level)i;
    sg_log_configure(level, strcmp(sg_config_string(c, SG_SET_log_format), "json") == 0);
}

static enum sg_error install_config(struct daemon *d, struct sg_config *config)
{
    struct sg_cidr_list *proxies = NULL;
    enum sg_error err =
        sg_cidr_list_parse(sg_config_string(config, SG_SET_server_trusted_proxies), &proxies);
    struct retired *old = err == SG_OK ? calloc(1, sizeof *old) : NULL;
    if (old == NULL) {
        sg_cidr_list_destroy(&proxies);
        return err != SG_OK ? err : SG_ERR_NO_MEMORY;
    }
    old->config = atomic_exchange(&d->svc.config, config);
    old->proxies = atomic_exchange(&d->svc.trusted_proxies, proxies);
    old->next = d->retired;
    d->retired = old;
    configure_log(config);
    return SG_OK;
}

static void reload(struct daemon *d)
{
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, sg_clock_mono_ns() / 1000);
    struct sg_config *config = NULL;
    struct sg_config *before = atomic_load(&d->svc.config);
    enum sg_error err = options_config(d->options, &config);
    if (err == SG_OK)
        err = install_config(d, config);
    if (err != SG_OK) {
        sg_config_unref(config);
        sg_error_log("main", "reload refused, the old configuration stays: %s",
                     sg_error_title(err));
        sd_notify(0, "READY=1");
        return;
    }
    struct sg_text restart = {0};
    sg_config_needs_restart(before, config, &restart);
    for (char *line = restart.ptr, *end; line != NULL && *line != '\0'; line = end) {
        end = line + strcspn(line, "\n");
        sg_warn_log("main", "%.*s changed; it takes effect after a restart", (int)(end - line),
                    line);
        end += *end == '\n';
    }
    sg_text_free(&restart);
    sg_ratelimit_configure(d->svc.ratelimit, config);
    sg_audit_configure(d->svc.audit, config);
    sg_alerts_configure(d->svc.alerts, config);
    sg_cache_configure(sg_content_cache_base(d->svc.content), config);
    sg_cache_configure(sg_asset_cache_base(d->svc.assets), config);
    sg_server_configure(d->server);
    sg_info_log("main", "configuration reloaded");
    sg_alerts_event(d->svc.alerts, "configuration_changed", "the configuration was reloaded");
    sd_notify(0, "READY=1");
}

/* ---- each second ---- */

static void tick(struct daemon *d, uint64_t n)
{
    struct sg_services *svc = &d->svc;
    bool sweep = n % SWEEP_EVERY_TICKS == 0;
    for (size_t i = 0; i < d->modules_started; i++)
        if (sg_modules[i]->tick != NULL)
            sg_modules[i]->tick(svc);
    sg_cache_tick(sg_content_cache_base(svc->content), sweep);
    sg_cache_tick(sg_asset_cache_base(svc->assets), sweep);
    sg_alerts_tick(svc->alerts, svc->data_dirfd);
    sg_identity_tick(svc->identity);
    sg_audit_tick(svc->audit);
    if (d->watchdog)
        sd_notify(0, "WATCHDOG=1");
}

static void *ticker_main(void *arg)
{
    struct daemon *d = arg;
    pthread_setname_np(pthread_self(), "ticker");
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    for (uint64_t n = 0;; n++) {
        tick(d, n);
        due.tv_sec++;
        pthread_mutex_lock(&d->lock);
        while (!d->stopping && pthread_cond_timedwait(&d->cond, &d->lock, &due) != ETIMEDOUT)
            ;
        bool stopping = d->stopping;
        pthread_mutex_unlock(&d->lock);
        if (stopping)
            return NULL;
    }
}

static enum sg_error start_ticker(struct daemon *d)
{
    if (pthread_create(&d->ticker, NULL, ticker_main, d) != 0)
        return SG_ERR_NO_MEMORY;
    d->has_ticker = true;
    return SG_OK;
}

static void stop_ticker(struct daemon *d)
{
    if (!d->has_ticker)
        return;
    pthread_mutex_lock(&d->lock);
    d->stopping = true;
    pthread_cond_signal(&d->cond);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->ticker, NULL);
    d->has_ticker = false;
}

/* ---- start ---- */

static enum sg_error start_storage(struct daemon *d, const struct sg_config *c)
{
    const char *dir = options_data_dir(c);
    char path[4200];
    int n = snprintf(path, sizeof path, "%s/streamgate.db", dir);
    if (n < 0 || (size_t)n >= sizeof path)
        return SG_ERR_CONFIG;
    enum sg_error err = sg_fs_open_root(dir, &d->svc.data_dirfd);
    if (err != SG_OK) {
        sg_error_log("main", "data directory %s: %s", dir, sg_error_title(err));
        return err;
    }
    err = startup_lock(d->svc.data_dirfd, &d->lock_fd);
    if (err == SG_OK)
        err = sg_db_open(&(struct sg_db_params){.path = path}, &d->svc.db);
    if (err == SG_OK)
        err = sg_blob_store_create(d->svc.data_dirfd, &d->svc.blobs);
    if (err == SG_OK)
        err = startup_reconcile(d->svc.db, d->svc.blobs);
    if (err == SG_OK)
        err = startup_admin_key(d->svc.db, d->svc.data_dirfd);
    return err;
}

static enum sg_error start_media(struct daemon *d, const struct sg_config *c)
{
    uint64_t workers = sg_config_uint(c, SG_SET_media_workers);
    if (workers == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        workers = cores > 2 ? (uint64_t)cores : 2;
    }
    d->svc.media_processes = (unsigned)workers;
    d->svc.media_limits = (struct sg_media_limits){
        .max_pixels = sg_config_uint(c, SG_SET_media_max_pixels),
        .max_duration_ms = sg_config_uint(c, SG_SET_media_max_duration),
        .max_frames = sg_config_uint(c, SG_SET_media_max_frames),
        .max_streams = (uint32_t)sg_config_uint(c, SG_SET_media_max_streams),
        .max_body_bytes = sg_config_uint(c, SG_SET_media_max_segment_bytes),
        .open_contexts = (uint32_t)sg_config_uint(c, SG_SET_media_open_contexts),
        .segment_ms = (uint32_t)sg_config_uint(c, SG_SET_playback_segment_duration),
    };
    return sg_media_pool_create(
        &(struct sg_media_pool_params){
            .workers = (unsigned)workers,
            .memory_bytes = sg_config_uint(c, SG_SET_media_memory),
            .max_reply_bytes = d->svc.media_limits.max_body_bytes,
            .timeout_ms = sg_config_uint(c, SG_SET_media_timeout),
        },
        &d->svc.media);
}

static unsigned cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

static enum sg_error start_layers(struct daemon *d, const struct sg_config *c)
{
    struct sg_services *svc = &d->svc;
    enum sg_error err = sg_ratelimit_create(c, &svc->ratelimit);
    if (err == SG_OK)
        err = sg_identity_create(&(struct sg_identity_params){.db = svc->db}, &svc->identity);
    if (err == SG_OK)
        err = sg_token_signer_create(svc->data_dirfd, &svc->signer);
    if (err == SG_OK)
        err = sg_audit_create(svc->db, c, &svc->audit);
    if (err == SG_OK)
        err = sg_alerts_create(c, NULL, 0, &svc->alerts);
    if (err == SG_OK)
        err = sg_content_cache_create(c, &svc->content);
    if (err == SG_OK)
        err = sg_asset_cache_create(c, &svc->assets);
    if (err == SG_OK)
        err = sg_jobs_create(svc->db, c, &svc->jobs);
    if (err == SG_OK)
        err = sg_live_create(&svc->live);
    if (err == SG_OK)
        err = sg_pool_create(&(struct sg_pool_params){.name = "blocking",
                                                      .threads = (unsigned)sg_config_uint(
                                                          c, SG_SET_server_blocking_threads)},
                             &svc->blocking);
    if (err == SG_OK)
        err = sg_pool_create(&(struct sg_pool_params){.name = "sync", .threads = SYNC_THREADS},
                             &svc->sync);
    if (err == SG_OK)
        err = sg_pool_create(&(struct sg_pool_params){.name = "hash", .threads = cores()},
                             &svc->hashing);
    return err;
}

static enum sg_error start_modules(struct daemon *d)
{
    for (size_t i = 0; i < sg_module_count; i++) {
        enum sg_error err = sg_modules[i]->init != NULL ? sg_modules[i]->init(&d->svc) : SG_OK;
        if (err != SG_OK) {
            sg_error_log("main", "module %s: %s", sg_modules[i]->name, sg_error_title(err));
            return err;
        }
        d->modules_started = i + 1;
    }
    enum sg_error err = sg_route_table_create(sg_modules, sg_module_count, &d->routes);
    d->svc.routes = d->routes;
    sg_jobs_configure(d->svc.jobs, sg_services_config(&d->svc)); /* limits of the types they have */
    return err == SG_OK ? sg_jobs_start(d->svc.jobs) : err;
}

static void note_system(struct daemon *d, const char *action)
{
    sg_audit_note(d->svc.audit, &(struct sg_audit_event){.event_type = "system",
                                                         .actor = "system",
                                                         .action = action,
                                                         .resource = "daemon",
                                                         .result = "success"});
}

static enum sg_error start(struct daemon *d)
{
    const struct sg_config *c = sg_services_config(&d->svc);
    d->watchdog = sd_watchdog_enabled(0, NULL) > 0;
    d->svc.started_mono_ms = sg_clock_mono_ms();
    d->svc.started_wall_ms = sg_clock_wall_ms();
    enum sg_error err = start_storage(d, c);
    if (err == SG_OK)
        err = start_layers(d, c);
    if (err == SG_OK)
        err = start_media(d, c);
    if (err == SG_OK)
        err = start_modules(d);
    if (err == SG_OK)
        err = sg_server_start(&d->svc, &d->server);
    if (err == SG_OK)
        err = start_ticker(d);
    if (err != SG_OK)
        return err;
    note_system(d, "daemon.start");
    sg_alerts_event(d->svc.alerts, "service_started", "StreamGate " SG_VERSION " started");
    sg_info_log("main", "StreamGate %s serves %s (port %u), data in %s", SG_VERSION,
                sg_config_string(c, SG_SET_server_listen), sg_server_port(d->server),
                options_data_dir(c));
    sd_notifyf(0, "READY=1\nSTATUS=Serving on port %u", sg_server_port(d->server));
    return SG_OK;
}

/* ---- after the start ---- */

static void warm(void *arg)
{
    struct daemon *d = arg;
    uint64_t began_ns = sg_clock_mono_ns(), assets;
    enum sg_error err = sg_asset_cache_warm(&d->svc, &assets);
    if (err != SG_OK) {
        sg_warn_log("main", "the cache could not be warmed: %s", sg_error_title(err));
        return;
    }
    if (assets == 0 || atomic_load(&d->svc.draining))
        return;
    char text[96];
    snprintf(text, sizeof text, "%" PRIu64 " assets loaded in %" PRIu64 " ms", assets,
             (sg_clock_mono_ns() - began_ns) / 1000000);
    sg_alerts_event(d->svc.alerts, "cache_warmed", text);
}

/* Ready comes first: who asks before his asset is loaded has it read for him, as ever. */
static void start_warming(struct daemon *d)
{
    enum sg_error err = sg_pool_submit(d->svc.blocking, warm, d);
    if (err != SG_OK)
        sg_warn_log("main", "the cache could not be warmed: %s", sg_error_title(err));
}

/* ---- stop, in reverse ---- */

static void stop_layers(struct daemon *d)
{
    struct sg_services *svc = &d->svc;
    sg_pool_destroy(
        &svc->blocking); /* runs what is queued, which may still ask modules and media */
    if (svc->jobs != NULL)
        sg_jobs_stop(svc->jobs); /* its handlers may still ask modules and media */
    for (size_t i = d->modules_started; i-- > 0;)
        if (sg_modules[i]->shutdown != NULL)
            sg_modules[i]->shutdown(svc);
    sg_route_table_destroy(&d->routes);
    sg_pool_destroy(&svc->sync);
    sg_pool_destroy(&svc->hashing);
    sg_media_pool_destroy(&svc->media);
    sg_live_destroy(&svc->live);
    sg_asset_cache_destroy(&svc->assets);
    sg_content_cache_destroy(&svc->content);
    sg_jobs_destroy(&svc->jobs);
    sg_alerts_destroy(&svc->alerts);
    sg_audit_destroy(&svc->audit);
    sg_token_signer_destroy(&svc->signer);
    sg_identity_destroy(&svc->identity);
    sg_ratelimit_destroy(&svc->ratelimit);
    sg_blob_store_destroy(&svc->blobs);
    sg_db_close(&svc->db);
}

static void stop(struct daemon *d)
{
    if (d->server != NULL) {
        sg_info_log("main", "stopping");
        atomic_store(&d->svc.draining, true);
        sd_notify(0, "STOPPING=1");
        sg_alerts_event(d->svc.alerts, "service_stopped", "StreamGate is stopping");
        note_system(d, "daemon.stop");
        uint64_t drain_ms =
            sg_config_uint(sg_services_config(&d->svc), SG_SET_server_drain_timeout);
        sg_server_stop(&d->server, drain_ms);
    }
    stop_ticker(d);
    stop_layers(d);
    if (d->lock_fd >= 0)
        close(d->lock_fd);
    if (d->svc.data_dirfd >= 0)
        close(d->svc.data_dirfd);
    while (d->retired != NULL) {
        struct retired *r = d->retired;
        d->retired = r->next;
        sg_config_unref(r->config);
        sg_cidr_list_destroy(&r->proxies);
        free(r);
    }
    sg_config_unref(atomic_load(&d->svc.config));
    struct sg_cidr_list *proxies = atomic_load(&d->svc.trusted_proxies);
    sg_cidr_list_destroy(&proxies);
}

static void wait_for_signals(struct daemon *d, const sigset_t *signals)
{
    for (;;) {
        int sig;
        if (sigwait(signals, &sig) != 0)
            continue;
        if (sig != SIGHUP)
            return;
        reload(d);
    }
}

int daemon_run(const struct options *o)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);

    struct daemon d = {.options = o, .lock_fd = -1};
    d.svc.data_dirfd = -1;
    pthread_mutex_init(&d.lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&d.cond, &attr);
    pthread_condattr_destroy(&attr);

    struct sg_config *config = NULL;
    enum sg_error err = options_config(o, &config);
    if (err != SG_OK)
        return 2;
    err = install_config(&d, config);
    if (err == SG_OK)
        err = start(&d);
    if (err == SG_OK) {
        start_warming(&d);
        wait_for_signals(&d, &signals);
    } else {
        sg_error_log("main", "could not start: %s", sg_error_title(err));
    }
    stop(&d);
    if (err == SG_OK)
        sg_info_log("main", "stopped");
    return err == SG_OK ? 0 : 1;
}
