/* The resolver's cache, with a resolver of our own that answers when the test says so. */
#include "net/dns.h"

#include "base/mem.h"
#include "base/span.h"
#include "torture.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

struct fake {
    struct loop *loop;
    struct dns *dns;
    struct dns_name *waiting[8];
    unsigned asked, answered;
};

static void fake_query(void *ctx, struct dns_name *n, const char *host)
{
    struct fake *f = ctx;
    (void)host;
    f->waiting[f->asked++ % 8] = n;
}

static void fake_init(struct fake *f, uint64_t ttl_ms)
{
    *f = (struct fake){.loop = loop_new()};
    assert_non_null(f->loop);
    f->dns = dns_new(f->loop, ttl_ms);
    assert_non_null(f->dns);
    dns_set_query(f->dns, fake_query, f);
}

static void fake_done(struct fake *f)
{
    assert_true(dns_close(f->dns, NULL, NULL));
    dns_free(f->dns);
    loop_free(f->loop);
}

/* Answers the oldest open query with the addresses of a space-separated list. */
static void fake_answer(struct fake *f, int status, const char *list)
{
    union dns_address a[24];
    unsigned n = 0;
    struct span rest = span_str(list);
    while (rest.n && n < 24) {
        char one[64];
        struct span next = span_cut(&rest, ' ');
        snprintf(one, sizeof(one), "%.*s", SPAN_FMT(next));
        assert_true(dns_literal(one, &a[n++]));
    }
    dns_answer(f->waiting[f->answered++ % 8], status, a, n);
}

struct heard {
    struct dns_ask ask;
    unsigned times;
    pd_err err;
    char addresses[512];
    char why[200];
};

static void listing(const struct dns_addresses *a, char *out, size_t n)
{
    out[0] = '\0';
    for (unsigned i = 0; i < a->count; i++) {
        char text[DNS_ADDRESS_TEXT];
        size_t at = strlen(out);
        snprintf(out + at, n - at, "%s%s", i ? " " : "", dns_address_text(&a->at[i], 1, text));
    }
}

static void hear(void *ctx, pd_err err, const struct dns_addresses *found, const char *why)
{
    struct heard *h = ctx;
    h->times++;
    h->err = err;
    listing(found, h->addresses, sizeof(h->addresses));
    snprintf(h->why, sizeof(h->why), "%s", why);
}

static void ask(struct fake *f, struct heard *h, const char *host)
{
    *h = (struct heard){.ask = {.fn = hear, .ctx = h}};
    assert_int_equal(dns_ask(f->dns, &h->ask, host), PD_OK);
}

static pd_err known(struct fake *f, const char *host, char *out, size_t n)
{
    struct dns_addresses a;
    const char *why;
    pd_err e = dns_known(f->dns, host, &a, &why);
    out[0] = '\0';
    if (!e)
        listing(&a, out, n);
    return e;
}

static void literals_need_no_lookup(void **state)
{
    (void)state;
    struct fake f;
    char out[512];
    fake_init(&f, 1000);
    assert_int_equal(known(&f, "10.1.2.3", out, sizeof(out)), PD_OK);
    assert_string_equal(out, "10.1.2.3:1");
    assert_int_equal(known(&f, "fe80::1", out, sizeof(out)), PD_OK);
    assert_string_equal(out, "[fe80::1]:1");
    assert_int_equal(known(&f, "api.x", out, sizeof(out)), PD_NOTFOUND);
    assert_int_equal(f.asked, 0);
    fake_done(&f);
}

static void families_take_turns(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"1.0.0.1", "1.0.0.1:1"},
        {"1.0.0.1 1.0.0.2 ::1 ::2", "1.0.0.1:1 [::1]:1 1.0.0.2:1 [::2]:1"},
        {"::1 ::2 ::3 1.0.0.1", "[::1]:1 1.0.0.1:1 [::2]:1 [::3]:1"},
        {"::1 1.0.0.1 1.0.0.2 1.0.0.3", "[::1]:1 1.0.0.1:1 1.0.0.2:1 1.0.0.3:1"},
        {"1.0.0.1 1.0.0.1 ::1 ::1", "1.0.0.1:1 [::1]:1"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fake f;
        struct heard h;
        fake_init(&f, 1000);
        ask(&f, &h, "api.x");
        fake_answer(&f, 0, rows[i].in);
        assert_int_equal(h.times, 1);
        assert_string_equal(h.addresses, rows[i].out);
        fake_done(&f);
    }
}

static void lookups_of_one_name_are_one_query(void **state)
{
    (void)state;
    struct fake f;
    struct heard a, b, c;
    fake_init(&f, 1000);
    ask(&f, &a, "api.x");
    ask(&f, &b, "api.x");
    ask(&f, &c, "other.x");
    assert_int_equal(f.asked, 2);
    fake_answer(&f, 0, "1.0.0.1");
    assert_int_equal(a.times + b.times, 2);
    assert_string_equal(b.addresses, "1.0.0.1:1");
    assert_int_equal(c.times, 0);
    fake_answer(&f, 0, "1.0.0.2");
    assert_string_equal(c.addresses, "1.0.0.2:1");
    fake_done(&f);
}

static void a_cancelled_lookup_is_not_told_but_its_answer_is_kept(void **state)
{
    (void)state;
    struct fake f;
    struct heard a, b;
    char out[512];
    fake_init(&f, 1000);
    ask(&f, &a, "api.x");
    ask(&f, &b, "api.x");
    dns_cancel(&a.ask);
    dns_cancel(&a.ask);
    fake_answer(&f, 0, "1.0.0.1");
    assert_int_equal(a.times, 0);
    assert_int_equal(b.times, 1);
    assert_int_equal(known(&f, "api.x", out, sizeof(out)), PD_OK);
    fake_done(&f);
}

struct chain {
    struct heard h;
    struct heard *victim;
};
static void cancels_the_other(void *ctx, pd_err err, const struct dns_addresses *found, const char *why)
{
    struct chain *c = ctx;
    hear(&c->h, err, found, why);
    dns_cancel(&c->victim->ask);
}

static void one_answer_may_cancel_the_others(void **state)
{
    (void)state;
    struct fake f;
    struct heard victim;
    struct chain c = {.victim = &victim};
    fake_init(&f, 1000);
    c.h.ask = (struct dns_ask){.fn = cancels_the_other, .ctx = &c};
    assert_int_equal(dns_ask(f.dns, &c.h.ask, "api.x"), PD_OK);
    ask(&f, &victim, "api.x");
    fake_answer(&f, 0, "1.0.0.1");
    assert_int_equal(c.h.times, 1);
    assert_int_equal(victim.times, 0);
    fake_done(&f);
}

static void wait_for_time(struct fake *f, struct timer *t, uint64_t ms)
{
    uint64_t due = loop_now_ms(f->loop) + ms;
    timer_arm(f->loop, t, due);
    while (loop_now_ms(f->loop) < due)
        uv_run(loop_uv(f->loop), UV_RUN_ONCE);
    timer_stop(f->loop, t);
}
static void nothing(void *ctx)
{
    (void)ctx;
}

static void an_answer_is_believed_for_its_ttl(void **state)
{
    (void)state;
    struct fake f;
    struct heard h;
    struct timer t;
    char out[512];
    timer_init(&t, nothing, NULL);
    fake_init(&f, 5);
    ask(&f, &h, "api.x");
    fake_answer(&f, 0, "1.0.0.1");
    assert_int_equal(known(&f, "api.x", out, sizeof(out)), PD_OK);
    wait_for_time(&f, &t, 6);
    assert_int_equal(known(&f, "api.x", out, sizeof(out)), PD_NOTFOUND);
    fake_done(&f);
}

static void a_failure_is_believed_for_a_moment(void **state)
{
    (void)state;
    struct fake f;
    struct heard h;
    struct timer t;
    char out[512];
    timer_init(&t, nothing, NULL);
    fake_init(&f, 1000 * 1000);
    ask(&f, &h, "api.x");
    fake_answer(&f, UV_EAI_NONAME, "");
    assert_int_equal(h.err, PD_DNS);
    assert_non_null(strstr(h.why, "name api.x could not be resolved"));
    assert_int_equal(known(&f, "api.x", out, sizeof(out)), PD_DNS);
    wait_for_time(&f, &t, DNS_NEGATIVE_MS + 1);
    assert_int_equal(known(&f, "api.x", out, sizeof(out)), PD_NOTFOUND);
    fake_done(&f);
}

static void an_outage_of_the_resolver_is_bridged_but_a_gone_name_is_not(void **state)
{
    (void)state;
    struct fake f;
    struct heard h;
    fake_init(&f, 1000);
    ask(&f, &h, "api.x");
    fake_answer(&f, 0, "1.0.0.1");
    dns_forget(f.dns, "api.x");
    ask(&f, &h, "api.x");
    fake_answer(&f, UV_EAI_AGAIN, "");
    assert_int_equal(h.err, PD_OK);
    assert_string_equal(h.addresses, "1.0.0.1:1");
    dns_forget(f.dns, "api.x");
    ask(&f, &h, "api.x");
    fake_answer(&f, UV_EAI_NONAME, "");
    assert_int_equal(h.err, PD_DNS);
    fake_done(&f);
}

static void names_are_remembered_up_to_a_limit(void **state)
{
    (void)state;
    struct fake f;
    char out[512];
    fake_init(&f, 100000);
    size_t before = mem_blocks();
    for (int i = 0; i < DNS_NAMES_MAX + 50; i++) {
        struct heard h;
        char name[32];
        snprintf(name, sizeof(name), "n%d.x", i);
        ask(&f, &h, name);
        fake_answer(&f, 0, "1.0.0.1");
    }
    assert_int_equal(mem_blocks() - before, DNS_NAMES_MAX);
    assert_int_equal(known(&f, "n0.x", out, sizeof(out)), PD_NOTFOUND);
    assert_int_equal(known(&f, "n305.x", out, sizeof(out)), PD_OK);
    fake_done(&f);
}

static bool closed_flag; /* dns_close tells by a plain function */
static void note_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static void closing_waits_for_the_query_that_still_runs(void **state)
{
    (void)state;
    struct fake f;
    struct heard h;
    closed_flag = false;
    fake_init(&f, 1000);
    ask(&f, &h, "api.x");
    dns_cancel(&h.ask);
    assert_false(dns_close(f.dns, note_closed, &closed_flag));
    fake_answer(&f, 0, "1.0.0.1");
    assert_true(closed_flag);
    dns_free(f.dns);
    loop_free(f.loop);
}

static void the_real_resolver_knows_localhost(void **state)
{
    (void)state;
    struct fake f;
    struct heard h;
    fake_init(&f, 1000);
    dns_set_query(f.dns, NULL, NULL);
    ask(&f, &h, "localhost");
    while (!h.times)
        uv_run(loop_uv(f.loop), UV_RUN_ONCE);
    assert_int_equal(h.err, PD_OK);
    assert_true(strstr(h.addresses, "127.0.0.1:1") || strstr(h.addresses, "[::1]:1"));
    fake_done(&f);
}

static pd_err ask_one(void *ctx)
{
    (void)ctx;
    struct loop *l = loop_new();
    if (!l)
        return PD_NOMEM;
    struct dns *d = dns_new(l, 1000);
    struct fake f = {.loop = l, .dns = d};
    struct heard h = {.ask = {.fn = hear, .ctx = &h}};
    pd_err e = PD_NOMEM;
    if (d) {
        dns_set_query(d, fake_query, &f);
        e = dns_ask(d, &h.ask, "api.x");
        if (!e)
            fake_answer(&f, 0, "1.0.0.1");
        dns_free(d);
    }
    loop_free(l);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(ask_one, NULL) >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_need_no_lookup),
        cmocka_unit_test(families_take_turns),
        cmocka_unit_test(lookups_of_one_name_are_one_query),
        cmocka_unit_test(a_cancelled_lookup_is_not_told_but_its_answer_is_kept),
        cmocka_unit_test(one_answer_may_cancel_the_others),
        cmocka_unit_test(an_answer_is_believed_for_its_ttl),
        cmocka_unit_test(a_failure_is_believed_for_a_moment),
        cmocka_unit_test(an_outage_of_the_resolver_is_bridged_but_a_gone_name_is_not),
        cmocka_unit_test(names_are_remembered_up_to_a_limit),
        cmocka_unit_test(closing_waits_for_the_query_that_still_runs),
        cmocka_unit_test(the_real_resolver_knows_localhost),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
