/* Collections of answers: which are ours to read, and with what. */
#include "fixture.h"

#include "dialect/encoder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *fixtures_recorded(void)
{
    static char folder[512];
    char path[sizeof(folder) + sizeof("/index.json")];
    const char *named = getenv("PERDURE_FIXTURES");
    snprintf(folder, sizeof(folder), "%s", named && *named ? named : "../shared/fixtures");
    snprintf(path, sizeof(path), "%s/index.json", folder);
    FILE *in = fopen(path, "rb");
    if (!in)
        return NULL;
    fclose(in);
    return folder;
}

bool fixtures_required(void)
{
    const char *required = getenv("PERDURE_FIXTURES_REQUIRED");
    return required && strcmp(required, "1") == 0;
}

static pd_err read_file(const char *path, struct buf *out)
{
    enum { PIECE = 64 * 1024 };
    FILE *in = fopen(path, "rb");
    if (!in)
        return PD_NOTFOUND;
    pd_err e;
    size_t n;
    do {
        e = buf_reserve(out, PIECE);
        n = e ? 0 : fread(out->p + out->tail, 1, PIECE, in);
        buf_added(out, n);
    } while (n);
    if (!e && ferror(in))
        e = PD_IO;
    fclose(in);
    return e;
}

/* The reader of a fixture. False: nobody reads that format. */
static bool find_reader(struct fixture *f)
{
    static const struct {
        const char *dialect, *ending; /* of the file's name; "" any */
        const struct codec *codec;
        enum framing framing;
    } rows[] = {
        {"models", "", NULL, FRAMING_LINES},
        {"openai-chat", "", &codec_openai_chat, FRAMING_LINES},
        {"bedrock-converse", ".bin", &codec_bedrock_converse, FRAMING_EVENTSTREAM},
        {"bedrock-converse", ".json", &codec_bedrock_converse, FRAMING_LINES},
        {"bedrock-invoke", ".bin", &codec_bedrock_invoke, FRAMING_CHUNKS},
        {"bedrock-invoke", ".json", &codec_bedrock_invoke, FRAMING_LINES},
        {"ollama-native", "", &codec_ollama, FRAMING_LINES},
        {"openai-embeddings", "", &codec_openai_embeddings, FRAMING_LINES},
        {"gemini", ".json", &codec_gemini, FRAMING_ARRAY},
        {"gemini", "", &codec_gemini, FRAMING_LINES},
        {"gemini-embeddings", "", &codec_gemini_embeddings, FRAMING_LINES},
        {"anthropic-messages", "", &codec_anthropic, FRAMING_LINES},
        {"openai-responses", "", &codec_openai_responses, FRAMING_LINES},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!span_is(f->dialect, rows[i].dialect) || !span_ends(span_str(f->file), rows[i].ending))
            continue;
        f->codec = rows[i].codec;
        f->framing = rows[i].framing;
        return true;
    }
    return false;
}

static pd_err visit(const char *folder, struct json entry, struct arena *a, fixture_fn *fn, void *ctx)
{
    struct span file = json_inner(json_get(entry, "file"));
    struct fixture f = {.file = arena_strndup(a, file.p, file.n),
                        .dialect = json_inner(json_get(entry, "dialect")),
                        .entry = entry,
                        .expected = json_get(entry, "expected"),
                        .streaming = json_is_true(json_get(entry, "streaming")),
                        .arena = a};
    if (!f.file)
        return PD_NOMEM;
    if (!find_reader(&f))
        return PD_OK;
    struct buf body;
    buf_init(&body, 0);
    char *path = arena_printf(a, "%s/%s", folder, f.file);
    pd_err e = path ? read_file(path, &body) : PD_NOMEM;
    if (e == PD_NOTFOUND) {
        fprintf(stderr, "%s: cannot be opened\n", path);
        e = PD_IO;
    }
    if (!e) {
        f.body = buf_span(&body);
        fn(ctx, &f);
    }
    buf_done(&body);
    return e;
}

pd_err fixtures_each(const char *folder, fixture_fn *fn, void *ctx)
{
    struct buf text;
    struct json index, entry;
    struct json_walk w;
    char path[512];
    snprintf(path, sizeof(path), "%s/index.json", folder);
    buf_init(&text, 0);
    pd_err e = read_file(path, &text);
    if (!e)
        e = json_check(buf_span(&text));
    if (!e)
        e = json_first(buf_span(&text), &index, NULL);
    if (!e)
        json_walk_init(&w, json_get(index, "fixtures"));
    while (!e && json_walk_next(&w, NULL, &entry)) {
        struct arena a;
        arena_init(&a, 4096, 0);
        e = visit(folder, entry, &a, fn, ctx);
        arena_done(&a);
    }
    buf_done(&text);
    return e;
}

/* ---- in another format ---------------------------------------------------------------- */

struct encoding {
    struct encoder *en;
    struct buf *out;
};

static pd_err take_bytes(struct encoding *g)
{
    struct span made;
    pd_err e = encoder_bytes(g->en, &made);
    if (!e)
        e = buf_add(g->out, made);
    encoder_clear(g->en);
    return e;
}

static pd_err on_event(void *ctx, const struct answer_event *ev)
{
    (void)ev;
    return take_bytes(ctx);
}

static pd_err finish_encoding(struct encoding *g, bool streamed, const struct answer_facts *facts)
{
    if (!streamed)
        return encoder_whole(g->en, facts, g->out);
    pd_err e = encoder_end(g->en, facts);
    return e ? e : take_bytes(g);
}

static pd_err encode_stream(struct fixture *f, struct encoding *g, bool streamed, enum answer_end *ret_end)
{
    struct answer *an = answer_new(f->codec, f->framing, on_event, g);
    if (!an)
        return PD_NOMEM;
    answer_on_delta(an, encoder_delta, g->en);
    pd_err e = answer_feed(an, f->body);
    if (!e)
        e = answer_finish(an, ret_end);
    if (!e && *ret_end == ANSWER_COMPLETE)
        e = finish_encoding(g, streamed, answer_facts(an));
    answer_free(an);
    return e;
}

static pd_err encode_whole(struct fixture *f, struct encoding *g, bool streamed, enum answer_end *ret_end)
{
    struct answer_facts facts;
    pd_err e = answer_read_whole(f->codec, f->body, f->arena, &facts, ret_end, encoder_delta, g->en);
    return e || *ret_end != ANSWER_COMPLETE ? e : finish_encoding(g, streamed, &facts);
}

pd_err fixture_encode(struct fixture *f, const struct codec *to, bool streamed, struct buf *out,
                      enum answer_end *ret_end)
{
    enum { ANSWER_MAX = 8 << 20 };
    struct encode_want want = {.model = SPAN_LIT("some-model"),
                               .id = SPAN_LIT("abc123"),
                               .created = 1700000000,
                               .stream = streamed,
                               .include_usage = true};
    struct encoding g = {encoder_new(to, &want, ANSWER_MAX), out};
    if (!g.en)
        return PD_NOMEM;
    pd_err e = f->streaming ? encode_stream(f, &g, streamed, ret_end) : encode_whole(f, &g, streamed, ret_end);
    encoder_free(g.en);
    return e;
}

/* ---- what is expected ------------------------------------------------------------------ */

struct span fixture_text(struct fixture *f, const char *name)
{
    struct span text = SPAN_NONE;
    struct json v = json_get(f->expected, name);
    if (v.type != JSON_STRING || json_text(v, f->arena, &text))
        return SPAN_NONE;
    return text;
}

bool fixture_plain(struct fixture *f, struct span escaped, struct span *ret)
{
    char *quoted = arena_printf(f->arena, "\"%.*s\"", SPAN_FMT(escaped));
    return quoted && json_text((struct json){JSON_STRING, span_str(quoted)}, f->arena, ret) == PD_OK;
}

struct span fixture_compact(struct fixture *f, struct span json)
{
    char *out = arena_strndup(f->arena, json.p, json.n);
    bool in_string = false;
    size_t n = 0;
    for (size_t i = 0; out && i < json.n; i++) {
        char c = json.p[i];
        if (in_string && c == '\\' && i + 1 < json.n) {
            out[n++] = c;
            c = json.p[++i];
        } else if (c == '"') {
            in_string = !in_string;
        } else if (!in_string && strchr(" \t\r\n", c)) {
            continue;
        }
        out[n++] = c;
    }
    return span_of(out, n);
}
