/* perdure serve: options, signals, and the life of the process. */
#include "app/ask.h"
#include "app/commands.h"
#include "app/load.h"
#include "app/service.h"
#include "base/log.h"
#include "conf/misuse.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND "perdure serve"

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

static int listen_too(struct service_options *o, const char *value)
{
    if (o->listen_count == SERVICE_LISTEN_MAX)
        return misuse(COMMAND, "--listen stands here more than %d times", SERVICE_LISTEN_MAX);
    o->listen[o->listen_count++] = value;
    return -1;
}

static int read_level(struct service_options *o, const char *value)
{
    o->log_level_given = log_level_parse(span_str(value), &o->log_level);
    return o->log_level_given ? -1
                              : misuse_value(COMMAND, "--log-level", value, "write error, warn, info or debug");
}

static int read_format(struct service_options *o, const char *value)
{
    o->log_format = value;
    return strcmp(value, "json") == 0 || strcmp(value, "text") == 0
               ? -1
               : misuse_value(COMMAND, "--log-format", value, "write text or json");
}

static int read_config(struct service_options *o, const char *value)
{
    o->config_path = value;
    return -1;
}

static int read_pid_file(struct service_options *o, const char *value)
{
    o->pid_file = value;
    return -1;
}

static const struct {
    const char *name;
    int (*read)(struct service_options *o, const char *value); /* -1: fine */
} valued[] = {{"--config", read_config},
              {"--listen", listen_too},
              {"--log-level", read_level},
              {"--log-format", read_format},
              {"--pid-file", read_pid_file}};

static int read_one(int argc, char **argv, int *i, struct service_options *o)
{
    const char *value;
    for (size_t k = 0; k < sizeof(valued) / sizeof(valued[0]); k++)
        if (ask_option(argc, argv, i, valued[k].name, &value))
            return value ? valued[k].read(o, value) : misuse_value(COMMAND, valued[k].name, NULL, NULL);
    if (strcmp(argv[*i], "--without-providers") == 0)
        o->without_providers = true;
    else if (strcmp(argv[*i], "--for-run") == 0)
        o->without_providers = o->for_run = true;
    else if (argv[*i][0] == '-')
        return misuse_option(COMMAND, serve_help, argv[*i]);
    else
        return misuse_word(COMMAND, argv[*i], NULL, 0);
    return -1;
}

/* -1: go on; else the exit status. */
static int read_options(int argc, char **argv, struct service_options *o)
{
    int status = -1;
    for (int i = 1; i < argc && status < 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(serve_help, stdout);
            return 0;
        }
        status = read_one(argc, argv, &i, o);
    }
    return status;
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
