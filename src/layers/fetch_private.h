/* What every request to somebody else's server has in common, whether it fetches (fetch.c) or posts
 * (post.c): where it may connect to, and what libcurl may do. Private. */
#ifndef LAYERS_FETCH_PRIVATE_H
#define LAYERS_FETCH_PRIVATE_H

#include <curl/curl.h>
#include <stdbool.h>

#include "streamgate/layers/address.h"

/* http and https only, without redirects, proxies, netrc or signals, TLS checked. False: no memory.
 */
bool fetch_restrict(CURL *curl);
/* For CURLOPT_OPENSOCKETFUNCTION: a socket to an address that may be connected to, else
 * CURL_SOCKET_BAD. The name was resolved by then, so what is checked is what is connected to.
 * *allowed says whether it may be, also when no socket could be had. */
curl_socket_t fetch_open_socket(const struct sg_cidr_list *allow, curlsocktype purpose,
                                const struct curl_sockaddr *to, bool *allowed);

#endif
