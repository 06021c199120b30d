/* /metrics, /healthz, /readyz, and the line at / that says where one is. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "checkpoint/turns.h"
#include "front/desk.h"
#include "front/front_priv.h"
#include "relay/kept.h"
#include "relay/routing.h"
#include "state/journal.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static double resident_bytes(void)
{
    char line[200];
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    const char *resident =
        fgets(line, sizeof(line), f) ? strchr(line, ' ') : NULL; /* the second number, in pages */
    fclose(f);
    return resident ? (double)strtoul(resident, NULL, 10) * (double)sysconf(_SC_PAGESIZE) : 0;
}

static double open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return 0;
    unsigned n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n > 3 ? n - 3 : 0; /* without ".", ".." and the folder's own */
}

static void measure_process(struct worker *w, struct meter *m)
{
    struct rusage u;
    struct rlimit fds;
    meter_set(m, METER_RSS, resident_bytes(), NO_LABELS);
    meter_set(m, METER_FDS, open_fds(), NO_LABELS);
    if (getrusage(RUSAGE_SELF, &u) == 0)
        meter_set(m, METER_CPU,
                  (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                      (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
                  NO_LABELS);
    if (getrlimit(RLIMIT_NOFILE, &fds) == 0)
        meter_set(m, METER_FDS_MAX, (double)fds.rlim_cur, NO_LABELS);
    meter_set(m, METER_START_TIME, (double)w->gateway->started_wall_ms / 1e3, NO_LABELS);
    meter_set(m, METER_BUILD, 1, LABELS(PERDURE_VERSION));
    meter_set(m, METER_LOG_LOST, (double)log_lost(), NO_LABELS);
    meter_set(m, METER_MEM_BLOCKS, (double)mem_blocks(), NO_LABELS);
}

static void measure_targets(struct worker *w, struct meter *m)
{
    struct fleet *f = w->gateway->fleet;
    uint64_t now = loop_now_ms(w->loop);
    fleet_lock(f);
    for (unsigned i = 0; i < fleet_count(f); i++) {
        const struct target *t = fleet_at(f, i);
        for (int s = 0; s < BREAKER_STATE_COUNT; s++)
            meter_set(m, METER_BREAKER_STATE, t->breaker.state == (enum breaker_state)s,
                      LABELS(t->provider, t->model, breaker_state_name((enum breaker_state)s)));
        uint64_t until = t->park_until_ms > t->rest_until_ms ? t->park_until_ms : t->rest_until_ms;
        meter_set(m, METER_TARGET_PARKED, until > now ? (double)(until - now) / 1e3 : 0,
                  LABELS(t->provider, t->model));
        if (t->pace_watched)
            meter_set(m, METER_TARGET_THROTTLED, t->pace.state != PACE_USUAL, LABELS(t->provider, t->model));
        if (t->ttft_ms.samples)
            meter_set(m, METER_TARGET_TTFT, t->ttft_ms.value / 1e3, LABELS(t->provider, t->model));
        static const char *const kinds[RATE_KIND_COUNT] = {"requests", "tokens"};
        for (int k = 0; k < RATE_KIND_COUNT; k++) {
            int64_t left = rate_left(&t->budget, (enum rate_kind)k, now);
            if (left >= 0)
                meter_set(m, METER_BUDGET_LEFT, (double)left, LABELS(t->provider, t->model, kinds[k]));
        }
        meter_set(m, METER_TARGET_LIMIT, limiter_limit(&t->limiter), LABELS(t->provider, t->model));
        if (t->rate.requests_left >= 0)
            meter_set(m, METER_RATE_LEFT, (double)t->rate.requests_left,
                      LABELS(t->provider, t->model, "requests"));
        if (t->rate.tokens_left >= 0)
            meter_set(m, METER_RATE_LEFT, (double)t->rate.tokens_left, LABELS(t->provider, t->model, "tokens"));
    }
    meter_set(m, METER_CALLS_WAITING, queue_count(f), NO_LABELS);
    fleet_unlock(f);
}

static void measure_state(struct worker *w, struct meter *m)
{
    struct journal_stats s = {0};
    struct kept_figures kept = {0};
    if (w->gateway->journal)
        journal_stats(w->gateway->journal, &s);
    if (w->gateway->kept)
        kept = kept_figures(w->gateway->kept);
    meter_set(m, METER_JOURNAL, (double)s.records, LABELS("records"));
    meter_set(m, METER_JOURNAL, (double)s.bytes, LABELS("bytes"));
    meter_set(m, METER_JOURNAL, (double)s.segments, LABELS("segments"));
    meter_set(m, METER_JOURNAL, (double)s.dropped, LABELS("dropped"));
    meter_set(m, METER_JOURNAL, (double)s.failures, LABELS("failures"));
    meter_set(m, METER_JOURNAL_WAITING, (double)s.waiting, NO_LABELS);
    meter_set(m, METER_KEPT_ANSWERS, kept.count, NO_LABELS);
    meter_set(m, METER_KEPT_BYTES, (double)kept.bytes, NO_LABELS);
}

static void measure_durable(struct worker *w, struct meter *m)
{
    struct checkpoints *c = atomic_load(&w->gateway->checkpoints);
    struct checkpoints_stats s = {0};
    struct db *db = atomic_load(&w->gateway->db);
    struct db_stats d = {0};
    if (db)
        db_stats(db, &d);
    meter_set(m, METER_DATABASE_OPEN, db ? 1 : 0, NO_LABELS);
    meter_set(m, METER_DATABASE_FAILING, d.failing, NO_LABELS);
    struct turns *t = atomic_load(&w->gateway->turns);
    struct turns_stats turns = {0};
    if (t)
        turns_stats(t, &turns);
    if (!c)
        return;
    meter_set(m, METER_TURNS, (double)turns.made, LABELS("made"));
    meter_set(m, METER_TURNS, (double)turns.failed, LABELS("failed"));
    meter_set(m, METER_TURNS, (double)turns.left_out, LABELS("left_out"));
    meter_set(m, METER_TURNS, (double)turns.overtaken, LABELS("overtaken"));
    checkpoints_stats(c, &s);
    if (s.last_ms)
        meter_set(m, METER_CHECKPOINT_LAST, (double)s.last_ms / 1e3, NO_LABELS);
    meter_set(m, METER_CHECKPOINTS, (double)s.created, LABELS("made"));
    meter_set(m, METER_CHECKPOINTS, (double)s.failed, LABELS("failed"));
    meter_set(m, METER_CHECKPOINT_BYTES, (double)s.stored_bytes, NO_LABELS);
    meter_set(m, METER_UPLOADS, (double)s.uploaded, LABELS("done"));
    meter_set(m, METER_UPLOADS, (double)s.upload_failures, LABELS("failed"));
    meter_set(m, METER_UPLOADS_WAITING, (double)s.uploads_waiting, NO_LABELS);
}

void front_measure(struct worker *w)
{
    const struct server_stats *s = server_stats(w->server);
    const struct client_stats *c = client_stats(w->client);
    meter_set(w->meter, METER_SERVER_OPEN, (double)s->connections_open, NO_LABELS);
    meter_set(w->meter, METER_CLIENT_OPEN, (double)c->connections_open - (double)c->connections_idle,
              LABELS("busy"));
    meter_set(w->meter, METER_CLIENT_OPEN, (double)c->connections_idle, LABELS("idle"));
#define X(name, what) meter_set(w->meter, METER_SERVER, (double)s->name, LABELS(#name));
    SERVER_COUNTERS(X)
#undef X
#define X(name, what) meter_set(w->meter, METER_CLIENT, (double)c->name, LABELS(#name));
    CLIENT_COUNTERS(X)
#undef X
    meter_set(w->meter, METER_WORK_WAITING, (double)desk_parked(w->desk), NO_LABELS);
    meter_set(w->meter, METER_LOOP_LAG, (double)loop_lag_us(w->loop) / 1e6, NO_LABELS);
}

pd_err front_metrics(struct worker *w, struct buf *out)
{
    struct meter *meters[64] = {NULL};
    unsigned n = 0;
    front_measure(w);
    measure_process(w, w->gateway->workers[0]->meter); /* once, since the workers' figures are added up */
    measure_targets(w, w->gateway->workers[0]->meter);
    measure_state(w, w->gateway->workers[0]->meter);
    measure_durable(w, w->gateway->workers[0]->meter);
    for (unsigned i = 0; i < w->gateway->workers_count && n < 64; i++)
        meters[n++] = w->gateway->workers[i]->meter;
    return meter_write(meters, n, out);
}

void serve_metrics(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct buf out = {0};
    pd_err e = front_metrics(w, &out);
    if (e)
        answer_json(rq, 503, &out, e);
    else
        answer_text(rq, 200, "text/plain; version=0.0.4; charset=utf-8", buf_span(&out));
    buf_done(&out);
}

void serve_health(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)w, (void)at, (void)key;
    answer_text(rq, 200, "text/plain", SPAN_LIT("ok\n"));
}

/* What needs the database is refused now. */
static bool lacks_database(struct worker *w)
{
    struct db *db = atomic_load(&w->gateway->db);
    struct db_stats d = {0};
    if (db)
        db_stats(db, &d);
    return !db || d.failing;
}

static void answer_ready(struct worker *w, struct request *rq, unsigned targets, unsigned usable)
{
    const struct conf *c = routing_conf(w->routing);
    bool wanted = strcmp(c->database, "off") != 0, lacks = lacks_database(w);
    bool for_runs = span_is(desk_query(request_query(rq), "for"), "runs");
    if (lacks && (for_runs || (wanted && !c->providers_count)))
        answer_text(rq, 503, "text/plain", SPAN_LIT("no run can be worked on now; see /api/storage\n"));
    else if (targets && !usable && !for_runs)
        answer_text(rq, 503, "text/plain", SPAN_LIT("no target can be used now; see /api/providers\n"));
    else if (lacks && wanted)
        answer_text(rq, 200, "text/plain",
                    SPAN_LIT("ready\nfor calls; runs and checkpoints are refused now; see /api/storage\n"));
    else
        answer_text(rq, 200, "text/plain", SPAN_LIT("ready\n"));
}

/* Ready: not draining, and not every known target is out of use. Calls go on without a database: it counts only where nothing but runs is served, and
 * for who asks about runs. */
void serve_ready(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct fleet *f = w->gateway->fleet;
    uint64_t now = loop_now_ms(w->loop), when;
    unsigned usable = 0, count;
    if (atomic_load(&w->gateway->draining)) {
        answer_text(rq, 503, "text/plain", SPAN_LIT("draining\n"));
        return;
    }
    fleet_lock(f);
    count = fleet_count(f);
    for (unsigned i = 0; i < count; i++) {
        enum target_bar bar = target_look(fleet_at(f, i), 0, now, &when);
        usable += bar == TARGET_FREE || bar == TARGET_INFLUX; /* which is over in a moment */
    }
    fleet_unlock(f);
    answer_ready(w, rq, count, usable);
}

void serve_index(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)w, (void)at, (void)key;
    answer_text(rq, 200, "text/plain; charset=utf-8",
                SPAN_LIT("perdure " PERDURE_VERSION "\n\nbase_url for OpenAI clients: http://THIS-HOST/v1\n"
                         "for Anthropic, Google, AWS and Ollama clients: http://THIS-HOST\n"
                         "GET /v1/models  /api/providers  /api/calls  /metrics  /healthz  /readyz\n"));
}
