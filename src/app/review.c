/* perdure review, perdure runs: what waits for a person, and what runs there are. */
#include "app/ask.h"
#include "app/commands.h"
#include "app/terminal.h"
#include "base/clock.h"
#include "conf/misuse.h"
#include "net/net.h"
#include "parse/put.h"
#include "task/plan.h"
#include "task/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char review_help[] =
    "usage: perdure review [list] [OPTIONS]\n"
    "       perdure review show RUN TASK\n"
    "       perdure review retry|accept|drop RUN TASK [OPTIONS]\n"
    "       perdure review edit RUN TASK --value JSON [OPTIONS]\n\n"
    "  --value JSON   edit: the task's output; retry: members that replace those of the task\n"
    "  --who NAME     who decides (default: $USER)\n"
    "  --url URL      where perdure runs (default: the one that holds the state folder of this configuration, "
    "else " ASK_URL_DEFAULT ")\n"
    "  --key-env VAR  the variable that holds an admin key: from another machine one is needed\n"
    "  --json         as the API answers\n"
    "  --help\n\n"
    "Tasks wait for a person when the plan says so, when they failed too often, when nothing was checked, and "
    "when nobody knows whether an "
    "effect was made.\n"
    "retry: once more, with all its tries; accept: its output is good; edit: this is its output; drop: not done, "
    "nor what needs it.\n\n"
    "exit status: 0; 1 it could not be asked, or does not wait for a person; 2 called wrongly\n";

static const char runs_help[] =
    "usage: perdure runs [list] [OPTIONS]\n"
    "       perdure runs show|events|pause|resume|cancel RUN [OPTIONS]\n\n"
    "  --why TEXT     pause, cancel: said with the run\n"
    "  --limit N      list: so many, the newest\n"
    "  --url URL      where perdure runs (default: the one that holds the state folder of this configuration, "
    "else " ASK_URL_DEFAULT ")\n"
    "  --key-env VAR  the variable that holds an admin key: from another machine one is needed\n"
    "  --json         as the API answers\n"
    "  --help\n\n"
    "Shows the runs of a perdure, and stops and goes on with them. A paused run begins no task; `perdure run "
    "PLAN` "
    "begins one.\n\n"
    "exit status: 0; 1 it could not be asked, or has no such run; 2 called wrongly\n";

enum { WORDS_MAX = 3 };

struct wish {
    struct ask_where where;
    const char *help, *words[WORDS_MAX], *value, *who, *why, *limit;
    unsigned count;
    bool json;
};

static int read_one(struct wish *w, int argc, char **argv, int *i)
{
    static const struct {
        const char *name;
        size_t at;
    } texts[] = {{"--value", offsetof(struct wish, value)},
                 {"--who", offsetof(struct wish, who)},
                 {"--why", offsetof(struct wish, why)},
                 {"--limit", offsetof(struct wish, limit)}};
    const char *value;
    int asked = ask_where_option(&w->where, argc, argv, i);
    if (asked)
        return asked == 1 ? -1 : 2;
    for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++)
        if (misuse_knows(w->help, texts[k].name) && ask_option(argc, argv, i, texts[k].name, &value)) {
            *(const char **)(void *)((char *)w + texts[k].at) = value;
            return value ? -1 : misuse_value(w->where.command, texts[k].name, NULL, NULL);
        }
    if (strcmp(argv[*i], "--json") == 0)
        w->json = true;
    else if (argv[*i][0] == '-')
        return misuse_option(w->where.command, w->help, argv[*i]);
    else if (w->count == WORDS_MAX)
        return misuse_word(w->where.command, argv[*i], NULL, 0);
    else
        w->words[w->count++] = argv[*i];
    return -1;
}

/* -1: read. */
static int read_options(int argc, char **argv, const char *command, const char *help, struct wish *w)
{
    int status = -1;
    *w = (struct wish){.help = help, .who = getenv("USER")};
    ask_init(&w->where, command);
    for (int i = 1; i < argc && status < 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(help, stdout);
            return 0;
        }
        status = read_one(w, argc, argv, &i);
    }
    uint64_t n;
    if (status < 0 && w->limit && (!span_u64(span_str(w->limit), &n) || n == 0))
        return misuse_value(command, "--limit", w->limit, "write a number from 1 on");
    if (status < 0 && net_process_init() == PD_NOMEM)
        return 1;
    if (status < 0)
        ask_find(&w->where, NULL);
    return status;
}

typedef pd_err view_fn(struct span answer, const struct progress_look *look, struct buf *out);

/* `view` NULL: as JSON. */
static int show(const struct wish *w, const char *path, view_fn *view)
{
    struct ask_answer a;
    struct buf out = {0};
    const struct ask_question q = {.path = path};
    const struct progress_look look = {.colour = terminal_has_colour(), .lines = 1000, .now_ms = clock_wall_ms()};
    if (!ask_json(&w->where, &q, &a))
        return 1;
    struct span answer = buf_span(&a.body);
    pd_err e =
        w->json || !view ? buf_printf(&out, "%.*s\n", SPAN_FMT(span_trim(answer))) : view(answer, &look, &out);
    if (e == PD_INVALID)
        ask_no_perdure(&w->where);
    else if (!e)
        fwrite(buf_span(&out).p, 1, buf_size(&out), stdout);
    buf_done(&out);
    buf_done(&a.body);
    return e ? 1 : 0;
}

static int post(const struct wish *w, const char *path, struct span body)
{
    struct ask_answer a;
    const struct ask_question q = {.method = "POST", .path = path, .body = body};
    if (!ask_json(&w->where, &q, &a))
        return 1;
    if (w->json)
        printf("%.*s\n", SPAN_FMT(span_trim(buf_span(&a.body))));
    else
        printf("%.*s\n", SPAN_FMT(json_inner(json_get((struct json){JSON_OBJECT, buf_span(&a.body)}, "state"))));
    buf_done(&a.body);
    return 0;
}

/* What the first word may be, `list` first; -1: it is none of them. */
static int find_word(const struct wish *w, const char *const *words, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (!w->count || strcmp(w->words[0], words[i]) == 0)
            return (int)i;
    return -1;
}

static bool is_name(const char *s)
{
    return *s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@") == strlen(s) &&
           strlen(s) <= PLAN_ID_MAX;
}

/* ---- review --------------------------------------------------------------------------------------------------------------------- */

static int decide(const struct wish *w)
{
    struct buf body = {0};
    struct put p = put_into(&body);
    int status = 1;
    put_text(&p, "{\"run\":");
    put_json(&p, span_str(w->words[1]));
    put_text(&p, ",\"task\":");
    put_json(&p, span_str(w->words[2]));
    put_text(&p, ",\"decision\":");
    put_json(&p, span_str(w->words[0]));
    if (w->who && *w->who) {
        put_text(&p, ",\"who\":");
        put_json(&p, span_str(w->who));
    }
    if (w->value) {
        put_text(&p, ",\"value\":");
        put_text(&p, w->value);
    }
    put_text(&p, "}");
    if (!p.err)
        status = post(w, "/api/reviews", buf_span(&body));
    buf_done(&body);
    return status;
}

static int review_word(const struct wish *w)
{
    static const char *const words[] = {"list", "show", "retry", "accept", "drop", "edit"};
    enum { WORDS = sizeof(words) / sizeof(words[0]), LIST = 0, SHOW, EDIT = WORDS - 1 };
    const char *command = w->where.command;
    char path[400];
    int word = find_word(w, words, WORDS);
    if (word < 0)
        return misuse_word(command, w->words[0], words, WORDS);
    if (word == LIST)
        return w->count < 2 ? show(w, "/api/reviews", progress_reviews)
                            : misuse_word(command, w->words[1], NULL, 0);
    if (w->count != 3 || !is_name(w->words[1]) || !is_name(w->words[2]))
        return misuse(command, "%s which task? Write its run and its id behind it", words[word]);
    if (word == SHOW) {
        snprintf(path, sizeof(path), "/api/runs/%s/tasks/%s", w->words[1], w->words[2]);
        return show(w, path, NULL);
    }
    if (w->value && json_check(span_str(w->value)) != PD_OK)
        return misuse_value(command, "--value", w->value, "write JSON (a text needs quotes of its own)");
    if (word == EDIT && !w->value)
        return misuse(command, "edit needs --value JSON");
    return decide(w);
}

int command_review(int argc, char **argv)
{
    struct wish w;
    int status = read_options(argc, argv, "perdure review", review_help, &w);
    return status < 0 ? review_word(&w) : status;
}

/* ---- runs ------------------------------------------------------------------------------------------------------------------------- */

static pd_err print_piece(void *ctx, struct span bytes)
{
    (void)ctx;
    return fwrite(bytes.p, 1, bytes.n, stdout) == bytes.n ? PD_OK : PD_IO;
}

static int events(const struct wish *w)
{
    struct ask_answer a;
    char path[400];
    snprintf(path, sizeof(path), "/api/runs/%s/events", w->words[1]);
    const struct ask_question q = {.path = path, .piece = print_piece};
    if (!ask_well(&w->where, &q, &a))
        return 1;
    buf_done(&a.body);
    return 0;
}

static int tell(const struct wish *w)
{
    struct buf body = {0};
    struct put p = put_into(&body);
    char path[400];
    int status = 1;
    put_text(&p, "{\"why\":");
    put_json(&p, span_str(w->why ? w->why : ""));
    put_text(&p, "}");
    snprintf(path, sizeof(path), "/api/runs/%s/%s", w->words[1], w->words[0]);
    if (!p.err)
        status = post(w, path, buf_span(&body));
    buf_done(&body);
    return status;
}

static int runs_word(const struct wish *w)
{
    static const char *const words[] = {"list", "show", "events", "pause", "resume", "cancel"};
    enum { WORDS = sizeof(words) / sizeof(words[0]), LIST = 0, SHOW, EVENTS };
    char path[400];
    int word = find_word(w, words, WORDS);
    if (word < 0)
        return misuse_word(w->where.command, w->words[0], words, WORDS);
    if (word == LIST) {
        snprintf(path, sizeof(path), "/api/runs%s%s", w->limit ? "?limit=" : "", w->limit ? w->limit : "");
        return w->count < 2 ? show(w, path, progress_list) : misuse_word(w->where.command, w->words[1], NULL, 0);
    }
    if (w->count != 2 || !is_name(w->words[1]))
        return misuse(w->where.command, "%s which run? Write its id behind it", words[word]);
    if (word == SHOW) {
        snprintf(path, sizeof(path), "/api/runs/%s", w->words[1]);
        return show(w, path, progress_show);
    }
    return word == EVENTS ? events(w) : tell(w);
}

int command_runs(int argc, char **argv)
{
    struct wish w;
    int status = read_options(argc, argv, "perdure runs", runs_help, &w);
    return status < 0 ? runs_word(&w) : status;
}
