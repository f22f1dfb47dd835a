/* One try of an import: from the row's offset, if the source still is what it was, to the asset.
 * The row says what is durable, so a try may end anywhere. What a source does wrong for good, and
 * what a user may not have, ends the upload; everything else is worth another try.
 *
 * Invariant: the row's size and validator are those of the bytes that are there. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/layers/fetch.h"
#include "streamgate/store/audit_store.h"

#include "upload_append.h"
#include "upload_import.h"

#define COMMIT_EVERY_NS ((uint64_t)2 * 1000000000) /* how stale the progress shown may be */
#define SUPERSEDED_PAUSE_MS 1000
#define RETRY_AFTER_MAX_MS ((uint64_t)10 * 60 * 1000) /* what a source may ask for */
#define MAX_REDIRECTS 5

struct import_try {
    struct sg_job_run *run;
    const char *id; /* of the upload, and of its job */
    struct sg_services *svc;
    struct sg_upload *row; /* as it was when append was opened */
    struct upload_append *append;
    uint64_t committed_ns; /* when it was last made durable */
    bool has_size;         /* of the source, as it is stored */
    uint64_t size_bytes;   /* the same, for whoever watches; 0: not known */
    bool transient;
    enum sg_error meanwhile; /* why on_stop ended the fetch, if not to stop */
    uint64_t retry_after_ms;
    char why[SG_MEDIA_MESSAGE_MAX];
};

struct sg_cidr_list *upload_import_allowed(struct sg_services *svc)
{
    const char *text = sg_config_string(sg_services_config(svc), SG_SET_import_allow_addresses);
    struct sg_cidr_list *list = NULL;
    enum sg_error err = sg_cidr_list_parse(text, &list);
    if (err != SG_OK)
        sg_error_log("import", "import.allow_addresses: %s; nothing more is allowed",
                     sg_error_title(err));
    return list;
}

static bool stopping(const struct import_try *t)
{
    return sg_job_run_stopped(t->run) || atomic_load(&t->svc->draining);
}

static enum sg_error fail(struct import_try *t, enum sg_error err, bool transient, const char *why)
{
    t->transient = transient;
    snprintf(t->why, sizeof t->why, "%s", why);
    return err;
}

/* ---- opening ---- */

static enum sg_error open_append(struct import_try *t)
{
    sg_upload_free(&t->row);
    enum sg_error err = upload_append_open(
        &(struct upload_append_params){.svc = t->svc, .id = t->id}, &t->row, &t->append);
    if (err == SG_OK) {
        t->has_size = t->row->f.has_size;
        t->size_bytes = t->has_size ? t->row->f.size_bytes : 0;
        t->committed_ns = sg_clock_mono_ns();
    }
    return err;
}

/* ---- what the source says ---- */

struct note {
    const struct sg_config *cfg;
    const char *id, *owner;
    const struct sg_fetch_source *source;
    uint64_t more; /* bytes that the row does not announce yet */
    bool start_over;
    const char *filename; /* NULL: keep */
};

static enum sg_error note_source(struct sg_db_conn *c, void *arg)
{
    const struct note *n = arg;
    enum sg_error err = n->start_over ? sg_upload_start_over(c, n->id) : SG_OK;
    /* Again, after check_quota: of several that begin together each saw room for itself alone. */
    if (err == SG_OK && n->more > 0)
        err = upload_quota_grow(c, n->cfg, n->owner, n->more);
    if (err == SG_OK && n->source->has_size)
        err = sg_upload_set_size(c, n->id, n->source->size_bytes);
    if (err == SG_OK)
        err = sg_upload_set_etag(c, n->id, n->source->validator);
    if (err == SG_OK && n->filename != NULL)
        err = sg_upload_set_filename(c, n->id, n->filename);
    return err;
}

static enum sg_error start_over_rows(struct sg_db_conn *c, void *arg)
{
    const struct import_try *t = arg;
    return sg_upload_start_over(c, t->id);
}

/* The bytes that are there, and their size, were another source's. */
static enum sg_error start_over(struct import_try *t)
{
    upload_append_close(&t->append);
    enum sg_error err = sg_db_write(t->svc->db, start_over_rows, t);
    return err == SG_OK ? open_append(t) : err;
}

static enum sg_error check_quota(struct import_try *t, uint64_t more)
{
    char bound[UPLOAD_QUOTA_WHY] = "", why[UPLOAD_QUOTA_WHY + 16];
    enum sg_error err = upload_quota_check_owner(t->svc, t->row->f.owner, more, bound);
    if (err == SG_ERR_QUOTA) {
        snprintf(why, sizeof why, "the file would %s", bound);
        return fail(t, err, false, why);
    }
    return err;
}

/* A name the user did not choose gives way to the source's own. */
static const char *better_name(const struct sg_upload_fields *f,
                               const struct sg_fetch_source *source)
{
    char usual[SG_FETCH_NAME_SIZE];
    if (source->filename[0] == '\0' || strcmp(f->filename, source->filename) == 0)
        return NULL;
    if (sg_fetch_name_from_url(f->url, usual) != SG_OK)
        memcpy(usual, UPLOAD_IMPORT_NAME, sizeof UPLOAD_IMPORT_NAME);
    return strcmp(f->filename, usual) == 0 ? source->filename : NULL;
}

static enum sg_error on_begin(void *arg, const struct sg_fetch_source *source)
{
    struct import_try *t = arg;
    enum sg_error err = SG_OK;
    bool other = source->offset == 0 && (upload_append_received(t->append) > 0 || t->has_size);
    if (other)
        err = start_over(t);
    if (err != SG_OK)
        return err;
    /* What the row announces is reserved already: the size once it is known, else the offset. */
    uint64_t announced = t->has_size ? t->row->f.size_bytes : upload_append_received(t->append);
    bool grows = source->has_size && source->size_bytes > announced;
    uint64_t more = grows ? source->size_bytes - announced : 0;
    err = check_quota(t, more);
    if (err != SG_OK)
        return err;
    struct note n = {.cfg = sg_services_config(t->svc),
                     .id = t->id,
                     .owner = t->row->f.owner,
                     .source = source,
                     .more = more,
                     .start_over = source->offset == 0,
                     .filename = better_name(&t->row->f, source)};
    err = sg_db_write(t->svc->db, note_source, &n);
    if (err == SG_ERR_CONFLICT)
        return fail(t, SG_ERR_FETCH, false, "the source changed while it was fetched");
    if (err == SG_ERR_QUOTA)
        return fail(t, err, false, "the file would exceed the quota");
    if (err == SG_OK)
        t->has_size = t->has_size || source->has_size;
    if (err == SG_OK && source->has_size)
        t->size_bytes = source->size_bytes;
    return err;
}

/* ---- bytes ---- */

static void tell(struct import_try *t)
{
    struct sg_job_progress p = {.percent = -1, .fps = -1, .speed = -1, .eta_s = -1};
    uint64_t received = upload_append_received(t->append), size = t->size_bytes;
    if (size > 0)
        p.percent = received < size ? 100.0 * (double)received / (double)size : 100;
    sg_job_run_progress(t->run, &p);
}

static enum sg_error commit(struct import_try *t)
{
    enum sg_error err = upload_append_commit(t->append);
    t->committed_ns = sg_clock_mono_ns();
    tell(t);
    /* One that does not say how large it is meets the quota on the way. */
    return err == SG_OK && !t->has_size ? check_quota(t, 0) : err;
}

static enum sg_error on_data(void *arg, const void *data, size_t len)
{
    struct import_try *t = arg;
    enum sg_error err = upload_append_write(t->append, NULL, data, len);
    if (err != SG_OK)
        return err;
    sg_metric_add(SG_METRIC_IMPORT_BYTES, 0, len);
    return sg_clock_mono_ns() - t->committed_ns >= COMMIT_EVERY_NS ? commit(t) : SG_OK;
}

/* Also where a source that sends nothing is noticed to be wanted no more, and what it sent before
 * is made durable. */
static bool on_stop(void *arg)
{
    struct import_try *t = arg;
    if (stopping(t))
        return true;
    if (t->append == NULL)
        return false;
    t->meanwhile = upload_append_write(t->append, NULL, "", 0); /* SUPERSEDED, when it was */
    if (t->meanwhile == SG_OK && sg_clock_mono_ns() - t->committed_ns >= COMMIT_EVERY_NS)
        t->meanwhile = commit(t);
    return t->meanwhile != SG_OK;
}

/* ---- a try ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static enum sg_error fetch(struct import_try *t)
{
    const struct sg_config *cfg = sg_services_config(t->svc);
    uint64_t stall_ms = sg_config_uint(cfg, SG_SET_import_stall_timeout);
    struct sg_cidr_list *allow = upload_import_allowed(t->svc);
    /* The row's own strings may go when it starts over. */
    char *url = strdup(t->row->f.url), *validator = strdup(t->row->f.etag);
    struct sg_fetch_result r = {.by_caller = true};
    enum sg_error err = SG_ERR_NO_MEMORY;
    if (url != NULL && validator != NULL) {
        const struct sg_fetch_params params = {
            .url = url,
            .allow = allow,
            .offset = t->row->f.offset_bytes,
            .validator = validator,
            .max_bytes = least(sg_config_uint(cfg, SG_SET_import_max_size),
                               sg_config_uint(cfg, SG_SET_upload_max_size)),
            .timeout_ms = sg_config_uint(cfg, SG_SET_import_timeout),
            .connect_timeout_ms = stall_ms,
            .stall_timeout_ms = stall_ms,
            .max_redirects = MAX_REDIRECTS,
            .begin = on_begin,
            .data = on_data,
            .stop = on_stop,
            .arg = t,
        };
        sg_metric_gauge_add(SG_METRIC_IMPORTS_RUNNING, 0, 1);
        err = sg_fetch(&params, &r);
        sg_metric_gauge_add(SG_METRIC_IMPORTS_RUNNING, 0, -1);
    }
    free(url);
    free(validator);
    sg_cidr_list_destroy(&allow);
    if (err != SG_OK && t->meanwhile != SG_OK)
        return t->meanwhile;
    if (err != SG_OK && !r.by_caller) {
        t->retry_after_ms = least(r.retry_after_ms, RETRY_AFTER_MAX_MS);
        return fail(t, err, r.transient, r.why);
    }
    return err;
}

struct sizing {
    const char *id;
    uint64_t size;
};

static enum sg_error write_size(struct sg_db_conn *c, void *arg)
{
    const struct sizing *s = arg;
    return sg_upload_set_size(c, s->id, s->size);
}

/* Every byte has come. */
static enum sg_error finish(struct import_try *t)
{
    enum sg_error err = upload_append_commit(t->append);
    struct sizing s = {.id = t->id, .size = upload_append_received(t->append)};
    if (err == SG_OK && s.size == 0)
        return fail(t, SG_ERR_UNPROCESSABLE, false, "the source is empty");
    if (err == SG_OK)
        err = sg_db_write(t->svc->db, write_size, &s);
    if (err == SG_OK && stopping(t))
        err = SG_ERR_CANCELLED;
    if (err != SG_OK)
        return err;
    struct upload_completion c = {.request_id = NULL};
    err = upload_append_complete(t->append, &c);
    if (err != SG_OK)
        snprintf(t->why, sizeof t->why, "%s", c.why);
    return err;
}

static enum sg_error try_once(struct import_try *t)
{
    enum sg_error err = upload_get(t->svc, t->id, &t->row);
    if (err == SG_OK && t->row->f.state != SG_UPLOAD_ACTIVE)
        err = SG_ERR_GONE;
    if (err != SG_OK)
        return err;
    err = open_append(t);
    if (err != SG_OK)
        return err == SG_ERR_CONFLICT ? SG_ERR_GONE : err;
    const struct sg_upload_fields *f = &t->row->f;
    bool complete = f->has_size && f->size_bytes > 0 && f->offset_bytes == f->size_bytes;
    if (!complete)
        err = fetch(t);
    if (err == SG_OK)
        return finish(t);
    /* What came so far is there for the next try. Should that fail, less is. */
    enum sg_error kept = t->append != NULL ? upload_append_commit(t->append) : SG_OK;
    return kept == SG_ERR_SUPERSEDED ? kept : err;
}

/* ---- how it ended ---- */

struct failing {
    struct sg_upload_move move;
    struct sg_audit_event event;
};

static enum sg_error write_failed(struct sg_db_conn *c, void *arg)
{
    struct failing *f = arg;
    enum sg_error err = sg_upload_move(c, &f->move);
    return err != SG_OK ? err : sg_audit_append(c, &f->event);
}

/* Under the append's claim, if there is one. A row that is settled already, or gone, stays so. */
static enum sg_error give_up(struct import_try *t, enum sg_error why)
{
    char resource[sizeof "upload/" + SG_ULID_SIZE], details[64];
    uint64_t now_ms = sg_clock_wall_ms();
    snprintf(resource, sizeof resource, "upload/%s", t->id);
    snprintf(details, sizeof details, "{\"error\":\"%s\"}", sg_error_slug(why));
    struct failing f = {
        .move = {.id = t->id,
                 .from = SG_UPLOAD_ACTIVE,
                 .to = SG_UPLOAD_FAILED,
                 .slug = sg_error_slug(why),
                 .detail = t->why[0] != '\0' ? t->why : sg_error_title(why),
                 .now_ms = now_ms,
                 .expires_ms = upload_expiry_ms(t->svc, now_ms)},
        .event = {.event_type = "data",
                  .actor = t->row->f.owner,
                  .action = "upload.fail",
                  .resource = resource,
                  .result = "failure",
                  .details = details},
    };
    enum sg_error err = sg_db_write(t->svc->db, write_failed, &f);
    if (err == SG_ERR_CONFLICT || err == SG_ERR_NOT_FOUND)
        return SG_OK;
    if (err != SG_OK)
        return err;
    sg_info_log("import", "import %s failed: %s", t->id, f.move.detail);
    upload_count_failed(SG_UPLOAD_IMPORT);
    upload_hash_forget(t->svc->uploads, t->id);
    if (sg_blob_discard(t->svc->blobs, t->id) != SG_OK)
        sg_warn_log("import", "staged file of %s stays until the next start", t->id);
    return SG_OK;
}

/* Errors of ours pass; those of the fetch said so themselves. */
static bool may_pass(const struct import_try *t, enum sg_error err)
{
    switch (err) {
    case SG_ERR_IO:
    case SG_ERR_NO_MEMORY:
    case SG_ERR_NO_DESCRIPTORS:
    case SG_ERR_NO_SPACE:
    case SG_ERR_UNAVAILABLE:
    case SG_ERR_DRAINING:
        return true;
    default:
        return t->transient;
    }
}

/* The end of the row as well as of the job. */
static enum sg_error end_badly(struct import_try *t, enum sg_error err)
{
    enum sg_error given = t->row != NULL ? give_up(t, err) : SG_OK;
    if (given != SG_OK) /* the row is open still */
        return given;
    sg_job_run_final(t->run);
    return sg_job_run_fail(t->run, err, "%s", t->why[0] != '\0' ? t->why : sg_error_title(err));
}

/* A cancelled job takes its upload with it (upload_import.c). */
static enum sg_error settle(struct import_try *t, enum sg_error err)
{
    const struct sg_job_fields *job = sg_job_run_job(t->run);
    switch (sg_job_run_stop(t->run)) {
    case SG_JOB_STOP_NO:
        break;
    case SG_JOB_STOP_TIMEOUT:
        return err == SG_OK ? err
                            : end_badly(t, fail(t, SG_ERR_FETCH, false,
                                                "the import took longer than it may"));
    default:
        return err == SG_OK ? err : SG_ERR_CANCELLED;
    }
    if (err == SG_OK || err == SG_ERR_NOT_FOUND || err == SG_ERR_GONE)
        return SG_OK;
    if (err == SG_ERR_SUPERSEDED) {
        /* By an abort; the next look at the row tells whether it succeeded. */
        sg_job_run_retry_after(t->run, SUPERSEDED_PAUSE_MS);
        return sg_job_run_fail(t->run, SG_ERR_UNAVAILABLE, "somebody else has the upload");
    }
    if (!may_pass(t, err) || job->attempts >= job->max_attempts)
        return end_badly(t, err);
    sg_job_run_retry_after(t->run, t->retry_after_ms);
    sg_info_log("import", "import %s: %s; it is tried again", t->id,
                t->why[0] != '\0' ? t->why : sg_error_title(err));
    /* As an error that passes, whatever it is called. */
    return sg_job_run_fail(t->run, SG_ERR_UNAVAILABLE, "%s",
                           t->why[0] != '\0' ? t->why : sg_error_title(err));
}

enum sg_error upload_import_run(struct sg_job_run *run, void *arg)
{
    struct import_try t = {.run = run, .svc = arg, .id = sg_job_run_job(run)->id};
    enum sg_error err = settle(&t, try_once(&t));
    upload_append_close(&t.append);
    sg_upload_free(&t.row);
    return err;
}
