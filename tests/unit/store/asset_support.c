#include "asset_support.h"

#include <string.h>

struct sg_asset_fields sample_asset(void)
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

enum sg_error insert_asset_closure(struct sg_db_conn *c, void *arg)
{
    struct asset_change *ch = arg;
    return sg_asset_insert(c, &ch->f, ch->index, ch->index_len);
}

void insert_asset(struct sg_db *db, struct sg_asset_fields f)
{
    struct asset_change ch = {.f = f};
    assert_int_equal(sg_db_write(db, insert_asset_closure, &ch), SG_OK);
}

enum sg_error list_assets_closure(struct sg_db_conn *c, void *arg)
{
    struct asset_listing *l = arg;
    return sg_asset_list(c, &l->q, &l->list);
}

size_t matches(struct sg_db *db, struct sg_asset_query q)
{
    struct asset_listing l = {.q = q};
    l.q.limit = 200;
    enum sg_error err = sg_db_read(db, list_assets_closure, &l);
    size_t n = l.list.n;
    sg_asset_list_free(&l.list);
    if (err)
        assert_int_equal(err, SG_ERR_INVALID);
    return err ? SIZE_MAX : n;
}

size_t found(struct sg_db *db, const char *text)
{
    return matches(db, (struct sg_asset_query){.text = text, .status = -1});
}

size_t tagged(struct sg_db *db, const char *tag)
{
    return matches(db, (struct sg_asset_query){.tag = tag, .status = -1});
}
