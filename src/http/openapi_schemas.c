/* The shared component schemas of the OpenAPI document, as JSON text. Keep Asset in step with the
 * asset's JSON form. */
#include "openapi_schemas.h"

/* clang-format off */
const char openapi_asset_schema[] =
    "{\"type\":\"object\",\"required\":[\"id\",\"status\",\"title\",\"description\",\"tags\",\"custom\",\"playback_policy\","
        "\"filename\",\"size\",\"version\",\"created_at\",\"updated_at\"],"
    "\"properties\":{"
    "\"id\":{\"type\":\"string\",\"pattern\":\"^[0-9A-HJKMNP-TV-Z]{26}$\",\"description\":\"ULID\"},"
    "\"status\":{\"enum\":[\"created\",\"uploading\",\"processing\",\"ready\",\"failed\"]},"
    "\"title\":{\"type\":\"string\",\"maxLength\":200},"
    "\"description\":{\"type\":\"string\",\"maxLength\":5000},"
    "\"tags\":{\"type\":\"array\",\"maxItems\":32,\"items\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":64}},"
    "\"custom\":{\"type\":\"object\"},"
    "\"owner\":{\"type\":[\"string\",\"null\"]},"
    "\"playback_policy\":{\"enum\":[\"public\",\"signed\",\"gated\"]},"
    "\"filename\":{\"type\":\"string\",\"maxLength\":255},"
    "\"size\":{\"type\":\"integer\",\"minimum\":0,\"description\":\"bytes\"},"
    "\"sha256\":{\"type\":[\"string\",\"null\"],\"pattern\":\"^[0-9a-f]{64}$\"},"
    "\"content_type\":{\"type\":[\"string\",\"null\"]},"
    "\"duration\":{\"type\":[\"number\",\"null\"],\"description\":\"seconds\"},"
    "\"width\":{\"type\":[\"integer\",\"null\"]},"
    "\"height\":{\"type\":[\"integer\",\"null\"]},"
    "\"video_codec\":{\"type\":[\"string\",\"null\"]},"
    "\"audio_codec\":{\"type\":[\"string\",\"null\"]},"
    "\"frame_rate\":{\"type\":[\"number\",\"null\"]},"
    "\"renditions\":{\"type\":\"array\",\"items\":{\"type\":\"object\"}},"
    "\"playback\":{\"type\":[\"object\",\"null\"],\"description\":\"URLs that work as printed\",\"properties\":{"
        "\"hls\":{\"type\":\"string\",\"format\":\"uri\"},"
        "\"hls_ts\":{\"type\":\"string\",\"format\":\"uri\"},"
        "\"dash\":{\"type\":\"string\",\"format\":\"uri\"},"
        "\"poster\":{\"type\":\"string\",\"format\":\"uri\"},"
        "\"storyboard\":{\"type\":\"string\",\"format\":\"uri\"},"
        "\"source\":{\"type\":\"string\",\"format\":\"uri\"}}},"
    "\"error\":{\"type\":[\"string\",\"object\",\"null\"]},"
    "\"version\":{\"type\":\"integer\",\"minimum\":1},"
    "\"created_at\":{\"type\":\"string\",\"format\":\"date-time\"},"
    "\"updated_at\":{\"type\":\"string\",\"format\":\"date-time\"}}}";

const char openapi_problem_schema[] =
    "{\"type\":\"object\",\"required\":[\"type\",\"title\",\"status\"],"
    "\"properties\":{"
    "\"type\":{\"type\":\"string\",\"format\":\"uri\",\"examples\":[\"urn:streamgate:problem:not-found\"]},"
    "\"title\":{\"type\":\"string\"},"
    "\"status\":{\"type\":\"integer\",\"minimum\":400,\"maximum\":599},"
    "\"detail\":{\"type\":\"string\"},"
    "\"request_id\":{\"type\":\"string\"},"
    "\"field\":{\"type\":\"string\"},"
    "\"errors\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"field\"],\"properties\":{"
        "\"field\":{\"type\":\"string\"},\"detail\":{\"type\":\"string\"}}}}}}";
/* clang-format on */
