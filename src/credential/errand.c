#include "base/clock.h"
#include "base/mem.h"
#include "credential/clock_skew.h"
#include "credential/credential_priv.h"
#include "parse/url.h"
#include "provider/redact.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

struct credential_set *credential_set_free(struct credential_set *s)
{
    if (s) {
        arena_done(&s->arena);
        mem_free(s);
    }
    return NULL;
}

static void on_timeout(void *ctx);

struct errand *errand_new(const struct credential_setup *setup, const struct credential_source *source,
                          void (*over)(struct errand *e, pd_err err), void *owner)
{
    struct errand *e = mem_zalloc(sizeof(*e));
    if (!e)
        return NULL;
    e->set = mem_zalloc(sizeof(*e->set));
    if (!e->set) {
        mem_free(e);
        return NULL;
    }
    e->setup = setup;
    e->source = source;
    e->over = over;
    e->owner = owner;
    e->set->source = "";
    e->set->expires_ms = CLOCK_NEVER;
    arena_init(&e->arena, 1024, 4u * CREDENTIAL_FILE_MAX);
    arena_init(&e->set->arena, 512, 0);
    buf_init(&e->body, CREDENTIAL_ANSWER_MAX);
    timer_init(&e->timer, on_timeout, e);
    return e;
}

static void end_exchange(struct errand *e)
{
    if (!e->origin)
        return;
    timer_stop(e->setup->loop, &e->timer);
    if (e->exchange)
        exchange_cancel(e->exchange);
    e->exchange = NULL;
    e->origin = origin_unref(e->origin);
}

void errand_free(struct errand *e)
{
    if (!e)
        return;
    end_exchange(e);
    e->owner = NULL;
    if (e->working)
        return;
    credential_set_free(e->set);
    arena_done(&e->arena);
    buf_done(&e->body);
    mem_free(e);
}

void errand_found(struct errand *e)
{
    e->over(e, PD_OK);
}

void errand_failed(struct errand *e, pd_err err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->why, sizeof(e->why), fmt, args);
    va_end(args);
    e->over(e, err);
}

void errand_failed_as_said(struct errand *e, pd_err err)
{
    e->over(e, err);
}

void errand_nomem(struct errand *e)
{
    errand_failed(e, PD_NOMEM, "%s", pd_err_text(PD_NOMEM));
}

/* ---- on another thread ------------------------------------------------------------------ */

static void on_work(void *ctx)
{
    struct errand *e = ctx;
    e->work(e);
}

static void on_worked(void *ctx)
{
    struct errand *e = ctx;
    e->working = false;
    if (e->owner)
        e->next(e);
    else
        errand_free(e);
}

void errand_offload(struct errand *e, errand_fn *work, errand_fn *next)
{
    e->work = work;
    e->next = next;
    e->working = true;
    if (loop_offload(e->setup->loop, on_work, on_worked, e)) {
        e->working = false;
        errand_nomem(e);
    }
}

/* ---- exchanges -------------------------------------------------------------------------- */

/* The exchange is over, one way or another. */
static void fetched(struct errand *e, pd_err err, const char *why)
{
    e->err = err;
    snprintf(e->trouble, sizeof(e->trouble), "%s", err ? why : "");
    end_exchange(e);
    e->next(e);
}

static void on_timeout(void *ctx)
{
    fetched(ctx, PD_TIMEOUT, "no answer in time");
}

static void on_head(void *ctx, const struct http1_head *head)
{
    struct errand *e = ctx;
    e->status = head->status;
    e->skew_ms = clock_skew_of(head, errand_wall_ms(e));
}

static void on_body(void *ctx, struct span bytes)
{
    struct errand *e = ctx;
    pd_err err = buf_add(&e->body, bytes);
    if (err)
        fetched(e, err, err == PD_TOOBIG ? "the answer is too large" : pd_err_text(err));
}

static void on_end(void *ctx, pd_err err, const char *why)
{
    struct errand *e = ctx;
    e->exchange = NULL;
    fetched(e, err, why);
}

/* What is asked for at an URL: all from its path on. */
static struct span target_of(const char *url)
{
    const char *at = strstr(url, "://");
    at = at ? at + 3 : url;
    at += strcspn(at, "/?");
    return *at == '/' ? span_str(at) : SPAN_LIT("/");
}

static pd_err send_request(struct errand *e, const struct errand_request *rq)
{
    static const struct exchange_handler handler = {NULL, on_head, on_body, NULL, on_end};
    struct origin_config cfg = {.base_url = rq->url, .proxy = rq->direct ? "" : NULL};
    pd_err err = client_origin(e->setup->client, &cfg, &e->origin);
    if (err)
        return err;
    struct exchange_request xr = {.method = rq->method,
                                  .path = rq->path ? span_str(rq->path) : target_of(rq->url),
                                  .fields = rq->fields,
                                  .fields_count = rq->fields_count,
                                  .body = &rq->body,
                                  .body_count = rq->body.p ? 1 : 0,
                                  .connect_ms = rq->timeout_ms};
    err = exchange_start(e->setup->client, e->origin, &xr, &handler, e, &e->exchange);
    if (err)
        e->origin = origin_unref(e->origin);
    else
        timer_arm(e->setup->loop, &e->timer, loop_now_ms(e->setup->loop) + rq->timeout_ms);
    return err;
}

void errand_fetch(struct errand *e, const struct errand_request *rq, errand_fn *next)
{
    e->next = next;
    e->status = 0;
    e->skew_ms = 0;
    buf_clear(&e->body);
    e->label = rq->label ? rq->label : arena_printf(&e->arena, "%s%s", rq->url, rq->path ? rq->path : "");
    if (!e->label) {
        errand_nomem(e);
        return;
    }
    pd_err err = send_request(e, rq);
    if (err == PD_NOMEM)
        errand_nomem(e);
    else if (err)
        errand_failed(e, err, "%s cannot be asked: %s", e->label, pd_err_text(err));
}

/* "; the clock ..." when the last answer says so. */
static const char *clock_remark(const struct errand *e, char *out, size_t out_bytes)
{
    char text[CLOCK_SKEW_TEXT_BYTES];
    clock_skew_text(e->skew_ms, errand_wall_ms(e), text);
    snprintf(out, out_bytes, "%s%s", *text ? "; " : "", text);
    return out;
}

void errand_refused(struct errand *e, struct span code, struct span message)
{
    char said[300], clock[CLOCK_SKEW_TEXT_BYTES + 4], word[80];
    if (e->err) {
        errand_failed(e, e->err, "%s: %s", e->label, e->trouble);
        return;
    }
    redact_copy(code, word, sizeof(word));
    redact_copy(message, said, sizeof(said));
    errand_failed(e, PD_PROTO, "%s answered %d%s%s%s%s%s", e->label, e->status, *word ? " " : "", word,
                  *said ? ": " : "", said, clock_remark(e, clock, sizeof(clock)));
}

void errand_malformed(struct errand *e, const char *what)
{
    char clock[CLOCK_SKEW_TEXT_BYTES + 4];
    errand_failed(e, PD_SYNTAX, "%s answered %d with %s%s", e->label, e->status, what,
                  clock_remark(e, clock, sizeof(clock)));
}

/* ---- small things ----------------------------------------------------------------------- */

const char *errand_env(const struct errand *e, const char *name)
{
    const char *value = e->setup->env(e->setup->env_ctx, name);
    return value ? value : "";
}

uint64_t errand_wall_ms(const struct errand *e)
{
    return e->setup->wall_ms ? e->setup->wall_ms(e->setup->wall_ctx) : clock_wall_ms();
}

bool errand_keep(struct errand *e, struct span text, struct span *ret)
{
    *ret = arena_span(&e->set->arena, text);
    return ret->p || text.n == 0;
}

pd_err errand_read_file(const char *path, struct arena *a, struct span *ret, const char **ret_why)
{
    FILE *in = fopen(path, "rbe");
    if (!in) {
        bool none = errno == ENOENT || errno == ENOTDIR;
        *ret_why = arena_printf(a, "%s", strerror(errno));
        return none ? PD_NOTFOUND : PD_IO;
    }
    struct buf text;
    buf_init(&text, CREDENTIAL_FILE_MAX);
    pd_err e = PD_OK;
    size_t n = 0;
    do {
        e = buf_reserve(&text, 4096);
        if (e)
            break;
        n = fread(text.p + text.tail, 1, 4096, in);
        buf_added(&text, n);
    } while (n);
    if (!e && ferror(in))
        e = PD_IO;
    fclose(in);
    if (!e) {
        *ret = arena_span(a, buf_span(&text));
        e = ret->p || ret->n == 0 ? PD_OK : PD_NOMEM;
    }
    buf_done(&text);
    *ret_why = e == PD_IO ? "reading failed" : pd_err_text(e);
    return e;
}
