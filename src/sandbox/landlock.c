/* Landlock, by its raw system calls: a rule set that handles every right the kernel knows and
 * grants none. The layouts are declared here because Debian 12's header ends at ABI 3 while the
 * kernel below may be newer. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"

/* struct landlock_ruleset_attr, grown over the ABIs: the size passed tells the kernel which one is
 * meant. */
struct ruleset {
    uint64_t access_fs;
    uint64_t access_net; /* ABI 4 */
    uint64_t scoped;     /* ABI 6 */
};

#define CREATE_RULESET_VERSION 1u

static const struct level {
    int abi;
    unsigned fs_rights; /* the rights are numbered from bit 0 on */
    unsigned net_rights;
    unsigned scopes;
    size_t size;
} levels[] = {
    {.abi = 6, .fs_rights = 16, .net_rights = 2, .scopes = 2, .size = sizeof(struct ruleset)},
    {.abi = 5, .fs_rights = 16, .net_rights = 2, .size = offsetof(struct ruleset, scoped)},
    {.abi = 4, .fs_rights = 15, .net_rights = 2, .size = offsetof(struct ruleset, scoped)},
    {.abi = 3, .fs_rights = 15, .size = offsetof(struct ruleset, access_net)},
    {.abi = 2, .fs_rights = 14, .size = offsetof(struct ruleset, access_net)},
    {.abi = 1, .fs_rights = 13, .size = offsetof(struct ruleset, access_net)},
};

static uint64_t first_bits(unsigned n)
{
    return (UINT64_C(1) << n) - 1;
}

enum sg_error sg_landlock_deny_all(int *abi)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, CREATE_RULESET_VERSION);
    if (version < 1) { /* not built in, switched off, or filtered away by the service manager */
        *abi = 0;
        return SG_OK;
    }
    const struct level *level = levels;
    while (level->abi > version)
        level++;
    const struct ruleset rules = {
        .access_fs = first_bits(level->fs_rights),
        .access_net = first_bits(level->net_rights),
        .scoped = first_bits(level->scopes),
    };
    long fd = syscall(SYS_landlock_create_ruleset, &rules, level->size, 0u);
    if (fd < 0)
        return sg_error_from_errno(errno);
    enum sg_error err = SG_OK;
    if (syscall(SYS_landlock_restrict_self, (int)fd, 0u) != 0)
        err = sg_error_from_errno(errno);
    (void)close((int)fd);
    if (err == SG_OK)
        *abi = level->abi;
    return err;
}
