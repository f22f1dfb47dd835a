/* SipHash-2-4 with a given key (Aumasson, Bernstein 2012): private to base, so tests can check the
 * published vectors. */
#ifndef SG_BASE_SIPHASH_H
#define SG_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t sg_siphash_keyed(uint64_t k0, uint64_t k1, const void *data, size_t len);

#endif
