/* The subcommands that do one thing and end. They may run while the daemon serves: SQLite's locking
 * lets both write. */
#include "cli.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/metrics.h"
#include "streamgate/base/validate.h"
#include "streamgate/http/route.h"
#include "streamgate/server/server.h"
#include "streamgate/store/audit_store.h"
#include "streamgate/store/key_store.h"

static int complain(const char *what, enum sg_error err)
{
    fprintf(stderr, "streamgate: %s: %s\n", what, sg_error_title(err));
    return 1;
}

int cli_check_config(const struct options *o)
{
    struct sg_config *config = NULL;
    if (options_config(o, &config) != SG_OK)
        return 2;
    printf("the configuration is valid; data in %s\n", options_data_dir(config));
    sg_config_unref(config);
    return 0;
}

enum access { READ, CHANGE, CREATE };

/* What is made where nothing was expected would hide a mistyped path. */
static enum sg_error check_store(const char *dir, const char *path, enum access access)
{
    if (faccessat(AT_FDCWD, path, F_OK, AT_EACCESS) == 0)
        return SG_OK;
    if (access == CREATE) {
        fprintf(stderr, "streamgate: there was no data in %s, it is new\n", dir);
        return SG_OK;
    }
    fprintf(stderr, "streamgate: there is no streamgate.db in %s\n", dir);
    return SG_ERR_NOT_FOUND;
}

/* Runs fn in a transaction of the data directory's database. */
static enum sg_error with_db(const struct options *o, enum access access,
                             enum sg_error (*fn)(struct sg_db_conn *, void *), void *arg)
{
    struct sg_config *config = NULL;
    enum sg_error err = options_config(o, &config);
    if (err != SG_OK)
        return err;
    struct sg_db *db = NULL;
    int dirfd = -1;
    char path[4200];
    const char *dir = options_data_dir(config);
    int n = snprintf(path, sizeof path, "%s/streamgate.db", dir);
    if (n < 0 || (size_t)n >= sizeof path)
        err = SG_ERR_CONFIG;
    if (err == SG_OK)
        err = check_store(dir, path, access);
    if (err == SG_OK)
        err = sg_fs_open_root(dir, &dirfd);
    if (err == SG_OK)
        err = sg_db_open(&(struct sg_db_params){.path = path, .readers = 1}, &db);
    if (err == SG_OK)
        err = access != READ ? sg_db_write(db, fn, arg) : sg_db_read(db, fn, arg);
    sg_db_close(&db);
    if (dirfd >= 0)
        close(dirfd);
    sg_config_unref(config);
    return err;
}

/* ---- keys ---- */

struct key_job {
    struct sg_key_params params;
    const char *id;
    struct sg_key key;
    char secret[SG_KEY_SIZE];
};

static enum sg_error audit_key(struct sg_db_conn *c, const char *action, const char *id)
{
    char resource[40];
    snprintf(resource, sizeof resource, "key/%s", id);
    return sg_audit_append(c, &(struct sg_audit_event){.event_type = "admin",
                                                       .actor = "cli",
                                                       .action = action,
                                                       .resource = resource,
                                                       .result = "success"});
}

static enum sg_error create_key(struct sg_db_conn *c, void *arg)
{
    struct key_job *j = arg;
    enum sg_error err = sg_key_create(c, &j->params, j->secret, &j->key);
    return err != SG_OK ? err : audit_key(c, "key.create", j->key.id);
}

static enum sg_error revoke_key(struct sg_db_conn *c, void *arg)
{
    struct key_job *j = arg;
    enum sg_error err = sg_key_revoke(c, j->id);
    return err != SG_OK ? err : audit_key(c, "key.revoke", j->id);
}

/* Pages of keys, newest first, printed as they come. */
#define KEY_PAGE 500

static void print_key(const struct sg_key *k)
{
    bool expired = k->expires_ms != 0 && k->expires_ms <= sg_clock_wall_ms();
    printf("%-26s  %-8s  %-16s  %-16s  %-10s  %s\n", k->id, sg_role_name(k->role), k->user_name,
           k->name, k->prefix,
           k->revoked_ms != 0 ? "revoked"
           : expired          ? "expired"
                              : "valid");
}

static enum sg_error list_keys(struct sg_db_conn *c, void *arg)
{
    (void)arg;
    char cursor[SG_ULID_SIZE] = "";
    for (;;) {
        struct sg_key *keys = NULL;
        size_t n = 0;
        enum sg_error err =
            sg_key_list(c, NULL, cursor[0] != '\0' ? cursor : NULL, KEY_PAGE, &keys, &n);
        for (size_t i = 0; i < n; i++)
            print_key(&keys[i]);
        if (n > 0)
            memcpy(cursor, keys[n - 1].id, SG_ULID_SIZE);
        free(keys);
        if (err != SG_OK || n == 0)
            return err;
    }
}

static int key_create(const struct options *o)
{
    struct key_job j = {.params = {.name = o->name, .user_name = o->user}};
    if (o->name == NULL || o->role == NULL || sg_role_parse(o->role, &j.params.role) != SG_OK ||
        j.params.role == SG_ROLE_NONE) {
        fputs("usage: streamgate key create --role admin|creator|viewer --name NAME "
              "[--user USER] [--data-dir DIR]\n",
              stderr);
        return 2;
    }
    const char *rule = sg_validate_name(o->name, strlen(o->name));
    if (rule == NULL && o->user != NULL)
        rule = sg_validate_name(o->user, strlen(o->user));
    if (rule != NULL) {
        fprintf(stderr, "streamgate: the name %s\n", rule);
        return 2;
    }
    enum sg_error err = with_db(o, CREATE, create_key, &j);
    if (err == SG_ERR_EXISTS) {
        fprintf(stderr, "streamgate: the user already has a key named %s\n", o->name);
        return 1;
    }
    if (err != SG_OK)
        return complain("key create", err);
    fprintf(stderr, "key %s for user %s (%s), role %s; it is shown this once:\n", j.key.id,
            j.key.user_name, j.key.user_id, sg_role_name(j.key.role));
    printf("%s\n", j.secret);
    sg_wipe(j.secret, sizeof j.secret);
    return 0;
}

static int key_list(const struct options *o)
{
    printf("%-26s  %-8s  %-16s  %-16s  %-10s  %s\n", "ID", "ROLE", "USER", "NAME", "PREFIX",
           "STATE");
    enum sg_error err = with_db(o, READ, list_keys, NULL);
    return err == SG_OK ? 0 : complain("key list", err);
}

static int key_revoke(const struct options *o)
{
    if (o->n_words != 3) {
        fputs("usage: streamgate key revoke ID [--data-dir DIR]\n", stderr);
        return 2;
    }
    struct key_job j = {.id = o->words[2]};
    enum sg_error err = with_db(o, CHANGE, revoke_key, &j);
    if (err != SG_OK)
        return complain("key revoke", err);
    printf("revoked %s\n", j.id);
    return 0;
}

int cli_key(const struct options *o)
{
    const char *verb = o->n_words > 1 ? o->words[1] : "";
    if (strcmp(verb, "create") == 0)
        return key_create(o);
    if (strcmp(verb, "list") == 0)
        return key_list(o);
    if (strcmp(verb, "revoke") == 0)
        return key_revoke(o);
    fputs("usage: streamgate key create|list|revoke\n", stderr);
    return 2;
}

/* ---- audit ---- */

struct audit_job {
    uint64_t count, bad, last;
    struct sg_text text;
};

static enum sg_error verify_audit(struct sg_db_conn *c, void *arg)
{
    struct audit_job *j = arg;
    return sg_audit_verify(c, &j->count, &j->bad);
}

static enum sg_error export_page(struct sg_db_conn *c, void *arg)
{
    struct audit_job *j = arg;
    return sg_audit_export(c, &(struct sg_audit_query){.after_seq = j->last, .limit = 1000},
                           &j->text, &j->last);
}

static enum sg_error export_all(struct sg_db_conn *c, void *arg)
{
    struct audit_job *j = arg;
    for (;;) {
        uint64_t before = j->last;
        enum sg_error err = export_page(c, arg);
        if (err != SG_OK || j->text.failed)
            return err != SG_OK ? err : SG_ERR_NO_MEMORY;
        if (j->last == before)
            return SG_OK;
        fwrite(j->text.ptr, 1, j->text.len, stdout);
        sg_text_free(&j->text);
    }
}

int cli_audit(const struct options *o)
{
    const char *verb = o->n_words > 1 ? o->words[1] : "";
    struct audit_job j = {0};
    if (strcmp(verb, "export") == 0) {
        enum sg_error err = with_db(o, READ, export_all, &j);
        sg_text_free(&j.text);
        return err == SG_OK ? 0 : complain("audit export", err);
    }
    if (strcmp(verb, "verify") != 0) {
        fputs("usage: streamgate audit verify|export\n", stderr);
        return 2;
    }
    enum sg_error err = with_db(o, READ, verify_audit, &j);
    if (err != SG_OK)
        return complain("audit verify", err);
    if (j.bad != 0) {
        printf("the chain is broken: record %" PRIu64 " does not fit (%" PRIu64 " read)\n", j.bad,
               j.count);
        return 1;
    }
    printf("%" PRIu64 " events, the chain is whole\n", j.count);
    return 0;
}

/* ---- documents ---- */

static int print_text(struct sg_text *text)
{
    int status = text->failed ? complain("docs", SG_ERR_NO_MEMORY) : 0;
    if (status == 0)
        fwrite(text->ptr, 1, text->len, stdout);
    sg_text_free(text);
    return status;
}

int cli_openapi(void)
{
    struct sg_route_table *table = NULL;
    struct sg_text text = {0};
    enum sg_error err = sg_route_table_create(sg_modules, sg_module_count, &table);
    if (err == SG_OK)
        err = sg_openapi_write(table, &text);
    sg_route_table_destroy(&table);
    if (err != SG_OK) {
        sg_text_free(&text);
        return complain("openapi", err);
    }
    return print_text(&text);
}

static enum sg_error write_api(struct sg_text *text)
{
    struct sg_route_table *table = NULL;
    enum sg_error err = sg_route_table_create(sg_modules, sg_module_count, &table);
    if (err == SG_OK)
        sg_route_table_write_markdown(table, text);
    sg_route_table_destroy(&table);
    return err;
}

int cli_docs(const struct options *o)
{
    static const struct {
        const char *name;
        void (*write)(struct sg_text *);
    } kinds[] = {{"config", sg_config_write_markdown},
                 {"sample", sg_config_write_sample},
                 {"metrics", sg_metrics_write_markdown},
                 {"errors", sg_errors_write_markdown}};
    const char *kind = o->n_words > 1 ? o->words[1] : "";
    struct sg_text text = {0};
    for (size_t i = 0; i < SG_ARRAY_LEN(kinds); i++) {
        if (strcmp(kind, kinds[i].name) == 0) {
            kinds[i].write(&text);
            return print_text(&text);
        }
    }
    if (strcmp(kind, "api") == 0) {
        enum sg_error err = write_api(&text);
        return err == SG_OK ? print_text(&text) : complain("docs", err);
    }
    fputs("usage: streamgate docs config|sample|metrics|errors|api\n", stderr);
    return 2;
}
