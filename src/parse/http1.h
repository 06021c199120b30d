/* http1.h - HTTP/1.1 heads and bodies (RFC 9112), strict, for both sides.
 *
 * Bytes in, values out; no sockets and no clock. Refused, as RFC 9112 sections 2-7
 * allow or demand: bare CR and bare LF line ends, NUL and other control bytes,
 * obs-fold, space before the colon, duplicate or listed Content-Length,
 * Content-Length with Transfer-Encoding, any coding but a single "chunked",
 * missing or repeated Host in a request, versions other than 1.0 and 1.1. */
#ifndef PERDURE_PARSE_HTTP1_H
#define PERDURE_PARSE_HTTP1_H

#include "base/err.h"
#include "base/span.h"

enum { HTTP1_FIELDS_MAX = 100, HTTP1_TARGET_MAX = 8192, HTTP1_METHOD_MAX = 32 };

struct http1_field {
    struct span name, value; /* value without blanks around it */
};

struct http1_head {
    bool request;
    struct span method, target; /* requests */
    int status;                 /* responses */
    struct span reason;
    int minor;              /* HTTP/1.minor: 0 or 1 */
    int64_t content_length; /* -1: none given */
    bool chunked;
    bool keep_alive; /* by version and Connection */
    bool expect_continue;
    struct span host;
    unsigned fields_count;
    struct http1_field fields[HTTP1_FIELDS_MAX];
};

/* How many bytes the head takes, its blank line included; 0 when it is not all there yet. `*seen` remembers how far was
 * looked (start it at 0), so that a head that drips in is scanned once. */
size_t http1_head_size(struct span in, size_t *seen);
/* An unfinished request head that can no longer become a good one (a TLS hello, a bare LF, a control byte), so that it is refused
 * now and not at a deadline. `from` is how far an earlier call looked; 0 at first. */
bool http1_head_hopeless(struct span in, size_t from);

/* `head` is exactly one head. On failure *ret_status is what a server answers (400, 414, 417, 431, 501, 505) and *ret_why one
 * sentence for the client and the log, a static string. Spans point into `head`. */
pd_err http1_request(struct span head, struct http1_head *ret, int *ret_status, const char **ret_why) PD_CHECKED;
/* The response to a request with this method (HEAD has no body). */
pd_err http1_response(struct span head, struct http1_head *ret, const char **ret_why) PD_CHECKED;

/* The value of a field by name, case ignored; p NULL when absent. */
struct span http1_find_name(const struct http1_field *fields, unsigned count, struct span name);
static inline struct span http1_find(const struct http1_field *fields, unsigned count, const char *name)
{
    return http1_find_name(fields, count, span_str(name));
}
static inline struct span http1_get(const struct http1_head *h, const char *name)
{
    return http1_find(h->fields, h->fields_count, name);
}
/* A comma-separated list field holds this token (case ignored)? */
bool http1_has_token(const struct http1_head *h, const char *name, const char *token);

/* How a body is delimited. */
enum http1_framing { HTTP1_NO_BODY, HTTP1_LENGTH, HTTP1_CHUNKED, HTTP1_UNTIL_CLOSE };
enum http1_framing http1_request_framing(const struct http1_head *h);
enum http1_framing http1_response_framing(const struct http1_head *h, bool head_request);

/* A body, taken apart as it arrives. Plain value; keeps no bytes. */
struct http1_body {
    enum http1_framing framing;
    int state;
    uint64_t left;       /* of the length, or of the current chunk */
    unsigned line_bytes; /* of the chunk-size line or trailer so far, which are limited */
    bool done;
};
enum { HTTP1_CHUNK_LINE_MAX = 256, HTTP1_TRAILER_MAX = 8192 };
void http1_body_init(struct http1_body *b, enum http1_framing framing, int64_t content_length);
/* Takes a prefix of `in`: *ret_used bytes, of which *ret_data (a part of `in`, may be empty) is body. Call again with the rest until
 * it uses nothing or b->done. PD_SYNTAX on bad chunk framing, PD_TOOBIG on an endless chunk line or trailer. */
pd_err http1_body_step(struct http1_body *b, struct span in, size_t *ret_used, struct span *ret_data) PD_CHECKED;
/* The connection ended here: PD_OK when that is a proper end of this body, PD_CUT when not. */
pd_err http1_body_eof(const struct http1_body *b) PD_CHECKED;

/* The standard reason phrase; "" when unknown. */
const char *http1_reason(int status);

#endif
