/* Imports by URL: announced here, fetched by a job (upload_import_try.c), shown and ended like
 * every other upload. */
#include "upload_import.h"

#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/base/validate.h"
#include "streamgate/layers/fetch.h"
#include "streamgate/modules/modules.h"

struct wanted {
    const char *url, *filename; /* arena; NULL: not given */
    bool has_sha256;
    uint8_t sha256[SG_SHA256_LEN];
    struct sg_asset_edit edit;
};

static enum sg_error take_url(struct sg_request *req, const json_t *value, const char **out)
{
    enum sg_error err = upload_take_text(req, "url", value, out);
    if (err != SG_OK)
        return err;
    const char *why = NULL;
    struct sg_cidr_list *allow = upload_import_allowed(req->svc);
    err = sg_fetch_check_url(*out, allow, &why);
    sg_cidr_list_destroy(&allow);
    return err == SG_ERR_INVALID || err == SG_ERR_FORBIDDEN
               ? sg_request_fail(req, err, "url", "%s", why)
               : err;
}

static enum sg_error take_member(struct sg_request *req, const char *name, const json_t *value,
                                 struct wanted *w)
{
    if (strcmp(name, "url") == 0)
        return take_url(req, value, &w->url);
    if (strcmp(name, "filename") == 0)
        return upload_take_filename(req, value, &w->filename);
    if (strcmp(name, "sha256") == 0) {
        w->has_sha256 = true;
        return upload_take_sha256(req, value, w->sha256);
    }
    return sg_asset_edit_json(req, &w->edit, name, value);
}

static enum sg_error read_wanted(struct sg_request *req, struct wanted *w)
{
    json_t *body = NULL;
    enum sg_error err = sg_request_json(req, false, &body);
    if (err != SG_OK)
        return err;
    const char *name;
    json_t *value;
    json_object_foreach(body, name, value)
    {
        err = take_member(req, name, value, w);
        if (err != SG_OK)
            break;
    }
    json_decref(body);
    if (err == SG_OK && w->url == NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "url", "must be given");
    return err;
}

/* The source may know a better one when it is asked. */
static enum sg_error usual_name(struct sg_request *req, const char *url, const char **out)
{
    char name[SG_FETCH_NAME_SIZE];
    if (sg_fetch_name_from_url(url, name) != SG_OK) {
        *out = UPLOAD_IMPORT_NAME;
        return SG_OK;
    }
    *out = sg_arena_strdup(req->arena, name);
    return *out != NULL ? SG_OK : SG_ERR_NO_MEMORY;
}

static enum sg_error answer(struct sg_request *req, struct sg_response *res,
                            const struct sg_upload *u)
{
    json_t *body = upload_json(req, u);
    enum sg_error err = body != NULL ? sg_response_json(res, 202, body) : SG_ERR_NO_MEMORY;
    if (err != SG_OK)
        return err;
    return sg_response_headerf(req, res, "Location", "/api/v1/uploads/%s", u->f.id);
}

/* The job's place is taken first, so that no row stands there without one. */
static enum sg_error accept_import(struct sg_request *req, struct sg_response *res,
                                   const struct sg_upload *u)
{
    struct import_job *job = NULL;
    enum sg_error err = upload_import_reserve(req->svc->uploads->imports, &job);
    if (err == SG_ERR_UNAVAILABLE)
        return sg_request_fail(req, err, NULL, "too many imports are waiting; try again later");
    if (err == SG_OK)
        err = upload_insert(req, &u->f);
    if (err == SG_OK)
        err = answer(req, res, u);
    else
        goto out;
    /* The row is there: the import runs even if its answer could not be made. */
    upload_count_begun(INGEST_IMPORT);
    upload_import_start(job, u->f.id);
    job = NULL;
out:
    upload_import_drop(&job);
    return err;
}

static enum sg_error import_post(struct sg_request *req, struct sg_response *res)
{
    if (req->svc->uploads->imports->pool == NULL)
        return sg_request_fail(req, SG_ERR_FORBIDDEN, NULL, "imports by URL are switched off");
    struct wanted w = {0};
    struct sg_upload u;
    enum sg_error err = read_wanted(req, &w);
    if (err == SG_OK && w.filename == NULL)
        err = usual_name(req, w.url, &w.filename);
    if (err != SG_OK)
        return err;
    upload_fill(req, &w.edit, &u.f);
    u.f.kind = SG_UPLOAD_IMPORT;
    u.f.url = w.url;
    u.f.filename = w.filename;
    u.f.has_sha256 = w.has_sha256;
    memcpy(u.f.sha256, w.sha256, SG_SHA256_LEN);
    return accept_import(req, res, &u);
}

#define UPLOAD_SCHEMA "{\"$ref\":\"#/components/schemas/Upload\"}"
#define IMPORT_SCHEMA                                                                              \
    "{\"type\":\"object\",\"required\":[\"url\"],\"properties\":{"                                 \
    "\"url\":{\"type\":\"string\",\"format\":\"uri\"},\"filename\":{\"type\":\"string\"},"         \
    "\"title\":{\"type\":\"string\"},\"description\":{\"type\":\"string\"},"                       \
    "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"                               \
    "\"policy\":{\"type\":\"string\",\"enum\":[\"public\",\"signed\"]},"                           \
    "\"custom\":{\"type\":\"object\"},"                                                            \
    "\"sha256\":{\"type\":\"string\",\"pattern\":\"^[0-9a-fA-F]{64}$\"}},"                         \
    "\"additionalProperties\":false}"

static const struct sg_route routes[] = {
    {.method = SG_POST,
     .path = "/api/v1/uploads/import",
     .handle = import_post,
     .body = SG_BODY_JSON,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_UPLOAD,
     .blocking = true,
     .summary = "Import a file from an http or https URL, in the background",
     .tag = "upload",
     .request_schema = IMPORT_SCHEMA,
     .response_schema = UPLOAD_SCHEMA,
     .success = 202},
};

static enum sg_error import_init(struct sg_services *svc)
{
    enum sg_error err = sg_fetch_init();
    if (err != SG_OK)
        return err;
    err = upload_imports_create(svc, &svc->uploads->imports);
    if (err == SG_OK)
        err = upload_imports_resume(svc->uploads->imports);
    if (err != SG_OK) {
        upload_imports_destroy(&svc->uploads->imports);
        sg_fetch_end();
    }
    return err;
}

static void import_tick(struct sg_services *svc)
{
    upload_imports_tick(svc->uploads->imports);
}

static void import_shutdown(struct sg_services *svc)
{
    upload_imports_destroy(&svc->uploads->imports);
    sg_fetch_end();
}

const struct sg_module sg_import_module = {.name = "import",
                                           .routes = routes,
                                           .n_routes = SG_ARRAY_LEN(routes),
                                           .init = import_init,
                                           .tick = import_tick,
                                           .shutdown = import_shutdown};
