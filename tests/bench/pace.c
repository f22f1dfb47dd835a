/* Requests at a steady rate: what a viewer waits when the server has other things to do.
 *
 *   pace PORT PATH CONNECTIONS RATE SECONDS
 *
 * Each connection has a thread and asks RATE times a second, in turns with the others; whoever is
 * late is late: a time counts from when its request was due, so a stall is seen by all requests
 * that it held up (no coordinated omission). Prints the times in microseconds, one a line. Any
 * answer but a whole 200 ends it with status 1. Loopback only. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 8192
#define CONNECTIONS_MAX 256

struct client {
    pthread_t thread;
    uint16_t port;
    const char *path;
    unsigned rate, count, place, of; /* the place'th of so many connections */
    uint64_t *times_us;              /* count of them */
    bool failed;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        continue;
}

static int connect_to(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0)
        return -1;
    struct timeval limit = {.tv_sec = 60};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* The head of an answer into head, as a string; *extra: how much of the body came with it. */
static bool read_head(int fd, char head[HEAD_MAX], size_t *extra)
{
    size_t n = 0;
    for (;;) {
        ssize_t got = recv(fd, head + n, HEAD_MAX - 1 - n, 0);
        if (got <= 0)
            return false;
        n += (size_t)got;
        head[n] = '\0';
        char *end = strstr(head, "\r\n\r\n");
        if (end) {
            *extra = n - (size_t)(end + 4 - head);
            return true;
        }
        if (n == HEAD_MAX - 1)
            return false;
    }
}

static bool ask(int fd, const char *request, void *sink, size_t sink_size)
{
    char head[HEAD_MAX];
    size_t extra, len = strlen(request);
    if (send(fd, request, len, MSG_NOSIGNAL) != (ssize_t)len || !read_head(fd, head, &extra))
        return false;
    const char *length = strstr(head, "Content-Length: ");
    if (strncmp(head, "HTTP/1.1 200 ", 13) != 0 || !length)
        return false;
    uint64_t left = strtoull(length + 16, NULL, 10);
    if (left < extra)
        return false;
    for (left -= extra; left > 0;) {
        /* MSG_TRUNC: the bytes are thrown away, so the client costs the machine little. */
        ssize_t got = recv(fd, sink, left < sink_size ? (size_t)left : sink_size, MSG_TRUNC);
        if (got <= 0)
            return false;
        left -= (uint64_t)got;
    }
    return true;
}

static void *client_main(void *arg)
{
    struct client *c = arg;
    static const size_t sink_size = (size_t)1 << 20;
    char request[2048];
    void *sink = malloc(sink_size);
    int fd = connect_to(c->port);
    int n =
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", c->path);
    c->failed = !sink || fd < 0 || n < 0 || (size_t)n >= sizeof(request);
    /* Viewers do not come in step. */
    uint64_t due = now_ns() + 1000000000u / c->rate * c->place / c->of;
    for (unsigned i = 0; i < c->count && !c->failed; i++) {
        sleep_until(due);
        c->failed = !ask(fd, request, sink, sink_size);
        c->times_us[i] = (now_ns() - due) / 1000;
        due += 1000000000u / c->rate;
    }
    if (fd >= 0)
        close(fd);
    free(sink);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: pace PORT PATH CONNECTIONS RATE SECONDS\n");
        return 2;
    }
    unsigned long port = strtoul(argv[1], NULL, 10), n = strtoul(argv[3], NULL, 10),
                  rate = strtoul(argv[4], NULL, 10), seconds = strtoul(argv[5], NULL, 10);
    if (port == 0 || port > 65535 || n == 0 || n > CONNECTIONS_MAX || rate == 0 || rate > 10000 ||
        seconds == 0 || seconds > 600) {
        fprintf(stderr, "pace: a number is out of its range\n");
        return 2;
    }
    static struct client clients[CONNECTIONS_MAX];
    bool failed = false;
    for (unsigned long i = 0; i < n; i++) {
        struct client *c = &clients[i];
        *c = (struct client){.port = (uint16_t)port,
                             .path = argv[2],
                             .rate = (unsigned)rate,
                             .count = (unsigned)(rate * seconds),
                             .place = (unsigned)i,
                             .of = (unsigned)n};
        c->times_us = calloc(c->count, sizeof(*c->times_us));
        if (!c->times_us || pthread_create(&c->thread, NULL, client_main, c) != 0)
            return 1;
    }
    for (unsigned long i = 0; i < n; i++) {
        pthread_join(clients[i].thread, NULL);
        failed |= clients[i].failed;
    }
    for (unsigned long i = 0; i < n && !failed; i++)
        for (unsigned k = 0; k < clients[i].count; k++)
            printf("%llu\n", (unsigned long long)clients[i].times_us[k]);
    return failed;
}
