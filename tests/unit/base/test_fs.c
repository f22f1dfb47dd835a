/* Files: no way out of the root by either resolver, durable helpers, and mapped memfds. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "streamgate/base/buf.h"
#include "streamgate/base/fs.h"

#include "fs_private.h"
#include "support/unit.h"

struct world {
    char base[32];
    int root;
};

static int setup(void **state)
{
    static struct world w;
    snprintf(w.base, sizeof(w.base), "/tmp/sg-fs-XXXXXX");
    if (mkdtemp(w.base) == NULL)
        return -1;
    char path[64];
    snprintf(path, sizeof(path), "%s/deep/root", w.base);
    if (sg_fs_open_root(path, &w.root) != SG_OK)
        return -1;
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    close(w->root);
    char command[64];
    snprintf(command, sizeof(command), "rm -rf '%s'", w->base);
    return system(command);
}

static void no_way_out(void **state)
{
    struct world *w = *state;
    assert_int_equal(mkdirat(w->root, "dir", 0700), 0);
    assert_int_equal(symlinkat("/etc", w->root, "abs"), 0);
    assert_int_equal(symlinkat("../..", w->root, "up"), 0);
    assert_int_equal(symlinkat("dir", w->root, "inner"), 0);
    assert_int_equal(symlinkat("/etc/passwd", w->root, "dir/leaf"), 0);
    static const char *const bad[] = {"/etc/passwd", "../x", "dir/../../x", "..",
                                      "abs/passwd",  "up/x", "inner/file",  "dir/leaf",
                                      "inner",       "/"};
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        int fd = -7;
        assert_int_not_equal(sg_fs_open(w->root, bad[i], O_RDONLY, 0, &fd), SG_OK);
        assert_int_equal(fd, -7);
        assert_int_equal(sg_fs_open_walk(w->root, bad[i], O_RDONLY, 0), -1);
        /* A link as the last component is replaced, never followed; anywhere else it is refused. */
        if (strcmp(bad[i], "dir/leaf") != 0 && strcmp(bad[i], "inner") != 0)
            assert_int_not_equal(sg_fs_write_file(w->root, bad[i], "x", 1, 0600), SG_OK);
    }
    assert_int_equal(sg_fs_mkdirs(w->root, "../out"), SG_ERR_FORBIDDEN);
    assert_int_equal(sg_fs_mkdirs(w->root, "/out"), SG_ERR_FORBIDDEN);
    assert_int_not_equal(sg_fs_mkdirs(w->root, "abs/out"), SG_OK);
    assert_int_not_equal(sg_fs_unlink(w->root, "../root"), SG_OK);
    assert_int_not_equal(sg_fs_publish(w->root, "dir", "../stolen"), SG_OK);
    int fd = sg_fs_open_walk(w->root, "dir/new", O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    close(fd);
    assert_int_equal(sg_fs_open(w->root, "dir/new", O_RDONLY, 0, &fd), SG_OK);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    close(fd);
    struct stat st;
    assert_int_equal(fstatat(w->root, ".", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static enum sg_error note(void *arg, const char *name, bool is_dir)
{
    unsigned *seen = arg;
    if (strcmp(name, "f") == 0 && !is_dir)
        *seen |= 1;
    else if (strcmp(name, "sub") == 0 && is_dir)
        *seen |= 2;
    else
        *seen |= 4;
    return SG_OK;
}

static enum sg_error stop(void *arg, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(unsigned *)arg;
    return SG_ERR_CANCELLED;
}

static void whole_files(void **state)
{
    struct world *w = *state;
    assert_int_equal(sg_fs_mkdirs(w->root, "a//b/sub/"), SG_OK);
    assert_int_equal(sg_fs_mkdirs(w->root, "a/b"), SG_OK);
    mode_t old = umask(077);
    assert_int_equal(sg_fs_write_file(w->root, "a/b/f", "hello", 5, 0644), SG_OK);
    umask(old);
    struct stat st;
    assert_int_equal(fstatat(w->root, "a/b/f", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    char *text = NULL;
    size_t len = 0;
    assert_int_equal(sg_fs_read_file(w->root, "a/b/f", 5, &text, &len), SG_OK);
    assert_int_equal(len, 5);
    assert_string_equal(text, "hello");
    free(text);
    text = NULL;
    assert_int_equal(sg_fs_read_file(w->root, "a/b/f", 4, &text, &len), SG_ERR_TOO_LARGE);
    assert_int_equal(sg_fs_read_file(w->root, "a/b/none", 4, &text, &len), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_fs_read_file(w->root, "a/b", 4, &text, &len), SG_ERR_IO);
    assert_null(text);
    unsigned seen = 0;
    assert_int_equal(sg_fs_each(w->root, "a/b", note, &seen), SG_OK);
    assert_int_equal(seen, 3); /* no temporary is left */
    seen = 0;
    assert_int_equal(sg_fs_each(w->root, "a/b", stop, &seen), SG_ERR_CANCELLED);
    assert_int_equal(seen, 1);

    char *big = malloc(100000);
    assert_non_null(big);
    memset(big, 'x', 100000);
    assert_int_equal(sg_fs_write_file(w->root, "big", big, 100000, 0600), SG_OK);
    assert_int_equal(sg_fs_read_file(w->root, "big", 100000, &text, &len), SG_OK);
    assert_int_equal(len, 100000);
    assert_memory_equal(text, big, len);
    free(text);
    free(big);
}

static void moving_and_offsets(void **state)
{
    struct world *w = *state;
    assert_int_equal(sg_fs_mkdirs(w->root, "staging"), SG_OK);
    assert_int_equal(sg_fs_mkdirs(w->root, "blobs"), SG_OK);
    int fd;
    assert_int_equal(sg_fs_open(w->root, "staging/x", O_RDWR | O_CREAT | O_EXCL, 0600, &fd), SG_OK);
    assert_int_equal(sg_fs_write_all(fd, "0123", 4), SG_OK);
    assert_int_equal(sg_fs_pwrite_all(fd, "ab", 2, 6), SG_OK);
    assert_int_equal(sg_fs_pwrite_all(fd, "ab", 2, UINT64_MAX), SG_ERR_NO_SPACE);
    assert_int_equal(sg_fs_pwrite_all(fd, "ab", 2, INT64_MAX), SG_ERR_NO_SPACE);
    assert_int_equal(sg_fs_fdatasync(fd), SG_OK);
    uint64_t size = 0, free_bytes = 0, total = 0;
    assert_int_equal(sg_fs_size(fd, &size), SG_OK);
    assert_int_equal(size, 8);
    char data[8];
    assert_int_equal(sg_fs_pread_all(fd, data, 8, 0), SG_OK);
    assert_memory_equal(data, "0123\0\0ab", 8);
    assert_int_equal(sg_fs_pread_all(fd, data, 8, 1), SG_ERR_IO);
    assert_int_equal(sg_fs_pread_all(fd, data, 8, UINT64_MAX - 3), SG_ERR_IO);
    close(fd);
    assert_int_equal(sg_fs_publish(w->root, "staging/x", "blobs/x"), SG_OK);
    assert_int_equal(sg_fs_open(w->root, "staging/x", O_RDONLY, 0, &fd), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_fs_write_file(w->root, "staging/y", "y", 1, 0600), SG_OK);
    assert_int_equal(sg_fs_publish(w->root, "staging/y", "blobs/x"), SG_ERR_EXISTS);
    assert_int_equal(sg_fs_unlink(w->root, "blobs/x"), SG_OK);
    assert_int_equal(sg_fs_unlink(w->root, "blobs/x"), SG_OK);
    assert_int_equal(sg_fs_unlink(w->root, "nothing/x"), SG_OK);
    assert_int_equal(sg_fs_sync_dir(w->root, "blobs"), SG_OK);
    assert_int_equal(sg_fs_free_bytes(w->root, &free_bytes, &total), SG_OK);
    assert_true(free_bytes <= total && total > 0);
    assert_int_equal(sg_fs_fdatasync(-1), SG_ERR_IO);
    assert_int_equal(sg_fs_write_all(-1, "x", 1), SG_ERR_IO);
}

static void copied(struct world *w, int source)
{
    static char data[700000], back[sizeof(data)];
    int fd;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 31 >> 3);
    assert_int_equal(sg_fs_pwrite_all(source, data, sizeof(data), 5), SG_OK);
    assert_int_equal(sg_fs_open(w->root, "copy", O_RDWR | O_CREAT | O_TRUNC, 0600, &fd), SG_OK);
    assert_int_equal(sg_fs_write_all(fd, "abc", 3), SG_OK);
    struct sg_fs_range from = {source, 5}, to = {fd, 3};
    assert_int_equal(sg_fs_copy_range(from, to, 0), SG_OK);
    assert_int_equal(sg_fs_copy_range(from, to, sizeof(data)), SG_OK);
    assert_int_equal(sg_fs_pread_all(fd, back, 3, 0), SG_OK);
    assert_memory_equal(back, "abc", 3);
    assert_int_equal(sg_fs_pread_all(fd, back, sizeof(back), 3), SG_OK);
    assert_memory_equal(back, data, sizeof(data));
    uint64_t size;
    assert_int_equal(sg_fs_size(fd, &size), SG_OK);
    assert_int_equal(size, sizeof(data) + 3);
    assert_int_equal(sg_fs_truncate(fd, 2), SG_OK);
    assert_int_equal(sg_fs_size(fd, &size), SG_OK);
    assert_int_equal(size, 2);
    assert_int_equal(sg_fs_truncate(fd, UINT64_MAX), SG_ERR_NO_SPACE);
    assert_int_equal(sg_fs_copy_range(from, to, sizeof(data) + 1), SG_ERR_IO);
    from.offset = UINT64_MAX;
    assert_int_equal(sg_fs_copy_range(from, to, 1), SG_ERR_IO);
    from.offset = 0;
    to.offset = INT64_MAX;
    assert_int_equal(sg_fs_copy_range(from, to, 1), SG_ERR_NO_SPACE);
    close(fd);
}

static void copies(void **state)
{
    struct world *w = *state;
    int fd;
    assert_int_equal(sg_fs_open(w->root, "source", O_RDWR | O_CREAT, 0600, &fd), SG_OK);
    copied(w, fd);
    close(fd);
    fd = memfd_create("source", MFD_CLOEXEC); /* another file system */
    assert_true(fd >= 0);
    copied(w, fd);
    close(fd);
    assert_int_equal(sg_fs_open(w->root, "source", O_RDONLY, 0, &fd), SG_OK);
    assert_int_equal(sg_fs_copy_range((struct sg_fs_range){fd, 0}, (struct sg_fs_range){fd, 0}, 10),
                     SG_ERR_IO);
    close(fd);
}

static void full_disk(void **state)
{
    (void)state;
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(sg_fs_write_all(fd, "x", 1), SG_ERR_NO_SPACE);
    close(fd);
}

static void buffers(void **state)
{
    (void)state;
    struct sg_buf *b = NULL;
    assert_int_equal(sg_buf_create_copy("abc", 3, &b), SG_OK);
    assert_memory_equal(b->data, "abc", 3);
    assert_ptr_equal(sg_buf_ref(b), b);
    sg_buf_unref(b);
    sg_buf_unref(b);
    sg_buf_unref(NULL);
    assert_int_equal(sg_buf_create_copy(NULL, 0, &b), SG_OK);
    assert_null(b->data);
    sg_buf_unref(b);
    char *taken = strdup("xyz");
    assert_int_equal(sg_buf_create_take(taken, 3, &b), SG_OK);
    assert_ptr_equal(b->data, taken);
    sg_buf_unref(b);
}

static void memfds(void **state)
{
    (void)state;
    const int seals[] = {0, F_SEAL_SHRINK, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_WRITE,
                         F_SEAL_GROW | F_SEAL_WRITE};
    struct sg_buf *b = NULL;
    for (size_t i = 0; i < SG_ARRAY_LEN(seals); i++) {
        int fd = memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(write(fd, "data", 4), 4);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
        assert_int_equal(sg_buf_create_memfd(fd, 100, &b), SG_ERR_MEDIA_WORKER);
        close(fd);
    }
    int fd = memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(write(fd, "data", 4), 4);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
    assert_int_equal(sg_buf_create_memfd(fd, 3, &b), SG_ERR_MEDIA_WORKER);
    assert_int_equal(sg_buf_create_memfd(fd, 4, &b), SG_OK);
    close(fd);
    assert_int_equal(b->len, 4);
    assert_memory_equal(b->data, "data", 4);
    sg_buf_unref(b);
    fd = memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
    assert_int_equal(sg_buf_create_memfd(fd, 3, &b), SG_OK);
    close(fd);
    assert_int_equal(b->len, 0);
    sg_buf_unref(b);
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(sg_buf_create_memfd(fd, 3, &b), SG_ERR_MEDIA_WORKER);
    close(fd);
}

/* Only what a killed write left, never a file of somebody's. */
static void temporaries_are_cleared(void **state)
{
    struct world *w = *state;
    static const char *const kept[] = {".tmp-", ".tmp-x", "tmp-01ARZ3NDEKTSV4RRFFQ69G5FAV",
                                       ".hidden"};
    unsigned removed = 99;
    for (size_t i = 0; i < SG_ARRAY_LEN(kept); i++)
        assert_int_equal(sg_fs_write_file(w->root, kept[i], "x", 1, 0600), SG_OK);
    assert_int_equal(sg_fs_write_file(w->root, ".tmp-01ARZ3NDEKTSV4RRFFQ69G5FAV", "x", 1, 0600),
                     SG_OK);
    assert_int_equal(sg_fs_clear_temporaries(w->root, &removed), SG_OK);
    assert_int_equal(removed, 1);
    int fd = -1;
    assert_int_equal(sg_fs_open(w->root, ".tmp-01ARZ3NDEKTSV4RRFFQ69G5FAV", O_RDONLY, 0, &fd),
                     SG_ERR_NOT_FOUND);
    for (size_t i = 0; i < SG_ARRAY_LEN(kept); i++) {
        assert_int_equal(sg_fs_open(w->root, kept[i], O_RDONLY, 0, &fd), SG_OK);
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_way_out, setup, teardown),
        cmocka_unit_test_setup_teardown(whole_files, setup, teardown),
        cmocka_unit_test_setup_teardown(moving_and_offsets, setup, teardown),
        cmocka_unit_test_setup_teardown(copies, setup, teardown),
        cmocka_unit_test_setup_teardown(temporaries_are_cleared, setup, teardown),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(buffers),
        cmocka_unit_test(memfds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
