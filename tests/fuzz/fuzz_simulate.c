/* What users and clients of `perdure simulate` can send: a script, and a chat request. Property: neither crashes, every streamed chunk is
 * JSON, and the streamed tokens are those that were counted. */
#include "base/mem.h"
#include "simulate/speak.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void stream_it(const struct script_provider *conf, const struct ask *rq, const struct answer *a,
                      struct arena *mem)
{
    struct rnd rnd = {1};
    struct speech speech = {conf, rq, a, SPAN_LIT("id"), 1, &rnd, mem};
    struct stream s;
    struct buf event;
    buf_init(&event, 0);
    if (stream_init(&s, &speech) == PD_OK) {
        for (;;) {
            struct put out = put_into(&event);
            buf_clear(&event);
            if (stream_next(&s, &out) == PIECE_NONE || s.tokens > 2000)
                break;
            assert(out.err != PD_OK || json_check(buf_span(&event)) == PD_OK);
        }
        assert(s.tokens > 2000 || s.tokens == a->completion_tokens);
    }
    buf_done(&event);
}

static void ask_it(struct script *s, struct span body)
{
    struct arena mem;
    struct ask rq;
    struct answer *a = mem_zalloc(sizeof(*a));
    const char *why = "";
    arena_init(&mem, 0, 64 << 20);
    /* the model goes through as it came: only what is JSON can be asked to give JSON */
    if (a && s->providers_count && json_check(body) == PD_OK && ask_read(body, &mem, &rq, &why) == PD_OK &&
        answer_make(&s->providers[0], 1, &rq, &mem, a) == PD_OK)
        stream_it(&s->providers[0], &rq, a, &mem);
    arena_done(&mem);
    mem_free(a);
}

/* A script and a request, parted by a zero byte; either may be missing. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[READ_WHY];
    struct span body = {(const char *)data, size};
    struct span text = span_cut(&body, '\0');
    struct script *s = script_new();
    if (!s)
        return 0;
    if (script_read(s, text, "fuzz", why) != PD_OK)
        assert(why[0]);
    else if (script_complete(s) == PD_OK && body.p)
        ask_it(s, body);
    script_free(s);
    return 0;
}
