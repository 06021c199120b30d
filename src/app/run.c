/* perdure run: hands a plan to a perdure (its own, when none runs), keeps workers at it, and shows how far it is. */
#include "app/ask.h"
#include "app/child.h"
#include "app/commands.h"
#include "app/run_gateway.h"
#include "app/run_plan.h"
#include "app/terminal.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/outlet.h"
#include "conf/misuse.h"
#include "net/net.h"
#include "parse/put.h"
#include "task/progress.h"
#include "task/runs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMMAND "perdure run"

static const char run_help[] =
    "usage: perdure run PLAN [OPTIONS]\n"
    "       perdure run --resume ID [OPTIONS]\n\n"
    "  --workers N      processes that do its tasks (default 1; 0: workers of other machines do)\n"
    "  --url URL        the perdure that keeps the run (default: the one that serves this configuration; when "
    "none does, one is started for "
    "the time of\n"
    "                   the run)\n"
    "  --key-env VAR    the variable that holds an admin key: from another machine one is needed\n"
    "  --config FILE    as for `perdure serve`\n"
    "  --name NAME      of the run: another name of the same plan is another run\n"
    "  --again          begins it anew, though it was done before\n"
    "  --dir FOLDER     where its tasks work (default: here)\n"
    "  --check          says whether the plan is well formed, shows its tasks, and ends\n"
    "  --detach         hands it over and ends: for --url, with workers of their own\n"
    "  --json           events as JSON lines, and the run as the last\n"
    "  --lease TIME     as for `perdure worker` (default 10s)\n"
    "  --log FILE       where its workers and its own perdure write what they do\n"
    "  --help\n\n"
    "The same command again goes on with the same run, whatever was killed meanwhile: what is done stays done.\n\n"
    "signals: TERM and INT end it when the tasks at hand have (a second one: at once); the run is gone on with "
    "when it is started again\n\n"
    "exit status: 0 the run is done; 1 it failed; 2 called wrongly; 3 it waits for a person (`perdure review`) or "
    "is paused; 4 stopped "
    "before its end\n";

enum {
    WORKERS_MAX = 64,
    LOOK_MS = 300,         /* how often the run is looked at */
    LOOK_SLOW_MS = 1000,   /* one of many tasks */
    TASKS_SHOWN_MAX = 500, /* of a larger run its counts alone are asked for */
    DEATHS_MAX = 3,        /* (g) of workers at one task within DEATHS_MS: more pause the run */
    DEATHS_MS = 10 * 60 * 1000,
    DEATHS_KEPT = 256,
    RESTART_FIRST_MS = 100,
    RESTART_MOST_MS = 5000,
    STOP_MS = 20 * 1000,
    READER_MS = 200, /* between looks whether its output is read again, or a signal came */
    LINES_SHOWN = 12,
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_WRONGLY = 2,
    EXIT_PERSON = 3,
    EXIT_STOPPED = 4,
};

struct options {
    struct ask_where where;
    const char *plan, *config, *name, *dir, *resume, *log, *lease, *key_env, *url;
    unsigned workers;
    bool again, check, detach, json;
};

/* A worker's end amid a task. */
struct death {
    char task[PLAN_ID_MAX + 1];
    uint64_t at_ms;
};
struct hand {
    struct child child;
    char name[80];
    uint64_t again_ms, pause_ms, began_ms;
    bool orphaned; /* it died; its task is given back when nothing of it runs any more */
    bool moved;    /* it was ended, for its perdure is at another address now */
    char url[ASK_URL_MAX + ASK_BASE_MAX];
};

struct run {
    struct options o;
    struct run_gateway gateway;
    struct hand hands[WORKERS_MAX];
    struct death deaths[DEATHS_KEPT];
    unsigned deaths_count;
    char id[RUN_ID_BYTES];
    int log_fd;
    unsigned lines; /* of the last picture in the terminal */
    int64_t seen;   /* events shown up to here */
    struct outlet screen;
    struct buf
        shown; /* not taken by its reader yet: what comes is not asked for meanwhile, and so nothing is lost */
    struct run_plan plan;
    sigset_t signals;
    unsigned stops;
    bool many;
    bool begun;  /* its id is known */
    bool unread; /* it was ended while its last words waited */
    bool old;    /* the run was there before: what happened then was shown then */
};

/* ---- options --------------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t at;
} texts[] = {{"--config", offsetof(struct options, config)},   {"--name", offsetof(struct options, name)},
             {"--dir", offsetof(struct options, dir)},         {"--resume", offsetof(struct options, resume)},
             {"--log", offsetof(struct options, log)},         {"--lease", offsetof(struct options, lease)},
             {"--key-env", offsetof(struct options, key_env)}, {"--url", offsetof(struct options, url)}};
static const struct {
    const char *name;
    size_t at;
} flags[] = {{"--again", offsetof(struct options, again)},
             {"--check", offsetof(struct options, check)},
             {"--detach", offsetof(struct options, detach)},
             {"--json", offsetof(struct options, json)}};

/* 0: taken; else the status to end with. */
static int read_word(struct options *o, int argc, char **argv, int *i)
{
    const char *value;
    uint64_t n;
    for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++)
        if (ask_option(argc, argv, i, texts[k].name, &value)) {
            *(const char **)(void *)((char *)o + texts[k].at) = value;
            return value && *value ? 0 : misuse_value(COMMAND, texts[k].name, value, "a value is missing");
        }
    for (size_t k = 0; k < sizeof(flags) / sizeof(flags[0]); k++)
        if (strcmp(argv[*i], flags[k].name) == 0) {
            *(bool *)(void *)((char *)o + flags[k].at) = true;
            return 0;
        }
    if (ask_option(argc, argv, i, "--workers", &value)) {
        if (!value || !span_u64(span_str(value), &n) || n > WORKERS_MAX)
            return misuse_value(COMMAND, "--workers", value, "write a number up to 64");
        o->workers = (unsigned)n;
        return 0;
    }
    if (argv[*i][0] == '-')
        return misuse_option(COMMAND, run_help, argv[*i]);
    if (o->plan)
        return misuse(COMMAND, "one plan at a time: \"%.200s\" is a second one", argv[*i]);
    o->plan = argv[*i];
    return 0;
}

static int read_options(int argc, char **argv, struct options *o)
{
    int status = 0;
    *o = (struct options){.workers = 1, .lease = "10s"};
    ask_init(&o->where, COMMAND);
    for (int i = 1; i < argc && !status; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(run_help, stdout);
            return 0;
        }
        status = read_word(o, argc, argv, &i);
    }
    if (status)
        return status;
    if (!o->plan == !o->resume)
        return misuse(COMMAND, o->plan ? "a plan or --resume ID, not both" : "run what? Write the name of a plan");
    o->where.said = o->url != NULL;
    if (o->url && !ask_url(&o->where, o->url))
        return misuse_value(COMMAND, "--url", o->url, "write it as in " ASK_URL_DEFAULT);
    if (o->key_env && !ask_key_env(&o->where, o->key_env))
        return misuse(COMMAND, "--key-env names \"%.200s\", which is not set", o->key_env);
    if (o->detach && !o->url)
        return misuse(COMMAND, "--detach needs --url: a perdure that goes on when this command has ended");
    return -1;
}

/* ---- asking ------------------------------------------------------------------------------------------------------------------- */

static bool ask_quietly(const struct run *r, const char *method, const char *path, struct span body,
                        struct ask_answer *ret)
{
    const struct ask_question q = {.method = method, .path = path, .body = body};
    ask(&r->o.where, &q, ret);
    if (ret->status == 200 && !ret->err)
        return true;
    buf_done(&ret->body);
    return false;
}

static bool wish(const struct run *r, const char *what, const char *why)
{
    char path[200];
    struct buf body = {0};
    struct ask_answer a = {0};
    struct put p = put_into(&body);
    snprintf(path, sizeof(path), "/api/runs/%s/%s", r->id, what);
    put_text(&p, "{\"why\":");
    put_json(&p, span_str(why));
    put_text(&p, "}");
    bool well = !p.err && ask_quietly(r, "POST", path, buf_span(&body), &a);
    if (well)
        buf_done(&a.body);
    buf_done(&body);
    return well;
}

/* ---- the run ------------------------------------------------------------------------------------------------------------------------ */

static bool take_id(struct run *r, struct span answer)
{
    struct span id = json_inner(json_get((struct json){JSON_OBJECT, answer}, "id"));
    if (!id.n || id.n >= sizeof(r->id))
        return false;
    snprintf(r->id, sizeof(r->id), "%.*s", SPAN_FMT(id));
    return true;
}

/* The perdure that keeps the run may be killed while it is asked: the next one is asked again. */
static bool is_reached(struct run *r, const struct ask_question *q, struct ask_answer *ret)
{
    enum { UNAVAILABLE = 503, AGAIN_MS = 50 };
    uint64_t until = clock_mono_ms() + RUN_GATEWAY_START_MS;
    ask(&r->o.where, q, ret);
    while (!r->o.where.said && (r->gateway.brief || !r->begun) &&
           (ret->status == 0 || ret->status == UNAVAILABLE) && clock_mono_ms() < until) {
        buf_done(&ret->body);
        run_gateway_look(&r->gateway);
        if (!run_gateway_pause(&r->gateway, AGAIN_MS))
            return false;
        ask(&r->o.where, q, ret);
    }
    if (ret->status / 100 == 2 && !ret->err && span_starts(buf_span(&ret->body), "{") &&
        !json_check(buf_span(&ret->body)))
        return true;
    buf_done(&ret->body);
    return ask_json(&r->o.where, q, ret); /* says what is wrong */
}

static bool hand_over(struct run *r)
{
    struct ask_answer a;
    const struct ask_question q = {
        .method = "POST", .path = r->plan.path, .body = buf_span(&r->plan.body), .key = r->plan.key};
    if (!is_reached(r, &q, &a))
        return false;
    bool well = take_id(r, buf_span(&a.body));
    r->old = a.status == 200;
    bool paused = json_is(json_get((struct json){JSON_OBJECT, buf_span(&a.body)}, "state"), "paused");
    buf_done(&a.body);
    if (!well)
        ask_no_perdure(&r->o.where);
    else if (paused)
        (void)wish(r, "resume", "started again");
    return well;
}

/* One that is over has nothing to be resumed: how it ended is shown, as when another has gone on with it meanwhile. */
static bool resume_run(struct run *r)
{
    char path[200];
    struct ask_answer a;
    const struct ask_question look = {.method = "GET", .path = path};
    const struct ask_question q = {.method = "POST", .path = path, .body = SPAN_LIT("{}")};
    snprintf(r->id, sizeof(r->id), "%s", r->o.resume);
    snprintf(path, sizeof(path), "/api/runs/%s?tasks=0", r->id);
    if (!is_reached(r, &look, &a))
        return false;
    bool paused = json_is(json_get((struct json){JSON_OBJECT, buf_span(&a.body)}, "state"), "paused");
    buf_done(&a.body);
    if (!paused)
        return true;
    snprintf(path, sizeof(path), "/api/runs/%s/resume", r->id);
    if (!is_reached(r, &q, &a))
        return false;
    buf_done(&a.body);
    return true;
}

static bool begin_run(struct run *r)
{
    return r->o.resume ? resume_run(r) : hand_over(r);
}

/* ---- workers ---------------------------------------------------------------------------------------------------------------------------- */

static void start_hand(struct run *r, struct hand *h)
{
    const char *words[20];
    unsigned n = 0;
    snprintf(h->url, sizeof(h->url), "%s%s", r->o.where.url, r->o.where.base);
    const char *always[] = {"worker", "--url", h->url, "--run", r->id, "--name", h->name, "--lease", r->o.lease};
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        words[n++] = always[i];
    if (r->o.dir) {
        words[n++] = "--dir";
        words[n++] = r->o.dir;
    }
    if (r->o.key_env) {
        words[n++] = "--key-env";
        words[n++] = r->o.key_env;
    }
    words[n] = NULL;
    h->began_ms = clock_mono_ms();
    if (child_start(words, false, r->log_fd, &h->child) != PD_OK)
        h->again_ms = h->began_ms + RESTART_MOST_MS;
}

static void start_hands(struct run *r)
{
    for (unsigned i = 0; i < r->o.workers; i++) {
        struct hand *h = &r->hands[i];
        snprintf(h->name, sizeof(h->name), "run-%d-%u", (int)getpid(), i + 1);
        h->child.out = -1;
        start_hand(r, h);
    }
}

/* More than DEATHS_MAX within DEATHS_MS. */
static bool dies_too_often(struct run *r, struct span task)
{
    uint64_t now = clock_mono_ms();
    unsigned n = 0;
    struct death *d = &r->deaths[r->deaths_count++ % DEATHS_KEPT];
    snprintf(d->task, sizeof(d->task), "%.*s", SPAN_FMT(task));
    d->at_ms = now;
    for (unsigned i = 0; i < DEATHS_KEPT && i < r->deaths_count; i++)
        n += span_is(task, r->deaths[i].task) && now - r->deaths[i].at_ms <= DEATHS_MS;
    return n > DEATHS_MAX;
}

/* What a dead worker of ours had is given back: nothing of it runs any more, so nobody needs to wait for its lease. */
static void give_back(struct run *r, const char *task, int64_t epoch)
{
    struct buf body = {0};
    struct ask_answer a = {0};
    struct put p = put_into(&body);
    put_text(&p, "{\"run\":");
    put_json(&p, span_str(r->id));
    put_text(&p, ",\"task\":");
    put_json(&p, span_str(task));
    put_printf(&p, ",\"epoch\":%lld,\"outcome\":\"released\"}", (long long)epoch);
    if (!p.err && ask_quietly(r, "POST", "/api/work/finish", buf_span(&body), &a))
        buf_done(&a.body);
    buf_done(&body);
}

static void pause_run(struct run *r, struct span task)
{
    char why[300];
    snprintf(why, sizeof(why),
             "more than %d workers died at task %.*s within %d minutes: see to it, then start it again",
             DEATHS_MAX, SPAN_FMT(task), DEATHS_MS / 60000);
    (void)wish(r, "pause", why);
}

/* PD_OK also when it had none. False: it could not be asked now. */
static bool bury(struct run *r, const struct hand *h)
{
    char path[200], task[PLAN_ID_MAX + 1];
    struct ask_answer a;
    struct json_walk w;
    struct json t;
    int64_t epoch;
    snprintf(path, sizeof(path), "/api/runs/%s", r->id);
    if (!ask_quietly(r, "GET", path, SPAN_NONE, &a))
        return false;
    json_walk_init(&w, json_get((struct json){JSON_OBJECT, buf_span(&a.body)}, "tasks"));
    while (json_walk_next(&w, NULL, &t)) {
        struct span id = json_inner(json_get(t, "id"));
        if (!json_is(json_get(t, "worker"), h->name) || !json_is(json_get(t, "state"), "running") ||
            !json_i64(json_get(t, "epoch"), &epoch))
            continue;
        snprintf(task, sizeof(task), "%.*s", SPAN_FMT(id));
        if (!h->moved && dies_too_often(r, id))
            pause_run(r, id);
        give_back(r, task, epoch);
    }
    buf_done(&a.body);
    return true;
}

static bool strangers(const struct run *r)
{
    const struct child *known[WORKERS_MAX + 1];
    unsigned n = 0;
    known[n++] = &r->gateway.child;
    for (unsigned i = 0; i < r->o.workers; i++)
        known[n++] = &r->hands[i].child;
    return child_strangers(known, n);
}

static void look_after_hand(struct run *r, struct hand *h)
{
    int status;
    uint64_t now = clock_mono_ms();
    if (child_ended(&h->child, &status)) {
        bool badly = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
        h->orphaned = badly;
        if (now - h->began_ms > DEATHS_MS)
            h->pause_ms = 0;
        h->pause_ms = h->pause_ms ? h->pause_ms * 2 : RESTART_FIRST_MS;
        if (h->pause_ms > RESTART_MOST_MS)
            h->pause_ms = RESTART_MOST_MS;
        h->again_ms = now + h->pause_ms;
    }
    if (h->orphaned && !strangers(r) && bury(r, h))
        h->orphaned = h->moved = false;
    if (!h->child.pid && !h->orphaned && !r->stops && now >= h->again_ms)
        start_hand(r, h);
}

/* Whom it asks is gone, and the one who took its place could not have its address: what it does now nobody would hear of. */
static void move_hand(const struct run *r, struct hand *h)
{
    char url[sizeof(h->url)];
    snprintf(url, sizeof(url), "%s%s", r->o.where.url, r->o.where.base);
    if (!h->child.pid || h->moved || strcmp(url, h->url) == 0)
        return;
    h->moved = true;
    child_signal(&h->child, SIGKILL);
}

static void look_after_all(struct run *r)
{
    if (r->gateway.child.pid)
        run_gateway_look(&r->gateway);
    for (unsigned i = 0; i < r->o.workers; i++) {
        move_hand(r, &r->hands[i]);
        look_after_hand(r, &r->hands[i]);
    }
}

/* ---- showing ------------------------------------------------------------------------------------------------------------------------------ */

/* False: its reader does not take all of it now. */
static bool show(struct run *r)
{
    struct span s = buf_span(&r->shown);
    if (r->screen.kind == OUTLET_TAKES && s.n) { /* main() says when a disk is full */
        fwrite(s.p, 1, s.n, stdout);
        fflush(stdout);
        s.n = 0;
    }
    while (s.n) {
        ssize_t n = outlet_write(&r->screen, s);
        if (n == 0)
            break;
        s = n > 0 ? span_from(s, (size_t)n) : SPAN_NONE; /* nobody reads it any more */
    }
    buf_take(&r->shown, buf_size(&r->shown) - s.n);
    return s.n == 0;
}

/* At its end it waits for its reader, as any program; a signal ends that. */
static void show_all(struct run *r)
{
    const struct timespec none = {0, 0};
    while (!show(r)) {
        int signum = sigtimedwait(&r->signals, NULL, &none);
        if (signum == SIGTERM || signum == SIGINT || signum == SIGHUP) {
            buf_clear(&r->shown);
            r->unread = true;
        } else {
            (void)outlet_wait(&r->screen, READER_MS);
        }
    }
}

static bool is_terminal(const struct run *r)
{
    return !r->o.json && terminal_is();
}

static struct progress_look look_now(const struct run *r)
{
    struct winsize w = {0};
    bool terminal = is_terminal(r);
    if (terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) != 0)
        w.ws_col = 80;
    unsigned rows = w.ws_row > 4 ? w.ws_row - 3u : LINES_SHOWN;
    return (struct progress_look){.utf8 = terminal_is_utf8(),
                                  .colour = terminal && terminal_has_colour(),
                                  .width = terminal ? w.ws_col : 0,
                                  .lines = rows < LINES_SHOWN ? rows : LINES_SHOWN,
                                  .now_ms = clock_wall_ms()};
}

/* Over the last picture, line by line. */
static void draw(struct run *r, struct span run)
{
    const struct progress_look look = look_now(r);
    struct buf out = {0};
    unsigned lines = 0;
    if (progress_run(run, &look, &out, &lines) == PD_OK) {
        struct span rest = buf_span(&out);
        pd_err e = r->lines ? buf_printf(&r->shown, "\033[%uA", r->lines) : PD_OK;
        for (unsigned i = 0; i < lines && !e; i++)
            e = buf_printf(&r->shown, "\r\033[K%.*s\n", SPAN_FMT(span_cut(&rest, '\n')));
        (void)!buf_puts(&r->shown, "\033[J");
        r->lines = lines;
    }
    buf_done(&out);
}

/* Without memory it is asked for again. */
static pd_err show_event(struct run *r, struct span line)
{
    struct buf out = {0};
    int64_t seq;
    if (json_check(line) != PD_OK || !json_i64(json_get((struct json){JSON_OBJECT, line}, "seq"), &seq) ||
        seq <= r->seen)
        return PD_OK;
    const struct progress_look look = look_now(r);
    pd_err e = PD_OK;
    if (r->o.json)
        e = buf_printf(&r->shown, "%.*s\n", SPAN_FMT(line));
    else if (!r->old && progress_event(line, &look, &out) == PD_OK && buf_size(&out))
        e = buf_add(&r->shown, buf_span(&out));
    if (!e)
        r->seen = seq;
    buf_done(&out);
    return e;
}

/* True: there may be more. */
static bool show_some_events(struct run *r)
{
    char path[200];
    struct ask_answer a;
    int64_t before = r->seen;
    pd_err e = PD_OK;
    snprintf(path, sizeof(path), "/api/runs/%s/events?after=%lld", r->id, (long long)r->seen);
    if (!ask_quietly(r, "GET", path, SPAN_NONE, &a))
        return false;
    struct span rest = buf_span(&a.body);
    while (!e && rest.p && rest.n)
        e = show_event(r, span_trim(span_cut(&rest, '\n')));
    buf_done(&a.body);
    return !e && r->seen != before;
}

static void show_events(struct run *r, bool last)
{
    while (show_some_events(r)) {
        if (last)
            show_all(r);
        if (r->unread || !show(r))
            break;
    }
    r->old = false;
}

/* ---- until its end -------------------------------------------------------------------------------------------------------------------------- */

/* -1: it goes on. */
static int judge(struct json run)
{
    struct json state = json_get(run, "state"), counts = json_get(run, "counts");
    int64_t ready = 0, running = 0, review = 0, ambiguous = 0;
    if (json_is(state, "done"))
        return EXIT_DONE;
    if (json_is(state, "failed") || json_is(state, "cancelled"))
        return EXIT_FAILED;
    (void)json_i64(json_get(counts, "ready"), &ready);
    (void)json_i64(json_get(counts, "running"), &running);
    (void)json_i64(json_get(counts, "review"), &review);
    (void)json_i64(json_get(counts, "ambiguous"), &ambiguous);
    if (running)
        return -1;
    if (json_is(state, "paused"))
        return EXIT_PERSON;
    return !ready && !ambiguous && review ? EXIT_PERSON : -1;
}

static int look(struct run *r, bool last)
{
    char path[200];
    struct ask_answer a;
    snprintf(path, sizeof(path), "/api/runs/%s%s", r->id, r->many || (!is_terminal(r) && !last) ? "?tasks=0" : "");
    const struct ask_question q = {.method = "GET", .path = path};
    if (!(last ? is_reached(r, &q, &a) : ask_quietly(r, "GET", path, SPAN_NONE, &a))) {
        run_gateway_look(&r->gateway); /* it will be back: a run's is started again, another is its people's */
        return -1;
    }
    struct json run = {JSON_OBJECT, span_trim(buf_span(&a.body))};
    int status = json_check(run.raw) == PD_OK ? judge(run) : -1;
    if (last)
        show_all(r);
    if (show(r) && !r->unread) {
        if (is_terminal(r))
            draw(r, run.raw);
        else
            show_events(r, last);
    }
    if (last && r->o.json)
        (void)!buf_printf(&r->shown, "%.*s\n", SPAN_FMT(run.raw));
    (void)show(r);
    buf_done(&a.body);
    return status;
}

static void count_tasks(struct run *r)
{
    char path[200];
    struct ask_answer a;
    struct json_walk w;
    struct json v;
    int64_t n, total = 0;
    snprintf(path, sizeof(path), "/api/runs/%s?tasks=0", r->id);
    if (!ask_quietly(r, "GET", path, SPAN_NONE, &a))
        return;
    json_walk_init(&w, json_get((struct json){JSON_OBJECT, buf_span(&a.body)}, "counts"));
    while (json_walk_next(&w, NULL, &v))
        total += json_i64(v, &n) ? n : 0;
    r->many = total > TASKS_SHOWN_MAX;
    buf_done(&a.body);
}

static int stopped(struct run *r)
{
    r->stops++;
    if (r->stops == 1)
        log_say("perdure run: ends when the tasks at hand have; again: at once");
    for (unsigned i = 0; i < r->o.workers; i++)
        child_signal(&r->hands[i].child, SIGTERM);
    return -1;
}

static bool hands_rest(const struct run *r)
{
    for (unsigned i = 0; i < r->o.workers; i++)
        if (r->hands[i].child.pid)
            return false;
    return true;
}

static int follow(struct run *r)
{
    int status = -1;
    uint64_t due = 0;
    while (status < 0) {
        uint64_t now = clock_mono_ms();
        look_after_all(r);
        if (now >= due) {
            status = look(r, false);
            due = now + (r->many ? LOOK_SLOW_MS : LOOK_MS);
        }
        if (r->stops && hands_rest(r))
            return status < 0 ? EXIT_STOPPED : status;
        if (status >= 0)
            break;
        const struct timespec t = {0, (r->many ? LOOK_SLOW_MS : LOOK_MS) * 1000 * 1000L - 1};
        int signum = sigtimedwait(&r->signals, NULL, &t);
        if (signum == SIGTERM || signum == SIGINT || signum == SIGHUP)
            stopped(r);
    }
    return status;
}

static pd_err put_end(const struct run *r, int status, struct buf *out)
{
    pd_err e;
    if (status == EXIT_DONE)
        e = buf_printf(out, "run %s is done\n", r->id);
    else if (status == EXIT_FAILED)
        e = buf_printf(out, "run %s failed: perdure runs show %s\n", r->id, r->id);
    else if (status == EXIT_PERSON)
        e = buf_printf(out, "run %s waits for a person: perdure review, perdure runs show %s\n", r->id, r->id);
    else
        e = buf_printf(out, "run %s was stopped before its end; this goes on with it: perdure run %s%s\n", r->id,
                       r->o.plan ? r->o.plan : "--resume ", r->o.plan ? "" : r->id);
    if (!e && r->gateway.child.pid && (status == EXIT_FAILED || status == EXIT_PERSON))
        e = buf_puts(out, "(its perdure ended with it: start one with `perdure serve`)\n");
    return e;
}

static void say_end(struct run *r, int status)
{
    if (r->unread)
        return;
    if (!r->o.json)
        (void)!put_end(r, status, &r->shown);
    show_all(r);
}

static void end(struct run *r)
{
    for (unsigned i = 0; i < r->o.workers; i++)
        child_signal(&r->hands[i].child, SIGTERM);
    for (unsigned i = 0; i < r->o.workers; i++)
        child_wait(&r->hands[i].child, STOP_MS);
    run_gateway_end(&r->gateway, STOP_MS);
}

static void open_log(struct run *r)
{
    const char *path = r->o.log         ? r->o.log
                       : is_terminal(r) ? "/dev/null"
                                        : NULL; /* a picture and log lines do not go together */
    r->log_fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (r->o.log && r->log_fd < 0)
        fprintf(stderr, "perdure run: %s cannot be written: %s\n", path, strerror(errno));
}

static void block_signals(struct run *r)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    sigemptyset(&r->signals);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaddset(&r->signals, signals[i]);
    sigprocmask(SIG_BLOCK, &r->signals, NULL);
}

static int whole_run(struct run *r)
{
    int status = EXIT_FAILED;
    run_gateway_init(&r->gateway, &r->o.where, r->o.config, &r->signals);
    r->gateway.log_fd = r->log_fd;
    r->gateway.said_log = r->o.log != NULL;
    if (run_gateway_find(&r->gateway) && begin_run(r)) {
        r->begun = true;
        if (r->o.detach) {
            printf("%s\n", r->id);
            return EXIT_DONE;
        }
        if (!r->o.json)
            (void)!buf_printf(&r->shown, "run %s at %s\n", r->id, r->o.where.url);
        count_tasks(r);
        start_hands(r);
        status = follow(r);
        (void)look(r, true);
        say_end(r, status);
    }
    end(r);
    return status;
}

static int say_checked(const struct run *r)
{
    if (!r->o.plan)
        return misuse(COMMAND, "--check is for a plan");
    if (r->plan.tasks)
        printf("%s is fine: %u task%s\n", r->o.plan, r->plan.tasks, r->plan.tasks == 1 ? "" : "s");
    else
        printf("%s is fine: a model makes its tasks\n", r->o.plan);
    struct buf out = {0};
    const struct progress_look look = {.width = terminal_width()};
    if (progress_plan(buf_span(&r->plan.body), &look, &out) == PD_OK)
        fwrite(buf_span(&out).p, 1, buf_size(&out), stdout);
    buf_done(&out);
    return EXIT_DONE;
}

int command_run(int argc, char **argv)
{
    struct run *r = mem_zalloc(sizeof(*r));
    unsigned fds;
    if (!r)
        return EXIT_FAILED;
    int status = read_options(argc, argv, &r->o);
    loop_process_init(&fds);
    if (status < 0 && net_process_init() == PD_NOMEM) /* before anything is hashed */
        status = EXIT_FAILED;
    if (status < 0 && r->o.plan && !run_plan_read(r->o.plan, r->o.name, r->o.dir, r->o.again, &r->plan))
        status = EXIT_WRONGLY;
    if (status < 0 && r->o.check)
        status = say_checked(r);
    if (status < 0) {
        open_log(r);
        block_signals(r);
        child_adopt();
        outlet_open(&r->screen, STDOUT_FILENO);
        status = whole_run(r);
        outlet_close(&r->screen);
    }
    buf_done(&r->shown);
    run_plan_done(&r->plan);
    mem_free(r);
    return status;
}
