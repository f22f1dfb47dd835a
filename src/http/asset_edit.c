/* The metadata fields an uploader or an owner may set: one check for forms, query strings and JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/json.h"
#include "streamgate/base/validate.h"
#include "streamgate/http/asset_view.h"

#define CUSTOM_MAX_BYTES 16384

/* Of two values one would have to be dropped, and nobody could tell which: the policy, too, has two
 * names in JSON. */
static enum sg_error given_again(struct sg_request *req, const char *name)
{
    return sg_request_fail(req, SG_ERR_INVALID, name, "must be given only once");
}

static enum sg_error set_text(struct sg_request *req, const char *name, const char *rule,
                              const char *value, size_t len, const char **field)
{
    if (*field != NULL)
        return given_again(req, name);
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
    if (edit->has_policy)
        return given_again(req, "policy");
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

/* Repeated tags are kept once. */
static enum sg_error keep_tag(json_t *kept, const char *tag, size_t len)
{
    for (size_t i = 0; i < json_array_size(kept); i++) {
        const json_t *t = json_array_get(kept, i);
        if (json_string_length(t) == len && memcmp(json_string_value(t), tag, len) == 0)
            return SG_OK;
    }
    return json_array_append_new(kept, json_stringn(tag, len)) == 0 ? SG_OK : SG_ERR_NO_MEMORY;
}

/* The count is checked with each tag: comparing all with all would be slow for thousands. */
static enum sg_error add_tag(struct sg_request *req, json_t *kept, const char *tag, size_t len)
{
    const char *rule = sg_validate_tag(tag, len);
    if (rule != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "tags", "each tag %s", rule);
    enum sg_error err = keep_tag(kept, tag, len);
    if (err == SG_OK && json_array_size(kept) > SG_TAGS_MAX)
        err = sg_request_fail(req, SG_ERR_INVALID, "tags", "must be at most %d tags", SG_TAGS_MAX);
    return err;
}

static enum sg_error tags_from_json(struct sg_request *req, const json_t *tags, json_t *kept)
{
    enum sg_error err = SG_OK;
    if (!json_is_array(tags))
        return sg_request_fail(req, SG_ERR_INVALID, "tags", "must be an array of strings");
    for (size_t i = 0; i < json_array_size(tags) && err == SG_OK; i++) {
        const json_t *tag = json_array_get(tags, i);
        err = json_is_string(tag)
                  ? add_tag(req, kept, json_string_value(tag), json_string_length(tag))
                  : sg_request_fail(req, SG_ERR_INVALID, "tags", "must be an array of strings");
    }
    return err;
}

/* "a, b,c": white space around a tag is dropped, empty ones too. */
static enum sg_error tags_from_text(struct sg_request *req, const char *value, size_t len,
                                    json_t *kept)
{
    enum sg_error err = SG_OK;
    const char *p = value, *end = value + len;
    while (p < end && err == SG_OK) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma != NULL ? comma : end, *next = comma != NULL ? comma + 1 : end;
        while (p < stop && *p == ' ')
            p++;
        while (stop > p && stop[-1] == ' ')
            stop--;
        if (stop > p)
            err = add_tag(req, kept, p, (size_t)(stop - p));
        p = next;
    }
    return err;
}

/* From JSON, or from text when there is none. */
static enum sg_error set_tags(struct sg_request *req, struct sg_asset_edit *edit,
                              const json_t *tags, const char *value, size_t len)
{
    if (edit->tags_json != NULL)
        return given_again(req, "tags");
    json_t *kept = json_array();
    if (kept == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_error err =
        tags != NULL ? tags_from_json(req, tags, kept) : tags_from_text(req, value, len, kept);
    if (err == SG_OK)
        err = take_canonical(req, kept, &edit->tags_json);
    json_decref(kept);
    return err;
}

static enum sg_error set_custom(struct sg_request *req, struct sg_asset_edit *edit,
                                const json_t *value)
{
    if (edit->custom_json != NULL)
        return given_again(req, "custom");
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
        return set_tags(req, edit, NULL, value, len);
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
        return set_tags(req, edit, value, NULL, 0);
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
