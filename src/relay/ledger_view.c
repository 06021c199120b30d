#include "relay/ledger_view.h"

#include "parse/put.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Each stretch of a bar has at least one cell: many short ones take more than the time asks for. */
enum { BAR_CELLS = 40, BAR_SPARE = 6, BAR_MOST = 72, NAME_CELLS = 20 };

/* ---- numbers and words ---------------------------------------------------------------------- */

static int64_t number(struct json v, const char *name)
{
    int64_t n;
    return json_i64(json_get(v, name), &n) && n > 0 ? n : 0;
}

/* As far as it can be printed. */
static void printable(struct span s, char *out, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n && n + 1 < room; i++) {
        if (s.p[i] == '\\' && i + 1 < s.n)
            i++;
        out[n++] = s.p[i] < ' ' || s.p[i] > '~' ? '?' : s.p[i];
    }
    out[n] = '\0';
}

static void text_of(struct json v, const char *name, char *out, size_t room)
{
    printable(json_inner(json_get(v, name)), out, room);
}

static const char *time_text(uint64_t ms, char out[16])
{
    unsigned long long s = ms / 1000;
    if (ms < 1000)
        snprintf(out, 16, "%llums", (unsigned long long)ms);
    else if (s < 60)
        snprintf(out, 16, "%llu.%llus", s, (unsigned long long)(ms % 1000 / 100));
    else if (s < 3600)
        snprintf(out, 16, "%llum%02llus", s / 60, s % 60);
    else if (s < 48 * 3600)
        snprintf(out, 16, "%lluh%02llum", s / 3600, s / 60 % 60);
    else
        snprintf(out, 16, "%llud", s / 86400);
    return out;
}

static const char *clock_text(uint64_t wall_ms, char out[16])
{
    time_t t = (time_t)(wall_ms / 1000);
    struct tm tm;
    if (!localtime_r(&t, &tm) || strftime(out, 16, "%H:%M:%S", &tm) == 0)
        out[0] = '\0';
    return out;
}

/* "$0.0015"; "?": nobody said what it costs; "$0.0015+?": of a part. */
static const char *money_text(struct json v, bool total, char out[32])
{
    double usd, known;
    bool whole = json_f64(json_get(v, "cost_usd"), &usd);
    if (!whole) {
        if (!total || !json_f64(json_get(v, "known_usd"), &known) || known <= 0)
            return "?";
        usd = known;
    }
    snprintf(out, 32, usd >= 1 ? "$%.2f%s" : "$%.6f%s", usd, whole ? "" : "+?");
    return out;
}

/* Tokens; "~": a part of them is estimated. */
static const char *tokens_text(struct json v, char out[64])
{
    struct json e = json_get(v, "estimated");
    bool guess = json_is_true(e) || number(v, "estimated") > 0;
    snprintf(out, 64, "%s%lld+%lld", guess ? "~" : "", (long long)number(v, "billed_in"),
             (long long)number(v, "billed_out"));
    return out;
}

/* ---- the table -------------------------------------------------------------------------------- */

static void put_row(struct put *p, struct json s, const struct ledger_look *look)
{
    char id[24], name[NAME_CELLS + 1], ago[16], held[16], tokens[64], money[32];
    uint64_t last_ms = (uint64_t)number(s, "last_ms");
    text_of(s, "session", id, sizeof(id));
    text_of(s, "name", name, sizeof(name));
    time_text(look->now_ms > last_ms ? look->now_ms - last_ms : 0, ago);
    time_text((uint64_t)number(s, "held_ms"), held);
    put_printf(p, "%-18s  %-*s  %7s  %5lld  %8lld  %6lld  %5lld  %7s  %17s  %11s\n", id, NAME_CELLS,
               name[0] ? name : "-", ago, (long long)number(s, "calls"), (long long)number(s, "attempts"),
               (long long)number(s, "failed"), (long long)number(s, "breaks"), held, tokens_text(s, tokens),
               money_text(s, true, money));
}

static pd_err is_answer(struct span answer, const char *member, struct json *ret, struct json *ret_list)
{
    *ret = (struct json){JSON_OBJECT, answer};
    if (!span_starts(answer, "{") || json_check(answer))
        return PD_INVALID;
    *ret_list = json_get(*ret, member);
    return ret_list->type == JSON_ARRAY ? PD_OK : PD_INVALID;
}

pd_err ledger_view_list(struct span answer, const struct ledger_look *look, struct buf *out)
{
    struct json whole, list, s;
    struct json_walk w;
    struct put p = put_into(out);
    unsigned count = 0;
    pd_err e = is_answer(answer, "sessions", &whole, &list);
    if (e)
        return e;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &s)) {
        if (count++ == 0)
            put_printf(&p, "%-18s  %-*s  %7s  %5s  %8s  %6s  %5s  %7s  %17s  %11s\n", "SESSION", NAME_CELLS,
                       "NAME", "AGO", "CALLS", "ATTEMPTS", "FAILED", "BROKE", "HELD", "TOKENS IN+OUT", "COST");
        put_row(&p, s, look);
    }
    if (count == 0)
        put_text(&p, "no session yet: a call is listed when it has ended\n");
    return p.err;
}

/* ---- a bar -------------------------------------------------------------------------------------- */

#define SIGNS(X)                                        \
    X(SIGN_ASKED, "\u2500", "-", "", "asked")           \
    X(SIGN_FLOWS, "\u2501", "=", "32", "answering")     \
    X(SIGN_FAILED, "!", "!", "31", "failed")            \
    X(SIGN_BROKE, "\u2715", "x", "31", "broke")         \
    X(SIGN_WENT_ON, "\u25b6", ">", "32", "went on")     \
    X(SIGN_WAITS, "\u00b7", ".", "2", "waiting")        \
    X(SIGN_HELD, "\u2591", "~", "33", "on hold")        \
    X(SIGN_SECOND, "\u2551", "|", "36", "second start") \
    X(SIGN_GONE, "\u25cb", "o", "31", "the client left")
enum sign {
#define X(code, utf8, ascii, colour, what) code,
    SIGNS(X)
#undef X
        SIGN_COUNT
};
static const struct {
    const char *utf8, *ascii, *colour, *what;
} signs[] = {
#define X(code, utf8, ascii, colour, what) {utf8, ascii, colour, what},
    SIGNS(X)
#undef X
};

static void put_sign(struct put *p, enum sign s, const struct ledger_look *look)
{
    bool paint = look->colour && *signs[s].colour;
    if (paint)
        put_printf(p, "\033[%sm", signs[s].colour);
    put_text(p, look->utf8 ? signs[s].utf8 : signs[s].ascii);
    if (paint)
        put_text(p, "\033[0m");
}

struct bar {
    uint8_t cells[BAR_MOST]; /* enum sign */
    unsigned count;
    double cells_a_ms;
    uint64_t at_ms; /* drawn up to here */
    unsigned used;  /* bit per sign */
};

/* A stretch of time, at least one cell. Returns how many. */
static unsigned draw(struct bar *b, uint64_t to_ms, enum sign s)
{
    uint64_t ms = to_ms > b->at_ms ? to_ms - b->at_ms : 0;
    double want = (double)ms * b->cells_a_ms + 0.5;
    unsigned room = BAR_MOST - b->count, cells = want < 1 ? 1 : want < BAR_MOST ? (unsigned)want : BAR_MOST;
    if (cells > room)
        cells = room;
    memset(b->cells + b->count, (int)s, cells);
    b->count += cells;
    b->used |= 1u << s;
    if (to_ms > b->at_ms)
        b->at_ms = to_ms;
    return cells;
}

static void mark(struct bar *b, unsigned cell, enum sign s)
{
    if (cell < b->count)
        b->cells[cell] = (uint8_t)s;
    b->used |= 1u << s;
}

static bool is_lost(struct json attempt)
{
    return json_is(json_get(attempt, "state"), "cancelled");
}

/* `next_ms`: when another was started, which this one may have lost against. */
static void draw_attempt(struct bar *b, struct json a, uint64_t next_ms, bool gone)
{
    uint64_t began = (uint64_t)number(a, "started_ms"), output = (uint64_t)number(a, "first_output_ms"),
             ended = (uint64_t)number(a, "ended_ms");
    bool failed = !json_is(json_get(a, "class"), "none"), hedge = json_is_true(json_get(a, "hedge"));
    if (is_lost(a) && hedge && !gone)
        return; /* it stands in the words below */
    if (is_lost(a) && next_ms < ended)
        ended = next_ms;
    unsigned first = b->count, cells = 0;
    if (began > b->at_ms)
        b->at_ms = began;
    if (!output || output > b->at_ms)
        cells = draw(b, output ? output : ended, SIGN_ASKED);
    if (output)
        cells += draw(b, ended, SIGN_FLOWS);
    if (hedge)
        mark(b, first, SIGN_SECOND);
    if (json_is_true(json_get(a, "continues")))
        mark(b, first, SIGN_WENT_ON);
    if (cells && failed)
        mark(b, b->count - 1, output ? SIGN_BROKE : SIGN_FAILED);
    else if (cells && is_lost(a) && gone)
        mark(b, b->count - 1, SIGN_GONE);
}

/* Attempts and pauses, each in order of time, as one row. */
static void draw_call(struct bar *b, struct json call)
{
    struct json_walk attempts, pauses;
    struct json a, next, pause;
    bool gone = json_is(json_get(call, "outcome"), "client_gone");
    json_walk_init(&attempts, json_get(call, "attempts"));
    json_walk_init(&pauses, json_get(call, "pauses"));
    bool any_attempt = json_walk_next(&attempts, NULL, &a), any_pause = json_walk_next(&pauses, NULL, &pause);
    while ((any_attempt || any_pause) && b->count < BAR_MOST) {
        if (any_pause && (!any_attempt || number(pause, "from_ms") < number(a, "started_ms"))) {
            bool held = json_is(json_get(pause, "state"), "holding");
            b->at_ms = (uint64_t)number(pause, "from_ms");
            draw(b, (uint64_t)number(pause, "to_ms"), held ? SIGN_HELD : SIGN_WAITS);
            any_pause = json_walk_next(&pauses, NULL, &pause);
            continue;
        }
        any_attempt = json_walk_next(&attempts, NULL, &next);
        draw_attempt(b, a, any_attempt ? (uint64_t)number(next, "started_ms") : UINT64_MAX, gone);
        a = next;
    }
}

static void put_bar(struct put *p, const struct bar *b, const struct ledger_look *look)
{
    for (unsigned i = 0; i < b->count; i++)
        put_sign(p, (enum sign)b->cells[i], look);
    for (unsigned i = b->count; i < BAR_CELLS + BAR_SPARE; i++)
        put_text(p, " ");
}

/* ---- a session ----------------------------------------------------------------------------------- */

/* What the bar cannot say of an attempt: nothing, when it is the only one and all was well. */
static void put_attempt(struct put *p, struct json a, const struct ledger_look *look)
{
    char target[100], class[32], at[16], state[16];
    bool failed = !json_is(json_get(a, "class"), "none"), hedge = json_is_true(json_get(a, "hedge"));
    bool output = number(a, "first_output_ms") > 0;
    int64_t tokens = number(a, "tokens_out");
    text_of(a, "target", target, sizeof(target));
    text_of(a, "class", class, sizeof(class));
    text_of(a, "state", state, sizeof(state));
    enum sign s = failed && output                         ? SIGN_BROKE
                  : failed                                 ? SIGN_FAILED
                  : json_is_true(json_get(a, "continues")) ? SIGN_WENT_ON
                  : hedge                                  ? SIGN_SECOND
                                                           : SIGN_FLOWS;
    put_text(p, "          ");
    put_sign(p, s, look);
    put_printf(p, " %s at %s: %s", target, time_text((uint64_t)number(a, failed ? "ended_ms" : "started_ms"), at),
               failed ? class : state);
    if (number(a, "status") && failed)
        put_printf(p, " (status %lld)", (long long)number(a, "status"));
    if (tokens)
        put_printf(p, ", %s%lld tokens", json_is_true(json_get(a, "estimated")) ? "~" : "", (long long)tokens);
    if (hedge)
        put_text(p, ", started as a second one");
    put_text(p, "\n");
}

static void put_call(struct put *p, struct json call, double longest_ms, const struct ledger_look *look,
                     unsigned *used)
{
    char when[16], took[16], tokens[64], money[32], outcome[32], route[32];
    double took_ms = (double)number(call, "took_ms");
    struct bar b = {0};
    struct json_walk w;
    struct json a;
    unsigned attempts = 0;
    if (took_ms >
        0) /* a call of a second is to be seen beside one of an hour: its bar shrinks with the root of its time */
        b.cells_a_ms = BAR_CELLS * sqrt(took_ms / longest_ms) / took_ms;
    draw_call(&b, call);
    *used |= b.used;
    text_of(call, "outcome", outcome, sizeof(outcome));
    text_of(call, "route", route, sizeof(route));
    put_printf(p, "%8s  ", clock_text((uint64_t)number(call, "began_ms"), when));
    put_bar(p, &b, look);
    put_printf(p, "  %7s  %-17s  %-12s  %14s  %s\n", time_text((uint64_t)number(call, "took_ms"), took), outcome,
               route, tokens_text(call, tokens), money_text(call, false, money));
    json_walk_init(&w, json_get(call, "attempts"));
    while (json_walk_next(&w, NULL, &a))
        attempts += 1 + !json_is(json_get(a, "state"), "complete");
    json_walk_init(&w, json_get(call, "attempts"));
    while (attempts > 1 && json_walk_next(&w, NULL, &a))
        put_attempt(p, a, look);
}

static void put_failures(struct put *p, struct json failures)
{
    struct json_walk w;
    struct json count;
    struct span key;
    int64_t n;
    const char *before = " (";
    json_walk_init(&w, failures);
    while (json_walk_next(&w, &key, &count)) {
        char class[32];
        printable(key, class, sizeof(class));
        put_printf(p, "%s%s %lld", before, class, (long long)(json_i64(count, &n) ? n : 0));
        before = ", ";
    }
    put_text(p, *before == ',' ? ")" : "");
}

static void put_head(struct put *p, struct json s)
{
    char id[24], name[80], held[16], waited[16], tokens[64], money[32];
    text_of(s, "session", id, sizeof(id));
    text_of(s, "name", name, sizeof(name));
    put_printf(p, "session %s%s%s\n", id, name[0] ? "  " : "", name);
    put_printf(p, "  %lld calls, %lld attempts, %lld failed", (long long)number(s, "calls"),
               (long long)number(s, "attempts"), (long long)number(s, "failed"));
    put_failures(p, json_get(s, "failures"));
    put_printf(p,
               "\n  %lld streams broke, %lld went on; %lld second starts lost, %lld tool calls asked for again\n",
               (long long)number(s, "breaks"), (long long)number(s, "continued"),
               (long long)number(s, "hedges_lost"), (long long)number(s, "tool_repairs"));
    put_printf(p, "  waited %s, on hold %s\n", time_text((uint64_t)number(s, "waited_ms"), waited),
               time_text((uint64_t)number(s, "held_ms"), held));
    put_printf(p, "  tokens in+out: %lld+%lld shown, %s billed; %s\n", (long long)number(s, "tokens_in"),
               (long long)number(s, "tokens_out"), tokens_text(s, tokens), money_text(s, true, money));
}

static void put_legend(struct put *p, unsigned used, const struct ledger_look *look)
{
    put_text(p, "\n        ");
    for (int s = 0; s < SIGN_COUNT; s++) {
        if (!(used >> s & 1))
            continue;
        put_text(p, "  ");
        put_sign(p, (enum sign)s, look);
        put_printf(p, " %s", signs[s].what);
    }
    put_text(p, "\n          widths are by time; the bar of a call is as long as the root of its time\n");
}

pd_err ledger_view_session(struct span answer, const struct ledger_look *look, struct buf *out)
{
    struct json s, list, call;
    struct json_walk w;
    struct put p = put_into(out);
    unsigned used = 0;
    int64_t longest_ms = 1, count = 0;
    pd_err e = is_answer(answer, "list", &s, &list);
    if (e)
        return e;
    put_head(&p, s);
    json_walk_init(&w, list);
    for (; json_walk_next(&w, NULL, &call); count++)
        if (number(call, "took_ms") > longest_ms)
            longest_ms = number(call, "took_ms");
    if (count < number(s, "calls"))
        put_printf(&p, "  the newest %lld calls:\n", (long long)count);
    put_text(&p, "\n");
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &call))
        put_call(&p, call, (double)longest_ms, look, &used);
    put_legend(&p, used, look);
    return p.err;
}
