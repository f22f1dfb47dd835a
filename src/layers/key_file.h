/* Keys of the daemon's own that lie in the data directory, each in a file of its own. Private. */
#ifndef LAYERS_KEY_FILE_H
#define LAYERS_KEY_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"

#define KEY_FILE_BYTES 32

/* Reads name, or makes it (0600, random) when it is not there. CONFIG: it is not a key; said in the
 * log, as is one that others can read. */
enum sg_error key_file_load(int data_dirfd, const char *name,
                            uint8_t key[KEY_FILE_BYTES]) SG_NODISCARD;

#endif
