#include "base/mem.h"
#include "head.h"
#include "provider/classify.h"
#include "provider/presets.h"
#include "torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "test.h"

#define NOW_MS 1700000000000ull

/* What a row does not name is not looked at. -1 ms: no wait may be given. */
struct row {
    const char *name, *preset;
    int status;
    const char *head, *body;
    enum failure failure;
    enum limit_kind limit;
    const char *message, *type, *code;
    int64_t wait_ms;
};
#define OPENAI(message, type, code) \
    "{\"error\":{\"message\":\"" message "\",\"type\":\"" type "\",\"param\":null,\"code\":\"" code "\"}}"
#define SAYS(message) "{\"error\":{\"message\":\"" message "\"}}"

/* clang-format off */
static const struct row rows[] = {
    /* ---- shapes: the same failure in every wrapping */
    {"error object", NULL, 500, "", OPENAI("it broke", "server_error", "x1"), FAILURE_SERVER, 0, "it broke", "server_error", "x1", -1},
    {"error string", NULL, 500, "", "{\"error\":\"it broke\"}", FAILURE_SERVER, 0, "it broke", "", "", -1},
    {"error string with a code", NULL, 400, "", "{\"code\":\"invalid-argument\",\"error\":\"bad field\"}", FAILURE_BAD, 0, "bad field", "",
     "invalid-argument", -1},
    {"flat message", NULL, 500, "", "{\"object\":\"error\",\"message\":\"it broke\",\"type\":\"t\",\"code\":7}", FAILURE_SERVER, 0, "it broke",
     "t", "7", -1},
    {"flat, message is an object", NULL, 422, "",
     "{\"object\":\"error\",\"message\":{\"detail\":[{\"type\":\"extra_forbidden\",\"loc\":[\"body\",\"logprobs\"],\"msg\":\"Extra inputs are "
     "not permitted\",\"input\":true}]},\"type\":\"invalid_request_error\"}",
     FAILURE_BAD, 0, "logprobs: Extra inputs are not permitted", "extra_forbidden", "", -1},
    {"flat, message is JSON in a string", NULL, 422, "", "{\"message\":\"{\\\"detail\\\":\\\"no such field\\\"}\",\"code\":\"1000\"}",
     FAILURE_BAD, 0, "no such field", "", "1000", -1},
    {"detail string", NULL, 500, "", "{\"detail\":\"it broke\"}", FAILURE_SERVER, 0, "it broke", "", "", -1},
    {"detail object", NULL, 500, "", "{\"detail\":{\"message\":\"it broke\"}}", FAILURE_SERVER, 0, "it broke", "", "", -1},
    {"detail list", NULL, 422, "", "{\"detail\":[{\"loc\":[\"body\",\"temperature\"],\"msg\":\"too hot\",\"type\":\"value_error\"}]}",
     FAILURE_BAD, 0, "temperature: too hot", "value_error", "", -1},
    {"title and detail", NULL, 500, "", "{\"status\":500,\"title\":\"Oops\",\"detail\":\"it broke\"}", FAILURE_SERVER, 0, "it broke", "", "", -1},
    {"title alone", NULL, 500, "", "{\"status\":500,\"title\":\"Oops\"}", FAILURE_SERVER, 0, "Oops", "", "", -1},
    {"errors list", NULL, 500, "", "{\"success\":false,\"errors\":[{\"code\":10000,\"message\":\"it broke\"}]}", FAILURE_SERVER, 0,
     "it broke", "", "10000", -1},
    {"wrapped in an array", NULL, 500, "", "[{\"error\":{\"code\":500,\"message\":\"it broke\",\"status\":\"INTERNAL\"}}]", FAILURE_SERVER, 0,
     "it broke", "INTERNAL", "500", -1},
    {"bare string", NULL, 500, "", "\"it broke\"", FAILURE_SERVER, 0, "it broke", "", "", -1},
    {"an SSE frame", NULL, 500, "content-type: text/event-stream", "event: error\ndata: {\"error\":{\"message\":\"it broke\"}}\n\n",
     FAILURE_SERVER, 0, "it broke", "", "", -1},
    {"an SSE frame with CRLF and a comment", NULL, 500, "", ": hi\r\ndata: {\"error\":{\"message\":\"it broke\"}}\r\n\r\ndata: [DONE]\r\n\r\n",
     FAILURE_SERVER, 0, "it broke", "", "", -1},
    {"octet-stream with JSON in it", NULL, 500, "content-type: application/octet-stream", SAYS("it broke"), FAILURE_SERVER, 0, "it broke",
     "", "", -1},
    {"blank lines and a byte order mark before it", NULL, 500, "", "\xef\xbb\xbf\n\n \n" SAYS("it broke"), FAILURE_SERVER, 0, "it broke", "", "", -1},
    {"escapes are undone", NULL, 500, "", SAYS("it \\\"broke\\\"\\nin gr\\u00fcn"), FAILURE_SERVER, 0, "it \"broke\" in gr\xc3\xbcn", "", "", -1},
    {"plain text", NULL, 500, "content-type: text/plain", "it broke\n", FAILURE_SERVER, 0, "it broke", "", "", -1},
    {"HTML", NULL, 500, "content-type: text/html", "<!DOCTYPE html>\n<html><head><title>It\nbroke</title></head><body>x</body></html>",
     FAILURE_SERVER, 0, "an HTML page: It broke", "", "", -1},
    {"HTML without a title", NULL, 502, "", "<html><body><h1 class=\"a\">Bad Gateway</h1></body></html>", FAILURE_SERVER, 0,
     "an HTML page: Bad Gateway", "", "", -1},
    {"nothing", NULL, 500, "content-length: 0", "", FAILURE_SERVER, 0, "status 500 Internal Server Error, and nothing said", "", "", -1},
    {"an empty object", NULL, 503, "", "{}", FAILURE_OVERLOAD, 0, "status 503 Service Unavailable, and nothing said", "", "", -1},
    {"JSON that was cut off", NULL, 400, "", "{\"error\":{\"message\":\"bad call\",\"code\":\"tool_use_failed\",\"failed_generation\":\"aaaa", FAILURE_TOOL, 0,
     "bad call", "", "tool_use_failed", -1},
    {"null members", NULL, 500, "", "{\"error\":{\"message\":null,\"type\":null,\"code\":null}}", FAILURE_SERVER, 0,
     "status 500 Internal Server Error, and nothing said", "", "", -1},
    {"error beside message: the error wins", NULL, 500, "", "{\"message\":\"outer\",\"error\":{\"message\":\"inner\"}}", FAILURE_SERVER, 0, "inner",
     "", "", -1},

    /* ---- edges and proxies */
    {"Cloudflare 502", NULL, 502, "server: cloudflare\ncf-ray: 1-FRA", "<html><head><title>502 Bad Gateway</title></head></html>", FAILURE_SERVER,
     0, "an HTML page: 502 Bad Gateway", NULL, NULL, -1},
    {"Cloudflare 503", NULL, 503, "", "<html><title>503 Service Temporarily Unavailable</title></html>", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"Cloudflare 520", NULL, 520, "", "error code: 520", FAILURE_SERVER, 0, "error code: 520", NULL, NULL, -1},
    {"Cloudflare 521", NULL, 521, "", "<html><title>Web server is down</title>", FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"Cloudflare 522", NULL, 522, "", "<html><title>Connection timed out</title>", FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"Cloudflare 523", NULL, 523, "", "", FAILURE_SERVER, 0, "status 523 , and nothing said", NULL, NULL, -1},
    {"Cloudflare 524", NULL, 524, "", "<html><title>A timeout occurred</title>", FAILURE_TIMEOUT, 0, NULL, NULL, NULL, -1},
    {"Cloudflare 530", NULL, 530, "", "error code: 1033", FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"Cloudflare blocks us", NULL, 403, "", "<!doctype html><title>Attention Required! | Cloudflare</title>", FAILURE_PERMISSION, 0, NULL,
     NULL, NULL, -1},
    {"nginx 504", NULL, 504, "", "<html><head><title>504 Gateway Time-out</title></head>", FAILURE_TIMEOUT, 0, NULL, NULL, NULL, -1},
    {"nginx 413", NULL, 413, "", "<html><head><title>413 Request Entity Too Large</title></head>", FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"envoy without a backend", NULL, 503, "", "no healthy upstream", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"http to an https port", NULL, 400, "", "The plain HTTP request was sent to HTTPS port", FAILURE_TLS, 0, NULL, NULL, NULL, -1},
    {"a proxy wants a password", NULL, 407, "", "", FAILURE_CONNECT, 0, NULL, NULL, NULL, -1},
    {"a redirect", NULL, 301, "location: https://elsewhere/", "<html><title>301</title>", FAILURE_NOT_FOUND, 0,
     "the provider redirects: check base_url: Moved Permanently", NULL, NULL, -1},

    /* ---- keys */
    {"401", NULL, 401, "", OPENAI("Incorrect API key provided: sk-abcdef1234.", "invalid_request_error", "invalid_api_key"), FAILURE_AUTH, 0,
     "Incorrect API key provided: ***.", NULL, "invalid_api_key", -1},
    {"401, FastAPI", NULL, 401, "content-type: text/plain", "{\"detail\":\"Invalid API Key\"}", FAILURE_AUTH, 0, NULL, NULL, NULL, -1},
    {"401, bare string", "siliconflow", 401, "", "\"Invalid token\"", FAILURE_AUTH, 0, "Invalid token", NULL, NULL, -1},
    {"401 and nothing", NULL, 401, "", "", FAILURE_AUTH, 0, NULL, NULL, NULL, -1},
    {"xAI refuses a key with 400", NULL, 400, "",
     "{\"code\":\"invalid-argument\",\"error\":\"Incorrect API key provided: xa***AB. You can obtain one at ...\"}", FAILURE_AUTH, 0, NULL, NULL,
     "invalid-argument", -1},
    {"Google refuses a key with 400", NULL, 400, "",
     "[{\"error\":{\"code\":400,\"message\":\"API key not valid. Please pass a valid API key.\",\"status\":\"INVALID_ARGUMENT\"}}]", FAILURE_AUTH, 0,
     NULL, NULL, NULL, -1},
    {"a key refused with 403", NULL, 403, "", SAYS("Invalid API key"), FAILURE_AUTH, 0, NULL, NULL, NULL, -1},
    {"401 that is about scopes", NULL, 401, "", SAYS("You have insufficient permissions for this operation. Missing scopes: model.request"),
     FAILURE_PERMISSION, 0, NULL, NULL, NULL, -1},
    {"403", NULL, 403, "", OPENAI("Forbidden", "invalid_request_error", "forbidden"), FAILURE_PERMISSION, 0, NULL, NULL, NULL, -1},
    {"a country", NULL, 403, "", OPENAI("Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"),
     FAILURE_PERMISSION, 0, NULL, NULL, NULL, -1},
    {"a law", NULL, 451, "", "", FAILURE_PERMISSION, 0, NULL, NULL, NULL, -1},

    /* ---- money */
    {"402", "deepseek", 402, "", OPENAI("Insufficient Balance", "unknown_error", "invalid_request_error"), FAILURE_BILLING, 0, NULL, NULL, NULL, -1},
    {"402 without words", NULL, 402, "", "", FAILURE_BILLING, 0, NULL, NULL, NULL, -1},
    {"402 that passes", "openrouter", 402, "retry-after: 4",
     "{\"error\":{\"code\":402,\"message\":\"Too much is in flight\",\"metadata\":{\"limit_source\":\"openrouter_in_flight_budget\"}}}", FAILURE_RATE,
     LIMIT_CONCURRENCY, NULL, NULL, "402", 4000},
    {"SiliconFlow's empty account", "siliconflow", 403, "", "{\"code\":30001,\"message\":\"Sorry, your account balance is insufficient\",\"data\":null}",
     FAILURE_BILLING, 0, NULL, NULL, "30001", -1},
    {"a reseller's empty account", NULL, 403, "", OPENAI("Please recharge", "api_error", "insufficient_user_quota"), FAILURE_QUOTA, 0, NULL, NULL, NULL, -1},
    {"400 for an empty account", NULL, 400, "", SAYS("Your credit balance is too low to access the API."), FAILURE_BILLING, 0, NULL, NULL, NULL, -1},
    {"an inactive account", NULL, 429, "", OPENAI("Your account is not active", "billing_not_active", "billing_not_active"), FAILURE_BILLING, 0,
     NULL, NULL, NULL, -1},
    {"insufficient_quota", NULL, 429, "", OPENAI("You exceeded your current quota, please check your plan", "insufficient_quota", "insufficient_quota"),
     FAILURE_QUOTA, 0, NULL, NULL, NULL, -1},
    {"insufficient_quota by its type", NULL, 429, "", OPENAI("Gone.", "insufficient_quota", "credit_balance_exhausted"), FAILURE_QUOTA, 0, NULL,
     NULL, NULL, -1},
    {"a spend limit", NULL, 429, "", SAYS("You have reached your specified API usage limits."), FAILURE_QUOTA, 0, NULL, NULL, NULL, -1},
    {"a free tier", NULL, 403, "", SAYS("The free tier of the model has been exhausted."), FAILURE_QUOTA, 0, NULL, NULL, NULL, -1},

    /* ---- limits */
    {"429 and nothing", NULL, 429, "", "", FAILURE_RATE, LIMIT_UNKNOWN, NULL, NULL, NULL, -1},
    {"tokens by the minute", NULL, 429, "retry-after-ms: 1780\nretry-after: 2",
     OPENAI("Rate limit reached for m on tokens per min (TPM): Limit 30000, Used 30000, Requested 890. Please try again in 1.78s.", "tokens",
            "rate_limit_exceeded"),
     FAILURE_RATE, LIMIT_TOKENS, NULL, "tokens", "rate_limit_exceeded", 1780},
    {"requests by the minute", NULL, 429, "", OPENAI("Rate limit reached on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s.",
            "requests", "rate_limit_exceeded"),
     FAILURE_RATE, LIMIT_REQUESTS, NULL, NULL, NULL, 20000},
    {"tokens, said by the type alone", NULL, 429, "", OPENAI("Slower, please", "tokens", "rate_limit_exceeded"), FAILURE_RATE, LIMIT_TOKENS, NULL,
     NULL, NULL, -1},
    {"tokens, said by the headers alone", NULL, 429, "x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 3s", "", FAILURE_RATE, LIMIT_TOKENS,
     NULL, NULL, NULL, 3000},
    {"a day's tokens", "groq", 429, "", OPENAI("Rate limit reached on tokens per day (TPD): Limit 100000, Used 99990, Requested 500. Please try again in 7m12s.",
            "tokens", "rate_limit_exceeded"),
     FAILURE_RATE, LIMIT_DAILY, NULL, NULL, NULL, 432000},
    {"a day's requests, said by Groq's headers", "groq", 429, "x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 6m0s", SAYS("Rate limit reached"),
     FAILURE_RATE, LIMIT_DAILY, NULL, NULL, NULL, 360000},
    {"the same headers of another", "openai", 429, "x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 6m0s", SAYS("Rate limit reached"),
     FAILURE_RATE, LIMIT_REQUESTS, NULL, NULL, NULL, 360000},
    {"SiliconFlow RPD", NULL, 429, "", "{\"message\":\"Request was rejected due to rate limiting. Details: RPD limit reached.\",\"data\":null}",
     FAILURE_RATE, LIMIT_DAILY, NULL, NULL, NULL, -1},
    {"SiliconFlow TPM", NULL, 429, "", "{\"message\":\"Request was rejected due to rate limiting. Details: TPM limit reached.\",\"data\":null}",
     FAILURE_RATE, LIMIT_TOKENS, NULL, NULL, NULL, -1},
    {"OpenRouter's free models", "openrouter", 429, "",
     "{\"error\":{\"message\":\"Rate limit exceeded: free-models-per-day\",\"code\":429,\"metadata\":{\"headers\":{\"X-RateLimit-Remaining\":\"0\","
     "\"X-RateLimit-Reset\":\"1700000060000\"}}}}",
     FAILURE_RATE, LIMIT_DAILY, NULL, NULL, "429", 60000},
    {"Google's quota by the minute", NULL, 429, "",
     "[{\"error\":{\"code\":429,\"message\":\"You exceeded your current quota. Quota exceeded for metric: generativelanguage.googleapis.com/"
     "requests\",\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"quotaId\":\"GenerateRequestsPerMinute\"},{\"retryDelay\":\"11s\"}]}}]",
     FAILURE_RATE, LIMIT_UNKNOWN, NULL, NULL, NULL, 11000},
    {"Google's quota by the minute, told by its name alone", NULL, 429, "",
     "{\"error\":{\"code\":429,\"message\":\"You exceeded your current quota, please check your plan and billing details.\",\"status\":"
     "\"RESOURCE_EXHAUSTED\",\"details\":[{\"violations\":[{\"quotaId\":\"GenerateRequestsPerMinutePerProject\"}]},{\"retryDelay\":\"11s\"}]}}",
     FAILURE_RATE, LIMIT_UNKNOWN, NULL, NULL, NULL, 11000},
    {"Google's quota without a name", NULL, 429, "",
     "{\"error\":{\"code\":429,\"message\":\"You exceeded your current quota, please check your plan and billing details.\",\"status\":"
     "\"RESOURCE_EXHAUSTED\"}}",
     FAILURE_QUOTA, LIMIT_UNKNOWN, NULL, NULL, NULL, -1},
    {"Google's quota by the day", NULL, 429, "",
     "[{\"error\":{\"code\":429,\"message\":\"You exceeded your current quota. Quota exceeded for metric: generativelanguage.googleapis.com/"
     "requests\",\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"quotaId\":\"GenerateRequestsPerDayPerProject\"}]}}]",
     FAILURE_RATE, LIMIT_DAILY, NULL, NULL, NULL, 35200000}, /* 14:13 in California */
    {"DeepSeek has only one limit", "deepseek", 429, "", OPENAI("Rate limit reached", "rate_limit_reached_error", "rate_limit_exceeded"), FAILURE_RATE,
     LIMIT_CONCURRENCY, NULL, NULL, NULL, -1},
    {"concurrency in words", NULL, 429, "", SAYS("Too many concurrent requests for this model"), FAILURE_RATE, LIMIT_CONCURRENCY, NULL, NULL, NULL, -1},
    {"a NIM worker is full", "nvidia", 503, "", "{\"status\":503,\"title\":\"x\",\"detail\":\"ResourceExhausted: Worker local total request limit reached (33/32)\"}",
     FAILURE_RATE, LIMIT_CONCURRENCY, NULL, NULL, NULL, -1},
    {"a NIM worker is full, said with 500", NULL, 500, "", "ResourceExhausted: Worker local total request limit reached (33/32)", FAILURE_RATE,
     LIMIT_CONCURRENCY, NULL, NULL, NULL, -1},
    {"slow_down", NULL, 429, "", OPENAI("Please slow down", "rate_limit_error", "slow_down"), FAILURE_RATE, LIMIT_RAMP, NULL, NULL, NULL, -1},
    {"slow down with 503", NULL, 503, "", OPENAI("Please slow down", "rate_limit_error", "slow_down"), FAILURE_RATE, LIMIT_RAMP, NULL, NULL, NULL, -1},
    {"too fast a rise", NULL, 429, "", SAYS("Your request rate increased too quickly."), FAILURE_RATE, LIMIT_RAMP, NULL, NULL, NULL, -1},
    {"Azure", "azure-openai", 429, "retry-after: 1\nretry-after-ms: 0", "{\"error\":{\"code\":\"RateLimitReached\",\"message\":\"exceeded call rate limit\"}}",
     FAILURE_RATE, LIMIT_REQUESTS, NULL, NULL, "RateLimitReached", 1000},
    {"Mistral", "mistral", 429, "", "{\"object\":\"error\",\"message\":\"Rate limit exceeded\",\"type\":\"rate_limited\",\"param\":null,\"code\":\"1300\"}",
     FAILURE_RATE, LIMIT_UNKNOWN, NULL, "rate_limited", "1300", -1},

    /* ---- no capacity: 429 too, but it is not our limit */
    {"503", NULL, 503, "retry-after: 3", "", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, 3000},
    {"529", NULL, 529, "", SAYS("Overloaded"), FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"498", "groq", 498, "", OPENAI("Flex is full", "x", "capacity_exceeded"), FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"498 and nothing", NULL, 498, "", "", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"429 at capacity", "chutes", 429, "", "{\"detail\":\"Infrastructure is at maximum capacity, try again later\"}", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"429 in maintenance", "chutes", 429, "", "{\"detail\":\"model is under maintenance\"}", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"no instance yet", "chutes", 503, "", "{\"detail\":\"No instances available (yet) for chute_id='0'\"}", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"Mistral's tier", "mistral", 429, "", "{\"object\":\"error\",\"message\":\"Service tier capacity exceeded for this model.\",\"type\":\"invalid_request_error\",\"code\":null}",
     FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"an engine", NULL, 429, "", OPENAI("The engine is currently overloaded, please try again later", "engine_overloaded_error", "x"), FAILURE_OVERLOAD, 0,
     NULL, NULL, NULL, -1},
    {"loading", "llamacpp", 503, "", "{\"error\":{\"code\":503,\"message\":\"Loading model\",\"type\":\"unavailable_error\"}}", FAILURE_OVERLOAD, 0, NULL,
     NULL, NULL, -1},
    {"loading, with its time", NULL, 503, "", "{\"error\":\"Model a/b is currently loading\",\"estimated_time\":20}", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, 20000},
    {"loading, said with 500", NULL, 500, "", SAYS("model is loading"), FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"overloaded, said with 500", NULL, 500, "", SAYS("The model is overloaded"), FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"a queued NIM job", "nvidia", 202, "NVCF-REQID: 1", "", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},

    /* ---- prompts that do not fit */
    {"OpenAI's code", NULL, 400, "", OPENAI("x", "invalid_request_error", "context_length_exceeded"), FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"llama.cpp's type", NULL, 400, "", "{\"error\":{\"code\":400,\"message\":\"x\",\"type\":\"exceed_context_size_error\",\"n_ctx\":4096}}", FAILURE_CONTEXT, 0,
     NULL, "exceed_context_size_error", "400", -1},
    {"maximum context length", NULL, 400, "", SAYS("This model's maximum context length is 8192 tokens."), FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"prompt is too long", NULL, 400, "", SAYS("prompt is too long: 210000 tokens > 200000 maximum"), FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"input token count", NULL, 400, "", SAYS("The input token count (1250074) exceeds the maximum number of tokens allowed (1048576)."), FAILURE_CONTEXT, 0,
     NULL, NULL, NULL, -1},
    {"Input Tokens Exceeded", NULL, 400, "", SAYS("Input Tokens Exceeded: Number of input tokens exceeds maximum length."), FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"context window", NULL, 400, "", SAYS("Your input exceeds the context window of this model."), FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"available context size", NULL, 400, "", SAYS("the request exceeds the available context size, try increasing it"), FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"prompt too long; exceeded", NULL, 400, "", SAYS("prompt too long; exceeded max context length by 10 tokens"), FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"too many tokens", NULL, 400, "", SAYS("too many tokens: 9000"), FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"all messages", NULL, 400, "", SAYS("the length of all messages is too long"), FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"xAI's", NULL, 400, "", "{\"error\":\"This model's maximum prompt length is 131072 but the request contains 537812 tokens.\"}", FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"SGLang's", NULL, 400, "", "{\"object\":\"error\",\"message\":\"The input (9000 tokens) is longer than the model's context length (8192 tokens).\"}",
     FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"vLLM's newer", NULL, 400, "", SAYS("The decoder prompt (length 50000) is longer than the maximum model length of 4096."), FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"SiliconFlow's", NULL, 400, "", "{\"code\":20015,\"message\":\"length of prompt_tokens (40000) must be less than max_seq_len (32768).\"}", FAILURE_CONTEXT, 0, NULL,
     NULL, "20015", -1},
    {"an upstream's, through OpenRouter", "openrouter", 400, "",
     "{\"error\":{\"message\":\"Provider returned error\",\"code\":400,\"metadata\":{\"raw\":\"{\\\"message\\\":\\\"prompt is too long: 9 tokens > 8 maximum\\\"}\"}}}",
     FAILURE_CONTEXT, 0, "Provider returned error", NULL, "400", -1},
    {"wrapped in a 500 by a proxy", NULL, 500, "", SAYS("litellm: This model's maximum context length is 8192 tokens"), FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"429, and it never fits", NULL, 429, "retry-after: 60",
     OPENAI("Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 42000.", "tokens", "rate_limit_exceeded"), FAILURE_CONTEXT,
     LIMIT_TOKENS, NULL, NULL, NULL, -1},
    {"429, figures with commas", NULL, 429, "", SAYS("Tokens per minute: Limit: 30,000, Requested: 42,000."), FAILURE_CONTEXT, LIMIT_TOKENS, NULL, NULL, NULL, -1},
    {"413, and it never fits", "groq", 413, "",
     OPENAI("Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 9000, please reduce your message size", "tokens",
            "rate_limit_exceeded"),
     FAILURE_CONTEXT, LIMIT_TOKENS, NULL, NULL, NULL, -1},
    {"413 for tokens", NULL, 413, "", OPENAI("Request body too large for gpt-4o model. Max size: 8000 tokens.", "x", "tokens_limit_reached"), FAILURE_CONTEXT,
     LIMIT_TOKENS, NULL, NULL, NULL, -1},
    {"413 for bytes", NULL, 413, "", SAYS("Request exceeds the maximum size"), FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"a bare too long is no prompt", NULL, 500, "", SAYS("The operation took too long"), FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"too many tokens a minute is a limit", NULL, 429, "", SAYS("Too many tokens, please wait before trying again."), FAILURE_RATE, LIMIT_TOKENS, NULL, NULL, NULL, -1},

    /* ---- the request's own fault */
    {"400", NULL, 400, "retry-after: 9", OPENAI("Unsupported parameter", "invalid_request_error", "unsupported_parameter"), FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"400 and nothing", NULL, 400, "", "", FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"409", NULL, 409, "", "", FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"415", NULL, 415, "", "", FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"422", NULL, 422, "", SAYS("no"), FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"431", NULL, 431, "", "", FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"a feature that no endpoint has", "openrouter", 404, "", SAYS("No endpoints found that support image input"), FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"a message that quotes", NULL, 400, "", SAYS("messages[3].content: unexpected value 'the server is overloaded, rate limit'"), FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"a tool that does not exist", NULL, 400, "", SAYS("Tool 'model_x' does not exist"), FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"a value that the model does not take", NULL, 400, "", SAYS("'messages[0].role' does not support 'developer' with this model."), FAILURE_BAD, 0,
     NULL, NULL, NULL, -1},

    /* ---- what the provider refuses to talk about */
    {"Azure's filter", "azure-openai", 400, "", OPENAI("filtered", "x", "content_filter"), FAILURE_FILTER, 0, NULL, NULL, "content_filter", -1},
    {"Azure's filter, by the inner code", NULL, 400, "",
     "{\"error\":{\"message\":\"filtered\",\"code\":null,\"innererror\":{\"code\":\"ResponsibleAIPolicyViolation\"}}}", FAILURE_FILTER, 0, NULL, NULL,
     "ResponsibleAIPolicyViolation", -1},
    {"moderation", "openrouter", 403, "",
     "{\"error\":{\"code\":403,\"message\":\"Your chosen model needs a check\",\"metadata\":{\"reasons\":[\"violence\"],\"flagged_input\":\"x\"}}}", FAILURE_FILTER,
     0, NULL, NULL, NULL, -1},
    {"Anthropic's filter", NULL, 400, "", SAYS("Output blocked by content filtering policy"), FAILURE_FILTER, 0, NULL, NULL, NULL, -1},
    {"moderation in words", NULL, 403, "", SAYS("m requires moderation on X. Your input was flagged for \\\"hate\\\"."), FAILURE_FILTER, 0, NULL, NULL, NULL, -1},
    {"usage policy", NULL, 400, "", OPENAI("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "invalid_request_error",
            "invalid_prompt"),
     FAILURE_FILTER, 0, NULL, NULL, NULL, -1},
    {"DeepSeek's", "deepseek", 400, "", SAYS("Content Exists Risk"), FAILURE_FILTER, 0, NULL, NULL, NULL, -1},

    /* ---- tools */
    {"tool_use_failed", "groq", 400, "", "{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\",\"code\":\"tool_use_failed\",\"failed_generation\":\"x\"}}",
     FAILURE_TOOL, 0, NULL, NULL, NULL, -1},
    {"json_validate_failed", "groq", 400, "", OPENAI("Failed to generate JSON", "invalid_request_error", "json_validate_failed"), FAILURE_TOOL, 0, NULL, NULL, NULL, -1},

    /* ---- models */
    {"404 model", NULL, 404, "", OPENAI("The model `x` does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"),
     FAILURE_NOT_FOUND, 0, "The model `x` does not exist or you do not have access to it.", NULL, NULL, -1},
    {"404 model, Ollama", NULL, 404, "", "{\"error\":\"model 'x' not found\"}", FAILURE_NOT_FOUND, 0, "model 'x' not found", NULL, NULL, -1},
    {"404 deployment", "azure-openai", 404, "", OPENAI("The API deployment for this resource does not exist.", "x", "DeploymentNotFound"), FAILURE_NOT_FOUND, 0,
     "The API deployment for this resource does not exist.", NULL, NULL, -1},
    {"404 account", "nvidia", 404, "", "{\"status\":404,\"title\":\"Not Found\",\"detail\":\"Function '1': Not found for account 'a'\"}", FAILURE_NOT_FOUND, 0,
     "Function '1': Not found for account 'a'", NULL, NULL, -1},
    {"404 path", NULL, 404, "", "{\"detail\":\"Not Found\"}", FAILURE_NOT_FOUND, 0, "no such path at the provider: check base_url: Not Found", NULL, NULL, -1},
    {"404 path, OpenAI", NULL, 404, "", SAYS("Invalid URL (POST /chat/completions)"), FAILURE_NOT_FOUND, 0,
     "no such path at the provider: check base_url: Invalid URL (POST /chat/completions)", NULL, NULL, -1},
    {"404 path, HTML", NULL, 404, "", "<html><title>404 Not Found</title></html>", FAILURE_NOT_FOUND, 0,
     "no such path at the provider: check base_url: 404 Not Found", NULL, NULL, -1},
    {"404 path, Go", NULL, 404, "", "404 page not found\n", FAILURE_NOT_FOUND, 0, "no such path at the provider: check base_url: 404 page not found",
     NULL, NULL, -1},
    {"405", NULL, 405, "", "<html><title>405 Not Allowed</title>", FAILURE_NOT_FOUND, 0, "no such path at the provider: check base_url: 405 Not Allowed", NULL, NULL, -1},
    {"410", NULL, 410, "", SAYS("The model has reached its end of life"), FAILURE_NOT_FOUND, 0, NULL, NULL, NULL, -1},
    {"400 model, Mistral", NULL, 400, "", "{\"object\":\"error\",\"message\":\"Invalid model: x\",\"type\":\"invalid_model\",\"code\":\"1500\"}", FAILURE_NOT_FOUND, 0,
     NULL, NULL, NULL, -1},
    {"400 model, OpenRouter", NULL, 400, "", SAYS("x/y is not a valid model ID"), FAILURE_NOT_FOUND, 0, NULL, NULL, NULL, -1},
    {"400 model, SiliconFlow", NULL, 400, "", "{\"code\":20012,\"message\":\"Model does not exist. Please check it carefully.\",\"data\":null}", FAILURE_NOT_FOUND,
     0, NULL, NULL, "20012", -1},
    {"400 model, DeepSeek", NULL, 400, "", SAYS("Model Not Exist"), FAILURE_NOT_FOUND, 0, NULL, NULL, NULL, -1},
    {"400 model, Groq's retired", NULL, 400, "", SAYS("The model `m` has been decommissioned and is no longer supported."), FAILURE_NOT_FOUND, 0, NULL, NULL, NULL, -1},
    {"400 model, Together's", NULL, 400, "", SAYS("Unable to access non-serverless model a/b."), FAILURE_NOT_FOUND, 0, NULL, NULL, NULL, -1},

    /* ---- time */
    {"408", NULL, 408, "", SAYS("Your request timed out"), FAILURE_TIMEOUT, 0, NULL, NULL, NULL, -1},
    {"504", NULL, 504, "", "", FAILURE_TIMEOUT, 0, NULL, NULL, NULL, -1},
    {"a timeout said with 500", NULL, 500, "", SAYS("Request timed out."), FAILURE_TIMEOUT, 0, NULL, NULL, NULL, -1},

    /* ---- the provider's own trouble */
    {"500", NULL, 500, "", OPENAI("The server had an error", "server_error", "x"), FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"501", NULL, 501, "", SAYS("not here"), FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"424", NULL, 424, "", SAYS("A dependency failed"), FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"425", NULL, 425, "", "", FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"499 that we did not cause", NULL, 499, "", SAYS("Request Cancelled"), FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"421", NULL, 421, "", "", FAILURE_RESET, 0, NULL, NULL, NULL, -1},
    {"a status nobody knows", NULL, 599, "", "", FAILURE_TIMEOUT, 0, NULL, NULL, NULL, -1},
    {"another", NULL, 555, "", "", FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"a client error nobody knows", NULL, 477, "", "", FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"a limit wrapped in a 500", NULL, 500, "", SAYS("upstream said: 429 Too Many Requests"), FAILURE_RATE, LIMIT_REQUESTS, NULL, NULL, NULL, -1},

    /* ---- a 200 is no success */
    {"200, filtered", "azure-openai", 200, "", "{\"error\":{\"message\":\"x\",\"code\":\"content_filter\",\"status\":400}}", FAILURE_FILTER, 0, NULL, NULL, NULL, -1},
    {"200, a code", "openrouter", 200, "retry-after: 99", "{\"error\":{\"code\":429,\"message\":\"Slower. Try again in 2s\"},\"user_id\":\"u\"}", FAILURE_RATE, 0, NULL, NULL,
     "429", 2000},
    {"200, a code of 502", "openrouter", 200, "", "{\"error\":{\"code\":502,\"message\":\"Provider returned error\"}}", FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"200, beside choices", "openrouter", 200, "", "{\"id\":\"g\",\"choices\":[{\"delta\":{\"content\":\"\"}}],\"error\":{\"code\":503,\"message\":\"x\"}}", FAILURE_OVERLOAD,
     0, "x", NULL, NULL, -1},
    {"200, in a choice", "openrouter", 200, "", "{\"choices\":[{\"delta\":{},\"finish_reason\":\"error\",\"error\":{\"code\":502,\"message\":\"upstream\"}}]}",
     FAILURE_SERVER, 0, "upstream", NULL, "502", -1},
    {"200, it gave up", "deepseek", 200, "", "{\"choices\":[{\"delta\":{},\"finish_reason\":\"insufficient_system_resource\"}]}", FAILURE_OVERLOAD, 0,
     NULL, NULL, "insufficient_system_resource", -1},
    {"200, it finished with an error", NULL, 200, "", "{\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}", FAILURE_SERVER, 0, NULL, NULL, "error", -1},
    {"200, a type", NULL, 200, "", OPENAI("x", "server_error", ""), FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"200, a type of bad request", NULL, 200, "", OPENAI("x", "BadRequestError", ""), FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"200, a type of auth", NULL, 200, "", OPENAI("x", "authentication_error", ""), FAILURE_AUTH, 0, NULL, NULL, NULL, -1},
    {"200, words", NULL, 200, "", "{\"error\":\"Unhandled exception during response stream: infra_overload\"}", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"200, an error and no more", NULL, 200, "", "{\"error\":\"boom\"}", FAILURE_SERVER, 0, "boom", NULL, NULL, -1},
    {"200, out of money", NULL, 200, "", OPENAI("x", "insufficient_quota", ""), FAILURE_QUOTA, 0, NULL, NULL, NULL, -1},

    /* ---- Anthropic */
    {"Anthropic, a key", "anthropic", 401, "x-should-retry: false", "{\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"invalid x-api-key\"}}",
     FAILURE_AUTH, 0, "invalid x-api-key", "authentication_error", "", -1},
    {"Anthropic, overloaded", "anthropic", 529, "x-should-retry: true", "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
     FAILURE_OVERLOAD, 0, "Overloaded", "overloaded_error", "", -1},
    {"529 with a page", "anthropic", 529, "", "<html><title>529</title>", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"Anthropic, overloaded in a stream", "anthropic", 200, "", "event: error\ndata: {\"type\":\"error\",\"error\":{\"details\":null,\"type\":\"overloaded_error\",\"message\":\"Overloaded\"},\"request_id\":\"req_1\"}\n\n",
     FAILURE_OVERLOAD, 0, "Overloaded", "overloaded_error", "", -1},
    {"Anthropic, requests by the minute", "anthropic", 429,
     "anthropic-ratelimit-requests-remaining: 0\nanthropic-ratelimit-requests-reset: 2023-11-14T22:13:32Z\nanthropic-ratelimit-tokens-remaining: 99",
     "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"Slower\"}}", FAILURE_RATE, LIMIT_REQUESTS, NULL, NULL, NULL, 12000},
    {"Anthropic, output tokens by the minute", "anthropic", 429,
     "anthropic-ratelimit-output-tokens-remaining: 0\nanthropic-ratelimit-output-tokens-reset: 2023-11-14T22:13:32Z",
     "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"Slower\"}}", FAILURE_RATE, LIMIT_TOKENS, NULL, NULL, NULL, 12000},
    {"Anthropic, a rise that is too fast", "anthropic", 429, "", "{\"error\":{\"type\":\"rate_limit_error\",\"message\":\"exceeded your organization's acceleration limit\"}}",
     FAILURE_RATE, LIMIT_RAMP, NULL, NULL, NULL, -1},
    {"Anthropic, a spend limit", "anthropic", 429, "", "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"No more. You will regain access on "
     "2023-11-15 at 00:00 UTC.\",\"details\":{\"error_code\":\"enforced_spend_limit_reached\"}}}",
     FAILURE_QUOTA, 0, NULL, "rate_limit_error", "enforced_spend_limit_reached", 6400000},
    {"Anthropic, an empty account", "anthropic", 400, "", "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Your credit balance is too low to access the Anthropic API.\"}}",
     FAILURE_BILLING, 0, NULL, NULL, NULL, -1},
    {"Anthropic, prompt and answer together", "anthropic", 400, "",
     "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000\"}}",
     FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},

    /* ---- Bedrock: the type stands in a header, in the body, or in an exception's name */
    {"Bedrock, throttled", "bedrock", 429, "x-amzn-errortype: ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/",
     "{\"message\":\"Too many requests, please wait before trying again.\"}", FAILURE_RATE, LIMIT_REQUESTS, NULL, "ThrottlingException", "", -1},
    {"Bedrock, the tokens of a minute", "bedrock", 429, "x-amzn-errortype: ThrottlingException", "{\"message\":\"Too many tokens, please wait before trying again.\"}",
     FAILURE_RATE, LIMIT_TOKENS, NULL, NULL, NULL, -1},
    {"Bedrock, the tokens of a day", "bedrock", 429, "x-amzn-errortype: ThrottlingException", "{\"message\":\"Too many tokens per day, please wait before trying again.\"}",
     FAILURE_RATE, LIMIT_DAILY, NULL, NULL, NULL, -1},
    {"Bedrock, not ready", "bedrock", 429, "x-amzn-errortype: ModelNotReadyException", "{\"message\":\"Model is not ready for inference.\"}", FAILURE_RATE, 0, NULL, NULL, NULL, -1},
    {"Bedrock, a quota", "bedrock", 400, "x-amzn-errortype: ServiceQuotaExceededException", "{\"message\":\"Your request exceeds the service quota for your account.\"}",
     FAILURE_QUOTA, 0, NULL, NULL, NULL, -1},
    {"Bedrock, a token that is invalid", "bedrock", 403, "x-amzn-errortype: UnrecognizedClientException:http://x", "{\"message\":\"The security token included in the request is invalid.\"}",
     FAILURE_AUTH, 0, NULL, "UnrecognizedClientException", NULL, -1},
    {"Bedrock, a token that expired", "bedrock", 403, "", "{\"__type\":\"com.amazon.coral.service#ExpiredTokenException\",\"Message\":\"The security token is expired\"}",
     FAILURE_AUTH, 0, "The security token is expired", "ExpiredTokenException", NULL, -1},
    {"Bedrock, no access", "bedrock", 403, "x-amzn-errortype: AccessDeniedException", "{\"message\":\"You don't have access to the model with the specified model ID.\"}",
     FAILURE_PERMISSION, 0, NULL, NULL, NULL, -1},
    {"Bedrock, an unknown model", "bedrock", 400, "x-amzn-errortype: ValidationException", "{\"message\":\"The provided model identifier is invalid.\"}", FAILURE_NOT_FOUND, 0, NULL, NULL, NULL, -1},
    {"Bedrock, exception: throttled", "bedrock", 200, "", "{\"__type\":\"throttlingException\",\"message\":\"Too many tokens, please wait before trying again.\"}",
     FAILURE_RATE, LIMIT_TOKENS, NULL, "throttlingException", NULL, -1},
    {"Bedrock, exception: internal", "bedrock", 200, "", "{\"__type\":\"internalServerException\",\"message\":\"x\"}", FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"Bedrock, exception: unavailable", "bedrock", 200, "", "{\"__type\":\"serviceUnavailableException\",\"message\":\"x\"}", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"Bedrock, exception: validation", "bedrock", 200, "", "{\"__type\":\"validationException\",\"message\":\"x\"}", FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"Bedrock, exception: timeout", "bedrock", 200, "", "{\"__type\":\"modelTimeoutException\",\"message\":\"x\"}", FAILURE_TIMEOUT, 0, NULL, NULL, NULL, -1},
    {"Bedrock, exception: the model's stream", "bedrock", 200, "", "{\"__type\":\"modelStreamErrorException\",\"message\":\"x\"}", FAILURE_SERVER, 0, NULL, NULL, NULL, -1},
    {"Bedrock, exception: what was behind it", "bedrock", 200, "", "{\"__type\":\"modelStreamErrorException\",\"message\":\"x\",\"originalMessage\":\"busy\",\"originalStatusCode\":529}",
     FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"Bedrock, an exception that nobody knows", "bedrock", 200, "", "{\"__type\":\"newException\",\"message\":\"x\"}", FAILURE_SERVER, 0, "x", "newException", NULL, -1},
    {"Bedrock, an error message of the stream", "bedrock", 200, "", "{\"__type\":\"InternalFailure\",\"message\":\"\"}", FAILURE_SERVER, 0, NULL, "InternalFailure", NULL, -1},

    /* ---- Gemini and Vertex */
    {"Gemini, a key", "gemini", 400, "", "{\"error\":{\"code\":400,\"message\":\"No.\",\"status\":\"INVALID_ARGUMENT\",\"details\":[{\"@type\":\"a\"},{\"reason\":\"API_KEY_INVALID\"}]}}",
     FAILURE_AUTH, 0, "No.", "INVALID_ARGUMENT", "400", -1},
    {"Gemini, requests of a minute", "gemini", 429, "", "{\"error\":{\"code\":429,\"message\":\"You exceeded your current quota, generativelanguage.googleapis.com/x\",\"status\":"
     "\"RESOURCE_EXHAUSTED\",\"details\":[{\"violations\":[{\"quotaId\":\"GenerateRequestsPerMinutePerProject\"}]},{\"retryDelay\":\"34.4s\"}]}}",
     FAILURE_RATE, LIMIT_UNKNOWN, NULL, NULL, NULL, 34400},
    {"Gemini, requests of a day: the delay beside it is not believed", "gemini", 429, "", "{\"error\":{\"code\":429,\"message\":\"You exceeded your current quota, "
     "generativelanguage.googleapis.com/x. Please retry in 48.9s.\",\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"retryDelay\":\"48s\"},{\"violations\":[{\"quotaId\":"
     "\"GenerateRequestsPerDayPerProjectPerModel-FreeTier\"}]}]}}",
     FAILURE_RATE, LIMIT_DAILY, NULL, NULL, NULL, 35200000},
    {"Vertex, a shared quota", "vertex", 429, "", "[{\"error\":{\"code\":429,\"message\":\"Resource exhausted. Please try again later.\",\"status\":\"RESOURCE_EXHAUSTED\"}}]",
     FAILURE_RATE, 0, NULL, NULL, NULL, -1},
    {"Gemini, prepaid credit", "gemini", 402, "", "{\"error\":{\"code\":402,\"message\":\"x\",\"status\":\"RESOURCE_EXHAUSTED\"}}", FAILURE_BILLING, 0, NULL, NULL, NULL, -1},
    {"Gemini, a country", "gemini", 400, "", "{\"error\":{\"code\":400,\"message\":\"User location is not supported for the API use.\",\"status\":\"FAILED_PRECONDITION\"}}",
     FAILURE_PERMISSION, 0, NULL, NULL, NULL, -1},
    {"Gemini, cancelled in a stream", "gemini", 200, "", "{\"error\":{\"code\":499,\"message\":\"The operation was cancelled.\",\"status\":\"CANCELLED\"}}", FAILURE_SERVER, 0, NULL, "CANCELLED", "499", -1},
    {"Gemini, overloaded in a stream", "gemini", 200, "", "{\"error\":{\"code\":503,\"message\":\"The model is overloaded.\",\"status\":\"UNAVAILABLE\"}}", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"Vertex, a token that expired", "vertex", 401, "", "{\"error\":{\"code\":401,\"message\":\"x\",\"status\":\"UNAUTHENTICATED\",\"details\":[{\"reason\":\"ACCESS_TOKEN_EXPIRED\"}]}}", FAILURE_AUTH, 0, NULL, NULL, NULL, -1},

    /* ---- Responses */
    {"Responses, an error event", "openai", 200, "", "{\"type\":\"error\",\"sequence_number\":2,\"error\":{\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\",\"message\":\"x\",\"param\":null}}",
     FAILURE_QUOTA, 0, "x", "insufficient_quota", "insufficient_quota", -1},
    {"Responses, a flat error event", "openai", 200, "", "{\"type\":\"error\",\"code\":\"server_error\",\"message\":\"x\",\"param\":null,\"sequence_number\":7}", FAILURE_SERVER, 0, "x", "", "server_error", -1},
    {"Responses, failed", "openai", 200, "", "{\"type\":\"response.failed\",\"response\":{\"id\":\"r\",\"status\":\"failed\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"Slower\"}}}",
     FAILURE_RATE, 0, "Slower", "", "rate_limit_exceeded", -1},
    {"Responses, failed, whole", "openai", 200, "", "{\"id\":\"r\",\"object\":\"response\",\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"x\"}}", FAILURE_SERVER, 0, "x", NULL, "server_error", -1},
    {"Responses, a prompt", "openai", 200, "", "{\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"invalid_prompt\",\"message\":\"x\"}}}", FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"Responses, a policy", "openai", 200, "", "{\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"invalid_prompt\",\"message\":\"Your prompt was flagged as potentially violating our usage policy.\"}}}",
     FAILURE_FILTER, 0, NULL, NULL, NULL, -1},
    {"Responses, an image", "openai", 200, "", "{\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"invalid_image_url\",\"message\":\"x\"}}}", FAILURE_BAD, 0, NULL, NULL, NULL, -1},
    {"xAI, a key", "xai", 400, "", "{\"code\":\"invalid-argument\",\"error\":\"Incorrect API key provided. You can obtain an API key from https://console.x.ai.\"}", FAILURE_AUTH, 0, NULL, NULL, "invalid-argument", -1},

    /* ---- Ollama, and what counts by the day */
    {"Ollama, in a stream", "ollama", 200, "", "{\"error\":\"an error was encountered while running the model\"}", FAILURE_SERVER, 0, "an error was encountered while running the model", "", "", -1},
    {"Ollama, an unknown model", "ollama", 404, "", "{\"error\":\"model 'llama9' not found\"}", FAILURE_NOT_FOUND, 0, "model 'llama9' not found", NULL, NULL, -1},
    {"Ollama, busy", "ollama", 503, "", "{\"error\":\"server busy, please try again.  maximum pending requests exceeded\"}", FAILURE_OVERLOAD, 0, NULL, NULL, NULL, -1},
    {"Ollama, too long to embed", "ollama", 400, "", "{\"error\":\"the input length exceeds the context length\"}", FAILURE_CONTEXT, 0, NULL, NULL, NULL, -1},
    {"Mistral, the tokens of a month", "mistral", 429, "x-ratelimit-remaining-tokens-month: 0\nx-ratelimit-remaining-tokens-minute: 5000", "{\"message\":\"Requests rate limit exceeded\",\"type\":\"rate_limited\",\"code\":\"1300\"}",
     FAILURE_RATE, LIMIT_DAILY, NULL, NULL, NULL, -1},

    {"200, empty", NULL, 200, "", " \r\n", FAILURE_EMPTY, 0, "the answer says success and nothing else", NULL, NULL, -1},
    {"204", NULL, 204, "", "", FAILURE_EMPTY, 0, NULL, NULL, NULL, -1},
    {"200, a login page", NULL, 200, "", "<html><title>Sign in</title>", FAILURE_MALFORMED, 0, "an HTML page: Sign in", NULL, NULL, -1},
    {"200, other JSON", NULL, 200, "", "{\"ok\":true}", FAILURE_MALFORMED, 0, NULL, NULL, NULL, -1},
};
/* clang-format on */

static void judge_row(const struct row *r, struct verdict *v)
{
    struct http1_head head;
    classify_answer(r->preset ? preset_find(&presets, r->preset) : NULL, head_of(r->status, r->head, &head),
                    r->status, span_str(r->body), NOW_MS, v);
}

static void expect(const struct row *r, const struct verdict *v)
{
    int64_t wait_ms = v->has_retry_after ? (int64_t)v->retry_after_ms : -1;
    if (v->failure != r->failure || v->limit != r->limit || wait_ms != r->wait_ms ||
        (r->message && strcmp(v->message, r->message) != 0) || (r->type && strcmp(v->type, r->type) != 0) ||
        (r->code && strcmp(v->code, r->code) != 0))
        fail_msg("%s: %s (%s), wait %lld ms, \"%s\", type \"%s\", code \"%s\"", r->name,
                 failure_row(v->failure)->name, limit_kind_name(v->limit), (long long)wait_ms, v->message, v->type,
                 v->code);
}

static void every_answer_has_its_class(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct verdict v;
        judge_row(&rows[i], &v);
        expect(&rows[i], &v);
        if (rows[i].status >= 400)
            assert_int_equal(v.status, rows[i].status);
    }
}

/* A row with a preset must not depend on it for its class: users reach the same providers by other names. */
static void the_class_needs_no_preset(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct verdict v;
        struct row bare = rows[i];
        bare.preset = NULL;
        judge_row(&bare, &v);
        if (v.failure != bare.failure)
            fail_msg("%s: %s", bare.name, failure_row(v.failure)->name);
    }
}

static void every_class_of_an_answer_is_shown(void **state)
{
    (void)state;
    bool seen[FAILURE_COUNT] = {false};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        seen[rows[i].failure] = true;
    for (enum failure f = FAILURE_RATE; f < FAILURE_COUNT; f++) {
        bool ours = f == FAILURE_DNS || f == FAILURE_SLOW || f == FAILURE_STALLED || f == FAILURE_CUT ||
                    f == FAILURE_CARRY || f == FAILURE_JOIN || f == FAILURE_OURS;
        if (!seen[f] && !ours)
            fail_msg("no row is %s", failure_row(f)->name);
    }
}

static void an_event_without_a_head_is_judged_by_its_object(void **state)
{
    (void)state;
    struct verdict v;
    classify_answer(NULL, NULL, 0,
                    SPAN_LIT("{\"error\":{\"message\":\"m\",\"code\":\"tool_use_failed\",\"status_code\":400}}"),
                    NOW_MS, &v);
    assert_int_equal(v.failure, FAILURE_TOOL);
    assert_int_equal(v.status, 400);
    classify_answer(NULL, NULL, 0, SPAN_LIT("{\"error\":{\"message\":\"m\",\"code\":503}}"), NOW_MS, &v);
    assert_int_equal(v.failure, FAILURE_OVERLOAD);
    assert_int_equal(v.status, 503);
    classify_answer(NULL, NULL, 0, SPAN_NONE, NOW_MS, &v);
    assert_int_equal(v.failure, FAILURE_EMPTY);
    assert_int_equal(v.status, 0);
}

/* Where the client is handed the provider's own status, a 200 would be a lie. */
static void the_error_of_a_200_gets_a_status_to_hand_on(void **state)
{
    (void)state;
    struct verdict v;
    classify_answer(NULL, NULL, 200, SPAN_LIT("{\"error\":{\"message\":\"x\",\"code\":\"content_filter\"}}"),
                    NOW_MS, &v);
    assert_int_equal(v.status, 400);
    classify_answer(NULL, NULL, 200,
                    SPAN_LIT("{\"error\":{\"message\":\"x\",\"code\":\"content_filter\",\"status_code\":403}}"),
                    NOW_MS, &v);
    assert_int_equal(v.status, 403);
    classify_answer(NULL, NULL, 200, SPAN_LIT("{\"error\":\"boom\"}"), NOW_MS, &v);
    assert_int_equal(v.status, 200);
}

static void the_provider_can_say_retry_or_stop(void **state)
{
    (void)state;
    struct http1_head head;
    struct verdict v;
    classify_answer(NULL, head_of(500, "x-should-retry: true", &head), 500, SPAN_NONE, NOW_MS, &v);
    assert_true(v.provider_says_retry && !v.provider_says_stop);
    classify_answer(NULL, head_of(429, "X-Should-Retry: FALSE\nx-request-id: req_1", &head), 429, SPAN_NONE,
                    NOW_MS, &v);
    assert_true(!v.provider_says_retry && v.provider_says_stop);
    assert_string_equal(v.request_id, "req_1");
    classify_answer(NULL, head_of(429, "", &head), 429, SPAN_NONE, NOW_MS, &v);
    assert_true(!v.provider_says_retry && !v.provider_says_stop);
    assert_string_equal(v.request_id, "");
}

/* The relay sees the head first and the body later: nothing may get lost between. */
static void a_kept_head_decides_like_the_head_itself(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct http1_head head;
        struct arena a;
        struct verdict v;
        char lines[400];
        arena_init(&a, 0, 0);
        snprintf(lines, sizeof lines, "%s", rows[i].head);
        const struct http1_head *kept = classify_keep_head(head_of(rows[i].status, lines, &head), &a);
        assert_non_null(kept);
        memset(lines, 'x', sizeof lines);
        memset(&head, 0x55, sizeof head);
        classify_answer(rows[i].preset ? preset_find(&presets, rows[i].preset) : NULL, kept, rows[i].status,
                        span_str(rows[i].body), NOW_MS, &v);
        expect(&rows[i], &v);
        arena_done(&a);
    }
}

static pd_err keep_head(void *ctx)
{
    struct http1_head head;
    struct arena a;
    arena_init(&a, 64, 0);
    const struct http1_head *kept = classify_keep_head(head_of(429, ctx, &head), &a);
    pd_err e = kept && span_is(http1_get(kept, "retry-after"), "2") ? PD_OK : PD_NOMEM;
    arena_done(&a);
    return e;
}

static void a_head_that_cannot_be_kept_is_null(void **state)
{
    (void)state;
    char lines[] =
        "retry-after: 2\nx-request-id: 0123456789012345678901234567890123456789012345678901234567890123456789";
    assert_true(torture(keep_head, lines) >= 2);
}

static void what_is_copied_is_cut_and_holds_no_key(void **state)
{
    (void)state;
    char body[2000];
    struct verdict v;
    snprintf(
        body, sizeof body,
        "{\"error\":{\"message\":\"Bearer abcdefgh sk-12345678 %0900d\",\"type\":\"%0100d\",\"code\":\"%0100d\"}}",
        0, 0, 0);
    classify_answer(NULL, NULL, 500, span_str(body), NOW_MS, &v);
    assert_int_equal(strlen(v.message), sizeof v.message - 1);
    assert_int_equal(strncmp(v.message, "*** *** 000", 11), 0);
    assert_int_equal(strlen(v.type), sizeof v.type - 1);
    assert_int_equal(strlen(v.code), sizeof v.code - 1);
}

static void a_request_id_comes_from_the_head_or_else_from_the_body(void **state)
{
    (void)state;
    static const char body[] =
        "{\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"x\"},\"request_id\":\"req_body\"}";
    struct http1_head head;
    struct verdict v;
    classify_answer(NULL, head_of(500, "request-id: req_head", &head), 500, span_str(body), NOW_MS, &v);
    assert_string_equal(v.request_id, "req_head");
    classify_answer(NULL, NULL, 200, span_str(body), NOW_MS, &v);
    assert_string_equal(v.request_id, "req_body");
}

/* The client's own text comes back in some validation errors: it is not copied, and decides nothing. */
static void what_the_client_sent_is_not_repeated(void **state)
{
    (void)state;
    struct verdict v;
    classify_answer(NULL, NULL, 422,
                    SPAN_LIT("{\"detail\":[{\"loc\":[\"body\",\"x\"],\"msg\":\"bad value\",\"input\":\"my secret: "
                             "prompt is too long\"}]}"),
                    NOW_MS, &v);
    assert_int_equal(v.failure, FAILURE_BAD);
    assert_string_equal(v.message, "x: bad value");
}

static void only_the_beginning_of_a_huge_body_is_read(void **state)
{
    (void)state;
    static char body[3 * CLASSIFY_BODY_MAX];
    struct verdict v;
    memset(body, 'x', sizeof body);
    const char head[] = "{\"error\":{\"message\":\"m\",\"code\":\"context_length_exceeded\",\"echo\":\"";
    memcpy(body, head, sizeof head - 1);
    classify_answer(NULL, NULL, 400, span_of(body, sizeof body), NOW_MS, &v);
    assert_int_equal(v.failure, FAILURE_CONTEXT);
    assert_string_equal(v.message, "m");

    /* What comes behind the limit decides nothing. */
    const char tail[] = "\",\"code\":\"context_length_exceeded\"}}",
               plain[] = "{\"error\":{\"message\":\"m\",\"echo\":\"xxxxxxxxxxxxxxxxxxxxxxxxxx";
    memcpy(body, plain, sizeof plain - 1);
    memset(body + sizeof plain - 1, 'x', sizeof head);
    memcpy(body + 2 * CLASSIFY_BODY_MAX, tail, sizeof tail - 1);
    classify_answer(NULL, NULL, 400, span_of(body, 2 * CLASSIFY_BODY_MAX + sizeof tail - 1), NOW_MS, &v);
    assert_int_equal(v.failure, FAILURE_BAD);
    assert_string_equal(v.message, "m");
}

static const struct {
    pd_err e;
    enum failure before, after;
    /* clang-format off */
} transports[] = {
    {PD_DNS, FAILURE_DNS, FAILURE_DNS},           {PD_CONNECT, FAILURE_CONNECT, FAILURE_CONNECT}, {PD_PROXY, FAILURE_CONNECT, FAILURE_CONNECT},
    {PD_TLS, FAILURE_TLS, FAILURE_TLS},           {PD_RESET, FAILURE_RESET, FAILURE_CUT},         {PD_CLOSED, FAILURE_RESET, FAILURE_CUT},
    {PD_CUT, FAILURE_RESET, FAILURE_CUT},         {PD_IO, FAILURE_RESET, FAILURE_CUT},            {PD_TIMEOUT, FAILURE_TIMEOUT, FAILURE_TIMEOUT},
    {PD_PROTO, FAILURE_MALFORMED, FAILURE_MALFORMED}, {PD_SYNTAX, FAILURE_MALFORMED, FAILURE_MALFORMED},
    {PD_TOOBIG, FAILURE_MALFORMED, FAILURE_MALFORMED}, {PD_NOMEM, FAILURE_OURS, FAILURE_OURS},    {PD_NOFD, FAILURE_OURS, FAILURE_OURS},
    {PD_CANCELLED, FAILURE_NONE, FAILURE_NONE},
};
/* clang-format on */

static void a_transport_that_failed_has_its_class(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof transports / sizeof transports[0]; i++) {
        struct verdict v;
        classify_transport(transports[i].e, "while connecting", false, &v);
        assert_int_equal(v.failure, transports[i].before);
        assert_string_equal(v.message, "while connecting");
        assert_int_equal(v.status, 0);
        classify_transport(transports[i].e, NULL, true, &v);
        assert_int_equal(v.failure, transports[i].after);
        assert_string_equal(v.message, pd_err_text(transports[i].e));
    }
}

static void our_own_findings_keep_their_class(void **state)
{
    (void)state;
    for (enum failure f = FAILURE_NONE; f < FAILURE_COUNT; f++) {
        struct verdict v;
        classify_as(f, NULL, &v);
        assert_int_equal(v.failure, f);
        assert_string_equal(v.message, failure_row(f)->what);
        classify_as(f, "said", &v);
        assert_string_equal(v.message, "said");
        assert_false(v.has_retry_after);
    }
}

static void the_table_is_whole(void **state)
{
    (void)state;
    for (enum failure f = FAILURE_RATE; f < FAILURE_COUNT; f++) {
        const struct failure_row *r = failure_row(f);
        assert_true(r->name && *r->name && r->client_code && *r->client_code && r->what && *r->what);
        /* The request's own fault: neither again nor elsewhere, and nothing against the target. */
        if (!r->elsewhere) {
            assert_int_equal(r->same, SAME_NEVER);
            assert_int_equal(r->blame, BLAME_NONE);
        }
        assert_true(r->client_status == 0 || (r->client_status >= 400 && r->client_status < 600));
        for (enum failure g = FAILURE_NONE; g < f; g++)
            assert_string_not_equal(r->name, failure_row(g)->name);
    }
}

static const char *same_words(enum failure_same same)
{
    switch (same) {
    case SAME_NEVER:
        return "never";
    case SAME_LAST:
        return "when nothing else is left";
    case SAME_FIRST:
        return "once, then elsewhere";
    }
    return "?";
}

static const char *blame_words(enum failure_blame blame)
{
    switch (blame) {
    case BLAME_NONE:
        return "nothing";
    case BLAME_FAILURE:
        return "a failure";
    case BLAME_TIMEOUT:
        return "a failure and a timeout";
    case BLAME_LIMIT:
        return "rests";
    case BLAME_PARK:
        return "parked";
    }
    return "?";
}

/* The row of a class in docs/internals/failures.md. */
static void doc_row(const struct failure_row *r, char *out, size_t out_bytes)
{
    char status[32] = "the provider's own";
    if (r->client_status)
        snprintf(status, sizeof status, "%d", r->client_status);
    snprintf(out, out_bytes, "| `%s` | %s | %s | %s | %s | %s, `%s` |\n", r->name, r->what, same_words(r->same),
             r->elsewhere ? "yes" : "no", blame_words(r->blame), status, r->client_code);
}

static void the_page_shows_every_class_as_it_is(void **state)
{
    (void)state;
    static char page[64 * 1024];
    FILE *f = fopen("docs/internals/failures.md", "rb");
    assert_non_null(f);
    size_t n = fread(page, 1, sizeof page - 1, f);
    assert_true(n < sizeof page - 1);
    page[n] = '\0';
    fclose(f);
    for (enum failure i = FAILURE_RATE; i < FAILURE_COUNT; i++) {
        char row[512];
        doc_row(failure_row(i), row, sizeof row);
        if (!strstr(page, row))
            fail_msg("docs/internals/failures.md lacks: %s", row);
    }
}

/* Without memory escapes stay in the texts; the verdict is the same. */
static pd_err classify_without_memory(void *ctx)
{
    const struct row *r = ctx;
    struct verdict v;
    judge_row(r, &v);
    return v.failure == r->failure ? PD_OK : PD_INVALID;
}

static void out_of_memory_gives_the_same_class(void **state)
{
    (void)state;
    static struct row row = {"",
                             NULL,
                             422,
                             "",
                             "{\"message\":\"a \\\"b\\\"\",\"error\":{\"message\":\"prompt is too long: "
                             "\\\"x\\\"\",\"type\":\"a\\u0062\"}}",
                             FAILURE_CONTEXT,
                             0,
                             NULL,
                             NULL,
                             NULL,
                             -1};
    assert_true(torture_lenient(classify_without_memory, &row) >= 1);
    struct verdict v;
    mem_fail_at(1);
    judge_row(&row, &v);
    assert_true(mem_failed());
    mem_fail_at(0);
    assert_int_equal(v.failure, FAILURE_CONTEXT);
    assert_string_equal(v.message, "prompt is too long: \\\"x\\\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_answer_has_its_class),
        cmocka_unit_test(the_class_needs_no_preset),
        cmocka_unit_test(every_class_of_an_answer_is_shown),
        cmocka_unit_test(an_event_without_a_head_is_judged_by_its_object),
        cmocka_unit_test(the_error_of_a_200_gets_a_status_to_hand_on),
        cmocka_unit_test(the_provider_can_say_retry_or_stop),
        cmocka_unit_test(a_kept_head_decides_like_the_head_itself),
        cmocka_unit_test(a_head_that_cannot_be_kept_is_null),
        cmocka_unit_test(a_request_id_comes_from_the_head_or_else_from_the_body),
        cmocka_unit_test(what_is_copied_is_cut_and_holds_no_key),
        cmocka_unit_test(what_the_client_sent_is_not_repeated),
        cmocka_unit_test(only_the_beginning_of_a_huge_body_is_read),
        cmocka_unit_test(a_transport_that_failed_has_its_class),
        cmocka_unit_test(our_own_findings_keep_their_class),
        cmocka_unit_test(the_table_is_whole),
        cmocka_unit_test(the_page_shows_every_class_as_it_is),
        cmocka_unit_test(out_of_memory_gives_the_same_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
