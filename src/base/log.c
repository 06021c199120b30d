#include "base/log.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

_Atomic enum log_level log_threshold = LOG_INFO;
_Atomic int log_json;

static const char *const level_names[] = {
#define X(code, name, what) name,
    LOG_LEVELS(X)
#undef X
};

bool log_level_parse(struct span s, enum log_level *ret)
{
    for (unsigned i = 0; i < LOG_LEVEL_COUNT; i++)
        if (span_is(s, level_names[i])) {
            *ret = (enum log_level)i;
            return true;
        }
    return false;
}

const char *log_quote(struct span s, char *out, size_t out_bytes)
{
    size_t n = 0;
    if (out_bytes < 8)
        return "\"\"";
    out[n++] = '"';
    for (size_t i = 0; i < s.n && i < LOG_QUOTED_MAX && n + 3 < out_bytes; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\')
            out[n++] = '\\';
        out[n++] = c < 0x20 || c == 0x7f ? '.' : (char)c;
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}

static size_t stamp(char *out, size_t room)
{
    uint64_t ms = clock_wall_ms();
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t n = strftime(out, room, "%Y-%m-%dT%H:%M:%S", &tm);
    int m = snprintf(out + n, room - n, ".%03uZ", (unsigned)(ms % 1000));
    return n + (m > 0 ? (size_t)m : 0);
}

struct line {
    char *p;
    size_t n, room;
};

static void put(struct line *l, char c)
{
    if (l->n + 1 < l->room)
        l->p[l->n++] = c;
}

/* Length of the UTF-8 character at s, 1 for ASCII; 0 when it is none. (parse/utf8.h is above this room.) */
static size_t character(const char *s)
{
    unsigned char c = (unsigned char)s[0];
    size_t n = c < 0x80                ? 1
               : c >= 0xc2 && c < 0xe0 ? 2
               : c >= 0xe0 && c < 0xf0 ? 3
               : c >= 0xf0 && c < 0xf5 ? 4
                                       : 0;
    for (size_t i = 1; i < n; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

/* One character of a value as JSON wants it; returns what follows. */
static const char *put_character(struct line *l, const char *s)
{
    unsigned char c = (unsigned char)*s;
    size_t n = character(s);
    if (n == 0 || c < 0x20 || c == 0x7f) {
        put(l, n == 0 ? '?' : '.');
        return s + 1;
    }
    if (c == '"' || c == '\\')
        put(l, '\\');
    for (size_t i = 0; i < n; i++)
        put(l, s[i]);
    return s + n;
}

/* `b="x y"` or `a=1`, from its value on; returns what follows. */
static const char *put_value(struct line *l, const char *in)
{
    bool quoted = *in == '"';
    put(l, '"');
    if (quoted)
        in++;
    while (*in && (quoted ? *in != '"' : *in != ' ')) {
        if (quoted && *in == '\\' && in[1])
            in++;
        in = put_character(l, in);
    }
    put(l, '"');
    return quoted && *in ? in + 1 : in;
}

/* Turns `a=1 b="x y"` into `,"a":"1","b":"x y"`. */
static void fields_as_json(const char *in, char *out, size_t room)
{
    struct line l = {out, 0, room};
    while (*in) {
        if (*in == ' ') {
            in++;
            continue;
        }
        put(&l, ',');
        put(&l, '"');
        while (*in && *in != '=' && *in != ' ')
            in = put_character(&l, in);
        put(&l, '"');
        put(&l, ':');
        in = put_value(&l, *in == '=' ? in + 1 : in);
    }
    out[l.n] = '\0';
}

void log_write(const struct log_scope *scope, enum log_level level, const char *event, const char *fmt, ...)
{
    char fields[1536], line[4096], when[40];
    const char *ids = scope ? scope->ids : "";
    va_list args;
    va_start(args, fmt);
    vsnprintf(fields, sizeof(fields), fmt, args);
    va_end(args);
    stamp(when, sizeof(when));
    const char *gap = *ids ? " " : "";
    int n;
    if (log_json) {
        char all[1700], json[3600]; /* escapes at worst double it */
        snprintf(all, sizeof(all), "%s%s%s", ids, gap, fields);
        fields_as_json(all, json, sizeof(json));
        n = snprintf(line, sizeof(line), "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"%s}\n", when,
                     level_names[level], event, json);
    } else {
        n = snprintf(line, sizeof(line), "%s %s %s%s%s%s%s\n", when, level_names[level], event, gap, ids,
                     *fields ? " " : "", fields);
    }
    if (n < 0)
        return;
    size_t len = (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1;
    line[len - 1] = '\n';
    /* One write a line, so that lines of several threads do not mix. A log that cannot be written is no reason to stop. */
    ssize_t written = write(STDERR_FILENO, line, len);
    (void)written;
}
