/* An asset as handlers see it: its row, what its source holds, and what it offers to a player. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/http/asset_view.h"

static enum sg_file_role role_of(const struct sg_rendition *r)
{
    switch (r->kind) {
    case SG_RENDITION_ORIGINAL:
        return SG_FILE_BASE;
    case SG_RENDITION_AUDIO:
        return SG_FILE_SOUND;
    default:
        return SG_FILE_RUNG;
    }
}

static void add_file(struct sg_presentation_params *params, const char *id, enum sg_file_role role,
                     struct sg_media_index *index)
{
    struct sg_media_file *f = &params->files[params->n_files++];
    *f = (struct sg_media_file){.role = role, .index = index};
    memcpy(f->id, id, SG_ULID_SIZE);
}

static enum sg_error add_renditions(struct sg_presentation_params *params,
                                    const struct sg_rendition_list *list)
{
    enum sg_error err = SG_OK;
    for (size_t i = 0; i < list->n && err == SG_OK; i++) {
        const struct sg_rendition *r = &list->items[i];
        struct sg_media_index *index = NULL;
        if (r->state != SG_RENDITION_READY || r->index == NULL)
            continue;
        err = sg_media_index_decode(r->index->data, r->index->len, &index);
        if (err == SG_OK)
            add_file(params, r->id, role_of(r), index);
    }
    return err;
}

static uint64_t mix(uint64_t tag, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        tag = (tag ^ ((const uint8_t *)bytes)[i]) * UINT64_C(1099511628211); /* FNV-1a */
    return tag;
}

static struct sg_text_offer offer_of(const struct sg_subtitle *t)
{
    struct sg_text_offer o = {.captions = t->kind == SG_SUBTITLE_CAPTIONS,
                              .is_default = t->is_default,
                              .forced = t->forced,
                              .bytes = t->size_bytes,
                              .tag = UINT64_C(14695981039346656037)};
    _Static_assert(sizeof(o.label) == sizeof(t->label), "the same bound");
    memcpy(o.language, t->language, sizeof(o.language));
    memcpy(o.label, t->label, sizeof(o.label));
    o.tag = mix(o.tag, t->language, strlen(t->language));
    o.tag = mix(o.tag, t->label, strlen(t->label));
    o.tag = mix(o.tag, t->hash, sizeof(t->hash));
    o.tag = mix(o.tag, &t->updated_ms, sizeof(t->updated_ms));
    return o;
}

struct parts {
    struct sg_media_index *index;
    const struct sg_rendition_list *renditions;
    const struct sg_subtitle_list *subtitles;
};

/* The source, where players can have it as it is, and what was made of it. */
static enum sg_error present(const struct sg_asset *asset, const struct parts *parts,
                             struct sg_presentation **out)
{
    struct sg_media_file files[1 + SG_RENDITIONS_MAX];
    struct sg_text_offer texts[SG_SUBTITLES_MAX];
    struct sg_presentation_params params = {.files = files, .texts = texts};
    struct sg_media_index *index = parts->index;
    for (size_t i = 0; i < parts->subtitles->n && i < SG_SUBTITLES_MAX; i++)
        texts[params.n_texts++] = offer_of(&parts->subtitles->items[i]);
    if (index != NULL && (index->fmp4 || index->ts))
        add_file(&params, asset->f.id, SG_FILE_BASE, sg_media_index_ref(index));
    enum sg_error err = add_renditions(&params, parts->renditions);
    if (err == SG_OK)
        return sg_presentation_create(&params, out);
    for (uint32_t i = 0; i < params.n_files; i++)
        sg_media_index_unref(files[i].index);
    return err;
}

/* Their encoded indexes are in the presentation now, decoded. */
static void drop_encoded(struct sg_rendition_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        sg_rendition_clear(&list->items[i]);
}

enum sg_error sg_asset_entry_create(struct sg_asset *asset, struct sg_media_index *index,
                                    struct sg_rendition_list *renditions,
                                    struct sg_subtitle_list *subtitles, struct sg_asset_entry **out)
{
    struct sg_presentation *shows = NULL;
    enum sg_error err = present(asset, &(struct parts){index, renditions, subtitles}, &shows);
    struct sg_asset_entry *e = err == SG_OK ? calloc(1, sizeof *e) : NULL;
    if (e == NULL) {
        sg_presentation_unref(shows);
        sg_rendition_list_free(renditions);
        sg_subtitle_list_free(subtitles);
        return err != SG_OK ? err : SG_ERR_NO_MEMORY;
    }
    drop_encoded(renditions);
    atomic_init(&e->refs, 1);
    e->asset = sg_asset_ref(asset);
    e->index = index != NULL ? sg_media_index_ref(index) : NULL;
    e->renditions = *renditions;
    e->shows = shows;
    *renditions = (struct sg_rendition_list){0};
    e->subtitles = *subtitles;
    *subtitles = (struct sg_subtitle_list){0};
    *out = e;
    return SG_OK;
}

struct sg_asset_entry *sg_asset_entry_ref(struct sg_asset_entry *e)
{
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    return e;
}

void sg_asset_entry_unref(struct sg_asset_entry *e)
{
    if (e == NULL || atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) != 1)
        return;
    sg_asset_unref(e->asset);
    sg_media_index_unref(e->index);
    sg_rendition_list_free(&e->renditions);
    sg_subtitle_list_free(&e->subtitles);
    sg_presentation_unref(e->shows);
    free(e);
}

size_t sg_asset_entry_weight(const struct sg_asset_entry *e)
{
    return sizeof *e + sg_asset_weight(e->asset) + e->renditions.n * sizeof *e->renditions.items +
           e->subtitles.n * sizeof *e->subtitles.items +
           (e->index != NULL ? sg_media_index_weight(e->index) : 0) +
           sg_presentation_weight(e->shows);
}
