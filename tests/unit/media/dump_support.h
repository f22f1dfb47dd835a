/* Drives the media process's handler in this process, and writes everything a viewer could fetch of
 * a file to a directory. */
#ifndef DUMP_SUPPORT_H
#define DUMP_SUPPORT_H

#include "streamgate/media/media.h"

#include "av_worker.h"

extern const struct sg_media_limits dump_limits;

struct dump_reply {
    enum sg_error err;
    char why[SG_MEDIA_MESSAGE_MAX];
    uint8_t *data; /* malloc'ed */
    size_t len;
};

/* fd stays the caller's. */
void dump_probe(struct av_worker *worker, int fd, const struct sg_media_limits *limits,
                struct dump_reply *out);
void dump_probe_as(struct av_worker *worker, const char *key, int fd,
                   const struct sg_media_limits *limits, struct dump_reply *out);
void dump_render(struct av_worker *worker, const struct sg_render *render, struct dump_reply *out);
/* Playlists, init and media segments, poster.jpg, laid out as the URLs are, so that ffmpeg plays
 * outdir/master.m3u8. Returns an exit status; prints what it did and how long it took. */
int dump_file(const char *path, const char *outdir);

#endif
