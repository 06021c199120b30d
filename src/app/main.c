#include "app/commands.h"
#include "base/log.h"
#include "conf/misuse.h"
#include "parse/nearest.h"
#include "simulate/simulate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name, *what;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"serve", "run the gateway", command_serve},
    {"check", "check a configuration and show what it means", command_check},
    {"run", "do a plan, task by task, to its end", command_run},
    {"runs", "show runs, pause, resume and cancel them", command_runs},
    {"review", "decide what waits for a person", command_review},
    {"worker", "do tasks of runs, here or on other machines", command_worker},
    {"supervise", "keep an agent going: restarted when it dies or makes no progress", command_supervise},
    {"sessions", "show what calls of a running gateway went through, and cost", command_sessions},
    {"checkpoints", "make, list and restore checkpoints of agents", command_checkpoints},
    {"simulate", "serve simulated providers with scripted and random faults", simulate_main},
    {"docs", "print a reference table: settings, metrics, failures or translation", command_docs},
    {"version", "print the version", command_version},
    {"help", "print this, or the help of a command", command_help},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static int help_of(const char *word);

int command_help(int argc, char **argv)
{
    if (argc > 2)
        return misuse_word("perdure help", argv[2], NULL, 0);
    if (argc == 2 && strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0)
        return help_of(argv[1]);
    printf("perdure " PERDURE_VERSION " keeps long LLM work going: a gateway between LLM clients and providers, "
           "and a runtime for work of hours.\n\n"
           "usage: perdure COMMAND [OPTIONS]\n\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("  %-12s %s\n", commands[i].name, commands[i].what);
    printf("\n`perdure COMMAND --help` tells more. The shortest way to a running gateway:\n\n"
           "  OPENAI_API_KEY=... perdure serve\n"
           "  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n"
           "       -d '{\"model\": \"gpt-5\", \"messages\": [{\"role\": \"user\", \"content\": \"hello\"}]}'\n");
    return 0;
}

int command_version(int argc, char **argv)
{
    static const char version_help[] = "usage: perdure version\n\n  --help\n\nPrints the version.\n";
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(version_help, stdout);
        return 0;
    }
    if (argc > 1)
        return argv[1][0] == '-' ? misuse_option("perdure version", version_help, argv[1])
                                 : misuse_word("perdure version", argv[1], NULL, 0);
    printf("perdure " PERDURE_VERSION "\n");
    return 0;
}

/* A checkpoint that was restored into a full disk is none. Whoever closes a pipe has read enough; a server's words on its way are no result. */
static int written(const char *word, int status)
{
    struct stat st;
    bool serves = strcmp(word, "serve") == 0 || strcmp(word, "simulate") == 0;
    errno = 0;
    bool lost = fflush(stdout) != 0 || ferror(stdout);
    int why = errno;
    if (status || !lost || serves || fstat(STDOUT_FILENO, &st) != 0 || S_ISFIFO(st.st_mode) ||
        S_ISSOCK(st.st_mode))
        return status;
    fprintf(stderr, "perdure %s: not all of the output could be written%s%s: make room, and ask again\n", word,
            why ? ": " : "", why ? strerror(why) : "");
    return 1;
}

/* NULL: there is none. */
static int (*find(const char *word))(int argc, char **argv)
{
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(word, commands[i].name) == 0)
            return commands[i].run;
    return NULL;
}

/* An option that is no command's may be one of a command that was left out. */
static int no_command(const char *word)
{
    const char *names[COMMANDS + 2];
    char hint[MISUSE_HINT_BYTES];
    unsigned count = 0;
    for (int i = 0; i < COMMANDS; i++)
        names[count++] = commands[i].name;
    names[count++] = "--help";
    names[count++] = "--version";
    nearest_hint(span_str(word), names, count, hint, sizeof(hint));
    if (*word == '-')
        return misuse("perdure", "a command is to stand before \"%.200s\"%s", word, hint);
    return misuse("perdure", "there is no command \"%.200s\"%s", word, hint);
}

static int help_of(const char *word)
{
    char *words[] = {(char *)word, (char *)"--help", NULL};
    int (*run)(int argc, char **argv) = find(word);
    return run ? run(2, words) : no_command(word);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        command_help(argc, argv);
        return MISUSE_WRONG;
    }
    log_open();
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        word = "help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
        word = "version";
    int (*run)(int argc, char **argv) = find(word);
    return run ? written(word, run(argc - 1, argv + 1)) : no_command(word);
}
