/* conf_helper.h - presets and an environment of a test's own, and a config parsed against them. */
#ifndef PERDURE_TESTS_CONF_HELPER_H
#define PERDURE_TESTS_CONF_HELPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "test.h"

#include "base/mem.h"
#include "conf/conf.h"

#include <stdio.h>
#include <stdlib.h>

static const struct preset helper_rows[] = {
    {.name = "openai",
     .base_url = "https://api.openai.com/v1",
     .key_env = "OPENAI_API_KEY",
     .wires = {"openai-chat"}},
    {.name = "deepseek",
     .base_url = "https://api.deepseek.com/v1",
     .key_env = "DEEPSEEK_API_KEY",
     .wires = {"openai-chat"},
     .throttles_by_latency = true,
     .query = "a=b"},
    {.name = "azure-openai",
     .key_env = "AZURE_OPENAI_API_KEY",
     .url_env = "AZURE_OPENAI_ENDPOINT",
     .url_path = "/openai/v1",
     .auth = AUTH_API_KEY,
     .wires = {"openai-chat"}},
    {.name = "vllm",
     .base_url = "http://127.0.0.1:8000/v1",
     .key_env = "VLLM_API_KEY",
     .url_env = "VLLM_BASE_URL",
     .url_path = "/v1",
     .auth = AUTH_OPTIONAL_BEARER,
     .wires = {"openai-chat"},
     .local = true},
    {.name = "llamacpp",
     .base_url = "http://127.0.0.1:8080/v1",
     .url_env = "LLAMACPP_BASE_URL",
     .url_path = "/v1",
     .auth = AUTH_OPTIONAL_BEARER,
     .wires = {"openai-chat"},
     .local = true},
    {.name = "openai-compatible",
     .url_env = "OPENAI_COMPATIBLE_BASE_URL",
     .auth = AUTH_OPTIONAL_BEARER,
     .wires = {"openai-chat"},
     .local = true},
    {.name = "ollama",
     .base_url = "http://127.0.0.1:11434",
     .url_env = "OLLAMA_HOST",
     .url_drop = "/v1",
     .auth = AUTH_OPTIONAL_BEARER,
     .wires = {"ollama", "openai-chat@/v1"},
     .local = true},
    {.name = "gemini",
     .base_url = "https://gemini.example",
     .key_env = "GEMINI_API_KEY",
     .key_env_too = "GOOGLE_API_KEY",
     .auth = AUTH_GOOG_KEY,
     .wires = {"gemini"}},
    {.name = "vertex",
     .base_url = "https://{location}-aiplatform.googleapis.com",
     .auth = AUTH_GOOGLE,
     .wires = {"vertex-gemini", "vertex-anthropic"}},
    {.name = "bedrock",
     .base_url = "https://bedrock-runtime.{region}.amazonaws.com",
     .key_env = "AWS_BEARER_TOKEN_BEDROCK",
     .auth = AUTH_SIGV4,
     .wires = {"bedrock-converse", "bedrock-invoke"}},
};
static const struct preset_table helper_presets = {.rows = helper_rows,
                                                   .count = sizeof(helper_rows) / sizeof(helper_rows[0])};

/* ctx: "NAME=value" strings, NULL at the end. */
static const char *helper_env(void *ctx, const char *name)
{
    size_t n = strlen(name);
    for (const char *const *e = ctx; e && *e; e++)
        if (strncmp(*e, name, n) == 0 && (*e)[n] == '=')
            return *e + n + 1;
    return NULL;
}

#define ENV(...) ((const char *[]){__VA_ARGS__, NULL})

static inline pd_err helper_parse(const char *text, const char **env, struct conf_report *report,
                                  struct conf **ret)
{
    return conf_parse(span_str(text), "t.yaml", &helper_presets, helper_env, (void *)env, report, ret);
}

static inline const char *helper_remarks(const struct conf_report *report)
{
    static char all[CONF_REMARKS_MAX * 700];
    size_t n = 0;
    all[0] = '\0';
    for (unsigned i = 0; i < report->count; i++)
        n += (size_t)snprintf(all + n, sizeof(all) - n, "%s %s\n", report->remarks[i].error ? "error" : "warning",
                              report->remarks[i].text);
    return all;
}

/* Parses what must be fine; with warnings or without. */
static inline struct conf *helper_conf(const char *text, const char **env)
{
    static struct conf_report report;
    struct conf *c = NULL;
    pd_err e = helper_parse(text, env, &report, &c);
    if (e)
        fail_msg("%s\n%s", pd_err_name(e), helper_remarks(&report));
    return c;
}

#endif
