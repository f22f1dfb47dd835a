/* The compiled routes: a tree by path segment. Every node offers literal children, children with
 * one parameter between a literal prefix and suffix, and a "rest" child, tried in that order, so a
 * literal wins. Made once, then read by all threads. Matching allocates nothing and writes to the
 * path only once a row is found. */
#include "streamgate/http/route.h"

#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"

#define SEGMENTS_MAX 16
#define NO_ROW (-1)

struct slice {
    char *ptr;
    size_t len;
};

/* A literal is a node without parameter: prefix is the whole text. */
struct node {
    const char *prefix, *suffix;
    size_t prefix_len, suffix_len;
    struct node *next; /* sibling; parameters with more literal text stand first */
    struct node *literals, *parameters, *rest;
    bool terminal; /* some row ends here */
    int rows[SG_METHOD_COUNT];
};

struct row {
    const struct sg_route *route;
    const char *module;
    const char *names[SG_PARAMS_MAX];
    unsigned n_names;
};

struct sg_route_table {
    struct sg_arena *arena;
    struct node *root;
    struct row *rows;
    size_t n_rows;
};

/* A segment of a pattern, taken apart. */
struct piece {
    enum { PIECE_LITERAL, PIECE_PARAMETER, PIECE_REST } kind;
    const char *prefix, *suffix, *name;
    size_t prefix_len, suffix_len, name_len;
};

static struct node *node_create(struct sg_arena *arena, const struct piece *piece)
{
    struct node *node = sg_arena_zalloc(arena, sizeof(*node));
    if (!node)
        return NULL;
    if (piece) {
        node->prefix = piece->prefix;
        node->prefix_len = piece->prefix_len;
        node->suffix = piece->suffix;
        node->suffix_len = piece->suffix_len;
    }
    for (unsigned m = 0; m < SG_METHOD_COUNT; m++)
        node->rows[m] = NO_ROW;
    return node;
}

static bool is_name(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '_'))
            return false;
    }
    return len > 0;
}

static bool is_dots(const char *s, size_t len)
{
    return len > 0 && len <= 2 && s[0] == '.' && s[len - 1] == '.';
}

static bool read_piece(const char *s, size_t len, bool last, struct piece *out)
{
    memset(out, 0, sizeof(*out));
    const char *open = memchr(s, '{', len);
    const char *close = memchr(s, '}', len);
    out->prefix = s;
    out->prefix_len = len;
    if (!open && !close)
        return (len > 0 || last) && !is_dots(s, len);
    if (!open || !close || close < open)
        return false;
    out->prefix_len = (size_t)(open - s);
    out->suffix = close + 1;
    out->suffix_len = (size_t)(s + len - out->suffix);
    out->name = open + 1;
    out->name_len = (size_t)(close - out->name);
    out->kind = PIECE_PARAMETER;
    if (out->name_len > 3 && memcmp(close - 3, "...", 3) == 0) {
        out->kind = PIECE_REST;
        out->name_len -= 3;
        if (!last || out->prefix_len + out->suffix_len > 0)
            return false;
    }
    return is_name(out->name, out->name_len) && !memchr(out->suffix, '{', out->suffix_len) &&
           !memchr(out->suffix, '}', out->suffix_len);
}

static bool same_text(const char *a, size_t a_len, const char *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

/* The child of parent for the piece, made when missing; NULL: out of memory. */
static struct node *child_for(struct sg_arena *arena, struct node *parent,
                              const struct piece *piece)
{
    if (piece->kind == PIECE_REST) {
        if (!parent->rest)
            parent->rest = node_create(arena, piece);
        return parent->rest;
    }
    const size_t weight = piece->prefix_len + piece->suffix_len;
    struct node **at = piece->kind == PIECE_LITERAL ? &parent->literals : &parent->parameters;
    struct node **place = NULL;
    for (; *at; at = &(*at)->next) {
        struct node *n = *at;
        if (same_text(n->prefix, n->prefix_len, piece->prefix, piece->prefix_len) &&
            same_text(n->suffix, n->suffix_len, piece->suffix, piece->suffix_len))
            return n;
        if (!place && piece->kind == PIECE_PARAMETER && n->prefix_len + n->suffix_len < weight)
            place = at;
    }
    if (!place)
        place = at;
    struct node *node = node_create(arena, piece);
    if (!node)
        return NULL;
    node->next = *place;
    *place = node;
    return node;
}

static enum sg_error refuse_row(const struct sg_route *route, enum sg_error err, const char *why)
{
    sg_error_log("http", "route %s %s: %s", sg_method_name(route->method),
                 route->path ? route->path : "(none)", why);
    return err;
}

static enum sg_error add_name(struct sg_arena *arena, struct row *row, const struct piece *piece)
{
    if (row->n_names == SG_PARAMS_MAX)
        return refuse_row(row->route, SG_ERR_INVALID, "too many parameters");
    char *name = sg_arena_strndup(arena, piece->name, piece->name_len);
    if (!name)
        return SG_ERR_NO_MEMORY;
    for (unsigned i = 0; i < row->n_names; i++) {
        if (strcmp(row->names[i], name) == 0)
            return refuse_row(row->route, SG_ERR_INVALID, "a parameter name occurs twice");
    }
    row->names[row->n_names++] = name;
    return SG_OK;
}

static enum sg_error add_row(struct sg_route_table *t, const char *module,
                             const struct sg_route *route)
{
    struct row *row = &t->rows[t->n_rows];
    *row = (struct row){.route = route, .module = module};
    if (!route->path || route->path[0] != '/' || !route->handle ||
        (unsigned)route->method >= SG_METHOD_COUNT)
        return refuse_row(route, SG_ERR_INVALID, "needs a path, a method and a handler");
    if (route->body == SG_BODY_STREAM && !route->body_data)
        return refuse_row(route, SG_ERR_INVALID, "a streamed body needs body_data");
    struct node *node = t->root;
    const char *p = route->path + 1;
    for (unsigned depth = 0;; depth++) {
        const size_t len = strcspn(p, "/");
        const bool last = p[len] == '\0';
        struct piece piece;
        if (depth == SEGMENTS_MAX || !read_piece(p, len, last, &piece))
            return refuse_row(route, SG_ERR_INVALID, "bad pattern");
        if (piece.kind != PIECE_LITERAL) {
            enum sg_error err = add_name(t->arena, row, &piece);
            if (err != SG_OK)
                return err;
        }
        node = child_for(t->arena, node, &piece);
        if (!node)
            return SG_ERR_NO_MEMORY;
        if (last)
            break;
        p += len + 1;
    }
    if (node->rows[route->method] != NO_ROW)
        return refuse_row(route, SG_ERR_EXISTS, "collides with another row");
    node->rows[route->method] = (int)t->n_rows;
    node->terminal = true;
    t->n_rows++;
    return SG_OK;
}

enum sg_error sg_route_table_create(const struct sg_module *const *modules, size_t n,
                                    struct sg_route_table **out)
{
    enum sg_error err = SG_ERR_NO_MEMORY;
    struct sg_route_table *t = calloc(1, sizeof(*t));
    if (!t)
        return err;
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += modules[i]->n_routes;
    err = sg_arena_create(16384, 0, &t->arena);
    if (err != SG_OK)
        goto out;
    t->rows = calloc(total + 1, sizeof(*t->rows));
    t->root = node_create(t->arena, NULL);
    if (!t->rows || !t->root) {
        err = SG_ERR_NO_MEMORY;
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < modules[i]->n_routes; j++) {
            err = add_row(t, modules[i]->name, &modules[i]->routes[j]);
            if (err != SG_OK)
                goto out;
        }
    }
    *out = t;
    t = NULL;
out:
    sg_route_table_destroy(&t);
    return err;
}

void sg_route_table_destroy(struct sg_route_table **t)
{
    if (!t || !*t)
        return;
    sg_arena_destroy(&(*t)->arena);
    free((*t)->rows);
    free(*t);
    *t = NULL;
}

size_t sg_route_table_count(const struct sg_route_table *t)
{
    return t->n_rows;
}

const struct sg_route *sg_route_table_at(const struct sg_route_table *t, size_t i)
{
    return i < t->n_rows ? t->rows[i].route : NULL;
}

const char *sg_route_table_module(const struct sg_route_table *t, size_t i)
{
    return i < t->n_rows ? t->rows[i].module : NULL;
}

/* What is being matched, and what parameters caught so far. */
struct walk {
    struct slice segments[SEGMENTS_MAX];
    unsigned n_segments;
    const char *end;
    struct slice caught[SG_PARAMS_MAX];
    unsigned n_caught;
};

static const struct node *walk_from(struct walk *w, const struct node *node, unsigned depth);

/* The parameter children in turn; what a failed one caught is forgotten. */
static const struct node *walk_parameters(struct walk *w, const struct node *node, unsigned depth)
{
    const struct slice segment = w->segments[depth];
    const unsigned caught = w->n_caught;
    if (segment.len == 0 || caught == SG_PARAMS_MAX)
        return NULL;
    for (const struct node *c = node->parameters; c; c = c->next) {
        const size_t fixed = c->prefix_len + c->suffix_len;
        if (segment.len <= fixed || memcmp(segment.ptr, c->prefix, c->prefix_len) != 0 ||
            memcmp(segment.ptr + segment.len - c->suffix_len, c->suffix, c->suffix_len) != 0)
            continue;
        w->caught[caught] = (struct slice){segment.ptr + c->prefix_len, segment.len - fixed};
        w->n_caught = caught + 1;
        const struct node *found = walk_from(w, c, depth + 1);
        if (found)
            return found;
        w->n_caught = caught;
    }
    if (!node->rest || w->segments[w->n_segments - 1].len == 0)
        return NULL;
    w->caught[caught] = (struct slice){segment.ptr, (size_t)(w->end - segment.ptr)};
    w->n_caught = caught + 1;
    return node->rest;
}

/* The terminal node for the segments from depth on. The depth of the recursion is bounded by
 * SEGMENTS_MAX. */
static const struct node *walk_from(struct walk *w, const struct node *node, unsigned depth)
{
    if (depth == w->n_segments)
        return node->terminal ? node : NULL;
    const struct slice segment = w->segments[depth];
    for (const struct node *c = node->literals; c; c = c->next) {
        if (c->prefix_len != segment.len || memcmp(c->prefix, segment.ptr, segment.len) != 0)
            continue;
        const struct node *found = walk_from(w, c, depth + 1);
        if (found)
            return found;
        break;
    }
    return walk_parameters(w, node, depth);
}

/* false: no row can match (an empty segment but the last, a dot segment, too many). */
static bool split(char *path, struct walk *w)
{
    if (*path != '/')
        return false;
    const size_t len = strlen(path);
    w->end = path + len;
    w->n_segments = 0;
    w->n_caught = 0;
    char *p = path + 1;
    for (;;) {
        char *slash = memchr(p, '/', (size_t)(w->end - p));
        const size_t n = (size_t)((slash ? slash : w->end) - p);
        if (w->n_segments == SEGMENTS_MAX || (n == 0 && slash) || is_dots(p, n))
            return false;
        w->segments[w->n_segments++] = (struct slice){p, n};
        if (!slash)
            return true;
        p = slash + 1;
    }
}

static int row_for(const struct node *node, enum sg_method method)
{
    if ((unsigned)method >= SG_METHOD_COUNT)
        return NO_ROW;
    if (method == SG_HEAD && node->rows[SG_HEAD] == NO_ROW)
        return node->rows[SG_GET];
    return node->rows[method];
}

/* Everything a resource answers to; OPTIONS is answered for every resource. */
static void list_methods(const struct node *node, char allow[64])
{
    size_t len = 0;
    for (unsigned m = 0; m < SG_METHOD_COUNT; m++) {
        if (m != SG_OPTIONS && row_for(node, (enum sg_method)m) == NO_ROW)
            continue;
        const char *name = sg_method_name((enum sg_method)m);
        const size_t name_len = strlen(name);
        if (len > 0) {
            memcpy(allow + len, ", ", 2);
            len += 2;
        }
        memcpy(allow + len, name, name_len);
        len += name_len;
    }
    allow[len] = '\0';
}
_Static_assert(sizeof("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS") <= 64, "Allow fits");

enum sg_route_match sg_route_find(const struct sg_route_table *t, enum sg_method method,
                                  char *path_storage, struct sg_request *req, char allow[64])
{
    struct walk w;
    if (!split(path_storage, &w))
        return SG_MATCH_NOT_FOUND;
    const struct node *node = walk_from(&w, t->root, 0);
    if (!node)
        return SG_MATCH_NOT_FOUND;
    const int index = row_for(node, method);
    if (index == NO_ROW || method == SG_OPTIONS)
        list_methods(node, allow);
    if (index == NO_ROW)
        return SG_MATCH_METHOD;
    const struct row *row = &t->rows[index];
    for (unsigned i = 0; i < row->n_names; i++) {
        w.caught[i].ptr[w.caught[i].len] = '\0';
        req->params[i] = (struct sg_path_param){row->names[i], w.caught[i].ptr};
    }
    req->n_params = row->n_names;
    req->route = row->route;
    req->route_index = (uint32_t)index;
    return SG_MATCH_FOUND;
}
