/* Parameters of header values. Written for strings that are the parser's own copy: names and values
 * are cut out of it. */
#include "header_params.h"

#include <stdbool.h>
#include <string.h>

static bool is_token_char(char c)
{
    const unsigned char u = (unsigned char)c;
    return u > ' ' && u < 0x7f && !strchr("\"(),/:;<=>?@[\\]{}", c);
}

static char *skip_ows(char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

enum sg_error header_token(char *value, char **rest)
{
    char *p = value;
    while (is_token_char(*p) || *p == '/')
        p++;
    if (p == value)
        return SG_ERR_INVALID;
    char *after = skip_ows(p);
    if (*after != ';' && *after != '\0')
        return SG_ERR_INVALID;
    *rest = *after == ';' ? after + 1 : after;
    *p = '\0';
    return SG_OK;
}

/* p is behind the opening quote. NULL: no closing one. */
static char *unquote(char *p, char **value)
{
    char *write = p;
    *value = p;
    for (; *p != '"'; p++) {
        if (*p == '\0')
            return NULL;
        if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
            p++;
        *write++ = *p;
    }
    *write = '\0';
    return p + 1;
}

enum sg_error header_param_next(char **rest, struct header_param *out)
{
    char *p = skip_ows(*rest);
    while (*p == ';')
        p = skip_ows(p + 1);
    if (*p == '\0') {
        *rest = p;
        *out = (struct header_param){NULL, NULL};
        return SG_OK;
    }
    char *name = p;
    while (is_token_char(*p))
        p++;
    if (p == name || *p != '=')
        return SG_ERR_INVALID;
    *p++ = '\0';
    char *value = p;
    char *end;
    if (*p == '"') {
        p = unquote(p + 1, &value);
        if (!p)
            return SG_ERR_INVALID;
        end = NULL;
    } else {
        while (is_token_char(*p))
            p++;
        if (p == value)
            return SG_ERR_INVALID;
        end = p;
    }
    p = skip_ows(p);
    if (*p != ';' && *p != '\0')
        return SG_ERR_INVALID;
    *rest = *p == ';' ? p + 1 : p;
    if (end)
        *end = '\0';
    *out = (struct header_param){name, value};
    return SG_OK;
}
