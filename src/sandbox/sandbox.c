/* Entering the sandbox: from descriptors, over limits, to Landlock and seccomp, each step fatal but
 * an absent Landlock. The order matters: the filter goes last because the steps before it need
 * calls it forbids. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/ioprio.h>
#include <locale.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "streamgate/base/log.h"
#include "streamgate/sandbox/media_pool.h"

#include "confine.h"

/* Each malloc arena reserves 64 MiB of address space, so RLIMIT_AS bounds their number and not the
 * other way round. */
#define ARENAS_MAX 2

#define TASK_STACK_BYTES ((size_t)2 << 20)

/* Not the idle class, which can wait for ever. */
#define IOPRIO_LOWEST IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7)

/* Everything the C library opens lazily is opened while it still can be. */
static void warm_up(void)
{
    (void)setlocale(LC_ALL, "C");
    tzset();
    (void)sysconf(_SC_NPROCESSORS_ONLN);
}

/* When memory runs out the kernel should take this process, not the daemon. Best effort. */
static void prefer_as_oom_victim(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, "500", 3) != 3)
        sg_debug_log("sandbox", "the out-of-memory score stays as it is");
    (void)close(fd);
}

static enum sg_error close_range_or_fail(unsigned first, unsigned last)
{
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
        return SG_OK;
    if (errno != ENOSYS && errno != EPERM)
        return sg_error_from_errno(errno);
    long max = sysconf(_SC_OPEN_MAX);
    for (unsigned fd = first; fd <= last && (long)fd < max; fd++)
        (void)close((int)fd);
    return SG_OK;
}

static enum sg_error limit_descriptors(int sock)
{
    if (sock <= STDERR_FILENO)
        return SG_ERR_INVALID;
    enum sg_error err = close_range_or_fail(STDERR_FILENO + 1, (unsigned)sock - 1);
    if (err == SG_OK)
        err = close_range_or_fail((unsigned)sock + 1, UINT_MAX);
    if (err != SG_OK)
        return err;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return sg_error_from_errno(errno);
    if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        err = sg_error_from_errno(errno);
    if (err == SG_OK && fcntl(STDERR_FILENO, F_GETFD) < 0 && dup2(null, STDERR_FILENO) < 0)
        err = sg_error_from_errno(errno);
    if (null > STDERR_FILENO)
        (void)close(null);
    return err;
}

static enum sg_error set_limit(__rlimit_resource_t resource, uint64_t value)
{
    struct rlimit now;
    if (getrlimit(resource, &now) != 0)
        return sg_error_from_errno(errno);
    rlim_t bound = value < now.rlim_max ? (rlim_t)value : now.rlim_max;
    const struct rlimit next = {.rlim_cur = bound, .rlim_max = bound};
    return setrlimit(resource, &next) == 0 ? SG_OK : sg_error_from_errno(errno);
}

/* RLIMIT_NPROC is left alone: it counts all processes of the user, the daemon's threads among them,
 * and the filter refuses fork anyway. */
static enum sg_error limit_resources(const struct sg_sandbox_limits *limits)
{
    const struct {
        __rlimit_resource_t resource;
        uint64_t value; /* 0: as inherited */
    } rows[] = {
#ifndef SG_UNDER_SANITIZER /* their shadow memory spans terabytes of address space */
        {RLIMIT_AS, limits->memory_bytes},
#endif
        {RLIMIT_CPU, limits->cpu_seconds},
        {RLIMIT_FSIZE, limits->file_bytes},
        {RLIMIT_NOFILE, limits->open_files},
    };
    enum sg_error err = set_limit(RLIMIT_CORE, 0);
    for (size_t i = 0; err == SG_OK && i < SG_ARRAY_LEN(rows); i++) {
        if (rows[i].value != 0)
            err = set_limit(rows[i].resource, rows[i].value);
    }
    if (limits->memory_bytes != 0)
        (void)mallopt(M_ARENA_MAX, ARENAS_MAX);
    /* A body over the limit is an answer (EFBIG), not a death. */
    if (err == SG_OK && signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
        err = SG_ERR_INTERNAL;
    return err;
}

/* Where the kernel groups processes by session (sched_autogroup), niceness only counts within one,
 * and the process has a session of its own: the group has to be nice, too. */
static bool be_nice_as_group(unsigned niceness)
{
    int fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT; /* it does not group */
    /* Without privileges the kernel takes one change of any group each 100 ms. */
    const struct timespec pause = {.tv_nsec = 50000000};
    int len = -1;
    for (int i = 0; i < 10 && len < 0; i++) {
        if (i > 0)
            (void)nanosleep(&pause, NULL);
        len = dprintf(fd, "%u", niceness);
        if (len < 0 && errno != EAGAIN)
            break;
    }
    (void)close(fd);
    return len > 0;
}

/* A task computes for minutes: it takes what the daemon and the pool leave over of CPU and disk. A
 * kernel or a service manager that refuses costs politeness, not safety. Threads made later
 * inherit. */
static void step_back(unsigned niceness)
{
    const struct sched_param none = {.sched_priority = 0};
    if (setpriority(PRIO_PROCESS, 0, (int)niceness) != 0 || !be_nice_as_group(niceness))
        sg_debug_log("sandbox", "the niceness stays as it is");
    if (sched_setscheduler(0, SCHED_BATCH, &none) != 0)
        sg_debug_log("sandbox", "the scheduling policy stays as it is");
    if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_LOWEST) != 0)
        sg_debug_log("sandbox", "the I/O priority stays as it is");
}

/* Stacks count as address space whether they are touched or not, and a codec starts dozens of
 * threads. */
static enum sg_error limit_stacks(void)
{
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0)
        return SG_ERR_NO_MEMORY;
    int rc = pthread_attr_setstacksize(&attr, TASK_STACK_BYTES);
    if (rc == 0)
        rc = pthread_setattr_default_np(&attr);
    (void)pthread_attr_destroy(&attr);
    return rc == 0 ? SG_OK : SG_ERR_INTERNAL;
}

static enum sg_error limit_privileges(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return sg_error_from_errno(errno);
    /* The parent set this before exec; setting it again covers a process started by hand. A parent
     * that is gone by now shows as end of file on the socket, so no further check is needed. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return sg_error_from_errno(errno);
    return SG_OK;
}

#ifdef SG_UNDER_ASAN
/* The leak checker at exit needs ptrace and a new process. */
static void skip_leak_check(int status, void *arg)
{
    (void)arg;
    _exit(status);
}
#endif

enum sg_error sg_sandbox_enter(int sock, const struct sg_sandbox_limits *limits)
{
    int abi = 0;
    const char *step = "descriptors";
    warm_up();
#ifdef SG_UNDER_ASAN
    if (on_exit(skip_leak_check, NULL) != 0)
        return SG_ERR_NO_MEMORY;
#endif
    prefer_as_oom_victim();
    enum sg_error err = limit_descriptors(sock);
    if (err == SG_OK) {
        step = "privileges";
        (void)clearenv();
        err = limit_privileges();
    }
    if (err == SG_OK) {
        step = "limits";
        err = limit_resources(limits);
        if (err == SG_OK && limits->task) {
            step_back(limits->niceness);
            err = limit_stacks();
        }
    }
    if (err == SG_OK) {
        step = "Landlock";
        err = sg_landlock_deny_all(&abi);
    }
    if (err == SG_OK && abi == 0)
        sg_warn_log("sandbox", "this kernel offers no Landlock; seccomp alone confines media");
    if (err == SG_OK) {
        step = "seccomp";
        err = sg_seccomp_load(sock, limits->task);
    }
    if (err != SG_OK)
        sg_error_log("sandbox", "cannot confine the media process (%s): %s", step,
                     sg_error_title(err));
    return err;
}
