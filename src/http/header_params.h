/* Parameters of a header value: *( OWS ";" OWS token "=" ( token / quoted-string ) ), as
 * Content-Type (RFC 9110 8.3.1) and Content-Disposition (RFC 7578 4.2) carry them. Values are
 * unquoted in place. Pure. */
#ifndef STREAMGATE_HTTP_HEADER_PARAMS_H
#define STREAMGATE_HTTP_HEADER_PARAMS_H

#include "streamgate/base/error.h"

struct header_param {
    char *name; /* as written; compare without case */
    char *value;
};

/* Ends the leading token of value ("multipart/form-data") with a NUL, and points *rest at what
 * follows. INVALID: no token. */
enum sg_error header_token(char *value, char **rest) SG_NODISCARD;
/* The next parameter at *rest, which moves on. INVALID on a syntax error; at the end out->name is
 * NULL. A backslash escapes only '"' and itself: browsers of old sent Windows paths unescaped. */
enum sg_error header_param_next(char **rest, struct header_param *out) SG_NODISCARD;

#endif
