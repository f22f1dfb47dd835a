/* The queue between those who tell and the one connection that listens. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "streamgate/http/event_stream.h"
#include "streamgate/http/response.h"

#include "http_support.h"

static void count_close(void *arg)
{
    ++*(unsigned *)arg;
}

static struct sg_event_stream *make(size_t max_bytes, unsigned *closed)
{
    struct sg_event_stream *s = NULL;
    const struct sg_event_stream_params p = {
        .max_bytes = max_bytes, .closed = count_close, .arg = closed};
    assert_int_equal(sg_event_stream_create(&p, &s), SG_OK);
    return s;
}

static void no_resume(void *conn)
{
    (void)conn;
    fail();
}

static void events_come_out_as_they_went_in(void **state)
{
    (void)state;
    unsigned closed = 0;
    char out[128] = "";
    struct sg_event_stream *s = make(0, &closed);
    sg_event_stream_attach(s, no_resume, NULL);
    assert_int_equal(sg_event_stream_read(s, out, sizeof out), 0);
    assert_int_equal(sg_event_stream_send(s, &(struct sg_event){7, "state", "{\"a\":1}"}), SG_OK);
    assert_int_equal(sg_event_stream_send(s, &(struct sg_event){0, "x", "y"}), SG_OK);
    sg_event_stream_beat(s); /* something waits: no comment is needed */
    assert_int_equal(sg_event_stream_read(s, out, 5), 5);
    ssize_t n = sg_event_stream_read(s, out + 5, sizeof out - 6);
    assert_true(n > 0);
    out[5 + n] = '\0';
    assert_string_equal(out, "id: 7\nevent: state\ndata: {\"a\":1}\n\nevent: x\ndata: y\n\n");
    sg_event_stream_beat(s);
    assert_int_equal(sg_event_stream_read(s, out, sizeof out), 3);
    assert_memory_equal(out, ":\n\n", 3);
    sg_event_stream_end(s);
    assert_int_equal(sg_event_stream_send(s, &(struct sg_event){0, "x", "y"}), SG_ERR_UNAVAILABLE);
    assert_int_equal(sg_event_stream_read(s, out, sizeof out), -1);
    sg_event_stream_close(s);
    sg_event_stream_close(s);
    assert_int_equal(closed, 1);
    sg_event_stream_unref(s);
}

static void slow_readers_are_dropped(void **state)
{
    (void)state;
    unsigned closed = 0, sent = 0;
    char out[64];
    struct sg_event_stream *s = make(1000, &closed);
    while (sg_event_stream_send(s, &(struct sg_event){1, "progress", "{}"}) == SG_OK)
        sent++;
    assert_true(sent > 10 && sent < 100);
    assert_true(sg_event_stream_dropped(s));
    assert_int_equal(sg_event_stream_send(s, &(struct sg_event){1, "x", "y"}), SG_ERR_UNAVAILABLE);
    assert_int_equal(sg_event_stream_read(s, out, sizeof out), -2);
    sg_event_stream_close(s);
    sg_event_stream_unref(s);
}

static void a_dropped_response_closes_its_stream(void **state)
{
    (void)state;
    unsigned closed = 0;
    struct sg_response res;
    sg_response_init(&res);
    struct sg_event_stream *s = make(0, &closed);
    sg_response_events(&res, s);
    assert_int_equal(res.status, 200);
    assert_string_equal(res.content_type, "text/event-stream");
    sg_response_clear(&res);
    assert_int_equal(closed, 1);
    assert_null(res.events);
}

/* ---- producers against a reader that rests whenever there is nothing ---- */

#define PRODUCERS 3
#define EVENTS_EACH 20000

struct race {
    struct sg_event_stream *s;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    unsigned resumes;
    _Atomic unsigned producing;
};

static void on_resume(void *conn)
{
    struct race *r = conn;
    pthread_mutex_lock(&r->lock);
    r->resumes++;
    pthread_cond_signal(&r->cond);
    pthread_mutex_unlock(&r->lock);
}

static void *produce(void *arg)
{
    struct race *r = arg;
    for (unsigned i = 0; i < EVENTS_EACH; i++)
        assert_int_equal(sg_event_stream_send(r->s, &(struct sg_event){i + 1, "e", "{}"}), SG_OK);
    if (atomic_fetch_sub(&r->producing, 1) == 1)
        sg_event_stream_end(r->s);
    return NULL;
}

static void nothing_is_lost_between_rests(void **state)
{
    (void)state;
    unsigned closed = 0;
    struct race r = {.s = make((size_t)64 << 20, &closed), .producing = PRODUCERS};
    pthread_mutex_init(&r.lock, NULL);
    pthread_cond_init(&r.cond, NULL);
    sg_event_stream_attach(r.s, on_resume, &r);
    pthread_t threads[PRODUCERS];
    for (unsigned i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &r), 0);
    char out[512];
    unsigned events = 0, rests = 0;
    char before = '\n';
    for (ssize_t n; (n = sg_event_stream_read(r.s, out, sizeof out)) >= 0;) {
        for (ssize_t i = 0; i < n; before = out[i++])
            events += out[i] == '\n' && before == '\n';
        if (n > 0 || !sg_event_stream_park(r.s))
            continue;
        rests++;
        pthread_mutex_lock(&r.lock);
        while (r.resumes < rests)
            pthread_cond_wait(&r.cond, &r.lock);
        assert_int_equal(r.resumes, rests); /* exactly one a rest */
        pthread_mutex_unlock(&r.lock);
    }
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(events, PRODUCERS * EVENTS_EACH);
    sg_event_stream_close(r.s);
    sg_event_stream_unref(r.s);
    pthread_mutex_destroy(&r.lock);
    pthread_cond_destroy(&r.cond);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_out_as_they_went_in),
        cmocka_unit_test(slow_readers_are_dropped),
        cmocka_unit_test(a_dropped_response_closes_its_stream),
        cmocka_unit_test(nothing_is_lost_between_rests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
