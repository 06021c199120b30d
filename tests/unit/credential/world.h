/* world.h - a credential and all it asks: an environment, files, one server that plays every endpoint, and a clock that is set by hand. */
#ifndef PERDURE_TESTS_CREDENTIAL_WORLD_H
#define PERDURE_TESTS_CREDENTIAL_WORLD_H

#include "base/clock.h"
#include "base/mem.h"
#include "credential/credential.h"
#include "net/net.h"
#include "net/server.h"
#include "test.h"
#include "torture.h"

#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WORLD_PAIRS = 24, WORLD_ROUTES = 8, WORLD_PATIENCE_MS = 20000 };

/* What the server answers. A path that no row has is answered 404. */
struct route {
    const char *method, *path;
    int status;
    const char *body;
    const char *want_header, *want_value; /* without it: 401 */
};

struct world {
    struct loop *loop;
    struct client *client;
    struct server *server;
    struct timer guard;
    uint16_t port;
    char folder[64];
    uint64_t now_ms;
    const char *names[WORLD_PAIRS];
    char values[WORLD_PAIRS][256];
    unsigned pairs;
    struct route routes[WORLD_ROUTES];
    unsigned routes_count;
    bool hold; /* requests are kept, not answered */
    struct request *held;
    unsigned hits;   /* requests that came */
    char body[4096]; /* of the last one */
    bool server_closed, client_closed;
    struct credential *c;
    struct credential_view view;
    unsigned told; /* waiters called */
};

#define WORLD_FN __attribute__((unused)) static

WORLD_FN const char *world_env(void *ctx, const char *name)
{
    struct world *w = ctx;
    for (unsigned i = 0; i < w->pairs; i++)
        if (strcmp(w->names[i], name) == 0)
            return w->values[i];
    return NULL;
}

WORLD_FN uint64_t world_clock(void *ctx)
{
    return ((struct world *)ctx)->now_ms;
}

/* "%P" in a value becomes the server's port, "%F" the folder. */
WORLD_FN void world_expand(struct world *w, const char *from, char *out, size_t room)
{
    size_t n = 0;
    for (; *from && n + 1 < room; from++) {
        if (from[0] == '%' && (from[1] == 'P' || from[1] == 'F')) {
            int k = from[1] == 'P' ? snprintf(out + n, room - n, "%u", (unsigned)w->port)
                                   : snprintf(out + n, room - n, "%s", w->folder);
            n += (size_t)k;
            from++;
        } else {
            out[n++] = *from;
        }
    }
    assert_true(n < room);
    out[n] = '\0';
}

WORLD_FN void world_set(struct world *w, const char *name, const char *value)
{
    unsigned i = 0;
    while (i < w->pairs && strcmp(w->names[i], name) != 0)
        i++;
    assert_true(i < WORLD_PAIRS);
    if (i == w->pairs)
        w->names[w->pairs++] = name;
    world_expand(w, value, w->values[i], sizeof(w->values[i]));
}

/* A file below the folder; NULL: it goes. */
WORLD_FN void world_file(struct world *w, const char *name, const char *text)
{
    char path[256], *expanded = malloc(16384);
    snprintf(path, sizeof(path), "%s/%s", w->folder, name);
    for (char *at = strchr(path + strlen(w->folder) + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        mkdir(path, 0700);
        *at = '/';
    }
    unlink(path);
    if (text) {
        world_expand(w, text, expanded, 16384);
        FILE *out = fopen(path, "wb");
        assert_non_null(out);
        fputs(expanded, out);
        fclose(out);
    }
    free(expanded);
}

/* ---- the server ---- */

WORLD_FN void world_gone(void *ctx)
{
    ((struct world *)ctx)->held = NULL;
}

WORLD_FN void world_answer(struct world *w, struct request *rq)
{
    for (unsigned i = 0; i < w->routes_count; i++) {
        const struct route *r = &w->routes[i];
        if (!span_is(request_method(rq), r->method) || !span_is(request_path(rq), r->path))
            continue;
        bool allowed = !r->want_header || span_is(request_header(rq, r->want_header), r->want_value);
        reply_simple(rq, allowed ? r->status : 401, NULL, 0,
                     span_str(allowed ? r->body : "{\"message\":\"who?\"}"));
        return;
    }
    reply_simple(rq, 404, NULL, 0, SPAN_LIT("not here"));
}

WORLD_FN void world_request(void *ctx, struct request *rq)
{
    static const struct request_handler on = {.on_gone = world_gone};
    struct world *w = ctx;
    w->hits++;
    snprintf(w->body, sizeof(w->body), "%.*s", SPAN_FMT(request_body(rq)));
    if (w->hold) {
        request_set_handler(rq, &on, w);
        w->held = rq;
        return;
    }
    world_answer(w, rq);
}

WORLD_FN void world_late(void *ctx)
{
    (void)ctx;
    fprintf(stderr, "waited in vain\n");
    abort();
}

WORLD_FN pd_err world_try(struct world *w)
{
    static const struct server_handler handler = {.on_request = world_request};
    struct server_rules rules;
    struct client_rules client_rules;
    *w = (struct world){.now_ms = clock_wall_ms()};
    strcpy(w->folder, "/tmp/perdure-credential-XXXXXX");
    if (!mkdtemp(w->folder))
        return PD_IO;
    server_rules_default(&rules);
    client_rules_default(&client_rules);
    w->loop = loop_new();
    if (!w->loop)
        return PD_NOMEM;
    w->client = client_new(w->loop, &client_rules);
    w->server = server_new(w->loop, &rules, &handler, w);
    if (!w->client || !w->server)
        return PD_NOMEM;
    timer_init(&w->guard, world_late, w);
    timer_arm(w->loop, &w->guard, loop_now_ms(w->loop) + WORLD_PATIENCE_MS);
    return server_listen(w->server, "127.0.0.1:0", &w->port);
}

WORLD_FN void world_begin(struct world *w)
{
    assert_int_equal(world_try(w), PD_OK);
    world_set(w, "HOME", "%F");
}

WORLD_FN void world_source(struct world *w, enum credential_cloud cloud, struct conf_cloud given, const char *key)
{
    struct credential_setup setup = {w->loop, w->client, world_env, w, world_clock, w};
    struct credential_source source = {"p", cloud, key, given};
    w->c = credential_new(&setup, &source);
}

WORLD_FN void world_told(void *ctx)
{
    ((struct world *)ctx)->told++;
}

/* One wakeup. What is waited for may come true in what is done just before the loop waits, so the waiting is done here. */
WORLD_FN void world_turn(struct world *w)
{
    struct pollfd f = {.fd = uv_backend_fd(loop_uv(w->loop)), .events = POLLIN};
    int timeout = uv_backend_timeout(loop_uv(w->loop));
    poll(&f, 1, timeout < 0 || timeout > 2 ? 2 : timeout);
    uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
    uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
}
#define WORLD_UNTIL(w, what)                       \
    do {                                           \
        uv_run(loop_uv((w)->loop), UV_RUN_NOWAIT); \
        while (!(what))                            \
            world_turn(w);                         \
    } while (0)

/* Asks, and waits if that is the answer. */
WORLD_FN enum credential_state world_get(struct world *w)
{
    struct credential_waiter waiter = {.fn = NULL};
    unsigned told = w->told;
    enum credential_state state = credential_get(w->c, &w->view);
    if (state != CREDENTIAL_WAIT)
        return state;
    credential_wait(w->c, &waiter, world_told, w);
    WORLD_UNTIL(w, w->told > told);
    state = credential_get(w->c, &w->view);
    assert_int_not_equal(state, CREDENTIAL_WAIT);
    return state;
}

WORLD_FN void world_server_closed(void *ctx)
{
    ((struct world *)ctx)->server_closed = true;
}
WORLD_FN void world_client_closed(void *ctx)
{
    ((struct world *)ctx)->client_closed = true;
}
WORLD_FN int world_unlink(const char *path, const struct stat *s, int flag, struct FTW *f)
{
    (void)s;
    (void)flag;
    (void)f;
    return remove(path);
}

WORLD_FN void world_end(struct world *w)
{
    w->c = credential_free(w->c);
    if (w->server) {
        server_close(w->server, world_server_closed, w);
        WORLD_UNTIL(w, w->server_closed);
        server_free(w->server);
    }
    if (w->client) {
        client_close(w->client, world_client_closed, w);
        WORLD_UNTIL(w, w->client_closed);
        client_free(w->client);
    }
    timer_stop(w->loop, &w->guard);
    loop_free(w->loop);
    nftw(w->folder, world_unlink, 8, FTW_DEPTH | FTW_PHYS);
}

#endif
