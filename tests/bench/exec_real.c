/* For the instruction count only: under valgrind /proc/self/exe is valgrind, so a program that
 * starts itself anew would start that. Preloaded into the daemon, this names the program by its
 * path instead. */
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int execve(const char *path, char *const argv[], char *const env[])
{
    const char *real = getenv("SG_BENCH_EXE");
    if (real != NULL && strcmp(path, "/proc/self/exe") == 0)
        path = real;
    return (int)syscall(SYS_execve, path, argv, env);
}
