/* See webvtt.h. What is let through here is sent to browsers as it is: whatever is not exactly the
 * form is refused, and nothing is repaired. */
#include "streamgate/media/webvtt.h"

#include <string.h>

#include "streamgate/base/str.h"

enum { HOURS_DIGITS_MAX = 4, SETTINGS_MAX = 5 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(const char *s, size_t len, const char *const *words)
{
    for (; *words; words++)
        if (strlen(*words) == len && memcmp(s, *words, len) == 0)
            return true;
    return false;
}

/* ---- settings ---- */

/* DIGITS[.DIGITS], at most three before and behind the point. */
static bool is_number(const char *s, size_t len, unsigned *out_whole, bool *out_fraction)
{
    size_t i = 0, whole = 0;
    for (; i < len && is_digit(s[i]) && i < 4; i++)
        whole = whole * 10 + (size_t)(s[i] - '0');
    if (i == 0 || i > 3)
        return false;
    *out_whole = (unsigned)whole;
    *out_fraction = i < len;
    if (i == len)
        return true;
    size_t digits = len - i - 1;
    if (s[i] != '.' || digits == 0 || digits > 3)
        return false;
    for (i++; i < len; i++)
        if (!is_digit(s[i]))
            return false;
    return true;
}

static bool is_percentage(const char *s, size_t len)
{
    unsigned whole;
    bool fraction;
    if (len < 2 || s[len - 1] != '%' || !is_number(s, len - 1, &whole, &fraction))
        return false;
    return whole < 100 || (whole == 100 && !fraction);
}

/* A value, and behind a comma one of the words. */
static size_t value_length(const char *s, size_t len, const char *const *words)
{
    const char *comma = memchr(s, ',', len);
    if (!comma)
        return len;
    size_t n = (size_t)(comma - s);
    return is_word(comma + 1, len - n - 1, words) ? n : 0;
}

static bool line_holds(const char *s, size_t len)
{
    static const char *const words[] = {"start", "center", "end", NULL};
    size_t n = value_length(s, len, words);
    if (is_percentage(s, n))
        return true;
    unsigned whole;
    bool fraction;
    size_t minus = n > 0 && s[0] == '-';
    return is_number(s + minus, n - minus, &whole, &fraction) && !fraction;
}

static bool position_holds(const char *s, size_t len)
{
    static const char *const words[] = {"line-left", "center", "line-right", NULL};
    return is_percentage(s, value_length(s, len, words));
}

static bool align_holds(const char *s, size_t len)
{
    static const char *const words[] = {"start", "center", "end", "left", "right", NULL};
    return is_word(s, len, words);
}

static bool vertical_holds(const char *s, size_t len)
{
    static const char *const words[] = {"rl", "lr", NULL};
    return is_word(s, len, words);
}

static const struct setting {
    const char *name;
    bool (*holds)(const char *s, size_t len);
} settings[SETTINGS_MAX] = {
    {"vertical", vertical_holds}, {"line", line_holds},   {"position", position_holds},
    {"size", is_percentage},      {"align", align_holds},
};

static const struct setting *find_setting(const char *s, size_t len, size_t *out_value)
{
    const char *colon = memchr(s, ':', len);
    for (unsigned i = 0; colon && i < SETTINGS_MAX; i++) {
        size_t n = strlen(settings[i].name);
        if ((size_t)(colon - s) == n && memcmp(s, settings[i].name, n) == 0) {
            *out_value = n + 1;
            return &settings[i];
        }
    }
    return NULL;
}

bool sg_webvtt_setting_holds(const char *s, size_t len)
{
    size_t value = 0;
    const struct setting *setting = find_setting(s, len, &value);
    return setting && setting->holds(s + value, len - value);
}

/* ` name:value` each, none twice. */
static bool settings_hold(const char *s, size_t len)
{
    bool seen[SETTINGS_MAX] = {false};
    while (len) {
        if (*s != ' ')
            return false;
        const char *next = memchr(s + 1, ' ', len - 1);
        size_t n = next ? (size_t)(next - s) : len, value = 0;
        const struct setting *setting = find_setting(s + 1, n - 1, &value);
        if (!setting || seen[setting - settings] || !setting->holds(s + 1 + value, n - 1 - value))
            return false;
        seen[setting - settings] = true;
        s += n;
        len -= n;
    }
    return true;
}

/* ---- times ---- */

static bool take_digits(const char **s, unsigned n, unsigned max, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!is_digit((*s)[i]))
            return false;
        value = value * 10 + (uint64_t)((*s)[i] - '0');
    }
    *s += n;
    *out = value;
    return value <= max;
}

/* HH:MM:SS.mmm, more digits of hours where they are needed. The text ends in NUL or more of it. */
static bool take_time(const char **s, uint64_t *out_ms)
{
    unsigned digits = 0;
    uint64_t h, m, sec, ms;
    while (digits <= HOURS_DIGITS_MAX && is_digit((*s)[digits]))
        digits++;
    if (digits < 2 || digits > HOURS_DIGITS_MAX || (digits > 2 && (*s)[0] == '0'))
        return false;
    if (!take_digits(s, digits, 9999, &h) || *(*s)++ != ':' || !take_digits(s, 2, 59, &m) ||
        *(*s)++ != ':' || !take_digits(s, 2, 59, &sec) || *(*s)++ != '.' ||
        !take_digits(s, 3, 999, &ms))
        return false;
    *out_ms = ((h * 60 + m) * 60 + sec) * 1000 + ms;
    return true;
}

static bool time_line_holds(const char *line, size_t len, struct sg_webvtt_cue *out)
{
    enum { SHORTEST = 2 * 12 + 5 };
    static const char arrow[] = " --> ";
    const char *s = line;
    /* A line feed ends the line, so that no read goes past it. */
    if (len < SHORTEST || !take_time(&s, &out->start_ms) ||
        strncmp(s, arrow, sizeof(arrow) - 1) != 0)
        return false;
    s += sizeof(arrow) - 1;
    return take_time(&s, &out->end_ms) && out->start_ms < out->end_ms &&
           settings_hold(s, len - (size_t)(s - line));
}

/* ---- texts ---- */

size_t sg_webvtt_tag_name(const char *s, size_t len)
{
    static const char *const names[] = {"b", "i", "u", "c", "v", "lang", "ruby", "rt", NULL};
    size_t n = 0;
    while (n < len && s[n] >= 'a' && s[n] <= 'z')
        n++;
    return is_word(s, n, names) ? n : 0;
}

bool sg_webvtt_tag_annotated(const char *name, size_t len)
{
    static const char *const names[] = {"v", "lang", NULL};
    return is_word(name, len, names);
}

struct nest {
    struct {
        const char *name;
        size_t len;
    } open[SG_WEBVTT_DEPTH_MAX];
    unsigned depth;
};

/* Length of an escape at s; 0: it is none. */
static size_t escape_length(const char *s, size_t len)
{
    static const char *const escapes[] = {"&amp;", "&lt;", "&gt;"};
    for (size_t i = 0; i < SG_ARRAY_LEN(escapes); i++) {
        size_t n = strlen(escapes[i]);
        if (len >= n && memcmp(s, escapes[i], n) == 0)
            return n;
    }
    return 0;
}

static bool class_holds(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_digit(s[i]) && !(s[i] >= 'a' && s[i] <= 'z') && !(s[i] >= 'A' && s[i] <= 'Z') &&
            s[i] != '_' && s[i] != '-')
            return false;
    return len > 0;
}

static bool annotation_holds(const char *s, size_t len)
{
    if (len == 0 || s[0] == ' ' || s[len - 1] == ' ')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '<' || s[i] == '\n')
            return false;
        size_t n = s[i] == '&' ? escape_length(s + i, len - i) : 1;
        if (n == 0)
            return false;
        i += n - 1;
    }
    return true;
}

/* What stands between the name and the '>' of an opening tag. */
static bool tail_holds(const char *s, size_t len, bool annotated)
{
    while (len && *s == '.') {
        size_t n = 1;
        while (n < len && s[n] != '.' && s[n] != ' ')
            n++;
        if (!class_holds(s + 1, n - 1))
            return false;
        s += n;
        len -= n;
    }
    if (!annotated)
        return len == 0;
    return len > 1 && *s == ' ' && annotation_holds(s + 1, len - 1);
}

/* Length of the tag at s, which opens or closes one of the nest; 0: it does not hold. */
static size_t take_tag(struct nest *nest, const char *s, size_t len)
{
    const char *close = memchr(s, '>', len);
    if (!close)
        return 0;
    size_t whole = (size_t)(close - s) + 1;
    if (whole > 3 && close[-1] == '-' && close[-2] == '-')
        return 0; /* a line with an arrow in it is a time line to a browser */
    bool closes = whole > 2 && s[1] == '/';
    const char *name = s + 1 + closes;
    size_t room = (size_t)(close - name), n = sg_webvtt_tag_name(name, room);
    if (n == 0)
        return 0;
    if (closes) {
        if (n != room || nest->depth == 0 || nest->open[nest->depth - 1].len != n ||
            memcmp(nest->open[nest->depth - 1].name, name, n) != 0)
            return 0;
        nest->depth--;
        return whole;
    }
    if (nest->depth == SG_WEBVTT_DEPTH_MAX ||
        !tail_holds(name + n, room - n, sg_webvtt_tag_annotated(name, n)))
        return 0;
    nest->open[nest->depth].name = name;
    nest->open[nest->depth].len = n;
    nest->depth++;
    return whole;
}

static bool text_holds(const char *s, size_t len)
{
    struct nest nest = {.depth = 0};
    if (len == 0 || len > SG_WEBVTT_CUE_MAX)
        return false;
    for (size_t i = 0; i < len;) {
        size_t n = 1;
        if (s[i] == '&')
            n = escape_length(s + i, len - i);
        else if (s[i] == '<')
            n = take_tag(&nest, s + i, len - i);
        else if (s[i] == '>')
            n = 0;
        if (n == 0)
            return false;
        i += n;
    }
    return nest.depth == 0;
}

static bool is_blank(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] != ' ')
            return false;
    return true;
}

/* ---- the reader ---- */

enum sg_error sg_webvtt_open(struct sg_webvtt_reader *r, const void *text, size_t len)
{
    static const char head[] = "WEBVTT\n";
    size_t n = sizeof(head) - 1;
    const char *s = text;
    if (len < n || len > SG_WEBVTT_TEXT_MAX || memcmp(s, head, n) != 0 || s[len - 1] != '\n' ||
        !sg_str_is_utf8(s, len))
        return SG_ERR_MEDIA_WORKER;
    *r = (struct sg_webvtt_reader){.at = s + n, .end = s + len};
    return SG_OK;
}

/* The line at s without its line feed; there is one before the end. */
static size_t line_length(const char *s, const char *end)
{
    return (size_t)((const char *)memchr(s, '\n', (size_t)(end - s)) - s);
}

static bool take_cue(struct sg_webvtt_reader *r, struct sg_webvtt_cue *out)
{
    const char *s = r->at;
    if (*s++ != '\n' || s == r->end || r->cues == SG_WEBVTT_CUES_MAX)
        return false;
    out->ptr = s;
    size_t n = line_length(s, r->end);
    if (!time_line_holds(s, n, out) || out->start_ms < r->last_ms)
        return false;
    s += n + 1;
    const char *text = s;
    while (s < r->end && *s != '\n') {
        n = line_length(s, r->end);
        if (is_blank(s, n) || sg_str_has_control(s, n))
            return false;
        s += n + 1;
    }
    if (s == text || !text_holds(text, (size_t)(s - text) - 1))
        return false;
    out->len = (size_t)(s - out->ptr);
    r->at = s;
    return true;
}

enum sg_error sg_webvtt_next(struct sg_webvtt_reader *r, struct sg_webvtt_cue *out)
{
    struct sg_webvtt_cue cue;
    if (r->at == r->end)
        return SG_ERR_NOT_FOUND;
    if (!take_cue(r, &cue))
        return SG_ERR_MEDIA_WORKER;
    r->last_ms = cue.start_ms;
    r->cues++;
    *out = cue;
    return SG_OK;
}

enum sg_error sg_webvtt_check(const void *text, size_t len, uint32_t *out_cues)
{
    struct sg_webvtt_reader r;
    struct sg_webvtt_cue cue;
    enum sg_error err = sg_webvtt_open(&r, text, len);
    while (!err)
        err = sg_webvtt_next(&r, &cue);
    if (err != SG_ERR_NOT_FOUND)
        return err;
    if (r.cues == 0)
        return SG_ERR_MEDIA_WORKER;
    *out_cues = r.cues;
    return SG_OK;
}
