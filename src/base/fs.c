/* Files below a directory. Every path is resolved by the kernel with openat2 (no way up, no
 * symbolic link); calls that take no such flag (mkdir, rename, unlink) are made on the opened
 * parent with a last component that holds no slash. */
#include "streamgate/base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "streamgate/base/clock.h"

#include "fs_private.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define RESOLVE_TRIES 16 /* openat2 answers EAGAIN when a rename races with the way down */
#define READ_FIRST ((size_t)4096)

static enum sg_error from_errno(void)
{
    return sg_error_from_errno(errno);
}

/* Keeps errno, which the caller is about to read. */
static void close_quiet(int fd)
{
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
}

/* Copies the component at *path into name and moves behind it and its slashes. false: none left, or
 * too long. */
static bool next_component(const char **path, char name[NAME_MAX + 1])
{
    const char *p = *path + strspn(*path, "/");
    size_t n = strcspn(p, "/");
    if (n == 0 || n > NAME_MAX)
        return false;
    memcpy(name, p, n);
    name[n] = '\0';
    *path = p + n + strspn(p + n, "/");
    return true;
}

int sg_fs_open_walk(int dirfd, const char *path, int flags, mode_t mode)
{
    if (path[0] == '\0' || path[0] == '/') {
        errno = path[0] == '/' ? EXDEV : ENOENT;
        return -1;
    }
    int at = dirfd;
    for (;;) {
        char name[NAME_MAX + 1];
        if (!next_component(&path, name)) {
            errno = ENAMETOOLONG;
            break;
        }
        if (strcmp(name, "..") == 0) {
            errno = EXDEV;
            break;
        }
        bool last = *path == '\0';
        int fd =
            openat(at, name, (last ? flags : O_PATH | O_DIRECTORY) | O_NOFOLLOW | O_CLOEXEC, mode);
        if (at != dirfd)
            close_quiet(at);
        if (fd < 0 || last)
            return fd;
        at = fd;
    }
    if (at != dirfd)
        close_quiet(at);
    return -1;
}

enum sg_error sg_fs_open(int dirfd, const char *path, int flags, mode_t mode, int *out_fd)
{
    static atomic_bool lacks_openat2;
    bool creates = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
    int fd = -1;
    if (!atomic_load_explicit(&lacks_openat2, memory_order_relaxed)) {
        struct open_how how = {
            .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
            .mode = creates ? mode & 07777 : 0,
            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
        };
        for (int i = 0; i < RESOLVE_TRIES; i++) {
            fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
            if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
                break;
        }
        if (fd < 0 && errno == ENOSYS)
            atomic_store_explicit(&lacks_openat2, true, memory_order_relaxed);
    }
    if (fd < 0 && atomic_load_explicit(&lacks_openat2, memory_order_relaxed))
        fd = sg_fs_open_walk(dirfd, path, flags, creates ? mode & 07777 : 0);
    if (fd < 0)
        return from_errno();
    *out_fd = fd;
    return SG_OK;
}

static enum sg_error sync_fd(int fd)
{
    return fsync(fd) == 0 ? SG_OK : from_errno();
}

void sg_fs_start_writeback(int fd, uint64_t offset, uint64_t len)
{
    /* What goes wrong here is found, and reported, by the sync that follows. */
    (void)sync_file_range(fd, (off_t)offset, (off_t)len, SYNC_FILE_RANGE_WRITE);
}

enum sg_error sg_fs_sync_dir(int dirfd, const char *path)
{
    int fd;
    enum sg_error err = sg_fs_open(dirfd, path, DIR_FLAGS, 0, &fd);
    if (err != SG_OK)
        return err;
    err = sync_fd(fd);
    close(fd);
    return err;
}

/* The operator's own path: links and ".." in it are meant. */
enum sg_error sg_fs_open_root(const char *path, int *out_dirfd)
{
    if (path[0] == '\0')
        return SG_ERR_NOT_FOUND;
    enum sg_error err = SG_OK;
    int at = open(path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return from_errno();
    const char *rest = path + strspn(path, "/");
    while (*rest != '\0') {
        char name[NAME_MAX + 1];
        if (!next_component(&rest, name)) {
            err = sg_error_from_errno(ENAMETOOLONG);
            goto out;
        }
        if (mkdirat(at, name, 0700) == 0) {
            err = sg_fs_sync_dir(at, ".");
            if (err != SG_OK)
                goto out;
        }
        /* Whatever mkdir said, what counts is whether there is a folder now. */
        int fd = openat(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) {
            err = from_errno();
            goto out;
        }
        close(at);
        at = fd;
    }
    int dirfd = openat(at, ".", DIR_FLAGS);
    if (dirfd < 0)
        err = from_errno();
    else
        *out_dirfd = dirfd;
out:
    close(at);
    return err;
}

enum sg_error sg_fs_mkdirs(int dirfd, const char *path)
{
    if (path[0] == '/')
        return SG_ERR_FORBIDDEN;
    enum sg_error err = SG_OK;
    int at = dirfd;
    while (err == SG_OK && *path != '\0') {
        char name[NAME_MAX + 1];
        if (!next_component(&path, name)) {
            err = sg_error_from_errno(ENAMETOOLONG);
            break;
        }
        if (strcmp(name, "..") == 0) {
            err = SG_ERR_FORBIDDEN;
            break;
        }
        if (mkdirat(at, name, 0700) == 0)
            err = sg_fs_sync_dir(at, ".");
        else if (errno != EEXIST)
            err = from_errno();
        int fd = -1;
        if (err == SG_OK)
            err = sg_fs_open(at, name, O_PATH | O_DIRECTORY, 0, &fd);
        if (err == SG_OK) {
            if (at != dirfd)
                close(at);
            at = fd;
        }
    }
    if (at != dirfd)
        close(at);
    return err;
}

/* Opens the folder of path; *base points at its last component, within path. */
static enum sg_error open_parent(int dirfd, const char *path, const char **base, int *out_fd)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return SG_ERR_FORBIDDEN;
    if (slash == path)
        return SG_ERR_FORBIDDEN;
    char folder[PATH_MAX] = ".";
    if (slash != NULL) {
        size_t n = (size_t)(slash - path);
        if (n >= sizeof(folder))
            return sg_error_from_errno(ENAMETOOLONG);
        memcpy(folder, path, n);
        folder[n] = '\0';
    }
    enum sg_error err = sg_fs_open(dirfd, folder, DIR_FLAGS, 0, out_fd);
    if (err == SG_OK)
        *base = name;
    return err;
}

enum sg_error sg_fs_write_all(int fd, const void *data, size_t len)
{
    const uint8_t *p = data;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return from_errno();
        if (n == 0)
            return SG_ERR_IO;
        p += n;
        len -= (size_t)n;
    }
    return SG_OK;
}

static bool offset_fits(size_t len, uint64_t offset)
{
    return offset <= INT64_MAX && len <= INT64_MAX - offset;
}

enum sg_error sg_fs_pwrite_all(int fd, const void *data, size_t len, uint64_t offset)
{
    if (!offset_fits(len, offset))
        return sg_error_from_errno(EFBIG);
    const uint8_t *p = data;
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return from_errno();
        if (n == 0)
            return SG_ERR_IO;
        p += n;
        len -= (size_t)n;
        offset += (size_t)n;
    }
    return SG_OK;
}

enum sg_error sg_fs_pread_all(int fd, void *data, size_t len, uint64_t offset)
{
    if (!offset_fits(len, offset))
        return SG_ERR_IO;
    uint8_t *p = data;
    while (len > 0) {
        ssize_t n = pread(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return from_errno();
        if (n == 0)
            return SG_ERR_IO;
        p += n;
        len -= (size_t)n;
        offset += (size_t)n;
    }
    return SG_OK;
}

enum sg_error sg_fs_fdatasync(int fd)
{
    /* Once only: after a failure the kernel forgets the dirty pages and a second call would say all
     * is well. */
    return fdatasync(fd) == 0 ? SG_OK : from_errno();
}

enum sg_error sg_fs_publish(int dirfd, const char *from, const char *to)
{
    int from_fd = -1, to_fd = -1;
    const char *from_base, *to_base;
    enum sg_error err = open_parent(dirfd, from, &from_base, &from_fd);
    if (err != SG_OK)
        return err;
    err = open_parent(dirfd, to, &to_base, &to_fd);
    if (err != SG_OK)
        goto out;
    if (renameat2(from_fd, from_base, to_fd, to_base, RENAME_NOREPLACE) != 0) {
        err = from_errno();
        goto out;
    }
    err = sync_fd(to_fd);
out:
    if (to_fd >= 0)
        close(to_fd);
    close(from_fd);
    return err;
}

enum sg_error sg_fs_unlink(int dirfd, const char *path)
{
    int fd;
    const char *base;
    enum sg_error err = open_parent(dirfd, path, &base, &fd);
    if (err != SG_OK)
        return err == SG_ERR_NOT_FOUND ? SG_OK : err;
    if (unlinkat(fd, base, 0) != 0 && errno != ENOENT)
        err = from_errno();
    close(fd);
    return err;
}

enum sg_error sg_fs_truncate(int fd, uint64_t size)
{
    int rc;
    if (size > INT64_MAX)
        return SG_ERR_NO_SPACE;
    do {
        rc = ftruncate(fd, (off_t)size);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? SG_OK : from_errno();
}

enum sg_error sg_fs_size(int fd, uint64_t *out)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return from_errno();
    *out = (uint64_t)st.st_size;
    return SG_OK;
}

enum sg_error sg_fs_free_bytes(int dirfd, uint64_t *out_free, uint64_t *out_total)
{
    struct statvfs st;
    if (fstatvfs(dirfd, &st) != 0)
        return from_errno();
    *out_free = (uint64_t)st.f_bavail * st.f_frsize;
    *out_total = (uint64_t)st.f_blocks * st.f_frsize;
    return SG_OK;
}

/* Reads to the end into *buf, which grows up to max + 1 bytes (one more than allowed tells too
 * long). */
static enum sg_error read_to_end(int fd, size_t max, char **buf, size_t *len)
{
    size_t cap = 0;
    for (;;) {
        if (*len + 1 >= cap) {
            cap = cap > 0 ? cap * 2 : READ_FIRST;
            if (cap > max + 2)
                cap = max + 2;
            char *grown = realloc(*buf, cap);
            if (grown == NULL)
                return SG_ERR_NO_MEMORY;
            *buf = grown;
        }
        ssize_t n = read(fd, *buf + *len, cap - 1 - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return from_errno();
        if (n == 0)
            break;
        *len += (size_t)n;
        if (*len > max)
            return SG_ERR_TOO_LARGE;
    }
    (*buf)[*len] = '\0';
    return SG_OK;
}

enum sg_error sg_fs_read_file(int dirfd, const char *path, size_t max, char **out, size_t *out_len)
{
    if (max > SIZE_MAX / 4)
        return SG_ERR_TOO_LARGE;
    int fd;
    /* O_NONBLOCK: a FIFO put in the place of the file must not hold the thread. */
    enum sg_error err = sg_fs_open(dirfd, path, O_RDONLY | O_NONBLOCK, 0, &fd);
    if (err != SG_OK)
        return err;
    char *buf = NULL;
    size_t len = 0;
    struct stat st;
    if (fstat(fd, &st) != 0)
        err = from_errno();
    else if (!S_ISREG(st.st_mode))
        err = SG_ERR_IO;
    else
        err = read_to_end(fd, max, &buf, &len);
    close(fd);
    if (err != SG_OK) {
        free(buf);
        return err;
    }
    *out = buf;
    if (out_len != NULL)
        *out_len = len;
    return SG_OK;
}

#define TEMPORARY ".tmp-"

struct clearing {
    int dirfd;
    unsigned removed;
};

static enum sg_error clear_temporary(void *arg, const char *name, bool is_dir)
{
    struct clearing *c = arg;
    uint8_t raw[16];
    size_t n = strlen(TEMPORARY);
    if (is_dir || strncmp(name, TEMPORARY, n) != 0 || sg_ulid_parse(name + n, raw) != SG_OK)
        return SG_OK;
    c->removed++;
    return unlinkat(c->dirfd, name, 0) == 0 || errno == ENOENT ? SG_OK : from_errno();
}

enum sg_error sg_fs_clear_temporaries(int dirfd, unsigned *removed)
{
    struct clearing c = {.dirfd = dirfd};
    enum sg_error err = sg_fs_each(dirfd, ".", clear_temporary, &c);
    if (err == SG_OK)
        *removed = c.removed;
    return err;
}

enum sg_error sg_fs_write_file(int dirfd, const char *path, const void *data, size_t len,
                               mode_t mode)
{
    int folder, fd = -1;
    const char *base;
    enum sg_error err = open_parent(dirfd, path, &base, &folder);
    if (err != SG_OK)
        return err;
    char id[SG_ULID_SIZE], temporary[SG_ULID_SIZE + 8];
    sg_ulid_make(id);
    snprintf(temporary, sizeof(temporary), TEMPORARY "%s", id);
    err = sg_fs_open(folder, temporary, O_WRONLY | O_CREAT | O_EXCL, 0600, &fd);
    if (err != SG_OK)
        goto out;
    err = sg_fs_write_all(fd, data, len);
    if (err == SG_OK && fchmod(fd, mode & 07777) != 0) /* open's mode is cut by the umask */
        err = from_errno();
    if (err == SG_OK)
        err = sync_fd(fd);
    if (close(fd) != 0 && err == SG_OK)
        err = from_errno();
    if (err == SG_OK && renameat(folder, temporary, folder, base) != 0)
        err = from_errno();
    if (err != SG_OK)
        unlinkat(folder, temporary, 0);
    else
        err = sync_fd(folder);
out:
    close(folder);
    return err;
}

enum sg_error sg_fs_each(int dirfd, const char *path,
                         enum sg_error (*visit)(void *arg, const char *name, bool is_dir),
                         void *arg)
{
    int fd;
    enum sg_error err = sg_fs_open(dirfd, path, DIR_FLAGS, 0, &fd);
    if (err != SG_OK)
        return err;
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        err = from_errno();
        close(fd);
        return err;
    }
    while (err == SG_OK) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            if (errno != 0)
                err = from_errno();
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        bool is_dir = entry->d_type == DT_DIR;
        struct stat st;
        if (entry->d_type == DT_UNKNOWN &&
            fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            is_dir = S_ISDIR(st.st_mode);
        err = visit(arg, entry->d_name, is_dir);
    }
    closedir(dir);
    return err;
}
