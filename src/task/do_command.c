/* Tasks of kind command: a program is run, and what it did is looked at.
 *
 * The run is one step. Of kind `effect` when the plan gives it an idempotency key, which the program finds in PERDURE_IDEMPOTENCY_KEY; else of kind
 * `files`. When a worker died amid it:
 *
 *   files   the checks are made first: when they pass, what it was to make is there; else it is run again. It is run again too where what it prints
 *           is used, for that is gone
 *   effect  `resolve` is asked: 0 it was done, and what it prints is the output, 1 it was not (it is run), anything else: a person. Without `resolve` it is run again with the
 *           same key, by which the other side knows it
 *
 * Only an end with status 0 is recorded as the step's result, and it proves nothing: the checks do. */
#include "task/doing.h"

#include "base/clock.h"
#include "parse/put.h"
#include "task/process.h"
#include "validate/schema.h"

#include <stdio.h>

enum { OUTPUT_MAX = 512 << 10, TAIL_MAX = 2000, LOOK_MS = 1000, RESOLVE_MS = 60 * 1000 };

enum resolved { RESOLVED_DONE, RESOLVED_RUN, RESOLVED_UNKNOWN, RESOLVED_STOPPED };

/* ---- running it -------------------------------------------------------------------------------------------------------- */

static void on_output(void *ctx, enum process_stream from, struct span piece)
{
    (void)from;
    doing_count(ctx, 0, 0, piece.n);
}

/* True: it ended by itself. */
static bool run_to_its_end(struct doing *d, struct process *p)
{
    uint64_t every = doing_checkpoint_ms(d), due = clock_mono_ms() + every;
    for (;;) {
        uint64_t left = doing_left_ms(d);
        if (process_wait(p, left < LOOK_MS ? left : LOOK_MS, d->wake_fd))
            return true;
        if (doing_stopped(d) != PD_OK || left == 0)
            return false;
        if (clock_mono_ms() >= due) {
            doing_checkpoint(d, "interval", NULL);
            due = clock_mono_ms() + every;
        }
    }
}

/* Polite where there is time; not where another worker may be at the same task. */
static void put_an_end_to(struct doing *d, struct process *p)
{
    if (atomic_load(&d->stop) >= DOING_LOST)
        process_kill(p);
    else
        process_end(p);
    while (!process_wait(p, CLOCK_NEVER, -1))
        ;
}

pd_err do_command_tail(const struct process *p, int stream, struct doing *d, const char **ret)
{
    struct buf b = {0};
    (void)!process_output(p, (enum process_stream)stream, &b); /* for a person: what is there will do */
    struct span tail = span_trim(buf_span(&b));
    tail = span_from(tail, tail.n > TAIL_MAX ? tail.n - TAIL_MAX : 0);
    *ret = arena_strndup(&d->arena, tail.p ? tail.p : "", tail.n);
    buf_done(&b);
    return *ret ? PD_OK : PD_NOMEM;
}

static pd_err ended_badly(struct doing *d, const struct process *p, bool timed_out)
{
    struct process_result r = process_result(p);
    const char *err, *out;
    pd_err e = do_command_tail(p, PROCESS_STDERR, d, &err);
    if (!e)
        e = do_command_tail(p, PROCESS_STDOUT, d, &out);
    if (e)
        return e;
    const char *said = err[0] ? err : out;
    if (timed_out)
        return doing_fail(d, "timeout", false, "it did not end within its timeout: %s", said);
    if (r.how == PROCESS_LOST)
        return doing_fail(d, "lost", false, "its guard was killed, nobody knows how it ended");
    if (r.how == PROCESS_SIGNALLED)
        return doing_fail(d, "signal", false, "it was ended by signal %d: %s", r.status, said);
    return doing_fail(d, "exit", false, "it ended with status %d: %s", r.status, said);
}

pd_err do_command_result(const struct process *p, struct buf *out)
{
    struct buf text = {0};
    struct put w = put_into(out);
    for (int s = 0; s < PROCESS_STREAMS && !w.err; s++) {
        buf_clear(&text);
        pd_err e = process_output(p, s, &text);
        if (s == PROCESS_STDOUT) /* which is the task's output, whole or not at all */
            w.err = e;
        put_text(&w, s == PROCESS_STDOUT ? "{\"stdout\":" : ",\"stderr\":");
        struct span all = buf_span(&text);
        put_json(&w, s == PROCESS_STDOUT ? all : span_from(all, all.n > TAIL_MAX ? all.n - TAIL_MAX : 0));
    }
    put_printf(&w, ",\"strays\":%u}", process_result(p).strays);
    buf_done(&text);
    return w.err;
}

/* PD_OK with an empty result: it failed, and that was said. */
static pd_err run_it(struct doing *d, struct buf *result)
{
    char why[PROCESS_WHY_BYTES];
    struct process *p = NULL;
    const char *input = doing_text(d, "stdin");
    struct process_rules r = {.argv = doing_argv(d, json_get(d->spec, "command")),
                              .env = doing_env(d),
                              .dir = doing_dir(d),
                              .input = span_str(input),
                              .output_bytes = OUTPUT_MAX,
                              .on_output = on_output,
                              .ctx = d};
    if (!r.argv || !r.env || d->starved)
        return PD_NOMEM;
    doing_at(d, "runs %.60s", r.argv[0]);
    pd_err e = process_start(&r, &p, why);
    if (e)
        return e == PD_NOMEM ? e : doing_fail(d, "not_started", false, "%s", why);
    bool by_itself = run_to_its_end(d, p);
    if (!by_itself)
        put_an_end_to(d, p);
    struct process_result how = process_result(p);
    pd_err stopped = by_itself ? PD_OK : doing_stopped(d);
    if (stopped)
        e = stopped;
    else if (!by_itself || how.how != PROCESS_EXITED || how.status != 0)
        e = ended_badly(d, p, !by_itself);
    else
        e = do_command_result(p, result);
    process_free(p);
    return e;
}

/* ---- what another worker may have done --------------------------------------------------------------------------------- */

/* What it prints is the output of a task that was done: what the program itself said is gone. */
static pd_err ask_resolver(struct doing *d, enum resolved *ret, struct buf *result)
{
    char why[PROCESS_WHY_BYTES];
    struct process *p = NULL;
    struct process_rules r = {
        .argv = doing_argv(d, json_get(d->spec, "resolve")), .env = doing_env(d), .dir = doing_dir(d)};
    *ret = RESOLVED_UNKNOWN;
    if (!r.argv || !r.env || d->starved)
        return PD_NOMEM;
    doing_at(d, "asks whether it was done");
    pd_err e = process_start(&r, &p, why);
    if (e)
        return e == PD_NOMEM ? e : PD_OK;
    if (process_wait(p, RESOLVE_MS, d->wake_fd)) {
        struct process_result how = process_result(p);
        if (how.how == PROCESS_EXITED && how.status <= 1)
            *ret = how.status == 0 ? RESOLVED_DONE : RESOLVED_RUN;
        if (*ret == RESOLVED_DONE)
            e = do_command_result(p, result);
    } else if (doing_stopped(d) != PD_OK) {
        *ret = RESOLVED_STOPPED;
    }
    process_free(p);
    return e;
}

static bool checks_look_at_output(struct json checks)
{
    struct json_walk w;
    struct json c;
    json_walk_init(&w, checks);
    while (json_walk_next(&w, NULL, &c))
        if (json_get(c, "output").type != JSON_NONE)
            return true;
    return false;
}

/* Something is made of what it prints: the file of `write`, another task's text. */
static bool output_counts(struct doing *d, struct json checks)
{
    return json_get(d->spec, "schema").type != JSON_NONE || json_get(d->spec, "write").type != JSON_NONE ||
           json_is_true(json_get(d->spec, "output_used")) || checks_look_at_output(checks);
}

static pd_err compare_files(struct doing *d, enum resolved *ret)
{
    char why[DOING_WHY_BYTES];
    struct json checks = json_get(d->spec, "checks");
    *ret = RESOLVED_RUN;
    if (checks.type == JSON_NONE || output_counts(d, checks))
        return PD_OK; /* what it printed is gone */
    pd_err e = doing_check(d, false, why);
    if (!e && d->end.outcome == OUTCOME_DONE && buf_size(&d->evidence) > 2) /* "[]": the checks were waived */
        *ret = RESOLVED_DONE;
    d->end.outcome = OUTCOME_DONE;
    buf_clear(&d->error);
    buf_clear(&d->evidence);
    return e;
}

static pd_err resolve(struct doing *d, enum step_kind kind, enum resolved *ret, struct buf *result)
{
    if (kind == STEP_FILES)
        return compare_files(d, ret);
    *ret = RESOLVED_RUN;
    return json_get(d->spec, "resolve").type != JSON_NONE ? ask_resolver(d, ret, result) : PD_OK;
}

static pd_err nobody_knows(struct doing *d)
{
    pd_err e = doing_fail(d, "ambiguous", false,
                          "a worker died amid the effect, and `resolve` cannot tell whether it was made");
    d->end.outcome = OUTCOME_AMBIGUOUS;
    return e;
}

/* ---- what came of it ---------------------------------------------------------------------------------------------------- */

/* Without the line breaks at its end, as a shell's $(...): so that it can stand within a line. */
static pd_err text_output(struct doing *d, struct json text)
{
    struct span plain;
    pd_err e = json_text(text, &d->arena, &plain);
    while (!e && plain.n && plain.p[plain.n - 1] == '\n')
        plain.n--;
    buf_clear(&d->output);
    return e ? e : json_put_str(&d->output, plain);
}

pd_err do_command_output(struct doing *d, struct json result, bool *ret_proven)
{
    struct json schema = json_get(d->spec, "schema"), text = json_get(result, "stdout");
    struct span plain;
    char why[600];
    bool fits = false;
    *ret_proven = false;
    if (schema.type == JSON_NONE)
        return text.type == JSON_STRING ? text_output(d, text) : doing_output(d, SPAN_LIT("null"));
    pd_err e = text.type == JSON_STRING ? json_text(text, &d->arena, &plain) : PD_INVALID;
    if (e == PD_NOMEM)
        return e;
    plain = e ? SPAN_NONE : span_trim(plain);
    if (e || json_check(plain) != PD_OK)
        return doing_fail(d, "schema", false, "what it printed is not JSON, and its schema wants that");
    e = schema_check(schema.raw, plain, &fits, why, sizeof(why));
    if (!e && !fits)
        return doing_fail(d, "schema", false, "what it printed does not fit the schema: %s", why);
    *ret_proven = true;
    return e ? e : doing_output(d, plain);
}

static pd_err settle(struct doing *d, struct span recorded)
{
    char why[DOING_WHY_BYTES];
    bool proven;
    struct json result = {JSON_OBJECT, recorded};
    pd_err e = do_command_output(d, result, &proven);
    if (!e && d->end.outcome != OUTCOME_FAILED)
        e = doing_write(d, 1);
    if (e || d->end.outcome == OUTCOME_FAILED)
        return e;
    return doing_check(d, proven, why);
}

/* PD_OK with an empty result: it is over, and that was said. */
static pd_err do_step(struct doing *d, struct buf *result)
{
    const char *key = doing_text(d, "idempotency_key");
    enum step_kind kind = key ? STEP_EFFECT : STEP_FILES;
    enum step_found found;
    enum resolved way = RESOLVED_RUN;
    pd_err e = doing_begin(d, "run", kind, key, &found, result);
    if (e || found == STEP_DONE)
        return e;
    buf_clear(result);
    if (found == STEP_AMBIGUOUS)
        e = resolve(d, kind, &way, result);
    if (!e && way == RESOLVED_STOPPED)
        return doing_stopped(d);
    if (!e && way == RESOLVED_UNKNOWN)
        return nobody_knows(d);
    if (!e && way == RESOLVED_RUN)
        e = run_it(d, result);
    else if (!e && !buf_size(result))
        e = buf_puts(result, "{\"found_done\":true}"); /* by its files: what it printed is gone */
    return e || !buf_size(result) ? e : doing_end(d, "run", buf_span(result));
}

pd_err do_command(struct doing *d)
{
    struct buf result = {0};
    d->end.outcome = OUTCOME_DONE;
    pd_err e = do_step(d, &result);
    if (!e && buf_size(&result))
        e = settle(d, buf_span(&result));
    buf_done(&result);
    return e;
}
