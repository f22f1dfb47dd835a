/* The sandbox's parts one by one, each in a child of its own: Landlock without seccomp, the sandbox
 * on a kernel without Landlock, a kernel that refuses filters, the CPU limit, and the loop's ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "streamgate/base/log.h"

#include "confine.h"
#include "pool_support.h"
#include "proto.h"

enum { GOOD = 0, ABSENT = 77 };

static const struct sg_sandbox_limits wide = {.memory_bytes = 1u << 30, .open_files = 64};
static unsigned landlock_lines;

static void count_lines(void *arg, const char *line)
{
    (void)arg;
    landlock_lines += strstr(line, "Landlock") != NULL ? 1 : 0;
}

/* Runs the function in a child with one end of a socket pair; the other end and the child's pid
 * come back. */
static pid_t start_child(int (*run)(int sock), int *sock)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(pair[0]);
        _exit(run(pair[1]));
    }
    (void)close(pair[1]);
    *sock = pair[0];
    return pid;
}

static int end_child(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int run_child(int (*run)(int sock))
{
    int sock;
    pid_t pid = start_child(run, &sock);
    int status = end_child(pid);
    (void)close(sock);
    return status;
}

static void assert_exit(int status, int code)
{
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == ABSENT)
        skip();
    assert_int_equal(WEXITSTATUS(status), code);
}

static int landlock_only(int sock)
{
    int abi = 0;
    char byte;
    (void)sock;
    int open_before = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || sg_landlock_deny_all(&abi) != SG_OK)
        return 1;
    if (abi == 0)
        return ABSENT;
    if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES)
        return 2;
    if (open("/tmp/streamgate-landlock-test", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0)
        return 3;
    if (read(open_before, &byte, 1) != 1) /* what was passed stays readable */
        return 4;
    int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, 100) != 0 || write(fd, "x", 1) != 1)
        return 5;
    return GOOD;
}

static void landlock_denies_by_itself(void **state)
{
    (void)state;
    assert_exit(run_child(landlock_only), GOOD);
}

/* A filter of the service manager's kind: the call answers errnum. */
static int refuse(int call, int errnum)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int rc = ctx == NULL ? -1 : seccomp_rule_add(ctx, SCMP_ACT_ERRNO((uint32_t)errnum), call, 0);
    rc = rc != 0 ? rc : seccomp_load(ctx);
    seccomp_release(ctx);
    return rc;
}

static int no_landlock(int sock)
{
    sg_log_test_sink(count_lines, NULL);
    if (refuse(SCMP_SYS(landlock_create_ruleset), ENOSYS) != 0)
        return 1;
    if (sg_sandbox_enter(sock, &wide) != SG_OK)
        return 2;
    if (landlock_lines != 1)
        return 3;
    if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EPERM)
        return 4;
    return GOOD;
}

static void an_absent_landlock_is_said_and_survived(void **state)
{
    (void)state;
    assert_exit(run_child(no_landlock), GOOD);
}

static int landlock_fails(int sock)
{
    sg_log_test_sink(count_lines, NULL);
    if (refuse(SCMP_SYS(landlock_restrict_self), E2BIG) != 0)
        return 1;
    enum sg_error err = sg_sandbox_enter(sock, &wide);
    if (err == SG_OK)
        return landlock_lines > 0 ? ABSENT : 2;
    return GOOD;
}

static void a_failing_landlock_is_fatal(void **state)
{
    (void)state;
    assert_exit(run_child(landlock_fails), GOOD);
}

static int no_seccomp(int sock)
{
    sg_log_test_sink(count_lines, NULL);
    if (refuse(SCMP_SYS(seccomp), EPERM) != 0)
        return 1;
    return sg_sandbox_enter(sock, &wide) == SG_ERR_FORBIDDEN ? GOOD : 2;
}

static void a_refused_filter_is_fatal(void **state)
{
    (void)state;
    assert_exit(run_child(no_seccomp), GOOD);
}

static int standard_descriptor(int sock)
{
    (void)sock;
    sg_log_test_sink(count_lines, NULL);
    return sg_sandbox_enter(STDIN_FILENO, &wide) == SG_ERR_INVALID ? GOOD : 1;
}

static void the_socket_is_no_standard_descriptor(void **state)
{
    (void)state;
    assert_exit(run_child(standard_descriptor), GOOD);
}

static int spin_in_a_second(int sock)
{
    const struct sg_sandbox_limits limits = {.cpu_seconds = 1};
    volatile uint64_t n = 0;
    if (sg_sandbox_enter(sock, &limits) != SG_OK)
        return 1;
    for (;;)
        n++;
}

static void cpu_time_is_bounded(void **state)
{
    (void)state;
    int status = run_child(spin_in_a_second);
    assert_true(WIFSIGNALED(status));
    assert_true(WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL);
}

static void fail_if_called(void *ctx, struct sg_media_request_view *rq, struct sg_media_answer *an)
{
    (void)ctx;
    (void)rq;
    (void)an;
    _exit(99);
}

static int serve(int sock)
{
    sg_log_test_sink(count_lines, NULL);
    if (sg_sandbox_enter(sock, &wide) != SG_OK)
        return 1;
    return sg_worker_serve(sock, fail_if_called, NULL);
}

static void the_loop_ends_with_the_socket(void **state)
{
    int sock;
    (void)state;
    pid_t pid = start_child(serve, &sock);
    (void)close(sock);
    assert_exit(end_child(pid), 0);
}

static void the_loop_refuses_nonsense(void **state)
{
    int sock;
    (void)state;
    pid_t pid = start_child(serve, &sock);
    const struct sg_wire_out out = {.head = "nonsense", .head_len = 8, .fd = STDERR_FILENO};
    assert_int_equal(sg_wire_send(sock, &out, true), SG_OK);
    int status = end_child(pid);
    (void)close(sock);
    assert_true(WIFEXITED(status));
    assert_int_not_equal(WEXITSTATUS(status), 0);
    assert_int_not_equal(WEXITSTATUS(status), 99);
}

static void overlong(void *ctx, struct sg_media_request_view *rq, struct sg_media_answer *an)
{
    (void)ctx;
    (void)rq;
    an->payload_len = sizeof(an->payload) + 1;
}

static int answer_too_long(int sock)
{
    return sg_worker_serve(sock, overlong, NULL);
}

static void an_overlong_answer_becomes_an_error(void **state)
{
    static uint8_t buf[SG_WIRE_REPLY_SIZE_MAX];
    const struct sg_wire_call_header head = {
        .magic = SG_WIRE_CALL_MAGIC, .kind = SG_WIRE_CALL, .seq = 1, .op = 1};
    const struct sg_wire_out out = {.head = &head, .head_len = sizeof(head), .fd = -1};
    struct sg_wire_in in;
    struct sg_wire_reply reply;
    int sock;
    (void)state;
    pid_t pid = start_child(answer_too_long, &sock);
    assert_int_equal(sg_wire_recv(sock, buf, sizeof(buf), true, &in), SG_OK);
    assert_int_equal(sg_wire_send(sock, &out, true), SG_OK);
    assert_int_equal(sg_wire_recv(sock, buf, sizeof(buf), true, &in), SG_OK);
    assert_int_equal(sg_wire_reply_decode(buf, in.len, in.n_fds, &reply), SG_OK);
    assert_int_equal(reply.err, SG_ERR_INTERNAL);
    assert_int_equal(reply.payload_len, 0);
    (void)close(sock);
    assert_exit(end_child(pid), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(landlock_denies_by_itself),
        cmocka_unit_test(an_absent_landlock_is_said_and_survived),
        cmocka_unit_test(a_failing_landlock_is_fatal),
        cmocka_unit_test(a_refused_filter_is_fatal),
        cmocka_unit_test(the_socket_is_no_standard_descriptor),
        cmocka_unit_test(cpu_time_is_bounded),
        cmocka_unit_test(the_loop_ends_with_the_socket),
        cmocka_unit_test(the_loop_refuses_nonsense),
        cmocka_unit_test(an_overlong_answer_becomes_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
