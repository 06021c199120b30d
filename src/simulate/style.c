#include "simulate/style.h"

#include "simulate/sign.h"

#include <stdio.h>

const char alphabet_hex[] = "0123456789abcdef";
const char alphabet_alnum[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

const struct style styles[] = {
    {.name = "openai",
     .what = "OpenAI: usage in a chunk of its own when asked, padding in `obfuscation`",
     .id_prefix = "chatcmpl-",
     .request_id_header = "x-request-id",
     .reasoning_field = "reasoning_content",
     .chunk_extra = ",\"service_tier\":\"default\"",
     .choice_extra = ",\"logprobs\":null",
     .usage = USAGE_EXTRA,
     .error = ERROR_OPENAI,
     .stream_error = SHAPE_OBJECT,
     .call_id = CALL_ID_24,
     .usage_null = true,
     .obfuscation = true},
    {.name = "azure",
     .what =
         "Azure OpenAI: a first chunk with prompt_filter_results and no choices, filter results in each choice",
     .id_prefix = "chatcmpl-",
     .request_id_header = "apim-request-id",
     .reasoning_field = "reasoning_content",
     .chunk_extra = "",
     .choice_extra =
         ",\"content_filter_results\":{\"hate\":{\"filtered\":false,\"severity\":\"safe\"}},\"logprobs\":null",
     .usage = USAGE_EXTRA,
     .error = ERROR_AZURE,
     .stream_error = SHAPE_OBJECT,
     .call_id = CALL_ID_24,
     .usage_null = true,
     .obfuscation = true,
     .filter_first = true},
    {.name = "deepseek",
     .what =
         "DeepSeek: 200 at once, `: keep-alive` comments (empty lines when unstreamed), usage in the finish chunk",
     .id_prefix = "",
     .request_id_header = "x-ds-trace-id",
     .comment = "keep-alive",
     .reasoning_field = "reasoning_content",
     .chunk_extra = "",
     .choice_extra = ",\"logprobs\":null",
     .usage = USAGE_FINISH,
     .error = ERROR_OPENAI,
     .stream_error = SHAPE_OBJECT,
     .call_id = CALL_ID_DEEPSEEK,
     .usage_null = true,
     .head_early = true,
     .blank_lines = true,
     .continues = CONTINUES_PREFIX},
    {.name = "mistral",
     .what = "Mistral: flat errors, a tool call in one chunk, reasoning as a list of content parts, 9-character "
             "call ids",
     .id_prefix = "",
     .request_id_header = "mistral-correlation-id",
     .reasoning_field = NULL,
     .chunk_extra = "",
     .choice_extra = "",
     .usage = USAGE_FINISH,
     .error = ERROR_MISTRAL,
     .stream_error = SHAPE_OBJECT,
     .call_id = CALL_ID_9,
     .call_whole = true,
     .continues = CONTINUES_PREFIX},
    {.name = "groq",
     .what = "Groq: x_groq on the first and the finish chunk, `reasoning`, errors in a stream as `event: error`",
     .id_prefix = "chatcmpl-",
     .request_id_header = "x-request-id",
     .reasoning_field = "reasoning",
     .chunk_extra = "",
     .choice_extra = ",\"logprobs\":null",
     .usage = USAGE_EXTRA,
     .error = ERROR_OPENAI,
     .stream_error = SHAPE_EVENT,
     .call_id = CALL_ID_9,
     .groq_extra = true,
     .call_whole = true},
    {.name = "openrouter",
     .what = "OpenRouter: `: OPENROUTER PROCESSING` comments, a usage chunk that repeats the finish_reason, "
             "an error beside an empty delta",
     .id_prefix = "gen-",
     .request_id_header = "x-generation-id",
     .comment = "OPENROUTER PROCESSING",
     .reasoning_field = "reasoning",
     .chunk_extra = ",\"provider\":\"Simulated\"",
     .choice_extra = ",\"native_finish_reason\":null",
     .finish_extra = ",\"native_finish_reason\":\"completed\"",
     .usage = USAGE_REPEAT,
     .error = ERROR_OPENROUTER,
     .stream_error = SHAPE_CHUNK,
     .call_id = CALL_ID_24,
     .role_each = true,
     .head_early = true,
     .continues = CONTINUES_TRAILING},
    {.name = "vllm",
     .what = "vLLM: usage only when asked, stop_reason in the finish chunk, an error in a stream is followed by "
             "[DONE]",
     .id_prefix = "chatcmpl-",
     .request_id_header = "x-request-id",
     .reasoning_field = "reasoning_content",
     .chunk_extra = "",
     .choice_extra = ",\"logprobs\":null",
     .finish_extra = ",\"logprobs\":null,\"stop_reason\":null",
     .usage = USAGE_EXTRA,
     .error = ERROR_INT_CODE,
     .stream_error = SHAPE_DONE,
     .call_id = CALL_ID_VLLM,
     .continues = CONTINUES_FINAL},
    {.name = "llamacpp",
     .what = "llama.cpp server: numbers as error codes, `timings` beside the usage",
     .id_prefix = "chatcmpl-",
     .request_id_header = "x-request-id",
     .reasoning_field = "reasoning_content",
     .chunk_extra = "",
     .choice_extra = "",
     .usage = USAGE_EXTRA,
     .error = ERROR_INT_CODE,
     .stream_error = SHAPE_OBJECT,
     .call_id = CALL_ID_32,
     .continues = CONTINUES_TRAILING},
    {.name = "siliconflow",
     .what = "SiliconFlow: usage in every chunk, errors without an envelope",
     .id_prefix = "",
     .request_id_header = "x-siliconcloud-trace-id",
     .comment = "keep-alive",
     .reasoning_field = "reasoning_content",
     .chunk_extra = "",
     .choice_extra = "",
     .usage = USAGE_EVERY,
     .error = ERROR_SILICONFLOW,
     .stream_error = SHAPE_OBJECT,
     .call_id = CALL_ID_32,
     .role_each = true,
     .continues = CONTINUES_TRAILING},
    {.name = "chutes",
     .what = "Chutes: FastAPI errors (`detail`), after the first token an error is bare JSON without `data:`",
     .id_prefix = "chat-",
     .request_id_header = "x-chutes-invocationid",
     .reasoning_field = "reasoning_content",
     .chunk_extra = "",
     .choice_extra = ",\"logprobs\":null",
     .usage = USAGE_EXTRA,
     .error = ERROR_DETAIL,
     .stream_error = SHAPE_BARE,
     .call_id = CALL_ID_VLLM},
    {.name = "nvidia",
     .what = "NVIDIA NIM: problem-details errors",
     .id_prefix = "chat-",
     .request_id_header = "nvcf-reqid",
     .reasoning_field = "reasoning_content",
     .chunk_extra = "",
     .choice_extra = ",\"logprobs\":null",
     .usage = USAGE_EXTRA,
     .error = ERROR_PROBLEM,
     .stream_error = SHAPE_OBJECT,
     .call_id = CALL_ID_VLLM},
};
const unsigned styles_count = sizeof(styles) / sizeof(styles[0]);

const struct style *style_find(struct span name)
{
    for (unsigned i = 0; i < styles_count; i++)
        if (span_is(name, styles[i].name))
            return &styles[i];
    return NULL;
}

/* ---- errors --------------------------------------------------------------- */

const struct error_like error_likes[ERROR_LIKES] = {
    {"bad_request", 400, "invalid_request_error", "invalid_value", "Invalid value in the request."},
    {"context_length", 400, "invalid_request_error", "context_length_exceeded",
     "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens."},
    {"content_filter", 400, "invalid_request_error", "content_filter",
     "The response was filtered due to the prompt triggering the content management policy."},
    {"auth", 401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."},
    {"billing", 402, "insufficient_quota", "insufficient_balance", "Insufficient Balance"},
    {"permission", 403, "permission_error", "forbidden", "You are not allowed to use this model."},
    {"model_not_found", 404, "invalid_request_error", "model_not_found",
     "The model does not exist or you do not have access to it."},
    {"timeout", 408, "timeout", "request_timeout", "The request took too long."},
    {"too_large", 413, "invalid_request_error", "request_too_large", "The request body is too large."},
    {"rate_limit", 429, "requests", "rate_limit_exceeded",
     "Rate limit reached on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 1s."},
    {"tokens", 429, "tokens", "rate_limit_exceeded",
     "Rate limit reached on tokens per min (TPM): Limit 8000, Used 7000, Requested 2000. Please try again in 1s."},
    {"quota", 429, "insufficient_quota", "insufficient_quota",
     "You exceeded your current quota, please check your plan and billing details."},
    {"server_error", 500, "server_error", "internal_error",
     "The server had an error while processing your request."},
    {"bad_gateway", 502, "server_error", "bad_gateway", "Bad gateway"},
    {"unavailable", 503, "server_error", "service_unavailable", "The service is temporarily unavailable."},
    {"gateway_timeout", 504, "server_error", "gateway_timeout", "The upstream server did not answer in time."},
    {"overloaded", 529, "overloaded_error", "overloaded", "The server is overloaded, please try again later."},
};
const unsigned error_likes_count = ERROR_LIKES;

const struct error_like *error_like_find(struct span name)
{
    for (unsigned i = 0; i < error_likes_count; i++)
        if (span_is(name, error_likes[i].name))
            return &error_likes[i];
    return NULL;
}

static void put_openai_error(struct put *out, const struct style_fault *f, bool number)
{
    put_text(out, "{\"error\":{\"message\":");
    put_json(out, f->message);
    put_text(out, ",\"type\":");
    put_json(out, f->type);
    put_text(out, ",\"param\":");
    if (f->param.p)
        put_json(out, f->param);
    else
        put_text(out, "null");
    put_text(out, ",\"code\":");
    if (number)
        put_int(out, f->status);
    else if (f->code.p)
        put_json(out, f->code);
    else
        put_text(out, "null");
    put_text(out, "}}");
}

void style_put_error(struct put *out, const struct style *s, const struct style_fault *f)
{
    char status[16];
    switch (s->error) {
    case ERROR_OPENAI:
        put_openai_error(out, f, false);
        return;
    case ERROR_INT_CODE:
        put_openai_error(out, f, true);
        return;
    case ERROR_AZURE:
        put_text(out, "{\"error\":{\"code\":");
        snprintf(status, sizeof(status), "%d", f->status);
        put_json(out, f->status == 401 || f->status == 429 ? span_str(status) : f->code);
        put_text(out, ",\"message\":");
        put_json(out, f->message);
        put_text(out, "}}");
        return;
    case ERROR_MISTRAL:
        put_text(out, "{\"object\":\"error\",\"message\":");
        put_json(out, f->message);
        put_text(out, ",\"type\":");
        put_json(out, f->status == 429 ? SPAN_LIT("rate_limited") : f->type);
        put_printf(out, ",\"param\":null,\"code\":\"%s\",\"raw_status_code\":%d}",
                   f->status == 429 ? "1300" : "1500", f->status);
        return;
    case ERROR_SILICONFLOW:
        put_text(out, f->status == 429 ? "{\"message\":" : "{\"code\":");
        if (f->status != 429)
            put_printf(out, "%d,\"message\":", f->status == 404 ? 20012 : 20000 + f->status % 100);
        put_json(out, f->message);
        put_text(out, ",\"data\":null}");
        return;
    case ERROR_DETAIL:
        put_text(out, "{\"detail\":");
        put_json(out, f->message);
        put_text(out, "}");
        return;
    case ERROR_PROBLEM:
        put_printf(out, "{\"status\":%d,\"title\":", f->status);
        put_json(out, f->type);
        put_text(out, ",\"detail\":");
        put_json(out, f->message);
        put_text(out, "}");
        return;
    case ERROR_OPENROUTER:
        put_printf(out, "{\"error\":{\"code\":%d,\"message\":", f->status);
        put_json(out, f->message);
        put_text(out, ",\"metadata\":{\"provider_name\":\"Simulated\",\"raw\":");
        put_json(out, f->type);
        put_text(out, "}},\"user_id\":\"user_simulated\"}");
        return;
    }
}

/* ---- ids ------------------------------------------------------------------ */

void put_random(struct put *out, struct rnd *rnd, const char *alphabet, unsigned n)
{
    char text[64];
    size_t letters = strlen(alphabet);
    if (n > sizeof(text))
        n = sizeof(text);
    for (unsigned i = 0; i < n; i++)
        text[i] = alphabet[rnd_below(rnd, letters)];
    put_span(out, span_of(text, n));
}

bool style_is_mistral(const struct style *s, struct span model)
{
    static const char *const names[] = {"mistral", "mixtral", "magistral", "codestral", "devstral", "pixtral"};
    if (s->error == ERROR_MISTRAL)
        return true;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (span_ihas(model, names[i]))
            return true;
    return false;
}

void style_put_call_id(struct put *out, enum style_call_id form, unsigned index, struct rnd *rnd)
{
    struct buf half;
    switch (form) {
    case CALL_ID_24:
        put_text(out, "call_");
        put_random(out, rnd, alphabet_alnum, 24);
        return;
    case CALL_ID_DEEPSEEK:
        put_printf(out, "call_%02u_", index);
        put_random(out, rnd, alphabet_alnum, 24);
        return;
    case CALL_ID_9:
        put_random(out, rnd, alphabet_alnum, 9);
        return;
    case CALL_ID_VLLM:
        put_text(out, "chatcmpl-tool-");
        put_random(out, rnd, alphabet_hex, 32);
        return;
    case CALL_ID_32:
        put_random(out, rnd, alphabet_alnum, 32);
        return;
    case CALL_ID_SIGNED: {
        buf_init(&half, 0);
        struct put first = put_into(&half);
        put_random(&first, rnd, alphabet_alnum, 12);
        put_text(out, "call_");
        sign_id_put(out, buf_span(&half), "call");
        out->err = out->err != PD_OK ? out->err : first.err;
        buf_done(&half);
        return;
    }
    case CALL_ID_TOOLU:
    case CALL_ID_TOOLU_VERTEX:
    case CALL_ID_TOOLU_BEDROCK:
        put_text(out, form == CALL_ID_TOOLU          ? "toolu_01"
                      : form == CALL_ID_TOOLU_VERTEX ? "toolu_vrtx_01"
                                                     : "toolu_bdrk_01");
        put_random(out, rnd, alphabet_alnum, 22);
        return;
    case CALL_ID_TOOLUSE:
        put_text(out, "tooluse_");
        put_random(out, rnd, alphabet_alnum, 22);
        return;
    case CALL_ID_8:
        put_text(out, "call_");
        put_random(out, rnd, alphabet_hex, 8);
        return;
    case CALL_ID_NONE:
        return;
    }
}
