/* Codec of the media index. The encoded form comes from the process that parses untrusted media and
 * is believed in nothing: after a decode every count, order and sum the playlists and the renderer
 * rely on holds. One allocation holds the whole index.
 *
 * Layout, little-endian: "SGMI" u16 version, u16 flags; content_type, format (u8 length + text);
 * u64 duration_ms; u32 n_tracks; then each track's fields in the order of put_track, its u32
 * n_segments and 44 bytes a segment. After all tracks, for each: u8 copyable, and u32 key_bytes a
 * segment. Nothing may follow. Databases hold older versions, which are the same but for the flags
 * and for what comes after the tracks. */
#include "streamgate/media/index.h"

#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"

#include "timeline.h"
#include "wire.h"

enum {
    INDEX_VERSION = 4,
    INDEX_VERSION_OLDEST = 1, /* knew neither whether segments are independent nor of texts */
    INDEX_VERSION_TEXTS = 3,  /* the first that knows of texts */
    INDEX_VERSION_KEYS = 4,   /* the first that knows key frames' sizes and what can be copied */
    TRACKS_MAX = 256,
    SEGMENT_BYTES = 44,
    KEY_BYTES = 4,
    TRACK_BYTES_MAX = 512,
    HEADER_BYTES_MAX = 128,
    DIMENSION_MAX = 1 << 20,
};

static const uint8_t MAGIC[4] = {'S', 'G', 'M', 'I'};
/* Far beyond any real value, and small enough that sums and shifts by the timeline offset cannot
 * overflow. */
static const int64_t TIME_MAX = INT64_C(1) << 56;

static void put_segment(struct wire_out *w, const struct sg_segment *s)
{
    wire_put_i64(w, s->start);
    wire_put_u64(w, s->duration);
    wire_put_i64(w, s->seek_dts);
    wire_put_u64(w, s->bytes_fmp4);
    wire_put_u64(w, s->bytes_ts);
    wire_put_u32(w, s->samples);
}

static void put_track(struct wire_out *w, const struct sg_track *t)
{
    wire_put_u8(w, (uint8_t)t->kind);
    wire_put_u8(w, (uint8_t)t->codec);
    wire_put_u32(w, t->stream);
    wire_put_text(w, t->name);
    wire_put_text(w, t->codec_name);
    wire_put_text(w, t->codecs);
    wire_put_text(w, t->language);
    wire_put_text(w, t->title);
    wire_put_u8(w, t->is_default);
    wire_put_u32(w, t->timescale);
    wire_put_u32(w, t->stream_tb_num);
    wire_put_u32(w, t->stream_tb_den);
    wire_put_u32(w, t->width);
    wire_put_u32(w, t->height);
    wire_put_u32(w, t->display_width);
    wire_put_u32(w, t->display_height);
    wire_put_u32(w, t->sar_num);
    wire_put_u32(w, t->sar_den);
    wire_put_u16(w, t->rotation);
    wire_put_u32(w, t->fps_num);
    wire_put_u32(w, t->fps_den);
    wire_put_u32(w, t->sample_rate);
    wire_put_u16(w, t->channels);
    wire_put_i64(w, t->start);
    wire_put_u64(w, t->duration);
    wire_put_u64(w, t->bytes);
    wire_put_u32(w, t->samples);
    wire_put_u32(w, t->n_segments);
    for (uint32_t i = 0; i < t->n_segments; i++)
        put_segment(w, &t->segments[i]);
}

static void put_keys(struct wire_out *w, const struct sg_track *t)
{
    wire_put_u8(w, t->copyable);
    for (uint32_t i = 0; i < t->n_segments; i++)
        wire_put_u32(w, t->segments[i].key_bytes);
}

enum sg_error sg_media_index_encode(const struct sg_media_index *index, void **out, size_t *out_len)
{
    size_t cap = HEADER_BYTES_MAX;
    for (uint32_t i = 0; i < index->n_tracks; i++)
        cap += TRACK_BYTES_MAX + (size_t)index->tracks[i].n_segments * (SEGMENT_BYTES + KEY_BYTES);
    struct wire_out w = {.ptr = malloc(cap), .cap = cap};
    if (!w.ptr)
        return SG_ERR_NO_MEMORY;
    for (size_t i = 0; i < sizeof(MAGIC); i++)
        wire_put_u8(&w, MAGIC[i]);
    wire_put_u16(&w, INDEX_VERSION);
    wire_put_u16(&w, (uint16_t)(index->fmp4 | index->ts << 1 | index->needs_walk << 2 |
                                index->independent << 3 | index->texts << 4));
    wire_put_text(&w, index->content_type);
    wire_put_text(&w, index->format);
    wire_put_u64(&w, index->duration_ms);
    wire_put_u32(&w, index->n_tracks);
    for (uint32_t i = 0; i < index->n_tracks; i++)
        put_track(&w, &index->tracks[i]);
    for (uint32_t i = 0; i < index->n_tracks; i++)
        put_keys(&w, &index->tracks[i]);
    if (w.failed) {
        free(w.ptr);
        return SG_ERR_INTERNAL;
    }
    *out = w.ptr;
    *out_len = w.len;
    return SG_OK;
}

static void get_segment(struct wire_in *r, struct sg_segment *s)
{
    s->start = wire_get_i64(r);
    s->duration = wire_get_u64(r);
    s->seek_dts = wire_get_i64(r);
    s->bytes_fmp4 = wire_get_u64(r);
    s->bytes_ts = wire_get_u64(r);
    s->samples = wire_get_u32(r);
}

static void get_track(struct wire_in *r, struct sg_track *t)
{
    uint8_t kind = wire_get_u8(r), codec = wire_get_u8(r);
    if (kind > SG_TRACK_AUDIO || codec >= SG_CODEC_COUNT)
        r->failed = true;
    t->kind = (enum sg_track_kind)kind;
    t->codec = (enum sg_codec)codec;
    t->stream = wire_get_u32(r);
    wire_get_text(r, t->name, sizeof(t->name));
    wire_get_text(r, t->codec_name, sizeof(t->codec_name));
    wire_get_text(r, t->codecs, sizeof(t->codecs));
    wire_get_text(r, t->language, sizeof(t->language));
    wire_get_text(r, t->title, sizeof(t->title));
    t->is_default = wire_get_bool(r);
    t->timescale = wire_get_u32(r);
    t->stream_tb_num = wire_get_u32(r);
    t->stream_tb_den = wire_get_u32(r);
    t->width = wire_get_u32(r);
    t->height = wire_get_u32(r);
    t->display_width = wire_get_u32(r);
    t->display_height = wire_get_u32(r);
    t->sar_num = wire_get_u32(r);
    t->sar_den = wire_get_u32(r);
    t->rotation = wire_get_u16(r);
    t->fps_num = wire_get_u32(r);
    t->fps_den = wire_get_u32(r);
    t->sample_rate = wire_get_u32(r);
    t->channels = wire_get_u16(r);
    t->start = wire_get_i64(r);
    t->duration = wire_get_u64(r);
    t->bytes = wire_get_u64(r);
    t->samples = wire_get_u32(r);
    t->n_segments = wire_get_u32(r);
}

/* Non-empty text of the given characters beside letters and digits. */
static bool is_token(const char *s, const char *also)
{
    if (!*s)
        return false;
    for (; *s; s++) {
        bool alnum =
            (*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');
        if (!alnum && !strchr(also, *s))
            return false;
    }
    return true;
}

static bool in_range(uint64_t v, uint64_t min, uint64_t max)
{
    return v >= min && v <= max;
}

static bool is_time(int64_t t)
{
    return t > -TIME_MAX && t < TIME_MAX;
}

static bool segments_hold(const struct sg_track *t)
{
    uint64_t duration = 0, samples = 0, bytes = 0;
    for (uint32_t i = 0; i < t->n_segments; i++) {
        const struct sg_segment *s = &t->segments[i];
        if (!is_time(s->start) || !is_time(s->seek_dts) ||
            !in_range(s->duration, 1, (uint64_t)TIME_MAX))
            return false;
        if (s->samples == 0 || !in_range(s->bytes_fmp4, 1, UINT32_MAX) || s->bytes_ts > UINT32_MAX)
            return false;
        if (s->key_bytes >= s->bytes_fmp4 || (s->key_bytes && t->kind != SG_TRACK_VIDEO))
            return false;
        if (i &&
            (s->start != s[-1].start + (int64_t)s[-1].duration || s->seek_dts <= s[-1].seek_dts))
            return false;
        duration += s->duration;
        samples += s->samples;
        bytes += s->bytes_fmp4;
        if (duration > (uint64_t)TIME_MAX)
            return false;
    }
    return t->n_segments > 0 && t->segments[0].start == t->start && duration == t->duration &&
           samples == t->samples && t->bytes <= bytes;
}

static bool video_holds(const struct sg_track *t)
{
    return in_range(t->width, 1, DIMENSION_MAX) && in_range(t->height, 1, DIMENSION_MAX) &&
           in_range(t->display_width, 1, DIMENSION_MAX) &&
           in_range(t->display_height, 1, DIMENSION_MAX) && t->sar_num > 0 && t->sar_den > 0 &&
           t->fps_num > 0 && t->fps_den > 0 && t->rotation % 90 == 0 && t->rotation < 360;
}

/* Of a track that is only described, what players would call it may not be known. */
static bool track_holds(const struct sg_track *t, uint32_t number, bool packaged)
{
    if (!is_token(t->name, "-") || !is_token(t->codec_name, "_-") || !is_token(t->language, "-"))
        return false;
    if ((packaged || t->codecs[0]) && !is_token(t->codecs, ".-"))
        return false;
    if (!sg_str_is_utf8(t->title, strlen(t->title)) ||
        sg_str_has_control(t->title, strlen(t->title)))
        return false;
    if (!t->timescale || !t->stream_tb_num || !t->stream_tb_den)
        return false;
    if (t->kind == SG_TRACK_VIDEO ? number != 0 || !video_holds(t)
                                  : !t->sample_rate || !t->channels)
        return false;
    if (packaged)
        return segments_hold(t);
    return t->n_segments == 0 && is_time(t->start) && t->duration <= (uint64_t)TIME_MAX;
}

static bool index_holds(const struct sg_media_index *index)
{
    unsigned defaults = 0;
    bool packaged = sg_media_index_packaged(index);
    for (uint32_t i = 0; i < index->n_tracks; i++) {
        const struct sg_track *t = &index->tracks[i];
        if (!track_holds(t, i, packaged))
            return false;
        defaults += t->kind == SG_TRACK_AUDIO && t->is_default;
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(t->name, index->tracks[k].name) == 0 || t->stream == index->tracks[k].stream)
                return false;
    }
    bool audio = index->n_tracks > 1 || index->tracks[0].kind == SG_TRACK_AUDIO;
    return is_token(index->content_type, "/-.+") && is_token(index->format, "_-") &&
           defaults == audio && index->duration_ms > 0 && index->duration_ms < (uint64_t)TIME_MAX;
}

/* Track headers first, to know how many segments there are in all: the bytes left bound every count
 * before it is believed. */
static bool skim_tracks(struct wire_in r, uint32_t n_tracks, bool keys, size_t *out_segments)
{
    size_t total = 0;
    for (uint32_t i = 0; i < n_tracks; i++) {
        struct sg_track t;
        get_track(&r, &t);
        if (r.failed || t.n_segments > r.len / SEGMENT_BYTES)
            return false;
        total += t.n_segments;
        r.ptr += (size_t)t.n_segments * SEGMENT_BYTES;
        r.len -= (size_t)t.n_segments * SEGMENT_BYTES;
    }
    *out_segments = total;
    return r.len == (keys ? n_tracks + total * KEY_BYTES : 0);
}

static bool get_header(struct wire_in *r, struct sg_media_index *index, bool *keys)
{
    for (size_t i = 0; i < sizeof(MAGIC); i++)
        if (wire_get_u8(r) != MAGIC[i])
            return false;
    uint16_t version = wire_get_u16(r), flags = wire_get_u16(r);
    if (version < INDEX_VERSION_OLDEST || version > INDEX_VERSION)
        return false;
    *keys = version >= INDEX_VERSION_KEYS;
    index->fmp4 = flags & 1;
    index->ts = flags >> 1 & 1;
    index->needs_walk = flags >> 2 & 1;
    index->independent = flags >> 3 & 1;
    index->texts = flags >> 4 & 1;
    wire_get_text(r, index->content_type, sizeof(index->content_type));
    wire_get_text(r, index->format, sizeof(index->format));
    index->duration_ms = wire_get_u64(r);
    index->n_tracks = wire_get_u32(r);
    return !r->failed &&
           flags < 4 << (version < INDEX_VERSION_TEXTS ? version : INDEX_VERSION_TEXTS) &&
           index->n_tracks > 0 && index->n_tracks <= TRACKS_MAX;
}

/* Old versions offered turned pictures as MPEG-TS, where players do not turn them. */
static void drop_turned_ts(struct sg_media_index *index, struct sg_segment *segments)
{
    const struct sg_track *video = sg_media_index_video(index);
    if (!index->ts || !video || !video->rotation)
        return;
    index->ts = false;
    for (uint32_t i = 0; i < index->n_tracks; i++)
        for (uint32_t k = 0; k < index->tracks[i].n_segments; k++)
            segments++->bytes_ts = 0;
}

/* What comes after the tracks. Old versions were of films that are packaged, whose AAC and Opus can
 * be copied; of their video it is not known. */
static void get_keys(struct wire_in *r, bool keys, struct sg_media_index *index,
                     struct sg_track *tracks, struct sg_segment *segments)
{
    for (uint32_t i = 0; i < index->n_tracks; i++) {
        struct sg_track *t = &tracks[i];
        t->copyable =
            keys ? wire_get_bool(r) : t->codec == SG_CODEC_AAC || t->codec == SG_CODEC_OPUS;
        for (uint32_t k = 0; k < t->n_segments; k++, segments++) {
            segments->key_bytes = keys ? wire_get_u32(r) : 0;
            index->iframes |= segments->key_bytes > 0;
        }
    }
    index->iframes = index->iframes && index->fmp4;
}

enum sg_error sg_media_index_decode(const void *bytes, size_t len, struct sg_media_index **out)
{
    struct wire_in r = {.ptr = bytes, .len = len};
    struct sg_media_index head = {0};
    size_t n_segments;
    bool keys = false;
    if (!get_header(&r, &head, &keys) || !skim_tracks(r, head.n_tracks, keys, &n_segments))
        return SG_ERR_MEDIA_WORKER;
    size_t size = sizeof(head) + head.n_tracks * sizeof(struct sg_track) +
                  n_segments * sizeof(struct sg_segment);
    struct sg_media_index *index = calloc(1, size);
    if (!index)
        return SG_ERR_NO_MEMORY;
    struct sg_track *tracks = (struct sg_track *)(index + 1);
    struct sg_segment *segments = (struct sg_segment *)(tracks + head.n_tracks);
    memcpy(index->content_type, head.content_type, sizeof(head.content_type));
    memcpy(index->format, head.format, sizeof(head.format));
    index->duration_ms = head.duration_ms;
    index->fmp4 = head.fmp4;
    index->ts = head.ts;
    index->needs_walk = head.needs_walk;
    index->independent = head.independent;
    index->texts = head.texts;
    index->n_tracks = head.n_tracks;
    index->tracks = tracks;
    atomic_init(&index->refs, 1);
    for (uint32_t i = 0; i < index->n_tracks; i++) {
        get_track(&r, &tracks[i]);
        tracks[i].segments = segments;
        for (uint32_t k = 0; k < tracks[i].n_segments; k++)
            get_segment(&r, segments++);
    }
    get_keys(&r, keys, index, tracks, (struct sg_segment *)(tracks + head.n_tracks));
    drop_turned_ts(index, (struct sg_segment *)(tracks + head.n_tracks));
    if (r.failed || !index_holds(index)) {
        free(index);
        return SG_ERR_MEDIA_WORKER;
    }
    *out = index;
    return SG_OK;
}

struct sg_media_index *sg_media_index_ref(struct sg_media_index *index)
{
    atomic_fetch_add_explicit(&index->refs, 1, memory_order_relaxed);
    return index;
}

void sg_media_index_unref(struct sg_media_index *index)
{
    if (index && atomic_fetch_sub_explicit(&index->refs, 1, memory_order_acq_rel) == 1)
        free(index);
}

size_t sg_media_index_weight(const struct sg_media_index *index)
{
    size_t weight = sizeof(*index) + index->n_tracks * sizeof(struct sg_track);
    for (uint32_t i = 0; i < index->n_tracks; i++)
        weight += index->tracks[i].n_segments * sizeof(struct sg_segment);
    return weight;
}

const struct sg_track *sg_media_index_track(const struct sg_media_index *index, const char *name)
{
    for (uint32_t i = 0; i < index->n_tracks; i++)
        if (strcmp(index->tracks[i].name, name) == 0)
            return &index->tracks[i];
    return NULL;
}

const struct sg_track *sg_media_index_video(const struct sg_media_index *index)
{
    return index->n_tracks && index->tracks[0].kind == SG_TRACK_VIDEO ? &index->tracks[0] : NULL;
}

const struct sg_track *sg_media_index_audio(const struct sg_media_index *index)
{
    for (uint32_t i = 0; i < index->n_tracks; i++)
        if (index->tracks[i].kind == SG_TRACK_AUDIO && index->tracks[i].is_default)
            return &index->tracks[i];
    return NULL;
}

const struct sg_track *sg_media_index_main(const struct sg_media_index *index)
{
    const struct sg_track *video = sg_media_index_video(index);
    return video ? video : sg_media_index_audio(index);
}

uint32_t sg_media_index_ts_segments(const struct sg_media_index *index)
{
    const struct sg_track *main = sg_media_index_main(index), *audio = sg_media_index_audio(index);
    if (main->kind == SG_TRACK_AUDIO || !audio)
        return main->n_segments;
    return main->n_segments + audio->n_segments - timeline_first_tail(main, audio);
}
