/* Schema step: an import is a job of its upload's id. When the job is cancelled or dead, nobody
 * fetches for the upload any more. Numbers are those of the enums (checked in upload_store.c). */
#ifndef STREAMGATE_STORE_SCHEMA_IMPORTS_H
#define STREAMGATE_STORE_SCHEMA_IMPORTS_H

static const char schema_imports[] =
    "CREATE TRIGGER imports_job_lost AFTER UPDATE OF state ON jobs"
    " WHEN NEW.state IN (4, 5) AND OLD.state < 2 AND NEW.type = 'import' BEGIN"
    " UPDATE uploads SET state = 3, error_slug = CASE NEW.state WHEN 4 THEN 'cancelled' ELSE"
    " NEW.error_slug END, error_detail = CASE NEW.state WHEN 4 THEN 'its job was cancelled' ELSE"
    " NEW.error_detail END, updated_ms = NEW.updated_ms WHERE id = NEW.id AND state = 0; END;";

#endif
