/* http_echo.c - the server of net/ with nothing behind it, for scenarios and benchmarks.
 *
 *   http_echo [--name=value ...]     a limit of struct server_rules by its name, or listen, cpu_us
 *
 * Prints "port N" when it listens. SIGTERM drains and exits with 0.
 *   any path           the body as it came
 *   /hello             a small fixed answer
 *   /stream?n=5&ms=10  that many chunks, that far apart; n=0: until the client leaves
 *   /big?n=1000000     that many bytes with a length
 *   /slow?ms=1000      an answer after that time
 *   /stats             the server's counters, a name and a number on each line */
#include "base/buf.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "net/server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct app {
    struct loop *loop;
    struct server *server;
    uint64_t gone; /* on_gone calls */
};

struct job {
    struct app *app;
    struct request *rq;
    struct timer timer;
    uint64_t left, every_ms;
    bool endless, slow;
};

static uint64_t argument(struct span query, const char *name, uint64_t otherwise)
{
    while (query.p) {
        struct span pair = span_cut(&query, '&'), key = span_cut(&pair, '=');
        uint64_t value;
        if (span_is(key, name) && span_u64(pair, &value))
            return value;
    }
    return otherwise;
}

static struct span text_of(struct buf *b)
{
    return buf_span(b);
}

static void answer_stats(struct app *a, struct request *rq)
{
    const struct server_stats *s = server_stats(a->server);
    struct buf b;
    buf_init(&b, 0);
    pd_err err = buf_printf(&b, "connections_open %llu\nrequests_open %llu\non_gone %llu\nblocks %zu\n",
                            (unsigned long long)s->connections_open, (unsigned long long)s->requests_open,
                            (unsigned long long)a->gone, mem_blocks());
#define X(name, what) err = err ? err : buf_printf(&b, #name " %llu\n", (unsigned long long)s->name);
    SERVER_COUNTERS(X)
#undef X
    if (err)
        reply_abort(rq);
    else
        reply_simple(rq, 200, NULL, 0, text_of(&b));
    buf_done(&b);
}

static void answer_big(struct request *rq, uint64_t n)
{
    size_t capacity;
    char *p = mem_big_alloc(n ? n : 1, &capacity);
    if (!p) {
        reply_abort(rq);
        return;
    }
    memset(p, 'x', n);
    reply_simple(rq, 200, NULL, 0, span_of(p, n));
    mem_big_free(p, capacity);
}

static void job_free(struct job *j)
{
    timer_stop(j->app->loop, &j->timer);
    mem_free(j);
}

static void job_gone(void *ctx)
{
    struct job *j = ctx;
    j->app->gone++;
    job_free(j);
}

static void job_next(void *ctx)
{
    struct job *j = ctx;
    struct request *rq = j->rq;
    if (j->slow) {
        job_free(j);
        reply_simple(rq, 200, NULL, 0, SPAN_LIT("late\n"));
        return;
    }
    if (!j->endless && !j->left--) {
        job_free(j);
        reply_end(rq);
        return;
    }
    static const char event[] = "data: {\"choices\":[{\"delta\":{\"content\":\"token\"}}]}\n\n";
    struct span parts[2] = {SPAN_LIT("event: message\n"), span_of(event, sizeof(event) - 1)};
    if (reply_queued(rq) < 65536 && reply_write(rq, parts, 2)) {
        job_free(j);
        reply_abort(rq);
        return;
    }
    timer_arm(j->app->loop, &j->timer, loop_now_ms(j->app->loop) + j->every_ms);
}

static void start_job(struct app *a, struct request *rq, bool slow)
{
    static const struct header head[] = {{{"Content-Type", 12}, {"text/event-stream", 17}}};
    static const struct request_handler on = {.on_gone = job_gone};
    struct job *j = mem_zalloc(sizeof(*j));
    if (!j) {
        reply_abort(rq);
        return;
    }
    struct span query = request_query(rq);
    uint64_t n = argument(query, "n", 5);
    *j = (struct job){
        .app = a, .rq = rq, .left = n, .endless = n == 0, .slow = slow, .every_ms = argument(query, "ms", 10)};
    timer_init(&j->timer, job_next, j);
    request_set_handler(rq, &on, j);
    if (slow) {
        timer_arm(a->loop, &j->timer, loop_now_ms(a->loop) + j->every_ms);
        return;
    }
    if (reply_begin(rq, 200, head, 1, -1)) {
        job_free(j);
        reply_abort(rq);
        return;
    }
    job_next(j);
}

static void on_request(void *ctx, struct request *rq)
{
    struct app *a = ctx;
    struct span path = request_path(rq);
    if (span_is(path, "/hello"))
        reply_simple(rq, 200, NULL, 0, SPAN_LIT("hello\n"));
    else if (span_is(path, "/stats"))
        answer_stats(a, rq);
    else if (span_is(path, "/big"))
        answer_big(rq, argument(request_query(rq), "n", 1000000));
    else if (span_is(path, "/stream"))
        start_job(a, rq, false);
    else if (span_is(path, "/slow"))
        start_job(a, rq, true);
    else
        reply_simple(rq, 200, NULL, 0, request_body(rq));
}

static void on_drained(void *ctx)
{
    struct app *a = ctx;
    a->server = server_free(a->server);
    loop_stop(a->loop);
}

static void on_term(void *ctx, int signum)
{
    (void)signum;
    struct app *a = ctx;
    server_drain(a->server, on_drained, a);
}

static bool set_rule(struct server_rules *r, struct span name, uint64_t value)
{
#define RULE(x)                         \
    if (span_is(name, #x)) {            \
        r->x = (__typeof__(r->x))value; \
        return true;                    \
    }
    RULE(head_bytes);
    RULE(body_bytes);
    RULE(head_ms);
    RULE(body_stall_ms);
    RULE(body_rate);
    RULE(idle_ms);
    RULE(write_stall_ms);
    RULE(connections);
    RULE(requests_per_connection);
    RULE(out_high_bytes);
    RULE(out_low_bytes);
#undef RULE
    return false;
}

static bool read_arguments(int argc, char **argv, struct server_rules *rules, const char **ret_listen)
{
    for (int i = 1; i < argc; i++) {
        struct span value = span_str(argv[i]);
        if (!span_starts(value, "--"))
            return false;
        value = span_from(value, 2);
        struct span name = span_cut(&value, '=');
        uint64_t n;
        if (span_is(name, "listen") && value.p)
            *ret_listen = value.p;
        else if (!span_u64(value, &n) || !set_rule(rules, name, n))
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct server_rules rules;
    const char *address = "127.0.0.1:0";
    unsigned fds;
    uint16_t port;
    server_rules_default(&rules);
    if (!read_arguments(argc, argv, &rules, &address)) {
        fprintf(
            stderr,
            "http_echo: write --LIMIT=NUMBER, with a limit of struct server_rules, or --listen=ADDRESS:PORT\n");
        return 2;
    }
    loop_process_init(&fds);
    loop_process_init(&fds);

    struct app a = {.loop = loop_new()};
    static const struct server_handler handler = {.on_request = on_request};
    a.server = a.loop ? server_new(a.loop, &rules, &handler, &a) : NULL;
    if (!a.server || server_listen(a.server, address, &port) || loop_on_signal(a.loop, SIGTERM, on_term, &a)) {
        fprintf(stderr, "http_echo: cannot listen on %s\n", address);
        return 1;
    }
    printf("port %u\n", port);
    fflush(stdout);
    loop_run(a.loop);
    loop_free(a.loop);
    return mem_blocks() ? 3 : 0;
}
