/* What is said about a config that is wrong: where, what, and what to do. */
#include "conf_helper.h"

#include <string.h>

/* Around a line under test, what else a whole config needs. */
#define P "providers:\n  openai: {key: \"${K}\"}\n" /* lines 1 and 2 */
#define R P "routes:\n  r:\n"                       /* and 3 and 4 */

static const struct row {
    const char *name, *text;
    unsigned line;    /* of the remark; 0: none */
    const char *says; /* a part of it */
} rows[] = {
    /* YAML itself */
    {"an empty file", "", 0, "the file is empty"},
    {"comments alone", "# nothing\n", 0, "the file is empty"},
    {"null", "~\n", 0, "the file is empty"},
    {"a list", "- a\n", 1, "the file is a list: write a mapping"},
    {"a word", "perdure\n", 1, "the file is a single value: write a mapping"},
    {"an open bracket", P "listen: [a\n", 4, "not YAML"},
    {"an open quote", P "state: \"abc\n", 4, "a quote is not closed"},
    {"a tab", "providers:\n\topenai: {}\n", 2, "indent with spaces"},
    {"a colon in a value", P "state: a: b\n", 3, "column 9: not YAML"},
    {"bad indentation", "providers:\n   openai: {}\n  local: {}\n", 3, "indentation"},
    {"bytes that are no UTF-8", P "state: \xff\n", 3, "UTF-8"},
    {"a NUL", P "state: \"a\\0b\"\n", 3, "control character"},
    {"two documents", P "---\nstate: a\n", 3, "a second document"},
    {"a tag", P "state: !!str x\n", 3, "tags such as !!str are not supported"},
    {"a name that is a list", P "[a]: b\n", 3, "stands where a name is expected"},
    {"an alias of nothing", P "state: *a\n", 3, "*a names no anchor"},
    {"an alias of itself", P "state: &a [*a]\n", 3, "has no end"},
    {"merging", P "state: &a x\n<<: {}\n", 4, "merging with << is not supported"},
    {"too deep", "a: [[[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]]\n", 1, "nested more than 16 deep"},

    /* names */
    {"an unknown section", P "provider: {}\n", 3,
     "\"provider\" is not known in a config: did you mean \"providers\"?"},
    {"an unknown section like nothing", P "zzzzzz: 1\n", 3, "remove it; known are listen, state"},
    {"a setting beside resilience", P "ttft: 2s\n", 3,
     "\"ttft\" does not belong in a config: it stands under `resilience:`"},
    {"a server setting in resilience", P "resilience: {workers: 2}\n", 3, "it stands at the top level"},
    {"a setting misspelt", P "resilience: {tttf: 2s}\n", 3, "did you mean \"ttft\"?"},
    {"letters swapped", P "resilience: {satll: 2s}\n", 3, "did you mean \"stall\"?"},
    {"a provider's key misspelt", "providers:\n  openai:\n    key: \"${K}\"\n    base_ulr: x\n", 4,
     "did you mean \"base_url\"?"},
    {"a route's key misspelt", R "    stratgy: weighted\n    targets: [openai/a]\n", 5,
     "did you mean \"strategy\"?"},
    {"a target's key misspelt", R "    targets: [{model: openai/a, wieght: 1}]\n", 5, "did you mean \"weight\"?"},
    {"a name twice", P "state: a\nstate: b\n", 4, "state stands here a second time, first on line 3"},
    {"a provider twice", P "  openai: {}\n", 3, "providers.openai stands here a second time, first on line 2"},
    {"a database of another kind", P "database: mysql://x\n", 3, "database is to be postgres://USER@HOST/NAME"},
    {"snapshots that are none", P "snapshots: http://x\n", 3, "snapshots is to be s3://BUCKET/PREFIX, a folder"},
    {"a bucket that S3 refuses", P "snapshots: s3://My_Bucket/x\n", 3,
     "snapshots: \"My_Bucket\" is no bucket's name: write lowercase letters, digits, - and . alone"},
    {"a bucket that is an address", P "snapshots: s3://10.0.0.1\n", 3, "it is an IP address"},
    {"a prefix that no object can have", P "snapshots: \"s3://bucket/a b\"\n", 3,
     "snapshots: \"a b\" is no prefix"},
    {"a bucket without a name", P "snapshots: s3://\n", 3, "snapshots is to be s3://BUCKET/PREFIX, a folder"},

    /* clouds and wires */
    {"an unknown wire", "providers:\n  vllm: {wires: [openai-chat, gemeni]}\n", 2,
     "\"gemeni\" is no wire format: did you mean \"gemini\"?; known are openai-chat, openai-responses"},
    {"no wire", "providers:\n  vllm: {wires: []}\n", 2, "write 1 to 5 wire formats"},
    {"a prefix that is none", "providers:\n  vllm: {wires: [openai-chat@v1]}\n", 2, "after '@' comes a path"},
    {"no region", "providers:\n  bedrock: {}\n", 2,
     "bedrock has no region: write one, as in region: us-east-1, or set"},
    {"no project", "providers:\n  vertex: {}\n", 2,
     "vertex has no project: write project:, or set GOOGLE_CLOUD_PROJECT"},
    {"regions of one that has none", "providers:\n  openai: {key: \"${K}\", regions: [a]}\n", 2,
     "providers.openai.regions: openai has no regions"},
    {"one address for two regions", "providers:\n  bedrock: {regions: [a, b], base_url: \"http://127.0.0.1:1\"}\n",
     2, "write {region} where it stands in the URL"},
    {"a region that is none", "providers:\n  bedrock: {region: \"a.b/c\"}\n", 2,
     "a region is written in small letters"},
    {"regions under two keys", "providers:\n  bedrock: {region: a, regions: [b]}\n", 2,
     "the regions stand under another key already"},
    {"AWS keys elsewhere", "providers:\n  openai: {key: \"${K}\", profile: p}\n", 2,
     "providers.openai.profile is for Amazon's providers, and openai is none"},
    {"a project elsewhere", "providers:\n  bedrock: {region: a, project: p}\n", 2,
     "providers.bedrock.project is for Google's Vertex"},
    {"half of AWS keys", "providers:\n  bedrock: {region: a, access_key_id: a}\n", 2,
     "bedrock has one of access_key_id and secret_access_key"},
    {"credentials that are not there", "providers:\n  vertex: {project: p, credentials_file: /nonexistent}\n", 2,
     "/nonexistent cannot be read: name a JSON file"},
    {"a factor that is none", P "resilience: {throttle_factor: 0.9}\n", 3, "write a number above 1, or 0 for off"},
    {"throttling that is a word", "providers:\n  vllm: {throttles_by_latency: perhaps}\n", 2,
     "write true or false"},
    {"a way to go on that is none", "providers:\n  vllm: {continue: trailling}\n", 2,
     "providers.vllm.continue: \"trailling\" is no way to go on with an answer: did you mean \"trailing\"?; known "
     "are auto, ask, trailing, prefix, final, repeat, off"},
    {"a price in words", "providers:\n  vllm: {prices: {m: {input: cheap, output: 1}}}\n", 2,
     "providers.vllm.prices.m.input is \"cheap\": write dollars for a million tokens, from 0 to 1000000"},
    {"a price below nothing", "providers:\n  vllm: {prices: {m: {input: -1, output: 1}}}\n", 2,
     "providers.vllm.prices.m.input is \"-1\""},
    {"a price above all", "providers:\n  vllm: {prices: {m: {input: 1000001, output: 1}}}\n", 2,
     "from 0 to 1000000"},
    {"a price of too many digits", "providers:\n  vllm: {prices: {m: {input: 0.0000001, output: 1}}}\n", 2,
     "providers.vllm.prices.m.input is \"0.0000001\""},
    {"a price without its end", "providers:\n  vllm: {prices: {m: {input: \"3.\", output: 1}}}\n", 2,
     "providers.vllm.prices.m.input is \"3.\""},
    {"a price for one side alone", "providers:\n  vllm: {prices: {m: {input: 3}}}\n", 2,
     "providers.vllm.prices.m: write both input and output"},
    {"a price that is a number", "providers:\n  vllm: {prices: {m: 3}}\n", 2, "providers.vllm.prices.m"},
    {"a price of an unknown kind", "providers:\n  vllm: {prices: {m: {input: 3, ouput: 1}}}\n", 2, "ouput"},
    {"a model priced twice",
     "providers:\n  vllm: {prices: {m: {input: 3, output: 1}, m: {input: 3, output: 1}}}\n", 2, "prices.m"},
    {"a region in a URL alone", "providers:\n  vllm: {base_url: \"http://127.0.0.1/{region}/v1\"}\n", 2,
     "vllm has {region} in its base_url: write region:, too"},
    {"a group and one of its regions",
     "providers:\n  bedrock: {regions: [a, b]}\nroutes:\n  r: {targets: [bedrock/m, bedrock@b/m]}\n", 4,
     "has bedrock@b/m twice"},

    /* values */
    {"a duration without a unit", P "resilience: {ttft: 2}\n", 3,
     "resilience.ttft is \"2\": write a unit, as in \"2s\""},
    {"over the bound", P "resilience: {attempts: 99}\n", 3, "resilience.attempts is \"99\": write at most 20"},
    {"a list for a duration", P "resilience: {ttft: [2s]}\n", 3,
     "resilience.ttft is a list: write a single value"},
    {"a word for a mapping", P "resilience: fast\n", 3, "resilience is a single value: write a mapping"},
    {"a setting twice", R "    targets: [openai/a]\n    ttft: 1s\n    resilience: {ttft: 2s}\n", 7, "given twice"},
    {"a server setting wrong", P "workers: many\n", 3, "workers is \"many\": write a whole number"},
    {"an empty state", P "state: \"\"\n", 3, "state is empty"},
    {"a level", P "log_level: inof\n", 3, "log_level is \"inof\": did you mean \"info\"?"},
    {"a level twice", P "log: {level: info}\nlog_level: info\n", 4, "given twice"},
    {"a format", P "log: {format: xml}\n", 3, "write text or json"},

    /* variables */
    {"a missing variable", P "state: ${NOPE}\n", 3, "state: the environment variable NOPE is not set"},
    {"not closed", P "state: ${K\n", 3, "not closed"},
    {"no name", P "state: ${}\n", 3, "a variable is written ${NAME}"},
    {"a name with a blank", P "state: ${A B}\n", 3, "a variable is written ${NAME}"},
    {"another shell form", P "state: ${A:=b}\n", 3, "a variable is written ${NAME}"},
    {"one in another", P "state: \"${A:-${K}}\"\n", 3, "within another"},

    /* listening */
    {"no port", P "listen: 127.0.0.1\n", 3, "write an address and a port"},
    {"a port alone", P "listen: 8080\n", 3, "write an address and a port"},
    {"a port too high", P "listen: 127.0.0.1:99999\n", 3, "a port from 0 to 65535"},
    {"a host's name", P "listen: example.org:80\n", 3, "numeric address"},
    {"IPv6 without brackets", P "listen: \"::1:80\"\n", 3, "[::1]:8080"},
    {"the same twice", P "listen: [\"127.0.0.1:80\", \"localhost:80\"]\n", 3, "twice"},
    {"an empty list", P "listen: []\n", 3, "listen is empty"},
    {"off loopback without keys", P "listen: 0.0.0.0:8080\n", 3, "no client key is set"},
    {"any address", P "listen: \":8080\"\n", 3, "no client key is set"},
    {"any IPv6 address", P "listen: \"[::]:8080\"\n", 3, "no client key is set"},
    {"one of two off loopback", P "listen: [\"127.0.0.1:1\", \"10.0.0.1:2\"]\n", 3,
     "listen 10.0.0.1:2 can be reached"},

    /* providers */
    {"none", "providers: {}\n", 0, "there is no provider"},
    {"a list of them", "providers: [openai]\n", 1, "providers is a list: write a mapping"},
    {"a typing mistake", "providers:\n  opnai: {}\n", 2, "did you mean \"openai\"?"},
    {"a name of one's own without preset", "providers:\n  mine: {}\n", 2,
     "write preset: too, one of openai, deepseek"},
    {"an unknown preset", "providers:\n  mine: {preset: opena}\n", 2,
     "\"opena\" is no preset: did you mean \"openai\"?"},
    {"a name with a slash", "providers:\n  a/b: {preset: openai, key: \"${K}\"}\n", 2, "letters, digits"},
    {"no key", "providers:\n  openai: {}\n", 2, "openai has no key: set the environment variable OPENAI_API_KEY"},
    {"an empty key", "providers:\n  openai: {key: \"${EMPTY}\"}\n", 2, "openai has no key"},
    {"a key with a blank", "providers:\n  openai: {key: \"Bearer ${K}\"}\n", 2, "without \"Bearer\""},
    {"a list for a key", "providers:\n  openai: {key: [sk-hush]}\n", 2, "providers.openai.key is a list"},
    {"no base_url", "providers:\n  x: {preset: openai-compatible}\n", 2, "x has no base_url"},
    {"no URL", "providers:\n  vllm: {base_url: \"127.0.0.1:8000/v1\"}\n", 2, "the base_url of vllm is no URL"},
    {"an empty URL", "providers:\n  vllm: {base_url: \"\"}\n", 2, "base_url is empty"},
    {"a password in the URL", "providers:\n  vllm: {base_url: \"http://u:hush@h/v1\"}\n", 2,
     "has a user or password"},
    {"a query in the URL", "providers:\n  vllm: {base_url: \"http://h/v1?a=hush\"}\n", 2, "write it as query:"},
    {"perdure itself", "providers:\n  llamacpp: {}\n", 2, "where perdure itself listens"},
    {"a header of ours", "providers:\n  vllm: {headers: {Host: a}}\n", 2, "written by perdure itself"},
    {"no header's name", "providers:\n  vllm: {headers: {\"a b\": c}}\n", 2, "no header name"},
    {"a header twice", "providers:\n  vllm: {headers: {a: 1, A: 2}}\n", 2, "a second time"},
    {"a line break in a header", "providers:\n  vllm: {headers: {a: \"b\\r\\nc: d\"}}\n", 2, "line break"},
    {"a proxy with https", "providers:\n  vllm: {proxy: \"https://p:1\"}\n", 2,
     "a proxy is spoken to over http://"},
    {"a ca_file that is not there", "providers:\n  vllm: {ca_file: /nowhere/ca.pem}\n", 2, "cannot be read"},
    {"tls_verify neither true nor false", "providers:\n  vllm: {tls_verify: maybe}\n", 2, "write true or false"},
    {"a weight that is none", "providers:\n  vllm: {weight: -1}\n", 2, "write a whole number from 0"},
    {"a query with a blank", "providers:\n  vllm: {query: \"a b\"}\n", 2, "api-version"},
    {"a model twice", "providers:\n  vllm: {models: [a, a]}\n", 2, "has \"a\" twice"},
    {"an empty model", "providers:\n  vllm: {models: [\"\"]}\n", 2, "models is empty"},
    {"a provider's setting wrong", "providers:\n  vllm: {stall: 3}\n", 2,
     "providers.vllm.stall is \"3\": write a unit"},
    {"in its resilience too", "providers:\n  vllm: {resilience: {stal: 3s}}\n", 2, "did you mean \"stall\"?"},

    /* routes */
    {"no targets", R "    strategy: weighted\n", 4, "routes.r has no targets"},
    {"nothing at all", R "", 4, "routes.r has no targets"},
    {"an empty list of targets", R "    targets: []\n", 5, "routes.r.targets is empty"},
    {"a target without a model", R "    targets: [{weight: 1}]\n", 5, "routes.r.targets[0] has no model"},
    {"a model without a provider", R "    targets: [openai/a, {model: gpt-5}]\n", 5,
     "targets[1] is \"gpt-5\": write provider/model"},
    {"a provider without a model", R "    targets: [openai/]\n", 5, "write provider/model"},
    {"an unknown provider", R "    targets: [opnai/gpt-5]\n", 5,
     "names the provider \"opnai\", which is not among providers: did you mean \"openai\"?"},
    {"a target twice", R "    targets: [openai/a, openai/a]\n", 5, "has openai/a twice"},
    {"all weights 0", R "    targets: [{model: openai/a, weight: 0}]\n", 5, "every weight is 0"},
    {"an unknown strategy", R "    strategy: random\n    targets: [openai/a]\n", 5,
     "write weighted, priority or latency"},
    {"a strategy misspelt", R "    strategy: weigthed\n    targets: [openai/a]\n", 5,
     "did you mean \"weighted\"?"},
    {"cost", R "    strategy: cost\n    targets: [openai/a]\n", 5, "\"cost\" is not yet supported"},
    {"a route's name with a blank", P "routes:\n  a b: {targets: [openai/a]}\n", 4, "without blanks"},
    {"a route twice", P "routes:\n  r: {targets: [openai/a]}\n  r: {targets: [openai/a]}\n", 5,
     "routes.r stands here a second time"},

    /* client keys */
    {"keys as a mapping", P "keys: {a: b}\n", 3, "keys is a mapping: write a list"},
    {"a key without a name", P "keys: [{key: \"${K}\"}]\n", 3, "keys[0] has no name"},
    {"a key without a key", P "keys: [{name: a}]\n", 3, "keys[0] has no key"},
    {"an empty key of a client", P "keys: [{name: a, key: \"${EMPTY}\"}]\n", 3, "keys[0].key is empty"},
    {"half a hash", P "keys: [{name: a, key: \"sha256:abcd\"}]\n", 3, "64 hexadecimal digits"},
    {"a name taken", P "keys: [{name: a, key: \"${LONG}\"}, {name: a, key: \"${LONG2}\"}]\n", 3,
     "the name \"a\" is taken"},
    {"the same key twice", P "keys: [{name: a, key: \"${LONG}\"}, {name: b, key: \"${LONG}\"}]\n", 3,
     "is the same key as a"},
    {"a route that is not there",
     P "routes: {coder: {targets: [openai/a]}}\nkeys: [{name: a, key: \"${LONG}\", routes: [coders]}]\n", 4,
     "\"coders\" is not among routes: did you mean \"coder\"?"},
    {"no routes at all", P "keys: [{name: a, key: \"${LONG}\", routes: []}]\n", 3, "routes is empty"},
    {"admin that is a word", P "keys: [{name: a, key: \"${LONG}\", admin: perhaps}]\n", 3, "write true or false"},
};

#define TEST_ENV ENV("K=sk-from-env", "EMPTY=", "LONG=a-long-client-key-1", "LONG2=a-long-client-key-2")

static void each_mistake_is_named_with_its_line_and_remedy(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct conf_report report;
        struct conf *c = NULL;
        pd_err e = helper_parse(rows[i].text, TEST_ENV, &report, &c);
        bool said = false;
        for (unsigned j = 0; j < report.count; j++)
            said |= report.remarks[j].error && report.remarks[j].line == rows[i].line &&
                    strstr(report.remarks[j].text, rows[i].says);
        if (e != PD_INVALID || c || !said || report.errors == 0)
            fail_msg("%s: %s\nwanted line %u: %s\n%s", rows[i].name, pd_err_name(e), rows[i].line, rows[i].says,
                     helper_remarks(&report));
        /* One mistake is one error: no follow-up complaints. */
        if (report.errors != 1)
            fail_msg("%s: %u errors\n%s", rows[i].name, report.errors, helper_remarks(&report));
        assert_null(strstr(helper_remarks(&report), "hush"));
        assert_null(strstr(helper_remarks(&report), "sk-from-env"));
    }
}

static const struct row warnings[] = {
    {"a price that is never used", "providers:\n  vllm: {models: [a], prices: {b: {input: 1, output: 1}}}\n", 2,
     "providers.vllm.prices: its models have no \"b\": the price is never used"},
    {"a key in the file", "providers:\n  openai: {key: sk-secret}\n", 2,
     "keys belong in the environment; write \"${OPENAI_API_KEY}\""},
    {"a default that is a key", "providers:\n  openai: {key: \"${NOPE:-sk-secret}\"}\n", 2,
     "keys belong in the environment"},
    {"a client's key in the file", P "keys: [{name: a, key: secret-secret-secret}]\n", 3,
     "keys belong in the environment"},
    {"a short client key", P "keys: [{name: a, key: \"${K}\"}]\n", 3, "can be guessed"},
    {"a certificate that nobody checks", "providers:\n  vllm: {tls_verify: false}\n", 2,
     "anyone on the way can read"},
    {"a key over plain http", "providers:\n  openai: {key: \"${K}\", base_url: \"http://example.org/v1\"}\n", 2,
     "plain http"},
    {"a URL that ends at the host", "providers:\n  vllm: {base_url: \"http://127.0.0.1:8000\"}\n", 2, "under /v1"},
    {"a model that is not listed",
     "providers:\n  vllm: {models: [qwen3]}\nroutes:\n  r: {targets: [vllm/qwen4]}\n", 4,
     "did you mean \"qwen3\"?"},
    {"backoff over its limit", P "resilience: {backoff: 2m}\n", 3,
     "backoff (2m) is longer than backoff_max (30s)"},
    {"a hold without a sign of life", P "resilience: {keepalive: 0}\n", 3,
     "without keepalive a streaming client hears nothing"},
    {"a hold of a provider's without one", "providers:\n  vllm: {keepalive: 0, hold: 2h}\n", 2,
     "nothing while its call is on hold"},
    {"a hold switched on where signs of life are off",
     "providers:\n  vllm: {hold: 2h}\nresilience: {keepalive: 0, hold: 0}\n", 2,
     "nothing while its call is on hold"},
    {"answers that go on and are not kept", "resume_keep: 0\n" P "resilience: {linger: 5m}\n", 4,
     "resume_keep: 0 keeps none of them"},
};

/* Off is off, and a hold does not count against call_timeout. */
static void settings_that_make_sense_are_not_warned_about(void **state)
{
    (void)state;
    static const char *const fine[] = {
        P "resilience: {keepalive: 0, hold: 0}\n",
        P "resilience: {hold: 8h, call_timeout: 30m}\n",
        P "resilience: {linger: 5m}\n",
        ("resume_keep: 0\n" P),
    };
    for (unsigned i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
        struct conf_report report;
        struct conf *c = NULL;
        assert_int_equal(helper_parse(fine[i], TEST_ENV, &report, &c), PD_OK);
        if (report.count)
            fail_msg("%s\n%s", fine[i], helper_remarks(&report));
        conf_free(c);
    }
}

static void a_doubtful_config_is_taken_with_a_warning(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(warnings) / sizeof(warnings[0]); i++) {
        struct conf_report report;
        struct conf *c = NULL;
        pd_err e = helper_parse(warnings[i].text, TEST_ENV, &report, &c);
        bool said = report.count == 1 && !report.remarks[0].error && report.remarks[0].line == warnings[i].line &&
                    strstr(report.remarks[0].text, warnings[i].says);
        if (e || !said || report.errors)
            fail_msg("%s: %s\nwanted line %u: %s\n%s", warnings[i].name, pd_err_name(e), warnings[i].line,
                     warnings[i].says, helper_remarks(&report));
        assert_null(strstr(helper_remarks(&report), "secret"));
        conf_free(c);
    }
}

static void all_mistakes_are_said_at_once(void **state)
{
    (void)state;
    struct conf_report report;
    struct conf *c = NULL;
    assert_int_equal(helper_parse("listen: nowhere\n"
                                  "workres: 3\n"
                                  "providers:\n"
                                  "  openai: {key: \"${NOPE}\", stall: 5}\n"
                                  "routes:\n"
                                  "  r: {strategy: best, targets: [x/y]}\n",
                                  NULL, &report, &c),
                     PD_INVALID);
    assert_int_equal(report.errors, 6);
    assert_int_equal(report.count, 6);
    assert_string_equal(report.remarks[0].text,
                        "t.yaml line 2: \"workres\" is not known in a config: did you mean \"workers\"?");
}

static void remarks_past_the_limit_are_counted_only(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 0);
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(buf_printf(&text, "unknown%u: 1\n", i), PD_OK);
    assert_int_equal(buf_puts(&text, "providers: {vllm: }\n"), PD_OK);
    struct conf_report report;
    struct conf *c = NULL;
    assert_int_equal(conf_parse(buf_span(&text), "t.yaml", &helper_presets, helper_env, NULL, &report, &c),
                     PD_INVALID);
    assert_int_equal(report.count, CONF_REMARKS_MAX);
    assert_int_equal(report.errors, 200);
    buf_done(&text);
}

/* Nothing of a file reaches a terminal as a control sequence, and no character is cut in two. */
static void a_remark_is_one_line_of_text(void **state)
{
    (void)state;
    struct conf_report report;
    struct conf *c = NULL;
    assert_int_equal(helper_parse("\"\\e[2J\\n\": 1\nproviders: {vllm: }\n", NULL, &report, &c), PD_INVALID);
    for (const char *p = report.remarks[0].text; *p; p++)
        assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);

    for (unsigned pad = 0; pad < 3; pad++) {
        struct buf text;
        buf_init(&text, 0);
        assert_int_equal(buf_printf(&text, "log_level: \"%.*s", (int)pad, "xx"), PD_OK);
        for (unsigned i = 0; i < 900; i++)
            assert_int_equal(buf_puts(&text, "\xe2\x82\xac"), PD_OK);
        assert_int_equal(buf_puts(&text, "\"\nworkers: \"\xe2\x82\xac\xe2\x82\xac\"\n"), PD_OK);
        assert_int_equal(conf_parse(buf_span(&text), "t.yaml", &helper_presets, helper_env, NULL, &report, &c),
                         PD_INVALID);
        assert_true(report.count >= 2);
        assert_true(strlen(report.remarks[0].text) < sizeof(report.remarks[0].text));
        buf_done(&text);
    }
}

/* Nine aliases of nine aliases of ...: a few hundred bytes that stand for a billion values. */
static void a_bomb_of_aliases_is_refused_at_once(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 0);
    assert_int_equal(buf_puts(&text, "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"), PD_OK);
    for (unsigned i = 1; i < 10; i++) {
        assert_int_equal(buf_printf(&text, "a%u: &a%u [", i, i), PD_OK);
        for (unsigned j = 0; j < 9; j++)
            assert_int_equal(buf_printf(&text, "%s*a%u", j ? ", " : "", i - 1), PD_OK);
        assert_int_equal(buf_puts(&text, "]\n"), PD_OK);
    }
    struct conf_report report;
    struct conf *c = NULL;
    assert_int_equal(conf_parse(buf_span(&text), "t.yaml", &helper_presets, helper_env, NULL, &report, &c),
                     PD_INVALID);
    assert_non_null(strstr(helper_remarks(&report), "those that aliases repeat counted"));
    buf_done(&text);
}

static void too_many_of_anything_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *begin, *each, *says;
        unsigned times;
    } many[] = {
        {"", "x%u: 1\n", "more than 2000 entries in one place", 2001},
        {"state: [", "&a%u x, ", "more than 100 anchors", 101},
        {"providers:\n", "  p%u: {preset: vllm}\n", "providers: more than 200", 201},
        {"providers: {vllm: }\nroutes:\n", "  r%u: {targets: [vllm/a]}\n", "routes: more than 1000", 1001},
        {"providers:\n vllm:\n  headers:\n", "   h%u: a\n", "more than 50 headers", 51},
    };
    for (unsigned i = 0; i < sizeof(many) / sizeof(many[0]); i++) {
        struct buf text;
        buf_init(&text, 0);
        assert_int_equal(buf_puts(&text, many[i].begin), PD_OK);
        for (unsigned j = 0; j < many[i].times; j++) {
            const char *mark = strchr(many[i].each, '%');
            assert_int_equal(buf_printf(&text, "%.*s%u%s", (int)(mark - many[i].each), many[i].each, j, mark + 2),
                             PD_OK);
        }
        struct conf_report report;
        struct conf *c = NULL;
        assert_int_equal(conf_parse(buf_span(&text), "t.yaml", &helper_presets, helper_env, NULL, &report, &c),
                         PD_INVALID);
        if (!strstr(helper_remarks(&report), many[i].says))
            fail_msg("%s\n%s", many[i].says, helper_remarks(&report));
        buf_done(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mistake_is_named_with_its_line_and_remedy),
        cmocka_unit_test(a_doubtful_config_is_taken_with_a_warning),
        cmocka_unit_test(settings_that_make_sense_are_not_warned_about),
        cmocka_unit_test(all_mistakes_are_said_at_once),
        cmocka_unit_test(remarks_past_the_limit_are_counted_only),
        cmocka_unit_test(a_remark_is_one_line_of_text),
        cmocka_unit_test(a_bomb_of_aliases_is_refused_at_once),
        cmocka_unit_test(too_many_of_anything_is_refused),
    };
    return cmocka_run_group_tests_name("conf_remarks", tests, NULL, NULL);
}
