/* Posts, on libcurl's multi interface: a server that does not answer costs a socket, not a thread.
 * Of an answer its status counts and its Retry-After; its body is thrown away, and the connection
 * with it when there is much of that. */
#include "streamgate/layers/post.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/log.h"
#include "streamgate/layers/fetch.h"

#include "fetch_head.h"
#include "fetch_private.h"

#define HEAD_MAX_BYTES (64u << 10)
#define BODY_MAX_BYTES (64u << 10)
#define CONNECTIONS_KEPT 64L
#define CONNECTION_AGE_S 60L

struct post {
    struct sg_post_client *client;
    CURL *curl;
    struct curl_slist *headers;
    void *arg;
    uint64_t began_ns;
    size_t head_bytes, body_bytes;
    struct fetch_head head;
    bool refused, tried; /* an address was not allowed; one was */
    bool too_much;
    struct post *next, *prev;
};

struct sg_post_client {
    CURLM *multi;
    const struct sg_cidr_list *allow;
    struct post *posts; /* under way */
    size_t running;
};

enum sg_error sg_post_client_create(struct sg_post_client **out)
{
    struct sg_post_client *c = calloc(1, sizeof *c);
    if (c == NULL)
        return SG_ERR_NO_MEMORY;
    c->multi = curl_multi_init();
    if (c->multi == NULL ||
        curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT) != CURLM_OK) {
        sg_post_client_destroy(&c);
        return SG_ERR_NO_MEMORY;
    }
    *out = c;
    return SG_OK;
}

static void drop(struct post *p)
{
    struct sg_post_client *c = p->client;
    if (p->next != NULL)
        p->next->prev = p->prev;
    if (p->prev != NULL)
        p->prev->next = p->next;
    else
        c->posts = p->next;
    c->running--;
    (void)curl_multi_remove_handle(c->multi, p->curl);
    curl_easy_cleanup(p->curl);
    curl_slist_free_all(p->headers);
    free(p);
}

void sg_post_client_destroy(struct sg_post_client **client)
{
    struct sg_post_client *c = *client;
    if (c == NULL)
        return;
    while (c->posts != NULL)
        drop(c->posts);
    (void)curl_multi_cleanup(c->multi);
    free(c);
    *client = NULL;
}

void sg_post_allow(struct sg_post_client *c, const struct sg_cidr_list *allow)
{
    c->allow = allow;
}

/* ---- callbacks ---- */

static size_t on_header(char *line, size_t unit, size_t len, void *arg)
{
    struct post *p = arg;
    (void)unit; /* always 1 */
    p->head_bytes += len;
    if (p->head_bytes > HEAD_MAX_BYTES) {
        p->too_much = true;
        return 0;
    }
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
        p->head = (struct fetch_head){0};
    else if (len > 0 && line[0] != '\r' && line[0] != '\n')
        fetch_head_line(&p->head, line, len);
    return len;
}

static size_t on_data(char *data, size_t unit, size_t len, void *arg)
{
    struct post *p = arg;
    (void)data, (void)unit;
    p->body_bytes += len;
    p->too_much |= p->body_bytes > BODY_MAX_BYTES;
    return p->too_much ? 0 : len;
}

static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct post *p = arg;
    bool allowed;
    curl_socket_t s = fetch_open_socket(p->client->allow, purpose, to, &allowed);
    p->refused |= !allowed;
    p->tried |= allowed;
    return s;
}

/* ---- beginning ---- */

static bool set_headers(struct post *p, const struct sg_post_params *params)
{
    bool ok = true;
    for (size_t i = 0; i < params->n_headers && ok; i++) {
        struct curl_slist *longer = curl_slist_append(p->headers, params->headers[i]);
        ok = longer != NULL;
        if (ok)
            p->headers = longer;
    }
    /* No interim answer is waited for: bodies are small. */
    struct curl_slist *longer = ok ? curl_slist_append(p->headers, "Expect:") : NULL;
    if (longer != NULL)
        p->headers = longer;
    return longer != NULL;
}

static bool configure(struct post *p, const struct sg_post_params *params)
{
    CURL *c = p->curl;
    long timeout_ms = params->timeout_ms < INT32_MAX ? (long)params->timeout_ms : INT32_MAX;
    bool ok = fetch_restrict(c) && set_headers(p, params);
#define SET(option, value) (ok = curl_easy_setopt(c, option, value) == CURLE_OK && ok)
    SET(CURLOPT_URL, params->url);
    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)params->body_len);
    SET(CURLOPT_COPYPOSTFIELDS, params->body);
    SET(CURLOPT_HTTPHEADER, p->headers);
    SET(CURLOPT_TIMEOUT_MS, timeout_ms);
    SET(CURLOPT_CONNECTTIMEOUT_MS, timeout_ms);
    SET(CURLOPT_MAXAGE_CONN, CONNECTION_AGE_S);
    SET(CURLOPT_MAXLIFETIME_CONN, CONNECTION_AGE_S);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, p);
    SET(CURLOPT_WRITEFUNCTION, on_data);
    SET(CURLOPT_WRITEDATA, p);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_socket);
    SET(CURLOPT_OPENSOCKETDATA, p);
    SET(CURLOPT_PRIVATE, p);
#undef SET
    return ok;
}

enum sg_error sg_post_start(struct sg_post_client *c, const struct sg_post_params *params)
{
    const char *why;
    enum sg_error err = sg_fetch_check_url(params->url, c->allow, &why);
    if (err != SG_OK)
        return err;
    struct post *p = calloc(1, sizeof *p);
    if (p == NULL)
        return SG_ERR_NO_MEMORY;
    p->client = c;
    p->arg = params->arg;
    p->began_ns = sg_clock_mono_ns();
    p->curl = curl_easy_init();
    if (p->curl == NULL || !configure(p, params) ||
        curl_multi_add_handle(c->multi, p->curl) != CURLM_OK) {
        curl_easy_cleanup(p->curl);
        curl_slist_free_all(p->headers);
        free(p);
        return SG_ERR_NO_MEMORY;
    }
    p->next = c->posts;
    if (c->posts != NULL)
        c->posts->prev = p;
    c->posts = p;
    c->running++;
    return SG_OK;
}

/* ---- ending ---- */

static const char *reason(const struct post *p, CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return "the receiver's name could not be resolved";
    case CURLE_COULDNT_CONNECT:
        return p->refused && !p->tried ? "the receiver has an address that may not be posted to"
                                       : "no connection to the receiver could be made";
    case CURLE_OPERATION_TIMEDOUT:
        return p->tried ? "the receiver did not answer in time"
                        : "no connection to the receiver could be made in time";
    case CURLE_PEER_FAILED_VERIFICATION:
        return "the receiver's certificate is not trusted";
    case CURLE_SSL_CONNECT_ERROR:
        return "no TLS connection to the receiver could be made";
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        return "the receiver does not answer in HTTP";
    case CURLE_OUT_OF_MEMORY:
        return "the server is short of memory";
    default:
        return "the receiver broke off";
    }
}

static void settle(struct post *p, CURLcode code, struct sg_post_result *out)
{
    long status = 0;
    *out = (struct sg_post_result){.arg = p->arg,
                                   .latency_ms = (sg_clock_mono_ns() - p->began_ns) / 1000000};
    (void)curl_easy_getinfo(p->curl, CURLINFO_RESPONSE_CODE, &status);
    /* Who says much has answered all the same. */
    bool answered = status >= 200 && status < 1000 &&
                    (code == CURLE_OK || (p->too_much && code == CURLE_WRITE_ERROR));
    if (answered) {
        out->status = (unsigned)status;
        out->retry_after_ms = p->head.retry_after_ms;
        return;
    }
    sg_debug_log("post", "%s", curl_easy_strerror(code));
    (void)snprintf(out->why, sizeof out->why, "%s", reason(p, code));
}

static size_t collect(struct sg_post_client *c, struct sg_post_result *out, size_t max)
{
    size_t n = 0;
    int left;
    for (CURLMsg *m; n < max && (m = curl_multi_info_read(c->multi, &left)) != NULL;) {
        char *arg = NULL;
        if (m->msg != CURLMSG_DONE ||
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &arg) != CURLE_OK)
            continue;
        struct post *p = (void *)arg;
        settle(p, m->data.result, &out[n++]);
        drop(p);
    }
    return n;
}

size_t sg_post_wait(struct sg_post_client *c, uint64_t timeout_ms, struct sg_post_result *out,
                    size_t max)
{
    int running;
    uint64_t until_ns = sg_clock_mono_ns() + timeout_ms * 1000000;
    for (bool last = false;;) {
        (void)curl_multi_perform(c->multi, &running);
        size_t n = collect(c, out, max);
        uint64_t now_ns = sg_clock_mono_ns();
        if (n > 0 || last || now_ns >= until_ns)
            return n;
        uint64_t left_ms = (until_ns - now_ns + 999999) / 1000000;
        int fds = 0;
        CURLMcode code = curl_multi_poll(c->multi, NULL, 0,
                                         left_ms > INT32_MAX ? INT32_MAX : (int)left_ms, &fds);
        /* Without a descriptor that is ready it was a timeout, libcurl's own or ours, or a wake. */
        last = code != CURLM_OK || fds == 0;
    }
}

size_t sg_post_running(const struct sg_post_client *c)
{
    return c->running;
}

void sg_post_wake(struct sg_post_client *c)
{
    (void)curl_multi_wakeup(c->multi);
}
