/* Looking at a source again: a newer program may know more of it than the one that took it in. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/validate.h"

#include "transcoder.h"

const char *transcoder_source_check(const json_t *payload)
{
    const char *id = json_string_value(json_object_get(payload, "asset_id"));
    if (id == NULL || json_object_size(payload) != 1 || sg_validate_ulid(id, strlen(id)) != NULL)
        return "must be {\"asset_id\": the id of an asset}";
    return NULL;
}

struct looking {
    const char *id;
    struct sg_buf *before;
    void *index;
    size_t index_len;
};

static enum sg_error read_index(struct sg_db_conn *c, void *arg)
{
    struct looking *l = arg;
    return sg_asset_get_index(c, l->id, &l->before);
}

static enum sg_error write_index(struct sg_db_conn *c, void *arg)
{
    const struct looking *l = arg;
    return sg_asset_set_index(c, l->id, l->index, l->index_len);
}

/* Whether segments of both are the same pieces: viewers and caches hold some under their numbers.
 */
static bool same_cuts(const struct sg_media_index *a, const struct sg_media_index *b)
{
    if (a->n_tracks != b->n_tracks || a->fmp4 != b->fmp4 || a->ts != b->ts)
        return false;
    for (uint32_t i = 0; i < a->n_tracks; i++) {
        const struct sg_track *s = &a->tracks[i], *t = &b->tracks[i];
        if (s->n_segments != t->n_segments || strcmp(s->name, t->name) != 0)
            return false;
        if (a->ts && s->is_default != t->is_default) /* the sound in there */
            return false;
        for (uint32_t k = 0; k < s->n_segments; k++)
            if (s->segments[k].start != t->segments[k].start ||
                s->segments[k].duration != t->segments[k].duration)
                return false;
    }
    return true;
}

static enum sg_error look(struct sg_job_run *run, struct sg_services *svc, struct looking *l)
{
    struct sg_media_index *before = NULL, *now = NULL;
    char why[SG_MEDIA_MESSAGE_MAX] = "";
    int fd = -1;
    enum sg_error err = sg_media_index_decode(l->before->data, l->before->len, &before);
    if (err == SG_OK)
        err = sg_blob_open(svc->blobs, l->id, &fd);
    if (err == SG_OK)
        err = sg_media_probe(svc->media, l->id, fd, &svc->media_limits, &now, why);
    if (fd >= 0)
        close(fd);
    if (err != SG_OK && why[0] != '\0')
        err = sg_job_run_fail(run, err, "%s", why);
    if (err == SG_OK && sg_media_index_packaged(before) && !same_cuts(before, now))
        err = sg_job_run_fail(run, SG_ERR_UNPROCESSABLE,
                              "its segments would be others than those that viewers may hold");
    if (err == SG_OK)
        err = sg_media_index_encode(now, &l->index, &l->index_len);
    if (err == SG_OK)
        err = sg_db_write(svc->db, write_index, l);
    sg_media_index_unref(before);
    sg_media_index_unref(now);
    return err;
}

enum sg_error transcoder_probe(struct sg_job_run *run, void *arg)
{
    struct sg_services *svc = arg;
    json_t *payload = json_loads(sg_job_run_job(run)->payload, 0, NULL);
    struct looking l = {.id = json_string_value(json_object_get(payload, "asset_id"))};
    enum sg_error err = l.id != NULL ? sg_db_read(svc->db, read_index, &l) : SG_ERR_INVALID;
    if (err == SG_OK) {
        err = look(run, svc, &l);
        sg_asset_cache_invalidate(svc->assets, l.id);
        sg_content_invalidate(svc->content, l.id, strlen(l.id));
    } else if (err == SG_ERR_NOT_FOUND) {
        err = sg_job_run_fail(run, err, "there is no such asset, or nothing of it to look at");
    }
    if (l.before != NULL)
        sg_buf_unref(l.before);
    free(l.index);
    json_decref(payload);
    return err;
}
