/* What the daemon and the process of a task say to each other after the hello (proto.h): one
 * message a datagram, native order, both ends the same executable. Pure and thread-safe.
 *
 *   process -> daemon   ready   magic kind 0 0 0 0                                    once, first
 *   daemon -> process   task    magic payload_len n_fds zero | payload                once
 *   process -> daemon   event   magic kind 0 payload_len 0 0 | payload                any number
 *                       answer  magic kind err payload_len message_len 0 | message payload   last
 */
#ifndef STREAMGATE_SANDBOX_TASK_PROTO_H
#define STREAMGATE_SANDBOX_TASK_PROTO_H

#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"
#include "streamgate/sandbox/media_task.h"

#define SG_TASK_CALL_MAGIC 0x6b615453u
#define SG_TASK_NOTE_MAGIC 0x746f4e53u

struct sg_task_call_header {
    uint32_t magic, payload_len, n_fds, zero;
};

enum sg_task_note_kind { SG_TASK_READY = 1, SG_TASK_EVENT, SG_TASK_ANSWER };

struct sg_task_note_header {
    uint32_t magic, kind, err, payload_len, message_len, zero;
};

#define SG_TASK_CALL_SIZE_MAX (sizeof(struct sg_task_call_header) + SG_MEDIA_PAYLOAD_MAX)
#define SG_TASK_NOTE_SIZE_MAX                                                                      \
    (sizeof(struct sg_task_note_header) + SG_MEDIA_MESSAGE_MAX + SG_MEDIA_TASK_ANSWER_MAX)

struct sg_task_note {
    enum sg_task_note_kind kind;
    enum sg_error err;      /* of an answer */
    const uint8_t *payload; /* into the datagram */
    size_t payload_len;
    char message[SG_MEDIA_MESSAGE_MAX]; /* printable UTF-8, NUL-terminated */
};

/* Errors: MEDIA_WORKER, for any deviation. n_fds: descriptors that came with the datagram. */
enum sg_error sg_task_call_decode(const void *data, size_t len, size_t n_fds,
                                  struct sg_media_task_view *out) SG_NODISCARD; /* without fds */
enum sg_error sg_task_note_decode(const void *data, size_t len, size_t n_fds,
                                  struct sg_task_note *out) SG_NODISCARD;

/* What a task may answer with: what a pool's process may, and what befalls one that writes files.
 * INTERNAL's for the rest. */
uint32_t sg_task_error_encode(enum sg_error err);
enum sg_error sg_task_error_decode(uint32_t wire, enum sg_error *out) SG_NODISCARD;

#endif
