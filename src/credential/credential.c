#include "credential/credential.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rnd.h"
#include "credential/credential_priv.h"
#include "parse/date.h"

#include <stdio.h>

struct credential {
    struct credential_setup setup;
    struct credential_source source; /* its strings are in `arena` */
    struct arena arena;
    struct rnd rnd;

    struct credential_set *set; /* NULL: none yet */
    uint64_t generation;
    uint64_t got_ms, renew_ms; /* when it came; when the next is fetched */
    bool refused;              /* the provider does not want this one */

    struct errand *errand; /* what is being fetched */
    bool beginning;        /* its first step runs now, inside credential_get: nobody is told */
    uint64_t hold_ms;      /* after the last failure; 0 after a success */
    uint64_t hold_until_ms;
    char why[CREDENTIAL_WHY_BYTES];

    struct list waiters;
    struct list told;     /* those of them that are called now */
    bool telling, doomed; /* it was freed meanwhile: its memory goes when all were called */
};

/* ---- life ------------------------------------------------------------------------------- */

bool credential_source_of(const struct conf_provider *p, struct credential_source *ret)
{
    enum preset_auth auth = p->preset->auth;
    if (auth != AUTH_SIGV4 && auth != AUTH_GOOGLE)
        return false;
    *ret = (struct credential_source){.name = p->group,
                                      .cloud = auth == AUTH_SIGV4 ? CREDENTIAL_AWS : CREDENTIAL_GOOGLE,
                                      .key = p->key,
                                      .given = p->cloud};
    return true;
}

/* False when out of memory. */
static bool copy_source(struct credential *c, const struct credential_source *source)
{
    c->source = *source;
    struct conf_cloud *given = &c->source.given;
    const char **strings[] = {
        &c->source.name,           &c->source.key,        &given->profile,          &given->access_key_id,
        &given->secret_access_key, &given->session_token, &given->credentials_file, &given->project,
    };
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        if (!*strings[i])
            continue;
        *strings[i] = arena_strndup(&c->arena, *strings[i], strlen(*strings[i]));
        if (!*strings[i])
            return false;
    }
    return true;
}

struct credential *credential_new(const struct credential_setup *setup, const struct credential_source *source)
{
    struct credential *c = mem_zalloc(sizeof(*c));
    if (!c)
        return NULL;
    c->setup = *setup;
    c->rnd = (struct rnd){rnd_seed()};
    arena_init(&c->arena, 256, 0);
    list_init(&c->waiters);
    list_init(&c->told);
    if (!copy_source(c, source))
        return credential_free(c);
    return c;
}

static void forget(struct list *waiters)
{
    while (!list_empty(waiters))
        list_remove(waiters->next);
}

struct credential *credential_free(struct credential *c)
{
    if (!c)
        return NULL;
    forget(&c->waiters);
    forget(&c->told);
    errand_free(c->errand);
    credential_set_free(c->set);
    arena_done(&c->arena);
    if (c->telling)
        c->doomed = true;
    else
        mem_free(c);
    return NULL;
}

static uint64_t wall_ms(const struct credential *c)
{
    return c->setup.wall_ms ? c->setup.wall_ms(c->setup.wall_ctx) : clock_wall_ms();
}

/* ---- a fetch is over -------------------------------------------------------------------- */

/* When the next one is fetched. */
static uint64_t renew_at(struct credential *c, uint64_t now, uint64_t expires)
{
    if (expires == CLOCK_NEVER)
        return CLOCK_NEVER;
    uint64_t life = expires > now ? expires - now : 0;
    uint64_t ahead = CREDENTIAL_AHEAD_MS + rnd_below(&c->rnd, CREDENTIAL_JITTER_MS);
    return life > 2 * ahead ? expires - ahead : now + life / 2;
}

static void take_set(struct credential *c, struct errand *e, uint64_t now)
{
    char until[DATE_ISO_BYTES] = "never";
    credential_set_free(c->set);
    c->set = PD_TAKE(e->set);
    c->generation++;
    c->refused = false;
    c->got_ms = now;
    c->renew_ms = renew_at(c, now, c->set->expires_ms);
    c->hold_ms = c->hold_until_ms = 0;
    if (c->set->expires_ms != CLOCK_NEVER)
        date_format_iso(c->set->expires_ms, until);
    char source[220];
    LOG(NULL, LOG_INFO, "credential.ready", "provider=%s source=%s expires=%s",
        c->source.name ? c->source.name : "-", log_quote(span_str(c->set->source), source, sizeof(source)), until);
}

static void take_failure(struct credential *c, struct errand *e, uint64_t now)
{
    c->hold_ms = c->hold_ms ? 2 * c->hold_ms : CREDENTIAL_HOLD_LEAST_MS;
    if (c->hold_ms > CREDENTIAL_HOLD_MOST_MS)
        c->hold_ms = CREDENTIAL_HOLD_MOST_MS;
    c->hold_until_ms = now + c->hold_ms;
    snprintf(c->why, sizeof(c->why), "%s", e->why);
    char why[220];
    LOG(NULL, LOG_WARN, "credential.failed", "provider=%s hold_ms=%u why=%s",
        c->source.name ? c->source.name : "-", (unsigned)c->hold_ms,
        log_quote(span_str(c->why), why, sizeof(why)));
}

/* Each is told once; one of them may free the credential, or send others away. */
static void tell_waiters(struct credential *c)
{
    while (!list_empty(&c->waiters)) {
        struct list *n = c->waiters.next;
        list_remove(n);
        list_push(&c->told, n);
    }
    c->telling = true;
    while (!list_empty(&c->told)) {
        struct credential_waiter *w = LIST_OF(c->told.next, struct credential_waiter, node);
        list_remove(&w->node);
        w->fn(w->ctx);
    }
    c->telling = false;
    if (c->doomed)
        mem_free(c);
}

static void on_over(struct errand *e, pd_err err)
{
    struct credential *c = e->owner;
    uint64_t now = wall_ms(c);
    if (!err && e->set->expires_ms != CLOCK_NEVER && e->set->expires_ms <= now + CREDENTIAL_MARGIN_MS) {
        char at[DATE_ISO_BYTES], ours[DATE_ISO_BYTES];
        snprintf(e->why, sizeof(e->why), "the credentials of %s expired at %s (the clock of this machine says %s)",
                 e->set->source, date_format_iso(e->set->expires_ms, at), date_format_iso(now, ours));
        err = PD_INVALID;
    }
    if (err)
        take_failure(c, e, now);
    else
        take_set(c, e, now);
    c->errand = NULL;
    errand_free(e);
    if (!c->beginning)
        tell_waiters(c);
}

/* ---- asking ----------------------------------------------------------------------------- */

static void begin(struct credential *c, uint64_t now)
{
    c->errand = errand_new(&c->setup, &c->source, on_over, c);
    if (!c->errand) {
        snprintf(c->why, sizeof(c->why), "%s", pd_err_text(PD_NOMEM));
        c->hold_until_ms = now + CREDENTIAL_HOLD_LEAST_MS;
        return;
    }
    c->beginning = true;
    if (c->source.cloud == CREDENTIAL_AWS)
        aws_begin(c->errand);
    else
        google_begin(c->errand);
    c->beginning = false;
}

/* A clock that was set back must not hold for hours. */
static bool held(const struct credential *c, uint64_t now)
{
    return now < c->hold_until_ms && c->hold_until_ms - now <= CREDENTIAL_HOLD_MOST_MS;
}

static bool usable(const struct credential *c, uint64_t now)
{
    return c->set && !c->refused &&
           (c->set->expires_ms == CLOCK_NEVER || now + CREDENTIAL_MARGIN_MS < c->set->expires_ms);
}

enum credential_state credential_get(struct credential *c, struct credential_view *ret)
{
    uint64_t now = wall_ms(c);
    *ret = (struct credential_view){.source = "", .why = ""};
    if (!c->errand && !held(c, now) && (!usable(c, now) || now >= c->renew_ms))
        begin(c, now);
    if (!usable(c, now)) {
        ret->why = c->errand ? "" : c->why;
        return c->errand ? CREDENTIAL_WAIT : CREDENTIAL_FAILED;
    }
    struct credential_set *s = c->set;
    *ret = (struct credential_view){.bearer = s->bearer,
                                    .aws = s->aws,
                                    .key = &s->key,
                                    .project = s->project,
                                    .quota_project = s->quota_project,
                                    .source = s->source,
                                    .expires_ms = s->expires_ms,
                                    .generation = c->generation,
                                    .why = ""};
    return CREDENTIAL_READY;
}

void credential_wait(struct credential *c, struct credential_waiter *w, void (*fn)(void *ctx), void *ctx)
{
    *w = (struct credential_waiter){.fn = fn, .ctx = ctx};
    list_push(&c->waiters, &w->node);
}

void credential_unwait(struct credential_waiter *w)
{
    if (w->node.next)
        list_remove(&w->node);
}

void credential_refused(struct credential *c, uint64_t generation)
{
    uint64_t now = wall_ms(c);
    if (c->set && generation == c->generation && (now < c->got_ms || now - c->got_ms >= CREDENTIAL_RENEW_LEAST_MS))
        c->refused = true;
}
