#include "dialect/continuation.h"
#include "parse/url.h"
#include "provider/presets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "test.h"

static const struct {
    const char *name, *base_url, *key_env, *url_env, *wires;
} rows[] = {
    {"openai", "https://api.openai.com/v1", "OPENAI_API_KEY", NULL,
     "openai-chat openai-responses openai-embeddings"},
    {"anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY", NULL, "anthropic-messages"},
    {"gemini", "https://generativelanguage.googleapis.com", "GEMINI_API_KEY", NULL, "gemini"},
    {"vertex", "https://{location}-aiplatform.googleapis.com", NULL, NULL, "vertex-gemini vertex-anthropic"},
    {"bedrock", "https://bedrock-runtime.{region}.amazonaws.com", "AWS_BEARER_TOKEN_BEDROCK", NULL,
     "bedrock-converse bedrock-invoke"},
    {"deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", NULL, "openai-chat openai-responses"},
    {"siliconflow", "https://api.siliconflow.cn/v1", "SILICONFLOW_API_KEY", "SILICONFLOW_BASE_URL",
     "openai-chat openai-embeddings"},
    {"chutes", "https://llm.chutes.ai/v1", "CHUTES_API_KEY", NULL, "openai-chat openai-embeddings"},
    {"nvidia", "https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", NULL, "openai-chat openai-embeddings"},
    {"mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY", NULL, "openai-chat openai-embeddings"},
    {"groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY", NULL, "openai-chat openai-responses"},
    {"xai", "https://api.x.ai/v1", "XAI_API_KEY", NULL, "openai-chat openai-responses"},
    {"openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", NULL,
     "openai-chat openai-responses openai-embeddings"},
    {"together", "https://api.together.ai/v1", "TOGETHER_API_KEY", NULL, "openai-chat openai-embeddings"},
    {"fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", NULL,
     "openai-chat openai-embeddings"},
    {"azure-openai", NULL, "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT",
     "openai-chat openai-responses openai-embeddings"},
    {"vllm", "http://127.0.0.1:8000/v1", "VLLM_API_KEY", "VLLM_BASE_URL",
     "openai-chat openai-responses openai-embeddings"},
    {"llamacpp", NULL, "LLAMACPP_API_KEY", "LLAMACPP_BASE_URL", "openai-chat openai-embeddings"},
    {"ollama", "http://127.0.0.1:11434", "OLLAMA_API_KEY", "OLLAMA_HOST",
     "ollama openai-chat@/v1 openai-responses@/v1 openai-embeddings@/v1"},
    {"openai-compatible", NULL, "OPENAI_COMPATIBLE_API_KEY", "OPENAI_COMPATIBLE_BASE_URL",
     "openai-chat openai-embeddings"},
    {"anthropic-compatible", NULL, "ANTHROPIC_COMPATIBLE_API_KEY", "ANTHROPIC_COMPATIBLE_BASE_URL",
     "anthropic-messages"},
};

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* "a b c" of the list. */
static const char *joined(const char *const *wires)
{
    static char out[200];
    size_t n = 0;
    out[0] = '\0';
    for (; *wires; wires++)
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%s", n ? " " : "", *wires);
    return out;
}

static void each_provider_is_where_its_sdk_goes(void **state)
{
    (void)state;
    assert_int_equal(presets.count, sizeof rows / sizeof rows[0]);
    for (size_t i = 0; i < presets.count; i++) {
        const struct preset *p = preset_find(&presets, rows[i].name);
        assert_non_null(p);
        if (!same(p->base_url, rows[i].base_url) || !same(p->key_env, rows[i].key_env) ||
            !same(p->url_env, rows[i].url_env) || !same(joined(p->wires), rows[i].wires))
            fail_msg("%s", rows[i].name);
    }
}

static void every_row_is_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < presets.count; i++) {
        const struct preset *p = &presets.rows[i];
        struct url u;
        const char *why;
        assert_non_null(p->name);
        assert_non_null(p->title);
        assert_non_null(p->otel_name);
        assert_non_null(p->wires[0]);
        assert_null(p->wires[PRESET_WIRES_MAX - 1]);
        for (unsigned w = 0; p->wires[w]; w++) {
            struct span prefix, name = preset_wire_name(p->wires[w]);
            bool known = false;
            for (unsigned k = 0; k < preset_wire_names_count; k++)
                known = known || span_is(name, preset_wire_names[k]);
            assert_true(known);
            assert_true(preset_wire_find(p->wires, preset_wire_names[0], &prefix) || prefix.n == 0);
        }
        /* Found without a config: by its key, by its address, or by credentials. */
        assert_true(p->key_env || p->url_env || p->auth == AUTH_GOOGLE);
        assert_true(p->base_url || p->url_env);
        if (p->auth != AUTH_OPTIONAL_BEARER && p->auth != AUTH_GOOGLE)
            assert_non_null(p->key_env);
        if (p->base_url) {
            char there[200];
            const char *url = preset_place_url(p->base_url, "us-east-1", there, sizeof there);
            assert_non_null(url);
            assert_int_equal(url_parse(span_str(url), &u, &why), PD_OK);
            assert_true(u.tls == !p->local);
            /* The paths of OpenAI's wires go on from /v1, those of the others have a version of their own. */
            assert_true(span_ends(span_str(p->base_url), "/v1") == span_is(span_str(p->wires[0]), "openai-chat"));
        }
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(p->name, presets.rows[k].name);
    }
}

static void a_name_is_found_in_any_case_and_no_other_is(void **state)
{
    (void)state;
    assert_string_equal(preset_find(&presets, "OpenAI")->name, "openai");
    assert_null(preset_find(&presets, "open"));
    assert_null(preset_find(&presets, ""));
    assert_null(preset_find(&presets, "openai-compatible2"));
}

static const struct {
    const char *preset, *given, *url;
} urls[] = {
    {"azure-openai", "https://res.openai.azure.com", "https://res.openai.azure.com/openai/v1"},
    {"azure-openai", "https://res.openai.azure.com/", "https://res.openai.azure.com/openai/v1"},
    {"azure-openai", "https://res.openai.azure.com/openai/v1/", "https://res.openai.azure.com/openai/v1"},
    {"ollama", "127.0.0.1:11434", "http://127.0.0.1:11434"},
    {"ollama", "0.0.0.0", "http://0.0.0.0:11434"},
    {"ollama", "box.lan:80", "http://box.lan:80"},
    {"ollama", "https://ollama.com", "https://ollama.com"},
    {"ollama", "http://box/v1", "http://box/v1"},
    {"ollama", "[::1]", "http://[::1]:11434"},
    {"ollama", "[::1]:5", "http://[::1]:5"},
    {"vllm", "http://gpu:8000", "http://gpu:8000/v1"},
    {"vllm", "http://gpu:8000/v1//", "http://gpu:8000/v1"},
    {"vllm", "http://proxy/models/a/v1", "http://proxy/models/a/v1"},
    {"vllm", "gpu", "http://gpu:8000/v1"},
    {"openai-compatible", "https://x.example/api", "https://x.example/api"},
    {"openai-compatible", "https://x.example/", "https://x.example"},
    {"openai-compatible", " https://x.example/v1 \n", "https://x.example/v1"},
    {"openai-compatible", "host:9/v1", "http://host:9/v1"},
    {"ollama", "", NULL},
    {"ollama", "  / ", NULL},
};

static void what_a_variable_holds_becomes_a_base_url(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        char out[80];
        const char *got = preset_base_url(preset_find(&presets, urls[i].preset), urls[i].given, out, sizeof out);
        if (!same(got, urls[i].url))
            fail_msg("%s \"%s\": %s", urls[i].preset, urls[i].given, got ? got : "nothing");
    }
}

static void a_url_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    const struct preset *p = preset_find(&presets, "ollama");
    const char whole[] = "http://127.0.0.1:11434";
    char out[sizeof whole];
    assert_non_null(preset_base_url(p, "127.0.0.1", out, sizeof whole));
    for (size_t room = 1; room < sizeof whole; room++)
        assert_null(preset_base_url(p, "127.0.0.1", out, room));
}

static const struct {
    const char *url, *place, *there;
} places[] = {
    {"https://bedrock-runtime.{region}.amazonaws.com", "us-east-1",
     "https://bedrock-runtime.us-east-1.amazonaws.com"},
    {"https://bedrock-runtime.{region}.amazonaws.com", "cn-north-1",
     "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"},
    {"https://{location}-aiplatform.googleapis.com", "us-east5", "https://us-east5-aiplatform.googleapis.com"},
    {"https://{location}-aiplatform.googleapis.com", "global", "https://aiplatform.googleapis.com"},
    {"https://{location}-aiplatform.googleapis.com", "eu", "https://aiplatform.eu.rep.googleapis.com"},
    {"http://127.0.0.1:9000/{region}/x", "global", "http://127.0.0.1:9000/global/x"},
    {"http://127.0.0.1:9000/x", "us-east-1", "http://127.0.0.1:9000/x"},
};

static void only_two_are_known_to_throttle_by_latency(void **state)
{
    (void)state;
    for (size_t i = 0; i < presets.count; i++) {
        const char *name = presets.rows[i].name;
        assert_int_equal(presets.rows[i].throttles_by_latency,
                         strcmp(name, "deepseek") == 0 || strcmp(name, "siliconflow") == 0);
        assert_int_equal(presets.rows[i].reasoning_back, strcmp(name, "deepseek") == 0);
    }
}

static void presets_know_how_their_provider_goes_on(void **state)
{
    (void)state;
    static const struct {
        const char *name, *continues;
    } known[] = {
        {"anthropic", "trailing"}, {"vertex", "trailing"}, {"bedrock", "trailing"},  {"deepseek", "prefix"},
        {"mistral", "prefix"},     {"vllm", "final"},      {"llamacpp", "trailing"}, {"ollama", "trailing"},
    };
    unsigned found = 0;
    for (size_t i = 0; i < presets.count; i++) {
        const char *want = NULL, *got = presets.rows[i].continues;
        for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++)
            if (strcmp(known[k].name, presets.rows[i].name) == 0)
                want = known[k].continues;
        found += want != NULL;
        assert_true(want ? got && strcmp(got, want) == 0 : got == NULL);
        assert_true(!presets.rows[i].beta_path || presets.rows[i].url_path);
    }
    assert_int_equal(found, sizeof(known) / sizeof(known[0]));
    assert_string_equal(preset_find(&presets, "deepseek")->beta_path, "/beta");
}

/* The words of the config are those of the dialects, and "off" beside them. */
static void the_words_for_going_on_are_known_to_both(void **state)
{
    (void)state;
    assert_int_equal(preset_continues_names_count, CONTINUE_WAY_COUNT + 1);
    for (unsigned i = 0; i < preset_continues_names_count; i++) {
        enum continue_way w;
        assert_int_equal(continue_way_find(span_str(preset_continues_names[i]), &w),
                         strcmp(preset_continues_names[i], "off") != 0);
    }
}

static void a_region_has_its_own_host(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char out[100];
        size_t whole = strlen(places[i].there) + 1;
        const char *got = preset_place_url(places[i].url, places[i].place, out, sizeof out);
        if (!same(got, places[i].there))
            fail_msg("%s in %s: %s", places[i].url, places[i].place, got ? got : "nothing");
        for (size_t room = 1; room < whole; room++)
            assert_null(preset_place_url(places[i].url, places[i].place, out, room));
    }
}

static void a_wire_is_found_with_its_prefix(void **state)
{
    (void)state;
    const char *const wires[] = {"ollama", "openai-chat@/v1", NULL};
    struct span prefix;
    assert_true(preset_wire_find(wires, "ollama", &prefix));
    assert_int_equal(prefix.n, 0);
    assert_true(preset_wire_find(wires, "openai-chat", &prefix));
    assert_true(span_is(prefix, "/v1"));
    assert_false(preset_wire_find(wires, "openai", &prefix));
    assert_int_equal(prefix.n, 0);
    assert_true(span_is(preset_wire_name(wires[1]), "openai-chat"));
}

/* The row of a preset in docs/providers.md. */
static void the_page_shows_every_preset_as_it_is(void **state)
{
    (void)state;
    static char page[64 * 1024];
    FILE *f = fopen("docs/providers.md", "rb");
    assert_non_null(f);
    size_t n = fread(page, 1, sizeof page - 1, f);
    assert_true(n < sizeof page - 1);
    page[n] = '\0';
    fclose(f);
    for (size_t i = 0; i < presets.count; i++) {
        const struct preset *p = &presets.rows[i];
        char row[600], key[160] = "Google credentials", url[120] = "must be given", variable[80] = "";
        if (p->base_url)
            snprintf(url, sizeof url, "`%s`", p->base_url);
        if (p->url_env)
            snprintf(variable, sizeof variable, "`%s`", p->url_env);
        if (p->key_env)
            snprintf(key, sizeof key, "`%s`%s%s%s%s", p->key_env, p->key_env_too ? ", `" : "",
                     p->key_env_too ? p->key_env_too : "", p->key_env_too ? "`" : "",
                     p->auth == AUTH_SIGV4                         ? ", or AWS credentials"
                     : p->local || p->auth == AUTH_OPTIONAL_BEARER ? ", optional"
                                                                   : "");
        snprintf(row, sizeof row, "| `%s` | %s | %s | %s | %s | %s |\n", p->name, p->title, key, url, variable,
                 joined(p->wires));
        if (!strstr(page, row))
            fail_msg("docs/providers.md lacks: %s", row);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_provider_is_where_its_sdk_goes),
        cmocka_unit_test(every_row_is_whole),
        cmocka_unit_test(a_name_is_found_in_any_case_and_no_other_is),
        cmocka_unit_test(what_a_variable_holds_becomes_a_base_url),
        cmocka_unit_test(a_url_that_does_not_fit_is_refused),
        cmocka_unit_test(only_two_are_known_to_throttle_by_latency),
        cmocka_unit_test(presets_know_how_their_provider_goes_on),
        cmocka_unit_test(the_words_for_going_on_are_known_to_both),
        cmocka_unit_test(a_region_has_its_own_host),
        cmocka_unit_test(a_wire_is_found_with_its_prefix),
        cmocka_unit_test(the_page_shows_every_preset_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
