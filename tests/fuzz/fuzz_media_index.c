/* The index as a media process gone wrong might send it: the decoder must refuse or give one whose
 * playlists can be written. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/media/dash.h"
#include "streamgate/media/index.h"
#include "streamgate/media/playlist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(enum sg_error err, struct sg_buf *buf)
{
    if (err == SG_OK)
        sg_buf_unref(buf);
}

/* One form for one index: what was read of an older version has the newest one's from then on. */
static void check_form(const void *bytes, size_t len)
{
    struct sg_media_index *index = NULL;
    void *again = NULL;
    size_t again_len = 0;
    if (sg_media_index_decode(bytes, len, &index) != SG_OK ||
        sg_media_index_encode(index, &again, &again_len) != SG_OK || again_len != len ||
        memcmp(again, bytes, len) != 0)
        abort();
    free(again);
    sg_media_index_unref(index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sg_media_index *index = NULL;
    if (sg_media_index_decode(data, size, &index) != SG_OK)
        return 0;
    struct sg_media_file file = {.id = "01ARZ3NDEKTSV4RRFFQ69G5FAV",
                                 .index = sg_media_index_ref(index)};
    struct sg_presentation *shown = NULL;
    const struct sg_presentation_params params = {.files = &file, .n_files = 1};
    if (sg_presentation_create(&params, &shown) != SG_OK)
        abort();
    struct sg_buf *manifest = NULL;
    enum sg_error made = sg_dash_manifest(shown, &manifest);
    check(made, manifest);
    for (int ts = 0; ts < 2; ts++) {
        struct sg_buf *buf = NULL;
        enum sg_error err = sg_playlist_master(shown, ts, &buf);
        check(err, buf);
        for (uint32_t i = 0; i < index->n_tracks; i++) {
            buf = NULL;
            err = sg_playlist_media(index, &index->tracks[i], ts, &buf);
            check(err, buf);
        }
    }
    sg_presentation_unref(shown);
    void *bytes = NULL;
    size_t len = 0;
    if (sg_media_index_encode(index, &bytes, &len) != SG_OK)
        abort();
    check_form(bytes, len);
    free(bytes);
    sg_media_index_unref(index);
    return 0;
}
