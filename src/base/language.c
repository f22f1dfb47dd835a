/* See language.h. A tag is read subtag by subtag; what may stand next only ever moves on, in the
 * order of the grammar. */
#include "streamgate/base/language.h"

#include <stdbool.h>
#include <string.h>

enum part { LANGUAGE, EXTLANG, SCRIPT, REGION, VARIANT, EXTENSION, PRIVATE };

enum { SUBTAG_MAX = 8, EXTLANGS_MAX = 3 };

struct tag {
    enum part part;    /* what the subtag before was */
    unsigned extlangs; /* how many so far */
    bool extlang_ok;   /* the language has two or three letters */
    bool wants_more;   /* a singleton needs a subtag behind it */
};

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool all(const char *s, size_t len, bool (*is)(char c))
{
    for (size_t i = 0; i < len; i++)
        if (!is(s[i]))
            return false;
    return true;
}

static bool is_alnum(char c)
{
    return is_alpha(c) || is_digit(c);
}

static void lower(char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] >= 'A' && s[i] <= 'Z')
            s[i] = (char)(s[i] + 32);
}

static void upper(char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] >= 'a' && s[i] <= 'z')
            s[i] = (char)(s[i] - 32);
}

static bool take_first(struct tag *t, const char *s, size_t len)
{
    if (len == 1 && s[0] == 'x') {
        t->part = PRIVATE;
        t->wants_more = true;
        return true;
    }
    t->part = LANGUAGE;
    t->extlang_ok = len <= 3;
    return len >= 2 && all(s, len, is_alpha);
}

/* A subtag behind the first; in lower case, spelled as its part wants it. */
static bool take_next(struct tag *t, char *s, size_t len)
{
    if (t->part == PRIVATE) {
        t->wants_more = false;
        return true;
    }
    if (len == 1) {
        if (t->wants_more)
            return false;
        t->part = s[0] == 'x' ? PRIVATE : EXTENSION;
        t->wants_more = true;
        return true;
    }
    if (t->part == EXTENSION) {
        t->wants_more = false;
        return true;
    }
    bool letters = all(s, len, is_alpha);
    if (len == 3 && letters && t->part <= EXTLANG && t->extlang_ok && t->extlangs < EXTLANGS_MAX) {
        t->part = EXTLANG;
        t->extlangs++;
    } else if (len == 4 && letters && t->part < SCRIPT) {
        t->part = SCRIPT;
        upper(s, 1);
    } else if (((len == 2 && letters) || (len == 3 && all(s, len, is_digit))) && t->part < REGION) {
        t->part = REGION;
        upper(s, len);
    } else if ((len >= 5 || (len == 4 && is_digit(s[0]))) && t->part <= VARIANT) {
        t->part = VARIANT;
    } else {
        return false;
    }
    return true;
}

enum sg_error sg_language_parse(const char *s, size_t len, char out[SG_LANGUAGE_SIZE])
{
    char text[SG_LANGUAGE_SIZE];
    struct tag tag = {0};
    if (len == 0 || len >= sizeof(text))
        return SG_ERR_INVALID;
    memcpy(text, s, len);
    text[len] = '\0';
    lower(text, len);
    for (size_t at = 0; at <= len;) {
        size_t n = strcspn(text + at, "-");
        if (n == 0 || n > SUBTAG_MAX || !all(text + at, n, is_alnum))
            return SG_ERR_INVALID;
        if (at == 0 ? !take_first(&tag, text, n) : !take_next(&tag, text + at, n))
            return SG_ERR_INVALID;
        at += n + 1;
    }
    if (tag.wants_more)
        return SG_ERR_INVALID;
    memcpy(out, text, len + 1);
    return SG_OK;
}
