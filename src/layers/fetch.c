/* The fetch, on libcurl. Redirects are followed here, not by libcurl, so that each one is checked
 * as the first URL was; the address of every connection is checked when its socket is made, after
 * the name was resolved, so what was checked is what is connected to. Callbacks note why they end a
 * transfer in struct fetch; libcurl's own code counts only when they noted nothing. */
#include "streamgate/layers/fetch.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/log.h"
#include "streamgate/base/validate.h"

#include "fetch_head.h"
#include "fetch_private.h"

#define HEAD_MAX_BYTES (64u << 10) /* of all answers' headers together, interim ones included */
#define BUFFER_BYTES (256L << 10)  /* larger pieces, fewer calls */

enum next { NEXT_END, NEXT_FOLLOW, NEXT_FROM_START };

struct fetch {
    const struct sg_fetch_params *p;
    struct sg_fetch_result *r;
    CURL *curl;
    char *url; /* malloc'ed */
    bool ranged;
    uint64_t deadline_ns;
    bool refused, tried; /* an address was not allowed; one was */

    size_t head_bytes;
    struct fetch_head head;
    bool answered; /* begin has run */
    bool has_size;
    uint64_t position, size;

    enum next next;
    enum sg_error err; /* why a callback ended it */
};

enum sg_error sg_fetch_init(void)
{
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? SG_OK : SG_ERR_UNAVAILABLE;
}

void sg_fetch_end(void)
{
    curl_global_cleanup();
}

/* ---- URLs ---- */

static const char bad_url[] = "must be an absolute http or https URL without user name, at most "
                              "2,048 bytes";
static const char bad_address[] = "names an address that may not be fetched from";

/* The URL in curl's normal form, in which any notation of an IPv4 address is the usual one. */
static enum sg_error check_parsed(CURLU *u, const struct sg_cidr_list *allow, char **out,
                                  const char **why)
{
    char *url = NULL, *host = NULL;
    struct sg_address a;
    enum sg_error err = SG_ERR_INVALID;
    *why = bad_url;
    if (curl_url_get(u, CURLUPART_URL, &url, 0) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
        sg_validate_http_url(url, strlen(url)) != NULL)
        goto out;
    err = SG_OK;
    if (sg_address_parse(host, strlen(host), &a) == SG_OK && !sg_fetch_address_allowed(&a, allow)) {
        *why = bad_address;
        err = SG_ERR_FORBIDDEN;
    } else if (out != NULL && (*out = strdup(url)) == NULL) {
        err = SG_ERR_NO_MEMORY;
    }
out:
    curl_free(url);
    curl_free(host);
    return err;
}

enum sg_error sg_fetch_check_url(const char *url, const struct sg_cidr_list *allow,
                                 const char **why)
{
    *why = bad_url;
    if (sg_validate_http_url(url, strlen(url)) != NULL)
        return SG_ERR_INVALID;
    CURLU *u = curl_url();
    if (u == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = SG_ERR_INVALID;
    if (curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK)
        err = check_parsed(u, allow, NULL, why);
    curl_url_cleanup(u);
    return err;
}

/* f->url moves on to where the answer points. */
static enum sg_error follow(struct fetch *f, const char **why)
{
    char *url = NULL;
    enum sg_error err = SG_ERR_INVALID;
    CURLU *u = curl_url();
    if (u == NULL)
        return SG_ERR_NO_MEMORY;
    *why = bad_url;
    if (curl_url_set(u, CURLUPART_URL, f->url, 0) == CURLUE_OK &&
        curl_url_set(u, CURLUPART_URL, f->head.location, CURLU_DISALLOW_USER | CURLU_URLENCODE) ==
            CURLUE_OK)
        err = check_parsed(u, f->p->allow, &url, why);
    curl_url_cleanup(u);
    if (err != SG_OK)
        return err;
    free(f->url);
    f->url = url;
    return SG_OK;
}

/* ---- the answer ---- */

static enum sg_error fail(struct fetch *f, enum sg_error err, bool transient, const char *why)
{
    f->err = err;
    f->r->transient = transient;
    snprintf(f->r->why, sizeof f->r->why, "%s", why);
    return err;
}

static enum sg_error fail_status(struct fetch *f, long status)
{
    bool transient = status >= 500 || status == 408 || status == 425 || status == 429;
    f->r->retry_after_ms = f->head.retry_after_ms;
    char why[64];
    snprintf(why, sizeof why, "the source answered with HTTP status %ld", status);
    return fail(f, SG_ERR_FETCH, transient, why);
}

static enum sg_error too_large(struct fetch *f)
{
    char why[96];
    snprintf(why, sizeof why, "the source is larger than %llu bytes",
             (unsigned long long)f->p->max_bytes);
    return fail(f, SG_ERR_TOO_LARGE, false, why);
}

static bool is_redirect(long status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Whether a 206 is the rest that was asked for, of the same thing. */
static bool continues(const struct fetch *f)
{
    const struct fetch_head *h = &f->head;
    if (!h->has_range || h->range_first != f->p->offset)
        return false;
    return f->p->validator[0] != '"' || h->etag[0] == '\0' || strcmp(h->etag, f->p->validator) == 0;
}

static enum sg_error accept_body(struct fetch *f, uint64_t offset)
{
    const struct fetch_head *h = &f->head;
    f->position = offset;
    f->has_size = offset > 0 ? h->has_total : h->has_length && !h->transfer_encoded;
    f->size = offset > 0 ? h->range_total : h->length;
    if (f->has_size && f->size > f->p->max_bytes)
        return too_large(f);
    char name[SG_FETCH_NAME_SIZE] = "";
    if (sg_fetch_name_from_disposition(h->disposition, name) != SG_OK)
        name[0] = '\0';
    const char *validator = fetch_head_validator(h);
    const struct sg_fetch_source source = {
        .offset = offset,
        .has_size = f->has_size,
        .size_bytes = f->has_size ? f->size : 0,
        /* A 206 need not repeat it (RFC 9110, 15.3.7). */
        .validator = validator[0] == '\0' && offset > 0 ? f->p->validator : validator,
        .filename = name,
    };
    enum sg_error err = f->p->begin(f->p->arg, &source);
    if (err != SG_OK) {
        f->r->by_caller = true;
        return fail(f, err, false, "");
    }
    f->answered = true;
    return SG_OK;
}

/* The header is complete. Anything but SG_OK ends this transfer; f->next says what comes then. */
static enum sg_error decide(struct fetch *f, long status)
{
    if (is_redirect(status) && (f->head.location[0] != '\0' || f->head.location_too_long)) {
        if (f->head.location_too_long)
            return fail(f, SG_ERR_FETCH, false, "the source redirects to a URL that is too long");
        f->next = NEXT_FOLLOW;
        return SG_ERR_PENDING;
    }
    if (f->head.bad_length)
        return fail(f, SG_ERR_FETCH, false, "the source does not say readably how long it is");
    if (status == 200)
        return accept_body(f, 0);
    if (f->ranged && status == 206 && continues(f))
        return accept_body(f, f->p->offset);
    if (f->ranged && (status == 206 || status == 416)) {
        f->next = NEXT_FROM_START;
        return SG_ERR_PENDING;
    }
    return fail_status(f, status);
}

static size_t on_header(char *line, size_t unit, size_t len, void *arg)
{
    struct fetch *f = arg;
    (void)unit; /* always 1 */
    f->head_bytes += len;
    if (f->head_bytes > HEAD_MAX_BYTES) {
        (void)fail(f, SG_ERR_FETCH, false, "the source's answer has too large a header");
        return 0;
    }
    if (f->answered)
        return len; /* trailers */
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        f->head = (struct fetch_head){0};
        return len;
    }
    if (len > 0 && line[0] != '\r' && line[0] != '\n') {
        fetch_head_line(&f->head, line, len);
        return len;
    }
    long status = 0;
    (void)curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200)
        return len; /* interim */
    return decide(f, status) == SG_OK ? len : 0;
}

static size_t on_data(char *data, size_t unit, size_t len, void *arg)
{
    struct fetch *f = arg;
    (void)unit; /* always 1 */
    if (len > f->p->max_bytes - f->position) {
        (void)too_large(f);
        return 0;
    }
    if (f->has_size && len > f->size - f->position) {
        (void)fail(f, SG_ERR_FETCH, true, "the source sent more than it had announced");
        return 0;
    }
    enum sg_error err = f->p->data(f->p->arg, data, len);
    if (err != SG_OK) {
        f->r->by_caller = true;
        (void)fail(f, err, false, "");
        return 0;
    }
    f->position += len;
    return len;
}

static int on_progress(void *arg, curl_off_t to_get, curl_off_t got, curl_off_t to_send,
                       curl_off_t sent)
{
    struct fetch *f = arg;
    (void)to_get, (void)got, (void)to_send, (void)sent;
    if (!f->p->stop(f->p->arg))
        return 0;
    (void)fail(f, SG_ERR_CANCELLED, true, "it was stopped");
    return 1;
}

/* ---- connections ---- */

static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *c)
{
    struct fetch *f = arg;
    bool allowed;
    curl_socket_t s = fetch_open_socket(f->p->allow, purpose, c, &allowed);
    f->refused |= !allowed;
    f->tried |= allowed;
    return s;
}

/* ---- one transfer ---- */

static long left_ms(const struct fetch *f)
{
    uint64_t now = sg_clock_mono_ns();
    uint64_t left = now < f->deadline_ns ? (f->deadline_ns - now) / 1000000 : 0;
    return left > 0 ? (long)left : 1; /* 0 would be no limit to libcurl */
}

static long at_most(uint64_t ms, long bound)
{
    return ms < (uint64_t)bound ? (long)ms : bound;
}

/* What is the same for every transfer. */
static bool configure(struct fetch *f)
{
    CURL *c = f->curl;
    const struct sg_fetch_params *p = f->p;
    bool ok = fetch_restrict(c);
#define SET(option, value) (ok = curl_easy_setopt(c, option, value) == CURLE_OK && ok)
    SET(CURLOPT_DNS_CACHE_TIMEOUT, -1L); /* a name keeps its addresses for as long as this takes */
    SET(CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    SET(CURLOPT_LOW_SPEED_LIMIT, (long)SG_FETCH_STALL_BYTES_PER_S);
    SET(CURLOPT_LOW_SPEED_TIME, at_most((p->stall_timeout_ms + 999) / 1000, INT32_MAX));
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, f);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, f);
    SET(CURLOPT_WRITEFUNCTION, on_data);
    SET(CURLOPT_WRITEDATA, f);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_socket);
    SET(CURLOPT_OPENSOCKETDATA, f);
#undef SET
    return ok;
}

static bool add_header(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer != NULL)
        *list = longer;
    return longer != NULL;
}

static bool request_headers(const struct fetch *f, struct curl_slist **list)
{
    char range[48], if_range[320];
    if (!add_header(list, "Accept-Encoding: identity"))
        return false;
    if (!f->ranged)
        return true;
    snprintf(range, sizeof range, "Range: bytes=%llu-", (unsigned long long)f->p->offset);
    snprintf(if_range, sizeof if_range, "If-Range: %s", f->p->validator);
    return add_header(list, range) && add_header(list, if_range);
}

static CURLcode transfer(struct fetch *f)
{
    struct curl_slist *headers = NULL;
    CURLcode code = CURLE_OUT_OF_MEMORY;
    f->next = NEXT_END;
    f->head = (struct fetch_head){0};
    long left = left_ms(f);
    if (request_headers(f, &headers) &&
        curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, headers) == CURLE_OK &&
        curl_easy_setopt(f->curl, CURLOPT_URL, f->url) == CURLE_OK &&
        curl_easy_setopt(f->curl, CURLOPT_TIMEOUT_MS, left) == CURLE_OK &&
        curl_easy_setopt(f->curl, CURLOPT_CONNECTTIMEOUT_MS,
                         at_most(f->p->connect_timeout_ms, left)) == CURLE_OK)
        code = curl_easy_perform(f->curl);
    (void)curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    return code;
}

/* ---- the end of one ---- */

static enum sg_error timed_out(struct fetch *f)
{
    if (sg_clock_mono_ns() + 1000000 >= f->deadline_ns)
        return fail(f, SG_ERR_FETCH, false, "the fetch took longer than it may");
    return fail(f, SG_ERR_FETCH, true,
                f->tried ? "the source timed out" : "connecting to the source timed out");
}

static enum sg_error fail_code(struct fetch *f, CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return fail(f, SG_ERR_FETCH, true, "the source's name could not be resolved");
    case CURLE_COULDNT_CONNECT:
        if (f->refused && !f->tried)
            return fail(f, SG_ERR_FORBIDDEN, false,
                        "the source has an address that may not be fetched from");
        return fail(f, SG_ERR_FETCH, true, "no connection to the source could be made");
    case CURLE_OPERATION_TIMEDOUT:
        return timed_out(f);
    case CURLE_PEER_FAILED_VERIFICATION:
        return fail(f, SG_ERR_FETCH, false, "the source's certificate is not trusted");
    case CURLE_SSL_CONNECT_ERROR:
        return fail(f, SG_ERR_FETCH, true, "no TLS connection to the source could be made");
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        return fail(f, SG_ERR_FETCH, false, "the source does not answer in HTTP");
    case CURLE_OUT_OF_MEMORY:
        return fail(f, SG_ERR_NO_MEMORY, true, "the server is short of memory");
    default:
        return fail(f, SG_ERR_FETCH, true, "the source broke off");
    }
}

static enum sg_error settle(struct fetch *f, CURLcode code)
{
    if (f->err != SG_OK)
        return f->err;
    if (code != CURLE_OK) {
        sg_debug_log("fetch", "%s", curl_easy_strerror(code));
        return fail_code(f, code);
    }
    if (!f->answered)
        return fail(f, SG_ERR_FETCH, false, "the source does not answer in HTTP");
    if (f->has_size && f->position < f->size)
        return fail(f, SG_ERR_FETCH, true, "the source sent less than it had announced");
    return SG_OK;
}

static enum sg_error fail_redirect(struct fetch *f, enum sg_error err, const char *why)
{
    if (err == SG_ERR_NO_MEMORY)
        return fail(f, err, true, "the server is short of memory");
    char text[160];
    snprintf(text, sizeof text, "the source redirects to a URL that %s", why);
    return fail(f, err == SG_ERR_FORBIDDEN ? err : SG_ERR_FETCH, false, text);
}

static enum sg_error run(struct fetch *f)
{
    unsigned redirects = 0;
    for (;;) {
        CURLcode code = transfer(f);
        if (f->err != SG_OK || f->next == NEXT_END)
            return settle(f, code);
        if (f->next == NEXT_FROM_START) {
            f->ranged = false; /* so this happens once */
            continue;
        }
        if (redirects++ == f->p->max_redirects)
            return fail(f, SG_ERR_FETCH, false, "the source redirects too often");
        const char *why;
        enum sg_error err = follow(f, &why);
        if (err != SG_OK)
            return fail_redirect(f, err, why);
        f->refused = f->tried = false;
    }
}

enum sg_error sg_fetch(const struct sg_fetch_params *params, struct sg_fetch_result *result)
{
    *result = (struct sg_fetch_result){0};
    struct fetch f = {.p = params, .r = result};
    f.ranged = params->offset > 0 && params->validator[0] != '\0';
    f.deadline_ns = sg_clock_mono_ns() + params->timeout_ms * 1000000;
    const char *why;
    enum sg_error err = sg_fetch_check_url(params->url, params->allow, &why);
    if (err != SG_OK) {
        char text[160];
        snprintf(text, sizeof text, "the URL %s", why);
        return fail(&f, err, err == SG_ERR_NO_MEMORY, text);
    }
    f.url = strdup(params->url);
    f.curl = curl_easy_init();
    if (f.url == NULL || f.curl == NULL || !configure(&f))
        err = fail(&f, SG_ERR_NO_MEMORY, true, "the server is short of memory");
    else
        err = run(&f);
    curl_easy_cleanup(f.curl);
    free(f.url);
    return err;
}
