/* log.h - one event a line, with a stable name and named fields.
 *
 *   LOG(&scope, LOG_WARN, "attempt.end", "class=%s status=%d", "overloaded", 529);
 *   2026-11-23T18:00:00.123Z warn attempt.end call=c-1a2b attempt=2 class=overloaded status=529
 *
 * The level is tested before the arguments are built. No prompt, no answer and no key is ever a
 * field. Values are written by the caller's format: one that can hold spaces or comes from a peer is
 * written with log_quote().
 *
 * A log that nobody reads holds nobody up (outlet.h): a line waits LOG_PATIENCE_MS for room, the next ones not at all until there is room again, and then
 * `log.lost lines=N` says how many were left out. */
#ifndef PERDURE_BASE_LOG_H
#define PERDURE_BASE_LOG_H

#include "base/err.h"
#include "base/span.h"

#define LOG_LEVELS(X)                                    \
    X(LOG_ERROR, "error", "someone must act")            \
    X(LOG_WARN, "warn", "it was survived")               \
    X(LOG_INFO, "info", "the life of calls and targets") \
    X(LOG_DEBUG, "debug", "each step")

enum log_level {
#define X(code, name, what) code,
    LOG_LEVELS(X)
#undef X
        LOG_LEVEL_COUNT
};

/* Where a line belongs: "call=c-1a2b attempt=2"; may be empty. */
struct log_scope {
    char ids[96];
};

extern _Atomic enum log_level log_threshold; /* set at start and on reload, by one thread */
extern _Atomic int log_json;                 /* 1: JSON lines; 0: text */

enum { LOG_PATIENCE_MS = 100 };
/* At the start of a process, before it has threads. Without it a line waits as long as its reader likes. */
void log_open(void);
uint64_t log_lost(void); /* lines, since the start */

bool log_level_parse(struct span s, enum log_level *ret);
void log_write(const struct log_scope *scope, enum log_level level, const char *event, const char *fmt, ...)
    PD_PRINTF(4, 5);
/* A sentence for a person on the same output, whatever the level; it ends with a line. */
void log_say(const char *fmt, ...) PD_PRINTF(1, 2);
enum { LOG_QUOTED_MAX = 400 }; /* a sentence that says where, what and what to do */
/* A peer's text as one quoted field value, cut at LOG_QUOTED_MAX bytes, control bytes replaced. Uses `out`, returns it. */
const char *log_quote(struct span s, char *out, size_t out_bytes);

#define LOG(scope, level, event, ...)                          \
    do {                                                       \
        if ((level) <= log_threshold)                          \
            log_write((scope), (level), (event), __VA_ARGS__); \
    } while (0)

#endif
