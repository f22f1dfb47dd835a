/* The error table: error.def made into status, slug and title. Constants only. */
#include "streamgate/base/error.h"

#include <errno.h>

struct error_row {
    unsigned status;
    const char *slug;
    const char *title;
};

static const struct error_row rows[SG_ERROR_COUNT] = {
    [SG_OK] = {200, "ok", "OK"},
#define SG_ERROR(name, status, slug, title) [SG_ERR_##name] = {status, slug, title},
#include "streamgate/base/error.def"
#undef SG_ERROR
};

static const struct error_row *row_of(enum sg_error err)
{
    unsigned n = (unsigned)err;
    return &rows[n < SG_ERROR_COUNT ? n : SG_ERR_INTERNAL];
}

unsigned sg_error_status(enum sg_error err)
{
    return row_of(err)->status;
}

const char *sg_error_slug(enum sg_error err)
{
    return row_of(err)->slug;
}

const char *sg_error_title(enum sg_error err)
{
    return row_of(err)->title;
}

enum sg_error sg_error_from_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return SG_ERR_NO_SPACE;
    case ENOMEM:
        return SG_ERR_NO_MEMORY;
    case EMFILE:
    case ENFILE:
        return SG_ERR_NO_DESCRIPTORS;
    case ENOENT:
        return SG_ERR_NOT_FOUND;
    case EEXIST:
        return SG_ERR_EXISTS;
    case EACCES:
    case EPERM:
    case ELOOP:
    case EXDEV:
        return SG_ERR_FORBIDDEN;
    default:
        return SG_ERR_IO;
    }
}
