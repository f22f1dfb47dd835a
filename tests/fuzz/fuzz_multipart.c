/* Multipart: the first line is the Content-Type (its end is LF), the rest the body. The body is fed
 * whole and in chunks of the size the first byte names; both must tell the same. The boundary "XX"
 * is used when the line is no good. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/http/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

struct story {
    struct sg_text text;
    bool inside;
};

static enum sg_error on_begin(void *arg, const struct sg_multipart_part *part)
{
    struct story *s = arg;
    CHECK(!s->inside && part->name);
    CHECK(sg_str_is_utf8(part->name, strlen(part->name)));
    CHECK(!part->filename || sg_str_is_utf8(part->filename, strlen(part->filename)));
    s->inside = true;
    sg_text_printf(&s->text, "<%s|%s|%s>", part->name, part->filename ? part->filename : "-",
                   part->content_type ? part->content_type : "-");
    return SG_OK;
}

static enum sg_error on_data(void *arg, const uint8_t *data, size_t len)
{
    struct story *s = arg;
    CHECK(s->inside && len > 0);
    sg_text_append(&s->text, (const char *)data, len);
    return SG_OK;
}

static enum sg_error on_end(void *arg)
{
    struct story *s = arg;
    CHECK(s->inside);
    s->inside = false;
    sg_text_puts(&s->text, "</>");
    return SG_OK;
}

static enum sg_error tell(const char *type, const uint8_t *body, size_t size, size_t step,
                          struct story *story)
{
    const struct sg_multipart_events events = {on_begin, on_data, on_end, story};
    struct sg_multipart *m = NULL;
    if (sg_multipart_create(type, &events, &m) != SG_OK)
        CHECK(sg_multipart_create("multipart/form-data; boundary=XX", &events, &m) == SG_OK);
    enum sg_error err = SG_OK;
    for (size_t at = 0; at < size && err == SG_OK; at += step)
        err = sg_multipart_feed(m, body + at, size - at < step ? size - at : step);
    if (err == SG_OK)
        err = sg_multipart_finish(m);
    CHECK(err == SG_OK || err == SG_ERR_MALFORMED);
    CHECK(err != SG_OK || !story->inside);
    sg_multipart_destroy(&m);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const size_t step = (size_t)data[0] + 1;
    const uint8_t *line = data + 1;
    const uint8_t *end = memchr(line, '\n', size - 1);
    const size_t line_len = end ? (size_t)(end - line) : 0;
    const uint8_t *body = end ? end + 1 : line;
    const size_t body_len = size - (size_t)(body - data);
    char *type = malloc(line_len + 1);
    if (!type)
        return 0;
    memcpy(type, line, line_len);
    type[line_len] = '\0';
    struct story whole = {0}, pieces = {0};
    const enum sg_error a = tell(type, body, body_len, body_len + 1, &whole);
    const enum sg_error b = tell(type, body, body_len, step, &pieces);
    CHECK(a == b && whole.inside == pieces.inside);
    CHECK(whole.text.len == pieces.text.len);
    CHECK(whole.text.len == 0 || memcmp(whole.text.ptr, pieces.text.ptr, whole.text.len) == 0);
    sg_text_free(&whole.text);
    sg_text_free(&pieces.text);
    free(type);
    return 0;
}
