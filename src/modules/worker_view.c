/* Jobs and schedules as JSON. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/json.h"

#include "worker.h"

static json_t *time_or_null(uint64_t ms)
{
    char text[SG_TIME_SIZE];
    if (ms == 0)
        return json_null();
    sg_time_rfc3339(ms, text);
    return json_string(text);
}

static json_t *text_or_null(const char *s)
{
    return s[0] != '\0' ? json_string(s) : json_null();
}

/* Text that was JSON when it was stored. */
static json_t *parsed_or_null(const char *s)
{
    json_t *value = NULL;
    if (s[0] == '\0' || sg_json_parse(s, strlen(s), &value, NULL) != SG_OK)
        return json_null();
    return value;
}

static json_t *error_json(const struct sg_job_fields *f)
{
    if (f->error_slug[0] == '\0')
        return json_null();
    return json_pack("{s:o, s:s}", "type", json_sprintf("urn:streamgate:problem:%s", f->error_slug),
                     "detail", f->error_detail);
}

json_t *worker_job_json(struct sg_services *svc, const struct sg_job *job)
{
    const struct sg_job_fields *f = &job->f;
    char *live = f->state == SG_JOB_RUNNING ? sg_jobs_progress(svc->jobs, f->id) : NULL;
    json_t *out = json_pack(
        "{s:s, s:s, s:s, s:o, s:i, s:i, s:i, s:i, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id",
        f->id, "type", f->type, "state", sg_job_state_name(f->state), "payload",
        parsed_or_null(f->payload), "priority", (int)f->priority, "attempts", (int)f->attempts,
        "max_attempts", (int)f->max_attempts, "crashes", (int)f->crashes, "cancel_requested",
        f->cancel, "owner", text_or_null(f->owner), "asset_id", text_or_null(f->asset_id),
        "schedule_id", text_or_null(f->schedule_id), "depends_on", parsed_or_null(f->depends_on),
        "progress", parsed_or_null(live ? live : f->progress), "result", parsed_or_null(f->result),
        "error", error_json(f));
    free(live);
    int bad = out == NULL;
    bad |= json_object_set_new(out, "run_at", time_or_null(f->run_at_ms));
    bad |= json_object_set_new(out, "created_at", time_or_null(f->created_ms));
    bad |= json_object_set_new(out, "updated_at", time_or_null(f->updated_ms));
    bad |= json_object_set_new(out, "started_at", time_or_null(f->started_ms));
    bad |= json_object_set_new(out, "finished_at", time_or_null(f->finished_ms));
    if (bad) {
        json_decref(out);
        return NULL;
    }
    return out;
}

json_t *worker_schedule_json(const struct sg_schedule *s)
{
    const struct sg_schedule_fields *f = &s->f;
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:i, s:i, s:s, s:o, s:o, s:o, s:o, s:o}", "id",
                     f->id, "type", f->type, "cron", f->cron, "time_zone", f->zone, "payload",
                     parsed_or_null(f->payload), "priority", (int)f->priority, "max_attempts",
                     (int)f->max_attempts, "missed", sg_missed_name(f->missed), "owner",
                     text_or_null(f->owner), "next_run_at", time_or_null(f->next_ms), "last_run_at",
                     time_or_null(f->last_ms), "last_job_id", text_or_null(f->last_job),
                     "created_at", time_or_null(f->created_ms));
}

json_t *worker_page_json(json_t *items, const char *next_cursor)
{
    if (items == NULL)
        return NULL;
    return json_pack("{s:o, s:o}", "items", items, "next_cursor",
                     next_cursor ? json_string(next_cursor) : json_null());
}
