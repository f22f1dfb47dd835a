/* The daemon's own housekeeping as jobs: expire (old jobs and deliveries), gc (files nobody speaks
 * of), backup. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "streamgate/base/log.h"
#include "streamgate/media/media.h"
#include "streamgate/store/asset_store.h"
#include "streamgate/store/backup.h"
#include "streamgate/store/rendition_store.h"
#include "streamgate/store/upload_store.h"
#include "streamgate/store/webhook_store.h"

#include "worker.h"

#define BATCH 500

static void tell_share(struct sg_job_run *run, uint64_t done, uint64_t total)
{
    double percent = total > 0 ? 100.0 * (double)done / (double)total : 100;
    sg_job_run_progress(
        run, &(struct sg_job_progress){.percent = percent, .fps = -1, .speed = -1, .eta_s = -1});
}

/* ---- expire ---- */

struct pruning {
    enum sg_error (*prune)(struct sg_db_conn *c, uint64_t before_ms, unsigned limit,
                           uint64_t *out_n);
    uint64_t before_ms, n;
};

static enum sg_error prune(struct sg_db_conn *c, void *arg)
{
    struct pruning *p = arg;
    return p->prune(c, p->before_ms, BATCH, &p->n);
}

/* What ended longer ago than keep_ms goes, a batch a transaction. */
static enum sg_error prune_all(struct sg_services *svc, struct sg_job_run *run, struct pruning p,
                               uint64_t keep_ms, uint64_t *total)
{
    uint64_t now_ms = sg_clock_wall_ms();
    enum sg_error err;
    p.before_ms = now_ms > keep_ms ? now_ms - keep_ms : 0;
    do {
        err = sg_job_run_stopped(run) ? SG_ERR_CANCELLED : sg_db_write(svc->db, prune, &p);
        *total += err == SG_OK ? p.n : 0;
    } while (err == SG_OK && p.n == BATCH);
    return err;
}

static enum sg_error run_expire(struct sg_job_run *run, void *arg)
{
    struct sg_services *svc = arg;
    const struct sg_config *cfg = sg_services_config(svc);
    uint64_t jobs = 0, deliveries = 0;
    enum sg_error err = prune_all(svc, run, (struct pruning){.prune = sg_job_prune},
                                  sg_config_uint(cfg, SG_SET_worker_retention), &jobs);
    if (err == SG_OK)
        err = prune_all(svc, run, (struct pruning){.prune = sg_delivery_prune},
                        sg_config_uint(cfg, SG_SET_webhook_retention), &deliveries);
    if (err == SG_OK)
        sg_job_run_result(run, json_pack("{s:I, s:I}", "removed_jobs", (json_int_t)jobs,
                                         "removed_deliveries", (json_int_t)deliveries));
    return err;
}

/* ---- gc ---- */

struct ids {
    char (*items)[SG_ULID_SIZE];
    size_t n, cap;
};

static enum sg_error add_id(void *arg, const char *id)
{
    struct ids *l = arg;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 256;
        void *grown = realloc(l->items, cap * sizeof *l->items);
        if (grown == NULL)
            return SG_ERR_NO_MEMORY;
        l->items = grown;
        l->cap = cap;
    }
    memcpy(l->items[l->n++], id, SG_ULID_SIZE);
    return SG_OK;
}

struct claim {
    const char *id;
    bool claimed;
};

/* Whether a row speaks of the file: an asset's, a rendition's, or that of an upload that may be
 * becoming an asset. */
static enum sg_error look_for_rows(struct sg_db_conn *c, void *arg)
{
    struct claim *k = arg;
    struct sg_asset *asset = NULL;
    struct sg_upload *upload = NULL;
    enum sg_error err = sg_asset_get(c, k->id, &asset);
    if (err == SG_ERR_NOT_FOUND)
        err = sg_upload_get(c, k->id, &upload);
    k->claimed = err == SG_OK;
    if (err == SG_ERR_NOT_FOUND)
        err = sg_rendition_exists(c, k->id, &k->claimed);
    sg_asset_unref(asset);
    sg_upload_free(&upload);
    return err == SG_ERR_NOT_FOUND ? SG_OK : err;
}

/* A file is put in its place just before its row is written, and its change time is that of the
 * rename or link which put it there. One that lies there for long without a row was left behind. */
static enum sg_error is_old(struct sg_services *svc, const char *id, uint64_t age_ms, bool *out)
{
    int fd = -1;
    struct stat st;
    *out = false;
    enum sg_error err = sg_blob_open(svc->blobs, id, &fd);
    if (err != SG_OK)
        return err == SG_ERR_NOT_FOUND ? SG_OK : err;
    if (fstat(fd, &st) == 0) {
        uint64_t changed_ms = (uint64_t)st.st_ctim.tv_sec * 1000;
        *out = changed_ms + age_ms <= sg_clock_wall_ms();
    }
    close(fd);
    return SG_OK;
}

static enum sg_error collect_one(struct sg_services *svc, const char *id, uint64_t age_ms,
                                 uint64_t *removed)
{
    struct claim k = {.id = id};
    bool old = false;
    enum sg_error err = is_old(svc, id, age_ms, &old);
    if (err == SG_OK && old)
        err = sg_db_read(svc->db, look_for_rows, &k);
    if (err != SG_OK || !old || k.claimed)
        return err;
    err = sg_blob_remove(svc->blobs, id);
    if (err == SG_OK) {
        (*removed)++;
        sg_info_log("jobs", "removed the file of %s, of which no row speaks", id);
    }
    return err;
}

static enum sg_error stop_at_first(void *arg, const char *id)
{
    (void)id;
    *(bool *)arg = true;
    return SG_ERR_CANCELLED;
}

static enum sg_error look_for_any(struct sg_db_conn *c, void *arg)
{
    enum sg_error err = sg_asset_each_id(c, stop_at_first, arg);
    return err == SG_ERR_CANCELLED ? SG_OK : err;
}

static enum sg_error run_gc(struct sg_job_run *run, void *arg)
{
    struct sg_services *svc = arg;
    uint64_t age_ms = sg_config_uint(sg_services_config(svc), SG_SET_worker_gc_age);
    struct ids files = {0};
    uint64_t removed = 0;
    bool any = false;
    enum sg_error err = sg_blob_each(svc->blobs, add_id, &files);
    if (err == SG_OK)
        err = sg_db_read(svc->db, look_for_any, &any);
    if (err == SG_OK && !any && files.n > 0)
        err = sg_job_run_fail(run, SG_ERR_UNPROCESSABLE,
                              "the database knows no asset at all: it may be the wrong one, and "
                              "nothing is removed");
    for (size_t i = 0; i < files.n && err == SG_OK; i++) {
        if (sg_job_run_stopped(run)) {
            err = SG_ERR_CANCELLED;
            break;
        }
        err = collect_one(svc, files.items[i], age_ms, &removed);
        tell_share(run, i + 1, files.n);
    }
    if (removed > 0)
        sg_media_sweep(svc->media, svc->media_processes);
    if (err == SG_OK)
        sg_job_run_result(run, json_pack("{s:I, s:I}", "files", (json_int_t)files.n,
                                         "removed_files", (json_int_t)removed));
    free(files.items);
    return err;
}

/* ---- backup ---- */

static bool backup_stops(void *arg, uint64_t done, uint64_t total)
{
    tell_share(arg, done, total);
    return sg_job_run_stopped(arg);
}

static enum sg_error run_backup(struct sg_job_run *run, void *arg)
{
    struct sg_services *svc = arg;
    struct sg_backup_result r;
    const struct sg_backup_params p = {
        .db = svc->db,
        .dirfd = svc->data_dirfd,
        .keep = (unsigned)sg_config_uint(sg_services_config(svc), SG_SET_worker_backups_kept),
        .stop = backup_stops,
        .arg = run};
    enum sg_error err = sg_backup_make(&p, &r);
    if (err != SG_OK)
        return err;
    tell_share(run, 1, 1);
    sg_job_run_result(run, json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", r.name, "database_bytes",
                                     (json_int_t)r.db_bytes, "files", (json_int_t)r.files,
                                     "file_bytes", (json_int_t)r.file_bytes, "removed_backups",
                                     (json_int_t)r.removed));
    return SG_OK;
}

/* ---- all of them ---- */

static struct sg_job_type types[] = {
    {.name = "expire",
     .summary =
         "Remove jobs and webhook deliveries that ended longer ago than worker.retention and "
         "webhook.retention",
     .run = run_expire},
    {.name = "gc", .summary = "Remove files of which no row speaks", .run = run_gc},
    {.name = "backup", .summary = "Copy the database into the data directory", .run = run_backup},
};

enum sg_error worker_types_register(struct sg_services *svc)
{
    enum sg_error err = SG_OK;
    for (size_t i = 0; i < SG_ARRAY_LEN(types) && err == SG_OK; i++) {
        types[i].concurrency = SG_SET_worker_housekeeping;
        types[i].timeout = SG_SET_worker_housekeeping_timeout;
        types[i].role = SG_ROLE_ADMIN;
        types[i].max_attempts = 3;
        types[i].backoff_ms = 10000;
        types[i].backoff_max_ms = 600000;
        types[i].arg = svc;
        err = sg_jobs_register(svc->jobs, &types[i]);
    }
    return err;
}
