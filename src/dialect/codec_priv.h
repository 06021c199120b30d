/* codec_priv.h - what the files of this room share. */
#ifndef PERDURE_DIALECT_CODEC_PRIV_H
#define PERDURE_DIALECT_CODEC_PRIV_H

#include "dialect/codec.h"

/* Limits of what one answer may make us remember. */
enum {
    ANSWER_TOOLS_MAX = 4096,      /* tool calls of one answer; more is PD_TOOBIG */
    ANSWER_WORD_MAX = 512,        /* bytes of an id or a model name; longer ones are relayed but not kept */
    ANSWER_FINISH_MAX = 64,       /* bytes of a finish reason that are kept */
    ANSWER_USAGE_MAX = 64 * 1024, /* of a usage object; larger ones are read but not kept */
    ANSWER_CHOICES = 64,          /* of n > 1; choices beyond these are relayed but not followed to their end */
};

/* A tool call as far as it has come. */
struct chat_tool {
    int64_t choice, index; /* the provider's own; index CHAT_LEGACY: a function_call of old */
    int number;            /* ours, from 0 in each choice */
    uint64_t id_hash;      /* of the id; 0: none yet */
    struct span id;        /* waits for the name */
    bool started;          /* its start was handed on */
};
enum { CHAT_LEGACY = -1 };

/* What reading an answer's objects remembers between them. Used for chunks and for whole answers. */
struct chat_reader {
    struct arena *arena; /* for what is kept */
    bool whole;          /* one object is all: spans may point into it */
    struct answer_facts facts;
    struct buf usage, scratch;
    msg_delta_fn *on_delta; /* NULL: nobody asks */
    void *ctx;

    struct chat_tool *tools;
    unsigned tool_count, tool_room;
    uint64_t seen, finished; /* choices by index */
    int64_t first_choice;    /* -1: none yet */
    bool first_has_tools;
    enum msg_finish first_word; /* what its own word says, before the content is looked at */
    char finish_word[ANSWER_FINISH_MAX];
};

void chat_reader_init(struct chat_reader *r, struct arena *a, bool whole);
void chat_reader_done(struct chat_reader *r);
/* Reads one object, checked by json_check. *ret_holds: ANSWER_*, without START. PD_NOMEM, PD_TOOBIG. */
pd_err chat_read(struct chat_reader *r, struct json obj, unsigned *ret_holds, struct json *ret_error);
/* How the answer stands if no more comes. */
enum answer_end chat_end(const struct chat_reader *r);

/* The object is an error, or holds one: what provider/classify should look at; else JSON_NONE. */
struct json answer_error_in(struct json obj);
enum msg_finish finish_of_word(struct json word);
/* False when it reports no number at all. */
bool usage_read(struct json usage, struct msg_usage *ret);

/* The OpenAI embeddings body; as answer_read_whole(). */
pd_err embeddings_read(struct json obj, struct arena *a, struct answer_facts *ret, enum answer_end *ret_end);

#endif
