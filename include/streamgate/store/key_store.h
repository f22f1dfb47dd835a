/* Users and API keys. A key is "sgk_" + 43 base64url characters (32 random bytes); only its SHA-256 is stored: the key has full entropy, so a slow
 * hash would add nothing. All functions run inside a transaction (store/db.h). */
#ifndef STREAMGATE_STORE_KEY_STORE_H
#define STREAMGATE_STORE_KEY_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/crypto.h"
#include "streamgate/store/db.h"

/* Ordered: a higher role may do what a lower one may. */
enum sg_role { SG_ROLE_NONE, SG_ROLE_VIEWER, SG_ROLE_CREATOR, SG_ROLE_ADMIN, SG_ROLE_COUNT };
const char *sg_role_name(enum sg_role r); /* "none" "viewer" "creator" "admin" */
enum sg_error sg_role_parse(const char *s, enum sg_role *out) SG_NODISCARD;

#define SG_KEY_SIZE 48 /* "sgk_" + 43 + NUL */
#define SG_NAME_SIZE 65
struct sg_key {
    char id[SG_ULID_SIZE], user_id[SG_ULID_SIZE];
    char name[SG_NAME_SIZE], user_name[SG_NAME_SIZE];
    char prefix[12];             /* "sgk_" and the first 6 characters, to recognise it in lists */
    enum sg_role role;
    uint64_t created_ms, expires_ms, revoked_ms, last_used_ms; /* 0: never */
};

struct sg_key_params {
    const char *name;       /* sg_validate_name */
    const char *user_name;  /* NULL: same as name; an existing user of that name gets the key, else one is made */
    enum sg_role role;      /* not NONE */
    uint64_t expires_ms;    /* 0: never */
};

/* Makes a key; `secret` is the only time it is seen. EXISTS when the user has an unrevoked key of that name. */
enum sg_error sg_key_create(struct sg_db_conn *c, const struct sg_key_params *params, char secret[SG_KEY_SIZE], struct sg_key *out) SG_NODISCARD;
/* By SHA-256 of the whole key text. NOT_FOUND; revoked or expired keys are found: the caller looks. */
enum sg_error sg_key_find(struct sg_db_conn *c, const uint8_t hash[SG_SHA256_LEN], struct sg_key *out) SG_NODISCARD;
enum sg_error sg_key_get(struct sg_db_conn *c, const char *id, struct sg_key *out) SG_NODISCARD;
enum sg_error sg_key_revoke(struct sg_db_conn *c, const char *id) SG_NODISCARD; /* idempotent; NOT_FOUND */
enum sg_error sg_key_touch(struct sg_db_conn *c, const char *id, uint64_t used_ms) SG_NODISCARD;
/* user_id NULL: all. Newest first, at most limit, those older than cursor id (NULL: from the top). */
enum sg_error sg_key_list(struct sg_db_conn *c, const char *user_id, const char *cursor, unsigned limit, struct sg_key **out, size_t *n) SG_NODISCARD;
enum sg_error sg_key_count(struct sg_db_conn *c, uint64_t *out) SG_NODISCARD; /* unrevoked */

#endif
