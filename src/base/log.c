/* One line an event, made on the stack and given to the kernel in one write, so lines of threads
 * never mix. Everything not plain is escaped: no event can forge another line or break the JSON. */
#include "streamgate/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/str.h"

#define MESSAGE_MAX 1024
/* The longest escape of one byte is six characters; the rest is time, level, component and request
 * id. */
#define LINE_MAX_BYTES (MESSAGE_MAX * 6 + 512)

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char syslog_levels[] = {'3', '4', '6', '7'}; /* sd-daemon(3) */

enum journal { JOURNAL_UNKNOWN, JOURNAL_NO, JOURNAL_YES };

static atomic_int max_level = SG_LOG_INFO;
static atomic_bool json_lines;
static atomic_int journal = JOURNAL_UNKNOWN;
static void (*_Atomic test_sink)(void *arg, const char *line);
static void *_Atomic test_arg;
static _Thread_local const char *thread_request;

struct line {
    size_t len;
    char text[LINE_MAX_BYTES];
};

void sg_log_configure(enum sg_log_level max, bool json)
{
    atomic_store(&max_level, (int)max);
    atomic_store(&json_lines, json);
}

bool sg_log_enabled(enum sg_log_level level)
{
    return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

void sg_log_set_request(const char *request_id)
{
    thread_request = request_id;
}

void sg_log_test_sink(void (*sink)(void *arg, const char *line), void *arg)
{
    atomic_store(&test_arg, arg);
    atomic_store(&test_sink, sink);
}

static void put(struct line *l, const char *s, size_t len)
{
    size_t room = sizeof(l->text) - 2 - l->len; /* the line feed and the NUL always fit */
    if (len > room)
        len = room;
    memcpy(l->text + l->len, s, len);
    l->len += len;
}

static void puts_to(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

static void put_escaped(struct line *l, const char *s, size_t len, bool json)
{
    bool utf8 = sg_str_is_utf8(s, len);
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)s[i];
        bool c1 = c == 0xC2 && i + 1 < len && sg_str_has_control(s + i, 2);
        char escape[8];
        if (c == '\\' || (json && c == '"')) {
            snprintf(escape, sizeof(escape), "\\%c", c);
        } else if (c == '\n' || c == '\r' || c == '\t') {
            snprintf(escape, sizeof(escape), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        } else if (c1 && utf8) {
            i++;
            snprintf(escape, sizeof(escape), json ? "\\u%04x" : "\\x%02x", (uint8_t)s[i]);
        } else if (c < 0x20 || c == 0x7F) {
            snprintf(escape, sizeof(escape), json ? "\\u%04x" : "\\x%02x", c);
        } else if (c >= 0x80 && !utf8) {
            snprintf(escape, sizeof(escape), json ? "\\ufffd" : "\\x%02x", c);
        } else {
            put(l, s + i, 1);
            continue;
        }
        puts_to(l, escape);
    }
}

/* Whether stderr is the stream systemd told of (systemd.exec(5): device:inode). */
static bool is_journal(void)
{
    int known = atomic_load_explicit(&journal, memory_order_relaxed);
    if (known == JOURNAL_UNKNOWN) {
        const char *stream = getenv("JOURNAL_STREAM");
        struct stat st;
        known = JOURNAL_NO;
        if (stream != NULL && fstat(STDERR_FILENO, &st) == 0) {
            char own[64];
            snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
            if (strcmp(own, stream) == 0)
                known = JOURNAL_YES;
        }
        atomic_store_explicit(&journal, known, memory_order_relaxed);
    }
    return known == JOURNAL_YES;
}

static void write_text(struct line *l, enum sg_log_level level, const char *component,
                       const char *message)
{
    char time[SG_TIME_SIZE];
    sg_time_rfc3339(sg_clock_wall_ms(), time);
    puts_to(l, time);
    puts_to(l, " ");
    puts_to(l, level_names[level]);
    puts_to(l, " ");
    puts_to(l, component);
    if (thread_request != NULL) {
        puts_to(l, " [");
        put_escaped(l, thread_request, strlen(thread_request), false);
        puts_to(l, "]");
    }
    puts_to(l, ": ");
    put_escaped(l, message, strlen(message), false);
}

static void write_json(struct line *l, enum sg_log_level level, const char *component,
                       const char *message)
{
    char time[SG_TIME_SIZE];
    sg_time_rfc3339(sg_clock_wall_ms(), time);
    puts_to(l, "{\"time\":\"");
    puts_to(l, time);
    puts_to(l, "\",\"level\":\"");
    puts_to(l, level_names[level]);
    puts_to(l, "\",\"component\":\"");
    put_escaped(l, component, strlen(component), true);
    if (thread_request != NULL) {
        puts_to(l, "\",\"request_id\":\"");
        put_escaped(l, thread_request, strlen(thread_request), true);
    }
    puts_to(l, "\",\"message\":\"");
    put_escaped(l, message, strlen(message), true);
    puts_to(l, "\"}");
}

/* A cut may split a character; the torn bytes go. */
static void drop_torn_character(char *message, size_t len)
{
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        uint8_t c = (uint8_t)message[len - back];
        if ((c & 0xC0) == 0x80)
            continue;
        if (c >= 0xC0 && !sg_str_is_utf8(message + len - back, back))
            message[len - back] = '\0';
        return;
    }
}

void sg_log(enum sg_log_level level, const char *component, const char *fmt, ...)
{
    if (!sg_log_enabled(level))
        return;
    char message[MESSAGE_MAX + 1];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    if (n < 0)
        return;
    if (n > MESSAGE_MAX)
        drop_torn_character(message, MESSAGE_MAX);

    struct line l;
    l.len = 0;
    void (*sink)(void *, const char *) = atomic_load(&test_sink);
    if (sink == NULL && is_journal()) {
        char prefix[] = {'<', syslog_levels[level], '>', '\0'};
        puts_to(&l, prefix);
    }
    if (atomic_load_explicit(&json_lines, memory_order_relaxed))
        write_json(&l, level, component, message);
    else
        write_text(&l, level, component, message);
    if (sink != NULL) {
        l.text[l.len] = '\0';
        sink(atomic_load(&test_arg), l.text);
        return;
    }
    l.text[l.len++] = '\n';
    if (write(STDERR_FILENO, l.text, l.len) < 0)
        return; /* a log that cannot be written has nowhere to say so */
}
