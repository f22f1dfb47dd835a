/* See task_proto.h. Decoders touch nothing outside [data, data + len). */
#include "task_proto.h"

#include <assert.h>
#include <string.h>

#include "proto.h"

static_assert(sizeof(struct sg_task_call_header) == 16, "task has no padding");
static_assert(sizeof(struct sg_task_note_header) == 24, "note has no padding");
static_assert(SG_MEDIA_TASK_EVENT_MAX <= SG_MEDIA_TASK_ANSWER_MAX, "events fit a note");
static_assert(SG_MEDIA_TASK_FDS_MAX <= SG_WIRE_FDS_MAX, "descriptors fit a message");

/* Numbers apart from those of the pool's table. */
enum { TASK_ERRORS = 0x100 };
static const enum sg_error task_errors[] = {SG_ERR_NO_SPACE, SG_ERR_IO};

uint32_t sg_task_error_encode(enum sg_error err)
{
    for (uint32_t i = 0; i < SG_ARRAY_LEN(task_errors); i++) {
        if (task_errors[i] == err)
            return TASK_ERRORS + i;
    }
    return sg_wire_error_encode(err);
}

enum sg_error sg_task_error_decode(uint32_t wire, enum sg_error *out)
{
    if (wire < TASK_ERRORS || wire - TASK_ERRORS >= SG_ARRAY_LEN(task_errors))
        return sg_wire_error_decode(wire, out);
    *out = task_errors[wire - TASK_ERRORS];
    return SG_OK;
}

enum sg_error sg_task_call_decode(const void *data, size_t len, size_t n_fds,
                                  struct sg_media_task_view *out)
{
    struct sg_task_call_header head;
    if (len < sizeof(head))
        return SG_ERR_MEDIA_WORKER;
    memcpy(&head, data, sizeof(head));
    if (head.magic != SG_TASK_CALL_MAGIC || head.zero != 0 || head.n_fds != n_fds ||
        n_fds > SG_MEDIA_TASK_FDS_MAX)
        return SG_ERR_MEDIA_WORKER;
    if (head.payload_len > SG_MEDIA_PAYLOAD_MAX || len - sizeof(head) != head.payload_len)
        return SG_ERR_MEDIA_WORKER;
    *out = (struct sg_media_task_view){
        .payload = (const uint8_t *)data + sizeof(head),
        .payload_len = head.payload_len,
        .n_fds = n_fds,
    };
    return SG_OK;
}

/* What each kind of note may have. */
static bool is_shaped(const struct sg_task_note_header *head)
{
    switch (head->kind) {
    case SG_TASK_READY:
        return head->err == 0 && head->payload_len == 0 && head->message_len == 0;
    case SG_TASK_EVENT:
        return head->err == 0 && head->payload_len <= SG_MEDIA_TASK_EVENT_MAX &&
               head->message_len == 0;
    case SG_TASK_ANSWER:
        return head->payload_len <= SG_MEDIA_TASK_ANSWER_MAX &&
               head->message_len < SG_MEDIA_MESSAGE_MAX;
    default:
        return false;
    }
}

enum sg_error sg_task_note_decode(const void *data, size_t len, size_t n_fds,
                                  struct sg_task_note *out)
{
    struct sg_task_note_header head;
    struct sg_task_note note = {0};
    if (len < sizeof(head) || n_fds != 0)
        return SG_ERR_MEDIA_WORKER;
    memcpy(&head, data, sizeof(head));
    if (head.magic != SG_TASK_NOTE_MAGIC || head.zero != 0 || !is_shaped(&head))
        return SG_ERR_MEDIA_WORKER;
    if (len - sizeof(head) != (size_t)head.message_len + head.payload_len)
        return SG_ERR_MEDIA_WORKER;
    if (sg_task_error_decode(head.err, &note.err) != SG_OK)
        return SG_ERR_MEDIA_WORKER;
    /* A result or a reason, not both. */
    if (note.err == SG_OK ? head.message_len != 0 : head.payload_len != 0)
        return SG_ERR_MEDIA_WORKER;
    const uint8_t *text = (const uint8_t *)data + sizeof(head);
    sg_wire_message_clean((const char *)text, head.message_len, note.message);
    note.kind = (enum sg_task_note_kind)head.kind;
    note.payload = text + head.message_len;
    note.payload_len = head.payload_len;
    *out = note;
    return SG_OK;
}
