/* Command-line options. */
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/layers/address.h"
#include "streamgate/layers/renditions.h"

extern char **environ;

static enum sg_error add_override(struct options *o, const char *text)
{
    if (o->n_overrides == OPTIONS_SET_MAX) {
        fprintf(stderr, "streamgate: at most %d settings on the command line\n", OPTIONS_SET_MAX);
        return SG_ERR_INVALID;
    }
    o->overrides[o->n_overrides++] = text;
    return SG_OK;
}

static enum sg_error add_shorthand(struct options *o, char **slot, const char *key,
                                   const char *value)
{
    free(*slot);
    if (asprintf(slot, "%s=%s", key, value) < 0) {
        *slot = NULL;
        return SG_ERR_NO_MEMORY;
    }
    return add_override(o, *slot);
}

static enum sg_error take_option(struct options *o, const char *name, const char *value)
{
    if (strcmp(name, "--data-dir") == 0)
        return add_shorthand(o, &o->owned[0], "storage.data_dir", value);
    if (strcmp(name, "--listen") == 0)
        return add_shorthand(o, &o->owned[1], "server.listen", value);
    if (strcmp(name, "--set") == 0)
        return add_override(o, value);
    const struct {
        const char *name;
        const char **slot;
    } plain[] = {{"--config", &o->config_file},
                 {"--role", &o->role},
                 {"--name", &o->name},
                 {"--user", &o->user}};
    for (size_t i = 0; i < SG_ARRAY_LEN(plain); i++) {
        if (strcmp(name, plain[i].name) == 0) {
            *plain[i].slot = value;
            return SG_OK;
        }
    }
    fprintf(stderr, "streamgate: unknown option %s\n", name);
    return SG_ERR_INVALID;
}

enum sg_error options_parse(int argc, char **argv, struct options *out)
{
    *out = (struct options){0};
    for (int i = 1; i < argc; i++) {
        enum sg_error err = SG_OK;
        if (strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i], "--help") != 0 &&
            strcmp(argv[i], "--version") != 0) {
            if (i + 1 == argc) {
                fprintf(stderr, "streamgate: %s needs a value\n", argv[i]);
                return SG_ERR_INVALID;
            }
            err = take_option(out, argv[i], argv[i + 1]);
            i++;
        } else if (out->n_words < SG_ARRAY_LEN(out->words)) {
            out->words[out->n_words++] = argv[i];
        } else {
            fprintf(stderr, "streamgate: what is %s?\n", argv[i]);
            err = SG_ERR_INVALID;
        }
        if (err != SG_OK)
            return err;
    }
    return SG_OK;
}

void options_free(struct options *o)
{
    for (size_t i = 0; i < SG_ARRAY_LEN(o->owned); i++)
        free(o->owned[i]);
    *o = (struct options){0};
}

/* The rules of texts that other floors read. */
static const char *check_text(enum sg_setting setting, const char *value)
{
    if (setting == SG_SET_server_listen) {
        const char *colon = strrchr(value, ':');
        struct sg_address address;
        uint64_t port;
        if (colon == NULL || sg_address_parse(value, (size_t)(colon - value), &address) != SG_OK ||
            sg_str_to_u64(colon + 1, strlen(colon + 1), 65535, &port) != SG_OK)
            return "must be ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080, port 0 to 65535";
    }
    if (setting == SG_SET_server_trusted_proxies || setting == SG_SET_import_allow_addresses ||
        setting == SG_SET_webhook_allow_addresses) {
        struct sg_cidr_list *list = NULL;
        enum sg_error err = sg_cidr_list_parse(value, &list);
        sg_cidr_list_destroy(&list);
        if (err != SG_OK)
            return "must be addresses or CIDR blocks, separated by commas";
    }
    if (setting == SG_SET_transcode_ladder) {
        struct sg_ladder ladder;
        if (sg_ladder_parse(value, &ladder) != SG_OK)
            return "must be up to 12 rungs such as 720p:2800k or 720p:crf23 (crf1 to crf51), no "
                   "height twice, separated by spaces";
    }
    return NULL;
}

enum sg_error options_config(const struct options *o, struct sg_config **out)
{
    struct sg_text mistakes = {0};
    struct sg_config *config = NULL;
    const struct sg_config_params params = {
        .file = o->config_file,
        .environ = environ,
        .overrides = o->overrides,
        .n_overrides = o->n_overrides,
        .check = check_text,
    };
    enum sg_error err = sg_config_load(&params, &mistakes, &config);
    if (mistakes.len > 0)
        fputs(mistakes.ptr, stderr);
    else if (err != SG_OK)
        fprintf(stderr, "streamgate: the configuration could not be read: %s\n",
                sg_error_title(err));
    sg_text_free(&mistakes);
    if (err == SG_OK)
        *out = config;
    return err;
}

const char *options_data_dir(const struct sg_config *config)
{
    const char *dir = sg_config_string(config, SG_SET_storage_data_dir);
    if (dir[0] != '\0')
        return dir;
    dir = getenv("STATE_DIRECTORY"); /* set by systemd */
    return dir != NULL && dir[0] != '\0' ? dir : "./data";
}
