/* encoder_priv.h - the encoders' driver, and what a format adds to it.
 *
 * The driver (encoder.c) turns the flow of deltas into blocks that are opened, added to and
 * closed one after the other in each choice, keeps their text where that is needed, makes up ids that are
 * missing, and ends what is open. A format writes the bytes of these steps into en->out. */
#ifndef PERDURE_DIALECT_ENCODER_PRIV_H
#define PERDURE_DIALECT_ENCODER_PRIV_H

#include "dialect/encoder.h"
#include "parse/put.h"

/* HOSTED: work of a tool that the provider ran, of which the client saw more than the neutral form holds. In resumed encoders only. */
/* Bytes of what is told between two paragraphs of reasoning, an empty line. */
enum { ENCODER_BREAK = sizeof("\\n\\n") - 1 };

enum block_kind {
    BLOCK_TEXT,
    BLOCK_REASONING,
    BLOCK_REFUSAL,
    BLOCK_TOOL,
    BLOCK_SEALED,
    BLOCK_MEDIA,
    BLOCK_HOSTED
};

struct block_citation {
    struct block_citation *next;
    struct span url, title, cited; /* escaped, the encoder's arena */
};

/* A part of a resumed Responses item: from `at` up to `end` (SIZE_MAX: to the text's end). */
struct block_part {
    struct block_part *next;
    size_t at, end;
    const struct block_citation *before; /* the last of the part before it; NULL: none */
};

struct block {
    struct block *next; /* in the order in which they were told */
    enum block_kind kind;
    int choice;
    int tool;       /* BLOCK_TOOL: its number in the choice */
    unsigned index; /* among all blocks of its choice, from 0 */
    struct span id,
        name; /* escaped; BLOCK_TOOL: the id is never empty. BLOCK_SEALED: the maker's id; BLOCK_MEDIA: name is the media type */
    struct span given_id; /* TOOL: as its provider gave it, where a format makes it fit */
    struct buf
        text; /* escaped: what was told. Kept to the end when the answer is whole or ops->gathers; else only a
                               tool's arguments, until the block is closed. SEALED, MEDIA: their data */
    struct span signature; /* escaped */
    enum msg_maker maker;  /* of signature and sealed data */
    struct block_citation *citations, *last_citation;
    bool legacy_function;
    bool opened, closed;  /* as the format was told */
    bool complete;        /* BLOCK_TOOL: its arguments are a whole JSON value */
    unsigned long number; /* a format's own number for it, once it is opened */

    /* What the client saw of it already, in a resumed encoder: encoder_resume(). */
    bool shown, shown_signature;
    const struct block_citation *shown_citation; /* the last of those */
    enum msg_step step;                          /* how far it had come on the wire */
    int place;
    struct span item, word, phase,
        space; /* escaped; as msg_delta has them: item, and type and id of its STEP, type of its TOOL_START */
    struct span sealed; /* escaped: of REASONING, what its maker alone can read */
    struct block_part *parts, *last_part;
    unsigned part_count;
};

struct encoder {
    const struct codec *to;
    const struct encoder_ops *ops;
    struct encode_want want;
    struct arena arena; /* blocks, ids, words: what lives as long as the answer */
    struct buf out;     /* bytes for the client */
    struct put put;     /* into out */
    size_t limit_bytes, gathered_bytes;
    pd_err err;
    bool started, ended;
    struct block *first, *last;
    struct block *unclosed; /* all before it are closed; NULL: all are */
    struct block *tool;     /* the call that was told of last */
    size_t looked_bytes;    /* of arguments that were looked at whether they are whole */
    unsigned block_count;
    struct buf
        logprobs; /* items of OpenAI's logprobs.content told since the last block_add; raw, joined by commas. Formats that have
                            them write and clear it; choice 0 only */
    const char *dropped[8];
    unsigned dropped_count;
    unsigned long sequence; /* the format's own counter (Responses) */
    uint64_t state[4];      /* the format's own small state */
    int tool_base;          /* of the answer that is told of now: encoder_next_answer() */

    /* resumed */
    bool resumed, replaying; /* replaying: what is told was shown already; nothing that is written counts */
    bool finished;           /* the finish reason was shown */
    int highest_place;
    struct span known_id; /* text: the answer's id as the client knows it; empty: made from want.id */
};

struct encoder_ops {
    bool gathers; /* all text is kept until the end: the format repeats it */
    bool choices; /* the format has n > 1; else choices above 0 are dropped */
    /* Streamed; each writes into en->put (its err is looked at by the driver). NULL: nothing to write. */
    void (*start)(struct encoder *en, const struct answer_facts *f); /* before anything else; f may be NULL */
    void (*open)(struct encoder *en, struct block *b);
    void (*add)(struct encoder *en, struct block *b,
                struct span piece); /* a piece of its text, escaped; not for SEALED and MEDIA */
    void (*close)(
        struct encoder *en,
        struct block *b); /* b->text: all of a tool's arguments (never empty: "{}"), and of the others when
                                                           gathers; SEALED, MEDIA: their data. b->signature, citations: if any came */
    void (*end)(struct encoder *en, const struct answer_facts *f);
    /* Which block an OPENED or PART step with that word begins. NULL: the format's blocks have no steps: a call is whole when it was shown. */
    enum block_kind (*kind_of)(struct span word);
    /* All that was shown has been told: the format's own state is set after it. NULL: nothing to set. */
    void (*resumed)(struct encoder *en);
    /* Whole: blocks from en->first, all closed. */
    void (*whole)(struct encoder *en, const struct answer_facts *f, struct put *out);
};

/* ---- for the formats ---- */
/* The answer's id, with its prefix, as the inside of a JSON string. */
void encoder_put_id(struct encoder *en, struct put *p, const char *prefix);
/* The first citation that was not shown yet. */
const struct block_citation *encoder_citations(const struct block *b);
/* The block that the client saw open last and not closed; NULL: none. */
struct block *encoder_open_block(const struct encoder *en);
/* Escaped JSON text (a tool's arguments) with its escapes undone, as it stands in JSON: an object, on one line. What is no JSON object is
 * written as {"input": "..."}; empty as {}. */
void encoder_put_arguments(struct put *p, struct encoder *en, struct span escaped);
void encoder_drop(struct encoder *en, const char *name); /* a literal */
/* The highest choice that anything was told of. */
int encoder_highest_choice(const struct encoder *en);
/* How that choice ended; where nobody said: MSG_FINISH_STOP. */
enum msg_finish encoder_finish(const struct answer_facts *f, int choice);
/* Counts of `u`, those that are unknown as 0. */
uint64_t encoder_count(int64_t n);

#endif
