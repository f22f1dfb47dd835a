/* The decoders refuse every deviation, and the transport keeps no stray descriptor. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool_support.h"
#include "proto.h"

static const struct sg_wire_call_header good_call = {
    .magic = SG_WIRE_CALL_MAGIC, .kind = SG_WIRE_CALL, .seq = 7, .op = 3, .payload_len = 4};
static const struct sg_wire_reply_header good_reply = {
    .magic = SG_WIRE_REPLY_MAGIC, .seq = 7, .cpu_us = 11, .payload_len = 4, .message_len = 2};

static enum sg_error decode_call(struct sg_wire_call_header head, size_t tail, size_t n_fds)
{
    uint8_t data[sizeof(head) + 64];
    struct sg_wire_call out = {.seq = 99};
    memset(data, 'x', sizeof(data));
    memcpy(data, &head, sizeof(head));
    enum sg_error err = sg_wire_call_decode(data, sizeof(head) + tail, n_fds, &out);
    if (err != SG_OK)
        assert_int_equal(out.seq, 99); /* untouched */
    else
        assert_int_equal(out.payload_len, tail);
    return err;
}

static void call_table(void **state)
{
    struct sg_wire_call_header h;
    (void)state;
    assert_int_equal(decode_call(good_call, 4, 0), SG_OK);
    assert_int_equal(decode_call(good_call, 3, 0), SG_ERR_MEDIA_WORKER);
    assert_int_equal(decode_call(good_call, 5, 0), SG_ERR_MEDIA_WORKER);
    assert_int_equal(decode_call(good_call, 4, 1), SG_ERR_MEDIA_WORKER);
    h = good_call, h.n_fds = 1;
    assert_int_equal(decode_call(h, 4, 1), SG_OK);
    assert_int_equal(decode_call(h, 4, 0), SG_ERR_MEDIA_WORKER);
    h.n_fds = 2;
    assert_int_equal(decode_call(h, 4, 2), SG_ERR_MEDIA_WORKER);
    h = good_call, h.magic = SG_WIRE_REPLY_MAGIC;
    assert_int_equal(decode_call(h, 4, 0), SG_ERR_MEDIA_WORKER);
    h = good_call, h.zero = 1;
    assert_int_equal(decode_call(h, 4, 0), SG_ERR_MEDIA_WORKER);
    h = good_call, h.kind = 0;
    assert_int_equal(decode_call(h, 4, 0), SG_ERR_MEDIA_WORKER);
    h = good_call, h.payload_len = UINT32_MAX;
    assert_int_equal(decode_call(h, 4, 0), SG_ERR_MEDIA_WORKER);
    h = good_call, h.kind = SG_WIRE_PING;
    assert_int_equal(decode_call(h, 4, 0), SG_ERR_MEDIA_WORKER);
    h.op = 0, h.payload_len = 0;
    assert_int_equal(decode_call(h, 0, 0), SG_OK);
    h.n_fds = 1;
    assert_int_equal(decode_call(h, 0, 1), SG_ERR_MEDIA_WORKER);
}

static enum sg_error decode_reply(struct sg_wire_reply_header head, size_t tail, size_t n_fds)
{
    uint8_t data[sizeof(head) + 8192];
    struct sg_wire_reply out = {.seq = 99};
    memset(data, 'x', sizeof(data));
    memcpy(data, &head, sizeof(head));
    enum sg_error err = sg_wire_reply_decode(data, sizeof(head) + tail, n_fds, &out);
    if (err != SG_OK) {
        assert_int_equal(out.seq, 99);
    } else {
        assert_int_equal(out.payload_len, head.payload_len);
        assert_int_equal(strlen(out.message), head.message_len);
        assert_ptr_equal(out.payload, data + sizeof(head) + head.message_len);
        assert_int_equal(out.has_body, n_fds == 1);
    }
    return err;
}

static void reply_table(void **state)
{
    struct sg_wire_reply_header h;
    (void)state;
    assert_int_equal(decode_reply(good_reply, 6, 0), SG_OK);
    assert_int_equal(decode_reply(good_reply, 5, 0), SG_ERR_MEDIA_WORKER);
    assert_int_equal(decode_reply(good_reply, 7, 0), SG_ERR_MEDIA_WORKER);
    assert_int_equal(decode_reply(good_reply, 6, 1), SG_ERR_MEDIA_WORKER);
    h = good_reply, h.n_fds = 1, h.body_len = 5;
    assert_int_equal(decode_reply(h, 6, 1), SG_OK);
    assert_int_equal(decode_reply(h, 6, 0), SG_ERR_MEDIA_WORKER);
    assert_int_equal(decode_reply(h, 6, 2), SG_ERR_MEDIA_WORKER);
    h.err = sg_wire_error_encode(SG_ERR_INVALID);
    assert_int_equal(decode_reply(h, 6, 1), SG_ERR_MEDIA_WORKER);
    h = good_reply, h.body_len = 1;
    assert_int_equal(decode_reply(h, 6, 0), SG_ERR_MEDIA_WORKER);
    h = good_reply, h.err = 8;
    assert_int_equal(decode_reply(h, 6, 0), SG_ERR_MEDIA_WORKER);
    h = good_reply, h.zero = 1;
    assert_int_equal(decode_reply(h, 6, 0), SG_ERR_MEDIA_WORKER);
    h = good_reply, h.message_len = SG_MEDIA_MESSAGE_MAX - 1;
    assert_int_equal(decode_reply(h, h.message_len + 4u, 0), SG_OK);
    h.message_len++;
    assert_int_equal(decode_reply(h, h.message_len + 4u, 0), SG_ERR_MEDIA_WORKER);
    h = good_reply, h.payload_len = SG_WIRE_REPLY_PAYLOAD_MAX;
    assert_int_equal(decode_reply(h, h.payload_len + 2u, 0), SG_OK);
    h.payload_len++;
    assert_int_equal(decode_reply(h, h.payload_len + 2u, 0), SG_ERR_MEDIA_WORKER);
    /* lengths that sum up right only when they wrap */
    h = good_reply, h.payload_len = UINT32_MAX - 1, h.message_len = 8;
    assert_int_equal(decode_reply(h, 6, 0), SG_ERR_MEDIA_WORKER);
}

static void every_truncation_is_refused(void **state)
{
    uint8_t data[sizeof(good_reply) + 6];
    struct sg_wire_reply reply;
    struct sg_wire_call call_out;
    struct sg_sandbox_limits limits;
    (void)state;
    memset(data, 'x', sizeof(data));
    memcpy(data, &good_reply, sizeof(good_reply));
    for (size_t len = 0; len < sizeof(data); len++) {
        assert_int_equal(sg_wire_reply_decode(data, len, 0, &reply), SG_ERR_MEDIA_WORKER);
        assert_int_equal(sg_wire_call_decode(data, len, 0, &call_out), SG_ERR_MEDIA_WORKER);
        assert_int_equal(sg_wire_hello_decode(data, len, 0, &limits), SG_ERR_MEDIA_WORKER);
    }
}

static void hello_round_trip(void **state)
{
    struct sg_wire_hello hello = {.magic = SG_WIRE_HELLO_MAGIC,
                                  .version = SG_WIRE_VERSION,
                                  .memory_bytes = 1,
                                  .cpu_seconds = 2,
                                  .file_bytes = 3,
                                  .open_files = 4};
    struct sg_sandbox_limits limits;
    (void)state;
    assert_int_equal(sg_wire_hello_decode(&hello, sizeof(hello), 0, &limits), SG_OK);
    assert_int_equal(limits.memory_bytes, 1);
    assert_int_equal(limits.cpu_seconds, 2);
    assert_int_equal(limits.file_bytes, 3);
    assert_int_equal(limits.open_files, 4);
    assert_int_equal(sg_wire_hello_decode(&hello, sizeof(hello), 1, &limits), SG_ERR_MEDIA_WORKER);
    hello.open_files = UINT64_MAX;
    assert_int_equal(sg_wire_hello_decode(&hello, sizeof(hello), 0, &limits), SG_ERR_MEDIA_WORKER);
    assert_false(limits.task);
    hello.open_files = 4, hello.niceness = 1; /* of a task only */
    assert_int_equal(sg_wire_hello_decode(&hello, sizeof(hello), 0, &limits), SG_ERR_MEDIA_WORKER);
    hello.task = 1, hello.niceness = SG_WIRE_NICENESS_MAX;
    assert_int_equal(sg_wire_hello_decode(&hello, sizeof(hello), 0, &limits), SG_OK);
    assert_true(limits.task && limits.niceness == SG_WIRE_NICENESS_MAX);
    hello.niceness++;
    assert_int_equal(sg_wire_hello_decode(&hello, sizeof(hello), 0, &limits), SG_ERR_MEDIA_WORKER);
    hello.task = 2, hello.niceness = 0;
    assert_int_equal(sg_wire_hello_decode(&hello, sizeof(hello), 0, &limits), SG_ERR_MEDIA_WORKER);
    hello.task = 0, hello.version++;
    assert_int_equal(sg_wire_hello_decode(&hello, sizeof(hello), 0, &limits), SG_ERR_MEDIA_WORKER);
}

static void errors_on_the_wire(void **state)
{
    static const enum sg_error listed[] = {SG_OK,
                                           SG_ERR_UNSUPPORTED_MEDIA,
                                           SG_ERR_UNPROCESSABLE,
                                           SG_ERR_TOO_LARGE,
                                           SG_ERR_NOT_FOUND,
                                           SG_ERR_INVALID,
                                           SG_ERR_NO_MEMORY,
                                           SG_ERR_INTERNAL};
    enum sg_error back;
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(listed); i++) {
        assert_int_equal(sg_wire_error_decode(sg_wire_error_encode(listed[i]), &back), SG_OK);
        assert_int_equal(back, listed[i]);
    }
    assert_int_equal(sg_wire_error_decode(sg_wire_error_encode(SG_ERR_FORBIDDEN), &back), SG_OK);
    assert_int_equal(back, SG_ERR_INTERNAL);
    assert_int_equal(sg_wire_error_decode(UINT32_MAX, &back), SG_ERR_MEDIA_WORKER);
}

static void assert_clean(const char *in, size_t len, const char *want)
{
    char out[SG_MEDIA_MESSAGE_MAX];
    sg_wire_message_clean(in, len, out);
    assert_string_equal(out, want);
}

static void messages_are_made_printable(void **state)
{
    char text[SG_MEDIA_MESSAGE_MAX + 10], out[SG_MEDIA_MESSAGE_MAX];
    (void)state;
    assert_clean("", 0, "");
    assert_clean("plain", 5, "plain");
    assert_clean("a\0b", 3, "a?b");
    assert_clean("a\r\n\x1b\x7f", 5, "a????");
    assert_clean("caf\xc3\xa9 \xe4\xbd\xa0 \xf0\x9f\x8e\xac", 14,
                 "caf\xc3\xa9 \xe4\xbd\xa0 \xf0\x9f\x8e\xac");
    assert_clean("\xc2\x9b", 2, "?");                /* C1 */
    assert_clean("\xe2\x80\xae x", 5, "? x");        /* right-to-left override */
    assert_clean("\xe2\x81\xa6", 3, "?");            /* isolate */
    assert_clean("\xe2\x80\x94", 3, "\xe2\x80\x94"); /* a dash is fine */
    assert_clean("\xef\xbb\xbf", 3, "?");            /* byte order mark */
    assert_clean("\xff\xc3", 2, "??");
    assert_clean("\xc0\xaf", 2, "??");      /* overlong */
    assert_clean("\xed\xa0\x80", 3, "???"); /* surrogate */
    assert_clean("\xe4\xbd", 2, "??");      /* cut */
    memset(text, 'x', sizeof(text));
    memcpy(text + SG_MEDIA_MESSAGE_MAX - 2, "\xc3\xa9", 2); /* would straddle the end */
    sg_wire_message_clean(text, sizeof(text), out);
    assert_int_equal(strlen(out), SG_MEDIA_MESSAGE_MAX - 2);
}

static void make_sockets(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static void transport_carries_one_descriptor(void **state)
{
    int pair[2];
    char buf[16];
    struct sg_wire_in in;
    const struct sg_wire_out out = {
        .head = "ab", .head_len = 2, .tail = "cd", .tail_len = 2, .fd = STDERR_FILENO};
    unsigned before = count_fds();
    (void)state;
    make_sockets(pair);
    assert_int_equal(sg_wire_recv(pair[1], buf, sizeof(buf), false, &in), SG_ERR_UNAVAILABLE);
    assert_int_equal(sg_wire_send(pair[0], &out, true), SG_OK);
    assert_int_equal(sg_wire_recv(pair[1], buf, sizeof(buf), true, &in), SG_OK);
    assert_int_equal(in.len, 4);
    assert_memory_equal(buf, "abcd", 4);
    assert_int_equal(in.n_fds, 1);
    assert_true((fcntl(in.fd, F_GETFD) & FD_CLOEXEC) != 0);
    (void)close(in.fd);
    /* too long for the reader: refused whole, its descriptor is closed */
    assert_int_equal(sg_wire_send(pair[0], &out, true), SG_OK);
    assert_int_equal(sg_wire_recv(pair[1], buf, 3, true, &in), SG_ERR_MEDIA_WORKER);
    (void)close(pair[0]);
    assert_int_equal(sg_wire_recv(pair[1], buf, sizeof(buf), true, &in), SG_ERR_CANCELLED);
    assert_int_equal(sg_wire_send(pair[1], &out, true), SG_ERR_CANCELLED);
    (void)close(pair[1]);
    assert_int_equal(count_fds(), before);
}

static void receive_limits_refuses_anything_else(void **state)
{
    int pair[2];
    struct sg_sandbox_limits limits;
    const struct sg_wire_out out = {
        .head = &good_call, .head_len = sizeof(good_call), .fd = STDERR_FILENO};
    unsigned before = count_fds();
    (void)state;
    make_sockets(pair);
    assert_int_equal(sg_wire_send(pair[0], &out, true), SG_OK);
    assert_int_equal(sg_worker_receive_limits(pair[1], &limits), SG_ERR_MEDIA_WORKER);
    (void)close(pair[0]);
    assert_int_equal(sg_worker_receive_limits(pair[1], &limits), SG_ERR_CANCELLED);
    (void)close(pair[1]);
    assert_int_equal(count_fds(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(call_table),
        cmocka_unit_test(reply_table),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(hello_round_trip),
        cmocka_unit_test(errors_on_the_wire),
        cmocka_unit_test(messages_are_made_printable),
        cmocka_unit_test(transport_carries_one_descriptor),
        cmocka_unit_test(receive_limits_refuses_anything_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
