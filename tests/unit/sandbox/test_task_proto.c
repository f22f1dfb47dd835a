/* The messages of a task: decoded strictly, whatever the bytes. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"

#include "pool_support.h"
#include "task_proto.h"

struct note {
    struct sg_task_note_header head;
    uint8_t tail[12];
};

static const struct note good_answer = {
    .head = {.magic = SG_TASK_NOTE_MAGIC, .kind = SG_TASK_ANSWER, .payload_len = 12}};
static const struct note good_event = {
    .head = {.magic = SG_TASK_NOTE_MAGIC, .kind = SG_TASK_EVENT, .payload_len = 12}};

static enum sg_error decode(const struct note *n, size_t len)
{
    struct sg_task_note out;
    return sg_task_note_decode(n, len, 0, &out);
}

static void good_ones_are_taken(void **state)
{
    struct sg_task_note out;
    struct note failed = good_answer;
    const struct note ready = {.head = {.magic = SG_TASK_NOTE_MAGIC, .kind = SG_TASK_READY}};
    (void)state;
    assert_int_equal(sg_task_note_decode(&good_answer, sizeof(good_answer), 0, &out), SG_OK);
    assert_int_equal(out.kind, SG_TASK_ANSWER);
    assert_int_equal(out.payload_len, 12);
    assert_ptr_equal(out.payload, good_answer.tail);
    assert_int_equal(sg_task_note_decode(&good_event, sizeof(good_event), 0, &out), SG_OK);
    assert_int_equal(out.kind, SG_TASK_EVENT);
    assert_int_equal(decode(&ready, sizeof(ready.head)), SG_OK);
    failed.head.err = sg_task_error_encode(SG_ERR_NO_SPACE);
    failed.head.payload_len = 0;
    failed.head.message_len = 12;
    memcpy(failed.tail, "no\nspace lef", 12);
    assert_int_equal(sg_task_note_decode(&failed, sizeof(failed), 0, &out), SG_OK);
    assert_int_equal(out.err, SG_ERR_NO_SPACE);
    assert_string_equal(out.message, "no?space lef");
}

static void other_lengths_are_refused(void **state)
{
    uint8_t data[sizeof(good_answer) + 4] = {0};
    (void)state;
    memcpy(data, &good_answer, sizeof(good_answer));
    for (size_t len = 0; len <= sizeof(data); len++) {
        uint8_t *exact = malloc(len > 0 ? len : 1); /* so that a sanitizer sees an overrun */
        struct sg_task_note out;
        assert_non_null(exact);
        memcpy(exact, data, len);
        assert_int_equal(sg_task_note_decode(exact, len, 0, &out),
                         len == sizeof(good_answer) ? SG_OK : SG_ERR_MEDIA_WORKER);
        free(exact);
    }
    struct sg_task_note out;
    assert_int_equal(sg_task_note_decode(&good_answer, sizeof(good_answer), 1, &out),
                     SG_ERR_MEDIA_WORKER);
}

static void mutations_are_refused_or_sane(void **state)
{
    (void)state;
    srandom(7);
    for (unsigned i = 0; i < 200000; i++) {
        struct note n = i % 2 ? good_answer : good_event;
        struct sg_task_note out;
        size_t len = sizeof(n) - (size_t)(random() % 13);
        for (long k = random() % 4; k >= 0; k--)
            ((uint8_t *)&n)[random() % (long)sizeof(n)] = (uint8_t)random();
        if (sg_task_note_decode(&n, len, 0, &out) != SG_OK)
            continue;
        size_t text = strnlen(out.message, sizeof(out.message));
        assert_true(text < sizeof(out.message) && sg_str_is_utf8(out.message, text));
        assert_true(out.payload >= (uint8_t *)&n &&
                    out.payload + out.payload_len == (uint8_t *)&n + len);
        assert_true(out.err == SG_OK || (out.kind == SG_TASK_ANSWER && out.payload_len == 0));
    }
}

static void calls_agree_with_their_descriptors(void **state)
{
    struct {
        struct sg_task_call_header head;
        uint8_t payload[8];
    } call = {.head = {.magic = SG_TASK_CALL_MAGIC, .payload_len = 8, .n_fds = 33}};
    struct sg_media_task_view out;
    (void)state;
    assert_int_equal(sg_task_call_decode(&call, sizeof(call), 33, &out), SG_OK);
    assert_int_equal(out.n_fds, 33);
    assert_int_equal(out.payload_len, 8);
    for (size_t len = 0; len < sizeof(call); len++)
        assert_int_equal(sg_task_call_decode(&call, len, 33, &out), SG_ERR_MEDIA_WORKER);
    assert_int_equal(sg_task_call_decode(&call, sizeof(call), 32, &out), SG_ERR_MEDIA_WORKER);
    call.head.n_fds = SG_MEDIA_TASK_FDS_MAX + 1;
    assert_int_equal(sg_task_call_decode(&call, sizeof(call), call.head.n_fds, &out),
                     SG_ERR_MEDIA_WORKER);
    call.head.n_fds = 0;
    assert_int_equal(sg_task_call_decode(&call, sizeof(call), 0, &out), SG_OK);
    call.head.zero = 1;
    assert_int_equal(sg_task_call_decode(&call, sizeof(call), 0, &out), SG_ERR_MEDIA_WORKER);
}

static void errors_have_one_number_each(void **state)
{
    (void)state;
    for (unsigned e = 0; e < SG_ERROR_COUNT; e++) {
        enum sg_error back = SG_OK;
        assert_int_equal(sg_task_error_decode(sg_task_error_encode((enum sg_error)e), &back),
                         SG_OK);
        assert_true(back == (enum sg_error)e || back == SG_ERR_INTERNAL);
    }
    enum sg_error out;
    assert_int_equal(sg_task_error_decode(0x102, &out), SG_ERR_MEDIA_WORKER);
    assert_int_equal(sg_task_error_decode(0xff, &out), SG_ERR_MEDIA_WORKER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones_are_taken),
        cmocka_unit_test(other_lengths_are_refused),
        cmocka_unit_test(mutations_are_refused_or_sane),
        cmocka_unit_test(calls_agree_with_their_descriptors),
        cmocka_unit_test(errors_have_one_number_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
