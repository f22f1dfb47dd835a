/* What a fetch decides without asking anybody: addresses, URLs, names, headers. */
#include <stdio.h>
#include <string.h>

#include "streamgate/layers/fetch.h"

#include "fetch_head.h"
#include "layers_support.h"

static struct sg_address at(const char *text)
{
    struct sg_address a;
    if (sg_address_parse(text, strlen(text), &a) != SG_OK)
        fail_msg("%s", text);
    return a;
}

static void expect(const char *text, const struct sg_cidr_list *allow, bool want)
{
    struct sg_address a = at(text);
    if (sg_fetch_address_allowed(&a, allow) != want)
        fail_msg("%s: want %s", text, want ? "allowed" : "refused");
}

/* Of each special block its first and last address, and the neighbours where they are public. */
static const struct {
    const char *text;
    bool allowed;
} addresses[] = {
    {"0.0.0.0", false},
    {"0.255.255.255", false},
    {"1.0.0.0", true},
    {"9.255.255.255", true},
    {"10.0.0.0", false},
    {"10.255.255.255", false},
    {"11.0.0.0", true},
    {"100.63.255.255", true},
    {"100.64.0.0", false},
    {"100.127.255.255", false},
    {"100.128.0.0", true},
    {"126.255.255.255", true},
    {"127.0.0.0", false},
    {"127.0.0.1", false},
    {"127.255.255.255", false},
    {"128.0.0.0", true},
    {"169.253.255.255", true},
    {"169.254.0.0", false},
    {"169.254.169.254", false},
    {"169.254.255.255", false},
    {"169.255.0.0", true},
    {"172.15.255.255", true},
    {"172.16.0.0", false},
    {"172.31.255.255", false},
    {"172.32.0.0", true},
    {"191.255.255.255", true},
    {"192.0.0.0", false},
    {"192.0.0.255", false},
    {"192.0.1.0", true},
    {"192.0.2.0", false},
    {"192.0.2.255", false},
    {"192.0.3.0", true},
    {"192.88.98.255", true},
    {"192.88.99.0", false},
    {"192.88.99.255", false},
    {"192.88.100.0", true},
    {"192.167.255.255", true},
    {"192.168.0.0", false},
    {"192.168.255.255", false},
    {"192.169.0.0", true},
    {"198.17.255.255", true},
    {"198.18.0.0", false},
    {"198.19.255.255", false},
    {"198.20.0.0", true},
    {"198.51.99.255", true},
    {"198.51.100.0", false},
    {"198.51.100.255", false},
    {"198.51.101.0", true},
    {"203.0.112.255", true},
    {"203.0.113.0", false},
    {"203.0.113.255", false},
    {"203.0.114.0", true},
    {"223.255.255.255", true},
    {"224.0.0.0", false},
    {"239.255.255.255", false},
    {"240.0.0.0", false},
    {"255.255.255.254", false},
    {"255.255.255.255", false},
    {"8.8.8.8", true},

    {"::", false},
    {"::1", false},
    {"::2", false},
    {"::127.0.0.1", false},
    {"::8.8.8.8", false},
    {"::ffff:8.8.8.8", true},
    {"::ffff:127.0.0.1", false},
    {"::ffff:0:8.8.8.8", false},
    {"64:ff9b::8.8.8.8", true},
    {"64:ff9b::10.0.0.1", false},
    {"64:ff9b::169.254.169.254", false},
    {"64:ff9b:1::8.8.8.8", false},
    {"64:ff9b:0:0:1::1", false},
    {"100::", false},
    {"100::1", false},
    {"1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
    {"2000::", true},
    {"2001::", false},
    {"2001::1", false},
    {"2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", false},
    {"2001:200::", true},
    {"2001:db7:ffff::", true},
    {"2001:db8::", false},
    {"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", false},
    {"2001:db9::", true},
    {"2001:4860:4860::8888", true},
    {"2002:0808:0808::1", true},
    {"2002:7f00:1::", false},
    {"2002:a00:1::1", false},
    {"2002:a9fe:a9fe::", false},
    {"2002:c0a8:101::1", false},
    {"2003::", true},
    {"2606:4700::1111", true},
    {"3fff::1", false},
    {"3fff:1000::", true},
    {"3fff:ffff::", true},
    {"4000::", false},
    {"5f00::1", false},
    {"fc00::", false},
    {"fdff:ffff::1", false},
    {"fe00::", false},
    {"fe80::", false},
    {"fe80::1", false},
    {"febf:ffff::1", false},
    {"fec0::1", false},
    {"feff:ffff::1", false},
    {"ff00::", false},
    {"ff02::1", false},
    {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
};

static void knows_special_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(addresses); i++)
        expect(addresses[i].text, NULL, addresses[i].allowed);
}

static void allows_what_is_listed(void **state)
{
    (void)state;
    struct sg_cidr_list *list;
    assert_int_equal(sg_cidr_list_parse("127.0.0.1, 10.1.0.0/16, fd00::/8", &list), SG_OK);
    expect("127.0.0.1", list, true);
    expect("::ffff:127.0.0.1", list, true);
    expect("127.0.0.2", list, false);
    expect("10.1.2.3", list, true);
    expect("10.2.0.0", list, false);
    expect("fd12::1", list, true);
    expect("fc00::1", list, false);
    expect("::1", list, false);
    /* Other addresses that lead to a listed one are not that one. */
    expect("64:ff9b::127.0.0.1", list, false);
    expect("2002:7f00:1::", list, false);
    expect("8.8.8.8", list, true);
    sg_cidr_list_destroy(&list);
}

static void checks_urls(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        enum sg_error want;
    } rows[] = {
        {"http://example.com/a.mp4", SG_OK},
        {"https://example.com", SG_OK},
        {"HTTPS://EXAMPLE.com:8443/a?b=c#d", SG_OK},
        {"http://8.8.8.8/", SG_OK},
        {"http://[2606:4700::1111]:80/", SG_OK},
        {"http://localhost/", SG_OK}, /* a name: resolved by the fetch, refused then */
        {"", SG_ERR_INVALID},
        {"example.com/a.mp4", SG_ERR_INVALID},
        {"//example.com/a", SG_ERR_INVALID},
        {"http:///a", SG_ERR_INVALID},
        {"http:example.com", SG_ERR_INVALID},
        {"file:///etc/passwd", SG_ERR_INVALID},
        {"ftp://example.com/a", SG_ERR_INVALID},
        {"gopher://example.com/a", SG_ERR_INVALID},
        {"dict://example.com/a", SG_ERR_INVALID},
        {"http://user@example.com/", SG_ERR_INVALID},
        {"http://user:secret@example.com/", SG_ERR_INVALID},
        {"http://@example.com/", SG_ERR_INVALID},
        {"http://example.com\\@127.0.0.1/", SG_ERR_INVALID},
        {"http://example.com:0/", SG_ERR_INVALID},
        {"http://example.com:65536/", SG_ERR_INVALID},
        {"http://exa mple.com/", SG_ERR_INVALID},
        {"http://example.com/\r\nX: y", SG_ERR_INVALID},
        {"http://127%2e0%2e0%2e1/", SG_ERR_INVALID},
        {"http://[fe80::1%25eth0]/", SG_ERR_INVALID},
        {"http://127.0.0.1/", SG_ERR_FORBIDDEN},
        {"http://127.0.0.1:8080/a", SG_ERR_FORBIDDEN},
        {"http://127.1/", SG_ERR_FORBIDDEN},
        {"http://127.0.1/", SG_ERR_FORBIDDEN},
        {"http://2130706433/", SG_ERR_FORBIDDEN},
        {"http://0x7f000001/", SG_ERR_FORBIDDEN},
        {"http://0X7F.0.0.1/", SG_ERR_FORBIDDEN},
        {"http://017700000001/", SG_ERR_FORBIDDEN},
        {"http://0177.0.0.1/", SG_ERR_FORBIDDEN},
        {"http://0/", SG_ERR_FORBIDDEN},
        {"http://169.254.169.254/latest/meta-data/", SG_ERR_FORBIDDEN},
        {"http://[::1]/", SG_ERR_FORBIDDEN},
        {"http://[::ffff:127.0.0.1]/", SG_ERR_FORBIDDEN},
        {"http://[::ffff:7f00:1]/", SG_ERR_FORBIDDEN},
        {"http://[::]/", SG_ERR_FORBIDDEN},
        {"http://[fd00::1]/", SG_ERR_FORBIDDEN},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        const char *why = NULL;
        enum sg_error err = sg_fetch_check_url(rows[i].url, NULL, &why);
        if (err != rows[i].want)
            fail_msg("%s: %s, want %s", rows[i].url, sg_error_slug(err),
                     sg_error_slug(rows[i].want));
        assert_non_null(why);
    }
    struct sg_cidr_list *list;
    const char *why;
    assert_int_equal(sg_cidr_list_parse("127.0.0.1", &list), SG_OK);
    assert_int_equal(sg_fetch_check_url("http://0x7f.1/", list, &why), SG_OK);
    assert_int_equal(sg_fetch_check_url("http://127.0.0.2/", list, &why), SG_ERR_FORBIDDEN);
    sg_cidr_list_destroy(&list);
}

/* ---- names ---- */

struct naming {
    const char *from, *want; /* NULL: none */
};

static void expect_names(const struct naming *rows, size_t n,
                         enum sg_error (*name)(const char *, char[SG_FETCH_NAME_SIZE]))
{
    for (size_t i = 0; i < n; i++) {
        char out[SG_FETCH_NAME_SIZE] = "untouched";
        enum sg_error err = name(rows[i].from, out);
        if (rows[i].want == NULL && err == SG_OK)
            fail_msg("%s: got %s", rows[i].from, out);
        if (rows[i].want != NULL && (err != SG_OK || strcmp(out, rows[i].want) != 0))
            fail_msg("%s: got %s, want %s", rows[i].from, out, rows[i].want);
    }
}

static void names_by_url(void **state)
{
    (void)state;
    static const struct naming rows[] = {
        {"http://h/film.mp4", "film.mp4"},
        {"http://h/a/b/film.mp4?x=/y/z.mp4#/w", "film.mp4"},
        {"http://h/Ein%20F%C3%ADlm.mp4", "Ein F\xc3\xadlm.mp4"},
        {"http://h:80/a+b.mp4", "a+b.mp4"},
        {"http://h", NULL},
        {"http://h/", NULL},
        {"http://h/a/", NULL},
        {"http://h?/a", NULL},
        {"http://h/..", NULL},
        {"http://h/%2e%2e", NULL},
        {"http://h/a%2fb", NULL},
        {"http://h/a%00b", NULL},
        {"http://h/a%0ab", NULL},
        {"http://h/%ff.mp4", NULL},
        {"http://h/%20a", NULL},
    };
    expect_names(rows, SG_ARRAY_LEN(rows), sg_fetch_name_from_url);
    char longest[512] = "http://h/", out[SG_FETCH_NAME_SIZE];
    memset(longest + 9, 'a', 255);
    assert_int_equal(sg_fetch_name_from_url(longest, out), SG_OK);
    assert_int_equal(strlen(out), 255);
    longest[9 + 255] = 'a';
    assert_int_equal(sg_fetch_name_from_url(longest, out), SG_ERR_NOT_FOUND);
}

static void names_by_disposition(void **state)
{
    (void)state;
    static const struct naming rows[] = {
        {"attachment; filename=film.mp4", "film.mp4"},
        {"attachment; filename=\"a film.mp4\"", "a film.mp4"},
        {"ATTACHMENT;FILENAME=\"a;b.mp4\" ; x=y", "a;b.mp4"},
        {"inline; filename=\"say \\\"hi\\\".mp4\"", "say \"hi\".mp4"},
        {"attachment; filename=\"plain.mp4\"; filename*=UTF-8''F%C3%ADlm.mp4", "F\xc3\xadlm.mp4"},
        {"attachment; filename*=utf-8'en'b.mp4; filename=plain.mp4", "b.mp4"},
        {"attachment; filename*=ISO-8859-1''%ED.mp4; filename=plain.mp4", "plain.mp4"},
        {"attachment; filename*=UTF-8''%ff; filename=plain.mp4", "plain.mp4"},
        {"attachment; filename=\"/etc/passwd\"", "passwd"},
        {"attachment; filename=\"C:\\dir\\film.mp4\"", "film.mp4"},
        {"attachment; filename=\"../../x\"", "x"},
        {"attachment; foo; filename=x", "x"},
        {"", NULL},
        {"attachment", NULL},
        {"attachment;", NULL},
        {"attachment; filename", NULL},
        {"attachment; filename=", NULL},
        {"attachment; filename=\"\"", NULL},
        {"attachment; filename=\"open", NULL},
        {"attachment; filename=\"open\\", NULL},
        {"attachment; filename=\"..\"", NULL},
        {"attachment; filename=\"a/\"", NULL},
        {"attachment; filename=\"\xff\"", NULL},
        {"attachment; filename*=UTF-8", NULL},
        {"attachment; filename*=UTF-8'", NULL},
        {"attachment; filename*=UTF-8''a%2Fb", NULL},
        {"attachment; filename=a; filename=b", NULL},
        {"attachment; xfilename=b", NULL},
    };
    expect_names(rows, SG_ARRAY_LEN(rows), sg_fetch_name_from_disposition);
}

/* ---- headers ---- */

static struct fetch_head head_of(const char *const *lines)
{
    struct fetch_head h = {0};
    for (; *lines != NULL; lines++)
        fetch_head_line(&h, *lines, strlen(*lines));
    return h;
}

static void reads_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        bool range, total;
        uint64_t first, last, size;
    } rows[] = {
        {"Content-Range: bytes 5-9/10\r\n", true, true, 5, 9, 10},
        {"content-range:bytes 0-0/1", true, true, 0, 0, 1},
        {"Content-Range: bytes 5-9/*\r\n", true, false, 5, 9, 0},
        {"Content-Range: bytes 5-9/9\r\n", false, false, 0, 0, 0},
        {"Content-Range: bytes 9-5/20\r\n", false, false, 0, 0, 0},
        {"Content-Range: bytes */10\r\n", false, false, 0, 0, 0},
        {"Content-Range: bytes 5-/10\r\n", false, false, 0, 0, 0},
        {"Content-Range: bytes -5/10\r\n", false, false, 0, 0, 0},
        {"Content-Range: bytes +5-9/10\r\n", false, false, 0, 0, 0},
        {"Content-Range: items 5-9/10\r\n", false, false, 0, 0, 0},
        {"Content-Range: bytes 5-9\r\n", false, false, 0, 0, 0},
        {"Content-Range: bytes 5-18446744073709551616/*\r\n", false, false, 0, 0, 0},
        {"Content-Range: \r\n", false, false, 0, 0, 0},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct fetch_head h = head_of((const char *const[]){rows[i].line, NULL});
        if (h.has_range != rows[i].range || h.has_total != rows[i].total ||
            h.range_first != rows[i].first || h.range_last != rows[i].last ||
            h.range_total != rows[i].size)
            fail_msg("%s", rows[i].line);
    }
}

#define DATE "Date: Sat, 21 Nov 2026 10:00:00 GMT"

static void chooses_validators(void **state)
{
    (void)state;
    static const struct {
        const char *lines[4];
        const char *want;
    } rows[] = {
        {{"ETag: \"a\"\r\n"}, "\"a\""},
        {{"ETag: \"a\"", "Last-Modified: Sat, 21 Nov 2026 09:00:00 GMT", DATE}, "\"a\""},
        {{"ETag: W/\"a\"", "Last-Modified: Sat, 21 Nov 2026 09:00:00 GMT", DATE},
         "Sat, 21 Nov 2026 09:00:00 GMT"},
        {{"Last-Modified: Sat, 21 Nov 2026 09:59:59 GMT", DATE}, "Sat, 21 Nov 2026 09:59:59 GMT"},
        {{"Last-Modified: Sat, 21 Nov 2026 10:00:00 GMT", DATE}, ""},
        {{"Last-Modified: Sat, 21 Nov 2026 11:00:00 GMT", DATE}, ""},
        {{"Last-Modified: Sat, 21 Nov 2026 09:00:00 GMT"}, ""},
        {{"Last-Modified: yesterday", DATE}, ""},
        {{"ETag: W/\"a\""}, ""},
        {{"ETag: a"}, ""},
        {{"ETag: \""}, ""},
        {{"ETag: \"a\"b\""}, ""},
        {{"ETag: \"a b\""}, ""},
        {{"X: y"}, ""},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct fetch_head h = head_of(rows[i].lines);
        assert_string_equal(fetch_head_validator(&h), rows[i].want);
    }
}

static void bounds_what_it_keeps(void **state)
{
    (void)state;
    char line[4096];
    struct fetch_head h = {0};
    snprintf(line, sizeof line, "ETag: \"%0300d\"\r\n", 1);
    fetch_head_line(&h, line, strlen(line));
    assert_string_equal(h.etag, "");
    snprintf(line, sizeof line, "Location: /%02047d\r\n", 1);
    fetch_head_line(&h, line, strlen(line));
    assert_false(h.location_too_long);
    assert_int_equal(strlen(h.location), 2048);
    snprintf(line, sizeof line, "Location: /%02048d\r\n", 1);
    fetch_head_line(&h, line, strlen(line));
    assert_true(h.location_too_long);
    fetch_head_line(&h, "Content-Length: -1", 18);
    assert_true(!h.has_length && h.bad_length);
    fetch_head_line(&h, "Content-Length: 12\r\n", 20);
    assert_true(h.has_length && h.length == 12);
    fetch_head_line(&h, "Content-Length: 12\r\n", 20);
    assert_true(h.bad_length); /* for the first one */
    fetch_head_line(&h, "Retry-After: 7\r\n", 16);
    assert_int_equal(h.retry_after_ms, 7000);
    fetch_head_line(&h, "Retry-After: 99999999\r\n", 23);
    assert_int_equal(h.retry_after_ms, 7000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_special_addresses),
        cmocka_unit_test(allows_what_is_listed),
        cmocka_unit_test(checks_urls),
        cmocka_unit_test(names_by_url),
        cmocka_unit_test(names_by_disposition),
        cmocka_unit_test(reads_ranges),
        cmocka_unit_test(chooses_validators),
        cmocka_unit_test(bounds_what_it_keeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
