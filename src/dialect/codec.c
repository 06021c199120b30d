/* The table of wire formats, and what they do by their tables. */
#include "dialect/reader_priv.h"

#include "base/mem.h"

#include <assert.h>

const struct codec *codec_by_name(struct span name)
{
    static const struct codec *const codecs[] = {
        &codec_openai_chat,
        &codec_bedrock_converse,
        &codec_bedrock_invoke,
        &codec_ollama,
        &codec_ollama_generate,
        &codec_ollama_embeddings,
        &codec_bedrock_embeddings,
        &codec_openai_embeddings,
        &codec_anthropic,
        &codec_anthropic_count,
        &codec_openai_responses,
        &codec_gemini,
        &codec_gemini_count,
        &codec_gemini_embeddings,
        &codec_mistral,
    };
    for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++)
        if (span_is(name, codecs[i]->name))
            return codecs[i];
    return NULL;
}

/* All or nothing: half an error object is worse than none. */
static pd_err undo(struct buf *out, size_t before, pd_err err)
{
    if (err)
        out->tail = out->head + before;
    return err;
}

pd_err codec_put_error(const struct codec *c, const struct client_error *e, struct buf *out)
{
    size_t before = buf_size(out);
    return undo(out, before, c->put_error(e, out));
}

pd_err codec_put_error_event(const struct codec *c, const struct client_error *e, struct buf *out)
{
    size_t before = buf_size(out);
    return undo(out, before, c->put_error_event(e, out));
}

/* ---- collectors ---- */

struct collector *collector_new(const struct codec *c, size_t limit_bytes)
{
    assert(c->collector);
    struct collector *k = mem_zalloc(c->collector->bytes);
    if (!k)
        return NULL;
    k->ops = c->collector;
    return k->ops->init(k, limit_bytes) ? collector_free(k) : k;
}

struct collector *collector_free(struct collector *k)
{
    if (!k)
        return NULL;
    k->ops->done(k);
    mem_free(k);
    return NULL;
}

pd_err collector_add(struct collector *k, struct span type, struct json chunk)
{
    return k->ops->add(k, type, chunk);
}

pd_err collector_write(struct collector *k, struct buf *out)
{
    return k->ops->write(k, out);
}
