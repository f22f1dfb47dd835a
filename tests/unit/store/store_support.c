#include "store_support.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int scratch_setup(void **state)
{
    struct scratch *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    snprintf(s->dir, sizeof(s->dir), "%s", "/tmp/sg-store-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->path, sizeof(s->path), "%s/test.db", s->dir);
    s->dirfd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(s->dirfd >= 0);
    *state = s;
    return 0;
}

int scratch_setup_db(void **state)
{
    scratch_setup(state);
    struct scratch *s = *state;
    struct sg_db_params params = {.path = s->path, .readers = 3};
    assert_int_equal(sg_db_open(&params, &s->db), SG_OK);
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int scratch_teardown(void **state)
{
    struct scratch *s = *state;
    sg_db_close(&s->db);
    close(s->dirfd);
    nftw(s->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(s);
    return 0;
}

static enum sg_error exec_closure(struct sg_db_conn *c, void *arg)
{
    char *why = NULL;
    int rc = sqlite3_exec(c->handle, arg, NULL, NULL, &why);
    if (rc != SQLITE_OK)
        print_error("%s: %s\n", (const char *)arg, why);
    sqlite3_free(why);
    return rc == SQLITE_OK ? SG_OK : sg_db_conn_error(c, rc);
}

void run_sql(struct sg_db *db, const char *sql)
{
    union {
        const char *in;
        void *arg;
    } u = {.in = sql};
    assert_int_equal(sg_db_write(db, exec_closure, u.arg), SG_OK);
}

struct number_query {
    const char *sql;
    uint64_t out;
};

static enum sg_error number_closure(struct sg_db_conn *c, void *arg)
{
    struct number_query *q = arg;
    struct sg_stmt st;
    sg_stmt_open_text(&st, c, q->sql, strlen(q->sql));
    q->out = sg_stmt_row(&st) ? sg_stmt_u64(&st, 0) : UINT64_MAX;
    return sg_stmt_close(&st);
}

uint64_t query_u64(struct sg_db *db, const char *sql)
{
    struct number_query q = {.sql = sql};
    assert_int_equal(sg_db_read(db, number_closure, &q), SG_OK);
    return q.out;
}
