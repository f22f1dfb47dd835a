/* Webhooks: which events whom they reach, and the life of a delivery. */
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/store/key_store.h"
#include "streamgate/store/webhook_store.h"

#include "asset_support.h"

#define T0 1763776568123u

struct call {
    struct sg_webhook_fields hook;
    struct sg_webhook_event event;
    struct sg_delivery_outcome outcome;
    const char *id, *delivery;
    struct sg_delivery_query query;
    struct sg_delivery_list list;
    struct sg_key_params key_params;
    struct sg_key key;
    char made[SG_ULID_SIZE];
    uint64_t n, max, now_ms;
    bool more;
};

/* A closure over a struct call, k. */
#define CLOSURE(name, expression)                                                                  \
    static enum sg_error name(struct sg_db_conn *c, void *arg)                                     \
    {                                                                                              \
        struct call *k = arg;                                                                      \
        return expression;                                                                         \
    }
CLOSURE(insert_hook, sg_webhook_insert(c, &k->hook, k->max))
CLOSURE(update_hook, sg_webhook_update(c, &k->hook))
CLOSURE(remove_hook, sg_webhook_remove(c, k->id, T0))
CLOSURE(purge, sg_webhook_purge(c, &k->more))
CLOSURE(emit, sg_webhook_emit(c, &k->event))
CLOSURE(ping, sg_webhook_emit_to(c, k->id, &k->event, k->made))
CLOSURE(spread, sg_webhook_spread(c, 100, &k->n))
CLOSURE(list, sg_delivery_list(c, &k->query, &k->list))
CLOSURE(settle, sg_delivery_settle(c, &k->outcome))
CLOSURE(again, sg_delivery_again(c, k->id, k->delivery, k->now_ms))
CLOSURE(prune, sg_delivery_prune(c, k->now_ms, 100, &k->n))

static enum sg_error make_key(struct sg_db_conn *c, void *arg)
{
    struct call *k = arg;
    char secret[SG_KEY_SIZE];
    return sg_key_create(c, &k->key_params, secret, &k->key);
}

CLOSURE(revoke_key, sg_key_revoke(c, k->key.id))

static struct sg_webhook_fields sample_hook(const char *owner, uint32_t events)
{
    struct sg_webhook_fields f = {.url = "https://example.com/hook",
                                  .description = "",
                                  .events = events,
                                  .enabled = true,
                                  .disabled_why = "",
                                  .created_ms = T0};
    sg_ulid_make(f.id);
    memcpy(f.owner, owner, SG_ULID_SIZE);
    return f;
}

static struct sg_webhook_fields add_hook(struct sg_db *db, struct sg_webhook_fields f)
{
    struct call k = {.hook = f, .max = 100};
    assert_int_equal(sg_db_write(db, insert_hook, &k), SG_OK);
    return f;
}

/* A hook of an administrator, whose key is *key. */
static struct sg_webhook_fields add_admin_hook(struct sg_db *db, struct call *key)
{
    *key = (struct call){.key_params = {.name = "root", .role = SG_ROLE_ADMIN}};
    assert_int_equal(sg_db_write(db, make_key, key), SG_OK);
    struct sg_webhook_fields f = sample_hook(key->key.user_id, SG_WEBHOOK_ALL_EVENTS);
    f.everything = true;
    return add_hook(db, f);
}

static void spread_all(struct sg_db *db)
{
    struct call k = {0};
    do
        assert_int_equal(sg_db_write(db, spread, &k), SG_OK);
    while (k.n > 0);
}

/* "asset.created asset.ready": what waits for the hook, oldest first. */
static void types_of(struct sg_db *db, const char *hook_id, char *out, size_t size)
{
    struct call k = {.query = {.hook_id = hook_id, .state = SG_DELIVERY_PENDING, .limit = 100}};
    assert_int_equal(sg_db_read(db, list, &k), SG_OK);
    out[0] = '\0';
    for (size_t i = k.list.n; i-- > 0;) {
        size_t at = strlen(out);
        snprintf(out + at, size - at, "%s%s", at > 0 ? " " : "",
                 sg_webhook_type_name(k.list.items[i]->f.type));
    }
    sg_delivery_list_free(&k.list);
}

static void assert_types(struct sg_db *db, struct sg_webhook_fields hook, const char *expected)
{
    char types[512];
    types_of(db, hook.id, types, sizeof types);
    assert_string_equal(types, expected);
}

static void nothing_is_written_without_a_hook_that_wants_it(void **state)
{
    struct scratch *s = *state;
    insert_asset(s->db, sample_asset());
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM webhook_events"), 0);
    struct sg_webhook_fields f = sample_hook(OWNER_A, 1u << SG_WEBHOOK_JOB_FAILED);
    add_hook(s->db, f);
    insert_asset(s->db, sample_asset());
    run_sql(s->db, "DELETE FROM assets");
    struct call k = {.event = {SG_WEBHOOK_ALERT_RAISED, "", "{}", T0}};
    assert_int_equal(sg_db_write(s->db, emit, &k), SG_OK);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM webhook_events"), 0);
}

static void assets_tell(void **state)
{
    struct scratch *s = *state;
    struct sg_webhook_fields h = add_hook(s->db, sample_hook(OWNER_A, SG_WEBHOOK_ALL_EVENTS));
    struct sg_asset_fields a = sample_asset();
    a.title = "a \"title\"";
    insert_asset(s->db, a);
    spread_all(s->db);
    assert_types(s->db, h, "upload.completed asset.created asset.ready");
    run_sql(s->db, "DELETE FROM webhook_deliveries");
    run_sql(s->db, "UPDATE assets SET title = 'another'");
    run_sql(s->db, "UPDATE assets SET status = 2");
    spread_all(s->db);
    assert_types(s->db, h, "");
    run_sql(s->db, "UPDATE assets SET status = 4, error = 'it broke'");
    run_sql(s->db, "DELETE FROM assets");
    spread_all(s->db);
    assert_types(s->db, h, "asset.failed asset.deleted");
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM webhook_events"), 0);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM webhook_deliveries WHERE"
                                      " body ->> '$.data.error' = 'it broke'"),
                     2);
}

static void a_body_is_what_is_promised(void **state)
{
    struct scratch *s = *state;
    struct sg_webhook_fields h =
        add_hook(s->db, sample_hook(OWNER_A, 1u << SG_WEBHOOK_ASSET_READY));
    struct sg_asset_fields a = sample_asset();
    a.title = "\"quoted\" \\ caf\xc3\xa9";
    a.tags_json = "[\"x\"]";
    a.custom_json = "{\"n\":1}";
    a.duration_ms = 4500;
    a.updated_ms = T0;
    insert_asset(s->db, a);
    spread_all(s->db);
    struct call k = {.query = {.hook_id = h.id, .state = -1, .limit = 10}};
    assert_int_equal(sg_db_read(s->db, list, &k), SG_OK);
    assert_int_equal(k.list.n, 1);
    const struct sg_delivery_fields *d = &k.list.items[0]->f;
    json_t *body = json_loads(d->body, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(body);
    const char *id, *type, *time, *asset, *status, *title, *owner, *tag;
    double duration;
    int n;
    assert_int_equal(
        json_unpack(body, "{s:s, s:s, s:s, s:{s:s, s:s, s:s, s:s, s:F, s:n, s:[s], s:{s:i}}}", "id",
                    &id, "type", &type, "created_at", &time, "data", "id", &asset, "status",
                    &status, "title", &title, "owner", &owner, "duration", &duration, "error",
                    "tags", &tag, "custom", "n", &n),
        0);
    assert_string_equal(id, d->event_id);
    assert_string_equal(type, "asset.ready");
    assert_string_equal(time, "2025-11-22T01:56:08.123Z");
    assert_string_equal(asset, a.id);
    assert_string_equal(status, "ready");
    assert_string_equal(title, a.title);
    assert_string_equal(owner, OWNER_A);
    assert_true(duration > 4.49 && duration < 4.51);
    assert_int_equal(d->attempts, 0);
    assert_int_equal(d->state, SG_DELIVERY_PENDING);
    json_decref(body);
    sg_delivery_list_free(&k.list);
}

#define UPLOAD(id, state)                                                                          \
    "INSERT INTO uploads VALUES('" id "', '" OWNER_A "', 1, " state ", 'f.mp4', '', '', '[]',"     \
    " '{}', NULL, '', '', '', 5, 5, 0, NULL, '', '', '', 1, 1, 1)"

/* What is being made may yet be undone: it is announced when it is settled. */
static void uploads_tell_when_they_are_settled(void **state)
{
    struct scratch *s = *state;
    struct sg_webhook_fields h = add_hook(s->db, sample_hook(OWNER_A, SG_WEBHOOK_ALL_EVENTS));
    struct sg_asset_fields a = sample_asset();
    memcpy(a.id, "01ARZ3NDEKTSV4RRFFQ69G5FB1", SG_ULID_SIZE);
    a.status = SG_ASSET_PROCESSING;
    run_sql(s->db, UPLOAD("01ARZ3NDEKTSV4RRFFQ69G5FB1", "1"));
    insert_asset(s->db, a);
    run_sql(s->db, "DELETE FROM assets");
    run_sql(s->db, "UPDATE uploads SET state = 0");
    run_sql(s->db, "UPDATE uploads SET state = 1");
    insert_asset(s->db, a);
    run_sql(s->db, "UPDATE assets SET status = 3");
    spread_all(s->db);
    assert_types(s->db, h, "");
    run_sql(s->db, "UPDATE uploads SET state = 2");
    spread_all(s->db);
    assert_types(s->db, h, "upload.completed asset.created asset.ready");
    run_sql(s->db, "DELETE FROM webhook_deliveries");

    memcpy(a.id, "01ARZ3NDEKTSV4RRFFQ69G5FB2", SG_ULID_SIZE);
    run_sql(s->db, UPLOAD("01ARZ3NDEKTSV4RRFFQ69G5FB2", "1"));
    insert_asset(s->db, a);
    run_sql(s->db, "UPDATE assets SET status = 4 WHERE status = 2");
    run_sql(s->db, "UPDATE uploads SET state = 3 WHERE state = 1");
    spread_all(s->db);
    assert_types(s->db, h, "asset.created asset.failed");
}

#define JOB(id, owner)                                                                             \
    "INSERT INTO jobs(id, owner, asset_id, schedule_id, type, payload, priority, state,"           \
    " run_at_ms, attempts, max_attempts, crashes, cancel, lease_ms, lease, depends_on, progress,"  \
    " result, error_slug, error_detail, created_ms, updated_ms, started_ms, finished_ms, blocked," \
    " turn) VALUES('" id "', '" owner "', '', '', 'gc', '{}', 1, 1, 0, 1, 1, 0, 0, 0, '', '[]',"   \
    " '', '', 'slug', 'detail', 1, 1, 1, 1, 0, 0)"

static void jobs_tell_of_their_failure(void **state)
{
    struct scratch *s = *state;
    struct call key;
    struct sg_webhook_fields h = add_hook(s->db, sample_hook(OWNER_A, SG_WEBHOOK_ALL_EVENTS));
    struct sg_webhook_fields admin = add_admin_hook(s->db, &key);
    run_sql(s->db, JOB("J1", OWNER_A));
    run_sql(s->db, JOB("J2", ""));
    run_sql(s->db, "UPDATE jobs SET state = 0");
    run_sql(s->db, "UPDATE jobs SET state = 1");
    run_sql(s->db, "UPDATE jobs SET state = 3 WHERE id = 'J1'");
    run_sql(s->db, "UPDATE jobs SET state = 5 WHERE id = 'J2'");
    spread_all(s->db);
    assert_types(s->db, h, "job.failed");
    assert_types(s->db, admin, "job.failed job.failed");
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM webhook_deliveries WHERE"
                                      " body ->> '$.data.state' = 'dead'"),
                     1);
}

static void everybody_hears_what_is_his(void **state)
{
    struct scratch *s = *state;
    struct call key;
    struct sg_webhook_fields a = add_hook(s->db, sample_hook(OWNER_A, SG_WEBHOOK_ALL_EVENTS));
    struct sg_webhook_fields b = add_hook(s->db, sample_hook(OWNER_B, SG_WEBHOOK_ALL_EVENTS));
    struct sg_webhook_fields admin = add_admin_hook(s->db, &key);
    insert_asset(s->db, sample_asset());
    struct call k = {.event = {SG_WEBHOOK_ALERT_RAISED, "", "{\"name\":\"x\"}", T0}};
    assert_int_equal(sg_db_write(s->db, emit, &k), SG_OK);
    spread_all(s->db);
    assert_types(s->db, a, "upload.completed asset.created asset.ready");
    assert_types(s->db, b, "");
    assert_types(s->db, admin, "upload.completed asset.created asset.ready alert.raised");
    /* One event has one id, whoever hears of it. */
    assert_int_equal(query_u64(s->db, "SELECT count(DISTINCT event_id) FROM webhook_deliveries"),
                     4);

    /* He is no administrator any more. */
    assert_int_equal(sg_db_write(s->db, revoke_key, &key), SG_OK);
    run_sql(s->db, "DELETE FROM assets");
    spread_all(s->db);
    assert_types(s->db, a, "upload.completed asset.created asset.ready asset.deleted");
    assert_types(s->db, admin, "upload.completed asset.created asset.ready alert.raised");
}

static char *first_pending(struct sg_db *db, const char *hook_id, char out[SG_ULID_SIZE])
{
    struct call k = {.query = {.hook_id = hook_id, .state = SG_DELIVERY_PENDING, .limit = 1}};
    assert_int_equal(sg_db_read(db, list, &k), SG_OK);
    assert_int_equal(k.list.n, 1);
    memcpy(out, k.list.items[0]->f.id, SG_ULID_SIZE);
    sg_delivery_list_free(&k.list);
    return out;
}

static void a_delivery_lives(void **state)
{
    struct scratch *s = *state;
    struct sg_webhook_fields h = add_hook(s->db, sample_hook(OWNER_A, 0));
    struct call k = {.id = h.id, .event = {SG_WEBHOOK_PING, OWNER_A, "{}", T0}};
    assert_int_equal(sg_db_write(s->db, ping, &k), SG_OK);
    char id[SG_ULID_SIZE];
    assert_string_equal(first_pending(s->db, h.id, id), k.made);
    k.outcome = (struct sg_delivery_outcome){.id = id,
                                             .state = SG_DELIVERY_PENDING,
                                             .status = 500,
                                             .error = "no",
                                             .latency_ms = 7,
                                             .now_ms = T0 + 10,
                                             .next_ms = T0 + 20};
    assert_int_equal(sg_db_write(s->db, settle, &k), SG_OK);
    assert_int_equal(query_u64(s->db, "SELECT attempts FROM webhook_deliveries"), 1);
    assert_int_equal(query_u64(s->db, "SELECT next_ms FROM webhook_deliveries"), T0 + 20);
    k.outcome.state = SG_DELIVERY_DELIVERED;
    k.outcome.status = 204;
    assert_int_equal(sg_db_write(s->db, settle, &k), SG_OK);
    assert_int_equal(sg_db_write(s->db, settle, &k), SG_ERR_NOT_FOUND);
    assert_int_equal(query_u64(s->db, "SELECT attempts FROM webhook_deliveries"), 2);

    k.delivery = id;
    k.now_ms = T0 + 100;
    assert_int_equal(sg_db_write(s->db, again, &k), SG_OK);
    assert_int_equal(query_u64(s->db, "SELECT since_ms + attempts + ended_ms + state"
                                      " FROM webhook_deliveries"),
                     T0 + 100);
    assert_int_equal(sg_db_write(s->db, settle, &k), SG_OK);
    k.id = OWNER_B; /* not its hook */
    assert_int_equal(sg_db_write(s->db, again, &k), SG_ERR_NOT_FOUND);

    k.now_ms = T0 + 10; /* it ended then */
    assert_int_equal(sg_db_write(s->db, prune, &k), SG_OK);
    assert_int_equal(k.n, 0);
    k.now_ms++;
    assert_int_equal(sg_db_write(s->db, prune, &k), SG_OK);
    assert_int_equal(k.n, 1);
}

static void what_ends_a_hook_ends_what_waits(void **state)
{
    struct scratch *s = *state;
    struct sg_webhook_fields h = add_hook(s->db, sample_hook(OWNER_A, SG_WEBHOOK_ALL_EVENTS));
    struct call k = {.id = h.id, .event = {SG_WEBHOOK_PING, OWNER_A, "{}", T0}};
    assert_int_equal(sg_db_write(s->db, ping, &k), SG_OK);
    char id[SG_ULID_SIZE];
    k.delivery = first_pending(s->db, h.id, id);
    k.hook = h;
    k.hook.enabled = false;
    assert_int_equal(sg_db_write(s->db, update_hook, &k), SG_OK);
    assert_int_equal(query_u64(s->db, "SELECT state FROM webhook_deliveries"), SG_DELIVERY_FAILED);
    assert_int_equal(sg_db_write(s->db, again, &k), SG_ERR_CONFLICT);
    assert_int_equal(sg_db_write(s->db, ping, &k), SG_ERR_CONFLICT);
    insert_asset(s->db, sample_asset());
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM webhook_events"), 0);

    k.hook.enabled = true;
    assert_int_equal(sg_db_write(s->db, update_hook, &k), SG_OK);
    for (int i = 0; i < 700; i++)
        assert_int_equal(sg_db_write(s->db, ping, &k), SG_OK);
    assert_int_equal(sg_db_write(s->db, remove_hook, &k), SG_OK);
    assert_int_equal(sg_db_write(s->db, remove_hook, &k), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_db_write(s->db, ping, &k), SG_ERR_NOT_FOUND);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM webhook_deliveries WHERE state = 0"),
                     0);
    assert_int_equal(sg_db_write(s->db, purge, &k), SG_OK);
    assert_true(k.more);
    assert_int_equal(sg_db_write(s->db, purge, &k), SG_OK);
    assert_false(k.more);
    assert_int_equal(query_u64(s->db, "SELECT (SELECT count(*) FROM webhook_deliveries)"
                                      " + (SELECT count(*) FROM webhooks)"),
                     0);
}

static void owners_have_so_many(void **state)
{
    struct scratch *s = *state;
    struct call k = {.max = 2};
    for (int i = 0; i < 3; i++) {
        k.hook = sample_hook(OWNER_A, 1);
        assert_int_equal(sg_db_write(s->db, insert_hook, &k), i < 2 ? SG_OK : SG_ERR_CONFLICT);
    }
    k.hook = sample_hook(OWNER_B, 1);
    assert_int_equal(sg_db_write(s->db, insert_hook, &k), SG_OK);
}

/* ---- what is due ---- */

struct due {
    struct sg_delivery_due q;
    char ids[16][SG_ULID_SIZE];
    uint64_t next[16];
    size_t n;
};

static enum sg_error note_hook(void *arg, const char *hook_id, uint64_t next_ms)
{
    struct due *d = arg;
    memcpy(d->ids[d->n], hook_id, SG_ULID_SIZE);
    d->next[d->n++] = next_ms;
    return SG_OK;
}

static enum sg_error read_hooks(struct sg_db_conn *c, void *arg)
{
    return sg_delivery_hooks(c, note_hook, arg);
}

static enum sg_error note_due(void *arg, const struct sg_webhook_fields *h,
                              const struct sg_delivery_fields *f)
{
    struct due *d = arg;
    assert_string_equal(h->id, f->hook_id);
    assert_string_equal(h->url, "https://example.com/hook");
    memcpy(d->ids[d->n++], f->id, SG_ULID_SIZE);
    return SG_OK;
}

static enum sg_error read_due(struct sg_db_conn *c, void *arg)
{
    struct due *d = arg;
    return sg_delivery_due(c, &d->q, note_due, d);
}

static void what_is_due_is_found_hook_by_hook(void **state)
{
    struct scratch *s = *state;
    struct sg_webhook_fields h[3];
    struct due d = {0};
    assert_int_equal(sg_db_read(s->db, read_hooks, &d), SG_OK);
    assert_int_equal(d.n, 0);
    for (unsigned i = 0; i < 3; i++) {
        h[i] = add_hook(s->db, sample_hook(OWNER_A, 1));
        for (unsigned n = 0; n < 2 * i; n++) { /* none, two, four */
            struct call k = {.id = h[i].id,
                             .event = {SG_WEBHOOK_PING, OWNER_A, "{}", T0 + 10 * n + i}};
            assert_int_equal(sg_db_write(s->db, ping, &k), SG_OK);
        }
    }
    assert_int_equal(sg_db_read(s->db, read_hooks, &d), SG_OK);
    assert_int_equal(d.n, 2);
    assert_string_equal(d.ids[0], h[1].id);
    assert_string_equal(d.ids[1], h[2].id);
    assert_int_equal(d.next[0], T0 + 1);
    assert_int_equal(d.next[1], T0 + 2);
    d = (struct due){.q = {.hook_id = h[2].id, .now_ms = T0 + 22, .limit = 10}};
    assert_int_equal(sg_db_read(s->db, read_due, &d), SG_OK);
    assert_int_equal(d.n, 3);
    d = (struct due){.q = {.hook_id = h[2].id, .now_ms = T0 + 22, .limit = 2}};
    assert_int_equal(sg_db_read(s->db, read_due, &d), SG_OK);
    assert_int_equal(d.n, 2);
    d = (struct due){.q = {.hook_id = h[2].id, .now_ms = T0 + 1, .limit = 2}};
    assert_int_equal(sg_db_read(s->db, read_due, &d), SG_OK);
    assert_int_equal(d.n, 0);
}

/* ---- being told ---- */

static void count_up(void *arg)
{
    atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

static enum sg_error insert_and_regret(struct sg_db_conn *c, void *arg)
{
    enum sg_error err = insert_asset_closure(c, arg);
    return err ? err : SG_ERR_CANCELLED;
}

/* The triggers' rows count, and the watcher hears of them after they are committed. */
static void who_watches_is_told(void **state)
{
    struct scratch *s = *state;
    _Atomic unsigned told = 0;
    const struct sg_db_watch watch = {SG_WEBHOOK_EVENTS_TABLE, count_up, &told};
    assert_int_equal(sg_db_watch(s->db, &watch), SG_OK);
    insert_asset(s->db, sample_asset());
    assert_int_equal(told, 0); /* nobody wants it */
    add_hook(s->db, sample_hook(OWNER_A, SG_WEBHOOK_ALL_EVENTS));
    assert_int_equal(told, 0);
    insert_asset(s->db, sample_asset());
    assert_int_equal(told, 1);
    struct asset_change change = {.f = sample_asset()};
    assert_int_equal(sg_db_write(s->db, insert_and_regret, &change), SG_ERR_CANCELLED);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM webhook_events"), 3);
    assert_int_equal(sg_db_watch(s->db, NULL), SG_OK);
    unsigned before = told;
    insert_asset(s->db, sample_asset());
    assert_int_equal(told, before);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, scratch_setup_db, scratch_teardown)
    const struct CMUnitTest tests[] = {
        T(nothing_is_written_without_a_hook_that_wants_it),
        T(assets_tell),
        T(a_body_is_what_is_promised),
        T(uploads_tell_when_they_are_settled),
        T(jobs_tell_of_their_failure),
        T(everybody_hears_what_is_his),
        T(a_delivery_lives),
        T(what_ends_a_hook_ends_what_waits),
        T(owners_have_so_many),
        T(what_is_due_is_found_hook_by_hook),
        T(who_watches_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
