/* What a worker, a person and an agent ask of the database's endpoints, with every allocation failing in turn, those of the database's threads too.
 *
 * One gateway lives through all of it. Whoever is refused for want of memory, or cut off, asks again as docs/runs-api.md says, and finds everything that was
 * acknowledged, once. A refusal that says the request was wrong, that something is not there or is damaged, would be a lie: it fails the test. */
#include "front/desk.h"

#include "base/mem.h"
#include "checkpoint/checkpoint.h"
#include "front/front_priv.h"
#include "provider/presets.h"
#include "relay/routing.h"
#include "test.h"
#include "torture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TRIES = 4, WARM = 20, CUT = 0, LONG = 1000 };

struct stage {
    struct loop *loop;
    struct gateway gateway;
    struct worker worker, *workers[1];
    struct db *db;
    uint16_t port;
    unsigned round; /* names what is made */
    unsigned closed;
};

static char folder[] = "/tmp/perdure-desk-XXXXXX";

/* ---- the gateway ------------------------------------------------------------------------------ */

static void open_routing(struct stage *s)
{
    static const char text[] =
        "providers: {p: {preset: openai-compatible, base_url: 'http://127.0.0.1:1', models: [m]}}\n";
    struct conf_report *report = mem_zalloc(sizeof(*report));
    struct conf *conf;
    const char *why;
    assert_int_equal(conf_parse(span_str(text), "test", &presets, conf_getenv, NULL, report, &conf), PD_OK);
    struct conf_ref *ref = conf_ref_new(conf);
    assert_int_equal(routing_new(&s->worker, ref, &s->worker.routing, &why), PD_OK);
    conf_ref_drop(ref);
    mem_free(report);
}

static void open_store(struct stage *s)
{
    char where[100], why[DB_WHY_BYTES];
    struct db_rules r;
    struct checkpoints_rules cr;
    struct checkpoints *c;
    snprintf(where, sizeof(where), "%s/perdure.db", folder);
    db_rules_default(&r);
    checkpoints_rules_default(&cr);
    assert_int_equal(db_open(where, &r, &s->db, why, sizeof(why)), PD_OK);
    assert_int_equal(checkpoints_open(s->db, NULL, &cr, &c), PD_OK);
    atomic_store(&s->gateway.db, s->db);
    atomic_store(&s->gateway.checkpoints, c);
    s->worker.jobs = db_queue_new(s->db, s->loop);
    assert_non_null(s->worker.jobs);
}

static void open_stage(struct stage *s)
{
    struct server_rules sr;
    struct client_rules cr;
    server_rules_default(&sr);
    client_rules_default(&cr);
    s->loop = loop_new();
    list_init(&s->gateway.calls);
    s->gateway.fleet = fleet_new(1);
    s->workers[0] = &s->worker;
    s->gateway.workers = s->workers;
    s->gateway.workers_count = 1;
    s->worker.gateway = &s->gateway;
    s->worker.loop = s->loop;
    s->worker.meter = meter_new();
    s->worker.client = client_new(s->loop, &cr);
    s->worker.server = server_new(s->loop, &sr, &front_handler, &s->worker);
    s->worker.desk = desk_new(&s->worker);
    assert_non_null(s->worker.desk);
    open_routing(s);
    open_store(s);
    assert_int_equal(server_listen(s->worker.server, "127.0.0.1:0", &s->port), PD_OK);
}

/* The server, and then the client. */
static void on_closed(void *ctx)
{
    struct stage *s = ctx;
    if (++s->closed == 1)
        client_close(s->worker.client, on_closed, s);
    else
        loop_stop(s->loop);
}

static void close_stage(struct stage *s)
{
    assert_int_equal(desk_parked(s->worker.desk), 0);
    s->worker.routing = routing_unref(s->worker.routing);
    server_close(s->worker.server, on_closed, s);
    loop_run(s->loop);
    checkpoints_close(atomic_load(&s->gateway.checkpoints));
    db_close(s->db);
    db_queue_settle(s->worker.jobs);
    db_queue_free(s->worker.jobs);
    server_free(s->worker.server);
    client_free(s->worker.client);
    desk_free(s->worker.desk);
    loop_free(s->loop);
    meter_free(s->worker.meter);
    fleet_free(s->gateway.fleet);
}

/* ---- who asks: bare sockets with room of their own ---------------------------------------------- */

struct asker {
    struct watch watch;
    bool over;
    size_t got;
    char in[1 << 16];
};

static bool has_all(const struct asker *a)
{
    const char *body = strstr(a->in, "\r\n\r\n"), *length = strstr(a->in, "Content-Length:");
    if (strncmp(a->in, "HTTP/1.1 204", 12) == 0)
        return body != NULL;
    if (body && length && length < body)
        return strlen(body + 4) >= strtoul(length + 15, NULL, 10);
    return body && strstr(body, "\r\n0\r\n\r\n");
}

static void on_over(void *ctx)
{
    ((struct asker *)ctx)->over = true;
}

static void on_answer(void *ctx, int events, pd_err err)
{
    struct asker *a = ctx;
    (void)events, (void)err;
    ssize_t n = recv(a->watch.fd, a->in + a->got, sizeof(a->in) - 1 - a->got, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    a->got += n > 0 ? (size_t)n : 0;
    a->in[a->got] = '\0';
    if (n <= 0 || has_all(a))
        watch_close(&a->watch, on_over);
}

static void ask(const struct stage *s, struct asker *a, const char *method, const char *path, const char *body)
{
    char out[2 * LONG];
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    int n = snprintf(out, sizeof(out),
                     "%s %s HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: k-%u\r\nConnection: close\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     method, path, s->round, strlen(body), body);
    assert_int_equal(send(fd, out, (size_t)n, MSG_NOSIGNAL), n);
    memset(a, 0, sizeof(*a));
    assert_int_equal(watch_open(s->loop, &a->watch, fd, WATCH_READ, on_answer, a), PD_OK);
}

/* Something happens. */
static void turn(struct stage *s)
{
    (void)uv_run(loop_uv(s->loop), UV_RUN_ONCE);
}

/* The status; CUT: no whole answer came. */
static int answer(struct stage *s, struct asker *a)
{
    while (!a->over)
        turn(s);
    return has_all(a) ? (int)strtol(a->in + strlen("HTTP/1.1 "), NULL, 10) : CUT;
}

/* 2xx is what it was; CUT and 503 are what the want of memory may look like. */
static bool is_done(const struct asker *a, int status)
{
    if (status / 100 == 2)
        return true;
    if (status == 503 && !strstr(a->in, "\"out_of_memory\"") && !strstr(a->in, "\"database_down\"") &&
        !strstr(a->in, "\"not_stored\"") && !strstr(a->in, "Content-Length: 0"))
        fail_msg("no clear error: %s", a->in);
    if (status != CUT && status != 503)
        fail_msg("a failed allocation was told as %d: %s", status, a->in);
    return false;
}

/* Until it is done, as whoever keeps to the page would. */
static void until_done(struct stage *s, struct asker *a, const char *method, const char *path, const char *body)
{
    for (unsigned i = 0; i < TRIES; i++) {
        ask(s, a, method, path, body);
        if (is_done(a, answer(s, a)))
            return;
    }
    fail_msg("%s %s: %s", method, path, a->in);
}

static void has(const struct asker *a, const char *text)
{
    if (!strstr(a->in, text))
        fail_msg("no %s in %s", text, a->in);
}

static unsigned times(const char *in, const char *text)
{
    unsigned n = 0;
    for (const char *at = in; (at = strstr(at, text)) != NULL; at++)
        n++;
    return n;
}

static void value_of(const struct asker *a, const char *name, char out[100])
{
    char mark[40];
    snprintf(mark, sizeof(mark), "\"%s\":\"", name);
    has(a, mark);
    snprintf(out, 100, "%.*s", (int)strcspn(strstr(a->in, mark) + strlen(mark), "\""),
             strstr(a->in, mark) + strlen(mark));
}

/* ---- stories --------------------------------------------------------------------------------------- */

typedef void story_fn(struct stage *s);

static void make_run(struct stage *s, char run[100])
{
    static struct asker a;
    until_done(s, &a, "POST", "/api/runs?name=plan", "goal: g\ntasks:\n- {id: a, command: x, retries: 0}\n");
    value_of(&a, "id", run);
}

/* Of a worker: `run` and `epoch` are the claim's. */
static void work(struct stage *s, struct asker *a, const char *what, const char *run, const char *rest)
{
    char path[40], body[400];
    snprintf(path, sizeof(path), "/api/work/%s", what);
    snprintf(body, sizeof(body), "{\"run\":\"%s\",\"task\":\"a\",\"epoch\":1%s}", run, rest);
    until_done(s, a, "POST", path, body);
}

/* So long that its members, which have escapes, need memory of their own. */
static void claim_body(const struct stage *s, char body[LONG], const char *wait)
{
    int n = snprintf(body, LONG, "{\"worker\":\"w\\u00e9\",\"claim\":\"c-%u\",\"kinds\":[\"command\"]%s}",
                     s->round, wait);
    snprintf(body + n, LONG - (size_t)n, "%*s", LONG - n - 1, "");
}

static void done_once(struct stage *s, const char *run)
{
    static struct asker a;
    char path[200];
    snprintf(path, sizeof(path), "/api/runs/%s", run);
    until_done(s, &a, "GET", path, "");
    has(&a, "\"state\":\"done\"");
    snprintf(path, sizeof(path), "/api/runs/%s/tasks/a", run);
    until_done(s, &a, "GET", path, "");
    has(&a, "what it gives");
    snprintf(path, sizeof(path), "/api/runs/%s/events", run);
    until_done(s, &a, "GET", path, "");
    assert_int_equal(times(a.in, "\"claimed\""), 1);
    assert_int_equal(times(a.in, "\"done\""), 1);
}

static void claim_run(struct stage *s, struct asker *a, char run[100])
{
    char body[LONG];
    make_run(s, run);
    claim_body(s, body, "");
    until_done(s, a, "POST", "/api/work/claim", body);
    has(a, "\"epoch\":1,\"attempt\":1");
    has(a, run);
}

static void a_task_is_done(struct stage *s)
{
    static struct asker a;
    char run[100];
    claim_run(s, &a, run);
    work(s, &a, "beat", run, ",\"progress\":{\"at\":\"x\"}");
    has(&a, "{\"cancel\":false,\"pause\":false}");
    work(s, &a, "step", run, ",\"step\":\"s\",\"kind\":\"effect\",\"key\":\"e\",\"phase\":\"begin\"");
    has(&a, "\"found\":\"new\"");
    work(s, &a, "step", run, ",\"step\":\"s\",\"phase\":\"end\",\"result\":{\"of\":\"the effect\"}");
    work(s, &a, "step", run, ",\"step\":\"s\",\"kind\":\"effect\",\"key\":\"e\",\"phase\":\"begin\"");
    has(&a, "\"found\":\"done\",\"result\":{\"of\":\"the effect\"}");
    work(s, &a, "finish", run, ",\"outcome\":\"done\",\"output\":\"what it gives\",\"tokens\":3");
    has(&a, "\"state\":\"done\"");
    done_once(s, run);
}

/* Asked before there is a task. */
static void a_claim_waits_for_its_task(struct stage *s)
{
    static struct asker waits, a;
    char run[100], body[LONG];
    claim_body(s, body, ",\"wait_ms\":60000");
    ask(s, &waits, "POST", "/api/work/claim", body);
    while (!waits.over && !desk_parked(s->worker.desk))
        turn(s);
    make_run(s, run);
    if (!is_done(&waits, answer(s, &waits)))
        until_done(s, &waits, "POST", "/api/work/claim", body);
    has(&waits, "\"epoch\":1,\"attempt\":1");
    has(&waits, run);
    work(s, &a, "finish", run, ",\"outcome\":\"done\",\"output\":\"what it gives\"");
    done_once(s, run);
}

/* An answer that ends as whole has everything up to the run's end. */
static void who_follows_a_run_sees_it_end(struct stage *s)
{
    static struct asker follows, a;
    char run[100], path[200], wish[200];
    make_run(s, run);
    snprintf(path, sizeof(path), "/api/runs/%s/events?follow=1", run);
    snprintf(wish, sizeof(wish), "/api/runs/%s/cancel", run);
    ask(s, &follows, "GET", path, "");
    while (!follows.over && (!desk_parked(s->worker.desk) || !strstr(follows.in, "\"created\"")))
        turn(s);
    until_done(s, &a, "POST", wish, "{\"why\":\"no more\"}");
    if (!is_done(&follows, answer(s, &follows)))
        until_done(s, &follows, "GET", path, "");
    assert_int_equal(times(follows.in, "\"created\""), 1);
    assert_int_equal(times(follows.in, "\"run_cancelled\""), 1);
}

static void a_person_decides(struct stage *s)
{
    static struct asker a;
    char run[100], body[LONG];
    claim_run(s, &a, run);
    work(s, &a, "finish", run,
         ",\"outcome\":\"failed\",\"final\":true,\"error\":{\"class\":\"c\",\"message\":\"m\"}");
    until_done(s, &a, "GET", "/api/reviews", "");
    has(&a, run);
    snprintf(body, sizeof(body), "{\"run\":\"%s\",\"task\":\"a\",\"decision\":\"drop\",\"who\":\"p\"}", run);
    int status = CUT, before;
    do {
        before = status;
        ask(s, &a, "POST", "/api/reviews", body);
        status = answer(s, &a);
    } while (!(before == CUT && status == 409) &&
             !is_done(&a, status)); /* its answer was lost: it is taken once */
    until_done(s, &a, "GET", "/api/runs?limit=1", "");
    has(&a, run);
}

static void a_checkpoint_that_was_acknowledged_is_given_back(struct stage *s)
{
    static struct asker a;
    char body[200], id[100], made[100], path[200];
    snprintf(made, sizeof(made), "\"state\":{\"round\":%u}", s->round);
    snprintf(body, sizeof(body), "{\"agent_id\":\"a\",\"task\":\"t\",\"messages\":[{\"a\":1},{\"r\":%u}],%s}",
             s->round, made);
    until_done(s, &a, "POST", "/api/checkpoints", body);
    value_of(&a, "checkpoint_id", id);
    until_done(s, &a, "GET", "/api/checkpoints?agent=a&limit=2", "");
    has(&a, id);
    until_done(s, &a, "GET", "/api/checkpoints/latest?agent=a", "");
    has(&a, made);
    snprintf(path, sizeof(path), "/api/checkpoints/%s/resume", id);
    until_done(s, &a, "GET", path, "");
    until_done(s, &a, "POST", "/api/checkpoints/prune?dry=true", "");
}

/* ---- each allocation ------------------------------------------------------------------------------- */

static unsigned fail_each(story_fn *story, unsigned *round)
{
    struct stage s = {.round = *round};
    size_t before = mem_blocks();
    unsigned n = 0;
    open_stage(&s);
    for (; s.round < *round + WARM; s.round++) /* statements are prepared, pages are there */
        story(&s);
    for (bool failed = true; failed; s.round++) {
        mem_fail_at(++n);
        story(&s);
        failed = mem_failed();
        mem_fail_at(0);
    }
    story(&s);
    *round = s.round + 1;
    close_stage(&s);
    mem_big_trim();
    if (mem_blocks() != before)
        fail_msg("%zu blocks leaked", mem_blocks() - before);
    return n - 1;
}

static void what_is_asked_survives_every_failed_allocation(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        story_fn *story;
    } stories[] = {
        {"a task is done", a_task_is_done},
        {"a claim waits for its task", a_claim_waits_for_its_task},
        {"who follows a run sees it end", who_follows_a_run_sees_it_end},
        {"a person decides", a_person_decides},
        {"a checkpoint that was acknowledged is given back", a_checkpoint_that_was_acknowledged_is_given_back},
    };
    unsigned round = 0;
    struct stage first = {.round = 0}; /* what libraries keep for the whole process */
    open_stage(&first);
    close_stage(&first);
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        print_message("    %s: ", stories[i].name);
        unsigned n = fail_each(stories[i].story, &round);
        print_message("%u allocations failed in turn\n", n);
        assert_true(n >= 50);
    }
}

static pd_err made_and_gone(void *ctx)
{
    struct worker *w = ctx;
    w->desk = desk_new(w);
    pd_err e = w->desk ? PD_OK : PD_NOMEM;
    w->desk = desk_free(w->desk);
    (void)uv_run(loop_uv(w->loop), UV_RUN_NOWAIT); /* which closes what woke it */
    return e;
}

static void a_desk_that_cannot_be_made_leaves_nothing(void **state)
{
    (void)state;
    for (unsigned index = 0; index < 2; index++) { /* the first worker's sweeps too */
        struct worker w = {.loop = loop_new(), .index = index};
        assert_true(torture(made_and_gone, &w) >= 2);
        loop_free(w.loop);
    }
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_desk_that_cannot_be_made_leaves_nothing),
        cmocka_unit_test(what_is_asked_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests_name("desk", tests, make_folder, drop_folder);
}
