/* Feeds a config file to libinih. inih cuts lines at a length fixed when it was built (200 bytes on
 * Debian) without a word, and takes an indented line for more of the value above; so the reader
 * here trims each line, refuses what is no INI with its line number, and hands over the key alone
 * when a value is long, keeping the value aside. */
#include "config_source.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX ((size_t)1 << 20)
#define LINE_MAX_BYTES ((size_t)8192)
#define KEY_MAX ((size_t)49) /* what inih keeps of a name */

struct source {
    char *next, *end;
    unsigned number;
    const char *long_value; /* of the current line, when inih was given the key alone */
    void (*fn)(void *arg, const struct config_line *line);
    void *arg;
};

int sg_config_read(const char *file, char **out, size_t *out_len)
{
    FILE *f = fopen(file, "re");
    if (f == NULL)
        return errno;
    char *text = malloc(FILE_MAX + 2);
    if (text == NULL) {
        fclose(f);
        return ENOMEM;
    }
    errno = 0;
    size_t len = fread(text, 1, FILE_MAX + 1, f);
    int errnum = ferror(f) != 0 ? (errno != 0 ? errno : EIO) : 0;
    fclose(f);
    if (errnum == 0 && len > FILE_MAX)
        errnum = EFBIG;
    if (errnum != 0) {
        free(text);
        return errnum;
    }
    text[len] = '\0';
    *out = text;
    *out_len = len;
    return 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void trim(char **start, char **end)
{
    while (*start < *end && is_blank(**start))
        ++*start;
    while (*end > *start && is_blank((*end)[-1]))
        --*end;
}

/* What keeps the line from being a section, a setting or a comment; NULL when it is one. */
static const char *problem_of(const char *start, size_t len)
{
    if (memchr(start, '\0', len) != NULL)
        return "holds a NUL byte";
    if (len > LINE_MAX_BYTES)
        return "is longer than 8192 bytes";
    if (len == 0 || *start == ';' || *start == '#')
        return NULL;
    if (*start == '[') {
        const char *close = memchr(start, ']', len);
        if (close == NULL)
            return "a section must end with ]";
        return (size_t)(close - start) - 1 > KEY_MAX ? "the section's name is too long" : NULL;
    }
    size_t key = strcspn(start, "=:\n");
    if (key >= len)
        return "is neither [section] nor key = value nor a comment (; or #)";
    if (key == 0)
        return "has no key";
    return key > KEY_MAX ? "the key is too long" : NULL;
}

/* As inih does with short values: a semicolon after a blank starts a comment. */
static char *end_before_comment(char *start, char *end)
{
    for (char *p = start + 1; p < end; p++) {
        if (*p == ';' && is_blank(p[-1]))
            return p;
    }
    return end;
}

/* Gives inih `len` bytes of s and a line feed; num leaves room for them. */
static char *give(char *out, const char *s, size_t len)
{
    memcpy(out, s, len);
    out[len] = '\n';
    out[len + 1] = '\0';
    return out;
}

static char *give_line(struct source *src, char *out, size_t room, char *start, char *end)
{
    size_t len = (size_t)(end - start);
    const char *problem = problem_of(start, len);
    if (problem != NULL) {
        struct config_line line = {.number = src->number, .problem = problem};
        src->fn(src->arg, &line);
        return give(out, ";", 1);
    }
    if (len == 0 || *start == ';' || *start == '#')
        return give(out, ";", 1);
    if (len <= room)
        return give(out, start, len);
    if (*start == '[')
        return give(out, start, (size_t)((char *)memchr(start, ']', len) - start) + 1);
    size_t key = strcspn(start, "=:");
    char *value = start + key + 1, *value_end = end_before_comment(value, end);
    trim(&value, &value_end);
    *value_end = '\0'; /* at most the line feed's place, or the end's */
    src->long_value = value;
    return give(out, start, key + 1);
}

static char *read_line(char *out, int num, void *stream)
{
    struct source *src = stream;
    if (src->next >= src->end || num < (int)KEY_MAX + 8)
        return NULL;
    char *start = src->next;
    char *end = memchr(start, '\n', (size_t)(src->end - start));
    if (end == NULL)
        end = src->end;
    src->next = end + 1;
    src->number++;
    src->long_value = NULL;
    if (src->number == 1 && end - start >= 3 && memcmp(start, "\xEF\xBB\xBF", 3) == 0)
        start += 3; /* byte order mark */
    trim(&start, &end);
    return give_line(src, out, (size_t)num - 2, start, end);
}

static int on_setting(void *user, const char *section, const char *name, const char *value)
{
    struct source *src = user;
    struct config_line line = {.number = src->number,
                               .section = section,
                               .key = name,
                               .value = src->long_value != NULL ? src->long_value : value};
    src->fn(src->arg, &line);
    return 1;
}

bool sg_config_parse(char *text, size_t len, void (*fn)(void *arg, const struct config_line *line),
                     void *arg)
{
    struct source src = {.next = text, .end = text + len, .fn = fn, .arg = arg};
    return ini_parse_stream(read_line, &src, on_setting, &src) >= 0;
}
