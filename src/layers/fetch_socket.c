/* Where requests to others' servers may go. */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "streamgate/layers/fetch.h"

#include "fetch_private.h"

bool fetch_restrict(CURL *c)
{
    bool ok = true;
#define SET(option, value) (ok = curl_easy_setopt(c, option, value) == CURLE_OK && ok)
    SET(CURLOPT_NOSIGNAL, 1L);
    /* An abort need not wait for a name server. */
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_HTTP09_ALLOWED, 0L);
    SET(CURLOPT_HTTP_CONTENT_DECODING, 0L);
    SET(CURLOPT_PROXY, ""); /* the environment's would connect for us, unchecked */
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_USERAGENT, "StreamGate/" SG_VERSION);
#undef SET
    return ok;
}

static bool read_address(const struct curl_sockaddr *c, struct sg_address *out)
{
    if (c->family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, &c->addr, sizeof in);
        *out = (struct sg_address){.b = {[10] = 0xff, [11] = 0xff}};
        memcpy(out->b + 12, &in.sin_addr, 4);
        return true;
    }
    if (c->family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, (const void *)&c->addr, sizeof in6);
        memcpy(out->b, &in6.sin6_addr, 16);
        return true;
    }
    return false;
}

curl_socket_t fetch_open_socket(const struct sg_cidr_list *allow, curlsocktype purpose,
                                const struct curl_sockaddr *to, bool *allowed)
{
    struct sg_address a;
    *allowed = purpose == CURLSOCKTYPE_IPCXN && read_address(to, &a) &&
               sg_fetch_address_allowed(&a, allow);
    return *allowed ? socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol)
                    : CURL_SOCKET_BAD;
}
