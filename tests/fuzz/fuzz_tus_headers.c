/* The header fields of tus see any text. What is accepted lies within the text, decodes within its
 * bounds, and means the same when it is written again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/http/tus_fields.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void check_pair(const struct sg_tus_pair *pair, const char *text, size_t size)
{
    CHECK(pair->key >= text && pair->key + pair->key_len <= text + size);
    CHECK(pair->encoded >= text && pair->encoded + pair->encoded_len <= text + size);
    CHECK(pair->key_len > 0 && !memchr(pair->key, ',', pair->key_len) &&
          !memchr(pair->key, ' ', pair->key_len));
    const size_t room = pair->encoded_len / 4 * 3;
    uint8_t *out = malloc(room + 1); /* exactly: one byte too many is seen by the sanitizer */
    size_t len = 0;
    if (out == NULL)
        return;
    if (sg_tus_pair_decode(pair, out, room, &len) == SG_OK) {
        CHECK(len <= room);
        char *again = malloc(pair->encoded_len + 1);
        CHECK(again != NULL);
        CHECK(sg_base64_encode(out, len, again, pair->encoded_len + 1) == pair->encoded_len);
        CHECK(memcmp(again, pair->encoded, pair->encoded_len) == 0);
        free(again);
    }
    free(out);
}

static void check_metadata(const char *text, size_t size)
{
    struct sg_tus_pair pairs[SG_TUS_PAIRS_MAX];
    unsigned n = 0;
    if (sg_tus_metadata_parse(text, pairs, &n) != SG_OK)
        return;
    CHECK(n <= SG_TUS_PAIRS_MAX);
    for (unsigned i = 0; i < n; i++) {
        check_pair(&pairs[i], text, size);
        for (unsigned k = 0; k < i; k++)
            CHECK(pairs[i].key_len != pairs[k].key_len ||
                  memcmp(pairs[i].key, pairs[k].key, pairs[i].key_len) != 0);
    }
}

static void check_number(const char *text)
{
    uint64_t n = 0;
    if (sg_tus_number_parse(text, &n) == SG_OK)
        CHECK(n <= INT64_MAX && strspn(text, "0123456789") == strlen(text));
}

static void check_checksum(const char *text)
{
    struct sg_tus_checksum c;
    if (sg_tus_checksum_parse(text, &c) != SG_OK)
        return;
    char again[SG_DIGEST_MAX * 2];
    sg_base64_encode(c.digest, sg_digest_len(c.algorithm), again, sizeof(again));
    CHECK(strcmp(strchr(text, ' ') + 1, again) == 0);
}

static void check_concat(const char *text)
{
    enum sg_tus_concat kind;
    const char *urls = NULL, *before;
    char id[SG_ULID_SIZE];
    uint8_t bytes[16];
    if (sg_tus_concat_parse(text, &kind, &urls) != SG_OK || kind != SG_TUS_FINAL)
        return;
    CHECK(*urls != '\0');
    for (before = urls; sg_tus_concat_next(&urls, "/api/v1/tus/", id) == SG_OK; before = urls) {
        CHECK(urls > before && urls <= text + strlen(text));
        CHECK(sg_ulid_parse(id, bytes) == SG_OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    check_metadata(text, strlen(text));
    check_number(text);
    check_checksum(text);
    check_concat(text);
    free(text);
    return 0;
}
