/* Which renditions an asset gets: the ladder of the configuration held against what the source is. Pure but for sg_renditions_begin, which writes rows and jobs inside a transaction. */
#ifndef STREAMGATE_LAYERS_RENDITIONS_H
#define STREAMGATE_LAYERS_RENDITIONS_H

#include "streamgate/base/config.h"
#include "streamgate/media/index.h"
#include "streamgate/store/asset_store.h"
#include "streamgate/store/rendition_store.h"

#define SG_LADDER_RUNGS_MAX 12
#define SG_KEYFRAME_MS 2000 /* the grid on which all rungs have key frames */
#define SG_BITRATE_MIN 50000u
#define SG_BITRATE_MAX 200000000u
#define SG_CRF_MIN 1u /* below is lossless, which the profile that players know does not have */
#define SG_CRF_MAX 51u

struct sg_rung { char name[SG_RENDITION_NAME_SIZE]; uint32_t height; uint32_t bitrate, crf; /* bitrate 0: constant quality */ };
struct sg_ladder { unsigned n; struct sg_rung rungs[SG_LADDER_RUNGS_MAX]; /* the highest first, no two alike */ };
/* "1080p:5000k 720p:crf23". INVALID. */
enum sg_error sg_ladder_parse(const char *text, struct sg_ladder *out) SG_NODISCARD;
/* Of a configuration, whose text was checked when it was loaded. */
void sg_ladder_of(const struct sg_config *config, struct sg_ladder *out);

/* Renditions and the jobs that make them: job k makes items[first, first + n). */
struct sg_rendition_plan {
    size_t n;
    struct sg_rendition items[SG_RENDITIONS_MAX];
    char after[SG_ULID_SIZE]; /* a job that the first waits for; "" none */
    unsigned n_jobs;
    struct sg_planned_job { const char *type; unsigned priority; bool live; size_t first, n; } jobs[2]; /* the second after the first */
};
/* What an upload gets by itself. source: the index of its file. */
void sg_renditions_plan(const struct sg_config *config, const struct sg_media_index *source, struct sg_rendition_plan *out);
/* One rung of a source; false: it has no picture. width, height follow from the rung, no larger than the source. */
bool sg_rendition_of_rung(const struct sg_media_index *source, const struct sg_rung *rung, struct sg_rendition *out);
/* Whether a track of sound can be in every rendition as it is: AAC, one or two channels. */
bool sg_sound_is_plain(const struct sg_track *t);

/* In the transaction that makes the asset: gives ids, writes rows and jobs. After the commit: sg_jobs_inserted for each job, whose id its items have. Errors: sg_rendition_insert's and sg_job_insert's. */
enum sg_error sg_renditions_begin(struct sg_db_conn *c, const struct sg_asset_fields *asset, struct sg_rendition_plan *plan) SG_NODISCARD;

#endif
