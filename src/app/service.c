#include "app/service.h"
#include "dialect/keep.h"

#include "app/durable.h"
#include "app/load.h"
#include "app/persist.h"
#include "app/upgrade.h"
#include "base/clock.h"
#include "base/mem.h"
#include "front/desk.h"
#include "front/front.h"
#include "net/net.h"
#include "relay/follow.h"
#include "relay/held.h"
#include "relay/kept.h"
#include "relay/ledger.h"
#include "relay/prober.h"
#include "relay/record.h"
#include "relay/relay.h"
#include "relay/routing.h"
#include "relay/wakes.h"
#include "route/queue.h"
#include "state/serving.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct service;

/* One worker's thread. What other threads want of it they store and wake it. */
struct seat {
    struct worker worker;
    struct service *service;
    pthread_t thread;
    struct waker *waker;
    _Atomic(struct conf_ref *) next_conf; /* a reload; taken by the worker */
    _Atomic int wish;                     /* enum wish */
    struct timer measure;                 /* with several workers: this one's figures, for a scrape by another */
    bool started, server_closed, client_closed, stopped;
    bool drained; /* for a successor: nothing is under way any more */
};
enum wish { WISH_NONE, WISH_DRAIN, WISH_HAND_OVER, WISH_TAKE_BACK, WISH_LET_GO, WISH_CLOSE };

/* How long an idle connection may ask once more when no new ones are taken: its client may be sending right now. */
enum { DRAIN_GRACE_MS = 100, HAND_OVER_GRACE_MS = 5000 };

struct service {
    const struct service_options *options;
    struct gateway gateway;
    struct seat *seats;
    struct worker **workers;
    unsigned count;
    struct timer drain_limit;
    _Atomic unsigned others; /* workers beside the first that still run */
    int stops;               /* signals to end seen */
    struct inherited inherited;
    struct upgrade upgrade;
    struct persist *persist;
    struct durable *durable;
    char program[4096]; /* where it was started from */
    bool handed_over, ending;
    _Atomic unsigned drained; /* seats that are */
};

/* ---- settings that the process takes over from a config --------------------------------------- */

static void apply_rules(struct worker *w, const struct conf *c)
{
    struct server_rules s;
    struct client_rules k;
    server_rules_default(&s);
    s.head_bytes = c->settings.head_limit;
    s.body_bytes = c->settings.body_limit;
    s.head_ms = c->settings.head_timeout;
    s.body_stall_ms = c->settings.body_timeout;
    s.body_rate = c->settings.body_rate;
    s.idle_ms = c->settings.idle_timeout;
    s.write_stall_ms = c->settings.write_timeout;
    s.connections = (unsigned)c->settings.connections;
    s.h2_streams = (unsigned)c->settings.h2_streams;
    client_rules_default(&k);
    k.connect_ms = k.tls_ms = c->settings.connect_timeout;
    k.peer_ms = c->settings.peer_timeout;
    if (w->server)
        server_set_rules(w->server, &s);
    client_set_rules(w->client, &k);
    kept_rules(w->gateway->kept, c->settings.resume_memory, c->settings.resume_keep);
    atomic_store(&w->gateway->resume_keep_ms, c->settings.resume_keep);
}

static void apply_log(const struct service *sv, const struct conf *c)
{
    log_threshold = sv->options->log_level_given ? sv->options->log_level : c->log_level;
    log_json = sv->options->log_format ? strcmp(sv->options->log_format, "json") == 0 : c->log_json;
}

/* ---- what the fleet tells ------------------------------------------------------------------------ */

static void on_breaker(void *ctx, const struct target *t, enum breaker_state from, enum breaker_state to)
{
    struct service *sv = ctx;
    LOG(NULL, to == BREAKER_OPEN ? LOG_WARN : LOG_INFO, "breaker.change", "target=%s from=%s to=%s", t->name,
        breaker_state_name(from), breaker_state_name(to));
    meter_add(sv->seats[0].worker.meter, METER_BREAKER_CHANGES, 1,
              LABELS(t->provider, t->model, breaker_state_name(to)));
}

static void on_parked(void *ctx, const struct target *t, enum failure why, uint64_t until_ms)
{
    (void)ctx;
    if (why == FAILURE_NONE)
        LOG(NULL, LOG_INFO, "target.unparked", "target=%s", t->name);
    else
        LOG(NULL, LOG_WARN, "target.parked", "target=%s class=%s until_ms=%llu", t->name, failure_row(why)->name,
            (unsigned long long)until_ms);
}

static void on_paced(void *ctx, const struct target *t, enum pace_state from, enum pace_state to)
{
    struct service *sv = ctx;
    enum pace_kind by = t->pace.cause;
    if (to == PACE_THROTTLED && from == PACE_USUAL) {
        meter_add(sv->seats[0].worker.meter, METER_THROTTLED, 1,
                  LABELS(t->provider, t->model, pace_kind_name(by)));
        LOG(NULL, LOG_WARN, "target.throttled", "target=%s by=%s ratio=%.1f hold_ms=%llu", t->name,
            pace_kind_name(by), t->pace.ratio[by], (unsigned long long)t->pace.hold_ms);
    } else if (to == PACE_USUAL) {
        LOG(NULL, LOG_INFO, "target.unthrottled", "target=%s by=%s", t->name, pace_kind_name(by));
    }
}

/* A call in the queue may start: it looks, on its own worker. */
static void on_ready(void *ctx, struct ticket *ticket)
{
    (void)ctx;
    if (ticket->owner)
        relay_ready(ticket->owner);
}

/* ---- the end ----------------------------------------------------------------------------------------- */

/* The first worker's end is the end of the process: it waits for the others. */
static void check_last(struct service *sv)
{
    struct seat *first = &sv->seats[0];
    if (first->stopped && atomic_load(&sv->others) == 0)
        loop_stop(first->worker.loop);
}

static void check_stopped(struct seat *s)
{
    struct service *sv = s->service;
    if (!s->server_closed || !s->client_closed || s->stopped)
        return;
    s->stopped = true;
    if (s->worker.index == 0) {
        check_last(sv);
        return;
    }
    loop_stop(s->worker.loop);
    if (s->started) {
        atomic_fetch_sub(&sv->others, 1);
        waker_wake(sv->seats[0].waker);
    }
}

static void on_client_closed(void *ctx)
{
    struct seat *s = ctx;
    s->client_closed = true;
    check_stopped(s);
}

static void on_server_closed(void *ctx)
{
    struct seat *s = ctx;
    s->server_closed = true;
    s->worker.prober = prober_free(s->worker.prober);
    relay_end_orphans(&s->worker);
    client_close(s->worker.client, on_client_closed, s);
}

static void on_drained(void *ctx)
{
    struct seat *s = ctx;
    if (!s->server_closed)
        server_close(s->worker.server, on_server_closed, s);
}

/* Each looks for itself what is new. */
static void wake_all(void *ctx)
{
    struct service *sv = ctx;
    for (unsigned i = 0; i < sv->count; i++)
        waker_wake(sv->seats[i].waker);
}

static void tell_all(struct service *sv, enum wish wish)
{
    for (unsigned i = 0; i < sv->count; i++) {
        atomic_store(&sv->seats[i].wish, wish);
        if (sv->seats[i].waker)
            waker_wake(sv->seats[i].waker);
    }
}

static void close_all(struct service *sv)
{
    sv->ending = true;
    tell_all(sv, WISH_CLOSE);
}

/* All of them stay until the last is done, since the successor may die until then. */
static void on_handed_over_drained(void *ctx)
{
    struct seat *s = ctx;
    s->drained = true;
    atomic_fetch_add(&s->service->drained, 1);
    waker_wake(s->service->seats[0].waker);
}

static void not_drained(struct seat *s)
{
    if (s->drained)
        atomic_fetch_sub(&s->service->drained, 1);
    s->drained = false;
}

/* On the first worker's loop, as is all that a successor tells. */
static void check_drained(struct service *sv)
{
    if (sv->handed_over && !sv->ending && atomic_load(&sv->drained) == sv->count)
        close_all(sv);
}

static void on_drain_limit(void *ctx)
{
    struct service *sv = ctx;
    LOG(NULL, LOG_WARN, "serve.drain_limit", "%s", "calls=cut");
    close_all(sv);
}

static void start_drain(struct service *sv, enum wish how)
{
    struct worker *w = &sv->seats[0].worker;
    uint64_t limit = routing_conf(w->routing)->settings.drain_timeout;
    timer_arm(w->loop, &sv->drain_limit, loop_now_ms(w->loop) + limit + 1);
    tell_all(sv, how);
}

static unsigned calls_running(struct service *sv)
{
    unsigned n = 0;
    fleet_lock(sv->gateway.fleet);
    LIST_EACH(it, &sv->gateway.calls)
    n++;
    fleet_unlock(sv->gateway.fleet);
    return n;
}

static void on_stop_signal(void *ctx, int signum)
{
    struct service *sv = ctx;
    if (sv->stops++ > 0) {
        close_all(sv);
        return;
    }
    inherited_leaving(&sv->inherited);
    LOG(NULL, LOG_INFO, "serve.draining", "signal=%d calls=%u", signum, calls_running(sv));
    if (sv->handed_over)
        return; /* it drains already, and for a second signal there is still the sharp meaning */
    upgrade_cancel(&sv->upgrade);
    notify_supervisor("STOPPING=1");
    atomic_store(&sv->gateway.draining, true);
    start_drain(sv, WISH_DRAIN);
}

/* ---- where it is found ------------------------------------------------------------------------------------- */

/* "0.0.0.0:8080" -> "127.0.0.1:8080": what a neighbour asks. */
static void reachable(const char *address, uint16_t port, char *out, size_t out_bytes)
{
    bool any = strncmp(address, "0.0.0.0:", 8) == 0, any6 = strncmp(address, "[::]:", 5) == 0;
    if (any || any6)
        snprintf(out, out_bytes, "http://%s:%u", any ? "127.0.0.1" : "[::1]", port);
    else
        snprintf(out, out_bytes, "http://%s", address);
}

/* On an address of this machine's own alone, if there is one: there no key is needed. */
static void tell_where(struct service *sv)
{
    char best[SERVING_URL_MAX] = "";
    int fds[SERVICE_LISTEN_MAX];
    unsigned n = server_listening(sv->seats[0].worker.server, fds, SERVICE_LISTEN_MAX);
    for (unsigned i = 0; i < n; i++) {
        char address[80], url[SERVING_URL_MAX];
        uint16_t port;
        if (server_address(fds[i], address, sizeof(address), &port) != PD_OK)
            continue;
        reachable(address, port, url, sizeof(url));
        if (!best[0] || (conf_is_loopback(url + strlen("http://")) && !conf_is_loopback(best + strlen("http://"))))
            memcpy(best, url, sizeof(best));
    }
    if (best[0])
        persist_serving(sv->persist, best, sv->options->for_run);
}

/* ---- upgrade ------------------------------------------------------------------------------------------- */

static void write_pid_file(const char *path)
{
    FILE *f = path ? fopen(path, "we") : NULL;
    if (path && (!f || fprintf(f, "%d\n", (int)getpid()) < 0 || fclose(f) != 0))
        LOG(NULL, LOG_WARN, "serve.pid_file", "file=\"%s\" why=\"%s\"", path, strerror(errno));
}

static void hand_over(struct service *sv, pid_t pid)
{
    char text[32];
    LOG(NULL, LOG_INFO, "upgrade.handed_over", "pid=%d calls=%u", (int)pid, calls_running(sv));
    snprintf(text, sizeof(text), "MAINPID=%d", (int)pid);
    notify_supervisor(text);
    inherited_leaving(&sv->inherited); /* should this one die now, its own elder is not the one to serve */
    sv->handed_over = true;
    persist_hand_over(sv->persist);
    durable_hand_over(sv->durable);
    start_drain(sv, WISH_HAND_OVER);
}

/* Everything is still there but for the connections that have ended meanwhile. */
static void take_back(struct service *sv, pid_t pid, const char *why)
{
    char text[32], quoted[240];
    LOG(NULL, LOG_ERROR, "upgrade.taken_back",
        "pid=%d why=%s calls=%u remedy=\"this process accepts again; what the new one said stands above\"",
        (int)pid, log_quote(span_str(why), quoted, sizeof(quoted)), calls_running(sv));
    sv->handed_over = false;
    timer_stop(sv->seats[0].worker.loop, &sv->drain_limit);
    tell_all(sv, WISH_TAKE_BACK);
    persist_take_back(sv->persist);
    durable_take_back(sv->durable);
    write_pid_file(sv->options->pid_file);
    tell_where(sv);
    snprintf(text, sizeof(text), "MAINPID=%d", (int)getpid());
    notify_supervisor(text);
}

static void on_upgrade(void *ctx, enum upgrade_news news, pid_t pid, const char *why)
{
    struct service *sv = ctx;
    char quoted[240];
    if (sv->ending)
        return;
    switch (news) {
    case UPGRADE_READY:
        hand_over(sv, pid);
        break;
    case UPGRADE_FAILED:
        LOG(NULL, LOG_ERROR, "upgrade.failed",
            "pid=%d why=%s remedy=\"this process goes on as before; what the new one said stands above\"",
            (int)pid, log_quote(span_str(why), quoted, sizeof(quoted)));
        tell_where(sv); /* the new one may have told already that it serves */
        break;
    case UPGRADE_LEAVES:
        tell_all(sv, WISH_LET_GO);
        break;
    case UPGRADE_DIED:
        if (sv->stops) /* told to end: who connects now is to be turned away, and not to wait */
            tell_all(sv, WISH_LET_GO);
        else
            take_back(sv, pid, why);
        break;
    }
}

static void on_upgrade_signal(void *ctx, int signum)
{
    (void)signum;
    struct service *sv = ctx;
    int fds[SERVICE_LISTEN_MAX];
    if (sv->handed_over || sv->stops) {
        LOG(NULL, LOG_WARN, "upgrade.refused", "%s", "why=\"this process is ending\"");
        return;
    }
    persist_write(sv->persist);
    struct upgrade_ask ask = {.argv = sv->options->argv,
                              .program = *sv->program ? sv->program : NULL,
                              .fds = fds,
                              .count = server_listening(sv->seats[0].worker.server, fds, SERVICE_LISTEN_MAX),
                              .activated = sv->inherited.activated,
                              .state_fd = persist_lock(sv->persist)};
    pd_err e = upgrade_begin(&sv->upgrade, &ask);
    if (e)
        LOG(NULL, e == PD_EXISTS ? LOG_WARN : LOG_ERROR, "upgrade.refused", "why=\"%s\"",
            e == PD_EXISTS ? "one is under way"
            : e == PD_IO   ? strerror(errno)
                           : pd_err_text(e));
    else
        LOG(NULL, LOG_INFO, "upgrade.started", "pid=%d", (int)sv->upgrade.pid);
}

/* ---- reload -------------------------------------------------------------------------------------------- */

static pd_err take_conf(struct worker *w, struct conf_ref *ref, const char **why)
{
    struct routing *fresh;
    pd_err e = routing_new(w, ref, &fresh, why);
    if (e)
        return e;
    routing_unref(w->routing);
    w->routing = fresh;
    apply_rules(w, ref->conf);
    return PD_OK;
}

static void on_wake(void *ctx)
{
    struct seat *s = ctx;
    const char *why;
    struct conf_ref *ref = atomic_exchange(&s->next_conf, NULL);
    if (ref) {
        if (take_conf(&s->worker, ref, &why) != PD_OK)
            LOG(NULL, LOG_ERROR, "config.reload_failed", "worker=%u why=\"%s\"", s->worker.index, why);
        conf_ref_drop(ref);
    }
    durable_seat(s->service->durable, &s->worker);
    switch ((enum wish)atomic_exchange(&s->wish, WISH_NONE)) {
    case WISH_NONE:
        break;
    case WISH_DRAIN:
        server_leave(s->worker.server, DRAIN_GRACE_MS, false, on_drained, s);
        break;
    case WISH_HAND_OVER:
        not_drained(s);
        server_leave(s->worker.server, HAND_OVER_GRACE_MS, true, on_handed_over_drained, s);
        break;
    case WISH_TAKE_BACK:
        not_drained(s);
        server_return(s->worker.server);
        break;
    case WISH_LET_GO:
        server_let_go(s->worker.server);
        break;
    case WISH_CLOSE:
        on_drained(s);
        break;
    }
    if (s->worker.index != 0)
        return;
    check_drained(s->service);
    check_last(s->service);
}

static bool same_listen(const struct conf *a, const struct conf *b)
{
    if (a->listen_count != b->listen_count)
        return false;
    for (unsigned i = 0; i < a->listen_count; i++)
        if (strcmp(a->listen[i], b->listen[i]) != 0)
            return false;
    return true;
}

static void count_reload(struct service *sv, const char *result)
{
    meter_add(sv->seats[0].worker.meter, METER_RELOADS, 1, LABELS(result));
    LOG(NULL, strcmp(result, "ok") == 0 ? LOG_INFO : LOG_ERROR, "config.reload", "result=%s", result);
}

/* All or nothing: the new config is taken only when it loads and the first worker can use it. */
static void on_reload_signal(void *ctx, int signum)
{
    (void)signum;
    struct service *sv = ctx;
    struct worker *w = &sv->seats[0].worker;
    struct conf *c = NULL;
    const char *why = "";
    struct conf_ref *ref = load_config(sv->options->config_path, sv->options->without_providers, &c) == PD_OK
                               ? conf_ref_new(c)
                               : NULL;
    if (!ref) {
        conf_free(c);
        count_reload(sv, "kept_last_good");
        return;
    }
    if (!sv->options->listen_count && !same_listen(routing_conf(w->routing), c))
        LOG(NULL, LOG_WARN, "config.listen_unchanged", "%s", "remedy=\"restart to listen elsewhere\"");
    if (take_conf(w, ref, &why) != PD_OK) {
        conf_ref_drop(ref);
        count_reload(sv, "kept_last_good");
        return;
    }
    apply_log(sv, c);
    durable_reload(sv->durable, c);
    for (unsigned i = 1; i < sv->count; i++) {
        conf_ref_drop(atomic_exchange(&sv->seats[i].next_conf, conf_ref_take(ref)));
        waker_wake(sv->seats[i].waker);
    }
    conf_ref_drop(ref);
    prober_kick(w->prober, true);
    count_reload(sv, "ok");
}

/* ---- the beginning ---------------------------------------------------------------------------------------- */

enum { MEASURE_EVERY_MS = 1000 };

static void on_measure(void *ctx)
{
    struct seat *s = ctx;
    front_measure(&s->worker);
    timer_arm(s->worker.loop, &s->measure, loop_now_ms(s->worker.loop) + MEASURE_EVERY_MS);
}

static pd_err seat_open(struct service *sv, struct seat *s, unsigned index, struct conf_ref *ref, const char **why)
{
    struct worker *w = &s->worker;
    struct client_rules k;
    struct server_rules r;
    client_rules_default(&k);
    server_rules_default(&r);
    s->service = sv;
    w->gateway = &sv->gateway;
    w->index = index;
    *why = "out of memory";
    w->meter = meter_new();
    w->loop = loop_new();
    if (!w->meter || !w->loop)
        return PD_NOMEM;
    w->client = client_new(w->loop, &k);
    w->server = server_new(w->loop, &r, &front_handler, w);
    s->waker = waker_new(w->loop, on_wake, s);
    w->follows = follows_new(w);
    w->wakes = relay_wakes(w);
    w->desk = desk_new(w);
    if (!w->client || !w->server || !s->waker || !w->follows || !w->wakes || !w->desk)
        return PD_NOMEM;
    pd_err e = routing_new(w, ref, &w->routing, why);
    if (e)
        return e;
    apply_rules(w, ref->conf);
    timer_init(&s->measure, on_measure, s);
    if (ref->conf->settings.workers > 1)
        on_measure(s);
    return PD_OK;
}

/* Ends in any state of being built. */
static void seat_close(struct seat *s)
{
    struct worker *w = &s->worker;
    if (w->loop)
        timer_stop(w->loop, &s->measure);
    w->prober = prober_free(w->prober);
    w->routing = routing_unref(w->routing);
    conf_ref_drop(atomic_exchange(&s->next_conf, NULL));
    if (w->server && !s->server_closed) {
        server_close(w->server, on_server_closed, s);
        loop_run(w->loop);
    }
    server_free(w->server);
    client_free(w->client);
    follows_free(w->follows);
    shown_done(&w->told);
    desk_free(w->desk);
    wakes_free(w->wakes);
    waker_free(s->waker);
    loop_free(w->loop);
    meter_free(w->meter);
}

static pd_err check_exposed(const struct conf *c, const char *address)
{
    if (c->keys_count || conf_is_loopback(address))
        return PD_OK;
    fprintf(stderr,
            "perdure: %s can be reached by other machines: configure client keys (`keys:`) or listen on "
            "127.0.0.1\n",
            address);
    return PD_INVALID;
}

/* Takes a listening socket that was handed over. */
static pd_err listen_inherited(struct service *sv, int fd, uint16_t *ret_port)
{
    char address[80];
    pd_err e = server_address(fd, address, sizeof(address), ret_port);
    if (!e)
        e = server_listen_fd(sv->seats[0].worker.server, fd);
    if (e)
        close(fd);
    return e;
}

static void tell_listening(const char *address, uint16_t port)
{
    const char *colon = strrchr(address, ':');
    printf("perdure " PERDURE_VERSION " listens on http://%.*s:%u/v1\n", (int)(colon ? colon - address : 0),
           address, port);
}

static pd_err listen_at(struct service *sv, const struct conf *c, const char *address)
{
    uint16_t port = 0;
    pd_err e = check_exposed(c, address);
    if (e)
        return e;
    int fd = inherited_find(&sv->inherited, address);
    e = fd >= 0 ? listen_inherited(sv, fd, &port) : server_listen(sv->seats[0].worker.server, address, &port);
    if (e) {
        fprintf(stderr, "perdure: cannot listen on %s: %s\n", address,
                e == PD_EXISTS ? "another program does; stop it, or choose another port with --listen"
                               : pd_err_text(e));
        return e;
    }
    tell_listening(address, port);
    return PD_OK;
}

/* Sockets that systemd made: the unit says where to listen. */
static pd_err listen_activated(struct service *sv, const struct conf *c)
{
    for (unsigned i = 0; i < sv->inherited.count; i++) {
        char address[80];
        uint16_t port;
        int fd = sv->inherited.fds[i];
        pd_err e = server_address(fd, address, sizeof(address), &port);
        if (e)
            fprintf(stderr, "perdure: a socket that was handed over is none of TCP: ListenStream= takes an "
                            "address and a port\n");
        if (!e)
            e = check_exposed(c, address);
        if (e)
            return e;
        sv->inherited.fds[i] = -1;
        e = listen_inherited(sv, fd, &port);
        if (e)
            return e;
        tell_listening(address, port);
    }
    return PD_OK;
}

static pd_err listen_first(struct service *sv, const struct conf *c)
{
    const struct service_options *o = sv->options;
    unsigned n = o->listen_count ? o->listen_count : c->listen_count;
    const char *const *list = o->listen_count ? (const char *const *)o->listen : (const char *const *)c->listen;
    pd_err e = PD_OK;
    if (sv->inherited.activated && !o->listen_count)
        e = listen_activated(sv, c);
    else
        for (unsigned i = 0; i < n && !e; i++)
            e = listen_at(sv, c, list[i]);
    inherited_close_rest(&sv->inherited);
    return e;
}

static pd_err listen_all(struct service *sv, const struct conf *c)
{
    pd_err first = listen_first(sv, c);
    if (first)
        return first;
    /* The other workers accept from the same sockets: whoever is awake, and so the least busy, takes the next connection. */
    int fds[SERVICE_LISTEN_MAX];
    unsigned count = server_listening(sv->seats[0].worker.server, fds, SERVICE_LISTEN_MAX);
    for (unsigned i = 1; i < sv->count; i++)
        for (unsigned k = 0; k < count; k++) {
            int fd = fcntl(fds[k], F_DUPFD_CLOEXEC, 0); /* a successor is given the first worker's only */
            pd_err e = fd < 0 ? PD_NOFD : server_listen_fd(sv->seats[i].worker.server, fd);
            if (e)
                return e;
        }
    return PD_OK;
}

static void announce(const struct conf *c)
{
    printf("providers:");
    for (unsigned i = 0; i < c->providers_count; i++)
        printf(" %s", c->providers[i].name);
    if (c->routes_count)
        printf("\nroutes:");
    for (unsigned i = 0; i < c->routes_count; i++)
        printf(" %s", c->routes[i].name);
    printf("\n");
    fflush(stdout);
}

static void *seat_thread(void *ctx)
{
    struct seat *s = ctx;
    loop_run(s->worker.loop);
    return NULL;
}

static pd_err start_threads(struct service *sv)
{
    for (unsigned i = 1; i < sv->count; i++) {
        sv->seats[i].started = true;
        atomic_fetch_add(&sv->others, 1);
        if (pthread_create(&sv->seats[i].thread, NULL, seat_thread, &sv->seats[i]) != 0) {
            sv->seats[i].started = false;
            atomic_fetch_sub(&sv->others, 1);
            return PD_NOMEM;
        }
    }
    return PD_OK;
}

enum { KEPT_BYTES = 64 << 20 }; /* of signatures and sealed reasoning that makers want back with tool calls */

static pd_err open_gateway(struct service *sv, struct conf_ref *ref)
{
    static const struct fleet_watch watch = {on_breaker, on_parked, on_paced, on_ready};
    const char *why = "out of memory";
    list_init(&sv->gateway.calls);
    sv->gateway.id_seed = rnd_seed();
    sv->gateway.started_wall_ms = clock_wall_ms();
    pthread_mutex_init(&sv->gateway.keep_lock, NULL);
    sv->gateway.keep = keep_new(KEPT_BYTES);
    sv->gateway.ledger = ledger_new();
    sv->gateway.held = held_new();
    sv->gateway.kept = kept_new(ref->conf->settings.resume_memory, ref->conf->settings.resume_keep);
    sv->gateway.fleet = fleet_new(rnd_seed());
    sv->seats = mem_calloc(ref->conf->settings.workers, sizeof(*sv->seats));
    sv->workers = mem_calloc(ref->conf->settings.workers, sizeof(struct worker *));
    pd_err e =
        sv->gateway.fleet && sv->gateway.keep && sv->gateway.kept && sv->seats && sv->workers ? PD_OK : PD_NOMEM;
    if (!e)
        fleet_set_watch(sv->gateway.fleet, &watch, sv);
    for (unsigned i = 0; i < ref->conf->settings.workers && !e; i++) {
        sv->count = i + 1;
        e = seat_open(sv, &sv->seats[i], i, ref, &why);
        sv->workers[i] = &sv->seats[i].worker;
    }
    sv->gateway.workers = sv->workers;
    sv->gateway.workers_count = sv->count;
    if (e)
        fprintf(stderr, "perdure: cannot start: %s\n", why);
    return e;
}

static void close_gateway(struct service *sv)
{
    for (unsigned i = 0; i < sv->count; i++)
        seat_close(&sv->seats[i]);
    for (unsigned i = 0; i < RECENT_CALLS; i++)
        mem_free(sv->gateway.recent[i]);
    catalog_done(&sv->gateway.catalog);
    keep_free(sv->gateway.keep);
    ledger_free(sv->gateway.ledger);
    kept_free(sv->gateway.kept);
    held_free(sv->gateway.held);
    pthread_mutex_destroy(&sv->gateway.keep_lock);
    fleet_free(sv->gateway.fleet);
    mem_free(sv->seats);
    mem_free(sv->workers);
    mem_big_trim();
}

static pd_err begin(struct service *sv, const struct conf *c)
{
    struct seat *first = &sv->seats[0];
    pd_err e = listen_all(sv, c);
    if (!e) {
        first->worker.prober = prober_new(&first->worker);
        e = first->worker.prober ? PD_OK : PD_NOMEM;
    }
    timer_init(&sv->drain_limit, on_drain_limit, sv);
    if (!e)
        e = loop_on_signal(first->worker.loop, SIGTERM, on_stop_signal, sv);
    if (!e)
        e = loop_on_signal(first->worker.loop, SIGINT, on_stop_signal, sv);
    if (!e)
        e = loop_on_signal(first->worker.loop, SIGHUP, on_reload_signal, sv);
    upgrade_init(&sv->upgrade, first->worker.loop, on_upgrade, sv);
    if (!e)
        e = loop_on_signal(first->worker.loop, SIGUSR2, on_upgrade_signal, sv);
    return e ? e : start_threads(sv);
}

static void end(struct service *sv)
{
    close_all(sv);
    for (unsigned i = 1; i < sv->count; i++)
        if (sv->seats[i].started)
            pthread_join(sv->seats[i].thread, NULL);
    timer_stop(sv->seats[0].worker.loop, &sv->drain_limit);
}

/* For an upgrade when argv[0] no longer leads to a program: the path it had, whatever is there by then. */
static void remember_program(struct service *sv)
{
    ssize_t n = readlink("/proc/self/exe", sv->program, sizeof(sv->program) - 1);
    sv->program[n > 0 ? n : 0] = '\0';
}

/* Without the folder it serves all the same; for a run it would be of no use. */
static pd_err open_state(struct service *sv, const char *folder)
{
    if (strcmp(folder, "off") == 0)
        return PD_OK;
    pd_err e = persist_open(&sv->gateway, sv->seats[0].worker.loop, folder, &sv->inherited, &sv->persist);
    if (e != PD_EXISTS || sv->options->for_run)
        return e;
    LOG(NULL, LOG_WARN, "state.held",
        "folder=\"%s\" remedy=\"another perdure keeps its state there: name another folder with state:\"", folder);
    return PD_OK;
}

int service_run(const struct service_options *o)
{
    struct service sv = {.options = o};
    struct conf *c = NULL;
    unsigned fds;
    loop_process_init(&fds);
    if (net_process_init() != PD_OK || load_config(o->config_path, o->without_providers, &c) != PD_OK)
        return 1;
    apply_log(&sv, c);
    if (fds < 2 * c->settings.connections + 64)
        LOG(NULL, LOG_WARN, "serve.descriptors",
            "limit=%u connections=%llu remedy=\"raise ulimit -n to serve them all\"", fds,
            (unsigned long long)c->settings.connections);
    struct conf_ref *ref = conf_ref_new(c);
    if (!ref) {
        conf_free(c);
        return 1;
    }
    inherited_take(&sv.inherited);
    remember_program(&sv);
    pd_err e = open_gateway(&sv, ref);
    if (!e)
        e = open_state(&sv, c->state);
    bool held = e == PD_EXISTS;
    const struct durable_options durable = {c, sv.inherited.upgrade, wake_all, &sv};
    if (!e)
        e = durable_open(&sv.gateway, sv.seats[0].worker.loop, &durable, &sv.durable);
    if (!e)
        e = begin(&sv, c);
    if (!e) {
        write_pid_file(o->pid_file);
        tell_where(&sv);
        announce(c);
        inherited_ready(&sv.inherited);
        LOG(NULL, LOG_INFO, "serve.ready", "workers=%u providers=%u routes=%u", sv.count, c->providers_count,
            c->routes_count);
    }
    conf_ref_drop(ref);
    mem_trim(); /* never again is the heap as full of holes, or as much mapped that only the start needed */
    if (!e)
        loop_run(sv.seats[0].worker.loop);
    if (sv.count)
        end(&sv);
    sv.durable = durable_close(sv.durable); /* a seat that is woken at the very end finds none */
    persist_close(sv.persist);
    upgrade_done(&sv.upgrade);
    if (!e && o->pid_file && !sv.handed_over)
        (void)unlink(o->pid_file);
    close_gateway(&sv);
    if (!e)
        LOG(NULL, LOG_INFO, "serve.ended", "%s", "");
    return held ? SERVICE_HELD : e ? 1 : 0;
}
