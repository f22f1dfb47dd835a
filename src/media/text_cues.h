/* Subtitles of any kind on their way to the one form of media/webvtt.h. All of this parses hostile
 * text and runs in the media process only, but needs no libav. One thread.
 *
 * A parser writes each cue with a text_markup, which lets only good WebVTT through, whatever it is
 * given: characters are escaped, tags nested, blank lines and control characters left out. */
#ifndef STREAMGATE_MEDIA_TEXT_CUES_H
#define STREAMGATE_MEDIA_TEXT_CUES_H

#include <stdint.h>

#include "streamgate/base/str.h"
#include "streamgate/media/webvtt.h"
#include "streamgate/sandbox/media_pool.h"

struct text_cue {
    uint64_t start_ms, end_ms;
    uint32_t order;                /* of arrival, so that equal starts stay in theirs */
    size_t settings, settings_len; /* in pool: each with a space before it */
    size_t text, text_len;         /* in pool */
};

/* A zeroed one is empty. */
struct text_cues {
    struct text_cue *cues; /* malloc'ed */
    size_t n, cap;
    struct sg_text pool;
    uint64_t max_ms; /* cues that begin later are left out; none ends later */
};

/* The text of the cue being written, at the end of the pool. */
struct text_markup {
    struct sg_text *out;
    size_t from;
    struct {
        char name[8];
        size_t at, len; /* its opening tag, in out, to open it again */
    } open[SG_WEBVTT_DEPTH_MAX];
    unsigned depth;
    unsigned spaces; /* not yet written: they do not begin or end a line */
    bool line_begun; /* something can be seen on the line */
    bool new_line;   /* not yet written: a line follows only when something is on it */
    bool visible;    /* something can be seen at all */
};

/* av_text_cues.c */
void text_cues_free(struct text_cues *c);
/* Adds the cue that m has written, or takes its text back when there is nothing to see or its time
 * makes no sense. settings: candidates between white space; those that hold are kept. TOO_LARGE,
 * with why; NO_MEMORY. */
struct text_times {
    int64_t start_ms, end_ms;
    const char *settings;
    size_t settings_len;
};
enum sg_error text_cues_add(struct text_cues *c, struct text_markup *m, const struct text_times *t,
                            char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
/* The whole, malloc'ed. UNPROCESSABLE: no cue; TOO_LARGE; with why. NO_MEMORY. */
enum sg_error text_cues_write(struct text_cues *c, void **out, size_t *out_len,
                              char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;

/* av_text_markup.c */
void text_markup_begin(struct text_markup *m, struct text_cues *c);
/* Characters of valid UTF-8 as they are meant; \n begins a line. */
void text_markup_put(struct text_markup *m, const char *s, size_t len);
/* A tag of media/webvtt.h. tail: what follows the name, ".class annotation"; what does not hold of
 * it is left out, or the tag is when it needs an annotation. */
void text_markup_open(struct text_markup *m, const char *name, size_t len, const char *tail,
                      size_t tail_len);
/* Closes the innermost of this name; those within it are closed and opened again. None: nothing. */
void text_markup_close(struct text_markup *m, const char *name, size_t len);
void text_markup_end(struct text_markup *m);
/* HTML-like text as SRT and WebVTT have it: known tags, character references. The tags of
 * others are left out, and so are curly codes in SRT. */
void text_markup_html(struct text_markup *m, const char *s, size_t len, bool srt);
/* The text of an ASS event: override codes and drawings are left out, but for b, i and u. */
void text_markup_ass(struct text_markup *m, const char *s, size_t len);

/* av_text_parse.c: a whole file of SRT, WebVTT or ASS, told apart by its bytes, as canonical
 * WebVTT, malloc'ed. UNSUPPORTED_MEDIA: none of them; UNPROCESSABLE: an encoding that is not taken,
 * or no cue; TOO_LARGE; NO_MEMORY. */
struct text_source {
    const uint8_t *bytes;
    size_t len;
    uint64_t max_ms;
};
enum sg_error text_convert(const struct text_source *source, void **out, size_t *out_len,
                           char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
/* Cuts ASS fields off s: the text behind `commas` commas; NULL: there are fewer. */
const char *text_ass_field(const char *s, const char *end, unsigned commas);

#endif
