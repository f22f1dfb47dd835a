/* Putting the data directory in order before anything is served. */
#include "startup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/store/asset_store.h"
#include "streamgate/store/audit_store.h"
#include "streamgate/store/key_store.h"
#include "streamgate/store/rendition_store.h"
#include "streamgate/store/upload_store.h"

enum sg_error startup_lock(int data_dirfd, int *out_fd)
{
    int fd;
    enum sg_error err = sg_fs_open(data_dirfd, "daemon.lock", O_RDWR | O_CREAT, 0600, &fd);
    if (err != SG_OK)
        return err;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        sg_error_log("main", "another streamgate serves this data directory");
        return SG_ERR_UNAVAILABLE;
    }
    unsigned removed = 0;
    err = sg_fs_clear_temporaries(data_dirfd, &removed);
    if (err != SG_OK) {
        close(fd);
        return err;
    }
    if (removed > 0)
        sg_info_log("main", "removed %u half-written files of an earlier start", removed);
    *out_fd = fd;
    return SG_OK;
}

/* ---- reconciliation ---- */

struct id_list {
    char (*ids)[SG_ULID_SIZE];
    size_t n, cap;
};

static enum sg_error list_add(void *arg, const char *id)
{
    struct id_list *l = arg;
    if (l->n == l->cap) {
        size_t cap = l->cap != 0 ? 2 * l->cap : 256;
        void *grown = reallocarray(l->ids, cap, SG_ULID_SIZE);
        if (grown == NULL)
            return SG_ERR_NO_MEMORY;
        l->ids = grown;
        l->cap = cap;
    }
    memcpy(l->ids[l->n++], id, SG_ULID_SIZE);
    return SG_OK;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, SG_ULID_SIZE);
}

static void list_sort(struct id_list *l)
{
    if (l->n > 0)
        qsort(l->ids, l->n, SG_ULID_SIZE, compare_ids);
}

static bool list_has(const struct id_list *l, const char *id)
{
    return l->n > 0 && bsearch(id, l->ids, l->n, SG_ULID_SIZE, compare_ids) != NULL;
}

struct found {
    struct id_list rows, files;
    struct id_list renditions;     /* ready ones: the others have no file to keep */
    struct id_list uploads, begun; /* unfinished; those with acknowledged bytes */
};

struct row_lists {
    struct id_list *assets, *renditions;
};

static enum sg_error read_rows(struct sg_db_conn *c, void *arg)
{
    struct row_lists *rows = arg;
    enum sg_error err = sg_asset_each_id(c, list_add, rows->assets);
    return err == SG_OK ? sg_rendition_each_ready(c, list_add, rows->renditions) : err;
}

#define MISSING "its file is missing"
#define KEEP_FAILED_MS 86400000u /* how long whoever uploaded can read of it */

struct missing {
    const struct id_list *rows, *renditions, *files;
    size_t found;
};

/* Once: at the next start nothing about it has changed. */
static enum sg_error mark(struct sg_db_conn *c, const char *id)
{
    enum sg_error err = sg_asset_mark_failed(c, id, MISSING);
    if (err == SG_ERR_EXISTS)
        return SG_OK;
    if (err != SG_OK)
        return err;
    char resource[sizeof "asset/" - 1 + SG_ULID_SIZE] = "asset/";
    memcpy(resource + sizeof "asset/" - 1, id, SG_ULID_SIZE);
    return sg_audit_append(c, &(struct sg_audit_event){.event_type = "data",
                                                       .actor = "system",
                                                       .action = "asset.fail",
                                                       .resource = resource,
                                                       .result = "success",
                                                       .details = "{\"error\":\"" MISSING "\"}"});
}

static enum sg_error mark_missing(struct sg_db_conn *c, void *arg)
{
    struct missing *m = arg;
    for (size_t i = 0; i < m->rows->n; i++) {
        if (list_has(m->files, m->rows->ids[i]))
            continue;
        enum sg_error err = mark(c, m->rows->ids[i]);
        if (err != SG_OK)
            return err;
        m->found++;
    }
    for (size_t i = 0; i < m->renditions->n; i++) {
        if (list_has(m->files, m->renditions->ids[i]))
            continue;
        sg_warn_log("main", "rendition %s: %s", m->renditions->ids[i], MISSING);
        enum sg_error err = sg_rendition_mark_missing(c, m->renditions->ids[i], MISSING);
        if (err != SG_OK && err != SG_ERR_NOT_FOUND)
            return err;
    }
    return SG_OK;
}

/* What an unfinished upload may have: a staged file, or one that a completion had just put in its
 * place. Neither may go, as its bytes were acknowledged. */
static enum sg_error add_upload(void *arg, const struct sg_upload *u)
{
    struct found *found = arg;
    enum sg_error err = list_add(&found->uploads, u->f.id);
    return err == SG_OK && u->f.offset_bytes > 0 ? list_add(&found->begun, u->f.id) : err;
}

static enum sg_error read_uploads(struct sg_db_conn *c, void *arg)
{
    return sg_upload_each_open(c, add_upload, arg);
}

static enum sg_error reset_uploads(struct sg_db_conn *c, void *arg)
{
    return sg_upload_reset_processing(c, arg);
}

/* Nobody but an operator or a broken disk takes a file away whose bytes were acknowledged. */
static enum sg_error fail_upload(struct sg_db_conn *c, void *arg)
{
    uint64_t now = sg_clock_wall_ms();
    struct sg_upload_move move = {.id = arg,
                                  .from = SG_UPLOAD_ACTIVE,
                                  .to = SG_UPLOAD_FAILED,
                                  .slug = sg_error_slug(SG_ERR_IO),
                                  .detail = MISSING,
                                  .now_ms = now,
                                  .expires_ms = now + KEEP_FAILED_MS};
    return sg_upload_move(c, &move);
}

static enum sg_error check_begun(struct sg_db *db, struct sg_blob_store *blobs,
                                 const struct id_list *begun)
{
    enum sg_error err = SG_OK;
    for (size_t i = 0; i < begun->n && err == SG_OK; i++) {
        int fd = -1;
        err = sg_blob_open_staged(blobs, begun->ids[i], &fd);
        if (err == SG_ERR_NOT_FOUND)
            err = sg_blob_open(blobs, begun->ids[i], &fd);
        if (fd >= 0)
            close(fd);
        if (err == SG_ERR_NOT_FOUND) {
            sg_warn_log("main", "upload %s: %s", begun->ids[i], MISSING);
            err = sg_db_write(db, fail_upload, begun->ids[i]);
        }
    }
    return err;
}

static bool keep_staged(void *arg, const char *id)
{
    return list_has(arg, id);
}

static enum sg_error remove_orphans(struct sg_blob_store *blobs, const struct found *found,
                                    size_t *removed)
{
    const struct id_list *files = &found->files;
    for (size_t i = 0; i < files->n; i++) {
        if (list_has(&found->rows, files->ids[i]) || list_has(&found->uploads, files->ids[i]) ||
            list_has(&found->renditions, files->ids[i]))
            continue;
        enum sg_error err = sg_blob_remove(blobs, files->ids[i]);
        if (err != SG_OK)
            return err;
        (*removed)++;
    }
    return SG_OK;
}

/* A few files without a row are first uploads that were cut short; a whole library of them means
 * that the database was lost or replaced, and nothing is removed on its word. */
#define ORPHANS_BELIEVED 64

static bool knows_nothing(const struct found *found)
{
    return found->rows.n == 0 && found->uploads.n == 0 && found->files.n > ORPHANS_BELIEVED;
}

static enum sg_error find_all(struct sg_db *db, struct sg_blob_store *blobs, struct found *found)
{
    uint64_t reset = 0;
    enum sg_error err = sg_db_write(db, reset_uploads, &reset);
    if (err == SG_OK)
        err = sg_db_read(db, read_uploads, found);
    list_sort(&found->uploads);
    if (err == SG_OK)
        err = sg_db_read(db, read_rows, &(struct row_lists){&found->rows, &found->renditions});
    if (err == SG_OK)
        err = sg_blob_each(blobs, list_add, &found->files);
    list_sort(&found->rows);
    list_sort(&found->renditions);
    list_sort(&found->files);
    sg_metric_gauge_add(SG_METRIC_UPLOAD_OPEN, 0, (int64_t)found->uploads.n);
    return err;
}

enum sg_error startup_reconcile(struct sg_db *db, struct sg_blob_store *blobs)
{
    struct found found = {0};
    uint64_t staged = 0;
    size_t removed = 0;
    struct missing m = {
        .rows = &found.rows, .renditions = &found.renditions, .files = &found.files};
    enum sg_error err = find_all(db, blobs, &found);
    if (err == SG_OK)
        err = check_begun(db, blobs, &found.begun);
    if (err == SG_OK && knows_nothing(&found)) {
        sg_error_log("main",
                     "the database knows no asset, but there are %zu files of assets: is it the "
                     "right database? They are left alone",
                     found.files.n);
    } else if (err == SG_OK) {
        err = sg_blob_clear_staged(blobs, keep_staged, &found.uploads, &staged);
        if (err == SG_OK)
            err = remove_orphans(blobs, &found, &removed);
    }
    if (err == SG_OK)
        err = sg_db_write(db, mark_missing, &m);
    if (err == SG_OK)
        sg_info_log("main",
                    "%zu assets, %zu unfinished uploads; removed %" PRIu64
                    " bodies that were broken off and %zu files without an asset; %zu assets "
                    "without a file",
                    found.rows.n, found.uploads.n, staged, removed, m.found);
    free(found.rows.ids);
    free(found.renditions.ids);
    free(found.uploads.ids);
    free(found.begun.ids);
    free(found.files.ids);
    return err;
}

/* ---- the first key ---- */

struct first_key {
    int data_dirfd;
    bool made;
};

#define KEY_PAGE 200

/* Whether there ever was an admin's key; one that was revoked since counts. */
static enum sg_error had_admin(struct sg_db_conn *c, bool *out)
{
    char cursor[SG_ULID_SIZE] = "";
    bool found = false;
    for (size_t n = KEY_PAGE; n == KEY_PAGE && !found;) {
        struct sg_key *keys = NULL;
        enum sg_error err =
            sg_key_list(c, NULL, cursor[0] != '\0' ? cursor : NULL, KEY_PAGE, &keys, &n);
        if (err != SG_OK)
            return err;
        for (size_t i = 0; i < n && !found; i++)
            found = keys[i].role == SG_ROLE_ADMIN;
        if (n > 0)
            memcpy(cursor, keys[n - 1].id, SG_ULID_SIZE);
        free(keys);
    }
    *out = found;
    return SG_OK;
}

/* Wanted by the first start, even when the command line made keys before it, and by one that finds
 * no key left that works. */
static enum sg_error wants_first_key(struct sg_db_conn *c, bool *out)
{
    uint64_t count;
    bool had = false;
    enum sg_error err = sg_key_count(c, &count);
    if (err == SG_OK && count > 0)
        err = had_admin(c, &had);
    if (err == SG_OK)
        *out = !had;
    return err;
}

static enum sg_error create_first_key(struct sg_db_conn *c, char text[SG_KEY_SIZE])
{
    char name[SG_NAME_SIZE] = "admin";
    struct sg_key_params params = {.name = name, .user_name = "admin", .role = SG_ROLE_ADMIN};
    struct sg_key key;
    enum sg_error err = sg_key_create(c, &params, text, &key);
    if (err != SG_ERR_EXISTS)
        return err;
    /* Somebody gave a lesser key that name. */
    memcpy(name + strlen("admin"), "-", 1);
    sg_ulid_make(name + strlen("admin-"));
    return sg_key_create(c, &params, text, &key);
}

/* The file is written before the commit: a crash between leaves a file whose key does not exist,
 * and the next start writes it anew. */
static enum sg_error make_first_key(struct sg_db_conn *c, void *arg)
{
    struct first_key *f = arg;
    bool wanted = false;
    enum sg_error err = wants_first_key(c, &wanted);
    if (err != SG_OK || !wanted)
        return err;
    char text[SG_KEY_SIZE + 1];
    err = create_first_key(c, text);
    if (err != SG_OK)
        return err;
    size_t n = strlen(text);
    text[n] = '\n';
    err = sg_fs_write_file(f->data_dirfd, "admin.key", text, n + 1, 0600);
    sg_wipe(text, sizeof text);
    if (err != SG_OK)
        return err;
    f->made = true;
    return sg_audit_append(c, &(struct sg_audit_event){.event_type = "admin",
                                                       .actor = "system",
                                                       .action = "key.create",
                                                       .resource = "key/admin",
                                                       .result = "success"});
}

enum sg_error startup_admin_key(struct sg_db *db, int data_dirfd)
{
    struct first_key f = {.data_dirfd = data_dirfd};
    enum sg_error err = sg_db_write(db, make_first_key, &f);
    if (err == SG_OK && f.made)
        sg_info_log("main", "first start: an admin key is in admin.key of the data directory");
    return err;
}
