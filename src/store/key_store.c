/* Users and API keys. Invariants: the key's text is never stored, only its SHA-256; a user has at
 * most one unrevoked key of a name (a partial unique index); whatever changes rights moves the
 * identity generation (triggers), so caches elsewhere notice, also across processes. */
#include "streamgate/store/key_store.h"

#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/base/validate.h"

#include "db_conn.h"

#define SECRET_BYTES 32
#define LIST_MAX 1000

/* In the order key_from_row reads them. */
#define KEY_SELECT                                                                                 \
    "SELECT k.id, k.user_id, k.name, u.name, k.prefix, k.role, k.created_ms, k.expires_ms,"        \
    " k.revoked_ms, k.last_used_ms FROM api_keys k JOIN users u ON u.id = k.user_id "

static const char *const role_names[SG_ROLE_COUNT] = {
    [SG_ROLE_NONE] = "none",
    [SG_ROLE_VIEWER] = "viewer",
    [SG_ROLE_CREATOR] = "creator",
    [SG_ROLE_ADMIN] = "admin",
};

const char *sg_role_name(enum sg_role r)
{
    return (unsigned)r < SG_ROLE_COUNT ? role_names[r] : "unknown";
}

enum sg_error sg_role_parse(const char *s, enum sg_role *out)
{
    for (unsigned i = 0; i < SG_ROLE_COUNT; i++) {
        if (strcmp(s, role_names[i]) == 0) {
            *out = (enum sg_role)i;
            return SG_OK;
        }
    }
    return SG_ERR_INVALID;
}

static void copy_text(struct sg_stmt *st, int col, char *out, size_t size)
{
    const char *s = sg_stmt_text(st, col);
    size_t len = strlen(s);
    if (len < size)
        memcpy(out, s, len + 1);
    else
        st->err = SG_ERR_IO; /* no such text was written here */
}

static void key_from_row(struct sg_stmt *st, struct sg_key *out)
{
    struct sg_key k = {0};
    copy_text(st, 0, k.id, sizeof(k.id));
    copy_text(st, 1, k.user_id, sizeof(k.user_id));
    copy_text(st, 2, k.name, sizeof(k.name));
    copy_text(st, 3, k.user_name, sizeof(k.user_name));
    copy_text(st, 4, k.prefix, sizeof(k.prefix));
    uint64_t role = sg_stmt_u64(st, 5);
    k.created_ms = sg_stmt_u64(st, 6);
    k.expires_ms = sg_stmt_u64(st, 7);
    k.revoked_ms = sg_stmt_u64(st, 8);
    k.last_used_ms = sg_stmt_u64(st, 9);
    if (role >= SG_ROLE_COUNT)
        st->err = SG_ERR_IO;
    k.role = (enum sg_role)role;
    if (!st->err)
        *out = k;
}

static enum sg_error one_key(struct sg_stmt *st, struct sg_key *out)
{
    struct sg_key k;
    bool found = sg_stmt_row(st);
    if (found)
        key_from_row(st, &k);
    enum sg_error err = sg_stmt_close(st);
    if (!err && !found)
        err = SG_ERR_NOT_FOUND;
    if (!err)
        *out = k;
    return err;
}

static enum sg_error find_user(struct sg_db_conn *c, const char *name, char id[SG_ULID_SIZE])
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT id FROM users WHERE name = ?1");
    sg_stmt_bind_text(&st, name);
    bool found = sg_stmt_row(&st);
    if (found)
        copy_text(&st, 0, id, SG_ULID_SIZE);
    enum sg_error err = sg_stmt_close(&st);
    return !err && !found ? SG_ERR_NOT_FOUND : err;
}

static enum sg_error add_user(struct sg_db_conn *c, const char *name, uint64_t now_ms,
                              char id[SG_ULID_SIZE])
{
    struct sg_stmt st;
    sg_ulid_make(id);
    sg_stmt_open(&st, c, "INSERT INTO users(id, name, created_ms) VALUES(?1, ?2, ?3)");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_text(&st, name);
    sg_stmt_bind_u64(&st, now_ms);
    return sg_stmt_run(&st);
}

static enum sg_error insert_key(struct sg_db_conn *c, const struct sg_key *k,
                                const uint8_t hash[SG_SHA256_LEN])
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO api_keys(id, user_id, name, hash, prefix, role, created_ms,"
                 " expires_ms, revoked_ms, last_used_ms) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0,"
                 " 0)");
    sg_stmt_bind_text(&st, k->id);
    sg_stmt_bind_text(&st, k->user_id);
    sg_stmt_bind_text(&st, k->name);
    sg_stmt_bind_blob(&st, hash, SG_SHA256_LEN);
    sg_stmt_bind_text(&st, k->prefix);
    sg_stmt_bind_u64(&st, k->role);
    sg_stmt_bind_u64(&st, k->created_ms);
    sg_stmt_bind_u64(&st, k->expires_ms);
    return sg_stmt_run(&st);
}

static enum sg_error make_secret(char secret[SG_KEY_SIZE], uint8_t hash[SG_SHA256_LEN])
{
    uint8_t random[SECRET_BYTES];
    sg_random(random, sizeof(random));
    memcpy(secret, "sgk_", 4);
    size_t len = sg_base64url_encode(random, sizeof(random), secret + 4, SG_KEY_SIZE - 4);
    sg_wipe(random, sizeof(random));
    return len == SG_KEY_SIZE - 5 ? sg_sha256_once(secret, SG_KEY_SIZE - 1, hash) : SG_ERR_INTERNAL;
}

enum sg_error sg_key_create(struct sg_db_conn *c, const struct sg_key_params *params,
                            char secret[SG_KEY_SIZE], struct sg_key *out)
{
    const char *user = params->user_name ? params->user_name : params->name;
    if (sg_validate_name(params->name, strlen(params->name)) ||
        sg_validate_name(user, strlen(user)) || params->role <= SG_ROLE_NONE ||
        params->role >= SG_ROLE_COUNT)
        return SG_ERR_INVALID;
    struct sg_key k = {
        .role = params->role, .created_ms = sg_clock_wall_ms(), .expires_ms = params->expires_ms};
    memcpy(k.name, params->name, strlen(params->name) + 1); /* both fit: they are valid names */
    memcpy(k.user_name, user, strlen(user) + 1);
    sg_ulid_make(k.id);
    char text[SG_KEY_SIZE];
    uint8_t hash[SG_SHA256_LEN];
    enum sg_error err = make_secret(text, hash);
    if (err)
        goto out;
    memcpy(k.prefix, text, 10);
    err = find_user(c, user, k.user_id);
    if (err == SG_ERR_NOT_FOUND)
        err = add_user(c, user, k.created_ms, k.user_id);
    if (!err)
        err = insert_key(c, &k, hash);
    if (!err) {
        memcpy(secret, text, sizeof(text));
        *out = k;
    }
out:
    sg_wipe(text, sizeof(text));
    return err;
}

enum sg_error sg_key_find(struct sg_db_conn *c, const uint8_t hash[SG_SHA256_LEN],
                          struct sg_key *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, KEY_SELECT "WHERE k.hash = ?1");
    sg_stmt_bind_blob(&st, hash, SG_SHA256_LEN);
    return one_key(&st, out);
}

enum sg_error sg_key_get(struct sg_db_conn *c, const char *id, struct sg_key *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, KEY_SELECT "WHERE k.id = ?1");
    sg_stmt_bind_text(&st, id);
    return one_key(&st, out);
}

enum sg_error sg_key_revoke(struct sg_db_conn *c, const char *id)
{
    struct sg_key k;
    enum sg_error err = sg_key_get(c, id, &k);
    if (err || k.revoked_ms)
        return err;
    struct sg_stmt st;
    sg_stmt_open(&st, c, "UPDATE api_keys SET revoked_ms = ?1 WHERE id = ?2");
    sg_stmt_bind_u64(&st, sg_clock_wall_ms());
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run_changing(&st);
}

enum sg_error sg_key_touch(struct sg_db_conn *c, const char *id, uint64_t used_ms)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "UPDATE api_keys SET last_used_ms = max(last_used_ms, ?1) WHERE id = ?2");
    sg_stmt_bind_u64(&st, used_ms);
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run_changing(&st);
}

static void open_list(struct sg_stmt *st, struct sg_db_conn *c, const char *user_id)
{
    if (!user_id) {
        sg_stmt_open(st, c, KEY_SELECT "WHERE k.id < ?1 ORDER BY k.id DESC LIMIT ?2");
        return;
    }
    sg_stmt_open(st, c,
                 KEY_SELECT "WHERE k.id < ?1 AND k.user_id = ?3 ORDER BY k.id DESC LIMIT ?2");
}

enum sg_error sg_key_list(struct sg_db_conn *c, const char *user_id, const char *cursor,
                          unsigned limit, struct sg_key **out, size_t *n)
{
    /* "Z" sorts after every ULID, whose first character is at most 7. */
    const char *before = cursor ? cursor : "Z";
    if (limit < 1 || limit > LIST_MAX || (cursor && sg_validate_ulid(cursor, strlen(cursor))))
        return SG_ERR_INVALID;
    struct sg_key *keys = calloc(limit, sizeof(*keys));
    if (!keys)
        return SG_ERR_NO_MEMORY;
    struct sg_stmt st;
    open_list(&st, c, user_id);
    sg_stmt_bind_text(&st, before);
    sg_stmt_bind_u64(&st, limit);
    if (user_id)
        sg_stmt_bind_text(&st, user_id);
    size_t count = 0;
    while (sg_stmt_row(&st))
        key_from_row(&st, &keys[count++]);
    enum sg_error err = sg_stmt_close(&st);
    if (err) {
        free(keys);
        return err;
    }
    *out = keys;
    *n = count;
    return SG_OK;
}

enum sg_error sg_key_count(struct sg_db_conn *c, uint64_t *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "SELECT count(*) FROM api_keys WHERE revoked_ms = 0");
    uint64_t count = sg_stmt_row(&st) ? sg_stmt_u64(&st, 0) : 0;
    enum sg_error err = sg_stmt_close(&st);
    if (!err)
        *out = count;
    return err;
}
