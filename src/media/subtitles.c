/* What the daemon asks of media processes about subtitles; see subtitles.h. An answer is read by
 * the strict reader before anybody else sees it. */
#include "streamgate/media/subtitles.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "call.h"
#include "text_list.h"

/* A call under way; done_fd becomes readable after the rest was written. */
struct wait {
    int done_fd;
    enum sg_error err;
    struct sg_buf *body;
    char why[SG_MEDIA_MESSAGE_MAX];
};

static void call_done(void *arg, const struct sg_media_reply *reply)
{
    struct wait *w = arg;
    w->err = reply->err;
    memcpy(w->why, reply->message, sizeof(w->why));
    w->why[sizeof(w->why) - 1] = 0;
    if (!w->err)
        w->err = reply->body ? SG_OK : SG_ERR_MEDIA_WORKER;
    if (!w->err)
        w->body = sg_buf_ref(reply->body);
    uint64_t one = 1;
    (void)!write(w->done_fd, &one, sizeof(one)); /* cannot fail: a counter that is zero */
}

struct asking {
    struct sg_media_pool **pool; /* destroyed, and so NULL, when stop_fd says so */
    const struct media_call *call;
    int fd, stop_fd;
};

/* Destroying the pool answers what is under way, so that the wait ends in any case. */
static void wait_for(const struct asking *a, struct wait *w)
{
    struct pollfd fds[] = {{.fd = w->done_fd, .events = POLLIN},
                           {.fd = a->stop_fd, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents) {
            uint64_t n;
            (void)!read(w->done_fd, &n,
                        sizeof(n)); /* what came before the write is seen after it */
            return;
        }
        if (fds[1].revents)
            break;
    }
    sg_media_pool_destroy(a->pool);
}

/* INVALID and the like would name the call, which is ours. */
static enum sg_error honest(enum sg_error err)
{
    return err == SG_ERR_INVALID || err == SG_ERR_NOT_FOUND || err == SG_ERR_INTERNAL
               ? SG_ERR_MEDIA_WORKER
               : err;
}

static enum sg_error ask(const struct asking *a, struct sg_buf **out,
                         char why[SG_MEDIA_MESSAGE_MAX])
{
    uint8_t payload[MEDIA_CALL_MAX];
    struct wait w = {.done_fd = -1};
    struct sg_media_call base = {
        .op = a->call->op, .payload = payload, .fd = a->fd, .done = call_done, .arg = &w};
    why[0] = 0;
    if (!*a->pool)
        return SG_ERR_CANCELLED;
    enum sg_error err = media_call_encode(a->call, payload, &base.payload_len);
    if (err)
        return err;
    w.done_fd = eventfd(0, EFD_CLOEXEC);
    if (w.done_fd < 0)
        return sg_error_from_errno(errno);
    err = sg_media_pool_submit(*a->pool, &base);
    if (!err) {
        wait_for(a, &w);
        err = honest(w.err);
        memcpy(why, w.why, sizeof(w.why));
    }
    close(w.done_fd);
    if (!err)
        *out = w.body;
    return err;
}

static enum sg_error ask_for_text(const struct asking *a, struct sg_subtitle_text *out,
                                  char why[SG_MEDIA_MESSAGE_MAX])
{
    struct sg_subtitle_text text = {0};
    enum sg_error err = ask(a, &text.text, why);
    if (!err)
        err = sg_webvtt_check(text.text->data, text.text->len, &text.cues);
    if (err)
        sg_buf_unref(text.text);
    else
        *out = text;
    return err;
}

static struct media_call make_call(enum media_op op, const struct sg_media_limits *limits)
{
    return (struct media_call){.op = op, .key = "subtitles", .limits = *limits};
}

enum sg_error sg_subtitles_convert(struct sg_media_pool *pool, int fd,
                                   const struct sg_media_limits *limits,
                                   struct sg_subtitle_text *out, char why[SG_MEDIA_MESSAGE_MAX])
{
    struct media_call call = make_call(MEDIA_OP_TEXT_CONVERT, limits);
    return ask_for_text(&(struct asking){.pool = &pool, .call = &call, .fd = fd, .stop_fd = -1},
                        out, why);
}

struct sg_subtitle_film {
    struct sg_media_pool *pool; /* of one process; NULL once it was stopped */
    struct sg_media_limits limits;
    int fd, stop_fd;
};

enum sg_error sg_subtitle_film_open(const struct sg_subtitle_film_params *params,
                                    struct sg_subtitle_film **out)
{
    struct sg_subtitle_film *film = calloc(1, sizeof(*film));
    if (!film)
        return SG_ERR_NO_MEMORY;
    struct sg_media_pool_params process = params->process;
    process.workers = 1;
    process.max_reply_bytes = SG_WEBVTT_TEXT_MAX;
    film->limits = *params->limits;
    film->limits.max_body_bytes = SG_WEBVTT_TEXT_MAX;
    film->fd = params->fd;
    film->stop_fd = params->stop_fd;
    enum sg_error err = sg_media_pool_create(&process, &film->pool);
    if (err)
        free(film);
    else
        *out = film;
    return err;
}

void sg_subtitle_film_close(struct sg_subtitle_film **film)
{
    if (!*film)
        return;
    sg_media_pool_destroy(&(*film)->pool);
    free(*film);
    *film = NULL;
}

enum sg_error sg_subtitle_film_tracks(struct sg_subtitle_film *film, struct sg_subtitle_tracks *out,
                                      char why[SG_MEDIA_MESSAGE_MAX])
{
    struct media_call call = make_call(MEDIA_OP_TEXT_LIST, &film->limits);
    struct sg_buf *list = NULL;
    enum sg_error err = ask(
        &(struct asking){
            .pool = &film->pool, .call = &call, .fd = film->fd, .stop_fd = film->stop_fd},
        &list, why);
    if (!err)
        err = text_list_decode(list->data, list->len, out);
    sg_buf_unref(list);
    return err;
}

enum sg_error sg_subtitle_film_extract(struct sg_subtitle_film *film, uint32_t stream,
                                       struct sg_subtitle_text *out, char why[SG_MEDIA_MESSAGE_MAX])
{
    struct media_call call = make_call(MEDIA_OP_TEXT_EXTRACT, &film->limits);
    call.number = stream;
    return ask_for_text(
        &(struct asking){
            .pool = &film->pool, .call = &call, .fd = film->fd, .stop_fd = film->stop_fd},
        out, why);
}
