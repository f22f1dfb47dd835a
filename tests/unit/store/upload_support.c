#include "upload_support.h"

#include <string.h>

struct sg_upload_fields sample_upload(void)
{
    struct sg_upload_fields f = {
        .owner = OWNER_A,
        .kind = SG_UPLOAD_CHUNKED,
        .state = SG_UPLOAD_ACTIVE,
        .filename = "bbb.mp4",
        .title = "Big Buck Bunny",
        .description = "A rabbit",
        .tags_json = "[\"cartoon\"]",
        .custom_json = "{\"k\":1}",
        .policy = SG_POLICY_PUBLIC,
        .metadata = "filename YmJi",
        .url = "https://example.org/bbb.mp4",
        .etag = "\"v1\"",
        .has_size = true,
        .size_bytes = 1000,
        .chunk_bytes = 100,
        .has_sha256 = true,
        .sha256 = {9, 8, 7},
        .parts = "01ARZ3NDEKTSV4RRFFQ69G5FAA 01ARZ3NDEKTSV4RRFFQ69G5FAB",
        .error_slug = "",
        .error_detail = "",
        .created_ms = 1000,
        .updated_ms = 1001,
        .expires_ms = 5000,
    };
    sg_ulid_make(f.id);
    return f;
}

static enum sg_error insert_closure(struct sg_db_conn *c, void *arg)
{
    return sg_upload_insert(c, arg);
}

enum sg_error put_upload(struct sg_db *db, const struct sg_upload_fields *f)
{
    struct sg_upload_fields copy = *f;
    return sg_db_write(db, insert_closure, &copy);
}

struct sg_upload_fields new_upload(struct sg_db *db, enum sg_upload_kind kind)
{
    struct sg_upload_fields f = sample_upload();
    f.kind = kind;
    assert_int_equal(put_upload(db, &f), SG_OK);
    return f;
}

struct fetching {
    const char *id;
    struct sg_upload *got;
};

static enum sg_error get_closure(struct sg_db_conn *c, void *arg)
{
    struct fetching *f = arg;
    return sg_upload_get(c, f->id, &f->got);
}

struct sg_upload *fetch_upload(struct sg_db *db, const char *id)
{
    struct fetching f = {.id = id};
    enum sg_error err = sg_db_read(db, get_closure, &f);
    assert_int_equal(err, f.got ? SG_OK : SG_ERR_NOT_FOUND);
    return f.got;
}

static enum sg_error move_closure(struct sg_db_conn *c, void *arg)
{
    return sg_upload_move(c, arg);
}

enum sg_error move_upload(struct sg_db *db, const char *id, enum sg_upload_state from,
                          enum sg_upload_state to)
{
    struct sg_upload_move m = {id, from, to, "unsupported-media", "not a film", 3000, 9000};
    return sg_db_write(db, move_closure, &m);
}

struct dropping {
    const char *id;
};

static enum sg_error delete_closure(struct sg_db_conn *c, void *arg)
{
    const struct dropping *d = arg;
    return sg_upload_delete(c, d->id);
}

enum sg_error drop_upload(struct sg_db *db, const char *id)
{
    struct dropping d = {id};
    return sg_db_write(db, delete_closure, &d);
}

static enum sg_error chunk_closure(struct sg_db_conn *c, void *arg)
{
    return sg_upload_chunk_put(c, arg);
}

enum sg_error put_chunk(struct sg_db *db, const char *id, uint64_t number, uint64_t len,
                        uint8_t fill)
{
    struct sg_upload_chunk chunk = {
        .upload_id = id, .number = number, .len = len, .now_ms = 2000 + number, .expires_ms = 7000};
    memset(chunk.sha256, fill, sizeof(chunk.sha256));
    return sg_db_write(db, chunk_closure, &chunk);
}

struct counting {
    const char *owner;
    struct sg_usage usage;
};

static enum sg_error usage_closure(struct sg_db_conn *c, void *arg)
{
    struct counting *u = arg;
    return sg_usage_get(c, u->owner, &u->usage);
}

struct sg_usage usage_of(struct sg_db *db, const char *owner)
{
    struct counting u = {.owner = owner};
    assert_int_equal(sg_db_read(db, usage_closure, &u), SG_OK);
    return u.usage;
}
