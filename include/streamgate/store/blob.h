/* Files: the seam for object storage. Staged uploads live in incoming/<id>, published ones in assets/<last 2 of id>/<id>/source, under the data
 * directory. Thread-safe. Blocks, except writes to a staged descriptor (page cache). */
#ifndef STREAMGATE_STORE_BLOB_H
#define STREAMGATE_STORE_BLOB_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/error.h"

struct sg_blob_store;

/* dirfd: the data directory, stays the caller's. Makes the folders. */
enum sg_error sg_blob_store_create(int dirfd, struct sg_blob_store **out) SG_NODISCARD;
void sg_blob_store_destroy(struct sg_blob_store **store);

enum sg_error sg_blob_stage(struct sg_blob_store *s, const char *id, int *out_fd) SG_NODISCARD;  /* new, empty, O_RDWR */
enum sg_error sg_blob_open_staged(struct sg_blob_store *s, const char *id, int *out_fd) SG_NODISCARD; /* O_RDWR; NOT_FOUND */
enum sg_error sg_blob_sync_staged(struct sg_blob_store *s) SG_NODISCARD; /* makes the names of staged files durable */
enum sg_error sg_blob_discard(struct sg_blob_store *s, const char *id) SG_NODISCARD;              /* missing is SG_OK */
/* The staged file must have been fdatasynced; renames it into place and fsyncs every folder concerned. After a failure it is still staged. */
enum sg_error sg_blob_publish(struct sg_blob_store *s, const char *id) SG_NODISCARD;
/* The published file of `from` becomes the published file of id too: a hard link, so the file system counts the references and deletion needs no care (published files are never written). Durable as publish is.
 * A staged file of id is left alone. NOT_FOUND: from has no file (any more); EXISTS: id has one already; UNAVAILABLE: the file system takes no (more) links to the file. */
enum sg_error sg_blob_share(struct sg_blob_store *s, const char *id, const char *from) SG_NODISCARD;
/* Makes the place of a published file durable: what publish and share do, when an earlier run may have been killed in the middle of them. NOT_FOUND. */
enum sg_error sg_blob_sync_published(struct sg_blob_store *s, const char *id) SG_NODISCARD;
enum sg_error sg_blob_open(struct sg_blob_store *s, const char *id, int *out_fd) SG_NODISCARD;    /* read-only; NOT_FOUND */
enum sg_error sg_blob_remove(struct sg_blob_store *s, const char *id) SG_NODISCARD;               /* readers keep their descriptor */
/* Free and total bytes of the file system. */
enum sg_error sg_blob_space(struct sg_blob_store *s, uint64_t *out_free, uint64_t *out_total) SG_NODISCARD;
/* Visits the ids of published files; stops at visit's first error. */
enum sg_error sg_blob_each(struct sg_blob_store *s, enum sg_error (*visit)(void *arg, const char *id), void *arg) SG_NODISCARD;
/* At start, before anything is staged: removes the staged files that keep (NULL: nobody) does not claim and the empty folders of publishes that were
 * cut short; *removed: how many staged files. */
enum sg_error sg_blob_clear_staged(struct sg_blob_store *s, bool (*keep)(void *arg, const char *id), void *arg, uint64_t *removed) SG_NODISCARD;

#endif
