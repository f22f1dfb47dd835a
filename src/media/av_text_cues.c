/* See text_cues.h: cues are collected in any order and written in that of their start. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text_cues.h"

void text_cues_free(struct text_cues *c)
{
    free(c->cues);
    sg_text_free(&c->pool);
    *c = (struct text_cues){0};
}

static enum sg_error make_room(struct text_cues *c)
{
    if (c->n < c->cap)
        return SG_OK;
    size_t cap = c->cap ? 2 * c->cap : 256;
    struct text_cue *grown = realloc(c->cues, cap * sizeof(*grown));
    if (!grown)
        return SG_ERR_NO_MEMORY;
    c->cues = grown;
    c->cap = cap;
    return SG_OK;
}

static size_t name_length(const char *s, size_t len)
{
    const char *colon = memchr(s, ':', len);
    return colon ? (size_t)(colon - s) + 1 : len;
}

/* Whether the pool from `from` on has a setting of this name already. */
static bool has_setting(const struct sg_text *pool, size_t from, const char *s, size_t len)
{
    size_t name = name_length(s, len);
    for (size_t i = from; i + name < pool->len; i++)
        if (pool->ptr[i] == ' ' && memcmp(pool->ptr + i + 1, s, name) == 0)
            return true;
    return false;
}

static void put_settings(struct sg_text *pool, const char *s, size_t len)
{
    size_t from = pool->len;
    while (len) {
        size_t n = 0;
        while (n < len && s[n] != ' ' && s[n] != '\t')
            n++;
        if (sg_webvtt_setting_holds(s, n) && !has_setting(pool, from, s, n)) {
            sg_text_append(pool, " ", 1);
            sg_text_append(pool, s, n);
        }
        n += n < len;
        s += n;
        len -= n;
    }
}

static enum sg_error fail(enum sg_error err, char why[SG_MEDIA_MESSAGE_MAX], const char *fmt,
                          unsigned value)
{
    snprintf(why, SG_MEDIA_MESSAGE_MAX, fmt, value);
    return err;
}

static void take_back(struct text_cues *c, size_t from)
{
    if (c->pool.ptr && !c->pool.failed) {
        c->pool.len = from;
        c->pool.ptr[from] = 0;
    }
}

enum sg_error text_cues_add(struct text_cues *c, struct text_markup *m, const struct text_times *t,
                            char why[SG_MEDIA_MESSAGE_MAX])
{
    text_markup_end(m);
    uint64_t start = t->start_ms > 0 ? (uint64_t)t->start_ms : 0;
    uint64_t end = t->end_ms > 0 ? (uint64_t)t->end_ms : 0;
    if (end > c->max_ms)
        end = c->max_ms;
    if (c->pool.failed)
        return SG_ERR_NO_MEMORY;
    if (!m->visible || start >= end) {
        take_back(c, m->from);
        return SG_OK;
    }
    struct text_cue cue = {.start_ms = start, .end_ms = end, .text = m->from};
    cue.text_len = c->pool.len - m->from;
    if (cue.text_len > SG_WEBVTT_CUE_MAX)
        return fail(SG_ERR_TOO_LARGE, why, "The text of a cue is longer than %u bytes.",
                    SG_WEBVTT_CUE_MAX);
    if (c->n == SG_WEBVTT_CUES_MAX)
        return fail(SG_ERR_TOO_LARGE, why, "There are more than %u cues.", SG_WEBVTT_CUES_MAX);
    if (make_room(c))
        return SG_ERR_NO_MEMORY;
    cue.order = (uint32_t)c->n;
    cue.settings = c->pool.len;
    put_settings(&c->pool, t->settings, t->settings_len);
    cue.settings_len = c->pool.len - cue.settings;
    if (c->pool.failed)
        return SG_ERR_NO_MEMORY;
    if (c->pool.len > SG_WEBVTT_TEXT_MAX)
        return fail(SG_ERR_TOO_LARGE, why, "The subtitles are longer than %u MiB.",
                    SG_WEBVTT_TEXT_MAX >> 20);
    c->cues[c->n++] = cue;
    return SG_OK;
}

static int by_start(const void *a, const void *b)
{
    const struct text_cue *x = a, *y = b;
    if (x->start_ms != y->start_ms)
        return x->start_ms < y->start_ms ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static void put_time(struct sg_text *text, uint64_t ms)
{
    sg_text_printf(text, "%02" PRIu64 ":%02u:%02u.%03u", ms / 3600000, (unsigned)(ms / 60000 % 60),
                   (unsigned)(ms / 1000 % 60), (unsigned)(ms % 1000));
}

enum sg_error text_cues_write(struct text_cues *c, void **out, size_t *out_len,
                              char why[SG_MEDIA_MESSAGE_MAX])
{
    if (c->n == 0) {
        snprintf(why, SG_MEDIA_MESSAGE_MAX, "There is no cue with a time and a text.");
        return SG_ERR_UNPROCESSABLE;
    }
    struct sg_text text = {0};
    qsort(c->cues, c->n, sizeof(*c->cues), by_start);
    sg_text_puts(&text, "WEBVTT\n");
    for (size_t i = 0; i < c->n; i++) {
        const struct text_cue *cue = &c->cues[i];
        sg_text_puts(&text, "\n");
        put_time(&text, cue->start_ms);
        sg_text_puts(&text, " --> ");
        put_time(&text, cue->end_ms);
        sg_text_append(&text, c->pool.ptr + cue->settings, cue->settings_len);
        sg_text_puts(&text, "\n");
        sg_text_append(&text, c->pool.ptr + cue->text, cue->text_len);
        sg_text_puts(&text, "\n");
    }
    enum sg_error err = text.failed ? SG_ERR_NO_MEMORY : SG_OK;
    if (!err && text.len > SG_WEBVTT_TEXT_MAX)
        err = fail(SG_ERR_TOO_LARGE, why, "The subtitles are longer than %u MiB.",
                   SG_WEBVTT_TEXT_MAX >> 20);
    if (err) {
        sg_text_free(&text);
        return err;
    }
    *out = text.ptr;
    *out_len = text.len;
    return SG_OK;
}
