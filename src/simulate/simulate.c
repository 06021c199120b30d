#include "simulate/simulate.h"

#include "base/mem.h"
#include "conf/misuse.h"
#include "simulate/sim.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define COMMAND "perdure simulate"

static const char help[] =
    "usage: perdure simulate [OPTIONS]\n\n"
    "Serves simulated LLM providers on this machine, each on its own port, with the faults you ask for. Alone it "
    "serves three good\n"
    "ones: alpha, beta and gamma on 127.0.0.1:9101 to 9103. Clients of OpenAI, Anthropic, Gemini, Bedrock and "
    "Ollama can "
    "use http://127.0.0.1:9101.\n\n"
    "  --provider SPEC    NAME[:PORT][,KEY=VALUE...], repeatable; the keys of a fault follow fault=NAME\n"
    "  --script FILE      JSON: {\"seed\": 7, \"providers\": {\"alpha\": {\"port\": 9101, \"faults\": [...], "
    "\"turns\": [...]}}}\n"
    "  --seed N           same seed, same answers and same random faults (1)\n"
    "  --KEY VALUE        a key of a provider, for all of them: --tokens 200 --ttft 300ms --token-delay 20ms\n"
    "  --host ADDRESS     listen here (127.0.0.1)\n"
    "  --control PORT     where /sim/... answers also while a provider refuses connections (9100; 0: a free one)\n"
    "  --verbose          a line for each request on standard error\n"
    "  --reference        everything that a script can say: keys, styles, faults, framings\n"
    "  --help\n\n"
    "One JSON line on standard output says where they listen (port 0 takes a free one). SIGTERM and SIGINT end "
    "it.\n\n"
    "examples:\n"
    "  perdure simulate\n"
    "  perdure simulate --provider alpha:9101,style=deepseek,ttft=200ms,token_delay=20ms --provider beta:9102\n"
    "  perdure simulate --provider alpha:0,fault=status,status=529,times=3,fault=cut,after=20\n"
    "  perdure simulate --provider alpha:0,fault=reset,rate=0.2 --seed 7\n"
    "  perdure simulate --provider alpha:0,up=5s,down=5s\n"
    "  perdure simulate --script examples/simulate/agent.json\n\n"
    "  curl -X POST http://127.0.0.1:9101/sim/faults -d '[{\"fault\": \"stall\", \"after\": 10}]'\n"
    "  curl http://127.0.0.1:9101/sim/state\n"
    "  curl 'http://127.0.0.1:9101/sim/wait?requests=3&running=0'\n";

enum { SPREAD_MAX = 32, KEY_ROOM = 40, NAMES_ROOM = sizeof(help) + SPREAD_MAX * KEY_ROOM };

struct options {
    struct script *script;
    const char *spread_keys[SPREAD_MAX], *spread_values[SPREAD_MAX]; /* for all providers */
    unsigned spread_count;
    bool verbose;
};

/* ---- options -------------------------------------------------------------- */

static int wrong(const char *why)
{
    return misuse(COMMAND, "%s", why);
}

static pd_err read_file(const char *path, struct buf *ret, char *why)
{
    FILE *f = fopen(path, "r");
    if (!f) {
        snprintf(why, READ_WHY, "--script %.300s: the file cannot be opened: look at its name and permissions",
                 path);
        return PD_NOTFOUND;
    }
    buf_init(ret, SCRIPT_BYTES_MAX);
    pd_err err = PD_OK;
    while (err == PD_OK && !feof(f) && !ferror(f)) {
        err = buf_reserve(ret, 4096);
        if (err == PD_OK)
            buf_added(ret, fread(ret->p + ret->tail, 1, 4096, f));
    }
    if (err == PD_OK && ferror(f))
        err = PD_IO;
    fclose(f);
    if (err != PD_OK) {
        snprintf(why, READ_WHY, "--script %.300s: %s", path, pd_err_text(err));
        buf_done(ret);
    }
    return err;
}

static pd_err read_script(struct script *s, const char *path, char *why)
{
    struct buf text;
    pd_err err = read_file(path, &text, why);
    if (err != PD_OK)
        return err;
    err = script_read(s, buf_span(&text), path, why);
    buf_done(&text);
    return err;
}

static bool number(const char *text, int64_t most, int64_t *ret)
{
    uint64_t n;
    if (!span_u64(span_str(text), &n) || n > (uint64_t)most)
        return false;
    *ret = (int64_t)n;
    return true;
}

/* "--token-delay" is the key token_delay. */
static const struct key_row *spread_key(const char *option)
{
    char name[40];
    size_t n = 0;
    if (strncmp(option, "--", 2) != 0)
        return NULL;
    for (const char *c = option + 2; *c && n < sizeof(name) - 1; c++)
        name[n++] = (char)(*c == '-' ? '_' : *c);
    name[n] = '\0';
    const struct key_row *row = key_find(provider_keys, provider_keys_count, span_str(name));
    return row && strcmp(row->name, "port") != 0 ? row : NULL;
}

static pd_err read_option(struct options *o, const char *option, const char *value, char *why)
{
    const struct key_row *row = spread_key(option);
    snprintf(why, READ_WHY, "%.60s is \"%.100s\": write a whole number", option, value);
    if (strcmp(option, "--provider") == 0)
        return script_option(o->script, value, why);
    if (strcmp(option, "--script") == 0)
        return read_script(o->script, value, why);
    if (strcmp(option, "--seed") == 0)
        return number(value, INT64_MAX, &o->script->seed) ? PD_OK : PD_INVALID;
    if (strcmp(option, "--control") == 0)
        return number(value, 65535, &o->script->control) ? PD_OK : PD_INVALID;
    if (strcmp(option, "--host") == 0) {
        o->script->host = span_str(value);
        return PD_OK;
    }
    if (row && o->spread_count < SPREAD_MAX) {
        o->spread_keys[o->spread_count] = row->name;
        o->spread_values[o->spread_count++] = value;
        return PD_OK;
    }
    snprintf(why, READ_WHY, row ? "more than %d keys for all providers" : "that option takes no value",
             SPREAD_MAX);
    return PD_INVALID;
}

/* One of the options, or a key of a provider written as one. The keys are not all in the help. */
static int no_option(const char *arg)
{
    char known[NAMES_ROOM];
    size_t n = (size_t)snprintf(known, sizeof(known), "%s", help);
    for (unsigned i = 0; i < provider_keys_count && n < sizeof(known) - KEY_ROOM; i++) {
        n += (size_t)snprintf(known + n, KEY_ROOM, " --%s", provider_keys[i].name);
        for (char *c = known + n - strlen(provider_keys[i].name); *c; c++)
            *c = (char)(*c == '_' ? '-' : *c);
    }
    return misuse_option(COMMAND, known, arg);
}

/* One that takes a value. */
static bool is_option(const char *name)
{
    static const char *const flags[] = {"--verbose", "--reference", "--help"};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (strcmp(name, flags[i]) == 0)
            return false;
    return misuse_knows(help, name) || spread_key(name) != NULL;
}

static pd_err spread(struct options *o, char *why)
{
    for (unsigned k = 0; k < o->spread_count; k++)
        for (unsigned i = 0; i < o->script->providers_count; i++) {
            pd_err err =
                script_set(o->script, &o->script->providers[i], o->spread_keys[k], o->spread_values[k], why);
            if (err != PD_OK)
                return err;
        }
    return PD_OK;
}

/* -1: go on; else the exit status. */
static int read_options(int argc, char **argv, struct options *o)
{
    char why[READ_WHY] = "";
    for (int i = 1; i < argc; i++) {
        char name[64];
        const char *value = NULL, *equals = strchr(argv[i], '=');
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(help, stdout);
            return 0;
        }
        if (strcmp(argv[i], "--reference") == 0 || strcmp(argv[i], "--reference=markdown") == 0) {
            simulate_print_reference(equals != NULL);
            return 0;
        }
        if (strcmp(argv[i], "--verbose") == 0) {
            o->verbose = true;
            continue;
        }
        snprintf(name, sizeof(name), "%.*s", equals ? (int)(equals - argv[i]) : 63, argv[i]);
        if (equals)
            value = equals + 1;
        if (argv[i][0] != '-')
            return misuse_word(COMMAND, argv[i], NULL, 0);
        if (!is_option(name))
            return no_option(argv[i]);
        if (!value && i + 1 == argc)
            return misuse_value(COMMAND, name, NULL, NULL);
        if (!value)
            value = argv[++i];
        if (read_option(o, name, value, why) != PD_OK)
            return wrong(why);
    }
    if (script_complete(o->script) != PD_OK)
        return wrong("out of memory");
    return spread(o, why) == PD_OK ? -1 : wrong(why);
}

/* ---- running -------------------------------------------------------------- */

static void on_signal(void *ctx, int signum)
{
    (void)signum;
    doors_close(ctx);
}

static pd_err open_control(struct sim *sim, char *why)
{
    int64_t port = sim->script->control;
    bool some_free = false;
    for (unsigned i = 0; i < sim->script->providers_count; i++)
        some_free |= sim->script->providers[i].port == 0;
    sim->control_port = (uint16_t)(port >= 0 ? port : some_free ? 0 : SCRIPT_PORT_FIRST - 1);
    pd_err err = control_open(sim, why);
    if (err == PD_EXISTS && port < 0) { /* nobody asked for this one: any will do */
        sim->control_port = 0;
        err = control_open(sim, why);
    }
    return err;
}

static pd_err open_all(struct sim *sim, char *why)
{
    pd_err err = PD_OK;
    for (unsigned i = 0; i < sim->script->providers_count && err == PD_OK; i++) {
        struct provider *p = &sim->providers[i];
        err = provider_init(p, sim, &sim->script->providers[i]);
        if (err == PD_OK)
            err = provider_open(p, why);
    }
    return err == PD_OK ? open_control(sim, why) : err;
}

static void say_where(const struct sim *sim)
{
    struct span host = sim->script->host;
    printf("{\"providers\":{");
    for (unsigned i = 0; i < sim->script->providers_count; i++)
        printf("%s\"%.*s\":{\"port\":%u,\"base_url\":\"http://%.*s:%u/v1\"}", i ? "," : "",
               SPAN_FMT(sim->providers[i].conf->name), sim->providers[i].port, SPAN_FMT(host),
               sim->providers[i].port);
    printf("},\"control\":{\"port\":%u,\"base_url\":\"http://%.*s:%u/sim\"}}\n", sim->control_port, SPAN_FMT(host),
           sim->control_port);
    fflush(stdout);
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "%u simulated providers are ready; Ctrl-C ends them.\n", sim->script->providers_count);
}

static int run(struct sim *sim)
{
    char why[READ_WHY] = "out of memory";
    pd_err err = open_all(sim, why);
    if (err == PD_OK)
        err = loop_on_signal(sim->loop, SIGTERM, on_signal, sim);
    if (err == PD_OK)
        err = loop_on_signal(sim->loop, SIGINT, on_signal, sim);
    if (err == PD_OK)
        say_where(sim);
    else
        doors_close(sim);
    if (err == PD_OK || !list_empty(&sim->doors))
        loop_run(sim->loop);
    for (unsigned i = 0; i < sim->script->providers_count; i++)
        provider_free(&sim->providers[i]);
    if (err != PD_OK)
        fprintf(stderr, "perdure simulate: %s\n", why);
    return err == PD_OK ? 0 : 1;
}

static int simulate(struct options *o)
{
    struct sim sim = {.script = o->script, .verbose = o->verbose};
    int status = 1;
    list_init(&sim.doors);
    buf_init(&sim.event, 0);
    buf_init(&sim.frame, 0);
    control_init(&sim);
    sim.loop = loop_new();
    sim.providers = mem_calloc(o->script->providers_count, sizeof(*sim.providers));
    if (sim.loop && sim.providers)
        status = run(&sim);
    else
        fprintf(stderr, "perdure simulate: out of memory\n");
    mem_free(sim.providers);
    buf_done(&sim.event);
    buf_done(&sim.frame);
    loop_free(sim.loop);
    return status;
}

int simulate_main(int argc, char **argv)
{
    unsigned fds;
    struct options o = {.script = script_new()};
    if (!o.script)
        return wrong("out of memory");
    signal(SIGPIPE, SIG_IGN);
    loop_process_init(&fds);
    int status = read_options(argc, argv, &o);
    if (status < 0)
        status = simulate(&o);
    script_free(o.script);
    mem_big_trim();
    return status;
}
