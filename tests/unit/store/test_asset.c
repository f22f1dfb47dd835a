/* Assets: rows, versions, search, pages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/store/asset_store.h"

#include "store_support.h"

#define OWNER_A "01ARZ3NDEKTSV4RRFFQ69G5FAA"
#define OWNER_B "01ARZ3NDEKTSV4RRFFQ69G5FAB"

static struct sg_asset_fields sample(void)
{
    struct sg_asset_fields f = {
        .owner = OWNER_A,
        .status = SG_ASSET_READY,
        .policy = SG_POLICY_SIGNED,
        .title = "Big Buck Bunny",
        .description = "A rabbit, three rodents",
        .tags_json = "[\"cartoon\",\"open movie\"]",
        .custom_json = "{\"k\":1}",
        .filename = "bbb.mp4",
        .size_bytes = 123456789012,
        .sha256 = {1, 2, 3},
        .content_type = "video/mp4",
        .duration_ms = 596000,
        .width = 1920,
        .height = 1080,
        .video_codec = "h264",
        .audio_codec = "aac",
        .frame_rate_num = 30000,
        .frame_rate_den = 1001,
        .error = "",
        .version = 1,
        .created_ms = 1000,
        .updated_ms = 1000,
    };
    sg_ulid_make(f.id);
    return f;
}

struct change {
    struct sg_asset_fields f;
    uint64_t version;
    const void *index;
    size_t index_len;
};

static enum sg_error insert_closure(struct sg_db_conn *c, void *arg)
{
    struct change *ch = arg;
    return sg_asset_insert(c, &ch->f, ch->index, ch->index_len);
}

static enum sg_error update_closure(struct sg_db_conn *c, void *arg)
{
    struct change *ch = arg;
    return sg_asset_update(c, &ch->f, ch->version);
}

static enum sg_error delete_closure(struct sg_db_conn *c, void *arg)
{
    struct change *ch = arg;
    return sg_asset_delete(c, ch->f.id, ch->version);
}

static enum sg_error fail_closure(struct sg_db_conn *c, void *arg)
{
    struct change *ch = arg;
    return sg_asset_mark_failed(c, ch->f.id, "cannot be decoded");
}

static void insert(struct sg_db *db, struct sg_asset_fields f)
{
    struct change ch = {.f = f};
    assert_int_equal(sg_db_write(db, insert_closure, &ch), SG_OK);
}

struct fetch {
    const char *id;
    struct sg_asset *asset;
    struct sg_buf *index;
};

static enum sg_error get_closure(struct sg_db_conn *c, void *arg)
{
    struct fetch *f = arg;
    return sg_asset_get(c, f->id, &f->asset);
}

static enum sg_error index_closure(struct sg_db_conn *c, void *arg)
{
    struct fetch *f = arg;
    return sg_asset_get_index(c, f->id, &f->index);
}

static void assert_same(const struct sg_asset_fields *a, const struct sg_asset_fields *b)
{
    assert_string_equal(a->id, b->id);
    assert_string_equal(a->owner, b->owner);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->policy, b->policy);
    assert_string_equal(a->title, b->title);
    assert_string_equal(a->description, b->description);
    assert_string_equal(a->tags_json, b->tags_json);
    assert_string_equal(a->custom_json, b->custom_json);
    assert_string_equal(a->filename, b->filename);
    assert_int_equal(a->size_bytes, b->size_bytes);
    assert_memory_equal(a->sha256, b->sha256, SG_SHA256_LEN);
    assert_string_equal(a->content_type, b->content_type);
    assert_int_equal(a->duration_ms, b->duration_ms);
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_string_equal(a->video_codec, b->video_codec);
    assert_string_equal(a->audio_codec, b->audio_codec);
    assert_int_equal(a->frame_rate_num, b->frame_rate_num);
    assert_int_equal(a->frame_rate_den, b->frame_rate_den);
    assert_string_equal(a->error, b->error);
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->created_ms, b->created_ms);
    assert_int_equal(a->updated_ms, b->updated_ms);
}

static void asset_comes_back_as_it_went_in(void **state)
{
    struct scratch *s = *state;
    uint8_t index[1000];
    memset(index, 0xa5, sizeof(index));
    struct change ch = {.f = sample(), .index = index, .index_len = sizeof(index)};
    assert_int_equal(sg_db_write(s->db, insert_closure, &ch), SG_OK);
    assert_int_equal(sg_db_write(s->db, insert_closure, &ch), SG_ERR_EXISTS);
    struct fetch f = {.id = ch.f.id};
    assert_int_equal(sg_db_read(s->db, get_closure, &f), SG_OK);
    assert_same(&f.asset->f, &ch.f);
    assert_true(sg_asset_weight(f.asset) > sizeof(struct sg_asset) + strlen(ch.f.title));
    sg_asset_unref(sg_asset_ref(f.asset));
    sg_asset_unref(f.asset);
    assert_int_equal(sg_db_read(s->db, index_closure, &f), SG_OK);
    assert_int_equal(f.index->len, sizeof(index));
    assert_memory_equal(f.index->data, index, sizeof(index));
    sg_buf_unref(f.index);
    struct sg_asset_fields other = sample();
    insert(s->db, other);
    f = (struct fetch){.id = other.id};
    assert_int_equal(sg_db_read(s->db, index_closure, &f), SG_ERR_NOT_FOUND);
    f.id = "nobody";
    assert_int_equal(sg_db_read(s->db, get_closure, &f), SG_ERR_NOT_FOUND);
    assert_null(f.asset);
}

static void bad_rows_are_refused_whole(void **state)
{
    struct scratch *s = *state;
    struct change ch = {.f = sample()};
    ch.f.tags_json = "{\"not\":\"an array\"}";
    assert_int_equal(sg_db_write(s->db, insert_closure, &ch), SG_ERR_INVALID);
    ch.f.tags_json = "[1]";
    assert_int_equal(sg_db_write(s->db, insert_closure, &ch), SG_ERR_INVALID);
    ch.f.tags_json = "[]";
    ch.f.size_bytes = UINT64_MAX;
    assert_int_equal(sg_db_write(s->db, insert_closure, &ch), SG_ERR_INVALID);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM assets"), 0);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM asset_tags"), 0);
    ch.f.size_bytes = INT64_MAX;
    assert_int_equal(sg_db_write(s->db, insert_closure, &ch), SG_OK);
    /* A policy this program does not know must not pass for one it does. */
    run_sql(s->db, "UPDATE assets SET policy = 77");
    struct fetch f = {.id = ch.f.id};
    assert_int_equal(sg_db_read(s->db, get_closure, &f), SG_ERR_IO);
}

struct listing {
    struct sg_asset_query q;
    struct sg_asset_list list;
};

static enum sg_error list_closure(struct sg_db_conn *c, void *arg)
{
    struct listing *l = arg;
    return sg_asset_list(c, &l->q, &l->list);
}

/* How many there are; SIZE_MAX when the query is refused. */
static size_t matches(struct sg_db *db, struct sg_asset_query q)
{
    struct listing l = {.q = q};
    l.q.limit = 200;
    enum sg_error err = sg_db_read(db, list_closure, &l);
    size_t n = l.list.n;
    sg_asset_list_free(&l.list);
    if (err)
        assert_int_equal(err, SG_ERR_INVALID);
    return err ? SIZE_MAX : n;
}

static size_t found(struct sg_db *db, const char *text)
{
    return matches(db, (struct sg_asset_query){.text = text, .status = -1});
}

static size_t tagged(struct sg_db *db, const char *tag)
{
    return matches(db, (struct sg_asset_query){.tag = tag, .status = -1});
}

static void update_needs_the_right_version(void **state)
{
    struct scratch *s = *state;
    struct change ch = {.f = sample(), .version = 1};
    insert(s->db, ch.f);
    ch.f.title = "Sintel";
    ch.f.description = "";
    ch.f.tags_json = "[\"dragon\"]";
    ch.f.policy = SG_POLICY_PUBLIC;
    ch.f.updated_ms = 2000;
    ch.f.size_bytes = 1; /* not one of the mutable fields */
    assert_int_equal(sg_db_write(s->db, update_closure, &ch), SG_OK);
    assert_int_equal(sg_db_write(s->db, update_closure, &ch), SG_ERR_PRECONDITION_FAILED);
    struct fetch f = {.id = ch.f.id};
    assert_int_equal(sg_db_read(s->db, get_closure, &f), SG_OK);
    assert_string_equal(f.asset->f.title, "Sintel");
    assert_int_equal(f.asset->f.version, 2);
    assert_int_equal(f.asset->f.updated_ms, 2000);
    assert_int_equal(f.asset->f.created_ms, 1000);
    assert_int_equal(f.asset->f.policy, SG_POLICY_PUBLIC);
    assert_int_equal(f.asset->f.size_bytes, 123456789012);
    sg_asset_unref(f.asset);
    assert_int_equal(found(s->db, "bunny"), 0);
    assert_int_equal(found(s->db, "sintel"), 1);
    assert_int_equal(tagged(s->db, "cartoon"), 0);
    assert_int_equal(tagged(s->db, "dragon"), 1);
    sg_ulid_make(ch.f.id);
    assert_int_equal(sg_db_write(s->db, update_closure, &ch), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_db_write(s->db, fail_closure, &ch), SG_ERR_NOT_FOUND);
}

static void failure_is_marked(void **state)
{
    struct scratch *s = *state;
    struct change ch = {.f = sample()};
    insert(s->db, ch.f);
    assert_int_equal(sg_db_write(s->db, fail_closure, &ch), SG_OK);
    struct fetch f = {.id = ch.f.id};
    assert_int_equal(sg_db_read(s->db, get_closure, &f), SG_OK);
    assert_int_equal(f.asset->f.status, SG_ASSET_FAILED);
    assert_string_equal(f.asset->f.error, "cannot be decoded");
    assert_int_equal(f.asset->f.version, 2);
    assert_true(f.asset->f.updated_ms > 1000);
    sg_asset_unref(f.asset);
    assert_int_equal(sg_db_write(s->db, fail_closure, &ch), SG_ERR_EXISTS);
    assert_int_equal(query_u64(s->db, "SELECT version FROM assets"), 2);
}

static void deletion_leaves_nothing(void **state)
{
    struct scratch *s = *state;
    struct change ch = {.f = sample(), .version = 2, .index = "i", .index_len = 1};
    assert_int_equal(sg_db_write(s->db, insert_closure, &ch), SG_OK);
    assert_int_equal(sg_db_write(s->db, delete_closure, &ch), SG_ERR_PRECONDITION_FAILED);
    ch.version = 0;
    assert_int_equal(sg_db_write(s->db, delete_closure, &ch), SG_OK);
    assert_int_equal(sg_db_write(s->db, delete_closure, &ch), SG_ERR_NOT_FOUND);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM assets"), 0);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM asset_tags"), 0);
    assert_int_equal(query_u64(s->db, "SELECT count(*) FROM asset_indexes"), 0);
    assert_int_equal(found(s->db, "bunny"), 0);
    run_sql(s->db, "INSERT INTO asset_search(asset_search) VALUES('integrity-check')");
    /* The next asset may get the number of the last: it must not inherit its words. */
    ch.f = sample();
    ch.f.title = "Sintel";
    insert(s->db, ch.f);
    assert_int_equal(found(s->db, "bunny"), 0);
    assert_int_equal(found(s->db, "sintel"), 1);
}

static void search_finds_words_and_beginnings(void **state)
{
    struct scratch *s = *state;
    struct sg_asset_fields f = sample();
    f.title = "Élan vital";
    insert(s->db, f);
    insert(s->db, sample());
    assert_int_equal(found(s->db, "elan"), 1); /* without its accent */
    assert_int_equal(found(s->db, "bunny BIG"), 1);
    assert_int_equal(found(s->db, "bunny elan"), 0);
    assert_int_equal(found(s->db, "big bun"), 1); /* the last word may be a beginning */
    assert_int_equal(found(s->db, "bun big"), 0); /* others may not */
    assert_int_equal(found(s->db, "cartoon"), 2);
    assert_int_equal(found(s->db, "bbb.mp4"), 2);
    assert_int_equal(found(s->db, "rodents"), 2);
    assert_int_equal(found(s->db, ""), 2);
    assert_int_equal(found(s->db, " \t\n"), 2);
}

static void search_takes_any_text(void **state)
{
    struct scratch *s = *state;
    struct sg_asset_fields f = sample();
    f.title = "NOT \"quoted\" AND* (NEAR) title:x ^a -b";
    insert(s->db, f);
    static const char *const hostile[] = {
        "\"",
        "\"\"",
        "\"\"\"",
        "\" OR \"",
        "*",
        "**",
        "(",
        ")",
        "a AND",
        "NOT",
        "NEAR(",
        "NEAR(a b)",
        "title:",
        "title:x",
        "{title}:x",
        "^",
        "^bunny",
        "+",
        "a + b",
        "-",
        "- -",
        "'",
        "';--",
        "\\",
        "\x01",
        "\xc3\xa9",
        "\xe2\x80\x8b",
        "\xf0\x9f\x90\xb0",
        "%",
        "_",
        "OR OR OR",
        "!!! ???",
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(hostile); i++)
        if (found(s->db, hostile[i]) > 1)
            fail_msg("\"%s\" was not taken as text", hostile[i]);
    assert_int_equal(found(s->db, "\"quoted\""), 1);
    assert_int_equal(found(s->db, "NOT AND* (NEAR)"), 1);
    assert_int_equal(found(s->db, "title:x"), 1); /* the words title and x, side by side */
    assert_int_equal(found(s->db, "filename:x"), 0);
    assert_int_equal(found(s->db, "\xff\xfe"), SIZE_MAX);
    char many[200] = {0};
    for (size_t i = 0; i + 2 < sizeof(many); i += 2)
        memcpy(many + i, "a ", 2);
    assert_int_equal(found(s->db, many), SIZE_MAX);
    char longest[2000];
    memset(longest, 'a', sizeof(longest));
    longest[1024] = '\0';
    assert_int_equal(found(s->db, longest), 0);
    longest[1024] = 'a';
    longest[1999] = '\0';
    assert_int_equal(found(s->db, longest), SIZE_MAX);
}

static void filters_combine(void **state)
{
    struct scratch *s = *state;
    struct sg_asset_fields f = sample();
    insert(s->db, f);
    f = sample();
    memcpy(f.owner, OWNER_B, SG_ULID_SIZE);
    f.status = SG_ASSET_FAILED;
    f.tags_json = "[\"CARTOON\",\"x\",\"x\"]";
    insert(s->db, f);
    struct sg_asset_query any = {.status = -1}, q = any;
    assert_int_equal(matches(s->db, any), 2);
    q.owner = OWNER_B;
    assert_int_equal(matches(s->db, q), 1);
    q.status = SG_ASSET_READY;
    assert_int_equal(matches(s->db, q), 0);
    q.status = SG_ASSET_FAILED;
    q.tag = "x";
    q.text = "bunny";
    assert_int_equal(matches(s->db, q), 1);
    q.owner = OWNER_A;
    assert_int_equal(matches(s->db, q), 0);
    assert_int_equal(tagged(s->db, "cartoon"), 1);
    assert_int_equal(tagged(s->db, "open movie"), 1);
    assert_int_equal(tagged(s->db, "open"), 0);
}

/* Reads all pages; between them rows arrive and leave. Every row that was there all along must be
 * seen exactly once and in order. */
#define ROWS 30

static void insert_numbered(struct sg_db *db, unsigned i, char ids[][SG_ULID_SIZE])
{
    struct sg_asset_fields f = sample();
    char title[16];
    snprintf(title, sizeof(title), i % 2 ? "TIE %u" : "tie %u", i / 6); /* ties, in either case */
    f.title = title;
    f.created_ms = 1000 + i / 4;
    f.updated_ms = 5000 - i / 5;
    insert(db, f);
    memcpy(ids[i], f.id, SG_ULID_SIZE);
}

static void disturb(struct sg_db *db, unsigned page, char *last_extra)
{
    struct change gone = {0};
    memcpy(gone.f.id, last_extra, SG_ULID_SIZE);
    if (page)
        assert_int_equal(sg_db_write(db, delete_closure, &gone), SG_OK);
    struct sg_asset_fields f = sample();
    f.title = page % 2 ? "aaa" : "zzz";
    f.created_ms = page % 2 ? 1 : 9000;
    f.updated_ms = page % 2 ? 1 : 9000;
    insert(db, f);
    memcpy(last_extra, f.id, SG_ULID_SIZE);
}

static void page_through(struct sg_db *db, enum sg_asset_sort sort, char ids[][SG_ULID_SIZE])
{
    unsigned seen[ROWS] = {0}, page = 0;
    char extra[SG_ULID_SIZE] = "";
    char *cursor = NULL;
    do {
        struct listing l = {
            .q = {.status = -1, .sort = sort, .limit = 4, .cursor = cursor, .owner = OWNER_A}};
        assert_int_equal(sg_db_read(db, list_closure, &l), SG_OK);
        for (size_t i = 0; i < l.list.n; i++)
            for (unsigned j = 0; j < ROWS; j++)
                seen[j] += strcmp(ids[j], l.list.items[i]->f.id) == 0;
        free(cursor);
        cursor = l.list.next_cursor;
        l.list.next_cursor = NULL;
        assert_true(cursor == NULL || l.list.n == 4);
        sg_asset_list_free(&l.list);
        disturb(db, page++, extra);
        assert_true(page < 100);
    } while (cursor);
    for (unsigned j = 0; j < ROWS; j++)
        assert_int_equal(seen[j], 1);
    struct change gone = {0};
    memcpy(gone.f.id, extra, SG_ULID_SIZE);
    assert_int_equal(sg_db_write(db, delete_closure, &gone), SG_OK);
}

static void pages_neither_repeat_nor_skip(void **state)
{
    struct scratch *s = *state;
    char ids[ROWS][SG_ULID_SIZE];
    for (unsigned i = 0; i < ROWS; i++)
        insert_numbered(s->db, i, ids);
    for (unsigned sort = 0; sort < SG_SORT_COUNT; sort++)
        page_through(s->db, (enum sg_asset_sort)sort, ids);
}

static void lists_are_sorted(void **state)
{
    struct scratch *s = *state;
    char ids[ROWS][SG_ULID_SIZE];
    for (unsigned i = 0; i < ROWS; i++)
        insert_numbered(s->db, i, ids);
    for (unsigned sort = 0; sort < SG_SORT_COUNT; sort++) {
        struct listing l = {.q = {.status = -1, .sort = (enum sg_asset_sort)sort, .limit = 200}};
        assert_int_equal(sg_db_read(s->db, list_closure, &l), SG_OK);
        assert_int_equal(l.list.n, ROWS);
        assert_null(l.list.next_cursor);
        for (size_t i = 1; i < l.list.n; i++) {
            const struct sg_asset_fields *a = &l.list.items[i - 1]->f, *b = &l.list.items[i]->f;
            if (sort == SG_SORT_CREATED_DESC)
                assert_true(a->created_ms >= b->created_ms);
            if (sort == SG_SORT_CREATED_ASC)
                assert_true(a->created_ms <= b->created_ms);
            if (sort == SG_SORT_UPDATED_DESC)
                assert_true(a->updated_ms >= b->updated_ms);
            if (sort == SG_SORT_TITLE_ASC)
                assert_true(strcasecmp(a->title, b->title) <= 0);
        }
        sg_asset_list_free(&l.list);
    }
}

static void cursors_not_made_here_are_refused(void **state)
{
    struct scratch *s = *state;
    insert(s->db, sample());
    insert(s->db, sample());
    struct listing l = {.q = {.status = -1, .sort = SG_SORT_TITLE_ASC, .limit = 1}};
    assert_int_equal(sg_db_read(s->db, list_closure, &l), SG_OK);
    char *cursor = l.list.next_cursor;
    assert_non_null(cursor);
    l.list.next_cursor = NULL;
    sg_asset_list_free(&l.list);
    struct sg_asset_query q = {.status = -1, .sort = SG_SORT_TITLE_ASC, .cursor = cursor};
    assert_int_equal(matches(s->db, q), 1);
    q.sort = SG_SORT_CREATED_ASC; /* of another list */
    assert_int_equal(matches(s->db, q), SIZE_MAX);
    q.sort = SG_SORT_TITLE_ASC;
    for (size_t i = 0; cursor[i]; i++) {
        char kept = cursor[i];
        cursor[i] = kept == 'A' ? 'B' : 'A';
        assert_int_equal(matches(s->db, q), SIZE_MAX);
        cursor[i] = kept;
    }
    cursor[strlen(cursor) - 4] = '\0';
    assert_int_equal(matches(s->db, q), SIZE_MAX);
    free(cursor);
    static const char *const bad[] = {"", "A", "AAAA", "!!!!", "' OR 1=1 --", "\xff"};
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        q.cursor = bad[i];
        assert_int_equal(matches(s->db, q), SIZE_MAX);
    }
    char longest[5000];
    memset(longest, 'A', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    q.cursor = longest;
    assert_int_equal(matches(s->db, q), SIZE_MAX);
}

static void limits_hold(void **state)
{
    struct scratch *s = *state;
    struct listing l = {.q = {.status = -1, .limit = 0}};
    assert_int_equal(sg_db_read(s->db, list_closure, &l), SG_ERR_INVALID);
    l.q.limit = 201;
    assert_int_equal(sg_db_read(s->db, list_closure, &l), SG_ERR_INVALID);
    l.q = (struct sg_asset_query){.status = SG_ASSET_STATUS_COUNT, .limit = 1};
    assert_int_equal(sg_db_read(s->db, list_closure, &l), SG_ERR_INVALID);
}

static enum sg_error count_id(void *arg, const char *id)
{
    unsigned *n = arg;
    assert_int_equal(strlen(id), SG_ULID_SIZE - 1);
    return ++*n == 3 ? SG_ERR_CANCELLED : SG_OK;
}

static enum sg_error each_closure(struct sg_db_conn *c, void *arg)
{
    return sg_asset_each_id(c, count_id, arg);
}

static void each_id_visits_all_until_told_to_stop(void **state)
{
    struct scratch *s = *state;
    unsigned n = 0;
    insert(s->db, sample());
    insert(s->db, sample());
    assert_int_equal(sg_db_read(s->db, each_closure, &n), SG_OK);
    assert_int_equal(n, 2);
    insert(s->db, sample());
    insert(s->db, sample());
    n = 0;
    assert_int_equal(sg_db_read(s->db, each_closure, &n), SG_ERR_CANCELLED);
    assert_int_equal(n, 3);
}

static void names_parse_back(void **state)
{
    (void)state;
    enum sg_asset_status status = SG_ASSET_CREATED;
    enum sg_asset_policy policy = SG_POLICY_PUBLIC;
    enum sg_asset_sort sort = SG_SORT_CREATED_DESC;
    for (unsigned i = 0; i < SG_ASSET_STATUS_COUNT; i++) {
        const char *name = sg_asset_status_name((enum sg_asset_status)i);
        assert_int_equal(sg_asset_status_parse(name, &status), SG_OK);
        assert_int_equal(status, i);
    }
    for (unsigned i = 0; i < SG_POLICY_COUNT; i++) {
        const char *name = sg_asset_policy_name((enum sg_asset_policy)i);
        assert_int_equal(sg_asset_policy_parse(name, &policy), SG_OK);
        assert_int_equal(policy, i);
    }
    assert_int_equal(sg_asset_status_parse("READY", &status), SG_ERR_INVALID);
    assert_int_equal(sg_asset_policy_parse("", &policy), SG_ERR_INVALID);
    assert_int_equal(sg_asset_sort_parse("-updated_at", &sort), SG_OK);
    assert_int_equal(sort, SG_SORT_UPDATED_DESC);
    assert_int_equal(sg_asset_sort_parse("size", &sort), SG_ERR_INVALID);
}

int main(void)
{
#define DB_TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup_db, scratch_teardown)
    const struct CMUnitTest tests[] = {
        DB_TEST(asset_comes_back_as_it_went_in),
        DB_TEST(bad_rows_are_refused_whole),
        DB_TEST(update_needs_the_right_version),
        DB_TEST(failure_is_marked),
        DB_TEST(deletion_leaves_nothing),
        DB_TEST(search_finds_words_and_beginnings),
        DB_TEST(search_takes_any_text),
        DB_TEST(filters_combine),
        DB_TEST(pages_neither_repeat_nor_skip),
        DB_TEST(lists_are_sorted),
        DB_TEST(cursors_not_made_here_are_refused),
        DB_TEST(limits_hold),
        DB_TEST(each_id_visits_all_until_told_to_stop),
        cmocka_unit_test(names_parse_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
