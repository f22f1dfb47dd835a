/* Webhooks: who wants to hear of what, what has happened, and what came of telling. Everything here runs inside a transaction (store/db.h).
 *
 * Events of assets, uploads and jobs are written by triggers (src/store/schema_webhooks.h), in the transaction of the change, whoever makes it: nobody else emits them.
 * sg_webhook_spread makes deliveries of them. A delivery that is pending belongs to a hook that is enabled; what ends a hook ends those, too. */
#ifndef STREAMGATE_STORE_WEBHOOK_STORE_H
#define STREAMGATE_STORE_WEBHOOK_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/error.h"
#include "streamgate/store/db.h"

enum sg_webhook_type {
    SG_WEBHOOK_ASSET_CREATED, SG_WEBHOOK_ASSET_READY, SG_WEBHOOK_ASSET_FAILED, SG_WEBHOOK_ASSET_DELETED, SG_WEBHOOK_UPLOAD_COMPLETED, SG_WEBHOOK_JOB_FAILED,
    SG_WEBHOOK_ALERT_RAISED, SG_WEBHOOK_ALERT_RESOLVED, SG_WEBHOOK_PING, SG_WEBHOOK_TYPE_COUNT
};
const char *sg_webhook_type_name(enum sg_webhook_type t); /* "asset.created" ... "ping" */
enum sg_error sg_webhook_type_parse(const char *s, enum sg_webhook_type *out) SG_NODISCARD; /* INVALID; ping is sent on request only and cannot be wished for */
#define SG_WEBHOOK_ALL_EVENTS 0x7fffffffu /* of a mask of 1 << type: those there will be, too */

/* Tables that a daemon watches (sg_db_watch) for deliveries to be made: this one gets a row for each event. */
#define SG_WEBHOOK_EVENTS_TABLE "webhook_events"

/* Strings are never NULL. */
struct sg_webhook_fields {
    char id[SG_ULID_SIZE], owner[SG_ULID_SIZE];
    const char *url, *description;
    uint32_t events;                /* mask of 1 << type */
    bool everything;                /* made by an administrator: hears of everybody's, and of alerts, for as long as its owner has a live administrator's key; else of its owner's only */
    bool enabled;
    const char *disabled_why;       /* "" unless the daemon disabled it */
    uint32_t generation;            /* of its secret, from 1 on */
    uint64_t previous_until_ms;     /* the secret of generation - 1 signs too until then; 0: no more */
    uint64_t created_ms, updated_ms; /* Unix ms */
};
struct sg_webhook { struct sg_webhook_fields f; /* strings live in the same allocation */ };
void sg_webhook_free(struct sg_webhook **h); /* NULL inside is fine */

/* CONFLICT: the owner has max_per_owner already. */
enum sg_error sg_webhook_insert(struct sg_db_conn *c, const struct sg_webhook_fields *f, uint64_t max_per_owner) SG_NODISCARD;
enum sg_error sg_webhook_get(struct sg_db_conn *c, const char *id, struct sg_webhook **out) SG_NODISCARD; /* NOT_FOUND */
struct sg_webhook_list { struct sg_webhook **items; size_t n; };
/* Newest first; owner NULL: any; before: id or NULL; limit 1 to 1000. */
enum sg_error sg_webhook_list(struct sg_db_conn *c, const char *owner, const char *before, unsigned limit, struct sg_webhook_list *out) SG_NODISCARD;
void sg_webhook_list_free(struct sg_webhook_list *list);
/* Writes url, description, events, enabled and disabled_why. Not enabled: what waits fails. NOT_FOUND. */
enum sg_error sg_webhook_update(struct sg_db_conn *c, const struct sg_webhook_fields *f) SG_NODISCARD;
/* The next generation of its secret; the one before signs until overlap_until_ms. NOT_FOUND. */
enum sg_error sg_webhook_rotate(struct sg_db_conn *c, const char *id, uint64_t now_ms, uint64_t overlap_until_ms) SG_NODISCARD;
/* Nobody sees it any more; its deliveries go piece by piece with sg_webhook_purge. NOT_FOUND. */
enum sg_error sg_webhook_remove(struct sg_db_conn *c, const char *id, uint64_t now_ms) SG_NODISCARD;
/* *more: call again. */
enum sg_error sg_webhook_purge(struct sg_db_conn *c, bool *more) SG_NODISCARD;

/* ---- events ---- */

/* For what is no row: alerts. Written only when a hook wants it. data: a JSON object. owner "": administrators' hooks only. */
struct sg_webhook_event { enum sg_webhook_type type; const char *owner, *data; uint64_t time_ms; };
enum sg_error sg_webhook_emit(struct sg_db_conn *c, const struct sg_webhook_event *e) SG_NODISCARD;
/* One event for one hook, whatever it wants: a delivery of this id at once. NOT_FOUND; CONFLICT: it is disabled. */
enum sg_error sg_webhook_emit_to(struct sg_db_conn *c, const char *hook_id, const struct sg_webhook_event *e, char delivery_id[SG_ULID_SIZE]) SG_NODISCARD;
/* Makes deliveries of at most limit events (1 to 1000), oldest first. *out_n: how many events. */
enum sg_error sg_webhook_spread(struct sg_db_conn *c, unsigned limit, uint64_t *out_n) SG_NODISCARD;

/* ---- deliveries ---- */

enum sg_delivery_state { SG_DELIVERY_PENDING, SG_DELIVERY_DELIVERED, SG_DELIVERY_FAILED, SG_DELIVERY_STATE_COUNT };
const char *sg_delivery_state_name(enum sg_delivery_state s); /* "pending" "delivered" "failed" */
enum sg_error sg_delivery_state_parse(const char *s, enum sg_delivery_state *out) SG_NODISCARD; /* INVALID */

struct sg_delivery_fields {
    char id[SG_ULID_SIZE], hook_id[SG_ULID_SIZE];
    char event_id[SG_ULID_SIZE];    /* of the event, for all its deliveries */
    enum sg_webhook_type type;
    const char *body;               /* what is sent, byte by byte */
    enum sg_delivery_state state;
    unsigned attempts;
    unsigned status;                /* HTTP status of the last try; 0: it got none */
    const char *error;              /* of the last try; "" */
    uint64_t latency_ms;            /* of the last try */
    uint64_t next_ms;               /* PENDING: not before */
    uint64_t since_ms;              /* from when on it is counted for how long it is tried: its making, or its last redelivery */
    uint64_t created_ms, updated_ms, ended_ms; /* Unix ms; ended_ms 0: pending */
};
struct sg_delivery { struct sg_delivery_fields f; /* strings live in the same allocation */ };
void sg_delivery_free(struct sg_delivery **d); /* NULL inside is fine */

enum sg_error sg_delivery_get(struct sg_db_conn *c, const char *hook_id, const char *id, struct sg_delivery **out) SG_NODISCARD; /* NOT_FOUND */
/* Of one hook, newest first; state -1: any; before: id or NULL; limit 1 to 1000. */
struct sg_delivery_query { const char *hook_id; int state; const char *before; unsigned limit; };
struct sg_delivery_list { struct sg_delivery **items; size_t n; };
enum sg_error sg_delivery_list(struct sg_db_conn *c, const struct sg_delivery_query *q, struct sg_delivery_list *out) SG_NODISCARD;
void sg_delivery_list_free(struct sg_delivery_list *list);
/* Pending again, at once and from the beginning. NOT_FOUND; CONFLICT: its hook is disabled. */
enum sg_error sg_delivery_again(struct sg_db_conn *c, const char *hook_id, const char *id, uint64_t now_ms) SG_NODISCARD;

/* Every hook that has something pending, and when the first of that is due. */
enum sg_error sg_delivery_hooks(struct sg_db_conn *c, enum sg_error (*visit)(void *arg, const char *hook_id, uint64_t next_ms), void *arg) SG_NODISCARD;
/* What is due for one hook, the longest due first, at most limit. d and h are good during visit. */
struct sg_delivery_due { const char *hook_id; uint64_t now_ms; unsigned limit; };
enum sg_error sg_delivery_due(struct sg_db_conn *c, const struct sg_delivery_due *due, enum sg_error (*visit)(void *arg, const struct sg_webhook_fields *h, const struct sg_delivery_fields *d), void *arg) SG_NODISCARD;

/* What one try came to. PENDING: again at next_ms. NOT_FOUND: it is not pending any more. */
struct sg_delivery_outcome { const char *id; enum sg_delivery_state state; unsigned status; const char *error; uint64_t latency_ms, now_ms, next_ms; };
enum sg_error sg_delivery_settle(struct sg_db_conn *c, const struct sg_delivery_outcome *o) SG_NODISCARD;
/* Everything pending of the hook that waits since before before_ms fails, saying why. *out_n: how many. */
struct sg_delivery_giving_up { const char *hook_id, *why; uint64_t before_ms, now_ms; };
enum sg_error sg_delivery_give_up(struct sg_db_conn *c, const struct sg_delivery_giving_up *g, uint64_t *out_n) SG_NODISCARD;
/* The receiver wants no more: the hook is disabled, saying why, and what waits fails. NOT_FOUND. */
enum sg_error sg_webhook_disable(struct sg_db_conn *c, const char *id, uint64_t now_ms, const char *why) SG_NODISCARD;

enum sg_error sg_delivery_count_pending(struct sg_db_conn *c, uint64_t *out) SG_NODISCARD;
/* Removes deliveries that ended before before_ms, at most limit, oldest first. */
enum sg_error sg_delivery_prune(struct sg_db_conn *c, uint64_t before_ms, unsigned limit, uint64_t *out_n) SG_NODISCARD;

#endif
