/* Renditions that are played while they are made: what the encoder has finished so far, by asset. In memory only; what an encode leaves behind when it ends is its file. Thread-safe. */
#ifndef STREAMGATE_LAYERS_LIVE_H
#define STREAMGATE_LAYERS_LIVE_H

#include "streamgate/base/buf.h"
#include "streamgate/media/presentation.h"

struct sg_live;
struct sg_live_making; /* one encode; its thread's own */
struct sg_live_view;   /* what there is at one moment; immutable, reference-counted */

enum sg_error sg_live_create(struct sg_live **out) SG_NODISCARD;
void sg_live_destroy(struct sg_live **l); /* no encode is under way; views may outlive it */

/* picture: there is one among its tracks, and nothing is shown before it. EXISTS: the asset has one under way. */
enum sg_error sg_live_begin(struct sg_live *l, const char *asset_id, bool picture, struct sg_live_making **out) SG_NODISCARD;
/* A track appears: name in track->name, fMP4 in fd (dup'ed) with its initialisation segment at [0, init_bytes). Known by its number from now on, which counts from 0. */
struct sg_live_track { const char *file_id; enum sg_file_role role; const struct sg_track *track; int fd; uint64_t init_bytes; };
enum sg_error sg_live_add_track(struct sg_live_making *m, const struct sg_live_track *t) SG_NODISCARD;
/* Its next segment is at [offset, offset + segment->bytes_fmp4). */
enum sg_error sg_live_add_segment(struct sg_live_making *m, uint32_t track, const struct sg_segment *segment, uint64_t offset) SG_NODISCARD;
void sg_live_end(struct sg_live_making **m); /* nobody finds it any more; NULL is fine */

/* NULL: nothing of the asset can be played yet. */
struct sg_live_view *sg_live_get(struct sg_live *l, const char *asset_id);
void sg_live_view_unref(struct sg_live_view *v); /* NULL is fine */
const struct sg_presentation *sg_live_shows(const struct sg_live_view *v); /* with live set */
/* Blocks (disk). number: of the segment, or SG_LIVE_INIT. NOT_FOUND: not there (yet). */
#define SG_LIVE_INIT UINT32_MAX
enum sg_error sg_live_read(const struct sg_live_view *v, const struct sg_offer *offer, uint32_t number, struct sg_buf **out) SG_NODISCARD;

#endif
