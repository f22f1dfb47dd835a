/* The schema, as the ordered steps that lead to it. */
#ifndef STREAMGATE_STORE_MIGRATIONS_H
#define STREAMGATE_STORE_MIGRATIONS_H

#include "db_conn.h"

/* Brings the database to the newest schema in one transaction; safe while other processes do the
 * same. CONFLICT when the database is newer than this program. Uses the write connection. */
enum sg_error sg_db_migrate(struct sg_db_conn *c) SG_NODISCARD;
unsigned sg_db_schema_version(void);
/* The same up to an older step, which is where the database of an older program stands. */
enum sg_error sg_db_migrate_to(struct sg_db_conn *c, unsigned target) SG_NODISCARD;

#endif
