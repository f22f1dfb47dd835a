/* What the files of the subtitles module share. */
#ifndef STREAMGATE_MODULES_SUBTITLES_H
#define STREAMGATE_MODULES_SUBTITLES_H

#include "streamgate/http/asset_view.h"
#include "streamgate/http/response.h"
#include "streamgate/http/route.h"
#include "streamgate/media/subtitles.h"

#define SUBTITLE_LABEL_RULE "must be at most 64 characters without control characters"
bool subtitles_label_holds(const char *s, size_t len);
/* {lang} of the path in its one spelling. INVALID with fail set. */
enum sg_error subtitles_language(struct sg_request *req, char out[SG_LANGUAGE_SIZE]) SG_NODISCARD;

/* A change of a track, with its audit event. */
struct subtitles_change {
    struct sg_request *req;
    const char *asset_id, *action; /* "subtitles.put"... */
    struct sg_subtitle track;
    const struct sg_subtitle_text *text; /* put */
    enum sg_error (*write)(struct sg_db_conn *c, struct subtitles_change *ch);
    bool created;
};
/* Commits it and forgets the asset's entry. Blocks. The write's errors, with fail set. */
enum sg_error subtitles_commit(struct subtitles_change *ch) SG_NODISCARD;
/* The track of the change as it is now. */
enum sg_error subtitles_answer(struct sg_request *req, struct sg_response *res, unsigned status,
                               const char *language) SG_NODISCARD;

/* Series of metrics. */
extern uint32_t subtitles_series[2][SG_SUBTITLE_SOURCE_COUNT]; /* written, refused */

/* subtitles_put.c */
enum sg_error subtitles_put_begin(struct sg_request *req);
enum sg_error subtitles_put_data(struct sg_request *req, const uint8_t *data, size_t len);
enum sg_error subtitles_put(struct sg_request *req, struct sg_response *res);

/* subtitles_extract.c */
enum sg_error subtitles_extract_register(struct sg_services *svc) SG_NODISCARD;
enum sg_error subtitles_extract_post(struct sg_request *req, struct sg_response *res);

#endif
