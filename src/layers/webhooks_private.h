/* What webhooks.c (life, the thread), webhook_send.c (what is sent when) and webhook_sign.c share.
 */
#ifndef LAYERS_WEBHOOKS_PRIVATE_H
#define LAYERS_WEBHOOKS_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>

#include "streamgate/layers/post.h"
#include "streamgate/layers/webhooks.h"
#include "streamgate/store/webhook_store.h"

struct webhook_settings {
    uint64_t parallel, parallel_per_hook;
    uint64_t timeout_ms, retry_base_ms, retry_for_ms;
    struct sg_cidr_list *allow; /* owned */
};

/* What is remembered of a hook while something of it is under way or its receiver fails. */
struct hook_state {
    char id[SG_ULID_SIZE];
    unsigned running;
    unsigned failures;      /* in a row */
    uint64_t hold_until_ms; /* monotonic: its receiver is left alone */
};

/* A delivery from the moment it is begun until what came of it is stored. */
struct sending {
    struct sg_webhooks *w;
    char id[SG_ULID_SIZE], hook_id[SG_ULID_SIZE];
    unsigned attempts; /* before this one */
    uint64_t since_ms;
    bool ended;
    bool gone; /* the receiver wants no more */
    struct sg_delivery_outcome outcome;
    char error[160];
    struct sending *next;
};

struct sg_webhooks {
    struct sg_db *db;
    struct sg_db_watch watch;
    struct sg_hmac_key *key;
    struct sg_post_client *posts;
    pthread_t thread;
    bool started;

    /* The thread's own. */
    struct webhook_settings settings;
    struct hook_state *hooks;
    size_t n_hooks, cap_hooks;
    struct sending *sendings;
    size_t n_sendings;
    char last_hook[SG_ULID_SIZE]; /* the one served last: the next turn begins behind it */

    pthread_mutex_t lock; /* guards the rest; leaf */
    bool stopping, woken, nudged, has_news;
    struct webhook_settings news; /* not taken over yet */
    char *allow_text;             /* what the newest settings' list was made of */
};

/* webhook_send.c, on the thread */
/* Begins what is due, as far as there is room. *wait_ms: when to look again at the latest. */
enum sg_error webhook_begin_due(struct sg_webhooks *w, uint64_t *wait_ms) SG_NODISCARD;
void webhook_note_result(struct sg_webhooks *w, const struct sg_post_result *r);
/* Stores what came of those that ended. An error leaves them for another time. */
enum sg_error webhook_store_results(struct sg_webhooks *w) SG_NODISCARD;
bool webhook_has_results(const struct sg_webhooks *w); /* that are not stored */
void webhook_forget_all(struct sg_webhooks *w);

#endif
