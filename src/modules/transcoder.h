/* What the files of the transcoder module share. */
#ifndef TRANSCODER_H
#define TRANSCODER_H

#include "streamgate/http/asset_view.h"
#include "streamgate/http/request.h"
#include "streamgate/http/response.h"
#include "streamgate/http/route.h"
#include "streamgate/layers/jobs.h"
#include "streamgate/layers/renditions.h"
#include "streamgate/media/transcode.h"

/* The sound inside of a rung is a track of its own in URLs; nobody's rendition is named like that.
 */
#define TRANSCODER_SOUND_SUFFIX "-a"
#define TRANSCODER_FIRST "transcode-first" /* the job without which a source cannot be played */

/* A try of a job that makes renditions. */
struct transcoding {
    struct sg_services *svc;
    struct sg_job_run *run;
    struct sg_asset *asset;
    struct sg_media_index *source;
    int fd; /* of the source */
    struct sg_rendition_list all;
    const struct sg_rendition *items[SG_TRANSCODE_OUTPUTS_MAX]; /* those to be made, of all */
    uint32_t n;
    bool live;  /* nobody can play the asset before, and this is what it waits for */
    bool shown; /* something was played while it was made */
    struct sg_transcode plan;
    struct sg_transcode_result result;
    struct transcoded {
        void *index; /* encoded */
        size_t index_len;
        bool published;
    } made[SG_TRANSCODE_OUTPUTS_MAX];
    struct sg_live_making *making;
    int live_tracks[SG_TRANSCODE_OUTPUTS_MAX]; /* numbers in `making`; -1: none */
    uint64_t began_ns;
    double streamed;       /* bytes, when last looked at */
    uint64_t streaming_ns; /* when that was last seen to grow; 0: not yet */
    char why[SG_MEDIA_MESSAGE_MAX];
};

/* transcoder_plan.c: what the process is asked for; descriptors are the caller's to set. */
enum sg_error transcoder_plan(struct transcoding *t) SG_NODISCARD;
/* transcoder_watch.c: events of the process, on the job's thread. arg: struct transcoding */
void transcoder_event(void *arg, const struct sg_transcode_event *e);
bool transcoder_crowded(void *arg); /* somebody is watching something */
/* transcoder_check.c: looks at what was made as at any upload, and holds it against what the
 * encoder and the source say. Fills made[i].index. UNPROCESSABLE with t->why when it does not
 * agree. */
enum sg_error transcoder_check(struct transcoding *t, uint32_t i) SG_NODISCARD;
/* transcoder_job.c: the handler of transcode and remux. arg: struct sg_services */
enum sg_error transcoder_run(struct sg_job_run *run, void *arg) SG_NODISCARD;
/* transcoder_drop.c: the handler of DELETE. */
enum sg_error transcoder_drop(struct sg_request *req, struct sg_response *res) SG_NODISCARD;
/* transcoder_source.c: the handler of probe, and the check of its payload. */
const char *transcoder_source_check(const json_t *payload);
enum sg_error transcoder_probe(struct sg_job_run *run, void *arg) SG_NODISCARD;

#endif
