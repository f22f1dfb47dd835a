/* One SQLite connection and its prepared statements, shared by the files of this floor. A
 * connection is used by one thread at a time; who may use which is db.c's and db_writer.c's
 * business. */
#ifndef STREAMGATE_STORE_DB_CONN_H
#define STREAMGATE_STORE_DB_CONN_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/store/db.h"

/* More than the floor has statements, so that in practice none is ever prepared twice. */
#define SG_DB_STATEMENTS 192

struct sg_db_conn {
    sqlite3 *handle;
    struct {
        const char *sql; /* the literal itself is the key: same pointer, same statement */
        sqlite3_stmt *stmt;
    } cache[SG_DB_STATEMENTS];
    unsigned next_victim;
    const struct sg_db_watch *watch; /* the writer's connection: who is told, or NULL */
    bool touched;                    /* the watched table, since somebody was told */
};

enum sg_db_role { SG_DB_WRITER, SG_DB_READER };

/* Opens and configures. The writer creates the file (0600) when it is missing. */
enum sg_error sg_db_conn_open(const char *path, enum sg_db_role role,
                              struct sg_db_conn **out) SG_NODISCARD;
void sg_db_conn_close(struct sg_db_conn **conn);
/* What the connection's last failure means to a caller. Never SG_OK. */
enum sg_error sg_db_conn_error(struct sg_db_conn *c, int rc) SG_NODISCARD;
/* Runs one statement without parameters and rows; sql is a literal and cached. */
enum sg_error sg_db_conn_run(struct sg_db_conn *c, const char *sql) SG_NODISCARD;
/* Who watches this connection's writes from now on, or NULL. */
void sg_db_conn_watch(struct sg_db_conn *c, const struct sg_db_watch *watch);
/* After a commit. What a rolled back closure wrote may be told too. */
void sg_db_conn_tell(struct sg_db_conn *c);
/* False once SQLite has rolled the transaction back by itself (full disk, I/O error). */
bool sg_db_conn_in_transaction(struct sg_db_conn *c);

/* A statement being used. Parameters are bound in order; text and blobs must live until the end.
 * The first error sticks: later calls do nothing, and run/close report it. */
struct sg_stmt {
    struct sg_db_conn *conn;
    sqlite3_stmt *stmt;
    int bound;
    bool cached;
    enum sg_error err;
};
void sg_stmt_open(struct sg_stmt *st, struct sg_db_conn *c, const char *literal);
void sg_stmt_open_text(struct sg_stmt *st, struct sg_db_conn *c, const char *sql, size_t len);
void sg_stmt_bind_u64(struct sg_stmt *st, uint64_t v);     /* beyond INT64_MAX: INVALID */
void sg_stmt_bind_text(struct sg_stmt *st, const char *s); /* NULL binds NULL */
void sg_stmt_bind_text_len(struct sg_stmt *st, const char *s, size_t len);
void sg_stmt_bind_blob(struct sg_stmt *st, const void *p, size_t len);
bool sg_stmt_row(struct sg_stmt *st); /* true: a row is there; false: the end, or an error */
uint64_t sg_stmt_u64(struct sg_stmt *st, int col);
const char *sg_stmt_text(struct sg_stmt *st, int col); /* never NULL; good until the next row */
/* len bytes of a blob; another length is an I/O error: the row is not one that was written here. */
void sg_stmt_blob(struct sg_stmt *st, int col, void *out, size_t len);
enum sg_error sg_stmt_close(struct sg_stmt *st) SG_NODISCARD;
/* Steps to the end and closes. */
enum sg_error sg_stmt_run(struct sg_stmt *st) SG_NODISCARD;
/* The same; NOT_FOUND when no row changed. */
enum sg_error sg_stmt_run_changing(struct sg_stmt *st) SG_NODISCARD;

#endif
