/* One long call in a process of its own: events in order, every way it can end, and that nothing of
 * it is left then. */
#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/sandbox/media_task.h"

#include "confine.h"
#include "pool_support.h"
#include "task_support.h"

struct heard {
    uint32_t n, first, last;
    bool in_order;
    int stop_after_fd; /* > 0: written to at the first event */
    enum sg_error refuse;
    uint64_t stopped_ms;
    void (*look)(uint32_t pid);
};

static enum sg_error hear(void *arg, const void *payload, size_t len)
{
    struct heard *h = arg;
    uint32_t v = 0;
    assert_int_equal(len, sizeof(v));
    memcpy(&v, payload, sizeof(v));
    if (h->n == 0)
        h->first = v;
    h->in_order = h->n == 0 ? v == 0 : h->in_order && v == h->last + 1;
    h->last = v;
    h->n++;
    if (h->look != NULL)
        h->look(v);
    if (h->n == 1 && h->stop_after_fd > 0) {
        assert_int_equal(eventfd_write(h->stop_after_fd, 1), 0);
        h->stopped_ms = sg_clock_mono_ms();
    }
    return h->refuse;
}

static const char *const served_argv[] = {"unit", TASK_SERVED, NULL};

struct ask {
    struct sg_media_task task;
    struct heard heard;
    struct sg_media_task_answer answer;
    uint8_t payload[256];
};

static void ask_init(struct ask *a, enum task_mode mode, const void *more, size_t len)
{
    memset(a, 0, sizeof(*a));
    a->payload[0] = (uint8_t)mode;
    if (len > 0)
        memcpy(a->payload + 1, more, len);
    a->task = (struct sg_media_task){
        .argv = served_argv,
        .memory_bytes = TEST_MEMORY,
        .file_bytes = TEST_MAX_REPLY,
        .niceness = 12,
        .timeout_ms = 30000,
        .stall_ms = 20000,
        .stop_fd = -1,
        .payload = a->payload,
        .payload_len = 1 + len,
        .event = hear,
        .arg = &a->heard,
    };
}

static enum sg_error run(struct ask *a)
{
    enum sg_error err = sg_media_task_run(&a->task, &a->answer);
    /* No child, dead or alive. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    return err;
}

static void events_come_in_order_before_the_answer(void **state)
{
    (void)state;
    for (uint32_t n = 0; n <= 3000; n = n * 10 + 3) {
        struct ask a;
        uint32_t fds = 9;
        ask_init(&a, TASK_COUNT, &n, sizeof(n));
        assert_int_equal(run(&a), SG_OK);
        assert_int_equal(a.heard.n, n);
        assert_true(n == 0 || a.heard.in_order);
        assert_int_equal(a.answer.payload_len, sizeof(fds));
        memcpy(&fds, a.answer.payload, sizeof(fds));
        assert_int_equal(fds, 0);
        assert_string_equal(a.answer.message, "");
    }
}

static void a_stop_ends_it_at_once(void **state)
{
    static const enum task_mode modes[] = {TASK_HANG, TASK_DRIP, TASK_FLOOD};
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(modes); i++) {
        struct ask a;
        ask_init(&a, modes[i], NULL, 0);
        int fd = eventfd(0, EFD_CLOEXEC);
        assert_true(fd >= 0);
        a.task.stop_fd = a.heard.stop_after_fd = fd;
        assert_int_equal(run(&a), SG_ERR_CANCELLED);
        uint64_t took = sg_clock_mono_ms() - a.heard.stopped_ms;
        (void)close(fd);
        assert_true(a.heard.n >= 1);
        assert_true(took < 500);
        assert_int_equal(kill((pid_t)a.heard.first, 0), -1);
        assert_int_equal(errno, ESRCH);
    }
}

static void stopped_before_it_began(void **state)
{
    struct ask a;
    uint32_t n = 3;
    (void)state;
    ask_init(&a, TASK_COUNT, &n, sizeof(n));
    a.task.stop_fd = eventfd(1, EFD_CLOEXEC);
    assert_int_equal(run(&a), SG_ERR_CANCELLED);
    assert_int_equal(a.heard.n, 0);
    (void)close(a.task.stop_fd);
}

static void silence_and_length_are_bounded(void **state)
{
    static const struct {
        enum task_mode mode;
        uint64_t timeout_ms, stall_ms;
    } rows[] = {
        {TASK_HANG, 60000, 150},  /* told once, then nothing */
        {TASK_DRIP, 2000, 60000}, /* never silent, never through */
        {TASK_FLOOD, 2000, 60000},
    };
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct ask a;
        ask_init(&a, rows[i].mode, NULL, 0);
        a.task.timeout_ms = rows[i].timeout_ms;
        a.task.stall_ms = rows[i].stall_ms;
        uint64_t before = sg_clock_mono_ms();
        assert_int_equal(run(&a), SG_ERR_MEDIA_TIMEOUT);
        assert_true(sg_clock_mono_ms() - before < 20000);
        assert_string_equal(a.answer.message, "The media process took too long");
        assert_true(a.heard.n >= 1);
    }
}

static void a_crash_is_an_error(void **state)
{
    static const enum task_mode modes[] = {TASK_ABORT, TASK_EXIT};
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(modes); i++) {
        struct ask a;
        ask_init(&a, modes[i], NULL, 0);
        assert_int_equal(run(&a), SG_ERR_MEDIA_WORKER);
        assert_string_equal(a.answer.message, "The media process failed");
        assert_int_equal(a.answer.payload_len, 0);
    }
}

static void what_it_answers_arrives(void **state)
{
    static const struct {
        enum sg_error said, heard;
    } rows[] = {
        {SG_ERR_UNPROCESSABLE, SG_ERR_UNPROCESSABLE},
        {SG_ERR_NO_SPACE, SG_ERR_NO_SPACE},
        {SG_ERR_IO, SG_ERR_IO},
        {SG_ERR_TOO_LARGE, SG_ERR_TOO_LARGE},
        {SG_ERR_FORBIDDEN, SG_ERR_INTERNAL},
    };
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct ask a;
        uint8_t more[4 + 5];
        uint32_t err = rows[i].said;
        memcpy(more, &err, 4);
        memcpy(more + 4, "a\nwhy", 5);
        ask_init(&a, TASK_FAIL, more, sizeof(more));
        assert_int_equal(run(&a), rows[i].heard);
        assert_string_equal(a.answer.message, "a?why");
    }
    struct ask a;
    ask_init(&a, TASK_OVERLONG, NULL, 0);
    assert_int_equal(run(&a), SG_ERR_INTERNAL);
}

static void a_refused_event_ends_it(void **state)
{
    struct ask a;
    (void)state;
    ask_init(&a, TASK_DRIP, NULL, 0);
    a.heard.refuse = SG_ERR_NO_SPACE;
    assert_int_equal(run(&a), SG_ERR_NO_SPACE);
    assert_int_equal(a.heard.n, 1);
}

static void lies_are_refused(void **state)
{
    (void)state;
    for (int l = LIE_NONE; l <= LIE_LAST; l++) {
        char which[2] = {(char)('a' + l - 1), '\0'};
        const char *const argv[] = {"unit", TASK_RAW, which, NULL};
        struct ask a;
        ask_init(&a, TASK_COUNT, NULL, 0);
        a.task.argv = argv;
        enum sg_error err = run(&a);
        if (err != (l == LIE_NONE ? SG_OK : SG_ERR_MEDIA_WORKER))
            fail_msg("lie %d: %s", l, sg_error_slug(err));
        assert_int_equal(a.heard.n, 0);
    }
    const char *const dirty[] = {"unit", TASK_RAW, (char[]){'a' + LIE_DIRTY_TEXT - 1, 0}, NULL};
    struct ask a;
    ask_init(&a, TASK_COUNT, NULL, 0);
    a.task.argv = dirty;
    assert_int_equal(run(&a), SG_ERR_UNPROCESSABLE);
    assert_string_equal(a.answer.message, "a?b?[2J?? caf\xc3\xa9");
}

static void a_process_that_does_not_start_says_so(void **state)
{
    const char *const dies[] = {"unit", TASK_RAW, "!", NULL};
    const char *const hangs[] = {"unit", TASK_RAW, "-", NULL};
    struct ask a;
    (void)state;
    ask_init(&a, TASK_COUNT, NULL, 0);
    a.task.exe = "/nonexistent/streamgate";
    assert_int_equal(run(&a), SG_ERR_UNAVAILABLE);
    ask_init(&a, TASK_COUNT, NULL, 0);
    a.task.argv = dies;
    assert_int_equal(run(&a), SG_ERR_UNAVAILABLE);
    assert_string_equal(a.answer.message, "The media process does not start");
    ask_init(&a, TASK_COUNT, NULL, 0);
    a.task.argv = hangs;
    a.task.timeout_ms = 200;
    assert_int_equal(run(&a), SG_ERR_UNAVAILABLE);
}

static int make_file(const char *text)
{
    int fd = memfd_create("task", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    return fd;
}

static void the_source_is_read_only_and_the_outputs_are_written(void **state)
{
    int fds[SG_MEDIA_TASK_FDS_MAX + 1];
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(fds); i++)
        fds[i] = make_file(i == 0 ? "the source" : "");
    assert_int_equal(lseek(fds[0], 4, SEEK_SET), 4);
    for (size_t n = 1; n <= SG_MEDIA_TASK_FDS_MAX; n += 13) {
        struct ask a;
        ask_init(&a, TASK_FILES, NULL, 0);
        a.task.fds = fds;
        a.task.n_fds = n;
        a.task.n_sources = 1;
        assert_int_equal(run(&a), SG_OK);
    }
    assert_int_equal(lseek(fds[0], 0, SEEK_CUR), 4); /* its offset is its own */
    char text[12] = "";
    assert_int_equal(pread(fds[1], text, 11, 0), 11);
    assert_string_equal(text, "the source!");
    struct ask a;
    ask_init(&a, TASK_FILES, NULL, 0);
    a.task.fds = fds;
    a.task.n_fds = SG_ARRAY_LEN(fds); /* one more than allowed */
    assert_int_equal(run(&a), SG_ERR_INVALID);
    a.task.n_fds = 1;
    a.task.n_sources = 2;
    assert_int_equal(run(&a), SG_ERR_INVALID);
    for (size_t i = 0; i < SG_ARRAY_LEN(fds); i++)
        (void)close(fds[i]);
}

static void threads_write_and_finish(void **state)
{
    struct ask a;
    uint32_t n = 0;
    (void)state;
    int fds[2] = {make_file("x"), make_file("")};
    ask_init(&a, TASK_THREADS, NULL, 0);
    a.task.fds = fds;
    a.task.n_fds = 2;
    a.task.n_sources = 1;
    assert_int_equal(run(&a), SG_OK);
    memcpy(&n, a.answer.payload, sizeof(n));
    assert_int_equal(n, TASK_THREADS_MAX);
    for (uint32_t i = 0; i < TASK_THREADS_MAX; i++) {
        uint8_t byte = 99;
        assert_int_equal(pread(fds[1], &byte, 1, (off_t)(i + 1) * TASK_BLOCK - 1), 1);
        assert_int_equal(byte, i);
    }
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void the_sandbox_refuses(void **state)
{
    (void)state;
    int fd = memfd_create("task", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    for (uint32_t what = 0; what < TASK_TRIES; what++) {
        struct ask a;
        int32_t got = -1;
        ask_init(&a, TASK_TRY, &what, sizeof(what));
        a.task.fds = &fd;
        a.task.n_fds = 1;
        enum sg_error err = run(&a);
        if (what >= TASK_TRY_SOCKET) {
            if (err != SG_ERR_MEDIA_WORKER)
                fail_msg("attempt %u: %s", what, sg_error_slug(err));
            continue;
        }
        assert_int_equal(err, SG_OK);
        memcpy(&got, a.answer.payload, sizeof(got));
        int32_t want = what == TASK_TRY_CLONE3 ? ENOSYS : EPERM;
        if (got != want)
            fail_msg("attempt %u: errno %d", what, got);
    }
    (void)close(fd);
}

static void look_at_priorities(uint32_t pid)
{
    long io = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, (int)pid);
    assert_int_equal(getpriority(PRIO_PROCESS, pid), 12);
    assert_int_equal(sched_getscheduler((pid_t)pid), SCHED_BATCH);
    assert_int_equal(io, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7));
}

static void it_stands_back_and_is_bounded(void **state)
{
    struct ask a;
    struct task_standing s;
    (void)state;
    ask_init(&a, TASK_DRIP, NULL, 0);
    a.heard.look = look_at_priorities;
    a.heard.refuse = SG_ERR_NO_SPACE;
    assert_int_equal(run(&a), SG_ERR_NO_SPACE);
    ask_init(&a, TASK_STANDING, NULL, 0);
    assert_int_equal(run(&a), SG_OK);
    assert_int_equal(a.answer.payload_len, sizeof(s));
    memcpy(&s, a.answer.payload, sizeof(s));
    assert_int_equal(s.open_fds, 4);
    assert_int_equal(s.file_limit, TEST_MAX_REPLY);
    assert_int_equal(s.stack_bytes, 2u << 20);
#ifndef SG_UNDER_SANITIZER
    assert_int_equal(s.memory_limit, TEST_MEMORY);
#endif
    ask_init(&a, TASK_SPIN, NULL, 0);
    a.task.cpu_seconds = 1;
    assert_int_equal(run(&a), SG_ERR_MEDIA_WORKER);
}

static void look_at_group(uint32_t pid)
{
    char path[64], text[64] = "";
    (void)snprintf(path, sizeof(path), "/proc/%u/autogroup", pid);
    FILE *f = fopen(path, "re"); /* a kernel that does not group by sessions has none */
    if (f != NULL) {
        assert_non_null(fgets(text, sizeof(text), f));
        (void)fclose(f);
        assert_non_null(strstr(text, " nice 12\n"));
    }
}

static void its_session_is_nice_too(void **state)
{
    struct ask a;
    (void)state;
    ask_init(&a, TASK_DRIP, NULL, 0);
    a.heard.look = look_at_group;
    a.heard.refuse = SG_ERR_NO_SPACE;
    assert_int_equal(run(&a), SG_ERR_NO_SPACE);
}

static int usable(pid_t pid)
{
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(pid, sizeof(set), &set), 0);
    return CPU_COUNT(&set);
}

/* Crowded from the 3rd look to the 7th. What the process may use is looked at before each. */
struct crowd {
    struct ask a;
    unsigned looks;
    int before[12];
    int stop_fd;
};

static bool is_crowded(void *arg)
{
    struct heard *h = arg;
    struct crowd *c = (struct crowd *)((char *)h - offsetof(struct crowd, a.heard));
    c->before[c->looks] = usable((pid_t)h->first);
    if (++c->looks == SG_ARRAY_LEN(c->before))
        assert_int_equal(eventfd_write(c->stop_fd, 1), 0);
    return c->looks >= 3 && c->looks <= 7;
}

static void it_leaves_cpus_while_it_is_crowded(void **state)
{
    struct crowd c = {.looks = 0, .stop_fd = eventfd(0, EFD_CLOEXEC)};
    int all = usable(0);
    (void)state;
    assert_true(c.stop_fd >= 0);
    ask_init(&c.a, TASK_DRIP, NULL, 0);
    c.a.task.crowded = is_crowded;
    c.a.task.spare_cpus = 1;
    c.a.task.stop_fd = c.stop_fd;
    assert_int_equal(run(&c.a), SG_ERR_CANCELLED);
    (void)close(c.stop_fd);
    assert_int_equal(c.looks, SG_ARRAY_LEN(c.before));
    for (unsigned i = 0; i < c.looks; i++)
        assert_int_equal(c.before[i], i >= 3 && i <= 7 && all > 1 ? all - 1 : all);
}

static void nothing_is_left_over_many_runs(void **state)
{
    (void)state;
    unsigned before = count_fds();
    int source = make_file("x");
    for (unsigned i = 0; i < trials(50); i++) {
        static const enum task_mode modes[] = {TASK_COUNT, TASK_ABORT, TASK_FILES, TASK_EXIT};
        struct ask a;
        uint32_t n = i;
        ask_init(&a, modes[i % SG_ARRAY_LEN(modes)], &n, sizeof(n));
        a.task.fds = &source;
        a.task.n_fds = a.task.n_sources = 1;
        bool fails = a.payload[0] == TASK_ABORT || a.payload[0] == TASK_EXIT;
        assert_int_equal(run(&a), fails ? SG_ERR_MEDIA_WORKER : SG_OK);
        assert_int_equal(count_fds(), before + 1);
    }
    (void)close(source);
}

/* A daemon that is killed -9 in the middle of a task. */
static int pipe_to_test;
static enum sg_error pass_pid(void *arg, const void *payload, size_t len)
{
    (void)arg;
    return write(pipe_to_test, payload, len) == (ssize_t)len ? SG_OK : SG_ERR_IO;
}

static void it_dies_with_the_daemon(void **state)
{
    int pair[2];
    uint32_t pid = 0;
    (void)state;
    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0); /* its end comes to this test */
    pid_t daemon = fork();
    assert_true(daemon >= 0);
    if (daemon == 0) {
        struct ask a;
        pipe_to_test = pair[1];
        ask_init(&a, TASK_HANG, NULL, 0);
        a.task.event = pass_pid;
        (void)!sg_media_task_run(&a.task, &a.answer);
        _exit(1);
    }
    assert_int_equal(read(pair[0], &pid, sizeof(pid)), sizeof(pid));
    assert_int_equal(kill(daemon, SIGKILL), 0);
    assert_int_equal(waitpid(daemon, NULL, 0), daemon);
    int status = 0;
    assert_int_equal(waitpid((pid_t)pid, &status, 0), (pid_t)pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

int main(int argc, char **argv)
{
    int status = task_worker_main(argc, argv);
    if (status >= 0)
        return status;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_in_order_before_the_answer),
        cmocka_unit_test(a_stop_ends_it_at_once),
        cmocka_unit_test(stopped_before_it_began),
        cmocka_unit_test(silence_and_length_are_bounded),
        cmocka_unit_test(a_crash_is_an_error),
        cmocka_unit_test(what_it_answers_arrives),
        cmocka_unit_test(a_refused_event_ends_it),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(a_process_that_does_not_start_says_so),
        cmocka_unit_test(the_source_is_read_only_and_the_outputs_are_written),
        cmocka_unit_test(threads_write_and_finish),
        cmocka_unit_test(the_sandbox_refuses),
        cmocka_unit_test(it_stands_back_and_is_bounded),
        cmocka_unit_test(its_session_is_nice_too),
        cmocka_unit_test(it_leaves_cpus_while_it_is_crowded),
        cmocka_unit_test(nothing_is_left_over_many_runs),
        cmocka_unit_test(it_dies_with_the_daemon),
    };
    return cmocka_run_group_tests(tests, pool_group_setup, pool_group_teardown);
}
