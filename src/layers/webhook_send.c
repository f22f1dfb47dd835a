/* What is sent when, and what becomes of it.
 *
 * Each hook has a few places of its own, and its turn: one whose receiver hangs fills its places
 * and nobody else's. After a failure the hook's other deliveries wait a little, too, and then go
 * one at a time until one arrives, so that a receiver that is down is not asked once for each of
 * ten thousand, and has them all soon after it is back. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/base/str.h"

#include "webhooks_private.h"

#define LOOK_AGAIN_MS 60000
#define HOLD_MAX_MS 60000
/* In a row, after which what is too old need not be tried each by itself. */
#define DOWN_FAILURES 10
/* No wait is longer than this part of the time there is for all of them. */
#define BACKOFF_SHARE 4

/* ---- hooks ---- */

static struct hook_state *find_hook(struct sg_webhooks *w, const char *id)
{
    for (size_t i = 0; i < w->n_hooks; i++)
        if (strcmp(w->hooks[i].id, id) == 0)
            return &w->hooks[i];
    return NULL;
}

static struct hook_state *get_hook(struct sg_webhooks *w, const char *id)
{
    struct hook_state *h = find_hook(w, id);
    if (h != NULL)
        return h;
    if (w->n_hooks == w->cap_hooks) {
        size_t cap = w->cap_hooks > 0 ? 2 * w->cap_hooks : 32;
        struct hook_state *grown = realloc(w->hooks, cap * sizeof *grown);
        if (grown == NULL)
            return NULL;
        w->hooks = grown;
        w->cap_hooks = cap;
    }
    h = &w->hooks[w->n_hooks++];
    *h = (struct hook_state){0};
    memcpy(h->id, id, SG_ULID_SIZE);
    return h;
}

static void forget_if_idle(struct sg_webhooks *w, struct hook_state *h)
{
    if (h->running == 0 && h->failures == 0)
        *h = w->hooks[--w->n_hooks];
}

static bool is_sending(const struct sg_webhooks *w, const char *id)
{
    for (const struct sending *s = w->sendings; s != NULL; s = s->next)
        if (strcmp(s->id, id) == 0)
            return true;
    return false;
}

static uint64_t jitter(uint64_t ms)
{
    uint32_t dice;
    sg_random(&dice, sizeof dice);
    return ms - ms / 4 + ms / 2 * dice / UINT32_MAX; /* three to five quarters */
}

static uint64_t backoff(uint64_t base_ms, unsigned failures, uint64_t max_ms)
{
    uint64_t ms = base_ms;
    for (unsigned i = 1; i < failures && ms < max_ms; i++)
        ms *= 2;
    return jitter(ms < max_ms ? ms : max_ms);
}

/* ---- what came of one ---- */

static void end_failed(struct sending *s, uint64_t retry_after_ms)
{
    const struct webhook_settings *set = &s->w->settings;
    struct sg_delivery_outcome *o = &s->outcome;
    uint64_t deadline_ms = s->since_ms + set->retry_for_ms;
    uint64_t wait_ms =
        backoff(set->retry_base_ms, s->attempts + 1, set->retry_for_ms / BACKOFF_SHARE);
    if (wait_ms < retry_after_ms)
        wait_ms = retry_after_ms;
    s->gone = o->status == 410;
    o->state = SG_DELIVERY_FAILED;
    if (s->gone || o->now_ms >= deadline_ms)
        return;
    o->state = SG_DELIVERY_PENDING;
    o->next_ms = o->now_ms + wait_ms < deadline_ms ? o->now_ms + wait_ms : deadline_ms;
}

static void end(struct sending *s, const struct sg_post_result *r)
{
    struct sg_webhooks *w = s->w;
    struct hook_state *h = find_hook(w, s->hook_id); /* there while anything of it runs */
    bool well = r->status >= 200 && r->status < 300;
    s->ended = true;
    s->outcome = (struct sg_delivery_outcome){.id = s->id,
                                              .state = SG_DELIVERY_DELIVERED,
                                              .status = r->status,
                                              .error = s->error,
                                              .latency_ms = r->latency_ms,
                                              .now_ms = sg_clock_wall_ms()};
    if (well) {
        h->failures = 0;
        h->hold_until_ms = 0;
        return;
    }
    if (r->status == 0)
        (void)snprintf(s->error, sizeof s->error, "%s", r->why);
    else
        (void)snprintf(s->error, sizeof s->error, "the receiver answered with HTTP status %u%s",
                       r->status,
                       r->status >= 300 && r->status < 400 ? "; redirects are not followed" : "");
    h->failures++;
    h->hold_until_ms =
        sg_clock_mono_ms() + backoff(w->settings.retry_base_ms, h->failures, HOLD_MAX_MS);
    end_failed(s, r->retry_after_ms);
}

void webhook_note_result(struct sg_webhooks *w, const struct sg_post_result *r)
{
    (void)w;
    if (r->status != 0)
        sg_metric_observe_ns(SG_METRIC_WEBHOOK_LATENCY, 0, r->latency_ms * 1000000);
    end(r->arg, r);
}

/* ---- storing that ---- */

static enum sg_error store_one(struct sg_db_conn *c, const struct sending *s)
{
    const struct sg_webhooks *w = s->w;
    const struct sg_delivery_outcome *o = &s->outcome;
    enum sg_error err = sg_delivery_settle(c, o);
    if (err == SG_OK && s->gone)
        err = sg_webhook_disable(c, s->hook_id, o->now_ms, "the receiver answered 410 Gone");
    if (err != SG_OK || o->state != SG_DELIVERY_FAILED || s->gone)
        return err == SG_ERR_NOT_FOUND ? SG_OK : err;
    /* Nothing got through in all the time that what is as old as this one had. */
    for (size_t i = 0; i < w->n_hooks; i++) {
        uint64_t n;
        if (strcmp(w->hooks[i].id, s->hook_id) == 0 && w->hooks[i].failures >= DOWN_FAILURES)
            return sg_delivery_give_up(
                c,
                &(struct sg_delivery_giving_up){.hook_id = s->hook_id,
                                                .why = "the receiver took nothing for so long",
                                                .before_ms = s->since_ms,
                                                .now_ms = o->now_ms},
                &n);
    }
    return SG_OK;
}

static enum sg_error store_all(struct sg_db_conn *c, void *arg)
{
    const struct sg_webhooks *w = arg;
    enum sg_error err = SG_OK;
    for (const struct sending *s = w->sendings; s != NULL && err == SG_OK; s = s->next)
        if (s->ended)
            err = store_one(c, s);
    return err;
}

static void drop(struct sg_webhooks *w, struct sending **at)
{
    struct sending *s = *at;
    struct hook_state *h = find_hook(w, s->hook_id);
    *at = s->next;
    w->n_sendings--;
    if (h != NULL) {
        h->running--;
        forget_if_idle(w, h);
    }
    free(s);
}

bool webhook_has_results(const struct sg_webhooks *w)
{
    for (const struct sending *s = w->sendings; s != NULL; s = s->next)
        if (s->ended)
            return true;
    return false;
}

enum sg_error webhook_store_results(struct sg_webhooks *w)
{
    enum sg_error err = webhook_has_results(w) ? sg_db_write(w->db, store_all, w) : SG_OK;
    if (err != SG_OK)
        return err;
    for (struct sending **at = &w->sendings; *at != NULL;) {
        struct sending *s = *at;
        if (!s->ended) {
            at = &s->next;
            continue;
        }
        static const enum sg_metric counters[] = {
            [SG_DELIVERY_PENDING] = SG_METRIC_WEBHOOK_RETRIED,
            [SG_DELIVERY_DELIVERED] = SG_METRIC_WEBHOOK_DELIVERED,
            [SG_DELIVERY_FAILED] = SG_METRIC_WEBHOOK_FAILED,
        };
        sg_metric_add(counters[s->outcome.state], 0, 1);
        if (s->gone)
            sg_warn_log("webhooks", "webhook %s is disabled: its receiver answered 410",
                        s->hook_id);
        drop(w, at);
    }
    return SG_OK;
}

void webhook_forget_all(struct sg_webhooks *w)
{
    while (w->sendings != NULL)
        drop(w, &w->sendings);
    free(w->hooks);
    w->hooks = NULL;
    w->n_hooks = w->cap_hooks = 0;
}

/* ---- beginning ---- */

/* "v1,... v1,...": under the secret of now, and under the one before it while that still counts. */
static enum sg_error write_signatures(struct sg_webhooks *w, const struct sg_webhook_fields *h,
                                      const struct sg_webhook_message *m, struct sg_text *out)
{
    char secret[SG_WEBHOOK_SECRET_SIZE], signature[SG_WEBHOOK_SIGNATURE_SIZE];
    bool both = h->generation > 1 && h->previous_until_ms > sg_clock_wall_ms();
    enum sg_error err = SG_OK;
    sg_text_puts(out, "Webhook-Signature:");
    for (uint32_t back = 0; back < (both ? 2u : 1u) && err == SG_OK; back++) {
        err = sg_webhooks_secret(w, h->id, h->generation - back, secret);
        if (err == SG_OK)
            err = sg_webhook_sign(secret, m, signature);
        if (err == SG_OK)
            sg_text_printf(out, " %s", signature);
    }
    sg_wipe(secret, sizeof secret);
    return err == SG_OK && out->failed ? SG_ERR_NO_MEMORY : err;
}

static enum sg_error post(struct sending *s, const struct sg_webhook_fields *h,
                          const struct sg_delivery_fields *d)
{
    struct sg_webhooks *w = s->w;
    const struct sg_webhook_message m = {.id = d->event_id,
                                         .timestamp_s = sg_clock_wall_ms() / 1000,
                                         .body = d->body,
                                         .body_len = strlen(d->body)};
    char id[64], timestamp[64];
    struct sg_text signatures = {0};
    (void)snprintf(id, sizeof id, "Webhook-Id: %s", d->event_id);
    (void)snprintf(timestamp, sizeof timestamp, "Webhook-Timestamp: %" PRIu64, m.timestamp_s);
    enum sg_error err = write_signatures(w, h, &m, &signatures);
    const char *const headers[] = {"Content-Type: application/json", id, timestamp, signatures.ptr};
    if (err == SG_OK)
        err = sg_post_start(w->posts, &(struct sg_post_params){.url = h->url,
                                                               .headers = headers,
                                                               .n_headers = SG_ARRAY_LEN(headers),
                                                               .body = d->body,
                                                               .body_len = m.body_len,
                                                               .timeout_ms = w->settings.timeout_ms,
                                                               .arg = s});
    sg_text_free(&signatures);
    return err;
}

struct turn {
    char id[SG_ULID_SIZE];
    uint64_t next_ms;
};

struct round {
    struct sg_webhooks *w;
    struct turn *turns; /* hooks that have something pending, by id */
    size_t n, cap;
    uint64_t now_ms, mono_ms, wait_ms;
    unsigned room; /* of the hook at hand */
};

static enum sg_error add_turn(void *arg, const char *hook_id, uint64_t next_ms)
{
    struct round *r = arg;
    if (r->n == r->cap) {
        size_t cap = r->cap > 0 ? 2 * r->cap : 32;
        struct turn *grown = realloc(r->turns, cap * sizeof *grown);
        if (grown == NULL)
            return SG_ERR_NO_MEMORY;
        r->turns = grown;
        r->cap = cap;
    }
    r->turns[r->n].next_ms = next_ms;
    (void)snprintf(r->turns[r->n++].id, SG_ULID_SIZE, "%s", hook_id);
    return SG_OK;
}

static enum sg_error begin_one(void *arg, const struct sg_webhook_fields *h,
                               const struct sg_delivery_fields *d)
{
    struct round *r = arg;
    struct sg_webhooks *w = r->w;
    if (r->room == 0 || is_sending(w, d->id))
        return SG_OK;
    struct sending *s = calloc(1, sizeof *s);
    struct hook_state *state = s != NULL ? get_hook(w, h->id) : NULL;
    if (state == NULL) {
        free(s);
        return SG_ERR_NO_MEMORY;
    }
    *s = (struct sending){.w = w, .attempts = d->attempts, .since_ms = d->since_ms};
    memcpy(s->id, d->id, SG_ULID_SIZE);
    memcpy(s->hook_id, h->id, SG_ULID_SIZE);
    s->next = w->sendings;
    w->sendings = s;
    w->n_sendings++;
    state->running++;
    r->room--;
    memcpy(w->last_hook, h->id, SG_ULID_SIZE);
    enum sg_error err = post(s, h, d);
    if (err == SG_ERR_FORBIDDEN || err == SG_ERR_INVALID)
        end(s, &(struct sg_post_result){.why = "the URL names an address that may not be posted "
                                               "to"});
    else if (err != SG_OK)
        drop(w, &w->sendings);
    return err == SG_ERR_FORBIDDEN || err == SG_ERR_INVALID ? SG_OK : err;
}

static void look_at(struct round *r, uint64_t ms)
{
    if (ms < r->wait_ms)
        r->wait_ms = ms;
}

static enum sg_error take_turn(struct sg_db_conn *c, struct round *r, const struct turn *t)
{
    const struct webhook_settings *set = &r->w->settings;
    const struct hook_state *h = find_hook(r->w, t->id);
    unsigned running = h != NULL ? h->running : 0;
    uint64_t places = h != NULL && h->failures > 0 ? 1 : set->parallel_per_hook;
    uint64_t left = set->parallel - r->w->n_sendings;
    if (t->next_ms > r->now_ms) {
        look_at(r, t->next_ms - r->now_ms);
        return SG_OK;
    }
    if (h != NULL && h->hold_until_ms > r->mono_ms) {
        look_at(r, h->hold_until_ms - r->mono_ms);
        return SG_OK;
    }
    if (running >= places)
        return SG_OK; /* one that ends is looked after */
    r->room = (unsigned)(places - running < left ? places - running : left);
    /* Those that run are among the longest due. */
    return sg_delivery_due(c,
                           &(struct sg_delivery_due){
                               .hook_id = t->id, .now_ms = r->now_ms, .limit = running + r->room},
                           begin_one, r);
}

/* What has nothing pending need not be remembered: it may not even be there any more. */
static void forget_others(struct round *r)
{
    struct sg_webhooks *w = r->w;
    for (size_t i = w->n_hooks; i-- > 0;) {
        bool pending = w->hooks[i].running > 0;
        for (size_t n = 0; n < r->n && !pending; n++)
            pending = strcmp(r->turns[n].id, w->hooks[i].id) == 0;
        if (!pending)
            w->hooks[i] = w->hooks[--w->n_hooks];
    }
}

static enum sg_error take_turns(struct sg_db_conn *c, void *arg)
{
    struct round *r = arg;
    struct sg_webhooks *w = r->w;
    enum sg_error err = sg_delivery_hooks(c, add_turn, r);
    if (err != SG_OK)
        return err;
    forget_others(r);
    size_t first = 0;
    while (first < r->n && strcmp(r->turns[first].id, w->last_hook) <= 0)
        first++;
    for (size_t i = 0; i < r->n && err == SG_OK && w->n_sendings < w->settings.parallel; i++)
        err = take_turn(c, r, &r->turns[(first + i) % r->n]);
    return err;
}

enum sg_error webhook_begin_due(struct sg_webhooks *w, uint64_t *wait_ms)
{
    struct round r = {.w = w,
                      .now_ms = sg_clock_wall_ms(),
                      .mono_ms = sg_clock_mono_ms(),
                      .wait_ms = LOOK_AGAIN_MS};
    enum sg_error err = SG_OK;
    if (w->n_sendings < w->settings.parallel)
        err = sg_db_read(w->db, take_turns, &r);
    free(r.turns);
    *wait_ms = r.wait_ms;
    return err;
}
