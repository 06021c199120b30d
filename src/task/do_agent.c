/* Tasks of kind agent: `perdure supervise` around the agent (keep.h), so that it has a watchdog of its own and nothing of it is left when we are killed.
 *
 * Each time that it says it is done is a step of kind `files`, and proves nothing: the checks do. When they fail the agent is started again and told what failed,
 * up to WORKER_REPAIRS times. A worker that died amid a step left the agent's record in its folder: the next one goes on from there.
 *
 * An agent that is restarted too often pauses its run, and the task is given back: who resumes the run starts it again. */
#include "task/doing.h"

#include "base/clock.h"
#include "base/log.h"
#include "task/keep.h"
#include "task/process.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
    OUTPUT_MAX = 512 << 10,
    LOOK_MS = 1000,
    GRACE_MS = 3 * PROCESS_GRACE_DEFAULT_MS, /* the agent has its own within it */
    WORDS_MORE = 24,
    PAUSE_ASK_MS = 30 * 1000
};
#define KEY_VARIABLE "PERDURE_SUPERVISE_KEY"

/* ---- the command ------------------------------------------------------------------------------------------ */

static unsigned count(const char *const *words)
{
    unsigned n = 0;
    while (words && words[n])
        n++;
    return n;
}

/* NULL: no memory, or no such program. */
static const char *const *words_of(struct doing *d, const char *again)
{
    const char *const *agent = doing_argv(d, json_get(d->spec, "agent"));
    const char *dir = doing_dir(d);
    unsigned n = 0, more = count(agent);
    int64_t stall = 0;
    const char **w = agent ? arena_zalloc(&d->arena, (more + WORDS_MORE + 1) * sizeof(*w)) : NULL;
    if (!w)
        return NULL;
    w[n++] = "/proc/self/exe";
    w[n++] = "supervise";
    w[n++] = "--no-terminal";
    w[n++] = "--agent";
    w[n++] = arena_printf(&d->arena, "%s:%s", d->held.run, d->held.task);
    w[n++] = "--task";
    w[n++] = arena_printf(&d->arena, "%s/%s", d->held.run, d->held.task);
    w[n++] = "--dir";
    w[n++] = dir ? dir : ".";
    if (d->rules->url) {
        w[n++] = "--url";
        w[n++] = arena_printf(&d->arena, "%s%s", d->rules->url, d->rules->base ? d->rules->base : "");
    } else {
        w[n++] = "--no-gateway";
    }
    if (d->rules->key) {
        w[n++] = "--key-env";
        w[n++] = KEY_VARIABLE;
    }
    w[n++] = "--checkpoint";
    w[n++] = arena_printf(&d->arena, "%llums", (unsigned long long)doing_checkpoint_ms(d));
    if (json_i64(json_get(d->spec, "stall_ms"), &stall) && stall > 0) {
        w[n++] = "--stall";
        w[n++] = arena_printf(&d->arena, "%lldms", (long long)stall);
    }
    if (again) {
        w[n++] = "--again";
        w[n++] = again;
    }
    w[n++] = "--";
    for (unsigned i = 0; i < n; i++)
        if (!w[i])
            return NULL;
    memcpy(w + n, agent, more * sizeof(*w));
    return w;
}

/* The model of the task is told to the agent by the names that agents know. */
static const char *const *env_of(struct doing *d)
{
    static const char *const names[] = {"PERDURE_MODEL", "OPENAI_MODEL", "ANTHROPIC_MODEL"};
    const char *const *env = doing_env(d);
    const char *model = doing_text(d, "model");
    unsigned n = count(env), names_count = model ? 3 : 0;
    const char **all = env ? arena_zalloc(&d->arena, (n + 5) * sizeof(*all)) : NULL;
    if (!all)
        return NULL;
    memcpy(all, env, n * sizeof(*all));
    for (unsigned i = 0; i < names_count; i++)
        if (!(all[n++] = arena_printf(&d->arena, "%s=%s", names[i], model)))
            return NULL;
    if (d->rules->key && !(all[n++] = arena_printf(&d->arena, KEY_VARIABLE "=%s", d->rules->key)))
        return NULL;
    return all;
}

/* ---- running it -------------------------------------------------------------------------------------------- */

/* Its log says when the agent is started; a line that is cut between two pieces is passed over. */
static void on_output(void *ctx, enum process_stream from, struct span piece)
{
    struct doing *d = ctx;
    char line[400];
    const char *at;
    uint64_t start;
    doing_count(d, 0, 0, piece.n);
    while (from == PROCESS_STDERR && piece.p && piece.n) {
        snprintf(line, sizeof(line), "%.*s", SPAN_FMT(span_cut(&piece, '\n')));
        if (!strstr(line, " supervise.start ") || !(at = strstr(line, " start=")))
            continue;
        struct span number = span_str(at + strlen(" start="));
        if (!span_u64(span_cut(&number, ' '), &start) || start > UINT_MAX)
            continue;
        doing_at(d, start > 1 ? "agent works, start %u" : "agent works", (unsigned)start);
        if (start > 1)
            LOG(NULL, LOG_WARN, "worker.agent", "run=%s task=%s start=%u", d->held.run, d->held.task,
                (unsigned)start);
    }
}

/* True: it ended by itself. */
static bool run_to_its_end(struct doing *d, struct process *p)
{
    for (;;) {
        uint64_t left = doing_left_ms(d);
        if (process_wait(p, left < LOOK_MS ? left : LOOK_MS, d->wake_fd))
            return true;
        if (doing_stopped(d) != PD_OK || left == 0)
            break;
    }
    if (atomic_load(&d->stop) >= DOING_LOST)
        process_kill(p);
    else
        process_end(p);
    while (!process_wait(p, CLOCK_NEVER, -1))
        ;
    return false;
}

/* ---- restarted too often ------------------------------------------------------------------------------------ */

static bool pause_run(struct doing *d)
{
    char path[300], bearer[600], body[200];
    struct asker_answer a = {0};
    struct http1_field fields[2] = {{SPAN_LIT("Content-Type"), SPAN_LIT("application/json")}};
    if (!d->asker)
        return false;
    snprintf(path, sizeof(path), "%s/api/runs/%s/pause", d->rules->base ? d->rules->base : "", d->held.run);
    snprintf(bearer, sizeof(bearer), "Bearer %s", d->rules->key ? d->rules->key : "");
    snprintf(body, sizeof(body), "{\"why\":\"the agent of task %s was restarted too often\"}", d->held.task);
    fields[1] = (struct http1_field){SPAN_LIT("Authorization"), span_str(bearer)};
    const struct asker_question q = {.method = "POST",
                                     .path = path,
                                     .fields = fields,
                                     .fields_count = d->rules->key ? 2 : 1,
                                     .body = span_str(body),
                                     .limit_ms = PAUSE_ASK_MS,
                                     .answer_bytes = 1 << 20};
    pd_err e = asker_ask(d->asker, &q, &a);
    buf_done(&a.body);
    return !e && a.status == 200;
}

/* Where the run cannot be paused the task waits for a person. */
static pd_err looped(struct doing *d, const char *said)
{
    bool paused = pause_run(d);
    LOG(NULL, LOG_ERROR, "worker.agent_paused", "run=%s task=%s run_paused=%d", d->held.run, d->held.task, paused);
    pd_err e = doing_fail(d, "restarts", true, "the agent was restarted too often: %s", said);
    if (paused)
        d->end.outcome = OUTCOME_RELEASED;
    return e;
}

static pd_err ended_badly(struct doing *d, const struct process *p, bool timed_out)
{
    struct process_result r = process_result(p);
    const char *said;
    pd_err e = do_command_tail(p, PROCESS_STDERR, d, &said);
    if (e)
        return e;
    if (timed_out)
        return doing_fail(d, "timeout", false, "it was not done within its timeout: %s", said);
    if (r.how == PROCESS_EXITED && r.status == KEEP_PAUSED)
        return looped(d, said);
    if (r.how == PROCESS_EXITED && r.status == KEEP_FAILED)
        return doing_fail(d, "not_started", false, "%s", said);
    return doing_fail(d, "agent", false, "its supervisor ended with %s %d: %s",
                      r.how == PROCESS_EXITED ? "status" : "signal", r.status, said);
}

/* PD_OK with an empty result: it failed, and that was said. */
static pd_err run_it(struct doing *d, const char *again, struct buf *result)
{
    char why[PROCESS_WHY_BYTES];
    struct process *p = NULL;
    const struct process_rules r = {.argv = words_of(d, again),
                                    .env = env_of(d),
                                    .output_bytes = OUTPUT_MAX,
                                    .grace_ms = GRACE_MS,
                                    .on_output = on_output,
                                    .ctx = d};
    if (!r.argv || !r.env || d->starved)
        return PD_NOMEM;
    doing_at(d, "agent begins");
    pd_err e = process_start(&r, &p, why);
    if (e)
        return e == PD_NOMEM ? e : doing_fail(d, "not_started", false, "%s", why);
    bool by_itself = run_to_its_end(d, p);
    struct process_result how = process_result(p);
    pd_err stopped = by_itself ? PD_OK : doing_stopped(d);
    if (stopped)
        e = stopped;
    else if (!by_itself || how.how != PROCESS_EXITED || how.status != KEEP_DONE)
        e = ended_badly(d, p, !by_itself);
    else
        e = do_command_result(p, result);
    process_free(p);
    return e;
}

/* ---- until its checks pass ------------------------------------------------------------------------------------ */

static pd_err do_step(struct doing *d, unsigned nth, const char *again, struct buf *result)
{
    char step[20];
    enum step_found found;
    snprintf(step, sizeof(step), nth > 1 ? "run-%u" : "run", nth);
    pd_err e = doing_begin(d, step, STEP_FILES, NULL, &found, result);
    if (e || found == STEP_DONE)
        return e;
    buf_clear(result);
    if (found == STEP_AMBIGUOUS && !again)
        again =
            "its worker died."; /* what is told only where the agent left no record: it was done, or never begun */
    e = run_it(d, again, result);
    return e || !buf_size(result) ? e : doing_end(d, step, buf_span(result));
}

static pd_err settle(struct doing *d, unsigned nth, struct span recorded, char why[DOING_WHY_BYTES])
{
    bool proven;
    pd_err e = do_command_output(d, (struct json){JSON_OBJECT, recorded}, &proven);
    if (!e && d->end.outcome != OUTCOME_FAILED)
        e = doing_write(d, nth);
    if (e || d->end.outcome == OUTCOME_FAILED)
        return e;
    return doing_check(d, proven, why);
}

pd_err do_agent(struct doing *d)
{
    char why[DOING_WHY_BYTES] = "", told[DOING_WHY_BYTES + 100];
    struct buf result = {0};
    pd_err e = PD_OK;
    const char *again = d->claim->attempt > 1 ? "an earlier attempt did not succeed." : NULL;
    for (unsigned nth = 1; !e && nth <= 1 + WORKER_REPAIRS; nth++) {
        d->end.outcome = OUTCOME_DONE;
        buf_clear(&result);
        e = do_step(d, nth, again, &result);
        if (e || !buf_size(&result))
            break;
        why[0] = '\0';
        e = settle(d, nth, buf_span(&result), why);
        if (e || d->end.outcome != OUTCOME_FAILED || !why[0])
            break;
        snprintf(told, sizeof(told), "it said that it was done, and a check failed: %s", why);
        again = told;
    }
    buf_done(&result);
    return e;
}
