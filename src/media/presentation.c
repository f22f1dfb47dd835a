/* See presentation.h. One allocation holds all but the indexes. */
#include "streamgate/media/presentation.h"

#include <stdlib.h>
#include <string.h>

/* Counted up when the same files come to be told of in other words: caches ask by the tag whether
 * what they hold is still what is said. */
enum { WORDING = 1 };

#define FNV_BASIS UINT64_C(14695981039346656037)
#define FNV_PRIME UINT64_C(1099511628211)

static void add_video(struct sg_presentation *p, const struct sg_media_file *f)
{
    const struct sg_track *t = sg_media_index_video(f->index);
    if (t == NULL || f->role == SG_FILE_SOUND || !(f->index->fmp4 || f->index->ts))
        return;
    uint32_t at = p->n_videos++;
    for (; at > 0 && f->role == SG_FILE_RUNG; at--) {
        const struct sg_offer *before = &p->videos[at - 1];
        if (before->file->role == SG_FILE_BASE ||
            (uint64_t)before->track->display_width * before->track->display_height >=
                (uint64_t)t->display_width * t->display_height)
            break;
        p->videos[at] = *before;
    }
    p->videos[at] = (struct sg_offer){f, t};
}

static void add_audios(struct sg_presentation *p, const struct sg_media_file *f)
{
    for (uint32_t i = 0; f->index->fmp4 && i < f->index->n_tracks; i++)
        if (f->index->tracks[i].kind == SG_TRACK_AUDIO)
            p->audios[p->n_audios++] = (struct sg_offer){f, &f->index->tracks[i]};
}

/* What most players have; then what the source chose. */
static bool preferred(const struct sg_track *a, const struct sg_track *b)
{
    unsigned rank_a = sg_codec_rank(a->codec), rank_b = sg_codec_rank(b->codec);
    return rank_a != rank_b ? rank_a < rank_b : a->is_default && !b->is_default;
}

static void choose_default(struct sg_presentation *p)
{
    for (uint32_t i = 1; i < p->n_audios; i++)
        if (preferred(p->audios[i].track, p->audios[p->default_audio].track))
            p->default_audio = i;
}

static bool browsers_hear(const struct sg_presentation *p)
{
    for (uint32_t i = 0; i < p->n_audios; i++)
        if (sg_codec_in_browsers(p->audios[i].track->codec))
            return true;
    return false;
}

/* Sound that goes with no picture of its own comes from the base and the files of sound; only where
 * browsers can hear none of those, from the first rung that has some. */
static void collect(struct sg_presentation *p)
{
    for (uint32_t i = 0; i < p->n_files; i++) {
        const struct sg_media_file *f = &p->files[i];
        p->fmp4 |= f->index->fmp4;
        p->ts |= f->index->ts && f->role != SG_FILE_SOUND;
        if (f->index->duration_ms > p->duration_ms)
            p->duration_ms = f->index->duration_ms;
        add_video(p, f);
        if (f->role != SG_FILE_RUNG)
            add_audios(p, f);
        for (const char *c = f->id; *c != '\0'; c++)
            p->tag = (p->tag ^ (uint8_t)*c) * FNV_PRIME; /* FNV-1a */
    }
    for (uint32_t i = 0; i < p->n_files && !browsers_hear(p); i++)
        if (p->files[i].role == SG_FILE_RUNG)
            add_audios(p, &p->files[i]);
    /* Without a picture every file of sound is all there is of the MPEG-TS form, too. */
    for (uint32_t i = 0; i < p->n_files && p->n_videos == 0; i++)
        p->ts |= p->files[i].index->ts;
    choose_default(p);
    for (uint32_t i = 0; i < p->n_texts; i++)
        p->tag = (p->tag ^ p->texts[i].tag) * FNV_PRIME;
}

enum sg_error sg_presentation_create(const struct sg_presentation_params *params,
                                     struct sg_presentation **out)
{
    size_t tracks = 0, n = params->n_files;
    for (size_t i = 0; i < n; i++)
        tracks += params->files[i].index->n_tracks;
    struct sg_presentation *p =
        calloc(1, sizeof *p + n * sizeof *p->files + (n + tracks) * sizeof(struct sg_offer) +
                      params->n_texts * sizeof *p->texts);
    if (p == NULL) {
        for (size_t i = 0; i < n; i++)
            sg_media_index_unref(params->files[i].index);
        return SG_ERR_NO_MEMORY;
    }
    atomic_init(&p->refs, 1);
    p->tag = (FNV_BASIS ^ WORDING) * FNV_PRIME;
    p->live = params->live;
    p->n_files = params->n_files;
    p->files = (struct sg_media_file *)(p + 1);
    p->videos = (struct sg_offer *)(p->files + n);
    p->audios = p->videos + n;
    p->texts = (struct sg_text_offer *)(p->audios + tracks);
    p->n_texts = params->n_texts;
    if (p->n_texts > 0)
        memcpy(p->texts, params->texts, p->n_texts * sizeof *p->texts);
    if (n > 0)
        memcpy(p->files, params->files, n * sizeof *p->files);
    collect(p);
    *out = p;
    return SG_OK;
}

struct sg_presentation *sg_presentation_ref(struct sg_presentation *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void sg_presentation_unref(struct sg_presentation *p)
{
    if (p == NULL || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < p->n_files; i++)
        sg_media_index_unref(p->files[i].index);
    free(p);
}

size_t sg_presentation_weight(const struct sg_presentation *p)
{
    size_t weight = sizeof *p + p->n_files * (sizeof *p->files + 2 * sizeof *p->videos) +
                    p->n_texts * sizeof *p->texts;
    for (uint32_t i = 0; i < p->n_files; i++)
        weight += sg_media_index_weight(p->files[i].index);
    return weight;
}

bool sg_presentation_find(const struct sg_presentation *p, const char *name, bool ts,
                          struct sg_offer *out)
{
    for (uint32_t i = 0; i < p->n_files; i++) {
        const struct sg_media_file *f = &p->files[i];
        const struct sg_track *t = sg_media_index_track(f->index, name);
        if (t == NULL ||
            (ts ? !f->index->ts || t != sg_media_index_main(f->index) : !f->index->fmp4))
            continue;
        *out = (struct sg_offer){f, t};
        return true;
    }
    return false;
}
