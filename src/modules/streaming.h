/* What the files of the streaming module share: the gate, and how a resource is found in memory or
 * made once. */
#ifndef STREAMGATE_MODULES_STREAMING_H
#define STREAMGATE_MODULES_STREAMING_H

#include "streamgate/http/asset_view.h"
#include "streamgate/http/request.h"
#include "streamgate/http/response.h"
#include "streamgate/media/media.h"
#include "streamgate/media/playlist.h"

enum stream_kind {
    STREAM_MASTER,
    STREAM_PLAYLIST,
    STREAM_INIT,
    STREAM_SEGMENT,
    STREAM_POSTER,
    STREAM_STORYBOARD,
    STREAM_SOURCE,
    STREAM_DOWNLOAD,
    STREAM_SUBTITLES,
    STREAM_GROWING, /* playlists of what is still being made */
    STREAM_KINDS
};

#define STREAM_KEY_SIZE 112
#define STREAM_TYPE_M3U8 "application/vnd.apple.mpegurl"

struct stream_content {
    enum stream_kind kind;
    const char *type;
    char key[STREAM_KEY_SIZE]; /* begins with the id of the asset or of a file of it, so that
                                  deletion finds it */
    size_t key_len;
};

/* The asset of {id}, playable and permitted. The caller drops the reference. */
enum sg_error stream_open_asset(struct sg_request *req, struct sg_asset_entry **out) SG_NODISCARD;
/* {id}/{track}/{form}/{number}: unique within the asset. */
void stream_make_key(struct stream_content *c, const char *id, const char *track, const char *form,
                     uint64_t number);
/* {n} of the path, in its one spelling, below count; else NOT_FOUND, and nothing is said yet. */
enum sg_error stream_number(struct sg_request *req, uint32_t count, uint32_t *out) SG_NODISCARD;

/* {rendition} of the path in a form; NOT_FOUND with fail set. */
enum sg_error stream_find(struct sg_request *req, const struct sg_asset_entry *e, bool ts,
                          struct sg_offer *out) SG_NODISCARD;

/* What makes a text of the asset; offer and ts are for those that take them. */
struct stream_text {
    enum sg_error (*make)(const struct sg_asset_entry *e, const struct stream_text *text,
                          struct sg_buf **out);
    struct sg_offer offer;
    bool ts;
    struct sg_playlist_growth growth; /* see stream_growth */
};
/* How long segments of renditions are. */
struct sg_playlist_growth stream_growth(const struct sg_request *req);
/* Texts are quick to make, so they are made where they are asked for. */
enum sg_error stream_answer_text(struct sg_request *req, struct sg_response *res,
                                 struct sg_asset_entry *e, const struct stream_content *c,
                                 const struct stream_text *text) SG_NODISCARD;
/* With what the kind of content allows caches; takes the reference to buf. */
enum sg_error stream_answer(struct sg_request *req, struct sg_response *res,
                            const struct sg_asset *asset, const struct stream_content *c,
                            struct sg_buf *buf) SG_NODISCARD;
/* A strong validator: the source's hash and the key name these bytes for ever. In the request's
 * arena; NULL: no memory. */
const char *stream_etag(struct sg_request *req, const struct sg_asset *asset,
                        const struct stream_content *c);
void stream_count(enum stream_kind kind); /* a request that was answered */
/* render->key and index: of the file it is made of, when that is not the source. Answers from
 * memory, or joins the build under way, or starts it: in a media process, once however many ask. */
enum sg_error stream_answer_built(struct sg_request *req, struct sg_response *res,
                                  struct sg_asset_entry *e, const struct stream_content *c,
                                  struct sg_render *render) SG_NODISCARD;

/* streaming_live.c: whether all there is of the asset is still being made; then these answer.
 * piece: init.mp4, and segments where the path has {n}. */
bool stream_grows(const struct sg_asset_entry *e);
enum sg_error stream_live_master(struct sg_request *req, struct sg_response *res,
                                 const struct sg_asset_entry *e) SG_NODISCARD;
enum sg_error stream_live_playlist(struct sg_request *req, struct sg_response *res,
                                   const struct sg_asset_entry *e) SG_NODISCARD;
enum sg_error stream_live_piece(struct sg_request *req, struct sg_response *res,
                                const struct sg_asset_entry *e) SG_NODISCARD;

/* streaming_files.c */
enum sg_error stream_get_source(struct sg_request *req, struct sg_response *res) SG_NODISCARD;
enum sg_error stream_get_download(struct sg_request *req, struct sg_response *res) SG_NODISCARD;

/* streaming_iframes.c */
enum sg_error stream_get_iframes(struct sg_request *req, struct sg_response *res) SG_NODISCARD;
enum sg_error stream_get_main_iframes(struct sg_request *req, struct sg_response *res) SG_NODISCARD;
enum sg_error stream_get_iframe(struct sg_request *req, struct sg_response *res) SG_NODISCARD;

/* streaming_subtitles.c */
enum sg_error stream_get_subtitles(struct sg_request *req, struct sg_response *res) SG_NODISCARD;
enum sg_error stream_get_subtitle_list(struct sg_request *req,
                                       struct sg_response *res) SG_NODISCARD;
enum sg_error stream_get_subtitle_segment(struct sg_request *req,
                                          struct sg_response *res) SG_NODISCARD;

/* streaming_thumbnails.c: the job that makes pictures ahead. */
enum sg_error stream_thumbnails_register(struct sg_services *svc) SG_NODISCARD;

/* streaming_pictures.c */
void stream_poster_key(struct stream_content *c, const char *id, const struct sg_render *render);
enum sg_error stream_get_poster(struct sg_request *req, struct sg_response *res) SG_NODISCARD;
enum sg_error stream_get_storyboard(struct sg_request *req, struct sg_response *res) SG_NODISCARD;
enum sg_error stream_get_sheet(struct sg_request *req, struct sg_response *res) SG_NODISCARD;

#endif
