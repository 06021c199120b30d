/* Clients of another call's answer: all of it, from where they were, at their own pace, and told when it ends badly. A real server and bare
 * sockets; the call is played by the test. */
#include "relay/follow.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/net.h"
#include "provider/presets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

enum { KEEP_MS = 60000, PATIENCE_S = 10, KEEPALIVE_MS = 20, CLIENTS = 2, HIGH = 64 * 1024 };

static const struct kept_key asked = {.sketch = 7, .body = 8};

struct client_side {
    int fd;
    struct buf in;
    bool closed; /* by the server */
};

struct stage {
    struct loop *loop;
    struct gateway gateway;
    struct worker worker;
    struct timer turn;
    uint16_t port;
    struct kept_answer *answer; /* what the next request follows */
    struct follow_want want;
    struct request *rq; /* of the last follower, while its reply goes on */
    unsigned asked;
    struct client_side clients[CLIENTS];
    bool server_closed, client_closed;
    size_t blocks;
};

/* ---- the stage ---- */

static void nothing(void *ctx)
{
    (void)ctx;
}

static void on_request(void *ctx, struct request *rq)
{
    struct stage *s = ctx;
    s->rq = rq;
    s->asked++;
    follow_start(&s->worker, rq, kept_ref(s->answer), &s->want);
}

static void open_stage(struct stage *s, const struct codec *codec)
{
    static const struct server_handler handler = {NULL, on_request};
    struct server_rules sr;
    struct client_rules cr;
    struct conf *conf;
    const char *why;
    char text[400];
    memset(s, 0, sizeof(*s));
    s->blocks = mem_blocks();
    struct conf_report *report = mem_zalloc(sizeof(*report));
    snprintf(text, sizeof(text),
             "providers:\n  one: {preset: openai-compatible, base_url: 'http://127.0.0.1:9/v1', models: [m]}\n"
             "resilience: {keepalive: %dms}\n",
             KEEPALIVE_MS);
    assert_int_equal(conf_parse(span_str(text), "test", &presets, conf_getenv, NULL, report, &conf), PD_OK);
    mem_free(report);
    struct conf_ref *ref = conf_ref_new(conf);
    server_rules_default(&sr);
    client_rules_default(&cr);
    s->loop = loop_new();
    timer_init(&s->turn, nothing, NULL);
    list_init(&s->gateway.calls);
    s->gateway.fleet = fleet_new(1);
    s->gateway.kept = kept_new(64 << 20, KEEP_MS);
    s->worker.gateway = &s->gateway;
    s->worker.loop = s->loop;
    s->worker.meter = meter_new();
    s->worker.follows = follows_new(&s->worker);
    s->worker.client = client_new(s->loop, &cr);
    s->worker.server = server_new(s->loop, &sr, &handler, s);
    assert_int_equal(routing_new(&s->worker, ref, &s->worker.routing, &why), PD_OK);
    conf_ref_drop(ref);
    assert_int_equal(server_listen(s->worker.server, "127.0.0.1:0", &s->port), PD_OK);
    s->answer = kept_begin(s->gateway.kept, "c-0000000000000001", codec);
    assert_non_null(s->answer);
    s->answer->key = asked;
    s->answer->began_wall_ms = 1234000;
    assert_int_equal(shown_identity(&s->answer->shown, SPAN_NONE, SPAN_LIT("big-model"), 0), PD_OK);
    s->want = (struct follow_want){.codec = codec, .stream = true};
    for (int i = 0; i < CLIENTS; i++)
        s->clients[i].fd = -1;
}

static void on_client_closed(void *ctx)
{
    struct stage *s = ctx;
    s->client_closed = true;
    loop_stop(s->loop);
}

static void on_server_closed(void *ctx)
{
    struct stage *s = ctx;
    s->server_closed = true;
    client_close(s->worker.client, on_client_closed, s);
}

static void close_stage(struct stage *s)
{
    timer_stop(s->loop, &s->turn);
    s->worker.routing = routing_unref(s->worker.routing);
    server_close(s->worker.server, on_server_closed, s);
    loop_run(s->loop);
    assert_true(s->server_closed && s->client_closed);
    assert_int_equal(atomic_load(&s->answer->followers_count), 0);
    assert_true(list_empty(&s->answer->followers));
    for (int i = 0; i < CLIENTS; i++) {
        if (s->clients[i].fd >= 0)
            close(s->clients[i].fd);
        buf_done(&s->clients[i].in);
    }
    server_free(s->worker.server);
    follows_free(s->worker.follows);
    client_free(s->worker.client);
    shown_done(&s->worker.told);
    loop_free(s->loop);
    meter_free(s->worker.meter);
    fleet_free(s->gateway.fleet);
    kept_unref(s->answer);
    kept_free(s->gateway.kept);
    mem_big_trim();
    assert_int_equal(mem_blocks(), s->blocks);
}

/* ---- the call ---- */

static void say(struct stage *s, const char *text)
{
    const struct msg_delta d = {.kind = MSG_TEXT, .tool = -1, .text = span_str(text)};
    pthread_mutex_lock(&s->answer->lock);
    pd_err e = shown_add(&s->answer->shown, &d);
    pthread_mutex_unlock(&s->answer->lock);
    assert_int_equal(e, PD_OK);
    follow_notify(s->answer);
}

static void end(struct stage *s, enum kept_state as)
{
    s->answer->finish = MSG_FINISH_LENGTH;
    s->answer->usage.input_total = 3;
    s->answer->usage.output_total = 77;
    kept_settle(s->gateway.kept, s->answer, as, false, loop_now_ms(s->loop));
    follow_notify(s->answer);
}

/* ---- the client ---- */

static void join(struct stage *s, unsigned n, int room)
{
    static const char ask[] = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    struct client_side *c = &s->clients[n];
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (c->fd >= 0)
        close(c->fd);
    buf_done(&c->in);
    *c = (struct client_side){.fd = socket(AF_INET, SOCK_STREAM, 0)};
    if (room)
        assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(send(c->fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL), sizeof(ask) - 1);
}

static void leave(struct stage *s, unsigned n)
{
    close(s->clients[n].fd);
    s->clients[n].fd = -1;
}

/* A turn that waits for an event, but not for long. */
static void turn(struct stage *s)
{
    timer_arm(s->loop, &s->turn, loop_now_ms(s->loop) + 10);
    uv_run(loop_uv(s->loop), UV_RUN_ONCE);
}

static void turns(struct stage *s, unsigned n)
{
    while (n--)
        uv_run(loop_uv(s->loop), UV_RUN_NOWAIT);
}

static void take(struct stage *s, unsigned n)
{
    struct client_side *c = &s->clients[n];
    char bytes[16384];
    ssize_t got = 1;
    while (got > 0 && !c->closed) {
        got = recv(c->fd, bytes, sizeof(bytes), 0);
        if (got > 0)
            assert_int_equal(buf_add(&c->in, span_of(bytes, (size_t)got)), PD_OK);
        c->closed |= got == 0 || (got < 0 && errno != EAGAIN);
    }
}

static const char *text_in_of(struct stage *s, unsigned n)
{
    assert_int_equal(buf_reserve(&s->clients[n].in, 1), PD_OK);
    s->clients[n].in.p[s->clients[n].in.tail] = '\0';
    return s->clients[n].in.p + s->clients[n].in.head;
}

static bool has(struct stage *s, unsigned n, const char *mark)
{
    return strstr(text_in_of(s, n), mark) != NULL;
}

static time_t now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

/* Until the client has read this; NULL: until its connection has ended. */
static void until(struct stage *s, unsigned n, const char *mark)
{
    time_t end_s = now_s() + PATIENCE_S;
    for (;;) {
        turns(s, 2);
        take(s, n);
        if (mark ? has(s, n, mark) : s->clients[n].closed)
            return;
        if (now_s() > end_s)
            fail_msg("never came: %s; there is: %.2000s", mark ? mark : "the end", text_in_of(s, n));
        struct pollfd p = {.fd = s->clients[n].fd, .events = POLLIN};
        (void)poll(&p, 1, 1);
    }
}

static void until_asked(struct stage *s, unsigned n)
{
    time_t end_s = now_s() + PATIENCE_S;
    while (s->asked < n && now_s() <= end_s)
        turn(s);
    assert_int_equal(s->asked, n);
}

/* Until the loop's clock has moved so far: its timers fire. */
static void pass(struct stage *s, uint64_t ms)
{
    uint64_t until_ms = loop_now_ms(s->loop) + ms;
    while (loop_now_ms(s->loop) < until_ms)
        turn(s);
}

static void until_left(struct stage *s)
{
    time_t end_s = now_s() + PATIENCE_S;
    while (atomic_load(&s->answer->followers_count) && now_s() <= end_s)
        turn(s);
    assert_int_equal(atomic_load(&s->answer->followers_count), 0);
}

/* All that stands in "content" members, joined. */
static void content(const char *in, struct buf *out)
{
    static const char member[] = "\"content\":\"";
    buf_clear(out);
    for (const char *p = in; (p = strstr(p, member));) {
        p += sizeof(member) - 1;
        size_t n = strcspn(p, "\"");
        assert_int_equal(buf_add(out, span_of(p, n)), PD_OK);
    }
}

static void expect_content(struct stage *s, unsigned n, const char *want)
{
    struct buf b = {0};
    content(text_in_of(s, n), &b);
    if (!span_is(buf_span(&b), want))
        fail_msg("want %s, got %.*s", want, (int)buf_size(&b), buf_span(&b).p);
    buf_done(&b);
}

static unsigned count(const char *in, const char *what)
{
    unsigned n = 0;
    while ((in = strstr(in, what))) {
        in += strlen(what);
        n++;
    }
    return n;
}

/* ---- all of it ---- */

static void a_follower_gets_what_was_there_what_comes_and_the_end(void **state)
{
    (void)state;
    struct stage s;
    open_stage(&s, &codec_openai_chat);
    s.want.include_usage = true;
    say(&s, "one ");
    join(&s, 0, 0);
    until(&s, 0, "one ");
    assert_true(has(&s, 0, "HTTP/1.1 200 OK"));
    assert_true(has(&s, 0, "Content-Type: text/event-stream"));
    assert_true(has(&s, 0, "x-request-id: c-0000000000000001"));
    assert_true(has(&s, 0, "x-perdure-joined: c-0000000000000001"));
    assert_true(has(&s, 0, "\"model\":\"big-model\""));
    assert_true(has(&s, 0, "\"created\":1234,"));
    assert_true(has(&s, 0, "chatcmpl-0000000000000001"));
    say(&s, "two ");
    until(&s, 0, "two ");
    say(&s, "three");
    end(&s, KEPT_WHOLE);
    until(&s, 0, "\r\n0\r\n\r\n");
    expect_content(&s, 0, "one two three");
    assert_true(has(&s, 0, "\"finish_reason\":\"length\""));
    assert_true(has(&s, 0, "\"completion_tokens\":77"));
    assert_true(has(&s, 0, "data: [DONE]"));
    assert_int_equal(count(text_in_of(&s, 0), "\nid: c-"), 0);
    assert_true(s.answer->attended); /* it had all of it */
    close_stage(&s);
}

static void of_gemini_it_is_events_or_one_array_as_the_client_asked(void **state)
{
    (void)state;
    for (int array = 0; array < 2; array++) {
        struct stage s;
        open_stage(&s, &codec_gemini);
        s.want.array = array;
        join(&s, 0, 0);
        until(&s, 0, "HTTP/1.1 200"); /* by a keep-alive */
        say(&s, "one ");
        until(&s, 0, "one ");
        assert_true(has(&s, 0, array ? "[{\"candidates" : "data: {\"candidates"));
        say(&s, "two");
        until(&s, 0, "two");
        end(&s, KEPT_WHOLE);
        until(&s, 0, "\r\n0\r\n\r\n");
        assert_int_equal(has(&s, 0, "data: "), !array);
        assert_int_equal(has(&s, 0, "]\r\n0\r\n\r\n"), array);
        close_stage(&s);
    }
}

static void one_that_comes_when_all_is_over_gets_it_at_once(void **state)
{
    (void)state;
    for (int empty = 0; empty < 2; empty++)
        for (int stream = 0; stream < 2; stream++) {
            struct stage s;
            open_stage(&s, &codec_openai_chat);
            s.want.stream = stream;
            if (!empty)
                say(&s, "all of it");
            end(&s, KEPT_WHOLE);
            join(&s, 0, 0);
            until(&s, 0, stream ? "data: [DONE]" : "\"usage\"");
            expect_content(&s, 0, empty ? "" : "all of it");
            assert_true(has(&s, 0, stream ? "text/event-stream" : "application/json"));
            assert_true(has(&s, 0, "x-perdure-joined: c-0000000000000001"));
            assert_true(has(&s, 0, "\"finish_reason\":\"length\""));
            close_stage(&s);
        }
}

static void a_client_that_does_not_stream_hears_nothing_before_the_end(void **state)
{
    (void)state;
    for (int collected = 0; collected < 2; collected++) {
        struct stage s;
        open_stage(&s, &codec_openai_chat);
        s.want.stream = false;
        s.answer->collected = collected;
        join(&s, 0, 0);
        until_asked(&s, 1);
        say(&s, "one ");
        pass(&s, (uint64_t)3 * KEEPALIVE_MS);
        take(&s, 0);
        assert_int_equal(buf_size(&s.clients[0].in), 0);
        if (collected) { /* it may begin anew as long as it runs */
            pthread_mutex_lock(&s.answer->lock);
            shown_clear(&s.answer->shown);
            pthread_mutex_unlock(&s.answer->lock);
        }
        say(&s, "two");
        end(&s, KEPT_WHOLE);
        until(&s, 0, "\"usage\"");
        expect_content(&s, 0, collected ? "two" : "one two");
        assert_true(has(&s, 0, "Content-Length: "));
        close_stage(&s);
    }
}

/* A stream that follows a collected answer is told nothing of it before it is whole. */
static void a_stream_of_a_collected_answer_waits_too(void **state)
{
    (void)state;
    struct stage s;
    open_stage(&s, &codec_openai_chat);
    s.answer->collected = true;
    join(&s, 0, 0);
    until_asked(&s, 1);
    say(&s, "wrong");
    until(&s, 0, ": keep-alive");
    turns(&s, 5);
    take(&s, 0);
    assert_false(has(&s, 0, "wrong"));
    pthread_mutex_lock(&s.answer->lock);
    shown_clear(&s.answer->shown);
    pthread_mutex_unlock(&s.answer->lock);
    say(&s, "right");
    end(&s, KEPT_WHOLE);
    until(&s, 0, "[DONE]");
    expect_content(&s, 0, "right");
    close_stage(&s);
}

/* ---- slow ones ---- */

/* Says numbers until the client's queue is over the mark; returns how many. */
static unsigned fill(struct stage *s)
{
    char text[4200];
    unsigned n = 0;
    memset(text, 'x', sizeof(text));
    while (reply_queued(s->rq) <= HIGH) {
        assert_true(n < 100000);
        snprintf(text + 4096, sizeof(text) - 4096, "<%u>", n++);
        text[4095] = text[4095] ? text[4095] : 'x';
        say(s, text);
        turns(s, 1);
    }
    return n;
}

static void a_slow_follower_is_waited_for_and_gets_all_of_it_later(void **state)
{
    (void)state;
    struct stage s;
    char text[32];
    open_stage(&s, &codec_openai_chat);
    join(&s, 0, 4096);
    until_asked(&s, 1);
    unsigned n = fill(&s);
    size_t queued = reply_queued(s.rq);
    assert_true(queued <= 2 * HIGH);
    for (unsigned i = 0; i < 500; i++) { /* the call goes on: nothing of it waits in memory for this client */
        snprintf(text, sizeof(text), "<%u>", n++);
        say(&s, text);
        turns(&s, 1);
    }
    assert_true(reply_queued(s.rq) <= queued);
    pass(&s, (uint64_t)5 * KEEPALIVE_MS); /* nor do comments */
    assert_true(reply_queued(s.rq) <= queued);
    assert_int_equal(atomic_load(&s.answer->followers_count), 1);
    snprintf(text, sizeof(text), "<%u>", n - 1);
    until(&s, 0, text); /* without another word of the call: since its client reads again */
    until(&s, 0, ": keep-alive");
    say(&s, "<last>");
    until(&s, 0, "<last>");
    end(&s, KEPT_WHOLE);
    until(&s, 0, "[DONE]");
    struct buf all = {0};
    content(text_in_of(&s, 0), &all);
    assert_int_equal(buf_add(&all, SPAN_LIT("\0")), PD_OK);
    const char *at = buf_span(&all).p;
    for (unsigned i = 0; i < n; i++) { /* each once, in order */
        snprintf(text, sizeof(text), "<%u>", i);
        const char *found = strchr(at, '<');
        assert_non_null(found);
        assert_int_equal(strncmp(found, text, strlen(text)), 0);
        at = found + 1;
    }
    assert_int_equal(strncmp(strchr(at, '<'), "<last>", 6), 0);
    buf_done(&all);
    close_stage(&s);
}

static void the_end_of_a_call_waits_for_its_slow_follower_too(void **state)
{
    (void)state;
    static const struct {
        enum kept_state as;
        const char *mark;
    } ends[] = {{KEPT_WHOLE, "data: [DONE]"}, {KEPT_PART, "stream_interrupted"}};
    for (size_t i = 0; i < 2; i++) {
        struct stage s;
        open_stage(&s, &codec_openai_chat);
        join(&s, 0, 4096);
        until_asked(&s, 1);
        fill(&s);
        size_t queued = reply_queued(s.rq);
        say(&s, "<last>");
        end(&s, ends[i].as);
        turns(&s, 10);
        assert_true(reply_queued(s.rq) <= queued);
        assert_int_equal(atomic_load(&s.answer->followers_count), 1);
        until(&s, 0, ends[i].mark);
        assert_true(has(&s, 0, "<last>"));
        close_stage(&s);
    }
}

/* ---- those that leave ---- */

static void who_leaves_early_may_come_back_for_it(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        bool ids, ends;
        enum kept_state as;
        bool found;
    } rows[] = {
        {"of a call that runs", false, false, KEPT_RUNNING, true},
        {"a reader by id is not the client", true, false, KEPT_RUNNING, false},
        {"of one that broke: its own end keeps that, not its followers", false, true, KEPT_PART, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct stage s;
        bool taken;
        open_stage(&s, &codec_openai_chat);
        s.want.ids = rows[i].ids;
        say(&s, "one ");
        join(&s, 0, 0);
        until(&s, 0, "one ");
        assert_int_equal(kept_figures(s.gateway.kept).count, 0);
        if (rows[i].ends)
            end(&s, rows[i].as);
        else
            leave(&s, 0);
        until_left(&s);
        struct kept_answer *a = kept_find(s.gateway.kept, &asked, loop_now_ms(s.loop), &taken);
        if ((a == s.answer) != rows[i].found)
            fail_msg("%s", rows[i].what);
        assert_int_equal(s.answer->attended, rows[i].ids || rows[i].found);
        kept_unref(a);
        close_stage(&s);
    }
}

static void one_that_leaves_as_all_has_come_together_may_come_back(void **state)
{
    (void)state;
    struct stage s;
    bool taken;
    open_stage(&s, &codec_openai_chat);
    join(&s, 0, 4096);
    until_asked(&s, 1);
    fill(&s);
    end(&s, KEPT_WHOLE); /* its client has not even half of it, and leaves */
    leave(&s, 0);
    until_left(&s);
    struct kept_answer *a = kept_find(s.gateway.kept, &asked, loop_now_ms(s.loop), &taken);
    assert_ptr_equal(a, s.answer);
    assert_false(taken);
    kept_unref(a);
    close_stage(&s);
}

static void who_is_told_and_leaves_in_the_same_moment_is_told_no_more(void **state)
{
    (void)state;
    struct stage s;
    open_stage(&s, &codec_openai_chat);
    say(&s, "one ");
    join(&s, 0, 0);
    until(&s, 0, "one ");
    join(&s, 1, 0);
    until(&s, 1, "one ");
    for (int i = 0; i < 10; i++) {
        say(&s, "word "); /* waits for the loop, as does that the client is gone */
        if (i == 5)
            leave(&s, 0);
        say(&s, "word ");
        turns(&s, 3);
    }
    end(&s, KEPT_WHOLE);
    until(&s, 1, "[DONE]");
    assert_int_equal(count(text_in_of(&s, 1), "word "), 20);
    close_stage(&s);
}

/* The server closes while they are told: whoever looks afterwards finds none of them. */
static void at_the_end_of_a_worker_nobody_is_left_to_be_told(void **state)
{
    (void)state;
    struct stage s;
    open_stage(&s, &codec_openai_chat);
    say(&s, "one ");
    join(&s, 0, 0);
    until(&s, 0, "one ");
    join(&s, 1, 0);
    until(&s, 1, "one ");
    say(&s, "two ");
    close_stage(&s);
}

/* ---- positions ---- */

static void a_last_event_id_says_a_position_or_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        size_t position;
    } rows[] = {{"c-0000000000000001:12", 12},
                {"12", 12},
                {"", 0},
                {"c-1:", 0},
                {"c-1:x", 0},
                {"c-1:7x", 7},
                {"x:9:8", 8},
                {":5", 5},
                {"c-1: 5", 0},
                {"-5", 0}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(follow_position(span_str(rows[i].id)), rows[i].position);
    assert_int_equal(follow_position(SPAN_NONE), 0);
    assert_true(follow_position(SPAN_LIT("99999999999999999999999999999999999999")) > SHOWN_MAX);
    assert_true(follow_position(SPAN_LIT("18446744073709551617")) > SHOWN_MAX); /* does not come round */
}

/* Reads with ids up to the answer's `pieces`, and again from each position that it was given. */
static void from_each_position_the_rest_is_exactly_what_was_missing(void **state)
{
    (void)state;
    struct stage s;
    size_t at[8], n = 0;
    open_stage(&s, &codec_openai_chat);
    s.want.ids = true;
    static const char *const pieces[] = {"one ", "two ", "three ", "four"};
    static const char *const rests[] = {"two three four", "three four", "four", ""};
    join(&s, 0, 0);
    until_asked(&s, 1);
    for (size_t i = 0; i < 4; i++) {
        say(&s, pieces[i]);
        until(&s, 0, pieces[i]);
        turns(&s, 3);
        take(&s, 0);
    }
    for (const char *p = text_in_of(&s, 0); (p = strstr(p, "id: c-0000000000000001:"));) {
        size_t line = strcspn(p, "\n");
        assert_int_equal(p[line + 1], '\n'); /* an event of its own, without data */
        p += 4;
        assert_true(n < 8);
        at[n++] = follow_position(span_of(p, line - 4));
    }
    assert_int_equal(n, 4);
    assert_int_equal(at[3], shown_end(&s.answer->shown));
    follow_notify(s.answer); /* nothing is new: no event */
    turns(&s, 3);
    take(&s, 0);
    assert_int_equal(count(text_in_of(&s, 0), "\nid: c-"), 4);
    end(&s, KEPT_WHOLE);
    until(&s, 0, "[DONE]");
    for (size_t i = 0; i < n; i++) {
        assert_true(i == 0 || at[i] > at[i - 1]);
        s.want.from = at[i];
        join(&s, 0, 0);
        until(&s, 0, "[DONE]");
        expect_content(&s, 0, rests[i]);
        assert_true(has(&s, 0, "\"finish_reason\":\"length\""));
    }
    close_stage(&s);
}

static void a_position_that_is_none_of_this_answer_means_all_of_it(void **state)
{
    (void)state;
    struct stage s;
    open_stage(&s, &codec_openai_chat);
    say(&s, "one two");
    s.want.from = shown_end(&s.answer->shown) + 1;
    join(&s, 0, 0);
    until(&s, 0, "one two");
    end(&s, KEPT_WHOLE);
    until(&s, 0, "[DONE]");
    expect_content(&s, 0, "one two");
    close_stage(&s);
}

/* Other entries than texts stand before and behind the position: none is told twice, none is missing. */
static void a_position_between_blocks_goes_on_in_the_right_one(void **state)
{
    (void)state;
    struct stage s;
    open_stage(&s, &codec_anthropic);
    s.want.ids = true;
    const struct msg_delta thought = {.kind = MSG_REASONING, .tool = -1, .text = SPAN_LIT("hm")};
    assert_int_equal(shown_add(&s.answer->shown, &thought), PD_OK);
    size_t after_thought = shown_end(&s.answer->shown);
    say(&s, "Hello");
    size_t in_text = shown_end(&s.answer->shown);
    say(&s, " you");
    assert_int_equal(shown_add(&s.answer->shown, &thought), PD_OK);
    say(&s, "!");
    end(&s, KEPT_WHOLE);
    s.want.from = after_thought;
    join(&s, 0, 0);
    until(&s, 0, "message_stop");
    assert_int_equal(count(text_in_of(&s, 0), "\"hm\""), 1); /* the second alone */
    assert_false(has(&s, 0, "message_start"));
    assert_true(has(&s, 0, "Hello you"));
    assert_int_equal(count(text_in_of(&s, 0), "event: content_block_start"), 3);
    assert_false(has(&s, 0, "\"index\":0,\"content_block\""));
    s.want.from = in_text;
    join(&s, 0, 0);
    until(&s, 0, "message_stop");
    assert_false(has(&s, 0, "Hello"));
    assert_int_equal(count(text_in_of(&s, 0), "event: content_block_start"), 2);
    assert_true(has(&s, 0, "\" you\""));
    close_stage(&s);
}

/* ---- keep-alives ---- */

static void while_nothing_comes_a_stream_is_told_that_it_is_worked_for(void **state)
{
    (void)state;
    struct stage s;
    open_stage(&s, &codec_openai_chat);
    shown_clear(&s.answer->shown);
    join(&s, 0, 0); /* nothing is known of the answer yet, not even whose it is */
    until(&s, 0, ": keep-alive");
    assert_true(has(&s, 0, "HTTP/1.1 200 OK"));
    while (count(text_in_of(&s, 0), ": keep-alive") < 3)
        until(&s, 0, "HTTP");
    pthread_mutex_lock(&s.answer->lock);
    assert_int_equal(shown_identity(&s.answer->shown, SPAN_NONE, SPAN_LIT("late-model"), 0), PD_OK);
    pthread_mutex_unlock(&s.answer->lock);
    follow_notify(s.answer);
    turns(&s, 3);
    say(&s, "word");
    until(&s, 0, "word");
    assert_true(has(&s, 0, "\"model\":\"late-model\""));
    end(&s, KEPT_WHOLE);
    until(&s, 0, "[DONE]");
    assert_int_equal(count(text_in_of(&s, 0), "HTTP/1.1 200"), 1);
    close_stage(&s);
}

static void a_format_that_has_no_comment_is_sent_none(void **state)
{
    (void)state;
    struct stage s;
    open_stage(&s, &codec_ollama);
    assert_null(codec_ollama.keepalive);
    join(&s, 0, 0);
    until_asked(&s, 1);
    pass(&s, (uint64_t)3 * KEEPALIVE_MS);
    take(&s, 0);
    assert_int_equal(buf_size(&s.clients[0].in), 0);
    say(&s, "word");
    until(&s, 0, "word");
    close_stage(&s);
}

/* ---- it ends badly ---- */

static void a_call_that_ended_badly_is_told_in_the_way_of_the_format(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        const struct codec *codec;
        bool stream, array, begins, says;
        enum kept_state as;
        const char *marks[3];
        const char *never;
        bool cut;
    } rows[] = {
        {"before anything: an error as any other",
         &codec_openai_chat,
         true,
         false,
         false,
         false,
         KEPT_GONE,
         {"HTTP/1.1 503", "stream_interrupted", "Retry-After: 1"},
         "data:",
         false},
        {"a client that does not stream",
         &codec_openai_chat,
         false,
         false,
         false,
         true,
         KEPT_PART,
         {"HTTP/1.1 503", "stream_interrupted", "application/json"},
         "data:",
         false},
        {"after some of it: an event, then a cut",
         &codec_openai_chat,
         true,
         false,
         false,
         true,
         KEPT_GONE,
         {"HTTP/1.1 200", "data: {\"error\":", "stream_interrupted"},
         "[DONE]",
         true},
        {"after a comment",
         &codec_openai_chat,
         true,
         false,
         true,
         false,
         KEPT_GONE,
         {": keep-alive", "data: {\"error\":", "stream_interrupted"},
         "[DONE]",
         true},
        {"Anthropic's event",
         &codec_anthropic,
         true,
         false,
         false,
         true,
         KEPT_PART,
         {"HTTP/1.1 200", "event: error", "api_error"},
         "message_stop",
         true},
        {"Responses counts its events",
         &codec_openai_responses,
         true,
         false,
         false,
         true,
         KEPT_PART,
         {"HTTP/1.1 200", "\"type\":\"error\"", "\"sequence_number\":5"},
         "response.completed",
         true},
        {"an item of Gemini's array, which stays open",
         &codec_gemini,
         true,
         true,
         false,
         true,
         KEPT_PART,
         {"application/json", ",\r\n{\"error\":{", "502"},
         "]\r\n0\r\n",
         true},
        {"its first item",
         &codec_gemini,
         true,
         true,
         true,
         false,
         KEPT_PART,
         {"application/json", "[{\"error\":{", "502"},
         ",\r\n{",
         true},
        {"Gemini's stream of events",
         &codec_gemini,
         true,
         false,
         false,
         true,
         KEPT_PART,
         {"text/event-stream", "data: {\"error\":{", "502"},
         ",\r\n{",
         true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct stage s;
        open_stage(&s, rows[i].codec);
        s.want.stream = rows[i].stream;
        s.want.array = rows[i].array;
        join(&s, 0, 0);
        until_asked(&s, 1);
        if (rows[i].begins)
            until(&s, 0, "HTTP/1.1 200");
        if (rows[i].says) {
            say(&s, "word");
            if (rows[i].stream)
                until(&s, 0, "word");
        }
        end(&s, rows[i].as);
        if (rows[i].cut)
            until(&s, 0, NULL);
        else
            until(&s, 0, "stream_interrupted");
        for (int k = 0; k < 3; k++)
            if (!has(&s, 0, rows[i].marks[k]))
                fail_msg("%s: no %s in %s", rows[i].what, rows[i].marks[k], text_in_of(&s, 0));
        if (has(&s, 0, rows[i].never) || (rows[i].cut && has(&s, 0, "\r\n0\r\n\r\n")))
            fail_msg("%s: as if it were whole: %s", rows[i].what, text_in_of(&s, 0));
        close_stage(&s);
    }
}

/* ---- another thread's call ---- */

enum { WORDS = 3000 };

static void *says_all(void *ctx)
{
    struct stage *s = ctx;
    char text[32];
    for (int i = 0; i < WORDS; i++) {
        snprintf(text, sizeof(text), "<%d>", i);
        say(s, text);
    }
    end(s, KEPT_WHOLE);
    return NULL;
}

static void a_call_of_another_thread_is_followed_word_for_word(void **state)
{
    (void)state;
    struct stage s;
    pthread_t t;
    struct buf want = {0};
    open_stage(&s, &codec_openai_chat);
    join(&s, 0, 0);
    join(&s, 1, 0);
    until_asked(&s, 2);
    assert_int_equal(pthread_create(&t, NULL, says_all, &s), 0);
    until(&s, 0, "[DONE]");
    until(&s, 1, "[DONE]");
    pthread_join(t, NULL);
    for (int i = 0; i < WORDS; i++) {
        char text[32];
        snprintf(text, sizeof(text), "<%d>", i);
        assert_int_equal(buf_puts(&want, text), PD_OK);
    }
    assert_int_equal(buf_add(&want, SPAN_LIT("\0")), PD_OK);
    expect_content(&s, 0, buf_span(&want).p);
    expect_content(&s, 1, buf_span(&want).p);
    buf_done(&want);
    close_stage(&s);
}

int main(void)
{
    unsigned fds;
    loop_process_init(&fds);
    assert_int_equal(net_process_init(), PD_OK);
    log_threshold = LOG_ERROR;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_follower_gets_what_was_there_what_comes_and_the_end),
        cmocka_unit_test(of_gemini_it_is_events_or_one_array_as_the_client_asked),
        cmocka_unit_test(one_that_comes_when_all_is_over_gets_it_at_once),
        cmocka_unit_test(a_client_that_does_not_stream_hears_nothing_before_the_end),
        cmocka_unit_test(a_stream_of_a_collected_answer_waits_too),
        cmocka_unit_test(a_slow_follower_is_waited_for_and_gets_all_of_it_later),
        cmocka_unit_test(the_end_of_a_call_waits_for_its_slow_follower_too),
        cmocka_unit_test(who_leaves_early_may_come_back_for_it),
        cmocka_unit_test(one_that_leaves_as_all_has_come_together_may_come_back),
        cmocka_unit_test(who_is_told_and_leaves_in_the_same_moment_is_told_no_more),
        cmocka_unit_test(at_the_end_of_a_worker_nobody_is_left_to_be_told),
        cmocka_unit_test(a_last_event_id_says_a_position_or_nothing),
        cmocka_unit_test(from_each_position_the_rest_is_exactly_what_was_missing),
        cmocka_unit_test(a_position_that_is_none_of_this_answer_means_all_of_it),
        cmocka_unit_test(a_position_between_blocks_goes_on_in_the_right_one),
        cmocka_unit_test(while_nothing_comes_a_stream_is_told_that_it_is_worked_for),
        cmocka_unit_test(a_format_that_has_no_comment_is_sent_none),
        cmocka_unit_test(a_call_that_ended_badly_is_told_in_the_way_of_the_format),
        cmocka_unit_test(a_call_of_another_thread_is_followed_word_for_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
