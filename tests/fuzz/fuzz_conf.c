/* Any bytes as a config: it is refused with a reason or taken whole; what is taken can be described; and nothing is left behind. */
#include "base/mem.h"
#include "conf/conf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct preset rows[] = {
    {.name = "openai",
     .base_url = "https://api.openai.com/v1",
     .key_env = "OPENAI_API_KEY",
     .wires = {"openai-chat"}},
    {.name = "azure-openai",
     .key_env = "AZURE_KEY",
     .url_env = "AZURE_URL",
     .auth = AUTH_API_KEY,
     .wires = {"openai-chat"}},
    {.name = "vllm",
     .base_url = "http://127.0.0.1:8000/v1",
     .url_env = "VLLM_BASE_URL",
     .auth = AUTH_OPTIONAL_BEARER,
     .wires = {"openai-chat"},
     .local = true},
    {.name = "bedrock",
     .base_url = "https://bedrock-runtime.{region}.amazonaws.com",
     .auth = AUTH_SIGV4,
     .wires = {"bedrock-converse", "bedrock-invoke"}},
    {.name = "vertex",
     .base_url = "https://{location}-aiplatform.googleapis.com",
     .auth = AUTH_GOOGLE,
     .wires = {"vertex-gemini"}},
};
static const struct preset_table presets = {.rows = rows, .count = sizeof(rows) / sizeof(rows[0])};

static const char secret[] = "sk-never-shown";

static const char *env(void *ctx, const char *name)
{
    (void)ctx;
    if (strcmp(name, "OPENAI_API_KEY") == 0)
        return secret;
    return strcmp(name, "A") == 0 ? "a" : NULL;
}

#define HOLDS(what) ((what) ? (void)0 : (fprintf(stderr, "broken: %s\n", #what), abort()))

/* The key of the environment is seen nowhere, unless the file may name its variable elsewhere than as a key, or writes it out. */
static void check_taken(const struct conf *c, bool names_secret)
{
    struct buf out;
    buf_init(&out, 0);
    HOLDS(c->providers_count > 0 && c->listen_count > 0);
    for (unsigned i = 0; i < c->providers_count; i++)
        HOLDS(c->providers[i].preset && c->providers[i].base_url && c->providers[i].name);
    for (unsigned i = 0; i < c->routes_count; i++) {
        HOLDS(c->routes[i].targets_count > 0);
        for (unsigned j = 0; j < c->routes[i].targets_count; j++)
            HOLDS(c->routes[i].targets[j].provider < c->providers_count && *c->routes[i].targets[j].model);
    }
    for (unsigned i = 0; i < c->listen_count; i++)
        HOLDS(c->keys_count || conf_is_loopback(c->listen[i]));
    HOLDS(conf_describe(c, &out) == PD_OK);
    HOLDS(names_secret || !span_has(buf_span(&out), secret));
    buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct conf_report report;
    struct conf *c = NULL;
    struct span text = span_of((const char *)data, n);
    size_t blocks = mem_blocks();
    pd_err e = conf_parse(text, "fuzz", &presets, env, NULL, &report, &c);
    HOLDS(e == PD_OK || e == PD_INVALID);
    HOLDS((e == PD_OK) == (report.errors == 0));
    HOLDS((e == PD_OK) == (c != NULL));
    bool names_secret = span_has(text, "${") || span_has(text, "\\") || span_has(text, "sk-");
    for (unsigned i = 0; i < report.count; i++)
        HOLDS(*report.remarks[i].text && (names_secret || !strstr(report.remarks[i].text, secret)));
    if (c)
        check_taken(c, names_secret);
    conf_free(c);
    HOLDS(mem_blocks() == blocks);
    return 0;
}
