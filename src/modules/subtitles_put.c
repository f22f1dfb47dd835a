/* A sidecar file of subtitles: the body is kept in memory (it is small), made into WebVTT by a
 * media process, and written as a track. The daemon itself never looks into it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/metrics.h"

#include "subtitles.h"

/* A body coming in. */
struct sidecar {
    int fd; /* memfd */
    uint64_t size;
    struct sg_subtitle track;
};

static void sidecar_free(struct sg_request *req, void *state)
{
    (void)req;
    struct sidecar *s = state;
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}

static enum sg_error query_flag(struct sg_request *req, const char *name, bool *out)
{
    const char *value;
    enum sg_error err = sg_request_query(req, name, &value);
    if (err != SG_OK || value == NULL)
        return err;
    *out = strcmp(value, "true") == 0;
    if (!*out && strcmp(value, "false") != 0)
        return sg_request_fail(req, SG_ERR_INVALID, name, "must be true or false");
    return SG_OK;
}

static enum sg_error query_track(struct sg_request *req, struct sg_subtitle *t)
{
    const char *label, *kind;
    enum sg_error err = subtitles_language(req, t->language);
    if (err == SG_OK) {
        sg_language_shorten(t->language);
        err = sg_request_query(req, "label", &label);
    }
    if (err == SG_OK)
        err = sg_request_query(req, "kind", &kind);
    if (err == SG_OK)
        err = query_flag(req, "default", &t->is_default);
    if (err == SG_OK)
        err = query_flag(req, "forced", &t->forced);
    if (err != SG_OK)
        return err;
    size_t len = label != NULL ? strlen(label) : 0;
    if (!subtitles_label_holds(label, len))
        return sg_request_fail(req, SG_ERR_INVALID, "label", SUBTITLE_LABEL_RULE);
    if (len > 0)
        memcpy(t->label, label, len);
    if (kind != NULL && sg_subtitle_kind_parse(kind, &t->kind) != SG_OK)
        return sg_request_fail(req, SG_ERR_INVALID, "kind", "must be subtitles or captions");
    return SG_OK;
}

/* Everything that the headers tell is refused before a byte of the body. */
enum sg_error subtitles_put_begin(struct sg_request *req)
{
    struct sg_subtitle track = {0};
    struct sg_asset_entry *e;
    enum sg_error err = sg_asset_load_owned(req, false, &e);
    if (err != SG_OK)
        return err;
    sg_asset_entry_unref(e);
    err = query_track(req, &track);
    if (err != SG_OK)
        return err;
    struct sidecar *s = calloc(1, sizeof *s);
    if (s == NULL)
        return SG_ERR_NO_MEMORY;
    s->track = track;
    s->fd = memfd_create("subtitles", MFD_CLOEXEC);
    if (s->fd < 0) {
        free(s);
        return sg_error_from_errno(errno);
    }
    req->state = s;
    req->state_free = sidecar_free;
    return SG_OK;
}

enum sg_error subtitles_put_data(struct sg_request *req, const uint8_t *data, size_t len)
{
    struct sidecar *s = req->state;
    enum sg_error err = sg_fs_pwrite_all(s->fd, data, len, s->size);
    s->size += len;
    return err;
}

static enum sg_error convert(struct sg_request *req, const struct sidecar *s,
                             struct sg_subtitle_text *out)
{
    char why[SG_MEDIA_MESSAGE_MAX];
    enum sg_error err =
        sg_subtitles_convert(req->svc->media, s->fd, &req->svc->media_limits, out, why);
    if (err == SG_OK)
        return SG_OK;
    sg_metric_add(SG_METRIC_SUBTITLES_REFUSED, subtitles_series[1][SG_SUBTITLE_SIDECAR], 1);
    return why[0] != '\0' ? sg_request_fail(req, err, NULL, "%s", why) : err;
}

static enum sg_error write_track(struct sg_db_conn *c, struct subtitles_change *ch)
{
    const struct sg_subtitle_put put = {.asset_id = ch->asset_id,
                                        .track = &ch->track,
                                        .text = ch->text->text->data,
                                        .text_len = ch->text->text->len};
    return sg_subtitle_put(c, &put, &ch->created);
}

enum sg_error subtitles_put(struct sg_request *req, struct sg_response *res)
{
    struct sidecar *s = req->state;
    struct sg_asset_entry *e;
    struct sg_subtitle_text text = {0};
    if (!req->may_block)
        return SG_ERR_WOULD_BLOCK;
    enum sg_error err = sg_asset_load_owned(req, false, &e); /* it may have gone meanwhile */
    if (err != SG_OK)
        return err;
    struct subtitles_change ch = {.req = req,
                                  .asset_id = sg_arena_strdup(req->arena, e->asset->f.id),
                                  .action = "subtitles.put",
                                  .track = s->track,
                                  .text = &text,
                                  .write = write_track};
    sg_asset_entry_unref(e);
    err = ch.asset_id != NULL ? convert(req, s, &text) : SG_ERR_NO_MEMORY;
    if (err != SG_OK)
        return err;
    ch.track.cues = text.cues;
    ch.track.created_ms = ch.track.updated_ms = sg_clock_wall_ms();
    err = subtitles_commit(&ch);
    sg_buf_unref(text.text);
    if (err != SG_OK)
        return err;
    sg_metric_add(SG_METRIC_SUBTITLES_WRITTEN, subtitles_series[0][SG_SUBTITLE_SIDECAR], 1);
    return subtitles_answer(req, res, ch.created ? 201 : 200, s->track.language);
}
