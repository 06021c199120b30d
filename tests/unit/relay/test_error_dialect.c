/* Each client is told of each failure so that it does the right thing. */
#include "relay/error_dialect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "test.h"

static void a_client_is_known_by_its_user_agent(void **state)
{
    (void)state;
    static const struct {
        const char *agent;
        enum client_kind kind;
    } rows[] = {
        {"claude-cli/2.1.0 (external, cli)", CLIENT_CLAUDE_CODE},
        {"codex_exec/0.169.0 (Linux)", CLIENT_CODEX},
        {"codex_cli_rs/0.169.0", CLIENT_CODEX},
        {"opencode/1.18 ai-sdk/openai/2", CLIENT_OPENCODE},
        {"GeminiCLI/0.61/gemini (linux; x64)", CLIENT_GEMINI_CLI},
        {"QwenCode/0.24 (linux; x64)", CLIENT_QWEN_CODE},
        {"pi-coding-agent/0.73", CLIENT_PI},
        {"Charm Crush/1", CLIENT_CRUSH},
        {"litellm/1.0", CLIENT_AIDER},
        {"OpenAI/JS 6.49.0", CLIENT_OPENAI_SDK},
        {"AsyncOpenAI/Python 2", CLIENT_OPENAI_SDK},
        {"Anthropic/JS 1.12", CLIENT_ANTHROPIC_SDK},
        {"google-genai-sdk/2.32 gl-node/22", CLIENT_GENAI_SDK},
        {"curl/8.5", CLIENT_OTHER},
        {"", CLIENT_OTHER},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(client_kind_of(span_str(rows[i].agent)), rows[i].kind);
    assert_int_equal(client_kind_of(SPAN_NONE), CLIENT_OTHER);
}

static void each_failure_has_the_status_that_says_try_again_or_stop(void **state)
{
    (void)state;
    static const struct {
        enum client_kind kind;
        enum failure failure;
        int theirs, status;
        bool retry;
        uint64_t told_ms, wait_ms;
    } rows[] = {
        {CLIENT_OTHER, FAILURE_RATE, 429, 429, true, 0, 1000},
        {CLIENT_OTHER, FAILURE_RATE, 429, 429, true, 7000, 7000},
        {CLIENT_CODEX, FAILURE_RATE, 429, 503, true, 0, 1000},
        {CLIENT_CODEX, FAILURE_QUOTA, 429, 429, false, 0, 0},
        {CLIENT_OTHER, FAILURE_QUOTA, 429, 429, false, 0, 0},
        {CLIENT_OTHER, FAILURE_QUOTA, 429, 429, false, 9000, 9000},
        {CLIENT_OTHER, FAILURE_OVERLOAD, 529, 503, true, 999, 1000},
        {CLIENT_OTHER, FAILURE_BILLING, 402, 402, false, 0, 0},
        {CLIENT_OTHER, FAILURE_CONTEXT, 413, 413, false, 0, 0},
        {CLIENT_OTHER, FAILURE_CONTEXT, 500, 400, false, 0, 0},
        {CLIENT_OTHER, FAILURE_CONTEXT, 429, 400, false, 0, 0},
        {CLIENT_OTHER, FAILURE_BAD, 422, 422, false, 0, 0},
        {CLIENT_OTHER, FAILURE_BAD, 408, 400, false, 0, 0},
        {CLIENT_OTHER, FAILURE_BAD, 409, 400, false, 0, 0},
        {CLIENT_OTHER, FAILURE_BAD, 0, 400, false, 0, 0},
        {CLIENT_OTHER, FAILURE_FILTER, 200, 400, false, 0, 0},
        {CLIENT_OTHER, FAILURE_CARRY, 0, 400, false, 0, 0},
        {CLIENT_OTHER, FAILURE_AUTH, 401, 502, false, 0, 0},
        {CLIENT_OTHER, FAILURE_PERMISSION, 403, 502, false, 0, 0},
        {CLIENT_OTHER, FAILURE_NOT_FOUND, 404, 404, false, 0, 0},
        {CLIENT_OTHER, FAILURE_RESET, 0, 503, true, 0, 1000},
        {CLIENT_OTHER, FAILURE_SLOW, 0, 504, true, 0, 1000},
        {CLIENT_OTHER, FAILURE_SERVER, 500, 502, true, 0, 1000},
        {CLIENT_OTHER, FAILURE_OURS, 0, 500, true, 0, 1000},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct error_form f = error_form_of(rows[i].kind, rows[i].failure, rows[i].theirs, rows[i].told_ms);
        assert_int_equal(f.status, rows[i].status);
        assert_int_equal(f.retry, rows[i].retry);
        assert_int_equal(f.retry_after_ms, rows[i].wait_ms);
    }
}

static void what_heals_always_carries_a_time_to_wait(void **state)
{
    (void)state;
    for (int k = 0; k < CLIENT_KIND_COUNT; k++)
        for (int f = FAILURE_NONE + 1; f < FAILURE_COUNT; f++) {
            struct error_form form = error_form_of((enum client_kind)k, (enum failure)f, 0, 0);
            assert_true(form.status >= 400);
            assert_int_equal(form.retry, form.retry_after_ms > 0);
        }
}

static void only_pi_sees_a_broken_stream_without_an_error_event(void **state)
{
    (void)state;
    for (int k = 0; k < CLIENT_KIND_COUNT; k++)
        assert_int_equal(client_break_style((enum client_kind)k), k == CLIENT_PI ? BREAK_CUT : BREAK_EVENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_is_known_by_its_user_agent),
        cmocka_unit_test(each_failure_has_the_status_that_says_try_again_or_stop),
        cmocka_unit_test(what_heals_always_carries_a_time_to_wait),
        cmocka_unit_test(only_pi_sees_a_broken_stream_without_an_error_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
