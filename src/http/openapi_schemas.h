/* JSON Schemas (2020-12) shared by many rows, which refer to them as #/components/schemas/Asset,
 * .../Upload, .../Subtitle and .../Problem. */
#ifndef STREAMGATE_HTTP_OPENAPI_SCHEMAS_H
#define STREAMGATE_HTTP_OPENAPI_SCHEMAS_H

extern const char openapi_asset_schema[];
extern const char openapi_upload_schema[];
extern const char openapi_subtitle_schema[];
extern const char openapi_problem_schema[];

#endif
