/* Subtitle tracks as JSON. */
#include <string.h>

#include "streamgate/http/asset_view.h"

static json_t *time_json(uint64_t ms)
{
    char text[SG_TIME_SIZE];
    sg_time_rfc3339(ms, text);
    return json_string(text);
}

json_t *sg_subtitle_json(struct sg_request *req, const struct sg_asset_entry *e,
                         const struct sg_subtitle *t, const char *token)
{
    const char *origin = sg_request_base_url(req);
    if (origin == NULL)
        return NULL;
    /* It may be fetched as soon as the film may be played. */
    json_t *url = e->asset->f.status == SG_ASSET_READY && e->index != NULL
                      ? json_sprintf("%s/stream/%s/%s%s%ssubs/%s.vtt", origin, e->asset->f.id,
                                     token[0] != '\0' ? "~" : "", token,
                                     token[0] != '\0' ? "/" : "", t->language)
                      : json_null();
    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:s, s:I, s:I, s:o, s:o, s:o}", "language",
                     t->language, "label", t->label, "kind", sg_subtitle_kind_name(t->kind),
                     "default", (int)t->is_default, "forced", (int)t->forced, "source",
                     sg_subtitle_source_name(t->source), "cues", (json_int_t)t->cues, "size",
                     (json_int_t)t->size_bytes, "created_at", time_json(t->created_ms),
                     "updated_at", time_json(t->updated_ms), "url", url);
}

json_t *sg_subtitles_json(struct sg_request *req, const struct sg_asset_entry *e, const char *token)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < e->subtitles.n; i++) {
        if (json_array_append_new(list, sg_subtitle_json(req, e, &e->subtitles.items[i], token)) !=
            0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}
