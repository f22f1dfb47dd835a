/* docs/API.md and docs/ERRORS.md, generated from the rows and from error.def. */
#include <string.h>

#include "streamgate/http/route.h"

#include "response_private.h"

static const char *const cache_names[] = {
    [SG_CACHE_NONE] = "no-store",
    [SG_CACHE_REVALIDATE] = "private, no-cache",
    [SG_CACHE_SHORT] = "public, max-age=2",
    [SG_CACHE_IMMUTABLE] = "immutable",
};

static const char *const body_names[] = {
    [SG_BODY_NONE] = "none",
    [SG_BODY_JSON] = "application/json",
    [SG_BODY_STREAM] = "application/octet-stream",
};

static const char *text_or(const char *text, const char *otherwise)
{
    return text ? text : otherwise;
}

/* A cell of a table: the pipe is its only special character. */
static void put_cell(struct sg_text *out, const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s == '|')
            sg_text_puts(out, "\\");
        sg_text_append(out, s, 1);
    }
}

static void put_query(const struct sg_route *route, struct sg_text *out)
{
    if (route->n_query == 0)
        return;
    sg_text_puts(out, "\n| query | type | |\n|---|---|---|\n");
    for (size_t i = 0; i < route->n_query; i++) {
        sg_text_printf(out, "| `%s` | %s | ", route->query[i].name, route->query[i].type);
        put_cell(out, text_or(route->query[i].doc, ""));
        sg_text_puts(out, " |\n");
    }
}

static void put_route(const struct sg_route *route, struct sg_text *out)
{
    const unsigned success = route->success ? route->success : 200;
    sg_text_printf(out, "\n### `%s %s`\n\n%s.\n\n", sg_method_name(route->method), route->path,
                   text_or(route->summary, "No summary"));
    sg_text_printf(out, "- Role: %s\n",
                   route->role == SG_ROLE_NONE ? "anyone" : sg_role_name(route->role));
    sg_text_printf(out, "- Rate limit: %s\n",
                   route->unlimited ? "none" : sg_limit_policy_name(route->limit));
    if (route->body != SG_BODY_NONE)
        sg_text_printf(out, "- Request body: %s\n",
                       text_or(route->request_type, body_names[route->body]));
    sg_text_printf(out, "- Answer: %u", success);
    if (success != 204)
        sg_text_printf(out, ", %s", text_or(route->response_type, "application/json"));
    sg_text_printf(out, "\n- Caching: %s\n", cache_names[route->cache]);
    put_query(route, out);
}

void sg_route_table_write_markdown(const struct sg_route_table *t, struct sg_text *out)
{
    sg_text_puts(out,
                 "# HTTP interface\n\n"
                 "Generated from the route rows by `streamgate`; do not edit. The same rows make "
                 "`/openapi.json`.\n\n"
                 "Errors are `application/problem+json` (RFC 9457), see ERRORS.md. Every GET row "
                 "answers HEAD, and every path answers OPTIONS.\n");
    const char *module = NULL;
    for (size_t i = 0; i < sg_route_table_count(t); i++) {
        const char *current = sg_route_table_module(t, i);
        if (!module || strcmp(module, current) != 0)
            sg_text_printf(out, "\n## %s\n", current);
        module = current;
        put_route(sg_route_table_at(t, i), out);
    }
}

/* Held to by e2e.guard. */
static const char library_refusals[] =
    "\n## Refused by the HTTP library\n\n"
    "A head that libmicrohttpd cannot read never becomes a request. The library answers by "
    "itself, with a few words of HTML in place of a problem and without `X-Request-Id`, and "
    "closes the connection; no metric counts it.\n\n"
    "| status | when |\n|---|---|\n"
    "| 400 | The request line or a header line cannot be parsed |\n"
    "| 414 | The request line alone is larger than the memory of a connection: "
    "`server.max_header_bytes` and 8 KiB |\n"
    "| 431 | The request line fits into that, the header fields do not |\n"
    "| 505 | The version is not HTTP/1 |\n\n"
    "Heads between `server.max_header_bytes` and that memory are refused with problems, but for "
    "those that leave no room for an answer: they get the close alone, and so does what is not "
    "HTTP at all. Content whose chunks cannot be parsed gets such a 400 too; its request is "
    "counted as dropped.\n";

void sg_errors_write_markdown(struct sg_text *out)
{
    sg_text_puts(out, "# Errors\n\n"
                      "Generated from `error.def`; do not edit. A problem's `type` is "
                      "`urn:streamgate:problem:` followed by the slug, which is stable.\n\n"
                      "| status | slug | title |\n|---|---|---|\n");
    for (int e = SG_OK + 1; e < SG_ERROR_COUNT; e++) {
        const enum sg_error err = (enum sg_error)e;
        if (error_is_internal(err))
            continue;
        sg_text_printf(out, "| %u | `%s` | ", sg_error_status(err), sg_error_slug(err));
        put_cell(out, sg_error_title(err));
        sg_text_puts(out, " |\n");
    }
    sg_text_puts(out, library_refusals);
}
