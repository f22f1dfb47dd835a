/* traceparent, after the examples and rules of the W3C Trace Context specification, section 3.2. */
#include <string.h>

#include "streamgate/layers/trace.h"

#include "layers_support.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

struct vector {
    const char *header;
    bool taken;
    unsigned flags;
};

static const struct vector vectors[] = {
    {"00-" TRACE "-" SPAN "-01", true, 1},
    {"00-" TRACE "-" SPAN "-00", true, 0},
    {"00-" TRACE "-" SPAN "-ff", true, 1}, /* unknown bits do not travel on */
    {"00-" TRACE "-" SPAN "-fe", true, 0},
    {"01-" TRACE "-" SPAN "-01", true, 1},
    {"cc-" TRACE "-" SPAN "-01-what-the-future-brings", true, 1},
    {"cc-" TRACE "-" SPAN "-01-", true, 1},
    {"cc-" TRACE "-" SPAN "-01.what", false, 0},
    {"cc-" TRACE "-" SPAN "-011", false, 0},
    {"00-" TRACE "-" SPAN "-01-extra", false, 0},
    {"00-" TRACE "-" SPAN "-01 ", false, 0},
    {"ff-" TRACE "-" SPAN "-01", false, 0},
    {"FF-" TRACE "-" SPAN "-01", false, 0},
    {"0-" TRACE "-" SPAN "-01", false, 0},
    {"00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01", false, 0},
    {"00-" TRACE "-B7AD6B7169203331-01", false, 0},
    {"00-" TRACE "-" SPAN "-0A", false, 0},
    {"00-00000000000000000000000000000000-" SPAN "-01", false, 0},
    {"00-" TRACE "-0000000000000000-01", false, 0},
    {"00-" TRACE "-" SPAN "-1", false, 0},
    {"00-" TRACE "-" SPAN "-", false, 0},
    {"00-" TRACE "-" SPAN, false, 0},
    {"00-" TRACE "_" SPAN "-01", false, 0},
    {"00-0af7651916cd43dd8448eb211c80319g-" SPAN "-01", false, 0},
    {" 00-" TRACE "-" SPAN "-01", false, 0},
    {"", false, 0},
    {"-", false, 0},
};

static bool zero(const uint8_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (b[i] != 0)
            return false;
    return true;
}

static void takes_or_begins(void **state)
{
    (void)state;
    const uint8_t trace_start[] = {0x0a, 0xf7, 0x65};
    const uint8_t span_end[] = {0x33, 0x31};
    for (size_t i = 0; i < SG_ARRAY_LEN(vectors); i++) {
        const struct vector *v = &vectors[i];
        struct sg_trace t;
        sg_trace_begin(v->header, &t);
        if (t.has_parent != v->taken)
            fail_msg("%s", v->header);
        assert_int_equal(t.flags, v->flags);
        assert_int_equal(memcmp(t.trace_id, trace_start, 3) == 0, v->taken);
        assert_int_equal(memcmp(t.parent_id + 6, span_end, 2) == 0, v->taken);
        assert_int_equal(zero(t.parent_id, 8), !v->taken);
        assert_false(zero(t.trace_id, 16));
        assert_false(zero(t.span_id, 8));
    }
}

static void formats_what_a_peer_can_read(void **state)
{
    (void)state;
    struct sg_trace t;
    struct sg_trace next;
    char text[SG_TRACEPARENT_SIZE];
    sg_trace_begin("00-" TRACE "-" SPAN "-01", &t);
    sg_trace_format(&t, text);
    assert_int_equal(strlen(text), 55);
    assert_memory_equal(text, "00-" TRACE "-", 36);
    assert_string_equal(text + 52, "-01");
    sg_trace_begin(text, &next);
    assert_true(next.has_parent);
    assert_memory_equal(next.trace_id, t.trace_id, 16);
    assert_memory_equal(next.parent_id, t.span_id, 8);
    assert_memory_not_equal(next.span_id, t.span_id, 8);
}

/* Every byte value in every place: only the digits of the specification are taken. */
static void every_byte_everywhere(void **state)
{
    (void)state;
    const char *good = "01-" TRACE "-" SPAN "-01";
    for (size_t at = 0; at < 55; at++) {
        for (unsigned c = 1; c < 256; c++) {
            char text[56];
            struct sg_trace t;
            memcpy(text, good, sizeof text);
            text[at] = (char)c;
            bool dash = at == 2 || at == 35 || at == 52;
            bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
            sg_trace_begin(text, &t);
            if (t.has_parent != (dash ? c == '-' : digit))
                fail_msg("byte %u at %zu", c, at);
        }
    }
}

static void formats_all_digits(void **state)
{
    (void)state;
    struct sg_trace t = {.trace_id = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc,
                                      0xba, 0x98, 0x76, 0x54, 0x32, 0x10},
                         .span_id = {0x0f, 0xf0, 0x9a, 0xa9, 0x00, 0xff, 0x99, 0xaa},
                         .flags = 1};
    char text[SG_TRACEPARENT_SIZE];
    sg_trace_format(&t, text);
    assert_string_equal(text, "00-0123456789abcdeffedcba9876543210-0ff09aa900ff99aa-01");
}

static void begins_anew_each_time(void **state)
{
    (void)state;
    struct sg_trace a;
    struct sg_trace b;
    sg_trace_begin(NULL, &a);
    sg_trace_begin(NULL, &b);
    assert_memory_not_equal(a.trace_id, b.trace_id, 16);
    assert_false(a.has_parent);
    assert_int_equal(a.flags, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_or_begins),       cmocka_unit_test(formats_what_a_peer_can_read),
        cmocka_unit_test(every_byte_everywhere), cmocka_unit_test(formats_all_digits),
        cmocka_unit_test(begins_anew_each_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
