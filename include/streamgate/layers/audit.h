/* Audit of what is not a change: authentications, denials, rate-limit violations, system events. Changes write their event in their own transaction
 * (store/audit_store.h). Events here are queued (bounded), written in batches by the db writer, and a flood is folded into one summary event a second and kind. Thread-safe. */
#ifndef STREAMGATE_LAYERS_AUDIT_H
#define STREAMGATE_LAYERS_AUDIT_H

#include "streamgate/base/config.h"
#include "streamgate/base/error.h"
#include "streamgate/store/audit_store.h"
#include "streamgate/store/db.h"

struct sg_audit;
enum sg_error sg_audit_create(struct sg_db *db, const struct sg_config *config, struct sg_audit **out) SG_NODISCARD;
void sg_audit_destroy(struct sg_audit **a); /* flushes */
void sg_audit_configure(struct sg_audit *a, const struct sg_config *config);
/* Copies the event; never blocks, never fails the caller: over audit.denials_per_second or when the queue is full it only counts towards the summary. */
void sg_audit_note(struct sg_audit *a, const struct sg_audit_event *event);
/* Writes what is queued and any summary; prunes by retention once an hour. Call each second where blocking is allowed. */
void sg_audit_tick(struct sg_audit *a);

#endif
