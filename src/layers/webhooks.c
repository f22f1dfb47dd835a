/* The thread that sends webhooks, and its life. It sleeps in the posts' poll; events wake it after
 * their commit (sg_db_watch), requests by sg_webhooks_nudge. Whatever it remembers can be lost:
 * what is to be sent is in the database. */
#include "streamgate/layers/webhooks.h"

#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"

#include "key_file.h"
#include "webhooks_private.h"

#define KEY_FILE "webhook.key"
#define SPREAD_BATCH 200
#define RESULTS 64
#define TROUBLE_PAUSE_MS 1000
#define GRACE_MS 2000

/* ---- settings ---- */

static struct sg_cidr_list *parse_allowed(const char *text)
{
    struct sg_cidr_list *list = NULL;
    enum sg_error err = sg_cidr_list_parse(text, &list);
    if (err != SG_OK)
        sg_error_log("webhooks", "webhook.allow_addresses: %s; nothing more is allowed",
                     sg_error_title(err));
    return list;
}

static struct webhook_settings read_settings(const struct sg_config *config)
{
    return (struct webhook_settings){
        .parallel = sg_config_uint(config, SG_SET_webhook_parallel),
        .parallel_per_hook = sg_config_uint(config, SG_SET_webhook_parallel_per_hook),
        .timeout_ms = sg_config_uint(config, SG_SET_webhook_timeout),
        .retry_base_ms = sg_config_uint(config, SG_SET_webhook_retry_base),
        .retry_for_ms = sg_config_uint(config, SG_SET_webhook_retry_for),
    };
}

void sg_webhooks_configure(struct sg_webhooks *w, const struct sg_config *config)
{
    struct webhook_settings s = read_settings(config);
    const char *text = sg_config_string(config, SG_SET_webhook_allow_addresses);
    pthread_mutex_lock(&w->lock);
    const struct webhook_settings *old = &w->news; /* as they were given last, taken over or not */
    bool changed = w->allow_text == NULL || strcmp(w->allow_text, text) != 0 ||
                   old->parallel != s.parallel || old->parallel_per_hook != s.parallel_per_hook ||
                   old->timeout_ms != s.timeout_ms || old->retry_base_ms != s.retry_base_ms ||
                   old->retry_for_ms != s.retry_for_ms;
    pthread_mutex_unlock(&w->lock);
    char *copy = changed ? strdup(text) : NULL;
    if (copy == NULL)
        return;
    s.allow = parse_allowed(text);
    pthread_mutex_lock(&w->lock);
    struct sg_cidr_list *unused = w->has_news ? w->news.allow : NULL;
    char *old_text = w->allow_text;
    w->news = s;
    w->has_news = true;
    w->allow_text = copy;
    pthread_mutex_unlock(&w->lock);
    sg_cidr_list_destroy(&unused);
    free(old_text);
    sg_post_wake(w->posts);
}

/* On the thread. Takes what others left. */
struct orders {
    bool stopping, woken;
};

static struct orders take_orders(struct sg_webhooks *w)
{
    struct sg_cidr_list *old = NULL;
    pthread_mutex_lock(&w->lock);
    struct orders o = {.stopping = w->stopping, .woken = w->woken};
    bool nudged = w->nudged;
    w->woken = w->nudged = false;
    if (w->has_news) {
        old = w->settings.allow;
        w->settings = w->news;
        w->news.allow = NULL;
        w->has_news = false;
    }
    pthread_mutex_unlock(&w->lock);
    sg_post_allow(w->posts, w->settings.allow);
    sg_cidr_list_destroy(&old);
    for (size_t i = 0; i < w->n_hooks && nudged; i++)
        w->hooks[i].hold_until_ms = 0;
    return o;
}

/* ---- the thread ---- */

struct chores {
    uint64_t events;
    bool more;
};

static enum sg_error do_chores(struct sg_db_conn *c, void *arg)
{
    struct chores *k = arg;
    enum sg_error err = sg_webhook_spread(c, SPREAD_BATCH, &k->events);
    return err != SG_OK ? err : sg_webhook_purge(c, &k->more);
}

/* *again: there is more to do. */
static enum sg_error spread(struct sg_webhooks *w, bool *again)
{
    struct chores k = {0};
    enum sg_error err = sg_db_write(w->db, do_chores, &k);
    *again = err != SG_OK || k.events == SPREAD_BATCH || k.more;
    return err;
}

static void complain(enum sg_error err)
{
    if (err != SG_OK)
        sg_warn_log("webhooks", "the database did not do what is needed to send: %s",
                    sg_error_title(err));
}

static void wait_for_results(struct sg_webhooks *w, uint64_t wait_ms)
{
    struct sg_post_result results[RESULTS];
    size_t n = sg_post_wait(w->posts, wait_ms, results, RESULTS);
    for (size_t i = 0; i < n; i++)
        webhook_note_result(w, &results[i]);
}

/* What is under way may end. */
static void say_goodbye(struct sg_webhooks *w)
{
    uint64_t until_ms = sg_clock_mono_ms() + GRACE_MS;
    for (uint64_t now_ms; sg_post_running(w->posts) > 0;) {
        now_ms = sg_clock_mono_ms();
        if (now_ms >= until_ms)
            break;
        wait_for_results(w, until_ms - now_ms);
    }
    complain(webhook_store_results(w));
}

static void *webhooks_main(void *arg)
{
    struct sg_webhooks *w = arg;
    bool again = true; /* what an earlier daemon left */
    for (;;) {
        struct orders o = take_orders(w);
        if (o.stopping)
            break;
        uint64_t wait_ms = TROUBLE_PAUSE_MS;
        enum sg_error err = webhook_store_results(w);
        if (err == SG_OK && (o.woken || again))
            err = spread(w, &again);
        if (err == SG_OK)
            err = webhook_begin_due(w, &wait_ms);
        if (err != SG_OK) {
            complain(err);
            again = true;
            wait_ms = TROUBLE_PAUSE_MS;
        } else if (again || webhook_has_results(w)) {
            wait_ms = 0;
        }
        wait_for_results(w, wait_ms);
    }
    say_goodbye(w);
    return NULL;
}

/* ---- life ---- */

static void on_events(void *arg)
{
    struct sg_webhooks *w = arg;
    pthread_mutex_lock(&w->lock);
    bool first = !w->woken;
    w->woken = true;
    pthread_mutex_unlock(&w->lock);
    if (first)
        sg_post_wake(w->posts);
}

void sg_webhooks_nudge(struct sg_webhooks *w)
{
    pthread_mutex_lock(&w->lock);
    w->woken = w->nudged = true;
    pthread_mutex_unlock(&w->lock);
    sg_post_wake(w->posts);
}

enum sg_error sg_webhooks_create(struct sg_db *db, int data_dirfd, const struct sg_config *config,
                                 struct sg_webhooks **out)
{
    uint8_t key[KEY_FILE_BYTES];
    struct sg_webhooks *w = calloc(1, sizeof *w);
    if (w == NULL)
        return SG_ERR_NO_MEMORY;
    w->db = db;
    pthread_mutex_init(&w->lock, NULL);
    enum sg_error err = key_file_load(data_dirfd, KEY_FILE, key);
    if (err == SG_OK)
        err = sg_hmac_key_create(key, sizeof key, &w->key);
    sg_wipe(key, sizeof key);
    if (err == SG_OK)
        err = sg_post_client_create(&w->posts);
    if (err == SG_OK) {
        sg_webhooks_configure(w, config);
        err = w->has_news ? SG_OK : SG_ERR_NO_MEMORY;
    }
    if (err != SG_OK)
        sg_webhooks_destroy(&w);
    else
        *out = w;
    return err;
}

enum sg_error sg_webhooks_start(struct sg_webhooks *w)
{
    w->watch = (struct sg_db_watch){SG_WEBHOOK_EVENTS_TABLE, on_events, w};
    enum sg_error err = sg_db_watch(w->db, &w->watch);
    if (err != SG_OK)
        return err;
    if (pthread_create(&w->thread, NULL, webhooks_main, w) != 0)
        return SG_ERR_NO_MEMORY;
    pthread_setname_np(w->thread, "webhooks");
    w->started = true;
    return SG_OK;
}

static void stop(struct sg_webhooks *w)
{
    if (w->watch.table != NULL && sg_db_watch(w->db, NULL) != SG_OK)
        sg_warn_log("webhooks", "the database goes on telling of events");
    if (!w->started)
        return;
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_mutex_unlock(&w->lock);
    sg_post_wake(w->posts);
    pthread_join(w->thread, NULL);
}

void sg_webhooks_destroy(struct sg_webhooks **webhooks)
{
    struct sg_webhooks *w = *webhooks;
    if (w == NULL)
        return;
    stop(w);
    sg_post_client_destroy(&w->posts);
    webhook_forget_all(w);
    sg_hmac_key_destroy(&w->key);
    sg_cidr_list_destroy(&w->settings.allow);
    sg_cidr_list_destroy(&w->news.allow);
    free(w->allow_text);
    pthread_mutex_destroy(&w->lock);
    free(w);
    *webhooks = NULL;
}
