/* envelope.h - what an error body says, whatever it is wrapped in.
 *
 * Seen in the wild, and read here: error{} (OpenAI and most), error as a string (xAI, Ollama, Chutes in a stream), a flat message
 * (Mistral, SiliconFlow, Bedrock, old vLLM; the message itself may be an object, a list, or JSON in a string), detail as a string, object or
 * list (FastAPI), title and detail (problem details), errors[] (Cloudflare's API), an array around any of them (Gemini), response.error
 * (a failed Response), __type (AWS, and exceptions of its event streams), a bare JSON string, an SSE frame around any of them, HTML pages of proxies, plain text, nothing. Content types are not looked at: they lie. */
#ifndef PERDURE_PROVIDER_ENVELOPE_H
#define PERDURE_PROVIDER_ENVELOPE_H

#include "base/arena.h"
#include "parse/json.h"

enum envelope_shape { ENVELOPE_NOTHING, ENVELOPE_JSON, ENVELOPE_HTML, ENVELOPE_TEXT };

struct envelope {
    enum envelope_shape shape;
    bool error;                    /* JSON that says it is an error, not merely JSON */
    struct span message;           /* text; empty when there is none */
    struct span type, code, param; /* text; numbers keep their spelling; empty when absent or null */
    struct span inner_code;        /* a second, more exact code: error.innererror.code, error.status */
    struct span reason; /* the most exact: error.details[].reason (Google), error.details.error_code (Anthropic) */
    struct span request_id; /* that the body repeats; empty when it does not */
    struct span
        more; /* what an upstream of the provider said (error.metadata.raw, originalMessage), escapes left in */
    struct span limit_source; /* error.metadata.limit_source */
    bool flagged;             /* error.metadata says that moderation refused the input */
    int status; /* an HTTP status in the body: status_code, raw_status_code, status, a numeric code; 0: none */
};

/* The first JSON value of a body: byte order mark, blank lines and an SSE frame around it are stepped over. JSON_NONE: no JSON. */
struct json envelope_document(struct span body);

/* The name in AWS's way to say which error it is, "Name:http://..." or "namespace#Name". */
struct span envelope_aws_type(struct span type);

/* Cannot fail: when the arena is out of memory, escapes stay in the text. Spans point into the body and the arena. */
void envelope_read(struct span body, struct arena *a, struct envelope *ret);

#endif
