/* See language.h. A tag is read subtag by subtag; what may stand next only ever moves on, in the
 * order of the grammar. */
#include "streamgate/base/language.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"

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

/* ISO 639-2 codes, terminological and bibliographic, each followed by the ISO 639-1 code of its
 * language; sorted. */
enum { LONG = 3, SHORT = 2 };
static const char shorter[][LONG + SHORT + 1] = {
    "aaraa", "abkab", "afraf", "akaak", "albsq", "amham", "araar", "argan", "armhy", "asmas",
    "avaav", "aveae", "aymay", "azeaz", "bakba", "bambm", "baqeu", "belbe", "benbn", "bihbh",
    "bisbi", "bodbo", "bosbs", "brebr", "bulbg", "burmy", "catca", "cescs", "chach", "chece",
    "chizh", "chucu", "chvcv", "corkw", "cosco", "crecr", "cymcy", "czecs", "danda", "deude",
    "divdv", "dutnl", "dzodz", "ellel", "engen", "epoeo", "estet", "euseu", "eweee", "faofo",
    "fasfa", "fijfj", "finfi", "frafr", "frefr", "fryfy", "fulff", "geoka", "gerde", "glagd",
    "glega", "glggl", "glvgv", "greel", "grngn", "gujgu", "hatht", "hauha", "hebhe", "herhz",
    "hinhi", "hmoho", "hrvhr", "hunhu", "hyehy", "iboig", "iceis", "idoio", "iiiii", "ikuiu",
    "ileie", "inaia", "indid", "ipkik", "islis", "itait", "javjv", "jpnja", "kalkl", "kankn",
    "kasks", "katka", "kaukr", "kazkk", "khmkm", "kikki", "kinrw", "kirky", "komkv", "konkg",
    "korko", "kuakj", "kurku", "laolo", "latla", "lavlv", "limli", "linln", "litlt", "ltzlb",
    "lublu", "luglg", "macmk", "mahmh", "malml", "maomi", "marmr", "mayms", "mkdmk", "mlgmg",
    "mltmt", "monmn", "mrimi", "msams", "myamy", "nauna", "navnv", "nblnr", "ndend", "ndong",
    "nepne", "nldnl", "nnonn", "nobnb", "norno", "nyany", "ocioc", "ojioj", "orior", "ormom",
    "ossos", "panpa", "perfa", "plipi", "polpl", "porpt", "pusps", "quequ", "rohrm", "ronro",
    "rumro", "runrn", "rusru", "sagsg", "sansa", "sinsi", "slksk", "slosk", "slvsl", "smese",
    "smosm", "snasn", "sndsd", "somso", "sotst", "spaes", "sqisq", "srdsc", "srpsr", "sswss",
    "sunsu", "swasw", "swesv", "tahty", "tamta", "tattt", "telte", "tgktg", "tgltl", "thath",
    "tibbo", "tirti", "tonto", "tsntn", "tsots", "tuktk", "turtr", "twitw", "uigug", "ukruk",
    "urdur", "uzbuz", "venve", "vievi", "volvo", "welcy", "wlnwa", "wolwo", "xhoxh", "yidyi",
    "yoryo", "zhaza", "zhozh", "zulzu"};

static int compare_long(const void *key, const void *row)
{
    return memcmp(key, row, LONG);
}

void sg_language_shorten(char tag[SG_LANGUAGE_SIZE])
{
    if (strcspn(tag, "-") != LONG)
        return;
    const char *row =
        bsearch(tag, shorter, SG_ARRAY_LEN(shorter), sizeof(shorter[0]), compare_long);
    if (!row)
        return;
    memcpy(tag, row + LONG, SHORT);
    memmove(tag + SHORT, tag + LONG, strlen(tag + LONG) + 1);
}
