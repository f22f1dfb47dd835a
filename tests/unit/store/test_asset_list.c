/* Lists of assets: search, filters, sorts, pages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "asset_support.h"

/* arg: the id */
static enum sg_error delete_closure(struct sg_db_conn *c, void *arg)
{
    return sg_asset_delete(c, arg, 0);
}

static void search_finds_words_and_beginnings(void **state)
{
    struct scratch *s = *state;
    struct sg_asset_fields f = sample_asset();
    f.title = "Élan vital";
    insert_asset(s->db, f);
    insert_asset(s->db, sample_asset());
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
    struct sg_asset_fields f = sample_asset();
    f.title = "NOT \"quoted\" AND* (NEAR) title:x ^a -b";
    insert_asset(s->db, f);
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
    struct sg_asset_fields f = sample_asset();
    insert_asset(s->db, f);
    f = sample_asset();
    memcpy(f.owner, OWNER_B, SG_ULID_SIZE);
    f.status = SG_ASSET_FAILED;
    f.tags_json = "[\"CARTOON\",\"x\",\"x\"]";
    insert_asset(s->db, f);
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
    struct sg_asset_fields f = sample_asset();
    char title[16];
    snprintf(title, sizeof(title), i % 2 ? "TIE %u" : "tie %u", i / 6); /* ties, in either case */
    f.title = title;
    f.created_ms = 1000 + i / 4;
    f.updated_ms = 5000 - i / 5;
    insert_asset(db, f);
    memcpy(ids[i], f.id, SG_ULID_SIZE);
}

static void disturb(struct sg_db *db, unsigned page, char *last_extra)
{
    if (page)
        assert_int_equal(sg_db_write(db, delete_closure, last_extra), SG_OK);
    struct sg_asset_fields f = sample_asset();
    f.title = page % 2 ? "aaa" : "zzz";
    f.created_ms = page % 2 ? 1 : 9000;
    f.updated_ms = page % 2 ? 1 : 9000;
    insert_asset(db, f);
    memcpy(last_extra, f.id, SG_ULID_SIZE);
}

static void page_through(struct sg_db *db, enum sg_asset_sort sort, char ids[][SG_ULID_SIZE])
{
    unsigned seen[ROWS] = {0}, page = 0;
    char extra[SG_ULID_SIZE] = "";
    char *cursor = NULL;
    do {
        struct asset_listing l = {
            .q = {.status = -1, .sort = sort, .limit = 4, .cursor = cursor, .owner = OWNER_A}};
        assert_int_equal(sg_db_read(db, list_assets_closure, &l), SG_OK);
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
    assert_int_equal(sg_db_write(db, delete_closure, extra), SG_OK);
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
        struct asset_listing l = {
            .q = {.status = -1, .sort = (enum sg_asset_sort)sort, .limit = 200}};
        assert_int_equal(sg_db_read(s->db, list_assets_closure, &l), SG_OK);
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
    insert_asset(s->db, sample_asset());
    insert_asset(s->db, sample_asset());
    struct asset_listing l = {.q = {.status = -1, .sort = SG_SORT_TITLE_ASC, .limit = 1}};
    assert_int_equal(sg_db_read(s->db, list_assets_closure, &l), SG_OK);
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
    struct asset_listing l = {.q = {.status = -1, .limit = 0}};
    assert_int_equal(sg_db_read(s->db, list_assets_closure, &l), SG_ERR_INVALID);
    l.q.limit = 201;
    assert_int_equal(sg_db_read(s->db, list_assets_closure, &l), SG_ERR_INVALID);
    l.q = (struct sg_asset_query){.status = SG_ASSET_STATUS_COUNT, .limit = 1};
    assert_int_equal(sg_db_read(s->db, list_assets_closure, &l), SG_ERR_INVALID);
}

int main(void)
{
#define DB_TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup_db, scratch_teardown)
    const struct CMUnitTest tests[] = {
        DB_TEST(search_finds_words_and_beginnings),
        DB_TEST(search_takes_any_text),
        DB_TEST(filters_combine),
        DB_TEST(pages_neither_repeat_nor_skip),
        DB_TEST(lists_are_sorted),
        DB_TEST(cursors_not_made_here_are_refused),
        DB_TEST(limits_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
