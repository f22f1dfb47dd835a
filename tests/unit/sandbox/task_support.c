/* See task_support.h. */
#include "task_support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "streamgate/base/error.h"
#include "streamgate/sandbox/media_task.h"

#include "process.h"
#include "proto.h"
#include "task_proto.h"

static void answer_bytes(struct sg_media_task_answer *an, const void *data, size_t len)
{
    memcpy(an->payload, data, len);
    an->payload_len = len;
}

static void tell_number(uint32_t n)
{
    sg_media_task_tell(SG_PROCESS_SOCK, &n, sizeof(n));
}

static uint32_t argument(const struct sg_media_task_view *call)
{
    uint32_t v = 0;
    if (call->payload_len >= 1 + sizeof(v))
        memcpy(&v, call->payload + 1, sizeof(v));
    return v;
}

static void hang(void)
{
    for (;;)
        (void)poll(NULL, 0, -1);
}

static enum sg_error use_files(const struct sg_media_task_view *call)
{
    char text[16];
    ssize_t n = read(call->fds[0], text, sizeof(text));
    if (n <= 0 || write(call->fds[0], "x", 1) >= 0 || errno != EBADF)
        return SG_ERR_UNPROCESSABLE;
    for (size_t i = 1; i < call->n_fds; i++) {
        if (ftruncate(call->fds[i], 0) != 0 || lseek(call->fds[i], 0, SEEK_SET) != 0 ||
            write(call->fds[i], text, (size_t)n) != n ||
            pwrite(call->fds[i], "!", 1, (off_t)n) != 1 || fallocate(call->fds[i], 0, 0, 64) != 0)
            return SG_ERR_IO;
    }
    return SG_OK;
}

struct block {
    int fd;
    uint32_t number;
    bool written;
};

static void *write_block(void *arg)
{
    struct block *b = arg;
    cpu_set_t cpus;
    uint8_t *bytes = malloc(TASK_BLOCK);
    if (bytes == NULL || sched_getaffinity(0, sizeof(cpus), &cpus) != 0)
        return NULL;
    (void)pthread_setname_np(pthread_self(), "encoder");
    memset(bytes, (int)b->number, TASK_BLOCK);
    b->written = pwrite(b->fd, bytes, TASK_BLOCK, (off_t)b->number * TASK_BLOCK) == TASK_BLOCK;
    free(bytes);
    return NULL;
}

static uint32_t write_by_threads(int fd)
{
    struct block blocks[TASK_THREADS_MAX];
    pthread_t threads[TASK_THREADS_MAX];
    bool created[TASK_THREADS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < TASK_THREADS_MAX; i++) {
        blocks[i] = (struct block){.fd = fd, .number = i};
        created[i] = pthread_create(&threads[i], NULL, write_block, &blocks[i]) == 0;
    }
    for (uint32_t i = 0; i < TASK_THREADS_MAX; i++)
        n += created[i] && pthread_join(threads[i], NULL) == 0 && blocks[i].written ? 1 : 0;
    return n;
}

static void look_around(struct task_standing *s)
{
    struct rlimit limit;
    pthread_attr_t attr;
    size_t stack = 0;
    memset(s, 0, sizeof(*s));
    for (int fd = 0; fd < 1024; fd++)
        s->open_fds += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
    if (getrlimit(RLIMIT_AS, &limit) == 0)
        s->memory_limit = limit.rlim_cur;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0)
        s->file_limit = limit.rlim_cur;
    if (pthread_getattr_default_np(&attr) == 0) {
        (void)pthread_attr_getstacksize(&attr, &stack);
        (void)pthread_attr_destroy(&attr);
    }
    s->stack_bytes = stack;
}

static void *make_socket(void *arg)
{
    *(long *)arg = socket(AF_UNIX, SOCK_STREAM, 0);
    return NULL;
}

static long attempt_in_thread(void)
{
    pthread_t thread;
    long rc = -1;
    if (pthread_create(&thread, NULL, make_socket, &rc) == 0)
        (void)pthread_join(thread, NULL);
    return rc;
}

static long attempt(enum task_attempt what, const struct sg_media_task_view *call)
{
    static char *const args[] = {(char *)(uintptr_t) "true", NULL};
    uint8_t zeros[88] = {0};
    switch (what) {
    case TASK_TRY_OPEN:
        return open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    case TASK_TRY_FORK: {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        return pid;
    }
    case TASK_TRY_CLONE3:
        return syscall(SYS_clone3, zeros, sizeof(zeros));
    case TASK_TRY_EXEC_MEMORY:
        return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                       MAP_FAILED
                   ? -1
                   : 0;
    case TASK_TRY_MEMFD:
        return memfd_create("x", MFD_CLOEXEC);
    case TASK_TRY_SEAL:
        return fcntl(call->fds[0], F_ADD_SEALS, F_SEAL_WRITE);
    case TASK_TRY_KILL_PARENT:
        return kill(getppid(), 0);
    case TASK_TRY_RENICE:
        return setpriority(PRIO_PROCESS, 0, 0);
    case TASK_TRY_SOCKET:
        return socket(AF_INET, SOCK_STREAM, 0);
    case TASK_TRY_SOCKET_IN_THREAD:
        return attempt_in_thread();
    case TASK_TRY_EXECVE:
        return execve("/bin/true", args, args + 1);
    case TASK_TRY_PTRACE:
        return syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
    case TASK_TRIES:
        break;
    }
    return 0;
}

static void *spin(void *arg)
{
    volatile uint64_t n = 0;
    (void)arg;
    while (n != UINT64_MAX)
        n++;
    return NULL;
}

static void burn(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, spin, NULL) == 0)
        (void)spin(NULL);
}

static enum sg_error fail(const struct sg_media_task_view *call, struct sg_media_task_answer *an)
{
    size_t len = call->payload_len - 1 - sizeof(uint32_t);
    memcpy(an->message, call->payload + 1 + sizeof(uint32_t), len);
    an->message[len] = '\0';
    return (enum sg_error)argument(call);
}

static enum sg_error talk(enum task_mode mode)
{
    tell_number((uint32_t)getpid());
    if (mode == TASK_ABORT)
        abort();
    if (mode == TASK_HANG)
        hang();
    for (uint32_t i = 1;; i++) {
        if (mode == TASK_DRIP)
            (void)poll(NULL, 0, 20);
        tell_number(i);
    }
}

static enum sg_error try_it(const struct sg_media_task_view *call, struct sg_media_task_answer *an)
{
    errno = 0;
    long rc = attempt((enum task_attempt)argument(call), call);
    int32_t result = rc >= 0 ? 0 : errno;
    answer_bytes(an, &result, sizeof(result));
    return SG_OK;
}

static enum sg_error handle(void *ctx, const struct sg_media_task_view *call,
                            struct sg_media_task_answer *an)
{
    enum task_mode mode = (enum task_mode)call->payload[0];
    uint32_t n = (uint32_t)call->n_fds;
    struct task_standing s;
    (void)ctx;
    switch (mode) {
    case TASK_COUNT:
        for (uint32_t i = 0; i < argument(call); i++)
            tell_number(i);
        answer_bytes(an, &n, sizeof(n));
        return SG_OK;
    case TASK_EXIT:
        _exit(9);
    case TASK_FAIL:
        return fail(call, an);
    case TASK_FILES:
        return use_files(call);
    case TASK_THREADS:
        n = write_by_threads(call->fds[1]);
        answer_bytes(an, &n, sizeof(n));
        return SG_OK;
    case TASK_STANDING:
        look_around(&s);
        answer_bytes(an, &s, sizeof(s));
        return SG_OK;
    case TASK_TRY:
        return try_it(call, an);
    case TASK_OVERLONG:
        an->payload_len = sizeof(an->payload) + 1;
        return SG_OK;
    case TASK_SPIN:
        burn();
        return SG_OK;
    default:
        return talk(mode);
    }
}

/* ---- the one that lies ---- */

static void send_note(struct sg_task_note_header head, const void *tail, size_t tail_len, int fd)
{
    const struct sg_wire_out out = {
        .head = &head, .head_len = sizeof(head), .tail = tail, .tail_len = tail_len, .fd = fd};
    if (sg_wire_send(SG_PROCESS_SOCK, &out, true) != SG_OK)
        _exit(5);
}

static const struct sg_task_note_header ready_head = {.magic = SG_TASK_NOTE_MAGIC,
                                                      .kind = SG_TASK_READY};

static void lie(enum task_lie what)
{
    static const uint8_t zeros[SG_TASK_NOTE_SIZE_MAX + 1];
    static const char dirty[] = "a\nb\x1b[2J\xe2\x80\xae\xff caf\xc3\xa9";
    struct sg_task_note_header e = {
        .magic = SG_TASK_NOTE_MAGIC, .kind = SG_TASK_EVENT, .payload_len = 4};
    struct sg_task_note_header a = {
        .magic = SG_TASK_NOTE_MAGIC, .kind = SG_TASK_ANSWER, .payload_len = 4};
    const struct {
        enum task_lie what;
        struct sg_task_note_header head;
        size_t len;
    } rows[] = {
        {LIE_NONE, a, 4},
        {LIE_NOT_READY, e, 4},
        {LIE_READY_TWICE, ready_head, 0},
        {LIE_MAGIC, {e.magic ^ 1, e.kind, 0, 4, 0, 0}, 4},
        {LIE_KIND, {e.magic, 9, 0, 4, 0, 0}, 4},
        {LIE_EVENT_LONG,
         {e.magic, e.kind, 0, SG_MEDIA_TASK_EVENT_MAX + 1, 0, 0},
         SG_MEDIA_TASK_EVENT_MAX + 1},
        {LIE_EVENT_ERROR, {e.magic, e.kind, 1, 4, 0, 0}, 4},
        {LIE_EVENT_MESSAGE, {e.magic, e.kind, 0, 4, 4, 0}, 8},
        {LIE_LENGTH, {a.magic, a.kind, 0, 5, 0, 0}, 4},
        {LIE_ERROR_CODE, {a.magic, a.kind, 0x102, 0, 0, 0}, 0},
        {LIE_ERROR_AND_PAYLOAD, {a.magic, a.kind, 1, 4, 0, 0}, 4},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        if (rows[i].what == what)
            send_note(rows[i].head, zeros, rows[i].len, -1);
    }
    if (what == LIE_DESCRIPTOR)
        send_note(e, zeros, 4, STDERR_FILENO);
    if (what == LIE_EMPTY)
        (void)send(SG_PROCESS_SOCK, zeros, 0, MSG_NOSIGNAL);
    if (what == LIE_HUGE)
        (void)send(SG_PROCESS_SOCK, zeros, sizeof(zeros), MSG_NOSIGNAL);
    if (what == LIE_CLOSE)
        (void)close(SG_PROCESS_SOCK);
    if (what == LIE_DIRTY_TEXT) {
        a.err = sg_task_error_encode(SG_ERR_UNPROCESSABLE);
        a.payload_len = 0;
        a.message_len = sizeof(dirty) - 1;
        send_note(a, dirty, sizeof(dirty) - 1, -1);
    }
}

static int raw_main(char what)
{
    static uint8_t rx[SG_TASK_CALL_SIZE_MAX];
    struct sg_wire_in in;
    int fds[SG_MEDIA_TASK_FDS_MAX];
    enum task_lie l = (enum task_lie)(what - 'a' + 1);
    if (l != LIE_NOT_READY) {
        send_note(ready_head, NULL, 0, -1);
        if (sg_wire_recv_fds(SG_PROCESS_SOCK, rx, sizeof(rx), fds, SG_MEDIA_TASK_FDS_MAX, &in) !=
            SG_OK)
            return 1;
    }
    lie(l);
    hang();
    return 0;
}

int task_worker_main(int argc, char **argv)
{
    struct sg_sandbox_limits limits;
    if (argc < 2 || (strcmp(argv[1], TASK_SERVED) != 0 && strcmp(argv[1], TASK_RAW) != 0))
        return -1;
    if (sg_worker_receive_limits(SG_PROCESS_SOCK, &limits) != SG_OK)
        return 10;
    if (!limits.task)
        return 12;
    if (argc == 3 && argv[2][0] == '!')
        return 13; /* dies before it is ready */
    if (argc == 3 && argv[2][0] == '-')
        hang();
    if (argc == 3)
        return raw_main(argv[2][0]);
    if (sg_sandbox_enter(SG_PROCESS_SOCK, &limits) != SG_OK)
        return 11;
    return sg_media_task_serve(SG_PROCESS_SOCK, handle, NULL);
}
