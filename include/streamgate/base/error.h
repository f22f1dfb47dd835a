/* Error codes. One definition each, in error.def; everything fallible returns one. Thread-safe: constants only. */
#ifndef STREAMGATE_BASE_ERROR_H
#define STREAMGATE_BASE_ERROR_H

#define SG_NODISCARD __attribute__((warn_unused_result))
#define SG_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define SG_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

enum sg_error {
    SG_OK = 0,
#define SG_ERROR(name, status, slug, title) SG_ERR_##name,
#include "streamgate/base/error.def"
#undef SG_ERROR
    SG_ERROR_COUNT
};

/* Out of range values answer as SG_ERR_INTERNAL. SG_OK: 200, "ok", "OK". The strings are static. */
unsigned sg_error_status(enum sg_error err);
const char *sg_error_slug(enum sg_error err);
const char *sg_error_title(enum sg_error err);

/* errno -> error: ENOSPC/EDQUOT/EFBIG NO_SPACE, ENOMEM NO_MEMORY, EMFILE/ENFILE NO_DESCRIPTORS, ENOENT NOT_FOUND,
 * EEXIST EXISTS, EACCES/EPERM/ELOOP/EXDEV FORBIDDEN, everything else IO. Never SG_OK. */
enum sg_error sg_error_from_errno(int errnum);

#endif
