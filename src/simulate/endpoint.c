#include "simulate/endpoint.h"

const char *endpoint_dialect_name(enum sim_dialect_id id)
{
    static const char *const names[] = {
#define X(code, name, what) [SIM_##code] = #name,
        SIM_DIALECTS(X)
#undef X
    };
    return id < SIM_DIALECT_COUNT ? names[id] : "";
}

/* What follows the last `sep` of the path, and what stands before it. */
static bool cut_last(struct span path, const char *sep, struct span *ret_before, struct span *ret_after)
{
    size_t n = strlen(sep);
    for (size_t i = path.n; i-- > 0;)
        if (path.n - i >= n && memcmp(path.p + i, sep, n) == 0) {
            *ret_before = span_upto(path, i);
            *ret_after = span_from(path, i + n);
            return true;
        }
    return false;
}

/* ---- paths that end in a fixed word ---------------------------------------- */

static const struct {
    const char *end;
    struct endpoint is;
} ends[] = {
    {"/chat/completions", {.dialect = SIM_CHAT, .op = OP_GENERATE}},
    {"/embeddings", {.dialect = SIM_CHAT, .op = OP_EMBED}},
    {"/responses", {.dialect = SIM_RESPONSES, .op = OP_GENERATE}},
    {"/messages/count_tokens", {.dialect = SIM_MESSAGES, .op = OP_COUNT}},
    {"/messages", {.dialect = SIM_MESSAGES, .op = OP_GENERATE}},
    {"/api/chat", {.dialect = SIM_OLLAMA, .op = OP_GENERATE}},
    {"/api/generate", {.dialect = SIM_OLLAMA, .op = OP_GENERATE, .bare = true}},
    {"/api/embed", {.dialect = SIM_OLLAMA, .op = OP_EMBED}},
    {"/api/tags", {.dialect = SIM_OLLAMA, .op = OP_MODELS}},
    {"/api/show", {.dialect = SIM_OLLAMA, .op = OP_ABOUT}},
    {"/api/version", {.dialect = SIM_OLLAMA, .op = OP_ABOUT}},
};

/* ---- Google: models/M:verb ------------------------------------------------- */

static const struct {
    const char *verb;
    bool anthropic;
    struct endpoint is;
} verbs[] = {
    {"generateContent", false, {.dialect = SIM_GEMINI, .op = OP_GENERATE}},
    {"streamGenerateContent", false, {.dialect = SIM_GEMINI, .op = OP_GENERATE, .streamed = true}},
    {"countTokens", false, {.dialect = SIM_GEMINI, .op = OP_COUNT}},
    {"embedContent", false, {.dialect = SIM_GEMINI, .op = OP_EMBED}},
    {"batchEmbedContents", false, {.dialect = SIM_GEMINI, .op = OP_EMBED, .batch = true}},
    {"rawPredict", true, {.dialect = SIM_MESSAGES, .op = OP_GENERATE}},
    {"streamRawPredict", true, {.dialect = SIM_MESSAGES, .op = OP_GENERATE, .streamed = true}},
};

static bool query_says(struct span query, const char *pair)
{
    while (query.p)
        if (span_is(span_cut(&query, '&'), pair))
            return true;
    return false;
}

/* The last ':' of a name, written plainly or as %3A. */
static bool cut_verb(struct span name, struct span *ret_model, struct span *ret_verb)
{
    return cut_last(name, ":", ret_model, ret_verb) || cut_last(name, "%3A", ret_model, ret_verb) ||
           cut_last(name, "%3a", ret_model, ret_verb);
}

static struct endpoint google(struct span path, struct span query)
{
    struct span before, name, model, verb;
    struct endpoint none = {.op = OP_NONE};
    if (!cut_last(path, "/models/", &before, &name) || !cut_verb(name, &model, &verb) || !model.n)
        return none;
    bool anthropic = span_ends(before, "/publishers/anthropic"), vertex = span_has(before, "/publishers/");
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (!span_is(verb, verbs[i].verb) || verbs[i].anthropic != anthropic)
            continue;
        struct endpoint e = verbs[i].is;
        e.model = model;
        e.by_path = true;
        e.sse = query_says(query, "alt=sse");
        e.platform = vertex ? PLATFORM_VERTEX : PLATFORM_OWN;
        return e;
    }
    return none;
}

/* ---- Bedrock: model/M/operation ------------------------------------------------ */

static const struct {
    const char *end;
    enum sim_dialect_id dialect;
    bool streamed;
} bedrock_ends[] = {
    {"/converse", SIM_CONVERSE, false},
    {"/converse-stream", SIM_CONVERSE, true},
    {"/invoke", SIM_INVOKE, false},
    {"/invoke-with-response-stream", SIM_INVOKE, true},
};

static struct endpoint bedrock(struct span path)
{
    struct span before, model;
    for (size_t i = 0; i < sizeof(bedrock_ends) / sizeof(bedrock_ends[0]); i++) {
        if (!span_ends(path, bedrock_ends[i].end))
            continue;
        struct span rest = span_upto(path, path.n - strlen(bedrock_ends[i].end));
        const char *at = memmem(rest.p, rest.n, "/model/", 7); /* the first: an ARN may have slashes of its own */
        if (!at)
            continue;
        before = span_of(rest.p, (size_t)(at - rest.p));
        model = span_from(rest, before.n + 7);
        bool embeds = bedrock_ends[i].dialect == SIM_INVOKE && span_ihas(model, "embed");
        if (model.n)
            return (struct endpoint){.dialect = bedrock_ends[i].dialect,
                                     .op = embeds ? OP_EMBED : OP_GENERATE,
                                     .platform = PLATFORM_BEDROCK,
                                     .model = model,
                                     .by_path = true,
                                     .streamed = bedrock_ends[i].streamed};
    }
    return (struct endpoint){.op = OP_NONE};
}

/* ---- all ------------------------------------------------------------------- */

/* Three makers have their list at the same path: the headers of their clients tell them apart. */
static enum sim_dialect_id models_dialect(struct span path, struct endpoint_headers h)
{
    if (h.anthropic)
        return SIM_MESSAGES;
    if (h.google || (span_starts(path, "/v1beta/") && !span_has(path, "/openai/")))
        return SIM_GEMINI;
    return SIM_CHAT;
}

static struct endpoint ending(const struct endpoint *is, struct span path)
{
    struct endpoint e = *is;
    e.beta = span_has(path, "/beta/");
    return e;
}

struct endpoint endpoint_find(struct span path, struct span query, struct endpoint_headers h)
{
    struct endpoint e = google(path, query);
    if (e.op == OP_NONE)
        e = bedrock(path);
    if (e.op != OP_NONE)
        return e;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (span_ends(path, ends[i].end))
            return ending(&ends[i].is, path);
    const char *at = path.n ? memmem(path.p, path.n, "/models/", 8) : NULL;
    if ((!at && !span_ends(path, "/models")) || span_has(path, "/publishers/"))
        return e;
    e = (struct endpoint){.dialect = models_dialect(path, h), .op = OP_MODELS};
    if (at)
        e.model = span_from(path, (size_t)(at - path.p) + 8);
    return e;
}
