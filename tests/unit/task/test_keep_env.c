/* What an agent is told of the gateway, so that the gateway knows its calls. */
#include "test.h"
#include "torture.h"

#include "task/keep.h"

#include <stdio.h>
#include <string.h>

static const struct keep_rules local = {.url = "http://127.0.0.1:8080", .base = "", .name = "night"},
                               below = {.url = "https://llm.example:443", .base = "/gw", .name = "run:task"},
                               none = {.name = "night"};
#define OWN "http://127.0.0.1:8080/agent/night"
#define OWN_BELOW "https://llm.example:443/gw/agent/run:task"

static const struct row {
    const char *name;
    const struct keep_rules *rules;
    const char *set, *variable, *got; /* set: "NAME=VALUE", NULL: not; got NULL: it is not there */
} rows[] = {
    {"an address", &local, NULL, "OPENAI_BASE_URL", OWN "/v1"},
    {"one without /v1", &local, NULL, "ANTHROPIC_BASE_URL", OWN},
    {"one of Google", &local, NULL, "GOOGLE_GEMINI_BASE_URL", OWN},
    {"a key", &local, NULL, "OPENAI_API_KEY", "perdure-agent-night"},
    {"where the gateway is below a path", &below, NULL, "OPENAI_BASE_URL", OWN_BELOW "/v1"},
    {"its checkpoints go to the gateway itself", &below, NULL, "PERDURE_URL", "https://llm.example:443/gw"},
    {"another place stays", &local, "OPENAI_BASE_URL=https://api.openai.com/v1", "OPENAI_BASE_URL",
     "https://api.openai.com/v1"},
    {"another port too", &local, "OPENAI_BASE_URL=http://127.0.0.1:8081/v1", "OPENAI_BASE_URL",
     "http://127.0.0.1:8081/v1"},
    {"another machine", &local, "OPENAI_BASE_URL=http://gpu.lan:8080/v1", "OPENAI_BASE_URL",
     "http://gpu.lan:8080/v1"},
    {"and TLS", &local, "OPENAI_BASE_URL=https://127.0.0.1:8080/v1", "OPENAI_BASE_URL",
     "https://127.0.0.1:8080/v1"},
    {"the same gateway", &local, "OPENAI_BASE_URL=http://127.0.0.1:8080/v1", "OPENAI_BASE_URL", OWN "/v1"},
    {"by another of its names", &local, "OPENAI_BASE_URL=http://localhost:8080/v1/", "OPENAI_BASE_URL", OWN "/v1"},
    {"by its number", &local, "ANTHROPIC_BASE_URL=http://[::1]:8080", "ANTHROPIC_BASE_URL", OWN},
    {"as it is set, with a path or without", &local, "ANTHROPIC_BASE_URL=http://127.0.0.1:8080/v1",
     "ANTHROPIC_BASE_URL", OWN "/v1"},
    {"another agent's name in it", &local, "OPENAI_BASE_URL=" OWN "2/v1", "OPENAI_BASE_URL", OWN "/v1"},
    {"and nothing behind that", &local, "ANTHROPIC_BASE_URL=" OWN "2", "ANTHROPIC_BASE_URL", OWN},
    {"below a path, the default port", &below, "OPENAI_BASE_URL=https://llm.example/gw/v1", "OPENAI_BASE_URL",
     OWN_BELOW "/v1"},
    {"another path of the same host", &below, "OPENAI_BASE_URL=https://llm.example/v1", "OPENAI_BASE_URL",
     "https://llm.example/v1"},
    {"a path that begins alike", &below, "OPENAI_BASE_URL=https://llm.example/gway/v1", "OPENAI_BASE_URL",
     "https://llm.example/gway/v1"},
    {"a remote host is not this machine", &below, "OPENAI_BASE_URL=https://localhost/gw/v1", "OPENAI_BASE_URL",
     "https://localhost/gw/v1"},
    {"what carries more than a path", &local, "OPENAI_BASE_URL=http://127.0.0.1:8080/v1?key=k", "OPENAI_BASE_URL",
     "http://127.0.0.1:8080/v1?key=k"},
    {"what is no address", &local, "OPENAI_BASE_URL=here", "OPENAI_BASE_URL", "here"},
    {"empty", &local, "OPENAI_BASE_URL=", "OPENAI_BASE_URL", ""},
    {"a key that is one", &local, "OPENAI_API_KEY=sk-1", "OPENAI_API_KEY", "sk-1"},
    {"a key that is none", &local, "OPENAI_API_KEY=any", "OPENAI_API_KEY", "perdure-agent-night"},
    {"another agent's", &local, "OPENAI_API_KEY=perdure-agent-day", "OPENAI_API_KEY", "perdure-agent-night"},
    {"its own name", &local, "AGENT_ID=other", "AGENT_ID", "night"},
    {"a variable whose name begins alike", &local, "OPENAI_BASE_URLS=any", "OPENAI_BASE_URLS", "any"},
    {"what is not ours", &local, "HOME=/home/me", "HOME", "/home/me"},
    {"without a gateway nothing is said of one", &none, NULL, "OPENAI_BASE_URL", NULL},
    {"nor a key", &none, NULL, "OPENAI_API_KEY", NULL},
    {"nor changed", &none, "OPENAI_API_KEY=any", "OPENAI_API_KEY", "any"},
    {"nor where", &none, NULL, "PERDURE_URL", NULL},
    {"PERDURE_URL stays", &local, "PERDURE_URL=http://elsewhere", "PERDURE_URL", "http://elsewhere"},
};

/* NULL: not there; fails when it is there twice. */
static const char *find(char *const *env, const char *name)
{
    size_t n = strlen(name);
    const char *found = NULL;
    for (; *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=') {
            assert_null(found);
            found = *env + n + 1;
        }
    return found;
}

static void an_agent_is_told_of_the_gateway_by_its_own_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char set[200];
        snprintf(set, sizeof(set), "%s", rows[i].set ? rows[i].set : "");
        char *ours[] = {rows[i].set ? set : NULL, NULL};
        char **env = keep_env(rows[i].rules, ours, 2, NULL);
        assert_non_null(env);
        const char *got = find(env, rows[i].variable);
        if (!got != !rows[i].got || (got && strcmp(got, rows[i].got) != 0))
            fail_msg("%s: %s", rows[i].name, got ? got : "not set");
        keep_words_free(env);
    }
}

static void what_is_of_an_earlier_start_and_the_admin_key_are_not_handed_on(void **state)
{
    (void)state;
    char a[] = "PERDURE_RESUME_FILE=old", b[] = "PERDURE_START=9", c[] = "ADMIN=secret", d[] = "ADMINS=two";
    char *ours[] = {a, b, c, d, NULL};
    struct keep_rules r = local;
    r.key_variable = "ADMIN";
    char **env = keep_env(&r, ours, 1, NULL);
    assert_non_null(env);
    assert_null(find(env, "PERDURE_RESUME_FILE"));
    assert_string_equal(find(env, "PERDURE_START"), "1");
    assert_null(find(env, "ADMIN"));
    assert_string_equal(find(env, "ADMINS"), "two");
    keep_words_free(env);
    env = keep_env(&r, ours, 2, "/new");
    assert_non_null(env);
    assert_string_equal(find(env, "PERDURE_RESUME_FILE"), "/new");
    keep_words_free(env);
    keep_words_free(NULL);
}

static pd_err make(void *ctx)
{
    char a[] = "OPENAI_BASE_URL=http://localhost:8080/v1", b[] = "HOME=/", c[] = "GEMINI_API_KEY=any";
    char *ours[] = {a, b, c, NULL};
    char **env = keep_env(ctx, ours, 2, "/resume");
    keep_words_free(env);
    return env ? PD_OK : PD_NOMEM;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    struct keep_rules r = local;
    assert_true(torture(make, &r) >= 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_is_told_of_the_gateway_by_its_own_name),
        cmocka_unit_test(what_is_of_an_earlier_start_and_the_admin_key_are_not_handed_on),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
