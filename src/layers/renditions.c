/* See renditions.h. */
#include "streamgate/layers/renditions.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/store/job_store.h"

#define FIRST_PRIORITY 80 /* somebody waits for it */
#define LATER_PRIORITY 40
#define SOUNDS_MAX 8 /* of one source: a job has room for as many and a few pictures */
#define ITEMS_MAX 15 /* of a plan, when more sound is added: fewer than outputs of a job */
#define EVEN(n) ((n) & ~1u)

/* ---- the ladder ---- */

static enum sg_error parse_rate(const char *text, size_t len, struct sg_rung *r)
{
    uint64_t n;
    if (len > 3 && strncmp(text, "crf", 3) == 0) {
        if (sg_str_to_u64(text + 3, len - 3, SG_CRF_MAX, &n) != SG_OK || n < SG_CRF_MIN)
            return SG_ERR_INVALID;
        r->crf = (uint32_t)n;
        return SG_OK;
    }
    if (len < 2 || text[len - 1] != 'k' || sg_str_to_u64(text, len - 1, 200000, &n) != SG_OK ||
        n * 1000 < SG_BITRATE_MIN)
        return SG_ERR_INVALID;
    r->bitrate = (uint32_t)n * 1000;
    return SG_OK;
}

static enum sg_error parse_rung(const char *text, size_t len, struct sg_rung *out)
{
    struct sg_rung r = {0};
    const char *colon = memchr(text, ':', len);
    uint64_t height;
    if (colon == NULL || colon - text < 2 || colon[-1] != 'p' ||
        sg_str_to_u64(text, (size_t)(colon - text) - 1, 8192, &height) != SG_OK || height < 16)
        return SG_ERR_INVALID;
    r.height = (uint32_t)height;
    snprintf(r.name, sizeof r.name, "%up", (unsigned)height);
    enum sg_error err = parse_rate(colon + 1, len - (size_t)(colon + 1 - text), &r);
    if (err == SG_OK)
        *out = r;
    return err;
}

static int compare_rungs(const void *a, const void *b)
{
    const struct sg_rung *x = a, *y = b;
    return (x->height < y->height) - (x->height > y->height);
}

enum sg_error sg_ladder_parse(const char *text, struct sg_ladder *out)
{
    struct sg_ladder l = {0};
    for (const char *p = text + strspn(text, " ,\t"); *p != '\0'; p += strspn(p, " ,\t")) {
        size_t len = strcspn(p, " ,\t");
        if (l.n == SG_LADDER_RUNGS_MAX || parse_rung(p, len, &l.rungs[l.n]) != SG_OK)
            return SG_ERR_INVALID;
        for (unsigned i = 0; i < l.n; i++)
            if (l.rungs[i].height == l.rungs[l.n].height)
                return SG_ERR_INVALID;
        l.n++;
        p += len;
    }
    if (l.n == 0)
        return SG_ERR_INVALID;
    qsort(l.rungs, l.n, sizeof l.rungs[0], compare_rungs);
    *out = l;
    return SG_OK;
}

void sg_ladder_of(const struct sg_config *config, struct sg_ladder *out)
{
    *out = (struct sg_ladder){0};
    enum sg_error err = sg_ladder_parse(sg_config_string(config, SG_SET_transcode_ladder), out);
    (void)err; /* an empty ladder makes nothing */
}

/* ---- one rung ---- */

static uint32_t shorter_side(const struct sg_track *t)
{
    return t->display_width < t->display_height ? t->display_width : t->display_height;
}

static uint32_t scaled(uint32_t side, uint32_t rung, uint32_t shorter)
{
    uint64_t n = ((uint64_t)side * rung + shorter / 2) / shorter;
    n = EVEN((uint32_t)n);
    return n < 2 ? 2 : (uint32_t)n;
}

/* No rung is worth more bits than the source has for it: by the square root of the areas, as
 * smaller pictures need more bits a pixel. */
static uint32_t worth(const struct sg_track *t, uint32_t rung, uint32_t bitrate)
{
    double seconds = (double)t->duration / t->timescale;
    if (t->bytes == 0 || seconds <= 0 || bitrate == 0)
        return bitrate;
    double share = (double)rung / shorter_side(t);
    double has = (double)t->bytes * 8 / seconds * (share < 1 ? share : 1);
    if (has >= bitrate)
        return bitrate;
    return has < SG_BITRATE_MIN ? SG_BITRATE_MIN : (uint32_t)has;
}

bool sg_rendition_of_rung(const struct sg_media_index *source, const struct sg_rung *rung,
                          struct sg_rendition *out)
{
    const struct sg_track *t = sg_media_index_video(source);
    if (t == NULL || shorter_side(t) == 0)
        return false;
    uint32_t shorter = shorter_side(t), height = rung->height < shorter ? rung->height : shorter;
    *out = (struct sg_rendition){.kind = SG_RENDITION_VIDEO,
                                 .width = scaled(t->display_width, height, shorter),
                                 .height = scaled(t->display_height, height, shorter),
                                 .bitrate = rung->bitrate,
                                 .crf = rung->crf,
                                 .stream = t->stream};
    snprintf(out->name, sizeof out->name, "%s", rung->name);
    return true;
}

/* ---- the plan ---- */

static void add(struct sg_rendition_plan *p, const struct sg_rendition *r)
{
    if (p->n < SG_RENDITIONS_MAX)
        p->items[p->n++] = *r;
}

static void add_job(struct sg_rendition_plan *p, size_t first, const struct sg_planned_job *job)
{
    if (p->n == first)
        return;
    struct sg_planned_job *j = &p->jobs[p->n_jobs++];
    *j = *job;
    j->first = first;
    j->n = p->n - first;
}

static void add_rung(struct sg_rendition_plan *p, const struct sg_media_index *source,
                     const struct sg_rung *rung)
{
    struct sg_rendition r;
    if (!sg_rendition_of_rung(source, rung, &r))
        return;
    r.bitrate = worth(sg_media_index_video(source), rung->height, rung->bitrate);
    add(p, &r);
}

/* A rung as high as the source is worth having when players may not know the source's codec or what
 * it is used for (10 bits, 4:2:2, and fields, which the rung has not), or when it spares a good
 * part of its bits. */
static bool helps(const struct sg_track *t, const struct sg_rung *rung)
{
    double seconds = (double)t->duration / t->timescale;
    return t->codec != SG_CODEC_H264 || !t->copyable ||
           (seconds > 0 && (double)t->bytes * 8 / seconds > 1.5 * rung->bitrate);
}

/* Below the lowest rung there is the source's own size. */
static struct sg_rung smallest(const struct sg_track *t, const struct sg_rung *lowest)
{
    struct sg_rung r = *lowest;
    double share = (double)shorter_side(t) / lowest->height;
    if (share >= 1)
        return r;
    r.height = shorter_side(t);
    snprintf(r.name, sizeof r.name, "%up", (unsigned)r.height);
    if (r.bitrate != 0) {
        double rate = r.bitrate * share * share;
        r.bitrate = rate < 2.0 * SG_BITRATE_MIN ? 2 * SG_BITRATE_MIN : (uint32_t)rate;
    }
    return r;
}

bool sg_sound_is_plain(const struct sg_track *t)
{
    return t->codec == SG_CODEC_AAC && t->copyable && t->channels <= 2;
}

/* channels 0: as it is in the source. */
static void add_sound(struct sg_rendition_plan *p, const struct sg_track *t, const char *name,
                      bool copy)
{
    struct sg_rendition r = {.kind = SG_RENDITION_AUDIO,
                             .stream = t->stream,
                             .channels = copy               ? 0
                                         : t->channels == 1 ? 1
                                                            : 2};
    snprintf(r.name, sizeof r.name, "%s", name);
    add(p, &r);
}

static void add_sounds(struct sg_rendition_plan *p, const struct sg_media_index *source)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < source->n_tracks && n < SOUNDS_MAX; i++) {
        const struct sg_track *t = &source->tracks[i];
        char name[SG_RENDITION_NAME_SIZE] = "audio";
        if (t->kind != SG_TRACK_AUDIO)
            continue;
        if (++n > 1)
            snprintf(name, sizeof name, "audio-%u", n % 1000);
        add_sound(p, t, name, t->copyable);
    }
}

/* As what players get a track when nothing else is made of it: what cannot be copied becomes AAC.
 */
static enum sg_codec offered_as(const struct sg_media_index *source, const struct sg_track *t)
{
    return t->copyable || sg_media_index_packaged(source) ? t->codec : SG_CODEC_AAC;
}

static bool is_sound(const struct sg_media_index *source, const struct sg_track *t,
                     enum sg_codec codec)
{
    return t->kind == SG_TRACK_AUDIO && offered_as(source, t) == codec;
}

/* Whether what is heard in a track is heard in this codec, too: as playlists pair them, the first,
 * the second... of a language. */
static bool heard_in(const struct sg_media_index *source, const struct sg_track *t,
                     enum sg_codec codec)
{
    unsigned before = 0;
    for (const struct sg_track *o = source->tracks; o < t; o++)
        before +=
            is_sound(source, o, offered_as(source, t)) && strcmp(o->language, t->language) == 0;
    for (uint32_t i = 0; i < source->n_tracks; i++) {
        const struct sg_track *o = &source->tracks[i];
        if (is_sound(source, o, codec) && strcmp(o->language, t->language) == 0 && before-- == 0)
            return true;
    }
    return false;
}

/* Players take the sound of one codec and no other, so what is heard in any has to be heard in that
 * which all players have, once there is some of it; and what is not heard in the codec of the
 * default has to be. wanted: the default is to be had in stereo whatever it is. */
static void add_stereo(struct sg_rendition_plan *p, const struct sg_media_index *source,
                       bool wanted)
{
    const struct sg_track *chosen = sg_media_index_audio(source);
    bool any = wanted || (chosen != NULL && !sg_codec_in_browsers(offered_as(source, chosen)));
    unsigned n = 0;
    for (uint32_t i = 0; i < source->n_tracks && chosen != NULL; i++)
        any |= source->tracks[i].kind == SG_TRACK_AUDIO &&
               !heard_in(source, &source->tracks[i], offered_as(source, chosen));
    for (uint32_t i = 0; i < source->n_tracks && any && p->n < ITEMS_MAX; i++) {
        const struct sg_track *t = &source->tracks[i];
        char name[SG_RENDITION_NAME_SIZE] = "audio-stereo";
        if (t->kind != SG_TRACK_AUDIO ||
            !((wanted && t == chosen) || !heard_in(source, t, SG_CODEC_AAC)))
            continue;
        if (++n > 1)
            snprintf(name, sizeof name, "audio-stereo-%u", n % 100);
        add_sound(p, t, name, false);
    }
}

/* all: every rung that helps. Else one, the highest, and only of pictures that no remux would make
 * fit for all players. */
static void add_beside(struct sg_rendition_plan *p, const struct sg_media_index *source,
                       const struct sg_ladder *ladder, bool all)
{
    const struct sg_track *video = sg_media_index_video(source);
    size_t first = p->n;
    if (video == NULL || ladder->n == 0 || (video->copyable && !all))
        return;
    for (unsigned i = 0; i < ladder->n && (all || p->n == first); i++) {
        const struct sg_rung *rung = &ladder->rungs[i];
        uint32_t shorter = shorter_side(video);
        if (rung->height < shorter || (rung->height == shorter && helps(video, rung)))
            add_rung(p, source, rung);
    }
    if (p->n == first && !video->copyable) {
        struct sg_rung low = smallest(video, &ladder->rungs[ladder->n - 1]);
        add_rung(p, source, &low);
    }
}

/* Players can have the source: the ladder beside it, and stereo where its sound is more. */
static void plan_playable(struct sg_rendition_plan *p, const struct sg_media_index *source,
                          const struct sg_ladder *ladder, bool all)
{
    const struct sg_track *audio = sg_media_index_audio(source);
    size_t first = p->n;
    add_beside(p, source, ladder, all);
    add_stereo(p, source,
               all && audio != NULL &&
                   (audio->channels > 2 ||
                    (audio->codec != SG_CODEC_AAC && audio->codec != SG_CODEC_OPUS)));
    add_job(p, first, &(struct sg_planned_job){.type = "transcode", .priority = LATER_PRIORITY});
}

/* Another container is enough; stereo beside sound that is copied and more. */
static void plan_remux(struct sg_rendition_plan *p, const struct sg_media_index *source,
                       const struct sg_ladder *ladder)
{
    struct sg_rendition r = {.kind = SG_RENDITION_ORIGINAL, .name = "original"};
    const struct sg_track *video = sg_media_index_video(source);
    const struct sg_track *audio = sg_media_index_audio(source);
    size_t first = p->n;
    add(p, &r);
    add_job(p, first, &(struct sg_planned_job){.type = "remux", .priority = FIRST_PRIORITY});
    first = p->n;
    for (unsigned i = 0; video != NULL && i < ladder->n; i++)
        if (ladder->rungs[i].height < shorter_side(video))
            add_rung(p, source, &ladder->rungs[i]);
    add_stereo(p, source, ladder->n > 0 && audio != NULL && audio->copyable && audio->channels > 2);
    add_job(p, first, &(struct sg_planned_job){.type = "transcode", .priority = LATER_PRIORITY});
}

/* Nothing of it can be had as it is: the lowest rung and the sound first, which play while they are
 * made; then the others. */
static void plan_encode(struct sg_rendition_plan *p, const struct sg_media_index *source,
                        const struct sg_ladder *ladder)
{
    const struct sg_track *video = sg_media_index_video(source);
    struct sg_rung low = {0};
    if (video != NULL && ladder->n > 0) {
        low = smallest(video, &ladder->rungs[ladder->n - 1]);
        add_rung(p, source, &low);
    }
    add_sounds(p, source);
    const struct sg_track *audio = sg_media_index_audio(source);
    add_stereo(p, source, audio != NULL && audio->copyable && !sg_sound_is_plain(audio));
    add_job(p, 0,
            &(struct sg_planned_job){
                .type = "transcode-first", .priority = FIRST_PRIORITY, .live = true});
    size_t first = p->n;
    for (unsigned i = 0; video != NULL && i < ladder->n; i++)
        if (ladder->rungs[i].height <= shorter_side(video) && ladder->rungs[i].height > low.height)
            add_rung(p, source, &ladder->rungs[i]);
    add_job(p, first, &(struct sg_planned_job){.type = "transcode", .priority = LATER_PRIORITY});
}

static bool remux_is_enough(const struct sg_media_index *source)
{
    const struct sg_track *video = sg_media_index_video(source);
    if (video != NULL)
        return video->copyable;
    for (uint32_t i = 0; i < source->n_tracks; i++)
        if (!source->tracks[i].copyable)
            return false;
    return source->n_tracks > 0;
}

void sg_renditions_plan(const struct sg_config *config, const struct sg_media_index *source,
                        struct sg_rendition_plan *out)
{
    struct sg_ladder ladder, none = {0};
    bool all = strcmp(sg_config_string(config, SG_SET_transcode_automatic), "all") == 0;
    sg_ladder_of(config, &ladder);
    memset(out, 0, sizeof *out);
    if (sg_media_index_packaged(source)) {
        plan_playable(out, source, &ladder, all);
    } else if (remux_is_enough(source)) {
        plan_remux(out, source, all ? &ladder : &none);
    } else {
        plan_encode(out, source, &ladder);
    }
}

/* ---- rows ---- */

static enum sg_error insert_items(struct sg_db_conn *c, const struct sg_asset_fields *asset,
                                  struct sg_rendition_plan *plan, const struct sg_planned_job *job,
                                  const char *job_id, struct sg_text *ids)
{
    enum sg_error err = SG_OK;
    for (size_t i = job->first; i < job->first + job->n && err == SG_OK; i++) {
        struct sg_rendition *r = &plan->items[i];
        sg_ulid_make(r->id);
        memcpy(r->asset_id, asset->id, SG_ULID_SIZE);
        memcpy(r->job_id, job_id, SG_ULID_SIZE);
        r->created_ms = r->updated_ms = sg_clock_wall_ms();
        sg_text_printf(ids, "%s\"%s\"", i > job->first ? "," : "", r->id);
        err = sg_rendition_insert(c, r);
    }
    return err;
}

static enum sg_error begin_job(struct sg_db_conn *c, const struct sg_asset_fields *asset,
                               struct sg_rendition_plan *plan, unsigned number,
                               char job_id[SG_ULID_SIZE])
{
    const struct sg_planned_job *job = &plan->jobs[number];
    const char *before = job_id;
    char id[SG_ULID_SIZE];
    sg_ulid_make(id);
    struct sg_text payload = {0};
    sg_text_puts(&payload, "{\"renditions\":[");
    enum sg_error err = insert_items(c, asset, plan, job, id, &payload);
    sg_text_printf(&payload, "],\"live\":%s}", job->live ? "true" : "false");
    if (err == SG_OK && payload.failed)
        err = SG_ERR_NO_MEMORY;
    if (err == SG_OK) {
        struct sg_job_fields f = {.payload = payload.ptr,
                                  .priority = job->priority,
                                  .max_attempts = 3,
                                  .created_ms = sg_clock_wall_ms()};
        struct sg_job_needs needs = {.ids = &before, .n = before[0] != '\0'};
        f.run_at_ms = f.created_ms;
        memcpy(f.id, id, SG_ULID_SIZE);
        memcpy(f.owner, asset->owner, SG_ULID_SIZE);
        memcpy(f.asset_id, asset->id, SG_ULID_SIZE);
        snprintf(f.type, sizeof f.type, "%s", job->type);
        err = sg_job_insert(c, &f, &needs);
    }
    sg_text_free(&payload);
    if (err == SG_OK)
        memcpy(job_id, id, SG_ULID_SIZE);
    return err;
}

enum sg_error sg_renditions_begin(struct sg_db_conn *c, const struct sg_asset_fields *asset,
                                  struct sg_rendition_plan *plan)
{
    char job_id[SG_ULID_SIZE];
    enum sg_error err = SG_OK;
    memcpy(job_id, plan->after, SG_ULID_SIZE);
    for (unsigned i = 0; i < plan->n_jobs && err == SG_OK; i++)
        err = begin_job(c, asset, plan, i, job_id);
    return err;
}
