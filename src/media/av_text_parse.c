/* See text_cues.h: what kind of subtitles a file holds, and the parsers of them. They are as
 * lenient as players are with files from the wild: what cannot be read is skipped, and only a file
 * without a single cue is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text_cues.h"

struct line {
    const char *s;
    size_t len;
};

struct parse {
    bool srt;
    const char *at, *end; /* lines end with \n, the last may not */
    struct text_cues cues;
    char *why;
};

static bool next_line(struct parse *p, struct line *out)
{
    if (p->at == p->end)
        return false;
    size_t left = (size_t)(p->end - p->at);
    const char *feed = memchr(p->at, '\n', left);
    *out = (struct line){p->at, feed ? (size_t)(feed - p->at) : left};
    p->at = feed ? feed + 1 : p->end;
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static struct line trimmed(struct line l)
{
    while (l.len && is_space(*l.s)) {
        l.s++;
        l.len--;
    }
    while (l.len && is_space(l.s[l.len - 1]))
        l.len--;
    return l;
}

static bool is_blank(struct line l)
{
    return trimmed(l).len == 0;
}

static bool begins(struct line l, const char *word)
{
    size_t n = strlen(word);
    if (l.len < n)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((l.s[i] | 0x20) != (word[i] | 0x20))
            return false;
    return true;
}

/* ---- encodings ---- */

/* UTF-16 behind its mark, as UTF-8. */
static enum sg_error put_utf16(const uint8_t *s, size_t len, bool big, struct sg_text *out)
{
    for (size_t i = 0; i + 1 < len; i += 2) {
        uint32_t c = big ? (uint32_t)s[i] << 8 | s[i + 1] : (uint32_t)s[i + 1] << 8 | s[i];
        if (c >= 0xd800 && c < 0xdc00 && i + 3 < len) {
            uint32_t low =
                big ? (uint32_t)s[i + 2] << 8 | s[i + 3] : (uint32_t)s[i + 3] << 8 | s[i + 2];
            if (low < 0xdc00 || low > 0xdfff)
                return SG_ERR_UNPROCESSABLE;
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            i += 2;
        }
        if (c >= 0xd800 && c < 0xe000)
            return SG_ERR_UNPROCESSABLE;
        char utf8[4];
        unsigned more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
        utf8[0] = (char)(lead[more] | c >> (6 * more));
        for (unsigned k = 1; k <= more; k++)
            utf8[k] = (char)(0x80 | (c >> (6 * (more - k)) & 0x3f));
        sg_text_append(out, utf8, more + 1);
    }
    if (len % 2)
        return SG_ERR_UNPROCESSABLE;
    return out->failed ? SG_ERR_NO_MEMORY : SG_OK;
}

/* \r\n and \r become \n, in place. */
static void one_line_break(struct sg_text *t)
{
    size_t to = 0;
    for (size_t i = 0; i < t->len; i++) {
        if (t->ptr[i] == '\r' && i + 1 < t->len && t->ptr[i + 1] == '\n')
            continue;
        t->ptr[to++] = t->ptr[i] == '\r' ? '\n' : t->ptr[i];
    }
    t->len = to;
    if (t->ptr)
        t->ptr[to] = 0;
}

static enum sg_error fail(enum sg_error err, char why[SG_MEDIA_MESSAGE_MAX], const char *text)
{
    snprintf(why, SG_MEDIA_MESSAGE_MAX, "%s", text);
    return err;
}

static enum sg_error decode(const uint8_t *s, size_t len, struct sg_text *out,
                            char why[SG_MEDIA_MESSAGE_MAX])
{
    enum sg_error err = SG_OK;
    if (len >= 2 && ((s[0] == 0xff && s[1] == 0xfe) || (s[0] == 0xfe && s[1] == 0xff))) {
        err = put_utf16(s + 2, len - 2, s[0] == 0xfe, out);
        if (err == SG_ERR_UNPROCESSABLE)
            return fail(err, why, "The file has the byte order mark of UTF-16 but is none.");
    } else {
        if (len >= 3 && memcmp(s, "\xef\xbb\xbf", 3) == 0) {
            s += 3;
            len -= 3;
        }
        if (memchr(s, 0, len))
            return fail(SG_ERR_UNSUPPORTED_MEDIA, why, "The file is not text.");
        if (!sg_str_is_utf8(s, len))
            return fail(SG_ERR_UNPROCESSABLE, why,
                        "The text must be UTF-8, or UTF-16 with a byte order mark.");
        sg_text_append(out, (const char *)s, len);
        err = out->failed ? SG_ERR_NO_MEMORY : SG_OK;
    }
    if (!err && out->ptr && memchr(out->ptr, 0, out->len))
        return fail(SG_ERR_UNSUPPORTED_MEDIA, why, "The file is not text.");
    one_line_break(out);
    return err;
}

/* ---- times ---- */

/* [[H+:]MM:]SS[.,]f, up to three digits behind the point, as many as there are. */
static bool take_time(struct line *l, int64_t *out_ms)
{
    int64_t parts[3] = {0}, fraction = 0, scale = 1000;
    unsigned n = 0;
    size_t i = 0;
    for (;; i++) {
        size_t from = i;
        while (i < l->len && l->s[i] >= '0' && l->s[i] <= '9' && i - from < 6)
            parts[n] = parts[n] * 10 + (l->s[i++] - '0');
        if (i == from || i - from == 6)
            return false;
        n++;
        if (i == l->len || l->s[i] != ':' || n == 3)
            break;
    }
    if (i == l->len || n < 2 || (l->s[i] != '.' && l->s[i] != ','))
        return false;
    for (i++; i < l->len && l->s[i] >= '0' && l->s[i] <= '9'; i++) {
        if (scale > 1) {
            scale /= 10;
            fraction = fraction * 10 + (l->s[i] - '0');
        }
    }
    int64_t hours = n == 3 ? parts[0] : 0, minutes = parts[n - 2], seconds = parts[n - 1];
    if (minutes > 59 || seconds > 59 || scale == 1000)
        return false;
    *out_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000 + fraction * scale;
    *l = (struct line){l->s + i, l->len - i};
    return true;
}

/* "time --> time rest" */
static bool read_times(struct line line, struct text_times *out)
{
    struct line l = trimmed(line);
    struct text_times t = {0};
    if (!take_time(&l, &t.start_ms))
        return false;
    l = trimmed(l);
    if (l.len < 3 || memcmp(l.s, "-->", 3) != 0)
        return false;
    l = trimmed((struct line){l.s + 3, l.len - 3});
    if (!take_time(&l, &t.end_ms))
        return false;
    t.settings = l.s;
    t.settings_len = l.len;
    *out = t;
    return true;
}

static enum sg_error add_html(struct parse *p, const char *from, const char *to,
                              const struct text_times *t)
{
    struct text_markup m;
    text_markup_begin(&m, &p->cues);
    text_markup_html(&m, from, (size_t)(to - from), p->srt);
    return text_cues_add(&p->cues, &m, t, p->why);
}

/* ---- SRT ---- */

static bool is_counter(struct line line)
{
    struct line l = trimmed(line);
    for (size_t i = 0; i < l.len; i++)
        if (l.s[i] < '0' || l.s[i] > '9')
            return false;
    return l.len > 0;
}

/* A cue reaches to the next time line, less the counter before that: empty lines within a text are
 * common, and so are counters that lie. */
static enum sg_error parse_srt(struct parse *p)
{
    struct line l, before = {0};
    struct text_times t = {0}, next;
    const char *from = NULL;
    enum sg_error err = SG_OK;
    p->srt = true;
    while (!err && next_line(p, &l)) {
        if (read_times(l, &next)) {
            if (from) {
                const char *to = before.s && is_counter(before) ? before.s : l.s;
                err = add_html(p, from, to > from ? to : from, &t);
            }
            t = next;
            t.settings = NULL;
            t.settings_len = 0;
            from = p->at;
            before = (struct line){0};
        } else {
            before = l;
        }
    }
    return err || !from ? err : add_html(p, from, p->end, &t);
}

/* ---- WebVTT ---- */

static bool has_arrow(struct line l)
{
    for (size_t i = 0; i + 3 <= l.len; i++)
        if (memcmp(l.s + i, "-->", 3) == 0)
            return true;
    return false;
}

/* Lines up to the next empty one; what begins with a time line, or with one line and then that, is
 * a cue, and all else (notes, styles, regions) is skipped. */
static enum sg_error parse_vtt(struct parse *p)
{
    struct line l;
    struct text_times t;
    while (next_line(p, &l) && !is_blank(l)) /* the head */
        ;
    while (next_line(p, &l)) {
        if (is_blank(l))
            continue;
        const char *second = p->at;
        bool cue = has_arrow(l);
        if (!cue && next_line(p, &l)) {
            cue = has_arrow(l);
            if (!cue)
                p->at = second;
        }
        bool good = cue && read_times(l, &t);
        const char *from = p->at, *to = p->at;
        while (next_line(p, &l) && l.len > 0) {
            if (has_arrow(l)) { /* an empty line was forgotten */
                p->at = l.s;
                break;
            }
            to = p->at;
        }
        enum sg_error err = good ? add_html(p, from, to, &t) : SG_OK;
        if (err)
            return err;
    }
    return SG_OK;
}

/* ---- ASS ---- */

const char *text_ass_field(const char *s, const char *end, unsigned commas)
{
    for (; commas && s < end; s++)
        commas -= *s == ',';
    return commas ? NULL : s;
}

/* The order of the fields of an event, by commas before each. */
struct ass_format {
    unsigned start, end, text;
};

static struct ass_format read_format(struct line l)
{
    struct ass_format f = {1, 2, 9};
    unsigned n = 0;
    while (l.len) {
        const char *comma = memchr(l.s, ',', l.len);
        size_t len = comma ? (size_t)(comma - l.s) : l.len;
        struct line name = trimmed((struct line){l.s, len});
        if (name.len == 5 && begins(name, "start"))
            f.start = n;
        else if (name.len == 3 && begins(name, "end"))
            f.end = n;
        else if (name.len == 4 && begins(name, "text"))
            f.text = n;
        n++;
        len += comma != NULL;
        l = (struct line){l.s + len, l.len - len};
    }
    return f;
}

static bool ass_time(const char *s, const char *end, int64_t *out)
{
    if (!s)
        return false;
    struct line l = trimmed((struct line){s, (size_t)(end - s)});
    return take_time(&l, out);
}

static enum sg_error add_event(struct parse *p, struct line l, const struct ass_format *f)
{
    const char *end = l.s + l.len;
    const char *text = text_ass_field(l.s, end, f->text);
    struct text_times t = {0};
    if (!text || !ass_time(text_ass_field(l.s, end, f->start), end, &t.start_ms) ||
        !ass_time(text_ass_field(l.s, end, f->end), end, &t.end_ms))
        return SG_OK;
    struct text_markup m;
    text_markup_begin(&m, &p->cues);
    text_markup_ass(&m, text, (size_t)(end - text));
    return text_cues_add(&p->cues, &m, &t, p->why);
}

static enum sg_error parse_ass(struct parse *p)
{
    struct line l;
    struct ass_format format = {1, 2, 9};
    bool events = false;
    enum sg_error err = SG_OK;
    while (!err && next_line(p, &l)) {
        l = trimmed(l);
        if (l.len && *l.s == '[')
            events = begins(l, "[events]");
        else if (events && begins(l, "format:"))
            format = read_format((struct line){l.s + 7, l.len - 7});
        else if (events && begins(l, "dialogue:"))
            err = add_event(p, (struct line){l.s + 9, l.len - 9}, &format);
    }
    return err;
}

/* ---- all of them ---- */

typedef enum sg_error (*parser)(struct parse *p);

static parser find_parser(struct parse p)
{
    struct line l;
    bool first = true;
    struct text_times t;
    while (next_line(&p, &l)) {
        if (first && begins(l, "WEBVTT") && memcmp(l.s, "WEBVTT", 6) == 0 &&
            (l.len == 6 || is_space(l.s[6])))
            return parse_vtt;
        if (is_blank(l))
            continue;
        first = false;
        struct line s = trimmed(l);
        if (begins(s, "[script info]") || begins(s, "[v4+ styles]") || begins(s, "[v4 styles]") ||
            begins(s, "[events]"))
            return parse_ass;
        if (read_times(l, &t))
            return parse_srt;
    }
    return NULL;
}

enum sg_error text_convert(const struct text_source *source, void **out, size_t *out_len,
                           char why[SG_MEDIA_MESSAGE_MAX])
{
    struct sg_text text = {0};
    struct parse p = {.cues.max_ms = source->max_ms < SG_WEBVTT_TIME_MAX_MS ? source->max_ms
                                                                            : SG_WEBVTT_TIME_MAX_MS,
                      .why = why};
    enum sg_error err = decode(source->bytes, source->len, &text, why);
    parser parse = NULL;
    if (!err && text.len) {
        p.at = text.ptr;
        p.end = text.ptr + text.len;
        parse = find_parser(p);
    }
    if (!err)
        err = parse ? parse(&p)
                    : fail(SG_ERR_UNSUPPORTED_MEDIA, why,
                           "The file is neither SRT, WebVTT nor ASS subtitles.");
    if (!err)
        err = text_cues_write(&p.cues, out, out_len, why);
    text_cues_free(&p.cues);
    sg_text_free(&text);
    return err;
}
