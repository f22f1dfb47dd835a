/* Bytes from one file to another. copy_file_range shares or copies them in the kernel; where it is
 * not offered for this pair of files they go through a buffer. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "streamgate/base/fs.h"

#define AT_ONCE ((uint64_t)1 << 30)
#define BUFFER ((size_t)256 * 1024)

static bool not_offered(int error)
{
    return error == EXDEV || error == EINVAL || error == ENOSYS || error == EOPNOTSUPP ||
           error == EPERM;
}

static enum sg_error copy_buffered(struct sg_fs_range from, struct sg_fs_range to, uint64_t len)
{
    void *buffer = malloc(BUFFER);
    enum sg_error err = buffer != NULL ? SG_OK : SG_ERR_NO_MEMORY;
    while (len > 0 && err == SG_OK) {
        size_t n = len < BUFFER ? (size_t)len : BUFFER;
        err = sg_fs_pread_all(from.fd, buffer, n, from.offset);
        if (err == SG_OK)
            err = sg_fs_pwrite_all(to.fd, buffer, n, to.offset);
        from.offset += n;
        to.offset += n;
        len -= n;
    }
    free(buffer);
    return err;
}

enum sg_error sg_fs_copy_range(struct sg_fs_range from, struct sg_fs_range to, uint64_t len)
{
    if (from.offset > INT64_MAX || len > INT64_MAX - from.offset)
        return SG_ERR_IO;
    if (to.offset > INT64_MAX || len > INT64_MAX - to.offset)
        return SG_ERR_NO_SPACE;
    while (len > 0) {
        off_t in = (off_t)from.offset, out = (off_t)to.offset;
        size_t most = len < AT_ONCE ? (size_t)len : (size_t)AT_ONCE;
        ssize_t n = copy_file_range(from.fd, &in, to.fd, &out, most, 0);
        if (n < 0 && errno == EINTR)
            continue;
        /* 0 is the end of the source, but some file systems say it for "not offered" too: reading
         * tells which. */
        if (n == 0 || (n < 0 && not_offered(errno)))
            return copy_buffered(from, to, len);
        if (n < 0)
            return sg_error_from_errno(errno);
        from.offset += (uint64_t)n;
        to.offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return SG_OK;
}
