/* Properties of the text functions: what decodes encodes to the same again, what parses stays in
 * bounds. Every function sees every input. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/json.h"
#include "streamgate/base/str.h"
#include "streamgate/base/validate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void numbers(const char *s, size_t size)
{
    uint64_t n;
    if (sg_str_to_u64(s, size, UINT64_MAX, &n) == SG_OK) {
        char again[24];
        int len = snprintf(again, sizeof(again), "%llu", (unsigned long long)n);
        while (size > (size_t)len && *s == '0') {
            s++;
            size--;
        }
        CHECK(size == (size_t)len && memcmp(s, again, size) == 0);
    }
    if (sg_str_decimal_to_ms(s, size, 5000, &n) == SG_OK)
        CHECK(n <= 5000);
    if (sg_str_to_bytes(s, &n) == SG_OK || sg_str_to_ms(s, &n) == SG_OK)
        CHECK(s[0] >= '0' && s[0] <= '9');
}

static void codes(const char *s, size_t size)
{
    size_t room = 2 * size + 8, len;
    uint8_t *bytes = malloc(room);
    char *text = malloc(room);
    CHECK(bytes != NULL && text != NULL);
    if (sg_base64_decode(s, size, bytes, room, &len) == SG_OK)
        CHECK(sg_base64_encode(bytes, len, text, room) == size && memcmp(text, s, size) == 0);
    if (sg_base64url_decode(s, size, bytes, room, &len) == SG_OK)
        CHECK(sg_base64url_encode(bytes, len, text, room) == size && memcmp(text, s, size) == 0);
    CHECK(sg_base64_encode((const uint8_t *)s, size, text, room) == (size + 2) / 3 * 4);
    CHECK(sg_base64_decode(text, strlen(text), bytes, room, &len) == SG_OK && len == size);
    CHECK(memcmp(bytes, s, size) == 0);
    if (sg_hex_decode(s, size, bytes, size / 2) == SG_OK) {
        sg_hex_encode(bytes, size / 2, text);
        CHECK(sg_str_ieq(text, s));
    }
    memcpy(text, s, size);
    text[size] = '\0';
    if (sg_percent_decode(text, size, true, &len) == SG_OK) {
        CHECK(len <= size);
        CHECK(memchr(s, '\0', size) != NULL || memchr(text, '\0', len) == NULL);
        CHECK(memchr(s, '/', size) != NULL || memchr(text, '/', len) == NULL);
    } else {
        CHECK(memcmp(text, s, size) == 0);
    }
    free(text);
    free(bytes);
}

static void times_and_ids(const char *s)
{
    uint64_t ms;
    uint8_t id[16];
    char text[SG_HTTP_DATE_SIZE], ulid[SG_ULID_SIZE];
    if (sg_time_parse_http_date(s, &ms) == SG_OK) {
        sg_time_http_date(ms, text);
        CHECK(strcmp(text, s) == 0);
    }
    if (sg_ulid_parse(s, id) == SG_OK) {
        sg_ulid_format(id, ulid);
        CHECK(strcmp(ulid, s) == 0);
    }
}

static void json(const char *s, size_t size)
{
    json_t *value, *again;
    if (sg_json_parse(s, size, &value, NULL) != SG_OK)
        return;
    size_t len;
    char *text = sg_json_dump_canonical(value, &len);
    CHECK(text != NULL);
    CHECK(sg_json_parse(text, len, &again, NULL) == SG_OK);
    char *second = sg_json_dump_canonical(again, NULL);
    CHECK(second != NULL && strcmp(text, second) == 0);
    free(second);
    free(text);
    json_decref(again);
    json_decref(value);
}

static void rules(const char *s, size_t size)
{
    if (sg_validate_filename(s, size) == NULL)
        CHECK(memchr(s, '/', size) == NULL && memchr(s, '\0', size) == NULL && size <= 255);
    if (sg_validate_title(s, size) == NULL)
        CHECK(sg_str_is_utf8(s, size) && memchr(s, '\n', size) == NULL);
    if (sg_validate_http_url(s, size) == NULL)
        CHECK(sg_str_istarts(s, "http") && memchr(s, ' ', size) == NULL);
    if (sg_validate_email(s, size) == NULL)
        CHECK(memchr(s, '@', size) != NULL);
    (void)sg_validate_description(s, size);
    (void)sg_validate_tag(s, size);
    (void)sg_validate_name(s, size);
    (void)sg_validate_ulid(s, size);
    (void)sg_validate_eth_address(s, size);
    (void)sg_validate_sha256_hex(s, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *s = malloc(size + 1);
    CHECK(s != NULL);
    if (size > 0)
        memcpy(s, data, size);
    s[size] = '\0';
    numbers(s, size);
    codes(s, size);
    times_and_ids(s);
    json(s, size);
    rules(s, size);
    free(s);
    return 0;
}
