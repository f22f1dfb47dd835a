/* Fetching from a source nobody vouches for: one GET over http or https, that reaches no address which is not globally routable, follows few
 * redirects, and goes on where an earlier one ended. Built on libcurl. Thread-safe; a fetch blocks the thread it runs on. */
#ifndef STREAMGATE_LAYERS_FETCH_H
#define STREAMGATE_LAYERS_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"
#include "streamgate/layers/address.h"

/* Once before the first fetch and once after the last. UNAVAILABLE. */
enum sg_error sg_fetch_init(void) SG_NODISCARD;
void sg_fetch_end(void);

/* Whether a may be connected to: it is in allow (NULL: the empty list), or globally routable by the special-purpose registries of IANA (RFC 6890); addresses that
 * carry an IPv4 address (mapped, NAT64, 6to4) are as good as that one. Pure. */
bool sg_fetch_address_allowed(const struct sg_address *a, const struct sg_cidr_list *allow);

/* A source known to be wrong before anything is asked: INVALID (not http or https, a user name, not a URL), FORBIDDEN (the host is an address, in whatever
 * notation, that may not be connected to). Names are resolved only by the fetch. *why: a static sentence. */
enum sg_error sg_fetch_check_url(const char *url, const struct sg_cidr_list *allow, const char **why) SG_NODISCARD;

#define SG_FETCH_NAME_SIZE 256 /* room for a file name */
/* A file name that sg_validate_filename takes, from a Content-Disposition value (RFC 6266; filename* only in UTF-8) or from the last element of a
 * URL's path. NOT_FOUND: none that would do. */
enum sg_error sg_fetch_name_from_disposition(const char *value, char out[SG_FETCH_NAME_SIZE]) SG_NODISCARD;
enum sg_error sg_fetch_name_from_url(const char *url, char out[SG_FETCH_NAME_SIZE]) SG_NODISCARD;

/* What the source said before its first byte. The strings are good during the call. */
struct sg_fetch_source {
    uint64_t offset;          /* of the first byte that follows: what was asked for, or 0: the source starts over */
    bool has_size;
    uint64_t size_bytes;      /* of the whole */
    const char *validator;    /* strong ETag or Last-Modified, good for If-Range; "" when there is none */
    const char *filename;     /* by its Content-Disposition; "" */
};

struct sg_fetch_params {
    const char *url;
    const struct sg_cidr_list *allow;
    uint64_t offset;          /* bytes that are there already; only with their validator, else it starts over */
    const char *validator;
    uint64_t max_bytes;       /* of the whole */
    uint64_t timeout_ms;      /* all of it, redirects included */
    uint64_t connect_timeout_ms, stall_timeout_ms; /* stalled: under SG_FETCH_STALL_BYTES_PER_S for so long */
    unsigned max_redirects;
    /* begin runs once, before the first data; both may block. An error from either ends the fetch with it. */
    enum sg_error (*begin)(void *arg, const struct sg_fetch_source *source);
    enum sg_error (*data)(void *arg, const void *data, size_t len);
    bool (*stop)(void *arg);  /* asked at least once a second; true: CANCELLED */
    void *arg;
};
#define SG_FETCH_STALL_BYTES_PER_S 1024

struct sg_fetch_result {
    bool transient;           /* trying again may help */
    bool by_caller;           /* the error came from begin or data */
    uint64_t retry_after_ms;  /* what the source asked for; 0: nothing */
    char why[160];            /* a sentence for people, without anything internal; "" when by_caller */
};

/* SG_OK: every byte of the source from source.offset on was handed over. FETCH, FORBIDDEN (an address), TOO_LARGE, CANCELLED, NO_MEMORY, or the caller's. result is always filled in. */
enum sg_error sg_fetch(const struct sg_fetch_params *params, struct sg_fetch_result *result) SG_NODISCARD;

#endif
