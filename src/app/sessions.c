/* perdure sessions: the ledger of a running perdure, asked for over HTTP and shown in a terminal. */
#include "app/commands.h"
#include "base/buf.h"
#include "base/clock.h"
#include "net/client.h"
#include "net/net.h"
#include "parse/put.h"
#include "parse/url.h"
#include "relay/ledger_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static const char sessions_help[] =
    "usage: perdure sessions [list] [OPTIONS]\n"
    "       perdure sessions show ID [OPTIONS]\n\n"
    "  --url URL      where perdure runs (default http://127.0.0.1:8080)\n"
    "  --key-env VAR  the variable that holds an admin key: from another machine one is needed\n"
    "  --limit N      list: so many, the ones used last\n"
    "  --json         as the API answers\n"
    "  --help\n\n"
    "Shows what a running perdure knows of the sessions of its clients: each call with its attempts, breaks, "
    "waits, tokens and costs. ID is\nperdure's own (s-...) or what the client calls its session.\n\n"
    "exit status: 0; 1 it could not be asked, or has no such session; 2 called wrongly\n";

enum { ASK_MS = 30 * 1000, ANSWER_MAX = 64 << 20, PATH_ROOM = 600, URL_ROOM = 1000 };

/* ---- a question ------------------------------------------------------------------------------ */

struct question {
    struct loop *loop;
    struct client *client;
    struct origin *origin;
    struct exchange *exchange;
    struct timer limit;
    struct buf body;
    int status; /* 0: no answer */
    pd_err err;
    char why[200];
};

static void on_head(void *ctx, const struct http1_head *head)
{
    ((struct question *)ctx)->status = head->status;
}

static void on_body(void *ctx, struct span bytes)
{
    struct question *q = ctx;
    if (!q->err)
        q->err = buf_add(&q->body, bytes);
}

static void on_end(void *ctx, pd_err err, const char *why)
{
    struct question *q = ctx;
    q->exchange = NULL;
    if (err && !q->err)
        q->err = err;
    snprintf(q->why, sizeof(q->why), "%s", why ? why : "");
    loop_stop(q->loop);
}

static void on_limit(void *ctx)
{
    struct question *q = ctx;
    exchange_cancel(q->exchange);
    q->exchange = NULL;
    q->err = PD_TIMEOUT;
    snprintf(q->why, sizeof(q->why), "it says nothing for %d s", ASK_MS / 1000);
    loop_stop(q->loop);
}

static void on_closed(void *ctx)
{
    loop_stop(((struct question *)ctx)->loop);
}

static pd_err begin(struct question *q, const char *url, const char *path, const char *key)
{
    static const struct exchange_handler handler = {NULL, on_head, on_body, NULL, on_end};
    struct client_rules rules;
    char bearer[600];
    client_rules_default(&rules);
    q->loop = loop_new();
    q->client = q->loop ? client_new(q->loop, &rules) : NULL;
    if (!q->client)
        return PD_NOMEM;
    timer_init(&q->limit, on_limit, q);
    struct origin_config origin = {.base_url = url, .proxy = ""};
    pd_err e = client_origin(q->client, &origin, &q->origin);
    if (e)
        return e;
    if (key && (size_t)snprintf(bearer, sizeof(bearer), "Bearer %s", key) >= sizeof(bearer))
        return PD_TOOBIG;
    const struct http1_field field = {SPAN_LIT("Authorization"), span_str(bearer)};
    struct exchange_request rq = {
        .method = "GET", .path = span_str(path), .fields = &field, .fields_count = key ? 1 : 0};
    return exchange_start(q->client, q->origin, &rq, &handler, q, &q->exchange);
}

static void end(struct question *q)
{
    if (q->exchange)
        exchange_cancel(q->exchange);
    origin_unref(q->origin);
    if (q->client) {
        client_close(q->client, on_closed, q);
        loop_run(q->loop);
        client_free(q->client);
    }
    loop_free(q->loop);
}

/* One GET, from a loop of its own. What came is in q->body. */
static void ask(struct question *q, const char *url, const char *path, const char *key)
{
    *q = (struct question){.body = {.limit_bytes = ANSWER_MAX}};
    q->err = begin(q, url, path, key);
    if (!q->err) {
        timer_arm(q->loop, &q->limit, loop_now_ms(q->loop) + ASK_MS);
        loop_run(q->loop);
        timer_stop(q->loop, &q->limit);
    }
    end(q);
}

/* ---- what was wrong ------------------------------------------------------------------------------ */

static int no_perdure(const struct question *q, const char *url)
{
    fprintf(stderr,
            "perdure sessions: no perdure answers at %s (%s): start one with `perdure serve`, or say with --url "
            "where it runs\n",
            url, q->why[0] ? q->why : pd_err_text(q->err));
    return 1;
}

/* What a running perdure says in place of an answer; without what could move the cursor. */
static int refused(const struct question *q, const char *url, bool keyed)
{
    struct json body = {JSON_OBJECT, buf_span(&q->body)};
    struct span said = SPAN_NONE;
    if (span_starts(body.raw, "{") && !json_check(body.raw))
        said = json_inner(json_path(body, "error.message"));
    fprintf(stderr, "perdure sessions: %s answers with status %d", url, q->status);
    if (said.n)
        fprintf(stderr, ": %.*s", SPAN_FMT(span_upto(said, 400)));
    if (q->status == 401 || q->status == 403)
        fprintf(stderr, keyed ? "; the key in that variable is not one that may ask this"
                              : "; name the variable that holds an admin key with --key-env");
    else if (q->status == 404 && !said.n)
        fprintf(stderr, "; it may be no perdure");
    fputc('\n', stderr);
    return 1;
}

static int no_document(const char *url)
{
    fprintf(stderr, "perdure sessions: what answers at %s is no perdure, or one of another version\n", url);
    return 1;
}

/* ---- the command ------------------------------------------------------------------------------------ */

struct wish {
    bool show, json, listed; /* listed: the word `list` was said */
    const char *id, *key_env, *limit, *key;
    char url[URL_ROOM]; /* scheme, host and port */
    char base[200];     /* the path before /api */
};

static bool is_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (int i = 0; i < 3; i++) {
        const char *v = getenv(names[i]);
        if (v && *v)
            return strcasestr(v, "utf-8") || strcasestr(v, "utf8");
    }
    return false;
}

static bool has_colour(void)
{
    const char *off = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && !(off && *off) && term && *term && strcmp(term, "dumb") != 0;
}

static int print(const struct wish *wish, struct span answer)
{
    const struct ledger_look look = {is_utf8(), has_colour(), clock_wall_ms()};
    struct buf out = {0};
    pd_err e = wish->show ? ledger_view_session(answer, &look, &out) : ledger_view_list(answer, &look, &out);
    int status = 0;
    if (e == PD_INVALID) {
        status = no_document(wish->url);
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

/* PD_OK: q->body has it. Otherwise *ret_status is what to end with. */
static bool get(struct question *q, const struct wish *wish, const char *path, int *ret_status)
{
    ask(q, wish->url, path, wish->key);
    if (q->status == 0 || q->err)
        *ret_status = no_perdure(q, wish->url);
    else if (q->status != 200)
        *ret_status = refused(q, wish->url, wish->key != NULL);
    else
        return true;
    buf_done(&q->body);
    return false;
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

static int show(const struct wish *wish)
{
    struct question q;
    char path[PATH_ROOM], id[24];
    int status = 1;
    if (is_id(wish->id)) {
        snprintf(id, sizeof(id), "%s", wish->id);
    } else {
        snprintf(path, sizeof(path), "%s/api/sessions", wish->base);
        if (!get(&q, wish, path, &status))
            return status;
        bool found = find_name(buf_span(&q.body), wish->id, id);
        buf_done(&q.body);
        if (!found) {
            fprintf(stderr, "perdure sessions: no session is called \"%s\"; `perdure sessions` lists them\n",
                    wish->id);
            return 1;
        }
    }
    snprintf(path, sizeof(path), "%s/api/sessions/%s", wish->base, id);
    if (!get(&q, wish, path, &status))
        return status;
    status = print(wish, buf_span(&q.body));
    buf_done(&q.body);
    return status;
}

static int list(const struct wish *wish)
{
    struct question q;
    char path[PATH_ROOM];
    int status = 1;
    snprintf(path, sizeof(path), "%s/api/sessions%s%s", wish->base, wish->limit ? "?limit=" : "",
             wish->limit ? wish->limit : "");
    if (!get(&q, wish, path, &status))
        return status;
    status = print(wish, buf_span(&q.body));
    buf_done(&q.body);
    return status;
}

static int wrongly(const char *what, const char *value, const char *remedy)
{
    fprintf(stderr, "perdure sessions: %s%s%s%s\n%s", what, value ? " \"" : "", value ? value : "", remedy,
            sessions_help);
    return 2;
}

/* "127.0.0.1:8080", "http://host/v1/": what a client was given will do. */
static bool take_url(struct wish *wish, const char *text)
{
    char whole[URL_ROOM];
    const char *why;
    struct url u;
    int n = snprintf(whole, sizeof(whole), "%s%s", strstr(text, "://") ? "" : "http://", text);
    if ((size_t)n >= sizeof(whole) || url_parse(span_str(whole), &u, &why) || u.query.p || u.user_info.p)
        return false;
    if (span_ends(u.path, "/v1"))
        u.path.n -= 3;
    if (u.path.n >= sizeof(wish->base))
        return false;
    snprintf(wish->base, sizeof(wish->base), "%.*s", SPAN_FMT(u.path));
    snprintf(wish->url, sizeof(wish->url), u.ipv6 ? "%s://[%.*s]:%u" : "%s://%.*s:%u", u.tls ? "https" : "http",
             SPAN_FMT(u.host), u.port);
    return true;
}

/* The value of an option that has one; NULL: it is missing. */
static const char *value_of(int argc, char **argv, int *i, size_t name_bytes)
{
    if (argv[*i][name_bytes] == '=')
        return argv[*i] + name_bytes + 1;
    return *i + 1 < argc ? argv[++*i] : NULL;
}

static bool is_option(const char *arg, const char *name)
{
    size_t n = strlen(name);
    return strncmp(arg, name, n) == 0 && (arg[n] == '=' || arg[n] == '\0');
}

static const char *const valued[] = {"--url", "--key-env", "--limit"};

static int read_valued(struct wish *wish, const char *name, const char *value)
{
    uint64_t n;
    if (!value)
        return wrongly("this option needs a value:", name, "\"");
    if (strcmp(name, "--url") == 0)
        return take_url(wish, value) ? 0 : wrongly("--url is", value, "\": write it as in http://127.0.0.1:8080");
    if (strcmp(name, "--key-env") == 0) {
        wish->key_env = value;
        wish->key = getenv(value);
        return wish->key && *wish->key ? 0 : wrongly("--key-env names", value, "\", which is not set");
    }
    wish->limit = value;
    return span_u64(span_str(value), &n) && n > 0 ? 0
                                                  : wrongly("--limit is", value, "\": write a number from 1 on");
}

static int read_word(struct wish *wish, const char *word)
{
    if (wish->show && !wish->id)
        wish->id = word;
    else if (!wish->show && !wish->listed && strcmp(word, "show") == 0)
        wish->show = true;
    else if (!wish->show && !wish->listed && strcmp(word, "list") == 0)
        wish->listed = true;
    else
        return wrongly("not understood:", word, "\"");
    return 0;
}

static int read_options(int argc, char **argv, struct wish *wish)
{
    int status = 0;
    for (int i = 1; i < argc && !status; i++) {
        const char *name = NULL;
        for (size_t k = 0; k < sizeof(valued) / sizeof(valued[0]) && !name; k++)
            if (is_option(argv[i], valued[k]))
                name = valued[k];
        if (name)
            status = read_valued(wish, name, value_of(argc, argv, &i, strlen(name)));
        else if (strcmp(argv[i], "--json") == 0)
            wish->json = true;
        else if (argv[i][0] == '-')
            status = wrongly("not understood:", argv[i], "\"");
        else
            status = read_word(wish, argv[i]);
    }
    if (!status && wish->show && !wish->id)
        status = wrongly("show which session? Write its id or its name", NULL, "");
    if (!status && wish->show && wish->limit)
        status = wrongly("--limit is for the list alone", NULL, "");
    return status;
}

int command_sessions(int argc, char **argv)
{
    struct wish wish = {.url = "http://127.0.0.1:8080"};
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
    return wish.show ? show(&wish) : list(&wish);
}
