/* Streaming multipart/form-data. The delimiter is CRLF "--" boundary. A boundary holds no CR, so a
 * delimiter that breaks off can only begin anew at the byte that broke it: the bytes held back are
 * always the delimiter's own first `matched` ones, and no copy of the input is kept. Data goes out
 * in runs as long as the input given. */
#include "streamgate/http/multipart.h"

#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"

#include "header_params.h"

#define BOUNDARY_MAX 70
#define CONTENT_TYPE_MAX 1024
#define PART_HEADERS_MAX 4096
#define PARTS_MAX 64

enum state {
    STATE_PREAMBLE,
    STATE_DELIMITER_END, /* behind the boundary: "--", or blanks and CRLF */
    STATE_CLOSE_DASH,    /* one dash of the closing delimiter was seen */
    STATE_PADDING,
    STATE_PADDING_LF,
    STATE_HEADERS,
    STATE_DATA,
    STATE_EPILOGUE,
    STATE_FAILED
};

struct sg_multipart {
    struct sg_multipart_events events;
    enum state state;
    enum sg_error err; /* STATE_FAILED: what every later call answers */
    const char *why;
    char delimiter[4 + BOUNDARY_MAX + 1];
    size_t delimiter_len;
    size_t matched;  /* how much of the delimiter stands at the end of what was fed */
    size_t borrowed; /* of matched, how much is not part of the data: the CRLF that ended the
                        headers */
    unsigned n_parts;
    size_t headers_len;
    char headers[PART_HEADERS_MAX + 1];
};

static enum sg_error fail(struct sg_multipart *m, enum sg_error err, const char *why)
{
    m->state = STATE_FAILED;
    m->err = err;
    m->why = why;
    return err;
}

static enum sg_error malformed(struct sg_multipart *m, const char *why)
{
    return fail(m, SG_ERR_MALFORMED, why);
}

/* RFC 2046 5.1.1: bchars, and no blank at the end. */
static bool is_boundary(const char *s)
{
    const size_t len = strlen(s);
    if (len == 0 || len > BOUNDARY_MAX || s[len - 1] == ' ')
        return false;
    for (size_t i = 0; i < len; i++) {
        const char c = s[i];
        const bool alnum =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && !strchr("'()+_,-./:=? ", c))
            return false;
    }
    return true;
}

/* copy is cut to pieces; *boundary points into it. */
static enum sg_error read_content_type(char *copy, const char **boundary)
{
    char *rest;
    const char *found = NULL;
    if (header_token(copy, &rest) != SG_OK || !sg_str_ieq(copy, "multipart/form-data"))
        return SG_ERR_INVALID;
    for (;;) {
        struct header_param param;
        if (header_param_next(&rest, &param) != SG_OK)
            return SG_ERR_INVALID;
        if (!param.name)
            break;
        if (!sg_str_ieq(param.name, "boundary"))
            continue;
        if (found)
            return SG_ERR_INVALID;
        found = param.value;
    }
    if (!found || !is_boundary(found))
        return SG_ERR_INVALID;
    *boundary = found;
    return SG_OK;
}

enum sg_error sg_multipart_create(const char *content_type,
                                  const struct sg_multipart_events *events,
                                  struct sg_multipart **out)
{
    char copy[CONTENT_TYPE_MAX];
    const char *boundary;
    const size_t len = content_type ? strlen(content_type) : 0;
    if (len == 0 || len >= sizeof(copy))
        return SG_ERR_INVALID;
    memcpy(copy, content_type, len + 1);
    if (read_content_type(copy, &boundary) != SG_OK)
        return SG_ERR_INVALID;
    struct sg_multipart *m = calloc(1, sizeof(*m));
    if (!m)
        return SG_ERR_NO_MEMORY;
    m->events = *events;
    m->state = STATE_PREAMBLE;
    const size_t boundary_len = strlen(boundary);
    memcpy(m->delimiter, "\r\n--", 4);
    memcpy(m->delimiter + 4, boundary, boundary_len);
    m->delimiter_len = 4 + boundary_len;
    m->matched = m->borrowed = 2; /* the body begins as if behind a CRLF */
    *out = m;
    return SG_OK;
}

void sg_multipart_destroy(struct sg_multipart **m)
{
    if (!m)
        return;
    free(*m);
    *m = NULL;
}

const char *sg_multipart_why(const struct sg_multipart *m)
{
    return m->why ? m->why : "";
}

static enum sg_error emit(struct sg_multipart *m, const void *data, size_t len)
{
    if (m->state != STATE_DATA || len == 0)
        return SG_OK;
    const enum sg_error err = m->events.part_data(m->events.arg, data, len);
    return err == SG_OK ? SG_OK : fail(m, err, "the part was refused");
}

/* After a CR that began nothing, this many bytes are looked at one by one before memchr is asked
 * again: a body made of CRs would otherwise cost a call each. */
#define NEAR_BYTES 16

static bool begins_delimiter(const struct sg_multipart *m, const uint8_t *at, size_t n)
{
    if ((n > 1 && at[1] != '\n') || (n > 2 && at[2] != '-'))
        return false; /* almost always: the call is saved */
    return memcmp(at, m->delimiter, n) == 0;
}

/* Where a delimiter begins in data, whole or cut off by the end; len when nowhere. *matched tells
 * how much of it is there. */
static size_t find_delimiter(const struct sg_multipart *m, const uint8_t *data, size_t len,
                             size_t *matched)
{
    size_t i = 0;
    while (i < len) {
        if (data[i] != '\r') {
            const uint8_t *cr = memchr(data + i, '\r', len - i);
            if (!cr)
                break;
            i = (size_t)(cr - data);
        }
        const size_t left = len - i;
        const size_t n = left < m->delimiter_len ? left : m->delimiter_len;
        if (begins_delimiter(m, data + i, n)) {
            *matched = n;
            return i;
        }
        i++;
        const size_t near = len - i < NEAR_BYTES ? len : i + NEAR_BYTES;
        while (i < near && data[i] != '\r')
            i++;
    }
    *matched = 0;
    return len;
}

/* PREAMBLE and DATA: up to the next delimiter. *used: bytes of data dealt with. */
static enum sg_error scan(struct sg_multipart *m, const uint8_t *data, size_t len, size_t *used)
{
    size_t i = 0;
    while (m->matched > 0 && m->matched < m->delimiter_len && i < len &&
           data[i] == (uint8_t)m->delimiter[m->matched]) {
        m->matched++;
        i++;
    }
    if (m->matched > 0 && m->matched < m->delimiter_len && i < len) { /* broken off */
        const size_t from = m->borrowed;
        const size_t held = m->matched;
        m->matched = m->borrowed = 0;
        const enum sg_error err = emit(m, m->delimiter + from, held - from);
        if (err != SG_OK)
            return err;
    }
    if (m->matched == 0) {
        size_t matched;
        const size_t at = find_delimiter(m, data + i, len - i, &matched);
        const enum sg_error err = emit(m, data + i, at);
        if (err != SG_OK)
            return err;
        m->matched = matched;
        i += at + matched;
    }
    *used = i;
    if (m->matched < m->delimiter_len)
        return SG_OK;
    m->matched = m->borrowed = 0;
    if (m->state == STATE_DATA) {
        const enum sg_error err = m->events.part_end(m->events.arg);
        if (err != SG_OK)
            return fail(m, err, "the part was refused");
    }
    m->state = STATE_DELIMITER_END;
    return SG_OK;
}

static enum sg_error after_boundary(struct sg_multipart *m, char c)
{
    switch (m->state) {
    case STATE_CLOSE_DASH:
        if (c != '-')
            return malformed(m, "a delimiter is followed by something else than a line end");
        m->state = STATE_EPILOGUE;
        return SG_OK;
    case STATE_PADDING_LF:
        if (c != '\n')
            return malformed(m, "lines must end with CR LF");
        if (m->n_parts == PARTS_MAX)
            return malformed(m, "there are more than 64 parts");
        m->n_parts++;
        m->headers_len = 0;
        m->state = STATE_HEADERS;
        return SG_OK;
    default:
        break;
    }
    if (c == '-' && m->state == STATE_DELIMITER_END) {
        m->state = STATE_CLOSE_DASH;
        return SG_OK;
    }
    if (c == ' ' || c == '\t') {
        m->state = STATE_PADDING;
        return SG_OK;
    }
    if (c != '\r')
        return malformed(m, "a delimiter is followed by something else than a line end");
    m->state = STATE_PADDING_LF;
    return SG_OK;
}

/* What browsers escape inside the quotes (WHATWG HTML, multipart/form-data): %22 %0D %0A, nothing
 * else. */
static void decode_browser_escapes(char *s)
{
    char *write = s;
    while (*s != '\0') {
        if (s[0] == '%' && s[1] == '2' && s[2] == '2') {
            *write++ = '"';
            s += 3;
        } else if (s[0] == '%' && s[1] == '0' && (s[2] == 'D' || s[2] == 'd')) {
            *write++ = '\r';
            s += 3;
        } else if (s[0] == '%' && s[1] == '0' && (s[2] == 'A' || s[2] == 'a')) {
            *write++ = '\n';
            s += 3;
        } else {
            *write++ = *s++;
        }
    }
    *write = '\0';
}

static enum sg_error read_disposition(struct sg_multipart *m, char *value,
                                      struct sg_multipart_part *part)
{
    char *rest;
    char *name = NULL, *filename = NULL;
    if (header_token(value, &rest) != SG_OK || !sg_str_ieq(value, "form-data"))
        return malformed(m, "Content-Disposition must be form-data");
    for (;;) {
        struct header_param param;
        if (header_param_next(&rest, &param) != SG_OK)
            return malformed(m, "Content-Disposition is not well-formed");
        if (!param.name)
            break;
        char **slot = sg_str_ieq(param.name, "name")       ? &name
                      : sg_str_ieq(param.name, "filename") ? &filename
                                                           : NULL;
        if (!slot) /* filename* must not be used in forms (RFC 7578 4.2) */
            continue;
        if (*slot)
            return malformed(m, "a parameter of Content-Disposition occurs twice");
        *slot = param.value;
        decode_browser_escapes(*slot);
        if (!sg_str_is_utf8(*slot, strlen(*slot)))
            return malformed(m, "names in Content-Disposition must be UTF-8");
    }
    if (!name)
        return malformed(m, "a part has no name");
    part->name = name;
    part->filename = filename;
    return SG_OK;
}

static bool is_header_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

/* "Name: value" at line, NUL-terminated; NULL when it is no header. */
static char *split_header(char *line)
{
    char *p = line;
    while (is_header_name_char(*p))
        p++;
    if (p == line || *p != ':')
        return NULL;
    *p++ = '\0';
    while (*p == ' ' || *p == '\t')
        p++;
    size_t len = strlen(p);
    while (len > 0 && (p[len - 1] == ' ' || p[len - 1] == '\t'))
        len--;
    p[len] = '\0';
    return p;
}

static bool is_identity_encoding(const char *value)
{
    return sg_str_ieq(value, "binary") || sg_str_ieq(value, "8bit") || sg_str_ieq(value, "7bit");
}

static enum sg_error read_header(struct sg_multipart *m, char *line, struct sg_multipart_part *part)
{
    char *value = split_header(line);
    if (!value)
        return malformed(m, "a part header is not well-formed");
    if (sg_str_ieq(line, "Content-Disposition")) {
        if (part->name)
            return malformed(m, "a part has two Content-Disposition headers");
        return read_disposition(m, value, part);
    }
    if (sg_str_ieq(line, "Content-Type")) {
        if (part->content_type)
            return malformed(m, "a part has two Content-Type headers");
        part->content_type = value;
    } else if (sg_str_ieq(line, "Content-Transfer-Encoding") && !is_identity_encoding(value)) {
        return malformed(m, "encoded parts are not taken: send the bytes as they are");
    }
    return SG_OK;
}

/* The header block is whole: m->headers without the CRLF of the empty line, every line ended by
 * CRLF. */
static enum sg_error begin_part(struct sg_multipart *m)
{
    struct sg_multipart_part part = {NULL, NULL, NULL};
    m->headers[m->headers_len] = '\0';
    char *line = m->headers;
    while (*line != '\0') {
        char *end = strchr(line, '\r');
        if (!end || end[1] != '\n')
            return malformed(m, "lines must end with CR LF");
        *end = '\0';
        const enum sg_error err = read_header(m, line, &part);
        if (err != SG_OK)
            return err;
        line = end + 2;
    }
    if (!part.name)
        return malformed(m, "a part has no Content-Disposition");
    const enum sg_error err = m->events.part_begin(m->events.arg, &part);
    if (err != SG_OK)
        return fail(m, err, "the part was refused");
    m->state = STATE_DATA;
    m->matched = m->borrowed = 2; /* RFC 2046: a part without body ends at once, the empty line's
                                     CRLF being the delimiter's */
    return SG_OK;
}

static enum sg_error add_header_byte(struct sg_multipart *m, char c)
{
    if (m->headers_len == PART_HEADERS_MAX)
        return malformed(m, "the headers of a part exceed 4096 bytes");
    const size_t n = m->headers_len;
    const bool behind_cr = n > 0 && m->headers[n - 1] == '\r';
    if (c == '\0' || behind_cr != (c == '\n'))
        return malformed(m, "lines must end with CR LF");
    const bool line_start = n == 0 || m->headers[n - 1] == '\n';
    if (line_start && (c == ' ' || c == '\t'))
        return malformed(m, "part headers must not be folded");
    m->headers[m->headers_len++] = c;
    const bool empty_line = c == '\n' && (n == 1 || m->headers[n - 2] == '\n');
    if (!empty_line)
        return SG_OK;
    m->headers_len -= 2;
    return begin_part(m);
}

enum sg_error sg_multipart_feed(struct sg_multipart *m, const uint8_t *data, size_t len)
{
    size_t i = 0;
    enum sg_error err = SG_OK;
    while (i < len && err == SG_OK) {
        size_t used = 1;
        switch (m->state) {
        case STATE_PREAMBLE:
        case STATE_DATA:
            err = scan(m, data + i, len - i, &used);
            break;
        case STATE_HEADERS:
            err = add_header_byte(m, (char)data[i]);
            break;
        case STATE_EPILOGUE:
            return SG_OK;
        case STATE_FAILED:
            return m->err;
        default:
            err = after_boundary(m, (char)data[i]);
            break;
        }
        i += used;
    }
    return err;
}

enum sg_error sg_multipart_finish(struct sg_multipart *m)
{
    if (m->state == STATE_FAILED)
        return m->err;
    if (m->state != STATE_EPILOGUE)
        return malformed(m, "the body ends before the closing delimiter");
    return SG_OK;
}
