/* The media process: enters the sandbox, then answers calls one at a time. Files stay open, least
 * recently used closed first, because opening is what costs (4 to 8 ms for an hour of film) and a
 * segment then takes a few. A context that failed a call is closed: the demuxer's state after an
 * error is not worth trusting. */
#include "av_worker.h"

#include <libavutil/log.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/log.h"

#include "av_media.h"
#include "av_task.h"

enum { WORKER_SOCKET = 3, CONTEXTS_DEFAULT = 32, CONTEXTS_MAX = 4096 };

struct open_file {
    char key[MEDIA_KEY_SIZE];
    struct sgav_source *source;
    uint64_t used;
};

/* files[0, n): in no order. */
struct av_worker {
    struct open_file *files;
    unsigned n, cap;
    uint64_t clock;
};

enum sg_error av_worker_create(struct av_worker **out)
{
    struct av_worker *w = calloc(1, sizeof(*w));
    if (!w)
        return SG_ERR_NO_MEMORY;
    *out = w;
    return SG_OK;
}

static void close_file(struct av_worker *w, unsigned i)
{
    sgav_source_close(&w->files[i].source);
    w->files[i] = w->files[--w->n];
}

static void close_oldest(struct av_worker *w)
{
    unsigned oldest = 0;
    for (unsigned i = 1; i < w->n; i++)
        if (w->files[i].used < w->files[oldest].used)
            oldest = i;
    close_file(w, oldest);
}

void av_worker_destroy(struct av_worker **worker)
{
    struct av_worker *w = *worker;
    *worker = NULL;
    if (!w)
        return;
    while (w->n)
        close_file(w, w->n - 1);
    free(w->files);
    free(w);
}

unsigned av_worker_open_files(const struct av_worker *worker)
{
    return worker->n;
}

/* The key's open file, if it is still the file behind fd. */
static bool find_file(struct av_worker *w, const char *key, int fd, unsigned *out)
{
    struct stat st;
    for (unsigned i = 0; i < w->n; i++) {
        if (strcmp(w->files[i].key, key) != 0)
            continue;
        const struct sgav_source *s = w->files[i].source;
        if (fstat(fd, &st) == 0 && st.st_ino == s->ino && st.st_dev == s->dev &&
            st.st_size == s->reader.size) {
            *out = i;
            return true;
        }
        close_file(w, i);
        return false;
    }
    return false;
}

static enum sg_error make_room(struct av_worker *w, uint32_t contexts)
{
    uint32_t max = contexts == 0             ? CONTEXTS_DEFAULT
                   : contexts < CONTEXTS_MAX ? contexts
                                             : CONTEXTS_MAX;
    while (w->n >= max)
        close_oldest(w);
    if (w->n < w->cap)
        return SG_OK;
    unsigned cap = w->cap ? 2 * w->cap : 8;
    struct open_file *grown = realloc(w->files, cap * sizeof(*grown));
    if (!grown)
        return SG_ERR_NO_MEMORY;
    w->files = grown;
    w->cap = cap;
    return SG_OK;
}

/* Takes fd. */
static enum sg_error get_file(struct av_worker *w, const struct media_call *call, int fd,
                              unsigned *out, char why[SG_MEDIA_MESSAGE_MAX])
{
    if (find_file(w, call->key, fd, out)) {
        close(fd);
        w->files[*out].used = ++w->clock;
        return SG_OK;
    }
    struct sgav_source *source = NULL;
    enum sg_error err = make_room(w, call->limits.open_contexts);
    if (!err)
        err = sgav_source_open(fd, &call->limits, &source, why);
    while ((err == SG_ERR_NO_MEMORY || err == SG_ERR_TOO_LARGE) && w->n) {
        close_oldest(w); /* what stays open may be what memory is short for */
        why[0] = 0;
        err = sgav_source_open(fd, &call->limits, &source, why);
    }
    if (err) {
        close(fd);
        return err;
    }
    struct open_file *f = &w->files[w->n];
    *f = (struct open_file){.source = source, .used = ++w->clock};
    memcpy(f->key, call->key, sizeof(f->key));
    *out = w->n++;
    return SG_OK;
}

static enum sg_error run_probe(struct sgav_source *source, const struct media_call *call,
                               struct sgav_body *out, char why[SG_MEDIA_MESSAGE_MAX])
{
    void *bytes = NULL;
    enum sg_error err = sgav_probe(source, &call->limits, &bytes, &out->len, why);
    out->data = bytes;
    return err;
}

static enum sg_error run(struct sgav_source *source, const struct media_call *call,
                         struct sgav_body *out, char why[SG_MEDIA_MESSAGE_MAX])
{
    static enum sg_error (*const renders[MEDIA_OP_END])(
        struct sgav_source *, const struct media_call *, struct sgav_body *) = {
        [MEDIA_OP_INIT] = sgav_render_init,
        [MEDIA_OP_FMP4] = sgav_render_fmp4,
        [MEDIA_OP_TS] = sgav_render_ts,
        [MEDIA_OP_POSTER] = sgav_render_poster,
        [MEDIA_OP_STORYBOARD] = sgav_render_storyboard,
        [MEDIA_OP_IFRAME] = sgav_render_fmp4,
    };
    return call->op == MEDIA_OP_PROBE ? run_probe(source, call, out, why)
                                      : renders[call->op](source, call, out);
}

static enum sg_error send_body(const struct sgav_body *body, uint64_t max,
                               struct sg_media_answer *an)
{
    int fd = -1;
    if (body->len > max)
        return SG_ERR_TOO_LARGE;
    enum sg_error err = sg_worker_body_create(&fd);
    if (!err && (err = sg_fs_pwrite_all(fd, body->data, body->len, 0)))
        close(fd);
    if (err)
        return err == SG_ERR_NO_SPACE ? SG_ERR_NO_MEMORY : SG_ERR_INTERNAL;
    an->body_fd = fd;
    an->body_len = body->len;
    return SG_OK;
}

/* What may cross to the daemon; see struct sg_media_reply. */
static enum sg_error answerable(enum sg_error err)
{
    switch (err) {
    case SG_OK:
    case SG_ERR_UNSUPPORTED_MEDIA:
    case SG_ERR_UNPROCESSABLE:
    case SG_ERR_TOO_LARGE:
    case SG_ERR_NOT_FOUND:
    case SG_ERR_INVALID:
    case SG_ERR_NO_MEMORY:
        return err;
    default:
        return SG_ERR_INTERNAL;
    }
}

/* A file that was deleted keeps its disk space while it is open here. */
static void close_deleted(struct av_worker *w)
{
    for (unsigned i = w->n; i-- > 0;) {
        struct stat st;
        if (fstat(w->files[i].source->reader.fd, &st) != 0 || st.st_nlink == 0)
            close_file(w, i);
    }
}

/* Subtitles are read once, by a context of their own. Takes fd. */
static enum sg_error run_texts(const struct media_call *call, int fd, struct sgav_body *out,
                               char why[SG_MEDIA_MESSAGE_MAX])
{
    static enum sg_error (*const runs[MEDIA_OP_END])(int, const struct media_call *,
                                                     struct sgav_body *, char *) = {
        [MEDIA_OP_TEXT_CONVERT] = sgav_text_convert,
        [MEDIA_OP_TEXT_LIST] = sgav_text_list,
        [MEDIA_OP_TEXT_EXTRACT] = sgav_text_extract,
    };
    return runs[call->op](fd, call, out, why);
}

static bool is_of_texts(enum media_op op)
{
    return op >= MEDIA_OP_TEXT_CONVERT && op <= MEDIA_OP_TEXT_EXTRACT;
}

static void handle_call(struct av_worker *w, struct sg_media_request_view *rq,
                        struct sg_media_answer *an)
{
    struct media_call call;
    struct sgav_body body = {0};
    unsigned at = 0;
    an->body_fd = -1;
    an->message[0] = 0;
    enum sg_error err = media_call_decode(rq->payload, rq->payload_len, &call);
    if (!err && (rq->op != (uint32_t)call.op || rq->fd < 0))
        err = SG_ERR_INVALID;
    if (err) {
        if (rq->fd >= 0)
            close(rq->fd);
        an->err = err;
        return;
    }
    if (is_of_texts(call.op)) {
        err = run_texts(&call, rq->fd, &body, an->message);
        if (!err)
            err = send_body(&body, call.limits.max_body_bytes, an);
    } else if (!(err = get_file(w, &call, rq->fd, &at, an->message))) {
        err = run(w->files[at].source, &call, &body, an->message);
        if (!err)
            err = send_body(&body, call.limits.max_body_bytes, an);
        if (err && err != SG_ERR_NOT_FOUND)
            close_file(w, at);
    }
    free(body.data);
    if (!err)
        an->message[0] = 0;
    an->err = answerable(err);
}

void av_worker_handle(void *ctx, struct sg_media_request_view *rq, struct sg_media_answer *an)
{
    struct av_worker *w = ctx;
    if (rq->op == MEDIA_OP_SWEEP && rq->payload_len == 0 && rq->fd < 0) {
        an->body_fd = -1;
        an->message[0] = 0;
        an->err = SG_OK;
    } else {
        handle_call(w, rq, an);
    }
    close_deleted(w);
}

static void log_nothing(void *avcl, int level, const char *fmt, va_list args)
{
    (void)avcl, (void)level, (void)fmt, (void)args;
}

/* Walking a long film by the demuxer allocates and frees a packet for each frame. Measured on
 * 108,000 frames: without fast bins (whose consolidation each large free would start) and with the
 * heap's top kept, opening and indexing took 60 ms instead of 77. RLIMIT_AS still bounds the whole.
 */
static void tune_malloc(void)
{
    mallopt(M_MXFAST, 0);
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

#ifdef __SANITIZE_THREAD__
/* FFmpeg's libraries, x264 and zimg are built without TSan, so it does not see how their threads
 * and counts of references keep apart what they free and copy. Not in a file: this process has no
 * environment and opens nothing, so it cannot name functions either; ours are looked at as ever. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libavutil.so\n"
           "called_from_lib:libavcodec.so\n"
           "called_from_lib:libavformat.so\n"
           "called_from_lib:libavfilter.so\n"
           "called_from_lib:libswscale.so\n"
           "called_from_lib:libswresample.so\n"
           "called_from_lib:libx264.so\n"
           "called_from_lib:libzimg.so\n";
}
#endif

int sg_media_worker_main(void)
{
    tune_malloc();
    struct sg_sandbox_limits limits;
    struct av_worker *worker = NULL;
    av_log_set_callback(log_nothing); /* its messages quote the file */
    enum sg_error err = sg_worker_receive_limits(WORKER_SOCKET, &limits);
    if (err == SG_ERR_CANCELLED)
        return 0;
    if (!err)
        err = sg_sandbox_enter(WORKER_SOCKET, &limits);
    if (!err && limits.task)
        return sgav_task_serve(WORKER_SOCKET);
    if (!err)
        err = av_worker_create(&worker);
    if (err) {
        sg_error_log("media", "the media process cannot start: %s", sg_error_title(err));
        return 1;
    }
    int status = sg_worker_serve(WORKER_SOCKET, av_worker_handle, worker);
    av_worker_destroy(&worker);
    return status;
}
