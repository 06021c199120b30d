/* eventstream.h - AWS event streams (application/vnd.amazon.eventstream), read and written.
 *
 * A message is: total length, headers' length and the CRC-32 of these two (big-endian, 4 bytes each, "prelude"),
 * the headers, the payload, and the CRC-32 of all before it. Messages are not aligned to what the transport
 * delivers. The reader keeps only the unfinished message, so memory is bounded by `max_message` whatever the
 * peer announces: room grows with what has come.
 *
 * Each message also carries its own source bytes (`raw`), so that a relay can hand on exactly what came: all raw
 * bytes together are the stream. A message that lies whole in one feed is not copied.
 *
 * A message whose checksums, lengths or headers are wrong ends the stream: there is no way to find the next one.
 *
 * Ownership: the spans given to the callback live until it returns.
 * Source: "Event stream encoding" in AWS's Smithy and Transcribe documentation. */
#ifndef PERDURE_PARSE_EVENTSTREAM_H
#define PERDURE_PARSE_EVENTSTREAM_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

#define EVENTSTREAM_TYPE "application/vnd.amazon.eventstream"

enum {
    EVENTSTREAM_OVERHEAD = 16,                  /* bytes of a message that are neither headers nor payload */
    EVENTSTREAM_MAX_MESSAGE = 24 * 1024 * 1024, /* what AWS's own readers take */
    EVENTSTREAM_MAX_HEADERS_BYTES = 128 * 1024, /* the same */
    EVENTSTREAM_MAX_HEADERS = 128,              /* headers of one message; AWS sends three */
};

/* The value's type, as numbered on the wire. */
enum eventstream_type {
    EVENTSTREAM_TRUE,
    EVENTSTREAM_FALSE,
    EVENTSTREAM_INT8,
    EVENTSTREAM_INT16,
    EVENTSTREAM_INT32,
    EVENTSTREAM_INT64,
    EVENTSTREAM_BYTES,
    EVENTSTREAM_STRING, /* UTF-8, not checked */
    EVENTSTREAM_TIMESTAMP,
    EVENTSTREAM_UUID,
    EVENTSTREAM_TYPE_COUNT
};

struct eventstream_header {
    struct span name;
    enum eventstream_type type;
    struct span value; /* the value's bytes as they came, without a length before them; empty for true and false */
    int64_t number;    /* integers; 1 and 0 for true and false; a timestamp's ms since 1970; else 0 */
};

/* Of the named headers those that are strings; empty when absent. */
struct eventstream_message {
    struct span message_type;   /* ":message-type": event, exception, error */
    struct span event_type;     /* ":event-type", of an event */
    struct span exception_type; /* ":exception-type", of an exception: its payload tells more */
    struct span error_code;     /* ":error-code", of an error, which has no payload */
    struct span error_message;  /* ":error-message" */
    struct span content_type;   /* ":content-type", of the payload */
    struct span payload;
    struct span headers; /* all of them, for eventstream_header_next() */
    struct span raw;     /* the whole message as it came */
};
typedef pd_err eventstream_fn(void *ctx, const struct eventstream_message *m);

/* What is wrong with a stream, for logs and messages. */
#define EVENTSTREAM_FAULTS(X)                                            \
    X(NONE, "nothing is wrong")                                          \
    X(PRELUDE_CRC, "the checksum of a message's lengths is wrong")       \
    X(LENGTHS, "a message's lengths contradict each other")              \
    X(HEADERS_TOOBIG, "a message's headers are larger than their limit") \
    X(MESSAGE_TOOBIG, "a message is larger than its limit")              \
    X(MESSAGE_CRC, "the checksum of a message is wrong")                 \
    X(HEADER, "a header is malformed or its type unknown")               \
    X(HEADER_TWICE, "a message has two headers of one name")             \
    X(HEADER_COUNT, "a message has more headers than the limit")         \
    X(UNFINISHED, "the stream ended inside a message")
enum eventstream_fault {
#define X(name, sentence) EVENTSTREAM_FAULT_##name,
    EVENTSTREAM_FAULTS(X)
#undef X
        EVENTSTREAM_FAULT_COUNT
};
const char *eventstream_fault_text(enum eventstream_fault fault); /* the sentence; never NULL */

struct eventstream;
struct eventstream *eventstream_new(size_t max_message, eventstream_fn *on_message, void *ctx) PD_CHECKED;
struct eventstream *eventstream_free(struct eventstream *s); /* NULL is fine; returns NULL */

/* Takes all of `in` or fails: PD_SYNTAX or PD_TOOBIG (eventstream_fault() says why), PD_NOMEM, or what on_message
 * returned. After a failure the reader is spent: free it. */
pd_err eventstream_feed(struct eventstream *s, struct span in) PD_CHECKED;
/* The stream ended: PD_CUT inside a message. */
pd_err eventstream_finish(struct eventstream *s) PD_CHECKED;
/* Why the last feed or finish failed; NONE when it was not the stream's fault. */
enum eventstream_fault eventstream_fault(const struct eventstream *s);
/* Bytes now held back for an unfinished message. */
size_t eventstream_pending(const struct eventstream *s);

/* Takes the first header off *headers (a copy of a message's `headers`). False at the end, and where one is malformed,
 * which in a message that was delivered none is. */
bool eventstream_header_next(struct span *headers, struct eventstream_header *ret) PD_CHECKED;

/* Adds one message. `message_type` is "event" or "exception", `type` the value of ":event-type" or ":exception-type".
 * An empty content_type is left out. PD_NOMEM; PD_TOOBIG for a value of 32 KB or more, a message above
 * EVENTSTREAM_MAX_MESSAGE, or the limit of `out`. On failure nothing is added. */
pd_err eventstream_put(struct buf *out, const char *message_type, struct span type, struct span content_type,
                       struct span payload) PD_CHECKED;

/* The same where the payload is written into `out` piece by piece, without a copy: begin, the payload, end with what begin told.
 * When end fails the whole message is taken back; who gives up in between puts the buffer's size back himself. */
pd_err eventstream_begin(struct buf *out, const char *message_type, struct span type, struct span content_type,
                         size_t *ret_at) PD_CHECKED;
pd_err eventstream_end(struct buf *out, size_t at) PD_CHECKED;

#endif
