/* See iso_movie.h: the boxes. Each container has a list of what may stand in it, with how many
 * times; a box that is on no list makes the film somebody else's. */
#include <stdlib.h>
#include <string.h>

#include "iso_tables.h"

enum { TRACKS_MAX = 256, EDITS_MAX = 2, HEADER = 8, FULL_HEADER = 4 };

/* SKIP: says nothing about samples. ONCE: at most once. MANY: any number. */
enum rule { SKIP, ONCE, MANY };

struct expected {
    char type[5];
    enum rule rule;
};

struct box {
    unsigned row; /* of the list */
    struct iso_span span;
};

/* The next box of *rest; 1: there is one, 0: the end, -1: not to be understood. */
static int next_box(struct iso_span *rest, const struct expected *list, unsigned n, struct box *out)
{
    if (rest->len == 0)
        return 0;
    if (rest->len < HEADER)
        return -1;
    uint32_t size = iso_u32(rest->p);
    if (size < HEADER || size > rest->len)
        return -1;
    for (unsigned i = 0; i < n; i++)
        if (memcmp(rest->p + 4, list[i].type, 4) == 0) {
            *out = (struct box){.row = i, .span = {rest->p + HEADER, size - HEADER}};
            rest->p += size;
            rest->len -= size;
            return 1;
        }
    return -1;
}

/* The boxes of rows that may stand once, by row; absent ones have no p. false: not understood. */
static bool gather(struct iso_span in, const struct expected *list, unsigned n,
                   struct iso_span *found)
{
    struct box box;
    int more;
    while ((more = next_box(&in, list, n, &box)) > 0) {
        if (list[box.row].rule == SKIP)
            continue;
        if (found[box.row].p)
            return false;
        found[box.row] = box.span;
    }
    return more == 0;
}

static bool hide(struct iso_track *track, struct iso_span span)
{
    if (!span.p)
        return true;
    if (track->n_hidden == ISO_HIDDEN_MAX)
        return false;
    track->hidden[track->n_hidden++] = span;
    return true;
}

/* A table of rows of `row` bytes with its count at `at`. An absent box is an empty table. */
static bool read_table(struct iso_span box, size_t at, size_t row, struct iso_table *out)
{
    if (!box.p)
        return true;
    if (box.len < at + 4)
        return false;
    uint32_t rows = iso_u32(box.p + at);
    if (rows > (box.len - at - 4) / row)
        return false;
    *out = (struct iso_table){.p = box.p + at + 4, .rows = rows};
    return true;
}

/* stsz and stz2 (8.7.3). */
static bool read_sizes(struct iso_span stsz, struct iso_span stz2, struct iso_tables *t)
{
    struct iso_span box = stsz.p ? stsz : stz2;
    if ((stsz.p != NULL) == (stz2.p != NULL) || box.len < 12)
        return false;
    t->n = iso_u32(box.p + 8);
    t->sample_size = stsz.p ? iso_u32(box.p + 4) : 0;
    t->size_bits = stsz.p ? 32 : box.p[7];
    t->sizes.p = box.p + 12;
    if (t->sample_size)
        return t->sample_size <= ISO_SIZE_MAX;
    if (t->size_bits != 4 && t->size_bits != 8 && t->size_bits != 16 && t->size_bits != 32)
        return false;
    return ((uint64_t)t->n * t->size_bits + 7) / 8 <= box.len - 12;
}

/* One description, of a kind whose samples are just what the tables say. */
static bool plain_description(struct iso_span stsd, bool video)
{
    static const char pictures[][5] = {"avc1", "avc3", "hvc1", "hev1", "av01"};
    static const char sounds[][5] = {"mp4a", "Opus", ".mp3", "ac-3", "ec-3", "fLaC"};
    if (stsd.len < FULL_HEADER + 4 + HEADER || iso_u32(stsd.p + FULL_HEADER) != 1 ||
        iso_u32(stsd.p + FULL_HEADER + 4) > stsd.len - FULL_HEADER - 4)
        return false;
    const uint8_t *type = stsd.p + FULL_HEADER + 4 + 4;
    const char(*list)[5] = video ? pictures : sounds;
    size_t n = video ? sizeof(pictures) / 5 : sizeof(sounds) / 5;
    for (size_t i = 0; i < n; i++)
        if (memcmp(type, list[i], 4) == 0)
            return true;
    return false;
}

/* Random access points that are no sync samples (10.4, 10.5) are told by groups of two kinds. */
static bool plain_group(struct iso_span box)
{
    return box.len >= FULL_HEADER + 4 && memcmp(box.p + FULL_HEADER, "rap ", 4) != 0 &&
           memcmp(box.p + FULL_HEADER, "sync", 4) != 0;
}

static bool read_stbl(struct iso_span in, struct iso_track *track, struct iso_tables *t)
{
    enum { STSD, STTS, CTTS, STSS, STSC, STSZ, STZ2, STCO, CO64, SDTP, SGPD, SBGP };
    static const struct expected list[] = {
        [STSD] = {"stsd", ONCE}, [STTS] = {"stts", ONCE}, [CTTS] = {"ctts", ONCE},
        [STSS] = {"stss", ONCE}, [STSC] = {"stsc", ONCE}, [STSZ] = {"stsz", ONCE},
        [STZ2] = {"stz2", ONCE}, [STCO] = {"stco", ONCE}, [CO64] = {"co64", ONCE},
        [SDTP] = {"sdtp", ONCE}, [SGPD] = {"sgpd", MANY}, [SBGP] = {"sbgp", MANY},
        {"cslg", SKIP},          {"free", SKIP},          {"skip", SKIP},
    };
    enum { ROWS = sizeof(list) / sizeof(*list) };
    struct iso_span found[ROWS] = {{0}};
    struct box box;
    int more;
    while ((more = next_box(&in, list, ROWS, &box)) > 0) {
        if (list[box.row].rule == MANY && !plain_group(box.span))
            return false;
        if (list[box.row].rule == ONCE && found[box.row].p)
            return false;
        found[box.row] = box.span;
    }
    /* stts stays to be seen by others: it tells the frame rate and the length. */
    static const unsigned hidden[] = {CTTS, STSS, STSC, STSZ, STZ2, STCO, CO64, SDTP};
    for (unsigned i = 0; i < sizeof(hidden) / sizeof(*hidden); i++)
        if (!hide(track, found[hidden[i]]))
            return false;
    t->wide_chunks = found[CO64].p;
    struct iso_span chunks = t->wide_chunks ? found[CO64] : found[STCO];
    return more == 0 && found[STSD].p && found[STTS].p && found[STSC].p && chunks.p &&
           !(found[CO64].p && found[STCO].p) && plain_description(found[STSD], track->video) &&
           read_table(found[STTS], FULL_HEADER, 8, &t->stts) &&
           read_table(found[CTTS], FULL_HEADER, 8, &t->ctts) &&
           read_table(found[STSS], FULL_HEADER, 4, &t->stss) &&
           read_table(found[STSC], FULL_HEADER, 12, &t->stsc) &&
           read_table(chunks, FULL_HEADER, t->wide_chunks ? 8 : 4, &t->chunks) &&
           read_sizes(found[STSZ], found[STZ2], t) &&
           /* a table of sync samples that is empty, or of sound, has meanings of its own */
           (!found[STSS].p || (track->video && t->stss.rows));
}

/* 8.7.2: the samples lie in this file, which each reference says by having no more to say. */
static bool own_data(struct iso_span dinf)
{
    static const struct expected in_dinf[] = {{"dref", ONCE}};
    static const struct expected in_dref[] = {{"url ", ONCE}, {"alis", ONCE}};
    struct iso_span dref[1] = {{0}}, entry[2] = {{0}};
    if (!gather(dinf, in_dinf, 1, dref) || dref[0].len < FULL_HEADER + 4 ||
        iso_u32(dref[0].p + FULL_HEADER) != 1)
        return false;
    struct iso_span rest = {dref[0].p + FULL_HEADER + 4, dref[0].len - FULL_HEADER - 4};
    if (!gather(rest, in_dref, 2, entry) || (entry[0].p != NULL) == (entry[1].p != NULL))
        return false;
    struct iso_span one = entry[0].p ? entry[0] : entry[1];
    return one.len == FULL_HEADER && (one.p[3] & 1);
}

static bool read_minf(struct iso_span in, struct iso_track *track, struct iso_tables *t)
{
    enum { STBL, DINF };
    static const struct expected list[] = {
        [STBL] = {"stbl", ONCE}, [DINF] = {"dinf", ONCE}, {"vmhd", SKIP}, {"smhd", SKIP},
        {"hdlr", SKIP},          {"free", SKIP},          {"skip", SKIP},
    };
    enum { ROWS = sizeof(list) / sizeof(*list) };
    struct iso_span found[ROWS] = {{0}};
    return gather(in, list, ROWS, found) && found[STBL].p &&
           (!found[DINF].p || own_data(found[DINF])) && read_stbl(found[STBL], track, t);
}

/* The number at `narrow` in version 0 of a box, at `wide` in version 1; 0: there is none. */
static uint32_t versioned(struct iso_span box, size_t narrow, size_t wide)
{
    if (!box.p || box.len == 0 || box.p[0] > 1)
        return 0;
    size_t at = box.p[0] ? wide : narrow;
    return box.len >= at + 4 ? iso_u32(box.p + at) : 0;
}

/* 8.6.6: nothing, an edit, or an empty edit and an edit. */
static bool read_edits(struct iso_span edts, struct iso_track *track, struct iso_tables *t)
{
    static const struct expected list[] = {{"elst", ONCE}};
    struct iso_span elst = {0};
    if (!edts.p)
        return true;
    if (!hide(track, edts) || !gather(edts, list, 1, &elst))
        return false;
    if (!elst.p)
        return true;
    if (elst.len < FULL_HEADER + 4 || elst.p[0] > 1)
        return false;
    bool wide = elst.p[0] == 1;
    size_t row = wide ? 20 : 12;
    uint32_t n = iso_u32(elst.p + FULL_HEADER);
    if (n == 0 || n > EDITS_MAX || elst.len != FULL_HEADER + 4 + n * row)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *p = elst.p + FULL_HEADER + 4 + i * row;
        uint64_t duration = wide ? iso_u64(p) : iso_u32(p);
        int64_t start = wide ? (int64_t)iso_u64(p + 8) : (int32_t)iso_u32(p + 4);
        bool empty = i + 1 < n;
        if (duration == 0 || duration > UINT64_C(1) << 48 || start > INT64_C(1) << 48 ||
            (empty ? start != -1 : start < 0) || iso_u32(p + row - 4) != UINT32_C(1) << 16)
            return false;
        *(empty ? &t->edit_empty : &t->edit_duration) = (int64_t)duration;
        t->edit_start = start;
    }
    t->edited = true;
    return true;
}

/* The track, unless it is neither video nor sound (*other). */
static bool read_track(struct iso_span in, struct iso_track *track, struct iso_tables *t,
                       bool *other)
{
    enum { TKHD, MDIA, EDTS };
    enum { MDHD, HDLR, MINF };
    static const struct expected in_trak[] = {
        [TKHD] = {"tkhd", ONCE}, [MDIA] = {"mdia", ONCE}, [EDTS] = {"edts", ONCE},
        {"tref", SKIP},          {"udta", SKIP},          {"meta", SKIP},
        {"tapt", SKIP},          {"free", SKIP},          {"skip", SKIP},
    };
    static const struct expected in_mdia[] = {
        [MDHD] = {"mdhd", ONCE}, [HDLR] = {"hdlr", ONCE}, [MINF] = {"minf", ONCE},
        {"elng", SKIP},          {"free", SKIP},          {"skip", SKIP},
    };
    enum { TRAK_ROWS = sizeof(in_trak) / sizeof(*in_trak) };
    enum { MDIA_ROWS = sizeof(in_mdia) / sizeof(*in_mdia) };
    struct iso_span trak[TRAK_ROWS] = {{0}}, mdia[MDIA_ROWS] = {{0}};
    if (!gather(in, in_trak, TRAK_ROWS, trak) || !trak[TKHD].p || !trak[MDIA].p ||
        !gather(trak[MDIA], in_mdia, MDIA_ROWS, mdia) || !mdia[MINF].p || mdia[HDLR].len < 12)
        return false;
    const uint8_t *handler = mdia[HDLR].p + 8;
    track->video = memcmp(handler, "vide", 4) == 0;
    *other = !track->video && memcmp(handler, "soun", 4) != 0;
    if (*other)
        return true;
    track->id = versioned(trak[TKHD], 12, 20);
    track->timescale = versioned(mdia[MDHD], 12, 20);
    return track->id && track->id <= INT32_MAX && track->timescale &&
           track->timescale <= INT32_MAX && read_edits(trak[EDTS], track, t) &&
           read_minf(mdia[MINF], track, t);
}

struct limits {
    uint64_t file_size, max_samples;
};

static enum sg_error add_track(struct iso_movie *m, struct iso_span trak, uint32_t movie_scale,
                               const struct limits *limits)
{
    struct iso_track track = {0};
    struct iso_tables tables = {.movie_scale = movie_scale};
    bool other = false;
    if (movie_scale == 0 || movie_scale > INT32_MAX || m->n_tracks == TRACKS_MAX ||
        !read_track(trak, &track, &tables, &other))
        return SG_ERR_UNSUPPORTED_MEDIA;
    if (other)
        return SG_OK;
    if (tables.n == 0 || tables.n > limits->max_samples)
        return SG_ERR_UNSUPPORTED_MEDIA;
    for (uint32_t i = 0; i < m->n_tracks; i++)
        if (m->tracks[i].id == track.id)
            return SG_ERR_UNSUPPORTED_MEDIA;
    enum sg_error err = iso_samples_make(&tables, limits->file_size, &track);
    if (err)
        return err;
    struct iso_track *grown = realloc(m->tracks, (m->n_tracks + 1) * sizeof(*grown));
    if (!grown) {
        free(track.samples);
        return SG_ERR_NO_MEMORY;
    }
    m->tracks = grown;
    m->tracks[m->n_tracks++] = track;
    return SG_OK;
}

enum sg_error iso_movie_read(const uint8_t *moov, size_t len, uint64_t file_size,
                             uint64_t max_samples, struct iso_movie **out)
{
    enum { MVHD, TRAK };
    static const struct expected list[] = {
        [MVHD] = {"mvhd", ONCE}, [TRAK] = {"trak", MANY}, {"udta", SKIP}, {"meta", SKIP},
        {"iods", SKIP},          {"free", SKIP},          {"skip", SKIP},
    };
    struct limits limits = {file_size, max_samples};
    struct iso_span rest = {moov, len};
    struct box box;
    uint32_t movie_scale = 0;
    int more = 0;
    struct iso_movie *m = calloc(1, sizeof(*m));
    enum sg_error err = m ? SG_OK : SG_ERR_NO_MEMORY;
    while (!err && (more = next_box(&rest, list, sizeof(list) / sizeof(*list), &box)) > 0)
        if (box.row == MVHD && movie_scale)
            err = SG_ERR_UNSUPPORTED_MEDIA;
        else if (box.row == MVHD)
            movie_scale = versioned(box.span, 12, 20);
        else if (box.row == TRAK)
            err = add_track(m, box.span, movie_scale, &limits);
    if (!err && (more < 0 || m->n_tracks == 0))
        err = SG_ERR_UNSUPPORTED_MEDIA;
    if (err)
        iso_movie_free(&m);
    else
        *out = m;
    return err;
}

void iso_movie_hide(const struct iso_movie *movie, uint8_t *moov)
{
    for (uint32_t i = 0; i < movie->n_tracks; i++)
        for (unsigned k = 0; k < movie->tracks[i].n_hidden; k++) {
            const uint8_t *payload = movie->tracks[i].hidden[k].p;
            memcpy(moov + (payload - moov) - 4, "free", 4);
        }
}

void iso_movie_free(struct iso_movie **movie)
{
    struct iso_movie *m = *movie;
    *movie = NULL;
    if (!m)
        return;
    for (uint32_t i = 0; i < m->n_tracks; i++)
        free(m->tracks[i].samples);
    free(m->tracks);
    free(m);
}
