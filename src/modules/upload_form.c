/* multipart/form-data: exactly one part named "file" goes to disk as it comes; the other parts are
 * metadata fields of bounded size. */
#include "upload_form.h"

#include <stdlib.h>
#include <string.h>

#include "streamgate/base/validate.h"
#include "streamgate/http/multipart.h"

#define FIELD_MAX_BYTES 32768

struct form_state {
    struct sg_request *req;
    struct ingest *in;
    bool in_file, have_file;
    char field[32];
    size_t len;
    char value[FIELD_MAX_BYTES];
};

static enum sg_error begin_file(struct form_state *s, const struct sg_multipart_part *part)
{
    if (s->have_file)
        return sg_request_fail(s->req, SG_ERR_INVALID, "file", "must be given once");
    if (part->filename == NULL)
        return sg_request_fail(s->req, SG_ERR_INVALID, "file", "must have a filename");
    const char *rule = sg_validate_filename(part->filename, strlen(part->filename));
    if (rule != NULL)
        return sg_request_fail(s->req, SG_ERR_INVALID, "filename", "%s", rule);
    s->in->filename = sg_arena_strdup(s->req->arena, part->filename);
    if (s->in->filename == NULL)
        return SG_ERR_NO_MEMORY;
    s->in_file = s->have_file = true;
    return SG_OK;
}

static enum sg_error part_begin(void *arg, const struct sg_multipart_part *part)
{
    struct form_state *s = arg;
    if (strcmp(part->name, "file") == 0)
        return begin_file(s, part);
    size_t n = strlen(part->name);
    if (n == 0 || n >= sizeof s->field)
        return sg_request_fail(s->req, SG_ERR_INVALID, "form",
                               "fields are file, title, description, tags, policy and custom");
    memcpy(s->field, part->name, n + 1);
    s->len = 0;
    return SG_OK;
}

static enum sg_error part_data(void *arg, const uint8_t *data, size_t len)
{
    struct form_state *s = arg;
    if (s->in_file)
        return ingest_write(s->req, s->in, data, len);
    if (len > sizeof s->value - s->len)
        return sg_request_fail(s->req, SG_ERR_TOO_LARGE, sg_arena_strdup(s->req->arena, s->field),
                               "must be at most %d bytes", FIELD_MAX_BYTES);
    memcpy(s->value + s->len, data, len);
    s->len += len;
    return SG_OK;
}

static enum sg_error part_end(void *arg)
{
    struct form_state *s = arg;
    if (s->in_file) {
        s->in_file = false;
        return SG_OK;
    }
    return sg_asset_edit_text(s->req, &s->in->edit, s->field, s->value, s->len);
}

static enum sg_error explain(struct sg_request *req, struct ingest *in, enum sg_error err)
{
    if (err == SG_ERR_MALFORMED)
        return sg_request_fail(req, err, "body", "%s", sg_multipart_why(in->form));
    return err;
}

enum sg_error form_begin(struct sg_request *req, struct ingest *in)
{
    struct form_state *s = calloc(1, sizeof *s);
    if (s == NULL)
        return SG_ERR_NO_MEMORY;
    s->req = req;
    s->in = in;
    in->form_state = s;
    struct sg_multipart_events events = {
        .part_begin = part_begin, .part_data = part_data, .part_end = part_end, .arg = s};
    return sg_multipart_create(sg_request_header(req, "content-type"), &events, &in->form);
}

enum sg_error form_data(struct sg_request *req, struct ingest *in, const uint8_t *data, size_t len)
{
    if (in->body_sha != NULL)
        sg_sha256_update(in->body_sha, data, len);
    return explain(req, in, sg_multipart_feed(in->form, data, len));
}

enum sg_error form_end(struct sg_request *req, struct ingest *in)
{
    enum sg_error err = explain(req, in, sg_multipart_finish(in->form));
    if (err == SG_OK && !in->form_state->have_file)
        err = sg_request_fail(req, SG_ERR_INVALID, "file", "is missing");
    return err;
}
