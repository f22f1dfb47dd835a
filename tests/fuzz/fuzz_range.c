/* Range: the first 8 bytes are the size of the content, the rest is the field. What is accepted
 * lies within the content and does not overlap, and a whole answer adds up. The other fields of a
 * request for a file, Content-Digest and the entity tags, see the same text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/http/digest_field.h"
#include "streamgate/http/response.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void check_range(const char *text, uint64_t content)
{
    struct sg_range ranges[SG_RANGES_MAX];
    unsigned n = 0;
    if (sg_range_parse(text, content, ranges, &n) != SG_RANGE_OK) {
        CHECK(n == 0);
        return;
    }
    CHECK(n >= 1 && n <= SG_RANGES_MAX);
    for (unsigned i = 0; i < n; i++) {
        CHECK(ranges[i].start < ranges[i].end && ranges[i].end <= content);
        for (unsigned k = 0; k < i; k++)
            CHECK(ranges[i].start >= ranges[k].end || ranges[k].start >= ranges[i].end);
    }
}

/* The whole answer: a 206 has a length and parts that add up; no other status than 200, 206 and 416
 * comes out. */
static void check_apply(const char *range, const char *if_range, uint64_t content)
{
    struct sg_request req = {.method = SG_GET, .n_headers = if_range ? 2 : 1};
    struct sg_response res;
    req.headers[0] = (struct sg_header){"Range", range};
    req.headers[1] = (struct sg_header){"If-Range", if_range};
    if (sg_arena_create(0, 0, &req.arena) != SG_OK)
        return;
    sg_response_init(&res);
    res.status = 200;
    res.source = SG_SOURCE_FILE;
    res.len = content;
    res.etag = "\"v1\"";
    res.content_type = "video/mp4";
    res.ranges = true;
    sg_range_apply(&req, &res);
    CHECK(res.status == 200 || res.status == 206 || res.status == 416);
    if (res.status == 206 && res.source == SG_SOURCE_PARTS) {
        uint64_t total = 0;
        for (unsigned i = 0; i < res.n_parts; i++) {
            CHECK(strlen(res.parts[i].prefix) == res.parts[i].prefix_len);
            total += res.parts[i].prefix_len + res.parts[i].len;
        }
        CHECK(total == res.len && res.parts[res.n_parts - 1].len == 0);
    } else if (res.status == 206) {
        CHECK(res.len > 0 && res.offset < content && res.len <= content - res.offset);
    } else if (res.status == 200) {
        CHECK(res.len == content && res.offset == 0);
    }
    sg_response_clear(&res);
    sg_arena_destroy(&req.arena);
}

static void check_conditional(const char *text)
{
    static const struct {
        const char *name;
        unsigned status; /* the only one besides 200 */
    } fields[] = {
        {"If-Match", 412},
        {"If-None-Match", 304},
        {"If-Modified-Since", 304},
        {"If-Unmodified-Since", 412},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(fields); i++) {
        struct sg_request req = {.method = SG_GET, .n_headers = 1};
        struct sg_response res;
        req.headers[0] = (struct sg_header){fields[i].name, text};
        if (sg_arena_create(0, 0, &req.arena) != SG_OK)
            return;
        sg_response_init(&res);
        res.status = 200;
        res.etag = "\"v1\"";
        res.last_modified_ms = 784111777000;
        sg_conditional_apply(&req, &res);
        CHECK(res.status == 200 || res.status == fields[i].status);
        sg_response_clear(&res);
        sg_arena_destroy(&req.arena);
    }
}

static void check_digest(const char *text)
{
    uint8_t digest[SG_SHA256_LEN], again[SG_SHA256_LEN];
    bool present = false;
    if (sg_content_digest_parse(text, &present, digest) != SG_OK || !present)
        return;
    char formatted[SG_CONTENT_DIGEST_SIZE];
    sg_content_digest_format(digest, formatted);
    CHECK(sg_content_digest_parse(formatted, &present, again) == SG_OK && present);
    CHECK(memcmp(digest, again, sizeof(digest)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t content;
    if (size < sizeof(content))
        return 0;
    memcpy(&content, data, sizeof(content));
    data += sizeof(content);
    size -= sizeof(content);
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    check_range(text, content);
    check_apply(text, NULL, content);
    check_apply("bytes=0-0", text, content);
    check_conditional(text);
    check_digest(text);
    free(text);
    return 0;
}
