/* perdure serve: options, signals, and the life of the process. */
#include "app/commands.h"
#include "app/load.h"
#include "app/service.h"
#include "base/log.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char serve_help[] =
    "usage: perdure serve [OPTIONS]\n\n"
    "  --config FILE      YAML (default: $PERDURE_CONFIG, else ./perdure.yaml if it is there, else the "
    "environment alone)\n"
    "  --listen ADDRESS   instead of the configuration's, such as 127.0.0.1:8080; may be repeated; port 0 takes a "
    "free one\n"
    "  --log-level LEVEL  error, warn, info or debug\n"
    "  --log-format FORM  text or json\n"
    "  --without-providers  none is fine: it serves runs of programs alone\n"
    "  --for-run          as `perdure run` starts it: --without-providers, and where another perdure holds the "
    "state "
    "folder\n"
    "                     already it ends at once, with status 5\n"
    "  --pid-file FILE    written when it listens, and by its successor; removed at the end\n"
    "  --help\n\n"
    "With no configuration every provider is served whose key is in the environment (OPENAI_API_KEY, "
    "DEEPSEEK_API_KEY, ...),\n"
    "in the order of PROVIDER_ORDER if that is set. Base URL of clients: http://127.0.0.1:8080/v1, of those of "
    "Anthropic, Google, AWS and Ollama without /v1.\n\n"
    "signals: TERM and INT end it when the running calls have ended (a second one: at once); HUP reads the "
    "configuration again;\nUSR2 starts the program anew and hands the listening sockets over: the old process "
    "ends its calls and goes.\n";

static bool option(int argc, char **argv, int *i, const char *name, const char **ret)
{
    size_t n = strlen(name);
    if (strncmp(argv[*i], name, n) != 0)
        return false;
    if (argv[*i][n] == '=') {
        *ret = argv[*i] + n + 1;
        return true;
    }
    if (argv[*i][n] != '\0' || *i + 1 >= argc)
        return false;
    *ret = argv[++*i];
    return true;
}

static int wrongly(const char *arg)
{
    fprintf(stderr, "perdure serve: \"%s\" is not understood\n%s", arg, serve_help);
    return 2;
}

static int read_options(int argc, char **argv, struct service_options *o)
{
    const char *value;
    for (int i = 1; i < argc; i++) {
        int at = i;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(serve_help, stdout);
            return 0;
        }
        if (option(argc, argv, &i, "--config", &value)) {
            o->config_path = value;
        } else if (option(argc, argv, &i, "--listen", &value)) {
            if (o->listen_count == SERVICE_LISTEN_MAX)
                return wrongly(value);
            o->listen[o->listen_count++] = value;
        } else if (option(argc, argv, &i, "--log-level", &value)) {
            if (!log_level_parse(span_str(value), &o->log_level))
                return wrongly(value);
            o->log_level_given = true;
        } else if (option(argc, argv, &i, "--log-format", &value)) {
            if (strcmp(value, "json") != 0 && strcmp(value, "text") != 0)
                return wrongly(value);
            o->log_format = value;
        } else if (strcmp(argv[i], "--without-providers") == 0) {
            o->without_providers = true;
        } else if (strcmp(argv[i], "--for-run") == 0) {
            o->without_providers = o->for_run = true;
        } else if (option(argc, argv, &i, "--pid-file", &value)) {
            o->pid_file = value;
        } else {
            return wrongly(argv[at]);
        }
    }
    return -1;
}

int command_serve(int argc, char **argv)
{
    struct service_options options = {
        .argv = argv - 1}; /* the word `serve` is argv[0] here: before it is the program's own name */
    int status = read_options(argc, argv, &options);
    if (status >= 0)
        return status;
    return service_run(&options);
}
