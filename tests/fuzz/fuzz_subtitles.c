/* Files of subtitles as people upload them: whatever the parsers make of them, the strict reader
 * takes, and so do the parsers themselves, without changing it. The same bytes go to the strict
 * reader, to the decoder of the list of tracks, and are cut into segments where they pass. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/media/subtitle_playlist.h"

#include "text_cues.h"
#include "text_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_text(const uint8_t *data, size_t size)
{
    uint32_t cues = 0;
    if (sg_webvtt_check(data, size, &cues) != SG_OK)
        return;
    check(cues > 0);
    const struct sg_subtitle_cut cut = {.start_us = 0, .end_us = 100000000};
    for (uint32_t n = 0; n < sg_subtitle_segments(&cut); n++) {
        struct sg_buf *segment = NULL;
        check(sg_subtitle_segment(&cut, n, data, size, &segment) == SG_OK);
        sg_buf_unref(segment);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[SG_MEDIA_MESSAGE_MAX] = "";
    void *once = NULL, *twice = NULL;
    size_t once_len = 0, twice_len = 0;
    struct text_source source = {.bytes = data, .len = size, .max_ms = 3600000};
    enum sg_error err = text_convert(&source, &once, &once_len, why);
    if (err != SG_OK) {
        check(err == SG_ERR_NO_MEMORY || why[0]);
    } else {
        uint32_t cues = 0;
        check(sg_webvtt_check(once, once_len, &cues) == SG_OK);
        source.bytes = once;
        source.len = once_len;
        check(text_convert(&source, &twice, &twice_len, why) == SG_OK);
        check(twice_len == once_len && memcmp(once, twice, once_len) == 0);
        check_text(once, once_len);
    }
    free(once);
    free(twice);
    check_text(data, size);
    struct sg_subtitle_tracks tracks;
    if (text_list_decode(data, size, &tracks) == SG_OK) {
        uint8_t bytes[TEXT_LIST_MAX];
        size_t len = 0;
        check(text_list_encode(&tracks, bytes, &len) == SG_OK);
        check(len == size && memcmp(bytes, data, size) == 0);
    }
    return 0;
}
