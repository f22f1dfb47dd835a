/* Content-Digest (RFC 9530): only sha-256 is understood; other algorithms are ignored, as the RFC allows. Pure. */
#ifndef STREAMGATE_HTTP_DIGEST_FIELD_H
#define STREAMGATE_HTTP_DIGEST_FIELD_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/crypto.h"
#include "streamgate/base/error.h"

/* value NULL: SG_OK, *present false. "sha-256=:<base64>:" among dictionary members. INVALID when malformed. */
enum sg_error sg_content_digest_parse(const char *value, bool *present, uint8_t sha256[SG_SHA256_LEN]) SG_NODISCARD;
/* Writes "sha-256=:...:" */
#define SG_CONTENT_DIGEST_SIZE 64
void sg_content_digest_format(const uint8_t sha256[SG_SHA256_LEN], char out[SG_CONTENT_DIGEST_SIZE]);

#endif
