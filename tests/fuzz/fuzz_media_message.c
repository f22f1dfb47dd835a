/* What the daemon and a media process read from each other: all three decoders, on any bytes and
 * any number of descriptors. The first byte chooses the decoder, the second the number. What is
 * accepted must lie within the input. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"

#include "proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_inside(const uint8_t *part, size_t part_len, const uint8_t *data, size_t size)
{
    check(part >= data && part_len <= size && part <= data + (size - part_len));
}

static void check_reply(const uint8_t *data, size_t size, size_t n_fds)
{
    struct sg_wire_reply reply;
    if (sg_wire_reply_decode(data, size, n_fds, &reply) != SG_OK)
        return;
    size_t len = strnlen(reply.message, sizeof(reply.message));
    check(len < sizeof(reply.message));
    check(sg_str_is_utf8(reply.message, len) && !sg_str_has_control(reply.message, len));
    check_inside(reply.payload, reply.payload_len, data, size);
    check(reply.has_body == (n_fds == 1));
    check(!reply.has_body || reply.err == SG_OK);
    check(reply.has_body || reply.body_len == 0);
}

static void check_call(const uint8_t *data, size_t size, size_t n_fds)
{
    struct sg_wire_call call;
    if (sg_wire_call_decode(data, size, n_fds, &call) != SG_OK)
        return;
    check_inside(call.payload, call.payload_len, data, size);
    check(call.payload_len <= SG_MEDIA_PAYLOAD_MAX && call.has_fd == (n_fds == 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sg_sandbox_limits limits;
    char message[SG_MEDIA_MESSAGE_MAX];
    if (size < 2)
        return 0;
    size_t n_fds = data[1] % 3;
    const uint8_t *bytes = data + 2;
    size_t len = size - 2;
    switch (data[0] % 4) {
    case 0:
        check_reply(bytes, len, n_fds);
        break;
    case 1:
        check_call(bytes, len, n_fds);
        break;
    case 2:
        if (sg_wire_hello_decode(bytes, len, n_fds, &limits) == SG_OK)
            check(n_fds == 0);
        break;
    default:
        sg_wire_message_clean((const char *)bytes, len, message);
        check(sg_str_is_utf8(message, strlen(message)));
        check(!sg_str_has_control(message, strlen(message)));
        break;
    }
    return 0;
}
