/* fuzz_h2.c - the frames of a client behind the preface: whole and split give the same requests, whatever the handler answers, and
 * nothing is left behind.
 *
 * Input: one byte that says how requests are answered (two bits for each of four in turn), two that say where to split, then
 * the bytes of the wire behind the preface. */
#include "base/mem.h"
#include "net/h2_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                             \
    do {                                                       \
        if (!(cond)) {                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #cond); \
            abort();                                           \
        }                                                      \
    } while (0)

static struct loop *loop;
static struct server *server;

struct outcome {
    unsigned heads, requests, gone, open;
    uint64_t hash; /* of all that handlers saw, in its order */
    uint8_t how;
};
static struct outcome now;

static void mix(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        now.hash = now.hash * 31 + (uint8_t)s.p[i];
    now.hash = now.hash * 31 + 256;
}

static void check_request(struct request *rq)
{
    const struct http1_field *fields;
    unsigned n = request_headers(rq, &fields);
    MUST(n <= HTTP1_FIELDS_MAX);
    mix(request_method(rq));
    mix(request_path(rq));
    mix(request_query(rq));
    MUST(request_header(rq, "host").n > 0);
    for (unsigned i = 0; i < n; i++) {
        mix(fields[i].name);
        mix(fields[i].value);
        MUST(!fields[i].value.n || !memchr(fields[i].value.p, '\n', fields[i].value.n));
    }
}

static void on_gone(void *ctx)
{
    (void)ctx;
    now.gone++;
    now.open--;
}

static void on_head(void *ctx, struct request *rq)
{
    (void)ctx;
    static const struct request_handler on = {.on_gone = on_gone};
    request_set_handler(rq, &on, NULL);
    check_request(rq);
    now.heads++;
    now.open++;
    if (span_is(request_query(rq), "early")) {
        reply_simple(rq, 401, NULL, 0, SPAN_LIT("early"));
        now.open--;
    }
}

static void on_request(void *ctx, struct request *rq)
{
    (void)ctx;
    struct span body = request_body(rq);
    mix(body);
    unsigned how = now.how >> (2 * (now.requests++ & 3)) & 3;
    if (how == 3)
        return; /* open until its client leaves */
    now.open--;
    if (how == 0) {
        reply_simple(rq, 200, NULL, 0, body);
        return;
    }
    if (reply_begin(rq, 200, NULL, 0, -1) || reply_write(rq, &body, 1) || how == 2)
        reply_abort(rq);
    else
        reply_end(rq);
}

static void begin(void)
{
    static const struct server_handler handler = {on_head, on_request};
    struct server_rules rules;
    server_rules_default(&rules);
    rules.head_bytes = 4096;
    rules.body_bytes = 16384;
    rules.h2_streams = 100000;
    loop = loop_new();
    MUST(loop);
    server = server_new(loop, &rules, &handler, NULL);
    MUST(server);
}

static void turns(struct conn *c, int other)
{
    char sink[65536];
    for (int i = 0; i < 4; i++) {
        h2_turn(c);
        while (recv(other, sink, sizeof(sink), MSG_DONTWAIT) > 0)
            ;
        if (c->phase == CONN_H2 && c->blocked)
            h2_writable(c);
    }
}

static struct outcome talk(struct span in, size_t cut, uint8_t how)
{
    int ends[2];
    struct sockaddr_storage nobody = {.ss_family = AF_UNIX};
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    now = (struct outcome){.how = how};
    MUST(conn_new(server, ends[0], &nobody) == PD_OK);
    struct conn *c = LIST_OF(server->conns.next, struct conn, node);
    h2_begin(c);
    h2_feed(c, SPAN_LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    if (cut)
        h2_feed(c, span_upto(in, cut));
    h2_feed(c, span_from(in, cut));
    struct outcome seen = now; /* before anything was sent: what was fed is all that counts */
    turns(c, ends[1]);
    MUST(server->stats.requests_open == now.open);
    conn_gone(c);
    MUST(now.open == 0);
    close(ends[1]);
    while (!list_empty(&server->conns))
        uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    MUST(server->stats.requests_open == 0);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    if (!server)
        begin();
    struct span in = span_of((const char *)data + 3, size - 3);
    size_t cut = in.n ? (size_t)(data[1] << 8 | data[2]) % (in.n + 1) : 0;
    talk(in, 0, data[0]); /* the server's queues and callbacks are made once */
    size_t blocks = mem_blocks();
    struct outcome whole = talk(in, 0, data[0]), split = talk(in, cut, data[0]);
    MUST(whole.heads == split.heads && whole.requests == split.requests && whole.hash == split.hash);
    MUST(mem_blocks() <= blocks);
    return 0;
}
