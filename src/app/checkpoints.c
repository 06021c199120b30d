/* perdure checkpoints: made, listed and given back, by a running perdure over HTTP; or, when none is left, from the database and the object store. */
#include "app/ask.h"
#include "app/commands.h"
#include "base/log.h"
#include "base/mem.h"
#include "checkpoint/checkpoint.h"
#include "conf/misuse.h"
#include "net/net.h"
#include "parse/put.h"
#include "parse/url.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define COMMAND "perdure checkpoints"

static const char checkpoints_help[] =
    "usage: perdure checkpoints [list] [--agent NAME] [--limit N] [OPTIONS]\n"
    "       perdure checkpoints show|restore|resume [ID] [--agent NAME] [OPTIONS]\n"
    "       perdure checkpoints diff ID ID [OPTIONS]\n"
    "       perdure checkpoints create [--agent NAME] [--task TEXT] [--step N] [--milestone TEXT] [--reason "
    "WORD]\n"
    "                                  [--state JSON | --state-file FILE] [OPTIONS]\n"
    "       perdure checkpoints prune [--dry] [OPTIONS]\n\n"
    "  --agent NAME      whose; show, restore and resume without an ID take its newest (default $AGENT_ID, else "
    "default-agent)\n"
    "  --state-file FILE the state, JSON; - is the standard input\n"
    "  --limit N         list: so many, the newest\n"
    "  --dry             prune: only says what would go\n"
    "  --json            list, prune: as the API answers\n"
    "  --url URL         where perdure runs (default: the one that holds the state folder of this configuration, "
    "else " ASK_URL_DEFAULT ")\n"
    "  --key-env VAR     the variable that holds an admin key: from another machine one is needed\n"
    "  --database WHERE, --snapshots WHERE\n"
    "                    no perdure is asked: the SQLite file or postgres:// address, the folder or "
    "s3://BUCKET/PREFIX; one of both is\n"
    "                    enough to restore\n"
    "  --help\n\n"
    "show writes the whole checkpoint, restore its state, resume a text for the agent that is to go on; what had "
    "to be passed over or was "
    "taken\nfrom the other side is said on standard error. diff tells what changed from the first to the "
    "second.\n\n"
    "exit status: 0; 1 there is none, it cannot be restored, or nobody could be asked; 2 called wrongly\n";

enum { STATE_FILE_MAX = CHECKPOINT_STATE_MAX, PATH_ROOM = 1000 };

struct action;
struct wish {
    struct ask_where where;
    const struct action *action;
    const char *ids[2], *agent, *limit, *task, *step, *milestone, *reason, *state, *state_file, *database,
        *snapshots;
    unsigned ids_count;
    bool dry, json;
    /* ---- without a running perdure */
    struct db *db;
    struct objects *objects;
    struct checkpoints *checkpoints;
};

struct action {
    const char *name;
    unsigned ids; /* at most */
    int (*run)(struct wish *wish);
};

static int failed(const char *why)
{
    fprintf(stderr, "perdure checkpoints: %s\n", why);
    return 1;
}

static const char *agent_of(const struct wish *wish)
{
    const char *env = getenv("AGENT_ID");
    return wish->agent ? wish->agent : env && *env ? env : "default-agent";
}

/* ---- the two sides themselves ------------------------------------------------------------------- */

static bool is_direct(const struct wish *wish)
{
    return wish->database || wish->snapshots;
}

static int open_direct(struct wish *wish)
{
    char why[DB_WHY_BYTES] = "";
    struct db_rules rules;
    struct checkpoints_rules keep;
    pd_err e = PD_OK;
    db_rules_default(&rules);
    checkpoints_rules_default(&keep);
    keep.prune_every_ms = 0;
    if (wish->database && !strstr(wish->database, "://") && access(wish->database, F_OK) != 0)
        return failed("there is no such database file; to restore from the snapshots leave --database out");
    if (wish->database)
        e = db_open(wish->database, &rules, &wish->db, why, sizeof(why));
    if (!e && wish->snapshots)
        e = objects_open(wish->snapshots, conf_getenv, NULL, &wish->objects, why, sizeof(why));
    if (!e)
        e = checkpoints_open(wish->db, wish->objects, &keep, &wish->checkpoints);
    return e ? failed(*why ? why : pd_err_text(e)) : 0;
}

static void close_direct(struct wish *wish)
{
    checkpoints_close(wish->checkpoints);
    db_close(wish->db);
    objects_close(wish->objects);
}

/* ---- a document ------------------------------------------------------------------------------------ */

static void put_escape(struct put *p, const char *text)
{
    for (; *text; text++)
        put_printf(p,
                   strchr("-_.~", *text) || (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'z') ||
                           (*text >= 'A' && *text <= 'Z')
                       ? "%c"
                       : "%%%02X",
                   (unsigned char)*text);
}

static void say_notes(struct span notes)
{
    while (notes.p && notes.n) {
        struct span one = span_cut(&notes, '\n');
        fprintf(stderr, "perdure checkpoints: %.*s\n", SPAN_FMT(one));
    }
}

static int get_direct(struct wish *wish, const char *id, struct buf *out)
{
    struct buf notes = {0};
    pd_err e = checkpoint_restore(wish->checkpoints, span_str(agent_of(wish)), id, out, &notes);
    say_notes(buf_span(&notes));
    buf_done(&notes);
    return !e                 ? 0
           : e == PD_NOTFOUND ? failed(id ? "no checkpoint has this id" : "this agent has no checkpoint")
                              : failed(e == PD_INVALID ? "no undamaged copy of it is left" : pd_err_text(e));
}

static bool path_of(const struct wish *wish, const char *id, char *out, size_t room)
{
    struct buf b = {0};
    struct put p = put_into(&b);
    put_text(&p, "/api/checkpoints/");
    if (id) {
        put_escape(&p, id);
    } else {
        put_text(&p, "latest?agent=");
        put_escape(&p, agent_of(wish));
    }
    bool fits = !p.err && buf_size(&b) < room;
    if (fits)
        snprintf(out, room, "%.*s", SPAN_FMT(buf_span(&b)));
    buf_done(&b);
    return fits;
}

static int get_asked(struct wish *wish, const char *id, struct buf *out)
{
    char path[PATH_ROOM];
    struct ask_answer a;
    if (!path_of(wish, id, path, sizeof(path)))
        return failed("this name is too long");
    if (!ask_json(&wish->where, &(struct ask_question){.path = path}, &a))
        return 1;
    struct json whole = {JSON_OBJECT, span_trim(buf_span(&a.body))}, v;
    struct json_walk w;
    json_walk_init(&w, json_get(whole, "notes"));
    while (json_walk_next(&w, NULL, &v))
        say_notes(json_inner(v));
    struct json doc = json_get(whole, "checkpoint");
    pd_err e = doc.type == JSON_OBJECT ? buf_add(out, doc.raw) : PD_SYNTAX;
    buf_done(&a.body);
    if (e == PD_SYNTAX)
        ask_no_perdure(&wish->where);
    return e ? 1 : 0;
}

/* id NULL: the agent's newest. */
static int get(struct wish *wish, const char *id, struct buf *out)
{
    return is_direct(wish) ? get_direct(wish, id, out) : get_asked(wish, id, out);
}

static int write_out(struct span s, bool line)
{
    if (fwrite(s.p, 1, s.n, stdout) != s.n || (line && putchar('\n') == EOF) || fflush(stdout) != 0)
        return failed("it cannot be written to the standard output");
    return 0;
}

static int show(struct wish *wish)
{
    struct buf doc = {0}, text = {0};
    int status = get(wish, wish->ids_count ? wish->ids[0] : NULL, &doc);
    if (!status && strcmp(wish->action->name, "resume") == 0)
        status = checkpoint_resume_text(buf_span(&doc), &text) ? failed("it is no checkpoint")
                                                               : write_out(buf_span(&text), false);
    else if (!status && strcmp(wish->action->name, "restore") == 0)
        status = write_out(json_get((struct json){JSON_OBJECT, buf_span(&doc)}, "state").raw, true);
    else if (!status)
        status = write_out(buf_span(&doc), true);
    buf_done(&doc);
    buf_done(&text);
    return status;
}

static int diff(struct wish *wish)
{
    struct buf older = {0}, newer = {0}, lines = {0};
    if (wish->ids_count != 2)
        return misuse(COMMAND, "diff needs two ids");
    int status = get(wish, wish->ids[0], &older);
    if (!status)
        status = get(wish, wish->ids[1], &newer);
    if (!status)
        status = checkpoint_diff(buf_span(&older), buf_span(&newer), &lines) ? failed("they are no checkpoints")
                                                                             : write_out(buf_span(&lines), false);
    buf_done(&older);
    buf_done(&newer);
    buf_done(&lines);
    return status;
}

/* ---- the list -------------------------------------------------------------------------------------- */

static void put_text_of(const char *name, struct span s)
{
    if (s.n)
        printf("  %s ", name);
    for (size_t i = 0; i < s.n; i++) /* without what could move the cursor */
        putchar((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f ? '?' : s.p[i]);
}

static pd_err print_summary(void *ctx, const struct checkpoint_summary *s)
{
    (void)ctx;
    printf("%.*s  %.*s", SPAN_FMT(s->timestamp), SPAN_FMT(s->id));
    put_text_of("milestone", s->milestone);
    put_text_of("task", s->task);
    if (s->step_index >= 0)
        printf("  step %lld", (long long)s->step_index);
    put_text_of("reason", s->reason);
    if (s->messages)
        printf("  %lld messages", (long long)s->messages);
    printf("  %lld bytes%s\n", (long long)s->bytes, s->uploaded ? "" : "  database only");
    return PD_OK;
}

/* Texts are shown as the API escapes them, so that none can move the cursor. */
static void print_listed(struct json v)
{
    int64_t n[3] = {-1, 0, 0};
    (void)json_i64(json_get(v, "step_index"), &n[0]);
    (void)json_i64(json_get(v, "messages"), &n[1]);
    (void)json_i64(json_get(v, "bytes"), &n[2]);
    (void)print_summary(NULL, &(struct checkpoint_summary){.id = json_inner(json_get(v, "checkpoint_id")),
                                                           .timestamp = json_inner(json_get(v, "timestamp")),
                                                           .milestone = json_inner(json_get(v, "milestone")),
                                                           .task = json_inner(json_get(v, "task")),
                                                           .reason = json_inner(json_get(v, "reason")),
                                                           .step_index = n[0],
                                                           .messages = n[1],
                                                           .bytes = n[2],
                                                           .uploaded = json_is_true(json_get(v, "uploaded"))});
}

static int list_asked(struct wish *wish)
{
    char path[PATH_ROOM];
    struct ask_answer a;
    struct json_walk w;
    struct json v;
    if (wish->agent && !checkpoint_agent_fine(span_str(wish->agent)))
        return failed("--agent is to be up to 128 letters, digits, '-', '_', '.' and ':'");
    snprintf(path, sizeof(path), "/api/checkpoints?agent=%s&limit=%s", wish->agent ? wish->agent : "",
             wish->limit ? wish->limit : "100");
    if (!ask_json(&wish->where, &(struct ask_question){.path = path}, &a))
        return 1;
    struct json whole = {JSON_OBJECT, span_trim(buf_span(&a.body))};
    if (wish->json)
        (void)write_out(whole.raw, true);
    json_walk_init(&w, json_get(whole, "checkpoints"));
    while (!wish->json && json_walk_next(&w, NULL, &v))
        print_listed(v);
    buf_done(&a.body);
    return 0;
}

static int list(struct wish *wish)
{
    uint64_t limit = 100;
    if (!is_direct(wish))
        return list_asked(wish);
    if (!wish->database)
        return failed("only a database can be listed: name one with --database");
    if (wish->limit)
        (void)span_u64(span_str(wish->limit), &limit);
    pd_err e = checkpoints_list(wish->checkpoints, span_str(wish->agent ? wish->agent : ""), (unsigned)limit,
                                print_summary, NULL);
    return e ? failed(pd_err_text(e)) : 0;
}

/* ---- making one -------------------------------------------------------------------------------------- */

static int read_state(const char *path, struct buf *out)
{
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    out->limit_bytes = STATE_FILE_MAX;
    while (n > 0 && buf_reserve(out, 65536) == PD_OK && (n = read(fd, out->p + out->tail, 65536)) > 0)
        buf_added(out, (size_t)n);
    if (fd > STDIN_FILENO)
        close(fd);
    if (n == 0)
        return 0;
    fprintf(stderr, "perdure checkpoints: %s cannot be read: %s\n", path,
            n < 0 ? strerror(errno) : "it is too large");
    return 1;
}

static void put_member(struct put *p, const char *name, const char *text)
{
    if (!text)
        return;
    put_printf(p, "%s\"%s\":", p->b->tail - p->b->head > 1 ? "," : "", name);
    put_json(p, span_str(text));
}

static int create_asked(struct wish *wish, struct span state)
{
    struct buf body = {0};
    struct put p = put_into(&body);
    struct ask_answer a;
    put_text(&p, "{");
    put_member(&p, "agent_id", agent_of(wish));
    put_member(&p, "task", wish->task);
    put_member(&p, "milestone", wish->milestone);
    put_member(&p, "reason", wish->reason ? wish->reason : "manual");
    if (wish->step)
        put_printf(&p, ",\"step_index\":%s", wish->step);
    if (state.n) {
        put_text(&p, ",\"state\":");
        put_span(&p, state);
    }
    put_text(&p, "}");
    if (p.err) {
        buf_done(&body);
        return failed(pd_err_text(p.err));
    }
    const struct ask_question q = {.method = "POST", .path = "/api/checkpoints", .body = buf_span(&body)};
    bool fine = ask_json(&wish->where, &q, &a);
    buf_done(&body);
    if (!fine)
        return 1;
    struct json whole = {JSON_OBJECT, span_trim(buf_span(&a.body))};
    int status = write_out(json_inner(json_get(whole, "checkpoint_id")), true);
    buf_done(&a.body);
    return status;
}

static int create_direct(struct wish *wish, struct span state)
{
    char id[CHECKPOINT_ID_BYTES], why[CHECKPOINT_WHY_BYTES];
    uint64_t step = 0;
    struct checkpoint cp = {.agent = span_str(agent_of(wish)),
                            .task = span_str(wish->task),
                            .milestone = span_str(wish->milestone),
                            .reason = span_str(wish->reason ? wish->reason : "manual"),
                            .state = state,
                            .step_index =
                                wish->step && span_u64(span_str(wish->step), &step) ? (int64_t)step : -1};
    if (!wish->database)
        return failed("a checkpoint is made in a database: name one with --database");
    if (checkpoint_create(wish->checkpoints, &cp, id, why, sizeof(why)))
        return failed(why);
    (void)checkpoints_settle(wish->checkpoints, ASK_MS);
    return write_out(span_str(id), true);
}

static int create(struct wish *wish)
{
    struct buf file = {0};
    uint64_t step;
    if (wish->step && !span_u64(span_str(wish->step), &step))
        return misuse_value(COMMAND, "--step", wish->step, "write a whole number");
    if (wish->state_file && read_state(wish->state_file, &file)) {
        buf_done(&file);
        return 1;
    }
    struct span state = span_trim(wish->state_file ? buf_span(&file) : span_str(wish->state));
    int status;
    if (state.n && json_check(state))
        status = failed("the state is no JSON");
    else
        status = is_direct(wish) ? create_direct(wish, state) : create_asked(wish, state);
    buf_done(&file);
    return status;
}

/* ---- pruning ------------------------------------------------------------------------------------------- */

static void print_pruned(const struct wish *wish, const struct checkpoints_pruned *n)
{
    printf("%llu checkpoints and %llu contents of %llu bytes %s; %llu objects %s\n",
           (unsigned long long)n->checkpoints, (unsigned long long)n->blobs, (unsigned long long)n->bytes,
           wish->dry ? "would go" : "are gone", (unsigned long long)n->objects, wish->dry ? "too" : "follow");
}

static int prune(struct wish *wish)
{
    struct checkpoints_pruned n = {0};
    struct ask_answer a;
    int64_t v[4] = {0};
    static const char *const names[] = {"checkpoints", "contents", "bytes", "objects"};
    if (is_direct(wish)) {
        pd_err e = checkpoints_prune(wish->checkpoints, wish->dry, &n);
        if (e)
            return failed(pd_err_text(e));
        (void)checkpoints_settle(wish->checkpoints, ASK_MS);
        print_pruned(wish, &n);
        return 0;
    }
    const struct ask_question q = {.method = "POST",
                                   .path =
                                       wish->dry ? "/api/checkpoints/prune?dry=true" : "/api/checkpoints/prune",
                                   .limit_ms = 10 * (uint64_t)ASK_MS};
    if (!ask_json(&wish->where, &q, &a))
        return 1;
    struct json whole = {JSON_OBJECT, span_trim(buf_span(&a.body))};
    for (int i = 0; i < 4; i++)
        (void)json_i64(json_get(whole, names[i]), &v[i]);
    n = (struct checkpoints_pruned){(uint64_t)v[0], (uint64_t)v[1], (uint64_t)v[2], (uint64_t)v[3]};
    if (wish->json)
        (void)write_out(whole.raw, true);
    else
        print_pruned(wish, &n);
    buf_done(&a.body);
    return 0;
}

/* ---- the command ------------------------------------------------------------------------------------------ */

static const struct action actions[] = {
    {"list", 0, list}, {"show", 1, show},     {"restore", 1, show}, {"resume", 1, show},
    {"diff", 2, diff}, {"create", 0, create}, {"prune", 0, prune},
};

enum { ACTIONS = sizeof(actions) / sizeof(actions[0]) };

static const struct action *find_action(const char *name)
{
    for (size_t i = 0; i < ACTIONS; i++)
        if (strcmp(actions[i].name, name) == 0)
            return &actions[i];
    return NULL;
}

static int no_action(const char *word)
{
    const char *names[ACTIONS];
    for (size_t i = 0; i < ACTIONS; i++)
        names[i] = actions[i].name;
    return misuse_word(COMMAND, word, names, ACTIONS);
}

static int read_word(struct wish *wish, const char *word)
{
    if (!wish->action) {
        wish->action = find_action(word);
        return wish->action ? 0 : no_action(word);
    }
    if (wish->ids_count == wish->action->ids)
        return misuse_word(COMMAND, word, NULL, 0);
    wish->ids[wish->ids_count++] = word;
    return 0;
}

static int read_options(int argc, char **argv, struct wish *wish)
{
    const struct {
        const char *name, **into;
    } valued[] = {
        {"--agent", &wish->agent},         {"--limit", &wish->limit},           {"--task", &wish->task},
        {"--step", &wish->step},           {"--milestone", &wish->milestone},   {"--reason", &wish->reason},
        {"--state", &wish->state},         {"--state-file", &wish->state_file}, {"--database", &wish->database},
        {"--snapshots", &wish->snapshots},
    };
    for (int i = 1; i < argc; i++) {
        int where = ask_where_option(&wish->where, argc, argv, &i), status = 0;
        bool taken = where == 1;
        if (where == 2)
            return 2;
        for (size_t k = 0; k < sizeof(valued) / sizeof(valued[0]) && !taken; k++) {
            taken = ask_option(argc, argv, &i, valued[k].name, valued[k].into);
            if (taken && !*valued[k].into)
                return misuse_value(COMMAND, valued[k].name, NULL, NULL);
        }
        if (taken)
            continue;
        if (strcmp(argv[i], "--dry") == 0)
            wish->dry = true;
        else if (strcmp(argv[i], "--json") == 0)
            wish->json = true;
        else
            status =
                argv[i][0] == '-' ? misuse_option(COMMAND, checkpoints_help, argv[i]) : read_word(wish, argv[i]);
        if (status)
            return status;
    }
    uint64_t n;
    if (wish->limit && (!span_u64(span_str(wish->limit), &n) || n == 0))
        return misuse_value(COMMAND, "--limit", wish->limit, "write a number from 1 on");
    return 0;
}

int command_checkpoints(int argc, char **argv)
{
    struct wish wish = {0};
    ask_init(&wish.where, COMMAND);
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(checkpoints_help, stdout);
            return 0;
        }
    int status = read_options(argc, argv, &wish);
    if (status)
        return status;
    if (!wish.action)
        wish.action = &actions[0];
    if (net_process_init() == PD_NOMEM)
        return failed("out of memory");
    if (is_direct(&wish))
        status = open_direct(&wish);
    else
        ask_find(&wish.where, NULL);
    if (!status)
        status = wish.action->run(&wish);
    close_direct(&wish);
    return status;
}
