#include "dialect/codec.h"
#include "front/front_priv.h"
#include "relay/relay.h"

#include <stdio.h>

static const struct endpoint endpoints[] = {
    {"POST", "/v1/chat/completions", ACCESS_CLIENT, serve_call, &codec_openai_chat, "chat"},
    {"POST", "/v1/embeddings", ACCESS_CLIENT, serve_call, &codec_openai_embeddings, "embeddings"},
    {"GET", "/v1/models", ACCESS_CLIENT, serve_models, NULL, NULL},
    {"GET", "/v1/models/", ACCESS_CLIENT, serve_model, NULL, NULL},
    {"POST", "/api/llm", ACCESS_CLIENT, serve_wrapper, &codec_openai_chat, "chat"},
    {"GET", "/api/providers", ACCESS_ADMIN, serve_providers, NULL, NULL},
    {"GET", "/api/calls", ACCESS_ADMIN, serve_calls, NULL, NULL},
    {"GET", "/api/calls/", ACCESS_ADMIN, serve_one_call, NULL, NULL},
    {"GET", "/metrics", ACCESS_FIGURES, serve_metrics, NULL, NULL},
    {"GET", "/healthz", ACCESS_ANYONE, serve_health, NULL, NULL},
    {"GET", "/readyz", ACCESS_ANYONE, serve_ready, NULL, NULL},
    {"GET", "/", ACCESS_ANYONE, serve_index, NULL, NULL},
};
enum { ENDPOINTS = sizeof(endpoints) / sizeof(endpoints[0]) };

/* "/" is a page of its own and not the beginning of every path. */
static bool path_fits(const struct endpoint *e, struct span path)
{
    size_t n = strlen(e->path);
    if (span_is(path, e->path))
        return true;
    return n > 1 && e->path[n - 1] == '/' && path.n > n && memcmp(path.p, e->path, n) == 0;
}

static bool method_fits(const struct endpoint *e, struct span method)
{
    return span_is(method, e->method) || (strcmp(e->method, "GET") == 0 && span_is(method, "HEAD"));
}

static void refuse_method(struct request *rq, const struct endpoint *there)
{
    char message[160];
    bool get = strcmp(there->method, "GET") == 0;
    snprintf(message, sizeof(message), "%s takes %s", there->path, there->method);
    struct buf out = {0};
    struct client_error ce = {
        .type = "invalid_request_error", .code = "method_not_allowed", .message = span_str(message)};
    pd_err e = codec_put_error(&codec_openai_chat, &ce, &out);
    const struct header h[] = {{SPAN_LIT("Content-Type"), SPAN_LIT("application/json")},
                               {SPAN_LIT("Allow"), get ? SPAN_LIT("GET, HEAD") : SPAN_LIT("POST")}};
    reply_simple(rq, 405, h, 2, e ? SPAN_NONE : buf_span(&out));
    buf_done(&out);
}

static const struct endpoint *find(struct request *rq)
{
    struct span method = request_method(rq), path = request_path(rq);
    const struct endpoint *there = NULL;
    for (int i = 0; i < ENDPOINTS; i++) {
        if (!path_fits(&endpoints[i], path))
            continue;
        there = &endpoints[i];
        if (method_fits(there, method))
            return there;
    }
    if (there) {
        refuse_method(rq, there);
        return NULL;
    }
    char message[300];
    snprintf(message, sizeof(message), "there is no %.*s here; base_url of an OpenAI client ends in /v1",
             SPAN_FMT(span_upto(path, 160)));
    relay_refuse(rq, &codec_openai_chat, 404, "not_found", message, 0);
    return NULL;
}

/* Before the body is read, so that nobody uploads 64 MB to be told that the key is wrong. */
static void on_head(void *ctx, struct request *rq)
{
    struct worker *w = ctx;
    const struct endpoint *at = find(rq);
    const struct conf_key *key;
    if (at)
        (void)guard(w, rq, at->access, &key);
}

static void on_request(void *ctx, struct request *rq)
{
    struct worker *w = ctx;
    const struct endpoint *at = find(rq);
    const struct conf_key *key;
    if (at && guard(w, rq, at->access, &key))
        at->serve(w, rq, at, key);
}

const struct server_handler front_handler = {on_head, on_request};

/* ---- calls ---------------------------------------------------------------------- */

void serve_call(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    relay_start(w, rq, &(struct relay_request){.codec = at->codec, .operation = at->operation, .key = key});
}

void serve_wrapper(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    relay_start(
        w, rq,
        &(struct relay_request){.codec = at->codec, .operation = at->operation, .wrapper = true, .key = key});
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
