/* Reference-counted immutable bytes: one allocation for a copy, a wrapper for taken memory or a
 * mapped memfd. Invariant: data and len never change after creation, so only the count is atomic.
 */
#include "streamgate/base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static void release_inline(struct sg_buf *buf)
{
    free(buf);
}

static void release_taken(struct sg_buf *buf)
{
    free((void *)(uintptr_t)buf->data);
    free(buf);
}

static void release_mapping(struct sg_buf *buf)
{
    if (buf->len > 0)
        munmap((void *)(uintptr_t)buf->data, buf->len);
    free(buf);
}

static void init(struct sg_buf *buf, const void *data, size_t len, void (*release)(struct sg_buf *))
{
    buf->data = data;
    buf->len = len;
    atomic_init(&buf->refs, 1);
    buf->release = release;
}

enum sg_error sg_buf_create_copy(const void *data, size_t len, struct sg_buf **out)
{
    if (len > SIZE_MAX - sizeof(struct sg_buf))
        return SG_ERR_NO_MEMORY;
    struct sg_buf *buf = malloc(sizeof(*buf) + len);
    if (buf == NULL)
        return SG_ERR_NO_MEMORY;
    init(buf, len > 0 ? buf + 1 : NULL, len, release_inline);
    if (len > 0)
        memcpy(buf + 1, data, len);
    *out = buf;
    return SG_OK;
}

enum sg_error sg_buf_create_take(void *data, size_t len, struct sg_buf **out)
{
    struct sg_buf *buf = malloc(sizeof(*buf));
    if (buf == NULL)
        return SG_ERR_NO_MEMORY;
    init(buf, data, len, release_taken);
    *out = buf;
    return SG_OK;
}

enum sg_error sg_buf_create_memfd(int fd, size_t max_bytes, struct sg_buf **out)
{
    const int needed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & needed) != needed)
        return SG_ERR_MEDIA_WORKER;
    struct stat st;
    if (fstat(fd, &st) != 0)
        return SG_ERR_IO;
    if (st.st_size < 0 || (uint64_t)st.st_size > max_bytes)
        return SG_ERR_MEDIA_WORKER;

    size_t len = (size_t)st.st_size;
    void *data = NULL;
    if (len > 0) {
        /* MAP_PRIVATE: kernels before 6.7 refuse MAP_SHARED of a write-sealed file; without a write
         * nothing is copied, the page cache itself is mapped. */
        data = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
        if (data == MAP_FAILED)
            return errno == ENOMEM ? SG_ERR_NO_MEMORY : SG_ERR_IO;
    }
    struct sg_buf *buf = malloc(sizeof(*buf));
    if (buf == NULL) {
        if (len > 0)
            munmap(data, len);
        return SG_ERR_NO_MEMORY;
    }
    init(buf, data, len, release_mapping);
    *out = buf;
    return SG_OK;
}

struct sg_buf *sg_buf_ref(struct sg_buf *buf)
{
    atomic_fetch_add_explicit(&buf->refs, 1, memory_order_relaxed);
    return buf;
}

void sg_buf_unref(struct sg_buf *buf)
{
    if (buf == NULL)
        return;
    if (atomic_fetch_sub_explicit(&buf->refs, 1, memory_order_acq_rel) == 1)
        buf->release(buf);
}
