/* Starting and ending a child of a multithreaded daemon. Between vfork and execve only
 * async-signal-safe calls run, all signals are blocked, and nothing of the daemon's but descriptors
 * 0 to 2 and the socket passes. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "streamgate/sandbox/media_pool.h"

/* Room for the largest call in one datagram, also where net.core.wmem_default was lowered. */
#define SOCKET_BUFFER_BYTES (4 * SG_MEDIA_PAYLOAD_MAX)

struct start {
    const char *exe;
    char *const *argv;
    int sock;
    pid_t parent;
    volatile int *failed; /* errno of execve: a vfork child shares the parent's memory */
};

static void reset_signals(void)
{
    struct sigaction act = {.sa_handler = SIG_DFL};
    for (int sig = 1; sig < _NSIG; sig++)
        (void)sigaction(sig, &act, NULL); /* refused for KILL, STOP and the C library's own */
    act.sa_handler = SIG_IGN;
    (void)sigaction(SIGTERM, &act, NULL);
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGHUP, &act, NULL);
}

_Noreturn static void run_child(const struct start *s)
{
    static char *const no_environment[] = {NULL};
    sigset_t none;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != s->parent) /* the daemon died before the line above took effect */
        _exit(126);
    (void)setsid(); /* no controlling terminal */
    /* Handlers go before the mask is opened: one of the daemon's must not run on memory that is
     * still shared. */
    reset_signals();
    int placed =
        s->sock == SG_PROCESS_SOCK ? fcntl(s->sock, F_SETFD, 0) : dup2(s->sock, SG_PROCESS_SOCK);
    if (placed < 0) {
        *s->failed = errno;
        _exit(127);
    }
    /* Everything of ours is close-on-exec; this is for what libraries opened without it. */
    (void)syscall(SYS_close_range, SG_PROCESS_SOCK + 1, UINT_MAX, 0);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)execve(s->exe, s->argv, no_environment);
    *s->failed = errno;
    _exit(127);
}

enum sg_error sg_process_start(const char *exe, char *const argv[], struct sg_process *out)
{
    int pair[2];
    int buffer = SOCKET_BUFFER_BYTES;
    volatile int failed = 0;
    sigset_t all, old;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return sg_error_from_errno(errno);
    for (int i = 0; i < 2; i++)
        (void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));

    const struct start start = {
        .exe = exe,
        .argv = argv,
        .sock = pair[1],
        .parent = getpid(),
        .failed = &failed,
    };
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t pid = vfork(); /* not fork: no copy of the daemon's page tables, no atfork handlers */
    if (pid == 0)
        run_child(&start);
    int fork_errno = errno;
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)close(pair[1]);
    if (pid < 0) {
        (void)close(pair[0]);
        return sg_error_from_errno(fork_errno);
    }
    *out = (struct sg_process){.pid = pid, .sock = pair[0]};
    if (failed != 0) {
        char how[SG_PROCESS_END_SIZE];
        sg_process_stop(out, how);
        return sg_error_from_errno(failed);
    }
    return SG_OK;
}

enum sg_error sg_process_source(int fd, int *out)
{
    char path[sizeof("/proc/self/fd/") + 12];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int own = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (own < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
        return sg_error_from_errno(errno);
    if (own < 0) {
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0 || (flags & O_ACCMODE) != O_RDONLY)
            return SG_ERR_INVALID;
        own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (own < 0)
            return sg_error_from_errno(errno);
    }
    *out = own;
    return SG_OK;
}

void sg_process_stop(struct sg_process *process, char how[SG_PROCESS_END_SIZE])
{
    int status = 0;
    pid_t reaped;
    if (process->pid == 0) {
        how[0] = '\0';
        return;
    }
    /* One that is dying already keeps the status it dies with. */
    (void)kill(process->pid, SIGKILL);
    do {
        reaped = waitpid(process->pid, &status, 0);
    } while (reaped < 0 && errno == EINTR);
    (void)close(process->sock);
    if (reaped > 0 && WIFSIGNALED(status))
        (void)snprintf(how, SG_PROCESS_END_SIZE, "signal %d", WTERMSIG(status));
    else if (reaped > 0)
        (void)snprintf(how, SG_PROCESS_END_SIZE, "exit %d", WEXITSTATUS(status));
    else
        (void)snprintf(how, SG_PROCESS_END_SIZE, "unknown");
    *process = (struct sg_process){.pid = 0, .sock = -1};
}
