#include "simulate/frame.h"

#include "parse/utf8.h"

#define FRAMES(X)                                                                   \
    X("sse", FRAME_SSE, "data: {...} and a blank line")                             \
    X("sse-crlf", FRAME_CRLF, "lines end in CR LF")                                 \
    X("sse-cr", FRAME_CR, "lines end in CR alone")                                  \
    X("sse-nospace", FRAME_NO_SPACE, "data:{...}, without the space")               \
    X("multiline", FRAME_MULTILINE, "one event in two data lines")                  \
    X("event-names", FRAME_EVENT_NAMES, "event: message before each data line")     \
    X("jsonl", FRAME_JSONL, "JSON lines, nothing else")                             \
    X("text", FRAME_TEXT, "plain text lines")                                       \
    X("no-done", FRAME_NO_DONE, "no [DONE]")                                        \
    X("no-final-blank", FRAME_NO_FINAL_BLANK, "no blank line after the last event") \
    X("bom", FRAME_BOM, "a byte order mark at the start")                           \
    X("one-byte", FRAME_ONE_BYTE, "a chunk and a packet for every byte")            \
    X("split-bytes", FRAME_SPLIT, "cut at random places, characters included")      \
    X("coalesced", FRAME_COALESCED, "many events in one chunk")

const struct key_word frame_words[] = {
#define X(name, bits, what) {name, bits},
    FRAMES(X)
#undef X
        {NULL, 0},
};
const struct frame_row frame_rows[] = {
#define X(name, bits, what) {name, what},
    FRAMES(X)
#undef X
        {NULL, NULL},
};

static void line_end(struct put *out, unsigned framing)
{
    put_text(out, framing & FRAME_CRLF ? "\r\n" : framing & FRAME_CR ? "\r" : "\n");
}

static void data_line(struct put *out, unsigned framing, struct span text)
{
    put_text(out, framing & FRAME_NO_SPACE ? "data:" : "data: ");
    put_span(out, text);
    line_end(out, framing);
}

/* The first comma between two members: a line end is white space there. 0: none. */
static size_t seam(struct span json)
{
    bool quoted = false;
    for (size_t i = 0; i < json.n; i++) {
        if (quoted && json.p[i] == '\\')
            i++;
        else if (json.p[i] == '"')
            quoted = !quoted;
        else if (!quoted && json.p[i] == ',')
            return i + 1;
    }
    return 0;
}

void frame_event(struct put *out, unsigned framing, struct span type, struct span json)
{
    if (framing & FRAME_JSONL) {
        put_span(out, json);
        line_end(out, framing);
        return;
    }
    if (type.n == 0 && framing & FRAME_EVENT_NAMES)
        type = SPAN_LIT("message");
    if (type.n) {
        put_text(out, framing & FRAME_NO_SPACE ? "event:" : "event: ");
        put_span(out, type);
        line_end(out, framing);
    }
    size_t cut = framing & FRAME_MULTILINE ? seam(json) : 0;
    if (cut)
        data_line(out, framing, span_upto(json, cut));
    data_line(out, framing, span_from(json, cut));
    line_end(out, framing);
}

void frame_done(struct put *out, unsigned framing)
{
    if (framing & (FRAME_NO_DONE | FRAME_JSONL | FRAME_TEXT))
        return;
    data_line(out, framing, SPAN_LIT("[DONE]"));
    if (!(framing & FRAME_NO_FINAL_BLANK))
        line_end(out, framing);
}

void frame_comment(struct put *out, unsigned framing, struct span text)
{
    if (framing &
        (FRAME_JSONL | FRAME_TEXT)) { /* these have no comments: an empty line keeps the connection alive */
        line_end(out, framing);
        return;
    }
    put_text(out, ": ");
    put_span(out, text);
    line_end(out, framing);
    line_end(out, framing);
}

void frame_blank(struct put *out, unsigned framing)
{
    line_end(out, framing);
}

void frame_chunk_head(struct put *out, size_t n)
{
    put_printf(out, "%zx\r\n", n);
}

size_t frame_piece(struct span text)
{
    size_t n = 0;
    while (n < text.n && (text.p[n] == ' ' || text.p[n] == '\n' || text.p[n] == '\t'))
        n++;
    size_t start = n;
    while (n < text.n && n - start < PIECE_MAX && text.p[n] != ' ' && text.p[n] != '\n' && text.p[n] != '\t')
        n++;
    size_t whole = utf8_whole(span_upto(text, n));
    return whole ? whole : n;
}

size_t frame_pieces(struct span text)
{
    size_t count = 0;
    while (text.n) {
        text = span_from(text, frame_piece(text));
        count++;
    }
    return count;
}

size_t frame_pieces_size(struct span text, size_t n)
{
    struct span rest = text;
    while (rest.n && n--)
        rest = span_from(rest, frame_piece(rest));
    return text.n - rest.n;
}
