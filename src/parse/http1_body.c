#include "parse/http1.h"

/*   SIZE --";" or blank--> EXT --CR--> SIZE_LF --LF--> DATA --all of it--> DATA_CR --> DATA_LF --> SIZE
 *                                         |
 *                                         +--size 0--> TRAILER --token--> NAME --":"--> LINE --CR--> LINE_LF --> TRAILER
 *                                                         |
 *                                                         +--CR--> END_LF --LF--> done
 *
 * Every line ends in CR LF and nothing else: what takes a bare LF for the end of a chunk line reads other requests than
 * the proxy before it does. */
#define STATES(X)                                       \
    X(SIZE, "before the first digit of a chunk size")   \
    X(DIGITS, "in a chunk size")                        \
    X(BLANK, "blanks between a size and its extension") \
    X(EXT, "in a chunk extension, which is ignored")    \
    X(SIZE_LF, "the LF of the chunk line comes")        \
    X(DATA, "in the data of a chunk")                   \
    X(DATA_CR, "the CR behind the data comes")          \
    X(DATA_LF, "the LF behind the data comes")          \
    X(TRAILER, "at the start of a trailer line")        \
    X(NAME, "in the name of a trailer field")           \
    X(LINE, "in the value of a trailer field")          \
    X(LINE_LF, "the LF of a trailer line comes")        \
    X(END_LF, "the last LF comes")

enum state {
#define X(state, what) state,
    STATES(X)
#undef X
};

void http1_body_init(struct http1_body *b, enum http1_framing framing, int64_t content_length)
{
    *b = (struct http1_body){.framing = framing, .state = SIZE};
    if (framing == HTTP1_LENGTH)
        b->left = content_length > 0 ? (uint64_t)content_length : 0;
    b->done = framing == HTTP1_NO_BODY || (framing == HTTP1_LENGTH && b->left == 0);
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_text(uint8_t c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

static bool is_token(uint8_t c)
{
    return c > 0x20 && c < 0x7f && !memchr("\"(),/:;<=>?@[\\]{}", c, 17);
}

static pd_err add_digit(struct http1_body *b, uint8_t c)
{
    int v = hex_value(c);
    if (v < 0)
        return PD_SYNTAX;
    if (b->left > (uint64_t)INT64_MAX >> 4)
        return PD_TOOBIG;
    b->left = b->left << 4 | (uint64_t)v;
    b->state = DIGITS;
    return PD_OK;
}

/* A state that waits for one byte and nothing else. */
static pd_err only(struct http1_body *b, uint8_t c, uint8_t wanted, enum state next)
{
    if (c != wanted)
        return PD_SYNTAX;
    b->state = next;
    return PD_OK;
}

static pd_err count_line(struct http1_body *b, unsigned most)
{
    return ++b->line_bytes > most ? PD_TOOBIG : PD_OK;
}

static pd_err size_line(struct http1_body *b, uint8_t c)
{
    pd_err err = count_line(b, HTTP1_CHUNK_LINE_MAX);
    if (err)
        return err;
    if (b->state == SIZE || (b->state == DIGITS && hex_value(c) >= 0))
        return add_digit(b, c);
    if (c == '\r' && b->state != BLANK)
        return only(b, c, '\r', SIZE_LF);
    if (b->state == EXT)
        return is_text(c) ? PD_OK : PD_SYNTAX;
    if (c == ' ' || c == '\t')
        return only(b, c, c, BLANK);
    return only(b, c, ';', EXT);
}

static pd_err trailer_line(struct http1_body *b, uint8_t c)
{
    pd_err err = count_line(b, HTTP1_TRAILER_MAX);
    if (err)
        return err;
    if (b->state == LINE)
        return c == '\r' ? only(b, c, '\r', LINE_LF) : is_text(c) ? PD_OK : PD_SYNTAX;
    if (b->state == NAME && c == ':')
        return only(b, c, ':', LINE);
    if (b->state == TRAILER && c == '\r')
        return only(b, c, '\r', END_LF);
    b->state = NAME;
    return is_token(c) ? PD_OK : PD_SYNTAX;
}

/* One byte of framing. */
static pd_err frame_byte(struct http1_body *b, uint8_t c)
{
    pd_err err = PD_OK;
    switch ((enum state)b->state) {
    case SIZE:
    case DIGITS:
    case BLANK:
    case EXT:
        return size_line(b, c);
    case SIZE_LF:
        b->line_bytes = 0;
        return only(b, c, '\n', b->left ? DATA : TRAILER);
    case DATA:
        return PD_SYNTAX; /* data is not framing */
    case DATA_CR:
        return only(b, c, '\r', DATA_LF);
    case DATA_LF:
        return only(b, c, '\n', SIZE);
    case TRAILER:
    case NAME:
    case LINE:
        return trailer_line(b, c);
    case LINE_LF:
        return only(b, c, '\n', TRAILER);
    case END_LF:
        err = only(b, c, '\n', END_LF);
        b->done = !err;
        return err;
    }
    return PD_SYNTAX;
}

static struct span take_left(struct http1_body *b, struct span in)
{
    struct span data = span_upto(in, b->left < in.n ? (size_t)b->left : in.n);
    b->left -= data.n;
    return data;
}

static pd_err step_chunked(struct http1_body *b, struct span in, size_t *ret_used, struct span *ret_data)
{
    size_t at = 0;
    while (at < in.n && !b->done) {
        if (b->state == DATA) {
            *ret_data = take_left(b, span_from(in, at));
            if (!b->left)
                b->state = DATA_CR;
            *ret_used = at + ret_data->n;
            return PD_OK;
        }
        pd_err err = frame_byte(b, (uint8_t)in.p[at]);
        if (err)
            return err;
        at++;
    }
    *ret_used = at;
    return PD_OK;
}

pd_err http1_body_step(struct http1_body *b, struct span in, size_t *ret_used, struct span *ret_data)
{
    *ret_used = 0;
    *ret_data = span_of(in.p, 0);
    if (b->done || !in.n)
        return PD_OK;

    switch (b->framing) {
    case HTTP1_NO_BODY:
        return PD_OK;
    case HTTP1_LENGTH:
        *ret_data = take_left(b, in);
        b->done = b->left == 0;
        break;
    case HTTP1_CHUNKED:
        return step_chunked(b, in, ret_used, ret_data);
    case HTTP1_UNTIL_CLOSE:
        *ret_data = in;
        break;
    }
    *ret_used = ret_data->n;
    return PD_OK;
}

pd_err http1_body_eof(const struct http1_body *b)
{
    return b->done || b->framing == HTTP1_UNTIL_CLOSE ? PD_OK : PD_CUT;
}
