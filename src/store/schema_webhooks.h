/* Schema step: webhooks, what has happened that they may hear of, and their deliveries. The
 * triggers are the outbox: whoever changes an asset, an upload or a job, in whatever way, leaves
 * the event in the same transaction, and nobody has to remember to. Without a hook that wants it an
 * event is not even written. They copy columns; webhook_events.c makes JSON of them (SQLite's own
 * functions for that are not allowed in a schema that is not trusted). The numbers are those of the
 * enums (checked in webhook_events.c).
 *
 * An asset whose upload is still being made into it (uploads.state 1) has not been announced: its
 * creation may yet be undone. What became of it is told when the upload's state says so. */
#ifndef STREAMGATE_STORE_SCHEMA_WEBHOOKS_H
#define STREAMGATE_STORE_SCHEMA_WEBHOOKS_H

/* clang-format would indent literals between macros further each time. */
/* clang-format off */
#define HOOK_WANTS(mask) "EXISTS(SELECT 1 FROM webhooks WHERE enabled AND events & " mask ")"
#define HOOK_BEING_MADE(row) "EXISTS(SELECT 1 FROM uploads WHERE id = " row "id AND state = 1)"
#define HOOK_NOW "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
#define HOOK_ADD "INSERT INTO webhook_events(type, owner, time_ms, subject, asset_id, "
#define HOOK_ADD_ASSET(type, time, row) \
    HOOK_ADD "state, title, description, tags, custom, filename, size_bytes, sha256," \
    " content_type, duration_ms, width, height, video_codec, audio_codec, error, version," \
    " created_ms, updated_ms) SELECT " type ", " row "owner, " time ", " row "id, " row "id, " \
    row "status, " row "title, " row "description, " row "tags, " row "custom, " \
    row "filename, " row "size_bytes, " row "sha256, " row "content_type, " \
    row "duration_ms, " row "width, " row "height, " row "video_codec, " row "audio_codec, " \
    row "error, " row "version, " row "created_ms, " row "updated_ms"
/* asset.ready or asset.failed, when its status is one of those. */
#define HOOK_ADD_OUTCOME(time, row) \
    HOOK_ADD_ASSET("CASE " row "status WHEN 3 THEN 1 ELSE 2 END", time, row)
#define HOOK_HAS_OUTCOME(row) row "status IN (3, 4)"

static const char schema_webhooks[] =
    "CREATE TABLE webhooks(id TEXT PRIMARY KEY, owner TEXT NOT NULL, url TEXT NOT NULL,"
    " description TEXT NOT NULL, events INTEGER NOT NULL, everything INTEGER NOT NULL,"
    " enabled INTEGER NOT NULL, disabled_why TEXT NOT NULL, generation INTEGER NOT NULL,"
    " previous_until_ms INTEGER NOT NULL, removed INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
    " updated_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE INDEX webhooks_owner ON webhooks(owner, id) WHERE removed = 0;"
    "CREATE INDEX webhooks_removed ON webhooks(id) WHERE removed = 1;"
    /* data: JSON, where there are no columns to make it of. n: attempts. */
    "CREATE TABLE webhook_events(seq INTEGER PRIMARY KEY, type INTEGER NOT NULL,"
    " owner TEXT NOT NULL, time_ms INTEGER NOT NULL, data TEXT, subject TEXT, asset_id TEXT,"
    " kind TEXT, state INTEGER, n INTEGER, title TEXT, description TEXT, tags TEXT, custom TEXT,"
    " filename TEXT, size_bytes INTEGER, sha256 BLOB, content_type TEXT, duration_ms INTEGER,"
    " width INTEGER, height INTEGER, video_codec TEXT, audio_codec TEXT, error TEXT, detail TEXT,"
    " version INTEGER, created_ms INTEGER, updated_ms INTEGER) STRICT;"
    /* state: 0 pending, 1 delivered, 2 failed */
    "CREATE TABLE webhook_deliveries(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " hook_id TEXT NOT NULL, event_id TEXT NOT NULL, type INTEGER NOT NULL, body TEXT NOT NULL,"
    " state INTEGER NOT NULL, attempts INTEGER NOT NULL, status INTEGER NOT NULL,"
    " error TEXT NOT NULL, latency_ms INTEGER NOT NULL, next_ms INTEGER NOT NULL,"
    " since_ms INTEGER NOT NULL, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,"
    " ended_ms INTEGER NOT NULL) STRICT;"
    "CREATE INDEX webhook_deliveries_hook ON webhook_deliveries(hook_id, id);"
    "CREATE INDEX webhook_deliveries_undone ON webhook_deliveries(hook_id, id) WHERE state <> 1;"
    "CREATE INDEX webhook_deliveries_due ON webhook_deliveries(hook_id, next_ms, id)"
    " WHERE state = 0;"
    "CREATE INDEX webhook_deliveries_ended ON webhook_deliveries(ended_ms) WHERE state > 0;"

    "CREATE TRIGGER webhook_asset_added AFTER INSERT ON assets"
    " WHEN " HOOK_WANTS("23") " AND NOT " HOOK_BEING_MADE("new.") " BEGIN "
    HOOK_ADD "kind, filename, size_bytes) SELECT 4, new.owner, new.created_ms, new.id, new.id,"
    " 'direct', new.filename, new.size_bytes"
    " WHERE NOT EXISTS(SELECT 1 FROM uploads WHERE id = new.id); "
    HOOK_ADD_ASSET("0", "new.created_ms", "new.") "; "
    HOOK_ADD_OUTCOME("new.updated_ms", "new.") " WHERE " HOOK_HAS_OUTCOME("new.") "; END;"

    "CREATE TRIGGER webhook_asset_changed AFTER UPDATE OF status ON assets"
    " WHEN old.status <> new.status AND " HOOK_HAS_OUTCOME("new.")
    " AND " HOOK_WANTS("6") " AND NOT " HOOK_BEING_MADE("new.") " BEGIN "
    HOOK_ADD_OUTCOME("new.updated_ms", "new.") "; END;"

    "CREATE TRIGGER webhook_asset_removed AFTER DELETE ON assets"
    " WHEN " HOOK_WANTS("8") " AND NOT " HOOK_BEING_MADE("old.") " BEGIN "
    HOOK_ADD_ASSET("3", HOOK_NOW, "old.") "; END;"

    "CREATE TRIGGER webhook_upload_ended AFTER UPDATE OF state ON uploads"
    " WHEN old.state = 1 AND new.state IN (2, 3) AND " HOOK_WANTS("23") " BEGIN "
    HOOK_ADD "kind, filename, size_bytes) SELECT 4, new.owner, new.updated_ms, new.id, new.id,"
    " CASE new.kind WHEN 0 THEN 'chunked' WHEN 1 THEN 'tus' WHEN 2 THEN 'tus-partial'"
    " WHEN 3 THEN 'tus-final' ELSE 'import' END, new.filename, new.size_bytes"
    " WHERE new.state = 2; "
    HOOK_ADD_ASSET("0", "new.updated_ms", "a.") " FROM assets a WHERE a.id = new.id; "
    HOOK_ADD_OUTCOME("new.updated_ms", "a.")
    " FROM assets a WHERE a.id = new.id AND " HOOK_HAS_OUTCOME("a.") "; END;"

    "CREATE TRIGGER webhook_job_failed AFTER UPDATE OF state ON jobs"
    " WHEN new.state IN (3, 5) AND old.state < 2 AND " HOOK_WANTS("32") " BEGIN "
    HOOK_ADD "kind, state, n, error, detail) SELECT 5, new.owner, new.updated_ms, new.id,"
    " new.asset_id, new.type, new.state, new.attempts, new.error_slug, new.error_detail; END;";
/* clang-format on */

#endif
