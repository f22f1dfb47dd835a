#include <stdlib.h>
#include <string.h>

#include "streamgate/layers/address.h"

#include "layers_support.h"

static struct sg_address at(const char *text)
{
    struct sg_address a;
    if (sg_address_parse(text, strlen(text), &a) != SG_OK)
        fail_msg("%s", text);
    return a;
}

static void assert_text(const struct sg_address *a, const char *want)
{
    char text[SG_ADDRESS_TEXT];
    sg_address_format(a, text);
    assert_string_equal(text, want);
}

static void reads_addresses(void **state)
{
    (void)state;
    static const char *const good[][2] = {
        {"1.2.3.4", "1.2.3.4"},
        {"1.2.3.4:80", "1.2.3.4"},
        {"0.0.0.0", "0.0.0.0"},
        {"255.255.255.255:65535", "255.255.255.255"},
        {"::1", "::1"},
        {"::", "::"},
        {"[::1]", "::1"},
        {"[::1]:8080", "::1"},
        {"2001:DB8::A", "2001:db8::a"},
        {"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"},
        {"::ffff:1.2.3.4", "1.2.3.4"},
        {"[::ffff:102:304]:1", "1.2.3.4"},
        {"fe80::1", "fe80::1"},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(good); i++) {
        struct sg_address a = at(good[i][0]);
        assert_text(&a, good[i][1]);
    }
}

static void refuses_what_is_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.256",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:x",
        "1.2.3.4:65536",
        "1.2.3.4:-1",
        "0x1.2.3.4",
        "[1.2.3.4]",
        "[::1",
        "::1]",
        "[]",
        "[::1]80",
        "[::1]:",
        "[::1]:x",
        "[::1]:65536",
        ":::",
        "1::2::3",
        "fe80::1%eth0",
        "localhost",
        "unknown",
        "_hidden",
        "[",
        ":",
        "::1:",
        "12345::",
        "[[::1]]",
        "1:2:3:4:5:6:7:8:9",
        "1111111111111111111111111111111111111111111111111111:2:3",
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        struct sg_address a = {.b = {7}};
        if (sg_address_parse(bad[i], strlen(bad[i]), &a) != SG_ERR_INVALID)
            fail_msg("%s", bad[i]);
        assert_int_equal(a.b[0], 7);
    }
    struct sg_address a;
    assert_int_equal(sg_address_parse("1.2.3.4\0x", 9, &a), SG_ERR_INVALID);
}

static void identifies_for_limits(void **state)
{
    (void)state;
    uint8_t one[16];
    uint8_t two[16];
    struct sg_address a = at("2001:db8:1:2:3::1");
    struct sg_address b = at("2001:db8:1:2:ffff::9");
    struct sg_address other = at("2001:db8:1:3::1");
    sg_address_limit_id(&a, one);
    sg_address_limit_id(&b, two);
    assert_memory_equal(one, two, 16);
    sg_address_limit_id(&other, two);
    assert_memory_not_equal(one, two, 16);
    a = at("10.0.0.1");
    b = at("10.0.0.2");
    sg_address_limit_id(&a, one);
    sg_address_limit_id(&b, two);
    assert_memory_not_equal(one, two, 16);
    assert_memory_equal(one, a.b, 16);
}

struct membership {
    const char *list, *address;
    bool in;
};

static void matches_blocks(void **state)
{
    (void)state;
    static const struct membership rows[] = {
        {"10.0.0.0/8", "10.255.0.1", true},
        {"10.0.0.0/8", "11.0.0.1", false},
        {"10.9.8.7/8", "10.1.1.1", true}, /* host bits are ignored */
        {"10.0.0.0/9", "10.127.255.255", true},
        {"10.0.0.0/9", "10.128.0.0", false},
        {"192.168.1.1", "192.168.1.1", true},
        {"192.168.1.1", "192.168.1.2", false},
        {"192.168.1.1/31", "192.168.1.0", true},
        {"0.0.0.0/0", "8.8.8.8", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"::/0", "2001:db8::1", true},
        {"::/0", "8.8.8.8", false},
        {"::ffff:0:0/96", "8.8.8.8", true},
        {"::ffff:10.0.0.0/104", "10.1.2.3", true},
        {"::ffff:10.0.0.0/104", "11.1.2.3", false},
        {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"::1", "::1", true},
        {"::1/128", "::2", false},
        {" 1.1.1.1 ,\t10.0.0.0/8 ", "10.0.0.1", true},
        {"", "1.2.3.4", false},
        {"  ", "1.2.3.4", false},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct sg_cidr_list *list = NULL;
        assert_int_equal(sg_cidr_list_parse(rows[i].list, &list), SG_OK);
        struct sg_address a = at(rows[i].address);
        if (sg_cidr_list_contains(list, &a) != rows[i].in)
            fail_msg("%s in %s", rows[i].address, rows[i].list);
        sg_cidr_list_destroy(&list);
        assert_null(list);
    }
    struct sg_address a = at("1.2.3.4");
    assert_false(sg_cidr_list_contains(NULL, &a));
    sg_cidr_list_destroy(NULL);
}

static void refuses_bad_blocks(void **state)
{
    (void)state;
    static const char *const bad[] = {
        ",",          "1.2.3.4,",    ",1.2.3.4",    "1.2.3.4,,::1",  "1.2.3.4/33", "::1/129",
        "1.2.3.4/",   "1.2.3.4/-1",  "1.2.3.4/8/8", "1.2.3.4:80",    "[::1]",      "/8",
        "1.2.3.4/ 8", "1.2.3.4/0x8", "::1/1e1",     "example.org/8",
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        struct sg_cidr_list *list = NULL;
        if (sg_cidr_list_parse(bad[i], &list) != SG_ERR_INVALID)
            fail_msg("%s", bad[i]);
        assert_null(list);
    }
}

struct walk {
    const char *peer, *header, *client;
};

static void walks_forwarded_for(void **state)
{
    (void)state;
    static const struct walk rows[] = {
        {"10.0.0.1", NULL, "10.0.0.1"},
        {"10.0.0.1", "", "10.0.0.1"},
        {"10.0.0.1", "1.1.1.1", "1.1.1.1"},
        {"8.8.8.8", "1.1.1.1", "8.8.8.8"}, /* an untrusted peer may say what it likes */
        {"10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"},
        {"10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"},
        {"10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"}, /* all trusted: the farthest */
        {"10.0.0.1", "6.6.6.6, nonsense, 10.0.0.2", "10.0.0.2"},
        {"10.0.0.1", "nonsense", "10.0.0.1"},
        {"10.0.0.1", "6.6.6.6,", "10.0.0.1"},
        {"10.0.0.1", "6.6.6.6,,10.0.0.2", "10.0.0.2"},
        {"10.0.0.1", ",", "10.0.0.1"},
        {"10.0.0.1", "1.1.1.1:4711", "1.1.1.1"},
        {"10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"},
        {"10.0.0.1", "\"1.1.1.1\"", "10.0.0.1"},
        {"::ffff:10.0.0.1", "1.1.1.1", "1.1.1.1"},
        {"fd00::1", "1.1.1.1", "1.1.1.1"},
    };
    struct sg_cidr_list *trusted = NULL;
    assert_int_equal(sg_cidr_list_parse("10.0.0.0/8, fd00::/8", &trusted), SG_OK);
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        struct sg_address peer = at(rows[i].peer);
        struct sg_address client = sg_address_client(&peer, rows[i].header, trusted);
        char text[SG_ADDRESS_TEXT];
        sg_address_format(&client, text);
        if (strcmp(text, rows[i].client) != 0)
            fail_msg("%s behind %s: %s", rows[i].header, rows[i].peer, text);
        client = sg_address_client(&peer, rows[i].header, NULL);
        assert_true(sg_address_equal(&client, &peer));
    }
    sg_cidr_list_destroy(&trusted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_addresses),       cmocka_unit_test(refuses_what_is_none),
        cmocka_unit_test(identifies_for_limits), cmocka_unit_test(matches_blocks),
        cmocka_unit_test(refuses_bad_blocks),    cmocka_unit_test(walks_forwarded_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
