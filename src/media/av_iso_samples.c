/* See iso_movie.h: samples from tables, then what the edit list leaves of them. Nothing is added up
 * that was not bounded first: a track has at most 2^27 samples, of durations below 2^31 and
 * composition offsets below 2^29. */
#include <stdlib.h>
#include <sys/mman.h>

#include "iso_tables.h"

enum { SAMPLES_MAX = 1 << 27, REORDER_MAX = 16 };

/* Composition offsets beyond this are taken for damage by libavformat. */
static const int32_t OFFSET_MAX = 1 << 28;

/* Every run counts something, and all together count the samples. */
static bool runs_fit(const struct iso_table *table, uint32_t samples)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < table->rows; i++) {
        uint32_t count = iso_u32(table->p + (size_t)i * 8);
        sum += count;
        if (count == 0 || sum > samples)
            return false;
    }
    return sum == samples;
}

/* 8.6.1.2. A duration of nothing would give two samples one decode time. */
static bool durations_fit(const struct iso_tables *t)
{
    if (!runs_fit(&t->stts, t->n))
        return false;
    for (uint32_t i = 0; i < t->stts.rows; i++) {
        uint32_t duration = iso_u32(t->stts.p + (size_t)i * 8 + 4);
        if (duration == 0 || duration > INT32_MAX)
            return false;
    }
    return true;
}

/* 8.6.1.3; out: by how much negative offsets shift the decode times, for which the last two rows do
 * not count in libavformat. */
static bool offsets_fit(const struct iso_tables *t, int32_t *shift)
{
    *shift = 0;
    if (t->ctts.rows == 0)
        return true;
    if (!runs_fit(&t->ctts, t->n))
        return false;
    for (uint32_t i = 0; i < t->ctts.rows; i++) {
        int32_t offset = (int32_t)iso_u32(t->ctts.p + (size_t)i * 8 + 4);
        if (offset < -OFFSET_MAX || offset > OFFSET_MAX)
            return false;
        if (i + 2 < t->ctts.rows && -offset > *shift)
            *shift = -offset;
    }
    return true;
}

/* 8.7.4: rows begin at the first chunk and rise; one description. */
static bool chunks_fit(const struct iso_tables *t)
{
    uint32_t before = 0;
    for (uint32_t i = 0; i < t->stsc.rows; i++) {
        const uint8_t *row = t->stsc.p + (size_t)i * 12;
        uint32_t first = iso_u32(row), count = iso_u32(row + 4);
        if ((i == 0 && first != 1) || first <= before || first > t->chunks.rows || count == 0 ||
            iso_u32(row + 8) != 1)
            return false;
        before = first;
    }
    return t->stsc.rows > 0;
}

/* 8.6.2: rising, and the first sample is one. */
static bool keys_fit(const struct iso_tables *t)
{
    uint32_t before = 0;
    for (uint32_t i = 0; i < t->stss.rows; i++) {
        uint32_t number = iso_u32(t->stss.p + (size_t)i * 4);
        if ((i == 0 && number != 1) || number <= before || number > t->n)
            return false;
        before = number;
    }
    return true;
}

static inline uint32_t size_at(const struct iso_tables *t, uint32_t i)
{
    const uint8_t *p = t->sizes.p;
    if (t->sample_size)
        return t->sample_size;
    switch (t->size_bits) {
    case 32:
        return iso_u32(p + (size_t)i * 4);
    case 16:
        return iso_u16(p + (size_t)i * 2);
    case 8:
        return p[i];
    default:
        return i % 2 ? p[i / 2] & 15 : p[i / 2] >> 4;
    }
}

/* The columns are filled one after the other: each loop is short enough for registers. Tables were
 * found to fit, so that every sample gets everything. */

static void set_decode_times(const struct iso_tables *t, int64_t dts, struct iso_sample *out)
{
    for (uint32_t row = 0; row < t->stts.rows; row++) {
        const uint8_t *p = t->stts.p + (size_t)row * 8;
        uint32_t count = iso_u32(p), duration = iso_u32(p + 4);
        for (; count; count--, dts += duration)
            out++->dts = dts;
    }
}

static void set_shifts(const struct iso_tables *t, int32_t shift, struct iso_sample *out)
{
    for (uint32_t i = 0; t->ctts.rows == 0 && i < t->n; i++)
        out[i].shift = shift;
    for (uint32_t row = 0; row < t->ctts.rows; row++) {
        const uint8_t *p = t->ctts.p + (size_t)row * 8;
        uint32_t count = iso_u32(p);
        int32_t offset = (int32_t)iso_u32(p + 4) + shift;
        for (; count; count--)
            out++->shift = offset;
    }
}

/* After the sizes. */
static void set_keys(const struct iso_tables *t, struct iso_sample *out)
{
    for (uint32_t i = 0; t->stss.rows == 0 && i < t->n; i++)
        out[i].size |= ISO_KEY;
    for (uint32_t row = 0; row < t->stss.rows; row++)
        out[iso_u32(t->stss.p + (size_t)row * 4) - 1].size |= ISO_KEY;
}

/* Samples [i, end), which lie next to each other from pos on. */
static bool set_chunk(const struct iso_tables *t, uint32_t i, uint32_t end, uint64_t pos,
                      uint64_t room, struct iso_sample *out)
{
    for (; i < end; i++) {
        uint32_t size = size_at(t, i);
        if (size == 0 || size > ISO_SIZE_MAX || size > room)
            return false;
        out[i].pos = (int64_t)pos;
        out[i].size = size;
        pos += size;
        room -= size;
    }
    return true;
}

static bool set_places(const struct iso_tables *t, uint64_t file_size, struct iso_sample *out)
{
    const uint8_t *stsc = t->stsc.p, *stsc_end = stsc + (size_t)t->stsc.rows * 12;
    uint32_t count = 0, made = 0, next = 1;
    if (file_size > INT64_MAX)
        file_size = INT64_MAX;
    for (uint32_t i = 0; i < t->chunks.rows; i++) {
        if (i + 1 == next) {
            count = iso_u32(stsc + 4);
            stsc += 12;
            next = stsc < stsc_end ? iso_u32(stsc) : 0;
        }
        uint64_t pos = t->wide_chunks ? iso_u64(t->chunks.p + (size_t)i * 8)
                                      : iso_u32(t->chunks.p + (size_t)i * 4);
        if (count > t->n - made || pos > file_size ||
            !set_chunk(t, made, made + count, pos, file_size - pos, out))
            return false;
        made += count;
    }
    return made == t->n;
}

static bool make_all(const struct iso_tables *t, uint64_t file_size, int32_t shift,
                     struct iso_track *track)
{
    struct iso_sample *samples = track->samples;
    if (!set_places(t, file_size, samples))
        return false;
    for (uint32_t i = 0; i < t->n; i++)
        track->media_bytes += samples[i].size;
    set_keys(t, samples);
    set_decode_times(t, -(int64_t)shift, samples);
    set_shifts(t, shift, samples);
    return true;
}

/* a * b / c to the nearest, halves up; every factor is at most 2^48. */
static bool rescale(int64_t a, uint32_t b, uint32_t c, int64_t *out)
{
    __int128 scaled = ((__int128)a * b + c / 2) / c;
    if (scaled > INT64_C(1) << 56)
        return false;
    *out = (int64_t)scaled;
    return true;
}

struct edit {
    int64_t empty, start, duration; /* in the track's scale */
};

/* The last sample at or before time t in decode order, `shift` taken off; 0 when all are later. */
static uint32_t search(const struct iso_track *track, int64_t t)
{
    uint32_t low = 0, high = track->n;
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        if (track->samples[mid].dts <= t)
            low = mid;
        else
            high = mid;
    }
    return low;
}

/* Where decoding for the edit begins. Video: a sync sample shown at or before its start. Sound: a
 * second before. */
static uint32_t decode_from(const struct iso_track *track, const struct edit *edit, int32_t shift)
{
    const struct iso_sample *s = track->samples;
    if (!track->video) {
        int64_t t = edit->start - track->timescale;
        return search(track, t > s[0].dts ? t : s[0].dts);
    }
    int64_t t = edit->start - shift;
    uint32_t i = search(track, t);
    for (; i > 0; i--)
        if ((s[i].size & ISO_KEY) && (!track->reorders || s[i].dts + (s[i].shift - shift) <= t))
            return i;
    return 0;
}

/* What is kept of the samples while the edit is laid over them. */
struct editing {
    struct iso_track *track;
    struct edit edit;
    int32_t shift;
    int64_t clock; /* decode time of the sample next kept */
    int64_t least; /* presentation time of the edit's, by libavformat's reckoning; negative: none */
    uint32_t kept;
    bool begun, key_after;
};

/* The edit's first sample is kept next: those before it lead up to it. */
static void begin(struct editing *e, int64_t dts)
{
    struct iso_sample *s = e->track->samples;
    for (uint32_t i = 0; i < e->kept; i++)
        s[i].dts += e->clock - dts;
    e->begun = true;
}

/* Keeps sample i; true when it is the last. */
static bool keep(struct editing *e, uint32_t i, int64_t duration)
{
    struct iso_sample s = e->track->samples[i];
    const struct edit *edit = &e->edit;
    int64_t end = edit->start + edit->duration, shown = s.dts + s.shift;
    bool inside = shown >= edit->start && shown < end;
    /* A sound that the edit's start cuts is heard, in part: it starts earlier by what is cut off.
     */
    bool cut = !e->track->video && shown < edit->start && shown + duration > edit->start;
    if (cut)
        e->clock -= edit->start - shown;
    if ((inside || cut) && !e->begun)
        begin(e, s.dts);
    if (inside && (e->least < 0 || e->clock + s.shift < e->least))
        e->least = e->clock + s.shift;
    if (!inside && !cut)
        s.size |= ISO_DISCARD;
    if (e->begun) {
        s.dts = e->clock;
        e->clock += duration;
    }
    e->track->samples[e->kept++] = s;
    if (shown + duration < end || (e->track->video && !(s.size & ISO_KEY)))
        return false;
    /* Pictures that follow the first key frame after the edit may be shown before it. */
    if (e->track->video && e->track->reorders && !e->key_after) {
        e->key_after = true;
        return false;
    }
    return true;
}

/* Keeps samples from i on that lie well inside, where nothing changes but their place on the
 * timeline; returns the first that does not. */
static uint32_t keep_inside(struct editing *e, uint32_t i)
{
    struct iso_sample *samples = e->track->samples, *to = samples + e->kept;
    int64_t start = e->edit.start, end = start + e->edit.duration;
    int64_t moved = e->clock - samples[i].dts, least = e->least < 0 ? INT64_MAX : e->least;
    uint32_t n = e->track->n, first = i;
    for (; i + 1 < n; i++) {
        const struct iso_sample *s = &samples[i];
        int64_t shown = s->dts + s->shift;
        if (shown < start || shown + (s[1].dts - s->dts) >= end)
            break;
        if (shown + moved < least)
            least = shown + moved;
        *to = *s;
        to++->dts += moved;
    }
    if (i > first) {
        e->kept += i - first;
        e->clock = samples[i].dts + moved;
        e->least = least;
    }
    return i;
}

static bool apply_edit(const struct iso_tables *t, int32_t shift, struct iso_track *track)
{
    struct editing e = {.track = track, .shift = shift, .least = -1};
    if (!rescale(t->edit_empty, track->timescale, t->movie_scale, &e.edit.empty) ||
        !rescale(t->edit_duration, track->timescale, t->movie_scale, &e.edit.duration) ||
        e.edit.duration == 0)
        return false;
    e.edit.start = t->edit_start;
    e.clock = e.edit.empty - shift;
    uint32_t n = track->n;
    for (uint32_t i = decode_from(track, &e.edit, shift); i < n; i++) {
        if (e.begun)
            i = keep_inside(&e, i);
        const struct iso_sample *s = &track->samples[i];
        int64_t duration = i + 1 < n ? s[1].dts - s->dts : e.edit.duration;
        if (keep(&e, i, duration))
            break;
    }
    track->n = e.kept;
    int64_t early = e.least - e.edit.empty;
    for (uint32_t i = 0; track->video && early > 0 && i < track->n; i++)
        track->samples[i].dts -= early;
    track->edit_end = e.edit.empty + e.edit.duration;
    return e.begun;
}

/* By insertion into the last REORDER_MAX. */
int iso_reorder_depth(const struct iso_track *track)
{
    int64_t last[REORDER_MAX + 1];
    int depth = 0;
    for (unsigned i = 0; i <= REORDER_MAX; i++)
        last[i] = INT64_MIN;
    unsigned at = 0;
    for (uint32_t i = 0; i < track->n; i++) {
        unsigned j = at, end = at = at == REORDER_MAX ? 0 : at + 1;
        int swaps = 0;
        last[j] = track->samples[i].dts + track->samples[i].shift;
        while (j != end) {
            unsigned before = j ? j - 1 : REORDER_MAX;
            if (last[j] >= last[before])
                break;
            int64_t swap = last[j];
            last[j] = last[before];
            last[before] = swap;
            swaps++;
            j = before;
        }
        if (swaps > depth)
            depth = swaps;
    }
    return depth;
}

void *iso_alloc(size_t size)
{
    static const size_t huge = 2 << 20;
    if (size < huge || size > SIZE_MAX - huge)
        return malloc(size ? size : 1);
    void *p = aligned_alloc(huge, (size + huge - 1) / huge * huge);
    if (p)
        (void)madvise(p, size / huge * huge, MADV_HUGEPAGE); /* what fails to help does no harm */
    return p;
}

enum sg_error iso_samples_make(const struct iso_tables *t, uint64_t file_size,
                               struct iso_track *track)
{
    int32_t shift = 0;
    bool one_tick = !track->video && t->stts.rows == 1 && iso_u32(t->stts.p + 4) == 1;
    if (t->n == 0 || t->n > SAMPLES_MAX || one_tick || (!track->video && t->ctts.rows) ||
        !durations_fit(t) || !offsets_fit(t, &shift) || !chunks_fit(t) || !keys_fit(t))
        return SG_ERR_UNSUPPORTED_MEDIA;
    struct iso_sample *samples = iso_alloc((size_t)t->n * sizeof(*samples));
    if (!samples)
        return SG_ERR_NO_MEMORY;
    track->samples = samples;
    track->n = t->n;
    track->reorders = t->ctts.rows;
    track->edit_end = INT64_MAX;
    if (!make_all(t, file_size, shift, track) || (t->edited && !apply_edit(t, shift, track))) {
        free(samples);
        track->samples = NULL;
        return SG_ERR_UNSUPPORTED_MEDIA;
    }
    return SG_OK;
}
