/* What users and clients of `perdure simulate` can send: a script, and a request on any path. Property: neither crashes, what is answered
 * is JSON, whole and streamed, and the streamed tokens are those that were counted. */
#include "base/mem.h"
#include "simulate/dialect.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void stream_it(const struct speech *speech)
{
    const struct answer *a = speech->answer;
    struct stream s;
    struct buf event, scratch;
    buf_init(&event, 0);
    buf_init(&scratch, 0);
    if (stream_init(&s, speech, FRAME_JSONL, &scratch) == PD_OK) {
        for (;;) {
            struct put out = put_into(&event);
            buf_clear(&event);
            if (stream_next(&s, &out) == PIECE_NONE || s.tokens > 2000)
                break;
            assert(out.err != PD_OK || json_check(buf_span(&scratch)) == PD_OK);
        }
        assert(s.tokens > 2000 || s.tokens == a->completion_tokens);
    }
    buf_done(&scratch);
    buf_done(&event);
}

static void whole_it(const struct speech *speech)
{
    struct buf text;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    whole_put(speech, &out);
    assert(out.err != PD_OK || json_check(buf_span(&text)) == PD_OK);
    buf_done(&text);
}

static void answer_it(struct reading *r, struct answer *a)
{
    struct rnd rnd = {1};
    if (answer_make(r->conf, 1, r->ask, r->mem, a) != PD_OK)
        return;
    struct speech speech = {.conf = r->conf,
                            .rq = r->ask,
                            .answer = a,
                            .dialect = sim_dialects[r->ask->at.dialect],
                            .created = 1,
                            .rnd = &rnd,
                            .mem = r->mem};
    speech.id = answer_id(&speech);
    stream_it(&speech);
    whole_it(&speech);
}

static void ask_it(struct script *s, struct span path, struct span body)
{
    struct arena mem;
    struct ask rq;
    struct refusal why = {.like = ""};
    struct span query = path;
    struct span plain = span_cut(&query, '?');
    struct endpoint at = endpoint_find(plain, query, (struct endpoint_headers){0});
    struct answer *a = mem_zalloc(sizeof(*a));
    arena_init(&mem, 0, 64 << 20);
    struct reading r = {&s->providers[0], body, true, true, &mem, &rq, &why};
    struct buf text;
    buf_init(&text, 64 << 20);
    struct put out = put_into(&text);
    const struct sim_dialect *d = sim_dialects[at.dialect];
    /* a path or model of bytes that are no UTF-8 is answered as it came: only JSON can be asked to give JSON */
    if (a && at.op == OP_GENERATE && ask_read(&r, &at) == PD_OK)
        answer_it(&r, a);
    else if (at.op == OP_EMBED && d->embed && d->embed(&r, &at, 1, &out) == PD_OK)
        assert(json_check(buf_span(&text)) == PD_OK);
    buf_done(&text);
    arena_done(&mem);
    mem_free(a);
}

/* A script, a path and a request, parted by zero bytes; an empty path is chat's, and all but the script may be missing. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[READ_WHY];
    struct span body = {(const char *)data, size};
    struct span text = span_cut(&body, '\0'), path = SPAN_NONE;
    if (body.n && body.p[0] == '/')
        path = span_cut(&body, '\0');
    struct script *s = script_new();
    if (!s)
        return 0;
    if (script_read(s, text, "fuzz", why) != PD_OK)
        assert(why[0]);
    else if (script_complete(s) == PD_OK && body.p && s->providers_count)
        ask_it(s, path.n ? path : SPAN_LIT("/v1/chat/completions"), body);
    script_free(s);
    return 0;
}
