/* Which types of jobs are paused, and whether all are: kept over restarts. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/json.h"

#include "jobs_private.h"

#define PAUSED_KEY "jobs_paused"
#define ALL_TYPES "*"

static enum sg_error read_paused(struct sg_db_conn *c, void *arg)
{
    char *text = NULL;
    enum sg_error err = sg_meta_get(c, PAUSED_KEY, &text);
    if (err == SG_OK)
        err = sg_json_parse(text, strlen(text), arg, NULL);
    free(text);
    return err == SG_ERR_NOT_FOUND ? SG_OK : err;
}

enum sg_error jobs_restore_paused(struct sg_jobs *j)
{
    json_t *names = NULL, *name;
    size_t i;
    enum sg_error err = sg_db_read(j->db, read_paused, &names);
    pthread_mutex_lock(&j->lock);
    json_array_foreach(names, i, name)
    {
        const char *s = json_is_string(name) ? json_string_value(name) : "";
        struct jobs_type *t = jobs_find_type(j, s);
        if (t)
            t->paused = true;
        j->paused |= strcmp(s, ALL_TYPES) == 0;
    }
    pthread_mutex_unlock(&j->lock);
    json_decref(names);
    return err;
}

static enum sg_error write_paused(struct sg_db_conn *c, void *arg)
{
    return sg_meta_set(c, PAUSED_KEY, arg);
}

/* Called under the lock. */
static void paused_json(const struct sg_jobs *j, struct sg_text *out)
{
    const char *comma = "";
    sg_text_puts(out, "[");
    if (j->paused) {
        sg_text_puts(out, "\"" ALL_TYPES "\"");
        comma = ",";
    }
    for (size_t i = 0; i < j->n_types; i++) {
        if (!j->types[i].paused)
            continue;
        sg_text_printf(out, "%s\"%s\"", comma, j->types[i].type->name);
        comma = ",";
    }
    sg_text_puts(out, "]");
}

struct flags {
    bool all, of_type[JOBS_TYPES_MAX];
};

/* Called under the lock. */
static void get_flags(const struct sg_jobs *j, struct flags *out)
{
    out->all = j->paused;
    for (size_t i = 0; i < j->n_types; i++)
        out->of_type[i] = j->types[i].paused;
}

/* Called under the lock. */
static void set_flags(struct sg_jobs *j, const struct flags *f)
{
    j->paused = f->all;
    for (size_t i = 0; i < j->n_types; i++)
        j->types[i].paused = f->of_type[i];
}

/* Called under the lock. After all were resumed none is paused, however it came to be. */
static void change(struct sg_jobs *j, struct jobs_type *t, bool pause)
{
    if (t)
        t->paused = pause;
    else if (pause)
        j->paused = true;
    else
        set_flags(j, &(struct flags){0});
}

enum sg_error sg_jobs_pause(struct sg_jobs *j, const char *type, bool pause)
{
    struct jobs_type *t = type ? jobs_find_type(j, type) : NULL;
    if (type && !t)
        return SG_ERR_NOT_FOUND;
    struct sg_text names = {0};
    struct flags before;
    pthread_mutex_lock(&j->lock);
    get_flags(j, &before);
    change(j, t, pause);
    paused_json(j, &names);
    pthread_mutex_unlock(&j->lock);
    enum sg_error err =
        names.failed ? SG_ERR_NO_MEMORY : sg_db_write(j->db, write_paused, names.ptr);
    sg_text_free(&names);
    if (err != SG_OK) {
        pthread_mutex_lock(&j->lock);
        set_flags(j, &before);
        pthread_mutex_unlock(&j->lock);
    }
    sg_jobs_kick(j);
    return err;
}
