/* Faults below a data directory, for the daemon under test only (LD_PRELOAD): the n-th call of a
 * kind fails, writes short, is skipped with success, or kills the process, once or from then on.
 *
 * FAULT_ROOT names the directory, FAULT_CONTROL a file of struct control that the test maps too, so
 * that one daemon serves many trials. Invariants: calls on anything outside of FAULT_ROOT pass
 * untouched; errno is what the real call would leave; without the two variables nothing is ever
 * done. Media processes get an empty environment and are never touched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kind { WRITE, FDATASYNC, FSYNC, RENAME, LINK, OPEN, TRUNCATE, UNLINK, MKDIR, COPY, KINDS };
enum place { DATABASE, STAGED, ASSETS, OTHER };
enum action { COUNT, FAIL, SHORT, KILL, SKIP };

/* Laid out in inject.py as well. Plain fields change only while armed is 0. */
struct control {
    _Atomic uint32_t armed;
    uint32_t kinds, places; /* bit masks */
    uint32_t action;
    int32_t errnum;
    uint32_t sticky;
    uint32_t pass;                /* matching calls that go well first */
    _Atomic uint32_t calls, hits; /* matching calls, and those that were tampered with */
    _Atomic uint32_t seen[KINDS];
};

static struct control *control;
static char root[PATH_MAX];
static size_t root_len;

#define REAL(type, name, ...)                                                                      \
    static type (*real)(__VA_ARGS__);                                                              \
    if (real == NULL) {                                                                            \
        void *found = dlsym(RTLD_NEXT, name);                                                      \
        memcpy(&real, &found, sizeof real);                                                        \
    }

static void attach(void)
{
    const char *path = getenv("FAULT_CONTROL"), *dir = getenv("FAULT_ROOT");
    if (path == NULL || dir == NULL || strlen(dir) >= sizeof root)
        return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return;
    root_len = strlen(dir);
    memcpy(root, dir, root_len + 1);
    control = map;
}

__attribute__((constructor)) static void start(void)
{
    attach();
}

static enum place place_of(const char *path)
{
    const char *rest = path + root_len;
    if (strncmp(rest, "/streamgate.db", 14) == 0)
        return DATABASE;
    if (strncmp(rest, "/incoming", 9) == 0)
        return STAGED;
    return strncmp(rest, "/assets", 7) == 0 ? ASSETS : OTHER;
}

static bool path_of_fd(int fd, char out[PATH_MAX])
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    if (n <= 0)
        return false;
    out[n] = '\0';
    return true;
}

static bool path_at(int dirfd, const char *name, char out[PATH_MAX])
{
    if (name[0] == '/') {
        size_t n = strlen(name);
        if (n >= PATH_MAX)
            return false;
        memcpy(out, name, n + 1);
        return true;
    }
    char folder[PATH_MAX];
    if (dirfd == AT_FDCWD ? getcwd(folder, sizeof folder) == NULL : !path_of_fd(dirfd, folder))
        return false;
    return (size_t)snprintf(out, PATH_MAX, "%s/%s", folder, name) < PATH_MAX;
}

static enum action decide(enum kind kind, const char *path)
{
    if (strncmp(path, root, root_len) != 0 || (path[root_len] != '/' && path[root_len] != '\0'))
        return COUNT;
    atomic_fetch_add(&control->seen[kind], 1);
    if ((control->kinds & 1u << kind) == 0 || (control->places & 1u << place_of(path)) == 0)
        return COUNT;
    uint32_t nth = atomic_fetch_add(&control->calls, 1);
    if (nth < control->pass || (nth > control->pass && control->sticky == 0) ||
        control->action == COUNT)
        return COUNT;
    atomic_fetch_add(&control->hits, 1);
    if (control->action == KILL) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
    return (enum action)control->action;
}

static bool active(void)
{
    return control != NULL && atomic_load(&control->armed) != 0;
}

/* What is to be done with a call; errno is set for FAIL and kept otherwise. */
static enum action at_path(enum kind kind, int dirfd, const char *name)
{
    char path[PATH_MAX];
    int saved = errno;
    enum action a = active() && path_at(dirfd, name, path) ? decide(kind, path) : COUNT;
    errno = a == FAIL ? control->errnum : saved;
    return a;
}

static enum action on_fd(enum kind kind, int fd)
{
    char path[PATH_MAX];
    int saved = errno;
    enum action a = active() && path_of_fd(fd, path) ? decide(kind, path) : COUNT;
    errno = a == FAIL ? control->errnum : saved;
    return a;
}

static size_t half(enum action a, size_t len)
{
    return a == SHORT && len > 1 ? len / 2 : len;
}

/* ---- writing ---- */

ssize_t write(int fd, const void *data, size_t len)
{
    REAL(ssize_t, "write", int, const void *, size_t)
    enum action a = on_fd(WRITE, fd);
    if (a == FAIL)
        return -1;
    return a == SKIP ? (ssize_t)len : real(fd, data, half(a, len));
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t)
    enum action a = on_fd(WRITE, fd);
    if (a == FAIL)
        return -1;
    return a == SKIP ? (ssize_t)len : real(fd, data, half(a, len), offset);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off_t offset)
{
    return pwrite(fd, data, len, offset);
}

ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t len, unsigned flags)
{
    REAL(ssize_t, "copy_file_range", int, off_t *, int, off_t *, size_t, unsigned)
    enum action a = on_fd(COPY, out);
    if (a == FAIL)
        return -1;
    return real(in, in_at, out, out_at, half(a, len), flags);
}

int fdatasync(int fd)
{
    REAL(int, "fdatasync", int)
    enum action a = on_fd(FDATASYNC, fd);
    return a == FAIL ? -1 : a == SKIP ? 0 : real(fd);
}

int fsync(int fd)
{
    REAL(int, "fsync", int)
    enum action a = on_fd(FSYNC, fd);
    return a == FAIL ? -1 : a == SKIP ? 0 : real(fd);
}

int ftruncate(int fd, off_t len)
{
    REAL(int, "ftruncate64", int, off_t)
    return on_fd(TRUNCATE, fd) == FAIL ? -1 : real(fd, len);
}

int ftruncate64(int fd, off_t len)
{
    return ftruncate(fd, len);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    REAL(int, "fallocate64", int, int, off_t, off_t)
    return on_fd(TRUNCATE, fd) == FAIL ? -1 : real(fd, mode, offset, len);
}

int posix_fallocate(int fd, off_t offset, off_t len)
{
    REAL(int, "posix_fallocate64", int, off_t, off_t)
    int saved = errno;
    if (on_fd(TRUNCATE, fd) == FAIL) {
        errno = saved;
        return control->errnum;
    }
    return real(fd, offset, len);
}

/* ---- names ---- */

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned)
    return at_path(RENAME, to, new) == FAIL ? -1 : real(from, old, to, new, flags);
}

int renameat(int from, const char *old, int to, const char *new)
{
    return renameat2(from, old, to, new, 0);
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    REAL(int, "linkat", int, const char *, int, const char *, int)
    return at_path(LINK, to, new) == FAIL ? -1 : real(from, old, to, new, flags);
}

int unlinkat(int dirfd, const char *name, int flags)
{
    REAL(int, "unlinkat", int, const char *, int)
    return at_path(UNLINK, dirfd, name) == FAIL ? -1 : real(dirfd, name, flags);
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int mkdirat(int dirfd, const char *name, mode_t mode)
{
    REAL(int, "mkdirat", int, const char *, mode_t)
    return at_path(MKDIR, dirfd, name) == FAIL ? -1 : real(dirfd, name, mode);
}

/* ---- opening ---- */

static int open_real(int dirfd, const char *name, int flags, mode_t mode)
{
    REAL(int, "openat64", int, const char *, int, ...)
    return at_path(OPEN, dirfd, name) == FAIL ? -1 : real(dirfd, name, flags, mode);
}

#define OPEN_MODE(flags)                                                                           \
    mode_t mode = 0;                                                                               \
    if (((flags)&O_CREAT) != 0 || ((flags)&O_TMPFILE) == O_TMPFILE) {                              \
        va_list list;                                                                              \
        va_start(list, flags);                                                                     \
        mode = va_arg(list, mode_t);                                                               \
        va_end(list);                                                                              \
    }

int openat(int dirfd, const char *name, int flags, ...)
{
    OPEN_MODE(flags)
    return open_real(dirfd, name, flags, mode);
}

int openat64(int dirfd, const char *name, int flags, ...)
{
    OPEN_MODE(flags)
    return open_real(dirfd, name, flags, mode);
}

int open(const char *name, int flags, ...)
{
    OPEN_MODE(flags)
    return open_real(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...)
{
    OPEN_MODE(flags)
    return open_real(AT_FDCWD, name, flags, mode);
}

/* openat2 has no wrapper in the C library: the daemon makes it so. */
long syscall(long number, ...)
{
    REAL(long, "syscall", long, ...)
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_openat2 && at_path(OPEN, (int)a[0], (const char *)a[1]) == FAIL)
        return -1;
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
