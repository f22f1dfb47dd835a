/* Which addresses a fetch may connect to. Closed by default: of IPv6 only global unicast is taken
 * at all. */
#include <string.h>

#include "streamgate/layers/fetch.h"

struct block {
    uint8_t base[16];
    unsigned bits;
};

/* IANA's special-purpose registry, multicast and the reserved rest. */
static const struct block special_v4[] = {
    {{0}, 8},             /* this network */
    {{10}, 8},            /* private */
    {{100, 64}, 10},      /* shared, carrier-grade NAT */
    {{127}, 8},           /* loopback */
    {{169, 254}, 16},     /* link-local, cloud metadata */
    {{172, 16}, 12},      /* private */
    {{192, 0, 0}, 24},    /* protocol assignments */
    {{192, 0, 2}, 24},    /* documentation */
    {{192, 88, 99}, 24},  /* 6to4 relays */
    {{192, 168}, 16},     /* private */
    {{198, 18}, 15},      /* benchmarks */
    {{198, 51, 100}, 24}, /* documentation */
    {{203, 0, 113}, 24},  /* documentation */
    {{224}, 4},           /* multicast */
    {{240}, 4},           /* reserved, broadcast */
};

static const struct block global_v6 = {{0x20}, 3};
/* Within it. */
static const struct block special_v6[] = {
    {{0x20, 0x01}, 23},             /* protocol assignments: Teredo, ORCHID... */
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {{0x3f, 0xff}, 20},             /* documentation */
};

/* Where an IPv6 address carries an IPv4 one. */
static const struct {
    struct block block;
    size_t at;
} carriers[] = {
    {{{[10] = 0xff, [11] = 0xff}, 96}, 12}, /* mapped: how IPv4 is written here */
    {{{0, 0x64, 0xff, 0x9b}, 96}, 12},      /* NAT64 */
    {{{0x20, 0x02}, 16}, 2},                /* 6to4 */
};

static bool within(const uint8_t *a, const struct block *b)
{
    size_t whole = b->bits / 8;
    unsigned rest = b->bits % 8;
    if (memcmp(a, b->base, whole) != 0)
        return false;
    return rest == 0 || ((a[whole] ^ b->base[whole]) & (0xffu << (8 - rest)) & 0xffu) == 0;
}

static bool within_any(const uint8_t *a, const struct block *blocks, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (within(a, &blocks[i]))
            return true;
    return false;
}

bool sg_fetch_address_allowed(const struct sg_address *a, const struct sg_cidr_list *allow)
{
    if (sg_cidr_list_contains(allow, a))
        return true;
    for (size_t i = 0; i < SG_ARRAY_LEN(carriers); i++)
        if (within(a->b, &carriers[i].block))
            return !within_any(a->b + carriers[i].at, special_v4, SG_ARRAY_LEN(special_v4));
    return within(a->b, &global_v6) && !within_any(a->b, special_v6, SG_ARRAY_LEN(special_v6));
}
