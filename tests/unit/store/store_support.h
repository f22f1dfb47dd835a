/* What the store's tests share: a scratch folder, a database in it, raw SQL through both doors. */
#ifndef TESTS_UNIT_STORE_SUPPORT_H
#define TESTS_UNIT_STORE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* clang-format off: cmocka.h wants those before it */
#include <cmocka.h>
/* clang-format on */

#include "streamgate/store/db.h"

#include "db_conn.h"

struct scratch {
    char dir[64];
    char path[96]; /* of the database */
    int dirfd;
    struct sg_db *db;
};

/* cmocka set-up and tear-down: *state is a struct scratch; _db opens its database too. */
int scratch_setup(void **state);
int scratch_setup_db(void **state);
int scratch_teardown(void **state);

/* Runs SQL in a write of its own, as somebody with the file in his hands might. */
void run_sql(struct sg_db *db, const char *sql);
/* The first column of the first row, as a number. */
uint64_t query_u64(struct sg_db *db, const char *sql);

#endif
