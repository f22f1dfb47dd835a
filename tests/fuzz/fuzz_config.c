/* Config files: no input crashes the parser, every refusal says why, and what is taken keeps its
 * bounds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "streamgate/base/config.h"

#include "config_rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void check_values(const struct sg_config *c)
{
    for (unsigned i = 0; i < SG_SETTING_COUNT; i++) {
        const struct setting_row *row = &sg_setting_rows[i];
        if (row->type == SETTING_UINT || row->type == SETTING_BYTES || row->type == SETTING_MS) {
            uint64_t n = sg_config_uint(c, (enum sg_setting)i);
            CHECK(n >= row->min && n <= row->max);
        } else if (row->type == SETTING_STRING || row->type == SETTING_PATH) {
            const char *s = sg_config_string(c, (enum sg_setting)i);
            CHECK(strlen(s) >= row->min && strlen(s) <= row->max && sg_str_is_utf8(s, strlen(s)));
        }
    }
}

/* What begins with a NUL is one override; everything else is a file. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("config", MFD_CLOEXEC);
    char name[] = "/proc/self/fd/\0\0\0";
    CHECK(fd >= 0 && fd < 100);
    size_t at = strlen(name);
    if (fd >= 10)
        name[at++] = (char)('0' + fd / 10);
    name[at] = (char)('0' + fd % 10);
    CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);

    struct sg_config_params params = {.file = name};
    char *override = NULL;
    const char *overrides[1];
    if (size > 0 && data[0] == 0) {
        override = strndup((const char *)data + 1, size - 1);
        CHECK(override != NULL);
        overrides[0] = override;
        params = (struct sg_config_params){.overrides = overrides, .n_overrides = 1};
    }
    struct sg_text mistakes = {0};
    struct sg_config *config = NULL;
    enum sg_error err = sg_config_load(&params, &mistakes, &config);
    if (err == SG_OK) {
        CHECK(mistakes.len == 0);
        check_values(config);
        sg_config_unref(config);
    } else {
        CHECK(err == SG_ERR_CONFIG && mistakes.len > 0 && mistakes.ptr[mistakes.len - 1] == '\n');
        CHECK(memchr(mistakes.ptr, '\0', mistakes.len) == NULL);
        CHECK(memchr(mistakes.ptr, 0x1B, mistakes.len) == NULL);
    }
    sg_text_free(&mistakes);
    free(override);
    return 0;
}
