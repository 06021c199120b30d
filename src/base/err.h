/* err.h - what can go wrong inside our own process.
 *
 * How an upstream attempt ended is not a pd_err but a failure class
 * (provider/failure.h). One list holds code and sentence, so no code is nameless. */
#ifndef PERDURE_BASE_ERR_H
#define PERDURE_BASE_ERR_H

#define PD_ERRORS(X)                                           \
    X(PD_OK, "no error")                                       \
    X(PD_NOMEM, "out of memory")                               \
    X(PD_TOOBIG, "larger than its limit")                      \
    X(PD_SYNTAX, "not in the expected format")                 \
    X(PD_INVALID, "a value is not allowed here")               \
    X(PD_NOTFOUND, "not found")                                \
    X(PD_EXISTS, "already there")                              \
    X(PD_IO, "input or output failed")                         \
    X(PD_NOFD, "out of file descriptors")                      \
    X(PD_CLOSED, "closed by the other side")                   \
    X(PD_RESET, "connection reset by the other side")          \
    X(PD_CUT, "ended before its announced end")                \
    X(PD_TIMEOUT, "a deadline passed")                         \
    X(PD_DNS, "the name could not be resolved")                \
    X(PD_CONNECT, "no connection could be made")               \
    X(PD_PROXY, "the proxy refused")                           \
    X(PD_TLS, "the TLS handshake or certificate check failed") \
    X(PD_PROTO, "the other side broke the protocol")           \
    X(PD_CANCELLED, "cancelled by us")                         \
    X(PD_UNSUPPORTED, "not supported")                         \
    X(PD_NOSPACE, "no space left on the disk")

typedef enum pd_err {
#define X(code, sentence) code,
    PD_ERRORS(X)
#undef X
        PD_ERR_COUNT
} pd_err;

/* The sentence of a code, for logs and messages. Never NULL. */
const char *pd_err_text(pd_err e);
/* The code's own name, such as "PD_NOMEM". Never NULL. */
const char *pd_err_name(pd_err e);

#define PD_CHECKED __attribute__((warn_unused_result))
#define PD_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define PD_UNUSED __attribute__((unused))

#endif
