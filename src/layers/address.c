/* Addresses in one 16-byte form, CIDR lists and X-Forwarded-For. IPv4 lives as ::ffff:a.b.c.d, so
 * an IPv4 prefix of n bits is a prefix of 96 + n; an IPv6 block shorter than 96 bits never matches
 * an IPv4 address, or "::/0" would trust the whole IPv4 internet too. */
#include "streamgate/layers/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"

enum { V4_PREFIX_BITS = 96, ADDRESS_BITS = 128, PORT_MAX = 65535 };

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct cidr {
    struct sg_address base;
    unsigned bits; /* of the 16-byte form */
};

struct sg_cidr_list {
    size_t n;
    struct cidr blocks[];
};

static bool is_v4(const struct sg_address *a)
{
    return memcmp(a->b, v4_prefix, sizeof v4_prefix) == 0;
}

/* A bare address, no port and no brackets. */
static bool parse_bare(const char *s, size_t len, struct sg_address *out)
{
    char text[SG_ADDRESS_TEXT];
    if (len == 0 || len >= sizeof text || memchr(s, '\0', len) != NULL)
        return false;
    memcpy(text, s, len);
    text[len] = '\0';
    struct sg_address a;
    if (memchr(s, ':', len) != NULL) {
        if (inet_pton(AF_INET6, text, a.b) != 1)
            return false;
    } else {
        memcpy(a.b, v4_prefix, sizeof v4_prefix);
        if (inet_pton(AF_INET, text, a.b + sizeof v4_prefix) != 1)
            return false;
    }
    *out = a;
    return true;
}

static bool is_port(const char *s, size_t len)
{
    uint64_t port;
    return sg_str_to_u64(s, len, PORT_MAX, &port) == SG_OK;
}

enum sg_error sg_address_parse(const char *s, size_t len, struct sg_address *out)
{
    if (len > 0 && s[0] == '[') {
        const char *close = memchr(s, ']', len);
        if (close == NULL)
            return SG_ERR_INVALID;
        size_t inner = (size_t)(close - s) - 1;
        size_t rest = len - inner - 2;
        if (memchr(s + 1, ':', inner) == NULL) /* brackets are for IPv6 alone (RFC 3986) */
            return SG_ERR_INVALID;
        if (rest > 0 && (close[1] != ':' || !is_port(close + 2, rest - 1)))
            return SG_ERR_INVALID;
        return parse_bare(s + 1, inner, out) ? SG_OK : SG_ERR_INVALID;
    }
    const char *colon = len > 0 ? memchr(s, ':', len) : NULL;
    size_t host = len;
    if (colon != NULL && memchr(colon + 1, ':', len - (size_t)(colon - s) - 1) == NULL) {
        host = (size_t)(colon - s); /* one colon: IPv4 and a port */
        if (!is_port(colon + 1, len - host - 1))
            return SG_ERR_INVALID;
    }
    return parse_bare(s, host, out) ? SG_OK : SG_ERR_INVALID;
}

void sg_address_format(const struct sg_address *a, char out[SG_ADDRESS_TEXT])
{
    const char *made = is_v4(a) ? inet_ntop(AF_INET, a->b + sizeof v4_prefix, out, SG_ADDRESS_TEXT)
                                : inet_ntop(AF_INET6, a->b, out, SG_ADDRESS_TEXT);
    if (made == NULL)
        out[0] = '\0';
}

bool sg_address_equal(const struct sg_address *a, const struct sg_address *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

void sg_address_limit_id(const struct sg_address *a, uint8_t out[16])
{
    memcpy(out, a->b, 16);
    if (!is_v4(a))
        memset(out + 8, 0, 8);
}

static void trim(const char **s, size_t *len)
{
    while (*len > 0 && (**s == ' ' || **s == '\t')) {
        (*s)++;
        (*len)--;
    }
    while (*len > 0 && ((*s)[*len - 1] == ' ' || (*s)[*len - 1] == '\t'))
        (*len)--;
}

static void mask(struct sg_address *a, unsigned bits)
{
    for (unsigned i = 0; i < 16; i++) {
        unsigned kept = bits > i * 8 ? bits - i * 8 : 0;
        if (kept < 8)
            a->b[i] &= (uint8_t)(0xff00u >> kept);
    }
}

static bool parse_cidr(const char *s, size_t len, struct cidr *out)
{
    trim(&s, &len);
    const char *slash = len > 0 ? memchr(s, '/', len) : NULL;
    size_t host = slash != NULL ? (size_t)(slash - s) : len;
    struct cidr c = {.bits = ADDRESS_BITS};
    if (!parse_bare(s, host, &c.base))
        return false;
    if (slash != NULL) {
        unsigned skip = memchr(s, ':', host) == NULL ? V4_PREFIX_BITS : 0;
        uint64_t bits;
        if (sg_str_to_u64(slash + 1, len - host - 1, ADDRESS_BITS - skip, &bits) != SG_OK)
            return false;
        c.bits = (unsigned)bits + skip;
    }
    mask(&c.base, c.bits);
    *out = c;
    return true;
}

enum sg_error sg_cidr_list_parse(const char *text, struct sg_cidr_list **out)
{
    size_t most = 1;
    for (const char *p = text; *p != '\0'; p++)
        most += *p == ',';
    struct sg_cidr_list *list = calloc(1, sizeof *list + most * sizeof list->blocks[0]);
    if (list == NULL)
        return SG_ERR_NO_MEMORY;
    const char *whole = text;
    size_t whole_len = strlen(text);
    trim(&whole, &whole_len);
    if (whole_len == 0) {
        *out = list;
        return SG_OK;
    }
    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ",");
        if (!parse_cidr(at, len, &list->blocks[list->n])) {
            free(list);
            return SG_ERR_INVALID;
        }
        list->n++;
        at += len;
        if (*at == '\0')
            break;
    }
    *out = list;
    return SG_OK;
}

void sg_cidr_list_destroy(struct sg_cidr_list **list)
{
    if (list == NULL)
        return;
    free(*list);
    *list = NULL;
}

static bool block_contains(const struct cidr *c, const struct sg_address *a)
{
    if (c->bits < V4_PREFIX_BITS && is_v4(a))
        return false;
    struct sg_address masked = *a;
    mask(&masked, c->bits);
    return sg_address_equal(&masked, &c->base);
}

bool sg_cidr_list_contains(const struct sg_cidr_list *list, const struct sg_address *a)
{
    if (list == NULL)
        return false;
    for (size_t i = 0; i < list->n; i++)
        if (block_contains(&list->blocks[i], a))
            return true;
    return false;
}

struct sg_address sg_address_client(const struct sg_address *peer, const char *forwarded_for,
                                    const struct sg_cidr_list *trusted)
{
    struct sg_address client = *peer;
    size_t end = forwarded_for != NULL ? strlen(forwarded_for) : 0;
    bool more = end > 0;
    while (more && sg_cidr_list_contains(trusted, &client)) {
        size_t start = end;
        while (start > 0 && forwarded_for[start - 1] != ',')
            start--;
        const char *hop = forwarded_for + start;
        size_t len = end - start;
        trim(&hop, &len);
        /* What stands left of a hop we cannot read was written by nobody we trust. */
        if (sg_address_parse(hop, len, &client) != SG_OK)
            break;
        more = start > 0;
        end = more ? start - 1 : 0;
    }
    return client;
}
