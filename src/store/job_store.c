/* Jobs on their way. Invariants: a job is RUNNING exactly while it has a lease, and only who shows
 * that lease ends the try; `blocked` is the number of jobs it depends on that are not done, kept in
 * the transaction that changes one of them; a job that ended otherwise than done has no queued job
 * that depends on it. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/json.h"
#include "streamgate/base/str.h"
#include "streamgate/base/validate.h"

#include "job_rows.h"

/* Written out in SQL below and in the schema. */
_Static_assert(SG_JOB_QUEUED == 0 && SG_JOB_RUNNING == 1 && SG_JOB_DONE == 2 &&
                   SG_JOB_FAILED == 3 && SG_JOB_CANCELLED == 4 && SG_JOB_DEAD == 5,
               "the numbers in SQL");

#define EXPIRE_BATCH 256

static void tell(const struct sg_job_watch *w, const char *id, enum sg_job_state state)
{
    if (w && w->changed)
        w->changed(w->arg, id, state);
}

/* ---- new ones ---- */

static bool type_ok(const char *s)
{
    size_t len = strnlen(s, SG_JOB_TYPE_SIZE);
    return len > 0 && len < SG_JOB_TYPE_SIZE &&
           strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

/* Writes the edges, and the number of needs that are not done. */
static enum sg_error insert_needs(struct sg_db_conn *c, const char *id,
                                  const struct sg_job_needs *needs)
{
    for (size_t i = 0; i < needs->n; i++) {
        struct sg_stmt st;
        sg_stmt_open(&st, c, "INSERT OR IGNORE INTO job_needs(job_id, needs) VALUES(?1, ?2)");
        sg_stmt_bind_text(&st, id);
        sg_stmt_bind_text(&st, needs->ids[i]);
        enum sg_error err = sg_stmt_run(&st);
        if (err)
            return err;
    }
    return SG_OK;
}

static enum sg_error check_needs(struct sg_db_conn *c, const struct sg_job_needs *needs)
{
    for (size_t i = 0; i < needs->n; i++) {
        struct sg_stmt st;
        sg_stmt_open(&st, c, "SELECT state FROM jobs WHERE id = ?1");
        sg_stmt_bind_text(&st, needs->ids[i]);
        bool found = sg_stmt_row(&st);
        uint64_t state = found ? sg_stmt_u64(&st, 0) : 0;
        enum sg_error err = sg_stmt_close(&st);
        if (!err && !found)
            err = SG_ERR_NOT_FOUND;
        if (!err && state > SG_JOB_DONE)
            err = SG_ERR_CONFLICT;
        if (err)
            return err;
    }
    return SG_OK;
}

static enum sg_error count_blocked(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE jobs SET blocked = (SELECT count(*) FROM job_needs n JOIN jobs d"
                 " ON d.id = n.needs WHERE n.job_id = ?1 AND d.state <> 2) WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run(&st);
}

static void needs_json(const struct sg_job_needs *needs, struct sg_text *out)
{
    sg_text_puts(out, "[");
    for (size_t i = 0; needs && i < needs->n; i++)
        sg_text_printf(out, "%s\"%s\"", i > 0 ? "," : "", needs->ids[i]);
    sg_text_puts(out, "]");
}

static enum sg_error insert_row(struct sg_db_conn *c, const struct sg_job_fields *f,
                                const char *depends_on)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "INSERT INTO jobs(id, owner, asset_id, schedule_id, type, payload, priority,"
                 " state, run_at_ms, attempts, max_attempts, crashes, cancel, lease_ms, lease,"
                 " depends_on, progress, result, error_slug, error_detail, created_ms, updated_ms,"
                 " started_ms, finished_ms, blocked, turn) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, 0,"
                 " ?8, 0, ?9, 0, 0, 0, '', ?10, '', '', '', '', ?11, ?11, 0, 0, 0, 0)");
    sg_stmt_bind_text(&st, f->id);
    sg_stmt_bind_text(&st, f->owner);
    sg_stmt_bind_text(&st, f->asset_id);
    sg_stmt_bind_text(&st, f->schedule_id);
    sg_stmt_bind_text(&st, f->type);
    sg_stmt_bind_text(&st, f->payload);
    sg_stmt_bind_u64(&st, f->priority);
    sg_stmt_bind_u64(&st, f->run_at_ms);
    sg_stmt_bind_u64(&st, f->max_attempts);
    sg_stmt_bind_text(&st, depends_on);
    sg_stmt_bind_u64(&st, f->created_ms);
    return sg_stmt_run(&st);
}

enum sg_error sg_job_insert(struct sg_db_conn *c, const struct sg_job_fields *f,
                            const struct sg_job_needs *needs)
{
    if (!type_ok(f->type) || f->priority > SG_JOB_PRIORITY_MAX || f->max_attempts == 0 ||
        (needs && needs->n > SG_JOB_NEEDS_MAX) || sg_validate_ulid(f->id, strlen(f->id)))
        return SG_ERR_INVALID;
    struct sg_text depends_on = {0};
    needs_json(needs, &depends_on);
    enum sg_error err = depends_on.failed ? SG_ERR_NO_MEMORY : SG_OK;
    if (!err && needs)
        err = check_needs(c, needs);
    if (!err)
        err = insert_row(c, f, depends_on.ptr);
    if (!err && needs && needs->n > 0) {
        err = insert_needs(c, f->id, needs);
        if (!err)
            err = count_blocked(c, f->id);
    }
    sg_text_free(&depends_on);
    return err;
}

/* ---- running ---- */

/* A lane is what one owner has queued of one type. Only the lanes' first jobs are looked at, found
 * by the index of ready jobs, so the time does not grow with the length of the queue. */
enum sg_error sg_job_claim(struct sg_db_conn *c, const struct sg_job_claim *claim,
                           struct sg_job **out)
{
    struct sg_stmt st;
    struct sg_job *job = NULL;
    sg_stmt_open(&st, c,
                 "WITH RECURSIVE"
                 " caps(type, cap) AS (SELECT key, value FROM json_each(?1)),"
                 " free(type) AS (SELECT type FROM caps WHERE cap >"
                 "  (SELECT count(*) FROM jobs INDEXED BY jobs_running WHERE state = 1"
                 "   AND jobs.type = caps.type)),"
                 " lanes(lane) AS (SELECT min(lane) FROM jobs INDEXED BY jobs_ready WHERE state = "
                 "0 AND blocked = 0 UNION ALL"
                 "  SELECT (SELECT min(jobs.lane) FROM jobs INDEXED BY jobs_ready WHERE state = 0 "
                 "AND blocked = 0"
                 "   AND jobs.lane > lanes.lane) FROM lanes WHERE lanes.lane IS NOT NULL),"
                 " heads(head) AS (SELECT (SELECT seq FROM jobs INDEXED BY jobs_ready WHERE state "
                 "= 0 AND blocked = 0"
                 "   AND jobs.lane = lanes.lane AND run_at_ms <= ?2"
                 "   ORDER BY priority DESC, run_at_ms, seq LIMIT 1)"
                 "  FROM lanes WHERE lanes.lane IS NOT NULL)"
                 "UPDATE jobs SET state = 1, attempts = attempts + 1, lease = ?3, lease_ms = ?4,"
                 " started_ms = ?2, updated_ms = ?2, progress = '',"
                 " turn = (SELECT coalesce(max(turn), 0) + 1 FROM jobs)"
                 " WHERE seq = (SELECT j.seq FROM heads JOIN jobs j ON j.seq = heads.head"
                 "  JOIN free ON free.type = j.type ORDER BY j.priority DESC,"
                 "  (SELECT count(*) FROM jobs r INDEXED BY jobs_running WHERE r.state = 1"
                 "   AND r.owner = j.owner),"
                 "  (SELECT coalesce(max(t.turn), 0) FROM jobs t WHERE t.owner = j.owner),"
                 "  j.run_at_ms, j.seq LIMIT 1)"
                 " RETURNING " SG_JOB_COLUMNS);
    sg_stmt_bind_text(&st, claim->caps);
    sg_stmt_bind_u64(&st, claim->now_ms);
    sg_stmt_bind_text(&st, claim->lease);
    sg_stmt_bind_u64(&st, claim->lease_ms);
    bool found = false;
    while (sg_stmt_row(&st) && sg_job_from_row(&st, &job) == SG_OK)
        found = true;
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !found)
        err = SG_ERR_NOT_FOUND;
    if (err)
        sg_job_free(&job);
    else
        *out = job;
    return err;
}

enum sg_error sg_job_renew(struct sg_db_conn *c, const struct sg_job_renewal *r, bool *cancel)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE jobs SET lease_ms = ?3, updated_ms = ?4,"
                 " progress = coalesce(?5, progress) WHERE id = ?1 AND state = 1 AND lease = ?2"
                 " RETURNING cancel");
    sg_stmt_bind_text(&st, r->id);
    sg_stmt_bind_text(&st, r->lease);
    sg_stmt_bind_u64(&st, r->lease_ms);
    sg_stmt_bind_u64(&st, r->now_ms);
    sg_stmt_bind_text(&st, r->progress);
    bool found = false, asked = false;
    while (sg_stmt_row(&st)) {
        found = true;
        asked = sg_stmt_u64(&st, 0) != 0;
    }
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !found)
        err = SG_ERR_CONFLICT;
    if (!err)
        *cancel = asked;
    return err;
}

/* ---- ends ---- */

/* Who waits for a job that is done waits for one less. */
static enum sg_error release_dependants(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE jobs SET blocked = blocked - 1 WHERE blocked > 0 AND id IN"
                 " (SELECT job_id FROM job_needs WHERE needs = ?1)");
    sg_stmt_bind_text(&st, id);
    return sg_stmt_run(&st);
}

#define DEPENDANTS                                                                                 \
    "WITH RECURSIVE d(id) AS (SELECT job_id FROM job_needs WHERE needs = ?1 UNION"                 \
    " SELECT n.job_id FROM job_needs n JOIN d ON n.needs = d.id) "

static enum sg_error fail_dependants(struct sg_db_conn *c, const char *id, uint64_t now_ms,
                                     const struct sg_job_watch *watch)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 DEPENDANTS "UPDATE jobs SET state = 3, updated_ms = ?2, finished_ms = ?2,"
                            " error_slug = ?3, error_detail = 'job ' || ?1 || ' did not end well'"
                            " WHERE state = 0 AND id IN (SELECT id FROM d) RETURNING id");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_u64(&st, now_ms);
    sg_stmt_bind_text(&st, sg_error_slug(SG_ERR_DEPENDENCY));
    while (sg_stmt_row(&st))
        tell(watch, sg_stmt_text(&st, 0), SG_JOB_FAILED);
    return sg_stmt_close(&st);
}

static enum sg_error after_end(struct sg_db_conn *c, const char *id, enum sg_job_state state,
                               uint64_t now_ms, const struct sg_job_watch *watch)
{
    if (state == SG_JOB_DONE)
        return release_dependants(c, id);
    return sg_job_state_final(state) ? fail_dependants(c, id, now_ms, watch) : SG_OK;
}

/* What the ending makes of a job, given what the row knows: ?3 is the state it asks for, ?4 whether
 * it is a crash. A job whose end was asked for is not queued again; one that crashed too often is
 * dead. */
#define NEXT_STATE                                                                                 \
    "CASE WHEN ?3 = 0 AND cancel THEN 4 WHEN ?4 AND crashes + 1 >= ?5 THEN 5 ELSE ?3 END"

enum sg_error sg_job_finish(struct sg_db_conn *c, const struct sg_job_end *end,
                            const struct sg_job_watch *watch, enum sg_job_state *out)
{
    static const enum sg_job_state wanted[] = {
        [SG_JOB_END_DONE] = SG_JOB_DONE,     [SG_JOB_END_RETRY] = SG_JOB_QUEUED,
        [SG_JOB_END_FAILED] = SG_JOB_FAILED, [SG_JOB_END_CANCELLED] = SG_JOB_CANCELLED,
        [SG_JOB_END_BACK] = SG_JOB_QUEUED,   [SG_JOB_END_CRASHED] = SG_JOB_QUEUED,
    };
    bool crash = end->ending == SG_JOB_END_CRASHED;
    bool no_try = crash || end->ending == SG_JOB_END_BACK;
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "UPDATE jobs SET state = " NEXT_STATE ","
                 " finished_ms = CASE WHEN " NEXT_STATE " > 1 THEN ?6 ELSE 0 END,"
                 " run_at_ms = CASE WHEN " NEXT_STATE " = 0 THEN ?8 ELSE run_at_ms END,"
                 " crashes = crashes + ?4, attempts = attempts - ?7,"
                 " updated_ms = ?6, lease = '', lease_ms = 0, cancel = 0,"
                 " progress = coalesce(?9, progress), result = coalesce(?10, result),"
                 " error_slug = coalesce(?11, error_slug),"
                 " error_detail = coalesce(?12, error_detail)"
                 " WHERE id = ?1 AND lease = ?2 AND state = 1 RETURNING state");
    sg_stmt_bind_text(&st, end->id);
    sg_stmt_bind_text(&st, end->lease);
    sg_stmt_bind_u64(&st, wanted[end->ending]);
    sg_stmt_bind_u64(&st, crash);
    sg_stmt_bind_u64(&st, SG_JOB_CRASHES_MAX);
    sg_stmt_bind_u64(&st, end->now_ms);
    sg_stmt_bind_u64(&st, no_try);
    sg_stmt_bind_u64(&st, end->run_at_ms);
    sg_stmt_bind_text(&st, end->progress);
    sg_stmt_bind_text(&st, end->result);
    sg_stmt_bind_text(&st, end->error_slug);
    sg_stmt_bind_text(&st, end->error_detail);
    bool found = false;
    enum sg_job_state state = SG_JOB_QUEUED;
    while (sg_stmt_row(&st)) {
        found = true;
        state = (enum sg_job_state)sg_stmt_u64(&st, 0);
    }
    enum sg_error err = sg_stmt_close(&st);
    if (!err && !found)
        err = SG_ERR_CONFLICT;
    if (!err)
        err = after_end(c, end->id, state, end->now_ms, watch);
    if (!err)
        *out = state;
    return err;
}

struct lost {
    char id[SG_ULID_SIZE], lease[SG_ULID_SIZE], type[SG_JOB_TYPE_SIZE];
    unsigned crashes;
};

static enum sg_error find_lost(struct sg_db_conn *c, const struct sg_job_expiry *e,
                               struct lost lost[EXPIRE_BATCH], size_t *n)
{
    struct sg_stmt st;
    sg_stmt_open(
        &st, c,
        "SELECT id, lease, crashes, type FROM jobs WHERE state = 1 AND (?1 OR lease_ms <= ?2)"
        " LIMIT ?3");
    sg_stmt_bind_u64(&st, e->all);
    sg_stmt_bind_u64(&st, e->now_ms);
    sg_stmt_bind_u64(&st, EXPIRE_BATCH);
    *n = 0;
    while (*n < EXPIRE_BATCH && sg_stmt_row(&st)) {
        struct lost *l = &lost[(*n)++];
        sg_job_copy_text(&st, 0, l->id, sizeof(l->id));
        sg_job_copy_text(&st, 1, l->lease, sizeof(l->lease));
        l->crashes = (unsigned)sg_stmt_u64(&st, 2);
        sg_job_copy_text(&st, 3, l->type, sizeof(l->type));
    }
    return sg_stmt_close(&st);
}

enum sg_error sg_job_expire(struct sg_db_conn *c, const struct sg_job_expiry *e,
                            const struct sg_job_watch *watch, uint64_t *out_n)
{
    struct lost *lost = calloc(EXPIRE_BATCH, sizeof(*lost));
    if (!lost)
        return SG_ERR_NO_MEMORY;
    uint64_t total = 0;
    size_t n = 0;
    enum sg_error err;
    do {
        err = find_lost(c, e, lost, &n);
        for (size_t i = 0; i < n && !err; i++) {
            enum sg_job_state state = SG_JOB_QUEUED;
            bool spared = e->spares && e->spares(e->arg, lost[i].type);
            struct sg_job_end end = {
                .id = lost[i].id,
                .lease = lost[i].lease,
                .ending = spared ? SG_JOB_END_BACK : SG_JOB_END_CRASHED,
                .error_slug = spared ? NULL : sg_error_slug(SG_ERR_RUNNER_LOST),
                .error_detail = spared ? NULL : "what ran it ended before it did",
                .now_ms = e->now_ms,
                .run_at_ms = e->now_ms + (spared ? 0 : e->delay_ms(e->arg, lost[i].crashes + 1)),
            };
            err = sg_job_finish(c, &end, watch, &state);
            if (!err)
                tell(watch, lost[i].id, state);
        }
        total += n;
    } while (!err && n == EXPIRE_BATCH);
    free(lost);
    if (!err)
        *out_n = total;
    return err;
}

/* ---- by request ---- */

enum sg_error sg_job_cancel(struct sg_db_conn *c, const char *id, uint64_t now_ms,
                            const struct sg_job_watch *watch, enum sg_job_state *out)
{
    struct sg_job *job = NULL;
    enum sg_error err = sg_job_get(c, id, &job);
    if (err)
        return err;
    bool running = job->f.state == SG_JOB_RUNNING, final = sg_job_state_final(job->f.state);
    sg_job_free(&job);
    if (final)
        return SG_ERR_CONFLICT;
    struct sg_stmt st;
    if (running)
        sg_stmt_open(&st, c, "UPDATE jobs SET cancel = 1, updated_ms = ?2 WHERE id = ?1");
    else
        sg_stmt_open(&st, c,
                     "UPDATE jobs SET state = 4, updated_ms = ?2, finished_ms = ?2 WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_u64(&st, now_ms);
    err = sg_stmt_run_changing(&st);
    enum sg_job_state state = running ? SG_JOB_RUNNING : SG_JOB_CANCELLED;
    if (!err)
        err = after_end(c, id, state, now_ms, watch);
    if (!err)
        *out = state;
    return err;
}

static enum sg_error needs_are_well(struct sg_db_conn *c, const char *id)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 "SELECT 1 FROM job_needs n JOIN jobs d ON d.id = n.needs"
                 " WHERE n.job_id = ?1 AND d.state > 2 LIMIT 1");
    sg_stmt_bind_text(&st, id);
    bool bad = sg_stmt_row(&st);
    enum sg_error err = sg_stmt_close(&st);
    return !err && bad ? SG_ERR_CONFLICT : err;
}

#define AGAIN                                                                                      \
    "UPDATE jobs SET state = 0, attempts = 0, crashes = 0, cancel = 0, run_at_ms = ?2,"            \
    " updated_ms = ?2, finished_ms = 0, progress = '', result = '', error_slug = '',"              \
    " error_detail = ''"

static enum sg_error queue_again(struct sg_db_conn *c, const char *id, uint64_t now_ms)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, AGAIN " WHERE id = ?1");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_u64(&st, now_ms);
    enum sg_error err = sg_stmt_run_changing(&st);
    return err ? err : count_blocked(c, id);
}

/* One that failed with id and has no reason to any more. NOT_FOUND: none is left. */
static enum sg_error next_revived(struct sg_db_conn *c, const char *id, char out[SG_ULID_SIZE])
{
    struct sg_stmt st;
    sg_stmt_open(&st, c,
                 DEPENDANTS "SELECT j.id FROM d JOIN jobs j ON j.id = d.id WHERE j.state = 3"
                            " AND j.error_slug = ?2 AND NOT EXISTS (SELECT 1 FROM job_needs n"
                            " JOIN jobs p ON p.id = n.needs WHERE n.job_id = j.id"
                            " AND p.state > 2) LIMIT 1");
    sg_stmt_bind_text(&st, id);
    sg_stmt_bind_text(&st, sg_error_slug(SG_ERR_DEPENDENCY));
    bool found = sg_stmt_row(&st);
    if (found)
        sg_job_copy_text(&st, 0, out, SG_ULID_SIZE);
    enum sg_error err = sg_stmt_close(&st);
    return !err && !found ? SG_ERR_NOT_FOUND : err;
}

enum sg_error sg_job_retry(struct sg_db_conn *c, const char *id, uint64_t now_ms,
                           const struct sg_job_watch *watch)
{
    struct sg_job *job = NULL;
    char next[SG_ULID_SIZE];
    enum sg_error err = sg_job_get(c, id, &job);
    if (err)
        return err;
    bool may = job->f.state > SG_JOB_DONE;
    sg_job_free(&job);
    if (!may)
        return SG_ERR_CONFLICT;
    err = needs_are_well(c, id);
    if (!err)
        err = queue_again(c, id, now_ms);
    while (!err && (err = next_revived(c, id, next)) == SG_OK) {
        err = queue_again(c, next, now_ms);
        if (!err)
            tell(watch, next, SG_JOB_QUEUED);
    }
    return err == SG_ERR_NOT_FOUND ? SG_OK : err;
}
