/* The jobs of imports. One that waits to try again takes no thread: it stands in a list that the
 * module's tick looks through. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"

#include "upload_import.h"

enum sg_error upload_imports_create(struct sg_services *svc, struct upload_imports **out)
{
    struct upload_imports *m = calloc(1, sizeof *m);
    if (m == NULL)
        return SG_ERR_NO_MEMORY;
    m->svc = svc;
    m->workers = (unsigned)sg_config_uint(sg_services_config(svc), SG_SET_import_workers);
    pthread_mutex_init(&m->lock, NULL);
    enum sg_error err = SG_OK;
    if (m->workers > 0)
        err = sg_pool_create(&(struct sg_pool_params){.name = "import", .threads = m->workers},
                             &m->pool);
    if (err != SG_OK)
        upload_imports_destroy(&m);
    else
        *out = m;
    return err;
}

void upload_imports_destroy(struct upload_imports **imports)
{
    struct upload_imports *m = *imports;
    if (m == NULL)
        return;
    *imports = NULL;
    atomic_store(&m->stopping, true);
    sg_pool_destroy(&m->pool);
    while (m->waiting != NULL) {
        struct import_job *job = m->waiting;
        m->waiting = job->next;
        free(job);
    }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static enum sg_error make_job(struct upload_imports *m, size_t max, struct import_job **out)
{
    struct import_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return SG_ERR_NO_MEMORY;
    job->imports = m;
    pthread_mutex_lock(&m->lock);
    bool room = m->jobs < max;
    m->jobs += room;
    pthread_mutex_unlock(&m->lock);
    if (!room) {
        free(job);
        return SG_ERR_UNAVAILABLE;
    }
    *out = job;
    return SG_OK;
}

enum sg_error upload_import_reserve(struct upload_imports *m, struct import_job **out)
{
    uint64_t queued = sg_config_uint(sg_services_config(m->svc), SG_SET_import_max_queued);
    return make_job(m, m->workers + queued, out);
}

void upload_import_drop(struct import_job **job)
{
    if (*job == NULL)
        return;
    struct upload_imports *m = (*job)->imports;
    free(*job);
    *job = NULL;
    pthread_mutex_lock(&m->lock);
    m->jobs--;
    pthread_mutex_unlock(&m->lock);
}

static void wait_until(struct import_job *job, uint64_t due_ns)
{
    struct upload_imports *m = job->imports;
    job->due_ns = due_ns;
    pthread_mutex_lock(&m->lock);
    job->next = m->waiting;
    m->waiting = job;
    pthread_mutex_unlock(&m->lock);
}

static void run(void *arg)
{
    struct import_job *job = arg;
    uint64_t delay_ns = 0;
    if (atomic_load(&job->imports->stopping) || upload_import_try(job, &delay_ns))
        upload_import_drop(&job);
    else
        wait_until(job, sg_clock_mono_ns() + delay_ns);
}

static void submit(struct import_job *job)
{
    if (sg_pool_submit(job->imports->pool, run, job) != SG_OK)
        wait_until(job, sg_clock_mono_ns()); /* the next tick tries again */
}

void upload_import_start(struct import_job *job, const char *id)
{
    memcpy(job->id, id, strnlen(id, SG_ULID_SIZE - 1));
    submit(job);
}

/* Takes out what is due. */
static struct import_job *take_due(struct upload_imports *m, uint64_t now_ns)
{
    struct import_job *due = NULL;
    pthread_mutex_lock(&m->lock);
    for (struct import_job **at = &m->waiting; *at != NULL;) {
        struct import_job *job = *at;
        if (job->due_ns > now_ns) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        job->next = due;
        due = job;
    }
    pthread_mutex_unlock(&m->lock);
    return due;
}

void upload_imports_tick(struct upload_imports *m)
{
    if (m == NULL || m->pool == NULL)
        return;
    for (struct import_job *job = take_due(m, sg_clock_mono_ns()), *next; job != NULL; job = next) {
        next = job->next;
        submit(job);
    }
}

/* ---- what an earlier run left ---- */

struct resumption {
    struct upload_imports *m;
    struct import_job *jobs;
    size_t n;
};

static enum sg_error visit_open(void *arg, const struct sg_upload *u)
{
    struct resumption *r = arg;
    struct import_job *job;
    if (u->f.kind != SG_UPLOAD_IMPORT)
        return SG_OK;
    /* However many: they were accepted. */
    enum sg_error err = make_job(r->m, SIZE_MAX, &job);
    if (err != SG_OK)
        return err;
    memcpy(job->id, u->f.id, SG_ULID_SIZE);
    job->next = r->jobs;
    r->jobs = job;
    r->n++;
    return SG_OK;
}

static enum sg_error read_open(struct sg_db_conn *c, void *arg)
{
    return sg_upload_each_open(c, visit_open, arg);
}

enum sg_error upload_imports_resume(struct upload_imports *m)
{
    struct resumption r = {.m = m};
    if (m->pool == NULL)
        return SG_OK;
    enum sg_error err = sg_db_read(m->svc->db, read_open, &r);
    for (struct import_job *job = r.jobs, *next; job != NULL; job = next) {
        next = job->next;
        if (err == SG_OK)
            submit(job);
        else
            upload_import_drop(&job);
    }
    if (err == SG_OK && r.n > 0)
        sg_info_log("import", "%zu imports of an earlier run go on", r.n);
    return err;
}
