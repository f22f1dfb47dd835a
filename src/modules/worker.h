/* What the files of the worker module share. */
#ifndef WORKER_H
#define WORKER_H

#include "streamgate/http/request.h"
#include "streamgate/http/response.h"
#include "streamgate/http/route.h"
#include "streamgate/layers/jobs.h"

/* worker_view.c: jobs and schedules as the API shows them; NULL: no memory. */
json_t *worker_job_json(struct sg_services *svc, const struct sg_job *job);
json_t *worker_schedule_json(const struct sg_schedule *s);
json_t *worker_page_json(json_t *items, const char *next_cursor); /* steals items */

/* worker_parse.c: the members that jobs and schedules have in common, in the arena. */
struct worker_wish {
    const struct sg_job_type *type;
    const char *payload;
    unsigned priority, max_attempts; /* 0: the type's */
};
/* Checks who asks, too. INVALID, FORBIDDEN with fail set. */
enum sg_error worker_wish_read(struct sg_request *req, const json_t *body,
                               struct worker_wish *out) SG_NODISCARD;

/* The job by the path's {id}, for its owner or an admin. Blocks. NOT_FOUND, FORBIDDEN with fail
 * set. */
enum sg_error worker_job_load(struct sg_request *req, struct sg_job **out) SG_NODISCARD;
/* Appends an audit event for a job or schedule to the transaction that changes it. */
struct worker_audit {
    struct sg_request *req;
    const char *action, *kind; /* "job.create", "job" */
};
enum sg_error worker_audit_run(struct sg_db_conn *c, void *arg, const char *id) SG_NODISCARD;

/* worker_events.c, worker_schedules.c: handlers */
enum sg_error worker_events_get(struct sg_request *req, struct sg_response *res);
enum sg_error worker_schedule_post(struct sg_request *req, struct sg_response *res);
enum sg_error worker_schedule_get(struct sg_request *req, struct sg_response *res);
enum sg_error worker_schedule_list(struct sg_request *req, struct sg_response *res);
enum sg_error worker_schedule_delete(struct sg_request *req, struct sg_response *res);

/* worker_types.c: registers expire, gc and backup. */
enum sg_error worker_types_register(struct sg_services *svc) SG_NODISCARD;

#endif
