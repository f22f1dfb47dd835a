/* The log: one line an event, text or JSON, to stderr (journald reads the <n> level prefix when stderr is the journal).
 * Thread-safe; never called under a lock. No token, key or raw URL is ever passed to it. */
#ifndef STREAMGATE_BASE_LOG_H
#define STREAMGATE_BASE_LOG_H

#include <stdbool.h>

#include "streamgate/base/error.h"

enum sg_log_level { SG_LOG_ERROR, SG_LOG_WARN, SG_LOG_INFO, SG_LOG_DEBUG };

void sg_log_configure(enum sg_log_level max, bool json);
bool sg_log_enabled(enum sg_log_level level);
/* component: static, e.g. "server". The message is cut at 1,024 bytes; control characters are escaped. */
void sg_log(enum sg_log_level level, const char *component, const char *fmt, ...) SG_PRINTF(3, 4);
/* Sets a 26-character request id added to lines of this thread until cleared with NULL (the string must outlive it). */
void sg_log_set_request(const char *request_id);
/* Tests: capture lines instead of writing them; NULL restores. */
void sg_log_test_sink(void (*sink)(void *arg, const char *line), void *arg);

#define sg_error_log(component, ...) sg_log(SG_LOG_ERROR, component, __VA_ARGS__)
#define sg_warn_log(component, ...) sg_log(SG_LOG_WARN, component, __VA_ARGS__)
#define sg_info_log(component, ...) sg_log(SG_LOG_INFO, component, __VA_ARGS__)
#define sg_debug_log(component, ...) \
    do { if (sg_log_enabled(SG_LOG_DEBUG)) sg_log(SG_LOG_DEBUG, component, __VA_ARGS__); } while (0)

#endif
