/* Recorded answers of real providers, each put into the class that its `expected` names.
 *
 * The collection is looked for in PERDURE_FIXTURES, else beside the source tree; where it is not there, nothing is tested, unless
 * PERDURE_FIXTURES_REQUIRED=1. Errors inside streams carry no class in it: what a careful engineer says of them is pinned here. */
#include "base/mem.h"
#include "head.h"
#include "parse/eventstream.h"
#include "provider/classify.h"
#include "provider/presets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

enum { FILE_MAX = 64 << 20 };

static const char *folder(void)
{
    const char *given = getenv("PERDURE_FIXTURES");
    return given && *given ? given : "../shared/fixtures";
}

static bool required(void)
{
    const char *v = getenv("PERDURE_FIXTURES_REQUIRED");
    return v && strcmp(v, "1") == 0;
}

/* Empty when it cannot be read; else freed by the caller. */
static struct span read_file(const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder(), name);
    FILE *f = fopen(path, "rb");
    if (!f)
        return SPAN_NONE;
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long n = ftell(f);
    assert_true(n >= 0 && n < FILE_MAX);
    rewind(f);
    char *p = mem_alloc((size_t)n + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, (size_t)n, f), n);
    fclose(f);
    return span_of(p, (size_t)n);
}

static const struct {
    const char *theirs;
    enum failure ours;
} classes[] = {
    {"auth", FAILURE_AUTH},
    {"permission", FAILURE_PERMISSION},
    {"billing", FAILURE_BILLING},
    {"quota_exhausted", FAILURE_QUOTA},
    {"rate_limit", FAILURE_RATE},
    {"overloaded", FAILURE_OVERLOAD},
    {"server_error", FAILURE_SERVER},
    {"timeout", FAILURE_TIMEOUT},
    {"context_length", FAILURE_CONTEXT},
    {"invalid_request", FAILURE_BAD},
    {"too_large", FAILURE_BAD},
    {"not_found", FAILURE_NOT_FOUND},
    {"tool_use_failed", FAILURE_TOOL},
    {"content_filter", FAILURE_FILTER},
};

/* Their names of providers that have a preset here under another one. */
static const struct {
    const char *theirs, *ours;
} providers[] = {{"azure", "azure-openai"},   {"nvidia-nim", "nvidia"},    {"ollama-cloud", "ollama"},
                 {"google-gemini", "gemini"}, {"google-vertex", "vertex"}, {"aws-bedrock", "bedrock"}};

/* Where we disagree with `expected`, and why. */
static const struct {
    const char *provider, *message;
    enum failure ours;
} disagreements[] = {
    /* Bedrock says this when the tokens of a minute are used up ("please wait"), not when a prompt is too long, which is a
     * ValidationException there. */
    {"aws-bedrock", "Too many tokens, please wait before trying again.", FAILURE_RATE},
};

static const struct preset *preset_of(struct span provider)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", SPAN_FMT(provider));
    for (size_t i = 0; i < sizeof providers / sizeof providers[0]; i++)
        if (strcmp(name, providers[i].theirs) == 0)
            return preset_find(&presets, providers[i].ours);
    return preset_find(&presets, name);
}

/* What stands in the stream, by the message of the error. */
static const struct {
    const char *provider, *says;
    enum failure failure;
    int status;
} in_streams[] = {
    {"groq", "Tool call validation failed", FAILURE_TOOL, 400},
    /* The budget of output tokens ended inside the reasoning: the request asked for too little, and elsewhere it would end as well. */
    {"openrouter", "Token limit reached", FAILURE_BAD, 400},
    {"chutes", "infra_overload", FAILURE_OVERLOAD, 200},
    {"openai", "The server had an error", FAILURE_SERVER, 200},
    {"vllm", "Internal server error", FAILURE_SERVER, 500},
    {"azure", "Content management policy", FAILURE_FILTER, 400},
    {"anthropic", "Internal server error", FAILURE_SERVER, 200},
    {"anthropic", "Overloaded", FAILURE_OVERLOAD, 200},
    {"openai", "You exceeded your current quota", FAILURE_QUOTA, 200},
    {"openai", "An error occurred while processing", FAILURE_SERVER, 200},
    {"google-vertex", "The operation was cancelled", FAILURE_SERVER, 499},
    {"ollama", "an error was encountered while running the model", FAILURE_SERVER, 200},
    {"aws-bedrock", "Bedrock is unable to process", FAILURE_OVERLOAD, 200},
    {"aws-bedrock", "The system encountered an unexpected error", FAILURE_SERVER, 200},
    {"aws-bedrock", "The model stopped producing output", FAILURE_SERVER, 500},
    {"aws-bedrock", "An error occurred while streaming the response", FAILURE_OVERLOAD,
     529}, /* its original status */
    {"aws-bedrock", "Too many tokens", FAILURE_RATE, 200},
    {"aws-bedrock", "Too many requests", FAILURE_RATE, 200},
    {"aws-bedrock", "The input fails to satisfy the constraints", FAILURE_BAD, 400},
    {"aws-bedrock", "Model has timed out", FAILURE_TIMEOUT, 200},
    {"aws-bedrock", "message", FAILURE_SERVER, 200}, /* a vector of the encoding: its code is "code" */
};

static struct span text(struct json v, struct arena *a)
{
    struct span s;
    if (v.type == JSON_NUMBER)
        return v.raw;
    return json_text(v, a, &s) == PD_OK ? s : SPAN_NONE;
}

/* "response_headers" as a head. */
static void read_head(struct json headers, int status, struct arena *a, struct http1_head *ret)
{
    struct json_walk w;
    struct json v;
    struct span key;
    *ret = (struct http1_head){.status = status, .content_length = -1, .minor = 1};
    json_walk_init(&w, headers);
    while (ret->fields_count < HTTP1_FIELDS_MAX && json_walk_next(&w, &key, &v))
        ret->fields[ret->fields_count++] = (struct http1_field){key, text(v, a)};
}

static bool holds_error(struct json v)
{
    return json_get(v, "error").type == JSON_OBJECT || json_get(v, "error").type == JSON_STRING ||
           json_path(v, "response.error").type == JSON_OBJECT || json_is(json_get(v, "type"), "error");
}

/* The event of a stream that holds the error: the last object with one, framed or bare, on a line of its own or on several. */
static struct span error_event(struct span stream)
{
    struct span found = SPAN_NONE;
    while (stream.n > 0) {
        struct span rest = stream, line = span_trim(span_cut(&stream, '\n'));
        if (span_starts(line, "data:"))
            line = span_trim(span_from(line, 5));
        else if (span_is(line, "{"))
            line = rest;
        struct json v;
        if (span_starts(line, "{") && json_first(line, &v, NULL) == PD_OK && holds_error(v))
            found = v.raw;
    }
    return found;
}

struct frame {
    struct arena *arena;
    struct span json;
};

/* As classify.h asks for it. */
static pd_err on_message(void *ctx, const struct eventstream_message *m)
{
    struct frame *f = ctx;
    char *s = NULL;
    if (span_is(m->message_type, "exception")) {
        struct span members = span_trim(m->payload);
        assert_true(span_starts(members, "{") && members.n > 2);
        s = arena_printf(f->arena, "{\"__type\":\"%.*s\",%.*s", SPAN_FMT(m->exception_type),
                         SPAN_FMT(span_from(members, 1)));
    } else if (span_is(m->message_type, "error")) {
        s = arena_printf(f->arena, "{\"__type\":\"%.*s\",\"message\":\"%.*s\"}", SPAN_FMT(m->error_code),
                         SPAN_FMT(m->error_message));
    } else {
        return PD_OK;
    }
    assert_non_null(s);
    f->json = span_str(s);
    return PD_OK;
}

static struct span error_frame(struct span stream, struct arena *a)
{
    struct frame f = {.arena = a};
    struct eventstream *s = eventstream_new(EVENTSTREAM_MAX_MESSAGE, on_message, &f);
    assert_non_null(s);
    assert_int_equal(eventstream_feed(s, stream), PD_OK);
    assert_int_equal(eventstream_finish(s), PD_OK);
    eventstream_free(s);
    return f.json;
}

/* Cut and cleaned as ours are, but for keys: there ours are to differ. */
static bool same_text(struct span theirs, const char *ours)
{
    struct span mine = span_str(ours);
    if (mine.n == sizeof((struct verdict *)0)->message - 1)
        theirs = span_upto(theirs, mine.n);
    size_t star = 0;
    while (star < mine.n && star < theirs.n && mine.p[star] == theirs.p[star])
        star++;
    struct span rest = span_from(theirs, star), key = span_cut(&rest, ' ');
    return span_eq(theirs, mine) ||
           (span_starts(span_from(mine, star), "***") && (span_starts(key, "sk-") || span_has(key, "****")));
}

/* They name the code only; where there is none we name the reason that the details give. */
static bool is_reason(const char *code)
{
    return strcmp(code, "enforced_spend_limit_reached") == 0;
}

/* The policy of the class's row does what they suggest. */
static void check_action(const char *file, struct span action, const struct verdict *v, bool disagreed)
{
    const struct failure_row *row = failure_row(v->failure);
    bool fine = true;
    if (span_is(action, "return_to_client"))
        fine = !row->elsewhere;
    else if (span_is(action, "return_to_client_or_larger_context_target"))
        fine = row->same == SAME_NEVER && v->failure == FAILURE_CONTEXT;
    else if (span_is(action, "failover_other_credential") || span_is(action, "failover_other_target"))
        fine = row->elsewhere && row->same == SAME_NEVER;
    else if (span_starts(action, "retry_"))
        fine = row->elsewhere && row->same != SAME_NEVER;
    if (!fine && !disagreed)
        fail_msg("%s: %s, and they suggest %.*s", file, row->name, SPAN_FMT(action));
}

static const char *disagreed(struct span provider, const struct verdict *v)
{
    for (size_t i = 0; i < sizeof disagreements / sizeof disagreements[0]; i++)
        if (span_is(provider, disagreements[i].provider) && strcmp(v->message, disagreements[i].message) == 0)
            return failure_row(disagreements[i].ours)->name;
    return NULL;
}

static void check_error(const char *file, struct span provider, struct json expected, const struct verdict *v,
                        struct arena *a)
{
    struct json error = json_get(expected, "error");
    struct span class = text(json_get(error, "class"), a);
    const char *want = NULL;
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (span_is(class, classes[i].theirs))
            want = failure_row(classes[i].ours)->name;
    if (!want)
        fail_msg("%s: class %.*s is not in the table", file, SPAN_FMT(class));
    if (disagreed(provider, v))
        want = disagreed(provider, v);
    if (strcmp(failure_row(v->failure)->name, want) != 0)
        fail_msg("%s: %s, not %s: %s", file, failure_row(v->failure)->name, want, v->message);

    struct span message = text(json_get(error, "message"), a);
    if (span_starts(message, "{")) /* they kept an object as its text; we read on to the message in it */
        assert_true(span_has(message, v->message));
    else if (message.n > 0 && !same_text(message, v->message))
        fail_msg("%s: \"%s\", not \"%.*s\"", file, v->message, SPAN_FMT(message));
    if (!span_is(text(json_get(error, "provider_type"), a), v->type))
        fail_msg("%s: type \"%s\"", file, v->type);
    struct span code = text(json_get(error, "provider_code"), a);
    if (!span_is(code, v->code) && !(code.n == 0 && is_reason(v->code)))
        fail_msg("%s: code \"%s\"", file, v->code);
    struct span stop = text(json_get(error, "x_should_retry"), a);
    assert_true(v->provider_says_stop == span_is(stop, "false") &&
                v->provider_says_retry == span_is(stop, "true"));

    /* The most exact figure that was sent; a zero beside a longer one is a rounding. */
    struct span seconds = text(json_get(error, "retry_after_header"), a),
                ms = text(json_get(error, "retry_after_ms_header"), a);
    uint64_t wait = 0, wait_ms = 0;
    bool has_seconds = span_u64(seconds, &wait), has_ms = span_u64(ms, &wait_ms);
    if (has_seconds || has_ms) {
        uint64_t want_ms = has_ms && wait_ms > 0 ? wait_ms : wait * 1000;
        if (!v->has_retry_after || v->retry_after_ms != want_ms)
            fail_msg("%s: wait %llu ms, not %llu", file, (unsigned long long)v->retry_after_ms,
                     (unsigned long long)want_ms);
    }
    uint64_t told_ms;
    struct span told = text(json_get(error, "body_retry_delay"), a);
    if (retry_duration(told, &told_ms) && (!v->has_retry_after || v->retry_after_ms != told_ms))
        fail_msg("%s: wait %llu ms, not %.*s", file, (unsigned long long)v->retry_after_ms, SPAN_FMT(told));
    check_action(file, text(json_get(error, "suggested_action"), a), v, disagreed(provider, v) != NULL);
}

static void check_in_stream(const char *file, struct span provider, const struct verdict *v)
{
    for (size_t i = 0; i < sizeof in_streams / sizeof in_streams[0]; i++) {
        if (!span_is(provider, in_streams[i].provider) || !strstr(v->message, in_streams[i].says))
            continue;
        if (v->failure != in_streams[i].failure || v->status != in_streams[i].status)
            fail_msg("%s: %s, status %d", file, failure_row(v->failure)->name, v->status);
        return;
    }
    fail_msg("%s: an error that is not in the table: %s: %s", file, failure_row(v->failure)->name, v->message);
}

/* True when the fixture is one of ours to judge. */
static bool check_fixture(struct json fixture, struct arena *a)
{
    char file[512];
    struct http1_head head;
    struct verdict v;
    struct json expected = json_get(fixture, "expected"), outcome = json_get(expected, "outcome");
    bool in_stream = json_is(outcome, "stream_error"), in_200 = json_is(outcome, "error_in_200_body");
    if (!json_is(outcome, "error") && !in_stream && !in_200)
        return false;

    int64_t status;
    assert_true(json_i64(json_get(fixture, "http_status"), &status));
    struct span provider = text(json_get(fixture, "provider"), a), name = text(json_get(fixture, "file"), a);
    snprintf(file, sizeof file, "%.*s", SPAN_FMT(name));
    struct span body = read_file(file);
    if (!body.p)
        fail_msg("%s is not there", file);
    bool frames = span_ends(name, ".bin");
    struct span answer = !in_stream ? body : frames ? error_frame(body, a) : error_event(body);
    if (answer.n == 0)
        fail_msg("%s: no error in the stream", file);
    read_head(json_get(fixture, "response_headers"), (int)status, a, &head);

    classify_answer(preset_of(provider), &head, (int)status, answer, 0, &v);
    if (in_stream || in_200)
        check_in_stream(file, provider, &v);
    else
        check_error(file, provider, expected, &v, a);

    /* The same without knowing whose it is. */
    enum failure known = v.failure;
    classify_answer(NULL, &head, (int)status, answer, 0, &v);
    if (v.failure != known)
        fail_msg("%s: %s without its preset", file, failure_row(v.failure)->name);
    mem_free((void *)(uintptr_t)body.p);
    return true;
}

static void recorded_errors_have_their_class(void **state)
{
    (void)state;
    struct arena a;
    struct json index, fixture;
    struct json_walk w;
    unsigned count = 0;
    struct span doc = read_file("index.json");
    if (!doc.p) {
        if (required())
            fail_msg("no fixtures in %s: set PERDURE_FIXTURES to their folder", folder());
        print_message("no fixtures in %s: only our own rows were tested\n", folder());
        skip();
    }
    arena_init(&a, 0, 0);
    assert_int_equal(json_first(doc, &index, NULL), PD_OK);
    json_walk_init(&w, json_get(index, "fixtures"));
    while (json_walk_next(&w, NULL, &fixture))
        count += check_fixture(fixture, &a);
    assert_int_equal(w.err, PD_OK);
    print_message("%u recorded errors\n", count);
    assert_true(count > 0);
    arena_done(&a);
    mem_free((void *)(uintptr_t)doc.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(recorded_errors_have_their_class)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
