/* Routes and modules. From the rows come dispatch, 405 with Allow, HEAD and OPTIONS, metric labels, the OpenAPI document and docs/API.md. */
#ifndef STREAMGATE_HTTP_ROUTE_H
#define STREAMGATE_HTTP_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/str.h"
#include "streamgate/http/request.h"
#include "streamgate/http/response.h"

enum sg_body_kind {
    SG_BODY_NONE,     /* a body is refused (413) unless empty */
    SG_BODY_JSON,     /* collected up to server.max_json_bytes; Content-Type application/json required when there is one */
    SG_BODY_STREAM    /* handed over as it comes: body_begin, body_data, then handle */
};
enum sg_route_cache {
    SG_CACHE_NONE,        /* Cache-Control: no-store unless the handler says otherwise */
    SG_CACHE_REVALIDATE,  /* private, no-cache */
    SG_CACHE_SHORT,       /* public, max-age=2: playlists that may still change */
    SG_CACHE_IMMUTABLE    /* public, max-age=31536000, immutable (signed assets: private) */
};

struct sg_param_doc { const char *name, *type, *doc; }; /* query parameters; type: string integer number boolean */

struct sg_route {
    enum sg_method method;               /* GET rows answer HEAD too, unless HEAD has a row; OPTIONS needs a row only to say more than Allow */
    const char *path;                    /* "/api/v1/assets/{id}"; a last "{name...}" takes the rest. Playback routes under /stream/{id}/ take an optional ~{token} element after the id by themselves */
    enum sg_error (*handle)(struct sg_request *req, struct sg_response *res);
    enum sg_body_kind body;
    /* SG_BODY_STREAM. begin runs once before 100 Continue and before any byte (may answer WOULD_BLOCK; an error refuses the body); data on an I/O thread, in order; an error from either ends the
     * request with that error and closes the connection. The end of the body calls handle. */
    enum sg_error (*body_begin)(struct sg_request *req);
    enum sg_error (*body_data)(struct sg_request *req, const uint8_t *data, size_t len);
    enum sg_setting max_body;            /* setting that bounds a STREAM body; 0 is not a valid choice for STREAM rows other than by name */
    enum sg_role role;                   /* least role; NONE: anyone */
    enum sg_limit_policy limit;
    enum sg_route_cache cache;
    bool blocking;                       /* always run on a blocking thread */
    bool unlimited;                      /* no rate limit (health, metrics) */
    const char *summary;                 /* one line */
    const char *tag;                     /* group in OpenAPI: the module's name when NULL */
    const struct sg_param_doc *query; size_t n_query;
    const char *request_type;            /* content type of the body, for OpenAPI; NULL by kind */
    const char *request_schema;          /* JSON schema text of the body or NULL */
    const char *response_type;           /* "application/json" when NULL */
    const char *response_schema;         /* JSON schema text or NULL */
    unsigned success;                    /* status of success; 0: 200 */
    const struct sg_header *headers; size_t n_headers; /* of every answer of this row, errors too */
    bool overridable;                    /* a POST that names this row's method in X-HTTP-Method-Override is answered by it: for clients behind proxies that know no PATCH */
};

struct sg_module {
    const char *name;
    const struct sg_route *routes; size_t n_routes;
    enum sg_error (*init)(struct sg_services *svc);   /* NULL: none; defines metric series, warms caches */
    void (*tick)(struct sg_services *svc);            /* NULL: none; each second, where blocking is allowed */
    void (*shutdown)(struct sg_services *svc);        /* NULL: none */
};

/* The compiled table: made once from the list of modules. Immutable, thread-safe. */
struct sg_route_table;
/* Errors: NO_MEMORY; EXISTS when two rows collide; INVALID for a bad pattern (logged). */
enum sg_error sg_route_table_create(const struct sg_module *const *modules, size_t n, struct sg_route_table **out) SG_NODISCARD;
void sg_route_table_destroy(struct sg_route_table **t);
size_t sg_route_table_count(const struct sg_route_table *t);
const struct sg_route *sg_route_table_at(const struct sg_route_table *t, size_t i);
const char *sg_route_table_module(const struct sg_route_table *t, size_t i);

enum sg_route_match { SG_MATCH_FOUND, SG_MATCH_NOT_FOUND, SG_MATCH_METHOD };
/* path: decoded, without a token. FOUND fills route, route_index and params (values point into `path_storage`, which the caller keeps: path is split in place with NULs there). HEAD matches GET rows.
 * METHOD, and FOUND for OPTIONS, fill allow with "GET, HEAD, OPTIONS". */
enum sg_route_match sg_route_find(const struct sg_route_table *t, enum sg_method method, char *path_storage, struct sg_request *req, char allow[64]);

enum sg_error sg_openapi_write(const struct sg_route_table *t, struct sg_text *out) SG_NODISCARD;   /* OpenAPI 3.1 JSON */
void sg_route_table_write_markdown(const struct sg_route_table *t, struct sg_text *out);            /* docs/API.md */
void sg_errors_write_markdown(struct sg_text *out);                                                 /* docs/ERRORS.md */

#endif
