/* Sample tables made by hand: what plain ones say, and that whatever is odd about them is left to
 * others. What real films say is test_plain.c's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iso_movie.h"
#include "support/unit.h"

/* A moov with one video track of six samples in two chunks of four and two, key frames 1 and 4. */
struct film {
    uint8_t bytes[4096];
    size_t len, open[16]; /* starts of the boxes being written */
    unsigned depth;
};

static void put(struct film *f, uint64_t value, unsigned bytes)
{
    assert_true(f->len + bytes <= sizeof(f->bytes));
    while (bytes--)
        f->bytes[f->len++] = (uint8_t)(value >> (8 * bytes));
}

static void begin(struct film *f, const char *type)
{
    f->open[f->depth++] = f->len;
    put(f, 0, 4);
    for (unsigned i = 0; i < 4; i++)
        put(f, (uint8_t)type[i], 1);
}

static void end(struct film *f)
{
    size_t at = f->open[--f->depth], len = f->len;
    f->len = at;
    put(f, len - at, 4);
    f->len = len;
}

/* A full box of 32-bit numbers. */
static void put_numbers(struct film *f, const char *type, const uint32_t *numbers, unsigned n)
{
    begin(f, type);
    put(f, 0, 4);
    for (unsigned i = 0; i < n; i++)
        put(f, numbers[i], 4);
    end(f);
}

enum { NUMBERS = 16, FILE_SIZE = 10000 };

/* A box as numbers; n == 0 leaves it out. */
struct table {
    unsigned n;
    uint32_t v[NUMBERS];
};

struct tables {
    struct table stts, ctts, stss, stsc, stsz, stco, elst;
    const char *handler, *format, *sizes_type, *chunks_type, *extra_type, *dref_type;
    uint32_t movie_scale, scale, id, descriptions, reference;
    struct table extra; /* a box of extra_type at the end of stbl */
    bool late_mvhd, two_tracks, stsd_too_long;
};

static const struct tables PLAIN = {
    .stts = {5, {2, 5, 100, 1, 50}},
    .stss = {3, {2, 1, 4}},
    .stsc = {7, {2, 1, 4, 1, 2, 2, 1}},
    .stsz = {8, {0, 6, 10, 20, 30, 40, 50, 60}},
    .stco = {3, {2, 1000, 5000}},
    .handler = "vide",
    .format = "avc1",
    .sizes_type = "stsz",
    .chunks_type = "stco",
    .dref_type = "url ",
    .movie_scale = 1000,
    .scale = 500,
    .id = 7,
    .descriptions = 1,
    .reference = 1,
};

static void put_stbl(struct film *f, const struct tables *t)
{
    begin(f, "stbl");
    begin(f, "stsd");
    put(f, 0, 4);
    put(f, t->descriptions, 4);
    put(f, t->stsd_too_long ? 200 : 16, 4);
    for (unsigned i = 0; i < 4; i++)
        put(f, (uint8_t)t->format[i], 1);
    put(f, 0, 8);
    end(f);
    put_numbers(f, "stts", t->stts.v, t->stts.n);
    if (t->ctts.n)
        put_numbers(f, "ctts", t->ctts.v, t->ctts.n);
    if (t->stss.n)
        put_numbers(f, "stss", t->stss.v, t->stss.n);
    put_numbers(f, "stsc", t->stsc.v, t->stsc.n);
    put_numbers(f, t->sizes_type, t->stsz.v, t->stsz.n);
    put_numbers(f, t->chunks_type, t->stco.v, t->stco.n);
    if (t->extra_type)
        put_numbers(f, t->extra_type, t->extra.v, t->extra.n);
    end(f);
}

static void put_trak(struct film *f, const struct tables *t)
{
    begin(f, "trak");
    put_numbers(f, "tkhd", (uint32_t[]){0, 0, t->id, 0, 0}, 5);
    if (t->elst.n) {
        begin(f, "edts");
        put_numbers(f, "elst", t->elst.v, t->elst.n);
        end(f);
    }
    begin(f, "mdia");
    put_numbers(f, "mdhd", (uint32_t[]){0, 0, t->scale, 550, 0}, 5);
    begin(f, "hdlr");
    put(f, 0, 8);
    for (unsigned i = 0; i < 4; i++)
        put(f, (uint8_t)t->handler[i], 1);
    put(f, 0, 8);
    put(f, 0, 5);
    end(f);
    begin(f, "minf");
    begin(f, "dinf");
    begin(f, "dref");
    put(f, 0, 4);
    put(f, 1, 4);
    begin(f, t->dref_type);
    put(f, t->reference, 4);
    end(f);
    end(f);
    end(f);
    put_stbl(f, t);
    end(f);
    end(f);
    end(f);
}

static void make(struct film *f, const struct tables *t)
{
    *f = (struct film){0};
    if (!t->late_mvhd)
        put_numbers(f, "mvhd", (uint32_t[]){0, 0, t->movie_scale, 0}, 4);
    put_trak(f, t);
    if (t->two_tracks)
        put_trak(f, t);
    if (t->late_mvhd)
        put_numbers(f, "mvhd", (uint32_t[]){0, 0, t->movie_scale, 0}, 4);
}

/* In memory of its own, so that a sanitizer sees one byte too many. */
static enum sg_error read_bytes(const void *bytes, size_t len, struct iso_movie **out)
{
    uint8_t *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    enum sg_error err = iso_movie_read(copy, len, FILE_SIZE, 6, out);
    free(copy);
    return err;
}

static struct iso_movie *read_tables(const struct tables *t)
{
    static struct film f;
    struct iso_movie *m = NULL;
    make(&f, t);
    assert_int_equal(read_bytes(f.bytes, f.len, &m), SG_OK);
    return m;
}

/* What is said of each sample: "dts+shift@pos:size", with k for a key, and an x before what
 * is hidden. */
static void expect(const struct tables *t, const char *want)
{
    char text[512] = "";
    size_t len = 0;
    struct iso_movie *m = read_tables(t);
    assert_int_equal(m->n_tracks, 1);
    for (uint32_t i = 0; i < m->tracks[0].n; i++) {
        const struct iso_sample *s = &m->tracks[0].samples[i];
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s%lld+%d@%lld:%u", i ? " " : "",
                                s->size & ISO_DISCARD ? "x" : "", (long long)s->dts, s->shift,
                                (long long)s->pos, iso_size(s));
        if (s->size & ISO_KEY)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "k");
    }
    assert_string_equal(text, want);
    iso_movie_free(&m);
}

static void plain_tables(void **state)
{
    (void)state;
    struct tables t = PLAIN;
    expect(&t, "0+0@1000:10k 100+0@1010:20 200+0@1030:30 300+0@1060:40k 400+0@5000:50 "
               "500+0@5050:60");
    struct iso_movie *m = read_tables(&t);
    assert_int_equal(m->tracks[0].id, 7);
    assert_int_equal(m->tracks[0].timescale, 500);
    assert_int_equal(m->tracks[0].media_bytes, 210);
    assert_true(m->tracks[0].video && !m->tracks[0].reorders);
    assert_int_equal(m->tracks[0].edit_end, INT64_MAX);
    iso_movie_free(&m);
    t.stss.n = 0; /* all are */
    t.handler = "soun";
    t.format = "mp4a";
    expect(&t, "0+0@1000:10k 100+0@1010:20k 200+0@1030:30k 300+0@1060:40k 400+0@5000:50k "
               "500+0@5050:60k");
}

static void forms_of_sizes(void **state)
{
    (void)state;
    static const char want[] = "0+0@1000:1k 100+0@1001:2 200+0@1003:3 300+0@1006:4k 400+0@5000:5 "
                               "500+0@5005:6";
    static const struct table rows[] = {
        {3, {4, 6, 0x12345600}},
        {4, {8, 6, 0x01020304, 0x05060000}},
        {5, {16, 6, 0x00010002, 0x00030004, 0x00050006}},
    };
    struct tables t = PLAIN;
    t.sizes_type = "stz2";
    for (size_t i = 0; i < SG_ARRAY_LEN(rows); i++) {
        t.stsz = rows[i];
        expect(&t, want);
    }
    t = PLAIN;
    t.stsz = (struct table){2, {9, 6}};
    t.chunks_type = "co64";
    t.stco = (struct table){5, {2, 0, 1000, 0, 5000}};
    expect(&t, "0+0@1000:9k 100+0@1009:9 200+0@1018:9 300+0@1027:9k 400+0@5000:9 500+0@5009:9");
}

static void reordered_and_edited(void **state)
{
    (void)state;
    struct tables t = PLAIN;
    t.ctts = (struct table){9, {4, 1, 100, 2, 200, 2, 100, 1, 100}};
    expect(&t, "0+100@1000:10k 100+200@1010:20 200+200@1030:30 300+100@1060:40k 400+100@5000:50 "
               "500+100@5050:60");
    /* Negative offsets move the decode times. */
    t.ctts = (struct table){9, {4, 1, 0, 2, (uint32_t)-50, 2, 100, 1, 0}};
    expect(&t, "-50+50@1000:10k 50+0@1010:20 150+0@1030:30 250+150@1060:40k 350+150@5000:50 "
               "450+50@5050:60");
    /* An edit that begins with what is shown first. */
    t.ctts = (struct table){3, {1, 6, 100}};
    t.elst = (struct table){4, {1, 1100, 100, 1 << 16}};
    expect(&t, "-100+100@1000:10k 0+100@1010:20 100+100@1030:30 200+100@1060:40k 300+100@5000:50 "
               "400+100@5050:60");
    /* In the midst of a group, ends before the end; before it half a second of nothing. */
    t = PLAIN;
    t.elst = (struct table){7, {2, 500, (uint32_t)-1, 1 << 16, 200, 400, 1 << 16}};
    expect(&t, "x150+0@1060:40k 250+0@5000:50 x350+0@5050:60");
    t.elst = (struct table){7, {2, 500, (uint32_t)-1, 1 << 16, 200, 100, 1 << 16}};
    expect(&t, "x150+0@1000:10k 250+0@1010:20 x350+0@1030:30 x450+0@1060:40k");
}

/* Each makes the plain film somebody else's. */
#define ODD(name, change)                                                                          \
    static void name(struct tables *t)                                                             \
    {                                                                                              \
        change;                                                                                    \
    }
ODD(no_samples, t->stsz.v[1] = 0)
ODD(too_many_samples, t->stsz = ((struct table){2, {9, 7}}))
ODD(sizes_cut_short, t->stsz.n = 7)
ODD(sample_of_nothing, t->stsz.v[4] = 0)
ODD(sample_past_the_end, t->stsz.v[7] = FILE_SIZE - 5050 + 1)
ODD(sample_too_large, t->stsz.v[2] = UINT32_C(1) << 30)
ODD(chunk_past_the_end, t->stco.v[2] = FILE_SIZE + 1)
ODD(fewer_chunks, t->stco.v[0] = 1)
ODD(chunks_cut_short, t->stco.n = 2)
ODD(odd_size_bits, (t->sizes_type = "stz2", t->stsz.v[0] = 12))
ODD(no_durations, t->stts = ((struct table){1, {0}}))
ODD(durations_cut_short, t->stts.n = 4)
ODD(too_few_durations, t->stts.v[1] = 4)
ODD(too_many_durations, t->stts.v[1] = 6)
ODD(no_duration, t->stts.v[2] = 0)
ODD(negative_duration, t->stts.v[2] = UINT32_C(1) << 31)
ODD(run_of_nothing, t->stts = ((struct table){7, {3, 5, 100, 0, 10, 1, 50}}))
ODD(too_few_offsets, t->ctts = ((struct table){3, {1, 5, 100}}))
ODD(too_many_offsets, t->ctts = ((struct table){3, {1, 7, 100}}))
ODD(huge_offset, t->ctts = ((struct table){3, {1, 6, (UINT32_C(1) << 28) + 1}}))
ODD(first_not_key, t->stss.v[1] = 2)
ODD(keys_not_rising, t->stss.v[2] = 1)
ODD(key_past_the_end, t->stss.v[2] = 7)
ODD(no_keys, t->stss = ((struct table){1, {0}}))
ODD(keys_of_sound, (t->handler = "soun", t->format = "mp4a"))
ODD(chunks_from_second, t->stsc.v[1] = 2)
ODD(chunks_not_rising, t->stsc.v[4] = 1)
ODD(chunk_of_nothing, t->stsc.v[2] = 0)
ODD(chunk_past_the_last, t->stsc.v[4] = 3)
ODD(chunk_too_full, t->stsc.v[5] = 3)
ODD(huge_chunk, t->stsc.v[2] = UINT32_MAX)
ODD(second_description, t->stsc.v[6] = 2)
ODD(two_descriptions, t->descriptions = 2)
ODD(description_too_long, t->stsd_too_long = true)
ODD(encrypted, t->format = "encv")
ODD(other_handler, t->handler = "text")
ODD(two_tables, (t->extra_type = "stts", t->extra = t->stts))
ODD(partial_keys, (t->extra_type = "stps", t->extra = t->stss))
ODD(auxiliary, t->extra_type = "saiz")
ODD(nobody_knows, t->extra_type = "abcd")
ODD(random_access_group, (t->extra_type = "sbgp", t->extra = (struct table){1, {0x72617020}}))
ODD(sync_group, (t->extra_type = "sgpd", t->extra = (struct table){1, {0x73796e63}}))
ODD(elsewhere, t->reference = 0)
ODD(other_reference, t->dref_type = "urn ")
ODD(no_id, t->id = 0)
ODD(same_id, t->two_tracks = true)
ODD(no_scale, t->scale = 0)
ODD(huge_scale, t->scale = UINT32_C(1) << 31)
ODD(no_movie_scale, t->movie_scale = 0)
ODD(header_after_track, t->late_mvhd = true)
ODD(edit_of_nothing, t->elst = ((struct table){4, {1, 0, 0, 1 << 16}}))
ODD(tiny_edit, (t->scale = 1, t->elst = (struct table){4, {1, 1, 0, 1 << 16}}))
ODD(edit_at_other_rate, t->elst = ((struct table){4, {1, 1000, 0, 2 << 16}}))
ODD(empty_alone, t->elst = ((struct table){4, {1, 1000, (uint32_t)-1, 1 << 16}}))
ODD(two_edits, t->elst = ((struct table){7, {2, 500, 0, 1 << 16, 500, 100, 1 << 16}}))
ODD(three_edits, t->elst = ((struct table){10, {3, 9, 0, 1 << 16, 9, 9, 1 << 16, 9, 1, 1 << 16}}))
ODD(no_edits, t->elst = ((struct table){1, {0}}))
ODD(edits_cut_short, t->elst = ((struct table){3, {1, 1000, 0}}))
ODD(edit_past_the_end, t->elst = ((struct table){4, {1, 1000, 5000, 1 << 16}}))

#define ROW(name)                                                                                  \
    {                                                                                              \
#name, name                                                                                \
    }
static const struct {
    const char *name;
    void (*change)(struct tables *);
} odd_ones[] = {
    ROW(no_samples),
    ROW(too_many_samples),
    ROW(sizes_cut_short),
    ROW(sample_of_nothing),
    ROW(sample_past_the_end),
    ROW(sample_too_large),
    ROW(chunk_past_the_end),
    ROW(fewer_chunks),
    ROW(chunks_cut_short),
    ROW(odd_size_bits),
    ROW(no_durations),
    ROW(durations_cut_short),
    ROW(too_few_durations),
    ROW(too_many_durations),
    ROW(no_duration),
    ROW(negative_duration),
    ROW(run_of_nothing),
    ROW(too_few_offsets),
    ROW(too_many_offsets),
    ROW(huge_offset),
    ROW(first_not_key),
    ROW(keys_not_rising),
    ROW(key_past_the_end),
    ROW(no_keys),
    ROW(keys_of_sound),
    ROW(chunks_from_second),
    ROW(chunks_not_rising),
    ROW(chunk_of_nothing),
    ROW(chunk_past_the_last),
    ROW(chunk_too_full),
    ROW(huge_chunk),
    ROW(second_description),
    ROW(two_descriptions),
    ROW(description_too_long),
    ROW(encrypted),
    ROW(other_handler),
    ROW(two_tables),
    ROW(partial_keys),
    ROW(auxiliary),
    ROW(nobody_knows),
    ROW(random_access_group),
    ROW(sync_group),
    ROW(elsewhere),
    ROW(other_reference),
    ROW(no_id),
    ROW(same_id),
    ROW(no_scale),
    ROW(huge_scale),
    ROW(no_movie_scale),
    ROW(header_after_track),
    ROW(edit_of_nothing),
    ROW(tiny_edit),
    ROW(edit_at_other_rate),
    ROW(empty_alone),
    ROW(two_edits),
    ROW(three_edits),
    ROW(no_edits),
    ROW(edits_cut_short),
    ROW(edit_past_the_end),
};

static void odd_ones_are_left_to_others(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(odd_ones); i++) {
        static struct film f;
        struct iso_movie *m = NULL;
        struct tables t = PLAIN;
        odd_ones[i].change(&t);
        make(&f, &t);
        if (read_bytes(f.bytes, f.len, &m) != SG_ERR_UNSUPPORTED_MEDIA)
            fail_msg("%s was taken on", odd_ones[i].name);
        assert_null(m);
    }
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    static struct film f;
    struct iso_movie *m = NULL;
    make(&f, &PLAIN);
    for (size_t n = 0; n < f.len; n++)
        assert_int_equal(read_bytes(f.bytes, n, &m), SG_ERR_UNSUPPORTED_MEDIA);
    put(&f, 0, 4); /* nor may anything follow that is no box */
    assert_int_equal(read_bytes(f.bytes, f.len, &m), SG_ERR_UNSUPPORTED_MEDIA);
}

static bool holds(const struct film *f, const char *type)
{
    return memmem(f->bytes, f->len, type, 4) != NULL;
}

/* What was read is hidden from the next reader; what describes the track is not. */
static void tables_are_hidden(void **state)
{
    (void)state;
    static const char *const hidden[] = {"ctts", "stss", "stsc", "stsz", "stco", "edts"};
    static const char *const shown[] = {"mvhd", "tkhd", "mdhd", "hdlr", "dref", "stsd", "stts"};
    static struct film f;
    struct iso_movie *m = NULL;
    struct tables t = PLAIN;
    t.ctts = (struct table){3, {1, 6, 100}};
    t.elst = (struct table){4, {1, 1100, 100, 1 << 16}};
    make(&f, &t);
    assert_int_equal(iso_movie_read(f.bytes, f.len, FILE_SIZE, 6, &m), SG_OK);
    for (size_t i = 0; i < SG_ARRAY_LEN(hidden); i++)
        assert_true(holds(&f, hidden[i]));
    iso_movie_hide(m, f.bytes);
    for (size_t i = 0; i < SG_ARRAY_LEN(hidden); i++)
        assert_false(holds(&f, hidden[i]));
    for (size_t i = 0; i < SG_ARRAY_LEN(shown); i++)
        assert_true(holds(&f, shown[i]));
    iso_movie_free(&m);
    iso_movie_free(&m);
    assert_int_equal(read_bytes(f.bytes, f.len, &m), SG_ERR_UNSUPPORTED_MEDIA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_tables),         cmocka_unit_test(forms_of_sizes),
        cmocka_unit_test(reordered_and_edited), cmocka_unit_test(odd_ones_are_left_to_others),
        cmocka_unit_test(every_cut_is_refused), cmocka_unit_test(tables_are_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
