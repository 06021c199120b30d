/* shown.h - what of an answer was shown to a client, in the neutral form: the memory behind continuing a broken stream, resuming one, and
 * joining a call that is asked a second time.
 *
 * An append-only log of deltas. Pieces of one text that follow each other are one entry, so
 * that a long answer costs little more than its own bytes. A position is a number of log
 * bytes: what was added after it can be told again, also from the middle of a text.
 *
 * The log stands in blocks that are never moved: thousands of answers are kept while they come, and buffers that grow
 * would be a fifth larger than what is in them, with holes of their earlier sizes between them. So a long text is
 * told in several deltas, one for each block that it stands in, parted between characters.
 *
 * Ownership: everything is copied in; spans of what is told live until the next shown_add(). */
#ifndef PERDURE_DIALECT_SHOWN_H
#define PERDURE_DIALECT_SHOWN_H

#include "base/buf.h"
#include "dialect/codec.h"

enum { SHOWN_MAX = 64 << 20 }; /* bytes of one answer's log */

struct shown_block;
struct shown {
    struct shown_block *first, *last, *last_in; /* last_in: the one that the last entry begins in */
    size_t last_at;                             /* position of the last entry */
    size_t end;
    size_t room;        /* bytes of all blocks */
    size_t limit_bytes; /* SHOWN_MAX, unless a test wants less */
    bool any;
    /* How the client knows the answer, from its beginning as it was shown: text, kept by shown_identity(). */
    char *identity;
    size_t id_bytes, model_bytes; /* in identity, one behind the other, and nothing else: every stream has one */
    int64_t created;              /* Unix seconds; 0: the format has none, or it is not known */
    uint64_t sequence;            /* events shown, in formats that number them; set by whoever shows */
    bool has_text, has_reasoning, has_calls, has_other; /* other: media, hosted work, refusals, logprobs */
    bool many;                                          /* more than one choice was told of */
    uint64_t text_bytes;                                /* of MSG_TEXT, escaped */
};

void shown_init(struct shown *s); /* takes no memory yet */
void shown_done(struct shown *s);
void shown_clear(struct shown *s); /* as new; its largest block stays */
/* The block that an empty one has kept goes to another empty one, so that all that are empty between two events share it. It is freed where that one
 * has a block already, or where it is a large one. Nothing where `from` is not empty. */
void shown_lend(struct shown *from, struct shown *to);
/* PD_NOMEM, PD_TOOBIG (SHOWN_MAX): nothing was added. Texts without a byte are not kept. */
pd_err shown_add(struct shown *s, const struct msg_delta *d) PD_CHECKED;
/* What is known already stays: it can be called with every event. PD_NOMEM. */
pd_err shown_identity(struct shown *s, struct span id, struct span model, int64_t created) PD_CHECKED;
struct span shown_id(const struct shown *s);
struct span shown_model(const struct shown *s);
/* The position behind everything that was added so far. */
static inline size_t shown_end(const struct shown *s)
{
    return s->end;
}
/* What it takes of memory, but for struct shown itself. */
size_t shown_bytes(const struct shown *s);
/* Tells what was added since `from` (0: all), in order. A position inside a text tells the rest of it, from the beginning of the character it stands in (an
 * escape and a pair of surrogates is one); any other position inside an entry tells all of that. Returns the position behind it. */
size_t shown_tell(const struct shown *s, size_t from, msg_delta_fn *fn, void *ctx);
/* The same, but no more than about `most` bytes of text at once (SHOWN_PIECE_LEAST or more), a long one in parts of whole characters. */
enum { SHOWN_PIECE_LEAST = 16 };
size_t shown_tell_some(const struct shown *s, size_t from, size_t most, msg_delta_fn *fn, void *ctx);
/* All text (MSG_TEXT of choice 0), plain, appended to `out`. PD_NOMEM, PD_SYNTAX: it is no text of a JSON string. */
pd_err shown_text(const struct shown *s, struct buf *out) PD_CHECKED;
/* The log as bytes, for a file, and back again: PD_SYNTAX when they are not what shown_save() wrote; all whole entries before that
 * stay. What was saved in several goes and is loaded in the same order is the same log, with the same positions. Identity and sequence are
 * the caller's to keep. */
pd_err shown_save(const struct shown *s, size_t from,
                  struct buf *out) PD_CHECKED;                    /* what is behind the position `from` */
pd_err shown_load(struct shown *s, struct span bytes) PD_CHECKED; /* appends; PD_NOMEM, PD_TOOBIG too */

#endif
