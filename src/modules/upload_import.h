/* Imports by URL. An import is a job of its upload's id: the row of the upload says what there is,
 * and a job whose row is gone or settled is done. */
#ifndef UPLOAD_IMPORT_H
#define UPLOAD_IMPORT_H

#include "streamgate/layers/jobs.h"

#include "upload_session.h"

#define UPLOAD_IMPORT_NAME "import" /* of a file that nobody named */

/* upload_import_try.c: the handler, one try. arg: struct sg_services */
enum sg_error upload_import_run(struct sg_job_run *run, void *arg) SG_NODISCARD;
/* The addresses imports may reach beyond the public ones; NULL when none. Free with
 * sg_cidr_list_destroy. */
struct sg_cidr_list *upload_import_allowed(struct sg_services *svc);

#endif
