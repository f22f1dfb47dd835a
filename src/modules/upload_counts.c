/* Series are defined once, at the module's start. */
#include "upload_counts.h"

#include "streamgate/base/metrics.h"

static uint32_t begun[INGEST_KINDS], success[INGEST_KINDS], failed[INGEST_KINDS];
static uint32_t chunks[INGEST_KINDS], completed[INGEST_KINDS];

static enum sg_error define(enum sg_metric metric, const char *labels, uint32_t *series)
{
    return sg_metric_define(metric, labels, series);
}

enum sg_error upload_counts_define(void)
{
    static const char *const labels[INGEST_KINDS] = {
        [INGEST_RAW] = "kind=\"raw\"",         [INGEST_FORM] = "kind=\"multipart\"",
        [INGEST_CHUNKED] = "kind=\"chunked\"", [INGEST_TUS] = "kind=\"tus\"",
        [INGEST_IMPORT] = "kind=\"import\"",
    };
    enum sg_error err = SG_OK;
    for (int k = 0; k < INGEST_KINDS && err == SG_OK; k++) {
        err = define(SG_METRIC_UPLOAD_REQUESTS, labels[k], &begun[k]);
        if (err == SG_OK)
            err = define(SG_METRIC_UPLOAD_SUCCESS, labels[k], &success[k]);
        if (err == SG_OK)
            err = define(SG_METRIC_UPLOAD_FAILED, labels[k], &failed[k]);
        if (err == SG_OK && k >= INGEST_CHUNKED)
            err = define(SG_METRIC_COMPLETE_UPLOAD_SUCCESS, labels[k], &completed[k]);
        if (err == SG_OK && (k == INGEST_CHUNKED || k == INGEST_TUS))
            err = define(SG_METRIC_CHUNK_UPLOAD_SUCCESS, labels[k], &chunks[k]);
    }
    return err;
}

void upload_count_begun(enum upload_count_kind kind)
{
    sg_metric_add(SG_METRIC_UPLOAD_REQUESTS, begun[kind], 1);
}

void upload_count_success(enum upload_count_kind kind, uint64_t size_bytes)
{
    sg_metric_add(SG_METRIC_UPLOAD_SUCCESS, success[kind], 1);
    sg_metric_add(SG_METRIC_CREATE_METADATA_SUCCESS, 0, 1);
    sg_metric_observe_bytes(SG_METRIC_UPLOAD_SIZE, 0, size_bytes);
}

void upload_count_failure(enum upload_count_kind kind)
{
    sg_metric_add(SG_METRIC_UPLOAD_FAILED, failed[kind], 1);
}

void upload_count_chunk(enum upload_count_kind kind, uint64_t size_bytes)
{
    sg_metric_add(SG_METRIC_CHUNK_UPLOAD_SUCCESS, chunks[kind], 1);
    sg_metric_observe_bytes(SG_METRIC_CHUNK_SIZE, 0, size_bytes);
}

enum upload_count_kind upload_count_kind_of(enum sg_upload_kind kind)
{
    static const enum upload_count_kind kinds[SG_UPLOAD_KIND_COUNT] = {
        [SG_UPLOAD_CHUNKED] = INGEST_CHUNKED, [SG_UPLOAD_TUS] = INGEST_TUS,
        [SG_UPLOAD_TUS_PARTIAL] = INGEST_TUS, [SG_UPLOAD_TUS_FINAL] = INGEST_TUS,
        [SG_UPLOAD_IMPORT] = INGEST_IMPORT,
    };
    return kinds[kind];
}

void upload_count_done(enum sg_upload_kind kind, uint64_t size_bytes)
{
    enum upload_count_kind k = upload_count_kind_of(kind);
    upload_count_success(k, size_bytes);
    sg_metric_add(SG_METRIC_COMPLETE_UPLOAD_SUCCESS, completed[k], 1);
    sg_metric_gauge_add(SG_METRIC_UPLOAD_OPEN, 0, -1);
}

void upload_count_failed(enum sg_upload_kind kind)
{
    upload_count_failure(upload_count_kind_of(kind));
    sg_metric_gauge_add(SG_METRIC_UPLOAD_OPEN, 0, -1);
}
