/* What the files of the transcoder share. One thread reads, decodes and encodes sound (the main
 * one); each output has a thread of its own that scales, encodes its video and writes its file.
 * They meet in queues of bounded length, so that the slowest output holds up the decoder and
 * nothing piles up.
 *
 * Times: the source's timeline (0 is where its presentation begins). A picture's pts is in 1/scale
 * of its input once it has left xc_input.
 *
 * One lock, xc.lock, guards: the queues, the events that wait, the first error, and the figures of
 * progress. Nothing is read, written, decoded or called back under it. */
#ifndef STREAMGATE_MEDIA_AV_TRANSCODE_CORE_H
#define STREAMGATE_MEDIA_AV_TRANSCODE_CORE_H

#include <libavfilter/avfilter.h>
#include <libswresample/swresample.h>
#include <pthread.h>

#include "av_media.h"
#include "av_transcode.h"

enum {
    XC_QUEUE_MAX = 256,  /* items */
    XC_QUEUE_FRAMES = 8, /* of them pictures */
    XC_AAC_FRAME = 1024,
    XC_ORDER_MAX = 64,
};

struct xc;
struct xc_output;

/* What pictures look like before they are scaled; a change makes the filters anew. */
struct xc_look {
    int width, height, format;
    enum AVColorSpace matrix;
    enum AVColorRange range;
    enum AVColorTransferCharacteristic transfer;
    enum AVColorPrimaries primaries;
    bool interlaced; /* one has been seen */
};

struct xc_graph {
    AVFilterGraph *graph;
    AVFilterContext *in, *out;
    struct xc_look look;
    unsigned threads;
};

/* A stream's times as av_transcode_clock.c has put them on one clock, in AV_TIME_BASE. */
struct xc_clock {
    bool known;
    int64_t last, sure; /* decode time of the last; of the last that the file told */
    int64_t step;       /* its duration */
    int64_t shown_end, offset;
    unsigned away; /* times of showing in a row that make no sense */
};

/* Packets read ahead of it; a ring. NULL: the format has one clock. */
struct xc_window {
    AVPacket **packets;
    size_t head, n;
    int64_t bytes, offset; /* offset: the latest that was found */
    enum sg_error end;     /* of reading */
};

/* A stream of the source that an output is made of. */
struct xc_input {
    struct xc *x;
    AVStream *stream;
    bool copied, decoded;
    AVCodecContext *decoder;
    int64_t start; /* stream units: where the presentation begins */
    struct xc_clock clock;
    uint64_t packets, bad, frames;
    int64_t copy_dts, copy_step; /* last one given to outputs; INT64_MIN: none */
    int64_t copy_exact;          /* of av_rescale_delta */
    bool copy_begun, adts;       /* adts: each packet has a header that MP4 has no place for */
    AVPacket *hidden; /* the last that is not heard, until one is: it primes the decoder */
    /* pictures */
    int scale;       /* ticks a second of all that is made of it */
    AVRational rate; /* a guess */
    int64_t last_pts, shift, last_duration, step, last_grid;
    bool by_order; /* AVI: no picture has a time, but the k-th shown that of the k-th packet */
    int64_t order[XC_ORDER_MAX]; /* of packets not shown yet, rising */
    unsigned n_order;
    struct xc_graph before; /* upright, progressive, opaque, SDR; once for all outputs */
    struct xc_look look;
    int max_width, max_height; /* of the outputs */
    AVFrame *held;             /* until its duration is known */
};

/* Sound encoded once, for all outputs that want it so. */
struct xc_sound {
    struct xc_input *input;
    uint16_t channels;
    uint32_t bitrate;
    AVCodecContext *encoder;
    struct SwrContext *swr;
    int in_rate, in_format;
    AVChannelLayout in_layout;
    AVFrame *frame; /* being filled; 1024 samples */
    int filled;
    int64_t next; /* time of the next sample, in samples; INT64_MIN: none yet */
    int64_t end;  /* of what was encoded */
    uint64_t frames;
};

/* Owned by one output's thread once that runs. */
struct xc_segmenter {
    int fd;
    bool video, begun;
    AVCodecParameters *par;
    struct sg_track track;
    AVPacket **packets; /* of the current segment */
    uint32_t n, cap;
    uint32_t number;
    uint64_t before; /* packets of earlier segments */
    int64_t start, first_shown, threshold, next_cut, step, max_pts, end;
    int64_t last_dts, delta, last_duration;
    uint64_t offset, max_bytes;
};

enum xc_kind { XC_FRAME, XC_PACKET };
struct xc_item {
    enum xc_kind kind;
    AVFrame *frame;
    AVPacket *packet; /* stream_index: of the output; time base: xc_output.base of it */
};

struct xc_output {
    struct xc *x;
    const struct sg_transcode_output *plan;
    uint32_t number;
    struct xc_input *video; /* NULL: none */
    pthread_t thread;
    bool running;
    /* under xc.lock */
    struct xc_item items[XC_QUEUE_MAX];
    uint32_t head, count, frames_waiting;
    bool closed, done;
    pthread_cond_t wake;
    uint64_t pictures; /* packets written */
    int64_t done_us;
    /* the thread's */
    AVCodecContext *encoder;
    struct xc_graph graph; /* to this output's size */
    AVFrame *scaled;
    enum AVColorSpace matrix;
    AVFormatContext *mux;
    AVRational base[SG_TRANSCODE_AUDIOS_MAX + 1];
    bool header;
    AVPacket **early; /* before the header could be written */
    size_t n_early, cap_early;
    AVPacket *packet, *last; /* last: encoded and held until it is known whether more follow */
    int64_t min_pts, end_pts, end_duration;
    int64_t file_pos, file_size;
    int io_error;
    struct xc_segmenter *live;
};

struct xc_event {
    struct sg_transcode_event event;
    struct xc_event *next;
};

struct xc {
    const struct sg_transcode *plan;
    const struct sgav_transcode_sink *sink;
    struct sgav_reader reader;
    AVIOContext *io;
    AVFormatContext *fmt;
    struct xc_window window;
    /* NULL: MP4 or MOV, whose edit lists say where the presentation begins */
    const struct sgav_container *container;
    AVPacket **ahead; /* read to learn where the presentation begins */
    size_t n_ahead, at_ahead;
    struct xc_input *inputs; /* stream NULL: not used */
    unsigned n_inputs; /* streams when it was opened; those that appear later are passed over */
    struct xc_sound *sounds;
    uint32_t n_sounds;
    struct xc_output *outputs;
    pthread_mutex_t lock;
    pthread_cond_t main_wake;
    bool locks;
    /* under lock */
    enum sg_error err;
    char why[SG_MEDIA_MESSAGE_MAX];
    struct xc_event *first_event, *last_event;
    /* the main thread's */
    int64_t told_ms;
    uint64_t told_work, decoded, sounded, copied;
    int64_t decoded_us;
    AVPacket *packet;
    AVFrame *frame;
};

/* av_transcode.c. The first error stays; returns err. */
enum sg_error xc_fail(struct xc *x, enum sg_error err, const char *fmt, ...) SG_PRINTF(3, 4);
/* What libavcodec and its like answered. */
enum sg_error xc_fail_av(struct xc *x, int r, enum sg_error err, const char *what);
bool xc_failed(struct xc *x);

/* av_transcode_queue.c */
/* Takes the frame or packet, always. Waits for room; events are told meanwhile. Main thread. */
void xc_queue_push(struct xc_output *o, struct xc_item item);
void xc_queue_close(struct xc_output *o);
/* false: closed and empty. */
bool xc_queue_pop(struct xc_output *o, struct xc_item *out);
void xc_item_free(struct xc_item *item);
/* Any thread; what it says is told by the main thread. */
void xc_event_post(struct xc *x, const struct sg_transcode_event *event);
void xc_events_tell(struct xc *x);
void xc_done(struct xc_output *o);
/* Main thread: waits until every output is done. */
void xc_wait_done(struct xc *x);

/* av_transcode_input.c */
enum sg_error xc_open(struct xc *x) SG_NODISCARD;
enum sg_error xc_input_use(struct xc *x, uint32_t stream, bool decode,
                           struct xc_input **out) SG_NODISCARD;
/* After all were named: opens decoders, finds the start. */
enum sg_error xc_inputs_begin(struct xc *x) SG_NODISCARD;
/* The next packet of an input. NOT_FOUND at the end. */
enum sg_error xc_read(struct xc *x, AVPacket *packet) SG_NODISCARD;
/* As the demuxer gives it, of any stream. */
enum sg_error xc_read_raw(struct xc *x, AVPacket *packet) SG_NODISCARD;
enum sg_error xc_input_packet(struct xc_input *in, AVPacket *packet) SG_NODISCARD;
enum sg_error xc_input_end(struct xc_input *in) SG_NODISCARD;
void xc_close(struct xc *x);

/* av_transcode_clock.c: packets of any stream, with the times of used ones on one clock. */
enum sg_error xc_clock_open(struct xc *x) SG_NODISCARD;
enum sg_error xc_clock_read(struct xc *x, AVPacket *packet) SG_NODISCARD;
void xc_clock_close(struct xc *x);

/* av_transcode_picture.c: times and filters before the outputs part. */
enum sg_error xc_picture(struct xc_input *in, AVFrame *frame) SG_NODISCARD;
/* A packet that the decoder has taken. */
void xc_picture_packet(struct xc_input *in, const AVPacket *packet);
enum sg_error xc_pictures_end(struct xc_input *in) SG_NODISCARD;

/* av_transcode_filter.c */
struct xc_look xc_look_of(const AVFrame *frame, bool interlaced);
bool xc_look_same(const struct xc_look *a, const struct xc_look *b);
enum sg_error xc_graph_open(struct xc *x, struct xc_graph *g, const AVFrame *like, int scale,
                            const char *chain) SG_NODISCARD;
void xc_graph_close(struct xc_graph *g);
/* The chain that makes pictures of this look upright and so on; empty: they are. */
enum sg_error xc_chain_before(const struct xc_input *in, const struct xc_look *look, char *out,
                              size_t size) SG_NODISCARD;
/* To an output's size, in 4:2:0, limited range, the given matrix. */
void xc_chain_scale(const AVFrame *like, const struct sg_transcode_output *plan,
                    enum AVColorSpace matrix, char *out, size_t size);
/* What the matrix of a picture is, told or guessed. */
enum AVColorSpace xc_matrix_of(const AVFrame *frame);

/* av_transcode_video.c, on the output's thread */
enum sg_error xc_video_frame(struct xc_output *o, AVFrame *frame) SG_NODISCARD;
enum sg_error xc_video_end(struct xc_output *o) SG_NODISCARD;

/* av_transcode_audio.c */
enum sg_error xc_sound_open(struct xc *x, struct xc_input *in,
                            const struct sg_transcode_audio *plan,
                            struct xc_sound **out) SG_NODISCARD;
enum sg_error xc_sound_frame(struct xc_sound *s, AVFrame *frame) SG_NODISCARD;
enum sg_error xc_sound_end(struct xc_sound *s) SG_NODISCARD;
void xc_sound_close(struct xc_sound *s);
/* Gives a packet to all outputs that have this sound, or (s NULL) copy this stream. */
enum sg_error xc_spread(struct xc *x, const struct xc_input *in, const struct xc_sound *s,
                        const AVPacket *packet, AVRational base) SG_NODISCARD;

/* av_transcode_copy.c: packets as they are. */
enum sg_error xc_copy_begin(struct xc_input *in) SG_NODISCARD;
enum sg_error xc_copy_packet(struct xc_input *in, const AVPacket *packet) SG_NODISCARD;

/* av_transcode_mux.c, on the output's thread but for open */
enum sg_error xc_mux_open(struct xc_output *o) SG_NODISCARD;
enum sg_error xc_mux_header(struct xc_output *o) SG_NODISCARD;
/* Takes what the packet refers to. */
enum sg_error xc_mux_packet(struct xc_output *o, AVPacket *packet) SG_NODISCARD;
enum sg_error xc_mux_end(struct xc_output *o) SG_NODISCARD;
void xc_mux_close(struct xc_output *o);

/* av_transcode_live.c */
enum sg_error xc_live_open(struct xc_output *o) SG_NODISCARD;
enum sg_error xc_live_packet(struct xc_output *o, const AVPacket *packet) SG_NODISCARD;
enum sg_error xc_live_end(struct xc_output *o) SG_NODISCARD;
void xc_live_close(struct xc_output *o);

#endif
