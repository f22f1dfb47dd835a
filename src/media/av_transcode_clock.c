/* One clock for a source whose own may be set anew on the way (AVFMT_TS_DISCONT: MPEG's streams,
 * Ogg): two recordings joined, a counter that overflows, a time that is damaged. A stream's time
 * that jumps is believed only when the stream's next ones agree; then an offset makes it go on
 * where the longest of the streams ended, and the others follow by the same offset once their times
 * jump, too. A time alone gets the one that was due. A gap that the other streams have filled
 * meanwhile is one, and stays.
 *
 * What is read ahead for that is bounded (PACKETS_MAX, BYTES_MAX), and each packet is judged once,
 * when it leaves. All other formats pass untouched. Times are in AV_TIME_BASE; main thread. */
#include <stdlib.h>

#include "av_transcode_core.h"

enum {
    FORWARD = AV_TIME_BASE,                /* past the end of the one before: no jump */
    BACK = AV_TIME_BASE / 10,              /* decode times rise, but for rounding */
    FOLLOW = 5 * AV_TIME_BASE,             /* streams of one recording are no further apart */
    REORDER = 2 * AV_TIME_BASE,            /* from decoding to showing */
    REORDER_LEAST = AV_TIME_BASE * 3 / 10, /* and 16 pictures: so much at least is nothing odd */
    STEP_MOST = 60 * AV_TIME_BASE,         /* that is taken for a duration */
    AGREE = 3,                             /* times after the one that jumps */
    AWAY_MAX = 3,   /* times of showing in a row that are taken for damaged */
    LOOK_MAX = 256, /* packets, for what the others do */
    PACKETS_MAX = 2048,
    BYTES_MAX = 48 << 20,
};

static const int64_t time_most = INT64_C(1) << 59, none = INT64_MIN;

static int64_t us_of(int64_t t, AVRational base)
{
    int64_t us = t == AV_NOPTS_VALUE ? none : av_rescale_q(t, base, AV_TIME_BASE_Q);
    return us < -time_most || us > time_most ? none : us;
}

static struct xc_input *input_of(const struct xc *x, const AVPacket *p)
{
    unsigned i = (unsigned)p->stream_index;
    return i < x->n_inputs && x->inputs[i].stream ? &x->inputs[i] : NULL;
}

/* When it is decoded, else shown; `none`: it does not tell. */
static int64_t stamp(const struct xc_input *in, const AVPacket *p)
{
    int64_t dts = us_of(p->dts, in->stream->time_base);
    return dts != none ? dts : us_of(p->pts, in->stream->time_base);
}

static int64_t shown(const struct xc_input *in, const AVPacket *p)
{
    int64_t pts = us_of(p->pts, in->stream->time_base);
    return pts != none ? pts : stamp(in, p);
}

static int64_t step_of(const struct xc_input *in, const AVPacket *p)
{
    int64_t step = us_of(p->duration, in->stream->time_base);
    if (step > 0 && step < STEP_MOST)
        return step;
    return in->rate.num > 0 ? av_rescale(AV_TIME_BASE, in->rate.den, in->rate.num) : in->clock.step;
}

/* Times of showing do not rise: where there are no others they may fall. */
static int64_t back_of(const AVPacket *p)
{
    return p->dts != AV_NOPTS_VALUE ? BACK : FORWARD;
}

static bool between(int64_t t, int64_t low, int64_t high)
{
    return t >= low && t <= high;
}

/* Whether a time of the stream's, with its offset, goes on from the last, `later` frames past it.
 */
static bool fits(const struct xc_clock *c, const AVPacket *p, int64_t t, unsigned later)
{
    return between(t, c->sure - back_of(p), c->last + c->step * (int64_t)(later + 1) + FORWARD);
}

/* ---- what is read ahead ---- */

static AVPacket *ahead(const struct xc *x, size_t i)
{
    const struct xc_window *w = &x->window;
    return w->packets[(w->head + i) % PACKETS_MAX];
}

/* Reads one more. false: there is none, or no room. */
static bool fill(struct xc *x)
{
    struct xc_window *w = &x->window;
    if (w->end || w->n == PACKETS_MAX || w->bytes >= BYTES_MAX)
        return false;
    AVPacket *p = av_packet_alloc();
    w->end = p ? xc_read_raw(x, p) : xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    if (w->end) {
        av_packet_free(&p);
        return false;
    }
    w->packets[(w->head + w->n++) % PACKETS_MAX] = p;
    w->bytes += p->size;
    return true;
}

/* What was read ahead, parted into what goes on by the old clock and what is told by a new one. */
struct parted {
    int64_t others; /* until when the other streams show by the old one; `none`: there are none */
    int64_t end;    /* the same of all streams */
    int64_t begin;  /* what the new one shows first, by itself */
    bool followed;  /* another stream has jumped, too */
};

/* One stream's part in it; `t`: the first time of the new clock that `jumped` told. */
static void part(const struct xc *x, const struct xc_input *in, const struct xc_input *jumped,
                 int64_t t, struct parted *out)
{
    struct xc_clock c = in->clock;
    bool fresh = in == jumped || !c.known;
    for (size_t k = 0; k < x->window.n; k++) {
        const AVPacket *p = ahead(x, k);
        int64_t at = p->stream_index == in->stream->index ? stamp(in, p) : none;
        if (at == none)
            continue;
        int64_t see = shown(in, p);
        if (!fresh && fits(&c, p, at + c.offset, 0)) {
            int64_t end = see + c.offset + step_of(in, p);
            c.last = c.sure = at + c.offset;
            c.step = step_of(in, p);
            c.shown_end = end > c.shown_end ? end : c.shown_end;
        } else if (between(at - t, -FOLLOW, FOLLOW) && between(see - at, -REORDER, FOLLOW)) {
            fresh = true;
            out->followed |= in != jumped && c.known;
            out->begin = see < out->begin ? see : out->begin;
        }
    }
    if (c.known && c.shown_end > out->end)
        out->end = c.shown_end;
    if (c.known && in != jumped && c.shown_end > out->others)
        out->others = c.shown_end;
}

static struct parted part_all(const struct xc *x, const struct xc_input *jumped, int64_t t)
{
    struct parted out = {.others = none, .end = none, .begin = INT64_MAX};
    for (unsigned i = 0; i < x->n_inputs; i++)
        if (x->inputs[i].stream)
            part(x, &x->inputs[i], jumped, t, &out);
    out.begin = out.begin == INT64_MAX ? t : out.begin;
    return out;
}

/* ---- what is done with a time ---- */

enum verdict { LONE, STRAY, OPEN, AGREED };

/* What the stream's next times say of the first in the window, `t`, which does not go on from the
 * last. Only those that the file tells count: a frame whose time was reckoned from the one before
 * it has no place in the file. */
static enum verdict judge(struct xc *x, const struct xc_input *in, int64_t t)
{
    const struct xc_clock *c = &in->clock;
    unsigned agreed = 0, later = 0, since = 0;
    for (size_t i = 1; agreed < AGREE; i++) {
        if (i >= x->window.n && !fill(x))
            return OPEN;
        const AVPacket *p = ahead(x, i);
        if (p->stream_index != in->stream->index)
            continue;
        later++;
        since++;
        int64_t at = p->pos >= 0 ? stamp(in, p) : none;
        if (at == none)
            continue;
        int64_t step = step_of(in, p);
        bool goes_on = between(at, t - back_of(p), t + step * (int64_t)since + FORWARD);
        bool returns = c->known && fits(c, p, at + c->offset, later);
        if (goes_on && returns) /* the nearer of two that are near each other */
            returns = llabs(at + c->offset - c->last - c->step * (int64_t)(later + 1)) <
                      llabs(at - t - step * (int64_t)since);
        if (returns)
            return LONE;
        if (!goes_on)
            return STRAY;
        t = at;
        since = 0;
        agreed++;
    }
    return AGREED;
}

static void shift(const struct xc_input *in, AVPacket *p, int64_t offset)
{
    int64_t by = av_rescale_q(offset, AV_TIME_BASE_Q, in->stream->time_base);
    p->dts += p->dts == AV_NOPTS_VALUE ? 0 : by;
    p->pts += p->pts == AV_NOPTS_VALUE ? 0 : by;
}

/* Gives the packet the time that is due. When it is shown is kept where it makes sense. */
static void correct(const struct xc_input *in, AVPacket *p, int64_t due)
{
    const struct xc_clock *c = &in->clock;
    AVRational base = in->stream->time_base;
    int64_t dts = us_of(p->dts, base), pts = us_of(p->pts, base);
    int64_t reorder = dts != none && pts != none ? pts - dts : none;
    p->dts = av_rescale_q(due, AV_TIME_BASE_Q, base);
    if (pts != none && between(pts + c->offset - due, -BACK, REORDER))
        pts += c->offset;
    else if (reorder != none && between(reorder, 0, REORDER))
        pts = due + reorder;
    else
        pts = dts == none ? due : none;
    p->pts = pts == none ? AV_NOPTS_VALUE : av_rescale_q(pts, AV_TIME_BASE_Q, base);
}

/* A time of showing that has nothing to do with that of decoding. */
static void check_shown(struct xc_clock *c, const struct xc_input *in, AVPacket *p)
{
    int64_t dts = us_of(p->dts, in->stream->time_base), pts = us_of(p->pts, in->stream->time_base);
    int64_t most = REORDER_LEAST + 16 * c->step;
    bool away = dts != none && pts != none && !between(pts - dts, -most, most);
    c->away = away ? c->away + 1 : 0;
    if (away && c->away <= AWAY_MAX)
        p->pts = AV_NOPTS_VALUE;
}

/* A jump that the stream's next times agree on: one of the clock, unless it is little, backwards
 * and of this stream alone (what overlaps is then cut where it is decoded). */
static void believe(struct xc *x, struct xc_input *in, int64_t t)
{
    struct xc_clock *c = &in->clock;
    struct parted now = part_all(x, in, t);
    bool little = between(c->last - t - c->offset, 0, FORWARD) && now.others != none;
    int64_t moved = t;
    for (unsigned n = 0; little && !now.followed && moved - t < 2 * FORWARD && n < LOOK_MAX; n++) {
        if (!fill(x))
            break;
        const AVPacket *p = ahead(x, x->window.n - 1);
        if (p->stream_index == in->stream->index && stamp(in, p) != none)
            moved = stamp(in, p);
        else if (p->pos >= 0 && input_of(x, p))
            now = part_all(x, in, t);
    }
    if (!little || now.followed)
        c->offset = x->window.offset = now.end - now.begin;
}

/* Whether the stream's counter has overflowed since the last, or was thought to have: then its
 * offset is exactly that. */
static bool overflows(struct xc *x, struct xc_input *in, const AVPacket *p, int64_t t)
{
    struct xc_clock *c = &in->clock;
    if (in->stream->pts_wrap_bits >= 63 || in->stream->pts_wrap_bits < 1)
        return false;
    int64_t whole = us_of(INT64_C(1) << in->stream->pts_wrap_bits, in->stream->time_base);
    if (whole == none || whole < FOLLOW)
        return false;
    for (int64_t by = -whole; by <= whole; by += 2 * whole)
        if (fits(c, p, t + c->offset + by, 0)) {
            c->offset += by;
            x->window.offset = c->offset;
            return true;
        }
    return false;
}

/* A time that does not go on from the last, at the head of the window. false: it is not kept. */
static bool settle_jump(struct xc *x, struct xc_input *in, AVPacket *p, int64_t t)
{
    struct xc_clock *c = &in->clock;
    int64_t far = part_all(x, in, t).others, other = t + x->window.offset;
    int64_t most = (far > c->last ? far : c->last) + c->step + FORWARD;
    if (x->window.offset != c->offset && between(other, c->sure - FORWARD, most)) {
        c->offset = x->window.offset;
        shift(in, p, c->offset);
        return true;
    }
    if (overflows(x, in, p, t)) {
        shift(in, p, c->offset);
        return true;
    }
    enum verdict v = judge(x, in, t);
    far = part_all(x, in, t).others;
    bool filled = far != none && between(t + c->offset, c->last, far + FORWARD);
    if (v == LONE || (v != AGREED && !filled)) {
        correct(in, p, c->last + c->step);
        return false;
    }
    if (!filled)
        believe(x, in, t);
    shift(in, p, c->offset);
    return true;
}

/* The time that the next two of the stream agree on for the head of the window; `none`: they do not
 * agree on one. */
static int64_t agreed_first(struct xc *x, const struct xc_input *in)
{
    unsigned later = 0, seen = 0, since = 0;
    int64_t at = none, first = none;
    for (size_t i = 1; seen < 2 && (i < x->window.n || fill(x)); i++) {
        const AVPacket *q = ahead(x, i);
        if (q->stream_index != in->stream->index)
            continue;
        later++;
        since++;
        int64_t t = q->pos >= 0 ? stamp(in, q) : none;
        if (t == none)
            continue;
        int64_t step = step_of(in, q);
        if (seen++ == 0)
            first = t - step * (int64_t)later;
        else if (!between(t, at - back_of(q), at + step * (int64_t)since + FORWARD))
            first = none;
        at = t;
        since = 0;
    }
    return seen == 2 ? first : none;
}

/* The first of a stream's times. */
static bool settle_first(struct xc *x, struct xc_input *in, AVPacket *p, int64_t t)
{
    struct xc_clock *c = &in->clock;
    *c = (struct xc_clock){.offset = x->window.offset, .step = step_of(in, p)};
    int64_t due = judge(x, in, t) == STRAY ? agreed_first(x, in) : none;
    if (due == none)
        shift(in, p, c->offset);
    else
        correct(in, p, due + c->offset);
    return true;
}

static void settle(struct xc *x, struct xc_input *in, AVPacket *p)
{
    struct xc_clock *c = &in->clock;
    int64_t t = stamp(in, p);
    bool sure = true;
    if (t == none) {
        p->dts = p->pts = AV_NOPTS_VALUE;
        c->last += c->known ? c->step : 0;
        return;
    }
    if (!c->known)
        sure = settle_first(x, in, p, t);
    else if (fits(c, p, t + c->offset, 0))
        shift(in, p, c->offset);
    else
        sure = settle_jump(x, in, p, t);
    check_shown(c, in, p);
    c->last = stamp(in, p);
    c->sure = sure ? c->last : c->sure;
    c->step = step_of(in, p);
    int64_t end = shown(in, p) + c->step;
    c->shown_end = c->known && c->shown_end > end ? c->shown_end : end;
    c->known = true;
}

enum sg_error xc_clock_open(struct xc *x)
{
    if (!(x->fmt->iformat->flags & AVFMT_TS_DISCONT))
        return SG_OK;
    x->window.packets = calloc(PACKETS_MAX, sizeof(AVPacket *));
    return x->window.packets ? SG_OK : xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
}

enum sg_error xc_clock_read(struct xc *x, AVPacket *packet)
{
    struct xc_window *w = &x->window;
    if (!w->packets)
        return xc_read_raw(x, packet);
    if (w->n == 0 && !fill(x))
        return w->end;
    AVPacket *p = ahead(x, 0);
    struct xc_input *in = input_of(x, p);
    if (in)
        settle(x, in, p);
    w->head = (w->head + 1) % PACKETS_MAX;
    w->n--;
    w->bytes -= p->size;
    av_packet_move_ref(packet, p);
    av_packet_free(&p);
    return SG_OK;
}

void xc_clock_close(struct xc *x)
{
    for (; x->window.n; x->window.n--) {
        AVPacket *p = ahead(x, x->window.n - 1);
        av_packet_free(&p);
    }
    free(x->window.packets);
    x->window.packets = NULL;
}
