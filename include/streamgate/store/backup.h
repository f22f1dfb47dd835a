/* A consistent copy of the database while it is used, and a list of the files it speaks of. Blocks for as long as the copy takes. */
#ifndef STREAMGATE_STORE_BACKUP_H
#define STREAMGATE_STORE_BACKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/error.h"
#include "streamgate/store/db.h"

struct sg_backup_params {
    struct sg_db *db;
    int dirfd;      /* the data directory: the copy goes to backups/<UTC time>.db, the list to backups/<UTC time>.files */
    unsigned keep;  /* whole backups that stay, this one included; at least 1 */
    bool (*stop)(void *arg, uint64_t done, uint64_t total); /* told of pages; true: CANCELLED */
    void *arg;
};
struct sg_backup_result { char name[40]; uint64_t db_bytes, files, file_bytes; unsigned removed; };

/* The .db appears last, checked and synced: where there is one, the backup is whole. The list has a line of JSON for each ready asset: id, size, sha256. Errors: CANCELLED, IO, NO_SPACE, NO_MEMORY; then
 * nothing is left behind but what the next one removes. */
enum sg_error sg_backup_make(const struct sg_backup_params *p, struct sg_backup_result *out) SG_NODISCARD;

#endif
