/* The metadata fields an uploader or an owner may set: one check for forms, query strings and JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/json.h"
#include "streamgate/base/validate.h"
#include "streamgate/http/asset_view.h"

#define CUSTOM_MAX_BYTES 16384

static enum sg_error set_text(struct sg_request *req, const char *name, const char *rule,
                              const char *value, size_t len, const char **field)
{
    if (rule != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, name, "%s", rule);
    const char *copy = sg_arena_strndup(req->arena, value, len);
    if (copy == NULL)
        return SG_ERR_NO_MEMORY;
    *field = copy;
    return SG_OK;
}

static enum sg_error set_policy(struct sg_request *req, struct sg_asset_edit *edit,
                                const char *value, size_t len)
{
    const char *copy = sg_arena_strndup(req->arena, value, len);
    if (copy == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_asset_policy policy;
    if (strlen(copy) != len || sg_asset_policy_parse(copy, &policy) != SG_OK ||
        policy == SG_POLICY_GATED)
        return sg_request_fail(req, SG_ERR_INVALID, "policy", "must be public or signed");
    edit->policy = policy;
    edit->has_policy = true;
    return SG_OK;
}

static enum sg_error take_canonical(struct sg_request *req, const json_t *value, const char **field)
{
    size_t len;
    char *text = sg_json_dump_canonical(value, &len);
    if (text == NULL)
        return SG_ERR_NO_MEMORY;
    const char *copy = sg_arena_strndup(req->arena, text, len);
    free(text);
    if (copy == NULL)
        return SG_ERR_NO_MEMORY;
    *field = copy;
    return SG_OK;
}

static enum sg_error set_tags(struct sg_request *req, struct sg_asset_edit *edit,
                              const json_t *tags)
{
    if (!json_is_array(tags))
        return sg_request_fail(req, SG_ERR_INVALID, "tags", "must be an array of strings");
    if (json_array_size(tags) > SG_TAGS_MAX)
        return sg_request_fail(req, SG_ERR_INVALID, "tags", "must be at most %d tags", SG_TAGS_MAX);
    for (size_t i = 0; i < json_array_size(tags); i++) {
        const json_t *tag = json_array_get(tags, i);
        if (!json_is_string(tag))
            return sg_request_fail(req, SG_ERR_INVALID, "tags", "must be an array of strings");
        const char *rule = sg_validate_tag(json_string_value(tag), json_string_length(tag));
        if (rule != NULL)
            return sg_request_fail(req, SG_ERR_INVALID, "tags", "each tag %s", rule);
    }
    return take_canonical(req, tags, &edit->tags_json);
}

/* "a, b,c": white space around a tag is dropped, empty ones too, repeated ones kept once. */
static enum sg_error tags_from_text(struct sg_request *req, struct sg_asset_edit *edit,
                                    const char *value, size_t len)
{
    if (!sg_str_is_utf8(value, len))
        return sg_request_fail(req, SG_ERR_INVALID, "tags", "must be UTF-8");
    json_t *tags = json_array();
    if (tags == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = SG_OK;
    const char *p = value, *end = value + len;
    while (p < end && err == SG_OK) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma != NULL ? comma : end, *next = comma != NULL ? comma + 1 : end;
        while (p < stop && *p == ' ')
            p++;
        while (stop > p && stop[-1] == ' ')
            stop--;
        bool known = false;
        for (size_t i = 0; i < json_array_size(tags) && !known; i++) {
            const json_t *t = json_array_get(tags, i);
            known = json_string_length(t) == (size_t)(stop - p) &&
                    memcmp(json_string_value(t), p, (size_t)(stop - p)) == 0;
        }
        if (stop > p && !known &&
            json_array_append_new(tags, json_stringn(p, (size_t)(stop - p))) != 0)
            err = SG_ERR_NO_MEMORY;
        p = next;
    }
    if (err == SG_OK)
        err = set_tags(req, edit, tags);
    json_decref(tags);
    return err;
}

static enum sg_error set_custom(struct sg_request *req, struct sg_asset_edit *edit,
                                const json_t *value)
{
    if (!json_is_object(value))
        return sg_request_fail(req, SG_ERR_INVALID, "custom", "must be an object");
    enum sg_error err = take_canonical(req, value, &edit->custom_json);
    if (err == SG_OK && strlen(edit->custom_json) > CUSTOM_MAX_BYTES)
        return sg_request_fail(req, SG_ERR_INVALID, "custom", "must be at most %d bytes of JSON",
                               CUSTOM_MAX_BYTES);
    return err;
}

static enum sg_error unknown_field(struct sg_request *req, const char *name)
{
    return sg_request_fail(req, SG_ERR_INVALID, sg_arena_strdup(req->arena, name),
                           "is not a field that can be set");
}

enum sg_error sg_asset_edit_text(struct sg_request *req, struct sg_asset_edit *edit,
                                 const char *name, const char *value, size_t len)
{
    if (strcmp(name, "title") == 0)
        return set_text(req, "title", sg_validate_title(value, len), value, len, &edit->title);
    if (strcmp(name, "description") == 0)
        return set_text(req, "description", sg_validate_description(value, len), value, len,
                        &edit->description);
    if (strcmp(name, "tags") == 0)
        return tags_from_text(req, edit, value, len);
    if (strcmp(name, "policy") == 0)
        return set_policy(req, edit, value, len);
    if (strcmp(name, "custom") == 0) {
        json_t *parsed = NULL;
        if (sg_json_parse(value, len, &parsed, NULL) != SG_OK)
            return sg_request_fail(req, SG_ERR_INVALID, "custom", "must be a JSON object");
        enum sg_error err = set_custom(req, edit, parsed);
        json_decref(parsed);
        return err;
    }
    return unknown_field(req, name);
}

enum sg_error sg_asset_edit_json(struct sg_request *req, struct sg_asset_edit *edit,
                                 const char *name, const json_t *value)
{
    if (strcmp(name, "tags") == 0)
        return set_tags(req, edit, value);
    if (strcmp(name, "custom") == 0)
        return set_custom(req, edit, value);
    if (strcmp(name, "playback_policy") == 0)
        name = "policy";
    bool known = strcmp(name, "title") == 0 || strcmp(name, "description") == 0 ||
                 strcmp(name, "policy") == 0;
    if (!known)
        return unknown_field(req, name);
    if (!json_is_string(value))
        return sg_request_fail(req, SG_ERR_INVALID, sg_arena_strdup(req->arena, name),
                               "must be a string");
    return sg_asset_edit_text(req, edit, name, json_string_value(value), json_string_length(value));
}
