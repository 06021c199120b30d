/* perdure worker: takes tasks from a perdure, or from the database itself, and does them. */
#include "task/worker.h"
#include "app/ask.h"
#include "app/commands.h"
#include "app/load.h"
#include "base/log.h"
#include "conf/conf.h"
#include "conf/misuse.h"
#include "net/net.h"
#include "task/work_http.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char worker_help[] =
    "usage: perdure worker [OPTIONS]\n\n"
    "  --url URL        where perdure runs: tasks, models and checkpoints (default: the one that holds the state "
    "folder of this configuration, else " ASK_URL_DEFAULT ")\n"
    "  --key-env VAR    the variable that holds an admin key: from another machine one is needed\n"
    "  --database URL   postgres://...: takes its tasks from there; models are still asked at --url\n"
    "  --run ID         only tasks of this run\n"
    "  --kinds LIST     only tasks of these kinds: llm,command,agent\n"
    "  --name NAME      what it is called (default: host and process id)\n"
    "  --dir FOLDER     where tasks work (default: here)\n"
    "  --lease TIME     without a sign of life for so long its task is given to another (default 30s)\n"
    "  --drain TIME     how long the task at hand may go on after SIGTERM (default 10s)\n"
    "  --idle TIME      ends when there was no task for so long (default: never)\n"
    "  --help\n\n"
    "Takes one task after the other from the runs of a perdure, does it, and tells what came of it. Start as many "
    "as you like, on as many "
    "machines.\n\n"
    "signals: TERM and INT end it when its task has; a second one gives the task back at once, as does the end of "
    "--drain\n\n"
    "exit status: 0; 1 nobody was to be reached; 2 called wrongly\n";

struct options {
    struct ask_where where;
    const char *database, *dir, *run;
    char name[WORKER_NAME_BYTES];
    unsigned kinds;
    uint64_t lease_ms, drain_ms, idle_ms;
};

#define COMMAND "perdure worker"

static bool read_kinds(const char *text, unsigned *ret)
{
    struct span rest = span_str(text);
    *ret = 0;
    while (rest.p) {
        struct span word = span_trim(span_cut(&rest, ','));
        int k = 0;
        while (k < TASK_KIND_COUNT && !span_is(word, task_kind_name(k)))
            k++;
        if (k == TASK_KIND_COUNT)
            return false;
        *ret |= 1u << k;
    }
    return *ret != 0;
}

static const struct {
    const char *name;
    size_t at;
} texts[] = {{"--database", offsetof(struct options, database)},
             {"--dir", offsetof(struct options, dir)},
             {"--run", offsetof(struct options, run)}};
static const struct {
    const char *name, *least;
    size_t at;
} times[] = {{"--lease", "1s", offsetof(struct options, lease_ms)},
             {"--drain", "0s", offsetof(struct options, drain_ms)},
             {"--idle", "0s", offsetof(struct options, idle_ms)}};

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
            return ask_time(value, times[k].least, "1h", (uint64_t *)(void *)((char *)o + times[k].at))
                       ? 1
                       : misuse_value(COMMAND, times[k].name, value, "write a time up to 1h, as in 30s");
    if (ask_option(argc, argv, i, "--kinds", &value))
        return value && read_kinds(value, &o->kinds)
                   ? 1
                   : misuse_value(COMMAND, "--kinds", value, "write kinds of tasks, as in llm,command,agent");
    if (ask_option(argc, argv, i, "--name", &value)) {
        if (!value || !*value || strlen(value) >= sizeof(o->name))
            return misuse_value(COMMAND, "--name", value, "write a name of at most 99 bytes");
        snprintf(o->name, sizeof(o->name), "%s", value);
        return 1;
    }
    return 0;
}

static int read_options(int argc, char **argv, struct options *o)
{
    char host[60] = "worker";
    *o = (struct options){0};
    ask_init(&o->where, COMMAND);
    (void)gethostname(host, sizeof(host) - 1);
    snprintf(o->name, sizeof(o->name), "%s-%d", host, (int)getpid());
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(worker_help, stdout);
            return 0;
        }
        int at = i, taken = read_one(o, argc, argv, &i);
        if (taken == 2)
            return 2;
        if (!taken)
            return argv[at][0] == '-' ? misuse_option(COMMAND, worker_help, argv[at])
                                      : misuse_word(COMMAND, argv[at], NULL, 0);
    }
    /* One process has a SQLite file: a worker that opened another would wait in it for ever. */
    if (o->database && !span_starts(span_str(o->database), "postgres://") &&
        !span_starts(span_str(o->database), "postgresql://"))
        return misuse(COMMAND,
                      "--database is \"%.200s\": write postgres://USER@HOST/NAME; with SQLite, ask the perdure "
                      "that has it with --url",
                      o->database);
    return -1;
}

/* ---- signals: a thread waits for them, so that no handler needs a global --------------------------------------------- */

struct listener {
    pthread_t thread;
    struct task_worker *worker;
    sigset_t set;
    _Atomic int over;
};

static void *listen_for_signals(void *ctx)
{
    struct listener *l = ctx;
    int signum;
    while (sigwait(&l->set, &signum) == 0 && !atomic_load(&l->over)) {
        LOG(NULL, LOG_INFO, "worker.signal", "signal=%d", signum);
        worker_stop(l->worker);
    }
    return NULL;
}

static void block_signals(struct listener *l)
{
    sigemptyset(&l->set);
    sigaddset(&l->set, SIGTERM);
    sigaddset(&l->set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &l->set, NULL);
}

/* ---- working ----------------------------------------------------------------------------------------------------------- */

static pd_err open_queue(const struct options *o, struct work_queue **ret)
{
    char why[400] = "";
    pd_err e;
    if (o->database) {
        struct work_db_rules r;
        work_db_rules_default(&r);
        e = work_db_open(o->database, &r, ret, why, sizeof(why));
    } else {
        const struct work_http_rules r = {.url = o->where.url, .base = o->where.base, .key = o->where.key};
        e = work_http_open(&r, ret);
    }
    if (e)
        fprintf(stderr, "perdure worker: %s\n", why[0] ? why : pd_err_text(e));
    return e;
}

static int say_end(const struct options *o, struct work_queue *q, pd_err e, const struct worker_done *done)
{
    char why[400] = "";
    if (!e) {
        LOG(NULL, LOG_INFO, "worker.end", "tasks=%u failed=%u", done->tasks, done->failed);
        return 0;
    }
    if (!o->database)
        work_http_why(q, why, sizeof(why));
    fprintf(stderr, "perdure worker: no task from %s: %s%s\n", o->database ? "the database" : o->where.url,
            why[0] ? why : pd_err_text(e),
            e == PD_UNSUPPORTED ? "; name the variable that holds an admin key with --key-env" : "");
    return 1;
}

/* 0: what the perdure says that gives the tasks. Beside a database there is none to say it. */
static uint64_t checkpoint_ms(const struct options *o)
{
    uint64_t said = ask_checkpoint_ms(0);
    return said || !o->database ? said : load_checkpoint_ms(NULL, WORKER_CHECKPOINT_MS);
}

static int work(const struct options *o, struct work_queue *q, struct listener *l)
{
    struct worker_done done = {0};
    const struct worker_rules r = {.queue = q,
                                   .name = o->name,
                                   .run = o->run,
                                   .kinds = o->kinds,
                                   .lease_ms = o->lease_ms,
                                   .drain_ms = o->drain_ms,
                                   .idle_ms = o->idle_ms,
                                   .url = o->where.url,
                                   .base = o->where.base,
                                   .key = o->where.key,
                                   .key_variable = o->where.key_variable,
                                   .dir = o->dir,
                                   .checkpoint_ms = checkpoint_ms(o)};
    pd_err e = worker_new(&r, &l->worker);
    if (!e && pthread_create(&l->thread, NULL, listen_for_signals, l) != 0) {
        l->worker = worker_free(l->worker);
        e = PD_NOMEM;
    }
    if (e) {
        fprintf(stderr, "perdure worker: cannot start: %s\n", pd_err_text(e));
        return 1;
    }
    LOG(NULL, LOG_INFO, "worker.start", "name=%s", o->name);
    e = worker_run(l->worker, &done);
    int status = say_end(o, q, e, &done);
    atomic_store(&l->over, 1);
    pthread_kill(l->thread, SIGINT); /* which it waits for */
    pthread_join(l->thread, NULL);
    worker_free(l->worker);
    return status;
}

int command_worker(int argc, char **argv)
{
    struct options o;
    struct listener l = {.worker = NULL};
    struct work_queue *q = NULL;
    unsigned fds;
    int status = read_options(argc, argv, &o);
    if (status >= 0)
        return status;
    block_signals(&l); /* before there is any thread: all have it so */
    loop_process_init(&fds);
    if (net_process_init() != PD_OK)
        return 1;
    ask_find(&o.where, NULL);
    if (open_queue(&o, &q) != PD_OK)
        return 1;
    status = work(&o, q, &l);
    work_queue_free(q);
    return status;
}
