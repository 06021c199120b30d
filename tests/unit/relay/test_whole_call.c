/* A whole call, from a client's socket to a provider's and back, with every allocation failing in turn. The client and the provider are
 * bare sockets with buffers of their own, so each allocation that fails is perdure's. */
#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "dialect/keep.h"
#include "net/net.h"
#include "provider/presets.h"
#include "relay/follow.h"
#include "relay/kept.h"
#include "relay/ledger.h"
#include "relay/relay.h"
#include "relay/wakes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- bare sockets ------------------------------------------------------------------ */

struct peer {
    struct watch watch;
    char in[16384];
    size_t got;
    bool open, closing; /* closing: libuv still has the watch */
    struct stage *stage;
};

struct stage {
    struct loop *loop;
    struct watch listener;
    struct peer provider[6], client;
    uint16_t provider_port, port;
    unsigned asked; /* requests the provider has seen */
    bool client_done;
    const char *leave_at; /* the client closes when it has read this */
    struct timer finish;  /* of an answer that has begun at `finishes` */
    struct peer *finishes;
    struct gateway gateway;
    struct worker worker, *workers[1];
    bool server_closed, client_closed;
};

static int bind_any(uint16_t *ret_port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static const char sse_answer[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: "
                                 "chunked\r\nx-request-id: up-1\r\n\r\n"
                                 "73\r\ndata: "
                                 "{\"id\":\"a\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,"
                                 "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\r\n"
                                 "5f\r\ndata: "
                                 "{\"id\":\"a\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,"
                                 "\"delta\":{\"content\":\"hello\"}}]}\n\n\r\n"
                                 "6b\r\ndata: "
                                 "{\"id\":\"a\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,"
                                 "\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\r\n"
                                 "0\r\n\r\n";

static const char refusal[] =
    "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 52\r\n\r\n"
    "{\"error\":{\"message\":\"broken\",\"type\":\"server_error\"}}\n";

static const char embedding[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 106\r\n\r\n"
                                "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
                                "\"embedding\":[0.5]}],\"usage\":{\"prompt_tokens\":1}} ";

static void on_peer_closed(void *ctx)
{
    struct peer *p = ctx;
    p->closing = false;
}

static void close_peer(struct peer *p)
{
    if (!p->open)
        return;
    p->open = false;
    p->closing = true;
    watch_close(&p->watch, on_peer_closed);
}

/* The chunk sizes above are for people; what is sent has them computed, so that a changed line stays right. */
static void send_sse(int fd, bool mislabelled)
{
    char out[2048];
    size_t n = 0;
    const char *at = strstr(sse_answer, "\r\n\r\n") + 4;
    n += (size_t)snprintf(out, sizeof(out), "%.*s", (int)(at - sse_answer), sse_answer);
    char *type = strstr(out, "event-stream");
    if (mislabelled) { /* some providers do: what it is then shows in its first bytes, and these hold output here */
        memcpy(type, "plain; q=one", strlen("event-stream"));
        at = strstr(at, "\n\n\r\n") + 4;
    }
    while (*at != '0') {
        const char *data = strstr(at, "\r\n") + 2, *end = strstr(data, "\n\n\r\n") + 2;
        n += (size_t)snprintf(out + n, sizeof(out) - n, "%zx\r\n%.*s\r\n", (size_t)(end - data), (int)(end - data),
                              data);
        at = end + 2;
    }
    n += (size_t)snprintf(out + n, sizeof(out) - n, "0\r\n\r\n");
    assert_int_equal(send(fd, out, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* A stream by its events: with its head and its end, or without. */
static void send_events(int fd, bool begins, const char *const *events, unsigned count, bool ends)
{
    char out[2048];
    size_t n = 0;
    if (begins)
        n = (size_t)(strstr(sse_answer, "\r\n\r\n") + 4 - sse_answer);
    memcpy(out, sse_answer, n);
    for (unsigned i = 0; i < count; i++)
        n += (size_t)snprintf(out + n, sizeof(out) - n, "%zx\r\ndata: %s\n\n\r\n", strlen(events[i]) + 8,
                              events[i]);
    if (ends)
        n += (size_t)snprintf(out + n, sizeof(out) - n, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    assert_int_equal(send(fd, out, n, MSG_NOSIGNAL), (ssize_t)n);
}

#define CHUNK(delta, finish)                                                                                      \
    "{\"id\":\"a\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0," \
    "\"delta\":{" delta "},\"finish_reason\":" finish "}]}"
static const char *const beginning[] = {CHUNK("\"role\":\"assistant\",\"content\":\"hello\"", "null")};
static const char *const ending[] = {CHUNK("\"content\":\" there\"", "null"), CHUNK("", "\"stop\"")};
static const char *const calling[] = {
    CHUNK("\"role\":\"assistant\",\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":\"function\",\"function\":{"
          "\"name\":\"look\","
          "\"arguments\":\"{\\\"at\\\"\"}}]",
          "null"),
    CHUNK("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}}]", "null"),
    CHUNK("", "\"tool_calls\"")};

static void send_plain(int fd, const char *text)
{
    char out[1024];
    const char *body = strstr(text, "\r\n\r\n") + 4, *length = strstr(text, "Content-Length:");
    int n = snprintf(out, sizeof(out), "%.*sContent-Length: %zu\r\n\r\n%s", (int)(length - text), text,
                     strlen(body), body);
    assert_int_equal(send(fd, out, (size_t)n, MSG_NOSIGNAL), n);
}

static void on_provider(void *ctx, int events, pd_err err)
{
    struct peer *p = ctx;
    struct stage *s = p->stage;
    (void)events, (void)err;
    for (;;) {
        ssize_t n = recv(p->watch.fd, p->in + p->got, sizeof(p->in) - 1 - p->got, 0);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            close_peer(p);
            return;
        }
        p->got += (size_t)n;
        p->in[p->got] = '\0';
    }
    char *body = strstr(p->in, "\r\n\r\n"), *length = strstr(p->in, "Content-Length:");
    if (!body || !length || p->got < (size_t)(body + 4 - p->in) + strtoul(length + 15, NULL, 10))
        return;
    s->asked++;
    p->got = 0;
    if (strstr(p->in, "POST /cut/")) { /* breaks, unless it is asked to go on */
        bool goes_on = strstr(body, "hello") != NULL;
        send_events(p->watch.fd, true, goes_on ? ending : beginning, goes_on ? 2 : 1, goes_on);
        if (!goes_on)
            close_peer(p);
    } else if (strstr(p->in, "POST /slow/")) {
        send_events(p->watch.fd, true, beginning, 1, false);
        s->finishes = p;
        timer_arm(s->loop, &s->finish, loop_now_ms(s->loop) + 10);
    } else if (strstr(p->in, "POST /tools/"))
        send_events(p->watch.fd, true, calling, 3, true);
    else if (strstr(p->in, "POST /bad/"))
        send_plain(p->watch.fd, refusal);
    else if (strstr(p->in, "/embeddings"))
        send_plain(p->watch.fd, embedding);
    else
        send_sse(p->watch.fd, strstr(p->in, "POST /odd/") != NULL);
}

static void on_finish(void *ctx)
{
    struct stage *s = ctx;
    if (s->finishes->open)
        send_events(s->finishes->watch.fd, false, ending, 2, true);
}

static void on_accept(void *ctx, int events, pd_err err)
{
    struct stage *s = ctx;
    (void)events, (void)err;
    int fd = accept4(s->listener.fd, NULL, NULL, SOCK_NONBLOCK);
    for (unsigned i = 0; fd >= 0 && i < 6; i++) {
        struct peer *p = &s->provider[i];
        if (p->open || p->closing)
            continue;
        p->got = 0;
        p->open = true;
        p->stage = s;
        assert_int_equal(watch_open(s->loop, &p->watch, fd, WATCH_READ | WATCH_GONE, on_provider, p), PD_OK);
        return;
    }
}

static bool answer_is_whole(const char *in)
{
    const char *body = strstr(in, "\r\n\r\n"), *length = strstr(in, "Content-Length:");
    if (!body)
        return false;
    if (length && length < body)
        return strlen(body + 4) >= strtoul(length + 15, NULL, 10);
    return strstr(body, "\r\n0\r\n\r\n") != NULL;
}

static void on_client(void *ctx, int events, pd_err err)
{
    struct peer *p = ctx;
    struct stage *s = p->stage;
    (void)events, (void)err;
    ssize_t n =
        recv(s->client.watch.fd, s->client.in + s->client.got, sizeof(s->client.in) - 1 - s->client.got, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0) {
        s->client.got += (size_t)n;
        s->client.in[s->client.got] = '\0';
    }
    bool leaves = s->leave_at && strstr(s->client.in, s->leave_at);
    if (n <= 0 || leaves || answer_is_whole(s->client.in)) {
        s->client_done = true;
        close_peer(&s->client);
        loop_stop(s->loop);
    }
}

/* ---- the gateway -------------------------------------------------------------------- */

static const struct codec *codec_of(struct request *rq)
{
    static const struct {
        const char *path;
        const struct codec *codec;
    } rows[] = {{"/v1/embeddings", &codec_openai_embeddings},
                {"/v1/messages", &codec_anthropic},
                {"/v1/responses", &codec_openai_responses},
                {"/v1/messages/count_tokens", &codec_anthropic_count},
                {"/api/chat", &codec_ollama},
                {"/converse-stream", &codec_bedrock_converse}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (span_is(request_path(rq), rows[i].path))
            return rows[i].codec;
    return &codec_openai_chat;
}

static void on_request(void *ctx, struct request *rq)
{
    struct relay_request what = {.codec = codec_of(rq), .operation = "chat"};
    if (what.codec == &codec_bedrock_converse)
        what.line = (struct request_line){.model = SPAN_LIT("straight"), .stream = true};
    relay_start(ctx, rq, &what);
}

static void stopped(void *ctx)
{
    struct stage *s = ctx;
    s->client_closed = true;
    loop_stop(s->loop);
}

static void server_stopped(void *ctx)
{
    struct stage *s = ctx;
    s->server_closed = true;
    relay_end_orphans(&s->worker);
    client_close(s->worker.client, stopped, s);
}

static void open_gateway(struct stage *s)
{
    static const struct server_handler handler = {NULL, on_request};
    struct server_rules sr;
    struct client_rules cr;
    struct conf *conf;
    struct conf_report *report = mem_zalloc(sizeof(*report));
    const char *why;
    char text[1600];
    snprintf(text, sizeof(text),
             "providers:\n"
             "  bad: {preset: openai-compatible, base_url: 'http://127.0.0.1:%u/bad', models: [m]}\n"
             "  good: {preset: openai-compatible, base_url: 'http://127.0.0.1:%u/good', models: [m]}\n"
             "  odd: {preset: openai-compatible, base_url: 'http://127.0.0.1:%u/odd', models: [m]}\n"
             "  cut: {preset: vllm, wires: [openai-chat], base_url: 'http://127.0.0.1:%u/cut', models: [m]}\n"
             "  slow: {preset: vllm, wires: [openai-chat], base_url: 'http://127.0.0.1:%u/slow', models: [m]}\n"
             "  tools: {preset: vllm, wires: [openai-chat], base_url: 'http://127.0.0.1:%u/tools', models: [m]}\n"
             "routes:\n"
             "  straight: {strategy: priority, targets: [{model: good/m}]}\n"
             "  failover: {strategy: priority, targets: [{model: bad/m}, {model: good/m}]}\n"
             "resilience: {backoff: 1ms, backoff_max: 2ms, ttft: 0, probe: 0, linger: 1m}\n",
             s->provider_port, s->provider_port, s->provider_port, s->provider_port, s->provider_port,
             s->provider_port);
    assert_int_equal(conf_parse(span_str(text), "test", &presets, conf_getenv, NULL, report, &conf), PD_OK);
    mem_free(report);
    struct conf_ref *ref = conf_ref_new(conf);
    server_rules_default(&sr);
    client_rules_default(&cr);
    list_init(&s->gateway.calls);
    s->gateway.fleet = fleet_new(1);
    s->gateway.keep = keep_new(1 << 20);
    s->gateway.ledger = ledger_new();
    s->gateway.kept = kept_new(1 << 20, 60000);
    pthread_mutex_init(&s->gateway.keep_lock, NULL);
    s->worker.gateway = &s->gateway;
    s->worker.loop = s->loop;
    s->worker.meter = meter_new();
    s->worker.follows = follows_new(&s->worker);
    assert_non_null(s->worker.follows);
    s->worker.wakes = relay_wakes(&s->worker);
    assert_non_null(s->worker.wakes);
    s->worker.client = client_new(s->loop, &cr);
    s->worker.server = server_new(s->loop, &sr, &handler, &s->worker);
    assert_int_equal(routing_new(&s->worker, ref, &s->worker.routing, &why), PD_OK);
    conf_ref_drop(ref);
    assert_int_equal(server_listen(s->worker.server, "127.0.0.1:0", &s->port), PD_OK);
    s->workers[0] = &s->worker;
    s->gateway.workers = s->workers;
    s->gateway.workers_count = 1;
}

static void close_stage(struct stage *s)
{
    close_peer(&s->client);
    timer_stop(s->loop, &s->finish);
    s->worker.routing = routing_unref(s->worker.routing);
    server_close(s->worker.server, server_stopped, s);
    loop_run(s->loop);
    assert_true(s->server_closed && s->client_closed);
    for (unsigned i = 0; i < 6; i++)
        close_peer(&s->provider[i]);
    watch_close(&s->listener, NULL);
    server_free(s->worker.server);
    follows_free(s->worker.follows);
    wakes_free(s->worker.wakes);
    client_free(s->worker.client);
    shown_done(&s->worker.told);
    loop_free(s->loop);
    meter_free(s->worker.meter);
    for (unsigned i = 0; i < RECENT_CALLS; i++)
        mem_free(s->gateway.recent[i]);
    fleet_free(s->gateway.fleet);
    keep_free(s->gateway.keep);
    ledger_free(s->gateway.ledger);
    kept_free(s->gateway.kept);
    pthread_mutex_destroy(&s->gateway.keep_lock);
}

static struct stage *open_stage(void)
{
    static struct stage stage; /* peers are large; one at a time */
    memset(&stage, 0, sizeof(stage));
    stage.loop = loop_new();
    timer_init(&stage.finish, on_finish, &stage);
    int fd = bind_any(&stage.provider_port);
    assert_int_equal(watch_open(stage.loop, &stage.listener, fd, WATCH_READ, on_accept, &stage), PD_OK);
    open_gateway(&stage);
    return &stage;
}

static void ask(struct stage *s, const char *path, const char *body)
{
    char out[1024];
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    int n = snprintf(out, sizeof(out), "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
                     path, strlen(body), body);
    assert_int_equal(send(fd, out, (size_t)n, MSG_NOSIGNAL), n);
    s->client.got = 0;
    s->client.in[0] = '\0';
    s->client.open = true;
    s->client_done = false;
    s->client.stage = s;
    assert_int_equal(watch_open(s->loop, &s->client.watch, fd, WATCH_READ, on_client, &s->client), PD_OK);
    while (!s->client_done)
        loop_run(s->loop);
    while (s->client.closing)
        uv_run(loop_uv(s->loop), UV_RUN_NOWAIT);
}

/* What a client may see: the whole answer; an error that says so; a connection that ends without pretending to be whole. */
static void fair_end(const struct stage *s, const char *marks)
{
    const char *in = s->client.in;
    bool success = strncmp(in, "HTTP/1.1 200", 12) == 0;
    if (success && answer_is_whole(in)) {
        assert_non_null(strstr(in, marks));
        static const char *const ends[] = {"[DONE]", "\"finish_reason\":\"stop\"", "message_stop",
                                           "response.completed", "messageStop"};
        bool ended = strstr(in, "event-stream") == NULL && strstr(in, "eventstream") == NULL;
        for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
            ended |= memmem(in, s->client.got, ends[i], strlen(ends[i])) != NULL;
        assert_true(ended);
    } else if (!success && s->client.got) {
        assert_true(strncmp(in, "HTTP/1.1 5", 10) == 0 || strncmp(in, "HTTP/1.1 429", 12) == 0);
        assert_true(strstr(in, "\"error\"") || strstr(in, "Content-Length: 0"));
    }
}

struct story {
    const char *path, *body, *marks;
};

/* `leave_at`: the client leaves there, and asks again; NULL: it stays. Returns how many allocations were failed. */
static unsigned fail_each(const struct story *story, const char *leave_at)
{
    for (unsigned n = 1;; n++) {
        size_t before = mem_blocks();
        struct stage *s = open_stage();
        mem_fail_at(n);
        s->leave_at = leave_at;
        if (s->leave_at)
            ask(s, story->path, story->body);
        s->leave_at = NULL;
        ask(s, story->path, story->body);
        int failed = mem_failed();
        mem_fail_at(0);
        fair_end(s, story->marks);
        ask(s, story->path, story->body); /* the next call does not suffer from it */
        if (strncmp(s->client.in, "HTTP/1.1 200", 12) != 0)
            fail_msg("after allocation %u: %s", n, s->client.in);
        assert_non_null(strstr(s->client.in, story->marks));
        close_stage(s);
        mem_big_trim();
        if (mem_blocks() != before)
            fail_msg("%zu blocks leaked when allocation %u failed", mem_blocks() - before, n);
        if (!failed)
            return n - 1;
    }
}

static void each_failed_allocation_ends_a_call_cleanly(void **state)
{
    (void)state;
    static const struct story stories[] = {
        {"/v1/chat/completions",
         "{\"model\":\"straight\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}", "hello"},
        {"/v1/chat/completions", "{\"model\":\"straight\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
         "hello"},
        {"/v1/chat/completions",
         "{\"model\":\"failover\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}", "hello"},
        {"/v1/chat/completions", "{\"model\":\"good/m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
         "hello"},
        {"/v1/chat/completions",
         "{\"model\":\"odd/m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}", "hello"},
        {"/v1/embeddings", "{\"model\":\"failover\",\"input\":\"q\"}", "0.5"},
        /* translated: the provider speaks chat */
        {"/v1/messages",
         "{\"model\":\"straight\",\"max_tokens\":9,\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":"
         "\"q\"}]}",
         "hello"},
        {"/v1/messages",
         "{\"model\":\"failover\",\"max_tokens\":9,\"x\":1,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
         "hello"},
        {"/v1/messages/count_tokens",
         "{\"model\":\"straight\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}", "input_tokens"},
        {"/v1/responses", "{\"model\":\"straight\",\"stream\":true,\"input\":\"q\"}", "hello"},
        {"/api/chat", "{\"model\":\"straight\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}", "hello"},
        /* it breaks after output, and goes on */
        {"/v1/chat/completions",
         "{\"model\":\"cut/m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}", " there"},
        {"/v1/messages",
         "{\"model\":\"cut/"
         "m\",\"max_tokens\":9,\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
         " there"},
        {"/v1/responses", "{\"model\":\"cut/m\",\"stream\":true,\"input\":\"q\"}", " there"},
        /* a tool call, held until it is whole */
        {"/v1/chat/completions",
         "{\"model\":\"tools/"
         "m\",\"stream\":true,\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\","
         "\"parameters\":{\"type\":\"object\",\"properties\":{\"at\":{\"type\":\"integer\"}}}}}],"
         "\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
         "look"},
        {"/v1/messages",
         "{\"model\":\"tools/m\",\"max_tokens\":9,\"stream\":true,\"tools\":[{\"name\":\"look\","
         "\"input_schema\":{\"type\":\"object\"}}],\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
         "look"},
    };
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        unsigned n = fail_each(&stories[i], NULL);
        print_message("story %zu: %u allocations failed in turn\n", i, n);
        assert_true(n >= 6);
    }
}

static void a_client_that_leaves_and_comes_back_is_no_exception(void **state)
{
    (void)state;
    static const struct story stories[] = {
        {
            "/v1/chat/completions",
            "{\"model\":\"slow/m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
            " there",
        },
        {"/v1/responses", "{\"model\":\"slow/m\",\"stream\":true,\"input\":\"q\"}", " there"},
        {
            "/v1/chat/completions",
            "{\"model\":\"cut/m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
            " there",
        },
    };
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        unsigned n = fail_each(&stories[i], "hello");
        print_message("story %zu: %u allocations failed in turn\n", i, n);
        assert_true(n >= 40);
    }
}

int main(void)
{
    unsigned fds;
    loop_process_init(&fds);
    assert_int_equal(net_process_init(), PD_OK);
    log_threshold = LOG_ERROR;
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_failed_allocation_ends_a_call_cleanly),
                                       cmocka_unit_test(a_client_that_leaves_and_comes_back_is_no_exception)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
