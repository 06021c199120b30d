#include "app/service.h"
#include "dialect/keep.h"

#include "app/load.h"
#include "base/clock.h"
#include "base/mem.h"
#include "front/front.h"
#include "net/net.h"
#include "relay/prober.h"
#include "relay/record.h"
#include "relay/routing.h"

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
};
enum wish { WISH_NONE, WISH_DRAIN, WISH_CLOSE };

struct service {
    const struct service_options *options;
    struct gateway gateway;
    struct seat *seats;
    struct worker **workers;
    unsigned count;
    struct timer drain_limit;
    int stops; /* signals to end seen */
    bool reported;
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

/* ---- the end ----------------------------------------------------------------------------------------- */

static void check_stopped(struct seat *s)
{
    if (s->server_closed && s->client_closed && !s->stopped) {
        s->stopped = true;
        loop_stop(s->worker.loop);
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
    client_close(s->worker.client, on_client_closed, s);
}

static void on_drained(void *ctx)
{
    struct seat *s = ctx;
    if (!s->server_closed)
        server_close(s->worker.server, on_server_closed, s);
}

static void tell_all(struct service *sv, enum wish wish)
{
    for (unsigned i = 0; i < sv->count; i++) {
        atomic_store(&sv->seats[i].wish, wish);
        if (sv->seats[i].waker)
            waker_wake(sv->seats[i].waker);
    }
}

static void on_drain_limit(void *ctx)
{
    struct service *sv = ctx;
    LOG(NULL, LOG_WARN, "serve.drain_limit", "%s", "calls=cut");
    tell_all(sv, WISH_CLOSE);
}

static void on_stop_signal(void *ctx, int signum)
{
    struct service *sv = ctx;
    struct worker *w = &sv->seats[0].worker;
    if (sv->stops++ > 0) {
        tell_all(sv, WISH_CLOSE);
        return;
    }
    LOG(NULL, LOG_INFO, "serve.draining", "signal=%d calls=%u", signum,
        (unsigned)meter_value(w->meter, METER_CALLS_RUNNING, NO_LABELS));
    atomic_store(&sv->gateway.draining, true);
    uint64_t limit = routing_conf(w->routing)->settings.drain_timeout;
    timer_arm(w->loop, &sv->drain_limit, loop_now_ms(w->loop) + limit + 1);
    tell_all(sv, WISH_DRAIN);
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
    switch ((enum wish)atomic_exchange(&s->wish, WISH_NONE)) {
    case WISH_NONE:
        break;
    case WISH_DRAIN:
        server_drain(s->worker.server, on_drained, s);
        break;
    case WISH_CLOSE:
        on_drained(s);
        break;
    }
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
    struct conf_ref *ref = load_config(sv->options->config_path, &c) == PD_OK ? conf_ref_new(c) : NULL;
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
    if (!w->client || !w->server || !s->waker)
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
    waker_free(s->waker);
    loop_free(w->loop);
    meter_free(w->meter);
}

static pd_err listen_all(struct service *sv, const struct conf *c)
{
    unsigned n = sv->options->listen_count ? sv->options->listen_count : c->listen_count;
    const char *const *list =
        sv->options->listen_count ? (const char *const *)sv->options->listen : (const char *const *)c->listen;
    for (unsigned i = 0; i < n; i++) {
        if (c->keys_count == 0 && !conf_is_loopback(list[i])) {
            fprintf(stderr,
                    "perdure: %s can be reached by other machines: configure client keys (`keys:`) or listen on "
                    "127.0.0.1\n",
                    list[i]);
            return PD_INVALID;
        }
        uint16_t port = 0;
        pd_err e = server_listen(sv->seats[0].worker.server, list[i], &port);
        if (e) {
            fprintf(stderr, "perdure: cannot listen on %s: %s\n", list[i],
                    e == PD_EXISTS ? "another program does; stop it, or choose another port with --listen"
                                   : pd_err_text(e));
            return e;
        }
        const char *colon = strrchr(list[i], ':');
        printf("perdure " PERDURE_VERSION " listens on http://%.*s:%u/v1\n", (int)(colon ? colon - list[i] : 0),
               list[i], port);
    }
    /* The other workers accept from the same sockets: whoever is awake, and so the least busy, takes the next connection. */
    int fds[SERVICE_LISTEN_MAX];
    unsigned count = server_listening(sv->seats[0].worker.server, fds, SERVICE_LISTEN_MAX);
    for (unsigned i = 1; i < sv->count; i++)
        for (unsigned k = 0; k < count; k++) {
            int fd = dup(fds[k]);
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
        if (pthread_create(&sv->seats[i].thread, NULL, seat_thread, &sv->seats[i]) != 0)
            return PD_NOMEM;
        sv->seats[i].started = true;
    }
    return PD_OK;
}

enum { KEPT_BYTES = 64 << 20 }; /* of signatures and sealed reasoning that makers want back with tool calls */

static pd_err open_gateway(struct service *sv, struct conf_ref *ref)
{
    static const struct fleet_watch watch = {on_breaker, on_parked, on_paced};
    const char *why = "out of memory";
    list_init(&sv->gateway.calls);
    sv->gateway.id_seed = rnd_seed();
    sv->gateway.started_wall_ms = clock_wall_ms();
    pthread_mutex_init(&sv->gateway.keep_lock, NULL);
    sv->gateway.keep = keep_new(KEPT_BYTES);
    sv->gateway.fleet = fleet_new(rnd_seed());
    sv->seats = mem_calloc(ref->conf->settings.workers, sizeof(*sv->seats));
    sv->workers = mem_calloc(ref->conf->settings.workers, sizeof(struct worker *));
    pd_err e = sv->gateway.fleet && sv->gateway.keep && sv->seats && sv->workers ? PD_OK : PD_NOMEM;
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
    return e ? e : start_threads(sv);
}

static void end(struct service *sv)
{
    tell_all(sv, WISH_CLOSE);
    for (unsigned i = 1; i < sv->count; i++)
        if (sv->seats[i].started)
            pthread_join(sv->seats[i].thread, NULL);
    timer_stop(sv->seats[0].worker.loop, &sv->drain_limit);
}

int service_run(const struct service_options *o)
{
    struct service sv = {.options = o};
    struct conf *c = NULL;
    unsigned fds;
    loop_process_init(&fds);
    if (net_process_init() != PD_OK || load_config(o->config_path, &c) != PD_OK)
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
    pd_err e = open_gateway(&sv, ref);
    if (!e)
        e = begin(&sv, c);
    if (!e) {
        announce(c);
        LOG(NULL, LOG_INFO, "serve.ready", "workers=%u providers=%u routes=%u", sv.count, c->providers_count,
            c->routes_count);
    }
    conf_ref_drop(ref);
    if (!e)
        loop_run(sv.seats[0].worker.loop);
    if (sv.count)
        end(&sv);
    close_gateway(&sv);
    if (!e)
        LOG(NULL, LOG_INFO, "serve.ended", "%s", "");
    return e ? 1 : 0;
}
