/* Tasks of kind llm: a model is asked through the gateway, and told what does not fit in its answer.
 *
 * Answers are streamed, so that one that takes long has checkpoints in its middle: they say how far it is, with its text so far. What is gone on with
 * is no such text but what the gateway keeps of the answer (see below): a part is no step's result, and never becomes one.
 *
 * Each question is a pure step with an Idempotency-Key of its own, the same whoever asks: a worker that dies in the middle of an answer
 * leaves it to the next one, which joins what the provider is already paid for (docs/internals/resume.md). The conversation follows from the answers that are recorded,
 * so the next worker asks the very same. */
#include "task/doing.h"

#include "base/clock.h"
#include "base/mem.h"
#include "parse/put.h"
#include "task/telling.h"
#include "validate/schema.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

enum {
    ANSWER_MAX = TELLING_TEXT_MAX,
    PAUSE_FIRST_MS = 100,
    PAUSE_MOST_MS = 2000,
    SESSION_NAME_MAX = 64,
    LIMIT_MOST_MS = 24 * 3600 * 1000,
    LOOK_MS = 1000,
    BREAKS_MAX = 3 /* of an answer that was told in part: then what was told is given up */
};

/* One attempt at the task. */
struct talk {
    struct doing *d;
    struct json schema;
    struct buf messages; /* JSON objects with commas between */
    unsigned asks;
    struct telling *telling; /* NULL: nothing is being told */
    const char *key;         /* of the question that is under way */
    uint64_t due_ms;         /* of the next checkpoint in its middle */
    char session[RUN_ID_BYTES + PLAN_ID_MAX + 24];
    /* the newest answer */
    struct span text;
    int64_t tokens_in, tokens_out;
};

/* ---- the question ---------------------------------------------------------------------------------------------------- */

static void put_message(struct put *p, const char *role, struct span text)
{
    put_printf(p, "%s{\"role\":\"%s\",\"content\":", buf_size(p->b) ? "," : "", role);
    put_json(p, text);
    put_text(p, "}");
}

/* What the attempt before failed of is worth knowing when it was the answer. */
static const char *earlier_failure(struct talk *t)
{
    struct json e = {JSON_OBJECT, buf_span(&t->d->claim->last_error)};
    struct span text;
    struct json class = json_get(e, "class");
    if (!json_is(class, "check") && !json_is(class, "schema") && !json_is(class, "plan_invalid"))
        return NULL;
    return json_text(json_get(e, "message"), &t->d->arena, &text) == PD_OK
               ? arena_printf(&t->d->arena, "%.*s", SPAN_FMT(text))
               : NULL;
}

static pd_err begin_talk(struct talk *t)
{
    struct doing *d = t->d;
    const char *system = doing_text(d, "system"), *prompt = doing_text(d, "prompt"), *failed = earlier_failure(t);
    struct put p = put_into(&t->messages);
    if (system)
        put_message(&p, "system", span_str(system));
    if (d->starved)
        return PD_NOMEM;
    if (failed && prompt)
        prompt = arena_printf(&d->arena, "%s\n\nAn earlier answer to this was not good: %s", prompt, failed);
    if (!prompt)
        return PD_NOMEM;
    put_message(&p, "user", span_str(prompt));
    return p.err;
}

static void put_number(struct put *p, struct doing *d, const char *member, const char *as)
{
    struct json v = json_get(d->spec, member);
    if (v.type == JSON_NUMBER)
        put_printf(p, ",\"%s\":%.*s", as, SPAN_FMT(v.raw));
}

static pd_err put_question(struct talk *t, const char *model, struct buf *out)
{
    struct put p = put_into(out);
    put_text(&p, "{\"model\":");
    put_json(&p, span_str(model));
    put_text(&p, ",\"messages\":[");
    put_span(&p, buf_span(&t->messages));
    put_text(&p, "],\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    put_number(&p, t->d, "max_tokens", "max_tokens");
    put_number(&p, t->d, "temperature", "temperature");
    if (t->schema.type != JSON_NONE) {
        put_text(
            &p, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"schema\":");
        put_span(&p, t->schema.raw);
        put_text(&p, "}}");
    }
    put_text(&p, "}");
    return p.err;
}

/* ---- asking ------------------------------------------------------------------------------------------------------------ */

struct reply {
    struct asker_answer answer;
    struct asker_field want[3];
};

static const char *model_of(struct doing *d)
{
    const char *model = doing_text(d, "model");
    struct span s;
    pd_err e = model ? PD_OK : json_text(json_get(d->document, "model"), &d->arena, &s);
    if (model || (e && e != PD_NOMEM))
        return model;
    model = e ? NULL : arena_strndup(&d->arena, s.p ? s.p : "", s.n);
    d->starved |= !model;
    return model;
}

static pd_err on_piece(void *ctx, struct span bytes)
{
    struct talk *t = ctx;
    pd_err e = telling_take(t->telling, bytes);
    doing_coming(t->d, telling_text(t->telling).n);
    return e;
}

/* How far the answer is, for who wants to know; the next worker goes on by the key, whatever stands here. */
static void checkpoint_part(struct talk *t)
{
    struct buf state = {0};
    struct put p = put_into(&state);
    struct span text = telling_text(t->telling);
    put_printf(&p, "{\"step\":\"ask-%u\",\"key\":", t->asks);
    put_json(&p, span_str(t->key));
    put_text(&p, ",\"text\":\"");
    put_span(&p, text);
    put_text(&p, "\"}");
    if (!p.err)
        doing_checkpoint_state(t->d, "interval", NULL, buf_span(&state));
    buf_done(&state);
}

static void on_look(void *ctx)
{
    struct talk *t = ctx;
    if (clock_mono_ms() < t->due_ms)
        return;
    checkpoint_part(t);
    t->due_ms = clock_mono_ms() + doing_checkpoint_ms(t->d);
}

static pd_err send_once(struct talk *t, struct span body, const char *key, struct reply *r)
{
    struct doing *d = t->d;
    char path[300], bearer[600], deadline[32];
    uint64_t left = doing_left_ms(d);
    struct http1_field f[5] = {{SPAN_LIT("Content-Type"), SPAN_LIT("application/json")},
                               {SPAN_LIT("x-perdure-session"), span_str(t->session)},
                               {SPAN_LIT("Idempotency-Key"), span_str(key)}};
    unsigned n = 3;
    snprintf(path, sizeof(path), "%s/v1/chat/completions", d->rules->base ? d->rules->base : "");
    snprintf(bearer, sizeof(bearer), "Bearer %s", d->rules->key ? d->rules->key : "");
    snprintf(deadline, sizeof(deadline), "%llums", (unsigned long long)left);
    if (left < LIMIT_MOST_MS)
        f[n++] = (struct http1_field){SPAN_LIT("x-perdure-deadline"), span_str(deadline)};
    if (d->rules->key)
        f[n++] = (struct http1_field){SPAN_LIT("Authorization"), span_str(bearer)};
    *r = (struct reply){.want = {{"x-perdure-provider", ""}, {"x-perdure-model", ""}, {"x-perdure-attempts", ""}}};
    const struct asker_question q = {.method = "POST",
                                     .path = path,
                                     .fields = f,
                                     .fields_count = n,
                                     .body = body,
                                     .limit_ms = left < LIMIT_MOST_MS ? left : LIMIT_MOST_MS,
                                     .answer_bytes = ANSWER_MAX,
                                     .want = r->want,
                                     .want_count = 3,
                                     .piece = on_piece,
                                     .look = on_look,
                                     .look_ms = LOOK_MS,
                                     .ctx = t};
    return asker_ask(d->asker, &q, &r->answer);
}

/* The answer from its beginning: one that was broken off is told again by the gateway, and gone on with. */
static pd_err hear_once(struct talk *t, struct span body, const char *key, struct reply *r)
{
    telling_free(t->telling);
    t->telling = telling_new();
    t->key = key;
    *r = (struct reply){.answer = {.why = ""}};
    pd_err e = t->telling ? send_once(t, body, key, r) : PD_NOMEM;
    if (!e && r->answer.status == 200)
        e = telling_end(t->telling, &r->answer.body);
    if (e == PD_PROTO && !r->answer.why[0])
        snprintf(r->answer.why, sizeof(r->answer.why), "its answer broke off");
    if (e)
        buf_done(&r->answer.body);
    doing_coming(t->d, 0);
    return e;
}

static void pause_ms(uint64_t ms)
{
    struct timespec x = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000 * 1000};
    nanosleep(&x, NULL);
}

/* The gateway says in the stream that it can not go on. Asked again it begins with what was told; where nothing was it has tried all there is. */
static bool gave_up(const struct talk *t, unsigned *breaks)
{
    if (!t->telling || !telling_error(t->telling).n)
        return false;
    return !telling_text(t->telling).n || ++*breaks >= BREAKS_MAX;
}

/* A gateway that dies is asked again when it is back, with the same key: what it was told by the provider is not paid again. */
static pd_err send_until_answered(struct talk *t, struct span body, const char *key, struct reply *r)
{
    uint64_t pause = PAUSE_FIRST_MS;
    for (unsigned breaks = 0;;) {
        pd_err e = doing_stopped(t->d);
        if (!e)
            e = hear_once(t, body, key, r);
        pd_err stopped = doing_stopped(t->d);
        if (stopped && e)
            return stopped;
        if (!e || e == PD_NOMEM || e == PD_TOOBIG || doing_left_ms(t->d) <= pause || gave_up(t, &breaks))
            return e;
        doing_at(t->d, "waits for the gateway: %.40s", r->answer.why);
        pause_ms(pause);
        pause = pause * 2 < PAUSE_MOST_MS ? pause * 2 : PAUSE_MOST_MS;
    }
}

/* The gateway's own no: it has tried again, and elsewhere, already. `how`: ended by its sentence. */
static pd_err refused(struct talk *t, struct span said, bool final, const char *how)
{
    struct json body = {JSON_OBJECT, said}, error = json_get(body, "error");
    struct span code = json_inner(json_get(error, "code")), message = SPAN_NONE;
    char class[60];
    snprintf(class, sizeof(class), "%.*s", SPAN_FMT(span_upto(code, 50)));
    if (json_text(json_get(error, "message"), &t->d->arena, &message) != PD_OK)
        message = SPAN_LIT("no sentence came with it");
    return doing_fail(t->d, class[0] ? class : "gateway", final, "%s: %.*s", how,
                      SPAN_FMT(span_upto(message, 3000)));
}

static pd_err refused_by_status(struct talk *t, const struct reply *r)
{
    char how[60];
    int s = r->answer.status;
    bool final = s >= 400 && s < 500 && s != 408 && s != 409 && s != 429;
    snprintf(how, sizeof(how), "the gateway answers with status %d", s);
    return refused(t, buf_span(&r->answer.body), final, how);
}

/* An error event has no status: its type has the word that OpenAI's clients know. */
static pd_err refused_in_stream(struct talk *t)
{
    struct span said = telling_error(t->telling);
    struct json type = json_path((struct json){JSON_OBJECT, said}, "error.type");
    return refused(t, said, json_is(type, "invalid_request_error"), "the gateway ended its answer");
}

/* The answer as the step's result, which is all that is kept of it. */
static pd_err put_result(struct talk *t, const struct reply *r, struct buf *out)
{
    struct json body = {JSON_OBJECT, buf_span(&r->answer.body)}, choice = json_path(body, "choices.0"),
                content = json_path(choice, "message.content");
    struct put p = put_into(out);
    if (json_check(body.raw) != PD_OK || content.type == JSON_NONE)
        return doing_fail(t->d, "malformed", false, "the gateway's answer is no chat completion");
    if (content.type != JSON_STRING)
        return doing_fail(t->d, "refused", false, "the model gave no text: %.*s",
                          SPAN_FMT(span_upto(json_path(choice, "message").raw, 600)));
    if (json_is(json_get(choice, "finish_reason"), "length"))
        return doing_fail(t->d, "length", false,
                          "the answer was cut off at its limit of tokens: give the task a higher max_tokens");
    put_text(&p, "{\"text\":");
    put_span(&p, content.raw);
    int64_t in = 0, made = 0;
    (void)json_i64(json_path(body, "usage.prompt_tokens"), &in);
    (void)json_i64(json_path(body, "usage.completion_tokens"), &made);
    put_printf(&p, ",\"tokens_in\":%lld,\"tokens_out\":%lld,\"provider\":", (long long)in, (long long)made);
    put_json(&p, span_str(r->want[0].value));
    put_text(&p, ",\"model\":");
    put_json(&p, span_str(r->want[1].value));
    put_text(&p, "}");
    return p.err;
}

/* PD_OK and nothing in `result`: it failed, and that was said. */
static pd_err ask_model(struct talk *t, const char *key, struct buf *result)
{
    struct doing *d = t->d;
    struct buf body = {0};
    struct reply r;
    const char *model = model_of(d);
    if (d->starved)
        return PD_NOMEM;
    if (!model)
        return doing_fail(d, "no_model", true, "nobody says which model to ask: write `model` into the plan");
    if (!d->asker)
        return doing_fail(d, "no_gateway", false, "this worker knows no gateway to ask: start it with --url");
    pd_err e = put_question(t, model, &body);
    doing_at(d, t->asks > 1 ? "asks %.40s again (%u)" : "asks %.40s", model, t->asks);
    if (!e)
        e = send_until_answered(t, buf_span(&body), key, &r);
    buf_done(&body);
    if (e == PD_TOOBIG)
        return doing_fail(d, "too_large", true, "the answer is larger than %d bytes", ANSWER_MAX);
    if (e == PD_PROTO && doing_stopped(d) == PD_OK && t->telling && telling_error(t->telling).n)
        return refused_in_stream(t);
    if (e && e != PD_NOMEM && doing_stopped(d) == PD_OK)
        return doing_fail(d, "timeout", false, "no answer within the task's timeout (%s)", pd_err_text(e));
    if (e)
        return e;
    e = r.answer.status == 200 ? put_result(t, &r, result) : refused_by_status(t, &r);
    buf_done(&r.answer.body);
    return e;
}

/* The next answer, new or recorded, into t->text. */
static pd_err next_answer(struct talk *t)
{
    struct doing *d = t->d;
    char step[24], key[RUN_ID_BYTES + PLAN_ID_MAX + 60];
    struct buf result = {0};
    enum step_found found;
    t->asks++;
    snprintf(step, sizeof(step), "ask-%u", t->asks);
    snprintf(key, sizeof(key), "%s/%s/%lld/%s", d->held.run, d->held.task, (long long)d->claim->attempt, step);
    pd_err e = doing_begin(d, step, STEP_PURE, NULL, &found, &result);
    if (!e && found != STEP_DONE) {
        buf_clear(&result);
        e = ask_model(t, key, &result);
        if (!e && buf_size(&result))
            e = doing_end(d, step, buf_span(&result));
    }
    if (!e && buf_size(&result)) {
        struct json r = {JSON_OBJECT, arena_span(&d->arena, buf_span(&result))};
        (void)json_i64(json_get(r, "tokens_in"), &t->tokens_in);
        (void)json_i64(json_get(r, "tokens_out"), &t->tokens_out);
        doing_count(d, (uint64_t)t->tokens_in, (uint64_t)t->tokens_out, json_get(r, "text").raw.n);
        snprintf(d->provider, sizeof(d->provider), "%.*s", SPAN_FMT(json_inner(json_get(r, "provider"))));
        e = r.raw.p ? json_text(json_get(r, "text"), &d->arena, &t->text) : PD_NOMEM;
    }
    buf_done(&result);
    return e;
}

/* ---- is it good? ---------------------------------------------------------------------------------------------------------- */

/* Models like to put JSON between fences, whatever they are told. */
static struct span unfenced(struct span text)
{
    struct span s = span_trim(text);
    if (!span_starts(s, "```"))
        return s;
    span_cut(&s, '\n');
    s = span_trim(s.p ? s : SPAN_NONE);
    if (span_ends(s, "```"))
        s.n -= 3;
    return span_trim(s);
}

/* The output, and what is wrong with the answer; empty: nothing. */
static pd_err take_answer(struct talk *t, char why[DOING_WHY_BYTES])
{
    struct doing *d = t->d;
    why[0] = '\0';
    if (t->schema.type == JSON_NONE) {
        buf_clear(&d->output);
        return json_put_str(&d->output, t->text);
    }
    struct span s = unfenced(t->text);
    bool fits = false;
    if (json_check(s) != PD_OK) {
        snprintf(why, DOING_WHY_BYTES,
                 "the answer is not JSON: answer with one JSON value that fits the schema, and with nothing else");
        return PD_OK;
    }
    char where[600];
    pd_err e = schema_check(t->schema.raw, s, &fits, where, sizeof(where));
    if (!e && !fits)
        snprintf(why, DOING_WHY_BYTES, "the answer does not fit the schema: %s", where);
    return e ? e : doing_output(d, s);
}

static pd_err judge(struct talk *t, char why[DOING_WHY_BYTES])
{
    struct doing *d = t->d;
    pd_err e = take_answer(t, why);
    if (e)
        return e == PD_TOOBIG
                   ? doing_fail(d, "too_large", true, "the answer is larger than %d bytes", RUNS_VALUE_MAX)
                   : e;
    if (why[0])
        return doing_fail(d, "schema", false, "%s", why);
    d->end.outcome = OUTCOME_DONE;
    e = doing_write(d, t->asks);
    if (e || d->end.outcome == OUTCOME_FAILED)
        return e;
    e = doing_check(d, t->schema.type != JSON_NONE, why);
    if (d->end.outcome != OUTCOME_FAILED) /* what a model cannot make good it is not told */
        why[0] = '\0';
    return e;
}

/* The answer and what is wrong with it, as the next turns. */
static pd_err tell(struct talk *t, const char *why)
{
    struct put p = put_into(&t->messages);
    put_message(&p, "assistant", t->text);
    const char *text = arena_printf(
        &t->d->arena, "That is not good yet. %s\n\nGive the whole answer again, with this put right.", why);
    if (!text)
        return PD_NOMEM;
    put_message(&p, "user", span_str(text));
    return p.err;
}

/* ---- what it cost ------------------------------------------------------------------------------------------------------------ */

/* The ledger knows the session: what every attempt upstream cost, those that broke off too. */
static void read_cost(struct talk *t)
{
    struct doing *d = t->d;
    struct asker_answer a;
    struct json_walk w;
    struct json s;
    double usd = 0;
    char path[300], bearer[600];
    if (!d->asker || doing_stopped(d) != PD_OK)
        return;
    snprintf(path, sizeof(path), "%s/api/sessions?limit=50", d->rules->base ? d->rules->base : "");
    snprintf(bearer, sizeof(bearer), "Bearer %s", d->rules->key ? d->rules->key : "");
    const struct http1_field f = {SPAN_LIT("Authorization"), span_str(bearer)};
    const struct asker_question q = {.method = "GET",
                                     .path = path,
                                     .fields = &f,
                                     .fields_count = d->rules->key ? 1 : 0,
                                     .limit_ms = 10 * 1000,
                                     .answer_bytes = ANSWER_MAX};
    if (asker_ask(d->asker, &q, &a) != PD_OK)
        return;
    struct json whole = {JSON_OBJECT, buf_span(&a.body)};
    if (a.status == 200 && json_check(whole.raw) == PD_OK) {
        json_walk_init(&w, json_get(whole, "sessions"));
        while (json_walk_next(&w, NULL, &s))
            if (span_eq(json_inner(json_get(s, "name")), span_upto(span_str(t->session), SESSION_NAME_MAX)) &&
                json_f64(json_get(s, "known_usd"), &usd) && usd > 0)
                d->end.picodollars = (uint64_t)llround(usd * 1e12);
    }
    buf_done(&a.body);
}

static pd_err talk(struct talk *t)
{
    char why[DOING_WHY_BYTES];
    pd_err e = begin_talk(t);
    while (!e) {
        t->d->end.outcome = OUTCOME_DONE;
        e = next_answer(t);
        if (e || t->d->end.outcome == OUTCOME_FAILED)
            break;
        e = judge(t, why);
        if (e || !why[0] || t->asks > WORKER_REPAIRS)
            break;
        e = tell(t, why);
    }
    return e;
}

pd_err do_llm(struct doing *d)
{
    struct talk t = {
        .d = d, .schema = json_get(d->spec, "schema"), .due_ms = clock_mono_ms() + doing_checkpoint_ms(d)};
    int64_t n = d->claim->attempt;
    snprintf(t.session, sizeof(t.session), n > 1 ? "%s/%s#%lld" : "%s/%s", d->held.run, d->held.task,
             (long long)n);
    pd_err e = talk(&t);
    if (!e) {
        d->end.tokens = d->tokens_in + d->tokens_out;
        read_cost(&t);
    }
    telling_free(t.telling);
    buf_done(&t.messages);
    return e;
}
