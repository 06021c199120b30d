#include "relay/spent.h"

#include "relay/relay_priv.h"

int64_t spent_output(const struct answer_facts *f, bool *ret_estimated)
{
    int64_t said = f->usage.output_total, guess = (int64_t)(f->output_bytes / BYTES_A_TOKEN);
    *ret_estimated = said <= 0 || said < guess / 2;
    return *ret_estimated ? guess : said;
}

/* It has the request, as far as we know, and nobody heard what it makes of it. */
static bool is_awaited(const struct run *run)
{
    return run->status == 0 && run->exchange && exchange_info(run->exchange)->phase >= EXCHANGE_WAITING;
}

static void count_tokens(const struct relay *r, const struct run *run, bool whole, struct spent *s)
{
    const struct answer_facts *f = run_facts(run);
    if (run->ask.codec->kind == CODEC_COUNT || (!whole && run->status != 200 && !is_awaited(run)))
        return;
    s->cache_read = f->usage.cache_read;
    s->cache_write = f->usage.cache_write;
    s->tokens_in = f->usage.input_total;
    if (s->tokens_in < 0) {
        s->tokens_in = (int64_t)((r->call.want.prompt_bytes + buf_size(&r->seen)) / BYTES_A_TOKEN);
        s->estimated = true;
    }
    bool guessed = false;
    s->tokens_out = whole && f->usage.output_total >= 0 ? f->usage.output_total : spent_output(f, &guessed);
    s->estimated |= guessed;
}

static bool add_cost(int64_t *sum, int64_t tokens, uint64_t price)
{
    int64_t cost;
    return !__builtin_mul_overflow(tokens, (int64_t)price, &cost) && !__builtin_add_overflow(*sum, cost, sum);
}

int64_t spent_cost(const struct spent *s, const struct conf_price *p)
{
    int64_t sum = 0, read = s->cache_read > 0 ? s->cache_read : 0,
            written = s->cache_write > 0 ? s->cache_write : 0;
    if (s->tokens_in == 0 && s->tokens_out == 0)
        return 0;
    if (!p || read > s->tokens_in || written > s->tokens_in - read)
        return -1;
    bool fine = add_cost(&sum, s->tokens_in - read - written, p->input) && add_cost(&sum, read, p->cache_read) &&
                add_cost(&sum, written, p->cache_write) && add_cost(&sum, s->tokens_out, p->output);
    return fine ? sum : -1;
}

static void count_continuation(struct relay *r, const struct run *run, bool whole)
{
    bool cancelled = r->call.attempts[run->n].state == ATTEMPT_CANCELLED;
    const char *result = whole                      ? "whole"
                         : run->seam == JOIN_FAILED ? "unjoined"
                         : run->shows               ? "broke"
                         : cancelled                ? "cancelled"
                                                    : "failed";
    meter_add(r->w->meter, METER_CONTINUATIONS, 1,
              LABELS(RUN_LABELS(run), run->join ? continue_way_name(run->ask.way) : "afresh", result));
}

static void fill(const struct relay *r, const struct run *run, bool whole, struct spent *s)
{
    *s = (struct spent){.attempt = run->n, .continues = run->asked_on, .cache_read = -1, .cache_write = -1};
    count_tokens(r, run, whole, s);
    s->cost_pico = spent_cost(s, conf_find_price(run->provider, run->target->model));
}

void spent_note(struct relay *r, struct run *run, bool whole)
{
    if (spent_find(r, run->n))
        return;
    if (run->asked_on)
        count_continuation(r, run, whole);
    struct spent *s = arena_zalloc(&r->arena, sizeof(*s));
    if (!s)
        return;
    fill(r, run, whole, s);
    s->next = r->spent;
    r->spent = s;
}

void spent_so_far(const struct relay *r, const struct run *run, struct spent *ret)
{
    fill(r, run, false, ret);
}

const struct spent *spent_find(const struct relay *r, int attempt)
{
    const struct spent *s = r->spent;
    while (s && s->attempt != attempt)
        s = s->next;
    return s;
}
