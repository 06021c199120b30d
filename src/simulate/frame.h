/* frame.h - a chunk of JSON as bytes of a stream, in each framing that providers are known to use.
 *
 * Pure: text in, bytes out. */
#ifndef PERDURE_SIMULATE_FRAME_H
#define PERDURE_SIMULATE_FRAME_H

#include "parse/put.h"
#include "simulate/read.h"

enum {
    FRAME_SSE = 0,
    FRAME_CRLF = 1,            /* lines end in CR LF */
    FRAME_CR = 2,              /* lines end in CR */
    FRAME_NO_SPACE = 4,        /* data:{...} */
    FRAME_MULTILINE = 8,       /* one event in two data lines */
    FRAME_JSONL = 16,          /* one JSON a line, nothing else */
    FRAME_TEXT = 32,           /* bare lines of plain text */
    FRAME_NO_FINAL_BLANK = 64, /* the last event has no blank line after it */
    FRAME_NO_DONE = 128,       /* no [DONE] */
    FRAME_EVENT_NAMES = 256,   /* event: message before each data line */
    /* how the bytes are written */
    FRAME_ONE_BYTE = 512,   /* a chunk and a packet for each byte */
    FRAME_SPLIT = 1024,     /* at random places */
    FRAME_COALESCED = 2048, /* several events in one write */
    FRAME_BOM = 4096        /* a byte order mark at the start */
};
extern const struct key_word frame_words[];
struct frame_row {
    const char *name, *what;
};
extern const struct frame_row frame_rows[]; /* for --reference; ends with a NULL name */

/* One event; `type` may be empty. */
void frame_event(struct put *out, unsigned framing, struct span type, struct span json);
/* The last: data: [DONE]. */
void frame_done(struct put *out, unsigned framing);
void frame_comment(struct put *out, unsigned framing, struct span text);
void frame_blank(struct put *out, unsigned framing);
/* The head of an HTTP chunk of n bytes: "1f\r\n". */
void frame_chunk_head(struct put *out, size_t n);

/* The next piece of a text, as a token: blanks, then at most PIECE_MAX bytes of a word, never inside a character. */
enum { PIECE_MAX = 14 };
size_t frame_piece(struct span text);
/* How many pieces the text has. */
size_t frame_pieces(struct span text);
/* The length of its first n pieces. */
size_t frame_pieces_size(struct span text, size_t n);

#endif
