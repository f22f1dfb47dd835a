/* The system calls of a media process. What decoding, memory, threads and the one socket need is
 * allowed, some of it by argument; what only an attacker would call kills; the rest answers EPERM,
 * because libraries probe for things and go on without them. One list serves every build:
 * sanitizers need nothing dangerous beyond it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "confine.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static const int allowed[] = {
    /* passed descriptors and memfds; nothing else can be opened */
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(preadv),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(pwrite64),
    SCMP_SYS(pwritev),
    SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    SCMP_SYS(close),
    SCMP_SYS(dup),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(fadvise64),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    /* memory */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    /* threads */
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    SCMP_SYS(getcpu),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    /* signals of its own */
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    /* time, randomness, accounting */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(times),
    SCMP_SYS(getrandom),
    SCMP_SYS(getrusage),
    SCMP_SYS(getrlimit),
    SCMP_SYS(sysinfo),
};

static const int deadly[] = {
    /* network */
    SCMP_SYS(socket),
    SCMP_SYS(socketpair),
    SCMP_SYS(connect),
    SCMP_SYS(bind),
    SCMP_SYS(listen),
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    /* programs and other processes */
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise),
    SCMP_SYS(pidfd_open),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(pidfd_send_signal),
    SCMP_SYS(kcmp),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    /* file systems */
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(name_to_handle_at),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(quotactl),
    SCMP_SYS(acct),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    /* wide kernel surfaces */
    SCMP_SYS(bpf),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(ioperm),
    SCMP_SYS(iopl),
    SCMP_SYS(modify_ldt),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(syslog),
    /* identity */
    SCMP_SYS(setuid),
    SCMP_SYS(setgid),
    SCMP_SYS(setresuid),
    SCMP_SYS(setresgid),
    SCMP_SYS(setgroups),
    SCMP_SYS(capset),
};

/* 0, or a negative errno: the first failure wins. */
static int add_tables(scmp_filter_ctx ctx)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < SG_ARRAY_LEN(allowed); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; rc == 0 && i < SG_ARRAY_LEN(deadly); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, deadly[i], 0);
    return rc;
}

static struct scmp_arg_cmp equal(unsigned arg, scmp_datum_t value)
{
    return (struct scmp_arg_cmp){.arg = arg, .op = SCMP_CMP_EQ, .datum_a = value, .datum_b = 0};
}

static struct scmp_arg_cmp masked(unsigned arg, scmp_datum_t mask, scmp_datum_t value)
{
    return (struct scmp_arg_cmp){
        .arg = arg, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

static int allow_when(scmp_filter_ctx ctx, int call, struct scmp_arg_cmp cmp)
{
    return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, call, 1, &cmp);
}

static int add_by_argument(scmp_filter_ctx ctx, int sock)
{
    static const int fcntl_commands[] = {F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC};
    const scmp_datum_t namespaces = (unsigned)CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
                                    CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |
                                    CLONE_NEWTIME;
    /* Limits can be read, not set. */
    const struct scmp_arg_cmp read_limit[] = {equal(0, 0), equal(2, 0)};
    const struct {
        int call;
        struct scmp_arg_cmp when;
    } rows[] = {
        /* No memory is ever made executable. */
        {SCMP_SYS(mmap), masked(2, PROT_EXEC, 0)},
        {SCMP_SYS(mprotect), masked(2, PROT_EXEC, 0)},
        /* Descriptors leave and arrive by the one socket only. */
        {SCMP_SYS(sendmsg), equal(0, (scmp_datum_t)sock)},
        {SCMP_SYS(recvmsg), equal(0, (scmp_datum_t)sock)},
        /* Threads, not processes. */
        {SCMP_SYS(clone), masked(0, CLONE_THREAD | namespaces, CLONE_THREAD)},
        /* abort() and thread cancellation; no other process can be signalled. */
        {SCMP_SYS(tgkill), equal(0, (scmp_datum_t)getpid())},
        /* glibc's fstat. The path is behind a pointer and cannot be checked, so a stat of a path
         * stays possible: it tells that a file exists, not what is in it. */
        {SCMP_SYS(newfstatat), equal(3, AT_EMPTY_PATH)},
        {SCMP_SYS(prctl), equal(0, PR_SET_NAME)},
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < SG_ARRAY_LEN(rows); i++)
        rc = allow_when(ctx, rows[i].call, rows[i].when);
    for (size_t i = 0; rc == 0 && i < SG_ARRAY_LEN(fcntl_commands); i++)
        rc = allow_when(ctx, SCMP_SYS(fcntl), equal(1, (scmp_datum_t)fcntl_commands[i]));
    if (rc == 0)
        rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64),
                                    SG_ARRAY_LEN(read_limit), read_limit);
    /* clone3 takes its flags by pointer: ENOSYS makes the C library use clone. */
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    return rc;
}

/* A body is made and sealed here; a task writes to files of the daemon's, which it must not seal.
 */
static int add_bodies(scmp_filter_ctx ctx)
{
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(memfd_create), 0);
    rc = rc ? rc : allow_when(ctx, SCMP_SYS(fcntl), equal(1, F_ADD_SEALS));
    return rc ? rc : allow_when(ctx, SCMP_SYS(fcntl), equal(1, F_GET_SEALS));
}

enum sg_error sg_seccomp_load(int sock, bool task)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (ctx == NULL)
        return SG_ERR_NO_MEMORY;
    int rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    /* All threads: a sanitizer's run-time has one of its own by now. */
    rc = rc ? rc : seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    rc = rc ? rc : seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, not a chain */
    rc = rc ? rc : add_tables(ctx);
    rc = rc ? rc : add_by_argument(ctx, sock);
    if (!task)
        rc = rc ? rc : add_bodies(ctx);
    rc = rc ? rc : seccomp_load(ctx);
    seccomp_release(ctx);
    if (rc == 0)
        return SG_OK;
    return rc == -ENOMEM ? SG_ERR_NO_MEMORY : SG_ERR_FORBIDDEN;
}
