/* Filter graphs. Pictures pass two: one that all outputs share, which is there only when something
 * has to be done (deinterlace, blend on black, map to SDR, turn), and one for each output, which
 * scales from the source's own pixels. */
#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
#include <libavutil/display.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <stdio.h>
#include <string.h>

#include "av_transcode_core.h"

enum { SD_HEIGHT = 576, SD_WIDTH = 1024, PAL_HEIGHT = 576 };

struct xc_look xc_look_of(const AVFrame *f, bool interlaced)
{
    return (struct xc_look){
        .width = f->width,
        .height = f->height,
        .format = f->format,
        .matrix = f->colorspace,
        .range = f->color_range,
        .transfer = f->color_trc,
        .primaries = f->color_primaries,
        .interlaced = interlaced,
    };
}

bool xc_look_same(const struct xc_look *a, const struct xc_look *b)
{
    return a->width == b->width && a->height == b->height && a->format == b->format &&
           a->matrix == b->matrix && a->range == b->range && a->transfer == b->transfer &&
           a->primaries == b->primaries && a->interlaced == b->interlaced;
}

void xc_graph_close(struct xc_graph *g)
{
    avfilter_graph_free(&g->graph);
    *g = (struct xc_graph){.threads = g->threads};
}

static int open_ends(struct xc_graph *g, const AVFrame *like, int scale)
{
    char args[160];
    snprintf(args, sizeof(args), "video_size=%dx%d:pix_fmt=%d:time_base=1/%d:pixel_aspect=1/1",
             like->width, like->height, like->format, scale);
    int r = avfilter_graph_create_filter(&g->in, avfilter_get_by_name("buffer"), "in", args, NULL,
                                         g->graph);
    return r < 0 ? r
                 : avfilter_graph_create_filter(&g->out, avfilter_get_by_name("buffersink"), "out",
                                                NULL, NULL, g->graph);
}

static int link_chain(struct xc_graph *g, const char *chain)
{
    AVFilterInOut *from = avfilter_inout_alloc(), *to = avfilter_inout_alloc();
    int r = AVERROR(ENOMEM);
    if (!from || !to)
        goto out;
    *from = (AVFilterInOut){.name = av_strdup("in"), .filter_ctx = g->in};
    *to = (AVFilterInOut){.name = av_strdup("out"), .filter_ctx = g->out};
    if (from->name && to->name &&
        (r = avfilter_graph_parse_ptr(g->graph, chain, &to, &from, NULL)) >= 0)
        r = avfilter_graph_config(g->graph, NULL);
out:
    avfilter_inout_free(&from);
    avfilter_inout_free(&to);
    return r;
}

enum sg_error xc_graph_open(struct xc *x, struct xc_graph *g, const AVFrame *like, int scale,
                            const char *chain)
{
    xc_graph_close(g);
    g->graph = avfilter_graph_alloc();
    if (!g->graph)
        return xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    g->graph->nb_threads = g->threads ? (int)g->threads : 1; /* outputs run beside each other */
    g->graph->scale_sws_opts = av_strdup("flags=bicubic");
    int r = g->graph->scale_sws_opts ? open_ends(g, like, scale) : AVERROR(ENOMEM);
    if (r >= 0)
        r = link_chain(g, chain);
    if (r < 0) {
        xc_graph_close(g);
        return xc_fail_av(x, r, SG_ERR_UNPROCESSABLE, "The pictures cannot be converted");
    }
    return SG_OK;
}

static bool is_rgb(int format)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    return d && (d->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL));
}

static bool has_alpha(int format)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    return d && (d->flags & AV_PIX_FMT_FLAG_ALPHA);
}

static bool is_hd(const AVFrame *f)
{
    return f->height > SD_HEIGHT || f->width > SD_WIDTH;
}

enum AVColorSpace xc_matrix_of(const AVFrame *f)
{
    if (!is_rgb(f->format) && f->colorspace != AVCOL_SPC_UNSPECIFIED &&
        f->colorspace != AVCOL_SPC_RGB && f->colorspace != AVCOL_SPC_RESERVED)
        return f->colorspace;
    return is_hd(f)                  ? AVCOL_SPC_BT709
           : f->height == PAL_HEIGHT ? AVCOL_SPC_BT470BG
                                     : AVCOL_SPC_SMPTE170M;
}

/* What the picture is turned by, as a filter. The matrix maps (x, y) to (ax + cy, bx + dy). */
static const char *turn_of(const AVStream *stream)
{
    size_t size = 0;
    const int32_t *m = (const int32_t *)(const void *)av_stream_get_side_data(
        stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
    if (!m || size < 9 * sizeof(*m))
        return "";
    int64_t a = m[0], b = m[1], c = m[3], d = m[4];
    if (a * a + d * d >= b * b + c * c)
        return a < 0 && d < 0 ? "hflip,vflip" : a < 0 ? "hflip" : d < 0 ? "vflip" : "";
    return b > 0 ? (c > 0 ? "transpose=cclock_flip" : "transpose=clock")
                 : (c > 0 ? "transpose=cclock" : "transpose=clock_flip");
}

static bool is_hdr(const struct xc_look *l)
{
    return l->transfer == AVCOL_TRC_SMPTE2084 || l->transfer == AVCOL_TRC_ARIB_STD_B67;
}

static bool has_zscale(void)
{
    return avfilter_get_by_name("zscale") && avfilter_get_by_name("tonemap");
}

/* Light of a wide display mapped to that of a common one, reckoned in linear light. Pictures larger
 * than any output are made smaller first: floating point numbers are dear. */
static void chain_sdr(const struct xc_input *in, const struct xc_look *l, bool turned, char *out,
                      size_t size)
{
    int w = turned ? in->max_height : in->max_width, h = turned ? in->max_width : in->max_height;
    char smaller[64] = "";
    if (w > 0 && h > 0 && w <= l->width && h <= l->height)
        snprintf(smaller, sizeof(smaller), "w=%d:h=%d:f=bicubic:", w, h);
    const char *matrix = l->matrix == AVCOL_SPC_BT709       ? "bt709"
                         : l->matrix == AVCOL_SPC_BT2020_CL ? "bt2020c"
                         : l->matrix == AVCOL_SPC_RGB       ? "gbr"
                                                            : "bt2020nc";
    snprintf(out, size,
             "zscale=%smin=%s:pin=%s:tin=%s:rin=%s:t=linear:npl=100,format=gbrpf32le,"
             "zscale=p=bt709,tonemap=tonemap=hable:desat=0,"
             "zscale=t=bt709:m=bt709:r=tv,format=yuv420p",
             smaller, matrix, l->primaries == AVCOL_PRI_BT709 ? "bt709" : "bt2020",
             l->transfer == AVCOL_TRC_SMPTE2084 ? "smpte2084" : "arib-std-b67",
             l->range == AVCOL_RANGE_JPEG ? "pc" : "tv");
}

/* BT.2020 without its transfer curves: only the colours are wider. */
static bool is_wide(const struct xc_look *l)
{
    return l->primaries == AVCOL_PRI_BT2020 &&
           (l->matrix == AVCOL_SPC_BT2020_NCL || l->matrix == AVCOL_SPC_BT2020_CL);
}

enum sg_error xc_chain_before(const struct xc_input *in, const struct xc_look *l, char *out,
                              size_t size)
{
    char sdr[400] = "";
    const char *turn = turn_of(in->stream);
    if (is_hdr(l) && has_zscale())
        chain_sdr(in, l, turn[0] == 't', sdr, sizeof(sdr));
    else if (is_wide(l) && has_zscale())
        snprintf(sdr, sizeof(sdr),
                 "zscale=min=%s:pin=bt2020:tin=bt709:rin=%s:p=bt709:t=bt709:m=bt709:r=tv",
                 l->matrix == AVCOL_SPC_BT2020_CL ? "bt2020c" : "bt2020nc",
                 l->range == AVCOL_RANGE_JPEG ? "pc" : "tv");
    const char *parts[] = {
        l->interlaced ? "bwdif=mode=send_frame:deint=interlaced" : "",
        has_alpha(l->format) ? "premultiply=inplace=1" : "",
        sdr,
        turn,
    };
    size_t len = 0;
    out[0] = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (!parts[i][0])
            continue;
        int n = snprintf(out + len, size - len, "%s%s", len ? "," : "", parts[i]);
        if (n < 0 || (size_t)n >= size - len)
            return SG_ERR_INTERNAL;
        len += (size_t)n;
    }
    return SG_OK;
}

/* As the scale filter calls it; BT.601's two names mean the same numbers. */
static const char *matrix_name(enum AVColorSpace m)
{
    switch (m) {
    case AVCOL_SPC_BT709:
        return "bt709";
    case AVCOL_SPC_FCC:
        return "fcc";
    case AVCOL_SPC_SMPTE240M:
        return "smpte240m";
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
        return "bt2020";
    default:
        return "bt601";
    }
}

void xc_chain_scale(const AVFrame *like, const struct sg_transcode_output *plan,
                    enum AVColorSpace matrix, char *out, size_t size)
{
    char colours[128] = "";
    const char *from = matrix_name(xc_matrix_of(like)), *to = matrix_name(matrix);
    bool full = like->color_range == AVCOL_RANGE_JPEG && !is_rgb(like->format);
    if (is_rgb(like->format))
        snprintf(colours, sizeof(colours), ":out_color_matrix=%s:out_range=tv", to);
    else if (strcmp(from, to) != 0)
        snprintf(colours, sizeof(colours), ":in_color_matrix=%s:out_color_matrix=%s%s", from, to,
                 full ? ":in_range=pc:out_range=tv" : "");
    else if (full)
        snprintf(colours, sizeof(colours), ":in_range=pc:out_range=tv");
    snprintf(out, size, "scale=%u:%u:flags=bicubic%s,format=yuv420p", plan->width, plan->height,
             colours);
}
