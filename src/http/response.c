/* Filling in a response. Invariant: `buf` and `fd` are owned by the response whatever `source`
 * says, and are dropped by exactly one of sg_response_clear and the next body. */
#include "streamgate/http/response.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/json.h"
#include "streamgate/http/event_stream.h"

#include "response_private.h"

void sg_response_init(struct sg_response *res)
{
    memset(res, 0, sizeof(*res));
    res->fd = -1;
}

void response_drop_body(struct sg_response *res)
{
    sg_buf_unref(res->buf);
    res->buf = NULL;
    if (res->fd >= 0)
        close(res->fd);
    res->fd = -1;
    if (res->events) {
        sg_event_stream_close(res->events);
        sg_event_stream_unref(res->events);
    }
    res->events = NULL;
    res->source = SG_SOURCE_NONE;
    res->offset = 0;
    res->len = 0;
    res->parts = NULL;
    res->n_parts = 0;
    res->content_type = NULL;
}

void sg_response_clear(struct sg_response *res)
{
    response_drop_body(res);
    sg_response_init(res);
}

/* RFC 9110 5.6.2 */
static bool is_token(const char *s)
{
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c <= ' ' || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c))
            return false;
    }
    return true;
}

static bool is_field_value(const char *s)
{
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++) {
        const unsigned char c = (unsigned char)*s;
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

/* name and value stay where they are: static or in the arena. */
static enum sg_error add_header(struct sg_response *res, const char *name, const char *value)
{
    if (!name || !value || res->n_headers == SG_RESPONSE_HEADERS_MAX)
        return SG_ERR_NO_MEMORY;
    res->headers[res->n_headers].name = name;
    res->headers[res->n_headers].value = value;
    res->n_headers++;
    return SG_OK;
}

enum sg_error sg_response_header(struct sg_request *req, struct sg_response *res, const char *name,
                                 const char *value)
{
    if (!is_token(name) || !is_field_value(value))
        return SG_ERR_INVALID;
    return add_header(res, sg_arena_strdup(req->arena, name), sg_arena_strdup(req->arena, value));
}

enum sg_error sg_response_headerf(struct sg_request *req, struct sg_response *res, const char *name,
                                  const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const char *value = sg_arena_vprintf(req->arena, fmt, args);
    va_end(args);
    if (!value)
        return SG_ERR_NO_MEMORY;
    if (!is_token(name) || !is_field_value(value))
        return SG_ERR_INVALID;
    return add_header(res, sg_arena_strdup(req->arena, name), value);
}

enum sg_error response_static_header(struct sg_response *res, const char *name, const char *value)
{
    return add_header(res, name, value);
}

enum sg_error sg_response_json(struct sg_response *res, unsigned status, json_t *value)
{
    if (!value)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = SG_ERR_NO_MEMORY;
    struct sg_buf *buf;
    size_t len = 0;
    char *text = sg_json_dump(value, &len);
    json_decref(value);
    if (!text)
        goto out;
    char *grown = realloc(text, len + 2);
    if (!grown)
        goto out;
    text = grown;
    text[len] = '\n'; /* so that a terminal's prompt starts on its own line after curl */
    text[len + 1] = '\0';
    err = sg_buf_create_take(text, len + 1, &buf);
    if (err != SG_OK)
        goto out;
    text = NULL;
    sg_response_buf(res, status, "application/json", buf);
out:
    free(text);
    return err;
}

void sg_response_buf(struct sg_response *res, unsigned status, const char *content_type,
                     struct sg_buf *buf)
{
    response_drop_body(res);
    res->status = status;
    res->content_type = content_type;
    res->source = SG_SOURCE_BUF;
    res->buf = buf;
    res->len = buf ? buf->len : 0;
}

void sg_response_file(struct sg_response *res, unsigned status, const char *content_type, int fd,
                      uint64_t size)
{
    response_drop_body(res);
    res->status = status;
    res->content_type = content_type;
    res->source = SG_SOURCE_FILE;
    res->fd = fd;
    res->len = size;
}

enum sg_error sg_response_text(struct sg_response *res, unsigned status, const char *content_type,
                               const char *text)
{
    struct sg_buf *buf;
    enum sg_error err = sg_buf_create_copy(text, strlen(text), &buf);
    if (err == SG_OK)
        sg_response_buf(res, status, content_type, buf);
    return err;
}

void sg_response_empty(struct sg_response *res, unsigned status)
{
    response_drop_body(res);
    res->status = status;
}
