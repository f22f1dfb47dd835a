#include "http_support.h"

#include <string.h>

#include "streamgate/base/json.h"
#include "streamgate/base/str.h"

void fixture_open(struct http_fixture *f, const char *const *overrides)
{
    memset(f, 0, sizeof(*f));
    size_t n = 0;
    while (overrides && overrides[n])
        n++;
    struct sg_text mistakes = {0};
    struct sg_config *config = NULL;
    const struct sg_config_params params = {.overrides = overrides, .n_overrides = n};
    assert_int_equal(sg_config_load(&params, &mistakes, &config), SG_OK);
    sg_text_free(&mistakes);
    atomic_init(&f->svc.config, config);
    f->req.svc = &f->svc;
    f->req.method = SG_GET;
    f->req.path = "/";
    f->req.query = "";
    memcpy(f->req.id, "01ARZ3NDEKTSV4RRFFQ69G5FAV", SG_ULID_SIZE);
    assert_int_equal(sg_arena_create(0, 0, &f->req.arena), SG_OK);
    sg_response_init(&f->res);
}

void fixture_close(struct http_fixture *f)
{
    sg_response_clear(&f->res);
    sg_buf_unref(f->req.wake_buf);
    sg_arena_destroy(&f->req.arena);
    sg_config_unref(atomic_load(&f->svc.config));
    struct sg_cidr_list *trusted = atomic_load(&f->svc.trusted_proxies);
    if (trusted)
        sg_cidr_list_destroy(&trusted);
}

void fixture_header(struct http_fixture *f, const char *name, const char *value)
{
    assert_in_range(f->req.n_headers, 0, SG_HEADERS_MAX - 1);
    f->req.headers[f->req.n_headers].name = name;
    f->req.headers[f->req.n_headers].value = value;
    f->req.n_headers++;
}

void fixture_reset(struct http_fixture *f)
{
    f->req.n_headers = 0;
    f->req.method = SG_GET;
    f->req.fail_field = NULL;
    f->req.fail_detail = NULL;
    sg_response_clear(&f->res);
}

const char *fixture_answer(const struct http_fixture *f, const char *name)
{
    for (unsigned i = 0; i < f->res.n_headers; i++) {
        if (sg_str_ieq(f->res.headers[i].name, name))
            return f->res.headers[i].value;
    }
    return NULL;
}

json_t *fixture_body(const struct http_fixture *f)
{
    json_t *value = NULL;
    assert_int_equal(f->res.source, SG_SOURCE_BUF);
    assert_int_equal(f->res.len, f->res.buf->len);
    assert_int_equal(sg_json_parse((const char *)f->res.buf->data, f->res.buf->len, &value, NULL),
                     SG_OK);
    return value;
}
