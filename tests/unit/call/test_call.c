#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/clock.h"
#include "call_fixture.h"

#include <stdio.h>
#include <string.h>

/* A story: what happens when, and which actions it must cause, to the letter.
 *
 *   out N      attempt N gives its first output       done N    its answer is whole
 *   move N     more output                            gone      the client leaves
 *   fail N CLASS [after MS] [stop|retry]              wake      at the time given
 *   next       the call is woken at call_next(), which must lie in [at, most]
 *
 * A '*' in them: whatever follows. Actions are written as: start N@T (same) (hedge) (on, it continues), cancel N, commit N, finish N, fail CLASS N MS, break CLASS N. */
struct step {
    const char *event;
    uint64_t at, most; /* since the call began; 0: when the last event was */
    const char *want;
};
struct story {
    const char *name;
    void (*prepare)(struct fixture *f);
    struct step steps[20];
    enum call_outcome outcome;
    bool goes_on; /* not over at the end */
};

static enum failure class_of(const char *name)
{
    for (int i = 0; i < FAILURE_COUNT; i++)
        if (strcmp(failure_row((enum failure)i)->name, name) == 0)
            return (enum failure)i;
    fail_msg("no such class: %s", name);
    return FAILURE_NONE;
}

static void write_actions(const struct fixture *f, const struct call_actions *acts, char *out, size_t n)
{
    size_t at = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < acts->count && at < n; i++) {
        const struct call_action *a = &acts->list[i];
        const char *comma = i ? ", " : "", *class = failure_row(a->failure)->name;
        switch (a->act) {
        case CALL_START:
            at += (size_t)snprintf(out + at, n - at, "%sstart %d@%d%s%s%s", comma, a->attempt,
                                   f->call.attempts[a->attempt].target, a->same_target ? " same" : "",
                                   a->hedge ? " hedge" : "", a->continues ? " on" : "");
            break;
        case CALL_CANCEL:
            at += (size_t)snprintf(out + at, n - at, "%scancel %d", comma, a->attempt);
            break;
        case CALL_COMMIT:
            at += (size_t)snprintf(out + at, n - at, "%scommit %d", comma, a->attempt);
            break;
        case CALL_FINISH:
            at += (size_t)snprintf(out + at, n - at, "%sfinish %d", comma, a->attempt);
            break;
        case CALL_FAIL:
            at += (size_t)snprintf(out + at, n - at, "%sfail %s %d %llu", comma, class, a->attempt,
                                   (unsigned long long)a->retry_after_ms);
            break;
        case CALL_BREAK:
            at += (size_t)snprintf(out + at, n - at, "%sbreak %s %d", comma, class, a->attempt);
            break;
        }
    }
}

static void fail_event(struct fixture *f, const char *event, int n, uint64_t now, struct call_actions *acts)
{
    struct verdict v = {0};
    char class[32] = "", word[16] = "";
    unsigned long long after = 0;
    sscanf(event, "fail %*d %31s after %llu", class, &after);
    sscanf(event, "fail %*d %*s %15s", word);
    v.failure = class_of(class);
    v.has_retry_after = after > 0;
    v.retry_after_ms = after;
    v.provider_says_stop = strcmp(word, "stop") == 0;
    v.provider_says_retry = strcmp(word, "retry") == 0;
    call_failed(&f->call, n, &v, now, acts);
}

static uint64_t happen(struct fixture *f, const char *story, const struct step *s, uint64_t now)
{
    struct call_actions acts = {.count = 0};
    if (s->at && strcmp(s->event, "next") != 0)
        now = NOW + s->at;
    int n = 0;
    sscanf(s->event, "%*s %d", &n);
    make_room(f);
    if (strncmp(s->event, "out", 3) == 0) {
        call_output(&f->call, n, now, &acts);
    } else if (strncmp(s->event, "hidden", 6) == 0) {
        call_hidden_output(&f->call, n, now, &acts);
    } else if (strncmp(s->event, "move", 4) == 0) {
        call_moved(&f->call, n, now);
    } else if (strncmp(s->event, "done", 4) == 0) {
        call_complete(&f->call, n, now, &acts);
    } else if (strncmp(s->event, "gone", 4) == 0) {
        call_gone(&f->call, now, &acts);
    } else if (strncmp(s->event, "fail", 4) == 0) {
        fail_event(f, s->event, n, now, &acts);
    } else if (strcmp(s->event, "wake") == 0) {
        call_wake(&f->call, now, &acts);
    } else if (strcmp(s->event, "next") == 0) {
        now = call_next(&f->call);
        uint64_t most = s->most ? s->most : s->at;
        if (now < NOW + s->at || now > NOW + most)
            fail_msg("%s: next is after %lld ms", story, (long long)(now - NOW));
        call_wake(&f->call, now, &acts);
        if (f->call.state != CALL_OVER)
            assert_true(call_next(&f->call) > now);
    } else {
        fail_msg("%s: no such event: %s", story, s->event);
    }
    char got[400];
    write_actions(f, &acts, got, sizeof(got));
    size_t same = strcspn(s->want, "*");
    if (s->want[same] ? strncmp(got, s->want, same) != 0 : strcmp(got, s->want) != 0)
        fail_msg("%s: after \"%s\" at %lld ms:\n  got:  %s\n  want: %s", story, s->event, (long long)(now - NOW),
                 got, s->want);
    return now;
}

static void tell(const struct story *st)
{
    struct fixture f;
    begin(&f);
    if (st->prepare)
        st->prepare(&f);
    settle(&f);
    struct call_actions acts;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    char got[400];
    write_actions(&f, &acts, got, sizeof(got));
    bool own_begin = st->steps[0].event && strcmp(st->steps[0].event, "begin") == 0;
    const char *first = own_begin ? st->steps[0].want : f.want.resumes ? "start 0@0 on" : "start 0@0";
    if (strcmp(got, first) != 0)
        fail_msg("%s: it begins with: %s", st->name, got);
    uint64_t now = NOW;
    for (const struct step *s = st->steps; s->event; s++)
        if (strcmp(s->event, "begin") != 0)
            now = happen(&f, st->name, s, now);
    if (st->goes_on ? f.call.state == CALL_OVER : f.call.state != CALL_OVER || f.call.outcome != st->outcome)
        fail_msg("%s: it is %s, %s", st->name, call_state_name(f.call.state), call_outcome_name(f.call.outcome));
    if (f.call.state == CALL_OVER) {
        assert_true(call_next(&f.call) == CLOCK_NEVER);
        for (unsigned i = 0; i < f.route.count; i++)
            assert_int_equal(f.t[i]->running, 0);
    }
    fleet_free(f.fleet);
}

static void collected(struct fixture *f)
{
    f->want.streamed = false;
}
static void one_target(struct fixture *f)
{
    f->route.count = 1;
}
static void two_targets(struct fixture *f)
{
    f->route.count = 2;
}
static void no_target(struct fixture *f)
{
    f->route.count = 0;
}
static void no_fallback(struct fixture *f)
{
    f->want.no_fallback = true;
}
static void one_attempt(struct fixture *f)
{
    f->settings.attempts = 1;
}
static void no_retries(struct fixture *f)
{
    f->settings.retry_budget = 0;
}
static void no_hedges(struct fixture *f)
{
    f->settings.hedge_budget = 0;
}
static void no_hold(struct fixture *f)
{
    f->settings.retry_after_max = 0, f->route.count = 1;
}
static void no_stall(struct fixture *f)
{
    f->settings.stall = 0;
}
static void no_ttft(struct fixture *f)
{
    f->settings.ttft = 0;
}
static void short_deadline(struct fixture *f)
{
    f->want.deadline_ms = 5 * S, f->settings.ttft = 0;
}
static void tiny_backoff_one_target(struct fixture *f)
{
    f->settings.backoff_max = 1500, f->route.count = 1;
}
static void broke(struct fixture *f)
{
    f->settings.retry_budget = 1;
    while (budget_spend(fleet_retry_budget(f->fleet)))
        ;
}
static void broke_and_alone(struct fixture *f)
{
    broke(f), f->route.count = 1;
}
static void wish(struct fixture *f)
{
    f->want.ttft_ms = 300;
}

static void chat(struct fixture *f)
{
    f->want.can_continue = true;
}
static void chat_two(struct fixture *f)
{
    chat(f), f->route.count = 2;
}
static void chat_one(struct fixture *f)
{
    chat(f), f->route.count = 1;
}
static void chat_once(struct fixture *f)
{
    chat(f), f->settings.continuations = 1;
}
static void chat_never(struct fixture *f)
{
    chat(f), f->settings.continuations = 0;
}
static void chat_one_attempt(struct fixture *f)
{
    chat_one(f), f->settings.attempts = 1;
}
static void chat_broke(struct fixture *f)
{
    chat_one(f), broke(f);
}
static void chat_no_retries(struct fixture *f)
{
    chat_broke(f), f->settings.retry_budget = 0;
}
static void chat_short(struct fixture *f)
{
    chat(f), short_deadline(f);
}
static void chat_no_fallback(struct fixture *f)
{
    chat(f), f->want.no_fallback = true;
}
static void resumed(struct fixture *f)
{
    chat(f), f->want.resumes = true;
}
static void resumed_alone(struct fixture *f)
{
    resumed(f), f->route.count = 1;
}
/* All down is known after one try, and the breaker stays out of it. */
static void hold(struct fixture *f)
{
    f->want.in_session = true, f->want.hold_ms = UINT64_MAX;
    f->settings.hold = 1 * MIN, f->settings.hold_single = 0, f->settings.attempts = 1;
    f->settings.retry_after_max = 0, f->settings.breaker_failures = 0, f->route.count = 2;
}
static void hold_alone(struct fixture *f)
{
    hold(f), f->route.count = 1;
}
static void hold_patient(struct fixture *f)
{
    hold_alone(f), f->settings.attempts = 2;
}
static void hold_none(struct fixture *f)
{
    hold_alone(f), f->want.hold_ms = 0;
}
static void hold_single(struct fixture *f)
{
    hold_alone(f), f->want.in_session = false;
}
static void hold_wished(struct fixture *f)
{
    hold_single(f), f->want.hold_ms = 10 * S;
}
static void hold_with_deadline(struct fixture *f)
{
    hold_alone(f), f->want.deadline_ms = 5 * S;
}
static void hold_short_timeout(struct fixture *f)
{
    hold_alone(f), f->settings.call_timeout = 5 * S, f->settings.ttft = 0;
}
static void hold_chat_single(struct fixture *f)
{
    hold_single(f), chat(f);
}
static void hold_chat(struct fixture *f)
{
    hold_alone(f), chat(f);
    f->settings.retry_budget = 0;
}

static const struct story stories[] = {
    /* going on after a break */
    {"a stream that breaks goes on with another target at once, and with the next, and it ends whole",
     chat,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 cut", 200, 0, "start 1@1 on"},
      {"fail 1 server_error", 300, 0, "start 2@2 on"},
      {"out 2", 400, 0, "commit 2"},
      {"done 2", 500, 0, "finish 2"}},
     CALL_CONTINUED,
     false},
    {"where the others failed too it goes back to the first, after its backoff",
     chat_two,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 cut", 200, 0, "start 1@1 on"},
      {"fail 1 server_error", 300, 0, ""},
      {"next", 1000, 1500, "start 2@0 same on"},
      {"out 2", 1600, 0, "commit 2"}},
     CALL_COMPLETE,
     true},
    {"a stall goes on elsewhere at once",
     chat,
     {{"out 0", 100, 0, "commit 0"},
      {"next", 30100, 0, "cancel 0, start 1@1 on"},
      {"out 1", 30200, 0, "commit 1"}},
     CALL_COMPLETE,
     true},
    {"with nothing more to say it is whole too",
     chat,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, "start 1@1 on"},
      {"done 1", 300, 0, "commit 1, finish 1"}},
     CALL_CONTINUED,
     false},
    {"a client whose stream cannot be gone on with is told of the break",
     NULL,
     {{"out 0", 100, 0, "commit 0"}, {"fail 0 overloaded", 200, 0, "break overloaded 0"}},
     CALL_CUT_AFTER,
     false},
    {"so it is with continuations off",
     chat_never,
     {{"out 0", 100, 0, "commit 0"}, {"fail 0 overloaded", 200, 0, "break overloaded 0"}},
     CALL_CUT_AFTER,
     false},
    {"after so many breaks the next is told",
     chat_once,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, "start 1@1 on"},
      {"out 1", 300, 0, "commit 1"},
      {"fail 1 cut", 400, 0, "break cut 1"}},
     CALL_CUT_AFTER,
     false},
    {"attempts that give nothing new are no breaks",
     chat_once,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, "start 1@1 on"},
      {"fail 1 overloaded", 300, 0, "start 2@2 on"},
      {"out 2", 400, 0, "commit 2"}},
     CALL_COMPLETE,
     true},
    {"each break looks at all targets afresh",
     chat_two,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, "start 1@1 on"},
      {"out 1", 300, 0, "commit 1"},
      {"fail 1 overloaded", 400, 0, "start 2@0 on"},
      {"out 2", 500, 0, "commit 2"},
      {"fail 2 overloaded", 600, 0, "start 3@1 on"}},
     CALL_COMPLETE,
     true},
    {"but a Retry-After lasts",
     chat_two,
     {{"fail 0 overloaded after 20000", 50, 0, "start 1@1"},
      {"out 1", 300, 0, "commit 1"},
      {"fail 1 overloaded after 9000", 400, 0, ""},
      {"next", 9400, 10400, "start 2@1 same on"}},
     CALL_COMPLETE,
     true},
    {"the try that broke after output was a good one",
     chat_one_attempt,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 cut", 200, 0, ""},
      {"next", 1000, 1400, "start 1@0 same on"},
      {"fail 1 reset", 1500, 0, "break cut 0"}},
     CALL_CUT_AFTER,
     false},
    {"it needs no token of the retry budget",
     chat_broke,
     {{"out 0", 100, 0, "commit 0"}, {"fail 0 cut", 200, 0, ""}, {"next", 1000, 1400, "start 1@0 same on"}},
     CALL_COMPLETE,
     true},
    {"but where retries are off there is none",
     chat_no_retries,
     {{"out 0", 100, 0, "commit 0"}, {"fail 0 cut", 200, 0, "break cut 0"}},
     CALL_CUT_AFTER,
     false},
    {"what is told is the break that could not be bridged",
     chat_two,
     {{"out 0", 100, 0, "commit 0"},
      {"next", 30100, 0, "cancel 0, start 1@1 on"},
      {"fail 1 auth", 30200, 0, ""},
      {"next", 30900, 31400, "start 2@0 same on"},
      {"fail 2 tls", 31500, 0, "break stalled 0"}},
     CALL_STALLED,
     false},
    {"the deadline comes while it is tried",
     chat_short,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, "start 1@1 on"},
      {"next", 5000, 0, "cancel 1, break overloaded 0"}},
     CALL_CUT_AFTER,
     false},
    {"a break after the deadline starts nothing",
     chat_short,
     {{"out 0", 100, 0, "commit 0"}, {"fail 0 overloaded", 5001, 0, "break overloaded 0"}},
     CALL_CUT_AFTER,
     false},
    {"a target that will not go on is asked in another way at once, and then another",
     chat,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, "start 1@1 on"},
      {"fail 1 cannot_join", 300, 0, "start 2@1 same on"},
      {"fail 2 cannot_join", 400, 0, "start 3@2 on"},
      {"out 3", 500, 0, "commit 3"}},
     CALL_COMPLETE,
     true},
    {"a continuing request that is refused is not the client's: it goes elsewhere, and not there again",
     chat,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, "start 1@1 on"},
      {"fail 1 bad_request", 300, 0, "start 2@2 on"},
      {"out 2", 400, 0, "commit 2"},
      {"fail 2 overloaded", 500, 0, "start 3@0 on"},
      {"fail 3 overloaded", 600, 0, ""},
      {"next", 1300, 1800, "start 4@*"}},
     CALL_COMPLETE,
     true},
    {"so does one that is too long",
     chat,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, "start 1@1 on"},
      {"fail 1 context_too_long", 300, 0, "start 2@2 on"}},
     CALL_COMPLETE,
     true},
    {"a safety decision ends it",
     chat,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, "start 1@1 on"},
      {"fail 1 content_filtered", 300, 0, "break content_filtered 1"}},
     CALL_CUT_AFTER,
     false},
    {"nor is one asked again that cannot carry the request",
     chat_two,
     {{"fail 0 cannot_carry", 50, 0, "start 1@1"},
      {"out 1", 100, 0, "commit 1"},
      {"fail 1 overloaded", 200, 0, ""},
      {"next", 1000, 1400, "start 2@1 same on"}},
     CALL_COMPLETE,
     true},
    {"no hedge goes where a Retry-After is not over, but where a backoff is",
     chat,
     {{"fail 0 overloaded after 20000", 50, 0, "start 1@1"},
      {"out 1", 100, 0, "commit 1"},
      {"fail 1 overloaded", 200, 0, "start 2@2 on"},
      {"next", 2200, 0, "start 3@1 same hedge on"}},
     CALL_COMPLETE,
     true},
    {"one that answers but does not join is asked at once, as often as it may be",
     chat_one,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, ""},
      {"next", 1000, 1400, "start 1@0 same on"},
      {"fail 1 cannot_join", 1500, 0, "start 2@0 same on"},
      {"fail 2 cannot_join", 1600, 0, "start 3@0 same on"},
      {"fail 3 cannot_join", 1700, 0, "break overloaded 0"}},
     CALL_CUT_AFTER,
     false},
    {"within the stream too",
     chat,
     {{"out 0", 100, 0, "commit 0"}, {"fail 0 content_filtered", 200, 0, "break content_filtered 0"}},
     CALL_CUT_AFTER,
     false},
    {"and beside a hedge",
     chat,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, "start 1@1 on"},
      {"next", 2200, 0, "start 2@2 hedge on"},
      {"fail 1 content_filtered", 2300, 0, "cancel 2, break content_filtered 1"}},
     CALL_CUT_AFTER,
     false},
    {"of two that go on the first wins",
     chat,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, "start 1@1 on"},
      {"next", 2200, 0, "start 2@2 hedge on"},
      {"out 2", 2300, 0, "cancel 1, commit 2"},
      {"done 2", 2400, 0, "finish 2"}},
     CALL_CONTINUED,
     false},
    {"what is held back while it goes on fails unseen",
     chat,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, "start 1@1 on"},
      {"hidden 1", 300, 0, ""},
      {"fail 1 overloaded", 400, 0, "start 2@2 on"},
      {"hidden 2", 500, 0, ""},
      {"done 2", 600, 0, "commit 2, finish 2"}},
     CALL_CONTINUED,
     false},
    {"no fallback: it goes on where it was",
     chat_no_fallback,
     {{"out 0", 100, 0, "commit 0"}, {"fail 0 overloaded", 200, 0, ""}, {"next", 1000, 1400, "start 1@0 same on"}},
     CALL_COMPLETE,
     true},
    {"the client leaves while it is tried",
     chat,
     {{"out 0", 100, 0, "commit 0"}, {"fail 0 overloaded", 200, 0, "start 1@1 on"}, {"gone", 300, 0, "cancel 1"}},
     CALL_CLIENT_GONE,
     false},
    {"a resumed call goes on from its first attempt",
     resumed,
     {{"out 0", 100, 0, "commit 0"}, {"done 0", 200, 0, "finish 0"}},
     CALL_CONTINUED,
     false},
    {"and may have nothing more to say",
     resumed,
     {{"done 0", 200, 0, "commit 0, finish 0"}},
     CALL_CONTINUED,
     false},
    {"without an answer it ends as after output",
     resumed_alone,
     {{"fail 0 auth", 100, 0, "break auth 0"}},
     CALL_CUT_AFTER,
     false},
    {"its request is not the client's",
     resumed,
     {{"fail 0 bad_request", 100, 0, "start 1@1 on"}},
     CALL_COMPLETE,
     true},
    {"by its deadline too", resumed, {{"wake", 30 * MIN, 0, "cancel 0, break timeout -1"}}, CALL_CUT_AFTER, false},

    /* holding */
    {"when every target is down a session's call holds, and goes on when one is back",
     hold,
     {{"fail 0 overloaded", 50, 0, "start 1@1"},
      {"fail 1 overloaded", 60, 0, ""},
      {"next", 1061, 1400, "start 2@0"},
      {"out 2", 1500, 0, "commit 2"},
      {"done 2", 1600, 0, "finish 2"}},
     CALL_COMPLETE,
     false},
    {"each round takes longer, and the hold ends in the failure",
     hold_alone,
     {{"fail 0 overloaded", 0, 0, ""},
      {"next", 1000, 1251, "start 1@0"},
      {"fail 1 overloaded", 1300, 0, ""},
      {"next", 3300, 3551, "start 2@0"},
      {"fail 2 overloaded", 4000, 0, ""},
      {"next", 6000, 6251, ""},
      {"next", 8000, 8501, "start 3@0"},
      {"fail 3 auth", 9000, 0, "fail auth 3 30*"}},
     CALL_CUT_BEFORE,
     false},
    {"one try on each shows whether it is over",
     hold_patient,
     {{"fail 0 overloaded", 0, 0, ""},
      {"next", 800, 1200, "start 1@0 same"},
      {"fail 1 overloaded", 1300, 0, ""},
      {"next", 2300, 2551, "start 2@0"},
      {"fail 2 overloaded", 2600, 0, ""},
      {"next", 4600, 4851, "start 3@0"}},
     CALL_COMPLETE,
     true},
    {"not with the hold off",
     hold_none,
     {{"fail 0 overloaded", 0, 0, "fail overloaded 0 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"nor outside of a session",
     hold_single,
     {{"fail 0 overloaded", 0, 0, "fail overloaded 0 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"but where the client wishes it, and so long",
     hold_wished,
     {{"fail 0 overloaded after 9000", 0, 0, ""},
      {"next", 2000, 2251, ""},
      {"next", 4000, 4501, ""},
      {"next", 6000, 6751, ""},
      {"next", 8000, 9001, ""},
      {"next", 9000, 9501, "start 1@0"},
      {"fail 1 overloaded after 9000", 9600, 0, "fail overloaded 1 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"a recovery that is known to come too late is not waited for",
     hold_wished,
     {{"fail 0 rate_limited after 11000", 0, 0, "fail rate_limited 0 11000"}},
     CALL_CUT_BEFORE,
     false},
    {"a key that is refused is no outage",
     hold_alone,
     {{"fail 0 auth", 0, 0, "fail auth 0 30*"}},
     CALL_CUT_BEFORE,
     false},
    {"nor what the target cannot carry",
     hold,
     {{"fail 0 cannot_carry", 0, 0, "start 1@1"}, {"fail 1 cannot_carry", 10, 0, "fail cannot_carry 1 0"}},
     CALL_CUT_BEFORE,
     false},
    {"nor a model that makes bad tool calls",
     hold_alone,
     {{"fail 0 tool_use_failed", 0, 0, "fail tool_use_failed 0 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"it holds for the other then, and leaves that one alone",
     hold,
     {{"fail 0 cannot_join", 0, 0, "start 1@1"},
      {"fail 1 overloaded", 60, 0, ""},
      {"next", 1061, 1400, "start 2@1"}},
     CALL_COMPLETE,
     true},
    {"the deadline stands still on hold",
     hold_short_timeout,
     {{"fail 0 overloaded after 9000", 1000, 0, ""},
      {"next", 3000, 3251, ""},
      {"next", 5000, 5502, ""},
      {"next", 7000, 7753, ""},
      {"next", 9000, 10004, ""},
      {"next", 10000, 10255, "start 1@0"},
      {"wake", 13500, 0, ""},
      {"next", 14000, 14255, "cancel 1, fail timeout -1 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"but not one that the client has set",
     hold_with_deadline,
     {{"fail 0 overloaded after 20000", 1000, 0, ""},
      {"next", 3000, 3251, ""},
      {"next", 5000, 0, "fail timeout -1 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"the client leaves while it is held",
     hold_alone,
     {{"fail 0 overloaded", 0, 0, ""}, {"gone", 500, 0, ""}},
     CALL_CLIENT_GONE,
     false},
    {"a broken stream is held too",
     hold_chat,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, ""},
      {"next", 1200, 1451, "start 1@0 on"},
      {"out 1", 1500, 0, "commit 1"},
      {"done 1", 1600, 0, "finish 1"}},
     CALL_CONTINUED,
     false},
    {"half an answer is waited for outside of a session too",
     hold_chat_single,
     {{"out 0", 100, 0, "commit 0"},
      {"fail 0 overloaded", 200, 0, ""},
      {"next", 1000, 1451, "start 1@0 same on"},
      {"fail 1 overloaded", 1500, 0, ""},
      {"next", 2000, 6000, "start 2@0 on"},
      {"out 2", 6100, 0, "commit 2"},
      {"done 2", 6200, 0, "finish 2"}},
     CALL_CONTINUED,
     false},

    /* the good ways */
    {"an answer is shown as it comes",
     NULL,
     {{"out 0", 100, 0, "commit 0"}, {"move 0", 200, 0, ""}, {"done 0", 300, 0, "finish 0"}},
     CALL_COMPLETE,
     false},
    {"a collected one when it is whole",
     collected,
     {{"out 0", 100, 0, ""}, {"done 0", 300, 0, "commit 0, finish 0"}},
     CALL_COMPLETE,
     false},
    {"output that cannot be shown yet holds the reply back",
     NULL,
     {{"hidden 0", 100, 0, ""},
      {"hidden 0", 150, 0, ""},
      {"out 0", 200, 0, "commit 0"},
      {"out 0", 250, 0, ""},
      {"done 0", 300, 0, "finish 0"}},
     CALL_COMPLETE,
     false},
    {"and is shown at the end at the latest",
     NULL,
     {{"hidden 0", 100, 0, ""}, {"done 0", 300, 0, "commit 0, finish 0"}},
     CALL_COMPLETE,
     false},
    {"its failure is invisible, that of what was shown is not",
     NULL,
     {{"hidden 0", 100, 0, ""},
      {"fail 0 cut", 200, 0, ""},
      {"next", 850, 1450, "start 1@0 same"},
      {"hidden 1", 1600, 0, ""},
      {"out 1", 1700, 0, "commit 1"},
      {"fail 1 cut", 1800, 0, "break cut 1"}},
     CALL_CUT_AFTER,
     false},
    {"an answer without output before its end",
     NULL,
     {{"done 0", 300, 0, "commit 0, finish 0"}},
     CALL_COMPLETE,
     false},

    /* the same target first */
    {"one more try on the same target, then the next",
     NULL,
     {{"fail 0 server_error", 50, 0, ""},
      {"next", 850, 1250, "start 1@0 same"},
      {"fail 1 server_error", 2000, 0, "start 2@1"},
      {"out 2", 2100, 0, "commit 2"},
      {"done 2", 2200, 0, "finish 2"}},
     CALL_COMPLETE,
     false},
    {"its Retry-After comes before the backoff",
     NULL,
     {{"fail 0 server_error after 7000", 50, 0, ""}, {"next", 7050, 0, "start 1@0 same"}},
     CALL_COMPLETE,
     true},
    {"one longer than backoff_max sends it elsewhere",
     NULL,
     {{"fail 0 server_error after 31000", 50, 0, "start 1@1"}},
     CALL_COMPLETE,
     true},
    {"x-should-retry: false sends it elsewhere",
     NULL,
     {{"fail 0 server_error stop", 50, 0, "start 1@1"}},
     CALL_COMPLETE,
     true},
    {"x-should-retry: true makes it try the same first",
     NULL,
     {{"fail 0 overloaded retry", 50, 0, ""}, {"next", 850, 1250, "start 1@0 same"}},
     CALL_COMPLETE,
     true},
    {"but not where it cannot help", NULL, {{"fail 0 tls retry", 50, 0, "start 1@1"}}, CALL_COMPLETE, true},
    {"without tries left it goes elsewhere",
     one_attempt,
     {{"fail 0 server_error", 50, 0, "start 1@1"}},
     CALL_COMPLETE,
     true},
    {"without budget it goes elsewhere",
     broke,
     {{"fail 0 server_error", 50, 0, "start 1@1"}},
     CALL_COMPLETE,
     true},
    {"with the budget off too", no_retries, {{"fail 0 server_error", 50, 0, "start 1@1"}}, CALL_COMPLETE, true},
    {"without budget and alone it ends",
     broke_and_alone,
     {{"fail 0 server_error", 50, 0, "fail server_error 0 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"alone it tries as often as it may, waiting longer each time",
     one_target,
     {{"fail 0 server_error", 0, 0, ""},
      {"next", 800, 1200, "start 1@0 same"},
      {"fail 1 server_error", 2000, 0, ""},
      {"next", 3600, 4800, "start 2@0 same"},
      {"fail 2 server_error", 5000, 0, "fail server_error 2 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"the backoff has a most",
     tiny_backoff_one_target,
     {{"fail 0 server_error", 0, 0, ""},
      {"next", 800, 1200, "start 1@0 same"},
      {"fail 1 server_error", 2000, 0, ""},
      {"next", 3200, 3700, "start 2@0 same"}},
     CALL_COMPLETE,
     true},

    /* elsewhere first */
    {"an overloaded one is left at once",
     NULL,
     {{"fail 0 overloaded", 50, 0, "start 1@1"}, {"fail 1 overloaded", 60, 0, "start 2@2"}},
     CALL_COMPLETE,
     true},
    {"a limit is waited out only when all are busy",
     two_targets,
     {{"fail 0 rate_limited after 4000", 50, 0, "start 1@1"},
      {"fail 1 rate_limited after 3000", 60, 0, ""},
      {"next", 3060, 3500, "start 2@1 same"}},
     CALL_COMPLETE,
     true},
    {"a limit longer than retry_after_max is not waited out",
     one_target,
     {{"fail 0 rate_limited after 61000", 50, 0, "fail rate_limited 0 61000"}},
     CALL_CUT_BEFORE,
     false},
    {"nor is any with it off",
     no_hold,
     {{"fail 0 rate_limited after 1000", 50, 0, "fail rate_limited 0 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"backoff is",
     no_hold,
     {{"fail 0 server_error", 50, 0, ""}, {"next", 850, 1250, "start 1@0 same"}},
     CALL_COMPLETE,
     true},
    {"a refused key is never tried again",
     two_targets,
     {{"fail 0 auth", 50, 0, "start 1@1"}, {"fail 1 auth", 60, 0, "fail auth 1 300*"}},
     CALL_CUT_BEFORE,
     false},

    /* nowhere else */
    {"a bad request is sent once",
     NULL,
     {{"fail 0 bad_request", 50, 0, "fail bad_request 0 0"}},
     CALL_ERROR,
     false},
    {"filtered content too",
     NULL,
     {{"fail 0 content_filtered", 50, 0, "fail content_filtered 0 0"}},
     CALL_ERROR,
     false},
    {"a prompt that is too long too",
     NULL,
     {{"fail 0 context_too_long", 50, 0, "fail context_too_long 0 0"}},
     CALL_ERROR,
     false},
    {"a route without targets says so",
     no_target,
     {{"begin", 0, 0, "fail overloaded -1 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"no fallback: only the first target, with its retries",
     no_fallback,
     {{"fail 0 server_error", 50, 0, ""},
      {"next", 850, 1250, "start 1@0 same"},
      {"fail 1 overloaded", 2000, 0, ""},
      {"next", 3600, 4800, "start 2@0 same"},
      {"fail 2 server_error", 5000, 0, "fail server_error 2 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"our own trouble is not what is told",
     two_targets,
     {{"fail 0 tls", 50, 0, "start 1@1"}, {"fail 1 internal", 60, 0, "fail tls 0 1000"}},
     CALL_CUT_BEFORE,
     false},

    /* hedges */
    {"a late one gets another beside it; the first to answer wins",
     NULL,
     {{"next", 2000, 0, "start 1@1 hedge"},
      {"out 1", 2500, 0, "cancel 0, commit 1"},
      {"out 0", 2600, 0, ""},
      {"done 1", 3000, 0, "finish 1"}},
     CALL_COMPLETE,
     false},
    {"also when that is the late one",
     NULL,
     {{"next", 2000, 0, "start 1@1 hedge"}, {"out 0", 2500, 0, "cancel 1, commit 0"}},
     CALL_COMPLETE,
     true},
    {"three at most",
     NULL,
     {{"next", 2000, 0, "start 1@1 hedge"},
      {"next", 4000, 0, "start 2@2 hedge"},
      {"out 2", 4500, 0, "cancel 0, cancel 1, commit 2"}},
     CALL_COMPLETE,
     true},
    {"an answer that is whole at once stops the others too",
     NULL,
     {{"next", 2000, 0, "start 1@1 hedge"}, {"done 0", 2500, 0, "cancel 1, commit 0, finish 0"}},
     CALL_COMPLETE,
     false},
    {"a hedge that fails is dropped and may be replaced",
     NULL,
     {{"next", 2000, 0, "start 1@1 hedge"},
      {"fail 1 server_error", 2100, 0, "start 2@2 hedge"},
      {"fail 2 server_error", 2200, 0, ""},
      {"out 0", 3000, 0, "commit 0"}},
     CALL_COMPLETE,
     true},
    {"without budget there is none",
     no_hedges,
     {{"next", 2000, 0, ""}, {"next", 4000, 0, ""}, {"next", 8000, 0, ""}},
     CALL_COMPLETE,
     true},
    {"without another target there is none",
     one_target,
     {{"next", 2000, 0, ""}, {"next", 4000, 0, ""}},
     CALL_COMPLETE,
     true},
    {"with the limit off there is none",
     no_ttft,
     {{"next", 60000, 0, "cancel 0, start 1@1"}},
     CALL_COMPLETE,
     true},
    {"no fallback, no hedge", no_fallback, {{"next", 2000, 0, ""}}, CALL_COMPLETE, true},
    {"the client's own limit", wish, {{"next", 300, 0, "start 1@1 hedge"}}, CALL_COMPLETE, true},
    {"a bad request stops the hedge as well",
     NULL,
     {{"next", 2000, 0, "start 1@1 hedge"}, {"fail 1 bad_request", 2100, 0, "cancel 0, fail bad_request 1 0"}},
     CALL_ERROR,
     false},
    {"a prompt too long for one may fit the other",
     NULL,
     {{"next", 2000, 0, "start 1@1 hedge"},
      {"fail 1 context_too_long", 2100, 0, "start 2@2 hedge"},
      {"out 0", 2500, 0, "cancel 2, commit 0"}},
     CALL_COMPLETE,
     true},
    {"a hedge stopped for the winner may be asked when the winner breaks",
     collected,
     {{"next", 2000, 0, "start 1@1 hedge"},
      {"out 0", 2500, 0, "cancel 1"},
      {"fail 0 overloaded", 2600, 0, "start 2@1"}},
     CALL_COMPLETE,
     true},

    /* time */
    {"no first token: the attempt ends, the call goes on",
     no_ttft,
     {{"next", 60000, 0, "cancel 0, start 1@1"}, {"out 1", 61000, 0, "commit 1"}},
     CALL_COMPLETE,
     true},
    {"several without a first token",
     no_hedges,
     {{"wake", 60000, 0, "cancel 0, start 1@1"}, {"wake", 120000, 0, "cancel 1, start 2@2"}},
     CALL_COMPLETE,
     true},
    {"a stall while it is shown is told in the stream",
     NULL,
     {{"out 0", 100, 0, "commit 0"},
      {"move 0", 5000, 0, ""},
      {"wake", 30100, 0, ""},
      {"next", 35000, 0, "cancel 0, break stalled 0"}},
     CALL_STALLED,
     false},
    {"a stall before anything was shown is a change of target",
     collected,
     {{"out 0", 100, 0, ""},
      {"next", 30100, 0, "cancel 0, start 1@1"},
      {"done 1", 31000, 0, "commit 1, finish 1"}},
     CALL_COMPLETE,
     false},
    {"with the stall limit off only the deadline counts",
     no_stall,
     {{"out 0", 100, 0, "commit 0"}, {"next", 30 * MIN, 0, "cancel 0, break timeout 0"}},
     CALL_CUT_AFTER,
     false},
    {"the deadline before output is an error",
     short_deadline,
     {{"next", 5000, 0, "cancel 0, fail timeout -1 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"the deadline after it is told in the stream",
     short_deadline,
     {{"out 0", 100, 0, "commit 0"}, {"next", 5000, 0, "cancel 0, break timeout 0"}},
     CALL_CUT_AFTER,
     false},
    {"the deadline of a wait",
     short_deadline,
     {{"fail 0 server_error", 4900, 0, "start 1@1"}, {"next", 5000, 0, "cancel 1, fail timeout -1 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"a failure after the deadline starts nothing, however late its timer",
     short_deadline,
     {{"fail 0 overloaded", 5001, 0, "fail timeout -1 1000"}},
     CALL_CUT_BEFORE,
     false},
    {"an early wake does nothing", NULL, {{"wake", 1, 0, ""}, {"wake", 1999, 0, ""}}, CALL_COMPLETE, true},

    /* after output */
    {"a cut is told in the stream",
     NULL,
     {{"out 0", 100, 0, "commit 0"}, {"fail 0 cut", 200, 0, "break cut 0"}},
     CALL_CUT_AFTER,
     false},
    {"a stall that the provider's side saw too",
     NULL,
     {{"out 0", 100, 0, "commit 0"}, {"fail 0 stalled", 200, 0, "break stalled 0"}},
     CALL_STALLED,
     false},
    {"a cut before anything was shown is tried again",
     collected,
     {{"out 0", 100, 0, ""}, {"fail 0 cut", 200, 0, ""}, {"next", 1000, 1400, "start 1@0 same"}},
     CALL_COMPLETE,
     true},

    /* the client leaves */
    {"what runs is stopped",
     NULL,
     {{"next", 2000, 0, "start 1@1 hedge"}, {"gone", 2100, 0, "cancel 0, cancel 1"}},
     CALL_CLIENT_GONE,
     false},
    {"while waiting", NULL, {{"fail 0 server_error", 50, 0, ""}, {"gone", 60, 0, ""}}, CALL_CLIENT_GONE, false},
    {"while it is shown",
     NULL,
     {{"out 0", 50, 0, "commit 0"}, {"gone", 60, 0, "cancel 0"}},
     CALL_CLIENT_GONE,
     false},

    /* too late */
    {"events after the end do nothing",
     NULL,
     {{"done 0", 50, 0, "commit 0, finish 0"},
      {"out 0", 60, 0, ""},
      {"done 0", 60, 0, ""},
      {"fail 0 reset", 60, 0, ""},
      {"gone", 60, 0, ""},
      {"wake", MIN * 60, 0, ""}},
     CALL_COMPLETE,
     false},
    {"nor do those of an attempt that was stopped",
     NULL,
     {{"next", 2000, 0, "start 1@1 hedge"},
      {"out 1", 2100, 0, "cancel 0, commit 1"},
      {"done 0", 2200, 0, ""},
      {"fail 0 reset", 2200, 0, ""},
      {"fail 7 reset", 2200, 0, ""}},
     CALL_COMPLETE,
     true},
};

static void each_story_goes_as_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++)
        tell(&stories[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_story_goes_as_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
