/* Schema step: what an owner's unfinished uploads are to become, for quota.max_assets. Those in
 * state processing have their asset's row already; a partial upload (kind 2) becomes none. Numbers
 * are those of the enums (checked in upload_query.c). */
#ifndef STREAMGATE_STORE_SCHEMA_PROMISED_H
#define STREAMGATE_STORE_SCHEMA_PROMISED_H

static const char schema_promised[] =
    "CREATE INDEX uploads_promised ON uploads(owner) WHERE state = 0 AND kind <> 2;";

#endif
