/* sse.h - server-sent events (WHATWG HTML 9.2.6), and what providers send in their place.
 *
 * Providers split frames anywhere, mix CRLF and LF, send comments as keep-alives,
 * forget the last blank line, and some send bare JSON lines or text lines in the
 * middle. The reader keeps only the unfinished event, so memory is bounded by
 * `max_event` whatever the peer does.
 *
 * Each event also carries its own source bytes (`raw`, up to and with its blank
 * line), so that a relay can hand on exactly what came: all raw bytes together
 * are the stream. An event that lies whole in one feed is not copied.
 *
 * A line is bare when it is neither a comment nor a field: a field starts with
 * letters, digits, '-' or '_' and a colon, or is one of the standard's four names
 * alone. Fields of other names are stepped over; they, `retry`, and a comment in
 * the middle of an event stay in that event's raw. A bare line ends the event
 * before it. A CR at the end of a feed waits for its LF, but not in a stream
 * whose last line ended in a CR alone.
 *
 * Ownership: the spans given to the callback live until it returns. */
#ifndef PERDURE_PARSE_SSE_H
#define PERDURE_PARSE_SSE_H

#include "base/err.h"
#include "base/span.h"

enum sse_kind {
    SSE_EVENT,   /* fields up to a blank line */
    SSE_COMMENT, /* one comment line, ": keep-alive"; data is the text after the colon */
    SSE_BARE, /* one line that is no SSE field at all: a JSON line, an HTML page, plain text; data is the line */
};

struct sse_event {
    enum sse_kind kind;
    struct span type; /* "event:"; empty when absent */
    struct span data; /* several data lines joined by LF */
    struct span id;
    struct span raw; /* the source bytes. Blank lines before an event belong to it */
    bool has_data;   /* "data:" occurred, even if empty */
};
typedef pd_err sse_fn(void *ctx, const struct sse_event *ev);

struct sse;
struct sse *sse_new(size_t max_event, sse_fn *on_event, void *ctx) PD_CHECKED;
struct sse *sse_free(struct sse *s); /* NULL is fine; returns NULL */

/* Takes all of `in` or fails: PD_NOMEM, PD_TOOBIG, or what on_event returned. After a failure the reader is spent: free it. */
pd_err sse_feed(struct sse *s, struct span in) PD_CHECKED;
/* The stream ended: what is pending is delivered as it stands (a missing last blank line is common; whether the data is
 * whole is for the caller to find out). Blank lines at the very end come as an event with nothing but raw; a field's name
 * that was cut is no bare line. */
pd_err sse_finish(struct sse *s) PD_CHECKED;
/* Bytes now held back for an unfinished event. */
size_t sse_pending(const struct sse *s);

#endif
