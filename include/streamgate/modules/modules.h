/* The modules, for the one list of them (src/server/modules.c). Each is constant and describes itself (http/route.h). */
#ifndef STREAMGATE_MODULES_MODULES_H
#define STREAMGATE_MODULES_MODULES_H

#include "streamgate/http/route.h"

extern const struct sg_module sg_system_module;
extern const struct sg_module sg_upload_module;
extern const struct sg_module sg_chunked_module;
extern const struct sg_module sg_tus_module;
extern const struct sg_module sg_import_module;
extern const struct sg_module sg_metadata_module;
extern const struct sg_module sg_streaming_module;
extern const struct sg_module sg_auth_module;
extern const struct sg_module sg_transcoder_module;
extern const struct sg_module sg_worker_module;
extern const struct sg_module sg_webhooks_module;
extern const struct sg_module sg_subtitles_module;

#endif
