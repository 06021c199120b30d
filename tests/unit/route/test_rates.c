/* Providers that enforce what they allow, requests and tokens, and what becomes of those who keep to it: few are refused, and little of
 * what is allowed is left lying. */
#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/rnd.h"
#include "route/fleet.h"

#include <math.h>
#include <stdio.h>

enum { S = 1000, MIN = 60 * S, HOUR = 60 * MIN, DAY = 24 * HOUR, NOW = 1000 * 1000, STEP = 20, LIVE = 512 };

/* ---- the provider: one count of what it allows */

struct count {
    double limit, left; /* limit 0: it has none */
    uint64_t time_ms;   /* of the limit */
    bool bucket;        /* fills all the time; else anew at each turn of time_ms */
    uint64_t at_ms;
};

static void count_tick(struct count *c, uint64_t now)
{
    if (c->bucket)
        c->left = fmin(c->limit, c->left + c->limit * (double)(now - c->at_ms) / (double)c->time_ms);
    else if (now / c->time_ms != c->at_ms / c->time_ms)
        c->left = c->limit;
    c->at_ms = now;
}

static uint64_t count_reset(const struct count *c, uint64_t now)
{
    if (c->bucket)
        return (uint64_t)ceil((c->limit - c->left) * (double)c->time_ms / c->limit);
    return c->time_ms - now % c->time_ms;
}

struct provider {
    const char *name;
    struct count requests, tokens;
    bool says;        /* headers */
    bool retry_after; /* in a refusal */
    uint64_t slowest; /* ms to the head of an answer */
    size_t prompt_most;
    double least;          /* share of what is allowed that must be used */
    unsigned refused_most; /* an hour, when it has been learned */
};

/* ---- one attempt */
struct run {
    bool live, arrived, told;
    uint64_t arrives_ms, head_ms, ends_ms;
    size_t bytes;
    uint64_t tokens;
    bool refused;
    struct rate_facts said;
    uint64_t wait_ms;
    struct place place;
};

struct world {
    struct fleet *fleet;
    struct target *t;
    struct provider p;
    struct rnd rnd;
    struct run run[LIVE];
    size_t next_bytes;
    double passed_requests, passed_tokens;
    unsigned refused;
};

static uint64_t between(struct rnd *r, uint64_t least, uint64_t most)
{
    return least + rnd_below(r, most - least + 1);
}

static void arrive(struct world *w, struct run *r, uint64_t now)
{
    struct count *q = &w->p.requests, *k = &w->p.tokens;
    r->arrived = true;
    r->said = (struct rate_facts){-1, -1, -1, -1, -1, -1};
    if (q->limit > 0)
        count_tick(q, now);
    if (k->limit > 0)
        count_tick(k, now);
    bool no_request = q->limit > 0 && q->left<1, no_tokens = k->limit> 0 && k->left < (double)r->tokens;
    r->refused = no_request || no_tokens;
    if (!r->refused) {
        q->left -= 1;
        k->left -= (double)r->tokens;
        w->passed_requests++;
        w->passed_tokens += (double)r->tokens;
    } else {
        w->refused++;
        r->head_ms = r->ends_ms = now + between(&w->rnd, 5, 50);
        r->wait_ms = count_reset(no_request ? q : k, now);
    }
    if (!w->p.says)
        return;
    if (q->limit > 0) {
        r->said.requests_limit = (int64_t)q->limit;
        r->said.requests_left = (int64_t)q->left;
        r->said.requests_reset_ms = (int64_t)count_reset(q, now);
    }
    if (k->limit > 0) {
        r->said.tokens_limit = (int64_t)k->limit;
        r->said.tokens_left = (int64_t)k->left;
        r->said.tokens_reset_ms = (int64_t)count_reset(k, now);
    }
}

static void end_run(struct world *w, struct run *r, uint64_t now)
{
    struct verdict v = {
        .failure = FAILURE_RATE, .has_retry_after = w->p.retry_after, .retry_after_ms = r->wait_ms};
    r->live = false;
    if (!r->refused)
        target_used(w->t, &r->place, r->bytes, r->tokens);
    target_end(w->t, r->refused ? &v : NULL, false, &r->place, now);
}

static void move(struct world *w, struct run *r, uint64_t now)
{
    if (!r->arrived && r->arrives_ms <= now)
        arrive(w, r, now);
    if (r->arrived && !r->told && r->head_ms <= now) {
        r->told = true;
        target_rate_facts(w->t, &r->place, &r->said, now);
        if (!r->refused)
            target_first_token(w->t, &r->place, now - r->place.started_ms, now);
    }
    if (r->told && r->ends_ms <= now)
        end_run(w, r, now);
}

static void start(struct world *w, struct run *r, uint64_t now)
{
    struct rnd *d = &w->rnd;
    *r = (struct run){.live = true, .bytes = w->next_bytes};
    r->tokens = r->bytes / 4 + r->bytes / 40 + between(d, 20, 300);
    r->arrives_ms = now + between(d, 1, 100);
    r->head_ms = r->arrives_ms + between(d, 20, w->p.slowest);
    r->ends_ms = r->head_ms + between(d, 0, 4 * S);
    r->place = target_start(w->t, r->bytes, now);
    w->next_bytes = between(d, 100, w->p.prompt_most);
}

/* As many as may start do, all the time. */
static void live(struct world *w, uint64_t from, uint64_t until)
{
    for (uint64_t now = from; now < until; now += STEP) {
        for (int i = 0; i < LIVE; i++)
            if (w->run[i].live)
                move(w, &w->run[i], now);
        uint64_t at;
        for (int i = 0; i < LIVE && target_look(w->t, w->next_bytes, now, &at) == TARGET_FREE; i++)
            if (!w->run[i].live)
                start(w, &w->run[i], now);
    }
}

static void begin(struct world *w, const struct provider *p, uint64_t seed)
{
    *w = (struct world){.p = *p, .rnd = {seed}, .next_bytes = 1000};
    struct settings s;
    settings_default(&s);
    w->fleet = fleet_new(seed);
    assert_non_null(w->fleet);
    assert_int_equal(fleet_target(w->fleet, "p", "m", &s, &w->t), PD_OK);
}

static void end(struct world *w, uint64_t now)
{
    for (int i = 0; i < LIVE; i++)
        if (w->run[i].live)
            target_end(w->t, NULL, true, &w->run[i].place, now);
    w->fleet = fleet_free(w->fleet);
}

static double allowed(const struct count *c, uint64_t time_ms)
{
    return c->limit * (double)time_ms / (double)c->time_ms;
}

static void what_is_allowed_is_used_and_hardly_anything_is_refused(void **state)
{
    (void)state;
#define COUNT(n, time, fills)          \
    {                                  \
        (n), (n), (time), (fills), NOW \
    }
#define A_MINUTE(n) COUNT(n, MIN, false)
#define A_BUCKET(n) COUNT(n, MIN, true)
#define A_DAY(n) COUNT(n, DAY, false)
#define NONE COUNT(0, MIN, false)
    static const struct provider all[] = {
        {"requests, by the minute", A_MINUTE(60), NONE, true, true, 3 * S, 4000, 0.9, 5},
        {"many requests, by the minute", A_MINUTE(1000), NONE, true, true, 3 * S, 4000, 0.9, 5},
        {"tokens, by the minute", NONE, A_MINUTE(100000), true, true, 3 * S, 8000, 0.9, 5},
        {"both, by the minute, requests are short", A_MINUTE(60), A_MINUTE(200000), true, true, 3 * S, 8000, 0.9,
         5},
        {"both, by the minute, tokens are short", A_MINUTE(600), A_MINUTE(200000), true, true, 3 * S, 8000, 0.9,
         5},
        {"requests, a bucket", A_BUCKET(60), NONE, true, true, 3 * S, 4000, 0.9, 5},
        {"both, buckets, tokens are short", A_BUCKET(600), A_BUCKET(200000), true, true, 3 * S, 8000, 0.9, 5},
        {"both, buckets, requests are short", A_BUCKET(60), A_BUCKET(200000), true, true, 3 * S, 8000, 0.9, 5},
        {"tokens in a bucket that large prompts empty", A_BUCKET(600), A_BUCKET(60000), true, true, 3 * S, 80000,
         0.9, 5},
        {"requests by the day, tokens by the minute", A_DAY(100000), A_MINUTE(60000), true, true, 3 * S, 8000, 0.9,
         5},
        {"answers that take half a minute", A_MINUTE(60), A_MINUTE(200000), true, true, 30 * S, 8000, 0.8, 5},
        {"no Retry-After", A_MINUTE(60), A_MINUTE(200000), true, false, 3 * S, 8000, 0.9, 5},
        {"nothing said, a minute", A_MINUTE(60), NONE, false, false, 3 * S, 4000, 0.8, 60},
        {"nothing said, a bucket", A_BUCKET(60), NONE, false, false, 3 * S, 4000, 0.8, 60},
    };
    bool bad = false;
    printf("  %-46s %8s %8s %8s\n", "", "first", "an hour", "used");
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        const struct provider *p = &all[i];
        enum { LEARN = 15 * MIN, HOURS = 1 };
        static struct world w;
        begin(&w, p, 21 + i);
        live(&w, NOW, NOW + LEARN);
        unsigned first = w.refused;
        w.refused = 0;
        w.passed_requests = w.passed_tokens = 0;
        live(&w, NOW + LEARN, NOW + LEARN + HOURS * HOUR);
        double used = 0;
        if (p->requests.limit > 0)
            used = w.passed_requests / allowed(&p->requests, HOURS * HOUR);
        if (p->tokens.limit > 0)
            used = fmax(used, w.passed_tokens / allowed(&p->tokens, HOURS * HOUR));
        double refused = (double)w.refused / HOURS;
        bool ok = used >= p->least && refused <= p->refused_most;
        bad |= !ok;
        printf("  %-46s %8u %8.1f %7.0f%%%s\n", p->name, first, refused, used * 100, ok ? "" : "  <--");
        end(&w, NOW + LEARN + HOURS * HOUR);
    }
    assert_false(bad);
}

/* ---- one budget, step by step */

static struct rate_share started(struct rate_budget *b, uint64_t now)
{
    struct rate_share s;
    rate_start(b, 400, now, &s);
    return s;
}

static void told(struct rate_budget *b, struct rate_share *s, int64_t limit, int64_t left, int64_t reset_ms,
                 uint64_t started_ms, uint64_t now)
{
    rate_facts_said(b, s, &(struct rate_facts){limit, left, reset_ms, -1, -1, -1}, started_ms, now);
}

static int64_t left(const struct rate_budget *b, uint64_t now)
{
    return rate_left(b, RATE_REQUESTS, now);
}

static void news_of_a_window_that_is_over_are_none(void **state)
{
    (void)state;
    struct rate_budget b;
    rate_budget_init(&b);
    struct rate_share slow = started(&b, NOW), quick = started(&b, NOW + 1 * S);
    told(&b, &quick, 60, 10, 9 * S, NOW + 1 * S, NOW + 1 * S);
    assert_int_equal(left(&b, NOW + 1 * S),
                     9); /* the slow one may not be counted yet: they may have overtaken each other */
    assert_int_equal(left(&b, NOW + 10 * S), 60);     /* it turned */
    told(&b, &slow, 60, 2, 9 * S, NOW, NOW + 11 * S); /* said before the turn */
    assert_int_equal(left(&b, NOW + 11 * S), 60);
    uint64_t at;
    assert_true(rate_allows(&b, 400, NOW + 11 * S, &at));
}

static void what_is_under_way_when_a_window_turns_is_counted_in_the_old_one(void **state)
{
    (void)state;
    struct rate_budget b;
    rate_budget_init(&b);
    struct rate_share first = started(&b, NOW);
    told(&b, &first, 60, 40, 20 * S, NOW, NOW);
    for (int i = 0; i < 7; i++)
        (void)started(&b, NOW + 10 * S);
    assert_int_equal(left(&b, NOW + 10 * S), 33);
    for (int i = 0; i < 3; i++)
        (void)started(&b, NOW + 20 * S - 100); /* these may arrive behind the turn */
    assert_int_equal(left(&b, NOW + 20 * S), 57);
}

static void what_is_not_told_is_taken_off(void **state)
{
    (void)state;
    struct rate_budget b;
    rate_budget_init(&b);
    struct rate_share s = started(&b, NOW);
    told(&b, &s, 60, 40, 20 * S, NOW, NOW);
    s = started(&b, NOW + 2 * S);
    told(&b, &s, -1, -1, -1, NOW + 2 * S, NOW + 3 * S); /* an answer without such headers */
    rate_end(&b, &s, NULL, NOW + 2 * S, NOW + 3 * S);
    assert_int_equal(left(&b, NOW + 3 * S), 39);
    s = started(&b, NOW + 4 * S); /* no answer at all */
    rate_end(&b, &s, &(struct verdict){.failure = FAILURE_RESET}, NOW + 4 * S, NOW + 5 * S);
    assert_int_equal(left(&b, NOW + 5 * S), 38);
    s = started(&b, NOW + 6 * S); /* it never got there */
    rate_end(&b, &s, &(struct verdict){.failure = FAILURE_CONNECT}, NOW + 6 * S, NOW + 7 * S);
    assert_int_equal(left(&b, NOW + 7 * S), 38);
    s = started(&b, NOW + 8 * S); /* refused, without a word of what is left */
    told(&b, &s, -1, -1, -1, NOW + 8 * S, NOW + 9 * S);
    rate_end(&b, &s, &(struct verdict){.failure = FAILURE_RATE}, NOW + 8 * S, NOW + 9 * S);
    assert_int_equal(left(&b, NOW + 9 * S), 38);
}

/* As Groq: requests by the day, tokens by the minute. */
static void a_quota_for_the_day_is_waited_out_and_a_minute_does_not_end_it(void **state)
{
    (void)state;
    struct rate_budget b;
    rate_budget_init(&b);
    struct rate_share s = started(&b, NOW);
    rate_facts_said(&b, &s, &(struct rate_facts){1000, 0, 7 * HOUR, 6000, 5000, 1 * S}, NOW, NOW);
    uint64_t at;
    assert_false(rate_allows(&b, 400, NOW + 5 * MIN, &at));
    assert_int_equal(at, NOW + 7 * HOUR);
    assert_true(rate_told(&b, 400, NOW + 5 * MIN));
    assert_true(rate_allows(&b, 400, NOW + 7 * HOUR, &at));
}

/* As DeepSeek. */
static void who_tells_no_limit_and_refuses_nothing_has_none(void **state)
{
    (void)state;
    struct rate_budget b;
    rate_budget_init(&b);
    uint64_t at;
    for (unsigned i = 0; i < 5000; i++) {
        assert_true(rate_allows(&b, 1000000, NOW + i, &at));
        struct rate_share s = started(&b, NOW + i);
        rate_facts_said(&b, &s, &(struct rate_facts){-1, -1, -1, -1, -1, -1}, NOW + i, NOW + i);
        rate_used(&b, &s, 1000000, 250000, NOW + i);
        rate_end(&b, &s, NULL, NOW + i, NOW + i);
    }
    assert_int_equal(left(&b, NOW + 5000), -1);
}

static void a_ceiling_that_is_confirmed_holds_for_longer(void **state)
{
    (void)state;
    struct rate_budget b;
    rate_budget_init(&b);
    uint64_t now = NOW, at;
    for (unsigned round = 0; round < 4; round++) {
        for (int i = 0; i < 40; i++) {
            struct rate_share s = started(&b, now);
            rate_end(&b, &s, NULL, now, now + 10);
            now += 1 * S;
        }
        for (int i = 0; i < 3; i++) { /* refusals in a row are one */
            struct rate_share s = started(&b, now);
            rate_end(&b, &s, &(struct verdict){.failure = FAILURE_RATE}, now, now + 10);
            now += 10;
        }
        struct rate_meter *m = &b.meter[RATE_REQUESTS];
        assert_int_equal(m->confirmed, round);
        assert_in_range(m->ceiling, 36, 38);
        assert_false(rate_told(&b, 400, now)); /* a guess */
        struct rate_budget held = b, grown = b;
        unsigned calm = 1u << round;
        for (struct rate_budget *c = &held; c; c = c == &held ? &grown : NULL) {
            uint64_t then = m->refused_ms + (calm + (c == &grown ? 2 : 0)) * (uint64_t)MIN + 10 * S;
            unsigned passed = 0;
            while (rate_allows(c, 400, then, &at)) {
                (void)started(c, then);
                passed++;
            }
            assert_int_equal(passed, c == &grown ? 45 : 38);
        }
        now += 5 * MIN;
    }
}

static void what_is_only_guessed_is_not_told(void **state)
{
    (void)state;
    struct rate_budget b;
    rate_budget_init(&b);
    struct rate_share s = started(&b, NOW);
    told(&b, &s, 5, 0, 10 * S, NOW, NOW);
    uint64_t at, turn = NOW + 10 * S;
    assert_true(rate_told(&b, 400, NOW + 1 * S));
    for (int i = 0; i < 5; i++)
        (void)started(&b, turn);
    assert_false(rate_allows(&b, 400, turn, &at));
    assert_false(rate_told(&b, 400, turn)); /* nobody has said when this window ends */
}

static void an_estimate_of_tokens_is_not_trusted_to_the_last(void **state)
{
    (void)state;
    struct rate_budget b;
    rate_budget_init(&b);
    uint64_t at;
    struct rate_share s = started(&b, NOW);
    rate_facts_said(&b, &s, &(struct rate_facts){-1, -1, -1, 10000, 2100, 30 * S}, NOW, NOW);
    rate_used(&b, &s, 4000, 1000, NOW);
    assert_false(rate_allows(&b, 8000, NOW, &at)); /* 2000, more or less */
    assert_true(rate_allows(&b, 7000, NOW, &at));
}

static void a_ceiling_falls_by_half_at_most(void **state)
{
    (void)state;
    struct rate_budget b;
    rate_budget_init(&b);
    b.meter[RATE_REQUESTS].ceiling = 100;
    b.meter[RATE_REQUESTS].refused_ms = NOW;
    for (int i = 0; i < 10; i++) {
        struct rate_share s = started(&b, NOW + 2 * S);
        rate_end(&b, &s, NULL, NOW + 2 * S, NOW + 2 * S);
    }
    struct rate_share s = started(&b, NOW + 3 * S);
    rate_end(&b, &s, &(struct verdict){.failure = FAILURE_RATE}, NOW + 3 * S, NOW + 3 * S);
    assert_int_equal((int)b.meter[RATE_REQUESTS].ceiling, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(news_of_a_window_that_is_over_are_none),
        cmocka_unit_test(what_is_under_way_when_a_window_turns_is_counted_in_the_old_one),
        cmocka_unit_test(what_is_not_told_is_taken_off),
        cmocka_unit_test(a_quota_for_the_day_is_waited_out_and_a_minute_does_not_end_it),
        cmocka_unit_test(who_tells_no_limit_and_refuses_nothing_has_none),
        cmocka_unit_test(what_is_only_guessed_is_not_told),
        cmocka_unit_test(an_estimate_of_tokens_is_not_trusted_to_the_last),
        cmocka_unit_test(a_ceiling_falls_by_half_at_most),
        cmocka_unit_test(a_ceiling_that_is_confirmed_holds_for_longer),
        cmocka_unit_test(what_is_allowed_is_used_and_hardly_anything_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
