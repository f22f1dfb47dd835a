/* Imports under way: who waits for a thread, who waits to try again. Private to the import rows. A
 * job is only a reminder of a row (kind SG_UPLOAD_IMPORT, ACTIVE): a row that is gone or settled
 * ends its job. Thread-safe. */
#ifndef UPLOAD_IMPORT_H
#define UPLOAD_IMPORT_H

#include <pthread.h>
#include <stdatomic.h>

#include "upload_session.h"

#define UPLOAD_IMPORT_NAME "import" /* of a file that nobody named */

struct import_job {
    struct upload_imports *imports;
    struct import_job *next; /* among those that wait */
    char id[SG_ULID_SIZE];
    unsigned failures;    /* tries that ended with a transient error */
    uint64_t deadline_ns; /* monotonic, from the first try on; 0: not tried yet */
    uint64_t due_ns;      /* while it waits */
};

struct upload_imports {
    struct sg_services *svc;
    struct sg_pool *pool; /* NULL: imports are switched off */
    unsigned workers;
    _Atomic bool stopping;
    pthread_mutex_t lock; /* guards the rest */
    struct import_job *waiting;
    size_t jobs; /* all that were made */
};

enum sg_error upload_imports_create(struct sg_services *svc,
                                    struct upload_imports **out) SG_NODISCARD;
/* Breaks off what runs, at a place from which the next start goes on. NULL inside is fine. */
void upload_imports_destroy(struct upload_imports **imports);
/* A place for one more. UNAVAILABLE: as many as may wait do. NO_MEMORY. */
enum sg_error upload_import_reserve(struct upload_imports *imports,
                                    struct import_job **out) SG_NODISCARD;
/* Its row is there: runs it as soon as there is a thread. Takes the job. */
void upload_import_start(struct import_job *job, const char *id);
void upload_import_drop(struct import_job **job);
/* Imports that an earlier run of the daemon left. */
enum sg_error upload_imports_resume(struct upload_imports *imports) SG_NODISCARD;
/* Each second: those whose time to try again has come. */
void upload_imports_tick(struct upload_imports *imports);

/* One try (upload_import_try.c). true: the job is done, or its row is another's business now;
 * false: again after *delay_ns. */
bool upload_import_try(struct import_job *job, uint64_t *delay_ns);
/* The addresses imports may reach beyond the public ones; NULL when none. Free with
 * sg_cidr_list_destroy. */
struct sg_cidr_list *upload_import_allowed(struct sg_services *svc);

#endif
