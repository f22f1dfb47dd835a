/* Encoding, decoding and transport of the media process's messages. Everything received is hostile
 * until the decoder has said otherwise; decoders touch nothing outside [data, data + len). */
#include "proto.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "streamgate/base/str.h"

/* The kernel's SCM_MAX_FD: with room for that many a truncated control message can only mean that
 * this process ran out of descriptors, so the two cases are told apart. */
#define FDS_MAX 253

static_assert(sizeof(struct sg_wire_hello) == 48, "hello has no padding");
static_assert(sizeof(struct sg_wire_call_header) == 32, "call has no padding");
static_assert(sizeof(struct sg_wire_reply_header) == 48, "reply has no padding");
static_assert(sizeof(((struct sg_media_answer *)0)->payload) == SG_WIRE_REPLY_PAYLOAD_MAX,
              "an answer's payload fits a reply");

static const enum sg_error wire_errors[] = {
    SG_OK,
    SG_ERR_UNSUPPORTED_MEDIA,
    SG_ERR_UNPROCESSABLE,
    SG_ERR_TOO_LARGE,
    SG_ERR_NOT_FOUND,
    SG_ERR_INVALID,
    SG_ERR_NO_MEMORY,
    SG_ERR_INTERNAL,
};

uint32_t sg_wire_error_encode(enum sg_error err)
{
    uint32_t internal = 0;
    for (uint32_t i = 0; i < SG_ARRAY_LEN(wire_errors); i++) {
        if (wire_errors[i] == err)
            return i;
        if (wire_errors[i] == SG_ERR_INTERNAL)
            internal = i;
    }
    return internal;
}

enum sg_error sg_wire_error_decode(uint32_t wire, enum sg_error *out)
{
    if (wire >= SG_ARRAY_LEN(wire_errors))
        return SG_ERR_MEDIA_WORKER;
    *out = wire_errors[wire];
    return SG_OK;
}

enum sg_error sg_wire_hello_decode(const void *data, size_t len, size_t n_fds,
                                   struct sg_sandbox_limits *out)
{
    struct sg_wire_hello hello;
    if (len != sizeof(hello) || n_fds != 0)
        return SG_ERR_MEDIA_WORKER;
    memcpy(&hello, data, sizeof(hello));
    if (hello.magic != SG_WIRE_HELLO_MAGIC || hello.version != SG_WIRE_VERSION ||
        hello.open_files > UINT32_MAX || hello.task > 1 ||
        hello.niceness > (hello.task ? SG_WIRE_NICENESS_MAX : 0))
        return SG_ERR_MEDIA_WORKER;
    *out = (struct sg_sandbox_limits){
        .memory_bytes = hello.memory_bytes,
        .cpu_seconds = hello.cpu_seconds,
        .file_bytes = hello.file_bytes,
        .open_files = (unsigned)hello.open_files,
        .task = hello.task == 1,
        .niceness = hello.niceness,
    };
    return SG_OK;
}

enum sg_error sg_wire_call_decode(const void *data, size_t len, size_t n_fds,
                                  struct sg_wire_call *out)
{
    struct sg_wire_call_header head;
    if (len < sizeof(head))
        return SG_ERR_MEDIA_WORKER;
    memcpy(&head, data, sizeof(head));
    if (head.magic != SG_WIRE_CALL_MAGIC || head.zero != 0)
        return SG_ERR_MEDIA_WORKER;
    if (head.payload_len > SG_MEDIA_PAYLOAD_MAX || len - sizeof(head) != head.payload_len)
        return SG_ERR_MEDIA_WORKER;
    if (head.n_fds > 1 || head.n_fds != n_fds)
        return SG_ERR_MEDIA_WORKER;
    bool is_ping = head.kind == SG_WIRE_PING;
    if (!is_ping && head.kind != SG_WIRE_CALL)
        return SG_ERR_MEDIA_WORKER;
    if (is_ping && (head.op != 0 || head.payload_len != 0 || n_fds != 0))
        return SG_ERR_MEDIA_WORKER;
    *out = (struct sg_wire_call){
        .kind = is_ping ? SG_WIRE_PING : SG_WIRE_CALL,
        .seq = head.seq,
        .op = head.op,
        .payload = (const uint8_t *)data + sizeof(head),
        .payload_len = head.payload_len,
        .has_fd = n_fds == 1,
    };
    return SG_OK;
}

enum sg_error sg_wire_reply_decode(const void *data, size_t len, size_t n_fds,
                                   struct sg_wire_reply *out)
{
    struct sg_wire_reply_header head;
    struct sg_wire_reply reply = {0};
    if (len < sizeof(head))
        return SG_ERR_MEDIA_WORKER;
    memcpy(&head, data, sizeof(head));
    if (head.magic != SG_WIRE_REPLY_MAGIC || head.zero != 0)
        return SG_ERR_MEDIA_WORKER;
    if (head.message_len >= SG_MEDIA_MESSAGE_MAX || head.payload_len > SG_WIRE_REPLY_PAYLOAD_MAX)
        return SG_ERR_MEDIA_WORKER;
    if (len - sizeof(head) != (size_t)head.message_len + head.payload_len)
        return SG_ERR_MEDIA_WORKER;
    if (head.n_fds > 1 || head.n_fds != n_fds || (n_fds == 0 && head.body_len != 0))
        return SG_ERR_MEDIA_WORKER;
    if (sg_wire_error_decode(head.err, &reply.err) != SG_OK)
        return SG_ERR_MEDIA_WORKER;
    if (reply.err != SG_OK && n_fds != 0)
        return SG_ERR_MEDIA_WORKER;
    const uint8_t *text = (const uint8_t *)data + sizeof(head);
    sg_wire_message_clean((const char *)text, head.message_len, reply.message);
    reply.seq = head.seq;
    reply.cpu_us = head.cpu_us;
    reply.body_len = head.body_len;
    reply.has_body = n_fds == 1;
    reply.payload = text + head.message_len;
    reply.payload_len = head.payload_len;
    *out = reply;
    return SG_OK;
}

/* Length of the well-formed sequence at s, 0 when there is none. */
static size_t sequence_length(const char *s, size_t len)
{
    for (size_t n = 1; n <= 4 && n <= len; n++) {
        if (sg_str_is_utf8(s, n))
            return n;
    }
    return 0;
}

static bool is_printable(const unsigned char *s, size_t n)
{
    if (n == 1)
        return s[0] >= 0x20 && s[0] != 0x7f;
    if (n == 2)
        return !(s[0] == 0xc2 && s[1] < 0xa0); /* C1 */
    if (n == 3 && s[0] == 0xe2 && s[1] == 0x80)
        return s[2] < 0x8b || (s[2] > 0x8f && s[2] < 0xa8) || s[2] > 0xae; /* zero width, bidi */
    if (n == 3 && s[0] == 0xe2 && s[1] == 0x81)
        return s[2] < 0xa0 || s[2] > 0xaf; /* invisible operators, isolates */
    if (n == 3 && s[0] == 0xef)
        return !(s[1] == 0xbb && s[2] == 0xbf) &&
               !(s[1] == 0xbf && s[2] >= 0xb0); /* BOM, specials */
    return true;
}

void sg_wire_message_clean(const char *text, size_t len, char out[SG_MEDIA_MESSAGE_MAX])
{
    size_t used = 0;
    for (size_t i = 0; i < len;) {
        size_t n = sequence_length(text + i, len - i);
        bool keep = n != 0 && is_printable((const unsigned char *)text + i, n);
        size_t width = keep ? n : 1;
        if (used + width >= SG_MEDIA_MESSAGE_MAX)
            break;
        if (keep)
            memcpy(out + used, text + i, n);
        else
            out[used] = '?';
        used += width;
        i += n != 0 ? n : 1;
    }
    out[used] = '\0';
}

enum sg_error sg_wire_send_fds(int sock, const struct sg_wire_out *out, const int *fds,
                               size_t n_fds, bool wait)
{
    struct iovec iov[3] = {
        {.iov_base = (void *)(uintptr_t)out->head, .iov_len = out->head_len},
        {.iov_base = (void *)(uintptr_t)out->text, .iov_len = out->text_len},
        {.iov_base = (void *)(uintptr_t)out->tail, .iov_len = out->tail_len},
    };
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * SG_WIRE_FDS_MAX)];
    } control = {0};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = SG_ARRAY_LEN(iov)};
    assert(n_fds <= SG_WIRE_FDS_MAX);
    if (n_fds > 0) {
        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    ssize_t n;
    do {
        n = sendmsg(sock, &msg, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT));
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        return SG_OK; /* a datagram is sent whole or not at all */
    return errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? SG_ERR_CANCELLED
                                                                      : SG_ERR_IO;
}

enum sg_error sg_wire_send(int sock, const struct sg_wire_out *out, bool wait)
{
    return sg_wire_send_fds(sock, out, &out->fd, out->fd >= 0 ? 1 : 0, wait);
}

static void close_all(const int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)close(fds[i]);
}

/* Keeps the first max descriptors of all control messages, closes the others; returns how many
 * came. */
static size_t collect_fds(struct msghdr *msg, int *fds, size_t max)
{
    size_t came = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (came < max)
                fds[came] = fd;
            else
                (void)close(fd);
            came++;
        }
    }
    return came;
}

/* One datagram with its descriptors; on error none is left open. */
static enum sg_error receive(int sock, struct iovec *iov, int flags, int *fds, size_t max_fds,
                             struct sg_wire_in *out)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    } control;
    struct msghdr msg = {
        .msg_iov = iov,
        .msg_iovlen = 1,
        .msg_control = control.space,
        .msg_controllen = sizeof(control.space),
    };
    enum sg_error err = SG_OK;
    ssize_t n;
    do {
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | flags);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return SG_ERR_UNAVAILABLE;
        return errno == ECONNRESET ? SG_ERR_CANCELLED : SG_ERR_IO;
    }
    size_t came = collect_fds(&msg, fds, max_fds);
    if ((msg.msg_flags & MSG_CTRUNC) != 0)
        err = SG_ERR_NO_DESCRIPTORS;
    else if ((msg.msg_flags & MSG_TRUNC) != 0)
        err = SG_ERR_MEDIA_WORKER;
    else if (n == 0) /* end of file; an empty datagram looks the same and gets the same end */
        err = came == 0 ? SG_ERR_CANCELLED : SG_ERR_MEDIA_WORKER;
    if (err != SG_OK) {
        close_all(fds, came < max_fds ? came : max_fds);
        return err;
    }
    *out = (struct sg_wire_in){.len = (size_t)n, .fd = -1, .n_fds = came};
    return SG_OK;
}

enum sg_error sg_wire_recv(int sock, void *buf, size_t size, bool wait, struct sg_wire_in *out)
{
    struct iovec iov = {.iov_base = buf, .iov_len = size};
    int fd = -1;
    enum sg_error err = receive(sock, &iov, wait ? 0 : MSG_DONTWAIT, &fd, 1, out);
    if (err == SG_OK && out->n_fds > 0)
        out->fd = fd;
    return err;
}

enum sg_error sg_wire_recv_fds(int sock, void *buf, size_t size, int *fds, size_t max_fds,
                               struct sg_wire_in *out)
{
    struct iovec iov = {.iov_base = buf, .iov_len = size};
    struct sg_wire_in in;
    enum sg_error err = receive(sock, &iov, 0, fds, max_fds, &in);
    if (err != SG_OK)
        return err;
    if (in.n_fds > max_fds) {
        close_all(fds, max_fds);
        return SG_ERR_MEDIA_WORKER;
    }
    *out = in;
    return SG_OK;
}
