/* What the files that run in the media process share. Everything here parses untrusted bytes: it is
 * never called in the daemon, and libav is seen by no other file. One thread. A `why` is written on
 * failure only, fit for a problem detail. */
#ifndef STREAMGATE_MEDIA_AV_MEDIA_H
#define STREAMGATE_MEDIA_AV_MEDIA_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <sys/types.h>

#include "call.h"
#include "fmp4.h"
#include "iso_movie.h"

/* The descriptor under a demuxer. With skim set, reads report success without reading: walking the
 * samples' times and places then touches no sample data, whatever the size of the file. The bytes
 * of such a packet are not looked at. */
struct sgav_reader {
    int fd;
    int64_t pos, size;
    bool skim;
    const uint8_t *over; /* seen instead of the file's bytes at [over_pos, over_pos + over_len) */
    int64_t over_pos, over_len;
};

/* av_io.c */
enum sg_error sgav_reader_open(struct sgav_reader *reader, AVIOContext **out) SG_NODISCARD;
void sgav_reader_close(AVIOContext **io);
/* On: skim, and past the buffer. */
void sgav_reader_skim(struct sgav_reader *reader, AVIOContext *io, bool on);

/* av_sniff.c: what the bytes are, without libav. */
struct sgav_container;
struct iso_scan {
    const struct sgav_container *container; /* NULL: MP4 or MOV, of which the rest speaks */
    bool fragmented, quicktime;
    bool plain; /* nothing at the top but one moov and boxes that say nothing of samples */
    int64_t moov_pos, moov_len; /* with its header */
};
/* UNPROCESSABLE: empty, damaged, cut short. UNSUPPORTED_MEDIA: something else, named in why. */
enum sg_error sgav_sniff(int fd, int64_t size, struct iso_scan *out,
                         char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;

/* An open file. With a movie its samples come from there, and fmt knows what its streams are but no
 * sample of them; else fmt knows all. */
struct sgav_source {
    struct sgav_reader reader;
    AVIOContext *io;
    AVFormatContext *fmt;
    const struct sgav_container *container; /* other than MP4 and MOV; else NULL */
    struct iso_scan iso;
    struct iso_movie *movie;
    struct iso_track **tracks; /* of each stream; NULL: none. With a movie. */
    dev_t dev;
    ino_t ino;
};

/* av_open.c. Takes fd on success only. */
enum sg_error sgav_source_open(int fd, const struct sg_media_limits *limits,
                               struct sgav_source **out,
                               char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
void sgav_source_close(struct sgav_source **source);

/* av_plain.c. Opens a plain film by our own reader. UNSUPPORTED_MEDIA: it is none, or does not hold
 * together; NO_MEMORY. Then nothing has changed, and the demuxer has to read it all. */
enum sg_error sgav_plain_open(struct sgav_source *source,
                              const struct sg_media_limits *limits) SG_NODISCARD;
/* What libavformat works out for decoders of H.264; nothing else heeds it, and it is a pass over
 * all samples. */
void sgav_plain_set_delay(const struct sgav_source *source, AVStream *stream);
/* av_open.c: what every demuxer is opened with: the one its container (NULL: MP4 or MOV) asks for,
 * by force (fmt->iformat), no protocol, no second file. <0: no memory. */
int sgav_demuxer_begin(AVFormatContext *fmt, AVIOContext *io,
                       const struct sgav_container *container, AVDictionary **options);
/* The demuxer on source->io, hardened. */
enum sg_error sgav_demuxer_open(struct sgav_source *source, const struct sg_media_limits *limits,
                                char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
void sgav_demuxer_close(struct sgav_source *source);

/* av_foreign.c: opens a container that is not packaged: its streams' parameters and its duration
 * are known then, but no sample of it. UNPROCESSABLE, TOO_LARGE, NO_MEMORY. */
enum sg_error sgav_foreign_open(struct sgav_source *source, const struct sg_media_limits *limits,
                                char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
/* Where the file begins on the stream's own clock. */
int64_t sgav_start_of(const struct sgav_source *source, const AVStream *stream);

/* av_walk.c: the samples of a stream in decode order, whoever read the tables. Times are in the
 * stream's time base. */
struct sgav_sample {
    int64_t dts, pts, pos;
    uint32_t size;
    bool key, discard; /* discard: outside the edit list */
    bool changes;      /* comes with new parameters */
};
uint32_t sgav_sample_count(const struct sgav_source *source, const AVStream *stream);
void sgav_sample_of_entry(const AVStream *stream, uint32_t i, struct sgav_sample *out);
/* Sample i, i < count. Without a movie pts is right for sound alone. Inline: it is called for every
 * sample of a film. */
static inline void sgav_sample_get(const struct sgav_source *source, const AVStream *stream,
                                   uint32_t i, struct sgav_sample *out)
{
    if (!source->movie) {
        sgav_sample_of_entry(stream, i, out);
        return;
    }
    const struct iso_sample *s = &source->tracks[stream->index]->samples[i];
    out->dts = s->dts;
    out->pts = s->dts + s->shift;
    out->pos = s->pos;
    out->size = iso_size(s);
    out->key = s->size & ISO_KEY;
    out->discard = s->size & ISO_DISCARD;
    out->changes = false;
}
/* The sample whose decode time is dts, else the last before it; the count when there is none. */
uint32_t sgav_sample_find(const struct sgav_source *source, AVStream *stream, int64_t dts);
/* A walk over the samples of one stream from the first with a decode time of dts or later. One walk
 * at a time. A zeroed walk can be closed. */
struct sgav_walk {
    struct sgav_source *source;
    const AVStream *stream;
    uint32_t next;    /* with a movie */
    AVPacket *packet; /* without */
    int64_t from;
    bool begun;
};
enum sg_error sgav_walk_open(struct sgav_walk *walk, struct sgav_source *source,
                             const AVStream *stream, int64_t dts) SG_NODISCARD;
/* NOT_FOUND at the end; UNPROCESSABLE, NO_MEMORY. */
enum sg_error sgav_walk_next(struct sgav_walk *walk, struct sgav_sample *out) SG_NODISCARD;
void sgav_walk_close(struct sgav_walk *walk);
/* Packets with their bytes, for a decoder, from the key frame at or before pts (when there is one)
 * on; in a container other than MP4 and MOV perhaps from elsewhere, and not from a key frame.
 * NOT_FOUND at the end. The packet is unreferenced first. */
enum sg_error sgav_read_from(struct sgav_walk *walk, struct sgav_source *source,
                             const AVStream *stream, int64_t pts) SG_NODISCARD;
enum sg_error sgav_read_next(struct sgav_walk *walk, AVPacket *packet) SG_NODISCARD;

/* av_codec.c */
enum sg_codec sgav_codec_of(enum AVCodecID id);
/* A decoder for it is there, and on our list. */
bool sgav_codec_decodable(enum AVCodecID id);
const char *sgav_codec_whitelist(void);
/* RFC 6381 name. UNSUPPORTED_MEDIA when the parameters do not suffice to play the stream. */
enum sg_error sgav_codec_string(const AVCodecParameters *par, char *out, size_t size) SG_NODISCARD;
/* A decoder on the stream's parameters, one thread, bounded to max_pixels. UNPROCESSABLE,
 * NO_MEMORY. */
enum sg_error sgav_codec_open(const AVStream *stream, uint64_t max_pixels,
                              AVCodecContext **out) SG_NODISCARD;

/* av_copyable.c: see sg_track. */
bool sgav_copyable(const struct sgav_source *source, const AVStream *stream);

/* av_content.c: whether the bytes of the stream's samples are there, as far as a few of them tell.
 * constant: its parameters do not change midway. UNPROCESSABLE: they are not. */
enum sg_error sgav_content_check(const struct sgav_source *source, const AVStream *stream,
                                 bool constant, char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;

/* av_probe.c */
/* Language and title, as a playlist can say them. */
void sgav_probe_texts(const AVStream *stream, struct sg_track *track);
/* Degrees clockwise, a multiple of 90. */
uint16_t sgav_rotation_of(const AVStream *stream);
AVRational sgav_sar_of(const AVStream *stream, const AVCodecContext *decoder);
/* The whole index, encoded; malloc'ed. */
enum sg_error sgav_probe(struct sgav_source *source, const struct sg_media_limits *limits,
                         void **out, size_t *out_len, char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;

/* av_video.c, av_index.c: cut tracks into segments. Segment arrays are malloc'ed. */
/* independent: each segment of the video can be decoded alone. */
enum sg_error sgav_index_video(struct sgav_source *source, const struct sg_media_limits *limits,
                               struct sg_track *track, bool *independent,
                               char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
/* video may be NULL. main_ts: the track whose bytes_ts this audio adds to (NULL: none, or its own
 * when it is alone). */
enum sg_error sgav_index_audio(struct sgav_source *source, const struct sg_media_limits *limits,
                               struct sg_track *track, const struct sg_track *video,
                               char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
/* Adds the cost of muxing the audio to bytes_ts of the video's segments (or its own, and those of
 * the tail). */
void sgav_index_add_ts_audio(struct sgav_source *source, struct sg_track *audio,
                             struct sg_track *video);

/* av_samples.c: the samples of a part in decode order, times in its timescale; malloc'ed.
 * UNPROCESSABLE when the file does not hold them. */
enum sg_error sgav_samples_read(struct sgav_source *source, const struct media_part *part,
                                struct fmp4_sample **out) SG_NODISCARD;
/* The decode time that sgav_samples_read gives the sample at dts (time base of the stream), which
 * begins a segment other than the first. */
int64_t sgav_decode_time(const struct sgav_source *source, const struct media_part *part,
                         int64_t dts);
/* Whether a hidden sample of an audio stream primes the decoder. `first_shown` is the dts of the
 * first that is heard. */
bool sgav_audio_primes(const AVStream *stream, const struct sgav_sample *sample,
                       int64_t first_shown);
/* Whether it is in the output: what is played or primes. */
static inline bool sgav_audio_kept(const AVStream *stream, const struct sgav_sample *sample,
                                   int64_t first_shown)
{
    return !sample->discard || sgav_audio_primes(stream, sample, first_shown);
}
/* INT64_MAX when none is. */
int64_t sgav_audio_first_shown(const struct sgav_source *source, const AVStream *stream);
/* Copies the samples' bytes from the file to `at`, runs of neighbours at once. */
enum sg_error sgav_samples_copy(const struct sgav_source *source, const struct fmp4_sample *samples,
                                uint32_t n, uint8_t *at) SG_NODISCARD;

/* A body in memory, written to the memfd at once. */
struct sgav_body {
    uint8_t *data; /* malloc'ed */
    size_t len;
};

/* av_init.c, av_segment.c, av_ts.c, av_poster.c, av_storyboard.c. Errors: UNPROCESSABLE (the file
 * is not what its index says), TOO_LARGE, NO_MEMORY, NOT_FOUND (no picture), INVALID (a call that
 * does not fit the file). */
enum sg_error sgav_render_init(struct sgav_source *source, const struct media_call *call,
                               struct sgav_body *out) SG_NODISCARD;
enum sg_error sgav_render_fmp4(struct sgav_source *source, const struct media_call *call,
                               struct sgav_body *out) SG_NODISCARD;
enum sg_error sgav_render_ts(struct sgav_source *source, const struct media_call *call,
                             struct sgav_body *out) SG_NODISCARD;
enum sg_error sgav_render_poster(struct sgav_source *source, const struct media_call *call,
                                 struct sgav_body *out) SG_NODISCARD;
enum sg_error sgav_render_storyboard(struct sgav_source *source, const struct media_call *call,
                                     struct sgav_body *out) SG_NODISCARD;

/* av_subtitles.c. Take fd. Canonical WebVTT (media/webvtt.h) of a file of subtitles, or of stream
 * call->number of a film; the streams of a film that can be extracted (text_list.h). */
enum sg_error sgav_text_convert(int fd, const struct media_call *call, struct sgav_body *out,
                                char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
enum sg_error sgav_text_list(int fd, const struct media_call *call, struct sgav_body *out,
                             char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
enum sg_error sgav_text_extract(int fd, const struct media_call *call, struct sgav_body *out,
                                char why[SG_MEDIA_MESSAGE_MAX]) SG_NODISCARD;
/* Whether the film has streams that can be extracted. */
bool sgav_text_any(const AVFormatContext *fmt);

/* Writes a sentence; always returns err. */
enum sg_error sgav_fail(enum sg_error err, char why[SG_MEDIA_MESSAGE_MAX], const char *fmt, ...)
    SG_PRINTF(3, 4);

#endif
