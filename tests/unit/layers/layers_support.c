#include "layers_support.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sg_config *support_config(const char *const *overrides)
{
    struct sg_config_params params = {.overrides = overrides};
    while (overrides != NULL && overrides[params.n_overrides] != NULL)
        params.n_overrides++;
    struct sg_text mistakes = {0};
    struct sg_config *config = NULL;
    enum sg_error err = sg_config_load(&params, &mistakes, &config);
    if (err != SG_OK)
        print_error("%s\n", mistakes.ptr);
    assert_int_equal(err, SG_OK);
    sg_text_free(&mistakes);
    return config;
}

void support_dir_open(struct support_dir *d)
{
    const char *tmp = getenv("TMPDIR");
    *d = (struct support_dir){.fd = -1};
    (void)snprintf(d->path, sizeof d->path, "%.40s/sg-layers-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(d->path));
    d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(d->fd >= 0);
    char file[96];
    (void)snprintf(file, sizeof file, "%s/test.db", d->path);
    const struct sg_db_params params = {.path = file, .readers = 2};
    assert_int_equal(sg_db_open(&params, &d->db), SG_OK);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void support_dir_close(struct support_dir *d)
{
    sg_db_close(&d->db);
    close(d->fd);
    assert_int_equal(nftw(d->path, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

struct making {
    struct sg_key_params params;
    char *secret;
    struct sg_key *out;
};

static enum sg_error make_key(struct sg_db_conn *c, void *arg)
{
    struct making *m = arg;
    return sg_key_create(c, &m->params, m->secret, m->out);
}

void support_key_make(struct sg_db *db, const char *name, uint64_t expires_ms,
                      char secret[SG_KEY_SIZE], struct sg_key *out)
{
    struct making m = {
        .params = {.name = name, .role = SG_ROLE_CREATOR, .expires_ms = expires_ms},
        .secret = secret,
        .out = out,
    };
    assert_int_equal(sg_db_write(db, make_key, &m), SG_OK);
}

static enum sg_error revoke_key(struct sg_db_conn *c, void *arg)
{
    return sg_key_revoke(c, arg);
}

void support_key_revoke(struct sg_db *db, const char *id)
{
    char copy[SG_ULID_SIZE];
    (void)snprintf(copy, sizeof copy, "%s", id);
    assert_int_equal(sg_db_write(db, revoke_key, copy), SG_OK);
}
