/* See manifest_text.h. */
#include "manifest_text.h"

#include <string.h>

void manifest_put_quoted(struct sg_text *text, const char *s)
{
    sg_text_puts(text, "\"");
    for (; *s; s++)
        sg_text_append(text, *s == '"' ? "'" : s, 1);
    sg_text_puts(text, "\"");
}

void manifest_put_xml(struct sg_text *text, const char *s)
{
    for (; *s; s++) {
        if (strncmp(s, "\xef\xbf\xbe", 3) == 0 || strncmp(s, "\xef\xbf\xbf", 3) == 0) {
            s += 2;
            continue;
        }
        switch (*s) {
        case '&':
            sg_text_puts(text, "&amp;");
            break;
        case '<':
            sg_text_puts(text, "&lt;");
            break;
        case '>':
            sg_text_puts(text, "&gt;");
            break;
        case '"':
            sg_text_puts(text, "&quot;");
            break;
        case '\'':
            sg_text_puts(text, "&apos;");
            break;
        default:
            sg_text_append(text, s, 1);
        }
    }
}

void manifest_put_attribute(struct sg_text *text, const char *name, const char *value)
{
    sg_text_printf(text, " %s=\"", name);
    manifest_put_xml(text, value);
    sg_text_puts(text, "\"");
}
