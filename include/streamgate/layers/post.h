/* Posting small bodies to servers nobody vouches for: many at once on one thread, each bounded in time and in what it reads of the answer, none to an address that is not globally
 * routable (layers/fetch.h), no redirect followed. Built on libcurl, which keeps connections; sg_fetch_init comes first. A client is one thread's, but for sg_post_wake. */
#ifndef STREAMGATE_LAYERS_POST_H
#define STREAMGATE_LAYERS_POST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"
#include "streamgate/layers/address.h"

struct sg_post_client;
enum sg_error sg_post_client_create(struct sg_post_client **out) SG_NODISCARD;
void sg_post_client_destroy(struct sg_post_client **c); /* breaks off what is under way; NULL is fine */

/* Who may be connected to besides (NULL: nobody); the caller's, until another is given. An idle connection to an address that is not allowed any more is kept for at most a minute. */
void sg_post_allow(struct sg_post_client *c, const struct sg_cidr_list *allow);

/* The whole answer takes at most timeout_ms. url, headers ("Name: value") and body are copied; arg comes back with the result. INVALID, FORBIDDEN: the URL (sg_fetch_check_url); NO_MEMORY. */
struct sg_post_params {
    const char *url;
    const char *const *headers; size_t n_headers;
    const char *body; size_t body_len;
    uint64_t timeout_ms;
    void *arg;
};
enum sg_error sg_post_start(struct sg_post_client *c, const struct sg_post_params *p) SG_NODISCARD;

struct sg_post_result {
    void *arg;
    unsigned status;         /* HTTP; 0: no answer */
    uint64_t latency_ms;
    uint64_t retry_after_ms; /* what the answer asked for; 0: nothing */
    char why[160];           /* no answer: a sentence for people, without anything internal; "" else */
};
/* Works on what was started until something of it ends, sg_post_wake is called or timeout_ms is over. At most max results; how many there are. A wake in between is not lost. */
size_t sg_post_wait(struct sg_post_client *c, uint64_t timeout_ms, struct sg_post_result *out, size_t max);
size_t sg_post_running(const struct sg_post_client *c);
void sg_post_wake(struct sg_post_client *c); /* any thread */

#endif
