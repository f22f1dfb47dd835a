/* What a player is offered of an asset: tracks of several files side by side - the source, or what it was brought into, the rungs of its ladder, further sound. Made of the files' indexes; immutable,
 * reference-counted, pure. No libav here. */
#ifndef STREAMGATE_MEDIA_PRESENTATION_H
#define STREAMGATE_MEDIA_PRESENTATION_H

#include <stdatomic.h>

#include "streamgate/base/language.h"
#include "streamgate/media/index.h"

#define SG_FILE_ID_SIZE 27 /* of a ULID as text */

enum sg_file_role {
    SG_FILE_BASE,  /* the source or its like: all of its tracks are offered */
    SG_FILE_RUNG,  /* its picture is; its sound is for MPEG-TS and downloads, or where there is no other */
    SG_FILE_SOUND, /* its sound is */
};
struct sg_media_file {
    char id[SG_FILE_ID_SIZE];     /* of the stored file */
    enum sg_file_role role;
    struct sg_media_index *index; /* a reference */
};

/* One track that is offered. */
struct sg_offer { const struct sg_media_file *file; const struct sg_track *track; };

/* A track of subtitles, which is beside the files. */
#define SG_TEXT_LABEL_SIZE 257 /* 64 characters */
struct sg_text_offer {
    char language[SG_LANGUAGE_SIZE]; /* its name in URLs, too: subs/{language}... */
    char label[SG_TEXT_LABEL_SIZE];  /* "" without */
    bool captions, is_default, forced;
    uint64_t bytes;
    uint64_t tag;                    /* of its text, and all that is told of it */
};

struct sg_presentation {
    _Atomic uint32_t refs;
    uint64_t tag;            /* of the files, in order, and of the texts: what is made of all of them changes with it */
    bool live;               /* is still being made: grows, and has no end yet */
    bool fmp4, ts;           /* whether anything is offered in the form */
    uint64_t duration_ms;
    uint32_t n_files, n_videos, n_audios;
    uint32_t default_audio;  /* < n_audios when there is one; of the codec that most players have */
    struct sg_media_file *files;
    struct sg_offer *videos; /* the base's first, then the largest pictures first */
    uint32_t n_texts;
    struct sg_text_offer *texts;
    struct sg_offer *audios; /* in the fMP4 form; the MPEG-TS form has each file's own */
};

/* Takes the references of files in any case. Names of tracks that clash are not checked: the rows' are unique. A presentation of no file is valid, and offers nothing. NO_MEMORY. */
struct sg_presentation_params { struct sg_media_file *files; uint32_t n_files; bool live; const struct sg_text_offer *texts; /* copied */ uint32_t n_texts; };
enum sg_error sg_presentation_create(const struct sg_presentation_params *params, struct sg_presentation **out) SG_NODISCARD;
struct sg_presentation *sg_presentation_ref(struct sg_presentation *p);
void sg_presentation_unref(struct sg_presentation *p); /* NULL is fine */
size_t sg_presentation_weight(const struct sg_presentation *p);
/* By the track's name; ts: only the main track of a file that has the form. false: there is none. */
bool sg_presentation_find(const struct sg_presentation *p, const char *name, bool ts, struct sg_offer *out);

#endif
