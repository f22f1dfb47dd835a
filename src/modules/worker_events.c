/* GET /api/v1/jobs/{id}/events: what happens to a job, as Server-Sent Events. First `job`, the
 * whole of it, or, after a Last-Event-ID that is still known, what was missed; then `progress` and
 * `state` as they come; a final state is the last. Who comes back after that gets 204, which tells
 * an EventSource to stay away. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/json.h"
#include "streamgate/base/str.h"
#include "streamgate/http/event_stream.h"

#include "worker.h"

/* Belongs to the stream: freed when nobody reads it any more. */
struct reader {
    struct sg_jobs *jobs;
    struct sg_job_sub *sub;
};

static void reader_gone(void *arg)
{
    struct reader *r = arg;
    sg_jobs_unsubscribe(r->jobs, &r->sub);
    free(r);
}

static bool pass_on(void *arg, const struct sg_job_event *e)
{
    struct sg_event_stream *s = arg;
    const struct sg_event event = {e->seq, e->name, e->data};
    enum sg_error err = sg_event_stream_send(s, &event);
    return err == SG_OK && !e->final;
}

static void no_more(void *arg)
{
    struct sg_event_stream *s = arg;
    sg_event_stream_end(s);
    sg_event_stream_unref(s);
}

static enum sg_error send_job(struct sg_request *req, const struct sg_job *job, uint64_t seq,
                              struct sg_event_stream *s)
{
    json_t *o = worker_job_json(req->svc, job);
    char *text = o != NULL ? sg_json_dump(o, NULL) : NULL;
    json_decref(o);
    if (text == NULL)
        return SG_ERR_NO_MEMORY;
    const struct sg_event event = {seq, "job", text};
    enum sg_error err = sg_event_stream_send(s, &event);
    free(text);
    if (err != SG_OK || !sg_job_state_final(job->f.state))
        return err;
    const char *data = sg_arena_printf(req->arena, "{\"id\":\"%s\",\"state\":\"%s\"}", job->f.id,
                                       sg_job_state_name(job->f.state));
    if (data == NULL)
        return SG_ERR_NO_MEMORY;
    const struct sg_event last = {seq, "state", data};
    err = sg_event_stream_send(s, &last);
    sg_event_stream_end(s);
    return err;
}

static enum sg_error subscribe(const char *id, uint64_t after, struct reader *r,
                               struct sg_event_stream *s)
{
    const struct sg_job_sub_params p = {.job_id = id,
                                        .after_seq = after,
                                        .event = pass_on,
                                        .gone = no_more,
                                        .arg = sg_event_stream_ref(s)};
    enum sg_error err = sg_jobs_subscribe(r->jobs, &p, &r->sub);
    if (err != SG_OK)
        sg_event_stream_unref(s);
    return err;
}

static enum sg_error open_stream(struct sg_request *req, struct sg_event_stream **out,
                                 struct reader **reader)
{
    struct reader *r = calloc(1, sizeof *r);
    if (r == NULL)
        return SG_ERR_NO_MEMORY;
    r->jobs = req->svc->jobs;
    enum sg_error err = sg_event_stream_create(
        &(struct sg_event_stream_params){.closed = reader_gone, .arg = r}, out);
    if (err != SG_OK)
        free(r);
    else
        *reader = r;
    return err;
}

enum sg_error worker_events_get(struct sg_request *req, struct sg_response *res)
{
    const char *header = sg_request_header(req, "Last-Event-ID");
    uint64_t after = 0;
    bool resumes = header != NULL &&
                   sg_str_to_u64(header, strlen(header), UINT64_MAX - 1, &after) == SG_OK &&
                   sg_jobs_keeps_since(req->svc->jobs, after);
    /* Before the row is read: what comes after it is told by events. */
    uint64_t seq = sg_jobs_last_event(req->svc->jobs);
    struct sg_job *job = NULL;
    struct sg_event_stream *s = NULL;
    struct reader *r = NULL;
    enum sg_error err = worker_job_load(req, &job);
    if (err != SG_OK)
        return err;
    bool final = sg_job_state_final(job->f.state);
    if (final && resumes && !sg_jobs_has_since(req->svc->jobs, job->f.id, after)) {
        sg_response_empty(res, 204);
        goto out;
    }
    err = open_stream(req, &s, &r);
    if (err != SG_OK)
        goto out;
    if (!resumes)
        err = send_job(req, job, seq, s);
    if (err == SG_OK && (resumes || !final))
        err = subscribe(job->f.id, resumes ? after : seq, r, s);
    if (err == SG_OK) {
        sg_response_events(res, s);
    } else {
        sg_event_stream_close(s);
        sg_event_stream_unref(s);
    }
out:
    sg_job_free(&job);
    return err;
}
