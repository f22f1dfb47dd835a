/* Texts of others in manifests, escaped. */
#ifndef STREAMGATE_MEDIA_MANIFEST_TEXT_H
#define STREAMGATE_MEDIA_MANIFEST_TEXT_H

#include "streamgate/base/str.h"

/* RFC 8216 4.2: a quoted string holds no line break and no quote; there is no line break in s. */
void manifest_put_quoted(struct sg_text *text, const char *s);
/* Text of an attribute or an element: what means something to XML escaped, and the two characters
 * of UTF-8 that XML 1.0 does not take left out (there are no control characters in s). */
void manifest_put_xml(struct sg_text *text, const char *s);
void manifest_put_attribute(struct sg_text *text, const char *name, const char *value);

#endif
