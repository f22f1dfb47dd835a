/* What webhook_store.c (hooks and events) and webhook_delivery.c share. */
#ifndef STREAMGATE_STORE_WEBHOOK_ROWS_H
#define STREAMGATE_STORE_WEBHOOK_ROWS_H

#include "streamgate/store/webhook_store.h"

#include "db_conn.h"

/* A delivery for one hook, due at once. id is filled in. */
struct sg_delivery_new {
    const char *hook_id, *event_id, *body;
    enum sg_webhook_type type;
    uint64_t now_ms;
    char id[SG_ULID_SIZE];
};
enum sg_error sg_delivery_insert(struct sg_db_conn *c, struct sg_delivery_new *d) SG_NODISCARD;
/* Everything of the hook that is pending fails, saying why. */
enum sg_error sg_delivery_end_all(struct sg_db_conn *c, const char *hook_id, uint64_t now_ms,
                                  const char *why) SG_NODISCARD;

#endif
