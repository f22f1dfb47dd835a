/* Damaged films through the real processes: each mutant is probed by a pool, and one that is taken
 * is made into small renditions by a task, as the daemon does it. This program stands for the
 * daemon: it must live, nothing may take longer than its limits say, no process may be left.
 *
 * usage: fault_mutants SEED COUNT FOLDER FILM...
 *        fault_mutants replay 0 FOLDER FILM...
 * Mutant n of a seed is the same in every run. Those whose process died are kept in FOLDER. Prints
 * one JSON object. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/fs.h"
#include "streamgate/base/log.h"
#include "streamgate/base/str.h"
#include "streamgate/layers/renditions.h"
#include "streamgate/media/media.h"
#include "streamgate/media/transcode.h"

enum {
    FILMS_MAX = 64,
    THREADS = 4, /* each waits for its process most of the time */
    EDITS_MAX = 12,
    HEAD = 4096, /* where most of what is parsed lies */
    PROBE_MS = 20000,
    TRANSCODE_MS = 30000,
    STALL_MS = 20000,
    GRACE_MS = 15000, /* a process may take 10 s to start */
};

static const char *const worker_argv[] = {"fault_mutants", "media-worker", NULL};

struct film {
    uint8_t *bytes;
    size_t len;
};

struct tally {
    uint64_t probe[SG_ERROR_COUNT], transcode[SG_ERROR_COUNT], unreadable, late;
    uint64_t probe_max_ms, transcode_max_ms;
    char why[SG_MEDIA_MESSAGE_MAX]; /* of the last transcoding */
};

static struct {
    struct film films[FILMS_MAX];
    unsigned n_films;
    uint64_t seed, count;
    const char *folder;
    struct sg_media_pool *pool;
    struct sg_media_limits limits;
    _Atomic uint64_t next;
    pthread_mutex_t lock; /* guards all */
    struct tally all;
} b = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- mutants ---- */

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static size_t below(uint64_t *state, size_t n)
{
    return n > 0 ? (size_t)(draw(state) % n) : 0;
}

/* Half of the edits meet one of the ends, as headers and indexes lie there. */
static size_t place(uint64_t *state, size_t len)
{
    size_t near = len < HEAD ? len : HEAD;
    switch (draw(state) % 4) {
    case 0:
        return below(state, near);
    case 1:
        return len - 1 - below(state, near);
    default:
        return below(state, len);
    }
}

static void edit(uint64_t *state, struct film *m)
{
    static const uint32_t telling[] = {0,          1,          0x7f,       0x80,
                                       0xff,       0x7fff,     0xffff,     0x7fffffff,
                                       0x80000000, 0xffffffff, 0xfffffffe, 0x10000};
    if (m->len < 16)
        return;
    size_t at = place(state, m->len), room = m->len - at, n = 1 + below(state, 64);
    size_t from = below(state, m->len);
    n = n < room ? n : room;
    switch (draw(state) % 8) {
    case 0:
        m->bytes[at] ^= (uint8_t)(1u << below(state, 8));
        break;
    case 1:
        m->bytes[at] = (uint8_t)draw(state);
        break;
    case 2: { /* a number, either way round */
        uint32_t value = telling[below(state, SG_ARRAY_LEN(telling))];
        bool big = draw(state) % 2;
        for (size_t i = 0; i < 4 && i < room; i++)
            m->bytes[at + i] = (uint8_t)(value >> (big ? 24 - 8 * i : 8 * i));
        break;
    }
    case 3:
        memset(m->bytes + at, (int)(draw(state) % 2 * 0xff), n);
        break;
    case 4: /* something is missing */
        memmove(m->bytes + at, m->bytes + at + n, room - n);
        m->len -= n;
        break;
    case 5: /* something comes twice */
        memmove(m->bytes + at, m->bytes + from, m->len - from < n ? m->len - from : n);
        break;
    case 6: { /* a piece of another film */
        const struct film *other = &b.films[below(state, b.n_films)];
        size_t begin = below(state, other->len), has = other->len - begin;
        memcpy(m->bytes + at, other->bytes + begin, has < n ? has : n);
        break;
    }
    default:
        if (draw(state) % 4 == 0)
            m->len = 16 + below(state, m->len - 16);
        break;
    }
}

static bool make_mutant(uint64_t number, struct film *out)
{
    uint64_t state = b.seed ^ (number * UINT64_C(0xd1342543de82ef95));
    const struct film *film = &b.films[below(&state, b.n_films)];
    *out = (struct film){.bytes = malloc(film->len), .len = film->len};
    if (out->bytes == NULL)
        return false;
    memcpy(out->bytes, film->bytes, film->len);
    for (size_t n = 1 + below(&state, EDITS_MAX); n > 0; n--)
        edit(&state, out);
    return true;
}

/* ---- what is done with one ---- */

static int memory_file(const struct film *content)
{
    int fd = memfd_create("mutant", MFD_CLOEXEC);
    if (fd >= 0 && content != NULL && sg_fs_write_all(fd, content->bytes, content->len) != SG_OK) {
        close(fd);
        return -1;
    }
    return fd;
}

static void keep(uint64_t number, const char *step, const struct film *m)
{
    char path[512];
    int n = snprintf(path, sizeof path, "%s/mutant-%llu-%llu-%s", b.folder,
                     (unsigned long long)b.seed, (unsigned long long)number, step);
    FILE *file = n > 0 && (size_t)n < sizeof path ? fopen(path, "wb") : NULL;
    if (file == NULL)
        return;
    (void)fwrite(m->bytes, 1, m->len, file);
    (void)fclose(file);
}

static uint64_t note_time(uint64_t began_ms, uint64_t limit_ms, uint64_t *max_ms, uint64_t *late)
{
    uint64_t took_ms = sg_clock_mono_ms() - began_ms;
    *max_ms = took_ms > *max_ms ? took_ms : *max_ms;
    *late += took_ms > limit_ms + GRACE_MS;
    return took_ms;
}

/* A rung with its sound, shown while it is made, and the tracks as they are where they can be. */
static void plan(const struct sg_media_index *source, struct sg_transcode *t)
{
    const struct sg_track *video = sg_media_index_video(source);
    const struct sg_track *audio = sg_media_index_audio(source);
    const struct sg_rung rung = {.name = "48p", .height = 48, .bitrate = SG_BITRATE_MIN};
    struct sg_rendition r;
    struct sg_transcode_output made = {.fd = -1, .live_fd = -1}, copy = made;
    if (video != NULL && sg_rendition_of_rung(source, &rung, &r)) {
        made.video = SG_TRANSCODE_VIDEO_H264;
        made.video_stream = video->stream;
        made.width = r.width;
        made.height = r.height;
        made.bitrate = r.bitrate;
    }
    if (audio != NULL)
        made.audios[made.n_audios++] = (struct sg_transcode_audio){
            .stream = audio->stream, .channels = audio->channels == 1 ? 1 : 2, .bitrate = 64000};
    if (video != NULL && video->copyable) {
        copy.video = SG_TRANSCODE_VIDEO_COPY;
        copy.video_stream = video->stream;
    }
    if (audio != NULL && audio->copyable)
        copy.audios[copy.n_audios++] =
            (struct sg_transcode_audio){.stream = audio->stream, .copy = true};
    if (made.video != SG_TRANSCODE_VIDEO_NONE || made.n_audios > 0)
        t->outputs[t->n_outputs++] = made;
    if (copy.video != SG_TRANSCODE_VIDEO_NONE || copy.n_audios > 0)
        t->outputs[t->n_outputs++] = copy;
}

static void check_outputs(const struct sg_transcode *t, struct tally *y)
{
    for (uint32_t i = 0; i < t->n_outputs; i++) {
        struct sg_media_index *index = NULL;
        char why[SG_MEDIA_MESSAGE_MAX], key[24];
        snprintf(key, sizeof key, "out-%d", t->outputs[i].fd);
        enum sg_error err = sg_media_probe(b.pool, key, t->outputs[i].fd, &b.limits, &index, why);
        y->unreadable += err != SG_OK;
        sg_media_index_unref(index);
    }
}

static enum sg_error transcode(int fd, const struct sg_media_index *source, struct tally *y)
{
    struct sg_transcode t = {.fd = fd,
                             .limits = &b.limits,
                             .keyframe_ms = SG_KEYFRAME_MS,
                             .threads = 1,
                             .preset = "ultrafast"};
    const struct sg_transcode_process process = {.argv = worker_argv,
                                                 .memory_bytes = UINT64_C(1) << 30,
                                                 .file_bytes = UINT64_C(64) << 20,
                                                 .cpu_seconds = TRANSCODE_MS / 1000,
                                                 .timeout_ms = TRANSCODE_MS,
                                                 .stall_ms = STALL_MS};
    const struct sg_transcode_watch watch = {.stop_fd = -1};
    struct sg_transcode_result result;
    plan(source, &t);
    bool open = t.n_outputs > 0;
    for (uint32_t i = 0; i < t.n_outputs; i++) {
        t.outputs[i].fd = memory_file(NULL);
        t.outputs[i].live_fd = i == 0 ? memory_file(NULL) : -1;
        open &= t.outputs[i].fd >= 0 && (i > 0 || t.outputs[i].live_fd >= 0);
    }
    uint64_t began_ms = sg_clock_mono_ms();
    enum sg_error err =
        open ? sg_media_transcode(&process, &t, &watch, &result, y->why) : SG_ERR_NO_DESCRIPTORS;
    note_time(began_ms, TRANSCODE_MS, &y->transcode_max_ms, &y->late);
    if (err == SG_OK)
        check_outputs(&t, y);
    for (uint32_t i = 0; i < t.n_outputs; i++) {
        close(t.outputs[i].fd);
        if (t.outputs[i].live_fd >= 0)
            close(t.outputs[i].live_fd);
    }
    return err;
}

static void try_film(uint64_t number, struct film m, struct tally *y)
{
    struct sg_media_index *index = NULL;
    char why[SG_MEDIA_MESSAGE_MAX], key[32];
    int fd = memory_file(&m);
    snprintf(key, sizeof key, "m-%llu", (unsigned long long)number);
    uint64_t began_ms = sg_clock_mono_ms();
    enum sg_error err =
        fd >= 0 ? sg_media_probe(b.pool, key, fd, &b.limits, &index, why) : SG_ERR_NO_DESCRIPTORS;
    note_time(began_ms, PROBE_MS, &y->probe_max_ms, &y->late);
    y->probe[err]++;
    if (err == SG_ERR_MEDIA_WORKER)
        keep(number, "probe", &m);
    if (err == SG_OK) {
        err = transcode(fd, index, y);
        y->transcode[err]++;
        if (err == SG_ERR_MEDIA_WORKER || err == SG_ERR_MEDIA_TIMEOUT)
            keep(number, "transcode", &m);
    }
    sg_media_index_unref(index);
    if (fd >= 0)
        close(fd);
}

static void try_one(uint64_t number, struct tally *y)
{
    struct film m;
    if (!make_mutant(number, &m))
        return;
    try_film(number, m, y);
    free(m.bytes);
}

/* Films as they are, one after the other: what becomes of those that were kept. */
static void replay(const char *const *names)
{
    for (unsigned i = 0; i < b.n_films; i++) {
        struct tally y = {0};
        try_film(i, b.films[i], &y);
        printf("%s:", names[i]);
        for (unsigned e = 0; e < SG_ERROR_COUNT; e++)
            if (y.probe[e] + y.transcode[e] > 0)
                printf(" %s%s", y.transcode[e] > 0 ? "transcode " : "probe ",
                       e == SG_OK ? "ok" : sg_error_slug((enum sg_error)e));
        printf("; %llu ms; %s\n", (unsigned long long)y.transcode_max_ms, y.why);
    }
}

static void *work(void *arg)
{
    struct tally mine = {0};
    for (uint64_t n; (n = atomic_fetch_add(&b.next, 1)) < b.count;)
        try_one(n, &mine);
    pthread_mutex_lock(&b.lock);
    for (unsigned i = 0; i < SG_ERROR_COUNT; i++) {
        b.all.probe[i] += mine.probe[i];
        b.all.transcode[i] += mine.transcode[i];
    }
    b.all.unreadable += mine.unreadable;
    b.all.late += mine.late;
    if (mine.probe_max_ms > b.all.probe_max_ms)
        b.all.probe_max_ms = mine.probe_max_ms;
    if (mine.transcode_max_ms > b.all.transcode_max_ms)
        b.all.transcode_max_ms = mine.transcode_max_ms;
    pthread_mutex_unlock(&b.lock);
    return arg;
}

/* ---- the whole ---- */

static json_t *counts(const uint64_t *by_error)
{
    json_t *o = json_object();
    for (unsigned i = 0; i < SG_ERROR_COUNT; i++)
        if (by_error[i] > 0)
            json_object_set_new(o, i == SG_OK ? "ok" : sg_error_slug((enum sg_error)i),
                                json_integer((json_int_t)by_error[i]));
    return o;
}

static void print_result(uint64_t took_ms, bool children_left)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_CHILDREN, &usage);
    json_t *o = json_pack(
        "{s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:b, s:I, s:f}", "trials", (json_int_t)b.count,
        "probe", counts(b.all.probe), "transcode", counts(b.all.transcode), "unreadable",
        (json_int_t)b.all.unreadable, "late", (json_int_t)b.all.late, "probe_max_ms",
        (json_int_t)b.all.probe_max_ms, "transcode_max_ms", (json_int_t)b.all.transcode_max_ms,
        "children_left", children_left, "rss_max_kib", (json_int_t)usage.ru_maxrss, "seconds",
        (double)took_ms / 1000);
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(o);
}

static bool read_film(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct film *f = &b.films[b.n_films];
    long len = -1;
    if (file != NULL && fseek(file, 0, SEEK_END) == 0)
        len = ftell(file);
    bool ok = len >= 16 && fseek(file, 0, SEEK_SET) == 0;
    if (ok) {
        f->len = (size_t)len;
        f->bytes = malloc(f->len);
        ok = f->bytes != NULL && fread(f->bytes, 1, f->len, file) == f->len;
    }
    b.n_films += ok;
    if (file != NULL)
        (void)fclose(file);
    return ok;
}

static bool take_limits(void)
{
    struct sg_config *c = NULL;
    struct sg_text mistakes = {0};
    enum sg_error err = sg_config_load(&(struct sg_config_params){0}, &mistakes, &c);
    sg_text_free(&mistakes);
    if (err != SG_OK)
        return false;
    b.limits = (struct sg_media_limits){
        .max_pixels = sg_config_uint(c, SG_SET_media_max_pixels),
        .max_duration_ms = sg_config_uint(c, SG_SET_media_max_duration),
        .max_frames = sg_config_uint(c, SG_SET_media_max_frames),
        .max_streams = (uint32_t)sg_config_uint(c, SG_SET_media_max_streams),
        .max_body_bytes = sg_config_uint(c, SG_SET_media_max_segment_bytes),
        .open_contexts = (uint32_t)sg_config_uint(c, SG_SET_media_open_contexts),
        .segment_ms = (uint32_t)sg_config_uint(c, SG_SET_playback_segment_duration),
    };
    const struct sg_media_pool_params params = {.workers = THREADS,
                                                .argv = worker_argv,
                                                .memory_bytes =
                                                    sg_config_uint(c, SG_SET_media_memory),
                                                .max_reply_bytes = b.limits.max_body_bytes,
                                                .timeout_ms = PROBE_MS};
    err = sg_media_pool_create(&params, &b.pool);
    sg_config_unref(c);
    return err == SG_OK;
}

static bool read_arguments(int argc, char **argv)
{
    if (argc < 5 || argc - 4 > FILMS_MAX ||
        (strcmp(argv[1], "replay") != 0 &&
         sg_str_to_u64(argv[1], strlen(argv[1]), UINT64_MAX, &b.seed) != SG_OK) ||
        sg_str_to_u64(argv[2], strlen(argv[2]), UINT32_MAX, &b.count) != SG_OK)
        return false;
    b.folder = argv[3];
    for (int i = 4; i < argc; i++)
        if (!read_film(argv[i]))
            return false;
    return true;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "media-worker") == 0)
        return sg_media_worker_main();
    if (!read_arguments(argc, argv) || !take_limits()) {
        fprintf(stderr, "usage: fault_mutants SEED COUNT FOLDER FILM...\n");
        return 2;
    }
    if (strcmp(argv[1], "replay") == 0) {
        replay((const char *const *)argv + 4);
        sg_media_pool_destroy(&b.pool);
        return 0;
    }
    pthread_t threads[THREADS];
    unsigned started = 0;
    uint64_t began_ms = sg_clock_mono_ms();
    while (started < THREADS && pthread_create(&threads[started], NULL, work, NULL) == 0)
        started++;
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    uint64_t took_ms = sg_clock_mono_ms() - began_ms;
    sg_media_pool_destroy(&b.pool);
    bool left = waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD;
    print_result(took_ms, left);
    for (unsigned i = 0; i < b.n_films; i++)
        free(b.films[i].bytes);
    return b.all.late > 0 || left ? 1 : 0;
}
