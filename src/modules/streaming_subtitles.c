/* Subtitles of a film: the whole text of a language, and cut into segments for HLS. Their text may
 * be replaced, so unlike the segments of pictures they are fetched again after a moment, by an ETag
 * that changes with the text. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "streamgate/media/subtitle_playlist.h"
#include "streamgate/modules/modules.h"

#include "streaming.h"

#define TYPE_VTT "text/vtt"

/* What is made of the text of a track; number: of the segment. */
struct making {
    struct stream_content content;
    struct sg_asset_entry *entry;
    const char *language;
    enum sg_error (*make)(struct sg_request *req, const struct making *m, struct sg_buf **out);
    uint32_t number;
};

/* The asset of {id} and the track of {lang}, in whatever spelling. */
static enum sg_error open_track(struct sg_request *req, struct making *m)
{
    const char *asked = sg_request_param(req, "lang");
    char language[SG_LANGUAGE_SIZE] = "";
    enum sg_error err = stream_open_asset(req, &m->entry);
    if (err != SG_OK)
        return err;
    bool good = sg_language_parse(asked, strlen(asked), language) == SG_OK;
    const struct sg_presentation *shows = m->entry->shows;
    for (uint32_t i = 0; good && i < shows->n_texts; i++) {
        if (strcmp(shows->texts[i].language, language) == 0) {
            m->language = shows->texts[i].language;
            return SG_OK;
        }
    }
    sg_asset_entry_unref(m->entry);
    m->entry = NULL;
    return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL,
                           "the asset has no subtitles of this language");
}

/* The tag of all that is offered is in the key: it changes with the text. */
static void make_key(struct making *m, const char *form)
{
    char track[sizeof "subs-" + SG_LANGUAGE_SIZE];
    snprintf(track, sizeof track, "subs-%s", m->language);
    stream_make_key(&m->content, m->entry->asset->f.id, track, form, m->entry->shows->tag);
}

/* From memory, or made once on a thread that may block however many ask. */
static enum sg_error answer(struct sg_request *req, struct sg_response *res, struct making *m)
{
    struct stream_content *c = &m->content;
    const struct sg_asset *asset = m->entry->asset;
    struct sg_buf *buf = NULL;
    if (req->woken) {
        if (req->wake_err != SG_OK)
            return req->wake_err;
        buf = req->wake_buf;
        req->wake_buf = NULL;
        return stream_answer(req, res, asset, c, buf);
    }
    if (!req->may_block) {
        buf = sg_content_peek(req->svc->content, c->key, c->key_len);
        return buf != NULL ? stream_answer(req, res, asset, c, buf) : SG_ERR_WOULD_BLOCK;
    }
    req->waiter = (struct sg_waiter){.wake = sg_request_wake, .arg = req};
    switch (sg_content_get(req->svc->content, c->key, c->key_len, &req->waiter, &buf)) {
    case SG_CONTENT_HIT:
        return stream_answer(req, res, asset, c, buf);
    case SG_CONTENT_WAIT:
        return SG_ERR_PENDING;
    case SG_CONTENT_LEAD: {
        /* Wakes this request, too: nothing of it may be touched after that. */
        struct sg_content_cache *content = req->svc->content;
        enum sg_error err = m->make(req, m, &buf);
        sg_content_fill(content, c->key, c->key_len, err, buf);
        sg_buf_unref(buf);
        return SG_ERR_PENDING;
    }
    case SG_CONTENT_FULL:
        break;
    }
    return SG_ERR_NO_MEMORY;
}

/* ---- the whole ---- */

struct reading {
    const struct making *m;
    struct sg_buf *text;
};

static enum sg_error read_text(struct sg_db_conn *c, void *arg)
{
    struct reading *r = arg;
    return sg_subtitle_text(c, r->m->entry->asset->f.id, r->m->language, &r->text);
}

static enum sg_error make_whole(struct sg_request *req, const struct making *m, struct sg_buf **out)
{
    struct reading r = {.m = m};
    enum sg_error err = sg_db_read(req->svc->db, read_text, &r);
    if (err == SG_OK)
        *out = r.text;
    return err;
}

enum sg_error stream_get_subtitles(struct sg_request *req, struct sg_response *res)
{
    struct making m = {.content = {.kind = STREAM_SUBTITLES, .type = TYPE_VTT}, .make = make_whole};
    enum sg_error err = open_track(req, &m);
    if (err != SG_OK)
        return err;
    make_key(&m, "vtt");
    err = answer(req, res, &m);
    sg_asset_entry_unref(m.entry);
    return err;
}

/* ---- for HLS ---- */

static enum sg_error make_list(const struct sg_asset_entry *e, const struct stream_text *text,
                               struct sg_buf **out)
{
    (void)text;
    const struct sg_subtitle_cut cut = sg_subtitle_cut_of(e->shows);
    return sg_subtitle_playlist(&cut, out);
}

enum sg_error stream_get_subtitle_list(struct sg_request *req, struct sg_response *res)
{
    struct making m = {.content = {.kind = STREAM_SUBTITLES, .type = STREAM_TYPE_M3U8}};
    enum sg_error err = open_track(req, &m);
    if (err != SG_OK)
        return err;
    make_key(&m, "m3u8");
    err =
        stream_answer_text(req, res, m.entry, &m.content, &(struct stream_text){.make = make_list});
    sg_asset_entry_unref(m.entry);
    return err;
}

/* Cut from the whole, which is kept for the next. */
static enum sg_error make_segment(struct sg_request *req, const struct making *m,
                                  struct sg_buf **out)
{
    struct making whole = {.entry = m->entry, .language = m->language};
    make_key(&whole, "vtt");
    const struct stream_content *c = &whole.content;
    struct sg_buf *text = sg_content_peek(req->svc->content, c->key, c->key_len);
    enum sg_error err = SG_OK;
    if (text == NULL) {
        err = make_whole(req, m, &text);
        if (err != SG_OK)
            return err;
        sg_content_fill(req->svc->content, c->key, c->key_len, SG_OK, text);
    }
    const struct sg_subtitle_cut cut = sg_subtitle_cut_of(m->entry->shows);
    err = sg_subtitle_segment(&cut, m->number, text->data, text->len, out);
    sg_buf_unref(text);
    return err;
}

enum sg_error stream_get_subtitle_segment(struct sg_request *req, struct sg_response *res)
{
    struct making m = {.content = {.kind = STREAM_SUBTITLES, .type = TYPE_VTT},
                       .make = make_segment};
    enum sg_error err = open_track(req, &m);
    if (err != SG_OK)
        return err;
    const struct sg_subtitle_cut cut = sg_subtitle_cut_of(m.entry->shows);
    uint32_t count = sg_subtitle_segments(&cut);
    if (stream_number(req, count, &m.number) != SG_OK) {
        err = sg_request_fail(req, SG_ERR_NOT_FOUND, NULL,
                              "the subtitles have %" PRIu32 " segments", count);
    } else {
        char form[sizeof "vtt-4294967295"];
        snprintf(form, sizeof form, "vtt-%" PRIu32, m.number);
        make_key(&m, form);
        err = answer(req, res, &m);
    }
    sg_asset_entry_unref(m.entry);
    return err;
}
