/* See subtitles.h. */
#include "streamgate/layers/subtitles.h"

#include <stdio.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/store/job_store.h"

enum {
    PRIORITY = 55, /* before the ladder's further rungs: it is over soon */
    ATTEMPTS = 3,
};

void sg_subtitles_job(const struct sg_asset_fields *asset, struct sg_job_fields *out)
{
    *out = (struct sg_job_fields){.payload = "{}",
                                  .priority = PRIORITY,
                                  .max_attempts = ATTEMPTS,
                                  .created_ms = sg_clock_wall_ms()};
    out->run_at_ms = out->created_ms;
    sg_ulid_make(out->id);
    memcpy(out->owner, asset->owner, SG_ULID_SIZE);
    memcpy(out->asset_id, asset->id, SG_ULID_SIZE);
    snprintf(out->type, sizeof(out->type), "%s", SG_SUBTITLES_JOB);
}

enum sg_error sg_subtitles_begin(struct sg_db_conn *c, const struct sg_asset_fields *asset,
                                 char job_id[SG_ULID_SIZE])
{
    struct sg_job_fields f;
    const struct sg_job_needs none = {0};
    sg_subtitles_job(asset, &f);
    enum sg_error err = sg_job_insert(c, &f, &none);
    if (!err)
        memcpy(job_id, f.id, SG_ULID_SIZE);
    return err;
}
