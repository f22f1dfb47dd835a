/* A direct-mapped table of whole token texts, found by their tail (part of the MAC, so as good as
 * random).
 *
 * Each slot is a sequence lock over words: odd while written. All words are read with acquire and
 * written with release, which orders them against the sequence without fences. A torn or foreign
 * slot is only a miss. */
#include "token_memo.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/crypto.h"

#define SLOT_BITS 12
#define SLOTS (1u << SLOT_BITS)
#define TEXT_WORDS 10 /* 78 bytes and two zeros */
#define CLAIM_WORDS 5
#define WORDS (TEXT_WORDS + CLAIM_WORDS)

_Static_assert(sizeof(struct sg_token_claim) == CLAIM_WORDS * 8, "a claim is whole words");

struct slot {
    _Atomic uint64_t sequence; /* 0: never written */
    _Atomic uint64_t words[WORDS];
} __attribute__((aligned(128)));

struct sg_token_memo {
    struct slot slots[SLOTS];
};

enum sg_error sg_token_memo_create(struct sg_token_memo **out)
{
    struct sg_token_memo *m = aligned_alloc(128, sizeof *m);
    if (m == NULL)
        return SG_ERR_NO_MEMORY;
    memset(m, 0, sizeof *m);
    *out = m;
    return SG_OK;
}

void sg_token_memo_destroy(struct sg_token_memo **m)
{
    if (m == NULL || *m == NULL)
        return;
    sg_wipe(*m, sizeof **m);
    free(*m);
    *m = NULL;
}

static struct slot *slot_of(struct sg_token_memo *m, const uint64_t text[TEXT_WORDS])
{
    return &m->slots[(text[TEXT_WORDS - 2] * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - SLOT_BITS)];
}

bool sg_token_memo_get(struct sg_token_memo *m, const char text[SG_TOKEN_TEXT_LEN],
                       struct sg_token_claim *out)
{
    uint64_t want[TEXT_WORDS] = {0};
    uint64_t claim[CLAIM_WORDS];
    memcpy(want, text, SG_TOKEN_TEXT_LEN);
    struct slot *s = slot_of(m, want);
    uint64_t before = atomic_load_explicit(&s->sequence, memory_order_acquire);
    if (before == 0 || before % 2 != 0)
        return false;
    uint64_t differ = 0;
    for (unsigned i = 0; i < TEXT_WORDS; i++)
        differ |= want[i] ^ atomic_load_explicit(&s->words[i], memory_order_acquire);
    for (unsigned i = 0; i < CLAIM_WORDS; i++)
        claim[i] = atomic_load_explicit(&s->words[TEXT_WORDS + i], memory_order_acquire);
    if (differ != 0 || atomic_load_explicit(&s->sequence, memory_order_relaxed) != before)
        return false;
    memcpy(out, claim, sizeof claim);
    return true;
}

void sg_token_memo_put(struct sg_token_memo *m, const char text[SG_TOKEN_TEXT_LEN],
                       const struct sg_token_claim *claim)
{
    uint64_t words[WORDS] = {0};
    memcpy(words, text, SG_TOKEN_TEXT_LEN);
    memcpy(words + TEXT_WORDS, claim, sizeof *claim);
    struct slot *s = slot_of(m, words);
    uint64_t before = atomic_load_explicit(&s->sequence, memory_order_relaxed);
    /* Somebody else is writing: one of the two will do. */
    if (before % 2 != 0 ||
        !atomic_compare_exchange_strong_explicit(&s->sequence, &before, before + 1,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return;
    for (unsigned i = 0; i < WORDS; i++)
        atomic_store_explicit(&s->words[i], words[i], memory_order_release);
    atomic_store_explicit(&s->sequence, before + 2, memory_order_release);
}
