/* Schema step: renditions. `name` is what people call one; `dir` is its name in URLs, never used
 * twice in an asset, so that what is below it may be kept for ever. The triggers hold renditions,
 * and an asset that waits for its first, to what becomes of their job, whoever decides it: numbers
 * are those of the enums (checked in rendition_store.c). An asset fails for the reason of its first
 * rendition: those after it may have failed only because it did. */
#ifndef STREAMGATE_STORE_SCHEMA_RENDITIONS_H
#define STREAMGATE_STORE_SCHEMA_RENDITIONS_H

static const char schema_renditions[] =
    "CREATE TABLE renditions(id TEXT PRIMARY KEY, asset_id TEXT NOT NULL REFERENCES assets(id)"
    " ON DELETE CASCADE, name TEXT NOT NULL, dir TEXT NOT NULL, kind INTEGER NOT NULL,"
    " state INTEGER NOT NULL, job_id TEXT NOT NULL, width INTEGER NOT NULL,"
    " height INTEGER NOT NULL, bitrate INTEGER NOT NULL, crf INTEGER NOT NULL,"
    " stream INTEGER NOT NULL, channels INTEGER NOT NULL, size_bytes INTEGER NOT NULL,"
    " error TEXT NOT NULL, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,"
    " data BLOB, UNIQUE(asset_id, name), UNIQUE(asset_id, dir)) STRICT;"
    "CREATE TABLE rendition_names(asset_id TEXT NOT NULL REFERENCES assets(id) ON DELETE CASCADE,"
    " name TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY(asset_id, name)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX renditions_job ON renditions(job_id);"
    "CREATE TRIGGER renditions_job_lost AFTER UPDATE OF state ON jobs"
    " WHEN NEW.state > 2 AND OLD.state < 2 AND NEW.type IN ('transcode', 'transcode-first',"
    " 'remux') BEGIN"
    " UPDATE renditions SET state = 2, updated_ms = NEW.updated_ms, error = CASE WHEN NEW.state = 4"
    " THEN 'cancelled' WHEN NEW.error_detail = '' THEN 'could not be made' ELSE"
    " substr(NEW.error_detail, 1, 200) END WHERE job_id = NEW.id AND state = 0;"
    " UPDATE assets SET status = 4, version = version + 1, updated_ms = NEW.updated_ms, error ="
    " coalesce((SELECT error FROM renditions WHERE asset_id = NEW.asset_id AND state = 2"
    " ORDER BY created_ms, id LIMIT 1), '')"
    " WHERE id = NEW.asset_id AND status = 2 AND EXISTS(SELECT 1 FROM renditions WHERE asset_id ="
    " NEW.asset_id) AND NOT EXISTS(SELECT 1 FROM renditions WHERE asset_id = NEW.asset_id AND"
    " state < 2); END;"
    "CREATE TRIGGER renditions_job_back AFTER UPDATE OF state ON jobs"
    " WHEN NEW.state = 0 AND OLD.state > 2 AND NEW.type IN ('transcode', 'transcode-first',"
    " 'remux') BEGIN"
    " UPDATE renditions SET state = 0, error = '', updated_ms = NEW.updated_ms"
    " WHERE job_id = NEW.id AND state = 2;"
    " UPDATE assets SET status = 2, error = '', version = version + 1, updated_ms = NEW.updated_ms"
    " WHERE id = NEW.asset_id AND status = 4 AND EXISTS(SELECT 1 FROM renditions WHERE job_id ="
    " NEW.id) AND NOT EXISTS(SELECT 1 FROM renditions WHERE asset_id = NEW.asset_id AND"
    " state = 1); END;";

/* Schema step: whether bytes below `dir` were given out while a rendition was made. Of a try that
 * an older program began nobody knows. */
static const char schema_renditions_shown[] =
    "ALTER TABLE renditions ADD COLUMN shown INTEGER NOT NULL DEFAULT 0;"
    "UPDATE renditions SET shown = 1 WHERE state <> 1 AND job_id IN (SELECT id FROM jobs WHERE"
    " type = 'transcode-first' AND started_ms > 0);";

#endif
