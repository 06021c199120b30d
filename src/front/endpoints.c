#include "dialect/codec.h"
#include "front/front_priv.h"
#include "relay/relay.h"

#include <stdio.h>

/* clang-format off */
#define GEMINI(prefix)                                                                                                               \
    {"POST", prefix "{model}:generateContent", ACCESS_CLIENT, serve_call, &codec_gemini, "generate_content", false},                 \
    {"POST", prefix "{model}:streamGenerateContent", ACCESS_CLIENT, serve_call, &codec_gemini, "generate_content", true},            \
    {"POST", prefix "{model}:countTokens", ACCESS_CLIENT, serve_call, &codec_gemini_count, "count_tokens", false},                   \
    {"POST", prefix "{model}:embedContent", ACCESS_CLIENT, serve_call, &codec_gemini_embeddings, "embeddings", false},               \
    {"POST", prefix "{model}:batchEmbedContents", ACCESS_CLIENT, serve_call, &codec_gemini_embeddings, "embeddings", false}

static const struct endpoint endpoints[] = {
    {"POST", "/v1/chat/completions", ACCESS_CLIENT, serve_call, &codec_openai_chat, "chat", false},
    {"POST", "/v1/responses", ACCESS_CLIENT, serve_call, &codec_openai_responses, "chat", false},
    {"POST", "/v1/embeddings", ACCESS_CLIENT, serve_call, &codec_openai_embeddings, "embeddings", false},
    {"POST", "/v1/messages", ACCESS_CLIENT, serve_call, &codec_anthropic, "chat", false},
    {"POST", "/v1/messages/count_tokens", ACCESS_CLIENT, serve_call, &codec_anthropic_count, "count_tokens", false},
    GEMINI("/v1beta/models/"),
    GEMINI("/v1/models/"), /* where Google's SDKs from 3.0 on look */
    {"POST", "/model/{model}/converse", ACCESS_CLIENT, serve_call, &codec_bedrock_converse, "chat", false},
    {"POST", "/model/{model}/converse-stream", ACCESS_CLIENT, serve_call, &codec_bedrock_converse, "chat", true},
    {"POST", "/api/chat", ACCESS_CLIENT, serve_call, &codec_ollama, "chat", false},
    {"POST", "/api/generate", ACCESS_CLIENT, serve_call, &codec_ollama_generate, "text_completion", false},
    {"POST", "/api/embed", ACCESS_CLIENT, serve_call, &codec_ollama_embeddings, "embeddings", false},
    {"GET", "/v1/models", ACCESS_CLIENT, serve_models, NULL, NULL, false},
    {"GET", "/v1/models/", ACCESS_CLIENT, serve_model, NULL, NULL, false},
    {"GET", "/v1beta/models", ACCESS_CLIENT, serve_models, &codec_gemini, NULL, false},
    {"GET", "/api/tags", ACCESS_CLIENT, serve_tags, &codec_ollama, NULL, false},
    {"GET", "/api/version", ACCESS_ANYONE, serve_version, &codec_ollama, NULL, false},
    {"GET", "/v1beta/models/", ACCESS_CLIENT, serve_model, &codec_gemini, NULL, false},
    {"POST", "/api/llm", ACCESS_CLIENT, serve_wrapper, &codec_openai_chat, "chat", false},
    {"GET", "/api/providers", ACCESS_ADMIN, serve_providers, NULL, NULL, false},
    {"GET", "/api/storage", ACCESS_ADMIN, serve_storage, NULL, NULL, false},
    {"GET", "/api/calls", ACCESS_ADMIN, serve_calls, NULL, NULL, false},
    {"GET", "/api/calls/", ACCESS_ADMIN, serve_one_call, NULL, NULL, false},
    {"GET", "/api/sessions", ACCESS_ADMIN, serve_sessions, NULL, NULL, false},
    {"GET", "/api/sessions/", ACCESS_ADMIN, serve_one_session, NULL, NULL, false},
    {"POST", "/api/runs", ACCESS_ADMIN, serve_run_create, NULL, NULL, false},
    {"GET", "/api/runs", ACCESS_ADMIN, serve_runs, NULL, NULL, false},
    {"GET", "/api/runs/", ACCESS_ADMIN, serve_one_run, NULL, NULL, false},
    {"POST", "/api/runs/", ACCESS_ADMIN, serve_run_wish, NULL, NULL, false},
    {"POST", "/api/work/claim", ACCESS_ADMIN, serve_work_claim, NULL, NULL, false},
    {"POST", "/api/work/beat", ACCESS_ADMIN, serve_work_beat, NULL, NULL, false},
    {"POST", "/api/work/step", ACCESS_ADMIN, serve_work_step, NULL, NULL, false},
    {"POST", "/api/work/finish", ACCESS_ADMIN, serve_work_finish, NULL, NULL, false},
    {"GET", "/api/reviews", ACCESS_ADMIN, serve_reviews, NULL, NULL, false},
    {"POST", "/api/reviews", ACCESS_ADMIN, serve_review, NULL, NULL, false},
    {"GET", "/api/checkpoints", ACCESS_ADMIN, serve_checkpoints, NULL, NULL, false},
    {"POST", "/api/checkpoints", ACCESS_ADMIN, serve_checkpoint_create, NULL, NULL, false},
    {"POST", "/api/checkpoints/prune", ACCESS_ADMIN, serve_checkpoint_prune, NULL, NULL, false},
    {"GET", "/api/checkpoints/", ACCESS_ADMIN, serve_one_checkpoint, NULL, NULL, false},
    {"GET", "/metrics", ACCESS_FIGURES, serve_metrics, NULL, NULL, false},
    {"GET", "/healthz", ACCESS_ANYONE, serve_health, NULL, NULL, false},
    {"GET", "/readyz", ACCESS_ANYONE, serve_ready, NULL, NULL, false},
    {"GET", "/", ACCESS_ANYONE, serve_index, NULL, NULL, false},
};
/* clang-format on */
enum { ENDPOINTS = sizeof(endpoints) / sizeof(endpoints[0]) };

const struct codec *endpoint_codec(const struct endpoint *e)
{
    return e->codec ? e->codec : &codec_openai_chat;
}

/* "/" is a page of its own and not the beginning of every path. */
static bool below_fits(const struct endpoint *e, struct span path)
{
    size_t n = strlen(e->path);
    return n > 1 && e->path[n - 1] == '/' && path.n > n && memcmp(path.p, e->path, n) == 0;
}

bool endpoint_fits(const struct endpoint *e, struct span path, struct span *ret_model)
{
    static const char model[] = "{model}";
    const char *at = strstr(e->path, model);
    *ret_model = SPAN_NONE;
    if (!at)
        return span_is(path, e->path) || below_fits(e, path);
    size_t before = (size_t)(at - e->path);
    const char *after = at + strlen(model);
    if (path.n <= before + strlen(after) || memcmp(path.p, e->path, before) != 0 || !span_ends(path, after))
        return false;
    *ret_model = span_of(path.p + before, path.n - before - strlen(after));
    return true;
}

static bool method_fits(const struct endpoint *e, struct span method)
{
    return span_is(method, e->method) || (strcmp(e->method, "GET") == 0 && span_is(method, "HEAD"));
}

/* Of a path that takes another method: all that it takes. */
static void refuse_method(struct request *rq, const struct endpoint *there, struct span path)
{
    char message[160];
    bool get = false, post = false;
    struct span model;
    for (int i = 0; i < ENDPOINTS; i++) {
        if (!endpoint_fits(&endpoints[i], path, &model))
            continue;
        get |= strcmp(endpoints[i].method, "GET") == 0;
        post |= strcmp(endpoints[i].method, "POST") == 0;
    }
    snprintf(message, sizeof(message), "%s takes %s", there->path, get && post ? "GET and POST" : there->method);
    struct buf out = {0};
    struct client_error ce = {.status = 405,
                              .type = "invalid_request_error",
                              .code = "method_not_allowed",
                              .message = span_str(message)};
    pd_err e = codec_put_error(endpoint_codec(there), &ce, &out);
    const struct header h[] = {{SPAN_LIT("Content-Type"), SPAN_LIT("application/json")},
                               {SPAN_LIT("Allow"), get && post ? SPAN_LIT("GET, HEAD, POST")
                                                   : get       ? SPAN_LIT("GET, HEAD")
                                                               : SPAN_LIT("POST")}};
    reply_simple(rq, 405, h, 2, e ? SPAN_NONE : buf_span(&out));
    buf_done(&out);
}

/* The format a client of an unknown path probably reads. */
static const struct codec *codec_of_path(struct span path)
{
    return span_starts(path, "/v1/messages") ? &codec_anthropic
           : span_starts(path, "/v1beta/")   ? &codec_gemini
           : span_starts(path, "/model/")    ? &codec_bedrock_converse
                                             : &codec_openai_chat;
}

/* Behind /agent/NAME stands what clients ask for, and no more: who keeps /api from the world need not know of it. */
static bool may_have_agent(const struct endpoint *e)
{
    return e->access == ACCESS_CLIENT || e->access == ACCESS_ANYONE;
}

static const struct endpoint *find(struct request *rq)
{
    bool named = request_prefix(rq).n > 0 || agent_skip(rq);
    struct span method = request_method(rq), path = request_path(rq);
    const struct endpoint *there = NULL;
    for (int i = 0; i < ENDPOINTS; i++) {
        struct span model;
        if (!endpoint_fits(&endpoints[i], path, &model) || (named && !may_have_agent(&endpoints[i])))
            continue;
        there = &endpoints[i];
        if (method_fits(there, method))
            return there;
    }
    if (there) {
        refuse_method(rq, there, path);
        return NULL;
    }
    char message[300];
    snprintf(message, sizeof(message),
             "there is no %.*s here; base_url of an OpenAI client ends in /v1, that of others is the bare address",
             SPAN_FMT(span_upto(path, 160)));
    relay_refuse(rq, codec_of_path(path), 404, "not_found", message, 0);
    return NULL;
}

/* Before the body is read, so that nobody uploads 64 MB to be told that the key is wrong. */
static void on_head(void *ctx, struct request *rq)
{
    struct worker *w = ctx;
    const struct endpoint *at = find(rq);
    const struct conf_key *key;
    if (at)
        (void)guard(w, rq, at, &key);
}

static void on_request(void *ctx, struct request *rq)
{
    struct worker *w = ctx;
    const struct endpoint *at = find(rq);
    const struct conf_key *key;
    if (at && guard(w, rq, at, &key))
        at->serve(w, rq, at, key);
}

const struct server_handler front_handler = {on_head, on_request};

/* ---- calls ---------------------------------------------------------------------- */

/* "alt=sse": Google's word for events in place of one array. */
static bool asks_sse(struct span query)
{
    while (query.p && query.n) {
        struct span one = span_cut(&query, '&');
        if (span_is(one, "alt=sse") || span_is(one, "$alt=sse") || span_is(one, "%24alt=sse"))
            return true;
    }
    return false;
}

/* Mistral's clients ask as OpenAI's do, on the same path, but take calls, reasoning and usage in answers only as Mistral says them. */
static const struct codec *codec_of_client(struct request *rq, const struct endpoint *at)
{
    bool mistral = at->codec == &codec_openai_chat && span_ihas(request_header(rq, "user-agent"), "mistral");
    return mistral ? &codec_mistral : at->codec;
}

void serve_call(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    struct agent agent;
    if (!agent_of(rq, at, key, &agent))
        return;
    struct relay_request what = {
        .codec = codec_of_client(rq, at), .operation = at->operation, .key = key, .agent = span_str(agent.name)};
    (void)endpoint_fits(at, request_path(rq), &what.line.model);
    what.line.stream = at->stream;
    what.line.batch = span_ends(request_path(rq), ":batchEmbedContents");
    what.line.array = at->stream && at->codec == &codec_gemini && !asks_sse(request_query(rq));
    relay_start(w, rq, &what);
}

void serve_wrapper(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    struct agent agent;
    if (agent_of(rq, at, key, &agent))
        relay_start(w, rq,
                    &(struct relay_request){.codec = at->codec,
                                            .operation = at->operation,
                                            .wrapper = true,
                                            .key = key,
                                            .agent = span_str(agent.name)});
}

/* ---- answers ---------------------------------------------------------------------- */

void answer_text(struct request *rq, int status, const char *content_type, struct span text)
{
    const struct header h[] = {{SPAN_LIT("Content-Type"), span_str(content_type)},
                               {SPAN_LIT("Cache-Control"), SPAN_LIT("no-store")}};
    reply_simple(rq, status, h, 2, text);
}

void answer_json(struct request *rq, int status, struct buf *out, pd_err e)
{
    if (e)
        relay_refuse(rq, &codec_openai_chat, 503, "out_of_memory", "perdure is out of memory; try again", 1000);
    else
        answer_text(rq, status, "application/json", buf_span(out));
    buf_done(out);
}
