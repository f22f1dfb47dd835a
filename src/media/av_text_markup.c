/* See text_cues.h: the one way text gets into a cue. Whatever is put or opened, what comes out
 * holds against media/webvtt.h; a text that would grow past what a cue may hold stops growing, and
 * is refused as a whole by text_cues_add. */
#include <stdlib.h>
#include <string.h>

#include "text_cues.h"

static void raw(struct text_markup *m, const char *s, size_t len)
{
    size_t written = m->out->len - m->from;
    if (written <= SG_WEBVTT_CUE_MAX)
        sg_text_append(m->out, s, len);
}

void text_markup_begin(struct text_markup *m, struct text_cues *c)
{
    *m = (struct text_markup){.out = &c->pool, .from = c->pool.len};
}

/* What was put off until it is known that something follows. */
static void begin_line(struct text_markup *m)
{
    if (m->new_line) {
        raw(m, "\n", 1);
        m->new_line = false;
        m->line_begun = false;
    }
}

static void put_spaces(struct text_markup *m)
{
    if (m->line_begun && m->spaces)
        raw(m, " ", 1);
    m->spaces = 0;
}

/* Length of the character of valid UTF-8 at s. */
static size_t char_length(const char *s, size_t len)
{
    unsigned char c = (unsigned char)*s;
    size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    return n < len ? n : len;
}

/* C0, DEL and C1. */
static bool is_control(const char *s, size_t n)
{
    unsigned char c = (unsigned char)*s;
    return (n == 1 && (c < 0x20 || c == 0x7f)) ||
           (n == 2 && c == 0xc2 && (unsigned char)s[1] < 0xa0);
}

static void put_escaped(struct text_markup *m, const char *s, size_t n)
{
    if (*s == '&')
        raw(m, "&amp;", 5);
    else if (*s == '<')
        raw(m, "&lt;", 4);
    else if (*s == '>')
        raw(m, "&gt;", 4);
    else
        raw(m, s, n);
}

void text_markup_put(struct text_markup *m, const char *s, size_t len)
{
    while (len) {
        size_t n = char_length(s, len);
        if (*s == '\n') {
            m->new_line |= m->line_begun;
            m->spaces = 0;
        } else if (*s == ' ' || *s == '\t') {
            m->spaces++;
        } else if (!is_control(s, n)) {
            begin_line(m);
            put_spaces(m);
            put_escaped(m, s, n);
            m->line_begun = true;
            m->visible = true;
        }
        s += n;
        len -= n;
    }
}

/* ---- character references ---- */

/* A character that was written by its name or number. */
struct decoded {
    char bytes[4];
    size_t len;
};

static const struct reference {
    const char *name;
    struct decoded means;
} references[] = {
    {"amp;", {"&", 1}},
    {"lt;", {"<", 1}},
    {"gt;", {">", 1}},
    {"quot;", {"\"", 1}},
    {"apos;", {"'", 1}},
    {"nbsp;", {"\xc2\xa0", 2}},
    {"lrm;", {"\xe2\x80\x8e", 3}},
    {"rlm;", {"\xe2\x80\x8f", 3}},
};

static struct decoded encode_utf8(uint32_t cp)
{
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    unsigned more = cp < 0x80 ? 0 : cp < 0x800 ? 1 : cp < 0x10000 ? 2 : 3;
    struct decoded d = {.bytes = {(char)(lead[more] | cp >> (6 * more))}, .len = more + 1};
    for (unsigned i = 1; i <= more; i++)
        d.bytes[i] = (char)(0x80 | (cp >> (6 * (more - i)) & 0x3f));
    return d;
}

/* "#39;" or "#x27;" at s; the length read, 0: it is none. */
static size_t take_number(const char *s, size_t len, struct decoded *out)
{
    bool hex = len > 1 && (s[1] == 'x' || s[1] == 'X');
    size_t i = hex ? 2 : 1, from = i;
    uint32_t cp = 0;
    for (; i < len && i < from + 7; i++) {
        char c = s[i];
        unsigned digit = c >= '0' && c <= '9'          ? (unsigned)(c - '0')
                         : hex && c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : hex && c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                       : 99;
        if (digit == 99)
            break;
        cp = cp * (hex ? 16 : 10) + digit;
    }
    if (i == from || i >= len || s[i] != ';' || cp == 0 || cp > 0x10ffff ||
        (cp >= 0xd800 && cp < 0xe000))
        return 0;
    *out = encode_utf8(cp);
    return i + 1;
}

/* A character reference behind '&' at s; the length read, 0: the '&' means itself. */
static size_t take_reference(const char *s, size_t len, struct decoded *out)
{
    if (len && *s == '#')
        return take_number(s, len, out);
    for (size_t i = 0; i < SG_ARRAY_LEN(references); i++) {
        size_t n = strlen(references[i].name);
        if (len >= n && memcmp(s, references[i].name, n) == 0) {
            *out = references[i].means;
            return n;
        }
    }
    return 0;
}

/* ---- tags ---- */

static bool is_white(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

static bool is_class_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '-';
}

static void put_classes(struct text_markup *m, const char **tail, const char *end)
{
    while (*tail < end && **tail == '.') {
        const char *s = ++*tail;
        bool good = true;
        for (; *tail < end && **tail != '.' && !is_white(**tail); ++*tail)
            good = good && is_class_char(**tail);
        size_t n = (size_t)(*tail - s);
        while (n && s[n - 1] == '-') /* never an arrow with the tag's end */
            n--;
        if (good && n) {
            raw(m, ".", 1);
            raw(m, s, n);
        }
    }
}

/* The annotation, one space for each run of white space; whether there is one. */
static bool put_annotation(struct text_markup *m, const char *s, const char *end)
{
    bool space = true; /* one stands between the name and it */
    size_t from = m->out->len;
    while (s < end) {
        struct decoded c = {.len = char_length(s, (size_t)(end - s))};
        size_t n = *s == '&' ? take_reference(s + 1, (size_t)(end - s) - 1, &c) + 1 : c.len;
        if (n == 1 || *s != '&')
            memcpy(c.bytes, s, c.len = n);
        s += n;
        if (is_white(*c.bytes)) {
            space = true;
        } else if (!is_control(c.bytes, c.len)) {
            if (space)
                raw(m, " ", 1);
            space = false;
            put_escaped(m, c.bytes, c.len);
        }
    }
    /* Never an arrow with the tag's end. */
    while (!m->out->failed && m->out->len > from && strchr("- ", m->out->ptr[m->out->len - 1]))
        m->out->ptr[--m->out->len] = 0;
    return m->out->len > from;
}

void text_markup_open(struct text_markup *m, const char *name, size_t len, const char *tail,
                      size_t tail_len)
{
    if (m->depth == SG_WEBVTT_DEPTH_MAX || len >= sizeof(m->open[0].name) ||
        sg_webvtt_tag_name(name, len) != len || m->out->len - m->from > SG_WEBVTT_CUE_MAX)
        return;
    const char *end = tail + tail_len;
    const struct text_markup before = *m;
    size_t length = m->out->len;
    begin_line(m);
    put_spaces(m);
    size_t at = m->out->len;
    raw(m, "<", 1);
    raw(m, name, len);
    put_classes(m, &tail, end);
    if (sg_webvtt_tag_annotated(name, len) && !put_annotation(m, tail, end)) {
        if (!m->out->failed) {
            m->out->len = length;
            m->out->ptr[length] = 0;
        }
        *m = before;
        return;
    }
    raw(m, ">", 1);
    memcpy(m->open[m->depth].name, name, len);
    m->open[m->depth].name[len] = 0;
    m->open[m->depth].at = at;
    m->open[m->depth].len = m->out->len - at;
    m->depth++;
}

static void put_close(struct text_markup *m, unsigned i)
{
    raw(m, "</", 2);
    raw(m, m->open[i].name, strlen(m->open[i].name));
    raw(m, ">", 1);
}

/* A copy of what stands in out itself, which may move as it grows. */
static void open_again(struct text_markup *m, unsigned i)
{
    size_t at = m->out->len, len = m->open[i].len;
    if (m->out->failed || at - m->from > SG_WEBVTT_CUE_MAX)
        return;
    char *copy = malloc(len);
    if (!copy) {
        m->out->failed = true;
        return;
    }
    memcpy(copy, m->out->ptr + m->open[i].at, len);
    raw(m, copy, len);
    m->open[i].at = at;
    free(copy);
}

void text_markup_close(struct text_markup *m, const char *name, size_t len)
{
    unsigned i = m->depth;
    while (i > 0 && (strlen(m->open[i - 1].name) != len || memcmp(m->open[i - 1].name, name, len)))
        i--;
    if (i == 0)
        return;
    for (unsigned k = m->depth; k >= i; k--)
        put_close(m, k - 1);
    unsigned kept = i - 1;
    for (unsigned k = i; k < m->depth; k++) {
        if (strcmp(m->open[k].name, "rt") == 0)
            continue; /* ends with its ruby */
        m->open[kept] = m->open[k];
        open_again(m, kept++);
    }
    m->depth = kept;
}

void text_markup_end(struct text_markup *m)
{
    while (m->depth)
        put_close(m, --m->depth);
}

/* ---- HTML-like text ---- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A tag at '<'; the length read, 0: the '<' means itself. */
static size_t take_tag(struct text_markup *m, const char *s, size_t len)
{
    size_t i = 1;
    bool closes = len > 1 && s[1] == '/';
    i += closes;
    if (i >= len || (!is_letter(s[i]) && !(s[i] >= '0' && s[i] <= '9') && !(closes && s[i] == '>')))
        return 0;
    const char *end = memchr(s, '>', len);
    const char *again = memchr(s + 1, '<', len - 1);
    if (!end || (again && again < end))
        return 0;
    char name[8] = "";
    size_t n = 0;
    for (; n < sizeof(name) && is_letter(s[i + n]); n++)
        name[n] = (char)(s[i + n] | 0x20);
    const char *tail = s + i + n;
    /* "<bold>" is not b, and what is longer than the array is none of ours. */
    bool whole = n < sizeof(name) && (*tail == '>' || *tail == '.' || *tail == ' ' ||
                                      *tail == '\t' || *tail == '\n' || *tail == '/');
    if (whole && n && closes)
        text_markup_close(m, name, n);
    else if (whole && n)
        text_markup_open(m, name, n, tail, (size_t)(end - tail));
    return (size_t)(end - s) + 1;
}

/* "{\an8}" and the like, left over from ASS in many an SRT. */
static size_t curly_length(const char *s, size_t len)
{
    if (len < 3 || s[1] != '\\')
        return 0;
    const char *end = memchr(s, '}', len);
    return end ? (size_t)(end - s) + 1 : 0;
}

void text_markup_html(struct text_markup *m, const char *s, size_t len, bool srt)
{
    while (len) {
        size_t n = 0;
        if (*s == '<') {
            n = take_tag(m, s, len);
        } else if (*s == '{' && srt) {
            n = curly_length(s, len);
        } else if (*s == '&') {
            struct decoded c;
            n = take_reference(s + 1, len - 1, &c);
            if (n) {
                text_markup_put(m, c.bytes, c.len);
                n++;
            }
        }
        if (n == 0) {
            n = 1;
            while (n < len && s[n] != '<' && s[n] != '{' && s[n] != '&')
                n++;
            text_markup_put(m, s, n);
        }
        s += n;
        len -= n;
    }
}

/* ---- ASS ---- */

/* Codes between braces: \b1 \i0 \u1 \p1 \r; whatever else begins with these letters is another
 * code. Returns whether a drawing follows. */
static bool ass_codes(struct text_markup *m, const char *s, size_t len, bool drawing)
{
    for (size_t i = 0; i + 1 < len; i++) {
        if (s[i] != '\\')
            continue;
        const char code = s[i + 1];
        size_t at = i + 2;
        unsigned value = 0;
        while (at < len && s[at] >= '0' && s[at] <= '9' && value < 1000)
            value = value * 10 + (unsigned)(s[at++] - '0');
        bool ends = at == len || s[at] == '\\' || s[at] == ' ';
        if (code == 'r') {
            while (m->depth)
                text_markup_close(m, m->open[m->depth - 1].name,
                                  strlen(m->open[m->depth - 1].name));
        }
        if (!ends)
            continue;
        if (code == 'p')
            drawing = value > 0;
        if (code != 'b' && code != 'i' && code != 'u')
            continue;
        bool open = false;
        for (unsigned k = 0; k < m->depth; k++)
            open = open || (m->open[k].name[0] == code && m->open[k].name[1] == 0);
        if (value && !open)
            text_markup_open(m, &code, 1, "", 0);
        else if (!value)
            text_markup_close(m, &code, 1);
    }
    return drawing;
}

void text_markup_ass(struct text_markup *m, const char *s, size_t len)
{
    bool drawing = false;
    while (len) {
        size_t n = 1;
        const char *end = *s == '{' ? memchr(s, '}', len) : NULL;
        if (end) {
            n = (size_t)(end - s) + 1;
            drawing = ass_codes(m, s + 1, n - 2, drawing);
        } else if (*s == '\\' && len > 1 && strchr("Nnh", s[1]) && s[1]) {
            n = 2;
            if (!drawing)
                text_markup_put(m,
                                s[1] == 'N'   ? "\n"
                                : s[1] == 'n' ? " "
                                              : "\xc2\xa0",
                                s[1] == 'h' ? 2 : 1);
        } else {
            while (n < len && s[n] != '{' && s[n] != '\\')
                n++;
            if (!drawing)
                text_markup_put(m, s, n);
        }
        s += n;
        len -= n;
    }
}
