/* Files below a directory descriptor, never outside it: openat2 RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS, O_CLOEXEC always.
 * Thread-safe. Errors are sg_error_from_errno's. */
#ifndef STREAMGATE_BASE_FS_H
#define STREAMGATE_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "streamgate/base/error.h"

/* Opens (making it 0700, parents too, when missing) a directory the operator named; absolute or relative to the cwd. */
enum sg_error sg_fs_open_root(const char *path, int *out_dirfd) SG_NODISCARD;
enum sg_error sg_fs_open(int dirfd, const char *path, int flags, mode_t mode, int *out_fd) SG_NODISCARD;
enum sg_error sg_fs_mkdirs(int dirfd, const char *path) SG_NODISCARD; /* each created level's parent is fsynced */
enum sg_error sg_fs_write_all(int fd, const void *data, size_t len) SG_NODISCARD;
enum sg_error sg_fs_pwrite_all(int fd, const void *data, size_t len, uint64_t offset) SG_NODISCARD;
enum sg_error sg_fs_pread_all(int fd, void *data, size_t len, uint64_t offset) SG_NODISCARD; /* short file: IO */
struct sg_fs_range { int fd; uint64_t offset; };
/* Copies len bytes from one file to another, within the kernel where the file systems can; they may be of different ones. A source that ends early: IO. Makes nothing durable. */
enum sg_error sg_fs_copy_range(struct sg_fs_range from, struct sg_fs_range to, uint64_t len) SG_NODISCARD;
enum sg_error sg_fs_fdatasync(int fd) SG_NODISCARD;      /* never retried on the same descriptor */
/* Asks the kernel to begin writing these bytes out, so that a later sync has less to wait for. A hint: makes nothing durable. May block. */
void sg_fs_start_writeback(int fd, uint64_t offset, uint64_t len);
enum sg_error sg_fs_sync_dir(int dirfd, const char *path) SG_NODISCARD; /* "." for dirfd itself */
/* renameat2 RENAME_NOREPLACE, then fsync of the target's folder. */
enum sg_error sg_fs_publish(int dirfd, const char *from, const char *to) SG_NODISCARD;
enum sg_error sg_fs_unlink(int dirfd, const char *path) SG_NODISCARD; /* missing is SG_OK */
enum sg_error sg_fs_truncate(int fd, uint64_t size) SG_NODISCARD; /* durable by the next sync */
enum sg_error sg_fs_size(int fd, uint64_t *out) SG_NODISCARD;
enum sg_error sg_fs_free_bytes(int dirfd, uint64_t *out_free, uint64_t *out_total) SG_NODISCARD;
/* Whole small file into malloc'ed NUL-terminated memory; longer than max: TOO_LARGE. */
enum sg_error sg_fs_read_file(int dirfd, const char *path, size_t max, char **out, size_t *out_len) SG_NODISCARD;
/* Writes a new file durably: temporary, fsync, rename, fsync of the folder. mode as given. */
enum sg_error sg_fs_write_file(int dirfd, const char *path, const void *data, size_t len, mode_t mode) SG_NODISCARD;
/* Removes what sg_fs_write_file left in dirfd itself when it was killed. Nobody may be writing there. */
enum sg_error sg_fs_clear_temporaries(int dirfd, unsigned *removed) SG_NODISCARD;
/* Calls visit for each entry of a directory (no "." and ".."); stops at the first error visit returns and returns it. */
enum sg_error sg_fs_each(int dirfd, const char *path, enum sg_error (*visit)(void *arg, const char *name, bool is_dir), void *arg)
    SG_NODISCARD;

#endif
