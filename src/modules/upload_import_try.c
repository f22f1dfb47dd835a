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
#define BACKOFF_FIRST_NS ((uint64_t)1000000000)
#define BACKOFF_MAX_NS ((uint64_t)60 * 1000000000)
#define RETRY_AFTER_MAX_MS ((uint64_t)10 * 60 * 1000) /* what a source may ask for */
#define MAX_REDIRECTS 5

struct import_try {
    struct import_job *job;
    struct sg_services *svc;
    struct sg_upload *row; /* as it was when append was opened */
    struct upload_append *append;
    uint64_t committed_ns; /* when it was last made durable */
    bool has_size;         /* of the source, as it is stored */
    bool transient;
    enum sg_error meanwhile; /* why on_stop ended the fetch, if not to stop */
    uint64_t retry_after_ns;
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

static bool stopping(const struct import_job *job)
{
    return atomic_load(&job->imports->stopping) || atomic_load(&job->imports->svc->draining);
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
        &(struct upload_append_params){.svc = t->svc, .id = t->job->id}, &t->row, &t->append);
    if (err == SG_OK) {
        t->has_size = t->row->f.has_size;
        t->committed_ns = sg_clock_mono_ns();
    }
    return err;
}

/* ---- what the source says ---- */

struct note {
    const char *id;
    const struct sg_fetch_source *source;
    bool start_over;
    const char *filename; /* NULL: keep */
};

static enum sg_error note_source(struct sg_db_conn *c, void *arg)
{
    const struct note *n = arg;
    enum sg_error err = n->start_over ? sg_upload_start_over(c, n->id) : SG_OK;
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
    return sg_upload_start_over(c, arg);
}

/* The bytes that are there, and their size, were another source's. */
static enum sg_error start_over(struct import_try *t)
{
    upload_append_close(&t->append);
    enum sg_error err = sg_db_write(t->svc->db, start_over_rows, t->job->id);
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
    if (source->has_size && source->size_bytes > announced)
        err = check_quota(t, source->size_bytes - announced);
    else
        err = check_quota(t, 0);
    if (err != SG_OK)
        return err;
    struct note n = {.id = t->job->id,
                     .source = source,
                     .start_over = source->offset == 0,
                     .filename = better_name(&t->row->f, source)};
    err = sg_db_write(t->svc->db, note_source, &n);
    if (err == SG_ERR_CONFLICT)
        return fail(t, SG_ERR_FETCH, false, "the source changed while it was fetched");
    if (err == SG_OK)
        t->has_size = t->has_size || source->has_size;
    return err;
}

/* ---- bytes ---- */

static enum sg_error commit(struct import_try *t)
{
    enum sg_error err = upload_append_commit(t->append);
    t->committed_ns = sg_clock_mono_ns();
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
    if (stopping(t->job))
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
    uint64_t now_ns = sg_clock_mono_ns();
    if (now_ns >= t->job->deadline_ns)
        return fail(t, SG_ERR_FETCH, false, "the import took longer than it may");
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
            .timeout_ms = (t->job->deadline_ns - now_ns + 999999) / 1000000,
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
        t->retry_after_ns = least(r.retry_after_ms, RETRY_AFTER_MAX_MS) * 1000000;
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
    struct sizing s = {.id = t->job->id, .size = upload_append_received(t->append)};
    if (err == SG_OK && s.size == 0)
        return fail(t, SG_ERR_UNPROCESSABLE, false, "the source is empty");
    if (err == SG_OK)
        err = sg_db_write(t->svc->db, write_size, &s);
    if (err == SG_OK && stopping(t->job))
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
    enum sg_error err = upload_get(t->svc, t->job->id, &t->row);
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
    snprintf(resource, sizeof resource, "upload/%s", t->job->id);
    snprintf(details, sizeof details, "{\"error\":\"%s\"}", sg_error_slug(why));
    struct failing f = {
        .move = {.id = t->job->id,
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
    sg_info_log("import", "import %s failed: %s", t->job->id, f.move.detail);
    upload_count_failed(SG_UPLOAD_IMPORT);
    upload_hash_forget(t->svc->uploads, t->job->id);
    if (sg_blob_discard(t->svc->blobs, t->job->id) != SG_OK)
        sg_warn_log("import", "staged file of %s stays until the next start", t->job->id);
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

/* Doubles with each failure; half of it by chance, so that many do not come back together. */
static uint64_t backoff_ns(const struct import_job *job)
{
    uint64_t whole = BACKOFF_FIRST_NS, chance;
    for (unsigned i = 1; i < job->failures && whole < BACKOFF_MAX_NS; i++)
        whole *= 2;
    whole = least(whole, BACKOFF_MAX_NS);
    sg_random(&chance, sizeof chance);
    return whole / 2 + chance % (whole / 2);
}

static bool settle(struct import_try *t, enum sg_error err, uint64_t *delay_ns)
{
    struct import_job *job = t->job;
    if (err == SG_OK || err == SG_ERR_NOT_FOUND || err == SG_ERR_GONE || stopping(job))
        return true;
    if (err == SG_ERR_SUPERSEDED) {
        /* By an abort; the next look at the row tells whether it succeeded. */
        *delay_ns = BACKOFF_FIRST_NS;
        return false;
    }
    uint64_t attempts = sg_config_uint(sg_services_config(t->svc), SG_SET_import_attempts);
    bool again = may_pass(t, err) && ++job->failures < attempts;
    if (!again && t->row != NULL && give_up(t, err) == SG_OK)
        return true;
    *delay_ns = backoff_ns(job);
    if (*delay_ns < t->retry_after_ns)
        *delay_ns = t->retry_after_ns;
    sg_info_log("import", "import %s: %s; again in %" PRIu64 " ms", job->id,
                t->why[0] != '\0' ? t->why : sg_error_title(err), *delay_ns / 1000000);
    return false;
}

bool upload_import_try(struct import_job *job, uint64_t *delay_ns)
{
    struct sg_services *svc = job->imports->svc;
    struct import_try t = {.job = job, .svc = svc};
    if (stopping(job))
        return true;
    if (job->deadline_ns == 0)
        job->deadline_ns = sg_clock_mono_ns() +
                           sg_config_uint(sg_services_config(svc), SG_SET_import_timeout) * 1000000;
    enum sg_error err = try_once(&t);
    bool done = settle(&t, err, delay_ns);
    upload_append_close(&t.append);
    sg_upload_free(&t.row);
    return done;
}
