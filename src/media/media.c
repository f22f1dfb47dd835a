/* What the daemon asks of the media processes: encodes the call, checks the answer. See media.h. */
#include "streamgate/media/media.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/crypto.h"

#include "call.h"

struct probe_wait {
    pthread_mutex_t lock; /* guards finished */
    pthread_cond_t wake;
    bool finished;
    enum sg_error err;
    struct sg_media_index *index;
    char why[SG_MEDIA_MESSAGE_MAX];
};

static void probe_done(void *arg, const struct sg_media_reply *reply)
{
    struct probe_wait *wait = arg;
    wait->err = reply->err;
    memcpy(wait->why, reply->message, sizeof(wait->why));
    wait->why[sizeof(wait->why) - 1] = 0;
    if (!wait->err)
        wait->err = reply->body
                        ? sg_media_index_decode(reply->body->data, reply->body->len, &wait->index)
                        : SG_ERR_MEDIA_WORKER;
    pthread_mutex_lock(&wait->lock);
    wait->finished = true;
    pthread_cond_signal(&wait->wake);
    pthread_mutex_unlock(&wait->lock);
}

/* NOT_FOUND, INVALID and INTERNAL would name the request, not the file: no probe answers them
 * honestly. */
static enum sg_error probe_error(enum sg_error err)
{
    return err == SG_ERR_NOT_FOUND || err == SG_ERR_INVALID || err == SG_ERR_INTERNAL
               ? SG_ERR_MEDIA_WORKER
               : err;
}

static enum sg_error submit(struct sg_media_pool *pool, const struct media_call *call, int fd,
                            struct sg_media_call *base)
{
    uint8_t payload[MEDIA_CALL_MAX];
    enum sg_error err = media_call_encode(call, payload, &base->payload_len);
    if (err)
        return err;
    base->op = call->op;
    base->payload = payload;
    base->fd = fd;
    base->affinity = sg_siphash(call->key, strlen(call->key));
    return sg_media_pool_submit(pool, base);
}

enum sg_error sg_media_probe(struct sg_media_pool *pool, const char *key, int fd,
                             const struct sg_media_limits *limits, struct sg_media_index **out,
                             char why[SG_MEDIA_MESSAGE_MAX])
{
    struct media_call call = {.op = MEDIA_OP_PROBE, .limits = *limits};
    size_t key_len = strlen(key);
    why[0] = 0;
    if (key_len == 0 || key_len >= sizeof(call.key))
        return SG_ERR_INTERNAL;
    memcpy(call.key, key, key_len + 1);
    struct probe_wait wait = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
    struct sg_media_call base = {.done = probe_done, .arg = &wait};
    enum sg_error err = submit(pool, &call, fd, &base);
    if (err)
        return err;
    pthread_mutex_lock(&wait.lock);
    while (!wait.finished)
        pthread_cond_wait(&wait.wake, &wait.lock);
    pthread_mutex_unlock(&wait.lock);
    pthread_cond_destroy(&wait.wake);
    pthread_mutex_destroy(&wait.lock);
    memcpy(why, wait.why, sizeof(wait.why));
    if (wait.err)
        return probe_error(wait.err);
    *out = wait.index;
    return SG_OK;
}

struct render_wait {
    void (*done)(void *arg, enum sg_error err, struct sg_buf *body, const char *why);
    void *arg;
    enum sg_render_kind kind;
    uint64_t bytes; /* of an fMP4 segment or key frame: known beforehand */
};

/* The first bytes each kind of body must show; what is not that came from a process gone wrong. */
static bool body_plausible(const struct render_wait *wait, const struct sg_buf *body)
{
    if (!body || body->len < 16)
        return false;
    switch (wait->kind) {
    case SG_RENDER_INIT:
        return memcmp(body->data + 4, "ftyp", 4) == 0;
    case SG_RENDER_SEGMENT_FMP4:
    case SG_RENDER_IFRAME:
        return body->len == wait->bytes && memcmp(body->data + 4, "moof", 4) == 0;
    case SG_RENDER_SEGMENT_TS:
        return body->len % 188 == 0 && body->data[0] == 0x47;
    case SG_RENDER_POSTER:
    case SG_RENDER_STORYBOARD:
        return body->data[0] == 0xff && body->data[1] == 0xd8;
    }
    return false;
}

static void render_done(void *arg, const struct sg_media_reply *reply)
{
    struct render_wait *wait = arg;
    enum sg_error err = reply->err;
    if (!err && !body_plausible(wait, reply->body))
        err = SG_ERR_MEDIA_WORKER;
    wait->done(wait->arg, err, err ? NULL : reply->body, err ? reply->message : "");
    free(wait);
}

enum sg_error sg_media_render(struct sg_media_pool *pool, const struct sg_render *r)
{
    struct media_call call;
    enum sg_error err = media_call_of_render(r, &call);
    if (err)
        return err;
    struct render_wait *wait = malloc(sizeof(*wait));
    if (!wait)
        return SG_ERR_NO_MEMORY;
    *wait =
        (struct render_wait){.done = r->done, .arg = r->arg, .kind = r->kind, .bytes = call.bytes};
    struct sg_media_call base = {.done = render_done, .arg = wait};
    err = submit(pool, &call, r->fd, &base);
    if (err)
        free(wait);
    return err;
}

static void sweep_done(void *arg, const struct sg_media_reply *reply)
{
    (void)arg, (void)reply;
}

void sg_media_sweep(struct sg_media_pool *pool, unsigned processes)
{
    /* An idle process gets the call of its number; a busy one looks by itself after its call. */
    for (unsigned i = 0; i < processes; i++) {
        struct sg_media_call call = {
            .op = MEDIA_OP_SWEEP, .fd = -1, .affinity = i, .done = sweep_done};
        (void)!sg_media_pool_submit(pool,
                                    &call); /* one that is refused is made up for by the next */
    }
}
