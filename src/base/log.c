#include "base/log.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum log_level log_threshold = LOG_INFO;
int log_json;

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
    for (size_t i = 0; i < s.n && i < 200 && n + 3 < out_bytes; i++) {
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

/* Turns `a=1 b="x y"` into `,"a":"1","b":"x y"`. */
static size_t fields_as_json(const char *in, char *out, size_t room)
{
    size_t n = 0;
#define PUT(c)                 \
    do {                       \
        if (n + 1 < room)      \
            out[n++] = (c);    \
    } while (0)
    while (*in) {
        while (*in == ' ')
            in++;
        if (!*in)
            break;
        PUT(',');
        PUT('"');
        while (*in && *in != '=' && *in != ' ')
            PUT(*in++);
        PUT('"');
        PUT(':');
        if (*in == '=')
            in++;
        PUT('"');
        if (*in == '"') {
            for (in++; *in && *in != '"'; in++) {
                if (*in == '\\' && in[1])
                    PUT(*in++);
                PUT(*in);
            }
            if (*in == '"')
                in++;
        } else {
            while (*in && *in != ' ') {
                if (*in == '"' || *in == '\\')
                    PUT('\\');
                PUT(*in++);
            }
        }
        PUT('"');
    }
#undef PUT
    out[n] = '\0';
    return n;
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
        char all[1700], json[2048];
        snprintf(all, sizeof(all), "%s%s%s", ids, gap, fields);
        fields_as_json(all, json, sizeof(json));
        n = snprintf(line, sizeof(line), "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"%s}\n", when, level_names[level],
                     event, json);
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
