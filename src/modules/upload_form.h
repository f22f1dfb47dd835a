/* multipart/form-data on its way into an ingest. Private to the upload module. */
#ifndef UPLOAD_FORM_H
#define UPLOAD_FORM_H

#include "upload_ingest.h"

enum sg_error form_begin(struct sg_request *req, struct ingest *in) SG_NODISCARD;
enum sg_error form_data(struct sg_request *req, struct ingest *in, const uint8_t *data,
                        size_t len) SG_NODISCARD;
enum sg_error form_end(struct sg_request *req,
                       struct ingest *in) SG_NODISCARD; /* INVALID without a file */

#endif
