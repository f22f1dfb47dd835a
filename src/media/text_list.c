/* See text_list.h. */
#include "text_list.h"

#include <string.h>

#include "streamgate/base/str.h"

#include "wire.h"

enum sg_error text_list_encode(const struct sg_subtitle_tracks *list, uint8_t out[TEXT_LIST_MAX],
                               size_t *out_len)
{
    struct wire_out w = {.ptr = out, .cap = TEXT_LIST_MAX};
    wire_put_u32(&w, list->n);
    for (uint32_t i = 0; i < list->n; i++) {
        const struct sg_subtitle_track *t = &list->items[i];
        wire_put_u32(&w, t->stream);
        wire_put_text(&w, t->language);
        wire_put_text(&w, t->title);
        wire_put_u8(&w, t->forced);
        wire_put_u8(&w, t->captions);
    }
    if (w.failed)
        return SG_ERR_INTERNAL;
    *out_len = w.len;
    return SG_OK;
}

static bool track_holds(const struct sg_subtitle_track *t)
{
    char language[SG_LANGUAGE_SIZE];
    size_t len = strlen(t->title);
    return !sg_language_parse(t->language, strlen(t->language), language) &&
           strcmp(language, t->language) == 0 && sg_str_is_utf8(t->title, len) &&
           !sg_str_has_control(t->title, len);
}

enum sg_error text_list_decode(const void *bytes, size_t len, struct sg_subtitle_tracks *out)
{
    struct wire_in r = {.ptr = bytes, .len = len};
    struct sg_subtitle_tracks list = {.n = wire_get_u32(&r)};
    if (r.failed || list.n > SG_SUBTITLE_TRACKS_MAX)
        return SG_ERR_MEDIA_WORKER;
    for (uint32_t i = 0; i < list.n; i++) {
        struct sg_subtitle_track *t = &list.items[i];
        t->stream = wire_get_u32(&r);
        wire_get_text(&r, t->language, sizeof(t->language));
        wire_get_text(&r, t->title, sizeof(t->title));
        t->forced = wire_get_bool(&r);
        t->captions = wire_get_bool(&r);
        if (r.failed || !track_holds(t))
            return SG_ERR_MEDIA_WORKER;
    }
    if (r.len)
        return SG_ERR_MEDIA_WORKER;
    *out = list;
    return SG_OK;
}
