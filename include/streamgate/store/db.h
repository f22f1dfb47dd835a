/* SQLite: one writer thread that commits in groups (many waiting writers, one transaction, one fsync), many readers (WAL, synchronous=FULL).
 * SQL stays on this floor: others hand in closures that call the stores. Thread-safe. Blocks: never call from an I/O thread. */
#ifndef STREAMGATE_STORE_DB_H
#define STREAMGATE_STORE_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/error.h"

struct sg_db;
struct sg_db_conn; /* a connection inside a transaction; good only during the closure */

struct sg_db_params {
    const char *path;    /* database file; its folder exists */
    unsigned readers;    /* reader connections; 0: 8 */
};

/* Opens, migrates to the newest schema, starts the writer thread ("db-writer"). Errors: IO, NO_MEMORY, NO_SPACE; a database newer than
 * this program is CONFLICT. */
enum sg_error sg_db_open(const struct sg_db_params *params, struct sg_db **out) SG_NODISCARD;
void sg_db_close(struct sg_db **db); /* runs queued writes, checkpoints, joins */

/* Runs fn inside the writer's transaction, in a savepoint of its own: an error from fn undoes only fn's work and is returned. SG_OK means
 * committed and synced. fn must be quick, must not block and must not call the db again. */
enum sg_error sg_db_write(struct sg_db *db, enum sg_error (*fn)(struct sg_db_conn *c, void *arg), void *arg) SG_NODISCARD;
/* Runs fn on a reader connection inside one snapshot. */
enum sg_error sg_db_read(struct sg_db *db, enum sg_error (*fn)(struct sg_db_conn *c, void *arg), void *arg) SG_NODISCARD;

/* Tells that rows were written to a table, by whatever means (triggers too): once for a commit, after it, on the writer's thread, so changed must be quick and must not use the
 * database. One watcher; NULL ends it, and when that returns changed is not called any more. The watch stays the caller's, table and all, for as long. */
struct sg_db_watch { const char *table; void (*changed)(void *arg); void *arg; };
enum sg_error sg_db_watch(struct sg_db *db, const struct sg_db_watch *watch) SG_NODISCARD;

/* A number that changes when keys or users change, by this process or another (the command line): a trigger keeps it. Reads one row. */
enum sg_error sg_db_identity_generation(struct sg_db *db, uint64_t *out) SG_NODISCARD;
/* Cheap self-test for readiness: a read and the writer's last result. */
enum sg_error sg_db_check(struct sg_db *db) SG_NODISCARD;

/* Small named values (secrets never; those are files). get: NOT_FOUND when absent; *out malloc'ed. */
enum sg_error sg_meta_get(struct sg_db_conn *c, const char *key, char **out) SG_NODISCARD;
enum sg_error sg_meta_set(struct sg_db_conn *c, const char *key, const char *value) SG_NODISCARD;

#endif
