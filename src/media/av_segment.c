/* An fMP4 segment: the hand-written header (fmp4.c), then the samples' bytes. A key frame alone is
 * one too, of one sample, which is decoded when it is shown as nothing is decoded around it. */
#include <stdlib.h>

#include "av_media.h"

static int64_t end_dts(const struct sgav_source *source, const struct media_part *part,
                       const struct fmp4_sample *samples)
{
    const struct fmp4_sample *last = &samples[part->samples - 1];
    int64_t end;
    if (part->last) {
        int64_t max_pts =
            INT64_MIN; /* the last frame lasts as long on the decoder's clock as on the screen */
        for (uint32_t i = 0; i < part->samples; i++)
            if (!samples[i].discard && samples[i].pts > max_pts)
                max_pts = samples[i].pts;
        end = last->dts + (part->end - max_pts);
    } else {
        end = sgav_decode_time(source, part, part->end);
    }
    return end > last->dts ? end : last->dts;
}

enum sg_error sgav_render_fmp4(struct sgav_source *source, const struct media_call *call,
                               struct sgav_body *out)
{
    const struct media_part *part = &call->parts[0];
    struct fmp4_sample *samples = NULL;
    uint8_t *data = NULL;
    if (call->n_parts != 1 || part->samples == 0)
        return SG_ERR_INVALID;
    enum sg_error err = sgav_samples_read(source, part, &samples);
    if (err)
        return err;
    if (call->op == MEDIA_OP_IFRAME) {
        if (part->samples != 1 || !samples[0].key) {
            free(samples);
            return SG_ERR_UNPROCESSABLE;
        }
        samples[0].dts = samples[0].pts = call->start;
    }
    uint64_t overhead = fmp4_overhead(part->kind == SG_TRACK_VIDEO, part->samples), len = overhead;
    for (uint32_t i = 0; i < part->samples; i++)
        len += samples[i].size;
    if (len != call->bytes || len > call->limits.max_body_bytes) {
        err = len != call->bytes ? SG_ERR_UNPROCESSABLE : SG_ERR_TOO_LARGE;
        goto out;
    }
    err = SG_ERR_NO_MEMORY;
    if (!(data = malloc(len)))
        goto out;
    struct fmp4_fragment f = {
        .video = part->kind == SG_TRACK_VIDEO,
        .sequence = call->number + 1,
        .timescale = part->timescale,
        .samples = samples,
        .n = part->samples,
        .end_dts = end_dts(source, part, samples),
    };
    if (!(err = fmp4_write_header(&f, data, len)))
        err = sgav_samples_copy(source, samples, part->samples, data + overhead);
out:
    free(samples);
    if (err)
        free(data);
    else
        *out = (struct sgav_body){.data = data, .len = len};
    return err;
}
