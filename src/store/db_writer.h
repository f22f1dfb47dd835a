/* The writer thread: the only user of the write connection, committing in groups. Thread-safe. */
#ifndef STREAMGATE_STORE_DB_WRITER_H
#define STREAMGATE_STORE_DB_WRITER_H

#include "db_conn.h"

struct sg_db_writer;

/* Takes the connection on success only. */
enum sg_error sg_db_writer_create(struct sg_db_conn *conn, struct sg_db_writer **out) SG_NODISCARD;
/* Runs what is queued, joins, checkpoints and closes the connection. NULL is fine. */
void sg_db_writer_destroy(struct sg_db_writer **writer);
enum sg_error sg_db_writer_run(struct sg_db_writer *writer,
                               enum sg_error (*fn)(struct sg_db_conn *c, void *arg),
                               void *arg) SG_NODISCARD;
/* Whether the disk took the last writes: how the last group that wrote anything, or tried to,
 * ended. */
enum sg_error sg_db_writer_last(struct sg_db_writer *writer) SG_NODISCARD;

#endif
