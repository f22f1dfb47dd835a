/* Strict numbers, UTF-8, ASCII comparison and growing text. Nothing here depends on the locale. */
#include "streamgate/base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_FIRST_CAP ((size_t)128)

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads the run of digits at s; *used tells its length. false: none, or above max. */
static bool read_digits(const char *s, size_t len, uint64_t max, uint64_t *out, size_t *used)
{
    uint64_t value = 0;
    size_t i = 0;
    for (; i < len && is_digit(s[i]); i++) {
        uint64_t digit = (uint64_t)(s[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (i == 0 || value > max)
        return false;
    *out = value;
    *used = i;
    return true;
}

enum sg_error sg_str_to_u64(const char *s, size_t len, uint64_t max, uint64_t *out)
{
    uint64_t value;
    size_t used;
    if (!read_digits(s, len, max, &value, &used) || used != len)
        return SG_ERR_INVALID;
    *out = value;
    return SG_OK;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static enum sg_error to_scaled(const char *s, const struct unit *units, size_t n_units,
                               uint64_t *out)
{
    uint64_t value;
    size_t used;
    if (!read_digits(s, strlen(s), UINT64_MAX, &value, &used))
        return SG_ERR_INVALID;
    for (size_t i = 0; i < n_units; i++) {
        if (strcmp(s + used, units[i].name) != 0)
            continue;
        if (value > UINT64_MAX / units[i].factor)
            return SG_ERR_INVALID;
        *out = value * units[i].factor;
        return SG_OK;
    }
    return SG_ERR_INVALID;
}

enum sg_error sg_str_to_bytes(const char *s, uint64_t *out)
{
    static const struct unit units[] = {
        {"", 1},
        {"B", 1},
        {"KiB", UINT64_C(1) << 10},
        {"MiB", UINT64_C(1) << 20},
        {"GiB", UINT64_C(1) << 30},
        {"TiB", UINT64_C(1) << 40},
        {"KB", UINT64_C(1000)},
        {"MB", UINT64_C(1000000)},
        {"GB", UINT64_C(1000000000)},
        {"TB", UINT64_C(1000000000000)},
    };
    return to_scaled(s, units, SG_ARRAY_LEN(units), out);
}

enum sg_error sg_str_to_ms(const char *s, uint64_t *out)
{
    static const struct unit units[] = {
        {"", 1000}, {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000},
    };
    return to_scaled(s, units, SG_ARRAY_LEN(units), out);
}

enum sg_error sg_str_decimal_to_ms(const char *s, size_t len, uint64_t max_ms, uint64_t *out)
{
    uint64_t seconds;
    size_t used;
    if (!read_digits(s, len, UINT64_MAX / 1000 - 1, &seconds, &used))
        return SG_ERR_INVALID;
    uint64_t ms = seconds * 1000;
    if (used < len) {
        if (s[used] != '.' || used + 1 == len)
            return SG_ERR_INVALID;
        uint64_t weight = 100;
        for (size_t i = used + 1; i < len; i++) {
            if (!is_digit(s[i]))
                return SG_ERR_INVALID;
            ms += (uint64_t)(s[i] - '0') * weight;
            weight /= 10;
        }
    }
    if (ms > max_ms)
        return SG_ERR_INVALID;
    *out = ms;
    return SG_OK;
}

/* Length of the well-formed sequence at p (RFC 3629, section 4), 0 when there is none. */
static size_t utf8_sequence(const uint8_t *p, size_t len)
{
    uint8_t lead = p[0];
    if (lead < 0x80)
        return 1;
    size_t n;
    uint8_t low = 0x80, high = 0xBF; /* what the second byte may be */
    if (lead >= 0xC2 && lead <= 0xDF) {
        n = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        n = 3;
        if (lead == 0xE0)
            low = 0xA0;
        else if (lead == 0xED)
            high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        n = 4;
        if (lead == 0xF0)
            low = 0x90;
        else if (lead == 0xF4)
            high = 0x8F;
    } else {
        return 0;
    }
    if (len < n || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    }
    return n;
}

bool sg_str_is_utf8(const void *s, size_t len)
{
    const uint8_t *p = s;
    for (size_t i = 0; i < len;) {
        size_t n = utf8_sequence(p + i, len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

bool sg_str_has_control(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)s[i];
        if (c < 0x20 || c == 0x7F)
            return true;
        if (c == 0xC2 && i + 1 < len && (uint8_t)s[i + 1] >= 0x80 && (uint8_t)s[i + 1] <= 0x9F)
            return true;
    }
    return false;
}

size_t sg_utf8_length(const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((uint8_t)s[i] & 0xC0) != 0x80;
    return n;
}

static char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool sg_str_ieq(const char *a, const char *b)
{
    size_t i = 0;
    while (a[i] != '\0' && ascii_lower(a[i]) == ascii_lower(b[i]))
        i++;
    return a[i] == '\0' && b[i] == '\0';
}

bool sg_str_starts(const char *s, const char *prefix)
{
    while (*prefix != '\0' && *s == *prefix) {
        s++;
        prefix++;
    }
    return *prefix == '\0';
}

bool sg_str_istarts(const char *s, const char *prefix)
{
    while (*prefix != '\0' && ascii_lower(*s) == ascii_lower(*prefix)) {
        s++;
        prefix++;
    }
    return *prefix == '\0';
}

void sg_text_free(struct sg_text *t)
{
    free(t->ptr);
    *t = (struct sg_text){0};
}

/* Room for `more` bytes and the NUL. */
static bool text_reserve(struct sg_text *t, size_t more)
{
    if (t->failed)
        return false;
    if (more > SIZE_MAX / 2 - t->len - 1) {
        t->failed = true;
        return false;
    }
    size_t need = t->len + more + 1;
    if (need <= t->cap)
        return true;
    size_t cap = t->cap > 0 ? t->cap : TEXT_FIRST_CAP;
    while (cap < need)
        cap *= 2;
    char *p = realloc(t->ptr, cap);
    if (p == NULL) {
        t->failed = true;
        return false;
    }
    t->ptr = p;
    t->cap = cap;
    return true;
}

void sg_text_append(struct sg_text *t, const char *s, size_t len)
{
    if (!text_reserve(t, len))
        return;
    if (len > 0)
        memcpy(t->ptr + t->len, s, len);
    t->len += len;
    t->ptr[t->len] = '\0';
}

void sg_text_puts(struct sg_text *t, const char *s)
{
    sg_text_append(t, s, strlen(s));
}

void sg_text_printf(struct sg_text *t, const char *fmt, ...)
{
    if (!text_reserve(t, 0))
        return;
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    size_t room = t->cap - t->len;
    int n = vsnprintf(t->ptr + t->len, room, fmt, args);
    if (n < 0) {
        t->failed = true;
    } else if ((size_t)n >= room && text_reserve(t, (size_t)n)) {
        vsnprintf(t->ptr + t->len, t->cap - t->len, fmt, again);
    }
    if (t->failed)
        t->ptr[t->len] = '\0';
    else
        t->len += (size_t)n;
    va_end(again);
    va_end(args);
}
