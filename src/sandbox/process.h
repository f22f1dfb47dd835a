/* One child process and the daemon's end of its socket. Owned by the thread that started it: that
 * thread must live as long as the process (PR_SET_PDEATHSIG fires when the starting thread ends),
 * and is the only one to wait for it. */
#ifndef STREAMGATE_SANDBOX_PROCESS_H
#define STREAMGATE_SANDBOX_PROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "streamgate/base/error.h"

#define SG_PROCESS_SOCK 3 /* where the process finds its end of the socket */

struct sg_process {
    pid_t pid; /* 0: none */
    int sock;  /* good while pid is not 0 */
};

/* Starts exe with argv, an empty environment, default signals (TERM, INT and HUP ignored: a signal
 * to the daemon's whole group must not end processes that still drain its work), its own session
 * and no descriptor above 3. Errors: sg_error_from_errno's. */
enum sg_error sg_process_start(const char *exe, char *const argv[],
                               struct sg_process *out) SG_NODISCARD;
/* A descriptor of the file for the process: read-only, and with an offset of its own, which dup
 * would share between the daemon and every process that has the file. What cannot be opened again
 * is dup'ed when it is read-only anyway. Errors: sg_error_from_errno's, INVALID. */
enum sg_error sg_process_source(int fd, int *out) SG_NODISCARD;
/* Kills, reaps and closes; does nothing to one that was not started. Tells how it ended ("signal
 * 11", "exit 1"), for a log line. */
#define SG_PROCESS_END_SIZE 32
void sg_process_stop(struct sg_process *process, char how[SG_PROCESS_END_SIZE]);

#endif
