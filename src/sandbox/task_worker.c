/* The process's side of a task: one call, then the end. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/log.h"
#include "streamgate/sandbox/media_task.h"

#include "proto.h"
#include "task_proto.h"

enum { EXIT_SERVED = 0, EXIT_NO_MEMORY = 3, EXIT_PROTOCOL = 4, EXIT_ALONE = 5 };

struct serving {
    uint8_t rx[SG_TASK_CALL_SIZE_MAX];
    int fds[SG_MEDIA_TASK_FDS_MAX];
    struct sg_media_task_answer answer;
};

static enum sg_error send_note(int sock, struct sg_task_note_header head, const char *message,
                               const void *payload)
{
    head.magic = SG_TASK_NOTE_MAGIC;
    const struct sg_wire_out out = {
        .head = &head,
        .head_len = sizeof(head),
        .text = message,
        .text_len = head.message_len,
        .tail = payload,
        .tail_len = head.payload_len,
        .fd = -1,
    };
    return sg_wire_send(sock, &out, true);
}

void sg_media_task_tell(int sock, const void *payload, size_t len)
{
    const struct sg_task_note_header head = {.kind = SG_TASK_EVENT, .payload_len = (uint32_t)len};
    /* Nobody is there to take the result either. */
    if (len > SG_MEDIA_TASK_EVENT_MAX || send_note(sock, head, NULL, payload) != SG_OK)
        _exit(EXIT_ALONE);
}

static enum sg_error send_answer(int sock, enum sg_error err, struct sg_media_task_answer *an)
{
    struct sg_task_note_header head = {.kind = SG_TASK_ANSWER};
    char message[SG_MEDIA_MESSAGE_MAX] = "";
    if (err == SG_OK && an->payload_len > sizeof(an->payload))
        err = SG_ERR_INTERNAL;
    if (err == SG_OK)
        head.payload_len = (uint32_t)an->payload_len;
    else
        sg_wire_message_clean(an->message, strnlen(an->message, sizeof(an->message) - 1), message);
    head.err = sg_task_error_encode(err);
    head.message_len = (uint32_t)strlen(message);
    return send_note(sock, head, message, an->payload);
}

/* The call, handled and answered. */
static enum sg_error serve(int sock, struct serving *s,
                           enum sg_error (*handle)(void *ctx, const struct sg_media_task_view *call,
                                                   struct sg_media_task_answer *an),
                           void *ctx)
{
    struct sg_wire_in in;
    struct sg_media_task_view call;
    enum sg_error err =
        sg_wire_recv_fds(sock, s->rx, sizeof(s->rx), s->fds, SG_MEDIA_TASK_FDS_MAX, &in);
    if (err != SG_OK)
        return err;
    err = sg_task_call_decode(s->rx, in.len, in.n_fds, &call);
    if (err == SG_OK) {
        call.fds = s->fds;
        enum sg_error answer = handle(ctx, &call, &s->answer);
        err = send_answer(sock, answer, &s->answer);
    }
    for (size_t i = 0; i < in.n_fds; i++)
        (void)close(s->fds[i]);
    return err;
}

int sg_media_task_serve(int sock,
                        enum sg_error (*handle)(void *ctx, const struct sg_media_task_view *call,
                                                struct sg_media_task_answer *an),
                        void *ctx)
{
    const struct sg_task_note_header ready = {.kind = SG_TASK_READY};
    struct serving *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return EXIT_NO_MEMORY;
    enum sg_error err = send_note(sock, ready, NULL, NULL);
    if (err == SG_OK)
        err = serve(sock, s, handle, ctx);
    free(s);
    if (err == SG_OK || err == SG_ERR_CANCELLED) /* CANCELLED: the daemon closed the socket */
        return EXIT_SERVED;
    sg_error_log("media-worker", "a task stops: %s", sg_error_slug(err));
    return EXIT_PROTOCOL;
}
