/* What is made, while it is made: views that grow, readers of every age, failed allocations. The
 * file is compiled in here with its allocators replaced. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "layers_support.h"

static _Thread_local long allocations = -1; /* until one fails; below 0: none does */

static bool may_allocate(void)
{
    return allocations < 0 || allocations-- > 0;
}

static void *counted_malloc(size_t n)
{
    return may_allocate() ? malloc(n) : NULL;
}

static void *counted_calloc(size_t n, size_t size)
{
    return may_allocate() ? calloc(n, size) : NULL;
}

static void *counted_realloc(void *p, size_t n)
{
    return may_allocate() ? realloc(p, n) : NULL;
}

#define malloc counted_malloc
#define calloc counted_calloc
#define realloc counted_realloc
#include "live.c"
#undef malloc
#undef calloc
#undef realloc

#define ASSET "01AAAAAAAAAAAAAAAAAAAAAAAA"
#define FILE_A "01BBBBBBBBBBBBBBBBBBBBBBBB"
#define FILE_B "01CCCCCCCCCCCCCCCCCCCCCCCC"
enum { INIT = 100, BYTES = 50, MANY = 200, READERS = 4 };

/* ---- a film ---- */

/* Byte at of a file: tells which it is. */
static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)(at * 7 + at / 256);
}

static int file_of(unsigned segments)
{
    int fd = memfd_create("live", MFD_CLOEXEC);
    assert_true(fd >= 0);
    for (uint64_t at = 0; at < INIT + (uint64_t)segments * BYTES; at++) {
        uint8_t byte = byte_at(at);
        assert_int_equal(write(fd, &byte, 1), 1);
    }
    return fd;
}

static struct sg_track track_of(enum sg_track_kind kind, const char *name)
{
    struct sg_track t = {.kind = kind,
                         .codec = kind == SG_TRACK_VIDEO ? SG_CODEC_H264 : SG_CODEC_AAC,
                         .language = "und",
                         .timescale = 1000};
    snprintf(t.name, sizeof t.name, "%s", name);
    snprintf(t.codec_name, sizeof t.codec_name, "%s", kind == SG_TRACK_VIDEO ? "h264" : "aac");
    snprintf(t.codecs, sizeof t.codecs, "%s", kind == SG_TRACK_VIDEO ? "avc1.64001f" : "mp4a.40.2");
    if (kind == SG_TRACK_VIDEO) {
        t.width = t.display_width = 640;
        t.height = t.display_height = 360;
        t.sar_num = t.sar_den = 1;
        t.fps_num = 25;
        t.fps_den = 1;
    } else {
        t.sample_rate = 48000;
        t.channels = 2;
    }
    return t;
}

static enum sg_error add_track(struct sg_live_making *m, const char *id, enum sg_track_kind kind,
                               int fd)
{
    struct sg_track t = track_of(kind, kind == SG_TRACK_VIDEO ? "360p" : "audio");
    return sg_live_add_track(
        m, &(struct sg_live_track){.file_id = id,
                                   .role = kind == SG_TRACK_VIDEO ? SG_FILE_RUNG : SG_FILE_SOUND,
                                   .track = &t,
                                   .fd = fd,
                                   .init_bytes = INIT});
}

static enum sg_error add_segment(struct sg_live_making *m, uint32_t track, unsigned number)
{
    const struct sg_segment s = {
        .start = number * 2000, .duration = 2000, .bytes_fmp4 = BYTES, .samples = 50};
    return sg_live_add_segment(m, track, &s, INIT + (uint64_t)number * BYTES);
}

static void expect_bytes(struct sg_buf *buf, uint64_t at, size_t len)
{
    assert_int_equal(buf->len, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(((const uint8_t *)buf->data)[i], byte_at(at + i));
    sg_buf_unref(buf);
}

static void expect_view(const struct sg_live_view *v, const char *name, unsigned segments)
{
    struct sg_offer offer;
    struct sg_buf *buf = NULL;
    assert_true(sg_presentation_find(sg_live_shows(v), name, false, &offer));
    assert_int_equal(offer.track->n_segments, segments);
    assert_int_equal(sg_live_read(v, &offer, SG_LIVE_INIT, &buf), SG_OK);
    expect_bytes(buf, 0, INIT);
    assert_int_equal(sg_live_read(v, &offer, segments - 1, &buf), SG_OK);
    expect_bytes(buf, INIT + (uint64_t)(segments - 1) * BYTES, BYTES);
    assert_int_equal(sg_live_read(v, &offer, segments, &buf), SG_ERR_NOT_FOUND);
}

/* ---- tests ---- */

static void test_growth(void **state)
{
    (void)state;
    struct sg_live *l = NULL;
    struct sg_live_making *m = NULL, *second = NULL;
    assert_int_equal(sg_live_create(&l), SG_OK);
    assert_int_equal(sg_live_begin(l, ASSET, true, &m), SG_OK);
    assert_int_equal(sg_live_begin(l, ASSET, true, &second), SG_ERR_EXISTS);
    assert_int_equal(sg_live_begin(l, FILE_A, true, &second), SG_OK); /* another asset */
    sg_live_end(&second);
    int fd = file_of(4);
    assert_null(sg_live_get(l, ASSET));
    assert_int_equal(add_track(m, FILE_B, SG_TRACK_AUDIO, fd), SG_OK);
    assert_int_equal(add_track(m, FILE_A, SG_TRACK_VIDEO, fd), SG_OK);
    close(fd); /* it has one of its own */
    assert_int_equal(add_segment(m, 0, 0), SG_OK);
    assert_null(sg_live_get(l, ASSET)); /* not the sound alone, when a picture is to come */
    assert_int_equal(add_segment(m, 1, 0), SG_OK);
    struct sg_live_view *young = sg_live_get(l, ASSET);
    assert_non_null(young);
    const struct sg_presentation *p = sg_live_shows(young);
    assert_true(p->live);
    assert_true(p->fmp4);
    assert_false(p->ts);
    assert_int_equal(p->n_videos, 1);
    assert_int_equal(p->n_audios, 1);
    assert_true(p->audios[p->default_audio].track->is_default);
    assert_int_equal(add_segment(m, 1, 1), SG_OK);
    assert_int_equal(add_segment(m, 1, 2), SG_OK);
    assert_int_equal(add_segment(m, 2, 0), SG_ERR_INVALID);
    struct sg_live_view *old = sg_live_get(l, ASSET);
    expect_view(young, "360p", 1); /* as it was */
    expect_view(old, "360p", 3);
    expect_view(old, "audio", 1);
    assert_int_equal(sg_live_shows(old)->duration_ms, 6000);
    /* Readers go on after the end; nobody finds it any more. */
    sg_live_end(&m);
    assert_null(m);
    assert_null(sg_live_get(l, ASSET));
    expect_view(old, "360p", 3);
    sg_live_view_unref(young);
    sg_live_destroy(&l);
    expect_view(old, "audio", 1);
    sg_live_view_unref(old);
    sg_live_view_unref(NULL);
    sg_live_end(&m);
    sg_live_destroy(&l);
}

static void test_sound_alone(void **state)
{
    (void)state;
    struct sg_live *l = NULL;
    struct sg_live_making *m = NULL;
    int fd = file_of(1);
    assert_int_equal(sg_live_create(&l), SG_OK);
    assert_int_equal(sg_live_begin(l, ASSET, false, &m), SG_OK);
    assert_int_equal(add_track(m, FILE_A, SG_TRACK_AUDIO, fd), SG_OK);
    assert_int_equal(add_segment(m, 0, 0), SG_OK);
    struct sg_live_view *v = sg_live_get(l, ASSET);
    expect_view(v, "audio", 1);
    sg_live_view_unref(v);
    sg_live_end(&m);
    sg_live_destroy(&l);
    close(fd);
}

static void test_bounds(void **state)
{
    (void)state;
    struct sg_live *l = NULL;
    struct sg_live_making *m = NULL;
    int fd = file_of(1);
    unsigned n = 0;
    assert_int_equal(sg_live_create(&l), SG_OK);
    assert_int_equal(sg_live_begin(l, ASSET, true, &m), SG_OK);
    assert_int_equal(add_track(m, ASSET "TOO-LONG", SG_TRACK_VIDEO, fd), SG_ERR_TOO_LARGE);
    assert_int_equal(add_track(m, FILE_A, SG_TRACK_VIDEO, -1), SG_ERR_NO_DESCRIPTORS);
    while (n < 1000 && add_track(m, FILE_A, SG_TRACK_VIDEO, fd) == SG_OK)
        n++;
    assert_in_range(n, 16, 999); /* as many outputs as a job may have */
    sg_live_end(&m);
    sg_live_destroy(&l);
    close(fd);
}

/* The n-th allocation fails: NO_MEMORY, what is shown stays whole, and the encode can go on. */
static bool survives(long n, int fd)
{
    struct sg_live *l = NULL;
    struct sg_live_making *m = NULL;
    assert_int_equal(sg_live_create(&l), SG_OK);
    allocations = n;
    enum sg_error err = sg_live_begin(l, ASSET, true, &m);
    if (err == SG_OK)
        err = add_track(m, FILE_A, SG_TRACK_VIDEO, fd);
    for (unsigned i = 0; i < 3 && err == SG_OK; i++)
        err = add_segment(m, 0, i);
    allocations = -1;
    assert_true(err == SG_OK || err == SG_ERR_NO_MEMORY);
    struct sg_live_view *v = sg_live_get(l, ASSET);
    if (v != NULL)
        expect_view(v, "360p", sg_live_shows(v)->videos[0].track->n_segments);
    sg_live_view_unref(v);
    if (m != NULL && m->n == 1) {
        unsigned next = m->tracks[0].track.n_segments;
        assert_int_equal(add_segment(m, 0, next), SG_OK);
        v = sg_live_get(l, ASSET);
        expect_view(v, "360p", next + 1);
        sg_live_view_unref(v);
    }
    sg_live_end(&m);
    sg_live_destroy(&l);
    return err == SG_OK;
}

static void test_no_memory(void **state)
{
    (void)state;
    int fd = file_of(8);
    long n = 0;
    while (n < 100 && !survives(n, fd))
        n++;
    assert_in_range(n, 5, 99);
    struct sg_live *l = NULL;
    allocations = 0;
    assert_int_equal(sg_live_create(&l), SG_ERR_NO_MEMORY);
    allocations = -1;
    assert_null(l);
    close(fd);
}

/* ---- readers beside the encoder ---- */

struct race {
    struct sg_live *live;
    _Atomic bool over;
    _Atomic unsigned reads;
};

static void *read_on(void *arg)
{
    struct race *r = arg;
    uint32_t seen = 0;
    while (!atomic_load(&r->over)) {
        struct sg_live_view *v = sg_live_get(r->live, ASSET);
        struct sg_offer offer;
        struct sg_buf *buf = NULL;
        if (v == NULL || !sg_presentation_find(sg_live_shows(v), "360p", false, &offer)) {
            sg_live_view_unref(v);
            continue;
        }
        uint32_t n = offer.track->n_segments;
        if (n < seen || sg_live_read(v, &offer, n - 1, &buf) != SG_OK || buf->len != BYTES ||
            ((const uint8_t *)buf->data)[0] != byte_at(INIT + (uint64_t)(n - 1) * BYTES))
            abort(); /* a view shrank, or is not what it says */
        seen = n;
        sg_buf_unref(buf);
        sg_live_view_unref(v);
        atomic_fetch_add(&r->reads, 1);
    }
    return NULL;
}

static void test_readers(void **state)
{
    (void)state;
    struct race r = {0};
    pthread_t readers[READERS];
    int fd = file_of(MANY);
    assert_int_equal(sg_live_create(&r.live), SG_OK);
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_on, &r), 0);
    struct sg_live_making *m = NULL;
    assert_int_equal(sg_live_begin(r.live, ASSET, true, &m), SG_OK);
    assert_int_equal(add_track(m, FILE_A, SG_TRACK_VIDEO, fd), SG_OK);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(add_segment(m, 0, i), SG_OK);
        unsigned before = atomic_load(&r.reads);
        while (i % 50 == 0 && atomic_load(&r.reads) == before)
            sched_yield();
    }
    sg_live_end(&m); /* while they read */
    atomic_store(&r.over, true);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_true(atomic_load(&r.reads) > 0);
    sg_live_destroy(&r.live);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth),  cmocka_unit_test(test_sound_alone),
        cmocka_unit_test(test_bounds),  cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
