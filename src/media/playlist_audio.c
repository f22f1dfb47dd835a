/* See playlist_audio.h. RFC 8216 4.3.4.1.1 wants the same members in every group, and of those that
 * correspond the same attributes but for URI and CHANNELS. Tracks of two codecs correspond when
 * they are the first, the second... of their codec in one language. What a group has none for is
 * taken from the first group, which all who can have the other can have too; the reverse is not so:
 * what is there in another codec alone is missing in the first group. */
#include "playlist_audio.h"

#include <stdio.h>
#include <string.h>

#include "manifest_text.h"

static enum sg_codec codec_of(const struct sg_presentation *p, uint32_t audio)
{
    return p->audios[audio].track->codec;
}

static enum sg_codec first_codec(const struct sg_presentation *p)
{
    return codec_of(p, p->default_audio);
}

static bool same_language(const struct sg_presentation *p, uint32_t a, uint32_t b)
{
    return strcmp(p->audios[a].track->language, p->audios[b].track->language) == 0;
}

static const struct sg_offer *counterpart(const struct sg_presentation *p, uint32_t audio,
                                          enum sg_codec codec)
{
    uint32_t before = 0;
    for (uint32_t i = 0; i < audio; i++)
        before += codec_of(p, i) == codec_of(p, audio) && same_language(p, i, audio);
    for (uint32_t i = 0; i < p->n_audios; i++)
        if (codec_of(p, i) == codec && same_language(p, i, audio) && before-- == 0)
            return &p->audios[i];
    return NULL;
}

/* Whether it gives a place its name, rather than standing in for another. */
static bool has_place(const struct sg_presentation *p, uint32_t audio)
{
    return codec_of(p, audio) == first_codec(p) || !counterpart(p, audio, first_codec(p));
}

const struct sg_offer *sound_group_member(const struct sg_presentation *p,
                                          const struct sound_group *g, uint32_t place)
{
    if (codec_of(p, place) == first_codec(p)) {
        const struct sg_offer *other = counterpart(p, place, g->codec);
        return other ? other : &p->audios[place];
    }
    return codec_of(p, place) == g->codec && has_place(p, place) ? &p->audios[place] : NULL;
}

static enum sg_error add_group(const struct sg_presentation *p, enum sg_codec codec,
                               struct sound_groups *out)
{
    static const char *const ids[SG_CODEC_COUNT] = {
        [SG_CODEC_AAC] = "aac",  [SG_CODEC_OPUS] = "opus", [SG_CODEC_MP3] = "mp3",
        [SG_CODEC_AC3] = "ac-3", [SG_CODEC_EAC3] = "ec-3", [SG_CODEC_FLAC] = "flac",
    };
    struct sound_group *g = &out->group[out->n++];
    *g = (struct sound_group){.codec = codec};
    if (out->n == 1)
        snprintf(g->id, sizeof(g->id), "audio");
    else
        snprintf(g->id, sizeof(g->id), "audio-%s", ids[codec] ? ids[codec] : "other");
    for (uint32_t i = 0; i < p->n_audios; i++) {
        const struct sg_offer *o = sound_group_member(p, g, i);
        struct rows rows = {0};
        if (!o)
            continue;
        enum sg_error err = rows_create(o->file->index, o->track, false, &rows);
        if (err)
            return err;
        struct rates rates = rows_rates(&rows);
        rows_destroy(&rows);
        g->most.peak = rates.peak > g->most.peak ? rates.peak : g->most.peak;
        g->most.average = rates.average > g->most.average ? rates.average : g->most.average;
    }
    return SG_OK;
}

enum sg_error sound_groups_of(const struct sg_presentation *p, struct sound_groups *out)
{
    bool there[SG_CODEC_COUNT] = {0};
    *out = (struct sound_groups){0};
    for (uint32_t i = 0; i < p->n_audios; i++)
        there[codec_of(p, i)] = true;
    enum sg_error err = p->n_audios ? add_group(p, first_codec(p), out) : SG_OK;
    for (int c = 0; c < SG_CODEC_COUNT && !err; c++)
        if (there[c] && (enum sg_codec)c != first_codec(p))
            err = add_group(p, (enum sg_codec)c, out);
    return err;
}

/* The title, where all that is heard in the place has it. */
static const char *title_of(const struct sg_presentation *p, const struct sound_groups *groups,
                            uint32_t place)
{
    const char *title = p->audios[place].track->title;
    for (uint32_t i = 0; i < groups->n; i++) {
        const struct sg_offer *o = sound_group_member(p, &groups->group[i], place);
        if (o && strcmp(o->track->title, title) != 0)
            return "";
    }
    return title;
}

/* NAMEs are unique within a group (4.3.4.1.1); titles need not be. */
static bool titles_unique(const struct sg_presentation *p, const struct sound_groups *groups)
{
    for (uint32_t i = 0; i < p->n_audios; i++)
        for (uint32_t k = 0; k < i; k++) {
            const char *title = title_of(p, groups, i);
            if (has_place(p, i) && has_place(p, k) && title[0] &&
                strcmp(title, title_of(p, groups, k)) == 0)
                return false;
        }
    return true;
}

/* 4.3.4.1 */
static void put_member(struct sg_text *text, const struct sound_group *g, const char *name,
                       const struct sg_track *t, bool is_default)
{
    sg_text_printf(text, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"%s\",NAME=", g->id);
    manifest_put_quoted(text, name);
    if (strcmp(t->language, "und") != 0) {
        sg_text_puts(text, ",LANGUAGE=");
        manifest_put_quoted(text, t->language);
    }
    sg_text_printf(text, ",DEFAULT=%s,AUTOSELECT=YES,CHANNELS=\"%u\",URI=\"%s/index.m3u8\"\n",
                   is_default ? "YES" : "NO", t->channels, t->name);
}

void sound_groups_put(struct sg_text *text, const struct sg_presentation *p,
                      const struct sound_groups *groups)
{
    bool titles = titles_unique(p, groups);
    for (uint32_t i = 0; i < groups->n; i++)
        for (uint32_t place = 0; place < p->n_audios; place++) {
            const struct sg_offer *o = sound_group_member(p, &groups->group[i], place);
            const char *title = titles ? title_of(p, groups, place) : "";
            if (o)
                put_member(text, &groups->group[i], title[0] ? title : p->audios[place].track->name,
                           o->track, place == p->default_audio);
        }
}
