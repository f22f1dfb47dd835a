/* Cross-origin rules (the Fetch standard, "CORS protocol"). Playback routes answer every origin:
 * what gates them is the token in the path, never a cookie. The API answers the origins of
 * server.cors_origins. */
#include <string.h>

#include "exchange.h"

#define EXPOSED                                                                                    \
    "Accept-Ranges, Content-Digest, Content-Length, Content-Range, ETag, Location, "               \
    "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, X-Request-Id"
static const char exposed[] = EXPOSED;
/* Players are spared what only uploads say. */
static const char exposed_by_api[] =
    EXPOSED ", Content-Location, Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, "
            "Tus-Resumable, Tus-Version, Upload-Concat, Upload-Defer-Length, Upload-Expires, "
            "Upload-Length, Upload-Metadata, Upload-Offset";
static const char allowed_headers[] =
    "Authorization, Content-Digest, Content-Type, If-Match, If-Modified-Since, If-None-Match, "
    "If-Range, Range, Tus-Resumable, Upload-Checksum, Upload-Concat, Upload-Defer-Length, "
    "Upload-Length, Upload-Metadata, Upload-Offset, X-HTTP-Method-Override, X-Request-Id, "
    "traceparent";

/* Is origin one of the comma-separated list? *any: the list is "*". */
static bool listed(const char *list, const char *origin, bool *any)
{
    size_t origin_len = strlen(origin);
    *any = false;
    while (*list) {
        list += strspn(list, ", \t");
        size_t len = strcspn(list, ",");
        size_t kept = len;
        while (kept > 0 && (list[kept - 1] == ' ' || list[kept - 1] == '\t')) {
            kept--;
        }
        if (kept == 1 && *list == '*') {
            *any = true;
            return true;
        }
        if (kept == origin_len && memcmp(list, origin, kept) == 0) {
            return true;
        }
        list += len;
    }
    return false;
}

static bool allow_origin(struct sg_exchange *x, const char *origin)
{
    if (x->playback) {
        sg_exchange_add(x, "Access-Control-Allow-Origin", "*");
        return true;
    }
    const char *list = sg_config_string(x->config, SG_SET_server_cors_origins);
    if (*list == '\0') {
        return false;
    }
    bool any = false;
    bool ok = origin && listed(list, origin, &any);
    if (!any) {
        sg_exchange_add(x, "Vary", "Origin"); /* also when refused: caches must not mix the two */
    }
    if (ok) {
        sg_exchange_add(x, "Access-Control-Allow-Origin", any ? "*" : origin);
    }
    return ok;
}

void sg_cors_apply(struct sg_exchange *x)
{
    const char *origin = x->known[KNOWN_ORIGIN];
    if (!allow_origin(x, origin)) {
        return;
    }
    if (x->req.method == SG_OPTIONS && x->known[KNOWN_PREFLIGHT_METHOD]) {
        sg_exchange_add(x, "Access-Control-Allow-Methods", x->allow);
        sg_exchange_add(x, "Access-Control-Allow-Headers", allowed_headers);
        sg_exchange_add(x, "Access-Control-Max-Age", "600");
    } else if (origin) { /* only a script of another origin asks what it may see */
        sg_exchange_add(x, "Access-Control-Expose-Headers", x->playback ? exposed : exposed_by_api);
    }
}
