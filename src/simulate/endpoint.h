/* endpoint.h - which dialect a request speaks, and what it wants: told by its path, as at the real providers.
 *
 *   PREFIX/chat/completions                                  chat       PREFIX/embeddings     its embeddings
 *   PREFIX/responses                                         responses
 *   PREFIX/messages, PREFIX/messages/count_tokens            messages
 *   PREFIX/models/M:generateContent and its siblings         gemini     Gemini API and Vertex AI
 *   PREFIX/publishers/anthropic/models/M:rawPredict          messages   on Vertex AI
 *   PREFIX/model/M/converse, /converse-stream                converse
 *   PREFIX/model/M/invoke, /invoke-with-response-stream      invoke
 *   PREFIX/api/chat, /api/generate, /api/embed ...           ollama
 *   PREFIX/models, PREFIX/models/M                           the list, in the shape that the headers ask for
 *
 * Pure. Spans point into the path. */
#ifndef PERDURE_SIMULATE_ENDPOINT_H
#define PERDURE_SIMULATE_ENDPOINT_H

#include "base/span.h"

#define SIM_DIALECTS(X)                                                       \
    X(CHAT, chat, "OpenAI Chat Completions, and all that copy them")          \
    X(RESPONSES, responses, "OpenAI Responses")                               \
    X(MESSAGES, messages, "Anthropic Messages, also on Vertex AI")            \
    X(GEMINI, gemini, "Gemini generateContent, also on Vertex AI")            \
    X(CONVERSE, converse, "Bedrock Converse and ConverseStream")              \
    X(INVOKE, invoke, "Bedrock InvokeModel, in the words of the model asked") \
    X(OLLAMA, ollama, "Ollama's own API")

enum sim_dialect_id {
#define X(code, name, what) SIM_##code,
    SIM_DIALECTS(X)
#undef X
        SIM_DIALECT_COUNT
};

enum operation { OP_NONE, OP_GENERATE, OP_EMBED, OP_COUNT, OP_MODELS, OP_ABOUT };

/* Whose house a model is served in: ids and some rules differ. */
enum platform { PLATFORM_OWN, PLATFORM_VERTEX, PLATFORM_BEDROCK };

struct endpoint {
    enum sim_dialect_id dialect;
    enum operation op;
    enum platform platform;
    struct span model; /* of the path, still percent-encoded; p NULL: the body says it */
    bool by_path;      /* the path says whether it streams: `streamed` */
    bool streamed;
    bool sse;   /* Gemini: alt=sse; without it a stream is a JSON array */
    bool batch; /* Gemini: batchEmbedContents */
    bool bare;  /* Ollama: /api/generate, one prompt and no messages */
    bool beta;  /* the path has a part "beta": DeepSeek's prefix */
};

struct endpoint_headers {
    bool anthropic, google; /* anthropic-version, x-goog-api-key are there */
};

/* op OP_NONE: nothing is at this path. */
struct endpoint endpoint_find(struct span path, struct span query, struct endpoint_headers h);
const char *endpoint_dialect_name(enum sim_dialect_id id);

#endif
