/* A client that comes back: what makes a request the same one, what of an ended call is there for it, and what is new of an answer that goes on. */
#include "relay/resume.h"

#include "base/log.h"
#include "base/mem.h"
#include "dialect/join.h"
#include "net/net.h"
#include "relay/kept.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

enum { KEEP_MS = 60000 };

/* ---- one request through a real server; what is asked of it is done in `at_request` ---- */

struct stage {
    struct loop *loop;
    struct gateway gateway;
    struct worker worker;
    uint16_t port;
    void (*at_request)(struct stage *s, struct request *rq);
    const struct asker *asker;
    struct relay relay;
    bool answered, closed;
};

struct asker {
    const char *what;
    const struct codec *codec;
    const char *key, *path, *once, *body;
    bool stream, many;
    uint64_t prefix_hash;
    bool same; /* it is the first one's */
};

static void on_request(void *ctx, struct request *rq)
{
    struct stage *s = ctx;
    s->at_request(s, rq);
    s->answered = true;
    reply_simple(rq, 204, NULL, 0, SPAN_NONE);
}

static void open_stage(struct stage *s)
{
    static const struct server_handler handler = {NULL, on_request};
    struct server_rules rules;
    memset(s, 0, sizeof(*s));
    server_rules_default(&rules);
    s->loop = loop_new();
    list_init(&s->gateway.calls);
    s->gateway.fleet = fleet_new(1);
    s->gateway.kept = kept_new(1 << 20, KEEP_MS);
    s->worker.gateway = &s->gateway;
    s->worker.loop = s->loop;
    s->worker.meter = meter_new();
    s->worker.server = server_new(s->loop, &rules, &handler, s);
    assert_int_equal(server_listen(s->worker.server, "127.0.0.1:0", &s->port), PD_OK);
}

static void on_closed(void *ctx)
{
    struct stage *s = ctx;
    s->closed = true;
    loop_stop(s->loop);
}

static void close_stage(struct stage *s)
{
    server_close(s->worker.server, on_closed, s);
    loop_run(s->loop);
    assert_true(s->closed);
    server_free(s->worker.server);
    loop_free(s->loop);
    meter_free(s->worker.meter);
    fleet_free(s->gateway.fleet);
    kept_free(s->gateway.kept);
}

static void ask(struct stage *s, const struct asker *a, void (*at_request)(struct stage *s, struct request *rq))
{
    char out[1024], once[128] = "";
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (a->once)
        snprintf(once, sizeof(once), "Idempotency-Key: %s\r\n", a->once);
    int n = snprintf(out, sizeof(out), "POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n%s",
                     a->path, once, strlen(a->body), a->body);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(send(fd, out, (size_t)n, MSG_NOSIGNAL), n);
    s->asker = a;
    s->at_request = at_request;
    s->answered = false;
    while (!s->answered)
        uv_run(loop_uv(s->loop), UV_RUN_ONCE);
    close(fd);
}

/* The relay as relay_start() leaves it to resume_join(). */
static bool joins(struct stage *s, struct request *rq)
{
    static struct conf_key key;
    const struct asker *a = s->asker;
    struct relay *r = &s->relay;
    *r = (struct relay){.w = &s->worker, .rq = rq, .id = "c-0000000000000001"};
    r->what.codec = a->codec;
    key.name = a->key;
    r->what.key = a->key ? &key : NULL;
    r->facts.body = request_body(rq);
    r->facts.stream = a->stream;
    r->facts.many = a->many;
    r->facts.prefix_hash = a->prefix_hash;
    return resume_join(r);
}

static void say(struct kept_answer *a, enum msg_delta_kind kind, int choice, const char *text)
{
    const struct msg_delta d = {
        .kind = kind, .tool = kind == MSG_TOOL_START ? 0 : -1, .choice = choice, .text = span_str(text)};
    assert_int_equal(shown_add(&a->shown, &d), PD_OK);
}

/* The first one's stream breaks, and it may come back. */
static void begins_and_breaks(struct stage *s, struct request *rq)
{
    assert_false(joins(s, rq));
    assert_non_null(s->relay.kept);
    assert_int_equal(s->relay.kept->collected, !s->asker->stream);
    say(s->relay.kept, MSG_TEXT, 0, "hello");
    s->relay.call.outcome = CALL_CUT_AFTER;
    if (!s->asker->once)
        resume_expect(&s->relay);
    resume_settle(&s->relay);
    kept_unref(s->relay.kept);
}

static void comes_back(struct stage *s, struct request *rq)
{
    assert_false(joins(s, rq));
    bool resumes = resume_is(&s->relay);
    if (resumes != s->asker->same)
        fail_msg("%s: %s", s->asker->what,
                 resumes ? "it goes on from another's answer" : "its answer is not found");
    kept_unref(s->relay.kept);
}

#define CHAT .codec = &codec_openai_chat, .path = "/v1/chat/completions", .body = "{\"q\":1}", .prefix_hash = 5
static const struct asker first = {"the first", CHAT, .stream = true},
                          once = {"once", CHAT, .stream = true, .once = "i1"};

static void a_request_is_the_same_one_only_in_all_that_is_asked(void **state)
{
    (void)state;
    static const struct asker rows[] = {
        {"the same again", CHAT, .stream = true, .same = true},
        {"as a stream or not", CHAT, .stream = false},
        {"another path", .codec = &codec_openai_chat, .path = "/openai/v1/chat/completions", .body = "{\"q\":1}",
         .prefix_hash = 5, .stream = true},
        {"another format", .codec = &codec_anthropic, .path = "/v1/chat/completions", .body = "{\"q\":1}",
         .prefix_hash = 5, .stream = true},
        {"another client", CHAT, .key = "team-b", .stream = true},
        {"another body of this length", .codec = &codec_openai_chat, .path = "/v1/chat/completions",
         .body = "{\"q\":2}", .prefix_hash = 5, .stream = true},
        {"a longer body", .codec = &codec_openai_chat, .path = "/v1/chat/completions", .body = "{\"q\":1} ",
         .prefix_hash = 5, .stream = true},
        {"another conversation", .codec = &codec_openai_chat, .path = "/v1/chat/completions", .body = "{\"q\":1}",
         .prefix_hash = 6, .stream = true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct stage s;
        open_stage(&s);
        ask(&s, &first, begins_and_breaks);
        assert_int_equal(kept_figures(s.gateway.kept).count, 1);
        ask(&s, &rows[i], comes_back);
        close_stage(&s);
    }
}

static void an_idempotency_key_is_its_clients_own(void **state)
{
    (void)state;
    static const struct asker rows[] = {
        {"the same again", CHAT, .stream = true, .once = "i1", .same = true},
        {"another key", CHAT, .stream = true, .once = "i2"},
        {"none", CHAT, .stream = true},
        {"another client's", CHAT, .key = "team-b", .stream = true, .once = "i1"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct stage s;
        open_stage(&s);
        ask(&s, &once, begins_and_breaks);
        assert_int_equal(kept_figures(s.gateway.kept).count, 1);
        ask(&s, &rows[i], comes_back);
        close_stage(&s);
    }
}

static void has_no_part(struct stage *s, struct request *rq)
{
    assert_false(joins(s, rq));
    if (s->relay.kept)
        fail_msg("%s", s->asker->what);
}

static void what_cannot_be_gone_on_with_is_not_kept(void **state)
{
    (void)state;
    static const struct asker rows[] = {
        {"several answers at once", CHAT, .stream = true, .many = true},
        {"embeddings", .codec = &codec_openai_embeddings, .path = "/v1/embeddings", .body = "{}"},
        {"a count", .codec = &codec_anthropic_count, .path = "/v1/messages/count_tokens", .body = "{}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct stage s;
        open_stage(&s);
        ask(&s, &rows[i], has_no_part);
        close_stage(&s);
    }
}

/* ---- the end ---- */

static void what_is_left_of_a_call_depends_on_how_it_ended(void **state)
{
    (void)state;
    enum { TEXT = 1, CALLS = 2, MANY = 4, LOST = 8, THERE = 16 };
    static const struct {
        enum call_outcome outcome;
        unsigned has;
        enum kept_state as;
        bool stays;
    } rows[] = {
        {CALL_COMPLETE, TEXT, KEPT_WHOLE, true},
        {CALL_COMPLETE, TEXT | THERE, KEPT_WHOLE, false}, /* its client has it */
        {CALL_COMPLETE, TEXT | CALLS, KEPT_WHOLE, true},
        {CALL_COMPLETE, TEXT | LOST, KEPT_GONE, false},
        {CALL_CONTINUED, TEXT, KEPT_WHOLE, true},
        {CALL_CONTINUED, TEXT | LOST, KEPT_GONE, false},
        {CALL_CUT_AFTER, TEXT, KEPT_PART, true},
        {CALL_CUT_AFTER, TEXT | THERE, KEPT_PART, true},
        {CALL_CUT_AFTER, 0, KEPT_GONE, false},
        {CALL_CUT_AFTER, TEXT | CALLS, KEPT_GONE, false}, /* no call is gone on with */
        {CALL_CUT_AFTER, TEXT | MANY, KEPT_GONE, false},
        {CALL_CUT_AFTER, TEXT | LOST, KEPT_GONE, false},
        {CALL_STALLED, TEXT, KEPT_PART, true},
        {CALL_CLIENT_GONE, TEXT, KEPT_PART, true},
        {CALL_CUT_BEFORE, TEXT, KEPT_GONE,
         false}, /* what had come goes for nothing: its client was told an error */
        {CALL_ERROR, TEXT, KEPT_GONE, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct stage s;
        open_stage(&s);
        struct kept_answer *a = kept_begin(s.gateway.kept, "c-1", &codec_openai_chat);
        struct relay r = {.w = &s.worker, .kept = a, .shown_lost = rows[i].has & LOST};
        a->key = (struct kept_key){.sketch = 1, .body = 2};
        a->attended = rows[i].has & THERE;
        if (rows[i].has & TEXT)
            say(a, MSG_TEXT, 0, "hello");
        if (rows[i].has & CALLS)
            say(a, MSG_TOOL_START, 0, "look");
        if (rows[i].has & MANY)
            say(a, MSG_TEXT, 1, "or so");
        r.call.outcome = rows[i].outcome;
        resume_settle(&r);
        if (a->state != rows[i].as || (kept_figures(s.gateway.kept).count == 1) != rows[i].stays)
            fail_msg("row %zu: %s, %u there", i, kept_state_name(a->state), kept_figures(s.gateway.kept).count);
        kept_unref(a);
        close_stage(&s);
    }
}

static void a_call_that_begins_afresh_knows_nothing_of_what_was_before(void **state)
{
    (void)state;
    struct stage s;
    open_stage(&s);
    struct kept_answer *a = kept_begin(s.gateway.kept, "c-1", &codec_openai_chat);
    struct relay r = {.w = &s.worker, .kept = a, .shown_lost = true, .seen_at = 5, .earlier_tokens = 7};
    say(a, MSG_TEXT, 0, "hello");
    r.ways[0] = r.ways[ROUTE_TARGETS_MAX - 1] = CONTINUE_WAY_COUNT;
    r.recall = (struct recall){.begun = true, .at = 5};
    r.call.want.resumes = r.call.continuing = true;
    r.call.broke_by = FAILURE_CUT;
    r.call.broke_attempt = 2;
    assert_true(resume_is(&r));
    resume_give_up(&r);
    assert_false(resume_is(&r));
    assert_int_equal(shown_end(&a->shown), 0);
    assert_false(r.shown_lost);
    assert_int_equal(r.seen_at, 0);
    assert_int_equal(r.earlier_tokens, 0);
    assert_int_equal(r.ways[0] + r.ways[ROUTE_TARGETS_MAX - 1], 0);
    assert_int_equal(r.recall.at, 0);
    assert_null(r.writer);
    assert_false(r.call.want.resumes || r.call.continuing);
    assert_int_equal(r.call.broke_by, FAILURE_NONE);
    assert_int_equal(r.call.broke_attempt, -1);
    kept_unref(a);
    close_stage(&s);
}

/* ---- what is new of an answer that goes on ---- */

struct log {
    char text[512];
};

static void note(void *ctx, const struct msg_delta *d)
{
    static const char *const names[] = {[MSG_TEXT] = "text",
                                        [MSG_TOOL_START] = "tool",
                                        [MSG_SIGNATURE] = "sig",
                                        [MSG_REFUSAL] = "refusal",
                                        [MSG_TOOL_ARGUMENTS] = "args"};
    struct log *l = ctx;
    size_t at = strlen(l->text);
    const char *name = d->kind < sizeof(names) / sizeof(names[0]) && names[d->kind] ? names[d->kind] : "?";
    snprintf(l->text + at, sizeof(l->text) - at, "%s(%.*s)", name, (int)d->text.n, d->text.p);
}

struct piece {
    enum msg_delta_kind kind;
    int choice, tool;
    const char *text;
};

static void of_a_continued_answer_only_what_is_new_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        struct piece pieces[6];
        const char *told;
        bool joins; /* it has text before it that its own is joined to */
        enum join_state seam;
    } rows[] = {
        {"an echo, then more",
         {{MSG_TEXT, 0, -1, "one two"}, {MSG_TEXT, 0, -1, " three"}},
         "text( three)",
         true,
         JOIN_JOINED},
        {"text that a call comes behind before its seam is certain",
         {{MSG_TEXT, 0, -1, "one two three"}, {MSG_TOOL_START, 0, 0, "look"}},
         "text( three)tool(look)",
         true,
         JOIN_JOINED},
        {"a beginning of it alone is no going on",
         {{MSG_TEXT, 0, -1, "one"}, {MSG_TOOL_START, 0, 0, "look"}},
         "tool(look)",
         true,
         JOIN_FAILED},
        {"its reasoning was begun again",
         {{MSG_REASONING, 0, -1, "hm"},
          {MSG_SEALED, 0, -1, "xx"},
          {MSG_SIGNATURE, 0, -1, "s1"},
          {MSG_TEXT, 0, -1, "one two"},
          {MSG_TEXT, 0, -1, "!"}},
         "text(!)",
         true,
         JOIN_JOINED},
        {"a call's signature is the call's",
         {{MSG_TOOL_START, 0, 0, "look"}, {MSG_SIGNATURE, 0, 0, "s1"}, {MSG_TOOL_ARGUMENTS, 0, 0, "{}"}},
         "tool(look)sig(s1)args({})",
         false,
         JOIN_LOOKING},
        {"steps of its blocks and other choices",
         {{MSG_STEP, 0, -1, ""}, {MSG_TEXT, 1, -1, "other"}, {MSG_REFUSAL, 0, -1, "no"}},
         "refusal(no)",
         false,
         JOIN_LOOKING},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct relay r = {0};
        struct run run = {.relay = &r, .continues = true};
        struct log log = {""};
        shown_init(&run.told);
        if (rows[i].joins)
            run.join = join_new(JOIN_REPEAT, SPAN_LIT("one two"), 0);
        for (size_t k = 0; k < 6 && rows[i].pieces[k].text; k++) {
            const struct piece *p = &rows[i].pieces[k];
            flow_delta(&run,
                       &(struct msg_delta){
                           .kind = p->kind, .choice = p->choice, .tool = p->tool, .text = span_str(p->text)});
        }
        shown_tell(&run.told, 0, note, &log);
        if (run.delta_err || strcmp(log.text, rows[i].told) != 0 || run.seam != rows[i].seam)
            fail_msg("%s: %d %s seam %d", rows[i].what, (int)run.delta_err, log.text, (int)run.seam);
        shown_done(&run.told);
        join_free(run.join);
        toolgate_free(run.gate);
    }
}

/* From the first call on nothing is shown; what cannot be kept of it is the attempt's failure, and nothing more is told. */
static void a_call_holds_the_answer_back_and_its_failure_stays(void **state)
{
    (void)state;
    struct relay r = {0};
    struct run run = {.relay = &r};
    struct msg_delta text = {.kind = MSG_TEXT, .tool = -1, .text = SPAN_LIT("one")},
                     start = {.kind = MSG_TOOL_START, .text = SPAN_LIT("look")},
                     more = {.kind = MSG_TOOL_ARGUMENTS, .text = SPAN_LIT("{}")};
    shown_init(&run.told);
    flow_delta(&run, &text);
    assert_false(run.gated);
    flow_delta(&run, &start);
    flow_delta(&run, &more);
    assert_true(run.gated);
    assert_int_equal(run.delta_err, PD_OK);
    size_t told = shown_end(&run.told);
    run.delta_err = PD_TOOBIG;
    flow_delta(&run, &text);
    flow_delta(&run, &more);
    assert_int_equal(run.delta_err, PD_TOOBIG);
    assert_int_equal(shown_end(&run.told), told);
    shown_done(&run.told);
    toolgate_free(run.gate);
}

static void a_gate_that_finds_no_memory_fails_the_attempt(void **state)
{
    (void)state;
    struct relay r = {0};
    struct run run = {.relay = &r};
    shown_init(&run.told);
    mem_fail_at(1);
    flow_delta(&run, &(struct msg_delta){.kind = MSG_TOOL_START, .text = SPAN_LIT("look")});
    mem_fail_at(0);
    assert_int_equal(run.delta_err, PD_NOMEM);
    assert_int_equal(shown_end(&run.told), 0);
    shown_done(&run.told);
    toolgate_free(run.gate);
}

int main(void)
{
    unsigned fds;
    loop_process_init(&fds);
    assert_int_equal(net_process_init(), PD_OK);
    log_threshold = LOG_ERROR;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_the_same_one_only_in_all_that_is_asked),
        cmocka_unit_test(an_idempotency_key_is_its_clients_own),
        cmocka_unit_test(what_cannot_be_gone_on_with_is_not_kept),
        cmocka_unit_test(what_is_left_of_a_call_depends_on_how_it_ended),
        cmocka_unit_test(a_call_that_begins_afresh_knows_nothing_of_what_was_before),
        cmocka_unit_test(of_a_continued_answer_only_what_is_new_is_told),
        cmocka_unit_test(a_call_holds_the_answer_back_and_its_failure_stays),
        cmocka_unit_test(a_gate_that_finds_no_memory_fails_the_attempt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
