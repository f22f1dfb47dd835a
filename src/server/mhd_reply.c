/* From a struct sg_response to the wire. Bodies in memory are handed to libmicrohttpd without a
 * copy and with a reference of their own; files are read in blocks. Every response but an event
 * stream has a known length. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "streamgate/base/log.h"

#include "mhd_private.h"

#define FILE_BLOCK_BYTES ((size_t)128 * 1024)
#define BY_HAND_MAX_BYTES ((uint64_t)64 * 1024)

/* A body that is read in pieces. Owns buf and fd; parts live in the request's arena, which is freed
 * after the library's last read. */
struct body_reader {
    struct sg_buf *buf;
    int fd;
    uint64_t offset, len;
    const struct sg_body_part *parts;
    unsigned n_parts;
};

static void release_buf(void *cls)
{
    sg_buf_unref(cls);
}

static void release_reader(void *cls)
{
    struct body_reader *b = cls;
    sg_buf_unref(b->buf);
    if (b->fd >= 0) {
        close(b->fd);
    }
    free(b);
}

static ssize_t read_source(const struct body_reader *b, uint64_t at, char *out, size_t max)
{
    if (b->buf) {
        if (at >= b->buf->len) {
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
        size_t n = b->buf->len - (size_t)at < max ? b->buf->len - (size_t)at : max;
        memcpy(out, b->buf->data + at, n);
        return (ssize_t)n;
    }
    ssize_t n;
    do {
        n = pread(b->fd, out, max, (off_t)at);
    } while (n < 0 && errno == EINTR);
    return n > 0 ? n : MHD_CONTENT_READER_END_WITH_ERROR; /* shorter than announced: never pad */
}

static size_t at_most(size_t max, uint64_t left)
{
    return left < max ? (size_t)left : max;
}

static ssize_t read_body(void *cls, uint64_t pos, char *out, size_t max)
{
    const struct body_reader *b = cls;
    if (b->n_parts == 0) {
        return pos >= b->len ? MHD_CONTENT_READER_END_OF_STREAM
                             : read_source(b, b->offset + pos, out, at_most(max, b->len - pos));
    }
    for (unsigned i = 0; i < b->n_parts; i++) {
        const struct sg_body_part *part = &b->parts[i];
        if (pos < part->prefix_len) {
            size_t n = at_most(max, part->prefix_len - pos);
            memcpy(out, part->prefix + pos, n);
            return (ssize_t)n;
        }
        pos -= part->prefix_len;
        if (pos < part->len) {
            return read_source(b, part->offset + pos, out, at_most(max, part->len - pos));
        }
        pos -= part->len;
    }
    return MHD_CONTENT_READER_END_OF_STREAM;
}

static struct MHD_Response *from_reader(struct sg_response *res)
{
    struct body_reader *b = malloc(sizeof(*b));
    if (!b) {
        return NULL;
    }
    uint64_t len = res->len;
    *b = (struct body_reader){.fd = -1, .offset = res->offset, .len = res->len};
    if (res->source == SG_SOURCE_PARTS) {
        b->parts = res->parts;
        b->n_parts = res->n_parts;
        len = 0;
        for (unsigned i = 0; i < res->n_parts; i++) {
            len += res->parts[i].prefix_len + res->parts[i].len;
        }
    } else if (res->fd >= 0) {
        (void)posix_fadvise(res->fd, (off_t)res->offset, (off_t)res->len, POSIX_FADV_SEQUENTIAL);
    }
    struct MHD_Response *r =
        MHD_create_response_from_callback(len, FILE_BLOCK_BYTES, read_body, b, release_reader);
    if (!r) {
        free(b);
        return NULL;
    }
    b->buf = res->buf;
    b->fd = res->fd;
    res->buf = NULL;
    res->fd = -1;
    res->len = len;
    return r;
}

/* No byte of it is ever sent, but its length is announced: for 304. */
static struct MHD_Response *of_length(uint64_t len)
{
    struct body_reader *b = malloc(sizeof(*b));
    if (!b) {
        return NULL;
    }
    *b = (struct body_reader){.fd = -1};
    struct MHD_Response *r =
        MHD_create_response_from_callback(len, 1, read_body, b, release_reader);
    if (!r) {
        free(b);
    }
    return r;
}

static struct MHD_Response *create(struct conn *c, struct sg_response *res)
{
    if (res->status == 304 && res->len > 0) {
        return of_length(res->len);
    }
    switch (res->source) {
    case SG_SOURCE_BUF: {
        struct sg_buf *buf = res->buf;
        struct MHD_Response *r = MHD_create_response_from_buffer_with_free_callback_cls(
            (size_t)res->len, (void *)(uintptr_t)(buf->data + res->offset), release_buf, buf);
        if (r) {
            res->buf = NULL;
        }
        return r;
    }
    case SG_SOURCE_FILE:
    case SG_SOURCE_PARTS:
        return from_reader(res);
    case SG_SOURCE_EVENTS:
        return mhd_events_response(c, res);
    default:
        return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    }
}

static bool add_headers(struct MHD_Response *r, const struct sg_response *res)
{
    bool ok = true;
    for (unsigned i = 0; ok && i < res->n_headers; i++) {
        ok = MHD_add_response_header(r, res->headers[i].name, res->headers[i].value) == MHD_YES;
    }
    if (ok && res->close) {
        ok = MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES;
    }
    return ok;
}

static bool queue_new(struct conn *c, struct sg_response *res)
{
    bool keep = mhd_kept_wants(res);
    const struct sg_buf *buf = res->buf;
    struct MHD_Response *r = create(c, res);
    bool ok = r && add_headers(r, res) && MHD_queue_response(c->mhd, res->status, r) == MHD_YES;
    if (ok && keep) {
        mhd_kept_offer(c, res, buf, r);
    } else if (r) {
        MHD_destroy_response(r); /* the connection has its own reference */
    }
    return ok;
}

bool mhd_reply_queue(struct conn *c, uint64_t *len)
{
    struct sg_response *res = sg_exchange_response(c->x);
    struct MHD_Response *kept = mhd_kept_find(c, res);
    bool ok = kept ? MHD_queue_response(c->mhd, res->status, kept) == MHD_YES : queue_new(c, res);
    if (!ok) {
        sg_warn_log("server", "a response with status %u could not be queued", res->status);
        return false;
    }
    bool headers_only = res->status == 304 || sg_exchange_request(c->x)->method == SG_HEAD;
    *len = headers_only ? 0 : res->len;
    return true;
}

void mhd_reply_by_hand(struct conn *c)
{
    struct sg_response *res = sg_exchange_response(c->x);
    struct sg_text out = {0};
    char date[SG_HTTP_DATE_SIZE];
    bool body = res->source == SG_SOURCE_BUF && res->len <= BY_HAND_MAX_BYTES &&
                sg_exchange_request(c->x)->method != SG_HEAD;
    sg_time_http_date(sg_clock_wall_ms(), date);
    sg_text_printf(&out,
                   "HTTP/1.1 %u %s\r\nDate: %s\r\nConnection: close\r\nContent-Length: %llu\r\n",
                   res->status, MHD_get_reason_phrase_for(res->status), date,
                   (unsigned long long)(body ? res->len : 0));
    for (unsigned i = 0; i < res->n_headers; i++) {
        sg_text_puts(&out, res->headers[i].name);
        sg_text_puts(&out, ": ");
        sg_text_puts(&out, res->headers[i].value);
        sg_text_puts(&out, "\r\n");
    }
    sg_text_puts(&out, "\r\n");
    if (body) {
        sg_text_append(&out, (const char *)res->buf->data + res->offset, (size_t)res->len);
    }
    /* A socket on which nothing was sent yet takes this much at once; when it does not, the client
     * gets no answer but the close. */
    if (!out.failed) {
        (void)!send(c->watched.fd, out.ptr, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    shutdown(c->watched.fd, SHUT_WR);
    sg_text_free(&out);
}
