/* ask.h - what one attempt sends: the wire format, the body in it, the path and the head.
 *
 * Where the provider speaks the client's format the body is the client's own but for a few spans; elsewhere it is translated. */
#ifndef PERDURE_RELAY_ASK_H
#define PERDURE_RELAY_ASK_H

#include "dialect/continuation.h"
#include "dialect/embed.h"
#include "dialect/wire.h"
#include "relay/routing.h"

struct relay;

enum { ASK_BODY_MAX = 256 << 20 }; /* of a translated body: escapes can make four times what a client may send */

struct ask_fields {
    struct http1_field list[HTTP1_FIELDS_MAX];
    unsigned count;
};
/* Nothing when the head is full. */
void ask_put(struct ask_fields *f, const char *name, struct span value);

struct ask {
    const struct wire *wire;
    const struct codec *codec;    /* the body's format */
    bool same;                    /* it is the client's */
    bool stream;                  /* a stream is asked for */
    bool batch;                   /* as request_line */
    struct msg_request *neutral;  /* translated: what was asked, in the call's arena; else NULL */
    struct embed_request *embeds; /* the same of embeddings */
    bool continues;               /* it is asked to go on with an answer: */
    enum continue_way way;        /* in this way, */
    size_t given;                 /* with so much of the text as its beginning: for join_new() */
    struct buf body;              /* translated */
    struct span *parts;           /* what is sent, in the call's arena */
    unsigned parts_count;
};

/* How this provider is spoken to about `model` by a client of that format: in the client's own where it can, else in the first that fits. False: not
 * at all (embeddings at a provider that has none). */
bool ask_wire(const struct conf_provider *p, struct span model, const struct codec *client, struct ask *ret);
/* May this provider be asked to go on with another's answer at all? ("continue: off" in the config says no.) */
bool ask_may_continue(const struct conf_provider *p);
/* Writes the body. `k` NULL: of an ordinary request; else of one that asks to go on behind k->seen: in k->way, or, where that is CONTINUE_WAY_COUNT,
 * in the way of the provider and model. Which, and how much of the text is given, stands in `a` afterwards. PD_UNSUPPORTED: the format cannot carry something, *ret_why says what; PD_NOMEM, PD_TOOBIG. What was made is freed by ask_done()
 * in any case. */
pd_err ask_body(struct relay *r, const struct conf_provider *p, struct span model, struct ask *a,
                const struct continuation *k, const char **ret_why) PD_CHECKED;
void ask_done(struct ask *a);
/* The smallest request that shows whether the target works, in the format that `client` (NULL: chat) would be served in, streamed where that can be.
 * PD_UNSUPPORTED: none; PD_NOMEM. */
enum { PROBE_TOKENS = 16 }; /* the least that OpenAI's Responses takes */
pd_err ask_probe(const struct conf_provider *p, struct span model, const struct codec *client, struct arena *a,
                 struct ask *ret) PD_CHECKED;
/* The path. `project` NULL: none. PD_INVALID: one is needed; PD_NOMEM. Bytes from the arena. */
pd_err ask_path(const struct ask *a, const struct conf_provider *p, struct span model, const char *project,
                struct span client_query, struct arena *arena, struct span *ret) PD_CHECKED;
/* The head but for what signs it (signing.h): ours, the config's, and, in the same format, what of the client's goes on. `r` may be NULL
 * where no client is. An `a` without a wire is a GET. */
void ask_head(const struct relay *r, const struct conf_provider *p, const struct ask *a, struct ask_fields *ret);

#endif
