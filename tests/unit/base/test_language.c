/* Language tags: what is well-formed, and the one spelling of it. */
#include "streamgate/base/language.h"

#include "support/unit.h"

static void well_formed_is_spelled_one_way(void **state)
{
    (void)state;
    static const struct {
        const char *given, *spelled;
    } rows[] = {
        {"en", "en"},
        {"EN-us", "en-US"},
        {"eng", "eng"},
        {"zh-hANT-tw", "zh-Hant-TW"},
        {"zh-cmn-Hans-CN", "zh-cmn-Hans-CN"},
        {"es-419", "es-419"},
        {"sl-rozaj-biske-1994", "sl-rozaj-biske-1994"},
        {"de-CH-1901", "de-CH-1901"},
        {"en-US-u-islamcal", "en-US-u-islamcal"},
        {"en-X-Forced", "en-x-forced"},
        {"x-whatever", "x-whatever"},
        {"und", "und"},
        {"abcdefgh", "abcdefgh"},
        {"en-a-bbb-x-a-ccc", "en-a-bbb-x-a-ccc"},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        char out[SG_LANGUAGE_SIZE];
        assert_int_equal(sg_language_parse(rows[i].given, strlen(rows[i].given), out), SG_OK);
        assert_string_equal(out, rows[i].spelled);
        char again[SG_LANGUAGE_SIZE];
        assert_int_equal(sg_language_parse(out, strlen(out), again), SG_OK);
        assert_string_equal(again, out);
    }
}

static void the_shortest_code_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *given, *shortened;
    } rows[] = {
        {"eng", "en"},           {"ger", "de"},
        {"deu", "de"},           {"chi", "zh"},
        {"zho", "zh"},           {"fre-CA", "fr-CA"},
        {"aar", "aa"},           {"zul", "zu"},
        {"zha-Hans", "za-Hans"}, {"und", "und"},
        {"gsw", "gsw"},          {"en-US", "en-US"},
        {"x-ger", "x-ger"},      {"de-x-ger", "de-x-ger"},
        {"gere", "gere"},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        char tag[SG_LANGUAGE_SIZE];
        assert_int_equal(sg_language_parse(rows[i].given, strlen(rows[i].given), tag), SG_OK);
        sg_language_shorten(tag);
        assert_string_equal(tag, rows[i].shortened);
    }
}

static void else_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "e",
        "-",
        "en-",
        "-en",
        "en--US",
        "en_US",
        "e1",
        "en-US-DE",
        "en-u",
        "en-x",
        "x",
        "en-u-x-a-",
        "abcdefghi",
        "en US",
        "en/..",
        "..",
        "en-123456789",
        "en-Latn-Cyrl",
        "\xc3\xa4",
        "en-u-a",
        "abcd-efg",
        "en-US-u-aa-v-xx-toolong12",
        "en-aaaaaaaa-bbbbbbbb-cccccccc-dddddddd",
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        char out[SG_LANGUAGE_SIZE] = "kept";
        enum sg_error err = sg_language_parse(bad[i], strlen(bad[i]), out);
        if (err != SG_ERR_INVALID)
            fail_msg("\"%s\" was taken as \"%s\"", bad[i], out);
        assert_string_equal(out, "kept");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(well_formed_is_spelled_one_way),
        cmocka_unit_test(the_shortest_code_is_told),
        cmocka_unit_test(else_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
