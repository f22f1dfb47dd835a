/* The process's side of the socket: limits first, then one call after another until the daemon
 * closes it. The loop owns framing, sealing and descriptors; a handler only fills the answer.
 * Single-threaded towards the socket. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "streamgate/base/log.h"
#include "streamgate/sandbox/media_pool.h"

#include "proto.h"

enum { EXIT_SERVED = 0, EXIT_NO_MEMORY = 3, EXIT_PROTOCOL = 4 };

struct loop {
    uint8_t rx[SG_WIRE_CALL_SIZE_MAX];
    struct sg_media_answer answer;
};

enum sg_error sg_worker_receive_limits(int sock, struct sg_sandbox_limits *out)
{
    /* As large as a reader of one fixed message needs: anything longer is refused as truncated. */
    uint8_t data[sizeof(struct sg_wire_hello)];
    struct sg_wire_in in;
    enum sg_error err = sg_wire_recv(sock, data, sizeof(data), true, &in);
    if (err != SG_OK)
        return err;
    err = sg_wire_hello_decode(data, in.len, in.n_fds, out);
    if (in.fd >= 0)
        (void)close(in.fd);
    return err;
}

enum sg_error sg_worker_body_create(int *out_fd)
{
    int fd = memfd_create("media", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return sg_error_from_errno(errno);
    *out_fd = fd;
    return SG_OK;
}

static uint64_t cpu_used_us(void)
{
    struct rusage use;
    if (getrusage(RUSAGE_SELF, &use) != 0)
        return 0;
    return (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

/* Cuts the body to the length the handler named and makes both unchangeable, which the daemon
 * insists on. */
static enum sg_error seal_body(const struct sg_media_answer *an)
{
    if (an->body_len > INT64_MAX || ftruncate(an->body_fd, (off_t)an->body_len) != 0)
        return SG_ERR_TOO_LARGE;
    if (fcntl(an->body_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) !=
        0)
        return SG_ERR_INTERNAL;
    return SG_OK;
}

static void answer_fail(struct sg_media_answer *an, enum sg_error err, const char *why)
{
    an->err = err;
    an->payload_len = 0;
    sg_wire_message_clean(why, strlen(why), an->message);
}

static enum sg_error send_answer(int sock, uint64_t seq, struct sg_media_answer *an)
{
    if (an->payload_len > sizeof(an->payload))
        answer_fail(an, SG_ERR_INTERNAL, "the answer is too long");
    if (an->err == SG_OK && an->body_fd >= 0) {
        enum sg_error err = seal_body(an);
        if (err == SG_ERR_TOO_LARGE)
            answer_fail(an, err, "the result exceeds the size limit");
        else if (err != SG_OK)
            answer_fail(an, err, "the result could not be sealed");
    }
    bool has_body = an->err == SG_OK && an->body_fd >= 0;
    size_t message_len = strnlen(an->message, SG_MEDIA_MESSAGE_MAX - 1);
    const struct sg_wire_reply_header head = {
        .magic = SG_WIRE_REPLY_MAGIC,
        .err = sg_wire_error_encode(an->err),
        .seq = seq,
        .body_len = has_body ? an->body_len : 0,
        .cpu_us = cpu_used_us(),
        .payload_len = (uint32_t)an->payload_len,
        .message_len = (uint32_t)message_len,
        .n_fds = has_body ? 1 : 0,
    };
    const struct sg_wire_out out = {
        .head = &head,
        .head_len = sizeof(head),
        .text = an->message,
        .text_len = message_len,
        .tail = an->payload,
        .tail_len = an->payload_len,
        .fd = has_body ? an->body_fd : -1,
    };
    return sg_wire_send(sock, &out, true);
}

static void answer_reset(struct sg_media_answer *an)
{
    an->err = SG_OK;
    an->message[0] = '\0';
    an->payload_len = 0;
    an->body_fd = -1;
    an->body_len = 0;
}

int sg_worker_serve(int sock,
                    void (*handle)(void *ctx, struct sg_media_request_view *rq,
                                   struct sg_media_answer *an),
                    void *ctx)
{
    int status = EXIT_SERVED;
    struct loop *loop = malloc(sizeof(*loop));
    if (loop == NULL)
        return EXIT_NO_MEMORY;
    answer_reset(&loop->answer);
    enum sg_error err = send_answer(sock, 0, &loop->answer);
    while (err == SG_OK) {
        struct sg_wire_in in;
        struct sg_wire_call call;
        err = sg_wire_recv(sock, loop->rx, sizeof(loop->rx), true, &in);
        if (err != SG_OK)
            break;
        err = sg_wire_call_decode(loop->rx, in.len, in.n_fds, &call);
        if (err != SG_OK) {
            if (in.fd >= 0)
                (void)close(in.fd);
            break;
        }
        answer_reset(&loop->answer);
        if (call.kind == SG_WIRE_CALL) {
            struct sg_media_request_view rq = {
                .op = call.op,
                .payload = call.payload,
                .payload_len = call.payload_len,
                .fd = in.fd,
            };
            handle(ctx, &rq, &loop->answer);
        }
        err = send_answer(sock, call.seq, &loop->answer);
        if (loop->answer.body_fd >= 0)
            (void)close(loop->answer.body_fd);
    }
    if (err != SG_ERR_CANCELLED) { /* CANCELLED: the daemon closed the socket, the regular end */
        sg_error_log("media-worker", "stops: %s", sg_error_slug(err));
        status = EXIT_PROTOCOL;
    }
    free(loop);
    return status;
}
