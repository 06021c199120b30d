/* error_dialect.h - how each client is told of a failure, so that it tries again when that makes sense and stops when not.
 *
 * The rows are the whole policy; what they rest on was observed (docs/internals/clients.md). Pure. */
#ifndef PERDURE_RELAY_ERROR_DIALECT_H
#define PERDURE_RELAY_ERROR_DIALECT_H

#include "provider/failure.h"

/* How a stream that broke for good is ended. Never cleanly: some clients take a clean early end as the answer. */
enum break_style {
    BREAK_EVENT, /* an error event, then a cut */
    BREAK_CUT,   /* a cut alone */
};

/* A client is known by a word in its User-Agent, the first row that fits. `busy` is the status of a rate limit that passes.
 *
 *  code                  User-Agent has          busy  break        why */
#define CLIENTS(X)                                                                                       \
    X(CLIENT_CLAUDE_CODE, "claude-cli/", 429, BREAK_EVENT, "tries again, honours Retry-After")           \
    X(CLIENT_CODEX, "codex_", 503, BREAK_EVENT, "a 429 may end its run, a 503 does not")                 \
    X(CLIENT_OPENCODE, "opencode/", 429, BREAK_EVENT, "a clean early end would be the answer")           \
    X(CLIENT_GEMINI_CLI, "GeminiCLI/", 429, BREAK_EVENT, "a cut ends it, an error event is tried again") \
    X(CLIENT_QWEN_CODE, "QwenCode/", 429, BREAK_EVENT, "tries again after both")                         \
    X(CLIENT_PI, "pi-coding-agent", 429, BREAK_CUT, "an error event ends it, a cut is tried again")      \
    X(CLIENT_CRUSH, "crush", 429, BREAK_EVENT, "as the SDK below it")                                    \
    X(CLIENT_AIDER, "litellm", 429, BREAK_EVENT, "as the SDK below it")                                  \
    X(CLIENT_OPENAI_SDK, "openai/", 429, BREAK_EVENT, "reads x-should-retry and Retry-After")            \
    X(CLIENT_ANTHROPIC_SDK, "anthropic/", 429, BREAK_EVENT, "reads x-should-retry and Retry-After")      \
    X(CLIENT_GENAI_SDK, "google-genai-sdk/", 429, BREAK_EVENT, "by the status alone")                    \
    X(CLIENT_OTHER, "", 429, BREAK_EVENT, "what most do")

enum client_kind {
#define X(code, word, busy, style, why) code,
    CLIENTS(X)
#undef X
        CLIENT_KIND_COUNT
};

/* `user_agent`: p NULL when there is none. */
enum client_kind client_kind_of(struct span user_agent);
enum break_style client_break_style(enum client_kind k);

/* Whether the same request may have a better end when it is sent again. */
bool failure_heals(enum failure f);

struct error_form {
    int status;
    bool retry;              /* x-should-retry: true or false */
    uint64_t retry_after_ms; /* 0: no Retry-After */
};
/* The provider's own status (0: none) counts only where the failure's row has none; `retry_after_ms` 0: nothing is known. */
struct error_form error_form_of(enum client_kind k, enum failure f, int provider_status, uint64_t retry_after_ms);

#endif
