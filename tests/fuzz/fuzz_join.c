/* fuzz_join.c - a text cut anywhere and a new text in any pieces: what is shown does not depend on the pieces, is fit for a JSON string, and is never more
 * than what came. Where the new text is the whole text once more, and the joiner joins, the result is that text. */
#include "dialect/join.h"

#include "base/mem.h"
#include "parse/json.h"
#include "parse/put.h"
#include "parse/utf8.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

static enum join_state run(enum join_mode mode, struct span seen, struct span piece, size_t step, struct buf *out)
{
    struct join *j = join_new(mode, seen, join_givable(seen));
    enum join_state state = JOIN_LOOKING;
    struct span shown;
    MUST(j);
    for (size_t at = 0; at < piece.n; at += step) {
        MUST(join_feed(j, span_upto(span_from(piece, at), step), &state, &shown) == PD_OK);
        MUST(state == JOIN_JOINED || shown.n == 0);
        MUST(buf_add(out, shown) == PD_OK);
    }
    MUST(join_end(j, &state, &shown) == PD_OK && state != JOIN_LOOKING);
    MUST(buf_add(out, shown) == PD_OK);
    join_free(j);
    return state;
}

/* Two bytes say mode and step, two where the text is cut from the new one. */
static void any_pieces(struct span in)
{
    enum join_mode mode = (enum join_mode)((unsigned char)in.p[0] % 3);
    size_t step = 1 + (unsigned char)in.p[1] % 16, cut = (unsigned char)in.p[2] % (in.n - 2);
    struct span seen = span_upto(span_from(in, 3), cut), piece = span_from(in, 3 + cut);
    struct buf one, all, doc;
    buf_init(&one, 0);
    buf_init(&all, 0);
    buf_init(&doc, 0);
    seen = span_upto(seen, utf8_whole(seen));
    enum join_state a = run(mode, seen, piece, step, &one), b = run(mode, seen, piece, piece.n + 1, &all);
    MUST(a == b && span_eq(buf_span(&one), buf_span(&all)));
    MUST(buf_printf(&doc, "\"%.*s\"", SPAN_FMT(buf_span(&all))) == PD_OK);
    MUST(json_check(buf_span(&doc)) == PD_OK);
    buf_done(&one);
    buf_done(&all);
    buf_done(&doc);
}

static void the_same_again(struct span in)
{
    struct span text = span_from(in, 3);
    size_t cut = (unsigned char)in.p[2] % (text.n + 1);
    struct buf escaped, want, got;
    if (!utf8_valid(text) || utf8_whole(span_upto(text, cut)) != cut)
        return;
    buf_init(&escaped, 0);
    buf_init(&want, 0);
    buf_init(&got, 0);
    struct put p = put_into(&escaped), q = put_into(&want);
    put_json_inner(&p, text);
    put_json_inner(&q, span_from(text, cut));
    MUST(run(JOIN_REPEAT, span_upto(text, cut), buf_span(&escaped), 3, &got) == JOIN_JOINED);
    MUST(span_eq(buf_span(&got), buf_span(&want)));
    buf_done(&escaped);
    buf_done(&want);
    buf_done(&got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of((const char *)data, size);
    if (in.n < 4 || in.n > 100000)
        return 0;
    any_pieces(in);
    the_same_again(in);
    return 0;
}
