/* perdure supervise: an agent CLI kept going. */
#include "app/ask.h"
#include "app/commands.h"
#include "app/load.h"
#include "base/hash.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "conf/conf.h"
#include "conf/misuse.h"
#include "loop/loop.h"
#include "net/net.h"
#include "task/keep.h"
#include "task/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND "perdure supervise"

static const char supervise_help[] =
    "usage: perdure supervise [OPTIONS] -- COMMAND [ARGUMENTS]\n\n"
    "  --stall TIME         no progress for so long: it is ended and started again (default 10m)\n"
    "  --check COMMAND      for sh -c: an end with status 0 is believed when this ends with 0 too\n"
    "  --check-limit TIME   a check that takes longer is ended, and has failed (default 30m)\n"
    "  --resume-args TEXT   words added to COMMAND from the second start on, as in \"--continue\"\n"
    "  --restarts N         so many within --window, and the next is not made (default 3)\n"
    "  --window TIME        (default 10m)\n"
    "  --alert-command TEXT for sh -c, when it is paused; PERDURE_ALERT says why\n"
    "  --checkpoint TIME    between checkpoints (default $CHECKPOINT_INTERVAL, else checkpoint_interval of this "
    "configuration, 5m)\n"
    "  --grace TIME         from SIGTERM to SIGKILL (default 5s)\n"
    "  --pause TIME         before the first restart; each doubles it (default 1s)\n"
    "  --hang TIME          a keeper silent for so long is ended too (default 30s)\n"
    "  --dir FOLDER         where it works, and whose files are watched (default: here)\n"
    "  --agent NAME         its name, also of its checkpoints (default $AGENT_ID, else made of COMMAND and "
    "folder)\n"
    "  --task TEXT          what its checkpoints say that it is at (default: COMMAND)\n"
    "  --again TEXT         it was begun earlier, by another: its first start goes on too, and is told this\n"
    "  --client NAME        calls of this client key of the gateway are its own, and no others (default: those "
    "that say so)\n"
    "  --no-gateway         nothing is asked and no address given: files and output are all that is seen\n"
    "  --no-terminal        its output is passed on, and it has no terminal\n"
    "  --url URL            where perdure runs (default " ASK_URL_DEFAULT ")\n"
    "  --key-env VAR        the variable that holds an admin key: from another machine one is needed\n"
    "  --log-level WORD     error, warn, info or debug (default info; warn in a terminal)\n"
    "  --help\n\n"
    "Starts COMMAND and keeps it going: one that dies is started again, and so is one that makes no progress, "
    "which is seen by its calls "
    "to the\ngateway and by the files that change. A call that waits for a provider is no stall. From the second "
    "start on \"{resume}\" in a "
    "word of COMMAND\nis a text that says where it was; it is also in the file that PERDURE_RESUME_FILE names. "
    "Nothing of it is left behind, "
    "whatever dies; the same\ncommand again goes on.\n\n"
    "exit status: 0 done; 1 it could not be begun; 2 called wrongly; 3 paused: restarted too often, a person must "
    "look; 4 stopped before "
    "its end\n";

enum { RESUME_WORDS_MAX = 32 };

struct options {
    struct ask_where where;
    struct keep_rules rules;
    const char *agent, *dir, *resume_args, *keeper, *level, *restarts;
    char name[KEEP_NAME_BYTES], folder[PATH_MAX];
    char words[1000];
    const char *resume_words[RESUME_WORDS_MAX + 1];
    bool no_gateway, no_terminal;
};

static const struct {
    const char *name;
    size_t at;
} texts[] = {{"--check", offsetof(struct options, rules.check)},
             {"--alert-command", offsetof(struct options, rules.alert)},
             {"--client", offsetof(struct options, rules.client)},
             {"--again", offsetof(struct options, rules.begun)},
             {"--task", offsetof(struct options, rules.task)},
             {"--agent", offsetof(struct options, agent)},
             {"--dir", offsetof(struct options, dir)},
             {"--resume-args", offsetof(struct options, resume_args)},
             {"--log-level", offsetof(struct options, level)},
             {"--restarts", offsetof(struct options, restarts)},
             {"--keeper", offsetof(struct options, keeper)}};
static const struct {
    const char *name, *least;
    size_t at;
} times[] = {{"--stall", "1s", offsetof(struct options, rules.rules.stall_ms)},
             {"--window", "1s", offsetof(struct options, rules.rules.window_ms)},
             {"--pause", "10ms", offsetof(struct options, rules.rules.pause_ms)},
             {"--grace", "10ms", offsetof(struct options, rules.grace_ms)},
             {"--hang", "2s", offsetof(struct options, rules.hang_ms)},
             {"--check-limit", "1s", offsetof(struct options, rules.check_ms)},
             {"--checkpoint", "1s", offsetof(struct options, rules.checkpoint_ms)}};

/* 1: taken; 0: none of these; 2: wrong, and said. */
static int read_one(struct options *o, int argc, char **argv, int *i)
{
    const char *value;
    int asked = ask_where_option(&o->where, argc, argv, i);
    if (asked)
        return asked;
    for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++)
        if (ask_option(argc, argv, i, texts[k].name, &value)) {
            *(const char **)(void *)((char *)o + texts[k].at) = value;
            return value && *value ? 1 : misuse_value(COMMAND, texts[k].name, value, "a value is missing");
        }
    for (size_t k = 0; k < sizeof(times) / sizeof(times[0]); k++)
        if (ask_option(argc, argv, i, times[k].name, &value))
            return ask_time(value, times[k].least, "7d", (uint64_t *)(void *)((char *)o + times[k].at))
                       ? 1
                       : misuse_value(COMMAND, times[k].name, value, "write a time, as in 10m");
    if (strcmp(argv[*i], "--no-gateway") == 0)
        return o->no_gateway = true;
    if (strcmp(argv[*i], "--no-terminal") == 0)
        return o->no_terminal = true;
    return 0;
}

/* ---- what follows from them ---------------------------------------------------------------------------- */

static int no_folder(const char *folder)
{
    fprintf(stderr,
            "perdure supervise: the folder \"%s\" cannot be read: %s; --dir says where the agent works, and it "
            "must be "
            "a folder that you may read and write\n",
            folder, strerror(errno));
    return 2;
}

static int read_folder(struct options *o)
{
    if (!realpath(o->dir ? o->dir : ".", o->folder))
        return no_folder(o->dir ? o->dir : ".");
    int fd = open(o->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return no_folder(o->folder);
    close(fd);
    o->rules.folder = o->folder;
    return 0;
}

static int read_name(struct options *o)
{
    const char *env = getenv("AGENT_ID");
    const char *name = o->agent ? o->agent : env && *env ? env : NULL;
    if (name && (strlen(name) >= sizeof(o->name) || !checkpoint_agent_fine(span_str(name))))
        return misuse_value(COMMAND, "--agent", name, "write up to 99 letters, digits, '-', '_', '.' and ':'");
    if (name)
        snprintf(o->name, sizeof(o->name), "%s", name);
    else
        snprintf(o->name, sizeof(o->name), "agent-%08x", (unsigned)keep_command_hash(&o->rules));
    o->rules.name = o->name;
    return 0;
}

static int read_resume_args(struct options *o)
{
    struct span rest = span_str(o->resume_args);
    size_t at = 0;
    unsigned n = 0;
    while (rest.p && o->resume_args) {
        struct span word = span_trim(span_cut(&rest, ' '));
        if (!word.n)
            continue;
        if (n == RESUME_WORDS_MAX || at + word.n + 1 > sizeof(o->words))
            return misuse_value(COMMAND, "--resume-args", o->resume_args, "these are more than 32 words");
        o->resume_words[n++] = memcpy(o->words + at, word.p, word.n);
        o->words[at + word.n] = '\0';
        at += word.n + 1;
    }
    o->rules.resume_args = o->resume_words;
    return 0;
}

static int read_level(struct options *o)
{
    enum log_level level = o->rules.through ? LOG_WARN : LOG_INFO;
    if (o->level && !log_level_parse(span_str(o->level), &level))
        return misuse_value(COMMAND, "--log-level", o->level, "write error, warn, info or debug");
    log_threshold = level;
    return 0;
}

static int follow(struct options *o)
{
    uint64_t n;
    if (o->restarts) {
        if (!span_u64(span_str(o->restarts), &n) || n >= SUPERVISE_RESTARTS_MAX)
            return misuse_value(COMMAND, "--restarts", o->restarts, "write a number from 0 to 99");
        o->rules.rules.restarts = (unsigned)n;
    }
    if (!o->rules.checkpoint_ms)
        o->rules.checkpoint_ms = ask_checkpoint_ms(load_checkpoint_ms(NULL, KEEP_CHECKPOINT_MS));
    o->rules.key_variable = o->where.key_variable;
    if (!o->no_gateway) {
        o->rules.url = o->where.url;
        o->rules.base = o->where.base;
        o->rules.key = o->where.key;
    }
    o->rules.through = !o->no_terminal && terminal_ours() && isatty(STDOUT_FILENO);
    int status = read_folder(o);
    if (!status)
        status = read_name(o);
    if (!status)
        status = read_resume_args(o);
    return status ? status : read_level(o);
}

/* -1: go on. */
static int read_options(int argc, char **argv, struct options *o)
{
    *o = (struct options){0};
    ask_init(&o->where, COMMAND);
    keep_rules_default(&o->rules);
    o->rules.checkpoint_ms = 0;
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(supervise_help, stdout);
            return 0;
        }
        int at = i, taken = read_one(o, argc, argv, &i);
        if (taken == 2)
            return 2;
        if (!taken)
            return argv[at][0] == '-'
                       ? misuse_option(COMMAND, supervise_help, argv[at])
                       : misuse(COMMAND,
                                "not understood: \"%.200s\"; COMMAND stands behind --, as in: " COMMAND
                                " -- claude",
                                argv[at]);
    }
    if (i + 1 >= argc)
        return misuse(COMMAND, "no COMMAND is given: write it behind --, as in: " COMMAND " -- claude");
    if (argc - (o->keeper != NULL) > KEEP_WORDS_MAX)
        return misuse(COMMAND, "more words than it can hand on: write what it is to do into a file");
    o->rules.argv = (const char *const *)argv + i + 1;
    int status = follow(o);
    return status ? status : -1;
}

/* ---- the command ------------------------------------------------------------------------------------------ */

static int keep(const struct options *o)
{
    uint64_t readings, beats;
    struct span rest = span_str(o->keeper); /* "READINGS,BEATS" or "READINGS,BEATS,again" */
    if (!span_u64(span_cut(&rest, ','), &readings) || !span_u64(span_cut(&rest, ','), &beats) || readings < 3 ||
        beats < 3 || readings > INT_MAX || beats > INT_MAX)
        return misuse(COMMAND, "--keeper is its own");
    return (int)keeper_run(&o->rules, (int)readings, (int)beats, span_is(rest, "again"));
}

static int watch(const struct options *o, char **argv)
{
    int lock = -1;
    pd_err e = keep_hold(&o->rules, KEEP_LOCK, &lock);
    if (e) {
        if (e == PD_EXISTS)
            fprintf(stderr,
                    "perdure supervise: agent %s is supervised already, by another process (%s/.perdure is its "
                    "place): "
                    "end that one, or give this one another name with --agent NAME\n",
                    o->name, o->folder);
        else
            fprintf(
                stderr,
                "perdure supervise: where the agent is cannot be written down in %s/.perdure: %s; make the folder "
                "writable, or give another with --dir\n",
                o->folder, e == PD_IO ? strerror(errno) : pd_err_text(e));
        return KEEP_FAILED;
    }
    int status = (int)watchdog_run(&o->rules, argv);
    close(lock);
    return status;
}

int command_supervise(int argc, char **argv)
{
    struct options o;
    unsigned fds;
    int status = read_options(argc, argv, &o);
    if (status >= 0)
        return status;
    loop_process_init(&fds);
    if (net_process_init() == PD_NOMEM)
        return 1;
    return o.keeper ? keep(&o) : watch(&o, argv);
}
