/* Schema step: subtitle tracks. The text stands last in a row, so that reading what is told of a
 * track does not walk through it. A track and its asset's version change in one transaction
 * (subtitle_store.c), since the asset's representation lists its tracks. */
#ifndef STREAMGATE_STORE_SCHEMA_SUBTITLES_H
#define STREAMGATE_STORE_SCHEMA_SUBTITLES_H

static const char schema_subtitles[] =
    "CREATE TABLE subtitles(seq INTEGER PRIMARY KEY, asset_id TEXT NOT NULL REFERENCES assets(id)"
    " ON DELETE CASCADE, language TEXT NOT NULL, kind INTEGER NOT NULL, source INTEGER NOT NULL,"
    " label TEXT NOT NULL, is_default INTEGER NOT NULL, forced INTEGER NOT NULL,"
    " cues INTEGER NOT NULL, size_bytes INTEGER NOT NULL, hash BLOB NOT NULL,"
    " created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, text BLOB NOT NULL,"
    " UNIQUE(asset_id, language)) STRICT;";

#endif
