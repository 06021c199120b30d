/* A stream that was relayed and broke goes on from an encoder: what the client reads is one answer, in the shape of its format.
 *
 * Every stream is broken behind each of its events in turn. What was relayed up to there and what the encoder writes behind it is
 * read as one, and has to say what the whole stream says. */
#include "dialect/encoder.h"
#include "dialect/shown.h"
#include "fixture.h"
#include "told.h"

#include <string.h>

struct stream {
    const char *name;
    const struct codec *codec;
    enum framing framing;
    struct span body;
    bool ours; /* made for this test: its shape is right, and its last event as our encoder writes it */
};

/* ---- the shape of a format ------------------------------------------------------------- */

enum { WIRE_BLOCKS = 256 };

/* What the checks below remember of the events so far. */
struct shape {
    const struct codec *codec;
    const char *fault; /* the first one; NULL: none */
    unsigned starts, ends, finishes;
    int64_t marks;      /* signatures or annotations of the open part */
    int64_t next, open; /* block or item: the next new one's number, the open one's or -1 */
    char item[128];     /* the open item's id */
    int64_t sequence;   /* the last one; -1: none yet */
    char id[256], model[256];
    int64_t created;
    unsigned parts, text_dones, part_dones; /* of the open item */
    struct buf text;                        /* of the open part */
    struct buf ids;                         /* of all items, " id" each */
    bool calls[WIRE_BLOCKS];                /* chat: that index had its start */
    bool renamed;                           /* id, model or time changed on the way */
};

static void fault(struct shape *sh, const char *what)
{
    if (!sh->fault)
        sh->fault = what;
}

#define MUST(sh, what)        \
    do {                      \
        if (!(what))          \
            fault(sh, #what); \
    } while (0)

static int64_t number(struct json obj, const char *path)
{
    int64_t n;
    return json_i64(json_path(obj, path), &n) ? n : -1;
}

static void word(struct shape *sh, char kept[256], struct json v)
{
    struct span s = json_inner(v);
    if (!s.n || s.n > 255)
        return;
    if (kept[0] && !span_is(s, kept))
        sh->renamed = true;
    memcpy(kept, s.p, s.n);
    kept[s.n] = '\0';
}

static void anthropic_shape(struct shape *sh, struct json obj)
{
    struct json type = json_get(obj, "type");
    int64_t index = number(obj, "index");
    MUST(sh, sh->ends == 0);
    if (json_is(type, "message_start")) {
        MUST(sh, sh->starts == 0 && sh->next == 0);
        sh->starts++;
        return;
    }
    MUST(sh, sh->starts == 1);
    if (json_is(type, "content_block_start")) {
        MUST(sh, index == sh->next && sh->open < 0 && !sh->finishes);
        sh->open = sh->next++;
        sh->marks = 0;
    } else if (json_is(type, "content_block_delta")) {
        MUST(sh, index == sh->open);
        MUST(sh, !json_is(json_path(obj, "delta.type"), "signature_delta") || ++sh->marks == 1);
    } else if (json_is(type, "content_block_stop")) {
        MUST(sh, index == sh->open);
        sh->open = -1;
    } else if (json_is(type, "message_delta")) {
        MUST(sh, sh->open < 0 && !sh->finishes);
        sh->finishes++;
    } else if (json_is(type, "message_stop")) {
        MUST(sh, sh->finishes == 1);
        sh->ends++;
    }
}

static void converse_shape(struct shape *sh, struct span type, struct json obj)
{
    int64_t index = number(obj, "contentBlockIndex");
    MUST(sh, sh->ends == 0);
    if (span_is(type, "messageStart")) {
        MUST(sh, sh->starts == 0);
        sh->starts++;
    } else if (span_is(type, "contentBlockStart")) {
        MUST(sh, index == sh->next && sh->open < 0);
        sh->open = sh->next++;
    } else if (span_is(type, "contentBlockDelta")) {
        if (sh->open < 0 && index == sh->next)
            sh->open = sh->next++;
        MUST(sh, index == sh->open && !sh->finishes);
    } else if (span_is(type, "contentBlockStop")) {
        if (sh->open < 0 && index == sh->next) /* an empty text */
            sh->open = sh->next++;
        MUST(sh, index == sh->open);
        sh->open = -1;
    } else if (span_is(type, "messageStop")) {
        MUST(sh, sh->open < 0 && !sh->finishes);
        sh->finishes++;
    } else if (span_is(type, "metadata")) {
        MUST(sh, sh->finishes == 1);
        sh->ends++;
    }
}

static void chat_shape(struct shape *sh, struct json obj)
{
    struct json_walk w;
    struct json call;
    int64_t created = number(obj, "created");
    word(sh, sh->id, json_get(obj, "id"));
    word(sh, sh->model, json_get(obj, "model"));
    if (sh->created > 0 && created != sh->created)
        sh->renamed = true;
    sh->created = created;
    MUST(sh, sh->ends == 0);
    if (json_path(obj, "choices.1").type != JSON_NONE || number(obj, "choices.0.index") > 0)
        return; /* n > 1 is not followed here */
    if (json_path(obj, "choices.0").type != JSON_NONE)
        MUST(sh, sh->finishes == 0);
    json_walk_init(&w, json_path(obj, "choices.0.delta.tool_calls"));
    while (json_walk_next(&w, NULL, &call)) {
        int64_t index = number(call, "index");
        bool named = json_inner(json_path(call, "function.name")).n > 0;
        if (index < 0 || index >= WIRE_BLOCKS)
            continue;
        MUST(sh, named != sh->calls[index]);
        sh->calls[index] = true;
    }
    sh->finishes += json_inner(json_path(obj, "choices.0.finish_reason")).n > 0;
}

static void add_id(struct shape *sh, struct json item)
{
    assert_int_equal(buf_printf(&sh->ids, " %.*s", SPAN_FMT(json_inner(json_get(item, "id")))), PD_OK);
}

static void responses_end(struct shape *sh, struct json response)
{
    struct shape all = {0};
    struct json_walk w;
    struct json item;
    MUST(sh, sh->open < 0);
    json_walk_init(&w, json_get(response, "output"));
    while (json_walk_next(&w, NULL, &item))
        add_id(&all, item);
    MUST(sh, span_eq(buf_span(&all.ids), buf_span(&sh->ids)));
    buf_done(&all.ids);
}

static void open_item(struct shape *sh, struct json obj)
{
    struct span id = json_inner(json_path(obj, "item.id"));
    MUST(sh, number(obj, "output_index") == sh->next && sh->open < 0);
    sh->open = sh->next++;
    sh->parts = sh->text_dones = sh->part_dones = 0;
    buf_clear(&sh->text);
    snprintf(sh->item, sizeof(sh->item), "%.*s", SPAN_FMT(id));
    add_id(sh, json_get(obj, "item"));
}

static void responses_item(struct shape *sh, struct span type, struct json obj)
{
    struct span id = json_inner(json_get(obj, "item_id"));
    int64_t part = number(obj, "content_index");
    part = part < 0 ? number(obj, "summary_index") : part;
    MUST(sh, number(obj, "output_index") == sh->open && span_is(id, sh->item));
    if (span_ends(type, "part.added")) {
        MUST(sh, part == sh->parts && sh->part_dones == sh->parts);
        sh->parts++;
        sh->marks = 0;
        buf_clear(&sh->text);
        return;
    }
    MUST(sh, part < 0 || part + 1 == sh->parts);
    if (span_ends(type, "annotation.added"))
        MUST(sh, number(obj, "annotation_index") == sh->marks++);
    if (span_ends(type, ".delta")) {
        MUST(sh, sh->text_dones < (sh->parts ? sh->parts : 1) && id.n);
        assert_int_equal(buf_add(&sh->text, json_inner(json_get(obj, "delta"))), PD_OK);
    } else if (span_ends(type, "part.done")) {
        sh->part_dones++;
        MUST(sh, sh->part_dones == sh->parts && sh->text_dones == sh->parts);
        MUST(sh, span_eq(json_inner(json_path(obj, "part.text")), buf_span(&sh->text)) ||
                     json_path(obj, "part.text").type == JSON_NONE);
    } else if (span_ends(type, ".done")) {
        static const char *const names[] = {"text", "refusal", "arguments", "input"};
        sh->text_dones++;
        for (size_t i = 0; i < 4; i++) {
            struct json v = json_get(obj, names[i]);
            MUST(sh, v.type == JSON_NONE || span_eq(json_inner(v), buf_span(&sh->text)));
        }
    }
}

static void responses_shape(struct shape *sh, struct json obj)
{
    struct span type = json_inner(json_get(obj, "type"));
    int64_t sequence = number(obj, "sequence_number");
    MUST(sh, sh->ends == 0);
    MUST(sh, sequence < 0 || sh->sequence < 0 || sequence == sh->sequence + 1);
    sh->sequence = sequence;
    word(sh, sh->id, json_path(obj, "response.id"));
    word(sh, sh->model, json_path(obj, "response.model"));
    int64_t created = number(obj, "response.created_at");
    if (sh->created > 0 && created > 0 && created != sh->created)
        sh->renamed = true;
    sh->created = created > 0 ? created : sh->created;
    if (span_is(type, "response.created")) {
        MUST(sh, sh->starts == 0);
        sh->starts++;
    } else if (span_is(type, "response.output_item.added")) {
        open_item(sh, obj);
    } else if (span_is(type, "response.output_item.done")) {
        MUST(sh, number(obj, "output_index") == sh->open);
        MUST(sh, span_is(json_inner(json_path(obj, "item.id")), sh->item));
        MUST(sh, sh->part_dones == sh->parts);
        sh->open = -1;
    } else if (span_is(type, "response.completed") || span_is(type, "response.incomplete")) {
        responses_end(sh, json_get(obj, "response"));
        sh->ends++;
    } else if (number(obj, "output_index") >= 0) {
        responses_item(sh, type, obj);
    }
}

static void gemini_shape(struct shape *sh, struct json obj)
{
    word(sh, sh->id, json_get(obj, "responseId"));
    word(sh, sh->model, json_get(obj, "modelVersion"));
    MUST(sh, sh->finishes == 0);
    sh->finishes += json_inner(json_path(obj, "candidates.0.finishReason")).n > 0;
}

static void ollama_shape(struct shape *sh, struct json obj)
{
    word(sh, sh->model, json_get(obj, "model"));
    MUST(sh, sh->ends == 0);
    sh->ends += json_is_true(json_get(obj, "done"));
}

static pd_err shape_on_event(void *ctx, const struct answer_event *ev)
{
    struct shape *sh = ctx;
    if (ev->json.type != JSON_OBJECT)
        return PD_OK;
    if (sh->codec == &codec_anthropic)
        anthropic_shape(sh, ev->json);
    else if (sh->codec == &codec_bedrock_converse)
        converse_shape(sh, ev->type, ev->json);
    else if (sh->codec == &codec_openai_responses)
        responses_shape(sh, ev->json);
    else if (sh->codec == &codec_gemini)
        gemini_shape(sh, ev->json);
    else if (sh->codec == &codec_ollama || sh->codec == &codec_ollama_generate)
        ollama_shape(sh, ev->json);
    else
        chat_shape(sh, ev->json);
    return PD_OK;
}

/* NULL: it is as the format demands. `of`: a stream that may rename itself on its way. */
static const char *shape_fault(const struct stream *st, struct span bytes, bool may_rename, bool *ret_renamed)
{
    struct shape sh = {.codec = st->codec, .open = -1, .sequence = -1};
    struct answer *an = answer_new(st->codec, st->framing, shape_on_event, &sh);
    enum answer_end end;
    assert_non_null(an);
    assert_int_equal(answer_feed(an, bytes), PD_OK);
    assert_int_equal(answer_finish(an, &end), PD_OK);
    answer_free(an);
    buf_done(&sh.text);
    buf_done(&sh.ids);
    *ret_renamed = sh.renamed;
    if (sh.renamed && !may_rename)
        fault(&sh, "id, model or time changed");
    return sh.fault;
}

/* ---- breaking ------------------------------------------------------------------------- */

/* Where the rest comes from. */
enum source { SAME, OTHER_FORMAT, NO_MORE_REASONING, SOURCES };
static const char *const source_names[] = {"same format", "another format", "no more reasoning"};

struct breaking {
    const struct stream *st;
    struct reading whole; /* the stream as it was */
    struct shown all;     /* and what it told */
    struct shown other;   /* the same, as another format tells it */
    const char *shape;    /* what is wrong with its own shape; NULL: nothing */
    bool renames;
    /* the second time: up to the break */
    struct answer *an;
    struct shown shown;
    struct told *told;
    struct buf raw;
    unsigned events, stride, breaks, faults, seen, closed; /* closed: Responses' items that are whole */
    bool over;
};

/* What is still to be told: what the client has not seen. */
struct rest {
    const struct breaking *b;
    struct encoder *en;
    struct buf *out;
    enum source source;
    struct skip {
        size_t text, reasoning, refusal;
    } skips[TOLD_CHOICES];
    bool half; /* the break is inside a call */
};

static void write_delta(struct rest *r, struct msg_delta *d)
{
    struct span bytes;
    encoder_delta(r->en, d);
    assert_int_equal(encoder_bytes(r->en, &bytes), PD_OK);
    assert_int_equal(buf_add(r->out, bytes), PD_OK);
    encoder_clear(r->en);
}

static void write_text(struct rest *r, struct msg_delta *d, size_t *skip)
{
    size_t n = d->text.n < *skip ? d->text.n : *skip;
    d->text = span_from(d->text, n);
    *skip -= n;
    if (d->text.n)
        write_delta(r, d);
}

static void write_call(struct rest *r, struct msg_delta *d)
{
    const struct told_choice *seen = &r->b->told->choices[d->choice];
    if (d->tool >= (int)seen->tool_count) {
        d->tool -= (int)seen->tool_count; /* the next provider's reader begins at 0 */
        write_delta(r, d);
    }
}

static void on_rest(void *ctx, const struct msg_delta *told)
{
    struct rest *r = ctx;
    struct msg_delta d = *told;
    if (d.choice >= TOLD_CHOICES)
        return;
    struct skip *skip = &r->skips[d.choice];
    switch (d.kind) {
    case MSG_TEXT:
        write_text(r, &d, &skip->text);
        break;
    case MSG_REASONING:
        if (r->source != NO_MORE_REASONING)
            write_text(r, &d, &skip->reasoning);
        break;
    case MSG_REFUSAL:
        write_text(r, &d, &skip->refusal);
        break;
    case MSG_TOOL_START:
    case MSG_TOOL_ARGUMENTS:
        write_call(r, &d);
        break;
    case MSG_STEP:
        write_delta(r, &d);
        break;
    case MSG_SIGNATURE:
    case MSG_SEALED:
    case MSG_MEDIA:
    case MSG_CITATION:
    case MSG_LOGPROBS:
    case MSG_HOSTED:
        break;
    }
}

/* All calls that were seen were seen whole. */
static bool calls_whole(const struct breaking *b)
{
    for (unsigned c = 0; c < TOLD_CHOICES; c++) {
        const struct told_choice *seen = &b->told->choices[c], *all = &b->whole.told->choices[c];
        for (unsigned i = 0; i < seen->tool_count; i++)
            if (buf_size(&seen->tools[i].arguments) != buf_size(&all->tools[i].arguments))
                return false;
    }
    return true;
}

static const struct encode_want want = {.model = {"another-model", 13},
                                        .id = {"fresh1", 6},
                                        .created = 1800000000,
                                        .stream = true,
                                        .include_usage = true};

static void write_rest(struct breaking *b, enum source source, struct buf *out)
{
    struct span bytes;
    struct encoder *en = encoder_new(b->st->codec, &want, 8 << 20);
    struct rest r = {.b = b, .en = en, .out = out, .source = source};
    assert_non_null(en);
    assert_int_equal(encoder_resume(en, &b->shown), PD_OK);
    assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
    assert_int_equal(bytes.n, 0);
    for (unsigned c = 0; c < TOLD_CHOICES; c++)
        r.skips[c] = (struct skip){buf_size(&b->told->choices[c].text), buf_size(&b->told->choices[c].reasoning),
                                   buf_size(&b->told->choices[c].refusal)};
    (void)shown_tell(source == OTHER_FORMAT ? &b->other : &b->all, 0, on_rest, &r);
    assert_int_equal(encoder_end(en, answer_facts(b->whole.an)), PD_OK);
    assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
    assert_int_equal(buf_add(out, bytes), PD_OK);
    encoder_free(en);
}

static void complain(struct breaking *b, enum source source, const char *what, struct span a, struct span c,
                     const struct buf *out)
{
    size_t same = 0;
    if (++b->faults > 3)
        return;
    while (same < a.n && same < c.n && a.p[same] == c.p[same])
        same++;
    same = same > 40 ? same - 40 : 0;
    a = span_from(a, same);
    c = span_from(c, same);
    print_error("%s, broken behind event %u, gone on with by the %s: %s\n  expected %.*s\n  got      %.*s\n",
                b->st->name, b->events, source_names[source], what, SPAN_FMT(span_upto(a, 200)),
                SPAN_FMT(span_upto(c, 200)));
    if (getenv("RESUME_SHOW"))
        print_error("%.*s\n", SPAN_FMT(buf_span(out)));
}

/* Arguments without the white space that some formats change. */
static void put_compact(struct buf *out, struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != ' ' && !(s.p[i] == '\\' && i + 1 < s.n && strchr("nrt", s.p[i + 1]) && ++i))
            assert_int_equal(buf_add(out, span_of(s.p + i, 1)), PD_OK);
}

static void put_calls(const struct told_choice *c, const struct told_choice *ids_of, struct buf *out)
{
    for (unsigned i = 0; i < c->tool_count; i++) {
        bool id = i < ids_of->tool_count && buf_size(&ids_of->tools[i].id);
        assert_int_equal(buf_printf(out, "[%.*s %.*s ", id ? (int)buf_size(&c->tools[i].id) : 0,
                                    buf_span(&c->tools[i].id).p, SPAN_FMT(buf_span(&c->tools[i].name))),
                         PD_OK);
        put_compact(out, buf_span(&c->tools[i].arguments));
        assert_int_equal(buf_puts(out, "]"), PD_OK);
    }
}

static void compare_choice(struct breaking *b, enum source source, const struct told_choice *is,
                           const struct told_choice *was, const struct buf *out)
{
    struct buf calls, expected;
    bool prefix = source == NO_MORE_REASONING;
    struct span reasoning = buf_span(&is->reasoning), thought = buf_span(&was->reasoning);
    buf_init(&calls, 0);
    buf_init(&expected, 0);
    if (!span_eq(buf_span(&is->text), buf_span(&was->text)))
        complain(b, source, "text", buf_span(&was->text), buf_span(&is->text), out);
    if (prefix ? reasoning.n > thought.n || !span_eq(reasoning, span_upto(thought, reasoning.n))
               : !span_eq(reasoning, thought))
        complain(b, source, "reasoning", thought, reasoning, out);
    if (!span_eq(buf_span(&is->refusal), buf_span(&was->refusal)))
        complain(b, source, "refusal", buf_span(&was->refusal), buf_span(&is->refusal), out);
    put_calls(is, was, &calls);
    put_calls(was, was, &expected);
    if (!span_eq(buf_span(&calls), buf_span(&expected)))
        complain(b, source, "calls", buf_span(&expected), buf_span(&calls), out);
    buf_done(&calls);
    buf_done(&expected);
}

/* The first `count` items of the last event. */
static void put_items(struct span bytes, unsigned count, struct buf *out)
{
    struct json_walk w;
    struct json item;
    struct span last = SPAN_NONE;
    for (size_t at = 0; at + 6 < bytes.n; at++)
        if (memcmp(bytes.p + at, "\ndata:", 6) == 0)
            last = span_from(bytes, at + 6);
    json_walk_init(&w, json_path((struct json){JSON_OBJECT, span_trim(last)}, "response.output"));
    while (count && json_walk_next(&w, NULL, &item)) {
        assert_int_equal(buf_printf(out, "%.*s\n", SPAN_FMT(item.raw)), PD_OK);
        count--;
    }
}

/* What was whole when the stream broke is repeated as it was. */
static void compare_items(struct breaking *b, enum source source, const struct buf *out)
{
    struct buf is, was;
    buf_init(&is, 0);
    buf_init(&was, 0);
    put_items(buf_span(out), b->closed, &is);
    put_items(b->st->body, b->closed, &was);
    if (!span_eq(buf_span(&is), buf_span(&was)))
        complain(b, source, "items", buf_span(&was), buf_span(&is), out);
    buf_done(&is);
    buf_done(&was);
}

static void compare(struct breaking *b, enum source source, struct buf *out)
{
    struct reading r;
    bool renamed;
    assert_int_equal(reading_init(&r, b->st->codec, b->st->framing, false), PD_OK);
    assert_int_equal(reading_feed(&r, buf_span(out)), PD_OK);
    assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
    const struct answer_facts *is = answer_facts(r.an), *was = answer_facts(b->whole.an);
    if (r.end != ANSWER_COMPLETE || is->malformed != was->malformed)
        complain(b, source, "it is not complete", SPAN_NONE, SPAN_NONE, out);
    for (unsigned c = 0; c < TOLD_CHOICES; c++)
        compare_choice(b, source, &r.told->choices[c], &b->whole.told->choices[c], out);
    if (is->finish != was->finish && was->finish != MSG_FINISH_NONE)
        complain(b, source, "finish", span_str(msg_finish_name(was->finish)),
                 span_str(msg_finish_name(is->finish)), out);
    bool known = shown_id(&b->shown).n > 0; /* some tell it at their end alone */
    if (known && (!span_eq(is->id, was->id) || is->created != was->created))
        complain(b, source, "names", was->id, is->id, out);
    if (shown_model(&b->shown).n && !span_eq(is->model, was->model))
        complain(b, source, "names", was->id, is->id, out);
    if (is->usage.output_total != was->usage.output_total && was->usage.output_total > 0)
        complain(b, source, "usage", was->usage_raw, is->usage_raw, out);
    const char *wrong = b->shape ? NULL : shape_fault(b->st, buf_span(out), b->renames, &renamed);
    if (b->st->ours && b->st->codec == &codec_openai_responses)
        compare_items(b, source, out);
    if (wrong)
        complain(b, source, wrong, SPAN_NONE, SPAN_NONE, out);
    reading_done(&r);
}

static bool steps_to_its_end(const struct codec *c)
{
    return c == &codec_anthropic || c == &codec_bedrock_converse;
}

static pd_err on_break(void *ctx, const struct answer_event *ev)
{
    struct breaking *b = ctx;
    const struct answer_facts *f = answer_facts(b->an);
    assert_int_equal(buf_add(&b->raw, ev->raw), PD_OK);
    b->events++;
    b->closed += json_is(json_get(ev->json, "type"), "response.output_item.done");
    b->over |= (ev->holds & (ANSWER_DONE | ANSWER_ERROR)) ||
               ((ev->holds & ANSWER_FINISH) && !steps_to_its_end(b->st->codec));
    if (b->over || !f->has_output || b->told->err)
        return PD_OK;
    if (++b->seen % b->stride && ev->holds == ANSWER_OUTPUT && b->seen > 40)
        return PD_OK; /* in the middle of a very long text */
    if (!calls_whole(b))
        return PD_OK;
    assert_int_equal(shown_identity(&b->shown, f->id, f->model, f->created), PD_OK);
    b->shown.sequence = f->sequence;
    for (int source = 0; source < SOURCES; source++) {
        struct buf out;
        if ((source == OTHER_FORMAT && (b->all.has_other || b->all.many)) ||
            (source == NO_MORE_REASONING && !b->all.has_reasoning))
            continue;
        buf_init(&out, 0);
        assert_int_equal(buf_add(&out, buf_span(&b->raw)), PD_OK);
        write_rest(b, (enum source)source, &out);
        compare(b, (enum source)source, &out);
        b->breaks++;
        buf_done(&out);
    }
    return PD_OK;
}

struct keeping {
    struct shown *shown;
    pd_err err;
};

static void keep_or_fail(void *ctx, const struct msg_delta *d)
{
    struct keeping *k = ctx;
    if (!k->err)
        k->err = shown_add(k->shown, d);
}

static void keep_shown(void *ctx, const struct msg_delta *d)
{
    assert_int_equal(shown_add(ctx, d), PD_OK);
}

static void keep_both(void *ctx, const struct msg_delta *d)
{
    struct breaking *b = ctx;
    assert_int_equal(shown_add(&b->shown, d), PD_OK);
    told_on_delta(b->told, d);
}

static pd_err on_nothing(void *ctx PD_UNUSED, const struct answer_event *ev PD_UNUSED)
{
    return PD_OK;
}

static void read_shown(const struct codec *c, enum framing framing, struct span body, struct shown *s)
{
    struct answer *an = answer_new(c, framing, on_nothing, NULL);
    enum answer_end end;
    assert_non_null(an);
    shown_init(s);
    answer_on_delta(an, keep_shown, s);
    assert_int_equal(answer_feed(an, body), PD_OK);
    assert_int_equal(answer_finish(an, &end), PD_OK);
    answer_free(an);
}

/* The same answer as another format has it. */
static void read_other(struct breaking *b)
{
    const struct codec *to =
        b->st->codec == &codec_openai_responses ? &codec_openai_chat : &codec_openai_responses;
    struct encoder *en = encoder_new(to, &want, 8 << 20);
    struct span bytes;
    assert_non_null(en);
    (void)shown_tell(&b->all, 0, encoder_delta, en);
    assert_int_equal(encoder_end(en, answer_facts(b->whole.an)), PD_OK);
    assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
    read_shown(to, FRAMING_LINES, bytes, &b->other);
    encoder_free(en);
}

/* Breaks it everywhere; how many breaks there were. */
static unsigned break_everywhere(const struct stream *st, unsigned *faults)
{
    struct breaking b = {.st = st, .stride = 1};
    enum answer_end end;
    assert_int_equal(reading_init(&b.whole, st->codec, st->framing, false), PD_OK);
    assert_int_equal(reading_feed(&b.whole, st->body), PD_OK);
    assert_int_equal(answer_finish(b.whole.an, &b.whole.end), PD_OK);
    bool fit = b.whole.end == ANSWER_COMPLETE && answer_facts(b.whole.an)->has_output &&
               answer_facts(b.whole.an)->malformed == 0;
    if (fit) {
        read_shown(st->codec, st->framing, st->body, &b.all);
        read_other(&b);
        b.shape = shape_fault(st, st->body, true, &b.renames);
        unsigned events = answer_facts(b.whole.an)->events;
        b.stride = events > 200 ? events / 100 : 1;
        b.told = told_new();
        shown_init(&b.shown);
        b.an = answer_new(st->codec, st->framing, on_break, &b);
        assert_non_null(b.an);
        answer_on_delta(b.an, keep_both, &b);
        assert_int_equal(answer_feed(b.an, st->body), PD_OK);
        assert_int_equal(answer_finish(b.an, &end), PD_OK);
        if (b.shape && st->ours)
            fail_msg("%s: %s", st->name, b.shape);
        if (b.shape)
            print_message("%s: its own shape is none to measure by: %s\n", st->name, b.shape);
        answer_free(b.an);
        told_free(b.told);
        shown_done(&b.shown);
        shown_done(&b.all);
        shown_done(&b.other);
        buf_done(&b.raw);
    }
    reading_done(&b.whole);
    *faults += b.faults;
    return b.breaks;
}

/* ---- recorded streams ------------------------------------------------------------------- */

struct recorded {
    unsigned streams, breaks, faults;
};

static void break_fixture(void *ctx, struct fixture *f)
{
    struct recorded *r = ctx;
    if (!f->codec || !f->streaming || f->codec->kind != CODEC_CHAT || !f->codec->encoder)
        return;
    if (f->framing != FRAMING_LINES && f->framing != FRAMING_EVENTSTREAM)
        return;
    struct stream st = {.name = f->file, .codec = f->codec, .framing = f->framing, .body = f->body};
    unsigned breaks = break_everywhere(&st, &r->faults);
    r->breaks += breaks;
    r->streams += breaks > 0;
}

static void recorded_streams_go_on_behind_every_event(void **state)
{
    (void)state;
    struct recorded r = {0};
    assert_int_equal(fixtures_each(FIXTURES_OURS, break_fixture, &r), PD_OK);
    if (fixtures_recorded())
        assert_int_equal(fixtures_each(fixtures_recorded(), break_fixture, &r), PD_OK);
    print_message("%u recorded streams, broken %u times\n", r.streams, r.breaks);
    assert_int_equal(r.faults, 0);
    assert_true(r.streams > 0);
}

/* ---- made streams ------------------------------------------------------------------------ */

#define EVENT(json) "data: " json "\n\n"
#define ITEM(n, kind, json) \
    EVENT("{\"type\":\"response.output_item." kind "\",\"sequence_number\":" #n "," json "}")

/* What recorded ones have too seldom: work that the provider did itself, several blocks or parts of one kind in turn, sealed and signed
 * reasoning, namespaces, free text. */
static const char *const messages[] = {
    EVENT("{\"type\":\"message_start\",\"message\":{\"id\":\"msg_01\",\"type\":\"message\",\"role\":\"assistant\","
          "\"model\":"
          "\"claude\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}"),
    EVENT("{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":"
          "\"\"}}"),
    EVENT("{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\","
          "\"thinking\":\"why \"}}"),
    EVENT("{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":"
          "\"not\"}}"),
    EVENT("{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\","
          "\"signature\":\"SIG\"}}"),
    EVENT("{\"type\":\"content_block_stop\",\"index\":0}"),
    EVENT("{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"redacted_thinking\","
          "\"data\":\"RED\"}}"),
    EVENT("{\"type\":\"content_block_stop\",\"index\":1}"),
    EVENT("{\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}"),
    EVENT("{\"type\":\"ping\"}"),
    EVENT("{\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":"
          "\"text_delta\",\"text\":\"Let me \"}}"),
    EVENT("{\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"text_delta\",\"text\":"
          "\"look.\"}}"),
    EVENT("{\"type\":\"content_block_stop\",\"index\":2}"),
    EVENT("{\"type\":\"content_block_start\",\"index\":3,\"content_block\":{\"type\":\"server_tool_"
          "use\",\"id\":\"srv_1\","
          "\"name\":\"web_search\",\"input\":{}}}"),
    EVENT("{\"type\":\"content_block_delta\",\"index\":"
          "3,\"delta\":{\"type\":\"input_json_delta\","
          "\"partial_json\":\"{}\"}}"),
    EVENT("{\"type\":\"content_block_stop\",\"index\":3}"),
    EVENT("{\"type\":\"content_block_start\",\"index\":4,\"content_block\":{\"type\":\"web_search_"
          "tool_result\","
          "\"tool_use_id\":\"srv_1\",\"content\":[]}}"),
    EVENT("{\"type\":\"content_block_stop\",\"index\":4}"),
    EVENT("{\"type\":\"content_block_start\",\"index\":5,\"content_block\":{\"type\":\"text\","
          "\"text\":\"\"}}"),
    EVENT("{\"type\":\"content_block_delta\",\"index\":5,\"delta\":{"
          "\"type\":\"text_delta\",\"text\":\"One\"}}"),
    EVENT("{\"type\":\"content_block_delta\",\"index\":5,\"delta\":{\"type\":\"citations_"
          "delta\",\"citation\":{\"type\":"
          "\"web_search_result_location\",\"url\":\"https://"
          "e.x\",\"title\":\"t\",\"cited_text\":\"c\"}}}"),
    EVENT("{\"type\":\"content_block_stop\",\"index\":5}"),
    EVENT("{\"type\":\"content_block_start\",\"index\":6,\"content_block\":{"
          "\"type\":\"text\",\"text\":\"\"}}"),
    EVENT("{\"type\":\"content_block_delta\",\"index\":6,\"delta\":{\"type\":\"text_"
          "delta\",\"text\":\" two\"}}"),
    EVENT("{\"type\":\"content_block_stop\",\"index\":6}"),
    EVENT("{\"type\":\"content_block_start\",\"index\":7,\"content_block\":{"
          "\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":"
          "\"f\",\"input\":{}}}"),
    EVENT("{\"type\":\"content_block_delta\",\"index\":7,\"delta\":{"
          "\"type\":\"input_json_delta\",\"partial_json\":"
          "\"{\\\"a\\\":1}\"}}"),
    EVENT("{\"type\":\"content_block_stop\",\"index\":7}"),
    EVENT("{\"type\":\"content_block_start\",\"index\":8,\"content_"
          "block\":{\"type\":\"tool_use\",\"id\":\"toolu_2\",\"name\":"
          "\"g\",\"input\":{}}}"),
    EVENT("{\"type\":\"content_block_stop\",\"index\":8}"),
    EVENT("{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":"
          "\"tool_use\",\"stop_sequence\":null},\"usage\":{"
          "\"output_tokens\":9}}"),
    EVENT("{\"type\":\"message_stop\"}"),
    NULL};

#define R_REASONING                                                                                          \
    "{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"First.\"},{" \
    "\"type\":"                                                                                              \
    "\"summary_text\",\"text\":\"Then.\"}],\"encrypted_content\":\"ENC\",\"status\":\"completed\"}"
#define R_SEARCH "{\"id\":\"ws_1\",\"type\":\"web_search_call\",\"status\":\"completed\"}"
#define R_MESSAGE                                                                                              \
    "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"phase\":\"commentary\",\"content\":[{"    \
    "\"type\":"                                                                                                \
    "\"output_text\",\"text\":\"Hello\",\"annotations\":[{\"type\":\"url_citation\",\"start_index\":0,\"end_"  \
    "index\":0,"                                                                                               \
    "\"url\":\"https://e.x\",\"title\":\"t\"}],\"logprobs\":[]},{\"type\":\"output_text\",\"text\":\" more\"," \
    "\"annotations\":[],\"logprobs\":[]}],\"status\":\"completed\"}"
#define R_CUSTOM                                                                                              \
    "{\"id\":\"ctc_1\",\"type\":\"custom_tool_call\",\"call_id\":\"call_0\",\"name\":\"patch\",\"input\":\"{" \
    "\\\"input\\\":"                                                                                          \
    "\\\"x\\\"}\",\"status\":\"completed\"}"
#define R_CALL                                                                                            \
    "{\"id\":\"fc_1\",\"type\":\"function_call\",\"call_id\":\"call_1\",\"name\":\"read\",\"namespace\":" \
    "\"files\","                                                                                          \
    "\"arguments\":\"{\\\"a\\\":1}\",\"status\":\"completed\"}"
#define R_PART(n, kind, item, index, part, text)                                           \
    EVENT("{\"type\":\"response." kind "\",\"sequence_number\":" #n ",\"item_id\":\"" item \
          "\",\"output_index\":" #index "," part "," text "}")
#define R_SUMMARY(n) "\"summary_index\":" #n
#define R_CONTENT(n) "\"content_index\":" #n
#define R_STEXT(s) "\"part\":{\"type\":\"summary_text\",\"text\":\"" s "\"}"
#define R_OTEXT(s) "\"part\":{\"type\":\"output_text\",\"text\":\"" s "\",\"annotations\":[],\"logprobs\":[]}"

static const char *const responses[] = {
    EVENT("{\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"object\":"
          "\"response\","
          "\"created_at\":5,\"status\":\"in_progress\",\"model\":\"gpt\",\"output\":[]}}"),
    ITEM(1, "added", "\"output_index\":0,\"item\":{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[]}"),
    R_PART(2, "reasoning_summary_part.added", "rs_1", 0, R_SUMMARY(0), R_STEXT("")),
    R_PART(3, "reasoning_summary_text.delta", "rs_1", 0, R_SUMMARY(0), "\"delta\":\"Fir\""),
    R_PART(4, "reasoning_summary_text.delta", "rs_1", 0, R_SUMMARY(0), "\"delta\":\"st.\""),
    R_PART(5, "reasoning_summary_text.done", "rs_1", 0, R_SUMMARY(0), "\"text\":\"First.\""),
    R_PART(6, "reasoning_summary_part.done", "rs_1", 0, R_SUMMARY(0), R_STEXT("First.")),
    R_PART(7, "reasoning_summary_part.added", "rs_1", 0, R_SUMMARY(1), R_STEXT("")),
    R_PART(8, "reasoning_summary_text.delta", "rs_1", 0, R_SUMMARY(1), "\"delta\":\"Then.\""),
    R_PART(9, "reasoning_summary_text.done", "rs_1", 0, R_SUMMARY(1), "\"text\":\"Then.\""),
    R_PART(10, "reasoning_summary_part.done", "rs_1", 0, R_SUMMARY(1), R_STEXT("Then.")),
    ITEM(11, "done", "\"output_index\":0,\"item\":" R_REASONING),
    ITEM(12, "added", "\"output_index\":1,\"item\":{\"id\":\"ws_1\",\"type\":\"web_search_call\"}"),
    ITEM(13, "done", "\"output_index\":1,\"item\":" R_SEARCH),
    ITEM(14, "added",
         "\"output_index\":2,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":"
         "\"assistant\",\"phase\":"
         "\"commentary\",\"content\":[]}"),
    R_PART(15, "content_part.added", "msg_1", 2, R_CONTENT(0), R_OTEXT("")),
    R_PART(16, "output_text.delta", "msg_1", 2, R_CONTENT(0), "\"delta\":\"Hel\""),
    R_PART(17, "output_text.delta", "msg_1", 2, R_CONTENT(0), "\"delta\":\"lo\""),
    R_PART(18, "output_text.annotation.added", "msg_1", 2, R_CONTENT(0) ",\"annotation_index\":0",
           "\"annotation\":{\"type\":\"url_citation\",\"start_index\":0,\"end_index\":0,"
           "\"url\":\"https://e.x\",\"title\":\"t\"}"),
    R_PART(19, "output_text.done", "msg_1", 2, R_CONTENT(0), "\"text\":\"Hello\""),
    R_PART(20, "content_part.done", "msg_1", 2, R_CONTENT(0), R_OTEXT("Hello")),
    R_PART(21, "content_part.added", "msg_1", 2, R_CONTENT(1), R_OTEXT("")),
    R_PART(22, "output_text.delta", "msg_1", 2, R_CONTENT(1), "\"delta\":\" more\""),
    R_PART(23, "output_text.done", "msg_1", 2, R_CONTENT(1), "\"text\":\" more\""),
    R_PART(24, "content_part.done", "msg_1", 2, R_CONTENT(1), R_OTEXT(" more")),
    ITEM(25, "done", "\"output_index\":2,\"item\":" R_MESSAGE),
    ITEM(26, "added",
         "\"output_index\":3,\"item\":{\"id\":\"ctc_1\",\"type\":\"custom_"
         "tool_call\",\"call_id\":\"call_0\","
         "\"name\":\"patch\",\"input\":\"\"}"),
    EVENT("{\"type\":\"response.custom_tool_call_input.delta\","
          "\"sequence_number\":27,\"item_id\":\"ctc_1\",\"output_"
          "index\":3,"
          "\"delta\":\"{\\\"input\\\":\\\"x\\\"}\"}"),
    EVENT("{\"type\":\"response.custom_tool_call_input.done\","
          "\"sequence_number\":28,\"item_id\":\"ctc_1\",\"output_"
          "index\":3,"
          "\"input\":\"{\\\"input\\\":\\\"x\\\"}\"}"),
    ITEM(29, "done", "\"output_index\":3,\"item\":" R_CUSTOM),
    ITEM(30, "added",
         "\"output_index\":4,\"item\":{\"id\":\"fc_1\","
         "\"type\":\"function_call\",\"call_id\":\"call_"
         "1\",\"name\":"
         "\"read\",\"namespace\":\"files\",\"arguments\":"
         "\"\"}"),
    EVENT("{\"type\":\"response.function_call_"
          "arguments.delta\",\"sequence_number\":31,"
          "\"item_id\":\"fc_1\",\"output_index\":4,"
          "\"delta\":\"{\\\"a\\\":1}\"}"),
    EVENT("{\"type\":\"response.function_call_"
          "arguments.done\",\"sequence_number\":32,"
          "\"item_id\":\"fc_1\",\"output_index\":4,"
          "\"arguments\":\"{\\\"a\\\":1}\"}"),
    ITEM(33, "done", "\"output_index\":4,\"item\":" R_CALL),
    EVENT("{\"type\":\"response.completed\","
          "\"sequence_number\":34,"
          "\"response\":{\"id\":\"resp_1\","
          "\"object\":\"response\","
          "\"created_at\":5,\"status\":"
          "\"completed\",\"model\":\"gpt\","
          "\"output\":[" R_REASONING "," R_SEARCH "," R_MESSAGE "," R_CUSTOM "," R_CALL
          "],\"usage\":{\"input_tokens\":3,"
          "\"output_tokens\":9,\"total_"
          "tokens\":12}}}"),
    NULL};

/* As local models have it: what was thought is shown itself, and nothing is sealed. */
static const char *const thinking[] = {
    EVENT("{\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_2\",\"object\":"
          "\"response\","
          "\"created_at\":5,\"status\":\"in_progress\",\"model\":\"gpt-oss\",\"output\":[]}}"),
    ITEM(1, "added",
         "\"output_index\":0,\"item\":{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[],\"content\":[]}"),
    R_PART(2, "content_part.added", "rs_1", 0, R_CONTENT(0),
           "\"part\":{\"type\":\"reasoning_text\",\"text\":\"\"}"),
    R_PART(3, "reasoning_text.delta", "rs_1", 0, R_CONTENT(0), "\"delta\":\"Hm\""),
    R_PART(4, "reasoning_text.delta", "rs_1", 0, R_CONTENT(0), "\"delta\":\"mm\""),
    R_PART(5, "reasoning_text.done", "rs_1", 0, R_CONTENT(0), "\"text\":\"Hmmm\""),
    R_PART(6, "content_part.done", "rs_1", 0, R_CONTENT(0),
           "\"part\":{\"type\":\"reasoning_text\",\"text\":\"Hmmm\"}"),
    ITEM(7, "done",
         "\"output_index\":0,\"item\":{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[],"
         "\"content\":[{\"type\":"
         "\"reasoning_text\",\"text\":\"Hmmm\"}],\"status\":\"completed\"}"),
    ITEM(8, "added",
         "\"output_index\":1,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":"
         "\"assistant\",\"content\":[]}"),
    R_PART(9, "content_part.added", "msg_1", 1, R_CONTENT(0), "\"part\":{\"type\":\"refusal\",\"refusal\":\"\"}"),
    R_PART(10, "refusal.delta", "msg_1", 1, R_CONTENT(0), "\"delta\":\"I \""),
    R_PART(11, "refusal.delta", "msg_1", 1, R_CONTENT(0), "\"delta\":\"won't\""),
    R_PART(12, "refusal.done", "msg_1", 1, R_CONTENT(0), "\"refusal\":\"I won't\""),
    R_PART(13, "content_part.done", "msg_1", 1, R_CONTENT(0),
           "\"part\":{\"type\":\"refusal\",\"refusal\":\"I won't\"}"),
    ITEM(14, "done",
         "\"output_index\":1,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":"
         "\"assistant\",\"content\":[{"
         "\"type\":\"refusal\",\"refusal\":\"I won't\"}],\"status\":\"completed\"}"),
    EVENT("{\"type\":\"response.completed\",\"sequence_number\":15,\"response\":{"
          "\"id\":\"resp_2\",\"object\":\"response\","
          "\"created_at\":5,\"status\":\"completed\",\"model\":\"gpt-oss\","
          "\"output\":[{\"id\":\"rs_1\",\"type\":\"reasoning\","
          "\"summary\":[],\"content\":[{\"type\":\"reasoning_text\",\"text\":"
          "\"Hmmm\"}],\"status\":\"completed\"},{\"id\":"
          "\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[{"
          "\"type\":\"refusal\",\"refusal\":\"I won't\"}],"
          "\"status\":\"completed\"}],\"usage\":{\"input_tokens\":3,\"output_"
          "tokens\":9,\"total_tokens\":12}}}"),
    NULL};

static void made_streams_go_on_behind_every_event(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const struct codec *codec;
        const char *const *events;
    } rows[] = {
        {"Messages with work of the provider's own", &codec_anthropic, messages},
        {"Responses with parts, seals and namespaces", &codec_openai_responses, responses},
        {"Responses with open reasoning and a refusal", &codec_openai_responses, thinking},
    };
    unsigned faults = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf all;
        buf_init(&all, 0);
        for (const char *const *event = rows[i].events; *event; event++)
            assert_int_equal(buf_puts(&all, *event), PD_OK);
        const struct stream st = {rows[i].name, rows[i].codec, FRAMING_LINES, buf_span(&all), true};
        unsigned breaks = break_everywhere(&st, &faults);
        print_message("%s: broken %u times\n", st.name, breaks);
        assert_true(breaks >= 10);
        buf_done(&all);
    }
    assert_int_equal(faults, 0);
}

/* Everything in turn, spoken in each format as its own encoder does, with its framings. */
static void spoken_streams_go_on_behind_every_event(void **state)
{
    (void)state;
#define SAY(k, s)                                                \
    {                                                            \
        .kind = (k), .tool = -1, .text = { "" s, sizeof(s) - 1 } \
    }
#define CALL(n, i, f)                                                                                     \
    {                                                                                                     \
        .kind = MSG_TOOL_START, .tool = (n), .id = {"" i, sizeof(i) - 1}, .text = { "" f, sizeof(f) - 1 } \
    }
#define WITH(n, s)                                                               \
    {                                                                            \
        .kind = MSG_TOOL_ARGUMENTS, .tool = (n), .text = { "" s, sizeof(s) - 1 } \
    }
    static const struct msg_delta said[] = {
        SAY(MSG_REASONING, "Hm, "),
        SAY(MSG_REASONING, "so."),
        SAY(MSG_TEXT, "Gr\\u00fc\\u00df "),
        SAY(MSG_TEXT, "\\ud83d\\ude00\\n"),
        SAY(MSG_REASONING, "Again."),
        SAY(MSG_TEXT, "\xc3\xa4 done"),
        CALL(0, "t1", "f"),
        WITH(0, "{\\\"a\\\":"),
        WITH(0, "1}"),
        CALL(1, "t2", "g"),
        WITH(1, "{}"),
        SAY(MSG_TEXT, "last"),
    };
    static const struct {
        const struct codec *codec;
        enum framing framing;
        bool calls;
    } formats[] = {
        {&codec_openai_chat, FRAMING_LINES, true},
        {&codec_openai_responses, FRAMING_LINES, true},
        {&codec_anthropic, FRAMING_LINES, true},
        {&codec_gemini, FRAMING_LINES, true},
        {&codec_bedrock_converse, FRAMING_EVENTSTREAM, true},
        {&codec_ollama, FRAMING_LINES, true},
        {&codec_ollama_generate, FRAMING_LINES, false},
        {&codec_mistral, FRAMING_LINES, true},
    };
    const struct answer_facts facts = {.usage = {3, -1, -1, 7, -1}, .finish = MSG_FINISH_TOOL_CALLS};
    const struct answer_facts plain = {.usage = {3, -1, -1, 7, -1}, .finish = MSG_FINISH_STOP};
    const struct encode_want first = {.model = SPAN_LIT("m"),
                                      .id = SPAN_LIT("abc"),
                                      .created = 1700000000,
                                      .stream = true,
                                      .include_usage = true};
    unsigned faults = 0;
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        struct encoder *en = encoder_new(formats[i].codec, &first, 1 << 20);
        struct span bytes;
        assert_non_null(en);
        for (size_t d = 0; d < sizeof(said) / sizeof(said[0]); d++)
            if (formats[i].calls || said[d].tool < 0)
                encoder_delta(en, &said[d]);
        assert_int_equal(encoder_end(en, formats[i].calls ? &facts : &plain), PD_OK);
        assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
        struct stream st = {formats[i].codec->name, formats[i].codec, formats[i].framing, bytes, true};
        unsigned breaks = break_everywhere(&st, &faults);
        print_message("%s: broken %u times\n", st.name, breaks);
        assert_true(breaks >= 10);
        encoder_free(en);
    }
    assert_int_equal(faults, 0);
}

/* ---- translated streams -------------------------------------------------------------------- */

static void tell(struct encoder *en, const struct msg_delta *deltas, size_t count)
{
    for (size_t i = 0; i < count; i++)
        encoder_delta(en, &deltas[i]);
}

/* Where the broken stream was translated its encoder lives on, and hears of the next provider's reader, which numbers its calls from 0 too,
 * and may give them ids that were given before. */
static void an_encoder_hears_of_one_reader_after_another(void **state)
{
    (void)state;
    static const struct msg_delta first[] = {SAY(MSG_REASONING, "Hm."), SAY(MSG_TEXT, "One, "),
                                             CALL(0, "f:0", "f"), WITH(0, "{\\\"n\\\":0}"), SAY(MSG_TEXT, "two")},
                                  second[] = {SAY(MSG_TEXT, " and three"), CALL(0, "f:0", "f"),
                                              WITH(0, "{\\\"n\\\":1}"), CALL(1, "g:1", "g"),
                                              WITH(1, "{\\\"n\\\":2}")};
    static const struct {
        const struct codec *codec;
        enum framing framing;
    } formats[] = {
        {&codec_openai_chat, FRAMING_LINES}, {&codec_openai_responses, FRAMING_LINES},
        {&codec_anthropic, FRAMING_LINES},   {&codec_gemini, FRAMING_LINES},
        {&codec_ollama, FRAMING_LINES},      {&codec_bedrock_converse, FRAMING_EVENTSTREAM},
        {&codec_mistral, FRAMING_LINES},
    };
    const struct answer_facts facts = {.usage = {3, -1, -1, 7, -1}, .finish = MSG_FINISH_TOOL_CALLS};
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        struct encoder *en = encoder_new(formats[i].codec, &want, 1 << 20);
        struct reading r;
        struct span bytes;
        bool renamed;
        assert_non_null(en);
        tell(en, first, 5);
        encoder_next_answer(en);
        tell(en, second, 5);
        assert_int_equal(encoder_end(en, &facts), PD_OK);
        assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
        struct stream st = {formats[i].codec->name, formats[i].codec, formats[i].framing, bytes, true};
        assert_null(shape_fault(&st, bytes, false, &renamed));
        assert_int_equal(reading_init(&r, formats[i].codec, formats[i].framing, false), PD_OK);
        assert_int_equal(reading_feed(&r, bytes), PD_OK);
        assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
        assert_int_equal(r.end, ANSWER_COMPLETE);
        const struct told_choice *c = &r.told->choices[0];
        assert_true(span_is(buf_span(&c->text), "One, two and three"));
        assert_int_equal(c->tool_count, 3);
        for (unsigned t = 0; t < 3; t++) {
            char number[] = {(char)('0' + t), '\0'};
            assert_true(span_has(buf_span(&c->tools[t].arguments), number));
            for (unsigned u = 0; u < t; u++)
                assert_false(span_eq(buf_span(&c->tools[t].id), buf_span(&c->tools[u].id)));
        }
        reading_done(&r);
        encoder_free(en);
    }
}

/* ---- what it refuses, and memory ------------------------------------------------------------- */

static void it_resumes_only_what_has_not_begun(void **state)
{
    (void)state;
    static const struct msg_delta text = SAY(MSG_TEXT, "a");
    struct encode_want whole = want;
    struct shown s;
    shown_init(&s);
    assert_int_equal(shown_add(&s, &text), PD_OK);
    struct encoder *en = encoder_new(&codec_openai_chat, &want, 1 << 20);
    encoder_delta(en, &text);
    assert_int_equal(encoder_resume(en, &s), PD_INVALID);
    encoder_free(en);
    whole.stream = false;
    en = encoder_new(&codec_openai_chat, &whole, 1 << 20);
    assert_int_equal(encoder_resume(en, &s), PD_INVALID);
    encoder_free(en);
    en = encoder_new(&codec_openai_responses, &want, 64); /* too little for what was shown */
    assert_true(en == NULL || encoder_resume(en, &s) != PD_OK);
    encoder_free(en);
    shown_done(&s);
}

struct again {
    const struct codec *codec;
    const char *const *events;
    unsigned count; /* of events that were shown */
};

/* Shown, broken and ended. */
static pd_err resume_one(void *ctx)
{
    const struct again *g = ctx;
    struct shown s;
    enum answer_end end;
    shown_init(&s);
    struct answer *an = answer_new(g->codec, FRAMING_LINES, on_nothing, NULL);
    struct encoder *en = an ? encoder_new(g->codec, &want, 1 << 20) : NULL;
    pd_err e = en ? PD_OK : PD_NOMEM;
    struct keeping k = {&s, PD_OK};
    if (an)
        answer_on_delta(an, keep_or_fail, &k);
    for (unsigned i = 0; i < g->count && !e; i++)
        e = answer_feed(an, span_str(g->events[i]));
    if (!e)
        e = k.err;
    if (!e)
        e = answer_finish(an, &end);
    if (!e)
        e = shown_identity(&s, answer_facts(an)->id, answer_facts(an)->model, answer_facts(an)->created);
    if (!e)
        e = encoder_resume(en, &s);
    if (!e)
        e = encoder_end(en, answer_facts(an));
    encoder_free(en);
    answer_free(an);
    shown_done(&s);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    struct again rows[] = {{&codec_anthropic, messages, 20}, {&codec_openai_responses, responses, 30}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_true(torture(resume_one, &rows[i]) >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_encoder_hears_of_one_reader_after_another),
        cmocka_unit_test(it_resumes_only_what_has_not_begun),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(made_streams_go_on_behind_every_event),
        cmocka_unit_test(spoken_streams_go_on_behind_every_event),
        cmocka_unit_test(recorded_streams_go_on_behind_every_event),
    };
    return cmocka_run_group_tests_name("dialect/resume", tests, NULL, NULL);
}
