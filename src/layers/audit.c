/* Events that are not changes, on their way to the audit log.
 *
 * note copies into a bounded queue and returns; tick writes the queue in batches. Denials beyond
 * audit.denials_per_second, and whatever finds the queue full, are counted by kind (event type,
 * action, result) and become one summary event each at the next tick. A batch the database refused
 * is kept and tried again; meanwhile the queue fills and the rest is summarised, so memory stays
 * bounded and nothing goes uncounted. */
#include "streamgate/layers/audit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/json.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

#define QUEUE_MAX 4096u
#define BATCH_MAX 512u
#define KINDS_MAX 64u
#define ACTORS_MAX 5u
#define ACTOR_SIZE 128
#define NAME_SIZE 64
#define FIELD_MAX 512u /* bytes kept of any field but details */
#define DETAILS_MAX 4096u
#define SECOND_MS 1000u
#define PRUNE_INTERVAL_MS (60 * 60 * 1000)

struct item {
    struct sg_audit_event event; /* its strings follow in the same allocation */
};

struct kind {
    char event_type[NAME_SIZE], action[NAME_SIZE], result[NAME_SIZE];
    uint64_t count, first_ms, last_ms;
    unsigned n_actors;
    char actors[ACTORS_MAX][ACTOR_SIZE];
};

struct kinds {
    struct kind at[KINDS_MAX];
    unsigned n;
};

struct sg_audit {
    struct sg_db *db;
    pthread_mutex_t lock; /* guards what follows, to the next remark */
    bool has_lock;
    struct item *queue[QUEUE_MAX]; /* ring */
    unsigned head, queued;
    struct kinds *kinds;
    uint64_t second_began_ms;
    uint64_t denials_this_second, denials_per_second;
    uint64_t retention_ms;
    /* Belongs to the ticking thread. */
    struct item *batch[BATCH_MAX];
    unsigned batch_n;
    struct kinds *closing; /* always empty between ticks */
    uint64_t pruned_ms;
    bool has_pruned;
    bool failing;
};

enum sg_error sg_audit_create(struct sg_db *db, const struct sg_config *config,
                              struct sg_audit **out)
{
    struct sg_audit *a = calloc(1, sizeof *a);
    if (a == NULL)
        return SG_ERR_NO_MEMORY;
    a->db = db;
    a->kinds = calloc(1, sizeof *a->kinds);
    a->closing = calloc(1, sizeof *a->closing);
    if (a->kinds == NULL || a->closing == NULL || pthread_mutex_init(&a->lock, NULL) != 0) {
        sg_audit_destroy(&a);
        return SG_ERR_NO_MEMORY;
    }
    a->has_lock = true;
    sg_audit_configure(a, config);
    *out = a;
    return SG_OK;
}

void sg_audit_configure(struct sg_audit *a, const struct sg_config *config)
{
    uint64_t per_second = sg_config_uint(config, SG_SET_audit_denials_per_second);
    uint64_t retention_ms = sg_config_uint(config, SG_SET_audit_retention);
    pthread_mutex_lock(&a->lock);
    a->denials_per_second = per_second;
    a->retention_ms = retention_ms;
    pthread_mutex_unlock(&a->lock);
}

/* How much of s fits in max bytes without cutting a UTF-8 character in two. */
static size_t fitting(const char *s, size_t max)
{
    size_t len = strnlen(s, max + 1);
    if (len <= max)
        return len;
    len = max;
    while (len > 0 && ((unsigned char)s[len] & 0xc0) == 0x80)
        len--;
    return len;
}

/* The log takes UTF-8 only, and one event it refuses would hold up all behind it: what is no UTF-8
 * is kept as its ASCII part. */
static void make_utf8(char *s, size_t len)
{
    if (sg_str_is_utf8(s, len))
        return;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] >= 0x80)
            s[i] = '?';
}

static const char *put(char **at, const char *s, size_t len)
{
    char *start = *at;
    memcpy(start, s, len);
    start[len] = '\0';
    make_utf8(start, len);
    *at = start + len + 1;
    return start;
}

static struct item *copy_event(const struct sg_audit_event *e)
{
    enum { FIELDS = 7, DETAILS = 5, REQUEST_ID = 6 };
    const char *from[FIELDS] = {e->event_type, e->actor,   e->action,    e->resource,
                                e->result,     e->details, e->request_id};
    const char *to[FIELDS] = {0};
    size_t len[FIELDS] = {0};
    size_t total = sizeof(struct item);
    /* JSON cut short is no JSON: details too long are left out and said to be. */
    if (e->details != NULL && strnlen(e->details, DETAILS_MAX + 1) > DETAILS_MAX)
        from[DETAILS] = "{\"truncated\":true}";
    for (size_t i = 0; i < FIELDS; i++) {
        if (from[i] == NULL && i < DETAILS)
            from[i] = "";
        if (from[i] != NULL)
            len[i] = fitting(from[i], i == DETAILS ? DETAILS_MAX : FIELD_MAX);
        total += len[i] + 1;
    }
    struct item *item = malloc(total);
    if (item == NULL)
        return NULL;
    char *at = (char *)(item + 1);
    for (size_t i = 0; i < FIELDS; i++)
        to[i] = from[i] != NULL ? put(&at, from[i], len[i]) : NULL;
    item->event = (struct sg_audit_event){
        .time_ms = e->time_ms != 0 ? e->time_ms : sg_clock_wall_ms(),
        .event_type = to[0],
        .actor = to[1],
        .action = to[2],
        .resource = to[3],
        .result = to[4],
        .details = to[DETAILS],
        .request_id = to[REQUEST_ID],
    };
    return item;
}

static void set_name(char *to, size_t size, const char *s)
{
    size_t len = fitting(s, size - 1);
    memcpy(to, s, len);
    to[len] = '\0';
    make_utf8(to, len);
}

/* The last slot takes every kind that found no slot of its own. */
static struct kind *kind_of(struct kinds *kinds, const struct sg_audit_event *e)
{
    struct kind want = {0};
    set_name(want.event_type, sizeof want.event_type, e->event_type);
    set_name(want.action, sizeof want.action, e->action);
    set_name(want.result, sizeof want.result, e->result);
    for (unsigned i = 0; i < kinds->n; i++) {
        struct kind *k = &kinds->at[i];
        if (strcmp(k->event_type, want.event_type) == 0 && strcmp(k->action, want.action) == 0 &&
            strcmp(k->result, want.result) == 0)
            return k;
    }
    if (kinds->n == KINDS_MAX)
        return &kinds->at[KINDS_MAX - 1];
    struct kind *k = &kinds->at[kinds->n++];
    *k = want;
    if (kinds->n == KINDS_MAX) {
        set_name(k->event_type, sizeof k->event_type, "security");
        set_name(k->action, sizeof k->action, "audit.various");
        set_name(k->result, sizeof k->result, "denied");
    }
    return k;
}

static void count(struct kinds *kinds, const struct sg_audit_event *e)
{
    struct kind *k = kind_of(kinds, e);
    if (k->count++ == 0)
        k->first_ms = e->time_ms;
    k->last_ms = e->time_ms;
    char actor[ACTOR_SIZE];
    set_name(actor, sizeof actor, e->actor);
    for (unsigned i = 0; i < k->n_actors; i++)
        if (strcmp(k->actors[i], actor) == 0)
            return;
    if (k->n_actors < ACTORS_MAX)
        memcpy(k->actors[k->n_actors++], actor, sizeof actor);
}

/* Locked. Whether this event is written by itself. */
static bool admit(struct sg_audit *a, bool denial, uint64_t now_ms)
{
    if (a->queued == QUEUE_MAX)
        return false;
    if (!denial)
        return true;
    if (now_ms - a->second_began_ms >= SECOND_MS) {
        a->second_began_ms = now_ms;
        a->denials_this_second = 0;
    }
    return a->denials_this_second++ < a->denials_per_second;
}

void sg_audit_note(struct sg_audit *a, const struct sg_audit_event *event)
{
    bool denial = event->result == NULL || strcmp(event->result, "success") != 0;
    struct item *item = copy_event(event);
    struct sg_audit_event counted = *event;
    counted.event_type = event->event_type != NULL ? event->event_type : "";
    counted.action = event->action != NULL ? event->action : "";
    counted.result = event->result != NULL ? event->result : "";
    counted.actor = event->actor != NULL ? event->actor : "";
    if (counted.time_ms == 0)
        counted.time_ms = sg_clock_wall_ms();
    uint64_t now_ms = sg_clock_mono_ms();
    pthread_mutex_lock(&a->lock);
    if (item != NULL && admit(a, denial, now_ms)) {
        a->queue[(a->head + a->queued++) % QUEUE_MAX] = item;
        item = NULL;
    } else {
        count(a->kinds, &counted);
    }
    pthread_mutex_unlock(&a->lock);
    free(item);
}

static char *summary_details(const struct kind *k)
{
    char from[SG_TIME_SIZE];
    char to[SG_TIME_SIZE];
    sg_time_rfc3339(k->first_ms, from);
    sg_time_rfc3339(k->last_ms, to);
    json_t *actors = json_array();
    for (unsigned i = 0; i < k->n_actors; i++) {
        if (json_array_append_new(actors, json_string(k->actors[i])) != 0) {
            json_decref(actors);
            return NULL;
        }
    }
    json_t *details = json_pack("{s:b, s:I, s:s, s:s, s:o}", "summary", 1, "count",
                                (json_int_t)k->count, "from", from, "to", to, "actors", actors);
    char *text = details != NULL ? sg_json_dump(details, NULL) : NULL;
    json_decref(details);
    return text;
}

struct closing_batch {
    struct item *const *items;
    unsigned n;
    const struct kinds *kinds;
};

static enum sg_error append_summary(struct sg_db_conn *c, const struct kind *k)
{
    char *details = summary_details(k);
    if (details == NULL)
        return SG_ERR_NO_MEMORY;
    const struct sg_audit_event e = {
        .time_ms = k->last_ms,
        .event_type = k->event_type,
        .actor = k->n_actors == 1 ? k->actors[0] : "various",
        .action = k->action,
        .resource = "",
        .result = k->result,
        .details = details,
    };
    enum sg_error err = sg_audit_append(c, &e);
    free(details);
    return err;
}

static enum sg_error append_batch(struct sg_db_conn *c, void *arg)
{
    const struct closing_batch *b = arg;
    enum sg_error err = SG_OK;
    for (unsigned i = 0; err == SG_OK && i < b->n; i++) {
        struct sg_audit_event e = b->items[i]->event;
        err = sg_audit_append(c, &e);
        /* Refused before anything was written: details that are no JSON object. The event counts
         * for more. */
        if (err == SG_ERR_INVALID) {
            e.details = "{\"details\":\"malformed\"}";
            err = sg_audit_append(c, &e);
        }
    }
    for (unsigned i = 0; err == SG_OK && b->kinds != NULL && i < b->kinds->n; i++)
        err = append_summary(c, &b->kinds->at[i]);
    return err;
}

/* Moves what is queued into the batch as far as it has room; true when some is left. */
static bool fill_batch(struct sg_audit *a)
{
    pthread_mutex_lock(&a->lock);
    while (a->queued > 0 && a->batch_n < BATCH_MAX) {
        a->batch[a->batch_n++] = a->queue[a->head];
        a->head = (a->head + 1) % QUEUE_MAX;
        a->queued--;
    }
    bool more = a->queued > 0;
    pthread_mutex_unlock(&a->lock);
    return more;
}

static void take_kinds(struct sg_audit *a)
{
    pthread_mutex_lock(&a->lock);
    struct kinds *full = a->kinds;
    a->kinds = a->closing;
    pthread_mutex_unlock(&a->lock);
    a->closing = full;
}

static void add_kind(struct kinds *to, const struct kind *from)
{
    const struct sg_audit_event e = {.event_type = from->event_type,
                                     .action = from->action,
                                     .result = from->result,
                                     .actor = from->n_actors > 0 ? from->actors[0] : "",
                                     .time_ms = from->first_ms};
    struct kind *k = kind_of(to, &e);
    if (k->count == 0 || from->first_ms < k->first_ms)
        k->first_ms = from->first_ms;
    if (from->last_ms > k->last_ms)
        k->last_ms = from->last_ms;
    k->count += from->count;
    for (unsigned i = 0; i < from->n_actors && k->n_actors < ACTORS_MAX; i++) {
        bool seen = false;
        for (unsigned j = 0; j < k->n_actors; j++)
            seen |= strcmp(k->actors[j], from->actors[i]) == 0;
        if (!seen)
            memcpy(k->actors[k->n_actors++], from->actors[i], ACTOR_SIZE);
    }
}

/* The summary could not be written: it goes back into the one that is being made. */
static void return_kinds(struct sg_audit *a)
{
    pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; i < a->closing->n; i++)
        add_kind(a->kinds, &a->closing->at[i]);
    pthread_mutex_unlock(&a->lock);
}

static void report(struct sg_audit *a, enum sg_error err)
{
    bool failed = err != SG_OK;
    if (failed != a->failing) {
        if (failed)
            sg_error_log("audit", "events cannot be written: %s", sg_error_title(err));
        else
            sg_info_log("audit", "events are written again");
    }
    a->failing = failed;
}

/* One transaction: up to a batch of events, and with the last of them the summary. */
static enum sg_error write_once(struct sg_audit *a, bool last)
{
    if (last)
        take_kinds(a);
    struct closing_batch b = {
        .items = a->batch, .n = a->batch_n, .kinds = last ? a->closing : NULL};
    enum sg_error err = SG_OK;
    if (b.n > 0 || (last && a->closing->n > 0))
        err = sg_db_write(a->db, append_batch, &b);
    uint64_t summarised = 0;
    if (err == SG_OK) {
        for (unsigned i = 0; i < a->batch_n; i++)
            free(a->batch[i]);
        a->batch_n = 0;
        for (unsigned i = 0; last && i < a->closing->n; i++)
            summarised += a->closing->at[i].count;
    } else if (last) {
        return_kinds(a);
    }
    if (last)
        memset(a->closing, 0, sizeof *a->closing);
    if (summarised > 0)
        sg_metric_add(SG_METRIC_AUDIT_SUMMARISED, 0, summarised);
    return err;
}

static enum sg_error flush(struct sg_audit *a)
{
    enum sg_error err = SG_OK;
    bool more = true;
    /* Bounded even while others keep noting: a queue's worth is enough for one second. */
    for (unsigned i = 0; more && err == SG_OK && i <= QUEUE_MAX / BATCH_MAX; i++) {
        more = fill_batch(a);
        err = write_once(a, !more || i == QUEUE_MAX / BATCH_MAX);
    }
    report(a, err);
    return err;
}

struct prune {
    uint64_t before_ms, dropped;
};

static enum sg_error prune_old(struct sg_db_conn *c, void *arg)
{
    struct prune *p = arg;
    return sg_audit_prune(c, p->before_ms, &p->dropped);
}

static void prune(struct sg_audit *a)
{
    pthread_mutex_lock(&a->lock);
    uint64_t retention_ms = a->retention_ms;
    pthread_mutex_unlock(&a->lock);
    uint64_t now_ms = sg_clock_wall_ms();
    if (now_ms <= retention_ms)
        return;
    struct prune p = {.before_ms = now_ms - retention_ms};
    enum sg_error err = sg_db_write(a->db, prune_old, &p);
    if (err != SG_OK)
        sg_warn_log("audit", "old events not dropped: %s", sg_error_title(err));
    else if (p.dropped > 0)
        sg_info_log("audit", "%llu events older than the retention dropped",
                    (unsigned long long)p.dropped);
}

void sg_audit_tick(struct sg_audit *a)
{
    enum sg_error err = flush(a);
    uint64_t now_ms = sg_clock_mono_ms();
    if (err != SG_OK || (a->has_pruned && now_ms - a->pruned_ms < PRUNE_INTERVAL_MS))
        return;
    a->has_pruned = true;
    a->pruned_ms = now_ms;
    prune(a);
}

void sg_audit_destroy(struct sg_audit **audit)
{
    if (audit == NULL || *audit == NULL)
        return;
    struct sg_audit *a = *audit;
    if (a->has_lock) {
        enum sg_error err = flush(a);
        unsigned lost = err == SG_OK ? 0 : a->batch_n + a->queued;
        if (lost > 0)
            sg_error_log("audit", "%u events lost: %s", lost, sg_error_title(err));
        for (; a->queued > 0; a->queued--, a->head = (a->head + 1) % QUEUE_MAX)
            free(a->queue[a->head]);
        for (unsigned i = 0; i < a->batch_n; i++)
            free(a->batch[i]);
        pthread_mutex_destroy(&a->lock);
    }
    free(a->kinds);
    free(a->closing);
    free(a);
    *audit = NULL;
}
