/* Uploads in one request: a raw body (curl -T) or a form (curl -F). */
#include <string.h>

#include "streamgate/base/validate.h"
#include "streamgate/http/asset_view.h"
#include "streamgate/modules/modules.h"

#include "upload_form.h"
#include "upload_ingest.h"
#include "upload_session.h"

static enum sg_error raw_metadata(struct sg_request *req, struct sg_asset_edit *edit)
{
    static const char *const names[] = {"title", "description", "tags", "policy", "custom"};
    for (size_t i = 0; i < SG_ARRAY_LEN(names); i++) {
        const char *value;
        enum sg_error err = sg_request_query(req, names[i], &value);
        if (err == SG_OK && value != NULL)
            err = sg_asset_edit_text(req, edit, names[i], value, strlen(value));
        if (err != SG_OK)
            return err;
    }
    return SG_OK;
}

static enum sg_error raw_begin(struct sg_request *req)
{
    const char *name = sg_request_param(req, "filename");
    const char *rule = sg_validate_filename(name, strlen(name));
    if (rule != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "filename", "%s", rule);
    struct sg_asset_edit edit = {0};
    enum sg_error err = raw_metadata(req, &edit);
    struct ingest *in;
    if (err == SG_OK)
        err = ingest_begin(req, INGEST_RAW, &in);
    if (err != SG_OK)
        return err;
    in->edit = edit;
    in->filename = name;
    return SG_OK;
}

static enum sg_error raw_data(struct sg_request *req, const uint8_t *data, size_t len)
{
    return ingest_write(req, req->state, data, len);
}

static enum sg_error raw_put(struct sg_request *req, struct sg_response *res)
{
    return ingest_finish(req, res, req->state);
}

static enum sg_error form_upload_begin(struct sg_request *req)
{
    const char *type = sg_request_header(req, "content-type");
    if (type == NULL || !sg_str_istarts(type, "multipart/form-data"))
        return sg_request_fail(req, SG_ERR_UNSUPPORTED_MEDIA, "Content-Type",
                               "must be multipart/form-data; a raw body goes to PUT "
                               "/api/v1/upload/{filename}");
    struct ingest *in;
    enum sg_error err = ingest_begin(req, INGEST_FORM, &in);
    if (err != SG_OK)
        return err;
    err = form_begin(req, in);
    if (err == SG_ERR_INVALID)
        return sg_request_fail(req, err, "Content-Type", "must name a valid boundary");
    return err;
}

static enum sg_error form_upload_data(struct sg_request *req, const uint8_t *data, size_t len)
{
    return form_data(req, req->state, data, len);
}

static enum sg_error form_post(struct sg_request *req, struct sg_response *res)
{
    enum sg_error err = form_end(req, req->state);
    return err != SG_OK ? err : ingest_finish(req, res, req->state);
}

static const struct sg_param_doc raw_query[] = {
    {"title", "string", "Title; the file name when absent"},
    {"description", "string", "Description"},
    {"tags", "string", "Tags, comma-separated"},
    {"policy", "string", "public or signed"},
    {"custom", "string", "A JSON object of your own"},
};

#define ASSET_SCHEMA "{\"$ref\":\"#/components/schemas/Asset\"}"
#define FORM_SCHEMA                                                                                \
    "{\"type\":\"object\",\"required\":[\"file\"],\"properties\":{\"file\":{\"type\":\"string\","  \
    "\"format\":\"binary\"},\"title\":{\"type\":\"string\"},\"description\":{\"type\":\"string\"}" \
    ","                                                                                            \
    "\"tags\":{\"type\":\"string\"},\"policy\":{\"type\":\"string\",\"enum\":[\"public\","         \
    "\"signed\"]},"                                                                                \
    "\"custom\":{\"type\":\"string\"}}}"

static const struct sg_route routes[] = {
    {.method = SG_PUT,
     .path = "/api/v1/upload/{filename...}",
     .handle = raw_put,
     .body = SG_BODY_STREAM,
     .body_begin = raw_begin,
     .body_data = raw_data,
     .max_body = SG_SET_upload_max_size,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_UPLOAD,
     .blocking = true,
     .summary = "Upload a file as the request body",
     .query = raw_query,
     .n_query = SG_ARRAY_LEN(raw_query),
     .request_type = "application/octet-stream",
     .response_schema = ASSET_SCHEMA,
     .success = 201},
    {.method = SG_POST,
     .path = "/api/v1/upload",
     .handle = form_post,
     .body = SG_BODY_STREAM,
     .body_begin = form_upload_begin,
     .body_data = form_upload_data,
     .max_body = SG_SET_upload_max_size,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_UPLOAD,
     .blocking = true,
     .summary = "Upload a file as a form",
     .request_type = "multipart/form-data",
     .request_schema = FORM_SCHEMA,
     .response_schema = ASSET_SCHEMA,
     .success = 201},
};

static enum sg_error upload_init(struct sg_services *svc)
{
    enum sg_error err = upload_counts_define();
    return err == SG_OK ? upload_state_create(&svc->uploads) : err;
}

static void upload_shutdown(struct sg_services *svc)
{
    upload_state_destroy(&svc->uploads);
}

const struct sg_module sg_upload_module = {.name = "upload",
                                           .routes = routes,
                                           .n_routes = SG_ARRAY_LEN(routes),
                                           .init = upload_init,
                                           .tick = upload_sessions_tick,
                                           .shutdown = upload_shutdown};
