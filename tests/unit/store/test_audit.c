/* The audit chain: whatever is done to the table behind its back is found, at the right record. */
#include <jansson.h>
#include <pthread.h>
#include <string.h>

#include "streamgate/base/crypto.h"
#include "streamgate/store/audit_store.h"

#include "store_support.h"

#define EVENTS 8

static struct sg_audit_event sample(unsigned i)
{
    return (struct sg_audit_event){
        .time_ms = 1000 + i * 10,
        .event_type = i % 2 ? "data" : "security",
        .actor = i % 3 ? "ann" : "bob",
        .action = "asset.create",
        .resource = "asset/1",
        .result = "success",
        .details = i == 4 ? NULL : "{\"size\":1}",
        .request_id = i == 5 ? NULL : "r",
    };
}

static enum sg_error append_closure(struct sg_db_conn *c, void *arg)
{
    return sg_audit_append(c, arg);
}

static void fill(struct sg_db *db)
{
    for (unsigned i = 1; i <= EVENTS; i++) {
        struct sg_audit_event e = sample(i);
        assert_int_equal(sg_db_write(db, append_closure, &e), SG_OK);
    }
}

struct verdict {
    uint64_t count, bad;
};

static enum sg_error verify_closure(struct sg_db_conn *c, void *arg)
{
    struct verdict *v = arg;
    return sg_audit_verify(c, &v->count, &v->bad);
}

static void assert_verdict(struct sg_db *db, uint64_t bad)
{
    struct verdict v = {99, 99};
    assert_int_equal(sg_db_read(db, verify_closure, &v), SG_OK);
    assert_int_equal(v.bad, bad);
}

static void chain_verifies(void **state)
{
    struct scratch *s = *state;
    struct verdict v = {99, 99};
    assert_int_equal(sg_db_read(s->db, verify_closure, &v), SG_OK);
    assert_int_equal(v.count, 0);
    assert_int_equal(v.bad, 0);
    fill(s->db);
    assert_int_equal(sg_db_read(s->db, verify_closure, &v), SG_OK);
    assert_int_equal(v.count, EVENTS);
    assert_int_equal(v.bad, 0);
}

/* Computed here from the definition alone, so that a change of format cannot pass unnoticed. */
static void first_hash_is_the_documented_one(void **state)
{
    struct scratch *s = *state;
    struct sg_audit_event e = sample(1);
    assert_int_equal(sg_db_write(s->db, append_closure, &e), SG_OK);
    static const char json[] =
        "{\"action\":\"asset.create\",\"actor\":\"ann\",\"details\":\"{\\\"size\\\":1}\","
        "\"event_type\":\"data\",\"request_id\":\"r\",\"resource\":\"asset/1\","
        "\"result\":\"success\",\"seq\":1,\"time_ms\":1010}";
    uint8_t input[SG_SHA256_LEN + sizeof(json)] = {0}, hash[SG_SHA256_LEN];
    memcpy(input + SG_SHA256_LEN, json, sizeof(json));
    assert_int_equal(sg_sha256_once(input, sizeof(input) - 1, hash), SG_OK);
    char hex[2 * SG_SHA256_LEN + 1], sql[160];
    sg_hex_encode(hash, sizeof(hash), hex);
    sqlite3_snprintf(sizeof(sql), sql, "SELECT count(*) FROM audit WHERE hash = x'%s'", hex);
    assert_int_equal(query_u64(s->db, sql), 1);
}

struct tampering {
    const char *sql;
    uint64_t bad;
};

static const struct tampering tamperings[] = {
    {"UPDATE audit SET time_ms = time_ms + 1 WHERE seq = 3", 3},
    {"UPDATE audit SET event_type = 'system' WHERE seq = 3", 3},
    {"UPDATE audit SET actor = 'eve' WHERE seq = 3", 3},
    {"UPDATE audit SET action = 'asset.delete' WHERE seq = 3", 3},
    {"UPDATE audit SET resource = 'asset/2' WHERE seq = 3", 3},
    {"UPDATE audit SET result = 'denied' WHERE seq = 3", 3},
    {"UPDATE audit SET details = '{\"size\":2}' WHERE seq = 3", 3},
    {"UPDATE audit SET details = '{\"size\": 1}' WHERE seq = 3", 3},
    {"UPDATE audit SET details = NULL WHERE seq = 3", 3},
    {"UPDATE audit SET details = '' WHERE seq = 4", 4},
    {"UPDATE audit SET request_id = 's' WHERE seq = 3", 3},
    {"UPDATE audit SET request_id = '' WHERE seq = 5", 5},
    {"UPDATE audit SET actor = CAST(x'ff41' AS TEXT) WHERE seq = 3", 3},
    {"UPDATE audit SET hash = zeroblob(32) WHERE seq = 3", 3},
    {"UPDATE audit SET hash = x'' WHERE seq = 3", 3},
    {"UPDATE audit SET hash = zeroblob(32) WHERE seq = 8", 8},
    {"DELETE FROM audit WHERE seq = 1", 1},
    {"DELETE FROM audit WHERE seq = 5", 5},
    {"DELETE FROM audit WHERE seq BETWEEN 4 AND 6", 4},
    {"DELETE FROM audit WHERE seq <= 3", 1},
    {"DELETE FROM audit WHERE seq = 8", 8},
    {"DELETE FROM audit WHERE seq >= 6", 6},
    {"DELETE FROM audit", 1},
    {"UPDATE audit SET seq = 9 WHERE seq = 8", 8},
    {"UPDATE audit SET seq = -1 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3;"
     "UPDATE audit SET seq = 3 WHERE seq = -1",
     2},
    {"UPDATE audit SET actor = (SELECT actor FROM audit WHERE seq = 3),"
     " time_ms = (SELECT time_ms FROM audit WHERE seq = 3) WHERE seq = 7",
     7},
    {"INSERT INTO audit SELECT 9, time_ms, event_type, actor, action, resource, result, details,"
     " request_id, hash FROM audit WHERE seq = 8",
     9},
    {"INSERT INTO audit SELECT 0, time_ms, event_type, actor, action, resource, result, details,"
     " request_id, hash FROM audit WHERE seq = 8",
     1},
    {"UPDATE audit SET seq = -2 WHERE seq = 2", 1},
    {"UPDATE meta SET value = 'junk' WHERE key = 'audit_head'", 1},
    {"DELETE FROM meta WHERE key = 'audit_head'", 1},
    {"UPDATE meta SET value = '7' || substr(value, 2) WHERE key = 'audit_head'", 8},
    {"UPDATE meta SET value = '9' || substr(value, 2) WHERE key = 'audit_head'", 9},
    {"UPDATE meta SET value = substr(value, 1, 65) || CASE substr(value, 66) WHEN '0' THEN '1'"
     " ELSE '0' END WHERE key = 'audit_head'",
     8},
};

static void tampering_is_found(void **state)
{
    struct scratch *s = *state;
    fill(s->db);
    run_sql(s->db, "CREATE TABLE good_audit AS SELECT * FROM audit;"
                   "CREATE TABLE good_meta AS SELECT * FROM meta");
    for (size_t i = 0; i < SG_ARRAY_LEN(tamperings); i++) {
        run_sql(s->db, tamperings[i].sql);
        struct verdict v = {99, 99};
        assert_int_equal(sg_db_read(s->db, verify_closure, &v), SG_OK);
        if (v.bad != tamperings[i].bad)
            fail_msg("%s: named %llu, not %llu", tamperings[i].sql, (unsigned long long)v.bad,
                     (unsigned long long)tamperings[i].bad);
        run_sql(s->db, "DELETE FROM audit; INSERT INTO audit SELECT * FROM good_audit;"
                       "DELETE FROM meta; INSERT INTO meta SELECT * FROM good_meta");
        assert_verdict(s->db, 0);
    }
}

static enum sg_error prune_closure(struct sg_db_conn *c, void *arg)
{
    uint64_t *v = arg; /* in: before; out: dropped */
    return sg_audit_prune(c, *v, v);
}

static uint64_t prune(struct sg_db *db, uint64_t before_ms)
{
    uint64_t v = before_ms;
    assert_int_equal(sg_db_write(db, prune_closure, &v), SG_OK);
    return v;
}

static void pruned_chain_verifies(void **state)
{
    struct scratch *s = *state;
    fill(s->db);
    assert_int_equal(prune(s->db, 1010), 0); /* event 1 is not older than itself */
    assert_int_equal(prune(s->db, 1031), 3);
    assert_int_equal(query_u64(s->db, "SELECT min(seq) FROM audit"), 4);
    assert_verdict(s->db, 0);
    fill(s->db);
    assert_verdict(s->db, 0);
    run_sql(s->db, "DELETE FROM audit WHERE seq = 4");
    assert_verdict(s->db, 4);
    run_sql(s->db, "UPDATE meta SET value = 'x' WHERE key = 'audit_anchor'");
    assert_verdict(s->db, 1);
}

static void pruning_stops_at_the_first_recent_record(void **state)
{
    struct scratch *s = *state;
    uint64_t times[] = {100, 5000, 200, 6000};
    for (size_t i = 0; i < SG_ARRAY_LEN(times); i++) {
        struct sg_audit_event e = sample(1);
        e.time_ms = times[i];
        assert_int_equal(sg_db_write(s->db, append_closure, &e), SG_OK);
    }
    assert_int_equal(prune(s->db, 1000), 1);
    assert_verdict(s->db, 0);
    assert_int_equal(prune(s->db, 10000), 3);
    assert_verdict(s->db, 0);
    fill(s->db);
    assert_verdict(s->db, 0);
    assert_int_equal(query_u64(s->db, "SELECT min(seq) FROM audit"), 5);
}

static enum sg_error append_and_fail(struct sg_db_conn *c, void *arg)
{
    enum sg_error err = sg_audit_append(c, arg);
    return err ? err : SG_ERR_CONFLICT;
}

struct appender {
    const char *path;
    struct sg_db *db;
};

static void *append_many(void *arg)
{
    struct appender *a = arg;
    for (unsigned i = 0; i < 40; i++) {
        struct sg_audit_event e = sample(i);
        enum sg_error want = i % 4 == 3 ? SG_ERR_CONFLICT : SG_OK;
        assert_int_equal(sg_db_write(a->db, want ? append_and_fail : append_closure, &e), want);
    }
    return NULL;
}

/* Two databases opened on one file stand for the daemon and the command line beside it. */
static void many_append_to_one_chain(void **state)
{
    struct scratch *s = *state;
    struct sg_db *other = NULL;
    struct sg_db_params params = {.path = s->path, .readers = 1};
    assert_int_equal(sg_db_open(&params, &other), SG_OK);
    struct appender appenders[4];
    pthread_t threads[4];
    for (unsigned i = 0; i < 4; i++) {
        appenders[i] = (struct appender){.path = s->path, .db = i % 2 ? other : s->db};
        assert_int_equal(pthread_create(&threads[i], NULL, append_many, &appenders[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    sg_db_close(&other);
    struct verdict v = {0};
    assert_int_equal(sg_db_read(s->db, verify_closure, &v), SG_OK);
    assert_int_equal(v.count, 4 * 30);
    assert_int_equal(v.bad, 0);
}

struct export
{
    struct sg_audit_query q;
    struct sg_text text;
    uint64_t last;
};

static enum sg_error export_closure(struct sg_db_conn *c, void *arg)
{
    struct export *e = arg;
    return sg_audit_export(c, &e->q, &e->text, &e->last);
}

static unsigned export_count(struct sg_db *db, struct sg_audit_query q, uint64_t *last)
{
    struct export e = {.q = q, .last = *last};
    assert_int_equal(sg_db_read(db, export_closure, &e), SG_OK);
    unsigned lines = 0;
    for (size_t i = 0; i < e.text.len; i++)
        lines += e.text.ptr[i] == '\n';
    sg_text_free(&e.text);
    *last = e.last;
    return lines;
}

static void export_filters_and_pages(void **state)
{
    struct scratch *s = *state;
    fill(s->db);
    uint64_t last = 0;
    assert_int_equal(export_count(s->db, (struct sg_audit_query){0}, &last), EVENTS);
    assert_int_equal(last, EVENTS);
    assert_int_equal(export_count(s->db, (struct sg_audit_query){.actor = "bob"}, &last), 2);
    assert_int_equal(last, 6);
    assert_int_equal(export_count(s->db, (struct sg_audit_query){.event_type = "data"}, &last), 4);
    assert_int_equal(export_count(s->db, (struct sg_audit_query){.resource = "asset/9"}, &last), 0);
    assert_int_equal(last, 7); /* of the call before: nothing was found */
    struct sg_audit_query times = {.from_ms = 1020, .to_ms = 1040};
    assert_int_equal(export_count(s->db, times, &last), 2);
    unsigned total = 0, n;
    last = 0;
    do {
        n = export_count(s->db, (struct sg_audit_query){.after_seq = last, .limit = 3}, &last);
        total += n;
    } while (n);
    assert_int_equal(total, EVENTS);
}

static void exported_lines_are_json(void **state)
{
    struct scratch *s = *state;
    fill(s->db);
    struct export e = {.q = {.after_seq = 4, .limit = 1}};
    assert_int_equal(sg_db_read(s->db, export_closure, &e), SG_OK);
    json_t *o = json_loadb(e.text.ptr, e.text.len, 0, NULL);
    assert_non_null(o);
    assert_int_equal(json_integer_value(json_object_get(o, "id")), 5);
    assert_string_equal(json_string_value(json_object_get(o, "timestamp")),
                        "1970-01-01T00:00:01.050Z");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "details"), "size")), 1);
    assert_null(json_object_get(o, "request_id"));
    assert_int_equal(json_string_length(json_object_get(o, "hash")), 64);
    json_decref(o);
    sg_text_free(&e.text);
}

static void bad_events_are_refused(void **state)
{
    struct scratch *s = *state;
    struct sg_audit_event e = sample(1);
    e.details = "[1]";
    assert_int_equal(sg_db_write(s->db, append_closure, &e), SG_ERR_INVALID);
    e.details = "{";
    assert_int_equal(sg_db_write(s->db, append_closure, &e), SG_ERR_INVALID);
    e = sample(1);
    e.actor = "\xff";
    assert_int_equal(sg_db_write(s->db, append_closure, &e), SG_ERR_INVALID);
    e = sample(1);
    e.resource = NULL;
    assert_int_equal(sg_db_write(s->db, append_closure, &e), SG_ERR_INVALID);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM audit"), 0);
}

int main(void)
{
#define DB_TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup_db, scratch_teardown)
    const struct CMUnitTest tests[] = {
        DB_TEST(chain_verifies),
        DB_TEST(first_hash_is_the_documented_one),
        DB_TEST(tampering_is_found),
        DB_TEST(pruned_chain_verifies),
        DB_TEST(pruning_stops_at_the_first_recent_record),
        DB_TEST(many_append_to_one_chain),
        DB_TEST(export_filters_and_pages),
        DB_TEST(exported_lines_are_json),
        DB_TEST(bad_events_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
