/* Language tags (BCP 47, RFC 5646). Pure, thread-safe. */
#ifndef STREAMGATE_BASE_LANGUAGE_H
#define STREAMGATE_BASE_LANGUAGE_H

#include <stddef.h>

#include "streamgate/base/error.h"

#define SG_LANGUAGE_SIZE 36 /* 35 characters are what RFC 5646 4.4.1 wants room for */

/* A well-formed tag (2.1, without the grandfathered ones) in its one spelling (2.1.1): "EN-us" -> "en-US". INVALID: not well-formed, or longer. */
enum sg_error sg_language_parse(const char *s, size_t len, char out[SG_LANGUAGE_SIZE]) SG_NODISCARD;
/* Puts the two-letter code in the place of a three-letter one (ISO 639-2/T as in MP4, or /B as in Matroska) where there is one, as RFC 5646 2.2.1 wants:
 * "ger-AT" -> "de-AT". tag is one that sg_language_parse gave. */
void sg_language_shorten(char tag[SG_LANGUAGE_SIZE]);

#endif
