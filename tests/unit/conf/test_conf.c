/* What a config that is fine means. */
#include "conf_helper.h"

#include "torture.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const char whole[] =
    "listen: [\"127.0.0.1:8080\", \"[::1]:8081\", \"localhost:0\"]\n"
    "state: /var/lib/perdure\n"
    "workers: 2\n"
    "body_limit: 32MB\n"
    "log: {level: debug, format: json}\n"
    "routes:\n" /* before providers: the order of sections is the writer's */
    "  coder:\n"
    "    strategy: priority\n"
    "    targets:\n"
    "      - {model: openai/gpt-5, weight: 70}\n"
    "      - {model: local/meta/llama-3, weight: 0}\n"
    "      - claude/sonnet\n"
    "    resilience: {ttft: 4s}\n"
    "  plain: {targets: [openai/gpt-5], attempts: 5}\n"
    "resilience: {attempts: 2, ttft: 3s, stall: off}\n"
    "providers:\n"
    "  openai: {key: \"${OPENAI_API_KEY}\", weight: 3}\n"
    "  claude: {preset: deepseek, key: \"${CLAUDE}\", query: \"?c=d\", proxy: \"http://127.0.0.1:3128\"}\n"
    "  local:\n"
    "    preset: openai-compatible\n"
    "    base_url: http://127.0.0.1:8000/v1/\n"
    "    models: [meta/llama-3, qwen3]\n"
    "    headers: {x-team: \"${TEAM:-none}\", x-cost: 1}\n"
    "    stream: false\n"
    "    proxy: off\n"
    "    ttft: 10s\n"
    "    resilience: {stall: 1m}\n"
    "  azure: {preset: azure-openai}\n"
    "keys:\n"
    "  - {name: alice, key: \"${ALICE}\", routes: [coder, plain]}\n"
    "  - {name: bob, key: \"sha256:9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08\", admin: "
    "true}\n"; /* "test" */

static const char *whole_env[] = {"OPENAI_API_KEY=sk-secret-1",
                                  "CLAUDE= sk-secret-2\n",
                                  "ALICE=alice-has-a-long-secret",
                                  "AZURE_OPENAI_API_KEY=sk-secret-3",
                                  "AZURE_OPENAI_ENDPOINT=https://me.openai.azure.com/",
                                  NULL};

static void a_whole_file_means_what_it_says(void **state)
{
    (void)state;
    struct conf *c = helper_conf(whole, whole_env);
    assert_int_equal(c->listen_count, 3);
    assert_string_equal(c->listen[0], "127.0.0.1:8080");
    assert_string_equal(c->listen[1], "[::1]:8081");
    assert_string_equal(c->listen[2], "127.0.0.1:0");
    assert_string_equal(c->state, "/var/lib/perdure");
    assert_string_equal(c->path, "t.yaml");
    assert_int_equal(c->log_level, LOG_DEBUG);
    assert_true(c->log_json);
    assert_int_equal(c->settings.workers, 2);
    assert_int_equal(c->settings.body_limit, 32 << 20);
    assert_int_equal(c->settings.attempts, 2);
    assert_int_equal(c->settings.stall, 0);

    assert_int_equal(c->providers_count, 4);
    const struct conf_provider *p = c->providers;
    assert_string_equal(p[0].name, "openai");
    assert_string_equal(p[0].base_url, "https://api.openai.com/v1");
    assert_string_equal(p[0].key, "sk-secret-1");
    assert_string_equal(p[0].key_source, "OPENAI_API_KEY");
    assert_int_equal(p[0].weight, 3);
    assert_int_equal(p[0].stream, -1);
    assert_int_equal(p[0].line, 17);
    assert_null(p[0].proxy);
    assert_null(p[0].query);
    assert_string_equal(p[1].preset->name, "deepseek");
    assert_string_equal(p[1].key, "sk-secret-2"); /* blanks at its ends are no part of a key */
    assert_string_equal(p[1].key_source, "CLAUDE");
    assert_string_equal(p[1].query, "c=d");
    assert_string_equal(p[1].proxy, "http://127.0.0.1:3128");
    assert_int_equal(p[1].weight, 1);
    assert_string_equal(p[2].base_url, "http://127.0.0.1:8000/v1");
    assert_null(p[2].key);
    assert_int_equal(p[2].models_count, 2);
    assert_string_equal(p[2].models[1], "qwen3");
    assert_int_equal(p[2].headers_count, 2);
    assert_string_equal(p[2].headers[0].name, "x-team");
    assert_string_equal(p[2].headers[0].value, "none");
    assert_string_equal(p[2].headers[1].value, "1");
    assert_int_equal(p[2].stream, 0);
    assert_string_equal(p[2].proxy, "");
    assert_string_equal(p[3].base_url, "https://me.openai.azure.com/openai/v1");
    assert_string_equal(p[3].key_source, "AZURE_OPENAI_API_KEY");

    assert_int_equal(c->routes_count, 2);
    const struct conf_route *r = &c->routes[0];
    assert_string_equal(r->name, "coder");
    assert_int_equal(r->strategy, STRATEGY_PRIORITY);
    assert_int_equal(r->targets_count, 3);
    assert_int_equal(r->targets[0].provider, 0);
    assert_int_equal(r->targets[0].weight, 70);
    assert_int_equal(r->targets[1].provider, 2);
    assert_string_equal(r->targets[1].model, "meta/llama-3");
    assert_int_equal(r->targets[1].weight, 0);
    assert_int_equal(r->targets[2].weight, 1);
    assert_int_equal(c->routes[1].strategy, STRATEGY_WEIGHTED);
    assert_int_equal(c->routes[1].settings.attempts, 5);

    assert_int_equal(c->keys_count, 2);
    assert_string_equal(c->keys[0].name, "alice");
    assert_int_equal(c->keys[0].routes_count, 2);
    assert_false(c->keys[0].admin);
    assert_true(c->keys[1].admin);
    conf_free(c);
}

static void the_nearest_setting_wins(void **state)
{
    (void)state;
    struct conf *c = helper_conf(whole, whole_env);
    struct settings s;
    settings_overlay(&c->routes[0], &c->providers[2], &s); /* route, provider and general each say something */
    assert_int_equal(s.ttft, 4000);
    assert_int_equal(s.stall, 60000);
    assert_int_equal(s.attempts, 2);
    settings_overlay(&c->routes[1], &c->providers[2], &s); /* the route says nothing of ttft: the provider holds */
    assert_int_equal(s.ttft, 10000);
    assert_int_equal(s.attempts, 5);
    settings_overlay(&c->routes[1], &c->providers[0], &s);
    assert_int_equal(s.ttft, 3000);
    assert_int_equal(s.stall, 0);
    conf_free(c);
}

static void a_client_key_is_found_by_its_hash_alone(void **state)
{
    (void)state;
    struct conf *c = helper_conf(whole, whole_env);
    assert_string_equal(conf_find_key(c, SPAN_LIT("alice-has-a-long-secret"))->name, "alice");
    assert_string_equal(conf_find_key(c, SPAN_LIT("test"))->name, "bob");
    assert_null(conf_find_key(c, SPAN_LIT("alice-has-a-long-secret ")));
    assert_null(conf_find_key(c, SPAN_LIT("alice-has-a-long-secre")));
    assert_null(conf_find_key(c, SPAN_LIT("")));
    assert_null(conf_find_key(c, SPAN_NONE));
    conf_free(c);
}

static void no_key_is_ever_described(void **state)
{
    (void)state;
    struct conf *c = helper_conf(whole, whole_env);
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(conf_describe(c, &out), PD_OK);
    struct span text = buf_span(&out);
    assert_false(span_has(text, "secret"));
    static const char *const lines[] = {
        "listen     127.0.0.1:8080, [::1]:8081, 127.0.0.1:0\n",
        "keys       alice (only coder, plain), bob (admin)\n",
        "  openai  openai             https://api.openai.com/v1              key from OPENAI_API_KEY, weight 3\n",
        "  local   openai-compatible  http://127.0.0.1:8000/v1               no key, never streamed, no proxy, 2 "
        "headers\n          models meta/llama-3, qwen3\n",
        "  coder: priority\n         70  openai/gpt-5\n          0  local/meta/llama-3  (only when the others are "
        "down)\n",
        "  attempts                      2       (otherwise 3)\n",
        "  local: ttft                   10s     (otherwise 3s)\n",
        "  route coder: ttft             4s      (otherwise 3s)\n",
    };
    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (!span_has(text, lines[i]))
            fail_msg("no \"%s\" in\n%.*s", lines[i], SPAN_FMT(text));
    buf_done(&out);
    conf_free(c);
}

static const struct {
    const char *in, *out;
} substitutions[] = {
    {"${A}", "one"},      {"a${A}b${B}c", "aonebtwoc"},
    {"${A:-x}", "one"},   {"${NOPE:-x y}", "x y"},
    {"${EMPTY:-x}", "x"}, {"x${EMPTY}", "x"},
    {"x${NOPE:-}", "x"},  {"$A", "$A"},
    {"a$", "a$"},         {"$$", "$$"},
    {"$${A}", "${A}"},    {"$$${A}", "$${A}"},
    {"'${A}'", "one"},    {"\"${A}\"", "one"},
};

static void variables_are_filled_in(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(substitutions) / sizeof(substitutions[0]); i++) {
        char text[200];
        snprintf(text, sizeof(text), "providers: {vllm: }\nstate: %s\n", substitutions[i].in);
        struct conf *c = helper_conf(text, ENV("A=one", "B=two", "EMPTY="));
        assert_string_equal(c->state, substitutions[i].out);
        conf_free(c);
    }
}

/* A value that came from a variable is a value: what looks like YAML or a variable in it is neither. */
static void what_a_variable_holds_is_not_read_again(void **state)
{
    (void)state;
    struct conf *c = helper_conf("providers: {vllm: }\nstate: ${A}\n", ENV("A=x: {y} #${B}", "B=no"));
    assert_string_equal(c->state, "x: {y} #${B}");
    conf_free(c);
}

static void aliases_repeat_a_value(void **state)
{
    (void)state;
    struct conf *c = helper_conf("providers:\n  vllm: &own {stall: 5s, headers: &h {a: b}}\n  llamacpp: "
                                 "{base_url: \"http://127.0.0.1:9/v1\", headers: *h}\n"
                                 "routes:\n  r: {targets: &t [vllm/a]}\n  s: {targets: *t}\n",
                                 NULL);
    assert_string_equal(c->providers[1].headers[0].value, "b");
    assert_string_equal(c->routes[1].targets[0].model, "a");
    conf_free(c);
}

static void what_is_left_out_has_a_default(void **state)
{
    (void)state;
    struct conf *c = helper_conf("providers: {vllm: }\n", NULL);
    struct settings defaults;
    settings_default(&defaults);
    assert_memory_equal(&c->settings, &defaults, sizeof(defaults));
    assert_int_equal(c->listen_count, 1);
    assert_string_equal(c->listen[0], "127.0.0.1:8080");
    assert_string_equal(c->state, "./perdure-state");
    assert_int_equal(c->log_level, LOG_INFO);
    assert_false(c->log_json);
    assert_string_equal(c->providers[0].base_url, "http://127.0.0.1:8000/v1");
    assert_int_equal(c->keys_count, 0);
    conf_free(c);
}

static void regions_become_providers_of_one_group(void **state)
{
    (void)state;
    struct conf *c =
        helper_conf("providers:\n"
                    "  bedrock: {regions: [us-east-1, us-west-2], profile: work, weight: 2, models: [a, b]}\n"
                    "  eu: {preset: bedrock, region: eu-west-1, access_key_id: AK, secret_access_key: \"${K}\"}\n"
                    "  vertex: {locations: [us-east5, global], project: p}\n"
                    "  own: {preset: vllm, regions: [a, b], base_url: \"http://127.0.0.1:1/{region}/v1/\"}\n"
                    "routes:\n"
                    "  r: {targets: [{model: bedrock/a, weight: 3}, \"bedrock@us-east-1/b\", eu/a]}\n",
                    ENV("K=secret", "AWS_REGION=us-east-2", "GOOGLE_CLOUD_PROJECT=other"));
    static const struct {
        const char *name, *group, *region, *base_url;
    } want[] = {
        {"bedrock@us-east-1", "bedrock", "us-east-1", "https://bedrock-runtime.us-east-1.amazonaws.com"},
        {"bedrock@us-west-2", "bedrock", "us-west-2", "https://bedrock-runtime.us-west-2.amazonaws.com"},
        {"eu", "eu", "eu-west-1", "https://bedrock-runtime.eu-west-1.amazonaws.com"},
        {"vertex@us-east5", "vertex", "us-east5", "https://us-east5-aiplatform.googleapis.com"},
        {"vertex@global", "vertex", "global", "https://aiplatform.googleapis.com"},
        {"own@a", "own", "a", "http://127.0.0.1:1/a/v1"},
        {"own@b", "own", "b", "http://127.0.0.1:1/b/v1"},
    };
    assert_int_equal(c->providers_count, sizeof want / sizeof want[0]);
    for (unsigned i = 0; i < c->providers_count; i++) {
        const struct conf_provider *p = &c->providers[i];
        assert_string_equal(p->name, want[i].name);
        assert_string_equal(p->group, want[i].group);
        assert_string_equal(p->region, want[i].region);
        assert_string_equal(p->base_url, want[i].base_url);
        assert_ptr_equal(p->wires, p->preset->wires);
    }
    assert_string_equal(c->providers[1].cloud.profile, "work");
    assert_int_equal(c->providers[1].weight, 2);
    assert_int_equal(c->providers[1].models_count, 2);
    assert_string_equal(c->providers[2].cloud.secret_access_key, "secret");
    assert_string_equal(c->providers[4].cloud.project, "p");

    const struct conf_target *t = c->routes[0].targets;
    assert_int_equal(c->routes[0].targets_count, 3);
    assert_int_equal(t[0].provider, 0);
    assert_int_equal(t[0].regions, 2);
    assert_int_equal(t[1].provider, 0);
    assert_int_equal(t[1].regions, 1);
    assert_int_equal(t[2].provider, 2);
    assert_string_equal(conf_target_provider(c, &t[0]), "bedrock");
    assert_string_equal(conf_target_provider(c, &t[1]), "bedrock@us-east-1");
    conf_free(c);
}

static void a_cloud_is_found_in_the_environment(void **state)
{
    (void)state;
    const struct {
        const char **env;
        const char *names, *url; /* of the first provider */
    } rows[] = {
        {ENV("AWS_ACCESS_KEY_ID=a", "AWS_REGION=us-east-1"), "bedrock",
         "https://bedrock-runtime.us-east-1.amazonaws.com"},
        {ENV("AWS_PROFILE=a", "AWS_DEFAULT_REGION=us-east-1"), "bedrock",
         "https://bedrock-runtime.us-east-1.amazonaws.com"},
        {ENV("AWS_BEARER_TOKEN_BEDROCK=k", "AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=x"), "bedrock",
         "https://bedrock-runtime.eu-west-1.amazonaws.com"},
        {ENV("AWS_CONTAINER_CREDENTIALS_FULL_URI=u", "AWS_REGION=r"), "bedrock",
         "https://bedrock-runtime.r.amazonaws.com"},
        {ENV("AWS_ACCESS_KEY_ID=a", "GEMINI_API_KEY=g"), "gemini", "https://gemini.example"},
        {ENV("AWS_REGION=us-east-1", "GOOGLE_API_KEY=g"), "gemini", "https://gemini.example"},
        {ENV("GOOGLE_APPLICATION_CREDENTIALS=f", "GOOGLE_CLOUD_PROJECT=p"), "vertex",
         "https://aiplatform.googleapis.com"},
        {ENV("GOOGLE_APPLICATION_CREDENTIALS=f", "GOOGLE_CLOUD_PROJECT=p", "GOOGLE_CLOUD_LOCATION=us-east5"),
         "vertex", "https://us-east5-aiplatform.googleapis.com"},
        {ENV("GOOGLE_APPLICATION_CREDENTIALS=f", "OPENAI_API_KEY=o"), "openai", "https://api.openai.com/v1"},
        {ENV("GOOGLE_CLOUD_PROJECT=p", "HOME=/nonexistent", "OPENAI_API_KEY=o"), "openai",
         "https://api.openai.com/v1"},
        {ENV("OLLAMA_HOST=http://box/v1"), "ollama", "http://box"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct conf_report report;
        struct conf *c = NULL;
        pd_err e = conf_load(NULL, &helper_presets, helper_env, (void *)rows[i].env, &report, &c);
        if (e || c->providers_count != 1 || strcmp(c->providers[0].name, rows[i].names) != 0 ||
            strcmp(c->providers[0].base_url, rows[i].url) != 0)
            fail_msg("row %zu: %s %s %s", i, e ? helper_remarks(&report) : c->providers[0].name,
                     e ? "" : c->providers[0].base_url, e ? pd_err_name(e) : "");
        conf_free(c);
    }
}

static void throttling_by_latency_is_the_presets_or_the_files(void **state)
{
    (void)state;
    struct conf *c = helper_conf("providers:\n"
                                 "  deepseek: {}\n"
                                 "  a: {preset: deepseek, throttles_by_latency: false}\n"
                                 "  b: {preset: deepseek, throttles_by_latency: auto}\n"
                                 "  vllm: {}\n"
                                 "  c: {preset: vllm, throttles_by_latency: true}\n",
                                 ENV("DEEPSEEK_API_KEY=k"));
    static const bool want[] = {true, false, true, false, true};
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(c->providers[i].throttles_by_latency, want[i]);
    conf_free(c);
}

static void prices_are_exact_and_cached_tokens_cost_what_input_does(void **state)
{
    (void)state;
    struct conf *c = helper_conf("providers:\n"
                                 "  vllm:\n"
                                 "    prices:\n"
                                 "      a: {input: 3.00, output: 15, cache_read: 0.30, cache_write: 3.75}\n"
                                 "      b/c: {input: 0.000001, output: 0}\n",
                                 NULL);
    const struct conf_price *a = conf_find_price(&c->providers[0], "a"),
                            *b = conf_find_price(&c->providers[0], "b/c");
    assert_true(a && b);
    assert_true(a->input == 3000000 && a->output == 15000000 && a->cache_read == 300000 &&
                a->cache_write == 3750000);
    assert_true(b->input == 1 && b->output == 0 && b->cache_read == 1 && b->cache_write == 1);
    assert_null(conf_find_price(&c->providers[0], "b"));
    conf_free(c);
}

static void how_an_answer_is_gone_on_with_is_the_presets_or_the_files(void **state)
{
    (void)state;
    struct conf *c = helper_conf("providers:\n"
                                 "  vllm: {}\n"
                                 "  a: {preset: vllm, continue: OFF}\n"
                                 "  b: {preset: vllm, continue: auto}\n"
                                 "  c: {preset: vllm, continue: prefix}\n",
                                 NULL);
    for (unsigned i = 0; i < 4; i++) {
        const char *preset = c->providers[i].preset->continues ? c->providers[i].preset->continues : "ask";
        const char *const want[] = {preset, "off", preset, "prefix"};
        assert_string_equal(c->providers[i].continues, want[i]);
    }
    conf_free(c);
}

static void wires_can_be_chosen(void **state)
{
    (void)state;
    struct conf *c = helper_conf("providers:\n"
                                 "  vllm: {wires: [anthropic-messages, openai-chat@/x]}\n"
                                 "  ollama: {base_url: \"http://box/v1/\"}\n"
                                 "  proxy: {preset: ollama, base_url: \"http://box/v1\", wires: openai-chat}\n",
                                 NULL);
    assert_string_equal(c->providers[0].wires[0], "anthropic-messages");
    assert_string_equal(c->providers[0].wires[1], "openai-chat@/x");
    assert_null(c->providers[0].wires[2]);
    assert_string_equal(c->providers[1].base_url, "http://box"); /* the prefix of its wires is not doubled */
    assert_string_equal(c->providers[2].base_url, "http://box/v1");
    assert_string_equal(c->providers[2].wires[0], "openai-chat");
    conf_free(c);
}

static void with_a_client_key_it_may_listen_anywhere(void **state)
{
    (void)state;
    struct conf *c = helper_conf("providers: {vllm: }\nlisten: \":8080\"\nkeys: [{name: a, key: \"${LONG}\"}]\n",
                                 ENV("LONG=a-long-client-key-1"));
    assert_string_equal(c->listen[0], "0.0.0.0:8080");
    conf_free(c);
}

static void only_this_machine_is_loopback(void **state)
{
    (void)state;
    static const char *const yes[] = {"127.0.0.1:80", "127.9.9.9:1", "[::1]:80", "localhost:80",
                                      "[::ffff:127.0.0.1]:80"};
    static const char *const no[] = {"0.0.0.0:80",
                                     "[::]:80",
                                     "10.0.0.1:80",
                                     "127.0.0.1",
                                     "128.0.0.1:1",
                                     "localhost.example.org:80",
                                     "",
                                     ":80",
                                     "[::ffff:10.0.0.1]:80",
                                     "127.0.0.1.example.org:80"};
    for (unsigned i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
        assert_true(conf_is_loopback(yes[i]));
    for (unsigned i = 0; i < sizeof(no) / sizeof(no[0]); i++)
        assert_false(conf_is_loopback(no[i]));
}

/* ---- the environment alone -------------------------------------------------------- */

static struct conf_report report;

static struct conf *from_env(const char **env)
{
    struct conf *c = NULL;
    pd_err e = conf_load(NULL, &helper_presets, helper_env, (void *)env, &report, &c);
    if (e && e != PD_INVALID)
        fail_msg("%s", pd_err_name(e));
    assert_true((c == NULL) == (e == PD_INVALID));
    return c;
}

static void every_key_in_the_environment_is_a_provider(void **state)
{
    (void)state;
    struct conf *c =
        from_env(ENV("DEEPSEEK_API_KEY=a", "OPENAI_API_KEY=b", "VLLM_BASE_URL=127.0.0.1:9000", "OTHER=x"));
    assert_non_null(c);
    assert_int_equal(report.count, 0);
    assert_int_equal(c->providers_count, 3);
    assert_string_equal(c->providers[0].name, "openai");
    assert_string_equal(c->providers[1].name, "deepseek");
    assert_string_equal(c->providers[1].query, "a=b");
    assert_string_equal(c->providers[2].name, "vllm");
    assert_string_equal(c->providers[2].base_url, "http://127.0.0.1:9000/v1");
    assert_null(c->path);
    assert_int_equal(c->routes_count, 0);
    conf_free(c);
}

static void provider_order_is_kept_and_the_others_follow(void **state)
{
    (void)state;
    struct conf *c = from_env(ENV("DEEPSEEK_API_KEY=a", "OPENAI_API_KEY=b", "VLLM_BASE_URL=http://127.0.0.1:9/v1",
                                  "PROVIDER_ORDER= vllm ,DeepSeek,"));
    assert_non_null(c);
    assert_string_equal(c->providers[0].name, "vllm");
    assert_string_equal(c->providers[1].name, "deepseek");
    assert_string_equal(c->providers[2].name, "openai");
    conf_free(c);
}

static const struct {
    const char *name, **env, *says;
    bool fine;
} env_rows[] = {
    {"nothing set", ENV("HOME=/"),
     "set one of these variables, or name providers in a config file: OPENAI_API_KEY, DEEPSEEK_API_KEY, "
     "AZURE_OPENAI_API_KEY, VLLM_BASE_URL",
     false},
    {"an empty key", ENV("OPENAI_API_KEY="), "no provider", false},
    {"an unknown name in the order", ENV("OPENAI_API_KEY=a", "PROVIDER_ORDER=opnai"),
     "PROVIDER_ORDER names \"opnai\": did you mean \"openai\"?", false},
    {"named without its key", ENV("OPENAI_API_KEY=a", "PROVIDER_ORDER=deepseek,openai"),
     "PROVIDER_ORDER names deepseek, but DEEPSEEK_API_KEY is not set", true},
    {"named twice", ENV("OPENAI_API_KEY=a", "PROVIDER_ORDER=openai,openai"), "names openai twice", true},
    {"half of what is needed", ENV("OPENAI_API_KEY=a", "AZURE_OPENAI_API_KEY=b"),
     "AZURE_OPENAI_ENDPOINT is not: azure-openai is not used", true},
    {"a bad URL", ENV("VLLM_BASE_URL=ftp://x"), "the VLLM_BASE_URL of vllm is no URL", false},
    {"a key with a line break", ENV("OPENAI_API_KEY=a\nb"), "has a blank or another byte", false},
    {"a timeout that is none", ENV("OPENAI_API_KEY=a", "CLIENT_TIMEOUT=soon"), "CLIENT_TIMEOUT is \"soon\"",
     false},
    {"a timeout too long", ENV("OPENAI_API_KEY=a", "CLIENT_TIMEOUT=7200"), "write at most 1h", false},
    {"a database of another kind", ENV("OPENAI_API_KEY=a", "DATABASE_URL=mysql://x"), "it is not used", true},
    {"a bucket's name that S3 refuses", ENV("OPENAI_API_KEY=a", "CHECKPOINT_BUCKET=My_Bucket"),
     "CHECKPOINT_BUCKET: \"My_Bucket\" is no bucket's name: write lowercase letters", false},
    {"a bucket that is none", ENV("OPENAI_API_KEY=a", "CHECKPOINT_BUCKET=http://x"), "the name of an S3 bucket",
     false},
    {"an interval that is none", ENV("OPENAI_API_KEY=a", "CHECKPOINT_INTERVAL=often"),
     "write the seconds between checkpoints", false},
    {"an agent that is none", ENV("OPENAI_API_KEY=a", "AGENT_ID=a/b"), "AGENT_ID is \"a/b\"", false},
    {"a bad address", ENV("OPENAI_API_KEY=a", "PERDURE_LISTEN=localhost"),
     "PERDURE_LISTEN \"localhost\": write an address and a port", false},
    {"off loopback without keys", ENV("OPENAI_API_KEY=a", "PERDURE_LISTEN=0.0.0.0:80"), "PERDURE_KEYS", false},
    {"itself", ENV("LLAMACPP_BASE_URL=http://localhost:8080"), "where perdure itself listens", false},
    {"a short client key", ENV("OPENAI_API_KEY=a", "PERDURE_KEYS=abc"), "PERDURE_KEYS, number 1, is shorter",
     true},
};

static void the_environment_is_checked_too(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(env_rows) / sizeof(env_rows[0]); i++) {
        struct conf *c = from_env(env_rows[i].env);
        if ((c != NULL) != env_rows[i].fine || report.count != 1 ||
            !strstr(report.remarks[0].text, env_rows[i].says))
            fail_msg("%s\n%s", env_rows[i].name, helper_remarks(&report));
        assert_true(strncmp(report.remarks[0].text, "environment: ", 13) == 0);
        conf_free(c);
    }
}

static void the_environment_sets_timeout_addresses_and_keys(void **state)
{
    (void)state;
    struct conf *c = from_env(ENV("OPENAI_API_KEY=a", "CLIENT_TIMEOUT=45", "PERDURE_LISTEN=0.0.0.0:80, [::1]:81",
                                  "PERDURE_KEYS=a-long-client-key-1,, a-long-client-key-2"));
    assert_non_null(c);
    assert_int_equal(report.count, 0);
    assert_int_equal(c->settings.first_token_timeout, 45000);
    assert_int_equal(c->providers[0].settings.first_token_timeout, 45000);
    assert_int_equal(c->listen_count, 2);
    assert_string_equal(c->listen[1], "[::1]:81");
    assert_int_equal(c->keys_count, 2);
    assert_string_equal(conf_find_key(c, SPAN_LIT("a-long-client-key-2"))->name, "key-2");
    conf_free(c);
}

static void a_file_without_providers_takes_them_from_the_environment(void **state)
{
    (void)state;
    struct conf *c = helper_conf("resilience: {ttft: 9s}\nroutes: {r: {targets: [deepseek/x]}}\n",
                                 ENV("OPENAI_API_KEY=a", "DEEPSEEK_API_KEY=b"));
    assert_int_equal(c->providers_count, 2);
    assert_int_equal(c->providers[0].settings.ttft, 9000);
    assert_int_equal(c->routes[0].targets[0].provider, 1);
    conf_free(c);
}

/* ---- files ------------------------------------------------------------------------ */

static void files_are_loaded_and_bad_ones_named(void **state)
{
    (void)state;
    char folder[] = "/tmp/perdure-conf-XXXXXX", path[100];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/perdure.yaml", folder);
    struct conf *c = NULL;
    assert_int_equal(conf_load(path, &helper_presets, helper_env, NULL, &report, &c), PD_NOTFOUND);
    assert_int_equal(report.errors, 1);
    assert_non_null(strstr(report.remarks[0].text, "No such file"));
    assert_int_equal(conf_load(folder, &helper_presets, helper_env, NULL, &report, &c), PD_IO);
    assert_int_equal(report.errors, 1);

    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    static const char text[] = "providers: {vllm: }\n";
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(conf_load(path, &helper_presets, helper_env, NULL, &report, &c), PD_OK);
    assert_string_equal(c->path, path);
    c = conf_free(c);

    assert_int_equal(ftruncate(fd, CONF_FILE_MAX + 1), 0);
    close(fd);
    assert_int_equal(conf_load(path, &helper_presets, helper_env, NULL, &report, &c), PD_TOOBIG);
    assert_non_null(strstr(report.remarks[0].text, "larger than 4 MB"));
    assert_null(c);
    unlink(path);
    rmdir(folder);
}

static void a_text_over_the_limit_is_refused(void **state)
{
    (void)state;
    char *text = mem_alloc(CONF_FILE_MAX + 1);
    assert_non_null(text);
    memset(text, '#', CONF_FILE_MAX + 1);
    struct conf *c = NULL;
    assert_int_equal(
        conf_parse(span_of(text, CONF_FILE_MAX + 1), "t.yaml", &helper_presets, helper_env, NULL, &report, &c),
        PD_TOOBIG);
    assert_int_equal(report.errors, 1);
    mem_free(text);
}

/* ---- memory ----------------------------------------------------------------------- */

static pd_err parse_and_describe(void *ctx)
{
    static struct conf_report scratch;
    struct conf *c = NULL;
    struct buf out;
    pd_err e = ctx ? helper_parse(ctx, whole_env, &scratch, &c)
                   : conf_load(NULL, &helper_presets, helper_env, whole_env, &scratch, &c);
    buf_init(&out, 0);
    if (!e)
        e = conf_describe(c, &out);
    buf_done(&out);
    conf_free(c);
    return e == PD_INVALID ? PD_OK
                           : e; /* a mistake that is found in spite of the failure would be reported as success */
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    char text[sizeof(whole)];
    memcpy(text, whole, sizeof(whole));
    assert_true(torture(parse_and_describe, text) >= 20);
    assert_true(torture(parse_and_describe, NULL) >= 4);
    char wrong[] = "providers: {openai: {key: [a], stal: 3s}}\nlisten: x\nroutes: {r: }\n";
    assert_true(torture(parse_and_describe, wrong) >= 3);
}

/* Cut anywhere, a file is refused or taken; it never ends otherwise. */
static void a_file_cut_anywhere_is_refused_or_taken(void **state)
{
    (void)state;
    size_t blocks = mem_blocks();
    for (size_t n = 0; n < sizeof(whole); n++) {
        struct conf *c = NULL;
        pd_err e = conf_parse(span_of(whole, n), "t.yaml", &helper_presets, helper_env, whole_env, &report, &c);
        assert_true(e == PD_OK || (e == PD_INVALID && report.errors > 0));
        conf_free(c);
    }
    assert_int_equal(mem_blocks(), blocks);
}

static void what_must_last_is_beside_the_state_unless_it_is_said_where(void **state)
{
    (void)state;
    const struct {
        const char *name, *text, **env, *database, *snapshots;
    } rows[] = {
        {"nothing is said", "", ENV("OPENAI_API_KEY=a"), "./perdure-state/perdure.db",
         "./perdure-state/snapshots"},
        {"another folder", "state: /s/\n", ENV("OPENAI_API_KEY=a"), "/s/perdure.db", "/s/snapshots"},
        {"no state", "state: off\n", ENV("OPENAI_API_KEY=a"), "off", "off"},
        {"the file", "database: postgres://u@h/d\nsnapshots: s3://bkt/p\n",
         ENV("OPENAI_API_KEY=a", "DATABASE_URL=postgres://x/y", "CHECKPOINT_BUCKET=c"), "postgres://u@h/d",
         "s3://bkt/p"},
        {"variables, with a file", "state: off\n",
         ENV("OPENAI_API_KEY=a", "DATABASE_URL=postgresql://x/y", "CHECKPOINT_BUCKET=bkt/d"), "postgresql://x/y",
         "s3://bkt/d"},
        {"a variable meant for another program", "", ENV("OPENAI_API_KEY=a", "DATABASE_URL=mysql://x/y"),
         "./perdure-state/perdure.db", "./perdure-state/snapshots"},
        {"off", "database: off\nsnapshots: off\n", ENV("OPENAI_API_KEY=a", "DATABASE_URL=postgres://x/y"), "off",
         "off"},
        {"paths", "database: /d/x.db\nsnapshots: /d/s\n", ENV("OPENAI_API_KEY=a"), "/d/x.db", "/d/s"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[300];
        print_message("    %s\n", rows[i].name);
        snprintf(text, sizeof(text), "providers: {openai: {}}\n%s", rows[i].text);
        struct conf *c = helper_conf(text, rows[i].env);
        assert_string_equal(c->database, rows[i].database);
        assert_string_equal(c->snapshots, rows[i].snapshots);
        conf_free(c);
    }
}

static void agent_and_interval_come_from_their_variables(void **state)
{
    (void)state;
    struct conf *c = from_env(ENV("OPENAI_API_KEY=a", "AGENT_ID=coder:1", "CHECKPOINT_INTERVAL=60"));
    assert_non_null(c);
    assert_string_equal(c->agent, "coder:1");
    assert_int_equal(c->settings.checkpoint_interval, 60000);
    conf_free(c);
    c = helper_conf("providers: {openai: {}}\ncheckpoint_interval: 2m\n",
                    ENV("OPENAI_API_KEY=a", "CHECKPOINT_INTERVAL=60"));
    assert_string_equal(c->agent, "default-agent");
    assert_int_equal(c->settings.checkpoint_interval, 120000);
    conf_free(c);
}

static void no_password_is_shown(void **state)
{
    (void)state;
    static const struct row {
        const char *in, *out;
    } rows[] = {
        {"postgres://u:secret@h:5432/d", "postgres://u@h:5432/d"},
        {"postgres://u@h/d?password=secret", "postgres://u@h/d"},
        {"postgres://h/d", "postgres://h/d"},
        {"/a:b@c.db", "/a:b@c.db"},
    };
    char out[100];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_string_equal(conf_database_shown(rows[i].in, out, sizeof(out)), rows[i].out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_file_means_what_it_says),
        cmocka_unit_test(the_nearest_setting_wins),
        cmocka_unit_test(a_client_key_is_found_by_its_hash_alone),
        cmocka_unit_test(no_key_is_ever_described),
        cmocka_unit_test(variables_are_filled_in),
        cmocka_unit_test(what_a_variable_holds_is_not_read_again),
        cmocka_unit_test(aliases_repeat_a_value),
        cmocka_unit_test(what_is_left_out_has_a_default),
        cmocka_unit_test(regions_become_providers_of_one_group),
        cmocka_unit_test(a_cloud_is_found_in_the_environment),
        cmocka_unit_test(throttling_by_latency_is_the_presets_or_the_files),
        cmocka_unit_test(prices_are_exact_and_cached_tokens_cost_what_input_does),
        cmocka_unit_test(how_an_answer_is_gone_on_with_is_the_presets_or_the_files),
        cmocka_unit_test(wires_can_be_chosen),
        cmocka_unit_test(with_a_client_key_it_may_listen_anywhere),
        cmocka_unit_test(only_this_machine_is_loopback),
        cmocka_unit_test(every_key_in_the_environment_is_a_provider),
        cmocka_unit_test(provider_order_is_kept_and_the_others_follow),
        cmocka_unit_test(the_environment_is_checked_too),
        cmocka_unit_test(the_environment_sets_timeout_addresses_and_keys),
        cmocka_unit_test(a_file_without_providers_takes_them_from_the_environment),
        cmocka_unit_test(files_are_loaded_and_bad_ones_named),
        cmocka_unit_test(a_text_over_the_limit_is_refused),
        cmocka_unit_test(what_must_last_is_beside_the_state_unless_it_is_said_where),
        cmocka_unit_test(agent_and_interval_come_from_their_variables),
        cmocka_unit_test(no_password_is_shown),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(a_file_cut_anywhere_is_refused_or_taken),
    };
    return cmocka_run_group_tests_name("conf", tests, NULL, NULL);
}
