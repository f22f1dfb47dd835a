/* What the daemon and a media process say to each other: one message a datagram on a SOCK_SEQPACKET
 * pair, at most one descriptor with it (SCM_RIGHTS; the call of a task has more: task_proto.h).
 * Both ends are the same executable on the same machine (/proc/self/exe survives an upgrade), so
 * fields are in native order and there is no version to negotiate. Decoders are strict: every
 * length is exact, unused fields are zero, flags and attached descriptors agree. Pure and
 * thread-safe.
 *
 *   daemon -> process
 *     hello   magic version memory cpu file open_files task niceness   (once, first)
 *     call    magic kind seq op payload_len n_fds zero | payload
 *   process -> daemon
 *     reply   magic err seq body_len cpu_us payload_len message_len n_fds zero | message payload
 *             (the first, with seq 0 and nothing in it, says that the process is ready)
 */
#ifndef STREAMGATE_SANDBOX_PROTO_H
#define STREAMGATE_SANDBOX_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"
#include "streamgate/sandbox/media_pool.h"

#define SG_WIRE_HELLO_MAGIC 0x6c684753u
#define SG_WIRE_CALL_MAGIC 0x61634753u
#define SG_WIRE_REPLY_MAGIC 0x70724753u
#define SG_WIRE_VERSION 2u
#define SG_WIRE_REPLY_PAYLOAD_MAX 4096u

#define SG_WIRE_NICENESS_MAX 19u
#define SG_WIRE_FDS_MAX 64u /* in one message of ours */

enum sg_wire_kind { SG_WIRE_CALL = 1, SG_WIRE_PING = 2 };

struct sg_wire_hello {
    uint32_t magic, version;
    uint64_t memory_bytes, cpu_seconds, file_bytes, open_files;
    uint32_t task, niceness;
};

struct sg_wire_call_header {
    uint32_t magic, kind;
    uint64_t seq;
    uint32_t op, payload_len, n_fds, zero;
};

struct sg_wire_reply_header {
    uint32_t magic, err;
    uint64_t seq, body_len, cpu_us;
    uint32_t payload_len, message_len, n_fds, zero;
};

#define SG_WIRE_CALL_SIZE_MAX (sizeof(struct sg_wire_call_header) + SG_MEDIA_PAYLOAD_MAX)
#define SG_WIRE_REPLY_SIZE_MAX                                                                     \
    (sizeof(struct sg_wire_reply_header) + SG_MEDIA_MESSAGE_MAX + SG_WIRE_REPLY_PAYLOAD_MAX)

struct sg_wire_call {
    enum sg_wire_kind kind;
    uint64_t seq;
    uint32_t op;
    const uint8_t *payload; /* into the datagram */
    size_t payload_len;
    bool has_fd;
};

struct sg_wire_reply {
    enum sg_error err;
    uint64_t seq, cpu_us, body_len;
    bool has_body;
    const uint8_t *payload; /* into the datagram */
    size_t payload_len;
    char message[SG_MEDIA_MESSAGE_MAX]; /* printable UTF-8, NUL-terminated */
};

/* Errors: MEDIA_WORKER, for any deviation. n_fds: descriptors that came with the datagram. */
enum sg_error sg_wire_hello_decode(const void *data, size_t len, size_t n_fds,
                                   struct sg_sandbox_limits *out) SG_NODISCARD;
enum sg_error sg_wire_call_decode(const void *data, size_t len, size_t n_fds,
                                  struct sg_wire_call *out) SG_NODISCARD;
enum sg_error sg_wire_reply_decode(const void *data, size_t len, size_t n_fds,
                                   struct sg_wire_reply *out) SG_NODISCARD;

/* The errors a process may answer with, on the wire as an index into a table. to_wire gives
 * INTERNAL's for the rest. */
uint32_t sg_wire_error_encode(enum sg_error err);
enum sg_error sg_wire_error_decode(uint32_t wire, enum sg_error *out) SG_NODISCARD;

/* Copies text of len bytes from an untrusted process: at most SG_MEDIA_MESSAGE_MAX - 1 bytes are
 * kept, cut between characters; what cannot be printed, or could reorder a line, becomes '?'. */
void sg_wire_message_clean(const char *text, size_t len, char out[SG_MEDIA_MESSAGE_MAX]);

struct sg_wire_out {
    const void *head;
    size_t head_len;
    const void *text; /* may be NULL */
    size_t text_len;
    const void *tail; /* may be NULL */
    size_t tail_len;
    int fd; /* -1: none; stays the caller's */
};
/* One datagram. wait: block while the socket's buffer is full. Errors: CANCELLED (the peer is
 * gone), IO. */
enum sg_error sg_wire_send(int sock, const struct sg_wire_out *out, bool wait) SG_NODISCARD;

struct sg_wire_in {
    size_t len;
    int fd;       /* the first descriptor that came, the caller's to close; -1: none */
    size_t n_fds; /* how many came; those after the first are closed already */
};
/* The same with n_fds descriptors (at most SG_WIRE_FDS_MAX); out->fd must be -1. */
enum sg_error sg_wire_send_fds(int sock, const struct sg_wire_out *out, const int *fds,
                               size_t n_fds, bool wait) SG_NODISCARD;

/* Receives one datagram into buf. Errors: CANCELLED (end of file), UNAVAILABLE (nothing there and
 * !wait), NO_DESCRIPTORS (the datagram was read, but this process has no room for its descriptors),
 * MEDIA_WORKER (empty or longer than size), IO. On error nothing is left open. */
enum sg_error sg_wire_recv(int sock, void *buf, size_t size, bool wait,
                           struct sg_wire_in *out) SG_NODISCARD;
/* The same, keeping up to max_fds descriptors in fds; out->n_fds says how many came, and with more
 * than max_fds all are closed: MEDIA_WORKER. out->fd is -1. Waits. */
enum sg_error sg_wire_recv_fds(int sock, void *buf, size_t size, int *fds, size_t max_fds,
                               struct sg_wire_in *out) SG_NODISCARD;

#endif
