/* Strict JSON in, compact JSON out. The depth bound is applied before jansson builds anything. */
#include "streamgate/base/json.h"

#include <float.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define JSON_DEPTH_MAX 32
/* So many a double keeps of any decimal: what people wrote comes back as they wrote it, 20.016 as
 * well as a time in seconds with its milliseconds. */
#define REAL_DIGITS DBL_DIG

/* Nesting counted outside of strings. Malformed text may count wrong; the parser refuses it anyway.
 */
static bool is_too_deep(const char *text, size_t len)
{
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_DEPTH_MAX)
                return true;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return false;
}

/* jansson's own words quote the input: only the rule and the position are told. */
static const char *broken_rule(const json_error_t *error)
{
    switch (json_error_code(error)) {
    case json_error_duplicate_key:
        return "a member given twice";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "a NUL character";
    case json_error_invalid_utf8:
        return "invalid UTF-8";
    case json_error_numeric_overflow:
        return "a number out of range";
    default:
        return "not valid JSON";
    }
}

enum sg_error sg_json_parse(const char *text, size_t len, json_t **out, char why[128])
{
    if (is_too_deep(text, len)) {
        if (why != NULL)
            snprintf(why, 128, "nested deeper than %d levels", JSON_DEPTH_MAX);
        return SG_ERR_INVALID;
    }
    json_error_t error;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (value == NULL) {
        bool memory = json_error_code(&error) == json_error_out_of_memory;
        if (why != NULL)
            snprintf(why, 128, "%s at line %d, column %d", broken_rule(&error), error.line,
                     error.column);
        return memory ? SG_ERR_NO_MEMORY : SG_ERR_INVALID;
    }
    *out = value;
    return SG_OK;
}

static char *dump(const json_t *value, size_t flags, size_t *out_len)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY |
                                       JSON_REAL_PRECISION(REAL_DIGITS) | flags);
    if (text != NULL && out_len != NULL)
        *out_len = strlen(text);
    return text;
}

char *sg_json_dump(const json_t *value, size_t *out_len)
{
    return dump(value, 0, out_len);
}

char *sg_json_dump_canonical(const json_t *value, size_t *out_len)
{
    return dump(value, JSON_SORT_KEYS, out_len);
}
