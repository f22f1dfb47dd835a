/* Files of assets: incoming/<id> while they arrive, assets/<last 2 of id>/<id>/source once they are
 * whole. Invariants: every id is parsed as a ULID before it becomes part of a path; what publish
 * acknowledged survives a power cut, the folders included; a published file is never written. */
#include "streamgate/store/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/fs.h"
#include "streamgate/base/str.h"

#define INCOMING "incoming"
#define ASSETS "assets"
#define SOURCE "source"
#define FILE_MODE 0600
#define FOLDER_MODE 0700
#define SHARD_LEN 2 /* the last characters of a ULID are random: shards fill evenly */
#define ULID_LEN (SG_ULID_SIZE - 1)
#define PATH_SIZE 64

#define SHARDS 65536 /* by the two characters themselves */

/* Thread-safe: the file system does the locking. */
struct sg_blob_store {
    int dirfd;
    _Atomic bool durable[SHARDS]; /* this shard's own name was synced since the start */
};

struct paths {
    char staged[PATH_SIZE]; /* incoming/<id> */
    char shard[PATH_SIZE];  /* assets/<xx> */
    char folder[PATH_SIZE]; /* assets/<xx>/<id> */
    char source[PATH_SIZE]; /* assets/<xx>/<id>/source */
};

static void join(char out[PATH_SIZE], const char *folder, const char *name)
{
    size_t a = strlen(folder), b = strlen(name); /* of our own constants and a checked id */
    memcpy(out, folder, a);
    out[a] = '/';
    memcpy(out + a + 1, name, b + 1);
}

static enum sg_error paths_of(const char *id, struct paths *p)
{
    uint8_t raw[16];
    if (sg_ulid_parse(id, raw))
        return SG_ERR_INVALID;
    join(p->staged, INCOMING, id);
    join(p->shard, ASSETS, id + ULID_LEN - SHARD_LEN);
    join(p->folder, p->shard, id);
    join(p->source, p->folder, SOURCE);
    return SG_OK;
}

enum sg_error sg_blob_store_create(int dirfd, struct sg_blob_store **out)
{
    enum sg_error err = sg_fs_mkdirs(dirfd, INCOMING);
    if (!err)
        err = sg_fs_mkdirs(dirfd, ASSETS);
    if (err)
        return err;
    struct sg_blob_store *s = calloc(1, sizeof(*s));
    if (!s)
        return SG_ERR_NO_MEMORY;
    s->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
    if (s->dirfd < 0) {
        err = sg_error_from_errno(errno);
        free(s);
        return err;
    }
    *out = s;
    return SG_OK;
}

void sg_blob_store_destroy(struct sg_blob_store **store)
{
    if (!*store)
        return;
    close((*store)->dirfd);
    free(*store);
    *store = NULL;
}

enum sg_error sg_blob_stage(struct sg_blob_store *s, const char *id, int *out_fd)
{
    struct paths p;
    enum sg_error err = paths_of(id, &p);
    return err ? err : sg_fs_open(s->dirfd, p.staged, O_RDWR | O_CREAT | O_EXCL, FILE_MODE, out_fd);
}

enum sg_error sg_blob_open_staged(struct sg_blob_store *s, const char *id, int *out_fd)
{
    struct paths p;
    enum sg_error err = paths_of(id, &p);
    return err ? err : sg_fs_open(s->dirfd, p.staged, O_RDWR, 0, out_fd);
}

enum sg_error sg_blob_sync_staged(struct sg_blob_store *s)
{
    return sg_fs_sync_dir(s->dirfd, INCOMING);
}

enum sg_error sg_blob_discard(struct sg_blob_store *s, const char *id)
{
    struct paths p;
    enum sg_error err = paths_of(id, &p);
    return err ? err : sg_fs_unlink(s->dirfd, p.staged);
}

/* Removes the empty folder `name` below the folder `path`. One that is not empty, or gone, stays
 * so: whoever put a file there owns it. */
static enum sg_error remove_folder(struct sg_blob_store *s, const char *path, const char *name)
{
    int fd = -1;
    enum sg_error err = sg_fs_open(s->dirfd, path, O_RDONLY | O_DIRECTORY, 0, &fd);
    if (err)
        return err == SG_ERR_NOT_FOUND ? SG_OK : err;
    if (unlinkat(fd, name, AT_REMOVEDIR) != 0 && errno != ENOENT && errno != ENOTEMPTY)
        err = sg_error_from_errno(errno);
    close(fd);
    return err;
}

/* A shard that exists may still be nobody's durable name: another thread made it this very moment,
 * or a run that was killed. So each is synced once by each run before anything counts on it. */
static enum sg_error make_shard(struct sg_blob_store *s, const struct paths *p, const char *id)
{
    const char *shard = id + ULID_LEN - SHARD_LEN;
    _Atomic bool *durable = &s->durable[(uint8_t)shard[0] << 8 | (uint8_t)shard[1]];
    if (atomic_load(durable))
        return SG_OK;
    enum sg_error err = sg_fs_mkdirs(s->dirfd, p->shard);
    if (!err)
        err = sg_fs_sync_dir(s->dirfd, ASSETS);
    if (!err)
        atomic_store(durable, true);
    return err;
}

/* The asset's folder, not synced yet. */
static enum sg_error make_folder(struct sg_blob_store *s, const struct paths *p, const char *id)
{
    int fd = -1;
    enum sg_error err = make_shard(s, p, id);
    if (!err)
        err = sg_fs_open(s->dirfd, p->shard, O_RDONLY | O_DIRECTORY, 0, &fd);
    if (err)
        return err;
    if (mkdirat(fd, id, FOLDER_MODE) != 0 && errno != EEXIST)
        err = sg_error_from_errno(errno);
    close(fd);
    return err;
}

/* Two syncs: of the folder, and of the shard that got the folder. That the name in incoming/ went
 * needs none: a file system that forgets it shows a file that the next start removes. */
static enum sg_error publish_at(struct sg_blob_store *s, const struct paths *p, const char *id)
{
    enum sg_error err = make_folder(s, p, id);
    if (!err)
        err = sg_fs_publish(s->dirfd, p->staged, p->source);
    return err ? err : sg_fs_sync_dir(s->dirfd, p->shard);
}

static enum sg_error exists(struct sg_blob_store *s, const char *path)
{
    int fd = -1;
    enum sg_error err = sg_fs_open(s->dirfd, path, O_PATH, 0, &fd);
    if (!err)
        close(fd);
    return err;
}

/* A publish that failed leaves no empty folder, and the file, when it was the sync after the rename
 * that failed, staged again: its bytes may have been acknowledged. What is left over all the same
 * is found at the next start. */
static void undo_publish(struct sg_blob_store *s, const struct paths *p, const char *id)
{
    enum sg_error err = SG_OK;
    if (exists(s, p->staged) == SG_ERR_NOT_FOUND)
        err = sg_fs_publish(s->dirfd, p->source, p->staged);
    if (!err)
        err = remove_folder(s, p->shard, id);
    (void)err;
}

enum sg_error sg_blob_publish(struct sg_blob_store *s, const char *id)
{
    struct paths p;
    enum sg_error err = paths_of(id, &p);
    if (!err)
        err = exists(s, p.staged); /* so that undoing never touches an older file of this id */
    if (err)
        return err;
    err = publish_at(s, &p, id);
    if (err && err != SG_ERR_EXISTS)
        undo_publish(s, &p, id);
    return err;
}

/* EPERM and EOPNOTSUPP: a file system without hard links. */
static enum sg_error link_error(int errnum)
{
    bool cannot = errnum == EMLINK || errnum == EPERM || errnum == EOPNOTSUPP;
    return cannot ? SG_ERR_UNAVAILABLE : sg_error_from_errno(errnum);
}

/* Both ends are names without a slash in folders the kernel resolved below the data directory. */
static enum sg_error link_source(struct sg_blob_store *s, const char *from_folder,
                                 const char *to_folder)
{
    int from_fd = -1, to_fd = -1;
    enum sg_error err = sg_fs_open(s->dirfd, from_folder, O_RDONLY | O_DIRECTORY, 0, &from_fd);
    if (err)
        return err;
    err = sg_fs_open(s->dirfd, to_folder, O_RDONLY | O_DIRECTORY, 0, &to_fd);
    if (!err) {
        if (linkat(from_fd, SOURCE, to_fd, SOURCE, 0) != 0)
            err = link_error(errno);
        close(to_fd);
    }
    close(from_fd);
    return err;
}

enum sg_error sg_blob_share(struct sg_blob_store *s, const char *id, const char *from)
{
    struct paths p, source;
    bool linked = false;
    enum sg_error err = paths_of(id, &p);
    if (!err)
        err = paths_of(from, &source);
    if (!err)
        err = exists(s, source.source); /* no folder is made for nothing */
    if (err)
        return err;
    err = make_folder(s, &p, id);
    if (!err)
        err = link_source(s, source.folder, p.folder);
    linked = !err;
    if (!err)
        err = sg_fs_sync_dir(s->dirfd, p.folder);
    if (!err)
        err = sg_fs_sync_dir(s->dirfd, p.shard);
    if (!err || err == SG_ERR_EXISTS)
        return err;
    enum sg_error undo = linked ? sg_fs_unlink(s->dirfd, p.source) : SG_OK;
    if (!undo)
        undo = remove_folder(s, p.shard, id);
    (void)undo; /* a file without a row is found at the next start */
    return err;
}

enum sg_error sg_blob_sync_published(struct sg_blob_store *s, const char *id)
{
    struct paths p;
    enum sg_error err = paths_of(id, &p);
    if (!err)
        err = make_shard(s, &p, id);
    if (!err)
        err = sg_fs_sync_dir(s->dirfd, p.folder);
    return err ? err : sg_fs_sync_dir(s->dirfd, p.shard);
}

enum sg_error sg_blob_open(struct sg_blob_store *s, const char *id, int *out_fd)
{
    struct paths p;
    enum sg_error err = paths_of(id, &p);
    return err ? err : sg_fs_open(s->dirfd, p.source, O_RDONLY, 0, out_fd);
}

enum sg_error sg_blob_remove(struct sg_blob_store *s, const char *id)
{
    struct paths p;
    enum sg_error err = paths_of(id, &p);
    if (!err)
        err = sg_fs_unlink(s->dirfd, p.source);
    if (!err)
        err = remove_folder(s, p.shard, id);
    if (!err)
        err = sg_fs_sync_dir(s->dirfd, p.shard);
    return err == SG_ERR_NOT_FOUND ? SG_OK : err; /* nothing of it was there */
}

enum sg_error sg_blob_space(struct sg_blob_store *s, uint64_t *out_free, uint64_t *out_total)
{
    return sg_fs_free_bytes(s->dirfd, out_free, out_total);
}

/* A walk over assets/<xx>/<id>; names that are not ours are passed over. */
struct walk {
    struct sg_blob_store *store;
    const char *shard; /* name of the one being walked */
    enum sg_error (*folder)(struct walk *w, const struct paths *p, const char *id);
    enum sg_error (*visit)(void *arg, const char *id);
    void *arg;
};

static enum sg_error walk_folder(void *arg, const char *name, bool is_dir)
{
    struct walk *w = arg;
    struct paths p;
    if (!is_dir || paths_of(name, &p) || strcmp(name + ULID_LEN - SHARD_LEN, w->shard) != 0)
        return SG_OK;
    return w->folder(w, &p, name);
}

static enum sg_error walk_shard(void *arg, const char *name, bool is_dir)
{
    struct walk *w = arg;
    if (!is_dir || strlen(name) != SHARD_LEN)
        return SG_OK;
    char path[PATH_SIZE];
    join(path, ASSETS, name);
    w->shard = name;
    return sg_fs_each(w->store->dirfd, path, walk_folder, w);
}

static enum sg_error visit_published(struct walk *w, const struct paths *p, const char *id)
{
    enum sg_error err = exists(w->store, p->source);
    if (err)
        return err == SG_ERR_NOT_FOUND ? SG_OK : err; /* a publish that did not get to its rename */
    return w->visit(w->arg, id);
}

enum sg_error sg_blob_each(struct sg_blob_store *s,
                           enum sg_error (*visit)(void *arg, const char *id), void *arg)
{
    struct walk w = {.store = s, .folder = visit_published, .visit = visit, .arg = arg};
    return sg_fs_each(s->dirfd, ASSETS, walk_shard, &w);
}

static enum sg_error clear_empty(struct walk *w, const struct paths *p, const char *id)
{
    return remove_folder(w->store, p->shard, id);
}

struct clearing {
    struct sg_blob_store *store;
    bool (*keep)(void *arg, const char *id); /* NULL: nothing is kept */
    void *arg;
    uint64_t removed;
};

static enum sg_error clear_file(void *arg, const char *name, bool is_dir)
{
    struct clearing *clearing = arg;
    struct paths p;
    if (is_dir || paths_of(name, &p))
        return SG_OK;
    if (clearing->keep && clearing->keep(clearing->arg, name))
        return SG_OK;
    enum sg_error err = sg_fs_unlink(clearing->store->dirfd, p.staged);
    if (!err)
        clearing->removed++;
    return err;
}

enum sg_error sg_blob_clear_staged(struct sg_blob_store *s, bool (*keep)(void *arg, const char *id),
                                   void *arg, uint64_t *removed)
{
    struct clearing clearing = {.store = s, .keep = keep, .arg = arg};
    enum sg_error err = sg_fs_each(s->dirfd, INCOMING, clear_file, &clearing);
    if (err)
        return err;
    struct walk w = {.store = s, .folder = clear_empty};
    err = sg_fs_each(s->dirfd, ASSETS, walk_shard, &w);
    if (!err)
        *removed = clearing.removed;
    return err;
}
