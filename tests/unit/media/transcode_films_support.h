/* Plans carried out in this process, and what ffprobe says of the files. */
#ifndef TRANSCODE_FILMS_SUPPORT_H
#define TRANSCODE_FILMS_SUPPORT_H

#include "streamgate/media/transcode.h"

enum { SEGMENTS_MAX = 64 };

/* What was told while a plan was carried out. */
struct transcode_seen {
    unsigned progress, tracks, segments;
    uint64_t last_frames;
    struct sg_transcode_event track, segment[SEGMENTS_MAX];
};

struct transcode_run {
    struct sg_transcode plan;
    struct sg_transcode_result result;
    struct transcode_seen seen;
    enum sg_error err;
    char why[SG_MEDIA_MESSAGE_MAX];
    char dir[64];
    char paths[4][128]; /* of the outputs */
    char live[128];
};

extern const struct sg_media_limits transcode_limits;

/* A new folder; the plan has the limits, 2 s, one thread, ultrafast. */
void transcode_begin(struct transcode_run *run);
/* Makes `clip.<ext>` in the folder by the ffmpeg program, and has the plan read it. */
void transcode_clip(struct transcode_run *run, const char *ext, const char *args);
/* Another output: H.264 of stream 0, constant quality. */
struct sg_transcode_output *transcode_add(struct transcode_run *run, uint32_t w, uint32_t h);
/* AAC of this stream, stereo. */
void transcode_add_sound(struct sg_transcode_output *o, uint32_t stream);
void transcode_live(struct transcode_run *run, struct sg_transcode_output *o);
void transcode_go(struct transcode_run *run);
/* The finished file, packaged as any film, against what was written while it was made. */
void transcode_compare_live(struct transcode_run *run, uint32_t output);
/* Closes what is open and removes the folder. */
void transcode_end(struct transcode_run *run);

/* One value of ffprobe's, e.g. "-select_streams v", "stream=width"; malloc'ed, its lines joined by
 * ','. */
char *transcode_probe(const char *path, const char *args, const char *entries);
/* Shown pictures as ffmpeg decodes them: their times in seconds. Returns how many. */
unsigned transcode_times(const char *path, bool keys_only, double *out, unsigned max);
/* Of two films' pictures by their number, the second's after `filter`. */
double transcode_ssim(const char *path, const char *reference, const char *filter);

#endif
