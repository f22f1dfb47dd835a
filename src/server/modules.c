/* THE list of modules: what is here is served, and nothing else. */
#include "streamgate/modules/modules.h"

#include "streamgate/server/server.h"

const struct sg_module *const sg_modules[] = {
    &sg_system_module, &sg_upload_module,     &sg_chunked_module,   &sg_tus_module,
    &sg_import_module, &sg_metadata_module,   &sg_streaming_module, &sg_auth_module,
    &sg_worker_module, &sg_transcoder_module, &sg_webhooks_module,  &sg_subtitles_module,
};
const size_t sg_module_count = SG_ARRAY_LEN(sg_modules);
