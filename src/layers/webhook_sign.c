/* Signatures by the Standard Webhooks specification, and the secrets they are made with. A secret
 * is HMAC-SHA256 under the key of the data directory over the hook's id and the generation: nothing
 * to store, nothing in a copy of the database, and a new one whenever the generation moves. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "streamgate/base/str.h"

#include "webhooks_private.h"

#define PREFIX "whsec_"
#define PREFIX_LEN (sizeof PREFIX - 1)
#define KEY_MAX 64

enum sg_error sg_webhooks_secret(const struct sg_webhooks *w, const char *hook_id,
                                 uint32_t generation, char out[SG_WEBHOOK_SECRET_SIZE])
{
    char text[64];
    uint8_t secret[SG_SHA256_LEN];
    int n = snprintf(text, sizeof text, "webhook-secret.%s.%" PRIu32, hook_id, generation);
    if (n < 0 || (size_t)n >= sizeof text)
        return SG_ERR_INVALID;
    enum sg_error err = sg_hmac(w->key, text, (size_t)n, secret);
    if (err == SG_OK) {
        memcpy(out, PREFIX, PREFIX_LEN);
        (void)sg_base64_encode(secret, sizeof secret, out + PREFIX_LEN,
                               SG_WEBHOOK_SECRET_SIZE - PREFIX_LEN);
    }
    sg_wipe(secret, sizeof secret);
    return err;
}

static enum sg_error open_key(const char *secret, struct sg_hmac_key **out)
{
    uint8_t raw[KEY_MAX];
    size_t len = 0;
    if (!sg_str_starts(secret, PREFIX) ||
        sg_base64_decode(secret + PREFIX_LEN, strlen(secret) - PREFIX_LEN, raw, sizeof raw, &len) !=
            SG_OK ||
        len == 0)
        return SG_ERR_INVALID;
    enum sg_error err = sg_hmac_key_create(raw, len, out);
    sg_wipe(raw, sizeof raw);
    return err;
}

enum sg_error sg_webhook_sign(const char *secret, const struct sg_webhook_message *m,
                              char out[SG_WEBHOOK_SIGNATURE_SIZE])
{
    struct sg_hmac_key *key = NULL;
    struct sg_text text = {0};
    uint8_t mac[SG_SHA256_LEN];
    enum sg_error err = open_key(secret, &key);
    if (err != SG_OK)
        return err;
    sg_text_printf(&text, "%s.%" PRIu64 ".", m->id, m->timestamp_s);
    sg_text_append(&text, m->body, m->body_len);
    err = text.failed ? SG_ERR_NO_MEMORY : sg_hmac(key, text.ptr, text.len, mac);
    if (err == SG_OK) {
        memcpy(out, "v1,", 3);
        (void)sg_base64_encode(mac, sizeof mac, out + 3, SG_WEBHOOK_SIGNATURE_SIZE - 3);
    }
    sg_text_free(&text);
    sg_hmac_key_destroy(&key);
    return err;
}
