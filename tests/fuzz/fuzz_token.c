/* Playback tokens: what parses is canonical (it encodes to the same text again), a check never
 * passes a token this process did not make, and one flipped bit of a made token never passes
 * either. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/str.h"
#include "streamgate/layers/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ASSET "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static struct sg_token_signer *signer(void)
{
    static struct sg_token_signer *s;
    if (s == NULL) {
        char path[] = "/tmp/sg-fuzz-token-XXXXXX";
        CHECK(mkdtemp(path) != NULL);
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(fd >= 0);
        CHECK(sg_token_signer_create(fd, &s) == SG_OK);
        CHECK(unlinkat(fd, "playback.key", 0) == 0 && close(fd) == 0 && rmdir(path) == 0);
    }
    return s;
}

static void parses_canonically(const char *text, size_t len)
{
    struct sg_token_fields f;
    if (sg_playback_token_parse(text, len, &f) != SG_OK)
        return;
    uint8_t raw[58] = {f.version, f.flags};
    char again[SG_PLAYBACK_TOKEN_SIZE];
    memcpy(raw + 2, f.asset, 16);
    for (unsigned i = 0; i < 8; i++)
        raw[18 + i] = (uint8_t)(f.expires_s >> (56 - 8 * i));
    memcpy(raw + 26, f.mac, 32);
    CHECK(sg_base64url_encode(raw, sizeof raw, again, sizeof again) == len);
    CHECK(memcmp(again, text, len) == 0);
}

/* The input says which bit of a genuine token is flipped. */
static void one_bit_matters(const uint8_t *data, size_t size)
{
    char token[SG_PLAYBACK_TOKEN_SIZE];
    uint8_t raw[64];
    size_t len;
    if (size < 2)
        return;
    CHECK(sg_playback_token_make(signer(), ASSET, UINT64_MAX, NULL, token) == SG_OK);
    CHECK(sg_playback_token_check(signer(), token, strlen(token), ASSET, NULL) == SG_OK);
    CHECK(sg_base64url_decode(token, strlen(token), raw, sizeof raw, &len) == SG_OK);
    size_t bit = ((size_t)data[0] << 8 | data[1]) % (len * 8);
    raw[bit / 8] ^= (uint8_t)(1u << bit % 8);
    CHECK(sg_base64url_encode(raw, len, token, sizeof token) > 0);
    CHECK(sg_playback_token_check(signer(), token, strlen(token), ASSET, NULL) ==
          SG_ERR_UNAUTHENTICATED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* An own copy without a NUL: a read past the end shows. */
    char *text = malloc(size > 0 ? size : 1);
    if (text == NULL)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    parses_canonically(text, size);
    CHECK(sg_playback_token_check(signer(), text, size, ASSET, NULL) == SG_ERR_UNAUTHENTICATED);
    one_bit_matters(data, size);
    free(text);
    return 0;
}
