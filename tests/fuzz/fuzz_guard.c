/* The guard behind a parser that does to the input what libmicrohttpd 0.9.75 does: a bare LF ends a
 * line, line ends become NULs in place, a folded line is joined elsewhere. Whatever passes must be
 * a head that a strict reading of the original bytes accepts and reads the same way. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"

#include "guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

struct parsed {
    struct sg_guard_head head;
    struct sg_guard_memory memory;
    struct sg_header headers[SG_HEADERS_MAX + 1];
    char *joined[SG_HEADERS_MAX + 1]; /* folded names */
    unsigned n_joined;
};

/* The next line, ended with NULs; *at moves behind it. NULL: there is no line end. */
static char *next_line(char *mem, size_t size, size_t *at)
{
    char *line = mem + *at;
    char *lf = memchr(line, '\n', size - *at);
    if (!lf)
        return NULL;
    *at = (size_t)(lf - mem) + 1;
    *lf = '\0';
    if (lf > line && lf[-1] == '\r')
        lf[-1] = '\0';
    return line;
}

static bool parse_request_line(struct parsed *p, char *line)
{
    char *target = strchr(line, ' ');
    if (!target)
        return false;
    *target++ = '\0';
    char *version = strrchr(target, ' ');
    if (!version)
        return false;
    *version++ = '\0';
    p->head.method = p->memory.method = line;
    p->head.target = p->memory.target = target;
    p->head.version = p->memory.version = version;
    p->memory.target_len = strlen(target);
    return true;
}

static bool parse_header(struct parsed *p, char *line)
{
    unsigned n = p->head.n_headers;
    if ((*line == ' ' || *line == '\t') && n > 0) {
        const char *last = p->headers[n - 1].name;
        size_t len = strlen(last);
        size_t more = strlen(line + strspn(line, " \t"));
        char *joined = malloc(len + more + 1);
        CHECK(joined);
        memcpy(joined, last, len);
        memcpy(joined + len, line + strspn(line, " \t"), more + 1);
        if (p->n_joined == SG_HEADERS_MAX + 1) {
            free(joined);
            return false;
        }
        p->joined[p->n_joined++] = joined;
        p->headers[n - 1].name = joined;
        return true;
    }
    char *colon = strchr(line, ':');
    if (!colon || n > SG_HEADERS_MAX)
        return false;
    *colon++ = '\0';
    colon += strspn(colon, " \t");
    p->headers[p->head.n_headers++] = (struct sg_header){line, colon};
    return true;
}

static bool parse(struct parsed *p, char *mem, size_t size)
{
    size_t at = 0;
    char *line = next_line(mem, size, &at);
    if (!line || !parse_request_line(p, line))
        return false;
    while ((line = next_line(mem, size, &at)) != NULL) {
        if (*line == '\0') {
            p->head.bytes = p->memory.bytes = at;
            p->head.headers = p->memory.headers = p->headers;
            p->memory.n_headers = p->head.n_headers;
            return true;
        }
        if (!parse_header(p, line))
            return false;
    }
    return false;
}

/* Of the original bytes: CR LF line ends only, no NUL, no other control, no line that begins with
 * white space, names directly before the colon. */
static void check_strict(const char *raw, size_t bytes, unsigned n_headers)
{
    unsigned lines = 0;
    CHECK(bytes >= 4 && memcmp(raw + bytes - 4, "\r\n\r\n", 4) == 0);
    for (size_t at = 0; at < bytes;) {
        const char *cr = memchr(raw + at, '\r', bytes - at);
        CHECK(cr && cr + 1 < raw + bytes && cr[1] == '\n');
        size_t len = (size_t)(cr - raw) - at;
        for (size_t i = 0; i < len; i++) {
            unsigned char c = (unsigned char)raw[at + i];
            CHECK((c >= ' ' || c == '\t') && c != 0x7f);
        }
        if (lines > 0 && len > 0) {
            const char *colon = memchr(raw + at, ':', len);
            CHECK(colon && colon > raw + at && colon[-1] != ' ' && colon[-1] != '\t');
            CHECK(raw[at] != ' ' && raw[at] != '\t');
        }
        CHECK(len > 0 || at + 2 == bytes);
        lines++;
        at += len + 2;
    }
    CHECK(lines == n_headers + 2);
}

static void check_framing(const struct parsed *p)
{
    unsigned lengths = 0, codings = 0, hosts = 0;
    for (unsigned i = 0; i < p->head.n_headers; i++) {
        lengths += sg_str_istarts(p->headers[i].name, "content-length");
        codings += sg_str_istarts(p->headers[i].name, "transfer-encoding");
        hosts += sg_str_ieq(p->headers[i].name, "host");
        if (sg_str_istarts(p->headers[i].name, "content-length"))
            CHECK(sg_guard_length_ok(p->headers[i].value));
        if (sg_str_istarts(p->headers[i].name, "transfer-encoding"))
            CHECK(strcmp(p->headers[i].value, "chunked") == 0);
    }
    CHECK(lengths + codings <= 1 && hosts <= 1);
    CHECK(hosts == 1 || strcmp(p->head.version, "HTTP/1.0") == 0);
}

/* What cannot be seen in memory (guard.h): NULs beside bare LFs that together are as long as line
 * ends. */
static void forgive_unseen(char *raw, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t run = 0;
        bool nul = false;
        while (at + run < size &&
               (raw[at + run] == '\0' || raw[at + run] == '\r' || raw[at + run] == '\n'))
            nul |= raw[at + run++] == '\0';
        if (nul && run >= 2)
            memcpy(raw + at, "\r\n\r\n", run < 4 ? 2 : 4);
        at += run + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct parsed p;
    memset(&p, 0, sizeof p);
    p.head.max_bytes = 16384;
    char *raw = malloc(size + 1);
    char *mem = malloc(size + 1); /* as the library's buffer: something follows it */
    CHECK(raw && mem);
    if (size > 0) {
        memcpy(raw, data, size);
        memcpy(mem, data, size);
    }
    raw[size] = mem[size] = '\0';
    forgive_unseen(raw, size);
    if (parse(&p, mem, size)) {
        size_t offset = 0;
        bool clean = p.head.n_headers <= SG_HEADERS_MAX && sg_guard_memory_clean(&p.memory);
        enum sg_guard_reason reason = sg_guard_check(&p.head, &offset);
        CHECK(reason < SG_GUARD_REASON_COUNT);
        if (clean && reason == SG_GUARD_OK) {
            check_strict(raw, p.head.bytes, p.head.n_headers);
            check_framing(&p);
            CHECK(offset <= strlen(p.head.target));
        }
    }
    for (unsigned i = 0; i < p.n_joined; i++)
        free(p.joined[i]);
    free(raw);
    free(mem);
    return 0;
}
