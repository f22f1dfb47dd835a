/* Metric cells. Each thread owns a shard: one mapping with a cell for every number of every series,
 * written only by that thread (relaxed load, add, store) and read by anyone. A series' place in a
 * shard is fixed when it is defined and the same in all shards, so an update is: thread pointer,
 * offset, add. The mapping has room for all series there can ever be (address space only; pages
 * come with use), so a series defined late finds its cells in every running thread.
 *
 * lock guards the list of shards, the definitions (labels, sizes) and `retired`, which keeps what
 * ended threads counted. Readers of offsets need no lock: the table of a metric is replaced whole,
 * and an old one lives until sg_metrics_reset. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "metrics_private.h"

#define CELLS_MAX ((uint32_t)1 << 20) /* 8 MiB of address space a thread */
#define SERIES_MAX 4096
/* Room every metric's series 0 has from the start: that of the largest type. */
#define CELLS_UNLABELLED 20

typedef _Atomic uint64_t cell;

const struct metric_row sg_metric_rows[SG_METRIC_COUNT] = {
#define SG_METRIC(id, name_, type_, labels_, help_)                                                \
    [SG_METRIC_##id] = {.name = name_, .type = METRIC_##type_, .labels = labels_, .help = help_},
#include "streamgate/base/metrics.def"
#undef SG_METRIC
};

struct shard {
    struct shard *next;
    cell *cells;
};

struct offsets {
    struct offsets *older; /* replaced, kept for threads that may still read it */
    uint32_t room;
    uint32_t at[];
};

struct metric_state {
    _Atomic uint32_t n_series;       /* at least 1; published after the offset */
    struct offsets *_Atomic offsets; /* NULL: series 0 alone, at its fixed place */
    char **labels;                   /* n_labels of them; guarded by lock */
    uint32_t n_labels, labels_room;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shard *shards;
static uint32_t n_cells = SG_METRIC_COUNT * CELLS_UNLABELLED;
static struct metric_state states[SG_METRIC_COUNT];

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;
static bool have_thread_key;
static cell
    *_Atomic retired; /* also takes the updates of a thread that got no shard, by atomic addition */
static cell *_Atomic pinned; /* numbers set as a whole: bits of a double, and the touched mark */
static _Thread_local cell *mine;

const uint64_t sg_metric_bounds_ns[BUCKETS_S - 1] = {
    UINT64_C(500000),     UINT64_C(1000000),     UINT64_C(2500000),     UINT64_C(5000000),
    UINT64_C(10000000),   UINT64_C(25000000),    UINT64_C(50000000),    UINT64_C(100000000),
    UINT64_C(250000000),  UINT64_C(500000000),   UINT64_C(1000000000),  UINT64_C(2500000000),
    UINT64_C(5000000000), UINT64_C(10000000000), UINT64_C(30000000000), UINT64_C(60000000000)};

static cell *map_cells(void)
{
    void *p = mmap(NULL, CELLS_MAX * sizeof(cell), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p != MAP_FAILED ? p : NULL;
}

static void unmap_cells(cell *cells)
{
    if (cells != NULL)
        munmap(cells, CELLS_MAX * sizeof(cell));
}

static uint64_t load(const cell *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

/* The end of a thread: what it counted goes to `retired`. */
static void retire_thread(void *arg)
{
    struct shard *shard = arg;
    pthread_mutex_lock(&lock);
    struct shard **p = &shards;
    while (*p != NULL && *p != shard)
        p = &(*p)->next;
    if (*p == shard)
        *p = shard->next;
    cell *into = atomic_load(&retired);
    for (uint32_t i = 0; into != NULL && i < n_cells; i++) {
        uint64_t n = load(&shard->cells[i]);
        if (n != 0)
            atomic_fetch_add_explicit(&into[i], n, memory_order_relaxed);
    }
    pthread_mutex_unlock(&lock);
    mine = NULL;
    unmap_cells(shard->cells);
    free(shard);
}

static void make_key(void)
{
    have_thread_key = pthread_key_create(&thread_key, retire_thread) == 0;
}

/* The mapping behind slot, made by whoever comes first. */
static cell *shared_cells(cell *_Atomic *slot)
{
    cell *cells = atomic_load_explicit(slot, memory_order_acquire);
    if (cells != NULL)
        return cells;
    cell *made = map_cells();
    if (made != NULL && !atomic_compare_exchange_strong(slot, &cells, made)) {
        unmap_cells(made);
        return cells;
    }
    return made;
}

/* First update of a thread. NULL: no memory for a shard, or the thread is past its destructors. */
static cell *make_shard(void)
{
    pthread_once(&once, make_key);
    if (!have_thread_key || shared_cells(&retired) == NULL)
        return NULL;
    struct shard *shard = malloc(sizeof(*shard));
    cell *cells = map_cells();
    if (shard == NULL || cells == NULL || pthread_setspecific(thread_key, shard) != 0) {
        unmap_cells(cells);
        free(shard);
        return NULL;
    }
    shard->cells = cells;
    pthread_mutex_lock(&lock);
    shard->next = shards;
    shards = shard;
    pthread_mutex_unlock(&lock);
    mine = cells;
    return cells;
}

/* Where the series' cells start; CELLS_MAX for a number that was never given out. */
static uint32_t offset_of(enum sg_metric m, uint32_t series)
{
    const struct metric_state *state = &states[m];
    uint32_t n = atomic_load_explicit(&state->n_series, memory_order_acquire);
    if (series == 0)
        return (uint32_t)m * CELLS_UNLABELLED;
    if (series >= n)
        return CELLS_MAX;
    return atomic_load_explicit(&state->offsets, memory_order_acquire)->at[series];
}

static void add_shared(uint32_t at, uint64_t n)
{
    cell *cells = shared_cells(&retired);
    if (cells != NULL)
        atomic_fetch_add_explicit(&cells[at], n, memory_order_relaxed);
}

static inline void add_cell(uint32_t at, uint64_t n)
{
    cell *cells = mine;
    if (__builtin_expect(cells == NULL, 0)) {
        cells = make_shard();
        if (cells == NULL) {
            add_shared(at, n);
            return;
        }
    }
    atomic_store_explicit(&cells[at], load(&cells[at]) + n, memory_order_relaxed);
}

void sg_metric_add(enum sg_metric m, uint32_t series, uint64_t n)
{
    uint32_t at = offset_of(m, series);
    if (at == CELLS_MAX)
        return;
    add_cell(at, n);
}

void sg_metric_gauge_add(enum sg_metric m, uint32_t series, int64_t delta)
{
    uint32_t at = offset_of(m, series);
    if (at == CELLS_MAX)
        return;
    add_cell(at, (uint64_t)delta); /* modulo 2^64: the sum over threads comes out right */
    add_cell(at + 1, 1);
}

static void pin(enum sg_metric m, uint32_t series, double value)
{
    uint32_t at = offset_of(m, series);
    cell *cells = at < CELLS_MAX ? shared_cells(&pinned) : NULL;
    if (cells == NULL)
        return;
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    atomic_store_explicit(&cells[at], bits, memory_order_relaxed);
    atomic_store_explicit(&cells[at + 1], 1, memory_order_relaxed);
}

void sg_metric_gauge_set(enum sg_metric m, uint32_t series, double value)
{
    pin(m, series, value);
}

void sg_metric_counter_set(enum sg_metric m, uint32_t series, double total)
{
    pin(m, series, total);
}

/* The first bound that is not below ns: four comparisons. */
static uint32_t bucket_of_ns(uint64_t ns)
{
    uint32_t low = 0;
    for (uint32_t step = 8; step > 0; step /= 2) {
        if (ns > sg_metric_bounds_ns[low + step - 1])
            low += step;
    }
    return low + (low == BUCKETS_S - 2 && ns > sg_metric_bounds_ns[low]);
}

static uint32_t bucket_of_bytes(uint64_t bytes)
{
    if (bytes <= (UINT64_C(1) << BYTES_SHIFT_FIRST))
        return 0;
    uint32_t bits = 64 - (uint32_t)__builtin_clzll(bytes - 1); /* bytes <= 2^bits */
    uint32_t bucket = (bits - BYTES_SHIFT_FIRST + 1) / 2;
    return bucket < BUCKETS_B - 1 ? bucket : BUCKETS_B - 1;
}

void sg_metric_observe_ns(enum sg_metric m, uint32_t series, uint64_t ns)
{
    uint32_t at = offset_of(m, series);
    if (at == CELLS_MAX)
        return;
    add_cell(at + bucket_of_ns(ns), 1);
    add_cell(at + BUCKETS_S, ns);
}

void sg_metric_observe_bytes(enum sg_metric m, uint32_t series, uint64_t bytes)
{
    uint32_t at = offset_of(m, series);
    if (at == CELLS_MAX)
        return;
    add_cell(at + bucket_of_bytes(bytes), 1);
    add_cell(at + BUCKETS_B, bytes);
}

static uint32_t cells_of(enum metric_type type)
{
    switch (type) {
    case METRIC_HISTOGRAM_S:
        return BUCKETS_S + 1;
    case METRIC_HISTOGRAM_B:
        return BUCKETS_B + 1;
    default:
        return CELLS_NUMBER;
    }
}

static bool is_label_of(const struct metric_row *row, const char *name, size_t len)
{
    for (const char *p = row->labels; *p != '\0';) {
        size_t n = strcspn(p, ",");
        if (n == len && memcmp(p, name, len) == 0)
            return true;
        p += n + (p[n] == ',');
    }
    return false;
}

/* name="value",... with names the row knows and values escaped as the exposition format wants them.
 */
static bool are_labels_good(const struct metric_row *row, const char *p)
{
    if (!sg_str_is_utf8(p, strlen(p)) || sg_str_has_control(p, strlen(p)))
        return false;
    while (*p != '\0') {
        size_t n = strcspn(p, "=");
        if (!is_label_of(row, p, n) || p[n] != '=' || p[n + 1] != '"')
            return false;
        for (p += n + 2; *p != '"'; p++) {
            if (*p == '\\')
                p++;
            if (*p == '\0' || (p[-1] == '\\' && strchr("\\\"n", *p) == NULL))
                return false;
        }
        p++;
        if (*p == ',' && p[1] != '\0')
            p++;
        else if (*p != '\0')
            return false;
    }
    return true;
}

/* Under lock: room for one more series in the metric's tables. */
static bool make_room(struct metric_state *state)
{
    if (state->n_labels < state->labels_room)
        return true;
    uint32_t room = state->labels_room > 0 ? state->labels_room * 2 : 8;
    char **labels = realloc(state->labels, room * sizeof(labels[0]));
    if (labels == NULL)
        return false;
    state->labels = labels;
    struct offsets *o = malloc(sizeof(*o) + room * sizeof(o->at[0]));
    if (o == NULL)
        return false;
    struct offsets *old = atomic_load(&state->offsets);
    *o = (struct offsets){.older = old, .room = room};
    if (old != NULL)
        memcpy(o->at, old->at, old->room * sizeof(o->at[0]));
    atomic_store_explicit(&state->offsets, o, memory_order_release);
    state->labels_room = room;
    return true;
}

/* Under lock. */
static enum sg_error define_locked(enum sg_metric m, const char *labels, uint32_t *out_series)
{
    struct metric_state *state = &states[m];
    for (uint32_t i = 0; i < state->n_labels; i++) {
        if (strcmp(state->labels[i], labels) == 0) {
            *out_series = i;
            return SG_OK;
        }
    }
    uint32_t cells = cells_of(sg_metric_rows[m].type);
    if (state->n_labels == SERIES_MAX || n_cells > CELLS_MAX - cells)
        return SG_ERR_INVALID;
    char *copy = strdup(labels);
    if (copy == NULL || !make_room(state)) {
        free(copy);
        return SG_ERR_NO_MEMORY;
    }
    uint32_t series = state->n_labels++;
    state->labels[series] = copy;
    struct offsets *offsets = atomic_load(&state->offsets);
    if (series == 0) {
        offsets->at[0] = (uint32_t)m * CELLS_UNLABELLED; /* the place it always had */
    } else {
        offsets->at[series] = n_cells;
        n_cells += cells;
    }
    atomic_store_explicit(&state->n_series, series + 1, memory_order_release);
    *out_series = series;
    return SG_OK;
}

enum sg_error sg_metric_define(enum sg_metric m, const char *labels, uint32_t *out_series)
{
    if ((unsigned)m >= SG_METRIC_COUNT || !are_labels_good(&sg_metric_rows[m], labels))
        return SG_ERR_INVALID;
    pthread_mutex_lock(&lock);
    enum sg_error err = define_locked(m, labels, out_series);
    pthread_mutex_unlock(&lock);
    return err;
}

void sg_metrics_reset(void)
{
    pthread_once(&once, make_key);
    pthread_mutex_lock(&lock);
    while (shards != NULL) {
        struct shard *next = shards->next;
        unmap_cells(shards->cells);
        free(shards);
        shards = next;
    }
    unmap_cells(atomic_exchange(&retired, NULL));
    unmap_cells(atomic_exchange(&pinned, NULL));
    for (size_t m = 0; m < SG_METRIC_COUNT; m++) {
        struct metric_state *state = &states[m];
        for (uint32_t i = 0; i < state->n_labels; i++)
            free(state->labels[i]);
        free(state->labels);
        struct offsets *o = atomic_load(&state->offsets);
        while (o != NULL) {
            struct offsets *older = o->older;
            free(o);
            o = older;
        }
        *state = (struct metric_state){0};
    }
    n_cells = SG_METRIC_COUNT * CELLS_UNLABELLED;
    mine = NULL;
    pthread_mutex_unlock(&lock);
    if (have_thread_key)
        pthread_setspecific(thread_key, NULL);
}

static void add_all(uint64_t *sums, const cell *cells)
{
    for (uint32_t i = 0; cells != NULL && i < n_cells; i++)
        sums[i] += load(&cells[i]);
}

/* Under lock. */
static enum sg_error copy_definitions(struct metric_snapshot *s)
{
    uint32_t total = 0;
    for (size_t m = 0; m < SG_METRIC_COUNT; m++)
        total += states[m].n_labels > 0 ? states[m].n_labels : 1;
    s->series = calloc(total, sizeof(s->series[0]));
    if (s->series == NULL)
        return SG_ERR_NO_MEMORY;
    uint32_t n = 0;
    for (uint32_t m = 0; m < SG_METRIC_COUNT; m++) {
        s->first[m] = n;
        uint32_t count = states[m].n_labels > 0 ? states[m].n_labels : 1;
        for (uint32_t i = 0; i < count; i++) {
            s->series[n].offset = offset_of((enum sg_metric)m, i);
            s->series[n].labels = strdup(states[m].n_labels > 0 ? states[m].labels[i] : "");
            s->first[m + 1] = ++n; /* so that a half-made copy is freed whole */
            if (s->series[n - 1].labels == NULL)
                return SG_ERR_NO_MEMORY;
        }
    }
    return SG_OK;
}

enum sg_error sg_metric_snapshot_take(struct metric_snapshot *out)
{
    struct metric_snapshot s = {0};
    enum sg_error err = SG_ERR_NO_MEMORY;
    pthread_mutex_lock(&lock);
    s.n_cells = n_cells;
    s.cells = calloc(n_cells, sizeof(s.cells[0]));
    s.pinned = calloc(n_cells, sizeof(s.pinned[0]));
    if (s.cells != NULL && s.pinned != NULL) {
        for (const struct shard *shard = shards; shard != NULL; shard = shard->next)
            add_all(s.cells, shard->cells);
        add_all(s.cells, atomic_load(&retired));
        add_all(s.pinned, atomic_load(&pinned));
        err = copy_definitions(&s);
    }
    pthread_mutex_unlock(&lock);
    if (err != SG_OK) {
        sg_metric_snapshot_free(&s);
        return err;
    }
    *out = s;
    return SG_OK;
}

/* Merges one series, or all of them, without a snapshot. */
static void read_series(enum sg_metric m, uint32_t series, struct metric_value *out)
{
    enum metric_type type = sg_metric_rows[m].type;
    struct metric_value sum = {0};
    pthread_mutex_lock(&lock);
    uint32_t count = states[m].n_labels > 0 ? states[m].n_labels : 1;
    uint32_t first = series == SG_METRIC_ALL ? 0 : series;
    uint32_t end = series == SG_METRIC_ALL ? count : first < count ? first + 1 : first;
    const cell *old = atomic_load(&retired), *fixed_cells = atomic_load(&pinned);
    if (end == first) /* an unknown series reads as one never touched */
        sg_metric_read_cells(type, (const uint64_t[CELLS_UNLABELLED]){0}, (const uint64_t[2]){0},
                             &sum);
    for (uint32_t i = first; i < end; i++) {
        uint32_t at = offset_of(m, i);
        uint64_t sums[CELLS_UNLABELLED] = {0}, fixed[2] = {0};
        struct metric_value one;
        for (uint32_t c = 0; c < cells_of(type); c++) {
            for (const struct shard *shard = shards; shard != NULL; shard = shard->next)
                sums[c] += load(&shard->cells[at + c]);
            if (old != NULL)
                sums[c] += load(&old[at + c]);
        }
        for (uint32_t c = 0; c < 2 && fixed_cells != NULL; c++)
            fixed[c] = load(&fixed_cells[at + c]);
        sg_metric_read_cells(type, sums, fixed, &one);
        sum.value += one.value;
        if (i == first) {
            sum.histogram = one.histogram;
            continue;
        }
        sum.histogram.count += one.histogram.count;
        sum.histogram.sum += one.histogram.sum;
        for (unsigned b = 0; b < one.histogram.n; b++)
            sum.histogram.buckets[b] += one.histogram.buckets[b];
    }
    pthread_mutex_unlock(&lock);
    *out = sum;
}

double sg_metric_read(enum sg_metric m, uint32_t series)
{
    struct metric_value value;
    read_series(m, series, &value);
    return value.value;
}

void sg_metric_read_histogram(enum sg_metric m, uint32_t series, struct sg_histogram_view *out)
{
    struct metric_value value;
    read_series(m, series, &value);
    *out = value.histogram;
}
