/* Sample assets, and what the tests of rows and of lists both do with them. */
#ifndef TESTS_UNIT_STORE_ASSET_SUPPORT_H
#define TESTS_UNIT_STORE_ASSET_SUPPORT_H

#include "streamgate/store/asset_store.h"

#include "store_support.h"

#define OWNER_A "01ARZ3NDEKTSV4RRFFQ69G5FAA"
#define OWNER_B "01ARZ3NDEKTSV4RRFFQ69G5FAB"

/* SQL that fails when the search text is not that of the rows; 1: compare them (else FTS5 looks
 * only at its own tables). */
#define CHECK_SEARCH "INSERT INTO asset_search(asset_search, rank) VALUES('integrity-check', 1)"

struct asset_change {
    struct sg_asset_fields f;
    uint64_t version;
    const void *index;
    size_t index_len;
};

/* A ready asset of OWNER_A with an id of its own. */
struct sg_asset_fields sample_asset(void);

/* For sg_db_write; arg is a struct asset_change. */
enum sg_error insert_asset_closure(struct sg_db_conn *c, void *arg);
void insert_asset(struct sg_db *db, struct sg_asset_fields f);

struct asset_listing {
    struct sg_asset_query q;
    struct sg_asset_list list;
};

/* For sg_db_read; arg is a struct asset_listing. */
enum sg_error list_assets_closure(struct sg_db_conn *c, void *arg);
/* How many there are; SIZE_MAX when the query is refused. */
size_t matches(struct sg_db *db, struct sg_asset_query q);
size_t found(struct sg_db *db, const char *text);
size_t tagged(struct sg_db *db, const char *tag);

#endif
