/* JSON members that several ways to upload share. Every refusal names the member and its rule. */
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/base/validate.h"

#include "upload_session.h"

enum sg_error upload_take_text(struct sg_request *req, const char *name, const json_t *value,
                               const char **out)
{
    if (!json_is_string(value))
        return sg_request_fail(req, SG_ERR_INVALID, name, "must be a string");
    const char *text = sg_arena_strdup(req->arena, json_string_value(value));
    if (text == NULL)
        return SG_ERR_NO_MEMORY;
    *out = text;
    return SG_OK;
}

enum sg_error upload_take_filename(struct sg_request *req, const json_t *value, const char **out)
{
    const char *text;
    enum sg_error err = upload_take_text(req, "filename", value, &text);
    if (err != SG_OK)
        return err;
    const char *rule = sg_validate_filename(json_string_value(value), json_string_length(value));
    if (rule != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "filename", "%s", rule);
    *out = text;
    return SG_OK;
}

enum sg_error upload_take_sha256(struct sg_request *req, const json_t *value,
                                 uint8_t out[SG_SHA256_LEN])
{
    if (!json_is_string(value))
        return sg_request_fail(req, SG_ERR_INVALID, "sha256", "must be a string");
    const char *hex = json_string_value(value);
    size_t len = json_string_length(value);
    const char *rule = sg_validate_sha256_hex(hex, len);
    if (rule != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "sha256", "%s", rule);
    return sg_hex_decode(hex, len, out, SG_SHA256_LEN);
}
