/* The least that an upload server can do which hashes what it keeps: a bound for the figures beside
 * it.
 *
 *   floor FOLDER
 *
 * Listens on a free port of 127.0.0.1, prints it, and answers each request with a Content-Length by
 * receiving its body, writing it to a new file, taking its SHA-256, syncing the file and a 201. No
 * checks, no database, no media, no folders synced: none of what makes an upload an asset. A thread
 * a connection; ends when it is killed. */
#define _GNU_SOURCE /* accept4 */
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX 8192
#define BLOCK ((size_t)256 << 10)

static int folder;
static atomic_uint files;

struct body {
    int fd;
    EVP_MD_CTX *sha;
    uint64_t left;
};

static bool take(struct body *b, const uint8_t *data, size_t len)
{
    b->left -= len;
    return EVP_DigestUpdate(b->sha, data, len) == 1 && write(b->fd, data, len) == (ssize_t)len;
}

/* What came of the body with the head stands at rest. */
static bool receive(int fd, struct body *b, const uint8_t *rest, size_t n, uint8_t *block)
{
    if (n > b->left || !take(b, rest, n))
        return false;
    while (b->left > 0) {
        ssize_t got = recv(fd, block, b->left < BLOCK ? (size_t)b->left : BLOCK, 0);
        if (got <= 0 || !take(b, block, (size_t)got))
            return false;
    }
    uint8_t digest[EVP_MAX_MD_SIZE];
    return EVP_DigestFinal_ex(b->sha, digest, NULL) == 1 && fdatasync(b->fd) == 0;
}

static bool serve_one(int fd, EVP_MD_CTX *sha, uint8_t *block)
{
    static const char answer[] = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
    char head[HEAD_MAX], name[32];
    size_t n = 0;
    const char *end = NULL;
    while (!end) {
        ssize_t got = n < sizeof(head) - 1 ? recv(fd, head + n, sizeof(head) - 1 - n, 0) : 0;
        if (got <= 0)
            return false;
        n += (size_t)got;
        head[n] = '\0';
        end = strstr(head, "\r\n\r\n");
    }
    const char *length = strstr(head, "Content-Length: ");
    if (!length || length > end)
        return false;
    snprintf(name, sizeof(name), "%u", atomic_fetch_add(&files, 1));
    struct body b = {.fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600),
                     .sha = sha,
                     .left = strtoull(length + 16, NULL, 10)};
    if (b.fd < 0 || EVP_DigestInit_ex(sha, EVP_sha256(), NULL) != 1)
        return false;
    bool last = strstr(head, "\r\nConnection: close\r\n") != NULL;
    size_t begun = (size_t)(end + 4 - head);
    bool ok = receive(fd, &b, (const uint8_t *)head + begun, n - begun, block);
    close(b.fd);
    return ok && send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) > 0 && !last;
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    uint8_t *block = malloc(BLOCK);
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    while (block && sha && serve_one(fd, sha, block))
        continue;
    EVP_MD_CTX_free(sha);
    free(block);
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    folder = argc == 2 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (folder < 0 || listener < 0 || bind(listener, (struct sockaddr *)&at, len) != 0 ||
        listen(listener, 128) != 0 || getsockname(listener, (struct sockaddr *)&at, &len) != 0)
        return 1;
    printf("%u\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        pthread_t thread;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 || pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) != 0)
            return 1;
        pthread_detach(thread);
    }
}
