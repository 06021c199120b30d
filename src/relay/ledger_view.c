#include "relay/ledger_view.h"

#include "parse/put.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Each stretch of a bar has at least one cell: many short ones take more than the time asks for. */
enum { BAR_CELLS = 40, BAR_LEAST = 16, BAR_MOST = 72, ROUTE_LEAST = 8 };
enum { CELL_BYTES = 72, GAP = 2 }; /* of a table: one cell's text, and what is between two columns */

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

enum { CLOCK_PLAIN = 8, CLOCK_DATED = 14 };

static const char *clock_text(uint64_t wall_ms, bool dated, char out[16])
{
    time_t t = (time_t)(wall_ms / 1000);
    struct tm tm;
    if (!localtime_r(&t, &tm) || strftime(out, 16, dated ? "%m-%d %H:%M:%S" : "%H:%M:%S", &tm) == 0)
        out[0] = '\0';
    return out;
}

static bool same_day(uint64_t a_ms, uint64_t b_ms)
{
    time_t ta = (time_t)(a_ms / 1000), tb = (time_t)(b_ms / 1000);
    struct tm a, b;
    return !localtime_r(&ta, &a) || !localtime_r(&tb, &b) || (a.tm_yday == b.tm_yday && a.tm_year == b.tm_year);
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

/* ---- tables ------------------------------------------------------------------------------------ */

static void put_spaces(struct put *p, size_t n)
{
    while (n-- > 0)
        put_text(p, " ");
}

/* A text that is wider than its column ends in a mark. */
static void put_cell(struct put *p, const char *text, unsigned width, bool left, const struct ledger_look *look)
{
    size_t n = strlen(text);
    if (n > width) {
        put_span(p, span_of(text, width - 1));
        put_text(p, look->utf8 ? "\u2026" : "~");
        return;
    }
    put_spaces(p, left ? 0 : width - n);
    put_text(p, text);
    put_spaces(p, left ? width - n : 0);
}

static void widen(unsigned *width, const char *text)
{
    if (strlen(text) > *width)
        *width = (unsigned)strlen(text);
}

/* In the order in which they stand; `leaves`: in which they are left out where there is no room, 0: never. */
#define COLUMNS(X)                              \
    X(COLUMN_SESSION, "SESSION", true, 0)       \
    X(COLUMN_NAME, "NAME", true, 0)             \
    X(COLUMN_AGO, "AGO", false, 4)              \
    X(COLUMN_CALLS, "CALLS", false, 6)          \
    X(COLUMN_ATTEMPTS, "ATTEMPTS", false, 2)    \
    X(COLUMN_FAILED, "FAILED", false, 5)        \
    X(COLUMN_BROKE, "BROKE", false, 3)          \
    X(COLUMN_HELD, "HELD", false, 1)            \
    X(COLUMN_TOKENS, "TOKENS IN+OUT", false, 7) \
    X(COLUMN_COST, "COST", false, 8)
enum column {
#define X(code, title, left, leaves) code,
    COLUMNS(X)
#undef X
        COLUMN_COUNT
};
static const struct {
    const char *title;
    bool left;
    unsigned leaves;
} columns[] = {
#define X(code, title, left, leaves) {title, left, leaves},
    COLUMNS(X)
#undef X
};
enum { NAME_LEAST = 12 };

struct row {
    char cells[COLUMN_COUNT][CELL_BYTES];
};
struct table {
    unsigned widths[COLUMN_COUNT]; /* 0: left out */
    const struct ledger_look *look;
};

static void put_number(char *cell, int64_t n)
{
    snprintf(cell, CELL_BYTES, "%lld", (long long)n);
}

static void read_row(struct json s, const struct ledger_look *look, struct row *ret)
{
    char ago[16], held[16], tokens[64], money[32];
    uint64_t last_ms = (uint64_t)number(s, "last_ms");
    text_of(s, "session", ret->cells[COLUMN_SESSION], CELL_BYTES);
    text_of(s, "name", ret->cells[COLUMN_NAME], CELL_BYTES);
    if (!ret->cells[COLUMN_NAME][0])
        snprintf(ret->cells[COLUMN_NAME], CELL_BYTES, "-");
    snprintf(ret->cells[COLUMN_AGO], CELL_BYTES, "%s",
             time_text(look->now_ms > last_ms ? look->now_ms - last_ms : 0, ago));
    put_number(ret->cells[COLUMN_CALLS], number(s, "calls"));
    put_number(ret->cells[COLUMN_ATTEMPTS], number(s, "attempts"));
    put_number(ret->cells[COLUMN_FAILED], number(s, "failed"));
    put_number(ret->cells[COLUMN_BROKE], number(s, "breaks"));
    snprintf(ret->cells[COLUMN_HELD], CELL_BYTES, "%s", time_text((uint64_t)number(s, "held_ms"), held));
    snprintf(ret->cells[COLUMN_TOKENS], CELL_BYTES, "%s", tokens_text(s, tokens));
    snprintf(ret->cells[COLUMN_COST], CELL_BYTES, "%s", money_text(s, true, money));
}

static unsigned table_width(const struct table *t)
{
    unsigned sum = 0;
    for (int i = 0; i < COLUMN_COUNT; i++)
        sum += t->widths[i] ? t->widths[i] + (sum ? GAP : 0) : 0;
    return sum;
}

/* The name gives way first, then columns go, and what they leave is the name's again. */
static void fit(struct table *t)
{
    unsigned most = t->look->width, name = t->widths[COLUMN_NAME];
    if (!most || table_width(t) <= most)
        return;
    t->widths[COLUMN_NAME] = name < NAME_LEAST ? name : NAME_LEAST;
    for (unsigned round = 1; table_width(t) > most && round < COLUMN_COUNT; round++)
        for (int i = 0; i < COLUMN_COUNT; i++)
            if (columns[i].leaves == round)
                t->widths[i] = 0;
    while (table_width(t) < most && t->widths[COLUMN_NAME] < name)
        t->widths[COLUMN_NAME]++;
}

static void put_row(struct put *p, const struct table *t, const struct row *r)
{
    for (int i = 0; i < COLUMN_COUNT; i++) {
        if (!t->widths[i])
            continue;
        put_spaces(p, i ? GAP : 0);
        put_cell(p, r ? r->cells[i] : columns[i].title, t->widths[i], columns[i].left, t->look);
    }
    put_text(p, "\n");
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
    struct row row;
    struct put p = put_into(out);
    struct table t = {.look = look};
    unsigned count = 0;
    pd_err e = is_answer(answer, "sessions", &whole, &list);
    if (e)
        return e;
    for (int i = 0; i < COLUMN_COUNT; i++)
        widen(&t.widths[i], columns[i].title);
    json_walk_init(&w, list);
    for (; json_walk_next(&w, NULL, &s); count++) {
        read_row(s, look, &row);
        for (int i = 0; i < COLUMN_COUNT; i++)
            widen(&t.widths[i], row.cells[i]);
    }
    if (count == 0) {
        put_text(&p, "no session yet: a call is listed when it has ended\n");
        return p.err;
    }
    fit(&t);
    put_row(&p, &t, NULL);
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &s)) {
        read_row(s, look, &row);
        put_row(&p, &t, &row);
    }
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
    unsigned count, most;    /* most: room for so many */
    double cells_a_ms;
    uint64_t at_ms; /* drawn up to here */
    unsigned used;  /* bit per sign */
};

/* A stretch of time, at least one cell. Returns how many. */
static unsigned draw(struct bar *b, uint64_t to_ms, enum sign s)
{
    uint64_t ms = to_ms > b->at_ms ? to_ms - b->at_ms : 0;
    double want = (double)ms * b->cells_a_ms + 0.5;
    unsigned room = b->most - b->count, cells = want < 1 ? 1 : want < BAR_MOST ? (unsigned)want : BAR_MOST;
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
    while ((any_attempt || any_pause) && b->count < b->most) {
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
}

/* ---- a session ----------------------------------------------------------------------------------- */

/* Attempts one after the other that failed alike, before any output. */
struct alike {
    struct json first, last;
    unsigned count;
};

static bool same(struct json a, struct json b, const char *member)
{
    return span_eq(json_get(a, member).raw, json_get(b, member).raw);
}

static bool is_alike(struct json a, struct json b)
{
    return !json_is(json_get(a, "class"), "none") && !number(a, "first_output_ms") &&
           !number(b, "first_output_ms") && same(a, b, "class") && same(a, b, "target") && same(a, b, "status") &&
           same(a, b, "hedge") && !number(a, "tokens_out") && !number(b, "tokens_out");
}

/* What the bar cannot say of an attempt: nothing, when it is the only one and all was well. */
static void put_attempt(struct put *p, const struct alike *several, const struct ledger_look *look)
{
    struct json a = several->first;
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
    put_printf(p, " %s at %s", target, time_text((uint64_t)number(a, failed ? "ended_ms" : "started_ms"), at));
    if (several->count > 1)
        put_printf(p, " to %s, %u times", time_text((uint64_t)number(several->last, "ended_ms"), at),
                   several->count);
    put_printf(p, ": %s", failed ? class : state);
    if (number(a, "status") && failed)
        put_printf(p, " (status %lld)", (long long)number(a, "status"));
    if (tokens)
        put_printf(p, ", %s%lld tokens", json_is_true(json_get(a, "estimated")) ? "~" : "", (long long)tokens);
    if (hedge)
        put_text(p, ", started as a second one");
    put_text(p, "\n");
}

static void put_attempts(struct put *p, struct json list, const struct ledger_look *look)
{
    struct json_walk w;
    struct json a;
    struct alike run = {.count = 0};
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &a)) {
        if (run.count && is_alike(run.last, a)) {
            run.last = a;
            run.count++;
            continue;
        }
        if (run.count)
            put_attempt(p, &run, look);
        run = (struct alike){a, a, 1};
    }
    if (run.count)
        put_attempt(p, &run, look);
}

/* What stands behind a bar, and how wide it is in the widest call. */
enum word { WORD_TOOK, WORD_OUTCOME, WORD_ROUTE, WORD_TOKENS, WORD_MONEY, WORD_COUNT };
struct sheet {
    const struct ledger_look *look;
    double longest_ms;
    unsigned bar, widths[WORD_COUNT]; /* of the longest */
    unsigned bar_most, used;          /* used: bit per sign */
    bool dated, below; /* its calls are of several days; words have a line of their own below the bar */
};

static void read_words(struct json call, char words[WORD_COUNT][CELL_BYTES])
{
    char took[16], tokens[64], money[32];
    snprintf(words[WORD_TOOK], CELL_BYTES, "%s", time_text((uint64_t)number(call, "took_ms"), took));
    text_of(call, "outcome", words[WORD_OUTCOME], CELL_BYTES);
    text_of(call, "route", words[WORD_ROUTE], CELL_BYTES);
    snprintf(words[WORD_TOKENS], CELL_BYTES, "%s", tokens_text(call, tokens));
    snprintf(words[WORD_MONEY], CELL_BYTES, "%s", money_text(call, false, money));
}

/* A call of a second is to be seen beside one of an hour: its bar shrinks with the root of its time. */
static struct bar bar_of(struct json call, const struct sheet *sh)
{
    struct bar b = {.most = sh->bar_most};
    double took_ms = (double)number(call, "took_ms"), cells = b.most < BAR_CELLS ? b.most : BAR_CELLS;
    if (took_ms > 0)
        b.cells_a_ms = cells * sqrt(took_ms / sh->longest_ms) / took_ms;
    draw_call(&b, call);
    return b;
}

static void put_words(struct put *p, char words[WORD_COUNT][CELL_BYTES], const struct sheet *sh)
{
    for (int i = 0; i < WORD_COUNT; i++) {
        put_spaces(p, i ? GAP : 0);
        put_cell(p, words[i], sh->widths[i], i == WORD_OUTCOME || i == WORD_ROUTE, sh->look);
    }
    put_text(p, "\n");
}

static void put_call(struct put *p, struct json call, struct sheet *sh)
{
    char when[16], words[WORD_COUNT][CELL_BYTES];
    struct json_walk w;
    struct json a;
    unsigned attempts = 0;
    struct bar b = bar_of(call, sh);
    sh->used |= b.used;
    put_printf(p, "%8s  ", clock_text((uint64_t)number(call, "began_ms"), sh->dated, when));
    put_bar(p, &b, sh->look);
    put_spaces(p, sh->below ? 0 : sh->bar - b.count + GAP);
    put_text(p, sh->below ? "\n          " : "");
    read_words(call, words);
    put_words(p, words, sh);
    json_walk_init(&w, json_get(call, "attempts"));
    while (json_walk_next(&w, NULL, &a))
        attempts += 1 + !json_is(json_get(a, "state"), "complete");
    if (attempts > 1)
        put_attempts(p, json_get(call, "attempts"), sh->look);
}

static unsigned words_width(const struct sheet *sh)
{
    unsigned sum = 0;
    for (int i = 0; i < WORD_COUNT; i++)
        sum += sh->widths[i] + GAP;
    return sum;
}

/* Names of routes can be long, and are known. `taken`: by what stands beside the words. */
static void shrink_route(struct sheet *sh, unsigned room, unsigned taken)
{
    while (room && room < taken + words_width(sh) && sh->widths[WORD_ROUTE] > ROUTE_LEAST)
        sh->widths[WORD_ROUTE]--;
}

/* How wide everything is to be, before the first line is put. */
static void measure(struct sheet *sh, struct json list)
{
    char words[WORD_COUNT][CELL_BYTES];
    struct json_walk w;
    struct json call;
    int64_t first_ms = 0, last_ms = 0;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &call)) {
        int64_t took_ms = number(call, "took_ms");
        if ((double)took_ms > sh->longest_ms)
            sh->longest_ms = (double)took_ms;
        last_ms = number(call, "began_ms");
        first_ms = first_ms ? first_ms : last_ms;
        read_words(call, words);
        for (int i = 0; i < WORD_COUNT; i++)
            widen(&sh->widths[i], words[i]);
    }
    sh->dated = !same_day((uint64_t)first_ms, (uint64_t)last_ms);
    unsigned time = sh->dated ? CLOCK_DATED : CLOCK_PLAIN, room = sh->look->width;
    shrink_route(sh, room, time + GAP + BAR_LEAST);
    sh->below = room && room < time + GAP + BAR_LEAST + words_width(sh);
    shrink_route(sh, room, CLOCK_PLAIN);
    unsigned taken = time + GAP + (sh->below ? 0 : words_width(sh));
    if (room && room < taken + BAR_MOST)
        sh->bar_most = room < taken + BAR_LEAST ? BAR_LEAST : room - taken;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &call)) {
        unsigned cells = bar_of(call, sh).count;
        if (cells > sh->bar)
            sh->bar = cells;
    }
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
    struct sheet sh = {.look = look, .longest_ms = 1, .bar_most = BAR_MOST};
    int64_t count = 0;
    pd_err e = is_answer(answer, "list", &s, &list);
    if (e)
        return e;
    put_head(&p, s);
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &call))
        count++;
    if (count < number(s, "calls"))
        put_printf(&p, "  the newest %lld calls:\n", (long long)count);
    put_text(&p, "\n");
    measure(&sh, list);
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &call))
        put_call(&p, call, &sh);
    put_legend(&p, sh.used, look);
    return p.err;
}
