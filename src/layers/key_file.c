/* A key is random bytes, written once with its rename synced; it is never in the database, so that
 * a copy of that proves nothing to anybody. */
#include "key_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "streamgate/base/crypto.h"
#include "streamgate/base/fs.h"
#include "streamgate/base/log.h"

static enum sg_error make(int data_dirfd, const char *name, uint8_t key[KEY_FILE_BYTES])
{
    sg_random(key, KEY_FILE_BYTES);
    return sg_fs_write_file(data_dirfd, name, key, KEY_FILE_BYTES, 0600);
}

static void warn_if_readable(int data_dirfd, const char *name)
{
    int fd;
    struct stat st;
    if (sg_fs_open(data_dirfd, name, O_RDONLY, 0, &fd) != SG_OK)
        return;
    bool open_to_others = fstat(fd, &st) == 0 && (st.st_mode & 077) != 0;
    close(fd);
    if (open_to_others)
        sg_warn_log("identity", "%s can be read by others; its mode should be 0600", name);
}

enum sg_error key_file_load(int data_dirfd, const char *name, uint8_t key[KEY_FILE_BYTES])
{
    char *text = NULL;
    size_t len = 0;
    enum sg_error err = sg_fs_read_file(data_dirfd, name, KEY_FILE_BYTES, &text, &len);
    if (err == SG_ERR_NOT_FOUND)
        return make(data_dirfd, name, key);
    if (err == SG_ERR_TOO_LARGE || (err == SG_OK && len != KEY_FILE_BYTES)) {
        sg_error_log("identity", "%s is not %d bytes long", name, KEY_FILE_BYTES);
        err = SG_ERR_CONFIG;
    }
    if (err == SG_OK) {
        memcpy(key, text, KEY_FILE_BYTES);
        warn_if_readable(data_dirfd, name);
    }
    if (text != NULL)
        sg_wipe(text, len);
    free(text);
    return err;
}
