/* Schema steps; PRAGMA user_version counts those taken. A step that has been released never
 * changes: a new one is added below it.
 * Choices: text that people search lies in assets only, and asset_search (FTS5, external content)
 * holds no second copy; titles sort without regard to ASCII case; every sort has an index with and
 * without the owner, ending in id, so a page is a range scan with a total order; what an owner
 * holds is summed by triggers, in the transaction of the change, so that a quota costs one row. */
#include "migrations.h"

#include "streamgate/store/asset_store.h"
#include "streamgate/store/upload_store.h"

#include "schema_imports.h"
#include "schema_promised.h"
#include "schema_renditions.h"
#include "schema_subtitles.h"
#include "schema_webhooks.h"

static const char schema_1[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    "INSERT INTO meta VALUES('identity_generation', '1');"

    "CREATE TABLE users(id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " created_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE api_keys(id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users(id),"
    " name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, prefix TEXT NOT NULL, role INTEGER NOT NULL,"
    " created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, revoked_ms INTEGER NOT NULL,"
    " last_used_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE UNIQUE INDEX api_keys_live ON api_keys(user_id, name) WHERE revoked_ms = 0;"
    "CREATE INDEX api_keys_user ON api_keys(user_id, id);"

    /* last_used_ms is left out: using a key changes nobody's rights. */
    "CREATE TRIGGER api_keys_added AFTER INSERT ON api_keys BEGIN UPDATE meta"
    " SET value = CAST(value AS INTEGER) + 1 WHERE key = 'identity_generation'; END;"
    "CREATE TRIGGER api_keys_changed AFTER UPDATE OF id, user_id, name, hash, prefix, role,"
    " created_ms, expires_ms, revoked_ms ON api_keys BEGIN UPDATE meta"
    " SET value = CAST(value AS INTEGER) + 1 WHERE key = 'identity_generation'; END;"
    "CREATE TRIGGER api_keys_removed AFTER DELETE ON api_keys BEGIN UPDATE meta"
    " SET value = CAST(value AS INTEGER) + 1 WHERE key = 'identity_generation'; END;"
    "CREATE TRIGGER users_added AFTER INSERT ON users BEGIN UPDATE meta"
    " SET value = CAST(value AS INTEGER) + 1 WHERE key = 'identity_generation'; END;"
    "CREATE TRIGGER users_changed AFTER UPDATE ON users BEGIN UPDATE meta"
    " SET value = CAST(value AS INTEGER) + 1 WHERE key = 'identity_generation'; END;"
    "CREATE TRIGGER users_removed AFTER DELETE ON users BEGIN UPDATE meta"
    " SET value = CAST(value AS INTEGER) + 1 WHERE key = 'identity_generation'; END;"

    "CREATE TABLE assets(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,"
    " status INTEGER NOT NULL, policy INTEGER NOT NULL, title TEXT NOT NULL COLLATE NOCASE,"
    " description TEXT NOT NULL, tags TEXT NOT NULL, custom TEXT NOT NULL, filename TEXT NOT NULL,"
    " size_bytes INTEGER NOT NULL, sha256 BLOB NOT NULL, content_type TEXT NOT NULL,"
    " duration_ms INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,"
    " video_codec TEXT NOT NULL, audio_codec TEXT NOT NULL, frame_rate_num INTEGER NOT NULL,"
    " frame_rate_den INTEGER NOT NULL, error TEXT NOT NULL, version INTEGER NOT NULL,"
    " created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL) STRICT;"
    "CREATE INDEX assets_created ON assets(created_ms, id);"
    "CREATE INDEX assets_updated ON assets(updated_ms, id);"
    "CREATE INDEX assets_title ON assets(title, id);"
    "CREATE INDEX assets_owner_created ON assets(owner, created_ms, id);"
    "CREATE INDEX assets_owner_updated ON assets(owner, updated_ms, id);"
    "CREATE INDEX assets_owner_title ON assets(owner, title, id);"
    "CREATE TABLE asset_indexes(asset_seq INTEGER PRIMARY KEY REFERENCES assets(seq)"
    " ON DELETE CASCADE, data BLOB NOT NULL) STRICT;"
    "CREATE TABLE asset_tags(tag TEXT NOT NULL, asset_seq INTEGER NOT NULL REFERENCES assets(seq)"
    " ON DELETE CASCADE, PRIMARY KEY(tag, asset_seq)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX asset_tags_asset ON asset_tags(asset_seq);"
    "CREATE VIRTUAL TABLE asset_search USING fts5(title, description, tags, filename,"
    " content='assets', content_rowid='seq', tokenize='unicode61 remove_diacritics 2');"

    "CREATE TABLE audit(seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL,"
    " event_type TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, resource TEXT NOT NULL,"
    " result TEXT NOT NULL, details TEXT, request_id TEXT, hash BLOB NOT NULL) STRICT;"
    "CREATE INDEX audit_time ON audit(time_ms);"
    "CREATE INDEX audit_actor ON audit(actor);"
    "CREATE INDEX audit_type ON audit(event_type);"
    "CREATE INDEX audit_resource ON audit(resource);";

/* The numbers below are the enumerators', written out because a released step never changes. */
_Static_assert(SG_ASSET_READY == 3 && SG_UPLOAD_ACTIVE == 0 && SG_UPLOAD_PROCESSING == 1 &&
                   SG_UPLOAD_TUS_FINAL == 3,
               "the numbers in schema_2");

/* What a row adds to its owner's usage (store/upload_store.h says why so). */
#define ASSET_BYTES(row) "CASE " row "status WHEN 3 THEN " row "size_bytes ELSE 0 END"
#define RESERVES(row) "(" row "state IN (0, 1) AND " row "kind <> 3)"
#define RESERVED_BYTES(row)                                                                        \
    "CASE WHEN " RESERVES(row) " THEN coalesce(" row "size_bytes, " row "offset_bytes) ELSE 0 END"

#define ADD_ASSET                                                                                  \
    "INSERT INTO owner_usage VALUES(new.owner, " ASSET_BYTES(                                      \
        "new.") ", 1, 0, 0)"                                                                       \
                " ON CONFLICT(owner) DO UPDATE SET asset_bytes = asset_bytes + "                   \
                "excluded.asset_bytes,"                                                            \
                " assets = assets + 1;"
#define TAKE_ASSET                                                                                 \
    "UPDATE owner_usage SET asset_bytes = asset_bytes - " ASSET_BYTES(                             \
        "old.") ","                                                                                \
                " assets = assets - 1 WHERE owner = old.owner;"
#define ADD_UPLOAD                                                                                 \
    "INSERT INTO owner_usage VALUES(new.owner, 0, 0, " RESERVED_BYTES("new.") ", " RESERVES(       \
        "new.") ") ON CONFLICT(owner) DO UPDATE SET"                                               \
                " reserved_bytes = reserved_bytes + excluded.reserved_bytes,"                      \
                " uploads = uploads + excluded.uploads;"
#define TAKE_UPLOAD                                                                                \
    "UPDATE owner_usage SET reserved_bytes = reserved_bytes - " RESERVED_BYTES(                    \
        "old.") ","                                                                                \
                " uploads = uploads - " RESERVES("old.") " WHERE owner = old.owner;"

/* The triggers on update look at what a row adds: an offset that moves within an announced size, as
 * it does all the time, writes no second row. */
static const char schema_2[] =
    "CREATE TABLE uploads(id TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL,"
    " kind INTEGER NOT NULL, state INTEGER NOT NULL, filename TEXT NOT NULL, title TEXT NOT NULL,"
    " description TEXT NOT NULL, tags TEXT NOT NULL, custom TEXT NOT NULL, policy INTEGER,"
    " metadata TEXT NOT NULL, url TEXT NOT NULL, etag TEXT NOT NULL, size_bytes INTEGER,"
    " offset_bytes INTEGER NOT NULL, chunk_bytes INTEGER NOT NULL, sha256 BLOB,"
    " parts TEXT NOT NULL, error_slug TEXT NOT NULL, error_detail TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,"
    " expires_ms INTEGER NOT NULL) STRICT;"
    "CREATE INDEX uploads_owner ON uploads(owner, id);"
    "CREATE INDEX uploads_expires ON uploads(expires_ms);"
    "CREATE INDEX uploads_open ON uploads(state, id) WHERE state IN (0, 1);"
    "CREATE TABLE upload_chunks(upload_id TEXT NOT NULL REFERENCES uploads(id) ON DELETE CASCADE,"
    " number INTEGER NOT NULL, len INTEGER NOT NULL, sha256 BLOB NOT NULL,"
    " PRIMARY KEY(upload_id, number)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX assets_content ON assets(sha256, size_bytes, created_ms, id);"

    "CREATE TABLE owner_usage(owner TEXT NOT NULL PRIMARY KEY, asset_bytes INTEGER NOT NULL,"
    " assets INTEGER NOT NULL, reserved_bytes INTEGER NOT NULL,"
    " uploads INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "INSERT INTO owner_usage SELECT owner, sum(" ASSET_BYTES(
        "") "), count(*), 0, 0"
            " FROM assets GROUP BY owner;"

            "CREATE TRIGGER usage_asset_added AFTER INSERT ON assets BEGIN " ADD_ASSET " END;"
            "CREATE TRIGGER usage_asset_removed AFTER DELETE ON assets BEGIN " TAKE_ASSET " END;"
            "CREATE TRIGGER usage_asset_changed AFTER UPDATE OF owner, status, size_bytes ON assets"
            " WHEN old.owner <> new.owner OR " ASSET_BYTES("old.") " <> " ASSET_BYTES(
                "new.") " BEGIN " TAKE_ASSET ADD_ASSET " END;"
                        "CREATE TRIGGER usage_upload_added AFTER INSERT ON uploads "
                        "BEGIN " ADD_UPLOAD " END;"
                        "CREATE TRIGGER usage_upload_removed AFTER DELETE ON uploads "
                        "BEGIN " TAKE_UPLOAD " END;"
                        "CREATE TRIGGER usage_upload_changed AFTER UPDATE OF owner, kind, state, "
                        "size_bytes,"
                        " offset_bytes ON uploads WHEN old.owner <> new.owner"
                        " OR " RESERVED_BYTES("old.") " <> " RESERVED_BYTES("new.") " OR " RESERVES(
                            "old.") " <> " RESERVES("new.") " BEGIN " TAKE_UPLOAD ADD_UPLOAD
                                                            " END;";

/* The states of jobs: 0 queued, 1 running, from 2 on ended (store/job_store.h). What the indexes
 * are for: jobs_ready the claim's lanes; jobs_due what comes due next; jobs_running limits and
 * fairness; jobs_turn and jobs_owner_turn whose turn it is; jobs_state counts. */
static const char schema_3[] =
    "CREATE TABLE jobs(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,"
    " asset_id TEXT NOT NULL, schedule_id TEXT NOT NULL, type TEXT NOT NULL,"
    " payload TEXT NOT NULL, priority INTEGER NOT NULL, state INTEGER NOT NULL,"
    " run_at_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, max_attempts INTEGER NOT NULL,"
    " crashes INTEGER NOT NULL, cancel INTEGER NOT NULL, lease_ms INTEGER NOT NULL,"
    " lease TEXT NOT NULL, depends_on TEXT NOT NULL, progress TEXT NOT NULL,"
    " result TEXT NOT NULL, error_slug TEXT NOT NULL, error_detail TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL,"
    " finished_ms INTEGER NOT NULL, blocked INTEGER NOT NULL, turn INTEGER NOT NULL,"
    " lane TEXT NOT NULL AS (type || '/' || owner) STORED) STRICT;"
    "CREATE INDEX jobs_ready ON jobs(lane, priority DESC, run_at_ms)"
    " WHERE state = 0 AND blocked = 0;"
    "CREATE INDEX jobs_due ON jobs(run_at_ms) WHERE state = 0 AND blocked = 0;"
    "CREATE INDEX jobs_running ON jobs(owner) WHERE state = 1;"
    "CREATE INDEX jobs_ended ON jobs(finished_ms) WHERE state > 1;"
    "CREATE INDEX jobs_state ON jobs(state);"
    "CREATE INDEX jobs_turn ON jobs(turn);"
    "CREATE INDEX jobs_owner_turn ON jobs(owner, turn);"
    "CREATE INDEX jobs_owner ON jobs(owner, id);"
    "CREATE INDEX jobs_asset ON jobs(asset_id, id) WHERE asset_id <> '';"
    "CREATE TABLE job_needs(job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,"
    " needs TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,"
    " PRIMARY KEY(job_id, needs)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX job_needs_needs ON job_needs(needs);"
    "CREATE TABLE job_schedules(id TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL,"
    " type TEXT NOT NULL, cron TEXT NOT NULL, zone TEXT NOT NULL, payload TEXT NOT NULL,"
    " priority INTEGER NOT NULL, max_attempts INTEGER NOT NULL, missed INTEGER NOT NULL,"
    " next_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, last_job TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL) STRICT;"
    "CREATE INDEX job_schedules_next ON job_schedules(next_ms, id);";

static const char *const steps[] = {
    schema_1,         schema_2,        schema_3,       schema_renditions,
    schema_subtitles, schema_webhooks, schema_imports, schema_renditions_shown,
    schema_promised};

unsigned sg_db_schema_version(void)
{
    return SG_ARRAY_LEN(steps);
}

static enum sg_error read_version(struct sg_db_conn *c, uint64_t *out)
{
    struct sg_stmt st;
    sg_stmt_open(&st, c, "PRAGMA user_version");
    uint64_t version = 0;
    if (sg_stmt_row(&st))
        version = sg_stmt_u64(&st, 0);
    enum sg_error err = sg_stmt_close(&st);
    if (!err && version > SG_ARRAY_LEN(steps))
        err = SG_ERR_CONFLICT;
    if (!err)
        *out = version;
    return err;
}

static enum sg_error exec(struct sg_db_conn *c, const char *sql)
{
    int rc = sqlite3_exec(c->handle, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? SG_OK : sg_db_conn_error(c, rc);
}

static enum sg_error take_steps(struct sg_db_conn *c, unsigned target)
{
    uint64_t version = 0;
    enum sg_error err = read_version(c, &version); /* again: now nobody else can change it */
    if (err || version >= target)
        return err;
    for (; !err && version < target; version++)
        err = exec(c, steps[version]);
    if (err)
        return err;
    /* A pragma takes no parameters; the number is ours. */
    char sql[64];
    sqlite3_snprintf(sizeof(sql), sql, "PRAGMA user_version=%u", target);
    return exec(c, sql);
}

enum sg_error sg_db_migrate_to(struct sg_db_conn *c, unsigned target)
{
    uint64_t version = 0;
    enum sg_error err = read_version(c, &version);
    if (err || version >= target)
        return err;
    err = exec(c, "BEGIN IMMEDIATE");
    if (err)
        return err;
    err = take_steps(c, target);
    if (!err)
        err = exec(c, "COMMIT");
    if (err && sg_db_conn_in_transaction(c)) {
        enum sg_error undo = exec(c, "ROLLBACK");
        (void)undo; /* the caller hears the cause; the connection is closed next */
    }
    return err;
}

enum sg_error sg_db_migrate(struct sg_db_conn *c)
{
    return sg_db_migrate_to(c, sg_db_schema_version());
}
