/* Custom I/O for the demuxer: pread on the one descriptor the process was passed. There is no name,
 * no protocol and no way to another file. */
#include <errno.h>
#include <libavutil/mem.h>
#include <string.h>
#include <unistd.h>

#include "av_media.h"

/* Small: walking a fragmented file reads one for each fragment. */
enum { IO_BUFFER_BYTES = 16384 };

static int reader_read(void *opaque, uint8_t *out, int len)
{
    struct sgav_reader *r = opaque;
    if (r->pos >= r->size)
        return AVERROR_EOF;
    if (len > r->size - r->pos)
        len = (int)(r->size - r->pos);
    if (r->over) {
        int64_t into = r->pos - r->over_pos;
        if (into >= 0 && into < r->over_len) {
            if (len > r->over_len - into)
                len = (int)(r->over_len - into);
            memcpy(out, r->over + into, (size_t)len);
            r->pos += len;
            return len;
        }
        if (into < 0 && len > -into)
            len = (int)-into;
    }
    if (!r->skim) {
        ssize_t n;
        do
            n = pread(r->fd, out, (size_t)len, r->pos);
        while (n < 0 && errno == EINTR);
        if (n <= 0)
            return n < 0 ? AVERROR(errno) : AVERROR_EOF;
        len = (int)n;
    }
    r->pos += len;
    return len;
}

static int64_t reader_seek(void *opaque, int64_t offset, int whence)
{
    struct sgav_reader *r = opaque;
    if (whence & AVSEEK_SIZE)
        return r->size;
    whence &= ~AVSEEK_FORCE;
    int64_t base = whence == SEEK_CUR ? r->pos : whence == SEEK_END ? r->size : 0;
    int64_t to;
    if (__builtin_add_overflow(base, offset, &to) || to < 0)
        return AVERROR(EINVAL);
    return r->pos = to;
}

enum sg_error sgav_reader_open(struct sgav_reader *reader, AVIOContext **out)
{
    uint8_t *buffer = av_malloc(IO_BUFFER_BYTES);
    AVIOContext *io = NULL;
    if (buffer)
        io = avio_alloc_context(buffer, IO_BUFFER_BYTES, 0, reader, reader_read, NULL, reader_seek);
    if (!io) {
        av_free(buffer);
        return SG_ERR_NO_MEMORY;
    }
    *out = io;
    return SG_OK;
}

void sgav_reader_close(AVIOContext **io)
{
    if (!*io)
        return;
    av_freep(&(*io)->buffer);
    avio_context_free(io);
}

void sgav_reader_skim(struct sgav_reader *reader, AVIOContext *io, bool on)
{
    if (reader->skim == on)
        return;
    /* Neither mode may see bytes the other left in the buffer. */
    io->buf_ptr = io->buf_end = io->buffer;
    io->pos = reader->pos;
    io->eof_reached = 0;
    reader->skim = on;
    io->direct = on;
}
