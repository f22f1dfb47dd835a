/* The HTTP server: libmicrohttpd below, the pipeline above. */
#ifndef STREAMGATE_SERVER_SERVER_H
#define STREAMGATE_SERVER_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "streamgate/http/route.h"
#include "streamgate/http/services.h"

/* THE list of modules (modules.c). */
extern const struct sg_module *const sg_modules[];
extern const size_t sg_module_count;

struct sg_server;
/* Binds and starts serving with svc->routes. Errors: CONFIG (bad listen address), UNAVAILABLE (cannot bind; logged), NO_MEMORY. */
enum sg_error sg_server_start(struct sg_services *svc, struct sg_server **out) SG_NODISCARD;
uint16_t sg_server_port(const struct sg_server *s); /* the true one when the configured port is 0 */
void sg_server_configure(struct sg_server *s); /* SIGHUP: timeouts and rates from svc's config */
/* Stops accepting, lets requests in flight finish for up to drain_ms, then drops the rest, and returns when no callback runs any more. */
void sg_server_stop(struct sg_server **s, uint64_t drain_ms);

#endif
