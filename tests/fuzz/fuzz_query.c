/* Query strings: the first line is the name asked for, the rest the raw query. A value that is
 * found is UTF-8, no longer than what it came from, and stays the same when encoded by hand and
 * read again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/http/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void encode(struct sg_text *out, const char *s)
{
    for (; *s != '\0'; s++)
        sg_text_printf(out, "%%%02X", (unsigned)(unsigned char)*s);
}

static void check_again(struct sg_request *req, const char *name, const char *value)
{
    struct sg_text query = {0};
    encode(&query, name);
    sg_text_puts(&query, "=");
    encode(&query, value);
    if (!query.failed) {
        const char *again = NULL;
        req->query = query.ptr;
        CHECK(sg_request_query(req, name, &again) == SG_OK && again);
        CHECK(strcmp(again, value) == 0);
    }
    sg_text_free(&query);
}

static void check_query(struct sg_request *req, const char *name)
{
    const char *value = NULL;
    const size_t raw_len = strlen(req->query);
    const enum sg_error err = sg_request_query(req, name, &value);
    uint64_t number = 0;
    const enum sg_error number_err = sg_request_query_u64(req, name, 3, 1000, 7, &number);
    if (err == SG_OK) {
        CHECK(number_err == SG_OK || number_err == SG_ERR_INVALID);
        CHECK(number_err != SG_OK || (number >= 3 && number <= 1000));
        if (!value) {
            CHECK(number == 7);
            return;
        }
        CHECK(strlen(value) <= raw_len && sg_str_is_utf8(value, strlen(value)));
        check_again(req, name, value);
    } else {
        CHECK(err == SG_ERR_INVALID && !value && number_err == err && req->fail_detail);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sg_request req = {.method = SG_GET};
    char *text = malloc(size + 1);
    if (!text || size > 65536 || sg_arena_create(0, 8u << 20, &req.arena) != SG_OK) {
        free(text);
        return 0;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    char *line_end = strchr(text, '\n');
    req.query = text;
    if (line_end) {
        *line_end = '\0';
        req.query = line_end + 1;
        if (*text != '\0' && sg_str_is_utf8(text, strlen(text)))
            check_query(&req, text);
        req.query = line_end + 1;
    }
    check_query(&req, "limit");
    sg_arena_destroy(&req.arena);
    free(text);
    return 0;
}
