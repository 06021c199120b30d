/* wire.h - how a format's requests are addressed and framed at a kind of host: one row each.
 *
 * The same format is spoken on several paths: Anthropic's at its own host, at Vertex and, in chunks, at Bedrock. A provider's
 * preset names the wires that it has. */
#ifndef PERDURE_DIALECT_WIRE_H
#define PERDURE_DIALECT_WIRE_H

#include "dialect/codec.h"

struct wire_place {
    struct span model; /* text */
    bool stream;
    bool batch;                     /* embeddings: several inputs (Gemini has a verb of its own for these) */
    bool prompt;                    /* asked in wire.prompt's format, which has a path of its own */
    const char *project, *location; /* Vertex; NULL elsewhere */
};

struct wire {
    const char *name;                         /* "vertex-anthropic" */
    const struct codec *chat, *embed, *count; /* NULL: not on this wire */
    const struct codec
        *prompt; /* one prompt and no messages: for its own clients alone (Ollama's /api/generate); NULL: none */
    enum framing framing; /* of streamed answers */
    /* The path below base_url, with its query: from the arena or a literal. PD_NOMEM, PD_INVALID (a project is missing). */
    pd_err (*path)(enum codec_kind kind, const struct wire_place *at, struct arena *a, struct span *ret);
    const char *header, *header_value; /* sent unless the client sent its own; NULL: none */
    bool model_in_path;                /* and so not in the body */
    bool count_by_name;                /* but in that of a token count (Gemini's own host) */
    const char *version;               /* request_edit.version */
    bool betas_in_body;                /* request_edit.betas: the client's anthropic-beta */
    bool (*serves)(struct span model); /* NULL: every model */
};

const struct wire *wire_by_name(struct span name); /* NULL: unknown */
/* The format of a call by a client of that format: the client's own where this wire has it. NULL: none for such calls. */
const struct codec *wire_codec(const struct wire *w, const struct codec *client);

#endif
