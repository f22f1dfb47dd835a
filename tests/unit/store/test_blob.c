/* Files: staging, publishing, removal, what a start finds. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/fs.h"
#include "streamgate/store/blob.h"

#include "store_support.h"

/* Faults: these stand before the C library's own. */
static int link_errno;      /* linkat fails with it; 0: works */
static int syncs_left = -1; /* fsync works this many times, then fails; below 0: always works */

int linkat(int fromfd, const char *from, int tofd, const char *to, int flags)
{
    if (link_errno) {
        errno = link_errno;
        return -1;
    }
    return (int)syscall(SYS_linkat, fromfd, from, tofd, to, flags);
}

int fsync(int fd)
{
    if (syncs_left == 0) {
        errno = EIO;
        return -1;
    }
    syncs_left -= syncs_left > 0;
    return (int)syscall(SYS_fsync, fd);
}

struct fixture {
    struct scratch *s;
    struct sg_blob_store *store;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    void *scratch = NULL;
    scratch_setup(&scratch);
    f->s = scratch;
    assert_int_equal(sg_blob_store_create(f->s->dirfd, &f->store), SG_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    void *scratch = f->s;
    sg_blob_store_destroy(&f->store);
    assert_null(f->store);
    scratch_teardown(&scratch);
    free(f);
    return 0;
}

static void stage(struct fixture *f, const char *id, const char *content)
{
    int fd = -1;
    assert_int_equal(sg_blob_stage(f->store, id, &fd), SG_OK);
    assert_int_equal(sg_fs_write_all(fd, content, strlen(content)), SG_OK);
    assert_int_equal(sg_fs_fdatasync(fd), SG_OK);
    close(fd);
}

static void assert_content(int fd, const char *content)
{
    char buf[64] = {0};
    assert_int_equal(pread(fd, buf, sizeof(buf) - 1, 0), strlen(content));
    assert_string_equal(buf, content);
}

static bool has(struct fixture *f, const char *path)
{
    return faccessat(f->s->dirfd, path, F_OK, 0) == 0;
}

static void source_path(const char *id, char out[96])
{
    snprintf(out, 96, "assets/%s/%s/source", id + 24, id);
}

static void published_file_is_the_staged_one(void **state)
{
    struct fixture *f = *state;
    char id[SG_ULID_SIZE], path[96];
    int fd = -1;
    sg_ulid_make(id);
    source_path(id, path);
    stage(f, id, "film");
    assert_int_equal(sg_blob_open(f->store, id, &fd), SG_ERR_NOT_FOUND);
    assert_int_equal(fd, -1);
    assert_int_equal(sg_blob_publish(f->store, id), SG_OK);
    assert_true(has(f, path));
    assert_int_equal(sg_blob_open(f->store, id, &fd), SG_OK);
    assert_content(fd, "film");
    assert_int_equal(write(fd, "x", 1), -1); /* read-only */
    assert_int_equal(sg_blob_remove(f->store, id), SG_OK);
    assert_content(fd, "film"); /* a reader keeps what it has open */
    close(fd);
    assert_false(has(f, path));
    *strrchr(path, '/') = '\0';
    assert_false(has(f, path));
    assert_int_equal(sg_blob_remove(f->store, id), SG_OK);
}

static void staging_twice_and_discarding(void **state)
{
    struct fixture *f = *state;
    char id[SG_ULID_SIZE];
    int fd = -1;
    sg_ulid_make(id);
    stage(f, id, "a");
    assert_int_equal(sg_blob_stage(f->store, id, &fd), SG_ERR_EXISTS);
    assert_int_equal(sg_blob_discard(f->store, id), SG_OK);
    assert_int_equal(sg_blob_discard(f->store, id), SG_OK);
    assert_int_equal(sg_blob_stage(f->store, id, &fd), SG_OK);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    close(fd);
}

static void publishing_never_replaces(void **state)
{
    struct fixture *f = *state;
    char id[SG_ULID_SIZE];
    int fd = -1;
    sg_ulid_make(id);
    assert_int_equal(sg_blob_publish(f->store, id), SG_ERR_NOT_FOUND);
    stage(f, id, "first");
    assert_int_equal(sg_blob_publish(f->store, id), SG_OK);
    assert_int_equal(sg_blob_publish(f->store, id), SG_ERR_NOT_FOUND);
    stage(f, id, "second");
    assert_int_equal(sg_blob_publish(f->store, id), SG_ERR_EXISTS);
    assert_int_equal(sg_blob_open(f->store, id, &fd), SG_OK);
    assert_content(fd, "first");
    close(fd);
}

/* A file where a folder must be makes the publish fail half-way; the staged file stays for a retry.
 */
static void failed_publish_leaves_no_folder(void **state)
{
    struct fixture *f = *state;
    char id[SG_ULID_SIZE], shard[96];
    sg_ulid_make(id);
    stage(f, id, "film");
    snprintf(shard, sizeof(shard), "assets/%s", id + 24);
    int fd = openat(f->s->dirfd, shard, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_not_equal(sg_blob_publish(f->store, id), SG_OK);
    assert_int_equal(unlinkat(f->s->dirfd, shard, 0), 0);
    assert_int_equal(sg_blob_publish(f->store, id), SG_OK);
}

static void ids_that_are_not_ulids_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {
        "",
        ".",
        "..",
        "../../etc/passwd",
        "01ARZ3NDEKTSV4RRFFQ69G5FA",
        "01ARZ3NDEKTSV4RRFFQ69G5FAVX",
        "01arz3ndektsv4rrffq69g5fav",
        "01ARZ3NDEKTSV4RRFFQ69G5F/V",
        "01ARZ3NDEKTSV4RRFFQ69G5FA\n",
        "../../../../../../../aaaaa",
    };
    char good[SG_ULID_SIZE];
    sg_ulid_make(good);
    int fd = -1;
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        assert_int_equal(sg_blob_stage(f->store, bad[i], &fd), SG_ERR_INVALID);
        assert_int_equal(sg_blob_discard(f->store, bad[i]), SG_ERR_INVALID);
        assert_int_equal(sg_blob_publish(f->store, bad[i]), SG_ERR_INVALID);
        assert_int_equal(sg_blob_open(f->store, bad[i], &fd), SG_ERR_INVALID);
        assert_int_equal(sg_blob_remove(f->store, bad[i]), SG_ERR_INVALID);
        assert_int_equal(sg_blob_open_staged(f->store, bad[i], &fd), SG_ERR_INVALID);
        assert_int_equal(sg_blob_share(f->store, bad[i], good), SG_ERR_INVALID);
        assert_int_equal(sg_blob_share(f->store, good, bad[i]), SG_ERR_INVALID);
    }
    assert_int_equal(fd, -1);
}

struct visited {
    unsigned n;
    unsigned stop_at;
    char last[SG_ULID_SIZE];
};

static enum sg_error count_visit(void *arg, const char *id)
{
    struct visited *v = arg;
    memcpy(v->last, id, SG_ULID_SIZE);
    return ++v->n == v->stop_at ? SG_ERR_CANCELLED : SG_OK;
}

static void symlinks_are_not_followed(void **state)
{
    struct fixture *f = *state;
    char id[SG_ULID_SIZE], path[96];
    int fd = -1;
    sg_ulid_make(id);
    snprintf(path, sizeof(path), "incoming/%s", id);
    assert_int_equal(symlinkat("/etc/passwd", f->s->dirfd, path), 0);
    assert_int_not_equal(sg_blob_stage(f->store, id, &fd), SG_OK);
    assert_int_equal(sg_blob_open_staged(f->store, id, &fd), SG_ERR_FORBIDDEN);
    assert_int_equal(sg_blob_discard(f->store, id), SG_OK);
    stage(f, id, "x");
    assert_int_equal(sg_blob_publish(f->store, id), SG_OK);
    source_path(id, path);
    assert_int_equal(unlinkat(f->s->dirfd, path, 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", f->s->dirfd, path), 0);
    assert_int_not_equal(sg_blob_open(f->store, id, &fd), SG_OK);
    assert_int_equal(fd, -1);
    char other[SG_ULID_SIZE];
    sg_ulid_make(other);
    assert_int_equal(sg_blob_share(f->store, other, id), SG_ERR_FORBIDDEN);
}

static void staged_file_is_opened_again(void **state)
{
    struct fixture *f = *state;
    char id[SG_ULID_SIZE];
    int fd = -1;
    sg_ulid_make(id);
    assert_int_equal(sg_blob_open_staged(f->store, id, &fd), SG_ERR_NOT_FOUND);
    assert_int_equal(fd, -1);
    stage(f, id, "fi");
    assert_int_equal(sg_blob_open_staged(f->store, id, &fd), SG_OK);
    assert_int_equal(sg_fs_pwrite_all(fd, "lm", 2, 2), SG_OK);
    assert_content(fd, "film");
    close(fd);
    assert_int_equal(sg_blob_publish(f->store, id), SG_OK);
    assert_int_equal(sg_blob_open(f->store, id, &fd), SG_OK);
    assert_content(fd, "film");
    close(fd);
    assert_int_equal(sg_blob_open_staged(f->store, id, &fd), SG_ERR_NOT_FOUND);
}

static uint64_t links_of(struct fixture *f, const char *id)
{
    struct stat st;
    int fd = -1;
    assert_int_equal(sg_blob_open(f->store, id, &fd), SG_OK);
    assert_int_equal(fstat(fd, &st), 0);
    assert_content(fd, "film");
    close(fd);
    return st.st_nlink;
}

static void shared_file_lives_as_long_as_one_name(void **state)
{
    struct fixture *f = *state;
    char a[SG_ULID_SIZE], b[SG_ULID_SIZE], c[SG_ULID_SIZE];
    int fd = -1;
    sg_ulid_make(a);
    sg_ulid_make(b);
    sg_ulid_make(c);
    stage(f, a, "film");
    assert_int_equal(sg_blob_share(f->store, b, a), SG_ERR_NOT_FOUND); /* staged is not published */
    assert_int_equal(sg_blob_publish(f->store, a), SG_OK);
    stage(f, b, "the same again");
    assert_int_equal(sg_blob_share(f->store, b, a), SG_OK);
    assert_int_equal(sg_blob_share(f->store, b, a), SG_ERR_EXISTS);
    assert_int_equal(sg_blob_share(f->store, a, a), SG_ERR_EXISTS);
    assert_int_equal(sg_blob_share(f->store, c, b), SG_OK);
    assert_int_equal(links_of(f, c), 3);
    assert_int_equal(sg_blob_open_staged(f->store, b, &fd), SG_OK);
    assert_content(fd, "the same again");
    close(fd);
    struct visited v = {0};
    assert_int_equal(sg_blob_each(f->store, count_visit, &v), SG_OK);
    assert_int_equal(v.n, 3);
    assert_int_equal(sg_blob_remove(f->store, a), SG_OK);
    assert_int_equal(sg_blob_share(f->store, a, b), SG_OK); /* and back */
    assert_int_equal(sg_blob_remove(f->store, b), SG_OK);
    assert_int_equal(sg_blob_remove(f->store, a), SG_OK);
    assert_int_equal(links_of(f, c), 1);
    assert_int_equal(sg_blob_remove(f->store, c), SG_OK);
    assert_int_equal(sg_blob_open(f->store, c, &fd), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_blob_share(f->store, a, c), SG_ERR_NOT_FOUND);
}

static void failed_share_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    char a[SG_ULID_SIZE], b[SG_ULID_SIZE], path[96];
    sg_ulid_make(a);
    sg_ulid_make(b);
    source_path(b, path);
    *strrchr(path, '/') = '\0';
    assert_int_equal(sg_blob_share(f->store, b, a), SG_ERR_NOT_FOUND);
    assert_false(has(f, path));
    stage(f, a, "film");
    assert_int_equal(sg_blob_publish(f->store, a), SG_OK);
    static const struct {
        int errnum;
        enum sg_error err;
    } rows[] = {
        {EMLINK, SG_ERR_UNAVAILABLE},
        {EPERM, SG_ERR_UNAVAILABLE},
        {EOPNOTSUPP, SG_ERR_UNAVAILABLE},
        {ENOSPC, SG_ERR_NO_SPACE},
        {EIO, SG_ERR_IO},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        link_errno = rows[i].errnum;
        enum sg_error err = sg_blob_share(f->store, b, a);
        link_errno = 0;
        assert_int_equal(err, rows[i].err);
        assert_false(has(f, path));
    }
    /* Each sync in turn. */
    enum sg_error err = SG_ERR_IO;
    int n = 0;
    for (; err; n++) {
        syncs_left = n;
        err = sg_blob_share(f->store, b, a);
        syncs_left = -1;
        assert_true(err == SG_OK || err == SG_ERR_IO);
        assert_int_equal(has(f, path), err == SG_OK);
    }
    assert_true(n > 2); /* the folder, the shard; the shard's own name was synced above */
    assert_int_equal(links_of(f, a), 2);
}

/* What an earlier run put in its place may not be durable yet: each sync counts. */
static void published_file_is_synced_again(void **state)
{
    struct fixture *f = *state;
    char id[SG_ULID_SIZE], other[SG_ULID_SIZE];
    sg_ulid_make(id);
    sg_ulid_make(other);
    assert_int_equal(sg_blob_sync_published(f->store, other), SG_ERR_NOT_FOUND);
    stage(f, id, "film");
    assert_int_equal(sg_blob_publish(f->store, id), SG_OK);
    for (int n = 0; n < 2; n++) { /* the folder, the shard */
        syncs_left = n;
        assert_int_equal(sg_blob_sync_published(f->store, id), SG_ERR_IO);
    }
    syncs_left = 2;
    assert_int_equal(sg_blob_sync_published(f->store, id), SG_OK);
    syncs_left = -1;
}

static bool claims(void *arg, const char *id)
{
    return strcmp(arg, id) == 0;
}

static void claimed_staged_files_are_kept(void **state)
{
    struct fixture *f = *state;
    char ids[3][SG_ULID_SIZE];
    for (size_t i = 0; i < SG_ARRAY_LEN(ids); i++) {
        sg_ulid_make(ids[i]);
        stage(f, ids[i], "x");
    }
    uint64_t removed = 99;
    assert_int_equal(sg_blob_clear_staged(f->store, claims, ids[1], &removed), SG_OK);
    assert_int_equal(removed, 2);
    for (size_t i = 0; i < SG_ARRAY_LEN(ids); i++) {
        int fd = -1;
        assert_int_equal(sg_blob_open_staged(f->store, ids[i], &fd),
                         i == 1 ? SG_OK : SG_ERR_NOT_FOUND);
        if (fd >= 0)
            close(fd);
    }
}

static void each_visits_published_files_only(void **state)
{
    struct fixture *f = *state;
    enum { FILES = 5 };
    char id[SG_ULID_SIZE], path[96];
    for (unsigned i = 0; i < FILES; i++) {
        sg_ulid_make(id);
        stage(f, id, "x");
        if (i < FILES - 1)
            assert_int_equal(sg_blob_publish(f->store, id), SG_OK);
    }
    sg_ulid_make(id); /* what a publish killed before its rename leaves */
    source_path(id, path);
    *strrchr(path, '/') = '\0';
    assert_int_equal(sg_fs_mkdirs(f->s->dirfd, path), SG_OK);
    assert_int_equal(sg_fs_mkdirs(f->s->dirfd, "assets/lost+found"), SG_OK);
    assert_int_equal(sg_fs_mkdirs(f->s->dirfd, "assets/ab/stranger"), SG_OK);
    struct visited v = {0};
    assert_int_equal(sg_blob_each(f->store, count_visit, &v), SG_OK);
    assert_int_equal(v.n, FILES - 1);
    v = (struct visited){.stop_at = 2};
    assert_int_equal(sg_blob_each(f->store, count_visit, &v), SG_ERR_CANCELLED);
    assert_int_equal(v.n, 2);
    uint64_t removed = 0;
    assert_int_equal(sg_blob_clear_staged(f->store, NULL, NULL, &removed), SG_OK);
    assert_int_equal(removed, 1);
    assert_false(has(f, path));
    v = (struct visited){0};
    assert_int_equal(sg_blob_each(f->store, count_visit, &v), SG_OK);
    assert_int_equal(v.n, FILES - 1);
    assert_int_equal(sg_blob_clear_staged(f->store, NULL, NULL, &removed), SG_OK);
    assert_int_equal(removed, 0);
}

static void space_is_the_file_systems(void **state)
{
    struct fixture *f = *state;
    uint64_t available = 0, total = 0;
    assert_int_equal(sg_blob_space(f->store, &available, &total), SG_OK);
    assert_true(total > 0);
    assert_true(available <= total);
}

int main(void)
{
#define BLOB_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        BLOB_TEST(published_file_is_the_staged_one),
        BLOB_TEST(staging_twice_and_discarding),
        BLOB_TEST(publishing_never_replaces),
        BLOB_TEST(failed_publish_leaves_no_folder),
        BLOB_TEST(ids_that_are_not_ulids_are_refused),
        BLOB_TEST(symlinks_are_not_followed),
        BLOB_TEST(each_visits_published_files_only),
        BLOB_TEST(space_is_the_file_systems),
        BLOB_TEST(staged_file_is_opened_again),
        BLOB_TEST(shared_file_lives_as_long_as_one_name),
        BLOB_TEST(failed_share_leaves_nothing),
        BLOB_TEST(published_file_is_synced_again),
        BLOB_TEST(claimed_staged_files_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
