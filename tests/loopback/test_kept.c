/* Small content from memory, asked for by many connections at once: each answer carries its own
 * request's id and limits, and the body and length of what was asked for, whether connections share
 * a thread, pipeline, die while they are being answered, or are there when the server stops. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loopback_support.h"

#define THREADS 4
#define CONNECTIONS 5 /* of each thread */
#define DEEP 12       /* requests sent ahead */
#define ROUNDS 120

static struct loop loop;
static struct sg_server *server;

static int setup(void **state)
{
    (void)state;
    static const char *const overrides[] = {"server.listen=127.0.0.1:0",
                                            "ratelimit.streaming=100000000/100000000",
                                            "server.io_threads=2", NULL};
    loop_open(&loop, overrides, false);
    assert_int_equal(sg_server_start(&loop.svc, &server), SG_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sg_server_stop(&server, 2000);
    loop_close(&loop);
    return 0;
}

/* One client's connection with what was read ahead. */
struct peer {
    int fd;
    char in[256 * 1024];
    size_t at, end;
};

enum kind { KIND_GET, KIND_HEAD, KIND_FRESH, KIND_RANGE, KIND_COUNT };
struct asked {
    enum kind kind;
    unsigned n;
    char id[27];
};

/* Mostly plain GET of few contents, so that kept responses are met again and again. */
static struct asked ask_for(unsigned who, unsigned i)
{
    struct asked a = {.kind = i % 5 == 4 ? (enum kind)(i / 5 % KIND_COUNT) : KIND_GET,
                      .n = i % 7 == 3 ? i % LOOP_KEPT_COUNT : i % 3};
    (void)snprintf(a.id, sizeof a.id, "c%u-%u", who, i);
    return a;
}

static void send_ask(int fd, const struct asked *a)
{
    static const char *const more[KIND_COUNT] = {
        [KIND_GET] = "",
        [KIND_HEAD] = "",
        [KIND_FRESH] = "If-None-Match: \"kept\"\r\n",
        [KIND_RANGE] = "Range: bytes=1-100\r\n",
    };
    char text[256];
    (void)snprintf(text, sizeof text,
                   "%s /t/kept/%u HTTP/1.1\r\nHost: h\r\nX-Request-Id: %s\r\n%s\r\n",
                   a->kind == KIND_HEAD ? "HEAD" : "GET", a->n, a->id, more[a->kind]);
    loop_write(fd, text, strlen(text));
}

static bool fill(struct peer *p, size_t wanted)
{
    if (p->at > 0) {
        memmove(p->in, p->in + p->at, p->end - p->at);
        p->end -= p->at;
        p->at = 0;
    }
    while (p->end < wanted) {
        ssize_t n = recv(p->fd, p->in + p->end, sizeof p->in - 1 - p->end, 0);
        if (n <= 0)
            return false;
        p->end += (size_t)n;
    }
    return true;
}

/* Exactly one header of that name and value in the head. */
static bool has_once(const char *head, const char *name, const char *value)
{
    char line[128], start[64];
    (void)snprintf(line, sizeof line, "\r\n%s: %s\r\n", name, value);
    (void)snprintf(start, sizeof start, "\r\n%s:", name);
    const char *first = strstr(head, start);
    return first && strstr(head, line) == first && !strstr(first + 1, start);
}

static const char *wrong_head(const char *head, const struct asked *a)
{
    static const char *const status[KIND_COUNT] = {"HTTP/1.1 200 ", "HTTP/1.1 200 ",
                                                   "HTTP/1.1 304 ", "HTTP/1.1 206 "};
    char length[24];
    (void)snprintf(length, sizeof length, "%zu",
                   a->kind == KIND_RANGE ? (size_t)100 : loop_kept_size(a->n));
    if (strncmp(head, status[a->kind], 13) != 0)
        return "status";
    if (!has_once(head, "X-Request-Id", a->id))
        return "id";
    if (!has_once(head, "Content-Length", length))
        return "length";
    if (a->kind != KIND_FRESH &&
        !has_once(head, "Content-Type", a->n % 2 ? "text/plain" : "text/css"))
        return "type";
    return has_once(head, "ETag", "\"kept\"") ? NULL : "etag";
}

/* NULL: as it should be; "": the connection ended before the first byte. */
static const char *wrong_answer(struct peer *p, const struct asked *a)
{
    char *end = NULL;
    for (size_t wanted = 1; !end; wanted = p->end + 1) {
        if (!fill(p, wanted))
            return p->end == 0 ? "" : "cut off";
        p->in[p->end] = '\0';
        end = strstr(p->in, "\r\n\r\n");
    }
    size_t head_len = (size_t)(end - p->in) + 4;
    end[2] = '\0';
    const char *wrong = wrong_head(p->in, a);
    size_t len = a->kind == KIND_GET ? loop_kept_size(a->n) : a->kind == KIND_RANGE ? 100 : 0;
    if (wrong)
        return wrong;
    if (!fill(p, head_len + len))
        return "cut off";
    for (size_t i = 0; i < len; i++)
        if (p->in[head_len + i] != (char)('a' + a->n))
            return "body";
    p->at = head_len + len;
    return NULL;
}

struct client {
    unsigned who;
    uint16_t port;
    bool until_stopped;
    const char *wrong; /* what went wrong first */
    unsigned answers;
    struct peer peers[CONNECTIONS];
};

/* Asks DEEP times on each connection before it reads the first answer. */
static void one_round(struct client *c, unsigned round)
{
    for (unsigned k = 0; k < CONNECTIONS; k++) {
        for (unsigned i = 0; i < DEEP; i++) {
            struct asked a = ask_for(c->who * CONNECTIONS + k, round * DEEP + i);
            send_ask(c->peers[k].fd, &a);
        }
    }
    for (unsigned k = 0; k < CONNECTIONS; k++) {
        for (unsigned i = 0; i < DEEP && !c->wrong; i++) {
            struct asked a = ask_for(c->who * CONNECTIONS + k, round * DEEP + i);
            c->wrong = wrong_answer(&c->peers[k], &a);
            c->answers += c->wrong == NULL;
        }
    }
}

/* Asks for much, reads a little of it or nothing, and is gone. */
static void die_in_answer(struct client *c, unsigned round)
{
    const struct linger now = {.l_onoff = 1};
    char some[5000];
    int fd = loop_connect(c->port);
    for (unsigned i = 0; i < DEEP * 2; i++) {
        struct asked a = {.n = i % 2 * 3};
        (void)snprintf(a.id, sizeof a.id, "dead-%u", i);
        send_ask(fd, &a);
    }
    if (round % 2)
        (void)!recv(fd, some, sizeof some, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static void *run_client(void *arg)
{
    struct client *c = arg;
    for (unsigned k = 0; k < CONNECTIONS; k++)
        c->peers[k].fd = loop_connect(c->port);
    for (unsigned round = 0; (c->until_stopped || round < ROUNDS) && !c->wrong; round++) {
        one_round(c, round);
        if (!c->until_stopped)
            die_in_answer(c, round);
    }
    for (unsigned k = 0; k < CONNECTIONS; k++)
        close(c->peers[k].fd);
    return NULL;
}

static struct client clients[THREADS];
static pthread_t threads[THREADS];

static void start_clients(uint16_t port, bool until_stopped)
{
    memset(clients, 0, sizeof clients);
    for (unsigned i = 0; i < THREADS; i++) {
        clients[i].who = i;
        clients[i].port = port;
        clients[i].until_stopped = until_stopped;
        assert_int_equal(pthread_create(&threads[i], NULL, run_client, &clients[i]), 0);
    }
}

static void test_own_answers(void **state)
{
    (void)state;
    start_clients(sg_server_port(server), false);
    for (unsigned i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        if (clients[i].wrong)
            fail_msg("client %u after %u answers: %s", i, clients[i].answers, clients[i].wrong);
        assert_int_equal(clients[i].answers, ROUNDS * DEEP * CONNECTIONS);
    }
}

/* A stop in the middle: what was answered until then is right, and nothing crashes or leaks. */
static void test_stopped(void **state)
{
    (void)state;
    for (unsigned pass = 0; pass < 5; pass++) {
        struct sg_server *own = NULL;
        assert_int_equal(sg_server_start(&loop.svc, &own), SG_OK);
        start_clients(sg_server_port(own), true);
        struct timespec some = {.tv_nsec = 60000000L};
        (void)nanosleep(&some, NULL);
        uint64_t begin = sg_clock_mono_ms();
        sg_server_stop(&own, 1000);
        assert_in_range(sg_clock_mono_ms() - begin, 0, 4000);
        for (unsigned i = 0; i < THREADS; i++)
            (void)pthread_join(threads[i], NULL);
        for (unsigned i = 0; i < THREADS; i++) {
            const char *wrong = clients[i].wrong;
            assert_non_null(wrong);
            if (*wrong && strcmp(wrong, "cut off") != 0)
                fail_msg("client %u after %u answers: %s", i, clients[i].answers, wrong);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_answers),
        cmocka_unit_test(test_stopped),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
