#include "dialect/wire.h"

#include <stdlib.h>

/* ---- paths ------------------------------------------------------------------------ */

static pd_err literal(const char *path, struct span *ret)
{
    *ret = span_str(path);
    return PD_OK;
}

static pd_err openai_chat_path(enum codec_kind kind, const struct wire_place *at, struct arena *a,
                               struct span *ret)
{
    (void)kind, (void)at, (void)a;
    return literal("/chat/completions", ret);
}

static pd_err openai_responses_path(enum codec_kind kind, const struct wire_place *at, struct arena *a,
                                    struct span *ret)
{
    (void)kind, (void)at, (void)a;
    return literal("/responses", ret);
}

static pd_err openai_embeddings_path(enum codec_kind kind, const struct wire_place *at, struct arena *a,
                                     struct span *ret)
{
    (void)kind, (void)at, (void)a;
    return literal("/embeddings", ret);
}

/* ---- the rows ----------------------------------------------------------------------- */

static const struct wire wires[] = {
    {.name = "openai-chat", .chat = &codec_openai_chat, .path = openai_chat_path, .models_path = "/models"},
    {.name = "openai-responses",
     .chat = &codec_openai_responses,
     .path = openai_responses_path,
     .models_path = "/models"},
    {.name = "openai-embeddings",
     .embed = &codec_openai_embeddings,
     .path = openai_embeddings_path,
     .models_path = "/models"},
};
enum { WIRES = sizeof(wires) / sizeof(wires[0]) };

const struct wire *wire_by_name(struct span name)
{
    for (int i = 0; i < WIRES; i++)
        if (span_is(name, wires[i].name))
            return &wires[i];
    return NULL;
}

const struct codec *wire_codec(const struct wire *w, enum codec_kind kind)
{
    switch (kind) {
    case CODEC_CHAT:
        break;
    case CODEC_EMBED:
        return w->embed;
    case CODEC_COUNT:
        return w->count;
    }
    return w->chat;
}
