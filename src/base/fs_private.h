/* The way files are opened on kernels without openat2; seen by tests only. */
#ifndef SG_BASE_FS_PRIVATE_H
#define SG_BASE_FS_PRIVATE_H

#include <sys/types.h>

/* Component by component with O_NOFOLLOW; absolute paths and ".." are refused. A descriptor, or -1
 * and errno. */
int sg_fs_open_walk(int dirfd, const char *path, int flags, mode_t mode);

#endif
