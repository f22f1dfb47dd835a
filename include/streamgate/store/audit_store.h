/* The audit log: append-only rows chained by SHA-256 over the previous row's hash and this row's canonical JSON. A change and its event commit in one
 * transaction. Details are JSON without secrets. All functions run inside a transaction. */
#ifndef STREAMGATE_STORE_AUDIT_STORE_H
#define STREAMGATE_STORE_AUDIT_STORE_H

#include <stdint.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/str.h"
#include "streamgate/store/db.h"

struct sg_audit_event {
    uint64_t time_ms;          /* 0: now */
    const char *event_type;    /* authentication authorization data security admin rate_limit cache system */
    const char *actor;         /* user id, "anonymous", "cli", "system" */
    const char *action;        /* "asset.create"... */
    const char *resource;      /* "asset/01H..." */
    const char *result;        /* success denied failure */
    const char *details;       /* JSON object text or NULL */
    const char *request_id;    /* or NULL */
};

enum sg_error sg_audit_append(struct sg_db_conn *c, const struct sg_audit_event *event) SG_NODISCARD;

struct sg_audit_query { const char *actor, *event_type, *resource; uint64_t from_ms, to_ms; uint64_t after_seq; unsigned limit; }; /* NULL/0: any */
/* Appends JSON lines, oldest first; *last_seq is the last row's number (to page on), unchanged when there was none. */
enum sg_error sg_audit_export(struct sg_db_conn *c, const struct sg_audit_query *q, struct sg_text *out, uint64_t *last_seq) SG_NODISCARD;
/* Walks the chain. *bad_seq: first record that does not fit (edited, missing, reordered), 0 when all is well; *count: records read. The head of the
 * chain (count and hash of the last record) is kept in meta, so a cut tail is found too. */
enum sg_error sg_audit_verify(struct sg_db_conn *c, uint64_t *count, uint64_t *bad_seq) SG_NODISCARD;
/* Drops events older than before_ms from the front, leaving an anchor with the last dropped hash so that the chain still verifies. */
enum sg_error sg_audit_prune(struct sg_db_conn *c, uint64_t before_ms, uint64_t *dropped) SG_NODISCARD;

#endif
