/* What asset_store.c and asset_query.c share: how a row of assets is read. */
#ifndef STREAMGATE_STORE_ASSET_ROWS_H
#define STREAMGATE_STORE_ASSET_ROWS_H

#include "streamgate/store/asset_store.h"

#include "db_conn.h"

/* In the order sg_asset_from_row reads them. */
#define SG_ASSET_COLUMNS                                                                           \
    "id, owner, status, policy, title, description, tags, custom, filename, size_bytes, sha256, "  \
    "content_type, duration_ms, width, height, video_codec, audio_codec, frame_rate_num, "         \
    "frame_rate_den, error, version, created_ms, updated_ms"

/* The current row as a new asset. An error is kept in st too. */
enum sg_error sg_asset_from_row(struct sg_stmt *st, struct sg_asset **out) SG_NODISCARD;

#endif
