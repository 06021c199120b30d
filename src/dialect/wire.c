#include "dialect/wire.h"

#include <stdlib.h>

/* ---- paths ------------------------------------------------------------------------ */

static pd_err literal(const char *path, struct span *ret)
{
    *ret = span_str(path);
    return PD_OK;
}

static bool plain_in_path(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c);
}

/* A model's name as one path segment (RFC 3986 3.3): Bedrock's hold ':' and '/', which its signature wants escaped. `also`: bytes that
 * may stand as they are. */
static struct span segment(struct arena *a, struct span name, const char *also)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = arena_alloc(a, name.n * 3 + 1);
    size_t n = 0;
    if (!out)
        return SPAN_NONE;
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        if (plain_in_path((char)c) || (c && strchr(also, c))) {
            out[n++] = (char)c;
            continue;
        }
        out[n++] = '%';
        out[n++] = hex[c >> 4];
        out[n++] = hex[c & 15];
    }
    return span_of(out, n);
}

static pd_err printed(char *path, struct span *ret)
{
    if (!path)
        return PD_NOMEM;
    *ret = span_str(path);
    return PD_OK;
}

static pd_err openai_chat_path(enum codec_kind kind, const struct wire_place *at, struct arena *a,
                               struct span *ret)
{
    (void)kind, (void)at, (void)a;
    return literal("/chat/completions", ret);
}

static pd_err openai_responses_path(enum codec_kind kind, const struct wire_place *at, struct arena *a,
                                    struct span *ret)
{
    (void)kind, (void)at, (void)a;
    return literal("/responses", ret);
}

static pd_err openai_embeddings_path(enum codec_kind kind, const struct wire_place *at, struct arena *a,
                                     struct span *ret)
{
    (void)kind, (void)at, (void)a;
    return literal("/embeddings", ret);
}

static pd_err anthropic_path(enum codec_kind kind, const struct wire_place *at, struct arena *a, struct span *ret)
{
    (void)at, (void)a;
    return literal(kind == CODEC_COUNT ? "/v1/messages/count_tokens" : "/v1/messages", ret);
}

static const char *gemini_verb(enum codec_kind kind, const struct wire_place *at)
{
    switch (kind) {
    case CODEC_EMBED:
        return at->batch ? "batchEmbedContents" : "embedContent";
    case CODEC_COUNT:
        return "countTokens";
    case CODEC_CHAT:
        break;
    }
    return at->stream ? "streamGenerateContent?alt=sse" : "generateContent";
}

static pd_err gemini_path(enum codec_kind kind, const struct wire_place *at, struct arena *a, struct span *ret)
{
    struct span model = segment(a, at->model, "/");
    if (!model.p)
        return PD_NOMEM;
    bool named = span_starts(model, "models/") || span_starts(model, "tunedModels/");
    return printed(
        arena_printf(a, "/v1beta/%s%.*s:%s", named ? "" : "models/", SPAN_FMT(model), gemini_verb(kind, at)), ret);
}

static pd_err vertex_path(const struct wire_place *at, const char *maker, const char *verb, struct arena *a,
                          struct span *ret)
{
    struct span model = segment(a, at->model, "@");
    if (!at->project || !at->location)
        return PD_INVALID;
    if (!model.p)
        return PD_NOMEM;
    return printed(arena_printf(a, "/v1/projects/%s/locations/%s/publishers/%s/models/%.*s:%s", at->project,
                                at->location, maker, SPAN_FMT(model), verb),
                   ret);
}

static pd_err vertex_gemini_path(enum codec_kind kind, const struct wire_place *at, struct arena *a,
                                 struct span *ret)
{
    return vertex_path(at, "google", gemini_verb(kind, at), a, ret);
}

static pd_err vertex_anthropic_path(enum codec_kind kind, const struct wire_place *at, struct arena *a,
                                    struct span *ret)
{
    (void)kind;
    return vertex_path(at, "anthropic", at->stream ? "streamRawPredict" : "rawPredict", a, ret);
}

static pd_err bedrock_path(const struct wire_place *at, const char *verb, struct arena *a, struct span *ret)
{
    struct span model = segment(a, at->model, "");
    if (!model.p)
        return PD_NOMEM;
    return printed(arena_printf(a, "/model/%.*s/%s", SPAN_FMT(model), verb), ret);
}

static pd_err converse_path(enum codec_kind kind, const struct wire_place *at, struct arena *a, struct span *ret)
{
    const char *verb = kind == CODEC_EMBED ? "invoke" : at->stream ? "converse-stream" : "converse";
    return bedrock_path(at, verb, a, ret);
}

static pd_err invoke_path(enum codec_kind kind, const struct wire_place *at, struct arena *a, struct span *ret)
{
    (void)kind;
    return bedrock_path(at, at->stream ? "invoke-with-response-stream" : "invoke", a, ret);
}

static pd_err ollama_path(enum codec_kind kind, const struct wire_place *at, struct arena *a, struct span *ret)
{
    (void)a;
    return literal(kind == CODEC_EMBED ? "/api/embed" : at->prompt ? "/api/generate" : "/api/chat", ret);
}

static bool is_claude(struct span model)
{
    return span_ihas(model, "claude");
}

static bool is_not_claude(struct span model)
{
    return !is_claude(model);
}

/* ---- the rows ----------------------------------------------------------------------- */

static const struct wire wires[] = {
    {.name = "openai-chat", .chat = &codec_openai_chat, .path = openai_chat_path},
    {.name = "openai-responses", .chat = &codec_openai_responses, .path = openai_responses_path},
    {.name = "openai-embeddings", .embed = &codec_openai_embeddings, .path = openai_embeddings_path},
    {.name = "anthropic-messages",
     .chat = &codec_anthropic,
     .count = &codec_anthropic_count,
     .path = anthropic_path,
     .header = "anthropic-version",
     .header_value = "2023-06-01"},
    {.name = "vertex-anthropic",
     .chat = &codec_anthropic,
     .path = vertex_anthropic_path,
     .model_in_path = true,
     .version = "vertex-2023-10-16",
     .serves = is_claude},
    {.name = "gemini",
     .chat = &codec_gemini,
     .embed = &codec_gemini_embeddings,
     .count = &codec_gemini_count,
     .path = gemini_path,
     .model_in_path = true,
     .count_by_name = true},
    {.name = "vertex-gemini",
     .chat = &codec_gemini,
     .count = &codec_gemini_count,
     .path = vertex_gemini_path,
     .model_in_path = true,
     .serves = is_not_claude},
    {.name = "bedrock-converse",
     .chat = &codec_bedrock_converse,
     .embed = &codec_bedrock_embeddings,
     .framing = FRAMING_EVENTSTREAM,
     .path = converse_path,
     .model_in_path = true},
    {.name = "bedrock-invoke",
     .chat = &codec_anthropic,
     .framing = FRAMING_CHUNKS,
     .path = invoke_path,
     .model_in_path = true,
     .version = "bedrock-2023-05-31",
     .betas_in_body = true,
     .serves = is_claude},
    {.name = "ollama",
     .chat = &codec_ollama,
     .embed = &codec_ollama_embeddings,
     .prompt = &codec_ollama_generate,
     .path = ollama_path},
};
enum { WIRES = sizeof(wires) / sizeof(wires[0]) };

const struct wire *wire_by_name(struct span name)
{
    for (int i = 0; i < WIRES; i++)
        if (span_is(name, wires[i].name))
            return &wires[i];
    return NULL;
}

const struct codec *wire_codec(const struct wire *w, const struct codec *client)
{
    switch (client->kind) {
    case CODEC_CHAT:
        break;
    case CODEC_EMBED:
        return w->embed;
    case CODEC_COUNT:
        return w->count;
    }
    return client == w->prompt ? client : w->chat;
}
