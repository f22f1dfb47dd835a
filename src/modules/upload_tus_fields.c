/* The header fields of a tus request, checked before anything is touched. */
#include <inttypes.h>
#include <string.h>

#include "streamgate/base/validate.h"

#include "upload_tus.h"

#define VERSION "1.0.0"
#define BODY_TYPE "application/offset+octet-stream"
#define NAMELESS "upload"

enum sg_error tus_field(struct sg_request *req, const char *name, const char **out)
{
    const char *found = NULL;
    for (unsigned i = 0; i < req->n_headers; i++) {
        if (!sg_str_ieq(req->headers[i].name, name))
            continue;
        if (found != NULL)
            return sg_request_fail(req, SG_ERR_INVALID, name, "must be given only once");
        found = req->headers[i].value;
    }
    *out = found;
    return SG_OK;
}

enum sg_error tus_check_version(struct sg_request *req)
{
    const char *version;
    enum sg_error err = tus_field(req, "Tus-Resumable", &version);
    if (err != SG_OK || (version != NULL && strcmp(version, VERSION) == 0))
        return err;
    err = sg_request_answer_header(req, "Tus-Version", VERSION);
    return err != SG_OK ? err
                        : sg_request_fail(req, SG_ERR_PRECONDITION_FAILED, "Tus-Resumable",
                                          "must be given as " VERSION);
}

enum sg_error tus_number(struct sg_request *req, const char *name, bool *has, uint64_t *out)
{
    const char *value;
    enum sg_error err = tus_field(req, name, &value);
    if (err != SG_OK)
        return err;
    *has = value != NULL;
    if (value != NULL && sg_tus_number_parse(value, out) != SG_OK)
        return sg_request_fail(req, SG_ERR_INVALID, name, "must be a decimal number below 2^63");
    return SG_OK;
}

enum sg_error tus_check_type(struct sg_request *req)
{
    const char *type;
    enum sg_error err = tus_field(req, "Content-Type", &type);
    if (err == SG_OK && (type == NULL || !sg_str_ieq(type, BODY_TYPE)))
        err = sg_request_fail(req, SG_ERR_UNSUPPORTED_MEDIA, "Content-Type", "must be " BODY_TYPE);
    return err;
}

enum sg_error tus_read_checksum(struct sg_request *req, struct tus_state *t)
{
    const char *value;
    enum sg_error err = tus_field(req, "Upload-Checksum", &value);
    if (err != SG_OK || value == NULL)
        return err;
    err = sg_tus_checksum_parse(value, &t->checksum);
    t->has_checksum = err == SG_OK;
    if (err == SG_ERR_UNAVAILABLE)
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Checksum",
                               "must be of one of the algorithms " SG_TUS_ALGORITHMS);
    if (err != SG_OK)
        return sg_request_fail(req, err, "Upload-Checksum",
                               "must be an algorithm, a space and the digest in base64");
    return SG_OK;
}

bool tus_has_body(const struct sg_request *req)
{
    return req->chunked || req->content_length > 0;
}

/* ---- Upload-Metadata ---- */

static enum sg_error take_filename(struct sg_request *req, struct tus_state *t, const char *value,
                                   size_t len)
{
    const char *rule = sg_validate_filename(value, len);
    if (rule != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "filename", "%s", rule);
    t->filename = value;
    return SG_OK;
}

/* The keys of ours are fields of the asset; "name" is what some clients call the file name. What
 * else there is (filetype, for one: the content tells its type itself) is only given back. */
static enum sg_error take_pair(struct sg_request *req, struct tus_state *t,
                               const struct sg_tus_pair *pair)
{
    static const char *const fields[] = {"title", "description", "tags", "policy", "custom"};
    const size_t room = pair->encoded_len / 4 * 3;
    const char *key = sg_arena_strndup(req->arena, pair->key, pair->key_len);
    char *value = sg_arena_alloc(req->arena, room + 1);
    size_t len = 0;
    if (key == NULL || value == NULL)
        return SG_ERR_NO_MEMORY;
    if (sg_tus_pair_decode(pair, (uint8_t *)value, room, &len) != SG_OK)
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Metadata",
                               "the value of %s must be base64", key);
    value[len] = '\0';
    if (len == 0)
        return SG_OK;
    if (strcmp(key, "filename") == 0)
        return take_filename(req, t, value, len);
    if (strcmp(key, "name") == 0)
        return t->filename != NULL ? SG_OK : take_filename(req, t, value, len);
    for (size_t i = 0; i < SG_ARRAY_LEN(fields); i++) {
        if (strcmp(key, fields[i]) == 0)
            return sg_asset_edit_text(req, &t->edit, key, value, len);
    }
    return SG_OK;
}

enum sg_error tus_read_metadata(struct sg_request *req, struct tus_state *t)
{
    struct sg_tus_pair pairs[SG_TUS_PAIRS_MAX];
    const char *value;
    unsigned n = 0;
    enum sg_error err = tus_field(req, "Upload-Metadata", &value);
    if (err == SG_OK && value != NULL)
        err = sg_tus_metadata_parse(value, pairs, &n);
    if (err == SG_ERR_TOO_LARGE || err == SG_ERR_INVALID)
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Metadata",
                               "must be at most %d different keys, each with a value in base64, "
                               "separated by commas",
                               SG_TUS_PAIRS_MAX);
    for (unsigned i = 0; i < n && err == SG_OK; i++)
        err = take_pair(req, t, &pairs[i]);
    t->metadata = value != NULL ? value : "";
    if (t->filename == NULL)
        t->filename = NAMELESS;
    return err;
}
