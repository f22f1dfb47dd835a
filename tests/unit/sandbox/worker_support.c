/* The process's half of pool_support.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "streamgate/base/error.h"

#include "pool_support.h"
#include "process.h"
#include "proto.h"

static void answer_bytes(struct sg_media_answer *an, const void *data, size_t len)
{
    memcpy(an->payload, data, len);
    an->payload_len = len;
}

static void handle_echo(const struct sg_media_request_view *rq, struct sg_media_answer *an)
{
    size_t n = rq->payload_len < 2048 ? rq->payload_len : 2048;
    answer_bytes(an, rq->payload, n);
    if (rq->fd >= 0) {
        ssize_t got = read(rq->fd, an->payload + n, 1024);
        an->payload_len += got > 0 ? (size_t)got : 0;
    }
}

static void handle_body(const struct sg_media_request_view *rq, struct sg_media_answer *an)
{
    uint64_t len;
    uint8_t block[4096];
    memcpy(&len, rq->payload, sizeof(len));
    an->err = sg_worker_body_create(&an->body_fd);
    an->body_len = len;
    for (uint64_t at = 0; an->err == SG_OK && at < len; at += sizeof(block)) {
        for (size_t i = 0; i < sizeof(block); i++)
            block[i] = (uint8_t)((at + i) * 7);
        size_t n = len - at < sizeof(block) ? (size_t)(len - at) : sizeof(block);
        if (write(an->body_fd, block, n) != (ssize_t)n)
            an->err = errno == EFBIG ? SG_ERR_TOO_LARGE : SG_ERR_INTERNAL;
    }
}

static void handle_fail(const struct sg_media_request_view *rq, struct sg_media_answer *an)
{
    uint32_t err;
    memcpy(&err, rq->payload, sizeof(err));
    an->err = (enum sg_error)err;
    memcpy(an->message, rq->payload + sizeof(err), rq->payload_len - sizeof(err));
    an->message[rq->payload_len - sizeof(err)] = '\0';
}

static void handle_survey(struct sg_media_answer *an)
{
    struct survey s = {0};
    struct rlimit limit;
    for (int fd = 0; fd < 1024; fd++)
        s.open_fds += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
    for (char **e = environ; e != NULL && *e != NULL; e++)
        s.environ_count++;
    if (getrlimit(RLIMIT_AS, &limit) == 0)
        s.memory_limit = limit.rlim_max;
    if (getrlimit(RLIMIT_CORE, &limit) == 0)
        s.core_limit = limit.rlim_max;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0)
        s.file_limit = limit.rlim_max;
    answer_bytes(an, &s, sizeof(s));
}

static long attempt(enum attempt what)
{
    static uint8_t zeros[256];
    static char *const args[] = {(char *)(uintptr_t) "true", NULL};
    struct iovec iov = {.iov_base = zeros, .iov_len = sizeof(zeros)};
    struct rlimit limit = {.rlim_cur = 1, .rlim_max = 1};
    int n;
    switch (what) {
    case TRY_OPEN:
        return open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    case TRY_CREATE:
        return open("/tmp/streamgate-sandbox-test", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    case TRY_FORK: {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        return pid;
    }
    case TRY_KILL_PARENT:
        return syscall(SYS_kill, getppid(), 0);
    case TRY_EXEC_MEMORY:
        return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                       MAP_FAILED
                   ? -1
                   : 0;
    case TRY_RAISE_LIMIT:
        return setrlimit(RLIMIT_NOFILE, &limit);
    case TRY_IOCTL:
        return ioctl(STDERR_FILENO, FIONREAD, &n);
    case TRY_CLONE3:
        return syscall(SYS_clone3, zeros, (size_t)64);
    case TRY_READLINK:
        return readlink("/proc/self/exe", (char *)zeros, sizeof(zeros));
    case TRY_SENDTO:
        return sendto(SG_PROCESS_SOCK, zeros, 1, MSG_NOSIGNAL, NULL, 0);
    case TRY_SOCKET:
        return socket(AF_INET, SOCK_STREAM, 0);
    case TRY_EXECVE:
        return execve("/bin/true", args, args + 1);
    case TRY_PTRACE:
        return syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
    case TRY_BPF:
        return syscall(SYS_bpf, 0, zeros, sizeof(zeros));
    case TRY_IO_URING:
        return syscall(SYS_io_uring_setup, 1, zeros);
    case TRY_MOUNT:
        return mount("none", "/mnt", "tmpfs", 0, NULL);
    case TRY_PROCESS_VM:
        return process_vm_readv(getppid(), &iov, 1, &iov, 1, 0);
    case TRY_UNSHARE:
        return unshare(CLONE_NEWUSER);
    case TRY_USERFAULTFD:
        return syscall(SYS_userfaultfd, O_CLOEXEC);
    case TRY_COUNT:
        break;
    }
    return -1;
}

static void handle_try(const struct sg_media_request_view *rq, struct sg_media_answer *an)
{
    uint32_t what;
    memcpy(&what, rq->payload, sizeof(what));
    errno = 0;
    long rc = attempt((enum attempt)what);
    int32_t result = rc >= 0 ? 0 : errno;
    answer_bytes(an, &result, sizeof(result));
}

static void handle_allocate(struct sg_media_answer *an)
{
    enum { BLOCK = 16 << 20, BLOCKS = 128 };
    void *blocks[BLOCKS] = {0};
    uint64_t got = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK);
        if (blocks[i] == NULL)
            break;
        memset(blocks[i], 1, 4096);
        got += BLOCK;
    }
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    answer_bytes(an, &got, sizeof(got));
}

static void *thread_main(void *arg)
{
    void *p = malloc(100000);
    (void)pthread_setname_np(pthread_self(), "decoder");
    *(uint32_t *)arg = p != NULL;
    free(p);
    return NULL;
}

static void handle_threads(struct sg_media_answer *an)
{
    pthread_t threads[8];
    bool created[8];
    uint32_t ran[8] = {0}, sum = 0;
    for (size_t i = 0; i < 8; i++)
        created[i] = pthread_create(&threads[i], NULL, thread_main, &ran[i]) == 0;
    for (size_t i = 0; i < 8; i++) {
        if (created[i] && pthread_join(threads[i], NULL) == 0)
            sum += ran[i];
    }
    answer_bytes(an, &sum, sizeof(sum));
}

static void hang(void)
{
    for (;;)
        (void)poll(NULL, 0, -1);
}

static void handle(void *ctx, struct sg_media_request_view *rq, struct sg_media_answer *an)
{
    volatile uint64_t spins = 0;
    uint32_t pid = (uint32_t)getpid();
    int32_t result;
    (void)ctx;
    switch ((enum served_op)rq->op) {
    case OP_ECHO:
        handle_echo(rq, an);
        break;
    case OP_BODY:
        handle_body(rq, an);
        break;
    case OP_ABORT:
        abort();
    case OP_EXIT:
        _exit(9);
    case OP_HANG:
        hang();
        break;
    case OP_SPIN:
        for (;;)
            spins++;
    case OP_FAIL:
        handle_fail(rq, an);
        break;
    case OP_PID:
        answer_bytes(an, &pid, sizeof(pid));
        break;
    case OP_SURVEY:
        handle_survey(an);
        break;
    case OP_TRY:
        handle_try(rq, an);
        break;
    case OP_ALLOCATE:
        handle_allocate(an);
        break;
    case OP_THREADS:
        handle_threads(an);
        break;
    case OP_WRITE_FD:
        result = write(rq->fd, "x", 1) < 0 ? errno : 0;
        answer_bytes(an, &result, sizeof(result));
        break;
    default:
        an->err = SG_ERR_INVALID;
        break;
    }
    if (rq->fd >= 0)
        (void)close(rq->fd);
}

/* ---- the one that lies ---- */

struct raw_reply {
    struct sg_wire_reply_header head;
    uint8_t tail[256];
    size_t tail_len;
    int fds[253];
    size_t n_fds;
};

static void send_raw(const void *data, size_t len, const int *fds, size_t n_fds)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * 253)];
    } control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    memset(&control, 0, sizeof(control));
    if (n_fds > 0) {
        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    if (sendmsg(SG_PROCESS_SOCK, &msg, MSG_NOSIGNAL) < 0)
        _exit(5);
}

static void send_reply(const struct raw_reply *r)
{
    uint8_t data[sizeof(r->head) + sizeof(r->tail)];
    memcpy(data, &r->head, sizeof(r->head));
    memcpy(data + sizeof(r->head), r->tail, r->tail_len);
    send_raw(data, sizeof(r->head) + r->tail_len, r->fds, r->n_fds);
}

static int make_memfd(size_t len, int seals)
{
    int fd = memfd_create("raw", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)len) != 0 || fcntl(fd, F_ADD_SEALS, seals) != 0)
        _exit(6);
    return fd;
}

static void attach(struct raw_reply *r, size_t len, int seals, uint64_t claimed)
{
    r->fds[0] = make_memfd(len, seals);
    r->n_fds = 1;
    r->head.n_fds = 1;
    r->head.body_len = claimed;
}

/* Lies about the body; false when op is none of them. */
static bool spoil_body(enum raw_op op, struct raw_reply *r)
{
    const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    static const struct {
        enum raw_op op;
        size_t len;
        bool partly, unsealed;
        uint64_t claimed;
        size_t copies; /* of the descriptor, attached */
    } rows[] = {
        {.op = RAW_UNSEALED, .len = 100, .unsealed = true, .claimed = 100, .copies = 1},
        {.op = RAW_PARTLY_SEALED, .len = 100, .partly = true, .claimed = 100, .copies = 1},
        {.op = RAW_OVERSIZED,
         .len = TEST_MAX_REPLY + 1,
         .claimed = TEST_MAX_REPLY + 1,
         .copies = 1},
        {.op = RAW_BODY_LENGTH_LIE, .len = 100, .claimed = 101, .copies = 1},
        {.op = RAW_TWO_FDS, .len = 100, .claimed = 100, .copies = 2},
        {.op = RAW_MANY_FDS, .len = 100, .claimed = 100, .copies = 253},
        {.op = RAW_BODY_WITH_ERROR, .len = 100, .claimed = 100, .copies = 1},
        {.op = RAW_FD_NOT_ANNOUNCED, .len = 100, .claimed = 0, .copies = 1},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        if (rows[i].op != op)
            continue;
        int seals = rows[i].unsealed ? 0 : rows[i].partly ? F_SEAL_GROW | F_SEAL_WRITE : all;
        attach(r, rows[i].len, seals, rows[i].claimed);
        for (; r->n_fds < rows[i].copies; r->n_fds++)
            r->fds[r->n_fds] = r->fds[0];
        if (op == RAW_BODY_WITH_ERROR)
            r->head.err = sg_wire_error_encode(SG_ERR_UNPROCESSABLE);
        if (op == RAW_FD_NOT_ANNOUNCED)
            r->head.n_fds = 0;
        return true;
    }
    return false;
}

/* Lies about the message around it. */
static void spoil_frame(enum raw_op op, struct raw_reply *r)
{
    static const char dirty[] = "a\nb\x1b[2J\xe2\x80\xae\xff\xc2\x85 caf\xc3\xa9";
    switch (op) {
    case RAW_NOT_A_MEMFD:
        r->fds[0] = dup(STDERR_FILENO);
        r->n_fds = 1;
        r->head.n_fds = 1;
        break;
    case RAW_ERROR_CODE:
        r->head.err = SG_ERROR_COUNT + 1000;
        break;
    case RAW_SEQ:
        r->head.seq++;
        break;
    case RAW_MAGIC:
        r->head.magic ^= 1;
        break;
    case RAW_SHORT:
        r->head.payload_len++;
        break;
    case RAW_LONG:
        r->tail_len++;
        break;
    case RAW_DIRTY_TEXT:
        memmove(r->tail + sizeof(dirty) - 1, r->tail, r->tail_len);
        memcpy(r->tail, dirty, sizeof(dirty) - 1);
        r->head.message_len = sizeof(dirty) - 1;
        r->tail_len += sizeof(dirty) - 1;
        break;
    case RAW_CPU:
        r->head.cpu_us = UINT64_C(3000) * 1000000;
        break;
    case RAW_TWICE:
        send_reply(r);
        r->head.seq++;
        break;
    default:
        break;
    }
}

static void misbehave(enum raw_op op, struct raw_reply *r)
{
    static const uint8_t huge[SG_WIRE_REPLY_SIZE_MAX + 1];
    if (op == RAW_HUGE || op == RAW_EMPTY) {
        send_raw(huge, op == RAW_HUGE ? sizeof(huge) : 0, NULL, 0);
        return;
    }
    if (op == RAW_CLOSE) {
        (void)close(SG_PROCESS_SOCK);
        hang();
    }
    if (!spoil_body(op, r))
        spoil_frame(op, r);
    send_reply(r);
    if (r->n_fds > 0)
        (void)close(r->fds[0]);
}

static int raw_main(void)
{
    static uint8_t rx[SG_WIRE_CALL_SIZE_MAX];
    uint32_t pid = (uint32_t)getpid();
    struct raw_reply ready = {.head = {.magic = SG_WIRE_REPLY_MAGIC}};
    send_reply(&ready);
    for (;;) {
        struct sg_wire_in in;
        struct sg_wire_call rq;
        if (sg_wire_recv(SG_PROCESS_SOCK, rx, sizeof(rx), true, &in) != SG_OK)
            return 0;
        if (sg_wire_call_decode(rx, in.len, in.n_fds, &rq) != SG_OK)
            return 1;
        struct raw_reply r = {
            .head = {.magic = SG_WIRE_REPLY_MAGIC, .seq = rq.seq, .payload_len = sizeof(pid)},
            .tail_len = sizeof(pid),
        };
        memcpy(r.tail, &pid, sizeof(pid));
        misbehave(rq.kind == SG_WIRE_PING ? RAW_OK : (enum raw_op)rq.op, &r);
    }
}

int worker_main(int argc, char **argv)
{
    struct sg_sandbox_limits limits;
    bool raw = argc == 2 && strcmp(argv[1], "media-worker-raw") == 0;
    if (!raw && (argc != 2 || strcmp(argv[1], "media-worker-test") != 0))
        return -1;
    if (sg_worker_receive_limits(SG_PROCESS_SOCK, &limits) != SG_OK)
        return 10;
    if (raw)
        return raw_main();
    if (sg_sandbox_enter(SG_PROCESS_SOCK, &limits) != SG_OK)
        return 11;
    return sg_worker_serve(SG_PROCESS_SOCK, handle, NULL);
}
