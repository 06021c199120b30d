/* dialect.h - what differs between the dialects that a simulated provider speaks: one row and one file each.
 *
 *   read     a request into the neutral form of ask.h, refused as the real provider refuses
 *   next     the next events of a stream, framed as the dialect frames them
 *   whole    the answer in one piece
 *   errors   what an error is called, its envelope, and how it stands in a stream
 *   others   token counts, embeddings, model lists
 *
 * Pure: no sockets, no clock. */
#ifndef PERDURE_SIMULATE_DIALECT_H
#define PERDURE_SIMULATE_DIALECT_H

#include "simulate/speak.h"

/* A word of ours for why an answer ended, and this dialect's. */
struct finish_word {
    const char *ours, *theirs;
};

enum ping_kind { PING_PING, PING_COMMENT, PING_BLANK };

/* Headers of an answer: all values in the arena. */
struct sim_headers {
    struct arena *mem;
    struct rnd *rnd;
    const struct script_provider *conf;
    const struct endpoint *at;
    const char *number;      /* "alpha-7" */
    const struct speech *of; /* NULL: no answer of a model, or an error */
    uint64_t now_s;
    bool streamed, failed; /* failed: an error's */
    int status;
    struct span request_id; /* p NULL: any */
    struct span error_type; /* of an error */
    pd_err (*add)(void *ctx, struct span name, struct span value);
    void *ctx;
};

struct sim_dialect {
    const char *stream_type;         /* content type of a stream */
    const char *json_type;           /* of all else; NULL: application/json */
    const struct error_like *errors; /* errors_count of them */
    unsigned errors_count;
    const struct finish_word *finishes; /* ends with a NULL */
    const char *delta_type;             /* of the event that carries text */
    bool calls_whole;                   /* tool calls are not streamed in pieces */

    pd_err (*read)(struct reading *r);
    pd_err (*headers)(struct sim_headers *h); /* NULL: none of its own */
    enum stream_piece (*next)(struct stream *s);
    void (*frame)(struct stream *s, struct span type, struct span json);
    void (*end)(struct stream *s);                       /* what stands after the last event */
    void (*token)(struct stream *s, struct span text);   /* a token with this text */
    void (*ping)(struct stream *s, enum ping_kind kind); /* a sign of life */
    void (*whole)(const struct speech *speech, struct put *out);
    void (*put_error)(struct put *out, const struct script_provider *conf, const struct endpoint *at,
                      const struct style_fault *f);
    /* An error in a stream; shape FAULT_SHAPE_DEFAULT: the dialect's own. */
    void (*stream_error)(struct stream *s, const struct style_fault *f, unsigned shape);
    /* Bodies that are no answer of a model. PD_INVALID: refused. NULL: it has none. */
    pd_err (*count)(struct reading *r, struct put *out);
    pd_err (*embed)(struct reading *r, const struct endpoint *at, uint64_t seed, struct put *out);
    pd_err (*about)(struct reading *r, struct span path, struct put *out);
    /* The list of models, or the one with this id (empty: the list). False: there is none. */
    bool (*models)(const struct script_provider *conf, struct span id, struct put *out);
};

extern const struct sim_dialect sim_chat, sim_responses, sim_messages, sim_gemini, sim_converse, sim_invoke,
    sim_ollama;
extern const struct sim_dialect *const sim_dialects[SIM_DIALECT_COUNT];

/* The status and words of an error in this dialect: what is given stays, the rest is filled from its table. */
void dialect_fault_fill(const struct sim_dialect *d, struct style_fault *f, struct span like);
/* This dialect's word for why an answer ended. */
const char *dialect_finish(const struct sim_dialect *d, const char *ours);

/* ---- for the dialects ---- */
/* An event's JSON is put into the returned place; event_end() frames it. */
struct put *event_begin(struct stream *s);
void event_end(struct stream *s, const char *type);
/* Server-sent events, as Anthropic, OpenAI and Google have them. */
void frame_named(struct stream *s, struct span type, struct span json);
void ping_comment(struct stream *s, enum ping_kind kind);
/* OpenAI's embeddings. */
pd_err chat_embed(struct reading *r, const struct endpoint *at, uint64_t seed, struct put *out) PD_CHECKED;
/* A vector for this text, whose JSON is `input`; the array alone. */
pd_err put_embedding(struct put *out, const struct reading *r, uint64_t seed, struct span input,
                     int64_t dimensions) PD_CHECKED;
/* The start of an id and `letters` random ones, in the arena. */
struct span make_id(struct arena *mem, struct rnd *rnd, const char *prefix, unsigned letters, bool hex);
/* The id of an answer, as its dialect and its house make them. */
struct span answer_id(const struct speech *speech);
struct span responses_id(const struct speech *speech);
/* "2026-01-02T03:04:05Z" */
void time_text(uint64_t seconds, char out[32]);
/* A header, by name and printed value. */
pd_err header_add(struct sim_headers *h, const char *name, const char *fmt, ...) PD_PRINTF(3, 4);
/* The parts of Bedrock's and Anthropic's dialects that Bedrock's InvokeModel uses too. */
pd_err messages_read(struct reading *r) PD_CHECKED;
enum stream_piece messages_next(struct stream *s);
void messages_whole(const struct speech *speech, struct put *out);
/* The names of the models it has. */
unsigned model_names(const struct script_provider *conf, const struct span **ret);

#endif
