#include "base/log.h"

#include "base/clock.h"
#include "base/outlet.h"

#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

_Atomic enum log_level log_threshold = LOG_INFO;
_Atomic int log_json;

enum { LINE_BYTES = PIPE_BUF, WAITED_SHARE = 10 }; /* a pipe takes a line as a whole, or not */

static struct outlet outlet = {STDERR_FILENO, OUTLET_TAKES};
static _Atomic uint64_t lost, untold; /* lines; untold: of these, those that no line tells of yet */
static _Atomic bool full;             /* it was waited for once, in vain */
static _Atomic bool torn;             /* the last line has no end */
static _Atomic uint64_t patient_at_ms;

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

/* ---- to its reader ------------------------------------------------------------------------------------ */

/* A slow reader is waited for a tenth of the time at most, and one that takes nothing once. */
static bool wait_for_reader(void)
{
    uint64_t began = clock_mono_ms();
    if (full || began < patient_at_ms)
        return false;
    bool room = outlet_wait(&outlet, LOG_PATIENCE_MS);
    uint64_t now = clock_mono_ms();
    patient_at_ms = now + (now - began) * (WAITED_SHARE - 1);
    full = !room;
    return room;
}

static bool put_out(struct span line)
{
    size_t all = line.n;
    while (line.n) {
        ssize_t took = outlet_write(&outlet, line);
        if (took < 0)
            return true; /* a log that cannot be written is no reason to stop */
        if (took == 0 && !wait_for_reader()) {
            torn = torn || line.n < all;
            return false;
        }
        line = span_from(line, (size_t)took);
    }
    full = false;
    return true;
}

static size_t put_head(char *line, enum log_level level, const char *event)
{
    char when[40];
    stamp(when, sizeof(when));
    int n =
        snprintf(line, LINE_BYTES, log_json ? "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"" : "%s %s %s",
                 when, level_names[level], event);
    return n > 0 ? (size_t)n : 0;
}

/* What was left out before it. False: that could not be said either. */
static bool tell_lost(void)
{
    char line[LINE_BYTES];
    uint64_t lines = atomic_exchange(&untold, 0);
    if (!lines)
        return true;
    line[0] = '\n';
    size_t n = 1 + put_head(line + 1, LOG_WARN, "log.lost");
    n += (size_t)snprintf(line + n, sizeof(line) - n, log_json ? ",\"lines\":\"%llu\"}\n" : " lines=%llu\n",
                          (unsigned long long)lines);
    bool was_torn = torn;
    if (put_out(span_from(span_of(line, n), !was_torn))) {
        torn = false;
        return true;
    }
    untold += lines;
    return false;
}

/* One write a line, so that lines of several threads do not mix. */
static void emit(struct span line)
{
    if (tell_lost() && put_out(line))
        return;
    lost++;
    untold++;
}

void log_open(void)
{
    outlet_close(&outlet);
    outlet_open(&outlet, STDERR_FILENO);
}

uint64_t log_lost(void)
{
    return lost;
}

void log_say(const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (n <= 0)
        return;
    size_t len = (size_t)n < sizeof(line) - 1 ? (size_t)n : sizeof(line) - 2;
    line[len++] = '\n';
    emit(span_of(line, len));
}

void log_write(const struct log_scope *scope, enum log_level level, const char *event, const char *fmt, ...)
{
    char fields[1536], line[LINE_BYTES];
    const char *ids = scope ? scope->ids : "";
    va_list args;
    va_start(args, fmt);
    vsnprintf(fields, sizeof(fields), fmt, args);
    va_end(args);
    const char *gap = *ids ? " " : "";
    size_t len = put_head(line, level, event);
    int n;
    if (log_json) {
        char all[1700], json[3600]; /* escapes at worst double it */
        snprintf(all, sizeof(all), "%s%s%s", ids, gap, fields);
        fields_as_json(all, json, sizeof(json));
        n = snprintf(line + len, sizeof(line) - len, "%s}\n", json);
    } else {
        n = snprintf(line + len, sizeof(line) - len, "%s%s%s%s\n", gap, ids, *fields ? " " : "", fields);
    }
    if (n < 0)
        return;
    len = len + (size_t)n < sizeof(line) ? len + (size_t)n : sizeof(line) - 1;
    line[len - 1] = '\n';
    emit(span_of(line, len));
}
