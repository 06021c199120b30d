/* The table of wire formats, and errors in their shape. */
#include "dialect/codec.h"

const struct codec *codec_by_name(struct span name)
{
    static const struct codec *const codecs[] = {&codec_openai_chat, &codec_openai_embeddings};
    for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++)
        if (span_is(name, codecs[i]->name))
            return codecs[i];
    return NULL;
}

static pd_err put_member(struct buf *out, const char *name, struct span text)
{
    pd_err e = buf_puts(out, name);
    if (e)
        return e;
    return text.p ? json_put_str(out, text) : buf_puts(out, "null");
}

static pd_err put_error(const struct client_error *e, struct buf *out)
{
    struct span message = e->message.p ? e->message : SPAN_LIT("");
    pd_err err = put_member(out, "{\"error\":{\"message\":", message);
    if (!err)
        err = put_member(out, ",\"type\":", span_str(e->type));
    if (!err)
        err = put_member(out, ",\"param\":", e->param);
    if (!err)
        err = put_member(out, ",\"code\":", span_str(e->code));
    if (!err && e->attempts_json.p)
        err = buf_puts(out, ",\"attempts\":");
    if (!err && e->attempts_json.p)
        err = buf_add(out, e->attempts_json);
    return err ? err : buf_puts(out, "}}");
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
    (void)c; /* the OpenAI dialects have one shape */
    size_t before = buf_size(out);
    return undo(out, before, put_error(e, out));
}

pd_err codec_put_error_event(const struct codec *c, const struct client_error *e, struct buf *out)
{
    (void)c;
    size_t before = buf_size(out);
    pd_err err = buf_puts(out, "data: ");
    if (!err)
        err = put_error(e, out);
    if (!err)
        err = buf_puts(out, "\n\n");
    return undo(out, before, err);
}
