/* What a file is, from its first bytes and its top-level boxes, before libav sees it. ISO base
 * media files pass, and the containers of av_container.h, and only whole ones: boxes that reach
 * past the end of the file tell a cut-off upload from a good one for the price of a few reads. */
#include <string.h>
#include <unistd.h>

#include "streamgate/base/str.h"

#include "av_container.h"

enum { HEAD_BYTES = 512, BOXES_MAX = 1 << 20 };

struct signature {
    const char *bytes;
    uint8_t len, offset;
    const char *name;
};

static const struct signature signatures[] = {
    {"WEBP", 4, 8, "a WebP picture"},
    {"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 8, 0, "Windows Media"},
    {"\x00\x00\x01\xb3", 4, 0, "MPEG video"},
    {"\xff\xd8\xff", 3, 0, "a JPEG picture"},
    {"\x89PNG", 4, 0, "a PNG picture"},
    {"GIF8", 4, 0, "a GIF picture"},
    {"%PDF", 4, 0, "a PDF document"},
    {"PK\x03\x04", 4, 0, "a ZIP archive"},
    {"#EXTM3U", 7, 0, "a playlist"},
    {"\xef\xbb\xbf#EXTM3U", 10, 0, "a playlist"},
    {"[playlist]", 10, 0, "a playlist"},
    {"ffconcat", 8, 0, "a playlist"},
    {"<?xml", 5, 0, "an XML document or playlist"},
};

static bool is_text(const uint8_t *head, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((head[i] < 0x20 && !strchr("\t\n\r\f", head[i])) || head[i] == 0x7f || head[i] == 0)
            return false;
    size_t whole = len; /* a character may be cut at the end of the head */
    while (whole && len - whole < 4 && !sg_str_is_utf8(head, whole))
        whole--;
    return whole > 0 && sg_str_is_utf8(head, whole);
}

static const char *foreign_name(const uint8_t *head, size_t len)
{
    for (size_t i = 0; i < SG_ARRAY_LEN(signatures); i++) {
        const struct signature *s = &signatures[i];
        if (len >= (size_t)s->offset + s->len && memcmp(head + s->offset, s->bytes, s->len) == 0)
            return s->name;
    }
    return is_text(head, len) ? "plain text" : NULL;
}

/* Types a file may open with: ISO/IEC 14496-12 and QuickTime. */
static bool opens_iso(const uint8_t type[4])
{
    static const char known[][5] = {"ftyp", "moov", "mdat", "free", "skip",
                                    "wide", "pnot", "uuid", "styp", "sidx"};
    for (size_t i = 0; i < SG_ARRAY_LEN(known); i++)
        if (memcmp(type, known[i], 4) == 0)
            return true;
    return false;
}

static uint64_t get_be(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

static bool is_type(const uint8_t type[4])
{
    for (unsigned i = 0; i < 4; i++)
        if ((type[i] < 0x20 || type[i] > 0x7e) && type[i] != 0xa9)
            return false;
    return true;
}

/* Beside moov, what a plain film has at its top: nothing that says more of its samples. */
static bool is_plain(const uint8_t type[4])
{
    static const char known[][5] = {"ftyp", "mdat", "free", "skip", "wide"};
    for (size_t i = 0; i < SG_ARRAY_LEN(known); i++)
        if (memcmp(type, known[i], 4) == 0)
            return true;
    return false;
}

/* Walks the top-level boxes. Padding after the last box is common and let be. */
static enum sg_error scan_boxes(int fd, int64_t size, struct iso_scan *out,
                                char why[SG_MEDIA_MESSAGE_MAX])
{
    bool moov = false, plain = true;
    int64_t pos = 0;
    for (unsigned n = 0; n < BOXES_MAX && size - pos >= 8; n++) {
        uint8_t head[16] = {0};
        if (pread(fd, head, sizeof(head), pos) < 8)
            return sgav_fail(SG_ERR_UNPROCESSABLE, why, "The file cannot be read.");
        uint64_t box = get_be(head, 4);
        if (!is_type(head + 4))
            break;
        if (box == 1)
            box = get_be(head + 8, 8);
        else if (box == 0)
            box = (uint64_t)(size - pos);
        if (box < 8)
            break;
        if (box > (uint64_t)(size - pos))
            return sgav_fail(
                SG_ERR_UNPROCESSABLE, why,
                "The file is cut short: its \"%.4s\" box ends %llu bytes past the end of the file.",
                head + 4, (unsigned long long)(box - (uint64_t)(size - pos)));
        if (memcmp(head + 4, "moov", 4) == 0) {
            plain = plain && !moov && get_be(head, 4) == box;
            out->moov_pos = pos;
            out->moov_len = (int64_t)box;
            moov = true;
        } else {
            plain = plain && is_plain(head + 4);
        }
        out->fragmented |= memcmp(head + 4, "moof", 4) == 0;
        if (memcmp(head + 4, "ftyp", 4) == 0)
            out->quicktime = memcmp(head + 8, "qt  ", 4) == 0;
        pos += (int64_t)box;
    }
    if (!moov)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                         "The file is damaged or cut short: it has no \"moov\" box.");
    out->plain = plain && size - pos < 8;
    return SG_OK;
}

static enum sg_error refuse(const uint8_t *head, size_t len, char why[SG_MEDIA_MESSAGE_MAX])
{
    const char *name = foreign_name(head, len);
    if (name)
        return sgav_fail(SG_ERR_UNSUPPORTED_MEDIA, why, "The file is %s, which holds no film.",
                         name);
    return sgav_fail(SG_ERR_UNSUPPORTED_MEDIA, why, "The file is of no known media format.");
}

enum sg_error sgav_sniff(int fd, int64_t size, struct iso_scan *out, char why[SG_MEDIA_MESSAGE_MAX])
{
    uint8_t head[HEAD_BYTES];
    if (size == 0)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why, "The file is empty.");
    ssize_t n = pread(fd, head, sizeof(head), 0);
    if (n <= 0)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why, "The file cannot be read.");
    size_t len = (size_t)n;
    struct iso_scan scan = {0};
    if (len < 8 || !opens_iso(head + 4)) {
        enum sg_error err = sgav_container_of(head, len, fd, size, &scan.container, why);
        if (!err && !scan.container)
            err = refuse(head, len, why);
        if (!err)
            *out = scan;
        return err;
    }
    enum sg_error err = scan_boxes(fd, size, &scan, why);
    if (!err)
        *out = scan;
    return err;
}
