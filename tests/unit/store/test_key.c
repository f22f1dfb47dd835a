/* Users and API keys. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/store/key_store.h"

#include "store_support.h"

struct creation {
    struct sg_key_params params;
    char secret[SG_KEY_SIZE];
    struct sg_key key;
};

static enum sg_error create_closure(struct sg_db_conn *c, void *arg)
{
    struct creation *k = arg;
    return sg_key_create(c, &k->params, k->secret, &k->key);
}

static enum sg_error create(struct sg_db *db, const char *name, const char *user, enum sg_role role,
                            struct creation *out)
{
    *out = (struct creation){.params = {.name = name, .user_name = user, .role = role}};
    return sg_db_write(db, create_closure, out);
}

static enum sg_error revoke_closure(struct sg_db_conn *c, void *arg)
{
    return sg_key_revoke(c, arg);
}

static enum sg_error touch_closure(struct sg_db_conn *c, void *arg)
{
    return sg_key_touch(c, arg, 12345);
}

static enum sg_error find_closure(struct sg_db_conn *c, void *arg)
{
    struct creation *k = arg;
    uint8_t hash[SG_SHA256_LEN];
    enum sg_error err = sg_sha256_once(k->secret, strlen(k->secret), hash);
    return err ? err : sg_key_find(c, hash, &k->key);
}

static void key_is_found_by_its_hash_only(void **state)
{
    struct scratch *s = *state;
    struct creation k;
    assert_int_equal(create(s->db, "laptop", "ann", SG_ROLE_CREATOR, &k), SG_OK);
    assert_int_equal(strlen(k.secret), SG_KEY_SIZE - 1);
    assert_memory_equal(k.secret, "sgk_", 4);
    assert_int_equal(strlen(k.key.prefix), 10);
    assert_memory_equal(k.key.prefix, k.secret, 10);
    struct creation found = {0};
    memcpy(found.secret, k.secret, sizeof(found.secret));
    assert_int_equal(sg_db_read(s->db, find_closure, &found), SG_OK);
    assert_string_equal(found.key.id, k.key.id);
    assert_string_equal(found.key.name, "laptop");
    assert_string_equal(found.key.user_name, "ann");
    assert_int_equal(found.key.role, SG_ROLE_CREATOR);
    assert_int_equal(found.key.created_ms, k.key.created_ms);
    found.secret[20] = (char)(found.secret[20] == 'A' ? 'B' : 'A');
    assert_int_equal(sg_db_read(s->db, find_closure, &found), SG_ERR_NOT_FOUND);
    /* Nothing in the file is the key itself. */
    char sql[160];
    sqlite3_snprintf(sizeof(sql), sql,
                     "SELECT count(*) FROM api_keys WHERE name = '%q' OR instr(hash, '%q')"
                     " OR length(prefix) > 10",
                     k.secret, k.secret);
    assert_int_equal(query_u64(s->db, sql), 0);
}

static void names_are_unique_while_alive(void **state)
{
    struct scratch *s = *state;
    struct creation k, other;
    assert_int_equal(create(s->db, "ci", NULL, SG_ROLE_VIEWER, &k), SG_OK);
    assert_string_equal(k.key.user_name, "ci");
    assert_int_equal(create(s->db, "ci", NULL, SG_ROLE_VIEWER, &other), SG_ERR_EXISTS);
    assert_string_equal(other.secret, ""); /* untouched */
    assert_int_equal(create(s->db, "ci", "bob", SG_ROLE_VIEWER, &other), SG_OK);
    assert_string_not_equal(other.key.user_id, k.key.user_id);
    assert_int_equal(create(s->db, "second", "ci", SG_ROLE_ADMIN, &other), SG_OK);
    assert_string_equal(other.key.user_id, k.key.user_id);
    assert_int_equal(sg_db_write(s->db, revoke_closure, k.key.id), SG_OK);
    assert_int_equal(create(s->db, "ci", NULL, SG_ROLE_VIEWER, &other), SG_OK);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM users"), 2);
}

static void bad_parameters_are_refused(void **state)
{
    struct scratch *s = *state;
    struct creation k;
    assert_int_equal(create(s->db, "", NULL, SG_ROLE_VIEWER, &k), SG_ERR_INVALID);
    assert_int_equal(create(s->db, "a b", NULL, SG_ROLE_VIEWER, &k), SG_ERR_INVALID);
    assert_int_equal(create(s->db, "a", "x/y", SG_ROLE_VIEWER, &k), SG_ERR_INVALID);
    assert_int_equal(create(s->db, "a", NULL, SG_ROLE_NONE, &k), SG_ERR_INVALID);
    assert_int_equal(create(s->db, "a", NULL, SG_ROLE_COUNT, &k), SG_ERR_INVALID);
    char longest[SG_NAME_SIZE + 1];
    memset(longest, 'n', sizeof(longest));
    longest[SG_NAME_SIZE] = '\0';
    assert_int_equal(create(s->db, longest, NULL, SG_ROLE_VIEWER, &k), SG_ERR_INVALID);
    longest[SG_NAME_SIZE - 1] = '\0';
    assert_int_equal(create(s->db, longest, NULL, SG_ROLE_VIEWER, &k), SG_OK);
    assert_string_equal(k.key.name, longest);
}

static enum sg_error get_closure(struct sg_db_conn *c, void *arg)
{
    struct sg_key *k = arg;
    return sg_key_get(c, k->id, k);
}

static enum sg_error count_closure(struct sg_db_conn *c, void *arg)
{
    return sg_key_count(c, arg);
}

static void revoking_and_using_leave_their_times(void **state)
{
    struct scratch *s = *state;
    struct creation k;
    uint64_t count = 9;
    assert_int_equal(create(s->db, "x", NULL, SG_ROLE_ADMIN, &k), SG_OK);
    assert_int_equal(sg_db_write(s->db, touch_closure, k.key.id), SG_OK);
    assert_int_equal(sg_db_read(s->db, count_closure, &count), SG_OK);
    assert_int_equal(count, 1);
    assert_int_equal(sg_db_write(s->db, revoke_closure, k.key.id), SG_OK);
    struct sg_key once = k.key, twice = k.key;
    assert_int_equal(sg_db_read(s->db, get_closure, &once), SG_OK);
    assert_true(once.revoked_ms > 0);
    assert_int_equal(once.last_used_ms, 12345);
    assert_int_equal(sg_db_write(s->db, revoke_closure, k.key.id), SG_OK);
    assert_int_equal(sg_db_read(s->db, get_closure, &twice), SG_OK);
    assert_int_equal(once.revoked_ms, twice.revoked_ms);
    assert_int_equal(sg_db_read(s->db, count_closure, &count), SG_OK);
    assert_int_equal(count, 0);
    char unknown[SG_ULID_SIZE];
    sg_ulid_make(unknown);
    assert_int_equal(sg_db_write(s->db, revoke_closure, unknown), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_db_write(s->db, touch_closure, unknown), SG_ERR_NOT_FOUND);
}

struct listing {
    const char *user_id, *cursor;
    unsigned limit;
    struct sg_key *keys;
    size_t n;
};

static enum sg_error list_closure(struct sg_db_conn *c, void *arg)
{
    struct listing *l = arg;
    return sg_key_list(c, l->user_id, l->cursor, l->limit, &l->keys, &l->n);
}

static void lists_page_from_the_newest(void **state)
{
    struct scratch *s = *state;
    enum { KEYS = 7 };
    char ids[KEYS][SG_ULID_SIZE];
    struct creation k;
    for (unsigned i = 0; i < KEYS; i++) {
        char name[8] = {'k', (char)('0' + i)};
        assert_int_equal(create(s->db, name, i % 2 ? "odd" : "even", SG_ROLE_VIEWER, &k), SG_OK);
        memcpy(ids[i], k.key.id, SG_ULID_SIZE);
    }
    unsigned seen[KEYS] = {0};
    char cursor[SG_ULID_SIZE];
    struct listing l = {.limit = 3};
    size_t total = 0;
    do {
        assert_int_equal(sg_db_read(s->db, list_closure, &l), SG_OK);
        for (size_t i = 0; i < l.n; i++)
            for (unsigned j = 0; j < KEYS; j++)
                seen[j] += strcmp(ids[j], l.keys[i].id) == 0;
        total += l.n;
        if (l.n)
            memcpy(cursor, l.keys[l.n - 1].id, SG_ULID_SIZE);
        l.cursor = cursor;
        free(l.keys);
    } while (l.n);
    assert_int_equal(total, KEYS);
    for (unsigned j = 0; j < KEYS; j++)
        assert_int_equal(seen[j], 1);
    l = (struct listing){.user_id = k.key.user_id, .limit = 100};
    assert_int_equal(sg_db_read(s->db, list_closure, &l), SG_OK);
    assert_int_equal(l.n, 4);
    free(l.keys);
    l = (struct listing){.cursor = "nonsense", .limit = 1};
    assert_int_equal(sg_db_read(s->db, list_closure, &l), SG_ERR_INVALID);
    l = (struct listing){.limit = 0};
    assert_int_equal(sg_db_read(s->db, list_closure, &l), SG_ERR_INVALID);
}

static void role_names_parse_back(void **state)
{
    (void)state;
    enum sg_role r = SG_ROLE_NONE;
    for (unsigned i = 0; i < SG_ROLE_COUNT; i++) {
        assert_int_equal(sg_role_parse(sg_role_name((enum sg_role)i), &r), SG_OK);
        assert_int_equal(r, i);
    }
    assert_int_equal(sg_role_parse("Admin", &r), SG_ERR_INVALID);
    assert_int_equal(sg_role_parse("", &r), SG_ERR_INVALID);
}

int main(void)
{
#define DB_TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup_db, scratch_teardown)
    const struct CMUnitTest tests[] = {
        DB_TEST(key_is_found_by_its_hash_only), DB_TEST(names_are_unique_while_alive),
        DB_TEST(bad_parameters_are_refused),    DB_TEST(revoking_and_using_leave_their_times),
        DB_TEST(lists_page_from_the_newest),    cmocka_unit_test(role_names_parse_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
