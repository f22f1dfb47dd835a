/* What the tests of this floor share: settings, a data directory with a database, keys. */
#ifndef STREAMGATE_TESTS_LAYERS_SUPPORT_H
#define STREAMGATE_TESTS_LAYERS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include "streamgate/base/config.h"
#include "streamgate/store/db.h"
#include "streamgate/store/key_store.h"

/* A configuration with these overrides (NULL-terminated, "section.key=value"). */
struct sg_config *support_config(const char *const *overrides);

struct support_dir {
    char path[64];
    int fd;
    struct sg_db *db;
};
/* A fresh directory below $TMPDIR or /tmp, with a migrated database. */
void support_dir_open(struct support_dir *d);
void support_dir_close(struct support_dir *d); /* removes it */

void support_key_make(struct sg_db *db, const char *name, uint64_t expires_ms,
                      char secret[SG_KEY_SIZE], struct sg_key *out);
void support_key_revoke(struct sg_db *db, const char *id);

#endif
