/* IP addresses: one 16-byte form (v4 as ::ffff:a.b.c.d), CIDR lists, X-Forwarded-For. Pure, thread-safe. */
#ifndef STREAMGATE_LAYERS_ADDRESS_H
#define STREAMGATE_LAYERS_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"

struct sg_address { uint8_t b[16]; };
#define SG_ADDRESS_TEXT 46

enum sg_error sg_address_parse(const char *s, size_t len, struct sg_address *out) SG_NODISCARD; /* "1.2.3.4" "::1" "[::1]" with optional :port */
void sg_address_format(const struct sg_address *a, char out[SG_ADDRESS_TEXT]);
bool sg_address_equal(const struct sg_address *a, const struct sg_address *b);
void sg_address_limit_id(const struct sg_address *a, uint8_t out[16]); /* IPv4 whole; IPv6 cut to /64 */

struct sg_cidr_list;
enum sg_error sg_cidr_list_parse(const char *text, struct sg_cidr_list **out) SG_NODISCARD; /* comma-separated; "" is the empty list; INVALID */
void sg_cidr_list_destroy(struct sg_cidr_list **list);
bool sg_cidr_list_contains(const struct sg_cidr_list *list, const struct sg_address *a); /* NULL list: false */
/* The client behind trusted proxies: walks X-Forwarded-For from the right while hops are trusted. A malformed hop ends the walk. */
struct sg_address sg_address_client(const struct sg_address *peer, const char *forwarded_for, const struct sg_cidr_list *trusted);

#endif
