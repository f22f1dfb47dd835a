/* WebVTT in the one form that StreamGate keeps and serves: what a media process makes of subtitles, and the strict reader of it (the process parses hostile files, so what it answers is
 * believed only once it was read). Pure, no libav.
 *
 * The form: "WEBVTT\n", then for each cue an empty line, a time line `HH:MM:SS.mmm --> HH:MM:SS.mmm[ setting...]` and at least one line of text, every line ended by \n and none of them
 * blank. Cues in order of their start, which lies before their end. UTF-8 without control characters. In a text stand only &amp; &lt; &gt; and the properly nested tags
 * b i u c v lang ruby rt, with classes, and an annotation where v and lang want one. */
#ifndef STREAMGATE_MEDIA_WEBVTT_H
#define STREAMGATE_MEDIA_WEBVTT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"

#define SG_WEBVTT_CUES_MAX 100000
#define SG_WEBVTT_CUE_MAX 4096                        /* bytes of a cue's text */
#define SG_WEBVTT_TEXT_MAX (10 << 20)                 /* bytes of the whole */
#define SG_WEBVTT_TIME_MAX_MS (UINT64_C(3600000) * 9999)
#define SG_WEBVTT_DEPTH_MAX 16                        /* tags open at once */

/* A cue in the text it was read from. */
struct sg_webvtt_cue {
    uint64_t start_ms, end_ms;
    const char *ptr; size_t len; /* from its time line to the line feed of its last line of text */
};
/* One owner; text outlives it. */
struct sg_webvtt_reader { const char *at, *end; uint64_t last_ms; uint32_t cues; };

/* MEDIA_WORKER: not this form. */
enum sg_error sg_webvtt_open(struct sg_webvtt_reader *r, const void *text, size_t len) SG_NODISCARD;
/* NOT_FOUND: the end; MEDIA_WORKER. */
enum sg_error sg_webvtt_next(struct sg_webvtt_reader *r, struct sg_webvtt_cue *out) SG_NODISCARD;
/* Reads all of it. MEDIA_WORKER also when there is no cue. */
enum sg_error sg_webvtt_check(const void *text, size_t len, uint32_t *out_cues) SG_NODISCARD;

/* One cue setting, "align:start" (W3C WebVTT 3.5); region is none, as regions are not kept. */
bool sg_webvtt_setting_holds(const char *s, size_t len);
/* The length of a tag's name at s, of those above; 0: none of them. */
size_t sg_webvtt_tag_name(const char *s, size_t len);
/* Whether tags of this name have an annotation. */
bool sg_webvtt_tag_annotated(const char *name, size_t len);

#endif
