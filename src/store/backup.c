/* Backups by SQLite's online copy. The copy is made of one snapshot, so its pages and the list of
 * files belong together; writers go on meanwhile. Names that begin with a dot are unfinished ones.
 */
#include "streamgate/store/backup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/fs.h"
#include "streamgate/base/str.h"

#include "db_conn.h"

#define FOLDER "backups"
#define PART_DB FOLDER "/.part.db"
#define PART_FILES FOLDER "/.part.files"
#define STEP_PAGES 512
#define STEPS_BETWEEN_QUESTIONS 100000
#define NAMES_MAX 20000

struct copying {
    const struct sg_backup_params *p;
    sqlite3 *to;
};

/* A transaction has its snapshot from its first read on. Without one each step of the copy would
 * take its own, and begin anew whenever something was written in between. */
static enum sg_error take_snapshot(struct sg_db_conn *c)
{
    struct sg_stmt st;
    static const char sql[] = "SELECT count(*) FROM sqlite_schema";
    sg_stmt_open_text(&st, c, sql, sizeof(sql) - 1);
    return sg_stmt_run(&st);
}

static enum sg_error copy_pages(struct sg_db_conn *c, void *arg)
{
    struct copying *k = arg;
    enum sg_error err = take_snapshot(c);
    if (err)
        return err;
    sqlite3_backup *b = sqlite3_backup_init(k->to, "main", c->handle, "main");
    if (!b)
        return SG_ERR_NO_MEMORY;
    int rc;
    bool stopped = false;
    while (!stopped && (rc = sqlite3_backup_step(b, STEP_PAGES)) == SQLITE_OK) {
        uint64_t total = (uint64_t)sqlite3_backup_pagecount(b);
        stopped = k->p->stop(k->p->arg, total - (uint64_t)sqlite3_backup_remaining(b), total);
    }
    rc = sqlite3_backup_finish(b);
    if (stopped)
        return SG_ERR_CANCELLED;
    if (rc == SQLITE_OK)
        return SG_OK;
    struct sg_db_conn failed = {.handle = k->to};
    return sg_db_conn_error(&failed, rc);
}

static enum sg_error list_files(struct sg_db_conn *c, int fd, struct sg_backup_result *r)
{
    struct sg_stmt st;
    /* Sources that are in their place, also those that wait for their first rendition; renditions,
     * which no checksum is kept of: they can be made again. */
    static const char sql[] =
        "SELECT id, size_bytes, lower(hex(sha256)) FROM assets WHERE status = 3 OR (status = 2 AND"
        " EXISTS(SELECT 1 FROM asset_indexes WHERE asset_seq = seq))"
        " UNION ALL SELECT id, size_bytes, '' FROM renditions WHERE state = 1 ORDER BY 1";
    sg_stmt_open_text(&st, c, sql, sizeof(sql) - 1);
    while (sg_stmt_row(&st)) {
        char line[192];
        uint64_t size = sg_stmt_u64(&st, 1);
        const char *sha = sg_stmt_text(&st, 2);
        int n = snprintf(line, sizeof(line), "{\"id\":\"%s\",\"size\":%" PRIu64 "%s%s%s}\n",
                         sg_stmt_text(&st, 0), size, sha[0] ? ",\"sha256\":\"" : "", sha,
                         sha[0] ? "\"" : "");
        if (n < 0 || (size_t)n >= sizeof(line))
            st.err = SG_ERR_IO;
        else
            st.err = sg_fs_write_all(fd, line, (size_t)n);
        r->files++;
        r->file_bytes += size;
    }
    return sg_stmt_close(&st);
}

/* SQLite asks now and then, while it checks the copy. */
static int asks_to_stop(void *arg)
{
    const struct sg_backup_params *p = arg;
    return p->stop(p->arg, 1, 1);
}

/* One plain file, without a log beside it, that SQLite finds whole. */
static enum sg_error check_copy(struct sg_db_conn *copy)
{
    int rc = sqlite3_exec(copy->handle, "PRAGMA journal_mode=DELETE", NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return sg_db_conn_error(copy, rc);
    struct sg_stmt st;
    static const char sql[] = "PRAGMA quick_check(1)";
    sg_stmt_open_text(&st, copy, sql, sizeof(sql) - 1);
    bool whole = sg_stmt_row(&st) && strcmp(sg_stmt_text(&st, 0), "ok") == 0;
    enum sg_error err = sg_stmt_close(&st);
    return !err && !whole ? SG_ERR_IO : err;
}

static enum sg_error make_copy(const struct sg_backup_params *p, int files_fd,
                               struct sg_backup_result *r)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/" PART_DB, p->dirfd);
    struct sg_db_conn copy = {0};
    int rc = sqlite3_open_v2(path, &copy.handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    enum sg_error err = rc == SQLITE_OK ? SG_OK : sg_db_conn_error(&copy, rc);
    struct copying k = {p, copy.handle};
    if (!err)
        err = sg_db_read(p->db, copy_pages, &k);
    struct sg_backup_params asked = *p;
    sqlite3_progress_handler(copy.handle, STEPS_BETWEEN_QUESTIONS, asks_to_stop, &asked);
    if (!err)
        err = check_copy(&copy);
    if (err == SG_ERR_UNAVAILABLE && p->stop(p->arg, 1, 1))
        err = SG_ERR_CANCELLED;
    if (!err)
        err = list_files(&copy, files_fd, r);
    sqlite3_close_v2(copy.handle);
    return err;
}

static enum sg_error new_file(int dirfd, const char *path, int *fd)
{
    enum sg_error err = sg_fs_unlink(dirfd, path);
    return err ? err : sg_fs_open(dirfd, path, O_RDWR | O_CREAT | O_EXCL, 0600, fd);
}

static enum sg_error publish(const struct sg_backup_params *p, const struct sg_backup_result *r)
{
    char db[64], files[64];
    (void)snprintf(db, sizeof(db), FOLDER "/%s.db", r->name);
    (void)snprintf(files, sizeof(files), FOLDER "/%s.files", r->name);
    enum sg_error err = sg_fs_publish(p->dirfd, PART_FILES, files);
    return err ? err : sg_fs_publish(p->dirfd, PART_DB, db);
}

/* ---- old ones ---- */

struct names {
    char (*items)[40];
    size_t n;
};

static enum sg_error collect(void *arg, const char *name, bool is_dir)
{
    struct names *l = arg;
    size_t len = strlen(name);
    if (is_dir || name[0] == '.' || len < 4 || len - 3 >= sizeof(l->items[0]) ||
        strcmp(name + len - 3, ".db") != 0 || l->n == NAMES_MAX)
        return SG_OK;
    memcpy(l->items[l->n], name, len - 3);
    l->items[l->n++][len - 3] = '\0';
    return SG_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static enum sg_error remove_one(int dirfd, const char *name)
{
    char path[64];
    (void)snprintf(path, sizeof(path), FOLDER "/%s.db", name);
    enum sg_error err = sg_fs_unlink(dirfd, path);
    (void)snprintf(path, sizeof(path), FOLDER "/%s.files", name);
    return err ? err : sg_fs_unlink(dirfd, path);
}

static enum sg_error remove_old(const struct sg_backup_params *p, unsigned *removed)
{
    struct names l = {.items = calloc(NAMES_MAX, sizeof(*l.items))};
    if (!l.items)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = sg_fs_each(p->dirfd, FOLDER, collect, &l);
    qsort(l.items, l.n, sizeof(*l.items), by_name); /* names are times */
    for (size_t i = 0; !err && i + p->keep < l.n; i++) {
        err = remove_one(p->dirfd, l.items[i]);
        *removed += !err;
    }
    free(l.items);
    return err;
}

/* 20261121T191200.123Z */
static void make_name(char out[40])
{
    char time[SG_TIME_SIZE];
    sg_time_rfc3339(sg_clock_wall_ms(), time);
    size_t n = 0;
    for (const char *s = time; *s; s++)
        if (*s != '-' && *s != ':')
            out[n++] = *s;
    out[n] = '\0';
}

enum sg_error sg_backup_make(const struct sg_backup_params *p, struct sg_backup_result *out)
{
    struct sg_backup_result r = {0};
    int db_fd = -1, files_fd = -1;
    make_name(r.name);
    enum sg_error err = sg_fs_mkdirs(p->dirfd, FOLDER);
    if (!err)
        err = new_file(p->dirfd, PART_DB, &db_fd);
    if (!err)
        err = new_file(p->dirfd, PART_FILES, &files_fd);
    if (err)
        goto out;
    /* Closed before SQLite opens the file: closing it later would drop SQLite's locks. */
    close(db_fd);
    db_fd = -1;
    err = make_copy(p, files_fd, &r);
    if (!err)
        err = sg_fs_fdatasync(files_fd);
    if (!err)
        err = sg_fs_open(p->dirfd, PART_DB, O_RDWR, 0, &db_fd);
    if (!err)
        err = sg_fs_fdatasync(db_fd);
    if (!err)
        err = sg_fs_size(db_fd, &r.db_bytes);
    if (!err)
        err = publish(p, &r);
    if (!err)
        err = remove_old(p, &r.removed);
out:
    if (db_fd >= 0)
        close(db_fd);
    if (files_fd >= 0)
        close(files_fd);
    if (err) {
        enum sg_error gone = sg_fs_unlink(p->dirfd, PART_DB);
        if (!gone)
            gone = sg_fs_unlink(p->dirfd, PART_FILES);
        (void)gone; /* the next backup removes what is left */
    } else {
        *out = r;
    }
    return err;
}
