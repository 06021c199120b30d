/* What of an attempt's answer the client gets, and when: flow.c alone, with a call and a client that only note what they are told. */
#include "relay/relay_priv.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "test.h"

struct stage {
    struct relay relay;
    struct run run;
    struct worker worker;
    struct target target;
    struct msg_request asked;
    unsigned outputs, hidden, shows;
    enum failure failed;
};

static struct stage *stage_of(struct relay *r)
{
    return (struct stage *)(void *)r; /* its first member */
}

/* ---- in place of relay.c, attempt.c and reply.c ---- */

void relay_attempt_output(struct relay *r, struct run *run, bool hidden)
{
    (void)run;
    stage_of(r)->outputs++;
    stage_of(r)->hidden += hidden;
}
void relay_attempt_shows(struct relay *r, struct run *run)
{
    (void)run;
    stage_of(r)->shows++;
}
void relay_attempt_moved(struct relay *r, struct run *run)
{
    (void)r, (void)run;
}
uint64_t relay_now_ms(const struct relay *r)
{
    (void)r;
    return 1;
}
bool reply_show(struct relay *r, struct span raw)
{
    (void)r, (void)raw;
    fail_msg("nothing is shown before the call has taken the attempt");
    return false;
}
bool reply_ends_event(struct span raw)
{
    (void)raw;
    return true;
}
void run_failed(struct run *run, struct verdict *v)
{
    stage_of(run->relay)->failed = v->failure;
}
void run_failed_as(struct run *run, enum failure f, const char *message)
{
    (void)message;
    stage_of(run->relay)->failed = f;
}

/* ---- the stage ---- */

static void begin(struct stage *s, bool continues)
{
    *s = (struct stage){0};
    s->worker.loop = loop_new();
    s->worker.meter = meter_new();
    s->relay.w = &s->worker;
    s->relay.facts.stream = true;
    s->relay.what.codec = &codec_openai_chat;
    s->relay.call.winner = -1;
    s->relay.call.state = CALL_TRYING;
    s->target.provider = s->target.model = "m";
    msg_request_init(&s->asked);
    s->run.relay = &s->relay;
    s->run.target = &s->target;
    s->run.ask.neutral = &s->asked;
    s->run.ask.codec = &codec_openai_chat;
    s->run.continues = continues;
    shown_init(&s->run.told);
    if (continues) {
        struct encode_want w = {.model = SPAN_LIT("m"), .id = SPAN_LIT("1"), .stream = true};
        s->relay.writer = encoder_new(&codec_openai_chat, &w, 1 << 20);
        assert_non_null(s->relay.writer);
    }
}

static void end(struct stage *s)
{
    encoder_free(s->relay.writer);
    toolgate_free(s->run.gate);
    shown_done(&s->run.told);
    buf_done(&s->run.held);
    buf_done(&s->run.late);
    buf_done(&s->run.body);
    meter_free(s->worker.meter);
    loop_free(s->worker.loop);
}

static size_t pending(struct stage *s)
{
    struct span made;
    assert_int_equal(encoder_bytes(s->relay.writer, &made), PD_OK);
    return made.n;
}

/* ---- going on ---- */

static void an_attempt_with_nothing_to_add_ends_the_answer_all_the_same(void **state)
{
    (void)state;
    struct stage s;
    begin(&s, true);
    assert_int_equal(flow_end(&s.run), PD_OK);
    assert_int_equal(s.outputs, 1); /* the call takes it: the break is bridged */
    assert_int_equal(s.hidden, 1);
    assert_true(s.run.produced);
    end(&s);
    begin(&s, true);
    s.run.produced = true; /* it had told of something already */
    assert_int_equal(flow_end(&s.run), PD_OK);
    assert_int_equal(s.outputs, 0);
    end(&s);
    begin(&s, false); /* one that does not go on has shown nothing, and needs not to */
    assert_int_equal(flow_end(&s.run), PD_OK);
    assert_int_equal(s.outputs, 0);
    end(&s);
}

static void before_its_seam_is_found_the_writer_is_left_alone(void **state)
{
    (void)state;
    struct stage s;
    struct msg_delta text = {.kind = MSG_TEXT, .tool = -1, .text = SPAN_LIT("an earlier call's")};
    begin(&s, true);
    encoder_delta(s.relay.writer, &text);
    size_t before = pending(&s);
    assert_true(before > 0);
    const struct answer_event ev = {.holds = ANSWER_OUTPUT};
    assert_int_equal(flow_event(&s.run, &ev), PD_OK);
    assert_int_equal(s.outputs, 1);
    assert_int_equal(pending(&s), before);
    assert_int_equal(buf_size(&s.run.held), 0);
    assert_int_equal(s.shows, 0);
    text.text = SPAN_LIT(" and more"); /* without a joiner the seam is at once */
    flow_delta(&s.run, &text);
    assert_int_equal(flow_event(&s.run, &ev), PD_OK);
    assert_int_equal(pending(&s), 0);
    assert_true(buf_size(&s.run.held) > before);
    assert_int_equal(s.shows, 1);
    end(&s);
}

/* ---- tool calls ---- */

static void calls(struct stage *s, const char *arguments)
{
    flow_delta(&s->run,
               &(struct msg_delta){.kind = MSG_TOOL_START, .id = SPAN_LIT("t1"), .text = SPAN_LIT("read")});
    flow_delta(&s->run, &(struct msg_delta){.kind = MSG_TOOL_ARGUMENTS, .text = span_str(arguments)});
    const struct answer_event ev = {.holds = ANSWER_OUTPUT, .raw = SPAN_LIT("data: the call\n\n")};
    assert_int_equal(flow_event(&s->run, &ev), PD_OK);
}

static void a_tool_call_waits_until_it_is_whole(void **state)
{
    (void)state;
    struct stage s;
    begin(&s, false);
    calls(&s, "{\"path\":\"a\"}");
    assert_true(s.run.gated);
    assert_int_equal(s.hidden, 1); /* it is output, and there is nothing to show of it */
    assert_int_equal(buf_size(&s.run.held), 0);
    assert_int_equal(s.shows, 0);
    assert_int_equal(flow_end(&s.run), PD_OK);
    assert_false(s.run.gated);
    assert_true(span_eq(buf_span(&s.run.held), SPAN_LIT("data: the call\n\n")));
    assert_int_equal(s.shows, 1);
    assert_int_equal(s.failed, FAILURE_NONE);
    end(&s);
}

static void half_a_tool_call_is_never_shown(void **state)
{
    (void)state;
    struct stage s;
    begin(&s, false);
    calls(&s, "{\"path\":\"a");
    assert_int_equal(flow_end(&s.run), PD_CANCELLED);
    assert_int_equal(s.failed, FAILURE_TOOL);
    assert_int_equal(buf_size(&s.run.held), 0);
    assert_int_equal(s.shows, 0);
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_attempt_with_nothing_to_add_ends_the_answer_all_the_same),
        cmocka_unit_test(before_its_seam_is_found_the_writer_is_left_alone),
        cmocka_unit_test(a_tool_call_waits_until_it_is_whole),
        cmocka_unit_test(half_a_tool_call_is_never_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
