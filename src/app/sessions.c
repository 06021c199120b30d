/* perdure sessions: the ledger of a running perdure, asked for over HTTP and shown in a terminal. */
#include "app/ask.h"
#include "app/commands.h"
#include "app/terminal.h"
#include "base/buf.h"
#include "base/clock.h"
#include "conf/misuse.h"
#include "net/net.h"
#include "parse/put.h"
#include "relay/ledger_view.h"

#include <stdio.h>
#include <string.h>

static const char sessions_help[] =
    "usage: perdure sessions [list] [OPTIONS]\n"
    "       perdure sessions show ID [OPTIONS]\n\n"
    "  --url URL      where perdure runs (default: the one that holds the state folder of this configuration, "
    "else http://127.0.0.1:8080)\n"
    "  --key-env VAR  the variable that holds an admin key: from another machine one is needed\n"
    "  --limit N      list: so many, the ones used last\n"
    "  --json         as the API answers\n"
    "  --help\n\n"
    "Shows what a running perdure knows of the sessions of its clients: each call with its attempts, breaks, "
    "waits, tokens and costs. ID is\nperdure's own (s-...) or what the client calls its session.\n\n"
    "exit status: 0; 1 it could not be asked, or has no such session; 2 called wrongly\n";

enum { PATH_ROOM = 600 };

/* ---- the command ------------------------------------------------------------------------------------ */

struct wish {
    bool show, json, listed; /* listed: the word `list` was said */
    const char *id, *limit;
    struct ask_where where;
};

static int print(const struct wish *wish, struct span answer)
{
    const struct ledger_look look = {terminal_is_utf8(), terminal_has_colour(), clock_wall_ms(), terminal_width()};
    struct buf out = {0};
    pd_err e = wish->show ? ledger_view_session(answer, &look, &out) : ledger_view_list(answer, &look, &out);
    int status = 0;
    if (e == PD_INVALID) {
        ask_no_perdure(&wish->where);
        status = 1;
    } else if (e) {
        fprintf(stderr, "perdure sessions: %s\n", pd_err_text(e));
        status = 1;
    } else if (wish->json) {
        printf("%.*s\n", SPAN_FMT(answer));
    } else {
        fwrite(buf_span(&out).p, 1, buf_size(&out), stdout);
    }
    buf_done(&out);
    return status;
}

static bool is_id(const char *s)
{
    return strncmp(s, "s-", 2) == 0 && strlen(s) < 24 && strspn(s + 2, "0123456789abcdef") == strlen(s + 2);
}

/* The session that a client calls so; of several the one used last. */
static bool find_name(struct span answer, const char *name, char ret[24])
{
    struct json whole = {JSON_OBJECT, answer}, s;
    struct json_walk w;
    if (!span_starts(answer, "{") || json_check(answer))
        return false;
    json_walk_init(&w, json_get(whole, "sessions"));
    while (json_walk_next(&w, NULL, &s)) {
        struct span id = json_inner(json_get(s, "session"));
        if (!json_is(json_get(s, "name"), name) || id.n >= 24)
            continue;
        snprintf(ret, 24, "%.*s", SPAN_FMT(id));
        return is_id(ret);
    }
    return false;
}

static bool get(const struct wish *wish, const char *path, struct ask_answer *ret)
{
    return ask_well(&wish->where, &(struct ask_question){.path = path}, ret);
}

static int show(const struct wish *wish)
{
    struct ask_answer q;
    char path[PATH_ROOM], id[24];
    if (is_id(wish->id)) {
        snprintf(id, sizeof(id), "%s", wish->id);
    } else {
        if (!get(wish, "/api/sessions", &q))
            return 1;
        bool found = find_name(buf_span(&q.body), wish->id, id);
        buf_done(&q.body);
        if (!found) {
            fprintf(stderr, "perdure sessions: no session is called \"%s\"; `perdure sessions` lists them\n",
                    wish->id);
            return 1;
        }
    }
    snprintf(path, sizeof(path), "/api/sessions/%s", id);
    if (!get(wish, path, &q))
        return 1;
    int status = print(wish, buf_span(&q.body));
    buf_done(&q.body);
    return status;
}

static int list(const struct wish *wish)
{
    struct ask_answer q;
    char path[PATH_ROOM];
    snprintf(path, sizeof(path), "/api/sessions%s%s", wish->limit ? "?limit=" : "",
             wish->limit ? wish->limit : "");
    if (!get(wish, path, &q))
        return 1;
    int status = print(wish, buf_span(&q.body));
    buf_done(&q.body);
    return status;
}

#define COMMAND "perdure sessions"

static int read_limit(struct wish *wish, const char *value)
{
    uint64_t n;
    wish->limit = value;
    if (!value)
        return misuse_value(COMMAND, "--limit", NULL, NULL);
    return span_u64(span_str(value), &n) && n > 0
               ? 0
               : misuse_value(COMMAND, "--limit", value, "write a number from 1 on");
}

static int read_word(struct wish *wish, const char *word)
{
    static const char *const words[] = {"list", "show"};
    if (wish->show && !wish->id)
        wish->id = word;
    else if (!wish->show && !wish->listed && strcmp(word, "show") == 0)
        wish->show = true;
    else if (!wish->show && !wish->listed && strcmp(word, "list") == 0)
        wish->listed = true;
    else
        return misuse_word(COMMAND, word, words, wish->show || wish->listed ? 0 : 2);
    return 0;
}

static int read_options(int argc, char **argv, struct wish *wish)
{
    int status = 0;
    for (int i = 1; i < argc && !status; i++) {
        const char *value;
        int where = ask_where_option(&wish->where, argc, argv, &i);
        if (where == 2)
            return 2;
        if (where)
            continue;
        if (ask_option(argc, argv, &i, "--limit", &value))
            status = read_limit(wish, value);
        else if (strcmp(argv[i], "--json") == 0)
            wish->json = true;
        else if (argv[i][0] == '-')
            status = misuse_option(COMMAND, sessions_help, argv[i]);
        else
            status = read_word(wish, argv[i]);
    }
    if (!status && wish->show && !wish->id)
        status = misuse(COMMAND, "show which session? Write its id or its name");
    if (!status && wish->show && wish->limit)
        status = misuse(COMMAND, "--limit is for the list alone");
    return status;
}

int command_sessions(int argc, char **argv)
{
    struct wish wish = {0};
    ask_init(&wish.where, COMMAND);
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(sessions_help, stdout);
            return 0;
        }
    int status = read_options(argc, argv, &wish);
    if (status)
        return status;
    if (net_process_init() == PD_NOMEM) {
        fprintf(stderr, "perdure sessions: out of memory\n");
        return 1;
    }
    ask_find(&wish.where, NULL);
    return wish.show ? show(&wish) : list(&wish);
}
