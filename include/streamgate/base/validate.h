/* Validation of outside values in one place. Each answers NULL when the value is good, else a static sentence that
 * names the rule, fit for a problem detail ("must be 1 to 200 characters of UTF-8 without control characters"). Pure, thread-safe. */
#ifndef STREAMGATE_BASE_VALIDATE_H
#define STREAMGATE_BASE_VALIDATE_H

#include <stddef.h>
#include <stdint.h>

/* One path component a person named: 1 to 255 bytes of UTF-8, no '/', '\\', control characters, not "." or ".."; no leading or trailing space. */
const char *sg_validate_filename(const char *s, size_t len);
const char *sg_validate_title(const char *s, size_t len);        /* 0 to 200 characters */
const char *sg_validate_description(const char *s, size_t len);  /* 0 to 5,000 characters; \n and \t allowed */
const char *sg_validate_tag(const char *s, size_t len);          /* 1 to 64 characters, no comma */
const char *sg_validate_name(const char *s, size_t len);         /* key and user names: 1 to 64 of [A-Za-z0-9._@-] */
const char *sg_validate_ulid(const char *s, size_t len);
const char *sg_validate_email(const char *s, size_t len);        /* one @, dot-atom local part, dns domain; 254 bytes */
const char *sg_validate_eth_address(const char *s, size_t len);  /* 0x + 40 hex digits (checksum is auth's concern until Keccak is there) */
const char *sg_validate_sha256_hex(const char *s, size_t len);
const char *sg_validate_http_url(const char *s, size_t len);     /* absolute http(s) URL, no userinfo, 2,048 bytes */
#define SG_TAGS_MAX 32

#endif
