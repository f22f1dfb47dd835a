/* See live.h. Each finished segment makes a new view, so that readers need no lock but to find it:
 * an hour of film is 600 segments, and a view of them is made in microseconds. */
#include "streamgate/layers/live.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/fs.h"

enum { TRACKS_MAX = 32 };

struct live_file {
    _Atomic uint32_t refs;
    int fd;
};

struct live_track {
    struct live_file *file;
    char file_id[SG_FILE_ID_SIZE];
    enum sg_file_role role;
    struct sg_track track; /* segments: ours */
    struct sg_segment *segments;
    uint64_t *offsets;
    size_t cap;
    uint64_t init_bytes;
};

struct sg_live_view {
    _Atomic uint32_t refs;
    struct sg_presentation *shows;
    uint32_t n;
    struct {
        struct live_file *file;
        uint64_t init_bytes;
        uint64_t *offsets; /* of each segment */
    } files[TRACKS_MAX];   /* as in shows->files */
};

struct sg_live_making {
    struct sg_live *live;
    struct sg_live_making *next; /* guarded by the lock, like view */
    struct sg_live_view *view;   /* NULL: nothing to play */
    char asset_id[SG_FILE_ID_SIZE];
    bool picture; /* one is to come */
    uint32_t n;
    struct live_track tracks[TRACKS_MAX];
};

struct sg_live {
    pthread_mutex_t lock; /* guards makings, and of each next and view */
    struct sg_live_making *makings;
};

static void file_unref(struct live_file *f)
{
    if (f == NULL || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
        return;
    close(f->fd);
    free(f);
}

static struct live_file *file_ref(struct live_file *f)
{
    atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    return f;
}

enum sg_error sg_live_create(struct sg_live **out)
{
    struct sg_live *l = calloc(1, sizeof *l);
    if (l == NULL)
        return SG_ERR_NO_MEMORY;
    pthread_mutex_init(&l->lock, NULL);
    *out = l;
    return SG_OK;
}

void sg_live_destroy(struct sg_live **l)
{
    if (l == NULL || *l == NULL)
        return;
    pthread_mutex_destroy(&(*l)->lock);
    free(*l);
    *l = NULL;
}

/* ---- views ---- */

void sg_live_view_unref(struct sg_live_view *v)
{
    if (v == NULL || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < v->n; i++) {
        file_unref(v->files[i].file);
        free(v->files[i].offsets);
    }
    sg_presentation_unref(v->shows);
    free(v);
}

/* An index like that of a finished file, by way of its encoded form: one place builds indexes. */
static enum sg_error index_of(const struct live_track *t, struct sg_media_index **out)
{
    struct sg_track track = t->track;
    const struct sg_segment *last = &t->segments[track.n_segments - 1];
    track.segments = t->segments;
    track.is_default = track.is_default || track.kind == SG_TRACK_AUDIO;
    track.start = t->segments[0].start;
    track.duration = (uint64_t)(last->start - track.start) + last->duration;
    struct sg_media_index index = {
        .content_type = "video/mp4",
        .format = "mp4",
        .duration_ms = track.duration * 1000 / track.timescale,
        .fmp4 = true,
        .independent = true,
        .n_tracks = 1,
        .tracks = &track,
    };
    void *bytes = NULL;
    size_t len = 0;
    enum sg_error err = sg_media_index_encode(&index, &bytes, &len);
    if (err == SG_OK)
        err = sg_media_index_decode(bytes, len, out);
    free(bytes);
    return err;
}

static enum sg_error view_add(struct sg_live_view *v, const struct live_track *t,
                              struct sg_media_file *f)
{
    size_t n = t->track.n_segments;
    uint64_t *offsets = malloc(n * sizeof *offsets);
    enum sg_error err = offsets != NULL ? index_of(t, &f->index) : SG_ERR_NO_MEMORY;
    if (err != SG_OK) {
        free(offsets);
        return err;
    }
    memcpy(offsets, t->offsets, n * sizeof *offsets);
    memcpy(f->id, t->file_id, sizeof f->id);
    f->role = t->role;
    v->files[v->n].file = file_ref(t->file);
    v->files[v->n].init_bytes = t->init_bytes;
    v->files[v->n++].offsets = offsets;
    return SG_OK;
}

static enum sg_error view_create(const struct sg_live_making *m, struct sg_live_view **out)
{
    struct sg_media_file files[TRACKS_MAX] = {0};
    struct sg_presentation_params params = {.files = files, .live = true};
    struct sg_live_view *v = calloc(1, sizeof *v);
    enum sg_error err = v != NULL ? SG_OK : SG_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < m->n && err == SG_OK; i++) {
        if (m->tracks[i].track.n_segments == 0)
            continue;
        err = view_add(v, &m->tracks[i], &files[params.n_files]);
        params.n_files += err == SG_OK;
    }
    if (err == SG_OK) {
        atomic_init(&v->refs, 1);
        err = sg_presentation_create(&params, &v->shows);
        params.n_files = 0; /* taken in any case */
    }
    if (err == SG_OK) {
        *out = v;
        return SG_OK;
    }
    for (uint32_t i = 0; i < params.n_files; i++)
        sg_media_index_unref(files[i].index);
    if (v != NULL) {
        atomic_init(&v->refs, 1);
        sg_live_view_unref(v);
    }
    return err;
}

/* Sound is encoded before the first picture has passed the encoder; who got it alone would play on
 * without a picture. */
static bool worth_showing(const struct sg_live_making *m)
{
    for (uint32_t i = 0; i < m->n; i++)
        if (m->tracks[i].track.n_segments > 0 &&
            (!m->picture || m->tracks[i].track.kind == SG_TRACK_VIDEO))
            return true;
    return false;
}

static enum sg_error renew(struct sg_live_making *m)
{
    struct sg_live_view *v = NULL;
    if (!worth_showing(m))
        return SG_OK;
    enum sg_error err = view_create(m, &v);
    if (err != SG_OK)
        return err;
    pthread_mutex_lock(&m->live->lock);
    struct sg_live_view *old = m->view;
    m->view = v;
    pthread_mutex_unlock(&m->live->lock);
    sg_live_view_unref(old);
    return SG_OK;
}

/* ---- the encode's side ---- */

static struct sg_live_making *find(struct sg_live *l, const char *asset_id)
{
    for (struct sg_live_making *m = l->makings; m != NULL; m = m->next)
        if (strcmp(m->asset_id, asset_id) == 0)
            return m;
    return NULL;
}

enum sg_error sg_live_begin(struct sg_live *l, const char *asset_id, bool picture,
                            struct sg_live_making **out)
{
    struct sg_live_making *m = calloc(1, sizeof *m);
    if (m == NULL)
        return SG_ERR_NO_MEMORY;
    m->live = l;
    m->picture = picture;
    memcpy(m->asset_id, asset_id, strnlen(asset_id, sizeof m->asset_id - 1));
    pthread_mutex_lock(&l->lock);
    bool taken = find(l, m->asset_id) != NULL;
    if (!taken) {
        m->next = l->makings;
        l->makings = m;
    }
    pthread_mutex_unlock(&l->lock);
    if (taken) {
        free(m);
        return SG_ERR_EXISTS;
    }
    *out = m;
    return SG_OK;
}

enum sg_error sg_live_add_track(struct sg_live_making *m, const struct sg_live_track *t)
{
    if (m->n == TRACKS_MAX || strlen(t->file_id) >= SG_FILE_ID_SIZE)
        return SG_ERR_TOO_LARGE;
    struct live_file *f = malloc(sizeof *f);
    if (f == NULL)
        return SG_ERR_NO_MEMORY;
    atomic_init(&f->refs, 1);
    f->fd = fcntl(t->fd, F_DUPFD_CLOEXEC, 3);
    if (f->fd < 0) {
        free(f);
        return SG_ERR_NO_DESCRIPTORS;
    }
    struct live_track *n = &m->tracks[m->n++];
    n->file = f;
    n->role = t->role;
    n->track = *t->track;
    n->track.segments = NULL;
    n->track.stream_tb_num = 1;
    n->track.stream_tb_den = n->track.timescale;
    n->track.n_segments = n->track.samples = 0;
    n->track.bytes = 0;
    n->init_bytes = t->init_bytes;
    memcpy(n->file_id, t->file_id, strlen(t->file_id) + 1);
    return SG_OK;
}

static enum sg_error make_room(struct live_track *t)
{
    if (t->track.n_segments < t->cap)
        return SG_OK;
    size_t cap = t->cap != 0 ? 2 * t->cap : 64;
    struct sg_segment *segments = realloc(t->segments, cap * sizeof *segments);
    if (segments != NULL)
        t->segments = segments;
    uint64_t *offsets = realloc(t->offsets, cap * sizeof *offsets);
    if (offsets != NULL)
        t->offsets = offsets;
    if (segments == NULL || offsets == NULL)
        return SG_ERR_NO_MEMORY;
    t->cap = cap;
    return SG_OK;
}

enum sg_error sg_live_add_segment(struct sg_live_making *m, uint32_t track,
                                  const struct sg_segment *segment, uint64_t offset)
{
    if (track >= m->n)
        return SG_ERR_INVALID;
    struct live_track *t = &m->tracks[track];
    enum sg_error err = make_room(t);
    if (err != SG_OK)
        return err;
    t->segments[t->track.n_segments] = *segment;
    t->segments[t->track.n_segments].seek_dts = segment->start;
    t->offsets[t->track.n_segments++] = offset;
    t->track.samples += segment->samples;
    t->track.bytes += segment->bytes_fmp4;
    return renew(m);
}

void sg_live_end(struct sg_live_making **making)
{
    struct sg_live_making *m = *making;
    *making = NULL;
    if (m == NULL)
        return;
    struct sg_live *l = m->live;
    pthread_mutex_lock(&l->lock);
    struct sg_live_making **at = &l->makings;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    pthread_mutex_unlock(&l->lock);
    sg_live_view_unref(m->view);
    for (uint32_t i = 0; i < m->n; i++) {
        file_unref(m->tracks[i].file);
        free(m->tracks[i].segments);
        free(m->tracks[i].offsets);
    }
    free(m);
}

/* ---- the readers' side ---- */

struct sg_live_view *sg_live_get(struct sg_live *l, const char *asset_id)
{
    pthread_mutex_lock(&l->lock);
    struct sg_live_making *m = find(l, asset_id);
    struct sg_live_view *v = m != NULL ? m->view : NULL;
    if (v != NULL)
        atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&l->lock);
    return v;
}

const struct sg_presentation *sg_live_shows(const struct sg_live_view *v)
{
    return v->shows;
}

static enum sg_error read_piece(int fd, uint64_t offset, uint64_t len, struct sg_buf **out)
{
    void *bytes = malloc(len > 0 ? (size_t)len : 1);
    if (bytes == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = sg_fs_pread_all(fd, bytes, (size_t)len, offset);
    if (err == SG_OK)
        err = sg_buf_create_take(bytes, (size_t)len, out);
    if (err != SG_OK)
        free(bytes);
    return err;
}

enum sg_error sg_live_read(const struct sg_live_view *v, const struct sg_offer *offer,
                           uint32_t number, struct sg_buf **out)
{
    uint32_t i = 0;
    while (i < v->n && &v->shows->files[i] != offer->file)
        i++;
    if (i == v->n)
        return SG_ERR_NOT_FOUND;
    if (number == SG_LIVE_INIT)
        return read_piece(v->files[i].file->fd, 0, v->files[i].init_bytes, out);
    if (number >= offer->track->n_segments)
        return SG_ERR_NOT_FOUND;
    return read_piece(v->files[i].file->fd, v->files[i].offsets[number],
                      offer->track->segments[number].bytes_fmp4, out);
}
