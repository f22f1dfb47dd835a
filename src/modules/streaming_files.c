/* Whole files, with Range: the original as it came, and renditions to take away. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/fs.h"

#include "streaming.h"

/* RFC 6266 with RFC 8187: any UTF-8 name, percent-encoded. */
static enum sg_error disposition(struct sg_request *req, struct sg_response *res, const char *how,
                                 const char *filename)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = strlen(filename);
    char *enc = sg_arena_alloc(req->arena, 3 * n + 1), *p = enc;
    if (enc == NULL)
        return SG_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        unsigned char ch = (unsigned char)filename[i];
        bool plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                     (ch >= '0' && ch <= '9') || ch == '.' || ch == '-' || ch == '_';
        if (plain) {
            *p++ = (char)ch;
        } else {
            *p++ = '%';
            *p++ = hex[ch >> 4];
            *p++ = hex[ch & 15];
        }
    }
    *p = '\0';
    return sg_response_headerf(req, res, "Content-Disposition", "%s; filename*=UTF-8''%s", how,
                               enc);
}

struct file {
    struct stream_content content;
    const char *id; /* of the stored file */
    const char *how, *name;
};

static enum sg_error answer_file(struct sg_request *req, struct sg_response *res,
                                 const struct sg_asset *asset, struct file *f)
{
    int fd = -1;
    uint64_t size;
    enum sg_error err = sg_blob_open(req->svc->blobs, f->id, &fd);
    if (err == SG_OK)
        err = sg_fs_size(fd, &size);
    if (err != SG_OK) {
        if (fd >= 0)
            close(fd);
        return err;
    }
    sg_response_file(res, 200, f->content.type, fd, size);
    res->ranges = true;
    res->etag = stream_etag(req, asset, &f->content);
    res->last_modified_ms = asset->f.created_ms;
    res->cache_control = asset->f.policy == SG_POLICY_PUBLIC
                             ? "public, max-age=31536000, immutable"
                             : "private, max-age=31536000, immutable";
    stream_count(f->content.kind);
    return res->etag != NULL ? disposition(req, res, f->how, f->name) : SG_ERR_NO_MEMORY;
}

enum sg_error stream_get_source(struct sg_request *req, struct sg_response *res)
{
    if (!req->may_block)
        return SG_ERR_WOULD_BLOCK;
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    const struct sg_asset_fields *a = &e->asset->f;
    struct file f = {
        .content = {.kind = STREAM_SOURCE, .type = sg_arena_strdup(req->arena, a->content_type)},
        .id = a->id,
        .how = "inline",
        .name = a->filename};
    stream_make_key(&f.content, a->id, "source", "file", 0);
    err = f.content.type != NULL ? answer_file(req, res, e->asset, &f) : SG_ERR_NO_MEMORY;
    sg_asset_entry_unref(e);
    return err;
}

/* {name of the source without its extension}-{rendition}.mp4 */
static const char *download_name(struct sg_request *req, const char *filename, const char *dir)
{
    const char *dot = strrchr(filename, '.');
    size_t n = dot != NULL && dot != filename ? (size_t)(dot - filename) : strlen(filename);
    return sg_arena_printf(req->arena, "%.*s-%s.mp4", (int)n, filename, dir);
}

/* The file behind a rendition, as it is stored: a rung has its sound in it. */
enum sg_error stream_get_download(struct sg_request *req, struct sg_response *res)
{
    if (!req->may_block)
        return SG_ERR_WOULD_BLOCK;
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    struct sg_offer offer;
    struct file f = {.content = {.kind = STREAM_DOWNLOAD}, .how = "attachment"};
    err = stream_find(req, e, false, &offer);
    if (err == SG_OK && offer.track != sg_media_index_main(offer.file->index))
        err = sg_request_fail(req, SG_ERR_NOT_FOUND, NULL,
                              "this rendition is a part of a file; download its main one");
    if (err == SG_OK) {
        f.id = offer.file->id;
        f.content.type = offer.track->kind == SG_TRACK_VIDEO ? "video/mp4" : "audio/mp4";
        f.name = download_name(req, e->asset->f.filename, offer.track->name);
        stream_make_key(&f.content, f.id, offer.track->name, "file", 0);
        err = f.name != NULL ? answer_file(req, res, e->asset, &f) : SG_ERR_NO_MEMORY;
    }
    sg_asset_entry_unref(e);
    return err;
}
