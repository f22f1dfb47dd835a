/* When the texts of a film are extracted: by a job of its own, so that whoever makes an asset needs to know no more of subtitles. */
#ifndef STREAMGATE_LAYERS_SUBTITLES_H
#define STREAMGATE_LAYERS_SUBTITLES_H

#include "streamgate/store/asset_store.h"

#define SG_SUBTITLES_JOB "subtitles"

/* In the transaction that makes an asset whose index says `texts`, after its row. After the commit: sg_jobs_inserted with job_id. Errors: sg_job_insert's. */
enum sg_error sg_subtitles_begin(struct sg_db_conn *c, const struct sg_asset_fields *asset, char job_id[SG_ULID_SIZE]) SG_NODISCARD;
/* The job of sg_subtitles_begin, not yet written; its strings are static. */
struct sg_job_fields;
void sg_subtitles_job(const struct sg_asset_fields *asset, struct sg_job_fields *out);

#endif
