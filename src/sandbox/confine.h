/* The two kernel mechanisms sg_sandbox_enter ends with. Both bind the calling process for good. */
#ifndef STREAMGATE_SANDBOX_CONFINE_H
#define STREAMGATE_SANDBOX_CONFINE_H

#include <stdbool.h>

#include "streamgate/base/error.h"

#if defined(__SANITIZE_ADDRESS__)
#define SG_UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SG_UNDER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define SG_UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SG_UNDER_TSAN 1
#endif
#endif
#if defined(SG_UNDER_ASAN) || defined(SG_UNDER_TSAN)
#define SG_UNDER_SANITIZER 1
#endif

/* Denies the whole file system, and network and signals where the kernel can. Needs no_new_privs.
 * abi: 0 when the kernel has no Landlock, which is no error. Errors: sg_error_from_errno's, when it
 * is there and refuses. */
enum sg_error sg_landlock_deny_all(int *abi) SG_NODISCARD;

/* Loads the system call filter; sendmsg and recvmsg pass for sock only;
 * a task makes and seals no memfd. Errors: NO_MEMORY,
 * FORBIDDEN (the kernel refused). */
enum sg_error sg_seccomp_load(int sock, bool task) SG_NODISCARD;

#endif
