/* Opens a file for the demuxer, hardened (docs/SECURITY.md): the one demuxer its bytes ask for by
 * force, no name, no protocol, no second file, no external track references. What the sample tables
 * claim is held against the size of the file and the limits before anything else runs. */
#include <errno.h>
#include <libavutil/opt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "av_container.h"

#define ISO_DEMUXER "mov"

enum sg_error sgav_fail(enum sg_error err, char why[SG_MEDIA_MESSAGE_MAX], const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, SG_MEDIA_MESSAGE_MAX, fmt, args);
    va_end(args);
    return err;
}

static int refuse_open(AVFormatContext *fmt, AVIOContext **io, const char *url, int flags,
                       AVDictionary **options)
{
    (void)fmt, (void)io, (void)url, (void)flags, (void)options;
    return AVERROR(EPERM);
}

int sgav_demuxer_begin(AVFormatContext *fmt, AVIOContext *io,
                       const struct sgav_container *container, AVDictionary **options)
{
    const char *demuxer = container ? container->demuxer : ISO_DEMUXER;
    if (av_dict_set(options, "format_whitelist", demuxer, 0) < 0 ||
        av_dict_set(options, "codec_whitelist", sgav_codec_whitelist(), 0) < 0 ||
        av_dict_set(options, "protocol_whitelist", "", 0) < 0 ||
        av_dict_set(options, "enable_drefs", "0", 0) < 0 ||
        av_dict_set(options, "use_absolute_path", "0", 0) < 0 ||
        av_dict_set(options, "ignore_chapters", "1", 0) < 0)
        return AVERROR(ENOMEM);
    fmt->pb = io;
    fmt->io_open = refuse_open;
    fmt->iformat = av_find_input_format(demuxer);
    return 0;
}

enum sg_error sgav_demuxer_open(struct sgav_source *s, const struct sg_media_limits *limits,
                                char why[SG_MEDIA_MESSAGE_MAX])
{
    AVDictionary *options = NULL;
    enum sg_error err = sgav_reader_open(&s->reader, &s->io);
    if (err)
        return err;
    err = SG_ERR_NO_MEMORY;
    s->fmt = avformat_alloc_context();
    if (!s->fmt || sgav_demuxer_begin(s->fmt, s->io, s->container, &options) < 0)
        goto out;
    if (s->container &&
        av_dict_set_int(&options, "max_streams", (int64_t)limits->max_streams + 1, 0) < 0)
        goto out;
    /* Packets as the sample tables give them: nothing parsed, nothing guessed. */
    if (!s->container)
        s->fmt->flags |= AVFMT_FLAG_NOPARSE | AVFMT_FLAG_NOFILLIN;
    int r = avformat_open_input(&s->fmt, "", s->fmt->iformat, &options);
    if (r == AVERROR(ENOMEM))
        err = sgav_fail(SG_ERR_TOO_LARGE, why,
                        "The file describes more streams or samples than can be held.");
    else if (r < 0)
        err = sgav_fail(SG_ERR_UNPROCESSABLE, why,
                        "The file is damaged: its structure cannot be read.");
    else if (s->fmt->nb_streams > limits->max_streams)
        err = sgav_fail(SG_ERR_TOO_LARGE, why, "The file has %u tracks; at most %u are taken.",
                        s->fmt->nb_streams, limits->max_streams);
    else
        err = SG_OK;
out:
    av_dict_free(&options);
    return err;
}

/* A fragmented file is indexed by reading it to the end; with every stream discarded only the boxes
 * are read. */
static enum sg_error walk_fragments(struct sgav_source *s)
{
    AVPacket *packet = av_packet_alloc();
    if (!packet)
        return SG_ERR_NO_MEMORY;
    for (unsigned i = 0; i < s->fmt->nb_streams; i++)
        s->fmt->streams[i]->discard = AVDISCARD_ALL;
    int r;
    while ((r = av_read_frame(s->fmt, packet)) >= 0)
        av_packet_unref(packet);
    av_packet_free(&packet);
    return r == AVERROR_EOF       ? SG_OK
           : r == AVERROR(ENOMEM) ? SG_ERR_NO_MEMORY
                                  : SG_ERR_UNPROCESSABLE;
}

static enum sg_error check_entries(const struct sgav_source *s,
                                   const struct sg_media_limits *limits,
                                   char why[SG_MEDIA_MESSAGE_MAX])
{
    for (unsigned i = 0; i < s->fmt->nb_streams; i++) {
        AVStream *stream = s->fmt->streams[i];
        enum AVMediaType type = stream->codecpar->codec_type;
        if (type != AVMEDIA_TYPE_VIDEO && type != AVMEDIA_TYPE_AUDIO)
            continue;
        int n = avformat_index_get_entries_count(stream);
        if (n > 0 && (uint64_t)n > limits->max_frames)
            return sgav_fail(SG_ERR_TOO_LARGE, why,
                             "Track %u has %d samples; at most %llu are taken.", i, n,
                             (unsigned long long)limits->max_frames);
        for (int k = 0; k < n; k++) {
            const AVIndexEntry *e = avformat_index_get_entry(stream, k);
            if (e->pos < 0 || e->size < 0 || e->pos > s->reader.size - e->size)
                return sgav_fail(
                    SG_ERR_UNPROCESSABLE, why,
                    "The file is damaged or cut short: sample %d of track %u lies outside of it.",
                    k, i);
        }
    }
    return SG_OK;
}

/* Everything by the demuxer. */
static enum sg_error open_all(struct sgav_source *s, const struct sg_media_limits *limits,
                              char why[SG_MEDIA_MESSAGE_MAX])
{
    enum sg_error err = sgav_demuxer_open(s, limits, why);
    if (!err && s->iso.fragmented && (err = walk_fragments(s)) == SG_ERR_UNPROCESSABLE)
        (void)sgav_fail(err, why, "The file is damaged: a fragment cannot be read.");
    return err ? err : check_entries(s, limits, why);
}

enum sg_error sgav_source_open(int fd, const struct sg_media_limits *limits,
                               struct sgav_source **out, char why[SG_MEDIA_MESSAGE_MAX])
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return SG_ERR_INVALID;
    struct sgav_source *s = calloc(1, sizeof(*s));
    if (!s)
        return SG_ERR_NO_MEMORY;
    s->reader = (struct sgav_reader){.fd = fd, .size = st.st_size};
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    enum sg_error err = sgav_sniff(fd, st.st_size, &s->iso, why);
    s->container = s->iso.container;
    if (!err && s->container)
        err = sgav_foreign_open(s, limits, why);
    /* Whatever kept our own reader from it, the demuxer has the last word, and says why. */
    else if (!err && sgav_plain_open(s, limits))
        err = open_all(s, limits, why);
    if (err) {
        s->reader.fd = -1;
        sgav_source_close(&s);
        return err;
    }
    *out = s;
    return SG_OK;
}

void sgav_demuxer_close(struct sgav_source *s)
{
    avformat_close_input(&s->fmt);
    sgav_reader_close(&s->io);
}

void sgav_source_close(struct sgav_source **source)
{
    struct sgav_source *s = *source;
    *source = NULL;
    if (!s)
        return;
    sgav_demuxer_close(s);
    iso_movie_free(&s->movie);
    free(s->tracks);
    if (s->reader.fd >= 0)
        close(s->reader.fd);
    free(s);
}
