/* fuzz_openai_chat.c - OpenAI chat, by the promises of fuzz_dialect.h and more.
 *
 * A request, edited, differs in the edited members only. A whole answer can be expanded into a stream, and a list of models read, or
 * each is refused. */
#include "dialect/models.h"
#include "fuzz_dialect.h"

static const struct fuzz_dialect chat[] = {{&codec_openai_chat, FRAMING_LINES, NULL, false}};

static bool is_edited(struct span key)
{
    return json_key_is(key, "model") || json_key_is(key, "stream") || json_key_is(key, "stream_options");
}

/* The next member that no edit touches. */
static bool next_other(struct json_walk *w, struct span *key, struct json *v)
{
    while (json_walk_next(w, key, v))
        if (!is_edited(*key))
            return true;
    return false;
}

static void same_others(struct span a, struct span b)
{
    struct json_walk wa, wb;
    struct span ka, kb;
    struct json va, vb;
    json_walk_doc(&wa, a);
    json_walk_doc(&wb, b);
    while (next_other(&wa, &ka, &va)) {
        MUST(next_other(&wb, &kb, &vb));
        MUST(span_eq(ka, kb) && span_eq(va.raw, vb.raw));
    }
    MUST(!next_other(&wb, &kb, &vb));
    MUST(wa.err == PD_OK && wb.err == PD_OK);
}

static void check_edit(const struct request_facts *f, const struct request_edit *ed, struct arena *a)
{
    struct span parts[REQUEST_PARTS_MAX];
    struct request_facts again;
    unsigned count = 0;
    const char *why = NULL;
    struct buf out;
    buf_init(&out, 0);
    MUST(codec_openai_chat.edit_request(f, ed, a, parts, &count) == PD_OK && count <= REQUEST_PARTS_MAX);
    for (unsigned i = 0; i < count; i++)
        MUST(buf_add(&out, parts[i]) == PD_OK);
    MUST(codec_openai_chat.read_request(buf_span(&out), &(struct request_line){0}, a, &again, &why) == PD_OK);
    same_others(f->body, buf_span(&out));
    MUST(json_check(f->body) != PD_OK || json_check(buf_span(&out)) == PD_OK);
    MUST(again.stream == (ed->force_stream || (f->stream && !ed->forbid_stream)));
    MUST(!ed->want_usage || !again.stream || again.include_usage);
    MUST(!ed->forbid_stream || again.options_count == 0);
    MUST(ed->model.p ? span_eq(again.model, ed->model) : span_eq(again.model, f->model));
    MUST(again.prefix_hash == f->prefix_hash && again.continues == f->continues);
    buf_done(&out);
}

static void edits(struct span in, unsigned choice)
{
    struct arena a;
    struct request_facts f;
    const char *why = NULL;
    arena_init(&a, 0, 0);
    pd_err e = codec_openai_chat.read_request(in, &(struct request_line){0}, &a, &f, &why);
    MUST(e == PD_OK || ((e == PD_SYNTAX || e == PD_INVALID) && why));
    MUST(e == PD_OK || e == PD_INVALID || json_check(in) != PD_OK || !in.n || span_trim(in).p[0] != '{');
    struct request_edit ed = {.model = choice & 2 ? SPAN_LIT("new\"") : SPAN_NONE,
                              .force_stream = (choice & 12) == 4,
                              .forbid_stream = (choice & 12) == 8,
                              .want_usage = choice & 16};
    if (!e)
        check_edit(&f, &ed, &a);
    arena_done(&a);
}

static pd_err on_model(void *ctx, struct span id)
{
    *(size_t *)ctx += id.n;
    return PD_OK;
}

static void expand(struct span body)
{
    struct buf stream;
    buf_init(&stream, 0);
    if (json_check(body) == PD_OK) {
        pd_err e = answer_expand(&codec_openai_chat, body, true, &stream);
        MUST(e == PD_OK ? buf_size(&stream) : e == PD_SYNTAX || e == PD_INVALID || e == PD_TOOBIG);
    }
    buf_done(&stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct span in = span_of((const char *)data + 2, size - 2);
    size_t bytes = 0;
    edits(in, data[0]);
    expand(in);
    pd_err e = models_read(in, on_model, &bytes);
    MUST(e == PD_OK || e == PD_SYNTAX || e == PD_INVALID);
    return fuzz_dialects(chat, 1, data, size);
}
