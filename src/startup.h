/* Putting the data directory in order before anything is served. */
#ifndef STARTUP_H
#define STARTUP_H

#include "streamgate/base/error.h"
#include "streamgate/store/blob.h"
#include "streamgate/store/db.h"

/* One daemon a data directory: takes a lock that lives as long as *out_fd. UNAVAILABLE (logged)
 * when another holds it. */
enum sg_error startup_lock(int data_dirfd, int *out_fd) SG_NODISCARD;
/* Files without rows are removed, rows without files are marked failed, staged files are removed;
 * said in the log. */
enum sg_error startup_reconcile(struct sg_db *db, struct sg_blob_store *blobs) SG_NODISCARD;
/* Without any key yet: makes an admin key and writes it to admin.key (0600). */
enum sg_error startup_admin_key(struct sg_db *db, int data_dirfd) SG_NODISCARD;

#endif
